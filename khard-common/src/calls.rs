//! What a system call's arguments say of accesses: one [`CallPlan`] for each call, by its place in the syscall table. User space
//! makes them by the calls' names; the kernel program that reads them knows no number.

use bytemuck::{Pod, Zeroable};

/// How the arguments of a call are read: [`CallPlan::kind`].
pub mod kind {
    /// Says nothing.
    pub const NOTHING: u8 = 0;
    /// Gives a descriptor: `a` the directory, `b` the path, `c` the flags.
    pub const OPEN: u8 = 1;
    /// Does `op` to the file of descriptor `a`; `c`: the kind of lock.
    pub const OF_DESCRIPTOR: u8 = 2;
    /// Maps the file of descriptor `a`; `c`: the protection.
    pub const MAP: u8 = 3;
    /// Does `op` to the path `b` in directory `a`; `c`: the flags of unlinkat(2).
    pub const OF_PATH: u8 = 4;
    /// Renames or links the path `b` in `a` to the path `d` in `c`; `e`: the flags of renameat2(2).
    pub const OF_TWO_PATHS: u8 = 5;
    /// Makes a socket of family `a` and type `b`.
    pub const SOCKET: u8 = 6;
    /// Sends signal `b`; only the mere test counts, other signals have a tracepoint.
    pub const SIGNAL: u8 = 7;
    /// Traces: request `a`.
    pub const TRACE: u8 = 8;
    /// Reads or writes another process's memory.
    pub const OTHER_MEMORY: u8 = 9;
    /// Mounts `a` on `b` as `c` with flags `d`.
    pub const MOUNT: u8 = 10;
    /// Unmounts `a` with flags `b`.
    pub const UMOUNT: u8 = 11;
    /// Makes `a` the root and puts the old one to `b`.
    pub const PIVOT_ROOT: u8 = 12;
    /// Moves a mount to the path `b` in directory `a`.
    pub const MOVE_MOUNT: u8 = 13;
    /// Does `op` to the unix socket whose address is `b`, of length `c`; `e`: it is in a message's header.
    pub const OF_ADDRESS: u8 = 14;
    /// Makes namespaces by flags `a`; `e`: they are in memory.
    pub const NAMESPACES: u8 = 15;
    /// Sets up `io_uring` with the parameters at `b`.
    pub const IO_URING: u8 = 16;
}

/// In place of an argument's number: there is none. For a directory: the working directory.
pub const NONE: u8 = 15;
/// In place of the flags' number: they are the first word of what argument 2 points to (openat2(2)).
pub const IN_MEMORY: u8 = 14;

/// How one call is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CallPlan {
    /// See [`kind`].
    pub kind: u8,
    /// [`crate::access::Op`] as a number.
    pub op: u8,
    /// Arguments' numbers, by kind.
    pub a: u8,
    /// See [`Self::a`].
    pub b: u8,
    /// See [`Self::a`].
    pub c: u8,
    /// See [`Self::a`].
    pub d: u8,
    /// See [`Self::a`].
    pub e: u8,
    /// For locks: 1 flock(2)'s operations, 2 fcntl(2)'s commands.
    pub f: u8,
}
