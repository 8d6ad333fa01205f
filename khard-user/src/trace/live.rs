//! The live line: one line on a terminal that nobody else owns, rewritten as the recording goes on.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

use khard_profile::{escape, recording::Abi, syscalls};

use crate::session::{Message, Session};

const REDRAW: Duration = Duration::from_millis(250);

pub(super) struct LiveLine {
    is_on: bool,
    began: Instant,
    drawn: Option<Instant>,
    last_new: Option<(Instant, String)>,
}

impl LiveLine {
    pub(super) fn new(wanted: bool) -> Self {
        Self { is_on: wanted && stderr().is_terminal(), began: Instant::now(), drawn: None, last_new: None }
    }

    /// None, as long as it is not known who owns the terminal.
    pub(super) fn off() -> Self {
        Self::new(false)
    }

    /// Takes note of what happened, and says at `-v` what a reader may want to follow.
    pub(super) fn take(&mut self, message: &Message, session: &Session) {
        match message {
            Message::SubjectAdded { name, from_first_instruction, .. } => {
                let since = if *from_first_instruction {
                    "from its first instruction"
                } else {
                    "from now on: it ran before"
                };
                self.note(&format!("recording {} {since}", escape::terminal(name.as_bytes())));
            }
            Message::FirstSighting { subject, abi, nr, phase, comm, .. } => {
                let call = call_name(*abi, *nr);
                if let Some(instance) = session.instance(*subject) {
                    let label = escape::terminal(instance.identity.label.as_bytes());
                    tracing::debug!("{label}: {call} ({phase}) by {}", escape::terminal(comm.as_slice()));
                }
                self.last_new = Some((Instant::now(), call));
            }
            Message::SubjectEnded { subject, .. } => {
                if let Some(instance) = session.instance(*subject) {
                    self.note(&format!("{} has ended", escape::terminal(instance.identity.label.as_bytes())));
                }
            }
        }
    }

    fn note(&mut self, text: &str) {
        self.clear();
        tracing::info!("{text}");
    }

    pub(super) fn draw(&mut self, session: &Session) {
        if !self.is_on || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) || !is_in_foreground() {
            return;
        }
        self.drawn = Some(Instant::now());
        let elapsed = self.began.elapsed().as_secs();
        let alive = session.instances().filter(|instance| instance.ended().is_none()).count();
        let calls = session.instances().map(crate::session::Instance::n_calls).max().unwrap_or(0);
        let newest = self.last_new.as_ref().map_or_else(
            || "nothing yet".to_owned(),
            |(at, call)| format!("{call} {} s ago", at.elapsed().as_secs()),
        );
        let lost = match session.n_lost() {
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
