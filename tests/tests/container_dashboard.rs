//! The dashboard over real containers under load: every container of the node is there, and profiles written from inside equal those of
//! `khard trace`.

use std::fs;

use khard_tests::{
    kernel::accepting_bounds,
    khard,
    node::{Node, TestPod, Workload},
    tmux::Terminal,
    wait,
};

#[test]
fn profiles_written_from_inside_equal_those_of_trace() {
    let node = Node::connect();
    let workloads = [Workload::nginx(), Workload::redis()];
    let handler = Node::handlers().remove(0);
    let specs: Vec<_> = workloads.iter().map(|workload| workload.spec(&handler)).collect();
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut trace = khard::command(["trace", "--wait"]);
    for spec in &specs {
        trace.args(["--pod", &spec.name]);
    }
    let mut trace = khard::start(trace.args(accepting_bounds()).arg("-o").arg(outside.path()));
    trace.is_ready();
    let terminal = Terminal::new(120, 40, &[]);
    terminal.run(khard::command(["tui"]).args(accepting_bounds()).arg("-o").arg(inside.path()));
    terminal.shows("recording");
    let namespaces: Vec<_> = specs.iter().map(|spec| (spec.namespace.clone(), spec.name.clone())).collect();
    let pods: Vec<_> = specs.into_iter().map(|spec| node.start(spec)).collect();
    for (workload, pod) in workloads.iter().zip(&pods) {
        workload.wait_to_serve(pod, wait::limit()).expect("a pod that serves");
        // The column is narrow.
        terminal.shows(pod.name().get(..12).unwrap_or(pod.name()));
    }
    for _ in 0..5 {
        for (workload, pod) in workloads.iter().zip(&pods) {
            workload.ask(pod).expect("a pod that answers");
        }
    }
    for (workload, pod) in workloads.iter().zip(&pods) {
        workload.stop(pod).expect("a pod that stops");
    }
    trace.end().expect(0);
    wait::until("the dashboard has seen both pods end", || {
        let screen = terminal.screen();
        let is_over = |pod: &TestPod<'_>| {
            let of_pod = |line: &&str| line.contains(pod.name().get(..12).unwrap_or(pod.name()));
            screen.lines().filter(of_pod).any(|line| line.contains(" ended "))
        };
        pods.iter().all(is_over)
    });
    terminal.key("w");
    terminal.shows("written to");
    for ((namespace, pod), workload) in namespaces.iter().zip(&workloads) {
        for container in workload.containers() {
            let there = outside.path().join(pod).join(&container);
            let here = inside.path().join(namespace).join(pod).join(&container);
            for file in ["seccomp.json".to_owned(), format!("{container}.apparmor")] {
                let read = |dir: &std::path::Path| fs::read_to_string(dir.join(&file)).unwrap();
                assert_eq!(read(&here), read(&there), "{pod} {file}");
            }
        }
    }
    terminal.key("q");
    terminal.key("y");
    wait::until("the dashboard ends", || !terminal.is_alternate());
}
