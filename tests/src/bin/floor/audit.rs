//! The second witness: the kernel's own audit records of calls that a filter logged. Owns their text; how records come is
//! `khard_tests::audit`'s. Knows nothing of khard.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use khard_profile::recording::Abi;
use khard_tests::audit::{self, Listener};

/// `AUDIT_SECCOMP` (audit.h): what the text of its records is has not changed since Linux 3.16 (`audit_seccomp`).
const SECCOMP: u16 = 1326;

/// The calls that were logged.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Of each process, the programs that it was, and what each called: (ABI, number).
    pub calls: BTreeMap<u32, BTreeMap<String, BTreeSet<(Abi, u32)>>>,
    /// How many records are known to be missing.
    pub n_missing: u64,
}

/// What came since the listener started. `None` if nothing did: this network namespace has no audit.
pub(crate) fn heard(mut listener: Listener) -> Result<Option<Heard>> {
    let heard = Heard::of(&listener.take()?);
    Ok(Some(heard).filter(|heard| !heard.calls.is_empty()))
}

impl Heard {
    fn of(heard: &audit::Heard) -> Self {
        let mut found = Self { n_missing: heard.n_missing, ..Self::default() };
        let records = heard.records.iter().filter(|record| record.kind == SECCOMP);
        for (pid, program, call) in records.filter_map(|record| parse(&record.text)) {
            found.calls.entry(pid).or_default().entry(program).or_default().insert(call);
        }
        found
    }
}

/// The process, its program and the call. Strings of processes have no space in them: the kernel writes such as hexadecimal
/// digits (`audit_log_untrustedstring`).
fn parse(text: &str) -> Option<(u32, String, (Abi, u32))> {
    let field = |name: &str| {
        text.split(' ').find_map(|word| word.strip_prefix(name)).and_then(|rest| rest.strip_prefix('='))
    };
    // AUDIT_ARCH_* of audit.h
    let abi = match (field("arch")?, field("syscall")?.parse::<u32>().ok()?) {
        ("c000003e", nr) if nr & 0x4000_0000 != 0 => (Abi::X32, nr & !0x4000_0000),
        ("c000003e", nr) => (Abi::X86_64, nr),
        ("40000003", nr) => (Abi::Ia32, nr),
        ("c00000b7", nr) => (Abi::Aarch64, nr),
        _ => return None,
    };
    Some((field("pid")?.parse().ok()?, field("exe")?.trim_matches('"').to_owned(), abi))
}

#[cfg(test)]
mod tests {
    use khard_tests::audit::Record;

    use super::*;

    const TEXT: &str = "audit(1795511308.300:177794): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=4110 \
        comm=\"runc:[2:INIT]\" exe=\"/bin/busybox\" sig=0 arch=c000003e syscall=257 compat=0 ip=0x40828e code=0x7ffc0000";

    #[test]
    fn a_record_tells_process_program_and_call() {
        assert_eq!(parse(TEXT), Some((4110, "/bin/busybox".to_owned(), (Abi::X86_64, 257))));
        assert_eq!(parse(&TEXT.replace("c000003e", "40000003")).unwrap().2, (Abi::Ia32, 257));
        assert_eq!(parse("audit(1.0:1): pid=1"), None);
    }

    #[test]
    fn only_records_of_filters_count() {
        let records = [SECCOMP, 1400].map(|kind| Record { kind, text: TEXT.to_owned() }).to_vec();
        let heard = Heard::of(&audit::Heard { records, n_missing: 3 });
        assert_eq!((heard.calls.len(), heard.n_missing), (1, 3));
    }
}
