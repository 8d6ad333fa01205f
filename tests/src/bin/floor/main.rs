//! `floor`: measures what an OCI runtime still calls once the filter is in force, and keeps the data that khard is built with.
//!
//! This file owns the command line and the data's file. `cargo xtask floor` runs it here and in guests.

mod audit;
mod measure;
mod runtime;
mod shape;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use khard_profile::seccomp::{FloorData, FloorEntry, FloorKey};

use crate::measure::Plan;

/// What runc and crun call under a filter, measured.
#[derive(Parser)]
#[command(name = "floor")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run containers and write what was seen; exit status 1 if khard and the kernel's audit differ.
    Measure(Measure),
    /// Add measurements to data.
    Merge {
        /// The data; written anew.
        data: PathBuf,
        /// Measurements.
        measured: Vec<PathBuf>,
    },
    /// Say what data lacks of measurements; exit status 1 if anything.
    Check {
        /// The data.
        data: PathBuf,
        /// Measurements.
        measured: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct Measure {
    /// The program khard.
    #[arg(long, default_value = "khard")]
    khard: PathBuf,
    /// The runtime.
    #[arg(long)]
    runtime: PathBuf,
    /// A folder to bind over /usr for it.
    #[arg(long)]
    usr: Option<PathBuf>,
    /// A static busybox.
    #[arg(long, default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// How many containers for each of `no_new_privs` true and false.
    #[arg(long, default_value_t = 200)]
    containers: usize,
    /// Number of the first: other numbers are other containers.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many at once [default: four for each CPU]
    #[arg(long)]
    at_once: Option<usize>,
    /// Where to write.
    #[arg(long, short)]
    output: PathBuf,
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Measure(args) => measure(args),
        Verb::Merge { data, measured } => {
            let mut all = read(&data)?;
            for path in measured {
                read(&path)?.entries().cloned().for_each(|entry| all.add(entry));
            }
            write(&data, &all)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Check { data, measured } => {
            let known = read(&data)?;
            let mut is_complete = true;
            for path in measured {
                for (key, calls) in lacking(&known, &read(&path)?) {
                    is_complete = false;
                    println!(
                        "{} {}, {}, no_new_privs {}: {} lacks {}",
                        key.runtime,
                        key.version,
                        key.kind,
                        key.no_new_privs,
                        data.display(),
                        calls.join(", ")
                    );
                }
            }
            Ok(ExitCode::from(u8::from(!is_complete)))
        }
    }
}

fn measure(args: Measure) -> Result<ExitCode> {
    let n_cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let measured = measure::measure(&Plan {
        khard: args.khard,
        runtime: args.runtime,
        usr: args.usr,
        busybox: args.busybox,
        n_containers: args.containers,
        first: args.first,
        n_at_once: args.at_once.unwrap_or(4 * n_cpus),
    })?;
    write(&args.output, &measured.data)?;
    for difference in &measured.differences {
        eprintln!("floor: {difference}");
    }
    Ok(ExitCode::from(u8::from(!measured.differences.is_empty())))
}

fn read(path: &Path) -> Result<FloorData> {
    let json = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    FloorData::from_json(&json).with_context(|| path.display().to_string())
}

fn write(path: &Path, data: &FloorData) -> Result<()> {
    fs::write(path, data.to_json()?).with_context(|| format!("cannot write {}", path.display()))
}

/// What `measured` has and `known` lacks: whole floors, and calls of known ones.
fn lacking(known: &FloorData, measured: &FloorData) -> Vec<(FloorKey, Vec<String>)> {
    let known: BTreeMap<&FloorKey, &FloorEntry> = known.entries().map(|entry| (&entry.key, entry)).collect();
    let mut lacking = Vec::new();
    for entry in measured.entries() {
        let has = |name: &String| known.get(&entry.key).is_some_and(|known| known.calls.contains_key(name));
        let calls: Vec<_> = entry.calls.keys().filter(|name| !has(name)).cloned().collect();
        if !calls.is_empty() {
            lacking.push((entry.key.clone(), calls));
        }
    }
    lacking
}
