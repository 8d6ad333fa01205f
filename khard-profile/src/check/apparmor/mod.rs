//! Owns the question whether an AppArmor profile, by whomever it was made, would have refused anything in a recording.

mod evaluate;
mod render;
mod words;

use crate::Bytes;
use crate::apparmor_text::ParsedProfile;
use crate::recording::{Access, AccessKey, Certainty, Outcome, PhaseSet, Recording, Witness};

use super::Question;
pub(crate) use evaluate::decides;
pub use evaluate::verdict;
pub(crate) use words::{access as access_in_words, unescaped as access_unescaped};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The profile's name.
    pub profile: Bytes,
    /// Its rules: where each begins, and its text. Verdicts name them by their place here.
    pub rules: Vec<(usize, Bytes)>,
    /// What was granted in the asked phases: the profile must grant it too.
    pub accesses: Vec<CheckedAccess>,
    /// What was refused while recording, and capabilities that were only tested for: no failure when the profile refuses it.
    pub aside: Vec<CheckedAccess>,
    /// What the answer does not cover, in words.
    pub caveats: Vec<String>,
}

/// One access and what the profile does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedAccess {
    /// The access.
    pub key: AccessKey,
    /// In which of the checked phases it was seen.
    pub phases: PhaseSet,
    /// What happens to it.
    pub verdict: Verdict,
    /// Who did it first in these phases.
    pub witness: Option<Witness>,
}

/// What a profile does to an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Granted by these rules together, by their places in the profile.
    Allowed(Vec<usize>),
    /// Granted without a rule: AppArmor does not ask, and why.
    NotMediated(String),
    /// Refused.
    Refused(Refusal),
    /// It depends on what is not known here, in words.
    CannotJudge(String),
}

/// Why something is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No rule grants it.
    NoRule {
        /// What is not granted: letters of permissions, or words.
        missing: String,
    },
    /// A rule denies it, by its place in the profile.
    DenyRule(usize),
    /// The profile lacks a flag.
    Flag(&'static str),
    /// A link would give more permissions than its file has.
    Subset,
}

impl Report {
    /// True if nothing that was granted is refused for certain.
    pub fn passes(&self) -> bool {
        !self.accesses.iter().any(|access| matches!(access.verdict, Verdict::Refused(_)))
    }

    /// True if something that was granted cannot be judged.
    pub fn is_unclear(&self) -> bool {
        self.accesses.iter().any(|access| matches!(access.verdict, Verdict::CannotJudge(_)))
    }
}

/// Checks an AppArmor profile against what was recorded, as if it were enforced.
pub fn check_apparmor(profile: &ParsedProfile, recording: &Recording, question: &Question) -> Report {
    let (mut accesses, mut aside) = (Vec::new(), Vec::new());
    for (key, seen) in recording.accesses() {
        let phases = seen.phases().and(question.phases);
        if phases.is_empty() {
            continue;
        }
        let checked = CheckedAccess {
            key: key.clone(),
            phases,
            verdict: verdict(profile, key),
            witness: seen.witness(phases).cloned(),
        };
        let optional = matches!(key.what, Access::Capability { optional: true, .. });
        if optional || key.outcome == Outcome::Refused { &mut aside } else { &mut accesses }.push(checked);
    }
    let caveats = caveats(profile, recording, &accesses);
    let rules = profile.rules.iter().map(|rule| (rule.line, rule.text.clone())).collect();
    Report { profile: profile.name.clone(), rules, accesses, aside, caveats }
}

fn caveats(profile: &ParsedProfile, recording: &Recording, accesses: &[CheckedAccess]) -> Vec<String> {
    let mut caveats: Vec<String> = coverage_caveats(recording);
    for part in &profile.unjudged {
        caveats.push(match part.line {
            0 => part.what.clone().into_owned(),
            line => format!("line {line}: {}", part.what),
        });
    }
    if let Some(mode) = &profile.flags.lenient {
        caveats.push(match mode.as_str() {
            "complain" => "the profile is in complain mode, which refuses by deny rules only: checked as if it were enforced".to_owned(),
            mode => format!("the profile has the flag {mode}: nothing but its deny rules refuses"),
        });
    }
    if profile.abi.is_none() {
        caveats.push(
            "the profile has no abi line: which classes are mediated depends on the parser's configuration"
                .to_owned(),
        );
    }
    if accesses.iter().any(|access| access.key.certainty == Certainty::Inferred) {
        caveats.push("some accesses are known from system calls' arguments only: links in their paths are not resolved".to_owned());
    }
    caveats
}

fn coverage_caveats(recording: &Recording) -> Vec<String> {
    let runs = || recording.runs().values();
    let mut caveats = Vec::new();
    let (mut unseen, mut incomplete) = (Vec::new(), Vec::new());
    for class in crate::recording::Class::ALL {
        let of = || runs().map(|run| run.coverage.accesses.of(*class));
        if of().any(|coverage| coverage.observed().is_none()) {
            unseen.push(class.as_str());
        } else if !of().all(crate::recording::Coverage::is_proved_whole) {
            incomplete.push(class.as_str());
        }
    }
    if !unseen.is_empty() {
        caveats
            .push(format!("not observed in every run, so not or only partly checked: {}", unseen.join(", ")));
    }
    if !incomplete.is_empty() {
        caveats.push(format!("not proved complete from the first instruction: {}", incomplete.join(", ")));
    }
    let confined =
        runs().any(|run| matches!(run.confinement.apparmor, crate::recording::AppArmorInForce::Named { .. }));
    if confined {
        caveats.push(
            "recorded under an AppArmor profile: what it refused may be missing in the recording".to_owned(),
        );
    }
    caveats.push("signals and traces from outside are not recorded and not checked".to_owned());
    caveats
}
