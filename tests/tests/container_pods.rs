//! Pods that are made through a real CRI as kubelet makes them: recorded from before they are there, and started again
//! under the profiles that were written.

use std::{collections::BTreeSet, fs};

use khard_profile::recording::{Coverage, From, Phase, Proof, Recording};
use khard_tests::{
    khard,
    node::{Agent, Node, Workload, status_field},
    observed::{calls, phases_of},
    recorded::Recorded,
    wait,
};

/// Every container has its folder with all files; the pause container has none.
fn every_container_has_its_files(recorded: &Recorded, workload: &Workload) {
    let mut expected = Vec::new();
    for container in workload.containers() {
        let apparmor = format!("{container}.apparmor");
        for file in ["recording.json", "seccomp.json", "summary.md", &apparmor] {
            expected.push(format!("{}/{container}/{file}", recorded.pod));
        }
    }
    expected.sort();
    assert_eq!(khard::files_below(&recorded.out()), expected);
}

/// One run, from its first instruction, with nothing lost and a proof of that.
fn the_recording_is_proved_whole(recording: &Recording, container: &str, handler: &str) {
    let runs: Vec<_> = recording.runs().values().collect();
    let [run] = runs.as_slice() else { panic!("{container}: {} runs", runs.len()) };
    let Coverage::Exact(observed) = &run.coverage.syscalls else { panic!("{container}: {run:?}") };
    assert_eq!(observed.from, From::FirstInstruction, "{container}");
    assert!(observed.lost.is_empty(), "{container}: {observed:?}");
    assert!(matches!(observed.proof, Proof::Complete { .. }), "{container}: {observed:?}");
    let runtime = run.runtime.as_ref().expect("a container has a runtime");
    assert_eq!((runtime.name.as_str(), runtime.handler.as_str()), (handler, handler), "{container}");
    assert!(runtime.version.is_some(), "{container}: {runtime:?}");
    let of = run.container.as_ref().expect("it is a container");
    assert_eq!(of.attempt, 0, "{container}");
    let workload = calls(recording, Phase::Workload);
    assert!(workload.contains("exit_group") && workload.len() >= 10, "{container}: {workload:?}");
    assert!(calls(recording, Phase::Runtime).contains("execve"), "{container}");
}

/// The whole way of one workload, with every handler.
fn recorded_and_confined(workload: &Workload, check: impl Fn(&Recorded)) {
    let node = Node::connect();
    for handler in Node::handlers() {
        let recorded = Recorded::new(&node, workload, &handler, &[]);
        every_container_has_its_files(&recorded, workload);
        for container in workload.containers() {
            the_recording_is_proved_whole(&recorded.recording(&container), &container, &handler);
        }
        check(&recorded);
        works_under_its_profiles(&node, workload, &handler, &recorded);
        nothing_is_refused(&node, workload, &handler, &recorded);
    }
}

/// The pod starts, serves and answers the same, with a filter in every process.
fn works_under_its_profiles(node: &Node, workload: &Workload, handler: &str, recorded: &Recorded) {
    let pod = node.start(workload.confined(handler, |container| recorded.profile_path(container)));
    workload.wait_to_serve(&pod, wait::limit()).expect("it serves under its profile");
    let mut answers = workload.ask(&pod).expect("it answers under its profile");
    let mut n_processes = 0;
    for container in workload.containers() {
        for pid in pod.processes(&container) {
            // One that has gone meanwhile has none.
            if let Some(mode) = status_field(pid, "Seccomp") {
                assert_eq!(mode, "2", "process {pid} of {container}");
                n_processes += 1;
            }
        }
    }
    assert!(n_processes > 0);
    answers.extend(workload.stop(&pod).expect("it stops under its profile"));
    assert_eq!(answers, recorded.answers);
}

/// The same under profiles that differ in one thing: who refuses a call writes that down.
fn nothing_is_refused(node: &Node, workload: &Workload, handler: &str, recorded: &Recorded) {
    let (agent, dir) = (Agent::start(), tempfile::tempdir().unwrap());
    let path = |container: &str| dir.path().join(container);
    for container in workload.containers() {
        let watched = agent.watch(&recorded.profile(&container), |_| true);
        fs::write(path(&container), watched.to_string()).unwrap();
    }
    let pod = node.start(workload.confined(handler, path));
    workload.wait_to_serve(&pod, wait::limit()).expect("it serves while it is watched");
    workload.ask(&pod).expect("it answers while it is watched");
    assert_eq!(agent.refused(), [], "refused under {handler}");
    // The witness itself is there: it sees what is outside of the profile.
    let container = workload.containers().pop().expect("a pod has a container");
    pod.exec(&container, &["unshare", "-U", "true"]);
    let refused = agent.refused();
    assert!(refused.iter().any(|refused| refused.call == "unshare"), "{refused:?}");
    workload.stop(&pod).expect("it stops while it is watched");
    assert_eq!(agent.refused(), refused, "refused at the end under {handler}");
}

#[test]
fn nginx_works_the_same_under_the_profile_of_its_recording() {
    recorded_and_confined(&Workload::nginx(), |recorded| {
        let recording = recorded.recording("nginx");
        let workload = calls(&recording, Phase::Workload);
        assert!(workload.contains("accept4") && workload.contains("sendfile"), "{workload:?}");
        the_shell_is_a_joiner(&recording, 1);
    });
}

#[test]
fn redis_works_the_same_under_the_profile_of_its_recording() {
    recorded_and_confined(&Workload::redis(), |recorded| {
        let recording = recorded.recording("redis");
        let workload = calls(&recording, Phase::Workload);
        assert!(workload.contains("epoll_wait") && workload.contains("rename"), "{workload:?}");
        // redis-cli connects, which the server does not.
        let phases = phases_of(&recording, "connect");
        assert!(phases.contains(Phase::Joiner) && !phases.contains(Phase::Workload), "{phases}");
        the_shell_is_a_joiner(&recording, 2);
    });
}

#[test]
fn a_pod_of_two_containers_and_an_init_container_works_the_same_under_its_profiles() {
    let shared = tempfile::tempdir().unwrap();
    recorded_and_confined(&Workload::two_containers(shared.path()), |recorded| {
        the_shell_is_a_joiner(&recorded.recording("nginx"), 1);
        let (init, side) = (recorded.recording("prepare"), recorded.recording("side"));
        assert_eq!(init.runs().values().map(|run| run.joiners).sum::<u64>(), 0);
        assert!(calls(&init, Phase::Joiner).is_empty());
        // What one container does is in no other's recording.
        assert!(calls(&init, Phase::Workload).contains("mkdir"));
        assert!(!calls(&side, Phase::Workload).contains("mkdir"));
        assert!(calls(&side, Phase::Workload).contains("accept"));
        assert!(!calls(&init, Phase::Workload).contains("accept"));
    });
}

/// What only the exec'd shell does is the joiner's, and what only the server does is not.
fn the_shell_is_a_joiner(recording: &Recording, n_joiners: u64) {
    let run = recording.runs().values().next().expect("a run");
    assert_eq!(run.joiners, n_joiners);
    let sync = phases_of(recording, "sync");
    assert_eq!(sync.iter().collect::<Vec<_>>(), [Phase::Joiner], "sync in {sync}");
    let (joining, joiner) = (calls(recording, Phase::Joining), calls(recording, Phase::Joiner));
    assert!(joining.contains("setns") || joining.contains("execve"), "joining: {joining:?}");
    assert!(joiner.contains("exit_group") && !joiner.contains("setns"), "joiner: {joiner:?}");
    let listen = phases_of(recording, "listen");
    assert_eq!(listen.iter().collect::<Vec<_>>(), [Phase::Workload], "listen in {listen}");
    let seen = recording.syscalls().values().filter_map(|seen| seen.in_phase(Phase::Joiner));
    let exes: BTreeSet<_> =
        seen.filter_map(|seen| Some(seen.witness.as_ref()?.exe.as_slice().to_owned())).collect();
    assert!(exes.contains("busybox".as_bytes()), "{exes:?}");
}

#[test]
fn a_call_outside_of_the_profile_is_refused_under_it_and_succeeds_without_it() {
    let (node, workload) = (Node::connect(), Workload::nginx());
    for handler in Node::handlers() {
        let recorded = Recorded::new(&node, &workload, &handler, &[]);
        let unshare = |spec| {
            let pod = node.start(spec);
            pod.exec("nginx", &["unshare", "-U", "true"])
        };
        let free = unshare(workload.spec(&handler));
        assert_eq!(free.status, 0, "{}", String::from_utf8_lossy(&free.stderr));
        let confined = unshare(workload.confined(&handler, |container| recorded.profile_path(container)));
        assert_ne!(confined.status, 0);
        let said = String::from_utf8_lossy(&confined.stderr).into_owned();
        assert!(said.contains("Operation not permitted"), "{said}");
    }
}
