//! Verbose statuses as containerd and CRI-O give them, beside a /proc made for the purpose.
use super::*;
use crate::runtime::{ContainerId, Pod, PodId, SandboxKind};
use serde_json::json;
use std::path::Path;

const ID: &str = "b8a0f98cb1c884c6d9eb5c9c6b33b046472ded5033bca0f003d2daf277f77ca5";

fn container(state: ContainerState) -> Container {
    Container {
        id: ContainerId(ID.into()),
        name: "nginx".into(),
        attempt: 0,
        pod: Some(Pod {
            id: PodId("p".into()),
            name: "web".into(),
            namespace: "default".into(),
            uid: "u".into(),
            attempt: 0,
            is_ready: true,
            created_at_ns: 1,
            handler: String::new(),
            labels: std::collections::BTreeMap::new(),
        }),
        labels: std::collections::BTreeMap::new(),
        state,
        image: String::new(),
        image_id: String::new(),
        created_at_ns: 1,
        has_started: false,
        exit_code: None,
    }
}

/// A /proc with process 42 in `cgroup`, child of 41 which runs `parent`.
fn proc_with(cgroup: &str, parent: &str) -> (tempfile::TempDir, Proc) {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("42/cgroup", &format!("3:pids:/x\n0::{cgroup}\n"));
    write("42/status", "Name:\tnginx\nPPid:\t41\nSeccomp:\t2\n");
    write("41/cmdline", &parent.replace(' ', "\0"));
    write("9/environ", &format!("A=b\0PATH=/nowhere:{}\0", dir.path().join("bin").display()));
    write("bin/runc", "");
    let proc = Proc::at(dir.path());
    (dir, proc)
}

fn running(info: &Value, cgroup: &str) -> Result<ContainerDetails, RuntimeError> {
    let (_dir, proc) = proc_with(cgroup, "/usr/bin/conmon -c x -r /usr/bin/crun -u x");
    read(container(ContainerState::Running), info, &proc, Some(9))
}

fn containerd(security_context: &Value) -> Value {
    json!({
        "pid": 42,
        "runtimeType": "io.containerd.runc.v2",
        "runtimeOptions": null,
        "config": { "linux": { "security_context": security_context } },
        "runtimeSpec": {
            "process": { "noNewPrivileges": true, "capabilities": { "bounding": ["CAP_KILL", "CAP_CHOWN"] } },
            "linux": { "cgroupsPath": format!("/kubepods/podu/{ID}"), "seccomp": { "defaultAction": "SCMP_ACT_ERRNO" } },
        },
    })
}

#[test]
fn containerd_s_answer_is_read_whole() {
    let (dir, proc) = proc_with(&format!("/kubepods/podu/{ID}"), "/usr/bin/containerd-shim-runc-v2");
    let info = containerd(&json!({ "seccomp": {}, "no_new_privs": true }));
    let details = read(container(ContainerState::Running), &info, &proc, Some(9)).expect("it is complete");
    assert_eq!(details.pid, Some(42));
    assert_eq!(details.cgroup.as_deref(), Some(Path::new(&format!("/kubepods/podu/{ID}"))));
    assert_eq!(details.no_new_privileges, Some(true));
    assert_eq!(details.privileged, Privileged::Stated(false));
    assert_eq!(details.seccomp, Seccomp::RuntimeDefault);
    assert_eq!(details.apparmor_profile, None);
    assert_eq!(
        details.oci_runtime.binary,
        Some(dir.path().join("bin/runc")),
        "found in the daemon's search path"
    );
}

#[test]
fn cri_o_s_answer_is_read_whole() {
    let scope = format!("/kubepods.slice/kubepods-podu.slice/crio-{ID}.scope");
    let info = json!({
        "pid": 42,
        "privileged": true,
        "runtimeSpec": {
            "annotations": { "io.kubernetes.cri-o.SeccompProfilePath": "localhost/web.json" },
            "process": { "apparmorProfile": "web-guard" },
            "linux": { "cgroupsPath": format!("kubepods-podu.slice:crio:{ID}"), "seccomp": {} },
        },
    });
    let details = running(&info, &format!("{scope}/container")).expect("it is complete");
    assert_eq!(details.cgroup.as_deref(), Some(Path::new(&scope)), "the process may be in a child of it");
    assert_eq!(details.no_new_privileges, Some(false), "Go leaves out what is false");
    assert_eq!(details.privileged, Privileged::Stated(true));
    assert_eq!(details.seccomp, Seccomp::Localhost("web.json".into()));
    assert_eq!(details.apparmor_profile.as_deref(), Some("web-guard"));
    assert_eq!(details.oci_runtime.binary, Some("/usr/bin/crun".into()), "as conmon was told");
}

#[test]
fn the_seccomp_filter_is_told_by_kind() {
    let of = |context: Value| Info(&containerd(&context)).seccomp();
    assert_eq!(of(json!({ "seccomp": {} })), Seccomp::RuntimeDefault);
    assert_eq!(
        of(json!({ "seccomp": { "profile_type": 2, "localhost_ref": "/p.json" } })),
        Seccomp::Localhost("/p.json".into())
    );
    assert_eq!(
        of(json!({ "seccomp_profile_path": "localhost//p.json" })),
        Seccomp::Localhost("/p.json".into())
    );
    assert_eq!(of(json!({ "seccomp_profile_path": "runtime/default" })), Seccomp::RuntimeDefault);
    assert_eq!(of(json!({})), Seccomp::Other);
    let mut without = containerd(&json!({ "seccomp": {} }));
    without["runtimeSpec"]["linux"]["seccomp"] = Value::Null;
    assert_eq!(
        Info(&without).seccomp(),
        Seccomp::None,
        "as of a privileged container, whatever was asked for"
    );
    assert_eq!(Info(&Value::Null).seccomp(), Seccomp::Unknown);
}

#[test]
fn privileged_is_derived_from_the_devices_where_nobody_states_it() {
    let of = |devices: Value| {
        Info(&json!({ "runtimeSpec": { "linux": { "resources": { "devices": devices } } } })).privileged()
    };
    assert_eq!(of(json!([{ "allow": true, "access": "rwm" }])), Privileged::Derived(true));
    assert_eq!(of(json!([{ "allow": true, "type": "a", "access": "rwm" }])), Privileged::Derived(true));
    assert_eq!(of(json!([{ "allow": false, "access": "rwm" }])), Privileged::Derived(false));
    assert_eq!(
        of(json!([{ "allow": true, "type": "c", "major": 1, "minor": 3 }])),
        Privileged::Derived(false)
    );
    assert_eq!(Info(&json!({})).privileged(), Privileged::Unknown);
}

#[test]
fn a_container_in_somebody_else_s_cgroup_is_refused() {
    let info = containerd(&json!({}));
    for shared in ["/", "/kubepods/podu", "/system.slice/containerd.service"] {
        let error = running(&info, shared).expect_err(shared);
        assert!(matches!(&error, RuntimeError::NoOwnCgroup { found, .. } if found == shared), "{error}");
    }
}

#[test]
fn a_shifted_cgroup_path_is_found_by_the_id() {
    let cgroup = format!("/docker/node/kubepods/podu/{ID}");
    let details =
        running(&containerd(&json!({})), &format!("{cgroup}/deeper/{ID}")).expect("the outer one is its own");
    assert_eq!(details.cgroup.as_deref(), Some(Path::new(&cgroup)));
}

#[test]
fn before_its_start_a_container_has_a_cgroup_to_come_and_no_process() {
    let (_dir, proc) = proc_with("/elsewhere", "");
    let info = containerd(&json!({}));
    let details = read(container(ContainerState::Created), &info, &proc, None).expect("it is complete");
    assert_eq!(details.pid, None);
    assert_eq!(details.cgroup.as_deref(), Some(Path::new(&format!("/kubepods/podu/{ID}"))));
}

#[test]
fn a_process_that_ended_meanwhile_is_as_one_that_is_not_there() {
    let mut info = containerd(&json!({}));
    info["pid"] = 43.into();
    let details = running(&info, "/elsewhere").expect("it is complete");
    assert_eq!(details.pid, None);
}

#[test]
fn a_runtime_that_tells_nothing_leaves_everything_unknown() {
    let details = running(&Value::Null, "/x").expect("unknown is no failure");
    assert_eq!((details.pid, details.cgroup, details.no_new_privileges), (None, None, None));
    assert_eq!((details.seccomp, details.privileged), (Seccomp::Unknown, Privileged::Unknown));
    assert_eq!(details.oci_runtime, OciRuntime::default());
}

#[test]
fn a_sandboxed_workload_is_refused_with_its_kind() {
    let mut info = containerd(&json!({}));
    info["runtimeType"] = "io.containerd.runsc.v1".into();
    let error = running(&info, &format!("/kubepods/podu/{ID}")).expect_err("gVisor");
    assert!(matches!(&error, RuntimeError::Sandboxed { sandbox, .. } if sandbox.kind == SandboxKind::Gvisor));
    assert!(error.to_string().contains("gVisor, by its runtime type io.containerd.runsc.v1"), "{error}");
}

#[test]
fn the_oci_runtime_is_what_the_options_name_else_the_shim_s_default() {
    let of = |runtime_type: &str, options: Value| {
        Info(&json!({ "runtimeType": runtime_type, "runtimeOptions": options })).oci_binary()
    };
    let runc = "io.containerd.runc.v2";
    assert_eq!(of(runc, Value::Null), Some("runc".into()));
    assert_eq!(of(runc, json!({ "binary_name": "/usr/bin/crun" })), Some("/usr/bin/crun".into()));
    assert_eq!(of(runc, json!({ "BinaryName": "crun" })), Some("crun".into()));
    assert_eq!(of(runc, json!({ "binary_name": "" })), Some("runc".into()));
    assert_eq!(of("io.containerd.kata.v2", Value::Null), None);
}
