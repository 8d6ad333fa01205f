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
    io::Read,
    os::unix::fs::OpenOptionsExt,
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
        Err(error) => Finding::Unknown(crate::causes::with_causes(&error)),
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

/// The mode in force: as debugfs tells it (lockdown may forbid that), as the kernel's log told it at boot and at each
/// change since, or as it must be by build and boot option.
fn preemption(version: &str, cmdline: &str) -> Finding<String> {
    let from_debugfs = DEBUGFS.read("sched/preempt");
    let chosen = from_debugfs.as_ref().ok().and_then(|text| between(text, '(', ')'));
    let mode = chosen.map(str::to_owned);
    let mode = mode.or_else(|| kernel_log(dynamic_mode)).or_else(|| preemption_by_build(version, cmdline));
    mode.map_or_else(
        || Finding::Unknown(from_debugfs.err().unwrap_or_else(|| "debugfs marks no mode".to_owned())),
        Finding::Known,
    )
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    Some(text.split_once(open)?.1.split_once(close)?.0)
}

/// kernel/sched/core.c, `__sched_dynamic_update`, 5.12 to 6.18.
fn dynamic_mode(message: &str) -> Option<String> {
    Some(message.strip_prefix("Dynamic Preempt: ")?.trim_end().to_owned())
}

/// The last message of the kernel's log that means something, as far back as the log goes.
fn kernel_log<T>(meaning: impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut log = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut last = None;
    let mut record = [0; 8192];
    loop {
        // Each read gives one record (Documentation/ABI/testing/dev-kmsg): "level,number,time,flags;message".
        match log.read(&mut record) {
            Ok(0) => return last,
            Ok(n) => {
                let text = String::from_utf8_lossy(&record[..n]);
                let message = text.split_once(';').map_or("", |(_, message)| message);
                last = message.lines().next().and_then(&meaning).or(last);
            }
            // Older records were overwritten meanwhile: reading goes on with those that are left.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return last,
        }
    }
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
    fn modes_are_read_as_the_kernel_marks_them() {
        assert_eq!(between("none voluntary (full) lazy\n", '(', ')'), Some("full"));
        assert_eq!(between("none [integrity] confidentiality\n", '[', ']'), Some("integrity"));
        assert_eq!(between("nothing marked", '(', ')'), None);
        assert_eq!(dynamic_mode("Dynamic Preempt: lazy\n").as_deref(), Some("lazy"));
        assert_eq!(dynamic_mode("rcu: Preemptible hierarchical RCU implementation."), None);
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
