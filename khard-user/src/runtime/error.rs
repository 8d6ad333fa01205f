//! What can go wrong between khard and a container runtime. Owns the words; it must not know how the calls are made.
use super::{ContainerId, Sandbox, endpoint::Origin};
use std::{fmt, io, time::Duration};

/// Why one socket cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// Not the address of a unix socket.
    #[error("not a unix socket's address; write unix:///absolute/path")]
    Address,
    /// Nothing is there.
    #[error("no such file")]
    Missing,
    /// Something else is there.
    #[error("not a socket")]
    NotASocket,
    /// This user may not connect.
    #[error("permission denied; run as root")]
    Permission,
    /// The file is there and nobody listens.
    #[error("connection refused: nobody listens; start the runtime")]
    Refused,
    /// It accepts, and says nothing.
    #[error("accepts connections but did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// It hung up instead of answering.
    #[error("closed the connection instead of answering")]
    Closed,
    /// Another protocol.
    #[error("speaks something else than gRPC or Docker's API (first bytes {})", first.escape_ascii())]
    NotGrpc {
        /// What it said first.
        first: Vec<u8>,
    },
    /// gRPC without the CRI.
    #[error("speaks gRPC but serves no CRI v1 ({}); containerd needs its CRI plugin: see disabled_plugins in its config.toml", message.escape_debug())]
    NoCri {
        /// The server's words.
        message: String,
    },
    /// CRI of before Kubernetes 1.23.
    #[error("serves CRI v1alpha2 only; khard needs v1 (containerd 1.6, CRI-O 1.20 or later)")]
    OldCri,
    /// Something else than Docker's API.
    #[error("does not speak Docker's API")]
    NotDocker(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// HTTP, and no version of Docker's API.
    #[error("answers HTTP status {0} when asked for the version of Docker's API")]
    NoVersion(u16),
    /// Docker's API of before 20.10.
    #[error("serves Docker's API up to {} only; khard needs 1.41 (Docker 20.10 or later)", .0.escape_debug())]
    OldDocker(String),
    /// The system's refusal of the connection.
    #[error("cannot connect")]
    Io(#[source] io::Error),
    /// The first call failed in another way.
    #[error("first call failed")]
    FirstCall(#[source] Box<RuntimeError>),
}

/// A socket that was tried and the reason against it.
#[derive(Debug)]
pub struct Tried {
    /// The address as written.
    pub endpoint: String,
    /// The reason.
    pub why: Unusable,
}

/// A container or pod among several that fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The full id, which names it for certain.
    pub id: String,
    /// `namespace/pod`, `namespace/pod/container`, or a container's name, as the runtime says it.
    pub name: String,
    /// In which state it is.
    pub state: &'static str,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.id.escape_debug(), self.name.escape_debug(), self.state)
    }
}

/// A failure of the runtime, or of a question to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The endpoint that was named cannot be used.
    #[error("container runtime at {endpoint} (from {origin})")]
    Endpoint {
        /// The address as written.
        endpoint: String,
        /// Who named it.
        origin: Origin,
        /// What is wrong with it.
        #[source]
        why: Unusable,
    },
    /// None was named, and no well-known one can be used.
    #[error(
        "no container runtime answers ({}); start one, or name its socket with --runtime-endpoint",
        list(tried, "; ")
    )]
    NoEndpoint {
        /// Each socket and the reason against it.
        tried: Vec<Tried>,
    },
    /// A call was not answered in time.
    #[error("container runtime did not answer {call} within {} s", limit.as_secs_f32())]
    Silent {
        /// The call.
        call: &'static str,
        /// The limit that passed.
        limit: Duration,
    },
    /// The connection broke during a call, or could not be made again.
    #[error("lost the container runtime in {call}")]
    Lost {
        /// The call.
        call: &'static str,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Docker answered with an error of its own.
    #[error("docker refused {call}: {} (HTTP status {status})", message.escape_debug())]
    Refused {
        /// The call.
        call: &'static str,
        /// HTTP's kind of failure.
        status: u16,
        /// The daemon's words.
        message: String,
    },
    /// Pods are asked for, and the runtime that was named is Docker.
    #[error(
        "{} has no pods: name a container of it with --container, or a CRI's socket with --runtime-endpoint",
        runtime.escape_debug()
    )]
    NoPods {
        /// Which.
        runtime: String,
    },
    /// A container of Docker's is to be followed, and the runtime that was named is a CRI.
    #[error(
        "{} is not Docker, which is to start the container: leave --runtime-endpoint out, or name Docker's socket",
        runtime.escape_debug()
    )]
    NotDocker {
        /// Which.
        runtime: String,
    },
    /// A CRI runtime answered with an error of its own.
    #[error("container runtime refused {call}: {} ({code:?})", message.escape_debug())]
    Answer {
        /// The CRI call.
        call: &'static str,
        /// gRPC's kind of failure.
        code: tonic::Code,
        /// The runtime's words.
        message: String,
    },
    /// No pod of that name.
    #[error("no pod {} in namespace {}{}", name.escape_debug(), namespace.escape_debug(), elsewhere_text(elsewhere))]
    PodNotFound {
        /// The name that was asked for.
        name: String,
        /// The namespace that was asked for.
        namespace: String,
        /// Namespaces that have a pod of this name.
        elsewhere: Vec<String>,
    },
    /// The pod is there, but its sandbox has ended.
    #[error("pod {}/{} has ended; use --wait to record its next start", namespace.escape_debug(), name.escape_debug())]
    PodEnded {
        /// The pod's name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// Several live pods have this name and namespace.
    #[error("pod {} is ambiguous: {}; name one of its containers with --container ID", name.escape_debug(), list(candidates, ", "))]
    PodAmbiguous {
        /// The name that was asked for.
        name: String,
        /// The pods.
        candidates: Vec<Candidate>,
    },
    /// No container with such an id or name.
    #[error("no container has the id or name {} (asked {})", key.escape_debug(), list(asked, ", ").escape_debug())]
    ContainerNotFound {
        /// What was asked for.
        key: String,
        /// Which runtimes.
        asked: Vec<String>,
    },
    /// Several containers fit.
    #[error("{} fits several containers: {}; give more of the id", key.escape_debug(), list(candidates, ", "))]
    ContainerAmbiguous {
        /// What was asked for.
        key: String,
        /// The containers.
        candidates: Vec<Candidate>,
    },
    /// It was there, and is no more.
    #[error("container {id} has been removed meanwhile")]
    Vanished {
        /// The container.
        id: ContainerId,
    },
    /// The workload runs on another kernel than the one that khard watches.
    #[error(
        "container {id} runs in a sandbox ({sandbox}): the host's kernel sees the sandbox, not the workload; refused"
    )]
    Sandboxed {
        /// The container.
        id: ContainerId,
        /// Which kind, and by what it was recognised.
        sandbox: Sandbox,
    },
    /// It shares its cgroup with others, so its calls cannot be told from theirs.
    #[error(
        "container {id} has no cgroup of its own in the cgroup v2 tree (it is in {}); use a runtime and driver that make one",
        found.escape_debug()
    )]
    NoOwnCgroup {
        /// The container.
        id: ContainerId,
        /// Where its process is instead.
        found: String,
    },
    /// What the runtime said about a container cannot be read.
    #[error("container runtime's details of {id} are no JSON")]
    Details {
        /// The container.
        id: ContainerId,
        /// Where reading stopped.
        #[source]
        source: serde_json::Error,
    },
}

impl RuntimeError {
    /// Whether asking again later may succeed: the runtime is away, or too busy to answer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Lost { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            // A runtime that starts or stops answers Unavailable, or Unknown with "server is not initialized yet".
            Self::Answer { code, .. } => {
                !matches!(code, tonic::Code::NotFound | tonic::Code::InvalidArgument)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.why)
    }
}

fn list<T: fmt::Display>(items: &[T], between: &str) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(between)
}

fn elsewhere_text(namespaces: &[String]) -> String {
    match namespaces {
        [] => "; use --wait to record it from its start".to_owned(),
        some => format!("; there is one in {}", list(some, ", ").escape_debug()),
    }
}
