//! Credentials with which overlayfs works on its layers: copied from those of who mounted it, during that call
//! (`ovl_fill_super()`, fs/overlayfs/super.c), and again for each file that it makes (`ovl_create_or_link()`, fs/overlayfs/dir.c).
//! AppArmor asks for the label of these, which is the workload's own if the workload mounted.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::LruHashMap};
use khard_common::limits::MOUNTERS;

use super::Asker;
use crate::kernel::task::Current;

/// Address of the credentials, to the subject whose they are.
#[map]
static MOUNTER: LruHashMap<u64, u64> = LruHashMap::with_max_entries(MOUNTERS, 0);

/// Credentials are copied by the current task, which may be of no subject. Each fork and exec does that: most end at once.
#[inline(always)]
pub(crate) fn copied(old: u64, new: u64) {
    let is_own = old == Current::task().real_cred();
    if is_own && !is_mount_call() {
        return;
    }
    match Asker::get() {
        Some(asker) if is_own || is_mounters(&asker, old) => {
            if MOUNTER.insert(new, asker.subject_id(), u64::from(BPF_ANY)).is_err() {
                asker.count_unread();
            }
        }
        // The address may have been that of credentials which are gone.
        _ => {
            let _ = MOUNTER.remove(new);
        }
    }
}

/// Whether credentials are those of an overlay that the same subject mounted.
#[inline(always)]
pub(crate) fn is_mounters(asker: &Asker, cred: u64) -> bool {
    // SAFETY: copied at once.
    unsafe { MOUNTER.get(cred) }.copied() == Some(asker.subject_id())
}

/// Whether the task is in mount(2) or fsconfig(2), by either ABI's numbers.
#[inline(always)]
fn is_mount_call() -> bool {
    match Current::call() {
        (true, nr) => matches!(nr, 21 | 431),
        (false, nr) => matches!(nr, 165 | 431),
    }
}
