//! Words that several CPUs and user space touch at once.
//!
//! `core`'s atomics do not select on BPF targets, so the instructions are written out. Plain loads and stores
//! of one aligned word are never torn (one `ldx`/`stx`).

use core::{cell::UnsafeCell, ptr};

/// A 64-bit word in a `.bss` section.
#[repr(transparent)]
pub(crate) struct Word(UnsafeCell<u64>);

// SAFETY: every access is one aligned load, store or atomic instruction.
unsafe impl Sync for Word {}

impl Word {
    pub(crate) const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: the cell is valid and aligned.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    #[inline(always)]
    pub(crate) fn store(&self, value: u64) {
        // SAFETY: the cell is valid and aligned.
        unsafe { ptr::write_volatile(self.0.get(), value) }
    }
}

/// Adds without looking (`BPF_ATOMIC | BPF_ADD`).
///
/// # Safety
/// `word` must be valid and aligned to 8.
#[inline(always)]
pub(crate) unsafe fn add(word: *mut u64, value: u64) {
    // SAFETY: the caller's.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) value) };
}

/// Adds and returns the value before (`BPF_ADD | BPF_FETCH`, kernel 5.12).
///
/// # Safety
/// `word` must be valid and aligned to 8.
#[inline(always)]
pub(crate) unsafe fn fetch_add(word: *mut u64, value: u64) -> u64 {
    let mut before = value;
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) word, inout(reg) before);
    }
    before
}

/// Sets bits (`BPF_OR`, kernel 5.12).
///
/// # Safety
/// `word` must be valid and aligned to 8.
#[inline(always)]
pub(crate) unsafe fn or(word: *mut u64, bits: u64) {
    // SAFETY: the caller's.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) word, in(reg) bits) };
}

/// Sets bits and returns the value before (`BPF_OR | BPF_FETCH`, kernel 5.12).
///
/// # Safety
/// `word` must be valid and aligned to 8.
#[inline(always)]
pub(crate) unsafe fn fetch_or(word: *mut u64, bits: u64) -> u64 {
    let mut before = bits;
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("{1} = atomic_fetch_or((u64 *)({0} + 0), {1})", in(reg) word, inout(reg) before);
    }
    before
}

/// Keeps only `bits` (`BPF_AND`, kernel 5.12).
///
/// # Safety
/// `word` must be valid and aligned to 8.
#[inline(always)]
pub(crate) unsafe fn and(word: *mut u64, bits: u64) {
    // SAFETY: the caller's.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) &= {1}", in(reg) word, in(reg) bits) };
}

/// Always 0, which only we know.
static NOTHING: Word = Word::new(0);

/// `value`, of which the verifier knows nothing any more.
///
/// VERIFIER: it follows each value or range that it knows on its own through all that comes after. A word from a map may be
/// anything for it, and what is mixed with that too. (A way by the stack forgets all but zeros: `STACK_ZERO`,
/// `check_stack_write_fixed_off()`, kernel/bpf/verifier.c.)
#[inline(always)]
pub(crate) fn opaque(value: u32) -> u32 {
    opaque_word(value.into()) as u32
}

/// [`opaque`] for a whole word.
#[inline(always)]
pub(crate) fn opaque_word(value: u64) -> u64 {
    value ^ NOTHING.load()
}

/// `value & MASK` as an index.
///
/// VERIFIER: LLVM removes an AND that it can prove to change nothing; 6.1's verifier then does not know the
/// bound. Written in assembly it stays.
#[inline(always)]
pub(crate) fn index<const MASK: u64>(mut value: u64) -> usize {
    // SAFETY: no memory is touched.
    unsafe { core::arch::asm!("{0} &= {mask}", inout(reg) value, mask = const MASK) };
    value as usize
}

/// `END - n` as an index, for `n` below `END`, a power of two.
///
/// VERIFIER: as [`index`]; the subtraction is written out too, for LLVM would move it to the pointer, which must not be
/// moved backwards. (A negation would do too, but 6.1 forgets what it knows of its operand.)
#[inline(always)]
pub(crate) fn from_end<const END: u64>(n: u64) -> usize {
    let (mut n, mut at) = (n, END);
    // SAFETY: no memory is touched.
    unsafe {
        core::arch::asm!("{0} &= {mask}", "{1} -= {0}", inout(reg) n, inout(reg) at, mask = const END - 1)
    };
    let _ = n;
    at as usize
}
