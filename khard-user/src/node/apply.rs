//! `khard apply`: owns what has to change so that profiles are in force, and what forbids it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use khard_profile::apparmor_text::Mode;
use rustix::fs::{Access, access};
use serde::Serialize;

use super::{
    NodeError, apparmor, boot,
    changes::Changes,
    folder_of,
    found::{self, Found},
    ledger::{Holds, InKernel, Ledger, Lock, Profile, sha256},
    places::Places,
    processes, shown,
};
use crate::output::files::file_name;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// Folders with profiles.
    pub dirs: Vec<PathBuf>,
    /// Another mode than the profiles' own.
    pub mode: Option<Mode>,
    /// Also over what is not khard's, and what confines running processes.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Leave the other kind alone.
    pub only: Option<Kind>,
    /// A folder for seccomp profiles in place of kubelets' own.
    pub seccomp_dir: Option<PathBuf>,
}

/// Profiles of AppArmor or of seccomp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// AppArmor profiles
    Apparmor,
    /// seccomp profiles
    Seccomp,
}

/// What is in force now, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// AppArmor profiles.
    pub apparmor: Vec<AppliedProfile>,
    /// seccomp profiles.
    pub seccomp: Vec<AppliedSeccomp>,
    /// Nothing was done.
    pub dry_run: bool,
    /// It was an image: nothing was loaded.
    pub in_image: bool,
}

/// One AppArmor profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppliedProfile {
    /// Its name in the kernel.
    pub name: String,
    /// Its mode.
    pub mode: Mode,
    /// Whether it has rules that refuse by name.
    pub denies: bool,
    /// Whether it is for no container: it was recorded outside of them.
    pub is_of_host: bool,
    /// Where its text is.
    pub file: PathBuf,
    /// What was done.
    pub did: Did,
    /// Why it is not loaded at the next boot, if it is not.
    pub why_not_at_boot: Option<String>,
}

/// One seccomp profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppliedSeccomp {
    /// Where it is.
    pub file: PathBuf,
    /// As a pod names it, if a kubelet looks for it here.
    pub localhost_profile: Option<String>,
    /// What was done; `None`: there is no place for it here, and `file` is where it was found.
    pub did: Option<Did>,
    /// Why it is not there after the next boot, if it is not.
    pub why_not_at_boot: Option<String>,
}

/// What had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// Nothing: it was so already.
    Nothing,
    /// It is new.
    Added,
    /// It took the place of another.
    Replaced,
}

/// Who loaded a profile that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelHolds {
    /// It has none of this name.
    Nothing,
    /// khard.
    Ours,
    /// Somebody else; true: in the place of khard's.
    Others(bool),
}

impl KernelHolds {
    pub(super) fn of(places: &Places, name: &str, entry: Option<&Profile>) -> Result<Self, NodeError> {
        // Without AppArmor, what was written can still be taken away.
        let Some(kernel) = places.kernel.as_ref().filter(|kernel| apparmor::is_on(kernel)) else {
            return Ok(Self::Nothing);
        };
        let loaded = apparmor::Loaded::read(kernel).map_err(NodeError::NoAppArmor)?;
        if loaded.mode_of(name).is_none() {
            return Ok(Self::Nothing);
        }
        let Some(entry) = entry else { return Ok(Self::Others(false)) };
        // Loaded anew at a later boot, it may have been compiled by another parser.
        let of_this_boot = entry.loaded.as_ref().filter(|loaded| loaded.boot_id == boot_id(places));
        let then = of_this_boot.and_then(|loaded| loaded.hash.clone());
        let now = apparmor::Details::of(kernel, name).and_then(|details| details.hash());
        Ok(match (then, now) {
            (Some(then), Some(now)) if then != now => Self::Others(true),
            _ => Self::Ours,
        })
    }

    /// Why a change would be one of somebody else's profile.
    pub(super) fn not_ours(self, name: &str, force: &'static str) -> Option<NodeError> {
        let Self::Others(was_ours) = self else { return None };
        let why = if was_ours { "was loaded anew by somebody else" } else { "was not loaded by khard" };
        Some(NodeError::NotOurs { what: format!("the profile {} in the kernel", shown(name)), why, force })
    }
}

struct PlannedProfile {
    name: String,
    found: found::AppArmor,
    file: PathBuf,
    /// A text of the same profile in another place.
    old_file: Option<PathBuf>,
    writes: bool,
    /// Compiled, if it has to be loaded.
    loads: Option<Vec<u8>>,
    did: Did,
}

struct PlannedSeccomp {
    json: Vec<u8>,
    sources: Vec<PathBuf>,
    writes: bool,
    applied: AppliedSeccomp,
}

/// Puts profiles into force, or says what would be done.
///
/// # Errors
/// Nothing is changed then, or the error says what could not be undone.
pub fn apply(places: &Places, options: &ApplyOptions) -> Result<Applied, NodeError> {
    let mut found = Found::read(&options.dirs, options.mode)?;
    match options.only {
        Some(Kind::Apparmor) => found.seccomp.clear(),
        Some(Kind::Seccomp) => found.apparmor.clear(),
        None => {}
    }
    if !found.apparmor.is_empty()
        && let Some(why) = places.kernel.as_ref().and_then(apparmor::missing)
    {
        let but = if found.seccomp.is_empty() { "" } else { "; --only seccomp applies the others" };
        return Err(NodeError::NoAppArmor(format!("{why}{but}")));
    }
    let lock = if options.dry_run { None } else { Some(Lock::take(places)?) };
    let mut ledger = Ledger::read(places)?;
    let seccomp = plan_seccomp(places, &ledger, found.seccomp, options)?;
    let mut apparmor = Vec::new();
    for (name, found) in found.apparmor {
        apparmor.push(plan_profile(places, &ledger, name, found, options)?);
    }
    let changes = apparmor.iter().any(|profile| profile.writes || profile.loads.is_some())
        || seccomp.iter().any(|profile| profile.writes);
    let has_news = remember_origins(&mut ledger, &apparmor, &seccomp);
    if lock.is_some() && (changes || has_news) {
        carry_out(places, &mut ledger, &apparmor, &seccomp)?;
    }
    Ok(Applied {
        apparmor: apparmor.into_iter().map(|profile| applied(places, profile)).collect(),
        seccomp: seccomp.into_iter().map(|profile| profile.applied).collect(),
        dry_run: options.dry_run,
        in_image: places.kernel.is_none(),
    })
}

/// Notes from which folders profiles come. Returns whether something of it is new.
fn remember_origins(ledger: &mut Ledger, apparmor: &[PlannedProfile], seccomp: &[PlannedSeccomp]) -> bool {
    let folders = |sources: &[PathBuf]| -> Vec<PathBuf> {
        sources.iter().filter_map(|source| source.parent().map(Path::to_owned)).collect()
    };
    let mut has_news = false;
    for profile in apparmor {
        for folder in folders(&profile.found.sources) {
            has_news |= ledger.apparmor_came_from(&folder, &profile.name);
        }
    }
    for profile in seccomp {
        let file = &profile.applied.file;
        // What somebody else has put there is not khard's to remove.
        if profile.writes || ledger.seccomp.contains_key(file) {
            for folder in folders(&profile.sources) {
                has_news |= ledger.seccomp_came_from(&folder, file);
            }
        }
    }
    has_news
}

fn applied(places: &Places, profile: PlannedProfile) -> AppliedProfile {
    AppliedProfile {
        why_not_at_boot: boot::why_not(places, &profile.file),
        name: profile.name,
        mode: profile.found.mode,
        file: places.as_booted(&profile.file),
        denies: profile.found.denies,
        is_of_host: profile.found.is_of_host,
        did: profile.did,
    }
}

/// One after the other, so that whatever fails is found out with as little done as can be. The ledger is first: what khard wrote
/// before it was killed is its own.
fn carry_out(
    places: &Places,
    ledger: &mut Ledger,
    apparmor: &[PlannedProfile],
    seccomp: &[PlannedSeccomp],
) -> Result<(), NodeError> {
    for profile in apparmor {
        let entry = Profile {
            file: places.as_booted(&profile.file),
            sha256: sha256(&profile.found.text),
            loaded: in_kernel(places, ledger, profile),
        };
        ledger.apparmor.insert(profile.name.clone(), entry);
    }
    for profile in seccomp.iter().filter(|profile| profile.writes) {
        ledger.seccomp.insert(profile.applied.file.clone(), sha256(&profile.json));
    }
    let texts =
        apparmor.iter().filter(|profile| profile.writes).map(|profile| places.as_booted(&profile.file));
    let files = seccomp.iter().filter(|profile| profile.writes).map(|profile| profile.applied.file.clone());
    let mut new_folders = BTreeSet::new();
    for file in texts.chain(files) {
        let missing = file.ancestors().skip(1).take_while(|folder| !places.below_root(folder).exists());
        new_folders.extend(missing.map(Path::to_owned));
    }
    ledger.folders.extend(new_folders.iter().cloned());
    let made = Changes::make(places, |changes| {
        changes.write_ledger(ledger)?;
        for profile in apparmor {
            if profile.writes {
                let (dir, name) = folder_of(&profile.file)?;
                changes.write(&dir, &name, &profile.found.text)?;
            }
            if let Some(old) = &profile.old_file {
                let (dir, name) = folder_of(old)?;
                changes.delete(&dir, &name)?;
            }
            if let Some(compiled) = &profile.loads {
                changes.load(&profile.name, compiled, profile.found.mode.in_kernel())?;
                remember_hash(places, ledger, &profile.name);
            }
        }
        for profile in seccomp.iter().filter(|profile| profile.writes) {
            let (dir, name) = folder_of(&places.below_root(&profile.applied.file))?;
            changes.write(&dir, &name, &profile.json)?;
        }
        changes.write_ledger(ledger)
    });
    if made.is_err() {
        remove_empty(places, new_folders.into_iter().rev());
    }
    made
}

/// Removes folders, but not if somebody else has something in them.
pub(super) fn remove_empty(places: &Places, folders: impl Iterator<Item = PathBuf>) {
    for folder in folders {
        let _ = std::fs::remove_dir(places.below_root(&folder));
    }
}

/// As the ledger has it before the kernel's hash is known. What is not loaded anew stays as it was.
fn in_kernel(places: &Places, ledger: &Ledger, profile: &PlannedProfile) -> Option<InKernel> {
    places.kernel.as_ref()?;
    let before = ledger.apparmor.get(&profile.name).and_then(|entry| entry.loaded.clone());
    if profile.loads.is_none() && before.is_some() {
        return before;
    }
    Some(InKernel { boot_id: boot_id(places), hash: None })
}

/// After loading.
pub(super) fn remember_hash(places: &Places, ledger: &mut Ledger, name: &str) {
    let hash = places.kernel.as_ref().and_then(|kernel| apparmor::Details::of(kernel, name)?.hash());
    if let Some(entry) = ledger.apparmor.get_mut(name) {
        entry.loaded = places.kernel.as_ref().map(|_| InKernel { boot_id: boot_id(places), hash });
    }
}

fn boot_id(places: &Places) -> String {
    let file = places.kernel.as_ref().map(|kernel| kernel.proc.join("sys/kernel/random/boot_id"));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    text.trim_end().to_owned()
}

fn plan_profile(
    places: &Places,
    ledger: &Ledger,
    name: String,
    found: found::AppArmor,
    options: &ApplyOptions,
) -> Result<PlannedProfile, NodeError> {
    let parser = places.parser.as_ref().ok_or(NodeError::NoParser)?;
    let dir =
        if can_write(&places.profiles) { places.profiles.clone() } else { places.state.join("apparmor.d") };
    let file = dir.join(file_name(&name));
    not_overridden(places, &file, found.mode)?;
    let entry = ledger.apparmor.get(&name);
    let known = entry.map(|entry| entry.sha256.as_str());
    let old_file = entry.map(|entry| places.below_root(&entry.file)).filter(|old| *old != file);
    // What the ledger says of another file says nothing of this one.
    let (holds, text) = Holds::of(&file, known.filter(|_| old_file.is_none()))?;
    if holds == Holds::Others && !options.force {
        return Err(NodeError::not_our_file(&file, known.is_some(), APPLY_FORCE));
    }
    let old_file = match old_file {
        Some(old) if Holds::of(&old, known)?.0 == Holds::Ours => Some(old),
        _ => None,
    };
    let in_kernel = KernelHolds::of(places, &name, entry)?;
    if let Some(error) = in_kernel.not_ours(&name, APPLY_FORCE).filter(|_| !options.force) {
        return Err(error);
    }
    let writes = holds != Holds::Ours || text.as_deref() != Some(found.text.as_slice());
    let is_loaded = in_kernel == KernelHolds::Ours
        && known == Some(sha256(&found.text).as_str())
        && mode_now(places, &name)?.as_deref() == Some(found.mode.in_kernel());
    let has_to_load = places.kernel.is_some() && !is_loaded;
    if has_to_load && in_kernel != KernelHolds::Nothing && !options.force {
        let hint =
            format!("; `khard mode {} {}` changes nothing but its mode", shown(&name), found.mode.as_str());
        not_in_use(places, &name, &hint)?;
    }
    // Compiled even if only written: what does not compile is not written.
    let compiled = if writes || has_to_load {
        let what = khard_profile::escape::terminal(apparmor::bytes_of(&found::first(&found.sources)));
        Some(parser.compile(&found.text, &what)?)
    } else {
        None
    };
    let did = match (writes || has_to_load, holds, in_kernel) {
        (false, ..) => Did::Nothing,
        (true, Holds::Nothing, KernelHolds::Nothing) => Did::Added,
        _ => Did::Replaced,
    };
    Ok(PlannedProfile { name, found, file, old_file, writes, loads: compiled.filter(|_| has_to_load), did })
}

pub(super) fn mode_now(places: &Places, name: &str) -> Result<Option<String>, NodeError> {
    let Some(kernel) = &places.kernel else { return Ok(None) };
    let loaded = apparmor::Loaded::read(kernel).map_err(NodeError::NoAppArmor)?;
    Ok(loaded.mode_of(name).map(str::to_owned))
}

/// That no running process is confined by it.
pub(super) fn not_in_use(places: &Places, name: &str, hint: &str) -> Result<(), NodeError> {
    let Some(kernel) = &places.kernel else { return Ok(()) };
    let n = processes::under(&kernel.proc, name).len();
    if n == 0 {
        return Ok(());
    }
    Err(NodeError::InUse { what: format!("the profile {}", shown(name)), n, hint: hint.to_owned() })
}

/// Links by which AppArmor's parser is told not to load a file at boot, or to load it in complain mode (`apparmor_parser(8)`,
/// `parser_main.c`). The kernel would have another mode after a reboot than khard says.
pub(super) fn not_overridden(places: &Places, file: &Path, mode: Mode) -> Result<(), NodeError> {
    let links = [
        ("disable", "skip this profile", true),
        ("force-complain", "load it in complain mode", mode != Mode::Complain),
    ];
    for (dir, does, matters) in links {
        let path = places.profiles.join(dir).join(file.file_name().unwrap_or_default());
        if matters && std::fs::symlink_metadata(&path).is_ok() {
            return Err(NodeError::Overridden { path, does });
        }
    }
    Ok(())
}

fn plan_seccomp(
    places: &Places,
    ledger: &Ledger,
    found: std::collections::BTreeMap<String, found::Seccomp>,
    options: &ApplyOptions,
) -> Result<Vec<PlannedSeccomp>, NodeError> {
    let (dirs, is_kubelets) = match &options.seccomp_dir {
        Some(dir) => (vec![places.named(dir)], false),
        None => (places.seccomp.clone(), true),
    };
    let mut planned = Vec::new();
    for (name, found) in found {
        let localhost_profile = is_kubelets.then(|| name.clone());
        for dir in &dirs {
            let file = dir.join(&name);
            let as_booted = places.as_booted(&file);
            let known = ledger.seccomp.get(&as_booted).map(String::as_str);
            let (holds, bytes) = Holds::of(&file, known)?;
            let is_same = bytes.as_deref() == Some(found.json.as_slice());
            if holds == Holds::Others && !is_same && !options.force {
                return Err(NodeError::not_our_file(&file, known.is_some(), APPLY_FORCE));
            }
            let did = match (is_same, holds) {
                (true, _) => Did::Nothing,
                (false, Holds::Nothing) => Did::Added,
                (false, _) => Did::Replaced,
            };
            let applied = AppliedSeccomp {
                why_not_at_boot: boot::in_memory(places, &file),
                file: as_booted,
                localhost_profile: localhost_profile.clone(),
                did: Some(did),
            };
            let (json, sources) = (found.json.clone(), found.sources.clone());
            planned.push(PlannedSeccomp { json, sources, writes: !is_same, applied });
        }
        if dirs.is_empty() {
            let file = absolute(&found::first(&found.sources));
            let applied = AppliedSeccomp { file, localhost_profile: None, did: None, why_not_at_boot: None };
            let (json, sources) = (found.json, found.sources);
            planned.push(PlannedSeccomp { json, sources, writes: false, applied });
        }
    }
    Ok(planned)
}

const APPLY_FORCE: &str = "takes its place";

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether files can be made in a folder, or in the one that it would be made in.
fn can_write(dir: &Path) -> bool {
    dir.ancestors().find(|dir| dir.exists()).is_some_and(|dir| access(dir, Access::WRITE_OK).is_ok())
}
