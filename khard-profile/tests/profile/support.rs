//! Recordings for tests: generated ones for laws, and one realistic pod.

use std::collections::{BTreeMap, BTreeSet};

use khard_profile::Bytes;
use khard_profile::recording::*;
use khard_profile::seccomp::{Floor, FloorChoice, FloorData, FloorEntry, FloorKey, Start};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

pub(crate) const BOOT: &str = "8c5f2e0a-11bb-4cde-9f00-0123456789ab";

/// One of four run ids: few, so that generated recordings share some.
pub(crate) fn run_id(nth: u64) -> RunId {
    RunId::new(BOOT, 4000 + nth, 1_000_000_000 * nth).unwrap()
}

pub(crate) fn subject() -> Subject {
    let labels = BTreeMap::from([("pod-template-hash".to_owned(), "7d4b9c".to_owned())]);
    Subject::of_container("shop", "web-7d4b9c-x2x4z", &labels, "nginx")
}

/// A complete run on x86-64 under runc.
pub(crate) fn run(nth: u64) -> Run {
    Run {
        id: run_id(nth),
        started_unix_ms: 1_764_000_000_000 + 60_000 * nth,
        duration_ms: 42_000,
        ended: Ended::SubjectEnded,
        cgroup_path: Bytes::from("/kubepods/besteffort/pod8d/0a1b"),
        init_pid: Some(4242),
        joiners: 1,
        container: Some(ContainerRun {
            container_id: "0a1b".repeat(16),
            name: String::new(),
            sandbox_id: "2c3d".repeat(16),
            pod: "web-7d4b9c-x2x4z".to_owned(),
            attempt: u32::try_from(nth).unwrap(),
            image: "docker.io/library/nginx:1.27".to_owned(),
            image_id: "sha256:aa".to_owned(),
        }),
        runtime: Some(Runtime {
            name: "runc".to_owned(),
            version: Some("1.1.5+ds1".to_owned()),
            handler: String::new(),
            manager: Some("containerd 1.6.20".to_owned()),
        }),
        host: Host {
            kernel: "6.12.117".to_owned(),
            machine: "x86_64".to_owned(),
            abis: BTreeSet::from([Abi::X86_64, Abi::Ia32]),
        },
        confinement: Confinement {
            no_new_privs: Some(true),
            privileged: Some(false),
            seccomp: SeccompInForce::None,
            apparmor: AppArmorInForce::Unconfined,
        },
        coverage: RunCoverage {
            syscalls: Coverage::Exact(Observed {
                from: From::FirstInstruction,
                by: Attachment::Tracepoint,
                lost: BTreeMap::new(),
                proof: Proof::from_misses(BTreeMap::from([("sys_enter_raw".to_owned(), 0)])),
            }),
            accesses: AccessCoverage::none("this test records system calls only"),
            refused_syscalls: Coverage::none("no seccomp filter was in force"),
        },
        notes: Vec::new(),
        marks: Vec::new(),
    }
}

fn any_coverage() -> impl Strategy<Value = Coverage> {
    let proof = prop_oneof![
        btree_map("[a-c]", 0_u64..3, 0..3).prop_map(Proof::from_misses),
        Just(Proof::Unproved { reason: "khard died".to_owned() }),
    ];
    let from = prop_oneof![Just(From::FirstInstruction), Just(From::Late)];
    let observed = (from, btree_map("[a-c]", 0_u64..3, 0..3), proof);
    let observed =
        observed.prop_map(|(from, lost, proof)| Observed { from, by: Attachment::Tracepoint, lost, proof });
    prop_oneof![
        Just(Coverage::None(NotObserved { reason: "no BTF".to_owned() })),
        observed.clone().prop_map(Coverage::Exact),
        observed.prop_map(Coverage::Inferred),
    ]
}

fn any_run(nth: u64) -> impl Strategy<Value = Run> {
    let ended = prop_oneof![Just(Ended::Checkpoint), Just(Ended::SubjectEnded), Just(Ended::Interrupted)];
    let path = vec(any::<u8>(), 0..6);
    (0_u64..4, ended, 0_u64..3, path, any_coverage(), vec(".{0,5}", 0..2)).prop_map(
        move |(duration_ms, ended, joiners, path, syscalls, notes)| Run {
            duration_ms,
            ended,
            joiners,
            cgroup_path: path.into(),
            coverage: RunCoverage {
                syscalls,
                accesses: AccessCoverage::none("test"),
                refused_syscalls: Coverage::none("no seccomp filter was in force"),
            },
            notes,
            ..run(nth)
        },
    )
}

fn any_witness() -> impl Strategy<Value = (u64, u32, Vec<u8>)> {
    (0_u64..3, 0_u32..3, vec(any::<u8>(), 0..3))
}

pub(crate) fn any_abi() -> impl Strategy<Value = Abi> {
    proptest::sample::select(Abi::ALL.to_vec())
}

/// Few values of each kind, so that generated recordings share some.
fn any_access() -> impl Strategy<Value = AccessKey> {
    let name = || vec(any::<u8>(), 0..2).prop_map(Bytes::from);
    let peer = prop_oneof![
        Just(Peer::Inside),
        proptest::option::of(name()).prop_map(|label| Peer::Outside { label }),
    ];
    let facts = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(owner, exclusive, deleted, disconnected)| FileFacts { owner, exclusive, deleted, disconnected },
    );
    let file = (name(), proptest::sample::select(FileOp::ALL), 0_u16..256, facts).prop_map(
        |(path, op, perms, facts)| {
            Access::File(FileAccess { path, op, perms: FilePerms::from_bits(perms).unwrap(), facts })
        },
    );
    let what = prop_oneof![
        4 => file,
        1 => (name(), name()).prop_map(|(link, target)| Access::Link { link, target }),
        1 => (0_u8..3, any::<bool>())
            .prop_map(|(capability, optional)| Access::Capability { capability, optional }),
        1 => (0_u16..3, 1_u16..3).prop_map(|(family, kind)| Access::Network { family, kind }),
        1 => (0_u8..3, peer.clone()).prop_map(|(signal, peer)| Access::Signal { signal, peer }),
        1 => (proptest::sample::select(PtraceMode::ALL), peer)
            .prop_map(|(mode, peer)| Access::Ptrace { mode, peer }),
        1 => (name(), name(), name(), any::<u64>()).prop_map(|(fstype, source, target, flags)| {
            Access::Mount { fstype, source, target, flags }
        }),
        1 => (name(), 0_u64..3).prop_map(|(target, flags)| Access::Umount { target, flags }),
        1 => (name(), name()).prop_map(|(new_root, put_old)| Access::PivotRoot { new_root, put_old }),
        1 => Just(Access::UserNamespace),
        1 => proptest::sample::select(IoUringOp::ALL).prop_map(|op| Access::IoUring { op }),
    ];
    let outcome = prop_oneof![Just(Outcome::Granted), Just(Outcome::Refused)];
    let certainty = prop_oneof![Just(Certainty::Exact), Just(Certainty::Inferred)];
    (what, outcome, certainty).prop_map(|(what, outcome, certainty)| AccessKey { what, outcome, certainty })
}

/// A recording of [`subject`] with up to four runs out of the same four ids.
pub(crate) fn any_recording() -> impl Strategy<Value = Recording> {
    let runs = (0_u64..4).map(|nth| proptest::option::of(any_run(nth))).collect::<Vec<_>>();
    let phase = || proptest::sample::select(Phase::ALL.to_vec());
    let call = (0_u64..4, any_abi(), 0_u32..4, phase(), proptest::option::of(any_witness()));
    let access = (0_u64..4, any_access(), phase(), proptest::option::of(any_witness()));
    let refused = (0_u64..4, any_abi(), 0_u32..4, 0_u16..3, phase(), proptest::option::of(any_witness()));
    (runs, vec(call, 0..24), vec(access, 0..24), vec(refused, 0..8)).prop_map(
        |(runs, calls, accesses, refused)| {
            let mut recording = Recording::new(subject());
            for run in runs.into_iter().flatten() {
                recording.add_run(run);
            }
            let named = |run, (time_ns, tid, name): (u64, u32, Vec<u8>)| Witness {
                time_ns,
                run,
                tgid: tid,
                tid,
                comm: name.clone().into(),
                exe: name.into(),
            };
            for (nth, abi, nr, phase, witness) in calls {
                let run = run_id(nth);
                let witness = witness.map(|witness| named(run, witness));
                let known = recording.runs().contains_key(&run);
                let observed = recording.observe_syscall(run, SyscallKey { abi, nr }, phase, witness);
                assert_eq!(observed.is_ok(), known);
            }
            for (nth, access, phase, witness) in accesses {
                let run = run_id(nth);
                let witness = witness.map(|witness| named(run, witness));
                let known = recording.runs().contains_key(&run);
                assert_eq!(recording.observe_access(run, access, phase, witness).is_ok(), known);
            }
            for (nth, abi, nr, errno, phase, witness) in refused {
                let run = run_id(nth);
                let witness = witness.map(|witness| named(run, witness));
                let known = recording.runs().contains_key(&run);
                let call = RefusedCall { key: SyscallKey { abi, nr }, errno };
                assert_eq!(recording.observe_refused_call(run, call, phase, witness).is_ok(), known);
            }
            recording
        },
    )
}

/// A witness of the realistic pod.
fn witness(nth: u64, time_ns: u64, comm: &str, exe: &str) -> Witness {
    let tid = 4242 + u32::try_from(nth).unwrap();
    Witness { time_ns, run: run_id(nth), tgid: 4242, tid, comm: comm.into(), exe: exe.into() }
}

/// Records that a run made calls, named as in x86-64, in one phase.
pub(crate) fn observe(recording: &mut Recording, nth: u64, phase: Phase, names: &[&str]) {
    for (place, name) in names.iter().enumerate() {
        let nr = khard_profile::syscalls::by_name(name).unwrap().number(Abi::X86_64).unwrap();
        let (comm, exe) = match phase {
            Phase::Workload => ("nginx", "nginx"),
            Phase::Joiner => ("sh", "dash"),
            _ => ("runc:[2:INIT]", "runc"),
        };
        let witness = witness(nth, 1_000_000 * (place as u64 + 1), comm, exe);
        let key = SyscallKey { abi: Abi::X86_64, nr };
        recording.observe_syscall(run_id(nth), key, phase, Some(witness)).unwrap();
    }
}

/// What nginx calls in a container, more or less.
pub(crate) const NGINX: [&str; 56] = [
    "accept4",
    "access",
    "arch_prctl",
    "bind",
    "brk",
    "clone",
    "close",
    "connect",
    "dup2",
    "epoll_create",
    "epoll_ctl",
    "epoll_wait",
    "eventfd2",
    "execve",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "getdents64",
    "getpid",
    "getppid",
    "getrandom",
    "getuid",
    "io_setup",
    "ioctl",
    "listen",
    "lseek",
    "mkdir",
    "mmap",
    "mprotect",
    "munmap",
    "newfstatat",
    "openat",
    "prctl",
    "pread64",
    "prlimit64",
    "pwrite64",
    "read",
    "recvfrom",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigsuspend",
    "sendfile",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setsockopt",
    "setuid",
    "socket",
    "socketpair",
    "umask",
    "uname",
    "write",
    "writev",
];

/// A pod of nginx that was restarted once, with a shell that was exec'd into it: two runs on x86-64 under runc.
pub(crate) fn nginx_pod() -> Recording {
    let mut recording = Recording::new(subject());
    recording.add_run(run(0));
    recording.add_run(run(1));
    observe(&mut recording, 0, Phase::Runtime, &["clone", "mount", "pivot_root", "unshare", "setns"]);
    observe(&mut recording, 0, Phase::Workload, &NGINX);
    observe(&mut recording, 1, Phase::Workload, &NGINX[..50]);
    observe(
        &mut recording,
        1,
        Phase::Joiner,
        &["brk", "close", "execve", "exit_group", "read", "wait4", "getcwd", "clone3"],
    );
    recording
}

/// A floor for tests. The names are not measured.
pub(crate) fn floor_of(recording: &Recording, names: &[&str]) -> Floor {
    let mut data = FloorData::default();
    for (no_new_privs, kind) in
        [(true, Start::Start), (true, Start::Exec), (false, Start::Start), (false, Start::Exec)]
    {
        let key = FloorKey { runtime: "runc".to_owned(), version: "1.1.5".to_owned(), no_new_privs, kind };
        let calls = names.iter().map(|name| ((*name).to_owned(), 7)).collect();
        data.add(FloorEntry { key, n_containers: 7, calls });
    }
    Floor::choose(&FloorChoice::Auto, recording, true, &data).unwrap()
}

/// A text that does not change with khard's version.
pub(crate) fn without_version(text: &str) -> String {
    text.replace(concat!("khard ", env!("CARGO_PKG_VERSION")), "khard VERSION")
}
