//! Which containers a daemon has, and their state. Owns what the answers are to khard; it must not know why they are asked for.
use super::{connection::Connection, wire};
use crate::runtime::{Container, ContainerId, ContainerState, RuntimeError, Version};

/// cri-dockerd's mark on what it makes: those containers are the CRI's, which knows their pods.
const OF_CRI: &str = "io.kubernetes.docker.type";

impl Connection {
    /// The daemon's name and version.
    pub(crate) fn version(&self) -> Version {
        let said = self.said();
        let name = match said.components.first() {
            // Podman's service calls itself so.
            Some(engine) if engine.name != "Engine" => engine.name.clone(),
            _ => "docker".to_owned(),
        };
        Version { name, version: said.version.clone() }
    }

    /// All containers, without what only an inspection tells.
    pub(crate) async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        let listed = self.get("GET /containers/json", "/containers/json?all=true").await?;
        let listed: Vec<wire::Listed> = listed.unwrap_or_default();
        let mut found: Vec<_> = listed.into_iter().map(of_listed).collect();
        found.retain(|container| !container.labels.contains_key(OF_CRI));
        Ok(found)
    }

    /// Inspects the container and completes it.
    pub(crate) async fn with_status(&self, mut container: Container) -> Result<Container, RuntimeError> {
        let inspected = self.inspect(&container.id).await?;
        add_status(&mut container, inspected);
        Ok(container)
    }

    pub(super) async fn inspect(&self, id: &ContainerId) -> Result<wire::Inspected, RuntimeError> {
        let inspected = self.get("GET /containers/ID/json", &format!("/containers/{}/json", id.0)).await?;
        inspected.ok_or_else(|| RuntimeError::Vanished { id: id.clone() })
    }
}

/// `container.State` of moby, `container/state.go`: paused and restarting containers have processes, or soon will again.
fn state(status: &str) -> ContainerState {
    match status {
        "created" => ContainerState::Created,
        "running" | "paused" | "restarting" => ContainerState::Running,
        "exited" | "dead" | "removing" => ContainerState::Exited,
        _ => ContainerState::Unknown,
    }
}

fn of_listed(listed: wire::Listed) -> Container {
    let own_name = listed.names.iter().find(|name| name.matches('/').count() == 1);
    let name = own_name.or(listed.names.first()).map(|name| name.trim_start_matches('/').to_owned());
    Container {
        id: ContainerId(listed.id),
        name: name.unwrap_or_default(),
        attempt: 0,
        pod: None,
        labels: listed.labels.unwrap_or_default(),
        state: state(&listed.state),
        image: listed.image,
        image_id: listed.image_id,
        created_at_ns: listed.created.saturating_mul(1_000_000_000),
        has_started: false,
        exit_code: None,
    }
}

/// Adds what only an inspection tells.
pub(super) fn add_status(container: &mut Container, inspected: wire::Inspected) {
    inspected.name.trim_start_matches('/').clone_into(&mut container.name);
    container.attempt = inspected.restart_count;
    container.state = state(&inspected.state.status);
    container.has_started =
        !inspected.state.started_at.is_empty() && !inspected.state.started_at.starts_with("0001-");
    let has_ended = container.state == ContainerState::Exited;
    container.exit_code = has_ended.then_some(inspected.state.exit_code);
    // The list gives an id where the image's name has gone to a newer one.
    if !inspected.config.image.is_empty() {
        container.image = inspected.config.image;
    }
    container.image_id = inspected.image;
    container.labels = inspected.config.labels.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As Docker 20.10 lists it.
    fn listed(names: &[&str], state: &str) -> Container {
        let listed = json!({
            "Id": "abc", "Names": names, "Image": "khard/nginx:1", "ImageID": "sha256:aa", "Command": "nginx", "Created": 17,
            "State": state, "Status": "Up 2 hours", "Labels": null, "Ports": [], "HostConfig": { "NetworkMode": "default" },
        });
        of_listed(serde_json::from_value(listed).expect("all that khard reads is there"))
    }

    #[test]
    fn a_container_s_name_is_its_own_and_not_a_link_s() {
        assert_eq!(listed(&["/web/db", "/db"], "running").name, "db");
        assert_eq!(listed(&["/web"], "running").name, "web");
        assert_eq!(listed(&[], "running").name, "");
    }

    #[test]
    fn every_state_of_docker_s_is_one_of_khard_s() {
        let of = |state| listed(&["/web"], state).state;
        assert_eq!([of("created"), of("running")], [ContainerState::Created, ContainerState::Running]);
        assert_eq!([of("paused"), of("restarting")], [ContainerState::Running; 2]);
        assert_eq!([of("exited"), of("dead"), of("removing")], [ContainerState::Exited; 3]);
        assert_eq!(of("stopping"), ContainerState::Unknown);
    }
}
