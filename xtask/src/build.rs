//! Building khard: owns which package is built how, for which target, and what comes out. The choice of the eBPF
//! toolchain is `toolchain`'s.

use std::{
    collections::BTreeMap,
    env,
    io::IsTerminal as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    command::CommandExt as _,
    paths::Paths,
    setup::{self, Purpose},
    toolchain::Compiler,
};

const BPF_TARGET: &str = "bpfel-unknown-none";

/// What was built.
pub(crate) struct Built {
    /// The program `khard`.
    pub khard: PathBuf,
    /// The folder of `khard` and of the tests' programs.
    pub bin_dir: PathBuf,
}

/// Builds the kernel programs, `khard` with them inside, and the tests' programs.
pub(crate) fn all(paths: &Paths) -> Result<Built> {
    if !paths.target.join("release/khard").exists() {
        eprintln!("xtask: build khard; the first time takes some minutes");
    }
    let object = ebpf(paths)?;
    let mut executables = executables(
        cargo(paths)
            .args(["build", "--release", "-p", "khard-user", "-p", "khard-tests", "--bins"])
            .env("KHARD_EBPF_OBJECT", &object),
    )?;
    let khard = executables.remove("khard").context("cargo built no program named khard")?;
    let bin_dir = khard.parent().context("khard has no folder")?.to_owned();
    Ok(Built { khard, bin_dir })
}

/// A program of tests.
pub(crate) struct TestProgram {
    /// Its source file's name without `.rs`, or its crate's.
    pub name: String,
    /// The program.
    pub path: PathBuf,
}

/// Builds the tests of package khard-tests, sorted by name.
pub(crate) fn test_programs(paths: &Paths) -> Result<Vec<TestProgram>> {
    let object = ebpf(paths)?;
    let messages = messages(
        cargo(paths)
            .args(["test", "--release", "-p", "khard-tests", "--no-run"])
            .env("KHARD_EBPF_OBJECT", &object),
    )?;
    let mut programs: Vec<TestProgram> = messages
        .iter()
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(executable)
        .map(|(name, path)| TestProgram { name, path })
        .collect();
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Builds the kernel programs; the path of the object file.
pub(crate) fn ebpf(paths: &Paths) -> Result<PathBuf> {
    executables(&mut ebpf_cargo(paths, "build")?)?.remove("khard").context("cargo built no kernel programs")
}

/// Format check, then lints as errors: the host's crates, then the kernel programs on their own, since features
/// of shared crates would otherwise be united between the two.
pub(crate) fn clippy(paths: &Paths) -> Result<()> {
    setup::ensure(paths, &[Purpose::Ci])?;
    cargo(paths).args(["fmt", "--all", "--check"]).run()?;
    let deny = ["--", "-D", "warnings"];
    cargo(paths)
        .args(["clippy", "--workspace", "--exclude", "khard-ebpf", "--all-targets"])
        .args(deny)
        .run()?;
    ebpf_cargo(paths, "clippy")?.args(deny).run()
}

/// cargo in this workspace, for this machine.
pub(crate) fn cargo(paths: &Paths) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target);
    command
}

/// `cargo VERB` on the kernel programs, for the BPF target.
fn ebpf_cargo(paths: &Paths, verb: &str) -> Result<Command> {
    let compiler = setup::toolchain(paths)?.compiler;
    let mut command = match &compiler {
        Compiler::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo", verb, "-Z", "build-std=core"]).env_remove("RUSTC");
            command
        }
        Compiler::Prebuilt(rustc) => {
            // Lints by the clippy that belongs to this compiler: another one cannot read its core.
            let mut command = match verb {
                "clippy" => Command::new(rustc.with_file_name("cargo-clippy")),
                _ => cargo(paths),
            };
            // aya-ebpf uses inline assembly for BPF, which is unstable; this compiler is a stable one.
            command.arg(verb).env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            command
        }
        Compiler::InstallDebian => anyhow::bail!("Debian's compiler is not installed"),
    };
    // Full debug information and --btf give the object its BTF.
    let flags = ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf"];
    command
        .args(["-p", "khard-ebpf", "--profile", "bpf", "--target", BPF_TARGET])
        .current_dir(&paths.root)
        // A folder of its own: the same crates are built for this machine with other features and flags.
        .env("CARGO_TARGET_DIR", paths.target.join("bpf"))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("PATH", setup::path_with_cargo_bin()?);
    Ok(command)
}

/// Runs a cargo build and returns the programs that it made, by name.
fn executables(command: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    Ok(messages(command)?.iter().filter_map(executable).collect())
}

/// The program that one of cargo's messages is about.
fn executable(message: &Value) -> Option<(String, PathBuf)> {
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), message["executable"].as_str()?.into()))
}

/// Runs a cargo build and returns its messages; what is for people goes to the terminal.
fn messages(command: &mut Command) -> Result<Vec<Value>> {
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    let text = command.read_text()?;
    text.lines().map(|line| serde_json::from_str(line).context("cargo's messages")).collect()
}
