//! What the dashboard shows and what a user has chosen to see. Knows no terminal and no clock, does nothing outside of itself.
//!
//! Rows are made from [`Subjects`] before a drawing, of the current view and the subject that is looked at only, and only when
//! they can have changed. Strings of workloads are escaped when rows are made ([`words`]).

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
mod status;
mod table;
mod words;

use std::time::Duration;

use khard_profile::escape;

pub(crate) use self::{
    action::{Action, Effect, Mode, ViewKind},
    calls::CallRow,
    coverage::Trust,
    events::{Event, EventKind, Events},
    files::{FileRow, Files},
    learning::{Curve, Learning, span_of_seconds},
    list::List,
    other::OtherRow,
    profile::{Profiles, Text, Which},
    status::Status,
    table::{SortBy, SubjectRow, Table},
};
pub(crate) use crate::profiles::ProfileTexts;
use crate::{
    stream::{SubjectId, SubjectState},
    subjects::{News, Observed, Subjects},
};

const NS_PER_S: u64 = 1_000_000_000;

/// Above as many observations, what is shown of a subject is made once a second at most.
const LARGE: usize = 5_000;

/// Characters of a filter or a mark at most.
const MAX_TYPED: usize = 120;

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

/// When what is shown of a subject has to be made anew. A witness that comes late changes it as a rule, for it is the newest.
#[derive(Debug, PartialEq)]
struct Made {
    view: ViewKind,
    subject: SubjectId,
    len: usize,
    last_new_ns: Option<u64>,
    state: SubjectState,
}

/// Everything that is shown.
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
    /// Frozen, but the views that were not shown are still to be made.
    is_rest_due: bool,
    is_dirty: bool,
}

impl State {
    /// Nothing yet.
    pub(crate) fn new(setup: Setup) -> Self {
        let setup = Setup {
            source: escape::terminal(setup.source.as_bytes()),
            out_dir: escape::terminal(setup.out_dir.as_bytes()),
            is_replay: setup.is_replay,
        };
        Self {
            setup,
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
            is_rest_due: false,
            is_dirty: true,
        }
    }

    /// Makes what is shown. `silent_for`: how long the agent was not heard of.
    pub(crate) fn refresh(&mut self, subjects: &Subjects, silent_for: Duration) {
        if self.is_frozen {
            if std::mem::take(&mut self.is_rest_due) {
                self.make_rest(subjects);
            }
            return;
        }
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
        let is_same = self.made.as_ref().is_some_and(|made| {
            is_same_view
                && made.len == observed.len()
                && made.last_new_ns == observed.last_new_ns()
                && made.state == *observed.state()
        });
        let is_made = is_same || (is_same_view && is_soon && observed.len() > LARGE);
        if !is_made {
            self.make_view(self.view, observed);
            self.made_ns = subjects.now_ns();
            let (len, last_new_ns) = (observed.len(), observed.last_new_ns());
            let state = observed.state().clone();
            self.made = Some(Made { view: self.view, subject: id, len, last_new_ns, state });
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
    fn make_rest(&mut self, subjects: &Subjects) {
        let was_dirty = self.is_dirty;
        let shown = self.view;
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
        self.is_dirty = was_dirty;
    }

    /// Takes note of what happened.
    pub(crate) fn take(&mut self, news: &News, subjects: &Subjects) {
        self.events.take(news, subjects);
        self.is_dirty |= self.view == ViewKind::Events && !self.is_frozen;
    }

    /// Does what a user asks for.
    pub(crate) fn update(&mut self, action: Action) -> Option<Effect> {
        self.is_dirty = true;
        self.message = None;
        let effect = match self.popup.take() {
            None => self.update_view(action),
            Some(popup) => self.update_popup(popup, action),
        };
        if effect.is_none() && self.told != self.looked {
            self.told = self.looked;
            return Some(Effect::Look(self.looked));
        }
        effect
    }

    fn update_popup(&mut self, popup: Popup, action: Action) -> Option<Effect> {
        match (popup, action) {
            (Popup::Quit, Action::Confirm) => Some(Effect::Quit { write: true }),
            (Popup::Quit, Action::Decline) => Some(Effect::Quit { write: false }),
            (Popup::Mark(label), Action::Confirm) => {
                let label = label.trim().to_owned();
                (!label.is_empty()).then_some(Effect::Mark(label))
            }
            (Popup::Filter, Action::Back) => {
                self.set_filter(String::new());
                None
            }
            (Popup::Filter, Action::Confirm)
            | (Popup::Help, Action::Back | Action::Help)
            | (Popup::Mark(_) | Popup::Quit, Action::Back) => None,
            (_, Action::Quit) => self.quit(),
            (Popup::Mark(mut label), action) => {
                type_in(&mut label, action);
                self.popup = Some(Popup::Mark(label));
                None
            }
            (Popup::Filter, action @ (Action::Text(_) | Action::Erase)) => {
                let mut filter = self.filter().to_owned();
                type_in(&mut filter, action);
                self.set_filter(filter);
                self.popup = Some(Popup::Filter);
                None
            }
            (popup, _) => {
                self.popup = Some(popup);
                None
            }
        }
    }

    fn update_view(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::NextView => return self.show(self.view.next()),
            Action::PreviousView => return self.show(self.view.previous()),
            Action::View(view) => return self.show(view),
            Action::Select if self.view == ViewKind::Subjects => return self.look_at_selected(),
            Action::Back if !self.filter().is_empty() => self.set_filter(String::new()),
            Action::Back => return self.show(ViewKind::Subjects),
            Action::Sort | Action::ReverseSort => self.sort(action == Action::ReverseSort),
            Action::Filter if self.view.has_filter() => self.popup = Some(Popup::Filter),
            Action::Help => self.popup = Some(Popup::Help),
            Action::Freeze => self.freeze(),
            Action::Mark if self.over.is_none() && !self.setup.is_replay => {
                self.popup = Some(Popup::Mark(String::new()));
            }
            Action::Mark => {
                self.message = Some(Err("nothing is recorded any more that a mark could name".to_owned()))
            }
            Action::Write => return Some(Effect::Write),
            Action::Other if self.view == ViewKind::Profile => self.profiles.other(),
            Action::Refresh if self.view == ViewKind::Profile => return self.looked.map(Effect::MakeProfile),
            Action::Quit => return self.quit(),
            _ => self.go(action),
        }
        None
    }

    fn quit(&mut self) -> Option<Effect> {
        if self.setup.is_replay {
            return Some(Effect::Quit { write: false });
        }
        self.popup = Some(Popup::Quit);
        None
    }

    fn show(&mut self, view: ViewKind) -> Option<Effect> {
        let is_other = std::mem::replace(&mut self.view, view) != view;
        if view == ViewKind::Profile && is_other {
            return self.looked.map(Effect::MakeProfile);
        }
        None
    }

    fn look_at_selected(&mut self) -> Option<Effect> {
        let id = self.table.list.selected()?.id;
        if self.looked != Some(id) {
            if self.is_frozen {
                self.message = Some(Err("frozen: press f before looking at another subject".to_owned()));
                return None;
            }
            self.looked = Some(id);
            self.calls = List::default();
            self.files.clear();
            self.other = List::default();
            self.learning = Learning::default();
            self.profiles.to_start();
            self.made = None;
        }
        self.show(ViewKind::Syscalls)
    }

    fn freeze(&mut self) {
        self.is_frozen = !self.is_frozen;
        self.is_rest_due = self.is_frozen;
        self.events.freeze(self.is_frozen);
        // Whatever happened meanwhile is to be shown.
        self.made = None;
    }

    fn sort(&mut self, reverse: bool) {
        let filter = &self.filters[self.view as usize];
        match (self.view, reverse) {
            (ViewKind::Subjects, false) => self.table.sort_by_next(filter),
            (ViewKind::Subjects, true) => self.table.reverse(filter),
            (ViewKind::Syscalls, _) => {
                if reverse {
                    self.calls_reversed = !self.calls_reversed;
                } else {
                    self.calls_by_time = !self.calls_by_time;
                }
                let mut rows = self.calls.rows().to_vec();
                calls::sort(&mut rows, self.calls_by_time, self.calls_reversed);
                self.calls.set(rows, filter);
            }
            _ => {}
        }
    }

    fn set_filter(&mut self, filter: String) {
        match self.view {
            ViewKind::Subjects => self.table.list.set_filter(&filter),
            ViewKind::Syscalls => self.calls.set_filter(&filter),
            ViewKind::Files => self.files.set_filter(&filter),
            ViewKind::Other => self.other.set_filter(&filter),
            ViewKind::Profile | ViewKind::Events | ViewKind::Learning => {}
        }
        self.filters[self.view as usize] = filter;
    }

    fn go(&mut self, action: Action) {
        match self.view {
            ViewKind::Subjects => self.table.list.go(action),
            ViewKind::Syscalls => self.calls.go(action),
            ViewKind::Files => self.files.go(action),
            ViewKind::Other => self.other.go(action),
            ViewKind::Events => self.events.go(&self.filters[ViewKind::Events as usize], action),
            ViewKind::Profile => {
                if let Some(id) = self.looked {
                    self.profiles.go(id, action);
                }
            }
            ViewKind::Learning => {}
        }
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

/// What a drawing needs.
impl State {
    /// What the keys mean.
    pub(crate) fn mode(&self) -> Mode {
        match self.popup {
            None => Mode::View(self.view),
            Some(Popup::Help) => Mode::Help,
            Some(Popup::Filter) => Mode::Filter,
            Some(Popup::Mark(_)) => Mode::Mark,
            Some(Popup::Quit) => Mode::Quit,
        }
    }

    /// The view, also below a popup.
    pub(crate) fn view(&self) -> ViewKind {
        self.view
    }

    /// The subject that is looked at.
    pub(crate) fn looked(&self) -> Option<SubjectId> {
        self.looked
    }

    /// Its label; empty if there is none.
    pub(crate) fn looked_label(&self) -> &str {
        self.looked.and_then(|id| self.table.label(id)).unwrap_or_default()
    }

    /// How far it can be trusted.
    pub(crate) fn looked_trust(&self) -> Option<&Trust> {
        self.looked.and_then(|id| self.table.trust(id))
    }

    /// The filter of the view.
    pub(crate) fn filter(&self) -> &str {
        &self.filters[self.view as usize]
    }

    /// A mark's label as far as it is typed.
    pub(crate) fn typed_mark(&self) -> &str {
        if let Some(Popup::Mark(label)) = &self.popup { label } else { "" }
    }

    /// Whose recordings and profiles would be written.
    pub(crate) fn labels(&self) -> impl ExactSizeIterator<Item = &str> {
        self.table.labels().into_iter()
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// Why the session has ended, if it has.
    pub(crate) fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    pub(crate) fn message(&self) -> Option<&Result<String, String>> {
        self.message.as_ref()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn calls(&self) -> &List<CallRow> {
        &self.calls
    }

    /// Whether calls are sorted by time, and whether backwards.
    pub(crate) fn calls_order(&self) -> (bool, bool) {
        (self.calls_by_time, self.calls_reversed)
    }

    pub(crate) fn files(&self) -> &List<FileRow> {
        &self.files.list
    }

    pub(crate) fn other(&self) -> &List<OtherRow> {
        &self.other
    }

    pub(crate) fn learning(&self) -> &Learning {
        &self.learning
    }

    pub(crate) fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }
}

fn type_in(text: &mut String, action: Action) {
    match action {
        Action::Text(c) if !c.is_control() && text.chars().count() < MAX_TYPED => text.push(c),
        Action::Erase => drop(text.pop()),
        _ => {}
    }
}
