//! Who an instance is and what confines it, put together from what the runtime and the kernel tell.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use khard_profile::{
    Bytes, escape,
    recording::{Confinement, ContainerRun, Runtime as RecordedRuntime, SeccompInForce, Subject},
};

use crate::{
    cgroup::CgroupTree,
    confinement,
    runtime::{Container, ContainerDetails, Pod, Privileged, Seccomp},
    session::Identity,
};

/// A container, as far as the runtime and its first process tell.
pub(super) fn of_container(
    container: &Container,
    details: Option<&ContainerDetails>,
    manager: &str,
) -> Identity {
    let confinement = details.map_or(
        Confinement {
            no_new_privs: None,
            privileged: None,
            seccomp: SeccompInForce::Unknown { n_filters: None },
            apparmor: confinement::apparmor_of(None),
        },
        confinement_of,
    );
    let mut notes = Vec::new();
    if confinement.privileged == Some(true) {
        notes.push("the container is privileged: runtimes apply no seccomp profile to it".to_owned());
    }
    let (subject, label) = match &container.pod {
        Some(pod) => (
            Subject::of_container(&pod.namespace, &pod.name, &pod.labels, &container.name),
            format!("{}/{}", pod.name, container.name),
        ),
        None => {
            (Subject::of_docker(&container.name, &container.labels, &container.image), container.name.clone())
        }
    };
    let of_pod = |of: fn(&Pod) -> &String| container.pod.as_ref().map(of).cloned().unwrap_or_default();
    Identity {
        subject,
        label,
        container: Some(ContainerRun {
            container_id: container.id.0.clone(),
            name: if container.pod.is_none() { container.name.clone() } else { String::new() },
            sandbox_id: of_pod(|pod| &pod.id.0),
            pod: of_pod(|pod| &pod.name),
            attempt: container.attempt,
            image: container.image.clone(),
            image_id: container.image_id.clone(),
        }),
        runtime: details.map(|details| RecordedRuntime {
            name: details.oci_runtime.name.clone().unwrap_or_else(|| "unknown".to_owned()),
            version: details.oci_runtime.version.clone(),
            handler: of_pod(|pod| &pod.handler),
            manager: Some(manager.to_owned()),
        }),
        confinement,
        init_pid: details.and_then(|details| details.pid),
        notes,
    }
}

fn confinement_of(details: &ContainerDetails) -> Confinement {
    let process = details.pid.map(confinement::of_process).unwrap_or_default();
    let n_filters = process.seccomp_filters;
    let seccomp = match &details.seccomp {
        // The configuration is the last word only where the process has none of its own yet.
        Seccomp::None => match process.seccomp_mode {
            Some(2) => SeccompInForce::Unknown { n_filters },
            _ => SeccompInForce::None,
        },
        Seccomp::RuntimeDefault => SeccompInForce::RuntimeDefault { n_filters },
        Seccomp::Localhost(path) => SeccompInForce::Localhost { path: Bytes::from(path.as_str()), n_filters },
        Seccomp::Unknown | Seccomp::Other => match process.seccomp_mode {
            Some(0) => SeccompInForce::None,
            _ => SeccompInForce::Unknown { n_filters },
        },
    };
    Confinement {
        no_new_privs: details.no_new_privileges,
        privileged: match details.privileged {
            Privileged::Stated(is) | Privileged::Derived(is) => Some(is),
            Privileged::Unknown => None,
        },
        seccomp,
        apparmor: confinement::apparmor_of(details.pid),
    }
}

/// A command that khard is about to start: it inherits what confines khard.
pub(super) fn of_command(program: &OsStr) -> Identity {
    let own_pid = std::process::id();
    let own = confinement::of_process(own_pid);
    Identity {
        subject: Subject::Command { program: Bytes::from(program.as_bytes()) },
        label: program.to_string_lossy().into_owned(),
        container: None,
        runtime: None,
        confinement: Confinement {
            no_new_privs: own.no_new_privs,
            privileged: None,
            seccomp: seccomp_of(own),
            apparmor: confinement::apparmor_of(Some(own_pid)),
        },
        init_pid: None,
        notes: Vec::new(),
    }
}

/// Says at once what a recording under a filter cannot hold, so that nobody learns it from the summary.
pub(super) fn warn_of_filter(identity: &Identity) {
    let name = escape::terminal(identity.label.as_bytes());
    let filter = match &identity.confinement.seccomp {
        SeccompInForce::None => return,
        SeccompInForce::RuntimeDefault { .. } => "the runtime's default seccomp filter".to_owned(),
        SeccompInForce::Localhost { path, .. } => {
            format!("the seccomp filter {}", escape::terminal(path.as_slice()))
        }
        SeccompInForce::Unknown { .. } => "a seccomp filter".to_owned(),
    };
    tracing::warn!(
        "{name} runs under {filter}: what the program would do after the calls that it refuses is not seen; record with seccomp unconfined to see it"
    );
}

/// What a process is under, for one whose profile's origin nobody tells.
fn seccomp_of(process: confinement::ProcessConfinement) -> SeccompInForce {
    match process.seccomp_mode {
        Some(0) => SeccompInForce::None,
        _ => SeccompInForce::Unknown { n_filters: process.seccomp_filters },
    }
}

/// A plain cgroup.
pub(super) fn of_cgroup(tree: &CgroupTree, path: &Path) -> Identity {
    // A cgroup that is empty yet is confined by nothing but what its processes bring with them.
    let first = tree.processes(path).first().copied();
    let process = first.map(confinement::of_process);
    let seccomp = process.map_or(SeccompInForce::None, seccomp_of);
    let no_new_privs = process.and_then(|process| process.no_new_privs);
    let apparmor = confinement::apparmor_of(first);
    Identity {
        subject: Subject::Cgroup { path: Bytes::from(path.as_os_str().as_bytes()) },
        label: path.to_string_lossy().into_owned(),
        container: None,
        runtime: None,
        confinement: Confinement { no_new_privs, privileged: None, seccomp, apparmor },
        init_pid: first,
        notes: Vec::new(),
    }
}
