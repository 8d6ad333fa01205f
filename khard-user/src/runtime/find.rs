//! Pods and containers by name or id. Owns what "the" pod or container means when several fit.
use super::{Candidate, Container, ContainerId, ContainerState, Pod, Runtime, RuntimeError};
use std::collections::BTreeMap;

impl Runtime {
    /// All containers, oldest first, without what only a status tells (times, exit code).
    ///
    /// # Errors
    /// Those of a call.
    pub async fn containers(&self) -> Result<Vec<Container>, RuntimeError> {
        // Pods first: a container that is listed afterwards has its pod in the list, but for one removed between.
        let pods = self.pods().await?;
        self.containers_of(&pods).await
    }

    /// The containers of one sandbox in the order of their creation, complete. One that is removed meanwhile is left
    /// out.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn pod_containers(&self, pod: &Pod) -> Result<Vec<Container>, RuntimeError> {
        let mut complete = Vec::new();
        let of_pod = |container: &Container| container.pod.as_ref().is_some_and(|its| its.id == pod.id);
        for container in self.containers().await?.into_iter().filter(of_pod) {
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

    /// The container with this full id, or `None`.
    ///
    /// # Errors
    /// Those of a call.
    pub async fn container(&self, id: &ContainerId) -> Result<Option<Container>, RuntimeError> {
        let Some(listed) = self.listed(id).await? else { return Ok(None) };
        match self.with_status(listed).await {
            Ok(container) => Ok(Some(container)),
            Err(RuntimeError::Vanished { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The container with this id, this unique start of one, or this name, as `crictl`, `docker` and users write it, and which of the
/// runtimes has it. One that several have is the first one's.
///
/// # Errors
/// `ContainerNotFound`, `ContainerAmbiguous`, `Vanished`, or those of a call.
pub async fn find_container<'r>(
    runtimes: &'r [Runtime],
    key: &str,
) -> Result<(&'r Runtime, Container), RuntimeError> {
    let mut all = Vec::new();
    let mut owners: BTreeMap<ContainerId, &Runtime> = BTreeMap::new();
    for runtime in runtimes {
        for container in runtime.containers().await? {
            if !owners.contains_key(&container.id) {
                owners.insert(container.id.clone(), runtime);
                all.push(container);
            }
        }
    }
    let not_found = || {
        let asked = runtimes.iter().map(Runtime::describe).collect();
        RuntimeError::ContainerNotFound { key: key.to_owned(), asked }
    };
    let chosen = choose_container(&all, key)?.ok_or_else(not_found)?;
    let owner = owners.get(&chosen.id).copied().ok_or_else(not_found)?;
    Ok((owner, owner.with_status(chosen).await?))
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
fn choose_container(all: &[Container], key: &str) -> Result<Option<Container>, RuntimeError> {
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
        let pod = container.pod.as_ref().map(|pod| pod.id.0.clone()).unwrap_or_default();
        latest.insert((pod, container.name.clone()), container);
    }
    let mut found: Vec<_> = latest.into_values().collect();
    if found.len() > 1 {
        let candidates = found.iter().map(container_candidate).collect();
        return Err(RuntimeError::ContainerAmbiguous { key: key.to_owned(), candidates });
    }
    Ok(found.pop())
}

fn pod_candidate(pod: &Pod) -> Candidate {
    let state = if pod.is_ready { "ready" } else { "not ready" };
    Candidate { id: pod.id.0.clone(), name: format!("{}/{}", pod.namespace, pod.name), state }
}

fn container_candidate(container: &Container) -> Candidate {
    let name = match &container.pod {
        Some(pod) => format!("{}/{}/{}", pod.namespace, pod.name, container.name),
        None => container.name.clone(),
    };
    Candidate { id: container.id.0.clone(), name, state: container.state.as_str() }
}

#[cfg(test)]
mod tests {
    use super::super::PodId;
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
            pod: Some(pod),
            labels: BTreeMap::new(),
            state,
            image: String::new(),
            image_id: String::new(),
            created_at_ns: 1,
            has_started: false,
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
        let chosen = |key: &str| choose_container(&all, key).map(|c| c.map(|c| c.id.0));
        assert_eq!(chosen("dbaa").ok().flatten().as_deref(), Some("dbaa"));
        // The name wins over the start of dbaa, and the last attempt over the first.
        assert_eq!(chosen("db").ok().flatten().as_deref(), Some("cc11"));
        assert_eq!(chosen("dba").ok().flatten().as_deref(), Some("dbaa"));
        assert_eq!(chosen("cc0").ok().flatten().as_deref(), Some("cc00"));
        // One that runs wins over those that have ended, in other pods and later attempts too.
        assert_eq!(chosen("job").ok().flatten().as_deref(), Some("ee11"));
        assert!(matches!(chosen("nothing"), Ok(None)));
        assert!(matches!(chosen(""), Ok(None)));
        let Err(RuntimeError::ContainerAmbiguous { candidates, .. }) = chosen("side") else {
            panic!("two pods have one")
        };
        assert_eq!(candidates[1].to_string(), "cc33 default/other/side (running)");
    }
}
