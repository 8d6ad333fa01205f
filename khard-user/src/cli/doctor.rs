//! `khard doctor`: shows what this machine allows. Owns options and exit code; the facts are `doctor`'s.
use crate::doctor::{Report, render};
use anyhow::{Context, Result};
use std::{io::Write, process::ExitCode};

/// Show what this machine allows, and what of khard works here
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard doctor
  khard doctor --json | jq '.abilities[] | select(.works | not)'          # what does not work, and why
  khard doctor --json | jq '.programs.hooks[] | select(.by == null)'      # what is not seen, and why
  khard doctor --runtime-endpoint unix:///run/k3s/containerd/containerd.sock

Every fact is tried where that does no harm: programs are loaded and attached for a moment.

Exit status: 0 khard can record here; 1 it cannot; 2 an error.")]
pub(super) struct Args {
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
    /// The container runtime's CRI socket, as `unix:///path`
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
}

/// Gathers and prints.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let report = runtime.block_on(Report::gather(args.runtime_endpoint.as_deref()));
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { render(&report) };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    Ok(if report.can_record() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
