//! What becomes of what AppArmor was asked before the kernel's own checks: noted for each thread until its call ends.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::HashMap};
use khard_common::{access::flag, limits::PENDING_CALLS};

use crate::kernel::task::Current;

/// Whether somebody wants to know; set by user space before loading, with a program at each call's end.
#[unsafe(no_mangle)]
static OUTCOMES: aya_ebpf::Global<u64> = aya_ebpf::Global::new(0);

/// Things that one call asks for at most: a rename that exchanges asks for both names twice.
const MOST: usize = 4;

/// Hashes of what a thread's present call asked for; 0 for none.
pub(crate) type Pending = [u64; MOST];

/// By thread.
#[map]
static PENDING: HashMap<u32, Pending> = HashMap::with_max_entries(PENDING_CALLS, 0);

/// The flag of what is asked first, if its outcome is wanted and will be known: the worker threads of an `io_uring` make no calls.
#[inline(always)]
pub(crate) fn flag_of_first() -> u32 {
    if OUTCOMES.load() != 0 && !Current::task().is_io_worker() { flag::PENDING } else { 0 }
}

/// Notes what waits for the end of the present call. False if there is no room.
#[inline(always)]
pub(super) fn note(hash: u64) -> bool {
    let tid = Current::task().pid();
    let Some(pending) = PENDING.get_ptr_mut(tid) else {
        return PENDING.insert(tid, [hash, 0, 0, 0], u64::from(BPF_ANY)).is_ok();
    };
    for nth in 0..MOST {
        // SAFETY: within the entry, which is this thread's only.
        unsafe {
            let place = pending.cast::<u64>().add(nth);
            let noted = place.read();
            if noted == 0 {
                place.write(hash);
            }
            // A copy of the same program noted it.
            if noted == 0 || noted == hash {
                return true;
            }
        }
    }
    false
}

/// What the present call asked for, which is forgotten; `None` for most calls.
#[inline(always)]
pub(crate) fn take() -> Option<Pending> {
    let tid = Current::task().pid();
    // SAFETY: the entry is this thread's only.
    let pending = unsafe { PENDING.get(tid) }.copied()?;
    let _ = PENDING.remove(tid);
    Some(pending)
}
