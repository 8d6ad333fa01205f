//! What khard-profile promises, tested through its public interface alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apparmor;
mod apparmor_oracle;
mod apparmor_text;
mod bpf;
mod check;
mod check_apparmor;
mod diff;
mod lint;
mod recording;
mod seccomp;
mod ship;
mod summary;
mod support;
mod syscalls;
