//! The kernel: its version, types, security modules, preemption, lockdown, cgroups, and what this process may do.
//!
//! Owns reading and parsing. Judges nothing.
use super::{
    Finding,
    kernel_fs::{DEBUGFS, SECURITYFS, TRACEFS},
};
use crate::{bpf::Btf, cgroup::CgroupTree};
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
            lsms: lsms(),
            preemption: preemption(&uname.version().to_string_lossy(), &read("/proc/cmdline")),
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
        Err(error) => Finding::Unknown(super::with_causes(&error)),
        Ok(btf) => {
            let missing =
                FIELDS.iter().filter(|field| btf.offset(field).is_err()).map(|field| field.name.to_owned());
            Finding::Known(BtfFacts { n_fields: FIELDS.len(), missing: missing.collect() })
        }
    }
}

fn lsms() -> Finding<Vec<String>> {
    match SECURITYFS.read("lsm") {
        Ok(text) => Finding::Known(text.trim().split(',').map(str::to_owned).collect()),
        Err(reason) => lsms_by_call().map_or(Finding::Unknown(reason), Finding::Known),
    }
}

/// Asks by `lsm_list_modules(2)`, which Linux has since 6.8 and which needs no file system.
fn lsms_by_call() -> Option<Vec<String>> {
    /// The call's number on every architecture; libc does not name it yet.
    const SYS_LSM_LIST_MODULES: libc::c_long = 461;
    /// include/uapi/linux/lsm.h, 6.18: numbers from 100 on.
    const NAMES: [&str; 14] = [
        "capability",
        "selinux",
        "smack",
        "tomoyo",
        "apparmor",
        "yama",
        "loadpin",
        "safesetid",
        "lockdown",
        "bpf",
        "landlock",
        "ima",
        "evm",
        "ipe",
    ];
    let mut ids = [0_u64; 64];
    let mut size = u32::try_from(size_of_val(&ids)).ok()?;
    // SAFETY: the kernel writes at most `size` bytes to `ids`, and the size that it needs to `size`.
    let n = unsafe { libc::syscall(SYS_LSM_LIST_MODULES, ids.as_mut_ptr(), &raw mut size, 0_u32) };
    let known = ids.get(..usize::try_from(n).ok()?)?.iter().map(|id| {
        let at = id.checked_sub(100).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| NAMES.get(at)).map_or_else(|| format!("lsm-{id}"), ToString::to_string)
    });
    Some(known.collect())
}

/// The mode in force. The kernel tells it in debugfs; what it was built with and told at boot decides it otherwise.
fn preemption(version: &str, cmdline: &str) -> Finding<String> {
    let bracketed = |text: &str| {
        let chosen = text.split_once('(')?.1.split_once(')')?.0;
        Some(chosen.to_owned())
    };
    let reason = match DEBUGFS.read("sched/preempt") {
        Ok(text) => match bracketed(&text) {
            Some(mode) => return Finding::Known(mode),
            None => "debugfs names no mode".to_owned(),
        },
        Err(reason) => reason,
    };
    preemption_by_build(version, cmdline).ok_or(reason).map_or_else(Finding::Unknown, Finding::Known)
}

/// From the build's words in `uname -v` (`scripts/mkcompile_h`, `init/Makefile`) and the boot option.
fn preemption_by_build(version: &str, cmdline: &str) -> Option<String> {
    let told = cmdline.split_whitespace().filter_map(|word| word.strip_prefix("preempt=")).next_back();
    let has = |flag: &str| version.split_whitespace().any(|word| word == flag);
    let built = match () {
        () if has("PREEMPT_RT") => Some("rt"),
        // The build's own default is nowhere to be read.
        () if has("PREEMPT_DYNAMIC") => return told.map(str::to_owned),
        () if has("PREEMPT_LAZY") => Some("lazy"),
        () if has("PREEMPT") => Some("full"),
        // "none" and "voluntary" are the same here: neither preempts a program.
        () => Some("none or voluntary"),
    };
    built.map(str::to_owned)
}

fn lockdown() -> Finding<String> {
    match SECURITYFS.read("lockdown") {
        Ok(text) => {
            let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            chosen.map_or(Finding::Unknown("no mode is marked".to_owned()), |(mode, _)| {
                Finding::Known(mode.to_owned())
            })
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
    fn the_preemption_mode_follows_from_build_and_boot_option() {
        let of = |version, cmdline| preemption_by_build(version, cmdline);
        assert_eq!(of("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "quiet preempt=full").as_deref(), Some("full"));
        assert_eq!(
            of("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "preempt=none preempt=lazy").as_deref(),
            Some("lazy")
        );
        assert_eq!(of("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "quiet"), None);
        assert_eq!(of("#1 SMP PREEMPT_RT", "preempt=full").as_deref(), Some("rt"));
        assert_eq!(of("#1 SMP PREEMPT", "").as_deref(), Some("full"));
        assert_eq!(of("#1 SMP Debian", "preempt=full").as_deref(), Some("none or voluntary"));
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert!(missing_capabilities("CapEff:\t000001ffffffffff\n").is_empty());
        assert_eq!(missing_capabilities("CapEff:\t000000c000000000\n"), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_capabilities("CapEff:\t0000000000000000\n").len(), 3);
        assert_eq!(missing_capabilities("").len(), 3);
    }

    #[test]
    fn the_call_and_the_file_name_the_same_modules() {
        if let (Ok(file), Some(mut call)) = (SECURITYFS.read("lsm"), lsms_by_call()) {
            let mut file: Vec<_> = file.trim().split(',').map(str::to_owned).collect();
            file.sort();
            call.sort();
            assert_eq!(file, call);
        }
    }
}
