//! Files that khard reads: recordings and profiles, from anywhere, so their size is capped before they are read.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use khard_profile::{
    escape,
    recording::{Limits, ReadError, Recording},
};

use crate::trace::{CHECKPOINT_FILE, RECORDING_FILE};

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

/// A recording by its file, or by the folder that holds it (the checkpoint, if a killed khard left only that).
pub fn recording(path: &Path) -> Result<(PathBuf, Recording), InputError> {
    let file = if path.is_dir() {
        in_folder(path).unwrap_or_else(|| path.join(RECORDING_FILE))
    } else {
        path.to_owned()
    };
    let json = read_limited(&file)?;
    match Recording::from_json(&json) {
        Ok(recording) => Ok((file, recording)),
        Err(source) => Err(InputError::Recording { path: file, source }),
    }
}

/// The recording that stands in a folder, if one does.
fn in_folder(path: &Path) -> Option<PathBuf> {
    let (whole, checkpoint) = (path.join(RECORDING_FILE), path.join(CHECKPOINT_FILE));
    match (whole.exists(), checkpoint.exists()) {
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

/// How deep below a folder recordings are looked for: `trace -o` makes at most `NAMESPACE/POD/CONTAINER`.
const MAX_DEPTH: usize = 3;

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
    let read_error = |source| InputError::Read { path: dir.to_owned(), source };
    let mut folders = Vec::new();
    for entry in dir.read_dir().map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        if entry.file_type().map_err(read_error)?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    for folder in folders {
        found.extend(in_folder(&folder));
        if depth > 1 {
            walk(&folder, depth - 1, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_found_by_file_folder_and_folder_of_folders() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in ["web", "shop/web/nginx", "shop/web/empty", "deep/a/b/c"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        for file in
            ["web/recording.json", "shop/web/nginx/recording.checkpoint.json", "deep/a/b/c/recording.json"]
        {
            std::fs::write(at(file), "").unwrap();
        }
        std::os::unix::fs::symlink(at("web"), at("shop/link")).unwrap();
        let checkpoint = at("shop/web/nginx/recording.checkpoint.json");
        let all = find_recordings(&[root.path().to_owned()]).unwrap();
        assert_eq!(all, [checkpoint.clone(), at("web/recording.json")]);
        let named = find_recordings(&[at("web"), at("web/recording.json"), at("shop")]).unwrap();
        assert_eq!(named, [at("web/recording.json"), checkpoint]);
        let none = find_recordings(&[at("shop/web/empty")]).unwrap_err();
        assert!(matches!(none, InputError::NoRecording { .. }), "{none}");
    }
}
