//! `khard check` with profiles that containers really run under, against a recorded pod.

use std::{fs, path::Path};

use khard_profile::recording::Phase;
use khard_tests::{
    khard::{self, Done},
    kubelet::{ContainerSpec, PodSpec, Seccomp},
    node::{Node, Workload, sleeper, unique},
    observed::calls,
    recorded::{Recorded, without},
};
use serde_json::Value;

fn check(profile: &Path, against: &Path, args: &[&str]) -> Done {
    let mut command = khard::command([Path::new("check"), profile, Path::new("--against"), against]);
    khard::start(command.args(args)).end()
}

/// The filter that containerd gives to a pod which asks for the runtime's default.
fn runtime_default(node: &Node) -> Value {
    let container = ContainerSpec { seccomp: Seccomp::RuntimeDefault, ..sleeper("shell") };
    let pod = node.start(PodSpec::new(&unique("default"), container));
    let details: Value = serde_json::from_str(&pod.inspect("shell")).expect("JSON");
    let seccomp = details["runtimeSpec"]["linux"]["seccomp"].clone();
    assert_eq!(seccomp["defaultAction"], "SCMP_ACT_ERRNO", "{seccomp}");
    seccomp
}

#[test]
fn a_recording_passes_its_own_and_the_default_profile_and_fails_one_without_a_needed_call() {
    let (node, dir) = (Node::connect(), tempfile::tempdir().unwrap());
    let recorded = Recorded::new(&node, &Workload::nginx(), "", &[]);
    let against = recorded.folder("nginx");

    let own = check(&recorded.profile_path("nginx"), &against, &[]).expect(0);
    let n_checked = calls(&recorded.recording("nginx"), Phase::Workload).len();
    let first = own.stdout.lines().next().unwrap_or_default();
    assert!(first.contains("system calls") && first.contains(" 0 refused"), "{first}");
    let n_said: usize = first.split(' ').next().and_then(|n| n.parse().ok()).expect("a number first");
    assert!(n_said >= n_checked, "{first}, {n_checked} in the workload alone");

    let default = dir.path().join("default.json");
    fs::write(&default, runtime_default(&node).to_string()).unwrap();
    let passed = check(&default, &against, &[]).expect(0);
    assert!(passed.stdout.contains(" 0 refused"), "{}", passed.stdout);

    let less = dir.path().join("less.json");
    fs::write(&less, without(&recorded.profile("nginx"), "accept4").to_string()).unwrap();
    let failed = check(&less, &against, &[]).expect(1);
    let mut lines = failed.stdout.lines().skip_while(|line| !line.starts_with("refused"));
    let (refused, witness) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    assert!(refused.contains("accept4 (x86_64 288) of workload"), "{}", failed.stdout);
    assert!(witness.contains("first made by nginx (nginx), process"), "{}", failed.stdout);
    assert!(lines.all(|line| !line.starts_with("refused")), "{}", failed.stdout);

    // The same for programs.
    let json = check(&less, &against, &["--json"]).expect(1);
    let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(report["passes"], false);
    let calls = report["program"].as_array().expect("a list");
    let refused: Vec<_> = calls.iter().filter(|call| call["verdict"] == "refused").collect();
    let [accept4] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!((&accept4["name"], &accept4["witness"]["exe"]), (&"accept4".into(), &"nginx".into()));
}
