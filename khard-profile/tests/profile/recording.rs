//! Facts about the Recording: merge laws, the JSON form's round trip and its refusals.

use khard_profile::Bytes;
use khard_profile::recording::*;
use proptest::prelude::*;

use crate::support::{any_recording, run, run_id, subject, without_version};

const READ: SyscallKey = SyscallKey { abi: Abi::X86_64, nr: 0 };

fn merge(ours: &Recording, theirs: &Recording) -> Recording {
    ours.clone().merge(theirs.clone(), MergePolicy::default()).unwrap()
}

proptest! {
    #[test]
    fn merging_is_commutative(a in any_recording(), b in any_recording()) {
        prop_assert_eq!(merge(&a, &b), merge(&b, &a));
    }

    #[test]
    fn merging_is_associative(a in any_recording(), b in any_recording(), c in any_recording()) {
        prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
    }

    #[test]
    fn merging_is_idempotent(a in any_recording(), b in any_recording()) {
        let both = merge(&a, &b);
        prop_assert_eq!(merge(&a, &a), a.clone());
        prop_assert_eq!(merge(&both, &a), both);
    }

    #[test]
    fn merging_loses_no_run_and_no_sighting(a in any_recording(), b in any_recording()) {
        let both = merge(&a, &b);
        for one in [&a, &b] {
            prop_assert!(one.runs().keys().all(|id| both.runs().contains_key(id)));
            for (key, seen) in one.syscalls() {
                for (phase, sighting) in seen.iter() {
                    let merged = both.syscalls()[key].in_phase(phase).unwrap();
                    prop_assert!(one.runs_of(sighting).all(|run| both.was_in_run(merged, run.id)));
                    prop_assert!(sighting.witness.is_none() || merged.witness <= sighting.witness);
                }
            }
            for (key, seen) in one.accesses() {
                for (phase, sighting) in seen.iter() {
                    let merged = both.accesses()[key].in_phase(phase).unwrap();
                    prop_assert!(one.runs_of(sighting).all(|run| both.was_in_run(merged, run.id)));
                    prop_assert!(sighting.witness.is_none() || merged.witness <= sighting.witness);
                }
            }
        }
    }

    #[test]
    fn json_gives_the_same_recording_back(a in any_recording()) {
        let json = a.to_json().unwrap();
        let read = Recording::from_json(&json).unwrap();
        prop_assert_eq!(&read, &a);
        prop_assert_eq!(read.to_json().unwrap(), json);
    }

    #[test]
    fn reading_any_bytes_never_panics(cut in 0_usize..2000, byte in any::<u8>(), a in any_recording()) {
        let mut json = a.to_json().unwrap();
        let at = cut % json.len();
        json[at] = byte;
        let _ = Recording::from_json(&json);
        let _ = Recording::from_json(&json[..at]);
    }
}

fn small() -> Recording {
    let mut recording = Recording::new(subject());
    recording.add_run(run(0));
    recording.observe_phases(run_id(0), READ, PhaseSet::EMPTY.with(Phase::Workload)).unwrap();
    recording
}

fn edited(from: &str, to: &str) -> Result<Recording, ReadError> {
    let json = String::from_utf8(small().to_json().unwrap()).unwrap();
    assert!(json.contains(from), "{from} is not in {json}");
    Recording::from_json(json.replace(from, to).as_bytes())
}

#[test]
fn a_newer_version_is_refused_with_both_numbers() {
    let error = edited("\"khard_recording\":5", "\"khard_recording\":7,\"new\":{}").unwrap_err();
    assert!(matches!(error, ReadError::Newer { found: 7, supported: 5 }));
    assert!(error.to_string().contains('7') && error.to_string().contains('5'));
}

#[test]
fn what_is_no_recording_is_refused_as_such() {
    for text in ["", "{\"khard_recording\":5,\"runs\":[{\"id\""] {
        assert!(matches!(Recording::from_json(text.as_bytes()), Err(ReadError::CutOff)), "{text}");
    }
    for text in ["[]", "{}", "{\"khard_recording\":\"1\"}", "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}"] {
        assert!(matches!(Recording::from_json(text.as_bytes()), Err(ReadError::NotARecording(_))), "{text}");
    }
    assert!(matches!(
        edited("\"khard_recording\":5", "\"khard_recording\":0"),
        Err(ReadError::NoSuchVersion(0))
    ));
}

#[test]
fn unknown_keys_and_missing_coverage_are_refused() {
    assert!(matches!(
        edited("\"abi\":", "\"colour\":1,\"abi\":"),
        Err(ReadError::Malformed { version: 5, .. })
    ));
    assert!(matches!(
        edited("\"coverage\":{\"syscalls\"", "\"coverage\":{\"x\""),
        Err(ReadError::Malformed { .. })
    ));
}

#[test]
fn contradictions_are_refused() {
    for (from, to) in [
        ("\"runs\":[0]", "\"runs\":[1]"),
        ("\"runs\":[0]", "\"runs\":[]"),
        ("\"seen\":[{\"phase\":\"workload\",\"runs\":[0]}]", "\"seen\":[]"),
        ("\"runs\":[0]}", "\"runs\":[0]},{\"phase\":\"workload\",\"runs\":[0]}"),
        (
            "\"runs\":[0]}",
            "\"runs\":[0],\"witness\":{\"time_ns\":1,\"run\":1,\"tgid\":1,\"tid\":1,\"comm\":\"\",\"exe\":\"\"}}",
        ),
    ] {
        assert!(matches!(edited(from, to), Err(ReadError::Inconsistent(_))), "{to}");
    }
}

#[test]
fn limits_are_enforced_and_named() {
    let json = small().to_json().unwrap();
    let refused = |limits| Recording::from_json_within(&json, limits).unwrap_err().to_string();
    assert!(refused(Limits { bytes: 100, ..Limits::default() }).contains("bytes"));
    assert!(refused(Limits { runs: 0, ..Limits::default() }).contains("runs"));
    assert!(refused(Limits { observations: 0, ..Limits::default() }).contains("observations"));
    for limits in [Limits { runs: 0, ..Limits::default() }, Limits { observations: 0, ..Limits::default() }] {
        assert!(small().check_limits(limits).is_err() && small().check_limits(Limits::default()).is_ok());
    }
}

#[test]
fn an_observation_needs_its_run() {
    let unknown = small().observe_syscall(run_id(3), READ, Phase::Workload, None);
    assert_eq!(unknown, Err(UnknownRun(run_id(3))));
    let unknown = small().observe_access(run_id(3), granted(Access::UserNamespace), Phase::Workload, None);
    assert_eq!(unknown, Err(UnknownRun(run_id(3))));
}

#[test]
fn the_final_record_of_a_run_replaces_its_checkpoint() {
    let mut checkpoint = Recording::new(subject());
    checkpoint.add_run(Run { ended: Ended::Checkpoint, duration_ms: 90_000, ..run(0) });
    let merged = merge(&checkpoint, &small());
    assert_eq!(merged.runs()[&run_id(0)].ended, Ended::SubjectEnded);
}

#[test]
fn other_subjects_images_and_machines_do_not_merge_silently() {
    let policy = MergePolicy::default();
    let other = Recording::new(Subject::Command { program: "nginx".into() });
    assert!(matches!(small().merge(other, policy), Err(MergeError::Subjects { .. })));

    let mut newer = Recording::new(subject());
    let mut container = run(1).container.unwrap();
    container.image_id = "sha256:bb".to_owned();
    newer.add_run(Run { container: Some(container), ..run(1) });
    assert!(matches!(small().merge(newer.clone(), policy), Err(MergeError::Images { .. })));
    let mixed = small().merge(newer, MergePolicy { mixed_images: true, ..policy }).unwrap();
    assert_eq!(mixed.runs().len(), 2);

    let mut elsewhere = Recording::new(subject());
    elsewhere.add_run(Run { host: Host { machine: "aarch64".to_owned(), ..run(1).host }, ..run(1) });
    assert!(matches!(small().merge(elsewhere.clone(), policy), Err(MergeError::Machines { .. })));
    assert!(small().merge(elsewhere, MergePolicy { mixed_machines: true, ..policy }).is_ok());
}

fn granted(what: Access) -> AccessKey {
    AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact }
}

/// One access of each class, with every key that the class has.
fn one_access_of_each_class() -> Vec<AccessKey> {
    let file = |path: &[u8], op, perms: &str, facts| {
        let (path, perms) = (Bytes::from(path), perms.parse().unwrap());
        Access::File(FileAccess { path, op, perms, facts })
    };
    let (none, outside) =
        (FileFacts::default(), |label: Option<&str>| Peer::Outside { label: label.map(Bytes::from) });
    let all = FileFacts { owner: true, exclusive: true, deleted: true, disconnected: true };
    let accesses = vec![
        file(b"/var/lib/\xff", FileOp::Create, "wrc", all),
        Access::Link { link: "/a".into(), target: "/b".into() },
        file(b"/bin/sh", FileOp::Exec, "x", none),
        file(b"/lib/libc.so.6", FileOp::Mmap, "rm", none),
        file(b"/dev/null", FileOp::Receive, "wr", none),
        Access::Capability { capability: 10, optional: true },
        Access::Network { family: 2, kind: 1 },
        file(b"/run/app.sock", FileOp::Connect, "wr", none),
        Access::Signal { signal: 15, peer: Peer::Inside },
        Access::Ptrace { mode: PtraceMode::Read, peer: outside(Some("unconfined")) },
        Access::Ptrace { mode: PtraceMode::Trace, peer: outside(None) },
        Access::Mount { fstype: "tmpfs".into(), source: "tmpfs".into(), target: "/mnt/".into(), flags: 6 },
        Access::Umount { target: "/mnt/".into(), flags: 2 },
        Access::PivotRoot { new_root: "/new/".into(), put_old: "/new/old/".into() },
        Access::UserNamespace,
        Access::IoUring { op: IoUringOp::SqPoll },
    ];
    accesses.into_iter().map(granted).collect()
}

/// One of each: every kind of value that the form has. Not every combination of them makes sense.
fn one_of_each() -> Recording {
    let mut recording = one_of_each_of_version_2();
    for (nth, ended) in [(4, Ended::Quiet), (5, Ended::AgentLost), (6, Ended::Running)] {
        let marks = vec![
            Mark { time_ns: 0, label: "load test starts".into() },
            Mark { time_ns: 5, label: Bytes::from(&b"\xff"[..]) },
        ];
        recording.add_run(Run { ended, marks, ..run(nth) });
    }
    let mut filtered = run(7);
    filtered.coverage.refused_syscalls = Coverage::Inferred(Observed {
        from: From::Late,
        by: Attachment::Tracepoint,
        lost: [].into(),
        proof: Proof::from_hooks(&[[("passed".to_owned(), 1)].into(), [("refused".to_owned(), 0)].into()]),
    });
    recording.add_run(filtered);
    let witness = Witness { time_ns: 9, run: run_id(7), tgid: 7, tid: 8, comm: "a".into(), exe: "b".into() };
    for (errno, witness) in [(1, Some(witness)), (38, None)] {
        let call = RefusedCall { key: READ, errno };
        recording.observe_refused_call(run_id(7), call, Phase::Joiner, witness).unwrap();
    }
    recording
}

/// The same without what came later.
fn one_of_each_of_version_2() -> Recording {
    let mut recording = Recording::new(subject());
    let run = |nth| {
        let mut run = run(nth);
        run.coverage.refused_syscalls = Coverage::none("this khard did not look for them");
        run
    };
    recording.add_run(Run { notes: vec!["a note".to_owned()], ..run(0) });
    let observed = Observed {
        from: From::Late,
        by: Attachment::Tracepoint,
        lost: [("slots_full".to_owned(), 3)].into(),
        proof: Proof::from_misses([("sys_enter_raw".to_owned(), 12)].into()),
    };
    let mut second = run(1);
    second.ended = Ended::Checkpoint;
    second.cgroup_path = Bytes::from(&b"/\xff"[..]);
    second.init_pid = None;
    second.container = None;
    second.runtime = None;
    second.confinement = Confinement {
        no_new_privs: None,
        privileged: None,
        seccomp: SeccompInForce::Localhost { path: "/profiles/a.json".into(), n_filters: Some(2) },
        apparmor: AppArmorInForce::Named { name: "web".into(), mode: "enforce".to_owned() },
    };
    second.coverage.syscalls = Coverage::Inferred(observed);
    recording.add_run(second);
    let mut third = run(2);
    third.coverage.syscalls = Coverage::None(NotObserved { reason: "no BTF".to_owned() });
    recording.add_run(third);
    let witness = Witness {
        time_ns: 1_200_345,
        run: run_id(1),
        tgid: 77,
        tid: 78,
        comm: Bytes::from(&b"\xfe"[..]),
        exe: "nginx".into(),
    };
    recording.observe_syscall(run_id(1), READ, Phase::Workload, Some(witness)).unwrap();
    recording.observe_phases(run_id(0), READ, PhaseSet::from_byte(0b11_1111).unwrap()).unwrap();
    for (abi, nr) in [(Abi::Ia32, 102), (Abi::X32, 512), (Abi::Aarch64, 9999)] {
        let phases = PhaseSet::EMPTY.with(Phase::Joiner);
        recording.observe_phases(run_id(0), SyscallKey { abi, nr }, phases).unwrap();
    }
    let observed = |from, by| Observed {
        from,
        by,
        lost: [].into(),
        proof: Proof::Unproved { reason: "test".to_owned() },
    };
    let mut fourth = run(3);
    fourth.coverage.accesses = AccessCoverage::new(|class| match class {
        Class::Files => Coverage::Exact(observed(From::FirstInstruction, Attachment::Lsm)),
        Class::Capabilities => Coverage::Exact(observed(From::FirstInstruction, Attachment::Fexit)),
        Class::Mounts => Coverage::Inferred(observed(From::Late, Attachment::Syscall)),
        _ => Coverage::None(NotObserved { reason: "no BTF".to_owned() }),
    });
    recording.add_run(fourth);
    for access in one_access_of_each_class() {
        recording.observe_access(run_id(3), access, Phase::Workload, None).unwrap();
    }
    let what = Access::Umount { target: "/proc/".into(), flags: 0 };
    let refused = AccessKey { what, outcome: Outcome::Refused, certainty: Certainty::Inferred };
    let witness = Witness {
        time_ns: 7,
        run: run_id(3),
        tgid: 77,
        tid: 77,
        comm: "umount".into(),
        exe: "busybox".into(),
    };
    recording.observe_access(run_id(3), refused, Phase::Joiner, Some(witness)).unwrap();
    recording
}

#[test]
fn the_form_of_version_5_stays_as_it_is() {
    let recording = one_of_each();
    let classes: std::collections::BTreeSet<_> =
        recording.accesses().keys().map(|key| key.what.class()).collect();
    assert_eq!(classes.len(), Class::ALL.len(), "a class has no access here");
    let json = recording.to_json().unwrap();
    insta::assert_snapshot!(without_version(&String::from_utf8(json).unwrap()));
}

#[test]
fn a_container_without_a_pod_is_written_and_read_as_it_is() {
    let subject = Subject::of_docker("thirsty_euler", &std::collections::BTreeMap::new(), "web/nginx:1");
    let mut recording = Recording::new(subject);
    let mut run = run(0);
    let of_docker = |its: ContainerRun| ContainerRun {
        name: "thirsty_euler".to_owned(),
        sandbox_id: String::new(),
        pod: String::new(),
        ..its
    };
    run.container = run.container.map(of_docker);
    recording.add_run(run);
    let json = String::from_utf8(recording.to_json().unwrap()).unwrap();
    assert!(json.contains(r#""subject":{"kind":"docker","name":"nginx","name_from":"image"}"#), "{json}");
    assert!(json.contains(r#""name":"thirsty_euler","sandbox_id":"","pod":"","#), "{json}");
    assert_eq!(Recording::from_json(json.as_bytes()).unwrap(), recording);
}

/// As khard wrote it when version 2 was its newest.
const VERSION_2: &[u8] = include_bytes!("fixtures/recording-v2.json");

#[test]
fn version_2_is_read_as_it_was_meant() {
    assert_eq!(Recording::from_json(VERSION_2).unwrap(), one_of_each_of_version_2());
}

/// As khard wrote it when version 1 was its newest.
const VERSION_1: &[u8] = include_bytes!("fixtures/recording-v1.json");

#[test]
fn version_1_is_read_and_says_that_its_khard_saw_no_access() {
    let read = Recording::from_json(VERSION_1).unwrap();
    assert_eq!((read.runs().len(), read.syscalls().len(), read.accesses().len()), (3, 4, 0));
    for run in read.runs().values() {
        for (class, coverage) in run.coverage.accesses.iter() {
            let Coverage::None(NotObserved { reason }) = coverage else { panic!("{class}: {coverage:?}") };
            assert_eq!(reason, "this khard saw system calls only");
        }
    }
    let by: Vec<_> =
        read.runs().values().map(|run| run.coverage.syscalls.observed().map(|seen| seen.by)).collect();
    assert_eq!(by, [Some(Attachment::Tracepoint), Some(Attachment::Tracepoint), None]);
}

#[test]
fn version_1_is_written_again_as_version_5_without_a_loss() {
    let read = Recording::from_json(VERSION_1).unwrap();
    let json = read.to_json().unwrap();
    assert!(json.starts_with(b"{\n\"khard_recording\":5,"));
    assert_eq!(Recording::from_json(&json).unwrap(), read);
}

proptest! {
    /// The runs that a table in memory names in another order are the same runs.
    #[test]
    fn the_order_in_which_runs_came_does_not_count(a in any_recording()) {
        let mut backwards = Recording::new(a.subject().clone());
        a.runs().values().rev().for_each(|run| backwards.add_run(run.clone()));
        prop_assert_eq!(merge(&backwards, &a), a.clone());
        prop_assert_eq!(merge(&backwards, &a).to_json().unwrap(), a.to_json().unwrap());
    }

    #[test]
    fn what_is_seen_in_too_few_runs_goes_and_all_else_stays(
        a in any_recording(), min_runs in 0_usize..4, phases in 0_u8..64,
    ) {
        let phases = PhaseSet::from_byte(phases).unwrap();
        let (kept, rare) = a.clone().without_rare(min_runs, phases);
        prop_assert_eq!(a.runs(), kept.runs());
        let n_runs = |seen: &Seen| {
            let sightings = phases.iter().filter_map(|phase| seen.in_phase(phase));
            let runs = sightings.flat_map(|sighting| a.runs_of(sighting)).map(|run| run.id);
            runs.collect::<std::collections::BTreeSet<_>>().len()
        };
        for (key, seen) in a.accesses() {
            let is_rare = (1..min_runs).contains(&n_runs(seen));
            prop_assert_eq!(rare.accesses.contains(key), is_rare);
            let left = kept.accesses().get(key).map_or(PhaseSet::EMPTY, Seen::phases);
            prop_assert_eq!(left, if is_rare { seen.phases().without(phases) } else { seen.phases() });
        }
        for (key, seen) in a.syscalls() {
            let is_rare = (1..min_runs).contains(&n_runs(seen));
            prop_assert_eq!(rare.calls.contains(key), is_rare);
            let left = kept.syscalls().get(key).map_or(PhaseSet::EMPTY, Seen::phases);
            prop_assert_eq!(left, if is_rare { seen.phases().without(phases) } else { seen.phases() });
        }
    }
}

#[test]
fn only_runs_that_tell_of_absence_count_as_those_that_something_could_be_seen_in() {
    let mut recording = Recording::new(subject());
    let observed = |from, lost| Observed {
        from,
        by: Attachment::Tracepoint,
        lost: [("slots_full".to_owned(), lost)].into(),
        proof: Proof::Unproved { reason: "khard died".to_owned() },
    };
    for (nth, coverage) in (0..).zip([
        Coverage::Exact(observed(From::FirstInstruction, 0)),
        Coverage::Exact(observed(From::FirstInstruction, 1)),
        Coverage::Exact(observed(From::Late, 0)),
        Coverage::Inferred(observed(From::FirstInstruction, 0)),
    ]) {
        let mut run = run(nth);
        run.coverage.syscalls = coverage;
        recording.add_run(run);
    }
    let phases = PhaseSet::EMPTY.with(Phase::Workload);
    let mut asked = |nth| {
        recording.observe_phases(run_id(nth), READ, phases).unwrap();
        recording.frequencies().of(None, &recording.syscalls()[&READ], phases).to_string()
    };
    assert_eq!(asked(2), "in 0 of 1 whole runs, and of others in 1");
    assert_eq!(asked(0), "in 1 of 1 whole runs, and of others in 1");
}

#[test]
fn what_the_last_runs_would_have_told_of_and_did_not_is_stale() {
    let observed = |from| Observed {
        from,
        by: Attachment::Tracepoint,
        lost: [].into(),
        proof: Proof::Unproved { reason: "test".to_owned() },
    };
    let phases = PhaseSet::EMPTY.with(Phase::Workload);
    let write = SyscallKey { abi: Abi::X86_64, nr: 1 };
    // Complete runs but for the third, which began late; one makes the call, all make another.
    let recording = |with_call: u64| {
        let mut recording = Recording::new(subject());
        for nth in 0..4 {
            let from = if nth == 2 { From::Late } else { From::FirstInstruction };
            let mut run = Run { started_unix_ms: 1000 + nth, ..run(nth) };
            run.coverage.syscalls = Coverage::Exact(observed(from));
            recording.add_run(run);
            recording.observe_phases(run_id(nth), READ, phases).unwrap();
        }
        recording.observe_phases(run_id(with_call), write, phases.with(Phase::Runtime)).unwrap();
        recording
    };
    let stays = |with_call, n_runs| {
        let (left, stale) = recording(with_call).without_stale(n_runs, phases);
        assert!(left.syscalls().contains_key(&READ));
        let stays = left.syscalls()[&write].phases().contains(Phase::Workload);
        assert_eq!(stale.calls.contains(&write), !stays);
        assert!(left.syscalls()[&write].phases().contains(Phase::Runtime), "another phase stays");
        stays
    };
    assert_eq!([1, 2, 3, 4].map(|n_runs| stays(0, n_runs)), [false, false, true, true]);
    assert_eq!([1, 2].map(|n_runs| stays(1, n_runs)), [false, true]);
    // A run that tells nothing of absence tells of what it saw, and was later than the one before it.
    assert_eq!([1, 2].map(|n_runs| stays(2, n_runs)), [false, true]);
    assert!(stays(3, 1));
}

#[test]
fn a_run_that_was_cut_short_makes_nothing_stale() {
    let phases = PhaseSet::EMPTY.with(Phase::Workload);
    let stays = |ended| {
        let mut recording = Recording::new(subject());
        for (nth, ended) in (0..).zip([Ended::SubjectEnded, ended]) {
            let mut run = Run { started_unix_ms: 1000 + nth, ended, ..run(nth) };
            run.coverage.syscalls = Coverage::Exact(Observed {
                from: From::FirstInstruction,
                by: Attachment::Tracepoint,
                lost: [].into(),
                proof: Proof::Unproved { reason: "test".to_owned() },
            });
            recording.add_run(run);
        }
        recording.observe_phases(run_id(0), READ, phases).unwrap();
        recording.without_stale(1, phases).0.syscalls().contains_key(&READ)
    };
    for early in [Ended::Interrupted, Ended::Duration, Ended::Checkpoint, Ended::AgentLost] {
        assert!(stays(early), "{early:?}");
    }
    for whole in [Ended::SubjectEnded, Ended::Running, Ended::Quiet] {
        assert!(!stays(whole), "{whole:?}");
    }
}
