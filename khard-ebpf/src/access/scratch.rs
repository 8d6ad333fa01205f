//! Buffers in which paths and records are built, each used by one program at a time.
//!
//! A BPF LSM program can be preempted, and another task then runs the same program on the same CPU: a buffer for each CPU
//! would be overwritten. So a program claims one of several.

use aya_ebpf::{helpers::bpf_get_smp_processor_id, macros::map, maps::Array};
use khard_common::{access::AccessRecord, limits::SCRATCHES_PER_CPU, stats};

use super::walk::Walk;
use crate::{maps::count, word};

/// Bytes of the buffer: two paths of AppArmor's limit.
pub(super) const END: u32 = 16384;

/// One buffer. Fields follow each other: what is sent is a stretch that ends with the record.
#[repr(C, align(8))]
pub(super) struct Scratch {
    /// 1 while a program uses it.
    busy: u64,
    /// Parts, the first one at the end.
    pub(super) buffer: [u8; END as usize],
    /// Their record.
    pub(super) record: AccessRecord,
    /// VERIFIER: never used. The verifier adds the greatest beginning to the greatest length.
    room: [u8; 2 * END as usize],
    pub(super) walk: Walk,
    /// A string, before its length is known, and room for the last word of it.
    pub(super) text: [u8; 4096 + 8],
    /// What the hash begins with.
    pub(super) seed: u64,
}

/// User space sets how many there are.
#[map]
static SCRATCHES: Array<Scratch> = Array::with_max_entries(SCRATCHES_PER_CPU, 0);

impl Scratch {
    /// One that nobody uses; `None`, and counted, if all are in use. To be given back by [`Self::release`].
    #[inline(always)]
    pub(super) fn claim() -> Option<&'static mut Self> {
        // SAFETY: null, or an entry that is ours.
        unsafe { Self::claim_entry().as_mut() }
    }

    /// VERIFIER: apart, so that whichever entry it is, there is one way to go on.
    #[inline(never)]
    fn claim_entry() -> *mut Self {
        // SAFETY: the helper has no preconditions.
        let first = unsafe { bpf_get_smp_processor_id() } * SCRATCHES_PER_CPU;
        for nth in 0..SCRATCHES_PER_CPU {
            let Some(scratch) = SCRATCHES.get_ptr_mut(first + nth) else { continue };
            // SAFETY: an entry of the map; the word tells whether it is ours.
            unsafe {
                if word::fetch_or(&raw mut (*scratch).busy, 1) == 0 {
                    return scratch;
                }
            }
        }
        count(stats::ACCESSES_WITHOUT_SCRATCH);
        core::ptr::null_mut()
    }

    #[inline(always)]
    pub(super) fn release(&mut self) {
        // SAFETY: our own word.
        unsafe { core::ptr::write_volatile(&raw mut self.busy, 0) };
    }
}
