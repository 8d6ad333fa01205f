//! Containers of Docker's as targets, beside a CRI that has others.

use std::{path::Path, process::Command};

use khard_profile::recording::{From, Phase, SeccompInForce};
use khard_tests::{
    docker::{Docker, IMAGE, SLEEP},
    khard::{self, Done, Running},
    kubelet::PodSpec,
    node::{Node, sleeper, unique},
    observed::calls,
};

/// An error of khard's own.
const ERROR: i32 = 2;

/// Starts `khard trace ARGS` where the environment names this Docker, and the tests' CRI.
fn trace(docker: &Docker, args: &[&str], out: &Path) -> Running {
    khard::start(with(docker, &mut khard::command(["trace", "--floor", "none"]), args, out))
}

fn with<'c>(docker: &Docker, command: &'c mut Command, args: &[&str], out: &Path) -> &'c mut Command {
    command.args(args).arg("-o").arg(out).env("DOCKER_HOST", docker.endpoint())
}

fn has_joiner_with_mkdir(out: &Path, name: &str) -> bool {
    let recording = khard::recording(&out.join(name).join("recording.json"));
    calls(&recording, Phase::Joiner).contains("mkdir")
}

#[test]
fn a_running_container_is_recorded_by_name_by_id_and_by_the_start_of_its_id() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let id = docker.start_container(&["--name", "web"], &SLEEP);
    for key in ["web", &id, &id[..12]] {
        let out = out.path().join(key);
        let mut running = trace(&docker, &["--container", key], &out);
        running.says("recording web");
        docker.run(["exec", "web", "mkdir", "-p", "/tmp/made"]);
        running.signal(libc::SIGINT);
        running.end().expect(0);
        assert!(has_joiner_with_mkdir(&out, "web"), "{key}");
        let recording = khard::recording(&out.join("web/recording.json"));
        let run = recording.runs().values().next().unwrap();
        assert_eq!(run.coverage.syscalls.observed().unwrap().from, From::Late);
    }
    assert_eq!(docker.run(["inspect", "--format", "{{.State.Running}}", "web"]), "true", "it runs on");
}

#[test]
fn a_container_that_comes_later_is_recorded_from_its_first_instruction_even_if_it_is_gone_at_once() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let mut running = trace(&docker, &["--container", "later", "--wait"], out.path());
    running.is_ready();
    docker.run(["run", "--rm", "--network", "none", IMAGE, "true"]);
    docker.run(["run", "--rm", "--network", "none", "--name", "later", IMAGE, "sync"]);
    running.end().expect(0);
    let recording = khard::recording(&out.path().join("later/recording.json"));
    assert!(calls(&recording, Phase::Workload).contains("sync"));
    let [run] = recording.runs().values().collect::<Vec<_>>()[..] else { panic!("one run") };
    assert_eq!(run.coverage.syscalls.observed().unwrap().from, From::FirstInstruction);
    let container = run.container.as_ref().expect("it is one");
    assert_eq!((container.name.as_str(), container.image.as_str()), ("later", IMAGE));
    let seccomp = &run.confinement.seccomp;
    assert!(matches!(seccomp, SeccompInForce::RuntimeDefault { .. }), "{seccomp:?}");
}

#[test]
fn a_container_that_was_made_or_has_ended_before_is_recorded_from_its_next_start() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    docker.run(["create", "--network", "none", "--name", "made", IMAGE, "sync"]);
    for folder in ["first", "second"] {
        let out = out.path().join(folder);
        let mut running = trace(&docker, &["--container", "made", "--wait"], &out);
        running.is_ready();
        docker.run(["start", "--attach", "made"]);
        running.end().expect(0);
        let recording = khard::recording(&out.join("made/recording.json"));
        assert!(calls(&recording, Phase::Workload).contains("sync"), "{folder}");
        let run = recording.runs().values().next().unwrap();
        assert_eq!(run.coverage.syscalls.observed().unwrap().from, From::FirstInstruction, "{folder}");
    }
    let ended = trace(&docker, &["--container", "made"], out.path()).end().expect(ERROR);
    assert!(ended.stderr.contains("made has ended") && ended.stderr.contains("--wait"), "{}", ended.stderr);
}

#[test]
fn a_privileged_container_is_said_to_be_one() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let mut running = trace(&docker, &["--container", "strong", "--wait"], out.path());
    running.is_ready();
    // Where the machine itself has not every capability, runc fails to give them: the container is there all the same.
    let mut client =
        docker.command(["run", "--network", "none", "--name", "strong", "--privileged", IMAGE, "sync"]);
    client.status().unwrap();
    // It then has no profile.
    let done: Done = running.end();
    assert!(!done.stderr.contains("runs under"), "{}", done.stderr);
    let recording = khard::recording(&out.path().join("strong/recording.json"));
    let run = recording.runs().values().next().unwrap();
    assert_eq!((run.confinement.privileged, &run.confinement.seccomp), (Some(true), &SeccompInForce::None));
    assert!(run.notes.iter().any(|note| note.contains("privileged")), "{:?}", run.notes);
}

#[test]
fn each_container_is_found_in_the_runtime_that_has_it_and_one_that_neither_has_is_said_to_be_in_none() {
    let (docker, node, out) = (Docker::start(), Node::connect(), tempfile::tempdir().unwrap());
    docker.start_container(&["--name", "web"], &SLEEP);
    let pod = node.start(PodSpec::new(&unique("both"), sleeper("shell")));
    let id = pod.container("shell").id.0;
    let mut running = trace(&docker, &["--container", "web", "--container", &id], out.path());
    running.says("recording web");
    running.says(&format!("recording {}/shell", pod.name()));
    assert_eq!(pod.exec("shell", &["mkdir", "/tmp/made"]).status, 0);
    docker.run(["exec", "web", "mkdir", "/tmp/made"]);
    running.signal(libc::SIGINT);
    running.end().expect(0);
    assert!(has_joiner_with_mkdir(out.path(), "web"));
    assert!(has_joiner_with_mkdir(out.path(), &format!("{}/shell", pod.name())));

    let nobody = trace(&docker, &["--container", "nobody"], out.path()).end().expect(ERROR);
    let asked = "no container has the id or name nobody (asked containerd ";
    assert!(nobody.stderr.contains(asked) && nobody.stderr.contains(", docker 2"), "{}", nobody.stderr);
    let endpoint = docker.endpoint();
    let pods =
        trace(&docker, &["--pod", "web", "--runtime-endpoint", &endpoint], out.path()).end().expect(ERROR);
    assert!(pods.stderr.contains("has no pods"), "{}", pods.stderr);
}
