//! Pods and containers as targets: finds out from the runtime whose a newborn cgroup is, and which ones run
//! already. Questions are asked beside the loop, so that a slow runtime delays names, never records.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{AgentError, identity};
use crate::{
    causes::with_causes,
    runtime::{
        Change, Container, ContainerDetails, ContainerId, ContainerState, Pod, Runtime, RuntimeError, Watch,
        WatchFilter, cgroup_name,
    },
    session::{Birth, Session},
    stream::{SubjectId, Target},
};

impl Target {
    fn wants(&self, container: &Container) -> bool {
        match self {
            Self::Pod { container: only, .. } | Self::Labelled { container: only, .. } => {
                self.wants_pod(&container.pod) && only.as_ref().is_none_or(|only| *only == container.name)
            }
            Self::Container(key) => {
                container.name == *key || (key.len() >= 8 && container.id.0.starts_with(key.as_str()))
            }
            Self::Every => true,
        }
    }

    /// Whether a pod is one of those that this target names.
    fn wants_pod(&self, pod: &Pod) -> bool {
        match self {
            Self::Pod { namespace, name, .. } => pod.namespace == *namespace && pod.name == *name,
            Self::Labelled { namespace, selector, .. } => {
                pod.namespace == *namespace && selector.fits(&pod.labels)
            }
            Self::Container(_) => false,
            Self::Every => true,
        }
    }
}

/// How long a newborn cgroup with a container's name waits for the runtime to know it.
const NAMELESS_FOR: Duration = Duration::from_secs(15);
/// Between two questions about the same container.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// What came in from the runtime.
pub(super) enum Event {
    Change(Box<Change>),
    Answer(Box<Answer>),
}

/// The answer to "who is this?".
pub(super) struct Answer {
    id: ContainerId,
    /// `None`: the runtime does not know it.
    result: Result<Option<Found>, RuntimeError>,
}

/// A container, and its details as far as they can be had.
type Found = (Container, Result<ContainerDetails, RuntimeError>);

/// What is known of one container id.
#[derive(Default)]
struct Known {
    container: Option<Container>,
    instance: Option<SubjectId>,
    /// Its cgroup's birth, kept until it has a name.
    birth: Option<Birth>,
    is_asked: bool,
    asked_at: Option<Instant>,
    /// Nobody wants it.
    is_stranger: bool,
    /// It was recorded before it had a process to look at: what confines it is to be looked at again.
    is_unfinished: bool,
}

/// The container targets of a recording.
pub(super) struct Containers {
    targets: Vec<Target>,
    /// Targets may come later.
    waits: bool,
    runtime: Option<Runtime>,
    manager: String,
    watch: Option<Watch>,
    known: BTreeMap<ContainerId, Known>,
    questions: JoinSet<Answer>,
    /// Live sandboxes of wanted pods, and whether there has been one.
    live_pods: BTreeSet<String>,
    seen_pods: Vec<Pod>,
    /// Sandboxes of wanted pods that are over, seen alive or not.
    ended_pods: BTreeSet<String>,
    is_lost: bool,
    was_lost: bool,
    /// Containers that run in a sandbox of their own kernel; only said once.
    refused: BTreeSet<ContainerId>,
}

impl Containers {
    /// Connects, if there is something to ask for, and finds the targets that must be there.
    pub(super) async fn connect(
        targets: &[Target],
        endpoint: Option<&str>,
        wait: bool,
    ) -> Result<Self, AgentError> {
        let runtime = if targets.is_empty() { None } else { Some(Runtime::connect(endpoint).await?) };
        let mut targets = targets.to_vec();
        if let Some(runtime) = runtime.as_ref().filter(|_| !wait) {
            for target in &mut targets {
                check_exists(runtime, target).await?;
            }
        }
        let manager = runtime.as_ref().map(|runtime| {
            let version = runtime.version();
            format!("{} {}", version.name, version.version)
        });
        Ok(Self {
            targets,
            waits: wait,
            runtime,
            manager: manager.unwrap_or_default(),
            watch: None,
            known: BTreeMap::new(),
            questions: JoinSet::new(),
            live_pods: BTreeSet::new(),
            seen_pods: Vec::new(),
            ended_pods: BTreeSet::new(),
            is_lost: false,
            was_lost: false,
            refused: BTreeSet::new(),
        })
    }

    /// Begins to watch; births must be watched by now, so that no container is in between.
    pub(super) fn start(&mut self) {
        // One watch for all targets: their number is small, and a list is a list.
        let filter = match self.targets.as_slice() {
            [Target::Pod { namespace, name, .. }] => {
                WatchFilter { namespace: Some(namespace.clone()), pod: Some(name.clone()), container: None }
            }
            _ => WatchFilter::default(),
        };
        self.watch = self.runtime.as_ref().map(|runtime| runtime.watch(filter));
    }

    pub(super) fn is_active(&self) -> bool {
        self.watch.is_some()
    }

    /// The next thing to take in. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        let Some(watch) = &mut self.watch else { return std::future::pending().await };
        tokio::select! {
            change = watch.next() => match change {
                Some(change) => Event::Change(Box::new(change)),
                None => std::future::pending().await,
            },
            Some(answer) = self.questions.join_next(), if !self.questions.is_empty() => match answer {
                Ok(answer) => Event::Answer(Box::new(answer)),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }

    /// Takes in what came.
    pub(super) fn take(&mut self, event: Event, session: &mut Session) -> Result<(), AgentError> {
        match event {
            Event::Change(change) => self.take_change(*change),
            Event::Answer(answer) => self.take_answer(*answer, session)?,
        }
        Ok(())
    }

    fn take_change(&mut self, change: Change) {
        match change {
            Change::PodAppeared(pod) => {
                if pod.is_ready && self.wants_pod(&pod) {
                    self.live_pods.insert(pod.id.0.clone());
                    self.seen_pods.push(pod);
                }
            }
            Change::PodEnded(pod) | Change::PodRemoved(pod) => {
                self.live_pods.remove(&pod.id.0);
                if self.wants_pod(&pod) {
                    self.ended_pods.insert(pod.id.0);
                }
            }
            Change::Appeared(container) | Change::Started(container) => self.meet(container),
            Change::Stopped(container) | Change::Removed(container) => {
                if let Some(known) = self.known.get_mut(&container.id) {
                    known.container = Some(container);
                }
            }
            Change::RuntimeLost(error) => {
                self.is_lost = true;
                self.was_lost = true;
                tracing::warn!(
                    "lost the container runtime ({}): recording goes on, containers that start now get their names when it is back",
                    with_causes(&error)
                );
            }
            Change::RuntimeBack => {
                self.is_lost = false;
                tracing::info!("the container runtime is back");
            }
        }
    }

    /// A container that the runtime lists.
    fn meet(&mut self, container: Container) {
        let wanted = self.targets.iter().any(|target| target.wants(&container));
        let runs = container.state == ContainerState::Running;
        let known = self.known.entry(container.id.clone()).or_default();
        let id = container.id.clone();
        known.container = Some(container);
        known.is_stranger = !wanted;
        if wanted && runs && (known.instance.is_none() || known.is_unfinished) {
            self.ask(&id);
        }
    }

    /// Whether a newborn cgroup may be a container that is wanted; asks if it is not known.
    pub(super) fn consider(&mut self, birth: &Birth) -> bool {
        if self.runtime.is_none() {
            return false;
        }
        let path = birth.path.as_os_str().as_bytes();
        let Some(name) =
            cgroup_name::parse_path(path).next().filter(|name| name.role == cgroup_name::Role::Container)
        else {
            return false;
        };
        let id = ContainerId(name.id.to_owned());
        let known = self.known.entry(id.clone()).or_default();
        // The outermost cgroup of that name is the container's own; the others are inside it.
        if known.birth.as_ref().is_none_or(|kept| birth.path.as_os_str().len() < kept.path.as_os_str().len())
        {
            known.birth = Some(birth.clone());
        }
        if known.is_stranger {
            return false;
        }
        let is_over = birth.since.elapsed() > NAMELESS_FOR && !self.is_lost && !known.is_asked;
        if !is_over {
            self.ask(&id);
        }
        !is_over
    }

    /// Asks the runtime about a container, unless that is under way or was just tried.
    fn ask(&mut self, id: &ContainerId) {
        let Some(runtime) = &self.runtime else { return };
        let known = self.known.entry(id.clone()).or_default();
        let is_settled = known.instance.is_some() && !known.is_unfinished;
        if known.is_asked || is_settled || known.asked_at.is_some_and(|at| at.elapsed() < ASK_AGAIN) {
            return;
        }
        known.is_asked = true;
        known.asked_at = Some(Instant::now());
        let (runtime, id, last) = (runtime.clone(), id.clone(), known.container.clone());
        self.questions.spawn(async move {
            let found = match runtime.container(&id).await {
                // Gone already: what the last list said must do.
                Ok(found) => Ok(found.or(last)),
                Err(error) => Err(error),
            };
            let result = match found {
                Ok(Some(container)) => {
                    let details = runtime.details(&container).await;
                    Ok(Some((container, details)))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            Answer { id, result }
        });
    }

    fn take_answer(&mut self, answer: Answer, session: &mut Session) -> Result<(), AgentError> {
        let Answer { id, result } = answer;
        let known = self.known.entry(id.clone()).or_default();
        known.is_asked = false;
        let (container, details) = match result {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::debug!("asked for container {id}: {}", with_causes(&error));
                return Ok(());
            }
        };
        if !self.targets.iter().any(|target| target.wants(&container)) {
            known.is_stranger = true;
            return Ok(());
        }
        known.container = Some(container.clone());
        let details = match details {
            Ok(details) => Some(details),
            Err(error @ (RuntimeError::Sandboxed { .. } | RuntimeError::NoOwnCgroup { .. })) => {
                known.is_stranger = true;
                if self.refused.insert(id) {
                    tracing::error!("{}", with_causes(&error));
                }
                return Ok(());
            }
            // Not to be had now: ask again while it lives, else go without.
            Err(error) if error.is_transient() => {
                tracing::debug!("asked for the details of {id}: {}", with_causes(&error));
                return Ok(());
            }
            Err(_) => None,
        };
        let identity = identity::of_container(&container, details.as_ref(), &self.manager);
        known.is_unfinished = details.as_ref().is_none_or(|details| details.pid.is_none());
        if let Some(kept) = known.instance.and_then(|instance| session.identity_mut(instance)) {
            if kept.confinement.seccomp != identity.confinement.seccomp {
                identity::warn_of_filter(&identity);
            }
            *kept = identity;
            return Ok(());
        }
        identity::warn_of_filter(&identity);
        let birth = known.birth.clone().or_else(|| find_birth(session, &id));
        let instance = if let Some(birth) = birth.filter(|birth| {
            session.unclaimed().iter().any(|b| b.slot == birth.slot && b.cgroup_id == birth.cgroup_id)
        }) {
            session.claim(&birth, identity)?
        } else {
            let running: Option<(PathBuf, u64)> = details
                .filter(|details| details.pid.is_some())
                .and_then(|details| details.cgroup)
                .and_then(|path| session.tree().id(&path).ok().flatten().map(|cgroup| (path, cgroup)));
            let Some((path, cgroup_id)) = running else { return Ok(()) };
            session.record_running(cgroup_id, path, identity)?
        };
        known.instance = Some(instance);
        Ok(())
    }

    fn wants_pod(&self, pod: &Pod) -> bool {
        self.targets.iter().any(|target| target.wants_pod(pod))
    }

    /// Whether nothing more can come: each pod has been there and has ended, each container has been recorded.
    pub(super) fn is_over(&self, session: &Session) -> bool {
        let recorded = |target: &Target| {
            self.known.values().any(|known| {
                known.instance.is_some()
                    && known.container.as_ref().is_some_and(|container| target.wants(container))
            })
        };
        let refused = |target: &Target| {
            self.refused.iter().any(|id| {
                let container = self.known.get(id).and_then(|known| known.container.as_ref());
                container.is_some_and(|container| target.wants(container))
            })
        };
        // A pod that came and went between two lists, or while the runtime was lost.
        let outlived = |target: &Target| {
            self.known.values().filter(|known| known.instance.is_some()).any(|known| {
                let of_ended = |container: &&Container| self.ended_pods.contains(&container.pod.id.0);
                known.container.as_ref().filter(of_ended).is_some_and(|container| target.wants(container))
            })
        };
        let ended = |target: &Target| match target {
            // A roll-out can have a moment without any pod.
            Target::Labelled { .. } if self.waits => false,
            Target::Pod { .. } | Target::Labelled { .. } => {
                let is_seen = self.seen_pods.iter().any(|pod| target.wants_pod(pod));
                (is_seen || outlived(target)) && self.live_pods.is_empty()
            }
            Target::Container(_) => recorded(target) || refused(target),
            Target::Every => false,
        };
        self.targets.iter().all(ended) && self.questions.is_empty() && session.living().next().is_none()
    }

    /// Says what an outage means for what was recorded.
    pub(super) fn finish(&mut self, session: &mut Session) {
        if !self.was_lost {
            return;
        }
        let instances: Vec<_> = self.known.values().filter_map(|known| known.instance).collect();
        for id in instances {
            if let Some(identity) = session.identity_mut(id) {
                let end = if self.is_lost { " and did not come back" } else { "" };
                identity.notes.push(format!(
                    "the container runtime was lost{end}: containers of this pod that started meanwhile may be missing"
                ));
            }
        }
    }
}

fn find_birth(session: &Session, id: &ContainerId) -> Option<Birth> {
    session.unclaimed().into_iter().find(|birth| {
        cgroup_name::parse_path(birth.path.as_os_str().as_bytes()).next().is_some_and(|name| name.id == id.0)
    })
}

/// Refuses a target that is not there. The start of an id becomes the whole id that it stands for.
async fn check_exists(runtime: &Runtime, target: &mut Target) -> Result<(), AgentError> {
    match target {
        Target::Pod { namespace, name, container } => {
            let pod = runtime.live_pod(namespace, name).await?;
            if let Some(only) = container {
                let found = runtime.pod_containers(&pod).await?;
                if !found.iter().any(|container| container.name == *only) {
                    let key = format!("{namespace}/{name}/{only}");
                    return Err(RuntimeError::ContainerNotFound { key }.into());
                }
                for container in
                    found.iter().filter(|c| c.name == *only && c.state == ContainerState::Running)
                {
                    runtime.details(container).await?;
                }
            }
            Ok(())
        }
        Target::Every => Ok(()),
        Target::Labelled { namespace, selector, .. } => {
            let pods = runtime.pods().await?;
            if pods
                .iter()
                .any(|pod| pod.is_ready && pod.namespace == *namespace && selector.fits(&pod.labels))
            {
                return Ok(());
            }
            Err(AgentError::NoneLabelled { namespace: namespace.clone(), selector: selector.clone() })
        }
        Target::Container(key) => {
            let container = runtime.find_container(key).await?;
            runtime.details(&container).await?;
            if container.state == ContainerState::Exited {
                return Err(AgentError::HasEnded(key.clone()));
            }
            if container.name != *key {
                *key = container.id.0;
            }
            Ok(())
        }
    }
}
