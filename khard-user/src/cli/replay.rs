//! `khard replay`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use super::ChoiceArgs;
use crate::{input, trace};

/// Shows a recording in the dashboard as if it were made now.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard replay profiles-out/web/nginx/recording.json --tui
  khard replay profiles-out/web/nginx --tui --speed 10")]
pub(super) struct Args {
    /// The recording: a file, or a folder with a recording.json
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// Show the dashboard
    #[arg(long, required = true)]
    tui: bool,
    /// So many times as fast as it was recorded; else all of it at once
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed)]
    speed: Option<f64>,
    #[command(flatten)]
    choices: ChoiceArgs,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (path, recording) = input::recording(&args.recording)?;
    let choices = args.choices.clone().into_choices()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(trace::replay(&recording, path.display().to_string(), args.speed, choices))?;
    Ok(ExitCode::SUCCESS)
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "give a number, such as 10".to_owned())?;
    if speed.is_finite() && speed >= 0.001 { Ok(speed) } else { Err("give a number above 0.001".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_above_nothing() {
        assert_eq!(parse_speed("10"), Ok(10.0));
        for bad in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(parse_speed(bad).is_err(), "{bad}");
        }
    }
}
