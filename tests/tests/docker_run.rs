//! `khard trace -- docker run`: the container is recorded, not the client, whatever the command line looks like.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use khard_profile::recording::{Ended, From, Phase, Recording, SeccompInForce, Subject};
use khard_tests::{
    docker::{Docker, IMAGE, IMAGE_NAME, SLEEP},
    khard::{self, Running},
    observed::{all_calls, calls},
};

/// Starts `khard trace ARGS -- docker GLOBAL run --network none REST`.
fn trace(docker: &Docker, args: &[&str], global: &[&str], rest: &[&str], out: &Path) -> Running {
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    command
        .arg(out)
        .args(args)
        .args(["--", "docker"])
        .args(global)
        .args(["run", "--network", "none"])
        .args(rest);
    khard::start(command.env("DOCKER_HOST", docker.endpoint()))
}

fn recording_of(out: &Path, name: &str) -> Recording {
    khard::recording(&out.join(name).join("recording.json"))
}

/// It is a container's recording, with nothing of the client's, which is a Go program with a network.
fn is_the_container_s(recording: &Recording) {
    let workload = calls(recording, Phase::Workload);
    assert!(workload.contains("sync"), "{workload:?}");
    let all = all_calls(recording);
    assert!(calls(recording, Phase::Runtime).contains("pivot_root"), "{all:?}");
    for of_client in ["socket", "connect", "epoll_create1"] {
        assert!(!workload.contains(of_client), "{of_client} is the client's: {workload:?}");
    }
    let run = recording.runs().values().next().expect("a run");
    assert_eq!(run.coverage.syscalls.observed().expect("observed").from, From::FirstInstruction);
    assert_eq!(recording.runs().len(), 1);
}

#[test]
fn a_name_that_the_user_gives_is_the_container_s_folder() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let rest = ["--rm", "-h", "host", "--name", "docker", IMAGE, "sync"];
    trace(&docker, &[], &[], &rest, out.path()).end().expect(0);
    is_the_container_s(&recording_of(out.path(), "docker"));
    trace(&docker, &["--name", "web"], &[], &rest, out.path()).end().expect(0);
    is_the_container_s(&recording_of(out.path(), "web"));
}

#[test]
fn the_container_is_recorded_with_its_image_and_confinement_and_its_status_is_passed_on() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let rest = ["--rm", IMAGE, "sh", "-c", "echo said; sync; exit 7"];
    let done = trace(&docker, &[], &[], &rest, out.path()).end().expect(7);
    assert_eq!(done.stdout, "said\n");
    assert!(done.stderr.contains("recording the container that docker run starts, not the client"));
    let recording = recording_of(out.path(), IMAGE_NAME);
    is_the_container_s(&recording);
    let Subject::Docker { name, .. } = recording.subject() else { panic!("{:?}", recording.subject()) };
    assert_eq!(name, IMAGE_NAME);
    let run = recording.runs().values().next().unwrap();
    assert_eq!(run.ended, Ended::SubjectEnded);
    let container = run.container.as_ref().expect("it is one");
    assert_eq!((container.image.as_str(), container.image_id.get(..7)), (IMAGE, Some("sha256:")));
    assert!(container.name.contains('_') && container.pod.is_empty(), "{container:?}");
    let seccomp = &run.confinement.seccomp;
    assert!(matches!(seccomp, SeccompInForce::RuntimeDefault { .. }), "{seccomp:?}");
    assert_eq!(run.confinement.privileged, Some(false));
    let runtime = run.runtime.as_ref().expect("Docker's");
    let manager = runtime.manager.as_deref().unwrap_or_default();
    assert!(runtime.name == "runc" && manager.starts_with("docker 2"), "{runtime:?}");
    let page = fs::read_to_string(out.path().join(IMAGE_NAME).join("summary.md")).unwrap();
    assert!(page.contains(&format!("`{IMAGE}`")) && page.contains(&container.name), "{page}");
    // The folder that Docker wrote the id to is gone.
    let left = std::env::temp_dir().join(format!("khard-docker-run-{}", done.pid()));
    assert!(!left.exists());
}

#[test]
fn a_detached_container_is_recorded_to_its_end_and_the_user_s_own_cidfile_is_used() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let cidfile = out.path().join("cid");
    let cid = cidfile.to_str().unwrap();
    let global = ["--log-level", "error", "-H", &docker.endpoint()];
    let words = [&["-d", "--name", "web", "--cidfile", cid, IMAGE][..], &SLEEP].concat();
    let mut running = trace(&docker, &[], &global, &words, out.path());
    running.says("recording web from its first instruction");
    let id = fs::read_to_string(&cidfile).unwrap();
    docker.run(["exec", "web", "mkdir", "/tmp/made"]);
    docker.run(["stop", "web"]);
    let done = running.end().expect(0);
    assert_eq!(done.stdout.trim(), id);
    let recording = recording_of(out.path(), "web");
    assert!(calls(&recording, Phase::Joiner).contains("mkdir"));
    let container = recording.runs().values().next().unwrap().container.clone().unwrap();
    assert_eq!((container.container_id, container.name), (id, "web".to_owned()));
}

#[test]
fn a_container_that_is_not_made_or_does_not_start_ends_khard_with_docker_s_status() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let of = |rest: &[&str]| trace(&docker, &[], &[], rest, out.path()).end();
    // Nothing was recorded, which is khard's failure too.
    let done = of(&["--pull", "never", "no-such-image"]).expect(125);
    assert!(done.stderr.contains("No such image"), "{}", done.stderr);
    let done = of(&[IMAGE, "no-such-program"]);
    assert!(done.stderr.contains("no-such-program"), "{}", done.stderr);
    assert!(matches!(done.code, 125 | 127), "{}", done.code);
    // One that is there already is refused by Docker, and not taken for the new container's.
    let stale = out.path().join("stale");
    fs::write(&stale, docker.run(["create", IMAGE])).unwrap();
    let done = of(&["--cidfile", stale.to_str().unwrap(), IMAGE, "true"]).expect(125);
    assert!(done.stderr.to_lowercase().contains("container id file found"), "{}", done.stderr);
}

#[test]
fn a_script_that_calls_docker_stays_a_command() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let bin = tempfile::tempdir().unwrap();
    let script: PathBuf = bin.path().join("docker-run");
    fs::write(&script, format!("#!/bin/sh\ndocker run --rm --network none {IMAGE} sync\n")).unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    command.arg(out.path()).arg("--").arg(&script).env("DOCKER_HOST", docker.endpoint());
    let done = khard::start(&mut command).end().expect(0);
    assert!(!done.stderr.contains("not the client"));
    let recording = recording_of(out.path(), "docker-run");
    assert!(matches!(recording.subject(), Subject::Command { .. }));
    assert!(calls(&recording, Phase::Workload).contains("connect"), "the client's calls are its own");
}

#[test]
fn under_its_profile_the_container_does_the_same_and_what_it_did_not_do_is_refused() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    // The filter is seen once the container has begun: what it refuses is looked for from then on.
    let work = "sleep 3; mkdir /tmp/a && echo text > /tmp/a/b && cat /tmp/a/b && rm -r /tmp/a && sync";
    let unconfined = ["--rm", "--security-opt", "seccomp=unconfined", IMAGE, "sh", "-c", work];
    let mut command = khard::command(["trace", "-o"]);
    command.arg(out.path()).args(["--", "docker", "run", "--network", "none"]).args(unconfined);
    khard::start(command.env("DOCKER_HOST", docker.endpoint())).end().expect(0);
    let profile = out.path().join(IMAGE_NAME).join("seccomp.json");
    let under = format!("seccomp={}", profile.display());

    // The same again, recorded under the profile: nothing is refused.
    let again = out.path().join("again");
    let same = ["--rm", "--security-opt", &under, IMAGE, "sh", "-c", work];
    let done = trace(&docker, &[], &[], &same, &again).end().expect(0);
    assert_eq!(done.stdout, "text\n");
    let recording = recording_of(&again, IMAGE_NAME);
    assert_eq!(recording.refused_calls().len(), 0, "{:?}", recording.refused_calls());
    let run = recording.runs().values().next().unwrap();
    let seccomp = &run.confinement.seccomp;
    assert!(matches!(seccomp, SeccompInForce::Unknown { n_filters: Some(1) | None }), "{seccomp:?}");
    assert!(run.coverage.refused_syscalls.observed().is_some(), "{:?}", run.coverage.refused_syscalls);

    // A call that was not made is refused, and only that one.
    let planted = format!("{work}; ln -s a /tmp/link && echo linked");
    let more = ["--rm", "--security-opt", &under, IMAGE, "sh", "-c", &planted];
    let refused = out.path().join("refused");
    let done = trace(&docker, &[], &[], &more, &refused).end().expect(1);
    assert!(done.stdout == "text\n" && done.stderr.contains("Operation not permitted"), "{}", done.stderr);
    let recording = recording_of(&refused, IMAGE_NAME);
    let names: Vec<_> =
        recording.refused_calls().keys().map(|call| khard_tests::observed::name(call.key)).collect();
    assert_eq!(names, ["symlink"]);
}
