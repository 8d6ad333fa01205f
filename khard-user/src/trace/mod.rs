//! `khard trace`, `tui` and `replay`: from a stream to files. Owns where the stream comes from (an agent in this process, one behind a
//! command, an old recording). It must not know how anything is recorded (that is `agent`) nor how rules are chosen.
//!
//! [`client`] takes the stream in.

mod client;
mod live;
mod outputs;
mod replay;
mod via;

use std::{ffi::OsString, io, path::PathBuf, process::ExitStatus, thread, time::Duration};

pub(crate) use self::client::TOLD_WITHOUT_V;
use self::{
    client::{Client, Keep, Ui, Written},
    outputs::Outputs,
    via::Via,
};
pub use self::{outputs::Report, replay::replay};
use crate::{
    agent::{self, Agent, AgentError, CommandToRun, Signals},
    command::CommandEnd,
    output::files::WriteError,
    privilege::{self, NotPermitted, PrivilegeError},
    profiles::{ProfileChoices, ProfileError},
    stream::{Request, StreamError},
    subjects::BadStream,
    verify::{Verification, Verified},
};

/// What `khard trace` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to record.
    pub request: Request,
    /// By whom.
    pub source: Source,
    /// End after this time.
    pub duration: Option<Duration>,
    /// End when nothing new has come for this time.
    pub until_quiet: Option<Duration>,
    /// What is shown meanwhile.
    pub show: Show,
}

/// What is written of it, and where.
#[derive(Clone, Debug)]
pub struct Files {
    /// Where the folders go.
    pub out_dir: PathBuf,
    /// The folder's name, for a single target.
    pub name: Option<String>,
    /// Which pods of a workload share a folder.
    pub unite: Option<Unite>,
    /// How profiles are made.
    pub choices: ProfileChoices,
}

/// Which pods of one workload become one recording. By default each pod has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unite {
    /// Those with the same image.
    Replicas,
    /// All.
    Rollouts,
}

/// What is shown while a recording goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Nothing.
    Nothing,
    /// A line on stderr, if that is a terminal that nobody else has.
    Line,
    /// The dashboard.
    Dashboard,
}

/// Where the stream comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// This process.
    Here {
        /// A command to start and record.
        command: Option<CommandToRun>,
    },
    /// An agent behind a shell command.
    Via(OsString),
}

/// A recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Recording itself.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Recording itself, at the other end of the stream.
    #[error("the agent failed: {}", khard_profile::escape::terminal(.0.as_bytes()))]
    AgentFailed(String),
    /// The other end of the stream is gone, or does not make sense.
    #[error("the agent was lost: what it had told by then is written, and marked so")]
    AgentLost(#[source] Option<Lost>),
    /// The same before anybody was recorded.
    #[error("there is no agent at the other end")]
    NoAgent(#[source] Option<Lost>),
    /// The user did not wait for it.
    #[error("stopped before an agent at the other end was ready: nothing was recorded")]
    NotReady,
    /// The command that leads to the agent.
    #[error("cannot start a shell for --via")]
    Via(#[source] io::Error),
    /// Files.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Profiles; the recording is written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// khard's own privileges.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// Nobody who may record.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// The dashboard.
    #[error("cannot show the dashboard: it needs a terminal; `khard trace` needs none")]
    Terminal(#[source] io::Error),
    /// Threads, signals and descriptors.
    #[error("cannot {what}")]
    Io {
        /// What khard was about to do.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A contradiction in what was recorded: a defect of khard.
    #[error("cannot put the recording together")]
    Assemble(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Ctrl-C twice.
    #[error("abandoned: nothing was written but the last checkpoint")]
    Abandoned,
    /// A folder for two subjects.
    #[error(
        "two targets would be written to the same folder {0}: record them one after the other, or with different -o"
    )]
    SameFolder(String),
    /// Nothing came.
    #[error("nothing was recorded: {0}")]
    Nothing(&'static str),
    /// Any of these beside a command that has failed itself, which may count for more.
    #[error("the command failed ({status}), and what was recorded of it is not kept")]
    NotKept {
        /// The command's own.
        status: ExitStatus,
        /// What khard failed in.
        #[source]
        source: Box<TraceError>,
    },
}

/// Why the agent is lost.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The bytes.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// What they say.
    #[error(transparent)]
    Bad(#[from] BadStream),
    /// The command that led to it ended.
    #[error("the command of --via ended ({0}): try it alone, it must lead to `khard agent --stdio`")]
    Ended(ExitStatus),
}

/// How a recording ended.
#[derive(Debug)]
pub struct Finished {
    /// What was written for each subject.
    pub reports: Vec<Report>,
    /// What profiles refuse of it, if that was the question.
    pub verified: Option<Verified>,
    /// The command's own end.
    pub command: CommandEnd,
}

/// Records until all subjects have ended, the time is over, or the user stops it.
///
/// # Errors
/// When a target cannot be recorded, or nothing can be written. Subjects that were only attached to go on.
pub async fn run(options: Options, files: Files) -> Result<Finished, TraceError> {
    check_privileges(&options.source)?;
    // Signals first: from here on a Ctrl-C ends in order.
    let signals = Signals::install().map_err(|source| TraceError::Io { what: "handle signals", source })?;
    let outputs = Outputs::open(&options, &files)?;
    let out_dir = outputs.path();
    take_in(&options, &out_dir, signals, |ui| Client::new(&options, Keep::Files(Box::new(outputs)), ui)).await
}

/// Records as [`run`], writes nothing, and says what profiles refuse of what is recorded.
///
/// # Errors
/// When a target cannot be recorded.
pub async fn verify(options: Options, verification: Verification) -> Result<Finished, TraceError> {
    check_privileges(&options.source)?;
    let signals = Signals::install().map_err(|source| TraceError::Io { what: "handle signals", source })?;
    take_in(&options, "", signals, |ui| Client::new(&options, Keep::Verdicts(Box::new(verification)), ui))
        .await
}

/// Whoever records elsewhere needs none here.
fn check_privileges(source: &Source) -> Result<(), NotPermitted> {
    match source {
        Source::Here { .. } => privilege::check_privileges(),
        Source::Via(_) => Ok(()),
    }
}

/// Brings an agent and a client together.
async fn take_in(
    options: &Options,
    out_dir: &str,
    signals: Signals,
    client: impl FnOnce(Ui) -> Client,
) -> Result<Finished, TraceError> {
    match &options.source {
        Source::Here { command } => here(options, command.as_ref(), out_dir, signals, client).await,
        Source::Via(command) => {
            let via = Via::start(command, options.request.clone()).map_err(TraceError::Via)?;
            let client = client(Ui::open(options, out_dir, false)?);
            let (link, mut peer) = via.into_parts();
            let written = client.run(link, signals).await;
            let status = peer.ended().await;
            // Of a command that said nothing, its end says more.
            let or_ended = |lost: Option<Lost>| match lost {
                None => status.map(Lost::Ended),
                Some(Lost::Stream(StreamError::NotAStream(said))) if said.is_empty() => {
                    status.map(Lost::Ended)
                }
                other => other,
            };
            match written {
                Ok(kept) => Ok(kept.into_finished(CommandEnd::default())),
                Err(TraceError::AgentLost(lost)) => Err(TraceError::AgentLost(or_ended(lost))),
                Err(TraceError::NoAgent(lost)) => Err(TraceError::NoAgent(or_ended(lost))),
                Err(error) => Err(error),
            }
        }
    }
}

/// Agent and client in this process, each with a thread of its own: writing a checkpoint must not keep the kernel's rings full.
async fn here(
    options: &Options,
    command: Option<&CommandToRun>,
    out_dir: &str,
    signals: Signals,
    client: impl FnOnce(Ui) -> Client,
) -> Result<Finished, TraceError> {
    let agent = Agent::begin(&options.request, command).await?;
    privilege::drop_privileges()?;
    let client = client(Ui::open(options, out_dir, agent.command_owns_terminal())?);
    let (port, link) = agent::stream();
    let thread = thread::Builder::new()
        .name("client".to_owned())
        .spawn(move || -> Written {
            let failed = |source| TraceError::Io { what: "start tokio", source };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
            runtime.block_on(async {
                let failed = |source| TraceError::Io { what: "handle signals", source };
                client.run(link, Signals::install().map_err(failed)?).await
            })
        })
        .map_err(|source| TraceError::Io { what: "start a thread", source })?;
    let (command, served) = agent.serve(port, signals).await;
    let written = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // The agent's own error says more than what the client was told of it.
    let error = match (served, written) {
        (Ok(()), Ok(kept)) => return Ok(kept.into_finished(command)),
        (Ok(()), Err(error)) => error,
        (Err(error), _) => error.into(),
    };
    Err(match command.status {
        Some(status) if !status.success() => TraceError::NotKept { status, source: Box::new(error) },
        _ => error,
    })
}
