//! What happens to containers while khard records: a stream that outlives the runtime's restarts.
//!
//! Owns when to look. Every change is found by comparing two lists; the runtime's own events only say that it is time
//! for the next one. So a lost event costs time, never a change, and a runtime without events (containerd before 1.7)
//! is served by the same code.
use super::{Container, ContainerId, ContainerState, Pod, PodId, Runtime, RuntimeError};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::sleep,
};

/// The pauses between two lists.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// While the watched container may start any moment.
    fast: Duration,
    /// Once it runs, or where the runtime's events tell when to look.
    slow: Duration,
}

const PACE: Pace = Pace { fast: Duration::from_millis(150), slow: Duration::from_millis(500) };
/// The first and the longest pause after the runtime was lost.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Changes that wait for the reader; the watcher then waits too.
const QUEUE_MAX: usize = 64;

/// Which pods to watch. An empty filter watches all, and containers without a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchFilter {
    /// The pod's namespace.
    pub namespace: Option<String>,
    /// The pod's name.
    pub pod: Option<String>,
    /// The container's name.
    pub container: Option<String>,
}

impl WatchFilter {
    fn wants_pod(&self, pod: &Pod) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        fits(&self.namespace, &pod.namespace) && fits(&self.pod, &pod.name)
    }

    fn wants(&self, container: &Container) -> bool {
        let fits = self.container.as_ref().is_none_or(|name| *name == container.name);
        fits && match &container.pod {
            Some(pod) => self.wants_pod(pod),
            None => self.namespace.is_none() && self.pod.is_none(),
        }
    }
}

/// One thing that happened. What existed before the watch is reported as if it had just happened.
#[derive(Debug)]
pub enum Change {
    /// A pod's sandbox is there.
    PodAppeared(Pod),
    /// A pod's sandbox has ended.
    PodEnded(Pod),
    /// A pod's sandbox is no more listed.
    PodRemoved(Pod),
    /// A container is there; it may be created, running or exited already.
    Appeared(Container),
    /// A container runs.
    Started(Container),
    /// A container has ended.
    Stopped(Container),
    /// A container is no more listed. One that was running is not reported as stopped: its exit code is lost.
    Removed(Container),
    /// The runtime cannot be asked; containers may start and stop unseen until it is back.
    RuntimeLost(RuntimeError),
    /// The runtime answers again; what changed meanwhile follows.
    RuntimeBack,
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Change>,
    look_now: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Watch {
    /// The next change, also through an outage; `None` only if the watcher's task was ended from outside, together with its tokio
    /// runtime.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.poll_recv(cx)
    }

    /// Asks for a list now, as when the kernel tells of a cgroup that nobody has named yet.
    pub fn look_now(&self) {
        self.look_now.notify_one();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Runtime {
    /// Watches pods and containers from now on. Must be called within a tokio runtime.
    #[must_use]
    pub fn watch(&self, filter: WatchFilter) -> Watch {
        self.watch_at(PACE, filter)
    }

    fn watch_at(&self, pace: Pace, filter: WatchFilter) -> Watch {
        let (sender, changes) = mpsc::channel(QUEUE_MAX);
        let look_now = Arc::new(Notify::new());
        let watcher = Watcher {
            runtime: self.clone(),
            filter,
            pace,
            sender,
            look_now: Arc::clone(&look_now),
            events_flow: Arc::new(AtomicBool::new(false)),
            known: Known::default(),
        };
        let task = tokio::spawn(watcher.run());
        Watch { changes, look_now, task }
    }
}

/// The last list, as far as the filter wants it.
#[derive(Debug, Default)]
struct Known {
    pods: BTreeMap<PodId, Pod>,
    containers: BTreeMap<ContainerId, Container>,
}

/// The reader is gone.
struct Closed;

struct Watcher {
    runtime: Runtime,
    filter: WatchFilter,
    pace: Pace,
    sender: mpsc::Sender<Change>,
    look_now: Arc<Notify>,
    /// Whether the runtime has sent an event on the present stream. Until then it is not known that it sends any:
    /// a Go server answers a stream's call with the first event only.
    events_flow: Arc<AtomicBool>,
    known: Known,
}

impl Watcher {
    async fn run(mut self) {
        let events = tokio::spawn(follow_events(
            self.runtime.clone(),
            Arc::clone(&self.look_now),
            Arc::clone(&self.events_flow),
        ));
        let _ = self.look_forever().await;
        events.abort();
    }

    async fn look_forever(&mut self) -> Result<(), Closed> {
        let mut pause = BACK_OFF.0;
        let mut is_lost = false;
        loop {
            match self.list().await {
                Ok(now) => {
                    if std::mem::take(&mut is_lost) {
                        self.send(Change::RuntimeBack).await?;
                    }
                    pause = BACK_OFF.0;
                    self.report(now).await?;
                    tokio::select! {
                        () = sleep(self.pace()) => {}
                        () = self.look_now.notified() => {}
                        () = self.sender.closed() => return Err(Closed),
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_lost, true) {
                        self.send(Change::RuntimeLost(error)).await?;
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.sender.closed() => return Err(Closed),
                    }
                    pause = (pause * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    async fn list(&self) -> Result<Known, RuntimeError> {
        let pods = self.runtime.pods().await?;
        let containers = self.runtime.containers_of(&pods).await?;
        let filter = &self.filter;
        Ok(Known {
            pods: pods.into_iter().filter(|p| filter.wants_pod(p)).map(|p| (p.id.clone(), p)).collect(),
            containers: containers
                .into_iter()
                .filter(|c| filter.wants(c))
                .map(|c| (c.id.clone(), c))
                .collect(),
        })
    }

    /// Fast while nothing that is wanted runs: then the next start is what everybody waits for.
    fn pace(&self) -> Duration {
        let is_any_running = self.known.containers.values().any(|c| c.state == ContainerState::Running);
        if is_any_running || self.events_flow.load(Ordering::Relaxed) {
            self.pace.slow
        } else {
            self.pace.fast
        }
    }

    /// Sends the difference between the last list and `now`: beginnings from the pod inwards, ends outwards.
    async fn report(&mut self, mut now: Known) -> Result<(), Closed> {
        let before = std::mem::take(&mut self.known);
        for pod in now.pods.values() {
            if !before.pods.contains_key(&pod.id) {
                self.send(Change::PodAppeared(pod.clone())).await?;
            }
        }
        // In the order of their creation, as init containers run.
        let mut containers: Vec<_> = now.containers.values_mut().collect();
        containers.sort_by(|a, b| (a.created_at_ns, &a.id).cmp(&(b.created_at_ns, &b.id)));
        for container in containers {
            let old = before.containers.get(&container.id).map(|c| c.state);
            if old != Some(container.state) {
                self.report_container(container, old).await?;
            }
        }
        for (id, container) in &before.containers {
            if !now.containers.contains_key(id) {
                self.send(Change::Removed(container.clone())).await?;
            }
        }
        for pod in now.pods.values().filter(|pod| !pod.is_ready) {
            if before.pods.get(&pod.id).is_none_or(|old| old.is_ready) {
                self.send(Change::PodEnded(pod.clone())).await?;
            }
        }
        for (id, pod) in &before.pods {
            if !now.pods.contains_key(id) {
                self.send(Change::PodRemoved(pod.clone())).await?;
            }
        }
        self.known = now;
        Ok(())
    }

    /// `old` is the state in the last list. A start that fell between two lists is reported before its end.
    async fn report_container(
        &self,
        container: &mut Container,
        old: Option<ContainerState>,
    ) -> Result<(), Closed> {
        // Only the container's own status has times and exit code, and it is newer than the list. If the container is
        // gone by now, the list's part is still true.
        if let Ok(complete) = self.runtime.with_status(container.clone()).await {
            *container = complete;
        }
        if old.is_none() {
            self.send(Change::Appeared(container.clone())).await?;
        }
        let has_started = match container.state {
            ContainerState::Running => true,
            ContainerState::Exited => container.has_started,
            ContainerState::Created | ContainerState::Unknown => false,
        };
        if has_started && old != Some(ContainerState::Running) {
            self.send(Change::Started(container.clone())).await?;
        }
        if container.state == ContainerState::Exited {
            self.send(Change::Stopped(container.clone())).await?;
        }
        Ok(())
    }

    async fn send(&self, change: Change) -> Result<(), Closed> {
        self.sender.send(change).await.map_err(|_| Closed)
    }
}

/// Calls for a list at each event of the runtime. Ends when the runtime has no events to give.
async fn follow_events(runtime: Runtime, look_now: Arc<Notify>, events_flow: Arc<AtomicBool>) {
    let mut pause = BACK_OFF.0;
    loop {
        let happened = || {
            events_flow.store(true, Ordering::Relaxed);
            look_now.notify_one();
        };
        if !runtime.follow_events(happened).await {
            return;
        }
        if events_flow.swap(false, Ordering::Relaxed) {
            pause = BACK_OFF.0;
        }
        sleep(pause).await;
        pause = (pause * 2).min(BACK_OFF.1);
    }
}

#[cfg(test)]
mod tests;
