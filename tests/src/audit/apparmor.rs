//! AppArmor's audit records (type 1400) as typed events. Owns their text (security/apparmor/audit.c and the callbacks of
//! each class); knows neither khard nor where records come from.

use super::Record;

/// `AUDIT_AVC` (audit.h), which is `SELinux`'s too.
const AVC: u16 = 1400;

/// What AppArmor did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Refused.
    Denied,
    /// Would have been refused, were the profile not in complain mode.
    Allowed,
    /// Granted by a rule that asks for a record.
    Audit,
    /// Anything else: a profile was loaded, a hint.
    Other,
}

/// One record. A field is `None` where the record has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What AppArmor did.
    pub verdict: Verdict,
    /// `open`, `mknod`, `capable` …
    pub operation: String,
    /// `file`, `cap`, `net` …: since Linux 6.6 or so.
    pub class: Option<String>,
    /// The label of who asked.
    pub profile: Vec<u8>,
    /// The path, the capability's holder, the mount point.
    pub name: Option<Vec<u8>>,
    /// What was asked, in letters or words.
    pub requested_mask: Option<String>,
    /// What of it the profile lacks.
    pub denied_mask: Option<String>,
    /// A capability's number.
    pub capability: Option<u8>,
    /// A capability's name.
    pub capname: Option<String>,
    /// An address family's name.
    pub family: Option<String>,
    /// A socket type's name.
    pub sock_type: Option<String>,
    /// A signal's name: `term`, `exists` for 0, `rtmin+3`.
    pub signal: Option<String>,
    /// The label of the other side.
    pub peer: Option<Vec<u8>>,
    /// Whose permissions counted.
    pub fsuid: Option<u32>,
    /// Whose file it is.
    pub ouid: Option<u32>,
    /// The profile after an exec, the old name of a link.
    pub target: Option<Vec<u8>>,
    /// A file system's type.
    pub fstype: Option<Vec<u8>>,
    /// The device, the directory that is bound or moved, the old root.
    pub srcname: Option<Vec<u8>>,
    /// A mount's flags in words: `rw, bind`.
    pub flags: Option<String>,
    /// Why, where a rule was not the reason.
    pub info: Option<String>,
    /// Who asked, as the kernel counts.
    pub pid: Option<u32>,
    /// The thread's name.
    pub comm: Option<Vec<u8>>,
    /// The record, for a person.
    pub text: String,
}

/// The events among records.
pub fn events(records: &[Record]) -> Vec<Event> {
    records
        .iter()
        .filter(|record| record.kind == AVC)
        .filter_map(|record| Event::parse(&record.text))
        .collect()
}

impl Event {
    /// Reads a record's text; `None` if it is not AppArmor's.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("): ").unwrap_or(("", text));
        let fields = fields(rest);
        let raw = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let word = |name: &str| raw(name).map(|value| value.text().to_owned());
        let number = |name: &str| raw(name)?.text().parse().ok();
        let bytes = |name: &str| raw(name).map(Value::bytes);
        Some(Self {
            verdict: match raw("apparmor")?.text() {
                "DENIED" => Verdict::Denied,
                "ALLOWED" => Verdict::Allowed,
                "AUDIT" => Verdict::Audit,
                _ => Verdict::Other,
            },
            operation: word("operation").unwrap_or_default(),
            class: word("class"),
            profile: bytes("profile").or_else(|| bytes("label")).unwrap_or_default(),
            name: bytes("name"),
            // Networking says the same in other words (`audit_net_cb` of security/apparmor/net.c).
            requested_mask: word("requested_mask").or_else(|| word("requested")),
            denied_mask: word("denied_mask").or_else(|| word("denied")),
            capability: number("capability").and_then(|number: u32| number.try_into().ok()),
            capname: word("capname"),
            family: word("family"),
            sock_type: word("sock_type"),
            signal: word("signal"),
            peer: bytes("peer"),
            fsuid: number("fsuid"),
            ouid: number("ouid"),
            target: bytes("target"),
            fstype: bytes("fstype"),
            srcname: bytes("srcname"),
            flags: word("flags"),
            info: word("info"),
            pid: number("pid"),
            comm: bytes("comm"),
            text: text.to_owned(),
        })
    }
}

/// A field's value.
#[derive(Clone, Copy)]
enum Value<'a> {
    Quoted(&'a str),
    Bare(&'a str),
}

impl<'a> Value<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Quoted(text) | Self::Bare(text) => text,
        }
    }

    /// A string of a process: quoted as it is, or hexadecimal digits if a byte of it is a quote, a space or no printable
    /// ASCII (`audit_log_n_untrustedstring`, kernel/audit.c).
    fn bytes(self) -> Vec<u8> {
        let Self::Bare(digits) = self else { return self.text().into() };
        let pairs = digits.as_bytes().chunks(2).map(|pair| match pair {
            [_, _] => std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()),
            _ => None,
        });
        pairs.collect::<Option<_>>().unwrap_or_else(|| digits.into())
    }
}

/// `KEY=VALUE` or `KEY="VALUE WITH SPACES"`, separated by spaces.
fn fields(text: &str) -> Vec<(&str, Value<'_>)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.rsplit(' ').next().unwrap_or(key);
        let (value, left) = if let Some(quoted) = after.strip_prefix('"') {
            let (value, left) = quoted.split_once('"').unwrap_or((quoted, ""));
            (Value::Quoted(value), left)
        } else {
            let (value, left) = after.split_once(' ').unwrap_or((after, ""));
            (Value::Bare(value), left)
        };
        found.push((key, value));
        rest = left.trim_start();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two from Linux 6.12, the others from 6.1 (which names no class).
    const OPEN: &str = r#"audit(1795534567.412:1021): apparmor="ALLOWED" operation="open" class="file" profile="khard-oracle//null-/usr/bin/true" name="/etc/ld.so.cache" pid=812 comm="true" requested_mask="r" denied_mask="r" fsuid=0 ouid=1000"#;
    const MOUNT: &str = r#"audit(1795534567.412:1022): apparmor="ALLOWED" operation="mount" class="mount" info="failed mntpnt match" error=-13 profile="khard-oracle" name="/var/x/bind/" pid=551 comm="exercise" srcname="/var/x/tmpfs/" flags="rw, bind""#;
    const HEX: &str = "audit(1.0:1): apparmor=\"DENIED\" operation=\"link\" profile=\"khard x\" \
        name=2F77206F pid=1 comm=\"a\" requested_mask=\"l\" denied_mask=\"l\" fsuid=0 ouid=0 target=\"/w\"";
    const CAPABLE: &str = r#"audit(1.0:2): apparmor="AUDIT" operation="capable" profile="khard-oracle" pid=509 comm="exercise" capability=21  capname="sys_admin""#;
    const SIGNAL: &str = r#"audit(1.0:3): apparmor="ALLOWED" operation="signal" profile="khard-oracle" pid=464 comm="exercise" requested_mask="send" denied_mask="send" signal=exists peer="unconfined""#;
    const CREATE: &str = r#"audit(1.0:4): apparmor="DENIED" operation="create" profile="p" pid=427 comm="x" family="netlink" sock_type="raw" protocol=0 requested_mask="create" denied_mask="create""#;

    fn event(text: &str) -> Event {
        Event::parse(text).expect("AppArmor's")
    }

    #[test]
    fn an_open_is_read_with_who_asked_for_what() {
        let open = event(OPEN);
        assert_eq!((open.verdict, open.operation.as_str()), (Verdict::Allowed, "open"));
        assert_eq!(open.profile, b"khard-oracle//null-/usr/bin/true");
        assert_eq!(open.name.as_deref(), Some(&b"/etc/ld.so.cache"[..]));
        assert_eq!((open.requested_mask.as_deref(), open.class.as_deref()), (Some("r"), Some("file")));
        assert_eq!((open.fsuid, open.ouid, open.pid), (Some(0), Some(1000), Some(812)));
        assert_eq!(open.comm.as_deref(), Some(&b"true"[..]));
    }

    #[test]
    fn a_value_in_quotes_may_have_spaces() {
        let mount = event(MOUNT);
        assert_eq!(mount.flags.as_deref(), Some("rw, bind"));
        assert_eq!(mount.info.as_deref(), Some("failed mntpnt match"));
        assert_eq!(mount.srcname.as_deref(), Some(&b"/var/x/tmpfs/"[..]));
    }

    #[test]
    fn names_with_odd_bytes_are_hexadecimal() {
        let link = event(HEX);
        assert_eq!((link.verdict, link.name.as_deref()), (Verdict::Denied, Some(&b"/w o"[..])));
        assert_eq!((link.profile.as_slice(), link.target.as_deref()), (&b"khard x"[..], Some(&b"/w"[..])));
    }

    #[test]
    fn other_classes_have_fields_of_their_own() {
        let capable = event(CAPABLE);
        assert_eq!((capable.verdict, capable.capability), (Verdict::Audit, Some(21)));
        assert_eq!(capable.capname.as_deref(), Some("sys_admin"));
        let signal = event(SIGNAL);
        assert_eq!(
            (signal.signal.as_deref(), signal.peer.as_deref()),
            (Some("exists"), Some(&b"unconfined"[..]))
        );
        let create = event(CREATE);
        assert_eq!((create.family.as_deref(), create.sock_type.as_deref()), (Some("netlink"), Some("raw")));
    }

    #[test]
    fn only_records_of_the_kind_count() {
        let record = |kind, text: &str| Record { kind, text: text.to_owned() };
        let records = [record(AVC, OPEN), record(1326, OPEN), record(AVC, "audit(1.0:1): avc:  denied")];
        assert_eq!(events(&records).len(), 1);
    }
}
