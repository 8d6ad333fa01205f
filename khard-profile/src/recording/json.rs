//! Owns the JSON form of a recording, described in `docs/recording.md`. Knows nothing about files.
//!
//! Observations name runs by their place in the list of runs, which keeps a file with many runs small; that list comes
//! first, so that a reader can stream.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{
    Abi, AccessKey, Names, Phase, Recording, RefusedCall, Run, RunId, RunTable, SCHEMA_VERSION, Seen,
    Sighting, Subject, SyscallKey, Witness,
};
use crate::{Bytes, syscalls};

/// What a reader accepts, so that a hostile file cannot exhaust memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file.
    pub bytes: usize,
    /// Number of runs.
    pub runs: usize,
    /// Number of observations.
    pub observations: usize,
}

impl Default for Limits {
    /// Above what a session records of a subject: about 2,000 calls in all ABIs together, and accesses up to
    /// `khard_common::limits::ACCESSES` for each run. And above what 2,000 replicas give together, of which each has 10,000
    /// observations and a tenth of them alone: 2 million, in 750 MB.
    fn default() -> Self {
        Self { bytes: 1 << 30, runs: 4096, observations: 1 << 22 }
    }
}

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is too large.
    #[error("the recording is too large: {found} {unit}, the limit is {limit}")]
    TooLarge {
        /// What was counted: bytes, runs, observations.
        unit: &'static str,
        /// How many there are.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// It is no JSON object with a version.
    #[error("this is no khard recording: it is no JSON object with the number \"khard_recording\"")]
    NotARecording(#[source] serde_json::Error),
    /// Its end is missing.
    #[error("its end is missing: it was cut off, or is empty")]
    CutOff,
    /// A newer khard wrote it.
    #[error(
        "the recording has version {found}, this khard reads up to version {supported}: use the khard that wrote it, or a newer one"
    )]
    Newer {
        /// Its version.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// No khard ever wrote this version.
    #[error("the recording has version {0}, which does not exist: versions start with 1")]
    NoSuchVersion(u32),
    /// It breaks the form of its version.
    #[error("the recording does not have the form of version {version}")]
    Malformed {
        /// Its version.
        version: u32,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It contradicts itself.
    #[error("the recording contradicts itself: {0}")]
    Inconsistent(String),
}

#[derive(Deserialize)]
struct Head {
    khard_recording: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(rename = "khard_recording")]
    _version: u32,
    written_by: String,
    subject: Subject,
    runs: Vec<Run>,
    syscalls: Vec<SyscallForm>,
    /// None before version 2.
    #[serde(default)]
    accesses: Vec<AccessForm>,
    /// None before version 4.
    #[serde(default)]
    refused_syscalls: Vec<RefusedForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessForm {
    access: AccessKey,
    seen: Vec<SeenForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedForm {
    abi: Abi,
    nr: u32,
    /// As in [`SyscallForm`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    errno: u16,
    seen: Vec<SeenForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SyscallForm {
    abi: Abi,
    nr: u32,
    /// For people. It follows from the number, so a reader does not use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    seen: Vec<SeenForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenForm {
    phase: Phase,
    runs: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witness: Option<WitnessForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessForm {
    time_ns: u64,
    run: usize,
    tgid: u32,
    tid: u32,
    comm: Bytes,
    exe: Bytes,
}

impl Recording {
    /// Reads a recording of this or an older version, within the default limits.
    pub fn from_json(json: &[u8]) -> Result<Self, ReadError> {
        Self::from_json_within(json, Limits::default())
    }

    /// Reads a recording of this or an older version.
    ///
    /// # Errors
    /// When it exceeds a limit, is of a newer version, has an unknown key, or contradicts itself.
    pub fn from_json_within(json: &[u8], limits: Limits) -> Result<Self, ReadError> {
        within("bytes", json.len(), limits.bytes)?;
        let version = serde_json::from_slice::<Head>(json)
            .map_err(
                |error| if error.is_eof() { ReadError::CutOff } else { ReadError::NotARecording(error) },
            )?
            .khard_recording;
        if version > SCHEMA_VERSION {
            return Err(ReadError::Newer { found: version, supported: SCHEMA_VERSION });
        }
        if version == 0 {
            return Err(ReadError::NoSuchVersion(version));
        }
        let file: FileForm =
            serde_json::from_slice(json).map_err(|source| ReadError::Malformed { version, source })?;
        within("runs", file.runs.len(), limits.runs)?;
        let of_calls = file.syscalls.iter().map(|call| call.seen.len());
        let of_accesses = file.accesses.iter().map(|access| access.seen.len());
        let of_refused = file.refused_syscalls.iter().map(|call| call.seen.len());
        let n_observations = of_calls.chain(of_accesses).chain(of_refused).sum();
        within("observations", n_observations, limits.observations)?;

        let ids: Vec<RunId> = file.runs.iter().map(|run| run.id).collect();
        let runs: BTreeMap<RunId, Run> = file.runs.into_iter().map(|run| (run.id, run)).collect();
        if runs.len() != ids.len() {
            return Err(ReadError::Inconsistent("a run is listed twice".to_owned()));
        }
        // In this order, so that places in the file are places in the table.
        let mut table = RunTable::default();
        for id in ids {
            table.add(id);
        }
        let mut names = Names::default();
        let mut calls = BTreeMap::new();
        for call in file.syscalls {
            let SyscallForm { abi, nr, name: _, seen } = call;
            let seen = read_seen(seen, &table, &mut names)
                .map_err(|why| ReadError::Inconsistent(format!("syscall {nr} of {abi}: {why}")))?;
            if calls.insert(SyscallKey { abi, nr }, seen).is_some() {
                return Err(ReadError::Inconsistent(format!("syscall {nr} of {abi} is listed twice")));
            }
        }
        let mut accesses = BTreeMap::new();
        for AccessForm { access, seen } in file.accesses {
            let seen = read_seen(seen, &table, &mut names)
                .map_err(|why| ReadError::Inconsistent(format!("access {:?}: {why}", access.what)))?;
            if let Some((key, _)) = accesses.get_key_value(&access) {
                return Err(ReadError::Inconsistent(format!("access {key:?} is listed twice")));
            }
            accesses.insert(access, seen);
        }
        let mut refused_calls = BTreeMap::new();
        for RefusedForm { abi, nr, name: _, errno, seen } in file.refused_syscalls {
            let what = format!("the refused syscall {nr} of {abi} with error {errno}");
            let seen = read_seen(seen, &table, &mut names)
                .map_err(|why| ReadError::Inconsistent(format!("{what}: {why}")))?;
            let call = RefusedCall { key: SyscallKey { abi, nr }, errno };
            if refused_calls.insert(call, seen).is_some() {
                return Err(ReadError::Inconsistent(format!("{what} is listed twice")));
            }
        }
        let (written_by, subject) = (file.written_by, file.subject);
        Ok(Self { written_by, subject, runs, table, syscalls: calls, accesses, refused_calls, names })
    }

    /// Writes the recording: sorted, one run and one system call a line, the same bytes for the same recording.
    pub fn write_json(&self, mut out: impl Write) -> io::Result<()> {
        let in_file: BTreeMap<&RunId, usize> = self.runs.keys().zip(0..).collect();
        let places = Places {
            table: &self.table,
            in_file: self.table.ids().iter().filter_map(|id| in_file.get(id).copied()).collect(),
        };
        write!(out, "{{\n\"khard_recording\":{SCHEMA_VERSION},\n\"written_by\":")?;
        serde_json::to_writer(&mut out, &self.written_by)?;
        out.write_all(b",\n\"subject\":")?;
        serde_json::to_writer(&mut out, &self.subject)?;
        out.write_all(b",\n\"runs\":[")?;
        write_lines(&mut out, self.runs.values())?;
        out.write_all(b"],\n\"syscalls\":[")?;
        let calls = self.syscalls.iter().map(|(key, seen)| SyscallForm {
            abi: key.abi,
            nr: key.nr,
            name: name_of(*key),
            seen: places.seen_forms(seen),
        });
        write_lines(&mut out, calls)?;
        out.write_all(b"],\n\"accesses\":[")?;
        let accesses = self
            .accesses
            .iter()
            .map(|(key, seen)| AccessForm { access: key.clone(), seen: places.seen_forms(seen) });
        write_lines(&mut out, accesses)?;
        out.write_all(b"],\n\"refused_syscalls\":[")?;
        let refused = self.refused_calls.iter().map(|(call, seen)| RefusedForm {
            abi: call.key.abi,
            nr: call.key.nr,
            name: name_of(call.key),
            errno: call.errno,
            seen: places.seen_forms(seen),
        });
        write_lines(&mut out, refused)?;
        out.write_all(b"]\n}\n")
    }

    /// Whether a reader would take it again: as [`Self::from_json_within`], for what can be told before it is written.
    pub fn check_limits(&self, limits: Limits) -> Result<(), ReadError> {
        within("runs", self.runs.len(), limits.runs)?;
        within("observations", self.n_observations(), limits.observations)
    }

    /// The bytes that [`Self::write_json`] writes.
    pub fn to_json(&self) -> io::Result<Vec<u8>> {
        let mut json = Vec::new();
        self.write_json(&mut json)?;
        Ok(json)
    }
}

fn name_of(key: SyscallKey) -> Option<String> {
    syscalls::by_number(key.abi, key.nr).map(|call| call.name.to_owned())
}

fn within(unit: &'static str, found: usize, limit: usize) -> Result<(), ReadError> {
    if found > limit { Err(ReadError::TooLarge { unit, found, limit }) } else { Ok(()) }
}

fn write_lines<T: Serialize>(out: &mut impl Write, items: impl Iterator<Item = T>) -> io::Result<()> {
    for (idx, item) in items.enumerate() {
        out.write_all(if idx == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &item)?;
    }
    out.write_all(b"\n")
}

/// Where runs stand in the file, by their places in memory. Every run of the table is in the recording.
struct Places<'a> {
    table: &'a RunTable,
    in_file: Vec<usize>,
}

impl Places<'_> {
    fn seen_forms(&self, seen: &Seen) -> Vec<SeenForm> {
        seen.iter().map(|(phase, sighting)| self.seen_form(phase, sighting)).collect()
    }

    fn seen_form(&self, phase: Phase, sighting: &Sighting) -> SeenForm {
        let in_file = |place: u32| self.in_file.get(place as usize).copied();
        let mut runs: Vec<usize> =
            sighting.runs.as_slice().iter().filter_map(|place| in_file(*place)).collect();
        runs.sort_unstable();
        SeenForm {
            phase,
            runs,
            witness: sighting.witness.as_ref().and_then(|witness| {
                Some(WitnessForm {
                    time_ns: witness.time_ns,
                    run: self.table.place(witness.run).and_then(in_file)?,
                    tgid: witness.tgid,
                    tid: witness.tid,
                    comm: witness.comm.clone(),
                    exe: witness.exe.clone(),
                })
            }),
        }
    }
}

fn read_seen(forms: Vec<SeenForm>, table: &RunTable, names: &mut Names) -> Result<Seen, String> {
    let known = |place: usize| {
        let place_in_table = u32::try_from(place).ok().filter(|place| table.id(*place).is_some());
        place_in_table.ok_or_else(|| format!("there is no run number {place}"))
    };
    let mut seen = Seen::default();
    for SeenForm { phase, runs, witness } in forms {
        if witness.as_ref().is_some_and(|witness| !runs.contains(&witness.run)) {
            return Err(format!("the witness of phase {phase} is of a run that did not make the call"));
        }
        if runs.is_empty() || seen.in_phase(phase).is_some() {
            return Err(format!("phase {phase} is listed twice, or without a run"));
        }
        let runs = runs.into_iter().map(known).collect::<Result<Vec<_>, _>>()?;
        let witness = witness.and_then(|witness| {
            Some(Box::new(Witness {
                time_ns: witness.time_ns,
                run: *table.id(u32::try_from(witness.run).ok()?)?,
                tgid: witness.tgid,
                tid: witness.tid,
                comm: witness.comm,
                exe: witness.exe,
            }))
        });
        seen.add(phase, runs, witness);
    }
    names.share_all(&mut seen);
    if seen.phases().is_empty() { Err("no phase".to_owned()) } else { Ok(seen) }
}
