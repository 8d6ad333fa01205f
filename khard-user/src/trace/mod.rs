//! `khard trace`: from a stream to files. Owns where the stream comes from (an agent in this process, or one behind a command) and
//! the loop that takes it in. It must not know how anything is recorded (that is `agent`) nor how rules are chosen.

mod live;
mod outputs;
mod via;

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use khard_profile::recording::Ended;
use tokio::time::{MissedTickBehavior, interval};

pub use self::outputs::Report;
pub(crate) use self::outputs::{CHECKPOINT_FILE, RECORDING_FILE};
use self::{live::LiveLine, outputs::Outputs, via::Via};
use crate::{
    agent::{self, Agent, AgentError, CommandToRun, Link, Received, Signals},
    output::files::WriteError,
    privilege::{self, PrivilegeError},
    profiles::{ProfileChoices, ProfileError},
    stream::{Command, Message, Outcome, Request, StreamError},
    subjects::{BadStream, News, Subjects},
};

/// What `khard trace` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to record.
    pub request: Request,
    /// By whom.
    pub source: Source,
    /// Where the folders go.
    pub out_dir: PathBuf,
    /// The folder's name, for a single target.
    pub name: Option<String>,
    /// End after this time.
    pub duration: Option<Duration>,
    /// End when nothing new has come for this time.
    pub until_quiet: Option<Duration>,
    /// How profiles are made.
    pub choices: ProfileChoices,
    /// Show the live line, if there is a terminal for it.
    pub live: bool,
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
    /// The command's own end.
    pub command_status: Option<ExitStatus>,
}

const TICK: Duration = Duration::from_millis(250);
/// A checkpoint is written this often: so much is lost at most by `kill -9`.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// Records until all subjects have ended, the time is over, or the user stops it.
///
/// # Errors
/// When a target cannot be recorded, or nothing can be written. Subjects that were only attached to go on.
pub async fn run(options: Options) -> Result<Finished, TraceError> {
    // Signals first: from here on a Ctrl-C ends in order.
    let signals = Signals::install().map_err(|source| TraceError::Io { what: "handle signals", source })?;
    let outputs = Outputs::open(&options)?;
    match &options.source {
        Source::Here { command } => {
            let command = command.clone();
            here(&options, command.as_ref(), outputs, signals).await
        }
        Source::Via(command) => {
            let via = Via::start(command, options.request.clone()).map_err(TraceError::Via)?;
            let client = Client::new(&options, outputs, LiveLine::new(options.live));
            let (link, mut peer) = via.into_parts();
            let written = client.run(link, Some(signals)).await;
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
                Ok(reports) => Ok(Finished { reports, command_status: None }),
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
    outputs: Outputs,
    signals: Signals,
) -> Result<Finished, TraceError> {
    let agent = Agent::begin(&options.request, command).await?;
    privilege::drop_privileges()?;
    let live = LiveLine::new(options.live && !agent.command_owns_terminal());
    let client = Client::new(options, outputs, live);
    let (port, link) = agent::stream();
    let thread = thread::Builder::new()
        .name("client".to_owned())
        .spawn(move || -> Result<Vec<Report>, TraceError> {
            let failed = |source| TraceError::Io { what: "start tokio", source };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
            runtime.block_on(client.run(link, None))
        })
        .map_err(|source| TraceError::Io { what: "start a thread", source })?;
    let served = agent.serve(port, Some(signals)).await;
    let written = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    // The agent's own error says more than what the client was told of it.
    let command_status = served?;
    Ok(Finished { reports: written?, command_status })
}

/// Takes a stream in.
struct Client {
    subjects: Subjects,
    outputs: Outputs,
    live: LiveLine,
    duration: Option<Duration>,
    until_quiet: Option<Duration>,
    /// Targets may come later.
    waits: bool,
    /// When recording began, and when the last new thing came.
    began: Option<Instant>,
    last_new: Instant,
    next_checkpoint: Instant,
}

impl Client {
    fn new(options: &Options, outputs: Outputs, live: LiveLine) -> Self {
        Self {
            subjects: Subjects::default(),
            outputs,
            live,
            duration: options.duration,
            until_quiet: options.until_quiet,
            waits: options.request.wait,
            began: None,
            last_new: Instant::now(),
            next_checkpoint: Instant::now() + CHECKPOINT,
        }
    }

    /// Takes everything in, and writes it. The first signal asks the agent for an end, the second does not wait for it.
    async fn run(mut self, mut link: Link, mut signals: Option<Signals>) -> Result<Vec<Report>, TraceError> {
        let mut was_asked_to_end = false;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = link.messages.recv() => {
                    let over = match message {
                        Some(Ok(message)) => self.take(message),
                        Some(Err(error)) => Err(TraceError::AgentLost(Some(error.into()))),
                        None => Err(TraceError::AgentLost(None)),
                    };
                    match over {
                        Ok(None) => {}
                        Ok(Some(outcome)) => return self.finish(outcome),
                        Err(error) => return Err(self.give_up(error)),
                    }
                }
                received = agent::next_signal(&mut signals) => {
                    if let Received::End(_) = received {
                        if was_asked_to_end {
                            return Err(self.give_up(TraceError::AgentLost(None)));
                        }
                        was_asked_to_end = true;
                        let _ = link.commands.try_send(Command::End { why: Ended::Interrupted });
                    }
                }
                _ = tick.tick() => {
                    self.live.draw(&self.subjects);
                    if let Some(why) = self.is_time() {
                        // An agent that takes no command any more is at its end by itself.
                        let _ = link.commands.try_send(Command::End { why });
                    }
                    if Instant::now() >= self.next_checkpoint {
                        self.outputs.checkpoint(&self.subjects)?;
                        self.next_checkpoint = Instant::now() + CHECKPOINT;
                    }
                }
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<Option<Outcome>, TraceError> {
        if matches!(message, Message::Ready { .. }) {
            (self.began, self.last_new) = (Some(Instant::now()), Instant::now());
            if self.waits {
                tracing::info!(
                    "ready: targets that start from now on are recorded from their first instruction"
                );
            }
        }
        let bad = |error: BadStream| TraceError::AgentLost(Some(error.into()));
        let Some(news) = self.subjects.take(message).map_err(bad)? else { return Ok(None) };
        self.live.take(&news, &self.subjects);
        match news {
            News::Began(id) => {
                if let Some(observed) = self.subjects.get(id) {
                    self.outputs.assign(observed.state())?;
                }
                self.last_new = Instant::now();
            }
            News::Call { .. } | News::Access { .. } => self.last_new = Instant::now(),
            News::Ended(_) | News::Mark(_) => {}
            News::Over(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }

    /// Whether the user's time is over. Said once.
    fn is_time(&mut self) -> Option<Ended> {
        let began = self.began?;
        if self.duration.is_some_and(|duration| began.elapsed() >= duration) {
            self.duration = None;
            return Some(Ended::Duration);
        }
        // Quiet is only who has begun.
        let is_quiet = self.until_quiet.is_some_and(|quiet| self.last_new.elapsed() >= quiet);
        if is_quiet && self.subjects.iter().next().is_some() {
            self.until_quiet = None;
            return Some(Ended::Quiet);
        }
        None
    }

    fn finish(mut self, outcome: Outcome) -> Result<Vec<Report>, TraceError> {
        self.live.clear();
        match outcome {
            Outcome::Abandoned => Err(TraceError::Abandoned),
            Outcome::Ended(why) => {
                let reports = self.outputs.finish(&self.subjects, why)?;
                if reports.is_empty() {
                    return Err(TraceError::Nothing(match why {
                        Ended::Duration => "no target started in the given time",
                        _ => "no target had started",
                    }));
                }
                Ok(reports)
            }
            Outcome::Failed(why) => {
                self.outputs.finish(&self.subjects, Ended::AgentLost)?;
                Err(TraceError::AgentFailed(why))
            }
        }
    }

    /// Writes what is known, whatever happened: it is worth more than the reason why it ended.
    fn give_up(mut self, error: TraceError) -> TraceError {
        self.live.clear();
        match self.outputs.finish(&self.subjects, Ended::AgentLost) {
            Ok(reports) => match error {
                TraceError::AgentLost(lost) if reports.is_empty() => TraceError::NoAgent(lost),
                error => error,
            },
            Err(other) => {
                tracing::error!("{}", crate::causes::with_causes(&error));
                other
            }
        }
    }
}
