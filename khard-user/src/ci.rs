//! What a test run needs beyond the profiles that a project has committed. Owns the comparison of what was just written with those,
//! and what is told of it. It must not know how anything is recorded.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use khard_profile::{diff::Diff, escape, recording::MergePolicy};
use serde_json::{Value, json};

use crate::{
    input::{self, InputError},
    output::RECORDING_FILE,
    profiles::ProfileChoices,
    redact::Redact,
    trace::Report,
    verify::{AmendError, Amendment},
};

/// A run could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CiError {
    /// What was recorded.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Where they should be.
    #[error("the baseline {} is no folder: name the one of the committed profiles", path.display())]
    NoFolder {
        /// What was named.
        path: PathBuf,
    },
    /// What is written would be compared with itself.
    #[error(
        "the output folder {} and the baseline {} are one, or one is in the other: what is written would be taken for what is committed; choose another folder with -o",
        out_dir.display(), baseline.display()
    )]
    SameFolder {
        /// Where the profiles with the run go.
        out_dir: PathBuf,
        /// What is committed.
        baseline: PathBuf,
    },
    /// The committed profiles of a subject.
    #[error("cannot compare {} with the committed profiles", escape::terminal(subject.as_bytes()))]
    Compare {
        /// Its folder, relative.
        subject: String,
        /// Why.
        #[source]
        source: AmendError,
    },
}

const INCOMPLETE: &str = "what follows is of an incomplete run";

/// How a run compares with what is committed.
#[derive(Debug, Default)]
pub struct Compared {
    /// Where the profiles with this run are.
    out_dir: String,
    /// Of each subject with committed profiles, what these would be with this run, in the order of its folder.
    known: Vec<Known>,
    /// Subjects without committed profiles.
    new: Vec<String>,
    /// Subjects with committed profiles, but without the recording that they were made from.
    unrecorded: Vec<String>,
    /// Subjects with a committed recording alone.
    unprofiled: Vec<String>,
    /// Subjects with committed profiles that did not run.
    absent: Vec<String>,
    /// Why the run is not a whole one, if it is not.
    failure: Option<String>,
}

/// A subject with committed profiles.
#[derive(Debug)]
struct Known {
    subject: String,
    /// What is different, by the kind of profile.
    differences: Vec<(&'static str, Diff)>,
    /// The kinds of profile that this run has and nobody has committed.
    not_committed: Vec<&'static str>,
    /// The committed kinds of profile that cannot be made with this run.
    not_made: Vec<&'static str>,
}

impl Known {
    fn has_more(&self) -> bool {
        !self.not_made.is_empty() || self.differences.iter().any(|(_, difference)| difference.has_more())
    }

    fn has_any(&self) -> bool {
        !self.not_made.is_empty() || self.differences.iter().any(|(_, difference)| !difference.is_empty())
    }
}

/// Makes sure that a baseline is a folder, or that there is nothing yet, and that what is written goes elsewhere.
///
/// # Errors
/// When it is something else, or one of the two is in the other.
pub fn check_baseline(baseline: &Path, out_dir: &Path) -> Result<(), CiError> {
    if baseline.exists() && !baseline.is_dir() {
        return Err(CiError::NoFolder { path: baseline.to_owned() });
    }
    let (committed, written) = (resolved(baseline), resolved(out_dir));
    if committed.starts_with(&written) || written.starts_with(&committed) {
        return Err(CiError::SameFolder { out_dir: out_dir.to_owned(), baseline: baseline.to_owned() });
    }
    Ok(())
}

/// A path without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| Some((fs::canonicalize(above).ok()?, above)));
    there.and_then(|(real, above)| Some(real.join(path.strip_prefix(above).ok()?))).unwrap_or(path)
}

/// Compares each recorded subject with the folder of the same name below `baseline`, and brings what was written for it up to date: its
/// recording and profiles are then those of all runs, the committed ones included. `forget_after`: without what so many of the last
/// runs did not need.
///
/// A run with a `failure` is told of and nothing else, for it says neither what is needed nor what is not: what is committed stays as it
/// is, and no later run takes it for one that did not need something.
///
/// # Errors
/// When something that is committed cannot be read, or does not fit.
pub fn compare(
    out_dir: &Path,
    baseline: &Path,
    reports: &[Report],
    choices: &ProfileChoices,
    forget_after: Option<NonZeroUsize>,
    failure: Option<String>,
) -> Result<Compared, CiError> {
    let relative = |dir: &Path, root: &Path| dir.strip_prefix(root).unwrap_or(dir).display().to_string();
    let out_dir_shown = out_dir.display().to_string();
    let mut compared = Compared { out_dir: out_dir_shown, failure, ..Compared::default() };
    let mut seen = BTreeSet::new();
    // Images are built anew by each run, so that theirs are never the same.
    let policy = MergePolicy { mixed_images: true, ..MergePolicy::default() };
    for report in reports {
        let subject = relative(&report.dir, out_dir);
        seen.insert(subject.clone());
        let committed = baseline.join(&subject);
        if !committed.join(RECORDING_FILE).exists() {
            let has_profiles = input::profiles_in(&committed).is_ok();
            if has_profiles {
                compared.unrecorded.push(subject);
            } else {
                compared.new.push(subject);
            }
            continue;
        }
        let (_, recording) = input::recording(&report.dir)?;
        let failed = |source| CiError::Compare { subject: subject.clone(), source };
        let with = |recordings, forget_after| {
            Amendment::new(&committed, recordings, policy, choices, forget_after).map_err(failed)
        };
        let is_whole = compared.failure.is_none();
        let amendment = with(vec![recording], forget_after.filter(|_| is_whole))?;
        let unchanged = if is_whole { None } else { Some(with(Vec::new(), None)?) };
        unchanged.as_ref().unwrap_or(&amendment).write(&report.dir, choices).map_err(failed)?;
        let Amendment { differences, not_there: not_committed, not_made, .. } = amendment;
        if differences.is_empty() && not_made.is_empty() {
            compared.unprofiled.push(subject);
        } else {
            compared.known.push(Known { subject, differences, not_committed, not_made });
        }
    }
    if baseline.exists() {
        let committed = match input::find_recordings(&[baseline.to_owned()]) {
            Err(InputError::NoRecording { .. }) => Vec::new(),
            found => found?,
        };
        let folders = committed.iter().filter_map(|file| file.parent());
        let names: BTreeSet<String> = folders.map(|dir| relative(dir, baseline)).collect();
        compared.absent.extend(names.difference(&seen).cloned());
    }
    Ok(compared)
}

impl Compared {
    /// Whether this run needs what the committed profiles do not allow.
    pub fn has_more(&self) -> bool {
        self.not_comparable().next().is_some() || self.known.iter().any(Known::has_more)
    }

    /// Whether the profiles would be others.
    pub fn has_any(&self) -> bool {
        self.not_comparable().next().is_some() || self.known.iter().any(Known::has_any)
    }

    /// Subjects that there is nothing to compare with, and why.
    fn not_comparable(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let all = [
            (&self.new, "has no committed profiles yet"),
            (
                &self.unrecorded,
                "has committed profiles, but no recording.json beside them to compare with: commit all that khard ci leaves",
            ),
            (
                &self.unprofiled,
                "has a committed recording.json, but no profile beside it: commit all that khard ci leaves",
            ),
        ];
        all.into_iter()
            .flat_map(|(subjects, why)| subjects.iter().map(move |subject| (subject.as_str(), why)))
    }

    /// Subjects and what is to be said of kinds of their profiles that were not compared.
    fn not_compared(&self) -> impl Iterator<Item = (&str, String)> {
        self.known.iter().flat_map(|Known { subject, not_committed, not_made, .. }| {
            let absent = not_committed
                .iter()
                .map(|kind| format!("has no committed {kind} profile: it was not compared"));
            let not_made = not_made
                .iter()
                .map(|kind| format!("has a committed {kind} profile, and none can be made with this run"));
            absent.chain(not_made).map(|what| (subject.as_str(), what))
        })
    }

    /// The same without the names that somebody wants hidden. khard's own words stay.
    #[must_use]
    pub fn redacted(mut self, redact: &Redact) -> Self {
        let of_known = self.known.iter_mut().map(|known| &mut known.subject);
        let others = self
            .new
            .iter_mut()
            .chain(&mut self.unrecorded)
            .chain(&mut self.unprofiled)
            .chain(&mut self.absent);
        let names = of_known.chain(others).chain([&mut self.out_dir]);
        for name in names {
            if let Some(hidden) = redact.name(name.as_bytes()) {
                *name = hidden;
            }
        }
        for known in &mut self.known {
            let differences = std::mem::take(&mut known.differences).into_iter();
            known.differences =
                differences.map(|(kind, diff)| (kind, diff.redacted(|name| redact.name(name)))).collect();
        }
        self
    }

    fn differences(&self) -> impl Iterator<Item = (&str, &'static str, &Diff)> {
        self.known.iter().flat_map(|Known { subject, differences, .. }| {
            differences.iter().map(move |(kind, difference)| (subject.as_str(), *kind, difference))
        })
    }

    /// A page of Markdown, for the summary of a job.
    pub fn to_markdown(&self) -> String {
        let code = |text: &str| escape::markdown(text.as_bytes());
        let mut page = match &self.failure {
            None => format!("## khard: {}\n", self.verdict()),
            Some(why) => format!("## khard: {why}; {INCOMPLETE}\n\nSo far {}.\n", self.verdict()),
        };
        for (subject, why) in self.not_comparable() {
            let _ = writeln!(page, "\n**{}** {why}.", code(subject));
        }
        for (subject, what) in self.not_compared() {
            let _ = writeln!(page, "\n**{}** {what}.", code(subject));
        }
        for (subject, kind, difference) in
            self.differences().filter(|(_, _, difference)| !difference.is_empty())
        {
            let _ = write!(page, "\n**{}**, {kind} profile\n\n{}", code(subject), difference.to_markdown());
        }
        for subject in &self.absent {
            let _ = writeln!(page, "\n{} has committed profiles and did not run.", code(subject));
        }
        if self.has_any() {
            let _ = writeln!(page, "\n{}", self.what_is_in(&code(&self.out_dir)));
        }
        page
    }

    /// The same for a terminal.
    pub fn to_text(&self) -> String {
        let shown = |text: &str| escape::terminal(text.as_bytes());
        let mut text = match &self.failure {
            None => format!("khard: {}\n", self.verdict()),
            Some(why) => format!("khard: {why}; {INCOMPLETE}\n\nSo far {}\n", self.verdict()),
        };
        for (subject, why) in self.not_comparable() {
            let _ = writeln!(text, "\n{} {why}", shown(subject));
        }
        for (subject, what) in self.not_compared() {
            let _ = writeln!(text, "\n{} {what}", shown(subject));
        }
        for (subject, kind, difference) in
            self.differences().filter(|(_, _, difference)| !difference.is_empty())
        {
            let _ = write!(text, "\n{}, {kind} profile: {}", shown(subject), difference.to_text());
        }
        for subject in &self.absent {
            let _ = writeln!(text, "\n{} has committed profiles and did not run", shown(subject));
        }
        if self.has_any() {
            let _ = writeln!(text, "\n{}", self.what_is_in(&shown(&self.out_dir)));
        }
        text
    }

    /// The same for programs.
    pub fn to_value(&self) -> Value {
        let known = self.known.iter().map(|Known { subject, differences, not_committed, not_made }| {
            let differences: Vec<Value> = differences.iter().map(|(_, diff)| diff.to_value()).collect();
            json!({
                "subject": subject, "state": "compared", "differences": differences,
                "not_committed": not_committed, "not_made": not_made,
            })
        });
        let with_state = |subjects: &[String], state: &'static str| {
            let subjects = subjects.iter().map(|subject| json!({ "subject": subject, "state": state }));
            subjects.collect::<Vec<_>>()
        };
        let new = with_state(&self.new, "new");
        let others = [
            with_state(&self.unrecorded, "no_recording"),
            with_state(&self.unprofiled, "no_profile"),
            with_state(&self.absent, "absent"),
        ]
        .concat();
        json!({
            "output": self.out_dir,
            "incomplete": self.failure,
            "equal": !self.has_any(),
            "has_more": self.has_more(),
            "subjects": known.chain(new).chain(others).collect::<Vec<_>>(),
        })
    }

    fn what_is_in(&self, out_dir: &str) -> String {
        match &self.failure {
            None => format!("The profiles with this run are in {out_dir}: commit them to accept this."),
            Some(_) => {
                format!("The profiles in {out_dir} are without this run, except of subjects that had none.")
            }
        }
    }

    fn verdict(&self) -> String {
        match self.known.iter().filter(|known| known.has_more()).count() + self.not_comparable().count() {
            0 => "this run needs nothing that the committed profiles do not allow".to_owned(),
            1 => "1 subject needs more than its committed profiles allow".to_owned(),
            n => format!("{n} subjects need more than their committed profiles allow"),
        }
    }
}

/// Where the runner of a job wants a page of Markdown, if there is one: `GITHUB_STEP_SUMMARY` (GitHub's and Gitea's, Forgejo's
/// runners).
pub fn job_summary() -> Option<PathBuf> {
    std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()).map(PathBuf::from)
}
