//! Container runtimes, asked through their own APIs: which pods and containers there are, what happens to them, and
//! under which restrictions they run.
//!
//! Owns questions and typed answers. It must not know maps, rings or what a recording is. Names and messages in the
//! answers come from outside: escape them at each sink.
pub mod cgroup_name;
mod convert;
pub mod cri;
mod details;
mod error;
#[cfg(test)]
mod fake;
mod find;
mod oci;
mod process;
mod sandbox;
mod watch;

pub use details::{ContainerDetails, Privileged, Seccomp};
pub use error::{Candidate, RuntimeError, Tried, Unusable};
pub use oci::OciRuntime;
pub(crate) use oci::find_in;
pub use sandbox::{Sandbox, SandboxKind};
pub use watch::{Change, Watch, WatchFilter};

use cri::{connection::Connection, endpoint};
use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

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

/// One container instance. Init containers are ordinary ones here: the CRI has no mark for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name in the pod.
    pub name: String,
    /// How often it was made anew in this pod.
    pub attempt: u32,
    /// The pod it is part of, as far as the runtime lists it.
    pub pod: Pod,
    /// Its state.
    pub state: ContainerState,
    /// The image as the pod asked for it.
    pub image: String,
    /// The image's id (a digest of its configuration), which is the same wherever it came from.
    pub image_id: String,
    /// In nanoseconds since 1970.
    pub created_at_ns: i64,
    /// In nanoseconds since 1970; known once it was asked for by itself.
    pub started_at_ns: Option<i64>,
    /// In nanoseconds since 1970, likewise.
    pub finished_at_ns: Option<i64>,
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
pub struct Runtime {
    connection: Connection,
}

impl Runtime {
    /// Connects to the runtime at `option`, else the environment's, else crictl's, else the first well-known one that
    /// answers.
    ///
    /// # Errors
    /// `Endpoint` or `NoEndpoint`, with what was tried.
    pub async fn connect(option: Option<&str>) -> Result<Self, RuntimeError> {
        let environment = std::env::var(endpoint::ENDPOINT_VARIABLE).ok();
        let crictl = std::fs::read_to_string(endpoint::CRICTL_CONFIG).ok();
        let candidates = endpoint::candidates(option, environment.as_deref(), crictl.as_deref());
        Self::connect_to(candidates, cri::connection::DEFAULT_LIMIT).await
    }

    /// Connects to the first of `candidates`, giving each call at most `limit`.
    ///
    /// # Errors
    /// As [`Runtime::connect`].
    pub async fn connect_to(
        candidates: Vec<endpoint::Endpoint>,
        limit: Duration,
    ) -> Result<Self, RuntimeError> {
        Ok(Self { connection: Connection::open(candidates, limit).await? })
    }

    /// The runtime's name and version, as it said when it was found.
    #[must_use]
    pub fn version(&self) -> Version {
        let version = self.connection.version();
        Version { name: version.runtime_name.clone(), version: version.runtime_version.clone() }
    }

    /// The wire, for a program that makes pods as kubelet does.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The socket it answers on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.connection.path()
    }
}
