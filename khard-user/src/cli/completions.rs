//! `khard completions`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

/// Prints what a shell needs to complete khard's command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard completions bash | sudo tee /usr/share/bash-completion/completions/khard > /dev/null
  khard completions zsh > ~/.zfunc/_khard
  khard completions fish > ~/.config/fish/completions/khard.fish")]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    generate(args.shell, &mut super::Cli::command(), "khard", &mut script);
    io::stdout().write_all(&script).context("cannot write the completions")?;
    Ok(ExitCode::SUCCESS)
}
