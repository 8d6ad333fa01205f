//! What goes wrong around pods: the runtime's socket, names, filters, khard's own death. Each time khard says what is
//! wrong, ends with the right status, and nothing is half-written; and the pods run on.

use std::{fs, io::Write as _, os::unix::net::UnixListener, path::Path, thread, time::Duration};

use khard_profile::recording::{Ended, Phase, SeccompInForce};
use khard_tests::{
    khard::{self, Done, Running},
    kubelet::{ContainerSpec, PodSpec, Seccomp},
    node::{Node, Proxy, TestPod, sleeper, unique},
    observed::{calls, name as name_of},
    process::is_alive,
    wait,
};

/// An error of khard's own.
const ERROR: i32 = 2;

/// khard fails, says all these words in one message, and has written nothing.
fn fails(args: &[&str], words: &[&str]) {
    let done = khard::trace(args).end().expect(ERROR);
    let message = done.stderr.lines().find(|line| line.contains("ERROR")).unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{args:?}: {word:?} is not in {:?}", done.stderr);
    }
    assert_eq!(khard::files_below(&done.out), Vec::<String>::new(), "{args:?}");
}

/// A pod of one shell.
fn shell(name: &str) -> PodSpec {
    PodSpec::new(name, sleeper("shell"))
}

/// Starts to record a pod that is not there yet, and waits until it may start.
fn waiting_for(pod: &str, endpoint: &str) -> Running {
    let mut running = khard::trace(["--pod", pod, "--wait", "--runtime-endpoint", endpoint]);
    running.is_ready();
    running
}

/// The recording has what an exec'd shell does that nobody else does.
fn has_joiner_with_sync(done: &Done, pod: &TestPod<'_>) -> bool {
    let recording = done.recording(&format!("{}/shell", pod.name()));
    calls(&recording, Phase::Joiner).contains("sync")
}

#[test]
fn a_socket_that_is_missing_or_none_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = format!("unix://{}/none.sock", dir.path().display());
    fails(&["--pod", "any", "--runtime-endpoint", &missing], &["none.sock", "no such file"]);
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let plain = format!("unix://{}", file.display());
    fails(&["--pod", "any", "--runtime-endpoint", &plain], &["file", "not a socket"]);
    fails(&["--pod", "any", "--runtime-endpoint", "tcp://127.0.0.1:1"], &["unix:///absolute/path"]);
    let dead = dir.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let refused = format!("unix://{}", dead.display());
    fails(&["--pod", "any", "--runtime-endpoint", &refused], &["dead.sock", "nobody listens"]);
}

#[test]
fn a_server_of_another_kind_is_told_by_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let endpoint = format!("unix://{}", path.display());
    fails(&["--pod", "any", "--runtime-endpoint", &endpoint], &["something else than gRPC", "220 mail"]);
}

#[test]
fn a_runtime_that_does_not_answer_is_given_up() {
    let node = Node::connect();
    let proxy = Proxy::to(&node.socket());
    proxy.hold(true);
    fails(&["--pod", "any", "--runtime-endpoint", &proxy.endpoint()], &["did not answer within"]);
}

#[test]
fn a_runtime_that_dies_and_comes_back_costs_no_call() {
    let node = Node::connect();
    let proxy = Proxy::to(&node.socket());
    let name = unique("outage");
    let mut running = waiting_for(&name, &proxy.endpoint());
    let pod = node.start(shell(&name));
    running.says("from its first instruction");
    proxy.die();
    running.says("lost the container runtime");
    // A container that starts meanwhile is recorded first and named later.
    assert_eq!(pod.exec("shell", &["sync"]).status, 0);
    pod.restart("shell");
    proxy.come_back();
    running.says("the container runtime is back");
    pod.stop();
    let done = running.end().expect(0);
    let recording = done.recording(&format!("{name}/shell"));
    let attempts: Vec<_> =
        recording.runs().values().filter_map(|run| run.container.as_ref()).map(|c| c.attempt).collect();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    for run in recording.runs().values() {
        assert!(run.coverage.syscalls.is_complete(), "{:?}", run.coverage);
        assert!(run.notes.iter().any(|note| note.contains("runtime was lost")), "{:?}", run.notes);
    }
    assert!(has_joiner_with_sync(&done, &pod));
}

#[test]
fn a_runtime_that_hangs_in_mid_run_delays_names_and_no_records() {
    let node = Node::connect();
    let proxy = Proxy::to(&node.socket());
    let name = unique("hang");
    let mut running = waiting_for(&name, &proxy.endpoint());
    let pod = node.start(shell(&name));
    running.says("from its first instruction");
    proxy.hold(true);
    assert_eq!(pod.exec("shell", &["sync"]).status, 0);
    running.says("lost the container runtime");
    proxy.hold(false);
    running.says("the container runtime is back");
    pod.stop();
    let done = running.end().expect(0);
    assert!(has_joiner_with_sync(&done, &pod));
}

#[test]
fn an_end_before_the_runtime_has_named_a_container_that_runs_waits_for_its_name() {
    let node = Node::connect();
    let proxy = Proxy::to(&node.socket());
    let name = unique("nameless");
    let running = waiting_for(&name, &proxy.endpoint());
    proxy.hold(true);
    let _pod = node.start(shell(&name));
    running.signal(libc::SIGINT);
    thread::sleep(Duration::from_secs(1));
    proxy.hold(false);
    let done = running.end().expect(0);
    let recording = done.recording(&format!("{name}/shell"));
    let run = recording.runs().values().next().expect("a run");
    assert_eq!(run.ended, Ended::Interrupted);
}

#[test]
fn what_a_filter_refuses_is_looked_for_before_the_runtime_has_named_the_container() {
    let node = Node::connect();
    let proxy = Proxy::to(&node.socket());
    let name = unique("late");
    let mut running = waiting_for(&name, &proxy.endpoint());
    let pod = node.start(shell(&name));
    running.says("from its first instruction");
    proxy.hold(true);
    pod.restart_as(&ContainerSpec { seccomp: Seccomp::RuntimeDefault, ..sleeper("shell") });
    running.says("looking for the calls that it refuses");
    // The filter lets it pass only with CAP_SYS_ADMIN.
    assert_ne!(pod.exec("shell", &["unshare", "-m", "true"]).status, 0);
    proxy.hold(false);
    pod.stop();
    let recording = running.end().expect(0).recording(&format!("{name}/shell"));
    let filtered = recording.runs().values().find(|run| run.confinement.seccomp.is_filtered());
    let coverage = &filtered.expect("a run under a filter").coverage.refused_syscalls;
    assert!(coverage.observed().is_some(), "{coverage:?}");
    let refused: Vec<_> = recording.refused_calls().keys().map(|call| name_of(call.key)).collect();
    assert!(refused.contains(&"unshare".to_owned()), "{refused:?}");
}

#[test]
fn a_recording_ends_in_order_while_the_runtime_is_gone() {
    let node = Node::connect();
    let proxy = Proxy::to(&node.socket());
    let name = unique("gone");
    let mut running = waiting_for(&name, &proxy.endpoint());
    let pod = node.start(shell(&name));
    running.says("from its first instruction");
    proxy.die();
    running.says("lost the container runtime");
    assert_eq!(pod.exec("shell", &["sync"]).status, 0);
    running.signal(libc::SIGINT);
    let done = running.end().expect(0);
    assert!(has_joiner_with_sync(&done, &pod));
    let recording = done.recording(&format!("{name}/shell"));
    let run = recording.runs().values().next().expect("a run");
    assert_eq!(run.ended, Ended::Interrupted);
    assert!(run.notes.iter().any(|note| note.contains("did not come back")), "{:?}", run.notes);
    assert_eq!(pod.exec("shell", &["true"]).status, 0, "the pod runs on");
}

#[test]
fn an_unknown_pod_is_refused_with_the_namespaces_that_have_one() {
    let node = Node::connect();
    let name = unique("elsewhere");
    fails(&["--pod", &name], &["no pod", &name, "namespace default", "--wait"]);
    let pod = node.start(PodSpec { namespace: "shop".to_owned(), ..shell(&name) });
    fails(&["--pod", &name], &["no pod", &name, "namespace default", "there is one in shop"]);
    // A pod that has ended is no target either.
    pod.stop();
    fails(&["--pod", &name, "-n", "shop"], &["has ended", "--wait"]);
    drop(pod);
    fails(&["--pod", &name, "-n", "shop"], &["no pod", &name, "namespace shop"]);
}

#[test]
fn a_container_that_is_none_or_several_is_refused_with_the_candidates() {
    let node = Node::connect();
    let shared = unique("shared");
    fails(&["--container", &shared], &["no container", &shared]);
    let specs = ["one", "two"].map(|name| PodSpec::new(&unique(name), sleeper(&shared)));
    let pods = specs.map(|spec| node.start(spec));
    let ids = [&pods[0], &pods[1]].map(|pod| pod.container(&shared).id.0);
    fails(&["--container", &shared], &["fits several containers", &ids[0], &ids[1], pods[0].name()]);
    fails(&["--pod", pods[0].name(), "-c", "other"], &["no container", "other"]);
}

#[test]
fn a_pod_that_vanishes_ends_its_recording_with_all_that_was_seen() {
    let node = Node::connect();
    let name = unique("vanishing");
    let mut running = waiting_for(&name, &format!("unix://{}", node.socket().display()));
    let pod = node.start(shell(&name));
    running.says("from its first instruction");
    assert_eq!(pod.exec("shell", &["sync"]).status, 0);
    // Killed and removed at once: the runtime does not know it any more.
    drop(pod);
    let done = running.end().expect(0);
    let recording = done.recording(&format!("{name}/shell"));
    assert!(calls(&recording, Phase::Joiner).contains("sync"));
    let run = recording.runs().values().next().expect("a run");
    assert_eq!(run.ended, Ended::SubjectEnded);
}

#[test]
fn no_pod_in_time_is_an_error_and_writes_nothing() {
    let name = unique("never");
    let done = khard::trace(["--pod", &name, "--wait", "--duration", "1s"]).end().expect(ERROR);
    assert!(done.stderr.contains("no target started in the given time"), "{}", done.stderr);
    assert_eq!(khard::files_below(&done.out), Vec::<String>::new());
}

#[test]
fn a_privileged_pod_is_recorded_and_said_to_get_no_profile() {
    let node = Node::connect();
    let container = ContainerSpec { privileged: true, ..sleeper("shell") };
    let pod = node.start(PodSpec::new(&unique("privileged"), container));
    let mut running = khard::trace(["--pod", pod.name()]);
    running.says("from now on: it ran before");
    running.signal(libc::SIGINT);
    let done = running.end().expect(0);
    let folder = format!("{}/shell", pod.name());
    let recording = done.recording(&folder);
    let run = recording.runs().values().next().expect("a run");
    assert_eq!(run.confinement.privileged, Some(true));
    assert!(run.notes.iter().any(|note| note.contains("privileged")), "{:?}", run.notes);
    let summary = fs::read_to_string(done.out.join(folder).join("summary.md")).expect("a summary");
    assert!(summary.contains("privileged"), "{summary}");
}

#[test]
fn a_pod_that_runs_under_the_runtimes_default_filter_is_warned_about() {
    let node = Node::connect();
    let container = ContainerSpec { seccomp: Seccomp::RuntimeDefault, ..sleeper("shell") };
    let pod = node.start(PodSpec::new(&unique("confined"), container));
    let mut running = khard::trace(["--pod", pod.name()]);
    running.says("from now on: it ran before");
    running.signal(libc::SIGINT);
    let done = running.end().expect(0);
    let warning =
        done.stderr.lines().find(|line| line.contains("default seccomp filter")).unwrap_or_default();
    assert!(
        warning.contains("WARN") && warning.contains("after the calls that it refuses is not seen"),
        "{}",
        done.stderr
    );
    let recording = done.recording(&format!("{}/shell", pod.name()));
    let run = recording.runs().values().next().expect("a run");
    let seccomp = &run.confinement.seccomp;
    assert!(matches!(seccomp, SeccompInForce::RuntimeDefault { n_filters: Some(1) | None }), "{seccomp:?}");
}

#[test]
fn a_killed_khard_leaves_the_pod_running_and_a_checkpoint_that_profiles_are_made_from() {
    let node = Node::connect();
    let name = unique("survivor");
    let mut running = waiting_for(&name, &format!("unix://{}", node.socket().display()));
    let pod = node.start(shell(&name));
    running.says("from its first instruction");
    assert_eq!(pod.exec("shell", &["sync"]).status, 0);
    let folder = running.out().join(&name).join("shell");
    let checkpoint = folder.join("recording.checkpoint.json");
    wait::until("a checkpoint with the exec'd command", || {
        checkpoint.exists() && calls(&khard::recording(&checkpoint), Phase::Joiner).contains("sync")
    });
    let pid = running.pid();
    running.signal(libc::SIGKILL);
    wait::until("khard's end", || !is_alive(pid));
    assert_eq!(pod.exec("shell", &["true"]).status, 0, "the pod runs on");
    assert_eq!(files(&folder), ["recording.checkpoint.json"]);

    let generated = khard::start(&mut khard::command([Path::new("generate"), &folder])).end().expect(0);
    assert!(generated.stdout.contains("1 of 1 runs only checkpoints"), "{}", generated.stdout);
    assert_eq!(files(&folder), ["recording.checkpoint.json", "seccomp.json", "shell.apparmor", "summary.md"]);
    let recording = khard::recording(&checkpoint);
    assert!(recording.runs().values().all(|run| run.ended == Ended::Checkpoint));
    // The profile that comes of it holds the pod as far as it went.
    let profile = folder.join("seccomp.json");
    let confined = ContainerSpec { seccomp: Seccomp::Localhost(profile), ..sleeper("shell") };
    let again = node.start(PodSpec::new(&unique("again"), confined));
    assert_eq!(again.exec("shell", &["sync"]).status, 0);
}

fn files(folder: &Path) -> Vec<String> {
    khard::files_below(folder)
}
