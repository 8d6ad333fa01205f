//! Container runtimes, asked through their own APIs: which pods and containers there are, what happens to them, and
//! under which restrictions they run.
//!
//! Owns questions and typed answers. It must not know maps, rings or what a recording is. Names and messages in the
//! answers come from outside: escape them at each sink.
pub mod cgroup_name;
mod connect;
pub mod cri;
mod details;
pub mod docker;
pub mod endpoint;
mod error;
mod find;
mod oci;
mod process;
mod sandbox;
mod socket;
mod watch;

pub(crate) use connect::find_out;
pub use connect::{DEFAULT_LIMIT, Wanted, connect};
pub use details::{ContainerDetails, Privileged, Seccomp};
pub use error::{Candidate, RuntimeError, Tried, Unusable};
pub use find::find_container;
pub use oci::OciRuntime;
pub(crate) use oci::find_in;
pub use sandbox::{Sandbox, SandboxKind};
pub use watch::{Change, Watch, WatchFilter};

use std::{collections::BTreeMap, fmt, path::Path};

/// A container's id as the runtime gives it: 64 hexadecimal digits in every known one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

/// A pod sandbox's id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

/// One sandbox of a pod. A pod whose sandbox was made anew has several: the same name, namespace and uid, another
/// attempt and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The sandbox's id; its pause container, if any, has the same one and is no target.
    pub id: PodId,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid: kubelet's, or the configuration file's hash for a static pod.
    pub uid: String,
    /// How often the sandbox was made anew.
    pub attempt: u32,
    /// Whether the sandbox lives.
    pub is_ready: bool,
    /// Since when it is there, in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// The runtime class's handler; empty is the default.
    pub handler: String,
    /// The pod's labels. Controllers say by them which part of its name they generated.
    pub labels: BTreeMap<String, String>,
}

/// The state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, and not started.
    Created,
    /// Started.
    Running,
    /// Ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

impl ContainerState {
    /// As `crictl ps` writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        }
    }
}

/// One container instance. Init containers are ordinary ones here: the CRI has no mark for them. Docker starts one instance again and
/// again, each time in a new cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name, in the pod if it is in one.
    pub name: String,
    /// How often it was made anew in this pod, or started again by Docker itself.
    pub attempt: u32,
    /// The pod it is part of, as far as the runtime lists it; Docker has none.
    pub pod: Option<Pod>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its state.
    pub state: ContainerState,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id (a digest of its configuration), which is the same wherever it came from.
    pub image_id: String,
    /// In nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Whether it has ever run; known once it was asked for by itself.
    pub has_started: bool,
    /// Its exit status once it has ended, likewise.
    pub exit_code: Option<i32>,
}

/// What the runtime says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `containerd`, `cri-o` …
    pub name: String,
    /// Its own version.
    pub version: String,
}

/// A container runtime that answers. Cheap to clone; it reconnects by itself.
#[derive(Debug, Clone)]
pub enum Runtime {
    /// By the Container Runtime Interface.
    Cri(Box<cri::connection::Connection>),
    /// By Docker's API.
    Docker(docker::connection::Connection),
}

/// Names and versions of several.
pub(crate) fn describe_all(runtimes: &[Runtime]) -> String {
    runtimes.iter().map(Runtime::describe).collect::<Vec<_>>().join(", ")
}

impl Runtime {
    /// The runtime's name and version, as it said when it was found.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Cri(cri) => cri.version(),
            Self::Docker(docker) => docker.version(),
        }
    }

    /// Name and version in one.
    #[must_use]
    pub fn describe(&self) -> String {
        let Version { name, version } = self.version();
        format!("{name} {version}")
    }

    /// Whether it knows pods.
    #[must_use]
    pub fn has_pods(&self) -> bool {
        matches!(self, Self::Cri(_))
    }

    /// The socket it answers on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match self {
            Self::Cri(cri) => cri.path(),
            Self::Docker(docker) => docker.path(),
        }
    }

    /// All sandboxes, ready or not.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn pods(&self) -> Result<Vec<Pod>, RuntimeError> {
        match self {
            Self::Cri(cri) => cri.pods().await,
            Self::Docker(_) => Ok(Vec::new()),
        }
    }

    /// All containers, oldest first, with `pods` as the list of pods, without what only a status tells.
    async fn containers_of(&self, pods: &[Pod]) -> Result<Vec<Container>, RuntimeError> {
        let mut found = match self {
            Self::Cri(cri) => cri.containers_of(pods).await,
            Self::Docker(docker) => docker.containers().await,
        }?;
        found.sort_by(|a, b| (a.created_at_ns, &a.id).cmp(&(b.created_at_ns, &b.id)));
        Ok(found)
    }

    /// One container, without what only a status tells.
    async fn listed(&self, id: &ContainerId) -> Result<Option<Container>, RuntimeError> {
        match self {
            Self::Cri(cri) => cri.container(id).await,
            Self::Docker(docker) => Ok(docker.containers().await?.into_iter().find(|c| c.id == *id)),
        }
    }

    /// Asks for the container's own status and completes it.
    async fn with_status(&self, container: Container) -> Result<Container, RuntimeError> {
        match self {
            Self::Cri(cri) => cri.with_status(container).await,
            Self::Docker(docker) => docker.with_status(container).await,
        }
    }

    /// Everything about one container. `container` may be from an older list.
    ///
    /// # Errors
    /// `Vanished`, `Sandboxed`, `NoOwnCgroup`, `Details`, or those of a call.
    pub async fn details(&self, container: &Container) -> Result<ContainerDetails, RuntimeError> {
        let mut details = match self {
            Self::Cri(cri) => cri.details(container).await,
            Self::Docker(docker) => docker.details(container).await,
        }?;
        if let Some(binary) = details.oci_runtime.binary.take() {
            details.oci_runtime = OciRuntime::ask(binary).await;
        }
        Ok(details)
    }

    /// Waits for something to happen to a container, again and again, and tells it each time. Returns `false` when the runtime
    /// has no events to give.
    async fn follow_events(&self, happened: impl FnMut()) -> bool {
        match self {
            Self::Cri(cri) => cri.follow_events(happened).await,
            Self::Docker(docker) => {
                // Why they ended is told by the next list.
                let _ = docker.follow_events(happened).await;
                true
            }
        }
    }
}
