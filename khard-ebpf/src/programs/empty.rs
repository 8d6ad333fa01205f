//! Programs that do nothing where files are opened: the floor that the benchmark measures against.

use aya_ebpf::{
    macros::{btf_tracepoint, fexit, lsm},
    programs::{BtfTracePointContext, FExitContext, LsmContext},
};

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
