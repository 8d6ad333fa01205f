//! `khard ci`: a project's test run against its committed profiles.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use khard_tests::{
    khard::{self, Done, Running},
    program::Program,
};
use tempfile::TempDir;

/// A project: its tests read a file, and write one of a name that is never the same.
struct Project(TempDir);

impl Project {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("usual"), "").unwrap();
        fs::write(dir.path().join("planted"), "").unwrap();
        Program::new().call("getsid").exit(0).write(&dir.path().join("planted-call"));
        fs::write(dir.path().join("test.sh"), "cat usual\nmktemp\n").unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn plant(&self, line: &str) {
        let script = fs::read_to_string(self.path("test.sh")).unwrap();
        fs::write(self.path("test.sh"), format!("{line}\n{script}")).unwrap();
    }

    fn run(&self, args: &[&str]) -> Done {
        self.start(args).end()
    }

    fn start(&self, args: &[&str]) -> Running {
        khard::start(&mut self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let _ = fs::remove_dir_all(self.path("khard-ci"));
        let mut command = khard::command(["ci", "--baseline", "profiles"]);
        command.args(args).args(["--", "sh", "test.sh"]);
        command.current_dir(self.0.path()).env("GITHUB_STEP_SUMMARY", self.path("job.md"));
        command
    }

    /// As docs/ci.md says.
    fn accept(&self) {
        let copied =
            Command::new("cp").args(["-r", &self.path("khard-ci/."), &self.path("profiles")]).status();
        assert!(copied.unwrap().success());
    }

    fn summary(&self) -> String {
        fs::read_to_string(self.path("job.md")).unwrap()
    }
}

#[test]
fn the_same_tests_pass_five_times_and_what_is_planted_fails_until_it_is_accepted() {
    let project = Project::new();
    let first = project.run(&[]).expect(1);
    assert!(first.stdout.contains("sh has no committed profiles yet"), "{}", first.stdout);
    project.accept();
    for nth in 0..5 {
        let same = project.run(&[]);
        assert_eq!(same.code, 0, "run {nth}:\n{}{}", same.stdout, same.stderr);
    }
    project.plant("cat planted");
    project.plant("./planted-call");
    for _ in 0..10 {
        let more = project.run(&[]).expect(1);
        assert!(more.stdout.contains("1 subject needs more"), "{}", more.stdout);
        assert!(more.stdout.contains("getsid") && more.stdout.contains("planted"), "{}", more.stdout);
    }
    let summary = project.summary();
    assert!(summary.contains("| **added** | `getsid`"), "{summary}");
    assert!(summary.lines().any(|line| line.starts_with("| **added** | `") && line.contains("/planted`")));
    project.run(&["--fail-on", "nothing"]).expect(0);
    project.accept();
    project.run(&[]).expect(0);
}

#[test]
fn what_is_committed_is_never_overwritten_before_it_is_compared() {
    let project = Project::new();
    project.run(&[]).expect(1);
    project.accept();
    project.plant("./planted-call");
    std::os::unix::fs::symlink("profiles", project.path("link")).unwrap();
    for out in ["profiles", "./link", "profiles/new", "."] {
        let done = project.run(&["-o", out]).expect(125);
        assert!(done.stderr.contains("choose another folder with -o"), "{out}: {}", done.stderr);
    }
    project.run(&[]).expect(1);
}

#[test]
fn a_kind_of_profile_that_nobody_has_committed_is_told_and_without_any_the_gate_fails() {
    let project = Project::new();
    project.run(&["--floor", "none"]).expect(1);
    project.accept();
    fs::remove_file(project.path("profiles/sh/sh.apparmor")).unwrap();
    let one = project.run(&["--floor", "none"]).expect(0);
    assert!(
        one.stdout.contains("sh has no committed AppArmor profile: it was not compared"),
        "{}",
        one.stdout
    );
    assert!(
        project.summary().contains("**`sh`** has no committed AppArmor profile"),
        "{}",
        project.summary()
    );
    fs::remove_file(project.path("profiles/sh/seccomp.json")).unwrap();
    let none = project.run(&["--floor", "none"]).expect(1);
    assert!(none.stdout.contains("but no profile beside it"), "{}", none.stdout);
}

#[test]
fn what_the_last_runs_did_not_need_goes_and_what_is_redacted_is_not_shown() {
    let project = Project::new();
    project.plant("cat planted");
    project.plant("./planted-call");
    project.run(&[]).expect(1);
    project.accept();
    fs::write(project.path("test.sh"), "cat usual\nmktemp\n").unwrap();
    let has = |name: &str| {
        khard::allows(&khard::json(Path::new(&project.path(&format!("{name}/sh/seccomp.json")))), "getsid")
    };
    // By system calls files are inferred, and then a run tells nothing of absence: only system calls go.
    project.run(&["--forget-after", "2"]).expect(0);
    assert!(has("khard-ci"), "one run without it is not enough");
    project.accept();
    let done = project.run(&["--forget-after", "2", "--redact", "get[a-z]id"]).expect(0);
    assert!(!has("khard-ci") && has("profiles"));
    assert!(done.stdout.contains("[redacted]") && !done.stdout.contains("getsid"), "{}", done.stdout);
    let summary = project.summary();
    let last = summary.rsplit("\n## khard").next().unwrap();
    assert!(last.contains("| removed | `[redacted]`"), "{last}");
    project.accept();
    project.plant("./planted-call");
    project.run(&["--forget-after", "2"]).expect(1);
    let done = project.run(&["--redact", "("]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("--redact"), "{}", done.stderr);
}

#[test]
fn a_baseline_without_what_is_compared_is_named() {
    let project = Project::new();
    project.run(&[]).expect(1);
    project.accept();
    fs::remove_file(project.path("profiles/sh/recording.json")).unwrap();
    let done = project.run(&[]).expect(1);
    for told in [done.stdout, project.summary()] {
        assert!(told.contains("no recording.json beside them"), "{told}");
    }

    let ran = project.path("ran");
    let mut ci = khard::command(["ci", "--baseline", "/etc/passwd", "--", "touch", &ran]);
    let done = khard::start(ci.current_dir(project.0.path())).end().expect(125);
    assert!(done.stderr.contains("the baseline /etc/passwd is no folder"), "{}", done.stderr);
    assert!(!Path::new(&ran).exists(), "it is refused before anything runs");
}

#[test]
fn as_json_the_comparison_is_all_that_stands_on_stdout() {
    let project = Project::new();
    project.plant("echo of the tests");
    let run = |args: &[&str], code| {
        let done = project.run(&[["--json"].as_slice(), args].concat()).expect(code);
        assert!(done.stderr.contains("of the tests"), "{}", done.stderr);
        serde_json::from_str::<serde_json::Value>(&done.stdout).unwrap()
    };
    let first = run(&[], 1);
    assert_eq!(first["subjects"], serde_json::json!([{ "subject": "sh", "state": "new" }]));
    assert_eq!(
        (&first["incomplete"], &first["has_more"], &first["exit_status"], &first["lossy"]),
        (&serde_json::Value::Null, &true.into(), &1.into(), &false.into())
    );
    project.accept();
    assert_eq!(run(&[], 0)["has_more"], false);
    project.plant("./planted-call");
    project.plant("trap 'exit 7' EXIT");
    let more = run(&["--redact", "sid"], 7);
    assert_eq!((&more["has_more"], &more["exit_status"]), (&true.into(), &7.into()));
    assert!(more["incomplete"].as_str().unwrap().contains("exit status: 7"), "{more}");
    let seccomp = &more["subjects"][0]["differences"][0];
    assert_eq!(seccomp["compared"], "seccomp");
    assert!(
        seccomp["changes"].as_array().unwrap().iter().any(|one| one["what"] == "get[redacted]"),
        "{seccomp}"
    );
}

#[test]
fn names_are_redacted_wherever_they_are_shown_and_khards_own_words_are_not() {
    let project = Project::new();
    project.run(&[]).expect(1);
    project.accept();
    project.plant("cat planted");
    let told = project.run(&["--redact", "sh", "--redact", "^.*/planted$"]).expect(1).stdout;
    let summary = project.summary();
    let last = summary.rsplit("\n## khard").next().unwrap();
    for told in [told.as_str(), last] {
        assert!(told.contains("as AppArmor ships them") && !told.contains("planted"), "{told}");
        let of_subject = told.lines().find(|line| line.contains("AppArmor profile")).unwrap();
        assert!(of_subject.contains("[redacted]") && !of_subject.contains("sh"), "{told}");
    }

    fs::write(project.path("profiles/sh/recording.json"), "{}").unwrap();
    let done = project.run(&["--redact", r"sh\b"]).expect(125);
    assert!(done.stderr.contains("profiles/[redacted]/recording.json"), "{}", done.stderr);
    let error = done.stderr.lines().find(|line| line.contains("cannot compare")).unwrap();
    assert!(error.contains("cannot compare [redacted] with") && !error.contains("sh "), "{error}");
}

#[test]
fn what_failed_was_killed_or_cut_short_makes_nothing_superfluous() {
    let project = Project::new();
    project.plant("./planted-call");
    let whole = fs::read_to_string(project.path("test.sh")).unwrap();
    project.run(&[]).expect(1);
    project.accept();
    let allowed = || khard::json(Path::new(&project.path("profiles/sh/seccomp.json")));
    let before = allowed();
    assert!(khard::allows(&before, "getsid"));

    let run = |script: &str, args: &[&str], code| {
        fs::write(project.path("test.sh"), script).unwrap();
        let done = project.run(&[["--forget-after", "1"].as_slice(), args].concat()).expect(code);
        assert!(!done.stdout.contains("removed"), "{}", done.stdout);
        project.accept();
        assert!(khard::allows(&allowed(), "getsid"));
        done.stdout
    };
    for (script, code, why) in
        [("exit 7", 7, "COMMAND failed (exit status: 7)"), ("kill -9 $$", 137, "COMMAND failed (signal: 9")]
    {
        let told = run(script, &[], code);
        assert!(told.contains(why) && told.contains("an incomplete run"), "{told}");
        let summary = project.summary();
        assert!(summary.contains(&format!("## khard: {why}")), "{summary}");
        assert_eq!(allowed(), before);
    }
    // What it needs beyond is told, and the committed profiles are not its.
    let told = run("trap '' USR1; touch more; exit 3", &[], 3);
    assert!(told.contains("1 subject needs more") && told.contains("without this run"), "{told}");
    assert_eq!(allowed(), before);

    // One that takes khard's time limit for its regular end has done well, and yet not all that it may do.
    let serves = "trap 'exit 0' TERM\necho runs >&2\nwhile :; do sleep 0.05; done";
    let told = run(serves, &["--duration", "3s", "--fail-on", "nothing"], 0);
    assert!(!told.contains("incomplete"), "{told}");
    let mut interrupted = project.start(&["--forget-after", "1"]);
    interrupted.says("runs");
    interrupted.signal(15);
    let done = interrupted.end().expect(125);
    assert!(done.stdout.contains("COMMAND was interrupted (exit status: 0)"), "{}", done.stdout);
    project.accept();
    assert!(khard::allows(&allowed(), "getsid"));

    fs::write(project.path("test.sh"), whole).unwrap();
    project.run(&["--forget-after", "1"]).expect(0);
}

#[test]
fn failing_tests_say_more_than_the_gate_and_a_misspelt_policy_is_refused() {
    let project = Project::new();
    project.plant("trap 'exit 7' EXIT");
    project.run(&[]).expect(7);
    assert!(Path::new(&project.path("khard-ci/sh/seccomp.json")).exists(), "it was recorded all the same");
    fs::write(project.path("khard.toml"), "[ci]\nfail-no = \"any\"\n").unwrap();
    let done = project.run(&[]).expect(125);
    assert!(done.stderr.contains("khard.toml") && done.stderr.contains("fail-no"), "{}", done.stderr);
    fs::write(project.path("khard.toml"), "[ci]\nfail-on = \"nothing\"\n").unwrap();
    fs::write(project.path("test.sh"), "cat usual\n").unwrap();
    project.run(&[]).expect(0);
}

#[test]
fn khards_own_failure_is_said_and_hides_no_failing_test() {
    let project = Project::new();
    project.run(&[]).expect(1);
    project.accept();
    let run = |code: i32, says: &str, summary: &str| {
        fs::write(project.path("test.sh"), format!("cat usual; exit {code}")).unwrap();
        let mut command = project.command(&[]);
        let done = khard::start(command.env("GITHUB_STEP_SUMMARY", summary)).end();
        assert_eq!(done.code, if code == 0 { 125 } else { code }, "{}", done.stderr);
        assert!(done.stderr.contains(says), "no {says:?} in {}", done.stderr);
        done
    };
    for code in [4, 0] {
        let done = run(code, "No such file or directory", "/nonexistent/folder/job.md");
        for words in ["/nonexistent/folder/job.md", "GITHUB_STEP_SUMMARY", "make its folder"] {
            assert!(done.stderr.contains(words), "no {words:?} in {}", done.stderr);
        }
        assert!(done.stdout.contains("khard: "), "it is told all the same: {}", done.stdout);
    }
    fs::write(project.path("profiles/sh/recording.json"), "{}").unwrap();
    for code in [5, 0] {
        run(code, "cannot use profiles/sh/recording.json as a recording", "");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_khards_own_failure() {
    let refused = |args: &[&str], code| {
        let done = khard::start(&mut khard::command(args)).end().expect(code);
        assert!(done.stdout.is_empty() && !done.stderr.is_empty());
    };
    refused(&["ci", "--baseline", "profiles", "--redact", "(", "--", "true"], 125);
    refused(&["ci", "--", "true"], 125);
    refused(&["ci", "--baseline", "profiles"], 125);
    refused(&["trace", "--attach", "magic", "--", "true"], 125);
    refused(&["verify", "--", "true"], 125);
    refused(&["trace", "--attach", "magic"], 2);
    khard::start(&mut khard::command(["ci", "--help"])).end().expect(0);
}

#[test]
fn a_command_that_cannot_be_started_has_the_status_that_shells_give() {
    let project = Project::new();
    for (command, code) in [("./usual", 126), ("./none", 127)] {
        let mut ci = khard::command(["ci", "--baseline", "profiles", "--", command]);
        khard::start(ci.current_dir(project.0.path())).end().expect(code);
    }
}

/// The script of the action's first step, which does all but keep the artifact.
fn script_of_the_action() -> String {
    let (_, after) =
        include_str!("../../action.yml").split_once("      run: |\n").expect("a step with a script");
    let lines = after.lines().map_while(|line| line.strip_prefix("        "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// That step as a runner has it: bash for the script, and each input in a variable.
fn step_of_the_action(project: &Project, command: &str) -> Command {
    let mut step = Command::new("bash");
    step.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &script_of_the_action()]);
    step.current_dir(project.0.path()).env("KHARD", khard::khard()).env("KHARD_COMMAND", command);
    step.env("KHARD_BASELINE", "profiles").env("KHARD_OUTPUT", "khard-ci");
    step.env("KHARD_ARGUMENTS", "--forget-after 5 --redact usual");
    step.env("GITHUB_STEP_SUMMARY", project.path("job.md"));
    step
}

#[test]
fn behind_sudo_the_action_runs_the_tests_as_who_runs_the_job_with_what_earlier_steps_have_set() {
    let project = Project::new();
    fs::set_permissions(project.0.path(), Permissions::from_mode(0o755)).unwrap();
    let program = |path: &str, text: &str| {
        let path = project.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    };
    // The test is root and may be without sudo: this one does to the environment what sudo does with Debian's sudoers.
    program("runner/id", "#!/bin/sh\ncase $1 in -u) echo 65534;; -un) echo nobody;; esac\n");
    program(
        "runner/sudo",
        "#!/bin/sh
safe=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ \"$1\" = --preserve-env ] || exec env -i PATH=$safe \"$@\"
shift
exec env PATH=$safe \"$@\"
",
    );
    program("tools/tool-of-setup", "#!/bin/sh\necho \"tool of $(/usr/bin/id -un), $SET_BEFORE, $HOME\"\n");
    let path = std::env::var("PATH").unwrap();
    let mut step = step_of_the_action(&project, "tool-of-setup");
    step.env("PATH", format!("{}:{}:{path}", project.path("runner"), project.path("tools")));
    step.env("SET_BEFORE", "a variable");
    let done = khard::start(&mut step).end().expect(1);
    assert!(done.stdout.contains("tool of nobody, a variable, /nonexistent"), "{}", done.stdout);
    assert!(project.summary().contains("has no committed profiles yet"), "{}", project.summary());
}

#[test]
fn the_action_runs_the_tests_compares_and_hands_on_their_status() {
    let project = Project::new();
    let run = |command: &str| khard::start(&mut step_of_the_action(&project, command)).end();
    run("sh test.sh").expect(1);
    let folders: Vec<_> = fs::read_dir(project.path("khard-ci")).unwrap().flatten().collect();
    assert!(!folders.is_empty());
    project.accept();
    let same = run("sh test.sh").expect(0);
    assert!(same.stdout.contains("needs nothing"), "{}", same.stdout);
    run("sh test.sh; false").expect(1);
    run("exit 9").expect(9);
    run("./planted-call; sh test.sh").expect(1);
    assert!(project.summary().contains("| **added** | `getsid`"), "{}", project.summary());

    let mut without = step_of_the_action(&project, "sh test.sh");
    let done = khard::start(without.env("KHARD", "no-khard-here")).end().expect(127);
    assert!(done.stderr.contains("there is no program no-khard-here: install khard"), "{}", done.stderr);
    // As YAML has a text of several lines.
    let mut lines = step_of_the_action(&project, "sh test.sh");
    let done = khard::start(lines.env("KHARD_ARGUMENTS", "--forget-after 5\n--redact (\n")).end().expect(125);
    assert!(done.stderr.contains("--redact"), "the second line is an argument too: {}", done.stderr);
}
