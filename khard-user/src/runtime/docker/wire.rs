//! What Docker's API says, as far as khard reads it: <https://docs.docker.com/reference/api/engine/>, versions 1.41 and later.
//! Owns the names of its fields; fields that are not here are passed over. It must not know what they mean to khard.
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// `GET /version`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Server {
    pub(crate) version: String,
    pub(crate) api_version: String,
    #[serde(rename = "MinAPIVersion", default)]
    pub(crate) min_api_version: String,
    #[serde(default)]
    pub(crate) components: Vec<Component>,
}

/// What the engine consists of; the first is the engine itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Component {
    pub(crate) name: String,
}

/// `GET /info`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Info {
    /// Such as `name=seccomp,profile=default`.
    pub(crate) security_options: Vec<String>,
    pub(crate) default_runtime: String,
    pub(crate) runtimes: BTreeMap<String, RuntimeProgram>,
}

/// An entry of the daemon's `--add-runtime`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeProgram {
    /// Of an OCI runtime.
    pub(crate) path: Option<PathBuf>,
    /// Of a shim of containerd's, such as `io.containerd.runsc.v1`.
    #[serde(rename = "runtimeType")]
    pub(crate) runtime_type: Option<String>,
}

/// An element of `GET /containers/json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) id: String,
    /// Each with a leading slash; one with two is a link's of another container.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    #[serde(default)]
    pub(crate) image: String,
    #[serde(rename = "ImageID", default)]
    pub(crate) image_id: String,
    /// In seconds since 1970.
    #[serde(default)]
    pub(crate) created: i64,
    #[serde(default)]
    pub(crate) state: String,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// `GET /containers/ID/json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    pub(crate) name: String,
    /// The image's id.
    #[serde(default)]
    pub(crate) image: String,
    #[serde(default)]
    pub(crate) restart_count: u32,
    #[serde(default)]
    pub(crate) app_armor_profile: String,
    pub(crate) state: State,
    #[serde(default)]
    pub(crate) config: Config,
    #[serde(default)]
    pub(crate) host_config: HostConfig,
}

/// How a container is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) exit_code: i32,
    /// In the year 1 of one that has never run.
    #[serde(default)]
    pub(crate) started_at: String,
}

/// What a container was made of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Config {
    /// The image as it was asked for.
    pub(crate) image: String,
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

/// How a container is kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostConfig {
    pub(crate) privileged: bool,
    pub(crate) security_opt: Option<Vec<String>>,
    /// A name of [`Info::runtimes`]; empty is the default.
    pub(crate) runtime: Option<String>,
}

/// The body of an answer that is an error.
#[derive(Debug, Deserialize)]
pub(crate) struct Failed {
    pub(crate) message: String,
}
