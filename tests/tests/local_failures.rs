//! What cannot be recorded, and why: each failure names what failed and what to do, has its exit status, and leaves
//! nothing half-written.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use khard_profile::recording::Ended;
use khard_tests::{
    cgroup::TestCgroup,
    khard::{self, Done, files_below},
    observed::all_calls,
    process::{self, Owned},
    program::Program,
    wait,
};
use tempfile::TempDir;

/// khard's own failure, with a command and without.
const WITH_COMMAND: i32 = 125;
const WITHOUT: i32 = 2;
const LOSSY: i32 = 3;

fn trace(out: &Path, args: &[&str]) -> Command {
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    command.arg(out).args(args);
    command
}

/// Fails unless khard ended with this status, said all of this, and wrote nothing.
fn assert_refused(done: Done, out: &Path, code: i32, words: &[&str]) {
    let done = done.expect(code);
    for word in words {
        assert!(done.stderr.contains(word), "no {word:?} in:\n{}", done.stderr);
    }
    assert_eq!(files_below(out), [""; 0]);
}

/// A khard behind `unshare`, with mounts of its own.
fn with_mounts(script: &str, command: &Command) -> Command {
    let script = format!("{script} && exec \"$@\"");
    khard::behind(["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"], command)
}

/// A tiny file system of its own, gone with this value.
struct Disk(TempDir);

impl Disk {
    fn mount(options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).status();
        assert!(mount.unwrap().success());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[test]
fn without_root_khard_says_that_it_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    // Where anybody may execute it.
    let program = dir.path().join("khard");
    fs::copy(khard::khard(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let out = dir.path().join("out");
    let cgroup = TestCgroup::new("nobody");
    for (target, code) in [(["--", "true"], WITH_COMMAND), (["--cgroup", cgroup.path()], WITHOUT)] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(["trace", "-o"]).arg(&out).args(target);
        assert_refused(khard::start(&mut command).end(), &out, code, &["run khard as root"]);
    }
    // Where nobody may write either, that is not what is missing first.
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), Permissions::from_mode(0o755)).unwrap();
    for verb in [["trace", "--floor", "none"], ["ci", "--baseline", "profiles"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        command.args(verb).args(["--", "true"]).current_dir(closed.path());
        let done = khard::start(&mut command).end();
        assert_refused(done, closed.path(), WITH_COMMAND, &["run khard as root"]);
    }
}

#[test]
fn without_type_information_khard_does_not_guess() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    let out = dir.path().join("out");
    let command = trace(&out, &["--", "true"]);

    let mut absent = with_mounts("mount -t tmpfs tmpfs /sys/kernel/btf", &command);
    let words = ["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"];
    assert_refused(khard::start(&mut absent).end(), &out, WITH_COMMAND, &words);

    let over = format!("mount --bind {} /sys/kernel/btf/vmlinux", empty.display());
    let mut malformed = with_mounts(&over, &command);
    assert_refused(
        khard::start(&mut malformed).end(),
        &out,
        WITH_COMMAND,
        &["/sys/kernel/btf/vmlinux", "malformed", "report"],
    );
}

#[test]
fn a_cgroup_that_is_not_there_is_named_with_where_paths_are_found() {
    let running = khard::trace(["--cgroup", "/khard-test/none"]);
    let out = running.out();
    let words = ["/khard-test/none", "/proc/PID/cgroup"];
    assert_refused(running.end(), &out, WITHOUT, &words);
    let running = khard::trace(["--cgroup", "/khard-test/../.."]);
    let out = running.out();
    assert_refused(running.end(), &out, WITHOUT, &["/khard-test/../..", "is no cgroup path"]);
}

#[test]
fn without_a_target_khard_says_what_could_be_one() {
    let running = khard::trace([""; 0]);
    let out = running.out();
    assert_refused(running.end(), &out, WITHOUT, &["nothing to record", "--pod", "--cgroup", "after --"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_before_anything_runs() {
    let disk = Disk::mount("ro,size=64k");
    let dir = tempfile::tempdir().unwrap();
    let touched = dir.path().join("touched");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (out, words) in [(disk.path(), ["choose", "-o"]), (file.as_path(), ["file", "-o"])] {
        let command = ["--", "touch", touched.to_str().unwrap()];
        let done = khard::start(&mut trace(out, &command)).end();
        assert!(done.stderr.contains(out.to_str().unwrap()), "{}", done.stderr);
        assert_refused(done, out, WITH_COMMAND, &words);
    }
    assert!(!touched.exists());
}

#[test]
fn a_disk_that_is_full_is_said_and_nothing_is_half_written() {
    let disk = Disk::mount("size=64k");
    let fill = disk.path().join("fill");
    let filler = format!("head -c 1M /dev/zero > {}", fill.display());
    let said = ["the disk is full", "-o", disk.path().to_str().unwrap()];
    let assert_full = |done: Done| {
        let done = done.expect(WITH_COMMAND);
        assert!(said.iter().all(|word| done.stderr.contains(word)), "{}", done.stderr);
        assert_eq!(files_below(disk.path()), ["fill"]);
    };
    // While it records, and before.
    assert_full(khard::start(&mut trace(disk.path(), &["--", "sh", "-c", &filler])).end());
    let dir = tempfile::tempdir().unwrap();
    let touched = dir.path().join("touched");
    assert_full(khard::start(&mut trace(disk.path(), &["--", "touch", touched.to_str().unwrap()])).end());
    assert!(!touched.exists(), "a recording that cannot be written is not begun");
    // To a project's tests that failed themselves it comes second.
    fs::remove_file(&fill).unwrap();
    let mut ci = khard::command(["ci", "--baseline", "none", "-o"]);
    ci.arg(disk.path()).args(["--", "sh", "-c", &format!("{filler}; exit 6")]);
    let done = khard::start(&mut ci).end().expect(6);
    assert!(done.stderr.contains("the command failed (exit status: 6)"), "{}", done.stderr);
    assert!(said.iter().all(|word| done.stderr.contains(word)), "{}", done.stderr);
    // The same folder serves again once there is room.
    fs::remove_file(fill).unwrap();
    khard::start(&mut trace(disk.path(), &["--", "true"])).end().expect(0);
}

#[test]
fn two_targets_that_would_share_a_folder_are_refused() {
    let (one, other) = (TestCgroup::new("one"), TestCgroup::new("other"));
    let nested = |cgroup: &TestCgroup| format!("{}/same", cgroup.path());
    let targets = ["--cgroup".to_owned(), nested(&one), "--cgroup".to_owned(), nested(&other)];
    let words = ["two targets", "/same", "-o"];
    // Also before they are there.
    let running = khard::trace(targets.iter().map(String::as_str).chain(["--wait"]));
    let out = running.out();
    assert_refused(running.end(), &out, WITHOUT, &words);
    for cgroup in [&one, &other] {
        fs::create_dir(cgroup.dir().join("same")).unwrap();
    }
    let running = khard::trace(&targets);
    let out = running.out();
    assert_refused(running.end(), &out, WITHOUT, &words);
}

#[test]
fn planted_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (out, elsewhere, victim) =
        (dir.path().join("out"), dir.path().join("elsewhere"), dir.path().join("victim"));
    fs::create_dir_all(out.join("true")).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    fs::write(&victim, "mine").unwrap();
    for name in ["recording.json", "seccomp.json", "summary.md", "recording.checkpoint.json"] {
        symlink(&victim, out.join("true").join(name)).unwrap();
    }
    khard::start(&mut trace(&out, &["--", "true"])).end().expect(0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(out.join("true/recording.json")).unwrap().is_file());

    symlink(&elsewhere, out.join("linked")).unwrap();
    let done = khard::start(&mut trace(&out, &["--name", "linked", "--", "true"])).end().expect(WITH_COMMAND);
    assert!(done.stderr.contains("a link or file stands"), "{}", done.stderr);
    assert_eq!(files_below(&elsewhere), [""; 0]);
}

#[test]
fn a_killed_khard_leaves_the_workload_running_and_a_checkpoint_that_profiles_are_made_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    Program::new().call("getsid").call("pause").write(&path);
    let program = path.to_str().unwrap();

    let khard = khard::trace(["--", program]);
    let checkpoint = checkpoint_of(&khard, "program");
    let recording = khard::recording(&checkpoint);
    let pid = recording.runs().values().next().unwrap().init_pid.expect("the command");
    assert_killed_well(khard, &checkpoint, pid);

    let cgroup = TestCgroup::planned("killed");
    let mut khard = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
    khard.is_ready();
    cgroup.make();
    let process = Owned::spawn(khard::fixture().arg("enter").arg(cgroup.dir()).args(["exec", program]));
    let checkpoint = checkpoint_of(&khard, cgroup.name());
    assert_killed_well(khard, &checkpoint, process.pid());
}

/// Waits for a checkpoint that holds what the program called.
fn checkpoint_of(khard: &khard::Running, name: &str) -> PathBuf {
    let file = khard.out().join(name).join("recording.checkpoint.json");
    wait::until("a checkpoint", || file.exists() && all_calls(&khard::recording(&file)).contains("pause"));
    file
}

fn assert_killed_well(khard: khard::Running, checkpoint: &Path, workload: u32) {
    khard.signal(libc::SIGKILL);
    let khard = khard.end().expect(128 + libc::SIGKILL);
    assert!(process::is_alive(workload), "the workload goes on");
    let folder = checkpoint.parent().unwrap();
    assert_eq!(files_below(folder), ["recording.checkpoint.json"]);
    let recording = khard::recording(checkpoint);
    assert!(recording.runs().values().all(|run| run.ended == Ended::Checkpoint));
    assert!(all_calls(&recording).is_superset(&khard_tests::observed::set(&["getsid", "pause"])));

    let generated = folder.join("generated");
    let mut generate = khard::command(["generate", "--floor", "none", "-o"]);
    khard::start(generate.arg(&generated).arg(folder)).end().expect(0);
    let profile = fs::read_to_string(generated.join("seccomp.json")).expect("a profile");
    assert!(profile.contains("\"getsid\"") && profile.contains("\"pause\""));
    drop(khard);
}

/// More births than there are slots, while khard cannot free any.
fn overflow(khard: &khard::Running) {
    khard.signal(libc::SIGSTOP);
    let births: Vec<_> = (0..2_200).map(|number| TestCgroup::new(&number.to_string())).collect();
    khard.signal(libc::SIGCONT);
    drop(births);
}

#[test]
fn a_recording_that_is_lossy_fails_unless_that_is_accepted_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    Program::new().call("getsid").call("pause").write(&path);
    for (accepting, code) in [(false, LOSSY), (true, 0)] {
        let cgroup = TestCgroup::planned("lossy");
        let accept: &[&str] =
            if accepting { &["--accept-lossy", "syscalls", "--accept-lossy", "accesses"] } else { &[] };
        let mut khard = khard::trace([["--cgroup", cgroup.path(), "--wait"].as_slice(), accept].concat());
        khard.is_ready();
        cgroup.make();
        let _process = Owned::spawn(khard::fixture().arg("enter").arg(cgroup.dir()).arg("exec").arg(&path));
        khard.says("recording /");
        overflow(&khard);
        khard.signal(libc::SIGINT);
        let done = khard.end().expect(code);
        assert!(done.recording(cgroup.name()).is_lossy());
        assert_eq!(done.stderr.contains("--accept-lossy syscalls"), !accepting, "{}", done.stderr);
        assert!(done.profile(cgroup.name()).is_object(), "what was seen is written all the same");
    }
}

#[test]
fn what_runs_too_deep_in_the_cgroup_tree_is_said_to_be_lost() {
    let cgroup = TestCgroup::new("deep");
    let never = cgroup.dir().join("never");
    let _process = Owned::spawn(khard::fixture().arg("enter").arg(cgroup.dir()).arg("await").arg(never));
    wait::until("a process in it", || !cgroup.processes().is_empty());
    let mut khard = khard::trace(["--cgroup", cgroup.path()]);
    khard.says("from now on: it ran before");
    let below = (0..40).fold(cgroup.dir().to_owned(), |dir, _| dir.join("n"));
    fs::create_dir_all(&below).unwrap();
    assert!(
        Owned::spawn(khard::fixture().arg("enter").arg(&below).args(["call", "getsid"])).wait().success()
    );
    khard.signal(libc::SIGINT);
    let recording = khard.end().expect(LOSSY).recording(cgroup.name());
    let observed = recording.runs().values().next().unwrap().coverage.syscalls.observed().unwrap();
    assert!(observed.lost.contains_key("cgroups_too_deep"), "{observed:?}");
}

#[test]
fn a_command_whose_recording_is_lossy_ends_as_khards_own_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, go) = (dir.path().join("ready"), dir.path().join("go"));
    let path = dir.path().join("program");
    Program::new().call("pause").write(&path);
    let cgroup = TestCgroup::planned("beside");
    let fixture = khard::fixture();
    let mut args = vec!["--cgroup".as_ref(), cgroup.path().as_ref(), "--wait".as_ref(), "--".as_ref()];
    args.extend([
        fixture.get_program(),
        "touch".as_ref(),
        ready.as_os_str(),
        "await".as_ref(),
        go.as_os_str(),
    ]);
    let mut khard = khard::trace(args);
    khard.is_ready();
    wait::until("the command runs", || ready.exists());
    cgroup.make();
    let mut process = Owned::spawn(khard::fixture().arg("enter").arg(cgroup.dir()).arg("exec").arg(&path));
    khard.says("recording /");
    overflow(&khard);
    process.kill();
    fs::write(go, "").unwrap();
    let done = khard.end().expect(WITH_COMMAND);
    assert!(done.recording("fixture").is_lossy());
    assert!(done.stderr.contains("--accept-lossy syscalls"), "{}", done.stderr);
}
