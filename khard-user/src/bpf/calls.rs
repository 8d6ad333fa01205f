//! How the arguments of system calls tell of accesses, by the calls' names: what the program at their return is given. Owns the
//! table; what is made of it is the program's (`khard-ebpf/src/programs/call.rs`).

use khard_common::{
    access::Op,
    calls::{CallPlan, IN_MEMORY, NONE, kind},
    slot::{Abi as TableAbi, table_index},
};
use khard_profile::{recording::Abi, syscalls};

const fn plan(kind: u8, op: u8, args: [u8; 5]) -> CallPlan {
    CallPlan { kind, op, a: args[0], b: args[1], c: args[2], d: args[3], e: args[4], f: 0 }
}

const fn open(directory: u8, path: u8, flags: u8) -> CallPlan {
    plan(kind::OPEN, 0, [directory, path, flags, NONE, NONE])
}

const fn of_descriptor(op: Op, descriptor: u8) -> CallPlan {
    plan(kind::OF_DESCRIPTOR, op as u8, [descriptor, NONE, NONE, NONE, NONE])
}

const fn of_path(op: Op, directory: u8, path: u8) -> CallPlan {
    plan(kind::OF_PATH, op as u8, [directory, path, NONE, NONE, NONE])
}

const fn of_two_paths(op: Op, args: [u8; 4], flags: u8) -> CallPlan {
    plan(kind::OF_TWO_PATHS, op as u8, [args[0], args[1], args[2], args[3], flags])
}

const fn of_address(op: Op, address: u8, len: u8) -> CallPlan {
    plan(kind::OF_ADDRESS, op as u8, [0, address, len, NONE, NONE])
}

const fn lock(form: u8) -> CallPlan {
    CallPlan { f: form, ..plan(kind::OF_DESCRIPTOR, Op::Lock as u8, [0, NONE, 1, NONE, NONE]) }
}

const fn plain(kind: u8, a: u8, b: u8) -> CallPlan {
    plan(kind, 0, [a, b, NONE, NONE, NONE])
}

/// Every call that tells of an access, with the numbers of its arguments (syscalls(2)).
const CALLS: &[(&str, CallPlan)] = &[
    ("open", open(NONE, 0, 1)),
    ("creat", open(NONE, 0, NONE)),
    ("openat", open(0, 1, 2)),
    ("openat2", open(0, 1, IN_MEMORY)),
    ("fchmod", of_descriptor(Op::Chmod, 0)),
    ("fchown", of_descriptor(Op::Chown, 0)),
    ("fchown32", of_descriptor(Op::Chown, 0)),
    ("ftruncate", of_descriptor(Op::Truncate, 0)),
    ("ftruncate64", of_descriptor(Op::Truncate, 0)),
    ("flock", lock(1)),
    ("fcntl", lock(2)),
    ("fcntl64", lock(2)),
    ("mmap", plan(kind::MAP, 0, [4, NONE, 2, NONE, NONE])),
    ("mmap2", plan(kind::MAP, 0, [4, NONE, 2, NONE, NONE])),
    ("mknod", of_path(Op::Create, NONE, 0)),
    ("mknodat", of_path(Op::Create, 0, 1)),
    ("mkdir", of_path(Op::Mkdir, NONE, 0)),
    ("mkdirat", of_path(Op::Mkdir, 0, 1)),
    ("rmdir", of_path(Op::Rmdir, NONE, 0)),
    ("unlink", of_path(Op::Unlink, NONE, 0)),
    ("unlinkat", plan(kind::OF_PATH, Op::Unlink as u8, [0, 1, 2, NONE, NONE])),
    ("symlink", of_path(Op::Symlink, NONE, 1)),
    ("symlinkat", of_path(Op::Symlink, 1, 2)),
    ("truncate", of_path(Op::Truncate, NONE, 0)),
    ("truncate64", of_path(Op::Truncate, NONE, 0)),
    ("chmod", of_path(Op::Chmod, NONE, 0)),
    ("fchmodat", of_path(Op::Chmod, 0, 1)),
    ("fchmodat2", of_path(Op::Chmod, 0, 1)),
    ("chown", of_path(Op::Chown, NONE, 0)),
    ("chown32", of_path(Op::Chown, NONE, 0)),
    ("lchown", of_path(Op::Chown, NONE, 0)),
    ("lchown32", of_path(Op::Chown, NONE, 0)),
    ("fchownat", of_path(Op::Chown, 0, 1)),
    ("rename", of_two_paths(Op::RenameFrom, [NONE, 0, NONE, 1], NONE)),
    ("renameat", of_two_paths(Op::RenameFrom, [0, 1, 2, 3], NONE)),
    ("renameat2", of_two_paths(Op::RenameFrom, [0, 1, 2, 3], 4)),
    ("link", of_two_paths(Op::Link, [NONE, 0, NONE, 1], NONE)),
    ("linkat", of_two_paths(Op::Link, [0, 1, 2, 3], NONE)),
    ("socket", plain(kind::SOCKET, 0, 1)),
    ("socketpair", plain(kind::SOCKET, 0, 1)),
    ("connect", of_address(Op::Connect, 1, 2)),
    ("bind", of_address(Op::Create, 1, 2)),
    ("sendto", of_address(Op::Send, 4, 5)),
    ("sendmsg", plan(kind::OF_ADDRESS, Op::Send as u8, [0, 1, NONE, NONE, 1])),
    ("kill", plain(kind::SIGNAL, 0, 1)),
    ("tkill", plain(kind::SIGNAL, 0, 1)),
    ("tgkill", plain(kind::SIGNAL, 0, 2)),
    ("pidfd_send_signal", plain(kind::SIGNAL, 0, 1)),
    ("ptrace", plain(kind::TRACE, 0, NONE)),
    ("process_vm_readv", plain(kind::OTHER_MEMORY, NONE, NONE)),
    ("process_vm_writev", plain(kind::OTHER_MEMORY, NONE, NONE)),
    ("pidfd_getfd", plain(kind::OTHER_MEMORY, NONE, NONE)),
    ("mount", plain(kind::MOUNT, NONE, NONE)),
    ("umount", plain(kind::UMOUNT, 0, NONE)),
    ("umount2", plain(kind::UMOUNT, 0, 1)),
    ("pivot_root", plain(kind::PIVOT_ROOT, NONE, NONE)),
    ("move_mount", plain(kind::MOVE_MOUNT, 2, 3)),
    ("unshare", plain(kind::NAMESPACES, 0, NONE)),
    ("clone", plain(kind::NAMESPACES, 0, NONE)),
    ("clone3", plan(kind::NAMESPACES, 0, [0, NONE, NONE, NONE, 1])),
    ("io_uring_setup", plain(kind::IO_URING, 0, 1)),
];

/// The call with this name and no other number: 32-bit umount(2) is the one without flags, and 64-bit `umount2` the only one.
fn numbers(name: &str) -> impl Iterator<Item = (TableAbi, u32)> {
    let call = syscalls::by_name(name);
    [(Abi::X86_64, TableAbi::Native), (Abi::Ia32, TableAbi::Ia32), (Abi::X32, TableAbi::X32)]
        .into_iter()
        .filter_map(move |(abi, table)| Some((table, call?.number(abi)?)))
}

/// Each place of the syscall table that has a plan.
pub(super) fn plans() -> impl Iterator<Item = (u32, CallPlan)> {
    CALLS.iter().flat_map(|(name, plan)| {
        numbers(name).filter_map(move |(abi, nr)| Some((u32::try_from(table_index(abi, nr)?).ok()?, *plan)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_table_has_a_number_and_none_has_two_plans() {
        for (name, _) in CALLS {
            assert!(numbers(name).next().is_some(), "{name}");
        }
        let mut places: Vec<_> = plans().map(|(at, _)| at).collect();
        let n_places = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), n_places);
    }
}
