//! Which containers are recorded, as which runs, from when, and what is left running.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _, path::Path};

use khard_profile::recording::{Ended, From, Phase, Recording, Run};
use khard_tests::{
    khard,
    kubelet::PodSpec,
    node::{Node, TestPod, Workload, sleeper, unique},
    observed::phases_of,
    wait,
};

fn runs(recording: &Recording) -> Vec<&Run> {
    recording.runs().values().collect()
}

fn from(run: &Run) -> From {
    run.coverage.syscalls.observed().expect("calls are observed").from
}

/// The container runs on as the same process, and takes commands.
fn runs_on(pod: &TestPod<'_>, container: &str, first_process: u32) {
    assert!(pod.processes(container).contains(&first_process), "{container} is another process");
    assert_eq!(pod.exec(container, &["true"]).status, 0);
}

fn first_process(pod: &TestPod<'_>, container: &str) -> u32 {
    *pod.processes(container).first().expect("a running container")
}

#[test]
fn a_restarted_container_is_one_more_run_in_the_same_folder() {
    let (node, workload) = (Node::connect(), Workload::nginx());
    for handler in Node::handlers() {
        let spec = workload.spec(&handler);
        let mut running = khard::trace(["--pod", &spec.name, "--wait"]);
        running.is_ready();
        let pod = node.start(spec);
        workload.wait_to_serve(&pod, wait::limit()).expect("it serves");
        pod.exec("nginx", &["sync"]);
        pod.restart("nginx");
        workload.wait_to_serve(&pod, wait::limit()).expect("it serves again");
        pod.stop();
        let done = running.end().expect(0);

        let folder = format!("{}/nginx", pod.name());
        let files = ["nginx.apparmor", "recording.json", "seccomp.json", "summary.md"]
            .map(|file| format!("{folder}/{file}"));
        assert_eq!(khard::files_below(&done.out), files);
        let recording = done.recording(&folder);
        let mut attempts = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for run in runs(&recording) {
            let container = run.container.as_ref().expect("a container's run");
            attempts.insert(container.attempt);
            ids.insert(container.container_id.clone());
            assert_eq!((from(run), run.ended), (From::FirstInstruction, Ended::SubjectEnded));
        }
        assert_eq!((attempts, ids.len()), (BTreeSet::from([0, 1]), 2));
        // Both attempts served; only the first was joined.
        let n_runs = |call: &str, phase| {
            let seen =
                recording.syscalls().iter().find(|(key, _)| khard_tests::observed::name(**key) == call);
            seen.and_then(|(_, seen)| seen.in_phase(phase)).map_or(0, |sighting| sighting.runs.len())
        };
        assert_eq!(n_runs("accept4", Phase::Workload), 2);
        assert_eq!(n_runs("sync", Phase::Joiner), 1);
    }
}

#[test]
fn only_the_named_container_of_a_pod_is_recorded() {
    let (node, shared) = (Node::connect(), tempfile::tempdir().unwrap());
    let workload = Workload::two_containers(shared.path());
    let spec = workload.spec("");
    let mut running = khard::trace(["--pod", &spec.name, "--wait", "-c", "side"]);
    running.is_ready();
    let pod = node.start(spec);
    workload.wait_to_serve(&pod, wait::limit()).expect("it serves");
    pod.stop();
    let done = running.end().expect(0);
    let folders: BTreeSet<_> = khard::files_below(&done.out)
        .iter()
        .map(|file| Path::new(file).parent().expect("a folder").to_string_lossy().into_owned())
        .collect();
    assert_eq!(folders, BTreeSet::from([format!("{}/side", pod.name())]));
    assert!(phases_of(&done.recording(&format!("{}/side", pod.name())), "accept").contains(Phase::Workload));
}

#[test]
fn a_container_is_found_by_id_start_of_it_and_name_recorded_from_then_on_and_left_running() {
    let node = Node::connect();
    let name = unique("lone");
    let pod = node.start(PodSpec::new(&unique("attached"), sleeper(&name)));
    let id = pod.container(&name).id.0;
    let process = first_process(&pod, &name);
    for key in [id.as_str(), &id[..12], &name] {
        let mut running = khard::trace(["--container", key]);
        running.says("from now on: it ran before");
        assert_eq!(pod.exec(&name, &["sync"]).status, 0);
        running.signal(libc::SIGINT);
        let done = running.end().expect(0);
        let recording = done.recording(&format!("{}/{name}", pod.name()));
        let runs = runs(&recording);
        let [run] = runs.as_slice() else { panic!("{key}: {} runs", runs.len()) };
        assert_eq!((from(run), run.ended), (From::Late, Ended::Interrupted), "{key}");
        assert_eq!(run.container.as_ref().map(|container| &container.container_id), Some(&id), "{key}");
        assert_eq!(run.joiners, 1, "{key}");
        let sync = phases_of(&recording, "sync");
        assert_eq!(sync.iter().collect::<Vec<_>>(), [Phase::Joiner], "{key}: sync in {sync}");
        runs_on(&pod, &name, process);
    }
}

#[test]
fn ctrl_c_ends_the_recording_of_a_pod_and_leaves_the_pod_running() {
    let (node, workload) = (Node::connect(), Workload::nginx());
    let spec = workload.spec("");
    let mut running = khard::trace(["--pod", &spec.name, "--wait"]);
    running.is_ready();
    let pod = node.start(spec);
    workload.wait_to_serve(&pod, wait::limit()).expect("it serves");
    let process = first_process(&pod, "nginx");
    running.signal(libc::SIGINT);
    let done = running.end().expect(0);
    runs_on(&pod, "nginx", process);
    workload.wait_to_serve(&pod, wait::limit()).expect("it still serves");
    let folder = format!("{}/nginx", pod.name());
    let recording = done.recording(&folder);
    let [run] = runs(&recording)[..] else { panic!("one run") };
    assert_eq!((from(run), run.ended), (From::FirstInstruction, Ended::Interrupted));
    // Everything is written, for its owner alone.
    for file in ["recording.json", "seccomp.json", "summary.md"] {
        let mode = done.out.join(&folder).join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}
