//! Owns what is different between two AppArmor profiles: what their rules grant and deny, united for each path, capability, peer and so
//! on. Order, line breaks, comments and variables do not count. What a wider rule of the other profile covers is neither more nor less:
//! where it is certain that it does, which the rules of one class tell one by one, never several together.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Compared, Diff, Kind, Note};
use crate::Bytes;
use crate::apparmor::words;
use crate::apparmor_text::{
    CHANGES_ON_EXEC, Exec, MountRule, ParsedProfile, Pattern, PtraceRule, Rule, RuleKind, SignalRule, Ways,
};
use crate::check::apparmor::{Verdict, verdict};
use crate::escape::terminal;
use crate::recording::{self, Access, AccessKey, FilePerms, Recording, Witness};
use crate::seccomp::{Policy, profile_stem};
use crate::summary::opens::{Grant, risk};

const FILES: &str = "files";
const LINKS: &str = "links";
const TRANSITIONS: &str = "changes of profile on exec";
const CAPABILITIES: &str = "capabilities";
const NETWORK: &str = "network";
const SIGNALS: &str = "signals";
const PTRACE: &str = "ptrace";
const MOUNTS: &str = "mounts";
const USER_NAMESPACES: &str = "user namespaces";
const IO_URING: &str = "io_uring";
const OTHER: &str = "other rules";
const UNJUDGED: &str = "parts that are not read";
const FLAGS: &str = "flags";

const CLASSES: [&str; 13] = [
    FILES,
    LINKS,
    TRANSITIONS,
    CAPABILITIES,
    NETWORK,
    SIGNALS,
    PTRACE,
    MOUNTS,
    USER_NAMESPACES,
    IO_URING,
    OTHER,
    UNJUDGED,
    FLAGS,
];

/// Compares what two profiles grant and deny. With the recording that the new one was made of, each addition has its witness.
pub fn apparmor(old: &ParsedProfile, new: &ParsedProfile, recording: Option<&Recording>) -> Diff {
    let (before, after) = (Things::of(old), Things::of(new));
    let all: BTreeSet<&Thing> = before.said.keys().chain(after.said.keys()).collect();
    let accesses = recording.into_iter().flat_map(Recording::accesses);
    let granted: Vec<(&AccessKey, &Witness)> =
        accesses.filter_map(|(key, seen)| Some((key, seen.witness(Policy::DEFAULT_PHASES)?))).collect();
    let mut changes = Vec::new();
    for thing in all {
        let (was, is) = (before.said.get(thing), after.said.get(thing));
        let (gained, lost) = (before.lacks(thing, is), after.lacks(thing, was));
        if gained == Lacks::It {
            let kind = if was.is_none() { Kind::Added } else { Kind::Widened };
            // What the old one allows needed no addition.
            let asked = granted.iter().filter(|(key, _)| thing.is_about(&key.what));
            let needed = asked.filter(|(key, _)| matches!(verdict(old, key), Verdict::Refused(_)));
            let witness = needed.map(|(_, witness)| *witness).min().cloned().filter(|_| !thing.deny);
            changes.push(Change { witness, ..change(thing, kind, was, is) });
        }
        if lost == Lacks::It {
            let kind = if is.is_none() { Kind::Removed } else { Kind::Narrowed };
            changes.push(change(thing, kind, was, is));
        }
        match (gained, lost) {
            (Lacks::Nothing, Lacks::Nothing) | (Lacks::It, _) | (_, Lacks::It) => {}
            (gained, lost) => changes.push(Change {
                before: Some(gained.in_words(was)),
                after: Some(lost.in_words(is)),
                ..change(thing, Kind::Changed, was, is)
            }),
        }
    }
    if old.abi != new.abi {
        let [before, after] = [old, new].map(|profile| profile.abi.as_deref().map(Bytes::from));
        changes.push(Change { before, after, ..Change::new(FLAGS, Kind::Changed, "abi") });
    }
    let mut diff = Diff { compared: Compared::Apparmor, changes, worse: Vec::new(), notes: notes(old, new) };
    diff.sort(&CLASSES);
    diff
}

/// What rules can say more or less of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Thing {
    class: &'static str,
    deny: bool,
    owner: bool,
    about: About,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    /// `None`: every path.
    Path(Option<Pattern>),
    Link {
        link: Option<Pattern>,
        target: Option<Pattern>,
        subset: bool,
    },
    /// `None`: all, those of newer kernels too.
    Capability(Option<u8>),
    Network(Option<u16>, Option<u16>),
    Peer(Peer),
    Mount(MountRule),
    Umount(Option<Pattern>),
    PivotRoot {
        new_root: Option<Pattern>,
        put_old: Option<Pattern>,
    },
    /// The class itself, a flag, or a rule as it is written.
    Text(Bytes),
}

/// The other side of a signal or a trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Any,
    /// The profile itself, by whatever name: two versions of one have different names.
    Own,
    Label(Pattern),
}

/// What is said of a thing by all rules together.
#[derive(Clone, Debug, Default)]
struct Said {
    /// Permissions, directions, signals.
    words: BTreeSet<String>,
    /// How it is called: the first way of writing it.
    name: Vec<u8>,
    perms: FilePerms,
    /// By one of the rules a program leaves the profile on exec.
    leaves: bool,
}

#[derive(Default)]
struct Things {
    said: BTreeMap<Thing, Said>,
    /// Those that can cover others.
    wide: Vec<Thing>,
}

/// What a profile lacks of that which another one says of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lacks {
    Nothing,
    /// Rules of its own; what they would say is within these, by their names.
    Rules(BTreeSet<Vec<u8>>),
    It,
}

impl Lacks {
    /// What a profile says of a thing, and within what the rest is.
    fn in_words(self, said: Option<&Said>) -> Bytes {
        let own = said.map(|said| in_words(said).unwrap_or_else(|| "a rule of its own".to_owned()));
        let mut words: Vec<Vec<u8>> = own.map(String::into_bytes).into_iter().collect();
        if let Self::Rules(names) = self {
            words.push(
                [b"within ", names.into_iter().collect::<Vec<_>>().join(&b", "[..]).as_slice()].concat(),
            );
        }
        Bytes::from(words.join(&b", "[..]))
    }
}

impl Said {
    /// True if this word is said, or one that means more.
    fn says(&self, word: Option<&str>) -> bool {
        word.is_none_or(|word| {
            let any = word.split_once(' ').map(|(way, _)| format!("{way} any"));
            self.words.contains(word) || any.is_some_and(|any| self.words.contains(&any))
        })
    }
}

impl Thing {
    /// True for certain: what is said of this with some words is said of the other one with them.
    fn covers(&self, other: &Self) -> bool {
        let is_all = self.class == OTHER && self.about == About::Text(Bytes::from("all"));
        let is_within_all = !matches!(other.class, LINKS | TRANSITIONS | OTHER | UNJUDGED | FLAGS);
        self.deny == other.deny
            && (!self.owner || other.owner)
            && ((is_all && is_within_all) || (self.class == other.class && self.about.covers(&other.about)))
    }
}

impl Thing {
    /// True if the access is one of those that this is about, whatever is asked for.
    fn is_about(&self, access: &Access) -> bool {
        let fits = |pattern: &Option<Pattern>, name: &Bytes| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(name.as_slice()))
        };
        match (&self.about, access) {
            (About::Path(path), Access::File(file)) => {
                (!self.owner || file.facts.owner) && fits(path, &file.path)
            }
            (About::Link { link, target, .. }, Access::Link { link: name, target: file }) => {
                fits(link, name) && fits(target, file)
            }
            (About::Capability(number), Access::Capability { capability, .. }) => {
                number.is_none_or(|number| number == *capability)
            }
            (About::Network(of, any), Access::Network { family, kind }) => {
                of.is_none_or(|of| of == *family) && any.is_none_or(|any| any == *kind)
            }
            (About::Peer(peer), Access::Signal { peer: other, .. }) => {
                self.class == SIGNALS && peer.is(other)
            }
            (About::Peer(peer), Access::Ptrace { peer: other, .. }) => self.class == PTRACE && peer.is(other),
            (About::Mount(rule), Access::Mount { fstype, source, target, flags }) => {
                rule.covers(fstype.as_slice(), source.as_slice(), target.as_slice(), *flags)
            }
            (About::Umount(umounted), Access::Umount { target, .. }) => fits(umounted, target),
            (About::PivotRoot { new_root, put_old }, Access::PivotRoot { new_root: new, put_old: old }) => {
                fits(new_root, new) && fits(put_old, old)
            }
            (About::Text(_), Access::UserNamespace) => self.class == USER_NAMESPACES,
            (About::Text(text), Access::IoUring { op }) => {
                self.class == IO_URING && text.as_slice() == op.to_string().as_bytes()
            }
            _ => false,
        }
    }
}

impl Peer {
    fn is(&self, other: &recording::Peer) -> bool {
        match (self, other) {
            (Self::Any, _) | (Self::Own, recording::Peer::Inside) => true,
            (Self::Label(label), recording::Peer::Outside { label: Some(other) }) => {
                label.matches(other.as_slice())
            }
            _ => false,
        }
    }
}

impl About {
    fn covers(&self, other: &Self) -> bool {
        let both = |wide: &Option<Pattern>, one: &Option<Pattern>| match (wide, one) {
            (Some(wide), Some(one)) => wide.covers(one),
            _ => wide == one,
        };
        let path = |wide: &Option<Pattern>, path: &Option<Pattern>| match (wide, path) {
            (None, Some(path)) => path.is_absolute(),
            _ => both(wide, path),
        };
        match (self, other) {
            (Self::Path(wide), Self::Path(one)) => path(wide, one),
            (Self::Link { link: wide, target: to, subset: one }, Self::Link { link, target, subset }) => {
                one == subset && path(wide, link) && both(to, target)
            }
            (Self::Capability(wide), Self::Capability(one)) => wide.is_none() || wide == one,
            (Self::Network(family, kind), Self::Network(one, of_one)) => {
                (family.is_none() || family == one) && (kind.is_none() || kind == of_one)
            }
            (Self::Peer(Peer::Any), Self::Peer(_)) => true,
            (Self::Peer(Peer::Label(wide)), Self::Peer(Peer::Label(one))) => wide.covers(one),
            (Self::Umount(wide), Self::Umount(one)) => wide.is_none() || both(wide, one),
            _ => self == other,
        }
    }
}

impl Things {
    fn of(profile: &ParsedProfile) -> Self {
        let mut things = Self::default();
        profile.rules.iter().for_each(|rule| things.add_rule(profile, rule));
        let flags = &profile.flags;
        let names =
            [("attach_disconnected", flags.attach_disconnected), ("mediate_deleted", flags.mediate_deleted)];
        let set = names.into_iter().filter(|(_, set)| *set).map(|(name, _)| name);
        let others = flags.lenient.iter().chain(&flags.unjudged).map(String::as_str);
        for flag in set.chain(others) {
            things.add_text(FLAGS, flag.as_bytes());
        }
        // A change of profile on exec is a thing of its own.
        let parts = profile.unjudged.iter().filter(|part| part.line > 0 && part.what != CHANGES_ON_EXEC);
        for part in parts {
            things.add_text(UNJUDGED, part.what.as_bytes());
        }
        let literal = |thing: &Thing| matches!(&thing.about, About::Path(Some(path)) if path.is_literal());
        things.wide = things.said.keys().filter(|thing| !literal(thing)).cloned().collect();
        things
    }

    /// What of this, said of a thing by another profile, is not said here.
    fn lacks(&self, thing: &Thing, said: Option<&Said>) -> Lacks {
        let Some(said) = said else { return Lacks::Nothing };
        let mut words: Vec<Option<&str>> = match self.said.get(thing) {
            None => said.words.iter().map(|word| Some(word.as_str())).collect(),
            Some(own) if said.words.is_subset(&own.words) => return Lacks::Nothing,
            Some(own) => said.words.difference(&own.words).map(|word| Some(word.as_str())).collect(),
        };
        if words.is_empty() {
            words.push(None);
        }
        let of_all_owners = Thing { owner: false, ..thing.clone() };
        let others = std::iter::once(&of_all_owners).chain(&self.wide);
        let covering: Vec<(&Thing, &Said)> = others
            .filter(|other| *other != thing && other.covers(thing))
            .filter_map(|other| Some((other, self.said.get(other)?)))
            .collect();
        let within = |word: Option<&str>| {
            let (other, by) = covering.iter().find(|(other, by)| {
                let stays = word != Some("x") || !by.leaves && !said.leaves;
                stays && (other.class != thing.class || by.says(word))
            })?;
            let owner: &[u8] = if other.owner { b"owner " } else { b"" };
            Some([owner, &by.name].concat())
        };
        let names: Option<BTreeSet<Vec<u8>>> = words.into_iter().map(within).collect();
        names.map_or(Lacks::It, Lacks::Rules)
    }

    fn add(&mut self, thing: Thing, name: Vec<u8>, words: impl IntoIterator<Item = String>) -> &mut Said {
        let said = self.said.entry(thing).or_insert_with(|| Said { name, ..Said::default() });
        said.words.extend(words);
        said
    }

    fn add_text(&mut self, class: &'static str, text: &[u8]) {
        let about = About::Text(Bytes::from(text));
        self.add(Thing { class, deny: false, owner: false, about }, text.to_vec(), []);
    }

    fn add_rule(&mut self, profile: &ParsedProfile, rule: &Rule) {
        let thing = |class, about| Thing { class, deny: rule.deny, owner: rule.owner, about };
        let as_written = |class| thing(class, About::Text(rule.text.clone()));
        let text = rule.text.as_slice().to_vec();
        match &rule.kind {
            RuleKind::File(file) => {
                let path = named(file.path.as_ref(), "every file");
                if !file.perms.is_empty() {
                    let about = About::Path(file.path.clone());
                    let said = self.add(thing(FILES, about), path.clone(), letters(file.perms));
                    said.perms = said.perms.or(file.perms);
                    said.leaves |= file.exec == Some(Exec::Other);
                }
                if let Some(to) = &file.link {
                    let target = named(to.target.as_ref(), "any file");
                    let subset: &[u8] = if to.subset { b" (no more than the file's own)" } else { b"" };
                    let name = [&path, &b" -> "[..], &target, subset].concat();
                    let (link, target) = (file.path.clone(), to.target.clone());
                    self.add(thing(LINKS, About::Link { link, target, subset: to.subset }), name, []);
                }
                if file.exec == Some(Exec::Other) {
                    self.add(as_written(TRANSITIONS), text, []);
                }
            }
            RuleKind::Capability(u64::MAX) => {
                let about = About::Capability(None);
                self.add(thing(CAPABILITIES, about), b"every capability".to_vec(), []);
            }
            RuleKind::Capability(set) => {
                for number in (0..64).filter(|number| set >> number & 1 == 1) {
                    let name = words::capability(number).unwrap_or_default().as_bytes().to_vec();
                    self.add(thing(CAPABILITIES, About::Capability(Some(number))), name, []);
                }
            }
            RuleKind::Network(pairs) => {
                for (family, kind) in pairs {
                    let names = [family.map(words::family), kind.map(words::kind)];
                    let names: Vec<&str> = names.into_iter().flatten().flatten().collect();
                    let name = if names.is_empty() { "every socket".to_owned() } else { names.join(" ") };
                    self.add(thing(NETWORK, About::Network(*family, *kind)), name.into_bytes(), []);
                }
            }
            RuleKind::Signal(signal) => {
                let (peer, name) = peer(profile, signal.peer.as_ref());
                self.add(thing(SIGNALS, About::Peer(peer)), name, signals(signal));
            }
            RuleKind::Ptrace(ptrace) => {
                let (peer, name) = peer(profile, ptrace.peer.as_ref());
                self.add(thing(PTRACE, About::Peer(peer)), name, traces(ptrace));
            }
            RuleKind::Mount(mount) => drop(self.add(thing(MOUNTS, About::Mount(mount.clone())), text, [])),
            RuleKind::Umount(target) => {
                self.add(thing(MOUNTS, About::Umount(target.clone())), text, []);
            }
            RuleKind::PivotRoot { new_root, put_old } => {
                let about = About::PivotRoot { new_root: new_root.clone(), put_old: put_old.clone() };
                self.add(thing(MOUNTS, about), text, []);
            }
            RuleKind::UserNamespaces => {
                let about = About::Text(Bytes::default());
                self.add(thing(USER_NAMESPACES, about), b"new user namespaces".to_vec(), []);
            }
            RuleKind::IoUring { sqpoll, override_creds } => {
                for name in [("sqpoll", sqpoll), ("override_creds", override_creds)] {
                    if *name.1 {
                        let about = About::Text(Bytes::from(name.0));
                        self.add(thing(IO_URING, about), name.0.as_bytes().to_vec(), []);
                    }
                }
            }
            RuleKind::All => {
                let about = About::Text(Bytes::from("all"));
                self.add(thing(OTHER, about), b"all".to_vec(), []);
            }
            RuleKind::Other | RuleKind::Unjudged { .. } => drop(self.add(as_written(OTHER), text, [])),
        }
    }
}

fn named(pattern: Option<&Pattern>, every: &str) -> Vec<u8> {
    pattern.map_or_else(|| every.as_bytes().to_vec(), |pattern| pattern.source().to_vec())
}

/// The letters in the order in which people write them; `a` is within `w`.
const LETTERS: [(FilePerms, &str); 6] = [
    (FilePerms::READ, "r"),
    (FilePerms::WRITE, "w"),
    (FilePerms::APPEND, "a"),
    (FilePerms::LOCK, "k"),
    (FilePerms::MMAP_EXEC, "m"),
    (FilePerms::EXEC, "x"),
];

fn letters(perms: FilePerms) -> impl Iterator<Item = String> {
    let has = LETTERS.into_iter().filter(move |(perm, _)| perms.contains(*perm));
    has.map(|(_, letter)| letter.to_owned())
}

fn peer(profile: &ParsedProfile, pattern: Option<&Pattern>) -> (Peer, Vec<u8>) {
    match pattern {
        None => (Peer::Any, b"any process".to_vec()),
        Some(pattern) if pattern.is_just(profile.name.as_slice()) => {
            (Peer::Own, b"its own processes".to_vec())
        }
        Some(pattern) => (Peer::Label(pattern.clone()), [b"processes under ", pattern.source()].concat()),
    }
}

fn directions(ways: Ways, does: &'static str, suffers: &'static str) -> impl Iterator<Item = &'static str> {
    [(ways.does, does), (ways.suffers, suffers)].into_iter().filter(|(so, _)| *so).map(|(_, word)| word)
}

fn signals(rule: &SignalRule) -> Vec<String> {
    let names: Vec<String> = match rule.signals {
        None => vec!["any".to_owned()],
        Some(set) => (0..128_u8).filter(|number| set >> number & 1 == 1).filter_map(words::signal).collect(),
    };
    let of_way = |way: &'static str| names.iter().map(move |name| format!("{way} {name}"));
    directions(rule.ways, "send", "receive").flat_map(of_way).collect()
}

fn traces(rule: &PtraceRule) -> Vec<String> {
    let read = directions(rule.perms.read, "read", "readby");
    read.chain(directions(rule.perms.trace, "trace", "tracedby")).map(str::to_owned).collect()
}

/// What denies turns round: less of it is more for the program.
fn change(thing: &Thing, kind: Kind, was: Option<&Said>, is: Option<&Said>) -> Change {
    let kind = match kind {
        Kind::Added | Kind::Widened if thing.deny => Kind::Narrowed,
        Kind::Removed | Kind::Narrowed if thing.deny => Kind::Widened,
        kind => kind,
    };
    let name = is.or(was).map(|said| said.name.clone()).unwrap_or_default();
    let deny: &[u8] = if thing.deny { b"deny " } else { b"" };
    let owner: &[u8] = if thing.owner { b"owner " } else { b"" };
    // A rule that is told as it is written says so itself.
    let as_written = matches!(thing.about, About::Mount(_) | About::Umount(_) | About::PivotRoot { .. })
        || matches!(thing.class, TRANSITIONS | OTHER);
    let what = if as_written { name.clone() } else { [deny, owner, &name].concat() };
    let words = |said: Option<&Said>| Some(Bytes::from(in_words(said?)?.as_str()));
    Change {
        before: words(was),
        after: words(is),
        opens: if kind.is_more() { opens(thing, is) } else { None },
        ..Change::new(thing.class, kind, what)
    }
}

/// What is said of a thing beside that it is there.
fn in_words(said: &Said) -> Option<String> {
    if said.perms.is_empty() {
        let words: Vec<&str> = said.words.iter().map(String::as_str).collect();
        return (!words.is_empty()).then(|| words.join(", "));
    }
    let within_w = |letter: &str| letter == "a" && said.perms.contains(FilePerms::WRITE);
    let shown = LETTERS.iter().filter(|(perm, letter)| said.perms.contains(*perm) && !within_w(letter));
    Some(shown.map(|(_, letter)| *letter).collect())
}

fn opens(thing: &Thing, is: Option<&Said>) -> Option<&'static str> {
    if thing.deny {
        return Some("what was denied whatever other rules and included files say");
    }
    let perms = is.map_or(FilePerms::EMPTY, |said| said.perms);
    risk(match &thing.about {
        About::Path(None) => return Some("every file"),
        About::Path(Some(pattern)) => {
            Grant::File { prefix: pattern.prefix().unwrap_or_default(), path: pattern.source(), perms }
        }
        About::Capability(None) => return Some("every capability, those of newer kernels among them"),
        About::Capability(Some(number)) => Grant::Capability(*number),
        About::Network(family, kind) => Grant::Network { family: *family, kind: *kind },
        About::Peer(_) if thing.class == PTRACE => {
            Grant::Ptrace { traces: is.is_some_and(|said| said.words.contains("trace")) }
        }
        About::Mount(mount) => Grant::Mount { any_flags: mount.options.is_none() },
        About::Umount(_) => Grant::Umount,
        About::PivotRoot { .. } => Grant::PivotRoot,
        About::Text(text) => {
            return match (thing.class, text.as_slice()) {
                (USER_NAMESPACES, _) => risk(Grant::UserNamespace),
                (IO_URING, _) => risk(Grant::IoUring),
                (OTHER, b"all") => Some("everything"),
                (TRANSITIONS, _) => Some("what is executed so leaves this profile"),
                (UNJUDGED, _) => Some("whatever stands in it"),
                (FLAGS, b"attach_disconnected") => {
                    Some("descriptors from outside are taken by their path in their own file system")
                }
                (FLAGS, b"complain" | b"unconfined" | b"default_allow") => {
                    Some("everything that no rule denies")
                }
                _ => None,
            };
        }
        About::Link { .. } | About::Peer(_) => return None,
    })
}

fn notes(old: &ParsedProfile, new: &ParsedProfile) -> Vec<Note> {
    let mut notes = Vec::new();
    let [was, is] =
        [old, new].map(|profile| profile_stem(std::str::from_utf8(profile.name.as_slice()).ok()?));
    // khard's names change with the content, which the rest of the answer tells.
    if old.name != new.name && (was.is_none() || was != is) {
        let [old, new] = [old, new].map(|profile| terminal(profile.name.as_slice()));
        notes.push(Note::with_names(format!("the profiles have different names: {old} and {new}")));
    }
    let parts = |profile: &ParsedProfile| -> BTreeSet<Cow<'static, str>> {
        profile.unjudged.iter().map(|part| part.what.clone()).collect()
    };
    // What only one of them has is a change.
    notes.extend(parts(old).intersection(&parts(new)).map(|what| Note {
        text: format!("not compared: {what}"),
        has_names: matches!(what, Cow::Owned(_)),
    }));
    let unjudged = |profile: &ParsedProfile| -> BTreeSet<Bytes> {
        let rules = profile
            .rules
            .iter()
            .filter(|rule| matches!(rule.kind, RuleKind::Unjudged { .. } | RuleKind::Other));
        rules.map(|rule| rule.text.clone()).collect()
    };
    if !unjudged(old).is_empty() || !unjudged(new).is_empty() {
        notes.push(Note::of_khard(format!("rules of the class {OTHER:?} are compared as they are written")));
    }
    notes
}
