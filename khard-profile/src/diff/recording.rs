//! Owns what is different between two recordings: their observations, and where less was watched. Runs, times and witnesses do not
//! count.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Compared, Diff, Kind, Note, Observation, WorseCoverage};
use crate::Bytes;
use crate::check::apparmor::access_unescaped;
use crate::recording::{
    Access, AccessKey, Certainty, Class, Coverage, FileAccess, FileFacts, FileOp, FilePerms, From, Outcome,
    Phase, PhaseSet, Proof, Recording, Run, Seen, SyscallKey, Witness,
};
use crate::summary::opens::{Grant, risk};
use crate::summary::{coverage_in_words, risk_of_call};
use crate::syscalls;

/// The class of system calls; the others are [`Class`]'s.
const CALLS: &str = "system calls";

/// Compares what two recordings hold.
pub fn recordings(old: &Recording, new: &Recording) -> Diff {
    let (before, after) = (Things::of(old), Things::of(new));
    let all: BTreeSet<&Thing> = before.0.keys().chain(after.0.keys()).collect();
    let nothing = BTreeMap::new();
    let mut changes = Vec::new();
    for thing in all {
        let was = before.0.get(thing).unwrap_or(&nothing);
        let is = after.0.get(thing).unwrap_or(&nothing);
        let gained = beyond(is, was);
        let lost = beyond(was, is);
        if !gained.is_empty() {
            let kind = if was.is_empty() { Kind::Added } else { Kind::Widened };
            changes.push(change(thing, kind, (was, is), gained));
        }
        if !lost.is_empty() {
            let kind = if is.is_empty() { Kind::Removed } else { Kind::Narrowed };
            changes.push(change(thing, kind, (was, is), lost));
        }
    }
    let mut notes = Vec::new();
    if old.subject().key() != new.subject().key() {
        let (ours, theirs) = (old.subject().in_words(), new.subject().in_words());
        notes.push(Note::with_names(format!("these are of different subjects: {ours} and {theirs}")));
    }
    let mut diff = Diff { compared: Compared::Recordings, changes, worse: worse(old, new), notes };
    let classes: Vec<&str> =
        [CALLS].into_iter().chain(Class::ALL.iter().map(|class| class.as_str())).collect();
    diff.sort(&classes);
    diff
}

/// What can have more or less of it: a call, with its phases; a file, with what was done to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Call(SyscallKey),
    /// An access without what there can be more or less of.
    Access(Class, AccessKey),
}

/// What was seen of a thing, each with its first witness.
type Seens<'a> = BTreeMap<Observation, Option<&'a Witness>>;

struct Things<'a>(BTreeMap<Thing, Seens<'a>>);

impl<'a> Things<'a> {
    fn of(recording: &'a Recording) -> Self {
        let mut things = Self(BTreeMap::new());
        for (key, seen) in recording.syscalls() {
            things.add(&Thing::Call(*key), seen, |phase| Observation::Call(*key, phase));
        }
        for (key, seen) in recording.accesses() {
            let thing = Thing::Access(key.what.class(), bare(key));
            things.add(&thing, seen, |phase| Observation::Access(key.clone(), phase));
        }
        things
    }

    fn add(&mut self, thing: &Thing, seen: &'a Seen, observation: impl Fn(Phase) -> Observation) {
        let of_thing = self.0.entry(thing.clone()).or_default();
        of_thing.extend(
            seen.iter().map(|(phase, _)| (observation(phase), seen.witness(PhaseSet::EMPTY.with(phase)))),
        );
    }
}

/// What an access is about: the path, the capability, the peer.
fn bare(key: &AccessKey) -> AccessKey {
    let what = match &key.what {
        Access::File(file) => Access::File(FileAccess {
            path: file.path.clone(),
            op: FileOp::Open,
            perms: FilePerms::EMPTY,
            facts: FileFacts::default(),
        }),
        Access::Capability { capability, .. } => {
            Access::Capability { capability: *capability, optional: false }
        }
        Access::Umount { target, .. } => Access::Umount { target: target.clone(), flags: 0 },
        other => other.clone(),
    };
    AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact }
}

fn beyond<'a>(these: &Seens<'a>, others: &Seens<'_>) -> Seens<'a> {
    let only = these.iter().filter(|(observation, _)| !others.contains_key(observation));
    only.map(|(observation, witness)| (observation.clone(), *witness)).collect()
}

fn change(thing: &Thing, kind: Kind, (was, is): (&Seens<'_>, &Seens<'_>), differing: Seens<'_>) -> Change {
    let (class, what) = match thing {
        Thing::Call(key) => {
            let name = syscalls::by_number(key.abi, key.nr).map(|call| call.name.to_owned());
            (CALLS, name.unwrap_or_else(|| format!("number {}", key.nr)).into_bytes())
        }
        Thing::Access(class, key) => match &key.what {
            Access::File(file) => (class.as_str(), file.path.as_slice().to_vec()),
            other => (class.as_str(), access_unescaped(other)),
        },
    };
    let opens = match thing {
        _ if !kind.is_more() => None,
        Thing::Call(key) => syscalls::by_number(key.abi, key.nr).and_then(|call| risk_of_call(call.name)),
        Thing::Access(..) => differing.keys().find_map(|observation| match observation {
            Observation::Access(key, _) => risk(Grant::of(&key.what)?),
            Observation::Call(..) => None,
        }),
    };
    Change {
        abis: match thing {
            Thing::Call(key) => [key.abi].into(),
            Thing::Access(..) => BTreeSet::new(),
        },
        before: in_words(was),
        after: in_words(is),
        opens,
        witness: differing.values().filter_map(|witness| *witness).min().cloned(),
        observations: differing.into_keys().collect(),
        ..Change::new(class, kind, what)
    }
}

/// Everything that was seen of a thing: `open r, chmod w (joiner)`. The workload's phase goes without saying.
fn in_words(seens: &Seens<'_>) -> Option<Bytes> {
    let mut phases: BTreeMap<Option<&AccessKey>, PhaseSet> = BTreeMap::new();
    for observation in seens.keys() {
        let (key, phase) = match observation {
            Observation::Call(_, phase) => (None, phase),
            Observation::Access(key, phase) => (Some(key), phase),
        };
        let known = phases.entry(key).or_default();
        *known = known.with(*phase);
    }
    let text = phases.into_iter().map(|(key, phases)| match key.map(details) {
        None => phases.to_string(),
        Some(details) if phases == PhaseSet::EMPTY.with(Phase::Workload) => details,
        Some(details) => format!("{details} ({phases})"),
    });
    let text = text.collect::<Vec<_>>().join(", ");
    (!seens.is_empty()).then(|| Bytes::from(text.as_str()))
}

fn details(key: &AccessKey) -> String {
    let mut words = Vec::new();
    match &key.what {
        Access::File(file) => {
            words.push(format!("{} {}", file.op, file.perms));
            let FileFacts { owner, exclusive, deleted, disconnected } = file.facts;
            let facts = [
                (owner, "own file"),
                (exclusive, "new name"),
                (deleted, "deleted"),
                (disconnected, "disconnected"),
            ];
            words.extend(facts.iter().filter(|(so, _)| *so).map(|(_, word)| (*word).to_owned()));
        }
        Access::Capability { optional: true, .. } => words.push("only tested for".to_owned()),
        Access::Umount { flags, .. } => words.push(format!("flags {flags:#x}")),
        _ => {}
    }
    if key.outcome == Outcome::Refused {
        words.push("refused".to_owned());
    }
    if key.certainty == Certainty::Inferred {
        words.push("inferred".to_owned());
    }
    if words.is_empty() { "seen".to_owned() } else { words.join(" ") }
}

/// How much a coverage tells: the greater, the more.
fn rank(coverage: &Coverage) -> (u8, bool, bool, bool) {
    let certainty = match coverage {
        Coverage::None(_) => 0,
        Coverage::Inferred(_) => 1,
        Coverage::Exact(_) => 2,
    };
    let observed = coverage.observed();
    let early = observed.is_some_and(|observed| observed.from == From::FirstInstruction);
    let proved = observed.is_some_and(|observed| matches!(observed.proof, Proof::Complete { .. }));
    (certainty, early, observed.is_some() && !coverage.is_lossy(), proved)
}

/// A recording holds what its best run saw, so it is the best that are compared.
fn worse(old: &Recording, new: &Recording) -> Vec<WorseCoverage> {
    let best = |recording: &Recording, class: usize| -> Option<Coverage> {
        let of_runs = recording.runs().values().filter_map(|run: &Run| run.coverage.classes().nth(class));
        of_runs.map(|(_, coverage)| coverage).max_by_key(|coverage| rank(coverage)).cloned()
    };
    let names = std::iter::once("syscalls").chain(Class::ALL.iter().map(|class| class.as_str()));
    let mut alike: BTreeMap<(String, String), Vec<&'static str>> = BTreeMap::new();
    for (place, class) in names.enumerate() {
        if let (Some(before), Some(after)) = (best(old, place), best(new, place))
            && rank(&after) < rank(&before)
        {
            alike.entry((coverage_in_words(&before), coverage_in_words(&after))).or_default().push(class);
        }
    }
    let worse = |((before, after), classes)| WorseCoverage { classes, before, after };
    alike.into_iter().map(worse).collect()
}
