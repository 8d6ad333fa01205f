//! Facts about the mistakes that are found in profiles: each is found in a realistic profile, and not in the same one without it.

use std::collections::{BTreeMap, BTreeSet};

use khard_profile::apparmor::{self, Attempts, Paths, Style};
use khard_profile::lint::{At, KINDS, Libseccomp, Report, Severity, lint, lint_for};
use khard_profile::recording::*;
use khard_profile::seccomp::*;
use proptest::prelude::*;

use crate::apparmor_text::{profile_of, recording_of};
use crate::support::{NGINX, any_recording, nginx_pod, observe, run, run_id, subject};

fn ids(text: &str) -> BTreeSet<&'static str> {
    lint(text.as_bytes(), None).findings.iter().map(|finding| finding.kind.id).collect()
}

/// What is no mere note.
fn alarms(report: &Report) -> Vec<String> {
    let worse = report.findings.iter().filter(|finding| finding.kind.severity > Severity::Note);
    worse.map(|finding| format!("{}: {}: {:?}", finding.kind.id, finding.what, finding.details)).collect()
}

/// An allow-list for nginx, with more entries and another head.
fn allow(head: &str, entries: &str) -> String {
    let mut names: BTreeSet<&str> = NGINX.into_iter().collect();
    names.extend(ALWAYS);
    let data = FloorData::embedded().unwrap();
    names.extend(data.entries().flat_map(|entry| entry.calls.keys().map(String::as_str)));
    // What runc tries first when somebody joins, and does without.
    for name in ["clone", "fsconfig", "fsmount", "fsopen", "open_tree"] {
        names.remove(name);
    }
    names.remove("socket");
    let names = serde_json::to_string(&names).unwrap();
    let comma = if entries.is_empty() { "" } else { "," };
    format!(
        r#"{{{head},"architectures":["SCMP_ARCH_X86_64"],"syscalls":[{{"names":{names},"action":"SCMP_ACT_ALLOW"}}{comma}{entries}]}}"#
    )
}

const ENOSYS: &str = r#""defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38"#;
const EPERM: &str = r#""defaultAction":"SCMP_ACT_ERRNO""#;
const CLONE: &str = r#"{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}"#;

fn enosys(entries: &str) -> String {
    allow(ENOSYS, entries)
}

/// A list of what is refused, as Kubernetes' guides print them.
fn deny(entries: &str) -> String {
    format!(
        r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{entries}]}}"#
    )
}

fn deny_names(names: &[&str]) -> String {
    deny(&format!(r#"{{"names":{},"action":"SCMP_ACT_ERRNO"}}"#, serde_json::to_string(names).unwrap()))
}

fn without(profile: &str, name: &str) -> String {
    profile.replace(&format!("\"{name}\","), "")
}

/// A profile of a container, with more rules.
fn container(rules: &str) -> String {
    format!(
        "abi <abi/3.0>,\ninclude <tunables/global>\nprofile web flags=(attach_disconnected) {{\n  signal (receive) peer=unconfined,\n  signal (receive) peer={{runc,crun}},\n  /usr/sbin/nginx ix,\n{rules}\n}}\n"
    )
}

const DENY_WRITE: &str = "#include <tunables/global>\n\nprofile k8s-apparmor-example-deny-write flags=(attach_disconnected) {\n  #include <abstractions/base>\n\n  file,\n\n  // Deny all file writes.\n  deny /** w,\n}\n";

/// What the JSON itself has wrong: keys, errnos, flags.
fn form_cases() -> Vec<(&'static str, String, String)> {
    let good = enosys(CLONE);
    vec![
        ("seccomp/other-case", good.replace("\"args\"", "\"Args\""), good.clone()),
        (
            "seccomp/runtime-refuses",
            good.replace("Ret\":38", "Ret\":4095"),
            good.replace("Ret\":38", "Ret\":4094"),
        ),
        (
            "seccomp/runtime-refuses",
            enosys(r#"{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}"#),
            enosys(r#"{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}"#)
                .replace(ENOSYS, &format!(r#"{ENOSYS},"listenerPath":"/run/listener""#)),
        ),
        (
            "seccomp/runtime-refuses",
            good.replace(ENOSYS, &format!(r#"{ENOSYS},"flags":["SECCOMP_FILTER_FLAG_LOGS"]"#)),
            good.replace(ENOSYS, &format!(r#"{ENOSYS},"flags":["SECCOMP_FILTER_FLAG_LOG"]"#)),
        ),
        (
            "seccomp/flags",
            good.replace(ENOSYS, &format!(r#"{ENOSYS},"flags":["SECCOMP_FILTER_FLAG_LOG"]"#)),
            good.replace(ENOSYS, &format!(r#"{ENOSYS},"flags":[]"#)),
        ),
        ("seccomp/errno-zero", good.replace("Ret\":38", "Ret\":0"), good.clone()),
        ("seccomp/errno-zero", good.replace("Ret\":38", "Ret\":65536"), good.clone()),
    ]
}

/// Each kind of mistake: a profile with it, and the same without.
fn seccomp_cases() -> Vec<(&'static str, String, String)> {
    let entry = |names: &str, more: &str| format!(r#"{{"names":[{names}],"action":"SCMP_ACT_ALLOW"{more}}}"#);
    let condition =
        |index: u8, value: u64| format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_EQ"}}"#);
    let args = |args: &[String]| format!(r#","args":[{}]"#, args.join(","));
    let socket = |more: &str| entry("\"socket\"", more);
    let many =
        |n: u64| (0..n).map(|value| socket(&args(&[condition(0, value)]))).collect::<Vec<_>>().join(",");
    let good = enosys(CLONE);
    let of_32_bits =
        |text: &str| text.replace("\"SCMP_ARCH_X86_64\"", "\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\"");
    vec![
        ("seccomp/comment", format!("// copied\n{good}"), good.clone()),
        ("seccomp/unreadable", good.replace("SCMP_ACT_ALLOW", "SCMP_ACT_ALOW"), good.clone()),
        ("seccomp/unknown-key", good.replace("\"args\"", "\"argz\""), good.clone()),
        ("seccomp/errno-on-other-action", enosys(&entry("\"clone\"", ",\"errnoRet\":1")), good.clone()),
        (
            "seccomp/docker-form",
            enosys(&entry("\"mount\"", r#","includes":{"caps":["CAP_SYS_ADMIN"]}"#)),
            enosys(&entry("\"mount\"", r#","includes":{},"excludes":{}"#)),
        ),
        ("seccomp/empty-entry", enosys(&entry("", "")), good.clone()),
        ("seccomp/kep-6061", enosys(&many(129)), enosys(&many(128))),
        ("seccomp/allows-everything", deny(""), deny_names(&["kexec_load", "kexec_file_load"])),
        ("seccomp/only-logs", r#"{"defaultAction":"SCMP_ACT_LOG"}"#.to_owned(), good.clone()),
        ("seccomp/default-trace", good.replace(ENOSYS, r#""defaultAction":"SCMP_ACT_TRACE""#), good.clone()),
        (
            "seccomp/notify-refused",
            enosys(r#"{"names":["write"],"action":"SCMP_ACT_NOTIFY"}"#),
            enosys(r#"{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}"#),
        ),
        ("seccomp/allows-nothing", format!("{{{EPERM}}}"), good.clone()),
        ("seccomp/missing-floor", without(&good, "execve"), good.clone()),
        ("seccomp/missing-floor-of-runtime", without(&good, "fstatfs"), good.clone()),
        ("seccomp/needs-no-new-privs", without(&good, "capset"), good.clone()),
        ("seccomp/missing-rare-floor", without(&good, "futex"), good.clone()),
        ("seccomp/missing-floor-of-versions", without(&good, "openat2"), good.clone()),
        ("seccomp/missing-exec-floor", without(&good, "setgroups"), good.clone()),
        ("seccomp/no-way-out", without(&good, "exit_group"), good.clone()),
        (
            "seccomp/forgotten-twin",
            deny_names(&["mkdir"]),
            deny_names(&["mkdir", "mkdirat", "io_uring_setup"]),
        ),
        (
            "seccomp/condition-overridden",
            enosys(&format!("{CLONE},{}", entry("\"clone\"", ""))),
            good.clone(),
        ),
        (
            "seccomp/contradiction",
            enosys(r#"{"names":["read"],"action":"SCMP_ACT_KILL_PROCESS"}"#),
            good.clone(),
        ),
        ("seccomp/arguments-voided", enosys(&format!("{CLONE},{}", entry("\"clone3\"", ""))), good.clone()),
        ("seccomp/io-uring-bypass", deny_names(&["connect"]), deny_names(&["connect", "io_uring_setup"])),
        ("seccomp/io-uring-beside", enosys(&entry("\"io_uring_setup\"", "")), good.clone()),
        (
            "seccomp/too-many-conditions",
            enosys(&socket(&args(&(0..7).map(|value| condition(0, value)).collect::<Vec<_>>()))),
            enosys(&many(7)),
        ),
        (
            "seccomp/repeated-argument",
            enosys(&socket(&args(&[condition(0, 1), condition(0, 2), condition(1, 1)]))),
            enosys(&socket(&args(&[condition(0, 1), condition(1, 1)]))),
        ),
        ("seccomp/unknown-name", deny_names(&["conect"]), deny_names(&["connect"])),
        (
            "seccomp/unfamiliar-name",
            enosys(&entry("\"frobnicate\"", "")),
            enosys(&entry("\"s390_sthyi\"", "")),
        ),
        ("seccomp/new-name", enosys(&entry("\"mseal\"", "")), good.clone()),
        (
            "seccomp/same-as-default",
            enosys(r#"{"names":["mount"],"action":"SCMP_ACT_ERRNO","errnoRet":38}"#),
            enosys(r#"{"names":["mount"],"action":"SCMP_ACT_ERRNO"}"#),
        ),
        ("seccomp/kill-thread", good.replace(ENOSYS, r#""defaultAction":"SCMP_ACT_KILL""#), good.clone()),
        (
            "seccomp/kill-default",
            good.replace(ENOSYS, r#""defaultAction":"SCMP_ACT_KILL_PROCESS""#),
            good.clone(),
        ),
        (
            "seccomp/no-fallback",
            allow(EPERM, &format!("{CLONE},{}", entry("\"chmod\",\"listmount\"", ""))),
            good.clone(),
        ),
        ("seccomp/no-fallback-on-crun", allow(EPERM, &entry("\"chmod\"", "")), good.clone()),
        ("seccomp/unallowed-twin", allow(EPERM, CLONE), good.clone()),
        ("seccomp/no-architectures", good.replace("\"SCMP_ARCH_X86_64\"", ""), good.clone()),
        ("seccomp/extra-architectures", of_32_bits(&good), good.clone()),
        ("seccomp/beyond-runtime-default", enosys(&entry("\"bpf\"", "")), enosys(&entry("\"statfs\"", ""))),
    ]
}

fn apparmor_cases() -> Vec<(&'static str, String, String)> {
    let file_and = |rules: &str| container(&format!("  file,\n{rules}"));
    vec![
        ("apparmor/comment", DENY_WRITE.to_owned(), DENY_WRITE.replace("//", "#")),
        ("apparmor/unreadable", container("  /etc/passwd r"), container("  /etc/passwd r,")),
        (
            "apparmor/missing-tunables",
            container("  @{PROC}/meminfo r,").replace("include <tunables/global>", ""),
            container("  @{PROC}/meminfo r,"),
        ),
        ("apparmor/unconfined", container("").replace("(attach", "(unconfined,attach"), container("")),
        ("apparmor/complain", container("").replace("(attach", "(complain,attach"), container("")),
        (
            "apparmor/deny-in-complain",
            container("  deny /etc/shadow r,").replace("(attach", "(complain,attach"),
            container("  deny /etc/shadow r,"),
        ),
        ("apparmor/confines-nothing", file_and("  capability,"), file_and("  capability,\n  deny /** wl,")),
        ("apparmor/every-file", container("  /** rwlkix,"), container("  /srv/** rwlk,")),
        (
            "apparmor/every-file",
            file_and("  deny /etc/shadow rw,\n  deny @{PROC}/sysrq-trigger rwklx,"),
            file_and("  deny @{PROC}/sysrq-trigger rwklx,\n  deny /sys/[^f]*/** wklx,"),
        ),
        (
            "apparmor/no-file",
            file_and("  deny /** rwklmx,\n  signal,"),
            file_and("  deny /** wklmx,\n  signal,"),
        ),
        ("apparmor/deny-leaves", file_and("  deny /** w,"), file_and("  deny /** wl,")),
        (
            "apparmor/deny-by-name",
            file_and("  mount,\n  deny /etc/shadow rw,"),
            file_and("  deny mount,\n  mount,\n  deny /etc/shadow rw,"),
        ),
        (
            "apparmor/renamed-parent",
            file_and("  deny /etc/shadow rw,"),
            file_and("  deny /etc/{,shadow} rw,"),
        ),
        ("apparmor/unconfined-exec", container("  /usr/bin/* Ux,"), container("  /usr/bin/* ix,")),
        (
            "apparmor/missing-child",
            container("  /usr/bin/id cx -> id,"),
            container("  /usr/bin/id cx -> id,\n  profile id {\n    /usr/bin/id mr,\n  }"),
        ),
        (
            "apparmor/profile-elsewhere",
            container("  /usr/bin/id px -> id,"),
            container("  /usr/bin/id px -> web,"),
        ),
        (
            "apparmor/write-and-execute",
            container("  /opt/** w,\n  /opt/** rix,"),
            container("  /opt/log/** w,\n  /opt/** rix,"),
        ),
        ("apparmor/write-and-execute-file", container("  /opt/tool wix,"), container("  /opt/tool ix,")),
        (
            "apparmor/no-stop-signal",
            container("").replace("  signal (receive) peer=unconfined,\n", ""),
            container(""),
        ),
        ("apparmor/no-runtime-signal", container("").replace("{runc,crun}", "containerd"), container("")),
        (
            "apparmor/no-attach-disconnected",
            container("").replace("flags=(attach_disconnected)", ""),
            container(""),
        ),
        ("apparmor/attaches", container("").replace("web flags", "/usr/sbin/nginx flags"), container("")),
        ("apparmor/no-abi", container("").replace("abi <abi/3.0>,\n", ""), container("")),
    ]
}

#[test]
fn every_kind_of_mistake_is_found_where_it_is_and_nowhere_else() {
    let mut seen = BTreeSet::new();
    for (id, bad, good) in form_cases().into_iter().chain(seccomp_cases()).chain(apparmor_cases()) {
        assert!(ids(&bad).contains(id), "{id} is not found in {bad}: {:?}", ids(&bad));
        assert!(!ids(&good).contains(id), "{id} is found in {good}");
        seen.insert(id);
    }
    let all: BTreeSet<&str> = KINDS.iter().map(|kind| kind.id).collect();
    assert_eq!(seen, all);
}

#[test]
fn a_good_profile_raises_no_alarm() {
    for good in [enosys(CLONE), container("  /etc/nginx/** r,\n  capability net_bind_service,")] {
        assert_eq!(alarms(&lint(good.as_bytes(), None)), Vec::<String>::new(), "{good}");
    }
}

/// What khard makes of recordings with the measured floors, as `khard generate` does.
#[test]
fn what_khard_generates_raises_no_alarm() {
    let data = FloorData::embedded().unwrap();
    for (name, version) in [("runc", "1.1.5"), ("runc", "1.3.6"), ("runc", "1.2.0"), ("crun", "1.8.1")] {
        for no_new_privs in [true, false] {
            let mut recording = Recording::new(subject());
            let base = run(0);
            recording.add_run(Run {
                runtime: Some(Runtime {
                    name: name.to_owned(),
                    version: Some(version.to_owned()),
                    ..base.runtime.clone().unwrap()
                }),
                confinement: Confinement { no_new_privs: Some(no_new_privs), ..base.confinement.clone() },
                ..base
            });
            observe(&mut recording, 0, Phase::Workload, &NGINX);
            let floor = Floor::choose(&FloorChoice::Auto, &recording, true, &data).unwrap();
            let generated = generate(&recording, Policy { phases: Policy::DEFAULT_PHASES, floor }).unwrap();
            let json = generated.profile.to_json().unwrap();
            let report = lint(&json, Some(&recording));
            assert_eq!(alarms(&report), Vec::<String>::new(), "{name} {version} {no_new_privs}");
        }
    }
}

#[test]
fn the_profiles_in_the_snapshots_raise_no_alarm() {
    let apparmor =
        include_str!("snapshots/profile__apparmor__the_profile_of_a_container_that_does_everything.snap");
    let report = lint(apparmor.splitn(3, "---\n").nth(2).unwrap().as_bytes(), None);
    assert_eq!(alarms(&report), Vec::<String>::new());
    let seccomp = include_str!("snapshots/profile__seccomp__the_profile_of_a_realistic_pod.snap");
    let report = lint(seccomp.splitn(3, "---\n").nth(2).unwrap().as_bytes(), None);
    assert_eq!(alarms(&report), Vec::<String>::new());
}

#[test]
fn the_runtimes_own_defaults_raise_only_what_is_true_of_them() {
    let report = lint(RUNTIME_DEFAULT_PROFILE.as_bytes(), None);
    // It is in Docker's form, and 32-bit programs get around its conditions for socket (containerd pull request 13330).
    let worse = report.findings.iter().filter(|finding| finding.kind.severity > Severity::Note);
    let worse: Vec<&str> = worse.map(|finding| finding.kind.id).collect();
    assert_eq!(worse, ["seccomp/docker-form", "seccomp/arguments-voided"]);
    assert!(!ids(RUNTIME_DEFAULT_PROFILE).contains("seccomp/beyond-runtime-default"));
    let apparmor = include_str!("../../data/runtime-default.apparmor");
    assert_eq!(alarms(&lint(apparmor.as_bytes(), None)), Vec::<String>::new());
}

#[test]
fn a_profile_with_comments_is_read_on_behind_them() {
    let text = "{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\", // all\n  # but\n  \"syscalls\": [{\"names\": [\"mkdir\"], \"action\": \"SCMP_ACT_ERRNO\"}]\n}";
    let report = lint(text.as_bytes(), None);
    let comments = report.findings.iter().filter(|finding| finding.kind.id == "seccomp/comment");
    assert_eq!(comments.map(|finding| finding.at.clone()).collect::<Vec<_>>(), [At::Line(2), At::Line(3)]);
    assert!(report.findings.iter().any(|finding| finding.kind.id == "seccomp/forgotten-twin"));
    let report = lint(DENY_WRITE.as_bytes(), None);
    assert_eq!(report.findings[0].at, At::Line(8));
    assert!(report.findings.iter().any(|finding| finding.kind.id == "apparmor/deny-leaves"));
    assert_eq!(report.findings.iter().filter(|finding| finding.kind.severity > Severity::Note).count(), 2);
}

#[test]
fn a_profile_that_grants_no_file_is_found_unless_something_else_may_grant_it() {
    let of =
        |flags: &str, rules: &str| format!("abi <abi/3.0>,\nprofile p flags=({flags}) {{\n{rules}\n}}\n");
    let found = |text: &str| ids(text).contains("apparmor/no-file");
    for rules in ["", "signal,", "network,\n/etc/a l -> /etc/b,", "deny /** rwklmx,\nowner /home/** rw,"] {
        assert!(found(&of("attach_disconnected", rules)), "{rules}");
        assert!(!found(&of("complain", rules)), "{rules}");
    }
    for rules in
        ["include <abstractions/base>", "all,", "priority=1 /** r,", "deny /etc/** rwklmx,\n/srv/* r,"]
    {
        assert!(!found(&of("attach_disconnected", rules)), "{rules}");
    }
}

#[test]
fn what_is_no_profile_is_one_finding_that_says_so() {
    let recording = include_bytes!("fixtures/recording-v2.json");
    for (text, id, what) in [
        (&recording[..], "seccomp/unreadable", "this is a recording"),
        (b" [{\"names\": []}]", "seccomp/unreadable", "object"),
        (b"{\"a\": 1, \"b\": 2}", "seccomp/unreadable", "defaultAction"),
        (b"\x7fELF\x02\x01\n\0\0,", "apparmor/unreadable", "no text"),
    ] {
        let findings = lint(text, None).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].kind.id, id);
        assert!(findings[0].what.contains(what), "{findings:?}");
    }
}

#[test]
fn names_are_told_that_the_machines_own_libseccomp_does_not_know() {
    let of = |name: &str, without: &str| {
        let names = khard_profile::syscalls::all().map(|call| call.name).filter(|name| *name != without);
        let library: String = names.flat_map(|name| [name, "\0"]).collect();
        Libseccomp::of_library(name.to_owned(), format!("\x7fELF\0{library}").as_bytes())
    };
    let text = enosys(r#"{"names":["mseal","statmount"],"action":"SCMP_ACT_ALLOW"}"#);
    let found = |libseccomp: &Libseccomp| {
        let findings = lint_for(text.as_bytes(), None, libseccomp).findings;
        let new = findings.into_iter().find(|finding| finding.kind.id == "seccomp/new-name");
        new.map(|finding| finding.what)
    };
    let newer = of("the new one", "statmount").unwrap();
    assert_eq!(found(&newer).as_deref(), Some("names that the new one does not know: statmount"));
    assert_eq!(found(&of("the newest", "").unwrap()), None);
    let assumed = found(&Libseccomp::assumed()).unwrap();
    assert!(assumed.contains("assumed") && assumed.ends_with("mseal, statmount"), "{assumed}");
    assert_eq!(Libseccomp::of_library(String::new(), b"\x7fELF\0read\0write\0"), None);
}

/// As in Debian's usr.bin.man.
#[test]
fn a_profile_that_is_stacked_is_no_missing_child_and_a_file_lacks_its_abi_line_once() {
    let text = "include <tunables/global>\n/usr/bin/man {\n  /usr/bin/tbl rmCx -> &man_groff,\n}\nprofile man_groff {\n  /usr/bin/tbl r,\n}\n";
    let report = lint(text.as_bytes(), None);
    let of = |id: &str| report.findings.iter().filter(|finding| finding.kind.id == id).count();
    assert_eq!((of("apparmor/missing-child"), of("apparmor/no-abi")), (0, 1), "{:?}", report.findings);
}

/// runc 1.1.5 refuses the call by this profile.
#[test]
fn a_profile_with_keys_in_another_case_is_looked_at_as_runc_takes_it() {
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"Syscalls":[{"Names":["mkdir"],"Action":"SCMP_ACT_ERRNO"}]}"#;
    let found = ids(text);
    assert!(found.contains("seccomp/other-case") && found.contains("seccomp/forgotten-twin"), "{found:?}");
    assert!(
        !found.contains("seccomp/allows-everything") && !found.contains("seccomp/unknown-key"),
        "{found:?}"
    );
}

/// The kubelet's own guides: written anew, with the same content.
#[test]
fn the_tutorials_profiles_are_what_they_are() {
    insta::assert_snapshot!(lint(DENY_WRITE.as_bytes(), None).to_text("k8s-deny-write"));
    let profiles = BTreeMap::from([
        ("violation.json", r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#.to_owned()),
        ("audit.json", r#"{"defaultAction": "SCMP_ACT_LOG"}"#.to_owned()),
        ("deny.json", deny_names(&["mkdir", "unshare", "mount", "ptrace", "conect"])),
    ]);
    let texts = profiles.iter().map(|(name, text)| lint(text.as_bytes(), None).to_text(name));
    insta::assert_snapshot!(texts.collect::<Vec<_>>().join("\n"));
}

#[test]
fn twins_are_all_named_and_a_whole_group_is_no_finding() {
    let found = |names: &[&str]| {
        let report = lint(deny_names(names).as_bytes(), None);
        let twins = report.findings.into_iter().filter(|finding| finding.kind.id == "seccomp/forgotten-twin");
        twins.map(|finding| finding.what).collect::<Vec<_>>()
    };
    assert_eq!(
        found(&["chmod"]),
        ["chmod is refused, and fchmod, fchmodat, fchmodat2 do the same and are open"]
    );
    assert_eq!(found(&["chmod", "fchmod", "fchmodat", "fchmodat2"]), [""; 0]);
    assert_eq!(found(&["ptrace"]).len(), 1);
    assert_eq!(found(&["unshare"]), ["unshare is refused, and clone, clone3 do the same and are open"]);
    assert_eq!(found(&["mount"]).len(), 1);
    // ENOSYS only sends libcs to the other call.
    let asks_for_clone = deny(r#"{"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}"#);
    assert!(!ids(&asks_for_clone).contains("seccomp/forgotten-twin"));
}

#[test]
fn conditions_on_sockets_are_void_for_32_bit_programs_only_where_these_are_let_in() {
    let socket =
        r#"{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}"#;
    let native = enosys(socket);
    let both = native.replace("\"SCMP_ARCH_X86_64\"", "\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\"");
    let closed =
        enosys(&format!(r#"{{"names":["socketcall"],"action":"SCMP_ACT_ERRNO","errnoRet":1}},{socket}"#))
            .replace("\"SCMP_ARCH_X86_64\"", "\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\"");
    for (text, found) in [(native, false), (both, true), (closed, false)] {
        assert_eq!(ids(&text).contains("seccomp/arguments-voided"), found, "{text}");
    }
}

#[test]
fn a_recording_that_fits_the_runtimes_default_needs_no_profile_of_its_own() {
    let answer =
        |recording: &Recording| lint(enosys(CLONE).as_bytes(), Some(recording)).against_default.unwrap();
    let fits = answer(&nginx_pod());
    assert!(fits.fits(), "{fits:?}");
    // The flags of clone and the families of sockets are not in it, and clone3 gets ENOSYS.
    assert_eq!(fits.provided.len(), 3, "{fits:?}");
    let mut more = nginx_pod();
    observe(&mut more, 0, Phase::Workload, &["chroot", "unshare", "io_uring_setup"]);
    let refused = answer(&more).refused;
    assert_eq!(refused.len(), 2, "{refused:?}");
    // What the runtime calls is no matter.
    assert!(refused.iter().all(|call| call.starts_with("unshare") || call.starts_with("io_uring_setup")));
    // A capability that was used was held.
    let key = AccessKey {
        what: Access::Capability { capability: 21, optional: false },
        outcome: Outcome::Granted,
        certainty: Certainty::Exact,
    };
    more.observe_access(run_id(0), key, Phase::Workload, None).unwrap();
    assert_eq!(answer(&more).refused.len(), 1);
}

#[test]
fn the_default_apparmor_profile_is_asked_too() {
    let file = |path: &str| {
        Access::File(FileAccess {
            path: path.into(),
            op: FileOp::Open,
            perms: FilePerms::WRITE,
            facts: FileFacts::default(),
        })
    };
    let answer = |accesses: &[Access]| {
        let report = lint(container("").as_bytes(), Some(&recording_of(accesses)));
        report.against_default.unwrap()
    };
    assert!(answer(&[file("/srv/a"), Access::Network { family: 2, kind: 1 }]).fits());
    let refused = answer(&[file("/srv/a"), file("/proc/sys/vm/swappiness")]).refused;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("swappiness") && refused[0].contains("deny @{PROC}"), "{refused:?}");
}

#[test]
fn the_worst_stands_first_and_hostile_names_are_shown_as_text() {
    let text = deny_names(&["mkdir", "\\u001b[2Jmount\\u202e"]).replace("\\\\u", "\\u");
    let report = lint(text.as_bytes(), None);
    let shown = report.to_text("a\u{1b}b");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
    let severities: Vec<Severity> = report.findings.iter().map(|finding| finding.kind.severity).collect();
    assert!(severities.is_sorted_by(|one, next| one >= next), "{severities:?}");
    let value = report.to_value();
    assert_eq!(value["kind"], "seccomp");
    assert_eq!(value["findings"].as_array().unwrap().len(), report.findings.len());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[{}\\[\\]\":,/#a-z*@ \n]{0,80}") {
        let _ = lint(text.as_bytes(), None);
        let _ = lint(profile_of(&text).as_bytes(), None);
    }

    #[test]
    fn what_khard_makes_of_any_recording_confines(recording in any_recording()) {
        let policy = apparmor::Policy { paths: Paths::Exact, attempts: Attempts::Grant, ..apparmor::Policy::default() };
        if let Ok(generated) = apparmor::generate(&recording, &policy) {
            let report = lint(generated.to_text(Style::default()).as_bytes(), Some(&recording));
            prop_assert!(report.worst() != Some(Severity::Error), "{:?}", alarms(&report));
        }
    }
}
