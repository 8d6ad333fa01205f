//! Profiles with what they lacked: the recording that they were made from, united with what was recorded now, and made into profiles
//! again. Owns the union and the difference that it makes; writes only when told.

use std::{
    fmt::Write as _,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use khard_profile::{
    apparmor_text::ParsedProfile,
    check::Profile,
    diff::{self, Diff},
    escape::shell,
    recording::{MergeError, MergePolicy, Recording},
    seccomp::profile_name,
};

use super::{ProfileSet, ProfilesError};
use crate::{
    input::{self, InputError},
    output::{
        RECORDING_FILE,
        files::{OutDir, WriteError},
    },
    profiles::{self, ProfileChoices, ProfileError},
};

/// Profiles cannot be amended.
#[derive(Debug, thiserror::Error)]
pub enum AmendError {
    /// Profiles without the recording that they were made from.
    #[error(
        "there is no recording.json in {}: khard amends profiles by making them again, from what khard trace wrote", .0.display()
    )]
    NoRecording(PathBuf),
    /// The profiles.
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
    /// The recording.
    #[error(transparent)]
    Input(#[from] InputError),
    /// It is of somebody else.
    #[error("what was recorded now does not fit to {}", path.display())]
    Merge {
        /// The recording that the profiles were made from.
        path: PathBuf,
        /// Why.
        #[source]
        source: MergeError,
    },
    /// Making or writing profiles.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Writing the recording.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The recording's text.
    #[error("cannot write the recording as JSON")]
    Json(#[from] io::Error),
}

/// Profiles as they would be.
#[derive(Debug)]
pub struct Amendment {
    recording: Recording,
    /// What would be another than now, by the kind of profile.
    pub differences: Vec<(&'static str, Diff)>,
    /// The kinds of profile that there would be and that are not there now.
    pub not_there: Vec<&'static str>,
    /// The kinds of profile that are there, and could not be made again.
    pub not_made: Vec<&'static str>,
    apparmor: Option<Renamed>,
    seccomp: Option<Renamed>,
}

/// A profile's name, by which a pod and `khard mode` know it: it comes of its content, so that another content is another profile.
#[derive(Debug, PartialEq, Eq)]
struct Renamed {
    old: String,
    new: String,
}

impl Renamed {
    fn new(old: String, new: String) -> Option<Self> {
        (old != new).then_some(Self { old, new })
    }
}

impl Amendment {
    /// Unites the recording in a folder of profiles with others of the same subject. `forget_after`: without what so many of the last
    /// runs did not have.
    pub fn new(
        dir: &Path,
        recordings: Vec<Recording>,
        policy: MergePolicy,
        choices: &ProfileChoices,
        forget_after: Option<NonZeroUsize>,
    ) -> Result<Self, AmendError> {
        let set = ProfileSet::of_folder(dir)?;
        let file = set.recording_file().ok_or_else(|| AmendError::NoRecording(dir.to_owned()))?;
        let (path, mut recording) = input::recording(&file)?;
        for other in recordings {
            recording = recording
                .merge(other, policy)
                .map_err(|source| AmendError::Merge { path: path.clone(), source })?;
        }
        if let Some(n_runs) = forget_after {
            recording = recording.without_stale(n_runs.get(), choices.phases).0;
        }
        let texts = profiles::texts(&recording, choices);
        let kinds = [
            ("seccomp", set.seccomp.is_some(), texts.seccomp.is_ok()),
            ("AppArmor", set.apparmor.is_some(), texts.apparmor.is_ok()),
        ];
        let of = |state: (bool, bool)| {
            let matching = kinds.into_iter().filter(move |(_, there, made)| (*there, *made) == state);
            matching.map(|(kind, ..)| kind).collect()
        };
        let (not_there, not_made) = (of((false, true)), of((true, false)));
        let mut differences = Vec::new();
        let (mut apparmor, mut seccomp) = (None, None);
        if let (Some((path, old)), Ok(text)) = (&set.seccomp, &texts.seccomp)
            && let Ok(new) = Profile::from_json(text.as_bytes())
        {
            differences.push(("seccomp", diff::seccomp(old, &new, Some(&recording))));
            let name = |json: &[u8]| format!("{}.json", profile_name(recording.subject(), json));
            seccomp = Renamed::new(name(&input::read_limited(path)?), name(text.as_bytes()));
        }
        if let (Some((_, old)), Ok(text)) = (&set.apparmor, &texts.apparmor)
            && let Ok(new) = ParsedProfile::parse(text.as_bytes())
        {
            differences.push(("AppArmor", diff::apparmor(old, &new, Some(&recording))));
            let name = |profile: &ParsedProfile| profile.name.to_string_lossy().into_owned();
            apparmor = Renamed::new(name(old), name(&new));
        }
        Ok(Self { recording, differences, not_there, not_made, apparmor, seccomp })
    }

    /// What is to be done after [`write`](Self::write) where the profiles are in force; empty if their names are the same.
    pub fn next_steps(&self, dir: &Path) -> String {
        let renamed: Vec<_> = self.apparmor.iter().chain(&self.seccomp).collect();
        if renamed.is_empty() {
            return String::new();
        }
        let word = |text: &str| shell(text.as_bytes());
        let complain = if self.apparmor.is_some() { " --complain" } else { "" };
        let mut steps = vec![format!("khard apply {}{complain}", shell(dir.as_os_str().as_encoded_bytes()))];
        let names: Vec<_> =
            renamed.iter().map(|Renamed { old, new }| format!("{} for {}", word(new), word(old))).collect();
        steps.push(format!("in the pod or command, name {}, and start it anew", names.join(" and ")));
        if let Some(Renamed { new, .. }) = &self.apparmor {
            steps.push(format!("khard mode {} enforce", word(new)));
        }
        let old: Vec<_> = renamed.iter().map(|Renamed { old, .. }| word(old)).collect();
        steps.push(format!("once nothing runs under the old: khard remove {}", old.join(" ")));
        let mut text = "what was added is another profile with another name; where the old one is in force, it stays so until you\n".to_owned();
        for (nth, step) in steps.iter().enumerate() {
            let _ = writeln!(text, "  {}. {step}", nth + 1);
        }
        text
    }

    /// Writes the recording and the profiles to a folder.
    pub fn write(&self, dir: &Path, choices: &ProfileChoices) -> Result<(), AmendError> {
        let dir = OutDir::open(dir)?;
        dir.write(RECORDING_FILE, &self.recording.to_json()?)?;
        let written = profiles::write(&self.recording, choices, &dir)?;
        written.no_profile.map_or(Ok(()), |why| Err(why.into()))
    }
}
