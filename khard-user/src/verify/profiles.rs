//! The profiles that a verification holds against what is recorded: read from files, and found for each container. Knows nothing of
//! what is recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use khard_profile::{
    apparmor_text::{ParsedProfile, ProfileTextError},
    check::{Profile, ProfileError},
    escape,
    recording::Subject,
};

use crate::{
    input::{self, InputError},
    output::{
        RECORDING_FILE,
        files::{OutDir, file_name},
    },
    stream::SubjectState,
};

/// Profiles cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// A file.
    #[error(transparent)]
    Input(#[from] InputError),
    /// What should be a seccomp profile.
    #[error("{} is no seccomp profile", path.display())]
    Seccomp {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProfileError,
    },
    /// What should be an AppArmor profile.
    #[error("{} is neither a seccomp profile (JSON) nor a usable AppArmor profile", path.display())]
    AppArmor {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ProfileTextError,
    },
    /// Two of one kind for the same container.
    #[error("{} and {} are both {kind} profiles: give one", first.display(), second.display())]
    Two {
        /// Seccomp or AppArmor.
        kind: &'static str,
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Profiles that are made by nobody, or whose folder is not known.
    #[error(
        "--amend makes profiles again, from the recording.json beside them: name the folder that has both with --profile{}",
        dir.as_ref().map(|dir| format!(" (there is none in {})", dir.display())).unwrap_or_default()
    )]
    NotAmendable {
        /// The folder, if there is one.
        dir: Option<PathBuf>,
    },
    /// Where amended profiles cannot be written.
    #[error("--amend cannot write to {}, where the profiles are: copy them to a folder that can be written", .0.display())]
    NotWritable(PathBuf),
    /// A folder beside other profiles.
    #[error("{} is a folder: name it alone, or the profiles in it", .0.display())]
    FolderBeside(PathBuf),
    /// Nothing for somebody who is recorded.
    #[error("there is no profile for {}: khard looks for a folder of its name", escape::terminal(.0.as_bytes()))]
    NoneFor(String),
    /// More than one for somebody who is recorded.
    #[error("there are several profiles for {}: {} and {}", escape::terminal(label.as_bytes()), first.display(), second.display())]
    SeveralFor {
        /// Whom.
        label: String,
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// The profiles of one container.
#[derive(Debug, Default)]
pub struct ProfileSet {
    /// The folder that they were found in, if they were.
    pub dir: Option<PathBuf>,
    /// Its seccomp profile, and the file.
    pub seccomp: Option<(PathBuf, Profile)>,
    /// Its AppArmor profile, and the file.
    pub apparmor: Option<(PathBuf, ParsedProfile)>,
}

/// Profiles for everybody, or by the names of containers.
#[derive(Debug)]
pub enum Profiles {
    /// One set for all that is recorded.
    ForAll(Box<ProfileSet>),
    /// A folder for each.
    ByFolder(Vec<ProfileSet>),
}

impl ProfileSet {
    fn check_amendable(&self) -> Result<(), ProfilesError> {
        let (Some(dir), Some(_)) = (&self.dir, self.recording_file()) else {
            return Err(ProfilesError::NotAmendable { dir: self.dir.clone() });
        };
        let checked = OutDir::open(dir).and_then(|dir| dir.check());
        checked.map_err(|_| ProfilesError::NotWritable(dir.clone()))
    }
}

impl Profiles {
    /// Reads files of either kind, or one folder: of one container, or of several as `khard trace` leaves them.
    pub fn read(paths: &[PathBuf]) -> Result<Self, ProfilesError> {
        if let [path] = paths
            && path.is_dir()
        {
            let mut by_folder: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
            for file in input::profiles_below(path)? {
                let folder = file.parent().unwrap_or(path).to_owned();
                by_folder.entry(folder).or_default().push(file);
            }
            if let Some(files) = by_folder.get(path) {
                return Ok(Self::ForAll(Box::new(ProfileSet::of_files(path, files)?)));
            }
            let sets = by_folder.iter().map(|(dir, files)| ProfileSet::of_files(dir, files));
            return Ok(Self::ByFolder(sets.collect::<Result<_, _>>()?));
        }
        let mut set = ProfileSet::default();
        for path in paths {
            if path.is_dir() {
                return Err(ProfilesError::FolderBeside(path.clone()));
            }
            set.add(path)?;
        }
        Ok(Self::ForAll(Box::new(set)))
    }

    /// Makes sure, before something is waited for, that they can be made again and written.
    /// Of several it is enough that one can: another's container may never come.
    pub fn check_amendable(&self) -> Result<(), ProfilesError> {
        let mut failed = None;
        for set in self.sets() {
            match set.check_amendable() {
                Ok(()) => return Ok(()),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The names of all AppArmor profiles, as the kernel says them.
    pub(super) fn apparmor_names(&self) -> BTreeSet<Vec<u8>> {
        let profiles = self.sets().iter().filter_map(|set| set.apparmor.as_ref());
        profiles.map(|(_, profile)| profile.name.as_slice().to_vec()).collect()
    }

    /// Whether any of them is a seccomp profile.
    pub(super) fn have_seccomp(&self) -> bool {
        self.sets().iter().any(|set| set.seccomp.is_some())
    }

    fn sets(&self) -> &[ProfileSet] {
        match self {
            Self::ForAll(set) => std::slice::from_ref(&**set),
            Self::ByFolder(sets) => sets,
        }
    }

    /// The profiles of a subject: of its own folder, or of the one that is named as its container.
    pub fn of(&self, state: &SubjectState) -> Result<&ProfileSet, ProfilesError> {
        let sets = match self {
            Self::ForAll(set) => return Ok(set),
            Self::ByFolder(sets) => sets,
        };
        let (pods, name) = names_of(state);
        let ends_so = |set: &&ProfileSet, names: &[&str]| {
            let dir = set.dir.as_deref().unwrap_or(Path::new(""));
            dir.ends_with(names.iter().map(|name| file_name(name)).collect::<PathBuf>())
        };
        let of_pod = pods.iter().find_map(|pod| sets.iter().find(|set| ends_so(set, &[pod, &name])));
        if let Some(set) = of_pod {
            return Ok(set);
        }
        let mut of_name = sets.iter().filter(|set| ends_so(set, &[&name]));
        match (of_name.next(), of_name.next()) {
            (None, _) => Err(ProfilesError::NoneFor(state.label.clone())),
            (Some(set), None) => Ok(set),
            (Some(first), Some(second)) => Err(ProfilesError::SeveralFor {
                label: state.label.clone(),
                first: first.dir.clone().unwrap_or_default(),
                second: second.dir.clone().unwrap_or_default(),
            }),
        }
    }
}

/// The folders that a subject's pod may have, and its container's: see `trace::outputs`.
fn names_of(state: &SubjectState) -> (Vec<String>, String) {
    match &state.subject {
        Subject::Command { program: path } | Subject::Cgroup { path } => {
            let path = path.to_string_lossy();
            let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
            (Vec::new(), last)
        }
        Subject::Docker { name, .. } => (Vec::new(), name.clone()),
        Subject::Container { workload, container, .. } => {
            let pod = state.run.container.as_ref().map(|run| run.pod.clone());
            (pod.into_iter().chain([workload.clone()]).collect(), container.clone())
        }
    }
}

impl ProfileSet {
    /// The profiles in a folder, if there are any.
    pub fn of_folder(dir: &Path) -> Result<Self, ProfilesError> {
        match input::profiles_in(dir) {
            Err(InputError::NoProfile { .. }) => Self::of_files(dir, &[]),
            files => Self::of_files(dir, &files?),
        }
    }

    fn of_files(dir: &Path, files: &[PathBuf]) -> Result<Self, ProfilesError> {
        let mut set = Self { dir: Some(dir.to_owned()), ..Self::default() };
        for file in files {
            set.add(file)?;
        }
        Ok(set)
    }

    fn add(&mut self, path: &Path) -> Result<(), ProfilesError> {
        let text = input::read_limited(path)?;
        let path = path.to_owned();
        let two =
            |kind, first: &Path| ProfilesError::Two { kind, first: first.to_owned(), second: path.clone() };
        if Profile::is_json(&text) {
            if let Some((first, _)) = &self.seccomp {
                return Err(two("seccomp", first));
            }
            let profile = Profile::from_json(&text)
                .map_err(|source| ProfilesError::Seccomp { path: path.clone(), source })?;
            self.seccomp = Some((path, profile));
        } else {
            if let Some((first, _)) = &self.apparmor {
                return Err(two("AppArmor", first));
            }
            let profile = ParsedProfile::parse(&text)
                .map_err(|source| ProfilesError::AppArmor { path: path.clone(), source })?;
            self.apparmor = Some((path, profile));
        }
        Ok(())
    }

    /// The recording that khard made them from, if it is there.
    pub fn recording_file(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(RECORDING_FILE)).filter(|file| file.exists())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SECCOMP: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#;
    const APPARMOR: &str = "abi <abi/3.0>,\nprofile web {\n  /x r,\n}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_folder_of_one_container_is_for_all_and_others_are_found_below() {
        let one = folder(&[("seccomp.json", SECCOMP), ("web.apparmor", APPARMOR), ("summary.md", "x")]);
        let Profiles::ForAll(set) = Profiles::read(&[one.path().to_owned()]).unwrap() else { panic!() };
        assert!(set.seccomp.is_some() && set.apparmor.is_some() && set.recording_file().is_none());
        let many = folder(&[("shop/web/nginx/seccomp.json", SECCOMP), ("db/db/x.apparmor", APPARMOR)]);
        let Profiles::ByFolder(sets) = Profiles::read(&[many.path().to_owned()]).unwrap() else { panic!() };
        let dirs: Vec<_> =
            sets.iter().map(|set| set.dir.as_ref().unwrap().strip_prefix(many.path()).unwrap()).collect();
        assert_eq!(dirs, [Path::new("db/db"), Path::new("shop/web/nginx")]);
    }

    #[test]
    fn two_of_a_kind_and_none_at_all_are_refused() {
        let two = folder(&[("a.apparmor", APPARMOR), ("b.apparmor", APPARMOR)]);
        let error = Profiles::read(&[two.path().to_owned()]).unwrap_err();
        assert!(matches!(error, ProfilesError::Two { kind: "AppArmor", .. }), "{error}");
        let none = folder(&[("readme", "x"), ("below/readme", "x")]);
        assert!(matches!(
            Profiles::read(&[none.path().to_owned()]),
            Err(ProfilesError::Input(InputError::NoProfile { .. }))
        ));
    }
}
