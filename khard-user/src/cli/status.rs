//! `khard status`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use crate::node::{self, Status};

/// What is in force on this node: AppArmor profiles, what they confine, and containers' seccomp filters
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard status
  khard status --json | jq '.profiles[] | select(.khard)'
  khard status --root /mnt/image                  # what a node that boots from it will have of khard's")]
pub(super) struct Args {
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
    /// The container runtime's socket, a CRI's or Docker's, as `unix:///path`
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    /// The root of an image's file system: what khard has written there
    #[arg(long, value_name = "DIR", conflicts_with = "runtime_endpoint")]
    root: Option<PathBuf>,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    node::need_root("see")?;
    let places = super::apply::places(args.root.as_deref())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let status = runtime.block_on(Status::gather(&places, args.runtime_endpoint.as_deref()));
    super::print(args.json, &status, || node::render(&status))?;
    Ok(ExitCode::SUCCESS)
}
