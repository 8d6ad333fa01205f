//! The first file system of a guest: owns its contents and its format (cpio "newc", the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::kernels::Kernel;

/// The first program: loads drivers, mounts the root disk, starts the agent.
const INIT: &str = include_str!("../../guest/init");
/// The program that then runs commands.
const AGENT: &str = include_str!("../../guest/agent");

const DIR: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// Makes it for a kernel.
pub(crate) fn make(kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    for dir in ["bin", "dev", "proc", "sys", "root", "modules"] {
        cpio.add(dir, DIR, &[])?;
    }
    let busybox = fs::read(busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    cpio.add("bin/busybox", PROGRAM, &busybox)?;
    cpio.add("init", PROGRAM, INIT.as_bytes())?;
    cpio.add("agent", PROGRAM, AGENT.as_bytes())?;
    for (number, module) in kernel.early_modules()?.iter().enumerate() {
        // The number keeps the order: the shell lists names sorted.
        cpio.add(&format!("modules/{number:03}.ko"), FILE, &fs::read(module)?)?;
    }
    cpio.add("TRAILER!!!", 0, &[])?;
    Ok(cpio.bytes)
}

#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.inode += 1;
        let (size, name_size) = (u32::try_from(data.len())?, u32::try_from(name.len() + 1)?);
        self.bytes.extend(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, device and rdevice numbers, namesize, check
        for field in [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_carry_their_sizes() {
        let mut cpio = Cpio::default();
        cpio.add("a", FILE, b"xyz").unwrap();
        assert_eq!(cpio.bytes.len(), 110 + 2 + 4, "header and name, padded to 4; data, padded to 4");
        assert_eq!(&cpio.bytes[54..62], b"00000003", "file size");
        assert_eq!(&cpio.bytes[110..], b"a\0xyz\0");
    }
}
