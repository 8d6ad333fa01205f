//! Workloads that are commands: scripts with what they must print (`tests/workloads`). Owns running one alone, under khard,
//! and under an AppArmor profile, always at the same place, so that runs can be compared. Knows nothing of what is compared.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use khard_profile::recording::Recording;
use khard_user::bpf::skips_fexit;

use crate::{
    apparmor::Loaded,
    kernel::{accepting_bounds, preempts_programs},
    khard::{self, Done},
    process::Owned,
    wait,
};

/// A script and what it prints; `None` if that is not known beforehand.
struct Script {
    name: &'static str,
    /// `None`: it is the program `exercise`.
    text: Option<&'static str>,
    /// Of `exercise`.
    steps: &'static [&'static str],
    output: Option<&'static str>,
    /// Programs without which it cannot run, by path: a shell's pattern of one `*` at most.
    needs: &'static [&'static str],
}

macro_rules! script {
    ($name:literal, $needs:expr) => {
        Script {
            name: $name,
            text: Some(include_str!(concat!("../workloads/", $name, ".sh"))),
            steps: &[],
            output: Some(include_str!(concat!("../workloads/", $name, ".out"))),
            needs: $needs,
        }
    };
}

const SCRIPTS: [Script; 11] = [
    script!("nginx", &["/usr/sbin/nginx", "/usr/bin/curl"]),
    script!("redis", &["/usr/bin/redis-server", "/usr/bin/redis-cli"]),
    script!("postgres", &["/usr/lib/postgresql"]),
    script!("python", &["/usr/bin/python3", "/usr/bin/curl"]),
    script!("coreutils", &[]),
    script!("paths", &[]),
    script!("attempts", &["/usr/bin/setpriv"]),
    script!("git", &["/usr/bin/git"]),
    script!("gcc", &["/usr/bin/gcc"]),
    Script { name: "exercise", text: None, steps: &["all"], output: None, needs: &[] },
    // One step of it alone: without hooks, khard says that it does not see what the kernel opens of the layers.
    Script { name: "overlay", text: None, steps: &["overlay"], output: None, needs: &[] },
];

/// A workload at its place.
pub struct Workload {
    script: &'static Script,
    dir: PathBuf,
    file: PathBuf,
    port: u16,
}

impl Workload {
    /// By name.
    pub fn new(name: &str) -> Self {
        let script = SCRIPTS.iter().find(|script| script.name == name);
        let script = script.unwrap_or_else(|| panic!("no workload {name}"));
        // A path without random letters, on a file system that has disk behind it.
        let dir = PathBuf::from(format!("/var/tmp/khard-{}-{name}", std::process::id()));
        let file = dir.with_extension("sh");
        fs::write(&file, script.text.unwrap_or_default()).expect("a file in /var/tmp");
        Self { script, dir, file, port: free_port() }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.script.name
    }

    /// What this machine lacks for it.
    pub fn missing(&self) -> Option<&'static str> {
        self.script.needs.iter().find(|path| !Path::new(path).exists()).copied()
    }

    /// The words of its command. Its folder is new and empty.
    fn fresh(&self) -> Vec<String> {
        let _ = fs::remove_dir_all(&self.dir);
        fs::create_dir(&self.dir).expect("a folder in /var/tmp");
        // Some of it is done by other users.
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).expect("our own folder");
        let text = |path: &Path| path.to_str().expect("a path of letters").to_owned();
        match &self.script.text {
            // Without a shell between the profile and it: see `apparmor::complaining`.
            None => {
                let steps = self.script.steps.iter().map(ToString::to_string);
                let program = text(&khard::bin_dir().join("exercise"));
                std::iter::once(program).chain(steps).chain([text(&self.dir)]).collect()
            }
            Some(_) => vec!["/bin/sh".to_owned(), text(&self.file), text(&self.dir), self.port.to_string()],
        }
    }

    /// Fails unless this is what it prints.
    pub fn assert_output(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!(code, 0, "{} failed; it printed:\n{stdout}\nand said:\n{stderr}", self.name());
        if let Some(expected) = self.script.output {
            assert_eq!(stdout, expected, "{} printed something else and said:\n{stderr}", self.name());
        }
    }

    /// Runs it as the command of a `khard trace`: its recording, and what it printed.
    pub fn traced(&self, attach: &str, args: &[&str]) -> Done {
        let command = self.fresh();
        let mut words = vec!["--attach", attach, "--name", self.name()];
        words.extend(bounded(attach));
        words.extend(args);
        words.push("--");
        words.extend(command.iter().map(String::as_str));
        khard::trace(words).end()
    }

    /// Runs it under a profile; its status and what it printed.
    pub fn confined(&self, profile: &Loaded) -> Ran {
        let mut command = with_path(khard::fixture());
        command.args(["confine", profile.name(), "exec"]).args(self.fresh());
        ran(&mut command)
    }

    /// Runs it under a profile as the command of a `khard trace`. What is recorded begins with a program that puts itself
    /// under the profile at its next exec ([`BEFORE_THE_PROFILE`]); of that and of the exec AppArmor is asked nothing.
    pub fn confined_and_traced(&self, profile: &Loaded, attach: &str) -> (Done, Recording) {
        let before = khard::fixture();
        let before = before.get_program().to_str().expect("a path of letters");
        let command = self.fresh();
        let mut words = vec!["--attach", attach, "--name", self.name()];
        words.extend(bounded(attach));
        words.extend(["--", before, "confine", profile.name(), "exec"]);
        words.extend(command.iter().map(String::as_str));
        let done = khard::trace(words).end().expect(0);
        let recording = done.recording(self.name());
        (done, recording)
    }
}

/// As [`accepting_bounds`], by one means of seeing accesses.
fn bounded(attach: &str) -> Vec<&'static str> {
    let mut words = accepting_bounds().to_vec();
    if attach == "fexit" && skips_fexit() || attach == "syscall" && preempts_programs() {
        words.extend(["--accept-lossy", "accesses"]);
    }
    words
}

/// The name of the program that [`Workload::confined_and_traced`] begins with.
pub const BEFORE_THE_PROFILE: &str = "fixture";

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_file(&self.file);
    }
}

/// How a run of a workload ended.
pub struct Ran {
    /// Its exit status, or -1 after a signal or if it did not end.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

fn ran(command: &mut Command) -> Ran {
    // Files, not pipes: a daemon that a workload leaves behind must not keep us waiting.
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| fs::File::create(dir.path().join(name)).expect("a file in a new folder");
    command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    let mut child = Owned::spawn(command);
    // What hangs is judged by what it was denied until then: no panic here. It is killed; a daemon of it stays.
    let began = Instant::now();
    while child.is_running() && began.elapsed() < wait::limit() {
        thread::sleep(Duration::from_millis(20));
    }
    let code = if child.is_running() { -1 } else { child.wait().code().unwrap_or(-1) };
    child.kill();
    let read = |name: &str| {
        String::from_utf8_lossy(&fs::read(dir.path().join(name)).unwrap_or_default()).into_owned()
    };
    Ran { code, stdout: read("stdout"), stderr: read("stderr") }
}

/// The tests' programs are found by name.
fn with_path(mut command: Command) -> Command {
    let own = Path::new(command.get_program()).parent().expect("a folder of programs").to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(own).chain(env::split_paths(&path))).expect("a PATH");
    command.env("PATH", path);
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A test of each name, which is a function's call with the name of a workload.
#[macro_export]
macro_rules! of_workloads {
    ($is:ident: $($test:ident: $name:literal,)*) => { $(
        #[test]
        fn $test() {
            $is($name);
        }
    )* };
}
