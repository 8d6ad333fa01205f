//! The session stream: an agent behind a pipe records what one in khard's own process does, and what becomes of a stream that is cut,
//! stalled or none.

use std::{collections::BTreeSet, fs, process::Command};

use khard_profile::recording::{AccessKey, Coverage, Ended, From, Proof, Recording, Run};
use khard_tests::{
    cgroup::TestCgroup,
    khard::{self, Done, Running},
    observed,
    process::{self, Owned},
    wait,
};

/// The agent, as a command for `--via`.
fn agent() -> String {
    format!("{} agent --stdio", khard::khard().display())
}

/// A recording of a cgroup by the agent behind a command.
fn via(command: &str, cgroup: &TestCgroup, args: &[&str]) -> Running {
    let mut all = vec!["--via", command, "--cgroup", cgroup.path()];
    all.extend(args);
    khard::trace(all)
}

/// Work of many kinds, in a cgroup.
fn work(cgroup: &TestCgroup) {
    let script = "ls -l /etc /usr/bin; cat /etc/passwd; d=$(mktemp -d); cp /etc/passwd $d/a; mv $d/a $d/b; \
                  ln $d/b $d/c; rm -r $d; (exit 3); true & wait; sleep 0.2";
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"echo $$ > "$0" && exec sh -c "$1" > /dev/null"#]);
    shell.arg(cgroup.dir().join("cgroup.procs")).arg(script);
    assert!(Owned::spawn(&mut shell).wait().success());
}

fn of(done: &Done, cgroup: &TestCgroup) -> (Recording, Run) {
    let recording = done.recording(cgroup.name());
    let run = recording.runs().values().next().unwrap().clone();
    (recording, run)
}

/// What was seen, and in which phases, in words.
fn facts(recording: &Recording) -> BTreeSet<String> {
    let calls = recording.syscalls().iter().map(|(key, seen)| (observed::name(*key), seen));
    let accesses = recording.accesses().iter().map(|(key, seen)| (format!("{key:?}"), seen));
    calls.chain(accesses).map(|(what, seen)| format!("{what} ({})", seen.phases())).collect()
}

/// Coverage without the counts of what this kernel skipped in programs of one khard.
fn coverage(run: &Run) -> Vec<(&'static str, Coverage)> {
    let without_counts = |coverage: &Coverage| {
        let mut coverage = coverage.clone();
        if let Coverage::Exact(observed) | Coverage::Inferred(observed) = &mut coverage
            && let Proof::Complete { misses } = &mut observed.proof
        {
            misses.clear();
        }
        coverage
    };
    run.coverage.classes().map(|(class, coverage)| (class, without_counts(coverage))).collect()
}

#[test]
fn one_run_recorded_here_and_through_a_pipe_gives_the_same_observations_phases_and_coverage() {
    let cgroup = TestCgroup::planned("twice");
    let mut here = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
    let mut there = via(&agent(), &cgroup, &["--wait"]);
    here.is_ready();
    there.is_ready();
    cgroup.make();
    work(&cgroup);
    cgroup.remove();
    let (here, there) = (here.end().expect(0), there.end().expect(0));
    let ((local, local_run), (remote, remote_run)) = (of(&here, &cgroup), of(&there, &cgroup));
    assert!(local.syscalls().len() > 30 && local.accesses().len() > 30, "{:?}", local.syscalls().len());
    let (local_facts, remote_facts) = (facts(&local), facts(&remote));
    let differences: Vec<_> = local_facts.symmetric_difference(&remote_facts).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(coverage(&local_run), coverage(&remote_run));
    assert_eq!(local_run.coverage.syscalls.observed().unwrap().from, From::FirstInstruction);
    assert_eq!((local_run.ended, remote_run.ended), (Ended::SubjectEnded, Ended::SubjectEnded));
    let profiles =
        [here, there].map(|done| fs::read(done.out.join(cgroup.name()).join("seccomp.json")).unwrap());
    assert_eq!(profiles[0], profiles[1]);
}

/// A filter that does something once the words that name a subject have passed.
fn after_the_first_words(act: &str) -> String {
    let first = told_at_first();
    format!(
        "perl -e '$| = 1; binmode STDIN; binmode STDOUT; my $n = 0; \
         while ($n < {first} and my $got = sysread STDIN, $_, {first} - $n) {{ $n += $got; print }} {act} \
         print while sysread STDIN, $_, 65536'"
    )
}

/// How many bytes an agent tells of a sleeper before its first pulse.
fn told_at_first() -> usize {
    let cgroup = TestCgroup::new("sized");
    let sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let mut khard = via(&format!("{} | tee {}", agent(), copy.display()), &cgroup, &[]);
    khard.says("recording /");
    khard.signal(libc::SIGINT);
    khard.end().expect(0);
    let told = fs::read(copy).unwrap();
    let pulse = told.windows(8).position(|part| part == b"{\"pulse\"").unwrap();
    pulse - 4
}

/// A sleeper in a cgroup, recorded by an agent that khard loses; what khard wrote.
fn lost(name: &str, through: &str) -> (Done, Run) {
    let cgroup = TestCgroup::new(name);
    let sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let done = via(&format!("{} | {through}", agent()), &cgroup, &["--duration", "60s"]).end().expect(2);
    let (_, run) = of(&done, &cgroup);
    (done, run)
}

#[test]
fn a_stream_that_is_cut_leaves_a_recording_that_says_so() {
    // Within the words that come with each second.
    for more in [1, 10, 33] {
        let at = told_at_first() + more;
        let (done, run) = lost("cut", &format!("head -c {at}"));
        let is_said =
            done.stderr.contains("the agent was lost") && done.stderr.contains("cut within a message");
        assert!(is_said, "{}", done.stderr);
        assert_eq!(run.ended, Ended::AgentLost);
        let proof = &run.coverage.syscalls.observed().unwrap().proof;
        assert!(matches!(proof, Proof::Unproved { .. }), "{proof:?}");
        let summary = fs::read_to_string(done.out.join(format!("{}/summary.md", name_of(&done)))).unwrap();
        assert!(summary.contains("agent was lost"), "{summary}");
    }
}

/// The only folder of an output folder.
fn name_of(done: &Done) -> String {
    let mut folders: Vec<_> = fs::read_dir(&done.out).unwrap().flatten().collect();
    assert_eq!(folders.len(), 1);
    folders.remove(0).file_name().into_string().unwrap()
}

#[test]
fn garbage_in_a_stream_is_the_end_of_it() {
    let garbage = r"print qq(\xff\x00\x00\x00) . (chr(27) x 255);";
    let (done, run) = lost("garbage", &after_the_first_words(garbage));
    assert_eq!(run.ended, Ended::AgentLost);
    assert!(!done.stderr.contains('\x1b'), "{}", done.stderr);
}

#[test]
fn who_speaks_no_stream_is_refused_in_words_and_cannot_reach_the_terminal() {
    let cgroup = TestCgroup::new("none");
    let refused = |command: &str| {
        let done = via(command, &cgroup, &[]).end().expect(2);
        assert!(!done.stderr.contains('\x1b'), "{}", done.stderr);
        assert!(!done.out.exists() || fs::read_dir(&done.out).unwrap().next().is_none());
        done.stderr
    };
    let said = refused(r"printf 'Welcome to \033[31mnode1\n'");
    assert!(said.contains(r"Welcome to \x1b[31mnode1") && said.contains("khard agent --stdio"), "{said}");
    let said = refused("printf 'khard-stream 99\n'; cat > /dev/null");
    assert!(said.contains("version 99") && said.contains("version 3:"), "{said}");
    let said = refused(r"printf '\033]0;title\007not found\n' >&2; exit 127");
    assert!(said.contains("not found") && said.contains("127"), "{said}");
    let said = refused("head -c 100000000 /dev/zero");
    assert!(said.contains("does not speak khard's stream"), "{said}");
}

#[test]
fn a_stream_that_stalls_for_ten_seconds_loses_nothing_and_takes_no_more_memory() {
    let cgroup = TestCgroup::new("stalled");
    let mut sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let mut khard = via(&format!("{} | {}", agent(), after_the_first_words("sleep 10;")), &cgroup, &[]);
    khard.says("recording /");
    let agent = wait::value("the agent's process", || agent_below(khard.pid()));
    for _ in 0..20 {
        work(&cgroup);
    }
    let mib = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let (of_agent, of_client) = (mib(agent), mib(khard.pid()));
    assert!(of_agent < 400 && of_client < 400, "{of_agent} MiB, {of_client} MiB");
    sleeper.kill();
    let done = khard.end().expect(0);
    let (recording, run) = of(&done, &cgroup);
    assert_eq!(run.ended, Ended::SubjectEnded);
    assert!(!run.is_lossy());
    let names: BTreeSet<_> = observed::all_calls(&recording);
    assert!(names.contains("execve") && names.contains("getdents64"), "{names:?}");
}

/// The agent that a khard has started, through a shell.
fn agent_below(pid: u32) -> Option<u32> {
    let is_agent = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(khard::khard().as_os_str().as_encoded_bytes())
    };
    process::below(pid).into_iter().find(is_agent)
}

#[test]
fn an_agent_ends_with_its_client_and_its_subjects_go_on() {
    let cgroup = TestCgroup::new("orphan");
    let mut sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let mut khard = via(&agent(), &cgroup, &[]);
    khard.says("recording /");
    let agent = wait::value("the agent's process", || agent_below(khard.pid()));
    khard.signal(libc::SIGKILL);
    wait::until("the agent ends", || !process::is_alive(agent));
    assert!(sleeper.is_running());
}

#[test]
fn while_nobody_has_answered_one_ctrl_c_is_enough() {
    let cgroup = TestCgroup::new("unanswered");
    let dir = tempfile::tempdir().unwrap();
    let asked = dir.path().join("asked");
    let khard = via(&format!("touch {}; exec sleep 1000", asked.display()), &cgroup, &[]);
    wait::until("the command of --via runs", || asked.exists());
    khard.signal(libc::SIGINT);
    let done = khard.end().expect(2);
    assert!(done.stderr.contains("before an agent at the other end was ready"), "{}", done.stderr);
}

#[test]
fn ctrl_c_ends_a_recording_through_a_pipe_in_order() {
    let cgroup = TestCgroup::new("asked");
    let mut sleeper = Owned::spawn(Command::new("sleep").arg("1000"));
    cgroup.add(sleeper.pid());
    let mut khard = via(&agent(), &cgroup, &[]);
    khard.says("recording /");
    khard.signal(libc::SIGINT);
    let (_, run) = of(&khard.end().expect(0), &cgroup);
    assert_eq!(run.ended, Ended::Interrupted);
    assert!(sleeper.is_running());
}

#[test]
fn a_recording_ends_when_nothing_new_has_come_for_as_long_as_was_asked() {
    let cgroup = TestCgroup::planned("quiet");
    // In guests a pause of the machine is longer.
    let quiet = if wait::in_guest() { "10s" } else { "3s" };
    let mut khard = khard::trace(["--cgroup", cgroup.path(), "--wait", "--until-quiet", quiet]);
    khard.is_ready();
    cgroup.make();
    let busy = "i=0; while [ $i -lt 10 ]; do cat /etc/passwd > /tmp/khard-quiet-$$-$i; rm /tmp/khard-quiet-$$-$i; \
                i=$((i+1)); sleep 0.5; done; while :; do sleep 0.1; done";
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"echo $$ > "$0" && exec sh -c "$1" > /dev/null"#]);
    shell.arg(cgroup.dir().join("cgroup.procs")).arg(busy);
    let mut worker = Owned::spawn(&mut shell);
    let (recording, run) = of(&khard.end().expect(0), &cgroup);
    assert_eq!(run.ended, Ended::Quiet);
    assert!(worker.is_running());
    // Each turn brought a new name, so that it was not quiet before the last.
    let last =
        |key: &AccessKey| format!("{:?}", key.what).ends_with("-9\"") || format!("{key:?}").contains("-9\"");
    assert!(recording.accesses().keys().any(last));
}
