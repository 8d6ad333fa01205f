//! Owns what is looked for in conditions on arguments, and in ways around them.

use std::collections::BTreeMap;

use super::super::table;
use super::super::{At, Finding};
use super::view::{Open, View};
use crate::recording::Abi;

pub(super) fn look(view: &View<'_>, findings: &mut Vec<Finding>) {
    let unconditional = unconditional(view);
    for (place, rule) in view.profile.rules.iter().enumerate() {
        let n = rule.conditions.len();
        if n > 6 {
            let what = format!("it has {n} conditions");
            findings.push(Finding::new(&table::TOO_MANY_CONDITIONS, At::Entry(place), what));
        }
        let repeated = (0..6_u8)
            .find(|index| rule.conditions.iter().filter(|condition| condition.index == *index).count() > 1);
        if let Some(index) = repeated {
            let all: Vec<String> = rule.conditions.iter().map(ToString::to_string).collect();
            let what = format!("several conditions on argument {index}: it means {}", all.join(" or "));
            findings.push(Finding::new(&table::REPEATED_ARGUMENT, At::Entry(place), what));
        }
        if n > 0 {
            overridden(view, place, &unconditional, findings);
        }
    }
    clone3(view, findings);
    socketcall(view, findings);
    io_uring(view, findings);
}

/// The entries that decide on a call whatever its arguments are.
fn unconditional<'a>(view: &View<'a>) -> BTreeMap<&'a str, usize> {
    let rules = view.profile.rules.iter().enumerate().filter(|(_, rule)| {
        let always = rule.includes.is_empty() && rule.excludes.is_empty();
        always && rule.conditions.is_empty() && rule.outcome != view.profile.default
    });
    rules.flat_map(|(place, rule)| rule.names.iter().map(move |name| (name.as_str(), place))).collect()
}

/// Conditions that mean nothing, since another entry decides whatever they say.
fn overridden(
    view: &View<'_>,
    place: usize,
    unconditional: &BTreeMap<&str, usize>,
    findings: &mut Vec<Finding>,
) {
    let rule = &view.profile.rules[place];
    for name in &rule.names {
        if let Some(other) = unconditional.get(name.as_str()) {
            let what = format!("the conditions for {name} are void: syscalls[{other}] names it without any");
            findings.push(Finding::new(&table::CONDITION_OVERRIDDEN, At::Entry(place), what));
        }
    }
}

/// The entry whose conditions decide on a call.
fn conditional(view: &View<'_>, name: &str) -> Option<usize> {
    let decides = view.native_open(name) == Some(Open::Sometimes);
    let entry = view.entries(name).find(|(_, rule)| !rule.conditions.is_empty());
    entry.map(|(place, _)| place).filter(|_| decides)
}

fn clone3(view: &View<'_>, findings: &mut Vec<Finding>) {
    if let Some(place) = conditional(view, "clone")
        && view.native_open("clone3") == Some(Open::Always)
    {
        let what = "the flags of clone are looked at, and clone3, whose flags lie in memory, is allowed";
        let fix = "answer clone3 with SCMP_ACT_ERRNO and errnoRet 38, so that libcs use clone".to_owned();
        findings.push(Finding::new(&table::ARGUMENTS_VOIDED, At::Entry(place), what).with(vec![fix]));
    }
}

/// libseccomp makes a rule for socketcall(2) of each one for socket(2), without its conditions on the family, which lies in memory.
fn socketcall(view: &View<'_>, findings: &mut Vec<Finding>) {
    let is_open = view.open_in(Abi::Ia32, "socketcall").is_some_and(|open| !open.is_never());
    let by_socketcall = is_open && !view.is_deny_list();
    if let Some(place) = conditional(view, "socket").filter(|_| by_socketcall) {
        let what = "the arguments of socket are looked at, and 32-bit programs can use socketcall, whose arguments lie in memory";
        let fix = "take SCMP_ARCH_X86 out, or answer socketcall with another errno than the default action does (an equal entry is skipped)";
        findings
            .push(Finding::new(&table::ARGUMENTS_VOIDED, At::Entry(place), what).with(vec![fix.to_owned()]));
    }
}

/// What a request in a ring can do, by the call that it stands for (`io_uring_enter(2)`, liburing 2.9).
#[rustfmt::skip]
const IN_A_RING: [&str; 24] = [
    "accept", "accept4", "bind", "connect", "creat", "listen", "open", "openat", "openat2", "sendmsg", "sendto", "socket",
    "fsetxattr", "ftruncate", "link", "linkat", "mkdir", "mkdirat", "rename", "renameat", "symlink", "symlinkat", "unlink",
    "unlinkat",
];

fn io_uring(view: &View<'_>, findings: &mut Vec<Finding>) {
    if view.native_open("io_uring_setup").is_none_or(Open::is_never) {
        return;
    }
    let never = |name: &&str| view.native_open(name).is_some_and(Open::is_never);
    // Of calls that do the same, one that is allowed lets a program do it anyway.
    let mut refused: Vec<&str> = IN_A_RING.iter().copied().filter(never).collect();
    if !view.is_deny_list() {
        refused.retain(|name| {
            super::twins::of(name).all(|twin| view.native_open(twin).is_none_or(Open::is_never))
        });
    }
    let argued = conditional(view, "socket");
    if let Some(place) = argued {
        let what = "the arguments of socket are looked at, and io_uring_setup is allowed";
        findings.push(Finding::new(&table::IO_URING_BYPASS, At::Entry(place), what));
    }
    if !refused.is_empty() {
        let kind = if view.is_deny_list() { &table::IO_URING_BYPASS } else { &table::IO_URING_BESIDE };
        let what = format!("io_uring_setup is allowed, and these are refused: {}", refused.join(", "));
        findings.push(Finding::new(kind, At::Profile, what));
    }
}
