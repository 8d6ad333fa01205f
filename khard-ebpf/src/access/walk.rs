//! The one walker: from a place in the file system to the path that AppArmor sees.
//!
//! AppArmor names a file from the root of its mount namespace, whatever the task's own root is (`d_absolute_path()`,
//! security/apparmor/path.c); a file that is not below it by its path inside its file system. Paths are built from their
//! end, so that each step up writes one component before what is there already. When something was renamed or mounted
//! meanwhile, the walk begins again, as the kernel's own does (`prepend_path()`, `fs/d_path.c`); where the kernel does not list its
//! locks, every path is walked until two walks agree.

use aya_ebpf::helpers::generated::{
    bpf_loop, bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user_str,
};
use khard_common::{access::flag, limits::PATH_BYTES};

use super::scratch::{END, Scratch};
use crate::kernel::{
    epoch::Epoch,
    offset,
    path::{Dentry, Place, VfsMount},
    probe,
    task::Current,
};

/// Steps at most: a path of AppArmor's limit has at most half as many components, and each mount is a step too.
const STEPS: u32 = PATH_BYTES;

/// Below the kernel's error pointers: `MNT_NS_INTERNAL` is one (fs/mount.h).
const NO_ERROR_POINTER: u64 = u64::MAX - 4095;

/// Whether a mount namespace's number is that of one that tasks can be in. Anonymous ones have 0, or since 6.18 one of the
/// kernel's fixed numbers below that of the first namespace, 0xEFFFFFF8 (include/uapi/linux/nsfs.h).
#[inline(always)]
fn is_live(number: u32) -> bool {
    number != 0 && !(0xEFFF_FFF0..0xEFFF_FFF8).contains(&number)
}

/// Where a walk stands. In the map's value, not on the callback's stack: kernels before 6.7 verify a callback of
/// `bpf_loop` once, with the values that the first round begins with.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Walk {
    /// Where it began.
    leaf: u64,
    first_mount: u64,
    first_root: u64,
    /// When it began, and the record's flags then.
    epoch: Epoch,
    /// Where epochs are not known: the sum of the dentries' sequences, in the upper half how many were odd, and both sum and hash
    /// of the walk before. Sequences only grow, so that where two walks agree no dentry changed from one to the other.
    sequences: u64,
    last_sequences: u64,
    last_hash: u64,
    first_flags: u32,
    dentry: u64,
    /// `struct mount`, not its inner `vfsmount`.
    mount: u64,
    /// The present mount's root; 0 once the walk is inside the file system only.
    root: u64,
    /// Of the components, from the last to the first.
    pub(super) hash: u64,
    /// The hash before the present part.
    first_hash: u64,
    /// Where the path begins in the buffer.
    pub(super) at: u32,
    /// Where it ends, and what is behind belongs to the parts before.
    end: u32,
    done: u32,
    is_directory: u32,
    /// Of a string: bytes that are not in the hash yet, and where they begin.
    left: u32,
    next: u32,
}

/// Writes the path of `place` before what is in the buffer, as the next part. `is_directory`: AppArmor ends it with a slash.
pub(super) fn walk(scratch: &mut Scratch, place: Place, is_directory: u32) {
    begin(scratch, place, is_directory);
    let mut pointer: *mut Scratch = scratch;
    // SAFETY: the callback gets the pointer's address, which outlives the call.
    unsafe { bpf_loop(STEPS, step_callback as *mut _, (&raw mut pointer).cast(), 0) };
    end(scratch);
}

#[inline(always)]
fn begin(scratch: &mut Scratch, place: Place, is_directory: u32) {
    let walk = &mut scratch.walk;
    walk.epoch = Epoch::now();
    walk.last_sequences = u64::MAX;
    walk.leaf = place.dentry.0;
    walk.first_mount = place.mnt.mount();
    walk.first_root = place.mnt.root().0;
    walk.end = walk.at;
    walk.first_hash = walk.hash;
    walk.is_directory = is_directory;
    if place.dentry.is_deleted() {
        scratch.record.flags |= flag::DELETED;
    }
    walk.first_flags = scratch.record.flags;
    start(scratch);
}

/// To the place where it began.
#[inline(always)]
fn start(scratch: &mut Scratch) {
    let walk = &mut scratch.walk;
    walk.dentry = walk.leaf;
    walk.mount = walk.first_mount;
    walk.root = walk.first_root;
    walk.hash = walk.first_hash;
    walk.done = 0;
    walk.sequences = 0;
    scratch.record.flags = walk.first_flags;
    put_slash_of_directory(scratch);
}

#[inline(always)]
fn put_slash_of_directory(scratch: &mut Scratch) {
    scratch.walk.at = scratch.walk.end;
    if scratch.walk.is_directory != 0 {
        put(scratch, b'/');
    }
}

/// One byte before what is there.
#[inline(always)]
pub(super) fn put(scratch: &mut Scratch, byte: u8) {
    if scratch.walk.at == 0 {
        scratch.record.flags |= flag::TOO_LONG;
        return;
    }
    scratch.walk.at -= 1;
    let at = scratch.walk.at as usize & (END as usize - 1);
    // SAFETY: within the buffer.
    unsafe { (&raw mut scratch.buffer).cast::<u8>().add(at).write(byte) };
}

/// Bytes of a string at most, its NUL included: `PATH_MAX`.
const STRING_BYTES: u32 = 4096;

/// Writes a string before what is there. It is read to the buffer's room first, for its length is not known before.
#[inline(always)]
pub(super) fn put_string(scratch: &mut Scratch, string: u64, of_kernel: bool) {
    let text = (&raw mut scratch.text).cast::<u8>();
    // SAFETY: the field has that many bytes; the helpers check the source.
    let len = unsafe {
        if of_kernel {
            bpf_probe_read_kernel_str(text.cast(), STRING_BYTES, string as *const _)
        } else {
            bpf_probe_read_user_str(text.cast(), STRING_BYTES, string as *const _)
        }
    };
    if len < 0 {
        scratch.record.flags |= flag::FAULT;
        return;
    }
    // An empty string of user space has 0 bytes until 6.13, and 1 since (`strncpy_from_user_nofault()`, mm/maccess.c).
    let len = (len as u32).saturating_sub(1) & (STRING_BYTES - 1);
    if len + 1 == STRING_BYTES || scratch.walk.at < len {
        scratch.record.flags |= flag::TOO_LONG;
        return;
    }
    let at = (scratch.walk.at - len) & (END - 1);
    // SAFETY: within the buffer and the room behind it.
    unsafe {
        let bytes = (&raw mut scratch.buffer).cast::<u8>().add(at as usize);
        bpf_probe_read_kernel(bytes.cast(), len, text.cast());
    }
    scratch.walk.at = at;
    mix(scratch, u64::from(len) | 1 << 32);
    scratch.walk.left = len;
    scratch.walk.next = 0;
    let mut pointer: *mut Scratch = scratch;
    // SAFETY: as in `walk`.
    unsafe { bpf_loop(STRING_BYTES / 8, mix_callback as *mut _, (&raw mut pointer).cast(), 0) };
}

unsafe extern "C" fn mix_callback(_: u64, pointer: *mut *mut Scratch) -> i64 {
    // SAFETY: `put_string` passes its own scratch.
    let scratch = unsafe { &mut **pointer };
    let left = scratch.walk.left;
    if left == 0 {
        return 1;
    }
    let at = scratch.walk.next & (STRING_BYTES - 1);
    // SAFETY: within the text and the room behind it.
    let mut value =
        unsafe { (&raw const scratch.text).cast::<u8>().add(at as usize).cast::<u64>().read_unaligned() };
    if left < 8 {
        value &= (1u64 << ((left & 7) * 8)) - 1;
    }
    mix(scratch, value);
    scratch.walk.next = at + 8;
    scratch.walk.left = left.saturating_sub(8);
    0
}

unsafe extern "C" fn step_callback(_: u64, pointer: *mut *mut Scratch) -> i64 {
    // SAFETY: `walk` passes its own scratch.
    let scratch = unsafe { &mut **pointer };
    if !step(scratch) {
        return 0;
    }
    if is_whole(&mut scratch.walk) {
        return 1;
    }
    start(scratch);
    0
}

/// Whether the path that was walked is one that was there at a moment.
#[inline(always)]
fn is_whole(walk: &mut Walk) -> bool {
    let now = Epoch::now();
    if now.is_known() {
        let is_whole = now == walk.epoch && now.is_at_rest();
        walk.epoch = now;
        return is_whole;
    }
    let is_whole =
        walk.sequences == walk.last_sequences && walk.hash == walk.last_hash && walk.sequences >> 32 == 0;
    (walk.last_sequences, walk.last_hash) = (walk.sequences, walk.hash);
    is_whole
}

/// One step up. True: done.
#[inline(always)]
fn step(scratch: &mut Scratch) -> bool {
    let dentry = Dentry(scratch.walk.dentry);
    if dentry.0 == scratch.walk.root {
        return leave_mount(scratch);
    }
    let parent = dentry.parent();
    if parent == dentry {
        if scratch.walk.root == 0 {
            scratch.walk.done = 1;
            return true;
        }
        // Outside of what its mount shows: moved away from below a bind mount.
        return go_on_inside_file_system(scratch);
    }
    if !scratch.walk.epoch.is_known() {
        let sequence = u64::from(dentry.sequence());
        scratch.walk.sequences += sequence >> 1 | (sequence & 1) << 32;
    }
    let (hash_and_len, name) = (dentry.hash_and_len(), dentry.name());
    let len = (hash_and_len >> 32) as u32;
    let at = scratch.walk.at;
    if parent.0 == 0 || name == 0 {
        scratch.record.flags |= flag::FAULT;
        return true;
    }
    // `NAME_MAX` is 255.
    if len > 255 || at < len + 1 || at > END || scratch.walk.end - at > PATH_BYTES {
        scratch.record.flags |= flag::TOO_LONG;
        return true;
    }
    let at = (at - len - 1) & (END - 1);
    // SAFETY: within the buffer, which is followed by room of more than a component.
    unsafe {
        let component = (&raw mut scratch.buffer).cast::<u8>().add(at as usize);
        component.write(b'/');
        // VERIFIER: the mask gives the length its bound.
        if bpf_probe_read_kernel(component.add(1).cast(), len & 255, name as *const _) != 0 {
            scratch.record.flags |= flag::FAULT;
            return true;
        }
    }
    scratch.walk.at = at;
    scratch.walk.dentry = parent.0;
    mix_component(scratch, at + 1, len & 255);
    false
}

/// At the root of a mount: on to where it is mounted, or the end.
#[inline(always)]
fn leave_mount(scratch: &mut Scratch) -> bool {
    let mount = scratch.walk.mount;
    let above: u64 = probe(mount, offset::MOUNT_PARENT.load());
    if above == mount {
        let namespace: u64 = probe(mount, offset::MOUNT_NS.load());
        if namespace != 0
            && namespace < NO_ERROR_POINTER
            && is_live(probe(namespace, offset::MNT_NS_INUM.load()))
        {
            if namespace != Current::task().mount_ns_address() {
                scratch.record.flags |= flag::DISCONNECTED;
            }
            scratch.walk.done = 1;
            return true;
        }
        // Lazily unmounted, anonymous, or the kernel's own: in no namespace.
        return go_on_inside_file_system(scratch);
    }
    if above == 0 {
        scratch.record.flags |= flag::FAULT;
        return true;
    }
    scratch.walk.dentry = probe(mount, offset::MOUNT_POINT.load());
    scratch.walk.mount = above;
    scratch.walk.root = VfsMount(above + offset::MOUNT_VFSMOUNT.load()).root().0;
    false
}

/// Begins again, for the path from the file system's own root (`dentry_path()`).
#[inline(always)]
fn go_on_inside_file_system(scratch: &mut Scratch) -> bool {
    scratch.record.flags |= flag::DISCONNECTED;
    scratch.walk.dentry = scratch.walk.leaf;
    scratch.walk.root = 0;
    scratch.walk.hash = scratch.walk.first_hash;
    put_slash_of_directory(scratch);
    false
}

#[inline(always)]
fn end(scratch: &mut Scratch) {
    if scratch.walk.done == 0 && scratch.record.flags & (flag::FAULT | flag::TOO_LONG) == 0 {
        scratch.record.flags |= flag::TOO_LONG;
    }
    // The root itself, which is a directory though it has no component.
    if scratch.walk.at == scratch.walk.end {
        put(scratch, b'/');
    }
    if scratch.walk.is_directory != 0 {
        mix(scratch, 1);
    }
}

/// Takes a component into the hash.
///
/// VERIFIER: apart, so that however long the component is, there is one way to go on.
#[inline(never)]
fn mix_component(scratch: &mut Scratch, at: u32, len: u32) {
    let bytes = (&raw const scratch.buffer).cast::<u8>();
    let mut hash = scratch.walk.hash ^ (u64::from(len) | 0x100);
    let mut word = 0u32;
    // VERIFIER: 32 words hold the longest component; the bound is constant.
    while word < 32 {
        if word * 8 >= len {
            break;
        }
        // SAFETY: within the buffer and the room behind it, whose bytes the mask takes out.
        let mut value = unsafe {
            bytes.add((at & (END - 1)) as usize + word as usize * 8).cast::<u64>().read_unaligned()
        };
        let left = len - word * 8;
        if left < 8 {
            value &= (1u64 << (left * 8)) - 1;
        }
        hash = mixed(hash, value);
        word += 1;
    }
    scratch.walk.hash = hash;
}

/// Takes a word into the hash.
#[inline(always)]
pub(super) fn mix(scratch: &mut Scratch, value: u64) {
    scratch.walk.hash = mixed(scratch.walk.hash, value);
}

/// Two rounds of multiplication by an odd number and a shift, which is one to one in `hash`. After a single one the highest bit of a
/// word stays where it is, and two words can be chosen that cancel out whatever the seed is.
#[inline(always)]
fn mixed(hash: u64, value: u64) -> u64 {
    let hash = (hash ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hash = (hash ^ hash >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash ^ hash >> 29
}
