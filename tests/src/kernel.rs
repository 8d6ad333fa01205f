//! What tests must know of the running kernel.

use khard_profile::recording::{Coverage, From, Proof};
use khard_user::bpf::{AttachPlan, KernelVersion, Role};

/// Whether this kernel skips programs that see system calls, so that khard attaches more than one: then each may miss
/// calls, and the one that missed least says how many at most are lost. khard's own use of maps, as cgroups come and go,
/// lets the one miss some that else misses none.
///
/// # Panics
/// When the kernel's version cannot be read.
pub fn preempts_programs() -> bool {
    let plan = AttachPlan::for_kernel(KernelVersion::running().expect("a kernel's version"));
    plan.programs.iter().filter(|program| program.role == Role::Syscalls).count() > 1
}

/// What khard is told so that a bound on what was lost is enough, where no more can be had.
pub fn accepting_bounds() -> &'static [&'static str] {
    if preempts_programs() { &["--accept-lossy", "syscalls"] } else { &[] }
}

/// The calls that a filter refuses were seen from the first instruction on, and all of them as far as this kernel lets it be proved:
/// the programs have no second copies, so that one that skips them leaves a bound.
///
/// # Panics
/// When that is not so.
pub fn assert_sees_all_refused(coverage: &Coverage) {
    let is_bounded = coverage.observed().is_some_and(|observed| {
        observed.from == From::FirstInstruction && matches!(observed.proof, Proof::AtMost { .. })
    });
    assert!(coverage.is_complete() || preempts_programs() && is_bounded, "{coverage:?}");
}
