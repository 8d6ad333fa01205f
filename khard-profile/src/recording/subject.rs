//! Owns who was recorded: the logical subject, by which recordings merge. Knows nothing about one run of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// What was recorded, apart from any single run of it. Recordings with the same [`Subject::key`] merge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// A command that khard started. Its arguments and environment are never recorded.
    Command {
        /// The program as it was named, without arguments.
        program: Bytes,
    },
    /// A cgroup that was named by its path.
    Cgroup {
        /// The path below the cgroup2 mount, with a leading slash.
        path: Bytes,
    },
    /// A container of a pod, found through CRI. The workload's name is derived: CRI knows no owner of a pod.
    Container {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name without the suffix that its controller generated.
        workload: String,
        /// How `workload` was derived from the pod's name.
        workload_from: WorkloadFrom,
        /// The container's name within the pod.
        container: String,
    },
}

/// How a workload's name was derived from a pod's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadFrom {
    /// It is the pod's name: no label says that a part of it is generated.
    PodName,
    /// The label `pod-template-hash` (Deployment, ReplicaSet) named the generated part.
    PodTemplateHash,
    /// The label `controller-revision-hash` (DaemonSet, StatefulSet) says that the last part is generated.
    ControllerRevisionHash,
    /// The label `batch.kubernetes.io/job-name` or `job-name` is the name.
    JobName,
}

impl Subject {
    /// The subject of a container of a pod, with the workload's name derived from the pod's name and labels.
    ///
    /// Only a label is evidence that a part of a name is generated: a bare pod called `web-abcde` keeps its name.
    pub fn of_container(
        namespace: &str,
        pod: &str,
        pod_labels: &BTreeMap<String, String>,
        container: &str,
    ) -> Self {
        let (workload, workload_from) = workload_name(pod, pod_labels);
        Self::Container {
            namespace: namespace.to_owned(),
            workload: workload.to_owned(),
            workload_from,
            container: container.to_owned(),
        }
    }

    /// The logical key: equal keys are the same subject. How a name was derived is not part of it.
    pub fn key(&self) -> (&'static str, Vec<&[u8]>) {
        match self {
            Self::Command { program } => ("command", vec![program.as_slice()]),
            Self::Cgroup { path } => ("cgroup", vec![path.as_slice()]),
            Self::Container { namespace, workload, workload_from: _, container } => {
                ("container", vec![namespace.as_bytes(), workload.as_bytes(), container.as_bytes()])
            }
        }
    }
}

/// What controllers append: kubernetes `pkg/controller/controller_utils.go` and `names/generate.go` (five
/// random characters), pkg/controller/deployment/sync.go (name "-" pod-template-hash).
fn workload_name<'a>(pod: &'a str, labels: &BTreeMap<String, String>) -> (&'a str, WorkloadFrom) {
    let without_last = || pod.rsplit_once('-').map(|(head, _)| head).filter(|head| !head.is_empty());
    if let Some(hash) = labels.get("pod-template-hash")
        && let Some(owner) = without_last().and_then(|head| head.strip_suffix(hash.as_str()))
        && let Some(owner) = owner.strip_suffix('-').filter(|owner| !owner.is_empty())
    {
        return (owner, WorkloadFrom::PodTemplateHash);
    }
    let job = labels.get("batch.kubernetes.io/job-name").or_else(|| labels.get("job-name"));
    if let Some(job) = job
        && let Some(suffix) = pod.strip_prefix(job.as_str())
        && suffix.starts_with('-')
    {
        return (&pod[..job.len()], WorkloadFrom::JobName);
    }
    if labels.contains_key("controller-revision-hash")
        && let Some(owner) = without_last()
    {
        return (owner, WorkloadFrom::ControllerRevisionHash);
    }
    (pod, WorkloadFrom::PodName)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pod: &str, labels: &[(&str, &str)], expected: (&str, WorkloadFrom)) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(workload_name(pod, &labels), expected, "{pod} {labels:?}");
    }

    #[test]
    fn only_a_label_makes_a_suffix_generated() {
        check("web-7d4b9c-x2x4z", &[], ("web-7d4b9c-x2x4z", WorkloadFrom::PodName));
        check("web-7d4b9c-x2x4z", &[("pod-template-hash", "7d4b9c")], ("web", WorkloadFrom::PodTemplateHash));
        check("db-0", &[("controller-revision-hash", "db-6f")], ("db", WorkloadFrom::ControllerRevisionHash));
        check("backup-28-q9z2k", &[("job-name", "backup-28")], ("backup-28", WorkloadFrom::JobName));
    }

    #[test]
    fn labels_that_do_not_fit_the_name_change_nothing() {
        check("web", &[("pod-template-hash", "7d4b9c")], ("web", WorkloadFrom::PodName));
        check("-7d4b9c-x2x4z", &[("pod-template-hash", "7d4b9c")], ("-7d4b9c-x2x4z", WorkloadFrom::PodName));
        check("web-abcde", &[("job-name", "other")], ("web-abcde", WorkloadFrom::PodName));
        check("web", &[("controller-revision-hash", "x")], ("web", WorkloadFrom::PodName));
    }
}
