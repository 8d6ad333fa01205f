//! A profile's text through the parser that will load it, where there is one: what it can judge and does not compile is not written. Owns the
//! call; knows no rule.

use std::{
    ffi::OsStr,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

/// The parser was there and did not take the text.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It could not be run.
    #[error("cannot run {}", parser.display())]
    Run {
        /// The parser.
        parser: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says no. A defect of khard.
    #[error("{} refuses the profile that khard made: {says}", parser.display())]
    Refused {
        /// The parser.
        parser: PathBuf,
        /// Its words, the last line of them.
        says: String,
    },
}

/// What the parser made of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// How long it took.
    pub took: Duration,
    /// Bytes that the kernel is given.
    pub n_bytes: usize,
}

/// Where distributions put it.
const PLACES: [&str; 3] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser", "/usr/bin/apparmor_parser"];

/// The parser of this machine; `None`: it has none.
pub(crate) fn find() -> Option<&'static Path> {
    PLACES.into_iter().map(Path::new).find(|path| path.exists())
}

/// Compiles a profile without loading it: works without AppArmor in the kernel too. `None`: this machine has no parser, or one without
/// the profile's ABI.
pub fn apparmor(text: &str) -> Result<Option<Compiled>, CompileError> {
    let Some(parser) = find() else { return Ok(None) };
    let began = Instant::now();
    let output = run(parser, &["--skip-kernel-load", "--skip-cache", "--stdout"], text.as_bytes())
        .map_err(|source| CompileError::Run { parser: parser.to_owned(), source })?;
    if !output.status.success() {
        // abi <abi/4.0> in a profile for other nodes: apparmor_parser(8) looks for it in /etc/apparmor.d.
        if String::from_utf8_lossy(&output.stderr).contains("Could not open 'abi/") {
            tracing::warn!(
                "this machine's AppArmor has not the ABI of the profile, which was not compiled here: try it on a node that has"
            );
            return Ok(None);
        }
        return Err(CompileError::Refused {
            parser: parser.to_owned(),
            says: why(output.status, &output.stderr),
        });
    }
    Ok(Some(Compiled { took: began.elapsed(), n_bytes: output.stdout.len() }))
}

/// Runs the parser on a text, or on what it compiled, and waits for its end.
pub(crate) fn run<S: AsRef<OsStr>>(parser: &Path, arguments: &[S], input: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(parser)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // The parser reads all of it before it writes a byte.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input));
    let output = child.wait_with_output()?;
    // One that refuses need not have read all.
    if output.status.success() {
        written?;
    }
    Ok(output)
}

/// The parser's last words; of one that was killed, by which signal.
pub(crate) fn why(status: ExitStatus, stderr: &[u8]) -> String {
    if status.code().is_none() {
        return format!("it was ended by {status}");
    }
    let words = String::from_utf8_lossy(stderr);
    words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it does not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_parser_that_was_killed_is_told_from_one_that_refused() {
        let stderr = b"Cache disabled\n\n";
        assert_eq!(why(ExitStatus::from_raw(libc::SIGSEGV), stderr), "it was ended by signal: 11 (SIGSEGV)");
        assert_eq!(why(ExitStatus::from_raw(1 << 8), stderr), "Cache disabled");
        assert_eq!(why(ExitStatus::from_raw(1 << 8), b""), "it does not say why");
    }
}
