//! A call that is not known yet: the table's bit, then the record. Knows nothing of cgroups.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_comm, generated::bpf_ktime_get_boot_ns},
    maps::LruHashMap,
};
use khard_common::{
    limits::UNKNOWN_RECORDS,
    phase::RECORD_OWED,
    record::{Header, KIND_REFUSED_SYSCALL, KIND_SYSCALL, KIND_UNKNOWN_SYSCALL, SyscallRecord},
    slot::{Abi, COUNTED, Slot, abi_of, is_known, table_index},
};

use crate::{
    kernel::task::Current,
    maps::RING,
    phase,
    subject::{self, next_sequence},
    word::{self, index, opaque},
};

/// What happens when the fast exit did not. `nr` as the tracepoint gives it.
#[inline(never)]
pub(crate) fn syscall(number: u32, nr: u32, compat: bool, is_first_copy: bool) -> i32 {
    let Some(slot) = subject::slot(number) else { return 0 };
    if nr == u32::MAX {
        // Cancelled by a tracer or user dispatch: no call (syscall_trace_enter(), kernel/entry/common.c).
        return 0;
    }
    // SAFETY: a valid slot.
    let others = unsafe { core::ptr::read_volatile(&raw const (*slot).others) };
    if others & COUNTED != 0 && is_first_copy {
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*slot).calls, 1) };
    }
    let (abi, plain_nr) = abi_of(nr, compat);
    let Some(at) = table_index(abi, plain_nr) else {
        return unknown(slot, number, abi, nr, opaque(phase::of_current(slot, number).into()) as u8);
    };
    // VERIFIER: masked apart, so that word and shift have bounds of their own.
    let word_at = index::<2047>(at as u64) & !7;
    let shift = (at as u64 & 7) * 8;
    // SAFETY: a valid slot; the table begins it and is aligned to 8.
    unsafe {
        let word = (&raw mut (*slot).table).cast::<u8>().add(word_at).cast::<u64>();
        let byte = (core::ptr::read_volatile(word) >> shift) as u8;
        if is_known(byte, others & !COUNTED) {
            return 0;
        }
        let phase = opaque(phase::of_current(slot, number).into()) as u8;
        if byte & (phase | RECORD_OWED) == phase {
            return 0;
        }
        // The truth first: it does not depend on the ring.
        word::or(word, u64::from(phase) << shift);
        if send(slot, number, What { kind: KIND_SYSCALL, abi, nr, errno: 0 }, phase) {
            if byte & RECORD_OWED != 0 {
                word::and(word, !(u64::from(RECORD_OWED) << shift));
            }
        } else {
            word::or(word, u64::from(RECORD_OWED) << shift);
        }
    }
    0
}

#[inline(always)]
fn unknown(slot: *mut Slot, number: u32, abi: Abi, nr: u32, phase: u8) -> i32 {
    // SAFETY: a valid slot.
    let before = unsafe { word::fetch_add(&raw mut (*slot).unknown_calls, 1) };
    if before < UNKNOWN_RECORDS {
        send(slot, number, What { kind: KIND_UNKNOWN_SYSCALL, abi, nr, errno: 0 }, phase);
    }
    0
}

/// A refusal that is told once.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    subject_id: u64,
    nr: u32,
    abi: u16,
    phase: u16,
    errno: u64,
}

/// The present call was answered by a filter, with this error.
#[inline(never)]
pub(crate) fn refused(number: u32, errno: u32, told: &LruHashMap<Refusal, u8>) -> i32 {
    let Some(slot) = subject::slot(number) else { return 0 };
    let (compat, nr) = Current::call();
    let nr = nr as u32;
    let (abi, plain_nr) = abi_of(nr, compat);
    // Not a number that a program makes up: there are four billion of those, and -1 was cancelled by a tracer.
    if table_index(abi, plain_nr).is_none() {
        return 0;
    }
    let phase = opaque(phase::of_current(slot, number).into()) as u8;
    // SAFETY: a valid slot.
    let subject_id = unsafe { core::ptr::read_volatile(&raw const (*slot).subject_id) };
    let refusal =
        Refusal { subject_id, nr, abi: abi as u16, phase: u16::from(phase), errno: u64::from(errno) };
    if told.get_ptr(refusal).is_none()
        && send(slot, number, What { kind: KIND_REFUSED_SYSCALL, abi, nr, errno }, phase)
    {
        let _ = told.insert(refusal, 1, u64::from(BPF_ANY));
    }
    0
}

/// A record's own part.
struct What {
    kind: u16,
    abi: Abi,
    nr: u32,
    errno: u32,
}

/// Sends who did it; false if the ring has no room.
#[inline(always)]
fn send(slot: *mut Slot, number: u32, what: What, phase: u8) -> bool {
    // SAFETY: a valid slot.
    let sequence = unsafe { next_sequence(slot) };
    let Some(mut entry) = RING.reserve::<SyscallRecord>(0) else {
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*slot).records_failed, 1) };
        return false;
    };
    let task = Current::task();
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is ours until submitted, and every byte of it is written here.
    unsafe {
        (*record).header = Header {
            kind: what.kind,
            phase,
            reserved: 0,
            slot: number,
            sequence,
            time_ns: bpf_ktime_get_boot_ns(),
        };
        (*record).nr = what.nr;
        (*record).abi = what.abi as u32;
        (*record).tgid = task.tgid();
        (*record).tid = task.pid();
        (*record).comm = bpf_get_current_comm().unwrap_or([0; 16]);
        (*record).errno = what.errno;
        (*record).exe_len = task.executable_name(&mut (*record).exe);
    }
    entry.submit(0);
    true
}
