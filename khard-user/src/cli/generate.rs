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
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (path, recording) = input::recording(&args.recording)?;
    let beside = path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    let dir = OutDir::open(args.output.as_deref().unwrap_or(beside))?;
    let written = profiles::write(&recording, &args.choices.clone().into_choices()?, &dir)?;
    if let Some(why) = written.no_profile {
        return Err(why).with_context(|| format!("no profile was made from {}", path.display()));
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &written.summary).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", written.summary.to_text(dir.path()))?;
    }
    Ok(ExitCode::SUCCESS)
}
