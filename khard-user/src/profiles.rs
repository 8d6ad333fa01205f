//! From a recording to profile files. Owns which files stand beside a recording; the rules are khard-profile's.

use khard_profile::{
    recording::{PhaseSet, Recording},
    seccomp::{
        self, Floor, FloorChoice, FloorData, FloorDataError, FloorError, GenerateError, Generated, Policy,
    },
};

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

/// Writes the profiles of a recording beside it.
pub fn write(
    recording: &Recording,
    choices: &ProfileChoices,
    dir: &OutDir,
) -> Result<Generated, ProfileError> {
    let generated = generate(recording, choices)?;
    dir.write(SECCOMP_FILE, &generated.profile.to_json()?)?;
    Ok(generated)
}
