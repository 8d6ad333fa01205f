//! Paths that a system call named by a string: which file that was, in the mount namespace of who named it. The kernel has
//! resolved it long ago, so that this is an inference: where the answer cannot be had any more, the string stands.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
};

use khard_profile::Bytes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// The root directory of a subject's processes, as long as one of them is known.
#[derive(Default)]
pub(super) struct Root(Option<OwnedFd>);

impl Root {
    /// Takes a process's root, unless one is known.
    pub(super) fn learn(&mut self, tgid: u32) {
        if self.0.is_none() {
            let path = format!("/proc/{tgid}/root");
            self.0 =
                openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        }
    }

    /// The path with the symbolic links of its directories followed, and if `follows`, of itself; a directory ends with a slash.
    /// Unchanged where a directory of it is not there.
    pub(super) fn resolve(&self, path: &Bytes, follows: bool) -> Bytes {
        self.try_resolve(path.as_slice(), follows).unwrap_or_else(|| path.clone())
    }

    /// Whether something that is no directory is there.
    pub(super) fn is_file(&self, path: &Bytes) -> bool {
        let file = self.0.as_ref().and_then(|root| open_below(root, path.as_slice(), true));
        file.is_some_and(|file| !is_directory(&file))
    }

    fn try_resolve(&self, path: &[u8], follows: bool) -> Option<Bytes> {
        let root = self.0.as_ref()?;
        let bare = path.strip_suffix(b"/").unwrap_or(path);
        let at = bare.iter().rposition(|byte| *byte == b'/')?;
        let (directory, name) = (&bare[..=at], &bare[at + 1..]);
        let whole = open_below(root, bare, follows);
        let is_directory = whole.as_ref().is_some_and(is_directory) || path.ends_with(b"/");
        let mut resolved = if let Some(file) = whole.filter(|_| follows) {
            path_of(&file)?.into_vec()
        } else {
            let mut parent = path_of(&open_below(root, directory, true)?)?.into_vec();
            if !parent.ends_with(b"/") {
                parent.push(b'/');
            }
            parent.extend_from_slice(name);
            parent
        };
        if is_directory && !resolved.ends_with(b"/") {
            resolved.push(b'/');
        }
        Some(resolved.into())
    }
}

/// Without opening the file itself, and never beyond the root.
fn open_below(root: &OwnedFd, path: &[u8], follows: bool) -> Option<OwnedFd> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    if !follows {
        flags |= OFlags::NOFOLLOW;
    }
    openat2(
        root.as_fd(),
        OsStr::from_bytes(path),
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()
}

fn is_directory(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// Its path from the root of its mount namespace (`proc_pid_fd(5)`); `None` if it has none any more.
fn path_of(file: &OwnedFd) -> Option<OsString> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?.into_os_string();
    (path.as_bytes().starts_with(b"/") && !path.as_bytes().ends_with(b" (deleted)")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_directories_are_followed_and_directories_end_with_a_slash() {
        let dir = std::env::temp_dir().join(format!("khard-resolve-{}", std::process::id()));
        fs::create_dir_all(dir.join("real/sub")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        let mut root = Root::default();
        root.learn(std::process::id());
        let resolved = |path: &str, follows| {
            let given = dir.join(path).into_os_string().into_vec().into();
            let found = root.resolve(&given, follows);
            String::from_utf8(found.as_slice().strip_prefix(dir.as_os_str().as_bytes()).unwrap().to_vec())
                .unwrap()
        };
        assert_eq!(resolved("link/new", false), "/real/new");
        assert_eq!(resolved("link/sub", false), "/real/sub/");
        assert_eq!(resolved("link", false), "/link");
        assert_eq!(resolved("link", true), "/real/");
        assert_eq!(resolved("none/x", true), "/none/x");
        fs::remove_dir_all(dir).unwrap();
    }
}
