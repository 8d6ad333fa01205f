//! What the kernel says of AppArmor: whether it is on, and which profiles are loaded. Owns the formats of its files, and reads
//! only.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use khard_profile::Bytes;

use super::places::KernelPlaces;
use crate::kernel;

/// Profiles in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The mode of each, by name, as the kernel calls it.
    pub(super) modes: BTreeMap<Bytes, String>,
}

/// Whether the kernel asks AppArmor at all.
pub(super) fn is_on(places: &KernelPlaces) -> bool {
    fs::read_to_string(&places.enabled).is_ok_and(|text| text.trim() == "Y")
}

/// Why profiles cannot be loaded; `None`: they can.
pub(super) fn missing(places: &KernelPlaces) -> Option<String> {
    if !is_on(places) {
        let modules = kernel::security_modules().unwrap_or_default().join(",");
        let instead = if modules.split(',').any(|module| module == "selinux") {
            " (SELinux is, for which khard makes no profiles; seccomp profiles work all the same)"
        } else {
            " (seccomp profiles work all the same)"
        };
        return Some(format!(
            "AppArmor is not active in this kernel{instead}: boot a kernel that has it, with lsm=…,apparmor or security=apparmor"
        ));
    }
    if !places.apparmor.is_dir() {
        return Some(
            "securityfs is not mounted: `mount -t securityfs securityfs /sys/kernel/security`".to_owned(),
        );
    }
    None
}

impl Loaded {
    /// The kernel's list.
    ///
    /// # Errors
    /// In words.
    pub(super) fn read(places: &KernelPlaces) -> Result<Self, String> {
        let path = places.apparmor.join("profiles");
        let text = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(Self::parse(&text))
    }

    /// A line for each: `NAME (MODE)` (`seq_show_profile`, security/apparmor/apparmorfs.c). A line break in a name is not
    /// escaped there: such lines are parts of no name.
    fn parse(text: &[u8]) -> Self {
        let modes = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b")")?;
            let at = line.windows(2).rposition(|pair| pair == b" (")?;
            Some((Bytes::from(&line[..at]), String::from_utf8_lossy(&line[at + 2..]).into_owned()))
        });
        Self { modes: modes.collect() }
    }

    pub(super) fn mode_of(&self, name: &str) -> Option<&str> {
        self.modes.get(&Bytes::from(name)).map(String::as_str)
    }
}

/// More about one loaded profile: its folder in `policy/profiles`.
pub(super) struct Details(PathBuf);

impl Details {
    /// Every loaded profile of the kernel's own namespace, by name.
    pub(super) fn all(places: &KernelPlaces) -> BTreeMap<Bytes, Self> {
        let mut all = BTreeMap::new();
        add_folders(&places.apparmor.join("policy/profiles"), b"", &mut all);
        all
    }

    /// One by name.
    pub(super) fn of(places: &KernelPlaces, name: &str) -> Option<Self> {
        Self::all(places).remove(&Bytes::from(name))
    }

    /// Which programs it attaches to.
    pub(super) fn attachment(&self) -> Option<Vec<u8>> {
        fs::read(self.0.join("attach")).ok().map(|text| text.trim_ascii_end().to_vec())
    }

    /// The kernel's hash of what was loaded: `sha1` up to Linux 6.6, `sha256` then. Not every kernel is built to tell.
    pub(super) fn hash(&self) -> Option<String> {
        let read = |file: &str| fs::read_to_string(self.0.join(file)).ok();
        read("sha256").or_else(|| read("sha1")).map(|text| text.trim().to_owned())
    }

    /// What was loaded, as it was loaded. Not every kernel is built to keep it.
    pub(super) fn compiled(&self) -> Option<Vec<u8>> {
        fs::read(self.0.join("raw_data")).ok().filter(|data| !data.is_empty())
    }
}

/// Hats and child profiles have folders in their parent's `profiles`; `name` is the last part of theirs.
fn add_folders(dir: &Path, parent: &[u8], all: &mut BTreeMap<Bytes, Details>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(name) = fs::read(path.join("name")) else { continue };
        let name = name.strip_suffix(b"\n").unwrap_or(&name);
        let whole = if parent.is_empty() || name.starts_with(parent) {
            name.to_vec()
        } else {
            [parent, b"//", name].concat()
        };
        add_folders(&path.join("profiles"), &whole, all);
        all.insert(whole.into(), Details(path));
    }
}

/// Whether a task's label holds a profile: it or one below it, alone or in a stack.
pub(super) fn holds(label: &Bytes, profile: &[u8]) -> bool {
    parts(label.as_slice())
        .any(|part| part.strip_prefix(profile).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"//")))
}

/// `A//&B`; in a stack of several modes each part has its own (`label.c`).
fn parts(label: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(label);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text.windows(3).position(|bytes| bytes == b"//&");
        rest = at.map(|at| &text[at + 3..]);
        Some(&text[..at.unwrap_or(text.len())])
    })
    .map(|part| {
        let mode = part.strip_suffix(b")").and_then(|part| part.windows(2).rposition(|pair| pair == b" ("));
        mode.map_or(part, |at| &part[..at])
    })
}

/// A path's bytes.
pub(super) fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_kernels_list_hold_blanks_parentheses_and_any_byte() {
        let loaded = Loaded::parse(b"a b (c) (complain)\n/usr/bin/\xff (enforce)\nkhard-x (user)\nbroken\n");
        assert_eq!(loaded.mode_of("a b (c)"), Some("complain"));
        assert_eq!(
            loaded.modes.get(&Bytes::from(&b"/usr/bin/\xff"[..])).map(String::as_str),
            Some("enforce")
        );
        assert_eq!(loaded.mode_of("khard-x"), Some("user"));
        assert_eq!(loaded.modes.len(), 3);
    }

    #[test]
    fn a_label_holds_a_profile_its_children_and_what_is_stacked() {
        let holds = |label: &str, profile: &str| holds(&label.into(), profile.as_bytes());
        assert!(holds("a", "a"));
        assert!(holds("a//null-/bin/sh", "a"));
        assert!(
            holds("b//&a", "a")
                && holds("a (enforce)//&b (complain)", "a")
                && holds("a (enforce)//&b (complain)", "b")
        );
        assert!(!holds("ab", "a") && !holds("b//a", "a") && !holds("a", "a//b"));
    }
}
