//! Pods by their labels: which are recorded, and how those of one workload are united.

use std::{fs, path::Path};

use khard_profile::recording::{Ended, From, Phase, Recording};
use khard_tests::{
    kernel::accepting_bounds,
    khard::{self, Running, files_below},
    kubelet::PodSpec,
    node::{Node, TestPod, sleeper, unique},
    observed::calls,
    wait,
};

/// A pod of a Deployment: its name ends as the controllers of Kubernetes make it.
fn replica(workload: &str, template: &str, suffix: &str) -> PodSpec {
    let mut spec = PodSpec::new(&format!("{workload}-{template}-{suffix}"), sleeper("shell"));
    let labels = [("app", workload), ("pod-template-hash", template)];
    spec.labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    spec
}

fn trace(out: &Path, args: &[&str]) -> Running {
    let mut command = khard::command(["trace", "--floor", "none"]);
    khard::start(command.args(accepting_bounds()).args(args).arg("-o").arg(out))
}

fn end(pod: &TestPod<'_>, doing: &[&str]) {
    assert_eq!(pod.exec("shell", doing).status, 0);
    pod.stop();
}

/// The recordings below a folder, by their folders' names.
fn recordings(out: &Path) -> Vec<(String, Recording)> {
    let files = files_below(out).into_iter();
    let found = files.filter_map(|file| file.strip_suffix("/recording.json").map(str::to_owned));
    found.map(|name| (name.clone(), khard::recording(&out.join(name).join("recording.json")))).collect()
}

#[test]
fn pods_with_the_labels_are_one_recording_from_their_first_instruction_and_others_are_none() {
    let (node, out) = (Node::connect(), tempfile::tempdir().unwrap());
    let (web, other) = (unique("web"), unique("other"));
    let selector = format!("app={web}");
    let mut khard = trace(out.path(), &["-l", &selector, "--wait", "--unite", "replicas"]);
    khard.is_ready();
    let stranger = node.start(replica(&other, "5d9c", "aaaaa"));
    // One after the other, as in a roll-out that stops all pods first: khard goes on.
    for (template, suffix, call) in [("7d4b9c", "x2x4z", "sync"), ("86f5c", "b7k9q", "umask 077")] {
        let pod = node.start(replica(&web, template, suffix));
        end(&pod, &["sh", "-c", call]);
    }
    end(&stranger, &["sync"]);
    khard.signal(libc::SIGINT);
    khard.end().expect(0);
    let found = recordings(out.path());
    let [(name, recording)] = found.as_slice() else { panic!("{:?}", files_below(out.path())) };
    assert_eq!(*name, format!("{web}/shell"));
    assert_eq!(recording.runs().len(), 2);
    let joiners = calls(recording, Phase::Joiner);
    assert!(joiners.contains("sync") && joiners.contains("umask"), "{joiners:?}");
    for run in recording.runs().values() {
        assert_eq!(run.coverage.syscalls.observed().expect("observed").from, From::FirstInstruction);
    }
}

#[test]
fn without_waiting_it_ends_with_the_last_of_them_and_each_pod_has_its_folder() {
    let (node, out) = (Node::connect(), tempfile::tempdir().unwrap());
    let web = unique("web");
    let pods = ["x2x4z", "b7k9q"].map(|suffix| node.start(replica(&web, "7d4b9c", suffix)));
    let mut khard = trace(out.path(), &["-l", &format!("app in ({web}),!gone")]);
    for pod in &pods {
        khard.says(&format!("recording {}/shell", pod.name()));
    }
    for pod in &pods {
        end(pod, &["sync"]);
    }
    khard.end().expect(0);
    let names: Vec<_> = recordings(out.path()).into_iter().map(|(name, _)| name).collect();
    let mut expected = pods.each_ref().map(|pod| format!("{}/shell", pod.name()));
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn a_ci_run_ends_with_its_command_whatever_pods_it_has_left() {
    let (node, dir) = (Node::connect(), tempfile::tempdir().unwrap());
    let web = unique("web");
    let (begun, go) = (dir.path().join("begun"), dir.path().join("go"));
    let mut command =
        khard::command(["ci", "--baseline", "profiles", "--fail-on", "nothing", "--wait", "-l"]);
    command.arg(format!("app={web}")).args([
        "--",
        "sh",
        "-c",
        "touch $0; until [ -e $1 ]; do sleep 0.1; done",
    ]);
    let mut khard = khard::start(command.args([&begun, &go]).current_dir(dir.path()));
    wait::until("the command runs", || begun.exists());
    let pod = node.start(replica(&web, "7d4b9c", "x2x4z"));
    khard.says(&format!("recording {}/shell", pod.name()));
    assert_eq!(pod.exec("shell", &["sync"]).status, 0);
    fs::write(go, "").unwrap();
    khard.end().expect(0);
    let recording = khard::recording(&dir.path().join("khard-ci").join(&web).join("shell/recording.json"));
    assert!(calls(&recording, Phase::Joiner).contains("sync"));
    assert!(recording.runs().values().all(|run| run.ended == Ended::Running));
}

#[test]
fn labels_that_no_pod_has_are_refused() {
    let (_node, out) = (Node::connect(), tempfile::tempdir().unwrap());
    let done = trace(out.path(), &["-l", &format!("app={}", unique("nobody"))]).end().expect(2);
    assert!(done.stderr.contains("no pod in namespace default has the labels app="), "{}", done.stderr);
    assert!(done.stderr.contains("--wait"), "{}", done.stderr);
    assert_eq!(files_below(out.path()), [""; 0]);
}
