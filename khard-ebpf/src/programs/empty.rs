//! Programs that do nothing, or no more than every program must: the floors that the benchmark measures against.

use aya_ebpf::{
    macros::{btf_tracepoint, fexit, lsm, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, FExitContext, LsmContext, RawTracePointContext, TracePointContext},
};

use crate::kernel::task::Current;

/// Nothing, by the raw tracepoint.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter_empty(_: RawTracePointContext) -> i32 {
    0
}

/// Nothing, by the perf tracepoint.
#[tracepoint]
pub(crate) fn sys_enter_none(_: TracePointContext) -> i32 {
    0
}

/// Nothing but the helper call that every program begins with that tells tasks apart: how much of khard's cost is the
/// machine's (a return costs much where the kernel guards it, as AMD's "Safe RET").
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn sys_enter_task(_: RawTracePointContext) -> i32 {
    core::hint::black_box(Current::get());
    0
}

/// `lsm/file_open`
#[lsm(hook = "file_open")]
pub(crate) fn l_empty(_: LsmContext) -> i32 {
    0
}

/// `fexit/security_file_open`
#[fexit(function = "security_file_open")]
pub(crate) fn f_empty(_: FExitContext) -> i32 {
    0
}

/// `tp_btf/sys_exit`
#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn x_empty(_: BtfTracePointContext) -> i32 {
    0
}
