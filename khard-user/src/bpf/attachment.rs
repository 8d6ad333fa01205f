//! By what means each hook is watched on this kernel. Owns the choice; loading is `load`'s.

use khard_profile::recording::{Attachment, Class};
use serde::{Deserialize, Serialize};

use super::{
    hooks::{COPIES, HOOKS, Hook},
    plan::{KernelVersion, PROGRAMS_PREEMPTED_SINCE},
    programs::{AttachPoint, Program, Role},
};
use crate::kernel;

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachChoice {
    /// The best that the kernel offers, class by class.
    #[default]
    Auto,
    /// BPF LSM, or nothing.
    Lsm,
    /// The end of `security_*` functions, or nothing.
    Fexit,
    /// System calls, or nothing.
    Syscall,
    /// Nothing: system calls are recorded, accesses are not.
    None,
}

/// How one hook, or what stands in for it, is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// By these programs, each of which sees every event that the kernel does not skip it for.
    By {
        /// How.
        attachment: Attachment,
        /// Their names.
        programs: Vec<&'static str>,
    },
    /// This kernel has no such hook, and another one sees the same.
    Absent,
    /// Not at all.
    Not {
        /// In words.
        reason: String,
    },
}

/// Every hook with how it is watched.
pub type Watching = Vec<(&'static Hook, Watched)>;

/// Whether BPF LSM programs run at all. Without `bpf` in the kernel's list they load and attach without an error, and never run.
///
/// # Errors
/// In words: the list is not known.
pub fn bpf_lsm_runs() -> Result<bool, String> {
    Ok(kernel::security_modules()?.iter().any(|name| name == "bpf"))
}

/// How many copies of a program at a function's end are needed. Such programs are skipped while another task is preempted
/// inside of one, which the kernel allows when it was built or started for full preemption, and since 7.0 by default.
pub(super) fn n_copies(kernel: KernelVersion, preempts_fully: bool) -> usize {
    if preempts_fully || kernel >= PROGRAMS_PREEMPTED_SINCE { COPIES } else { 1 }
}

/// Whether tasks are preempted anywhere in the kernel.
pub(super) fn preempts_fully() -> bool {
    kernel::preemption().is_ok_and(|mode| matches!(mode.as_str(), "full" | "rt"))
}

/// Whether the running kernel may skip programs at functions' ends, so that copies are attached, and what all of them missed bounds
/// the loss.
pub fn skips_fexit() -> bool {
    KernelVersion::running().is_some_and(|kernel| n_copies(kernel, preempts_fully()) > 1)
}

/// What stands in for a hook where the kernel refuses programs there.
pub(super) fn beside(hook: &Hook) -> Result<(Attachment, &'static Program), &'static str> {
    let by = |attachment, name: &str| {
        let program = BESIDE.iter().find(|program| program.name == name);
        program.map(|program| (attachment, program)).ok_or("khard has no such program")
    };
    match hook.name {
        "file_receive" => Err("no system call tells which descriptors come with a message"),
        "file_mprotect" => Err("mprotect(2) names memory, not the file that is mapped there"),
        "cred_prepare" => Err("system calls do not tell what the kernel opens for itself"),
        "uring_override_creds" => Err("io_uring's requests are no system calls"),
        "bprm_creds_for_exec" => by(Attachment::Tracepoint, "exec"),
        "capable" => by(Attachment::Tracepoint, "cap_capable"),
        "task_kill" => by(Attachment::Tracepoint, "signal_generate"),
        _ => by(Attachment::Syscall, "sys_exit"),
    }
}

/// The programs that stand in for hooks.
pub(super) static BESIDE: &[Program] = &[
    Program {
        name: "sys_exit",
        role: Role::Accesses,
        at: AttachPoint::Btf("sys_exit"),
        without_it: "accesses are not seen",
    },
    Program {
        name: "exec",
        role: Role::Accesses,
        at: AttachPoint::Raw("sched_process_exec"),
        without_it: "started programs are not seen",
    },
    Program {
        name: "cap_capable",
        role: Role::Accesses,
        // Since 6.14 (include/trace/events/capability.h).
        at: AttachPoint::Raw("cap_capable"),
        without_it: "capabilities are not seen",
    },
    Program {
        name: "signal_generate",
        role: Role::Accesses,
        at: AttachPoint::Raw("signal_generate"),
        without_it: "signals are not seen",
    },
];

/// Programs that do nothing, where files are opened.
static EMPTY: [Program; 3] = [
    empty_at("l_empty", AttachPoint::Lsm("file_open")),
    empty_at("f_empty", AttachPoint::Fexit("security_file_open")),
    empty_at("x_empty", AttachPoint::Btf("sys_exit")),
];

const fn empty_at(name: &'static str, at: AttachPoint) -> Program {
    Program { name, role: Role::Floor, at, without_it: "no floor to compare with" }
}

/// The program that does nothing, by one of the means.
pub(super) fn empty(choice: AttachChoice) -> Option<&'static Program> {
    match choice {
        AttachChoice::Lsm => Some(&EMPTY[0]),
        AttachChoice::Fexit => Some(&EMPTY[1]),
        AttachChoice::Syscall => Some(&EMPTY[2]),
        AttachChoice::Auto | AttachChoice::None => None,
    }
}

/// The hooks of a class with how they are watched.
pub fn of_class(watching: &Watching, class: Class) -> impl Iterator<Item = &(&'static Hook, Watched)> {
    watching.iter().filter(move |(hook, _)| hook.class == class)
}

/// No hook is watched.
pub(super) fn nothing(reason: &str) -> Watching {
    HOOKS.iter().map(|hook| (hook, Watched::Not { reason: reason.to_owned() })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_attached_where_the_kernel_may_skip_one() {
        assert_eq!(n_copies(KernelVersion { major: 6, minor: 12 }, false), 1);
        assert_eq!(n_copies(KernelVersion { major: 6, minor: 12 }, true), COPIES);
        assert_eq!(n_copies(KernelVersion { major: 7, minor: 3 }, false), COPIES);
    }
}
