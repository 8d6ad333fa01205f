//! Owns one refusal, apart from a whole answer: what a profile refuses, by whom it was first asked, and that in words. Knows not how
//! it was found.

use super::{apparmor, seccomp, witness};
use crate::recording::{AccessKey, Outcome, SyscallKey};

/// What was asked of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// A system call.
    Call(SyscallKey),
    /// What AppArmor decides on.
    Access(AccessKey),
}

/// One thing that a profile refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What.
    pub what: Asked,
    /// The same, in which phases, and why it is refused, on one line for a terminal.
    pub in_words: String,
    /// Who did it first, on one line for a terminal.
    pub witness: String,
}

impl seccomp::Report {
    /// The calls of the asked phases that are refused for certain.
    pub fn refused(&self) -> Vec<Refused> {
        let of_call = |call: &seccomp::CheckedCall| {
            Some(Refused {
                what: Asked::Call(call.key),
                in_words: call.refusal()?,
                witness: witness::in_words(call.witness.as_ref()),
            })
        };
        self.program.iter().filter_map(of_call).collect()
    }

    /// The calls that a filter refused while recording, and this profile does too: where it was in force, it is why.
    pub fn refused_before(&self) -> Vec<Refused> {
        let of_call = |before: &seccomp::RefusedBefore| {
            Some(Refused {
                what: Asked::Call(before.call.key),
                in_words: before.refusal()?,
                witness: witness::in_words(before.call.witness.as_ref()),
            })
        };
        self.refused_before.iter().filter_map(of_call).collect()
    }

    /// The calls that a filter refused while recording, and this profile does not, or not always: another filter is in force.
    pub fn refused_by_another(&self) -> Vec<String> {
        let by_another = |before: &&seccomp::RefusedBefore| before.refusal().is_none();
        self.refused_before.iter().filter(by_another).map(seccomp::RefusedBefore::in_words).collect()
    }
}

impl apparmor::Report {
    /// What was granted and is refused for certain.
    pub fn refused(&self) -> Vec<Refused> {
        self.accesses.iter().filter_map(|access| self.refused_access(access)).collect()
    }

    /// What was refused while recording, and is by this profile: where it was in force, it is why.
    pub fn refused_before(&self) -> Vec<Refused> {
        let was_refused = |access: &&apparmor::CheckedAccess| access.key.outcome == Outcome::Refused;
        self.aside.iter().filter(was_refused).filter_map(|access| self.refused_access(access)).collect()
    }

    fn refused_access(&self, access: &apparmor::CheckedAccess) -> Option<Refused> {
        Some(Refused {
            what: Asked::Access(access.key.clone()),
            in_words: self.refusal(access)?,
            witness: witness::in_words(access.witness.as_ref()),
        })
    }
}
