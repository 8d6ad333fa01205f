//! `khard generate`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use khard_profile::{escape, recording::Recording};

use super::{ChoiceArgs, merge::RecordingsArgs};
use crate::{
    input,
    output::{RECORDING_FILE, files::OutDir},
    profiles::{self, ProfileChoices, Written},
    unite::{self, United},
};

/// Makes the profiles of recordings again, with other choices if given.
///
/// Recordings of one subject (replicas, nodes, test runs) are united: each subject has one set of profiles.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard generate profiles-out/web/nginx/recording.json
  khard generate recording.json -o /tmp/strict --phases workload --floor runc
  khard generate node1/web node2/web node3/web -o united
  khard generate profiles-out --paths balanced
  khard generate run1 run2 run3 -o united --min-seen 2

Where the profiles go:
  one recording                  beside it, or to -o
  several, each of a subject     beside each, or to a folder for each subject in -o
  several of one subject         to a folder for each subject in -o
Beside profiles in -o stands the recording.json, united of all of the subject, that they were made from; one that holds more
than that is not replaced. The folders in -o are WORKLOAD/CONTAINER (below NAMESPACE, if there are several), or the last part of a command's or cgroup's name.")]
pub(super) struct Args {
    #[command(flatten)]
    recordings: RecordingsArgs,
    /// Where to write; by default beside the recording
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Grant only what was seen in at least so many runs of a subject; by default whatever was seen
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    min_seen: u16,
    #[command(flatten)]
    choices: ChoiceArgs,
    /// Print the result as JSON: one object for each subject, a line each
    #[arg(long)]
    json: bool,
}

/// Runs the verb. Each subject is tried, whatever happens to the others.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let united = args.recordings.unite()?;
    let min_seen = usize::from(args.min_seen);
    let choices = ProfileChoices { min_seen, ..args.choices.clone().into_choices()? };
    let has_few = |united: &&United| (1..min_seen).contains(&united.recording.runs().len());
    if let Some(few) = united.iter().find(has_few) {
        let file = few.files.first().map(|file| escape::terminal(file.as_os_str().as_encoded_bytes()));
        bail!(
            "--min-seen {min_seen} asks for more runs than the {} that there are of the subject of {}",
            few.recording.runs().len(),
            file.unwrap_or_default()
        );
    }
    let dirs = dirs(args, &united)?;
    let mut out = std::io::stdout().lock();
    let mut failed = None;
    let is_elsewhere = args.output.is_some();
    for (dir, of_subject) in dirs.iter().zip(&united) {
        match write(of_subject, &choices, dir, is_elsewhere) {
            Ok(written) if args.json => {
                serde_json::to_writer(&mut out, &written.summary).map_err(std::io::Error::from)?;
                writeln!(out)?;
            }
            Ok(written) => write!(out, "{}", written.summary.to_text(dir.path()))?,
            Err(error) => {
                if let Some(before) = failed.replace(error) {
                    tracing::error!("{before:#}");
                }
            }
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Where each subject's profiles go.
fn dirs(args: &Args, united: &[United]) -> Result<Vec<OutDir>> {
    match (&args.output, united) {
        (Some(output), [United { files, .. }]) if files.len() == 1 => Ok(vec![OutDir::open(output)?]),
        (Some(output), _) => {
            let out = OutDir::open(output)?;
            unite::places(united)?.iter().map(|place| Ok(place.open(&out)?)).collect()
        }
        (None, _) => united.iter().map(beside).collect(),
    }
}

fn beside(united: &United) -> Result<OutDir> {
    let [file] = united.files.as_slice() else {
        let files = united.files.iter().map(|file| escape::terminal(file.as_os_str().as_encoded_bytes()));
        bail!(
            "these are recordings of one subject, and none of them is the place for profiles of all: name a folder with -o ({})",
            files.collect::<Vec<_>>().join(", ")
        );
    };
    Ok(OutDir::open(file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new(".")))?)
}

/// Makes sure that nothing is lost where a recording stands already: runs cannot be recorded again.
fn check_replaceable(file: &Path, new: &Recording) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let holds_all = input::recording(file).is_ok_and(|(_, old)| {
        old.subject().key() == new.subject().key()
            && old.runs().keys().all(|run| new.runs().contains_key(run))
    });
    ensure!(
        holds_all,
        "{} holds what is not in these recordings, and would be replaced: name it too, or another folder with -o",
        escape::terminal(file.as_os_str().as_encoded_bytes())
    );
    Ok(())
}

fn write(united: &United, choices: &ProfileChoices, dir: &OutDir, is_elsewhere: bool) -> Result<Written> {
    let United { recording, files } = united;
    ensure!(
        !recording.runs().is_empty(),
        "there is no run in {}: nothing was recorded",
        escape::terminal(files[0].as_os_str().as_encoded_bytes())
    );
    // What uses profiles (check, explain, export) looks for it beside them.
    if is_elsewhere {
        check_replaceable(&dir.path().join(RECORDING_FILE), recording)?;
        dir.write_by(RECORDING_FILE, |out| recording.write_json(out))?;
    }
    let mut written = profiles::write(recording, choices, dir)?;
    let from =
        || format!("no profile was made from {}", escape::terminal(files[0].as_os_str().as_encoded_bytes()));
    match written.no_profile.take() {
        Some(why) => Err(why).with_context(from),
        None => Ok(written),
    }
}
