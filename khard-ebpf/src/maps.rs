//! The maps that several modules share. The processes' map is `phase`'s own.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf},
};
use khard_common::{
    limits::{
        RING_BYTES, SLOTS as MAX_SLOTS, STATS as MAX_STATS, SUBJECTS as MAX_SUBJECTS,
        VERDICTS as MAX_VERDICTS, WATCHED as MAX_WATCHED,
    },
    slot::Slot,
};

use crate::{
    subject::Verdict,
    word::{self, Word},
};

/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h): user space reads the tables without a system call, so that
/// reading them cannot make the kernel skip a perf tracepoint program.
const MMAPABLE: u32 = 1 << 10;

/// The subjects' slots: the truth.
#[map]
pub(crate) static SLOTS: Array<Slot> = Array::with_max_entries(MAX_SLOTS, MMAPABLE);

/// Cgroup id to slot, for each registered subject.
#[map]
pub(crate) static SUBJECTS: HashMap<u64, u32> = HashMap::with_max_entries(MAX_SUBJECTS, 0);

/// Cgroups below which births are adopted.
#[map]
pub(crate) static WATCHED: HashMap<u64, u8> = HashMap::with_max_entries(MAX_WATCHED, 0);

/// Slots without a subject, emptied by user space.
#[map]
pub(crate) static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(MAX_SLOTS, 0);

/// Node-wide counters, by `khard_common::stats`.
#[map]
static STATS: Array<u64> = Array::with_max_entries(MAX_STATS as u32, MMAPABLE);

/// Adds one to a counter of `khard_common::stats`.
#[inline(always)]
pub(crate) fn count(stat: usize) {
    if let Some(counter) = STATS.get_ptr_mut(stat as u32) {
        // SAFETY: an entry of the map.
        unsafe { word::add(counter, 1) };
    }
}

/// First sightings and births.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

// Each `.bss.NAME` is a map of its own; user space can only write a whole one, so the words that it writes
// stand alone.

/// Written by user space: every verdict of another generation is stale.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.generation")]
pub(crate) static GENERATION: Word = Word::new(0);

/// Written by user space: a cgroup with a greater id was made after khard began to watch.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.born_after")]
pub(crate) static BORN_AFTER: Word = Word::new(0);

/// Written by user space: the flags of a newborn cgroup's slot. It is at work before user space can say what it is.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.born_flags")]
pub(crate) static BORN_FLAGS: Word = Word::new(0);

/// The verdict cache: see [`Verdict`].
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.verdicts")]
pub(crate) static VERDICTS: [Verdict; MAX_VERDICTS] = [const { Verdict::none() }; MAX_VERDICTS];
