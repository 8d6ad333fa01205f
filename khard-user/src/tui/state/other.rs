//! What one subject asked of the kernel beside files, by class. Knows nothing about system calls and the tree of files.

use std::collections::BTreeMap;

use khard_profile::recording::{AccessKey, Certainty, Class, Outcome};

use super::{list::Row, table::is_file, words};
use crate::{stream::By, subjects::Observed};

/// A class's heading, or one access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherRow {
    key: (Class, Option<AccessKey>),
    /// The class and how many of it, or what was asked.
    pub(crate) what: String,
    /// Whether it is a heading.
    pub(crate) is_heading: bool,
    /// Whether the kernel refused it.
    pub(crate) is_refused: bool,
    /// What else is known.
    pub(crate) facts: String,
    /// When first, since the run began.
    pub(crate) first: String,
    /// By whom.
    pub(crate) witness: String,
}

impl Row for OtherRow {
    type Key = (Class, Option<AccessKey>);

    fn key(&self) -> Self::Key {
        self.key.clone()
    }

    fn matches(&self, filter: &str) -> bool {
        self.what.contains(filter) || words::class(self.key.0).contains(filter)
    }
}

pub(super) fn rows(observed: &Observed) -> Vec<OtherRow> {
    let start_ns = observed.state().run.id.start_ns;
    let mut classes: BTreeMap<Class, BTreeMap<&AccessKey, &By>> = BTreeMap::new();
    for (key, _, by) in observed.accesses().filter(|(key, _, _)| !is_file(&key.what)) {
        let first = classes.entry(key.what.class()).or_default().entry(key).or_insert(by);
        if by.time_ns < first.time_ns {
            *first = by;
        }
    }
    let mut rows = Vec::new();
    for (class, accesses) in classes {
        rows.push(OtherRow {
            key: (class, None),
            what: format!("{} {}", words::class(class), accesses.len()),
            is_heading: true,
            is_refused: false,
            facts: String::new(),
            first: String::new(),
            witness: String::new(),
        });
        for (key, by) in accesses {
            let is_refused = key.outcome == Outcome::Refused;
            let facts = [(is_refused, "refused"), (key.certainty == Certainty::Inferred, "inferred")];
            let facts: Vec<_> = facts.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
            rows.push(OtherRow {
                key: (class, Some(key.clone())),
                what: words::access(key),
                is_heading: false,
                is_refused,
                facts: facts.join(" "),
                first: words::time_since(start_ns, by.time_ns),
                witness: words::witness(by),
            });
        }
    }
    rows
}
