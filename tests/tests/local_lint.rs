//! `khard lint`: its exit codes, and what it prints for people and for programs.

use std::{fs, path::Path};

use khard_tests::khard::{self, Done};
use serde_json::Value;

fn lint(dir: &Path, args: &[&str]) -> Done {
    khard::start(khard::command(["lint"]).args(args).current_dir(dir)).end()
}

#[test]
fn the_exit_status_follows_the_level_and_several_profiles_are_linted() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("audit.json", r#"{"defaultAction": "SCMP_ACT_LOG"}"#);
    write(
        "web",
        "include <tunables/global>\nprofile web flags=(attach_disconnected) {\n  signal (receive),\n  // all\n  /srv/** r,\n}\n",
    );
    let lint = |args: &[&str]| lint(dir.path(), args);
    lint(&["audit.json"]).expect(1);
    lint(&["audit.json", "--deny", "error"]).expect(0);
    let both = lint(&["audit.json", "web", "--deny", "error"]).expect(1);
    assert!(
        both.stdout.contains("[seccomp/only-logs]") && both.stdout.contains("error    line 4:"),
        "{}",
        both.stdout
    );

    let json: Value = serde_json::from_str(&lint(&["web", "--json"]).expect(1).stdout).expect("JSON");
    assert_eq!(json["passes"], false);
    let profile = &json["profiles"][0];
    assert_eq!((&profile["path"], &profile["kind"]), (&"web".into(), &"apparmor".into()));
    assert_eq!(profile["findings"][0]["id"], "apparmor/comment");
    assert_eq!(profile["findings"][0]["line"], 4);

    let missing = lint(&["nosuch.json"]).expect(2);
    assert!(missing.stderr.contains("cannot read nosuch.json"), "{}", missing.stderr);
    lint(&["audit.json", "--against", "audit.json"]).expect(2);
}

#[test]
fn a_recording_is_asked_whether_the_runtimes_default_would_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("audit.json"), r#"{"defaultAction": "SCMP_ACT_LOG"}"#).unwrap();
    // Guests have no checkout.
    let recording = include_bytes!("../../khard-profile/tests/profile/fixtures/recording-v2.json");
    fs::write(dir.path().join("recording.json"), recording).unwrap();
    let recording = "recording.json";
    let linted = lint(dir.path(), &["audit.json", "--against", recording]).expect(1);
    assert!(linted.stdout.contains("\nverdict: "), "{}", linted.stdout);
    let linted = lint(dir.path(), &["audit.json", "--against", recording, "--json"]).expect(1);
    let json: Value = serde_json::from_str(&linted.stdout).expect("JSON");
    assert!(json["profiles"][0]["runtime_default"]["fits"].is_boolean(), "{json}");
}
