//! What the whole-program tests share.
pub mod apparmor;
pub mod audit;
pub mod bundle;
pub mod cgroup;
pub mod kernel;
pub mod khard;
pub mod kubelet;
pub mod node;
pub mod observed;
pub mod process;
pub mod program;
pub mod recorded;
pub mod stopwatch;
pub mod strace;
pub mod tracefs;
pub mod wait;
