//! tracefs, where the ids of perf tracepoints are found. Not every system has it mounted.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{path::Path, process::Command};

const AT: &str = "/sys/kernel/tracing";

/// Mounted as long as this lives, and longer if it was before.
pub struct Tracefs {
    is_ours: bool,
}

impl Tracefs {
    /// Mounts it unless it is.
    pub fn mounted() -> Self {
        let is_ours = !Path::new(AT).join("events").exists();
        if is_ours {
            let mounted = Command::new("mount").args(["-t", "tracefs", "tracefs", AT]).status();
            assert!(mounted.is_ok_and(|status| status.success()), "tracefs cannot be mounted");
        }
        Self { is_ours }
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = Command::new("umount").arg(AT).status();
        }
    }
}
