//! What the header says of the session. Knows nothing about subjects but how many there are.

use std::time::Duration;

use khard_profile::escape;

use super::{NS_PER_S, table::Table};
use crate::subjects::Subjects;

/// Silence of the agent that is said, in seconds. It is heard of about once a second.
const SILENCE_S: u64 = 3;

/// The session as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The kernel of the agent's machine; empty until it is known.
    pub(crate) kernel: String,
    /// For how long is recorded, in seconds.
    pub(crate) elapsed_s: u64,
    /// Subjects that are recorded.
    pub(crate) n_alive: usize,
    /// Subjects that were.
    pub(crate) n_ended: usize,
    /// For how long the agent was not heard of, if that is long.
    pub(crate) silent_s: Option<u64>,
    /// By what means is recorded: `lsm+tracepoint`.
    pub(crate) attachments: String,
    /// System calls that may be lost on the node.
    pub(crate) lost: u64,
}

impl Status {
    pub(super) fn of(subjects: &Subjects, table: &Table, silent_for: Duration) -> Self {
        let (n_alive, n_ended) = table.n_alive();
        let silent_s = Some(silent_for.as_secs()).filter(|s| *s >= SILENCE_S);
        Self {
            kernel: subjects.host().map(|host| escape::terminal(host.kernel.as_bytes())).unwrap_or_default(),
            elapsed_s: subjects.now_ns().saturating_sub(subjects.began_ns()) / NS_PER_S,
            n_alive,
            n_ended,
            silent_s,
            attachments: table.attachments.clone(),
            lost: subjects.lost(),
        }
    }
}
