//! Every size that both sides must agree on, and why it is what it is.

/// Slots of the subject array. Slot 0 means "not recorded" and is never given away.
///
/// At least 1,024 containers at once, and room for the births on the node that wait to be named.
pub const SLOTS: u32 = 2048;

/// Bytes of one slot's syscall table: 512 native, 512 ia32, 1,024 x32 numbers.
///
/// Linux 7.0 ends at 471 (native) and 547 (x32): `arch/x86/entry/syscalls/syscall_64.tbl`. The x32 part is
/// addressed by the number without its bit 30, so it spans 0 to 1,023.
pub const TABLE_BYTES: usize = 2048;

/// Entries of the cache from cgroup id to slot, a power of two. A collision costs a re-resolution, no error.
pub const VERDICTS: usize = 16384;

/// Subjects that can be registered at once: one entry for each slot.
pub const SUBJECTS: u32 = SLOTS;

/// Cgroups under which births are adopted.
pub const WATCHED: u32 = 64;

/// Processes that are in another phase than the workload (runtimes at work, exec'd processes), node-wide.
///
/// A slot counts them in 16 bits each ([`crate::slot::Slot::others`]), so this must stay below 65,536.
pub const PROCESSES: u32 = 16384;

/// Bytes of the ring of first sightings. A slot can send at most one record for each byte and phase of its
/// table, so that 1 MiB holds several thousand new calls between two looks of user space; a full ring loses
/// no observation, for the record is sent again with the next such call.
pub const RING_BYTES: u32 = 1 << 20;

/// Bytes of the ring of accesses. A record is its path's length and about 150 bytes, so that it holds some 80,000.
pub const ACCESS_RING_BYTES: u32 = 1 << 24;

/// Bytes that one subject may have in the ring of accesses at once: a quarter, so that a noisy neighbour leaves room.
pub const ACCESS_RING_SHARE: u64 = ACCESS_RING_BYTES as u64 / 4;

/// Different accesses that a subject may send: beyond it they are counted as lost, and the class is lossy.
pub const ACCESSES: u64 = 120_000;

/// Marks of accesses that were sent already, for all subjects. The kernel drops the least recently used beyond it: such an
/// access is sent again, which costs time and loses nothing.
pub const SEEN_ACCESSES: u32 = 1 << 18;

/// Names that were looked at lately, for all subjects, with the accesses that were known then.
pub const SEEN_NAMES: u32 = 1 << 16;

/// Threads in a call that asked for something whose outcome is not known yet, on the whole node.
pub const PENDING_CALLS: u32 = 1 << 14;

/// Threads with a seccomp filter whose calls are followed at a time: the least used are forgotten, and nothing is claimed of them
/// until their next call.
pub const FILTERED_THREADS: u32 = 1 << 14;

/// Different refusals of system calls that are known to be told.
pub const REFUSALS: u32 = 1 << 12;

/// Credentials of overlays that subjects mounted themselves, on the whole node. Beyond it the least recently used are
/// forgotten; most are of files that an overlay made, and of no use any more.
pub const MOUNTERS: u32 = 1 << 12;

/// AppArmor's longest name: `2 * PATH_MAX` (`aa_g_path_max`, security/apparmor/lsm.c).
pub const PATH_BYTES: u32 = 8192;

/// Buffers for each CPU in which paths are built. BPF LSM programs can be preempted, so that several are at work at once.
pub const SCRATCHES_PER_CPU: u32 = 4;

/// Bytes of a task's `comm`, its NUL included (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_BYTES: usize = 16;

/// Bytes kept of the name of a task's executable. Longer names are cut and say so
/// (`NAME_MAX` is 255; see [`crate::record::SyscallRecord::exe_len`]).
pub const EXE_BYTES: usize = 64;

/// Bytes kept of a cgroup's path at its birth, its NUL included. The deepest path of a kubelet with the
/// systemd driver has about 210.
pub const CGROUP_PATH_BYTES: usize = 512;

/// How far up the tree a cgroup's registered ancestor is looked for.
pub const CGROUP_DEPTH: u32 = 32;

/// How young a process is that may still be on its way into a cgroup, without the kernel having told of it, in ns. A
/// runtime moves what it has just forked; older processes are orphans of the workload.
pub const UNTOLD_NS: u64 = 5_000_000_000;

/// Syscall numbers outside the table for which a slot sends records; more are only counted.
pub const UNKNOWN_RECORDS: u64 = 64;

/// Counters that the programs keep for the whole node: see [`crate::stats`].
pub const STATS: usize = 6;
