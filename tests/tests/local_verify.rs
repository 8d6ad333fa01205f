//! `khard verify`: what a profile would refuse is told as it happens, by name and witness, and the exit status says it.

use std::{fs, path::Path, process::Command};

use khard_tests::{
    cgroup::TestCgroup,
    khard::{self, Running},
    process::Owned,
    program::Program,
    recorded::without,
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A program, its recording, and the profiles of it in a folder.
fn recorded(program: &Program, code: i32) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    program.write(&path);
    let path = path.to_str().unwrap().to_owned();
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    khard::start(command.arg(dir.path().join("out")).args(["--", &path])).end().expect(code);
    (dir, path)
}

fn verify(profile: &Path, args: &[&str]) -> Running {
    khard::start(khard::command(["verify", "--profile"]).arg(profile).args(args))
}

#[test]
fn what_the_profile_allows_passes_and_a_call_that_it_lacks_is_named_with_who_made_it() {
    let (dir, program) = recorded(&Program::new().call("getsid").call("getpgid").exit(7), 7);
    let own = dir.path().join("out/program");
    let done = verify(&own, &["--", &program]).end().expect(7);
    assert!(done.stdout.contains("nothing is refused of what 1 subject did"), "{}", done.stdout);
    assert!(khard::files_below(&done.out).is_empty(), "verifying writes nothing");

    let less = dir.path().join("less.json");
    fs::write(&less, without(&khard::json(&own.join("seccomp.json")), "getsid").to_string()).unwrap();
    let done = verify(&less, &["--", &program]).end().expect(1);
    let (what, who) = done.stdout.split_once('\n').unwrap();
    assert!(what.contains("program: would be refused  getsid (x86_64 124) of workload: "), "{what}");
    assert!(who.contains("first made by program (program), process "), "{who}");
    assert!(!done.stdout.contains("getpgid"), "{}", done.stdout);

    let done = verify(&less, &["--json", "--", &program]).end().expect(1);
    let answer: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(answer["passes"], false);
    let [refused] = answer["refused"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!(refused["call"], json!({ "abi": "x86_64", "nr": 124 }));
    assert_eq!(refused["when"], "would be refused");
}

/// A program under a filter of its own, verified against a profile that lacks the call that the filter has an answer to.
fn under_a_filter(answer: &str, code: i32) -> String {
    let dir = tempfile::tempdir().unwrap();
    let program = khard::fixture().get_program().to_str().unwrap().to_owned();
    let steps = ["--", &program, "answer", "getsid", answer, "call", "getpgid", "call", "getsid"];
    let allowing = ["--", &program, "answer", "getpgid", "log", "call", "getpgid", "call", "getsid"];
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    khard::start(command.arg(dir.path()).args(allowing)).end().expect(0);
    let less = dir.path().join("less.json");
    let profile = khard::json(&dir.path().join("fixture/seccomp.json"));
    fs::write(&less, without(&profile, "getsid").to_string()).unwrap();
    verify(&less, &steps).end().expect(code).stdout
}

#[test]
fn the_kernels_log_confirms_a_call_that_a_filter_lets_pass_and_logs() {
    let said = under_a_filter("log", 1);
    assert!(said.contains("fixture: would be refused  getsid (x86_64 124) of workload"), "{said}");
    assert!(said.contains("the kernel's log has 1 of the refusals too"), "{said}");
    assert!(!said.contains("by the kernel's log alone"), "{said}");
}

/// Who is killed for a call neither begins nor ends it.
#[test]
fn a_call_that_a_filter_kills_for_is_told_by_the_kernels_log_alone() {
    let said = under_a_filter("kill", 1);
    let alone = "by the kernel's log alone: was refused  getsid by fixture, which ended it";
    assert!(said.contains(alone) && !said.contains("fixture: would be refused"), "{said}");
}

#[test]
fn a_filter_that_is_not_the_profile_s_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let program = khard::fixture().get_program().to_str().unwrap().to_owned();
    let steps = ["--", &program, "answer", "getsid", "log", "call", "getsid"];
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    khard::start(command.arg(dir.path()).args(steps)).end().expect(0);
    let said = verify(&dir.path().join("fixture"), &steps).end().expect(0).stdout;
    assert!(
        said.contains("a filter in force is another than the profile: it answered getsid by fixture"),
        "{said}"
    );
}

#[test]
fn a_file_that_the_profile_lacks_is_told_while_it_goes_on_and_quiet_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (allowed, missing, go) = (file("allowed"), file("missing"), file("go"));
    for path in [&allowed, &missing] {
        fs::write(path, "").unwrap();
    }
    let profile = file("web.apparmor");
    let rules = format!("  /** mrix,\n  deny {missing} r,\n");
    fs::write(&profile, format!("abi <abi/3.0>,\nprofile web {{\n{rules}}}\n")).unwrap();
    let cgroup = TestCgroup::new("verified");
    let script =
        format!("cat {allowed}; while [ ! -e {go} ]; do sleep 0.1; done; cat {missing}; exec sleep 600");
    let mut work = Command::new(khard::fixture().get_program());
    let _work = Owned::spawn(work.arg("enter").arg(cgroup.dir()).args(["exec", "sh", "-c", &script]));
    wait::until("a process in it", || !cgroup.processes().is_empty());
    // In guests a pause of the machine is longer.
    let quiet = if wait::in_guest() { "15s" } else { "5s" };
    let args = ["--cgroup", cgroup.path(), "--quiet-for", quiet];
    let mut running = verify(Path::new(&profile), &args);
    running.says("from now on: it ran before");
    assert_eq!(running.stdout(), "", "nothing is refused yet");
    fs::write(&go, "").unwrap();
    wait::until("the refusal is told before the end", || running.stdout().contains("would be refused"));
    assert!(running.is_running());
    let done = running.end().expect(1);
    let refused: Vec<_> = done.stdout.lines().filter(|line| line.contains("would be refused")).collect();
    let [line] = refused.as_slice() else { panic!("{}", done.stdout) };
    assert!(line.contains(&format!("open {missing} (r")) && line.contains("denied in line 4"), "{line}");
    assert!(!done.stdout.contains(&allowed), "{}", done.stdout);
}

#[test]
fn somebody_without_a_profile_is_no_success() {
    let (dir, program) = recorded(&Program::new().call("getsid").exit(0), 0);
    fs::rename(dir.path().join("out/program"), dir.path().join("out/another")).unwrap();
    let done = verify(&dir.path().join("out"), &["--", &program]).end().expect(125);
    assert!(done.stderr.contains("there is no profile for "), "{}", done.stderr);
    assert_eq!(done.stdout, "", "nobody was compared, so that nothing is said of anybody");
    let done = verify(&dir.path().join("nowhere"), &["--", &program]).end().expect(125);
    assert!(done.stderr.contains("nowhere"), "{}", done.stderr);
}

#[test]
fn what_cannot_be_amended_is_said_before_anything_is_waited_for() {
    let (dir, program) = recorded(&Program::new().exit(0), 0);
    let folder = dir.path().join("out/program");
    let amend = ["--amend", "--", "sh", "-c", "echo started >&2", &program];
    let file = verify(&folder.join("seccomp.json"), &amend).end().expect(125);
    assert!(file.stderr.contains("name the folder that has both with --profile"), "{}", file.stderr);
    fs::remove_file(folder.join("recording.json")).unwrap();
    let alone = verify(&folder, &amend).end().expect(125);
    assert!(alone.stderr.contains("from the recording.json beside them"), "{}", alone.stderr);
    assert!(!file.stderr.contains("started") && !alone.stderr.contains("started"));
}

#[test]
fn what_a_rare_path_needs_is_added_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (usual, rare, flag, script) = (file("usual"), file("rare"), file("flag"), file("work.sh"));
    fs::write(&usual, "").unwrap();
    fs::write(&rare, "").unwrap();
    fs::write(&script, format!("cat {usual}\n[ -e {flag} ] && cat {rare}\nexit 0\n")).unwrap();
    let mut command = khard::command(["trace", "-o"]);
    khard::start(command.arg(dir.path()).args(["--", "sh", &script])).end().expect(0);
    let own = dir.path().join("sh");
    let rules = || {
        let text = fs::read_to_string(own.join("sh.apparmor")).unwrap();
        let rules = text.lines().filter(|line| line.starts_with(' ')).map(str::to_owned);
        rules.collect::<std::collections::BTreeSet<_>>()
    };
    let name = || {
        let text = fs::read_to_string(own.join("sh.apparmor")).unwrap();
        let head = text.lines().find_map(|line| line.strip_prefix("profile ")).unwrap();
        head.split(' ').next().unwrap().to_owned()
    };
    let (before, old) = (rules(), name());
    verify(&own, &["--amend", "--", "sh", &script]).end().expect(0);

    fs::write(&flag, "").unwrap();
    let asked = verify(&own, &["--amend", "--", "sh", &script]).end().expect(1);
    assert!(asked.stdout.contains(&format!("would be refused  open {rare} (r")), "{}", asked.stdout);
    assert!(asked.stdout.contains("say --yes to amend it"), "{}", asked.stdout);
    assert_eq!(rules(), before, "nobody agreed");

    let amended = verify(&own, &["--amend", "--yes", "--", "sh", &script]).end().expect(1);
    assert!(amended.stdout.contains("is amended"), "{}", amended.stdout);
    // Another content is another name: what is in force would stay as it is.
    let new = name();
    for step in [
        format!("1. khard apply {} --complain", own.display()),
        format!("name {new} for {old}"),
        format!("3. khard mode {new} enforce"),
        format!("khard remove {old}"),
    ] {
        assert!(amended.stdout.contains(&step), "{step}\n{}", amended.stdout);
    }
    let after = rules();
    let added: Vec<_> = after.difference(&before).collect();
    assert_eq!(added, [&format!("  \"{rare}\" r,")]);
    assert!(before.is_subset(&after));
    verify(&own, &["--", "sh", &script]).end().expect(0);
}
