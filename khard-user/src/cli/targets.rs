//! What is to be recorded, as `trace`, `tui` and `verify` take it on the command line.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::ArgGroup;
use khard_profile::Bytes;

use crate::{
    agent::{AgentError, CommandToRun},
    bpf::AttachChoice,
    command::{Output, User},
    stream::{Request, Selector, Target},
    trace::Source,
};

/// The classes that can be accepted as lossy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Class {
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

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Syscalls => "syscalls",
            Self::Accesses => "accesses",
        }
    }
}

/// Of classes of coverage that are lossy, those that nobody has accepted.
pub(super) fn unaccepted<'a>(
    lossy: impl IntoIterator<Item = &'a &'static str>,
    accepted: &[Class],
) -> BTreeSet<Class> {
    let classes = lossy.into_iter().map(|class| Class::of(class));
    classes.filter(|class| !accepted.contains(class)).collect()
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

/// Whom to record, how, and for how long.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("pods").args(["pod", "selector"]).multiple(true))]
pub(super) struct TargetArgs {
    /// A pod's name (repeatable)
    #[arg(long, value_name = "NAME")]
    pod: Vec<String>,
    /// All pods with these labels: key=value, key!=value, key in (a,b), key, !key, separated by commas (repeatable). With
    /// --wait, also those that come later, until the time is over or Ctrl-C
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Vec<Selector>,
    /// The pods' namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default", requires = "pods")]
    namespace: String,
    /// Only the pods' container of this name
    #[arg(short, long = "in-container", value_name = "CONTAINER", requires = "pods")]
    container_of_pod: Option<String>,
    /// A container's id, the start of it (8 digits or more), or its name, in a pod or in Docker (repeatable)
    #[arg(long, value_name = "ID|NAME")]
    container: Vec<String>,
    /// Every container that starts while COMMAND runs, in a pod or in Docker, by whomever it is started; not those that are there
    /// before. Their recordings end with COMMAND
    #[arg(long, requires = "command")]
    containers: bool,
    /// A cgroup's path, as in /proc/PID/cgroup (repeatable)
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<PathBuf>,
    /// Wait for targets that are not there yet, and record them from their first instruction
    #[arg(long)]
    wait: bool,
    /// End after this time (90s, 10m, 2h); COMMAND is then asked to end
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) duration: Option<Duration>,
    /// Record where this shell command leads: it must run `khard agent --stdio` there
    #[arg(long, value_name = "SHELL COMMAND", conflicts_with = "command")]
    via: Option<OsString>,
    /// Run COMMAND as this user
    #[arg(long, value_name = "UID[:GID]|NAME", requires = "command")]
    user: Option<String>,
    /// The container runtime's socket, a CRI's or Docker's; else `CONTAINER_RUNTIME_ENDPOINT`, /etc/crictl.yaml, `DOCKER_HOST`, and the
    /// usual places
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    /// By what means to see files and all else that AppArmor decides on
    #[arg(long, value_name = "MEANS", default_value = "auto")]
    attach: Means,
    /// Tell attempts that failed from what was done, where AppArmor is asked first; costs a program at each call's end
    /// (implied by --attempts deny)
    #[arg(long)]
    outcomes: bool,
    /// Succeed although something of this class was lost
    #[arg(long, value_name = "CLASS")]
    pub(super) accept_lossy: Vec<Class>,
    /// A command to start and record; of `docker run`, the container that it starts
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl TargetArgs {
    /// The exit status of khard's own failure.
    pub(super) fn failure_code(&self) -> u8 {
        if self.command.is_empty() { super::ERROR } else { super::ERROR_WITH_COMMAND }
    }

    /// How many were named; one for all pods with some labels.
    pub(super) fn n_targets(&self) -> usize {
        let of_command = usize::from(!self.command.is_empty());
        let named = self.pod.len() + self.selector.len() + self.container.len() + self.cgroup.len();
        named + usize::from(self.containers) + of_command
    }

    /// What an agent is asked for, and where it is. `or_every`: without a target, every container on the node is one. `output`:
    /// where what COMMAND prints goes.
    pub(super) fn into_request(
        self,
        or_every: bool,
        denies_attempts: bool,
        output: Output,
    ) -> Result<(Request, Source)> {
        let n_targets = self.n_targets();
        ensure!(
            n_targets > 0 || or_every,
            "nothing to record: name a --pod, --selector, --container, --cgroup, or a command after --"
        );
        let pods = self.pod.into_iter().map(|name| Target::Pod {
            namespace: self.namespace.clone(),
            name,
            container: self.container_of_pod.clone(),
        });
        let labelled = self.selector.into_iter().map(|selector| Target::Labelled {
            namespace: self.namespace.clone(),
            selector,
            container: self.container_of_pod.clone(),
        });
        let containers = self.container.into_iter().map(Target::Container);
        let new = self.containers.then_some(Target::New);
        let mut targets: Vec<_> = pods.chain(labelled).chain(containers).chain(new).collect();
        if n_targets == 0 {
            targets.push(Target::Every);
        }
        let user = self.user.as_deref().map(User::parse).transpose().map_err(AgentError::from)?;
        let source = match self.via {
            Some(via) => Source::Via(via),
            None => Source::Here {
                command: (!self.command.is_empty()).then_some(CommandToRun {
                    argv: self.command,
                    user,
                    output,
                    ends_recording: false,
                }),
            },
        };
        let path = |path: PathBuf| Bytes::from(path.into_os_string().into_encoded_bytes());
        let request = Request {
            cgroups: self.cgroup.into_iter().map(path).collect(),
            targets,
            wait: self.wait,
            runtime_endpoint: self.runtime_endpoint,
            attach: self.attach.into(),
            outcomes: self.outcomes || denies_attempts,
        };
        Ok((request, source))
    }
}

/// `90s`, `10m`, `2h`, or seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
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
