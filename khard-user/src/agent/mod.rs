//! The agent: from targets to a stream of messages. Owns the loop that a recording is. It must not know what becomes of what it
//! tells (that is `trace`), nor maps (that is `bpf`).

mod containers;
mod docker_run;
mod identity;
mod signals;
mod stdio;
mod targets;
mod waiting;

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use khard_profile::{
    escape,
    recording::{Ended, Host},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

pub(crate) use self::docker_run::starts_container;
pub(crate) use self::signals::Received;
use self::{
    containers::{Containers, Prospect},
    docker_run::DockerRun,
    waiting::WaitingCgroups,
};
pub use self::{docker_run::CidFileError, signals::Signals, stdio::serve_stdio};
use crate::{
    bpf::{AttachPlan, KernelVersion},
    causes::with_causes,
    cgroup::{CgroupError, CgroupTree, OwnCgroup},
    command::{CommandEnd, CommandError, Output, Started, User},
    host,
    privilege::PrivilegeError,
    runtime::RuntimeError,
    session::{Session, SessionError},
    stream::{Command, IN_FLIGHT, Message, Outcome, Request, Selector, StreamError, SubjectId, Target},
};

/// A recording could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Kernel side.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Cgroups.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The container runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A `docker run`.
    #[error(transparent)]
    DockerRun(#[from] CidFileError),
    /// khard's own privileges.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The other side.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Signals and descriptors.
    #[error("cannot {what}")]
    Io {
        /// What khard was about to do.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's version is not to be read.
    #[error("cannot read the kernel's version from {0:?}: khard needs it to choose its programs")]
    KernelVersion(String),
    /// No pod has the labels.
    #[error("no pod in namespace {} has the labels {selector}: name its namespace with -n, or wait for it with --wait", escape::terminal(namespace.as_bytes()))]
    NoneLabelled {
        /// Where it was looked for.
        namespace: String,
        /// Which labels.
        selector: Selector,
    },
    /// A container whose time is over.
    #[error("the container {} has ended: start it again and name it, or wait for the next of its name with --wait", escape::terminal(.0.as_bytes()))]
    HasEnded(String),
    /// The client did not begin with what it wants.
    #[error(
        "the client asked for nothing to record: khard agent is started by `khard trace --via` or `khard tui --via`"
    )]
    NoRequest,
}

/// A command to start and record.
#[derive(Clone, Debug)]
pub struct CommandToRun {
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// As whom to start it.
    pub user: Option<User>,
    /// Where what it prints goes.
    pub output: Output,
    /// Once it has ended nothing else is waited for.
    pub ends_recording: bool,
}

/// The agent's end of a stream.
pub struct Port {
    /// What the client wants. Closed: it is gone.
    pub commands: mpsc::Receiver<Command>,
    /// What the client is told.
    pub messages: mpsc::Sender<Result<Message, StreamError>>,
}

/// The client's end of a stream.
pub struct Link {
    /// What the client wants.
    pub commands: mpsc::Sender<Command>,
    /// What the client is told. Closed before [`Message::Over`]: the agent is lost.
    pub messages: mpsc::Receiver<Result<Message, StreamError>>,
}

/// A stream within this process.
pub fn stream() -> (Port, Link) {
    let (commands, wanted) = mpsc::channel(IN_FLIGHT);
    let (told, messages) = mpsc::channel(IN_FLIGHT);
    (Port { commands: wanted, messages: told }, Link { commands, messages })
}

const TICK: Duration = Duration::from_millis(100);
/// Tables and counters are looked at, and the client hears that the agent is there.
const PULSE: Duration = Duration::from_secs(1);
/// With more subjects, each is looked at only with the pulse whether it still has processes.
const FEW_SUBJECTS: usize = 32;
/// What a command's first process has for its end, as containers have it of Docker, before the others are asked too.
const GRACE: Duration = Duration::from_secs(10);
/// How long the end of a recording waits for the names of containers that have only just begun.
const NAMES_AT_END: Duration = Duration::from_secs(10);
/// Messages that wait for a slow client, some 40 MiB. With more, accesses stay in the kernel's ring, which counts what finds no
/// room.
const MOST_WAITING: usize = 1 << 17;

/// A recording under way.
pub struct Agent {
    session: Session,
    containers: Containers,
    waiting: WaitingCgroups,
    command: Option<StartedCommand>,
    /// How the command ended, and when.
    command_ended: Option<(ExitStatus, Instant)>,
    /// Once the command has ended nothing else is waited for.
    ends_with_command: bool,
    /// Why the command was asked to end.
    asked_to_end: Option<Ended>,
    /// In which ways somebody has wanted an end.
    askers: BTreeSet<Asker>,
    /// Why the recording ends, and when at the latest: who has begun and has no name yet is asked about.
    ending: Option<(Ended, Instant)>,
}

/// How a user can want an end. One and the same wish may come in both ways: a terminal that goes is a signal here, and an end of the
/// client there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    Signal,
    Client,
}

/// Why the loop ended.
enum Over {
    Ended(Ended),
    Abandoned,
    ClientGone,
}

impl Agent {
    /// Checks everything that can be checked, and starts recording. Must be called within a tokio runtime.
    pub async fn begin(request: &Request, command: Option<&CommandToRun>) -> Result<Self, AgentError> {
        let tree = CgroupTree::find()?;
        let asked = request.cgroups.iter().map(|path| PathBuf::from(OsStr::from_bytes(path.as_slice())));
        let cgroups = asked.map(|path| tree.normalize(&path)).collect::<Result<Vec<_>, _>>()?;
        for path in cgroups.iter().filter(|_| !request.wait) {
            tree.existing_id(path)?;
        }
        let endpoint = request.runtime_endpoint.as_deref();
        let docker_run = match command {
            Some(command) => {
                let takes_new = request.targets.contains(&Target::New);
                DockerRun::of(&command.argv, command.user.as_ref(), takes_new)?
            }
            None => None,
        };
        // The client itself is started in a cgroup of its own, and not recorded.
        let client = docker_run.as_ref().map(|run| run.argv.clone());
        let containers = Containers::connect(&request.targets, docker_run, endpoint, request.wait).await?;
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let kernel = KernelVersion::parse(&release).ok_or(AgentError::KernelVersion(release))?;
        let plan = AttachPlan::for_kernel(kernel);
        let plan = if request.outcomes { plan.with_outcomes() } else { plan };
        let session = Session::start(&plan, request.attach, tree)?;

        // What `docker run` starts in the background is waited for: it is the command.
        let ends_recording = command.is_some_and(|command| command.ends_recording) && !containers.follows();
        let mut agent = Self {
            ends_with_command: ends_recording || request.targets.contains(&Target::New),
            session,
            containers,
            waiting: WaitingCgroups::default(),
            command: None,
            command_ended: None,
            asked_to_end: None,
            askers: BTreeSet::new(),
            ending: None,
        };
        if agent.containers.is_active() || (request.wait && !cgroups.is_empty()) {
            agent.session.watch_births(agent.containers.is_active())?;
        }
        for path in cgroups {
            agent.record_cgroup(path)?;
        }
        agent.containers.start();
        if let Some(command) = command {
            agent.command = Some(match client {
                Some(argv) => {
                    StartedCommand::unrecorded(&CommandToRun { argv, ..command.clone() }, &agent.session)?
                }
                None => StartedCommand::recorded(command, &mut agent.session)?,
            });
        }
        Ok(agent)
    }

    /// Whether the command has the terminal.
    pub fn command_owns_terminal(&self) -> bool {
        self.command.as_ref().is_some_and(|command| command.started.owns_terminal())
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        self.session.host()
    }

    fn running_command(&self) -> Option<&StartedCommand> {
        self.command.as_ref().filter(|_| self.command_ended.is_none())
    }

    fn record_cgroup(&mut self, path: PathBuf) -> Result<(), AgentError> {
        if let Some(id) = self.session.tree().id(&path)? {
            let identity = identity::of_cgroup(self.session.tree(), &path);
            identity::warn_of_filter(&identity);
            self.session.record_running(id, path, identity)?;
        } else {
            self.waiting.add(path);
        }
        Ok(())
    }

    /// Records until all subjects have ended, or the client or a signal ends it, and tells everything. Returns how the
    /// command ended, and in what the agent failed: the client is told of that too, after all that was recorded until then.
    pub async fn serve(
        mut self,
        mut port: Port,
        mut signals: Signals,
    ) -> (CommandEnd, Result<(), AgentError>) {
        let ready = Message::Ready {
            khard: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.session.host().clone(),
            now_ns: host::boot_time_ns(),
        };
        // A client that is gone is noticed in the loop.
        let _ = port.messages.send(Ok(ready)).await;
        let (why, mut outcome, mut result) = match self.record(&mut port, &mut signals).await {
            Ok(Over::Ended(why)) => (why, Outcome::Ended(why), Ok(())),
            Ok(Over::Abandoned) => (Ended::Interrupted, Outcome::Abandoned, Ok(())),
            Ok(Over::ClientGone) => (Ended::Interrupted, Outcome::Ended(Ended::Interrupted), Ok(())),
            Err(error) => (Ended::Interrupted, Outcome::Failed(with_causes(&error)), Err(error)),
        };
        if outcome != Outcome::Abandoned
            && let Err(error) = self.end_all(why)
            && result.is_ok()
        {
            (outcome, result) = (Outcome::Failed(with_causes(&error)), Err(error));
        }
        while let Some(message) = self.session.next_message() {
            if port.messages.send(Ok(message)).await.is_err() {
                break;
            }
        }
        let _ = port.messages.send(Ok(Message::Over { outcome })).await;
        let status = self.command_ended.map(|(status, _)| status);
        (CommandEnd { status, asked: self.asked_to_end }, result)
    }

    /// Ends what is left. What was recorded until a failure is worth more than the reason why it ended.
    fn end_all(&mut self, why: Ended) -> Result<(), AgentError> {
        self.containers.finish(&mut self.session);
        self.session.drain(true);
        let living: Vec<SubjectId> = self.session.living().collect();
        for id in living {
            self.session.end(id, why)?;
        }
        Ok(self.session.refresh()?)
    }

    async fn record(&mut self, port: &mut Port, signals: &mut Signals) -> Result<Over, AgentError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_pulse = Instant::now();
        loop {
            let command_runs = self.running_command().is_some();
            let takes_accesses = self.session.n_messages() < MOST_WAITING;
            let mut is_tick = false;
            tokio::select! {
                ready = self.session.readable(takes_accesses) => {
                    ready.map_err(|source| AgentError::Io { what: "wait for records", source })?;
                }
                _ = tick.tick() => is_tick = true,
                received = signals.next() => match received {
                    Received::ChildChanged => {
                        if let Some(command) = self.running_command() {
                            command.started.follow_stop();
                        }
                    }
                    Received::End(signal) => {
                        if let Some(over) = self.asked_to_end(Ended::Interrupted, Some(Asker::Signal), signal) {
                            return Ok(over);
                        }
                    }
                },
                command = port.commands.recv() => match command {
                    None => return Ok(Over::ClientGone),
                    Some(command) => if let Some(over) = self.obey(command) {
                        return Ok(over);
                    },
                },
                () = port.messages.closed() => return Ok(Over::ClientGone),
                permit = port.messages.reserve(), if self.session.n_messages() > 0 => {
                    if let (Ok(permit), Some(message)) = (permit, self.session.next_message()) {
                        permit.send(Ok(message));
                    }
                }
                status = wait_for(&mut self.command), if command_runs => {
                    let failed = |source| AgentError::Io { what: "wait for the command", source };
                    self.command_ended = Some((status.map_err(failed)?, Instant::now()));
                    if let Some(command) = &mut self.command {
                        command.ask_the_rest();
                    }
                }
                event = self.containers.next(), if self.containers.is_active() => {
                    self.session.drain(takes_accesses);
                    self.containers.take(event, &mut self.session)?;
                }
            }
            self.session.drain(takes_accesses);
            self.attribute()?;
            let is_pulse = is_tick && Instant::now() >= next_pulse;
            if is_pulse {
                next_pulse = Instant::now() + PULSE;
                if takes_accesses {
                    self.session.refresh()?;
                    self.session.pulse();
                }
            }
            let over = if is_tick { self.is_over(is_pulse)? } else { None };
            self.hand_over(port);
            if let Some(why) = over {
                return Ok(Over::Ended(why));
            }
        }
    }

    /// Tells as much as the client takes now.
    fn hand_over(&mut self, port: &Port) {
        while self.session.n_messages() > 0
            && let Ok(permit) = port.messages.try_reserve()
            && let Some(message) = self.session.next_message()
        {
            permit.send(Ok(message));
        }
    }

    fn obey(&mut self, command: Command) -> Option<Over> {
        match command {
            // Only the first one counts, and whoever carried it here has taken it.
            Command::Record(_) => None,
            Command::Mark { label } => {
                self.session.mark(label);
                None
            }
            Command::Look { subject } => {
                self.session.look(subject);
                None
            }
            Command::End { why } => {
                let asker = (why == Ended::Interrupted).then_some(Asker::Client);
                self.asked_to_end(why, asker, libc::SIGTERM)
            }
        }
    }

    /// Somebody wants an end. A command of khard's own does not go on unrecorded: it is asked to end, and the recording ends with
    /// it; a user who asks twice wants nothing more. Of containers that have begun and have no name yet the name is waited for, unless
    /// the user asks twice. `asker`: none where time is up.
    fn asked_to_end(&mut self, why: Ended, asker: Option<Asker>, signal: i32) -> Option<Over> {
        let is_again = asker.is_some_and(|asker| !self.askers.insert(asker));
        let command = self.command.as_mut().filter(|_| self.command_ended.is_none());
        match (command, self.ending) {
            (None, Some((why, _))) => is_again.then_some(Over::Ended(why)),
            // Decided with the next tick, once all births until now were taken in.
            (None, None) => {
                self.ending = Some((why, Instant::now() + NAMES_AT_END));
                None
            }
            (Some(command), _) if is_again => {
                command.ask_the_rest();
                Some(Over::Abandoned)
            }
            (Some(_), _) if self.asked_to_end.is_some() => None,
            (Some(command), _) => {
                command.ask_to_end(signal);
                self.asked_to_end = Some(why);
                None
            }
        }
    }

    /// Gives newborn cgroups to who waits for them.
    fn attribute(&mut self) -> Result<(), AgentError> {
        for birth in self.session.unclaimed() {
            if let Some(around) = self.session.instance_around(&birth) {
                self.session.claim_for(&birth, around);
            } else if let Some(path) = self.waiting.claim(&birth) {
                let identity = identity::of_cgroup(self.session.tree(), &path);
                self.session.claim(&birth, identity)?;
            } else {
                let prospect = self.containers.consider(&birth, &self.session);
                if prospect == Prospect::None && !self.waiting.is_around(&birth) {
                    self.session.disown(birth.slot)?;
                }
                self.session.expect_claim(birth.slot, prospect == Prospect::Good);
            }
        }
        Ok(self.session.foresee_filters()?)
    }

    /// What is to be done now and then. Once nothing more can come, returns how those end that are left.
    fn is_over(&mut self, is_pulse: bool) -> Result<Option<Ended>, AgentError> {
        if is_pulse || self.session.living().nth(FEW_SUBJECTS).is_none() {
            // The time that the user gave may be why it ended; a signal was the command's to take.
            let why = self.asked_to_end.filter(|why| *why != Ended::Interrupted);
            for id in self.session.emptied() {
                self.session.drain(true);
                self.session.end(id, why.unwrap_or(Ended::SubjectEnded))?;
            }
        }
        self.session.recycle()?;
        if let Some(command) = self.command.as_mut().filter(|command| command.is_out_of_time()) {
            tracing::warn!(
                "the command goes on {} s after it was asked to end; all its processes are asked now, and a signal to khard abandons it",
                GRACE.as_secs()
            );
            command.ask_the_rest();
            self.askers.insert(Asker::Signal);
        }
        if is_pulse {
            self.containers.ask_again(&self.session);
        }
        if let Some((why, at_the_latest)) = self.ending {
            let waits = self.containers.is_naming(&self.session) && Instant::now() < at_the_latest;
            return Ok((!waits).then_some(why));
        }
        let last = self.command_ended.filter(|_| self.ends_with_command);
        let can_more_come = match last {
            // Others' containers may come without end.
            Some((_, at)) => at.elapsed() < NAMES_AT_END && self.containers.is_naming(&self.session),
            None => {
                self.running_command().is_some()
                    || !self.waiting.is_empty()
                    || !self.containers.is_over(&self.session)
            }
        };
        Ok(match self.session.living().next() {
            _ if can_more_come => None,
            None => Some(Ended::SubjectEnded),
            // What the command has left running is not waited for.
            Some(_) if last.is_some() => Some(self.asked_to_end.unwrap_or(Ended::Running)),
            // Somebody wants an end, and has it: daemons of the command's need not hear of that.
            Some(_) if self.command_ended.is_some_and(|(_, at)| at.elapsed() >= GRACE) => self.asked_to_end,
            Some(_) => None,
        })
    }
}

async fn wait_for(command: &mut Option<StartedCommand>) -> io::Result<ExitStatus> {
    match command {
        Some(command) => command.started.wait().await,
        None => std::future::pending().await,
    }
}

/// The command, and the cgroup that goes with it.
struct StartedCommand {
    started: Started,
    /// What its other processes are asked to end by, once its first one has ended, and at the latest when.
    for_the_rest: Option<(i32, Instant)>,
    _cgroup: OwnCgroup,
}

impl StartedCommand {
    /// As a container is asked by its runtime: its first process alone, so that what that tells the others is recorded. A Ctrl-C
    /// is the terminal's, and for all.
    fn ask_to_end(&mut self, signal: i32) {
        if signal == libc::SIGINT {
            self.started.signal_group(signal);
        } else {
            self.started.signal_first(signal);
            self.for_the_rest = Some((signal, Instant::now() + GRACE));
        }
    }

    fn is_out_of_time(&self) -> bool {
        self.for_the_rest.is_some_and(|(_, at_the_latest)| Instant::now() >= at_the_latest)
    }

    fn ask_the_rest(&mut self) {
        if let Some((signal, _)) = self.for_the_rest.take() {
            self.started.signal_group(signal);
        }
    }

    fn cgroup(session: &Session) -> Result<OwnCgroup, AgentError> {
        session.tree().remove_abandoned();
        Ok(session.tree().create_own()?)
    }

    fn unrecorded(command: &CommandToRun, session: &Session) -> Result<Self, AgentError> {
        let cgroup = Self::cgroup(session)?;
        let started = Started::spawn(&command.argv, &cgroup, command.user.as_ref(), &command.output)?;
        Ok(Self { started, for_the_rest: None, _cgroup: cgroup })
    }

    fn recorded(command: &CommandToRun, session: &mut Session) -> Result<Self, AgentError> {
        let program = command.argv.first().cloned().unwrap_or_default();
        let cgroup = Self::cgroup(session)?;
        let identity = identity::of_command(&program);
        identity::warn_of_filter(&identity);
        let instance = session.record_command(cgroup.id, cgroup.path.clone(), identity)?;
        let started = Started::spawn(&command.argv, &cgroup, command.user.as_ref(), &command.output)?;
        if let Some(identity) = session.identity_mut(instance) {
            identity.init_pid = Some(started.pid());
        }
        Ok(Self { started, for_the_rest: None, _cgroup: cgroup })
    }
}
