//! The kernel's own counters: what it skipped, and what the programs could not do.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// `recursion_misses` of each attached program, by its name.
pub type Misses = BTreeMap<&'static str, u64>;

/// Node-wide counters of the programs, by `khard_common::stats`.
pub type Stats = [u64; khard_common::limits::STATS];

/// The programs' own counters, mapped: reading them is no `bpf()` call, in which the kernel would skip
/// perf tracepoint programs.
pub(super) struct StatsMap(NonNull<u64>);

// SAFETY: the mapping is shared memory by nature, and every access to it is atomic.
unsafe impl Send for StatsMap {}

impl StatsMap {
    /// Maps the array behind a map's descriptor.
    pub(super) fn map(fd: BorrowedFd<'_>) -> std::io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            mmap(std::ptr::null_mut(), size_of::<Stats>(), ProtFlags::READ, MapFlags::SHARED, fd, 0)
        }?;
        NonNull::new(base.cast()).map(Self).ok_or_else(|| std::io::Error::other("mapped at 0"))
    }

    pub(super) fn read(&self) -> Stats {
        std::array::from_fn(|stat| {
            // SAFETY: an aligned word of the mapping.
            unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(stat)) }.load(Ordering::Acquire)
        })
    }
}

impl Drop for StatsMap {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing borrows beyond a call.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), size_of::<Stats>()) };
    }
}

/// Events for which the kernel skipped a program since it was loaded: `recursion_misses` in the descriptor's
/// fdinfo (`bpf_prog_show_fdinfo()`, kernel/bpf/syscall.c, since 5.12).
pub(super) fn recursion_misses(program: BorrowedFd<'_>) -> std::io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = fs::read_to_string(&path)?;
    parse_misses(&text).ok_or_else(|| std::io::Error::other(format!("no recursion_misses in {path}")))
}

fn parse_misses(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

/// What was missed between two readings.
pub fn rise(before: &Misses, after: &Misses) -> Misses {
    after.iter().map(|(name, n)| (*name, n.saturating_sub(before.get(name).copied().unwrap_or(0)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_from_fdinfo() {
        assert_eq!(
            parse_misses("pos:\t0\nprog_type:\t17\nrecursion_misses:\t42\nverified_insns:\t9\n"),
            Some(42)
        );
        assert_eq!(parse_misses("pos:\t0\n"), None);
    }

    #[test]
    fn a_rise_is_taken_program_by_program() {
        let before = Misses::from([("sys_enter", 5)]);
        let after = Misses::from([("sys_enter", 7), ("sys_enter_perf", 1)]);
        assert_eq!(rise(&before, &after), Misses::from([("sys_enter", 2), ("sys_enter_perf", 1)]));
    }
}
