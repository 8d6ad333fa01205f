//! Owns the choice of AppArmor rules: a recording and a policy in, rules with their witnesses and the text of a profile out.
//! Knows no parser and no kernel that could tell whether it works.

mod floor;
mod fold;
mod generalise;
mod mount;
mod pattern;
mod policy;
mod rule;
mod temporary;
mod text;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use mount::MountRule;
pub use pattern::{Alphabet, Pattern, Piece};
pub use policy::{Attempts, Paths, Policy, TargetAbi, Threshold};
pub use rule::{Direction, FoldReason, Rule, RulePeer, What};
pub use text::Style;

use crate::Bytes;
use crate::escape::terminal;
use crate::recording::{
    Access, AccessKey, AppArmorInForce, Certainty, Class, Coverage, FileAccess, FileOp, FilePerms, Outcome,
    Peer, PhaseSet, Recording, Seen, Subject, Witness,
};
use crate::seccomp::profile_name;
use generalise::Names;
use rule::Rules;

/// Why no profile was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Nothing was seen, so a profile would refuse everything.
    #[error(
        "cannot make an AppArmor profile: the recording has no access in the phases {0} that needs a rule: choose other phases, or record again"
    )]
    NothingSeen(PhaseSet),
    /// The parser could not compile the rules, however much is folded.
    #[error(
        "cannot make an AppArmor profile: its {n_rules} rules need about {n_states} states, apparmor_parser can take {max_rules} rules and make {max_states} states, and what is left may not be folded: record less, or choose balanced paths with more prefixes"
    )]
    TooMuchForParser {
        /// Rules.
        n_rules: usize,
        /// As many states at most.
        n_states: usize,
        /// As many rules are sure to be taken.
        max_rules: usize,
        /// As many states are sure to be possible.
        max_states: usize,
    },
}

/// A profile and why it is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// What the profile is called.
    pub name: String,
    /// The flags that it needs.
    pub flags: Flags,
    /// For which kernel and parser it is written.
    pub abi: TargetAbi,
    /// The phases that were asked for.
    pub phases: PhaseSet,
    /// Every rule, in the order of the text.
    pub rules: Vec<Rule>,
    /// What was seen and stands in no rule, since none can say it, with the reason, which tells whether it is refused.
    pub not_expressible: BTreeMap<AccessKey, String>,
    /// What was refused and is not granted, although AppArmor is asked for it, with the reason.
    pub not_granted: BTreeMap<AccessKey, &'static str>,
    /// Capabilities that were only asked for with `CAP_OPT_NOAUDIT`, and are not granted.
    pub optional_capabilities: BTreeSet<u8>,
    /// What a reader must know before trusting the profile, in words. Names in it are escaped for a terminal.
    pub warnings: Vec<String>,
    /// As many states the rules for files make, at most.
    pub n_states: usize,
    /// The comment at the text's head. Escaped: a line each.
    head: Vec<String>,
}

/// The flags of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flags {
    /// Paths that are not below the mount namespace's root are taken as if they were.
    pub attach_disconnected: bool,
    /// Files without a name any more are taken by their old one.
    pub mediate_deleted: bool,
}

impl Flags {
    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let names =
            [("attach_disconnected", self.attach_disconnected), ("mediate_deleted", self.mediate_deleted)];
        names.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name)
    }
}

/// Makes the profile of a recording.
///
/// What was granted in the chosen phases is allowed, and nothing else but the floor. What was refused is looked at only
/// where AppArmor is asked before whatever refused it: elsewhere it fails as before, without a rule and without a denial.
///
/// # Errors
/// When there is nothing to allow, or more than the parser can compile.
pub fn generate(recording: &Recording, policy: &Policy) -> Result<Generated, GenerateError> {
    let names = Names::of(recording);
    let seen_in = |seen: &Seen| !seen.phases().and(policy.phases).is_empty();
    let chosen = || recording.accesses().iter().filter(|(_, seen)| seen_in(seen));
    let mut maker = Maker {
        recording,
        policy,
        names,
        not_owners: not_owners(chosen().map(|(key, _)| key)),
        rules: Rules::default(),
        attempts: Vec::new(),
        not_expressible: BTreeMap::new(),
        not_granted: BTreeMap::new(),
        optional: BTreeSet::new(),
        flags: Flags::default(),
        warnings: Vec::new(),
    };
    chosen().for_each(|(key, seen)| maker.take(key, seen));
    maker.finish()
}

/// What is asked of AppArmor before the check that refused it could have been made: these hooks run before file modes,
/// capabilities and the state of the file system are looked at (fs/namei.c, fs/open.c, fs/namespace.c, net/socket.c). All
/// others run after that.
const fn is_asked_first(access: &Access) -> bool {
    match access {
        Access::File(file) => matches!(
            file.op,
            FileOp::Create
                | FileOp::Mkdir
                | FileOp::Rmdir
                | FileOp::Unlink
                | FileOp::Symlink
                | FileOp::RenameFrom
                | FileOp::RenameTo
                | FileOp::Chmod
                | FileOp::Chown
        ),
        Access::Link { .. } | Access::Mount { .. } | Access::Network { .. } => true,
        _ => false,
    }
}

/// What an operation needs of a file, in the letters that policy has. `w` is also creating, deleting, truncating, and
/// changing modes and owners (`security/apparmor/policy_unpack.c`); `a` alone fails at write(2), since a descriptor's
/// permission is asked again there.
fn needed(file: &FileAccess) -> FilePerms {
    let within_write = FilePerms::WRITE.or(FilePerms::APPEND).or(FilePerms::CREATE).or(FilePerms::DELETE);
    let mut perms = without(file.perms, within_write);
    if perms != file.perms {
        perms = perms.or(FilePerms::WRITE);
    }
    perms.or(match file.op {
        FileOp::Create
        | FileOp::Mkdir
        | FileOp::Rmdir
        | FileOp::Unlink
        | FileOp::Symlink
        | FileOp::RenameTo
        | FileOp::Truncate
        | FileOp::Chmod
        | FileOp::Chown => FilePerms::WRITE,
        FileOp::RenameFrom | FileOp::Connect => FilePerms::READ.or(FilePerms::WRITE),
        FileOp::Lock => FilePerms::LOCK,
        FileOp::Exec => FilePerms::EXEC,
        FileOp::Open | FileOp::Receive | FileOp::Mmap | FileOp::Mprotect | FileOp::Send => FilePerms::EMPTY,
    })
}

/// The permissions of the first set that are not in the second.
fn without(perms: FilePerms, other: FilePerms) -> FilePerms {
    FilePerms::from_bits(perms.bits() & !other.bits()).unwrap_or_default()
}

/// What was done to a path by another than its owner.
fn not_owners<'a>(keys: impl Iterator<Item = &'a AccessKey>) -> BTreeMap<Bytes, FilePerms> {
    let mut perms: BTreeMap<Bytes, FilePerms> = BTreeMap::new();
    for key in keys {
        if let Access::File(file) = &key.what
            && !file.facts.owner
        {
            let all = perms.entry(file.path.clone()).or_default();
            *all = all.or(needed(file));
        }
    }
    perms
}

struct Maker<'a> {
    recording: &'a Recording,
    policy: &'a Policy,
    names: Names,
    not_owners: BTreeMap<Bytes, FilePerms>,
    rules: Rules,
    attempts: Vec<Rule>,
    not_expressible: BTreeMap<AccessKey, String>,
    not_granted: BTreeMap<AccessKey, &'static str>,
    optional: BTreeSet<u8>,
    flags: Flags,
    warnings: Vec<String>,
}

impl Maker<'_> {
    fn take(&mut self, key: &AccessKey, seen: &Seen) {
        if key.outcome == Outcome::Refused {
            if !is_asked_first(&key.what) {
                return;
            }
            if self.was_under_a_profile(seen) {
                let reason = "the profile in force while recording may have refused it";
                self.not_granted.insert(key.clone(), reason);
                return;
            }
        }
        if let Access::Capability { capability, optional: true } = key.what
            && !self.policy.optional_capabilities
        {
            self.optional.insert(capability);
            return;
        }
        let whats = match self.whats(key) {
            Ok(whats) => whats,
            Err(why) => return drop(self.not_expressible.insert(key.clone(), why)),
        };
        if key.outcome == Outcome::Granted || self.policy.attempts == Attempts::Grant {
            self.need_flags(&key.what);
        }
        let witness: Option<Witness> = seen.witness(self.policy.phases).cloned();
        for what in whats {
            let rule = Rule::seen(what, key.clone(), witness.clone());
            if key.outcome == Outcome::Refused && self.policy.attempts == Attempts::Deny {
                self.attempts.push(Rule { deny: true, ..rule });
            } else {
                self.rules.add(rule);
            }
        }
    }

    /// True if every run in which it was refused was under a profile that may have done so.
    fn was_under_a_profile(&self, seen: &Seen) -> bool {
        let of_phases = seen.iter().filter(|(phase, _)| self.policy.phases.contains(*phase));
        let mut runs = of_phases.flat_map(|(_, sighting)| self.recording.runs_of(sighting));
        runs.all(|run| match &run.confinement.apparmor {
            AppArmorInForce::Named { mode, .. } => mode != "complain",
            _ => false,
        })
    }

    fn need_flags(&mut self, access: &Access) {
        match access {
            Access::File(file) => {
                self.flags.mediate_deleted |= file.facts.deleted;
                self.flags.attach_disconnected |= file.facts.disconnected;
            }
            // A file of O_TMPFILE gets a name: it counts as deleted until then.
            Access::Link { target, .. } => {
                let name = target.as_slice().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                self.flags.mediate_deleted |= name
                    .strip_prefix(b"#")
                    .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit));
            }
            _ => {}
        }
    }

    fn whats(&mut self, key: &AccessKey) -> Result<Vec<What>, String> {
        let abi = self.policy.abi;
        let newer = |needed: TargetAbi, what: &str| {
            let (needed_text, ours) = (needed.as_str(), abi.as_str());
            let why = || {
                format!(
                    "the abi {ours} has no rules for {what} and lets all pass; {needed_text} would restrict it"
                )
            };
            if abi >= needed { Ok(()) } else { Err(why()) }
        };
        Ok(vec![match &key.what {
            Access::File(file) => return self.files(file, key.certainty),
            Access::Link { link, target } => What::Link {
                link: self.names.pattern(&path(link, key.certainty)?),
                target: self.names.pattern(&path(target, key.certainty)?),
            },
            Access::Capability { capability, .. } => {
                words::capability(*capability)
                    .ok_or_else(|| format!("AppArmor has no name for the capability {capability}"))?;
                What::Capability(*capability)
            }
            Access::Network { family, kind } => {
                words::family(*family)
                    .ok_or_else(|| format!("AppArmor has no name for the socket family {family}"))?;
                words::kind(*kind)
                    .ok_or_else(|| format!("AppArmor has no name for the socket type {kind}"))?;
                What::Network { family: *family, kind: *kind }
            }
            Access::Signal { signal, peer } => {
                words::signal(*signal)
                    .ok_or_else(|| format!("AppArmor has no name for the signal {signal}"))?;
                let (direction, peer) = self::peer(peer)?;
                What::Signal { direction, peer, signals: [*signal].into() }
            }
            Access::Ptrace { mode, peer } => {
                let (direction, peer) = self::peer(peer)?;
                What::Ptrace { direction, peer, modes: [*mode].into() }
            }
            Access::Mount { fstype, source, target, flags } => {
                for name in [fstype, source] {
                    without_zero(name)?;
                }
                let target = path(target, key.certainty)?.into();
                let mount = mount::rule(fstype, source, &target, *flags)?;
                // Two at the start, as in a CIFS share, it leaves.
                let source = mount.source.as_ref().map(Bytes::as_slice).unwrap_or_default();
                if source.windows(2).skip(1).any(|pair| pair == b"//") {
                    return Err("its device has slashes in a row, of which the parser makes one".to_owned());
                }
                if mount.options.is_empty() {
                    self.warnings.push(format!(
                        "the mount of a {} on {} allows any flags: no rule can name those that were used ({flags:#x})",
                        terminal(fstype.as_slice()),
                        terminal(target.as_slice())
                    ));
                }
                What::Mount(mount)
            }
            Access::Umount { target, .. } => What::Umount { target: path(target, key.certainty)?.into() },
            Access::PivotRoot { new_root, put_old } => What::PivotRoot {
                new_root: path(new_root, key.certainty)?.into(),
                put_old: path(put_old, key.certainty)?.into(),
            },
            Access::UserNamespace => {
                newer(TargetAbi::Abi40, "user namespaces")?;
                What::UserNamespace
            }
            Access::IoUring { op } => {
                newer(TargetAbi::Abi50, "io_uring")?;
                What::IoUring(*op)
            }
        }])
    }

    /// The rules for one access to a file: what is executed or mapped keeps its one path, whatever its name looks like, and
    /// what only the owner did may stand apart.
    fn files(&mut self, file: &FileAccess, certainty: Certainty) -> Result<Vec<What>, String> {
        let perms = needed(file);
        if perms.is_empty() {
            return Ok(Vec::new());
        }
        let mut path = path(&file.path, certainty)?;
        if certainty == Certainty::Inferred
            && matches!(file.op, FileOp::Mkdir | FileOp::Rmdir)
            && !path.ends_with(b"/")
        {
            path.push(b'/');
        }
        let generalised = self.names.pattern(&path);
        let code = FilePerms::EXEC.or(FilePerms::MMAP_EXEC);
        let pattern = if without(perms, code) == perms {
            generalised
        } else {
            if generalised.as_literal().is_none() {
                self.warnings.push(format!(
                    "{} has a name that will be another next time, and is code: its rule is for this name only",
                    terminal(&path)
                ));
            }
            Pattern::literal(&path)
        };
        let shared = match self.not_owners.get(&file.path) {
            _ if !self.policy.owner => perms,
            Some(others) => without(perms, without(perms, *others)),
            None => FilePerms::EMPTY,
        };
        let owners = without(perms, shared);
        let file = |owner, perms| What::File { path: pattern.clone(), owner, perms };
        Ok([file(false, shared), file(true, owners)]
            .into_iter()
            .filter(|what| !matches!(what, What::File { perms, .. } if perms.is_empty()))
            .collect())
    }

    fn finish(mut self) -> Result<Generated, GenerateError> {
        let recording = self.recording;
        if self.rules.iter().next().is_none() {
            return Err(GenerateError::NothingSeen(self.policy.phases));
        }
        if let Paths::Balanced { thresholds } = &self.policy.paths {
            fold::versions(&mut self.rules);
            fold::thresholds(&mut self.rules, thresholds);
        }
        if !fold::to_limit(&mut self.rules, fold::MAX_STATES) {
            return Err(GenerateError::TooMuchForParser {
                n_rules: self.rules.len(),
                n_states: fold::n_states(&self.rules),
                max_rules: fold::MAX_RULES,
                max_states: fold::MAX_STATES,
            });
        }
        let is_container = recording.subject().is_container();
        self.flags.attach_disconnected |= is_container;
        floor::rules(is_container).for_each(|rule| self.rules.add(rule));
        if !self.rules.iter().any(|rule| matches!(rule.what, What::File { .. })) {
            self.rules.add(floor::a_file());
        }
        let n_states = fold::n_states(&self.rules);
        let denied = self.denied();
        let mut rules = self.rules.into_vec();
        rules.extend(denied.into_vec());
        rules.sort_by_cached_key(|rule| (group_order(&rule.what), rule.deny, rule.to_text()));

        let granted = |capability: &u8| rules.iter().any(|rule| rule.what == What::Capability(*capability));
        self.optional.retain(|capability| !granted(capability));
        self.warnings.extend(unobserved(recording));
        self.warnings.sort();
        self.warnings.dedup();
        // What the same rules mean depends on flags and ABI too.
        let flags = self.flags.names().collect::<Vec<_>>().join(",");
        let content = format!("{} {flags}\n{}", self.policy.abi.as_str(), text::rules(&rules));
        Ok(Generated {
            name: profile_name(recording.subject(), content.as_bytes()),
            flags: self.flags,
            abi: self.policy.abi,
            phases: self.policy.phases,
            rules,
            not_expressible: self.not_expressible,
            not_granted: self.not_granted,
            optional_capabilities: self.optional,
            head: head(recording, self.policy.phases, &self.warnings),
            warnings: self.warnings,
            n_states,
        })
    }

    /// The deny rules: of each attempt what no other rule grants. Sockets and files only; the rest is noted.
    fn denied(&mut self) -> Rules {
        let mut denied = Rules::default();
        for mut rule in std::mem::take(&mut self.attempts) {
            let original = rule.originals.first().cloned();
            let reason = match &mut rule.what {
                What::File { path, owner: _, perms } => {
                    let literal = original.as_ref().and_then(|key| match &key.what {
                        Access::File(file) => self::path(&file.path, key.certainty).ok(),
                        _ => None,
                    });
                    let literal = literal.unwrap_or_default();
                    let granted = granted(&self.rules, &literal);
                    *path = Pattern::literal(&literal);
                    *perms = without(*perms, granted);
                    perms
                        .is_empty()
                        .then_some("granted all the same, since the same was granted at another time")
                }
                what @ What::Network { .. } if self.rules.iter().any(|rule| rule.what == *what) => {
                    Some("granted all the same, since the same was granted at another time")
                }
                What::Network { .. } => None,
                _ => Some("not denied: a rule that denies could take from those that allow"),
            };
            match (reason, original) {
                (Some(reason), Some(original)) => drop(self.not_granted.insert(original, reason)),
                _ => denied.add(rule),
            }
        }
        denied
    }
}

/// What rules grant of a path.
fn granted(rules: &Rules, path: &[u8]) -> FilePerms {
    rules.iter().fold(FilePerms::EMPTY, |all, rule| match &rule.what {
        What::File { path: pattern, perms, .. } if pattern.matches(path) => all.or(*perms),
        _ => all,
    })
}

const fn group_order(what: &What) -> u8 {
    match what {
        What::Capability(_) => 0,
        What::Network { .. } => 1,
        What::Signal { .. } => 2,
        What::Ptrace { .. } => 3,
        What::Mount(_) | What::Umount { .. } | What::PivotRoot { .. } => 4,
        What::UserNamespace => 5,
        What::IoUring(_) => 6,
        What::File { .. } => 7,
        What::Link { .. } => 8,
    }
}

/// Between processes under this profile both sides need it.
fn peer(peer: &Peer) -> Result<(Direction, RulePeer), String> {
    match peer {
        Peer::Inside => Ok((Direction::Both, RulePeer::Own)),
        Peer::Outside { label: None } => {
            Err("it was about another process whose label could not be read: a rule would have to allow any"
                .to_owned())
        }
        Peer::Outside { label: Some(label) } if label.is_empty() => {
            Err("the other process's label is empty".to_owned())
        }
        Peer::Outside { label: Some(label) } => {
            without_zero(label)?;
            Ok((Direction::Out, RulePeer::Label(label.clone())))
        }
    }
}

fn without_zero(name: &Bytes) -> Result<(), String> {
    if name.as_slice().contains(&0) { Err("a zero byte is in its name".to_owned()) } else { Ok(()) }
}

/// A path as the parser will have it: it makes one slash of several, but for two at the start.
fn path(path: &Bytes, certainty: Certainty) -> Result<Vec<u8>, String> {
    without_zero(path)?;
    let path = path.as_slice();
    if path.first() != Some(&b'/') {
        return Err("its path is not known from the root".to_owned());
    }
    let mut clean: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split_inclusive(|byte| *byte == b'/') {
        match part {
            b"/" if clean.ends_with(b"/") => {}
            b"./" | b"." if certainty == Certainty::Inferred => {}
            b"../" | b".." if certainty == Certainty::Inferred => {
                return Err("its path was written with `..`, and where that leads is not known".to_owned());
            }
            part => clean.extend_from_slice(part),
        }
    }
    Ok(clean)
}

/// The classes that some runs did not observe, and what that means.
fn unobserved(recording: &Recording) -> Vec<String> {
    let n_runs = recording.runs().len();
    let mut reasons: BTreeMap<(Class, &str), usize> = BTreeMap::new();
    for run in recording.runs().values() {
        for (class, coverage) in run.coverage.accesses.iter() {
            if let Coverage::None(why) = coverage {
                *reasons.entry((class, &why.reason)).or_default() += 1;
            }
        }
    }
    let warning = |((class, reason), n): ((Class, &str), usize)| {
        format!(
            "{class}: not observed in {n} of {n_runs} runs ({}), so that the profile may refuse what the workload needs",
            terminal(reason.as_bytes())
        )
    };
    reasons.into_iter().map(warning).collect()
}

/// What the text's comment says, escaped.
fn head(recording: &Recording, phases: PhaseSet, warnings: &[String]) -> Vec<String> {
    let subject = match recording.subject() {
        Subject::Command { program } => format!("command {}", terminal(program.as_slice())),
        Subject::Cgroup { path } => format!("cgroup {}", terminal(path.as_slice())),
        Subject::Docker { name, .. } => format!("container {}", terminal(name.as_bytes())),
        Subject::Container { namespace, workload, container, .. } => {
            let [container, workload, namespace] =
                [container, workload, namespace].map(|name| terminal(name.as_bytes()));
            format!("container {container} of {workload} in namespace {namespace}")
        }
    };
    let n_runs = recording.runs().len();
    let n_lossy = recording.runs().values().filter(|run| run.is_lossy()).count();
    let runs = if n_runs == 1 { "run" } else { "runs" };
    let mut head = vec![
        format!("AppArmor profile by khard {}", env!("CARGO_PKG_VERSION")),
        format!("for {subject}"),
        format!(
            "recorded by {}: {n_runs} {runs}, phases {phases}",
            terminal(recording.written_by().as_bytes())
        ),
    ];
    if n_lossy > 0 {
        head.push(format!("warning: {n_lossy} of {n_runs} runs lossy: accesses may be missing"));
    }
    head.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    head
}
