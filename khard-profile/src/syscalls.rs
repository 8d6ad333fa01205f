//! Owns the tables of system calls: names, numbers in each ABI, and age. Knows nothing about recordings or profiles.
//!
//! The facts and their sources are in `data/syscalls.tsv`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::recording::Abi;

/// One system call, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// The kernel's name (`__NR_name`), which is also the name in a seccomp profile.
    pub name: &'static str,
    /// When Linux got it on its first architecture.
    pub since: Since,
    /// Its number in each ABI of [`Abi::ALL`], in that order.
    numbers: [Option<u32>; Abi::ALL.len()],
    /// When 32-bit x86 got it as a call of its own, if much later than others.
    ia32_since: Since,
}

/// When a call appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// In this version: major and minor (`2.6.28` counts as 2.6).
    Version(u32, u32),
    /// After this version; which one is not known from a source that can be cited.
    After(u32, u32),
    /// No kernel implements it: the number is only reserved.
    Never,
}

impl Since {
    /// Older than Linux 3.2, the oldest kernel that glibc runs on (since 2.26): no caller expects such a call to be
    /// absent, so none has a way to do without it.
    fn is_old(self) -> bool {
        matches!(self, Self::Version(major, minor) if (major, minor) < (3, 2))
    }

    /// Newer than a version, for certain.
    fn is_newer_than(self, than: (u32, u32)) -> bool {
        match self {
            Self::Version(major, minor) => (major, minor) > than,
            Self::After(major, minor) => (major, minor) >= than,
            Self::Never => false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(Self::Never);
        }
        let (after, version) = text.strip_prefix('>').map_or((false, text), |version| (true, version));
        let mut parts = version.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
            return None;
        };
        Some(if after { Self::After(major, minor) } else { Self::Version(major, minor) })
    }
}

impl Syscall {
    /// Its number in an ABI, for x32 without `__X32_SYSCALL_BIT`.
    pub fn number(&self, abi: Abi) -> Option<u32> {
        self.numbers[abi as usize]
    }

    /// True if programs of this ABI count on it since before Linux 3.2; false too if the ABI has no such call.
    pub fn is_old(&self, abi: Abi) -> bool {
        let since = match (abi, self.ia32_since) {
            (Abi::Ia32, since @ Since::Version(..)) => since,
            _ => self.since,
        };
        self.number(abi).is_some() && since.is_old()
    }

    /// True if libseccomp 2.5.4 (as in Debian 12) does not know the name, so that a runtime with it skips a rule for it. It
    /// knows those of Linux 6.7 (asked with `seccomp_syscall_resolve_name`).
    pub fn is_unknown_to_old_libseccomp(&self) -> bool {
        self.since.is_newer_than((6, 7))
    }

    fn parse(line: &'static str) -> Option<Self> {
        let mut columns = line.split('\t');
        let (name, since) = (columns.next()?, Since::parse(columns.next()?)?);
        let mut numbers = [None; Abi::ALL.len()];
        for number in &mut numbers {
            let text = columns.next()?;
            *number = if text == "-" { None } else { Some(text.parse().ok()?) };
        }
        Some(Self { name, since, numbers, ia32_since: Since::parse(columns.next()?)? })
    }
}

/// The data's rows, without comments and the line of column names.
fn rows() -> impl Iterator<Item = &'static str> {
    include_str!("../data/syscalls.tsv").lines().filter(|line| !line.starts_with('#')).skip(1)
}

static BY_NAME: LazyLock<BTreeMap<&'static str, Syscall>> =
    LazyLock::new(|| rows().filter_map(Syscall::parse).map(|call| (call.name, call)).collect());

static BY_NUMBER: LazyLock<BTreeMap<(Abi, u32), &'static Syscall>> = LazyLock::new(|| {
    let calls = BY_NAME.values();
    calls
        .flat_map(|call| Abi::ALL.iter().filter_map(move |&abi| Some(((abi, call.number(abi)?), call))))
        .collect()
});

/// The call of a name; `None` if no known kernel has it in one of the ABIs.
pub fn by_name(name: &str) -> Option<&'static Syscall> {
    BY_NAME.get(name)
}

/// The call of a number; `None` for numbers that are newer than the tables or mean nothing.
pub fn by_number(abi: Abi, nr: u32) -> Option<&'static Syscall> {
    BY_NUMBER.get(&(abi, nr)).copied()
}

/// Every call, by name.
pub fn all() -> impl Iterator<Item = &'static Syscall> {
    BY_NAME.values()
}

/// Every call of an ABI, by name.
pub fn of_abi(abi: Abi) -> impl Iterator<Item = &'static Syscall> {
    BY_NAME.values().filter(move |call| call.number(abi).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_understood_and_no_number_is_given_twice() {
        for row in rows() {
            assert!(Syscall::parse(row).is_some(), "{row}");
        }
        assert_eq!(BY_NAME.len(), rows().count());
        let numbers: usize = Abi::ALL.iter().map(|&abi| of_abi(abi).count()).sum();
        assert_eq!(BY_NUMBER.len(), numbers);
    }

    #[test]
    fn the_order_of_abis_is_that_of_the_columns() {
        let clone = by_name("clone").unwrap();
        let numbers = Abi::ALL.map(|abi| clone.number(abi));
        assert_eq!(numbers, [Some(56), Some(120), Some(56), Some(220)]);
        for (place, abi) in Abi::ALL.into_iter().enumerate() {
            assert_eq!(abi as usize, place);
        }
    }

    /// Numbers are given out in order, so the last ones of Linux 3.1 divide old from new: a second witness for the
    /// versions in the data, which come from man pages. 3.1's tables end with `getcpu` (x86-64), `setns` (ia32) and
    /// `sendmmsg` (asm-generic, which arm64 took over); x32 came in 3.4, its own numbers follow those of x86-64.
    #[test]
    fn age_agrees_with_the_order_of_the_numbers() {
        let x32_of_2012 = |nr| (512..=544).contains(&nr) && !matches!(nr, 539 | 540);
        for abi in Abi::ALL {
            for call in of_abi(abi).filter(|call| call.since != Since::Never) {
                let nr = call.number(abi).unwrap();
                let old = match abi {
                    Abi::X86_64 => nr <= 309,
                    Abi::Ia32 => nr <= 346,
                    Abi::X32 => nr <= 309 || x32_of_2012(nr),
                    Abi::Aarch64 => nr <= 269,
                };
                assert_eq!(call.is_old(abi), old, "{} {abi} {nr}", call.name);
            }
        }
    }

    #[test]
    fn a_call_that_was_multiplexed_is_new_only_on_32_bit_x86() {
        let socket = by_name("socket").unwrap();
        assert!(socket.is_old(Abi::X86_64) && !socket.is_old(Abi::Ia32));
        let waitpid = by_name("waitpid").unwrap();
        assert!(waitpid.is_old(Abi::Ia32) && !waitpid.is_old(Abi::X86_64));
    }
}
