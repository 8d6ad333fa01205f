//! A containerd of xtask's own on this machine: owns its start and its end. It has its own folder, socket, mount and
//! network namespaces, so that nothing of the machine's own containers, networks or files is touched; when it ends, so
//! do its pods, with their cgroups.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{config, images, processes};
use crate::{
    command::{CommandExt as _, terminate},
    interrupt,
    paths::Paths,
    setup::{self, Purpose},
};

const START_LIMIT: Duration = Duration::from_mins(1);
/// `capabilities.h`: needed for a negative `oom_score_adj` and for raising limits.
const CAP_SYS_RESOURCE: u32 = 24;

/// A running containerd. Dropping it ends it and all its pods.
pub(crate) struct Containerd {
    process: Child,
    dir: PathBuf,
}

impl Containerd {
    /// Starts one, with the images in it; returns when its CRI answers.
    pub(crate) fn start(paths: &Paths) -> Result<Self> {
        setup::ensure(paths, &[Purpose::Containers])?;
        if !setup::is_root() {
            bail!("containers need root");
        }
        let images = images::archive(paths)?;
        let parent = paths.state_dir("containerd")?;
        sweep(&parent)?;
        let dir = parent.join(std::process::id().to_string());
        fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let socket = dir.join("containerd.sock");
        if socket.as_os_str().len() + ".ttrpc".len() >= 108 {
            bail!(
                "the path {} is too long for a socket (unix(7)); set KHARD_STATE to a shorter one",
                socket.display()
            );
        }
        let cni = dir.join("cni");
        fs::create_dir(&cni)?;
        fs::write(cni.join("10-khard.conflist"), config::network(&dir.join("ipam")))?;
        let text = config::containerd(&config::Config {
            cni_conf_dir: &cni,
            cni_bin_dir: cni_programs(),
            restrict_oom_score_adj: !has_capability(CAP_SYS_RESOURCE),
        });
        fs::write(dir.join("config.toml"), text)?;

        // Folders whose place is fixed get an empty one here: shims' sockets, names of network namespaces, CNI's cache.
        let script = r#"
            for place in /run/containerd /run/netns /var/lib/cni; do
                mkdir -p "$place"
                mount -t tmpfs tmpfs "$place"
            done
            ip link set lo up
            exec containerd --config "$1/config.toml" --root "$1/root" --state "$1/state" --address "$1/containerd.sock""#;
        let process = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-euc", script, "sh"])
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(File::create(dir.join("log"))?)
            .stderr(File::options().append(true).open(dir.join("log"))?)
            .spawn_owned()?;
        let mut containerd = Self { process, dir };
        containerd.wait_until_ready()?;
        Command::new("ctr")
            .args([
                "--address",
                &containerd.socket().display().to_string(),
                "-n",
                "k8s.io",
                "image",
                "import",
            ])
            .arg(&images)
            .read()
            .context("importing the images")?;
        Ok(containerd)
    }

    /// The process in whose namespaces its pods are.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where its CRI answers.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    /// A command where containerd is, as on a node: in its mount and network namespaces, in the folder `dir`, with
    /// what it needs to know in its environment.
    pub(crate) fn command(&self, dir: &Path, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(self.namespaces())
            // Entering a mount namespace goes to its root (setns(2)).
            .args(["--", "sh", "-c", r#"cd "$0" && exec "$@""#])
            .arg(dir)
            .arg(program)
            .env("CONTAINER_RUNTIME_ENDPOINT", format!("unix://{}", self.socket().display()))
            .env("CONTAINERD_ADDRESS", self.socket())
            .env("KHARD_CONTAINERD_PID", self.process.id().to_string());
        command
    }

    /// nsenter's options that lead to its pods.
    fn namespaces(&self) -> [String; 2] {
        let pid = self.process.id();
        [format!("--mount=/proc/{pid}/ns/mnt"), format!("--net=/proc/{pid}/ns/net")]
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            // The CRI plugin's last words before it answers requests; ctr cannot ask it.
            if log.contains("Start streaming server") && log.contains("containerd successfully booted") {
                return Ok(());
            }
            interrupt::check()?;
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("containerd does not start:\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        terminate(&mut self.process);
        end_pods(&self.dir);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The runtimes with which pods start on this machine.
pub(crate) fn runtimes() -> &'static str {
    // crun refuses v1 controllers beside v2 (seen with 1.8.1), and wants to raise limits.
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if unified && has_capability(CAP_SYS_RESOURCE) { "runc,crun" } else { "runc" }
}

/// Ends what an xtask left behind that was killed: its folder is there, its process is not.
fn sweep(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent)?.flatten() {
        let alive = Path::new("/proc").join(entry.file_name()).exists();
        if !alive {
            end_pods(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Kills the shims of the containerd in `dir` and all their descendants, and removes the pods' cgroups. A shim is known
/// by the socket that it was given.
fn end_pods(dir: &Path) {
    let socket = dir.join("containerd.sock").into_os_string().into_encoded_bytes();
    let is_shim = |arguments: &[Vec<u8>]| {
        arguments.first().is_some_and(|program| program.windows(15).any(|part| part == b"containerd-shim"))
            && arguments.contains(&socket)
    };
    // Shims stay in our own cgroups; their containers do not.
    let ours = processes::cgroups(std::process::id().cast_signed());
    let mut cgroups = BTreeSet::new();
    // Again until none is left: a shim may have been starting a process while the list was read.
    loop {
        let doomed = processes::with_descendants(is_shim);
        if doomed.is_empty() {
            break;
        }
        for pid in doomed {
            cgroups.extend(processes::cgroups(pid).into_iter().filter(|path| !ours.contains(path)));
            // SAFETY: kill has no memory effects. The process is a shim of our containerd or descends from one.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(20));
    }
    processes::remove_cgroups(&cgroups);
}

fn cni_programs() -> &'static Path {
    let debian = Path::new("/usr/lib/cni");
    if debian.join("bridge").exists() { debian } else { Path::new("/opt/cni/bin") }
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> number & 1 == 1)
}

/// The verb `containerd`: runs a command beside a containerd, or waits for Ctrl-C.
pub(crate) fn verb(paths: &Paths, command: &[String]) -> Result<u8> {
    let containerd = Containerd::start(paths)?;
    if let [program, arguments @ ..] = command {
        let status = containerd
            .command(&env::current_dir()?, program)
            .args(arguments)
            .env("PATH", path(paths)?)
            .status_interruptible()?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255));
    }
    eprintln!("xtask: containerd runs until Ctrl-C");
    println!("export CONTAINER_RUNTIME_ENDPOINT=unix://{}", containerd.socket().display());
    println!("# where its pods are: nsenter {} COMMAND", containerd.namespaces().join(" "));
    while interrupt::received().is_none() {
        thread::sleep(Duration::from_millis(50));
    }
    Ok(0)
}

/// PATH with khard's programs first, if they are built.
fn path(paths: &Paths) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(paths.target.join("release")).chain(env::split_paths(&path));
    Ok(env::join_paths(dirs)?)
}
