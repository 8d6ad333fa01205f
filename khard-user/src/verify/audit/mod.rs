//! The kernel's audit records of what profiles refuse, as a second witness. Owns the netlink group that carries them, and whose they are. It
//! must not know what khard itself has seen.

mod apparmor;
mod seccomp;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use khard_profile::check::Asked;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
    netlink::{AUDIT, SocketAddrNetlink},
    recv, socket_with, sockopt,
};
use serde_json::Value;

pub use self::{apparmor::Denial, seccomp::Answered};
use super::When;
use crate::{cgroup, stream::SubjectId};

/// `AUDIT_NLGRP_READLOG` as a bit of the groups in an address, `AUDIT_SECCOMP` and `AUDIT_AVC` (include/uapi/linux/audit.h). The last is
/// `SELinux`'s kind too.
const READLOG: u32 = 1;
const SECCOMP: u16 = 1326;
const AVC: u16 = 1400;
/// `struct nlmsghdr`: length, kind, flags, sequence, port.
const HEADER_BYTES: usize = 16;
/// Much can come between two looks.
const BUFFER_BYTES: usize = 8 << 20;
const RECORD_BYTES: usize = 16 << 10;
/// At most so many records are read in one look: a filter that logs can write them faster than they are read.
const LOOK_RECORDS: usize = 4096;
/// Different records that are kept: names in them are the workload's choice.
const MAX_HEARD: usize = 1 << 16;
/// A record can come before the stream tells of the subject that it is of: a container has its name from its runtime only later. For so
/// long that is asked at each look; of what is older, which most of all is strangers', only at the end.
const SUBJECT_MAY_COME_FOR: Duration = Duration::from_secs(30);

/// Members of the group hear every record from now on.
#[derive(Debug)]
pub(super) struct AuditLog {
    socket: OwnedFd,
    /// Whether records found no room.
    pub(super) is_lossy: bool,
    /// Calls that a filter answered to processes that were gone before anybody could ask whose they were.
    pub(super) n_of_unknown: usize,
    /// What filters answered to no subject that is known yet, and when that was heard.
    unclaimed: BTreeMap<(Caller, Answered), Instant>,
}

/// Who made a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Caller {
    pub(super) pid: u32,
    /// Where it was when its record was read; `None`: it was gone by then.
    pub(super) cgroup: Option<PathBuf>,
}

/// A record of something that a profile does not allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Logged {
    /// By AppArmor.
    Denial(Denial),
    /// By a seccomp filter of this subject.
    Answered(SubjectId, Answered),
}

/// Whose records are wanted.
pub(super) struct Wanted<'a> {
    /// The AppArmor profiles.
    pub(super) profiles: &'a BTreeSet<Vec<u8>>,
    /// The subject that a process is of, as far as subjects are known.
    pub(super) whose: &'a dyn Fn(&Caller) -> Option<SubjectId>,
}

impl AuditLog {
    /// Joins the group; needs `CAP_AUDIT_READ`.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(AUDIT))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
        bind(&socket, &SocketAddrNetlink::new(0, READLOG))?;
        Ok(Self { socket, is_lossy: false, n_of_unknown: 0, unclaimed: BTreeMap::new() })
    }

    /// Adds what has come since, as far as it is wanted. What is too much for one look waits for the next: then the answer is `false`.
    pub(super) fn take(&mut self, wanted: &Wanted<'_>, heard: &mut BTreeSet<Logged>) -> bool {
        let is_all = self.read(wanted, heard);
        let now = Instant::now();
        self.claim(wanted, heard, |_, since| now.duration_since(since) < SUBJECT_MAY_COME_FOR);
        is_all
    }

    /// No more subjects come: the last question about whatever was nobody's.
    pub(super) fn finish(&mut self, wanted: &Wanted<'_>, heard: &mut BTreeSet<Logged>) {
        // Numbers of processes are used again.
        self.claim(wanted, heard, |caller, since| {
            caller.cgroup.is_some() || since.elapsed() < SUBJECT_MAY_COME_FOR
        });
        let gone =
            std::mem::take(&mut self.unclaimed).into_keys().filter(|(caller, _)| caller.cgroup.is_none());
        self.n_of_unknown += gone.count();
    }

    /// Gives what was heard since such a time to the subjects that are known by now.
    fn claim(
        &mut self,
        wanted: &Wanted<'_>,
        heard: &mut BTreeSet<Logged>,
        is_asked: impl Fn(&Caller, Instant) -> bool,
    ) {
        let mut claimed = Vec::new();
        self.unclaimed.retain(|(caller, answered), since| {
            let subject = if is_asked(caller, *since) { (wanted.whose)(caller) } else { None };
            claimed.extend(subject.map(|subject| Logged::Answered(subject, answered.clone())));
            subject.is_none()
        });
        for logged in claimed {
            self.keep(logged, heard);
        }
    }

    fn keep(&mut self, logged: Logged, heard: &mut BTreeSet<Logged>) {
        if heard.len() < MAX_HEARD {
            heard.insert(logged);
        } else {
            self.is_lossy |= !heard.contains(&logged);
        }
    }

    fn read(&mut self, wanted: &Wanted<'_>, heard: &mut BTreeSet<Logged>) -> bool {
        let mut buffer = vec![0; RECORD_BYTES];
        // Where the processes are that were asked about in this look.
        let mut cgroups = BTreeMap::new();
        for _ in 0..LOOK_RECORDS {
            match recv(self.socket.as_fd(), buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((n, _)) => match text(&buffer[..n]) {
                    Some((AVC, text)) => {
                        if let Some(denial) = apparmor::parse(text)
                            && wanted.profiles.contains(&denial.profile)
                        {
                            self.keep(Logged::Denial(denial), heard);
                        }
                    }
                    Some((SECCOMP, text)) => {
                        if let Some((pid, answered)) = seccomp::parse(text) {
                            let cgroup = cgroups.entry(pid).or_insert_with(|| cgroup::of_process(pid).ok());
                            self.hear((Caller { pid, cgroup: cgroup.clone() }, answered));
                        }
                    }
                    _ => {}
                },
                // Records found no room; what comes now does.
                Err(rustix::io::Errno::NOBUFS) => self.is_lossy = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return true,
            }
        }
        false
    }

    fn hear(&mut self, call: (Caller, Answered)) {
        if self.unclaimed.len() >= MAX_HEARD {
            self.make_room();
        }
        if self.unclaimed.len() < MAX_HEARD {
            self.unclaimed.entry(call).or_insert_with(Instant::now);
        } else {
            self.is_lossy |= !self.unclaimed.contains_key(&call);
        }
    }

    /// Gives up what nobody has claimed for long: most of all strangers', of which there can be any number.
    fn make_room(&mut self) {
        self.unclaimed.retain(|(caller, _), since| {
            let stays = since.elapsed() < SUBJECT_MAY_COME_FOR;
            self.n_of_unknown += usize::from(!stays && caller.cgroup.is_none());
            stays
        });
    }
}

/// A message's kind and text. The length in the header of audit's own messages does not count it (kernel/audit.c), so that the
/// datagram's length counts.
fn text(message: &[u8]) -> Option<(u16, &[u8])> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    Some((kind, message.get(HEADER_BYTES..)?.split(|byte| *byte == 0).next()?))
}

/// A field's value: in quotes, or in hexadecimal digits where it has bytes that quotes cannot hold (`audit_log_untrustedstring()`), or
/// a bare word.
fn field(text: &[u8], name: &str) -> Option<Vec<u8>> {
    let key = format!(" {name}=");
    let at = text.windows(key.len()).position(|part| part == key.as_bytes())? + key.len();
    let rest = &text[at..];
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        return quoted.split(|byte| *byte == b'"').next().map(<[u8]>::to_vec);
    }
    let word = rest.split(|byte| *byte == b' ').next()?;
    let digits = || word.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let is_hex = matches!(name, "name" | "comm" | "profile") && word.len() % 2 == 0;
    let decoded: Option<Vec<u8>> = if is_hex { digits().collect() } else { None };
    Some(decoded.unwrap_or_else(|| word.to_vec()))
}

impl Logged {
    /// When it was refused.
    pub fn when(&self) -> When {
        match self {
            Self::Denial(denial) => denial.when,
            Self::Answered(_, answered) => answered.when,
        }
    }

    /// Whether this is what khard saw of a subject.
    pub(super) fn is_of(&self, subject: SubjectId, asked: &Asked) -> bool {
        match (self, asked) {
            (Self::Denial(denial), Asked::Access(key)) => denial.is_of(key),
            (Self::Answered(of, answered), Asked::Call(key)) => *of == subject && answered.key == *key,
            _ => false,
        }
    }

    /// For programs.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Denial(denial) => denial.to_value(),
            Self::Answered(_, answered) => answered.to_value(),
        }
    }

    /// One line for a terminal.
    pub fn in_words(&self) -> String {
        match self {
            Self::Denial(denial) => denial.in_words(),
            Self::Answered(_, answered) => answered.in_words(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn message(kind: u16, text: &str) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend(text.as_bytes());
        message.extend([0, 0]);
        message
    }

    #[test]
    fn a_message_is_its_kind_and_its_text() {
        assert_eq!(
            text(&message(SECCOMP, "audit(1.2:3): pid=1")),
            Some((SECCOMP, &b"audit(1.2:3): pid=1"[..]))
        );
        assert_eq!(text(&[0; 15]), None);
    }

    #[test]
    fn what_a_filter_answered_waits_for_its_subject() {
        let (kernel, ours) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let unclaimed = BTreeMap::new();
        let mut log = AuditLog { socket: ours.into(), is_lossy: false, n_of_unknown: 0, unclaimed };
        // No process has such a number: it is gone.
        for pid in [4_194_305, 4_194_306, 4_194_307] {
            let text = format!(
                r#"audit(1.2:3): pid={pid} comm="sh" sig=31 arch=c000003e syscall=124 compat=0 code=0x80000000"#
            );
            kernel.send(&message(SECCOMP, &text)).unwrap();
        }
        let (profiles, mut heard) = (BTreeSet::new(), BTreeSet::new());
        let mut take = |log: &mut AuditLog, whose: &dyn Fn(&Caller) -> Option<SubjectId>| {
            assert!(log.take(&Wanted { profiles: &profiles, whose }, &mut heard));
            heard.len()
        };
        assert_eq!(take(&mut log, &|_| None), 0, "nobody is told of yet");
        let first = |caller: &Caller| {
            assert_eq!(caller.cgroup, None);
            (caller.pid == 4_194_305).then_some(SubjectId(7))
        };
        assert_eq!(take(&mut log, &first), 1);
        // Older than what is asked about at each look. By where it was its subject is asked for at the end; by its number it is not.
        let long_ago = Instant::now().checked_sub(SUBJECT_MAY_COME_FOR).unwrap();
        let Some(((of_stranger, answered), _)) = log.unclaimed.pop_first() else { panic!("two are left") };
        let known = Caller { cgroup: Some("/late".into()), ..of_stranger };
        log.unclaimed.insert((known, answered), long_ago);
        log.unclaimed.values_mut().for_each(|since| *since = long_ago);
        let late = |_: &Caller| Some(SubjectId(8));
        assert_eq!(take(&mut log, &late), 1);
        log.finish(&Wanted { profiles: &profiles, whose: &late }, &mut heard);
        assert_eq!((log.n_of_unknown, heard.len()), (1, 2));
        let Some(Logged::Answered(SubjectId(7), answered)) = heard.pop_first() else { panic!("{heard:?}") };
        assert_eq!(answered.key.nr, 124);
    }
}
