//! Owns explanations of AppArmor profiles.

use super::{ExplainError, ExplainedRule, Explanation, Observation, calls, phases};
use crate::apparmor_text::{ParsedProfile, Rule, RuleKind};
use crate::check::apparmor::{Refusal, Verdict, access_in_words, decides, verdict};
use crate::recording::{Access, AccessKey, Recording, Seen};
use crate::{escape, syscalls};

/// Explains a rule (its line or its text), a path, or a system call.
///
/// # Errors
/// When the profile has no such rule.
pub fn explain_apparmor(
    profile: &ParsedProfile,
    recording: &Recording,
    query: &str,
) -> Result<Explanation, ExplainError> {
    let query = query.trim();
    let words = |text: &[u8]| {
        let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(&b' ')
    };
    let (line, text) = (query.parse::<usize>(), words(query.trim_end_matches(',').as_bytes()));
    let is_asked =
        |rule: &&Rule| line.as_ref().map_or(rule.text.as_slice() == text, |line| rule.line == *line);
    let rules: Vec<&Rule> = profile.rules.iter().filter(is_asked).collect();
    if !rules.is_empty() {
        return Ok(of_rules(profile, recording, &rules));
    }
    if query.starts_with('/') {
        return Ok(of_path(profile, recording, query));
    }
    match syscalls::by_name(query) {
        Some(call) => Ok(of_call(recording, call.name)),
        None => Err(ExplainError::NoRule(format!("\"{}\"", escape::terminal(query.as_bytes())))),
    }
}

fn of_rules(profile: &ParsedProfile, recording: &Recording, rules: &[&Rule]) -> Explanation {
    let decided = |key: &AccessKey| rules.iter().any(|rule| decides(profile, rule, &key.what));
    let observations = observations(profile, recording, decided);
    let mut notes = Vec::new();
    if observations.is_empty() {
        notes.push(
            "nothing in this recording needs it: it is there for what is not recorded (such as signals from outside), for the runtime, or by hand"
                .to_owned(),
        );
    }
    for rule in rules {
        if let RuleKind::Unjudged { why, .. } = &rule.kind {
            notes.push(format!("line {}: {why}", rule.line));
        }
    }
    let rules: Vec<_> = rules.iter().map(|rule| explained(rule)).collect();
    let about = rules.iter().map(|rule| rule.text.as_str()).collect::<Vec<_>>().join("; ");
    Explanation { about: format!("the rule {about}"), rules, observations, notes }
}

fn of_path(profile: &ParsedProfile, recording: &Recording, path: &str) -> Explanation {
    let bytes = path.as_bytes();
    let covers = |rule: &&Rule| match &rule.kind {
        RuleKind::File(file) => file.covers(bytes),
        RuleKind::All => true,
        _ => false,
    };
    let names = |access: &Access| match access {
        Access::File(file) => file.path.as_slice() == bytes,
        Access::Link { link, target } => [link, target].iter().any(|name| name.as_slice() == bytes),
        Access::Mount { source, target, .. } => [source, target].iter().any(|name| name.as_slice() == bytes),
        Access::Umount { target, .. } => target.as_slice() == bytes,
        Access::PivotRoot { new_root, put_old } => {
            [new_root, put_old].iter().any(|name| name.as_slice() == bytes)
        }
        _ => false,
    };
    let observations = observations(profile, recording, |key| names(&key.what));
    let rules: Vec<_> = profile.rules.iter().filter(covers).map(explained).collect();
    let mut notes = Vec::new();
    if observations.is_empty() {
        notes.push("nothing was recorded of this path".to_owned());
    }
    if rules.is_empty() {
        notes.push("no file rule is about this path".to_owned());
    }
    for part in profile.unjudged.iter().filter(|part| part.may_grant) {
        notes.push(format!("line {}: {}", part.line, part.what));
    }
    Explanation { about: format!("the path {}", escape::terminal(bytes)), rules, observations, notes }
}

fn of_call(recording: &Recording, name: &str) -> Explanation {
    let frequencies = recording.frequencies();
    let observations = calls(recording, name).map(|(key, seen)| Observation {
        what: format!("{name} ({} {})", key.abi, key.nr),
        verdict: "not AppArmor's to decide".to_owned(),
        seen: phases(&frequencies, None, seen),
    });
    Explanation {
        about: format!("the system call {name}"),
        rules: Vec::new(),
        observations: observations.collect(),
        notes: vec!["AppArmor does not look at system calls: ask of the seccomp profile".to_owned()],
    }
}

fn explained(rule: &Rule) -> ExplainedRule {
    ExplainedRule { place: format!("line {}", rule.line), text: escape::terminal(rule.text.as_slice()) }
}

fn observations(
    profile: &ParsedProfile,
    recording: &Recording,
    wanted: impl Fn(&AccessKey) -> bool,
) -> Vec<Observation> {
    let accesses = recording.accesses().iter().filter(|(key, _)| wanted(key));
    let frequencies = recording.frequencies();
    let observation = |(key, seen): (&AccessKey, &Seen)| {
        let outcome = match key.outcome {
            crate::recording::Outcome::Granted => "",
            crate::recording::Outcome::Refused => ", an attempt that was refused",
        };
        Observation {
            what: format!("{}{outcome}", access_in_words(key)),
            verdict: in_words(profile, &verdict(profile, key)),
            seen: phases(&frequencies, Some(key.what.class()), seen),
        }
    };
    accesses.map(observation).collect()
}

fn in_words(profile: &ParsedProfile, verdict: &Verdict) -> String {
    let line = |place: &usize| profile.rules.get(*place).map_or(0, |rule| rule.line).to_string();
    match verdict {
        Verdict::Allowed(by) => {
            format!("allowed by line {}", by.iter().map(line).collect::<Vec<_>>().join(", "))
        }
        Verdict::NotMediated(why) => format!("allowed: {why}"),
        Verdict::Refused(Refusal::DenyRule(place)) => format!("refused: denied in line {}", line(place)),
        Verdict::Refused(Refusal::NoRule { missing }) => format!("refused: no rule grants {missing}"),
        Verdict::Refused(Refusal::Flag(flag)) => format!("refused: the profile lacks the flag {flag}"),
        Verdict::Refused(Refusal::Subset) => {
            "refused: the new name would grant more than the file's own".to_owned()
        }
        Verdict::CannotJudge(why) => format!("unclear: {why}"),
    }
}
