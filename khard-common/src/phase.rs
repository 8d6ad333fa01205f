//! The phases of a container's life as bits of a syscall table's byte.
//!
//! A phase belongs to a process, not to a cgroup: the runtime, the workload and an exec'd shell share a cgroup
//! at the same time.

/// The runtime prepares the container.
pub const RUNTIME: u8 = 1 << 0;
/// The same, after the process came under a seccomp filter that it did not have when it entered.
pub const RUNTIME_FILTERED: u8 = 1 << 1;
/// The container's own work: what runs from the entry point on.
pub const WORKLOAD: u8 = 1 << 2;
/// The runtime prepares a process that joins the container (`kubectl exec`, a probe).
pub const JOINING: u8 = 1 << 3;
/// The same, after it came under a seccomp filter.
pub const JOINING_FILTERED: u8 = 1 << 4;
/// The joined process itself, and what it starts.
pub const JOINER: u8 = 1 << 5;

/// All phases.
pub const ALL: u8 = 0x3f;

/// No phase yet: the workload already runs, and this young process was started by nobody in the subject. The kernel moves
/// a process before it tells of it (`cgroup_attach_task()`, kernel/cgroup/cgroup.c), so it is on its way in, and then
/// [`JOINING`]; or an orphan of the workload, and then [`WORKLOAD`]. [`crate::slot::Slot::untold`] tells which.
pub const UNTOLD: u8 = 1 << 6;

/// Bit 7 of a table's byte: the record of a first sighting could not be sent and is owed. A byte with it never
/// counts as known, so that the next such call tries again.
pub const RECORD_OWED: u8 = 1 << 7;

/// A mask that no byte of a table has: "not known, whatever the table says".
pub const NEVER: u32 = 1 << 8;
