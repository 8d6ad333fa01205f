//! Looking at this machine: owns how to find out that something is there. Changes nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::needs::Probe;
use crate::{
    command::CommandExt as _,
    toolchain::{DEBIAN_COMPILER, Facts, Nightly, llvm_major},
};

/// Folders that a plain user's PATH may lack.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// 1.30 has `securityContext.appArmorProfile`; Debian 12's (1.20) drops what it does not know.
const OLDEST_KUBECTL_MINOR: u32 = 30;
/// Where Debian's compiler is, beside whatever comes first in PATH.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Is it there?
pub(crate) fn satisfied(probe: Probe) -> bool {
    match probe {
        Probe::Command(name) => command(name),
        Probe::File(paths) => paths.iter().any(|path| Path::new(path).exists()),
    }
}

/// Is this program installed?
pub(crate) fn command(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_bin = cargo_bin();
    env::split_paths(&path)
        .chain(SYSTEM_DIRS.iter().map(PathBuf::from))
        .chain(cargo_bin)
        .any(|dir| dir.join(name).is_file())
}

/// The folder of cargo-installed programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    home.map(|home| home.join("bin"))
}

/// Is there a kubectl that knows the fields for seccomp and AppArmor?
pub(crate) fn kubectl() -> bool {
    let path = super::path_with_cargo_bin().unwrap_or_default();
    let said = Command::new("kubectl").args(["version", "--client"]).env("PATH", path).read_text();
    let minor = |said: &str| -> Option<u32> {
        let version = said.lines().find_map(|line| line.strip_prefix("Client Version: v1."))?;
        version.split('.').next()?.parse().ok()
    };
    said.is_ok_and(|said| minor(&said).is_some_and(|minor| minor >= OLDEST_KUBECTL_MINOR))
}

/// Is this Debian package installed?
pub(crate) fn package(name: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", name])
        .read_text()
        .is_ok_and(|status| status == "installed")
}

/// Is this a system with Debian's packages?
pub(crate) fn apt() -> bool {
    command("apt-get") && command("dpkg-query")
}

/// Is this process root?
pub(crate) fn root() -> bool {
    // SAFETY: geteuid cannot fail and touches no memory.
    unsafe { libc::geteuid() == 0 }
}

/// What the choice of the eBPF toolchain depends on.
pub(crate) fn facts() -> Facts {
    let offered = apt_offers();
    let installed = (1..100).filter(|llvm| {
        Path::new(&format!("/usr/lib/llvm-{llvm}/bin/llvm-config")).exists()
            && Path::new(&format!("/usr/lib/llvm-{llvm}/include/llvm-c/Core.h")).exists()
    });
    Facts {
        nightly: nightly(),
        prebuilt: prebuilt(),
        prebuilt_offered: DEBIAN_COMPILER.iter().all(|name| offered.iter().any(|other| other == name)),
        linker: command("bpf-linker"),
        llvms: offered.iter().filter_map(|name| dev_package_llvm(name)).chain(installed).collect(),
    }
}

fn nightly() -> Option<Nightly> {
    if !command("rustup") {
        return None;
    }
    let rustc = |arg: &[&str]| {
        Command::new("rustup")
            .args(["run", "nightly", "rustc"])
            .args(arg)
            .env("RUSTUP_AUTO_INSTALL", "0")
            .read_text()
            .ok()
    };
    let sysroot = rustc(&["--print", "sysroot"])?;
    let rust_src = Path::new(&sysroot).join("lib/rustlib/src/rust/library/Cargo.lock").exists();
    Some(Nightly { rust_src, llvm: llvm_major(&rustc(&["-vV"])?)? })
}

fn prebuilt() -> Option<(PathBuf, u32)> {
    let rustc = |arg: &[&str]| Command::new(DEBIAN_RUSTC).args(arg).read_text().ok();
    let sysroot = rustc(&["--print", "sysroot"])?;
    let lib = Path::new(&sysroot).join("lib/rustlib/bpfel-unknown-none/lib");
    fs::read_dir(lib).ok()?.next()?.ok()?;
    Some((DEBIAN_RUSTC.into(), llvm_major(&rustc(&["-vV"])?)?))
}

/// The packages of apt's lists that matter for the toolchain.
fn apt_offers() -> Vec<String> {
    if !apt() {
        return Vec::new();
    }
    let names =
        |prefix: &str| Command::new("apt-cache").args(["pkgnames", prefix]).read_text().unwrap_or_default();
    let text = [names("llvm-"), names(DEBIAN_COMPILER[0]), names(DEBIAN_COMPILER[1])].join("\n");
    text.lines().map(str::to_owned).collect()
}

fn dev_package_llvm(name: &str) -> Option<u32> {
    name.strip_prefix("llvm-")?.strip_suffix("-dev")?.parse().ok()
}

/// Is the clippy of Debian's compiler installed?
pub(crate) fn debian_clippy() -> bool {
    Path::new(DEBIAN_RUSTC).with_file_name("clippy-driver").exists()
}

/// rustup's components that the checks need and the toolchain in use lacks.
pub(crate) fn missing_components() -> Vec<&'static str> {
    let works = |tool: &str| {
        Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([tool, "--version"])
            .read()
            .is_ok()
    };
    [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(tool, _)| !works(tool))
        .map(|(_, component)| component)
        .collect()
}
