//! Owns in how many runs something was seen, and in how many it would have been seen had it been done there. It does not judge what is
//! too rare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{AccessKey, Class, PhaseSet, Recording, Run, Seen, SyscallKey};

/// In how many runs something was seen. A run is *whole* here if it tells of absence too: see [`super::Coverage::tells_absence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// Whole runs in which it was seen.
    pub in_whole: usize,
    /// Whole runs in all.
    pub of_whole: usize,
    /// Other runs in which it was seen.
    pub in_others: usize,
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_whole, of_whole, in_others } = *self;
        match (of_whole, in_others) {
            (0, 1) => write!(f, "in 1 run, which is not whole"),
            (0, n) => write!(f, "in {n} runs, none of them whole"),
            (m, 0) => write!(f, "in {in_whole} of {m} whole runs"),
            (m, n) => write!(f, "in {in_whole} of {m} whole runs, and of others in {n}"),
        }
    }
}

/// Asks in how many runs things were seen.
#[derive(Clone, Debug)]
pub struct Frequencies {
    /// By class, system calls under `None`: whether each run is whole, by its place in the recording's table.
    whole: BTreeMap<Option<Class>, Vec<bool>>,
}

/// What was taken out of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// System calls.
    pub calls: BTreeSet<SyscallKey>,
    /// Accesses.
    pub accesses: BTreeSet<AccessKey>,
}

impl Frequencies {
    /// In how many runs something of a class (system calls: `None`) was seen in some of these phases.
    pub fn of(&self, class: Option<Class>, seen: &Seen, phases: PhaseSet) -> Frequency {
        let runs = places(seen, phases);
        let whole = self.whole.get(&class).map(Vec::as_slice).unwrap_or_default();
        let tells = |place: &&u32| whole.get(**place as usize) == Some(&true);
        let in_whole = runs.iter().filter(tells).count();
        let of_whole = whole.iter().filter(|whole| **whole).count();
        Frequency { in_whole, of_whole, in_others: runs.len() - in_whole }
    }
}

impl Recording {
    /// To ask in how many runs things were seen.
    pub fn frequencies(&self) -> Frequencies {
        let classes = [None].into_iter().chain(Class::ALL.iter().copied().map(Some));
        let runs = || self.table.ids().iter().map(|id| self.runs.get(id));
        let tells = |run: &Run, class: Option<Class>| match class {
            None => run.coverage.syscalls.tells_absence(),
            Some(class) => run.coverage.accesses.of(class).tells_absence(),
        };
        let of = |class| runs().map(|run| run.is_some_and(|run| tells(run, class))).collect();
        Frequencies { whole: classes.map(|class| (class, of(class))).collect() }
    }

    /// The recording without what was seen in fewer runs than `min_runs` in these phases, and what that is. Other phases stay.
    #[must_use]
    pub fn without_rare(self, min_runs: usize, phases: PhaseSet) -> (Self, Rare) {
        self.without(phases, |_, runs| runs.len() < min_runs)
    }

    /// The recording without what was not seen in these phases since before the last `n_runs` runs that would have told of it, and what
    /// that is. With fewer such runs all stays. Other phases stay. A run that was cut short tells of nothing that it had not come to.
    #[must_use]
    pub fn without_stale(self, n_runs: usize, phases: PhaseSet) -> (Self, Rare) {
        let frequencies = self.frequencies();
        let started: Vec<u64> = self
            .table
            .ids()
            .iter()
            .map(|id| self.runs.get(id).map_or(0, |run| run.started_unix_ms))
            .collect();
        let runs = self.table.ids().iter().map(|id| self.runs.get(id));
        let to_the_end: Vec<bool> = runs.map(|run| run.is_some_and(|run| !run.ended.is_early())).collect();
        let since_ms: BTreeMap<Option<Class>, u64> = frequencies
            .whole
            .iter()
            .filter_map(|(class, whole)| {
                let told =
                    started.iter().zip(whole).zip(&to_the_end).filter(|((_, told), ended)| **told && **ended);
                let mut told: Vec<u64> = told.map(|((started, _), _)| *started).collect();
                told.sort_unstable_by(|a, b| b.cmp(a));
                Some((*class, *told.get(n_runs.checked_sub(1)?)?))
            })
            .collect();
        let last_ms =
            |runs: &[u32]| runs.iter().filter_map(|place| started.get(*place as usize)).max().copied();
        self.without(phases, |class, runs| {
            since_ms
                .get(&class)
                .is_some_and(|since_ms| last_ms(runs).is_some_and(|last_ms| last_ms < *since_ms))
        })
    }

    /// The recording without what is superfluous in these phases, by its class (system calls: `None`) and the runs that have it.
    fn without(
        mut self,
        phases: PhaseSet,
        is_superfluous: impl Fn(Option<Class>, &[u32]) -> bool,
    ) -> (Self, Rare) {
        let mut rare = Rare::default();
        // Whether it goes from these phases, and whether it stays in some other.
        let keep = |class, seen: &mut Seen| {
            let runs = places(seen, phases);
            let goes = !runs.is_empty() && is_superfluous(class, &runs);
            if goes {
                seen.retain(|phase| !phases.contains(phase));
            }
            (goes, !seen.phases().is_empty())
        };
        self.syscalls.retain(|key, seen| {
            let (goes, stays) = keep(None, seen);
            if goes {
                rare.calls.insert(*key);
            }
            stays
        });
        self.accesses.retain(|key, seen| {
            let (goes, stays) = keep(Some(key.what.class()), seen);
            if goes {
                rare.accesses.insert(key.clone());
            }
            stays
        });
        (self, rare)
    }
}

/// The runs in which something was seen in some of these phases, each once.
fn places(seen: &Seen, phases: PhaseSet) -> Vec<u32> {
    let sightings = seen.iter().filter(|(phase, _)| phases.contains(*phase));
    let mut places: Vec<u32> =
        sightings.flat_map(|(_, sighting)| sighting.runs.as_slice()).copied().collect();
    places.sort_unstable();
    places.dedup();
    places
}
