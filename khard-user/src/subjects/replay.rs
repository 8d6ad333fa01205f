//! A Recording told as a stream, in the order of its first sightings: what a client would have been told, as far as the Recording
//! has kept it.

use khard_profile::recording::{Phase, Recording, Run, RunId, Seen, Witness};

use crate::stream::{By, Message, Outcome, Placement, Stage, SubjectId, SubjectState};

/// Every message with its time in nanoseconds since the recording's beginning. Runs are told one beside the other, each from its own
/// start on: those of different hosts or boots have no clock in common.
pub fn messages(recording: &Recording) -> Vec<(u64, Message)> {
    let mut told = Vec::new();
    let numbered = (0..).map(SubjectId).zip(recording.runs().values());
    for (id, run) in numbered {
        told.push((0, subject(recording, id, run)));
        for (key, seen) in recording.syscalls() {
            told.extend(sightings(recording, run.id, seen).map(|(phase, witness)| {
                let by = witness.map(|witness| by(run, witness));
                let call = Message::Call { subject: id, abi: key.abi, nr: key.nr, stage: stage(phase), by };
                (witness.map_or(0, |witness| witness.time_ns), call)
            }));
        }
        for (key, seen) in recording.accesses() {
            told.extend(sightings(recording, run.id, seen).map(|(phase, witness)| {
                let access = Message::Access {
                    subject: id,
                    key: key.clone(),
                    stage: stage(phase),
                    asked: false,
                    by: witness.map_or_else(|| nobody(run), |witness| by(run, witness)),
                };
                (witness.map_or(0, |witness| witness.time_ns), access)
            }));
        }
        for (call, seen) in recording.refused_calls() {
            told.extend(sightings(recording, run.id, seen).map(|(phase, witness)| {
                let refused = Message::Refused {
                    subject: id,
                    abi: call.key.abi,
                    nr: call.key.nr,
                    errno: call.errno,
                    stage: stage(phase),
                    by: witness.map_or_else(|| nobody(run), |witness| by(run, witness)),
                };
                (witness.map_or(0, |witness| witness.time_ns), refused)
            }));
        }
        told.extend(run.marks.iter().map(|mark| {
            let at_ns = run.id.start_ns.saturating_add(mark.time_ns);
            (mark.time_ns, Message::Mark { at_ns, label: mark.label.clone() })
        }));
    }
    // Stable: a subject before all that it did.
    told.sort_by_key(|(time_ns, _)| *time_ns);
    let first = recording.runs().values().next();
    if let Some(run) = first {
        let now_ns = run.id.start_ns;
        let ready =
            Message::Ready { khard: recording.written_by().to_owned(), host: run.host.clone(), now_ns };
        told.insert(0, (0, ready));
        let last_ns = run.duration_ms.saturating_mul(1_000_000);
        let pulse = Message::Pulse { now_ns: now_ns.saturating_add(last_ns), lost: 0, rate: None };
        told.push((last_ns, pulse));
        told.push((last_ns, Message::Over { outcome: Outcome::Ended(run.ended) }));
    }
    told
}

fn subject(recording: &Recording, id: SubjectId, run: &Run) -> Message {
    let (_, names) = recording.subject().key();
    let names: Vec<_> = names.into_iter().map(String::from_utf8_lossy).collect();
    let label = match &run.container {
        Some(container) if !container.name.is_empty() => container.name.clone(),
        Some(container) => format!("{}/{}", container.pod, names.last().map_or("", |name| name.as_ref())),
        None => names.join("/"),
    };
    Message::Subject(Box::new(SubjectState {
        id,
        label,
        subject: recording.subject().clone(),
        run: Run { marks: Vec::new(), ..run.clone() },
        placement: Placement::default(),
    }))
}

/// In which phases a run did it, with the witness where that is this run's.
fn sightings<'a>(
    recording: &'a Recording,
    run: RunId,
    seen: &'a Seen,
) -> impl Iterator<Item = (Phase, Option<&'a Witness>)> {
    let of_run = seen.iter().filter(move |(_, sighting)| recording.was_in_run(sighting, run));
    of_run.map(move |(phase, sighting)| {
        (phase, sighting.witness.as_deref().filter(|witness| witness.run == run))
    })
}

fn stage(phase: Phase) -> Stage {
    Stage::ALL[usize::from(phase.bit())]
}

fn by(run: &Run, witness: &Witness) -> By {
    By {
        time_ns: run.id.start_ns.saturating_add(witness.time_ns),
        tgid: witness.tgid,
        tid: witness.tid,
        comm: witness.comm.clone(),
        exe: witness.exe.clone(),
    }
}

/// Who did what another run did before: the Recording keeps the first of all runs only.
fn nobody(run: &Run) -> By {
    By { time_ns: run.id.start_ns, tgid: 0, tid: 0, comm: "".into(), exe: "".into() }
}
