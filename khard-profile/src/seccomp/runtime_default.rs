//! Owns what the runtimes' default profile allows: what a container gets that names `RuntimeDefault`. Knows no recording.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

/// containerd's `RuntimeDefault` on x86-64 and arm64, as a profile in Docker's form. Where it is from stands in it.
pub const RUNTIME_DEFAULT_PROFILE: &str = include_str!("../../data/runtime-default.json");

/// Which one that is.
pub const RUNTIME_DEFAULT_VERSION: &str = "containerd 2.1.9";

/// The capabilities of a container that nobody gave or took any (containerd 2.1.9, pkg/oci/spec.go; the same in Docker).
#[rustfmt::skip]
pub const DEFAULT_CAPS: [&str; 14] = [
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
];

/// What `RuntimeDefault` does with a call of a container without added capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeDefault {
    /// Lets it through.
    Allows,
    /// Lets it through with some arguments: of clone(2) what makes no namespace, of personality(2) five values, of socket(2)
    /// all families but two.
    WithSomeArguments,
    /// Refuses it.
    Refuses,
}

static ALLOWED: LazyLock<BTreeMap<String, RuntimeDefault>> = LazyLock::new(|| {
    let profile: Value = serde_json::from_str(RUNTIME_DEFAULT_PROFILE).unwrap_or_default();
    let entries = profile["syscalls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let needs_no_more = |entry: &&Value| {
        let caps = entry["includes"]["caps"].as_array().map(Vec::as_slice).unwrap_or_default();
        caps.iter().all(|cap| cap.as_str().is_some_and(|cap| DEFAULT_CAPS.contains(&cap)))
    };
    let mut allowed = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry["action"] == "SCMP_ACT_ALLOW").filter(needs_no_more) {
        let how = match entry["args"] {
            Value::Null => RuntimeDefault::Allows,
            _ => RuntimeDefault::WithSomeArguments,
        };
        for name in entry["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            allowed.insert(name.to_owned(), how);
        }
    }
    allowed
});

/// What containerd's `RuntimeDefault` does with a call, by name.
pub fn runtime_default(name: &str) -> RuntimeDefault {
    ALLOWED.get(name).copied().unwrap_or(RuntimeDefault::Refuses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls;

    #[test]
    fn what_makes_namespaces_and_mounts_is_refused_and_every_name_is_a_call() {
        for name in ["read", "ptrace", "arch_prctl", "chroot"] {
            assert_eq!(runtime_default(name), RuntimeDefault::Allows, "{name}");
        }
        for name in ["clone", "personality", "socket"] {
            assert_eq!(runtime_default(name), RuntimeDefault::WithSomeArguments, "{name}");
        }
        for name in ["mount", "unshare", "clone3", "bpf", "io_uring_setup", "mbind", "no such call"] {
            assert_eq!(runtime_default(name), RuntimeDefault::Refuses, "{name}");
        }
        for name in ALLOWED.keys() {
            assert!(syscalls::by_name(name).is_some(), "{name}");
        }
    }
}
