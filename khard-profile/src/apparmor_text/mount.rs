//! Owns mount rules: which of the kernel's five kinds of mount(2) they are about, and with which flags. Knows nothing about
//! recordings.
//!
//! Kinds and the flags that are compared are the kernel's (`apparmor_sb_mount`, security/apparmor/lsm.c; mount.c); which kinds
//! a rule is compiled for is the parser's (`mnt_rule::gen_policy_re`, mount.cc).

use super::glob::Pattern;
use super::names::ms;

/// A `mount` or `remount` rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MountRule {
    /// `remount`: no other kind.
    pub(crate) is_remount: bool,
    /// `None`: any.
    pub(crate) options: Option<Options>,
    /// Types; empty: any.
    pub(crate) fstypes: Vec<Pattern>,
    pub(crate) source: Option<Pattern>,
    pub(crate) target: Option<Pattern>,
}

/// One list of options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Options {
    /// `in`: no others than these.
    pub(crate) at_most: bool,
    pub(crate) flags: u64,
}

/// `MS_MGC_VAL` and its mask (include/uapi/linux/mount.h).
const MAGIC: (u64, u64) = (0xc0ed_0000, 0xffff_0000);
/// `AA_MS_IGNORE_MASK` (security/apparmor/include/mount.h): `MS_KERNMOUNT`, `MS_NOSEC`, `MS_ACTIVE`, `MS_BORN`.
const IGNORED: u64 = 1 << 22 | 1 << 28 | 1 << 29 | 1 << 30;

impl MountRule {
    /// True if it may give what is there already a second name or another one: binds and moves.
    pub(crate) fn gives_other_names(&self) -> bool {
        let moves = |options: Options| options.flags & (ms::BIND | ms::MOVE) != 0;
        !self.is_remount && self.fstypes.is_empty() && self.options.is_none_or(moves)
    }

    /// True if the rule is about this mount.
    pub(crate) fn covers(&self, fstype: &[u8], source: &[u8], target: &[u8], flags: u64) -> bool {
        let flags = if flags & MAGIC.1 == MAGIC.0 { flags & !MAGIC.1 } else { flags } & !IGNORED;
        // What of the rest the kernel compares, by the kind of mount.
        let (compared, has_source, has_type) = if flags & ms::REMOUNT != 0 {
            (flags, false, false)
        } else if flags & ms::BIND != 0 {
            (flags & (ms::BIND | ms::REC), true, false)
        } else if flags & ms::PROPAGATION != 0 {
            (flags & (ms::PROPAGATION | ms::REC | ms::SILENT), false, false)
        } else if flags & ms::MOVE != 0 {
            (ms::MOVE, true, false)
        } else {
            (flags, true, true)
        };
        let kind_fits = (has_source || self.source.is_none()) && (has_type || self.fstypes.is_empty());
        let allowed = self.options.is_none_or(|options| {
            if options.at_most { compared & !options.flags == 0 } else { compared == options.flags }
        });
        let matches = |pattern: &Option<Pattern>, name: &[u8]| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
        };
        kind_fits
            && (!self.is_remount || flags & ms::REMOUNT != 0)
            && allowed
            && matches(&self.target, target)
            && (!has_source || matches(&self.source, source))
            && (!has_type || self.fstypes.is_empty() || self.fstypes.iter().any(|one| one.matches(fstype)))
    }
}
