//! What one subject asked of the kernel beside files, by class, and the system calls that a filter refused it. Knows nothing about
//! calls that were made, and the tree of files.

use std::collections::BTreeMap;

use khard_profile::recording::{Abi, AccessKey, Certainty, Class, Outcome, RefusedCall};

use super::{list::Row, table::is_file, words};
use crate::{stream::By, subjects::Observed};

/// What a row is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A class, or an access of it.
    Class(Class, Option<AccessKey>),
    /// Refused calls, or one of them.
    RefusedCalls(Option<RefusedCall>),
}

/// A heading, or one thing below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherRow {
    key: Of,
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
    type Key = Of;

    fn key(&self) -> Self::Key {
        self.key.clone()
    }

    fn matches(&self, filter: &str) -> bool {
        let heading = match &self.key {
            Of::Class(class, _) => words::class(*class),
            Of::RefusedCalls(_) => REFUSED_CALLS,
        };
        self.what.contains(filter) || heading.contains(filter)
    }
}

const REFUSED_CALLS: &str = "refused system calls";

fn heading(key: Of, what: String) -> OtherRow {
    OtherRow {
        key,
        what,
        is_heading: true,
        is_refused: false,
        facts: String::new(),
        first: String::new(),
        witness: String::new(),
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
        rows.push(heading(Of::Class(class, None), format!("{} {}", words::class(class), accesses.len())));
        for (key, by) in accesses {
            let is_refused = key.outcome == Outcome::Refused;
            let facts = [(is_refused, "refused"), (key.certainty == Certainty::Inferred, "inferred")];
            let facts: Vec<_> = facts.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
            rows.push(OtherRow {
                key: Of::Class(class, Some(key.clone())),
                what: words::access(key),
                is_heading: false,
                is_refused,
                facts: facts.join(" "),
                first: words::time_since(start_ns, by.time_ns),
                witness: words::witness(by),
            });
        }
    }
    let mut refused: BTreeMap<RefusedCall, &By> = BTreeMap::new();
    for (call, _, by) in observed.refused_calls() {
        let first = refused.entry(call).or_insert(by);
        if by.time_ns < first.time_ns {
            *first = by;
        }
    }
    if !refused.is_empty() {
        rows.push(heading(Of::RefusedCalls(None), format!("{REFUSED_CALLS} {}", refused.len())));
    }
    let native = Abi::native_of(&observed.state().run.host.machine);
    rows.extend(refused.into_iter().map(|(call, by)| OtherRow {
        key: Of::RefusedCalls(Some(call)),
        what: words::refused_call(call, native),
        is_heading: false,
        is_refused: true,
        facts: "refused".to_owned(),
        first: words::time_since(start_ns, by.time_ns),
        witness: words::witness(by),
    }));
    rows
}
