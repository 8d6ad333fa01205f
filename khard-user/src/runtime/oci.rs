//! Which OCI runtime (runc, crun …) starts a container, and its version: the calls that it makes under the container's
//! filter differ by both.
//!
//! Owns finding and asking the program. It must not know what those calls are.
use super::process::Proc;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long a program may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// What is known of the OCI runtime; `None` is unknown, never a guess.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OciRuntime {
    /// The program's file.
    pub binary: Option<PathBuf>,
    /// The name it gives itself: `runc`, `crun`.
    pub name: Option<String>,
    /// The version it gives itself, as Debian's `1.1.5+ds1`.
    pub version: Option<String>,
}

impl OciRuntime {
    /// Asks the program at `binary` for its name and version.
    pub(crate) async fn ask(binary: PathBuf) -> Self {
        let said = version_line(&binary).await;
        let (name, version) = said.as_deref().and_then(parse_version_line).unzip();
        Self { binary: Some(binary), name, version }
    }
}

/// The program by the name in a runtime's configuration: absolute, or found as the daemon finds it.
pub(super) fn locate(name: &Path, proc: &Proc, daemon: Option<u32>) -> Option<PathBuf> {
    if name.is_absolute() {
        return Some(name.to_owned());
    }
    let search = daemon.and_then(|pid| proc.search_path(pid)).or_else(|| std::env::var_os("PATH"))?;
    find_in(&search, name)
}

/// The first file of that name in a search path. The empty entry, which means "here", is no place for a root's tool.
pub(crate) fn find_in(search: &OsStr, name: &Path) -> Option<PathBuf> {
    std::env::split_paths(search)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// The program that conmon, CRI-O's and Podman's monitor, was told to run: conmon(8), `-r, --runtime`.
pub(super) fn of_conmon(arguments: &[Vec<u8>]) -> Option<PathBuf> {
    let text = |bytes: &Vec<u8>| std::str::from_utf8(bytes).ok().map(PathBuf::from);
    let is_conmon = text(arguments.first()?)?.file_name() == Some(OsStr::new("conmon"));
    let at = arguments.iter().position(|a| a == b"-r" || a == b"--runtime")?;
    text(arguments.get(at + 1)?).filter(|_| is_conmon)
}

/// What programs have said, by path, inode and time of change: all containers of a node have the same few.
static SAID: Mutex<BTreeMap<(PathBuf, u64, i64, i64), String>> = Mutex::new(BTreeMap::new());

/// First line of `PROGRAM --version`. Only a file that root alone can change is run: a runtime's answer is no reason
/// to run anybody's program as root.
async fn version_line(binary: &Path) -> Option<String> {
    let file = std::fs::metadata(binary).ok()?;
    if file.uid() != 0 || file.mode() & 0o022 != 0 {
        return None;
    }
    let key = (binary.to_owned(), file.ino(), file.ctime(), file.ctime_nsec());
    let known = || SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(line) = known().get(&key) {
        return Some(line.clone());
    }
    let child = tokio::process::Command::new(binary)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_LIMIT, child).await.ok()?.ok()?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)?;
    known().insert(key, line.clone());
    Some(line)
}

/// Name and version: the first word, and the first that starts with a digit.
fn parse_version_line(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let numbers = words.map(|word| word.strip_prefix('v').unwrap_or(word).trim_end_matches(','));
    let version = numbers.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some((name.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_lines_of_known_programs_are_read() {
        let read = |line| parse_version_line(line).map(|(name, version)| format!("{name}={version}"));
        assert_eq!(read("runc version 1.1.5+ds1").as_deref(), Some("runc=1.1.5+ds1"));
        assert_eq!(read("crun version 1.8.1").as_deref(), Some("crun=1.8.1"));
        assert_eq!(read("youki 0.5.0").as_deref(), Some("youki=0.5.0"));
        let containerd = read("containerd github.com/containerd/containerd/v2 v2.1.3 c787fb98911740");
        assert_eq!(containerd.as_deref(), Some("containerd=2.1.3"));
        assert_eq!(read("Docker version 28.2.2, build e6534b4").as_deref(), Some("Docker=28.2.2"));
        for line in ["", "usage: thing", "version", "error: unknown flag"] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn conmon_tells_which_program_it_runs() {
        let arguments = |line: &str| line.split(' ').map(|a| a.as_bytes().to_vec()).collect::<Vec<_>>();
        let of = |line| of_conmon(&arguments(line));
        assert_eq!(of("/usr/bin/conmon -b /x -c id -r /usr/bin/crun -u id"), Some("/usr/bin/crun".into()));
        assert_eq!(of("/usr/bin/containerd-shim-runc-v2 -r /usr/bin/crun"), None);
        assert_eq!(of("/usr/bin/conmon -r"), None);
        assert_eq!(of_conmon(&[]), None);
    }

    #[tokio::test]
    async fn a_program_that_others_can_change_is_not_run() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("fake");
        std::fs::write(&path, "#!/bin/sh\necho fake version 1.0\n").expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o757)).expect("made runnable");
        assert_eq!(OciRuntime::ask(path.clone()).await.version, None);
    }
}
