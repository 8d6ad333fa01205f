//! `khard agent`.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::agent::{Signals, serve_stdio};

/// Serves the session stream (docs/stream.md) until its other end is closed.
///
/// It writes no file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It is started by the khard that shows and writes:
  khard trace --pod web --via 'ssh node1 sudo khard agent --stdio'
  khard tui --via 'kubectl exec -i -n khard agent-x2x4z -- khard agent --stdio'")]
pub(super) struct Args {
    /// Speak through standard input and output
    #[arg(long, required = true)]
    stdio: bool,
}

/// Runs the verb.
pub(super) fn run(_args: &Args) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let served =
        runtime.block_on(async { serve_stdio(Signals::install()?).await.map_err(anyhow::Error::from) });
    // A thread that waits for standard input ends with the process, not before.
    runtime.shutdown_background();
    // The client was told, and shows it; on stderr it would stand there twice.
    Ok(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::debug!("{error:#}");
            ExitCode::from(super::ERROR)
        }
    })
}
