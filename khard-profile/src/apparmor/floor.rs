//! Owns what a profile grants although no process of the subject asks for it: a named minimum, each with its reason. Knows
//! nothing of what was seen.

use std::collections::BTreeSet;

use super::pattern::Pattern;
use super::rule::{Direction, Rule, RulePeer, What};
use crate::recording::FilePerms;

/// Whose signals every profile lets in. Nothing else is needed between the profile's attachment and the entry: the
/// runtime asks for the profile at the exec itself, and is unconfined until then.
const SIGNALS_FROM: [(&str, bool, &str); 3] = [
    (
        "unconfined",
        false,
        "who stops it from outside; without this even SIGKILL of an unconfined runtime gets EACCES",
    ),
    ("runc", true, "the runtime's label on hosts that confine runc (Ubuntu 24.04 and later)"),
    ("crun", true, "the runtime's label on hosts that confine crun (Ubuntu 24.04 and later)"),
];

/// The floor of a container, or of another subject.
pub(super) fn rules(is_container: bool) -> impl Iterator<Item = Rule> {
    let peers = SIGNALS_FROM.into_iter().filter(move |(_, of_container, _)| is_container || !of_container);
    peers.map(|(label, _, reason)| {
        let peer = RulePeer::Label(label.into());
        Rule::of_floor(What::Signal { direction: Direction::In, peer, signals: BTreeSet::new() }, reason)
    })
}

/// For a profile that has no rule for files: such a profile, on newer kernels, refuses stat(2) and fstat(2) of every file,
/// which any other allows (seen on 6.12 and 6.18, not on 6.1).
pub(super) fn a_file() -> Rule {
    let what = What::File { path: Pattern::literal(b"/dev/null"), owner: false, perms: FilePerms::READ };
    Rule::of_floor(what, "without any rule for files, newer kernels refuse stat of every file")
}
