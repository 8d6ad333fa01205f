//! System call entry: the hot path.

use aya_ebpf::{
    EbpfContext as _,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use khard_common::slot::is_known;

use crate::{
    kernel::task::Current,
    learn, subject,
    word::{index, opaque},
};

/// `raw_tp/sys_enter(regs, id)`: include/trace/events/syscalls.h.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter(ctx: RawTracePointContext) -> i32 {
    on_enter(ctx.arg(1), true)
}

/// The same by the perf tracepoint, which is not skipped where raw tracepoints can be preempted.
#[tracepoint]
pub(crate) fn sys_enter_perf(ctx: TracePointContext) -> i32 {
    // SAFETY: the record is {common fields: 8 bytes, long id, args}: TRACE_EVENT_FN(sys_enter). Read in place: a helper
    // would cost more than the rest of the fast path.
    on_enter(unsafe { core::ptr::read_volatile(ctx.as_ptr().cast::<u64>().add(1)) }, false)
}

#[inline(always)]
fn on_enter(nr: u64, is_first_copy: bool) -> i32 {
    let current = Current::get();
    let number = subject::cached_slot_of(current);
    if number == 0 {
        return 0;
    }
    if number < subject::UNKNOWN
        && nr < 512
        && !current.in_compat_call()
        && let Some(slot) = subject::slot(number as u32)
    {
        // SAFETY: a valid slot, and an index within its table.
        let (byte, others) = unsafe {
            let table = (&raw const (*slot).table).cast::<u8>();
            (
                core::ptr::read_volatile(table.add(index::<511>(nr))),
                core::ptr::read_volatile(&raw const (*slot).others),
            )
        };
        if is_known(byte, others) {
            return 0;
        }
    }
    beyond_the_fast_path(opaque(nr as u32), is_first_copy)
}

/// Whatever the fast path did not end, from the start. `is_first_copy`: where two programs see each call, one counts.
#[inline(never)]
fn beyond_the_fast_path(nr: u32, is_first_copy: bool) -> i32 {
    match subject::slot_of_current() {
        0 => 0,
        number => learn::syscall(number, nr, Current::get().in_compat_call(), is_first_copy),
    }
}
