//! Who is recorded, and as what: commands, late attachment, threads, children, moves between cgroups, joiners, ABIs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use khard_profile::{
    Bytes,
    recording::{Abi, Access, AccessKey, Ended, From, Phase, PhaseSet, Recording, Run},
};
use khard_tests::{
    bundle::Runc,
    cgroup::TestCgroup,
    khard::{self, Done, Running},
    observed::{Calls, all_calls, calls, phases_of, set},
    process::Owned,
    program::{self, Program},
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

/// Calls that neither Rust's start nor the fixture's steps make by themselves.
const MARKS: [&str; 6] =
    ["getsid", "getpgid", "sched_get_priority_max", "sched_get_priority_min", "ioprio_get", "getpriority"];

fn only(phase: Phase) -> PhaseSet {
    PhaseSet::EMPTY.with(phase)
}

fn run_of(recording: &Recording) -> &Run {
    recording.runs().values().next().expect("a recording has a run")
}

fn from_of(recording: &Recording) -> From {
    run_of(recording).coverage.syscalls.observed().expect("system calls were observed").from
}

fn is_attached(mut khard: Running) -> Running {
    khard.says("from now on: it ran before");
    khard
}

/// A program that does nothing for ever, in a cgroup.
fn sleeper(dir: &TempDir, cgroup: &TestCgroup) -> Owned {
    let path = dir.path().join("sleeper");
    Program::new().call("pause").write(&path);
    let process = Owned::spawn(&mut std::process::Command::new(path));
    cgroup.add(process.pid());
    let asleep = || fs::read_to_string(format!("/proc/{}/syscall", process.pid()));
    let pause = format!("{} ", program::number(Abi::X86_64, "pause"));
    wait::until("the sleeper sleeps", || asleep().is_ok_and(|call| call.starts_with(&pause)));
    process
}

fn interrupted(khard: Running) -> Done {
    khard.signal(libc::SIGINT);
    khard.end().expect(0)
}

/// Runs a machine-made program as khard's command.
fn command(program: &Program) -> (Done, Recording) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    program.write(&path);
    let done = khard::trace(["--".as_ref(), path.as_os_str()]).end().expect(0);
    let recording = done.recording("program");
    (done, recording)
}

fn allowed(profile: &Value) -> Calls {
    let rules = profile["syscalls"].as_array().expect("rules");
    let names = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    names.flat_map(|rule| rule["names"].as_array().expect("names")).map(text).collect()
}

fn architectures(profile: &Value) -> Calls {
    profile["architectures"].as_array().expect("architectures").iter().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

#[test]
fn a_commands_profile_has_its_own_calls_and_not_what_khard_did_before_its_exec() {
    let (done, recording) = command(&Program::new().call("getppid").call("sched_yield").exit(0));
    assert_eq!(calls(&recording, Phase::Workload), set(&["exit_group", "getppid", "sched_yield"]));
    assert_eq!(phases_of(&recording, "execve"), only(Phase::Runtime));
    assert_eq!(from_of(&recording), From::FirstInstruction);
    assert_eq!(run_of(&recording).ended, Ended::SubjectEnded);
    let allowed = allowed(&done.profile("program"));
    assert!(allowed.contains("getppid") && allowed.contains("sched_yield"));
    assert!(!allowed.contains("execve"), "{allowed:?}");
}

#[test]
fn attaching_late_is_marked_and_holds_the_call_that_a_sleeping_process_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::new("late");
    let mut sleeper = sleeper(&dir, &cgroup);
    let done = interrupted(is_attached(khard::trace(["--cgroup", cgroup.path()])));
    let recording = done.recording(cgroup.name());
    assert_eq!(calls(&recording, Phase::Workload), set(&["pause"]));
    assert_eq!(all_calls(&recording), set(&["pause"]));
    assert_eq!(from_of(&recording), From::Late);
    assert_eq!(run_of(&recording).ended, Ended::Interrupted);
    assert!(sleeper.is_running(), "khard ends no workload that it attached to");
}

/// The fixture's steps within a cgroup: a thread, a child, and nested cgroups.
fn steps_inside(cgroup: &TestCgroup) -> Vec<String> {
    let nested = cgroup.dir().join("nested").display().to_string();
    let dir = cgroup.dir().display().to_string();
    let mut steps = vec!["enter", &dir, "call", MARKS[0], "thread", MARKS[1], "fork", MARKS[2]];
    steps.extend(["mkdir", &nested, "into", &nested, MARKS[3], "into", &dir, MARKS[4]]);
    steps.extend(["enter", &nested, "fork", MARKS[5]]);
    steps.into_iter().map(str::to_owned).collect()
}

#[test]
fn threads_children_and_nested_cgroups_belong_to_a_cgroup_that_was_waited_for() {
    let cgroup = TestCgroup::planned("waited");
    let mut khard = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
    khard.is_ready();
    cgroup.make();
    assert!(Owned::spawn(khard::fixture().args(steps_inside(&cgroup))).wait().success());
    let recording = khard.end().expect(0).recording(cgroup.name());
    for mark in MARKS {
        assert_eq!(phases_of(&recording, mark), only(Phase::Workload), "{mark}");
    }
    assert_eq!(from_of(&recording), From::FirstInstruction);
    assert_eq!(run_of(&recording).joiners, 0);
}

#[test]
fn what_a_waited_cgroup_asks_for_before_khard_can_look_is_recorded_too() {
    let dir = tempfile::tempdir().unwrap();
    let (early, done) = (dir.path().join("early"), dir.path().join("done"));
    fs::write(&early, "").unwrap();
    let cgroup = TestCgroup::planned("early");
    let mut khard = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
    khard.is_ready();
    khard.signal(libc::SIGSTOP);
    cgroup.make();
    let script = "echo $$ > \"$1/cgroup.procs\" && cat \"$2\" && touch \"$3\" && exec sleep 600";
    let mut command = std::process::Command::new("sh");
    let process = Owned::spawn(command.args(["-c", script, "sh"]).arg(cgroup.dir()).arg(&early).arg(&done));
    wait::until("its work", || done.exists());
    khard.signal(libc::SIGCONT);
    khard.says("recording /");
    drop(process);
    let recording = khard.end().expect(0).recording(cgroup.name());
    for path in [early, done] {
        let path = Bytes::from(path.as_os_str().as_encoded_bytes());
        let is_it = |key: &AccessKey| matches!(&key.what, Access::File(file) if file.path == path);
        assert!(recording.accesses().keys().any(is_it), "{path:?}");
    }
    assert_eq!(from_of(&recording), From::FirstInstruction);
}

#[test]
fn threads_children_and_nested_cgroups_belong_to_a_cgroup_that_was_running() {
    let dir = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::new("running");
    let _sleeper = sleeper(&dir, &cgroup);
    let khard = is_attached(khard::trace(["--cgroup", cgroup.path()]));
    assert!(Owned::spawn(khard::fixture().args(steps_inside(&cgroup))).wait().success());
    let recording = interrupted(khard).recording(cgroup.name());
    // Who moves itself in, with the mounts of those who live there, is one of them.
    for mark in MARKS {
        assert_eq!(phases_of(&recording, mark), only(Phase::Workload), "{mark}");
    }
    assert_eq!(run_of(&recording).joiners, 0);
}

#[test]
fn a_child_that_is_cloned_into_a_running_cgroup_from_outside_joins_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::new("cloned");
    let _sleeper = sleeper(&dir, &cgroup);
    let khard = is_attached(khard::trace(["--cgroup", cgroup.path()]));
    let into = cgroup.dir().display().to_string();
    let steps = ["call", MARKS[0], "into", &into, MARKS[1], "call", MARKS[2]];
    assert!(Owned::spawn(khard::fixture().args(steps)).wait().success());
    let recording = interrupted(khard).recording(cgroup.name());
    assert_eq!(phases_of(&recording, MARKS[1]), only(Phase::Joiner));
    assert_eq!(run_of(&recording).joiners, 1);
    let seen = all_calls(&recording);
    assert!(!seen.contains(MARKS[0]) && !seen.contains(MARKS[2]), "{seen:?}");
}

#[test]
fn an_orphan_of_the_workload_is_the_workload_though_its_new_parent_is_outside() {
    // `$$` is the outer shell also inside the parentheses: the orphan waits until that one is gone.
    let fixture = khard::fixture();
    let script = format!(
        "(while kill -0 $$ 2>/dev/null; do :; done; exec {} call {}) &",
        fixture.get_program().display(),
        MARKS[0]
    );
    let done = khard::trace(["--", "sh", "-c", &script]).end().expect(0);
    let recording = done.recording("sh");
    assert_eq!(phases_of(&recording, MARKS[0]), only(Phase::Workload));
    assert!(allowed(&done.profile("sh")).contains(MARKS[0]));
}

#[test]
fn a_sandboxed_child_does_not_make_its_parent_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    Program::new().call(MARKS[1]).exit(0).write(&dir.path().join("sandboxed"));
    let cgroup = TestCgroup::planned("sandbox");
    let mut khard = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
    khard.is_ready();
    cgroup.make();
    let fixture = khard::fixture();
    let script = format!(
        "echo $$ > {}/cgroup.procs; unshare -m -R {} /sandboxed && exec {} call {}",
        cgroup.dir().display(),
        dir.path().display(),
        fixture.get_program().display(),
        MARKS[0]
    );
    assert!(Owned::spawn(std::process::Command::new("sh").args(["-c", &script])).wait().success());
    let done = khard.end().expect(0);
    for mark in [MARKS[0], MARKS[1]] {
        assert_eq!(phases_of(&done.recording(cgroup.name()), mark), only(Phase::Workload), "{mark}");
    }
}

#[test]
fn a_process_that_is_moved_inside_of_its_subject_stays_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::new("inside");
    let (nested, go) = (cgroup.dir().join("nested"), dir.path().join("go"));
    fs::create_dir(&nested).unwrap();
    let mut process = Owned::spawn(
        khard::fixture().arg("enter").arg(cgroup.dir()).arg("await").arg(&go).args(["call", MARKS[0]]),
    );
    wait::until("a process in it", || !cgroup.processes().is_empty());
    let khard = is_attached(khard::trace(["--cgroup", cgroup.path()]));
    fs::write(nested.join("cgroup.procs"), process.pid().to_string()).unwrap();
    fs::write(&go, "").unwrap();
    assert!(process.wait().success());
    let recording = interrupted(khard).recording(cgroup.name());
    assert_eq!(phases_of(&recording, MARKS[0]), only(Phase::Workload));
    assert_eq!(run_of(&recording).joiners, 0);
}

#[test]
fn a_process_is_recorded_from_its_move_into_the_cgroup_until_its_move_out() {
    let dir = tempfile::tempdir().unwrap();
    let (cgroup, elsewhere) = (TestCgroup::new("moved"), TestCgroup::new("elsewhere"));
    let _sleeper = sleeper(&dir, &cgroup);
    let khard = is_attached(khard::trace(["--cgroup", cgroup.path()]));
    let file = |name: &str| dir.path().join(name).display().to_string();
    let files = ["before", "moved-in", "inside", "moved-out"].map(file);
    let mut steps = vec!["call", MARKS[0], "touch", &files[0], "await", &files[1]];
    steps.extend(["call", MARKS[1], "touch", &files[2], "await", &files[3], "call", MARKS[2]]);
    let mut mover = Owned::spawn(khard::fixture().args(steps));
    for (happened, into, then) in [(&files[0], &cgroup, &files[1]), (&files[2], &elsewhere, &files[3])] {
        wait::until(happened, || Path::new(happened).exists());
        into.add(mover.pid());
        fs::write(then, "").unwrap();
    }
    assert!(mover.wait().success());
    let recording = interrupted(khard).recording(cgroup.name());
    assert_eq!(phases_of(&recording, MARKS[1]), only(Phase::Joiner));
    assert_eq!(run_of(&recording).joiners, 1);
    let seen = all_calls(&recording);
    assert!(!seen.contains(MARKS[0]) && !seen.contains(MARKS[2]), "{seen:?}");
}

#[test]
fn a_process_that_is_executed_in_a_container_is_a_joiner_and_the_runtime_is_neither() {
    let runc = Runc::new();
    runc.put("work", &Program::new().call("getppid").call("pause"));
    runc.put("join", &Program::new().call("sched_yield").exit(0));
    let cgroup = TestCgroup::planned("container");
    runc.bundle("phases", "work", cgroup.path());
    let mut khard = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
    khard.is_ready();
    assert!(Owned::spawn(&mut runc.run(&["--detach"], "phases")).wait().success());
    for _ in 0..2 {
        assert!(Owned::spawn(&mut runc.command(&["exec", "phases", "/join"])).wait().success());
    }
    assert!(Owned::spawn(&mut runc.command(&["delete", "--force", "phases"])).wait().success());
    let recording = khard.end().expect(0).recording(cgroup.name());
    assert_eq!(calls(&recording, Phase::Workload), set(&["getppid", "pause"]));
    assert_eq!(calls(&recording, Phase::Joiner), set(&["exit_group", "sched_yield"]));
    assert!(calls(&recording, Phase::Runtime).contains("execve"));
    assert!(calls(&recording, Phase::Joining).contains("execve"));
    assert!(run_of(&recording).joiners >= 2);
}

#[test]
fn calls_of_32_bits_are_kept_apart_and_let_in_by_their_architecture() {
    let (done, recording) = command(&Program::new().call("getpgrp").int80("getppid").exit(0));
    assert_eq!(calls(&recording, Phase::Workload), set(&["exit_group", "getpgrp", "ia32:getppid"]));
    assert_eq!(architectures(&done.profile("program")), set(&["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]));

    let (done, _) = command(&Program::new().call("getpgrp").exit(0));
    assert_eq!(architectures(&done.profile("program")), set(&["SCMP_ARCH_X86_64"]));
}

#[test]
fn a_32_bit_program_makes_32_bit_calls_only() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("program");
    program::write_ia32(&path, &["getppid", "getpgrp"]);
    let done = khard::trace(["--".as_ref(), path.as_os_str()]).end().expect(0);
    let seen = calls(&done.recording("program"), Phase::Workload);
    assert_eq!(seen, set(&["ia32:exit", "ia32:getpgrp", "ia32:getppid"]));
}

#[test]
fn x32_calls_are_recorded_and_open_no_architecture_that_the_kernel_lacks() {
    let (done, recording) = command(&Program::new().call("getpgrp").x32("getppid").exit(0));
    assert_eq!(calls(&recording, Phase::Workload), set(&["exit_group", "getpgrp", "x32:getppid"]));
    let architectures = architectures(&done.profile("program"));
    let has_x32 = run_of(&recording).host.abis.contains(&Abi::X32);
    assert_eq!(architectures.contains("SCMP_ARCH_X32"), has_x32, "{architectures:?}");
    assert_eq!(allowed(&done.profile("program")).contains("getppid"), has_x32);
}

#[test]
fn numbers_that_mean_nothing_are_noted_and_change_no_rule() {
    let (done, recording) =
        command(&Program::new().call("getpgrp").number(511).number(600).number(70_000).exit(0));
    assert_eq!(calls(&recording, Phase::Workload), set(&["511", "exit_group", "getpgrp"]));
    let notes = run_of(&recording).notes.join("\n");
    assert!(notes.contains("600") && notes.contains("70000"), "{notes}");
    let always = set(&["exit", "restart_syscall", "rt_sigreturn", "clock_gettime"]);
    let allowed = allowed(&done.profile("program"));
    assert!(always.is_subset(&allowed) && allowed.contains("getpgrp") && allowed.len() < 20, "{allowed:?}");
}
