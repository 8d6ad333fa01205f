//! Whether more recording of a subject would bring more: how many different things were seen by when, and what follows from it.
//! Knows no chart.

use std::{collections::BTreeMap, time::Duration};

use super::{
    NS_PER_S,
    coverage::{self, Line},
    table::is_file,
    words,
};
use crate::subjects::{Observed, Subjects};

/// Points of a curve at most.
const N_POINTS: usize = 240;

/// By this share of all that was seen, the time is named by which it came.
const MOST: f64 = 0.9;

/// How many different things were seen by when.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    /// The class.
    pub(crate) name: &'static str,
    /// How many there are now.
    pub(crate) n: usize,
    /// Seconds since the run began, and how many by then.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What the view of one subject shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Learning {
    times_ns: Vec<u64>,
    classes: [(&'static str, Vec<u64>); 3],
    until_ns: u64,
    /// One for each class.
    pub(crate) curves: Vec<Curve>,
    /// Marks: seconds since the run began, and the label.
    pub(crate) marks: Vec<(f64, String)>,
    /// For how long it is recorded, in seconds.
    pub(crate) length_s: f64,
    /// What a user can conclude.
    pub(crate) verdict: String,
    /// Whether that is a loss.
    pub(crate) is_lossy: bool,
    /// How far each class can be trusted.
    pub(crate) coverage: Vec<Line>,
}

impl Learning {
    /// Goes through all that was seen.
    pub(super) fn build(&mut self, observed: &Observed) {
        let start_ns = observed.state().run.id.start_ns;
        let since = |at_ns: u64| at_ns.saturating_sub(start_ns);
        let mut calls = BTreeMap::new();
        for (key, _, by) in observed.calls() {
            // Without a witness there is no time: it counts from the start, so that no call is left out.
            let at_ns = by.map_or(0, |by| since(by.time_ns));
            calls.entry(key).and_modify(|first: &mut u64| *first = at_ns.min(*first)).or_insert(at_ns);
        }
        let (mut files, mut other) = (Vec::new(), Vec::new());
        for (key, _, by) in observed.accesses() {
            if is_file(&key.what) { &mut files } else { &mut other }.push(since(by.time_ns));
        }
        self.classes = [("calls", calls.into_values().collect()), ("files", files), ("other", other)];
        for (_, times_ns) in &mut self.classes {
            times_ns.sort_unstable();
        }
        self.times_ns = self.classes.iter().flat_map(|(_, times_ns)| times_ns).copied().collect();
        self.times_ns.sort_unstable();
        self.coverage = coverage::lines(&observed.state().run.coverage);
        self.is_lossy = observed.state().run.is_lossy();
    }

    /// Goes on to the present. True if something is different.
    pub(super) fn go_on(&mut self, observed: &Observed, subjects: &Subjects) -> bool {
        let before = (self.until_ns / NS_PER_S, std::mem::take(&mut self.marks), self.verdict.clone());
        let run = &observed.state().run;
        let is_alive = observed.state().is_alive();
        let length_ns = if is_alive {
            subjects.now_ns().saturating_sub(run.id.start_ns)
        } else {
            run.duration_ms.saturating_mul(1_000_000)
        };
        self.until_ns = length_ns.max(self.times_ns.last().copied().unwrap_or(0));
        self.length_s = seconds(self.until_ns);
        let end_ns = run.id.start_ns.saturating_add(self.until_ns);
        let of_run = subjects.moments().iter().filter(|m| (run.id.start_ns..=end_ns).contains(&m.at_ns));
        self.marks = of_run.map(|m| (seconds(m.at_ns - run.id.start_ns), words::clean(&m.label))).collect();
        self.verdict = verdict(&self.times_ns, self.until_ns, is_alive, self.is_lossy);
        let is_other = before != (self.until_ns / NS_PER_S, self.marks.clone(), self.verdict.clone());
        if is_other || self.curves.is_empty() {
            let curve = |(name, times_ns): &(&'static str, Vec<u64>)| curve(name, times_ns, self.until_ns);
            self.curves = self.classes.iter().map(curve).collect();
        }
        is_other
    }
}

fn curve(name: &'static str, times_ns: &[u64], until_ns: u64) -> Curve {
    let n_by = |ns: u64| (seconds(ns), count(times_ns.partition_point(|at_ns| *at_ns <= ns)));
    let step_ns = until_ns / N_POINTS as u64;
    let points = (0..N_POINTS as u64).map(|at| n_by(at * step_ns)).chain([n_by(until_ns)]).collect();
    Curve { name, n: times_ns.len(), points }
}

/// What a user can do. `times_ns`: of everything that was seen, in order.
fn verdict(times_ns: &[u64], until_ns: u64, is_alive: bool, is_lossy: bool) -> String {
    if is_lossy {
        return "Something was lost: record again.".to_owned();
    }
    let n = times_ns.len();
    let Some(last_ns) = times_ns.last() else { return "Nothing was seen yet.".to_owned() };
    let by_then = |s: u64| times_ns.partition_point(|at_ns| *at_ns <= s * NS_PER_S);
    // The shortest time that is easily said and by which most was seen.
    let sayable_s = [10, 30, 60, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600];
    let most = sayable_s.into_iter().find(|s| count(by_then(*s)) >= MOST * count(n));
    let most = most.map_or_else(
        || format!("{n} things were seen"),
        |s| {
            format!(
                "{} % of the {n} things seen came in the first {}",
                by_then(s) * 100 / n,
                words::span(s * NS_PER_S)
            )
        },
    );
    if !is_alive {
        return format!(
            "It has ended after {}; {most}. If it did all that it does, this is enough; else record it again.",
            words::span(until_ns)
        );
    }
    let n_before = times_ns.partition_point(|at_ns| at_ns.saturating_add(60 * NS_PER_S) <= until_ns);
    match n - n_before {
        0 => format!(
            "Nothing new for {}: {most}. If the program has done all that it does, this is enough.",
            words::span(until_ns.saturating_sub(*last_ns))
        ),
        1 => "1 new thing in the last minute: go on recording.".to_owned(),
        new => format!("{new} new things in the last minute: go on recording."),
    }
}

/// In words, for an axis.
pub(crate) fn span_of_seconds(s: f64) -> String {
    words::span(Duration::from_secs_f64(s.max(0.0)).as_nanos().try_into().unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "for a chart and a share")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / NS_PER_S as f64
}

#[expect(clippy::cast_precision_loss, reason = "for a chart and a share")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_what_to_do() {
        let mut times_ns: Vec<u64> = (0..97).map(|n| n * NS_PER_S / 4).collect();
        times_ns.extend([50 * NS_PER_S; 3]);
        let say =
            |until_s: u64, is_alive, is_lossy| verdict(&times_ns, until_s * NS_PER_S, is_alive, is_lossy);
        assert_eq!(
            say(300, true, false),
            "Nothing new for 4 m 10 s: 97 % of the 100 things seen came in the first 30 s. If the program has done all \
             that it does, this is enough."
        );
        assert_eq!(say(100, true, false), "3 new things in the last minute: go on recording.");
        assert_eq!(say(300, true, true), "Something was lost: record again.");
        assert!(say(60, false, false).starts_with("It has ended after 1 m; 97 % of the 100"));
        assert_eq!(verdict(&[], 9, true, false), "Nothing was seen yet.");
    }

    #[test]
    fn a_curve_ends_with_all() {
        let curve = curve("calls", &[0, 5, 5, 9_000_000_000], 10_000_000_000);
        assert_eq!((curve.points[0], curve.points[N_POINTS]), ((0.0, 1.0), (10.0, 4.0)));
    }
}
