//! `khard tui`.

use super::trace;

/// Records as khard trace does, and shows the dashboard meanwhile. Without a target: every container on the node.
///
/// What is recorded is written at the end if you want it (q), or at any time (w).
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(after_help = "\
Examples:
  khard tui                                   every container on this node
  khard tui --pod web -n shop                 one pod
  khard tui -- make test                      a command; what it prints goes to profiles-out/command.log
  khard tui --via 'ssh node1 sudo khard agent --stdio'     every container on another node

Press ? for the keys. Logs go to khard.log in the output folder.")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) trace: trace::Args,
}
