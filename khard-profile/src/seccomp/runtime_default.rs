//! Owns what the runtimes' default profile allows: what a container gets that names `RuntimeDefault`. Knows no recording.

use std::{collections::BTreeMap, sync::LazyLock};

/// What `RuntimeDefault` does with a call of a container without added capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeDefault {
    /// Lets it through.
    Allows,
    /// Lets it through with some arguments: of clone(2) what makes no namespace, of personality(2) five values.
    WithSomeArguments,
    /// Refuses it.
    Refuses,
}

static ALLOWED: LazyLock<BTreeMap<&str, RuntimeDefault>> = LazyLock::new(|| {
    let lines = include_str!("../../data/runtime-default.txt").lines();
    let calls = lines.filter(|line| !line.starts_with('#'));
    calls
        .map(|line| match line.strip_suffix('?') {
            Some(name) => (name, RuntimeDefault::WithSomeArguments),
            None => (line, RuntimeDefault::Allows),
        })
        .collect()
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
        assert_eq!(runtime_default("read"), RuntimeDefault::Allows);
        assert_eq!(runtime_default("clone"), RuntimeDefault::WithSomeArguments);
        for name in ["mount", "unshare", "clone3", "bpf", "no such call"] {
            assert_eq!(runtime_default(name), RuntimeDefault::Refuses, "{name}");
        }
        for name in ALLOWED.keys() {
            assert!(syscalls::by_name(name).is_some(), "{name}");
        }
    }
}
