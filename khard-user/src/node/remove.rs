//! `khard remove`: owns which of khard's profiles are meant, and what forbids taking them away.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    NodeError,
    apply::{KernelHolds, not_in_use, remove_empty},
    changes::Changes,
    folder_of,
    found::Found,
    ledger::{Holds, Ledger, Lock},
    places::Places,
    shown,
    status::Needs,
};

const REMOVE_FORCE: &str = "removes it all the same";

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names of AppArmor profiles.
    pub apparmor: BTreeSet<String>,
    /// Files of seccomp profiles.
    pub seccomp: BTreeSet<PathBuf>,
}

/// Takes profiles away: by name, or all of a folder that was applied. `needs` are the seccomp profiles of running containers.
///
/// # Errors
/// Nothing is changed then, or the error says what could not be undone.
pub fn remove(places: &Places, what: &[String], needs: &[Needs], force: bool) -> Result<Removed, NodeError> {
    let ledger = Ledger::read(places)?;
    let mut removed = Removed::default();
    for name in what {
        let meant = meant(&ledger, name)?;
        if meant == Removed::default() {
            return Err(NodeError::Unknown(shown(name)));
        }
        removed.apparmor.extend(meant.apparmor);
        removed.seccomp.extend(meant.seccomp);
    }
    let _lock = Lock::take(places)?;
    // Nobody changes it any more.
    let mut ledger = Ledger::read(places)?;
    let mut files = Vec::new();
    let mut loaded = Vec::new();
    for name in &removed.apparmor {
        let Some(entry) = ledger.apparmor.get(name) else { return Err(NodeError::Unknown(shown(name))) };
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
        files.extend(removable(places, &file, &entry.sha256, force)?);
    }
    for file in &removed.seccomp {
        let Some(sha256) = ledger.seccomp.get(file) else {
            return Err(NodeError::Unknown(file.display().to_string()));
        };
        if let Some(need) = needs.iter().find(|need| need.file == *file).filter(|_| !force) {
            return Err(NodeError::Needed { path: file.clone(), container: shown(&need.container) });
        }
        files.extend(removable(places, &places.below_root(file), sha256, force)?);
    }
    ledger.apparmor.retain(|name, _| !removed.apparmor.contains(name));
    ledger.seccomp.retain(|file, _| !removed.seccomp.contains(file));
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
fn removable(places: &Places, file: &Path, sha256: &str, force: bool) -> Result<Option<PathBuf>, NodeError> {
    match Holds::of(file, Some(sha256))?.0 {
        Holds::Nothing => Ok(None),
        Holds::Others if !force => Err(NodeError::not_our_file(places, file, true, REMOVE_FORCE)),
        _ => Ok(Some(file.to_owned())),
    }
}

fn meant(ledger: &Ledger, name: &str) -> Result<Removed, NodeError> {
    let path = Path::new(name);
    let (profiles, files): (BTreeSet<String>, BTreeSet<String>) = if path.is_dir() {
        let found = Found::read(&[path.to_owned()], None)?;
        (found.apparmor.into_keys().collect(), found.seccomp.into_keys().collect())
    } else {
        ([name.to_owned()].into(), [name.to_owned(), format!("{name}.json")].into())
    };
    let is_meant = |file: &&PathBuf| {
        let last = file.file_name().unwrap_or_default().to_string_lossy();
        files.contains(last.as_ref()) || file.as_path() == path
    };
    Ok(Removed {
        apparmor: ledger.apparmor.keys().filter(|name| profiles.contains(*name)).cloned().collect(),
        seccomp: ledger.seccomp.keys().filter(is_meant).cloned().collect(),
    })
}
