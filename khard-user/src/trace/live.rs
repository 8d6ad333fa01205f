//! The live line: one line on a terminal that nobody else owns, rewritten as the recording goes on.

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    time::{Duration, Instant},
};

use khard_profile::{
    escape,
    recording::{Abi, From},
    syscalls,
};

use crate::{
    subjects::{News, Observed, Subjects},
    verify::Finding,
};

const REDRAW: Duration = Duration::from_millis(250);

pub(super) struct LiveLine {
    /// Nobody wants to be told anything as it comes.
    is_silent: bool,
    is_on: bool,
    began: Instant,
    drawn: Option<Instant>,
    last_new: Option<(Instant, String)>,
}

impl LiveLine {
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            is_silent: false,
            is_on: wanted && stderr().is_terminal(),
            began: Instant::now(),
            drawn: None,
            last_new: None,
        }
    }

    /// One that draws and prints nothing.
    pub(super) fn silent() -> Self {
        Self { is_silent: true, ..Self::new(false) }
    }

    /// Prints what profiles refuse. Whoever reads it may have had enough: the exit status says it too.
    pub(super) fn print(&mut self, found: &[Finding]) {
        if found.is_empty() || self.is_silent {
            return;
        }
        self.clear();
        let text: String = found.iter().map(Finding::to_text).collect();
        let _ = stdout().write_all(text.as_bytes()).and_then(|()| stdout().flush());
    }

    /// Takes note of what happened, and says at `-v` what a reader may want to follow.
    pub(super) fn take(&mut self, news: &News, subjects: &Subjects) {
        let label = |id| subjects.get(id).map(|of: &Observed| escape::terminal(of.state().label.as_bytes()));
        match news {
            News::Began(id) => {
                let is_late = |of: &Observed| match of.state().run.coverage.syscalls.observed() {
                    Some(observed) => observed.from == From::Late,
                    None => false,
                };
                let since = if subjects.get(*id).is_some_and(is_late) {
                    "from now on: it ran before"
                } else {
                    "from its first instruction"
                };
                self.note(&format!("recording {} {since}", label(*id).unwrap_or_default()));
            }
            News::Call { subject, key, stage, by } => {
                let call = call_name(key.abi, key.nr);
                let comm = by.as_ref().map(|by| escape::terminal(by.comm.as_slice())).unwrap_or_default();
                tracing::debug!("{}: {call} ({stage:?}) by {comm}", label(*subject).unwrap_or_default());
                self.last_new = Some((Instant::now(), call));
            }
            News::Ended(id) => self.note(&format!("{} has ended", label(*id).unwrap_or_default())),
            News::Access { .. } | News::Refused { .. } | News::Mark(_) | News::Over(_) => {}
        }
    }

    fn note(&mut self, text: &str) {
        self.clear();
        tracing::info!("{text}");
    }

    pub(super) fn draw(&mut self, subjects: &Subjects) {
        if !self.is_on || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) || !is_in_foreground() {
            return;
        }
        self.drawn = Some(Instant::now());
        let elapsed = self.began.elapsed().as_secs();
        let alive = subjects.iter().filter(|(_, observed)| observed.state().is_alive()).count();
        let calls = subjects.iter().map(|(_, observed)| observed.n_calls()).max().unwrap_or(0);
        let newest = self.last_new.as_ref().map_or_else(
            || "nothing yet".to_owned(),
            |(at, call)| format!("{call} {} s ago", at.elapsed().as_secs()),
        );
        let lost = match subjects.lost() {
            0 => "lost 0".to_owned(),
            n => format!("LOST up to {n}"),
        };
        let line = format!(
            "{:02}:{:02}:{:02}  {alive} recorded  {calls} calls  last new: {newest}  {lost}",
            elapsed / 3600,
            elapsed / 60 % 60,
            elapsed % 60
        );
        // A terminal that nobody has told its size, such as a new pseudo-terminal's, says 0.
        let told = rustix::termios::tcgetwinsize(stderr()).map_or(0, |size| usize::from(size.ws_col));
        let width = if told == 0 { 80 } else { told.max(20) };
        let line: String = line.chars().take(width - 1).collect();
        let _ = write!(stderr(), "\r{line}\x1b[K").and_then(|()| stderr().flush());
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.is_on && self.drawn.take().is_some() {
            let _ = write!(stderr(), "\r\x1b[K").and_then(|()| stderr().flush());
        }
    }
}

/// Whether the terminal is ours to draw on: a khard that the shell has put in the background is quiet.
fn is_in_foreground() -> bool {
    // An error: it is no controlling terminal, and so nobody's foreground.
    rustix::termios::tcgetpgrp(stderr()).map_or(true, |group| group == rustix::process::getpgrp())
}

fn call_name(abi: Abi, nr: u32) -> String {
    syscalls::by_number(abi, nr).map_or_else(|| format!("{nr} ({abi})"), |call| call.name.to_owned())
}
