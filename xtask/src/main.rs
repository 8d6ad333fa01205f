//! khard's own tasks: `cargo xtask VERB`. This file owns the verbs and their options; what a verb does is in its module.
//! Nothing here knows khard's insides: xtask depends on no khard crate and builds and runs them as anyone would.

mod bench;
mod build;
mod command;
mod containers;
mod debian;
mod demo;
mod dist;
mod floor;
mod interrupt;
mod kubernetes;
mod paths;
mod picture;
mod setup;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::paths::Paths;

/// khard's own tasks. Each one sets up what it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find what this machine lacks and install it.
    Setup(setup::SetupArgs),
    /// Build the kernel programs, khard with them inside, and the programs of the tests.
    Build,
    /// Format check and lints of every crate, the kernel programs included.
    Clippy,
    /// Run the tests: unit, on this kernel as root, with containers, in guests.
    Test(test::TestArgs),
    /// Run a command in a guest with another kernel.
    Vm(vm::VmArgs),
    /// Measure what khard adds to a system call, and write docs/performance.md.
    Bench(bench::BenchArgs),
    /// Measure what runtimes call under a filter, and keep it in khard's data.
    Floor(floor::FloorArgs),
    /// Record a real pod, write its profile, run it again under it.
    Demo,
    /// Build what users are given: one static khard, and its checksum.
    Dist,
    /// Make docs/dashboard.svg: the dashboard over nginx, in a guest.
    Picture,
    /// Start a containerd with images, on this machine and apart from all else; run a command beside it, or wait.
    Containerd {
        /// What to run in the pods' network, with `CONTAINER_RUNTIME_ENDPOINT` set and khard in PATH.
        #[arg(last = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.verb) {
        Ok(code) => ExitCode::from(code),
        // The one place that words a failure; an interrupted verb has nothing to explain.
        Err(error) => {
            if let Some(signal) = interrupt::received() {
                return ExitCode::from(128 + u8::try_from(signal).unwrap_or(0));
            }
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs one verb; the number is the exit status.
fn run(verb: Verb) -> Result<u8> {
    interrupt::install()?;
    let paths = Paths::find()?;
    match verb {
        Verb::Setup(args) => setup::verb(&paths, &args),
        Verb::Build => {
            let built = build::all(&paths)?;
            println!("{}", built.khard.display());
            Ok(0)
        }
        Verb::Containerd { command } => containers::containerd::verb(&paths, &command),
        Verb::Bench(args) => bench::verb(&paths, &args),
        Verb::Floor(args) => floor::verb(&paths, &args),
        Verb::Test(args) => test::verb(&paths, &args),
        Verb::Demo => demo::verb(&paths),
        Verb::Dist => dist::verb(&paths),
        Verb::Picture => picture::verb(&paths),
        Verb::Vm(args) => vm::verb(&paths, &args),
        Verb::Clippy => build::clippy(&paths).map(|()| 0),
    }
}
