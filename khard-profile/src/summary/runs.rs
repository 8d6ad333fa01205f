//! Owns what there is to say of how often things were seen: in how many of the runs that would have seen them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::apparmor::access_in_words;
use crate::recording::{Class, Frequency, PhaseSet, Rare, Recording, Seen, SyscallKey, Witness};
use crate::syscalls;

/// How often things of one class were seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassRuns {
    /// The class, by its name in JSON.
    pub class: &'static str,
    /// Whole runs, which tell of absence too: exact, from the first instruction, nothing known to be lost.
    pub n_whole: usize,
    /// Different things that every such run has.
    pub in_all: usize,
    /// Things that not every such run has, the rarest first.
    pub in_fewer: Vec<SeenInFewer>,
}

/// Something that not every whole run has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeenInFewer {
    /// What it is. Names in it are escaped for a terminal.
    pub what: String,
    /// How many whole runs have it.
    pub n_runs: usize,
    /// How many other runs have it.
    pub n_others: usize,
    /// Who did it first.
    pub witness: Option<Witness>,
}

/// What the profiles do not grant, since too few runs have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// In how many runs something must have been seen.
    pub min_seen: usize,
    /// What it is. Names in it are escaped for a terminal.
    pub what: Vec<String>,
}

impl LeftOut {
    pub(super) fn new(min_seen: usize, rare: &Rare) -> Self {
        let calls = rare.calls.iter().map(|key| call(*key));
        Self { min_seen, what: calls.chain(rare.accesses.iter().map(access_in_words)).collect() }
    }
}

fn call(key: SyscallKey) -> String {
    let name = syscalls::by_number(key.abi, key.nr).map(|call| call.name);
    name.map_or_else(|| format!("number {} ({})", key.nr, key.abi), |name| format!("{name} ({})", key.abi))
}

/// By class; nothing if there are no two runs to compare.
pub(super) fn class_runs(recording: &Recording, phases: PhaseSet) -> Vec<ClassRuns> {
    if recording.runs().len() < 2 {
        return Vec::new();
    }
    let frequencies = recording.frequencies();
    let mut classes: BTreeMap<Option<Class>, ClassRuns> = BTreeMap::new();
    let mut add = |class: Option<Class>, seen: &Seen, what: &dyn Fn() -> String| {
        if seen.phases().and(phases).is_empty() {
            return;
        }
        let Frequency { in_whole, of_whole, in_others } = frequencies.of(class, seen, phases);
        let of_class = classes.entry(class).or_insert_with(|| ClassRuns {
            class: class.map_or("syscalls", Class::as_str),
            n_whole: of_whole,
            in_all: 0,
            in_fewer: Vec::new(),
        });
        if of_whole > 0 && in_whole == of_whole {
            of_class.in_all += 1;
        } else {
            let witness = seen.witness(phases).cloned();
            let fewer = SeenInFewer { what: what(), n_runs: in_whole, n_others: in_others, witness };
            of_class.in_fewer.push(fewer);
        }
    };
    for (key, seen) in recording.syscalls() {
        add(None, seen, &|| call(*key));
    }
    for (key, seen) in recording.accesses() {
        add(Some(key.what.class()), seen, &|| access_in_words(key));
    }
    let mut classes: Vec<ClassRuns> = classes.into_values().collect();
    for class in &mut classes {
        class.in_fewer.sort_by_key(|fewer| (fewer.n_runs, fewer.n_others));
    }
    classes
}
