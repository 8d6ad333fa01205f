//! Running other programs: owns how they are waited for and how a failure is worded. Knows no particular program.

use std::{
    fmt::Write as _,
    io::Write as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::interrupt;

/// What xtask adds to [`Command`].
pub(crate) trait CommandExt {
    /// Runs it to its end on this terminal; an error unless it succeeds.
    fn run(&mut self) -> Result<()>;
    /// Runs it to its end on this terminal.
    fn status_interruptible(&mut self) -> Result<ExitStatus>;
    /// Runs it and takes its standard output; an error, with what it wrote, unless it succeeds.
    fn read(&mut self) -> Result<Vec<u8>>;
    /// As [`read`](CommandExt::read), as text without the last line feed.
    fn read_text(&mut self) -> Result<String>;
    /// As [`read`](CommandExt::read), with `input` on its standard input.
    fn read_with_input(&mut self, input: &[u8]) -> Result<Vec<u8>>;
    /// Starts it in a process group of its own, so that the terminal's Ctrl-C does not reach it: whoever started
    /// it ends it. It is killed when this process dies, however that happens.
    fn spawn_owned(&mut self) -> Result<Child>;
    /// Starts it in our own process group, so that it may use the terminal. It is killed when this process dies.
    fn spawn_on_terminal(&mut self) -> Result<Child>;
}

impl CommandExt for Command {
    fn run(&mut self) -> Result<()> {
        let status = self.status_interruptible()?;
        if !status.success() {
            bail!("{}: {}", line(self), words(status));
        }
        Ok(())
    }

    fn status_interruptible(&mut self) -> Result<ExitStatus> {
        let mut child = self.spawn().with_context(|| format!("cannot start {}", line(self)))?;
        let waited = wait(&mut child, None);
        if waited.is_err() {
            // It shares our process group, so Ctrl-C has reached it; SIGTERM to us alone has not.
            terminate(&mut child);
        }
        Ok(waited?.unwrap_or_default())
    }

    fn read(&mut self) -> Result<Vec<u8>> {
        self.stdin(Stdio::null());
        checked(self, Command::output)
    }

    fn read_text(&mut self) -> Result<String> {
        let text = String::from_utf8_lossy(&self.read()?).into_owned();
        Ok(text.trim_end_matches('\n').to_owned())
    }

    fn read_with_input(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        self.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        checked(self, |command| {
            let mut child = command.spawn()?;
            let mut stdin = child.stdin.take();
            thread::scope(|scope| {
                scope.spawn(move || {
                    // A program that needs no more of its input closes it; its status says whether that is right.
                    let _ = stdin.as_mut().map(|pipe| pipe.write_all(input));
                });
                child.wait_with_output()
            })
        })
    }

    fn spawn_owned(&mut self) -> Result<Child> {
        self.process_group(0).spawn_on_terminal()
    }

    fn spawn_on_terminal(&mut self) -> Result<Child> {
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            self.pre_exec(|| {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        self.spawn().with_context(|| format!("cannot start {}", line(self)))
    }
}

fn checked(
    command: &mut Command,
    run: impl FnOnce(&mut Command) -> std::io::Result<Output>,
) -> Result<Vec<u8>> {
    let output = run(command).with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{}", line(command), words(output.status), said.trim_end());
    }
    Ok(output.stdout)
}

/// Waits for the end of a program; `None` when `deadline` has passed, an error when a signal has come.
pub(crate) fn wait(child: &mut Child, deadline: Option<Instant>) -> Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        interrupt::check()?;
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Asks a program to end, and kills it when it does not within ten seconds.
pub(crate) fn terminate(child: &mut Child) {
    if let (Ok(None), Ok(pid)) = (child.try_wait(), i32::try_from(child.id())) {
        // SAFETY: kill has no memory effects; the pid is our child's, not yet waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Kills what is left of the process group of a program that [`CommandExt::spawn_owned`] started, and waits for it.
pub(crate) fn end_group(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // SAFETY: kill has no memory effects; a negative pid means the group that this child leads.
        unsafe { libc::kill(-pid, libc::SIGKILL) };
    }
    let _ = child.wait();
}

/// A command as one would type it, without its environment.
fn line(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let _ = write!(text, " {}", arg.to_string_lossy());
    }
    text
}

/// How a program ended, for a person.
pub(crate) fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("killed by signal {signal}"),
        _ => "ended".to_owned(),
    }
}
