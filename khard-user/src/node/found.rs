//! Profiles in folders that a user names. Owns which files are taken from there and what they are called on a node; decides
//! nothing about what is there already.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
};

use khard_profile::{
    apparmor_text::{self, Mode, ParsedProfile},
    check,
    recording::Subject,
    seccomp::profile_name,
};
use serde::Deserialize;

use super::{NodeError, shown};
use crate::{input, output::RECORDING_FILE, profiles::SECCOMP_FILE};

/// Profiles by their names.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) apparmor: BTreeMap<String, AppArmor>,
    /// By the name of the file that they will be.
    pub(super) seccomp: BTreeMap<String, Seccomp>,
}

#[derive(Debug)]
pub(super) struct AppArmor {
    /// The files with this text; there is one at least.
    pub(super) sources: Vec<PathBuf>,
    /// In the mode that was asked for.
    pub(super) text: Vec<u8>,
    pub(super) mode: Mode,
    /// Whether it refuses some things by name.
    pub(super) denies: bool,
    /// Whether it was recorded outside of containers, and so is about the host's files.
    pub(super) is_of_host: bool,
}

#[derive(Debug)]
pub(super) struct Seccomp {
    /// As above.
    pub(super) sources: Vec<PathBuf>,
    pub(super) json: Vec<u8>,
}

impl Found {
    /// Everything in these folders and those below.
    pub(super) fn read(dirs: &[PathBuf], mode: Option<Mode>) -> Result<Self, NodeError> {
        let mut found = Self::default();
        for dir in dirs {
            found.add(input::profiles_below(dir)?, mode)?;
        }
        Ok(found)
    }

    /// What is in this folder alone.
    pub(super) fn in_one(dir: &Path) -> Result<Self, NodeError> {
        let mut found = Self::default();
        found.add(input::profiles_in(dir)?, None)?;
        Ok(found)
    }

    fn add(&mut self, files: Vec<PathBuf>, mode: Option<Mode>) -> Result<(), NodeError> {
        for file in files {
            if file.ends_with(SECCOMP_FILE) {
                self.add_seccomp(file)?;
            } else {
                self.add_apparmor(file, mode)?;
            }
        }
        Ok(())
    }

    fn add_apparmor(&mut self, path: PathBuf, mode: Option<Mode>) -> Result<(), NodeError> {
        let mut text = input::read_limited(&path)?;
        let failed = |source| NodeError::Text { path: path.clone(), source };
        let mut profile = ParsedProfile::parse(&text).map_err(failed)?;
        if let Some(mode) = mode {
            text = apparmor_text::with_mode(&text, mode).map_err(failed)?;
            profile.flags.mode = mode;
        }
        let name = match profile_name_of(&profile) {
            Ok(name) => name,
            Err(why) => {
                let name = khard_profile::escape::terminal(profile.name.as_slice());
                return Err(NodeError::BadName { path, name, why });
            }
        };
        let denies = profile.rules.iter().any(|rule| rule.deny);
        let mode = profile.flags.mode;
        match self.apparmor.entry(name) {
            Entry::Occupied(mut same) if same.get().text == text => same.get_mut().sources.push(path),
            Entry::Occupied(other) => return Err(NodeError::Twice(first(&other.get().sources), path)),
            Entry::Vacant(new) => {
                let is_of_host = recorded(&path).is_some_and(|subject| !subject.is_container());
                new.insert(AppArmor { sources: vec![path], text, mode, denies, is_of_host });
            }
        }
        Ok(())
    }

    fn add_seccomp(&mut self, path: PathBuf) -> Result<(), NodeError> {
        let json = input::read_limited(&path)?;
        if let Err(source) = check::Profile::from_json(&json) {
            return Err(NodeError::Seccomp { path, source });
        }
        let name = format!("{}.json", profile_name(&subject_of(&path), &json));
        match self.seccomp.entry(name) {
            Entry::Occupied(mut same) if same.get().json == json => same.get_mut().sources.push(path),
            Entry::Occupied(other) => return Err(NodeError::Twice(first(&other.get().sources), path)),
            Entry::Vacant(new) => drop(new.insert(Seccomp { sources: vec![path], json })),
        }
        Ok(())
    }
}

/// The first of a profile's files, which stands for all of them.
pub(super) fn first(sources: &[PathBuf]) -> PathBuf {
    sources.first().cloned().unwrap_or_default()
}

/// Names go into commands, manifests and lists with a line for each.
fn profile_name_of(profile: &ParsedProfile) -> Result<String, &'static str> {
    let Ok(name) = std::str::from_utf8(profile.name.as_slice()) else { return Err("is not UTF-8") };
    match name {
        "" => Err("is empty"),
        "unconfined" => Err("is what AppArmor calls having no profile"),
        name if name != shown(name) => Err("holds control characters or a backslash"),
        name if name.starts_with(':') => Err("is in a namespace of policies, which containers do not find"),
        name if name.contains("//") => Err("is that of a child profile"),
        name if name.len() > 200 => Err("is longer than 200 bytes"),
        name => Ok(name.to_owned()),
    }
}

/// Who was recorded, by the recording beside a profile.
fn recorded(profile: &Path) -> Option<Subject> {
    #[derive(Deserialize)]
    struct Head {
        subject: Subject,
    }
    let json = input::read_limited(&profile.with_file_name(RECORDING_FILE)).ok()?;
    Some(serde_json::from_slice::<Head>(&json).ok()?.subject)
}

/// The same; without a recording, the folder's own name has to do.
fn subject_of(seccomp: &Path) -> Subject {
    recorded(seccomp).unwrap_or_else(|| {
        let dir = seccomp.parent().unwrap_or(Path::new("/"));
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        Subject::Command { program: dir.as_os_str().as_encoded_bytes().into() }
    })
}
