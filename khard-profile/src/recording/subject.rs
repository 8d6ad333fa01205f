//! Owns who was recorded: the logical subject, by which recordings merge. Knows nothing about one run of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Bytes;
use crate::escape::terminal;

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
    /// A container that is in no pod, found through Docker's API.
    Docker {
        /// What stays the same of it when it is made anew.
        name: String,
        /// How `name` was found.
        name_from: NameFrom,
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

/// What a container of Docker's is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameFrom {
    /// The container's own name: somebody chose it.
    Container,
    /// The service's, of Docker Compose, which numbers its containers: the label `com.docker.compose.service`.
    ComposeService,
    /// The image's, without registry, folder and tag: the container's own name was made up by Docker.
    Image,
}

impl Subject {
    /// The subject of a container of Docker's, with a name that is the same in the next run: containers are made anew, and nobody has
    /// to name them.
    pub fn of_docker(container: &str, labels: &BTreeMap<String, String>, image: &str) -> Self {
        let service = labels.get("com.docker.compose.service").map(String::as_str);
        let image = || Some(image_name(image)).filter(|name| !name.is_empty() && is_made_up(container));
        let (name, name_from) = match service.filter(|service| !service.is_empty()) {
            Some(service) => (service, NameFrom::ComposeService),
            None => image().map_or((container, NameFrom::Container), |name| (name, NameFrom::Image)),
        };
        Self::Docker { name: name.to_owned(), name_from }
    }

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

    /// Whether it has a root file system of its own.
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Docker { .. } | Self::Container { .. })
    }

    /// The key in words, for a terminal.
    pub fn in_words(&self) -> String {
        let (kind, names) = self.key();
        let names: Vec<String> = names.into_iter().map(terminal).collect();
        format!("{kind} {}", names.join("/"))
    }

    /// The logical key: equal keys are the same subject. How a name was derived is not part of it.
    pub fn key(&self) -> (&'static str, Vec<&[u8]>) {
        match self {
            Self::Command { program } => ("command", vec![program.as_slice()]),
            Self::Cgroup { path } => ("cgroup", vec![path.as_slice()]),
            Self::Docker { name, name_from: _ } => ("docker", vec![name.as_bytes()]),
            Self::Container { namespace, workload, workload_from: _, container } => {
                ("container", vec![namespace.as_bytes(), workload.as_bytes(), container.as_bytes()])
            }
        }
    }
}

/// The first halves of the names that Docker makes up, in all its versions: moby, `namesgenerator`
/// (names-generator.go), Apache-2.0.
const MADE_UP: [&str; 109] = [
    "admiring",
    "adoring",
    "affectionate",
    "agitated",
    "amazing",
    "angry",
    "awesome",
    "beautiful",
    "blissful",
    "bold",
    "boring",
    "brave",
    "busy",
    "charming",
    "clever",
    "cocky",
    "compassionate",
    "competent",
    "condescending",
    "confident",
    "cool",
    "cranky",
    "crazy",
    "dazzling",
    "determined",
    "distracted",
    "dreamy",
    "eager",
    "ecstatic",
    "elastic",
    "elated",
    "elegant",
    "eloquent",
    "epic",
    "exciting",
    "fervent",
    "festive",
    "flamboyant",
    "focused",
    "friendly",
    "frosty",
    "funny",
    "gallant",
    "gifted",
    "goofy",
    "gracious",
    "great",
    "happy",
    "hardcore",
    "heuristic",
    "hopeful",
    "hungry",
    "infallible",
    "inspiring",
    "intelligent",
    "interesting",
    "jolly",
    "jovial",
    "keen",
    "kind",
    "laughing",
    "loving",
    "lucid",
    "magical",
    "modest",
    "musing",
    "mystifying",
    "naughty",
    "nervous",
    "nice",
    "nifty",
    "nostalgic",
    "objective",
    "optimistic",
    "peaceful",
    "pedantic",
    "pensive",
    "practical",
    "priceless",
    "quirky",
    "quizzical",
    "recursing",
    "relaxed",
    "reverent",
    "romantic",
    "sad",
    "serene",
    "sharp",
    "silly",
    "sleepy",
    "stoic",
    "strange",
    "stupefied",
    "suspicious",
    "sweet",
    "tender",
    "thirsty",
    "trusting",
    "unruffled",
    "upbeat",
    "vibrant",
    "vigilant",
    "vigorous",
    "wizardly",
    "wonderful",
    "xenodochial",
    "youthful",
    "zealous",
    "zen",
];

/// Whether Docker made a container's name up: an adjective of its own, and somebody's name with a digit at most.
fn is_made_up(container: &str) -> bool {
    let Some((adjective, name)) = container.split_once('_') else { return false };
    let name = name.strip_suffix(|c: char| c.is_ascii_digit()).unwrap_or(name);
    MADE_UP.contains(&adjective) && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// `nginx` of `registry.example:5000/web/nginx:1.27@sha256:…`.
fn image_name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    let last = image.rsplit_once('/').map_or(image, |(_, last)| last);
    last.split_once(':').map_or(last, |(name, _)| name)
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
    fn a_container_of_docker_s_is_called_by_what_stays_the_same() {
        let of = |name: &str, labels: &[(&str, &str)], image: &str| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            match Subject::of_docker(name, &labels, image) {
                Subject::Docker { name, name_from } => (name, name_from),
                other => panic!("{other:?}"),
            }
        };
        let image = "registry.example:5000/web/nginx:1.27";
        let expect = |name: &str, from| (name.to_owned(), from);
        assert_eq!(of("web", &[], image), expect("web", NameFrom::Container));
        assert_eq!(of("thirsty_euler", &[], image), expect("nginx", NameFrom::Image));
        assert_eq!(of("happy_turing7", &[], "nginx@sha256:12ab"), expect("nginx", NameFrom::Image));
        let compose = [("com.docker.compose.project", "shop"), ("com.docker.compose.service", "db")];
        assert_eq!(of("shop-db-1", &compose, "postgres:16"), expect("db", NameFrom::ComposeService));
        for chosen in ["my_app", "happy", "happy_", "happy_path_2", "happy-turing", "db_primary"] {
            assert_eq!(of(chosen, &[], image), expect(chosen, NameFrom::Container));
        }
        // Nothing better is known of it.
        assert_eq!(of("happy_turing", &[], ""), expect("happy_turing", NameFrom::Container));
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
