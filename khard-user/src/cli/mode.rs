//! `khard mode`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use khard_profile::apparmor_text::Mode;

use crate::node;

/// Changes whether an AppArmor profile that khard put into force refuses, or only logs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard mode khard-shop-web-nginx-1f2e3d4c complain
  khard mode khard-shop-web-nginx-1f2e3d4c enforce

The text on disk is changed too, so that a reboot gives the same mode. Running processes keep running, and stay under it.
A profile that was amended or made again has another name: apply it, name it where the old one is named, and give that one the mode.")]
pub(super) struct Args {
    /// The profile's name, as `khard status` lists it
    #[arg(value_name = "NAME")]
    name: String,
    /// The mode
    #[arg(value_name = "MODE")]
    mode: ModeArg,
    /// The root of an image's file system: the text is changed there, and nothing is loaded
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// The modes to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModeArg {
    /// What is not allowed is logged and let through
    Complain,
    /// What is not allowed is refused and logged
    Enforce,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    node::need_root("change")?;
    let mode = match args.mode {
        ModeArg::Complain => Mode::Complain,
        ModeArg::Enforce => Mode::Enforce,
    };
    let switched = node::switch(&super::apply::places(args.root.as_deref())?, &args.name, mode)?;
    super::print(args.json, &switched, || switched.to_text())?;
    Ok(ExitCode::SUCCESS)
}
