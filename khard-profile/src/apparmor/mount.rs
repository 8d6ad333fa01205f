//! Owns what a mount is called in a rule: which of AppArmor's five operations it is, and the names of its flags. Knows
//! nothing about rules of other classes.

use crate::Bytes;

/// The flags that a rule can name, by bit (include/uapi/linux/mount.h; `mnt_opts_table` in AppArmor's parser/mount.cc).
/// `nosymfollow` (8) and `lazytime` (25) are not among them: parser 3 knows no such word.
const NAMES: [(u32, &str); 14] = [
    (0, "ro"),
    (1, "nosuid"),
    (2, "nodev"),
    (3, "noexec"),
    (4, "sync"),
    (6, "mand"),
    (7, "dirsync"),
    (10, "noatime"),
    (11, "nodiratime"),
    (15, "silent"),
    (16, "acl"),
    (21, "relatime"),
    (23, "iversion"),
    (24, "strictatime"),
];

const MS_RDONLY: u64 = 1 << 0;
const MS_REMOUNT: u64 = 1 << 5;
const MS_BIND: u64 = 1 << 12;
const MS_MOVE: u64 = 1 << 13;
const MS_REC: u64 = 1 << 14;
const MS_SILENT: u64 = 1 << 15;
/// How mounts propagate, each with its name and its name with `MS_REC`.
const PROPAGATION: [(u64, &str, &str); 4] = [
    (1 << 17, "unbindable", "runbindable"),
    (1 << 18, "private", "rprivate"),
    (1 << 19, "slave", "rslave"),
    (1 << 20, "shared", "rshared"),
];
/// What the kernel takes away before it asks: the magic number of old programs, and flags that are its own
/// (`apparmor_sb_mount()` in security/apparmor/lsm.c, `AA_MS_IGNORE_MASK`).
const MS_MGC_VAL: u64 = 0xc0ed_0000;
const MS_MGC_MSK: u64 = 0xffff_0000;
const IGNORED: u64 = 1 << 22 | 1 << 28 | 1 << 29 | 1 << 30;

/// A mount as a rule says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountRule {
    /// The file system's type; `None` where the operation has none.
    pub fstype: Option<Bytes>,
    /// The flags by name; empty for any flags.
    pub options: Vec<&'static str>,
    /// The device or directory; `None` where the operation has none.
    pub source: Option<Bytes>,
    /// Where.
    pub target: Bytes,
}

/// Finds the operation in the order in which the kernel does, and drops what the kernel does not look at.
///
/// Parser 3 writes more than it is told: of `options=(rw, bind) "/a/" -> "/b/"` also a mount of a new file system without
/// flags from `/a/` (seen with `-D rule-exprs`, 3.0.8). A rule that names its type, as those for new mounts here do, gives
/// nothing else.
///
/// # Errors
/// In words, when no rule can say it without saying much more.
pub(super) fn rule(
    fstype: &Bytes,
    source: &Bytes,
    target: &Bytes,
    flags: u64,
) -> Result<MountRule, &'static str> {
    let flags = if flags & MS_MGC_MSK == MS_MGC_VAL { flags & !MS_MGC_MSK } else { flags };
    let flags = flags & !IGNORED;
    let propagation = PROPAGATION.iter().fold(0, |all, (bit, ..)| all | bit);
    let access = if flags & MS_RDONLY == 0 { "rw" } else { "ro" };
    let target = target.clone();
    let of = |fstype, options, source| Ok(MountRule { fstype, options, source, target });
    if flags & MS_REMOUNT != 0 {
        let bind: &[&str] = match flags & (MS_BIND | MS_REC) {
            0 => &[],
            MS_BIND => &["bind"],
            MS_REC => return Err("no rule can name the flag MS_REC of a remount"),
            _ => &["rbind"],
        };
        let named = named(flags & !(MS_REMOUNT | MS_BIND | MS_REC)).ok_or(
            "no rule can name all flags of this remount, and one without flags would allow every mount",
        )?;
        return of(None, [&[access, "remount"], bind, &named].concat(), None);
    }
    if flags & MS_BIND != 0 {
        let bind = if flags & MS_REC == 0 { "bind" } else { "rbind" };
        return of(None, vec!["rw", bind], Some(source.clone()));
    }
    if flags & propagation != 0 {
        let name = |(_, plain, recursive): &(_, &'static str, &'static str)| {
            if flags & MS_REC == 0 { *plain } else { *recursive }
        };
        let kinds = PROPAGATION.iter().filter(|(bit, ..)| flags & bit != 0).map(name);
        let silent = (flags & MS_SILENT != 0).then_some("silent");
        return of(None, ["rw"].into_iter().chain(kinds).chain(silent).collect(), None);
    }
    if flags & MS_MOVE != 0 {
        return of(None, vec!["rw", "move"], Some(source.clone()));
    }
    // A flag without a name: the rule takes any, still only for this type, device and place.
    let options = named(flags).map(|named| [&[access], named.as_slice()].concat()).unwrap_or_default();
    of(Some(fstype.clone()), options, Some(source.clone()))
}

/// The names of the flags but for `MS_RDONLY`; `None` if one has none.
fn named(flags: u64) -> Option<Vec<&'static str>> {
    let flags = flags & !MS_RDONLY;
    let known = NAMES.iter().fold(0, |all, (bit, _)| all | 1 << bit);
    (flags & !known == 0)
        .then(|| NAMES.iter().filter(|(bit, _)| flags >> bit & 1 != 0).map(|(_, name)| *name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(flags: u64) -> Result<Vec<&'static str>, &'static str> {
        rule(&"tmpfs".into(), &"/a/".into(), &"/m/".into(), flags).map(|rule| rule.options)
    }

    #[test]
    fn the_operation_is_found_as_the_kernel_finds_it() {
        assert_eq!(options(0), Ok(vec!["rw"]));
        assert_eq!(options(1 | 2 | 8), Ok(vec!["ro", "nosuid", "noexec"]));
        assert_eq!(options(MS_BIND | MS_REC | 2), Ok(vec!["rw", "rbind"]));
        assert_eq!(options(MS_REMOUNT | MS_BIND | 1), Ok(vec!["ro", "remount", "bind"]));
        assert_eq!(options(1 << 18 | MS_REC | MS_SILENT), Ok(vec!["rw", "rprivate", "silent"]));
        assert_eq!(options(MS_MOVE), Ok(vec!["rw", "move"]));
        assert_eq!(options(MS_MGC_VAL | 2), Ok(vec!["rw", "nosuid"]));
    }

    #[test]
    fn a_flag_without_a_name_is_no_silent_widening() {
        assert_eq!(options(1 << 25), Ok(vec![]));
        assert!(options(MS_REMOUNT | 1 << 25).is_err() && options(MS_REMOUNT | MS_REC).is_err());
    }
}
