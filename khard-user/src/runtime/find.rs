//! Pods and containers by name or id. Owns what "the" pod or container means when several fit.
use super::{
    Candidate, Container, ContainerId, ContainerState, Pod, PodId, Runtime, RuntimeError, convert,
    cri::generated as wire,
};
use std::collections::BTreeMap;

impl Runtime {
    /// All sandboxes, ready or not.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn pods(&self) -> Result<Vec<Pod>, RuntimeError> {
        let mut client = self.connection.client();
        let request = wire::ListPodSandboxRequest::default();
        let answer = self.connection.call("ListPodSandbox", client.list_pod_sandbox(request)).await?;
        Ok(answer.items.into_iter().map(convert::pod).collect())
    }

    /// All containers, oldest first, without what only a status tells (times, exit code).
    ///
    /// # Errors
    /// Those of a call.
    pub async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        // Pods first: a container that is listed afterwards has its pod in the list, but for one removed between.
        let pods = self.pods().await?;
        self.containers_of(&pods).await
    }

    /// All containers, with `pods` as the list of pods.
    pub(super) async fn containers_of(&self, pods: &[Pod]) -> Result<Vec<Container>, RuntimeError> {
        let pods: BTreeMap<PodId, Pod> = pods.iter().map(|pod| (pod.id.clone(), pod.clone())).collect();
        let mut client = self.connection.client();
        let request = wire::ListContainersRequest::default();
        let answer = self.connection.call("ListContainers", client.list_containers(request)).await?;
        let mut found: Vec<_> = answer.containers.into_iter().map(|c| convert::container(c, &pods)).collect();
        found.sort_by(|a, b| (a.created_at_ns, &a.id).cmp(&(b.created_at_ns, &b.id)));
        Ok(found)
    }

    /// The containers of one sandbox in the order of their creation, complete. One that is removed meanwhile is left
    /// out.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn pod_containers(&self, pod: &Pod) -> Result<Vec<Container>, RuntimeError> {
        let mut complete = Vec::new();
        for container in self.containers().await?.into_iter().filter(|c| c.pod.id == pod.id) {
            match self.with_status(container).await {
                Ok(container) => complete.push(container),
                Err(RuntimeError::Vanished { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(complete)
    }

    /// All sandboxes of a pod: live ones first, then the newest.
    ///
    /// # Errors
    /// Those of a call; no pod of that name is an empty list.
    pub async fn pods_named(&self, namespace: &str, name: &str) -> Result<Vec<Pod>, RuntimeError> {
        let mut found = self.pods().await?;
        found.retain(|pod| pod.name == name && pod.namespace == namespace);
        found.sort_by_key(|pod| (!pod.is_ready, std::cmp::Reverse(pod.created_at_ns)));
        Ok(found)
    }

    /// The live sandbox of a pod.
    ///
    /// # Errors
    /// `PodNotFound`, `PodEnded`, `PodAmbiguous`, or those of a call.
    pub async fn live_pod(&self, namespace: &str, name: &str) -> Result<Pod, RuntimeError> {
        let all = self.pods().await?;
        choose_pod(all, namespace, name)
    }

    /// The container with this id, this unique start of one, or this name: as `crictl` and users write it.
    ///
    /// # Errors
    /// `ContainerNotFound`, `ContainerAmbiguous`, `Vanished`, or those of a call.
    pub async fn find_container(&self, key: &str) -> Result<Container, RuntimeError> {
        let chosen = choose_container(&self.containers().await?, key)?;
        self.with_status(chosen).await
    }

    /// The container with this full id, or `None`.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn container(&self, id: &ContainerId) -> Result<Option<Container>, RuntimeError> {
        let Some(listed) = self.containers().await?.into_iter().find(|c| c.id == *id) else {
            return Ok(None);
        };
        match self.with_status(listed).await {
            Ok(container) => Ok(Some(container)),
            Err(RuntimeError::Vanished { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for the container's own status and completes it.
    pub(super) async fn with_status(&self, mut container: Container) -> Result<Container, RuntimeError> {
        let answer = self.status(&container.id, false).await?;
        convert::add_status(&mut container, answer.status.unwrap_or_default());
        Ok(container)
    }

    pub(super) async fn status(
        &self,
        id: &ContainerId,
        verbose: bool,
    ) -> Result<wire::ContainerStatusResponse, RuntimeError> {
        let mut client = self.connection.client();
        let request = wire::ContainerStatusRequest { container_id: id.0.clone(), verbose };
        match self.connection.call("ContainerStatus", client.container_status(request)).await {
            Err(RuntimeError::Answer { code: tonic::Code::NotFound, .. }) => {
                Err(RuntimeError::Vanished { id: id.clone() })
            }
            other => other,
        }
    }
}

fn choose_pod(all: Vec<Pod>, namespace: &str, name: &str) -> Result<Pod, RuntimeError> {
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        all.into_iter().filter(|pod| pod.name == name).partition(|pod| pod.namespace == namespace);
    let n_here = here.len();
    let mut live: Vec<_> = here.into_iter().filter(|pod| pod.is_ready).collect();
    if live.len() > 1 {
        let candidates = live.iter().map(pod_candidate).collect();
        return Err(RuntimeError::PodAmbiguous { name: name.to_owned(), candidates });
    }
    match live.pop() {
        Some(pod) => Ok(pod),
        None if n_here > 0 => {
            Err(RuntimeError::PodEnded { name: name.to_owned(), namespace: namespace.to_owned() })
        }
        None => {
            let mut elsewhere: Vec<_> = elsewhere.into_iter().map(|pod| pod.namespace).collect();
            elsewhere.sort();
            elsewhere.dedup();
            Err(RuntimeError::PodNotFound {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                elsewhere,
            })
        }
    }
}

/// A full id wins over a name, a name over the start of an id: "db" and "cafe" are names, and starts of ids too.
/// Running ones win over others, and of one container's attempts the last: only what a user cannot tell apart by
/// looking is ambiguous.
fn choose_container(all: &[Container], key: &str) -> Result<Container, RuntimeError> {
    let pick =
        |test: &dyn Fn(&Container) -> bool| all.iter().filter(|c| test(c)).cloned().collect::<Vec<_>>();
    let mut found = pick(&|c| c.id.0 == key);
    if found.is_empty() {
        found = pick(&|c| c.name == key);
    }
    if found.is_empty() && !key.is_empty() {
        found = pick(&|c| c.id.0.starts_with(key));
    }
    if found.iter().any(|c| c.state == ContainerState::Running) {
        found.retain(|c| c.state == ContainerState::Running);
    }
    // Oldest first, so that a later attempt replaces an earlier one.
    let mut latest: BTreeMap<(String, String), Container> = BTreeMap::new();
    for container in found {
        latest.insert((container.pod.id.0.clone(), container.name.clone()), container);
    }
    let mut found: Vec<_> = latest.into_values().collect();
    if found.len() > 1 {
        let candidates = found.iter().map(container_candidate).collect();
        return Err(RuntimeError::ContainerAmbiguous { key: key.to_owned(), candidates });
    }
    found.pop().ok_or_else(|| RuntimeError::ContainerNotFound { key: key.to_owned() })
}

fn pod_candidate(pod: &Pod) -> Candidate {
    let state = if pod.is_ready { "ready" } else { "not ready" };
    Candidate { id: pod.id.0.clone(), name: format!("{}/{}", pod.namespace, pod.name), state }
}

fn container_candidate(container: &Container) -> Candidate {
    let name = format!("{}/{}/{}", container.pod.namespace, container.pod.name, container.name);
    Candidate { id: container.id.0.clone(), name, state: container.state.as_str() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(id: &str, namespace: &str, name: &str, is_ready: bool) -> Pod {
        Pod {
            id: PodId(id.into()),
            name: name.into(),
            namespace: namespace.into(),
            uid: format!("uid-{id}"),
            attempt: 0,
            is_ready,
            created_at_ns: 1,
            handler: String::new(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn container(id: &str, name: &str, pod: Pod, state: ContainerState) -> Container {
        Container {
            id: ContainerId(id.into()),
            name: name.into(),
            attempt: 0,
            pod,
            state,
            image: String::new(),
            image_id: String::new(),
            created_at_ns: 1,
            started_at_ns: None,
            finished_at_ns: None,
            exit_code: None,
        }
    }

    #[test]
    fn a_pod_is_the_live_one_of_its_name_and_namespace() {
        let all = || {
            vec![
                pod("1", "default", "web", false),
                pod("2", "default", "web", true),
                pod("3", "b", "web", true),
            ]
        };
        assert_eq!(choose_pod(all(), "default", "web").map(|p| p.id.0).ok().as_deref(), Some("2"));
        let ended = choose_pod(vec![pod("1", "default", "web", false)], "default", "web");
        assert!(matches!(ended, Err(RuntimeError::PodEnded { .. })), "{ended:?}");
        let missing = choose_pod(all(), "c", "web").expect_err("not in this namespace");
        assert_eq!(missing.to_string(), "no pod web in namespace c; there is one in b, default");
    }

    #[test]
    fn two_live_pods_of_one_name_are_ambiguous_and_listed() {
        let all = vec![pod("1", "default", "web", true), pod("2", "default", "web", true)];
        let error = choose_pod(all, "default", "web").expect_err("two are live").to_string();
        assert!(error.contains("1 default/web (ready), 2 default/web (ready)"), "{error}");
    }

    #[test]
    fn a_container_is_found_by_id_then_name_then_start_of_an_id() {
        use ContainerState::{Exited, Running};
        let p = || pod("p", "default", "web", true);
        let all = vec![
            container("dbaa", "nginx", p(), Running),
            container("cc00", "db", p(), Exited),
            container("cc11", "db", p(), Exited),
            container("cc22", "side", p(), Running),
            container("cc33", "side", pod("q", "default", "other", true), Running),
            container("ee00", "job", pod("q", "default", "other", true), Exited),
            container("ee11", "job", p(), Running),
            container("ee22", "job", p(), Exited),
        ];
        let chosen = |key: &str| choose_container(&all, key).map(|c| c.id.0);
        assert_eq!(chosen("dbaa").ok().as_deref(), Some("dbaa"));
        // The name wins over the start of dbaa, and the last attempt over the first.
        assert_eq!(chosen("db").ok().as_deref(), Some("cc11"));
        assert_eq!(chosen("dba").ok().as_deref(), Some("dbaa"));
        assert_eq!(chosen("cc0").ok().as_deref(), Some("cc00"));
        // One that runs wins over those that have ended, in other pods and later attempts too.
        assert_eq!(chosen("job").ok().as_deref(), Some("ee11"));
        assert!(matches!(chosen("nothing"), Err(RuntimeError::ContainerNotFound { .. })));
        assert!(matches!(chosen(""), Err(RuntimeError::ContainerNotFound { .. })));
        let Err(RuntimeError::ContainerAmbiguous { candidates, .. }) = chosen("side") else {
            panic!("two pods have one")
        };
        assert_eq!(candidates[1].to_string(), "cc33 default/other/side (running)");
    }
}
