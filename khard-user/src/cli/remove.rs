//! `khard remove`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use crate::node::{self, Status};

/// Takes profiles that khard put into force away again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard remove khard-shop-web-nginx-1f2e3d4c
  khard remove profiles-out/web/nginx             # all that was applied from there

A folder stands for all that was applied from it, what was amended since included. What is not there already is no error.

What was changed since khard wrote it is left alone, and so is what confines a running process, or what a running container was
started with.")]
pub(super) struct Args {
    /// A profile's name, as `khard status` lists it, or a folder that was applied; what another applied folder has too stays
    #[arg(value_name = "NAME|DIR", required = true, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    what: Vec<String>,
    /// Also what was changed since, and what is in use: its processes are not confined any more
    #[arg(long)]
    force: bool,
    /// The container runtime's socket, a CRI's or Docker's, as `unix:///path`
    #[arg(long, value_name = "ENDPOINT")]
    runtime_endpoint: Option<String>,
    /// The root of an image's file system: files are removed there, and nothing is unloaded
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    node::need_root("change")?;
    let places = super::apply::places(args.root.as_deref())?;
    let needs = if places.kernel.is_some() && !args.force {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        runtime.block_on(Status::gather(&places, args.runtime_endpoint.as_deref())).needs()
    } else {
        Vec::new()
    };
    let removed = node::remove(&places, &args.what, &needs, args.force)?;
    super::print(args.json, &removed, || removed.to_text())?;
    Ok(ExitCode::SUCCESS)
}
