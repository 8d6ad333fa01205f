//! Pods under both of the profiles that khard wrote, with a kernel that has AppArmor and each runtime: they serve as before, and
//! AppArmor denies nothing that it did not deny while they were recorded.

use std::{collections::BTreeMap, fs, path::Path};

use khard_tests::{
    apparmor::Loaded,
    node::{Node, Workload, status_field},
    recorded::Recorded,
    wait,
    watched::{denials, told},
};

/// Recorded, and again under both profiles.
fn works_under_both_profiles(workload: &Workload) {
    let node = Node::connect();
    for handler in Node::handlers() {
        let (recorded, events) = told(|| Recorded::new(&node, workload, &handler, &[]));
        let old = denials(&events, |_| true);
        let profiles: BTreeMap<String, (Loaded, String)> = workload
            .containers()
            .iter()
            .map(|container| {
                let file = recorded.folder(container).join(format!("{container}.apparmor"));
                let text = fs::read_to_string(&file).expect("the profile that khard wrote");
                (container.clone(), (Loaded::new(&text), text))
            })
            .collect();
        let mut spec = workload.confined(&handler, |container| recorded.profile_path(container));
        for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
            container.apparmor = Some(profiles[&container.name].0.name().to_owned());
        }
        let (answers, events) = told(|| {
            let pod = node.start(spec);
            workload.wait_to_serve(&pod, wait::limit()).expect("it serves under its profiles");
            let mut answers = workload.ask(&pod).expect("it answers under its profiles");
            for container in workload.containers() {
                for pid in pod.processes(&container) {
                    let label =
                        fs::read(Path::new("/proc").join(pid.to_string()).join("attr/apparmor/current"));
                    // One that has gone meanwhile has none.
                    if let (Ok(label), Some(mode)) = (label, status_field(pid, "Seccomp")) {
                        let name = profiles[container.as_str()].0.name();
                        assert!(
                            label.starts_with(format!("{name} (enforce)").as_bytes()),
                            "{pid} of {container}"
                        );
                        assert_eq!(mode, "2", "{pid} of {container}");
                    }
                }
            }
            answers.extend(workload.stop(&pod).expect("it stops under its profiles"));
            answers
        });
        let denied =
            denials(&events, |event| profiles.values().any(|(profile, _)| profile.is(&event.profile)));
        let new: Vec<_> = denied.difference(&old).map(String::as_str).collect();
        let texts: String = profiles.values().map(|(_, text)| text.as_str()).collect();
        assert!(new.is_empty(), "denied under {handler}:\n{}\nunder:\n{texts}", new.join("\n"));
        assert_eq!(answers, recorded.answers, "under {handler}");
        println!("{handler}: {} profiles, nothing denied", profiles.len());
    }
}

#[test]
fn nginx_is_denied_nothing_under_both_of_its_profiles() {
    works_under_both_profiles(&Workload::nginx());
}

#[test]
fn redis_is_denied_nothing_under_both_of_its_profiles() {
    works_under_both_profiles(&Workload::redis());
}

#[test]
fn a_pod_of_two_containers_and_an_init_container_is_denied_nothing_under_its_profiles() {
    let shared = tempfile::tempdir().unwrap();
    works_under_both_profiles(&Workload::two_containers(shared.path()));
}
