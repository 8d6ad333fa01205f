//! Facts about what a client makes of a stream.

use std::collections::BTreeSet;

use khard_profile::recording::{
    Abi, Access, AccessCoverage, AppArmorInForce, Attachment, Certainty, Confinement, Coverage, FileAccess,
    FileFacts, FileOp, FilePerms, From, Observed as ObservedClass, Outcome as AccessOutcome, Phase, Proof,
    Run, RunCoverage, RunId, SeccompInForce, Subject,
};

use super::*;
use crate::stream::{FrameReader, FrameWriter, Placement, SubjectState};

const SUBJECT: SubjectId = SubjectId(0);
const START_NS: u64 = 1_000_000_000;

fn host() -> Host {
    Host { kernel: "6.12.0".to_owned(), machine: "x86_64".to_owned(), abis: BTreeSet::from([Abi::X86_64]) }
}

fn run(id: u32) -> Run {
    let observed = ObservedClass {
        from: From::FirstInstruction,
        by: Attachment::Tracepoint,
        lost: [].into(),
        proof: Proof::from_misses([("sys_enter".to_owned(), 0)].into()),
    };
    let coverage = Coverage::Exact(observed);
    Run {
        id: RunId { boot_id: [7; 16], cgroup_id: id.into(), start_ns: START_NS },
        started_unix_ms: 0,
        duration_ms: 0,
        ended: Ended::Checkpoint,
        cgroup_path: "/x".into(),
        init_pid: None,
        joiners: 0,
        container: None,
        runtime: None,
        host: host(),
        confinement: Confinement {
            no_new_privs: None,
            privileged: None,
            seccomp: SeccompInForce::None,
            apparmor: AppArmorInForce::Off,
        },
        coverage: RunCoverage {
            syscalls: coverage.clone(),
            accesses: AccessCoverage::new(|_| coverage.clone()),
            refused_syscalls: coverage.clone(),
        },
        notes: Vec::new(),
        marks: Vec::new(),
    }
}

fn subject(id: u32) -> Message {
    Message::Subject(Box::new(SubjectState {
        id: SubjectId(id),
        label: "x".to_owned(),
        subject: Subject::Cgroup { path: "/x".into() },
        run: run(id),
        placement: Placement::default(),
    }))
}

fn by(time_ns: u64) -> By {
    By { time_ns, tgid: 7, tid: 7, comm: "comm".into(), exe: "exe".into() }
}

fn call(nr: u32, stage: Stage, at_ns: Option<u64>) -> Message {
    Message::Call { subject: SUBJECT, abi: Abi::X86_64, nr, stage, by: at_ns.map(by) }
}

fn open(path: &str, outcome: AccessOutcome) -> AccessKey {
    let (op, perms, facts) = (FileOp::Open, FilePerms::READ, FileFacts::default());
    let what = Access::File(FileAccess { path: path.into(), op, perms, facts });
    AccessKey { what, outcome, certainty: Certainty::Exact }
}

fn access(key: AccessKey, asked: bool) -> Message {
    Message::Access { subject: SUBJECT, key, stage: Stage::Workload, asked, by: by(START_NS + 5) }
}

fn told(messages: impl IntoIterator<Item = Message>) -> Subjects {
    let mut subjects = Subjects::default();
    for message in messages {
        subjects.take(message).unwrap();
    }
    subjects
}

fn recording(subjects: &Subjects) -> Recording {
    subjects.recording(&[SUBJECT], Ended::Interrupted).unwrap().unwrap()
}

#[test]
fn a_witness_that_comes_after_its_call_is_kept_and_the_call_is_news_once() {
    let mut subjects = told([subject(0)]);
    let news = subjects.take(call(1, Stage::Workload, None)).unwrap();
    assert!(matches!(news, Some(News::Call { .. })));
    assert_eq!(subjects.take(call(1, Stage::Workload, Some(START_NS + 9))).unwrap(), None);
    assert_eq!(subjects.take(call(1, Stage::Workload, Some(START_NS + 4))).unwrap(), None);
    let recording = recording(&subjects);
    let (_, seen) = recording.syscalls().first_key_value().unwrap();
    let witness = seen.in_phase(Phase::Workload).unwrap().witness.as_ref().unwrap();
    assert_eq!((witness.time_ns, witness.tgid), (4, 7));
}

#[test]
fn where_a_stage_belongs_is_decided_by_what_was_told_last() {
    let mut subjects = told([subject(0), call(1, Stage::Untold, Some(START_NS))]);
    let phases = |subjects: &Subjects| recording(subjects).syscalls().values().next().unwrap().phases();
    assert!(phases(&subjects).contains(Phase::Workload));
    let Message::Subject(mut state) = subject(0) else { unreachable!() };
    state.placement = Placement::new(|_| Phase::Joining);
    subjects.take(Message::Subject(state)).unwrap();
    assert!(phases(&subjects).contains(Phase::Joining) && !phases(&subjects).contains(Phase::Workload));
}

#[test]
fn what_was_only_asked_is_gone_once_it_was_done() {
    let asked = open("/a", AccessOutcome::Refused);
    let subjects = told([subject(0), access(asked.clone(), true)]);
    assert_eq!(recording(&subjects).accesses().keys().collect::<Vec<_>>(), [&asked]);
    let done = open("/a", AccessOutcome::Granted);
    let subjects = told([subject(0), access(asked, true), access(done.clone(), false)]);
    assert_eq!(recording(&subjects).accesses().keys().collect::<Vec<_>>(), [&done]);
}

#[test]
fn a_lost_agent_leaves_a_recording_that_says_so_and_proves_nothing() {
    let subjects = told([subject(0), call(1, Stage::Workload, Some(START_NS))]);
    let recording = subjects.recording(&[SUBJECT], Ended::AgentLost).unwrap().unwrap();
    let run = recording.runs().values().next().unwrap();
    assert_eq!(run.ended, Ended::AgentLost);
    for (_, coverage) in run.coverage.classes() {
        assert!(
            matches!(coverage.observed().unwrap().proof, Proof::Unproved { .. }) && !coverage.is_complete()
        );
    }
    let json = recording.to_json().unwrap();
    assert_eq!(Recording::from_json(&json).unwrap(), recording);
}

#[test]
fn marks_are_those_of_the_runs_own_time() {
    let mark = |at_ns| Message::Mark { at_ns, label: "load".into() };
    let pulse = Message::Pulse { now_ns: START_NS + 10_000_000, lost: 0, rate: None };
    let subjects = told([subject(0), mark(START_NS - 1), mark(START_NS + 3_000_000), pulse]);
    let run = recording(&subjects).runs().values().next().unwrap().clone();
    assert_eq!(run.duration_ms, 10);
    assert_eq!(run.marks, [Mark { time_ns: 3_000_000, label: "load".into() }]);
}

#[test]
fn a_peer_that_tells_too_much_or_of_nobody_is_not_believed() {
    let mut subjects = Subjects::within(Limits { observations: 2, subjects: 1, ..Limits::default() });
    let unknown = subjects.take(call(1, Stage::Workload, None));
    assert!(matches!(unknown, Err(BadStream::UnknownSubject(SUBJECT))));
    subjects.take(subject(0)).unwrap();
    assert!(matches!(subjects.take(subject(1)), Err(BadStream::TooMuch { unit: "subjects", limit: 1 })));
    for nr in 0..2 {
        subjects.take(call(nr, Stage::Workload, None)).unwrap();
    }
    // Known already: told again as often as one likes.
    subjects.take(call(0, Stage::Workload, None)).unwrap();
    assert!(subjects.take(call(2, Stage::Workload, None)).is_err());
    let mut small = Subjects::within(Limits { bytes: 1000, ..Limits::default() });
    small.take(subject(0)).unwrap();
    assert!(small.take(access(open(&"x".repeat(1000), AccessOutcome::Granted), false)).is_err());
    let mut other = Box::new(match subject(0) {
        Message::Subject(state) => *state,
        _ => unreachable!(),
    });
    other.run.id.cgroup_id = 99;
    assert!(matches!(subjects.take(Message::Subject(other)), Err(BadStream::OtherSubject(SUBJECT))));
}

#[test]
fn a_recording_that_is_told_again_is_the_same() {
    let asked = open("/b", AccessOutcome::Refused);
    let mut state = match subject(0) {
        Message::Subject(state) => *state,
        _ => unreachable!(),
    };
    (state.run.ended, state.run.duration_ms) = (Ended::SubjectEnded, 20);
    let mark = Message::Mark { at_ns: START_NS + 3, label: "load".into() };
    let once = told([
        subject(0),
        call(1, Stage::Workload, Some(START_NS + 1)),
        call(2, Stage::Runtime, None),
        access(open("/a", AccessOutcome::Granted), false),
        access(asked, false),
        mark,
        Message::Subject(Box::new(state)),
    ]);
    let once = recording(&once);
    let messages = replay::messages(&once);
    assert!(messages.is_sorted_by_key(|(time_ns, _)| *time_ns));
    let again = told(messages.into_iter().map(|(_, message)| message));
    assert_eq!(again.outcome(), Some(&Outcome::Ended(Ended::SubjectEnded)));
    assert_eq!(recording(&again), once);
}

/// Everything that is told until the stream ends or makes no sense.
fn taken(bytes: &[u8]) -> Subjects {
    let mut subjects = Subjects::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = FrameReader::new(bytes);
        while let Ok(Some(message)) = reader.next().await {
            if subjects.take(message).is_err() {
                break;
            }
        }
    });
    subjects
}

#[test]
fn a_stream_with_any_byte_wrong_or_cut_anywhere_gives_a_recording_that_can_be_written() {
    let messages = [
        subject(0),
        call(1, Stage::Workload, Some(START_NS)),
        access(open("/a", AccessOutcome::Granted), false),
        Message::Mark { at_ns: START_NS + 1, label: "load".into() },
        Message::Pulse { now_ns: START_NS + 9, lost: 0, rate: None },
    ];
    let mut bytes = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut writer = FrameWriter::new(&mut bytes);
        for message in &messages {
            writer.write(message).await.unwrap();
        }
        writer.flush().await.unwrap();
    });
    assert_eq!(taken(&bytes).get(SUBJECT).unwrap().len(), 2);
    for at in 0..bytes.len() {
        for wrong in [0, b'0', b'"', 0x80, 0xff] {
            let mut garbled = bytes.clone();
            garbled[at] = wrong;
            for subjects in [taken(&garbled), taken(&garbled[..at])] {
                let ids: Vec<_> = subjects.iter().map(|(id, _)| id).collect();
                if let Some(recording) = subjects.recording(&ids, Ended::AgentLost).unwrap() {
                    recording.to_json().unwrap();
                }
            }
        }
    }
}
