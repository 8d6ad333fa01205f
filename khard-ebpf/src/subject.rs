//! Which slot a cgroup belongs to, and adoption at birth. Knows nothing of calls and phases but that a slot
//! that has started takes its nested cgroups in.

use khard_common::{
    limits::{self, CGROUP_DEPTH, CGROUP_PATH_BYTES},
    record::{BirthRecord, Header, KIND_BIRTH},
    slot::{STARTED, Slot},
    stats,
};

use crate::{
    kernel::{cgroup::Node, task::Current},
    maps::{BORN_AFTER, BORN_FLAGS, FREE_SLOTS, GENERATION, RING, SLOTS, SUBJECTS, VERDICTS, WATCHED, count},
    word::{self, Word, index},
};

const SLOT_BITS: u32 = 16;

/// One entry of the cache from cgroup id to slot, which all CPUs share without locks: the key word is `id ^ value`, so
/// that a pair of which one half was just overwritten never matches. Cgroup ids are not reused, so an entry can only be
/// stale by registration or release, which move the generation.
#[repr(C, align(16))]
pub(crate) struct Verdict {
    key: Word,
    /// The generation, then the slot in [`SLOT_BITS`] bits.
    value: Word,
}

impl Verdict {
    /// Matches nothing: no cgroup has the id 0.
    pub(crate) const fn none() -> Self {
        Self { key: Word::new(0), value: Word::new(0) }
    }

    #[inline(always)]
    fn of(id: u64) -> &'static Self {
        let at = index::<{ limits::VERDICTS as u64 - 1 }>(id ^ (id >> 7) ^ (id >> 20));
        // SAFETY: `index` bounds it.
        unsafe { VERDICTS.get_unchecked(at) }
    }
}

/// The current task's slot by the cache alone, 0 for none; [`UNKNOWN`] or more where the cache has no verdict.
#[inline(always)]
pub(crate) fn cached_slot_of(current: Current) -> u64 {
    cached_slot(current.cgroup_id())
}

/// Whether the current task may be of a subject, by the cache alone.
#[inline(always)]
pub(crate) fn is_current_recorded() -> bool {
    cached_slot_of(Current::get()) != 0
}

/// The slot of the cgroup with this id, in the same way.
#[inline(always)]
pub(crate) fn cached_slot(id: u64) -> u64 {
    let verdict = Verdict::of(id);
    let value = verdict.value.load();
    if verdict.key.load() ^ value != id {
        return UNKNOWN;
    }
    value ^ (GENERATION.load() << SLOT_BITS)
}

/// Beyond every slot.
pub(crate) const UNKNOWN: u64 = 1 << SLOT_BITS;

/// The current task's slot, 0 for none.
#[inline(always)]
pub(crate) fn slot_of_current() -> u32 {
    let cached = cached_slot_of(Current::get());
    if cached < UNKNOWN {
        return cached as u32;
    }
    // Read before resolving: a change in between leaves the entry stale, never wrong.
    let generation = GENERATION.load();
    // Id and slot of one node: the task may be moved to another cgroup at any moment.
    let node = Node(Current::task().cgroup_node());
    let slot = resolve(node);
    remember(node.id(), generation, slot);
    slot
}

#[inline(always)]
fn remember(id: u64, generation: u64, slot: u32) {
    let verdict = Verdict::of(id);
    let value = generation << SLOT_BITS | u64::from(slot);
    verdict.value.store(value);
    verdict.key.store(id ^ value);
}

/// The slot of the nearest registered cgroup, itself included; 0 for none.
///
/// VERIFIER: apart, so that the states in which the loop can end are one again for whoever goes on with its result.
#[inline(never)]
pub(crate) fn resolve(mut node: Node) -> u32 {
    for _ in 0..CGROUP_DEPTH {
        if node.0 == 0 {
            break;
        }
        // SAFETY: values are whole words, entries are never freed while a program runs.
        if let Some(slot) = unsafe { SUBJECTS.get(node.id()) } {
            return *slot;
        }
        node = node.parent();
    }
    if node.0 != 0 {
        count(stats::CGROUPS_TOO_DEEP);
    }
    0
}

fn is_watched(mut node: Node) -> bool {
    for _ in 0..CGROUP_DEPTH {
        if node.0 == 0 {
            break;
        }
        // SAFETY: as in `resolve`.
        if unsafe { WATCHED.get(node.id()) }.is_some() {
            return true;
        }
        node = node.parent();
    }
    false
}

/// A slot's pointer.
#[inline(always)]
pub(crate) fn slot(number: u32) -> Option<*mut Slot> {
    if number == 0 {
        return None;
    }
    SLOTS.get_ptr_mut(number)
}

/// The slot for a cgroup that something enters: registered, or born unseen while khard was watching.
pub(crate) fn resolve_or_adopt(node: Node) -> u32 {
    let found = resolve(node);
    if found != 0 {
        return found;
    }
    let born_after = BORN_AFTER.load();
    if born_after == 0 || node.id() <= born_after {
        return 0;
    }
    // Who entered may have made calls before the kernel told of it, and was nobody's then.
    let (generation, slot) = (GENERATION.load(), adopt(node, 0));
    remember(node.id(), generation, slot);
    slot
}

/// Gives a newborn cgroup under a watched one a slot of its own, and says so. `path`: the address of its path,
/// or 0. Returns the slot, 0 if it gets none: a cgroup inside a subject whose workload runs belongs to that.
#[inline(never)]
pub(crate) fn adopt(node: Node, path: u64) -> u32 {
    let parent = node.parent();
    let around = resolve(parent);
    if let Some(around_slot) = slot(around) {
        // SAFETY: a valid slot.
        if unsafe { core::ptr::read_volatile(&raw const (*around_slot).flags) } & STARTED != 0 {
            return around;
        }
    }
    if !is_watched(parent) {
        return 0;
    }
    let Ok(Some(number)) = FREE_SLOTS.pop() else {
        count(stats::BIRTHS_WITHOUT_SLOT);
        return 0;
    };
    let Some(taken) = slot(number) else { return 0 };
    let id = node.id();
    // SAFETY: the slot is nobody's but ours: it came from the queue.
    unsafe {
        core::ptr::write_volatile(&raw mut (*taken).subject_id, id);
        core::ptr::write_volatile(&raw mut (*taken).flags, BORN_FLAGS.load());
    }
    if SUBJECTS.insert(id, number, 0).is_err() {
        count(stats::BIRTHS_WITHOUT_SLOT);
        return 0;
    }
    send_birth(number, id, parent.id(), path);
    number
}

fn send_birth(number: u32, id: u64, parent_id: u64, path: u64) {
    let Some(mut entry) = RING.reserve::<BirthRecord>(0) else {
        count(stats::BIRTHS_UNSENT);
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry is ours until submitted, and every byte of it is written here.
    unsafe {
        (*record).header = Header {
            kind: KIND_BIRTH,
            phase: 0,
            reserved: 0,
            slot: number,
            sequence: 0,
            time_ns: aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns(),
        };
        (*record).cgroup_id = id;
        (*record).parent_id = parent_id;
        (*record).path_len = 0;
        (*record).reserved = 0;
        let bytes = (&raw mut (*record).path).cast::<u64>();
        for word in 0..CGROUP_PATH_BYTES / 8 {
            bytes.add(word).write(0);
        }
        if path != 0 {
            let len = aya_ebpf::helpers::generated::bpf_probe_read_kernel_str(
                bytes.cast(),
                CGROUP_PATH_BYTES as u32,
                path as *const _,
            );
            (*record).path_len = if len < 0 { 0 } else { len as u32 };
        }
    }
    entry.submit(0);
}

/// Counts one more record for a slot; returns its sequence number.
///
/// # Safety
/// `slot` must be valid.
#[inline(always)]
pub(crate) unsafe fn next_sequence(slot: *mut Slot) -> u64 {
    // SAFETY: the caller's.
    unsafe { word::fetch_add(&raw mut (*slot).records_tried, 1) + 1 }
}
