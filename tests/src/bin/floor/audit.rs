//! The second witness: the kernel's own audit records of calls that a filter logged. Owns the netlink multicast group
//! (`AUDIT_NLGRP_READLOG`, audit.h) and the records' text; knows nothing of khard. Not the kernel's log, whose rate limit
//! drops most of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use khard_profile::recording::Abi;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{AUDIT, SocketAddrNetlink},
        recv, socket_with, sockopt,
    },
};

/// `AUDIT_NLGRP_READLOG`, as a bit of the groups in an address.
const READLOG: u32 = 1;
/// `AUDIT_SECCOMP` (audit.h): what the text of its records is has not changed since Linux 3.16 (`audit_seccomp`).
const SECCOMP: u16 = 1326;
/// Records come by a kernel thread, later than the calls.
const QUIET: Duration = Duration::from_millis(500);
const LONGEST_QUIET: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 64 << 20;

/// The calls that were logged.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Of each process, the programs that it was, and what each called: (ABI, number).
    pub calls: BTreeMap<u32, BTreeMap<String, BTreeSet<(Abi, u32)>>>,
    /// How many records are known to be missing: their serial numbers have no gaps.
    pub n_missing: u64,
    n_records: u64,
    last_serial: Option<u64>,
}

/// Listens until it is asked to end.
pub(crate) struct Witness {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Heard>>,
}

impl Witness {
    /// Joins the group.
    pub(crate) fn start() -> Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(AUDIT))
            .context("no audit socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(50)))?;
        bind(&socket, &SocketAddrNetlink::new(0, READLOG)).context("no membership in audit's group")?;
        let is_over = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_over);
        Ok(Self { is_over, thread: thread::spawn(move || listen(&socket, &flag)) })
    }

    /// Waits until nothing more comes. `None` if nothing ever came: the kernel, or this network namespace, has no audit.
    pub(crate) fn end(self) -> Result<Option<Heard>> {
        self.is_over.store(true, Ordering::Relaxed);
        let heard = self.thread.join().map_err(|_| anyhow!("the audit listener panicked"))??;
        Ok(Some(heard).filter(|heard| heard.n_records > 0))
    }
}

fn listen(socket: &OwnedFd, is_over: &AtomicBool) -> Result<Heard> {
    let mut heard = Heard::default();
    let mut buffer = vec![0_u8; 16 << 10];
    let (mut last, mut over_since) = (Instant::now(), None);
    loop {
        match recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((n_bytes, _)) => {
                heard.take(&buffer[..n_bytes]);
                last = Instant::now();
            }
            // With NOBUFS records did not fit; the gap in their numbers says how many.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => {}
            Err(error) => return Err(error).context("reading audit's records"),
        }
        if is_over.load(Ordering::Relaxed) {
            let over_since = *over_since.get_or_insert_with(Instant::now);
            let quiet_since = last.max(over_since);
            if quiet_since.elapsed() > QUIET || over_since.elapsed() > LONGEST_QUIET {
                return Ok(heard);
            }
        }
    }
}

impl Heard {
    /// One netlink message: its header, then a text.
    fn take(&mut self, message: &[u8]) {
        let Some((header, text)) = message.split_at_checked(16) else { return };
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\0');
        if let Some(serial) = serial(text) {
            if let Some(last) = self.last_serial {
                self.n_missing += serial.saturating_sub(last + 1);
            }
            self.last_serial = Some(serial.max(self.last_serial.unwrap_or(0)));
        }
        if kind == SECCOMP
            && let Some((pid, program, call)) = parse(text)
        {
            self.n_records += 1;
            self.calls.entry(pid).or_default().entry(program).or_default().insert(call);
        }
    }
}

/// `audit(SECONDS.MILLISECONDS:SERIAL): …`
fn serial(text: &str) -> Option<u64> {
    text.strip_prefix("audit(")?.split_once("):")?.0.rsplit_once(':')?.1.parse().ok()
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
    use super::*;

    const TEXT: &str = "audit(1795511308.300:177794): auid=4294967295 uid=0 gid=0 ses=4294967295 pid=4110 \
        comm=\"runc:[2:INIT]\" exe=\"/bin/busybox\" sig=0 arch=c000003e syscall=257 compat=0 ip=0x40828e code=0x7ffc0000";

    #[test]
    fn a_record_tells_process_program_and_call() {
        assert_eq!(parse(TEXT), Some((4110, "/bin/busybox".to_owned(), (Abi::X86_64, 257))));
        assert_eq!(serial(TEXT), Some(177_794));
        assert_eq!(parse(&TEXT.replace("c000003e", "40000003")).unwrap().2, (Abi::Ia32, 257));
        assert_eq!(parse("audit(1.0:1): pid=1"), None);
    }

    #[test]
    fn a_gap_in_the_serial_numbers_is_counted() {
        let mut heard = Heard::default();
        let mut message = vec![0; 16];
        message[4..6].copy_from_slice(&SECCOMP.to_ne_bytes());
        message.extend(TEXT.bytes());
        heard.take(&message);
        let later = String::from_utf8(message).unwrap().replace("177794", "177798");
        heard.take(later.as_bytes());
        assert_eq!((heard.n_missing, heard.n_records), (3, 2));
    }
}
