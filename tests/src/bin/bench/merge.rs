//! What uniting many recordings of one subject takes: the memory and the time of `khard merge`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use khard_profile::{
    Bytes,
    recording::{
        Abi, Access, AccessCoverage, AccessKey, AppArmorInForce, Attachment, Certainty, Confinement,
        ContainerRun, Coverage, Ended, FileAccess, FileFacts, FileOp, FilePerms, From, Host, Observed,
        Outcome, Phase, Proof, Recording, Run, RunCoverage, RunId, SeccompInForce, Subject, Witness,
    },
};
use khard_tests::khard::khard;
use serde::Serialize;

/// How many recordings, in order.
const SIZES: [u32; 4] = [250, 500, 1000, 2000];
/// Observations of each recording.
const N_OBSERVATIONS: u32 = 10_000;

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    n_observations: u32,
    rows: Vec<Row>,
}

/// One merge.
#[derive(Serialize)]
struct Row {
    n_recordings: u32,
    /// Of each recording's observations, those that no other has.
    n_own: u32,
    /// The most that was in memory.
    peak_bytes: u64,
    took_ms: u64,
    /// Of the result.
    file_bytes: u64,
}

/// Measures.
pub(crate) fn measure() -> Result<Report> {
    let mut rows = Vec::new();
    for n_own in [0, N_OBSERVATIONS / 10] {
        let dir = tempfile::tempdir()?;
        let mut n_written = 0;
        for n_recordings in SIZES {
            for nth in n_written..n_recordings {
                let folder = dir.path().join(format!("runs/{nth:05}"));
                fs::create_dir_all(&folder)?;
                fs::write(folder.join("recording.json"), recording(nth, n_own)?.to_json()?)?;
            }
            n_written = n_recordings;
            eprintln!("bench: merge {n_recordings} recordings, of each {n_own} observations its own");
            rows.push(merge(dir.path(), n_recordings, n_own)?);
        }
    }
    Ok(Report { n_observations: N_OBSERVATIONS, rows })
}

fn merge(dir: &Path, n_recordings: u32, n_own: u32) -> Result<Row> {
    let merged = dir.join("merged.json");
    let began = Instant::now();
    // What it prints is no measurement.
    let child = Command::new(khard())
        .arg("-q")
        .arg("merge")
        .arg(dir.join("runs"))
        .arg("-o")
        .arg(&merged)
        .stdout(Stdio::null())
        .spawn()?;
    let (mut status, mut used) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both live until it returns; the child is waited for here only.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, used.as_mut_ptr()) };
    ensure!(waited > 0 && status == 0, "khard merge failed");
    // SAFETY: all zeros is a valid one, and the kernel has filled it.
    let used = unsafe { used.assume_init() };
    Ok(Row {
        n_recordings,
        n_own,
        // In KiB: getrusage(2).
        peak_bytes: u64::try_from(used.ru_maxrss)? * 1024,
        took_ms: u64::try_from(began.elapsed().as_millis())?,
        file_bytes: fs::metadata(&merged).context("the merged recording")?.len(),
    })
}

fn recording(nth: u32, n_own: u32) -> Result<Recording> {
    let labels = BTreeMap::from([("pod-template-hash".to_owned(), "7d4b9c".to_owned())]);
    let mut recording = Recording::new(Subject::of_container("shop", "web-7d4b9c-x2x4z", &labels, "app"));
    let run = run(nth)?;
    let id = run.id;
    recording.add_run(run);
    for place in 0..N_OBSERVATIONS {
        let path = if place < n_own {
            format!("/var/lib/app/data/replica-{nth:05}/segment-{place:06}.log")
        } else {
            format!("/usr/lib/python3.11/site-packages/package_{:03}/module_{place:06}.py", place % 200)
        };
        let what = Access::File(FileAccess {
            path: Bytes::from(path.as_str()),
            op: FileOp::Open,
            perms: FilePerms::READ,
            facts: FileFacts { owner: place < n_own, ..FileFacts::default() },
        });
        let key = AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact };
        let witness = Witness {
            time_ns: 1_000_000 + u64::from(place) * 1_713 + u64::from(nth),
            run: id,
            tgid: 4000 + nth,
            tid: 4000 + nth + place % 8,
            comm: "python3".into(),
            exe: "python3.11".into(),
        };
        recording.observe_access(id, key, Phase::Workload, Some(witness))?;
    }
    Ok(recording)
}

fn run(nth: u32) -> Result<Run> {
    let observed = || {
        Coverage::Exact(Observed {
            from: From::FirstInstruction,
            by: Attachment::Fexit,
            lost: BTreeMap::new(),
            proof: Proof::from_misses(BTreeMap::from([("fexit".to_owned(), 0)])),
        })
    };
    let boot_id = format!("8c5f2e0a-11bb-4cde-9f00-{:012x}", nth % 97);
    Ok(Run {
        id: RunId::new(&boot_id, 4000 + u64::from(nth), 81_234_567_890 + u64::from(nth))?,
        started_unix_ms: 1_764_000_000_000 + u64::from(nth),
        duration_ms: 60_000,
        ended: Ended::Duration,
        cgroup_path: "/kubepods/besteffort/pod8d/0a1b".into(),
        init_pid: Some(4000 + nth),
        joiners: 0,
        container: Some(ContainerRun {
            container_id: format!("{nth:064x}"),
            name: String::new(),
            sandbox_id: format!("{nth:064x}"),
            pod: format!("web-7d4b9c-{nth:05}"),
            attempt: 0,
            image: "registry.example/app:1".to_owned(),
            image_id: "sha256:aa".to_owned(),
        }),
        runtime: None,
        host: Host {
            kernel: "6.12.1".to_owned(),
            machine: "x86_64".to_owned(),
            abis: BTreeSet::from([Abi::X86_64]),
        },
        confinement: Confinement {
            no_new_privs: Some(true),
            privileged: Some(false),
            seccomp: SeccompInForce::None,
            apparmor: AppArmorInForce::Unconfined,
        },
        coverage: RunCoverage {
            syscalls: observed(),
            accesses: AccessCoverage::new(|_| observed()),
            refused_syscalls: Coverage::none("no seccomp filter was in force"),
        },
        notes: Vec::new(),
        marks: Vec::new(),
    })
}
