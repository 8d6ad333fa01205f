//! The end of a system call: what AppArmor was asked before the kernel's own checks was done, unless the call failed.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use khard_common::access::Op;

use super::hook;
use crate::access::{Asker, outcome};

/// `raw_tp/sys_exit`: registers and result (include/trace/events/syscalls.h).
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn call_end(ctx: RawTracePointContext) -> i32 {
    let Some(pending) = outcome::take() else { return 0 };
    // No call that asks first returns an address, which could be negative too.
    if ctx.arg::<i64>(1) < 0 {
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
