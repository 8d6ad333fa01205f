//! Owns how an access is told in words, for a terminal. Knows nothing about verdicts.

use crate::apparmor::words;
use crate::escape;
use crate::recording::{Access, AccessKey, Certainty, Peer};

/// What was asked, on one line.
pub(crate) fn access(key: &AccessKey) -> String {
    let shown = |bytes: &crate::Bytes| escape::terminal(bytes.as_slice());
    let named = |name: Option<&str>, number: u16| name.map_or_else(|| number.to_string(), str::to_owned);
    let text = match &key.what {
        Access::File(file) => {
            let facts = [
                (file.facts.owner, "own file"),
                (file.facts.deleted, "deleted"),
                (file.facts.disconnected, "disconnected"),
            ];
            let facts = facts.iter().filter(|(so, _)| *so).map(|(_, word)| [", ", word].concat());
            let facts = facts.collect::<String>();
            format!("{} {} ({}{facts})", file.op, shown(&file.path), file.perms)
        }
        Access::Link { link, target } => format!("link {} -> {}", shown(link), shown(target)),
        Access::Capability { capability, optional } => {
            let name = named(words::capability(*capability), (*capability).into());
            format!("capability {name}{}", if *optional { " (only tested for)" } else { "" })
        }
        Access::Network { family, kind } => {
            format!("network {} {}", named(words::family(*family), *family), named(words::kind(*kind), *kind))
        }
        Access::Signal { signal, peer } => {
            format!(
                "signal {} to {}",
                named(words::signal(*signal).as_deref(), (*signal).into()),
                peer_in_words(peer)
            )
        }
        Access::Ptrace { mode, peer } => format!("ptrace {mode} of {}", peer_in_words(peer)),
        Access::Mount { fstype, source, target, flags } => {
            format!("mount {} {} -> {} (flags {flags:#x})", shown(fstype), shown(source), shown(target))
        }
        Access::Umount { target, flags: _ } => format!("umount {}", shown(target)),
        Access::PivotRoot { new_root, put_old } => {
            format!("pivot_root {} with the old one at {}", shown(new_root), shown(put_old))
        }
        Access::UserNamespace => "a new user namespace".to_owned(),
        Access::IoUring { op } => format!("io_uring {op}"),
    };
    match key.certainty {
        Certainty::Exact => text,
        Certainty::Inferred => format!("{text} (inferred)"),
    }
}

fn peer_in_words(peer: &Peer) -> String {
    match peer {
        Peer::Inside => "itself".to_owned(),
        Peer::Outside { label: Some(label) } => escape::terminal(label.as_slice()),
        Peer::Outside { label: None } => "a process with an unknown label".to_owned(),
    }
}
