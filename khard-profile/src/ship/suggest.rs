//! Owns what else than profiles a recording suggests to take from a container, and what it cannot tell. Knows no form.

use std::collections::{BTreeMap, BTreeSet};

use crate::apparmor::words;
use crate::escape::terminal;
use crate::recording::{
    Access, AccessKey, Class, FileOp, FilePerms, From, Observed, Outcome, Recording, Seen,
};
use crate::seccomp::Policy;

/// Settings under which the recorded run would have gone the same way, as far as can be told. They change what the container may do, and
/// with that which calls the runtime makes: record again under them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestions {
    /// The capabilities that were used, as Kubernetes and Docker call them (`NET_BIND_SERVICE`), with who used each first: all others can be
    /// dropped. `None` if that is not known.
    pub capabilities: Option<BTreeMap<String, String>>,
    /// Nothing was written but below `/proc`, `/sys` and `/dev`, which are not of the root file system.
    pub read_only_root: bool,
    /// Every run had `no_new_privs` already.
    pub no_new_privileges: bool,
    /// What is not suggested, and why, and what to know of what is. Escaped for a terminal, a line each.
    pub notes: Vec<String>,
}

/// Folders below which something was written that are named; the rest is counted.
const MAX_FOLDERS: usize = 8;
/// Where a runtime mounts file systems of its own (OCI runtime specification, config-linux.md, default file systems).
const MOUNTED: [&[u8]; 3] = [b"/proc/", b"/sys/", b"/dev/"];

impl Suggestions {
    /// What follows from a recording, in the phases for which profiles are made by default.
    pub(super) fn new(recording: &Recording) -> Self {
        let mut suggestions = Self::default();
        if recording.runs().values().any(|run| run.confinement.privileged == Some(true)) {
            suggestions.notes.push(
                "nothing is suggested: it ran privileged, under other rules than a container that is not"
                    .to_owned(),
            );
            return suggestions;
        }
        suggestions.take_capabilities(recording);
        if recording.subject().is_container() {
            suggestions.look_for_writes(recording);
        } else {
            suggestions
                .note("read-only root file system: it ran in no container, so its paths are the host's");
        }
        let mut runs = recording.runs().values().map(|run| run.confinement.no_new_privs).peekable();
        suggestions.no_new_privileges = runs.peek().is_some() && runs.all(|privs| privs == Some(true));
        if suggestions.no_new_privileges {
            suggestions.note("no new privileges: it ran so already");
        } else {
            suggestions.note("no new privileges (allowPrivilegeEscalation): khard does not record whether a program that was started is setuid, so try it and record again");
        }
        suggestions.note("a user other than root (runAsNonRoot): khard does not record user ids");
        suggestions
    }

    /// Whether there is anything to set.
    pub fn is_empty(&self) -> bool {
        self.capabilities.is_none() && !self.read_only_root && !self.no_new_privileges
    }

    fn note(&mut self, what: &str) {
        self.notes.push(what.to_owned());
    }

    fn take_capabilities(&mut self, recording: &Recording) {
        if let Some(why) = unknown(recording, Class::Capabilities) {
            self.notes.push(format!("capabilities: {why}"));
            return;
        }
        let mut used = BTreeMap::new();
        let mut tested = BTreeSet::new();
        for (key, seen) in granted(recording) {
            let Access::Capability { capability, optional } = key.what else { continue };
            let Some(name) = words::capability(capability).map(str::to_ascii_uppercase) else {
                self.notes.push(format!("capabilities: number {capability} was used, which has no name yet"));
                return;
            };
            if optional {
                tested.insert(name);
                continue;
            }
            let first = seen.witness(Policy::DEFAULT_PHASES);
            let first = first.map(|first| {
                format!("{} ({})", terminal(first.comm.as_slice()), terminal(first.exe.as_slice()))
            });
            used.entry(name).or_insert_with(|| first.unwrap_or_else(|| "an unknown process".to_owned()));
        }
        if used.is_empty() {
            self.note("capabilities: none was used");
        }
        for (name, first) in &used {
            self.notes.push(format!("capability {name}: used, first by {first}"));
        }
        for name in tested.iter().filter(|name| !used.contains_key(*name)) {
            self.notes.push(format!("capability {name}: only tested for, and not among those to keep; most programs go on without it"));
        }
        self.capabilities = Some(used);
    }

    /// What is written to a volume needs no writable root, and a recording knows no volumes: paths are all that it has.
    fn look_for_writes(&mut self, recording: &Recording) {
        if let Some(why) = unknown(recording, Class::Files) {
            self.notes.push(format!("read-only root file system: {why}"));
            return;
        }
        let is_mounted = |path: &[u8]| MOUNTED.iter().any(|dir| path.starts_with(dir));
        let written =
            granted(recording).filter_map(|(key, _)| written(&key.what)).filter(|path| !is_mounted(path));
        let folders: BTreeSet<&[u8]> = written.map(folder).collect();
        self.read_only_root = folders.is_empty();
        if self.read_only_root {
            self.note("read-only root file system: nothing was written but below /proc, /sys and /dev");
            return;
        }
        let named: Vec<String> = folders.iter().take(MAX_FOLDERS).map(|folder| terminal(folder)).collect();
        let more = folders.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.notes.push(format!(
            "read-only root file system: possible if all of these are volumes, which a recording cannot tell: {}{more}",
            named.join(" ")
        ));
    }
}

/// What was granted in the phases that count.
fn granted(recording: &Recording) -> impl Iterator<Item = (&AccessKey, &Seen)> {
    let counts = |seen: &Seen| !seen.phases().and(Policy::DEFAULT_PHASES).is_empty();
    recording.accesses().iter().filter(move |(key, seen)| key.outcome == Outcome::Granted && counts(seen))
}

/// Why nothing can be concluded from what a class does not hold.
fn unknown(recording: &Recording, class: Class) -> Option<String> {
    let mut runs = recording.runs().values().map(|run| run.coverage.accesses.of(class)).peekable();
    if runs.peek().is_none() {
        return Some("nothing is known: there is no run".to_owned());
    }
    runs.find_map(|coverage| match coverage.observed() {
        None => Some("nothing is known: not every run was observed for it".to_owned()),
        Some(_) if coverage.is_lossy() => Some("nothing is sure: observations of it were lost".to_owned()),
        Some(Observed { from: From::Late, .. }) => Some(
            "nothing is sure: it already ran when recording began, and what it did before is not known"
                .to_owned(),
        ),
        Some(_) => None,
    })
}

/// The path that is written, if this needs a file system that can be. Sockets, locks and what is executed do not.
fn written(what: &Access) -> Option<&[u8]> {
    match what {
        Access::Link { link, .. } => Some(link.as_slice()),
        Access::File(file) => {
            let needs = match file.op {
                FileOp::Lock
                | FileOp::Mmap
                | FileOp::Mprotect
                | FileOp::Exec
                | FileOp::Connect
                | FileOp::Send => false,
                FileOp::Open | FileOp::Receive => {
                    let writes = [FilePerms::WRITE, FilePerms::APPEND, FilePerms::CREATE, FilePerms::DELETE];
                    writes.into_iter().any(|perm| file.perms.contains(perm))
                }
                FileOp::Create
                | FileOp::Mkdir
                | FileOp::Rmdir
                | FileOp::Unlink
                | FileOp::Symlink
                | FileOp::RenameFrom
                | FileOp::RenameTo
                | FileOp::Truncate
                | FileOp::Chmod
                | FileOp::Chown => true,
            };
            needs.then_some(file.path.as_slice())
        }
        _ => None,
    }
}

/// The folder that something is in, with its slash.
fn folder(path: &[u8]) -> &[u8] {
    let name = path.strip_suffix(b"/").unwrap_or(path);
    name.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[..=at])
}
