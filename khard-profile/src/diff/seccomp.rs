//! Owns what is different between two seccomp profiles: what happens to each call in each ABI, and under which conditions. How rules
//! are cut up and ordered, comments and flags do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Change, Compared, Diff, Kind, Note};
use crate::Bytes;
use crate::check::seccomp::{DOCKERS_FORM, Way};
use crate::check::{Outcome, Profile};
use crate::escape::terminal;
use crate::recording::{Abi, Recording, SyscallKey, Witness};
use crate::seccomp::{Action, Arch, Policy};
use crate::summary::risk_of_call;
use crate::syscalls;

const CALLS: &str = "system calls";
const ARCHITECTURES: &str = "architectures";
const DEFAULT: &str = "default action";

/// The architectures of hosts that are known, and the ABIs that a kernel there can have.
const HOSTS: [(Abi, &[Abi]); 3] = [
    (Abi::X86_64, &[Abi::X86_64, Abi::Ia32, Abi::X32]),
    (Abi::Aarch64, &[Abi::Aarch64]),
    (Abi::Ia32, &[Abi::Ia32]),
];

/// Compares what two profiles do.
///
/// With the recording that the new one was made of, each addition has its witness.
pub fn seccomp(old: &Profile, new: &Profile, recording: Option<&Recording>) -> Diff {
    let kernels: BTreeSet<(u32, u32)> = old.kernels().chain(new.kernels()).chain([(0, 0)]).collect();
    let names: BTreeSet<&str> = old.all_names().chain(new.all_names()).collect();
    let unknown: Vec<&str> = names.iter().copied().filter(|name| syscalls::by_name(name).is_none()).collect();
    let defaults = [old, new].map(|profile| Effect::certain(profile.default_outcome(), &kernels));
    let default_kinds = kinds(&defaults);
    let mut changes: Vec<Change> = default_kinds
        .iter()
        .map(|kind| changed(DEFAULT, *kind, "calls that no rule names", &defaults))
        .collect();
    let mut of_calls: BTreeMap<(&str, Kind, [String; 2]), BTreeSet<Abi>> = BTreeMap::new();
    for (native, abis) in hosts(old, new) {
        for &abi in abis {
            let known = syscalls::of_abi(abi).map(|call| call.name);
            // Of a name that is in no table only the rules are known, so it counts as the host's own.
            let with_unknown = known.chain(unknown.iter().copied().filter(|_| abi == native));
            let of = |name| [old, new].map(|profile| Effect::of(profile, name, abi, native, &kernels));
            let of_others = of("");
            let effects = with_unknown.map(|name| {
                let multiplexes = abi == Abi::Ia32 && matches!(name, "socketcall" | "ipc");
                let is_named = multiplexes || names.contains(name);
                (name, if is_named { of(name) } else { of_others.clone() })
            });
            let differing: Vec<(&str, Kind, [Effect; 2])> = effects
                .flat_map(|(name, effects)| {
                    kinds(&effects).into_iter().map(move |kind| (name, kind, effects.clone()))
                })
                .collect();
            let lets_in = [old, new].map(|profile| profile.lets_in(abi, native));
            if lets_in[0] != lets_in[1] {
                changes.extend(architecture(abi, lets_in[1], &differing));
                continue;
            }
            // What only the default action changes is told once.
            for (name, kind, effects) in differing.into_iter().filter(|(_, _, effects)| *effects != defaults)
            {
                let words = effects.map(|effect| effect.to_string());
                of_calls.entry((name, kind, words)).or_default().insert(abi);
            }
        }
    }
    changes.extend(of_calls.into_iter().map(|((name, kind, [before, after]), abis)| Change {
        witness: recording.filter(|_| kind.is_more()).and_then(|recording| first(recording, name, &abis)),
        abis,
        before: Some(Bytes::from(before.as_str())),
        after: Some(Bytes::from(after.as_str())),
        opens: if kind.is_more() { risk_of_call(name) } else { None },
        ..Change::new(CALLS, kind, name)
    }));
    let notes = notes(old, new);
    let mut diff = Diff { compared: Compared::Seccomp, changes, worse: Vec::new(), notes };
    diff.sort(&[ARCHITECTURES, DEFAULT, CALLS]);
    diff
}

/// By whom a call was first made.
fn first(recording: &Recording, name: &str, abis: &BTreeSet<Abi>) -> Option<Witness> {
    let numbers = abis.iter().filter_map(|abi| {
        let nr = syscalls::by_name(name)?.number(*abi)?;
        recording.syscalls().get(&SyscallKey { abi: *abi, nr })
    });
    numbers.filter_map(|seen| seen.witness(Policy::DEFAULT_PHASES)).min().cloned()
}

/// The hosts that one of the profiles is for; all that are known, if none is named.
fn hosts(old: &Profile, new: &Profile) -> impl Iterator<Item = (Abi, &'static [Abi])> {
    let listed: BTreeSet<&str> = old.listed().union(&new.listed()).copied().collect();
    let is_listed = |abi: Abi| listed.contains(Arch::from(abi).to_string().as_str());
    let with_x86_64 = is_listed(Abi::X86_64);
    let any = HOSTS.iter().any(|(native, _)| is_listed(*native));
    let wanted: Vec<_> = HOSTS
        .into_iter()
        .filter(|(native, _)| match native {
            Abi::Ia32 => is_listed(Abi::Ia32) && !with_x86_64,
            native => is_listed(*native) || !any,
        })
        .collect();
    wanted.into_iter()
}

/// What happens to a call, on kernels from each of these versions on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Effect(Vec<((u32, u32), BTreeSet<Way>)>);

impl Effect {
    fn of(profile: &Profile, name: &str, abi: Abi, native: Abi, kernels: &BTreeSet<(u32, u32)>) -> Self {
        Self(kernels.iter().map(|kernel| (*kernel, profile.ways(name, abi, native, *kernel))).collect())
    }

    fn certain(outcome: Outcome, kernels: &BTreeSet<(u32, u32)>) -> Self {
        let way = Way { outcome, when: BTreeSet::new() };
        Self(kernels.iter().map(|kernel| (*kernel, [way.clone()].into())).collect())
    }

    /// Whether the call can be made at all.
    fn opens(&self) -> bool {
        self.0.iter().any(|(_, ways)| ways.iter().any(|way| may_be_made(way.outcome)))
    }

    /// Whether for certain all that is let through here is let through there, as far as conditions can be compared word by word.
    fn is_within(&self, other: &Self) -> bool {
        let within = |ours: &BTreeSet<Way>, theirs: &BTreeSet<Way>| {
            let implied = |way: &Way, by: &BTreeSet<Way>| {
                by.iter().any(|other| {
                    may_be_made(other.outcome) == may_be_made(way.outcome) && other.when.is_subset(&way.when)
                })
            };
            let made = ours.iter().filter(|way| may_be_made(way.outcome)).all(|way| implied(way, theirs));
            made && theirs.iter().filter(|way| !may_be_made(way.outcome)).all(|way| implied(way, ours))
        };
        self.0.iter().zip(&other.0).all(|((_, ours), (_, theirs))| within(ours, theirs))
    }
}

/// A supervisor or a tracer may let it through.
fn may_be_made(outcome: Outcome) -> bool {
    outcome.is_allowed() || matches!(outcome.action, Action::Notify | Action::Trace)
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for (kernel, ways) in self.0.iter().filter(|(_, ways)| last.replace(ways) != Some(ways)) {
            if *kernel != (0, 0) {
                write!(f, "; from Linux {}.{} on: ", kernel.0, kernel.1)?;
            }
            let (certain, conditional): (Vec<&Way>, Vec<&Way>) =
                ways.iter().partition(|way| way.when.is_empty());
            for (place, way) in conditional.iter().chain(&certain).enumerate() {
                let comma = if place > 0 { ", " } else { "" };
                let otherwise =
                    if conditional.is_empty() || !way.when.is_empty() { "" } else { "otherwise " };
                write!(f, "{comma}{otherwise}{}", way.outcome)?;
                if !way.when.is_empty() {
                    let when: Vec<&str> = way.when.iter().map(String::as_str).collect();
                    write!(f, " if {}", when.join(" and "))?;
                }
            }
        }
        Ok(())
    }
}

/// Which ways something differs; none if it does not.
fn kinds([before, after]: &[Effect; 2]) -> Vec<Kind> {
    if before == after {
        return Vec::new();
    }
    match (before.opens(), after.opens()) {
        (false, true) => vec![Kind::Added],
        (true, false) => vec![Kind::Removed],
        (false, false) => vec![Kind::Changed],
        (true, true) => match (before.is_within(after), after.is_within(before)) {
            (true, true) => vec![Kind::Changed],
            (true, false) => vec![Kind::Widened],
            (false, true) => vec![Kind::Narrowed],
            // Neither is within the other, or it cannot be told.
            (false, false) => vec![Kind::Widened, Kind::Narrowed],
        },
    }
}

fn changed(class: &'static str, kind: Kind, what: &str, effects: &[Effect; 2]) -> Change {
    let [before, after] = effects.each_ref().map(|effect| Some(Bytes::from(effect.to_string().as_str())));
    let opens =
        kind.is_more().then_some("calls that nobody has looked at, those of newer kernels among them");
    Change { before, after, opens, ..Change::new(class, kind, what) }
}

/// An ABI that is let in from now on, or no longer: with all its calls one change.
fn architecture(abi: Abi, is_in: bool, differing: &[(&str, Kind, [Effect; 2])]) -> Option<Change> {
    let all = if is_in { Kind::Added } else { Kind::Removed };
    let of_all = differing.iter().filter(|(_, kind, _)| *kind == all);
    let calls: Vec<&'static str> =
        of_all.filter_map(|(name, _, _)| Some(syscalls::by_name(name)?.name)).collect();
    let kind = if calls.is_empty() { Kind::Changed } else { all };
    let closed = Bytes::from("kills the thread");
    let open = Bytes::from(format!("{} calls can be made", calls.len()).as_str());
    let (before, after) = if is_in { (closed, open) } else { (open, closed) };
    (!differing.is_empty()).then(|| Change {
        abis: [abi].into(),
        before: Some(before),
        after: Some(after),
        opens: kind
            .is_more()
            .then_some("a second table of system calls, of which filters and people know less"),
        calls,
        ..Change::new(ARCHITECTURES, kind, Arch::from(abi).to_string().as_str())
    })
}

fn notes(old: &Profile, new: &Profile) -> Vec<Note> {
    let mut notes = Vec::new();
    let known: BTreeSet<String> = Abi::ALL.iter().map(|abi| Arch::from(*abi).to_string()).collect();
    let listed = [old.listed(), new.listed()];
    let others: BTreeSet<&str> =
        listed.iter().flatten().copied().filter(|arch| !known.contains(*arch)).collect();
    if !others.is_empty() {
        let others: Vec<String> = others.into_iter().map(|arch| terminal(arch.as_bytes())).collect();
        let others = others.join(", ");
        notes.push(Note::with_names(format!(
            "not compared, since khard has no tables of their calls: {others}"
        )));
    }
    if old.has_dockers_form() || new.has_dockers_form() {
        notes.push(Note::of_khard(DOCKERS_FORM.replace("checked", "compared")));
    }
    notes
}
