//! `khard lint`.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Result;
use khard_profile::lint::{self, Severity};
use serde_json::{Value, json};

use crate::{
    causes::with_causes,
    host,
    input::{self, InputError},
};

/// Finds the mistakes that people make in seccomp and AppArmor profiles, by whomever they were written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard lint /var/lib/kubelet/seccomp/profiles/*.json
  khard lint profiles-out
  khard lint deny-write.apparmor --deny error
  khard lint seccomp.json --against profiles-out/web/nginx   # is RuntimeDefault enough?

Names of calls are held against this machine's libseccomp, if it has one, and else against that of Debian 12.

Exit status: 0 nothing at the level of --deny or above was found, 1 something was, 2 an error.")]
pub(super) struct Args {
    /// Seccomp profiles (JSON) in the OCI runtime's, Docker's or Podman's form, AppArmor profiles (text), and folders: each
    /// seccomp.json and NAME.apparmor in and below them
    #[arg(value_name = "PROFILE", required = true)]
    profiles: Vec<PathBuf>,
    /// What is to run under them: a recording's file, or a folder with a recording.json; says whether the runtime's default
    /// profile would do
    #[arg(long, value_name = "RECORDING")]
    against: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// From which findings on the exit status is 1
    #[arg(long, value_name = "WHAT", default_value = "warning")]
    deny: DenyArg,
}

/// `--deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DenyArg {
    /// Errors: the profile confines nothing, or nothing runs under it
    Error,
    /// Warnings too: it does not do what it seems to
    Warning,
    /// Notes too
    Note,
}

impl DenyArg {
    fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Note => Severity::Note,
        }
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let recording = args.against.as_deref().map(input::recording).transpose()?;
    let recording = recording.as_ref().map(|(_, recording)| recording);
    let libseccomp = host::libseccomp();
    let mut worst = None;
    let mut values = Vec::new();
    let mut out = std::io::stdout().lock();
    let mut profiles = Vec::new();
    let mut is_unread = false;
    // What is wrong with the others is told all the same.
    let mut unread = |error: InputError| {
        tracing::error!("{}", with_causes(&error));
        is_unread = true;
    };
    for path in &args.profiles {
        match path.is_dir().then(|| input::profiles_below(path)) {
            Some(Ok(below)) => profiles.extend(below),
            Some(Err(error)) => unread(error),
            None => profiles.push(path.clone()),
        }
    }
    for (place, path) in profiles.iter().enumerate() {
        let text = match input::read_limited(path) {
            Ok(text) => text,
            Err(error) => {
                unread(error);
                continue;
            }
        };
        let report = lint::lint_for(&text, recording, &libseccomp);
        worst = worst.max(report.worst());
        if args.json {
            values.push(with_path(report.to_value(), path));
        } else {
            let blank = if place > 0 { "\n" } else { "" };
            write!(out, "{blank}{}", report.to_text(&path.to_string_lossy()))?;
        }
    }
    let passes = worst.is_none_or(|worst| worst < args.deny.severity());
    if args.json {
        let value = json!({ "passes": passes && !is_unread, "profiles": values });
        serde_json::to_writer(&mut out, &value).map_err(std::io::Error::from)?;
        writeln!(out)?;
    }
    Ok(match (is_unread, passes) {
        (true, _) => ExitCode::from(super::ERROR),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::from(1),
    })
}

fn with_path(mut report: Value, path: &std::path::Path) -> Value {
    report["path"] = json!(path.to_string_lossy());
    report
}
