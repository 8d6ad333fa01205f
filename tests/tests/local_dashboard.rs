//! The dashboard in a real terminal: keys are sent, screens are read, and what it writes is looked at.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use khard_profile::recording::Ended;
use khard_tests::{
    cgroup::TestCgroup,
    khard::{self, files_below},
    process::{self, Owned},
    tmux::Terminal,
    wait,
};
use tempfile::TempDir;

/// A dashboard that watches a cgroup with a process.
struct Watched {
    terminal: Terminal,
    cgroup: TestCgroup,
    sleeper: Owned,
    out: TempDir,
}

impl Watched {
    fn new(name: &str, env: &[&str], args: &[&str]) -> Self {
        Self::behind(&[], name, env, args)
    }

    /// As [`Self::new`], with a command before khard.
    fn behind(before: &[&str], name: &str, env: &[&str], args: &[&str]) -> Self {
        let cgroup = TestCgroup::new(name);
        let sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
        cgroup.add(sleeper.pid());
        let out = tempfile::tempdir().unwrap();
        let terminal = Terminal::new(120, 40, env);
        let mut command = khard::command(["tui", "--floor", "none", "--cgroup", cgroup.path()]);
        command.args(args).arg("-o").arg(out.path());
        match before {
            [] => terminal.run(&command),
            before => terminal.run(&khard::behind(before, &command)),
        }
        terminal.shows("running");
        Self { terminal, cgroup, sleeper, out }
    }

    /// Does something in the cgroup.
    fn work(&self, script: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"echo $$ > "$0" && exec sh -c "$1" > /dev/null"#]);
        shell.arg(self.cgroup.dir().join("cgroup.procs")).arg(script);
        assert!(Owned::spawn(&mut shell).wait().success());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.out.path().join(self.cgroup.name()).join(name)
    }

    /// Waits until the shell has its terminal again.
    fn is_over(&self) {
        wait::until("the dashboard ends", || !self.terminal.is_alternate());
        self.terminal.run(Command::new("stty").arg("-a"));
        let screen = self.terminal.shows("icanon");
        assert!(!screen.contains("-icanon") && !screen.contains("-echo "), "{screen}");
    }
}

#[test]
fn keys_show_what_a_subject_does_as_it_happens_and_what_is_written_is_what_was_shown() {
    let watched = Watched::new("shown", &[], &[]);
    let terminal = &watched.terminal;
    watched.work("ls /usr/share; cat /etc/passwd");
    terminal.key("2");
    terminal.shows("getdents64");
    terminal.key("3");
    terminal.shows("passwd");
    terminal.key("5");
    terminal.shows("SCMP_ACT_ERRNO");
    terminal.key("p");
    terminal.shows("abi <abi/3.0>");
    terminal.key("m");
    terminal.text("load test starts");
    terminal.key("Enter");
    terminal.key("6");
    terminal.shows("load test starts");
    terminal.key("7");
    terminal.shows("go on recording");
    terminal.key("w");
    terminal.shows("written to");
    let while_it_goes_on = khard::recording(&watched.file("recording.json"));
    assert_eq!(while_it_goes_on.runs().values().next().unwrap().ended, Ended::Running);
    assert!(fs::read_to_string(watched.file("seccomp.json")).unwrap().contains("getdents64"));
    terminal.key("q");
    terminal.shows("would be written to");
    terminal.key("y");
    watched.is_over();
    let recording = khard::recording(&watched.file("recording.json"));
    let run = recording.runs().values().next().unwrap();
    assert_eq!(run.ended, Ended::Interrupted);
    let labels: Vec<_> = run.marks.iter().map(|mark| mark.label.to_string_lossy().into_owned()).collect();
    assert_eq!(labels, ["load test starts"]);
    let mut sleeper = watched.sleeper;
    assert!(sleeper.is_running());
}

#[test]
fn a_frozen_screen_stays_while_the_recording_goes_on() {
    let watched = Watched::new("frozen", &[], &[]);
    let terminal = &watched.terminal;
    watched.work("true");
    terminal.key("2");
    terminal.shows("execve");
    terminal.key("f");
    terminal.shows("FROZEN");
    watched.work("ls /usr/share");
    // Time enough to be drawn, were it not held; that it is not is what the next screen would contradict.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!terminal.screen().contains("getdents64"), "{}", terminal.screen());
    terminal.key("f");
    terminal.shows("getdents64");
}

#[test]
fn who_quits_without_writing_leaves_no_recording() {
    let watched = Watched::new("forgotten", &[], &[]);
    watched.terminal.key("q");
    watched.terminal.shows("would be written to");
    watched.terminal.key("n");
    watched.is_over();
    let left = files_below(watched.out.path());
    assert!(left.iter().all(|file| file == "khard.log"), "{left:?}");
}

#[test]
fn sigterm_writes_everything_and_gives_the_terminal_back() {
    let watched = Watched::new("terminated", &[], &[]);
    watched.work("true");
    process::signal_to(watched.terminal.child(), libc::SIGTERM);
    watched.is_over();
    let recording = khard::recording(&watched.file("recording.json"));
    assert_eq!(recording.runs().values().next().unwrap().ended, Ended::Interrupted);
}

fn is_khard(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == khard::khard().canonicalize().unwrap())
}

#[test]
fn a_terminal_that_is_gone_ends_the_dashboard_and_everything_is_written() {
    let ignored = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    for before in [&[][..], &ignored[..]] {
        let watched = Watched::behind(before, "gone", &[], &[]);
        watched.work("true");
        let khard = watched.terminal.child();
        let file = watched.file("recording.json");
        drop(watched.terminal);
        wait::until("khard ends", || !process::is_alive(khard));
        assert_eq!(khard::recording(&file).runs().values().next().unwrap().ended, Ended::Interrupted);
    }
}

#[test]
fn a_terminal_that_is_gone_waits_for_the_command_that_it_ends() {
    let ignored = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    for before in [&[][..], &ignored[..]] {
        let (out, terminal) = (tempfile::tempdir().unwrap(), Terminal::new(120, 40, &[]));
        let slow = "trap 'sleep 3; exit' TERM HUP; echo ready; while :; do sleep 0.1; done";
        let mut command = khard::command(["trace", "--tui", "--floor", "none", "-o"]);
        command.arg(out.path()).args(["--", "sh", "-c", slow]);
        match before {
            [] => terminal.run(&command),
            before => terminal.run(&khard::behind(before, &command)),
        }
        let said = out.path().join("command.log");
        wait::until("a command that is ready", || {
            fs::read_to_string(&said).is_ok_and(|text| text == "ready\n")
        });
        terminal.shows("running");
        let khard = terminal.child();
        drop(terminal);
        wait::until("khard ends", || !process::is_alive(khard));
        let recording = khard::recording(&out.path().join("sh/recording.json"));
        assert_ne!(recording.runs().values().next().unwrap().ended, Ended::Checkpoint);
    }
}

#[test]
fn nothing_is_coloured_for_who_wants_no_colour_and_names_cannot_write_to_the_terminal() {
    let watched = Watched::new("plain", &["NO_COLOR=1", "TERM=xterm-256color"], &[]);
    let terminal = &watched.terminal;
    watched.work(r#"d=$(mktemp -d); touch "$d/$(printf 'a\033]0;title\007\033[31mred')"; rm -r "$d""#);
    terminal.key("3");
    terminal.key("End");
    terminal.shows(r"a\x1b]0;title\x07\x1b[31mred");
    let styled = terminal.styled_screen();
    let codes = styled.split('\x1b').skip(1).filter_map(|part| part.split_once('m'));
    for (codes, _) in codes {
        let is_colour = |code: &str| matches!(code.parse(), Ok(30..=38 | 40..=48 | 90..=107));
        assert!(!codes.trim_start_matches('[').split(';').any(is_colour), "{codes:?}");
    }
}

#[test]
fn a_command_under_the_dashboard_prints_to_a_file_and_its_end_is_shown() {
    let (out, terminal) = (tempfile::tempdir().unwrap(), Terminal::new(80, 24, &["TERM=xterm"]));
    let mut command = khard::command(["trace", "--tui", "--floor", "none", "-o"]);
    terminal.run(command.arg(out.path()).args(["--", "sh", "-c", "echo said; exit 3"]));
    terminal.shows("all subjects have ended");
    assert_eq!(fs::read_to_string(out.path().join("command.log")).unwrap(), "said\n");
    terminal.key("q");
    wait::until("the dashboard ends", || !terminal.is_alternate());
    terminal.shows("files     ");
    terminal.text("echo status $?");
    terminal.key("Enter");
    terminal.shows("status 3");
    // The same again, from the file.
    terminal.run(khard::command(["replay", "--tui"]).arg(out.path().join("sh")));
    terminal.shows("the end of the recording");
    terminal.key("2");
    terminal.shows("exit_group");
    terminal.key("q");
    wait::until("the replay ends", || !terminal.is_alternate());
}

#[test]
fn the_dashboard_shows_an_agent_behind_a_pipe_and_says_when_it_is_lost() {
    let agent = format!("{} agent --stdio", khard::khard().display());
    let watched = Watched::new("remote", &[], &["--via", &agent]);
    watched.work("ls /usr/share");
    watched.terminal.key("2");
    watched.terminal.shows("getdents64");
    let khard = watched.terminal.child();
    let agent =
        wait::value("the agent's process", || process::below(khard).into_iter().find(|pid| is_khard(*pid)));
    process::signal_to(agent, libc::SIGKILL);
    watched.terminal.shows("the agent was lost");
    watched.terminal.key("q");
    watched.is_over();
    let recording = khard::recording(&watched.file("recording.json"));
    assert_eq!(recording.runs().values().next().unwrap().ended, Ended::AgentLost);
}

#[test]
fn without_a_terminal_the_dashboard_is_refused_and_nothing_goes_on() {
    let cgroup = TestCgroup::new("none");
    let out = tempfile::tempdir().unwrap();
    let mut command = khard::command(["tui", "--cgroup", cgroup.path(), "-o"]);
    let done = khard::start(command.arg(out.path()).stdin(Stdio::null())).end().expect(2);
    assert!(done.stderr.contains("needs a terminal"), "{}", done.stderr);
}
