//! Containers on this node, by their processes' cgroups, and by the runtime where one answers. Owns putting both together; the
//! runtime's words are checked against no kernel fact here, so each is told as whose it is.

use std::collections::BTreeMap;

use khard_profile::Bytes;
use serde::Serialize;

use super::processes::Process;
use crate::{
    causes::with_causes,
    runtime::{self, ContainerDetails, Runtime, Seccomp, Wanted},
};

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Container {
    /// Its id, or its pod's for the process that holds the pod's namespaces.
    pub(super) id: String,
    /// What the cgroup's name says of who made it: `docker`, `libpod` (Podman), `cri-containerd`, `crio`; may be empty.
    pub(super) made_by: String,
    /// As the runtime has it.
    pub(super) name: Option<Name>,
    /// Whether it only holds a pod's namespaces, if the runtime tells.
    pub(super) is_sandbox: Option<bool>,
    /// Its first process.
    pub(super) pid: u32,
    /// AppArmor profiles of its first process, with their modes; none: unconfined, or no AppArmor.
    pub(super) apparmor: Vec<(Bytes, String)>,
    /// The AppArmor profile that the runtime was asked for.
    pub(super) wants_apparmor: Option<String>,
    /// `Seccomp` of /proc/PID/status: 0 none, 1 strict, 2 filter.
    pub(super) seccomp_mode: Option<u32>,
    /// How many filters.
    pub(super) seccomp_filters: Option<u32>,
    /// `runtime/default`, a file's path, or another word for what the runtime was asked for.
    pub(super) seccomp_from: Option<String>,
    pub(super) no_new_privs: Option<bool>,
}

/// Who a container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Name {
    /// In Kubernetes.
    Pod {
        namespace: String,
        pod: String,
        /// `None` for the pod's own process.
        container: Option<String>,
    },
    /// In Docker.
    Alone { container: String },
}

impl Container {
    /// For messages; not escaped.
    pub(super) fn label(&self) -> String {
        match &self.name {
            Some(Name::Alone { container }) => container.clone(),
            Some(Name::Pod { namespace, pod, container: Some(container) }) => {
                format!("{namespace}/{pod}/{container}")
            }
            Some(Name::Pod { namespace, pod, container: None }) => format!("{namespace}/{pod} (sandbox)"),
            None => {
                let id = self.id.get(..12).unwrap_or(&self.id);
                if self.made_by.is_empty() { id.to_owned() } else { format!("{} {id}", self.made_by) }
            }
        }
    }

    /// The seccomp file that it was started with.
    pub(super) fn seccomp_file(&self) -> Option<&str> {
        self.seccomp_from.as_deref().filter(|from| from.starts_with('/'))
    }
}

/// Containers with processes, by their ids.
pub(super) fn of_processes(processes: &[Process]) -> BTreeMap<String, Container> {
    let mut firsts: BTreeMap<&str, &Process> = BTreeMap::new();
    for process in processes {
        let Some((id, _)) = &process.container else { continue };
        // A container with the host's processes has no first one of its own kind: the oldest is it.
        let order = |process: &Process| (!process.is_init, process.started, process.pid);
        let first = firsts.entry(id).or_insert(process);
        if order(process) < order(first) {
            *first = process;
        }
    }
    let container = |(id, process): (&str, &Process)| {
        let made_by = process.container.as_ref().map(|(_, made_by)| made_by.clone()).unwrap_or_default();
        let container = Container {
            id: id.to_owned(),
            made_by,
            name: None,
            is_sandbox: None,
            pid: process.pid,
            apparmor: process.labels.iter().cloned().collect(),
            wants_apparmor: None,
            seccomp_mode: process.confinement.seccomp_mode,
            seccomp_filters: process.confinement.seccomp_filters,
            seccomp_from: None,
            no_new_privs: process.confinement.no_new_privs,
        };
        (id.to_owned(), container)
    };
    firsts.into_iter().map(container).collect()
}

/// What the runtime said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Which one answered.
    pub(super) runtime: Option<String>,
    /// What it did not answer, in words.
    pub(super) problems: Vec<String>,
}

/// Adds what a runtime tells of them.
pub(super) async fn ask_runtime(containers: &mut BTreeMap<String, Container>, option: Option<&str>) -> Asked {
    let mut asked = Asked::default();
    if let Err(error) = ask(containers, option, &mut asked).await {
        asked.problems.push(with_causes(&error));
    }
    asked
}

async fn ask(
    containers: &mut BTreeMap<String, Container>,
    option: Option<&str>,
    asked: &mut Asked,
) -> Result<(), runtime::RuntimeError> {
    let runtimes = runtime::connect(option, Wanted::Containers).await?;
    asked.runtime = Some(runtime::describe_all(&runtimes));
    for runtime in &runtimes {
        if let Err(error) = ask_one(containers, runtime, asked).await {
            asked.problems.push(format!("{}: {}", runtime.describe(), with_causes(&error)));
        }
    }
    Ok(())
}

async fn ask_one(
    containers: &mut BTreeMap<String, Container>,
    runtime: &Runtime,
    asked: &mut Asked,
) -> Result<(), runtime::RuntimeError> {
    for pod in runtime.pods().await? {
        if let Some(sandbox) = containers.get_mut(&pod.id.0) {
            sandbox.is_sandbox = Some(true);
            sandbox.name = Some(Name::Pod { namespace: pod.namespace, pod: pod.name, container: None });
        }
    }
    for listed in runtime.containers().await? {
        let Some(container) = containers.get_mut(&listed.id.0) else { continue };
        container.is_sandbox = Some(false);
        container.name = Some(match &listed.pod {
            None => Name::Alone { container: listed.name.clone() },
            Some(pod) => Name::Pod {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                container: Some(listed.name.clone()),
            },
        });
        match runtime.details(&listed).await {
            Ok(details) => add_details(container, details),
            Err(error) => asked.problems.push(with_causes(&error)),
        }
    }
    Ok(())
}

fn add_details(container: &mut Container, details: ContainerDetails) {
    container.wants_apparmor = details.apparmor_profile;
    container.seccomp_from = match details.seccomp {
        Seccomp::Unknown => None,
        Seccomp::None => Some("unconfined".to_owned()),
        Seccomp::RuntimeDefault => Some("runtime/default".to_owned()),
        Seccomp::Localhost(file) => Some(file),
        Seccomp::Other => Some("other".to_owned()),
    };
}
