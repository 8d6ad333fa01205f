//! Ctrl-C and SIGTERM. The first ends the recording in order, the second abandons it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What came.
pub(crate) enum Received {
    /// Somebody wants an end; the signal's number.
    End(i32),
    /// A child ended, stopped or went on.
    ChildChanged,
}

/// The signals that khard handles.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where it was ignored already, as behind nohup(1): then a lost terminal ends nothing.
    hangup: Option<Signal>,
    child: Signal,
}

impl Signals {
    /// Handles them from now on. Must be called within a tokio runtime.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if is_ignored(libc::SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) },
            child: signal(SignalKind::child())?,
        })
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.interrupt.recv() => Received::End(libc::SIGINT),
            _ = self.terminate.recv() => Received::End(libc::SIGTERM),
            () = next_of(&mut self.hangup) => Received::End(libc::SIGHUP),
            _ = self.child.recv() => Received::ChildChanged,
        }
    }
}

async fn next_of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started khard had it ignore this signal.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: asks only; the kernel fills the structure that is passed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
