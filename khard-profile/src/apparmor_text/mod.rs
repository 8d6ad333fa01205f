//! Owns AppArmor profile text as data, by whomever it was written: what its rules say, line by line. Knows nothing about
//! recordings and reads no other file: what an `include` grants is not known here, and said so.

mod glob;
mod lex;
mod mode;
mod mount;
mod names;
mod parse;
mod rule;
mod tunables;

use std::{borrow::Cow, ops::Range};

use crate::Bytes;
use crate::recording::FilePerms;

pub(crate) use glob::Pattern;
pub use mode::{Mode, with_mode};
pub(crate) use mount::MountRule;

/// Larger files are no profiles.
const MAX_BYTES: usize = 16 << 20;

/// Why a text cannot be used as a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileTextError {
    /// It is too large.
    #[error("the AppArmor profile has {found} bytes, more than {limit}: is it a profile?")]
    TooLarge {
        /// Its size.
        found: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Something in it is not as it should be.
    #[error("the AppArmor profile cannot be used: line {line}: {problem}")]
    Bad {
        /// Where, from 1.
        line: usize,
        /// What, and what to do.
        problem: String,
    },
    /// There is none, or more than one.
    #[error("there are {found} profiles in this text, and one is needed: {names}")]
    NotOne {
        /// How many.
        found: usize,
        /// Their names.
        names: String,
    },
}

/// One profile of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedProfile {
    /// Its name, which is the label of its processes; patterns in it are not expanded.
    pub name: Bytes,
    /// Where it begins, from 1.
    pub line: usize,
    /// The heads of it and of its hats and child profiles in the text, without their `{`.
    heads: Vec<Range<usize>>,
    /// What its `abi` line asks for, such as `3.0`; `None`: no such line.
    pub abi: Option<String>,
    /// It says itself, by a path, which programs it attaches to.
    pub attaches: bool,
    /// Its flags that matter here.
    pub flags: Flags,
    /// Its own rules, in the order of the text.
    pub rules: Vec<Rule>,
    /// What is part of it and not judged, each with its line: includes, hats, child profiles, aliases.
    pub unjudged: Vec<Unjudged>,
    /// The files that it includes, as written.
    pub includes: Vec<String>,
    /// The names of its hats and child profiles.
    pub inner: Vec<Bytes>,
}

/// What the flags of a profile change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// What becomes of what it does not allow.
    pub mode: Mode,
    /// What is below no root of a mount namespace has a path.
    pub attach_disconnected: bool,
    /// The old name of a deleted file is asked for.
    pub mediate_deleted: bool,
    /// Nothing but deny rules refuses: complain, `unconfined` and `default_allow`, by that name.
    pub lenient: Option<String>,
    /// Flags that change paths in ways that are not judged: `chroot_relative`, `attach_disconnected.path`.
    pub unjudged: Vec<String>,
}

/// Something in a profile that is not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged {
    /// Where, from 1.
    pub line: usize,
    /// What, in words: khard's own, or with a name of the profile's in them, which is escaped for a terminal.
    pub what: Cow<'static, str>,
    /// Whether it can grant what the profile's own rules do not.
    pub may_grant: bool,
}

/// What is said of profiles with such rules.
pub(crate) const CHANGES_ON_EXEC: &str =
    "it changes the profile on exec: what such a program does is judged as if it stayed";

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it begins, from 1.
    pub line: usize,
    /// As it is written, white space aside; what its block adds is not in it.
    pub text: Bytes,
    /// It refuses instead of granting.
    pub deny: bool,
    /// It holds for files of the task's own user only.
    pub owner: bool,
    pub(crate) kind: RuleKind,
}

/// What a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleKind {
    /// Permissions on paths.
    File(FileRule),
    /// The capabilities, a bit each.
    Capability(u64),
    /// Families and types; `None` is any.
    Network(Vec<(Option<u16>, Option<u16>)>),
    /// Signals.
    Signal(SignalRule),
    /// Tracing.
    Ptrace(PtraceRule),
    /// Mounts of all kinds.
    Mount(MountRule),
    /// `umount`.
    Umount(Option<Pattern>),
    /// `pivot_root`.
    PivotRoot { new_root: Option<Pattern>, put_old: Option<Pattern> },
    /// `userns`.
    UserNamespaces,
    /// `io_uring`.
    IoUring { sqpoll: bool, override_creds: bool },
    /// `all`.
    All,
    /// Of a class that no recording holds: `dbus`, `mqueue`, `change_profile`, `rlimit`.
    Other,
    /// Not judged, and why.
    Unjudged { scope: Scope, why: String },
}

/// What a rule that is not judged may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    File,
    Network,
    Signal,
    Ptrace,
    Mount,
    UserNamespaces,
    IoUring,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRule {
    /// `None`: every path.
    pub(crate) path: Option<Pattern>,
    /// `w` holds `a`, `ix` holds `m`, as the parser compiles them.
    pub(crate) perms: FilePerms,
    /// `l`, and what may be linked.
    pub(crate) link: Option<LinkTo>,
    /// What becomes of the profile on exec.
    pub(crate) exec: Option<Exec>,
    /// Of [`Exec::Other`].
    pub(crate) transition: Option<Transition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkTo {
    /// `None`: everything.
    pub(crate) target: Option<Pattern>,
    /// The new name may grant no more than the file's own name does.
    pub(crate) subset: bool,
}

/// The profile after an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exec {
    /// The same: `ix`.
    Inherit,
    /// Another: `px`, `cx`, `ux` and what is made of them.
    Other,
}

/// To which profile an exec changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// `px`, `cx`, `ux`, `pix`, …, in small letters.
    pub(crate) mode: String,
    /// What follows the arrow.
    pub(crate) to: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignalRule {
    /// `send` and `receive`.
    pub(crate) ways: Ways,
    /// A bit each; `None`: every signal.
    pub(crate) signals: Option<u128>,
    pub(crate) peer: Option<Pattern>,
}

/// Both directions of both modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PtracePerms {
    /// `read` and `readby`.
    pub(crate) read: Ways,
    /// `trace` and `tracedby`.
    pub(crate) trace: Ways,
}

/// What the profile's processes may do, and what may be done to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    pub(crate) does: bool,
    pub(crate) suffers: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PtraceRule {
    pub(crate) perms: PtracePerms,
    pub(crate) peer: Option<Pattern>,
}

impl FileRule {
    pub(crate) fn covers(&self, path: &[u8]) -> bool {
        self.path.as_ref().map_or(path.starts_with(b"/"), |pattern| pattern.matches(path))
    }
}

impl SignalRule {
    pub(crate) fn has(&self, signal: u8) -> bool {
        self.signals.is_none_or(|set| set.checked_shr(u32::from(signal)).is_some_and(|rest| rest & 1 != 0))
    }
}

/// Every profile of a text, hats and child profiles aside.
///
/// # Errors
/// When the text is not one that AppArmor's parser would take, or uses what cannot be judged at all (conditions).
pub fn parse(text: &[u8]) -> Result<Vec<ParsedProfile>, ProfileTextError> {
    if text.len() > MAX_BYTES {
        return Err(ProfileTextError::TooLarge { found: text.len(), limit: MAX_BYTES });
    }
    if let Some(place) = text.iter().position(|byte| *byte == 0) {
        let line = text[..place].split(|byte| *byte == b'\n').count();
        let problem = "there is a zero byte: this is no text".to_owned();
        return Err(ProfileTextError::Bad { line, problem });
    }
    parse::text(text)
}

/// Whether a program's path is one that a profile attaches to by itself, given the attachment as the kernel tells it. `None`: it
/// cannot be judged.
pub fn attaches_to(attachment: &[u8], path: &[u8]) -> Option<bool> {
    Pattern::path(&glob::decode(attachment).ok()?, &glob::Variables::new())
        .ok()
        .map(|pattern| pattern.matches(path))
}

impl ParsedProfile {
    /// The one profile of a text.
    ///
    /// # Errors
    /// As [`parse`], and when there is not exactly one.
    pub fn parse(text: &[u8]) -> Result<Self, ProfileTextError> {
        let mut profiles = parse(text)?;
        match profiles.pop() {
            Some(profile) if profiles.is_empty() => Ok(profile),
            last => {
                profiles.extend(last);
                let names = profiles.iter().map(|profile| crate::escape::terminal(profile.name.as_slice()));
                let names = names.collect::<Vec<_>>().join(", ");
                Err(ProfileTextError::NotOne { found: profiles.len(), names })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::attaches_to;

    #[test]
    fn a_profile_attaches_to_what_its_attachment_matches() {
        assert_eq!(attaches_to(b"/usr/{s,}bin/x*", b"/usr/sbin/xy"), Some(true));
        assert_eq!(attaches_to(b"/usr/bin/x", b"/usr/bin/xy"), Some(false));
        assert_eq!(attaches_to(b"khard-web-1234abcd", b"/usr/bin/x"), Some(false));
        assert_eq!(attaches_to(b"@{unknown}/x", b"/usr/bin/x"), None);
    }
}
