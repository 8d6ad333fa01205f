//! `bench`: measures what khard costs, and prints every round as JSON. Judging and wording the figures is `cargo xtask bench`'s.
mod accesses;
mod calls;
mod dashboard;
mod merge;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use khard_tests::{filter, stopwatch};

/// Measures what khard's programs add to a system call, or to work with files.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// System calls
    Calls {
        /// Rounds to measure; each holds every row once
        #[arg(long, default_value_t = 31)]
        rounds: usize,
        /// The CPU to measure on [default: the last one that this process may use]
        #[arg(long)]
        cpu: Option<usize>,
    },
    /// Work with files
    Accesses {
        /// Rounds to measure; each holds every row once
        #[arg(long, default_value_t = 11)]
        rounds: usize,
        /// Only by these means, of those that this kernel allows
        #[arg(long, num_args = 1.., value_parser = ["lsm", "fexit", "syscall"], default_values = ["lsm", "fexit", "syscall"])]
        by: Vec<String>,
    },
    /// khard itself, while its dashboard is looked at
    Dashboard,
    /// `khard merge` of many recordings
    Merge,
    /// Make known calls for a while, and print how many a second it were
    Busy {
        /// For how long
        #[arg(long)]
        seconds: u64,
    },
    /// Print the cost of a call, by the loop alone: what runs under strace, or a filter
    Loop {
        /// The CPU to run on
        #[arg(long)]
        cpu: usize,
        /// Under a seccomp filter that refuses another call
        #[arg(long)]
        filtered: bool,
    },
    /// Do one kind of work with files, and print how long it took
    Work {
        /// Which
        work: accesses::Work,
        /// A folder for it
        dir: PathBuf,
    },
}

fn main() -> Result<()> {
    let json = match Cli::parse().verb {
        Verb::Calls { rounds, cpu } => serde_json::to_string(&calls::measure(cpu, rounds)?)?,
        Verb::Accesses { rounds, by } => serde_json::to_string(&accesses::measure(rounds, &by)?)?,
        Verb::Dashboard => serde_json::to_string(&dashboard::measure()?)?,
        Verb::Merge => serde_json::to_string(&merge::measure()?)?,
        Verb::Busy { seconds } => serde_json::to_string(&dashboard::busy(seconds))?,
        Verb::Loop { cpu, filtered } => {
            let cell = if filtered {
                filter::refuse(u32::try_from(libc::SYS_acct)?, None, 1)?;
                stopwatch::alone(cpu)?
            } else {
                stopwatch::traced(cpu)?
            };
            serde_json::to_string(&cell)?
        }
        Verb::Work { work, dir } => serde_json::to_string(&work.run(&dir)?)?,
    };
    println!("{json}");
    Ok(())
}
