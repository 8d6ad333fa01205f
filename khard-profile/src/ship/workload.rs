//! Owns what a pod template belongs to: its kind and name, as far as a recording can tell, and where the template is in it. Knows no
//! profile.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};

use super::{KubeVersion, ShipError};
use crate::recording::WorkloadFrom;

/// A kind of object that has a pod template, or is a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// apps/v1.
    Deployment,
    /// apps/v1.
    DaemonSet,
    /// apps/v1.
    StatefulSet,
    /// apps/v1.
    ReplicaSet,
    /// batch/v1. Its template cannot be changed once it is there.
    Job,
    /// batch/v1. Its template is in the template of its jobs.
    CronJob,
    /// v1. Nothing that khard writes can be changed in it once it is there.
    Pod,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Deployment,
        Self::DaemonSet,
        Self::StatefulSet,
        Self::ReplicaSet,
        Self::Job,
        Self::CronJob,
        Self::Pod,
    ];

    /// As the API has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::StatefulSet => "StatefulSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Pod => "Pod",
        }
    }

    /// `CronJob` was in beta before 1.21.
    pub(super) fn api_version(self, version: KubeVersion) -> &'static str {
        match self {
            Self::Pod => "v1",
            Self::CronJob if version < KubeVersion::CRON_JOB_V1 => "batch/v1beta1",
            Self::Job | Self::CronJob => "batch/v1",
            _ => "apps/v1",
        }
    }

    /// Whether the API server takes a change of its pod template, and makes new pods of it.
    pub const fn can_be_patched(self) -> bool {
        !matches!(self, Self::Job | Self::Pod)
    }

    /// Where a pod's fields are in the object, with a dot at the end if they are not at its top.
    pub(super) const fn pod_path(self) -> &'static str {
        match self {
            Self::Pod => "",
            Self::CronJob => "spec.jobTemplate.spec.template.",
            _ => "spec.template.",
        }
    }

    /// The object that holds `pod`, which is an object with `metadata` or `spec` of a pod or both.
    pub(super) fn around(self, pod: Value) -> Value {
        match self {
            Self::Pod => pod,
            Self::CronJob => json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}}),
            _ => json!({"spec": {"template": pod}}),
        }
    }
}

/// An object that has a pod template, or is a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// Its name: a DNS name.
    pub name: String,
}

impl Workload {
    /// From what a recording knows: the name without what was generated, by which label it was found, and the names of the recorded pods.
    ///
    /// # Errors
    /// When that does not tell, and the user has to.
    pub(super) fn of_pods(name: &str, from: WorkloadFrom, pods: &BTreeSet<&str>) -> Result<Self, ShipError> {
        let (kind, name) = match from {
            WorkloadFrom::PodName => (Kind::Pod, name),
            WorkloadFrom::PodTemplateHash => (Kind::Deployment, name),
            WorkloadFrom::ControllerRevisionHash => (of_revision(name, pods)?, name),
            // A CronJob appends its time since the epoch, in minutes, and before 1.21 in seconds: kubernetes
            // pkg/controller/cronjob/utils.go, getJobName and getTimeHash.
            WorkloadFrom::JobName => match name.rsplit_once('-') {
                Some((cron_job, time)) if matches!(time.len(), 8 | 10) && is_number(time) => {
                    (Kind::CronJob, cron_job)
                }
                _ => (Kind::Job, name),
            },
        };
        Self::new(kind, name)
    }

    fn new(kind: Kind, name: &str) -> Result<Self, ShipError> {
        if is_dns_name(name, 253) {
            Ok(Self { kind, name: name.to_owned() })
        } else {
            Err(ShipError::NoKubernetesName(name.to_owned()))
        }
    }
}

/// A `StatefulSet`'s pods have a number at their end, a `DaemonSet`'s five random characters, of which some are digits
/// (kubernetes staging/src/k8s.io/apimachinery/pkg/util/rand).
fn of_revision(name: &str, pods: &BTreeSet<&str>) -> Result<Kind, ShipError> {
    let suffixes = || pods.iter().filter_map(|pod| pod.strip_prefix(name)?.strip_prefix('-'));
    if suffixes().any(|suffix| !is_number(suffix)) {
        Ok(Kind::DaemonSet)
    } else if suffixes().any(|suffix| suffix.len() != 5) {
        Ok(Kind::StatefulSet)
    } else {
        Err(ShipError::UnknownKind(name.to_owned()))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 1123 as Kubernetes reads it: labels of lower-case letters, digits and inner dashes, with dots between.
pub(super) fn is_dns_name(name: &str, max_len: usize) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= max_len && name.split('.').all(is_label)
}

/// A container's or a namespace's name.
pub(super) fn is_dns_label(name: &str) -> bool {
    !name.contains('.') && is_dns_name(name, 63)
}

/// As kubectl takes it.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str().to_ascii_lowercase(), self.name)
    }
}

impl FromStr for Workload {
    type Err = ShipError;

    fn from_str(text: &str) -> Result<Self, ShipError> {
        let parts = text.split_once('/').and_then(|(kind, name)| {
            let kind = Kind::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(kind))?;
            Self::new(kind, name).ok()
        });
        parts.ok_or_else(|| ShipError::BadWorkload(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, from: WorkloadFrom, pods: &[&str]) -> Result<String, ShipError> {
        Workload::of_pods(name, from, &pods.iter().copied().collect()).map(|workload| workload.to_string())
    }

    #[test]
    fn the_kind_is_concluded_from_labels_and_the_names_of_pods() {
        let of = |name, from, pods: &[&str]| told(name, from, pods).unwrap();
        assert_eq!(of("web", WorkloadFrom::PodTemplateHash, &["web-7d4b9c-x2x4z"]), "deployment/web");
        assert_eq!(of("db", WorkloadFrom::ControllerRevisionHash, &["db-0", "db-12"]), "statefulset/db");
        assert_eq!(
            of("log", WorkloadFrom::ControllerRevisionHash, &["log-24568", "log-x2x4z"]),
            "daemonset/log"
        );
        assert_eq!(
            of("backup-29012345", WorkloadFrom::JobName, &["backup-29012345-x2x4z"]),
            "cronjob/backup"
        );
        assert_eq!(of("migrate-3", WorkloadFrom::JobName, &["migrate-3-x2x4z"]), "job/migrate-3");
        assert_eq!(of("web.x-abcde", WorkloadFrom::PodName, &["web.x-abcde"]), "pod/web.x-abcde");
    }

    #[test]
    fn what_cannot_be_told_is_asked() {
        let digits = told("log", WorkloadFrom::ControllerRevisionHash, &["log-24568"]);
        assert_eq!(digits, Err(ShipError::UnknownKind("log".to_owned())));
        assert_eq!(
            told("a\nb", WorkloadFrom::PodName, &["a\nb"]),
            Err(ShipError::NoKubernetesName("a\nb".to_owned()))
        );
    }

    #[test]
    fn a_workload_is_written_as_for_kubectl() {
        let of = |text: &str| text.parse::<Workload>().map(|workload| workload.to_string());
        assert_eq!(of("StatefulSet/db"), Ok("statefulset/db".to_owned()));
        for bad in [
            "db",
            "rollout/db",
            "deployment/",
            "deployment/a/b",
            "deployment/A",
            "deployment/-a",
            "deployment/a b",
        ] {
            assert_eq!(of(bad), Err(ShipError::BadWorkload(bad.to_owned())));
        }
    }
}
