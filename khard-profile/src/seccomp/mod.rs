//! Owns the choice of seccomp rules: a recording and a policy in, an OCI profile with a reason for every call out.

mod floor;
mod name;
mod oci;
mod runtime_default;

use std::collections::{BTreeMap, BTreeSet};

pub use floor::{
    Floor, FloorChoice, FloorData, FloorDataError, FloorEntry, FloorError, FloorKey, FloorSource,
    MeasureError, Start, UnknownFloor,
};
pub use name::{profile_name, profile_stem};
pub use oci::{Action, Arch, LinuxSeccomp, Rule};
pub use runtime_default::{
    DEFAULT_CAPS, RUNTIME_DEFAULT_PROFILE, RUNTIME_DEFAULT_VERSION, RuntimeDefault, runtime_default,
};

use crate::recording::{Abi, Phase, PhaseSet, Recording, SyscallKey};
use crate::syscalls::{self, Syscall};

/// EPERM of every architecture here (include/uapi/asm-generic/errno-base.h).
const EPERM: u32 = 1;
/// ENOSYS of every architecture here (include/uapi/asm-generic/errno.h).
const ENOSYS: u32 = 38;

/// Calls that a profile must allow whatever was seen.
///
/// - `exit` and `exit_group`: without them a refused program spins instead of ending.
/// - `rt_sigreturn` and `sigreturn`: made by the return from any signal handler; 32-bit x86 uses the second for handlers
///   without `SA_SIGINFO` (`arch/x86/kernel/signal_32.c`).
/// - `restart_syscall`: made by the kernel on its own after a stop (`restart_syscall(2)`).
/// - The rest is what the vDSO answers without a call, but only where the clock source, the kernel's version and the
///   hypervisor allow it, so a recording cannot show it (vdso(7)); `clock_gettime64` is the 32-bit x86 one.
pub const ALWAYS: [&str; 11] = [
    "clock_getres",
    "clock_gettime",
    "clock_gettime64",
    "exit",
    "exit_group",
    "getcpu",
    "gettimeofday",
    "restart_syscall",
    "rt_sigreturn",
    "sigreturn",
    "time",
];

/// The choices of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose calls are allowed.
    pub phases: PhaseSet,
    /// What the runtime still calls once the filter is in force.
    pub floor: Floor,
}

impl Policy {
    /// The container's own program and what joined it.
    pub const DEFAULT_PHASES: PhaseSet = PhaseSet::EMPTY.with(Phase::Workload).with(Phase::Joiner);
}

/// Why no profile was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// Nothing was seen, so a profile would refuse everything.
    #[error(
        "cannot make a seccomp profile: the recording has no system call in the phases {0}: choose other phases, or record again"
    )]
    NothingSeen(PhaseSet),
    /// The native ABI of the machine is not known.
    #[error(
        "cannot make a seccomp profile for the machine {0:?}: khard knows the system calls of x86_64, i686 and aarch64"
    )]
    UnknownMachine(String),
}

/// A profile and why it is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The profile.
    pub profile: LinuxSeccomp,
    /// The phases that were asked for.
    pub phases: PhaseSet,
    /// The floor that was asked for.
    pub floor: Floor,
    /// Every allowed call by name, with its reasons.
    pub allowed: BTreeMap<String, Why>,
    /// The ABIs from which calls are let in, native ones first.
    pub abis: Vec<Abi>,
    /// Calls that were seen and cannot be allowed, since a number without a name cannot be written. Not empty: the profile
    /// is incomplete.
    pub unwritable: BTreeSet<SyscallKey>,
    /// Calls in an ABI that no kernel of the recording implements: they returned ENOSYS and allow nothing.
    pub unimplemented: BTreeSet<SyscallKey>,
}

/// Why a call is allowed. At least one reason holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// In which of the chosen phases it was seen.
    pub phases: PhaseSet,
    /// In which ABIs and with which numbers it was seen there.
    pub seen: BTreeSet<SyscallKey>,
    /// The runtime calls it once the filter is in force.
    pub floor: bool,
    /// It is one of [`ALWAYS`].
    pub always: bool,
}

/// Makes the profile of a recording.
///
/// Calls that were not seen are refused: with EPERM where every listed ABI has had the call since before Linux 3.2, else,
/// by the default action, with ENOSYS, so that a libc which tries a newer call falls back to an older one.
pub fn generate(recording: &Recording, policy: Policy) -> Result<Generated, GenerateError> {
    let Policy { phases, floor } = policy;
    let mut abis = BTreeSet::new();
    for run in recording.runs().values() {
        let native = Abi::native_of(&run.host.machine);
        abis.insert(native.ok_or_else(|| GenerateError::UnknownMachine(run.host.machine.clone()))?);
    }
    let n_native = abis.len();
    let mut abis: Vec<Abi> = abis.into_iter().collect();
    let mut allowed: BTreeMap<String, Why> = BTreeMap::new();
    let (mut unwritable, mut unimplemented) = (BTreeSet::new(), BTreeSet::new());
    for (&key, seen) in recording.syscalls() {
        let seen_in = seen.phases().and(phases);
        if seen_in.is_empty() {
            continue;
        }
        let sightings = seen_in.iter().filter_map(|phase| seen.in_phase(phase));
        let mut runs = sightings.flat_map(|sighting| recording.runs_of(sighting));
        if !runs.any(|run| run.host.implements(key.abi)) {
            unimplemented.insert(key);
            continue;
        }
        if !abis.contains(&key.abi) {
            abis.push(key.abi);
        }
        if let Some(call) = syscalls::by_number(key.abi, key.nr) {
            let why = allowed.entry(call.name.to_owned()).or_default();
            why.phases = why.phases.or(seen_in);
            why.seen.insert(key);
        } else {
            unwritable.insert(key);
        }
    }
    if allowed.is_empty() {
        return Err(GenerateError::NothingSeen(phases));
    }
    abis[n_native..].sort_unstable();

    let listed = |name: &str| syscalls::by_name(name).is_some_and(|call| exists_in(call, &abis));
    for name in floor.names().filter(|name| listed(name)) {
        allowed.entry(name.to_owned()).or_default().floor = true;
    }
    for name in ALWAYS.into_iter().filter(|name| listed(name)) {
        allowed.entry(name.to_owned()).or_default().always = true;
    }
    let profile = profile(&allowed, &abis);
    Ok(Generated { profile, phases, floor, allowed, abis, unwritable, unimplemented })
}

fn exists_in(call: &Syscall, abis: &[Abi]) -> bool {
    abis.iter().any(|&abi| call.number(abi).is_some())
}

/// A name applies to every listed architecture, so it is old only if each of them that has the call has had it for long.
fn is_old_in(call: &Syscall, abis: &[Abi]) -> bool {
    let mut having = abis.iter().filter(|&&abi| call.number(abi).is_some()).peekable();
    having.peek().is_some() && having.all(|&abi| call.is_old(abi))
}

/// No rule repeats the default action: libseccomp refuses that with EACCES (src/db.c). Two entries, whatever was seen: a
/// profile can have 128 when it is delivered as an artifact (KEP-6061).
fn profile(allowed: &BTreeMap<String, Why>, abis: &[Abi]) -> LinuxSeccomp {
    let refused: BTreeSet<&str> = abis
        .iter()
        .flat_map(|&abi| syscalls::of_abi(abi))
        .filter(|call| is_old_in(call, abis) && !allowed.contains_key(call.name))
        .map(|call| call.name)
        .collect();
    let mut rules =
        vec![Rule { names: allowed.keys().cloned().collect(), action: Action::Allow, errno_ret: None }];
    if !refused.is_empty() {
        let names = refused.into_iter().map(str::to_owned).collect();
        rules.push(Rule { names, action: Action::Errno, errno_ret: Some(EPERM) });
    }
    LinuxSeccomp {
        default_action: Action::Errno,
        default_errno_ret: ENOSYS,
        architectures: abis.iter().map(|&abi| abi.into()).collect(),
        syscalls: rules,
    }
}
