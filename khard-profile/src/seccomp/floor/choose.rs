//! Owns which measured floors a profile gets. Knows nothing about how they were measured.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Serialize;

use super::{FloorData, FloorEntry, FloorKey, Start};
use crate::recording::Recording;

/// Which floor the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FloorChoice {
    /// That of the runtime in the recording; of all measured runtimes when that is not known.
    Auto,
    /// None: the profile is not for a container, or is applied after the runtime.
    None,
    /// That of this runtime.
    Runtime(String),
}

/// A name that is no floor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown floor {0:?}: use auto, none, runc or crun")]
pub struct UnknownFloor(pub String);

impl FromStr for FloorChoice {
    type Err = UnknownFloor;

    fn from_str(text: &str) -> Result<Self, UnknownFloor> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "runc" | "crun" => Ok(Self::Runtime(text.to_owned())),
            _ => Err(UnknownFloor(text.to_owned())),
        }
    }
}

/// A chosen floor: calls, and the measurements that they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    sources: BTreeMap<FloorSource, FloorEntry>,
}

/// A measurement that a floor uses, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "match", rename_all = "snake_case")]
pub enum FloorSource {
    /// It was made with the very runtime and version.
    Exact {
        /// What was measured.
        #[serde(flatten)]
        key: FloorKey,
    },
    /// The wanted version was not measured, or is not known: all versions that were are used together.
    OtherVersion {
        /// What was measured.
        #[serde(flatten)]
        key: FloorKey,
        /// The wanted version.
        wanted: Option<String>,
    },
    /// The wanted runtime was not measured, or is not known: all runtimes that were are used together.
    OtherRuntime {
        /// What was measured.
        #[serde(flatten)]
        key: FloorKey,
        /// The wanted runtime.
        wanted: Option<String>,
    },
}

/// Why there is no floor to choose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloorError {
    /// No measurement fits.
    #[error(
        "no floor was measured for {what}, {kind}, no_new_privs {no_new_privs}: measure it with `cargo xtask floor`, or choose another with --floor (none: only for a profile that no container runtime applies)"
    )]
    NotMeasured {
        /// The runtime, or that any would do.
        what: String,
        /// Start or exec.
        kind: Start,
        /// As in the recording; `either` if it is not known.
        no_new_privs: &'static str,
    },
}

impl Floor {
    /// No floor.
    pub fn none() -> Self {
        Self::default()
    }

    /// The floor for the runs of a recording. That of exec is part of it, unless `with_exec` says that nothing may join.
    pub fn choose(
        choice: &FloorChoice,
        recording: &Recording,
        with_exec: bool,
        data: &FloorData,
    ) -> Result<Self, FloorError> {
        let mut floor = Self::none();
        if *choice == FloorChoice::None {
            return Ok(floor);
        }
        for run in recording.runs().values() {
            let recorded =
                run.runtime.as_ref().map(|runtime| (runtime.name.as_str(), runtime.version.as_deref()));
            let (name, version) = match (choice, recorded) {
                (FloorChoice::Runtime(wanted), Some((name, version))) if wanted == name => {
                    (Some(name), version)
                }
                (FloorChoice::Runtime(wanted), _) => (Some(wanted.as_str()), None),
                (_, Some((name, version))) => (Some(name), version),
                (_, None) => (None, None),
            };
            let only = matches!(choice, FloorChoice::Runtime(_));
            for kind in [Start::Start, Start::Exec].into_iter().take(if with_exec { 2 } else { 1 }) {
                let wanted = Wanted { name, version, only, no_new_privs: run.confinement.no_new_privs, kind };
                floor.sources.extend(wanted.find(data)?);
            }
        }
        Ok(floor)
    }

    /// The calls.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> =
            self.sources.values().flat_map(|entry| entry.calls.keys().map(String::as_str)).collect();
        names.into_iter()
    }

    /// The measurements that it comes from; none for no floor.
    pub fn sources(&self) -> impl Iterator<Item = (&FloorSource, &FloorEntry)> {
        self.sources.iter()
    }

    /// What it is, in words, for a summary.
    pub fn describe(&self) -> String {
        if self.sources.is_empty() {
            return "none".to_owned();
        }
        let not_measured = |wanted: &Option<String>, what: &str| match wanted {
            Some(wanted) => format!("{wanted} was not measured"),
            None => format!("the {what} is not known"),
        };
        // What was measured, by why it is not just what is wanted.
        let mut groups: BTreeMap<Option<String>, BTreeMap<String, u64>> = BTreeMap::new();
        for (source, entry) in &self.sources {
            let FloorKey { runtime, version, .. } = &entry.key;
            let why = match source {
                FloorSource::Exact { .. } => None,
                FloorSource::OtherVersion { wanted, .. } => {
                    Some(format!("all versions of {runtime}, for {}", not_measured(wanted, "version")))
                }
                FloorSource::OtherRuntime { wanted, .. } => {
                    Some(format!("all runtimes, for {}", not_measured(wanted, "runtime")))
                }
            };
            let group = groups.entry(why).or_default();
            *group.entry(format!("{runtime} {version}")).or_default() += entry.n_containers;
        }
        let groups = groups.into_iter().map(|(why, measured)| {
            let measured = measured.into_iter().map(|(what, n_starts)| format!("{what} ({n_starts} starts)"));
            let measured = measured.collect::<Vec<_>>().join(", ");
            match why {
                Some(why) => format!("measured on {why}: {measured}"),
                None => format!("measured on {measured}"),
            }
        });
        groups.collect::<Vec<_>>().join("; ")
    }
}

struct Wanted<'a> {
    name: Option<&'a str>,
    version: Option<&'a str>,
    /// No other runtime will do.
    only: bool,
    no_new_privs: Option<bool>,
    kind: Start,
}

impl Wanted<'_> {
    fn find(&self, data: &FloorData) -> Result<Vec<(FloorSource, FloorEntry)>, FloorError> {
        let fits = |key: &FloorKey| {
            key.kind == self.kind && self.no_new_privs.is_none_or(|wanted| wanted == key.no_new_privs)
        };
        let fitting: Vec<&FloorEntry> = data.entries().filter(|entry| fits(&entry.key)).collect();
        let of_runtime = |entry: &&&FloorEntry| self.name == Some(entry.key.runtime.as_str());
        let of_version = |entry: &&&FloorEntry| {
            self.version.is_some_and(|wanted| same_version(wanted, &entry.key.version))
        };

        let owned = |wanted: Option<&str>| wanted.map(str::to_owned);
        let exact = fitting.iter().filter(of_runtime).filter(of_version);
        let mut found: Vec<_> =
            exact.map(|e| (FloorSource::Exact { key: e.key.clone() }, (*e).clone())).collect();
        if found.is_empty() {
            let wanted = owned(self.version);
            let source =
                |e: &FloorEntry| FloorSource::OtherVersion { key: e.key.clone(), wanted: wanted.clone() };
            found = fitting.iter().filter(of_runtime).map(|e| (source(e), (*e).clone())).collect();
        }
        if found.is_empty() && !self.only {
            let wanted = owned(self.name);
            let source =
                |e: &FloorEntry| FloorSource::OtherRuntime { key: e.key.clone(), wanted: wanted.clone() };
            found = fitting.iter().map(|e| (source(e), (*e).clone())).collect();
        }
        if found.is_empty() {
            return Err(FloorError::NotMeasured {
                what: self.name.unwrap_or("any runtime").to_owned(),
                kind: self.kind,
                no_new_privs: self.no_new_privs.map_or("either", |set| if set { "true" } else { "false" }),
            });
        }
        Ok(found)
    }
}

/// A packager's suffix does not make another runtime: `1.1.5+ds1` is Debian's 1.1.5.
fn same_version(ours: &str, theirs: &str) -> bool {
    let upstream = |version: &str| version.split(['+', '~']).next().map(str::to_owned);
    upstream(ours) == upstream(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(runtime: &str, version: &str, no_new_privs: bool, kind: Start, calls: &[&str]) -> FloorEntry {
        let key = FloorKey { runtime: runtime.to_owned(), version: version.to_owned(), no_new_privs, kind };
        FloorEntry {
            key,
            n_containers: 10,
            calls: calls.iter().map(|name| ((*name).to_owned(), 10)).collect(),
        }
    }

    fn data() -> FloorData {
        let mut data = FloorData::default();
        data.add(entry("runc", "1.1.5+ds1", true, Start::Start, &["close", "execve"]));
        data.add(entry("runc", "1.3.6", true, Start::Start, &["close", "futex"]));
        data.add(entry("crun", "1.8.1", true, Start::Start, &["close_range"]));
        data.add(entry("runc", "1.1.5+ds1", false, Start::Start, &["capset"]));
        data
    }

    fn names(
        name: Option<&str>,
        version: Option<&str>,
        only: bool,
        nnp: Option<bool>,
    ) -> Result<Vec<String>, FloorError> {
        let wanted = Wanted { name, version, only, no_new_privs: nnp, kind: Start::Start };
        let floor = Floor { sources: wanted.find(&data())?.into_iter().collect() };
        Ok(floor.names().map(str::to_owned).collect())
    }

    #[test]
    fn the_measured_version_is_used_alone() {
        assert_eq!(names(Some("runc"), Some("1.1.5"), false, Some(true)).unwrap(), ["close", "execve"]);
        assert_eq!(names(Some("runc"), Some("1.1.5+ds1"), false, Some(false)).unwrap(), ["capset"]);
    }

    #[test]
    fn another_version_takes_the_union_of_all_versions() {
        let union = ["close", "execve", "futex"];
        assert_eq!(names(Some("runc"), Some("1.2.0"), false, Some(true)).unwrap(), union);
        assert_eq!(names(Some("runc"), None, true, Some(true)).unwrap(), union);
    }

    #[test]
    fn an_unknown_runtime_takes_the_union_of_all_runtimes() {
        let union = ["close", "close_range", "execve", "futex"];
        assert_eq!(names(None, None, false, Some(true)).unwrap(), union);
        assert_eq!(names(Some("youki"), Some("0.5"), false, Some(true)).unwrap(), union);
        assert!(names(None, None, false, None).unwrap().contains(&"capset".to_owned()));
    }

    #[test]
    fn what_was_not_measured_is_an_error_that_says_how_to_measure() {
        let error = names(Some("crun"), None, true, Some(false)).unwrap_err().to_string();
        assert!(error.contains("cargo xtask floor") && error.contains("crun"), "{error}");
        assert!(names(None, None, false, Some(false)).is_ok());
    }

    #[test]
    fn why_more_than_one_was_taken_is_said_once_for_all() {
        let words = |name, version| {
            let wanted = Wanted { name, version, only: false, no_new_privs: None, kind: Start::Start };
            Floor { sources: wanted.find(&data()).unwrap().into_iter().collect() }.describe()
        };
        assert_eq!(words(Some("runc"), Some("1.1.5")), "measured on runc 1.1.5+ds1 (20 starts)");
        assert_eq!(
            words(Some("runc"), Some("1.2.0")),
            "measured on all versions of runc, for 1.2.0 was not measured: runc 1.1.5+ds1 (20 starts), runc 1.3.6 (10 starts)"
        );
        assert_eq!(
            words(None, None),
            "measured on all runtimes, for the runtime is not known: crun 1.8.1 (10 starts), runc 1.1.5+ds1 (20 starts), runc 1.3.6 (10 starts)"
        );
    }
}
