//! `khard mode`: owns changing the mode of a profile that khard wrote, in its text and in the kernel.

use std::{collections::BTreeMap, path::PathBuf};

use khard_profile::apparmor_text::{self, Mode, ParsedProfile};
use serde::Serialize;

use super::{
    NodeError, apparmor,
    apply::{KernelHolds, mode_now, not_overridden, remember_hash},
    boot,
    changes::Changes,
    folder_of,
    found::Found,
    ledger::{Holds, Ledger, Lock, sha256},
    places::Places,
    processes, shown,
};

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Switched {
    /// The profile.
    pub name: String,
    /// Its mode now.
    pub mode: Mode,
    /// Whether anything had to be changed.
    pub changed: bool,
    /// Processes that it confines.
    pub n_processes: usize,
    /// Whether it has rules that refuse by name.
    pub denies: bool,
    /// Where its text is.
    pub file: PathBuf,
    /// Why it is not loaded at the next boot, if it is not.
    pub why_not_at_boot: Option<String>,
    /// What has taken its place in the folder that it came from.
    pub superseded: Option<Superseded>,
}

/// A profile that was made again since it was put into force, and so has another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Superseded {
    /// Where.
    pub folder: PathBuf,
    /// Its names there, with whether they are in force too.
    pub by: BTreeMap<String, bool>,
}

impl Superseded {
    /// `None` also where no folder can be read that it came from.
    fn of(ledger: &Ledger, name: &str) -> Option<Self> {
        let mut superseded = None;
        for folder in ledger.origins_of(name) {
            let Ok(found) = Found::in_one(folder) else { continue };
            if found.apparmor.contains_key(name) {
                return None;
            }
            if !found.apparmor.is_empty() {
                let names = found.apparmor.into_keys();
                let by = names.map(|name| {
                    let is_in_force = ledger.apparmor.contains_key(&name);
                    (name, is_in_force)
                });
                superseded = Some(Self { folder: folder.to_owned(), by: by.collect() });
            }
        }
        superseded
    }
}

const FORCE: &str = "of `khard apply` takes its place";

/// Gives a profile another mode. Its processes keep running under it.
///
/// # Errors
/// Nothing is changed then, or the error says what could not be undone.
pub fn switch(places: &Places, name: &str, mode: Mode) -> Result<Switched, NodeError> {
    if let Some(why) = places.kernel.as_ref().and_then(apparmor::missing) {
        return Err(NodeError::NoAppArmor(why));
    }
    let parser = places.parser.as_ref().ok_or(NodeError::NoParser)?;
    if !Ledger::read(places)?.apparmor.contains_key(name) {
        return Err(NodeError::unknown(places, name));
    }
    let _lock = Lock::take(places)?;
    let mut ledger = Ledger::read(places)?;
    let Some(entry) = ledger.apparmor.get_mut(name) else { return Err(NodeError::unknown(places, name)) };
    let file = places.below_root(&entry.file);
    let (Holds::Ours, Some(old)) = Holds::of(&file, Some(&entry.sha256))? else {
        return Err(NodeError::not_our_file(&file, true, FORCE));
    };
    if let Some(error) = KernelHolds::of(places, name, Some(entry))?.not_ours(name, FORCE) {
        return Err(error);
    }
    not_overridden(places, &file, mode)?;
    let failed = |source| NodeError::Text { path: file.clone(), source };
    let text = apparmor_text::with_mode(&old, mode).map_err(failed)?;
    let denies = ParsedProfile::parse(&text).map_err(failed)?.rules.iter().any(|rule| rule.deny);
    let is_so = places.kernel.is_none() || mode_now(places, name)?.as_deref() == Some(mode.in_kernel());
    let changed = text != old || !is_so;
    if changed {
        let compiled = parser.compile(&text, &shown(name))?;
        entry.sha256 = sha256(&text);
        if let Some(loaded) = &mut entry.loaded {
            loaded.hash = None;
        }
        Changes::make(places, |changes| {
            changes.write_ledger(&ledger)?;
            let (dir, file) = folder_of(&file)?;
            changes.write(&dir, &file, &text)?;
            changes.load(name, &compiled, mode.in_kernel())?;
            remember_hash(places, &mut ledger, name);
            changes.write_ledger(&ledger)
        })?;
    }
    Ok(Switched {
        name: name.to_owned(),
        mode,
        changed,
        n_processes: places.kernel.as_ref().map_or(0, |kernel| processes::under(&kernel.proc, name).len()),
        denies,
        why_not_at_boot: boot::why_not(places, &file),
        superseded: Superseded::of(&ledger, name),
        file: places.as_booted(&file),
    })
}
