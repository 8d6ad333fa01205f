//! `khard check`.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use khard_profile::{
    apparmor::words,
    apparmor_text::ParsedProfile,
    check::{self, Profile, Question},
    escape,
    recording::{PhaseSet, Recording},
    seccomp::Policy,
};

use serde_json::{Value, json};

use crate::input;

/// Asks of a seccomp or AppArmor profile, by whomever it was made, whether it would have refused anything in a recorded run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard check seccomp.json --against profiles-out/web/nginx/recording.json
  khard check nginx.apparmor --against profiles-out/web/nginx
  khard check profiles-out/web/nginx --against tomorrow/web/nginx
  khard check docker-default.json --against recording.json --caps CAP_CHOWN,CAP_SYS_ADMIN

What cannot be judged is told as unclear: what only an included file could grant, and calls for which the profile looks at arguments.

Exit status: 0 nothing at the level of --fail-on was found, 1 something was, 2 an error.")]
pub(super) struct Args {
    /// A seccomp profile (JSON) in the OCI runtime's, Docker's or Podman's form, an AppArmor profile (text), or a folder with
    /// seccomp.json, NAME.apparmor or both
    #[arg(value_name = "PROFILE")]
    profile: PathBuf,
    /// The recording: a file, or a folder with a recording.json
    #[arg(long, value_name = "RECORDING")]
    against: PathBuf,
    /// Whose calls to check, separated by commas
    #[arg(long, value_name = "PHASES", default_value_t = Policy::DEFAULT_PHASES)]
    phases: PhaseSet,
    /// The container's capabilities (`CAP_SYS_ADMIN` or `SYS_ADMIN`; "": none), for rules of Docker's form that depend on them
    #[arg(long, value_name = "CAP,…", value_delimiter = ',', value_parser = parse_capability)]
    caps: Option<Vec<String>>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// What makes the exit status 1
    #[arg(long, value_name = "WHAT", default_value = "refused")]
    fail_on: FailOn,
}

/// `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    /// What is refused for certain
    Refused,
    /// Also what cannot be judged
    Unclear,
}

/// A profile of either kind.
pub(super) enum AnyProfile {
    Seccomp(Profile),
    AppArmor(ParsedProfile),
}

impl AnyProfile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let found: Vec<String> = input::profiles_in(path)?.iter().map(|file| shown(file)).collect();
            bail!("{} is a folder: name a profile in it: {}", shown(path), found.join(" or "));
        }
        let text = input::read_limited(path)?;
        if Profile::is_json(&text) {
            let profile = Profile::from_json(&text);
            profile.map(Self::Seccomp).with_context(|| format!("{} is no seccomp profile", path.display()))
        } else {
            let profile = ParsedProfile::parse(&text);
            profile.map(Self::AppArmor).with_context(|| {
                format!(
                    "{} is neither a seccomp profile (JSON) nor a usable AppArmor profile",
                    path.display()
                )
            })
        }
    }
}

/// A capability as profiles spell it. An empty text stays one: `--caps ""` says that there is none.
fn parse_capability(text: &str) -> Result<String, String> {
    let lower = text.trim().to_ascii_lowercase();
    let word = lower.strip_prefix("cap_").unwrap_or(&lower);
    if lower.is_empty() {
        return Ok(lower);
    }
    if !(0..64).any(|number| words::capability(number) == Some(word)) {
        return Err("no such capability: they are written as CAP_SYS_ADMIN or SYS_ADMIN".to_owned());
    }
    Ok(format!("CAP_{}", word.to_ascii_uppercase()))
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let is_folder = args.profile.is_dir();
    let files = if is_folder { input::profiles_in(&args.profile)? } else { vec![args.profile.clone()] };
    let profiles = files.iter().map(|file| AnyProfile::read(file)).collect::<Result<Vec<_>>>()?;
    let (_, recording) = input::recording(&args.against)?;
    let held = |caps: &Vec<String>| caps.iter().filter(|cap| !cap.is_empty()).cloned().collect();
    let caps: Option<BTreeSet<String>> = args.caps.as_ref().map(held);
    let question = Question { phases: args.phases, caps };
    let reports: Vec<(Value, String, bool)> =
        profiles.iter().map(|profile| report(profile, &recording, &question, args.fail_on)).collect();
    let passes = reports.iter().all(|(_, _, passes)| *passes);
    let mut out = std::io::stdout().lock();
    let mut values = Vec::new();
    for (place, (file, (mut value, text, _))) in files.iter().zip(reports).enumerate() {
        if args.json {
            if is_folder {
                value["path"] = json!(file.to_string_lossy());
            }
            values.push(value);
        } else {
            if is_folder {
                let blank = if place > 0 { "\n" } else { "" };
                writeln!(out, "{blank}{}:", shown(file))?;
            }
            write!(out, "{text}")?;
        }
    }
    if args.json {
        let value = match values.pop() {
            Some(only) if !is_folder => only,
            last => {
                values.extend(last);
                json!({ "passes": passes, "profiles": values })
            }
        };
        serde_json::to_writer(&mut out, &value).map_err(std::io::Error::from)?;
        writeln!(out)?;
    }
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The answer for programs and for people, and whether the profile passes.
fn report(
    profile: &AnyProfile,
    recording: &Recording,
    question: &Question,
    fail_on: FailOn,
) -> (Value, String, bool) {
    let (mut value, text, passes, is_unclear) = match profile {
        AnyProfile::Seccomp(profile) => {
            let report = check::check(profile, recording, question);
            (report.to_value(), report.to_text(), report.passes(), report.is_unclear())
        }
        AnyProfile::AppArmor(profile) => {
            let report = check::check_apparmor(profile, recording, question);
            (report.to_value(), report.to_text(), report.passes(), report.is_unclear())
        }
    };
    let passes = passes && !(is_unclear && fail_on == FailOn::Unclear);
    value["passes"] = json!(passes);
    (value, text, passes)
}

fn shown(path: &Path) -> String {
    escape::terminal(path.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_taken_with_and_without_its_prefix_and_an_unknown_one_is_refused() {
        for text in ["CAP_SYS_ADMIN", "SYS_ADMIN", "cap_sys_admin", " sys_admin"] {
            assert_eq!(parse_capability(text).as_deref(), Ok("CAP_SYS_ADMIN"));
        }
        assert_eq!(parse_capability("").as_deref(), Ok(""));
        for text in ["CAP_SYS_ADMI", "ALL", "CAP_", "CAP_CAP_CHOWN"] {
            assert!(parse_capability(text).is_err(), "{text}");
        }
    }
}
