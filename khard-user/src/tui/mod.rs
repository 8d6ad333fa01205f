//! The dashboard: what a stream has told, on a terminal, and what the user wants. Owns when it is drawn. It must not know where the
//! stream comes from, nor files: whoever runs it is told of wishes as [`Effect`]s.
//!
//! `state` knows what is shown and no terminal; `view` draws it; `keys` says what keys mean; `terminal` is the terminal.

mod keys;
mod state;
mod terminal;
mod view;

use std::{
    io,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use khard_profile::recording::Recording;
use ratatui::crossterm::event::{Event, KeyEventKind};

pub(crate) use self::state::{Effect, Setup};
pub(crate) use self::terminal::is_taken;
use self::{state::State, terminal::Terminal, view::Theme};
use crate::{
    profiles::{self, ProfileChoices, ProfileTexts},
    stream::SubjectId,
    subjects::{News, Subjects},
};

/// Not more than ten drawings a second.
pub(crate) const FRAME: Duration = Duration::from_millis(100);

/// The dashboard on this process's terminal, which is given back when it is dropped.
pub(crate) struct Dashboard {
    terminal: Terminal,
    state: State,
    theme: Theme,
    last_heard: Instant,
    is_resized: bool,
    /// Texts that are being made.
    making: Option<(SubjectId, Receiver<ProfileTexts>)>,
}

impl Dashboard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open(setup: Setup) -> io::Result<Self> {
        let theme = Theme::new(terminal::color_depth());
        Ok(Self {
            terminal: Terminal::open()?,
            state: State::new(setup),
            theme,
            last_heard: Instant::now(),
            is_resized: false,
            making: None,
        })
    }

    /// The next thing that the user does. Cancel safe.
    pub(crate) async fn input(&mut self) -> Event {
        self.terminal.input().await
    }

    /// Takes it in; what it is to lead to.
    pub(crate) fn act(&mut self, event: &Event) -> Option<Effect> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let action = keys::action(*key, self.state.mode())?;
                self.state.update(action)
            }
            Event::Resize(..) => {
                self.is_resized = true;
                None
            }
            _ => None,
        }
    }

    /// Somebody has told something.
    pub(crate) fn hear(&mut self) {
        self.last_heard = Instant::now();
    }

    /// Takes news in.
    pub(crate) fn take(&mut self, news: &News, subjects: &Subjects) {
        self.state.take(news, subjects);
    }

    /// Draws, if anything that is shown has changed.
    pub(crate) fn draw(&mut self, subjects: &Subjects) -> io::Result<()> {
        self.take_texts();
        self.state.refresh(subjects, self.last_heard.elapsed());
        if !std::mem::take(&mut self.is_resized) && !self.state.is_dirty() {
            return Ok(());
        }
        self.terminal.draw(|frame| view::draw(frame, &self.state, &self.theme))?;
        self.state.drawn();
        Ok(())
    }

    /// Makes the texts of a subject's profiles, beside the loop: of many files that takes seconds.
    pub(crate) fn make_profile(
        &mut self,
        subject: SubjectId,
        recording: Recording,
        choices: ProfileChoices,
    ) -> io::Result<()> {
        let (made, texts) = channel();
        thread::Builder::new().name("profile".to_owned()).spawn(move || {
            // Nobody waits for it any more: no harm.
            let _ = made.send(profiles::texts(&recording, &choices));
        })?;
        self.making = Some((subject, texts));
        Ok(())
    }

    fn take_texts(&mut self) {
        let Some((subject, texts)) = &self.making else { return };
        match texts.try_recv() {
            Ok(texts) => self.state.set_profile(*subject, texts),
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => {}
        }
        self.making = None;
    }

    /// Tells the user what was done, or could not be.
    pub(crate) fn say(&mut self, message: Result<String, String>) {
        self.state.set_message(message);
    }

    /// Nothing more comes, and why.
    pub(crate) fn set_over(&mut self, why: &str) {
        self.state.set_over(why);
    }
}
