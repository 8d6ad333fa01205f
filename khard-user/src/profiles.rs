//! From a recording to profile files. Owns which files stand beside a recording; the rules are khard-profile's.

use khard_profile::{
    apparmor,
    recording::{Class, PhaseSet, Recording, Subject},
    seccomp::{
        self, Floor, FloorChoice, FloorData, FloorDataError, FloorError, GenerateError, Generated, Policy,
    },
};

use khard_profile::summary::Summary;

use crate::{
    causes::with_causes,
    output::{
        compile::{self, CompileError},
        files::{OutDir, WriteError, file_name},
    },
};

/// The choices of one generation, as a user gives them.
#[derive(Clone, Debug)]
pub struct ProfileChoices {
    /// Whose calls are allowed.
    pub phases: PhaseSet,
    /// In how many runs something must have been seen; 1: whatever was seen.
    pub min_seen: usize,
    /// The runtime's share.
    pub floor: FloorChoice,
    /// How AppArmor's rules are chosen.
    pub apparmor: apparmor::Policy,
    /// How they are written.
    pub style: apparmor::Style,
}

/// Profiles could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No rules.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// No floor.
    #[error(transparent)]
    Floor(#[from] FloorError),
    /// khard's own data.
    #[error(transparent)]
    FloorData(#[from] FloorDataError),
    /// The profile's text.
    #[error("cannot write the profile as JSON")]
    Json(#[from] serde_json::Error),
    /// AppArmor's parser does not take what khard made.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The file.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Makes the profile of a recording.
pub fn generate(recording: &Recording, choices: &ProfileChoices) -> Result<Generated, ProfileError> {
    let with_exec = choices.phases.contains(khard_profile::recording::Phase::Joiner);
    let floor = Floor::choose(&choices.floor, recording, with_exec, &FloorData::embedded()?)?;
    Ok(seccomp::generate(recording, Policy { phases: choices.phases, floor })?)
}

/// Name of the seccomp profile beside a recording.
pub const SECCOMP_FILE: &str = "seccomp.json";
/// Name of the summary beside a recording.
pub const SUMMARY_FILE: &str = "summary.md";

/// Name of the AppArmor profile beside a recording: `NAME.apparmor`, by the container, or the last component of the
/// command or cgroup.
pub fn apparmor_file(subject: &Subject) -> String {
    let name = match subject {
        Subject::Command { program: path } | Subject::Cgroup { path } => path.to_string_lossy().into_owned(),
        Subject::Docker { name: container, .. } | Subject::Container { container, .. } => container.clone(),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    format!("{}.apparmor", file_name(last))
}

/// The texts of both profiles, as [`write`] would write them, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileTexts {
    /// OCI JSON.
    pub seccomp: Result<String, String>,
    /// AppArmor.
    pub apparmor: Result<String, String>,
}

/// Makes the texts of a recording's profiles and writes nothing.
pub fn texts(recording: &Recording, choices: &ProfileChoices) -> ProfileTexts {
    let seccomp = generate(recording, choices).and_then(|generated| Ok(generated.profile.to_json()?));
    ProfileTexts {
        seccomp: match seccomp {
            Ok(json) => Ok(String::from_utf8_lossy(&json).into_owned()),
            Err(error) => Err(with_causes(&error)),
        },
        apparmor: generate_apparmor(recording, choices).map(|generated| generated.to_text(choices.style)),
    }
}

/// What was made of a recording.
#[derive(Debug)]
pub struct Written {
    /// Everything there is to say of it.
    pub summary: Summary,
    /// Why there is no seccomp profile, if there is none: a command may have failed before its first call.
    pub no_profile: Option<ProfileError>,
}

/// Writes the profiles and the summary of a recording. Without a profile, the summary says why, and a profile of an
/// earlier recording is removed: it would pass for this one's.
pub fn write(recording: &Recording, choices: &ProfileChoices, dir: &OutDir) -> Result<Written, ProfileError> {
    // What is said of the recording is said of all of it.
    let all = recording;
    let (without_rare, rare) = match choices.min_seen {
        0 | 1 => (None, None),
        min_runs => {
            let (kept, rare) = all.clone().without_rare(min_runs, choices.phases);
            (Some(kept), Some(rare))
        }
    };
    let recording = without_rare.as_ref().unwrap_or(all);
    let (mut summary, json, no_profile) = match generate(recording, choices) {
        Ok(generated) => {
            let json = generated.profile.to_json()?;
            (Summary::new(all, Ok(&generated)), Some(json), None)
        }
        Err(error) => (Summary::new(all, Err(&error.to_string())), None, Some(error)),
    };
    if let Some(rare) = &rare {
        summary = summary.with_left_out(choices.min_seen, rare);
    }
    match &json {
        Some(json) => drop(dir.write(SECCOMP_FILE, json)?),
        None => dir.remove(SECCOMP_FILE),
    }
    let file = apparmor_file(recording.subject());
    match generate_apparmor(recording, choices) {
        Ok(generated) => {
            let text = generated.to_text(choices.style);
            let compiled = compile::apparmor(&text)?;
            dir.write(&file, text.as_bytes())?;
            summary = summary.with_apparmor(&file, Ok(&generated));
            if let Some(compiled) = compiled {
                let took_ms = u64::try_from(compiled.took.as_millis()).unwrap_or(u64::MAX);
                summary = summary.with_compiled(took_ms, compiled.n_bytes);
            }
        }
        Err(why) => {
            dir.remove(&file);
            summary = summary.with_apparmor(&file, Err(&why));
        }
    }
    dir.write(SUMMARY_FILE, summary.to_markdown(json.as_deref()).as_bytes())?;
    Ok(Written { summary, no_profile })
}

/// Makes the AppArmor profile of a recording, or says why there is none.
fn generate_apparmor(recording: &Recording, choices: &ProfileChoices) -> Result<apparmor::Generated, String> {
    let was_observed =
        recording.runs().values().any(|run| run.coverage.accesses.of(Class::Files).observed().is_some());
    if !was_observed {
        return Err("files were not observed, by choice (--attach none) or since this kernel has no means for it (`khard doctor`)".to_owned());
    }
    apparmor::generate(recording, &choices.apparmor).map_err(|error| error.to_string())
}
