//! Facts about generated seccomp profiles.

use std::collections::BTreeSet;

use khard_profile::recording::*;
use khard_profile::seccomp::*;
use khard_profile::syscalls;
use proptest::prelude::*;

use crate::bpf::{Answer, answer, compile};
use crate::support::{floor_of, nginx_pod, observe, run, run_id, subject};

const RUNC_FLOOR: [&str; 7] = ["capset", "close_range", "execve", "fstatfs", "openat2", "prctl", "statx"];

fn policy(floor: Floor) -> Policy {
    Policy { phases: Policy::DEFAULT_PHASES, floor }
}

fn generated(recording: &Recording) -> Generated {
    generate(recording, policy(Floor::none())).unwrap()
}

fn key(abi: Abi, name: &str) -> SyscallKey {
    SyscallKey { abi, nr: syscalls::by_name(name).unwrap().number(abi).unwrap() }
}

/// A recording of any calls of both native ABIs' tables, in any phases; the runs are of one machine.
fn any_native_recording() -> impl Strategy<Value = (Abi, Recording)> {
    let abi = prop_oneof![Just((Abi::X86_64, "x86_64")), Just((Abi::Aarch64, "aarch64"))];
    let calls = proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..6), 1..80);
    (abi, calls).prop_map(|((abi, machine), calls)| {
        let mut recording = Recording::new(subject());
        let host = Host { machine: machine.to_owned(), abis: BTreeSet::from([abi]), ..run(0).host };
        recording.add_run(Run { host, ..run(0) });
        let table: Vec<_> = syscalls::of_abi(abi).collect();
        for (call, phase) in calls {
            let key = SyscallKey { abi, nr: call.get(&table).number(abi).unwrap() };
            recording.observe_syscall(run_id(0), key, Phase::from_bit(phase).unwrap(), None).unwrap();
        }
        (abi, recording)
    })
}

proptest! {
    #[test]
    fn seen_calls_pass_unseen_old_ones_get_eperm_and_unseen_new_ones_enosys((abi, recording) in any_native_recording()) {
        let Ok(generated) = generate(&recording, policy(Floor::none())) else {
            let seen = recording.syscalls().values().map(Seen::phases).flat_map(|phases| phases.iter().collect::<Vec<_>>());
            prop_assert!(seen.into_iter().all(|phase| !Policy::DEFAULT_PHASES.contains(phase)));
            return Ok(());
        };
        let filters = compile(&generated.profile.to_json().unwrap(), abi);
        for nr in 0..700 {
            let seen = recording.syscalls().get(&SyscallKey { abi, nr });
            let seen = seen.is_some_and(|seen| seen.phases().iter().any(|phase| Policy::DEFAULT_PHASES.contains(phase)));
            let call = syscalls::by_number(abi, nr);
            let expected = match call {
                _ if seen => Answer::Allow,
                Some(call) if ALWAYS.contains(&call.name) => Answer::Allow,
                Some(call) if call.is_old(abi) => Answer::Errno(1),
                _ => Answer::Errno(38),
            };
            prop_assert_eq!(answer(&filters, abi, nr), expected, "{} {:?}", nr, call.map(|call| call.name));
        }
    }

    #[test]
    fn the_same_recording_gives_the_same_bytes((_, recording) in any_native_recording()) {
        let bytes = |recording: &Recording| {
            generate(recording, policy(Floor::none())).ok().map(|generated| generated.profile.to_json().unwrap())
        };
        let read_back = Recording::from_json(&recording.to_json().unwrap()).unwrap();
        prop_assert_eq!(bytes(&recording), bytes(&read_back));
    }
}

#[test]
fn the_profile_of_a_realistic_pod() {
    let recording = nginx_pod();
    let generated = generate(&recording, policy(floor_of(&recording, &RUNC_FLOOR))).unwrap();
    insta::assert_snapshot!(String::from_utf8(generated.profile.to_json().unwrap()).unwrap());
}

#[test]
fn every_allowed_call_has_its_reason() {
    let recording = nginx_pod();
    let generated = generate(&recording, policy(floor_of(&recording, &RUNC_FLOOR))).unwrap();
    for (name, why) in &generated.allowed {
        assert!(!why.phases.is_empty() || why.floor || why.always, "{name}");
        assert_eq!(why.phases.is_empty(), why.seen.is_empty(), "{name}");
    }
    let why = |name: &str| &generated.allowed[name];
    assert!(why("execve").floor && why("execve").phases == Policy::DEFAULT_PHASES);
    assert!(why("statx").floor && why("statx").phases.is_empty());
    assert!(why("restart_syscall").always && !why("restart_syscall").floor);
    assert!(
        !generated.allowed.contains_key("mount"),
        "the runtime's calls before the filter are not allowed"
    );
}

#[test]
fn phases_choose_whose_calls_are_allowed() {
    let workload = Policy { phases: PhaseSet::EMPTY.with(Phase::Workload), floor: Floor::none() };
    let generated = generate(&nginx_pod(), workload).unwrap();
    assert!(generated.allowed.contains_key("accept4") && !generated.allowed.contains_key("wait4"));
    let nothing = Policy { phases: PhaseSet::EMPTY.with(Phase::JoiningFiltered), floor: Floor::none() };
    let error = generate(&nginx_pod(), nothing).unwrap_err();
    assert!(matches!(error, GenerateError::NothingSeen(_)), "{error}");
}

fn pod_with(abis: &[Abi], key: SyscallKey) -> Recording {
    let mut recording = nginx_pod();
    let host = Host { abis: abis.iter().copied().collect(), ..run(2).host };
    recording.add_run(Run { host, ..run(2) });
    recording.observe_syscall(run_id(2), key, Phase::Workload, None).unwrap();
    recording
}

#[test]
fn a_compat_call_adds_its_architecture_and_takes_new_names_out_of_eperm() {
    assert_eq!(generated(&nginx_pod()).profile.architectures, [Arch::X86_64]);
    let both = generated(&pod_with(&[Abi::X86_64, Abi::Ia32], key(Abi::Ia32, "waitpid")));
    assert_eq!(both.profile.architectures, [Arch::X86_64, Arch::X86]);
    let refused =
        |generated: &Generated, name: &str| generated.profile.syscalls[1].names.iter().any(|n| n == name);
    assert!(both.allowed.contains_key("waitpid") && both.allowed.contains_key("sigreturn"));
    assert!(refused(&both, "stime") && refused(&both, "mount"));
    // 32-bit x86 has `getsockname` since 4.3, and its libc falls back to `socketcall` on ENOSYS only.
    assert!(refused(&generated(&nginx_pod()), "getsockname") && !refused(&both, "getsockname"));
}

#[test]
fn a_call_in_an_abi_that_the_kernel_lacks_allows_nothing() {
    let call = key(Abi::X32, "rt_sigaction");
    let without = generated(&pod_with(&[Abi::X86_64, Abi::Ia32], call));
    assert_eq!(without.profile, generated(&nginx_pod()).profile);
    assert_eq!(without.unimplemented, BTreeSet::from([call]));
    let with = generated(&pod_with(&[Abi::X86_64, Abi::X32], call));
    assert_eq!(with.profile.architectures, [Arch::X86_64, Arch::X32]);
}

#[test]
fn a_number_without_a_name_is_reported_as_unwritable() {
    let call = SyscallKey { abi: Abi::X86_64, nr: 9999 };
    let generated = generated(&pod_with(&[Abi::X86_64], call));
    assert_eq!(generated.unwritable, BTreeSet::from([call]));
}

#[test]
fn an_unknown_machine_is_refused() {
    let mut recording = nginx_pod();
    recording.add_run(Run { host: Host { machine: "mips".to_owned(), ..run(2).host }, ..run(2) });
    let error = generate(&recording, policy(Floor::none())).unwrap_err();
    assert_eq!(error, GenerateError::UnknownMachine("mips".to_owned()));
}

#[test]
fn a_recording_under_a_logging_filter_gives_the_floor() {
    let mut recording = nginx_pod();
    let unfiltered = FloorEntry::measure(&recording).unwrap_err();
    assert!(matches!(unfiltered, MeasureError::Unfiltered(_)));
    observe(&mut recording, 0, Phase::RuntimeFiltered, &["close", "execve", "futex"]);
    observe(&mut recording, 1, Phase::RuntimeFiltered, &["close", "execve"]);
    observe(&mut recording, 1, Phase::JoiningFiltered, &["setns", "execve"]);
    let entries = FloorEntry::measure(&recording).unwrap();
    let start = &entries[0];
    assert_eq!((start.key.kind, start.n_containers, start.key.no_new_privs), (Start::Start, 2, true));
    assert_eq!((start.calls["close"], start.calls["futex"]), (2, 1));
    assert_eq!((entries[1].key.kind, entries[1].n_containers, entries[1].calls.len()), (Start::Exec, 1, 2));

    let mut unproved = run(0);
    unproved.coverage.syscalls = Coverage::None(NotObserved { reason: "test".to_owned() });
    recording.add_run(unproved);
    assert_eq!(FloorEntry::measure(&recording), Err(MeasureError::Incomplete(run_id(0))));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn an_installed_profile_answers_with_the_promised_errnos() {
    // What a thread of the test itself needs to install the filter and to end.
    const THREAD: [&str; 8] =
        ["futex", "madvise", "membarrier", "munmap", "prctl", "rt_sigprocmask", "seccomp", "sigaltstack"];
    let mut recording = nginx_pod();
    observe(&mut recording, 0, Phase::Workload, &THREAD);
    let filters = compile(&generated(&recording).profile.to_json().unwrap(), Abi::X86_64);

    // Calls that do nothing with these arguments, whoever makes them: (name, first argument, answer under the filter).
    let calls = [
        ("getppid", 0, None),
        ("unshare", 0, Some(libc::EPERM)),
        ("sched_yield", 0, Some(libc::EPERM)),
        ("getpriority", 0, Some(libc::EPERM)),
        ("keyctl", -1, Some(libc::EPERM)),
        ("memfd_create", 0, Some(libc::ENOSYS)),
        ("statx", -1, Some(libc::ENOSYS)),
        ("openat2", -1, Some(libc::ENOSYS)),
    ];
    let numbers = calls.map(|(name, first, _)| (key(Abi::X86_64, name).nr, first));
    let errno = |(nr, first): (u32, i64)| {
        // SAFETY: with null pointers and invalid descriptors none of these calls reads or writes memory.
        let answer = unsafe { libc::syscall(i64::from(nr), first, 0, 0, 0, 0, 0) };
        (answer == -1).then(|| std::io::Error::last_os_error().raw_os_error().unwrap())
    };
    let thread = std::thread::spawn(move || {
        let before = numbers.map(errno);
        for filter in &filters {
            seccompiler::apply_filter(filter).unwrap();
        }
        (before, numbers.map(errno))
    });
    let (before, under) = thread.join().unwrap();
    for ((name, _, expected), (before, under)) in calls.into_iter().zip(before.into_iter().zip(under)) {
        assert!(
            before != Some(libc::EPERM) && before != Some(libc::ENOSYS),
            "{name} cannot be tested here: {before:?}"
        );
        assert_eq!(under, expected, "{name}");
    }
}
