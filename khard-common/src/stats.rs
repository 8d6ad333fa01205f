//! Node-wide counters of the programs, by index. Each is a way to miss something, and 0 in a good run, but for the last.

/// Births under a watched cgroup for which no slot was free.
pub const BIRTHS_WITHOUT_SLOT: usize = 0;
/// Births whose record found no room in the ring: the slot is taken, user space looks for it.
pub const BIRTHS_UNSENT: usize = 1;
/// Processes outside the workload that [`crate::limits::PROCESSES`] had no room for: their calls count as the
/// workload's, so that profiles may be wider than needed, never narrower.
pub const PROCESSES_FULL: usize = 2;
/// Look-ups that gave up at [`crate::limits::CGROUP_DEPTH`]: what such cgroups' processes do is not seen.
pub const CGROUPS_TOO_DEEP: usize = 3;
/// Accesses for which no buffer was free ([`crate::limits::SCRATCHES_PER_CPU`]): they were not looked at.
pub const ACCESSES_WITHOUT_SCRATCH: usize = 4;
/// Accesses that were known by the name they were asked under, without walking their path: no loss, but what the cheap way
/// is worth.
pub const ACCESSES_KNOWN_BY_NAME: usize = 5;
