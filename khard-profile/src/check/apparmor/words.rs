//! Owns how an access is told in words. Knows nothing about verdicts.

use crate::apparmor::words;
use crate::escape;
use crate::recording::{Access, AccessKey, Certainty, Peer};

/// What was asked, on one line, for a terminal.
pub(crate) fn access(key: &AccessKey) -> String {
    let mut text = unescaped(&key.what);
    if key.certainty == Certainty::Inferred {
        text.extend_from_slice(b" (inferred)");
    }
    escape::terminal(&text)
}

/// What was asked, as bytes that no sink has seen yet.
pub(crate) fn unescaped(access: &Access) -> Vec<u8> {
    let named = |name: Option<&str>, number: u16| name.map_or_else(|| number.to_string(), str::to_owned);
    match access {
        Access::File(file) => {
            let facts = [
                (file.facts.owner, "own file"),
                (file.facts.deleted, "deleted"),
                (file.facts.disconnected, "disconnected"),
            ];
            let facts = facts.iter().filter(|(so, _)| *so).map(|(_, word)| [", ", word].concat());
            let after = format!(" ({}{})", file.perms, facts.collect::<String>());
            [file.op.as_str().as_bytes(), b" ", file.path.as_slice(), after.as_bytes()].concat()
        }
        Access::Link { link, target } => [b"link ", link.as_slice(), b" -> ", target.as_slice()].concat(),
        Access::Capability { capability, optional } => {
            let name = named(words::capability(*capability), (*capability).into());
            format!("capability {name}{}", if *optional { " (only tested for)" } else { "" }).into_bytes()
        }
        Access::Network { family, kind } => {
            let (family, kind) = (named(words::family(*family), *family), named(words::kind(*kind), *kind));
            format!("network {family} {kind}").into_bytes()
        }
        Access::Signal { signal, peer } => {
            let signal = named(words::signal(*signal).as_deref(), (*signal).into());
            [b"signal ", signal.as_bytes(), b" to ", peer_in_words(peer)].concat()
        }
        Access::Ptrace { mode, peer } => {
            [b"ptrace ", mode.as_str().as_bytes(), b" of ", peer_in_words(peer)].concat()
        }
        Access::Mount { fstype, source, target, flags } => {
            let [fstype, source, target] = [fstype, source, target].map(crate::Bytes::as_slice);
            let flags = format!(" (flags {flags:#x})");
            [b"mount ", fstype, b" ", source, b" -> ", target, flags.as_bytes()].concat()
        }
        Access::Umount { target, flags: _ } => [b"umount ", target.as_slice()].concat(),
        Access::PivotRoot { new_root, put_old } => {
            [b"pivot_root ", new_root.as_slice(), b" with the old one at ", put_old.as_slice()].concat()
        }
        Access::UserNamespace => b"a new user namespace".to_vec(),
        Access::IoUring { op } => format!("io_uring {op}").into_bytes(),
    }
}

fn peer_in_words(peer: &Peer) -> &[u8] {
    match peer {
        Peer::Inside => b"itself",
        Peer::Outside { label: Some(label) } => label.as_slice(),
        Peer::Outside { label: None } => b"a process with an unknown label",
    }
}
