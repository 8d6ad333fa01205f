//! The cgroup v2 tree: where it is, ids and paths, and cgroups of khard's own.
//!
//! A cgroup's id is its directory's inode number (kernfs, 64-bit inode numbers), which is also what the kernel
//! programs see.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt as _, MetadataExt},
    },
    path::{Component, Path, PathBuf},
    process,
};

/// A cgroup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No v2 tree.
    #[error(
        "no cgroup v2 tree is mounted: `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified` makes one beside the v1 hierarchies"
    )]
    NoTree,
    /// The list of mounts.
    #[error("cannot read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    /// No such cgroup.
    #[error("there is no cgroup {}: paths are those below {}, as in /proc/PID/cgroup", path.display(), tree.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
        /// The v2 mount.
        tree: PathBuf,
    },
    /// A path that leaves the tree.
    #[error("{} is no cgroup path: write it as in /proc/PID/cgroup, or below the mount point", .0.display())]
    BadPath(PathBuf),
    /// Anything else.
    #[error("cannot {what} the cgroup {}", path.display())]
    Io {
        /// The action.
        what: &'static str,
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What the name of a command's cgroup begins with, before khard's own process id.
const OWN: &str = "khard-";

/// The mounted v2 tree.
#[derive(Clone, Debug)]
pub struct CgroupTree {
    mount: PathBuf,
}

/// A cgroup's `cgroup.events`, open: one call for each question instead of five. Holds a descriptor.
#[derive(Debug)]
pub struct Events(File);

impl Events {
    /// Whether a process lives in it or below; false once it is gone.
    pub fn is_populated(&self) -> bool {
        let mut text = [0; 128];
        // Read at its beginning, it is made anew (seq_read_iter(), fs/seq_file.c); of a removed cgroup it fails with ENODEV.
        let read = self.0.read_at(&mut text, 0);
        read.is_ok_and(|n| text[..n].split(|byte| *byte == b'\n').any(|line| line == b"populated 1"))
    }
}

impl CgroupTree {
    /// Finds it: alone at /sys/fs/cgroup, or beside v1 hierarchies.
    pub fn find() -> Result<Self, CgroupError> {
        let mounts = fs::read("/proc/self/mountinfo").map_err(CgroupError::Mounts)?;
        let mut found: Vec<_> = cgroup2_mounts(&mounts).collect();
        // Runtimes and tests mount it in other places as well; the shallowest is the system's.
        found.sort_by_key(|mount| mount.components().count());
        found.into_iter().next().map(|mount| Self { mount }).ok_or(CgroupError::NoTree)
    }

    /// Where it is mounted.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The id of the tree's root.
    pub fn root_id(&self) -> Result<u64, CgroupError> {
        id_of_dir(&self.mount)
    }

    /// A path as a user writes it, as a path below the root with a leading slash. Accepted are paths as in
    /// /proc/PID/cgroup and those below the mount point.
    pub fn normalize(&self, path: &Path) -> Result<PathBuf, CgroupError> {
        let below = path.strip_prefix(&self.mount).unwrap_or(path);
        let mut clean = PathBuf::from("/");
        for component in below.components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(CgroupError::BadPath(path.to_owned()));
                }
            }
        }
        if clean == Path::new("/") { Err(CgroupError::BadPath(path.to_owned())) } else { Ok(clean) }
    }

    /// The directory of a normalized path.
    pub fn dir(&self, path: &Path) -> PathBuf {
        self.mount.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The id of a cgroup; `None` if there is none.
    pub fn id(&self, path: &Path) -> Result<Option<u64>, CgroupError> {
        match id_of_dir(&self.dir(path)) {
            Ok(id) => Ok(Some(id)),
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The id of a cgroup that must exist.
    pub fn existing_id(&self, path: &Path) -> Result<u64, CgroupError> {
        self.id(path)?.ok_or_else(|| CgroupError::Missing { path: path.to_owned(), tree: self.mount.clone() })
    }

    /// Whether a process lives in it or below (`cgroup.events`); false once it is gone.
    pub fn is_populated(&self, path: &Path) -> bool {
        self.events(path).is_ok_and(|events| events.is_populated())
    }

    /// The same to be asked again and again.
    pub fn events(&self, path: &Path) -> io::Result<Events> {
        Ok(Events(File::open(self.dir(path).join("cgroup.events"))?))
    }

    /// Whether it still is the cgroup of this id.
    pub fn is_alive(&self, path: &Path, id: u64) -> bool {
        matches!(self.id(path), Ok(Some(now)) if now == id)
    }

    /// The processes in it and below.
    pub fn processes(&self, path: &Path) -> Vec<u32> {
        let mut found = Vec::new();
        collect_processes(&self.dir(path), 0, &mut found);
        found
    }

    /// Makes a cgroup for a command of this khard.
    pub fn create_own(&self) -> Result<OwnCgroup, CgroupError> {
        self.create(&format!("{OWN}{}", process::id()))
    }

    /// Makes a cgroup of khard's own directly below the root; `name` must be one component.
    pub fn create(&self, name: &str) -> Result<OwnCgroup, CgroupError> {
        let path = PathBuf::from("/").join(name);
        let dir = self.dir(&path);
        let make = || match fs::create_dir(&dir) {
            // Left by a khard of the same process id that was killed; one with processes in it is not removed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir(&dir).and_then(|()| fs::create_dir(&dir))
            }
            other => other,
        };
        make().map_err(|source| CgroupError::Io { what: "make", path: dir.clone(), source })?;
        let id = id_of_dir(&dir)?;
        Ok(OwnCgroup { path, dir, id })
    }

    /// Removes what other khards left: cgroups of [`create_own`](Self::create_own) of processes that are gone, where nobody lives in them any more.
    pub fn remove_abandoned(&self) {
        let Ok(entries) = fs::read_dir(&self.mount) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(OWN)?.parse::<u32>().ok());
            // As `create_own` writes it.
            let pid = pid.filter(|pid| name.to_str() == Some(&format!("{OWN}{pid}")));
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                // One with processes or cgroups in it is not removed.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// An id greater than those of all cgroups that exist, and less than those of all that come: ids only rise.
    pub fn newest_id(&self) -> Result<u64, CgroupError> {
        Ok(self.create(&format!("khard-mark-{}", process::id()))?.id)
    }

    /// The path of the cgroup with this id, by the kernel's file handles; `None` if it is gone.
    pub fn path_of_id(&self, id: u64) -> Option<PathBuf> {
        /// `FILEID_KERNFS` (include/linux/exportfs.h): the handle is the 64-bit id.
        const FILEID_KERNFS: i32 = 0xfe;
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            id: u64,
        }
        let root = fs::File::open(&self.mount).ok()?;
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id };
        // SAFETY: a handle of the size that it says, alive during the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                std::os::fd::AsRawFd::as_raw_fd(&root),
                &raw mut handle,
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: a descriptor that the kernel just gave us.
        let fd = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let dir = fs::read_link(link).ok()?;
        Some(Path::new("/").join(dir.strip_prefix(&self.mount).ok()?))
    }
}

/// A cgroup that khard made, removed with this value if it is empty by then.
#[derive(Debug)]
pub struct OwnCgroup {
    /// Below the root, with a leading slash.
    pub path: PathBuf,
    /// In the file system.
    pub dir: PathBuf,
    /// Its id.
    pub id: u64,
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // Processes may have been left in it on purpose; then it stays theirs.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The path of a process's cgroup.
///
/// # Errors
/// It is gone, or has none of version 2.
pub fn of_process(pid: u32) -> io::Result<PathBuf> {
    let text = fs::read(format!("/proc/{pid}/cgroup"))?;
    unified_path(&text)
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .ok_or_else(|| io::Error::other(format!("process {pid} has no cgroup v2")))
}

/// The path on the line of hierarchy 0, which is the v2 tree (cgroups(7)), in what `/proc/PID/cgroup` holds. A path may hold any byte but a
/// line break, which the kernel refuses in cgroup names.
pub(crate) fn unified_path(cgroup_file: &[u8]) -> Option<&[u8]> {
    let path = cgroup_file.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    // A removed cgroup's path has this suffix (cgroups(7)).
    Some(path.strip_suffix(b" (deleted)").unwrap_or(path))
}

fn id_of_dir(dir: &Path) -> Result<u64, CgroupError> {
    fs::metadata(dir).map(|meta| meta.ino()).map_err(|source| CgroupError::Io {
        what: "look at",
        path: dir.to_owned(),
        source,
    })
}

fn collect_processes(dir: &Path, depth: u32, found: &mut Vec<u32>) {
    if let Ok(text) = fs::read_to_string(dir.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    }
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if depth < khard_common::limits::CGROUP_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), depth + 1, found);
        }
    }
}

/// Mount points of type cgroup2 whose root is the hierarchy's: `proc_pid_mountinfo(5)`.
fn cgroup2_mounts(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"cgroup2" && root == b"/").then(|| PathBuf::from(OsStr::from_bytes(&unescape_octal(point))))
    })
}

/// Space, tab, newline and backslash are written as `\040` and so on.
fn unescape_octal(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code =
            tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"\
30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n\
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw\n\
32 30 0:28 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu\n\
99 30 0:27 /kubepods /mnt/a\\040b rw - cgroup2 cgroup2 rw\n\
98 30 0:27 / /mnt/a\\040b rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn only_whole_v2_trees_are_found_and_their_names_are_unescaped() {
        let found: Vec<_> = cgroup2_mounts(HYBRID).collect();
        assert_eq!(found, [Path::new("/sys/fs/cgroup/unified"), Path::new("/mnt/a b")]);
    }

    #[test]
    fn what_a_killed_khard_of_the_same_process_id_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let tree = CgroupTree { mount: dir.path().to_owned() };
        std::mem::forget(tree.create("khard-1").unwrap());
        let again = tree.create("khard-1").unwrap();
        fs::write(again.dir.join("process"), "").unwrap();
        assert!(tree.create("khard-1").is_err(), "one that is not empty stays");
    }

    #[test]
    fn what_khards_left_that_are_gone_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let tree = CgroupTree { mount: dir.path().to_owned() };
        // A process id that the kernel never gives: PID_MAX_LIMIT (include/linux/threads.h) is 2^22.
        for name in ["khard-4194305", "khard-1", "khard-04194305", "khard-x", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::create_dir_all(dir.path().join("khard-4194306/inhabited")).unwrap();
        tree.remove_abandoned();
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["khard-04194305", "khard-1", "khard-4194306", "khard-x", "other"]);
    }

    #[test]
    fn paths_are_taken_as_proc_or_the_file_system_shows_them_and_never_leave_the_tree() {
        let tree = CgroupTree { mount: PathBuf::from("/sys/fs/cgroup") };
        let normal = |path| tree.normalize(Path::new(path)).ok();
        assert_eq!(normal("/a/b"), Some(PathBuf::from("/a/b")));
        assert_eq!(normal("a/./b/"), Some(PathBuf::from("/a/b")));
        assert_eq!(normal("/sys/fs/cgroup/a"), Some(PathBuf::from("/a")));
        assert_eq!(normal("/a/../.."), None);
        assert_eq!(normal("/"), None);
        assert_eq!(normal("/sys/fs/cgroup"), None);
    }
}
