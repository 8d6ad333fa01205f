//! Cgroups of a test: emptied and removed with it, however it ends.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use khard_user::cgroup::CgroupTree;

use crate::wait;

/// A path in the v2 tree that nobody else uses, and the cgroup there, if it was made.
pub struct TestCgroup {
    path: PathBuf,
    dir: PathBuf,
}

impl TestCgroup {
    /// Only the path.
    pub fn planned(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/khard-test-{}-{number}-{name}", std::process::id()));
        Self { dir: tree().dir(&path), path }
    }

    /// A new, empty cgroup.
    pub fn new(name: &str) -> Self {
        let cgroup = Self::planned(name);
        cgroup.make();
        cgroup
    }

    /// Makes one that was only planned.
    pub fn make(&self) {
        fs::create_dir(&self.dir).unwrap_or_else(|error| panic!("{}: {error}", self.dir.display()));
    }

    /// Below the tree's root, with a leading slash.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a path of letters")
    }

    /// The last component: the name of the folder of a recording.
    pub fn name(&self) -> &str {
        &self.path()[1..]
    }

    /// In the file system.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves a process into it.
    pub fn add(&self, pid: u32) {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
            .unwrap_or_else(|error| panic!("cannot move {pid} to {}: {error}", self.path()));
    }

    /// The processes in it and below.
    pub fn processes(&self) -> Vec<u32> {
        tree().processes(&self.path)
    }

    /// Waits until it is empty, and removes it with all below.
    pub fn remove(&self) {
        wait::until("an empty cgroup", || self.processes().is_empty());
        wait::until("the cgroup's removal", || {
            remove_all(&self.dir);
            !self.dir.exists()
        });
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        if self.dir.exists() {
            // Linux 5.14: kills all in it and below.
            let _ = fs::write(self.dir.join("cgroup.kill"), "1");
            for _ in 0..500 {
                remove_all(&self.dir);
                if !self.dir.exists() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// The system's v2 tree.
pub fn tree() -> CgroupTree {
    CgroupTree::find().expect("a cgroup v2 tree is mounted")
}

fn remove_all(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_all(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
