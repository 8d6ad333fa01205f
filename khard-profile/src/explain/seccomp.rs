//! Owns explanations of seccomp profiles.

use std::collections::BTreeSet;

use super::{ExplainError, ExplainedRule, Explanation, Observation, calls, phases};
use crate::check::{Profile, Question, Verdict, check};
use crate::recording::{Phase, PhaseSet, Recording};
use crate::seccomp::ALWAYS;
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
    Ok(explanation(profile, recording, about, &BTreeSet::from([call.name.to_owned()]), &places))
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
    let mut unseen = Vec::new();
    for name in names {
        let before = observations.len();
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
        if observations.len() == before {
            unseen.push(escape::terminal(name.as_bytes()));
        }
    }
    let mut notes = Vec::new();
    let always = names.iter().map(String::as_str).filter(|name| ALWAYS.contains(name));
    let always: Vec<&str> = always.collect();
    if !always.is_empty() {
        notes.push(format!(
            "khard always allows {}: a recording cannot show that they are needed",
            always.join(", ")
        ));
    }
    if !unseen.is_empty() {
        let unseen = unseen.join(", ");
        notes.push(format!(
            "not in this recording: {unseen}; an entry that allows them does so for the runtime (the floor), always, or by hand"
        ));
    }
    let rules = places.iter().filter_map(|place| {
        let (names, outcome) = profile.entry(*place)?;
        let text = format!("{outcome}, for {} calls", names.len());
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
