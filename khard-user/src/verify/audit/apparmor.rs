//! Records of what AppArmor refuses, or only tells in complain mode (security/apparmor/audit.c, Linux 6.12).

use khard_profile::{
    Bytes, escape,
    recording::{Access, AccessKey},
};
use serde_json::{Value, json};

use super::field;
use crate::verify::When;

/// A record of something that a profile does not allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denial {
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

/// A record's text.
pub(super) fn parse(text: &[u8]) -> Option<Denial> {
    let when = match field(text, "apparmor")?.as_slice() {
        b"DENIED" => When::Was,
        b"ALLOWED" => When::WouldBe,
        _ => return None,
    };
    let label = field(text, "profile")?;
    // In complain mode the kernel makes `NAME//null-PROGRAM` for what a profile does not tell.
    let end = label.windows(7).position(|part| part == b"//null-").unwrap_or(label.len());
    let words = |name: &str| field(text, name).map(|value| String::from_utf8_lossy(&value).into_owned());
    Some(Denial {
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

impl Denial {
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
    pub(super) fn in_words(&self) -> String {
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
    }
}
