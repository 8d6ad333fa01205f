//! `dentry`, `mount`, `file` and `inode`: what names a file.

use super::{offset, probe};

/// `S_IFMT` and `S_IFDIR` (include/uapi/linux/stat.h).
const S_IFMT: u32 = 0xf000;
const S_IFDIR: u32 = 0x4000;
/// `SB_NOUSER` (include/linux/fs.h): pipes, sockets, memfd. AppArmor does not mediate these by path.
const SB_NOUSER: u64 = 1 << 31;
/// `__FMODE_EXEC` in `f_flags` (include/linux/fs.h): the kernel opened it to execute it.
const FMODE_EXEC: u32 = 0x20;

/// A dentry, by address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dentry(pub(crate) u64);

impl Dentry {
    pub(crate) fn inode(self) -> Inode {
        Inode(probe(self.0, offset::DENTRY_INODE.load()))
    }

    pub(crate) fn parent(self) -> Self {
        Self(probe(self.0, offset::DENTRY_PARENT.load()))
    }

    /// The name's salted hash and length in one word.
    pub(crate) fn hash_and_len(self) -> u64 {
        probe(self.0, offset::DENTRY_HASH_LEN.load())
    }

    /// The count of its changes of name or directory, odd while one is under way (`d_seq`, fs/dcache.c).
    pub(crate) fn sequence(self) -> u32 {
        probe(self.0, offset::DENTRY_SEQ.load())
    }

    pub(crate) fn name(self) -> u64 {
        probe(self.0, offset::DENTRY_NAME.load())
    }

    pub(crate) fn super_block(self) -> u64 {
        probe(self.0, offset::DENTRY_SB.load())
    }

    /// Whether it is of a file system that no path leads to.
    pub(crate) fn is_internal(self) -> bool {
        probe::<u64>(self.super_block(), offset::SB_FLAGS.load()) & SB_NOUSER != 0
    }

    /// Whether the name was removed and the file is still there: `d_unlinked()` (include/linux/dcache.h).
    pub(crate) fn is_deleted(self) -> bool {
        self.parent() != self && probe::<u64>(self.0, offset::DENTRY_PPREV.load()) == 0 && self.inode().0 != 0
    }

    pub(crate) fn is_directory(self) -> bool {
        self.inode().is_directory()
    }
}

/// An inode, by address; 0 for a name that has none yet.
#[derive(Clone, Copy)]
pub(crate) struct Inode(pub(crate) u64);

impl Inode {
    pub(crate) fn is_directory(self) -> bool {
        self.0 != 0 && u32::from(probe::<u16>(self.0, offset::INODE_MODE.load())) & S_IFMT == S_IFDIR
    }

    pub(crate) fn uid(self) -> u32 {
        probe(self.0, offset::INODE_UID.load())
    }

    pub(crate) fn number(self) -> u64 {
        probe(self.0, offset::INODE_NR.load())
    }

    /// Tells one tenant of an inode number from the next.
    pub(crate) fn generation(self) -> u32 {
        probe(self.0, offset::INODE_GENERATION.load())
    }
}

/// A `struct vfsmount`, by address.
#[derive(Clone, Copy)]
pub(crate) struct VfsMount(pub(crate) u64);

impl VfsMount {
    pub(crate) fn root(self) -> Dentry {
        Dentry(probe(self.0, offset::VFSMOUNT_ROOT.load()))
    }

    /// The `struct mount` around it (`real_mount()`, fs/mount.h).
    pub(crate) fn mount(self) -> u64 {
        self.0.wrapping_sub(offset::MOUNT_VFSMOUNT.load())
    }

    /// Its mount namespace, by address: for comparing only.
    pub(crate) fn namespace(self) -> u64 {
        probe(self.mount(), offset::MOUNT_NS.load())
    }
}

/// Where a file is found: `struct path`.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) mnt: VfsMount,
    pub(crate) dentry: Dentry,
}

impl Place {
    /// Of a `struct path`.
    pub(crate) fn of_path(path: u64) -> Self {
        Self {
            mnt: VfsMount(probe(path, offset::PATH_MNT.load())),
            dentry: Dentry(probe(path, offset::PATH_DENTRY.load())),
        }
    }

    /// A name in a directory, given by its `struct path`.
    pub(crate) fn in_directory(directory: u64, dentry: u64) -> Self {
        Self { mnt: VfsMount(probe(directory, offset::PATH_MNT.load())), dentry: Dentry(dentry) }
    }

    /// The root of a mount.
    pub(crate) fn of_mount(mnt: u64) -> Self {
        let mnt = VfsMount(mnt);
        Self { mnt, dentry: mnt.root() }
    }
}

/// A `struct file`, by address.
#[derive(Clone, Copy)]
pub(crate) struct File(pub(crate) u64);

impl File {
    pub(crate) fn place(self) -> Place {
        Place {
            mnt: VfsMount(probe(self.0, offset::FILE_MNT.load())),
            dentry: Dentry(probe(self.0, offset::FILE_DENTRY.load())),
        }
    }

    pub(crate) fn mode(self) -> u32 {
        probe(self.0, offset::FILE_MODE.load())
    }

    pub(crate) fn flags(self) -> u32 {
        probe(self.0, offset::FILE_FLAGS.load())
    }

    /// The credentials that it was opened with.
    pub(crate) fn cred(self) -> u64 {
        probe(self.0, offset::FILE_CRED.load())
    }

    /// Whether the kernel opened it to execute it: AppArmor then asks for nothing more of it.
    pub(crate) fn is_for_execution(self) -> bool {
        self.flags() & FMODE_EXEC != 0
    }
}
