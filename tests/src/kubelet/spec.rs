//! A pod as a test or a demonstration describes it. Owns the JSON form and its defaults, which are a node's.
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Its uid; made up if it is not given.
    #[serde(default = "new_uid")]
    pub uid: String,
    /// Its labels, beside kubelet's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it uses the host's network.
    #[serde(default)]
    pub host_network: bool,
    /// The runtime class's handler; empty is the default.
    #[serde(default)]
    pub runtime_handler: String,
    /// Below which cgroup its own is made; kubelet's default with the cgroupfs driver if it is not given. A name that
    /// ends in `.slice` is for the systemd driver.
    #[serde(default)]
    pub cgroup_parent: Option<String>,
    /// The folder of all pods' logs.
    #[serde(default = "default_log_root")]
    pub log_root: PathBuf,
    /// Run to their end, one after the other, before the containers.
    #[serde(default)]
    pub init_containers: Vec<ContainerSpec>,
    /// Started one after the other.
    pub containers: Vec<ContainerSpec>,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// Its image, which the runtime must have: nothing is pulled.
    pub image: String,
    /// Instead of the image's entry point.
    #[serde(default)]
    pub command: Vec<String>,
    /// Instead of the image's arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Host folders and files.
    #[serde(default)]
    pub mounts: Vec<MountSpec>,
    /// Its seccomp filter.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// The name of its `AppArmor` profile; the runtime's own where it is not given.
    #[serde(default)]
    pub apparmor: Option<String>,
    /// The user id it runs as, instead of the image's.
    #[serde(default)]
    pub user: Option<i64>,
    /// The group id, with a user id.
    #[serde(default)]
    pub group: Option<i64>,
    /// Capabilities beside the runtime's default ones, without `CAP_`.
    #[serde(default)]
    pub add_capabilities: Vec<String>,
    /// Capabilities that are taken away.
    #[serde(default)]
    pub drop_capabilities: Vec<String>,
    /// `allowPrivilegeEscalation: false`.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// Everything is allowed.
    #[serde(default)]
    pub privileged: bool,
    /// Whether the root file system is read only.
    #[serde(default)]
    pub read_only_root: bool,
}

/// A host path in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountSpec {
    /// On the host.
    pub host: PathBuf,
    /// In the container.
    pub container: PathBuf,
    /// Whether it is read only.
    #[serde(default)]
    pub read_only: bool,
}

/// A seccomp filter, as a pod asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Seccomp {
    /// None, which is what a pod that asks for nothing gets unless kubelet has `seccompDefault`.
    #[default]
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// A file of the node, as kubelet passes it on: absolute.
    Localhost(PathBuf),
}

impl From<String> for Seccomp {
    fn from(text: String) -> Self {
        match text.as_str() {
            "unconfined" => Self::Unconfined,
            "default" => Self::RuntimeDefault,
            path => Self::Localhost(path.into()),
        }
    }
}

impl From<Seccomp> for String {
    fn from(seccomp: Seccomp) -> Self {
        match seccomp {
            Seccomp::Unconfined => "unconfined".into(),
            Seccomp::RuntimeDefault => "default".into(),
            Seccomp::Localhost(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl PodSpec {
    /// A pod of one container with a node's defaults.
    pub fn new(name: &str, container: ContainerSpec) -> Self {
        Self {
            name: name.into(),
            namespace: default_namespace(),
            uid: new_uid(),
            labels: BTreeMap::new(),
            host_network: false,
            runtime_handler: String::new(),
            cgroup_parent: None,
            log_root: default_log_root(),
            init_containers: Vec::new(),
            containers: vec![container],
        }
    }

    /// The pod's own cgroup: kubelet's name for a pod without requests or limits.
    pub fn cgroup_parent(&self) -> String {
        self.cgroup_parent.clone().unwrap_or_else(|| format!("/kubepods/besteffort/pod{}", self.uid))
    }

    /// Where the pod's logs are: `/var/log/pods/NAMESPACE_NAME_UID`.
    pub fn log_directory(&self) -> PathBuf {
        self.log_root.join(format!("{}_{}_{}", self.namespace, self.name, self.uid))
    }
}

fn default_namespace() -> String {
    "default".into()
}

fn default_log_root() -> PathBuf {
    "/var/log/pods".into()
}

/// A random one, from the kernel.
fn new_uid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_needs_only_names_and_images() {
        let text =
            r#"{"name": "web", "containers": [{"name": "nginx", "image": "i", "seccomp": "/p.json"}]}"#;
        let spec: PodSpec = serde_json::from_str(text).expect("it is complete");
        assert_eq!(spec.namespace, "default");
        assert_eq!(spec.uid.len(), 36);
        assert_eq!(spec.containers[0].seccomp, Seccomp::Localhost("/p.json".into()));
        let again: PodSpec =
            serde_json::from_str(&serde_json::to_string(&spec).expect("JSON")).expect("the same");
        assert_eq!(again, spec);
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let text = r#"{"name": "web", "containers": [{"name": "nginx", "image": "i", "secomp": "default"}]}"#;
        let error = serde_json::from_str::<PodSpec>(text).expect_err("no such field");
        assert!(error.to_string().contains("secomp"), "{error}");
    }
}
