//! Whether a written profile is minimal: calls of the workload are taken out one at a time, drawn by a seed, and each
//! time the pod must break, or the call must be seen refused and the workload be seen to do without.
//!
//! `KHARD_SEED` draws others, `KHARD_DRAWN` more of them.

use std::{collections::BTreeMap, env, fmt, fs, path::Path};

use khard_profile::recording::Phase;
use khard_tests::{
    node::{Agent, Answers, Node, Workload},
    observed::calls,
    recorded::{Recorded, without},
};
use serde_json::Value;

const SEED: u64 = 2026;
const N_DRAWN: u64 = 10;

/// What came of a call's absence.
enum Effect {
    /// The pod does not do what it did.
    Breaks(String),
    /// It does, although the call was refused so often, to these tasks.
    FallsBack(BTreeMap<String, usize>),
    /// It does, and nobody made the call.
    NotMade,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breaks(how) => write!(f, "breaks      {how}"),
            Self::FallsBack(tasks) => {
                let tasks: Vec<_> = tasks.iter().map(|(comm, n)| format!("{n} x {comm}")).collect();
                write!(f, "falls back  same answers although refused to {}", tasks.join(", "))
            }
            Self::NotMade => f.write_str("NOT MADE"),
        }
    }
}

/// A pod under a profile: its answers, or in words what it does not do.
fn answers(node: &Node, workload: &Workload, handler: &str, profile: &Path) -> Result<Answers, String> {
    let one_line = |error: anyhow::Error| format!("{error:#}").replace('\n', " ");
    let (pod, started) = node.try_start(workload.confined(handler, |_| profile.to_owned()));
    started.map_err(|error| format!("does not start: {}", one_line(error)))?;
    workload.wait_to_serve(&pod, Node::patience()).map_err(one_line)?;
    let mut said = workload.ask(&pod).map_err(|error| format!("does not answer: {}", one_line(error)))?;
    said.extend(workload.stop(&pod).map_err(|error| format!("does not stop: {}", one_line(error)))?);
    Ok(said)
}

fn effect(node: &Node, workload: &Workload, handler: &str, recorded: &Recorded, call: &str) -> Effect {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, profile: &Value| {
        let path = dir.path().join(name);
        fs::write(&path, profile.to_string()).unwrap();
        path
    };
    let container = workload.containers().pop().expect("a pod has a container");
    let profile = without(&recorded.profile(&container), call);
    let differs = |said: &Answers| {
        let question =
            recorded.answers.iter().find(|(question, answer)| said.get(*question) != Some(*answer));
        question.map(|(question, answer)| {
            let instead = said.get(question).map_or("nothing", String::as_str);
            format!("{question}: {:?} instead of {:?}", tail(instead), tail(answer))
        })
    };
    match answers(node, workload, handler, &write("without.json", &profile)) {
        Err(how) => return Effect::Breaks(how),
        Ok(said) => {
            if let Some(how) = differs(&said) {
                return Effect::Breaks(how);
            }
        }
    }
    // The same again, refused by somebody who can say so.
    let agent = Agent::start();
    let watched = agent.watch(&profile, |name| name == call);
    match answers(node, workload, handler, &write("watched.json", &watched)) {
        Err(how) => return Effect::Breaks(format!("(the second time) {how}")),
        Ok(said) => {
            if let Some(how) = differs(&said) {
                return Effect::Breaks(format!("(the second time) {how}"));
            }
        }
    }
    let mut tasks = BTreeMap::new();
    for refused in agent.refused() {
        assert_eq!(refused.call, call);
        *tasks.entry(refused.comm).or_insert(0) += 1;
    }
    if tasks.is_empty() { Effect::NotMade } else { Effect::FallsBack(tasks) }
}

/// The last words of an answer.
fn tail(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.chars().rev().take(70).collect::<Vec<_>>().into_iter().rev().collect()
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Some of the items, always the same ones for a seed.
fn drawn(seed: u64, mut items: Vec<String>, n_wanted: u64) -> Vec<String> {
    let mut state = seed;
    let mut found = Vec::new();
    while !items.is_empty() && (found.len() as u64) < n_wanted {
        // Knuth's constants for a linear congruential generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 33) % items.len() as u64;
        found.push(items.swap_remove(usize::try_from(at).expect("an index")));
    }
    found
}

fn each_drawn_call_is_needed(workload: &Workload) {
    let node = Node::connect();
    let (seed, n_drawn) = (number("KHARD_SEED", SEED), number("KHARD_DRAWN", N_DRAWN));
    for handler in Node::handlers() {
        let recorded = Recorded::new(&node, workload, &handler, &[]);
        let container = workload.containers().pop().expect("a pod has a container");
        let seen = calls(&recorded.recording(&container), Phase::Workload);
        let n_seen = seen.len();
        let mut not_made = Vec::new();
        println!("{} under {handler}: {n_drawn} of {n_seen} calls, seed {seed}", workload.name);
        for call in drawn(seed, seen.into_iter().collect(), n_drawn) {
            let effect = effect(&node, workload, &handler, &recorded, &call);
            println!("  without {call:<18} {effect}");
            if matches!(effect, Effect::NotMade) {
                not_made.push(call);
            }
        }
        assert!(not_made.is_empty(), "neither needed nor made again: {not_made:?}");
    }
}

#[test]
fn nginx_breaks_or_falls_back_without_any_of_ten_of_its_calls() {
    each_drawn_call_is_needed(&Workload::nginx());
}

#[test]
fn redis_breaks_or_falls_back_without_any_of_ten_of_its_calls() {
    each_drawn_call_is_needed(&Workload::redis());
}
