//! Facts about the verbs that take any number of recordings, asked of the program itself. They need no root and no kernel programs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use khard_profile::{recording::*, syscalls};

fn khard(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_khard")).args(args).current_dir(dir).output().unwrap()
}

fn code(args: &[&str], dir: &Path) -> i32 {
    khard(args, dir).status.code().unwrap()
}

/// What it says on standard output, or its error.
fn said(args: &[&str], dir: &Path) -> String {
    let Output { status, stdout, stderr } = khard(args, dir);
    let text = if status.success() { stdout } else { stderr };
    String::from_utf8(text).unwrap()
}

/// A replica of a workload, which made these calls; its pod has a name of its own.
fn replica(nth: u64, image_id: &str, calls: &[&str]) -> Recording {
    let pod = format!("web-7d4b9c-{nth:05}");
    let labels = BTreeMap::from([("pod-template-hash".to_owned(), "7d4b9c".to_owned())]);
    let mut recording = Recording::new(Subject::of_container("shop", &pod, &labels, "nginx"));
    let id = RunId::new("8c5f2e0a-11bb-4cde-9f00-0123456789ab", 4000 + nth, nth).unwrap();
    let coverage = Coverage::Exact(Observed {
        from: From::FirstInstruction,
        by: Attachment::Tracepoint,
        lost: BTreeMap::new(),
        proof: Proof::from_misses(BTreeMap::from([("raw".to_owned(), 0)])),
    });
    recording.add_run(Run {
        id,
        started_unix_ms: 0,
        duration_ms: 1,
        ended: Ended::SubjectEnded,
        cgroup_path: "/kubepods/a".into(),
        init_pid: None,
        joiners: 0,
        container: Some(ContainerRun {
            container_id: format!("{nth:064x}"),
            name: String::new(),
            sandbox_id: format!("{nth:064x}"),
            pod,
            attempt: 0,
            image: "nginx".to_owned(),
            image_id: image_id.to_owned(),
        }),
        runtime: None,
        host: Host {
            kernel: "6.12".to_owned(),
            machine: "x86_64".to_owned(),
            abis: BTreeSet::from([Abi::X86_64]),
        },
        confinement: Confinement {
            no_new_privs: None,
            privileged: None,
            seccomp: SeccompInForce::None,
            apparmor: AppArmorInForce::Unconfined,
        },
        coverage: RunCoverage {
            syscalls: coverage,
            accesses: AccessCoverage::none("test"),
            refused_syscalls: Coverage::none("no seccomp filter was in force"),
        },
        notes: Vec::new(),
        marks: Vec::new(),
    });
    for name in calls {
        let nr = syscalls::by_name(name).unwrap().number(Abi::X86_64).unwrap();
        recording.observe_syscall(id, SyscallKey { abi: Abi::X86_64, nr }, Phase::Workload, None).unwrap();
    }
    recording
}

fn write(dir: &Path, name: &str, recording: &Recording) -> PathBuf {
    let folder = dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("recording.json"), recording.to_json().unwrap()).unwrap();
    folder
}

/// Two replicas below `nodes`, one of which does more.
fn two_replicas() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "nodes/one/web-7d4b9c-00001/nginx", &replica(1, "a", &["read", "write"]));
    write(dir.path(), "nodes/two/web-7d4b9c-00002/nginx", &replica(2, "a", &["read", "ptrace"]));
    dir
}

#[test]
fn recordings_are_united_in_any_order_and_those_given_twice_count_once() {
    let dir = two_replicas();
    let dir = dir.path();
    assert_eq!(code(&["merge", "nodes/one", "nodes/two", "-o", "a.json"], dir), 0);
    assert_eq!(code(&["merge", "nodes/two", "nodes/one", "nodes", "-o", "b.json"], dir), 0);
    assert_eq!(code(&["merge", "a.json", "nodes/two", "-o", "a.json"], dir), 0);
    assert_eq!(code(&["merge", "nodes", "-o", "united"], dir), 0);
    let read = |path: &str| fs::read(dir.join(path)).unwrap();
    assert_eq!(read("a.json"), read("b.json"));
    assert_eq!(read("a.json"), read("united/web/nginx/recording.json"));
    assert_eq!(Recording::from_json(&read("a.json")).unwrap().runs().len(), 2);
}

#[test]
fn replicas_need_a_folder_for_their_profiles_and_get_one_for_their_workload() {
    let dir = two_replicas();
    let dir = dir.path();
    assert_eq!(code(&["generate", "nodes", "--floor", "none"], dir), 2);
    assert!(said(&["generate", "nodes", "--floor", "none"], dir).contains("name a folder with -o"));
    let text = said(&["generate", "nodes", "--floor", "none", "-o", "out"], dir);
    assert!(text.contains("syscalls 1 of 3 in all 2"), "{text}");
    let explained = said(&["explain", "out/web/nginx/seccomp.json", "ptrace"], dir);
    assert!(explained.contains("workload: in 1 of 2 whole runs"), "{explained}");
}

#[test]
fn subjects_of_one_recording_each_have_their_profiles_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut command = Recording::new(Subject::Command { program: "/bin/sleep".into() });
    let web = replica(1, "a", &["read"]);
    let run = web.runs().values().next().unwrap();
    command.add_run(run.clone());
    command.observe_syscall(run.id, SyscallKey { abi: Abi::X86_64, nr: 35 }, Phase::Workload, None).unwrap();
    write(dir, "out/web/nginx", &web);
    write(dir, "out/sleep", &command);
    assert_eq!(code(&["generate", "out", "--floor", "none"], dir), 0);
    assert!(dir.join("out/web/nginx/seccomp.json").exists() && dir.join("out/sleep/seccomp.json").exists());
    assert_eq!(code(&["generate", "out/sleep", "-o", "flat", "--floor", "none"], dir), 0);
    assert!(dir.join("flat/seccomp.json").exists());
}

#[test]
fn what_too_few_runs_have_is_granted_unless_asked_otherwise() {
    let dir = two_replicas();
    let dir = dir.path();
    let allowed = |args: &[&str]| {
        let args = [&["generate", "nodes", "-o", "out", "--floor", "none"], args].concat();
        assert_eq!(code(&args, dir), 0, "{}", said(&args, dir));
        let json = fs::read_to_string(dir.join("out/web/nginx/seccomp.json")).unwrap();
        let profile: serde_json::Value = serde_json::from_str(&json).unwrap();
        profile["syscalls"][0]["names"].to_string()
    };
    assert!(allowed(&[]).contains("ptrace"));
    assert!(!allowed(&["--min-seen", "2"]).contains("ptrace"));
    let page = fs::read_to_string(dir.join("out/web/nginx/summary.md")).unwrap();
    assert!(page.contains("fewer than 2 runs") && page.contains("`ptrace (x86_64)`"), "{page}");
    let too_many = said(&["generate", "nodes", "-o", "out", "--min-seen", "3"], dir);
    assert!(too_many.contains("--min-seen 3 asks for more runs than the 2"), "{too_many}");
}

#[test]
fn different_images_are_united_only_when_told() {
    let dir = two_replicas();
    let dir = dir.path();
    write(dir, "other", &replica(3, "b", &["read"]));
    let refused = said(&["merge", "nodes", "other", "-o", "a.json"], dir);
    assert!(refused.contains("--mixed-images") && !dir.join("a.json").exists(), "{refused}");
    assert_eq!(code(&["merge", "nodes", "other", "-o", "a.json", "--mixed-images"], dir), 0);
}

#[test]
fn a_difference_is_1_an_error_2_and_only_what_counts_counts() {
    let dir = two_replicas();
    let dir = dir.path();
    write(dir, "less", &replica(3, "a", &["read"]));
    let [one, less] = ["nodes/one/web-7d4b9c-00001/nginx", "less"];
    assert_eq!(code(&["diff", one, one], dir), 0);
    assert_eq!(code(&["diff", one, less], dir), 1);
    assert_eq!(code(&["diff", one, less, "--fail-on", "added"], dir), 0);
    assert_eq!(code(&["diff", less, one, "--fail-on", "added", "--json"], dir), 1);
    assert_eq!(code(&["generate", one, "--floor", "none"], dir), 0);
    let profile = format!("{one}/seccomp.json");
    assert_eq!(code(&["diff", &profile, &profile, "--markdown"], dir), 0);
    assert_eq!(code(&["diff", &profile, one], dir), 2);
    assert_eq!(code(&["diff", one, "not-there"], dir), 2);
}
