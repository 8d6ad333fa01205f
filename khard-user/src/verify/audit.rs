//! The kernel's audit records of what AppArmor refuses, as a second witness. Owns the netlink group that carries them and their text
//! (security/apparmor/audit.c, Linux 6.12). It must not know what khard itself has seen.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use khard_profile::{
    Bytes, escape,
    recording::{Access, AccessKey},
};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
    netlink::{AUDIT, SocketAddrNetlink},
    recv, socket_with, sockopt,
};
use serde_json::{Value, json};

use super::When;

/// `AUDIT_NLGRP_READLOG` as a bit of the groups in an address, and `AUDIT_AVC` (include/uapi/linux/audit.h). The second is `SELinux`'s
/// kind too.
const READLOG: u32 = 1;
const AVC: u16 = 1400;
/// `struct nlmsghdr`: length, kind, flags, sequence, port.
const HEADER_BYTES: usize = 16;
/// Much can come between two looks.
const BUFFER_BYTES: usize = 8 << 20;
const RECORD_BYTES: usize = 16 << 10;

/// Members of the group hear every record from now on.
#[derive(Debug)]
pub(super) struct AuditLog {
    socket: OwnedFd,
    /// Whether records found no room.
    pub(super) is_lossy: bool,
}

/// A record of something that a profile does not allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Logged {
    /// Refused, or in complain mode only told.
    pub when: When,
    /// The profile's name, without those that the kernel makes below it.
    pub profile: Vec<u8>,
    /// What was done, such as `open`, `capable`.
    pub operation: String,
    /// The path, or whatever else has a name.
    pub name: Option<Vec<u8>>,
    /// What was not allowed, in AppArmor's letters or words.
    pub denied: String,
    /// The thread's name.
    pub comm: Vec<u8>,
}

impl AuditLog {
    /// Joins the group; needs `CAP_AUDIT_READ`.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(AUDIT))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
        bind(&socket, &SocketAddrNetlink::new(0, READLOG))?;
        Ok(Self { socket, is_lossy: false })
    }

    /// What has come since, as far as it is of these profiles.
    pub(super) fn take(&mut self, profiles: &BTreeSet<Vec<u8>>) -> BTreeSet<Logged> {
        let mut heard = BTreeSet::new();
        let mut buffer = vec![0; RECORD_BYTES];
        loop {
            match recv(self.socket.as_fd(), buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((n, _)) => {
                    heard.extend(decode(&buffer[..n]).filter(|logged| profiles.contains(&logged.profile)));
                }
                // Records found no room; what comes now does.
                Err(rustix::io::Errno::NOBUFS) => self.is_lossy = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return heard,
            }
        }
    }
}

/// The length in the header of audit's own messages does not count it (kernel/audit.c), so that the datagram's length counts.
fn decode(message: &[u8]) -> Option<Logged> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    if kind != AVC {
        return None;
    }
    let text = message.get(HEADER_BYTES..)?;
    parse(text.split(|byte| *byte == 0).next()?)
}

fn parse(text: &[u8]) -> Option<Logged> {
    let when = match field(text, "apparmor")?.as_slice() {
        b"DENIED" => When::Was,
        b"ALLOWED" => When::WouldBe,
        _ => return None,
    };
    let label = field(text, "profile")?;
    // In complain mode the kernel makes `NAME//null-PROGRAM` for what a profile does not tell.
    let end = label.windows(7).position(|part| part == b"//null-").unwrap_or(label.len());
    let words = |name: &str| field(text, name).map(|value| String::from_utf8_lossy(&value).into_owned());
    Some(Logged {
        when,
        profile: label[..end].to_vec(),
        operation: words("operation")?,
        name: field(text, "name"),
        denied: words("denied_mask")
            .or_else(|| words("capname"))
            .or_else(|| words("denied"))
            .unwrap_or_default(),
        comm: field(text, "comm").unwrap_or_default(),
    })
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
    /// Whether this is what khard saw asked. Of what has no name, the kind is enough.
    pub(super) fn is_of(&self, key: &AccessKey) -> bool {
        let is_named = |path: &Bytes| {
            let without_slash = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
            self.name.as_ref().is_some_and(|name| without_slash(name) == without_slash(path.as_slice()))
        };
        match &key.what {
            Access::File(file) => is_named(&file.path),
            Access::Link { link, target } => is_named(link) || is_named(target),
            Access::Mount { target, .. } | Access::Umount { target, .. } => is_named(target),
            Access::PivotRoot { new_root, .. } => is_named(new_root),
            Access::Capability { .. } => self.operation == "capable",
            Access::Signal { .. } => self.operation == "signal",
            Access::Ptrace { .. } => self.operation == "ptrace",
            Access::UserNamespace => self.operation == "userns_create",
            Access::IoUring { .. } => self.operation.starts_with("uring"),
            Access::Network { .. } => {
                self.name.is_none() && !matches!(self.operation.as_str(), "capable" | "signal" | "ptrace")
            }
        }
    }

    /// For programs.
    pub(super) fn to_value(&self) -> Value {
        let bytes = |bytes: &[u8]| Bytes::from(bytes);
        json!({
            "when": self.when.as_str(),
            "profile": bytes(&self.profile),
            "operation": self.operation,
            "name": self.name.as_deref().map(bytes),
            "denied": self.denied,
            "comm": bytes(&self.comm),
        })
    }

    /// One line for a terminal.
    pub fn in_words(&self) -> String {
        let name = self.name.as_ref().map_or(String::new(), |name| format!(" {}", escape::terminal(name)));
        format!(
            "{}{name} ({}) by {} under {}",
            escape::terminal(self.operation.as_bytes()),
            escape::terminal(self.denied.as_bytes()),
            escape::terminal(&self.comm),
            escape::terminal(&self.profile)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_from_its_record() {
        let text = br#"audit(1700000000.123:45): apparmor="DENIED" operation="open" class="file" profile="web" name=2F746D702F6120C3 pid=7 comm="sh" requested_mask="wc" denied_mask="wc" fsuid=0 ouid=0"#;
        let logged = parse(text).unwrap();
        assert_eq!(logged.when, When::Was);
        assert_eq!((logged.profile.as_slice(), logged.operation.as_str()), (&b"web"[..], "open"));
        assert_eq!(logged.name.as_deref(), Some(&b"/tmp/a \xc3"[..]));
        assert_eq!((logged.denied.as_str(), logged.comm.as_slice()), ("wc", &b"sh"[..]));
        let text = br#"audit(1.2:3): apparmor="ALLOWED" operation="capable" profile="web//null-/bin/sh" pid=7 comm="sh" capability=21 capname="sys_admin""#;
        let logged = parse(text).unwrap();
        assert_eq!(
            (logged.when, logged.profile.as_slice(), logged.denied.as_str()),
            (When::WouldBe, &b"web"[..], "sys_admin")
        );
    }

    #[test]
    fn other_records_are_nobodys() {
        for text in [
            &br#"audit(1.2:3): apparmor="STATUS" operation="profile_load" profile="unconfined" name="web""#[..],
            b"audit(1.2:3): avc:  denied  { read } for  pid=1",
            b"",
        ] {
            assert_eq!(parse(text), None);
        }
        assert_eq!(decode(&[0; 15]), None);
    }
}
