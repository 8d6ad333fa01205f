//! `khard trace`: from targets to files. Owns the loop that a recording is, from the first target to the last
//! file. It must not know maps (that is `bpf`) nor how rules are chosen (that is `khard-profile`).

mod containers;
mod identity;
mod live;
mod outputs;
mod signals;
mod waiting;

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use khard_profile::{escape, recording::Ended};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

pub(crate) use self::outputs::{CHECKPOINT_FILE, RECORDING_FILE};
pub use self::{containers::ContainerTarget, outputs::Report};
use self::{
    containers::Containers,
    live::LiveLine,
    outputs::Outputs,
    signals::{Received, Signals},
    waiting::WaitingCgroups,
};
use crate::{
    bpf::{AttachChoice, AttachPlan, KernelVersion},
    cgroup::{CgroupError, CgroupTree, OwnCgroup},
    command::{CommandError, Started, User},
    output::files::WriteError,
    privilege::{self, PrivilegeError},
    profiles::{ProfileChoices, ProfileError},
    runtime::RuntimeError,
    session::{InstanceId, Session, SessionError},
};

/// What `khard trace` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// A command to start and record.
    pub command: Option<Vec<OsString>>,
    /// As whom to start it.
    pub user: Option<User>,
    /// Cgroups, by path.
    pub cgroups: Vec<PathBuf>,
    /// Pods and containers.
    pub containers: Vec<ContainerTarget>,
    /// Targets may come later.
    pub wait: bool,
    /// The runtime's socket.
    pub runtime_endpoint: Option<String>,
    /// Where the folders go.
    pub out_dir: PathBuf,
    /// The folder's name, for a single target.
    pub name: Option<String>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// By what means accesses are seen.
    pub attach: AttachChoice,
    /// Attempts that failed are told from what was done, at the cost of a program at each call's end.
    pub outcomes: bool,
    /// How profiles are made.
    pub choices: ProfileChoices,
    /// Show the live line, if there is a terminal for it.
    pub live: bool,
}

/// A recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
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
    /// Files.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Profiles; the recording is written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// khard's own privileges.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
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
    /// Ctrl-C twice.
    #[error("abandoned: nothing was written but the last checkpoint")]
    Abandoned,
    /// A folder for two subjects.
    #[error(
        "two targets would be written to the same folder {0}: record them one after the other, or with different -o"
    )]
    SameFolder(String),
    /// A container whose time is over.
    #[error("the container {} has ended: start it again and name it, or wait for the next of its name with --wait", escape::terminal(.0.as_bytes()))]
    HasEnded(String),
    /// Nothing came.
    #[error("nothing was recorded: {0}")]
    Nothing(&'static str),
}

/// How a recording ended.
#[derive(Debug)]
pub struct Finished {
    /// What was written for each subject.
    pub reports: Vec<Report>,
    /// The command's own end.
    pub command_status: Option<ExitStatus>,
}

const TICK: Duration = Duration::from_millis(100);
/// A checkpoint is written this often: so much is lost at most by `kill -9`.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// Records until all subjects have ended, the time is over, or the user stops it.
///
/// # Errors
/// When a target cannot be recorded, or nothing can be written. Subjects that were only attached to go on.
pub async fn run(options: Options) -> Result<Finished, TraceError> {
    // Signals first: from here on a Ctrl-C ends in order.
    let signals = Signals::install().map_err(|source| TraceError::Io { what: "handle signals", source })?;
    let mut trace = Trace::begin(&options).await?;
    privilege::drop_privileges()?;
    if options.wait {
        tracing::info!("ready: targets that start from now on are recorded from their first instruction");
    }
    match trace.record(signals, options.duration).await {
        Ok(why) => trace.finish(why),
        Err(abandoned @ TraceError::Abandoned) => Err(abandoned),
        Err(error) => {
            // What was recorded until then is worth more than the reason why it ended.
            trace.finish(Ended::Interrupted)?;
            Err(error)
        }
    }
}

/// A recording under way.
struct Trace {
    session: Session,
    containers: Containers,
    waiting: WaitingCgroups,
    outputs: Outputs,
    command: Option<Recorded>,
    command_status: Option<ExitStatus>,
    live: LiveLine,
    next_checkpoint: Instant,
}

impl Trace {
    /// Checks everything that can be checked, and starts recording.
    async fn begin(options: &Options) -> Result<Self, TraceError> {
        let outputs = Outputs::open(options)?;
        let tree = CgroupTree::find()?;
        let cgroups =
            options.cgroups.iter().map(|path| tree.normalize(path)).collect::<Result<Vec<_>, _>>()?;
        for path in cgroups.iter().filter(|_| !options.wait) {
            tree.existing_id(path)?;
        }
        let endpoint = options.runtime_endpoint.as_deref();
        let containers = Containers::connect(&options.containers, endpoint, options.wait).await?;
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let kernel = KernelVersion::parse(&release).ok_or(TraceError::KernelVersion(release))?;
        let plan = AttachPlan::for_kernel(kernel);
        let plan = if options.outcomes { plan.with_outcomes() } else { plan };
        let session = Session::start(&plan, options.attach, tree)?;

        let mut trace = Self {
            session,
            containers,
            waiting: WaitingCgroups::default(),
            outputs,
            command: None,
            command_status: None,
            live: LiveLine::off(),
            next_checkpoint: Instant::now() + CHECKPOINT,
        };
        if !options.containers.is_empty() || (options.wait && !cgroups.is_empty()) {
            trace.session.watch_births()?;
        }
        for path in cgroups {
            trace.record_cgroup(path)?;
        }
        trace.containers.start();
        if let Some(argv) = &options.command {
            trace.command =
                Some(Recorded::start(argv, options.user.as_ref(), &mut trace.session, &mut trace.outputs)?);
        }
        let owns_terminal = trace.command.as_ref().is_some_and(|command| command.started.owns_terminal());
        trace.live = LiveLine::new(options.live && !owns_terminal);
        Ok(trace)
    }

    fn record_cgroup(&mut self, path: PathBuf) -> Result<(), TraceError> {
        if let Some(id) = self.session.tree().id(&path)? {
            let identity = identity::of_cgroup(self.session.tree(), &path);
            identity::warn_of_filter(&identity);
            let instance = self.session.record_running(id, path.clone(), identity)?;
            self.outputs.assign_cgroup(&path, instance)
        } else {
            // Two for one folder are refused now, not when the second one starts.
            self.outputs.expect_cgroup(&path)?;
            self.waiting.add(path);
            Ok(())
        }
    }

    /// The loop. Returns why it ended.
    async fn record(
        &mut self,
        mut signals: Signals,
        duration: Option<Duration>,
    ) -> Result<Ended, TraceError> {
        // A time beyond the clock's end never comes.
        let mut deadline = duration.and_then(|duration| tokio::time::Instant::now().checked_add(duration));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_asked_to_end = false;
        loop {
            let command_runs = self.command.is_some() && self.command_status.is_none();
            let mut is_tick = false;
            tokio::select! {
                ready = self.session.readable() => {
                    ready.map_err(|source| TraceError::Io { what: "wait for records", source })?;
                }
                _ = tick.tick() => is_tick = true,
                received = signals.next() => match (received, self.command.as_ref().filter(|_| command_runs)) {
                    (Received::ChildChanged, Some(command)) => command.started.follow_stop(),
                    (Received::ChildChanged, None) => {}
                    (Received::End(_), Some(_)) if was_asked_to_end => return Err(TraceError::Abandoned),
                    // The command is ours: it is asked to end, and the recording ends with it.
                    (Received::End(signal), Some(command)) => {
                        was_asked_to_end = true;
                        command.started.signal(signal);
                    }
                    (Received::End(_), None) => return Ok(Ended::Interrupted),
                },
                status = wait_for(&mut self.command), if command_runs => {
                    let failed = |source| TraceError::Io { what: "wait for the command", source };
                    self.command_status = Some(status.map_err(failed)?);
                }
                event = self.containers.next(), if self.containers.is_active() => {
                    self.session.drain();
                    self.containers.take(event, &mut self.session, &mut self.outputs)?;
                }
                () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                    match self.command.as_ref().filter(|_| command_runs) {
                        // As with Ctrl-C: a command of khard's own does not go on unrecorded.
                        Some(command) => {
                            (deadline, was_asked_to_end) = (None, true);
                            command.started.signal(libc::SIGTERM);
                        }
                        None => return Ok(Ended::Duration),
                    }
                }
            }
            self.session.drain();
            self.attribute()?;
            while let Some(message) = self.session.next_message() {
                self.live.take(&message, &self.session);
            }
            if is_tick && self.is_over()? {
                return Ok(Ended::SubjectEnded);
            }
        }
    }

    /// Gives newborn cgroups to who waits for them.
    fn attribute(&mut self) -> Result<(), TraceError> {
        for birth in self.session.unclaimed() {
            if let Some(around) = self.session.instance_around(&birth.path) {
                self.session.claim_for(&birth, around);
            } else if let Some(path) = self.waiting.claim(&birth) {
                let identity = identity::of_cgroup(self.session.tree(), &path);
                let instance = self.session.claim(&birth, identity);
                self.outputs.assign_cgroup(&path, instance)?;
            } else if !self.containers.consider(&birth) && !self.waiting.is_around(&birth) {
                self.session.disown(birth.slot)?;
            }
        }
        Ok(())
    }

    /// What is to be done now and then. Returns whether everything has ended.
    fn is_over(&mut self) -> Result<bool, TraceError> {
        for id in self.session.emptied() {
            self.session.drain();
            self.session.end(id, Ended::SubjectEnded)?;
        }
        self.session.recycle()?;
        self.session.refresh();
        self.live.draw(&self.session);
        if Instant::now() >= self.next_checkpoint {
            self.outputs.checkpoint(&self.session)?;
            self.next_checkpoint = Instant::now() + CHECKPOINT;
        }
        Ok(self.containers.is_over(&self.session)
            && self.waiting.is_empty()
            && (self.command.is_none() || self.command_status.is_some())
            && self.session.instances().all(|instance| instance.ended().is_some()))
    }

    /// Ends what is left, and writes everything.
    fn finish(mut self, why: Ended) -> Result<Finished, TraceError> {
        self.live.clear();
        self.containers.finish(&mut self.session);
        self.session.drain();
        let alive = |instance: &&crate::session::Instance| instance.ended().is_none();
        let living: Vec<InstanceId> =
            self.session.instances().filter(alive).map(|instance| instance.id).collect();
        for id in living {
            self.session.end(id, why)?;
        }
        let reports = self.outputs.finish(&self.session)?;
        if reports.is_empty() {
            return Err(TraceError::Nothing(match why {
                Ended::Duration => "no target started in the given time",
                _ => "no target had started",
            }));
        }
        Ok(Finished { reports, command_status: self.command_status })
    }
}

async fn wait_for(command: &mut Option<Recorded>) -> io::Result<ExitStatus> {
    match command {
        Some(command) => command.started.wait().await,
        None => std::future::pending().await,
    }
}

/// The command, and the cgroup that goes with it.
struct Recorded {
    started: Started,
    _cgroup: OwnCgroup,
}

impl Recorded {
    fn start(
        argv: &[OsString],
        user: Option<&User>,
        session: &mut Session,
        outputs: &mut Outputs,
    ) -> Result<Self, TraceError> {
        let program = argv.first().cloned().unwrap_or_default();
        let cgroup = session.tree().create(&format!("khard-{}", std::process::id()))?;
        let identity = identity::of_command(&program);
        identity::warn_of_filter(&identity);
        let instance = session.record_command(cgroup.id, cgroup.path.clone(), identity)?;
        // Before it runs: a command that cannot be recorded must not be left behind.
        outputs.assign_command(&program, instance)?;
        let started = Started::spawn(argv, &cgroup, user)?;
        if let Some(identity) = session.identity_mut(instance) {
            identity.init_pid = Some(started.pid());
        }
        Ok(Self { started, _cgroup: cgroup })
    }
}
