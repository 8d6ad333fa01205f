//! Owns what is looked for in a seccomp profile, and in which order: its form first, then what it does to calls.

mod arguments;
mod floor;
mod form;
mod names;
mod twins;
mod view;

use super::comments;
use super::table::{self, Kind};
use super::{At, Finding, Libseccomp};
use crate::check::{Profile, ProfileError};
use crate::recording::{Abi, Recording};
use crate::seccomp::{Action, RuntimeDefault, runtime_default};
use crate::summary::risky::RISKY;
use crate::syscalls;
use view::{Open, View};

pub(super) fn lint(text: &[u8], against: Option<&Recording>, libseccomp: &Libseccomp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (profile, raw) = match read(text, &mut findings) {
        Ok(read) => read,
        Err(error) => {
            findings.push(unreadable(&error));
            return findings;
        }
    };
    form::look(&raw, text.len(), &mut findings);
    let view = View::new(&profile);
    whole(&view, &mut findings);
    // Where everything or nothing is allowed, single calls do not matter.
    let hopeless = [&table::ALLOWS_EVERYTHING, &table::ALLOWS_NOTHING, &table::ONLY_LOGS];
    if findings.iter().any(|finding| hopeless.contains(&finding.kind)) {
        return findings;
    }
    names::look(&view, libseccomp, &mut findings);
    arguments::look(&view, &mut findings);
    twins::look(&view, &mut findings);
    if !view.is_deny_list() {
        floor::look(&view, against, &mut findings);
    }
    kills(&view, &mut findings);
    architectures(&view, &mut findings);
    beyond_default(&view, &mut findings);
    findings
}

/// Reads a profile as runtimes would, and where they would not, with what is wrong taken out and told.
fn read(text: &[u8], findings: &mut Vec<Finding>) -> Result<(Profile, serde_json::Value), ProfileError> {
    let mut value = match serde_json::from_slice(text) {
        Ok(value) => value,
        Err(error) => {
            let (blanked, comments) = comments::json(text);
            if comments.is_empty() {
                return Err(ProfileError::NotJson(error));
            }
            findings.extend(comments.into_iter().map(|comment| {
                let what = format!("a comment: {}", comment.text);
                Finding::new(&table::SECCOMP_COMMENT, At::Line(comment.line), what)
            }));
            serde_json::from_slice(&blanked).map_err(ProfileError::NotJson)?
        }
    };
    Profile::is_no_recording(&value)?;
    // Of what is no profile at all no key is known.
    let mut unknown = Vec::new();
    form::take_unknown_keys(&mut value, &mut unknown);
    let profile = Profile::from_value(&value)?;
    findings.extend(unknown);
    Ok((profile, value))
}

fn unreadable(error: &ProfileError) -> Finding {
    match error {
        ProfileError::NotJson(source) => {
            let at = At::Line(source.line());
            Finding::new(&table::SECCOMP_UNREADABLE, at, format!("no JSON: {source}"))
        }
        ProfileError::Bad { place, problem } => {
            let at = if place == "the profile" { At::Profile } else { At::Key(place.clone()) };
            Finding::new(&table::SECCOMP_UNREADABLE, at, problem.clone())
        }
        ProfileError::TooLarge { .. } => {
            Finding::new(&table::SECCOMP_UNREADABLE, At::Profile, error.to_string())
        }
    }
}

fn default_action(kind: &'static Kind, what: impl Into<String>) -> Finding {
    Finding::new(kind, At::Key("defaultAction".to_owned()), what)
}

/// Profiles that confine nothing, and those under which nothing runs.
fn whole(view: &View<'_>, findings: &mut Vec<Finding>) {
    let profile = view.profile;
    let entries = || profile.rules.iter().filter(|rule| !rule.names.is_empty());
    let refuses = entries().any(|rule| !rule.outcome.is_allowed());
    let allows = entries().any(|rule| rule.outcome.is_allowed());
    let of_default = match profile.default.action {
        Action::Allow if !refuses => {
            Some((&table::ALLOWS_EVERYTHING, "every call is allowed, and no entry refuses one"))
        }
        Action::Log if !refuses => {
            Some((&table::ONLY_LOGS, "every call is allowed and logged, and no entry refuses one"))
        }
        Action::Trace => Some((&table::DEFAULT_TRACE, "calls that no entry names are left to a tracer")),
        Action::Notify => Some((&table::NOTIFY_REFUSED, "SCMP_ACT_NOTIFY is the default action")),
        Action::Allow | Action::Log => None,
        _ if !allows => Some((&table::ALLOWS_NOTHING, "every call is refused, and no entry allows one")),
        _ => None,
    };
    findings.extend(of_default.map(|(kind, what)| default_action(kind, what)));
    for (place, rule) in profile.rules.iter().enumerate() {
        if rule.outcome.action == Action::Notify && rule.names.contains("write") {
            let what = "SCMP_ACT_NOTIFY for write";
            findings.push(Finding::new(&table::NOTIFY_REFUSED, At::Entry(place), what));
        }
    }
}

fn kills(view: &View<'_>, findings: &mut Vec<Finding>) {
    match view.profile.default.action {
        Action::KillThread => {
            findings.push(default_action(&table::KILL_THREAD, "calls that no entry names kill the thread"));
        }
        Action::KillProcess | Action::Trap => {
            let what = "calls that no entry names end the process";
            findings.push(default_action(&table::KILL_DEFAULT, what));
        }
        _ => {}
    }
    for (place, rule) in view.profile.rules.iter().enumerate() {
        if rule.outcome.action == Action::KillThread && view.profile.default != rule.outcome {
            let what = "the calls of this entry kill the thread";
            findings.push(Finding::new(&table::KILL_THREAD, At::Entry(place), what));
        }
    }
}

fn architectures(view: &View<'_>, findings: &mut Vec<Finding>) {
    let profile = view.profile;
    let at = || At::Key("architectures".to_owned());
    if profile.architectures.is_empty() && profile.arch_map.is_empty() {
        findings.push(Finding::new(&table::NO_ARCHITECTURES, at(), "no architecture is listed"));
    }
    let extra: Vec<&str> =
        view.abis.iter().filter(|abi| **abi != view.native).map(|abi| abi.as_str()).collect();
    if !extra.is_empty() && view.native == Abi::X86_64 && profile.arch_map.is_empty() {
        let what = format!("beside x86_64, calls of {} are let in", extra.join(" and "));
        findings.push(Finding::new(&table::EXTRA_ARCHITECTURES, at(), what));
    }
}

/// What the profile opens that the runtime's default closes, the dangerous ones with what they open.
fn beyond_default(view: &View<'_>, findings: &mut Vec<Finding>) {
    let beyond = |name: &str| {
        view.native_open(name) == Some(Open::Always)
            && match runtime_default(name) {
                RuntimeDefault::Refuses => true,
                RuntimeDefault::WithSomeArguments => name != "socket",
                RuntimeDefault::Allows => false,
            }
    };
    let calls: Vec<&str> =
        syscalls::of_abi(view.native).map(|call| call.name).filter(|name| beyond(name)).collect();
    let risk = |name: &str| RISKY.iter().find(|(risky, _)| *risky == name).map(|(_, risk)| *risk);
    let mut details: Vec<String> = Vec::new();
    for risky in RISKY.chunk_by(|one, other| one.1 == other.1) {
        let open: Vec<&str> =
            risky.iter().map(|(name, _)| *name).filter(|name| calls.contains(name)).collect();
        if !open.is_empty() {
            details.push(format!("{}: {}", open.join(", "), risky[0].1));
        }
    }
    let others: Vec<&str> = calls.iter().copied().filter(|name| risk(name).is_none()).collect();
    if !others.is_empty() {
        details.push(format!("others: {}", super::names(&others, 12)));
    }
    if !calls.is_empty() {
        let what = match calls.len() {
            1 => "a call is allowed that RuntimeDefault refuses".to_owned(),
            n => format!("{n} calls are allowed that RuntimeDefault refuses"),
        };
        findings.push(Finding::new(&table::BEYOND_DEFAULT, At::Profile, what).with(details));
    }
}
