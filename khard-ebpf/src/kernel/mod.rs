//! The only place that reads kernel structs. Offsets come from the running kernel's BTF.
//!
//! Two ways of reading. *Direct*: one load through a pointer that the verifier knows to be a task, a few
//! nanoseconds, for the hot path. *Probe*: `bpf_probe_read_kernel`, for any address, tens of nanoseconds.

pub(crate) mod cgroup;
pub(crate) mod epoch;
pub(crate) mod path;
pub(crate) mod task;

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

macro_rules! constants {
    ($($name:ident: $($struct:literal $member:literal)|+;)*) => {
        /// Byte offsets, set by user space before loading and then frozen, so that the verifier knows them.
        pub(crate) mod offset {
            $(
                #[unsafe(no_mangle)]
                #[doc = concat!("Set from BTF: ", $($struct, ".", $member, " "),+)]
                pub(crate) static $name: aya_ebpf::Global<u64> = aya_ebpf::Global::new(0);
            )*
        }
    };
}
khard_common::kernel_fields!(constants);

/// One load through a typed pointer.
///
/// # Safety
/// `base` must be a pointer that the verifier tracks (from a task), and `offset` a field of type `T` in it.
#[inline(always)]
pub(crate) unsafe fn direct<T: Copy>(base: *const u8, offset: u64) -> T {
    // SAFETY: the caller's; the verifier checks it again, and a fault reads as 0.
    unsafe { core::ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// A field of a struct anywhere in kernel memory; 0 where it cannot be read, as behind a null pointer.
///
/// VERIFIER: no branch on the outcome. The helper fills the buffer with zeros when it fails
/// (`bpf_probe_read_kernel_common()`, `kernel/trace/bpf_trace.c`); a branch would double the states of every loop
/// that reads (`cgroup_mkdir`: 507,009 instructions on 6.1 instead of 3,755).
#[inline(always)]
pub(crate) fn probe<T: Number>(base: u64, offset: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and writes the whole value in any case.
    unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, (base + offset) as *const _);
        value.assume_init()
    }
}

/// What may be read: every bit pattern is a value.
pub(crate) trait Number: Copy {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for i32 {}
impl Number for u64 {}
