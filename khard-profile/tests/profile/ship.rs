//! Facts about what is shipped: forms for Kubernetes, the security-profiles-operator, Docker and Compose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use khard_profile::Bytes;
use khard_profile::recording::*;
use khard_profile::seccomp::*;
use khard_profile::ship::*;
use khard_profile::{apparmor, syscalls};
use serde_json::{Value, json};

use crate::support::{floor_of, observe, run, run_id};

const OUT: &str = "out of 'it'";

fn container(pod: &str, labels: &[(&str, &str)], container: &str) -> Subject {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Subject::of_container("shop", pod, &labels, container)
}

fn of_web(name: &str) -> Subject {
    container("web-7d4b9c-x2x4z", &[("pod-template-hash", "7d4b9c")], name)
}

/// The init container came first, and the others in their order: nginx before log.
fn born(mut recording: Recording, nth: u64) -> Recording {
    let old = run_id(0).to_string();
    let json = String::from_utf8(json_of(&recording)).unwrap();
    let json = json.replace(&old, &old.replace(".4000.", &format!(".{}.", 5000 + nth)));
    recording = Recording::from_json(json.as_bytes()).unwrap();
    recording
}

fn json_of(recording: &Recording) -> Vec<u8> {
    let mut json = Vec::new();
    recording.write_json(&mut json).unwrap();
    json
}

/// One run, in which every class was observed.
fn recording(subject: Subject, calls: &[&str], accesses: &[Access]) -> Recording {
    let observed = Observed {
        from: From::FirstInstruction,
        by: Attachment::Fexit,
        lost: BTreeMap::new(),
        proof: Proof::from_misses([("file_open".to_owned(), 0)].into()),
    };
    let mut recording = Recording::new(subject);
    let mut run = run(0);
    run.coverage.accesses = AccessCoverage::new(|_| Coverage::Exact(observed.clone()));
    if !matches!(recording.subject(), Subject::Container { .. }) {
        run.container = None;
    }
    recording.add_run(run);
    observe(&mut recording, 0, Phase::Workload, calls);
    for what in accesses {
        let key = AccessKey { what: what.clone(), outcome: Outcome::Granted, certainty: Certainty::Exact };
        let witness = Witness {
            time_ns: 7,
            run: run_id(0),
            tgid: 7,
            tid: 7,
            comm: b"\x1b[2J\n- evil".as_slice().into(),
            exe: "nginx".into(),
        };
        recording.observe_access(run_id(0), key, Phase::Workload, Some(witness)).unwrap();
    }
    recording
}

fn file(path: &str, op: FileOp, perms: &str) -> Access {
    let (path, perms) = (Bytes::from(path), perms.parse().unwrap());
    Access::File(FileAccess { path, op, perms, facts: FileFacts::default() })
}

fn capability(capability: u8, optional: bool) -> Access {
    Access::Capability { capability, optional }
}

fn seccomp_of(recording: &Recording) -> Vec<u8> {
    let floor = floor_of(recording, &["execve", "openat2"]);
    let generated = generate(recording, Policy { phases: Policy::DEFAULT_PHASES, floor }).unwrap();
    generated.profile.to_json().unwrap()
}

/// With both profiles, as `khard generate` makes them.
fn shipment(recording: &Recording) -> Shipment {
    let apparmor = apparmor::generate(recording, &apparmor::Policy::default()).unwrap();
    let text = apparmor.to_text(apparmor::Style::default());
    Shipment::new(recording, Some(seccomp_of(recording)), Some(text.into_bytes())).unwrap()
}

/// Two containers and an init container, of which each has something of its own.
fn web() -> Vec<Shipment> {
    let nginx = recording(
        of_web("nginx"),
        &["read", "write", "accept4"],
        &[
            file("/etc/nginx/nginx.conf", FileOp::Open, "r"),
            file("/dev/null", FileOp::Open, "w"),
            file("/var/cache/nginx/a\x1b\n# b", FileOp::Open, "rwc"),
            file("/run/nginx.pid", FileOp::Unlink, "d"),
            capability(10, false),
            capability(7, false),
            capability(12, true),
        ],
    );
    let mut log = recording(of_web("log"), &["read"], &[file("/etc/hosts", FileOp::Open, "r")]);
    let mut lossy = log.runs()[&run_id(0)].clone();
    lossy.confinement.no_new_privs = Some(false);
    lossy.coverage.syscalls = Coverage::Exact(Observed {
        from: From::Late,
        by: Attachment::Tracepoint,
        lost: [("slots_full".to_owned(), 3)].into(),
        proof: Proof::from_misses(BTreeMap::new()),
    });
    log.add_run(lossy);
    let setup = born(recording(of_web("setup"), &["chown"], &[]), 0);
    let only_seccomp = Shipment::new(&setup, Some(seccomp_of(&setup)), None).unwrap();
    vec![shipment(&born(nginx, 1)), only_seccomp, shipment(&born(log, 2))]
}

fn kubernetes(version: &str, by_operator: bool) -> Kubernetes {
    Kubernetes::new(web(), None, &["setup".to_owned()], version.parse().unwrap(), by_operator).unwrap()
}

/// What is printed and the files, but for copies of profiles and what repeats another file. Long lists are cut.
fn shown(bundle: &Bundle) -> String {
    let mut text = format!("{:#}\n", serde_json::to_value(bundle).unwrap());
    for file in
        bundle.files.iter().filter(|file| Path::new(&file.path[0]).extension() == Some("yaml".as_ref()))
    {
        let _ = writeln!(text, "\n=== {}", file.path.join("/"));
        let mut n_names = 0;
        for line in String::from_utf8(file.content.clone()).unwrap().lines() {
            n_names = if line.starts_with("        - ") { n_names + 1 } else { 0 };
            match n_names {
                0..4 => text.extend([line, "\n"]),
                4 => text.push_str("        …\n"),
                _ => {}
            }
        }
    }
    text
}

#[test]
fn the_files_for_kubernetes() {
    let out = Path::new(OUT);
    insta::assert_snapshot!(shown(&kubernetes("1.30", false).bundle(out).unwrap()));
}

#[test]
fn the_files_for_kubernetes_before_it_had_a_field_for_apparmor() {
    let bundle = kubernetes("v1.27.3", false).bundle(Path::new(OUT)).unwrap();
    let patch = bundle.files.iter().find(|file| file.path == ["patch.yaml"]).unwrap();
    insta::assert_snapshot!(String::from_utf8(patch.content.clone()).unwrap());
}

#[test]
fn the_files_for_the_operator() {
    insta::assert_snapshot!(shown(&kubernetes("1.31", true).bundle(Path::new(OUT)).unwrap()));
}

#[test]
fn the_files_for_docker_of_hostile_names() {
    let hostile =
        Subject::Command { program: b"/opt/\x1b]0;\x07/$(reboot) \"a\": b\n# \xff".as_slice().into() };
    let mut of_command = recording(hostile, &["read"], &[file("/tmp/x", FileOp::Create, "c")]);
    let evil = Subject::of_container("n", "p", &BTreeMap::new(), "../.. {evil: true}\r\n- x");
    let mut of_container = recording(evil, &["write"], &[capability(10, false)]);
    let mut run = of_container.runs()[&run_id(0)].clone();
    run.container.as_mut().unwrap().image = "x;touch 'y'\u{202e}".to_owned();
    run.notes.push("a note".to_owned());
    of_container.add_run(run);
    let mut run = of_command.runs()[&run_id(0)].clone();
    run.confinement.privileged = Some(true);
    of_command.add_run(run);
    let docker = Docker::new(vec![shipment(&of_command), shipment(&of_container)]).unwrap();
    insta::assert_snapshot!(shown(&docker.bundle(Path::new(OUT))));
}

/// Rules of every kind: what the operator's lists can say, what they say otherwise, and what they cannot.
const OF_EVERY_KIND: &str = "\
abi <abi/3.0>,
include <tunables/global>

profile khard-shop-web-nginx-0123abcd flags=(attach_disconnected,complain) {
  include <abstractions/base>
  include <abstractions/nameservice>
  capability net_bind_service setuid,
  network inet stream,
  network inet6 dgram,
  network netlink raw,
  network unix stream,
  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  ptrace (readby) peer=other,
  ptrace (read) peer=other,
  mount fstype=tmpfs -> /mnt/,
  \"/bin/sh\" ix,
  \"/bin/sh\" r,
  \"/bin/other\" px,
  \"/lib/libc.so.6\" mr,
  \"/etc/passwd\" r,
  \"/srv/pages/\" r,
  \"/srv/pages/*\" r,
  \"/srv/pages/counter\" rw,
  \"/var/log/web.log\" a,
  \"/var/log/old/**\" w,
  \"/var/log/old/read\" r,
  \"/run/web.lock\" rwk,
  \"/run/lock\" rk,
  \"/run/link\" l,
  owner \"/home/web/file\" r,
  \"/proc/@{pid}/status\" r,
  \"/proc/sys/net/core/somaxconn\" w,
  \"/data/{a,b}\" r,
  \"/data/two words\" r,
  \"/data/\\033\" r,
  deny \"/etc/shadow\" r,
}
";

fn operators_apparmor(text: &str) -> String {
    let recording = recording(of_web("nginx"), &["read"], &[]);
    let shipment = Shipment::new(&recording, None, Some(text.into())).unwrap();
    let bundle = Kubernetes::new(vec![shipment], None, &[], "1.30".parse().unwrap(), true)
        .unwrap()
        .bundle(Path::new(OUT))
        .unwrap();
    let file = bundle.files.iter().find(|file| file.path == ["apparmorprofiles.yaml"]).unwrap();
    let steps = [bundle.warnings, bundle.steps].concat().join("\n");
    format!("{steps}\n\n{}", String::from_utf8(file.content.clone()).unwrap())
}

#[test]
fn the_operators_form_of_an_apparmor_profile_names_what_it_cannot_say() {
    insta::assert_snapshot!(operators_apparmor(OF_EVERY_KIND));
}

/// By the pattern of the API's lists of paths: `api/apparmorprofile/v1/apparmorprofile_types.go`.
#[test]
fn a_path_of_the_operators_apparmor_resources_is_one_that_its_api_takes_and_any_other_is_named() {
    let mut rules = String::new();
    for c in 0x20..0x7f_u8 {
        let _ = writeln!(rules, "  \"/x{}y\" r,", khard_profile::escape::apparmor(&[c]));
    }
    let text = operators_apparmor(&format!("profile khard-x {{\n{rules}}}\n"));
    let (comments, resource): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with('#'));
    let taken = |c: char| c.is_ascii_alphanumeric() || "_./+@-".contains(c);
    let listed = resource.iter().filter_map(|line| line.trim().strip_prefix("- "));
    let listed: BTreeSet<&str> = listed.map(|path| path.trim_matches('"')).collect();
    let wanted: BTreeSet<String> =
        (0x20..0x7f_u8).map(char::from).filter(|c| taken(*c)).map(|c| format!("/x{c}y")).collect();
    assert_eq!(listed, wanted.iter().map(String::as_str).collect());
    assert_eq!(comments.iter().filter(|line| line.starts_with("# - ")).count(), 0x5f - wanted.len());
}

#[test]
fn an_apparmor_profile_of_the_host_is_shipped_to_no_container_and_that_is_said() {
    let of_command = recording(
        Subject::Command { program: "/usr/bin/sh".into() },
        &["read"],
        &[file("/etc/hosts", FileOp::Open, "r")],
    );
    let bundle = Docker::new(vec![shipment(&of_command)]).unwrap().bundle(Path::new("out"));
    assert!(bundle.steps.iter().all(|step| !step.contains("apparmor")), "{:?}", bundle.steps);
    assert!(bundle.warnings[0].contains("its AppArmor profile is left out"), "{:?}", bundle.warnings);
    let mut without_seccomp = shipment(&of_command);
    without_seccomp.seccomp = None;
    assert_eq!(Docker::new(vec![without_seccomp]), Err(ShipError::NotOfContainer("sh".to_owned())));
}

#[test]
fn compose_finds_its_files_by_the_step_that_is_printed() {
    let bundle = Docker::new(web()).unwrap().bundle(Path::new("out"));
    let step = bundle.steps.iter().find(|step| step.contains("with Compose")).unwrap();
    let files = bundle.files.iter().map(|file| &file.path[0]);
    for json in files.filter(|name| Path::new(name).extension().is_some_and(|end| end == "json")) {
        assert!(step.contains(&format!(" out/{json} ")), "{step}");
    }
    assert!(step.ends_with(" . && docker compose -f compose.yaml -f out/compose.yaml up -d"), "{step}");
    let run = bundle.steps.iter().find(|step| step.starts_with("docker run ")).unwrap();
    assert!(run.starts_with("docker run --security-opt seccomp=out/khard-shop-web-"), "{run}");
}

/// The only names that are of the form: of an object's parts, and of what was recorded.
fn strings(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(into.insert(text.clone())),
        Value::Array(all) => all.iter().for_each(|value| strings(value, into)),
        Value::Object(map) => map.values().for_each(|value| strings(value, into)),
        _ => {}
    }
}

#[test]
fn a_patch_says_nothing_but_the_names_of_profiles() {
    for version in ["1.19", "1.30"] {
        let kubernetes = kubernetes(version, false);
        let mut said = BTreeSet::new();
        strings(&kubernetes.patch(), &mut said);
        let names = |name: &String| {
            name.trim_end_matches(".json").trim_start_matches("localhost/").starts_with("khard-shop-web-")
        };
        let rest: Vec<String> = said.into_iter().filter(|name| !names(name)).collect();
        assert_eq!(rest, ["Deployment", "Localhost", "apps/v1", "log", "nginx", "setup", "web"]);
    }
}

#[test]
fn containers_stand_in_the_order_of_their_start_or_a_warning_says_that_it_is_a_guess() {
    let ship = |births: &[(&str, u64)], attempt: u32| {
        let of = |(name, nth): &(&str, u64)| {
            let mut recording = recording(of_web(name), &["read"], &[]);
            let mut run = recording.runs()[&run_id(0)].clone();
            run.container.as_mut().unwrap().attempt = attempt;
            recording.add_run(run);
            let json = seccomp_of(&recording);
            Shipment::new(&born(recording, *nth), Some(json), None).unwrap()
        };
        let shipments = births.iter().map(of).collect();
        let kubernetes = Kubernetes::new(shipments, None, &[], "1.30".parse().unwrap(), false).unwrap();
        let containers =
            kubernetes.patch()["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
        let names: Vec<String> =
            containers.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        let warns = !kubernetes.bundle(Path::new(OUT)).unwrap().warnings.is_empty();
        (names.join(" "), warns)
    };
    assert_eq!(ship(&[("a", 7), ("b", 3), ("c", 5)], 0), ("b c a".to_owned(), false));
    assert_eq!(ship(&[("c", 3), ("b", 7)], 1), ("b c".to_owned(), true));
    assert_eq!(ship(&[("b", 7)], 1), ("b".to_owned(), false));
}

/// What a call gets: the action and the errno.
fn verdict(profile: &Value, call: &str) -> (String, Option<i64>) {
    let named = |rule: &&Value| rule["names"].as_array().unwrap().iter().any(|name| name == call);
    let rule = profile["syscalls"].as_array().unwrap().iter().find(named);
    let (action, errno) = match rule {
        Some(rule) => (&rule["action"], rule["errnoRet"].as_i64()),
        None => (&profile["defaultAction"], profile["defaultErrnoRet"].as_i64()),
    };
    let action = action.as_str().unwrap().to_owned();
    let errno = (action == "SCMP_ACT_ERRNO").then(|| errno.unwrap_or(1));
    (action, errno)
}

/// YAML as khard writes it for the operator: lists of names, and maps. Enough to read it back here; other readers do in the
/// whole-program tests.
fn resources(bundle: &Bundle) -> Vec<Value> {
    let file = bundle.files.iter().find(|file| file.path == ["seccompprofiles.yaml"]).unwrap();
    let text = String::from_utf8(file.content.clone()).unwrap();
    text.split("---\n")
        .map(|document| {
            let mut spec = json!({"syscalls": []});
            for line in document.lines() {
                let rules = spec["syscalls"].as_array_mut().unwrap();
                if let Some(action) = line.strip_prefix("    - action: ") {
                    rules.push(json!({"action": action, "names": []}));
                } else if let Some(errno) = line.strip_prefix("      errnoRet: ") {
                    rules.last_mut().unwrap()["errnoRet"] = errno.parse::<i64>().unwrap().into();
                } else if let Some(name) = line.strip_prefix("        - ") {
                    rules.last_mut().unwrap()["names"].as_array_mut().unwrap().push(name.into());
                } else if let Some(action) = line.strip_prefix("  defaultAction: ") {
                    spec["defaultAction"] = action.into();
                }
            }
            spec
        })
        .collect()
}

#[test]
fn the_operators_form_answers_every_known_call_as_the_profile_does() {
    let shipments = web();
    let profiles: Vec<Value> = ["setup", "nginx", "log"]
        .iter()
        .map(|name| {
            let of = |shipment: &&Shipment| matches!(&shipment.subject, Subject::Container { container, .. } if container == name);
            let shipment = shipments.iter().find(of).unwrap();
            serde_json::from_slice(&shipment.seccomp.as_ref().unwrap().json).unwrap()
        })
        .collect();
    let resources = resources(&kubernetes("1.30", true).bundle(Path::new(OUT)).unwrap());
    assert_eq!(resources.len(), profiles.len());
    for (resource, profile) in resources.iter().zip(&profiles) {
        for call in syscalls::of_abi(Abi::X86_64).filter(|call| call.since != syscalls::Since::Never) {
            assert_eq!(verdict(resource, call.name), verdict(profile, call.name), "{}", call.name);
        }
        // A rule that repeats the default is an error for libseccomp.
        for rule in resource["syscalls"].as_array().unwrap() {
            assert_ne!(
                (rule["action"].as_str(), rule["errnoRet"].as_i64().unwrap_or(1)),
                (Some("SCMP_ACT_ERRNO"), 1)
            );
        }
    }
}

#[test]
fn what_the_operator_cannot_say_is_refused() {
    let recording = recording(of_web("nginx"), &["read"], &[]);
    let ship = |profile: Value| {
        let shipment = Shipment::new(&recording, Some(profile.to_string().into_bytes()), None).unwrap();
        Kubernetes::new(vec![shipment], None, &[], "1.30".parse().unwrap(), true)
            .unwrap()
            .bundle(Path::new(OUT))
    };
    let refused = |profile| match ship(profile).unwrap_err() {
        ShipError::NotForOperator(what) => what,
        other => panic!("{other}"),
    };
    assert_eq!(refused(json!({"defaultAction": "SCMP_ACT_ERRNO", "archMap": []})), "archMap");
    assert_eq!(refused(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13})), "defaultErrnoRet");
    let of_docker = json!({"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}});
    assert_eq!(refused(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [of_docker]})), "includes");
    let of = |value: u64| {
        let args = json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": args}]})
    };
    assert_eq!(refused(of(1 << 63)), "value 9223372036854775808");
    assert!(ship(of((1 << 63) - 1)).is_ok());
    assert!(ship(json!({"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOG"]})).is_ok());
}

#[test]
fn what_does_not_belong_together_or_to_kubernetes_is_refused() {
    let of = |subject: Subject| {
        let recording = recording(subject, &["read"], &[]);
        Shipment::new(&recording, Some(seccomp_of(&recording)), None).unwrap()
    };
    let ship = |shipments, init: &[&str]| {
        let init: Vec<String> = init.iter().map(|name| (*name).to_owned()).collect();
        Kubernetes::new(shipments, None, &init, "1.30".parse().unwrap(), false).unwrap_err()
    };
    let db = || of(container("db", &[], "redis"));
    assert_eq!(
        ship(vec![of(of_web("a")), db()], &[]),
        ShipError::TwoWorkloads("shop/web".into(), "shop/db".into())
    );
    assert_eq!(ship(vec![of(of_web("a")), of(of_web("a"))], &[]), ShipError::TwoRecordings("a".into()));
    assert_eq!(ship(vec![of(of_web("a"))], &["b"]), ShipError::NoInitContainer("b".into()));
    assert_eq!(ship(vec![of(of_web("a\n- b"))], &[]), ShipError::NoKubernetesName("a\n- b".into()));
    assert_eq!(ship(vec![of(Subject::Command { program: "x".into() })], &[]), ShipError::NoPod("command"));

    let recording = recording(of_web("a"), &["read"], &[]);
    let shipment = |seccomp: Option<&str>, apparmor: Option<&str>| {
        Shipment::new(&recording, seccomp.map(Into::into), apparmor.map(Into::into)).unwrap_err()
    };
    assert_eq!(shipment(None, None), ShipError::NoProfile);
    assert_eq!(shipment(Some("[]"), None), ShipError::NoSeccompProfile);
    let name = ShipError::AppArmorName("two words".into());
    assert_eq!(shipment(None, Some("profile \"two words\" { }\n")), name);
    for bad in ["1", "1.x", "one", ""] {
        assert_eq!(bad.parse::<KubeVersion>(), Err(ShipError::BadVersion(bad.to_owned())));
    }
    assert!(matches!("v1.18.20".parse::<KubeVersion>(), Err(ShipError::OldVersion(_))));
}

fn suggestions(accesses: &[Access], change: impl Fn(&mut Run)) -> Suggestions {
    let mut recording = recording(of_web("nginx"), &["read"], accesses);
    let mut run = recording.runs()[&run_id(0)].clone();
    change(&mut run);
    recording.add_run(run);
    Shipment::new(&recording, Some(seccomp_of(&recording)), None).unwrap().suggestions
}

#[test]
fn a_read_only_root_is_suggested_only_where_nothing_was_written_to_it() {
    let read_only = |path, op, perms| suggestions(&[file(path, op, perms)], |_| {}).read_only_root;
    assert!(read_only("/etc/passwd", FileOp::Open, "r"));
    assert!(
        read_only("/dev/shm/x", FileOp::Create, "c") && read_only("/proc/self/attr/exec", FileOp::Open, "w")
    );
    // A socket takes what is sent, and a lock is taken, on a read-only file system too.
    assert!(read_only("/run/x.sock", FileOp::Connect, "rw") && read_only("/etc/x", FileOp::Lock, "wk"));
    assert!(!read_only("/devices", FileOp::Create, "c") && !read_only("/var/log/x", FileOp::Open, "a"));
    for op in [
        FileOp::Mkdir,
        FileOp::Rmdir,
        FileOp::Unlink,
        FileOp::Symlink,
        FileOp::RenameFrom,
        FileOp::Chmod,
        FileOp::Chown,
    ] {
        assert!(!read_only("/tmp/x", op, ""), "{op}");
    }
    // It was opened somewhere else, maybe on this file system.
    assert!(!read_only("/tmp/x", FileOp::Receive, "w") && read_only("/tmp/x", FileOp::Receive, "r"));
    let link = Access::Link { link: "/tmp/b".into(), target: "/tmp/a".into() };
    assert!(!suggestions(&[link], |_| {}).read_only_root);
}

#[test]
fn nothing_is_suggested_of_what_is_not_known() {
    let of = |change: fn(&mut Run)| {
        let suggestions = suggestions(&[], change);
        (suggestions.capabilities.is_some(), suggestions.read_only_root, suggestions.no_new_privileges)
    };
    assert_eq!(of(|_| {}), (true, true, true));
    assert_eq!(of(|run| run.coverage.accesses = AccessCoverage::none("no BTF")), (false, false, true));
    assert_eq!(of(|run| run.coverage.accesses = observed(From::Late, 0)), (false, false, true));
    assert_eq!(of(|run| run.coverage.accesses = observed(From::FirstInstruction, 1)), (false, false, true));
    assert_eq!(of(|run| run.confinement.no_new_privs = None), (true, true, false));
    assert_eq!(of(|run| run.confinement.privileged = Some(true)), (false, false, false));
}

fn observed(from: From, lost: u64) -> AccessCoverage {
    let lost = [("ring_full".to_owned(), lost)].into();
    let proof = Proof::from_misses(BTreeMap::new());
    let observed = Observed { from, by: Attachment::Lsm, lost, proof };
    AccessCoverage::new(|_| Coverage::Exact(observed.clone()))
}

/// What the operator's API demands: `api/seccompprofile/v1/seccompprofile_types.go` of security-profiles-operator 1.0.
#[test]
fn the_operators_resources_have_the_form_of_its_api() {
    let bundle = kubernetes("1.30", true).bundle(Path::new(OUT)).unwrap();
    let text = String::from_utf8(
        bundle.files.iter().find(|file| file.path == ["seccompprofiles.yaml"]).unwrap().content.clone(),
    )
    .unwrap();
    for (document, spec) in text.split("---\n").zip(resources(&bundle)) {
        assert!(document.contains("\napiVersion: security-profiles-operator.x-k8s.io/v1\nkind: SeccompProfile\nmetadata:\n  name: khard-shop-web-"));
        let keys: Vec<&str> = document
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .map(str::trim)
            .collect();
        let keys: Vec<&str> = keys.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(keys, ["name", "architectures", "defaultAction", "syscalls"]);
        for rule in spec["syscalls"].as_array().unwrap() {
            let names = rule["names"].as_array().unwrap();
            let different: BTreeSet<&str> = names.iter().filter_map(Value::as_str).collect();
            assert!(!names.is_empty() && different.len() == names.len());
            assert!(rule["errnoRet"].is_null() || (0..=4095).contains(&rule["errnoRet"].as_i64().unwrap()));
        }
    }
}
