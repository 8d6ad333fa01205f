//! A terminal with a program in it: keys are sent, screens are read. Knows tmux(1); nothing of what runs there.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    ffi::{OsStr, OsString},
    fs,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::wait;

/// A terminal of its own, which ends with the test.
pub struct Terminal {
    socket: String,
}

static N_TERMINALS: AtomicU32 = AtomicU32::new(0);

impl Terminal {
    /// A shell in a terminal of this size. `env`: for example `TERM=xterm` or `NO_COLOR=1`.
    pub fn new(columns: u16, rows: u16, env: &[&str]) -> Self {
        let nth = N_TERMINALS.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { socket: format!("khard-test-{}-{nth}", std::process::id()) };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut args: Vec<String> =
            ["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows].map(str::to_owned).to_vec();
        args.push(format!("exec env PS1='$ ' {} sh", env.join(" ")));
        terminal.tmux(&args);
        terminal
    }

    fn tmux<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket]).args(args).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = tmux.output().expect("tmux: `cargo xtask setup --for test` installs it");
        assert!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Types a command.
    pub fn run(&self, command: &Command) {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<OsString> = words.map(quoted).collect();
        let line = words.join(OsStr::new(" "));
        self.tmux(&["send-keys".into(), "-l".into(), line]);
        self.key("Enter");
    }

    /// Presses a key, by tmux's name for it.
    pub fn key(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types text.
    pub fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// What is on the screen, a line each.
    pub fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).expect("a screen in UTF-8")
    }

    /// The same with the escape sequences of its styles.
    pub fn styled_screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p", "-e"]).stdout).expect("a screen in UTF-8")
    }

    /// Waits until the screen holds a text.
    pub fn shows(&self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(began.elapsed() < wait::limit(), "{text:?} does not come on the screen:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The program that the shell has started last.
    pub fn child(&self) -> u32 {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]).stdout;
        let shell = String::from_utf8_lossy(&shell).trim().to_owned();
        wait::value("a program in the terminal", || {
            let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).ok()?;
            children.split_whitespace().next_back()?.parse().ok()
        })
    }

    /// Whether a program has the whole screen to itself.
    pub fn is_alternate(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).stdout.starts_with(b"1")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

/// As one word of a shell.
fn quoted(word: &OsStr) -> OsString {
    let text = word.to_str().expect("words of a test are text").replace('\'', r"'\''");
    format!("'{text}'").into()
}
