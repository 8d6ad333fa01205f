//! Owns how a recording becomes floor data. Knows nothing about what a floor is chosen for.

use std::collections::BTreeSet;

use super::{FloorData, FloorEntry, FloorKey, Start};
use crate::recording::{Abi, Phase, Recording, Run, RunId, Runtime};
use crate::syscalls;

/// Why a recording gives no floor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// Its runtime, version or `no_new_privs` is not known.
    #[error(
        "cannot measure a floor in run {0}: its runtime, the runtime's version or no_new_privs is not in the recording"
    )]
    UnknownRuntime(RunId),
    /// Something may be missing.
    #[error(
        "cannot measure a floor in run {0}: it is not proved that its system calls are complete from the first instruction"
    )]
    Incomplete(RunId),
    /// There was no filter, so nothing was seen under one.
    #[error(
        "cannot measure a floor in run {0}: no call was seen under a filter, run the container under one that logs all calls"
    )]
    Unfiltered(RunId),
    /// A call has no name.
    #[error("cannot write a floor with system call {nr} of {abi}: it has no name in khard's tables")]
    Unnamed {
        /// Its ABI.
        abi: Abi,
        /// Its number.
        nr: u32,
    },
}

impl FloorEntry {
    /// The floors that a recording shows: the calls of the phases `runtime_filtered` (start) and `joining_filtered` (exec).
    ///
    /// The containers must have run under a filter that lets every call through (`SCMP_ACT_LOG`), else a refused call is
    /// missing. A run without an exec adds nothing to the exec floor.
    pub fn measure(recording: &Recording) -> Result<Vec<Self>, MeasureError> {
        let mut data = FloorData::default();
        for run in recording.runs().values() {
            if !run.coverage.syscalls.is_complete() {
                return Err(MeasureError::Incomplete(run.id));
            }
            let (Some((runtime, version)), Some(no_new_privs)) =
                (run.runtime.as_ref().and_then(named), run.confinement.no_new_privs)
            else {
                return Err(MeasureError::UnknownRuntime(run.id));
            };
            for (kind, phase) in
                [(Start::Start, Phase::RuntimeFiltered), (Start::Exec, Phase::JoiningFiltered)]
            {
                let calls = calls_of(recording, run, phase)?;
                if calls.is_empty() && kind == Start::Start {
                    return Err(MeasureError::Unfiltered(run.id));
                }
                if !calls.is_empty() {
                    let (runtime, version) = (runtime.to_owned(), version.to_owned());
                    data.add(Self {
                        key: FloorKey { runtime, version, no_new_privs, kind },
                        n_containers: 1,
                        calls: calls.into_iter().map(|name| (name.to_owned(), 1)).collect(),
                    });
                }
            }
        }
        Ok(data.0.into_values().collect())
    }
}

fn named(runtime: &Runtime) -> Option<(&str, &str)> {
    Some((&runtime.name, runtime.version.as_deref()?))
}

fn calls_of(recording: &Recording, run: &Run, phase: Phase) -> Result<BTreeSet<&'static str>, MeasureError> {
    let of_run = recording.syscalls().iter().filter(|(_, seen)| {
        seen.in_phase(phase).is_some_and(|sighting| recording.was_in_run(sighting, run.id))
    });
    of_run
        .map(|(key, _)| {
            let call = syscalls::by_number(key.abi, key.nr);
            call.map(|call| call.name).ok_or(MeasureError::Unnamed { abi: key.abi, nr: key.nr })
        })
        .collect()
}
