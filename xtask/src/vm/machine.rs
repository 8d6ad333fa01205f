//! One guest: owns the QEMU process, the daemons that share folders with it, and their end. What is said over the ports
//! is `session`'s.
//!
//! One emulated CPU at a time (`thread=single`): with several at once QEMU trips over code that the kernel patches while
//! it runs, which attaching BPF programs does ("Oops: int3").

use std::{
    env,
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    console::Console,
    initramfs,
    kernels::{self, Kernel},
};
use crate::{
    command::{CommandExt as _, terminate},
    interrupt,
    paths::Paths,
};

const BUSYBOX: &str = "/bin/busybox";
/// The daemon that shares a folder, in Debian 12 and in later ones (the options are understood by both).
const VIRTIOFSD: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];

/// What a guest is made of.
pub(crate) struct Config<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The root file system's image, which is never changed.
    pub rootfs: &'a Path,
    /// The folder that is `/khard` in the guest, first in PATH.
    pub programs: &'a Path,
    /// The folder that is `/host` in the guest, the working directory there.
    pub share: &'a Path,
    /// Emulated CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u32,
    /// More kernel arguments.
    pub append: &'a str,
    /// A network card, if any.
    pub network: Option<&'a Network>,
    /// A shell on this terminal will be asked for.
    pub interactive: bool,
}

/// A way between a guest and a network namespace of this machine, by QEMU's user networking: the guest has no other.
pub(crate) struct Network {
    /// A process in that namespace.
    pub of_pid: u32,
    /// What is passed on to the guest, as QEMU's `hostfwd` has it.
    pub forward: String,
}

/// A running guest. Dropping it ends it.
pub(crate) struct Machine {
    qemu: Child,
    daemons: Vec<Child>,
    /// Where a shared folder that is on a disk came from.
    share_disk: Option<(PathBuf, PathBuf)>,
    /// What the kernel writes.
    pub console: Console,
    /// The control port, and what commands write.
    pub ports: Ports,
    run_dir: PathBuf,
    interactive: bool,
}

/// The connections to the guest's agent.
pub(crate) struct Ports {
    pub control: UnixStream,
    pub out: UnixStream,
    pub err: UnixStream,
}

impl Machine {
    /// Starts a guest; returns while it boots.
    pub(crate) fn start(paths: &Paths, config: &Config) -> Result<Self> {
        let run_dir = RunDir::new(paths)?;
        let at = |name: &str| run_dir.0.join(name).display().to_string();
        fs::write(at("initrd"), initramfs::make(config.kernel, Path::new(BUSYBOX))?)?;

        let mut qemu = match config.network {
            None => Command::new("qemu-system-x86_64"),
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{}/ns/net", network.of_pid)).arg("qemu-system-x86_64");
                command
                    .args(["-netdev", &format!("user,id=network,hostfwd={}", network.forward)])
                    .args(["-device", "virtio-net-pci,netdev=network,romfile="]);
                command
            }
        };
        let acceleration = env::var("KHARD_VM_ACCEL").unwrap_or_else(|_| "tcg,thread=single".to_owned());
        qemu.args(["-machine", "q35,memory-backend=memory", "-accel", &acceleration, "-cpu", "max"])
            .args(["-smp", &config.cpus.to_string(), "-m", &format!("{}M", config.memory_mib)])
            .args([
                "-object",
                &format!("memory-backend-memfd,id=memory,share=on,size={}M", config.memory_mib),
            ])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(config.kernel.vmlinux())
            .args(["-initrd", &at("initrd")])
            .args(["-serial", &format!("file:{}", at("console"))])
            .args([
                "-drive",
                &format!("file={},format=raw,if=virtio,cache=unsafe,snapshot=on", config.rootfs.display()),
            ])
            .args([
                "-drive",
                &format!("file={},format=raw,if=virtio,readonly=on", config.kernel.modules_disk().display()),
            ])
            .args(["-device", "virtio-serial"]);
        for port in ["control", "out", "err"] {
            qemu.args(["-chardev", &format!("socket,id={port},path={},server=on,wait=off", at(port))])
                .args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        if config.interactive {
            qemu.args([
                "-chardev",
                "stdio,id=terminal,signal=off",
                "-device",
                "virtconsole,chardev=terminal",
            ]);
        } else {
            qemu.stdin(Stdio::null()).stdout(Stdio::null());
        }

        let mut daemons = Vec::new();
        let mut share_disk = None;
        let virtiofsd = VIRTIOFSD.iter().find(|path| Path::new(path).exists());
        for (tag, folder) in [("khard", config.programs), ("host", config.share)] {
            let folder =
                folder.canonicalize().with_context(|| format!("cannot share {}", folder.display()))?;
            if let Some(program) = virtiofsd {
                daemons.push(share(&run_dir.0, program, tag, &folder)?);
                qemu.args(["-chardev", &format!("socket,id=fs-{tag},path={}", at(tag))])
                    .args(["-device", &format!("vhost-user-fs-pci,chardev=fs-{tag},tag={tag}")]);
            } else {
                let disk = run_dir.0.join(tag);
                copy_to_disk(&folder, &disk)?;
                qemu.args(["-drive", &format!("file={},format=raw,if=virtio,cache=unsafe", disk.display())]);
                if tag == "host" {
                    share_disk = Some((disk, folder));
                }
            }
        }
        // panic=-1 and -no-reboot end QEMU at a panic; an oops becomes one, since nothing after it can be trusted.
        // A busy machine starves the guest, so that a lock-up is one only after a minute.
        let disks = if virtiofsd.is_some() { "" } else { "khard.disks" };
        let append = format!(
            "console=ttyS0 quiet loglevel=5 panic=-1 reboot=t oops=panic watchdog_thresh=30 \
             khard.shares=khard,host {disks} {}",
            config.append
        );
        qemu.args(["-append", &append])
            .stderr(File::create(at("qemu.log"))?)
            // QEMU keeps what the guest writes to its disks here.
            .env("TMPDIR", &run_dir.0);
        let mut machine = Self {
            qemu: if config.interactive { qemu.spawn_on_terminal()? } else { qemu.spawn_owned()? },
            daemons,
            share_disk,
            console: Console::new(run_dir.0.join("console")),
            ports: Ports { control: pair()?, out: pair()?, err: pair()? },
            run_dir: run_dir.keep(),
            interactive: config.interactive,
        };
        machine.ports = Ports {
            control: machine.connect("control")?,
            out: machine.connect("out")?,
            err: machine.connect("err")?,
        };
        Ok(machine)
    }

    /// Connects to a port, which QEMU opens as it starts.
    fn connect(&mut self, name: &str) -> Result<UnixStream> {
        let path = self.run_dir.join(name);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("QEMU's port {}", path.display()));
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
            interrupt::check()?;
            if self.qemu.try_wait()?.is_some() {
                bail!("QEMU ended: {}", self.qemu_log());
            }
        }
    }

    /// Is QEMU still there?
    pub(crate) fn alive(&mut self) -> Result<bool> {
        Ok(self.qemu.try_wait()?.is_none())
    }

    /// What QEMU itself had to say.
    pub(crate) fn qemu_log(&self) -> String {
        fs::read_to_string(self.run_dir.join("qemu.log")).unwrap_or_default()
    }

    /// Whether the guest must write its shared folder back before it ends.
    pub(crate) fn shares_by_disk(&self) -> bool {
        self.share_disk.is_some()
    }

    /// Copies a shared folder that is on a disk back to where it came from.
    pub(crate) fn fetch_share(&self) -> Result<()> {
        let Some((disk, folder)) = &self.share_disk else { return Ok(()) };
        let out = self.run_dir.join("share");
        fs::create_dir(&out)?;
        Command::new("debugfs").arg("-R").arg(format!("rdump / {}", out.display())).arg(disk).read()?;
        let _ = fs::remove_dir(out.join("lost+found"));
        Command::new("cp").arg("-a").arg(out.join(".")).arg(folder).read()?;
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.interactive {
            // It gives the terminal back as it was.
            terminate(&mut self.qemu);
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        // A daemon ends by itself when QEMU has closed its socket.
        let deadline = Instant::now() + Duration::from_secs(2);
        for daemon in &mut self.daemons {
            while matches!(daemon.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = fs::remove_dir_all(&self.run_dir);
    }
}

/// Two ends of nothing: stands in for a port until it is connected.
fn pair() -> Result<UnixStream> {
    Ok(UnixStream::pair()?.0)
}

fn share(run_dir: &Path, program: &str, tag: &str, folder: &Path) -> Result<Child> {
    let socket = run_dir.join(tag);
    let mut daemon = Command::new(program)
        .arg(format!("--socket-path={}", socket.display()))
        .args(["-o", &format!("source={}", folder.display()), "-o", "cache=auto"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(run_dir.join(format!("{tag}.log")))?)
        .spawn_owned()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !socket.exists() {
        interrupt::check()?;
        if daemon.try_wait()?.is_some() || Instant::now() > deadline {
            let _ = daemon.kill();
            let said = fs::read_to_string(run_dir.join(format!("{tag}.log"))).unwrap_or_default();
            bail!("{program} does not share {}: {said}", folder.display());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(daemon)
}

fn copy_to_disk(folder: &Path, disk: &Path) -> Result<()> {
    let used = Command::new("du").arg("-sm").arg(folder).read_text()?;
    let used_mib: u64 = used.split_whitespace().next().and_then(|mib| mib.parse().ok()).context("du")?;
    kernels::make_ext4(folder, disk, used_mib * 5 / 4 + 256)
}

/// A folder for one guest's sockets and files, removed unless kept.
struct RunDir(PathBuf);

impl RunDir {
    fn new(paths: &Paths) -> Result<Self> {
        let parent = paths.state_dir("run")?;
        sweep(&parent);
        let mut number = 0;
        let dir = loop {
            let dir = parent.join(format!("vm-{}-{number}", std::process::id()));
            match fs::create_dir(&dir) {
                Ok(()) => break dir,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error).with_context(|| format!("cannot create {}", dir.display())),
            }
        };
        let dir = Self(dir);
        // The longest socket's path has to fit sockaddr_un (unix(7)).
        if dir.0.join("control").as_os_str().len() >= 108 {
            bail!("the path {} is too long for sockets; set KHARD_STATE to a shorter one", dir.0.display());
        }
        Ok(dir)
    }

    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

/// Removes the folders of an xtask that was killed; its guests died with it.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(pid) = name.split('-').nth(1)
            && !Path::new("/proc").join(pid).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
