//! `khard diff`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};
use khard_profile::{
    diff, escape,
    recording::{ReadError, Recording},
};

use super::check::AnyProfile;
use crate::input::{self, InputError};

/// Says what is different between two recordings, or two profiles of one kind: added, removed, widened, narrowed, and what each
/// addition opens.
///
/// Recordings are compared by what was observed: not by runs, times and witnesses. Profiles, by whomever they were made, are compared by
/// what they do: not by how rules are cut up, ordered or commented.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard diff before/web/nginx after/web/nginx
  khard diff docker-default.json profiles-out/web/nginx/seccomp.json
  khard diff old.apparmor new.apparmor --markdown > comment.md
  khard diff main.json branch.json --fail-on added --json

Not compared: flags and listeners of seccomp profiles; in AppArmor profiles, what an include or a child profile holds. Rules are compared
pattern by pattern: one that is wholly within a rule of the other profile is changed, and neither more nor less than that.

A recording.json beside the new profile tells who needed an addition first.

Exit status: 0 nothing that counts is different, 1 something is, 2 an error.")]
pub(super) struct Args {
    /// A recording (a file, or a folder with a recording.json), a seccomp profile (JSON) or an AppArmor profile (text)
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Another of the same kind
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Print the result as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the result as Markdown, for a comment on a pull request
    #[arg(long)]
    markdown: bool,
    /// What makes the exit status 1
    #[arg(long, value_name = "WHAT", default_value = "any")]
    fail_on: FailOn,
}

/// `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// Only what was added or widened
    Added,
    /// Every difference
    Any,
}

/// What can be compared.
enum Comparable {
    Recording(Box<Recording>),
    Profile(Box<AnyProfile>),
}

impl Comparable {
    /// A recording has its version in it, so that nothing else passes for one.
    fn read(path: &Path) -> Result<Self> {
        match input::recording(path) {
            Ok((_, recording)) => Ok(Self::Recording(Box::new(recording))),
            Err(InputError::Recording { source: ReadError::NotARecording(_), .. }) if !path.is_dir() => {
                Ok(Self::Profile(Box::new(AnyProfile::read(path)?)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Recording(_) => "a recording",
            Self::Profile(profile) => match **profile {
                AnyProfile::Seccomp(_) => "a seccomp profile",
                AnyProfile::AppArmor(_) => "an AppArmor profile",
            },
        }
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let (old, new) = (Comparable::read(&args.old)?, Comparable::read(&args.new)?);
    let beside = input::recording_beside(&args.new);
    let diff = match (&old, &new) {
        (Comparable::Recording(old), Comparable::Recording(new)) => Some(diff::recordings(old, new)),
        (Comparable::Profile(old), Comparable::Profile(new)) => match (&**old, &**new) {
            (AnyProfile::Seccomp(old), AnyProfile::Seccomp(new)) => {
                Some(diff::seccomp(old, new, beside.as_ref()))
            }
            (AnyProfile::AppArmor(old), AnyProfile::AppArmor(new)) => {
                Some(diff::apparmor(old, new, beside.as_ref()))
            }
            _ => None,
        },
        _ => None,
    };
    let Some(diff) = diff else {
        let name = |path: &Path| escape::terminal(path.as_os_str().as_encoded_bytes());
        bail!(
            "{} is {} and {} is {}: name two of one kind, or ask khard check about a profile and a recording",
            name(&args.old),
            old.kind(),
            name(&args.new),
            new.kind()
        );
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &diff.to_value()).map_err(io::Error::from)?;
        writeln!(out)?;
    } else if args.markdown {
        write!(out, "{}", diff.to_markdown())?;
    } else {
        write!(out, "{}", diff.to_text())?;
    }
    let fails = match args.fail_on {
        FailOn::Added => diff.has_more(),
        FailOn::Any => !diff.is_empty(),
    };
    Ok(if fails { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
