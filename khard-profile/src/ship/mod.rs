//! Owns how profiles come to where containers are started: what there is to ship of a recording, and the forms that Kubernetes, the
//! security-profiles-operator, Docker, Podman and Compose take, as values and text. Knows no file and no cluster, and makes no profile.

mod docker;
mod kubernetes;
mod kustomize;
mod operator;
mod operator_apparmor;
mod suggest;
mod workload;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

pub use docker::{Docker, Engine};
pub use kubernetes::{Bundle, Kubernetes, Role};
pub use suggest::Suggestions;
pub use workload::{Kind, Workload};

use crate::apparmor_text::{ParsedProfile, ProfileTextError};
use crate::recording::{Recording, Subject, WorkloadFrom};
use crate::seccomp::profile_name;

/// Profiles cannot be shipped in a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShipError {
    /// The seccomp profile.
    #[error(
        "the seccomp profile is no JSON object with a \"defaultAction\": make it again with `khard generate`"
    )]
    NoSeccompProfile,
    /// The AppArmor profile.
    #[error("the AppArmor profile cannot be used")]
    AppArmor(#[from] ProfileTextError),
    /// The AppArmor profile's name.
    #[error(
        "the AppArmor profile is called {0:?}, which Kubernetes and Docker cannot name: give it one word of letters, digits and _.-/"
    )]
    AppArmorName(String),
    /// Neither.
    #[error("there is no profile beside the recording: make them with `khard generate`")]
    NoProfile,
    /// What is for no container.
    #[error(
        "{0:?} was recorded outside of a container, so that its AppArmor profile is about the host's files: `khard trace -- docker run …` records a container"
    )]
    NotOfContainer(String),
    /// Only containers of pods are in Kubernetes.
    #[error(
        "this is a recording of a {0}, and Kubernetes has only containers of pods: record one with `khard trace --pod`, or use --to docker"
    )]
    NoPod(&'static str),
    /// Recordings that do not belong together.
    #[error("these are recordings of two workloads, {0:?} and {1:?}: export one at a time")]
    TwoWorkloads(String, String),
    /// Two profiles for one container.
    #[error("there are two recordings of the container {0:?}: name the folder of one")]
    TwoRecordings(String),
    /// What a container runtime without Kubernetes may call things.
    #[error(
        "{0:?} is no name that Kubernetes takes: was this recorded under a kubelet? If the pod's owner has another name, give it with --workload"
    )]
    NoKubernetesName(String),
    /// A name that fits two kinds.
    #[error(
        "it cannot be told whether {0:?} is a DaemonSet or a StatefulSet: say it with --workload daemonset/NAME or --workload statefulset/NAME"
    )]
    UnknownKind(String),
    /// `--workload`.
    #[error(
        "bad workload {0:?}: expected KIND/NAME, the kind one of deployment, daemonset, statefulset, replicaset, job, cronjob, pod"
    )]
    BadWorkload(String),
    /// `--init`.
    #[error("there is no recording of the init container {0:?}")]
    NoInitContainer(String),
    /// `--kube-version`.
    #[error("bad Kubernetes version {0:?}: expected one such as 1.30")]
    BadVersion(String),
    /// Only annotations there, one for seccomp too, which later versions do not read.
    #[error("Kubernetes {0} has no field for seccomp profiles, which khard writes: it came with 1.19")]
    OldVersion(KubeVersion),
    /// A part of a seccomp profile that the operator's resource cannot say.
    #[error(
        "a SeccompProfile of the security-profiles-operator cannot say what {0:?} of the seccomp profile says: use --to kubernetes"
    )]
    NotForOperator(String),
}

/// A version of Kubernetes, as far as forms depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubeVersion {
    major: u32,
    minor: u32,
}

impl KubeVersion {
    /// `securityContext.seccompProfile` (kubernetes CHANGELOG-1.19).
    const SECCOMP_FIELD: Self = Self { major: 1, minor: 19 };
    /// `batch/v1` has `CronJob` (CHANGELOG-1.21).
    const CRON_JOB_V1: Self = Self { major: 1, minor: 21 };
    /// `securityContext.appArmorProfile` (CHANGELOG-1.30).
    const APPARMOR_FIELD: Self = Self { major: 1, minor: 30 };
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// `1.30`, `v1.30.2` or `1.30+`.
impl FromStr for KubeVersion {
    type Err = ShipError;

    fn from_str(text: &str) -> Result<Self, ShipError> {
        let number = |text: Option<&str>| text?.parse().ok();
        let mut parts = text.trim_start_matches('v').trim_end_matches('+').splitn(3, '.');
        let (Some(major), Some(minor)) = (number(parts.next()), number(parts.next())) else {
            return Err(ShipError::BadVersion(text.to_owned()));
        };
        let version = Self { major, minor };
        if version < Self::SECCOMP_FIELD { Err(ShipError::OldVersion(version)) } else { Ok(version) }
    }
}

/// What there is to ship of one recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Shipment {
    /// Who was recorded.
    pub subject: Subject,
    /// The seccomp profile, if there is one.
    pub seccomp: Option<Seccomp>,
    /// The AppArmor profile, if there is one.
    pub apparmor: Option<AppArmor>,
    /// What else could be taken away.
    pub suggestions: Suggestions,
    /// What a reader must know before trusting the profiles, in words.
    pub warnings: Vec<String>,
    /// The pods' names.
    pods: Vec<String>,
    /// The cgroup of the container's first attempt, by the pod sandbox's id.
    first_cgroups: BTreeMap<String, u64>,
    /// The image, where all runs were of one.
    image: Option<String>,
}

/// A seccomp profile in the OCI runtime's form.
#[derive(Clone, Debug, PartialEq)]
pub struct Seccomp {
    /// What it is called on a node, without `.json`: see [`profile_name`].
    pub name: String,
    /// The file.
    pub json: Vec<u8>,
    /// What is in it.
    profile: Map<String, Value>,
}

/// An AppArmor profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppArmor {
    /// The name by which it is loaded.
    pub name: String,
    /// The file.
    pub text: Vec<u8>,
}

impl Shipment {
    /// Takes the profiles that stand beside a recording.
    ///
    /// # Errors
    /// When neither is there, or one cannot be used.
    pub fn new(
        recording: &Recording,
        seccomp_json: Option<Vec<u8>>,
        apparmor_text: Option<Vec<u8>>,
    ) -> Result<Self, ShipError> {
        let subject = recording.subject().clone();
        let mut warnings = Vec::new();
        if recording.is_lossy() {
            warnings.push("the recording is lossy, so the profiles may refuse what is needed".to_owned());
        }
        if recording.runs().values().any(|run| run.confinement.privileged == Some(true)) {
            warnings.push("it ran privileged, and a privileged container gets no seccomp profile".to_owned());
        }
        let seccomp = seccomp_json.map(|json| Seccomp::new(&subject, json)).transpose()?;
        let apparmor = apparmor_text.map(|text| AppArmor::new(text, &mut warnings)).transpose()?;
        if seccomp.is_none() && apparmor.is_none() {
            return Err(ShipError::NoProfile);
        }
        let containers = || recording.runs().values().filter_map(|run| run.container.as_ref());
        let image = containers().next().map(|run| run.image.clone());
        Ok(Self {
            seccomp,
            apparmor,
            suggestions: Suggestions::new(recording),
            warnings,
            first_cgroups: first_cgroups(recording),
            pods: containers().map(|run| run.pod.clone()).collect(),
            image: image.filter(|image| containers().all(|run| run.image == *image)),
            subject,
        })
    }

    /// Namespace, workload, how its name was found, container.
    fn container(&self) -> Result<(&str, &str, WorkloadFrom, &str), ShipError> {
        match &self.subject {
            Subject::Command { .. } => Err(ShipError::NoPod("command")),
            Subject::Cgroup { .. } => Err(ShipError::NoPod("cgroup")),
            Subject::Docker { .. } => Err(ShipError::NoPod("container of Docker's")),
            Subject::Container { namespace, workload, workload_from, container } => {
                Ok((namespace, workload, *workload_from, container))
            }
        }
    }
}

fn first_cgroups(recording: &Recording) -> BTreeMap<String, u64> {
    let runs = recording.runs().values().filter_map(|run| Some((run.id.cgroup_id, run.container.as_ref()?)));
    let first = runs.filter(|(_, container)| container.attempt == 0);
    first.map(|(cgroup_id, container)| (container.sandbox_id.clone(), cgroup_id)).collect()
}

impl Seccomp {
    fn new(subject: &Subject, json: Vec<u8>) -> Result<Self, ShipError> {
        let Ok(Value::Object(profile)) = serde_json::from_slice(&json) else {
            return Err(ShipError::NoSeccompProfile);
        };
        if !profile.get("defaultAction").is_some_and(Value::is_string) {
            return Err(ShipError::NoSeccompProfile);
        }
        Ok(Self { name: profile_name(subject, &json), json, profile })
    }

    /// Its file's name on a node.
    pub fn file(&self) -> String {
        format!("{}.json", self.name)
    }
}

impl AppArmor {
    /// A name with a space or a quote would be valid for AppArmor, but not for every reader of an annotation or an option.
    fn new(text: Vec<u8>, warnings: &mut Vec<String>) -> Result<Self, ShipError> {
        let parsed = ParsedProfile::parse(&text)?;
        let name = parsed.name.to_string_lossy().into_owned();
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte));
        // What is left without slashes at its beginning is its file's name.
        if !is_plain || !name.trim_start_matches('/').starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(ShipError::AppArmorName(name));
        }
        if let Some(flag) = parsed.flags.lenient {
            warnings.push(format!(
                "the AppArmor profile is in {flag} mode: it refuses nothing that it does not deny"
            ));
        }
        Ok(Self { name, text })
    }
}

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// The folder below the output folder, if it is in one, and its name. Plain names: letters, digits and `_.-`.
    pub path: Vec<String>,
    /// What it holds.
    #[serde(skip)]
    pub content: Vec<u8>,
}

impl File {
    fn new(path: &[&str], content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.iter().map(|part| (*part).to_owned()).collect(), content: content.into() }
    }
}
