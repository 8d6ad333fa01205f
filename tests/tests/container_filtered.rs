//! Pods that run under a seccomp filter while they are recorded: the runtime's calls under it are told from those of
//! the programs that it starts, at start and at every exec.

use std::{collections::BTreeSet, fs, path::Path};

use khard_profile::recording::{Phase, Recording, SeccompInForce};
use khard_tests::{
    khard,
    kubelet::{ContainerSpec, PodSpec, Seccomp},
    node::{Node, sleeper, unique},
    observed::{Calls, calls, name},
};

/// Allows everything, but is a filter. One call is written to the audit log, so that the profile is not empty.
const FILTER: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_LOG"}]}"#;

/// Executables of the first callers in a phase, and who else is meant by them.
fn executables(recording: &Recording, phase: Phase) -> BTreeSet<String> {
    let sightings = recording.syscalls().values().filter_map(|seen| seen.in_phase(phase));
    sightings
        .filter_map(|sighting| sighting.witness.as_ref())
        .map(|witness| String::from_utf8_lossy(witness.exe.as_slice()).into_owned())
        .collect()
}

/// Records a pod in which two commands are run, and returns its recording and what khard said.
fn with_two_execs(node: &Node, handler: &str, seccomp: Seccomp) -> (Recording, String) {
    let container = ContainerSpec { seccomp, ..sleeper("shell") };
    let spec =
        PodSpec { runtime_handler: handler.to_owned(), ..PodSpec::new(&unique("filtered"), container) };
    let mut running = khard::trace(["--pod", &spec.name, "--wait"]);
    running.is_ready();
    let pod = node.start(spec);
    // Each makes a call that neither the other nor a runtime makes.
    assert_eq!(pod.exec("shell", &["sync"]).status, 0);
    assert_eq!(pod.exec("shell", &["mkdir", "/tmp/made"]).status, 0);
    pod.stop();
    let done = running.end().expect(0);
    (done.recording(&format!("{}/shell", pod.name())), done.stderr)
}

#[test]
fn two_execs_under_a_filter_are_told_from_the_runtime_that_starts_them() {
    let node = Node::connect();
    let dir = tempfile::tempdir().unwrap();
    let filter = dir.path().join("filter.json");
    fs::write(&filter, FILTER).unwrap();
    for handler in Node::handlers() {
        let (free, _) = with_two_execs(&node, &handler, Seccomp::Unconfined);
        let (filtered, said) = with_two_execs(&node, &handler, Seccomp::Localhost(filter.clone()));

        // The programs' own calls are the same and complete, whoever came first.
        for phase in [Phase::Workload, Phase::Joiner] {
            assert_eq!(calls(&filtered, phase), calls(&free, phase), "{phase} under {handler}");
            assert_eq!(executables(&filtered, phase), BTreeSet::from(["busybox".to_owned()]), "{phase}");
        }
        let joiner = calls(&filtered, Phase::Joiner);
        assert!(joiner.contains("sync") && joiner.contains("mkdir"), "{joiner:?}");
        for (call, seen) in filtered.syscalls() {
            if matches!(name(*call).as_str(), "sync" | "mkdir") {
                assert_eq!(seen.phases().iter().collect::<Vec<_>>(), [Phase::Joiner], "{}", name(*call));
            }
        }

        // The runtime's calls, before the filter and under it. When it enters the cgroup of what it joins, and so what
        // is seen of it before the filter, is a matter of luck; what it does under the filter is not.
        for (before, under) in
            [(Phase::Runtime, Phase::RuntimeFiltered), (Phase::Joining, Phase::JoiningFiltered)]
        {
            assert_eq!(calls(&free, under), Calls::new(), "{handler} without a filter");
            assert!(!calls(&filtered, before).contains("execve"), "{before} of {handler}");
            assert!(calls(&filtered, under).contains("execve"), "{under} of {handler}");
            for phase in [before, under] {
                assert!(!executables(&filtered, phase).contains("busybox"), "{phase} of {handler}");
            }
        }
        assert!(calls(&filtered, Phase::Runtime).contains("pivot_root"));
        says_that_it_runs_under(&filtered, &said, &filter);
    }
}

#[test]
fn what_the_runtimes_default_refuses_is_listed_with_who_tried() {
    let node = Node::connect();
    for handler in Node::handlers() {
        let container = ContainerSpec { seccomp: Seccomp::RuntimeDefault, ..sleeper("shell") };
        let spec =
            PodSpec { runtime_handler: handler.clone(), ..PodSpec::new(&unique("default"), container) };
        let mut running = khard::trace(["--pod", &spec.name, "--wait"]);
        running.is_ready();
        let pod = node.start(spec);
        running.says("from its first instruction");
        // The filter lets both pass only with CAP_SYS_ADMIN.
        for command in [&["mount", "-t", "tmpfs", "none", "/tmp"][..], &["unshare", "-m", "true"]] {
            let answer = pod.exec("shell", command);
            assert_ne!(answer.status, 0, "{command:?}");
        }
        assert_eq!(pod.exec("shell", &["sync"]).status, 0);
        pod.stop();
        let done = running.end().expect(0);
        let recording = done.recording(&format!("{}/shell", pod.name()));
        let refused: BTreeSet<_> = recording
            .refused_calls()
            .iter()
            .filter(|(_, seen)| seen.in_phase(Phase::Joiner).is_some())
            .map(|(call, _)| (name(call.key), call.errno))
            .collect();
        for call in ["mount", "unshare"] {
            assert!(refused.contains(&(call.to_owned(), 1)), "{handler}: {refused:?}");
            assert!(!calls(&recording, Phase::Joiner).contains(call), "{call} was refused each time");
        }
        assert!(
            !refused.contains(&("sync".to_owned(), 1)) && calls(&recording, Phase::Joiner).contains("sync")
        );
        let run = recording.runs().values().next().unwrap();
        // From the first instruction, unless the container was faster than khard: then that is said.
        assert!(run.coverage.refused_syscalls.observed().is_some(), "{:?}", run.coverage.refused_syscalls);
        let page = fs::read_to_string(done.out.join(pod.name()).join("shell/summary.md")).unwrap();
        assert!(page.contains("`mount (x86_64): EPERM`, joiner, first by `mount` (`busybox`)"), "{page}");
    }
}

/// khard warned, and the recording says so for good.
fn says_that_it_runs_under(recording: &Recording, said: &str, filter: &Path) {
    let path = filter.to_str().expect("a path of letters");
    let warning = said.lines().find(|line| line.contains("runs under the seccomp filter"));
    assert!(warning.is_some_and(|line| line.contains("WARN") && line.contains(path)), "{said}");
    let run = recording.runs().values().next().expect("a run");
    let SeccompInForce::Localhost { path: recorded, n_filters } = &run.confinement.seccomp else {
        panic!("{:?}", run.confinement)
    };
    assert_eq!((recorded.as_slice(), n_filters.unwrap_or(1)), (path.as_bytes(), 1));
    assert!(run.notes.iter().any(|note| note.contains("under a seccomp filter")), "{:?}", run.notes);
}
