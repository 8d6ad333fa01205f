//! `khard verify`.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write, stdin, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use khard_profile::{
    check::{Asked, Question},
    escape,
    recording::{MergePolicy, Recording},
};

use super::{
    ChoiceArgs,
    targets::{TargetArgs, parse_duration, unaccepted},
};
use crate::{
    causes::with_causes,
    command::Output,
    profiles::ProfileChoices,
    trace::{self, Options, Show, Source},
    verify::{Amendment, Profiles, Recorded, Verification, Verified},
};

/// Records, and says at once what a profile would refuse of it, or refuses where it is in force: khard check, live.
///
/// Nothing is written without --amend.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard verify --profile profiles-out/web --pod web -n shop --quiet-for 30m
  khard verify --profile profiles-out/web/nginx -l app=web -n shop --wait
  khard verify --profile seccomp.json --profile web.apparmor -- ./test.sh
  khard verify --profile profiles-out/web/nginx --pod web --quiet-for 10m --amend

What is done and the profile does not allow would be refused: so it is in complain or log mode, and without the profile. Under an
AppArmor profile in enforce mode, attempts that the kernel refused and the profile does not allow are told too, where khard can
see them (`khard doctor`: fexit). So are system calls that a seccomp filter in force refuses with an error; those for which it ends
the process are told from the kernel's audit records alone.

Profiles are amended from runs of the same image alone; of another, record again and unite both with --mixed-images.
An amended profile has another name. khard says what is to be done so that it takes the place of the one in force.

Exit status: 3 something was lost and not accepted, else 1 something is refused, else 0 (with COMMAND its own status); 2 an error. With
COMMAND 125 stands for 2 and 3.")]
pub(super) struct Args {
    /// A seccomp or AppArmor profile, one of each, or a folder of khard's: of one container, or with one for each (repeatable)
    #[arg(long, value_name = "PATH", required = true)]
    profile: Vec<PathBuf>,
    #[command(flatten)]
    targets: TargetArgs,
    /// End when nothing new was refused for this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    quiet_for: Option<Duration>,
    /// At the end, add what was missing: shows how the profiles would change, asks, and makes them again in their folder from its
    /// recording and this one. Give the choices with which they were made
    #[arg(long, conflicts_with = "json")]
    amend: bool,
    /// Amend without asking
    #[arg(long, requires = "amend")]
    yes: bool,
    #[command(flatten)]
    choices: ChoiceArgs,
    /// Print the result as JSON, and nothing else on stdout: what COMMAND prints goes to stderr
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The exit status of khard's own failure.
    pub(super) fn failure_code(&self) -> u8 {
        self.targets.failure_code()
    }
}

/// Runs the verb.
pub(super) fn run(args: Args, quiet: bool) -> Result<ExitCode> {
    let (accepted, failure) = (args.targets.accept_lossy.clone(), args.failure_code());
    let profiles = Profiles::read(&args.profile)?;
    if args.amend {
        profiles.check_amendable()?;
    }
    let verification = Verification::new(profiles, Question { phases: args.choices.phases, caps: None });
    let duration = args.targets.duration;
    let denies_attempts = args.choices.denies_attempts();
    let choices = args.choices.into_choices()?;
    let output = if args.json { Output::Stderr } else { Output::Inherited };
    let (request, source) = args.targets.into_request(false, denies_attempts, output)?;
    // A node elsewhere has a log of its own.
    let verification = match source {
        Source::Here { .. } => verification.with_audit_log(),
        Source::Via(_) => verification,
    };
    let show = if quiet || args.json { Show::Nothing } else { Show::Line };
    let options = Options { request, source, duration, until_quiet: args.quiet_for, show };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let finished = runtime.block_on(trace::verify(options, verification))?;
    let verified = finished.verified.unwrap_or_default();
    print(&verified, args.json, quiet)?;
    let mut code = if verified.findings.is_empty() && verified.logged.is_empty() {
        finished.command.exit_code()
    } else {
        1
    };
    for (label, class) in &verified.lossy {
        for class in unaccepted([class], &accepted) {
            let (label, class) = (escape::terminal(label.as_bytes()), class.as_str());
            tracing::error!(
                "{label}: the recording is lossy in {class}: verify again, or accept it with --accept-lossy {class}"
            );
            code = if failure == super::ERROR { super::LOSSY } else { failure };
        }
    }
    for error in &verified.failures {
        tracing::error!("{}", with_causes(error));
        code = failure;
    }
    if args.amend {
        amend(verified.recorded, &choices, args.yes)?;
    }
    Ok(ExitCode::from(code))
}

/// Shows what would change in each folder in which something was missing, and changes it if the user wants it.
fn amend(recorded: Vec<Recorded>, choices: &ProfileChoices, yes: bool) -> Result<()> {
    let mut folders: BTreeMap<PathBuf, Vec<Recording>> = BTreeMap::new();
    for mut recorded in recorded.into_iter().filter(|recorded| recorded.is_refused) {
        for asked in &recorded.was_refused {
            match asked {
                Asked::Call(key) => recorded.recording.grant_call(*key),
                Asked::Access(key) => recorded.recording.grant_access(key),
            }
        }
        let dir = recorded.dir.context("these profiles are in no folder of their own")?;
        folders.entry(dir).or_default().push(recorded.recording);
    }
    for (dir, recordings) in folders {
        let amendment = Amendment::new(&dir, recordings, MergePolicy::default(), choices, None)?;
        let shown = escape::terminal(dir.as_os_str().as_encoded_bytes());
        let mut out = stdout().lock();
        for (kind, difference) in &amendment.differences {
            write!(out, "\n{shown}, {kind} profile: {}", difference.to_text())?;
        }
        for kind in &amendment.not_there {
            writeln!(out, "\n{shown} has no {kind} profile: amending adds one")?;
        }
        if amendment.differences.iter().all(|(_, difference)| difference.is_empty()) {
            writeln!(out, "\n{shown}: nothing to add: what is refused cannot be expressed in a profile")?;
        } else if yes || asked(&mut out)? {
            amendment.write(&dir, choices)?;
            writeln!(out, "\n{shown} is amended")?;
            write!(out, "{}", amendment.next_steps(&dir))?;
        } else {
            writeln!(
                out,
                "\n{shown} stays as it is{}",
                if stdin().is_terminal() { "" } else { ": say --yes to amend it" }
            )?;
        }
    }
    Ok(())
}

/// Whether the user agrees. Nobody at a terminal does not.
fn asked(out: &mut impl Write) -> Result<bool> {
    if !stdin().is_terminal() {
        return Ok(false);
    }
    write!(out, "\nwrite this? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn print(verified: &Verified, as_json: bool, quiet: bool) -> Result<()> {
    let mut out = stdout().lock();
    if as_json {
        serde_json::to_writer(&mut out, &verified.to_value()).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else if !quiet {
        write!(out, "{}", verified.to_text())?;
    }
    Ok(())
}
