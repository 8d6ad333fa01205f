//! The kernel programs as user space sees them: loading, attaching, and what they say.
//!
//! Owns every call into aya. Knows maps, rings and offsets; nothing of containers, names or files. Above it,
//! a subject is a [`SlotNumber`] and a cgroup an id.

mod attachment;
mod btf;
mod calls;
mod counters;
mod hooks;
mod load;
mod mapped;
mod object;
mod plan;
mod programs;
mod slots;
mod symbols;
mod unpreempted;

pub use attachment::{AttachChoice, Watched, Watching, bpf_lsm_runs, of_class, skips_fexit};
pub use btf::{Btf, BtfError};
pub use counters::{Misses, Stats, rise};
pub use hooks::{HOOKS, Hook};
pub use load::{Bpf, LoadError};
pub use plan::{AttachPlan, KernelVersion};
pub use programs::{AttachPoint, PROGRAMS, Program, Role};
pub use slots::{AccessCounts, SlotNumber, SlotView, Slots};
