//! Facts about summaries.

use std::path::Path;

use khard_profile::Bytes;
use khard_profile::recording::*;
use khard_profile::seccomp::*;
use khard_profile::summary::Summary;
use khard_profile::syscalls;
use proptest::prelude::*;

use crate::support::{floor_of, nginx_pod, observe, run, run_id, subject, without_version};

fn generated(recording: &Recording) -> Generated {
    let floor = floor_of(recording, &["capset", "close_range", "execve", "openat2", "statx"]);
    generate(recording, Policy { phases: Policy::DEFAULT_PHASES, floor }).unwrap()
}

/// Everything at once that a summary can have to say.
fn eventful() -> Recording {
    let mut recording = nginx_pod();
    observe(&mut recording, 0, Phase::Workload, &["unshare"]);
    let mut lossy = run(2);
    lossy.ended = Ended::Checkpoint;
    lossy.duration_ms = 725_000;
    lossy.host.abis.insert(Abi::X32);
    lossy.confinement.privileged = Some(true);
    lossy.confinement.seccomp = SeccompInForce::RuntimeDefault { n_filters: Some(1) };
    lossy.coverage.syscalls = Coverage::Exact(Observed {
        from: From::Late,
        by: Attachment::Tracepoint,
        lost: [("slots_full".to_owned(), 3)].into(),
        proof: Proof::from_misses(
            [("sys_enter_raw".to_owned(), 12), ("sys_enter_perf".to_owned(), 40)].into(),
        ),
    });
    lossy.notes.push("the clock jumped".to_owned());
    let mark = |time_ns, label: &str| Mark { time_ns, label: label.into() };
    lossy.marks = vec![mark(3, "load `test` | starts"), mark(60_000_000_000, "reload")];
    recording.add_run(lossy);
    for (abi, nr) in [(Abi::X86_64, 9999), (Abi::Ia32, 102)] {
        let witness = Witness {
            time_ns: 5,
            run: run_id(2),
            tgid: 7,
            tid: 7,
            comm: "legacy".into(),
            exe: "legacy32".into(),
        };
        recording.observe_syscall(run_id(2), SyscallKey { abi, nr }, Phase::Workload, Some(witness)).unwrap();
    }
    recording
}

#[test]
fn the_page_of_a_realistic_pod() {
    let recording = nginx_pod();
    let generated = generated(&recording);
    let json = generated.profile.to_json().unwrap();
    let page = Summary::new(&recording, Ok(&generated)).to_markdown(Some(&json));
    insta::assert_snapshot!(without_version(&page));
}

#[test]
fn the_page_of_an_eventful_recording() {
    let recording = eventful();
    let generated = generated(&recording);
    let json = generated.profile.to_json().unwrap();
    let page = Summary::new(&recording, Ok(&generated)).to_markdown(Some(&json));
    insta::assert_snapshot!(without_version(&page));
}

#[test]
fn the_closing_table() {
    let realistic = nginx_pod();
    let eventful = eventful();
    let table = |recording| {
        Summary::new(recording, Ok(&generated(recording))).to_text(Path::new("profiles-out/web/nginx"))
    };
    insta::assert_snapshot!(format!("{}\n{}", table(&realistic), table(&eventful)));
}

#[test]
fn without_a_profile_the_summary_says_why() {
    let summary = Summary::new(&nginx_pod(), Err("no floor was measured"));
    assert!(summary.to_text(Path::new("out")).contains("none: no floor was measured"));
    let page = summary.to_markdown(None);
    assert!(page.contains("There is no seccomp profile") && page.contains("khard generate"), "{page}");
}

#[test]
fn the_numbers_add_up() {
    for recording in [nginx_pod(), eventful()] {
        let generated = generated(&recording);
        let seccomp = Summary::new(&recording, Ok(&generated)).seccomp.unwrap();
        assert_eq!(seccomp.n_allowed, generated.allowed.len());
        assert!(seccomp.n_allowed + seccomp.n_eperm < seccomp.n_existing);
        assert!(seccomp.reasons.iter().map(|reason| reason.n_calls).sum::<usize>() >= seccomp.n_allowed);
        assert!(seccomp.reasons.iter().all(|reason| reason.n_only <= reason.n_calls));
        let exists =
            |name| generated.abis.iter().any(|abi| syscalls::by_name(name).unwrap().number(*abi).is_some());
        for call in seccomp.open.iter().chain(&seccomp.closed) {
            assert!(
                exists(call.name) && generated.allowed.contains_key(call.name) != call.why.is_empty(),
                "{call:?}"
            );
        }
    }
}

#[test]
fn the_summary_as_json_has_the_facts() {
    let recording = eventful();
    let value = serde_json::to_value(Summary::new(&recording, Ok(&generated(&recording)))).unwrap();
    assert_eq!(value["lossy"], true);
    assert_eq!(value["subject"]["container"], "nginx");
    assert_eq!(value["seccomp"]["compat"][0]["abi"], "ia32");
    assert_eq!(value["seccomp"]["unwritable"][0], "9999 (x86_64)");
}

proptest! {
    /// Every string of a recording that someone else may have chosen, in every sink.
    #[test]
    fn no_name_becomes_markup_or_an_escape_sequence(tail in "[ -~\u{1b}\u{9b}\u{202e}\n|`<>]{0,12}") {
        let hostile = format!("<h1>{tail}");
        let mut evil = run(0);
        evil.container.as_mut().unwrap().pod.clone_from(&hostile);
        evil.container.as_mut().unwrap().image.clone_from(&hostile);
        evil.container.as_mut().unwrap().image_id.clone_from(&hostile);
        evil.runtime.as_mut().unwrap().name = "runc".to_owned();
        evil.runtime.as_mut().unwrap().manager = Some(hostile.clone());
        evil.host.kernel.clone_from(&hostile);
        evil.notes.push(hostile.clone());
        evil.coverage.syscalls = Coverage::Inferred(Observed {
            from: From::Late, by: Attachment::Tracepoint,
            lost: [(hostile.clone(), 1)].into(),
            proof: Proof::Unproved { reason: hostile.clone() },
        });
        let Subject::Container { workload_from, .. } = subject() else { unreachable!() };
        let mut recording = Recording::new(Subject::Container {
            namespace: hostile.clone(),
            workload: hostile.clone(),
            workload_from,
            container: hostile.clone(),
        });
        recording.add_run(evil);
        let name = Bytes::from(hostile.as_str());
        let witness = Witness { time_ns: 0, run: run_id(0), tgid: 1, tid: 1, comm: name.clone(), exe: name };
        for nr in [101, 272, 9999] {
            let key = SyscallKey { abi: Abi::X86_64, nr };
            recording.observe_syscall(run_id(0), key, Phase::Workload, Some(witness.clone())).unwrap();
        }
        let generated = generated(&recording);
        for profile in [Ok(&generated), Err(hostile.as_str())] {
            let summary = Summary::new(&recording, profile);
            let page = summary.to_markdown(profile.ok().map(|_| &b"{}"[..]));
            let unfenced: String = page.split("```").step_by(2).collect();
            for line in unfenced.lines() {
                // Outside of code spans there is nothing of the hostile text.
                let outside: String = line.split('`').step_by(2).collect();
                prop_assert!(!outside.contains('<') && !outside.contains("h1"), "{}", line);
            }
            let text = summary.to_text(Path::new(&hostile));
            for shown in [page, text] {
                let raw = shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']);
                prop_assert!(!raw, "{}", shown);
            }
        }
    }
}
