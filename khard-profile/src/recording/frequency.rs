//! Owns in how many runs something was seen, and in how many it would have been seen had it been done there. It does not judge what is
//! too rare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{AccessKey, Class, PhaseSet, Recording, Run, Seen, SyscallKey};

/// In how many runs something was seen. A run is *complete* here if it tells of absence too: see [`super::Coverage::tells_absence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// Complete runs in which it was seen.
    pub in_complete: usize,
    /// Complete runs in all.
    pub of_complete: usize,
    /// Other runs in which it was seen.
    pub in_others: usize,
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_complete, of_complete, in_others } = *self;
        match (of_complete, in_others) {
            (0, n) => write!(f, "in {n} runs, none of them complete"),
            (m, 0) => write!(f, "in {in_complete} of {m} complete runs"),
            (m, n) => write!(f, "in {in_complete} of {m} complete runs, and of others in {n}"),
        }
    }
}

/// Asks in how many runs things were seen.
#[derive(Clone, Debug)]
pub struct Frequencies {
    /// By class, system calls under `None`: whether each run is complete, by its place in the recording's table.
    complete: BTreeMap<Option<Class>, Vec<bool>>,
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
        let complete = self.complete.get(&class).map(Vec::as_slice).unwrap_or_default();
        let tells = |place: &&u32| complete.get(**place as usize) == Some(&true);
        let in_complete = runs.iter().filter(tells).count();
        let of_complete = complete.iter().filter(|complete| **complete).count();
        Frequency { in_complete, of_complete, in_others: runs.len() - in_complete }
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
        Frequencies { complete: classes.map(|class| (class, of(class))).collect() }
    }

    /// The recording without what was seen in fewer runs than `min_runs` in these phases, and what that is. Other phases stay.
    #[must_use]
    pub fn without_rare(mut self, min_runs: usize, phases: PhaseSet) -> (Self, Rare) {
        let mut rare = Rare::default();
        // True if it stays, in some phase.
        let keep = |seen: &mut Seen| {
            let n_runs = places(seen, phases).len();
            let is_rare = n_runs > 0 && n_runs < min_runs;
            if is_rare {
                seen.retain(|phase| !phases.contains(phase));
            }
            (is_rare, !seen.phases().is_empty())
        };
        self.syscalls.retain(|key, seen| {
            let (is_rare, stays) = keep(seen);
            if is_rare {
                rare.calls.insert(*key);
            }
            stays
        });
        self.accesses.retain(|key, seen| {
            let (is_rare, stays) = keep(seen);
            if is_rare {
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
