//! Owns what there is to say of an AppArmor profile: numbers, what is open that a reader should know, and what the profile
//! says more or less than what was seen. Knows no page.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::apparmor::{FoldReason, Generated, Piece, Rule, What, words};
use crate::check::apparmor::access_in_words;
use crate::recording::{AccessKey, FilePerms, PtraceMode, Witness};

/// The AppArmor profile in numbers and rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppArmorSummary {
    /// What it is called.
    pub name: String,
    /// Its ABI.
    pub abi: &'static str,
    /// Its flags.
    pub flags: Vec<&'static str>,
    /// What a reader must know before trusting it, in words. Names in it are escaped for a terminal.
    pub warnings: Vec<String>,
    /// How many rules allow something, by what they are about.
    pub n_rules: BTreeMap<&'static str, usize>,
    /// How many rules are the floor: there although nobody was seen to need them.
    pub n_floor: usize,
    /// How many states the rules for files make; the parser can make 65,535.
    pub n_states: usize,
    /// What the parser made of it, where there is one.
    pub compiled: Option<Compiled>,
    /// What is open that a reader should know.
    pub open: Vec<RiskyRule>,
    /// Rules for names that will be others next time.
    pub generalised: Vec<GeneralisedRule>,
    /// Rules that say more than what was seen.
    pub folded: Vec<FoldedRule>,
    /// Rules for what was only attempted, and refused.
    pub attempt_only: Vec<String>,
    /// Rules that deny, quietly.
    pub denied: Vec<String>,
    /// What was seen and stands in no rule, since none can say it: `what: why`. Names in it are escaped for a terminal.
    pub not_expressible: Vec<String>,
    /// What was refused and is not granted: `what: why`. Names in it are escaped for a terminal.
    pub not_granted: Vec<String>,
    /// Capabilities that were only tested for, and are not granted.
    pub optional_capabilities: Vec<&'static str>,
}

/// A compiled profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Compiled {
    /// How long the parser took.
    pub took_ms: u64,
    /// What the kernel is given.
    pub n_bytes: usize,
}

/// A rule of which a reader should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RiskyRule {
    /// The rule.
    pub rule: String,
    /// Why, in a line.
    pub risk: &'static str,
    /// Who needed it first.
    pub witness: Option<Witness>,
}

/// A rule with a generalised path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GeneralisedRule {
    /// The rule.
    pub rule: String,
    /// How many accesses it was made from.
    pub n_recorded: usize,
}

/// A rule that files were folded into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoldedRule {
    /// The rule.
    pub rule: String,
    /// How many accesses it was made from.
    pub n_recorded: usize,
    /// Why.
    pub reason: FoldReason,
}

impl AppArmorSummary {
    pub(super) fn new(generated: &Generated) -> Self {
        let allowing = || generated.rules.iter().filter(|rule| !rule.deny);
        let mut n_rules = BTreeMap::new();
        allowing().for_each(|rule| *n_rules.entry(rule.what.group()).or_default() += 1);
        let texts = |holds: fn(&Rule) -> bool| {
            generated.rules.iter().filter(|rule| holds(rule)).map(Rule::to_text).collect()
        };
        let named = |(key, why): (&AccessKey, &str)| format!("{}: {why}", access_in_words(key));
        Self {
            name: generated.name.clone(),
            abi: generated.abi.as_str(),
            flags: generated.flags.names().collect(),
            warnings: generated.warnings.clone(),
            n_rules,
            n_floor: allowing().filter(|rule| rule.floor.is_some()).count(),
            n_states: generated.n_states,
            compiled: None,
            open: allowing()
                .filter_map(|rule| {
                    let (text, witness) = (rule.to_text(), rule.witness.clone());
                    Some(RiskyRule { rule: text, risk: risk(&rule.what)?, witness })
                })
                .collect(),
            generalised: allowing()
                .filter(|rule| rule.what.is_generalised() && rule.folded.is_none())
                .map(|rule| GeneralisedRule { rule: rule.to_text(), n_recorded: rule.originals.len() })
                .collect(),
            folded: allowing()
                .filter_map(|rule| {
                    let (text, n_recorded) = (rule.to_text(), rule.originals.len());
                    Some(FoldedRule { rule: text, n_recorded, reason: rule.folded? })
                })
                .collect(),
            attempt_only: texts(|rule| !rule.deny && rule.is_attempt_only()),
            denied: texts(|rule| rule.deny),
            not_expressible: generated.not_expressible.iter().map(|(key, why)| named((key, why))).collect(),
            not_granted: generated.not_granted.iter().map(|(key, why)| named((key, why))).collect(),
            optional_capabilities: generated
                .optional_capabilities
                .iter()
                .filter_map(|number| words::capability(*number))
                .collect(),
        }
    }
}

/// Capabilities that reach beyond the container's own files and processes. An opinion, kept in one place.
const CAPABILITIES: [(&str, &str); 20] = [
    ("sys_admin", "mounts, namespaces and much of the kernel's administration"),
    ("sys_module", "loads kernel modules"),
    ("sys_rawio", "reaches hardware ports and memory"),
    ("sys_ptrace", "controls other processes"),
    ("sys_boot", "stops the machine, or starts another kernel"),
    ("sys_time", "sets the machine's clock"),
    ("sys_chroot", "changes the root; an old way out of one"),
    ("bpf", "loads programs into the kernel"),
    ("perfmon", "watches the whole machine"),
    ("net_admin", "changes interfaces, routes and packet filters"),
    ("net_raw", "forges packets"),
    ("dac_override", "passes by file modes"),
    ("dac_read_search", "reads files without regard to modes, and opens them past the container's mounts"),
    ("mknod", "makes device nodes"),
    ("setfcap", "gives files capabilities"),
    ("mac_admin", "changes AppArmor's own profiles"),
    ("mac_override", "passes by mandatory access control"),
    ("syslog", "reads the kernel's log, and with it addresses"),
    ("linux_immutable", "changes files that are marked as immutable"),
    ("checkpoint_restore", "sets process ids, and reads memory of other processes"),
];

/// Where writing reaches beyond a program's own data. The first that fits.
const WRITTEN: [(&str, &str); 9] = [
    ("/proc/sys/", "changes settings of the kernel"),
    ("/proc/", "changes the kernel's state"),
    ("/sys/fs/cgroup/", "changes control groups, its own limits among them"),
    ("/sys/", "changes devices and settings of the kernel"),
    ("/etc/", "changes the configuration of what runs in the container"),
    ("/boot/", "changes what the machine starts"),
    ("/lib/modules/", "changes what the kernel loads"),
    ("/run/containerd/", "may reach the runtime's socket, which is as good as root on the node"),
    ("/root/.ssh/", "changes who may log in"),
];

/// Paths of which even reading or connecting matters, by their end.
const SECRET: [(&str, &str); 5] = [
    ("/docker.sock", "reaches the runtime's socket, which is as good as root on the node"),
    ("/containerd.sock", "reaches the runtime's socket, which is as good as root on the node"),
    ("/crio.sock", "reaches the runtime's socket, which is as good as root on the node"),
    ("/shadow", "reads hashes of passwords"),
    ("/token", "may read a service account's token, with which the API server can be asked"),
];

fn risk(what: &What) -> Option<&'static str> {
    let named = |list: &'static [(&str, &str)], name: &str| {
        list.iter().find(|(known, _)| *known == name).map(|(_, risk)| *risk)
    };
    match what {
        What::Capability(number) => named(&CAPABILITIES, words::capability(*number)?),
        What::Network { family, kind } => match (words::family(*family)?, words::kind(*kind)?) {
            ("packet", _) => Some("reads and forges packets of the whole network namespace"),
            ("alg", _) => Some("the kernel's cryptography; past holes"),
            ("vsock", _) => Some("reaches the hypervisor and other guests"),
            ("inet" | "inet6", "raw") => Some("forges packets"),
            _ => None,
        },
        What::Ptrace { modes, .. } => {
            modes.contains(&PtraceMode::Trace).then_some("controls other processes")
        }
        What::Mount(mount) if mount.options.is_empty() => Some("mounts with any flags"),
        What::Mount(_) => Some("mounts file systems"),
        What::Umount { .. } => Some("uncovers what a mount hides"),
        What::PivotRoot { .. } => Some("changes the root of the mount tree"),
        What::UserNamespace => Some("makes user namespaces, which open much of the kernel"),
        What::IoUring(_) => Some("a second way to do calls, which no seccomp filter sees"),
        What::File { path, perms, .. } => {
            let Some(Piece::Literal(prefix)) = path.pieces().first() else { return None };
            let starts = |start: &str| prefix.as_slice().starts_with(start.as_bytes());
            let written = || WRITTEN.iter().find(|(start, _)| starts(start)).map(|(_, risk)| *risk);
            let ends = |end: &str| path.to_text().strip_suffix('"').is_some_and(|text| text.ends_with(end));
            let secret = SECRET.iter().find(|(end, _)| ends(end)).map(|(_, risk)| *risk);
            let both = perms.contains(FilePerms::WRITE.or(FilePerms::EXEC));
            secret
                .or_else(|| perms.contains(FilePerms::WRITE).then(written).flatten())
                .or_else(|| both.then_some("can be changed, and then be executed"))
        }
        What::Signal { .. } | What::Link { .. } => None,
    }
}
