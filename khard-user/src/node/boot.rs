//! What is loaded again after a reboot. Owns finding out whether somebody loads AppArmor's folder at boot, and whether that folder
//! is there then.

use std::{fs, path::Path};

use rustix::fs::statfs;

use super::{apparmor::bytes_of, places::Places};

/// Where systemd looks for units and for what they are wanted by, first one first (systemd.unit(5)).
const UNIT_DIRS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
const UNIT: &str = "apparmor.service";
/// Start scripts of other systems: `OpenRC`'s runlevels, and those of System V.
const SCRIPTS: [&str; 4] = ["/etc/runlevels/boot", "/etc/runlevels/default", "/etc/rcS.d", "/etc/rc2.d"];
/// File systems in memory (include/uapi/linux/magic.h).
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// Ends of names that AppArmor's own scripts and its parser skip (`skip_profile` of rc.apparmor.functions, 3.0.8).
const SKIPPED: [&str; 11] = [
    "~",
    ".dpkg-new",
    ".dpkg-old",
    ".dpkg-dist",
    ".dpkg-bak",
    ".dpkg-remove",
    ".pacsave",
    ".pacnew",
    ".rpmnew",
    ".rpmsave",
    ".orig",
];

/// Why a profile in this file is not loaded at the next boot; `None`: it is.
pub(super) fn why_not(places: &Places, file: &Path) -> Option<String> {
    if file.parent() != Some(&places.profiles) {
        return Some(format!(
            "{} cannot be written, and what is elsewhere is not loaded at boot: apply again then",
            places.as_booted(&places.profiles).display()
        ));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if SKIPPED.iter().any(|end| name.ends_with(end)) {
        return Some("AppArmor skips files whose names end so".to_owned());
    }
    in_memory(places, file).or_else(|| {
        (!is_enabled(places)).then(|| {
            format!(
                "nothing here loads {} at boot: `systemctl enable {UNIT}`, or what this system has instead",
                places.as_booted(&places.profiles).display()
            )
        })
    })
}

/// Why a file is gone after a reboot; `None`: it is not.
pub(super) fn in_memory(places: &Places, file: &Path) -> Option<String> {
    let dir = file.ancestors().find(|dir| dir.is_dir())?;
    let kind = u64::try_from(statfs(dir).ok()?.f_type).ok()?;
    let gone = matches!(kind, TMPFS_MAGIC | RAMFS_MAGIC) && places.kernel.is_some();
    gone.then(|| format!("{} is a file system in memory", places.as_booted(dir).display()))
}

fn is_enabled(places: &Places) -> bool {
    let dir = |path: &str| places.below_root(Path::new(path));
    // The first one that there is counts; a masked one is a link to /dev/null.
    let unit =
        UNIT_DIRS.iter().map(|path| dir(path).join(UNIT)).find(|unit| fs::symlink_metadata(unit).is_ok());
    // Where systemd runs, it takes the unit and not the script (sd_booted(3)).
    let is_systemd = match places.kernel {
        Some(_) => dir("/run/systemd/system").is_dir(),
        None => UNIT_DIRS.iter().any(|path| dir(path).join("sysinit.target").exists()),
    };
    if let Some(unit) = unit.filter(|_| is_systemd) {
        let is_masked = fs::read_link(&unit).is_ok_and(|target| bytes_of(&target) == b"/dev/null");
        let is_wanted = UNIT_DIRS.iter().any(|path| {
            let entries = fs::read_dir(dir(path)).into_iter().flatten().flatten();
            entries
                .filter(|entry| {
                    let name = entry.file_name();
                    let name = name.to_string_lossy();
                    name.ends_with(".wants") || name.ends_with(".requires")
                })
                .any(|entry| fs::symlink_metadata(entry.path().join(UNIT)).is_ok())
        });
        if !is_masked && is_wanted {
            return true;
        }
    }
    !is_systemd
        && SCRIPTS.iter().any(|path| {
            let entries = fs::read_dir(dir(path)).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).any(|name| {
                name == "apparmor"
                    || (name.starts_with('S')
                        && name.trim_start_matches(|c: char| c == 'S' || c.is_ascii_digit()) == "apparmor")
            })
        })
}
