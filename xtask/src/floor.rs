//! The verb `floor`: owns where and with which runtimes floors are measured (see docs/floor.md), and that khard's data gets
//! what was seen. The measuring itself is the tests' program `floor`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    build,
    command::CommandExt as _,
    containers::containerd,
    debian, interrupt,
    paths::Paths,
    setup::{self, Purpose},
    vm::{Options, Outcome, Parts, quoted},
};

/// What the machine and the guests have installed.
const INSTALLED: &str = "installed";
const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// khard's data, in the workspace.
const DATA: &str = "khard-profile/data/floor.json";

/// Options of `cargo xtask floor`.
#[derive(Args)]
pub(crate) struct FloorArgs {
    /// Only say what the data lacks of what is measured now; exit status 1 if anything.
    #[arg(long)]
    check: bool,
    /// Where: host (this machine), or the kernel of a guest, as `cargo xtask vm` takes it.
    #[arg(long, num_args = 1.., value_name = "WHERE", default_values = ["host", "6.1", "6.12"])]
    places: Vec<String>,
    /// Whose runtimes: installed (here, and in the guests), or a suite of Debian, whose packages are unpacked.
    #[arg(long, num_args = 1.., value_name = "SUITE", default_values = [INSTALLED, "trixie", "sid"])]
    suites: Vec<String>,
    /// Only this runtime.
    #[arg(long, value_parser = RUNTIMES)]
    runtime: Option<String>,
    /// Containers on this machine, for each runtime and each of `no_new_privs` true and false.
    #[arg(long, default_value_t = 200, value_name = "N")]
    containers: u32,
    /// The same in a guest, which is slow.
    #[arg(long, default_value_t = 50, value_name = "N")]
    guest_containers: u32,
    /// Number of the first container: other numbers are other containers.
    #[arg(long, default_value_t = 0, value_name = "N")]
    first: u32,
}

/// One runtime of one suite.
#[derive(Clone, Copy)]
struct Choice<'a> {
    suite: &'a str,
    runtime: &'static str,
}

/// The verb `floor`.
pub(crate) fn verb(paths: &Paths, args: &FloorArgs) -> Result<u8> {
    setup::ensure(paths, &[Purpose::Build, Purpose::Containers, Purpose::Vm])?;
    if !setup::is_root() {
        bail!("containers need root");
    }
    let _lock = paths.lock("floor")?;
    let bin_dir = build::all(paths)?.bin_dir;
    let dir = paths.state_dir("floor")?;
    for suite in args.suites.iter().filter(|suite| *suite != INSTALLED) {
        unpack(&dir.join(suite), suite)?;
    }
    let choices: Vec<Choice> = args
        .suites
        .iter()
        .flat_map(|suite| RUNTIMES.map(|runtime| Choice { suite, runtime }))
        .filter(|choice| args.runtime.as_deref().is_none_or(|only| only == choice.runtime))
        .collect();

    // This machine first and alone; guests, which are emulated by one thread each, side by side.
    let (here, guests): (Vec<_>, Vec<_>) = args.places.iter().partition(|place| *place == "host");
    let mut measured = Vec::new();
    if !here.is_empty() {
        measured.extend(on_host(args, &choices, &bin_dir, &dir)?);
    }
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = guests
            .iter()
            .map(|kernel| scope.spawn(|| in_guest(paths, args, &choices, &bin_dir, &dir, kernel)))
            .collect();
        for thread in threads {
            measured.extend(thread.join().ok().context("a guest's thread panicked")??);
        }
        Ok(())
    })?;
    interrupt::check()?;

    let status = Command::new(bin_dir.join("floor"))
        .arg(if args.check { "check" } else { "merge" })
        .arg(paths.root.join(DATA))
        .args(&measured)
        .status_interruptible()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2))
}

/// Unpacks a suite's runtimes with their libraries.
fn unpack(tree: &Path, suite: &str) -> Result<()> {
    eprintln!("xtask: unpack the runtimes of {suite}");
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    debian::bootstrap(suite, tree, "extract", &RUNTIMES, &[])
}

fn on_host(args: &FloorArgs, choices: &[Choice], bin_dir: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    let mut measured = Vec::new();
    for choice in choices {
        if !containerd::runtimes().split(',').any(|runtime| runtime == choice.runtime) {
            eprintln!("xtask: {} does not run on this machine, only in guests", choice.runtime);
            continue;
        }
        let output = dir.join(choice.file("host"));
        let words = choice.words(args, args.containers, &bin_dir.display().to_string(), dir, &output);
        let [program, arguments @ ..] = words.as_slice() else { continue };
        Command::new(program).args(arguments).run()?;
        measured.push(output);
    }
    Ok(measured)
}

fn in_guest(
    paths: &Paths,
    args: &FloorArgs,
    choices: &[Choice],
    bin_dir: &Path,
    dir: &Path,
    kernel: &str,
) -> Result<Vec<PathBuf>> {
    let mut session = Parts::make(paths, kernel, &debian::suite(), bin_dir)?.boot(
        paths,
        dir,
        &Options::default(),
        false,
    )?;
    let name = kernel.replace('/', "_");
    let mut measured = Vec::new();
    for choice in choices {
        let file = choice.file(&name);
        let output = Path::new("/host").join(&file);
        let words = choice.words(args, args.guest_containers, "/khard", Path::new("/host"), &output);
        let script = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let outcome = session.run(&script, None, &mut |_, bytes| {
            let _ = std::io::stderr().write_all(bytes);
        })?;
        match outcome {
            Outcome::Exited(0) => measured.push(dir.join(file)),
            Outcome::Exited(status) => bail!("{kernel}: {script}: exit status {status}"),
            Outcome::OutOfTime => bail!("{kernel}: {script}: no end"),
            Outcome::MachineGone(console) => bail!("the guest is gone; its console:\n{console}"),
        }
    }
    session.end()?;
    Ok(measured)
}

impl Choice<'_> {
    /// The measurement's file.
    fn file(self, place: &str) -> String {
        format!("{place}-{}-{}.json", self.suite, self.runtime)
    }

    /// The command that measures, where khard's programs are in `bin_dir` and the unpacked suites in `suites`.
    fn words(
        self,
        args: &FloorArgs,
        n_containers: u32,
        bin_dir: &str,
        suites: &Path,
        output: &Path,
    ) -> Vec<String> {
        let mut words = vec![
            format!("{bin_dir}/floor"),
            "measure".to_owned(),
            format!("--khard={bin_dir}/khard"),
            format!("--runtime={}", self.runtime),
            format!("--containers={n_containers}"),
            format!("--first={}", args.first),
            format!("--output={}", output.display()),
        ];
        if self.suite != INSTALLED {
            words.push(format!("--usr={}", suites.join(self.suite).join("usr").display()));
        }
        words
    }
}
