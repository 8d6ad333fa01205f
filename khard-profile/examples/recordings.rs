//! Writes many recordings of one subject, to measure what it takes to unite them:
//!
//! ```sh
//! cargo run --release -p khard-profile --example recordings -- DIR N_RECORDINGS N_OBSERVATIONS N_OWN
//! /usr/bin/time -v khard merge DIR -o merged.json
//! ```
//!
//! Each has `N_OBSERVATIONS`, of which `N_OWN` are in no other.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;

use khard_profile::Bytes;
use khard_profile::recording::*;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, n_recordings, n_observations, n_own] = args.as_slice() else {
        return Err("expected DIR N_RECORDINGS N_OBSERVATIONS N_OWN".into());
    };
    let (n_observations, n_own): (u32, u32) = (n_observations.parse()?, n_own.parse()?);
    for nth in 0..n_recordings.parse()? {
        let folder = Path::new(dir).join(format!("{nth:05}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("recording.json"), recording(nth, n_observations, n_own)?.to_json()?)?;
    }
    Ok(())
}

fn recording(nth: u32, n_observations: u32, n_own: u32) -> Result<Recording, Box<dyn Error>> {
    let labels = BTreeMap::from([("pod-template-hash".to_owned(), "7d4b9c".to_owned())]);
    let mut recording = Recording::new(Subject::of_container("shop", "web-7d4b9c-x2x4z", &labels, "app"));
    let run = run(nth)?;
    let id = run.id;
    recording.add_run(run);
    for place in 0..n_observations {
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

fn run(nth: u32) -> Result<Run, Box<dyn Error>> {
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
