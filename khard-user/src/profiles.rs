//! From a recording to profile files. Owns which files stand beside a recording; the rules are khard-profile's.

use khard_profile::{
    recording::{PhaseSet, Recording},
    seccomp::{
        self, Floor, FloorChoice, FloorData, FloorDataError, FloorError, GenerateError, Generated, Policy,
    },
};

use khard_profile::summary::Summary;

use crate::output::files::{OutDir, WriteError};

/// The choices of one generation, as a user gives them.
#[derive(Clone, Debug)]
pub struct ProfileChoices {
    /// Whose calls are allowed.
    pub phases: PhaseSet,
    /// The runtime's share.
    pub floor: FloorChoice,
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

/// What was made of a recording.
#[derive(Debug)]
pub struct Written {
    /// Everything there is to say of it.
    pub summary: Summary,
    /// Why there is no profile, if there is none: a command may have failed before its first call.
    pub no_profile: Option<ProfileError>,
}

/// Writes the profile and the summary of a recording. Without a profile, the summary says why, and a profile of an
/// earlier recording is removed: it would pass for this one's.
pub fn write(recording: &Recording, choices: &ProfileChoices, dir: &OutDir) -> Result<Written, ProfileError> {
    let (summary, json, no_profile) = match generate(recording, choices) {
        Ok(generated) => {
            let json = generated.profile.to_json()?;
            (Summary::new(recording, Ok(&generated)), Some(json), None)
        }
        Err(error) => (Summary::new(recording, Err(&error.to_string())), None, Some(error)),
    };
    match &json {
        Some(json) => drop(dir.write(SECCOMP_FILE, json)?),
        None => dir.remove(SECCOMP_FILE),
    }
    dir.write(SUMMARY_FILE, summary.to_markdown(json.as_deref()).as_bytes())?;
    Ok(Written { summary, no_profile })
}
