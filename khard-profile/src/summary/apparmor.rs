//! Owns what there is to say of an AppArmor profile: numbers, what is open that a reader should know, and what the profile
//! says more or less than what was seen. Knows no page.

use std::collections::BTreeMap;

use serde::Serialize;

use super::opens::{self, Grant};
use crate::apparmor::{FoldReason, Generated, Piece, Rule, What, words};
use crate::check::apparmor::access_in_words;
use crate::recording::{AccessKey, PtraceMode, Witness};

/// The AppArmor profile in numbers and rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AppArmorSummary {
    /// What it is called.
    pub name: String,
    /// The file's name.
    pub file: String,
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
    pub(super) fn new(file: &str, generated: &Generated) -> Self {
        let allowing = || generated.rules.iter().filter(|rule| !rule.deny);
        let mut n_rules = BTreeMap::new();
        allowing().for_each(|rule| *n_rules.entry(rule.what.group()).or_default() += 1);
        let texts = |holds: fn(&Rule) -> bool| {
            generated.rules.iter().filter(|rule| holds(rule)).map(Rule::to_text).collect()
        };
        let named = |(key, why): (&AccessKey, &str)| format!("{}: {why}", access_in_words(key));
        Self {
            file: file.to_owned(),
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

fn risk(what: &What) -> Option<&'static str> {
    let grant = match what {
        What::Capability(number) => Grant::Capability(*number),
        What::Network { family, kind } => Grant::Network { family: Some(*family), kind: Some(*kind) },
        What::Ptrace { modes, .. } => Grant::Ptrace { traces: modes.contains(&PtraceMode::Trace) },
        What::Mount(mount) => Grant::Mount { any_flags: mount.options.is_empty() },
        What::Umount { .. } => Grant::Umount,
        What::PivotRoot { .. } => Grant::PivotRoot,
        What::UserNamespace => Grant::UserNamespace,
        What::IoUring(_) => Grant::IoUring,
        What::File { path, perms, .. } => {
            let Some(Piece::Literal(prefix)) = path.pieces().first() else { return None };
            let text = path.to_text();
            let text = text.strip_suffix('"').unwrap_or(&text);
            return opens::risk(Grant::File {
                prefix: prefix.as_slice(),
                path: text.as_bytes(),
                perms: *perms,
            });
        }
        What::Signal { .. } | What::Link { .. } => return None,
    };
    opens::risk(grant)
}
