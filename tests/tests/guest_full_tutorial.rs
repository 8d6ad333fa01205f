//! docs/tutorial.md as its reader does it: its own commands in its own order, in one shell, on a node with containerd and AppArmor.
//! They must print what the page shows, and what it says of the machine must be so by the kernel's own files.
//!
//! What a guest lacks of the reader's machine is a registry and `crictl`: the image has its name beforehand, and `crictl` is
//! `src/bin/crictl.rs`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
};

use khard_tests::{apparmor, khard, node::status_field, process::Owned, wait};
use tempfile::TempDir;

const TUTORIAL: &str = include_str!("../../docs/tutorial.md");
const IMAGE: &str = "docker.io/library/busybox:1.36";

/// Commands of the page that fail, as it says; each is the last of its block. A block without one must succeed.
const FAILING: [&str; 4] =
    ["touch /tmp/two", "mkdir /tmp/dir", "khard lint k8s-deny-write", "khard lint violation.json"];

/// A block of commands, and the lines that the page shows below it.
#[derive(Debug, Default)]
struct Step {
    commands: String,
    shown: Vec<String>,
}

impl Step {
    /// All of a page.
    fn all(page: &str) -> Vec<Self> {
        let mut steps: Vec<Self> = Vec::new();
        let mut block = None;
        for line in page.lines() {
            match (line.strip_prefix("```"), block) {
                (Some("sh"), None) => {
                    steps.push(Self::default());
                    block = Some("sh");
                }
                (Some("text"), None) => block = Some("text"),
                (Some(_), Some(_)) => block = None,
                (Some(other), None) => panic!("a block of {other} in the tutorial"),
                (None, Some(kind)) => {
                    let step = steps.last_mut().expect("commands before what they print");
                    if kind == "sh" {
                        step.commands.push_str(line);
                        step.commands.push('\n');
                    } else {
                        step.shown.push(line.to_owned());
                    }
                }
                (None, None) => {}
            }
        }
        steps
    }

    fn has(&self, command: &str) -> bool {
        self.commands.contains(command)
    }

    /// What is shown is printed, in this order; other lines may stand between.
    fn check(&self, printed: &str) {
        let mut lines = printed.lines();
        for shown in &self.shown {
            assert!(
                lines.any(|line| fits(shown, line)),
                "not printed: {shown}\n{}printed:\n{printed}",
                self.commands
            );
        }
    }
}

/// Whether a line is as shown, `…` being anything.
fn fits(shown: &str, line: &str) -> bool {
    let mut parts: Vec<&str> = shown.trim().split('…').collect();
    let last = parts.pop().unwrap_or_default();
    let Some((first, between)) = parts.split_first() else { return line.trim() == last };
    let Some(mut rest) = line.trim().strip_prefix(first) else { return false };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// The reader's shell.
struct Shell {
    // Before the folder, in which it is.
    process: Owned,
    input: ChildStdin,
    dir: TempDir,
    n_steps: usize,
}

impl Shell {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Owned::spawn(
            Command::new("bash").current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::null()),
        );
        let input = process.stdin();
        Self { process, input, dir, n_steps: 0 }
    }

    /// What a block prints, and the status of its last command.
    fn run(&mut self, step: &Step) -> (String, i32) {
        self.n_steps += 1;
        let [output, new, status] =
            ["out", "new", "status"].map(|kind| self.dir.path().join(format!("{}.{kind}", self.n_steps)));
        File::create(&output).unwrap();
        let (o, n, s) = (output.display(), new.display(), status.display());
        // As the reader's terminal has it: both outputs, in order.
        let block = format!("{{\n{}}} >> {o} 2>&1\necho $? > {n}\nmv {n} {s}\n", step.commands);
        self.input.write_all(block.as_bytes()).unwrap();
        wait::until(&step.commands, || {
            assert!(self.process.is_running(), "the shell has ended in:\n{}", step.commands);
            status.exists()
        });
        let printed = String::from_utf8_lossy(&fs::read(&output).unwrap()).into_owned();
        println!("{}{printed}", step.commands);
        (printed, fs::read_to_string(&status).unwrap().trim().parse().unwrap())
    }
}

/// khard's profiles in the kernel, with their modes.
fn loaded() -> Vec<(String, String)> {
    let list = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap();
    let ours = list.lines().filter(|line| line.starts_with("khard-"));
    ours.filter_map(|line| line.strip_suffix(')')?.split_once(" ("))
        .map(|(name, mode)| (name.to_owned(), mode.to_owned()))
        .collect()
}

/// Files in which khard could leave something.
fn files() -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = ["/etc/apparmor.d", "/var/lib/khard", "/var/lib/kubelet"].map(Path::new);
    let below = |folder| khard::files_below(folder).into_iter().map(move |file| Path::new(folder).join(file));
    folders.into_iter().flat_map(below).map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// The container's first process that is under a profile, or has a filter if no profile is named.
fn sleeper(profile: Option<&str>) -> u32 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let has_label = |name| read("attr/apparmor/current").starts_with(name);
        read("cmdline") == "sleep\x003600\0"
            && profile.map_or_else(|| status_field(*pid, "Seccomp").as_deref() == Some("2"), has_label)
    };
    pids.find(is_it).expect("a container's process")
}

fn is_in_container(pid: u32, path: &str) -> bool {
    Path::new(&format!("/proc/{pid}/root{path}")).exists()
}

/// What the page says of the machine after a block, where a command alone does not show it.
fn look(step: &Step) {
    let modes = || loaded().into_iter().map(|(_, mode)| mode).collect::<Vec<_>>();
    if step.has("khard apply") {
        assert_eq!(modes(), ["complain"]);
    } else if step.has("touch /tmp/one") {
        assert!(is_in_container(sleeper(Some("khard-")), "/tmp/one"), "complain mode refuses nothing");
    } else if step.has("khard mode") {
        assert_eq!(modes(), ["enforce"]);
        let label =
            fs::read_to_string(format!("/proc/{}/attr/apparmor/current", sleeper(Some("khard-")))).unwrap();
        assert_eq!(label, format!("{} (enforce)\n", loaded()[0].0));
    } else if step.has("touch /tmp/two") {
        let pid = sleeper(Some("khard-"));
        assert!(is_in_container(pid, "/tmp/greeting") && !is_in_container(pid, "/tmp/two"));
    } else if step.has("mkdir /tmp/dir") {
        let pid = sleeper(None);
        assert!(is_in_container(pid, "/tmp/greeting") && !is_in_container(pid, "/tmp/dir"));
    } else if step.has("khard remove") {
        assert_eq!(loaded(), []);
    }
}

#[test]
fn the_tutorials_commands_do_what_it_says() {
    if !apparmor::is_here() {
        println!("KHARD-SKIP the_tutorials_commands_do_what_it_says: this kernel has no AppArmor");
        return;
    }
    let tag = ["-n", "k8s.io", "images", "tag", khard_tests::node::BUSYBOX, IMAGE];
    assert!(Command::new("ctr").args(tag).status().unwrap().success());
    let before = files();
    let steps = Step::all(TUTORIAL);
    for expected in FAILING.iter().chain(&["khard apply", "touch /tmp/one", "khard mode", "khard remove"]) {
        assert!(steps.iter().any(|step| step.has(expected)), "the tutorial has no {expected}");
    }
    let mut shell = Shell::start();
    for step in &steps {
        let (printed, status) = shell.run(step);
        let fails = FAILING.iter().any(|command| step.commands.trim_end().ends_with(command));
        assert_eq!(status, i32::from(fails), "{}{printed}", step.commands);
        step.check(&printed);
        look(step);
    }
    assert_eq!(files(), before, "nothing of khard's is left");
    assert!(!Path::new("/var/lib/khard").exists() && !Path::new("/var/lib/kubelet").exists());
}

#[test]
fn dots_are_anything_and_all_else_must_be_printed() {
    assert!(fits("hello", " hello"));
    assert!(fits("name-… mode …: it", "name-1f mode x: it"));
    assert!(fits("closed unshare, …", "closed unshare, setns"));
    for (shown, line) in
        [("hello", "hello you"), ("a-… b", "a-1 c"), ("a … b …", "a 1 c"), ("…: it", "x: it not")]
    {
        assert!(!fits(shown, line), "{shown} is not {line}");
    }
    let step = Step { commands: String::new(), shown: vec!["one".to_owned(), "two".to_owned()] };
    step.check("one\nmore\ntwo\n");
    assert!(std::panic::catch_unwind(|| step.check("two\none\n")).is_err(), "in another order");
}
