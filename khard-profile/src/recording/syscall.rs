//! Owns one observed system call: its ABI and number, in which phases and runs it was seen, and who did it first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Phase, PhaseSet, RunId};
use crate::Bytes;

/// The system call ABI that a task used for one call. A process can use several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abi {
    /// 64-bit calls on x86-64.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 32-bit calls on x86-64: `int 0x80`, also from 64-bit code, and 32-bit programs.
    Ia32,
    /// x32 calls on x86-64. Numbers are without `__X32_SYSCALL_BIT`.
    X32,
    /// 64-bit calls on arm64.
    Aarch64,
}

impl Abi {
    /// Every ABI.
    pub const ALL: [Self; 4] = [Self::X86_64, Self::Ia32, Self::X32, Self::Aarch64];

    /// The ABI of a machine's own programs, by `uname -m`.
    pub fn native_of(machine: &str) -> Option<Self> {
        match machine {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            "i386" | "i486" | "i586" | "i686" => Some(Self::Ia32),
            _ => None,
        }
    }

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Ia32 => "ia32",
            Self::X32 => "x32",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A system call: its number means something only within its ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyscallKey {
    /// The ABI.
    pub abi: Abi,
    /// The number, for x32 without `__X32_SYSCALL_BIT`.
    pub nr: u32,
}

/// What was seen of one system call, by phase. Never empty in a [`super::Recording`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<Phase, Sighting>);

/// One system call in one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// In which runs. Never empty in a [`super::Recording`].
    pub runs: BTreeSet<RunId>,
    /// Who did it first. A first sighting's record can be lost while the fact is not.
    pub witness: Option<Witness>,
}

/// Who made a call first. The order, by which the least of two is kept, is that of the fields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Witness {
    /// When, in nanoseconds since its run's start.
    pub time_ns: u64,
    /// In which run.
    pub run: RunId,
    /// The process, in the host's pid namespace.
    pub tgid: u32,
    /// The thread, in the host's pid namespace.
    pub tid: u32,
    /// The thread's name.
    pub comm: Bytes,
    /// The file name of its executable, without the path; empty when unknown.
    pub exe: Bytes,
}

impl Seen {
    /// In which phases.
    pub fn phases(&self) -> PhaseSet {
        self.0.keys().copied().collect()
    }

    /// What was seen in one phase.
    pub fn in_phase(&self, phase: Phase) -> Option<&Sighting> {
        self.0.get(&phase)
    }

    /// Every phase with what was seen in it, in phase order.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, &Sighting)> {
        self.0.iter().map(|(phase, sighting)| (*phase, sighting))
    }

    /// The least witness of the given phases.
    pub fn witness(&self, phases: PhaseSet) -> Option<&Witness> {
        let chosen = self.0.iter().filter(|(phase, _)| phases.contains(**phase));
        chosen.filter_map(|(_, sighting)| sighting.witness.as_ref()).min()
    }

    pub(super) fn add(
        &mut self,
        phase: Phase,
        runs: impl IntoIterator<Item = RunId>,
        witness: Option<Witness>,
    ) {
        let sighting = self.0.entry(phase).or_default();
        sighting.runs.extend(runs);
        sighting.witness = match (sighting.witness.take(), witness) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }

    pub(super) fn unite(&mut self, other: &Self) {
        for (phase, sighting) in &other.0 {
            self.add(*phase, sighting.runs.iter().copied(), sighting.witness.clone());
        }
    }
}
