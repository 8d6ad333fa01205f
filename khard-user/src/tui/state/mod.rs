//! What the dashboard shows and what a user has chosen to see. Knows no terminal and no clock, does nothing outside of itself.
//!
//! Rows are made from [`Subjects`] before a drawing, of the current view and the subject that is looked at only, and only when
//! they can have changed. Strings of workloads are escaped then.

mod action;
mod calls;
mod coverage;
mod events;
mod files;
mod learning;
mod list;
mod other;
mod profile;
#[cfg(test)]
pub(crate) mod samples;
mod shown;
mod status;
mod table;
mod update;
mod words;

use std::time::Duration;

use khard_profile::escape;

pub(crate) use self::{
    action::{Action, Effect, Mode, ViewKind},
    calls::CallRow,
    coverage::Trust,
    events::{EventKind, Events},
    files::{FileRow, Files},
    learning::{Curve, Learning, span_of_seconds},
    list::List,
    other::OtherRow,
    profile::{Profiles, Which},
    status::Status,
    table::{SortBy, SubjectRow, Table},
};
pub(crate) use crate::profiles::ProfileTexts;
use crate::{
    stream::SubjectId,
    subjects::{News, Observed, Subjects},
};

const NS_PER_S: u64 = 1_000_000_000;

/// Above as many observations, what is shown of a subject is made once a second at most.
const LARGE: usize = 5_000;

/// What does not change.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where is recorded: `this node`, or the command that leads to another.
    pub(crate) source: String,
    /// Where recordings and profiles are written to.
    pub(crate) out_dir: String,
    /// Whether an old stream is shown, of which nothing is written at the end.
    pub(crate) is_replay: bool,
}

/// What is open above a view.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Popup {
    Help,
    Filter,
    Mark(String),
    Quit,
}

/// Of what the rows of a view were made: they are made anew when it is another.
#[derive(Debug, PartialEq)]
struct Made {
    view: ViewKind,
    subject: SubjectId,
    n_changes: u64,
}

/// Everything that is shown.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(crate) struct State {
    setup: Setup,
    view: ViewKind,
    popup: Option<Popup>,
    filters: [String; ViewKind::ALL.len()],
    status: Status,
    table: Table,
    looked: Option<SubjectId>,
    /// Whom the agent was last told to count.
    told: Option<SubjectId>,
    made: Option<Made>,
    made_ns: u64,
    calls: List<CallRow>,
    calls_by_time: bool,
    calls_reversed: bool,
    files: Files,
    other: List<OtherRow>,
    learning: Learning,
    profiles: Profiles,
    events: Events,
    message: Option<Result<String, String>>,
    over: Option<String>,
    is_frozen: bool,
    /// Just frozen: all views but this one, which was shown then, are still to be made.
    frozen_at: Option<ViewKind>,
    is_dirty: bool,
    /// Messages and seconds of silence when it was last looked for what is new.
    refreshed: Option<(u64, u64)>,
}

impl State {
    /// Nothing yet.
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { source, out_dir, is_replay } = setup;
        let clean = |text: String| escape::terminal(text.as_bytes());
        Self {
            setup: Setup { source: clean(source), out_dir: clean(out_dir), is_replay },
            view: ViewKind::Subjects,
            popup: None,
            filters: Default::default(),
            status: Status::default(),
            table: Table::default(),
            looked: None,
            told: None,
            made: None,
            made_ns: 0,
            calls: List::default(),
            calls_by_time: false,
            calls_reversed: false,
            files: Files::default(),
            other: List::default(),
            learning: Learning::default(),
            profiles: Profiles::default(),
            events: Events::default(),
            message: None,
            over: None,
            is_frozen: false,
            frozen_at: None,
            is_dirty: true,
            refreshed: None,
        }
    }

    /// Makes what is shown. `silent_for`: how long the agent was not heard of.
    pub(crate) fn refresh(&mut self, subjects: &Subjects, silent_for: Duration) {
        if self.is_frozen {
            if let Some(shown) = self.frozen_at.take() {
                self.make_rest(subjects, shown);
            }
            return;
        }
        let now = (subjects.n_messages(), silent_for.as_secs());
        if !self.is_dirty && self.refreshed == Some(now) {
            return;
        }
        self.refreshed = Some(now);
        let is_other = self.table.learn(subjects);
        // Who has said that it is the end is silent for a good reason.
        let silent_for = if self.over.is_some() { Duration::ZERO } else { silent_for };
        let status = Status::of(subjects, &self.table, silent_for);
        self.is_dirty |= is_other || status != self.status;
        self.status = status;
        self.looked = self.looked.or_else(|| self.table.first());
        if self.view == ViewKind::Subjects {
            self.is_dirty |= self.table.build(subjects, self.looked, &self.filters[0]);
        } else if let Some(id) = self.looked
            && let Some(observed) = subjects.get(id)
        {
            self.make(id, observed, subjects);
        }
    }

    fn make(&mut self, id: SubjectId, observed: &Observed, subjects: &Subjects) {
        let is_same_view =
            self.made.as_ref().is_some_and(|made| made.view == self.view && made.subject == id);
        let is_soon = subjects.now_ns().saturating_sub(self.made_ns) < NS_PER_S;
        let now = Made { view: self.view, subject: id, n_changes: observed.n_changes() };
        let is_made = self.made.as_ref() == Some(&now) || (is_same_view && is_soon && observed.len() > LARGE);
        if !is_made {
            self.make_view(self.view, observed);
            self.made_ns = subjects.now_ns();
            self.made = Some(now);
        }
        if self.view == ViewKind::Learning {
            self.is_dirty |= self.learning.go_on(observed, subjects);
        }
    }

    fn make_view(&mut self, view: ViewKind, observed: &Observed) {
        let filter = &self.filters[view as usize];
        self.is_dirty |= match view {
            ViewKind::Syscalls => {
                let mut rows = calls::rows(observed);
                calls::sort(&mut rows, self.calls_by_time, self.calls_reversed);
                self.calls.set(rows, filter)
            }
            ViewKind::Files => self.files.build(observed),
            ViewKind::Other => self.other.set(other::rows(observed), filter),
            ViewKind::Learning => {
                self.learning.build(observed);
                true
            }
            ViewKind::Subjects | ViewKind::Profile | ViewKind::Events => false,
        };
    }

    /// Everything but what is shown already, so that a user can go through the views of what is frozen.
    fn make_rest(&mut self, subjects: &Subjects, shown: ViewKind) {
        let is_dirty = self.is_dirty || self.view != shown;
        if shown != ViewKind::Subjects {
            self.table.build(subjects, self.looked, &self.filters[0]);
        }
        if let Some(observed) = self.looked.and_then(|id| subjects.get(id)) {
            for view in ViewKind::ALL.into_iter().filter(|view| *view != shown) {
                self.make_view(view, observed);
            }
            if shown != ViewKind::Learning {
                self.learning.go_on(observed, subjects);
            }
        }
        self.is_dirty = is_dirty;
    }

    /// Takes note of what happened.
    pub(crate) fn take(&mut self, news: &News, subjects: &Subjects) {
        self.events.take(news, subjects);
        self.is_dirty |= self.view == ViewKind::Events && !self.is_frozen;
    }

    /// The profiles of a subject, as [`Effect::MakeProfile`] asked for.
    pub(crate) fn set_profile(&mut self, subject: SubjectId, texts: ProfileTexts) {
        self.profiles.set(subject, texts);
        self.is_dirty |= self.view == ViewKind::Profile && self.looked == Some(subject);
    }

    /// Something to say until the next key: what was done, or an error.
    pub(crate) fn set_message(&mut self, message: Result<String, String>) {
        self.message =
            Some(message.map(|said| words::clean_line(&said)).map_err(|said| words::clean_line(&said)));
        self.is_dirty = true;
    }

    /// The session has ended.
    pub(crate) fn set_over(&mut self, why: &str) {
        self.over = Some(words::clean_line(why));
        self.is_dirty = true;
    }

    /// Whether something that is shown has changed since the last drawing.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// It was drawn.
    pub(crate) fn drawn(&mut self) {
        self.is_dirty = false;
        if let (ViewKind::Profile, Some(id)) = (self.view, self.looked) {
            self.profiles.was_shown(id);
        }
    }
}

#[cfg(test)]
mod tests;
