//! Owns explanations of seccomp profiles.

use std::collections::BTreeSet;

use super::{ExplainError, ExplainedRule, Explanation, Observation, calls, phases};
use crate::check::{Profile, Question, Verdict, check, verdict_of};
use crate::recording::{Abi, Phase, PhaseSet, Recording, Seen, SyscallKey};
use crate::seccomp::{ALWAYS, Floor, FloorChoice, FloorData, FloorEntry, Policy};
use crate::syscalls::Syscall;
use crate::{escape, syscalls};

/// Explains an entry of `syscalls` (its place, such as `syscalls[0]` or `0`) or a system call.
///
/// # Errors
/// When the profile has no such entry, and for a path, which seccomp cannot see.
pub fn explain_seccomp(
    profile: &Profile,
    recording: &Recording,
    query: &str,
) -> Result<Explanation, ExplainError> {
    let query = query.trim();
    if query.starts_with('/') {
        return Err(ExplainError::OtherProfile("seccomp sees no paths: ask of the AppArmor profile"));
    }
    let unknown = || ExplainError::NoRule(format!("\"{}\"", escape::terminal(query.as_bytes())));
    let place = query.strip_prefix("syscalls[").and_then(|rest| rest.strip_suffix(']')).unwrap_or(query);
    if let Ok(place) = place.parse::<usize>() {
        let (names, _) = profile.entry(place).ok_or_else(unknown)?;
        return Ok(explanation(profile, recording, format!("the entry syscalls[{place}]"), names, &[place]));
    }
    let call = syscalls::by_name(query).ok_or_else(unknown)?;
    let places: Vec<usize> = profile.entries_naming(call.name).collect();
    let about = format!("the system call {}", call.name);
    let mut explanation =
        explanation(profile, recording, about, &BTreeSet::from([call.name.to_owned()]), &places);
    if explanation.observations.is_empty() {
        explanation.observations = if_called(profile, recording, call);
    }
    Ok(explanation)
}

/// What would happen to a call that was not recorded, in the ABIs of the machines that were recorded on.
fn if_called(profile: &Profile, recording: &Recording, call: &Syscall) -> Vec<Observation> {
    let runs = || recording.runs().values();
    let natives: BTreeSet<Abi> = runs().filter_map(|run| Abi::native_of(&run.host.machine)).collect();
    let of_abi = |abi: Abi| {
        let key = SyscallKey { abi, nr: call.number(abi)? };
        let runs = runs().filter(|run| Abi::native_of(&run.host.machine) == Some(abi));
        Some(Observation {
            what: format!("{} ({abi} {})", call.name, key.nr),
            verdict: in_words(&verdict_of(profile, key, runs, None)),
            seen: Vec::new(),
        })
    };
    natives.into_iter().filter_map(of_abi).collect()
}

/// The measured runtimes of this recording's floor that make one of these calls.
fn in_floor<'a>(floor: &'a Floor, name: &'a str) -> impl Iterator<Item = &'a FloorEntry> {
    floor.sources().map(|(_, entry)| entry).filter(move |entry| entry.calls.contains_key(name))
}

fn explanation(
    profile: &Profile,
    recording: &Recording,
    about: String,
    names: &BTreeSet<String>,
    places: &[usize],
) -> Explanation {
    let question = Question { phases: Phase::ALL.into_iter().collect::<PhaseSet>(), caps: None };
    let report = check(profile, recording, &question);
    let frequencies = recording.frequencies();
    let mut observations = Vec::new();
    // By no program; the runtime may have.
    let mut unneeded = Vec::new();
    for name in names {
        let by_program = |seen: &Seen| !seen.phases().and(Policy::DEFAULT_PHASES).is_empty();
        if !calls(recording, name).any(|(_, seen)| by_program(seen)) {
            unneeded.push(name.as_str());
        }
        observations.extend(calls(recording, name).map(|(key, seen)| {
            Observation {
                what: format!("{name} ({} {})", key.abi, key.nr),
                verdict: report
                    .calls()
                    .find(|call| call.key == key)
                    .map_or_else(String::new, |call| in_words(&call.verdict)),
                seen: phases(&frequencies, None, seen),
            }
        }));
    }
    let mut notes = Vec::new();
    let always = names.iter().map(String::as_str).filter(|name| ALWAYS.contains(name));
    let always: Vec<&str> = always.collect();
    if !always.is_empty() {
        notes.push(format!(
            "khard always allows {}: no recording can show that nobody needs it",
            always.join(", ")
        ));
    }
    let by_entry = |name: &&str| {
        let mut entries = profile.entries_naming(name).filter_map(|place| profile.entry(place));
        entries.any(|(_, outcome)| outcome.is_allowed())
    };
    // Without a measured floor nothing is said of it.
    let data = FloorData::embedded().unwrap_or_default();
    let floor = Floor::choose(&FloorChoice::Auto, recording, true, &data).unwrap_or_default();
    let (allowed, rest): (Vec<&str>, Vec<&str>) = unneeded.into_iter().partition(by_entry);
    let (of_floor, others): (Vec<&str>, Vec<&str>) =
        allowed.into_iter().partition(|name| in_floor(&floor, name).next().is_some());
    if !of_floor.is_empty() {
        let entries = of_floor.iter().flat_map(|name| in_floor(&floor, name));
        let runtimes: BTreeSet<String> =
            entries.map(|entry| format!("{} {}", entry.key.runtime, entry.key.version)).collect();
        notes.push(format!(
            "of the floor, what the container runtime itself calls once the filter is in force: {} ({})",
            of_floor.join(", "),
            runtimes.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    let others: Vec<&str> = others.into_iter().filter(|name| !ALWAYS.contains(name)).collect();
    if !others.is_empty() {
        let others = escape::terminal(others.join(", ").as_bytes());
        notes.push(format!(
            "made by no program in this recording: {others}: allowed by hand, or for another runtime"
        ));
    }
    if !rest.is_empty() {
        notes.push(format!(
            "made by no program in this recording: {}",
            escape::terminal(rest.join(", ").as_bytes())
        ));
    }
    let rules = places.iter().filter_map(|place| {
        let (names, outcome) = profile.entry(*place)?;
        let calls = if names.len() == 1 { "call" } else { "calls" };
        let text = format!("{outcome}, for {} {calls}", names.len());
        Some(ExplainedRule { place: format!("syscalls[{place}]"), text })
    });
    Explanation { about, rules: rules.collect(), observations, notes }
}

fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allowed => "allowed".to_owned(),
        Verdict::Refused { outcome, by } => {
            format!("refused: {outcome} (by {})", escape::terminal(by.as_bytes()))
        }
        Verdict::Depends(parts) => format!("depends: {}", escape::terminal(parts.join("; ").as_bytes())),
    }
}
