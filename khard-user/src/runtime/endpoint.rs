//! Which sockets to try, and in which order. Owns that choice as data; it must not know what is spoken on them.
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// The environment variable that crictl and other CRI tools read.
pub const ENDPOINT_VARIABLE: &str = "CONTAINER_RUNTIME_ENDPOINT";

/// Where crictl keeps its own choice.
pub const CRICTL_CONFIG: &str = "/etc/crictl.yaml";

/// The environment variable that Docker's own client reads.
pub const DOCKER_VARIABLE: &str = "DOCKER_HOST";

/// Where CRI runtimes listen when nobody says otherwise: crictl's own list in its order, then distributions that ship
/// their own containerd (<https://docs.k3s.io/advanced>, <https://microk8s.io/docs/configuring-services>).
const DEFAULT_SOCKETS: [&str; 5] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// Where Docker listens when nobody says otherwise: its client's default, by the path that /var/run leads to and by its own.
const DOCKER_SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];

/// Who named an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The user, by an option.
    Option,
    /// The environment.
    Environment,
    /// The environment, for Docker's client.
    DockerHost,
    /// The command line of Docker's client that is to be recorded.
    DockerCommand,
    /// crictl's configuration file.
    CrictlConfig,
    /// Nobody: a well-known place.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "--runtime-endpoint",
            Self::Environment => ENDPOINT_VARIABLE,
            Self::DockerHost => DOCKER_VARIABLE,
            Self::DockerCommand => "the command's --host",
            Self::CrictlConfig => CRICTL_CONFIG,
            Self::Default => "a usual place",
        })
    }
}

/// One socket to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As it was written.
    pub text: String,
    /// Who named it.
    pub origin: Origin,
}

impl Endpoint {
    /// The socket's path; `None` for what is no unix socket (`tcp://`, `npipe://`) or not absolute.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        let path = self.text.strip_prefix("unix://").or_else(|| self.text.strip_prefix("unix:"));
        let path = Path::new(path.unwrap_or(&self.text));
        path.is_absolute().then(|| path.to_owned())
    }
}

/// The sockets to try, best first. What a user named by option, environment or crictl's configuration stands alone:
/// falling back from it would record in another runtime than the one that was meant.
#[must_use]
pub fn candidates(option: Option<&str>, environment: Option<&str>, crictl: Option<&str>) -> Vec<Endpoint> {
    let named = [
        (option.map(str::to_owned), Origin::Option),
        (environment.map(str::to_owned), Origin::Environment),
        (crictl.and_then(crictl_endpoint), Origin::CrictlConfig),
    ];
    for (text, origin) in named {
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            return vec![Endpoint { text, origin }];
        }
    }
    usual(&DEFAULT_SOCKETS)
}

/// The same for Docker; `command` is what the client's own command line says. Contexts of it (docker-context(1)) are not read.
#[must_use]
pub fn docker_candidates(command: Option<&str>, environment: Option<&str>) -> Vec<Endpoint> {
    let named = [(command, Origin::DockerCommand), (environment, Origin::DockerHost)];
    let named = named.into_iter().find_map(|(text, origin)| Some((text.filter(|t| !t.is_empty())?, origin)));
    match named {
        Some((text, origin)) => vec![Endpoint { text: text.to_owned(), origin }],
        None => usual(&DOCKER_SOCKETS),
    }
}

fn usual(paths: &[&str]) -> Vec<Endpoint> {
    paths.iter().map(|path| Endpoint { text: format!("unix://{path}"), origin: Origin::Default }).collect()
}

/// `runtime-endpoint` of a crictl configuration. That file is flat YAML with plain or quoted values: one key per line.
fn crictl_endpoint(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix("runtime-endpoint")?.trim_start().strip_prefix(':')?;
        let value = value.split(" #").next().unwrap_or_default().trim();
        Some(value.trim_matches(['"', '\'']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[Endpoint]) -> Vec<&str> {
        list.iter().map(|e| e.text.as_str()).collect()
    }

    #[test]
    fn option_beats_environment_beats_crictl_beats_defaults() {
        let crictl =
            "timeout: 10\nruntime-endpoint: \"unix:///c.sock\" # theirs\nimage-endpoint: unix:///i.sock\n";
        let cases = [
            (Some("/o.sock"), Some("unix:///e.sock"), Some(crictl), "/o.sock", Origin::Option),
            (None, Some("unix:///e.sock"), Some(crictl), "unix:///e.sock", Origin::Environment),
            (None, None, Some(crictl), "unix:///c.sock", Origin::CrictlConfig),
            (Some(""), Some(""), Some(crictl), "unix:///c.sock", Origin::CrictlConfig),
        ];
        for (option, environment, crictl, text, origin) in cases {
            let found = candidates(option, environment, crictl);
            assert_eq!(found, [Endpoint { text: text.into(), origin }]);
        }
        for crictl in [None, Some("runtime-endpoint: \"\"\n"), Some("image-endpoint: unix:///i.sock\n")] {
            let found = candidates(None, None, crictl);
            assert_eq!(texts(&found)[0], "unix:///run/containerd/containerd.sock");
            assert_eq!(found.len(), DEFAULT_SOCKETS.len());
        }
    }

    #[test]
    fn docker_s_own_variable_stands_alone_too() {
        let named = |text: &str, origin| Endpoint { text: text.to_owned(), origin };
        let found = docker_candidates(None, Some("unix:///d.sock"));
        assert_eq!(found, [named("unix:///d.sock", Origin::DockerHost)]);
        let found = docker_candidates(Some("unix:///c.sock"), Some("unix:///d.sock"));
        assert_eq!(found, [named("unix:///c.sock", Origin::DockerCommand)]);
        for nothing in [None, Some("")] {
            assert_eq!(texts(&docker_candidates(nothing, nothing))[0], "unix:///run/docker.sock");
        }
    }

    #[test]
    fn only_absolute_unix_paths_are_sockets() {
        let path = |text: &str| Endpoint { text: text.into(), origin: Origin::Option }.path();
        for text in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            assert_eq!(path(text), Some(PathBuf::from("/run/a.sock")), "{text}");
        }
        for text in ["tcp://127.0.0.1:1234", "npipe:////./pipe/x", "a.sock", "unix://a.sock", ""] {
            assert_eq!(path(text), None, "{text}");
        }
    }
}
