//! A pod's description as CRI messages. Owns what kubelet adds to it; asks nobody.
//!
//! Source of labels, annotations and defaults: Kubernetes 1.33, `pkg/kubelet/kuberuntime/labels.go`,
//! `kuberuntime_sandbox_linux.go`, `security_context.go` and `pkg/securitycontext/util.go`.
use super::spec::{ContainerSpec, PodSpec, Seccomp};
use anyhow::Result;
use khard_user::runtime::cri::generated::{self as wire, NamespaceMode, security_profile::ProfileType};
use std::{collections::HashMap, path::Path};

/// Where the description is kept, so that a later command can make one more attempt of a container.
pub(super) const SPEC_ANNOTATION: &str = "khard.test/spec";

/// Hidden from a container that is not privileged.
const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Read only for a container that is not privileged.
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn sandbox(spec: &PodSpec, attempt: u32) -> Result<wire::PodSandboxConfig> {
    let all = spec.init_containers.iter().chain(&spec.containers);
    let security_context = wire::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        privileged: all.into_iter().any(|c| c.privileged),
        seccomp: Some(profile(&Seccomp::RuntimeDefault)),
        ..Default::default()
    };
    let mut labels: HashMap<_, _> = spec.labels.clone().into_iter().collect();
    labels.extend(pod_labels(spec));
    Ok(wire::PodSandboxConfig {
        metadata: Some(wire::PodSandboxMetadata {
            name: spec.name.clone(),
            uid: spec.uid.clone(),
            namespace: spec.namespace.clone(),
            attempt,
        }),
        // On the host's network a pod has the host's name.
        hostname: if spec.host_network { String::new() } else { spec.name.clone() },
        log_directory: text(&spec.log_directory()),
        labels,
        annotations: [(SPEC_ANNOTATION.to_owned(), serde_json::to_string(spec)?)].into(),
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: spec.cgroup_parent(),
            security_context: Some(security_context),
            ..Default::default()
        }),
        ..Default::default()
    })
}

pub(super) fn container(spec: &PodSpec, container: &ContainerSpec, attempt: u32) -> wire::ContainerConfig {
    let mut labels: HashMap<_, _> = pod_labels(spec).into();
    labels.insert("io.kubernetes.container.name".to_owned(), container.name.clone());
    let mounts = container.mounts.iter().map(|mount| wire::Mount {
        host_path: text(&mount.host),
        container_path: text(&mount.container),
        readonly: mount.read_only,
        ..Default::default()
    });
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(wire::ImageSpec { image: container.image.clone(), ..Default::default() }),
        command: container.command.clone(),
        args: container.args.clone(),
        envs: container
            .env
            .iter()
            .map(|(key, value)| wire::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        mounts: mounts.collect(),
        labels,
        annotations: [("io.kubernetes.container.restartCount".to_owned(), attempt.to_string())].into(),
        log_path: format!("{}/{attempt}.log", container.name),
        linux: Some(wire::LinuxContainerConfig {
            security_context: Some(security_context(spec, container)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn security_context(spec: &PodSpec, container: &ContainerSpec) -> wire::LinuxContainerSecurityContext {
    let paths = |paths: &[&str]| -> Vec<String> {
        if container.privileged { Vec::new() } else { paths.iter().map(ToString::to_string).collect() }
    };
    let number = |value: Option<i64>| value.map(|value| wire::Int64Value { value });
    wire::LinuxContainerSecurityContext {
        capabilities: Some(wire::Capability {
            add_capabilities: container.add_capabilities.clone(),
            drop_capabilities: container.drop_capabilities.clone(),
            ..Default::default()
        }),
        privileged: container.privileged,
        namespace_options: Some(namespaces(spec)),
        run_as_user: number(container.user),
        run_as_group: number(container.group),
        readonly_rootfs: container.read_only_root,
        no_new_privs: container.no_new_privileges,
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READ_ONLY_PATHS),
        seccomp: Some(profile(&container.seccomp)),
        apparmor: container.apparmor.as_ref().map(|name| wire::SecurityProfile {
            profile_type: ProfileType::Localhost as i32,
            localhost_ref: name.clone(),
        }),
        ..Default::default()
    }
}

fn namespaces(spec: &PodSpec) -> wire::NamespaceOption {
    let network = if spec.host_network { NamespaceMode::Node } else { NamespaceMode::Pod };
    wire::NamespaceOption {
        network: network as i32,
        pid: NamespaceMode::Container as i32,
        ipc: NamespaceMode::Pod as i32,
        ..Default::default()
    }
}

fn profile(seccomp: &Seccomp) -> wire::SecurityProfile {
    let (kind, localhost_ref) = match seccomp {
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new()),
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Seccomp::Localhost(path) => (ProfileType::Localhost, text(path)),
    };
    wire::SecurityProfile { profile_type: kind as i32, localhost_ref }
}

fn pod_labels(spec: &PodSpec) -> [(String, String); 3] {
    [("name", &spec.name), ("namespace", &spec.namespace), ("uid", &spec.uid)]
        .map(|(key, value)| (format!("io.kubernetes.pod.{key}"), value.clone()))
}

/// The CRI has text where the system has bytes.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
