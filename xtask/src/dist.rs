//! What users are given: one static program, and a checksum. Owns how it is built and what is proved of it before it is handed out; the
//! kernel programs are `build`'s.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build,
    command::CommandExt as _,
    paths::Paths,
    setup::{self, Purpose},
};

/// The verb `dist`.
pub(crate) fn verb(paths: &Paths) -> Result<u8> {
    let program = program(paths)?;
    println!("{}", program.display());
    Ok(0)
}

/// Builds it: `target/dist/khard-VERSION-MACHINE-linux`, with `SHA256SUMS` beside it.
pub(crate) fn program(paths: &Paths) -> Result<PathBuf> {
    setup::ensure(paths, &[Purpose::Build])?;
    let object = build::ebpf(paths)?;
    let host = host()?;
    // With a target named, flags are the program's only: the compiler's own plugins cannot be static.
    build::cargo(paths)
        .args(["build", "--release", "-p", "khard-user", "--bin", "khard", "--target", &host])
        .env("KHARD_EBPF_OBJECT", &object)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        // Four fifths of it would be debug information.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .run()?;
    let built = paths.target.join(&host).join("release/khard");
    ensure!(is_static(&built)?, "{} wants a dynamic linker: it is not static", built.display());
    let version = Command::new(&built).arg("--version").read_text()?;
    let version = version.trim().replace(' ', "-");
    let machine = host.split('-').next().unwrap_or_default();
    let dir = paths.target.join("dist");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let name = format!("{version}-{machine}-linux");
    let program = dir.join(&name);
    fs::copy(&built, &program).with_context(|| format!("cannot write {}", program.display()))?;
    let sums = Command::new("sha256sum").arg(&name).current_dir(&dir).read()?;
    fs::write(dir.join("SHA256SUMS"), sums)?;
    Ok(program)
}

/// The machine's own target, such as `x86_64-unknown-linux-gnu`.
fn host() -> Result<String> {
    let text = Command::new("rustc").arg("-vV").read_text()?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it compiles for")
}

/// Whether a program names no dynamic linker (`PT_INTERP`, elf(5)).
fn is_static(program: &Path) -> Result<bool> {
    let headers = Command::new("readelf").arg("-lW").arg(program).read_text()?;
    Ok(!headers.contains("INTERP"))
}
