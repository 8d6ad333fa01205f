//! With today's AppArmor, containerd and runtimes on a new kernel: what only they mediate, recorded and granted.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
};

use khard_profile::recording::Class;
use khard_tests::{
    apparmor::{Loaded, auditing_all},
    kernel::accepting_bounds,
    khard, wait,
    watched::{assert_no_denials, compare, denials, exact_attachments, profile_file, told},
    workload::Workload,
};

/// The first two numbers of the first version that a program tells.
fn version(program: &str, argument: &str) -> (u32, u32) {
    let output = Command::new(program).arg(argument).output().expect(program);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = |word: &str| {
        let mut numbers = word.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    text.split_whitespace().find_map(numbers).unwrap_or_else(|| panic!("{program} said {text}"))
}

#[test]
fn the_guest_has_todays_programs() {
    assert!(version("apparmor_parser", "-V") >= (5, 0));
    assert!(version("containerd", "--version") >= (2, 1));
    assert!(version("runc", "--version") >= (1, 3));
    assert!(version("crun", "--version") >= (1, 28));
}

#[test]
fn khard_records_all_that_apparmor_5_is_asked() {
    for attach in exact_attachments() {
        let compared = compare("exercise", &auditing_all("khard-oracle"), attach);
        let missed = compared.missed();
        assert!(missed.is_empty(), "by {attach}: {missed:#?}");
        for class in [Class::UserNamespaces, Class::IoUring, Class::UnixSockets] {
            assert!(compared.classes[&class].n_shared > 0, "AppArmor told nothing of {class}");
        }
    }
}

#[test]
fn user_namespaces_and_io_uring_have_rules_that_are_needed() {
    let text = assert_no_denials("exercise", "auto", &["--abi", "5.0"]);
    for (rule, operation) in [("  userns,", "userns_create"), ("  io_uring", "uring_")] {
        let without: String =
            text.lines().filter(|line| !line.starts_with(rule)).flat_map(|line| [line, "\n"]).collect();
        assert_ne!(without, text, "no rule {rule} in:\n{text}");
        let profile = Loaded::new(&without);
        let ((), events) = told(|| drop(Workload::new("exercise").confined(&profile)));
        let denied = denials(&events, |event| profile.is(&event.profile));
        assert!(denied.iter().any(|event| event.contains(operation)), "without {rule}: {denied:#?}");
    }
}

/// Prints one datagram that comes to a socket.
const RECEIVER: &str = "import socket, sys\nat = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                        at.bind(sys.argv[1])\nprint(at.recv(9).decode())\n";

fn send(to: &Path) {
    let sends = || UnixDatagram::unbound().expect("a socket").send_to(b"a message", to).is_ok();
    wait::until("the message is sent", sends);
    fs::remove_file(to).expect("the receiver's socket");
}

#[test]
fn a_receiver_may_be_sent_datagrams_from_outside_of_its_profile() {
    let dir = tempfile::tempdir().unwrap();
    let (script, socket) = (dir.path().join("receiver.py"), dir.path().join("socket"));
    fs::write(&script, RECEIVER).unwrap();
    let words = accepting_bounds().iter().chain(&["--abi", "5.0", "--", "/usr/bin/python3"]).map(Path::new);
    let traced = khard::trace(words.chain([script.as_path(), &socket]));
    send(&socket);
    let done = traced.end().expect(0);
    assert_eq!(done.stdout, "a message\n");
    let text = fs::read_to_string(profile_file(&done.out)).unwrap();
    let rule = format!("  \"{}\" rw,", socket.display());
    assert!(text.contains(&rule), "no rule {rule} in:\n{text}");
    for (text, receives) in [(&text, true), (&text.replace(&rule, &rule.replace("rw", "w")), false)] {
        let profile = Loaded::new(text);
        let (received, events) = told(|| {
            let mut command = khard::fixture();
            command.args(["confine", profile.name(), "exec", "/usr/bin/python3"]).args([&script, &socket]);
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            wait::until("the socket is there", || socket.exists());
            let sent = UnixDatagram::unbound().unwrap().send_to(b"a message", &socket);
            fs::remove_file(&socket).unwrap();
            if sent.is_err() {
                child.kill().unwrap();
                child.wait().unwrap();
                return String::new();
            }
            String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
        });
        let denied = denials(&events, |event| profile.is(&event.profile));
        assert_eq!(denied.is_empty(), receives, "{denied:#?} under:\n{text}");
        assert_eq!(received, if receives { "a message\n" } else { "" });
    }
}
