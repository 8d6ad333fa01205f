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
fn what_khard_makes_of_a_recording_raises_no_alarm_and_the_default_is_asked() {
    let done = khard::trace(["--", "true"]).end().expect(0);
    let folder = done.out.join("true");
    let profile = folder.join("seccomp.json");
    let (profile, folder) = (profile.to_str().unwrap(), folder.to_str().unwrap());
    // Made without a floor, it is no container's.
    let linted = lint(&done.out, &[profile, "--against", folder, "--json"]);
    let json: Value = serde_json::from_str(&linted.stdout).expect("JSON");
    let profile = &json["profiles"][0];
    let alarms: Vec<&Value> =
        profile["findings"].as_array().unwrap().iter().filter(|f| f["severity"] != "note").collect();
    assert!(
        alarms.iter().all(|alarm| alarm["id"].as_str().unwrap().starts_with("seccomp/missing-")),
        "{alarms:?}"
    );
    assert_eq!(profile["runtime_default"]["fits"], true, "{profile}");
}
