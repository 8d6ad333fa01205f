//! The machine that khard runs on: boot, kernel, ABIs, clocks. Owns reading it, and no judgement.

use std::{collections::BTreeSet, fs, io, path::Path, time::SystemTime};

use khard_profile::{
    lint::Libseccomp,
    recording::{Abi, Host},
};
use rustix::time::{ClockId, clock_gettime};

use crate::input;

/// The kernel's id of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// `CLOCK_BOOTTIME` in nanoseconds: the clock of the kernel programs' records.
pub fn boot_time_ns() -> u64 {
    now_ns(ClockId::Boottime)
}

/// `CLOCK_MONOTONIC`, which stands still in suspension: the clock of processes' start times.
pub fn monotonic_time_ns() -> u64 {
    now_ns(ClockId::Monotonic)
}

fn now_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A number that nobody can guess (getrandom(2)).
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    // SAFETY: the buffer has that many bytes. So few are given whole once the kernel has started (random(7)).
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(n) == Ok(bytes.len()) {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The libseccomp that this machine's runtimes load, or the one that is assumed where there is none.
pub fn libseccomp() -> Libseccomp {
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let folders = [multiarch.as_str(), "/usr/lib64", "/usr/lib", "/lib64", "/lib"];
    let found = folders.iter().find_map(|folder| {
        // The link leads to a name with the version in it.
        let file = Path::new(folder).join("libseccomp.so.2").canonicalize().ok()?;
        let name = format!("this machine's {}", file.file_name()?.to_string_lossy());
        Libseccomp::of_library(name, &input::read_limited(&file).ok()?)
    });
    found.unwrap_or_else(Libseccomp::assumed)
}

/// Milliseconds since 1970.
pub fn unix_time_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Kernel, machine and ABIs.
pub fn describe() -> Host {
    let uname = rustix::system::uname();
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        abis: abis(),
    }
}

/// Which ABIs the kernel answers. ia32 is listed always: without it a 32-bit call does not even reach
/// `sys_enter`, so that none can be observed (`do_int80_emulation()`, arch/x86/entry/common.c).
fn abis() -> BTreeSet<Abi> {
    let mut abis = BTreeSet::from([Abi::X86_64, Abi::Ia32]);
    if has_x32() {
        abis.insert(Abi::X32);
    }
    abis
}

/// Asks by `getpid` with the x32 bit: ENOSYS where the ABI is not built in, or off (`syscall.x32=y` is needed
/// on Debian).
fn has_x32() -> bool {
    // SAFETY: getpid has no arguments and no effects.
    unsafe { libc::syscall(libc::c_long::from(khard_common::slot::X32_BIT) | libc::SYS_getpid) > 0 }
}
