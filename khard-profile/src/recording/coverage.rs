//! Owns how far a recording can be trusted, per class of observation and run. Knows nothing about what was observed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Class;

/// The coverage of every class that this version knows. A field each, so that none can be absent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunCoverage {
    /// System calls that reached the kernel's `sys_enter`.
    pub syscalls: Coverage,
    /// Every class of accesses. A recording of version 1 has none: its khard saw system calls only.
    #[serde(default = "AccessCoverage::of_version_1")]
    pub accesses: AccessCoverage,
    /// System calls that a seccomp filter refused. No class of its own: no profile depends on them. None before version 4.
    #[serde(default = "of_version_3")]
    pub refused_syscalls: Coverage,
}

fn of_version_3() -> Coverage {
    Coverage::none("this khard did not look for them")
}

impl RunCoverage {
    /// Every class with its name in JSON.
    pub fn classes(&self) -> impl Iterator<Item = (&'static str, &Coverage)> {
        let accesses = self.accesses.iter().map(|(class, coverage)| (class.as_str(), coverage));
        std::iter::once(("syscalls", &self.syscalls)).chain(accesses)
    }
}

/// A coverage for each [`Class`], none left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Class, Coverage>", into = "BTreeMap<Class, Coverage>")]
pub struct AccessCoverage(BTreeMap<Class, Coverage>);

impl AccessCoverage {
    /// Asks for each class.
    pub fn new(of: impl Fn(Class) -> Coverage) -> Self {
        Self(Class::ALL.iter().map(|class| (*class, of(*class))).collect())
    }

    /// None was observed, for one reason.
    pub fn none(reason: &str) -> Self {
        Self::new(|_| Coverage::none(reason))
    }

    fn of_version_1() -> Self {
        Self::none("this khard saw system calls only")
    }

    /// One class's coverage.
    pub fn of(&self, class: Class) -> &Coverage {
        &self.0[&class]
    }

    /// Every class, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Class, &Coverage)> {
        self.0.iter().map(|(class, coverage)| (*class, coverage))
    }
}

/// A class is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coverage of the class {0} is missing")]
pub struct MissingClass(Class);

impl TryFrom<BTreeMap<Class, Coverage>> for AccessCoverage {
    type Error = MissingClass;

    fn try_from(map: BTreeMap<Class, Coverage>) -> Result<Self, MissingClass> {
        match Class::ALL.iter().find(|class| !map.contains_key(class)) {
            Some(missing) => Err(MissingClass(*missing)),
            None => Ok(Self(map)),
        }
    }
}

impl core::convert::From<AccessCoverage> for BTreeMap<Class, Coverage> {
    fn from(coverage: AccessCoverage) -> Self {
        coverage.0
    }
}

/// How far one class of observation can be trusted in one run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "certainty", rename_all = "snake_case")]
pub enum Coverage {
    /// The class was not observed: its absence in the recording says nothing.
    None(NotObserved),
    /// Seen where the kernel decides.
    Exact(Observed),
    /// Concluded from something near it.
    Inferred(Observed),
}

/// Why a class was not observed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotObserved {
    /// In words.
    pub reason: String,
}

/// The coverage of a class that was observed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Since when.
    pub from: From,
    /// By what means. A recording of version 1 does not say: it was a tracepoint.
    #[serde(default = "Attachment::of_version_1")]
    pub by: Attachment,
    /// What is known to be lost: how many observations by cause. A cause is a `snake_case` name.
    pub lost: BTreeMap<String, u64>,
    /// What is proved about the rest.
    pub proof: Proof,
}

/// By what means a class was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attachment {
    /// A tracepoint where the kernel decides.
    Tracepoint,
    /// BPF LSM programs, which run after every other security module: what those refused is not seen.
    Lsm,
    /// Programs at the end of the kernel's `security_*` functions: refusals are seen too.
    Fexit,
    /// The arguments and results of system calls.
    Syscall,
}

impl Attachment {
    const fn of_version_1() -> Self {
        Self::Tracepoint
    }

    /// The name in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Lsm => "lsm",
            Self::Fexit => "fexit",
            Self::Syscall => "syscall",
        }
    }
}

/// Since when a run was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// From the first instruction of the first task of the subject.
    FirstInstruction,
    /// The subject already ran.
    Late,
}

/// What is proved about events that the kernel may have skipped without a record.
///
/// `misses` holds the rise of `recursion_misses` (kernel: `struct bpf_prog_info`, include/uapi/linux/bpf.h) of each
/// program that watched the class, by the program's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// A program whose misses are counted missed nothing: nothing was lost.
    Complete {
        /// Rise of the misses by program, node-wide.
        misses: BTreeMap<String, u64>,
    },
    /// Every program missed something: at most this many events were lost.
    AtMost {
        /// The least rise: a bound for the whole node, not for this subject alone.
        lost: u64,
        /// Rise of the misses by program, node-wide.
        misses: BTreeMap<String, u64>,
    },
    /// Nothing can be said.
    Unproved {
        /// In words: a counter that the kernel does not keep, a recorder that died.
        reason: String,
    },
}

impl Proof {
    /// The proof that the rise of each program's misses gives: every event either ran in a program or raised its
    /// count, so the least rise bounds what was lost in all of them.
    pub fn from_misses(misses: BTreeMap<String, u64>) -> Self {
        match misses.values().min() {
            None => Self::Unproved { reason: "no program whose misses the kernel counts".to_owned() },
            Some(0) => Self::Complete { misses },
            Some(&lost) => Self::AtMost { lost, misses },
        }
    }
}

impl Proof {
    /// The proof of a class that several hooks make up, each watched by programs of its own: an event of a hook can only be lost
    /// there, so the bounds add up.
    pub fn from_hooks(hooks: &[BTreeMap<String, u64>]) -> Self {
        if hooks.is_empty() || hooks.iter().any(BTreeMap::is_empty) {
            return Self::from_misses(BTreeMap::new());
        }
        // Hooks that share a program lose the same events.
        let of_each: BTreeSet<(u64, &BTreeMap<String, u64>)> =
            hooks.iter().map(|misses| (misses.values().min().copied().unwrap_or(0), misses)).collect();
        let lost = of_each.iter().map(|(least, _)| least).sum();
        let misses =
            hooks.iter().flatten().filter(|(_, n)| **n > 0).map(|(name, n)| (name.clone(), *n)).collect();
        if lost == 0 { Self::Complete { misses } } else { Self::AtMost { lost, misses } }
    }
}

impl Coverage {
    /// The details, unless the class was not observed.
    pub fn observed(&self) -> Option<&Observed> {
        match self {
            Self::None(_) => None,
            Self::Exact(observed) | Self::Inferred(observed) => Some(observed),
        }
    }

    /// Not observed, for this reason.
    pub fn none(reason: &str) -> Self {
        Self::None(NotObserved { reason: reason.to_owned() })
    }

    /// True if something is known to be lost, or may be and the bound says how much.
    pub fn is_lossy(&self) -> bool {
        self.observed().is_some_and(|observed| {
            observed.lost.values().any(|count| *count > 0)
                || matches!(observed.proof, Proof::AtMost { lost: 1.., .. })
        })
    }

    /// True if what this run does not hold was not done while it was recorded, as far as is known: seen exactly, from the first
    /// instruction, and nothing is known to be lost. Less than [`Self::is_complete`], which asks for a proof.
    pub fn tells_absence(&self) -> bool {
        matches!(self, Self::Exact(Observed { from: From::FirstInstruction, .. })) && !self.is_lossy()
    }

    /// True if this run holds every call of its class: seen exactly, from the first instruction, proved.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Exact(_)) && self.is_proved_whole()
    }

    /// True if nothing of its class is missing, though what is there may be inferred: seen from the first instruction, proved.
    pub fn is_proved_whole(&self) -> bool {
        let proved = |observed: &Observed| {
            matches!(observed, Observed { from: From::FirstInstruction, proof: Proof::Complete { .. }, .. })
        };
        self.observed().is_some_and(proved) && !self.is_lossy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(lost: &[(&str, u64)], misses: &[(&str, u64)]) -> Coverage {
        let map =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Coverage::Exact(Observed {
            from: From::FirstInstruction,
            by: Attachment::Tracepoint,
            lost: map(lost),
            proof: Proof::from_misses(map(misses)),
        })
    }

    #[test]
    fn one_program_without_a_miss_proves_completeness() {
        assert!(exact(&[("ring_full", 0)], &[("raw", 7), ("perf", 0)]).is_complete());
        assert!(exact(&[], &[("raw", 7), ("perf", 3)]).is_lossy());
        let bound = exact(&[], &[("raw", 7), ("perf", 3)]);
        assert!(matches!(bound.observed().unwrap().proof, Proof::AtMost { lost: 3, .. }));
    }

    #[test]
    fn without_a_counter_nothing_is_proved_and_nothing_is_called_lost() {
        let unproved = exact(&[], &[]);
        assert!(!unproved.is_complete() && !unproved.is_lossy());
    }

    #[test]
    fn a_counted_loss_is_lossy_in_spite_of_a_proof() {
        let lossy = exact(&[("slots_full", 1)], &[("raw", 0)]);
        assert!(lossy.is_lossy() && !lossy.is_complete());
    }

    #[test]
    fn a_class_that_was_not_observed_says_so_in_json() {
        let none = Coverage::None(NotObserved { reason: "no BTF".to_owned() });
        let coverage = RunCoverage {
            syscalls: none.clone(),
            accesses: AccessCoverage::new(|_| none.clone()),
            refused_syscalls: none,
        };
        let text = serde_json::to_string(&coverage).unwrap();
        assert!(
            text.starts_with(r#"{"syscalls":{"certainty":"none","reason":"no BTF"},"accesses":{"files":{"#),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<RunCoverage>(&text).unwrap(), coverage);
        assert!(serde_json::from_str::<RunCoverage>("{}").is_err());
        let without_a_class = text.replace(r#""io_uring":{"certainty":"none","reason":"no BTF"}"#, "");
        assert!(serde_json::from_str::<RunCoverage>(&without_a_class.replace(",}", "}")).is_err());
    }
}
