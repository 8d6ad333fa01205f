//! What was asked of the kernel, in words that AppArmor's audit and khard's recording can both be put in: owns the two
//! translations and comparing them. [`of_event`] is AppArmor's side, [`of_access`] khard's; what only one of the two can tell
//! is said there, with the cause.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use khard_profile::recording::{Access, Class, FileOp, IoUringOp, Peer, PtraceMode, Recording};

use crate::{
    apparmor::Loaded,
    audit::apparmor::{Event, Verdict},
    workload::BEFORE_THE_PROFILE,
};

/// What was asked, by class.
pub type Asked = BTreeMap<Class, BTreeSet<String>>;

/// What AppArmor was asked, and what of it says nothing about the workload.
#[derive(Debug, Default)]
pub struct Told {
    /// What was asked.
    pub asked: Asked,
    /// How many records were set aside, by cause.
    pub aside: BTreeMap<&'static str, usize>,
}

impl Told {
    /// Of one profile and what is below it.
    pub fn new(events: &[Event], profile: &Loaded) -> Self {
        let mut told = Self::default();
        for event in events.iter().filter(|event| profile.is(&event.profile)) {
            match of_event(event, profile) {
                Ok(asked) => asked.into_iter().for_each(|(class, what)| add(&mut told.asked, class, what)),
                Err(cause) => *told.aside.entry(cause).or_default() += 1,
            }
        }
        told
    }
}

/// What khard recorded, in any phase and whatever came of it: AppArmor is asked before the outcome is known. Without what
/// was first done by the program that put itself under the profile, unless another did it too: AppArmor tells that.
pub fn of_recording(recording: &Recording, told: &Asked) -> Asked {
    let mut asked = Asked::new();
    for (key, seen) in recording.accesses() {
        let by = seen.iter().find_map(|(_, sighting)| sighting.witness.as_ref());
        let is_before = by.is_some_and(|witness| witness.comm.as_slice() == BEFORE_THE_PROFILE.as_bytes());
        for (class, what) in of_access(&key.what) {
            if !is_before || told.get(&class).is_some_and(|told| told.contains(&what)) {
                add(&mut asked, class, what);
            }
        }
    }
    asked
}

fn add(asked: &mut Asked, class: Class, what: String) {
    asked.entry(class).or_default().insert(what);
}

/// One record of AppArmor's.
///
/// File permissions are taken letter by letter, by the letter that a rule needs: `c` and `d` are granted by `w`. Mapping by
/// mmap(2) and by mprotect(2) is one thing. Signals and traces are taken from who sends and traces: the other side's record
/// (`receive`, `readby`) says the same again. Sockets are family and type: the rule for creating one grants the rest.
///
/// # Errors
/// The cause, for a record that says nothing which a profile of khard's would need:
/// - stat(2) is granted with any rule for a file (lsm-semantics: `GETATTR`);
/// - a descriptor is asked about again after its owner's label has changed, which it does at an exec under a profile in
///   complain mode only (`//null-`); the same for the image that the kernel maps of a program and its interpreter, with `r`.
pub fn of_event(event: &Event, profile: &Loaded) -> Result<Vec<(Class, String)>, &'static str> {
    let mask = event.requested_mask.as_deref().unwrap_or_default();
    let name = || path(event.name.as_deref().unwrap_or_default());
    let other = || path(event.srcname.as_deref().unwrap_or_default());
    let peer = || match event.peer.as_deref() {
        Some(label) if profile.is(label) => "inside".to_owned(),
        label => path(label.unwrap_or_default()),
    };
    if event.verdict == Verdict::Other {
        return Err("no request");
    }
    if let Some(family) = &event.family {
        let kind = event.sock_type.as_deref().unwrap_or_default();
        return Ok(vec![(Class::Network, format!("{family} {kind}"))]);
    }
    let one = |class: Class, what: String| Ok(vec![(class, what)]);
    match event.operation.as_str() {
        "getattr" => Err("stat"),
        "file_inherit" | "file_perm" => Err("a descriptor from before an exec"),
        "file_mmap" | "file_mprotect" if mask == "r" && event.profile != profile.name().as_bytes() => {
            Err("a descriptor from before an exec")
        }
        "file_mmap" | "file_mprotect" => Ok(mapping(mask, &name())),
        "exec" => one(Class::Exec, format!("x {}", name())),
        "link" => one(
            Class::Files,
            format!("link {} -> {}", name(), path(event.target.as_deref().unwrap_or_default())),
        ),
        "file_receive" => Ok(letters(Class::Received, "file_receive", mask, &name())),
        "capable" => {
            let number = event.capability.ok_or("a capability without a number")?;
            let mut asked = vec![(Class::Capabilities, format!("{number}"))];
            if !event.info.as_deref().unwrap_or_default().starts_with("optional") {
                asked.push((Class::Capabilities, format!("{number}, or fail")));
            }
            Ok(asked)
        }
        "signal" if mask == "receive" => Err("the other side of a signal"),
        "signal" => {
            one(Class::Signals, format!("{} {}", event.signal.as_deref().unwrap_or_default(), peer()))
        }
        "ptrace" if mask.ends_with("by") => Err("the other side of a trace"),
        "ptrace" => one(Class::Ptrace, format!("{mask} {}", peer())),
        "mount" => {
            let flags = event.flags.as_deref().unwrap_or("rw");
            let fstype = path(event.fstype.as_deref().unwrap_or_default());
            one(Class::Mounts, mount(flags, &fstype, &other(), &name()))
        }
        "umount" => one(Class::Mounts, format!("umount {}", name())),
        "pivotroot" => one(Class::Mounts, format!("pivot_root {} {}", name(), other())),
        "userns_create" => one(Class::UserNamespaces, "create".to_owned()),
        operation @ ("uring_sqpoll" | "uring_override") => one(Class::IoUring, operation.to_owned()),
        operation @ ("connect" | "sendmsg") => Ok(letters(Class::UnixSockets, operation, mask, &name())),
        operation => Ok(letters(Class::Files, operation, mask, &name())),
    }
}

/// One observation of khard's.
///
/// AppArmor has no record of a connection or a datagram to a socket's path (before Linux 6.17 with a policy of abi 5), of a
/// user namespace and of `io_uring` (policies before abi 4 and 5), nor of a descriptor that came from a process of the same
/// label: there khard has no second witness here.
pub fn of_access(access: &Access) -> Vec<(Class, String)> {
    let class = access.class();
    let peer = |peer: &Peer| match peer {
        Peer::Inside => "inside".to_owned(),
        Peer::Outside { label } => {
            label.as_ref().map_or_else(|| "?".to_owned(), |label| path(label.as_slice()))
        }
    };
    let what = match access {
        Access::File(file) => {
            let name = path(file.path.as_slice());
            match file.op {
                FileOp::Exec => format!("x {name}"),
                FileOp::Mmap | FileOp::Mprotect => return mapping(&file.perms.to_string(), &name),
                op => return letters(class, op.as_str(), &file.perms.to_string(), &name),
            }
        }
        Access::Link { link, target } => {
            format!("link {} -> {}", path(link.as_slice()), path(target.as_slice()))
        }
        Access::Capability { capability, optional } => {
            let mut asked = vec![(class, format!("{capability}"))];
            if !optional {
                asked.push((class, format!("{capability}, or fail")));
            }
            return asked;
        }
        Access::Network { family, kind } => format!("{} {}", family_name(*family), kind_name(*kind)),
        Access::Signal { signal, peer: to } => format!("{} {}", signal_name(*signal), peer(to)),
        Access::Ptrace { mode: PtraceMode::Read, peer: of } => format!("read {}", peer(of)),
        Access::Ptrace { mode: PtraceMode::Trace, peer: of } => format!("trace {}", peer(of)),
        Access::Mount { fstype, source, target, flags } => mount(
            &flag_names(*flags),
            &path(fstype.as_slice()),
            &path(source.as_slice()),
            &path(target.as_slice()),
        ),
        Access::Umount { target, .. } => format!("umount {}", path(target.as_slice())),
        Access::PivotRoot { new_root, put_old } => {
            format!("pivot_root {} {}", path(new_root.as_slice()), path(put_old.as_slice()))
        }
        Access::UserNamespace => "create".to_owned(),
        Access::IoUring { op: IoUringOp::SqPoll } => "uring_sqpoll".to_owned(),
        Access::IoUring { op: IoUringOp::OverrideCreds } => "uring_override".to_owned(),
    };
    vec![(class, what)]
}

/// A request for each letter that a rule needs.
fn letters(class: Class, operation: &str, mask: &str, name: &str) -> Vec<(Class, String)> {
    let letters: BTreeSet<char> =
        mask.chars().map(|letter| if matches!(letter, 'c' | 'd') { 'w' } else { letter }).collect();
    letters.into_iter().map(|letter| (class, format!("{operation} {letter} {name}"))).collect()
}

/// A mapping. One that is executed is readable by the open before it, which AppArmor names again.
fn mapping(mask: &str, name: &str) -> Vec<(Class, String)> {
    let wanted = if mask.contains('m') { "mw" } else { "rw" };
    let letters = mask.chars().filter(|letter| wanted.contains(*letter));
    letters.map(|letter| (Class::MappedCode, format!("map {letter} {name}"))).collect()
}

/// What of a mount counts depends on what it is: `aa_remount`, `aa_bind_mount` and others of security/apparmor/mount.c.
fn mount(flags: &str, fstype: &str, source: &str, target: &str) -> String {
    let has = |flag: &str| flags.split(", ").any(|word| word.trim_start_matches('r') == flag || word == flag);
    let (fstype, source) =
        if has("remount") || ["private", "shared", "slave", "unbindable"].iter().any(|flag| has(flag)) {
            ("", "")
        } else if has("bind") || has("move") {
            ("", source)
        } else {
            (fstype, source)
        };
    format!("mount [{flags}] {fstype} {source} -> {target}")
}

/// Any bytes as text, one way only.
fn path(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// `audit_mnt_flags` of security/apparmor/mount.c.
fn flag_names(flags: u64) -> String {
    let has = |flag: u64| flags & flag != 0;
    let mut names = vec![if has(libc::MS_RDONLY) { "ro" } else { "rw" }];
    let plain = [
        (libc::MS_NOSUID, "nosuid"),
        (libc::MS_NODEV, "nodev"),
        (libc::MS_NOEXEC, "noexec"),
        (libc::MS_SYNCHRONOUS, "sync"),
        (libc::MS_REMOUNT, "remount"),
        (libc::MS_MANDLOCK, "mand"),
        (libc::MS_DIRSYNC, "dirsync"),
        (libc::MS_NOATIME, "noatime"),
        (libc::MS_NODIRATIME, "nodiratime"),
    ];
    let recursive = [
        (libc::MS_BIND, ["bind", "rbind"]),
        (libc::MS_UNBINDABLE, ["unbindable", "runbindable"]),
        (libc::MS_PRIVATE, ["private", "rprivate"]),
        (libc::MS_SLAVE, ["slave", "rslave"]),
        (libc::MS_SHARED, ["shared", "rshared"]),
    ];
    let last = [
        (libc::MS_RELATIME, "relatime"),
        (libc::MS_I_VERSION, "iversion"),
        (libc::MS_STRICTATIME, "strictatime"),
    ];
    names.extend(plain.iter().filter(|(flag, _)| has(*flag)).map(|(_, name)| *name));
    for (index, (flag, forms)) in recursive.iter().enumerate() {
        if has(*flag) {
            names.push(forms[usize::from(has(libc::MS_REC))]);
        }
        if index == 0 {
            let between = [(libc::MS_MOVE, "move"), (libc::MS_SILENT, "silent"), (libc::MS_POSIXACL, "acl")];
            names.extend(between.iter().filter(|(flag, _)| has(*flag)).map(|(_, name)| *name));
        }
    }
    names.extend(last.iter().filter(|(flag, _)| has(*flag)).map(|(_, name)| *name));
    names.join(", ")
}

/// AppArmor's names of families (`address_family_names`, generated from socket.h), as far as the workloads have them.
fn family_name(family: u16) -> String {
    let known: [(i32, &str); 6] = [
        (libc::AF_UNIX, "unix"),
        (libc::AF_INET, "inet"),
        (libc::AF_INET6, "inet6"),
        (libc::AF_NETLINK, "netlink"),
        (libc::AF_PACKET, "packet"),
        (libc::AF_VSOCK, "vsock"),
    ];
    let found = known.iter().find(|(number, _)| *number == i32::from(family));
    found.map_or_else(|| family.to_string(), |(_, name)| (*name).to_owned())
}

/// `sock_type_names` of security/apparmor/net.c.
fn kind_name(kind: u16) -> String {
    let names = ["unknown(0)", "stream", "dgram", "raw", "rdm", "seqpacket", "dccp"];
    names.get(usize::from(kind)).map_or_else(|| kind.to_string(), |name| (*name).to_owned())
}

/// `sig_names` and `audit_signal_cb` of security/apparmor/ipc.c.
fn signal_name(signal: u8) -> String {
    const NAMES: [&str; 32] = [
        "exists", "hup", "int", "quit", "ill", "trap", "abrt", "bus", "fpe", "kill", "usr1", "segv", "usr2",
        "pipe", "alrm", "term", "stkflt", "chld", "cont", "stop", "stp", "ttin", "ttou", "urg", "xcpu",
        "xfsz", "vtalrm", "prof", "winch", "io", "pwr", "sys",
    ];
    NAMES.get(usize::from(signal)).map_or_else(|| format!("rtmin+{}", signal - 32), |name| (*name).to_owned())
}

/// How well khard saw one class.
#[derive(Debug)]
pub struct Compared {
    /// Asked of AppArmor, not recorded.
    pub missed: Vec<String>,
    /// Recorded, not told by AppArmor.
    pub extra: Vec<String>,
    /// In both.
    pub n_shared: usize,
}

impl Compared {
    /// Of what AppArmor was asked, how much was recorded.
    pub fn recall(&self) -> f64 {
        share(self.n_shared, self.missed.len())
    }

    /// Of what was recorded, how much AppArmor tells too.
    pub fn precision(&self) -> f64 {
        share(self.n_shared, self.extra.len())
    }
}

fn share(part: usize, rest: usize) -> f64 {
    if rest == 0 { 1.0 } else { part as f64 / (part + rest) as f64 }
}

/// Class by class.
pub fn compare(told: &Asked, recorded: &Asked) -> BTreeMap<Class, Compared> {
    let none = BTreeSet::new();
    let of = |class: &Class| {
        let (told, recorded) = (told.get(class).unwrap_or(&none), recorded.get(class).unwrap_or(&none));
        Compared {
            missed: told.difference(recorded).cloned().collect(),
            extra: recorded.difference(told).cloned().collect(),
            n_shared: told.intersection(recorded).count(),
        }
    };
    told.keys().chain(recorded.keys()).map(|class| (*class, of(class))).collect()
}

/// A table of the classes, then every difference.
pub fn table(compared: &BTreeMap<Class, Compared>) -> String {
    let mut text = format!(
        "{:<16} {:>6} {:>6} {:>6} {:>7} {:>9}\n",
        "class", "shared", "missed", "extra", "recall", "precision"
    );
    for (class, one) in compared {
        let _ = writeln!(
            text,
            "{:<16} {:>6} {:>6} {:>6} {:>7.3} {:>9.3}",
            class.as_str(),
            one.n_shared,
            one.missed.len(),
            one.extra.len(),
            one.recall(),
            one.precision()
        );
    }
    for (class, one) in compared {
        for (word, list) in [("missed", &one.missed), ("extra", &one.extra)] {
            for what in list {
                let _ = writeln!(text, "  {word} {class}: {what}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_that_a_rule_needs() {
        let asked = letters(Class::Files, "rename_src", "wrd", "/a");
        let words: Vec<_> = asked.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(words, ["rename_src r /a", "rename_src w /a"]);
    }

    #[test]
    fn a_mounts_flags_are_in_the_kernels_order() {
        assert_eq!(flag_names(libc::MS_NODEV | libc::MS_NOSUID), "rw, nosuid, nodev");
        assert_eq!(flag_names(libc::MS_REC | libc::MS_PRIVATE), "rw, rprivate");
        assert_eq!(flag_names(libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY), "ro, remount, bind");
        assert_eq!(mount("rw, rprivate", "", "none", "/"), "mount [rw, rprivate]   -> /");
    }

    #[test]
    fn signals_have_the_kernels_names() {
        assert_eq!([0, 9, 15, 34].map(signal_name), ["exists", "kill", "term", "rtmin+2"]);
    }

    #[test]
    fn what_only_one_side_has_is_a_difference() {
        let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
        let told = Asked::from([(Class::Files, set(&["a", "b"]))]);
        let recorded = Asked::from([(Class::Files, set(&["b", "c"])), (Class::Exec, set(&["x"]))]);
        let compared = compare(&told, &recorded);
        let files = &compared[&Class::Files];
        assert_eq!(
            (files.missed.as_slice(), files.extra.as_slice()),
            (&["a".to_owned()][..], &["c".to_owned()][..])
        );
        assert!((files.recall() - 0.5).abs() < f64::EPSILON);
        assert!(table(&compared).contains("  missed files: a"));
    }
}
