//! An access: who asks, what it is called, whether it is known, and the record of it. Knows nothing of hooks.
//!
//! The marks of what is known are the kernel's to forget (least recently used): an access without a mark is sent, and user
//! space keeps what it was sent. So a lost mark costs a record, and a mark is set only once the record was submitted.

pub(crate) mod layers;
mod names;
pub(crate) mod outcome;
mod scratch;
mod walk;

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_comm, generated::bpf_ktime_get_boot_ns},
    macros::map,
    maps::{LruHashMap, RingBuf},
};
use khard_common::{
    access::{AccessRecord, Op, flag},
    limits::{ACCESS_RING_BYTES, ACCESS_RING_SHARE, ACCESSES, SEEN_ACCESSES},
    phase::{JOINER, UNTOLD, WORKLOAD},
    slot::{NO_BORDER, STARTED, Slot},
    stats,
};

use self::names::Name;
use self::scratch::{END, Scratch};
use crate::{
    kernel::{
        cgroup::Node,
        path::{Inode, Place},
        task::{Current, Task},
    },
    maps::count,
    phase, subject,
    word::{self, opaque, opaque_word},
};

/// Accesses that were not known.
#[map]
static ACCESSES_RING: RingBuf = RingBuf::with_byte_size(ACCESS_RING_BYTES, 0);

/// What was submitted: (tenant, hash of all that makes two accesses different).
#[map]
static SEEN: LruHashMap<Mark, u8> = LruHashMap::with_max_entries(SEEN_ACCESSES, 0);

/// What the hash begins with, random for each run: a workload chooses its own names.
#[unsafe(no_mangle)]
static HASH_SEED: aya_ebpf::Global<u64> = aya_ebpf::Global::new(0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Mark {
    subject_id: u64,
    hash: u64,
}

/// The subject that the current task belongs to, if what it does now is to be recorded.
pub(crate) struct Asker {
    slot: *mut Slot,
    number: u32,
    phase: u8,
}

impl Asker {
    /// `None` for tasks of no subject, and for runtimes at work: a profile is in force from the exec on that ends their work
    /// (`aa_change_onexec(3)`), and that exec is asked for by nobody.
    #[inline(always)]
    pub(crate) fn get() -> Option<Self> {
        let number = subject::slot_of_current();
        let slot = subject::slot(number)?;
        // SAFETY: a valid slot.
        let has_border = unsafe { core::ptr::read_volatile(&raw const (*slot).flags) } & NO_BORDER == 0;
        if has_border && phase::current_is_leaving() {
            return None;
        }
        let phase = opaque(phase::of_current(slot, number).into()) as u8;
        let counts = !has_border || phase & (WORKLOAD | JOINER | UNTOLD) != 0;
        counts.then_some(Self { slot, number, phase })
    }

    #[inline(always)]
    fn subject_id(&self) -> u64 {
        // SAFETY: a valid slot.
        unsafe { core::ptr::read_volatile(&raw const (*self.slot).subject_id) }
    }

    /// The subject that a cgroup belongs to, as one of whose workload something is asked, whoever the current task is. `None` while
    /// a runtime prepares it.
    #[inline(always)]
    pub(crate) fn of_cgroup(node: Node) -> Option<Self> {
        let number = subject::resolve(node);
        let slot = subject::slot(number)?;
        // SAFETY: a valid slot.
        let flags = unsafe { core::ptr::read_volatile(&raw const (*slot).flags) };
        (flags & (NO_BORDER | STARTED) != 0).then_some(Self { slot, number, phase: WORKLOAD })
    }

    /// Counts an access that will not be seen.
    #[inline(always)]
    fn count_unread(&self) {
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*self.slot).accesses_unread, 1) };
    }

    /// Whether a task is of the same subject.
    #[inline(always)]
    pub(crate) fn is_beside(&self, task: Task) -> bool {
        subject::resolve(Node(task.cgroup_node())) == self.number
    }
}

/// An access under construction, in a buffer of its own.
pub(crate) struct Access {
    scratch: &'static mut Scratch,
    slot: *mut Slot,
}

impl Access {
    /// Begins one. It must be ended by [`Self::send`], which gives the buffer back.
    #[inline(always)]
    pub(crate) fn begin(asker: &Asker, op: Op, perms: u16, flags: u32, args: [u64; 2]) -> Option<Self> {
        // VERIFIER: or each value that these can have is followed on its own through the whole walk.
        Self::of_kind(asker, opaque(op as u32), opaque(perms.into()), opaque(flags), args)
    }

    #[inline(always)]
    fn of_kind(asker: &Asker, op: u32, perms: u32, flags: u32, args: [u64; 2]) -> Option<Self> {
        let scratch = Scratch::claim()?;
        scratch.seed = HASH_SEED.load();
        scratch.walk.hash = scratch.seed;
        scratch.walk.at = END;
        let record = &mut scratch.record;
        record.args = args;
        record.slot = asker.number;
        record.flags = flags;
        record.lens = [0; 4];
        record.perms = perms as u16;
        record.op = op as u8;
        record.phase = asker.phase;
        record.subject_id = asker.subject_id();
        Some(Self { scratch, slot: asker.slot })
    }

    /// Adds the path of a place as the part with this number.
    #[inline(always)]
    pub(crate) fn add_path(&mut self, part: usize, place: Place, is_directory: bool) {
        let before = self.scratch.walk.at;
        walk_path(self.scratch, place, opaque(is_directory.into()));
        self.scratch.record.lens[part] = (before - self.scratch.walk.at) as u16;
    }

    /// Adds the path of what is there already: a directory, or a file that is mounted over.
    #[inline(always)]
    pub(crate) fn add_place(&mut self, part: usize, place: Place) {
        self.add_path(part, place, place.dentry.is_directory());
    }

    /// Notes who owns a file.
    #[inline(always)]
    pub(crate) fn note_owner(&mut self, inode: Inode) {
        self.scratch.record.flags |= owner(inode);
    }

    /// Adds `/` as a part: AppArmor's name for what has none.
    #[inline(always)]
    pub(crate) fn add_root(&mut self, part: usize) {
        walk::put(self.scratch, b'/');
        self.scratch.record.flags |= flag::DISCONNECTED;
        self.scratch.record.lens[part] = 1;
    }

    /// Adds a string of the kernel's as a part; nothing for a null pointer.
    #[inline(always)]
    pub(crate) fn add_kernel_string(&mut self, part: usize, string: u64) {
        self.add_string(part, string, true);
    }

    /// Adds a string of the task's own as a part.
    #[inline(always)]
    pub(crate) fn add_user_string(&mut self, part: usize, string: u64) {
        self.add_string(part, string, false);
    }

    /// Adds a string of the task's own as a part, and before it the place where it begins.
    #[inline(always)]
    pub(crate) fn add_relative(&mut self, part: usize, base: Place, string: u64) {
        self.add_place(part, base);
        self.add_user_string(part + 1, string);
    }

    #[inline(always)]
    fn add_string(&mut self, part: usize, string: u64, of_kernel: bool) {
        let before = self.scratch.walk.at;
        if string != 0 {
            put_string(self.scratch, string, of_kernel);
        }
        self.scratch.record.lens[part] = (before - self.scratch.walk.at) as u16;
    }

    /// Sends the access unless it is known. True if it is known now.
    #[inline(always)]
    pub(crate) fn send(self) -> bool {
        finish(self.scratch, self.slot)
    }
}

/// Whether the task owns a file: a name without an inode will be its own.
#[inline(always)]
fn owner(inode: Inode) -> u32 {
    if inode.0 == 0 || inode.uid() == Current::task().fsuid() { flag::OWNER } else { 0 }
}

/// What is asked of one path.
pub(crate) struct Request {
    op: u32,
    perms: u32,
    flags: u32,
    is_directory: u32,
    place: Place,
}

impl Request {
    /// `owned`: the file whose owner counts.
    #[inline(always)]
    pub(crate) fn new(
        op: Op,
        perms: u16,
        flags: u32,
        place: Place,
        is_directory: bool,
        owned: Inode,
    ) -> Self {
        Self {
            op: opaque(op as u32),
            perms: opaque(perms.into()),
            flags: opaque(flags | owner(owned)),
            is_directory: opaque(is_directory.into()),
            place,
        }
    }

    /// Asks, in the cheap way where the name is known to have been asked the same.
    ///
    /// VERIFIER: apart, and all that is asked without a value that is known: so the ways by which a hook comes here are one
    /// again.
    #[inline(never)]
    pub(crate) fn ask(&self, asker: &Asker) -> bool {
        // What waits for its outcome is told apart by its path, and known by no name.
        let epoch = if self.flags & flag::PENDING == 0 { names::epoch() } else { 0 };
        let epoch = opaque_word(epoch);
        let what =
            kind(self.op, asker.phase, self.perms) | u64::from(self.flags | self.is_directory << 31) << 32;
        let name = Name::new(asker.subject_id(), self.place, what);
        if name.is_known(epoch) {
            count(stats::ACCESSES_KNOWN_BY_NAME);
            return true;
        }
        let Some(mut access) = Access::of_kind(asker, self.op, self.perms, self.flags, [0; 2]) else {
            return false;
        };
        access.add_path(0, self.place, self.is_directory != 0);
        let is_known = access.send();
        if is_known {
            name.remember(epoch);
        }
        is_known
    }
}

/// VERIFIER: apart, so that it is looked at once for each way to call it, and programs stay small.
#[inline(never)]
fn walk_path(scratch: &mut Scratch, place: Place, is_directory: u32) {
    walk::walk(scratch, place, is_directory);
}

#[inline(never)]
fn put_string(scratch: &mut Scratch, string: u64, of_kernel: bool) {
    walk::put_string(scratch, string, of_kernel);
}

#[inline(never)]
fn finish(scratch: &mut Scratch, slot: *mut Slot) -> bool {
    mix_rest(scratch);
    let mark = Mark { subject_id: scratch.record.subject_id, hash: scratch.walk.hash };
    // SAFETY: values are never looked at.
    let is_known = unsafe { SEEN.get(mark) }.is_some();
    scratch.record.hash = mark.hash;
    let mut is_sent = false;
    if is_known {
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*slot).accesses_known, 1) };
    } else {
        if scratch.record.flags & (flag::FAULT | flag::TOO_LONG) != 0 {
            // SAFETY: a valid slot.
            unsafe { word::add(&raw mut (*slot).accesses_unread, 1) };
        }
        is_sent = submit(scratch, slot);
        if is_sent {
            let _ = SEEN.insert(mark, 1, u64::from(BPF_ANY));
        }
    }
    let is_pending = scratch.record.flags & flag::PENDING != 0;
    scratch.release();
    if is_pending && (is_known || is_sent) && !outcome::note(mark.hash) {
        // Nobody will tell what became of it.
        // SAFETY: a valid slot.
        unsafe { word::add(&raw mut (*slot).accesses_unread, 1) };
    }
    is_known || is_sent
}

/// Operation, phase and permissions in the lower half of a word.
#[inline(always)]
fn kind(op: u32, phase: u8, perms: u32) -> u64 {
    u64::from(op) | u64::from(phase) << 8 | u64::from(perms) << 16
}

/// Everything but the path that makes two accesses different.
#[inline(always)]
fn mix_rest(scratch: &mut Scratch) {
    let record = &scratch.record;
    let (args, flags, lens) = (record.args, record.flags, record.lens);
    let kind = kind(record.op.into(), record.phase, record.perms.into());
    walk::mix(scratch, kind | u64::from(flags) << 32);
    walk::mix(scratch, args[0]);
    walk::mix(scratch, args[1]);
    // Where one part ends and the next begins.
    walk::mix(scratch, lens.iter().fold(0, |all, len| all << 16 | u64::from(*len)));
}

/// True if the record is on its way.
#[inline(always)]
fn submit(scratch: &mut Scratch, slot: *mut Slot) -> bool {
    let n_bytes = END - scratch.walk.at;
    let len = n_bytes + size_of::<AccessRecord>() as u32;
    // SAFETY: a valid slot.
    unsafe {
        let sequence = word::fetch_add(&raw mut (*slot).accesses_tried, 1) + 1;
        if sequence - core::ptr::read_volatile(&raw const (*slot).accesses_failed) > ACCESSES {
            word::add(&raw mut (*slot).accesses_over_limit, 1);
            word::add(&raw mut (*slot).accesses_failed, 1);
            return false;
        }
        scratch.record.sequence = sequence;
        scratch.record.time_ns = bpf_ktime_get_boot_ns();
        describe_task(&mut scratch.record);
        let in_flight = word::fetch_add(&raw mut (*slot).accesses_in_flight, u64::from(len));
        let is_sent = in_flight < ACCESS_RING_SHARE && {
            // VERIFIER: both bounds by masks, each for itself.
            let bytes = (&raw const scratch.buffer)
                .cast::<u8>()
                .add(word::from_end::<{ END as u64 }>(n_bytes.into()));
            let len = word::index::<{ 2 * END as u64 - 1 }>(len.into());
            ACCESSES_RING.output::<[u8]>(core::slice::from_raw_parts(bytes, len), 0).is_ok()
        };
        if !is_sent {
            word::add(&raw mut (*slot).accesses_in_flight, u64::from(len).wrapping_neg());
            word::add(&raw mut (*slot).accesses_failed, 1);
        }
        is_sent
    }
}

#[inline(always)]
fn describe_task(record: &mut AccessRecord) {
    let task = Current::task();
    record.tgid = task.tgid();
    record.tid = task.pid();
    record.comm = bpf_get_current_comm().unwrap_or([0; 16]);
    record.exe_len = task.executable_name(&mut record.exe);
}
