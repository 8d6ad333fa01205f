//! Owns the facts of a recording and its profile that a person wants to read, for `summary.md`, the table at the end of
//! `khard trace`, and `--json`. Knows no file and no clock.

mod apparmor;
mod markdown;
pub(crate) mod opens;
mod refused;
pub(crate) mod risky;
mod runs;
mod spans;
mod text;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub(crate) use words::access_coverage as coverage_in_words;

pub use apparmor::{AppArmorSummary, Compiled, FoldedRule, GeneralisedRule, RiskyRule};
pub use refused::RefusedInWords;
pub use runs::{ClassRuns, LeftOut, SeenInFewer};
pub use spans::Span;

use crate::recording::{Abi, Ended, Phase, Rare, Recording, Run, RunId, Subject, Witness};
use crate::seccomp::{Arch, Generated, Policy};
use crate::syscalls::{self, Since};

/// What there is to say about a recording and its profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Who was recorded.
    pub subject: Subject,
    /// The khard that wrote the recording.
    pub written_by: String,
    /// The runs, in the order of their start.
    pub runs: Vec<RunSummary>,
    /// In how many of them things were seen, by class; empty for a single run.
    pub class_runs: Vec<ClassRuns>,
    /// Calls that a seccomp filter refused while recording, in words, with the first who tried.
    pub refused_calls: Vec<RefusedInWords>,
    /// What the profiles do not grant, since too few runs have it; none if that was not asked for.
    pub left_out: Option<LeftOut>,
    /// How many different calls were seen in each phase, native and compat.
    pub seen_by_phase: BTreeMap<Phase, usize>,
    /// True if every run holds every call: exactly seen, from the first instruction, proved.
    pub complete: bool,
    /// True if something is known to be lost, or may be.
    pub lossy: bool,
    /// What a reader must know before trusting the profile, in words.
    pub warnings: Vec<String>,
    /// The seccomp profile, if there is one.
    pub seccomp: Option<SeccompSummary>,
    /// Why there is no seccomp profile, in words.
    pub no_seccomp: Option<String>,
    /// The AppArmor profile, if there is one.
    pub apparmor: Option<AppArmorSummary>,
    /// Why there is no AppArmor profile, in words, if one was tried.
    pub no_apparmor: Option<String>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunSummary {
    /// Which.
    pub id: RunId,
    /// The pod, if it is of one.
    pub pod: Option<String>,
    /// The container's own name, if it is in no pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The container's attempt in its pod, or Docker's at starting it.
    pub attempt: Option<u32>,
    /// The image and what it resolved to.
    pub image: Option<(String, String)>,
    /// Milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Milliseconds.
    pub duration_ms: u64,
    /// Why recording ended.
    pub ended: Ended,
    /// Processes that joined.
    pub joiners: u64,
    /// Kernel and machine.
    pub host: String,
    /// OCI runtime and CRI runtime, if any.
    pub runtime: Option<String>,
    /// The coverage of its system calls, in words.
    pub coverage: String,
    /// The coverage of its accesses, in words, each with the classes that it is of.
    pub accesses: BTreeMap<String, Vec<&'static str>>,
    /// What was first seen between the user's marks, if there are any.
    pub spans: Vec<Span>,
    /// The run's own notes.
    pub notes: Vec<String>,
}

/// The seccomp profile in numbers and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeccompSummary {
    /// How many calls are allowed, by name.
    pub n_allowed: usize,
    /// How many exist in the listed ABIs, by name.
    pub n_existing: usize,
    /// How many of the rest are refused with EPERM; the others, and all that are not known, with ENOSYS.
    pub n_eperm: usize,
    /// Why calls are allowed.
    pub reasons: Vec<Reason>,
    /// The ABIs from which calls are let in.
    pub architectures: Vec<Arch>,
    /// Compat ABIs: how many different calls were seen in each, and who made the first.
    pub compat: Vec<CompatSummary>,
    /// The floor, in words.
    pub floor: String,
    /// Risky calls that are closed.
    pub closed: Vec<RiskyCall>,
    /// Risky calls that are open.
    pub open: Vec<RiskyCall>,
    /// Calls that were seen and cannot be allowed, since they have no name: `NUMBER (ABI)`.
    pub unwritable: Vec<String>,
}

/// How many calls are allowed for one reason. A call can have several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A phase's name, `floor`, or `always`.
    pub reason: &'static str,
    /// All of them.
    pub n_calls: usize,
    /// Those that have no other reason.
    pub n_only: usize,
}

/// What was seen in a compat ABI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompatSummary {
    /// The ABI.
    pub abi: Abi,
    /// Different calls in it.
    pub n_calls: usize,
    /// Who made the first.
    pub witness: Option<Witness>,
}

/// A call of the curated list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RiskyCall {
    /// The call.
    pub name: &'static str,
    /// Why it is on the list, in a line.
    pub risk: &'static str,
    /// Why it is open, such as `workload, floor`; empty if it is closed.
    pub why: String,
    /// Who made it first, if it is open and was seen.
    pub witness: Option<Witness>,
}

/// Why a call is on the list of risky ones, if it is.
pub(crate) fn risk_of_call(name: &str) -> Option<&'static str> {
    risky::RISKY.iter().find(|(known, _)| *known == name).map(|(_, risk)| *risk)
}

impl Summary {
    /// Gathers the facts. `profile` is what was made of the recording, or in words why nothing could be.
    pub fn new(recording: &Recording, profile: Result<&Generated, &str>) -> Self {
        let mut runs: Vec<&Run> = recording.runs().values().collect();
        runs.sort_by_key(|run| (run.started_unix_ms, run.id));
        let seen_in =
            |phase| recording.syscalls().values().filter(|seen| seen.phases().contains(phase)).count();
        Self {
            subject: recording.subject().clone(),
            written_by: recording.written_by().to_owned(),
            class_runs: runs::class_runs(
                recording,
                profile.map_or(Policy::DEFAULT_PHASES, |generated| generated.phases),
            ),
            refused_calls: refused::of(recording),
            left_out: None,
            seen_by_phase: Phase::ALL
                .into_iter()
                .map(|phase| (phase, seen_in(phase)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            complete: runs.iter().all(|run| run.coverage.syscalls.is_complete()),
            lossy: recording.is_lossy(),
            warnings: warnings(recording, profile.ok()),
            seccomp: profile.ok().map(|generated| seccomp(recording, generated)),
            no_seccomp: profile.err().map(str::to_owned),
            apparmor: None,
            no_apparmor: None,
            runs: runs.into_iter().map(|run| run_summary(recording, run)).collect(),
        }
    }

    /// Adds what the profiles do not grant, since it was seen in fewer runs than asked for.
    #[must_use]
    pub fn with_left_out(mut self, min_seen: usize, rare: &Rare) -> Self {
        self.left_out = Some(LeftOut::new(min_seen, rare));
        self
    }

    /// Adds the facts of the AppArmor profile, which stands beside it in this file, or in words why nothing could be made.
    #[must_use]
    pub fn with_apparmor(mut self, file: &str, profile: Result<&crate::apparmor::Generated, &str>) -> Self {
        self.apparmor = profile.ok().map(|generated| AppArmorSummary::new(file, generated));
        self.no_apparmor = profile.err().map(str::to_owned);
        self
    }

    /// Adds what the parser made of the AppArmor profile: how long it took, in milliseconds, and how many bytes the kernel is
    /// given.
    #[must_use]
    pub fn with_compiled(mut self, took_ms: u64, n_bytes: usize) -> Self {
        if let Some(profile) = &mut self.apparmor {
            profile.compiled = Some(Compiled { took_ms, n_bytes });
        }
        self
    }
}

fn accesses(run: &Run) -> BTreeMap<String, Vec<&'static str>> {
    let mut classes: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for (class, coverage) in run.coverage.accesses.iter() {
        classes.entry(words::access_coverage(coverage)).or_default().push(class.as_str());
    }
    classes
}

fn run_summary(recording: &Recording, run: &Run) -> RunSummary {
    let container = run.container.as_ref();
    RunSummary {
        id: run.id,
        pod: container.map(|container| container.pod.clone()).filter(|pod| !pod.is_empty()),
        container: container.map(|container| container.name.clone()).filter(|name| !name.is_empty()),
        attempt: container.map(|container| container.attempt),
        image: container.map(|container| (container.image.clone(), container.image_id.clone())),
        started_unix_ms: run.started_unix_ms,
        duration_ms: run.duration_ms,
        ended: run.ended,
        joiners: run.joiners,
        host: format!("Linux {}, {}", run.host.kernel, run.host.machine),
        runtime: run.runtime.as_ref().map(words::runtime),
        coverage: words::coverage(&run.coverage.syscalls),
        accesses: accesses(run),
        spans: spans::of(recording, run),
        notes: run.notes.clone(),
    }
}

fn warnings(recording: &Recording, generated: Option<&Generated>) -> Vec<String> {
    let n_runs = recording.runs().len();
    let mut warnings = Vec::new();
    let mut warn = |holds: fn(&Run) -> bool, what: &str| {
        let n = recording.runs().values().filter(|run| holds(run)).count();
        if n > 0 {
            warnings.push(format!("{n} of {n_runs} runs {what}"));
        }
    };
    warn(Run::is_lossy, "lossy: calls may be missing, so the profile may refuse what the workload needs");
    warn(
        |run| run.confinement.seccomp.is_filtered(),
        "recorded under a seccomp filter: what the program does when the refused calls succeed was not seen, record without one to see it",
    );
    warn(
        |run| run.confinement.privileged == Some(true),
        "privileged: a runtime applies no seccomp profile to a privileged container",
    );
    warn(
        |run| run.ended == Ended::Checkpoint,
        "only checkpoints: khard died, and what came after its last save is missing",
    );
    warn(
        |run| run.ended == Ended::AgentLost,
        "their agent was lost: what it did not tell any more is missing",
    );
    let images: BTreeSet<&str> =
        recording.runs().values().filter_map(|run| Some(run.container.as_ref()?.image_id.as_str())).collect();
    if images.len() > 1 {
        warnings.push(format!("{} different images: the profile covers all of them together", images.len()));
    }
    let Some(generated) = generated else { return warnings };
    if !generated.unwritable.is_empty() {
        warnings.push(format!(
            "calls were seen whose number has no name ({}): they cannot be allowed, the profile is incomplete",
            generated.unwritable.len()
        ));
    }
    let unimplemented: BTreeSet<Abi> = generated.unimplemented.iter().map(|key| key.abi).collect();
    for abi in unimplemented {
        warnings.push(format!(
            "{abi} calls were tried, which this kernel does not have (they returned ENOSYS): under the profile they kill the thread"
        ));
    }
    warnings
}

fn seccomp(recording: &Recording, generated: &Generated) -> SeccompSummary {
    let native: BTreeSet<Abi> =
        recording.runs().values().filter_map(|run| Abi::native_of(&run.host.machine)).collect();
    let existing: BTreeSet<&str> = generated
        .abis
        .iter()
        .flat_map(|&abi| syscalls::of_abi(abi))
        .filter(|call| call.since != Since::Never)
        .map(|call| call.name)
        .collect();
    let compat = generated.abis.iter().filter(|abi| !native.contains(abi)).map(|&abi| {
        let of_abi = recording.syscalls().iter().filter(|(key, _)| key.abi == abi).map(|(_, seen)| seen);
        let seen: Vec<_> = of_abi.filter(|seen| !seen.phases().and(generated.phases).is_empty()).collect();
        let witness = seen.iter().filter_map(|seen| seen.witness(generated.phases)).min().cloned();
        CompatSummary { abi, n_calls: seen.len(), witness }
    });
    let (open, closed) = risky::RISKY
        .into_iter()
        .filter(|(name, _)| existing.contains(name))
        .map(|(name, risk)| risky_call(recording, generated, name, risk))
        .partition(|call| !call.why.is_empty());
    SeccompSummary {
        n_allowed: generated.allowed.len(),
        n_existing: existing.len(),
        n_eperm: generated
            .profile
            .syscalls
            .iter()
            .filter(|rule| rule.errno_ret.is_some())
            .map(|rule| rule.names.len())
            .sum(),
        reasons: reasons(generated),
        architectures: generated.profile.architectures.clone(),
        compat: compat.collect(),
        floor: generated.floor.describe(),
        closed,
        open,
        unwritable: generated.unwritable.iter().map(|key| format!("{} ({})", key.nr, key.abi)).collect(),
    }
}

/// The reasons of a call, by name.
fn reasons_of(why: &crate::seccomp::Why) -> Vec<&'static str> {
    let phases = why.phases.iter().map(Phase::as_str);
    let rest = [("floor", why.floor), ("always", why.always)];
    phases.chain(rest.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name)).collect()
}

fn reasons(generated: &Generated) -> Vec<Reason> {
    let names = generated.phases.iter().map(Phase::as_str).chain(["floor", "always"]);
    let of_calls: Vec<Vec<&str>> = generated.allowed.values().map(reasons_of).collect();
    let reason = |reason| Reason {
        reason,
        n_calls: of_calls.iter().filter(|reasons| reasons.contains(&reason)).count(),
        n_only: of_calls.iter().filter(|reasons| reasons.as_slice() == [reason]).count(),
    };
    names.map(reason).collect()
}

fn risky_call(
    recording: &Recording,
    generated: &Generated,
    name: &'static str,
    risk: &'static str,
) -> RiskyCall {
    let Some(why) = generated.allowed.get(name) else {
        return RiskyCall { name, risk, why: String::new(), witness: None };
    };
    let seen = why.seen.iter().filter_map(|key| recording.syscalls().get(key));
    let witness = seen.filter_map(|seen| seen.witness(why.phases)).min().cloned();
    RiskyCall { name, risk, why: reasons_of(why).join(", "), witness }
}
