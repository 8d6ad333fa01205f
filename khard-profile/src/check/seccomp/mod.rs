//! Owns the question whether a seccomp profile, by whomever it was made, would have refused anything in a recording.

mod errno;
mod evaluate;
mod profile;
mod render;

use std::collections::BTreeSet;

pub use errno::in_words as errno_in_words;
pub use profile::{Outcome, Profile, ProfileError};

use super::Question;
use crate::recording::{Phase, PhaseSet, Recording, Run, Seen, SyscallKey, Witness};
use crate::seccomp::Action;
use crate::syscalls;
use evaluate::Branch;
pub(crate) use evaluate::{Target, Way};
pub(crate) use profile::{Rule, keys};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The calls of the asked phases.
    pub program: Vec<CheckedCall>,
    /// The runtime's own calls under a filter; empty when the recording was made without one.
    pub runtime: Vec<CheckedCall>,
    /// The calls of the asked phases that the filter in force refused while recording, whatever this profile does to them.
    pub refused_before: Vec<RefusedBefore>,
    /// What the answer does not cover, in words.
    pub caveats: Vec<String>,
}

/// A call that was refused while recording, and what this profile does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedBefore {
    /// The call, tried in these phases by this witness.
    pub call: CheckedCall,
    /// What it was answered with.
    pub errnos: BTreeSet<u16>,
}

/// One call and what the profile does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCall {
    /// The call.
    pub key: SyscallKey,
    /// Its name, if the tables have it.
    pub name: Option<&'static str>,
    /// In which of the checked phases it was seen.
    pub phases: PhaseSet,
    /// What happens to it.
    pub verdict: Verdict,
    /// Who made it first in these phases.
    pub witness: Option<Witness>,
}

/// What a profile does to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is made, whatever its arguments are.
    Allowed,
    /// It is never made.
    Refused {
        /// What happens instead.
        outcome: Outcome,
        /// The rule (`syscalls[3]`), the default action, or the missing architecture.
        by: String,
    },
    /// It depends on what the recording does not hold. Each part is in words.
    Depends(Vec<String>),
}

impl Report {
    /// True if nothing is refused for certain.
    pub fn passes(&self) -> bool {
        !self.calls().any(|call| matches!(call.verdict, Verdict::Refused { .. }))
    }

    /// True if something depends on what the recording does not hold.
    pub fn is_unclear(&self) -> bool {
        self.calls().any(|call| matches!(call.verdict, Verdict::Depends(_)))
    }

    /// Every checked call, the runtime's last.
    pub fn calls(&self) -> impl Iterator<Item = &CheckedCall> {
        self.program.iter().chain(&self.runtime)
    }
}

/// Checks a profile against what was recorded.
pub fn check(profile: &Profile, recording: &Recording, question: &Question) -> Report {
    let filtered = PhaseSet::EMPTY.with(Phase::RuntimeFiltered).with(Phase::JoiningFiltered);
    let group = |phases: PhaseSet| {
        let calls = recording.syscalls().iter();
        let checked =
            calls.filter_map(|(&key, seen)| check_call(profile, recording, question, key, seen, phases));
        checked.collect::<Vec<_>>()
    };
    let runtime = group(filtered.without(question.phases));
    let program = group(question.phases);
    let caveats = caveats(profile, recording, &program, &runtime);
    Report { program, runtime, refused_before: refused_before(profile, recording, question), caveats }
}

fn refused_before(profile: &Profile, recording: &Recording, question: &Question) -> Vec<RefusedBefore> {
    let mut found: Vec<RefusedBefore> = Vec::new();
    for (refused, seen) in recording.refused_calls() {
        let checked = check_call(profile, recording, question, refused.key, seen, question.phases);
        let Some(call) = checked else { continue };
        // In the order of ABI and number: another answer to the same call is its neighbour.
        match found.last_mut().filter(|last| last.call.key == call.key) {
            Some(last) => {
                last.errnos.insert(refused.errno);
                last.call.phases = last.call.phases.iter().chain(call.phases.iter()).collect();
                let witnesses = [last.call.witness.take(), call.witness];
                last.call.witness = witnesses.into_iter().flatten().min();
            }
            None => found.push(RefusedBefore { call, errnos: [refused.errno].into() }),
        }
    }
    found
}

fn check_call(
    profile: &Profile,
    recording: &Recording,
    question: &Question,
    key: SyscallKey,
    seen: &Seen,
    phases: PhaseSet,
) -> Option<CheckedCall> {
    let phases = seen.phases().and(phases);
    if phases.is_empty() {
        return None;
    }
    let sightings = phases.iter().filter_map(|phase| seen.in_phase(phase));
    let runs = sightings.flat_map(|sighting| recording.runs_of(sighting));
    let verdict = verdict_of(profile, key, runs, question.caps.as_ref());
    let name = syscalls::by_number(key.abi, key.nr).map(|call| call.name);
    let witness = seen.witness(phases).cloned();
    Some(CheckedCall { key, name, phases, verdict, witness })
}

/// What happens to a call on the hosts of these runs.
pub(crate) fn verdict_of<'a>(
    profile: &Profile,
    key: SyscallKey,
    runs: impl Iterator<Item = &'a Run>,
    caps: Option<&BTreeSet<String>>,
) -> Verdict {
    let targets: BTreeSet<Target> = runs.map(|run| Target::of(&run.host)).collect();
    let branches: BTreeSet<Branch> =
        targets.iter().flat_map(|target| profile.branches(key, target, caps)).collect();
    match verdict(&branches) {
        Verdict::Refused { outcome, .. }
            if syscalls::by_number(key.abi, key.nr).is_none() && !profile.unknown_names().is_empty() =>
        {
            let names = profile.unknown_names().join(", ");
            Verdict::Depends(vec![
                format!("allowed if this number is one of the calls that khard does not know: {names}"),
                format!("otherwise {outcome}"),
            ])
        }
        verdict => verdict,
    }
}

fn verdict(branches: &BTreeSet<Branch>) -> Verdict {
    if branches.iter().all(|branch| branch.outcome.is_allowed()) {
        return Verdict::Allowed;
    }
    let refuses = |branch: &Branch| !branch.outcome.is_allowed() && branch.outcome.action != Action::Notify;
    // The default action is no rule: where all are refused, a rule says more.
    let first = branches.iter().find(|branch| !branch.when.is_empty()).or_else(|| branches.first());
    if let Some(branch) = first.filter(|_| branches.iter().all(refuses)) {
        return Verdict::Refused { outcome: branch.outcome, by: branch.by.clone() };
    }
    let in_words = |branch: &Branch| {
        let when = match branch.when.as_slice() {
            [] if branches.len() == 1 => "always".to_owned(),
            [] => "otherwise".to_owned(),
            conditions => format!("if {}", conditions.join(" and ")),
        };
        format!("{when}: {} (by {})", branch.outcome, branch.by)
    };
    let (certain, conditional): (Vec<_>, Vec<_>) = branches.iter().partition(|branch| branch.when.is_empty());
    Verdict::Depends(conditional.into_iter().chain(certain).map(in_words).collect())
}

/// What to know of a profile in Docker's form.
pub(crate) const DOCKERS_FORM: &str = "the profile has includes, excludes or archMap: checked as Docker and Podman apply it; containerd, CRI and runc drop these keys, and the rules under them then always hold";

impl Profile {
    /// True if it has keys of Docker's that the OCI's form does not have.
    pub(crate) fn has_dockers_form(&self) -> bool {
        let conditional = |rule: &profile::Rule| !rule.includes.is_empty() || !rule.excludes.is_empty();
        self.rules.iter().any(conditional) || !self.arch_map.is_empty()
    }

    /// An entry of `syscalls`, by its place: what it names, and what happens to these.
    pub(crate) fn entry(&self, place: usize) -> Option<(&BTreeSet<String>, Outcome)> {
        self.rules.get(place).map(|rule| (&rule.names, rule.outcome))
    }

    /// The places of the entries that name a call.
    pub(crate) fn entries_naming<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        let rules = self.rules.iter().enumerate();
        rules.filter(move |(_, rule)| rule.names.contains(name)).map(|(place, _)| place)
    }

    /// What happens to calls that no rule names.
    pub(crate) fn default_outcome(&self) -> Outcome {
        self.default
    }

    /// Every name in a rule.
    pub(crate) fn all_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|rule| &rule.names).map(String::as_str)
    }

    fn names(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.names.contains(name))
    }

    /// Names that are in no table here: newer calls, those of other architectures, or spelling mistakes.
    fn unknown_names(&self) -> Vec<&str> {
        let names: BTreeSet<&str> =
            self.rules.iter().flat_map(|rule| &rule.names).map(String::as_str).collect();
        names.into_iter().filter(|name| syscalls::by_name(name).is_none()).collect()
    }
}

fn caveats(
    profile: &Profile,
    recording: &Recording,
    program: &[CheckedCall],
    runtime: &[CheckedCall],
) -> Vec<String> {
    let mut caveats = Vec::new();
    let runs = || recording.runs().values();
    let incomplete = runs().filter(|run| !run.coverage.syscalls.is_complete()).count();
    if incomplete > 0 {
        caveats.push(format!(
            "{incomplete} of {} runs are not proved complete from the first instruction: calls may be missing in the recording",
            recording.runs().len()
        ));
    }
    if runs().any(|run| run.confinement.seccomp.is_filtered()) {
        caveats.push(
            "recorded under a seccomp filter: what the program would do with the calls that it refused is not known".to_owned(),
        );
    }
    if runtime.is_empty() && runs().any(|run| run.container.is_some()) {
        caveats
            .push("what the runtime itself calls under a filter was not seen and is not checked".to_owned());
    }
    if profile.has_dockers_form() {
        caveats.push(DOCKERS_FORM.to_owned());
    }
    if profile.rules.iter().any(|rule| rule.conditions.len() > 6) {
        caveats.push("crun ignores the conditions of a rule after the sixth".to_owned());
    }
    let too_new: BTreeSet<&str> = program
        .iter()
        .chain(runtime)
        .filter_map(|call| syscalls::by_number(call.key.abi, call.key.nr))
        .filter(|call| call.is_unknown_to_old_libseccomp() && profile.names(call.name))
        .map(|call| call.name)
        .collect();
    if !too_new.is_empty() {
        let names = too_new.into_iter().collect::<Vec<_>>().join(", ");
        caveats.push(format!("a runtime with libseccomp 2.5.4 or older skips the rules for {names}"));
    }
    caveats
}
