//! What targets name, and whether it is there. Owns nothing; a recording's containers are `containers`'s.

use super::AgentError;
use crate::{
    runtime::{self, Container, ContainerState, Pod, Runtime, RuntimeError},
    stream::Target,
};

impl Target {
    /// Whether a container is one of those that this target names.
    pub(super) fn wants(&self, container: &Container) -> bool {
        match self {
            Self::Pod { container: only, .. } | Self::Labelled { container: only, .. } => {
                container.pod.as_ref().is_some_and(|pod| self.wants_pod(pod))
                    && only.as_ref().is_none_or(|only| *only == container.name)
            }
            Self::Container(key) => {
                container.name == *key || (key.len() >= 8 && container.id.0.starts_with(key.as_str()))
            }
            Self::Every | Self::New => true,
        }
    }

    /// Whether a pod is one of those that this target names.
    pub(super) fn wants_pod(&self, pod: &Pod) -> bool {
        match self {
            Self::Pod { namespace, name, .. } => pod.namespace == *namespace && pod.name == *name,
            Self::Labelled { namespace, selector, .. } => {
                pod.namespace == *namespace && selector.fits(&pod.labels)
            }
            Self::Container(_) => false,
            Self::Every | Self::New => true,
        }
    }
}

/// Whether a container is wanted also if it was there before.
pub(super) fn may_be_old(targets: &[Target], container: &Container) -> bool {
    targets.iter().any(|target| *target != Target::New && target.wants(container))
}

/// Refuses a target that is not there. The start of an id becomes the whole id that it stands for.
pub(super) async fn check_exists(runtimes: &[Runtime], target: &mut Target) -> Result<(), AgentError> {
    let with_pods = runtimes.iter().find(|runtime| runtime.has_pods());
    match (target, with_pods) {
        (Target::Pod { namespace, name, container }, Some(runtime)) => {
            let pod = runtime.live_pod(namespace, name).await?;
            if let Some(only) = container {
                let found = runtime.pod_containers(&pod).await?;
                if !found.iter().any(|container| container.name == *only) {
                    let key = format!("{namespace}/{name}/{only}");
                    let asked = vec![runtime.describe()];
                    return Err(RuntimeError::ContainerNotFound { key, asked }.into());
                }
                for container in
                    found.iter().filter(|c| c.name == *only && c.state == ContainerState::Running)
                {
                    runtime.details(container).await?;
                }
            }
            Ok(())
        }
        (Target::Labelled { namespace, selector, .. }, Some(runtime)) => {
            let pods = runtime.pods().await?;
            if pods
                .iter()
                .any(|pod| pod.is_ready && pod.namespace == *namespace && selector.fits(&pod.labels))
            {
                return Ok(());
            }
            Err(AgentError::NoneLabelled { namespace: namespace.clone(), selector: selector.clone() })
        }
        (Target::Container(key), _) => {
            let (runtime, container) = runtime::find_container(runtimes, key).await?;
            runtime.details(&container).await?;
            if container.state == ContainerState::Exited {
                return Err(AgentError::HasEnded(key.clone()));
            }
            if container.name != *key {
                *key = container.id.0;
            }
            Ok(())
        }
        (Target::Every | Target::New | Target::Pod { .. } | Target::Labelled { .. }, _) => Ok(()),
    }
}
