//! Addresses of the kernel's symbols that programs look at, from /proc/kallsyms. A kernel that does not list one is slower or
//! says less, and loses nothing.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

/// The addresses; 0 for what is not listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Symbols {
    /// The lock that every rename takes: data, listed with `CONFIG_KALLSYMS_ALL`.
    pub(super) rename_lock: u64,
    /// The lock that every change of mounts takes; as above.
    pub(super) mount_lock: u64,
    /// `security_vm_enough_memory_mm()`, from its first byte to its end.
    pub(super) vm_capability: (u64, u64),
}

impl Symbols {
    /// The running kernel's.
    pub(super) fn of_kernel() -> io::Result<Self> {
        Self::read(BufReader::new(File::open("/proc/kallsyms")?))
    }

    /// One symbol a line, `ADDRESS TYPE NAME [MODULE]`, the kernel's own by address (kernel/kallsyms.c).
    fn read(mut lines: impl BufRead) -> io::Result<Self> {
        let mut found = Self::default();
        // One buffer for the hundred thousand lines.
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Ok(found);
            }
            let mut words = line.split_ascii_whitespace();
            let (Some(address), _, Some(name)) = (words.next(), words.next(), words.next()) else { continue };
            let address = u64::from_str_radix(address, 16).unwrap_or(0);
            if found.vm_capability.0 != 0 && found.vm_capability.1 == 0 && address > found.vm_capability.0 {
                found.vm_capability.1 = address;
            }
            match name {
                "rename_lock" => found.rename_lock = address,
                "mount_lock" => found.mount_lock = address,
                "security_vm_enough_memory_mm" => found.vm_capability.0 = address,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_ends_where_the_next_one_begins() {
        let text = "ffffffff81abd680 T security_vm_enough_memory_mm\nffffffff81abd680 T alias\nffffffff81abd700 t next\n\
                    ffffffff82000000 D rename_lock\nffffffffc0000000 t x\t[module]\n";
        let symbols = Symbols::read(text.as_bytes()).unwrap();
        assert_eq!(symbols.vm_capability, (0xffff_ffff_81ab_d680, 0xffff_ffff_81ab_d700));
        assert_eq!((symbols.rename_lock, symbols.mount_lock), (0xffff_ffff_8200_0000, 0));
    }

    #[test]
    fn hidden_addresses_are_none() {
        let symbols = Symbols::read("0000000000000000 T security_vm_enough_memory_mm\n".as_bytes()).unwrap();
        assert_eq!(symbols, Symbols::default());
    }
}
