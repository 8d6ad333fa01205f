//! What happened, in its order: the newest 10,000 first sightings, marks, beginnings and ends.
//! Knows nothing about what else is kept of them.

use std::collections::VecDeque;

use khard_profile::recording::{Abi, Outcome};

use super::{Action, list::moved, words};
use crate::{
    stream::{By, Stage, SubjectId},
    subjects::{News, Observed, Subjects},
};

/// As many are kept.
const CAPACITY: usize = 10_000;

/// What kind of event it is, for its style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A call, or an access that was granted.
    Seen,
    /// An access that was refused.
    Refused,
    /// A subject's begin or end, or that of the session.
    Life,
    /// A mark.
    Mark,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its number among all.
    n: usize,
    /// For its style.
    pub(crate) kind: EventKind,
    /// Since recording began.
    pub(crate) time: String,
    /// To whom.
    pub(crate) subject: String,
    /// What.
    pub(crate) what: String,
    /// In which phase.
    pub(crate) phase: &'static str,
    /// By whom.
    pub(crate) witness: String,
}

impl Event {
    fn matches(&self, filter: &str) -> bool {
        filter.is_empty()
            || [&self.subject, &self.what, &self.witness].iter().any(|text| text.contains(filter))
    }
}

/// The newest events, and where in them the user is.
#[derive(Debug, Default)]
pub(crate) struct Events {
    ring: VecDeque<Event>,
    /// As many as there ever were.
    n_all: usize,
    /// What is shown while frozen.
    frozen: Option<VecDeque<Event>>,
    /// The number of the event under the cursor; `None`: the newest is followed.
    cursor: Option<usize>,
}

impl Events {
    pub(super) fn take(&mut self, news: &News, subjects: &Subjects) {
        let mut event = Event {
            n: self.n_all,
            kind: EventKind::Seen,
            time: words::time_since(subjects.began_ns(), subjects.now_ns()),
            subject: String::new(),
            what: String::new(),
            phase: "",
            witness: String::new(),
        };
        match news {
            News::Began(id) => event.of_life(*id, "began", subjects),
            News::Ended(id) => event.of_life(*id, "ended", subjects),
            News::Call { subject, key, stage, by } => {
                let observed = subjects.get(*subject);
                let native = observed.and_then(|of| Abi::native_of(&of.state().run.host.machine));
                event.what = words::call_with_abi(*key, native);
                event.of_subject(*subject, *stage, by.as_ref(), subjects);
            }
            News::Access { subject, key, stage, by } => {
                event.what = words::access_with_class(key);
                if key.outcome == Outcome::Refused {
                    event.kind = EventKind::Refused;
                    event.what.insert_str(0, "refused: ");
                }
                event.of_subject(*subject, *stage, Some(by), subjects);
            }
            News::Refused { subject, call, stage, by } => {
                let observed = subjects.get(*subject);
                let native = observed.and_then(|of| Abi::native_of(&of.state().run.host.machine));
                event.kind = EventKind::Refused;
                event.what = format!("refused: {}", words::refused_call(*call, native));
                event.of_subject(*subject, *stage, Some(by), subjects);
            }
            News::Mark(moment) => {
                event.kind = EventKind::Mark;
                event.time = words::time_since(subjects.began_ns(), moment.at_ns);
                event.what = format!("mark: {}", words::clean(&moment.label));
            }
            News::Over(_) => (event.kind, event.what) = (EventKind::Life, "recording is over".to_owned()),
        }
        if self.ring.len() == CAPACITY {
            self.ring.pop_front();
        }
        self.n_all += 1;
        self.ring.push_back(event);
    }

    pub(super) fn freeze(&mut self, is_frozen: bool) {
        self.frozen = is_frozen.then(|| self.ring.clone());
    }

    fn ring(&self) -> &VecDeque<Event> {
        self.frozen.as_ref().unwrap_or(&self.ring)
    }

    /// Events that were dropped, for only the newest are kept.
    pub(crate) fn n_dropped(&self) -> usize {
        self.ring().front().map_or(0, |first| first.n)
    }

    /// Whether the newest event is shown as it comes.
    pub(crate) fn is_following(&self) -> bool {
        self.cursor.is_none()
    }

    /// The events that a filter lets through, and the place of the cursor among them.
    pub(crate) fn shown(&self, filter: &str) -> (Vec<&Event>, usize) {
        let shown: Vec<&Event> = self.ring().iter().filter(|event| event.matches(filter)).collect();
        let last = shown.len().saturating_sub(1);
        let at = self.cursor.map_or(last, |n| shown.partition_point(|event| event.n < n).min(last));
        (shown, at)
    }

    pub(super) fn go(&mut self, filter: &str, action: Action) {
        let (shown, at) = self.shown(filter);
        let to = moved(at, shown.len(), action);
        self.cursor = (to + 1 < shown.len()).then(|| shown[to].n);
    }
}

impl Event {
    fn of_life(&mut self, id: SubjectId, what: &str, subjects: &Subjects) {
        self.kind = EventKind::Life;
        what.clone_into(&mut self.what);
        self.subject = label(id, subjects);
        if let Some(state) = subjects.get(id).map(Observed::state) {
            let lasted_ns =
                if state.is_alive() { 0 } else { state.run.duration_ms.saturating_mul(1_000_000) };
            let at_ns = state.run.id.start_ns.saturating_add(lasted_ns);
            self.time = words::time_since(subjects.began_ns(), at_ns);
        }
    }

    fn of_subject(&mut self, id: SubjectId, stage: Stage, by: Option<&By>, subjects: &Subjects) {
        self.subject = label(id, subjects);
        self.phase = subjects.get(id).map_or("", |of| words::phase(of.state().placement.of(stage)));
        if let Some(by) = by {
            self.time = words::time_since(subjects.began_ns(), by.time_ns);
            self.witness = words::witness(by);
        }
    }
}

fn label(id: SubjectId, subjects: &Subjects) -> String {
    subjects.get(id).map(|of| words::clean(&of.state().label.as_str().into())).unwrap_or_default()
}
