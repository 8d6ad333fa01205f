//! The command line. One file for each verb, no deeper than wiring; exit codes are decided here.
//!
//! Codes: 0 done; 1 a check says no; 2 an error; 3 lossy and not accepted. `trace -- COMMAND` returns the command's
//! own status, and 125 for khard's failures, a loss that was not accepted included (126 and 127 as env(1)). `ci` the same, with or
//! without one, but that the command's own failure comes before khard's.

mod agent;
mod apply;
mod check;
mod ci;
mod completions;
mod diff;
mod doctor;
mod explain;
mod export;
mod generate;
mod lint;
mod merge;
mod mode;
mod remove;
mod replay;
mod status;
mod targets;
mod trace;
mod tui;
mod verify;

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::OnceLock,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use khard_profile::{
    apparmor,
    recording::PhaseSet,
    seccomp::{FloorChoice, Policy},
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    config::{Config, ConfigError},
    output::files::OutDir,
    profiles::ProfileChoices,
    redact::Redact,
    trace::TOLD_WITHOUT_V,
};

/// An error of khard itself.
const ERROR: u8 = 2;
/// The same where the exit status is else that of a command.
const ERROR_WITH_COMMAND: u8 = 125;
/// Something was lost, and that was not accepted.
const LOSSY: u8 = 3;
/// Where logs go while a dashboard has the terminal, in the output folder.
const LOG_FILE: &str = "khard.log";

/// Watches what a container really does and writes the smallest seccomp and AppArmor profiles under which it still works.
#[derive(Debug, Parser)]
#[command(name = "khard", version, propagate_version = true)]
struct Cli {
    /// Say more: -v what happens, -vv each first sighting
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Say nothing but errors, and what was asked for
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(about = "Record a command, pod, container or cgroup, and write its profile")]
    Trace(Box<trace::Args>),
    #[command(
        about = "Watch containers live: what each does, what its profile would be, and whether anything new still comes"
    )]
    Tui(Box<tui::Args>),
    #[command(about = "Look at an old recording in the dashboard")]
    Replay(replay::Args),
    #[command(about = "Record for a khard elsewhere, which is connected to standard input and output")]
    Agent(agent::Args),
    #[command(about = "Make the profiles again from recordings")]
    Generate(generate::Args),
    #[command(about = "Unite recordings of one subject into one")]
    Merge(merge::Args),
    #[command(about = "Would this profile have refused anything in a recorded run?")]
    Check(check::Args),
    #[command(about = "Would, or does, this profile refuse anything of what happens now?")]
    Verify(Box<verify::Args>),
    #[command(about = "Record a test run, and compare what it needs with the committed profiles")]
    Ci(Box<ci::Args>),
    #[command(
        about = "What is different between two recordings or two profiles, and what does each addition open?"
    )]
    Diff(diff::Args),
    #[command(
        about = "What is wrong with these profiles, by whomever they were written? Would the runtime's default do?"
    )]
    Lint(lint::Args),
    #[command(about = "Why is this rule in the profile? Who did it, when, in how many runs?")]
    Explain(explain::Args),
    #[command(about = "Write the profiles in the forms that Kubernetes, Docker, Podman and Compose take")]
    Export(export::Args),
    #[command(about = "Put profiles into force on this node")]
    Apply(apply::Args),
    #[command(about = "What is in force on this node, what it confines, and what is missing")]
    Status(status::Args),
    #[command(about = "Let an AppArmor profile in force refuse, or only log")]
    Mode(mode::Args),
    #[command(about = "Take profiles in force away again")]
    Remove(remove::Args),
    #[command(about = "What this machine allows, and what therefore works")]
    Doctor(doctor::Args),
    #[command(about = "Print what a shell needs to complete this command line")]
    Completions(completions::Args),
}

/// How profiles are made, the same for `trace` and `generate`.
#[derive(Debug, Clone, clap::Args)]
struct ChoiceArgs {
    /// Whose calls the profile allows, separated by commas
    #[arg(long, value_name = "PHASES", default_value_t = Policy::DEFAULT_PHASES)]
    phases: PhaseSet,
    /// What the container runtime itself calls once the filter is in force: auto, none, runc or crun
    #[arg(long, value_name = "RUNTIME", default_value = "auto")]
    floor: FloorChoice,
    /// How far the AppArmor profile may generalise paths
    #[arg(long, value_name = "HOW", default_value = "strict")]
    paths: PathsArg,
    /// What becomes of attempts that were refused although AppArmor is asked first
    #[arg(long, value_name = "WHAT", default_value = "grant")]
    attempts: AttemptsArg,
    /// The AppArmor profile only logs what it does not allow
    #[arg(long)]
    complain: bool,
    /// Say at each AppArmor rule who needed it first
    #[arg(long)]
    comments: bool,
    /// Restrict AppArmor rules to the file's owner where only owners were seen
    #[arg(long)]
    owner: bool,
    /// The AppArmor policy's ABI: newer ones also mediate user namespaces (4.0) and `io_uring` (5.0)
    #[arg(long, value_name = "ABI", default_value = "3.0")]
    abi: AbiArg,
}

/// `--paths`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PathsArg {
    /// Only without loss: process ids, names that programs make up, and such
    Strict,
    /// Also versions of libraries, and directories of which many files were used (thresholds: khard.toml)
    Balanced,
}

/// `--attempts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AttemptsArg {
    /// Granted: they fail with the same error as before, and nothing is logged
    Grant,
    /// Denied without a word in the log; the error may be another
    Deny,
}

/// `--abi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum AbiArg {
    /// AppArmor 3 and later, any kernel
    #[value(name = "3.0")]
    Abi30,
    /// AppArmor 4 and later
    #[value(name = "4.0")]
    Abi40,
    /// AppArmor 5 and later
    #[value(name = "5.0")]
    Abi50,
}

impl ChoiceArgs {
    /// Whether it matters which attempts failed.
    fn denies_attempts(&self) -> bool {
        self.attempts == AttemptsArg::Deny
    }

    /// With what the project has decided in its khard.toml.
    fn into_choices(self) -> Result<ProfileChoices, ConfigError> {
        let config = Config::find()?;
        let paths = match self.paths {
            PathsArg::Strict => apparmor::Paths::Exact,
            PathsArg::Balanced => match config.thresholds() {
                Some(thresholds) => apparmor::Paths::Balanced { thresholds },
                None => apparmor::Paths::balanced(),
            },
        };
        Ok(ProfileChoices {
            phases: self.phases,
            min_seen: 1,
            floor: self.floor,
            apparmor: apparmor::Policy {
                phases: self.phases,
                paths,
                attempts: match self.attempts {
                    AttemptsArg::Grant => apparmor::Attempts::Grant,
                    AttemptsArg::Deny => apparmor::Attempts::Deny,
                },
                abi: match self.abi {
                    AbiArg::Abi30 => apparmor::TargetAbi::Abi30,
                    AbiArg::Abi40 => apparmor::TargetAbi::Abi40,
                    AbiArg::Abi50 => apparmor::TargetAbi::Abi50,
                },
                owner: self.owner,
                ..apparmor::Policy::default()
            },
            style: apparmor::Style { comments: self.comments, complain: self.complain },
        })
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            let _ = told.print();
            let is_asked_for = told.exit_code() == 0;
            return ExitCode::from(if is_asked_for { 0 } else { misunderstood(std::env::args_os().skip(1)) });
        }
    };
    if let Verb::Tui(args) = &mut cli.verb {
        args.trace.show_dashboard();
    }
    init_logging(&cli);
    let (result, failure) = match cli.verb {
        Verb::Trace(args) => {
            let failure = args.failure_code();
            (trace::run(*args, cli.quiet, false), failure)
        }
        Verb::Tui(args) => {
            let failure = args.trace.failure_code();
            (trace::run(args.trace, cli.quiet, true), failure)
        }
        Verb::Replay(args) => (replay::run(&args), ERROR),
        Verb::Agent(args) => (agent::run(&args), ERROR),
        Verb::Generate(args) => (generate::run(&args), ERROR),
        Verb::Merge(args) => (merge::run(&args), ERROR),
        Verb::Check(args) => (check::run(&args), ERROR),
        Verb::Verify(args) => {
            let failure = args.failure_code();
            (verify::run(*args, cli.quiet), failure)
        }
        Verb::Ci(args) => (ci::run(*args, cli.quiet), ERROR_WITH_COMMAND),
        Verb::Diff(args) => (diff::run(&args), ERROR),
        Verb::Lint(args) => (lint::run(&args), ERROR),
        Verb::Explain(args) => (explain::run(&args), ERROR),
        Verb::Export(args) => (export::run(&args), ERROR),
        Verb::Apply(args) => (apply::run(&args), ERROR),
        Verb::Status(args) => (status::run(&args), ERROR),
        Verb::Mode(args) => (mode::run(&args), ERROR),
        Verb::Remove(args) => (remove::run(&args), ERROR),
        Verb::Doctor(args) => (doctor::run(&args), ERROR),
        Verb::Completions(args) => (completions::run(&args), ERROR),
    };
    match result {
        Ok(code) => code,
        // Whoever reads the output has had enough: no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(exit_code_of(&error).unwrap_or(failure))
        }
    }
}

/// The exit status for a command line that makes no sense: an error of khard itself, of the verb and with the COMMAND that stand there.
fn misunderstood(args: impl Iterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.collect();
    let mut words = args.split(|word| word == "--");
    let verb =
        words.next().and_then(|own| own.iter().find(|word| !word.as_encoded_bytes().starts_with(b"-")));
    let has_command = words.next().is_some_and(|command| !command.is_empty());
    match verb.and_then(|verb| verb.to_str()) {
        Some("ci") => ERROR_WITH_COMMAND,
        Some("trace" | "tui" | "verify") if has_command => ERROR_WITH_COMMAND,
        _ => ERROR,
    }
}

/// Prints what was done or found: for programs, or for people.
fn print(as_json: bool, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let text = if as_json { serde_json::to_string_pretty(value)? + "\n" } else { text() };
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn exit_code_of(error: &anyhow::Error) -> Option<u8> {
    let of_agent = match error.downcast_ref::<crate::trace::TraceError>() {
        Some(crate::trace::TraceError::Agent(error)) => Some(error),
        _ => error.downcast_ref::<crate::agent::AgentError>(),
    };
    match of_agent? {
        crate::agent::AgentError::Command(error) => Some(error.exit_code()),
        _ => None,
    }
}

fn init_logging(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder()
        .with_env_var("KHARD_LOG")
        .with_default_directive(LevelFilter::WARN.into())
        .try_from_env()
        .unwrap_or_else(|_| {
            EnvFilter::new(format!("warn,khard={level},khard_user={level},{TOLD_WITHOUT_V}=info"))
        });
    let filter = if cli.quiet { EnvFilter::new("error") } else { filter };
    let log_dir = match &cli.verb {
        Verb::Trace(args) => args.log_dir(),
        Verb::Tui(args) => args.trace.log_dir(),
        _ => None,
    };
    let log_dir = log_dir.map(Path::to_owned);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Log { dir: log_dir.clone() })
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .without_time()
        .with_target(false)
        .init();
}

/// What is not to be shown in the log.
static REDACT: OnceLock<Redact> = OnceLock::new();

/// Keeps something out of the log from now on.
fn redact_log(redact: Redact) -> &'static Redact {
    REDACT.get_or_init(|| redact)
}

/// Where a line of the log goes: to stderr, but where a dashboard has the terminal to a file beside what is written.
struct Log {
    /// None: there is no such file, and what goes wrong is told at the end.
    dir: Option<PathBuf>,
}

impl Write for Log {
    /// Never fails: tracing would complain on stderr, and where that is a terminal that is gone, complaining panics, with all that is
    /// not written yet.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Warnings and errors come from everywhere, with names in them: all words of a line are looked at, khard's own too.
        let hidden = REDACT.get().and_then(|redact| redact.text(&String::from_utf8_lossy(line)));
        let shown = hidden.as_ref().map_or(line, String::as_bytes);
        if !crate::tui::is_taken() {
            let _ = io::stderr().write_all(shown);
        } else if let Some(dir) = &self.dir
            && let Ok(mut file) = OutDir::open(dir).and_then(|dir| dir.append(LOG_FILE))
        {
            let _ = file.write_all(shown);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_misunderstood_beside_a_command_does_not_pass_for_that_commands_status() {
        let code = |line: &str| misunderstood(line.split(' ').map(OsString::from));
        for line in
            ["ci --redact (", "-v ci -- make", "trace --pdo x -- true", "-q verify -- true", "tui -- true"]
        {
            assert_eq!(code(line), ERROR_WITH_COMMAND, "{line}");
        }
        for line in ["trace --pod", "verify --", "diff a -- ci", "-v -- ci", "", "trase -- true"] {
            assert_eq!(code(line), ERROR, "{line}");
        }
    }
}
