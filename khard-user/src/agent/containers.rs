//! Pods and containers as targets: finds out from the runtimes whose a newborn cgroup is, and which ones run
//! already. Questions are asked beside the loop, so that a slow runtime delays names, never records.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    AgentError,
    docker_run::DockerRun,
    identity,
    targets::{check_exists, may_be_old},
};
use crate::{
    causes::with_causes,
    runtime::{
        self, Change, Container, ContainerDetails, ContainerId, ContainerState, Pod, Runtime, RuntimeError,
        Wanted, Watch, WatchFilter, cgroup_name,
    },
    session::{Birth, Session},
    stream::{SubjectId, Target},
};

/// How long a newborn cgroup with a container's name waits for the runtime to know it.
const NAMELESS_FOR: Duration = Duration::from_secs(15);
/// Between two questions about the same container, at first: the longer no runtime has known it, or all of it, the longer.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// The part of its age after which such a one is asked about again.
const ASK_AGAIN_SHARE: u32 = 4;

/// What came in from a runtime.
pub(super) enum Event {
    /// From the one at this place.
    Change(usize, Box<Change>),
    Answer(Box<Answer>),
}

/// The answer to "who is this?".
pub(super) struct Answer {
    id: ContainerId,
    /// `None`: no runtime knows it.
    result: Result<Option<Found>, RuntimeError>,
}

/// A container, its details as far as they can be had, and which runtime has it.
struct Found {
    container: Container,
    details: Result<ContainerDetails, RuntimeError>,
    runtime: usize,
}

/// Whether an id is one that is wanted.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// Or nobody has said yet.
    #[default]
    Wanted,
    /// No runtime knows it: most of all the sandbox of a pod that is no target.
    UnheardOf,
    /// A container that is no target.
    Stranger,
}

/// Whether a newborn cgroup is a container that is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Prospect {
    /// It is not.
    None,
    /// No runtime knows it so far.
    Poor,
    /// It may be: its runtime has not said yet.
    Good,
}

/// What is known of one container id.
#[derive(Default)]
struct Known {
    /// With the place of the runtime that has it.
    container: Option<(Container, usize)>,
    /// As they were when they were last to be had.
    details: Option<ContainerDetails>,
    instance: Option<SubjectId>,
    /// Its cgroup's birth, kept until it has a name.
    birth: Option<Birth>,
    is_asked: bool,
    asked_at: Option<Instant>,
    standing: Standing,
    /// A runtime has told all that there is to tell, though it is not recorded.
    is_settled: bool,
    /// It was recorded before it had a process to look at: what confines it is to be looked at again.
    is_unfinished: bool,
}

impl Known {
    fn is_wanted_by(&self, target: &Target) -> bool {
        self.container.as_ref().is_some_and(|(container, _)| target.wants(container))
    }

    /// Whether something about it is still to be asked: a question can fail, or come too early, and a list tells of each change once.
    fn is_open(&self, session: &Session) -> bool {
        let state = self.container.as_ref().map(|(container, _)| container.state);
        self.standing == Standing::Wanted
            && match self.instance {
                Some(id) => {
                    let is_there = matches!(state, Some(ContainerState::Created | ContainerState::Running));
                    self.is_unfinished && is_there && session.is_living(id)
                }
                None => !self.is_settled && state == Some(ContainerState::Running),
            }
    }
}

/// The container targets of a recording.
pub(super) struct Containers {
    targets: Vec<Target>,
    /// Targets may come later.
    waits: bool,
    /// A `docker run` whose container is a target once it is made.
    followed: Option<DockerRun>,
    /// Its id, once that is known.
    followed_id: Option<ContainerId>,
    runtimes: Vec<Runtime>,
    watches: Vec<Watch>,
    known: BTreeMap<ContainerId, Known>,
    questions: JoinSet<Answer>,
    /// Live sandboxes of wanted pods, and whether there has been one.
    live_pods: BTreeMap<String, Pod>,
    seen_pods: Vec<Pod>,
    /// Sandboxes of wanted pods that are over, seen alive or not.
    ended_pods: BTreeSet<String>,
    /// The runtimes that cannot be asked, by their places.
    lost: BTreeSet<usize>,
    was_lost: bool,
    /// Since when the last one of them can be asked again.
    back_at: Option<Instant>,
    /// Containers that run in a sandbox of their own kernel; only said once.
    refused: BTreeSet<ContainerId>,
}

impl Containers {
    /// Connects, if there is something to ask for, and finds the targets that must be there.
    pub(super) async fn connect(
        targets: &[Target],
        followed: Option<DockerRun>,
        endpoint: Option<&str>,
        wait: bool,
    ) -> Result<Self, AgentError> {
        let needs_pods = |target: &Target| matches!(target, Target::Pod { .. } | Target::Labelled { .. });
        let wanted = match &followed {
            Some(run) => {
                Some(Wanted::DockerRun { host: run.host.as_deref(), and_others: !targets.is_empty() })
            }
            None if targets.is_empty() => None,
            None if targets.iter().all(needs_pods) => Some(Wanted::Pods),
            None => Some(Wanted::Containers),
        };
        let runtimes = match wanted {
            Some(wanted) => runtime::connect(endpoint, wanted).await?,
            None => Vec::new(),
        };
        if targets.iter().any(needs_pods) && !runtimes.iter().any(Runtime::has_pods) {
            return Err(RuntimeError::NoPods { runtime: runtime::describe_all(&runtimes) }.into());
        }
        let mut targets = targets.to_vec();
        for target in targets.iter_mut().filter(|_| !wait) {
            check_exists(&runtimes, target).await?;
        }
        Ok(Self {
            targets,
            waits: wait,
            followed,
            followed_id: None,
            runtimes,
            watches: Vec::new(),
            known: BTreeMap::new(),
            questions: JoinSet::new(),
            live_pods: BTreeMap::new(),
            seen_pods: Vec::new(),
            ended_pods: BTreeSet::new(),
            lost: BTreeSet::new(),
            was_lost: false,
            back_at: None,
            refused: BTreeSet::new(),
        })
    }

    /// Begins to watch; births must be watched by now, so that no container is in between.
    pub(super) fn start(&mut self) {
        // One watch for all targets: their number is small, and a list is a list.
        let filter = match self.targets.as_slice() {
            [Target::Pod { namespace, name, .. }] if self.followed.is_none() => {
                WatchFilter { namespace: Some(namespace.clone()), pod: Some(name.clone()), container: None }
            }
            _ => WatchFilter::default(),
        };
        self.watches = self.runtimes.iter().map(|runtime| runtime.watch(filter.clone())).collect();
    }

    /// Whether there is anybody to ask.
    pub(super) fn is_active(&self) -> bool {
        !self.runtimes.is_empty()
    }

    /// The next thing to take in. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        let Self { watches, questions, .. } = self;
        let change = poll_fn(|cx| {
            let mut ready = watches.iter_mut().map(|watch| watch.poll_next(cx)).enumerate();
            let change = ready.find_map(|(at, polled)| match polled {
                Poll::Ready(Some(change)) => Some((at, change)),
                Poll::Ready(None) | Poll::Pending => None,
            });
            change.map_or(Poll::Pending, Poll::Ready)
        });
        tokio::select! {
            (at, change) = change => Event::Change(at, Box::new(change)),
            Some(answer) = questions.join_next(), if !questions.is_empty() => match answer {
                Ok(answer) => Event::Answer(Box::new(answer)),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }

    /// Takes in what came.
    pub(super) fn take(&mut self, event: Event, session: &mut Session) -> Result<(), AgentError> {
        match event {
            Event::Change(at, change) => self.take_change(*change, at),
            Event::Answer(answer) => self.take_answer(*answer, session)?,
        }
        Ok(())
    }

    /// `at`: the runtime's place.
    fn take_change(&mut self, change: Change, at: usize) {
        match change {
            Change::PodAppeared(pod) => {
                if pod.is_ready && self.wants_pod(&pod) {
                    self.live_pods.insert(pod.id.0.clone(), pod.clone());
                    self.seen_pods.push(pod);
                }
            }
            Change::PodEnded(pod) | Change::PodRemoved(pod) => {
                self.live_pods.remove(&pod.id.0);
                if self.wants_pod(&pod) {
                    self.ended_pods.insert(pod.id.0);
                }
            }
            Change::Appeared(container) | Change::Started(container) => self.meet(container, at),
            Change::Stopped(container) | Change::Removed(container) => {
                if let Some(known) = self.known.get_mut(&container.id) {
                    known.container = Some((container, at));
                }
            }
            Change::RuntimeLost(error) => {
                self.lost.insert(at);
                self.was_lost = true;
                tracing::warn!(
                    "lost the container runtime ({}): recording goes on, containers that start now get their names when it is back",
                    with_causes(&error)
                );
            }
            Change::RuntimeBack => {
                self.lost.remove(&at);
                self.back_at = Some(Instant::now());
                tracing::info!("the container runtime is back");
            }
        }
    }

    /// A container that a runtime lists.
    fn meet(&mut self, container: Container, at: usize) {
        self.learn_followed();
        let wanted = self.targets.iter().any(|target| target.wants(&container));
        let state = container.state;
        let known = self.known.entry(container.id.clone()).or_default();
        let id = container.id.clone();
        known.container = Some((container, at));
        known.standing = if wanted { Standing::Wanted } else { Standing::Stranger };
        known.is_settled = false;
        let is_to_be_asked = match state {
            ContainerState::Running => known.instance.is_none() || known.is_unfinished,
            // One that is removed with its end may be gone when its cgroup is seen.
            ContainerState::Created => known.details.is_none(),
            ContainerState::Exited | ContainerState::Unknown => false,
        };
        if wanted && is_to_be_asked {
            self.ask(&id);
        }
    }

    /// Asks again what is still to be asked.
    pub(super) fn ask_again(&mut self, session: &Session) {
        let open = self.known.iter().filter(|(_, known)| known.is_open(session));
        let open: Vec<_> = open.map(|(id, _)| id.clone()).collect();
        for id in open {
            self.ask(&id);
        }
    }

    /// Makes the container of a `docker run` a target as soon as there is one.
    fn learn_followed(&mut self) {
        if self.followed_id.is_some() {
            return;
        }
        let Some(id) = self.followed.as_ref().and_then(DockerRun::container) else { return };
        self.targets.push(Target::Container(id.0.clone()));
        self.known.entry(id.clone()).or_default().standing = Standing::Wanted;
        self.ask(&id);
        self.followed_id = Some(id);
    }

    /// Whether a newborn cgroup may be a container that is wanted; asks if it is not known.
    pub(super) fn consider(&mut self, birth: &Birth, session: &Session) -> Prospect {
        if self.runtimes.is_empty() {
            return Prospect::None;
        }
        let path = birth.path.as_os_str().as_bytes();
        let Some(name) =
            cgroup_name::parse_path(path).next().filter(|name| name.role == cgroup_name::Role::Container)
        else {
            return Prospect::None;
        };
        let id = ContainerId(name.id.to_owned());
        if self.live_pods.contains_key(&id.0) || self.ended_pods.contains(&id.0) {
            // A pod's own process, which waits.
            return Prospect::None;
        }
        // Written before the container is started, and so before this birth.
        self.learn_followed();
        let is_wanted = |known: &Known| {
            known.container.as_ref().is_some_and(|(container, _)| may_be_old(&self.targets, container))
        };
        let may_be_inside = |known: &Known| known.birth.is_none() && !is_wanted(known);
        if self.targets.contains(&Target::New)
            && !cgroup_name::is_own(&birth.path, &id.0)
            && self.known.get(&id).is_none_or(may_be_inside)
        {
            // Made by a container that was there before: its own cgroup would have been born first.
            return Prospect::None;
        }
        let may_get_name = self.may_get_name(birth);
        let known = self.known.entry(id.clone()).or_default();
        let before = known.instance.and_then(|instance| session.instance(instance));
        if before.is_some_and(|one| one.cgroup_path == birth.path && one.cgroup_id != birth.cgroup_id) {
            // Docker starts a container again by the same id.
            (known.instance, known.birth, known.asked_at) = (None, None, None);
            known.is_settled = false;
        }
        // The outermost cgroup of that name is the container's own; the others are inside it.
        let is_outer = |kept: &Birth| birth.path.as_os_str().len() < kept.path.as_os_str().len();
        let is_later = |kept: &Birth| birth.path == kept.path && birth.cgroup_id > kept.cgroup_id;
        if known.birth.as_ref().is_none_or(|kept| is_outer(kept) || is_later(kept)) {
            known.birth = Some(birth.clone());
        }
        let prospect = match known.standing {
            Standing::Stranger => return Prospect::None,
            Standing::UnheardOf => Prospect::Poor,
            Standing::Wanted => Prospect::Good,
        };
        if !may_get_name && self.lost.is_empty() && !known.is_asked {
            return Prospect::None;
        }
        self.ask(&id);
        prospect
    }

    /// Asks the runtimes about a container, unless that is under way or was just tried.
    fn ask(&mut self, id: &ContainerId) {
        let known = self.known.entry(id.clone()).or_default();
        let is_settled = known.instance.is_some() && !known.is_unfinished;
        // One that waits for its name only because its runtime is away is asked about as soon as can be.
        let age = match &known.birth {
            Some(birth) if known.standing == Standing::UnheardOf || known.instance.is_some() => {
                birth.since.elapsed()
            }
            _ => Duration::ZERO,
        };
        let ask_again = ASK_AGAIN.max(age / ASK_AGAIN_SHARE);
        if known.is_asked || is_settled || known.asked_at.is_some_and(|at| at.elapsed() < ask_again) {
            return;
        }
        known.is_asked = true;
        known.asked_at = Some(Instant::now());
        let (runtimes, id, last) = (self.runtimes.clone(), id.clone(), known.container.clone());
        self.questions.spawn(async move {
            let result = ask_all(&runtimes, &id, last).await;
            Answer { id, result }
        });
    }

    fn take_answer(&mut self, answer: Answer, session: &mut Session) -> Result<(), AgentError> {
        let Answer { id, result } = answer;
        let known = self.known.entry(id.clone()).or_default();
        known.is_asked = false;
        let Found { container, details, runtime } = match result {
            Ok(Some(found)) => found,
            Ok(None) => {
                // A list may have told of it meanwhile.
                if known.container.is_none() {
                    known.standing = Standing::UnheardOf;
                }
                return Ok(());
            }
            Err(error) => {
                tracing::debug!("asked for container {id}: {}", with_causes(&error));
                return Ok(());
            }
        };
        if !self.targets.iter().any(|target| target.wants(&container)) {
            known.standing = Standing::Stranger;
            return Ok(());
        }
        known.standing = Standing::Wanted;
        known.container = Some((container.clone(), runtime));
        let details = match details {
            Ok(details) => Some(known.details.insert(details).clone()),
            Err(error @ (RuntimeError::Sandboxed { .. } | RuntimeError::NoOwnCgroup { .. })) => {
                known.standing = Standing::Stranger;
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
            // Its process is gone with it.
            Err(_) => known.details.clone().map(|details| ContainerDetails { pid: None, ..details }),
        };
        known.is_settled = container.state != ContainerState::Created;
        let manager = self.runtimes.get(runtime).map(Runtime::describe).unwrap_or_default();
        let identity = identity::of_container(&container, details.as_ref(), &manager);
        known.is_unfinished = details.as_ref().is_none_or(|details| details.pid.is_none());
        if let Some(kept) = known.instance.and_then(|instance| session.identity_mut(instance)) {
            if kept.confinement.seccomp != identity.confinement.seccomp {
                identity::warn_of_filter(&identity);
            }
            *kept = identity;
            return Ok(());
        }
        let birth = known.birth.clone().or_else(|| find_birth(session, &id));
        let instance = if let Some(birth) = birth.filter(|birth| is_unclaimed(session, birth)) {
            identity::warn_of_filter(&identity);
            session.claim(&birth, identity)?
        } else {
            let running: Option<(PathBuf, u64)> = details
                .filter(|details| details.pid.is_some())
                .and_then(|details| details.cgroup)
                .and_then(|path| session.tree().id(&path).ok().flatten().map(|cgroup| (path, cgroup)));
            // Without a birth it was there before.
            let running = running.filter(|_| may_be_old(&self.targets, &container));
            let Some((path, cgroup_id)) = running else { return Ok(()) };
            identity::warn_of_filter(&identity);
            session.record_running(cgroup_id, path, identity)?
        };
        known.instance = Some(instance);
        Ok(())
    }

    fn wants_pod(&self, pod: &Pod) -> bool {
        self.targets.iter().any(|target| target.wants_pod(pod))
    }

    /// Whether nothing more can come: each pod has been there and has ended, each container has been recorded.
    pub(super) fn is_over(&mut self, session: &Session) -> bool {
        self.learn_followed();
        let recorded = |target: &Target| {
            self.known.values().any(|one| one.instance.is_some() && one.is_wanted_by(target))
        };
        let refused = |target: &Target| {
            self.refused.iter().filter_map(|id| self.known.get(id)).any(|one| one.is_wanted_by(target))
        };
        // A pod that came and went between two lists, or while the runtime was lost.
        let outlived = |target: &Target| {
            self.known.values().filter(|known| known.instance.is_some()).any(|known| {
                let pod = known.container.as_ref().and_then(|(container, _)| container.pod.as_ref());
                pod.is_some_and(|pod| self.ended_pods.contains(&pod.id.0)) && known.is_wanted_by(target)
            })
        };
        let ended = |target: &Target| match target {
            // A roll-out can have a moment without any pod.
            Target::Labelled { .. } if self.waits => false,
            Target::Pod { .. } | Target::Labelled { .. } => {
                let is_seen = self.seen_pods.iter().any(|pod| target.wants_pod(pod));
                let lives = self.live_pods.values().any(|pod| target.wants_pod(pod));
                (is_seen || outlived(target)) && !lives
            }
            // Asked only once the client has ended, and by then its container was started, or never will be.
            Target::Container(key) if self.followed_id.as_ref().is_some_and(|id| id.0 == *key) => {
                let may_be = |birth: &Birth| bears(birth, key) && self.may_get_name(birth);
                recorded(target) || refused(target) || !session.unclaimed().iter().any(may_be)
            }
            Target::Container(_) => recorded(target) || refused(target),
            // What ends these is the user's end, or the command's.
            Target::Every | Target::New => false,
        };
        self.targets.iter().all(ended) && !self.is_naming(session)
    }

    /// Whether somebody who is there has no name yet, and is likely to get one: runtimes know a container before they make its cgroup.
    pub(super) fn is_naming(&self, session: &Session) -> bool {
        let may_be_named = |birth: &Birth| self.may_get_name(birth) && is_unclaimed(session, birth);
        let is_naming = |known: &Known| known.is_asked || known.birth.as_ref().is_some_and(may_be_named);
        self.known.values().any(|known| known.standing != Standing::UnheardOf && is_naming(known))
    }

    /// Whether a newborn cgroup is young enough for a runtime to know it yet.
    fn may_get_name(&self, birth: &Birth) -> bool {
        self.back_at.map_or(birth.since, |at| at.max(birth.since)).elapsed() <= NAMELESS_FOR
    }

    /// Whether a `docker run` is followed.
    pub(super) fn follows(&self) -> bool {
        self.followed.is_some()
    }

    /// Says who is left without a name, and what an outage means for what was recorded.
    pub(super) fn finish(&mut self, session: &mut Session) {
        let is_left = |known: &&Known| {
            let is_unclaimed = |birth| is_unclaimed(session, birth);
            let is_newborn = known.birth.as_ref().is_some_and(is_unclaimed);
            let may_be_old = |(container, _): &(Container, usize)| may_be_old(&self.targets, container);
            let is_open = known.instance.is_none() && known.is_open(session);
            known.standing == Standing::Wanted
                && (is_newborn || is_open && known.container.as_ref().is_some_and(may_be_old))
        };
        let n_nameless = self.known.values().filter(is_left).count();
        if n_nameless > 0 {
            tracing::warn!(
                "containers that had begun and are not recorded: {n_nameless}; the container runtime had not told by the end who they are"
            );
        }
        if !self.was_lost {
            return;
        }
        let instances: Vec<_> = self.known.values().filter_map(|known| known.instance).collect();
        for id in instances {
            if let Some(identity) = session.identity_mut(id) {
                let end = if self.lost.is_empty() { "" } else { " and did not come back" };
                identity.notes.push(format!(
                    "the container runtime was lost{end}: containers that started meanwhile may be missing"
                ));
            }
        }
    }
}

/// Asks one runtime after the other. `last` is what the last list said: of one that is gone it must do.
async fn ask_all(
    runtimes: &[Runtime],
    id: &ContainerId,
    last: Option<(Container, usize)>,
) -> Result<Option<Found>, RuntimeError> {
    let (mut failed, mut know_nothing) = (None, BTreeSet::new());
    for (at, runtime) in runtimes.iter().enumerate() {
        match runtime.container(id).await {
            Ok(Some(container)) => {
                let details = runtime.details(&container).await;
                return Ok(Some(Found { container, details, runtime: at }));
            }
            Ok(None) => drop(know_nothing.insert(at)),
            Err(error) => failed = Some(error),
        }
    }
    if last.as_ref().is_some_and(|(_, at)| know_nothing.contains(at)) {
        // Whoever listed it says that it is gone: what the others say is no matter.
        failed = None;
    }
    let gone = |(container, runtime)| {
        let details = Err(RuntimeError::Vanished { id: id.clone() });
        Found { container, details, runtime }
    };
    failed.map_or_else(|| Ok(last.map(gone)), Err)
}

fn find_birth(session: &Session, id: &ContainerId) -> Option<Birth> {
    session.unclaimed().into_iter().find(|birth| bears(birth, &id.0))
}

fn is_unclaimed(session: &Session, birth: &Birth) -> bool {
    session.unclaimed().iter().any(|b| b.slot == birth.slot && b.cgroup_id == birth.cgroup_id)
}

/// Whether a cgroup's name says that it is this container's.
fn bears(birth: &Birth, id: &str) -> bool {
    cgroup_name::parse_path(birth.path.as_os_str().as_bytes()).next().is_some_and(|name| name.id == id)
}
