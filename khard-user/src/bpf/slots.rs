//! The subject array, mapped: read and emptied without system calls.

use std::{
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

use khard_common::{
    limits::{SLOTS, TABLE_BYTES},
    phase,
    slot::{COUNTED, STARTED, Slot},
};
use rustix::mm::ProtFlags;

use super::mapped::Mapped;
use crate::host;

/// A slot's number, from 1 to `SLOTS - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotNumber(u32);

impl SlotNumber {
    /// `None` for 0 and for what is beyond the array.
    pub fn new(number: u32) -> Option<Self> {
        (1..SLOTS).contains(&number).then_some(Self(number))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..SLOTS).map(Self)
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// What a slot held at one moment.
#[derive(Clone, Debug)]
pub struct SlotView {
    /// One byte for each call, one bit for each phase; bit 7 is not part of it.
    pub table: Box<[u8; TABLE_BYTES]>,
    /// See [`Slot::flags`].
    pub flags: u64,
    /// See [`Slot::others`].
    pub others: u64,
    /// Records tried and failed.
    pub records: (u64, u64),
    /// Calls with numbers beyond the table.
    pub unknown_calls: u64,
    /// Processes that joined.
    pub joins: u64,
    /// See [`Slot::untold`].
    pub untold: u64,
    /// The cgroup, 0 for none.
    pub subject_id: u64,
    /// What became of accesses.
    pub accesses: AccessCounts,
}

/// Counts of accesses: see [`Slot::accesses_tried`] and the fields after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessCounts {
    /// Found no room in the ring, those beyond the limit included.
    pub failed: u64,
    /// Beyond the limit.
    pub over_limit: u64,
    /// Their path could not be read.
    pub unread: u64,
    /// Sent or tried.
    pub tried: u64,
    /// Known already.
    pub known: u64,
}

impl std::ops::AddAssign for AccessCounts {
    fn add_assign(&mut self, other: Self) {
        self.failed += other.failed;
        self.over_limit += other.over_limit;
        self.unread += other.unread;
        self.tried += other.tried;
        self.known += other.known;
    }
}

/// The mapping of the whole array.
pub struct Slots(Mapped<Slot>);

impl Slots {
    /// Maps the array behind a map's descriptor.
    pub(super) fn map(fd: BorrowedFd<'_>) -> std::io::Result<Self> {
        Mapped::map(fd, SLOTS as usize, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    fn slot(&self, number: SlotNumber) -> *mut Slot {
        self.0.at(number.0 as usize)
    }

    fn word(field: *mut u64) -> &'static AtomicU64 {
        // SAFETY: a field of a mapped slot: aligned, and mapped as long as self, whose methods alone call this
        // and let nothing escape.
        unsafe { AtomicU64::from_ptr(field) }
    }

    /// Reads a slot.
    pub fn view(&self, number: SlotNumber) -> SlotView {
        let slot = self.slot(number);
        let mut table = Box::new([0; TABLE_BYTES]);
        // SAFETY: the fields of a mapped slot. The kernel changes bytes as we read: any mixture of before and
        // after is a state that was or will be true, for bits are only set.
        unsafe {
            for (at, byte) in table.iter_mut().enumerate() {
                *byte = (&raw const (*slot).table).cast::<u8>().add(at).read_volatile()
                    & (phase::ALL | phase::UNTOLD);
            }
            let read = |field: *mut u64| Self::word(field).load(Ordering::Acquire);
            SlotView {
                table,
                flags: read(&raw mut (*slot).flags),
                others: read(&raw mut (*slot).others),
                records: (read(&raw mut (*slot).records_tried), read(&raw mut (*slot).records_failed)),
                unknown_calls: read(&raw mut (*slot).unknown_calls),
                joins: read(&raw mut (*slot).joins),
                untold: read(&raw mut (*slot).untold),
                subject_id: read(&raw mut (*slot).subject_id),
                accesses: AccessCounts {
                    failed: read(&raw mut (*slot).accesses_failed),
                    over_limit: read(&raw mut (*slot).accesses_over_limit),
                    unread: read(&raw mut (*slot).accesses_unread),
                    tried: read(&raw mut (*slot).accesses_tried),
                    known: read(&raw mut (*slot).accesses_known),
                },
            }
        }
    }

    /// The slot's subject, 0 for none.
    pub fn subject_id(&self, number: SlotNumber) -> u64 {
        // SAFETY: a field of a mapped slot.
        Self::word(unsafe { &raw mut (*self.slot(number)).subject_id }).load(Ordering::Acquire)
    }

    /// Says that so many bytes of the slot's have left the ring of accesses.
    pub fn land(&self, number: SlotNumber, n_bytes: u64) {
        // SAFETY: a field of a mapped slot.
        let in_flight = Self::word(unsafe { &raw mut (*self.slot(number)).accesses_in_flight });
        // Never below 0: a record of the tenant before may come late.
        let _ = in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |bytes| Some(bytes.saturating_sub(n_bytes)));
    }

    /// Adds to what the programs know of a slot in use.
    pub(crate) fn learn(&self, number: SlotNumber, flags: u64, mount_ns: u64) {
        let slot = self.slot(number);
        // SAFETY: fields of a mapped slot.
        unsafe {
            if mount_ns != 0 {
                Self::word(&raw mut (*slot).mount_ns).store(mount_ns, Ordering::Release);
            }
            if flags & STARTED != 0 {
                Self::word(&raw mut (*slot).members_until_ns)
                    .store(host::monotonic_time_ns(), Ordering::Release);
            }
            Self::word(&raw mut (*slot).flags).fetch_or(flags, Ordering::AcqRel);
        }
    }

    /// Has a slot's calls counted, or not any more.
    pub(crate) fn count(&self, number: SlotNumber, is_counted: bool) {
        let slot = self.slot(number);
        // SAFETY: a field of a mapped slot; the programs change other bits of it, and atomically too.
        let others = unsafe { Self::word(&raw mut (*slot).others) };
        if is_counted {
            others.fetch_or(COUNTED, Ordering::AcqRel);
        } else {
            others.fetch_and(!COUNTED, Ordering::AcqRel);
        }
    }

    /// How many calls were made while they were counted.
    pub(crate) fn calls(&self, number: SlotNumber) -> u64 {
        let slot = self.slot(number);
        // SAFETY: a field of a mapped slot.
        unsafe { Self::word(&raw mut (*slot).calls) }.load(Ordering::Acquire)
    }

    /// Empties a slot that no program writes any more, and names its next subject (0: none yet).
    pub(super) fn reset(&self, number: SlotNumber, subject_id: u64, flags: u64, mount_ns: u64) {
        let slot = self.slot(number);
        let members_until_ns = if flags & STARTED == 0 { 0 } else { host::monotonic_time_ns() };
        // SAFETY: a mapped slot without a tenant.
        unsafe {
            (&raw mut (*slot).table).cast::<u8>().write_bytes(0, TABLE_BYTES);
            for field in [
                &raw mut (*slot).others,
                &raw mut (*slot).records_tried,
                &raw mut (*slot).records_failed,
                &raw mut (*slot).unknown_calls,
                &raw mut (*slot).joins,
                &raw mut (*slot).untold,
                &raw mut (*slot).accesses_tried,
                &raw mut (*slot).accesses_failed,
                &raw mut (*slot).accesses_over_limit,
                &raw mut (*slot).accesses_unread,
                &raw mut (*slot).accesses_known,
                &raw mut (*slot).accesses_in_flight,
                &raw mut (*slot).calls,
            ] {
                Self::word(field).store(0, Ordering::Release);
            }
            Self::word(&raw mut (*slot).mount_ns).store(mount_ns, Ordering::Release);
            Self::word(&raw mut (*slot).members_until_ns).store(members_until_ns, Ordering::Release);
            Self::word(&raw mut (*slot).flags).store(flags, Ordering::Release);
            Self::word(&raw mut (*slot).subject_id).store(subject_id, Ordering::Release);
        }
    }
}
