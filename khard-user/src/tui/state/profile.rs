//! The texts of profiles as they would be written now, and which lines of them the user has not seen yet. Knows nothing about
//! how they are made.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, list::moved, words};
use crate::{profiles::ProfileTexts, stream::SubjectId};

/// One of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Which {
    /// System calls.
    #[default]
    Seccomp,
    /// Accesses.
    AppArmor,
}

/// A line of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProfileLine {
    /// What it says.
    pub(crate) text: String,
    /// Whether it was not there when the user looked at the profile before.
    pub(crate) is_new: bool,
}

/// A profile with what is new in it.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// Its lines.
    pub(crate) lines: Vec<ProfileLine>,
    /// Lines of the user's previous look that are not there any more.
    pub(crate) n_removed: usize,
    /// Why there is none.
    pub(crate) error: Option<String>,
    before: Option<BTreeSet<String>>,
    was_shown: bool,
}

impl Text {
    fn set(&mut self, text: Result<String, String>) {
        if std::mem::take(&mut self.was_shown) {
            self.before = Some(self.lines.drain(..).map(|line| line.text).collect());
        }
        self.error = text.as_ref().err().map(|why| words::clean_line(why));
        let lines: Vec<String> = text.unwrap_or_default().lines().map(words::clean_line).collect();
        let is_new = |line: &String| self.before.as_ref().is_some_and(|before| !before.contains(line));
        let news: Vec<bool> = lines.iter().map(is_new).collect();
        let now: BTreeSet<&String> = lines.iter().collect();
        let gone = |before: &BTreeSet<String>| before.iter().filter(|line| !now.contains(line)).count();
        self.n_removed = self.before.as_ref().map_or(0, gone);
        self.lines = lines.into_iter().zip(news).map(|(text, is_new)| ProfileLine { text, is_new }).collect();
    }

    /// Lines that were not there before.
    pub(crate) fn n_new(&self) -> usize {
        self.lines.iter().filter(|line| line.is_new).count()
    }
}

#[derive(Debug, Default)]
struct Pair {
    seccomp: Text,
    apparmor: Text,
}

impl Pair {
    fn of(&mut self, which: Which) -> &mut Text {
        match which {
            Which::Seccomp => &mut self.seccomp,
            Which::AppArmor => &mut self.apparmor,
        }
    }
}

/// The profiles that the user has asked for.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    texts: BTreeMap<SubjectId, Pair>,
    /// Which of the two is shown.
    pub(crate) which: Which,
    cursor: usize,
}

impl Profiles {
    pub(super) fn set(&mut self, subject: SubjectId, texts: ProfileTexts) {
        let pair = self.texts.entry(subject).or_default();
        pair.seccomp.set(texts.seccomp);
        pair.apparmor.set(texts.apparmor);
    }

    /// The profile that is shown of a subject, once it is made.
    pub(crate) fn text(&self, subject: SubjectId) -> Option<&Text> {
        let pair = self.texts.get(&subject)?;
        Some(match self.which {
            Which::Seccomp => &pair.seccomp,
            Which::AppArmor => &pair.apparmor,
        })
    }

    /// The line that the cursor is on.
    pub(crate) fn cursor(&self, text: &Text) -> usize {
        self.cursor.min(text.lines.len().saturating_sub(1))
    }

    pub(super) fn was_shown(&mut self, subject: SubjectId) {
        let which = self.which;
        if let Some(pair) = self.texts.get_mut(&subject) {
            pair.of(which).was_shown = true;
        }
    }

    pub(super) fn go(&mut self, subject: SubjectId, action: Action) {
        if let Some(text) = self.text(subject) {
            self.cursor = moved(self.cursor(text), text.lines.len(), action);
        }
    }

    pub(super) fn other(&mut self) {
        self.which = match self.which {
            Which::Seccomp => Which::AppArmor,
            Which::AppArmor => Which::Seccomp,
        };
        self.cursor = 0;
    }

    pub(super) fn rewind(&mut self) {
        self.cursor = 0;
    }
}
