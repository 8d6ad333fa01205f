//! Commands and signals: exit statuses, users, terminals, Ctrl-C, SIGTERM.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use khard_profile::recording::{Ended, Phase};
use khard_tests::{
    cgroup::TestCgroup,
    khard::{self, files_below},
    observed::{all_calls, calls},
    process::{Owned, is_alive, signal_to},
    wait,
};
use tempfile::TempDir;

fn script(text: &str) -> [&str; 4] {
    ["--", "sh", "-c", text]
}

#[test]
fn a_commands_exit_status_is_khards() {
    khard::trace(script("exit 7")).end().expect(7);
    khard::trace(script("kill -KILL $$")).end().expect(128 + libc::SIGKILL);
    khard::trace(["--", "true"]).end().expect(0);
}

#[test]
fn a_command_that_cannot_be_started_has_the_status_that_shells_give() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let plain = plain.to_str().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "#!/khard-test-no-such-interpreter\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap();
    for (program, code, words) in [
        (script, 127, [script, "no interpreter"]),
        ("khard-test-no-such-program", 127, ["khard-test-no-such-program", "PATH"]),
        (plain, 126, [plain, "cannot execute"]),
        ("/", 126, ["/", "cannot execute"]),
    ] {
        let done = khard::trace(["--", program]).end().expect(code);
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{}", done.stderr);
        assert_eq!(files_below(&done.out), [""; 0]);
    }
}

#[test]
fn a_command_runs_as_the_user_it_is_told_with_that_users_groups_and_home() {
    let who = "echo $(id -u):$(id -g):$(id -G):$HOME";
    for (user, expected) in [
        ("nobody", "65534:65534:65534:/nonexistent"),
        ("65534", "65534:65534:65534:/nonexistent"),
        ("12345", "12345:12345:12345:"),
        ("12345:54321", "12345:54321:54321:"),
    ] {
        let mut command = khard::command(["trace", "--floor", "none", "--user", user, "-o"]);
        let dir = tempfile::tempdir().unwrap();
        let done = khard::start(command.arg(dir.path()).args(script(who))).end().expect(0);
        assert!(done.stdout.starts_with(expected), "{user}: {}", done.stdout);
        let recording = khard::recording(&dir.path().join("sh/recording.json"));
        assert!(!calls(&recording, Phase::Workload).contains("setgroups"), "that was khard's own");
    }
    let done = khard::trace(["--user", "khard-test-nobody", "--", "true"]).end().expect(125);
    assert!(
        done.stderr.contains("khard-test-nobody") && done.stderr.contains("/etc/passwd"),
        "{}",
        done.stderr
    );
}

#[test]
fn sigterm_ends_a_command_and_its_recording_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let text = format!("touch {}; exec sleep 1000", ready.display());
    let khard = khard::trace(script(&text));
    wait::until("the command runs", || ready.exists());
    khard.signal(libc::SIGTERM);
    let done = khard.end().expect(128 + libc::SIGTERM);
    let recording = done.recording("sh");
    assert!(recording.runs().values().all(|run| run.ended == Ended::SubjectEnded));
    assert!(all_calls(&recording).contains("execve"));
    assert_eq!(
        files_below(&done.out),
        ["sh/recording.json", "sh/seccomp.json", "sh/sh.apparmor", "sh/summary.md"]
    );
    assert!(!command_cgroup(done.pid()).exists());
}

/// What the first process tells the others at its end belongs to its profile, and nothing of it is done where they are told by khard.
#[test]
fn a_commands_first_process_alone_is_asked_to_end_and_the_others_once_it_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (early, late) = (dir.path().join("early"), dir.path().join("late"));
    let text = format!(
        "sh -c 'trap \"echo > {early}\" TERM; while :; do sleep 0.05; done' & worker=$!
         sh -c 'trap \"echo > {late}; exit\" TERM; while :; do sleep 0.05; done' &
         trap 'sleep 0.5; kill -KILL $worker; exit 0' TERM
         while :; do sleep 0.05; done",
        early = early.display(),
        late = late.display()
    );
    khard::trace(["--duration", "2s"].iter().copied().chain(script(&text))).end().expect(0);
    assert!(
        !early.exists() && late.exists(),
        "it was asked to end by khard before the first process had ended"
    );
}

#[test]
fn a_first_process_that_does_not_end_is_told_of_and_the_others_are_asked_too() {
    let dir = tempfile::tempdir().unwrap();
    let asked = dir.path().join("asked");
    let text = format!(
        "sh -c 'trap \"echo > {asked}; exit\" TERM; while :; do sleep 0.1; done' &
         trap '' TERM
         while [ ! -e {asked} ]; do sleep 0.1; done",
        asked = asked.display()
    );
    let done = khard::trace(["--duration", "1s"].iter().copied().chain(script(&text))).end().expect(0);
    assert!(done.stderr.contains("the command goes on 10 s after it was asked to end"), "{}", done.stderr);
}

#[test]
fn what_a_command_has_left_running_does_not_keep_a_recording_beyond_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let text = format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & exec sleep 1000", pid.display());
    let done = khard::trace(["--duration", "2s"].iter().copied().chain(script(&text))).end().expect(143);
    let ended: Vec<_> = done.recording("sh").runs().values().map(|run| run.ended).collect();
    assert_eq!(ended, [Ended::Duration]);
    let left: u32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    assert!(is_alive(left), "it is nobody's to end");
    signal_to(left, libc::SIGTERM);
}

/// The cgroup that khard makes for a command.
fn command_cgroup(pid: u32) -> PathBuf {
    khard_tests::cgroup::tree().mount().join(format!("khard-{pid}"))
}

#[test]
fn a_second_signal_abandons_a_command_that_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, asked) = (dir.path().join("ready"), dir.path().join("asked"));
    let text = format!(
        "trap 'touch {}' TERM; touch {}; while :; do sleep 0.05; done",
        asked.display(),
        ready.display()
    );
    let khard = khard::trace(script(&text));
    wait::until("the command runs", || ready.exists());
    khard.signal(libc::SIGTERM);
    wait::until("the command was asked", || asked.exists());
    khard.signal(libc::SIGTERM);
    let done = khard.end().expect(125);
    assert!(done.stderr.contains("abandoned"), "{}", done.stderr);
    let left = files_below(&done.out);
    assert!(left.iter().all(|file| file.ends_with("recording.checkpoint.json")), "{left:?}");
}

#[test]
fn ctrl_c_ends_the_recording_of_a_cgroup_and_not_its_workload() {
    let cgroup = TestCgroup::new("attached");
    let mut sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut khard = khard::trace(["--cgroup", cgroup.path()]);
        khard.says("recording /");
        khard.signal(signal);
        let done = khard.end().expect(0);
        assert!(done.recording(cgroup.name()).runs().values().all(|run| run.ended == Ended::Interrupted));
        assert!(sleeper.is_running());
    }
}

#[test]
fn a_recording_ends_when_its_time_is_over() {
    let cgroup = TestCgroup::new("timed");
    let mut sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let done = khard::trace(["--cgroup", cgroup.path(), "--duration", "1s"]).end().expect(0);
    assert!(done.recording(cgroup.name()).runs().values().all(|run| run.ended == Ended::Duration));
    assert!(sleeper.is_running());
}

#[test]
fn a_cgroup_may_be_named_as_proc_or_as_the_file_system_shows_it() {
    let cgroup = TestCgroup::new("spelled");
    let sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let mounted = cgroup.dir().to_str().unwrap();
    for path in [mounted, cgroup.name(), &format!("/./{}/", cgroup.name())] {
        let done = khard::trace(["--cgroup", path, "--duration", "1s"]).end().expect(0);
        assert_eq!(done.recording(cgroup.name()).runs().len(), 1, "{path}");
    }
}

#[test]
fn two_reasons_to_end_are_not_a_user_who_asks_twice() {
    // It is asked to end when nothing new comes, and takes longer than the time that it has.
    let slow = "trap 'sleep 5; exit 0' TERM; while :; do sleep 0.1; done";
    let args = ["--until-quiet", "1s", "--duration", "3s", "--", "sh", "-c", slow];
    let done = khard::trace(args).end().expect(0);
    let ended: Vec<_> = done.recording("sh").runs().values().map(|run| run.ended).collect();
    assert!(matches!(ended[..], [Ended::Quiet | Ended::Duration]), "{ended:?}");
}

/// A khard on a terminal of its own, by script(1).
struct Terminal {
    script: Owned,
    keys: std::process::ChildStdin,
    dir: TempDir,
}

impl Terminal {
    fn start(dir: TempDir, khard: &Command) -> Self {
        let words = std::iter::once(khard.get_program()).chain(khard.get_args());
        let quoted: Vec<_> =
            words.map(|word| format!("'{}'", word.to_str().expect("text").replace('\'', r"'\''"))).collect();
        let screen = File::create(dir.path().join("screen")).unwrap();
        let mut script = Command::new("script");
        // In the shell's place: a shell that stays gets the Ctrl-C as well, and ends by it.
        let line = format!("exec {}", quoted.join(" "));
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(screen).stderr(Stdio::inherit());
        let mut script = Owned::spawn(&mut script);
        let keys = script.stdin();
        Self { script, keys, dir }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("screen")).unwrap()).into_owned()
    }

    fn end(&mut self) -> i32 {
        self.script.wait().code().expect("script(1) exits")
    }
}

fn trace_to(dir: &Path) -> Command {
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    command.arg(dir);
    command
}

/// What the live line has and nothing else.
const LIVE: &str = "last new:";

#[test]
fn a_live_line_is_shown_on_a_terminal_that_no_command_owns() {
    let dir = tempfile::tempdir().unwrap();
    let cgroup = TestCgroup::new("live");
    let sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let out = dir.path().join("out");
    let mut terminal = Terminal::start(dir, trace_to(&out).args(["--cgroup", cgroup.path()]));
    wait::until("a live line", || terminal.screen().contains(LIVE));
    terminal.keys.write_all(b"\x03").unwrap();
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(terminal.screen().contains("lost 0"), "{}", terminal.screen());
    assert!(out.join(cgroup.name()).join("seccomp.json").exists());
}

#[test]
fn a_command_has_the_terminal_for_itself_and_one_ctrl_c_reaches_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let (out, ready, got, go) = (file("out"), file("ready"), file("got"), file("go"));
    // Fields of proc_pid_stat(5): its process group, and the terminal's foreground group.
    let text = format!(
        "n=0; trap 'n=$((n + 1)); touch {}' INT
         read -r pid comm state ppid group session tty foreground rest < /proc/self/stat
         echo owner $((group == foreground)); touch {}
         until [ -e {} ]; do sleep 0.05; done
         sleep 0.3; echo interrupts $n",
        got.display(),
        ready.display(),
        go.display()
    );
    let mut terminal = Terminal::start(dir, trace_to(&out).args(script(&text)));
    wait::until("the command runs", || ready.exists());
    terminal.keys.write_all(b"\x03").unwrap();
    wait::until("the command gets Ctrl-C", || got.exists());
    fs::write(go, "").unwrap();
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    let screen = terminal.screen();
    assert!(screen.contains("owner 1") && screen.contains("interrupts 1"), "{screen}");
    assert!(!screen.contains(LIVE), "{screen}");
    assert!(out.join("sh/recording.json").exists());
}
