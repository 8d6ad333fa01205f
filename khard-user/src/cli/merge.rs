//! `khard merge`, and how recordings are named that are united.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use khard_profile::{
    escape,
    recording::{MergePolicy, Recording},
};
use serde_json::json;

use crate::{
    input,
    output::{RECORDING_FILE, files::OutDir},
    unite::{self, United},
};

/// Unites recordings of one subject (replicas, nodes, test runs) into one recording.
///
/// The order does not matter, and what is given twice counts once. Recordings of different subjects become one recording each.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard merge node1/recording.json node2/recording.json -o web.json
  khard merge runs/*/profiles-out -o united
  khard merge web.json today/web/nginx -o web.json

Where -o ends in .json it is a file, for recordings of one subject. Else it is a folder, with a folder for each subject in it
(WORKLOAD/CONTAINER, or the last part of a command's or cgroup's name), and a recording.json in that.")]
pub(super) struct Args {
    #[command(flatten)]
    recordings: RecordingsArgs,
    /// Where to write: a file that ends in .json, or a folder
    #[arg(short, long, value_name = "FILE|DIR")]
    output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Which recordings, and what may be mixed in one.
#[derive(Debug, clap::Args)]
pub(super) struct RecordingsArgs {
    /// Recordings: files, folders with a recording.json, or folders that hold such folders, as trace -o leaves them
    #[arg(value_name = "RECORDING", required = true)]
    recordings: Vec<PathBuf>,
    /// Unite runs of different images: what comes of it covers programs that are not the same
    #[arg(long)]
    mixed_images: bool,
    /// Unite runs of different architectures
    #[arg(long)]
    mixed_machines: bool,
}

impl RecordingsArgs {
    /// Reads them all, one after another.
    pub(super) fn unite(&self) -> Result<Vec<United>> {
        let files = input::find_recordings(&self.recordings)?;
        let policy = MergePolicy { mixed_images: self.mixed_images, mixed_machines: self.mixed_machines };
        Ok(unite::unite(&files, policy)?)
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let united = args.recordings.unite()?;
    let mut files = Vec::new();
    if args.output.extension().is_some_and(|extension| extension == "json") {
        let [only] = united.as_slice() else {
            bail!(
                "these are recordings of {} subjects, and {} is one file: name a folder with -o",
                united.len(),
                args.output.display()
            );
        };
        let dir = args.output.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
        let name =
            args.output.file_name().and_then(|name| name.to_str()).context("-o is no name of a file")?;
        files.push(write(&OutDir::open(dir)?, name, &only.recording)?);
    } else {
        let places = unite::places(&united)?;
        let out = OutDir::open(&args.output)?;
        for (place, of_subject) in places.iter().zip(&united) {
            files.push(write(&place.open(&out)?, RECORDING_FILE, &of_subject.recording)?);
        }
    }
    let mut out = io::stdout().lock();
    if args.json {
        let written = files.iter().zip(&united).map(|(file, united)| {
            json!({
                "subject": united.recording.subject(),
                "recordings": united.files.len(),
                "runs": united.recording.runs().len(),
                "observations": united.recording.n_observations(),
                "file": file,
            })
        });
        serde_json::to_writer(&mut out, &written.collect::<Vec<_>>()).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for (file, united) in files.iter().zip(&united) {
            writeln!(
                out,
                "{}: recordings {}, runs {}, observations {}",
                escape::terminal(file.as_os_str().as_encoded_bytes()),
                united.files.len(),
                united.recording.runs().len(),
                united.recording.n_observations()
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a recording as it is made: as a whole it can be larger than what it was made from.
fn write(dir: &OutDir, name: &str, recording: &Recording) -> Result<PathBuf> {
    Ok(dir.write_by(name, |out| recording.write_json(out))?)
}
