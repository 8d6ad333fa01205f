//! A Docker of a test's own: a daemon with its own folders and socket, with one image, that ends with the test. Knows nothing of khard.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::{
    process::{Owned, is_alive, signal_to},
    wait,
};

/// The image that every daemon has: busybox, and a shell by default.
pub const IMAGE: &str = "registry.example:5000/khard/busybox:1";
/// What its containers are called by where nobody named them.
pub const IMAGE_NAME: &str = "busybox";
/// A shell that sleeps until it is asked to end.
pub const SLEEP: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"];

/// A running dockerd.
pub struct Docker {
    daemon: Owned,
    dir: TempDir,
}

impl Docker {
    /// Starts one; returns when it answers and has the image.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(dir.path().join("log")).expect("a file in a new folder");
        let mut command = Command::new("dockerd");
        command
            .arg("--data-root")
            .arg(dir.path().join("data"))
            .arg("--exec-root")
            .arg(dir.path().join("exec"))
            .arg("--pidfile")
            .arg(dir.path().join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", dir.path().join("sock").display()))
            // Nothing of the machine's own network is touched.
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log);
        let mut docker = Self { daemon: Owned::spawn(&mut command), dir };
        wait::until("dockerd answers", || {
            let is_running = docker.daemon.is_running();
            assert!(is_running, "dockerd has ended:\n{}", docker.log());
            docker.command(["version"]).output().is_ok_and(|output| output.status.success())
        });
        docker.import();
        docker
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.dir.path().join("sock").display())
    }

    /// Its client.
    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.endpoint()).stdin(Stdio::null());
        command
    }

    /// What its client prints, without the space around; it must succeed.
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        let mut command = self.command(args);
        let Output { status, stdout, stderr } = command.output().expect("docker can be started");
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{command:?}: {status}\n{said}\n{}", self.log());
        String::from_utf8_lossy(&stdout).trim().to_owned()
    }

    /// Starts a container in the background; returns its id.
    pub fn start_container(&self, options: &[&str], command: &[&str]) -> String {
        let words = ["run", "-d", "--network", "none"].iter().chain(options).chain(&[IMAGE]).chain(command);
        self.run(words.copied())
    }

    fn import(&self) {
        let root = self.dir.path().join("image");
        for folder in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(folder)).expect("a folder in a new one");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("Debian's busybox-static");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs").stdout;
        for applet in String::from_utf8_lossy(&list).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).expect("a link in a new folder");
        }
        let archive = self.dir.path().join("image.tar");
        let tar = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg(".").status();
        assert!(tar.is_ok_and(|status| status.success()), "tar fails");
        let archive = archive.display().to_string();
        self.run(["import", "--change", r#"CMD ["sh"]"#, &archive, IMAGE]);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The process in one of the daemon's own files.
    fn pid_in(&self, file: &str) -> Option<u32> {
        read_pid(&self.dir.path().join(file))
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.command(["ps", "--all", "--quiet"]).output().map(|output| output.stdout);
        let all = String::from_utf8_lossy(&all.unwrap_or_default()).into_owned();
        if !all.trim().is_empty() {
            let _ = self.command(["rm", "--force"].into_iter().chain(all.split_whitespace())).output();
        }
        // It ends its containerd itself when it is asked to; a killed one does not.
        let containerd = self.pid_in("exec/containerd/containerd.pid");
        self.daemon.signal(libc::SIGTERM);
        self.daemon.wait();
        if let Some(pid) = containerd.filter(|pid| is_alive(*pid)) {
            signal_to(pid, libc::SIGKILL);
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.dir.path().to_string_lossy().into_owned();
        let left: Vec<PathBuf> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| point.starts_with(&own))
            .map(PathBuf::from)
            .collect();
        for point in left.iter().rev() {
            let _ = Command::new("umount").arg(point).status();
        }
    }
}
