//! An array map's entries in this process's memory: reading them is no `bpf()` call, in which the kernel would skip perf
//! tracepoint programs. Knows nothing of what an entry means.

use std::{io, os::fd::BorrowedFd, ptr::NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The first entries of an array map, whose entries of this type follow each other without a gap (multiples of 8 bytes).
pub(super) struct Mapped<T> {
    base: NonNull<T>,
    n: usize,
}

// SAFETY: the mapping is shared memory by nature; how it may be touched is said at `at`.
unsafe impl<T> Send for Mapped<T> {}

impl<T> Mapped<T> {
    /// Maps `n` entries of the array behind a map's descriptor.
    pub(super) fn map(fd: BorrowedFd<'_>, n: usize, protection: ProtFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base =
            unsafe { mmap(std::ptr::null_mut(), n * size_of::<T>(), protection, MapFlags::SHARED, fd, 0) }?;
        NonNull::new(base.cast()).map(|base| Self { base, n }).ok_or_else(|| io::Error::other("mapped at 0"))
    }

    /// An entry, aligned, and valid as long as this lives. The kernel changes it at any time: it is touched by atomic
    /// operations or volatile ones of a byte.
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.n, "entry {index} of {}", self.n);
        // SAFETY: within the mapping.
        unsafe { self.base.as_ptr().add(index) }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing borrows beyond a call.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.n * size_of::<T>()) };
    }
}
