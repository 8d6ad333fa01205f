//! One subject as a stream has told of it. Knows no other.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use khard_profile::recording::{
    Access, AccessCoverage, AccessKey, Coverage, Ended, Mark, Observed as ObservedClass, Outcome, Phase,
    Proof, Recording, RefusedCall, Run, RunId, SyscallKey, UnknownRun, Witness,
};

use crate::stream::{By, Stage, SubjectState};

/// Who it is, and all that it did.
#[derive(Debug)]
pub struct Observed {
    state: SubjectState,
    calls: BTreeMap<(SyscallKey, Stage), Option<By>>,
    accesses: BTreeMap<(AccessKey, Stage), By>,
    refused: BTreeMap<(RefusedCall, Stage), By>,
    /// Of those that were refused: only asked, and done if there is one that was granted.
    asked: BTreeSet<(AccessKey, Stage)>,
    last_new_ns: Option<u64>,
    n_changes: u64,
    n_states: u64,
}

impl Observed {
    pub(super) fn new(state: SubjectState) -> Self {
        Self {
            state,
            calls: BTreeMap::new(),
            accesses: BTreeMap::new(),
            refused: BTreeMap::new(),
            asked: BTreeSet::new(),
            last_new_ns: None,
            n_changes: 0,
            n_states: 0,
        }
    }

    pub(super) fn set_state(&mut self, state: SubjectState) {
        self.state = state;
        self.n_changes += 1;
        self.n_states += 1;
    }

    /// True if it is new. A record that comes after the fact brings its witness.
    pub(super) fn add_call(&mut self, key: SyscallKey, stage: Stage, by: Option<By>) -> bool {
        self.n_changes += 1;
        let at_ns = by.as_ref().map(|by| by.time_ns);
        let mut is_new = false;
        let kept = self.calls.entry((key, stage)).or_insert_with(|| {
            is_new = true;
            None
        });
        *kept = match (kept.take(), by) {
            (Some(old), Some(new)) => Some(if new.time_ns < old.time_ns { new } else { old }),
            (old, new) => old.or(new),
        };
        if is_new {
            self.last_new_ns = self.last_new_ns.max(at_ns);
        }
        is_new
    }

    /// True if it is new.
    pub(super) fn add_access(&mut self, key: &AccessKey, stage: Stage, asked: bool, by: &By) -> bool {
        let is_new = keep_first(&mut self.accesses, (key.clone(), stage), by);
        if is_new && asked {
            self.asked.insert((key.clone(), stage));
        }
        self.note_new(is_new, by);
        is_new
    }

    /// True if it is new.
    pub(super) fn add_refused(&mut self, call: RefusedCall, stage: Stage, by: &By) -> bool {
        let is_new = keep_first(&mut self.refused, (call, stage), by);
        self.note_new(is_new, by);
        is_new
    }

    fn note_new(&mut self, is_new: bool, by: &By) {
        if is_new {
            self.last_new_ns = self.last_new_ns.max(Some(by.time_ns));
            self.n_changes += 1;
        }
    }

    /// Who it is and how it stands.
    pub fn state(&self) -> &SubjectState {
        &self.state
    }

    /// How often anything of it has changed: another number, another Recording but for its duration.
    pub fn n_changes(&self) -> u64 {
        self.n_changes
    }

    /// How often its state was told again.
    pub fn n_states(&self) -> u64 {
        self.n_states
    }

    /// How many observations there are.
    pub fn len(&self) -> usize {
        self.calls.len() + self.accesses.len() + self.refused.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the last thing came that was new.
    pub fn last_new_ns(&self) -> Option<u64> {
        self.last_new_ns
    }

    /// Every call in every phase, with the first who made it.
    pub fn calls(&self) -> impl Iterator<Item = (SyscallKey, Phase, Option<&By>)> {
        let place = |stage| self.state.placement.of(stage);
        self.calls.iter().map(move |((key, stage), by)| (*key, place(*stage), by.as_ref()))
    }

    /// Every access in every phase, with the first who asked.
    pub fn accesses(&self) -> impl Iterator<Item = (&AccessKey, Phase, &By)> {
        let place = |stage| self.state.placement.of(stage);
        let found = self.accesses.iter().filter(|(key, _)| !self.was_done(key));
        found.map(move |((key, stage), by)| (key, place(*stage), by))
    }

    /// Every call that a filter refused, in every phase, with the first who tried it.
    pub fn refused_calls(&self) -> impl Iterator<Item = (RefusedCall, Phase, &By)> {
        self.refused.iter().map(|((call, stage), by)| (*call, self.state.placement.of(*stage), by))
    }

    /// Different calls of the workload and of joiners, for whom profiles are made.
    pub fn n_calls(&self) -> usize {
        let ours = self.calls().filter(|(_, phase, _)| matches!(phase, Phase::Workload | Phase::Joiner));
        ours.map(|(key, _, _)| key).collect::<BTreeSet<_>>().len()
    }

    /// Whether this is only the question to what was done.
    fn was_done(&self, key: &(AccessKey, Stage)) -> bool {
        let done = || AccessKey { outcome: Outcome::Granted, ..key.0.clone() };
        self.asked.contains(key) && self.accesses.contains_key(&(done(), key.1))
    }

    /// The run as it stands. `marks`: those between two times.
    pub(super) fn run(&self, if_alive: Ended, now_ns: u64, marks: impl Fn(u64, u64) -> Vec<Mark>) -> Run {
        let mut run = self.state.run.clone();
        let start_ns = run.id.start_ns;
        if self.state.is_alive() {
            run.ended = if_alive;
            run.duration_ms = run.duration_ms.max(now_ns.saturating_sub(start_ns) / 1_000_000);
            if if_alive == Ended::AgentLost {
                unprove(&mut run);
            }
        }
        run.marks = marks(
            start_ns,
            start_ns.saturating_add(run.duration_ms.saturating_add(1).saturating_mul(1_000_000)),
        );
        run
    }

    pub(super) fn write_to(&self, recording: &mut Recording, run: RunId) -> Result<(), UnknownRun> {
        let witness = |by: &By| Witness {
            time_ns: by.time_ns.saturating_sub(run.start_ns),
            run,
            tgid: by.tgid,
            tid: by.tid,
            comm: by.comm.clone(),
            exe: by.exe.clone(),
        };
        for (key, phase, by) in self.calls() {
            recording.observe_syscall(run, key, phase, by.map(witness))?;
        }
        for (key, phase, by) in self.accesses() {
            recording.observe_access(run, key.clone(), phase, Some(witness(by)))?;
        }
        for (call, phase, by) in self.refused_calls() {
            recording.observe_refused_call(run, call, phase, Some(witness(by)))?;
        }
        Ok(())
    }
}

/// Keeps who did it first; true if nobody had.
fn keep_first<K: Ord>(kept: &mut BTreeMap<K, By>, key: K, by: &By) -> bool {
    match kept.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(by.clone());
            true
        }
        Entry::Occupied(mut entry) => {
            if by.time_ns < entry.get().time_ns {
                entry.insert(by.clone());
            }
            false
        }
    }
}

/// What the counters said last is no proof of what came after.
fn unprove(run: &mut Run) {
    const WHY: &str =
        "the agent was lost: what it did not tell any more is missing, and so are its last counts";
    let unproved = |coverage: &Coverage| {
        let of = |observed: &ObservedClass| ObservedClass {
            proof: Proof::Unproved { reason: WHY.to_owned() },
            ..observed.clone()
        };
        match coverage {
            Coverage::None(reason) => Coverage::None(reason.clone()),
            Coverage::Exact(observed) => Coverage::Exact(of(observed)),
            Coverage::Inferred(observed) => Coverage::Inferred(of(observed)),
        }
    };
    run.coverage.syscalls = unproved(&run.coverage.syscalls);
    run.coverage.refused_syscalls = unproved(&run.coverage.refused_syscalls);
    let accesses = run.coverage.accesses.clone();
    run.coverage.accesses = AccessCoverage::new(|class| unproved(accesses.of(class)));
    run.notes.push(WHY.to_owned());
}

/// As much memory as a key's own strings take.
pub(super) fn size_of_key(key: &AccessKey) -> usize {
    let strings = match &key.what {
        Access::File(file) => file.path.as_slice().len(),
        Access::Link { link, target } => link.as_slice().len() + target.as_slice().len(),
        Access::Mount { fstype, source, target, .. } => {
            [fstype, source, target].map(|part| part.as_slice().len()).iter().sum()
        }
        Access::Umount { target, .. } => target.as_slice().len(),
        Access::PivotRoot { new_root, put_old } => new_root.as_slice().len() + put_old.as_slice().len(),
        _ => 0,
    };
    size_of::<AccessKey>() + strings
}
