//! Cgroup births, and processes that come into a cgroup.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::debug;

use crate::{
    kernel::{
        cgroup::Node,
        task::{Current, Task},
    },
    phase, subject,
};

/// `raw_tp/cgroup_mkdir(cgroup, path)`: include/trace/events/cgroup.h.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub(crate) fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    if let Some(node) = Node::of_default_hierarchy(ctx.arg(0)) {
        let slot = subject::adopt(node, ctx.arg(1));
        debug!(&ctx, "cgroup {} was born: slot {}", node.id(), slot);
    }
    0
}

/// `raw_tp/cgroup_attach_task(dst_cgrp, path, task, threadgroup)`, after the migration.
#[raw_tracepoint(tracepoint = "cgroup_attach_task")]
pub(crate) fn cgroup_attach(ctx: RawTracePointContext) -> i32 {
    let Some(node) = Node::of_default_hierarchy(ctx.arg(0)) else { return 0 };
    let task = Task(ctx.arg(2));
    let slot = subject::resolve_or_adopt(node);
    let writer = Current::task();
    let tgid = task.tgid();
    // Whoever moves a task between cgroups of one subject stays inside; also a task that moves itself within
    // it. A task that moves itself in from outside is indistinguishable by then, but for its mount namespace.
    let inside = if writer.tgid() == tgid {
        phase::has_workloads_mounts(slot, task)
    } else {
        slot != 0 && subject::resolve(Node(writer.cgroup_node())) == slot
    };
    // The kernel tells also of a process that has ended, and moves nothing then.
    if inside || task.process_is_dead() || phase::was_inside(slot, task) {
        return 0;
    }
    if slot == 0 {
        phase::forget_process(tgid);
    } else {
        phase::enter_from_outside(slot, task, writer);
        debug!(&ctx, "process {} entered slot {}", tgid, slot);
    }
    0
}
