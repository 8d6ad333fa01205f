//! Much at once: two million calls of busy processes, and hundreds of containers that start as fast as they can. Nothing
//! is lost, and nothing is another's.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt as _,
    sync::Mutex,
    thread,
};

use khard_profile::recording::{Access, Coverage, FileOp, Observed, Phase, Proof, Recording};
use khard_tests::{
    bundle::Runc,
    cgroup::TestCgroup,
    draw::Draw,
    kernel::preempts_programs,
    khard,
    observed::{Calls, calls, set},
    process::Owned,
    program::Program,
    wait,
};

/// Calls that do nothing when all arguments are 0, or fail: sixty.
const HARMLESS: &str = "
    alarm capget clock_getres clock_nanosleep epoll_create1 epoll_wait eventfd2 fdatasync fgetxattr flistxattr
    fstat fstatfs fsync get_robust_list getcpu getcwd getegid geteuid getgid getgroups getitimer getpeername
    getpgid getpgrp getpid getpriority getresgid getresuid getrusage getsid getsockname gettid gettimeofday getuid
    inotify_init1 ioprio_get lstat madvise membarrier memfd_create mincore mlock msync munlock nanosleep personality
    pipe2 readahead readlink rt_sigpending sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getparam sched_getscheduler sched_yield stat sysinfo times uname
";

fn harmless() -> Vec<&'static str> {
    HARMLESS.split_whitespace().collect()
}

fn observed(recording: &Recording) -> &Observed {
    let run = recording.runs().values().next().expect("a run");
    let Coverage::Exact(observed) = &run.coverage.syscalls else { panic!("{:?}", run.coverage) };
    observed
}

/// Fails unless the run is proved complete: by programs that missed nothing at all, or, where the kernel skips
/// programs, by one of them.
fn assert_whole(recording: &Recording) {
    let observed = observed(recording);
    assert!(observed.lost.is_empty(), "{observed:?}");
    let Proof::Complete { misses } = &observed.proof else { panic!("{observed:?}") };
    let n_missed = misses.values().sum::<u64>();
    assert!(!misses.is_empty() && (n_missed == 0 || preempts_programs()), "{misses:?}");
}

#[test]
fn while_directories_are_renamed_no_file_is_left_out_and_no_path_is_recorded_that_never_was() {
    let n_opens: usize = if wait::in_guest() { 200 } else { 1_000 };
    let dir = tempfile::tempdir().unwrap();
    let fixture = khard::fixture();
    let fixture = fixture.get_program().to_str().unwrap();
    let words =
        ["--name", "storm", "--", fixture, "renames", dir.path().to_str().unwrap(), &n_opens.to_string()];
    let recording = khard::trace(words).end().expect(0).recording("storm");
    let mut paths = BTreeSet::new();
    for key in recording.accesses().keys() {
        if let Access::File(file) = &key.what
            && file.op == FileOp::Open
            && let Some(path) = file.path.as_slice().strip_prefix(dir.path().as_os_str().as_bytes())
        {
            // The directories between: many, so that there is time for renames while a path is read.
            paths.insert(String::from_utf8_lossy(path).replace(&"d/".repeat(100), "…/"));
        }
    }
    let still = (0..n_opens).map(|nth| format!("/still/{nth}"));
    let missing: Vec<_> = still.filter(|path| !paths.remove(path)).collect();
    assert!(missing.is_empty(), "{} are missing: {:?}", missing.len(), missing.first());
    let were = ["/p/…/x/", "/p/…/x/file", "/p/…/z/file", "/q/…/z/file"];
    assert!(paths.contains(were[1]) && paths.iter().all(|path| were.contains(&path.as_str())), "{paths:?}");
}

#[test]
fn a_storm_of_eight_processes_leaves_a_whole_table_and_loses_nothing() {
    const N_PROCESSES: usize = 8;
    let n_calls: u32 = if wait::in_guest() { 160_000 } else { 2_000_000 };
    let harmless = harmless();
    // Each process makes calls of its own, once, between many of one that is known.
    let shares: Vec<&[&str]> = harmless.chunks(harmless.len().div_ceil(N_PROCESSES)).collect();
    assert_eq!(shares.len(), N_PROCESSES);
    let storm = shares.iter().fold(Program::new(), |storm, rare| {
        let n_between = n_calls / u32::try_from(N_PROCESSES * rare.len()).expect("few");
        let busy = rare.iter().fold(Program::new(), |busy, rare| busy.calls("getppid", n_between).call(rare));
        storm.fork(&busy.exit(0))
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("storm");
    storm.wait_for_children(N_PROCESSES).exit(0).write(&path);

    let done = khard::trace(["--".as_ref(), path.as_os_str()]).end().expect(0);
    let recording = done.recording("storm");
    let mut expected: Calls = set(&harmless);
    expected.extend(set(&["exit_group", "fork", "getppid", "wait4"]));
    assert_eq!(calls(&recording, Phase::Workload), expected);
    assert_whole(&recording);
}

#[test]
fn containers_that_start_as_fast_as_they_can_each_have_their_own_first_call_and_no_others() {
    let n_containers = if wait::in_guest() { 40 } else { 300 };
    let runc = Runc::new();
    let harmless = harmless();
    assert_eq!(harmless.len(), 60);
    for name in &harmless {
        runc.put(name, &Program::new().call(name).exit(0));
    }
    let cgroups: Vec<TestCgroup> =
        (0..n_containers).map(|number| TestCgroup::planned(&format!("storm{number}"))).collect();
    let mut draw = Draw::new(0x6b68_6172_6400_0003);
    let drawn: Vec<&str> = (0..n_containers).map(|_| harmless[draw.below(harmless.len())]).collect();
    for (cgroup, name) in cgroups.iter().zip(&drawn) {
        runc.bundle(cgroup.name(), name, cgroup.path());
    }

    let targets = cgroups.iter().flat_map(|cgroup| ["--cgroup", cgroup.path()]);
    // Where the kernel skips programs, births cost a proof: see `preempts_programs`.
    let accept: &[&str] =
        if preempts_programs() { &["--accept-lossy", "syscalls", "--accept-lossy", "accesses"] } else { &[] };
    let mut khard = khard::trace(targets.chain(["--wait"]).chain(accept.iter().copied()));
    khard.is_ready();
    let waiting = Mutex::new(cgroups.iter());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no panic in there").next();
                    let Some(cgroup) = next else { return };
                    let mut container = Owned::spawn(&mut runc.run(&[], cgroup.name()));
                    assert!(container.wait().success());
                }
            });
        }
    });

    let done = khard.end().expect(0);
    let mut wrong = BTreeMap::new();
    for (cgroup, name) in cgroups.iter().zip(&drawn) {
        let recording = done.recording(cgroup.name());
        if !preempts_programs() {
            assert_whole(&recording);
        }
        let seen = calls(&recording, Phase::Workload);
        let first = recording.syscalls().values().filter_map(|seen| {
            let witness = seen.in_phase(Phase::Workload)?.witness.as_ref()?;
            Some((witness.time_ns, witness.exe.clone()))
        });
        let first = first.min().map(|(_, exe)| exe);
        if seen != set(&[name, "exit_group"])
            || first.as_ref().map(khard_profile::Bytes::as_slice) != Some(name.as_bytes())
        {
            wrong.insert(cgroup.name(), (name, seen, first));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
