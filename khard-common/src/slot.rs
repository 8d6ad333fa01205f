//! One subject's slot: its syscall table and the counters beside it, mapped by both sides.

use crate::{limits::TABLE_BYTES, phase};

/// Application binary interfaces of x86-64 Linux, as they share the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Abi {
    /// `syscall` from 64-bit code.
    Native = 0,
    /// `int 0x80` or `sysenter`, also from 64-bit code (`TS_COMPAT` in `thread_info.status`).
    Ia32 = 1,
    /// `syscall` with bit 30 in the number (`__X32_SYSCALL_BIT`).
    X32 = 2,
}

/// The bit that marks an x32 number (`arch/x86/include/uapi/asm/unistd.h`).
pub const X32_BIT: u32 = 0x4000_0000;

/// The ABI of a call by its number as the kernel reports it, and the number without that ABI's bit. `is_compat`: it came by the 32-bit
/// entry.
#[inline]
pub const fn abi_of(nr: u32, is_compat: bool) -> (Abi, u32) {
    match (is_compat, nr & X32_BIT != 0) {
        (true, _) => (Abi::Ia32, nr),
        (false, true) => (Abi::X32, nr & !X32_BIT),
        (false, false) => (Abi::Native, nr),
    }
}

/// Where in the table `nr` (without [`X32_BIT`]) of `abi` has its byte; `None` where the table has no room.
pub const fn table_index(abi: Abi, nr: u32) -> Option<usize> {
    let (base, room) = match abi {
        Abi::Native => (0, 512),
        Abi::Ia32 => (512, 512),
        Abi::X32 => (1024, 1024),
    };
    if nr < room { Some(base + nr as usize) } else { None }
}

/// The inverse of [`table_index`], for `index` below [`TABLE_BYTES`].
pub const fn table_key(index: u32) -> (Abi, u32) {
    match index {
        0..512 => (Abi::Native, index),
        512..1024 => (Abi::Ia32, index - 512),
        _ => (Abi::X32, index - 1024),
    }
}

/// A slot of the subject array. The kernel programs write it; user space reads it through a mapping and
/// writes only when the slot has no subject.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// One byte for each (ABI, number), one bit for each phase ([`crate::phase`]).
    pub table: [u8; TABLE_BYTES],
    /// Living processes that are not the workload, three counters of 16 bits: see [`OTHERS_RUNTIME`]. Zero,
    /// the usual state, means that every task of the subject is the workload, and that nobody wants its calls counted: see
    /// [`COUNTED`].
    pub others: u64,
    /// [`STARTED`] and [`BORDER_IS_FIRST_EXEC`].
    pub flags: u64,
    /// Records that were tried to be sent for this slot: the last one's sequence number.
    pub records_tried: u64,
    /// Of these, the ones for which the ring had no room.
    pub records_failed: u64,
    /// Calls whose number has no byte in the table.
    pub unknown_calls: u64,
    /// Processes that joined from outside after the workload had started.
    pub joins: u64,
    /// The id of the cgroup that is the subject; 0 while the slot has none. Cgroup ids are never used twice
    /// (`__kernfs_new_node()`, fs/kernfs/dir.c), so this also tells one tenant from the next.
    pub subject_id: u64,
    /// The number of the workload's mount namespace, 0 until it has started.
    pub mount_ns: u64,
    /// Processes that made calls as [`phase::UNTOLD`] and did not turn out to have been moved in. At 0, all calls with
    /// that bit were made by processes that were on their way in.
    pub untold: u64,
    /// When recording of a running subject began (`CLOCK_MONOTONIC`, ns): what makes calls there and is older is a member
    /// of it, though nobody told. 0 for a subject that is recorded from its first instruction.
    pub members_until_ns: u64,
    /// Accesses that were tried to be sent: the last one's sequence number.
    pub accesses_tried: u64,
    /// Of these, the ones for which the ring, or the subject's share of it, had no room. Each is sent again if it comes again.
    pub accesses_failed: u64,
    /// Of these, the ones beyond [`crate::limits::ACCESSES`].
    pub accesses_over_limit: u64,
    /// Accesses whose path could not be read, or is longer than any rule can name.
    pub accesses_unread: u64,
    /// Accesses that were known already.
    pub accesses_known: u64,
    /// Bytes of the subject in the ring of accesses: added by the programs, taken off by user space.
    pub accesses_in_flight: u64,
    /// Calls, while [`COUNTED`] is set.
    pub calls: u64,
}

const _: () = assert!(size_of::<Slot>() == TABLE_BYTES + 136);

/// One runtime process in [`Slot::others`].
pub const OTHERS_RUNTIME: u64 = 1;
/// One joining process (the runtime's side of an exec) in [`Slot::others`].
pub const OTHERS_JOINING: u64 = 1 << 16;
/// One joined process in [`Slot::others`].
pub const OTHERS_JOINER: u64 = 1 << 32;
/// A bit of [`Slot::others`] that user space sets while somebody looks at how many calls the subject makes. No call is known
/// then, as far as the fast path is concerned: who is not looked at pays nothing for it.
pub const COUNTED: u64 = 1 << 48;

/// [`Slot::flags`]: the workload's first instruction has been reached, so who enters now is a joiner.
pub const STARTED: u64 = 1;
/// [`Slot::flags`]: the workload begins at the first exec after entering, not at a change of root. So it is for
/// commands, which khard itself starts in a cgroup.
pub const BORDER_IS_FIRST_EXEC: u64 = 2;
/// [`Slot::flags`]: a border was crossed by the child of a process that is itself on the near side, as a sandboxing
/// program's is. In a cgroup that is no container, whoever is on the near side may be the work itself.
pub const BORDER_BY_A_CHILD: u64 = 4;

/// [`Slot::flags`]: no container: whoever brings processes in changes neither their mounts nor their root, so that no border
/// may ever be seen, and what is done before one counts too.
pub const NO_BORDER: u64 = 8;

/// The phases that are alive in a slot with these [`Slot::others`]: a call is known when its byte has them all.
///
/// While a runtime is at work there, no call is known: the border to what it starts is found at its own calls, so
/// that each of them must be looked at, or the border is noticed too late.
#[inline]
const fn live_phases(others: u64) -> u32 {
    if others == 0 {
        phase::WORKLOAD as u32
    } else if others & COUNTED != 0 {
        phase::NEVER
    } else if others & (OTHERS_JOINER - 1) == 0 {
        (phase::WORKLOAD | phase::JOINER) as u32
    } else {
        phase::NEVER
    }
}

/// Whether a call with this byte in the table tells nothing new while `others` are alive.
#[inline]
pub const fn is_known(byte: u8, others: u64) -> bool {
    let live = live_phases(others);
    byte as u32 & (live | phase::RECORD_OWED as u32) == live
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_the_table_belongs_to_one_call() {
        for index in 0..2048 {
            let (abi, nr) = table_key(index);
            assert_eq!(table_index(abi, nr), Some(index as usize));
        }
        assert_eq!(table_index(Abi::Native, 512), None);
        assert_eq!(table_index(Abi::Ia32, 512), None);
        assert_eq!(table_index(Abi::X32, 1024), None);
    }

    #[test]
    fn the_entry_tells_more_than_the_numbers_bit() {
        assert_eq!(abi_of(5, false), (Abi::Native, 5));
        assert_eq!(abi_of(X32_BIT | 5, false), (Abi::X32, 5));
        assert_eq!(abi_of(X32_BIT | 5, true), (Abi::Ia32, X32_BIT | 5));
    }

    #[test]
    fn no_call_that_is_to_be_counted_ends_on_the_fast_path() {
        assert!(!is_known(phase::WORKLOAD, COUNTED));
        assert!(!is_known(phase::ALL, COUNTED | OTHERS_JOINER));
    }

    #[test]
    fn a_workload_alone_has_one_live_phase() {
        assert!(is_known(phase::WORKLOAD, 0));
        assert!(!is_known(phase::WORKLOAD, OTHERS_JOINER));
        assert!(is_known(phase::WORKLOAD | phase::JOINER, OTHERS_JOINER));
    }

    #[test]
    fn no_call_is_known_while_a_runtime_is_at_work() {
        for others in [OTHERS_RUNTIME, OTHERS_JOINING, OTHERS_JOINING + 5 * OTHERS_JOINER] {
            assert!(!is_known(phase::ALL, others));
        }
    }

    #[test]
    fn a_call_is_not_known_while_its_record_is_owed_or_its_caller_untold() {
        assert!(!is_known(phase::WORKLOAD | phase::RECORD_OWED, 0));
        assert!(!is_known(phase::UNTOLD, 0));
    }
}
