//! The kernel's own counters: what it skipped, and what the programs could not do.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::mm::ProtFlags;

use super::mapped::Mapped;

/// `recursion_misses` of each attached program, by its name.
pub type Misses = BTreeMap<&'static str, u64>;

/// Node-wide counters of the programs, by `khard_common::stats`.
pub type Stats = [u64; khard_common::limits::STATS];

/// The programs' own counters, mapped.
pub(super) struct StatsMap(Mapped<u64>);

impl StatsMap {
    /// Maps the array behind a map's descriptor.
    pub(super) fn map(fd: BorrowedFd<'_>) -> std::io::Result<Self> {
        Mapped::map(fd, khard_common::limits::STATS, ProtFlags::READ).map(Self)
    }

    pub(super) fn read(&self) -> Stats {
        // SAFETY: an aligned word of the mapping.
        std::array::from_fn(|stat| unsafe { AtomicU64::from_ptr(self.0.at(stat)) }.load(Ordering::Acquire))
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
