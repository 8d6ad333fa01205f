//! Owns what a rule is: what it allows, from which accesses it was made, and the order of rules. Knows neither how a rule is
//! chosen nor how it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::mount::MountRule;
use super::pattern::Pattern;
use crate::Bytes;
use crate::recording::{AccessKey, FilePerms, IoUringOp, Outcome, PtraceMode, Witness};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub what: What,
    /// True if it forbids what it says, without a word in the log.
    pub deny: bool,
    /// The accesses that it was made from, as they were recorded. Empty only for the floor.
    pub originals: BTreeSet<AccessKey>,
    /// Who needed it first.
    pub witness: Option<Witness>,
    /// Why it is there although nobody was seen to need it.
    pub floor: Option<&'static str>,
    /// Why it says more than the accesses that it was made from, if it was folded.
    pub folded: Option<FoldReason>,
}

/// Why files were folded into one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FoldReason {
    /// Versions of a library.
    Versions,
    /// As many files of a directory were used as the policy's threshold says.
    Threshold,
    /// The parser could not have compiled the rules one by one.
    Limit,
}

/// What a rule says. The order is that of the profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A capability, by number.
    Capability(u8),
    /// Sockets.
    Network {
        /// `AF_…`.
        family: u16,
        /// `SOCK_…`.
        kind: u16,
    },
    /// Signals.
    Signal {
        /// Which way.
        direction: Direction,
        /// The other side.
        peer: RulePeer,
        /// By number; empty is any.
        signals: BTreeSet<u8>,
    },
    /// Looking into processes, tracing them.
    Ptrace {
        /// Which way.
        direction: Direction,
        /// The other side.
        peer: RulePeer,
        /// How deep.
        modes: BTreeSet<PtraceMode>,
    },
    /// A mount.
    Mount(MountRule),
    /// Taking a mount away.
    Umount {
        /// Where.
        target: Bytes,
    },
    /// Changing the root.
    PivotRoot {
        /// The new root.
        new_root: Bytes,
        /// Where the old one goes.
        put_old: Bytes,
    },
    /// Making user namespaces.
    UserNamespace,
    /// `io_uring`.
    IoUring(IoUringOp),
    /// Files.
    File {
        /// Which.
        path: Pattern,
        /// Only the owner's.
        owner: bool,
        /// What: of `rwkmx`.
        perms: FilePerms,
    },
    /// A hard link.
    Link {
        /// The new name.
        link: Pattern,
        /// The file that gets it.
        target: Pattern,
    },
}

/// Which way a signal or a trace goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the profile's processes.
    Out,
    /// To them.
    In,
    /// Between them.
    Both,
}

/// The other side of a signal or a trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RulePeer {
    /// Processes under this profile.
    Own,
    /// Processes under another label.
    Label(Bytes),
}

impl What {
    /// The same with nothing granted: rules with the same key are one rule.
    pub(super) fn key(&self) -> Self {
        let mut key = self.clone();
        match &mut key {
            Self::Signal { signals, .. } => signals.clear(),
            Self::Ptrace { modes, .. } => modes.clear(),
            Self::File { perms, .. } => *perms = FilePerms::EMPTY,
            _ => {}
        }
        key
    }

    /// Adds what another rule of the same key grants.
    fn unite(&mut self, other: Self) {
        match (self, other) {
            (Self::Signal { signals, .. }, Self::Signal { signals: more, .. }) => signals.extend(more),
            (Self::Ptrace { modes, .. }, Self::Ptrace { modes: more, .. }) => modes.extend(more),
            (Self::File { perms, .. }, Self::File { perms: more, .. }) => *perms = perms.or(more),
            _ => {}
        }
    }

    /// The group's name in the profile and in the summary.
    pub const fn group(&self) -> &'static str {
        match self {
            Self::Capability(_) => "capabilities",
            Self::Network { .. } => "network",
            Self::Signal { .. } => "signals",
            Self::Ptrace { .. } => "ptrace",
            Self::Mount(_) | Self::Umount { .. } | Self::PivotRoot { .. } => "mounts",
            Self::UserNamespace => "user namespaces",
            Self::IoUring(_) => "io_uring",
            Self::File { .. } => "files",
            Self::Link { .. } => "links",
        }
    }

    /// True if some path in it is not one path but many.
    pub fn is_generalised(&self) -> bool {
        match self {
            Self::File { path, .. } => path.as_literal().is_none(),
            Self::Link { link, target } => link.as_literal().is_none() || target.as_literal().is_none(),
            _ => false,
        }
    }
}

impl Rule {
    /// A rule that was seen to be needed.
    pub(super) fn seen(what: What, original: AccessKey, witness: Option<Witness>) -> Self {
        let originals = [original].into();
        Self { what, deny: false, originals, witness, floor: None, folded: None }
    }

    /// A rule that is there for a reason.
    pub(super) fn of_floor(what: What, reason: &'static str) -> Self {
        let originals = BTreeSet::new();
        Self { what, deny: false, originals, witness: None, floor: Some(reason), folded: None }
    }

    /// Adds another rule of the same key.
    pub(super) fn unite(&mut self, other: Self) {
        self.what.unite(other.what);
        self.originals.extend(other.originals);
        self.witness = match (self.witness.take(), other.witness) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.floor = self.floor.or(other.floor);
        self.folded = self.folded.or(other.folded);
    }

    /// True if the kernel refused every access that it was made from.
    pub fn is_attempt_only(&self) -> bool {
        !self.originals.is_empty() && self.originals.iter().all(|key| key.outcome == Outcome::Refused)
    }
}

/// Rules by their keys, so that what is granted for the same thing stands in one rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(BTreeMap<What, Rule>);

impl Rules {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, rule: Rule) {
        match self.0.get_mut(&rule.what.key()) {
            Some(known) => known.unite(rule),
            None => drop(self.0.insert(rule.what.key(), rule)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.values()
    }

    /// Takes rules out and puts others in: `fold` gives what a rule becomes, or `None` if it stays.
    pub(super) fn fold(&mut self, fold: impl Fn(&Rule) -> Option<(Pattern, FoldReason)>) {
        for (_, mut rule) in std::mem::take(&mut self.0) {
            if let Some((into, reason)) = fold(&rule)
                && let What::File { path, .. } = &mut rule.what
            {
                *path = into;
                rule.folded = Some(reason);
            }
            self.add(rule);
        }
    }

    pub(super) fn into_vec(self) -> Vec<Rule> {
        self.0.into_values().collect()
    }
}
