//! System calls that a seccomp filter refuses: told apart from those that fail by themselves, and looked for only while somebody has a
//! filter.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use khard_profile::recording::{Access, AccessKey, From, Phase, Recording};
use khard_tests::{
    cgroup::TestCgroup,
    kernel::{assert_sees_all_refused, preempts_programs},
    khard::{self, Running},
    observed::{calls, name},
    process::Owned,
    recorded::without,
    wait,
};

/// Makes calls all the time: of who makes none no profile can be made.
const WORK: &str = "while :; do sleep 0.1; done";
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// The refused calls of the workload.
fn refused(recording: &Recording) -> BTreeSet<(String, u16)> {
    let of_workload =
        recording.refused_calls().iter().filter(|(_, seen)| seen.in_phase(Phase::Workload).is_some());
    of_workload.map(|(call, _)| (name(call.key), call.errno)).collect()
}

fn expected(calls: &[(&str, u16)]) -> BTreeSet<(String, u16)> {
    calls.iter().map(|(name, errno)| ((*name).to_owned(), *errno)).collect()
}

/// The programs that look for refused calls, of every khard on this machine.
fn n_programs() -> usize {
    let loaded = aya::programs::loaded_programs().filter_map(Result::ok);
    loaded.filter(|program| ["passed", "passed_perf"].contains(&program.name_as_str().unwrap_or(""))).count()
}

/// The kernel frees programs some time after their end.
fn wait_for_programs(n: usize) {
    wait::until(&format!("{n} programs that look for refused calls"), || n_programs() == n);
}

/// khard under a filter that refuses getsid(2), with arguments.
fn under_a_filter(call: &str, args: &[&str]) -> Running {
    let words = ["refuse", call, "any", "1", "exec"];
    let mut fixture = vec![khard::fixture().get_program().to_owned()];
    fixture.extend(words.map(Into::into));
    khard::start(&mut khard::behind(fixture, &khard::command(args)))
}

#[test]
fn what_a_filter_refuses_is_told_from_what_fails_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let path = go.to_str().unwrap();
    wait_for_programs(0);
    let mut command = khard::fixture();
    // Of getpgid(2) one argument is refused. With another, no process has the id: it fails, and not by the filter.
    command.args(["refuse", "getsid", "any", "1", "refuse", "getpgid", "4242", "38", "await", path]);
    command.args(["call", "getsid", "thread", "getsid", "call-with", "getpgid", "4242"]);
    command.args(["call-with", "getpgid", "4194305", "call-with", "getpgid", "0", "call", "acct"]);
    let mut args = vec!["--".into(), command.get_program().to_owned()];
    args.extend(command.get_args().map(ToOwned::to_owned));
    let mut running = khard::trace(args);
    running.says("looking for the calls that it refuses");
    wait_for_programs(1);
    fs::write(&go, "").unwrap();
    let done = running.end().expect(0);
    let recording = done.recording("fixture");
    assert_eq!(refused(&recording), expected(&[("getsid", EPERM), ("getpgid", ENOSYS)]));
    let made = calls(&recording, Phase::Workload);
    assert!(made.contains("getpgid") && made.contains("acct") && !made.contains("getsid"), "{made:?}");
    // The filter was put on while it ran.
    let coverage = &recording.runs().values().next().unwrap().coverage.refused_syscalls;
    assert_eq!(coverage.observed().map(|observed| observed.from), Some(From::Late), "{coverage:?}");
    for call in recording.refused_calls().values() {
        let witness = call.in_phase(Phase::Workload).unwrap().witness.as_ref().unwrap();
        assert_eq!(witness.exe.as_slice(), b"fixture");
    }
    let page = fs::read_to_string(done.out.join("fixture/summary.md")).unwrap();
    assert!(page.contains("- `getsid (x86_64): EPERM`, workload, first by `fixture`"), "{page}");
    wait_for_programs(0);
}

#[test]
fn under_khards_own_filter_refused_calls_are_seen_from_the_first_instruction() {
    let fixture = khard::fixture();
    let fixture = fixture.get_program().to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let traced = ["trace", "--floor", "none", "-o", out, "--", fixture, "call", "getsid", "call", "getpgid"];
    under_a_filter("getsid", &traced).end().expect(0);
    let recording = khard::recording(&dir.path().join("fixture/recording.json"));
    assert_eq!(refused(&recording), expected(&[("getsid", EPERM)]));
    assert_sees_all_refused(&recording.runs().values().next().unwrap().coverage.refused_syscalls);
}

#[test]
fn a_call_that_a_filter_answers_asks_nobody_for_access() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    let out = dir.path().join("out");
    let link_name = link.to_str().unwrap();
    let out_name = out.to_str().unwrap();
    // By their arguments alone: hooks are not reached.
    let means = ["trace", "--attach", "syscall", "--floor", "none", "-o", out_name];
    // Where the kernel skips programs a bound is all that there is.
    let accept: &[&str] =
        if preempts_programs() { &["--accept-lossy", "syscalls", "--accept-lossy", "accesses"] } else { &[] };
    let traced = [&means[..], accept, &["--", "ln", "-s", "target", link_name]].concat();
    let asks = |recording: &Recording| {
        let of_link = |key: &AccessKey| matches!(&key.what, Access::File(file) if file.path.as_slice() == link_name.as_bytes());
        recording.accesses().keys().any(of_link)
    };
    let recording = || khard::recording(&out.join("ln/recording.json"));
    under_a_filter("symlinkat", &traced).end().expect(1);
    assert!(refused(&recording()).contains(&("symlinkat".to_owned(), EPERM)));
    assert!(preempts_programs() || !asks(&recording()), "{:?}", recording().accesses().keys());
    under_a_filter("getsid", &traced).end().expect(0);
    assert!(asks(&recording()), "{:?}", recording().accesses().keys());
}

#[test]
fn in_a_plain_cgroup_a_filter_that_its_work_puts_on_is_looked_for_late_and_that_is_said() {
    let cgroup = TestCgroup::planned("late");
    let mut running = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
    running.is_ready();
    cgroup.make();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut work = Command::new(khard::fixture().get_program());
    work.arg("enter").arg(cgroup.dir()).args(["call", "getsid", "refuse", "getsid", "any", "1", "await"]);
    let mut work = Owned::spawn(work.arg(&go).args(["call", "getsid"]));
    running.says("looking for the calls that it refuses");
    fs::write(&go, "").unwrap();
    work.wait();
    let recording = running.end().expect(0).recording(cgroup.name());
    let coverage = &recording.runs().values().next().unwrap().coverage.refused_syscalls;
    assert_eq!(coverage.observed().map(|observed| observed.from), Some(From::Late), "{coverage:?}");
    assert!(recording.refused_calls().keys().any(|call| name(call.key) == "getsid"));
}

#[test]
fn without_a_filter_nobody_looks_and_the_coverage_says_so() {
    let fixture = khard::fixture();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let args = [
        Path::new("--"),
        fixture.get_program().as_ref(),
        "await".as_ref(),
        &go,
        "call".as_ref(),
        "getsid".as_ref(),
    ];
    wait_for_programs(0);
    let mut running = khard::trace(args);
    running.says("recording");
    assert_eq!(n_programs(), 0);
    fs::write(&go, "").unwrap();
    let recording = running.end().expect(0).recording("fixture");
    assert_eq!(refused(&recording), expected(&[]));
    let coverage = &recording.runs().values().next().unwrap().coverage.refused_syscalls;
    assert!(coverage.observed().is_none(), "{coverage:?}");
}

#[test]
fn the_programs_are_taken_off_when_the_last_filtered_subject_ends() {
    wait_for_programs(0);
    let cgroup = TestCgroup::new("filtered");
    let other = TestCgroup::new("unfiltered");
    let start = |cgroup: &TestCgroup, steps: &[&str]| {
        let mut work = Command::new(khard::fixture().get_program());
        let work =
            Owned::spawn(work.arg("enter").arg(cgroup.dir()).args(steps).args(["exec", "sh", "-c", WORK]));
        wait::until("a process in it", || !cgroup.processes().is_empty());
        work
    };
    let filtered = start(&cgroup, &["refuse", "getsid", "any", "1"]);
    let _unfiltered = start(&other, &[]);
    wait::until("its filter", || {
        fs::read_to_string(format!("/proc/{}/status", filtered.pid())).unwrap().contains("Seccomp:\t2")
    });
    let mut running = khard::trace(["--cgroup", cgroup.path(), "--cgroup", other.path()]);
    running.says("looking for the calls that it refuses");
    wait_for_programs(1);
    drop(filtered);
    wait_for_programs(0);
    assert!(running.is_running());
    running.signal(libc::SIGINT);
    running.end().expect(0);
}

#[test]
fn verify_tells_what_was_refused_and_by_whose_filter() {
    let fixture = khard::fixture();
    let fixture = fixture.get_program().to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let steps = ["--", fixture, "call", "getsid", "call", "getpgid"];
    let mut trace = khard::command(["trace", "--floor", "none", "-o"]);
    khard::start(trace.arg(dir.path()).args(steps)).end().expect(0);
    let whole = dir.path().join("fixture/seccomp.json");
    let less = dir.path().join("less.json");
    fs::write(&less, without(&khard::json(&whole), "getsid").to_string()).unwrap();
    let verify = |profile: &Path| {
        let mut args = vec!["verify", "--profile", profile.to_str().unwrap()];
        args.extend(steps);
        under_a_filter("getsid", &args).end()
    };
    let done = verify(&less).expect(1);
    let lines: Vec<_> = done.stdout.lines().filter(|line| line.contains("refused  ")).collect();
    let [line] = lines.as_slice() else { panic!("{}", done.stdout) };
    assert!(
        line.contains(
            "was refused  getsid (x86_64 124) of workload: got EPERM, as this profile answers (by "
        ),
        "{line}"
    );
    // A profile that allows it did not refuse it.
    let done = verify(&whole).expect(0);
    assert!(
        done.stdout.contains(
            "a filter in force is another than the profile: getsid (x86_64 124) of workload: got EPERM"
        ),
        "{}",
        done.stdout
    );
}

#[test]
fn what_a_filter_in_force_refused_is_added_when_the_user_wants_it() {
    let fixture = khard::fixture();
    let fixture = fixture.get_program().to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut trace = khard::command(["trace", "--floor", "none", "-o"]);
    khard::start(trace.arg(dir.path()).args(["--", fixture, "call", "getpgid"])).end().expect(0);
    let own = dir.path().join("fixture");
    assert!(!khard::allows(&khard::json(&own.join("seccomp.json")), "getsid"));
    let amended = ["verify", "--floor", "none", "--amend", "--yes", "--profile", own.to_str().unwrap()];
    let steps = ["--", fixture, "call", "getsid", "call", "getpgid"];
    let done = under_a_filter("getsid", &[&amended[..], &steps[..]].concat()).end().expect(1);
    assert!(done.stdout.contains("is amended"), "{}", done.stdout);
    let profile = khard::json(&own.join("seccomp.json"));
    assert!(khard::allows(&profile, "getsid"), "{profile}");
}
