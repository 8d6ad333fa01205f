//! Owns the choices of one generation. Knows nothing of what was seen, and not how a choice is carried out.

use serde::Serialize;

use crate::Bytes;
use crate::recording::{Phase, PhaseSet};

/// The choices of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose accesses are granted.
    pub phases: PhaseSet,
    /// How far paths may be generalised.
    pub paths: Paths,
    /// What becomes of attempts that the kernel refused.
    pub attempts: Attempts,
    /// For which kernel and parser the profile is written.
    pub abi: TargetAbi,
    /// Restrict a rule to the file's owner where only owners were seen. Off by default: users change, and user namespaces
    /// and id-mapped mounts change what an owner is.
    pub owner: bool,
    /// Grant capabilities that were only asked for with `CAP_OPT_NOAUDIT`. Off by default: their refusal is silent, and most
    /// programs go on without them.
    pub optional_capabilities: bool,
}

impl Policy {
    /// The container's own program and what joined it. What the runtime does before needs no rule: the profile is in force
    /// from the exec on.
    pub const DEFAULT_PHASES: PhaseSet = PhaseSet::EMPTY.with(Phase::Workload).with(Phase::Joiner);
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            phases: Self::DEFAULT_PHASES,
            paths: Paths::Exact,
            attempts: Attempts::Grant,
            abi: TargetAbi::Abi30,
            owner: false,
            optional_capabilities: false,
        }
    }
}

/// How far paths may be generalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Only without loss: process ids, names that a program made up.
    Exact,
    /// Also versions of libraries, and directories of which many files were used.
    Balanced {
        /// The longest prefix of a directory decides. A directory below none of them is never folded.
        thresholds: Vec<Threshold>,
    },
}

/// From how many files on a directory is folded into one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The directory, and all below it.
    pub prefix: Bytes,
    /// As many files of one directory with the same permissions, or more.
    pub n_files: usize,
}

impl Paths {
    /// Balanced, with thresholds for directories that hold what an image was built with, or what a program keeps.
    pub fn balanced() -> Self {
        let thresholds = [("/usr", 20), ("/opt", 20), ("/srv", 20), ("/var/cache", 10), ("/var/lib", 20)];
        let thresholds = thresholds.map(|(prefix, n_files)| Threshold { prefix: prefix.into(), n_files });
        Self::Balanced { thresholds: thresholds.into() }
    }
}

/// What becomes of attempts that were refused although AppArmor is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempts {
    /// They are granted, so that they fail with the same error as before and leave no denial in the log.
    Grant,
    /// They are denied without a word in the log; the error may become EACCES. Only where nothing that is granted overlaps,
    /// since a `deny` rule overrides every other.
    Deny,
}

/// The policy's ABI: which classes it mediates, and which words its parser knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TargetAbi {
    /// `abi/3.0`: AppArmor 3, Linux from 5.4 on.
    #[serde(rename = "3.0")]
    Abi30,
    /// `abi/4.0`: user namespaces too.
    #[serde(rename = "4.0")]
    Abi40,
    /// `abi/5.0`: `io_uring` and unix sockets too.
    #[serde(rename = "5.0")]
    Abi50,
}

impl TargetAbi {
    /// The name in `abi <abi/…>,`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abi30 => "3.0",
            Self::Abi40 => "4.0",
            Self::Abi50 => "5.0",
        }
    }
}
