//! Owns what is said of system calls that a seccomp filter refused while recording.

use serde::Serialize;

use crate::check::errno_in_words;
use crate::recording::{Phase, PhaseSet, Recording, Witness};
use crate::syscalls;

/// One refused call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedInWords {
    /// Which, and with what answer: `mount (x86_64): EPERM`.
    pub what: String,
    /// In which phases.
    pub phases: Vec<Phase>,
    /// Who tried first.
    pub witness: Option<Witness>,
}

pub(super) fn of(recording: &Recording) -> Vec<RefusedInWords> {
    let in_words = |(call, seen): (&crate::recording::RefusedCall, &crate::recording::Seen)| {
        let name = syscalls::by_number(call.key.abi, call.key.nr)
            .map_or_else(|| format!("number {}", call.key.nr), |call| call.name.to_owned());
        RefusedInWords {
            what: format!("{name} ({}): {}", call.key.abi, errno_in_words(u32::from(call.errno))),
            phases: seen.phases().iter().collect(),
            witness: seen.witness(Phase::ALL.into_iter().collect::<PhaseSet>()).cloned(),
        }
    };
    recording.refused_calls().iter().map(in_words).collect()
}
