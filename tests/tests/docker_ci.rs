//! `khard ci --containers`: the containers that a test run starts, of Docker and of a CRI, against committed profiles.

use std::{fs, path::PathBuf, process::Command};

use khard_profile::recording::Ended;
use khard_tests::{
    docker::{Docker, IMAGE, IMAGE_NAME, SLEEP},
    khard::{self, Done, files_below},
    kubelet::PodSpec,
    node::{BUSYBOX, Node, sleeper, unique},
    observed::all_calls,
};
use khard_user::cgroup::{self, CgroupTree};
use tempfile::TempDir;

/// A project whose tests start containers: one that Docker names, one with a name, and a pod.
struct Project {
    dir: TempDir,
    docker: Docker,
    pod: String,
}

impl Project {
    fn new() -> Self {
        let (dir, docker, pod) = (tempfile::tempdir().unwrap(), Docker::start(), unique("ci"));
        let script = format!(
            "set -e\n\
             docker run --rm --network none {IMAGE} sh -c 'cat /etc/none; mkdir /tmp/a' || true\n\
             docker run --rm --network none --name worker {IMAGE} sh -c 'sync'\n\
             pod run {pod} --container shell --image {BUSYBOX} -- sh -c 'umask 077; mkdir /tmp/b'\n\
             pod wait {pod}\n\
             pod rm {pod}\n"
        );
        fs::write(dir.path().join("test.sh"), script).unwrap();
        Self { dir, docker, pod }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self) -> Done {
        let _ = fs::remove_dir_all(self.path("khard-ci"));
        let mut command =
            khard::command(["ci", "--baseline", "profiles", "--containers", "--", "sh", "test.sh"]);
        command.current_dir(self.dir.path()).env("DOCKER_HOST", self.docker.endpoint());
        khard::start(&mut command).end()
    }

    /// What is said of the containers: their folders with committed profiles or differences. The clients that the script runs are programs
    /// of many threads, whose calls are a matter of luck: they are its own.
    fn told(&self, done: &Done) -> Vec<String> {
        let names = [IMAGE_NAME.to_owned(), "worker".to_owned(), self.pod_folder()];
        let lines =
            done.stdout.lines().filter(|line| names.iter().any(|name| line.starts_with(name.as_str())));
        lines.map(str::to_owned).collect()
    }

    fn pod_folder(&self) -> String {
        format!("default/{}/shell", self.pod)
    }

    fn accept(&self) {
        let copied =
            Command::new("cp").arg("-r").args([self.path("khard-ci/."), self.path("profiles")]).status();
        assert!(copied.unwrap().success());
    }
}

#[test]
fn each_container_has_profiles_the_next_run_has_no_difference_and_what_is_planted_is_named() {
    let (project, node) = (Project::new(), Node::connect());
    // Containers that were there before are no part of it, whatever they do.
    project.docker.start_container(&["--name", "before"], &SLEEP);
    let before = node.start(PodSpec::new(&unique("before"), sleeper("shell")));
    let first = project.run().expect(1);
    assert_eq!(project.told(&first).len(), 3, "{}", first.stdout);
    for folder in [IMAGE_NAME, "worker", &project.pod_folder()] {
        let path = project.path("khard-ci").join(folder);
        assert!(path.join("seccomp.json").exists(), "{:?}", files_below(&project.path("khard-ci")));
        let recording = khard::recording(&path.join("recording.json"));
        assert!(recording.runs().values().all(|run| run.ended == Ended::SubjectEnded));
    }
    let all = files_below(&project.path("khard-ci"));
    assert!(!all.iter().any(|file| file.contains("before")), "{all:?}");
    project.accept();
    for nth in 0..3 {
        let same = project.run();
        assert_eq!(project.told(&same), [""; 0], "run {nth}: {}", same.stdout);
        project.accept();
    }

    let script = fs::read_to_string(project.path("test.sh")).unwrap();
    fs::write(project.path("test.sh"), script.replace("'sync'", "'sync; ln -s a /tmp/link'")).unwrap();
    let planted = project.run().expect(1);
    let told = project.told(&planted);
    // Before, it needed no file, and had no AppArmor profile.
    let not_compared = "worker has no committed AppArmor profile: it was not compared";
    let is_expected = |line: &String| line.starts_with("worker, ") || line == not_compared;
    assert!(!told.is_empty() && told.iter().all(is_expected), "{}", planted.stdout);
    assert!(planted.stdout.contains("symlink"), "{}", planted.stdout);
    let worker = khard::recording(&project.path("khard-ci/worker/recording.json"));
    assert!(all_calls(&worker).contains("symlink"));
    drop(before);
}

/// The folder of a container's cgroup of version 2.
fn own_cgroup(docker: &Docker, id: &str) -> String {
    let pid = docker.run(["inspect", "--format", "{{.State.Pid}}", id]).parse().unwrap();
    let tree = CgroupTree::find().unwrap();
    tree.dir(&cgroup::of_process(pid).unwrap()).display().to_string()
}

#[test]
fn a_container_that_the_command_leaves_behind_is_recorded_until_the_command_s_end() {
    let (docker, out) = (Docker::start(), tempfile::tempdir().unwrap());
    let before = docker.start_container(&["--name", "before"], &SLEEP);
    // As a node in a container makes its pods, or a container its services: no new container.
    let inside = format!("{}/{}", own_cgroup(&docker, &before), "ab".repeat(32));
    let script = format!(
        "mkdir {inside} && sleep 1 && rmdir {inside}
         docker run -d --network none --name sh {IMAGE} sh -c 'sync; sleep 1000'; sleep 3"
    );
    let mut command = khard::command(["trace", "--floor", "none", "--containers", "-o"]);
    command.arg(out.path()).args(["--", "sh", "-c", &script]).env("DOCKER_HOST", docker.endpoint());
    khard::start(&mut command).end().expect(0);
    // The command has the name already.
    let recording = khard::recording(&out.path().join("sh@docker/recording.json"));
    let run = recording.runs().values().next().unwrap();
    assert!(run.ended == Ended::Running && all_calls(&recording).contains("sync"), "{:?}", run.ended);
    assert_eq!(docker.run(["inspect", "--format", "{{.State.Running}}", "sh"]), "true", "it runs on");
    let all = files_below(out.path());
    assert!(all.iter().all(|file| file.starts_with("sh/") || file.starts_with("sh@docker/")), "{all:?}");
}
