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

    fs::create_dir(dir.path().join("empty")).unwrap();
    for unread in ["nosuch.json", "empty"] {
        let others = lint(&[unread, "audit.json", "--deny", "error", "--json"]).expect(2);
        let json: Value = serde_json::from_str(&others.stdout).expect("JSON");
        assert_eq!((&json["passes"], json["profiles"].as_array().unwrap().len()), (&false.into(), 1));
    }
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

#[test]
fn folders_are_taken_where_they_are_clear_and_else_the_file_to_name_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("out/web");
    fs::create_dir_all(&folder).unwrap();
    let recording = include_bytes!("../../khard-profile/tests/profile/fixtures/recording-v2.json");
    fs::write(folder.join("recording.json"), recording).unwrap();
    fs::write(folder.join("seccomp.json"), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    fs::write(
        folder.join("web.apparmor"),
        "abi <abi/3.0>,\nprofile web flags=(attach_disconnected,mediate_deleted) {\n  all,\n}\n",
    )
    .unwrap();
    let khard = |args: &[&str]| khard::start(khard::command(args).current_dir(dir.path())).end();

    let linted = khard(&["lint", "out"]).expect(1);
    assert!(linted.stdout.contains("out/web/seccomp.json: 1 error"), "{}", linted.stdout);
    assert!(linted.stdout.contains("out/web/web.apparmor: ") && !linted.stdout.contains("recording.json"));
    let linted = khard(&["lint", "out/web/recording.json"]).expect(1);
    assert!(linted.stdout.contains("1 error, 0 warnings") && linted.stdout.contains("this is a recording"));

    let checked = khard(&["check", "out/web", "--against", "out", "--json"]).expect(1);
    let json: Value = serde_json::from_str(&checked.stdout).expect("JSON");
    assert_eq!(json["profiles"][1]["path"], "out/web/web.apparmor");
    fs::write(
        dir.path().join("included"),
        "abi <abi/3.0>,\nprofile web flags=(attach_disconnected,mediate_deleted) {\n  include <abstractions/base>\n}\n",
    )
    .unwrap();
    khard(&["check", "included", "--against", "out"]).expect(0);
    let unclear =
        khard(&["check", "included", "--against", "out", "--fail-on", "unclear", "--json"]).expect(1);
    assert_eq!(serde_json::from_str::<Value>(&unclear.stdout).expect("JSON")["passes"], false);
    let refused = khard(&["check", "out/web", "--against", "out", "--caps", "CAP_SYS_ADMI"]).expect(2);
    assert!(refused.stderr.contains("no such capability"), "{}", refused.stderr);

    let same = khard(&["diff", "out", "out/web"]).expect(0);
    assert!(!same.stderr.contains("profiles beside"), "{}", same.stderr);
    let other = dir.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::copy(folder.join("recording.json"), other.join("recording.json")).unwrap();
    fs::write(other.join("seccomp.json"), r#"{"defaultAction": "SCMP_ACT_LOG"}"#).unwrap();
    let edited = khard(&["diff", "out", "other"]).expect(0);
    assert!(edited.stderr.contains("the profiles beside the recordings of"), "{}", edited.stderr);
    for (args, hint) in [
        (&["check", "out", "--against", "out"][..], "name one of out/web/seccomp.json, out/web/web.apparmor"),
        (
            &["explain", "out/web", "read"],
            "name a profile in it: out/web/seccomp.json or out/web/web.apparmor",
        ),
        (&["export", "--to", "docker", "out/web/seccomp.json"], "is a file: name the folder that holds it"),
    ] {
        let told = khard(args).expect(2);
        assert!(told.stderr.contains(hint), "{args:?}: {}", told.stderr);
    }
}
