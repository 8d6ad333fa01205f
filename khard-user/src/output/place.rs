//! What the folders of subjects are called below the folder that the user named. It knows nothing of what goes into them, and does
//! not see whether two subjects get the same.

use std::fmt;

use khard_profile::recording::Subject;

use super::files::{OutDir, WriteError};

/// One subject's folder: one to three components below the output folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    above: Vec<String>,
    last: String,
}

impl Place {
    /// The place of a command or a cgroup: the last component of its path, or the name that the user gave.
    pub fn of_path(path: &[u8], name: Option<&str>) -> Self {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let last = name.map_or_else(|| String::from_utf8_lossy(last).into_owned(), str::to_owned);
        Self { above: Vec::new(), last }
    }

    /// The place of any subject. Of a container it is `POD/CONTAINER`, below its namespace where there may be more than one; `pod`
    /// is what to call the pod: the workload's name, where there is more than one of them.
    pub fn of_subject(subject: &Subject, pod: Option<&str>, name: Option<&str>, by_namespace: bool) -> Self {
        match subject {
            Subject::Command { program: path } | Subject::Cgroup { path } => {
                Self::of_path(path.as_slice(), name)
            }
            // Any character is a file's name but a slash, which Docker takes in no name.
            Subject::Docker { name: own, .. } => Self::of_path(own.as_bytes(), name),
            Subject::Container { namespace, workload, container, .. } => {
                let namespace = by_namespace.then(|| namespace.clone());
                let pod = name.or(pod).unwrap_or(workload).to_owned();
                Self { above: namespace.into_iter().chain([pod]).collect(), last: container.clone() }
            }
        }
    }

    /// A place beside this one, for a variant of the same subject: `nginx@1a2b3c4d5e6f`.
    #[must_use]
    pub fn beside(mut self, variant: &str) -> Self {
        self.last = format!("{}@{variant}", self.last);
        self
    }

    /// The folder, made if it is not there.
    pub fn open(&self, out: &OutDir) -> Result<OutDir, WriteError> {
        let mut dir = None;
        for component in &self.above {
            dir = Some(dir.as_ref().unwrap_or(out).subdir(component)?);
        }
        dir.as_ref().unwrap_or(out).subdir(&self.last)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.above.iter().try_for_each(|component| write!(f, "{component}/"))?;
        f.write_str(&self.last)
    }
}
