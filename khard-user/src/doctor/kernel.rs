//! The kernel: its version, types, security modules, preemption, lockdown, cgroups, and what this process may do.
//!
//! Owns reading and parsing. Judges nothing.
use super::Finding;
use crate::{
    bpf::Btf,
    cgroup::CgroupTree,
    kernel::{
        fs::{SECURITYFS, TRACEFS, between},
        preemption, security_modules,
    },
};
use khard_common::fields::FIELDS;
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the kernel is and allows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct KernelFacts {
    /// As `uname -r`.
    pub(crate) release: String,
    /// As `uname -m`.
    pub(crate) machine: String,
    /// The kernel's type information: how many of the fields that khard reads are in it.
    pub(crate) btf: Finding<BtfFacts>,
    /// The security modules, in the order they are asked.
    pub(crate) lsms: Finding<Vec<String>>,
    /// `none`, `voluntary`, `full`, `lazy` or `rt`.
    pub(crate) preemption: Finding<String>,
    /// `none`, `integrity` or `confidentiality`.
    pub(crate) lockdown: Finding<String>,
    /// Whether `AppArmor` is on.
    pub(crate) apparmor: bool,
    /// Actions that seccomp filters may take; empty without seccomp filters.
    pub(crate) seccomp_actions: Vec<String>,
    /// Whether tracefs is where programs look for it.
    pub(crate) tracefs_mounted: bool,
    /// The cgroup trees.
    pub(crate) cgroups: CgroupFacts,
    /// What this process may do.
    pub(crate) privileges: PrivilegeFacts,
}

/// Fields of the kernel's structs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BtfFacts {
    /// How many khard reads.
    pub(crate) n_fields: usize,
    /// Those that this kernel does not have.
    pub(crate) missing: Vec<String>,
}

/// How the cgroup trees are laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CgroupFacts {
    /// `unified`: v2 alone; `hybrid`: both; `legacy`: v1 alone; `none`.
    pub(crate) layout: &'static str,
    /// Where the v2 tree is.
    pub(crate) v2: Option<PathBuf>,
}

/// This process's rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PrivilegeFacts {
    /// Its effective user id.
    pub(crate) uid: u32,
    /// The capabilities that recording needs and it has not.
    pub(crate) missing_capabilities: Vec<&'static str>,
}

/// What recording needs, by number (include/uapi/linux/capability.h): programs and maps; their attachment and kernel
/// reads; containers' namespaces and cgroup file handles.
const NEEDED_CAPABILITIES: [(u32, &str); 3] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (21, "CAP_SYS_ADMIN")];

impl KernelFacts {
    pub(super) fn gather() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            machine: uname.machine().to_string_lossy().into_owned(),
            btf: btf(),
            lsms: security_modules().into(),
            preemption: preemption().into(),
            lockdown: lockdown(),
            apparmor: read("/sys/module/apparmor/parameters/enabled").trim() == "Y",
            seccomp_actions: words(&read("/proc/sys/kernel/seccomp/actions_avail")),
            tracefs_mounted: TRACEFS.is_mounted() || Path::new("/sys/kernel/debug/tracing/events").is_dir(),
            cgroups: cgroups(&read("/proc/self/mounts")),
            privileges: PrivilegeFacts {
                uid: rustix::process::geteuid().as_raw(),
                missing_capabilities: missing_capabilities(&read("/proc/self/status")),
            },
            release,
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn btf() -> Finding<BtfFacts> {
    match Btf::of_kernel() {
        Err(error) => Finding::Unknown(crate::causes::with_causes(&error)),
        Ok(btf) => {
            let missing =
                FIELDS.iter().filter(|field| btf.offset(field).is_err()).map(|field| field.name.to_owned());
            Finding::Known(BtfFacts { n_fields: FIELDS.len(), missing: missing.collect() })
        }
    }
}

fn lockdown() -> Finding<String> {
    match SECURITYFS.read("lockdown") {
        Ok(text) => {
            let mode = between(&text, '[', ']').map(str::to_owned);
            mode.map_or_else(|| Finding::Unknown("no mode is marked".to_owned()), Finding::Known)
        }
        Err(reason) => Finding::Unknown(reason),
    }
}

fn cgroups(mounts: &str) -> CgroupFacts {
    let has_v1 = mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup"));
    let v2 = CgroupTree::find().ok().map(|tree| tree.mount().to_owned());
    let layout = match (&v2, has_v1) {
        (Some(_), false) => "unified",
        (Some(_), true) => "hybrid",
        (None, true) => "legacy",
        (None, false) => "none",
    };
    CgroupFacts { layout, v2 }
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    NEEDED_CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|&(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_the_kernel_marks_them() {
        assert_eq!(between("none [integrity] confidentiality\n", '[', ']'), Some("integrity"));
        assert_eq!(between("nothing marked", '(', ')'), None);
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert!(missing_capabilities("CapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(missing_capabilities("CapEff:\t000000c000000000\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_capabilities("CapEff:\t0000000000000000\n").len(), 3);
        assert_eq!(missing_capabilities("").len(), 3);
    }
}
