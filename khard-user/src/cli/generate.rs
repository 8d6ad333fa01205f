//! `khard generate`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};

use super::ChoiceArgs;
use crate::{input, output::files::OutDir, profiles};

/// Makes the profiles of a recording again, with other choices if given.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard generate profiles-out/web/nginx/recording.json
  khard generate recording.json -o /tmp/strict --phases workload --floor runc")]
pub(super) struct Args {
    /// The recording: a file, or a folder with a recording.json
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// Where to write; by default beside the recording
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    choices: ChoiceArgs,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (path, recording) = input::recording(&args.recording)?;
    let beside = path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let dir = OutDir::open(args.output.as_deref().unwrap_or(beside))?;
    let generated = profiles::write(&recording, &args.choices.clone().into(), &dir)
        .with_context(|| format!("no profiles were made from {}", path.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {} calls allowed", dir.path().display(), generated.allowed.len())?;
    Ok(ExitCode::SUCCESS)
}
