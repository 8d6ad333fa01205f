//! Which compiler and which linker make the kernel programs: owns the choice, as a pure function of [`Facts`].
//! Gathering facts is `setup`'s, building is `build`'s.
//!
//! The BPF target has no prebuilt `core` in rustup's toolchains. Either a nightly builds it from rust-src, or Debian's
//! second compiler (package `rustc-web`) brings it ready-made in `libstd-rust-web-dev-bpf`.

use std::{collections::BTreeSet, path::PathBuf};

use thiserror::Error;

/// The version of bpf-linker that is installed where there is none.
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";
/// The LLVM majors that this bpf-linker can be built with (its cargo features `llvm-N`).
const BPF_LINKER_LLVMS: std::ops::RangeInclusive<u32> = 21..=23;
/// Debian's packages of a compiler that has `core` for BPF.
pub(crate) const DEBIAN_COMPILER: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// What was found on this machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// rustup's nightly.
    pub nightly: Option<Nightly>,
    /// A compiler with a prebuilt `core` for BPF, and its LLVM major.
    pub prebuilt: Option<(PathBuf, u32)>,
    /// apt offers [`DEBIAN_COMPILER`]; the LLVM major of what it offers is 22 or later.
    pub prebuilt_offered: bool,
    /// bpf-linker is installed.
    pub linker: bool,
    /// LLVM majors whose development files are installed or offered by apt.
    pub llvms: BTreeSet<u32>,
}

/// rustup's nightly toolchain.
#[derive(Clone, Debug)]
pub(crate) struct Nightly {
    /// Its component rust-src is there.
    pub rust_src: bool,
    /// The major version of its LLVM.
    pub llvm: u32,
}

/// How the kernel programs are built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The compiler.
    pub compiler: Compiler,
    /// The linker.
    pub linker: Linker,
}

/// A compiler for the BPF target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// rustup's nightly, which builds `core` from source.
    Nightly,
    /// A compiler with a prebuilt `core`.
    Prebuilt(PathBuf),
    /// [`DEBIAN_COMPILER`], to be installed first.
    InstallDebian,
}

/// Where bpf-linker comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Linker {
    /// It is installed.
    Present,
    /// To be built against this LLVM.
    Install {
        /// The LLVM major.
        llvm: u32,
    },
    /// To be built with its default features: it finds its LLVM itself, or says what it lacks.
    InstallDefault,
}

/// Why there is no choice.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum NoToolchain {
    /// A nightly without sources, and no Debian to help.
    #[error(
        "rustup's nightly has no rust-src, which the BPF target needs; run: rustup component add rust-src --toolchain nightly"
    )]
    NoRustSrc,
    /// Nothing to start from.
    #[error(
        "no compiler for the BPF target: run: rustup toolchain install nightly --component rust-src (or, on Debian, install the packages {})",
        DEBIAN_COMPILER.join(" ")
    )]
    NoCompiler,
}

/// Chooses: a nightly with rust-src, else a compiler with a prebuilt `core`, else Debian's, to be installed.
pub(crate) fn choose(facts: &Facts) -> Result<Choice, NoToolchain> {
    let (compiler, compiler_llvm) = match &facts.nightly {
        Some(Nightly { rust_src: true, llvm }) => (Compiler::Nightly, *llvm),
        nightly => match &facts.prebuilt {
            Some((path, llvm)) => (Compiler::Prebuilt(path.clone()), *llvm),
            None if facts.prebuilt_offered => (Compiler::InstallDebian, 22),
            None if nightly.is_some() => return Err(NoToolchain::NoRustSrc),
            None => return Err(NoToolchain::NoCompiler),
        },
    };
    // The linker reads the compiler's bitcode: an older LLVM cannot.
    let llvm =
        facts.llvms.iter().copied().find(|llvm| *llvm >= compiler_llvm && BPF_LINKER_LLVMS.contains(llvm));
    let linker = match llvm {
        _ if facts.linker => Linker::Present,
        Some(llvm) => Linker::Install { llvm },
        None => Linker::InstallDefault,
    };
    Ok(Choice { compiler, linker })
}

/// The LLVM major that `rustc -vV` names.
pub(crate) fn llvm_major(verbose_version: &str) -> Option<u32> {
    let version = verbose_version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nightly(rust_src: bool) -> Nightly {
        Nightly { rust_src, llvm: 22 }
    }

    fn debian() -> (PathBuf, u32) {
        (PathBuf::from("/usr/bin/rustc"), 22)
    }

    fn compiler(facts: &Facts) -> Result<Compiler, NoToolchain> {
        choose(facts).map(|choice| choice.compiler)
    }

    #[test]
    fn a_nightly_with_sources_wins_over_debian() {
        let facts = Facts { nightly: Some(nightly(true)), prebuilt: Some(debian()), ..Facts::default() };
        assert_eq!(compiler(&facts), Ok(Compiler::Nightly));
    }

    #[test]
    fn a_nightly_without_sources_loses_to_debian() {
        let facts = Facts { nightly: Some(nightly(false)), prebuilt: Some(debian()), ..Facts::default() };
        assert_eq!(compiler(&facts), Ok(Compiler::Prebuilt("/usr/bin/rustc".into())));
    }

    #[test]
    fn debians_compiler_is_installed_where_apt_offers_it() {
        let facts = Facts { nightly: Some(nightly(false)), prebuilt_offered: true, ..Facts::default() };
        assert_eq!(compiler(&facts), Ok(Compiler::InstallDebian));
    }

    #[test]
    fn without_debian_the_missing_component_is_named() {
        let facts = Facts { nightly: Some(nightly(false)), ..Facts::default() };
        assert_eq!(compiler(&facts), Err(NoToolchain::NoRustSrc));
        assert!(NoToolchain::NoRustSrc.to_string().contains("rustup component add rust-src"));
    }

    #[test]
    fn without_anything_both_ways_are_named() {
        assert_eq!(compiler(&Facts::default()), Err(NoToolchain::NoCompiler));
        let words = NoToolchain::NoCompiler.to_string();
        assert!(words.contains("rustup toolchain install nightly") && words.contains("rustc-web"));
    }

    #[test]
    fn the_linker_is_built_with_an_llvm_no_older_than_the_compilers() {
        let linker = |llvms: &[u32], llvm, present| {
            let nightly = Some(Nightly { rust_src: true, llvm });
            let facts = Facts {
                nightly,
                llvms: llvms.iter().copied().collect(),
                linker: present,
                ..Facts::default()
            };
            choose(&facts).map(|choice| choice.linker)
        };
        assert_eq!(linker(&[14, 19, 22, 23], 22, false), Ok(Linker::Install { llvm: 22 }));
        assert_eq!(linker(&[14, 19, 22, 23], 23, false), Ok(Linker::Install { llvm: 23 }));
        assert_eq!(linker(&[14, 19, 22], 23, false), Ok(Linker::InstallDefault));
        assert_eq!(linker(&[24], 22, false), Ok(Linker::InstallDefault));
        assert_eq!(linker(&[], 22, true), Ok(Linker::Present));
    }

    #[test]
    fn the_llvm_major_is_read_from_rustc() {
        assert_eq!(llvm_major("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }
}
