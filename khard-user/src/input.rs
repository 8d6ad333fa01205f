//! Files that khard reads: recordings and profiles, from anywhere, so their size is capped before they are read.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use khard_profile::{
    escape,
    recording::{Limits, ReadError, Recording},
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
        let whole = path.join(crate::trace::RECORDING_FILE);
        let checkpoint = path.join(crate::trace::CHECKPOINT_FILE);
        match (whole.exists(), checkpoint.exists()) {
            (false, true) => checkpoint,
            (true, true) => {
                // A checkpoint goes when its recording is written: this one is of a later run.
                let name = |file: &Path| escape::terminal(file.as_os_str().as_encoded_bytes());
                tracing::warn!(
                    "{} is used; a later recording was cut off, or is under way: name {} to use that",
                    name(&whole),
                    name(&checkpoint)
                );
                whole
            }
            _ => whole,
        }
    } else {
        path.to_owned()
    };
    let json = read_limited(&file)?;
    match Recording::from_json(&json) {
        Ok(recording) => Ok((file, recording)),
        Err(source) => Err(InputError::Recording { path: file, source }),
    }
}
