//! Accesses on the wire: what kernel programs say of one thing that was asked of the kernel beside the call itself.
//!
//! A sample of the access ring is the parts' bytes, the last part first, and then an [`AccessRecord`]: so an access costs
//! its path's length, and the record lies at a place of its own in the buffer in which paths are built from their end.

use bytemuck::{Pod, Zeroable};

use crate::limits::{COMM_BYTES, EXE_BYTES};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What was asked: [`AccessRecord::op`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Op { $($(#[$doc])* $name = $number,)* }

        impl Op {
            /// The operation with this number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

operations! {
    /// A file was opened. `args[0]`: the `O_…` flags.
    Open = 1,
    /// A name was made: mknod, bind, `O_CREAT`.
    Create = 2,
    /// A directory was made.
    Mkdir = 3,
    /// A directory was removed.
    Rmdir = 4,
    /// A name was removed.
    Unlink = 5,
    /// A symbolic link was made.
    Symlink = 6,
    /// An old name of a rename.
    RenameFrom = 7,
    /// A new name of a rename.
    RenameTo = 8,
    /// A file's length was set.
    Truncate = 9,
    /// A file's mode was set.
    Chmod = 10,
    /// A file's owner was set.
    Chown = 11,
    /// A file was locked.
    Lock = 12,
    /// A file was mapped.
    Mmap = 13,
    /// A mapping's protection was set.
    Mprotect = 14,
    /// A program was started.
    Exec = 15,
    /// A descriptor came over a socket.
    Receive = 16,
    /// A unix socket was connected to.
    Connect = 17,
    /// A datagram went to a unix socket.
    Send = 18,
    /// A hard link was made: part 0 is the new name, part 1 the file.
    Link = 19,
    /// `args[0]`: the capability, `args[1]`: the options.
    Capability = 20,
    /// `args[0]`: the family, `args[1]`: the type.
    Network = 21,
    /// `args[0]`: the signal, `args[1]`: the peer.
    Signal = 22,
    /// `args[0]`: 0 for reading, 1 for tracing; `args[1]`: the peer.
    Ptrace = 23,
    /// Part 0: where, part 1: what, part 2: the file system's type; `args[0]`: the flags, `args[1]`: 1 if part 1 is a path, and
    /// no string that somebody gave for one.
    Mount = 24,
    /// Part 0: where; `args[0]`: the flags.
    Umount = 25,
    /// Part 0: the new root, part 1: where the old one went.
    PivotRoot = 26,
    /// A user namespace.
    UserNamespace = 27,
    /// `io_uring` with a polling thread.
    IoUringSqPoll = 28,
    /// `io_uring` with other credentials.
    IoUringOverrideCreds = 29,
    /// What was asked with [`flag::PENDING`] was done. `args[0]`: the [`AccessRecord::hash`] of that.
    Done = 30,
}

/// Permissions: [`AccessRecord::perms`], the bits of `khard_profile::recording::FilePerms`.
pub mod perms {
    /// Execute.
    pub const EXEC: u16 = 1 << 0;
    /// Write; also truncation, mode and owner.
    pub const WRITE: u16 = 1 << 1;
    /// Read.
    pub const READ: u16 = 1 << 2;
    /// Append.
    pub const APPEND: u16 = 1 << 3;
    /// Create.
    pub const CREATE: u16 = 1 << 4;
    /// Delete.
    pub const DELETE: u16 = 1 << 5;
    /// Lock.
    pub const LOCK: u16 = 1 << 6;
    /// Map executable.
    pub const MMAP_EXEC: u16 = 1 << 7;
}

/// [`AccessRecord::flags`].
pub mod flag {
    /// The task's fsuid owns the file, or creates it.
    pub const OWNER: u32 = 1 << 0;
    /// `O_CREAT` with `O_EXCL`.
    pub const EXCLUSIVE: u32 = 1 << 1;
    /// The file has no name any more.
    pub const DELETED: u32 = 1 << 2;
    /// Not below a mount namespace's root that the task is in.
    pub const DISCONNECTED: u32 = 1 << 3;
    /// The kernel refused.
    pub const REFUSED: u32 = 1 << 4;
    /// Part 0 is the directory that part 1, a string of the task's own, is relative to (the root for an absolute one).
    pub const RELATIVE: u32 = 1 << 5;
    /// Part 2 is a directory too, that part 3, another string, is relative to.
    pub const RELATIVE_TOO: u32 = 1 << 6;
    /// The path is longer than AppArmor's own limit, 8,192 bytes: no rule can name it.
    pub const TOO_LONG: u32 = 1 << 7;
    /// Kernel or user memory could not be read: the path is not whole.
    pub const FAULT: u32 = 1 << 8;
    /// `args[1]` is a process of the same subject; else of another, or of none.
    pub const PEER_INSIDE: u32 = 1 << 9;
    /// Concluded from a system call's arguments.
    pub const INFERRED: u32 = 1 << 10;
    /// A directory.
    pub const DIRECTORY: u32 = 1 << 11;
    /// Asked before the kernel's own checks: only an [`super::Op::Done`] tells that they passed.
    pub const PENDING: u32 = 1 << 12;
}

/// The end of a sample.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct AccessRecord {
    /// The slot's tenant: a late record is not the next one's.
    pub subject_id: u64,
    /// The slot's count of accesses tried to be sent, from 1.
    pub sequence: u64,
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub time_ns: u64,
    /// Of all but who and when.
    pub hash: u64,
    /// By operation: see [`Op`].
    pub args: [u64; 2],
    /// The subject's slot.
    pub slot: u32,
    /// Process id in the initial namespace.
    pub tgid: u32,
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Bytes of each part.
    pub lens: [u16; PARTS],
    /// See [`perms`].
    pub perms: u16,
    /// An [`Op`] as a number.
    pub op: u8,
    /// The phase's bit ([`crate::phase`]).
    pub phase: u8,
    /// Bytes of the executable's file name, before it was cut; 0 for a kernel thread.
    pub exe_len: u32,
    /// The task's name, NUL-padded.
    pub comm: [u8; COMM_BYTES],
    /// The executable's file name, NUL-padded.
    pub exe: [u8; EXE_BYTES],
}

/// Parts of a sample at most.
pub const PARTS: usize = 4;

/// A decoded sample: the record, and its parts in their order.
pub fn decode(sample: &[u8]) -> Option<(AccessRecord, [&[u8]; PARTS])> {
    let (mut rest, record) = sample.split_at_checked(sample.len().checked_sub(size_of::<AccessRecord>())?)?;
    let record: AccessRecord = bytemuck::try_pod_read_unaligned(record).ok()?;
    let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
    for (part, len) in parts.iter_mut().zip(record.lens) {
        (rest, *part) = rest.split_at_checked(rest.len().checked_sub(usize::from(len))?)?;
    }
    rest.is_empty().then_some((record, parts))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn parts_stand_before_the_record_the_last_one_first() {
        let record = AccessRecord { lens: [3, 2, 0, 1], op: Op::Link as u8, ..AccessRecord::zeroed() };
        let mut sample = Vec::from(*b"d/b/aa");
        sample.extend_from_slice(bytemuck::bytes_of(&record));
        let (decoded, parts) = decode(&sample).unwrap();
        assert_eq!(parts, [&b"/aa"[..], b"/b", b"", b"d"]);
        assert_eq!(Op::from_number(decoded.op), Some(Op::Link));
        assert!(decode(&sample[1..]).is_none());
        assert!(decode(&sample[..40]).is_none());
    }
}
