//! What this machine lacks for a verb: owns finding out, and deciding what to do about it. The table of needs is in
//! `needs`, probing in `probe`, the hands in `install`.

mod install;
mod needs;
mod probe;

use std::{collections::BTreeSet, env, ffi::OsString, fmt::Write as _};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    paths::Paths,
    toolchain::{self, Choice, Compiler, DEBIAN_COMPILER, Linker},
};
use needs::Need;

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    /// Building khard with its kernel programs.
    Build,
    /// Booting guests.
    Vm,
    /// Containers on this machine: images and containerd.
    Containers,
    /// The workloads and witnesses of the tests on this machine.
    Test,
    /// What the benchmark compares with.
    Bench,
    /// The checks of `.ci/run` beside the tests.
    Ci,
}

/// Options of `cargo xtask setup`.
#[derive(Args)]
pub(crate) struct SetupArgs {
    /// Only report what is missing; exit status 1 if anything is.
    #[arg(long)]
    check: bool,
    /// What to set up for.
    #[arg(long = "for", value_enum, default_value = "all", value_name = "WHAT")]
    target: Target,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Build,
    Vm,
    Containers,
    Test,
    Bench,
    Ci,
    All,
}

impl Target {
    fn purposes(self) -> Vec<Purpose> {
        match self {
            Self::Build => vec![Purpose::Build],
            Self::Vm => vec![Purpose::Vm],
            Self::Containers => vec![Purpose::Containers],
            Self::Test => vec![Purpose::Test],
            Self::Bench => vec![Purpose::Bench],
            Self::Ci => vec![Purpose::Ci],
            Self::All => vec![Purpose::Build, Purpose::Vm, Purpose::Containers, Purpose::Test],
        }
    }
}

/// What has to be done, in this order.
#[derive(Default)]
struct Plan {
    packages: Vec<Missing>,
    components: Vec<&'static str>,
    cargo: Vec<install::CargoTool>,
    kubectl: bool,
}

struct Missing {
    package: String,
    why: String,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.components.is_empty() && self.cargo.is_empty() && !self.kubectl
    }

    fn package(&mut self, package: &str, why: &str) {
        if !self.packages.iter().any(|missing| missing.package == package) {
            self.packages.push(Missing { package: package.to_owned(), why: why.to_owned() });
        }
    }

    /// One line for each thing, for a person.
    fn words(&self) -> String {
        let mut text = String::new();
        for Missing { package, why } in &self.packages {
            let _ = writeln!(text, "  package {package}: {why}");
        }
        for component in &self.components {
            let _ = writeln!(text, "  rustup component {component}: format check and lints");
        }
        for tool in &self.cargo {
            let _ = writeln!(text, "  cargo tool {}: {}", tool.name, tool.why);
        }
        if self.kubectl {
            let _ = writeln!(text, "  kubectl 1.30 or later, by pip: applies the patches that khard writes");
        }
        text
    }
}

/// The verb `setup`.
pub(crate) fn verb(paths: &Paths, args: &SetupArgs) -> Result<u8> {
    let purposes = args.target.purposes();
    if !args.check {
        ensure(paths, &purposes)?;
    }
    let (plan, choice) = match plan(&purposes) {
        Ok(planned) => planned,
        Err(error) => {
            eprintln!("xtask: missing:\n  {error:#}");
            if probe::apt() && install::lists_are_old() {
                eprintln!(
                    "  (apt's package lists are old or empty; `cargo xtask setup` refreshes them, as root)"
                );
            }
            return Ok(1);
        }
    };
    if purposes.contains(&Purpose::Build)
        && let Some(choice) = choice
    {
        eprintln!("xtask: kernel programs: {}", words(&choice));
    }
    if plan.is_empty() {
        eprintln!("xtask: nothing is missing");
        return Ok(0);
    }
    eprint!("xtask: missing:\n{}", plan.words());
    Ok(1)
}

/// Makes sure that nothing is missing for these purposes; quiet when nothing is.
pub(crate) fn ensure(paths: &Paths, purposes: &[Purpose]) -> Result<()> {
    match plan(purposes) {
        Ok((plan, _)) if plan.is_empty() => Ok(()),
        // Also when there is no toolchain to choose: fresh package lists may offer one.
        _ => carry_out(paths, purposes),
    }
}

/// The toolchain for the kernel programs, installed if it has to be.
pub(crate) fn toolchain(paths: &Paths) -> Result<Choice> {
    ensure(paths, &[Purpose::Build])?;
    Ok(toolchain::choose(&probe::facts())?)
}

/// Is this process root?
pub(crate) fn is_root() -> bool {
    probe::root()
}

/// PATH with the folder of cargo-installed programs in it.
pub(crate) fn path_with_cargo_bin() -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(env::split_paths(&path).chain(probe::cargo_bin()))?)
}

fn plan(purposes: &[Purpose]) -> Result<(Plan, Option<Choice>)> {
    let mut plan = Plan::default();
    for Need { package, why, .. } in needs::missing(purposes, probe::satisfied) {
        plan.package(package, why);
    }
    let mut choice = None;
    if purposes.contains(&Purpose::Build) {
        let chosen = toolchain::choose(&probe::facts())?;
        plan_toolchain(&mut plan, &chosen);
        choice = Some(chosen);
    }
    if purposes.contains(&Purpose::Test) && !probe::kubectl() {
        if !probe::command("pip3") {
            plan.package("python3-pip", "fetches kubectl");
        }
        plan.kubectl = true;
    }
    if purposes.contains(&Purpose::Ci) {
        plan.components = probe::missing_components();
        if !matches!(toolchain::choose(&probe::facts())?.compiler, Compiler::Nightly)
            && !probe::debian_clippy()
        {
            plan.package("rust-web-clippy", "lints of the kernel programs");
        }
        if !probe::command("cargo-deny") {
            plan.cargo.push(install::cargo_deny());
        }
    }
    Ok((plan, choice))
}

fn plan_toolchain(plan: &mut Plan, choice: &Choice) {
    if choice.compiler == Compiler::InstallDebian {
        for package in DEBIAN_COMPILER {
            plan.package(package, "a Rust compiler with a ready-made core for the BPF target");
        }
    }
    let llvm = match choice.linker {
        Linker::Present => return,
        Linker::Install { llvm } => Some(llvm),
        Linker::InstallDefault => None,
    };
    if let Some(llvm) = llvm {
        for package in needs::linker_packages(llvm) {
            if !probe::package(&package) {
                plan.package(&package, "to build bpf-linker");
            }
        }
    }
    plan.cargo.push(install::bpf_linker(llvm));
}

fn carry_out(paths: &Paths, purposes: &[Purpose]) -> Result<()> {
    let _lock = paths.lock("setup")?;
    if probe::apt() && probe::root() && install::lists_are_old() {
        install::update()?;
    }
    // Made again: another xtask may have done it while this one waited, and fresh lists may offer more.
    let (plan, _) = plan(purposes)?;
    if !plan.packages.is_empty() {
        let names: BTreeSet<&str> = plan.packages.iter().map(|missing| missing.package.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        if !probe::apt() {
            bail!("this is no Debian, so install what these Debian packages hold:\n{}", plan.words());
        }
        if !probe::root() {
            bail!(
                "missing:\n{}as root: apt-get install --no-install-recommends {}",
                plan.words(),
                names.join(" ")
            );
        }
        for Missing { package, why } in &plan.packages {
            eprintln!("xtask: install {package}: {why}");
        }
        install::packages(&names)?;
    }
    if !plan.components.is_empty() {
        install::components(&plan.components)?;
    }
    for tool in &plan.cargo {
        eprintln!("xtask: build {}: {}", tool.name, tool.why);
        install::cargo_tool(tool)?;
    }
    if plan.kubectl {
        eprintln!("xtask: install kubectl: applies the patches that khard writes");
        install::kubectl(paths)?;
    }
    Ok(())
}

fn words(choice: &Choice) -> String {
    let compiler = match &choice.compiler {
        Compiler::Nightly => "rustup's nightly with rust-src".to_owned(),
        Compiler::Prebuilt(path) => format!("{} with its prebuilt core", path.display()),
        Compiler::InstallDebian => format!("Debian's {}, to be installed", DEBIAN_COMPILER[0]),
    };
    let linker = match choice.linker {
        Linker::Present => "bpf-linker as installed".to_owned(),
        Linker::Install { llvm } => format!("bpf-linker to be built with LLVM {llvm}"),
        Linker::InstallDefault => "bpf-linker to be built with its default LLVM".to_owned(),
    };
    format!("{compiler}; {linker}")
}
