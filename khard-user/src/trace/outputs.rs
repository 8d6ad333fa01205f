//! Where each subject's recording goes, checkpoints, and the final files.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

use khard_profile::{
    Bytes, escape,
    recording::{Ended, Recording, Subject},
};

use super::{Files, Options, Source, TraceError, Unite};
use crate::{
    agent,
    causes::with_causes,
    output::{CHECKPOINT_FILE, RECORDING_FILE, files::OutDir, place::Place},
    profiles::{self, ProfileChoices, Written},
    stream::{SubjectId, SubjectState, Target},
    subjects::{Observed, Subjects},
};

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

/// All places of a session.
pub(super) struct Outputs {
    out: OutDir,
    name: Option<String>,
    /// Pods that nobody named are recorded, so that a pod's name may be there twice.
    by_namespace: bool,
    choices: ProfileChoices,
    unite: Option<Unite>,
    /// The image of the first instance of each container, where others have folders of their own.
    images: BTreeMap<Place, String>,
    instances: BTreeMap<Place, Vec<SubjectId>>,
    /// How often each instance of a place had changed at its last checkpoint: it needs no other before there is more.
    saved: BTreeMap<Place, Vec<u64>>,
    /// Whose a place is: two different cgroups with one last component must not share it.
    owners: BTreeMap<Place, Owner>,
}

/// What it is, and its name: a cgroup's or command's path, a pod's namespace and name, or the name that Docker has for it.
type Owner = Vec<Bytes>;

impl Outputs {
    /// Opens the folder and finds out now whether it can be written, and whether two targets would have the same place.
    pub(super) fn open(options: &Options, files: &Files) -> Result<Self, TraceError> {
        let out = OutDir::open(&files.out_dir)?;
        out.check()?;
        let mut outputs = Self {
            out,
            name: files.name.clone(),
            by_namespace: options
                .request
                .targets
                .iter()
                .any(|one| matches!(one, Target::Every | Target::New)),
            choices: files.choices.clone(),
            unite: files.unite,
            images: BTreeMap::new(),
            instances: BTreeMap::new(),
            saved: BTreeMap::new(),
            owners: BTreeMap::new(),
        };
        for path in &options.request.cgroups {
            outputs.own(outputs.place_of_path(path), &owner("cgroup", [path.clone()]))?;
        }
        if let Source::Here { command: Some(command) } = &options.source
            && let Some(program) = command.argv.first()
            && !agent::starts_container(&command.argv)
        {
            let program = Bytes::from(program.as_encoded_bytes());
            outputs.own(outputs.place_of_path(&program), &owner("command", [program]))?;
        }
        Ok(outputs)
    }

    fn place_of_path(&self, path: &Bytes) -> Place {
        Place::of_path(path.as_slice(), self.name.as_deref())
    }

    /// Gives an instance its place: that of its subject.
    pub(super) fn assign(&mut self, state: &SubjectState) -> Result<(), TraceError> {
        let pod = state.run.container.as_ref().map(|run| run.pod.as_str()).filter(|_| self.unite.is_none());
        let mut place = Place::of_subject(&state.subject, pod, self.name.as_deref(), self.by_namespace);
        if let Some(run) = state.run.container.as_ref().filter(|_| self.unite == Some(Unite::Replicas)) {
            place = self.put_apart(place, &run.image_id);
        }
        let owner = match &state.subject {
            Subject::Command { program } => owner("command", [program.clone()]),
            Subject::Cgroup { path } => owner("cgroup", [path.clone()]),
            Subject::Docker { name, .. } => owner("docker", [Bytes::from(name.as_str())]),
            Subject::Container { namespace, workload, .. } => {
                owner("pod", [Bytes::from(namespace.as_str()), Bytes::from(pod.unwrap_or(workload))])
            }
        };
        if let (Subject::Cgroup { path }, Some([kind, asked])) =
            (&state.subject, self.owners.get(&place).map(Vec::as_slice))
            && owner[0] == *kind
            && is_written_as(path, asked)
        {
            self.owners.insert(place.clone(), owner.clone());
        }
        let is_docker = matches!(state.subject, Subject::Docker { .. });
        if is_docker && self.owners.get(&place).is_some_and(|first| *first != owner) {
            // Nobody chose that both are called so.
            place = place.beside("docker");
        }
        self.own(place.clone(), &owner)?;
        self.instances.entry(place).or_default().push(state.id);
        Ok(())
    }

    /// Gives another image than the first one of a container a folder beside it: `nginx@1a2b3c4d5e6f`.
    fn put_apart(&mut self, place: Place, image_id: &str) -> Place {
        let first = self.images.entry(place.clone()).or_insert_with(|| image_id.to_owned());
        if first == image_id {
            return place;
        }
        let digest = image_id.rsplit(':').next().unwrap_or_default();
        let apart = place.beside(&digest.chars().take(12).collect::<String>());
        let shown = escape::terminal(apart.to_string().as_bytes());
        tracing::warn!("another image has a folder of its own, {shown} (--unite rollouts makes them one)");
        apart
    }

    /// Makes a place somebody's; an error if it is another's.
    fn own(&mut self, place: Place, owner: &Owner) -> Result<(), TraceError> {
        let folder = self.out.path().join(place.to_string()).display().to_string();
        let first = self.owners.entry(place).or_insert_with(|| owner.clone());
        if first == owner { Ok(()) } else { Err(TraceError::SameFolder(folder)) }
    }

    /// The output folder, for people.
    pub(super) fn path(&self) -> String {
        self.out.path().display().to_string()
    }

    /// How profiles are made.
    pub(super) fn choices(&self) -> &ProfileChoices {
        &self.choices
    }

    fn dir(&self, place: &Place) -> Result<OutDir, TraceError> {
        Ok(place.open(&self.out)?)
    }

    /// Writes what is known by now. A full disk or a lost folder is said and tried again: the recording goes on.
    pub(super) fn checkpoint(&mut self, subjects: &Subjects) -> Result<(), TraceError> {
        for (place, ids) in &self.instances {
            let changes: Vec<u64> =
                ids.iter().filter_map(|id| subjects.get(*id)).map(Observed::n_changes).collect();
            if self.saved.get(place) == Some(&changes) {
                continue;
            }
            let Some(recording) = recording(subjects, ids, Ended::Checkpoint)? else { continue };
            let json = to_json(&recording)?;
            let written = self.dir(place).and_then(|dir| Ok(dir.write_unsynced(CHECKPOINT_FILE, &json)?));
            match written {
                Ok(_) => drop(self.saved.insert(place.clone(), changes)),
                Err(error) => tracing::warn!("no checkpoint: {}", with_causes(&error)),
            }
        }
        Ok(())
    }

    /// The instances that are written to the same place as this one.
    pub(super) fn together_with(&self, id: SubjectId) -> Vec<SubjectId> {
        self.instances.values().find(|ids| ids.contains(&id)).cloned().unwrap_or_default()
    }

    /// Takes away what was saved in between: the user wants nothing of it.
    pub(super) fn forget_checkpoints(&self) {
        for place in self.instances.keys() {
            if let Ok(dir) = self.dir(place) {
                dir.remove(CHECKPOINT_FILE);
            }
        }
    }

    /// Writes everything. Each subject is tried, whatever happens to the others; the first failure is returned. `if_alive`: how those
    /// end that were not told to have ended.
    pub(super) fn finish(&self, subjects: &Subjects, if_alive: Ended) -> Result<Vec<Report>, TraceError> {
        let mut reports = Vec::new();
        let mut failed = None;
        for (place, ids) in &self.instances {
            let Some(recording) = recording(subjects, ids, if_alive)? else { continue };
            match self.write(place, &recording) {
                Ok(report) => reports.push(report),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(reports), Err)
    }

    fn write(&self, place: &Place, recording: &Recording) -> Result<Report, TraceError> {
        let dir = self.dir(place)?;
        dir.write(RECORDING_FILE, &to_json(recording)?)?;
        dir.remove(CHECKPOINT_FILE);
        let written = profiles::write(recording, &self.choices, &dir)?;
        Ok(Report { dir: dir.path().to_owned(), lossy: recording.lossy_classes(), written })
    }
}

fn owner<const N: usize>(kind: &str, names: [Bytes; N]) -> Owner {
    [Bytes::from(kind)].into_iter().chain(names).collect()
}

/// Whether a cgroup may be asked for by this path: its own, or one below where the agent has the tree mounted.
fn is_written_as(cgroup: &Bytes, asked: &Bytes) -> bool {
    let path = |bytes: &'_ Bytes| PathBuf::from(OsStr::from_bytes(bytes.as_slice()));
    path(asked).ends_with(path(cgroup).strip_prefix("/").unwrap_or(&path(cgroup)))
}

fn recording(
    subjects: &Subjects,
    ids: &[SubjectId],
    if_alive: Ended,
) -> Result<Option<Recording>, TraceError> {
    subjects.recording(ids, if_alive).map_err(|error| TraceError::Assemble(Box::new(error)))
}

fn to_json(recording: &Recording) -> Result<Vec<u8>, TraceError> {
    recording.to_json().map_err(|error| TraceError::Assemble(Box::new(error)))
}
