//! Ctrl-C and SIGTERM: owns the flag that they set. A verb that waits looks at it, so that its guards (a guest, a
//! containerd) end what they started instead of leaving it behind.

use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Result, bail};

static SIGNAL: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    SIGNAL.store(signal, Ordering::Relaxed);
}

/// Catches SIGINT, SIGTERM and SIGHUP from now on.
pub(crate) fn install() -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: zeroed is a valid sigaction (no flags, empty mask); the handler only stores to an atomic.
        let failed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as libc::sighandler_t;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0
        };
        if failed {
            bail!("cannot catch signal {signal}: {}", std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The signal that asked this process to end, if one came.
pub(crate) fn received() -> Option<i32> {
    Some(SIGNAL.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

/// An error once a signal has come: for loops that wait.
pub(crate) fn check() -> Result<()> {
    match received() {
        Some(signal) => bail!("ended by signal {signal}"),
        None => Ok(()),
    }
}
