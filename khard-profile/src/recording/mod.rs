//! Owns the Recording: the one durable, versioned, mergeable document of what subjects did. Knows no kernel and no file.
//!
//! Its JSON form is described in `docs/recording.md`; [`Recording::from_json`] and [`Recording::write_json`] are the only
//! reader and writer.

mod access;
mod coverage;
mod frequency;
mod json;
mod merge;
mod phase;
mod run;
mod run_set;
mod subject;
mod syscall;

use std::collections::{BTreeMap, BTreeSet};

pub use access::{
    Access, AccessKey, BadFilePerms, Certainty, Class, FileAccess, FileFacts, FileOp, FilePerms, IoUringOp,
    Outcome, Peer, PtraceMode,
};
pub use coverage::{
    AccessCoverage, Attachment, Coverage, From, MissingClass, NotObserved, Observed, Proof, RunCoverage,
};
pub use frequency::{Frequencies, Frequency, Rare};
pub use json::{Limits, ReadError};
pub use merge::{MergeError, MergePolicy};
pub use phase::{Phase, PhaseSet, UnknownPhase};
pub use run::{
    AppArmorInForce, BadRunId, Confinement, ContainerRun, Ended, Host, Mark, Run, RunId, Runtime,
    SeccompInForce,
};
pub use run_set::RunSet;
use run_set::RunTable;
pub use subject::{NameFrom, Subject, WorkloadFrom};
pub use syscall::{Abi, RefusedCall, Seen, Sighting, SyscallKey, Witness};

use crate::Bytes;

/// The version of the JSON form that this crate writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 5;

/// What one subject did, over one or more runs.
///
/// Every run that an observation names is in the document, and an observation names at least one.
#[derive(Clone, Debug)]
pub struct Recording {
    written_by: String,
    subject: Subject,
    runs: BTreeMap<RunId, Run>,
    /// By which observations name the runs.
    table: RunTable,
    syscalls: BTreeMap<SyscallKey, Seen>,
    accesses: BTreeMap<AccessKey, Seen>,
    refused_calls: BTreeMap<RefusedCall, Seen>,
    /// Names of threads and executables, so that each is in memory once.
    names: Names,
}

impl PartialEq for Recording {
    /// Neither the order in which runs came nor what is shared in memory counts.
    fn eq(&self, other: &Self) -> bool {
        let same_but_seen = self.written_by == other.written_by
            && self.subject == other.subject
            && self.runs == other.runs
            && self.syscalls.len() == other.syscalls.len()
            && self.accesses.len() == other.accesses.len()
            && self.refused_calls.len() == other.refused_calls.len();
        let places = || other.table.ids().iter().map(|id| self.table.place(*id)).collect::<Option<Vec<_>>>();
        same_but_seen
            && places().is_some_and(|places| {
                same(&self.syscalls, &other.syscalls, &places)
                    && same(&self.accesses, &other.accesses, &places)
                    && same(&self.refused_calls, &other.refused_calls, &places)
            })
    }
}

impl Eq for Recording {}

/// Whether observations of as many keys are the same, where the other's runs have these places here.
fn same<K: Eq>(ours: &BTreeMap<K, Seen>, theirs: &BTreeMap<K, Seen>, places: &[u32]) -> bool {
    ours.iter().zip(theirs).all(|((key, ours), (other, theirs))| key == other && ours.equals(theirs, places))
}

/// Names that are in memory once, however many witnesses have them.
#[derive(Clone, Debug, Default)]
struct Names(BTreeSet<Bytes>);

impl Names {
    fn share(&mut self, name: &mut Bytes) {
        match self.0.get(name) {
            Some(known) => *name = known.clone(),
            None => drop(self.0.insert(name.clone())),
        }
    }

    fn share_all(&mut self, seen: &mut Seen) {
        for witness in seen.witnesses_mut() {
            self.share(&mut witness.comm);
            self.share(&mut witness.exe);
        }
    }
}

/// An observation for a run that was not added before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot record an observation of run {0}: the recording has no such run, add it first")]
pub struct UnknownRun(pub RunId);

impl Recording {
    /// An empty recording, written by this version of khard.
    pub fn new(subject: Subject) -> Self {
        let written_by = format!("khard {}", env!("CARGO_PKG_VERSION"));
        Self {
            written_by,
            subject,
            runs: BTreeMap::new(),
            table: RunTable::default(),
            syscalls: BTreeMap::new(),
            accesses: BTreeMap::new(),
            refused_calls: BTreeMap::new(),
            names: Names::default(),
        }
    }

    /// Adds a run, or replaces the one with the same id: a session updates it as it goes on.
    pub fn add_run(&mut self, run: Run) {
        self.table.add(run.id);
        self.runs.insert(run.id, run);
    }

    /// Records that a run made a call in a phase. Doing it again changes nothing but for a lesser witness.
    pub fn observe_syscall(
        &mut self,
        run: RunId,
        key: SyscallKey,
        phase: Phase,
        witness: Option<Witness>,
    ) -> Result<(), UnknownRun> {
        let runs = self.known(run, witness.as_ref())?;
        self.syscalls.entry(key).or_default().add(phase, runs, witness.map(Box::new));
        Ok(())
    }

    /// Records that a run asked something of the kernel in a phase. As [`Self::observe_syscall`].
    pub fn observe_access(
        &mut self,
        run: RunId,
        key: AccessKey,
        phase: Phase,
        witness: Option<Witness>,
    ) -> Result<(), UnknownRun> {
        let runs = self.known(run, witness.as_ref())?;
        self.accesses.entry(key).or_default().add(phase, runs, witness.map(Box::new));
        Ok(())
    }

    /// Records that a filter refused a call of a run in a phase. As [`Self::observe_syscall`].
    pub fn observe_refused_call(
        &mut self,
        run: RunId,
        call: RefusedCall,
        phase: Phase,
        witness: Option<Witness>,
    ) -> Result<(), UnknownRun> {
        let runs = self.known(run, witness.as_ref())?;
        self.refused_calls.entry(call).or_default().add(phase, runs, witness.map(Box::new));
        Ok(())
    }

    /// Takes a system call that a filter refused for one that was made: somebody wants it allowed.
    pub fn grant_call(&mut self, key: SyscallKey) {
        let refused: Vec<_> = self.refused_calls.extract_if(.., |call, _| call.key == key).collect();
        for (_, seen) in refused {
            self.syscalls.entry(key).or_default().take_in(seen);
        }
    }

    /// Takes an access that was refused for one that was granted.
    pub fn grant_access(&mut self, key: &AccessKey) {
        if let Some(seen) = self.accesses.remove(key) {
            let granted = AccessKey { outcome: Outcome::Granted, ..key.clone() };
            self.accesses.entry(granted).or_default().take_in(seen);
        }
    }

    /// The places of the runs that an observation names, all of which must be there.
    fn known(&self, run: RunId, witness: Option<&Witness>) -> Result<[u32; 2], UnknownRun> {
        let place = |run: RunId| self.table.place(run).ok_or(UnknownRun(run));
        Ok([place(run)?, place(witness.map_or(run, |witness| witness.run))?])
    }

    /// Records a byte of a run's syscall table: the call was made in each phase of the set.
    pub fn observe_phases(
        &mut self,
        run: RunId,
        key: SyscallKey,
        phases: PhaseSet,
    ) -> Result<(), UnknownRun> {
        phases.iter().try_for_each(|phase| self.observe_syscall(run, key, phase, None))
    }

    /// The khard that wrote it, such as `khard 0.1.0`; of merged recordings the last by name.
    pub fn written_by(&self) -> &str {
        &self.written_by
    }

    /// Who was recorded.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The runs, in the order of their ids.
    pub fn runs(&self) -> &BTreeMap<RunId, Run> {
        &self.runs
    }

    /// The runs in which something was seen, in no order.
    pub fn runs_of<'a>(&'a self, sighting: &'a Sighting) -> impl Iterator<Item = &'a Run> {
        let ids = sighting.runs.as_slice().iter().filter_map(|place| self.table.id(*place));
        ids.filter_map(|id| self.runs.get(id))
    }

    /// True if something was seen in this run.
    pub fn was_in_run(&self, sighting: &Sighting, run: RunId) -> bool {
        self.table.place(run).is_some_and(|place| sighting.runs.contains(place))
    }

    /// The system calls, by ABI and number.
    pub fn syscalls(&self) -> &BTreeMap<SyscallKey, Seen> {
        &self.syscalls
    }

    /// The accesses, in the order of their keys.
    pub fn accesses(&self) -> &BTreeMap<AccessKey, Seen> {
        &self.accesses
    }

    /// The system calls that a seccomp filter refused, in the order of ABI and number.
    pub fn refused_calls(&self) -> &BTreeMap<RefusedCall, Seen> {
        &self.refused_calls
    }

    /// How many observations there are: a call, an access or a refused call counts once in each phase.
    pub fn n_observations(&self) -> usize {
        self.syscalls
            .values()
            .chain(self.accesses.values())
            .chain(self.refused_calls.values())
            .map(|seen| seen.iter().count())
            .sum()
    }

    /// The classes of coverage in which some run is lossy, by their names in JSON.
    pub fn lossy_classes(&self) -> BTreeSet<&'static str> {
        let classes = self.runs.values().flat_map(|run| run.coverage.classes());
        classes.filter(|(_, coverage)| coverage.is_lossy()).map(|(class, _)| class).collect()
    }

    /// True if some run is lossy: see [`Coverage::is_lossy`].
    pub fn is_lossy(&self) -> bool {
        self.runs.values().any(Run::is_lossy)
    }
}
