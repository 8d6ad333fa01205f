//! Owns one observed system call: its ABI and number, in which phases and runs it was seen, and who did it first.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::run_set::RunSet;
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

/// A system call that a seccomp filter answered with an error instead of making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusedCall {
    /// The call.
    pub key: SyscallKey,
    /// The error's number, such as 1 for EPERM.
    pub errno: u16,
}

/// What was seen of one system call, by phase. Never empty in a [`super::Recording`].
#[derive(Clone, Debug, Default)]
pub struct Seen(Vec<(Phase, Sighting)>);

/// One system call in one phase.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// In which runs.
    pub runs: RunSet,
    /// Who did it first. A first sighting's record can be lost while the fact is not.
    pub witness: Option<Box<Witness>>,
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
        self.0.iter().map(|(phase, _)| *phase).collect()
    }

    /// What was seen in one phase.
    pub fn in_phase(&self, phase: Phase) -> Option<&Sighting> {
        self.0.iter().find(|(known, _)| *known == phase).map(|(_, sighting)| sighting)
    }

    /// Every phase with what was seen in it, in phase order.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, &Sighting)> {
        self.0.iter().map(|(phase, sighting)| (*phase, sighting))
    }

    /// The least witness of the given phases.
    pub fn witness(&self, phases: PhaseSet) -> Option<&Witness> {
        let chosen = self.0.iter().filter(|(phase, _)| phases.contains(*phase));
        chosen.filter_map(|(_, sighting)| sighting.witness.as_deref()).min()
    }

    /// Adds runs by their places, and a witness of one of them.
    pub(super) fn add(
        &mut self,
        phase: Phase,
        runs: impl IntoIterator<Item = u32>,
        witness: Option<Box<Witness>>,
    ) {
        let mut runs = runs.into_iter();
        let at = self.0.partition_point(|(known, _)| *known < phase);
        if self.0.get(at).is_none_or(|(known, _)| *known != phase) {
            let Some(first) = runs.next() else { return };
            // Most have one phase: no room for more before there are more.
            self.0.reserve_exact(1);
            self.0.insert(at, (phase, Sighting { runs: RunSet::one(first), witness: None }));
        }
        let sighting = &mut self.0[at].1;
        runs.for_each(|place| sighting.runs.insert(place));
        sighting.witness = match (sighting.witness.take(), witness) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
    }

    /// Adds what another recording has seen, whose runs have these places here.
    pub(super) fn unite(&mut self, other: Self, places: &[u32]) {
        for (phase, Sighting { runs, witness }) in other.0 {
            self.add(phase, runs.at(places), witness);
        }
    }

    /// Adds what was seen in the same recording.
    pub(super) fn take_in(&mut self, other: Self) {
        for (phase, Sighting { runs, witness }) in other.0 {
            self.add(phase, runs.as_slice().iter().copied(), witness);
        }
    }

    /// Keeps some phases.
    pub(super) fn retain(&mut self, keep: impl Fn(Phase) -> bool) {
        self.0.retain(|(phase, _)| keep(*phase));
    }

    pub(super) fn witnesses_mut(&mut self) -> impl Iterator<Item = &mut Witness> {
        self.0.iter_mut().filter_map(|(_, sighting)| sighting.witness.as_deref_mut())
    }

    /// True if the other has the same phases, witnesses and runs, which have these places here.
    pub(super) fn equals(&self, other: &Self, places: &[u32]) -> bool {
        let same = |((phase, ours), (other_phase, theirs)): (&(Phase, Sighting), &(Phase, Sighting))| {
            let mut runs: Vec<u32> = theirs.runs.at(places).collect();
            runs.sort_unstable();
            phase == other_phase && ours.witness == theirs.witness && ours.runs.as_slice() == runs
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}
