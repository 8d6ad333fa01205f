//! `khard apply`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use khard_profile::apparmor_text::Mode;

use crate::node::{self, ApplyOptions, Kind, NodeError, Places};

/// Puts profiles into force on this node, so that they survive a reboot
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard apply profiles-out/web/nginx              # both of its profiles, and the lines that name them
  khard apply profiles-out --complain             # all below, only logging what they do not allow
  khard apply profiles-out --dry-run
  khard apply profiles-out/web --only seccomp --seccomp-dir /etc/docker/seccomp
  khard apply profiles-out --root /mnt/image      # into the file system of a node's image, which has to be there
  khard apply profiles-out --json | jq -r '.apparmor[].name'

What khard did not write, or what was changed since, is left alone, and so is what confines a running process. When one step
fails, those before it are undone.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(super) struct Args {
    /// A folder with seccomp.json and NAME.apparmor, or a folder of such folders
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// AppArmor profiles only log what they do not allow, whatever their own mode is
    #[arg(long, conflicts_with = "enforce")]
    complain: bool,
    /// AppArmor profiles refuse what they do not allow, whatever their own mode is
    #[arg(long)]
    enforce: bool,
    /// Only profiles of this kind
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,
    /// Where seccomp profiles go, in place of kubelets' own folders; with --root, seen from there
    #[arg(long, value_name = "DIR")]
    seccomp_dir: Option<PathBuf>,
    /// Also over what khard did not write, and over what confines running processes
    #[arg(long)]
    force: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// The root of an image's file system: files are written there, and nothing is loaded
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// This machine's places, or an image's.
///
/// # Errors
/// When there is no such image.
pub(super) fn places(root: Option<&Path>) -> Result<Places, NodeError> {
    root.map_or_else(|| Ok(Places::here()), Places::of_image)
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    node::need_root("change")?;
    let mode = match (args.complain, args.enforce) {
        (true, _) => Some(Mode::Complain),
        (_, true) => Some(Mode::Enforce),
        _ => None,
    };
    let options = ApplyOptions {
        dirs: args.dirs.clone(),
        mode,
        force: args.force,
        dry_run: args.dry_run,
        only: args.only,
        seccomp_dir: args.seccomp_dir.clone(),
    };
    let applied = node::apply(&places(args.root.as_deref())?, &options)?;
    super::print(args.json, &applied, || applied.to_text())?;
    Ok(ExitCode::SUCCESS)
}
