//! Owns which system calls a libseccomp knows by name. Knows no files.

use std::collections::BTreeSet;

use crate::syscalls;

/// A libseccomp, through which runtimes read profiles: they skip what it does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libseccomp {
    /// Which one, in words.
    pub(super) name: String,
    unknown: BTreeSet<&'static str>,
}

impl Libseccomp {
    /// The oldest that is usual, where none can be asked.
    pub fn assumed() -> Self {
        let unknown = syscalls::all().filter(|call| call.is_unknown_to_old_libseccomp());
        Self {
            name: "libseccomp 2.5.4 of Debian 12, which is assumed here,".to_owned(),
            unknown: unknown.map(|call| call.name).collect(),
        }
    }

    /// By the library's bytes: its table has each name as a text that a zero byte ends. `None`: it knows so little that it is
    /// something else.
    pub fn of_library(name: String, library: &[u8]) -> Option<Self> {
        let texts: BTreeSet<&[u8]> = library.split(|byte| *byte == 0).collect();
        let names = || syscalls::all().map(|call| call.name);
        let unknown: BTreeSet<&'static str> =
            names().filter(|name| !texts.contains(name.as_bytes())).collect();
        (unknown.len() < names().count() / 2).then_some(Self { name, unknown })
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        !self.unknown.contains(name)
    }
}
