//! `khard trace`.

use std::{
    io::{Write, stderr, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use khard_profile::escape;

use super::{
    ChoiceArgs,
    targets::{Class, TargetArgs, parse_duration, unaccepted},
};
use crate::{
    command::Output,
    trace::{self, Files, Finished, Options, Report, Show, Unite},
};

/// Whose recordings become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum UniteArg {
    /// Pods of one workload with the same image
    Replicas,
    /// Pods of one workload whatever their image, as a roll-out has them
    Rollouts,
}

impl UniteArg {
    fn into_unite(self) -> Unite {
        match self {
            Self::Replicas => Unite::Replicas,
            Self::Rollouts => Unite::Rollouts,
        }
    }
}

/// Records what runs until it ends, or until Ctrl-C, and writes recording.json, seccomp.json, NAME.apparmor and
/// summary.md for each subject.
///
/// What khard only attaches to is never stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard trace -- nginx -g 'daemon off;'      record a command from its first instruction
  khard trace --pod web --wait               record the pod web (namespace default) from its first instruction
  khard trace --pod web -n shop -c nginx     attach to one container of a running pod
  khard trace -l app=web -n shop --wait --unite rollouts    every pod of the workload, one set of profiles
  khard trace --container 4f1d2c3b --duration 10m
  khard trace -- docker run --rm nginx       record the container that docker starts, not the client
  khard trace --cgroup /system.slice/redis.service
  khard trace --pod web --wait --until-quiet 5m          end when nothing new has come for five minutes
  khard trace --pod web --via 'ssh node1 sudo khard agent --stdio'    record there, write here

COMMAND is asked to end as a container is, by a SIGTERM to its first process, so that what it does when it is stopped is recorded: at
--duration and --until-quiet, from the dashboard, and where khard gets a SIGTERM. The others are asked once that has ended, or after ten
seconds. Without a dashboard, a Ctrl-C reaches all its processes, and they may have nothing left to tell each other.

Exit status: that of COMMAND, or 125 for khard's own failure (126, 127 as env);
for other targets 0, 3 when something was lost and not accepted, 2 for an error.")]
pub(super) struct Args {
    #[command(flatten)]
    targets: TargetArgs,
    /// Write one recording and one set of profiles for all pods of a workload
    #[arg(long, value_name = "WHICH", requires = "pods")]
    unite: Option<UniteArg>,
    /// End when no subject has shown anything new for this time; COMMAND is then asked to end
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until_quiet: Option<Duration>,
    /// Show the dashboard meanwhile (as khard tui); what COMMAND prints goes to command.log in the output folder
    #[arg(long, conflicts_with = "json")]
    tui: bool,
    /// Where to write
    #[arg(short, long, value_name = "DIR", default_value = "profiles-out")]
    output: PathBuf,
    /// The folder's name in there, for a single target
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    choices: ChoiceArgs,
    /// Print the result as JSON, and nothing else on stdout: what COMMAND prints goes to stderr
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The exit status of khard's own failure.
    pub(super) fn failure_code(&self) -> u8 {
        self.targets.failure_code()
    }

    /// As `khard tui` takes them.
    pub(super) fn show_dashboard(&mut self) {
        self.tui = true;
    }

    /// Where logs go while the dashboard has the terminal.
    pub(super) fn log_dir(&self) -> Option<&Path> {
        self.tui.then_some(self.output.as_path())
    }

    fn into_options(self, quiet: bool, or_every: bool) -> Result<(Options, Files)> {
        let n_targets = self.targets.n_targets();
        if self.name.is_some() && n_targets > 1 {
            bail!("--name is for a single target, {n_targets} were given");
        }
        let output = match (self.tui, self.json) {
            (true, _) => Output::File(self.output.join("command.log")),
            (false, true) => Output::Stderr,
            (false, false) => Output::Inherited,
        };
        let duration = self.targets.duration;
        let (request, source) =
            self.targets.into_request(or_every, self.choices.denies_attempts(), output)?;
        let show = if self.tui {
            Show::Dashboard
        } else if quiet || self.json {
            Show::Nothing
        } else {
            Show::Line
        };
        let files = Files {
            out_dir: self.output,
            name: self.name,
            unite: self.unite.map(UniteArg::into_unite),
            choices: self.choices.into_choices()?,
        };
        Ok((Options { request, source, duration, until_quiet: self.until_quiet, show }, files))
    }
}

/// Runs the verb. `or_every`: without a target, every container on the node is one.
pub(super) fn run(args: Args, quiet: bool, or_every: bool) -> Result<ExitCode> {
    let (as_json, accepted) = (args.json, args.targets.accept_lossy.clone());
    let failure = args.failure_code();
    let (options, files) = args.into_options(quiet, or_every)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let finished = runtime.block_on(trace::run(options, files))?;
    let printed = print(&finished, as_json, quiet);
    let code = status(&finished, &accepted, failure);
    match printed {
        // Whoever reads the output has had enough: that changes neither the command's status nor a loss.
        Err(error) if !super::is_broken_pipe(&error) => Err(error),
        _ => Ok(ExitCode::from(code)),
    }
}

fn print(finished: &Finished, as_json: bool, quiet: bool) -> Result<()> {
    if as_json {
        let reports: Vec<_> = finished.reports.iter().map(to_value).collect();
        let mut out = stdout().lock();
        serde_json::to_writer(&mut out, &reports).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if !quiet {
        // The command owns stdout; what khard says of it goes beside.
        let mut out = stderr().lock();
        for report in &finished.reports {
            write!(out, "\n{}", report.written.summary.to_text(&report.dir))?;
        }
    }
    Ok(())
}

fn to_value(report: &Report) -> serde_json::Value {
    serde_json::json!({ "dir": report.dir.to_string_lossy(), "summary": report.written.summary })
}

fn status(finished: &Finished, accepted: &[Class], failure: u8) -> u8 {
    let mut code = finished.command.exit_code();
    for report in &finished.reports {
        let dir = escape::terminal(report.dir.as_os_str().as_encoded_bytes());
        if let Some(why) = &report.written.no_profile {
            tracing::error!("{dir}: {why}");
            code = failure;
        }
        for class in unaccepted(&report.lossy, accepted) {
            let class = class.as_str();
            tracing::error!(
                "{dir}: the recording is lossy in {class} (see summary.md): record again, or accept it with --accept-lossy {class}"
            );
            code = if failure == super::ERROR { super::LOSSY } else { failure };
        }
    }
    code
}
