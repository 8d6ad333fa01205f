//! A kubelet's cgroup: owns it in every hierarchy, with all that is left in it at the end.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::containers::processes::{hierarchies, remove_cgroups};

/// A cgroup below the root. Dropping it removes it, and those in it.
pub(super) struct Cgroup(String);

impl Cgroup {
    pub(super) fn make(name: String) -> Result<Self> {
        for root in hierarchies() {
            let dir = root.join(&name);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            // A new cgroup of version 1 has none, and takes no process (cpuset(7)).
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (from, to) = (root.join(file), dir.join(file));
                if from.exists() && to.exists() {
                    fs::write(&to, fs::read(&from)?)
                        .with_context(|| format!("cannot write {}", to.display()))?;
                }
            }
        }
        Ok(Self(name))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let mut found = BTreeSet::new();
        for root in hierarchies() {
            gather(&root, &root.join(&self.0), &mut found);
        }
        remove_cgroups(&found);
    }
}

fn gather(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    if let Some(path) = dir.strip_prefix(root).ok().and_then(Path::to_str) {
        found.insert(path.to_owned());
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(root, &entry.path(), found);
        }
    }
}
