//! Inspections as Docker gives them.
use super::*;
use crate::runtime::{ContainerId, SandboxKind};
use serde_json::{Value, json};

const ID: &str = "b8a0f98cb1c884c6d9eb5c9c6b33b046472ded5033bca0f003d2daf277f77ca5";

/// An inspection of a running container with this part of its configuration, beside a /proc with its process in `cgroup`.
fn details(host: &Value, info: &wire::Info, cgroup: &str) -> Result<ContainerDetails, RuntimeError> {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("42")).expect("made");
    std::fs::write(dir.path().join("42/cgroup"), format!("3:pids:/x\n0::{cgroup}\n")).expect("written");
    let inspected = json!({
        "Id": ID, "Name": "/web", "Image": "sha256:aa", "AppArmorProfile": "docker-default", "RestartCount": 2,
        "State": { "Status": "running", "Pid": 42, "ExitCode": 0, "StartedAt": "2026-11-29T17:16:38.28Z" },
        "Config": { "Image": "nginx:1", "Labels": { "a": "b" }, "Cmd": ["nginx"] },
        "HostConfig": host,
    });
    let listed = json!({ "Id": ID, "State": "created", "Labels": null });
    let listed: wire::Listed = serde_json::from_value(listed).expect("what khard reads");
    let container = Container {
        id: ContainerId(listed.id),
        name: String::new(),
        attempt: 0,
        pod: None,
        labels: std::collections::BTreeMap::new(),
        state: ContainerState::Created,
        image: String::new(),
        image_id: String::new(),
        created_at_ns: 1,
        has_started: false,
        exit_code: None,
    };
    let inspected = serde_json::from_value(inspected).expect("what khard reads");
    read(container, inspected, info, &Proc::at(dir.path()))
}

fn info(security: &[&str]) -> wire::Info {
    serde_json::from_value(json!({
        "SecurityOptions": security, "DefaultRuntime": "runc",
        "Runtimes": {
            "runc": { "path": "/usr/sbin/runc" }, "sandboxed": { "path": "/usr/local/bin/runsc" },
            "shim": { "runtimeType": "io.containerd.kata.v2" },
        },
    }))
    .expect("what khard reads")
}

fn cgroup() -> String {
    format!("/docker/{ID}")
}

#[test]
fn docker_s_answer_is_read_whole() {
    let host = json!({ "Privileged": false, "SecurityOpt": ["no-new-privileges:true"], "Runtime": "runc" });
    let info = info(&["name=apparmor", "name=seccomp,profile=default"]);
    let details = details(&host, &info, &format!("{}/init", cgroup())).expect("it is complete");
    assert_eq!(details.pid, Some(42));
    assert_eq!(details.cgroup, Some(cgroup().into()), "the process may be in a child of it");
    assert_eq!((details.container.name.as_str(), details.container.attempt), ("web", 2));
    assert_eq!(
        (details.container.image.as_str(), details.container.image_id.as_str()),
        ("nginx:1", "sha256:aa")
    );
    assert_eq!(details.container.labels.get("a").map(String::as_str), Some("b"));
    assert_eq!((details.no_new_privileges, details.privileged), (Some(true), Privileged::Stated(false)));
    assert_eq!(details.seccomp, Seccomp::RuntimeDefault);
    assert_eq!(details.apparmor_profile.as_deref(), Some("docker-default"));
    assert_eq!(details.oci_runtime.binary, Some("/usr/sbin/runc".into()));
}

#[test]
fn the_seccomp_filter_is_told_by_kind() {
    let of = |host: Value, security: &[&str]| {
        details(&host, &info(security), &cgroup()).expect("it is complete").seccomp
    };
    let default = ["name=seccomp,profile=builtin"];
    let with = |option: &str| json!({ "SecurityOpt": ["apparmor=x", option] });
    assert_eq!(of(json!({}), &default), Seccomp::RuntimeDefault);
    assert_eq!(of(with("seccomp=unconfined"), &default), Seccomp::None);
    assert_eq!(of(with("seccomp:unconfined"), &default), Seccomp::None);
    assert_eq!(of(with("seccomp=builtin"), &["name=seccomp,profile=unconfined"]), Seccomp::RuntimeDefault);
    assert_eq!(of(with(r#"seccomp={"defaultAction":"x"}"#), &default), Seccomp::Other);
    assert_eq!(of(with("seccomp=/p.json"), &default), Seccomp::Localhost("/p.json".into()));
    assert_eq!(of(json!({ "Privileged": true }), &default), Seccomp::None);
    assert_eq!(of(json!({}), &["name=seccomp,profile=/d.json"]), Seccomp::Localhost("/d.json".into()));
    assert_eq!(of(json!({}), &["name=seccomp,profile=unconfined"]), Seccomp::None);
    assert_eq!(of(json!({}), &["name=apparmor"]), Seccomp::None);
    assert_eq!(of(json!({}), &[]), Seccomp::Unknown);
}

#[test]
fn a_sandboxed_workload_and_a_shared_cgroup_are_refused() {
    for (runtime, kind) in [
        ("sandboxed", SandboxKind::Gvisor),
        ("shim", SandboxKind::Kata),
        ("io.containerd.wasmtime.v1", SandboxKind::Wasm),
    ] {
        let error = details(&json!({ "Runtime": runtime }), &info(&[]), &cgroup()).expect_err(runtime);
        assert!(
            matches!(&error, RuntimeError::Sandboxed { sandbox, .. } if sandbox.kind == kind),
            "{runtime}: {error}"
        );
    }
    let error = details(&json!({}), &info(&[]), "/docker").expect_err("it is shared");
    assert!(matches!(error, RuntimeError::NoOwnCgroup { .. }), "{error}");
}
