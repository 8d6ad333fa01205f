//! Owns the table of calls that do the same, and what is looked for by it: a refusal that forgets one of them, and a list that a
//! change of libc breaks.
//!
//! From the man pages' own words ("the … system call operates in exactly the same way as …", "supersedes"), man-pages 6.20, and for
//! names with a 64 or 32 at their end from syscalls(2). What a denied name and its twin do need not be the same in all: a program can
//! do with the one what was refused by the other.

use super::super::table;
use super::super::{At, Finding};
use super::view::{Open, View};

/// Calls of which each can do what the others do.
struct Group {
    calls: &'static [&'static str],
    /// A libc picks one of them for the same function.
    by_libc: bool,
}

const fn libc(calls: &'static [&'static str]) -> Group {
    Group { calls, by_libc: true }
}

const fn other(calls: &'static [&'static str]) -> Group {
    Group { calls, by_libc: false }
}

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    libc(&["open", "openat", "openat2", "creat"]),
    libc(&["mkdir", "mkdirat"]),
    libc(&["mknod", "mknodat"]),
    libc(&["unlink", "unlinkat"]),
    libc(&["rmdir", "unlinkat"]),
    libc(&["rename", "renameat", "renameat2"]),
    libc(&["link", "linkat"]),
    libc(&["symlink", "symlinkat"]),
    libc(&["readlink", "readlinkat"]),
    libc(&["chmod", "fchmod", "fchmodat", "fchmodat2"]),
    libc(&["chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32"]),
    libc(&["access", "faccessat", "faccessat2"]),
    libc(&["stat", "lstat", "fstat", "newfstatat", "statx", "stat64", "lstat64", "fstat64", "fstatat64"]),
    libc(&["statfs", "statfs64"]),
    libc(&["truncate", "truncate64"]),
    libc(&["utime", "utimes", "futimesat", "utimensat", "utimensat_time64"]),
    libc(&["getdents", "getdents64"]),
    libc(&["execve", "execveat"]),
    libc(&["fork", "vfork", "clone", "clone3"]),
    libc(&["accept", "accept4"]),
    libc(&["sendmsg", "sendmmsg", "sendto"]),
    libc(&["recvmsg", "recvmmsg", "recvfrom", "recvmmsg_time64"]),
    libc(&["setuid", "setreuid", "setresuid", "setuid32", "setreuid32", "setresuid32"]),
    libc(&["setgid", "setregid", "setresgid", "setgid32", "setregid32", "setresgid32"]),
    libc(&["setgroups", "setgroups32"]),
    libc(&["setrlimit", "prlimit64"]),
    libc(&["mmap", "mmap2"]),
    libc(&["dup2", "dup3"]),
    libc(&["pipe", "pipe2"]),
    libc(&["poll", "ppoll", "ppoll_time64"]),
    libc(&["select", "pselect6", "_newselect", "pselect6_time64"]),
    libc(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]),
    libc(&["epoll_create", "epoll_create1"]),
    libc(&["eventfd", "eventfd2"]),
    libc(&["inotify_init", "inotify_init1"]),
    libc(&["signalfd", "signalfd4"]),
    libc(&["futex", "futex_time64"]),
    libc(&["clock_settime", "settimeofday", "stime", "clock_settime64"]),
    libc(&["clock_adjtime", "adjtimex", "clock_adjtime64"]),
    libc(&["preadv", "preadv2"]),
    libc(&["pwritev", "pwritev2"]),
    other(&["setxattr", "lsetxattr", "fsetxattr", "setxattrat"]),
    other(&["getxattr", "lgetxattr", "fgetxattr", "getxattrat"]),
    other(&["removexattr", "lremovexattr", "fremovexattr", "removexattrat"]),
    other(&["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"]),
    other(&["mprotect", "pkey_mprotect"]),
    other(&["sched_setscheduler", "sched_setattr", "sched_setparam"]),
    other(&["quotactl", "quotactl_fd"]),
    other(&["umount", "umount2"]),
    other(&["init_module", "finit_module"]),
    other(&["kexec_load", "kexec_file_load"]),
    other(&["ioperm", "iopl"]),
    // Reading and writing another process's memory, and taking its files: ptrace(2), process_vm_readv(2), pidfd_getfd(2).
    other(&["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"]),
    // The new mount interface does all that mount(2) does: fsopen(2), fsmount(2), move_mount(2), open_tree(2).
    other(&["mount", "fsopen", "fsmount", "move_mount", "open_tree", "open_tree_attr"]),
];

/// What libcs call first where they know it, and replace by an older call if it returns ENOSYS only: glibc's clone-internal.c and
/// spawni.c (2.34), faccessat.c (2.33), fchmodat.c (2.39), fexecve.c (2.27); statx(2) in Rust's and others' file functions; the rest on
/// 32-bit machines with 64-bit times.
const TRIED_FIRST: [&str; 10] = [
    "clone3",
    "faccessat2",
    "fchmodat2",
    "execveat",
    "statx",
    "futex_time64",
    "ppoll_time64",
    "pselect6_time64",
    "recvmmsg_time64",
    "utimensat_time64",
];

/// What the second does too, and not the other way round.
#[rustfmt::skip]
const ONE_WAY: &[(&str, &[&str])] = &[
    // Namespaces: clone(2).
    ("unshare", &["clone", "clone3"]),
    // With SQPOLL a ring needs no io_uring_enter.
    ("io_uring_enter", &["io_uring_setup"]),
    ("mount_setattr", &["mount"]),
    ("fspick", &["mount"]),
    // On 32-bit x86 both exist since Linux 4.3; the other way round libseccomp refuses for us.
    ("socketcall", &["socket"]),
];

/// The calls that can do what one does, itself aside.
pub(super) fn of(name: &str) -> impl Iterator<Item = &'static str> {
    let groups = GROUPS.iter().filter(move |group| group.calls.contains(&name));
    groups.flat_map(|group| group.calls.iter().copied()).filter(move |twin| *twin != name)
}

pub(super) fn look(view: &View<'_>, findings: &mut Vec<Finding>) {
    if view.is_deny_list() {
        forgotten(view, findings);
    } else {
        fallbacks(view, findings);
    }
}

/// Calls that are refused in earnest: ENOSYS asks the program to use another call.
fn is_refused(view: &View<'_>, name: &str) -> bool {
    view.open(name).is_some_and(|open| open.is_never() && !open.is_enosys())
}

fn forgotten(view: &View<'_>, findings: &mut Vec<Finding>) {
    let mut found = |refused: &[&str], open: &[&str]| {
        if let (Some(first), false) = (refused.first(), open.is_empty()) {
            let at = view.entries(first).next().map_or(At::Profile, |(place, _)| At::Entry(place));
            let (is, does) = if refused.len() == 1 { ("is", "does") } else { ("are", "do") };
            let others = if open.len() == 1 { does } else { "do" };
            let what = format!(
                "{} {is} refused, and {} {others} the same and {} open",
                refused.join(", "),
                open.join(", "),
                if open.len() == 1 { "is" } else { "are" }
            );
            findings.push(Finding::new(&table::FORGOTTEN_TWIN, at, what));
        }
    };
    let is_open = |name: &&str| view.open(name) == Some(Open::Always);
    for group in GROUPS {
        let refused: Vec<&str> = group.calls.iter().copied().filter(|name| is_refused(view, name)).collect();
        let open: Vec<&str> = group.calls.iter().copied().filter(is_open).collect();
        found(&refused, &open);
    }
    for (name, twins) in ONE_WAY.iter().filter(|(name, _)| is_refused(view, name)) {
        let open: Vec<&str> = twins.iter().copied().filter(is_open).collect();
        found(&[*name], &open);
    }
}

/// Lists that allow one way of doing something and refuse another, which the next libc may take.
fn fallbacks(view: &View<'_>, findings: &mut Vec<Finding>) {
    let (mut newer, mut newer_on_crun, mut older) = (Vec::new(), Vec::new(), Vec::new());
    for group in GROUPS.iter().filter(|group| group.by_libc) {
        let of = |wanted: fn(Open) -> bool| {
            let calls = group.calls.iter().copied();
            calls.filter(move |name| view.native_open(name).is_some_and(wanted)).collect::<Vec<_>>()
        };
        let allowed = of(|open| !open.is_never());
        let refused = of(|open| open.is_never() && !open.is_enosys());
        if allowed.is_empty() {
            continue;
        }
        let mut old = Vec::new();
        for name in refused {
            match name {
                name if !TRIED_FIRST.contains(&name) => old.push(name),
                _ if view.runc_answers_enosys(name) => newer_on_crun.push((name, allowed.clone())),
                _ => newer.push((name, allowed.clone())),
            }
        }
        if !old.is_empty() {
            older.push(format!("{}, but not {}", allowed.join(", "), old.join(", ")));
        }
    }
    let lines = |calls: &[(&str, Vec<&str>)]| {
        calls
            .iter()
            .map(|(name, allowed)| format!("{name} beside {}", allowed.join(", ")))
            .collect::<Vec<_>>()
    };
    for (kind, calls) in [(&table::LIBC_FALLBACK, &newer), (&table::LIBC_FALLBACK_CRUN, &newer_on_crun)] {
        if !calls.is_empty() {
            let what = "newer calls are refused otherwise than with ENOSYS, and what they replace is allowed";
            findings.push(Finding::new(kind, At::Profile, what).with(lines(calls)));
        }
    }
    if !older.is_empty() {
        let what = "of calls that do the same, some are allowed";
        findings.push(Finding::new(&table::UNALLOWED_TWIN, At::Profile, what).with(older));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls;

    #[test]
    fn every_twin_is_a_call() {
        let one_way =
            ONE_WAY.iter().flat_map(|(name, twins)| std::iter::once(name).chain(*twins)).chain(&TRIED_FIRST);
        for name in GROUPS.iter().flat_map(|group| group.calls).chain(one_way) {
            assert!(syscalls::by_name(name).is_some(), "{name}");
        }
    }
}
