//! Recordings of many files, united by subject. Owns that one is read after another, so that no more than one is in memory beside
//! what they have become together; how two unite is khard-profile's.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use khard_profile::recording::{Limits, MergeError, MergePolicy, ReadError, Recording, Subject};

use crate::{
    input::{self, InputError},
    output::place::Place,
};

/// Recordings could not be united.
#[derive(Debug, thiserror::Error)]
pub enum UniteError {
    /// A file.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Two of one subject do not fit together.
    #[error("cannot unite {} with those of the same subject before it: {hint}", path.display())]
    Merge {
        /// The file.
        path: PathBuf,
        /// What the user can do.
        hint: &'static str,
        /// Why.
        #[source]
        source: MergeError,
    },
    /// Too much together.
    #[error(
        "the recordings of one subject are too many to be one, which khard would not read again: unite fewer"
    )]
    TooLarge(#[source] ReadError),
    /// A folder for two subjects.
    #[error(
        "two subjects would be written to the same folder {0}: unite them one after the other, or with different -o"
    )]
    SameFolder(String),
}

/// All that was recorded of one subject.
#[derive(Debug)]
pub struct United {
    /// Of all files together.
    pub recording: Recording,
    /// Where it was read from.
    pub files: Vec<PathBuf>,
}

/// Reads recordings and unites those of one subject. In the order of the subjects.
pub fn unite(files: &[PathBuf], policy: MergePolicy) -> Result<Vec<United>, UniteError> {
    let mut subjects: BTreeMap<_, United> = BTreeMap::new();
    for file in files {
        let (file, recording) = input::recording(file)?;
        let key = key(recording.subject());
        let united = match subjects.remove(&key) {
            None => United { recording, files: vec![file] },
            Some(United { recording: known, mut files }) => {
                let merged = known.merge(recording, policy);
                let recording = merged.map_err(|source| not_merged(&file, source))?;
                files.push(file);
                United { recording, files }
            }
        };
        subjects.insert(key, united);
    }
    for united in subjects.values() {
        united.recording.check_limits(Limits::default()).map_err(UniteError::TooLarge)?;
    }
    Ok(subjects.into_values().collect())
}

/// What recordings of one subject have in common: [`Subject::key`].
pub type Key = (&'static str, Vec<Vec<u8>>);

/// A subject's.
pub fn key(subject: &Subject) -> Key {
    let (kind, names) = subject.key();
    (kind, names.into_iter().map(<[u8]>::to_vec).collect())
}

fn not_merged(path: &Path, source: MergeError) -> UniteError {
    let hint = match source {
        MergeError::Images { .. } => "unite each image by itself, or say --mixed-images",
        MergeError::Machines { .. } => "unite each architecture by itself, or say --mixed-machines",
        MergeError::Subjects { .. } => "unite each subject by itself",
    };
    UniteError::Merge { path: path.to_owned(), hint, source }
}

/// Each subject's folder, in their order. Pods of a workload have names of their own, so it is the workload's that stands there; the
/// namespace too, where there are several.
pub fn places(united: &[United]) -> Result<Vec<Place>, UniteError> {
    let namespaces: BTreeSet<&str> = united
        .iter()
        .filter_map(|united| match united.recording.subject() {
            Subject::Container { namespace, .. } => Some(namespace.as_str()),
            _ => None,
        })
        .collect();
    let place =
        |united: &United| Place::of_subject(united.recording.subject(), None, None, namespaces.len() > 1);
    let places: Vec<Place> = united.iter().map(place).collect();
    let mut taken = BTreeSet::new();
    match places.iter().find(|place| !taken.insert(*place)) {
        Some(twice) => Err(UniteError::SameFolder(twice.to_string())),
        None => Ok(places),
    }
}
