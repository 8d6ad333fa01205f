//! `khard diff`.

mod side;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use khard_profile::{
    diff::{self, Diff},
    escape,
};
use serde_json::{Value, json};

use self::side::{Comparable, Item, Side};
use super::check::AnyProfile;
use crate::input;

/// Says what is different between two recordings, or two profiles of one kind: added, removed, widened, narrowed, and what each
/// addition opens.
///
/// Recordings are compared by what was observed: not by runs, times and witnesses. Profiles, by whomever they were made, are compared by
/// what they do: not by how rules are cut up, ordered or commented.
///
/// Of two folders, all recordings are compared, united by subject, and not the profiles beside them; of folders without recordings the
/// profiles that are called as khard calls them (seccomp.json, NAME.apparmor), by their paths.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard diff before/web/nginx after/web/nginx
  khard diff before after                                  # every container below them, whatever its pod was called
  khard diff docker-default.json profiles-out/web/nginx/seccomp.json
  khard diff old.apparmor new.apparmor --markdown > comment.md
  khard diff main.json branch.json --fail-on added --json

Not compared: flags and listeners of seccomp profiles; in AppArmor profiles, what an include or a child profile holds. Rules are compared
pattern by pattern: one that is wholly within a rule of the other profile is changed, and neither more nor less than that.

A recording.json beside the new profile tells who needed an addition first.

Exit status: 0 nothing that counts is different, 1 something is, 2 an error.")]
pub(super) struct Args {
    /// A recording (a file, or a folder with a recording.json), a seccomp profile (JSON), an AppArmor profile (text), or a folder of
    /// recordings or profiles
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

/// What two sides come to.
enum Outcome {
    /// Both are one recording or profile, whatever they are called.
    One(Diff),
    /// What is on both sides, and on one alone, in the order of the names.
    Several(Vec<(String, State)>),
}

/// What became of one of several.
enum State {
    Compared(Diff),
    /// Only on the new side.
    Added,
    /// Only on the old one.
    Removed,
}

impl State {
    fn has_more(&self) -> bool {
        match self {
            Self::Compared(diff) => diff.has_more(),
            Self::Added => true,
            Self::Removed => false,
        }
    }

    fn has_any(&self) -> bool {
        !matches!(self, Self::Compared(diff) if diff.is_empty())
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let outcome = Outcome::of(side::read(&args.old)?, side::read(&args.new)?)?;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &outcome.to_value()).map_err(io::Error::from)?;
        writeln!(out)?;
    } else if args.markdown {
        write!(out, "{}", outcome.to_markdown())?;
    } else {
        write!(out, "{}", outcome.to_text())?;
    }
    let fails = match args.fail_on {
        FailOn::Added => outcome.has_more(),
        FailOn::Any => outcome.has_any(),
    };
    Ok(if fails { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

impl Outcome {
    fn of(mut old: Side, new: Side) -> Result<Self> {
        if let (1, 1, Some(old), Some(new)) = (old.len(), new.len(), old.values().next(), new.values().next())
        {
            return Ok(Self::One(compare(old, new)?));
        }
        let is_recorded =
            |side: &Side| side.values().any(|item| matches!(item.comparable, Comparable::Recording(_)));
        ensure!(
            is_recorded(&old) == is_recorded(&new),
            "there are recordings in one of them, and profiles alone in the other: name two of one kind"
        );
        let mut several = Vec::new();
        for (key, new) in new {
            let state = match old.remove(&key) {
                Some(old) => State::Compared(compare(&old, &new)?),
                None => State::Added,
            };
            several.push((new.name, state));
        }
        several.extend(old.into_values().map(|old| (old.name, State::Removed)));
        several.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self::Several(several))
    }

    fn has_more(&self) -> bool {
        match self {
            Self::One(diff) => diff.has_more(),
            Self::Several(several) => several.iter().any(|(_, state)| state.has_more()),
        }
    }

    fn has_any(&self) -> bool {
        match self {
            Self::One(diff) => !diff.is_empty(),
            Self::Several(several) => several.iter().any(|(_, state)| state.has_any()),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::One(diff) => diff.to_text(),
            Self::Several(several) => {
                let texts = several.iter().map(|(name, state)| {
                    let name = escape::terminal(name.as_bytes());
                    match state {
                        State::Compared(diff) => format!("{name}: {}", diff.to_text()),
                        State::Added => format!("{name}: {ADDED}\n"),
                        State::Removed => format!("{name}: {REMOVED}\n"),
                    }
                });
                texts.collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn to_markdown(&self) -> String {
        match self {
            Self::One(diff) => diff.to_markdown(),
            Self::Several(several) => {
                let pages = several.iter().map(|(name, state)| {
                    let name = escape::markdown(name.as_bytes());
                    match state {
                        State::Compared(diff) => format!("**{name}**\n\n{}", diff.to_markdown()),
                        State::Added => format!("**{name}** {ADDED}.\n"),
                        State::Removed => format!("**{name}** {REMOVED}.\n"),
                    }
                });
                pages.collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::One(diff) => diff.to_value(),
            Self::Several(several) => {
                let items = several.iter().map(|(name, state)| match state {
                    State::Compared(diff) => {
                        json!({"name": name, "state": "compared", "difference": diff.to_value()})
                    }
                    State::Added => json!({"name": name, "state": "added"}),
                    State::Removed => json!({"name": name, "state": "removed"}),
                });
                let items: Vec<_> = items.collect();
                json!({"equal": !self.has_any(), "has_more": self.has_more(), "items": items})
            }
        }
    }
}

const ADDED: &str = "only in the new folder";
const REMOVED: &str = "only in the old folder";

fn compare(old: &Item, new: &Item) -> Result<Diff> {
    let beside = || input::recording_beside(&new.file);
    let diff = match (&old.comparable, &new.comparable) {
        (Comparable::Recording(of_old), Comparable::Recording(of_new)) => {
            let diff = diff::recordings(of_old, of_new);
            if diff.is_empty() && profiles_beside(old) != profiles_beside(new) {
                tracing::warn!(
                    "the profiles beside the recordings of {} differ, though these do not: name two profiles to compare them",
                    escape::terminal(new.name.as_bytes())
                );
            }
            Some(diff)
        }
        (Comparable::Profile(old), Comparable::Profile(new)) => match (&**old, &**new) {
            (AnyProfile::Seccomp(old), AnyProfile::Seccomp(new)) => {
                Some(diff::seccomp(old, new, beside().as_ref()))
            }
            (AnyProfile::AppArmor(old), AnyProfile::AppArmor(new)) => {
                Some(diff::apparmor(old, new, beside().as_ref()))
            }
            _ => None,
        },
        _ => None,
    };
    diff.with_context(|| {
        let name = |item: &Item| escape::terminal(item.file.as_os_str().as_encoded_bytes());
        format!(
            "{} is {} and {} is {}: name two of one kind, or ask khard check about a profile and a recording",
            name(old),
            old.comparable.kind(),
            name(new),
            new.comparable.kind()
        )
    })
}

/// The profiles in a recording's folder, by their names.
fn profiles_beside(recording: &Item) -> BTreeMap<OsString, Vec<u8>> {
    let found = recording.file.parent().map(input::profiles_in).and_then(Result::ok).unwrap_or_default();
    let read = |file: PathBuf| Some((file.file_name()?.to_owned(), input::read_limited(&file).ok()?));
    found.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const RECORDING: &str =
        include_str!("../../../../khard-profile/tests/profile/fixtures/recording-v2.json");

    /// Writes a recording of a container of the deployment `web`, in the folder that its pod's name makes.
    fn record(root: &Path, pod: &str, container: &str) {
        let mut recording: Value = serde_json::from_str(RECORDING).unwrap();
        recording["subject"]["container"] = json!(container);
        let dir = root.join(pod).join(container);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("recording.json"), recording.to_string()).unwrap();
    }

    fn outcome(old: &Path, new: &Path) -> Outcome {
        Outcome::of(side::read(old).unwrap(), side::read(new).unwrap()).unwrap()
    }

    #[test]
    fn recordings_in_folders_are_compared_by_subject_whatever_their_pods_were_called() {
        let root = tempfile::tempdir().unwrap();
        let (before, after) = (root.path().join("before"), root.path().join("after"));
        for container in ["nginx", "log"] {
            record(&before, "web-7d4b9c-x2x4z", container);
            record(&after, "web-5f8b7c-abcde", container);
        }
        let same = outcome(&before, &after);
        assert!(!same.has_any() && !same.has_more(), "{}", same.to_text());
        record(&after, "web-5f8b7c-abcde", "new");
        let more = outcome(&before, &after);
        assert!(more.has_more() && more.to_text().contains("shop/web/new: only in the new folder\n"));
        assert!(more.to_markdown().contains("**`shop/web/new`** only in the new folder.\n"));
        let less = outcome(&after, &before);
        assert!(less.has_any() && !less.has_more());
        let states: Vec<String> = less.to_value()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| format!("{} {}", item["name"].as_str().unwrap(), item["state"].as_str().unwrap()))
            .collect();
        assert_eq!(states, ["shop/web/log compared", "shop/web/new removed", "shop/web/nginx compared"]);
    }

    #[test]
    fn profiles_in_folders_without_recordings_are_compared_by_their_paths() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("old/web/nginx/seccomp.json", r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#);
        write("old/web/nginx/nginx.apparmor", "profile x {\n  /a r,\n}\n");
        write("new/web/nginx/seccomp.json", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#);
        write("new/web/nginx/nginx.apparmor", "profile y {\n  /a r,\n}\n");
        let outcome = outcome(&root.path().join("old"), &root.path().join("new"));
        let Outcome::Several(several) = &outcome else { panic!("{}", outcome.to_text()) };
        let differs: Vec<(&str, bool)> =
            several.iter().map(|(name, state)| (name.as_str(), state.has_any())).collect();
        assert_eq!(differs, [("web/nginx/nginx.apparmor", false), ("web/nginx/seccomp.json", true)]);
        record(&root.path().join("recorded"), "web-1", "nginx");
        record(&root.path().join("recorded"), "web-1", "log");
        let sides = ["recorded", "new"].map(|dir| side::read(&root.path().join(dir)).unwrap());
        let [recorded, new] = sides;
        assert!(Outcome::of(recorded, new).is_err());
    }
}
