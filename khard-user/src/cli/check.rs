//! `khard check`.

use std::{collections::BTreeSet, io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use khard_profile::{
    check::{self, Profile, Question},
    recording::PhaseSet,
    seccomp::Policy,
};

use crate::input;

/// Asks of a seccomp profile, by whomever it was made, whether it would have refused anything in a recorded run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard check seccomp.json --against profiles-out/web/nginx/recording.json
  khard check docker-default.json --against recording.json --caps CAP_CHOWN,CAP_SYS_ADMIN

Exit status: 0 nothing is refused, 1 something is, 2 an error.")]
pub(super) struct Args {
    /// A profile in the OCI runtime's, Docker's or Podman's form
    #[arg(value_name = "PROFILE")]
    profile: PathBuf,
    /// The recording: a file, or a folder with a recording.json
    #[arg(long, value_name = "RECORDING")]
    against: PathBuf,
    /// Whose calls to check, separated by commas
    #[arg(long, value_name = "PHASES", default_value_t = Policy::DEFAULT_PHASES)]
    phases: PhaseSet,
    /// The container's capabilities, for rules of Docker's form that depend on them
    #[arg(long, value_name = "CAP,…", value_delimiter = ',')]
    caps: Option<Vec<String>>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let json = input::read_limited(&args.profile)?;
    let profile = Profile::from_json(&json)
        .with_context(|| format!("{} is no seccomp profile", args.profile.display()))?;
    let (_, recording) = input::recording(&args.against)?;
    let caps: Option<BTreeSet<String>> = args.caps.as_ref().map(|caps| caps.iter().cloned().collect());
    let report = check::check(&profile, &recording, &Question { phases: args.phases, caps });
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &report.to_value())?;
        writeln!(out)?;
    } else {
        write!(out, "{}", report.to_text())?;
    }
    Ok(if report.passes() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
