//! What /proc says about a container's first process. Owns the reading and the formats; it must not know runtimes.
use crate::cgroup::unified_path;
use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// The /proc of one machine; another folder in tests.
#[derive(Debug, Clone)]
pub(super) struct Proc(PathBuf);

impl Default for Proc {
    fn default() -> Self {
        Self("/proc".into())
    }
}

impl Proc {
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self(root.to_owned())
    }

    fn read(&self, pid: u32, file: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(pid.to_string()).join(file))
    }

    /// The process's path in the cgroup v2 tree; `None` without such a tree.
    pub(super) fn cgroup(&self, pid: u32) -> io::Result<Option<PathBuf>> {
        Ok(unified_path(&self.read(pid, "cgroup")?).map(|path| OsString::from_vec(path.to_vec()).into()))
    }

    /// The file that the process runs.
    pub(super) fn exe(&self, pid: u32) -> Option<PathBuf> {
        fs::read_link(self.0.join(pid.to_string()).join("exe")).ok()
    }

    /// The arguments of the process's parent.
    pub(super) fn parent_arguments(&self, pid: u32) -> Option<Vec<Vec<u8>>> {
        let parent = status_field(&self.read(pid, "status").ok()?, "PPid")?.parse().ok()?;
        let line = self.read(parent, "cmdline").ok()?;
        Some(line.split(|&b| b == 0).map(<[u8]>::to_vec).collect())
    }

    /// Where the process looks for commands.
    pub(super) fn search_path(&self, pid: u32) -> Option<OsString> {
        let environment = self.read(pid, "environ").ok()?;
        let value = environment.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(b"PATH="))?;
        Some(OsString::from_vec(value.to_vec()))
    }
}

/// A field of `status`. Its first line holds the process's own name, which may look like anything but a line break
/// (the kernel escapes it).
fn status_field(status: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(status);
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

/// Whether `inner` is `outer` or below it. The root holds everything and so tells nothing.
pub(super) fn is_within(inner: &Path, outer: &Path) -> bool {
    outer != Path::new("/") && inner.starts_with(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_path_is_found_among_all_hierarchies() {
        let hybrid = b"9:name=systemd:/a\n8:pids:/a\n0::/kubepods/x\n";
        assert_eq!(unified_path(hybrid), Some(&b"/kubepods/x"[..]));
        assert_eq!(unified_path(b"0::/\n"), Some(&b"/"[..]));
        assert_eq!(unified_path(b"0::/a/b (deleted)\n"), Some(&b"/a/b"[..]));
        assert_eq!(unified_path(b"4:memory:/a\n"), None);
        assert_eq!(unified_path(b""), None);
    }

    #[test]
    fn status_fields_are_read_by_their_whole_name() {
        let status = b"Name:\tSeccomp: 9\nPPid:\t42\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status_field(status, "Seccomp").as_deref(), Some("2"));
        assert_eq!(status_field(status, "PPid").as_deref(), Some("42"));
        assert_eq!(status_field(status, "NoNewPrivs"), None);
    }

    #[test]
    fn nothing_is_within_the_root_alone() {
        assert!(is_within(Path::new("/a/b/container"), Path::new("/a/b")));
        assert!(is_within(Path::new("/a/b"), Path::new("/a/b")));
        assert!(!is_within(Path::new("/a/bc"), Path::new("/a/b")));
        assert!(!is_within(Path::new("/a"), Path::new("/")));
    }
}
