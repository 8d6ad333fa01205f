//! Profiles are tight: no rule is there for nothing, and what the workload did not do is refused.

use std::{fs, process::Command};

use khard_tests::{
    apparmor::Loaded,
    khard::files_below,
    watched::{denials, told},
    workload::Workload,
};

/// Rules that are taken out of each profile, and the seed that draws them.
const N_DRAWN: usize = 20;
const SEED: u64 = 2026;

/// The profile that khard makes of a workload.
fn profile_of(workload: &Workload) -> String {
    let done = workload.traced("auto", &[]).expect(0);
    workload.assert_output(done.code, &done.stdout, &done.stderr);
    let file = files_below(&done.out).into_iter().find(|file| file.ends_with(".apparmor"));
    fs::read_to_string(done.out.join(file.expect("an AppArmor profile"))).unwrap()
}

/// The same, but what it would refuse is only told.
fn complaining(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("profile ")).expect("a profile");
    let loud = match line.split_once("flags=(") {
        Some((before, flags)) => format!("{before}flags=(complain,{flags}"),
        None => line.replace(" {", " flags=(complain) {"),
    };
    text.replacen(line, &loud, 1)
}

/// Lines that were needed by somebody: the floor was not.
fn rules(text: &str) -> Vec<&str> {
    let is_rule = |line: &&str| line.starts_with("  ") && line.ends_with(',') && !line.contains("(receive)");
    text.lines().filter(is_rule).collect()
}

/// Numbers that look drawn and are always the same (Knuth's linear congruence, MMIX).
fn drawn(n: usize, below: usize) -> Vec<usize> {
    let mut state = SEED;
    let mut numbers = Vec::new();
    while numbers.len() < n.min(below) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(state >> 33).expect("31 bits") % below;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

fn no_rule_is_there_for_nothing(name: &str) {
    let workload = Workload::new(name);
    let text = complaining(&profile_of(&workload));
    let asked = |text: &str| {
        let profile = Loaded::new(text);
        let (ran, events) = told(|| workload.confined(&profile));
        assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
        events
            .into_iter()
            .filter(|event| profile.is(&event.profile))
            .map(|event| event.text)
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&text), Vec::<String>::new(), "{name} under its whole profile");
    let rules = rules(&text);
    for at in drawn(N_DRAWN, rules.len()) {
        let rule = rules[at];
        let without: String =
            text.lines().filter(|line| *line != rule).flat_map(|line| [line, "\n"]).collect();
        assert_ne!(asked(&without), Vec::<String>::new(), "{name} needs no {rule}");
    }
    println!("{name}: {} of {} rules taken out, each is missed", N_DRAWN.min(rules.len()), rules.len());
}

#[test]
fn each_rule_of_a_web_servers_profile_is_missed_when_it_is_taken_out() {
    no_rule_is_there_for_nothing("nginx");
}

#[test]
fn each_rule_of_a_scripts_profile_is_missed_when_it_is_taken_out() {
    no_rule_is_there_for_nothing("coreutils");
}

/// What no workload does, by a program that needs no file but itself: each must be refused under the profile and work without.
const NEVER: [(&str, &[&str]); 6] = [
    ("write elsewhere", &["dd", "of=/root/planted", "count=0"]),
    ("read /etc/shadow", &["cat", "/etc/shadow"]),
    ("start another shell", &["env", "/bin/bash", "-c", "true"]),
    ("use another capability", &["chroot", "/", "/bin/busybox", "true"]),
    ("make a raw socket", &["ping", "-c", "1", "-W", "5", "127.0.0.1"]),
    ("mount", &["mount", "-t", "tmpfs", "planted", "/mnt"]),
];

fn what_it_never_did_is_refused(name: &str) {
    let workload = Workload::new(name);
    let profile = Loaded::new(&profile_of(&workload));
    for (what, words) in NEVER {
        let run = |command: &mut Command| command.output().expect("a program").status.success();
        assert!(run(Command::new("/bin/busybox").args(words)), "{what} works without a profile");
        let ((), events) = told(|| {
            let mut confined = Command::new("aa-exec");
            confined.args(["-p", profile.name(), "--", "/bin/busybox"]).args(words);
            assert!(!run(&mut confined), "{what} works under the profile of {name}");
        });
        let denied = denials(&events, |event| profile.is(&event.profile));
        assert!(!denied.is_empty(), "{what}: something else than the profile of {name} refused it");
    }
    let _ = fs::remove_file("/root/planted");
    let _ = Command::new("umount").arg("/mnt").status();
}

#[test]
fn a_web_server_cannot_do_under_its_profile_what_it_never_did() {
    what_it_never_did_is_refused("nginx");
}

#[test]
fn a_database_cannot_do_under_its_profile_what_it_never_did() {
    what_it_never_did_is_refused("redis");
}
