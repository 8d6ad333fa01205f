//! `khard explain`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use khard_profile::explain::{explain_apparmor, explain_seccomp};

use super::check::AnyProfile;
use crate::input;

/// Says why a profile has a rule, or what became of a path or a system call: who did it first, when, in which phases, in how
/// many runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard explain profiles-out/web/nginx/nginx.apparmor 23
  khard explain profiles-out/web/nginx/nginx.apparmor /etc/nginx/nginx.conf
  khard explain profiles-out/web/nginx/nginx.apparmor 'capability chown,'
  khard explain profiles-out/web/nginx/seccomp.json clone3

Exit status: 0 there is an answer, 2 an error, such as no such rule.")]
pub(super) struct Args {
    /// A seccomp profile (JSON) or an AppArmor profile (text)
    #[arg(value_name = "PROFILE")]
    profile: PathBuf,
    /// A rule by its text, its line or (seccomp) its place; a path; or a system call's name
    #[arg(value_name = "RULE|PATH|SYSCALL")]
    query: String,
    /// The recording: a file, or a folder with a recording.json; by default beside the profile
    #[arg(long, value_name = "RECORDING")]
    against: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let profile = AnyProfile::read(&args.profile)?;
    let beside = args.profile.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let (_, recording) = input::recording(args.against.as_deref().unwrap_or(beside))?;
    let explanation = match &profile {
        AnyProfile::Seccomp(profile) => explain_seccomp(profile, &recording, &args.query)?,
        AnyProfile::AppArmor(profile) => explain_apparmor(profile, &recording, &args.query)?,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &explanation.to_value()).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", explanation.to_text())?;
    }
    Ok(ExitCode::SUCCESS)
}
