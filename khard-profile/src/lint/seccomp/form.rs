//! Owns what is looked for in a profile's JSON before it means anything: keys, errnos, what other consumers would refuse or drop.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::table;
use super::super::{At, Finding};
use super::names::closest;
use crate::check::keys;

/// KEP-6061, "Profile size limits": what runtimes take by default.
const ARTIFACT_BYTES: usize = 1 << 20;
/// kubernetes-sigs/security-profiles-merger, seccomp/validate.go: `MaxArtifactEntriesPerSyscall`, named in the KEP too.
const ENTRIES_OF_CALL: usize = 128;
/// The same file: `MaxArtifactNamesPerEntry`.
const NAMES_OF_ENTRY: usize = 1024;
/// The same file: `MaxArtifactClausesPerSyscall`.
const RULES_OF_CALL: usize = 256;
/// The same file: `MaxArtifactClauses`.
const RULES: usize = 16_384;
/// The same file: `maxErrno`, the kernel's `MAX_ERRNO`.
const LARGEST_ERRNO: u64 = 4095;
/// seccomp(2), as the OCI runtime specification names them.
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Takes the keys out that no runtime knows, and tells of them.
pub(super) fn take_unknown_keys(profile: &mut Value, findings: &mut Vec<Finding>) {
    take(profile, keys::PROFILE, &At::Profile, "", findings);
    for map in items(profile.get_mut("archMap")) {
        take(map, keys::ARCH_MAP, &At::Key("archMap".to_owned()), "", findings);
    }
    for (place, entry) in items(profile.get_mut("syscalls")).iter_mut().enumerate() {
        let at = At::Entry(place);
        take(entry, keys::ENTRY, &at, "", findings);
        for condition in items(entry.get_mut("args")) {
            take(condition, keys::CONDITION, &at, "args.", findings);
        }
        for filter in ["includes", "excludes"] {
            if let Some(filter_value) = entry.get_mut(filter) {
                take(filter_value, keys::FILTER, &at, &format!("{filter}."), findings);
            }
        }
    }
}

fn items(list: Option<&mut Value>) -> &mut [Value] {
    list.and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

fn take(value: &mut Value, known: &[&str], at: &At, within: &str, findings: &mut Vec<Finding>) {
    let Some(object) = value.as_object_mut() else { return };
    let written_otherwise = |key: &String| {
        let known = known.iter().find(|known| known.eq_ignore_ascii_case(key) && *known != key)?;
        Some((key.clone(), *known))
    };
    let renamed: Vec<_> = object.keys().filter_map(written_otherwise).collect();
    for (key, known) in renamed {
        // As runc has it. Of two the last in the text counts there, which is not known here any more.
        if let Some(of_key) = object.remove(&key) {
            object.entry(known).or_insert(of_key);
        }
        let what = format!("the key {within}{known} is written {key}");
        findings.push(Finding::new(&table::OTHER_CASE, at.clone(), what));
    }
    object.retain(|key, _| {
        let is_known = known.contains(&key.as_str());
        if !is_known {
            let hint = closest(key, known.iter().copied()).map(|close| format!(": did you mean {close}?"));
            let what = format!("unknown key {within}{key}{}", hint.unwrap_or_default());
            findings.push(Finding::new(&table::UNKNOWN_KEY, at.clone(), what));
        }
        is_known
    });
}

/// Looks at a profile that could be read, of so many bytes.
pub(super) fn look(profile: &Value, n_bytes: usize, findings: &mut Vec<Finding>) {
    let empty = Map::new();
    let top = profile.as_object().unwrap_or(&empty);
    let entries = list(profile.get("syscalls"));
    let mut errnos =
        vec![(At::Key("defaultErrnoRet".to_owned()), &profile["defaultAction"], top.get("defaultErrnoRet"))];
    let mut docker = Vec::new();
    docker.extend(holds(top.get("archMap")).then_some("archMap"));
    for (place, entry) in entries.iter().enumerate() {
        errnos.push((At::Entry(place), &entry["action"], entry.get("errnoRet")));
        let is_named =
            holds(entry.get("names")) || entry["name"].as_str().is_some_and(|name| !name.is_empty());
        if !is_named {
            findings.push(Finding::new(&table::EMPTY_ENTRY, At::Entry(place), "the entry names no call"));
        }
        for key in ["includes", "excludes"] {
            let has =
                entry[key].as_object().is_some_and(|filter| filter.values().any(|value| holds(Some(value))));
            if has && !docker.contains(&key) {
                docker.push(key);
            }
        }
    }
    for (at, action, errno) in errnos {
        let returns_one = matches!(action.as_str(), Some("SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE"));
        if let Some(errno) = errno.filter(|errno| !errno.is_null() && !returns_one) {
            let action = action.as_str().unwrap_or_default();
            let what = format!("an errno ({errno}) with {action}");
            findings.push(Finding::new(&table::ERRNO_ON_OTHER_ACTION, at, what));
        } else if action == "SCMP_ACT_ERRNO" {
            findings.extend(errno.and_then(Value::as_u64).and_then(|errno| of_errno(errno, at)));
        }
    }
    let notified = entries.iter().position(|entry| entry["action"] == "SCMP_ACT_NOTIFY");
    if let Some(place) = notified.filter(|_| !holds(top.get("listenerPath"))) {
        let what = "SCMP_ACT_NOTIFY without listenerPath, which runc asks for";
        findings.push(Finding::new(&table::RUNTIME_REFUSES, At::Entry(place), what));
    }
    let flags = list(top.get("flags"));
    let at = || At::Key("flags".to_owned());
    for flag in flags.iter().filter(|flag| !flag.as_str().is_some_and(|flag| FLAGS.contains(&flag))) {
        let what = format!("there is no flag {flag}");
        findings.push(Finding::new(&table::RUNTIME_REFUSES, at(), what));
    }
    if !flags.is_empty() {
        findings.push(Finding::new(&table::FLAGS, at(), "it has flags"));
    }
    if !docker.is_empty() {
        let what = format!("it is in Docker's form: {}", docker.join(", "));
        findings.push(Finding::new(&table::DOCKER_FORM, At::Profile, what));
    }
    let refused = as_artifact(top, entries, n_bytes);
    if !refused.is_empty() {
        let what = "it cannot be an OCI artifact as KEP-6061 has them";
        findings.push(Finding::new(&table::KEP_6061, At::Profile, what).with(refused));
    }
}

/// What is wrong with an errno that `SCMP_ACT_ERRNO` returns.
fn of_errno(errno: u64, at: At) -> Option<Finding> {
    // libseccomp puts the lowest 16 bits into the filter, and refuses MAX_ERRNO and above (db_action_valid(), src/db.c); runc 1.1.5
    // did both.
    match errno & 0xffff {
        LARGEST_ERRNO.. => {
            let what =
                format!("the errno {errno}: the greatest that libseccomp takes is {}", LARGEST_ERRNO - 1);
            Some(Finding::new(&table::RUNTIME_REFUSES, at, what))
        }
        0 => Some(Finding::new(&table::ERRNO_ZERO, at, format!("calls are answered with errno {errno}"))),
        _ => None,
    }
}

/// The items of a list; none of what is no list.
fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// True for what is there and not empty.
fn holds(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// Why the profile would be refused as an artifact.
fn as_artifact(top: &Map<String, Value>, entries: &[Value], n_bytes: usize) -> Vec<String> {
    let mut why = Vec::new();
    let mut of_call: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut n_rules = 0;
    for (place, entry) in entries.iter().enumerate() {
        let args = list(entry.get("args"));
        let repeats = (0..6_u64).any(|index| args.iter().filter(|arg| arg["index"] == index).count() > 1);
        let n_of_name = if repeats { args.len() } else { 1 };
        let names = list(entry.get("names"));
        if names.len() > NAMES_OF_ENTRY {
            why.push(format!("syscalls[{place}] has {} names, more than {NAMES_OF_ENTRY}", names.len()));
        }
        for name in names.iter().filter_map(Value::as_str) {
            let (n_entries, n_of_call) = of_call.entry(name).or_default();
            *n_entries += 1;
            *n_of_call += n_of_name;
            n_rules += n_of_name;
        }
        if entry["action"] == "SCMP_ACT_NOTIFY" {
            why.push(format!("syscalls[{place}] uses SCMP_ACT_NOTIFY"));
        }
        if entry["errnoRet"].as_u64().is_some_and(|errno| errno > LARGEST_ERRNO) {
            why.push(format!("the errno of syscalls[{place}] is above {LARGEST_ERRNO}"));
        }
    }
    for (name, (n_entries, n_of_call)) in of_call {
        if n_entries > ENTRIES_OF_CALL {
            why.push(format!("{n_entries} entries name {name}, more than {ENTRIES_OF_CALL}"));
        } else if n_of_call > RULES_OF_CALL {
            why.push(format!("{name} has {n_of_call} rules, more than {RULES_OF_CALL}"));
        }
    }
    if n_rules > RULES {
        why.push(format!("it makes {n_rules} rules, more than {RULES}"));
    }
    if n_bytes > ARTIFACT_BYTES {
        why.push(format!("it has {n_bytes} bytes, more than {ARTIFACT_BYTES}"));
    }
    for key in ["listenerPath", "listenerMetadata"] {
        if holds(top.get(key)) {
            why.push(format!("it sets {key}"));
        }
    }
    let flags = list(top.get("flags"));
    if flags.iter().any(|flag| flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") {
        why.push("it sets SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".to_owned());
    }
    why
}
