//! Ctrl-C and SIGTERM. The first ends the recording in order, the second abandons it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What came.
pub(super) enum Received {
    /// Somebody wants an end; the signal's number.
    End(i32),
    /// A child ended, stopped or went on.
    ChildChanged,
}

pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    child: Signal,
}

impl Signals {
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.interrupt.recv() => Received::End(libc::SIGINT),
            _ = self.terminate.recv() => Received::End(libc::SIGTERM),
            _ = self.hangup.recv() => Received::End(libc::SIGHUP),
            _ = self.child.recv() => Received::ChildChanged,
        }
    }
}
