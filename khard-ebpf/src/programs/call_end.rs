//! The end of a system call: what AppArmor was asked before the kernel's own checks was done, unless the call failed.

use aya_ebpf::{
    EbpfContext as _,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use khard_common::access::Op;

use super::hook;
use crate::access::{Asker, outcome};

/// `raw_tp/sys_exit`: registers and result (include/trace/events/syscalls.h).
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn call_end(ctx: RawTracePointContext) -> i32 {
    on_end(ctx.arg(1))
}

/// The same by the perf tracepoint, which is not skipped where raw tracepoints can be preempted.
#[tracepoint]
pub(crate) fn call_end_perf(ctx: TracePointContext) -> i32 {
    on_end(returned(&ctx))
}

/// The result in the perf tracepoint's record at a call's end.
#[inline(always)]
pub(super) fn returned(ctx: &TracePointContext) -> i64 {
    // SAFETY: the record is {common fields: 8 bytes, long id, long ret}: TRACE_EVENT_FN(sys_exit).
    unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<i64>().add(2)) }
}

#[inline(always)]
fn on_end(returned: i64) -> i32 {
    let Some(pending) = outcome::take() else { return 0 };
    // No call that asks first returns an address, which could be negative too.
    if returned < 0 {
        return 0;
    }
    let Some(asker) = Asker::get() else { return 0 };
    for hash in pending {
        if hash != 0 {
            hook::of_args(&asker, Op::Done, 0, [hash, 0]);
        }
    }
    0
}
