//! Which phase a process is in.
//!
//! The rule: once the workload runs, a process that was started in the subject is what its parent is, and that is the
//! workload where nothing is known here. Known are a runtime preparing a container, a runtime preparing a process that
//! joins one, and joined processes, each with its children; the workload's first process, which was started outside;
//! and, while it is young, a process that was neither started in the subject nor told to have been moved in.
//!
//! The border between runtime and what it starts is the first exec after the process has both another mount
//! namespace and another root directory than whoever brought it in. It is found by looking at the process when
//! it makes a call: `self_exec_id` tells that an exec has happened, so no exec hook is needed, and none can be
//! skipped. There is always a call between the change of root and the exec: the exec itself.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_ktime_get_ns, macros::map, maps::HashMap};
use khard_common::{
    limits::{self, UNTOLD_NS},
    phase,
    slot::{
        BORDER_BY_A_CHILD, BORDER_IS_FIRST_EXEC, OTHERS_JOINER, OTHERS_JOINING, OTHERS_RUNTIME, STARTED,
        Slot, X32_BIT,
    },
    stats,
};

use crate::{
    kernel::{
        cgroup::Node,
        task::{Current, Task},
    },
    maps::count,
    subject, word,
};

const RUNTIME: u32 = 0;
const JOINING: u32 = 1;
const JOINER: u32 = 2;
/// The first process of the workload.
const FIRST: u32 = 3;
/// Neither started in the subject nor told to have been moved in.
const UNTOLD: u32 = 4;

/// A process that is not the workload by its parent alone.
#[repr(C)]
#[derive(Clone, Copy)]
struct Process {
    /// Tells this process from a later one with the same id.
    start_ns: u64,
    /// The slot's tenant when it was counted there.
    subject_id: u64,
    /// The root directory of whoever brought it in.
    entry_root: u64,
    slot: u32,
    stage: u32,
    /// The mount namespace of whoever brought it in.
    entry_mount_ns: u32,
    /// Filters that it came with.
    entry_filters: u32,
    /// `self_exec_id + 1` when the border was in sight: another value means that the exec has happened.
    border_exec_id: u32,
    reserved: u32,
}

/// By tgid.
#[map]
static PROCESSES: HashMap<u32, Process> = HashMap::with_max_entries(limits::PROCESSES, 0);

#[inline(always)]
const fn weight(stage: u32) -> u64 {
    match stage {
        RUNTIME => OTHERS_RUNTIME,
        JOINING => OTHERS_JOINING,
        JOINER => OTHERS_JOINER,
        _ => 0,
    }
}

/// The phase's bit of the current task in this slot.
#[inline(never)]
pub(crate) fn of_current(slot: *mut Slot, number: u32) -> u8 {
    let task = Current::task();
    let tgid = task.tgid();
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else { return of_unknown(slot, number, tgid, task) };
    // SAFETY: entries are preallocated: the memory stays an entry, and `start_ns` tells whose.
    let process = unsafe { &mut *process };
    // What is known of somebody else, or of another slot, stays: it may have been written this moment.
    if !is_about(process, slot, number, task.process_start_ns()) {
        return of_unknown(slot, number, tgid, task);
    }
    match process.stage {
        JOINER => return phase::JOINER,
        FIRST => return phase::WORKLOAD,
        UNTOLD => return if is_young(process.start_ns) { phase::UNTOLD } else { phase::WORKLOAD },
        _ => {}
    }
    if process.border_exec_id == 0 {
        if process.entry_mount_ns != task.mount_ns() && process.entry_root != task.root_dentry() {
            process.border_exec_id = task.exec_id() + 1;
        }
    } else if process.border_exec_id != task.exec_id() + 1 {
        return cross(slot, process);
    }
    let filtered = task.seccomp_filters() > process.entry_filters;
    match (process.stage, filtered) {
        (RUNTIME, false) => phase::RUNTIME,
        (RUNTIME, true) => phase::RUNTIME_FILTERED,
        (_, false) => phase::JOINING,
        (_, true) => phase::JOINING_FILTERED,
    }
}

/// Whether the current process is a runtime's in the middle of an exec, which may be the one that ends its work. What the
/// kernel does there is asked for by nobody, and the border is found at the first call after it.
#[inline(always)]
pub(crate) fn current_is_leaving() -> bool {
    let task = Current::task();
    // SAFETY: as in `of_current`.
    let Some(known) = PROCESSES.get_ptr(task.tgid()).map(|known| unsafe { &*known }) else { return false };
    known.stage <= JOINING
        && known.start_ns == task.process_start_ns()
        // execve(2) and execveat(2), by either ABI's numbers.
        && match Current::call() {
            (true, nr) => matches!(nr, 11 | 358),
            (false, nr) => matches!(nr & !u64::from(X32_BIT), 59 | 322 | 520 | 545),
        }
}

/// The phase of a process that is not in the books. Before the workload has started, nobody can be the workload; then,
/// who was started by it. The kernel moves a process before it tells of it (`cgroup_attach_task()`,
/// kernel/cgroup/cgroup.c), and its calls in between, of a runtime that prepares an exec, are not the workload's.
#[inline(always)]
fn of_unknown(slot: *mut Slot, number: u32, tgid: u32, task: Task) -> u8 {
    // SAFETY: a valid slot.
    let flags = unsafe { core::ptr::read_volatile(&raw const (*slot).flags) };
    if flags & STARTED == 0 {
        return phase::RUNTIME;
    }
    let start_ns = task.process_start_ns();
    if !is_young(start_ns) || is_member(slot, number, task, start_ns) {
        return phase::WORKLOAD;
    }
    // SAFETY: a valid slot.
    let subject_id = unsafe { core::ptr::read_volatile(&raw const (*slot).subject_id) };
    let process = Process {
        start_ns,
        subject_id,
        entry_root: 0,
        slot: number,
        stage: UNTOLD,
        entry_mount_ns: 0,
        entry_filters: 0,
        border_exec_id: 0,
        reserved: 0,
    };
    // Counted first, and for good where there is no room: its calls are then the workload's.
    // SAFETY: a valid slot.
    unsafe { word::add(&raw mut (*slot).untold, 1) };
    if PROCESSES.insert(tgid, process, u64::from(BPF_NOEXIST)).is_err()
        && let Some(known) = PROCESSES.get_ptr(tgid)
        // SAFETY: as in `of_current`.
        && is_same(unsafe { &*known }, &process)
    {
        // Another thread was faster, or the kernel has told meanwhile.
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*slot).untold, 1u64.wrapping_neg()) };
    }
    phase::UNTOLD
}

/// Whether a process that nothing is known of was there when recording began, or was started by one that is.
///
/// VERIFIER: the parent's slot by the cache alone, for to resolve it in `of_unknown` triples what 6.1 looks at. A parent in
/// the subject has made calls there, if only to fork; where the cache has lost it, its child stays untold.
#[inline(always)]
fn is_member(slot: *mut Slot, number: u32, task: Task, start_ns: u64) -> bool {
    // SAFETY: a valid slot.
    let members_until_ns = unsafe { core::ptr::read_volatile(&raw const (*slot).members_until_ns) };
    let parent_slot = subject::cached_slot(Node(task.real_parent().cgroup_node()).id());
    start_ns < members_until_ns || parent_slot == u64::from(number)
}

/// Whether what is known is of the process that began then, in this slot with its present tenant.
#[inline(always)]
fn is_about(known: &Process, slot: *mut Slot, number: u32, start_ns: u64) -> bool {
    known.start_ns == start_ns && known.slot == number && is_of_tenant(slot, known)
}

/// Whether both are one process in one slot with one tenant.
#[inline(always)]
fn is_same(one: &Process, other: &Process) -> bool {
    one.start_ns == other.start_ns && one.slot == other.slot && one.subject_id == other.subject_id
}

#[inline(always)]
fn is_young(start_ns: u64) -> bool {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }.wrapping_sub(start_ns) < UNTOLD_NS
}

/// Whether what is known of a process was learnt for the slot's present tenant. A cgroup that was released and is
/// registered again has processes with a past, and they are its workload.
#[inline(always)]
fn is_of_tenant(slot: *mut Slot, process: &Process) -> bool {
    // SAFETY: a valid slot.
    unsafe { core::ptr::read_volatile(&raw const (*slot).subject_id) == process.subject_id }
}

/// The first call after the exec beyond the border. Only one thread can be here: an exec leaves one.
#[inline(always)]
fn cross(slot: *mut Slot, process: &mut Process) -> u8 {
    if let Some(parent) = PROCESSES.get_ptr(Current::task().real_parent().tgid()) {
        // SAFETY: as in `of_current`.
        let parent = unsafe { &*parent };
        if parent.slot == process.slot && parent.subject_id == process.subject_id && parent.stage <= JOINING {
            // SAFETY: a valid slot.
            unsafe { word::or(&raw mut (*slot).flags, BORDER_BY_A_CHILD) };
        }
    }
    if process.stage == RUNTIME {
        // First the flag, then the count: who comes in between is already a joiner.
        // SAFETY: a valid slot.
        unsafe {
            core::ptr::write_volatile(&raw mut (*slot).mount_ns, u64::from(Current::task().mount_ns()));
            word::or(&raw mut (*slot).flags, STARTED);
        }
        process.stage = FIRST;
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*slot).others, OTHERS_RUNTIME.wrapping_neg()) };
        return phase::WORKLOAD;
    }
    process.stage = JOINER;
    // SAFETY: a valid slot.
    unsafe { word::add(&raw mut (*slot).others, OTHERS_JOINER.wrapping_sub(OTHERS_JOINING)) };
    phase::JOINER
}

/// Takes a process out of the books; only who really removes the entry counts down.
#[inline(always)]
fn forget(tgid: u32, process: &Process) {
    let (number, subject_id, stage) = (process.slot, process.subject_id, process.stage);
    if PROCESSES.remove(tgid).is_err() || weight(stage) == 0 {
        return;
    }
    let Some(slot) = subject::slot(number) else { return };
    // SAFETY: a valid slot.
    unsafe {
        if core::ptr::read_volatile(&raw const (*slot).subject_id) == subject_id {
            word::add(&raw mut (*slot).others, weight(stage).wrapping_neg());
        }
    }
}

/// Forgets whatever is known under this process id.
pub(crate) fn forget_process(tgid: u32) {
    if let Some(process) = PROCESSES.get_ptr_mut(tgid) {
        // SAFETY: as in `of_current`.
        forget(tgid, unsafe { &*process });
    }
}

/// Whether `task` sees the mounts of the slot's workload.
pub(crate) fn has_workloads_mounts(number: u32, task: Task) -> bool {
    let Some(slot) = subject::slot(number) else { return false };
    // SAFETY: a valid slot.
    let mount_ns = unsafe { core::ptr::read_volatile(&raw const (*slot).mount_ns) };
    mount_ns != 0 && mount_ns == u64::from(task.mount_ns())
}

/// Whether `task`, which somebody outside has put into a cgroup of this slot, was in one already: its parent is there,
/// or it is known there, or it is older than what may still be on its way in.
pub(crate) fn was_inside(number: u32, task: Task) -> bool {
    let Some(slot) = subject::slot(number) else { return false };
    // SAFETY: a valid slot.
    if unsafe { core::ptr::read_volatile(&raw const (*slot).flags) } & STARTED == 0 {
        return false;
    }
    let start_ns = task.process_start_ns();
    // SAFETY: as in `of_current`.
    if let Some(known) = PROCESSES.get_ptr(task.tgid()).map(|known| unsafe { &*known })
        && is_about(known, slot, number, start_ns)
    {
        return known.stage != UNTOLD || !is_young(start_ns);
    }
    is_member(slot, number, task, start_ns)
}

/// `task` has come into a slot from outside, brought by `by` (itself, or the writer of cgroup.procs, or who
/// cloned it into the cgroup).
pub(crate) fn enter_from_outside(number: u32, task: Task, by: Task) {
    let Some(slot) = subject::slot(number) else { return };
    // SAFETY: a valid slot.
    let flags = unsafe { core::ptr::read_volatile(&raw const (*slot).flags) };
    let stage = if flags & STARTED == 0 { RUNTIME } else { JOINING };
    if stage == JOINING {
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*slot).joins, 1) };
    }
    let border_exec_id = if flags & BORDER_IS_FIRST_EXEC == 0 { 0 } else { task.exec_id() + 1 };
    enter(
        slot,
        task.tgid(),
        &Process {
            start_ns: task.process_start_ns(),
            // SAFETY: a valid slot.
            subject_id: unsafe { core::ptr::read_volatile(&raw const (*slot).subject_id) },
            entry_root: by.root_dentry(),
            slot: number,
            stage,
            entry_mount_ns: by.mount_ns(),
            entry_filters: task.seccomp_filters(),
            border_exec_id,
            reserved: 0,
        },
    );
}

/// `child` was forked by a process of the same slot: it is what its parent is.
pub(crate) fn inherit(parent_tgid: u32, child: Task) {
    // SAFETY: as in `of_current`.
    let Some(parent) = (unsafe { PROCESSES.get(parent_tgid) }) else { return };
    if parent.start_ns != Current::task().process_start_ns() {
        return;
    }
    if weight(parent.stage) == 0 {
        return;
    }
    let Some(slot) = subject::slot(parent.slot) else { return };
    // Released meanwhile: to count there would disturb who has the slot next.
    if !is_of_tenant(slot, parent) {
        return;
    }
    enter(slot, child.tgid(), &Process { start_ns: child.process_start_ns(), ..*parent });
}

fn enter(slot: *mut Slot, tgid: u32, process: &Process) {
    // Counted first: in between the slot is only slower, never wrong.
    // SAFETY: a valid slot.
    unsafe { word::add(&raw mut (*slot).others, weight(process.stage)) };
    if PROCESSES.insert(tgid, process, u64::from(BPF_NOEXIST)).is_ok() || tell(slot, tgid, process) {
        return;
    }
    forget_process(tgid);
    if PROCESSES.insert(tgid, process, u64::from(BPF_NOEXIST)).is_err() {
        count(stats::PROCESSES_FULL);
        // SAFETY: a valid slot.
        unsafe {
            word::add(&raw mut (*slot).others, weight(process.stage).wrapping_neg());
            // Its border will not be seen: all that comes is the workload's.
            if process.stage == RUNTIME {
                word::or(&raw mut (*slot).flags, STARTED);
            }
        }
    }
}

/// An untold process has been told of. In place: were it out of the books for a moment, its next call would find it untold
/// again.
#[inline(always)]
fn tell(slot: *mut Slot, tgid: u32, process: &Process) -> bool {
    let Some(known) = PROCESSES.get_ptr_mut(tgid) else { return false };
    // SAFETY: as in `of_current`; the stage, which tells how to read the rest, is written last.
    unsafe {
        if (*known).stage != UNTOLD || !is_same(&*known, process) {
            return false;
        }
        core::ptr::write_volatile(known, Process { stage: UNTOLD, ..*process });
        core::ptr::write_volatile(&raw mut (*known).stage, process.stage);
        word::add(&raw mut (*slot).untold, 1u64.wrapping_neg());
    }
    true
}
