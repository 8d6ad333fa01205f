//! Files of the kernel's own file systems (securityfs, debugfs, tracefs), also where none of them is mounted.
//!
//! Owns the private, detached mounts: nobody else sees them, and they end with the file. Needs Linux 5.2.
use rustix::{
    fs::{Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};
use std::{fs::File, io::Read, path::Path};

/// One such file system: its type and where it is mounted by habit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KernelFs {
    kind: &'static str,
    mounted_at: &'static str,
}

pub(crate) const SECURITYFS: KernelFs = KernelFs { kind: "securityfs", mounted_at: "/sys/kernel/security" };
pub(crate) const DEBUGFS: KernelFs = KernelFs { kind: "debugfs", mounted_at: "/sys/kernel/debug" };
pub(crate) const TRACEFS: KernelFs = KernelFs { kind: "tracefs", mounted_at: "/sys/kernel/tracing" };

impl KernelFs {
    /// Reads a file, from the mounted file system or else from a mount of our own.
    pub(crate) fn read(self, file: &str) -> Result<String, String> {
        let path = Path::new(self.mounted_at).join(file);
        std::fs::read_to_string(&path).or_else(|seen| {
            self.read_detached(file).map_err(|hidden| {
                // Where it is mounted, that answer is the telling one.
                let reason = if self.is_mounted() { seen } else { hidden.into() };
                format!("{}: {reason}", path.display())
            })
        })
    }

    /// Whether it is mounted in its usual place, where other programs look for it.
    pub(crate) fn is_mounted(self) -> bool {
        std::fs::read_dir(self.mounted_at).is_ok_and(|mut entries| entries.next().is_some())
    }

    fn read_detached(self, file: &str) -> rustix::io::Result<String> {
        let context = fsopen(self.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        let file = rustix::fs::openat(mount, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).map_err(|_| rustix::io::Errno::IO)?;
        Ok(text)
    }
}

/// What stands between two marks: how these files show the one choice of several that holds.
pub(crate) fn between(text: &str, open: char, close: char) -> Option<&str> {
    Some(text.split_once(open)?.1.split_once(close)?.0)
}
