//! What khard wrote here: owns the list of it, on disk, and the lock that lets one khard change it at a time. What was changed
//! since by somebody else is not khard's any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt::Write as _,
    fs::File,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use khard_profile::Bytes;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{NodeError, places::Places, read_if_there};
use crate::output::files::OutDir;

/// The list's name in khard's folder.
pub(super) const LEDGER_FILE: &str = "ledger.json";
/// How long another khard is waited for: most are done in a moment.
const N_TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);
/// Of this form of the list. Version 1 had no folders, and version 2 no origins.
const VERSION: u32 = 3;

/// The list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    version: u32,
    /// AppArmor profiles by name.
    pub(super) apparmor: BTreeMap<String, Profile>,
    /// Hashes of seccomp profiles, by their files.
    pub(super) seccomp: BTreeMap<PathBuf, String>,
    /// Folders that khard made for them.
    #[serde(default)]
    pub(super) folders: BTreeSet<PathBuf>,
    /// Where they came from.
    #[serde(default)]
    origins: Vec<Origin>,
}

/// A user's folder, and all that was put into force from it. A profile that is made again there has another name, so that the folder
/// itself knows only the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Origin {
    folder: Bytes,
    #[serde(default)]
    apparmor: BTreeSet<String>,
    #[serde(default)]
    seccomp: BTreeSet<PathBuf>,
}

impl Origin {
    fn folder(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.folder.as_slice()))
    }

    /// `folder`: as [`real`] gives it. The path of nothing would be at the head of every other.
    fn is_below(&self, folder: &Path) -> bool {
        folder.is_absolute() && self.folder().starts_with(folder)
    }
}

/// An AppArmor profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// Where its text is.
    pub(super) file: PathBuf,
    /// Of the text.
    pub(super) sha256: String,
    /// How the kernel has it; `None`: it was not loaded, but written into an image.
    pub(super) loaded: Option<InKernel>,
}

/// What identifies a loaded profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InKernel {
    /// The boot in which it was loaded.
    pub(super) boot_id: String,
    /// The kernel's own hash of it, if it tells.
    pub(super) hash: Option<String>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: VERSION,
            apparmor: BTreeMap::new(),
            seccomp: BTreeMap::new(),
            folders: BTreeSet::new(),
            origins: Vec::new(),
        }
    }
}

/// Profiles on the list: the names of AppArmor's, and the files of seccomp's.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    pub(super) apparmor: BTreeSet<String>,
    pub(super) seccomp: BTreeSet<PathBuf>,
}

impl Profiles {
    pub(super) fn is_empty(&self) -> bool {
        self.apparmor.is_empty() && self.seccomp.is_empty()
    }
}

/// A folder by the one path that it has.
fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().or_else(|_| std::path::absolute(folder)).unwrap_or_else(|_| folder.to_owned())
}

impl Ledger {
    /// What was written so far.
    pub(super) fn read(places: &Places) -> Result<Self, NodeError> {
        let path = places.state.join(LEDGER_FILE);
        let Some(json) = read_if_there(&path)? else { return Ok(Self::default()) };
        let failed = |source| NodeError::Ledger { path: path.clone(), source };
        let mut ledger: Self = serde_json::from_slice(&json).map_err(failed)?;
        if !(1..=VERSION).contains(&ledger.version) {
            let found = format!("it is of version {}, and this khard knows {VERSION}", ledger.version);
            return Err(failed(serde::de::Error::custom(found)));
        }
        ledger.version = VERSION;
        Ok(ledger)
    }

    /// Remembers that an AppArmor profile came from a folder. Returns whether that is new.
    pub(super) fn apparmor_came_from(&mut self, folder: &Path, name: &str) -> bool {
        self.origin(folder).apparmor.insert(name.to_owned())
    }

    /// The same of a seccomp profile, by its file here.
    pub(super) fn seccomp_came_from(&mut self, folder: &Path, file: &Path) -> bool {
        self.origin(folder).seccomp.insert(file.to_owned())
    }

    fn origin(&mut self, folder: &Path) -> &mut Origin {
        let folder = Bytes::from(real(folder).as_os_str().as_bytes());
        let at = self.origins.iter().position(|origin| origin.folder == folder).unwrap_or(self.origins.len());
        if at == self.origins.len() {
            self.origins.push(Origin { folder, apparmor: BTreeSet::new(), seccomp: BTreeSet::new() });
        }
        &mut self.origins[at]
    }

    /// All that came from a folder and those below it: what is theirs alone, and what came from another one too.
    pub(super) fn of_folder(&self, folder: &Path) -> (Profiles, Profiles) {
        let folder = real(folder);
        let (mut of_it, mut others) = (Profiles::default(), Profiles::default());
        for origin in &self.origins {
            let side = if origin.is_below(&folder) { &mut of_it } else { &mut others };
            side.apparmor.extend(origin.apparmor.iter().cloned());
            side.seccomp.extend(origin.seccomp.iter().cloned());
        }
        let alone = Profiles {
            apparmor: &of_it.apparmor - &others.apparmor,
            seccomp: &of_it.seccomp - &others.seccomp,
        };
        let shared = Profiles {
            apparmor: &of_it.apparmor & &others.apparmor,
            seccomp: &of_it.seccomp & &others.seccomp,
        };
        (alone, shared)
    }

    /// Forgets that anything came from a folder and those below it. Returns whether something did.
    pub(super) fn forget_origins(&mut self, folder: &Path) -> bool {
        let folder = real(folder);
        let before = self.origins.len();
        self.origins.retain(|origin| !origin.is_below(&folder));
        self.origins.len() < before
    }

    /// The folders that an AppArmor profile came from.
    pub(super) fn origins_of(&self, apparmor: &str) -> impl Iterator<Item = &Path> {
        self.origins.iter().filter(move |origin| origin.apparmor.contains(apparmor)).map(Origin::folder)
    }

    /// Takes profiles off the list.
    pub(super) fn forget(&mut self, apparmor: &BTreeSet<String>, seccomp: &BTreeSet<PathBuf>) {
        self.apparmor.retain(|name, _| !apparmor.contains(name));
        self.seccomp.retain(|file, _| !seccomp.contains(file));
        for origin in &mut self.origins {
            origin.apparmor.retain(|name| !apparmor.contains(name));
            origin.seccomp.retain(|file| !seccomp.contains(file));
        }
        self.origins.retain(|origin| !origin.apparmor.is_empty() || !origin.seccomp.is_empty());
    }

    /// Forgets the folders in which khard has no profile any more. Returns them, the innermost first.
    pub(super) fn forget_folders(&mut self) -> Vec<PathBuf> {
        let files = || self.seccomp.keys().chain(self.apparmor.values().map(|profile| &profile.file));
        let is_needed = |folder: &PathBuf| files().any(|file| file.starts_with(folder));
        let (needed, others): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.folders).into_iter().partition(is_needed);
        self.folders = needed;
        others.into_iter().rev().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.apparmor.is_empty() && self.seccomp.is_empty()
    }

    /// As it is kept.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Strings and numbers only: it cannot fail.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

/// The right to change what is in force, until this value goes.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(places: &Places) -> Result<Self, NodeError> {
        OutDir::open_system(&places.state)?;
        let failed = |source| NodeError::Read { path: places.state.clone(), source };
        let file = File::open(&places.state).map_err(failed)?;
        for _ in 0..N_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(PAUSE),
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        Err(NodeError::Busy(places.state.clone()))
    }
}

/// Of a file's bytes, in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What stands in a file, seen from the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// There is none.
    Nothing,
    /// What khard wrote.
    Ours,
    /// Something else.
    Others,
}

impl Holds {
    pub(super) fn of(
        file: &Path,
        sha256_of_ours: Option<&str>,
    ) -> Result<(Self, Option<Vec<u8>>), NodeError> {
        // What is no plain file is nobody's text.
        if std::fs::symlink_metadata(file).is_ok_and(|meta| !meta.is_file()) {
            return Ok((Self::Others, None));
        }
        Ok(match read_if_there(file)? {
            None => (Self::Nothing, None),
            Some(bytes) if sha256_of_ours == Some(sha256(&bytes).as_str()) => (Self::Ours, Some(bytes)),
            Some(bytes) => (Self::Others, Some(bytes)),
        })
    }
}
