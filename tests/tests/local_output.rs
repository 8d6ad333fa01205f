//! What khard writes and prints: whose the files are, hostile names, JSON, and pipes.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use khard_profile::recording::Phase;
use khard_tests::{
    khard::{self, files_below},
    observed::name,
};
use serde_json::Value;

const FILES: [&str; 4] = ["recording.json", "seccomp.json", "summary.md", ".apparmor"];

#[test]
fn files_are_private_and_belong_to_the_user_behind_sudo() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = khard::command(["trace", "--floor", "none", "-o"]);
    command.arg(&out).args(["--", "true"]).env("SUDO_UID", "12345").env("SUDO_GID", "54321");
    khard::start(&mut command).end().expect(0);
    let owner = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        (meta.uid(), meta.gid())
    };
    let dir = out.join("true");
    for file in files_below(&dir).into_iter().map(|file| dir.join(file)) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        assert_eq!(owner(&file), (12345, 54321), "{}", file.display());
    }
    assert_eq!([owner(&out), owner(&out.join("true"))], [(12345, 54321); 2]);
    assert_eq!(files_below(&out).len(), FILES.len());

    let done = khard::trace(["--", "true"]).end().expect(0);
    assert_eq!(owner(&done.out.join("true/recording.json")), (0, 0));
}

/// What a terminal would act on.
fn controls(text: &str) -> Vec<char> {
    text.chars().filter(|c| c.is_control() && !matches!(c, '\n' | '\t')).collect()
}

#[test]
fn a_hostile_name_stays_bytes_in_the_recording_and_reaches_no_terminal() {
    let evil = r"\x1b]0;\x07\x1b[2J\x9b1m\xff";
    let fixture = khard::fixture();
    let dir = tempfile::tempdir().unwrap();
    // The program's own name is no better.
    let program = dir.path().join("a\u{1b}[31m\r\u{202e}b");
    fs::copy(fixture.get_program(), &program).unwrap();
    let mut command = Command::new(khard::khard());
    let out = dir.path().join("out");
    command
        .args(["-vv", "trace", "--floor", "none", "-o"])
        .arg(&out)
        .arg("--")
        .arg(&program)
        .args(["comm", evil, "call", "getsid", "call", "getpgid"]);
    let done = khard::start(&mut command).end().expect(0);

    assert!(done.stderr.contains("getsid"), "first sightings are told at -vv: {}", done.stderr);
    assert_eq!(controls(&done.stderr), [], "{:?}", done.stderr);
    let files = files_below(&out);
    let file = |name: &str| {
        let found = files.iter().find(|file| file.ends_with(name)).expect("a file of this name");
        fs::read(out.join(found)).unwrap()
    };
    for name in FILES {
        assert_eq!(controls(&String::from_utf8(file(name)).expect("UTF-8")), [], "{name}");
    }
    assert!(files.iter().all(|file| controls(file).is_empty() && file.is_ascii()), "{files:?}");

    let recording = khard_profile::recording::Recording::from_json(&file("recording.json")).unwrap();
    let getsid = recording.syscalls().iter().find(|(key, _)| name(**key) == "getsid").expect("the call").1;
    let witness = getsid.in_phase(Phase::Workload).unwrap().witness.as_ref().expect("a witness");
    assert_eq!(witness.comm.as_slice(), b"\x1b]0;\x07\x1b[2J\x9b1m\xff");
    assert_eq!(witness.exe.as_slice(), program.file_name().unwrap().as_encoded_bytes());
}

#[test]
fn the_result_as_json_is_one_document_for_programs() {
    let done = khard::trace(["--json", "--name", "true", "--", "echo", "hello"]).end().expect(0);
    assert!(done.stderr.contains("hello"), "{}", done.stderr);
    let result: Value = serde_json::from_str(&done.stdout).expect("JSON alone on stdout");
    let subjects = result.as_array().expect("a list of subjects");
    assert_eq!(subjects.len(), 1);
    assert_eq!(subjects[0]["dir"].as_str().map(Path::new), Some(done.out.join("true").as_path()));
}

#[test]
fn the_same_recording_gives_the_same_bytes() {
    let done = khard::trace(["--", "true"]).end().expect(0);
    let files = |out: &str| {
        let out = done.out.join(out);
        khard::start(khard::command(["generate"]).arg(done.out.join("true")).arg("-o").arg(&out))
            .end()
            .expect(0);
        files_below(&out)
            .into_iter()
            .map(|file| (file.clone(), fs::read(out.join(file)).unwrap()))
            .collect::<Vec<_>>()
    };
    let (once, again) = (files("once"), files("again"));
    assert_eq!(once.len(), FILES.len(), "the recording is beside them");
    for (one, other) in once.iter().zip(&again) {
        // It names the folder.
        if !one.0.ends_with("summary.md") {
            assert_eq!(one, other);
        }
    }
    assert_eq!(files("once"), once);

    // Runs cannot be recorded again.
    let other = khard::trace(["--", "true"]).end().expect(0);
    let mut over = khard::command(["generate"]);
    let done =
        khard::start(over.arg(other.out.join("true")).arg("-o").arg(done.out.join("once"))).end().expect(2);
    assert!(done.stderr.contains("holds what is not in these recordings"), "{}", done.stderr);
}

#[test]
fn what_is_piped_has_no_live_line_and_quiet_is_silent() {
    let done = khard::trace(["--", "sh", "-c", "echo out; echo err >&2; sleep 0.6"]).end().expect(0);
    assert_eq!(done.stdout, "out\n");
    assert!(done.stderr.contains("err\n"));
    assert!(!done.stderr.contains("last new:"), "{}", done.stderr);
    assert_eq!(controls(&done.stderr), [], "{:?}", done.stderr);

    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(khard::khard());
    command.args(["-q", "trace", "--floor", "none", "-o"]).arg(dir.path()).args(["--", "true"]);
    let done = khard::start(&mut command).end().expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
}
