//! The system calls of one subject. Knows nothing about its accesses.

use std::collections::BTreeMap;

use khard_profile::{
    recording::{Abi, PhaseSet, SyscallKey},
    seccomp::{RuntimeDefault, runtime_default},
    syscalls,
};

use super::{list::Row, words};
use crate::{stream::By, subjects::Observed};

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallRow {
    key: SyscallKey,
    /// Its name with its ABI where that is not the machine's own.
    pub(crate) name: String,
    /// In which phases.
    pub(crate) phases: String,
    /// Whether profiles allow it for having been seen: in a phase that they are made for.
    pub(crate) is_ours: bool,
    /// When first, since the run began; empty when its record is lost or still to come.
    pub(crate) first: String,
    first_ns: u64,
    /// By whom.
    pub(crate) witness: String,
    /// Whether containerd's default filter lets it through.
    pub(crate) runtime_default: &'static str,
    /// Whether that filter always refuses it.
    pub(crate) is_refused_by_default: bool,
}

impl Row for CallRow {
    type Key = SyscallKey;

    fn key(&self) -> SyscallKey {
        self.key
    }

    fn matches(&self, filter: &str) -> bool {
        self.name.contains(filter)
    }
}

/// By name, or by the time of the first.
pub(super) fn sort(rows: &mut [CallRow], by_time: bool, is_reversed: bool) {
    rows.sort_by(|a, b| {
        let by_name = a.name.cmp(&b.name);
        let order = if by_time { a.first_ns.cmp(&b.first_ns).then(by_name) } else { by_name };
        if is_reversed { order.reverse() } else { order }
    });
}

pub(super) fn rows(observed: &Observed) -> Vec<CallRow> {
    let run = &observed.state().run;
    let native = Abi::native_of(&run.host.machine);
    let mut calls: BTreeMap<SyscallKey, (PhaseSet, Option<&By>)> = BTreeMap::new();
    for (key, phase, by) in observed.calls() {
        let (phases, first) = calls.entry(key).or_default();
        *phases = phases.with(phase);
        *first = match (*first, by) {
            (Some(old), Some(new)) => Some(if new.time_ns < old.time_ns { new } else { old }),
            (old, new) => old.or(new),
        };
    }
    let row = |(key, (phases, by)): (SyscallKey, (PhaseSet, Option<&By>))| {
        let by_default = syscalls::by_number(key.abi, key.nr)
            .map_or(RuntimeDefault::Refuses, |call| runtime_default(call.name));
        CallRow {
            key,
            name: words::call_with_abi(key, native),
            phases: words::phases(phases),
            is_ours: phases.iter().any(words::is_ours),
            first: by.map(|by| words::time_since(run.id.start_ns, by.time_ns)).unwrap_or_default(),
            first_ns: by.map_or(u64::MAX, |by| by.time_ns),
            witness: by.map_or_else(|| "(not told)".to_owned(), words::witness),
            runtime_default: match by_default {
                RuntimeDefault::Allows => "allows",
                RuntimeDefault::WithSomeArguments => "some args",
                RuntimeDefault::Refuses => "refuses",
            },
            is_refused_by_default: by_default == RuntimeDefault::Refuses,
        }
    };
    calls.into_iter().map(row).collect()
}
