//! Files that khard reads: recordings and profiles, from anywhere, so their size is capped before they are read.

use std::{
    collections::BTreeSet,
    fs::{DirEntry, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use khard_profile::{
    escape,
    recording::{Limits, ReadError, Recording},
};

use crate::{
    output::{CHECKPOINT_FILE, RECORDING_FILE},
    profiles::SECCOMP_FILE,
};

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Reading.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too large.
    #[error("{} is larger than {limit_bytes} bytes: this is no file that khard wrote", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// A folder without one.
    #[error(
        "there is no recording in {}: neither a recording.json of its own, nor in a folder below it",
        path.display()
    )]
    NoRecording {
        /// The folder.
        path: PathBuf,
    },
    /// A folder with several below.
    #[error("there are several recordings below {}: name one of {}", path.display(), listed(found))]
    SeveralRecordings {
        /// The folder.
        path: PathBuf,
        /// Them.
        found: Vec<PathBuf>,
    },
    /// A folder without a profile.
    #[error(
        "there is no profile in {}, neither a seccomp.json nor a NAME.apparmor{}",
        path.display(),
        if below.is_empty() {
            ": a file of another name has to be named itself".to_owned()
        } else {
            format!(": name one of {}", listed(below))
        }
    )]
    NoProfile {
        /// The folder.
        path: PathBuf,
        /// Those in the folders below it.
        below: Vec<PathBuf>,
    },
    /// Not a recording.
    #[error("cannot use {} as a recording", path.display())]
    Recording {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
}

/// A file's bytes, up to the limit of a recording.
pub fn read_limited(path: &Path) -> Result<Vec<u8>, InputError> {
    let limit_bytes = Limits::default().bytes as u64;
    let read_error = |source| InputError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read_error)?;
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(InputError::TooLarge { path: path.to_owned(), limit_bytes });
    }
    Ok(bytes)
}

/// A recording by its file, or by the folder that holds it (the checkpoint, if a killed khard left only that), or has the only one
/// below.
pub fn recording(path: &Path) -> Result<(PathBuf, Recording), InputError> {
    let mut found = find_recordings(&[path.to_owned()])?;
    let file = match found.pop() {
        Some(file) if found.is_empty() => file,
        last => {
            found.extend(last);
            return Err(InputError::SeveralRecordings { path: path.to_owned(), found });
        }
    };
    let json = read_limited(&file)?;
    match Recording::from_json(&json) {
        Ok(recording) => Ok((file, recording)),
        Err(source) => Err(InputError::Recording { path: file, source }),
    }
}

/// The recording beside a profile, if there is one that can be read: it only adds to an answer.
pub fn recording_beside(profile: &Path) -> Option<Recording> {
    let file = profile.with_file_name(RECORDING_FILE);
    let json = file.is_file().then(|| read_limited(&file))?.ok()?;
    Recording::from_json(&json).ok()
}

/// The recording that stands in a folder, if one does.
fn in_folder(path: &Path) -> Option<PathBuf> {
    let (whole, checkpoint) = (path.join(RECORDING_FILE), path.join(CHECKPOINT_FILE));
    // Not a FIFO, which would be waited for.
    match (whole.is_file(), checkpoint.is_file()) {
        (false, false) => None,
        (false, true) => Some(checkpoint),
        (true, false) => Some(whole),
        (true, true) => {
            // A checkpoint goes when its recording is written: this one is of a later run.
            let name = |file: &Path| escape::terminal(file.as_os_str().as_encoded_bytes());
            tracing::warn!(
                "{} is used; a later recording was cut off, or is under way: name {} to use that",
                name(&whole),
                name(&checkpoint)
            );
            Some(whole)
        }
    }
}

/// How deep below a folder recordings and profiles are looked for: `trace -o` makes at most `NAMESPACE/POD/CONTAINER`, and somebody may
/// name the folder above that.
const MAX_DEPTH: usize = 4;

/// The recordings that a user named: by file, by a folder that holds one, or by a folder with such folders, as `trace -o` leaves it.
/// Each once, in the order of the names given and then by path; links in a folder are not followed.
pub fn find_recordings(paths: &[PathBuf]) -> Result<Vec<PathBuf>, InputError> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        match path.is_dir().then(|| in_folder(path)) {
            None => found.push(path.clone()),
            Some(Some(file)) => found.push(file),
            Some(None) => {
                walk(path, MAX_DEPTH, &mut found)?;
                if found.len() == before {
                    return Err(InputError::NoRecording { path: path.clone() });
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(path.clone()));
    Ok(found)
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), InputError> {
    for folder in folders_in(dir)? {
        found.extend(in_folder(&folder));
        if depth > 1 {
            walk(&folder, depth - 1, found)?;
        }
    }
    Ok(())
}

/// The folders in a folder, in the order of their names. Links are not followed, which could lead in circles.
fn folders_in(dir: &Path) -> Result<Vec<PathBuf>, InputError> {
    entries(dir, |entry| {
        // Where a kubelet mounts a ConfigMap or a Secret, the files stand in such a one, and links to them beside it (kubernetes
        // pkg/volume/util/atomic_writer.go).
        let is_of_mount = entry.file_name().as_encoded_bytes().starts_with(b"..");
        Ok(!is_of_mount && entry.file_type()?.is_dir())
    })
}

/// What is in a folder and wanted, in the order of the names.
fn entries(dir: &Path, is_wanted: fn(&DirEntry) -> io::Result<bool>) -> Result<Vec<PathBuf>, InputError> {
    let read_error = |source| InputError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in dir.read_dir().map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        if is_wanted(&entry).map_err(read_error)? {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The profiles that stand in a folder, by the names that khard gives them.
pub fn profiles_in(dir: &Path) -> Result<Vec<PathBuf>, InputError> {
    let found = profiles(dir, 0)?;
    if found.is_empty() {
        let below = profiles(dir, MAX_DEPTH)?;
        return Err(InputError::NoProfile { path: dir.to_owned(), below });
    }
    Ok(found)
}

/// Those in the folders below it too.
pub fn profiles_below(dir: &Path) -> Result<Vec<PathBuf>, InputError> {
    let found = profiles(dir, MAX_DEPTH)?;
    if found.is_empty() {
        return Err(InputError::NoProfile { path: dir.to_owned(), below: found });
    }
    Ok(found)
}

fn profiles(dir: &Path, depth: usize) -> Result<Vec<PathBuf>, InputError> {
    let mut found = entries(dir, |entry| {
        let path = entry.path();
        let has_name = path.ends_with(SECCOMP_FILE) || path.extension().is_some_and(|end| end == "apparmor");
        // Or a link to one.
        Ok(has_name && path.is_file())
    })?;
    if depth > 0 {
        for folder in folders_in(dir)? {
            found.extend(profiles(&folder, depth - 1)?);
        }
    }
    Ok(found)
}

/// Files in words, the first few.
fn listed(files: &[PathBuf]) -> String {
    const SHOWN: usize = 5;
    let name = |file: &PathBuf| escape::terminal(file.as_os_str().as_encoded_bytes());
    let names: Vec<String> = files.iter().take(SHOWN).map(name).collect();
    let more = files.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_found_by_file_folder_and_folder_of_folders() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in ["web", "shop/web/nginx", "shop/web/empty", "deep/a/b/c/d"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        for file in
            ["web/recording.json", "shop/web/nginx/recording.checkpoint.json", "deep/a/b/c/d/recording.json"]
        {
            std::fs::write(at(file), "").unwrap();
        }
        std::os::unix::fs::symlink(at("web"), at("shop/link")).unwrap();
        let checkpoint = at("shop/web/nginx/recording.checkpoint.json");
        let all = find_recordings(&[root.path().to_owned()]).unwrap();
        assert_eq!(all, [checkpoint.clone(), at("web/recording.json")]);
        let named = find_recordings(&[at("web"), at("web/recording.json"), at("shop")]).unwrap();
        assert_eq!(named, [at("web/recording.json"), checkpoint.clone()]);
        let none = find_recordings(&[at("shop/web/empty")]).unwrap_err();
        assert!(matches!(none, InputError::NoRecording { .. }), "{none}");
        let several = recording(root.path()).unwrap_err().to_string();
        assert!(several.contains("shop/web/nginx/recording.checkpoint.json"), "{several}");
        let only = recording(&at("shop")).unwrap_err();
        assert!(matches!(&only, InputError::Recording { path, .. } if *path == checkpoint), "{only}");
    }

    #[test]
    fn profiles_are_found_by_folder_and_folder_of_folders_and_else_named() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("web/nginx")).unwrap();
        for file in ["recording.json", "seccomp.json", "summary.md", "nginx.apparmor"] {
            std::fs::write(at("web/nginx").join(file), "").unwrap();
        }
        let both = [at("web/nginx/nginx.apparmor"), at("web/nginx/seccomp.json")];
        assert_eq!(profiles_in(&at("web/nginx")).unwrap(), both);
        assert_eq!(profiles_below(root.path()).unwrap(), both);
        let hint = profiles_in(&at("web")).unwrap_err().to_string();
        assert!(hint.contains("name one of") && hint.contains("nginx.apparmor"), "{hint}");
        // As a ConfigMap is mounted.
        std::fs::create_dir_all(at("mount/..2026")).unwrap();
        std::fs::write(at("mount/..2026/seccomp.json"), "").unwrap();
        std::os::unix::fs::symlink("..2026", at("mount/..data")).unwrap();
        std::os::unix::fs::symlink("..data/seccomp.json", at("mount/seccomp.json")).unwrap();
        assert_eq!(profiles_below(&at("mount")).unwrap(), [at("mount/seccomp.json")]);
        std::fs::create_dir(at("empty")).unwrap();
        assert!(profiles_below(&at("empty")).unwrap_err().to_string().contains("no profile in"));
    }
}
