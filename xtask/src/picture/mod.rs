//! The verb `picture`: the dashboard as docs/dashboard.svg, from a real terminal with a real program behind it. Owns what is shown; how
//! a screen becomes a picture is `svg`'s.

mod svg;

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build,
    command::CommandExt as _,
    paths::Paths,
    setup::{self, Purpose},
};

const COLUMNS: usize = 104;
const ROWS: usize = 30;
/// What is watched: a web server, asked for itself.
const SERVER: &str = "cd /usr/share && exec python3 -m http.server --bind 127.0.0.1 48231";
const REQUESTS: &str =
    "for path in / /doc/ /no-such-file; do curl -s -o /dev/null http://127.0.0.1:48231$path; done; true";
/// For any one screen to come.
const LIMIT: Duration = Duration::from_mins(1);

/// The verb `picture`.
pub(crate) fn verb(paths: &Paths) -> Result<u8> {
    setup::ensure(paths, &[Purpose::Test])?;
    let built = build::all(paths)?;
    let out = paths.state_dir("picture")?;
    let khard =
        format!("exec {} tui --name web -o {} -- sh -c '{SERVER}'", built.khard.display(), out.display());
    let terminal = Terminal::start(&khard)?;
    terminal.wait_for("running")?;
    // It listens once this succeeds; the paths are different calls and files.
    Command::new("sh").args(["-c", &format!("sleep 2; {REQUESTS}")]).run()?;
    terminal.press("Enter")?;
    terminal.press("3")?;
    terminal.wait_for("http")?;
    let screen = terminal.screen()?;
    terminal.press("q")?;
    terminal.press("n")?;
    let path = paths.root.join("docs/dashboard.svg");
    fs::write(&path, svg::of_screen(&screen, COLUMNS, ROWS))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(0)
}

/// A terminal of tmux's, which ends with this.
struct Terminal {
    socket: &'static str,
}

impl Terminal {
    fn start(command: &str) -> Result<Self> {
        let (columns, rows) = (COLUMNS.to_string(), ROWS.to_string());
        let terminal = Self { socket: "khard-picture" };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows, command])?;
        Ok(terminal)
    }

    fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key])?;
        // Drawn ten times a second at most.
        thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// With the escape sequences of its styles.
    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        Command::new("tmux").args(["-L", self.socket]).args(args).env("LC_ALL", "C.UTF-8").read_text()
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let screen = self.screen()?;
            if screen.contains(text) {
                return Ok(());
            }
            ensure!(began.elapsed() < LIMIT, "the dashboard does not show {text:?}:\n{screen}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Of a dashboard that has ended, the server has too.
        let _ = self.tmux(&["kill-server"]);
    }
}
