//! `khard remove`: owns which of khard's profiles are meant, and what forbids taking them away.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use khard_profile::seccomp::profile_stem;
use serde::Serialize;

use super::{
    NodeError,
    apply::{KernelHolds, not_in_use, remove_empty},
    changes::Changes,
    folder_of,
    found::Found,
    ledger::{Holds, Ledger, Lock, Profiles},
    places::Places,
    shown,
    status::Needs,
};
use crate::output::files::file_name;

const REMOVE_FORCE: &str = "removes it all the same";

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Names of AppArmor profiles.
    pub apparmor: BTreeSet<String>,
    /// Files of seccomp profiles.
    pub seccomp: BTreeSet<PathBuf>,
    /// What was named, and was not there.
    pub absent: Vec<String>,
    /// What stays, for it came from another folder too: names, and files.
    pub shared: BTreeSet<String>,
}

/// Takes profiles away: by name, or all of a folder that was applied. `needs` are the seccomp profiles of running containers.
///
/// # Errors
/// Nothing is changed then, or the error says what could not be undone.
pub fn remove(places: &Places, what: &[String], needs: &[Needs], force: bool) -> Result<Removed, NodeError> {
    let mut ledger = Ledger::read(places)?;
    let mut has_origin = false;
    let mut removed = Removed::default();
    for name in what {
        let meant = meant(places, &ledger, name)?;
        removed.apparmor.extend(meant.apparmor);
        removed.seccomp.extend(meant.seccomp);
        removed.absent.extend(meant.absent);
        removed.shared.extend(meant.shared);
        // What two of the named folders have is the second one's alone now.
        has_origin |= ledger.forget_origins(Path::new(name));
    }
    removed
        .shared
        .retain(|what| !removed.apparmor.contains(what) && !removed.seccomp.contains(Path::new(what)));
    if removed.apparmor.is_empty() && removed.seccomp.is_empty() && !has_origin {
        return Ok(removed);
    }
    let _lock = Lock::take(places)?;
    // Nobody changes it any more.
    let mut ledger = Ledger::read(places)?;
    let mut files = Vec::new();
    let mut loaded = Vec::new();
    for name in &removed.apparmor {
        let Some(entry) = ledger.apparmor.get(name) else { return Err(NodeError::unknown(places, name)) };
        let file = places.below_root(&entry.file);
        let in_kernel = KernelHolds::of(places, name, Some(entry))?;
        if !force {
            if let Some(error) = in_kernel.not_ours(name, REMOVE_FORCE) {
                return Err(error);
            }
            not_in_use(places, name, "")?;
        }
        if in_kernel != KernelHolds::Nothing {
            loaded.push(name);
        }
        files.extend(removable(&file, &entry.sha256, force)?);
    }
    for file in &removed.seccomp {
        let Some(sha256) = ledger.seccomp.get(file) else {
            return Err(NodeError::unknown(places, &file.to_string_lossy()));
        };
        if let Some(need) = needs.iter().find(|need| need.file == *file).filter(|_| !force) {
            return Err(NodeError::Needed { path: file.clone(), container: shown(&need.container) });
        }
        files.extend(removable(&places.below_root(file), sha256, force)?);
    }
    ledger.forget(&removed.apparmor, &removed.seccomp);
    for name in what {
        ledger.forget_origins(Path::new(name));
    }
    let folders = ledger.forget_folders();
    Changes::make(places, |changes| {
        for name in loaded {
            changes.unload(name)?;
        }
        for file in &files {
            let (dir, name) = folder_of(file)?;
            changes.delete(&dir, &name)?;
        }
        changes.write_ledger(&ledger)
    })?;
    remove_empty(places, folders.into_iter());
    if ledger.is_empty() {
        // Folders of khard's own, if nothing is left in them.
        let _ = std::fs::remove_dir(places.state.join("apparmor.d"));
        let _ = std::fs::remove_dir(&places.state);
    }
    Ok(removed)
}

/// A file that is there and may go.
fn removable(file: &Path, sha256: &str, force: bool) -> Result<Option<PathBuf>, NodeError> {
    match Holds::of(file, Some(sha256))?.0 {
        Holds::Nothing => Ok(None),
        Holds::Others if !force => Err(NodeError::not_our_file(file, true, REMOVE_FORCE)),
        _ => Ok(Some(file.to_owned())),
    }
}

/// What is on the list of what a user names. A folder stands for what it holds, and for all that came from it before.
fn meant(places: &Places, ledger: &Ledger, name: &str) -> Result<Removed, NodeError> {
    let path = Path::new(name);
    let (alone, shared) = ledger.of_folder(path);
    let is_known = !(alone.is_empty() && shared.is_empty());
    let (profiles, files) = if path.is_dir() {
        match Found::read(&[path.to_owned()], None) {
            Ok(found) => (found.apparmor.into_keys().collect(), found.seccomp.into_keys().collect()),
            // What came from it is known without it.
            Err(_) if is_known => Default::default(),
            Err(error) => return Err(error),
        }
    } else {
        (BTreeSet::from([name.to_owned()]), BTreeSet::from([name.to_owned(), format!("{name}.json")]))
    };
    let is_meant = |file: &&PathBuf| {
        let last = file.file_name().unwrap_or_default().to_string_lossy();
        files.contains(last.as_ref()) || file.as_path() == path
    };
    let Profiles { mut apparmor, mut seccomp } = alone;
    apparmor.extend(ledger.apparmor.keys().filter(|name| profiles.contains(*name)).cloned());
    seccomp.extend(ledger.seccomp.keys().filter(is_meant).cloned());
    apparmor.retain(|name| !shared.apparmor.contains(name));
    seccomp.retain(|file| !shared.seccomp.contains(file));
    let mut absent = Vec::new();
    if apparmor.is_empty() && seccomp.is_empty() && !is_known {
        let last = path.file_name().unwrap_or_default().to_string_lossy();
        let could_be = path.is_dir() || profile_stem(last.strip_suffix(".json").unwrap_or(&last)).is_some();
        if !could_be || is_there(places, &profiles, &files)? {
            return Err(NodeError::unknown(places, name));
        }
        absent.push(name.to_owned());
    }
    let files = shared.seccomp.iter().map(|file| file.to_string_lossy().into_owned());
    let shared = files.chain(shared.apparmor).collect();
    Ok(Removed { apparmor, seccomp, absent, shared })
}

/// Whether somebody else has put one of these there.
fn is_there(
    places: &Places,
    profiles: &BTreeSet<String>,
    files: &BTreeSet<String>,
) -> Result<bool, NodeError> {
    for name in profiles {
        let file = places.profiles.join(file_name(name));
        if file.exists() || KernelHolds::of(places, name, None)? != KernelHolds::Nothing {
            return Ok(true);
        }
    }
    Ok(places.seccomp.iter().any(|dir| files.iter().any(|file| dir.join(file).exists())))
}
