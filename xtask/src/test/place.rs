//! Running test programs on this machine, beside a containerd, and in guests: owns their environment, their logs and
//! their time limits.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Guest, Place, Row, Run, harness, report::Counts};
use crate::{
    build::{self, TestProgram},
    command::{self, CommandExt as _},
    containers::containerd::{self, Containerd},
    debian, setup,
    vm::{self, Options, Outcome, Parts, Session},
};

/// For all tests of one program.
const HOST_LIMIT: Duration = Duration::from_mins(10);
/// The same in a guest, where all is ten times slower.
const GUEST_LIMIT: Duration = Duration::from_mins(20);
/// The same with `--full`, when a program may run one workload dozens of times.
const FULL_GUEST_LIMIT: Duration = Duration::from_mins(90);
/// Lines of a failed program's output that are shown; the log has all.
const SHOWN_LINES: usize = 200;

/// Runs a row and adds to its counts as it goes; an error ends it.
pub(super) fn run(run: &Run, row: &Row, counts: &mut Counts) -> Result<()> {
    let logs = run.paths.state_dir("logs")?;
    let mut log = Log { row: row.name, file: File::create(logs.join(format!("{}.log", row.name)))? };
    let needs_root = !matches!(row.place, Place::Unit);
    if needs_root && !setup::is_root() {
        counts.add(Counts::skip(row.name, "not root"));
        return Ok(());
    }
    match row.place {
        Place::Unit => unit(run, row, &mut log, counts),
        Place::Host => host(run, row, &mut log, counts, None),
        // Nothing is started for nothing.
        Place::Containers if run.programs(row).next().is_none() => Ok(()),
        Place::Containers => host(run, row, &mut log, counts, Some(&Containerd::start(run.paths)?)),
        Place::Harness(_) | Place::Dist(_) | Place::Kubelet(_) if !run.args.program.is_empty() => Ok(()),
        Place::Harness(kernel) => harness::run(run, row.name, kernel, counts),
        Place::Dist(kernel) => harness::dist(run, row.name, kernel, counts),
        Place::Kubelet(kernel) => harness::kubelet(run, row.name, kernel, counts),
        Place::Guest(place) => guest(run, row, &mut log, counts, place),
    }
}

fn unit(run: &Run, row: &Row, log: &mut Log, counts: &mut Counts) -> Result<()> {
    if run.args.program.is_empty() {
        let mut cargo = build::cargo(run.paths);
        cargo.args(["test", "--no-fail-fast"]);
        for package in ["khard-common", "khard-profile", "khard-user", "xtask"] {
            cargo.args(["-p", package]);
        }
        cargo.args(["--", "--show-output"]).args(&run.args.filter);
        counts.add(watch(&mut cargo, "cargo test", HOST_LIMIT, log)?);
    }
    for program in run.programs(row) {
        let mut command = Command::new(&program.path);
        let dir = run.paths.root.join("tests");
        command.arg("--show-output").args(&run.args.filter).current_dir(&dir).env("CARGO_MANIFEST_DIR", &dir);
        counts.add(watch(&mut command, &program.name, HOST_LIMIT, log)?);
    }
    Ok(())
}

fn host(
    run: &Run,
    row: &Row,
    log: &mut Log,
    counts: &mut Counts,
    containerd: Option<&Containerd>,
) -> Result<()> {
    let dir = run.paths.root.join("tests");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(run.built.bin_dir.clone()).chain(env::split_paths(&path)))?;
    for program in run.programs(row) {
        let mut command = match containerd {
            Some(containerd) => containerd.command(&dir, &program.path),
            None => Command::new(&program.path),
        };
        command.args(arguments(run)).current_dir(&dir).env("PATH", &path).env("CARGO_MANIFEST_DIR", &dir);
        for (key, value) in environment(run, "host", &run.built.khard, containerd::runtimes()) {
            command.env(key, value);
        }
        counts.add(watch(&mut command, &program.name, HOST_LIMIT, log)?);
    }
    Ok(())
}

fn guest(run: &Run, row: &Row, log: &mut Log, counts: &mut Counts, place: Guest) -> Result<()> {
    if run.programs(row).next().is_none() {
        return Ok(());
    }
    let Guest { kernel, append, suite } = place;
    if let Some(suite) = suite {
        let absent = vm::absent(run.paths, suite)?;
        if !absent.is_empty() {
            counts.add(Counts::skip(row.name, &format!("Debian's {suite} has no {}", absent.join(", "))));
            return Ok(());
        }
    }
    let suite = suite.map_or_else(debian::suite, str::to_owned);
    let parts = Parts::make(run.paths, kernel, &suite, &run.built.bin_dir)?;
    let share = run.paths.state_dir("share")?.join(row.name);
    let _ = fs::remove_dir_all(&share);
    fs::create_dir_all(&share)?;
    let mut session: Option<Session> = None;
    for program in run.programs(row) {
        // One guest for all programs, and a new one after a program that ended it.
        let mut guest = match session.take() {
            Some(guest) => guest,
            None => parts.boot(run.paths, &share, &Options { append, ..Options::default() }, false)?,
        };
        let script = guest_script(run, program, kernel)?;
        let mut output = Vec::new();
        log.begin(&program.name)?;
        let started = Instant::now();
        let limit = if run.args.full { FULL_GUEST_LIMIT } else { GUEST_LIMIT };
        let outcome = guest.run(&script, Some(limit), &mut |_, bytes| {
            output.extend(bytes);
            log.write(bytes);
        })?;
        let ending = match &outcome {
            Outcome::Exited(0) => None,
            Outcome::Exited(status) => Some(format!("exit status {status}")),
            Outcome::OutOfTime => Some(format!("no end after {} s", limit.as_secs())),
            Outcome::MachineGone(console) => {
                let text = format!("\nthe guest is gone; its console:\n{console}\n");
                log.write(text.as_bytes());
                output.extend(text.as_bytes());
                Some("the guest is gone".to_owned())
            }
        };
        if matches!(outcome, Outcome::Exited(_)) {
            session = Some(guest);
        }
        counts.add(log.end(&program.name, &output, ending.as_deref(), started));
    }
    session.map_or(Ok(()), Session::end)
}

/// What a guest's shell runs for one test program: the same as on this machine.
fn guest_script(run: &Run, program: &TestProgram, kernel: &str) -> Result<String> {
    let inside = program
        .path
        .strip_prefix(&run.built.bin_dir)
        .context("a test program outside of the shared folder")?;
    let mut lines: Vec<String> = environment(run, kernel, Path::new("/khard/khard"), "runc,crun")
        .into_iter()
        .map(|(key, value)| format!("export {key}='{value}'"))
        .collect();
    // What is only for guests needs AppArmor, and containers only where it says so.
    let needs_containers = ["container_", "full_"].iter().any(|prefix| program.name.starts_with(prefix))
        || ["_pods", "_tutorial"].iter().any(|suffix| program.name.ends_with(suffix));
    if needs_containers {
        lines.push("khard-containerd || exit 1".to_owned());
        lines.push("export CONTAINER_RUNTIME_ENDPOINT=unix:///run/containerd/containerd.sock".to_owned());
    }
    let words: Vec<String> = arguments(run).iter().map(|word| crate::vm::quoted(word)).collect();
    lines.push(format!("exec /khard/{} {}", inside.display(), words.join(" ")));
    Ok(lines.join("\n"))
}

fn environment(run: &Run, kernel: &str, khard: &Path, runtimes: &str) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("KHARD_BIN", khard.display().to_string()),
        ("KHARD_KERNEL", kernel.to_owned()),
        ("KHARD_RUNTIMES", runtimes.to_owned()),
    ];
    if run.args.full {
        variables.push(("KHARD_FULL", "1".to_owned()));
    }
    variables
}

/// One test at a time, since they look at the whole kernel; not captured, so that the log has what a lost machine said.
fn arguments(run: &Run) -> Vec<String> {
    let mut arguments = vec!["--test-threads=1".to_owned(), "--nocapture".to_owned()];
    arguments.extend(run.args.filter.iter().cloned());
    arguments
}

/// Runs a program on this machine and counts what it says.
fn watch(command: &mut Command, name: &str, limit: Duration, log: &mut Log) -> Result<Counts> {
    log.begin(name)?;
    let started = Instant::now();
    // A file holds any amount, and a process that a test left behind cannot keep us waiting for the end of a pipe.
    let path = std::env::temp_dir().join(format!("khard-xtask-{}-{}", std::process::id(), log.row));
    let file = File::create(&path)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn_owned()?;
    let status = command::wait(&mut child, Some(started + limit));
    command::end_group(&mut child);
    let output = fs::read(&path)?;
    fs::remove_file(&path)?;
    let ending = match status? {
        Some(status) if status.success() => None,
        Some(status) => Some(command::words(status)),
        None => Some(format!("no end after {} s", limit.as_secs())),
    };
    log.write(&output);
    Ok(log.end(name, &output, ending.as_deref(), started))
}

/// A row's log.
struct Log {
    row: &'static str,
    file: File,
}

impl Log {
    fn begin(&mut self, program: &str) -> Result<()> {
        writeln!(self.file, "==== {program}").context("writing a log")
    }

    fn write(&mut self, bytes: &[u8]) {
        // A full disk shows elsewhere, in a test that says so.
        let _ = self.file.write_all(bytes);
    }

    /// Counts a program's output and says how it went; a failure with what was printed.
    fn end(&self, program: &str, output: &[u8], ending: Option<&str>, started: Instant) -> Counts {
        let text = String::from_utf8_lossy(output);
        let counts = Counts::read(program, &text, ending);
        let took = started.elapsed().as_secs();
        if counts.failed.is_empty() {
            eprintln!("xtask: {}: {program}: {} passed, {took} s", self.row, counts.n_passed);
        } else {
            let lines: Vec<&str> = text.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
            eprintln!("xtask: {}: {program}: FAILED after {took} s\n{shown}", self.row);
        }
        counts
    }
}
