//! The ring's records: first sightings and cgroup births, decoded with their lengths checked.
//!
//! A record is a [`Header`] and a payload by [`Header::kind`]. Accesses have a ring of their own ([`crate::access`]).

use bytemuck::{Pod, Zeroable};

use crate::limits::{CGROUP_PATH_BYTES, COMM_BYTES, EXE_BYTES};

/// [`Header::kind`] of a [`SyscallRecord`] whose call has a byte in the table.
pub const KIND_SYSCALL: u16 = 1;
/// [`Header::kind`] of a [`SyscallRecord`] whose number has no byte in the table.
pub const KIND_UNKNOWN_SYSCALL: u16 = 2;
/// [`Header::kind`] of a [`BirthRecord`].
pub const KIND_BIRTH: u16 = 3;
/// [`Header::kind`] of a [`SyscallRecord`] whose call was answered by a seccomp filter.
pub const KIND_REFUSED_SYSCALL: u16 = 4;

/// Begins every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Header {
    /// What follows.
    pub kind: u16,
    /// The phase's bit ([`crate::phase`]) of the acting task, 0 where none applies.
    pub phase: u8,
    /// Room.
    pub reserved: u8,
    /// The subject's slot.
    pub slot: u32,
    /// The slot's sequence number, from 1: a gap is a record for which the ring had no room.
    pub sequence: u64,
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub time_ns: u64,
}

/// Who did something first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SyscallRecord {
    /// Common part.
    pub header: Header,
    /// The number as the kernel reports it (x32: with bit 30).
    pub nr: u32,
    /// [`crate::slot::Abi`] as a number.
    pub abi: u32,
    /// Process id in the initial namespace.
    pub tgid: u32,
    /// Thread id in the initial namespace.
    pub tid: u32,
    /// The task's name, NUL-padded: the workload chooses it.
    pub comm: [u8; COMM_BYTES],
    /// Bytes of the executable's file name, before it was cut to [`EXE_BYTES`]; 0 for a kernel thread.
    pub exe_len: u32,
    /// Of a refused call, the filter's answer; else 0.
    pub errno: u32,
    /// The executable's file name (its last component), NUL-padded.
    pub exe: [u8; EXE_BYTES],
}

/// A cgroup was made under a watched one, and a slot given to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BirthRecord {
    /// Common part.
    pub header: Header,
    /// The cgroup's id: its inode number in the v2 hierarchy.
    pub cgroup_id: u64,
    /// Its parent's.
    pub parent_id: u64,
    /// Bytes of the path with its NUL; `CGROUP_PATH_BYTES` or more if it was cut. 0: adopted without having
    /// seen the birth.
    pub path_len: u32,
    /// Room.
    pub reserved: u32,
    /// The path below the hierarchy's root, NUL-padded.
    pub path: [u8; CGROUP_PATH_BYTES],
}

/// A decoded record.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A first sighting of a call in a phase.
    Syscall(&'a SyscallRecord),
    /// A call whose number has no byte in the table.
    UnknownSyscall(&'a SyscallRecord),
    /// A call that a filter answered with an error.
    RefusedSyscall(&'a SyscallRecord),
    /// A cgroup's birth.
    Birth(&'a BirthRecord),
}

/// Decodes one sample of the ring. `None` for a kind or length that this version does not know.
pub fn decode(sample: &[u8]) -> Option<Record<'_>> {
    let kind = u16::from_ne_bytes(*sample.first_chunk()?);
    match kind {
        KIND_SYSCALL => bytemuck::try_from_bytes(sample).ok().map(Record::Syscall),
        KIND_UNKNOWN_SYSCALL => bytemuck::try_from_bytes(sample).ok().map(Record::UnknownSyscall),
        KIND_REFUSED_SYSCALL => bytemuck::try_from_bytes(sample).ok().map(Record::RefusedSyscall),
        KIND_BIRTH => bytemuck::try_from_bytes(sample).ok().map(Record::Birth),
        _ => None,
    }
}

/// A NUL-padded field up to its first NUL.
pub fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_wrong_length_or_kind_is_refused() {
        let mut birth = BirthRecord::zeroed();
        birth.header.kind = KIND_BIRTH;
        let bytes = bytemuck::bytes_of(&birth);
        assert!(matches!(decode(bytes), Some(Record::Birth(_))));
        assert!(decode(&bytes[..bytes.len() - 8]).is_none());
        birth.header.kind = 0x10;
        assert!(decode(bytemuck::bytes_of(&birth)).is_none());
        assert!(decode(&[1]).is_none());
    }
}
