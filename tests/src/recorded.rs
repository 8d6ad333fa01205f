//! A workload's pod as khard recorded it, from before it was there until it was stopped. Puts [`crate::node`] and
//! [`crate::khard`] together.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::path::PathBuf;

use khard_profile::{
    recording::{Abi, Recording},
    syscalls,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    kernel::accepting_bounds,
    khard::{self, Done},
    node::{Answers, Node, Workload},
    wait,
};

/// What is left of a recorded pod.
pub struct Recorded {
    dir: TempDir,
    /// The pod's name, and its folder's.
    pub pod: String,
    /// What it answered, until its end, while it was recorded.
    pub answers: Answers,
    /// The khard that recorded it.
    pub khard: Done,
}

impl Recorded {
    /// Records a new pod of a workload with `khard trace --pod POD --wait ARGS`; khard ends by itself, with status 0.
    pub fn new(node: &Node, workload: &Workload, handler: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let spec = workload.spec(handler);
        let name = spec.name.clone();
        let mut command = khard::command(["trace", "--pod", &name, "--wait"]);
        let mut running = khard::start(command.args(accepting_bounds()).args(args).arg("-o").arg(dir.path()));
        running.is_ready();
        let pod = node.start(spec);
        workload.wait_to_serve(&pod, wait::limit()).expect("a pod that serves");
        let mut answers = workload.ask(&pod).expect("a pod that answers");
        answers.extend(workload.stop(&pod).expect("a pod that stops"));
        Self { dir, pod: name, answers, khard: running.end().expect(0) }
    }

    /// The folder that khard wrote to.
    pub fn out(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// A container's folder.
    pub fn folder(&self, container: &str) -> PathBuf {
        self.dir.path().join(&self.pod).join(container)
    }

    /// A container's recording.
    pub fn recording(&self, container: &str) -> Recording {
        khard::recording(&self.folder(container).join("recording.json"))
    }

    /// A container's profile.
    pub fn profile(&self, container: &str) -> Value {
        khard::json(&self.profile_path(container))
    }

    /// Its file.
    pub fn profile_path(&self, container: &str) -> PathBuf {
        self.folder(container).join("seccomp.json")
    }
}

/// The profile that khard would have written if the call had not been seen.
pub fn without(profile: &Value, call: &str) -> Value {
    let mut changed = profile.clone();
    let is_old = syscalls::by_name(call).is_some_and(|known| known.is_old(Abi::X86_64));
    for rule in changed["syscalls"].as_array_mut().expect("a list of rules") {
        let is_allow = rule["action"] == "SCMP_ACT_ALLOW";
        let names = rule["names"].as_array_mut().expect("a list of names");
        if is_allow {
            names.retain(|name| name != call);
        } else if is_old {
            names.push(json!(call));
        }
    }
    changed
}
