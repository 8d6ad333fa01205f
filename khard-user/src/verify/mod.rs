//! What profiles would refuse of what is being recorded, or did refuse where they are in force. Owns the comparison while a recording
//! goes on. It must not know where the recording comes from, nor how a profile is changed.
//!
//! In complain or log mode, or without any profile in force, what is recorded and not allowed would be refused. Under an enforced
//! AppArmor profile, what the kernel refused and the profile does not allow was refused by it; so was a system call that a filter in
//! force refused, and the profile does too.

mod amend;
mod audit;
mod profiles;
mod whose;

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use khard_profile::{
    check::{self, Asked, Question, Refused},
    escape,
    recording::{AppArmorInForce, Coverage, Ended, NotObserved, Recording, Run, UnknownRun},
};
use serde_json::{Value, json};

pub use self::{
    amend::{AmendError, Amendment},
    audit::{Answered, Denial, Logged},
    profiles::{ProfileSet, Profiles, ProfilesError},
};
use self::{
    audit::{AuditLog, Caller, Wanted},
    whose::Whose,
};
use crate::{
    confinement,
    stream::SubjectId,
    subjects::{Observed, Subjects},
};

/// Between two comparisons; with much to compare, longer: a comparison takes a fifth of the time at most.
const LOOK: Duration = Duration::from_secs(1);
const SHARE: u32 = 5;

/// When something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// It was done, and the profile does not allow it.
    WouldBe,
    /// The profile was in force, and it was not done.
    Was,
}

impl When {
    /// For people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WouldBe => "would be refused",
            Self::Was => "was refused",
        }
    }
}

/// Something that a profile refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whose it is, such as `web/nginx`.
    pub label: String,
    /// Whether it happened.
    pub when: When,
    /// What.
    pub refused: Refused,
}

/// A comparison under way.
#[derive(Debug)]
pub struct Verification {
    profiles: Profiles,
    question: Question,
    /// How often each subject had changed when it was compared.
    compared: BTreeMap<SubjectId, u64>,
    known: BTreeSet<(SubjectId, When, Asked)>,
    findings: Vec<Finding>,
    log: Log,
    next_look: Instant,
    verified: Verified,
}

/// The second witness.
#[derive(Debug, Default)]
struct Log {
    /// `Err`: why there is none, where one was to be had.
    source: Option<Result<AuditLog, String>>,
    heard: BTreeSet<Logged>,
}

/// How it ended.
#[derive(Debug, Default)]
pub struct Verified {
    /// What is refused, in the order of its coming.
    pub findings: Vec<Finding>,
    /// What only the kernel's log tells of: khard has not seen it.
    pub logged: Vec<Logged>,
    /// How many refusals the log and khard tell of alike.
    pub n_confirmed: usize,
    /// Why the log was no witness, or not of everything, in words.
    pub log_caveat: Option<String>,
    /// What the answer does not cover, in words, by label.
    pub caveats: BTreeSet<(String, String)>,
    /// Why somebody could not be compared.
    pub failures: Vec<ProfilesError>,
    /// The classes of coverage in which something may be lost, by label.
    pub lossy: BTreeSet<(String, &'static str)>,
    /// What was recorded.
    pub recorded: Vec<Recorded>,
}

/// What was recorded of one subject, and held against profiles.
#[derive(Debug)]
pub struct Recorded {
    /// The folder that the profiles are in, if they were found in one.
    pub dir: Option<PathBuf>,
    /// What it did.
    pub recording: Recording,
    /// Whether something of it is refused.
    pub is_refused: bool,
    /// What a profile in force refused.
    pub was_refused: BTreeSet<Asked>,
}

impl Verification {
    /// Nothing was compared yet.
    pub fn new(profiles: Profiles, question: Question) -> Self {
        Self {
            profiles,
            question,
            compared: BTreeMap::new(),
            known: BTreeSet::new(),
            findings: Vec::new(),
            log: Log::default(),
            next_look: Instant::now(),
            verified: Verified::default(),
        }
    }

    /// Also takes the kernel's audit records in, if there are profiles to ask them about. Before privileges are dropped.
    #[must_use]
    pub fn with_audit_log(mut self) -> Self {
        let has_apparmor = !matches!(confinement::apparmor_of(None), AppArmorInForce::Off)
            && !self.profiles.apparmor_names().is_empty();
        if has_apparmor || self.profiles.have_seccomp() {
            self.log.source = Some(AuditLog::open().map_err(|error| error.to_string()));
        }
        self
    }

    /// `is_last`: what is left in the log is not heard.
    fn listen(&mut self, subjects: &Subjects, is_last: bool) {
        let Some(Ok(log)) = &mut self.log.source else { return };
        let known =
            LazyCell::new(|| Whose::new(subjects.iter().map(|(_, observed)| observed.state().into())));
        let whose = |caller: &Caller| known.is(caller);
        let wanted = Wanted { profiles: &self.profiles.apparmor_names(), whose: &whose };
        let is_all = log.take(&wanted, &mut self.log.heard);
        if is_last {
            log.is_lossy |= !is_all;
            log.finish(&wanted, &mut self.log.heard);
        }
    }

    /// Compares what has changed, if it is time. Returns what is new.
    pub fn look(&mut self, subjects: &Subjects) -> Result<&[Finding], UnknownRun> {
        let began = Instant::now();
        let before = self.findings.len();
        // Whose a record is can be asked only while its process is there.
        self.listen(subjects, false);
        if began < self.next_look {
            return Ok(&[]);
        }
        for (id, observed) in subjects.iter() {
            let n_changes = observed.n_changes();
            if self.compared.insert(id, n_changes) != Some(n_changes)
                && let Some(recording) = subjects.recording(&[id], Ended::Running)?
            {
                // Without a profile: said at the end.
                let _ = self.compare(id, observed, &recording);
            }
        }
        self.next_look = Instant::now() + LOOK.max(began.elapsed() * SHARE);
        Ok(&self.findings[before..])
    }

    /// Compares everything for the last time. Returns what is new.
    pub fn look_again(&mut self, subjects: &Subjects, why: Ended) -> Result<&[Finding], UnknownRun> {
        let before = self.findings.len();
        let mut verified = Verified::default();
        for (id, observed) in subjects.iter() {
            let Some(recording) = subjects.recording(&[id], why)? else { continue };
            let label = &observed.state().label;
            verified.lossy.extend(recording.lossy_classes().into_iter().map(|class| (label.clone(), class)));
            match self.compare(id, observed, &recording) {
                Ok((dir, caveats)) => {
                    verified.caveats.extend(caveats.into_iter().map(|caveat| (label.clone(), caveat)));
                    let of_subject = || self.known.iter().filter(|(of, ..)| *of == id);
                    let was = of_subject().filter(|(_, when, _)| *when == When::Was);
                    verified.recorded.push(Recorded {
                        dir,
                        recording,
                        is_refused: of_subject().next().is_some(),
                        was_refused: was.map(|(_, _, what)| what.clone()).collect(),
                    });
                }
                Err(error) => verified.failures.push(error),
            }
        }
        self.listen(subjects, true);
        for logged in std::mem::take(&mut self.log.heard) {
            if self.known.iter().any(|(id, _, asked)| logged.is_of(*id, asked)) {
                verified.n_confirmed += 1;
            } else if let Some(caveat) = self.by_another(&logged, subjects) {
                verified.caveats.insert(caveat);
            } else {
                verified.logged.push(logged);
            }
        }
        verified.log_caveat = match &self.log.source {
            Some(Err(why)) => Some(format!(
                "the kernel's audit records cannot be read, so that there is no second witness: {why}"
            )),
            Some(Ok(log)) if log.is_lossy => Some("some of the kernel's audit records were lost".to_owned()),
            Some(Ok(log)) if log.n_of_unknown > 0 => Some(format!(
                "the kernel's log tells of {} calls that a seccomp filter answered, by processes that had ended before khard could ask whose they were",
                log.n_of_unknown
            )),
            _ => None,
        };
        self.verified = verified;
        Ok(&self.findings[before..])
    }

    /// What came out of it.
    pub fn finish(&mut self) -> Verified {
        Verified { findings: std::mem::take(&mut self.findings), ..std::mem::take(&mut self.verified) }
    }

    /// Says of a call that a filter answered, and that the profile allows, that it was not the profile's filter; by label.
    fn by_another(&self, logged: &Logged, subjects: &Subjects) -> Option<(String, String)> {
        let Logged::Answered(id, answered) = logged else { return None };
        let state = subjects.get(*id)?.state();
        let (_, profile) = self.profiles.of(state).ok()?.seccomp.as_ref()?;
        profile.allows(answered.key, &state.run.host).then(|| {
            let what =
                format!("a filter in force is another than the profile: it answered {}", answered.in_words());
            (state.label.clone(), what)
        })
    }

    /// Finds what is refused of one subject; returns where its profiles are, and what the answer does not cover.
    fn compare(
        &mut self,
        id: SubjectId,
        observed: &Observed,
        recording: &Recording,
    ) -> Result<(Option<PathBuf>, Vec<String>), ProfilesError> {
        let state = observed.state();
        let set = self.profiles.of(state)?;
        let (mut found, mut caveats) = (Vec::new(), Vec::new());
        if let Some((_, profile)) = &set.seccomp {
            let report = check::check(profile, recording, &self.question);
            found.extend(report.refused().into_iter().map(|refused| (When::WouldBe, refused)));
            found.extend(report.refused_before().into_iter().map(|refused| (When::Was, refused)));
            let by_another = report.refused_by_another().into_iter();
            caveats.extend(
                by_another.map(|what| format!("a filter in force is another than the profile: {what}")),
            );
            caveats.extend(report.caveats);
            caveats.extend(unseen_refusals(&state.run));
        }
        if let Some((_, profile)) = &set.apparmor {
            let report = check::check_apparmor(profile, recording, &self.question);
            found.extend(report.refused().into_iter().map(|refused| (When::WouldBe, refused)));
            if is_enforced(&state.run) {
                found.extend(report.refused_before().into_iter().map(|refused| (When::Was, refused)));
            }
            caveats.extend(report.caveats);
        }
        let dir = set.dir.clone();
        for (when, refused) in found {
            if self.known.insert((id, when, refused.what.clone())) {
                self.findings.push(Finding { label: state.label.clone(), when, refused });
            }
        }
        Ok((dir, caveats))
    }
}

/// Says where calls that a filter in force refused may have been missed.
fn unseen_refusals(run: &Run) -> Option<String> {
    if !run.confinement.seccomp.is_filtered() {
        return None;
    }
    match &run.coverage.refused_syscalls {
        Coverage::None(NotObserved { reason }) => {
            Some(format!("calls that the seccomp filter in force refused were not seen: {reason}"))
        }
        coverage if coverage.is_complete() => None,
        _ => Some("calls that the seccomp filter in force refused may be missing: see the coverage of refused_syscalls".to_owned()),
    }
}

/// Whether an AppArmor profile refuses what it does not allow.
fn is_enforced(run: &Run) -> bool {
    matches!(&run.confinement.apparmor, AppArmorInForce::Named { mode, .. } if mode == "enforce" || mode == "kill")
}

impl Finding {
    /// Two lines for a terminal: what, and who.
    pub fn to_text(&self) -> String {
        format!(
            "{}: {}  {}\n         {}\n",
            escape::terminal(self.label.as_bytes()),
            self.when.as_str(),
            self.refused.in_words,
            self.refused.witness
        )
    }

    fn to_value(&self) -> Value {
        let (call, access) = match &self.refused.what {
            Asked::Call(key) => (Some(json!({ "abi": key.abi, "nr": key.nr })), None),
            Asked::Access(key) => (None, Some(key)),
        };
        json!({
            "subject": self.label,
            "when": self.when.as_str(),
            "call": call,
            "access": access,
            "why": self.refused.in_words,
            "witness": self.refused.witness,
        })
    }
}

impl Verified {
    /// Whether nothing is refused, and everybody was compared.
    pub fn passes(&self) -> bool {
        self.findings.is_empty() && self.logged.is_empty() && self.failures.is_empty()
    }

    /// For people: how much is refused, and what the answer does not cover.
    pub fn to_text(&self) -> String {
        let n_subjects = self.recorded.len();
        let subjects =
            if n_subjects == 1 { "1 subject".to_owned() } else { format!("{n_subjects} subjects") };
        let mut text = match self.findings.len() {
            // That is said by the errors.
            0 if n_subjects == 0 && !self.failures.is_empty() => String::new(),
            0 => format!("nothing is refused of what {subjects} did\n"),
            n => format!("{n} refused of what {subjects} did\n"),
        };
        for logged in &self.logged {
            let when = logged.when().as_str();
            let _ = writeln!(text, "by the kernel's log alone: {when}  {}", logged.in_words());
        }
        if self.n_confirmed > 0 {
            let _ = writeln!(text, "the kernel's log has {} of the refusals too", self.n_confirmed);
        }
        if let Some(caveat) = &self.log_caveat {
            let _ = writeln!(text, "note: {}", escape::terminal(caveat.as_bytes()));
        }
        for (label, caveat) in &self.caveats {
            let _ = writeln!(text, "note: {}: {caveat}", escape::terminal(label.as_bytes()));
        }
        text
    }

    /// For programs.
    pub fn to_value(&self) -> Value {
        json!({
            "passes": self.passes(),
            "refused": self.findings.iter().map(Finding::to_value).collect::<Vec<_>>(),
            "logged": self.logged.iter().map(Logged::to_value).collect::<Vec<_>>(),
            "confirmed": self.n_confirmed,
            "log_caveat": self.log_caveat,
            "caveats": self.caveats.iter().map(|(subject, what)| json!({ "subject": subject, "what": what })).collect::<Vec<_>>(),
            "lossy": self.lossy.iter().map(|(subject, class)| json!({ "subject": subject, "class": class })).collect::<Vec<_>>(),
        })
    }
}
