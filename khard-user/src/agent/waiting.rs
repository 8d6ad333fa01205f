//! Cgroups that were named before they exist.

use std::path::{Path, PathBuf};

use crate::session::Birth;

/// The paths that nobody has made yet.
#[derive(Debug, Default)]
pub(super) struct WaitingCgroups {
    paths: Vec<PathBuf>,
}

impl WaitingCgroups {
    pub(super) fn add(&mut self, path: PathBuf) {
        if !self.paths.contains(&path) {
            self.paths.push(path);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The path that this birth fulfils.
    pub(super) fn claim(&mut self, birth: &Birth) -> Option<PathBuf> {
        let at = self.paths.iter().position(|path| *path == birth.path)?;
        Some(self.paths.swap_remove(at))
    }

    /// Whether it is a folder on the way to one that is waited for: it must keep its slot no longer than it takes
    /// to see that nothing happens in it, but may not be taken for a stranger while its child is being made.
    pub(super) fn is_around(&self, birth: &Birth) -> bool {
        birth.path != Path::new("") && self.paths.iter().any(|path| path.starts_with(&birth.path))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::bpf::SlotNumber;

    fn birth(path: &str) -> Birth {
        let slot = SlotNumber::new(1).unwrap();
        Birth { slot, cgroup_id: 1, path: PathBuf::from(path), born_ns: 0, since: Instant::now() }
    }

    #[test]
    fn a_path_is_claimed_once_and_only_by_its_own_birth() {
        let mut waiting = WaitingCgroups::default();
        waiting.add(PathBuf::from("/a/b"));
        assert_eq!(waiting.claim(&birth("/a")), None);
        assert!(waiting.is_around(&birth("/a")) && !waiting.is_around(&birth("/c")));
        assert_eq!(waiting.claim(&birth("/a/b")), Some(PathBuf::from("/a/b")));
        assert!(waiting.is_empty());
        assert_eq!(waiting.claim(&birth("/a/b")), None);
    }
}
