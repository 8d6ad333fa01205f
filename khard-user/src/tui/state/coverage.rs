//! How far a subject can be trusted, in words. Knows only coverage.

use std::collections::{BTreeMap, BTreeSet};

use khard_profile::recording::{Coverage, From, Proof, RunCoverage};

use super::words;

/// A subject's coverage in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// `exact`, `inferred late`.
    pub(crate) words: String,
    /// Classes of which something is or may be lost.
    pub(crate) lossy: Vec<&'static str>,
    /// Observations that are or may be lost, together.
    pub(crate) lost: u64,
    /// By what means classes are seen.
    pub(super) by: BTreeSet<&'static str>,
}

/// A row of words about classes that have the same coverage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// `files, programs`.
    pub(crate) classes: String,
    /// `exact by lsm, from the first instruction, complete`.
    pub(crate) words: String,
    /// Whether something is or may be lost.
    pub(crate) is_lossy: bool,
}

fn classes(coverage: &RunCoverage) -> impl Iterator<Item = (&'static str, &Coverage)> {
    let accesses = coverage.accesses.iter().map(|(class, coverage)| (words::class(class), coverage));
    std::iter::once(("syscalls", &coverage.syscalls)).chain(accesses)
}

impl Trust {
    pub(super) fn of(coverage: &RunCoverage) -> Self {
        let mut trust = Self::default();
        let (mut n_none, mut n_inferred, mut n_all, mut is_late) = (0, 0, 0, false);
        for (class, coverage) in classes(coverage) {
            n_all += 1;
            match coverage {
                Coverage::None(_) => n_none += 1,
                Coverage::Inferred(_) => n_inferred += 1,
                Coverage::Exact(_) => {}
            }
            let Some(observed) = coverage.observed() else { continue };
            is_late |= observed.from == From::Late;
            trust.by.insert(observed.by.as_str());
            if coverage.is_lossy() {
                trust.lossy.push(class);
                trust.lost = trust.lost.saturating_add(lost(coverage));
            }
        }
        let certainty = match (n_none, n_inferred) {
            (0, 0) => "exact",
            (0, _) => "inferred",
            (n, _) if n == n_all => "none",
            _ => "in part",
        };
        trust.words = format!("{certainty}{}", if is_late { " late" } else { "" });
        trust
    }

    /// Whether something is or may be lost.
    pub(crate) fn is_lossy(&self) -> bool {
        !self.lossy.is_empty()
    }
}

fn lost(coverage: &Coverage) -> u64 {
    let Some(observed) = coverage.observed() else { return 0 };
    let counted = observed.lost.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
    let bound = if let Proof::AtMost { lost, .. } = observed.proof { lost } else { 0 };
    counted.saturating_add(bound)
}

/// Every class in words, those with the same words together, lossy ones first.
pub(super) fn lines(coverage: &RunCoverage) -> Vec<Line> {
    let mut by_words: BTreeMap<(bool, String), Vec<&'static str>> = BTreeMap::new();
    for (class, coverage) in classes(coverage) {
        by_words.entry((!coverage.is_lossy(), in_words(coverage))).or_default().push(class);
    }
    let n_groups = by_words.len();
    let most = by_words.iter().filter(|((is_whole, _), _)| *is_whole).map(|(_, classes)| classes.len()).max();
    let (mut lines, mut others) = (Vec::new(), None);
    for ((is_whole, words), classes) in by_words {
        let line = |classes| Line { classes, words, is_lossy: !is_whole };
        if n_groups == 1 {
            lines.push(line("every class".to_owned()));
        } else if is_whole && others.is_none() && Some(classes.len()) == most && classes.len() > 3 {
            // Nobody wants to read the names of most classes.
            others = Some(line("all others".to_owned()));
        } else {
            lines.push(line(classes.join(", ")));
        }
    }
    lines.into_iter().chain(others).collect()
}

fn in_words(coverage: &Coverage) -> String {
    let (certainty, observed) = match coverage {
        Coverage::None(why) => return format!("not observed: {}", words::clean_line(&why.reason)),
        Coverage::Exact(observed) => ("exact", observed),
        Coverage::Inferred(observed) => ("inferred", observed),
    };
    let from = match observed.from {
        From::FirstInstruction => "from the first instruction",
        From::Late => "late: it already ran",
    };
    let mut said = format!("{certainty} by {}, {from}", observed.by.as_str());
    let lost = observed.lost.iter().filter(|(_, n)| **n > 0);
    said.extend(lost.map(|(cause, n)| format!(", LOST {n} ({})", words::clean_line(cause))));
    said + &match &observed.proof {
        Proof::Complete { .. } if coverage.is_lossy() => String::new(),
        Proof::Complete { .. } => ", proved complete".to_owned(),
        Proof::AtMost { lost, .. } => format!(", LOST up to {lost}"),
        Proof::Unproved { reason } => format!(", not proved: {}", words::clean_line(reason)),
    }
}
