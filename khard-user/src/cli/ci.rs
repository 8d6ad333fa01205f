//! `khard ci`.

use std::{
    fs::File,
    io::{Write, stdout},
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use khard_profile::escape;
use regex::Regex;
use serde_json::Value;

use super::{
    ChoiceArgs,
    targets::{TargetArgs, unaccepted},
};
use crate::{
    ci::{self, Compared},
    command::{self, Output},
    config::{Config, FailOn},
    redact::Redact,
    trace::{self, Files, Finished, Options, Show, Source, TraceError, Unite},
};

/// Records a project's own test run, and compares what it needs with the profiles that the project has committed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  khard ci --baseline profiles -- make test
  khard ci --baseline profiles --containers -- make e2e           COMMAND, and each container that starts meanwhile
  khard ci --baseline profiles -l app=web --wait -- ./e2e.sh      COMMAND and the pods that it starts
  khard ci --baseline profiles --json -- make test > gate.json    for another system's gate

Where GITHUB_STEP_SUMMARY is set, the comparison is appended to that file as Markdown. The output folder holds the profiles with this
run in them, to be kept as an artifact, and committed to accept them: cp -r khard-ci/. profiles/
khard.toml can hold the policy: [ci] fail-on = \"added\", \"any\" or \"nothing\"; forget-after = 10; redact = [\"PATTERN\"].

Exit status: COMMAND's own if that is not 0, whatever else fails; 1 the gate says no; 125 for khard's own failure, a loss that was not accepted
and a command line that is not understood included (126, 127 as env).")]
pub(super) struct Args {
    /// The folder of the committed profiles, as khard ci leaves them; a project's first run may have none yet
    #[arg(long, value_name = "DIR")]
    baseline: PathBuf,
    /// Where the profiles with this run go
    #[arg(short, long, value_name = "DIR", default_value = "khard-ci")]
    output: PathBuf,
    /// What fails the job; else khard.toml's [ci] fail-on, else added
    #[arg(long, value_name = "WHAT")]
    fail_on: Option<FailOn>,
    /// Take what the last K runs that would have shown it did not need out of the profiles; else khard.toml's [ci] forget-after,
    /// else nothing is taken out. Runs count that are in the committed recordings, and this one; none that failed or was cut short
    #[arg(long, value_name = "K")]
    forget_after: Option<NonZeroUsize>,
    /// Do not show what matches this regular expression in the log and in the job's summary, beside khard.toml's [ci] redact: of the
    /// comparison in every name by itself, of warnings and errors in all words. Profiles and recordings have to name what they allow
    #[arg(long, value_name = "PATTERN")]
    redact: Vec<Regex>,
    #[command(flatten)]
    targets: TargetArgs,
    #[command(flatten)]
    choices: ChoiceArgs,
    /// Print the comparison as JSON, and nothing else on stdout: what COMMAND prints goes to stderr
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(super) fn run(args: Args, quiet: bool) -> Result<ExitCode> {
    let accepted = args.targets.accept_lossy.clone();
    let policy = Config::find()?.ci;
    let fail_on = args.fail_on.or(policy.fail_on).unwrap_or(FailOn::Added);
    let forget_after = args.forget_after.or(policy.forget_after);
    let redact = super::redact_log(Redact::new([policy.redact, args.redact].concat()));
    ci::check_baseline(&args.baseline, &args.output)?;
    let denies_attempts = args.choices.denies_attempts();
    let choices = args.choices.into_choices()?;
    let duration = args.targets.duration;
    let output = if args.json { Output::Stderr } else { Output::Inherited };
    let (request, mut source) = args.targets.into_request(false, denies_attempts, output)?;
    if let Source::Here { command: Some(command) } = &mut source {
        command.ends_recording = true;
    }
    let options = Options { request, source, duration, until_quiet: None, show: Show::Nothing };
    let files = Files {
        out_dir: args.output.clone(),
        name: None,
        unite: Some(Unite::Rollouts),
        choices: choices.clone(),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let recorded = runtime.block_on(trace::run(options, files));
    let of_command = match &recorded {
        Ok(finished) => finished.command.exit_code(),
        Err(TraceError::NotKept { status, .. }) => command::exit_code(*status),
        Err(_) => 0,
    };
    let judge = |finished: Finished| {
        let is_lossy = say_losses(&finished, &accepted);
        let failure = finished.command.failure();
        // What an interrupted run did not come to cannot be judged.
        let is_unsure = is_lossy || failure.is_some();
        let compared =
            ci::compare(&args.output, &args.baseline, &finished.reports, &choices, forget_after, failure)?;
        let is_refused = match fail_on {
            FailOn::Added => compared.has_more(),
            FailOn::Any => compared.has_any(),
            FailOn::Nothing => false,
        };
        let code = match of_command {
            0 if is_unsure => super::ERROR_WITH_COMMAND,
            0 => u8::from(is_refused),
            code => code,
        };
        let compared = compared.redacted(redact);
        // What is told holds where the summary fails too.
        let summed_up = sum_up(&compared);
        let code = match summed_up {
            Err(_) if of_command == 0 => super::ERROR_WITH_COMMAND,
            _ => code,
        };
        let as_json = args.json.then(|| {
            let mut value = compared.to_value();
            value["lossy"] = is_lossy.into();
            value["exit_status"] = code.into();
            value
        });
        match tell(&compared, as_json, quiet) {
            // Whoever reads the output has had enough: that changes nothing of the answer.
            Err(error) if !super::is_broken_pipe(&error) => Err(error),
            _ => summed_up.map(|()| code),
        }
    };
    // What the project's own tests say comes first.
    match recorded.map_err(Into::into).and_then(judge) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) if of_command != 0 => {
            tracing::error!("{error:#}");
            Ok(ExitCode::from(of_command))
        }
        Err(error) => Err(error),
    }
}

/// Whether something was lost that nobody has accepted.
fn say_losses(finished: &Finished, accepted: &[super::targets::Class]) -> bool {
    let mut is_lossy = false;
    for report in &finished.reports {
        for class in unaccepted(&report.lossy, accepted) {
            let dir = escape::terminal(report.dir.as_os_str().as_encoded_bytes());
            let class = class.as_str();
            tracing::error!(
                "{dir}: the recording is lossy in {class} (see summary.md): run again, or accept it with --accept-lossy {class}"
            );
            is_lossy = true;
        }
    }
    is_lossy
}

fn sum_up(compared: &Compared) -> Result<()> {
    ci::job_summary().map_or(Ok(()), |path| {
        let page = compared.to_markdown();
        let opened = File::options().append(true).create(true).open(&path);
        opened.and_then(|mut file| file.write_all(page.as_bytes())).with_context(|| {
            let path = escape::terminal(path.as_os_str().as_encoded_bytes());
            format!(
                "cannot write the job's summary to {path}, which GITHUB_STEP_SUMMARY names: make its folder, or unset it"
            )
        })
    })
}

fn tell(compared: &Compared, as_json: Option<Value>, quiet: bool) -> Result<()> {
    if let Some(value) = as_json {
        writeln!(stdout().lock(), "{value}")?;
    } else if !quiet {
        write!(stdout().lock(), "{}", compared.to_text())?;
    }
    Ok(())
}
