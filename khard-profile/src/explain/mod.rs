//! Owns the question why a profile has a rule, or what became of a path or a system call: who did it, when, in which phases, in
//! how many of the runs. Knows nothing about how profiles are made.

mod apparmor;
mod render;
mod seccomp;

pub use apparmor::explain_apparmor;
pub use seccomp::explain_seccomp;

use crate::recording::{Class, Frequencies, Frequency, Phase, PhaseSet, Recording, Seen, Witness};

/// Why there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// There is no such line, entry or rule.
    #[error(
        "there is no rule {0} in this profile: ask by its line or place, its text, a path or the name of a system call"
    )]
    NoRule(String),
    /// The other kind of profile knows about it.
    #[error("{0}")]
    OtherProfile(&'static str),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What it is about, escaped for a terminal.
    pub about: String,
    /// The rules of the profile that have to do with it.
    pub rules: Vec<ExplainedRule>,
    /// What was recorded of it; of a system call that was not, what would happen to it.
    pub observations: Vec<Observation>,
    /// What else is to be said, in words.
    pub notes: Vec<String>,
}

/// A rule that has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRule {
    /// `line 12` or `syscalls[0]`.
    pub place: String,
    /// Its text, or what happens by it; escaped for a terminal.
    pub text: String,
}

/// Something that was recorded, or asked about, and what the profile does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What was asked of the kernel; escaped for a terminal.
    pub what: String,
    /// What the profile does to it, in words.
    pub verdict: String,
    /// When it was seen; empty: it was not recorded.
    pub seen: Vec<InPhase>,
}

/// One phase in which something was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPhase {
    /// Which.
    pub phase: Phase,
    /// In how many runs.
    pub frequency: Frequency,
    /// Who did it first in this phase.
    pub witness: Option<Witness>,
}

fn phases(frequencies: &Frequencies, class: Option<Class>, seen: &Seen) -> Vec<InPhase> {
    let in_phase = |(phase, sighting): (Phase, &crate::recording::Sighting)| InPhase {
        phase,
        frequency: frequencies.of(class, seen, PhaseSet::EMPTY.with(phase)),
        witness: sighting.witness.as_deref().cloned(),
    };
    seen.iter().map(in_phase).collect()
}

/// What was recorded of a call by name, in every ABI.
fn calls<'a>(
    recording: &'a Recording,
    name: &'a str,
) -> impl Iterator<Item = (crate::recording::SyscallKey, &'a Seen)> + 'a {
    let is_it = move |key: &crate::recording::SyscallKey| {
        crate::syscalls::by_number(key.abi, key.nr).is_some_and(|call| call.name == name)
    };
    recording.syscalls().iter().filter(move |(key, _)| is_it(key)).map(|(key, seen)| (*key, seen))
}
