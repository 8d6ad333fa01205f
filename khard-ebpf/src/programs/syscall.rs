//! System call entry: the hot path.

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use khard_common::{
    phase::{RECORD_OWED, WORKLOAD},
    slot::live_phases,
};

use crate::{kernel::task::Current, learn, subject, word::index};

/// `raw_tp/sys_enter(regs, id)`: include/trace/events/syscalls.h.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter(ctx: RawTracePointContext) -> i32 {
    on_enter(ctx.arg(1))
}

/// The same by the perf tracepoint, which is not skipped where raw tracepoints can be preempted.
#[tracepoint]
pub(crate) fn sys_enter_perf(ctx: TracePointContext) -> i32 {
    // SAFETY: the record is {common fields: 8 bytes, long id, args}: TRACE_EVENT_FN(sys_enter).
    match unsafe { ctx.read_at::<u64>(8) } {
        Ok(nr) => on_enter(nr),
        Err(_) => 0,
    }
}

/// Nothing: the floor that the benchmark measures against.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter_empty(_: RawTracePointContext) -> i32 {
    0
}

/// Nothing, by the perf tracepoint.
#[tracepoint]
pub(crate) fn sys_enter_none(_: TracePointContext) -> i32 {
    0
}

#[inline(always)]
fn on_enter(nr: u64) -> i32 {
    let current = Current::get();
    let number = subject::slot_of(current);
    let Some(slot) = subject::slot(number) else { return 0 };
    let compat = current.in_compat_call();
    if !compat && nr < 512 {
        // SAFETY: a valid slot, and an index within its table.
        let (byte, others) = unsafe {
            let table = (&raw const (*slot).table).cast::<u8>();
            (
                core::ptr::read_volatile(table.add(index::<511>(nr))),
                core::ptr::read_volatile(&raw const (*slot).others),
            )
        };
        let live = if others == 0 { WORKLOAD } else { live_phases(others) };
        if byte & (live | RECORD_OWED) == live {
            return 0;
        }
    }
    learn::syscall(number, nr, compat)
}
