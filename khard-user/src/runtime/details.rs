//! Under which restrictions a container runs, by which program it was started, and where its cgroup is.
//!
//! Owns what is to be known of that, and which cgroup is a container's own. How a runtime tells it is `cri`'s and `docker`'s.
use super::{Container, OciRuntime, RuntimeError, cgroup_name, process};
use std::path::{Path, PathBuf};

/// The seccomp filter that a container is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// The runtime does not tell.
    Unknown,
    /// No filter.
    None,
    /// The runtime's own.
    RuntimeDefault,
    /// A file of the node.
    Localhost(String),
    /// Some filter; the runtime does not tell which.
    Other,
}

/// Whether a container is privileged, and who says so. In a privileged container runtimes apply no seccomp filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileged {
    /// As the runtime says itself.
    Stated(bool),
    /// As follows from its OCI configuration: every device is allowed.
    Derived(bool),
    /// Neither is known.
    Unknown,
}

impl Privileged {
    /// Whether it is known to be privileged.
    #[must_use]
    pub fn is_true(self) -> bool {
        matches!(self, Self::Stated(true) | Self::Derived(true))
    }
}

/// What a recording must know about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDetails {
    /// The container, with its times and exit code.
    pub container: Container,
    /// Its first process on the host; `None` before the start and after the end.
    pub pid: Option<u32>,
    /// Its cgroup, from the root of the v2 tree. Of a running container this is the kernel's word, else the OCI
    /// configuration's, and `None` where neither is known.
    pub cgroup: Option<PathBuf>,
    /// Whether execve can gain no privileges; `None` is unknown.
    pub no_new_privileges: Option<bool>,
    /// Whether it is privileged.
    pub privileged: Privileged,
    /// Its seccomp filter.
    pub seccomp: Seccomp,
    /// The name of its `AppArmor` profile.
    pub apparmor_profile: Option<String>,
    /// The program that starts it.
    pub oci_runtime: OciRuntime,
}

/// The container's own cgroup, given where its first process is: as configured if the process is in it or below, else
/// (a nested cgroup namespace shifts paths) up to the directory that bears the container's id.
pub(super) fn own_cgroup(
    container: &Container,
    found: Option<&Path>,
    configured: Option<&Path>,
) -> Result<PathBuf, RuntimeError> {
    let shared = |found: &Path| RuntimeError::NoOwnCgroup {
        id: container.id.clone(),
        found: found.to_string_lossy().into_owned(),
    };
    let Some(found) = found else { return Err(shared(Path::new("no cgroup v2 tree"))) };
    if let Some(configured) = configured.filter(|c| process::is_within(found, c)) {
        return Ok(configured.to_owned());
    }
    let bears_id = |path: &&Path| cgroup_name::is_own(path, &container.id.0);
    // From the outside: only what the runtime made can be above what the container made.
    found.ancestors().filter(bears_id).last().map(Path::to_owned).ok_or_else(|| shared(found))
}
