//! What khard-profile promises, tested through its public interface alone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod recording;
mod support;
mod syscalls;
