//! `khard.toml`: what a project has decided for all its recordings. Strict: a key that khard does not know is an error, for a
//! misspelt wish is not done without a word.

use std::{collections::BTreeMap, fs, io, num::NonZeroUsize, path::Path};

use khard_profile::apparmor::Threshold;
use regex::Regex;
use serde::{Deserialize, Deserializer, de};

/// The file's name, looked for in the working directory.
pub const FILE: &str = "khard.toml";

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not readable.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not of the form.
    #[error("{path} is not as khard wants it: docs/apparmor.md and docs/ci.md tell which keys there are")]
    Form {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A prefix that must not be folded, or is none.
    #[error("{path}: {prefix:?} is no prefix that may be folded: {why}")]
    Prefix {
        /// The file.
        path: String,
        /// The prefix.
        prefix: String,
        /// Why.
        why: &'static str,
    },
}

/// All settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[apparmor]`.
    pub apparmor: AppArmor,
    /// `[ci]`.
    pub ci: Ci,
}

/// Settings of `khard ci`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ci {
    /// `fail-on`.
    pub fail_on: Option<FailOn>,
    /// `forget-after`: how many runs may pass without what a profile allows, before it goes.
    pub forget_after: Option<NonZeroUsize>,
    /// `redact`: what is not shown in a job's log and summary.
    #[serde(deserialize_with = "patterns")]
    pub redact: Vec<Regex>,
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Regex>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| Regex::new(text).map_err(de::Error::custom)).collect()
}

/// What fails a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FailOn {
    /// The run needs more than the committed profiles allow
    Added,
    /// The profiles would be others
    Any,
    /// Nothing: the comparison is only told
    Nothing,
}

/// Settings of AppArmor profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppArmor {
    /// `[apparmor.fold]`: from how many files on a directory below this prefix becomes one rule, with `--paths balanced`.
    fold: Option<BTreeMap<String, usize>>,
}

impl Config {
    /// The working directory's, or none.
    ///
    /// # Errors
    /// When there is one that cannot be read, or says what khard does not understand.
    pub fn find() -> Result<Self, ConfigError> {
        match fs::read_to_string(FILE) {
            Ok(text) => Self::parse(FILE, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: FILE.to_owned(), source }),
        }
    }

    fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)
            .map_err(|source| ConfigError::Form { path: path.to_owned(), source: Box::new(source) })?;
        for prefix in config.apparmor.fold.iter().flat_map(BTreeMap::keys) {
            if let Some(why) = not_foldable(prefix) {
                return Err(ConfigError::Prefix { path: path.to_owned(), prefix: prefix.clone(), why });
            }
        }
        Ok(config)
    }

    /// The thresholds, if any are set.
    pub fn thresholds(&self) -> Option<Vec<Threshold>> {
        let fold = self.apparmor.fold.as_ref()?;
        let threshold = |(prefix, n_files): (&String, &usize)| Threshold {
            prefix: prefix.as_str().into(),
            n_files: *n_files,
        };
        Some(fold.iter().map(threshold).collect())
    }
}

/// Why a prefix may not be folded.
fn not_foldable(prefix: &str) -> Option<&'static str> {
    let path = Path::new(prefix);
    if !path.is_absolute() || prefix.contains("..") {
        return Some("it is no path from the root");
    }
    if path == Path::new("/") {
        return Some("everything would be one rule");
    }
    path.starts_with("/etc").then_some("what is below /etc is never folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_misspelt_keys_are_errors() {
        let config = Config::parse("t", "[apparmor.fold]\n\"/usr/share\" = 30\n").unwrap();
        assert_eq!(config.thresholds(), Some(vec![Threshold { prefix: "/usr/share".into(), n_files: 30 }]));
        assert_eq!(Config::parse("t", "").unwrap().thresholds(), None);
        assert!(Config::parse("t", "[aparmor]\n").is_err());
    }

    #[test]
    fn what_must_not_be_folded_is_refused_by_name() {
        for prefix in ["/", "/etc", "/etc/ssl", "usr", "/usr/../etc"] {
            let error = Config::parse("t", &format!("[apparmor.fold]\n\"{prefix}\" = 3\n")).unwrap_err();
            assert!(error.to_string().contains(prefix), "{error}");
        }
    }
}
