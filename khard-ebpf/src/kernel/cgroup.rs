//! `cgroup` and its `kernfs_node`.

use super::{offset, probe};

/// A cgroup, by the address of its kernfs node.
#[derive(Clone, Copy)]
pub(crate) struct Node(pub(crate) u64);

impl Node {
    /// Of a `struct cgroup`; `None` if it is in another hierarchy than the default one (v2), whose ids are
    /// numbers of their own.
    pub(crate) fn of_default_hierarchy(cgroup: u64) -> Option<Self> {
        let root: u64 = probe(cgroup, offset::CGROUP_ROOT.load());
        if root == 0 || probe::<i32>(root, offset::CGROUP_ROOT_ID.load()) != 0 {
            return None;
        }
        Some(Self(probe(cgroup, offset::CGROUP_KN.load())))
    }

    /// The cgroup's id: what `stat` of its directory shows as inode number.
    pub(crate) fn id(self) -> u64 {
        probe(self.0, offset::KN_ID.load())
    }

    /// The directory above, `Node(0)` at the root.
    pub(crate) fn parent(self) -> Self {
        Self(probe(self.0, offset::KN_PARENT.load()))
    }
}
