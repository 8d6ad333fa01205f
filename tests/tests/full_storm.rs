//! A storm of calls by more processes than CPUs, where kernels that preempt tracing programs skip them: it is recorded
//! whole, and with too few programs the loss is bounded and said.

use std::{path::Path, process::Command};

use khard_profile::{
    Bytes,
    recording::{
        AppArmorInForce, Confinement, Ended, Observed, Phase, Proof, Recording, SeccompInForce, Subject,
    },
};
use khard_tests::{
    cgroup::{self, TestCgroup},
    kernel::preempts_programs,
    khard,
    observed::{Calls, all_calls, calls, set},
    process::Owned,
    program::Program,
};
use khard_user::{
    bpf::{AttachChoice, AttachPlan},
    session::{Identity, Session},
    subjects::Subjects,
};
use tempfile::TempDir;

const N_PROCESSES: usize = 8;
/// Between two rare calls of a process.
const N_BUSY: u32 = 20_000;

/// Calls that each come once in the storm: harmless when all arguments are 0, and made by nothing else in it.
const RARE: &str = "
    getsid getpgid sched_get_priority_max sched_get_priority_min ioprio_get getpriority getuid getgid
    geteuid getegid gettid getpgrp alarm getitimer times uname sysinfo getrusage clock_getres
    clock_nanosleep nanosleep sched_getparam sched_getscheduler sched_rr_get_interval getcwd stat lstat
    statfs readlink chdir mkdir rmdir unlink rename link symlink chmod chown lchown truncate utime
    utimes creat mknod mkdirat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat
    getgroups getresuid getresgid capget epoll_create eventfd inotify_init pipe mlock munlock msync
    mincore
";

fn rare() -> Vec<&'static str> {
    RARE.split_whitespace().collect()
}

/// Writes the storm: processes that do nothing but one known call, and now and then a rare one.
fn storm(dir: &TempDir) -> std::path::PathBuf {
    let child = |rare: &[&str]| {
        rare.iter().fold(Program::new(), |program, call| program.calls("getppid", N_BUSY).call(call)).exit(0)
    };
    let rare = rare();
    let shares = rare.chunks(rare.len() / N_PROCESSES);
    let parent = shares.fold(Program::new(), |program, share| program.fork(&child(share)));
    let path = dir.path().join("storm");
    parent.wait_for_children(N_PROCESSES).exit(0).write(&path);
    path
}

fn observed(recording: &Recording) -> &Observed {
    let run = recording.runs().values().next().expect("a run");
    run.coverage.syscalls.observed().expect("system calls were observed")
}

fn missing(recording: &Recording) -> Calls {
    set(&rare()).difference(&all_calls(recording)).cloned().collect()
}

#[test]
fn a_storm_of_eight_processes_on_one_cpu_is_recorded_whole_and_proved() {
    let dir = tempfile::tempdir().unwrap();
    let path = storm(&dir);
    let done = khard::trace(["--", "taskset", "-c", "0", path.to_str().expect("letters")]).end().expect(0);
    let recording = done.recording("taskset");
    assert_eq!(missing(&recording), Calls::new());
    assert!(set(&rare()).is_subset(&calls(&recording, Phase::Workload)));
    let Proof::Complete { misses } = &observed(&recording).proof else {
        panic!("{:?}", observed(&recording))
    };
    println!("misses of each program: {misses:?}");
    // Where one program is skipped, it is another that has seen all.
    if preempts_programs() {
        assert!(misses["sys_enter"] > 0, "{misses:?}");
        assert_eq!(misses["sys_enter_perf"], 0);
    } else {
        assert_eq!(
            misses.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(),
            [("sys_enter", 0)]
        );
    }
}

#[test]
fn one_raw_tracepoint_alone_loses_calls_of_the_storm_where_it_is_preempted_and_says_how_many_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let plan = AttachPlan::only(&["cgroup_mkdir", "cgroup_attach", "task_new", "task_exit", "sys_enter"]);
    let recording = recorded_with(&plan, &storm(&dir));
    let n_lost = missing(&recording).len() as u64;
    let proof = &observed(&recording).proof;
    println!("lost {n_lost} of {} rare calls; {proof:?}", rare().len());
    if preempts_programs() {
        assert!(n_lost > 0, "{proof:?}");
        let Proof::AtMost { lost, .. } = proof else { panic!("{n_lost} lost, {proof:?}") };
        assert!(*lost >= n_lost, "{n_lost} lost, {proof:?}");
        assert!(recording.is_lossy());
    } else {
        assert_eq!((n_lost, matches!(proof, Proof::Complete { .. })), (0, true), "{proof:?}");
    }
}

/// Records a program in a cgroup with the programs of a plan.
fn recorded_with(plan: &AttachPlan, program: &Path) -> Recording {
    let cgroup = TestCgroup::new("storm");
    let identity = Identity {
        subject: Subject::Cgroup { path: Bytes::from(cgroup.path()) },
        label: "storm".to_owned(),
        container: None,
        runtime: None,
        confinement: Confinement {
            no_new_privs: None,
            privileged: None,
            seccomp: SeccompInForce::None,
            apparmor: AppArmorInForce::Unknown,
        },
        init_pid: None,
        notes: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut session =
            Session::start(plan, AttachChoice::None, cgroup::tree()).expect("the programs load and attach");
        let id = cgroup::tree().id(Path::new(cgroup.path())).unwrap().expect("a new cgroup");
        let subject = session.record_command(id, cgroup.path().into(), identity).unwrap();
        let enter = r#"echo $$ > "$0" && exec taskset -c 0 "$1""#;
        let procs = cgroup.dir().join("cgroup.procs");
        let mut child = Owned::spawn(Command::new("sh").args(["-c", enter]).arg(procs).arg(program));
        while child.is_running() {
            session.drain(true);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(child.wait().success());
        session.drain(true);
        session.end(subject, Ended::SubjectEnded).unwrap();
        let mut subjects = Subjects::default();
        while let Some(message) = session.next_message() {
            subjects.take(message).unwrap();
        }
        subjects.recording(&[subject], Ended::SubjectEnded).unwrap().expect("a recording")
    })
}
