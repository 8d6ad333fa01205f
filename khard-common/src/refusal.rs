//! The word by which user space tells the programs that look for refused calls what their notes are worth.

/// In the epoch of the notes: the kernel skips none of the programs that make them, and `sys_exit` sees a note before it is taken away.
/// Then a call without a note was answered by a filter for certain.
pub const PASSES_ARE_NOTED: u64 = 1;
/// What the epoch's number counts in.
pub const EPOCH_STEP: u64 = 2;
