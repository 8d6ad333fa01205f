//! What was asked of a name lately, so that asking it again costs no walk: by the kernel's objects, and by the epoch in which its
//! path was what it was.
//!
//! A dentry's address alone is not its path: directories above it are renamed, other mounts come over it, and its memory is
//! used again for another file. So what the name is of is part of the key.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::LruHashMap};
use khard_common::limits::SEEN_NAMES;

use crate::kernel::{
    epoch::Epoch,
    path::{Inode, Place},
};

/// What was asked, of which name.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Name {
    subject_id: u64,
    mount: u64,
    super_block: u64,
    dentry: u64,
    /// Hash and length of the last component.
    hash_and_len: u64,
    directory_nr: u64,
    inode_nr: u64,
    directory_generation: u32,
    inode_generation: u32,
    /// The operation, the permissions, the phase and the flags.
    what: u64,
}

/// Names that were known, with the epoch in which they were.
#[map]
static NAMES: LruHashMap<Name, u64> = LruHashMap::with_max_entries(SEEN_NAMES, 0);

impl Name {
    #[inline(always)]
    pub(super) fn new(subject_id: u64, place: Place, what: u64) -> Self {
        let (inode, directory): (Inode, Inode) = (place.dentry.inode(), place.dentry.parent().inode());
        Self {
            subject_id,
            mount: place.mnt.0,
            super_block: place.dentry.super_block(),
            dentry: place.dentry.0,
            hash_and_len: place.dentry.hash_and_len(),
            directory_nr: directory.number(),
            inode_nr: inode.number(),
            directory_generation: directory.generation(),
            inode_generation: inode.generation(),
            what,
        }
    }

    #[inline(always)]
    pub(super) fn is_known(&self, epoch: u64) -> bool {
        // SAFETY: a word, whatever is written to it meanwhile.
        epoch != 0 && unsafe { NAMES.get(self) }.is_some_and(|known| *known == epoch)
    }

    #[inline(always)]
    pub(super) fn remember(&self, epoch: u64) {
        if epoch != 0 {
            let _ = NAMES.insert(self, epoch, u64::from(BPF_ANY));
        }
    }
}

/// The present epoch, to be read before anything of a name is; 0 for none: a change is under way, or the counts are not known.
#[inline(always)]
pub(super) fn epoch() -> u64 {
    let now = Epoch::now();
    // Never 0, though both counts may be.
    if now.is_known() && now.is_at_rest() { now.0 | 1 } else { 0 }
}
