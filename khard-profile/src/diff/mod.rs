//! Owns the question what is different between two recordings, or two profiles of one kind: what an answer is, and what is the same
//! for all kinds. Knows nothing about how profiles are made.
//!
//! [`recordings`] compares what was observed, [`seccomp`] and [`apparmor`] what profiles do, not how they are written. Everything that
//! differs is in exactly one [`Change`], or in two where something was gained and something else lost; so an answer without changes
//! says that both are the same, and asking the other way round turns every change round.

mod apparmor;
mod markdown;
mod recording;
mod redact;
mod render;
mod seccomp;

use std::collections::BTreeSet;

use serde::Serialize;

pub use apparmor::apparmor;
pub use recording::recordings;
pub use seccomp::seccomp;

use crate::Bytes;
use crate::recording::{Abi, AccessKey, Phase, SyscallKey, Witness};

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// Two recordings.
    Recordings,
    /// Two seccomp profiles.
    Seccomp,
    /// Two AppArmor profiles.
    Apparmor,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// Of what.
    pub compared: Compared,
    /// Everything that differs, by class, then kind, then name.
    pub changes: Vec<Change>,
    /// Of recordings: the classes whose coverage got worse, so that what seems to be gone may only be unseen.
    pub worse: Vec<WorseCoverage>,
    /// What the answer does not cover.
    pub notes: Vec<Note>,
}

/// What an answer does not cover, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The words. Names in it are escaped for a terminal.
    pub text: String,
    /// Whether there are any: else all words are khard's own.
    has_names: bool,
}

impl Note {
    fn with_names(text: String) -> Self {
        Self { text, has_names: true }
    }

    fn of_khard(text: impl Into<String>) -> Self {
        Self { text: text.into(), has_names: false }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about: `system calls`, or a class of accesses or rules.
    pub class: &'static str,
    /// Which way it goes.
    pub kind: Kind,
    /// The call, the path, the capability, …, as it is: no sink has seen it yet.
    pub what: Bytes,
    /// Of system calls: in which ABIs.
    pub abis: BTreeSet<Abi>,
    /// What was there before; `None`: nothing.
    pub before: Option<Bytes>,
    /// What is there now.
    pub after: Option<Bytes>,
    /// What an addition opens, in words, if it is on khard's list.
    pub opens: Option<&'static str>,
    /// Who did it first, where that was recorded: by the new recording, or of what is gone by the old one.
    pub witness: Option<Witness>,
    /// Of recordings: what was gained, or lost.
    pub observations: Vec<Observation>,
    /// Of an architecture that seccomp lets in from now on, or no longer: the calls that are changed by that alone.
    pub calls: Vec<&'static str>,
}

/// Which way a difference goes. The order is that of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Was not there, or was refused.
    Added,
    /// Was there, and is more.
    Widened,
    /// Is not there, or is refused.
    Removed,
    /// Is there, and is less.
    Narrowed,
    /// Is something else, and neither more nor less: another errno, or a rule within one of the other profile.
    Changed,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Added, Self::Widened, Self::Removed, Self::Narrowed, Self::Changed];

    /// The name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Widened => "widened",
            Self::Removed => "removed",
            Self::Narrowed => "narrowed",
            Self::Changed => "changed",
        }
    }

    /// True if more is done, or allowed, than before.
    pub const fn is_more(self) -> bool {
        matches!(self, Self::Added | Self::Widened)
    }

    /// What it is when asked the other way round.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Added => Self::Removed,
            Self::Removed => Self::Added,
            Self::Widened => Self::Narrowed,
            Self::Narrowed => Self::Widened,
            Self::Changed => Self::Changed,
        }
    }
}

/// One thing that was seen in one phase.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observation {
    /// A system call.
    Call(SyscallKey, Phase),
    /// An access.
    Access(AccessKey, Phase),
}

/// Classes that the new recording tells less of than the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorseCoverage {
    /// The classes, by their names in JSON.
    pub classes: Vec<&'static str>,
    /// The best coverage that a run of the old recording has, in words.
    pub before: String,
    /// The same of the new one.
    pub after: String,
}

impl Diff {
    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// True if something is done, or allowed, that was not before.
    pub fn has_more(&self) -> bool {
        self.changes.iter().any(|change| change.kind.is_more())
    }

    /// The same with other words for what somebody wants hidden of the names that a workload, a cluster or a profile chose, and of those of
    /// calls. `hide`: what to show of a name instead; `None`: the name. khard's own words stay, but with what they are about.
    #[must_use]
    pub fn redacted(mut self, hide: impl Fn(&[u8]) -> Option<String>) -> Self {
        let replace = |name: &mut Bytes| {
            let hidden = redact::redact(name.as_slice(), &hide);
            hidden.map(|words| *name = Bytes::from(words.as_slice())).is_some()
        };
        let in_words = |words: &mut String| {
            if let Some(hidden) = redact::redact(words.as_bytes(), &hide) {
                *words = String::from_utf8_lossy(&hidden).into_owned();
            }
        };
        for change in &mut self.changes {
            let is_hidden = replace(&mut change.what);
            for words in [&mut change.before, &mut change.after].into_iter().flatten() {
                replace(words);
            }
            if let Some(witness) = &mut change.witness {
                replace(&mut witness.comm);
                replace(&mut witness.exe);
            }
            change.opens.take_if(|opens| is_hidden && hide(opens.as_bytes()).is_some());
            change.calls.retain(|call| hide(call.as_bytes()).is_none());
            // They hold all names again.
            change.observations.clear();
        }
        for words in self.worse.iter_mut().flat_map(|worse| [&mut worse.before, &mut worse.after]) {
            in_words(words);
        }
        for note in self.notes.iter_mut().filter(|note| note.has_names) {
            in_words(&mut note.text);
        }
        self
    }

    /// How many changes of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.changes.iter().filter(|change| change.kind == kind).count()
    }

    /// What one line can tell stands together, and after what needs more.
    fn sort(&mut self, classes: &[&str]) {
        let key = |change: &Change| {
            let place = classes.iter().position(|known| *known == change.class);
            let alike =
                change.is_plain().then(|| (change.abis.clone(), change.before.clone(), change.after.clone()));
            (place, change.kind, change.opens.is_none(), alike, change.what.clone())
        };
        self.changes.sort_by_cached_key(key);
    }
}

impl Change {
    fn new(class: &'static str, kind: Kind, what: impl Into<Bytes>) -> Self {
        Self {
            class,
            kind,
            what: what.into(),
            abis: BTreeSet::new(),
            before: None,
            after: None,
            opens: None,
            witness: None,
            observations: Vec::new(),
            calls: Vec::new(),
        }
    }
}
