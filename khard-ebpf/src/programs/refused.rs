//! System calls that a seccomp filter answers. The filter is asked before the tracepoint at a call's entry is reached
//! (`syscall_trace_enter()`, kernel/entry/common.c, Linux 6.12), so such a call ends without having begun. Only what ends with an
//! error is told; a filter that kills leaves no end, and one that traps no error.
//!
//! Costs a look-up at each end of a filtered task's calls: attached only while somebody who is recorded has a filter.

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::{map, raw_tracepoint, tracepoint},
    maps::LruHashMap,
    programs::{RawTracePointContext, TracePointContext},
};
use khard_common::{
    limits::{FILTERED_THREADS, REFUSALS},
    refusal::PASSES_ARE_NOTED,
};

use super::call_end::returned;
use crate::{
    kernel::task::Current,
    learn::{self, Refusal},
    subject,
    word::Word,
};

/// Written by user space each time the programs are attached or taken off: what was noted before is stale.
/// [`PASSES_ARE_NOTED`] tells whether the kernel skips none of them.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.filter_epoch")]
static FILTER_EPOCH: Word = Word::new(0);

/// What is known of a thread that has a filter.
#[repr(C)]
#[derive(Clone, Copy)]
struct Thread {
    /// Tells it from a later one with the same id.
    start_ns: u64,
    epoch: u64,
    /// Whether its present call has passed the filter.
    has_passed: u64,
}

/// By thread. The least used are forgotten where there are too many: of a thread that is not here nothing is claimed.
#[map]
static THREADS: LruHashMap<u32, Thread> = LruHashMap::with_max_entries(FILTERED_THREADS, 0);

/// What was told, so that it is told once; what is forgotten here is told again.
#[map]
static TOLD: LruHashMap<Refusal, u8> = LruHashMap::with_max_entries(REFUSALS, 0);

/// `raw_tp/sys_enter`: the filter let it pass.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn passed(_: RawTracePointContext) -> i32 {
    on_entry()
}

/// The same by the perf tracepoint, for kernels that preempt raw ones.
#[tracepoint]
pub(crate) fn passed_perf(_: TracePointContext) -> i32 {
    on_entry()
}

/// `raw_tp/sys_exit`: registers and result (include/trace/events/syscalls.h).
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn refused(ctx: RawTracePointContext) -> i32 {
    on_end(ctx.arg(1))
}

/// The same by the perf tracepoint.
#[tracepoint]
pub(crate) fn refused_perf(ctx: TracePointContext) -> i32 {
    on_end(returned(&ctx))
}

#[inline(always)]
fn on_entry() -> i32 {
    let current = Current::get();
    if subject::cached_slot_of(current) != 0 && current.has_filter() {
        let _ = note(current, true);
    }
    0
}

#[inline(always)]
fn on_end(returned: i64) -> i32 {
    const MAX_ERRNO: i64 = 4095;
    let current = Current::get();
    if subject::cached_slot_of(current) == 0 || !current.has_filter() {
        return 0;
    }
    let had_passed = note(current, false);
    if had_passed == Some(false) && (-MAX_ERRNO..0).contains(&returned) {
        let number = subject::slot_of_current();
        if number != 0 {
            learn::refused(number, -returned as u32, &TOLD);
        }
    }
    0
}

/// Whether the current task's call, which ends now, is known to have been answered by a filter: nothing of it was done, nor asked for.
/// To be called before [`refused`] takes the note away, and so by programs that were attached earlier: probes of a tracepoint run in
/// the order of their coming (`func_add()`, kernel/tracepoint.c).
#[inline(always)]
pub(super) fn was_answered(current: Current) -> bool {
    let epoch = FILTER_EPOCH.load();
    if epoch & PASSES_ARE_NOTED == 0 || !current.has_filter() {
        return false;
    }
    // SAFETY: the entry is this thread's only, as in `note`.
    let Some(thread) = THREADS.get_ptr(current.tid()).map(|thread| unsafe { &*thread }) else { return false };
    thread.start_ns == current.start_ns() && thread.epoch == epoch && thread.has_passed == 0
}

/// Notes whether the thread's present call has passed, and returns what was noted before. `None`: nothing is known, as of a call that
/// began before the programs were there.
#[inline(always)]
fn note(current: Current, has_passed: bool) -> Option<bool> {
    let (tid, start_ns, epoch) = (current.tid(), current.start_ns(), FILTER_EPOCH.load());
    if let Some(thread) = THREADS.get_ptr_mut(tid) {
        // SAFETY: the entry is this thread's only; one that was evicted this moment stays memory of the map.
        let thread = unsafe { &mut *thread };
        if thread.start_ns == start_ns && thread.epoch == epoch {
            let before = thread.has_passed != 0;
            thread.has_passed = u64::from(has_passed);
            return Some(before);
        }
    }
    let thread = Thread { start_ns, epoch, has_passed: u64::from(has_passed) };
    let _ = THREADS.insert(tid, thread, u64::from(BPF_ANY));
    None
}
