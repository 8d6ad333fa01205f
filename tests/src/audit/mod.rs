//! The kernel's own audit records, as a witness beside khard: owns the netlink multicast group that carries them
//! (`AUDIT_NLGRP_READLOG`, audit.h) and knowing that none is missing. What a record says is for others: [`apparmor`].
//! Not the kernel's log, whose rate limit drops most of them; and no auditd, which need not be there.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::{AUDIT, SocketAddrNetlink},
        recv, send, socket_with, sockopt,
    },
};

pub mod apparmor;

/// `AUDIT_NLGRP_READLOG`, as a bit of the groups in an address.
const READLOG: u32 = 1;
const BUFFER_BYTES: usize = 64 << 20;
/// `NLMSG_ERROR`, `NLM_F_REQUEST` and `NLM_F_ACK` (netlink.h).
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
/// `AUDIT_GET`, `AUDIT_SET` and `AUDIT_USER_AVC` (audit.h). The last is the one kind of message that the kernel takes from
/// a program although nobody has enabled auditing (`audit_receive_msg`, kernel/audit.c, Linux 6.1).
const GET: u16 = 1000;
const SET: u16 = 1001;
const USER_AVC: u16 = 1107;
const HEADER_BYTES: usize = 16;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `AUDIT_…` (audit.h).
    pub kind: u16,
    /// Its text, from `audit(` on.
    pub text: String,
}

/// What came between two marks.
#[derive(Debug, Default)]
pub struct Heard {
    /// In the kernel's order.
    pub records: Vec<Record>,
    /// How many are known to be missing: their serial numbers have no gaps.
    pub n_missing: u64,
}

/// A member of the group, and a socket to ask the kernel by.
pub struct Listener {
    control: OwnedFd,
    records: Receiver<Result<Record>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    last_serial: Option<u64>,
}

impl Listener {
    /// Joins the group and lifts the kernel's limits on records. An error says that there is no audit here.
    pub fn start() -> Result<Self> {
        let open = || socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(AUDIT));
        let socket = open().context("no audit socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(50)))?;
        bind(&socket, &SocketAddrNetlink::new(0, READLOG)).context("no membership in audit's group")?;
        let control = open().context("no audit socket")?;
        sockopt::set_socket_timeout(&control, sockopt::Timeout::Recv, Some(Duration::from_secs(30)))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (sender, records) = mpsc::channel();
        let flag = Arc::clone(&is_over);
        let thread = thread::spawn(move || listen(&socket, &sender, &flag));
        let mut listener = Self { control, records, is_over, thread: Some(thread), last_serial: None };
        // struct audit_status: what of it counts (AUDIT_STATUS_RATE_LIMIT and _BACKLOG_LIMIT), then its fields in order.
        // 0 is no limit. AppArmor's records are made where the kernel must not sleep, so that a full backlog drops them.
        let mut status = [0_u32; 11];
        status[0] = 0x8 | 0x10;
        let bytes: Vec<u8> = status.iter().flat_map(|word| word.to_ne_bytes()).collect();
        listener.tell(SET, &bytes).context("cannot lift audit's limits")?;
        listener.take()?;
        Ok(listener)
    }

    /// What has come since the last time: all records of what was done before this call.
    pub fn take(&mut self) -> Result<Heard> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Records are passed on in the order in which they were made (`audit_queue`), so that what comes before one of our
        // own is all there is.
        let mark = format!("khard-mark-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.tell(USER_AVC, format!("{mark}\0").as_bytes()).context("cannot write an audit record")?;
        let mut heard = Heard::default();
        let mut serials = BTreeSet::new();
        loop {
            let record = self.records.recv_timeout(Duration::from_mins(2));
            let record = record.context("an audit record of our own did not come back")??;
            serials.extend(serial(&record.text));
            if record.kind == USER_AVC && record.text.contains(&mark) {
                break;
            }
            heard.records.push(record);
        }
        // A record gets its number as it is begun and its place as it is finished, so that they may come in another order.
        if let (Some(first), Some(last)) = (serials.first(), serials.last().copied()) {
            let first = self.last_serial.map_or(*first, |before| before + 1);
            let n_heard = u64::try_from(serials.range(first..).count())?;
            heard.n_missing = (last + 1 - first) - n_heard;
            self.last_serial = Some(last);
        }
        Ok(heard)
    }

    /// How many records the kernel has dropped since it was booted.
    pub fn n_lost(&self) -> Result<u32> {
        // struct audit_status
        const LOST: usize = 6;
        // A kernel thread answers (`audit_send_reply`), maybe after an acknowledgement: none is asked for.
        self.send(GET, 0, &[])?;
        let status = self.receive(GET)?;
        let word = status.get(LOST * 4..).and_then(<[u8]>::first_chunk::<4>);
        Ok(u32::from_ne_bytes(*word.context("audit's status is short")?))
    }

    /// Sends a request and waits until it is done.
    fn tell(&self, kind: u16, payload: &[u8]) -> Result<()> {
        self.send(kind, ACK, payload)?;
        self.receive(ERROR).map(drop)
    }

    fn send(&self, kind: u16, flags: u16, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(HEADER_BYTES + payload.len())?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(payload);
        send(&self.control, &message, SendFlags::empty())?;
        Ok(())
    }

    /// The payload of the answer of this kind.
    fn receive(&self, kind: u16) -> Result<Vec<u8>> {
        let mut buffer = vec![0_u8; 16 << 10];
        loop {
            let (n_bytes, _) = recv(self.control.as_fd(), buffer.as_mut_slice(), RecvFlags::empty())?;
            let (got, body) = split(&buffer[..n_bytes]).context("a short answer")?;
            if got == ERROR {
                let code = body.first_chunk::<4>().context("a short answer")?;
                let code = i32::from_ne_bytes(*code);
                ensure!(code == 0, "audit: {}", std::io::Error::from_raw_os_error(-code));
            }
            if got == kind {
                return Ok(body.to_vec());
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(socket: &OwnedFd, records: &Sender<Result<Record>>, is_over: &AtomicBool) {
    let mut buffer = vec![0_u8; 16 << 10];
    while !is_over.load(Ordering::Relaxed) {
        let record = match recv(socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((n_bytes, _)) => match split(&buffer[..n_bytes]) {
                Some((kind, text)) => {
                    let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                    Ok(Record { kind, text })
                }
                None => Err(anyhow!("a short audit record")),
            },
            // With NOBUFS records did not fit; the gap in their numbers says how many.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => continue,
            Err(error) => Err(anyhow!("reading audit's records: {error}")),
        };
        if records.send(record).is_err() {
            return;
        }
    }
}

/// A netlink message's type and payload. The length in its header is not that of the message in every kernel's records.
fn split(message: &[u8]) -> Option<(u16, &[u8])> {
    let (header, payload) = message.split_at_checked(HEADER_BYTES)?;
    Some((u16::from_ne_bytes([header[4], header[5]]), payload))
}

/// `audit(SECONDS.MILLISECONDS:SERIAL): …`
fn serial(text: &str) -> Option<u64> {
    text.strip_prefix("audit(")?.split_once("):")?.0.rsplit_once(':')?.1.parse().ok()
}

/// Fails unless all records of what happened between two counts of the kernel's came.
pub fn assert_whole(heard: &Heard, n_lost_before: u32, n_lost_after: u32) -> Result<()> {
    if heard.n_missing > 0 || n_lost_after != n_lost_before {
        bail!(
            "audit is no witness: {} records are missing, {} were dropped",
            heard.n_missing,
            n_lost_after.wrapping_sub(n_lost_before)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_serial_number() {
        assert_eq!(serial("audit(1795511308.300:177794): auid=4294967295 uid=0"), Some(177_794));
        assert_eq!(serial("audit: rate limit exceeded"), None);
    }

    #[test]
    fn a_message_is_its_type_and_payload() {
        let mut message = vec![0; HEADER_BYTES];
        message[4..6].copy_from_slice(&1400_u16.to_ne_bytes());
        message.extend(b"text");
        assert_eq!(split(&message), Some((1400, &b"text"[..])));
        assert_eq!(split(&message[..10]), None);
    }
}
