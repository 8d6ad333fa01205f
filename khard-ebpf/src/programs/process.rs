//! Births and deaths of processes.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    kernel::{
        cgroup::Node,
        task::{Current, Task},
    },
    phase, subject,
};

/// `raw_tp/sched_wakeup_new(task)`: the child before its first instruction, in the parent's context, under a
/// scheduler lock: unlike `task_newtask` it cannot be preempted, and so is never skipped.
#[raw_tracepoint(tracepoint = "sched_wakeup_new")]
pub(crate) fn task_new(ctx: RawTracePointContext) -> i32 {
    let child = Task(ctx.arg(0));
    let parent = Current::task();
    let parent_tgid = parent.tgid();
    if child.tgid() == parent_tgid {
        return 0;
    }
    let (child_node, parent_node) = (Node(child.cgroup_node()), Node(parent.cgroup_node()));
    if child_node.0 == parent_node.0 {
        phase::inherit(parent_tgid, child);
        return 0;
    }
    // CLONE_INTO_CGROUP, which raises no attach event.
    let slot = subject::resolve_or_adopt(child_node);
    if slot == 0 {
        return 0;
    }
    if subject::resolve(parent_node) == slot {
        phase::inherit(parent_tgid, child);
    } else {
        phase::enter_from_outside(slot, child, parent);
    }
    0
}

/// `raw_tp/sched_process_exit(task)`. If it is skipped, the process stays in the books until its id is used
/// again: slower, not wrong.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn task_exit(ctx: RawTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.process_is_dead() {
        phase::forget_process(task.tgid());
    }
    0
}
