//! The Recording and what follows from it. Pure: knows no kernel, disk, clock or environment.

pub mod apparmor;
pub mod apparmor_text;
mod bytes;
pub mod check;
pub mod diff;
pub mod escape;
pub mod explain;
pub mod lint;
pub mod recording;
pub mod seccomp;
pub mod ship;
pub mod summary;
pub mod syscalls;

pub use bytes::Bytes;
