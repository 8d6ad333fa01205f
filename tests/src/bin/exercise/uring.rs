//! `io_uring`: what it does is asked of the security modules as of anyone, without a system call for each.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use libc::O_RDWR;

use crate::{
    Skip,
    call::{c, fd, sys},
};

/// `IORING_SETUP_SQPOLL`, `IORING_OP_OPENAT`, `IORING_ENTER_GETEVENTS` and the offsets for mmap (`io_uring.h`).
const SQPOLL: u32 = 2;
const OP_OPENAT: u8 = 18;
const GETEVENTS: u32 = 1;
const OFF_SQ_RING: u32 = 0;
const OFF_SQES: u32 = 0x1000_0000;

/// `struct io_uring_params`: words in order.
type Params = [u32; 30];

fn set_up(flags: u32) -> std::io::Result<(std::os::fd::OwnedFd, Params)> {
    let mut params = [0; 30];
    params[2] = flags;
    let ring = fd(sys!(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()))?;
    Ok((ring, params))
}

pub(crate) fn polling(_: &Path) -> Result<()> {
    match set_up(SQPOLL) {
        Ok(_) => Ok(()),
        Err(error) if is_absent(&error) => Err(Skip("this kernel has no io_uring").into()),
        Err(error) => Err(error.into()),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    // EPERM: kernel.io_uring_disabled (Linux 6.6).
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// Opens a file by the ring.
pub(crate) fn opening(dir: &Path) -> Result<()> {
    const PAGE: usize = 4096;
    let path = dir.join("file");
    fs::write(&path, "text")?;
    let (ring, params) = match set_up(0) {
        Err(error) if is_absent(&error) => return Err(Skip("this kernel has no io_uring").into()),
        other => other?,
    };
    let map = |offset: u32| {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = sys!(libc::SYS_mmap, 0, PAGE, protection, libc::MAP_SHARED, ring, offset)?;
        anyhow::Ok(std::ptr::with_exposed_provenance_mut::<u32>(usize::try_from(at)?))
    };
    let (queue, entries) = (map(OFF_SQ_RING)?, map(OFF_SQES)?);
    let path = c(path);
    // struct io_sqring_offsets begins at word 10: head, tail, …, array the seventh. Its offsets are in bytes.
    let (tail, array) = (usize::try_from(params[11])? / 4, usize::try_from(params[16])? / 4);
    let address = path.as_ptr().expose_provenance();
    // struct io_uring_sqe in words: opcode, fd, off (two), addr (two), len (the mode), open_flags.
    let [low, high] = [address & 0xffff_ffff, address >> 32].map(|half| u32::try_from(half).unwrap_or(0));
    let entry =
        [u32::from(OP_OPENAT), libc::AT_FDCWD.cast_unsigned(), 0, 0, low, high, 0, O_RDWR.cast_unsigned()];
    // SAFETY: the kernel's layout of two pages that are mapped until this process ends; nobody else uses them.
    unsafe {
        entries.copy_from_nonoverlapping(entry.as_ptr(), entry.len());
        queue.add(array).write(0);
        queue.add(tail).write(1);
    }
    ensure!(sys!(libc::SYS_io_uring_enter, ring, 1, 1, GETEVENTS, 0, 0)? == 1, "nothing was submitted");
    // struct io_cqring_offsets begins at word 20: head, tail, mask, entries, overflow, cqes; since Linux 5.4 in the same
    // mapping (IORING_FEAT_SINGLE_MMAP).
    let cqes = usize::try_from(params[25])? / 4;
    // SAFETY: as above; a completion is user_data (two words), res, flags.
    let result = unsafe { queue.add(cqes + 2).read_volatile() }.cast_signed();
    ensure!(result >= 0, "openat by io_uring: {}", std::io::Error::from_raw_os_error(-result));
    Ok(())
}
