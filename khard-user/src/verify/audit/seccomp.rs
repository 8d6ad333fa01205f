//! Records of what a seccomp filter answered (`audit_seccomp()`, kernel/auditsc.c, Linux 6.12): of calls that it lets pass and logs, of
//! whoever it kills, and of refusals if the filter asks for a log (`SECCOMP_FILTER_FLAG_LOG`).

use khard_common::slot::X32_BIT;
use khard_profile::{
    Bytes, escape,
    recording::{Abi, SyscallKey},
    syscalls,
};
use serde_json::{Value, json};

use super::field;
use crate::verify::When;

/// include/uapi/linux/audit.h.
const ARCH_X86_64: u32 = 0xc000_003e;
const ARCH_I386: u32 = 0x4000_0003;
const ARCH_AARCH64: u32 = 0xc000_00b7;
/// include/uapi/linux/seccomp.h.
const RET_ACTION: u32 = 0xffff_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// A call that a filter does not simply allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    /// Whether it was made nevertheless.
    pub when: When,
    /// The call.
    pub key: SyscallKey,
    /// The signal that it ended its thread with, or 0.
    pub signal: u32,
    /// The thread's name.
    pub comm: Vec<u8>,
}

/// A record's text: the process, and what was answered.
pub(super) fn parse(text: &[u8]) -> Option<(u32, Answered)> {
    let word = |name| String::from_utf8(field(text, name)?).ok();
    let number = |name| word(name)?.parse::<u32>().ok();
    let hex = |name| u32::from_str_radix(word(name)?.trim_start_matches("0x"), 16).ok();
    let when = match hex("code")? & RET_ACTION {
        RET_ALLOW => return None,
        RET_LOG => When::WouldBe,
        _ => When::Was,
    };
    let nr = number("syscall")?;
    let (abi, nr) = match hex("arch")? {
        ARCH_X86_64 if nr & X32_BIT != 0 => (Abi::X32, nr & !X32_BIT),
        ARCH_X86_64 => (Abi::X86_64, nr),
        ARCH_I386 => (Abi::Ia32, nr),
        ARCH_AARCH64 => (Abi::Aarch64, nr),
        _ => return None,
    };
    let answered = Answered {
        when,
        key: SyscallKey { abi, nr },
        signal: number("sig")?,
        comm: field(text, "comm").unwrap_or_default(),
    };
    Some((number("pid")?, answered))
}

impl Answered {
    /// For programs.
    pub(super) fn to_value(&self) -> Value {
        json!({
            "when": self.when.as_str(),
            "call": { "abi": self.key.abi, "nr": self.key.nr },
            "signal": self.signal,
            "comm": Bytes::from(self.comm.as_slice()),
        })
    }

    /// One line for a terminal.
    pub fn in_words(&self) -> String {
        let SyscallKey { abi, nr } = self.key;
        let name = syscalls::by_number(abi, nr)
            .map_or_else(|| format!("call {nr} ({abi})"), |call| call.name.to_owned());
        let end = if self.signal == 0 { "" } else { ", which ended it" };
        format!("{name} by {}{end}", escape::terminal(&self.comm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_from_its_record() {
        let text = br#"audit(1700000000.123:45): auid=4294967295 uid=0 gid=0 ses=4294967295 subj=unconfined pid=7 comm="a b" exe="/bin/a" sig=31 arch=c000003e syscall=83 compat=0 ip=0x7f code=0x80000000"#;
        let (pid, answered) = parse(text).unwrap();
        assert_eq!((pid, answered.when, answered.signal), (7, When::Was, 31));
        assert_eq!(answered.key, SyscallKey { abi: Abi::X86_64, nr: 83 });
        assert_eq!(answered.in_words(), "mkdir by a b, which ended it");
        let text = br"audit(1.2:3): pid=7 comm=6120C3 sig=0 arch=40000003 syscall=39 compat=1 ip=0x7f code=0x7ffc0000";
        let (_, answered) = parse(text).unwrap();
        assert_eq!((answered.when, answered.comm.as_slice()), (When::WouldBe, &b"a \xc3"[..]));
        assert_eq!(answered.key, SyscallKey { abi: Abi::Ia32, nr: 39 });
    }

    #[test]
    fn what_a_filter_allows_is_no_answer_to_tell() {
        let text = br"audit(1.2:3): pid=7 comm=6120C3 sig=0 arch=c000003e syscall=39 compat=0 ip=0x7f code=0x7fff0000";
        assert_eq!(parse(text), None);
        assert_eq!(parse(b"audit(1.2:3): pid=7"), None);
    }
}
