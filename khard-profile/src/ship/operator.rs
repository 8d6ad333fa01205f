//! Owns a seccomp profile as a `SeccompProfile` of the security-profiles-operator. Knows nothing else of the operator.
//!
//! The form of its API's v1, since 1.0 the only one that stays (`api/seccompprofile/v1/seccompprofile_types.go`): a resource of the cluster,
//! without a field for `defaultErrnoRet`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Seccomp, ShipError, yaml};
use crate::recording::Abi;
use crate::seccomp::Arch;
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
    let known = ["defaultAction", "defaultErrnoRet", "architectures", "flags", "syscalls"];
    if let Some(other) = seccomp.profile.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(ShipError::NotForOperator(other.clone()));
    }
    let mut spec = seccomp.profile.clone();
    let default_errno = spec.remove("defaultErrnoRet").and_then(|errno| errno.as_i64()).unwrap_or(EPERM);
    let mut rules: Vec<Value> =
        spec.remove("syscalls").as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    for rule in &rules {
        let mut keys = rule.as_object().into_iter().flatten().map(|(key, _)| key);
        if let Some(other) = keys.find(|key| !["names", "action", "errnoRet", "args"].contains(&key.as_str()))
        {
            return Err(ShipError::NotForOperator(other.clone()));
        }
        let args = rule["args"].as_array().into_iter().flatten();
        let mut values = args.flat_map(|arg| ["value", "valueTwo"].map(|key| (key, &arg[key])));
        // The operator's are signed; seccomp's are not.
        if let Some((key, value)) = values.find(|(_, value)| value.is_u64() && !value.is_i64()) {
            return Err(ShipError::NotForOperator(format!("{key} {value}")));
        }
    }
    match (spec.get("defaultAction").and_then(Value::as_str), default_errno) {
        (Some("SCMP_ACT_ERRNO"), ENOSYS) => {
            let names = unnamed(&spec, &rules);
            rules.retain(|rule| !repeats_default(rule));
            if !names.is_empty() {
                rules.push(json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
            }
        }
        (Some("SCMP_ACT_ERRNO"), EPERM) => {}
        (Some("SCMP_ACT_ERRNO"), _) => return Err(ShipError::NotForOperator("defaultErrnoRet".to_owned())),
        _ => {}
    }
    spec.insert("syscalls".to_owned(), Value::Array(rules));
    Ok(json!({
        "apiVersion": "security-profiles-operator.x-k8s.io/v1",
        "kind": "SeccompProfile",
        "metadata": {"name": seccomp.name},
        "spec": spec,
    }))
}

/// Whether a rule says what the default says where it has no errno of its own. libseccomp refuses such a rule (EACCES, src/db.c).
fn repeats_default(rule: &Value) -> bool {
    let errno = rule.get("errnoRet").map_or(Some(EPERM), Value::as_i64);
    rule["action"] == "SCMP_ACT_ERRNO" && errno == Some(EPERM) && rule.get("args").is_none()
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
    let said: BTreeSet<String> = rules.iter().flat_map(|rule| strings(rule.get("names"))).collect();
    let listed = strings(profile.get("architectures"));
    let abis = Abi::ALL.into_iter().filter(|abi| listed.contains(&Arch::from(*abi).to_string()));
    let exists = |call: &&syscalls::Syscall| call.since != syscalls::Since::Never;
    let names = abis.flat_map(syscalls::of_abi).filter(exists).map(|call| call.name);
    names.filter(|name| !said.contains(*name)).collect()
}
