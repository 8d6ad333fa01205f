//! `task_struct` and what hangs from it.

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_kernel_str, bpf_task_pt_regs};
use khard_common::limits::EXE_BYTES;

use super::{
    direct, offset,
    path::{Dentry, Place, VfsMount},
    probe,
};

/// `TS_COMPAT` in `thread_info.status`: this system call came by the 32-bit entry
/// (`arch/x86/include/asm/thread_info.h`).
const TS_COMPAT: u32 = 2;

/// `SECCOMP_MODE_FILTER` (include/uapi/linux/seccomp.h).
const SECCOMP_MODE_FILTER: u32 = 2;

/// The current task, as a pointer that the verifier knows.
#[derive(Clone, Copy)]
pub(crate) struct Current(*const u8);

impl Current {
    #[inline(always)]
    pub(crate) fn get() -> Self {
        // SAFETY: always valid in a tracing program (kernel 5.11).
        Self(unsafe { bpf_get_current_task_btf() }.cast::<u8>().cast_const())
    }

    /// `task->cgroups->dfl_cgrp->kn->id`: four loads where the helper costs a call of 23 ns.
    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        // SAFETY: each offset is that field's in this kernel.
        unsafe { direct(self.kn(), offset::KN_ID.load()) }
    }

    #[inline(always)]
    fn kn(self) -> *const u8 {
        // SAFETY: each offset is that field's in this kernel.
        unsafe {
            let css_set: *const u8 = direct(self.0, offset::TASK_CGROUPS.load());
            let cgroup: *const u8 = direct(css_set, offset::CSS_SET_DFL.load());
            direct(cgroup, offset::CGROUP_KN.load())
        }
    }

    /// The thread's id in the initial namespace.
    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        // SAFETY: the offset is that field's in this kernel.
        unsafe { direct(self.0, offset::TASK_PID.load()) }
    }

    /// When the thread began (`CLOCK_MONOTONIC`, ns).
    #[inline(always)]
    pub(crate) fn start_ns(self) -> u64 {
        // SAFETY: the offset is that field's in this kernel.
        unsafe { direct(self.0, offset::TASK_START_NS.load()) }
    }

    /// Whether a seccomp filter is in force for it.
    #[inline(always)]
    pub(crate) fn has_filter(self) -> bool {
        // SAFETY: the offset is that field's in this kernel.
        unsafe { direct::<u32>(self.0, offset::TASK_SECCOMP_MODE.load()) == SECCOMP_MODE_FILTER }
    }

    #[inline(always)]
    pub(crate) fn in_compat_call(self) -> bool {
        // SAFETY: the offset is that field's in this kernel.
        unsafe { direct::<u32>(self.0, offset::TASK_STATUS.load()) & TS_COMPAT != 0 }
    }

    /// The system call that the task is in: whether by the 32-bit entry, and its number.
    #[inline(always)]
    pub(crate) fn call() -> (bool, u64) {
        // SAFETY: the helper takes the current task as it is given (kernel 5.15).
        let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
        (Self::get().in_compat_call(), probe(regs, offset::REGS_NR.load()))
    }

    /// As an address, for what has time.
    #[inline(always)]
    pub(crate) fn task() -> Task {
        // SAFETY: the helper has no preconditions.
        Task(unsafe { aya_ebpf::helpers::bpf_get_current_task() })
    }
}

/// Any task, by address.
#[derive(Clone, Copy)]
pub(crate) struct Task(pub(crate) u64);

impl Task {
    pub(crate) fn tgid(self) -> u32 {
        probe(self.0, offset::TASK_TGID.load())
    }

    pub(crate) fn pid(self) -> u32 {
        probe(self.0, offset::TASK_PID.load())
    }

    /// When the process began (`CLOCK_MONOTONIC`, ns): with its tgid, an identity that is never used twice.
    pub(crate) fn process_start_ns(self) -> u64 {
        let leader: u64 = probe(self.0, offset::TASK_LEADER.load());
        probe(leader, offset::TASK_START_NS.load())
    }

    /// Who started the process, or adopted it when that one died.
    pub(crate) fn real_parent(self) -> Self {
        Self(probe(probe(self.0, offset::TASK_LEADER.load()), offset::TASK_REAL_PARENT.load()))
    }

    /// Rises with each exec (`begin_new_exec()`, fs/exec.c), and is inherited by children.
    pub(crate) fn exec_id(self) -> u32 {
        probe(self.0, offset::TASK_SELF_EXEC_ID.load())
    }

    /// Seccomp filters in force; 0 in strict mode or none.
    pub(crate) fn seccomp_filters(self) -> u32 {
        if probe::<u32>(self.0, offset::TASK_SECCOMP_MODE.load()) != SECCOMP_MODE_FILTER {
            return 0;
        }
        probe(self.0, offset::TASK_SECCOMP_COUNT.load())
    }

    /// The mount namespace's number; 0 for a task that is already leaving.
    pub(crate) fn mount_ns(self) -> u32 {
        probe(self.mount_ns_address(), offset::MNT_NS_INUM.load())
    }

    /// The mount namespace itself, to be compared only.
    pub(crate) fn mount_ns_address(self) -> u64 {
        let nsproxy: u64 = probe(self.0, offset::TASK_NSPROXY.load());
        probe(nsproxy, offset::NSPROXY_MNT.load())
    }

    /// The credentials that the task acts with for itself, whatever it has put on for a moment.
    pub(crate) fn real_cred(self) -> u64 {
        probe(self.0, offset::TASK_REAL_CRED.load())
    }

    /// `READ_IMPLIES_EXEC` (include/uapi/linux/personality.h).
    pub(crate) fn reading_implies_executing(self) -> bool {
        probe::<u32>(self.0, offset::TASK_PERSONALITY.load()) & 0x40_0000 != 0
    }

    /// By whom files that it makes are owned.
    pub(crate) fn fsuid(self) -> u32 {
        let cred: u64 = probe(self.0, offset::TASK_CRED.load());
        probe(cred, offset::CRED_FSUID.load())
    }

    /// Whether it works on requests of an `io_uring`: `PF_IO_WORKER` (include/linux/sched.h).
    pub(crate) fn is_io_worker(self) -> bool {
        probe::<u32>(self.0, offset::TASK_FLAGS.load()) & 0x10 != 0
    }

    /// The root directory.
    pub(crate) fn root_place(self) -> Place {
        let fs: u64 = probe(self.0, offset::TASK_FS.load());
        Place {
            mnt: VfsMount(probe(fs, offset::FS_ROOT_MNT.load())),
            dentry: Dentry(probe(fs, offset::FS_ROOT_DENTRY.load())),
        }
    }

    /// The working directory.
    pub(crate) fn working_place(self) -> Place {
        let fs: u64 = probe(self.0, offset::TASK_FS.load());
        Place {
            mnt: VfsMount(probe(fs, offset::FS_PWD_MNT.load())),
            dentry: Dentry(probe(fs, offset::FS_PWD_DENTRY.load())),
        }
    }

    /// The dentry of the root directory: an address, to be compared only.
    pub(crate) fn root_dentry(self) -> u64 {
        let fs: u64 = probe(self.0, offset::TASK_FS.load());
        probe(fs, offset::FS_ROOT_DENTRY.load())
    }

    /// The kernfs node of its cgroup in the default hierarchy.
    pub(crate) fn cgroup_node(self) -> u64 {
        let css_set: u64 = probe(self.0, offset::TASK_CGROUPS.load());
        let cgroup: u64 = probe(css_set, offset::CSS_SET_DFL.load());
        probe(cgroup, offset::CGROUP_KN.load())
    }

    /// Whether the last thread of the process is leaving (`do_exit()` counts down before the tracepoint).
    pub(crate) fn process_is_dead(self) -> bool {
        let signal: u64 = probe(self.0, offset::TASK_SIGNAL.load());
        signal != 0 && probe::<i32>(signal, offset::SIGNAL_LIVE.load()) == 0
    }

    /// Copies the executable's file name, NUL-padded; returns its whole length. The field must be aligned to 8, as it is in
    /// every record.
    #[inline(always)]
    pub(crate) fn executable_name(self, into: &mut [u8; EXE_BYTES]) -> u32 {
        let words = into.as_mut_ptr().cast::<u64>();
        for nth in 0..EXE_BYTES / 8 {
            // SAFETY: within the field, which is aligned.
            // VERIFIER: volatile, or LLVM makes it a call that writes byte by byte.
            unsafe { words.add(nth).write_volatile(0) };
        }
        let mm: u64 = probe(self.0, offset::TASK_MM.load());
        let file: u64 = probe(mm, offset::MM_EXE_FILE.load());
        let dentry: u64 = probe(file, offset::FILE_DENTRY.load());
        let name: u64 = probe(dentry, offset::DENTRY_NAME.load());
        if name == 0 {
            return 0;
        }
        // SAFETY: the buffer has EXE_BYTES, and the helper checks the source.
        unsafe { bpf_probe_read_kernel_str(into.as_mut_ptr().cast(), EXE_BYTES as u32, name as *const _) };
        probe(dentry, offset::DENTRY_NAME_LEN.load())
    }
}
