//! Facts about checking profiles of any maker against a recording.

use std::collections::BTreeSet;

use khard_profile::Bytes;
use khard_profile::check::*;
use khard_profile::recording::*;
use khard_profile::seccomp::*;
use khard_profile::syscalls;
use proptest::prelude::*;

use crate::support::{any_recording, floor_of, nginx_pod, observe, run, run_id};

/// What a profile does to a call that a container on x86-64 (kernel 6.12) made once.
fn verdict(profile: &str, abi: Abi, name: &str) -> Verdict {
    verdict_with(profile, abi, name, None)
}

fn verdict_with(profile: &str, abi: Abi, name: &str, caps: Option<&[&str]>) -> Verdict {
    let profile = Profile::from_json(profile.as_bytes()).unwrap();
    let mut recording = nginx_pod();
    recording.add_run(Run { host: Host { abis: Abi::ALL.into(), ..run(2).host }, ..run(2) });
    let key = SyscallKey { abi, nr: syscalls::by_name(name).unwrap().number(abi).unwrap() };
    recording.observe_syscall(run_id(2), key, Phase::Workload, None).unwrap();
    let caps = caps.map(|caps| caps.iter().map(|cap| (*cap).to_owned()).collect());
    let report = check(&profile, &recording, &Question { caps, ..Question::default() });
    report.program.into_iter().find(|call| call.key == key).unwrap().verdict
}

/// `refused: ERRNO, by what`, `allowed` or `depends: parts`.
fn in_words(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allowed => "allowed".to_owned(),
        Verdict::Refused { outcome, by } => format!("refused: {outcome}, {by}"),
        Verdict::Depends(parts) => format!("depends: {}", parts.join("; ")),
    }
}

fn with_rules(rules: &str) -> String {
    format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],"syscalls":[{rules}]}}"#
    )
}

fn check_rules(rules: &str, name: &str, expected: &str) {
    assert_eq!(in_words(verdict(&with_rules(rules), Abi::X86_64, name)), expected, "{rules}");
}

const ALLOW_READ: &str = r#"{"names":["read"],"action":"SCMP_ACT_ALLOW"}"#;

#[test]
fn actions_are_understood_as_the_kernel_does() {
    let rule = |action: &str| format!(r#"{{"names":["read"],"action":"SCMP_ACT_{action}"}}"#);
    check_rules(&rule("ALLOW"), "read", "allowed");
    check_rules(&rule("LOG"), "read", "allowed");
    check_rules(&rule("ERRNO"), "read", "refused: EPERM, syscalls[0]");
    check_rules(&rule("TRACE"), "read", "refused: left to a tracer (ENOSYS without one), syscalls[0]");
    check_rules(&rule("TRAP"), "read", "refused: SIGSYS, syscalls[0]");
    check_rules(&rule("KILL"), "read", "refused: kills the thread, syscalls[0]");
    check_rules(&rule("KILL_THREAD"), "read", "refused: kills the thread, syscalls[0]");
    check_rules(&rule("KILL_PROCESS"), "read", "refused: kills the process, syscalls[0]");
    check_rules(&rule("NOTIFY"), "read", "depends: always: left to a supervisor (by syscalls[0])");
    check_rules(ALLOW_READ, "write", "refused: ENOSYS, the default action");
}

#[test]
fn the_first_rule_without_conditions_decides_also_over_conditional_ones_before_it() {
    let conditional =
        r#"{"names":["read"],"action":"SCMP_ACT_TRAP","args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"}]}"#;
    let kill = r#"{"names":["read"],"action":"SCMP_ACT_KILL"}"#;
    check_rules(&format!("{conditional},{ALLOW_READ},{kill}"), "read", "allowed");
    check_rules(&format!("{kill},{ALLOW_READ}"), "read", "refused: kills the thread, syscalls[0]");
}

#[test]
fn a_rule_that_repeats_the_default_action_is_no_rule() {
    let repeated = r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":38}"#;
    check_rules(&format!("{repeated},{ALLOW_READ}"), "read", "allowed");
}

#[test]
fn conditions_on_different_arguments_are_joined_and_on_the_same_one_alternatives() {
    let rule = |first, second| {
        format!(
            r#"{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                {{"index":{first},"value":1,"op":"SCMP_CMP_EQ"}},
                {{"index":{second},"value":15,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}}]}}"#
        )
    };
    check_rules(
        &rule(0, 1),
        "socket",
        "depends: if arg0 == 0x1 and arg1 & 0xf == 0x2: allowed (by syscalls[0]); otherwise: ENOSYS (by the default action)",
    );
    check_rules(
        &rule(0, 0),
        "socket",
        "depends: if arg0 & 0xf == 0x2: allowed (by syscalls[0]); if arg0 == 0x1: allowed (by syscalls[0]); otherwise: ENOSYS (by the default action)",
    );
}

#[test]
fn refusal_in_every_case_is_refusal() {
    let rule = r#"{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"}]}"#;
    check_rules(rule, "socket", "refused: EPERM, syscalls[0]");
}

#[test]
fn an_architecture_that_is_not_listed_kills_except_the_hosts_own() {
    let none = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    assert_eq!(verdict(none, Abi::X86_64, "read"), Verdict::Allowed);
    let killed = "refused: kills the thread, SCMP_ARCH_X86 is not among the architectures";
    assert_eq!(in_words(verdict(none, Abi::Ia32, "read")), killed);
    let other = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_AARCH64"]}"#;
    assert_eq!(verdict(other, Abi::X86_64, "read"), Verdict::Allowed);
    assert_eq!(verdict(other, Abi::Ia32, "read"), Verdict::Allowed);
    assert!(in_words(verdict(other, Abi::X32, "read")).contains("SCMP_ARCH_X32"));
}

#[test]
fn socket_names_reach_socketcall_on_32_bit_x86() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],
        "syscalls":[{"names":["socket","connect"],"action":"SCMP_ACT_ALLOW"}]}"#;
    assert_eq!(verdict(profile, Abi::Ia32, "socket"), Verdict::Allowed);
    assert_eq!(
        in_words(verdict(profile, Abi::Ia32, "socketcall")),
        "depends: if arg0 == 0x1: allowed (by syscalls[0]); if arg0 == 0x3: allowed (by syscalls[0]); otherwise: EPERM (by the default action)"
    );
}

#[test]
fn dockers_form_is_checked_as_docker_applies_it() {
    let rule = |filters: &str| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}},
            {{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}}],
            "syscalls":[{{"names":["mount","zzz_9"],"action":"SCMP_ACT_ALLOW","comment":"","args":null,{filters}}}]}}"#
        )
    };
    let check = |filters: &str, expected: &str| {
        assert_eq!(in_words(verdict(&rule(filters), Abi::X86_64, "mount")), expected, "{filters}");
    };
    check(r#""includes":{},"excludes":{}"#, "allowed");
    check(r#""includes":{"arches":["amd64"]}"#, "allowed");
    check(r#""includes":{"arches":["arm64"]}"#, "refused: EPERM, the default action");
    check(r#""excludes":{"arches":["amd64"]}"#, "refused: EPERM, the default action");
    check(r#""includes":{"minKernel":"6.12"}"#, "allowed");
    check(r#""includes":{"minKernel":"6.13"}"#, "refused: EPERM, the default action");
    check(r#""excludes":{"minKernel":"4.8"}"#, "refused: EPERM, the default action");
    let on_cap = "depends: if the container has CAP_SYS_ADMIN: allowed (by syscalls[0]); otherwise: EPERM (by the default action)";
    check(r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, on_cap);

    let with_cap = rule(r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#);
    let with = |caps: &[&str]| in_words(verdict_with(&with_cap, Abi::X86_64, "mount", Some(caps)));
    assert_eq!(with(&["CAP_SYS_ADMIN"]), "allowed");
    assert_eq!(with(&["CAP_CHOWN"]), "refused: EPERM, the default action");
    assert_eq!(in_words(verdict(&rule(r#""includes":{}"#), Abi::Ia32, "mount")), "allowed");
}

#[test]
fn rules_for_and_against_a_capability_together_are_certain() {
    check_rules(
        r#"{"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
           {"names":["bpf"],"action":"SCMP_ACT_LOG","excludes":{"caps":["CAP_BPF"]}}"#,
        "bpf",
        "allowed",
    );
}

#[test]
fn podmans_errno_names_are_understood() {
    check_rules(
        r#"{"name":"bpf","action":"SCMP_ACT_ERRNO","errnoRet":1,"errno":"EBADF"}"#,
        "bpf",
        "refused: EBADF, syscalls[0]",
    );
    check_rules(
        r#"{"name":"bpf","action":"SCMP_ACT_ERRNO","errno":"22"}"#,
        "bpf",
        "refused: EINVAL, syscalls[0]",
    );
    let default = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS","syscalls":[]}"#;
    assert_eq!(in_words(verdict(default, Abi::X86_64, "read")), "refused: ENOSYS, the default action");
}

#[test]
fn runcs_own_enosys_is_named_where_it_answers() {
    let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["clone3"],"action":"SCMP_ACT_ALLOW"}]}"#;
    assert!(in_words(verdict(profile, Abi::X86_64, "mseal")).contains("runc answers ENOSYS"));
    assert!(!in_words(verdict(profile, Abi::X86_64, "write")).contains("runc"));
}

#[test]
fn what_is_wrong_in_a_profile_is_named_with_its_place() {
    let check = |json: &str, place: &str| {
        let error = Profile::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(place), "{error} does not name {place}");
    };
    check("{", "no JSON");
    check("[]", "the profile: expected an object");
    check("{}", "defaultAction");
    check(r#"{"defaultAction":"SCMP_ACT_PERMIT"}"#, "defaultAction: unknown action \"SCMP_ACT_PERMIT\"");
    check(r#"{"defaultAction":"SCMP_ACT_ALLOW","syscall":[]}"#, "unknown key \"syscall\"");
    check(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["amd64"]}"#, "architectures[0]");
    check(
        &with_rules(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW"},{"names":["b"]}"#),
        "syscalls[1]: there is no action",
    );
    check(
        &with_rules(r#"{"names":["a"],"name":"b","action":"SCMP_ACT_ALLOW"}"#),
        "syscalls[0]: there is both",
    );
    check(
        &with_rules(r#"{"names":[7],"action":"SCMP_ACT_ALLOW"}"#),
        "syscalls[0].names[0]: expected a string",
    );
    let args =
        |args: &str| with_rules(&format!(r#"{{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{args}]}}"#));
    check(&args(r#"{"index":0,"op":"=="}"#), "syscalls[0].args[0].op: unknown operator");
    check(&args(r#"{"index":6,"op":"SCMP_CMP_EQ"}"#), "syscalls[0].args[0]: a call has arguments 0 to 5");
    check(&args(r#"{"index":0,"op":"SCMP_CMP_EQ","value":-1}"#), "syscalls[0].args[0].value");
    let includes = |filter: &str| {
        with_rules(&format!(r#"{{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{filter}}}"#))
    };
    check(&includes(r#"{"minKernel":"five"}"#), "syscalls[0].includes.minKernel");
    check(&includes(r#"{"cap":[]}"#), "syscalls[0].includes: unknown key \"cap\"");
    check(&with_rules(r#"{"names":["a"],"action":"SCMP_ACT_ERRNO","errno":"EWHAT"}"#), "syscalls[0].errno");
}

#[test]
fn an_unknown_number_depends_on_names_that_the_tables_lack() {
    let mut recording = nginx_pod();
    let key = SyscallKey { abi: Abi::X86_64, nr: 9999 };
    recording.observe_syscall(run_id(0), key, Phase::Workload, None).unwrap();
    let verdict = |rules: &str| {
        let profile = Profile::from_json(with_rules(rules).as_bytes()).unwrap();
        let report = check(&profile, &recording, &Question::default());
        report.program.into_iter().find(|call| call.key == key).unwrap().verdict
    };
    assert!(matches!(verdict(ALLOW_READ), Verdict::Refused { .. }));
    let parts = in_words(verdict(r#"{"names":["newest_call"],"action":"SCMP_ACT_ALLOW"}"#));
    assert!(parts.starts_with("depends") && parts.contains("newest_call"), "{parts}");
}

#[test]
fn a_generated_profile_passes_its_own_recording_and_fails_without_a_call() {
    let recording = nginx_pod();
    let policy = Policy { phases: Policy::DEFAULT_PHASES, floor: floor_of(&recording, &["execve"]) };
    let json = generate(&recording, policy).unwrap().profile.to_json().unwrap();
    let report = check(&Profile::from_json(&json).unwrap(), &recording, &Question::default());
    assert!(report.passes() && report.runtime.is_empty(), "{}", report.to_text());
    let without = String::from_utf8(json).unwrap().replace("\"accept4\",", "");
    let report = check(&Profile::from_json(without.as_bytes()).unwrap(), &recording, &Question::default());
    assert!(!report.passes());
    insta::assert_snapshot!(report.to_text());
}

#[test]
fn the_runtimes_own_calls_under_a_filter_are_a_group_of_their_own() {
    let mut recording = nginx_pod();
    observe(&mut recording, 0, Phase::RuntimeFiltered, &["capset", "read"]);
    observe(&mut recording, 0, Phase::JoiningFiltered, &["setns"]);
    let profile = Profile::from_json(with_rules(ALLOW_READ).as_bytes()).unwrap();
    let report = check(&profile, &recording, &Question::default());
    let names: Vec<_> = report.runtime.iter().map(|call| call.name.unwrap()).collect();
    assert_eq!(names, ["read", "capset", "setns"]);
    assert_eq!(report.runtime[0].phases, PhaseSet::EMPTY.with(Phase::RuntimeFiltered));
    assert_eq!(report.runtime[0].verdict, Verdict::Allowed);
    let value = report.to_value();
    assert_eq!((&value["passes"], &value["runtime"][1]["verdict"]), (&false.into(), &"refused".into()));
    assert_eq!(value["runtime"][1]["witness"]["comm"], "runc:[2:INIT]");
}

#[test]
fn caveats_say_what_the_answer_does_not_cover() {
    let mut recording = nginx_pod();
    observe(&mut recording, 0, Phase::Workload, &["mseal"]);
    let mut late = run(1);
    late.coverage.syscalls = Coverage::Exact(Observed {
        from: From::Late,
        by: Attachment::Tracepoint,
        lost: std::collections::BTreeMap::new(),
        proof: Proof::Unproved { reason: "test".to_owned() },
    });
    late.confinement.seccomp = SeccompInForce::RuntimeDefault { n_filters: Some(1) };
    recording.add_run(late);
    let rule = r#"{"names":["mseal"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_CHOWN"]}}"#;
    let profile = Profile::from_json(with_rules(rule).as_bytes()).unwrap();
    let caveats = check(&profile, &recording, &Question::default()).caveats.join("\n");
    for part in [
        "1 of 2 runs",
        "under a seccomp filter",
        "the runtime itself",
        "containerd",
        "skips the rules for mseal",
    ] {
        assert!(caveats.contains(part), "{part} is not in {caveats}");
    }
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let mut recording = nginx_pod();
    let key = SyscallKey { abi: Abi::X86_64, nr: 101 };
    let name = Bytes::from(&b"\x1b]0;x\x07\xff"[..]);
    let witness = Witness { time_ns: 0, run: run_id(0), tgid: 1, tid: 1, comm: name.clone(), exe: name };
    recording.observe_syscall(run_id(0), key, Phase::Workload, Some(witness)).unwrap();
    let profile =
        Profile::from_json(with_rules(r#"{"names":["\u001b[2J"],"action":"SCMP_ACT_ALLOW"}"#).as_bytes())
            .unwrap();
    recording
        .observe_phases(run_id(0), SyscallKey { nr: 9999, ..key }, PhaseSet::EMPTY.with(Phase::Workload))
        .unwrap();
    let text = check(&profile, &recording, &Question::default()).to_text();
    assert!(text.contains("\\x1b]0;x\\x07\\xff") && text.contains("\\x1b[2J"), "{text}");
    assert!(!text.contains('\x1b'));
}

proptest! {
    #[test]
    fn what_a_generated_profile_is_made_from_passes_it(recording in any_recording()) {
        let policy = Policy { phases: Policy::DEFAULT_PHASES, floor: Floor::none() };
        if let Ok(generated) = generate(&recording, policy) {
            let profile = Profile::from_json(&generated.profile.to_json().unwrap()).unwrap();
            let report = check(&profile, &recording, &Question::default());
            let excused: BTreeSet<_> = generated.unwritable.union(&generated.unimplemented).copied().collect();
            for call in report.calls().filter(|call| !excused.contains(&call.key)) {
                let wanted = call.phases.iter().any(|phase| Policy::DEFAULT_PHASES.contains(phase));
                prop_assert!(!wanted || call.verdict == Verdict::Allowed, "{:?}", call);
            }
        }
    }

    #[test]
    fn reading_any_profile_never_panics(json in r#"\{"(defaultAction|syscalls|archMap)":.{0,40}\}"#) {
        let _ = Profile::from_json(json.as_bytes());
    }
}
