//! Owns what is looked for in the names of calls, and in entries that say nothing or contradict each other.

use std::collections::BTreeMap;

use super::super::table;
use super::super::{At, Finding, Libseccomp};
use super::view::View;
use crate::syscalls;

/// Calls of other architectures than khard's tables have, which libseccomp 2.5.4 knows (the names in its library that are in no table
/// of khard's), and `riscv_hwprobe` of 2.6.
#[rustfmt::skip]
const OF_OTHER_ARCHITECTURES: [&str; 33] = [
    "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cachectl", "cacheflush", "get_tls", "multiplexer",
    "pciconfig_iobase", "pciconfig_read", "pciconfig_write", "recv", "riscv_flush_icache", "riscv_hwprobe", "rtas",
    "s390_guarded_storage", "s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr", "s390_sthyi", "send",
    "set_tls", "spu_create", "spu_run", "subpage_prot", "swapcontext", "switch_endian", "sync_file_range2",
    "sys_debug_setcontext", "syscall", "sysmips", "timerfd", "usr26", "usr32",
];

pub(super) fn look(view: &View<'_>, libseccomp: &Libseccomp, findings: &mut Vec<Finding>) {
    let mut newer: Vec<&str> = Vec::new();
    let mut unconditional: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, rule) in view.profile.rules.iter().enumerate() {
        let at = || At::Entry(place);
        for name in rule.names.iter().map(String::as_str) {
            match syscalls::by_name(name) {
                Some(call) if !libseccomp.knows(call.name) => newer.push(name),
                None if !OF_OTHER_ARCHITECTURES.contains(&name) => findings.push(unknown(name, at())),
                _ => {}
            }
            if rule.conditions.is_empty() && rule.includes.is_empty() && rule.excludes.is_empty() {
                let first = *unconditional.entry(name).or_insert(place);
                let other = view.profile.rules[first].outcome;
                if other != rule.outcome {
                    let what = format!("{name}: {} here, and {other} by syscalls[{first}]", rule.outcome);
                    findings.push(Finding::new(&table::CONTRADICTION, at(), what));
                }
            }
        }
        if rule.outcome == view.profile.default && !rule.names.is_empty() {
            let what = format!("its calls get what they get by default: {}", rule.outcome);
            findings.push(Finding::new(&table::SAME_AS_DEFAULT, at(), what));
        }
    }
    newer.sort_unstable();
    newer.dedup();
    if !newer.is_empty() {
        let what = format!("names that {} does not know: {}", libseccomp.name, newer.join(", "));
        findings.push(Finding::new(&table::NEW_NAME, At::Profile, what));
    }
}

fn unknown(name: &str, at: At) -> Finding {
    let known = syscalls::all().map(|call| call.name);
    match closest(name, known) {
        Some(close) => {
            Finding::new(&table::UNKNOWN_NAME, at, format!("there is no call {name}: did you mean {close}?"))
        }
        None => Finding::new(&table::UNFAMILIAR_NAME, at, format!("khard knows no call {name}")),
    }
}

/// The known word that a misspelt one is nearest to, if it is near: at most two letters are other, and one in four.
pub(super) fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 4).clamp(1, 2);
    let word = word.strip_prefix("sys_").or_else(|| word.strip_prefix("__NR_")).unwrap_or(word);
    let near = known.filter(|known| known.len().abs_diff(word.len()) <= limit);
    let near = near.map(|known| (distance(word, known), known)).filter(|(distance, _)| *distance <= limit);
    near.min().map(|(_, known)| known)
}

/// As many letters must be put in, taken out or changed, capital ones aside.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<u8> = other.bytes().map(|letter| letter.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, letter) in one.bytes().map(|letter| letter.to_ascii_lowercase()).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], place + 1);
        for (column, known) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *known);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_misspelt_is_found_and_what_is_other_is_not() {
        let known = || ["openat", "open", "mkdir", "accept4"].into_iter();
        for (word, expected) in [
            ("opennat", Some("openat")),
            ("sys_mkdir", Some("mkdir")),
            ("Accept4", Some("accept4")),
            ("mkdr", Some("mkdir")),
            ("frobnicate", None),
            ("ab", None),
        ] {
            assert_eq!(closest(word, known()), expected, "{word}");
        }
    }

    #[test]
    fn a_call_of_another_architecture_is_in_no_table() {
        for name in OF_OTHER_ARCHITECTURES {
            assert!(syscalls::by_name(name).is_none(), "{name}");
        }
    }
}
