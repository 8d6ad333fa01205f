//! Which programs a kernel needs so that nothing is lost. A pure choice, tested without a kernel.

use super::programs::{AttachPoint, PROGRAMS, Program, Role};

/// A kernel version as in `uname -r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl KernelVersion {
    /// The first two numbers of a release such as `6.12.94+deb12-cloud-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }

    /// The running kernel's.
    pub fn running() -> Option<Self> {
        Self::parse(&rustix::system::uname().release().to_string_lossy())
    }
}

/// The first kernel where a task can lose the CPU inside a raw tracepoint or fexit program, so that other tasks' calls
/// on that CPU pass unseen. Measured: none lost on 6.1, 6.12 and 6.18, also with `preempt=full`; most calls of
/// a storm lost on 7.2 and 7.3. What lies between was not to be had, and is taken for the worse.
pub(super) const PROGRAMS_PREEMPTED_SINCE: KernelVersion = KernelVersion { major: 6, minor: 19 };

/// Perf tracepoints are second copies, for kernels that preempt the first.
fn is_needed(program: &Program, kernel: KernelVersion) -> bool {
    !matches!(program.at, AttachPoint::Perf(..)) || kernel >= PROGRAMS_PREEMPTED_SINCE
}

/// The programs to attach.
#[derive(Clone, Debug)]
pub struct AttachPlan {
    /// In order: the births and phases come before the calls.
    pub programs: Vec<&'static Program>,
    /// The kernel that it is for.
    pub kernel: KernelVersion,
}

impl AttachPlan {
    /// What `kernel` needs.
    pub fn for_kernel(kernel: KernelVersion) -> Self {
        let wanted = |program: &&Program| match program.role {
            Role::Births | Role::Phases => true,
            Role::Syscalls => is_needed(program, kernel),
            Role::Floor | Role::Accesses | Role::Outcomes | Role::Refusals => false,
        };
        let mut programs: Vec<_> = PROGRAMS.iter().filter(wanted).collect();
        programs.sort_by_key(|program| program.role == Role::Syscalls);
        Self { programs, kernel }
    }

    /// What sees calls that a filter refuses, the one that notes what passed first. One copy only: each end of a call takes the
    /// note away. Ways of doing it, the best first: where the kernel preempts raw tracepoint programs it may skip them, and perf
    /// tracepoints are not for everybody. They are attached when khard has given up what it does not need, and Debian's kernels want
    /// more than `CAP_PERFMON` of who opens a perf event where `kernel.perf_event_paranoid` is 3, as it is by default (`EACCES`,
    /// seen on its 7.3).
    pub(super) fn refusals(&self) -> Vec<[&'static Program; 2]> {
        let pair = |by_perf: bool| {
            let is_ours = |program: &&Program| {
                program.role == Role::Refusals && matches!(program.at, AttachPoint::Perf(..)) == by_perf
            };
            let mut programs = PROGRAMS.iter().filter(is_ours);
            Some([programs.next()?, programs.next()?])
        };
        [self.skips_programs().then_some(true), Some(false)].into_iter().flatten().filter_map(pair).collect()
    }

    /// Whether the kernel may skip raw tracepoint programs.
    pub(super) fn skips_programs(&self) -> bool {
        self.kernel >= PROGRAMS_PREEMPTED_SINCE
    }

    /// Also what tells attempts that failed from what was done.
    #[must_use]
    pub fn with_outcomes(mut self) -> Self {
        let wanted = |program: &&Program| program.role == Role::Outcomes && is_needed(program, self.kernel);
        self.programs.extend(PROGRAMS.iter().filter(wanted));
        self
    }

    /// Whether attempts that failed are told from what was done.
    pub fn has_outcomes(&self) -> bool {
        self.programs.iter().any(|program| program.role == Role::Outcomes)
    }

    /// Only the named programs, in this order: for the benchmark and for tests of what is lost without one.
    /// Names that do not exist are left out.
    pub fn only(names: &[&str]) -> Self {
        let find = |name: &&str| PROGRAMS.iter().find(|program| program.name == *name);
        let kernel = KernelVersion::running().unwrap_or(PROGRAMS_PREEMPTED_SINCE);
        Self { programs: names.iter().filter_map(find).collect(), kernel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls_seen_by(release: &str) -> Vec<&'static str> {
        let plan = AttachPlan::for_kernel(KernelVersion::parse(release).unwrap());
        plan.programs.iter().filter(|p| p.role == Role::Syscalls).map(|p| p.name).collect()
    }

    #[test]
    fn one_raw_tracepoint_is_enough_where_it_is_not_preempted() {
        assert_eq!(calls_seen_by("6.1.0-53-cloud-amd64"), ["sys_enter"]);
        assert_eq!(calls_seen_by("6.18.44"), ["sys_enter"]);
    }

    #[test]
    fn kernels_that_preempt_raw_tracepoints_get_the_perf_tracepoint_too() {
        assert_eq!(calls_seen_by("6.19.1"), ["sys_enter", "sys_enter_perf"]);
        assert_eq!(calls_seen_by("7.3.4+deb13-cloud-amd64"), ["sys_enter", "sys_enter_perf"]);
    }

    #[test]
    fn outcomes_are_told_by_as_many_programs_as_calls() {
        for (release, expected) in
            [("6.18.44", vec!["call_end"]), ("7.3.4", vec!["call_end", "call_end_perf"])]
        {
            let plan = AttachPlan::for_kernel(KernelVersion::parse(release).unwrap()).with_outcomes();
            let names: Vec<_> =
                plan.programs.iter().filter(|p| p.role == Role::Outcomes).map(|p| p.name).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn refusals_are_told_by_one_pair_of_programs() {
        let (raw, perf) = (["passed", "refused"], ["passed_perf", "refused_perf"]);
        for (release, expected) in [("6.1.0", vec![raw]), ("7.3.4", vec![perf, raw])] {
            let plan = AttachPlan::for_kernel(KernelVersion::parse(release).unwrap());
            let names = plan.refusals().into_iter().map(|pair| pair.map(|program| program.name));
            assert_eq!(names.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn calls_are_attached_last_so_that_no_call_meets_an_unprepared_slot() {
        let plan = AttachPlan::for_kernel(KernelVersion { major: 7, minor: 3 });
        let first_call = plan.programs.iter().position(|p| p.role == Role::Syscalls).unwrap();
        assert!(plan.programs[first_call..].iter().all(|p| p.role == Role::Syscalls));
        assert!(plan.programs.iter().all(|p| p.role != Role::Floor));
    }

    #[test]
    fn odd_releases_are_no_version() {
        assert_eq!(KernelVersion::parse("hello"), None);
        assert_eq!(KernelVersion::parse("6"), None);
    }
}
