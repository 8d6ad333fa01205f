//! Owns the question whether a profile would have refused anything in a recording: how it is asked. Knows nothing about
//! how profiles are made.
//!
//! [`check`] asks it of a seccomp profile, [`check_apparmor`] of an AppArmor profile.

pub mod apparmor;
mod refused;
pub(crate) mod seccomp;
pub(crate) mod witness;

use std::collections::BTreeSet;

pub use apparmor::check_apparmor;
pub use refused::{Asked, Refused};
pub use seccomp::{
    CheckedCall, Outcome, Profile, ProfileError, RefusedBefore, Report, Verdict, check, errno_in_words,
};
pub(crate) use seccomp::{Rule, Target, keys, verdict_of};

use crate::recording::PhaseSet;

/// How to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose calls or accesses are checked. The runtime's own calls under a filter are always checked too, apart.
    pub phases: PhaseSet,
    /// The container's capabilities (`CAP_…`), for seccomp rules of Docker's form that depend on them; `None`: not known.
    pub caps: Option<BTreeSet<String>>,
}

impl Default for Question {
    fn default() -> Self {
        Self { phases: crate::seccomp::Policy::DEFAULT_PHASES, caps: None }
    }
}
