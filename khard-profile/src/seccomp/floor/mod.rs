//! Owns the floor: what an OCI runtime itself still calls once the filter is in force. Measured data, never a guess.

mod choose;
mod measure;

use std::collections::BTreeMap;
use std::fmt;

pub use choose::{Floor, FloorChoice, FloorError, FloorSource, UnknownFloor};
pub use measure::MeasureError;
use serde::{Deserialize, Serialize};

/// The version of the data's form.
const FORM_VERSION: u32 = 1;

/// How a process comes into its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// As the container's first process.
    Start,
    /// By `exec`, into a running container.
    Exec,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Exec => "exec",
        })
    }
}

/// What a floor was measured for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloorKey {
    /// `runc`, `crun`.
    pub runtime: String,
    /// The runtime's version, as it says it.
    pub version: String,
    /// A filter is installed earlier, and sees more, without `no_new_privs`.
    pub no_new_privs: bool,
    /// Start or exec.
    pub kind: Start,
}

/// One measured floor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloorEntry {
    /// What it was measured for.
    #[serde(flatten)]
    pub key: FloorKey,
    /// In how many containers; each was started, and for exec joined, at least once.
    pub n_containers: u64,
    /// In how many of them each call was seen. Rare ones show how near to complete the measurement is.
    pub calls: BTreeMap<String, u64>,
}

/// The measured floors. Its JSON form is `data/floor.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FloorData(BTreeMap<FloorKey, FloorEntry>);

/// Why floor data cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FloorDataError {
    /// It breaks its form.
    #[error("the floor data does not have the form of version {FORM_VERSION}")]
    Malformed(#[source] serde_json::Error),
    /// It is of another version.
    #[error("the floor data has version {0}, this khard reads version {FORM_VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    khard_floor: u32,
    entries: Vec<FloorEntry>,
}

impl FloorData {
    /// The data that this khard was built with.
    pub fn embedded() -> Result<Self, FloorDataError> {
        Self::from_json(include_bytes!("../../../data/floor.json"))
    }

    /// Reads data.
    pub fn from_json(json: &[u8]) -> Result<Self, FloorDataError> {
        let file: FileForm = serde_json::from_slice(json).map_err(FloorDataError::Malformed)?;
        if file.khard_floor != FORM_VERSION {
            return Err(FloorDataError::Version(file.khard_floor));
        }
        let mut data = Self::default();
        file.entries.into_iter().for_each(|entry| data.add(entry));
        Ok(data)
    }

    /// Writes data: sorted, the same bytes for the same data.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let file = FileForm { khard_floor: FORM_VERSION, entries: self.0.values().cloned().collect() };
        let mut json = serde_json::to_vec_pretty(&file)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Adds a measurement to what is known for its key. Adding the same one twice counts it twice.
    pub fn add(&mut self, entry: FloorEntry) {
        let known = self.0.entry(entry.key.clone()).or_insert_with(|| FloorEntry {
            key: entry.key,
            n_containers: 0,
            calls: BTreeMap::new(),
        });
        known.n_containers += entry.n_containers;
        for (name, n_containers) in entry.calls {
            *known.calls.entry(name).or_default() += n_containers;
        }
    }

    /// The entries, by key.
    pub fn entries(&self) -> impl Iterator<Item = &FloorEntry> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls;

    fn sample() -> FloorData {
        let mut data = FloorData::default();
        for (version, no_new_privs) in [("1.1.5", true), ("1.3.6", true), ("1.3.6", false)] {
            let key = FloorKey {
                runtime: "runc".to_owned(),
                version: version.to_owned(),
                no_new_privs,
                kind: Start::Start,
            };
            data.add(FloorEntry { key, n_containers: 10, calls: BTreeMap::from([("close".to_owned(), 10)]) });
        }
        data
    }

    #[test]
    fn the_embedded_data_is_well_formed_and_its_names_are_known() {
        let data = FloorData::embedded().unwrap();
        for entry in data.entries() {
            assert!(entry.n_containers > 0 && !entry.calls.is_empty(), "{:?}", entry.key);
            for name in entry.calls.keys() {
                assert!(syscalls::by_name(name).is_some(), "{name}");
            }
        }
        assert_eq!(FloorData::from_json(&data.to_json().unwrap()).unwrap(), data);
    }

    #[test]
    fn adding_measurements_sums_them() {
        let mut twice = sample();
        sample().entries().cloned().for_each(|entry| twice.add(entry));
        let again = FloorData::from_json(&twice.to_json().unwrap()).unwrap();
        assert_eq!(again, twice);
        assert!(
            again.entries().all(|entry| entry.n_containers == 20 && entry.calls.values().all(|n| *n == 20))
        );
    }
}
