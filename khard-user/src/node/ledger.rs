//! What khard wrote here: owns the list of it, on disk, and the lock that lets one khard change it at a time. What was changed
//! since by somebody else is not khard's any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::File,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

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
/// Of this form of the list. Version 1 had no folders.
const VERSION: u32 = 2;

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
        }
    }
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

    /// Forgets the folders in which khard has no profile any more. Returns them, the innermost first.
    pub(super) fn forget_folders(&mut self) -> Vec<PathBuf> {
        let is_needed = |folder: &PathBuf| self.seccomp.keys().any(|file| file.starts_with(folder));
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
