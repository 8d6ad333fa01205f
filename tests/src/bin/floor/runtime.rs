//! An OCI runtime: owns how its command line is called, the same for runc and crun, and how a command's failure is told.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// How long a process may take to do what it is waited for. Emulated machines are slow.
const PATIENCE: Duration = Duration::from_mins(3);

/// A runtime, with a folder for its state.
pub(crate) struct OciRuntime {
    program: PathBuf,
    /// A folder that is bound over /usr first: a runtime of another suite with its own libraries.
    usr: Option<PathBuf>,
    state: PathBuf,
    /// `runc`, `crun`.
    pub name: String,
    /// As it says it.
    pub version: String,
}

/// How one command is to be run.
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    /// On a terminal.
    pub terminal: bool,
    /// `GOMAXPROCS`, which runc passes on to the process inside: how many CPUs its scheduler sees.
    pub n_go_threads: Option<u32>,
}

impl OciRuntime {
    /// Asks it who it is.
    pub(crate) fn find(program: &Path, usr: Option<&Path>, state: PathBuf) -> Result<Self> {
        let mut runtime = Self {
            program: program.to_owned(),
            usr: usr.map(Path::to_owned),
            state,
            name: String::new(),
            version: String::new(),
        };
        let output = runtime.command(&["--version"], How::default()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut words = text.lines().next().unwrap_or_default().split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some(name), Some("version"), Some(version)) => {
                (runtime.name, runtime.version) = (name.to_owned(), version.to_owned());
            }
            _ => bail!(
                "{} does not say its version: {text}{}",
                program.display(),
                String::from_utf8_lossy(&output.stderr)
            ),
        }
        Ok(runtime)
    }

    fn command(&self, args: &[&str], how: How) -> Command {
        let mut words: Vec<String> = Vec::new();
        if let Some(usr) = &self.usr {
            let script = r#"mount --bind "$0" /usr && exec "$@""#;
            words.extend(["unshare", "--mount", "sh", "-c", script].map(str::to_owned));
            words.push(usr.display().to_string());
        }
        words.push(self.program.display().to_string());
        if args != ["--version"] {
            words.extend(["--root".to_owned(), self.state.display().to_string()]);
        }
        words.extend(args.iter().map(|&arg| arg.to_owned()));
        if how.terminal {
            let line: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            words = ["script", "-qec", &line.join(" "), "/dev/null"].map(str::to_owned).to_vec();
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        if let Some(number) = how.n_go_threads {
            command.env("GOMAXPROCS", number.to_string());
        }
        command
    }

    /// Starts a command; what it says goes to a file, since a container inherits it.
    pub(crate) fn spawn(&self, args: &[&str], how: How, log: &Path) -> Result<Running> {
        let file = File::create(log)?;
        let mut command = self.command(args, how);
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().context("cannot start the runtime")?;
        Ok(Running { child, line: args.join(" "), log: log.to_owned() })
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str], how: How, log: &Path) -> Result<()> {
        self.spawn(args, how, log)?.wait()
    }
}

/// A command of the runtime under way.
pub(crate) struct Running {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Running {
    /// Waits for its end, which must be a good one.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "{} ({status}): {}",
            self.line,
            fs::read_to_string(&self.log).unwrap_or_default()
        );
        Ok(())
    }

    /// Waits for its end, whatever it is.
    pub(crate) fn wait_any(mut self) {
        let _ = self.child.wait();
    }

    fn has_failed(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(status)) if !status.success())
    }
}

/// Waits until a runtime has written the file with a process's id and that process sleeps in `program`: then it has made
/// calls as that program.
pub(crate) fn wait_for_sleep(pid_file: &Path, program: &str, by: Option<&mut Running>) -> Result<u32> {
    let mut by = by;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(pid) = pid_in(pid_file)
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(program))
            && is_asleep(pid)
        {
            return Ok(pid);
        }
        if let Some(running) = by.as_deref_mut()
            && running.has_failed()
        {
            bail!("{} failed: {}", running.line, fs::read_to_string(&running.log).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("no process sleeps in {program} by {}", pid_file.display())
}

/// The state follows the name in parentheses, which may hold anything (`proc_pid_stat(5)`).
fn is_asleep(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
}

/// Waits until a process has ended; a zombie has.
pub(crate) fn wait_for_end(pid: u32) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("process {pid} does not end")
}

/// The process id in a file.
pub(crate) fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A word that a shell takes literally.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
