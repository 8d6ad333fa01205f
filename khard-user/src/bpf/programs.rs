//! The table of kernel programs: what each is for, where it attaches, and what is lost without it. The loader,
//! `doctor` and Coverage are made from it.

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sees each system call. Several may be attached together: each proves something about the others.
    Syscalls,
    /// Gives newborn cgroups their slot.
    Births,
    /// Keeps the processes' phases.
    Phases,
    /// Sees accesses: see [`super::HOOKS`].
    Accesses,
    /// Tells what became of accesses that AppArmor is asked for before the kernel's own checks.
    Outcomes,
    /// Sees system calls that a seccomp filter refuses: attached only while somebody who is recorded has one.
    Refusals,
    /// Does nothing of use: what the benchmark compares with.
    Floor,
}

/// Where a program attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachPoint {
    /// A raw tracepoint.
    Raw(&'static str),
    /// A tracepoint by a perf event: category and name.
    Perf(&'static str, &'static str),
    /// A hook, as BPF LSM.
    Lsm(&'static str),
    /// The end of a kernel function.
    Fexit(&'static str),
    /// A tracepoint whose arguments have types.
    Btf(&'static str),
}

/// One program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in the object and in the kernel (at most 15 characters).
    pub name: &'static str,
    /// What for.
    pub role: Role,
    /// Where.
    pub at: AttachPoint,
    /// What Coverage must say when the kernel skipped it or it is not attached.
    pub without_it: &'static str,
}

/// All programs.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "sys_enter",
        role: Role::Syscalls,
        at: AttachPoint::Raw("sys_enter"),
        without_it: "system calls are not seen",
    },
    Program {
        name: "sys_enter_perf",
        role: Role::Syscalls,
        at: AttachPoint::Perf("raw_syscalls", "sys_enter"),
        without_it: "system calls are lost where the kernel preempts raw tracepoint programs",
    },
    Program {
        name: "cgroup_mkdir",
        role: Role::Births,
        at: AttachPoint::Raw("cgroup_mkdir"),
        without_it: "a container is taken in when its first process enters, by its cgroup's age",
    },
    Program {
        name: "cgroup_attach",
        role: Role::Phases,
        at: AttachPoint::Raw("cgroup_attach_task"),
        without_it: "runtime and joiners are taken for the workload",
    },
    Program {
        name: "task_new",
        role: Role::Phases,
        at: AttachPoint::Raw("sched_wakeup_new"),
        without_it: "children of runtime and joiners are taken for the workload",
    },
    Program {
        name: "task_exit",
        role: Role::Phases,
        at: AttachPoint::Raw("sched_process_exit"),
        without_it: "slower, nothing is lost",
    },
    Program {
        name: "call_end",
        role: Role::Outcomes,
        at: AttachPoint::Raw("sys_exit"),
        without_it: "attempts that failed are not told from what was done",
    },
    Program {
        name: "call_end_perf",
        role: Role::Outcomes,
        at: AttachPoint::Perf("raw_syscalls", "sys_exit"),
        without_it: "outcomes are lost where the kernel preempts raw tracepoint programs",
    },
    Program {
        name: "passed",
        role: Role::Refusals,
        at: AttachPoint::Raw("sys_enter"),
        without_it: "calls that a seccomp filter refuses are not seen",
    },
    Program {
        name: "refused",
        role: Role::Refusals,
        at: AttachPoint::Raw("sys_exit"),
        without_it: "calls that a seccomp filter refuses are not seen",
    },
    Program {
        name: "passed_perf",
        role: Role::Refusals,
        at: AttachPoint::Perf("raw_syscalls", "sys_enter"),
        without_it: "calls that a seccomp filter refuses are not seen",
    },
    Program {
        name: "refused_perf",
        role: Role::Refusals,
        at: AttachPoint::Perf("raw_syscalls", "sys_exit"),
        without_it: "calls that a seccomp filter refuses are not seen",
    },
    Program {
        name: "sys_enter_empty",
        role: Role::Floor,
        at: AttachPoint::Raw("sys_enter"),
        without_it: "no floor to compare with",
    },
    Program {
        name: "sys_enter_none",
        role: Role::Floor,
        at: AttachPoint::Perf("raw_syscalls", "sys_enter"),
        without_it: "no floor to compare with",
    },
    Program {
        name: "sys_enter_task",
        role: Role::Floor,
        at: AttachPoint::Raw("sys_enter"),
        without_it: "no floor to compare with",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernels_limit_and_are_unique() {
        for program in PROGRAMS {
            assert!(program.name.len() <= 15, "{}", program.name);
            assert_eq!(PROGRAMS.iter().filter(|other| other.name == program.name).count(), 1);
        }
    }
}
