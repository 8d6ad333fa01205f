//! Owns an AppArmor profile as an `AppArmorProfile` of the security-profiles-operator, and what of the profile that form has no words for.
//! Knows nothing else of the operator.
//!
//! The form is that of its API's v1 (`api/apparmorprofile/v1/apparmorprofile_types.go`): it takes no text, but lists of paths, capabilities
//! and two protocols, of which the operator makes a text of its own (`internal/pkg/daemon/apparmorprofile/crd2armor/crd2armor.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{AppArmor, ShipError, yaml};
use crate::apparmor::words;
use crate::apparmor_text::{
    Exec, FileRule, Mode, ParsedProfile, Pattern, PtraceRule, Rule, RuleKind, SignalRule,
};
use crate::escape::terminal;
use crate::recording::FilePerms;

/// `AF_INET`, `AF_INET6` (include/linux/socket.h), and types of sockets (include/linux/net.h).
const INET: [u16; 2] = [2, 10];
const STREAM: u16 = 1;
const DGRAM: u16 = 2;
const RAW: u16 = 3;

/// A profile in the operator's form.
pub(super) struct Form {
    name: String,
    mode: Mode,
    /// By the operator's names for the lists of paths.
    paths: BTreeMap<&'static str, BTreeSet<String>>,
    capabilities: BTreeSet<&'static str>,
    tcp: bool,
    udp: bool,
    raw: bool,
    /// What it has no words for: the rules as they are written, and other parts. Escaped.
    pub(super) missing: Vec<String>,
    /// Rules that allow writing where deny rules of the operator's own may refuse it. Escaped.
    denied: Vec<String>,
    /// Paths for which more is allowed than the profile does, and what. Escaped.
    widened: Vec<String>,
    /// Rules for owners alone, which are for everybody here.
    n_of_owners: usize,
}

/// What all rules of one path grant together.
struct Granted<'a> {
    path: &'a Pattern,
    perms: FilePerms,
}

impl Granted<'_> {
    fn has(&self, perms: FilePerms) -> bool {
        self.perms.contains(perms)
    }

    /// By rules of their own, or since the lists for what is executed and mapped let it be read too.
    fn reads(&self) -> bool {
        [FilePerms::READ, FilePerms::MMAP_EXEC, FilePerms::EXEC].into_iter().any(|perms| self.has(perms))
    }

    /// Or appends, locks or links, which the operator's lists do not tell apart.
    fn writes(&self) -> bool {
        [FilePerms::WRITE, FilePerms::APPEND, FilePerms::LOCK].into_iter().any(|perms| self.has(perms))
    }
}

const EXECUTABLES: &str = "allowedExecutables";
const LIBRARIES: &str = "allowedLibraries";
const READ_ONLY: &str = "readOnlyPaths";
const WRITE_ONLY: &str = "writeOnlyPaths";
const READ_WRITE: &str = "readWritePaths";

impl Form {
    /// Brings a profile into the form, as far as it goes.
    ///
    /// # Errors
    /// When the text cannot be read.
    pub(super) fn new(apparmor: &AppArmor) -> Result<Self, ShipError> {
        let profile = ParsedProfile::parse(&apparmor.text)?;
        let mut form = Self {
            name: apparmor.name.clone(),
            mode: Mode::Enforce,
            paths: BTreeMap::new(),
            capabilities: BTreeSet::new(),
            tcp: false,
            udp: false,
            raw: false,
            missing: Vec::new(),
            denied: Vec::new(),
            widened: Vec::new(),
            n_of_owners: 0,
        };
        match profile.flags.mode {
            mode @ (Mode::Enforce | Mode::Complain) => form.mode = mode,
            other => form.missing.push(format!("the mode {}", other.as_str())),
        }
        // The operator includes that one itself.
        let parts = profile
            .unjudged
            .iter()
            .filter(|part| part.may_grant && !part.what.contains("abstractions/base,"));
        form.missing.extend(parts.map(|part| terminal(part.what.as_bytes())));
        let inner = profile.inner.iter().map(|name| terminal(name.as_slice()));
        form.missing.extend(inner.map(|name| format!("the profile {name} inside of it")));
        let mut files: BTreeMap<&str, Granted<'_>> = BTreeMap::new();
        for rule in &profile.rules {
            let is_said = !rule.deny
                && match &rule.kind {
                    RuleKind::File(file) => form.file(rule, file, &mut files),
                    RuleKind::Capability(set) => form.capability(*set),
                    RuleKind::Network(sockets) => form.network(sockets),
                    RuleKind::Signal(signal) => is_in_base_signal(signal, &profile),
                    RuleKind::Ptrace(ptrace) => is_in_base_ptrace(ptrace),
                    _ => false,
                };
            if !is_said {
                form.missing.push(terminal(rule.text.as_slice()));
            }
        }
        form.place(&files);
        Ok(form)
    }

    /// Returns false where the form has no words for it.
    fn file<'a>(
        &mut self,
        rule: &Rule,
        file: &'a FileRule,
        files: &mut BTreeMap<&'a str, Granted<'a>>,
    ) -> bool {
        let Some((path, text)) = file.path.as_ref().and_then(|path| Some((path, sayable(path)?))) else {
            return false;
        };
        if file.exec == Some(Exec::Other) {
            return false;
        }
        // A link counts as what stands in one list with it.
        let link = if file.link.is_some() { FilePerms::LOCK } else { FilePerms::EMPTY };
        let perms = file.perms.or(link);
        let granted = files.entry(text).or_insert(Granted { path, perms });
        granted.perms = granted.perms.or(perms);
        self.n_of_owners += usize::from(rule.owner);
        if (Granted { path, perms }).writes() && is_denied(text) {
            self.denied.push(terminal(rule.text.as_slice()));
        }
        true
    }

    fn capability(&mut self, set: u64) -> bool {
        self.capabilities
            .extend((0..64).filter(|number| set >> number & 1 == 1).filter_map(words::capability));
        true
    }

    fn network(&mut self, sockets: &[(Option<u16>, Option<u16>)]) -> bool {
        let mut is_said = true;
        for (family, kind) in sockets {
            let is_inet = family.is_some_and(|family| INET.contains(&family));
            match kind {
                Some(STREAM) if is_inet => self.tcp = true,
                Some(DGRAM) if is_inet => self.udp = true,
                Some(RAW) => self.raw = true,
                _ => is_said = false,
            }
        }
        is_said
    }

    /// Puts each path into the lists that grant what its rules do, and as little more as can be. What is listed as only read has a deny rule
    /// against writing, and what is only written one against reading, which would take from others what their own rules grant.
    fn place(&mut self, files: &BTreeMap<&str, Granted<'_>>) {
        let globs: Vec<_> = files.iter().filter(|(_, granted)| !granted.path.is_literal()).collect();
        for (path, granted) in files {
            let overlaps = |is_harmed: &dyn Fn(&Granted<'_>) -> bool| {
                let overlap = |(other, of_other): &(&&str, &Granted<'_>)| {
                    *other != path && is_harmed(of_other) && may_overlap(granted.path, of_other.path)
                };
                if granted.path.is_literal() {
                    globs.iter().any(|(other, of_other)| overlap(&(other, of_other)))
                } else {
                    files.iter().any(|(other, of_other)| overlap(&(other, of_other)))
                }
            };
            let mut lists = Vec::new();
            if granted.has(FilePerms::EXEC) {
                lists.push(EXECUTABLES);
            } else if granted.has(FilePerms::MMAP_EXEC) {
                lists.push(LIBRARIES);
            }
            let reads_by_them = !lists.is_empty();
            match (granted.has(FilePerms::READ) || reads_by_them, granted.writes()) {
                (true, true) => lists.push(READ_WRITE),
                (true, false) if reads_by_them => {}
                (true, false) if overlaps(&|other| other.writes()) => {
                    lists.push(LIBRARIES);
                    self.widened.push(format!("{} can be mapped as a library", terminal(path.as_bytes())));
                }
                (true, false) => lists.push(READ_ONLY),
                (false, true) if overlaps(&|other| other.reads()) => {
                    lists.push(READ_WRITE);
                    self.widened.push(format!("{} can be read", terminal(path.as_bytes())));
                }
                (false, true) => lists.push(WRITE_ONLY),
                (false, false) => {}
            }
            for list in lists {
                self.paths.entry(list).or_default().insert((*path).to_owned());
            }
        }
    }

    /// The resource as a document.
    pub(super) fn document(&self) -> String {
        let mut head = vec![
            format!("The AppArmor profile {}, for the security-profiles-operator (1.0 or later).", self.name),
            "The operator takes no text: it makes one of these lists, and puts abstractions/base and deny rules for /proc, /sys and mounts into".to_owned(),
            "it. So it is another profile than khard's: what is executed can be read too, and writing, appending, locking and linking are one.".to_owned(),
        ];
        if self.n_of_owners > 0 {
            head.push(format!(
                "Rules for a file's owner alone, which are for everybody here: {}.",
                self.n_of_owners
            ));
        }
        let mut list = |title: &str, rules: &[String]| {
            if !rules.is_empty() {
                head.push(String::new());
                head.push(title.to_owned());
                head.extend(rules.iter().map(|rule| format!("- {rule}")));
            }
        };
        list(
            "What these lists cannot say, so that it is not allowed, but for what abstractions/base allows:",
            &self.missing,
        );
        list(
            "More than khard's profile allows, since the operator refuses to write what is only read, and to read what is only written:",
            &self.widened,
        );
        list("What the operator's own deny rules may refuse:", &self.denied);
        yaml::document(&head, &self.resource())
    }

    fn resource(&self) -> Value {
        let lists = |names: &[&'static str]| {
            let mut object = json!({});
            for name in names {
                if let Some(paths) = self.paths.get(name) {
                    object[*name] = json!(paths);
                }
            }
            object
        };
        let mut network = json!({});
        if self.raw {
            network["allowRaw"] = json!(true);
        }
        for (is_allowed, key) in [(self.tcp, "allowTcp"), (self.udp, "allowUdp")] {
            if is_allowed {
                network["allowedProtocols"][key] = json!(true);
            }
        }
        let mut capability = json!({});
        if !self.capabilities.is_empty() {
            capability["allowedCapabilities"] = json!(self.capabilities);
        }
        let mut lists_of = json!({});
        for (key, part) in [
            ("executable", lists(&[EXECUTABLES, LIBRARIES])),
            ("filesystem", lists(&[READ_ONLY, WRITE_ONLY, READ_WRITE])),
            ("network", network),
            ("capability", capability),
        ] {
            if part != json!({}) {
                lists_of[key] = part;
            }
        }
        let mut spec = json!({"abstract": lists_of});
        if self.mode == Mode::Complain {
            spec["mode"] = json!("Complain");
        }
        json!({
            "apiVersion": "security-profiles-operator.x-k8s.io/v1",
            "kind": "AppArmorProfile",
            "metadata": {"name": self.name},
            "spec": spec,
        })
    }
}

/// A path as the API takes it, by the pattern of its items. A blank is left out of that: older operators do not quote it.
fn sayable(path: &Pattern) -> Option<&str> {
    let text = std::str::from_utf8(path.source()).ok()?;
    let mut rest = text.strip_prefix('/')?;
    while let Some(c) = rest.chars().next() {
        let variable = rest.strip_prefix("@{").and_then(|rest| rest.split_once('}'));
        let is_word =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        rest = match variable {
            Some((name, after)) if is_word(name) => after,
            None if c.is_ascii_alphanumeric() || "_./*?+@-".contains(c) => &rest[1..],
            _ => return None,
        };
    }
    Some(text)
}

/// Whether deny rules that the operator puts into every profile may be about writing this.
fn is_denied(path: &str) -> bool {
    ["/sys/", "/proc/sys/"].iter().any(|dir| path.starts_with(dir))
        || path.strip_prefix("/proc/").is_some_and(|rest| !rest.contains('/'))
}

/// Whether something may be matched by both.
fn may_overlap(one: &Pattern, other: &Pattern) -> bool {
    match (one.is_literal(), other.is_literal()) {
        (true, _) => other.matches(one.source()),
        (_, true) => one.matches(other.source()),
        _ => match (one.prefix(), other.prefix()) {
            (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
            _ => true,
        },
    }
}

/// Whether abstractions/base (`AppArmor` 3.0) has it: signals from unconfined processes, and among its own.
fn is_in_base_signal(signal: &SignalRule, profile: &ParsedProfile) -> bool {
    signal.peer.as_ref().is_some_and(|peer| {
        (peer.is_just(b"unconfined") && !signal.ways.does)
            || peer.source() == b"@{profile_name}"
            || peer.is_just(profile.name.as_slice())
    })
}

/// The same: it lets others read and trace.
fn is_in_base_ptrace(ptrace: &PtraceRule) -> bool {
    !ptrace.perms.read.does && !ptrace.perms.trace.does
}
