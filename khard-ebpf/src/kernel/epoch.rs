//! When paths may have become others: two counts of the kernel's that move with every rename and every mount.
//!
//! A rename moves the count of `rename_lock` (`d_move()`, fs/dcache.c), a mount that of `mount_lock` (fs/namespace.c); each is odd
//! while a change is under way.

use super::probe;

/// Where the locks are; 0 where the kernel does not list them.
#[unsafe(no_mangle)]
static RENAME_LOCK: aya_ebpf::Global<u64> = aya_ebpf::Global::new(0);
/// See [`RENAME_LOCK`].
#[unsafe(no_mangle)]
static MOUNT_LOCK: aya_ebpf::Global<u64> = aya_ebpf::Global::new(0);

/// Both counts at a moment, renames in the upper half; 0 where they are not known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) u64);

impl Epoch {
    #[inline(always)]
    pub(crate) fn now() -> Self {
        let (renames, mounts) = (RENAME_LOCK.load(), MOUNT_LOCK.load());
        if renames == 0 || mounts == 0 {
            return Self(0);
        }
        // seqlock_t begins with its count, an unsigned int (include/linux/seqlock_types.h).
        let (renames, mounts): (u32, u32) = (probe(renames, 0), probe(mounts, 0));
        Self(u64::from(renames) << 32 | u64::from(mounts))
    }

    #[inline(always)]
    pub(crate) fn is_known(self) -> bool {
        self.0 != 0
    }

    /// Whether no change is under way.
    #[inline(always)]
    pub(crate) fn is_at_rest(self) -> bool {
        self.0 & (1 << 32 | 1) == 0
    }
}
