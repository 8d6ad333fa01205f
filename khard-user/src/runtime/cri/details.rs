//! Under which restrictions a container of a pod runs, by which program it was started, and where its cgroup is.
//!
//! Owns the reading of the runtime's verbose status, checked against the kernel's word. It must not judge.
use super::{connection::Connection, convert};
use crate::runtime::{
    Container, ContainerDetails, ContainerState, OciRuntime, Privileged, RuntimeError, Seccomp, cgroup_name,
    details::own_cgroup,
    oci,
    process::Proc,
    sandbox::{self, Clues},
};
use serde_json::Value;
use std::path::PathBuf;

impl Connection {
    /// Everything about one container but what its OCI runtime says of itself. `container` may be from an older list.
    pub(crate) async fn details(&self, container: &Container) -> Result<ContainerDetails, RuntimeError> {
        let mut container = container.clone();
        let mut answer = self.status(&container.id, true).await?;
        convert::add_status(&mut container, answer.status.unwrap_or_default());
        // containerd and CRI-O put one JSON document under "info"; others may tell nothing.
        let info = match answer.info.remove("info") {
            None => Value::Null,
            Some(text) => serde_json::from_str(&text)
                .map_err(|source| RuntimeError::Details { id: container.id.clone(), source })?,
        };
        let proc = Proc::default();
        let daemon = self.daemon_pid().await;
        read(container, &info, &proc, daemon)
    }
}

/// Reads one verbose status. `daemon` is the runtime's process.
fn read(
    container: Container,
    info: &Value,
    proc: &Proc,
    daemon: Option<u32>,
) -> Result<ContainerDetails, RuntimeError> {
    let info = Info(info);
    let is_running = container.state == ContainerState::Running;
    let pid = is_running.then(|| info.pid()).flatten();
    // A process that ended just now leaves no file: then it is as if it had not run.
    let process_cgroup = pid.and_then(|pid| proc.cgroup(pid).ok());
    let pid = pid.filter(|_| process_cgroup.is_some());
    let spec_cgroup =
        info.spec_text("/linux/cgroupsPath").and_then(cgroup_name::resolve_cgroups_path).map(PathBuf::from);
    let cgroup = match &process_cgroup {
        None => spec_cgroup,
        Some(found) => Some(own_cgroup(&container, found.as_deref(), spec_cgroup.as_deref())?),
    };

    let runtime_type = info.text("/runtimeType").unwrap_or_default();
    let binary =
        info.oci_binary().or_else(|| pid.and_then(|pid| oci::of_conmon(&proc.parent_arguments(pid)?)));
    let exe = pid.and_then(|pid| proc.exe(pid));
    let clues = Clues {
        handler: container.pod.as_ref().map_or("", |pod| &pod.handler),
        runtime_type,
        binary: binary.as_deref(),
        exe: exe.as_deref(),
        annotations: info.annotations(),
    };
    if let Some(sandbox) = sandbox::detect(&clues) {
        return Err(RuntimeError::Sandboxed { id: container.id, sandbox });
    }
    Ok(ContainerDetails {
        pid,
        cgroup,
        no_new_privileges: info
            .spec()
            .map(|spec| spec.pointer("/process/noNewPrivileges") == Some(&true.into())),
        privileged: info.privileged(),
        seccomp: info.seccomp(),
        apparmor_profile: info
            .spec_text("/process/apparmorProfile")
            .filter(|p| !p.is_empty())
            .map(str::to_owned),
        oci_runtime: OciRuntime {
            binary: binary.and_then(|name| oci::locate(&name, proc, daemon)),
            ..OciRuntime::default()
        },
        container,
    })
}

/// The verbose status of containerd (`internal/cri/server/container_status.go`, `toCRIContainerInfo`, 1.6 to 2.1) and
/// CRI-O (`server/container_status.go`, 1.20 to 1.33): the parts they share, and those only one has. Go leaves out
/// fields that are false, zero or empty.
struct Info<'a>(&'a Value);

impl<'a> Info<'a> {
    fn text(&self, pointer: &str) -> Option<&'a str> {
        self.0.pointer(pointer)?.as_str()
    }

    fn spec(&self) -> Option<&'a Value> {
        self.0.get("runtimeSpec").filter(|spec| spec.is_object())
    }

    fn spec_text(&self, pointer: &str) -> Option<&'a str> {
        self.spec()?.pointer(pointer)?.as_str()
    }

    fn pid(&self) -> Option<u32> {
        let pid = self.0.get("pid")?.as_u64()?;
        u32::try_from(pid).ok().filter(|&pid| pid > 0)
    }

    fn annotations(&self) -> Vec<(&'a str, &'a str)> {
        let map = self.spec().and_then(|spec| spec.get("annotations")).and_then(Value::as_object);
        map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
    }

    fn annotation(&self, key: &str) -> Option<&'a str> {
        self.spec()?.get("annotations")?.get(key)?.as_str()
    }

    /// containerd repeats the CRI's security context in its answer.
    fn security_context(&self) -> Option<&'a Value> {
        self.0.pointer("/config/linux/security_context")
    }

    fn privileged(&self) -> Privileged {
        if let Some(context) = self.security_context() {
            return Privileged::Stated(context.get("privileged") == Some(&true.into()));
        }
        if let Some(stated) = self.0.get("privileged").and_then(Value::as_bool) {
            return Privileged::Stated(stated);
        }
        // An allow rule without type and numbers opens every device; only privileged containers have one.
        let Some(spec) = self.spec() else { return Privileged::Unknown };
        let rules = spec.pointer("/linux/resources/devices").and_then(Value::as_array);
        let opens_all = |rule: &Value| {
            let any_kind = rule.get("type").is_none_or(|kind| kind == "a");
            rule.get("allow") == Some(&true.into()) && any_kind && rule.get("major").is_none()
        };
        Privileged::Derived(rules.into_iter().flatten().any(opens_all))
    }

    fn seccomp(&self) -> Seccomp {
        let Some(spec) = self.spec() else { return Seccomp::Unknown };
        if spec.pointer("/linux/seccomp").is_none_or(Value::is_null) {
            return Seccomp::None;
        }
        // SecurityProfile.ProfileType of the CRI: 0 RuntimeDefault (left out), 1 Unconfined, 2 Localhost.
        if let Some(profile) = self.security_context().and_then(|context| context.get("seccomp")) {
            return match profile.get("profile_type").and_then(Value::as_u64).unwrap_or(0) {
                0 => Seccomp::RuntimeDefault,
                2 => localhost(profile.get("localhost_ref").and_then(Value::as_str).unwrap_or_default()),
                _ => Seccomp::Other,
            };
        }
        // The older form of the same question, and what CRI-O notes on the container.
        let named = self.security_context().and_then(|context| context.get("seccomp_profile_path")?.as_str());
        match named.or_else(|| self.annotation("io.kubernetes.cri-o.SeccompProfilePath")) {
            Some("runtime/default" | "docker/default") => Seccomp::RuntimeDefault,
            Some(text) if text.starts_with("localhost/") => localhost(text),
            _ => Seccomp::Other,
        }
    }

    /// The OCI runtime's file or command name. runc's shim runs "runc" unless its options say otherwise (containerd
    /// `core/runtime/v2/README.md`, `BinaryName`); the key's spelling differs by how the options were encoded.
    fn oci_binary(&self) -> Option<PathBuf> {
        let options = self.0.get("runtimeOptions").filter(|options| options.is_object());
        let named = ["binary_name", "BinaryName"].iter().find_map(|key| options?.get(key)?.as_str());
        let default =
            || self.text("/runtimeType").filter(|t| t.starts_with("io.containerd.runc.")).map(|_| "runc");
        named.filter(|name| !name.is_empty()).or_else(default).map(PathBuf::from)
    }
}

fn localhost(profile: &str) -> Seccomp {
    Seccomp::Localhost(profile.strip_prefix("localhost/").unwrap_or(profile).to_owned())
}

#[cfg(test)]
mod tests;
