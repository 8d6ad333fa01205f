//! CRI messages to khard's own types. Owns the defaults for what a message leaves out; asks nobody.
use super::generated as wire;
use crate::runtime::{Container, ContainerId, ContainerState, Pod, PodId};
use std::collections::BTreeMap;

fn state(value: i32) -> ContainerState {
    match wire::ContainerState::try_from(value) {
        Ok(wire::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(wire::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(wire::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(wire::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

pub(super) fn pod(sandbox: wire::PodSandbox) -> Pod {
    let metadata = sandbox.metadata.unwrap_or_default();
    Pod {
        id: PodId(sandbox.id),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        is_ready: sandbox.state == wire::PodSandboxState::SandboxReady as i32,
        created_at_ns: sandbox.created_at,
        handler: sandbox.runtime_handler,
        labels: sandbox.labels.into_iter().collect(),
    }
}

/// A container of a list. Its pod is found in `pods`; one that was removed between the two lists is named by the
/// labels that kubelet writes, as far as they are there.
pub(super) fn container(listed: wire::Container, pods: &BTreeMap<PodId, Pod>) -> Container {
    let metadata = listed.metadata.unwrap_or_default();
    let pod_id = PodId(listed.pod_sandbox_id);
    let label = |key: &str| listed.labels.get(key).cloned().unwrap_or_default();
    let pod = pods.get(&pod_id).cloned().unwrap_or_else(|| Pod {
        id: pod_id,
        name: label("io.kubernetes.pod.name"),
        namespace: label("io.kubernetes.pod.namespace"),
        uid: label("io.kubernetes.pod.uid"),
        attempt: 0,
        is_ready: false,
        created_at_ns: 0,
        handler: String::new(),
        labels: BTreeMap::new(),
    });
    let image_id = if listed.image_id.is_empty() { listed.image_ref } else { listed.image_id };
    Container {
        id: ContainerId(listed.id),
        name: metadata.name,
        attempt: metadata.attempt,
        pod: Some(pod),
        labels: listed.labels.into_iter().collect(),
        state: state(listed.state),
        image: listed.image.map(|image| image.image).unwrap_or_default(),
        image_id,
        created_at_ns: listed.created_at,
        has_started: false,
        exit_code: None,
    }
}

/// Adds what only the container's own status tells.
pub(super) fn add_status(container: &mut Container, status: wire::ContainerStatus) {
    container.state = state(status.state);
    // The CRI says 0 for "not yet".
    container.has_started = status.started_at > 0;
    container.exit_code = (container.state == ContainerState::Exited).then_some(status.exit_code);
    // The list gives the image's id where the pod gave an id; the status keeps what was asked for.
    if let Some(image) = status.image.map(|image| image.image).filter(|image| !image.is_empty()) {
        container.image = image;
    }
    if !status.image_id.is_empty() {
        container.image_id = status.image_id;
    }
}
