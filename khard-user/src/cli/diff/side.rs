//! One side of a comparison: owns which recordings or profiles a path stands for, and by what each is found on the other side. Knows
//! nothing of how two differ.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use khard_profile::recording::{MergePolicy, ReadError, Recording};

use crate::{
    cli::check::AnyProfile,
    input::{self, InputError},
    output::place::Place,
    unite::{self, Key, United},
};

/// What can be compared.
pub(super) enum Comparable {
    Recording(Box<Recording>),
    Profile(Box<AnyProfile>),
}

impl Comparable {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Recording(_) => "a recording",
            Self::Profile(profile) => match **profile {
                AnyProfile::Seccomp(_) => "a seccomp profile",
                AnyProfile::AppArmor(_) => "an AppArmor profile",
            },
        }
    }
}

/// One of them.
pub(super) struct Item {
    /// A subject's folder, as khard names it; a profile's path below the folder that was named.
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) comparable: Comparable,
}

/// All that a path stands for, which is one at least. What belongs together on both sides has the same key.
pub(super) type Side = BTreeMap<Key, Item>;

/// A file; a folder's recordings, united by subject; or, if it has none, its profiles.
pub(super) fn read(path: &Path) -> Result<Side> {
    match input::find_recordings(&[path.to_owned()]) {
        Ok(files) => match recordings(&files) {
            Err(unite::UniteError::Input(InputError::Recording {
                source: ReadError::NotARecording(_) | ReadError::CutOff,
                ..
            })) if !path.is_dir() => Ok([profile(path, path)?].into()),
            side => Ok(side?),
        },
        Err(InputError::NoRecording { .. }) => {
            input::profiles_below(path)?.iter().map(|file| profile(file, path)).collect()
        }
        Err(error) => Err(error.into()),
    }
}

/// Nothing is made of them, so what they were recorded of may differ.
fn recordings(files: &[PathBuf]) -> Result<Side, unite::UniteError> {
    let policy = MergePolicy { mixed_images: true, mixed_machines: true };
    let item = |United { recording, files }: United| {
        let subject = recording.subject();
        let (key, place) = (unite::key(subject), Place::of_subject(subject, None, None, true));
        let file = files.into_iter().next().unwrap_or_default();
        (key, Item { name: place.to_string(), file, comparable: Comparable::Recording(Box::new(recording)) })
    };
    Ok(unite::unite(files, policy)?.into_iter().map(item).collect())
}

fn profile(file: &Path, below: &Path) -> Result<(Key, Item)> {
    let name = file.strip_prefix(below).unwrap_or(file);
    let key = ("profile", vec![name.as_os_str().as_encoded_bytes().to_vec()]);
    let comparable = Comparable::Profile(Box::new(AnyProfile::read(file)?));
    Ok((key, Item { name: name.display().to_string(), file: file.to_owned(), comparable }))
}
