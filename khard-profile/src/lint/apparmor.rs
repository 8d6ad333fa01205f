//! Owns what is looked for in an AppArmor profile. What an include grants is not known, and nothing is said that depends on it.

use super::comments;
use super::table::{self, Kind};
use super::{At, Finding};
use crate::Bytes;
use crate::apparmor_text::{
    self, FileRule, MountRule, ParsedProfile, Pattern, ProfileTextError, Rule, RuleKind, Scope,
};
use crate::check::apparmor::{Verdict, verdict};
use crate::recording::{Access, AccessKey, Certainty, FileAccess, FileFacts, FileOp, FilePerms, Outcome};

/// Paths of all kinds: a pattern that matches each of them means every path.
const EVERYWHERE: [&[u8]; 5] =
    [b"/etc/passwd", b"/usr/bin/env", b"/proc/1/mem", b"/home/user/.profile", b"/srv/data/"];

pub(super) fn lint(text: &[u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    match read(text, &mut findings) {
        Ok(profiles) => {
            if let Some(first) = profiles.first().filter(|first| first.abi.is_none()) {
                let what = "no abi line stands before the first profile";
                findings.push(Finding::new(&table::NO_ABI, At::Line(first.line), what));
            }
            for profile in &profiles {
                look(profile, &profiles, &mut findings);
            }
            if profiles.is_empty() {
                let what = "there is no profile in it";
                findings.push(Finding::new(&table::APPARMOR_UNREADABLE, At::Profile, what));
            }
        }
        Err(error) => findings.push(unreadable(&error)),
    }
    findings
}

/// Reads a text as AppArmor's parser would, and where it would not, with what is wrong taken out and told.
fn read(text: &[u8], findings: &mut Vec<Finding>) -> Result<Vec<ParsedProfile>, ProfileTextError> {
    let error = match apparmor_text::parse(text) {
        Ok(profiles) => return Ok(profiles),
        Err(error) => error,
    };
    let (blanked, comments) = comments::apparmor(text);
    let again = apparmor_text::parse(&blanked);
    if !comments.is_empty() && !matches!(&again, Err(still) if *still == error) {
        findings.extend(comments.into_iter().map(|comment| {
            let what = format!("a comment that is none: {}", comment.text);
            Finding::new(&table::APPARMOR_COMMENT, At::Line(comment.line), what)
        }));
    }
    let error = match again {
        Ok(profiles) => return Ok(profiles),
        Err(error) => error,
    };
    // A line more at the top gives AppArmor's own variables their values.
    let with_tunables = [b"include <tunables/global>\n", blanked.as_slice()].concat();
    match (apparmor_text::parse(&with_tunables), &error) {
        (Ok(mut profiles), ProfileTextError::Bad { line, problem }) => {
            findings.push(Finding::new(&table::MISSING_TUNABLES, At::Line(*line), problem.clone()));
            for profile in &mut profiles {
                profile.line -= 1;
                profile.rules.iter_mut().for_each(|rule| rule.line -= 1);
            }
            Ok(profiles)
        }
        _ => Err(error),
    }
}

fn unreadable(error: &ProfileTextError) -> Finding {
    match error {
        ProfileTextError::Bad { line, problem } => {
            Finding::new(&table::APPARMOR_UNREADABLE, At::Line(*line), problem.clone())
        }
        _ => Finding::new(&table::APPARMOR_UNREADABLE, At::Profile, error.to_string()),
    }
}

fn look(profile: &ParsedProfile, all: &[ParsedProfile], findings: &mut Vec<Finding>) {
    head(profile, findings);
    broad(profile, findings);
    narrow(profile, findings);
    denied(profile, findings);
    execs(profile, all, findings);
    writes_and_executes(profile, findings);
    signals(profile, findings);
}

fn of_rule(kind: &'static Kind, rule: &Rule, what: &str) -> Finding {
    Finding::new(kind, At::Line(rule.line), format!("{what}: {}", shown(rule)))
}

fn shown(rule: &Rule) -> String {
    String::from_utf8_lossy(rule.text.as_slice()).into_owned()
}

fn head(profile: &ParsedProfile, findings: &mut Vec<Finding>) {
    let at = || At::Line(profile.line);
    let name = String::from_utf8_lossy(profile.name.as_slice());
    let mut add = |kind, what: String| findings.push(Finding::new(kind, at(), what));
    match profile.flags.lenient.as_deref() {
        Some("complain") => {
            add(&table::COMPLAIN, format!("{name} has the flag complain"));
            if let Some(rule) = profile.rules.iter().find(|rule| rule.deny) {
                let what = format!("line {}: {} refuses all the same", rule.line, shown(rule));
                add(&table::DENY_IN_COMPLAIN, what);
            }
        }
        Some(flag) => add(&table::UNCONFINED, format!("{name} has the flag {flag}")),
        None => {}
    }
    if profile.attaches {
        add(&table::ATTACHES, format!("{name} attaches to programs by their path"));
    } else if !profile.flags.attach_disconnected {
        add(&table::NO_ATTACH_DISCONNECTED, format!("{name} lacks the flag attach_disconnected"));
    }
}

/// The file rules of one sort, with what they say.
fn files(profile: &ParsedProfile, deny: bool) -> impl Iterator<Item = (&Rule, &FileRule)> {
    profile.rules.iter().filter(move |rule| rule.deny == deny).filter_map(|rule| match &rule.kind {
        RuleKind::File(of) => Some((rule, of)),
        _ => None,
    })
}

fn is_everywhere(rule: &Rule, of: &FileRule) -> bool {
    !rule.owner && EVERYWHERE.iter().all(|path| of.covers(path))
}

/// What is granted on every path; all bits for a rule that grants all.
fn granted_everywhere(profile: &ParsedProfile) -> (FilePerms, Option<&Rule>) {
    let mut granted = FilePerms::EMPTY;
    let mut first = None;
    for (rule, of) in files(profile, false).filter(|(rule, of)| is_everywhere(rule, of)) {
        granted = granted.or(of.perms);
        first = first.or(Some(rule));
    }
    let all = profile.rules.iter().find(|rule| rule.kind == RuleKind::All && !rule.deny);
    if all.is_some() {
        granted = granted.or(FilePerms::READ).or(FilePerms::WRITE).or(FilePerms::EXEC);
    }
    (granted, first.or(all))
}

/// By which root drives the kernel, and escapes: what any list of denials has to begin with.
const DRIVING: [&[u8]; 2] = [b"/proc/sysrq-trigger", b"/sys/kernel/uevent_helper"];

/// Profiles that grant so much that nothing is left.
fn broad(profile: &ParsedProfile, findings: &mut Vec<Finding>) {
    let (granted, first) = granted_everywhere(profile);
    let Some(first) = first.filter(|_| granted.contains(FilePerms::READ.or(FilePerms::WRITE))) else {
        return;
    };
    let is_denied = |path: &[u8]| {
        files(profile, true)
            .any(|(rule, of)| !rule.owner && of.perms.contains(FilePerms::WRITE) && of.covers(path))
    };
    // abstractions/base denies nothing; what another file denies beside this one's rules is not known.
    let includes_more = profile.includes.iter().any(|file| !file.contains("abstractions/base"));
    let may_be_denied = includes_more && files(profile, true).next().is_some();
    if DRIVING.iter().all(|path| is_denied(path)) || may_be_denied || profile.flags.lenient.is_some() {
        return;
    }
    let every_capability = profile
        .rules
        .iter()
        .any(|rule| !rule.deny && matches!(rule.kind, RuleKind::Capability(u64::MAX) | RuleKind::All));
    findings.push(if every_capability {
        of_rule(&table::CONFINES_NOTHING, first, "every file and every capability is granted")
    } else {
        of_rule(&table::EVERY_FILE, first, "every file may be read and written")
    });
}

/// Profiles that grant no file at all.
fn narrow(profile: &ParsedProfile, findings: &mut Vec<Finding>) {
    let is_unclear = |rule: &Rule| matches!(rule.kind, RuleKind::Unjudged { scope: Scope::File, .. });
    let may_grant = profile.unjudged.iter().any(|part| part.may_grant)
        || profile.rules.iter().any(|rule| is_unclear(rule) || (rule.kind == RuleKind::All && !rule.deny));
    if may_grant || profile.flags.lenient.is_some() {
        return;
    }
    let denied = files(profile, true)
        .filter(|(rule, of)| is_everywhere(rule, of))
        .fold(FilePerms::EMPTY, |denied, (_, of)| denied.or(of.perms));
    if files(profile, false).all(|(_, of)| denied.contains(of.perms)) {
        let name = String::from_utf8_lossy(profile.name.as_slice());
        let what = match files(profile, false).next() {
            None => format!("{name} has no rule that grants a file"),
            Some(_) => format!("what {name} grants of files is denied on every path"),
        };
        findings.push(Finding::new(&table::NO_FILE, At::Line(profile.line), what));
    }
}

/// Deny rules that can be passed.
fn denied(profile: &ParsedProfile, findings: &mut Vec<Finding>) {
    let links_everywhere =
        files(profile, false).any(|(rule, of)| of.link.is_some() && is_everywhere(rule, of));
    let (granted, _) = granted_everywhere(profile);
    let is_deny_list = granted.contains(FilePerms::READ);
    let denies_links = files(profile, true).any(|(rule, of)| of.link.is_some() && is_everywhere(rule, of));
    let denies_writes =
        files(profile, true).any(|(rule, of)| of.perms.contains(FilePerms::WRITE) && is_everywhere(rule, of));
    for (rule, of) in files(profile, true) {
        if is_everywhere(rule, of) {
            let mut leaves = Vec::new();
            if of.perms.contains(FilePerms::WRITE) && links_everywhere && !denies_links {
                leaves.push("l: hard links can be made".to_owned());
            }
            if of.perms.contains(FilePerms::APPEND) && !denies_writes && granted.contains(FilePerms::WRITE) {
                leaves.push("w: files can be written, but not appended to".to_owned());
            }
            if !leaves.is_empty() {
                let finding = of_rule(&table::DENY_LEAVES, rule, "it leaves what a broad rule grants");
                findings.push(finding.with(leaves));
            }
        } else if let Some(path) = of.path.as_ref().and_then(Pattern::prefix).filter(|_| is_deny_list) {
            other_names(profile, rule, path, findings);
        }
    }
}

/// Other ways to a path that a rule denies. Below /proc and /sys nothing is linked or renamed, and their mounts are the runtime's.
fn other_names(profile: &ParsedProfile, rule: &Rule, path: &[u8], findings: &mut Vec<Finding>) {
    let of_kernel = [&b"/proc"[..], b"/sys", b"/dev"];
    if of_kernel.iter().any(|root| path.starts_with(root)) {
        return;
    }
    let mut ways: Vec<String> =
        mounts(profile, path).map(|rule| format!("line {}: {}", rule.line, shown(rule))).collect();
    let links = files(profile, false).filter(|(_, of)| {
        let free = of.link.as_ref().filter(|to| !to.subset);
        free.is_some_and(|to| to.target.as_ref().is_none_or(|target| target.matches(path)))
    });
    ways.extend(links.map(|(rule, _)| format!("line {}: {}", rule.line, shown(rule))));
    if !ways.is_empty() {
        findings.push(of_rule(&table::DENY_BY_NAME, rule, "what it denies has other names").with(ways));
    }
    let renamed: Vec<String> = directories(path)
        .filter(|directory| may_be_renamed(profile, directory))
        .map(|directory| String::from_utf8_lossy(directory).into_owned())
        .collect();
    if !renamed.is_empty() {
        let what =
            format!("{} may be renamed, and this rule no longer meets what is below", renamed.join(", "));
        findings.push(of_rule(&table::RENAMED_PARENT, rule, &what));
    }
}

/// The rules that allow a mount by which a path, or what is below it, gets another name.
fn mounts<'a>(profile: &'a ParsedProfile, path: &'a [u8]) -> impl Iterator<Item = &'a Rule> {
    let denied = profile.rules.iter().any(|rule| match &rule.kind {
        RuleKind::Mount(MountRule {
            is_remount: false, options: None, source: None, target: None, ..
        }) => rule.deny,
        _ => false,
    });
    profile.rules.iter().filter(move |rule| match &rule.kind {
        RuleKind::Mount(of) if !rule.deny && !denied && of.gives_other_names() => {
            let sources = || std::iter::once(path).chain(directories(path));
            of.source.as_ref().is_none_or(|source| sources().any(|name| source.matches(name)))
        }
        RuleKind::All => !rule.deny && !denied,
        _ => false,
    })
}

/// The directories above a path, with their slash, the root aside.
fn directories(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
    slashes.map(|(at, _)| &path[..=at])
}

fn may_be_renamed(profile: &ParsedProfile, directory: &[u8]) -> bool {
    let what = Access::File(FileAccess {
        path: directory.into(),
        op: FileOp::RenameFrom,
        perms: FilePerms::READ.or(FilePerms::WRITE),
        facts: FileFacts::default(),
    });
    let key = AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact };
    matches!(verdict(profile, &key), Verdict::Allowed(_))
}

/// Programs that leave the profile.
fn execs(profile: &ParsedProfile, all: &[ParsedProfile], findings: &mut Vec<Finding>) {
    for (rule, of) in files(profile, false) {
        let Some(transition) = &of.transition else { continue };
        let to = transition.to.as_ref();
        if transition.mode.contains('u') {
            findings.push(of_rule(&table::UNCONFINED_EXEC, rule, "programs run unconfined"));
        }
        if transition.mode.starts_with('c') {
            // With & the target is stacked on this profile; it and names of namespaces can be anywhere.
            let is_there = match to.map(Bytes::as_slice) {
                Some([b'&' | b':', ..]) => true,
                Some(name) => profile.inner.iter().any(|inner| inner.as_slice() == name),
                None => !profile.inner.is_empty(),
            };
            if !is_there {
                findings.push(of_rule(&table::MISSING_CHILD, rule, "there is no such child profile"));
            }
        }
        if transition.mode.starts_with('p') {
            let is_here = all.iter().any(|other| match to {
                Some(name) => other.name == *name,
                None => of.covers(other.name.as_slice()),
            });
            if !is_here {
                findings.push(of_rule(&table::PROFILE_ELSEWHERE, rule, "the profile is not in this file"));
            }
        }
    }
}

/// Places where what was written can be run.
fn writes_and_executes(profile: &ParsedProfile, findings: &mut Vec<Finding>) {
    let writes = |of: &FileRule| of.perms.contains(FilePerms::WRITE) || of.perms.contains(FilePerms::APPEND);
    let runs = |of: &FileRule| of.perms.contains(FilePerms::EXEC) || of.perms.contains(FilePerms::MMAP_EXEC);
    for (rule, of) in files(profile, false).filter(|(rule, of)| writes(of) && !is_everywhere(rule, of)) {
        let Some(path) = &of.path else { continue };
        let run = files(profile, false).find(|(_, other)| runs(other) && other.path.as_ref() == Some(path));
        let Some((run, _)) = run else { continue };
        let kind = if path.is_literal() { &table::WRITE_AND_EXECUTE_FILE } else { &table::WRITE_AND_EXECUTE };
        let what = if run.line == rule.line {
            "it may be written and executed".to_owned()
        } else {
            format!("it may be written, and executed by line {}", run.line)
        };
        findings.push(of_rule(kind, rule, &what));
    }
}

/// Whose signals reach the container.
fn signals(profile: &ParsedProfile, findings: &mut Vec<Finding>) {
    // abstractions/base lets those of unconfined processes in; what other includes grant is not known.
    let from_base = profile.includes.iter().any(|name| name == "abstractions/base");
    let from_elsewhere = profile.includes.iter().any(|name| name != "abstractions/base");
    let unclear =
        profile.rules.iter().any(|rule| matches!(rule.kind, RuleKind::Unjudged { scope: Scope::Signal, .. }));
    if from_elsewhere || unclear || profile.flags.lenient.is_some() {
        return;
    }
    let lets_in = |label: &[u8]| {
        profile.rules.iter().filter(|rule| !rule.deny).any(|rule| match &rule.kind {
            RuleKind::All => true,
            RuleKind::Signal(of) => {
                of.ways.suffers && of.has(SIGKILL) && of.peer.as_ref().is_none_or(|peer| peer.matches(label))
            }
            _ => false,
        })
    };
    let at = At::Line(profile.line);
    if !from_base && !lets_in(b"unconfined") {
        let what = "it lets in no signal of unconfined processes";
        findings.push(Finding::new(&table::NO_STOP_SIGNAL, at, what));
        return;
    }
    let missing: Vec<&str> =
        ["runc", "crun"].into_iter().filter(|label| !lets_in(label.as_bytes())).collect();
    if !missing.is_empty() && !profile.attaches {
        let what = format!("it lets in no signal of processes with the label {}", missing.join(" or "));
        findings.push(Finding::new(&table::NO_RUNTIME_SIGNAL, at, what));
    }
}

/// signal(7).
const SIGKILL: u8 = 9;
