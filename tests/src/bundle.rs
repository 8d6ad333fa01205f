//! Containers by runc alone, without a daemon. Owns bundles, runc's state folder and their end.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::Program;

/// A root file system of machine-made programs, and what runs in it.
pub struct Runc {
    dir: TempDir,
}

impl Runc {
    /// With an empty root file system but for mount points.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in ["rootfs/proc", "rootfs/dev", "state", "bundles"] {
            fs::create_dir_all(dir.path().join(name)).expect("a folder in a new one");
        }
        Self { dir }
    }

    /// Puts a program into the root file system, as `/NAME`.
    pub fn put(&self, name: &str, program: &Program) {
        program.write(&self.dir.path().join("rootfs").join(name));
    }

    /// Makes a bundle, called `id`, that runs `/PROGRAM` in this cgroup.
    pub fn bundle(&self, id: &str, program: &str, cgroup: &str) {
        self.bundle_under(id, program, cgroup, &Value::Null);
    }

    /// The same, under a seccomp profile in the OCI's form.
    pub fn bundle_under(&self, id: &str, program: &str, cgroup: &str, seccomp: &Value) {
        let bundle = self.dir.path().join("bundles").join(id);
        fs::create_dir(&bundle).expect("a bundle of this name is new");
        let namespaces: Vec<_> =
            ["mount", "pid", "ipc", "uts"].iter().map(|kind| json!({"type": kind})).collect();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {"args": [format!("/{program}")], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "root": {"path": self.dir.path().join("rootfs"), "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            ],
            "linux": {"cgroupsPath": cgroup, "namespaces": namespaces},
        });
        if !seccomp.is_null() {
            config["linux"]["seccomp"] = seccomp.clone();
        }
        fs::write(bundle.join("config.json"), config.to_string()).expect("a file in a new folder");
    }

    /// `runc run OPTIONS` of a bundle, as a container of the same id.
    pub fn run(&self, options: &[&str], id: &str) -> Command {
        let mut command = self.command(&["run"]);
        command.args(options).arg("--bundle").arg(self.dir.path().join("bundles").join(id)).arg(id);
        command
    }

    /// `runc ARGUMENTS`, with no input and no output.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.dir.path().join("state")).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        command
    }
}

impl Default for Runc {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        let left = fs::read_dir(self.dir.path().join("state")).into_iter().flatten().flatten();
        for container in left {
            let id = container.file_name();
            let _ = self.command(&["delete", "--force"]).arg(id).stderr(Stdio::null()).status();
        }
    }
}
