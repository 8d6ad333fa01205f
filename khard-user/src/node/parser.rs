//! AppArmor's parser: compiles, loads and unloads. Owns the calls; what may be loaded is decided elsewhere. Nothing of khard
//! writes to the kernel's policy itself.

use std::path::PathBuf;

use khard_profile::escape;

use super::{NodeError, shown};
use crate::output::compile;

/// The program.
#[derive(Clone, Debug)]
pub struct Parser {
    /// Its file.
    pub program: PathBuf,
    /// Where included files are, if not where it looks for itself.
    pub base: Option<PathBuf>,
}

impl Parser {
    /// A text as the kernel takes it. `what` is the text's name for messages, already escaped.
    pub(super) fn compile(&self, text: &[u8], what: &str) -> Result<Vec<u8>, NodeError> {
        let mut arguments: Vec<_> =
            ["--skip-kernel-load", "--skip-cache", "--stdout"].map(PathBuf::from).into();
        if let Some(base) = &self.base {
            arguments.extend(["--base".into(), base.clone()]);
        }
        self.run(&arguments, text, || format!("does not compile {what}"))
    }

    /// Loads what was compiled, in the place of a profile of the same name if there is one.
    pub(super) fn load(&self, compiled: &[u8], name: &str) -> Result<(), NodeError> {
        self.run(&["--binary", "--replace"], compiled, || format!("cannot load {}", shown(name))).map(drop)
    }

    /// Takes a profile, with its hats and child profiles, out of the kernel. Its processes become unconfined.
    pub(super) fn unload(&self, name: &str) -> Result<(), NodeError> {
        // The parser takes the name from a text and nothing else (apparmor_parser(8), --remove).
        let text = format!("profile \"{}\" {{\n}}\n", escape::apparmor(name.as_bytes()));
        let what = || format!("cannot remove {} from the kernel", shown(name));
        self.run(&["--remove"], text.as_bytes(), what).map(drop)
    }

    fn run<S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: &[S],
        input: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<Vec<u8>, NodeError> {
        let says = match compile::run(&self.program, arguments, input) {
            Ok(output) if output.status.success() => return Ok(output.stdout),
            Ok(output) => compile::why(output.status, &output.stderr),
            Err(error) => error.to_string(),
        };
        let says = escape::terminal(says.as_bytes());
        Err(NodeError::Parser { parser: self.program.clone(), what: what(), says })
    }
}
