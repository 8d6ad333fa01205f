//! `khard check` says what the kernel does: a program under profiles that lack some of what it needs, by libseccomp and runc.

use std::{
    fs,
    path::{Path, PathBuf},
};

use khard_tests::{bundle::Runc, cgroup::TestCgroup, draw::Draw, khard, program::Program, recorded::without};
use serde_json::Value;

/// Profiles, each with other calls taken out, and the seed that draws them.
const N_PROFILES: usize = 200;
const SEED: u64 = 6;

/// With arguments of 0 none of them is answered with EPERM or ENOSYS by the kernel itself.
const CALLS: [&str; 44] = [
    "getpid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getpgrp",
    "gettid",
    "getpgid",
    "getsid",
    "sched_yield",
    "times",
    "alarm",
    "getpriority",
    "umask",
    "getitimer",
    "uname",
    "sysinfo",
    "getrusage",
    "getcwd",
    "dup",
    "fstat",
    "lseek",
    "poll",
    "nanosleep",
    "pipe",
    "epoll_create",
    "epoll_create1",
    "eventfd2",
    "timerfd_create",
    "inotify_init",
    "getgroups",
    "rt_sigpending",
    "sigaltstack",
    "getrandom",
    "madvise",
    "access",
    "readlink",
    "mkdir",
    "chdir",
    "rename",
    "link",
    "truncate",
    "gettimeofday",
];

#[test]
fn check_agrees_with_the_kernel_on_seccomp_profiles_that_lack_rules() {
    let dir = tempfile::tempdir().unwrap();
    let runc = Runc::new();
    let cgroup = TestCgroup::new("checked");
    // What runc itself calls once the filter is in force stays: without it nothing would run.
    let floor = recorded(dir.path(), "nothing", &Program::new().exit(0));
    let floor = khard::json(&floor.join("seccomp.json"));
    let removable: Vec<&str> = CALLS.into_iter().filter(|name| !khard::allows(&floor, name)).collect();
    assert!(removable.len() > 25, "{removable:?}");
    let program =
        CALLS.iter().fold(Program::new(), |program, name| program.counted_call(name)).exit_with_count();
    runc.put("work", &program);
    let own = recorded(dir.path(), "work", &program);
    let whole = khard::json(&own.join("seccomp.json"));
    let mut draw = Draw::new(SEED);
    let mut n_refused = 0;
    for nth in 0..N_PROFILES {
        let n_removed = draw.below(8);
        let removed: Vec<&str> =
            draw.different(n_removed, removable.len()).into_iter().map(|at| removable[at]).collect();
        let profile = removed.iter().fold(whole.clone(), |profile, call| without(&profile, call));
        let id = format!("checked-{nth}");
        runc.bundle_under(&id, "work", cgroup.path(), &profile);
        let status = runc.run(&[], &id).status().expect("runc");
        let by_kernel = status.code().expect("an exit status");
        let by_khard = refused(&dir.path().join("less.json"), &profile, &own);
        assert_eq!(by_khard.len(), usize::try_from(by_kernel).unwrap(), "without {removed:?}: {by_khard:?}");
        assert!(by_khard.iter().all(|name| removed.contains(&name.as_str())), "{removed:?}: {by_khard:?}");
        n_refused += by_khard.len();
    }
    println!("{N_PROFILES} profiles: {n_refused} calls refused, by the kernel and by khard");
    assert!(n_refused > N_PROFILES);
}

/// Records a program of this name; its output folder.
fn recorded(dir: &Path, name: &str, program: &Program) -> PathBuf {
    let path = dir.join(name);
    program.write(&path);
    let mut trace = khard::command(["trace", "--floor", "runc", "-o"]);
    khard::start(trace.arg(dir.join("out")).arg("--").arg(&path)).end().expect(0);
    dir.join("out").join(name)
}

/// What khard says that a profile refuses of the recorded calls.
fn refused(file: &Path, profile: &Value, recording: &Path) -> Vec<String> {
    fs::write(file, profile.to_string()).unwrap();
    let mut check = khard::command(["check", "--json", "--against"]);
    let done = khard::start(check.arg(recording).arg(file)).end();
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let calls = report["program"].as_array().unwrap().iter().filter(|call| call["verdict"] == "refused");
    calls.map(|call| call["name"].as_str().unwrap().to_owned()).collect()
}
