//! Owns what AppArmor answers to one access under a profile. Knows nothing about recordings as a whole, or about text.
//!
//! Every access needs a few things, a bit each; every rule gives or denies some of them. AppArmor unites rules and then takes
//! away what is denied, in whatever order they stand.

use crate::apparmor_text::{Exec, FileRule, ParsedProfile, Pattern, Rule, RuleKind, Scope, Ways};
use crate::recording::{
    Access, AccessKey, Certainty, FileAccess, FileFacts, FileOp, FilePerms, IoUringOp, Peer, PtraceMode,
};

use super::{Refusal, Verdict};

/// What an access needs, a bit each; files use the bits of their permissions.
type Needs = u16;

/// For accesses that need one thing or two: what the subject does, and what is done to it.
const DO: Needs = 1;
const SUFFER: Needs = 2;

/// What a rule says about an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// It gives, or denies, these.
    About(Needs),
    /// That depends on what was not recorded.
    Unknown(&'static str),
}

const NOTHING: Says = Says::About(0);

/// What the profile does to an access.
pub fn verdict(profile: &ParsedProfile, key: &AccessKey) -> Verdict {
    if let Access::File(file) = &key.what
        && let Some(verdict) = before_rules(profile, key.certainty, file)
    {
        return verdict;
    }
    let verdict = by_rules(profile, &key.what);
    let instead = match (&verdict, &key.what) {
        (Verdict::Refused(Refusal::NoRule { .. }), what) => not_mediated(profile, what),
        (Verdict::Allowed(_), Access::Link { link, target }) => {
            link_subset(profile, link.as_slice(), target.as_slice())
        }
        _ => None,
    };
    instead.unwrap_or(verdict)
}

/// True if a rule of the profile gives or denies something that an access needs.
pub(crate) fn decides(profile: &ParsedProfile, rule: &Rule, access: &Access) -> bool {
    match says(rule, access, profile) {
        Says::About(about) => about & needs(access) != 0,
        Says::Unknown(_) => true,
    }
}

fn by_rules(profile: &ParsedProfile, access: &Access) -> Verdict {
    let needs = needs(access);
    let mut given: Needs = 0;
    let mut by = Vec::new();
    let mut unknown: Option<String> = None;
    let mut unknown_deny: Option<String> = None;
    for (place, rule) in profile.rules.iter().enumerate() {
        let why = match (&rule.kind, says(rule, access, profile)) {
            (RuleKind::Unjudged { scope, why }, _) => {
                Some(why.as_str()).filter(|_| *scope == scope_of(access))
            }
            (_, Says::About(about)) if rule.deny && about & needs != 0 => {
                return Verdict::Refused(Refusal::DenyRule(place));
            }
            (_, Says::About(about)) if !rule.deny => {
                if about & needs & !given != 0 {
                    given |= about & needs;
                    by.push(place);
                }
                None
            }
            (_, Says::Unknown(why)) => Some(why),
            _ => None,
        };
        if let Some(why) = why {
            let which = if rule.deny { &mut unknown_deny } else { &mut unknown };
            which.get_or_insert_with(|| format!("line {}: {why}", rule.line));
        }
    }
    let missing = needs & !given;
    let include = || {
        let part = profile.unjudged.iter().find(|part| part.may_grant)?;
        Some(format!("line {}: {}", part.line, part.what))
    };
    if let Some(why) = unknown_deny {
        return Verdict::CannotJudge(why);
    }
    if missing == 0 {
        return Verdict::Allowed(by);
    }
    match unknown.or_else(include) {
        Some(why) => Verdict::CannotJudge(why),
        None => Verdict::Refused(Refusal::NoRule { missing: missing_in_words(access, missing) }),
    }
}

/// What decides on a file before any rule does.
fn before_rules(profile: &ParsedProfile, certainty: Certainty, file: &FileAccess) -> Option<Verdict> {
    let FileFacts { deleted, disconnected, .. } = file.facts;
    if disconnected && !profile.flags.attach_disconnected {
        return Some(Verdict::Refused(Refusal::Flag("attach_disconnected")));
    }
    // Checks of an open descriptor ask for a deleted file's old name in any case: `PATH_DELEGATE_DELETED` in
    // `__file_path_perm`, security/apparmor/file.c.
    let by_descriptor = matches!(file.op, FileOp::Lock | FileOp::Mmap | FileOp::Mprotect | FileOp::Receive);
    if deleted && !profile.flags.mediate_deleted && !by_descriptor {
        return Some(Verdict::Refused(Refusal::Flag("mediate_deleted")));
    }
    if let Some(flag) = profile.flags.unjudged.first() {
        return Some(Verdict::CannotJudge(format!("the profile's flag {flag} changes paths")));
    }
    if certainty == Certainty::Inferred && !file.path.as_slice().starts_with(b"/") {
        return Some(Verdict::CannotJudge(
            "the path is known only as it was written, and is relative".to_owned(),
        ));
    }
    None
}

/// Where AppArmor does not ask, or not everywhere, so that no rule is needed.
fn not_mediated(profile: &ParsedProfile, access: &Access) -> Option<Verdict> {
    if let Some(mode) = profile.flags.lenient.as_ref().filter(|mode| *mode != "complain") {
        return Some(Verdict::NotMediated(format!("the profile has the flag {mode}")));
    }
    let abi = profile.abi.as_deref().map(abi_version);
    // Since which abi, and what (security/apparmor: policy features that a profile must be compiled for).
    let (since, what) = match access {
        Access::UserNamespace => ((4, 0), "user namespaces are"),
        Access::IoUring { .. } => ((5, 0), "io_uring is"),
        Access::File(FileAccess { op: FileOp::Connect | FileOp::Send, .. }) => {
            let why = "connecting to a socket's path needs a rule only with abi 5.0 or Ubuntu's kernel";
            return match abi {
                Some(Some((5.., _))) => None,
                _ => Some(Verdict::CannotJudge(why.to_owned())),
            };
        }
        _ => return None,
    };
    match abi {
        Some(Some(version)) if version < since => Some(Verdict::NotMediated(format!(
            "{what} not mediated for profiles of abi {}.{}",
            version.0, version.1
        ))),
        Some(Some(_)) => None,
        _ => Some(Verdict::CannotJudge(format!(
            "whether {what} mediated depends on the profile's abi, which is not known"
        ))),
    }
}

fn abi_version(abi: &str) -> Option<(u32, u32)> {
    let (major, minor) = abi.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn needs(access: &Access) -> Needs {
    match access {
        Access::File(file) => file_needs(file.perms).bits(),
        Access::Signal { peer: Peer::Inside, .. } | Access::Ptrace { peer: Peer::Inside, .. } => DO | SUFFER,
        _ => DO,
    }
}

/// What rules can grant: `c` and `d` are granted by `w`.
fn file_needs(perms: FilePerms) -> FilePerms {
    let made = FilePerms::CREATE.or(FilePerms::DELETE).bits();
    let kept = FilePerms::from_bits(perms.bits() & !made).unwrap_or_default();
    if perms.bits() & made != 0 { kept.or(FilePerms::WRITE) } else { kept }
}

fn missing_in_words(access: &Access, missing: Needs) -> String {
    let words = match (access, missing) {
        (Access::File(_), _) => return FilePerms::from_bits(missing).unwrap_or_default().to_string(),
        (Access::Signal { .. }, DO) => "send",
        (Access::Signal { .. }, SUFFER) => "receive",
        (Access::Signal { .. }, _) => "send and receive",
        (Access::Ptrace { mode: PtraceMode::Read, .. }, DO) => "read",
        (Access::Ptrace { mode: PtraceMode::Read, .. }, SUFFER) => "readby",
        (Access::Ptrace { mode: PtraceMode::Read, .. }, _) => "read and readby",
        (Access::Ptrace { mode: PtraceMode::Trace, .. }, DO) => "trace",
        (Access::Ptrace { mode: PtraceMode::Trace, .. }, SUFFER) => "tracedby",
        (Access::Ptrace { mode: PtraceMode::Trace, .. }, _) => "trace and tracedby",
        (Access::Link { .. }, _) => "l",
        (Access::Capability { .. }, _) => "capability",
        (Access::Network { .. }, _) => "network",
        (Access::Mount { .. }, _) => "mount",
        (Access::Umount { .. }, _) => "umount",
        (Access::PivotRoot { .. }, _) => "pivot_root",
        (Access::UserNamespace, _) => "userns",
        (Access::IoUring { .. }, _) => "io_uring",
    };
    words.to_owned()
}

fn scope_of(access: &Access) -> Scope {
    match access {
        Access::File(_) | Access::Link { .. } => Scope::File,
        Access::Capability { .. } => Scope::Other,
        Access::Network { .. } => Scope::Network,
        Access::Signal { .. } => Scope::Signal,
        Access::Ptrace { .. } => Scope::Ptrace,
        Access::Mount { .. } | Access::Umount { .. } | Access::PivotRoot { .. } => Scope::Mount,
        Access::UserNamespace => Scope::UserNamespaces,
        Access::IoUring { .. } => Scope::IoUring,
    }
}

fn says(rule: &Rule, access: &Access, profile: &ParsedProfile) -> Says {
    let when = |holds: bool| Says::About(if holds { DO } else { 0 });
    match (&rule.kind, access) {
        (RuleKind::All, _) => Says::About(Needs::MAX),
        (RuleKind::File(of), Access::File(file)) => {
            let holds = (!rule.owner || file.facts.owner) && of.covers(file.path.as_slice());
            Says::About(if holds { of.perms.bits() } else { 0 })
        }
        (RuleKind::File(of), Access::Link { link, target }) => match &of.link {
            Some(to)
                if of.covers(link.as_slice()) && can_be_linked(to.target.as_ref(), target.as_slice()) =>
            {
                if rule.owner {
                    Says::Unknown("whose file was linked is not recorded")
                } else {
                    Says::About(DO)
                }
            }
            _ => NOTHING,
        },
        (RuleKind::Capability(set), Access::Capability { capability, .. }) => {
            when(set.checked_shr(u32::from(*capability)).is_some_and(|rest| rest & 1 != 0))
        }
        (RuleKind::Network(pairs), Access::Network { family, kind }) => {
            when(pairs.iter().any(|(f, k)| f.is_none_or(|f| f == *family) && k.is_none_or(|k| k == *kind)))
        }
        (RuleKind::Signal(of), Access::Signal { signal, peer }) if of.has(*signal) => {
            with_peer(of.peer.as_ref(), peer, profile, of.ways)
        }
        (RuleKind::Ptrace(of), Access::Ptrace { mode, peer }) => {
            let ways = match mode {
                PtraceMode::Read => of.perms.read,
                PtraceMode::Trace => of.perms.trace,
            };
            with_peer(of.peer.as_ref(), peer, profile, ways)
        }
        (RuleKind::Mount(of), Access::Mount { fstype, source, target, flags }) => {
            when(of.covers(fstype.as_slice(), source.as_slice(), target.as_slice(), *flags))
        }
        (RuleKind::Umount(of), Access::Umount { target, .. }) => {
            when(of.as_ref().is_none_or(|of| of.matches(target.as_slice())))
        }
        (RuleKind::PivotRoot { new_root, put_old }, Access::PivotRoot { new_root: new, put_old: old }) => {
            let new_fits = new_root.as_ref().is_none_or(|pattern| pattern.matches(new.as_slice()));
            when(new_fits && put_old.as_ref().is_none_or(|pattern| pattern.matches(old.as_slice())))
        }
        (RuleKind::UserNamespaces, Access::UserNamespace) => when(true),
        (RuleKind::IoUring { sqpoll, override_creds }, Access::IoUring { op }) => when(match op {
            IoUringOp::SqPoll => *sqpoll,
            IoUringOp::OverrideCreds => *override_creds,
        }),
        _ => NOTHING,
    }
}

/// A plain `l` is compiled for every path but the root (`process_dfa_entry`, `parser_regex.c`: `/[^/].*`).
fn can_be_linked(target: Option<&Pattern>, path: &[u8]) -> bool {
    target.map_or(matches!(path, [b'/', second, ..] if *second != b'/'), |pattern| pattern.matches(path))
}

fn with_peer(
    pattern: Option<&Pattern>,
    peer: &Peer,
    profile: &ParsedProfile,
    Ways { does, suffers }: Ways,
) -> Says {
    let about = if does { DO } else { 0 } | if suffers { SUFFER } else { 0 };
    let label = match peer {
        Peer::Inside => Some(&profile.name),
        Peer::Outside { label } => label.as_ref(),
    };
    match (pattern, label) {
        (None, _) => Says::About(about),
        (Some(pattern), Some(label)) => {
            Says::About(if pattern.matches(label.as_slice()) { about } else { 0 })
        }
        (Some(_), None) if does => Says::Unknown("the other side's label was not recorded"),
        (Some(_), None) => NOTHING,
    }
}

/// Refuses a link that would give more than its file has (`profile_path_link`, security/apparmor/file.c): the test is made if one
/// of the rules that grant the link asks for it.
fn link_subset(profile: &ParsedProfile, link: &[u8], target: &[u8]) -> Option<Verdict> {
    let granting = |rule: &&Rule| match &rule.kind {
        RuleKind::File(FileRule { link: Some(to), .. }) if !rule.deny && to.subset => {
            file_rule(rule).is_some_and(|of| of.covers(link)) && can_be_linked(to.target.as_ref(), target)
        }
        _ => false,
    };
    profile.rules.iter().find(granting)?;
    // Whose file it is was not recorded: both must give the same answer.
    let fits = [true, false].map(|owner| {
        let (new, old) = (allowed(profile, link, owner), allowed(profile, target, owner));
        old.0.contains(new.0) && (!new.0.contains(FilePerms::EXEC) || new.1 == old.1)
    });
    match fits {
        [true, true] => None,
        [false, false] => Some(Verdict::Refused(Refusal::Subset)),
        _ => Some(Verdict::CannotJudge(
            "whose file was linked is not recorded, and rules for owners decide".to_owned(),
        )),
    }
}

fn file_rule(rule: &Rule) -> Option<&FileRule> {
    match &rule.kind {
        RuleKind::File(of) => Some(of),
        _ => None,
    }
}

/// Everything that the profile grants on a path.
fn allowed(profile: &ParsedProfile, path: &[u8], owner: bool) -> (FilePerms, Option<Exec>) {
    let (mut given, mut denied, mut exec) = (FilePerms::EMPTY, FilePerms::EMPTY, None);
    for rule in profile.rules.iter().filter(|rule| owner || !rule.owner) {
        match file_rule(rule).filter(|of| of.covers(path)) {
            Some(of) if rule.deny => denied = denied.or(of.perms),
            Some(of) => {
                given = given.or(of.perms);
                exec = exec.or(of.exec);
            }
            None => {}
        }
    }
    (FilePerms::from_bits(given.bits() & !denied.bits()).unwrap_or_default(), exec)
}
