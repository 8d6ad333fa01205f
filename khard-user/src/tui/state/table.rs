//! The table of subjects: its rows, their order, and what was counted of each. Knows nothing about what a subject did but how
//! much.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
};

use khard_profile::{
    escape,
    recording::{Access, Class, Ended},
};

use super::{
    LARGE, NS_PER_S,
    coverage::Trust,
    list::{List, Row},
    words,
};
use crate::{
    stream::SubjectId,
    subjects::{Observed, Subjects},
};

/// A subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubjectRow {
    /// Who.
    pub(crate) id: SubjectId,
    /// For people.
    pub(crate) label: String,
    /// `running`, or how it ended.
    pub(crate) state: &'static str,
    /// Whether it is recorded still.
    pub(crate) is_alive: bool,
    /// Different calls of the workload and of joiners.
    pub(crate) n_calls: usize,
    /// Paths.
    pub(crate) n_files: usize,
    /// Accesses of other classes.
    pub(crate) n_other: usize,
    /// Since when nothing new came, in seconds; `None` if nothing came at all.
    pub(crate) quiet_s: Option<u64>,
    /// The same in words.
    pub(crate) quiet: String,
    /// Calls in the last second, of the subject that is looked at.
    pub(crate) rate: Option<u64>,
    /// How far it can be trusted.
    pub(crate) trust: Trust,
}

impl Row for SubjectRow {
    type Key = SubjectId;

    fn key(&self) -> SubjectId {
        self.id
    }

    fn matches(&self, filter: &str) -> bool {
        self.label.contains(filter)
    }
}

/// What the rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SortBy {
    /// The order of their coming.
    Coming,
    /// Label.
    Label,
    /// How it stands.
    State,
    /// Calls.
    Calls,
    /// Files.
    Files,
    /// Other accesses.
    Other,
    /// When something new came last.
    LastNew,
    /// Calls in a second.
    Rate,
    /// Coverage.
    Coverage,
    /// Losses.
    Lost,
}

impl SortBy {
    const ALL: [Self; 10] = [
        Self::Coming,
        Self::Label,
        Self::State,
        Self::Calls,
        Self::Files,
        Self::Other,
        Self::LastNew,
        Self::Rate,
        Self::Coverage,
        Self::Lost,
    ];

    /// The column's title.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Coming => "order of coming",
            Self::Label => "subject",
            Self::State => "state",
            Self::Calls => "calls",
            Self::Files => "files",
            Self::Other => "other",
            Self::LastNew => "quiet",
            Self::Rate => "calls/s",
            Self::Coverage => "coverage",
            Self::Lost => "lost",
        }
    }

    fn order(self, a: &SubjectRow, b: &SubjectRow) -> Ordering {
        match self {
            Self::Coming => Ordering::Equal,
            Self::Label => a.label.cmp(&b.label),
            Self::State => (!a.is_alive, a.state).cmp(&(!b.is_alive, b.state)),
            Self::Calls => a.n_calls.cmp(&b.n_calls),
            Self::Files => a.n_files.cmp(&b.n_files),
            Self::Other => a.n_other.cmp(&b.n_other),
            // Nothing yet is longer ago than anything.
            Self::LastNew => Reverse(a.quiet_s.map(Reverse)).cmp(&Reverse(b.quiet_s.map(Reverse))),
            Self::Rate => a.rate.cmp(&b.rate),
            Self::Coverage => a.trust.words.cmp(&b.trust.words),
            Self::Lost => a.trust.lost.cmp(&b.trust.lost),
        }
    }
}

/// What is known of a subject, so that it is counted again only when it has changed.
#[derive(Debug)]
struct Known {
    n_states: u64,
    ended: Ended,
    is_alive: bool,
    label: String,
    trust: Trust,
    /// As it was when it was counted; `None`: it has to be counted anew.
    len: Option<usize>,
    counted_ns: Option<u64>,
    counts: [usize; 3],
}

impl Known {
    fn new(observed: &Observed, before: Option<&Self>) -> Self {
        let state = observed.state();
        Self {
            n_states: observed.n_states(),
            ended: state.run.ended,
            is_alive: state.is_alive(),
            label: escape::terminal(state.label.as_bytes()),
            trust: Trust::of(&state.run.coverage),
            len: None,
            counted_ns: before.and_then(|before| before.counted_ns),
            counts: before.map_or([0; 3], |before| before.counts),
        }
    }

    fn count(&mut self, observed: &Observed, now_ns: u64) {
        let len = observed.len();
        let is_soon = self.counted_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < NS_PER_S);
        if self.len == Some(len) || (len > LARGE && is_soon) {
            return;
        }
        let (mut files, mut n_other) = (BTreeSet::new(), 0);
        for (key, _, _) in observed.accesses() {
            match &key.what {
                what if !is_file(what) => n_other += 1,
                Access::File(file) => drop(files.insert(&file.path)),
                Access::Link { link, .. } => drop(files.insert(link)),
                _ => {}
            }
        }
        self.counts = [observed.n_calls(), files.len(), n_other];
        (self.len, self.counted_ns) = (Some(len), Some(now_ns));
    }
}

/// Whether it belongs to the tree of files. A socket's path is a place to talk to, and stands with the other ways to do so.
pub(super) fn is_file(what: &Access) -> bool {
    matches!(what, Access::File(_) | Access::Link { .. }) && what.class() != Class::UnixSockets
}

/// Every subject.
#[derive(Debug)]
pub(crate) struct Table {
    known: BTreeMap<SubjectId, Known>,
    /// By what means subjects are recorded: `lsm+tracepoint`.
    pub(super) attachments: String,
    /// The rows, in their order.
    pub(crate) list: List<SubjectRow>,
    /// By what they are sorted.
    pub(crate) sort: SortBy,
    /// Whether the greatest is the first.
    pub(crate) is_reversed: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            attachments: String::new(),
            list: List::default(),
            sort: SortBy::Coming,
            is_reversed: false,
        }
    }
}

impl Table {
    /// Takes note of who is there. True if somebody is known otherwise than before.
    pub(super) fn learn(&mut self, subjects: &Subjects) -> bool {
        let mut is_other = false;
        for (id, observed) in subjects.iter() {
            if self.known.get(&id).is_none_or(|known| known.n_states != observed.n_states()) {
                let known = Known::new(observed, self.known.get(&id));
                self.known.insert(id, known);
                is_other = true;
            }
        }
        if is_other {
            let by: BTreeSet<&str> =
                self.known.values().flat_map(|known| known.trust.by.iter().copied()).collect();
            self.attachments = by.into_iter().collect::<Vec<_>>().join("+");
        }
        is_other
    }

    /// Counts what has to be counted, and makes the rows. True if one is different.
    pub(super) fn build(&mut self, subjects: &Subjects, looked: Option<SubjectId>, filter: &str) -> bool {
        let now_ns = subjects.now_ns();
        let mut rows = Vec::with_capacity(self.known.len());
        for (id, observed) in subjects.iter() {
            let Some(known) = self.known.get_mut(&id) else { continue };
            known.count(observed, now_ns);
            let quiet_ns = observed.last_new_ns().map(|at_ns| now_ns.saturating_sub(at_ns));
            let rate = subjects.rate().filter(|rate| rate.subject == id && looked == Some(id));
            rows.push(SubjectRow {
                id,
                label: known.label.clone(),
                state: words::ended(known.ended),
                is_alive: known.is_alive,
                n_calls: known.counts[0],
                n_files: known.counts[1],
                n_other: known.counts[2],
                quiet_s: quiet_ns.map(|ns| ns / NS_PER_S),
                quiet: quiet_ns.map(words::ago).unwrap_or_default(),
                rate: rate.map(|rate| rate.calls_per_s),
                trust: known.trust.clone(),
            });
        }
        self.set(rows, filter)
    }

    fn set(&mut self, mut rows: Vec<SubjectRow>, filter: &str) -> bool {
        rows.sort_by(|a, b| {
            let order = self.sort.order(a, b).then(a.id.cmp(&b.id));
            if self.is_reversed { order.reverse() } else { order }
        });
        self.list.set(rows, filter)
    }

    pub(super) fn sort_by_next(&mut self, filter: &str) {
        self.sort = SortBy::ALL[(self.sort as usize + 1) % SortBy::ALL.len()];
        // Of numbers, people want the greatest first.
        let is_number =
            matches!(self.sort, SortBy::Calls | SortBy::Files | SortBy::Other | SortBy::Rate | SortBy::Lost);
        self.is_reversed = is_number;
        self.sort_again(filter);
    }

    pub(super) fn reverse(&mut self, filter: &str) {
        self.is_reversed = !self.is_reversed;
        self.sort_again(filter);
    }

    fn sort_again(&mut self, filter: &str) {
        self.set(self.list.rows().to_vec(), filter);
    }

    /// Alive, ended.
    pub(super) fn n_alive(&self) -> (usize, usize) {
        let n_alive = self.known.values().filter(|known| known.is_alive).count();
        (n_alive, self.known.len() - n_alive)
    }

    pub(super) fn first(&self) -> Option<SubjectId> {
        self.known.keys().next().copied()
    }

    pub(super) fn label(&self, id: SubjectId) -> Option<&str> {
        self.known.get(&id).map(|known| known.label.as_str())
    }

    pub(super) fn trust(&self, id: SubjectId) -> Option<&Trust> {
        self.known.get(&id).map(|known| &known.trust)
    }

    pub(super) fn labels(&self) -> BTreeSet<&str> {
        self.known.values().map(|known| known.label.as_str()).collect()
    }
}
