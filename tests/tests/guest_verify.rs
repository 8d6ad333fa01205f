//! `khard verify` beside AppArmor: in complain mode what would be refused, in enforce mode what was.

use std::{fs, process::Command};

use khard_tests::{
    apparmor::Loaded,
    cgroup::TestCgroup,
    khard,
    process::Owned,
    wait,
    watched::{denials, told},
};
use khard_user::bpf::skips_fexit;

/// Works under the profile in this mode while khard verifies; what khard said of it.
fn verified(attach: &str, mode: &str, code: i32) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (go, allowed, refused, done) = (file("go"), file("allowed"), file("refused"), file("done"));
    let name = format!("khard-test-verify-{attach}-{mode}");
    let text = format!(
        "abi <abi/3.0>,\nprofile {name} flags=(attach_disconnected{}) {{\n  signal (receive) set=(kill),\n  /** mrix,\n  /dev/null rw,\n  {allowed} w,\n  {done} w,\n}}\n",
        if mode == "complain" { ",complain" } else { "" }
    );
    let profile = file("verify.apparmor");
    fs::write(&profile, &text).unwrap();
    let loaded = Loaded::new(&text);
    let cgroup = TestCgroup::new(&format!("verify-{attach}-{mode}"));
    let script = format!(
        "while [ ! -e {go} ]; do sleep 0.1; done; echo > {allowed}; echo > {refused}; echo > {done}; exec sleep 600"
    );
    let mut work = Command::new(khard::fixture().get_program());
    work.arg("enter").arg(cgroup.dir()).args(["confine", loaded.name(), "exec", "sh", "-c", &script]);
    let work = Owned::spawn(&mut work);
    let is_confined = || {
        let label = fs::read_to_string(format!("/proc/{}/attr/current", work.pid())).unwrap_or_default();
        label.starts_with(&format!("{name} ({mode})"))
    };
    wait::until("it is under the profile", is_confined);
    // Where the kernel skips programs a bound is all that there is.
    let accept: &[&str] =
        if attach == "fexit" && skips_fexit() { &["--accept-lossy", "accesses"] } else { &[] };
    let args = ["verify", "--attach", attach, "--profile", &profile, "--cgroup", cgroup.path()];
    let mut running = khard::start(khard::command(args).args(accept));
    running.says("from now on: it ran before");
    fs::write(&go, "").unwrap();
    wait::until("its work", || fs::metadata(&done).is_ok());
    drop(work);
    (running.end().expect(code).stdout, refused)
}

/// What khard told is of this file alone, and says when.
fn tells_of(said: &str, refused: &str, when: &str) {
    let lines: Vec<_> = said.lines().filter(|line| line.contains(" refused  ")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(refused)), "{said}");
    assert!(lines.iter().all(|line| line.contains(when)), "{said}");
}

#[test]
fn in_complain_mode_what_would_be_refused_is_told() {
    let (said, refused) = verified("fexit", "complain", 1);
    tells_of(&said, &refused, "would be refused");
}

#[test]
fn in_enforce_mode_what_was_refused_is_told() {
    let (said, refused) = verified("fexit", "enforce", 1);
    tells_of(&said, &refused, "was refused");
    assert!(said.contains("the kernel's log has ") && !said.contains("by the kernel's log alone"), "{said}");
}

/// BPF LSM programs run after AppArmor, and not at all where it refuses, or where `bpf` is not among the modules.
#[test]
fn what_khard_does_not_see_refused_the_kernels_log_tells() {
    let (said, refused) = verified("lsm", "enforce", 1);
    assert!(
        !said
            .lines()
            .any(|line| line.contains(": was refused  ") && !line.starts_with("by the kernel's log")),
        "{said}"
    );
    let alone = said.lines().find(|line| line.starts_with("by the kernel's log alone: was refused  "));
    let alone = alone.unwrap_or_else(|| panic!("{said}"));
    assert!(alone.contains(&format!(" {refused} (")) && alone.contains(" by sh under "), "{alone}");
}

#[test]
fn what_verifying_added_is_enough_in_enforce_mode() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (usual, rare, flag, script) = (file("usual"), file("rare"), file("flag"), file("work.sh"));
    fs::write(&usual, "usual\n").unwrap();
    fs::write(&rare, "rare\n").unwrap();
    fs::write(&script, format!("cat {usual}\n[ -e {flag} ] && cat {rare}\nexit 0\n")).unwrap();
    let mut command = khard::command(["trace", "-o"]);
    khard::start(command.arg(dir.path()).args(["--", "sh", &script])).end().expect(0);
    let own = dir.path().join("sh");
    let profile = || Loaded::new(&fs::read_to_string(own.join("sh.apparmor")).unwrap());
    let under = |profile: &Loaded| {
        let mut command = Command::new(khard::fixture().get_program());
        let output = command.args(["confine", profile.name(), "exec", "sh", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    fs::write(&flag, "").unwrap();
    assert_eq!(under(&profile()), "usual\n", "the rare path is refused");
    let mut verify = khard::command(["verify", "--amend", "--yes", "--profile"]);
    khard::start(verify.arg(&own).args(["--", "sh", &script])).end().expect(1);
    let amended = profile();
    let (answer, events) = told(|| under(&amended));
    assert_eq!(answer, "usual\nrare\n");
    let denied = denials(&events, |event| amended.is(&event.profile));
    assert!(denied.is_empty(), "{denied:?}");
}
