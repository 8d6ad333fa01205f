//! Files that khard writes. Text for people is escaped by `khard_profile::escape`.

pub mod compile;
pub mod files;
pub mod place;

/// A recording, in its subject's folder.
pub(crate) const RECORDING_FILE: &str = "recording.json";
/// What a killed khard leaves in its place; removed once the recording is written.
pub(crate) const CHECKPOINT_FILE: &str = "recording.checkpoint.json";
