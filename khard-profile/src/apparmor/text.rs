//! Owns how rules are written: the only place that makes the text of a profile. Knows nothing of why a rule is there.

use std::fmt::Write;

use super::rule::{Direction, Rule, RulePeer, What};
use super::{Generated, words};
use crate::Bytes;
use crate::escape::{apparmor, terminal};
use crate::recording::{Certainty, FilePerms, IoUringOp, Outcome, PtraceMode};

/// What of a profile's text is a matter of taste.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Say at each rule who needed it first.
    pub comments: bool,
    /// Only log what is not allowed.
    pub complain: bool,
}

impl Generated {
    /// The profile, for `apparmor_parser`. The same rules and style give the same bytes.
    pub fn to_text(&self, style: Style) -> String {
        let mut text = String::new();
        for line in &self.head {
            let _ = writeln!(text, "# {line}");
        }
        let complain = if style.complain { "complain" } else { "" };
        let flags: Vec<&str> = self.flags.names().chain([complain]).filter(|name| !name.is_empty()).collect();
        let flags = if flags.is_empty() { String::new() } else { format!("flags=({}) ", flags.join(",")) };
        let _ = writeln!(
            text,
            "\nabi <abi/{}>,\ninclude <tunables/global>\n\nprofile {} {flags}{{",
            self.abi.as_str(),
            self.name
        );
        let mut group = "";
        for rule in &self.rules {
            if rule.what.group() != group {
                let blank = if group.is_empty() { "" } else { "\n" };
                group = rule.what.group();
                let _ = writeln!(text, "{blank}  # {group}");
            }
            let comment = if style.comments { comment(rule) } else { String::new() };
            let _ = writeln!(text, "  {}{comment}", rule.to_text());
        }
        text.push_str("}\n");
        text
    }
}

impl Rule {
    /// The rule as it stands in the profile, without a comment: plain ASCII on one line, whatever is in its names.
    pub fn to_text(&self) -> String {
        let deny = if self.deny { "deny " } else { "" };
        format!("{deny}{},", body(&self.what, self.deny))
    }
}

/// Every rule on a line, and nothing else: what the profile's name is made of.
pub(super) fn rules(rules: &[Rule]) -> String {
    rules.iter().map(|rule| rule.to_text() + "\n").collect()
}

/// Numbers without a name make no rule: [`super::generate`] keeps them apart.
fn body(what: &What, deny: bool) -> String {
    match what {
        What::Capability(number) => {
            format!("capability {}", words::capability(*number).unwrap_or_default())
        }
        What::Network { family, kind } => format!(
            "network {} {}",
            words::family(*family).unwrap_or_default(),
            words::kind(*kind).unwrap_or_default()
        ),
        What::Signal { direction, peer, signals } => {
            let way = match direction {
                Direction::Out => "send",
                Direction::In => "receive",
                Direction::Both => "send, receive",
            };
            let names: Vec<String> = signals.iter().filter_map(|number| words::signal(*number)).collect();
            let set = if names.is_empty() { String::new() } else { format!(" set=({})", names.join(", ")) };
            format!("signal ({way}){set} peer={}", self::peer(peer))
        }
        What::Ptrace { direction, peer, modes } => {
            let names = modes.iter().flat_map(|mode| match (mode, direction) {
                (PtraceMode::Read, Direction::Out) => &["read"][..],
                (PtraceMode::Read, Direction::In) => &["readby"],
                (PtraceMode::Read, Direction::Both) => &["read", "readby"],
                (PtraceMode::Trace, Direction::Out) => &["trace"],
                (PtraceMode::Trace, Direction::In) => &["tracedby"],
                (PtraceMode::Trace, Direction::Both) => &["trace", "tracedby"],
            });
            let names = names.copied().collect::<Vec<_>>().join(", ");
            format!("ptrace ({names}) peer={}", self::peer(peer))
        }
        What::Mount(mount) => {
            let fstype = mount.fstype.as_ref().map(|fstype| format!(" fstype={}", quoted(fstype)));
            let options = mount.options.join(", ");
            let options = if options.is_empty() { options } else { format!(" options=({options})") };
            let source = mount.source.as_ref().map(|source| format!(" {}", quoted(source)));
            let (fstype, source) = (fstype.unwrap_or_default(), source.unwrap_or_default());
            format!("mount{fstype}{options}{source} -> {}", quoted(&mount.target))
        }
        What::Umount { target } => format!("umount {}", quoted(target)),
        What::PivotRoot { new_root, put_old } => {
            format!("pivot_root oldroot={} {}", quoted(put_old), quoted(new_root))
        }
        What::UserNamespace => "userns".to_owned(),
        What::IoUring(IoUringOp::SqPoll) => "io_uring (sqpoll)".to_owned(),
        What::IoUring(IoUringOp::OverrideCreds) => "io_uring (override_creds)".to_owned(),
        What::File { path, owner, perms } => {
            let owner = if *owner { "owner " } else { "" };
            format!("{owner}{} {}", path.to_text(), letters(*perms, deny))
        }
        What::Link { link, target } => format!("link {} -> {}", link.to_text(), target.to_text()),
    }
}

/// A profile's name needs no quotes, and its variable takes none away: names hold only what AppArmor takes as it is.
fn peer(peer: &RulePeer) -> String {
    match peer {
        RulePeer::Own => "@{profile_name}".to_owned(),
        RulePeer::Label(label) if label.as_slice() == b"unconfined" => "unconfined".to_owned(),
        RulePeer::Label(label) => quoted(label),
    }
}

fn quoted(bytes: &Bytes) -> String {
    format!("\"{}\"", apparmor(bytes.as_slice()))
}

/// `a`, `c` and `d` are within `w`. All that is executed stays under the profile: `ix`; what is denied goes nowhere: `x`.
fn letters(perms: FilePerms, deny: bool) -> String {
    let letters = [
        (FilePerms::READ, "r"),
        (FilePerms::WRITE, "w"),
        (FilePerms::LOCK, "k"),
        (FilePerms::MMAP_EXEC, "m"),
        (FilePerms::EXEC, if deny { "x" } else { "ix" }),
    ];
    letters.into_iter().filter(|(perm, _)| perms.contains(*perm)).map(|(_, letter)| letter).collect()
}

/// Begins with a blank after the `#`: `#include` is a directive even there.
fn comment(rule: &Rule) -> String {
    let mut notes: Vec<String> = Vec::new();
    if let Some(witness) = &rule.witness {
        let (comm, exe) = (terminal(witness.comm.as_slice()), terminal(witness.exe.as_slice()));
        notes.push(format!("first: {comm} ({exe})"));
    }
    notes.extend(rule.floor.map(|reason| format!("floor: {reason}")));
    let deny = if rule.deny { "refused before, and denied quietly" } else { "only attempted, was refused" };
    if rule.is_attempt_only() {
        notes.push(deny.to_owned());
    }
    if rule
        .originals
        .iter()
        .any(|key| key.outcome == Outcome::Granted && key.certainty == Certainty::Inferred)
    {
        notes.push("as written in the call, links not resolved".to_owned());
    }
    if rule.what.is_generalised() {
        notes.push(format!("stands for {} recorded", rule.originals.len()));
    }
    if notes.is_empty() { String::new() } else { format!(" # {}", notes.join("; ")) }
}
