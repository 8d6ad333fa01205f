//! Owns what a user's marks split a run into: how much was seen for the first time in each span. Of what comes again only the first time
//! is recorded, so nothing is told about how much a span needs.

use serde::Serialize;

use crate::Bytes;
use crate::recording::{PhaseSet, Recording, Run, RunId, Seen};
use crate::seccomp::Policy;

/// The time between two marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The mark that it begins with; `None`: the run's beginning.
    pub mark: Option<Bytes>,
    /// When it begins, in milliseconds since the run did.
    pub from_ms: u64,
    /// System calls that the workload or a joiner made for the first time.
    pub n_calls: usize,
    /// Accesses likewise.
    pub n_accesses: usize,
}

/// The spans of a run; none if nothing was marked.
pub(super) fn of(recording: &Recording, run: &Run) -> Vec<Span> {
    if run.marks.is_empty() {
        return Vec::new();
    }
    let mut spans = vec![(0, Span { mark: None, from_ms: 0, n_calls: 0, n_accesses: 0 })];
    spans.extend(run.marks.iter().map(|mark| {
        let from_ms = mark.time_ns / 1_000_000;
        (mark.time_ns, Span { mark: Some(mark.label.clone()), from_ms, n_calls: 0, n_accesses: 0 })
    }));
    spans.sort_by_key(|(from_ns, _)| *from_ns);
    let calls = recording.syscalls().values().filter_map(|seen| first_ns(seen, run.id));
    for time_ns in calls {
        span_at(&mut spans, time_ns).n_calls += 1;
    }
    let accesses = recording.accesses().values().filter_map(|seen| first_ns(seen, run.id));
    for time_ns in accesses {
        span_at(&mut spans, time_ns).n_accesses += 1;
    }
    spans.into_iter().map(|(_, span)| span).collect()
}

/// When it was first seen of those for whom profiles are made, if that was in this run.
fn first_ns(seen: &Seen, run: RunId) -> Option<u64> {
    const WHOSE: PhaseSet = Policy::DEFAULT_PHASES;
    seen.witness(WHOSE).filter(|witness| witness.run == run).map(|witness| witness.time_ns)
}

/// The last span that has begun by then. The first begins with the run.
fn span_at(spans: &mut [(u64, Span)], time_ns: u64) -> &mut Span {
    let at = spans.partition_point(|(from_ns, _)| *from_ns <= time_ns).saturating_sub(1);
    &mut spans[at].1
}
