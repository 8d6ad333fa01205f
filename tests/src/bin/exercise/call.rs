//! System calls and children, each in one place. Owns the unsafe half of the exerciser; knows no step.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    },
    path::Path,
    process::ExitStatus,
};

use anyhow::{Context as _, Result, ensure};
use libc::c_long;

/// What the kernel takes as an argument.
pub(crate) trait Arg {
    fn arg(&self) -> c_long;
}

macro_rules! numbers {
    ($($kind:ty),*) => { $(impl Arg for $kind {
        fn arg(&self) -> c_long { c_long::from(*self) }
    })* };
}
numbers!(i32, u32, i64);

impl Arg for usize {
    fn arg(&self) -> c_long {
        self.cast_signed() as c_long
    }
}

impl Arg for u64 {
    fn arg(&self) -> c_long {
        self.cast_signed()
    }
}

impl<T> Arg for *const T {
    fn arg(&self) -> c_long {
        self.expose_provenance().arg()
    }
}

impl<T> Arg for *mut T {
    fn arg(&self) -> c_long {
        self.expose_provenance().arg()
    }
}

impl Arg for CString {
    fn arg(&self) -> c_long {
        self.as_ptr().arg()
    }
}

impl Arg for OwnedFd {
    fn arg(&self) -> c_long {
        self.as_raw_fd().into()
    }
}

/// A call by number: `sys!(SYS_openat, AT_FDCWD, path, flags)`. One expression, so that what the arguments point to lives
/// until the call has returned.
macro_rules! sys {
    ($nr:expr $(, $arg:expr)* $(,)?) => {
        $crate::call::raw($nr, &[$($crate::call::Arg::arg(&$arg)),*])
    };
}
pub(crate) use sys;

/// The call itself.
pub(crate) fn raw(nr: c_long, args: &[c_long]) -> io::Result<c_long> {
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: each step passes pointers to values of its own that live through the call and are as large as that call
    // wants them; what a call maps or writes elsewhere is not Rust's.
    let result = unsafe { libc::syscall(nr, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A path for the kernel.
pub(crate) fn c(path: impl AsRef<OsStr>) -> CString {
    CString::new(path.as_ref().as_bytes()).expect("a path without NUL")
}

/// Takes a descriptor that a call returned.
pub(crate) fn fd(result: io::Result<c_long>) -> io::Result<OwnedFd> {
    let number = i32::try_from(result?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, for this caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// `openat` from the working directory.
pub(crate) fn open(path: impl AsRef<Path>, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let path = c(path.as_ref());
    fd(sys!(libc::SYS_openat, libc::AT_FDCWD, path, flags | libc::O_CLOEXEC, mode))
}

/// The call must fail so.
pub(crate) fn refused<T>(result: io::Result<T>, errno: i32) -> Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        Err(error) => Err(error).context(format!("expected {}", io::Error::from_raw_os_error(errno))),
        Ok(_) => anyhow::bail!("expected {}", io::Error::from_raw_os_error(errno)),
    }
}

/// A child that runs and must end well.
pub(crate) fn child(run: impl FnOnce() -> Result<()>) -> Result<()> {
    let child = Child::new(run)?;
    let status = child.wait()?;
    ensure!(status.success(), "the child: {status}");
    Ok(())
}

/// A child under way.
pub(crate) struct Child(pub(crate) i32);

impl Child {
    /// Forks.
    pub(crate) fn new(run: impl FnOnce() -> Result<()>) -> Result<Self> {
        // SAFETY: this process has one thread when it forks, so that the child may do whatever it could.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let status = match run() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("exercise: {error:#}");
                    1
                }
            };
            // SAFETY: ends the child, without what the parent has left to do at its end.
            unsafe { libc::_exit(status) }
        }
        ensure!(pid > 0, "fork: {}", io::Error::last_os_error());
        Ok(Self(pid))
    }

    /// One that sleeps until it is killed; when this returns it has run.
    pub(crate) fn asleep() -> Result<Self> {
        let (read, write) = pipe()?;
        let child = Self::new(|| {
            sys!(libc::SYS_write, write, c"x".as_ptr(), 1_u32)?;
            loop {
                sys!(libc::SYS_pause).ok();
            }
        })?;
        let mut byte = 0_u8;
        ensure!(sys!(libc::SYS_read, read, &raw mut byte, 1_u32)? == 1, "the child is gone");
        Ok(child)
    }

    pub(crate) fn wait(&self) -> Result<ExitStatus> {
        self.wait_for(0)
    }

    /// `waitpid` with options.
    pub(crate) fn wait_for(&self, options: i32) -> Result<ExitStatus> {
        let mut status = 0_i32;
        sys!(libc::SYS_wait4, self.0, &raw mut status, options, 0)?;
        Ok(ExitStatus::from_raw(status))
    }

    pub(crate) fn kill(&self) -> Result<()> {
        sys!(libc::SYS_kill, self.0, libc::SIGKILL)?;
        self.wait()?;
        Ok(())
    }
}

/// Two ends of a pipe.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0_i32; 2];
    sys!(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC)?;
    Ok((fd(Ok(ends[0].into()))?, fd(Ok(ends[1].into()))?))
}

/// `execve` with one argument, in a child. An error is that of the call.
pub(crate) fn exec(path: impl AsRef<OsStr>) -> Result<()> {
    let path = c(path);
    child(|| exec_here(&libc::AT_FDCWD, &path, 0))
}

/// `execveat` of this process.
pub(crate) fn exec_here(dir: &impl Arg, path: &CString, flags: i32) -> Result<()> {
    let arguments = [path.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null::<libc::c_char>()];
    sys!(libc::SYS_execveat, *dir, *path, arguments.as_ptr(), environment.as_ptr(), flags)?;
    Ok(())
}
