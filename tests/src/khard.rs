//! Running khard and reading what it says and writes. Knows its command line; nothing of its insides.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::ErrorKind,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use khard_profile::recording::Recording;
use serde_json::Value;
use tempfile::TempDir;

use crate::{cgroup, process::Owned, wait};

/// The folder of khard and of the tests' programs.
pub fn bin_dir() -> PathBuf {
    // A test program is in `deps` of the folder where programs are.
    let own = env::current_exe().expect("this program's path");
    own.parent().and_then(Path::parent).expect("target/PROFILE/deps").to_owned()
}

/// The program khard.
pub fn khard() -> PathBuf {
    let path = env::var_os("KHARD_BIN").map_or_else(|| bin_dir().join("khard"), PathBuf::from);
    assert!(path.exists(), "{} is not there: run `cargo xtask test`", path.display());
    path
}

/// The program whose steps are calls: see `src/bin/fixture.rs`.
pub fn fixture() -> Command {
    Command::new(bin_dir().join("fixture"))
}

/// A `khard` that says what happens.
pub fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(khard());
    command.arg("-v").args(args).env_remove("SUDO_UID").env_remove("SUDO_GID");
    command
}

/// The same command behind another: `unshare -m …` or so. Its environment is lost.
pub fn behind<S: AsRef<OsStr>>(before: impl IntoIterator<Item = S>, command: &Command) -> Command {
    let mut words = before.into_iter();
    let mut wrapped = Command::new(words.next().expect("a program"));
    wrapped.args(words).arg(command.get_program()).args(command.get_args());
    wrapped
}

/// A khard (or what is around one) under way, with its output in a folder of its own.
pub struct Running {
    child: Owned,
    dir: TempDir,
}

/// One that has ended.
pub struct Done {
    /// As a shell has it: 128 and the signal's number for a killed one.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
    /// Its output folder.
    pub out: PathBuf,
    /// Holds the folder.
    running: Running,
}

/// Starts `khard trace -o FOLDER --floor none ARGS`.
pub fn trace<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Running {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("out");
    let mut command =
        command(["trace".as_ref(), "--floor".as_ref(), "none".as_ref(), "-o".as_ref(), out.as_os_str()]);
    start_in(command.args(args), dir)
}

/// Starts any command.
pub fn start(command: &mut Command) -> Running {
    start_in(command, tempfile::tempdir().expect("a temporary folder"))
}

fn start_in(command: &mut Command, dir: TempDir) -> Running {
    let file = |name: &str| File::create(dir.path().join(name)).expect("a file in a new folder");
    command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    Running { child: Owned::spawn(command), dir }
}

impl Running {
    /// khard's process.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its output folder, if `-o` was left to [`trace`].
    pub fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("stdout")).unwrap_or_default()).into_owned()
    }

    /// Whether it goes on.
    pub fn is_running(&mut self) -> bool {
        self.child.is_running()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Waits until it says something.
    pub fn says(&mut self, text: &str) {
        wait::until(&format!("khard says {text:?}"), || {
            let said = self.stderr();
            assert!(
                said.contains(text) || self.child.is_running(),
                "khard has ended and did not say {text:?} but:\n{said}"
            );
            said.contains(text)
        });
    }

    /// Waits until what is named by `--wait` may start.
    pub fn is_ready(&mut self) {
        self.says("ready: ");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        self.child.signal(signal);
    }

    /// Waits for its end.
    pub fn end(mut self) -> Done {
        let status = self.child.wait();
        let dir = self.dir.path();
        let read = |name: &str| {
            let bytes = fs::read(dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Done { code, stdout: read("stdout"), stderr: read("stderr"), out: self.out(), running: self }
    }
}

impl Drop for Running {
    /// A killed khard leaves its command, in the cgroup that it made for it.
    fn drop(&mut self) {
        self.child.kill();
        let cgroup = cgroup::tree().mount().join(format!("khard-{}", self.pid()));
        if cgroup.exists() {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
            while cgroup.exists()
                && fs::remove_dir(&cgroup).is_err_and(|error| error.kind() == ErrorKind::ResourceBusy)
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Done {
    /// khard's process id, as it was.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Fails with all that khard said unless it ended with this status.
    #[expect(clippy::return_self_not_must_use, reason = "the status may be all that a test asks for")]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "khard said:\n{}", self.stderr);
        self
    }

    /// The recording in a folder below the output folder.
    pub fn recording(&self, name: &str) -> Recording {
        recording(&self.out.join(name).join("recording.json"))
    }

    /// The seccomp profile in a folder below the output folder.
    pub fn profile(&self, name: &str) -> Value {
        json(&self.out.join(name).join("seccomp.json"))
    }
}

/// A recording's file.
pub fn recording(path: &Path) -> Recording {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Recording::from_json(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a seccomp profile that khard wrote allows a call.
pub fn allows(profile: &Value, call: &str) -> bool {
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let mut allowing = rules.filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    allowing.any(|rule| rule["names"].as_array().into_iter().flatten().any(|name| name == call))
}

/// Every file below a folder, by its path there, sorted.
pub fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else {
                let below = path.strip_prefix(dir).expect("a path below the folder");
                found.push(below.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}
