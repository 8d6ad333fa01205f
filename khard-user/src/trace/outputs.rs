//! Where each subject's recording goes, checkpoints, and the final files.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::{Path, PathBuf},
};

use khard_profile::recording::{Ended, Recording};

use super::{Options, TraceError};
use crate::{
    causes::with_causes,
    output::files::OutDir,
    profiles::{self, ProfileChoices, Written},
    runtime::Container,
    session::{InstanceId, Session, SessionError},
};

/// The recording's file name.
pub(crate) const RECORDING_FILE: &str = "recording.json";
/// What a killed khard leaves; removed once the recording is written.
pub(crate) const CHECKPOINT_FILE: &str = "recording.checkpoint.json";

/// What was written for one subject.
#[derive(Debug)]
pub struct Report {
    /// Its folder.
    pub dir: PathBuf,
    /// The classes of coverage in which something may be lost.
    pub lossy: BTreeSet<&'static str>,
    /// What was made of it.
    pub written: Written,
}

/// One subject's folder: one or two components below the output folder.
type Place = Vec<String>;

/// All places of a session.
pub(super) struct Outputs {
    out: OutDir,
    name: Option<String>,
    choices: ProfileChoices,
    instances: BTreeMap<Place, Vec<InstanceId>>,
    /// How many instances a place's last checkpoint held, if all had ended by then: it needs no other before there are more.
    settled: BTreeMap<Place, usize>,
    /// Whose a place is: two different cgroups with one last component must not share it.
    owners: BTreeMap<Place, PathBuf>,
}

impl Outputs {
    /// Opens the folder and finds out now whether it can be written.
    pub(super) fn open(options: &Options) -> Result<Self, TraceError> {
        let out = OutDir::open(&options.out_dir)?;
        out.check()?;
        Ok(Self {
            out,
            name: options.name.clone(),
            choices: options.choices.clone(),
            instances: BTreeMap::new(),
            settled: BTreeMap::new(),
            owners: BTreeMap::new(),
        })
    }

    pub(super) fn assign_command(&mut self, program: &OsStr, id: InstanceId) -> Result<(), TraceError> {
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        self.assign(vec![self.name.clone().unwrap_or(name)], Path::new(program), id)
    }

    pub(super) fn assign_cgroup(&mut self, path: &Path, id: InstanceId) -> Result<(), TraceError> {
        self.assign(self.place_of_cgroup(path), path, id)
    }

    /// Keeps a place for a cgroup that is not there yet.
    pub(super) fn expect_cgroup(&mut self, path: &Path) -> Result<(), TraceError> {
        self.own(self.place_of_cgroup(path), path).map(drop)
    }

    fn place_of_cgroup(&self, path: &Path) -> Place {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        vec![self.name.clone().unwrap_or(name)]
    }

    pub(super) fn assign_container(
        &mut self,
        container: &Container,
        id: InstanceId,
    ) -> Result<(), TraceError> {
        let pod = self.name.clone().unwrap_or_else(|| container.pod.name.clone());
        let owner = Path::new(&container.pod.namespace).join(&container.pod.name);
        self.assign(vec![pod, container.name.clone()], &owner, id)
    }

    fn assign(&mut self, place: Place, owner: &Path, id: InstanceId) -> Result<(), TraceError> {
        let place = self.own(place, owner)?;
        self.instances.entry(place).or_default().push(id);
        Ok(())
    }

    /// Makes a place somebody's; an error if it is another's.
    fn own(&mut self, place: Place, owner: &Path) -> Result<Place, TraceError> {
        let first = self.owners.entry(place.clone()).or_insert_with(|| owner.to_owned());
        if first != owner {
            return Err(TraceError::SameFolder(self.out.path().join(place.join("/")).display().to_string()));
        }
        Ok(place)
    }

    fn dir(&self, place: &[String]) -> Result<OutDir, TraceError> {
        let (first, rest) = place.split_first().ok_or(TraceError::Nothing("a subject has no name"))?;
        let mut dir = self.out.subdir(first)?;
        for component in rest {
            dir = dir.subdir(component)?;
        }
        Ok(dir)
    }

    /// Writes what is known by now. A full disk or a lost folder is said and tried again: the recording goes on.
    pub(super) fn checkpoint(&mut self, session: &Session) -> Result<(), TraceError> {
        for (place, ids) in &self.instances {
            if self.settled.get(place) == Some(&ids.len()) {
                continue;
            }
            let has_ended = |id: &InstanceId| session.instance(*id).is_some_and(|one| one.ended().is_some());
            let is_settled = ids.iter().all(has_ended);
            let Some(recording) = session.recording(ids, Ended::Checkpoint)? else { continue };
            let json = to_json(&recording)?;
            let written = self.dir(place).and_then(|dir| Ok(dir.write_unsynced(CHECKPOINT_FILE, &json)?));
            match written {
                Ok(_) if is_settled => drop(self.settled.insert(place.clone(), ids.len())),
                Ok(_) => {}
                Err(error) => tracing::warn!("no checkpoint: {}", with_causes(&error)),
            }
        }
        Ok(())
    }

    /// Writes everything. Each subject is tried, whatever happens to the others; the first failure is returned.
    pub(super) fn finish(&self, session: &Session) -> Result<Vec<Report>, TraceError> {
        let mut reports = Vec::new();
        let mut failed = None;
        for (place, ids) in &self.instances {
            let Some(recording) = session.recording(ids, Ended::Interrupted)? else { continue };
            match self.write(place, &recording) {
                Ok(report) => reports.push(report),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(reports), Err)
    }

    fn write(&self, place: &[String], recording: &Recording) -> Result<Report, TraceError> {
        let dir = self.dir(place)?;
        dir.write(RECORDING_FILE, &to_json(recording)?)?;
        dir.remove(CHECKPOINT_FILE);
        let written = profiles::write(recording, &self.choices, &dir)?;
        Ok(Report { dir: dir.path().to_owned(), lossy: recording.lossy_classes(), written })
    }
}

fn to_json(recording: &Recording) -> Result<Vec<u8>, TraceError> {
    recording.to_json().map_err(|error| SessionError::Assemble(Box::new(error)).into())
}
