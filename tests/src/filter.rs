//! A seccomp filter of a test's own. Knows no profile.

#![expect(
    clippy::cast_possible_truncation,
    reason = "filters are short, and the opcodes of BPF fit into their field"
)]

use std::io;

/// As [`answer`], with an error.
pub fn refuse(nr: u32, argument: Option<u32>, errno: u16) -> io::Result<()> {
    answer(nr, argument, libc::SECCOMP_RET_ERRNO | u32::from(errno))
}

/// From now on this thread's call of this number is answered so, if the low half of its first argument is `argument`, or there is none.
/// `struct seccomp_data`: include/uapi/linux/seccomp.h.
pub fn answer(nr: u32, argument: Option<u32>, outcome: u32) -> io::Result<()> {
    const NR: u32 = 0;
    /// The low half of the first argument.
    const ARGUMENT: u32 = 16;
    let load = |at| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: at,
    };
    let unless = |k, skip| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: skip,
        k,
    };
    let end = |k| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let answered = end(outcome);
    let allowed = end(libc::SECCOMP_RET_ALLOW);
    let mut filter = match argument {
        Some(argument) => {
            vec![load(NR), unless(nr, 3), load(ARGUMENT), unless(argument, 1), answered, allowed]
        }
        None => vec![load(NR), unless(nr, 1), answered, allowed],
    };
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call.
    let answer = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
