//! What processes do to each other, and what needs a capability.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use libc::{AT_FDCWD, O_RDONLY, O_RDWR, SIGSTOP, SIGTERM, SIGUSR1};

use crate::{
    call::{Child, c, child, fd, open, refused, sys},
    files::become_nobody,
};

fn own_pid() -> Result<i32> {
    Ok(i32::try_from(sys!(libc::SYS_getpid)?)?)
}

/// Leaves a signal without effect here.
fn ignore(signal: i32) -> Result<()> {
    // struct kernel_sigaction: handler, flags, restorer, mask.
    let action = [libc::SIG_IGN as u64, 0, 0, 0];
    sys!(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0, 8)?;
    Ok(())
}

pub(crate) fn signals(_: &Path) -> Result<()> {
    ignore(SIGUSR1)?;
    ignore(libc::SIGCONT)?;
    let own = own_pid()?;
    sys!(libc::SYS_kill, own, SIGUSR1)?;
    sys!(libc::SYS_tgkill, own, own, SIGUSR1)?;
    sys!(libc::SYS_kill, own, 0)?;
    let sleeper = Child::asleep()?;
    sys!(libc::SYS_kill, sleeper.0, 0)?;
    sys!(libc::SYS_kill, sleeper.0, libc::SIGCONT)?;
    sys!(libc::SYS_kill, sleeper.0, SIGTERM)?;
    sleeper.wait()?;
    let sleeper = Child::asleep()?;
    let handle = fd(sys!(libc::SYS_pidfd_open, sleeper.0, 0))?;
    sys!(libc::SYS_pidfd_send_signal, handle, libc::SIGINT, 0, 0)?;
    sleeper.wait()?;
    let sleeper = Child::asleep()?;
    let mut info = [0_i32; 32];
    info[2] = -1; // si_code: SI_QUEUE
    sys!(libc::SYS_rt_sigqueueinfo, sleeper.0, libc::SIGRTMIN(), info.as_mut_ptr())?;
    sleeper.wait()?;
    // A process group, and a child's to its parent.
    child(|| {
        sys!(libc::SYS_setpgid, 0, 0)?;
        sys!(libc::SYS_kill, 0, SIGUSR1)?;
        let parent = sys!(libc::SYS_getppid)?;
        sys!(libc::SYS_kill, parent, SIGUSR1)?;
        Ok(())
    })?;
    // Init is outside, and nobody may.
    sys!(libc::SYS_kill, 1, 0)?;
    child(|| {
        become_nobody()?;
        refused(sys!(libc::SYS_kill, 1, SIGTERM), libc::EPERM)
    })
}

pub(crate) fn tracing(_: &Path) -> Result<()> {
    let traced = Child::new(|| {
        sys!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0)?;
        sys!(libc::SYS_kill, own_pid()?, SIGSTOP)?;
        Ok(())
    })?;
    traced.wait_for(libc::WUNTRACED)?;
    sys!(libc::SYS_ptrace, libc::PTRACE_CONT, traced.0, 0, 0)?;
    ensure!(traced.wait()?.success());
    let sleeper = Child::asleep()?;
    sys!(libc::SYS_ptrace, libc::PTRACE_ATTACH, sleeper.0, 0, 0)?;
    sleeper.wait_for(libc::WUNTRACED)?;
    sys!(libc::SYS_ptrace, libc::PTRACE_DETACH, sleeper.0, 0, 0)?;
    sys!(libc::SYS_ptrace, libc::PTRACE_SEIZE, sleeper.0, 0, 0)?;
    sleeper.kill()
}

pub(crate) fn looking_into(_: &Path) -> Result<()> {
    let sleeper = Child::asleep()?;
    for name in ["environ", "maps", "stat", "io"] {
        let file = open(format!("/proc/{}/{name}", sleeper.0), O_RDONLY, 0)?;
        let mut bytes = [0_u8; 256];
        sys!(libc::SYS_read, file, bytes.as_mut_ptr(), bytes.len())?;
    }
    fs::read_link(format!("/proc/{}/exe", sleeper.0))?;
    let mut byte = 0_u8;
    let local = [(&raw mut byte).expose_provenance(), 1];
    sys!(libc::SYS_process_vm_readv, sleeper.0, local.as_ptr(), 1, local.as_ptr(), 1, 0)?;
    let handle = fd(sys!(libc::SYS_pidfd_open, sleeper.0, 0))?;
    fd(sys!(libc::SYS_pidfd_getfd, handle, 0, 0))?;
    sleeper.kill()?;
    // Another's process: init's, which even root may not look into if it holds more capabilities.
    let _ = open("/proc/1/environ", O_RDONLY, 0);
    Ok(())
}

pub(crate) fn user_namespace(_: &Path) -> Result<()> {
    child(|| {
        sys!(libc::SYS_unshare, libc::CLONE_NEWUSER)?;
        Ok(())
    })
}

/// For what not every root may: some have fewer capabilities.
fn may_be_refused<T>(result: std::io::Result<T>) -> Result<()> {
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(error.into()),
        _ => Ok(()),
    }
}

/// What a privileged process does that needs one capability each, and leaves no trace.
pub(crate) fn capabilities(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "text")?;
    sys!(libc::SYS_fchownat, AT_FDCWD, c(dir.join("file")), 1000, 1000, 0)?; // chown
    sys!(libc::SYS_fchmodat, AT_FDCWD, c(dir.join("file")), 0o600)?; // fowner
    open(dir.join("file"), O_RDWR, 0)?; // dac_override
    sys!(libc::SYS_mknodat, AT_FDCWD, c(dir.join("null")), libc::S_IFCHR, libc::makedev(1, 3))?; // mknod
    child(|| {
        sys!(libc::SYS_setresgid, 1000, 1000, 1000)?; // setgid
        sys!(libc::SYS_setresuid, 1000, 1000, 1000)?; // setuid
        Ok(())
    })?;
    child(|| {
        sys!(libc::SYS_setpriority, 0, 0, -5)?; // sys_nice
        sys!(libc::SYS_chroot, c("/"))?; // sys_chroot
        let mut limit = [0_u64; 2];
        sys!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, 0, limit.as_mut_ptr())?;
        limit = [u64::MAX, u64::MAX];
        sys!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, [0_u64; 2].as_ptr(), 0)?;
        may_be_refused(sys!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, limit.as_ptr(), 0))?; // sys_resource
        let small = [0_u64; 2];
        sys!(libc::SYS_prlimit64, 0, libc::RLIMIT_MEMLOCK, small.as_ptr(), 0)?;
        let memory = vec![0_u8; 8192];
        sys!(libc::SYS_mlock, memory.as_ptr(), memory.len())?; // ipc_lock
        sys!(libc::SYS_prctl, libc::PR_CAPBSET_DROP, 0)?; // setpcap
        Ok(())
    })?;
    let other = Child::new(|| {
        become_nobody()?;
        sys!(libc::SYS_pause)?;
        Ok(())
    })?;
    // Init's group may not be ours: it takes kill to signal another's process, once it is another's.
    while fs::read_to_string(format!("/proc/{}/status", other.0))?.contains("\nUid:\t0") {
        std::thread::yield_now();
    }
    other.kill()?;
    child(|| {
        sys!(libc::SYS_unshare, libc::CLONE_NEWUTS | libc::CLONE_NEWNET)?; // sys_admin
        sys!(libc::SYS_sethostname, c"khard".as_ptr(), 5)?; // sys_admin
        let socket = fd(sys!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0))?;
        let mark = 7_i32;
        sys!(libc::SYS_setsockopt, socket, libc::SOL_SOCKET, libc::SO_MARK, &raw const mark, 4)?; // net_admin
        Ok(())
    })?;
    // What only asks, and goes on without: a program that dumps no core may not be looked into.
    child(|| {
        become_nobody()?;
        refused(sys!(libc::SYS_setpriority, 0, 0, -5), libc::EACCES)?;
        refused(sys!(libc::SYS_chroot, c("/")), libc::EPERM)
    })
}
