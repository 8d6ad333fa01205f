//! Takes a stream in: keeps what it tells, shows it, writes checkpoints, asks for an end when it is time, and writes everything when
//! there is one. It must not know where the stream comes from.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use khard_profile::{
    Bytes, escape,
    recording::{Ended, UnknownRun},
};
use ratatui::crossterm::event::Event;
use tokio::time::{MissedTickBehavior, interval};

use super::{Finished, Options, Report, Show, Source, TraceError, live::LiveLine, outputs::Outputs};
use crate::{
    agent::{Link, Received, Signals},
    causes::with_causes,
    command::CommandEnd,
    profiles::ProfileChoices,
    stream::{Command, Message, Outcome, SubjectId},
    subjects::{BadStream, News, Subjects},
    tui::{Dashboard, Effect, FRAME, Setup},
    verify::{Finding, Verification, Verified},
};

/// Without a dashboard.
const TICK: Duration = Duration::from_millis(250);
/// A checkpoint is written this often: so much is lost at most by `kill -9`.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// The log's target of what is told without `-v`, though nothing is wrong.
pub(crate) const TOLD_WITHOUT_V: &str = "khard::told";

/// What is shown.
pub(super) enum Ui {
    Line(LiveLine),
    Dashboard(Box<Dashboard>),
}

impl Ui {
    /// `is_taken`: a command has the terminal.
    pub(super) fn open(options: &Options, out_dir: &str, is_taken: bool) -> Result<Self, TraceError> {
        Ok(match options.show {
            Show::Nothing => Self::Line(LiveLine::silent()),
            Show::Line => Self::Line(LiveLine::new(!is_taken)),
            Show::Dashboard => {
                let source = match &options.source {
                    Source::Here { .. } => "this node".to_owned(),
                    Source::Via(command) => command.to_string_lossy().into_owned(),
                };
                Self::dashboard(Setup { source, out_dir: out_dir.to_owned(), is_replay: false })?
            }
        })
    }

    pub(super) fn dashboard(setup: Setup) -> Result<Self, TraceError> {
        let dashboard = Dashboard::open(setup).map_err(TraceError::Terminal)?;
        Ok(Self::Dashboard(Box::new(dashboard)))
    }

    fn take(&mut self, news: &News, subjects: &Subjects) {
        match self {
            Self::Line(line) => line.take(news, subjects),
            Self::Dashboard(dashboard) => dashboard.take(news, subjects),
        }
    }

    /// False if there is nothing any more to draw to.
    fn draw(&mut self, subjects: &Subjects) -> bool {
        match self {
            Self::Line(line) => {
                line.draw(subjects);
                true
            }
            Self::Dashboard(dashboard) => {
                let drawn = dashboard.draw(subjects);
                drawn.inspect_err(|error| tracing::error!("cannot draw the dashboard: {error}")).is_ok()
            }
        }
    }

    /// Prints what is refused, as it comes.
    fn print(&mut self, found: &[Finding]) {
        if let Self::Line(line) = self {
            line.print(found);
        }
    }

    async fn input(&mut self) -> Event {
        match self {
            Self::Line(_) => pending().await,
            Self::Dashboard(dashboard) => dashboard.input().await,
        }
    }
}

/// What becomes of what comes in.
pub(super) enum Keep {
    /// It is written.
    Files(Box<Outputs>),
    /// Profiles are held against it.
    Verdicts(Box<Verification>),
    /// It is only shown; profiles as they would be are made so.
    Nothing(ProfileChoices),
}

/// What was made of it.
#[derive(Default)]
pub(super) struct Kept {
    reports: Vec<Report>,
    verified: Option<Verified>,
}

impl Kept {
    pub(super) fn into_finished(self, command: CommandEnd) -> Finished {
        Finished { reports: self.reports, verified: self.verified, command }
    }
}

/// How it ended, and what was made of it.
pub(super) type Written = Result<Kept, TraceError>;

/// Takes a stream in.
pub(super) struct Client {
    subjects: Subjects,
    keep: Keep,
    ui: Ui,
    duration: Option<Duration>,
    until_quiet: Option<Duration>,
    /// Somebody waits for us to be ready, to start what we wait for.
    is_awaited: bool,
    agent_has_signals: bool,
    /// When recording began, and when the last new thing came.
    began: Option<Instant>,
    last_new: Instant,
    next_checkpoint: Instant,
    /// The user wants an end.
    end: Option<End>,
}

/// What is to become of what was recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Write,
    Forget,
}

impl Client {
    pub(super) fn new(options: &Options, keep: Keep, ui: Ui) -> Self {
        Self {
            duration: options.duration,
            until_quiet: options.until_quiet,
            is_awaited: options.request.wait,
            agent_has_signals: matches!(options.source, Source::Here { .. }),
            ..Self::of_viewer(keep, ui)
        }
    }

    /// One that only shows.
    pub(super) fn of_viewer(keep: Keep, ui: Ui) -> Self {
        Self {
            subjects: Subjects::default(),
            keep,
            ui,
            duration: None,
            until_quiet: None,
            is_awaited: false,
            agent_has_signals: false,
            began: None,
            last_new: Instant::now(),
            next_checkpoint: Instant::now() + CHECKPOINT,
            end: None,
        }
    }

    /// Takes everything in, and writes it. The first signal asks the agent for an end, unless that has it too; the second does not
    /// wait for it. After the end a signal ends what is still shown.
    pub(super) async fn run(mut self, mut link: Link, mut signals: Signals) -> Written {
        let is_dashboard = matches!(self.ui, Ui::Dashboard(_));
        let mut tick = interval(if is_dashboard { FRAME } else { TICK });
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Once there is nothing more to hear; a dashboard stays until its user has seen enough.
        let mut written = None;
        loop {
            tokio::select! {
                message = link.messages.recv(), if written.is_none() => {
                    let over = match message {
                        Some(Ok(message)) => self.take(message),
                        Some(Err(error)) => Err(TraceError::AgentLost(Some(error.into()))),
                        None => Err(TraceError::AgentLost(None)),
                    };
                    let end = match over {
                        // What came is shown with the next tick.
                        Ok(None) => continue,
                        Ok(Some(outcome)) => self.finish(outcome),
                        Err(error) => Err(self.give_up(error)),
                    };
                    if !self.stays(&end) {
                        return end;
                    }
                    written = Some(end);
                }
                received = signals.next() => {
                    if let Received::End(_) = received {
                        if let Some(written) = written {
                            return written;
                        }
                        if self.agent_has_signals {
                            continue;
                        }
                        if self.end.is_some() {
                            return Err(self.give_up(TraceError::AgentLost(None)));
                        }
                        self.ask_to_end(&link, End::Write);
                    }
                }
                event = self.ui.input() => {
                    let effect = match &mut self.ui {
                        Ui::Line(_) => None,
                        Ui::Dashboard(dashboard) => dashboard.act(&event),
                    };
                    match (effect, written.take()) {
                        (Some(Effect::Quit { .. }), Some(written)) => return written,
                        (Some(effect), before) => {
                            self.bring_about(effect, &link);
                            written = before;
                        }
                        (None, before) => written = before,
                    }
                }
                _ = tick.tick() => {
                    if written.is_none() && let Err(error) = self.keep_time(&link) {
                        return Err(self.give_up(error));
                    }
                }
            }
            if self.end.is_some() && self.is_unanswered() {
                return Err(TraceError::NotReady);
            }
            if !self.ui.draw(&self.subjects) {
                // The terminal is gone, and with it the user.
                self.ui = Ui::Line(LiveLine::new(false));
                if let Some(written) = written {
                    return written;
                }
                self.ask_to_end(&link, End::Write);
            }
        }
    }

    /// Ends what has lasted long enough, and writes checkpoints.
    fn keep_time(&mut self, link: &Link) -> Result<(), TraceError> {
        if let Some(why) = self.is_time() {
            // An agent that takes no command any more is at its end by itself.
            let _ = link.commands.try_send(Command::End { why });
        }
        if let Keep::Verdicts(verification) = &mut self.keep {
            let found = verification.look(&self.subjects).map_err(assemble)?;
            if !found.is_empty() {
                self.last_new = Instant::now();
                self.ui.print(found);
            }
        }
        if Instant::now() >= self.next_checkpoint {
            if let Keep::Files(outputs) = &mut self.keep {
                outputs.checkpoint(&self.subjects)?;
            }
            self.next_checkpoint = Instant::now() + CHECKPOINT;
        }
        Ok(())
    }

    /// Whether nobody is there yet who could end in order: what leads to an agent may hang.
    fn is_unanswered(&self) -> bool {
        !self.agent_has_signals && self.began.is_none() && !matches!(self.keep, Keep::Nothing(_))
    }

    fn ask_to_end(&mut self, link: &Link, end: End) {
        self.end = Some(end);
        let _ = link.commands.try_send(Command::End { why: Ended::Interrupted });
    }

    /// Does what the user of a dashboard wants.
    fn bring_about(&mut self, effect: Effect, link: &Link) {
        match effect {
            Effect::Mark(label) => {
                let _ = link.commands.try_send(Command::Mark { label: Bytes::from(label.as_str()) });
            }
            Effect::Look(subject) => {
                let _ = link.commands.try_send(Command::Look { subject });
            }
            Effect::Write => {
                let said = self.write_now();
                self.say(said);
            }
            Effect::MakeProfile(subject) => {
                if let Err(error) = self.make_profile(subject) {
                    self.say(Err(with_causes(&error)));
                }
            }
            Effect::Quit { write } => self.ask_to_end(link, if write { End::Write } else { End::Forget }),
        }
    }

    fn say(&mut self, message: Result<String, String>) {
        if let Ui::Dashboard(dashboard) = &mut self.ui {
            dashboard.say(message);
        }
    }

    /// Writes everything without an end.
    fn write_now(&mut self) -> Result<String, String> {
        let Keep::Files(outputs) = &self.keep else {
            return Err(
                "a replay writes nothing: `khard generate` makes the profiles of a recording".to_owned()
            );
        };
        match outputs.finish(&self.subjects, Ended::Running) {
            Ok(reports) => match reports.as_slice() {
                [] => Err("nobody has been recorded yet".to_owned()),
                [first, more @ ..] => {
                    let first = escape::terminal(first.dir.as_os_str().as_encoded_bytes());
                    let more =
                        if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
                    Ok(format!("written to {first}{more}"))
                }
            },
            Err(error) => Err(with_causes(&error)),
        }
    }

    /// Makes the profiles of all instances of a subject, as its files will be.
    fn make_profile(&mut self, subject: SubjectId) -> Result<(), TraceError> {
        let Ui::Dashboard(dashboard) = &mut self.ui else { return Ok(()) };
        let (ids, choices) = match &self.keep {
            Keep::Files(outputs) => (outputs.together_with(subject), outputs.choices()),
            // A recording is of one subject.
            Keep::Nothing(choices) => (self.subjects.iter().map(|(id, _)| id).collect(), choices),
            Keep::Verdicts(_) => return Ok(()),
        };
        if let Some(recording) = self.subjects.recording(&ids, Ended::Running).map_err(assemble)? {
            dashboard
                .make_profile(subject, recording, choices.clone())
                .map_err(|source| TraceError::Io { what: "start a thread", source })?;
        }
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<Option<Outcome>, TraceError> {
        if matches!(message, Message::Ready { .. }) {
            (self.began, self.last_new) = (Some(Instant::now()), Instant::now());
            if self.is_awaited {
                tracing::info!(
                    target: TOLD_WITHOUT_V,
                    "ready: targets that start from now on are recorded from their first instruction"
                );
            }
        }
        if let Ui::Dashboard(dashboard) = &mut self.ui {
            dashboard.hear();
        }
        let bad = |error: BadStream| TraceError::AgentLost(Some(error.into()));
        let Some(news) = self.subjects.take(message).map_err(bad)? else { return Ok(None) };
        self.ui.take(&news, &self.subjects);
        match news {
            News::Began(id) => {
                if let (Some(observed), Keep::Files(outputs)) = (self.subjects.get(id), &mut self.keep) {
                    outputs.assign(observed.state())?;
                }
                self.last_new = Instant::now();
            }
            // Where the question is what is refused, only that is new.
            News::Call { .. } | News::Access { .. } | News::Refused { .. }
                if !matches!(self.keep, Keep::Verdicts(_)) =>
            {
                self.last_new = Instant::now();
            }
            News::Call { .. }
            | News::Access { .. }
            | News::Refused { .. }
            | News::Ended(_)
            | News::Mark(_) => {}
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

    /// Writes everything, if it is wanted.
    fn finish(&mut self, outcome: Outcome) -> Written {
        if let Ui::Line(line) = &mut self.ui {
            line.clear();
        }
        if self.end == Some(End::Forget) {
            if let Keep::Files(outputs) = &self.keep {
                outputs.forget_checkpoints();
            }
            return Ok(Kept::default());
        }
        match outcome {
            Outcome::Abandoned => Err(TraceError::Abandoned),
            Outcome::Ended(why) => {
                // Whoever ends a dashboard has seen that there is nothing.
                if self.subjects.iter().next().is_none() && matches!(self.ui, Ui::Line(_)) {
                    return Err(TraceError::Nothing(match why {
                        Ended::Duration => "no target started in the given time",
                        _ => "no target had started",
                    }));
                }
                Ok(match &mut self.keep {
                    Keep::Files(outputs) => {
                        Kept { reports: outputs.finish(&self.subjects, why)?, verified: None }
                    }
                    Keep::Verdicts(verification) => {
                        self.ui.print(verification.look_again(&self.subjects, why).map_err(assemble)?);
                        let verified = verification.finish();
                        Kept { reports: Vec::new(), verified: Some(verified) }
                    }
                    Keep::Nothing(_) => Kept::default(),
                })
            }
            Outcome::Failed(why) => {
                if let Keep::Files(outputs) = &self.keep {
                    outputs.finish(&self.subjects, Ended::AgentLost)?;
                }
                Err(TraceError::AgentFailed(why))
            }
        }
    }

    /// Writes what is known, whatever happened: it is worth more than the reason why it ended.
    fn give_up(&mut self, error: TraceError) -> TraceError {
        if let Ui::Line(line) = &mut self.ui {
            line.clear();
        }
        let is_nobody = self.subjects.iter().next().is_none();
        let is_lost = matches!(error, TraceError::AgentLost(_));
        if let Keep::Files(outputs) = &self.keep
            && let Err(other) =
                outputs.finish(&self.subjects, if is_lost { Ended::AgentLost } else { Ended::Interrupted })
        {
            tracing::error!("{}", with_causes(&error));
            return other;
        }
        match error {
            TraceError::AgentLost(lost) if is_nobody => TraceError::NoAgent(lost),
            error => error,
        }
    }

    /// Whether what is shown stays after the end, which it then says: of one that the user has not asked for.
    fn stays(&mut self, end: &Written) -> bool {
        let Ui::Dashboard(dashboard) = &mut self.ui else { return false };
        let is_replay = matches!(self.keep, Keep::Nothing(_));
        let outcome = self.subjects.outcome();
        let was_stopped = !is_replay && matches!(outcome, Some(Outcome::Ended(Ended::Interrupted)));
        if self.end.is_some() || was_stopped || self.subjects.iter().next().is_none() {
            return false;
        }
        dashboard.set_over(&match (end, outcome) {
            (Err(error), _) => with_causes(error),
            (Ok(_), _) if is_replay => "the end of the recording".to_owned(),
            (Ok(_), Some(Outcome::Ended(Ended::Duration))) => "the time is over".to_owned(),
            (Ok(_), Some(Outcome::Ended(Ended::Quiet))) => "nothing new came any more".to_owned(),
            (Ok(_), _) => "all subjects have ended".to_owned(),
        });
        if let Ok(kept) = end
            && !is_replay
        {
            dashboard.say(Ok(match kept.reports.len() {
                1 => "1 recording is written".to_owned(),
                n => format!("{n} recordings are written"),
            }));
        }
        true
    }
}

/// A contradiction that only a defect of khard can cause.
fn assemble(error: UnknownRun) -> TraceError {
    TraceError::Assemble(Box::new(error))
}
