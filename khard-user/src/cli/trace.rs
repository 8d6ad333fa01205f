//! `khard trace`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{Write, stderr, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use khard_profile::{Bytes, escape};

use super::ChoiceArgs;
use crate::{
    agent::{AgentError, CommandToRun},
    bpf::AttachChoice,
    command::{self, Output, User},
    stream::{Request, Target},
    trace::{self, Finished, Options, Report, Show, Source},
};

/// The classes that can be accepted as lossy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Class {
    /// System calls
    Syscalls,
    /// Files and all else that AppArmor decides on
    Accesses,
}

impl Class {
    /// Of a class of coverage.
    fn of(name: &str) -> Self {
        if name == "syscalls" { Self::Syscalls } else { Self::Accesses }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Syscalls => "syscalls",
            Self::Accesses => "accesses",
        }
    }
}

/// By what means accesses are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Means {
    /// The best that this kernel offers, class by class
    Auto,
    /// BPF LSM programs: nothing is skipped; what other security modules refuse is not seen
    Lsm,
    /// Programs at the end of the kernel's security functions: refusals are seen too
    Fexit,
    /// System calls: where the kernel allows nothing else
    Syscall,
    /// Not at all: system calls are recorded, and nothing else
    None,
}

impl From<Means> for AttachChoice {
    fn from(means: Means) -> Self {
        match means {
            Means::Auto => Self::Auto,
            Means::Lsm => Self::Lsm,
            Means::Fexit => Self::Fexit,
            Means::Syscall => Self::Syscall,
            Means::None => Self::None,
        }
    }
}

/// Records what runs until it ends, or until Ctrl-C, and writes recording.json, seccomp.json, NAME.apparmor and
/// summary.md for each subject. What khard only attaches to is never stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard trace -- nginx -g 'daemon off;'      record a command from its first instruction
  khard trace --pod web --wait               record the pod web (namespace default) from its first instruction
  khard trace --pod web -n shop -c nginx     attach to one container of a running pod
  khard trace --container 4f1d2c3b --duration 10m
  khard trace --cgroup /system.slice/redis.service
  khard trace --pod web --wait --until-quiet 5m          end when nothing new has come for five minutes
  khard trace --pod web --via 'ssh node1 sudo khard agent --stdio'    record there, write here

Exit status: that of COMMAND, or 125 for khard's own failure (126, 127 as env);
for other targets 0, 3 when something was lost and not accepted, 2 for an error.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Args {
    /// A pod's name (repeatable)
    #[arg(long, value_name = "NAME")]
    pod: Vec<String>,
    /// The pods' namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default", requires = "pod")]
    namespace: String,
    /// Only the pods' container of this name
    #[arg(short, long = "in-container", value_name = "CONTAINER", requires = "pod")]
    container_of_pod: Option<String>,
    /// A container's id, the start of it (8 digits or more), or its name (repeatable)
    #[arg(long, value_name = "ID|NAME")]
    container: Vec<String>,
    /// A cgroup's path, as in /proc/PID/cgroup (repeatable)
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<PathBuf>,
    /// Wait for targets that are not there yet, and record them from their first instruction
    #[arg(long)]
    wait: bool,
    /// End after this time (90s, 10m, 2h); COMMAND is then asked to end
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// End when no subject has shown anything new for this time; COMMAND is then asked to end
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    until_quiet: Option<Duration>,
    /// Record where this shell command leads: it must run `khard agent --stdio` there
    #[arg(long, value_name = "SHELL COMMAND", conflicts_with = "command")]
    via: Option<OsString>,
    /// Show the dashboard meanwhile (as khard tui); what COMMAND prints goes to command.log in the output folder
    #[arg(long, conflicts_with = "json")]
    tui: bool,
    /// Where to write
    #[arg(short, long, value_name = "DIR", default_value = "profiles-out")]
    output: PathBuf,
    /// The folder's name in there, for a single target
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Run COMMAND as this user
    #[arg(long, value_name = "UID[:GID]|NAME", requires = "command")]
    user: Option<String>,
    /// The container runtime's socket; else `CONTAINER_RUNTIME_ENDPOINT`, /etc/crictl.yaml, and the usual places
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    /// By what means to see files and all else that AppArmor decides on
    #[arg(long, value_name = "MEANS", default_value = "auto")]
    attach: Means,
    /// Tell attempts that failed from what was done, where AppArmor is asked first; costs a program at each call's end
    /// (implied by --attempts deny)
    #[arg(long)]
    outcomes: bool,
    #[command(flatten)]
    choices: ChoiceArgs,
    /// Succeed although something of this class was lost
    #[arg(long, value_name = "CLASS")]
    accept_lossy: Vec<Class>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// A command to start and record
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    /// The exit status of khard's own failure.
    pub(super) fn failure_code(&self) -> u8 {
        if self.command.is_empty() { super::ERROR } else { 125 }
    }

    /// As `khard tui` takes them.
    pub(super) fn show_dashboard(&mut self) {
        self.tui = true;
    }

    /// Where logs go while the dashboard has the terminal.
    pub(super) fn log_dir(&self) -> Option<&Path> {
        self.tui.then_some(self.output.as_path())
    }

    fn into_options(self, quiet: bool, or_every: bool) -> Result<Options> {
        let pods = self.pod.into_iter().map(|name| Target::Pod {
            namespace: self.namespace.clone(),
            name,
            container: self.container_of_pod.clone(),
        });
        let mut targets: Vec<_> = pods.chain(self.container.into_iter().map(Target::Container)).collect();
        let n_targets = targets.len() + self.cgroup.len() + usize::from(!self.command.is_empty());
        if n_targets == 0 && or_every {
            targets.push(Target::Every);
        }
        ensure!(
            n_targets > 0 || or_every,
            "nothing to record: name a --pod, --container, --cgroup, or a command after --"
        );
        if self.name.is_some() && n_targets > 1 {
            bail!("--name is for a single target, {n_targets} were given");
        }
        let user = self.user.as_deref().map(User::parse).transpose().map_err(AgentError::from)?;
        let source = match self.via {
            Some(via) => Source::Via(via),
            None => Source::Here {
                command: (!self.command.is_empty()).then(|| CommandToRun {
                    argv: self.command,
                    user,
                    output: if self.tui {
                        Output::File(self.output.join("command.log"))
                    } else {
                        Output::Inherited
                    },
                }),
            },
        };
        let path = |path: PathBuf| Bytes::from(path.into_os_string().into_encoded_bytes());
        Ok(Options {
            request: Request {
                cgroups: self.cgroup.into_iter().map(path).collect(),
                targets,
                wait: self.wait,
                runtime_endpoint: self.runtime_endpoint,
                attach: self.attach.into(),
                outcomes: self.outcomes || self.choices.denies_attempts(),
            },
            source,
            out_dir: self.output,
            name: self.name,
            duration: self.duration,
            until_quiet: self.until_quiet,
            choices: self.choices.into_choices()?,
            show: if self.tui {
                Show::Dashboard
            } else if quiet || self.json {
                Show::Nothing
            } else {
                Show::Line
            },
        })
    }
}

/// Runs the verb. `or_every`: without a target, every container on the node is one.
pub(super) fn run(args: Args, quiet: bool, or_every: bool) -> Result<ExitCode> {
    let (as_json, accepted) = (args.json, args.accept_lossy.clone());
    let failure = args.failure_code();
    let options = args.into_options(quiet, or_every)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let finished = runtime.block_on(trace::run(options))?;
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
    let mut code = finished.command_status.map_or(0, command::exit_code);
    for report in &finished.reports {
        let dir = escape::terminal(report.dir.as_os_str().as_encoded_bytes());
        if let Some(why) = &report.written.no_profile {
            tracing::error!("{dir}: {why}");
            code = failure;
        }
        for class in report.lossy.iter().map(|class| Class::of(class)).collect::<BTreeSet<_>>() {
            if !accepted.contains(&class) {
                let class = class.as_str();
                tracing::error!(
                    "{dir}: the recording is lossy in {class} (see summary.md): record again, or accept it with --accept-lossy {class}"
                );
                code = if failure == super::ERROR { super::LOSSY } else { failure };
            }
        }
    }
    code
}

/// `90s`, `10m`, `2h`, or seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('m') => (number, 60),
        Some(number) if text.ends_with('h') => (number, 3600),
        Some(number) => (number, 1),
        None => (text, 1),
    };
    let seconds: u64 = number.parse().map_err(|_| "give a number with s, m or h, such as 90s".to_owned())?;
    seconds
        .checked_mul(unit_s)
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| "the time must be more than nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_hours(2)));
        assert!(
            parse_duration("0").is_err() && parse_duration("ten").is_err() && parse_duration("5d").is_err()
        );
    }
}
