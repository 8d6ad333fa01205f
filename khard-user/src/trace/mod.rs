//! `khard trace`: from targets to files. Owns the loop that a recording is, from the first target to the last
//! file. It must not know maps (that is `bpf`) nor how rules are chosen (that is `khard-profile`).

mod containers;
mod live;
mod outputs;
mod signals;
mod waiting;

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use khard_profile::{
    Bytes,
    recording::{AppArmorInForce, Confinement, Ended, SeccompInForce, Subject},
};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use self::{
    containers::Containers, live::LiveLine, outputs::Outputs, signals::Signals, waiting::WaitingCgroups,
};
pub use self::{containers::ContainerTarget, outputs::Report};
use crate::{
    bpf::{AttachPlan, KernelVersion},
    cgroup::{CgroupError, CgroupTree, OwnCgroup},
    command::{CommandError, Started, User},
    confinement,
    output::files::WriteError,
    profiles::{ProfileChoices, ProfileError},
    runtime::RuntimeError,
    session::{Identity, InstanceId, Session, SessionError},
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
    #[error("two targets would be written to the same folder {0}: record them one after the other, or with different -o")]
    SameFolder(String),
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
    let mut signals = Signals::install().map_err(|source| TraceError::Io { what: "handle signals", source })?;
    let mut outputs = Outputs::open(&options)?;
    let tree = CgroupTree::find()?;
    let cgroups = options.cgroups.iter().map(|path| tree.normalize(path)).collect::<Result<Vec<_>, _>>()?;
    for path in &cgroups {
        if !options.wait {
            tree.existing_id(path)?;
        }
    }
    let mut containers = Containers::connect(&options.containers, options.runtime_endpoint.as_deref(), options.wait).await?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let kernel = KernelVersion::parse(&release).ok_or(TraceError::KernelVersion(release))?;
    let mut session = Session::start(&AttachPlan::for_kernel(kernel), tree)?;

    let mut waiting = WaitingCgroups::default();
    if !options.containers.is_empty() || (options.wait && !cgroups.is_empty()) {
        session.watch_births()?;
    }
    for path in cgroups {
        match session.tree().id(&path)? {
            Some(id) => {
                let identity = cgroup_identity(session.tree(), &path);
                let instance = session.record_running(id, path.clone(), identity)?;
                outputs.assign_cgroup(&path, instance)?;
            }
            None => waiting.add(path),
        }
    }
    containers.start();
    let mut command = match &options.command {
        Some(argv) => Some(Recorded::start(argv, options.user.as_ref(), &mut session, &mut outputs)?),
        None => None,
    };

    let owns_terminal = command.as_ref().is_some_and(|command| command.started.owns_terminal());
    let mut live = LiveLine::new(options.live && !owns_terminal);
    let deadline = options.duration.map(|duration| tokio::time::Instant::now() + duration);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_checkpoint = Instant::now() + CHECKPOINT;
    let mut command_status = None;
    let mut n_signals = 0;

    let why = loop {
        let mut is_tick = false;
        tokio::select! {
            ready = session.readable() => ready.map_err(|source| TraceError::Io { what: "wait for records", source })?,
            _ = tick.tick() => is_tick = true,
            signal = signals.next() => {
                n_signals += 1;
                match command.as_ref().filter(|_| command_status.is_none()) {
                    _ if n_signals > 1 => return Err(TraceError::Abandoned),
                    // The command is ours: it is asked to end, and the recording ends with it.
                    Some(command) => command.started.signal(signal),
                    None => break Ended::Interrupted,
                }
            }
            status = wait_for(&mut command), if command.is_some() && command_status.is_none() => {
                command_status = Some(status.map_err(|source| TraceError::Io { what: "wait for the command", source })?);
            }
            event = containers.next(), if containers.is_active() => {
                session.drain()?;
                containers.take(event, &mut session, &mut outputs)?;
            }
            () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => break Ended::Duration,
        }
        session.drain()?;
        attribute(&mut session, &mut containers, &mut waiting, &mut outputs)?;
        while let Some(message) = session.next_message() {
            live.take(&message, &session);
        }
        if !is_tick {
            continue;
        }
        for id in session.emptied() {
            session.drain()?;
            session.end(id, Ended::SubjectEnded)?;
        }
        session.recycle()?;
        session.refresh();
        live.draw(&session);
        let is_over = containers.is_over(&session)
            && waiting.is_empty()
            && (command.is_none() || command_status.is_some())
            && session.instances().all(|instance| instance.ended().is_some());
        if is_over {
            break Ended::SubjectEnded;
        }
        if Instant::now() >= next_checkpoint {
            outputs.checkpoint(&session)?;
            next_checkpoint = Instant::now() + CHECKPOINT;
        }
    };

    live.clear();
    containers.finish(&mut session);
    session.drain()?;
    let living: Vec<InstanceId> =
        session.instances().filter(|instance| instance.ended().is_none()).map(|instance| instance.id).collect();
    for id in living {
        session.end(id, why)?;
    }
    let reports = outputs.finish(&session)?;
    if reports.is_empty() {
        return Err(TraceError::Nothing(match why {
            Ended::Duration => "no target started in the given time",
            _ => "no target had started",
        }));
    }
    Ok(Finished { reports, command_status })
}

/// Gives newborn cgroups to who waits for them.
fn attribute(
    session: &mut Session,
    containers: &mut Containers,
    waiting: &mut WaitingCgroups,
    outputs: &mut Outputs,
) -> Result<(), TraceError> {
    for birth in session.unclaimed() {
        if let Some(around) = session.instance_around(&birth.path) {
            session.claim_for(&birth, around);
        } else if let Some(path) = waiting.claim(&birth) {
            let identity = cgroup_identity(session.tree(), &path);
            let instance = session.claim(&birth, identity);
            outputs.assign_cgroup(&path, instance)?;
        } else if !containers.consider(&birth) && !waiting.is_around(&birth) {
            session.disown(birth.slot)?;
        }
    }
    Ok(())
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
        let own = confinement::of_process(std::process::id());
        let identity = Identity {
            subject: Subject::Command { program: Bytes::from(program.as_bytes()) },
            label: program.to_string_lossy().into_owned(),
            container: None,
            runtime: None,
            confinement: Confinement {
                no_new_privs: own.no_new_privs,
                privileged: None,
                seccomp: seccomp_of(own),
                apparmor: confinement::apparmor_of(std::process::id()),
            },
            init_pid: None,
            notes: Vec::new(),
        };
        let instance = session.record_command(cgroup.id, cgroup.path.clone(), identity)?;
        let started = Started::spawn(argv, &cgroup, user)?;
        if let Some(identity) = session.identity_mut(instance) {
            identity.init_pid = Some(started.pid());
        }
        outputs.assign_command(&program, instance)?;
        Ok(Self { started, _cgroup: cgroup })
    }
}

/// What a process is under, for one whose profile's origin nobody tells.
fn seccomp_of(process: confinement::ProcessConfinement) -> SeccompInForce {
    match process.seccomp_mode {
        Some(0) => SeccompInForce::None,
        _ => SeccompInForce::Unknown { n_filters: process.seccomp_filters },
    }
}

fn cgroup_identity(tree: &CgroupTree, path: &std::path::Path) -> Identity {
    let first = tree.processes(path).first().copied();
    let (seccomp, no_new_privs, apparmor) = first.map_or(
        (SeccompInForce::None, None, AppArmorInForce::Unknown),
        |pid| {
            let process = confinement::of_process(pid);
            (seccomp_of(process), process.no_new_privs, confinement::apparmor_of(pid))
        },
    );
    Identity {
        subject: Subject::Cgroup { path: Bytes::from(path.as_os_str().as_bytes()) },
        label: path.to_string_lossy().into_owned(),
        container: None,
        runtime: None,
        confinement: Confinement { no_new_privs, privileged: None, seccomp, apparmor },
        init_pid: first,
        notes: Vec::new(),
    }
}
