//! No rule of a profile is there for nothing: the workload misses each that is taken out, and `check` says so beforehand.

use khard_profile::{
    apparmor_text::ParsedProfile,
    check::{self, Question},
};
use khard_tests::{
    apparmor::Loaded,
    audit::apparmor::Event,
    draw::Draw,
    of_workloads,
    watched::{profile_of, rules, told},
    workload::Workload,
};

/// Rules that are taken out of each profile, 200 of all together, and the seed that draws them.
const N_DRAWN: usize = 29;
const SEED: u64 = 2026;

/// A profile, but what it would refuse is only told.
fn complaining(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("profile ")).expect("a profile");
    let loud = match line.split_once("flags=(") {
        Some((before, flags)) => format!("{before}flags=(complain,{flags}"),
        None => line.replace(" {", " flags=(complain) {"),
    };
    text.replacen(line, &loud, 1)
}

fn no_rule_is_there_for_nothing(name: &str) {
    let workload = Workload::new(name);
    let (text, recording) = profile_of(&workload);
    let text = complaining(&text);
    let passes = |text: &str| {
        let profile = ParsedProfile::parse(text.as_bytes()).expect("a profile");
        check::check_apparmor(&profile, &recording, &Question::default()).passes()
    };
    let asked = |text: &str| {
        let profile = Loaded::new(text);
        let (ran, events) = told(|| workload.confined(&profile));
        assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
        // Capabilities that are only tested for are not granted, and their refusal is silent.
        let is_silent =
            |event: &Event| event.info.as_deref().is_some_and(|info| info.starts_with("optional"));
        events
            .into_iter()
            .filter(|event| profile.is(&event.profile) && !is_silent(event))
            .map(|event| event.text)
            .collect::<Vec<_>>()
    };
    assert_eq!(asked(&text), Vec::<String>::new(), "{name} under its whole profile");
    assert!(passes(&text), "{name}: check refuses its own profile");
    let rules = rules(&text);
    for at in Draw::new(SEED).different(N_DRAWN, rules.len()) {
        let rule = rules[at];
        let without: String =
            text.lines().filter(|line| *line != rule).flat_map(|line| [line, "\n"]).collect();
        assert_ne!(asked(&without), Vec::<String>::new(), "{name} needs no {rule}");
        assert!(!passes(&without), "{name}: the kernel misses {rule}, and check does not");
    }
    println!("{name}: {} of {} rules taken out, each is missed", N_DRAWN.min(rules.len()), rules.len());
}

of_workloads! { no_rule_is_there_for_nothing:
    each_rule_of_a_web_servers_profile_is_missed_when_it_is_taken_out: "nginx",
    each_rule_of_a_servers_profile_is_missed_when_it_is_taken_out: "redis",
    each_rule_of_a_databases_profile_is_missed_when_it_is_taken_out: "postgres",
    each_rule_of_an_applications_profile_is_missed_when_it_is_taken_out: "python",
    each_rule_of_a_scripts_profile_is_missed_when_it_is_taken_out: "coreutils",
    each_rule_of_a_profile_of_git_is_missed_when_it_is_taken_out: "git",
    each_rule_of_a_compilers_profile_is_missed_when_it_is_taken_out: "gcc",
}
