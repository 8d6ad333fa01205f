//! Owns a seccomp profile as a `SeccompProfile` of the security-profiles-operator. Knows nothing else of the operator.
//!
//! The form of its API's v1, since 1.0 the only one that stays (api/seccompprofile/v1/seccompprofile_types.go): a resource of the cluster,
//! without a field for `defaultErrnoRet`. There is no such form of khard's AppArmor profiles: an `AppArmorProfile` takes no text, and its
//! lists cannot say most rules (api/apparmorprofile/v1/apparmorprofile_types.go).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Seccomp, ShipError, yaml};
use crate::syscalls;

/// What calls get that a kernel does not have (include/uapi/asm-generic/errno.h).
const ENOSYS: i64 = 38;
/// What a runtime takes where a profile names no errno (OCI runtime specification, config-linux.md).
const EPERM: i64 = 1;

/// The resource as a document.
pub(super) fn document(seccomp: &Seccomp) -> Result<String, ShipError> {
    let head = [
        format!("The seccomp profile {}, for the security-profiles-operator (1.0 or later).", seccomp.name),
        "It has no word for the default errno, which is EPERM then. Calls that khard knows and the profile refuses with ENOSYS are named".to_owned(),
        "instead; those that are newer get ENOSYS from runc (1.0 or later), and EPERM from others.".to_owned(),
    ];
    let has_default = seccomp.profile.get("defaultErrnoRet").is_some_and(|errno| *errno != json!(EPERM));
    Ok(yaml::document(&head[..if has_default { 3 } else { 1 }], &resource(seccomp)?))
}

/// The resource.
fn resource(seccomp: &Seccomp) -> Result<Value, ShipError> {
    let mut spec = Map::new();
    let mut default_errno = None;
    for (key, value) in &seccomp.profile {
        match key.as_str() {
            "defaultAction" | "architectures" | "flags" => drop(spec.insert(key.clone(), value.clone())),
            "defaultErrnoRet" => default_errno = value.as_i64(),
            "syscalls" => {}
            other => return Err(ShipError::NotForOperator(other.to_owned())),
        }
    }
    let is_errno = |rule: &Value, key: &str| rule.get(key).is_some_and(|action| action == "SCMP_ACT_ERRNO");
    let default_is_errno =
        seccomp.profile.get("defaultAction").is_some_and(|action| action == "SCMP_ACT_ERRNO");
    let mut rules: Vec<Value> =
        seccomp.profile.get("syscalls").and_then(Value::as_array).cloned().unwrap_or_default();
    if default_is_errno && let Some(errno) = default_errno.filter(|errno| *errno != EPERM) {
        if errno != ENOSYS {
            return Err(ShipError::NotForOperator("defaultErrnoRet".to_owned()));
        }
        // What the default says now. libseccomp refuses a rule that repeats it (EACCES, src/db.c).
        let names = unnamed(&seccomp.profile, &rules);
        rules.retain(|rule| {
            !is_errno(rule, "action")
                || rule.get("errnoRet").is_some_and(|errno| *errno != json!(EPERM))
                || rule.get("args").is_some()
        });
        if !names.is_empty() {
            rules.push(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
        }
    }
    for rule in &rules {
        let keys = rule.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        if let Some(other) =
            keys.into_iter().find(|key| !["names", "action", "errnoRet", "args"].contains(key))
        {
            return Err(ShipError::NotForOperator(other.to_owned()));
        }
    }
    spec.insert("syscalls".to_owned(), Value::Array(rules));
    Ok(json!({
        "apiVersion": "security-profiles-operator.x-k8s.io/v1",
        "kind": "SeccompProfile",
        "metadata": {"name": seccomp.name},
        "spec": spec,
    }))
}

/// The calls of the profile's architectures that no rule names.
fn unnamed(profile: &Map<String, Value>, rules: &[Value]) -> BTreeSet<&'static str> {
    let strings = |value: Option<&Value>| -> BTreeSet<String> {
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let named: BTreeSet<String> = rules.iter().flat_map(|rule| strings(rule.get("names"))).collect();
    let architectures = strings(profile.get("architectures"));
    let abis = crate::recording::Abi::ALL
        .into_iter()
        .filter(|abi| architectures.contains(&crate::seccomp::Arch::from(*abi).to_string()));
    let exists = |call: &&syscalls::Syscall| call.since != syscalls::Since::Never;
    let names = abis.flat_map(syscalls::of_abi).filter(exists).map(|call| call.name);
    names.filter(|name| !named.contains(*name)).collect()
}
