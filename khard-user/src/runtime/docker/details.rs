//! Under which restrictions a container of Docker's runs, by which program it was started, and where its cgroup is.
//!
//! Owns the reading of an inspection, checked against the kernel's word. It must not judge.
use super::{connection::Connection, questions::add_status, wire};
use crate::confinement;
use crate::runtime::{
    Container, ContainerDetails, ContainerState, OciRuntime, Privileged, RuntimeError, Seccomp,
    details::own_cgroup,
    oci,
    process::Proc,
    sandbox::{self, Clues},
};
use std::path::{Path, PathBuf};

impl Connection {
    /// Everything about one container but what its OCI runtime says of itself. `container` may be from an older list.
    pub(crate) async fn details(&self, container: &Container) -> Result<ContainerDetails, RuntimeError> {
        let inspected = self.inspect(&container.id).await?;
        let info = self.get("GET /info", "/info").await?.unwrap_or_default();
        read(container.clone(), inspected, &info, &Proc::default())
    }
}

/// Reads one inspection. `info` is the daemon's word about itself.
fn read(
    mut container: Container,
    inspected: wire::Inspected,
    info: &wire::Info,
    proc: &Proc,
) -> Result<ContainerDetails, RuntimeError> {
    let pid = Some(inspected.state.pid).filter(|pid| *pid > 0);
    let host = inspected.host_config.clone();
    let apparmor = Some(inspected.app_armor_profile.clone()).filter(|name| !name.is_empty());
    add_status(&mut container, inspected);
    let is_running = container.state == ContainerState::Running;
    let pid = pid.filter(|_| is_running);
    // A process that ended just now leaves no file: then it is as if it had not run.
    let process_cgroup = pid.and_then(|pid| proc.cgroup(pid).ok());
    let pid = pid.filter(|_| process_cgroup.is_some());
    let cgroup = match &process_cgroup {
        None => None,
        Some(found) => Some(own_cgroup(&container, found.as_deref(), None)?),
    };

    let name = host.runtime.as_deref().filter(|name| !name.is_empty()).unwrap_or(&info.default_runtime);
    let program = info.runtimes.get(name);
    // A name that is in no list is a shim's.
    let runtime_type = program.map_or(Some(name), |program| program.runtime_type.as_deref());
    let binary = program.and_then(|program| program.path.as_deref());
    let exe = pid.and_then(|pid| proc.exe(pid));
    let clues = Clues {
        handler: name,
        runtime_type: runtime_type.unwrap_or_default(),
        binary,
        exe: exe.as_deref(),
        annotations: Vec::new(),
    };
    if let Some(sandbox) = sandbox::detect(&clues) {
        return Err(RuntimeError::Sandboxed { id: container.id, sandbox });
    }
    let options = Options(host.security_opt.as_deref().unwrap_or_default());
    Ok(ContainerDetails {
        pid,
        cgroup,
        // Else the daemon's own setting counts, which it does not tell in every version.
        no_new_privileges: options
            .no_new_privileges()
            .or_else(|| pid.and_then(|pid| confinement::of_process(pid).no_new_privs)),
        privileged: Privileged::Stated(host.privileged),
        seccomp: seccomp(&options, host.privileged, info),
        apparmor_profile: apparmor,
        oci_runtime: OciRuntime { binary: binary.and_then(locate), ..OciRuntime::default() },
        container,
    })
}

/// The program by the name in the daemon's configuration. The daemon's own search path is not known, and is an administrator's.
fn locate(name: &Path) -> Option<PathBuf> {
    oci::locate(name, &Proc::default(), None)
}

/// `docker run --security-opt`: `NAME=VALUE`, formerly `NAME:VALUE`, or `NAME`.
struct Options<'a>(&'a [String]);

impl<'a> Options<'a> {
    /// The value that counts, which is the last one.
    fn value(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find_map(|option| {
            let value = option.strip_prefix(name)?;
            if value.is_empty() { Some(value) } else { value.strip_prefix(['=', ':']) }
        })
    }

    /// Read as Go does (`strconv.ParseBool`).
    fn no_new_privileges(&self) -> Option<bool> {
        let value = self.value("no-new-privileges")?;
        Some(matches!(value, "" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

/// Sources: moby `daemon/seccomp_linux.go` (which filter is applied) and docker/cli `cli/command/container/opts.go`
/// (parseSecurityOpts: a file's content stands in place of its name).
fn seccomp(options: &Options<'_>, is_privileged: bool, info: &wire::Info) -> Seccomp {
    match options.value("seccomp") {
        Some("unconfined") => return Seccomp::None,
        Some("builtin" | "default") => return Seccomp::RuntimeDefault,
        Some(path) if path.starts_with('/') => return Seccomp::Localhost(path.to_owned()),
        Some(_) => return Seccomp::Other,
        None if is_privileged => return Seccomp::None,
        None => {}
    }
    let of_daemon = info.security_options.iter().find_map(|option| option.strip_prefix("name=seccomp"));
    match of_daemon.map(|rest| rest.strip_prefix(",profile=").unwrap_or_default()) {
        None if info.security_options.is_empty() => Seccomp::Unknown,
        // The daemon cannot filter.
        None | Some("unconfined") => Seccomp::None,
        Some("default" | "builtin") => Seccomp::RuntimeDefault,
        Some(path) if path.starts_with('/') => Seccomp::Localhost(path.to_owned()),
        Some(_) => Seccomp::Other,
    }
}

#[cfg(test)]
mod tests;
