//! Which pods and containers a runtime has, and their state. Owns the calls; what the messages are to khard is `convert`'s.
use super::{connection::Connection, convert, generated as wire};
use crate::runtime::{Container, ContainerId, Pod, PodId, RuntimeError, Version};
use std::collections::BTreeMap;

impl Connection {
    /// The runtime's name and version, as it said when it was found.
    pub(crate) fn version(&self) -> Version {
        let said = self.said();
        Version { name: said.runtime_name.clone(), version: said.runtime_version.clone() }
    }

    /// All sandboxes, ready or not.
    pub(crate) async fn pods(&self) -> Result<Vec<Pod>, RuntimeError> {
        let mut client = self.client();
        let request = wire::ListPodSandboxRequest::default();
        let answer = self.call("ListPodSandbox", client.list_pod_sandbox(request)).await?;
        Ok(answer.items.into_iter().map(convert::pod).collect())
    }

    /// All containers, with `pods` as the list of pods, without what only a status tells.
    pub(crate) async fn containers_of(&self, pods: &[Pod]) -> Result<Vec<Container>, RuntimeError> {
        let pods: BTreeMap<PodId, Pod> = pods.iter().map(|pod| (pod.id.clone(), pod.clone())).collect();
        let mut client = self.client();
        let request = wire::ListContainersRequest::default();
        let answer = self.call("ListContainers", client.list_containers(request)).await?;
        Ok(answer.containers.into_iter().map(|c| convert::container(c, &pods)).collect())
    }

    /// One container, as [`Self::containers_of`] lists it. Of a node with hundreds only this one and its pod are told.
    pub(crate) async fn container(&self, id: &ContainerId) -> Result<Option<Container>, RuntimeError> {
        let mut client = self.client();
        let filter = wire::ContainerFilter { id: id.0.clone(), ..Default::default() };
        let request = wire::ListContainersRequest { filter: Some(filter) };
        let answer = self.call("ListContainers", client.list_containers(request)).await?;
        let Some(listed) = answer.containers.into_iter().find(|listed| listed.id == id.0) else {
            return Ok(None);
        };
        let filter = wire::PodSandboxFilter { id: listed.pod_sandbox_id.clone(), ..Default::default() };
        let request = wire::ListPodSandboxRequest { filter: Some(filter) };
        let answer = self.call("ListPodSandbox", client.list_pod_sandbox(request)).await?;
        let pods = answer.items.into_iter().map(convert::pod).map(|pod| (pod.id.clone(), pod)).collect();
        Ok(Some(convert::container(listed, &pods)))
    }

    /// Asks for the container's own status and completes it.
    pub(crate) async fn with_status(&self, mut container: Container) -> Result<Container, RuntimeError> {
        let answer = self.status(&container.id, false).await?;
        convert::add_status(&mut container, answer.status.unwrap_or_default());
        Ok(container)
    }

    pub(super) async fn status(
        &self,
        id: &ContainerId,
        verbose: bool,
    ) -> Result<wire::ContainerStatusResponse, RuntimeError> {
        let mut client = self.client();
        let request = wire::ContainerStatusRequest { container_id: id.0.clone(), verbose };
        match self.call("ContainerStatus", client.container_status(request)).await {
            Err(RuntimeError::Answer { code: tonic::Code::NotFound, .. }) => {
                Err(RuntimeError::Vanished { id: id.clone() })
            }
            other => other,
        }
    }

    /// Waits for something to happen to a container, again and again, and tells it each time. Returns `false` when the runtime
    /// has no events to give.
    pub(crate) async fn follow_events(&self, mut happened: impl FnMut()) -> bool {
        match self.client().get_container_events(wire::GetEventsRequest {}).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                while let Ok(Some(_)) = stream.message().await {
                    happened();
                }
                true
            }
            Err(status) => status.code() != tonic::Code::Unimplemented,
        }
    }
}
