//! The terminal: taken, drawn to, read from, and given back, whatever happens. Knows nothing of what is shown.

use std::{
    env, io,
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ratatui::{DefaultTerminal, Frame, crossterm::event};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
};
use tokio::sync::mpsc;

use super::view::ColorDepth;

/// How long it takes until the reader notices that it is not wanted any more.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whether the dashboard has the terminal, so that nobody else may write to it.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether the dashboard has the terminal: then logs go elsewhere.
pub(crate) fn is_taken() -> bool {
    IS_TAKEN.load(Ordering::Acquire)
}

/// The terminal in raw mode, on its alternate screen.
pub(super) struct Terminal {
    /// Taken by its end only.
    inner: Option<DefaultTerminal>,
    events: mpsc::Receiver<event::Event>,
    is_over: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes it. A panic of any thread gives it back before it is reported.
    pub(super) fn open() -> io::Result<Self> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(io::Error::other("standard input and output are no terminal"));
        }
        let inner = ratatui::try_init()?;
        IS_TAKEN.store(true, Ordering::Release);
        let (sender, events) = mpsc::channel(64);
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        // Reading blocks, so that it has a thread of its own.
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            while !ends.load(Ordering::Acquire) && is_there() {
                // A new size comes as a signal, which crossterm's own poll sees.
                while event::poll(Duration::ZERO).unwrap_or(false) {
                    let Ok(event) = event::read() else { return };
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
            }
        })?;
        Ok(Self { inner: Some(inner), events, is_over })
    }

    /// The next thing that the user does; never again where the terminal is gone. Cancel safe.
    pub(super) async fn input(&mut self) -> event::Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Draws.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        match &mut self.inner {
            Some(inner) => inner.draw(draw).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // A terminal that is gone needs nothing. ratatui's own end complains of it on stderr, which may be the same terminal, and
        // printing there would then panic.
        if let Some(mut inner) = self.inner.take()
            && inner.show_cursor().is_err()
        {
            std::mem::forget(inner);
        }
        let _ = ratatui::try_restore();
        IS_TAKEN.store(false, Ordering::Release);
    }
}

/// Waits for something to read; whether there still is a terminal. crossterm's poll reads again and again from one that has hung up.
fn is_there() -> bool {
    let stdin = io::stdin();
    let timeout = Timespec::try_from(PATIENCE).ok();
    let mut stdin = [PollFd::new(&stdin, PollFlags::IN)];
    match rustix::event::poll(&mut stdin, timeout.as_ref()) {
        Ok(_) => !stdin[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
        Err(error) => error == Errno::INTR,
    }
}

/// How many colours there are: none if the user wants none (<https://no-color.org>).
pub(super) fn color_depth() -> ColorDepth {
    let of = |name: &str| env::var(name).unwrap_or_default();
    if !of("NO_COLOR").is_empty() || of("TERM") == "dumb" {
        ColorDepth::None
    } else if of("TERM").contains("256color") || matches!(of("COLORTERM").as_str(), "truecolor" | "24bit") {
        ColorDepth::TwoHundredFiftySix
    } else {
        ColorDepth::Sixteen
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// It runs itself again in a terminal that script(1) makes, and panics there.
    #[test]
    fn a_panic_of_any_thread_gives_the_terminal_back_before_it_is_reported() {
        const INSIDE: &str = "KHARD_TEST_HAS_A_TERMINAL";
        if env::var_os(INSIDE).is_some() {
            let _terminal = Terminal::open().unwrap();
            assert!(thread::spawn(|| panic!("this was planned")).join().is_err());
            return;
        }
        let own = env::current_exe().unwrap();
        let name = thread::current().name().unwrap().to_owned();
        let line = format!("{} --exact {name} --nocapture", own.display());
        let output = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env(INSIDE, "1")
            .output()
            .expect("script(1) of bsdutils, which Debian always has");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text:?} is not in {shown:?}"));
        let (taken, given_back) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(taken < given_back && given_back < at("this was planned"), "{shown:?}");
    }
}
