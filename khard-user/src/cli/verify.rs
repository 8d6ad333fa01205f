//! `khard verify`.

use std::{
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use khard_profile::{check::Question, escape, recording::PhaseSet, seccomp::Policy};

use super::targets::{TargetArgs, parse_duration, unaccepted};
use crate::{
    causes::with_causes,
    command::{self, Output},
    trace::{self, Options, Show},
    verify::{Profiles, Verification, Verified},
};

/// Records, and says at once what a profile would refuse of it, or refuses where it is in force: khard check, live. Nothing is
/// written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard verify --profile profiles-out/web --pod web -n shop --quiet-for 30m
  khard verify --profile profiles-out/web/nginx -l app=web -n shop --wait
  khard verify --profile seccomp.json --profile web.apparmor -- ./test.sh

What is done and the profile does not allow would be refused: so it is in complain or log mode, and without the profile. Under an
AppArmor profile in enforce mode, attempts that the kernel refused and the profile does not allow are told too, where khard can
see them (`khard doctor`: fexit). System calls that a seccomp filter in force refuses are not seen.

Exit status: 1 something is refused; 0 nothing is (of COMMAND its own status); 3 something was lost and not accepted, 2 an error
(with COMMAND 125).")]
pub(super) struct Args {
    /// A seccomp or AppArmor profile, one of each, or a folder of khard's: of one container, or with one for each (repeatable)
    #[arg(long, value_name = "PATH", required = true)]
    profile: Vec<PathBuf>,
    #[command(flatten)]
    targets: TargetArgs,
    /// End when nothing was refused for this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    quiet_for: Option<Duration>,
    /// Whose calls and accesses to hold against it, separated by commas
    #[arg(long, value_name = "PHASES", default_value_t = Policy::DEFAULT_PHASES)]
    phases: PhaseSet,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The exit status of khard's own failure.
    pub(super) fn failure_code(&self) -> u8 {
        self.targets.failure_code()
    }
}

/// Runs the verb.
pub(super) fn run(args: Args, quiet: bool) -> Result<ExitCode> {
    let (accepted, failure) = (args.targets.accept_lossy.clone(), args.failure_code());
    let profiles = Profiles::read(&args.profile)?;
    let verification = Verification::new(profiles, Question { phases: args.phases, caps: None });
    let duration = args.targets.duration;
    let (request, source) = args.targets.into_request(false, false, Output::Inherited)?;
    let show = if quiet || args.json { Show::Nothing } else { Show::Line };
    let options = Options { request, source, duration, until_quiet: args.quiet_for, show };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let finished = runtime.block_on(trace::verify(options, verification))?;
    let verified = finished.verified.unwrap_or_default();
    print(&verified, args.json, quiet)?;
    let mut code =
        if verified.findings.is_empty() { finished.command_status.map_or(0, command::exit_code) } else { 1 };
    for (label, class) in &verified.lossy {
        for class in unaccepted([class], &accepted) {
            let (label, class) = (escape::terminal(label.as_bytes()), class.as_str());
            tracing::error!(
                "{label}: the recording is lossy in {class}: verify again, or accept it with --accept-lossy {class}"
            );
            code = if failure == super::ERROR { super::LOSSY } else { failure };
        }
    }
    for error in &verified.failures {
        tracing::error!("{}", with_causes(error));
        code = failure;
    }
    Ok(ExitCode::from(code))
}

fn print(verified: &Verified, as_json: bool, quiet: bool) -> Result<()> {
    let mut out = stdout().lock();
    if as_json {
        serde_json::to_writer(&mut out, &verified.to_value()).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if !quiet {
        write!(out, "{}", verified.to_text())?;
    }
    Ok(())
}
