//! Owns the phases of a task's life and their bits. The bit order is shared with the kernel's syscall table.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In which part of a container's life a task made a call.
///
/// The order is the order of the bits in a syscall-table byte; it never changes, new phases are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The runtime prepares the container and no seccomp filter is in force yet.
    Runtime,
    /// The runtime still prepares the container, but the task's seccomp mode was already 2 (filter): its own calls
    /// under the filter that it installed. What is seen here is the runtime's floor.
    RuntimeFiltered,
    /// The container's own program and its children.
    Workload,
    /// The runtime prepares a process that joins a running container (`exec`), before a filter.
    Joining,
    /// The same, with the task's seccomp mode already 2.
    JoiningFiltered,
    /// A joined process itself (probe, `kubectl exec`, debug shell) and its children.
    Joiner,
}

impl Phase {
    /// Every phase, in bit order.
    pub const ALL: [Self; 6] = [
        Self::Runtime,
        Self::RuntimeFiltered,
        Self::Workload,
        Self::Joining,
        Self::JoiningFiltered,
        Self::Joiner,
    ];

    /// The phase's bit number in a syscall-table byte, 0 to 5.
    pub const fn bit(self) -> u8 {
        match self {
            Self::Runtime => 0,
            Self::RuntimeFiltered => 1,
            Self::Workload => 2,
            Self::Joining => 3,
            Self::JoiningFiltered => 4,
            Self::Joiner => 5,
        }
    }

    /// The phase of a bit number; `None` for bits that mean nothing yet.
    pub fn from_bit(bit: u8) -> Option<Self> {
        Self::ALL.get(usize::from(bit)).copied()
    }

    /// The name in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::RuntimeFiltered => "runtime_filtered",
            Self::Workload => "workload",
            Self::Joining => "joining",
            Self::JoiningFiltered => "joining_filtered",
            Self::Joiner => "joiner",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}

/// A name that is no phase.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown phase {0:?}: use runtime, runtime_filtered, workload, joining, joining_filtered or joiner, separated by commas"
)]
pub struct UnknownPhase(pub String);

/// A set of phases, one bit each, as in a syscall-table byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhaseSet(u8);

impl PhaseSet {
    /// No phase.
    pub const EMPTY: Self = Self(0);

    /// The set in a syscall-table byte; `None` if a bit is set that means nothing yet.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        if byte >> Phase::ALL.len() == 0 { Some(Self(byte)) } else { None }
    }

    /// The syscall-table byte.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// This set with `phase`.
    #[must_use]
    pub const fn with(self, phase: Phase) -> Self {
        Self(self.0 | 1 << phase.bit())
    }

    /// True if `phase` is in the set.
    pub const fn contains(self, phase: Phase) -> bool {
        self.0 & 1 << phase.bit() != 0
    }

    /// True if no phase is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The phases of this set that are not in `other`: what a table read tells that the one before did not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The phases that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The phases of both sets together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The phases, in bit order.
    pub fn iter(self) -> impl Iterator<Item = Phase> {
        Phase::ALL.into_iter().filter(move |phase| self.contains(*phase))
    }
}

impl FromIterator<Phase> for PhaseSet {
    fn from_iter<I: IntoIterator<Item = Phase>>(phases: I) -> Self {
        phases.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for PhaseSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, phase) in self.iter().enumerate() {
            if idx > 0 {
                f.write_str(",")?;
            }
            f.write_str(phase.as_str())?;
        }
        Ok(())
    }
}

/// From the command line's form: names separated by commas.
impl std::str::FromStr for PhaseSet {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        text.split(',').map(|name| name.trim().parse()).collect::<Result<Self, _>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_phases_are_one_to_one() {
        for (bit, phase) in (0..).zip(Phase::ALL) {
            assert_eq!((phase.bit(), Phase::from_bit(bit)), (bit, Some(phase)));
            assert_eq!(phase.as_str().parse(), Ok(phase));
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{phase}\""));
        }
        assert_eq!(Phase::from_bit(6), None);
    }

    #[test]
    fn a_byte_with_an_unknown_bit_is_no_set() {
        assert_eq!(PhaseSet::from_byte(0b100_0000), None);
        let set = PhaseSet::from_byte(0b10_0100).unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Phase::Workload, Phase::Joiner]);
        assert_eq!(set.to_string().parse(), Ok(set));
        assert_eq!(set.without(PhaseSet::EMPTY.with(Phase::Joiner)).byte(), 0b100);
    }
}
