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
        let mut resolved = if whole.is_some() && follows {
            followed(root, bare)?.into_vec()
        } else {
            let mut parent = followed(root, directory)?.into_vec();
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

/// Where a path leads, links followed. `None` if it leads elsewhere again and again: a mount that was found and then moved shows its
/// new place, which is not where the path led.
fn followed(root: &OwnedFd, path: &[u8]) -> Option<OsString> {
    const TRIES: u32 = 3;
    (0..TRIES).find_map(|_| {
        let file = open_below(root, path, true)?;
        let found = path_of(&file, root)?;
        (identity(&open_below(root, path, true)?)? == identity(&file)?).then_some(found)
    })
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

/// Its path from the root of its mount namespace (`proc_pid_fd(5)`); `None` if it has none any more. In a namespace that has ended
/// mounts are apart, and a path begins where its own mount did: then it leads elsewhere, or nowhere.
fn path_of(file: &OwnedFd, root: &OwnedFd) -> Option<OsString> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?.into_os_string();
    let top = openat(root, "../".repeat(MOST_LEVELS), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let found = open_below(&top, path.as_bytes(), false)?;
    (identity(&found)? == identity(file)?).then_some(path)
}

/// How deep the root directory may lie in its mount namespace; above that namespace's root is nothing.
const MOST_LEVELS: usize = 256;

fn identity(file: &OwnedFd) -> Option<(u64, u64)> {
    rustix::fs::fstat(file).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

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

    #[test]
    fn a_file_of_a_mount_namespace_that_has_ended_has_no_path() {
        let dir = std::env::temp_dir().join(format!("khard-ended-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut command = Command::new("unshare");
        command.args((!rustix::process::geteuid().is_root()).then_some("--map-root-user"));
        command.args(["--mount", "sh", "-c"]);
        command
            .arg("mount -t tmpfs none \"$1\" && mkdir \"$1/sub\" && echo mounted && read end")
            .arg("sh")
            .arg(&dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "without root, this needs a user namespace");
        let mut root = Root::default();
        root.learn(child.id());
        let below = |name: &str| Bytes::from(dir.join(name).into_os_string().into_vec());
        assert_eq!(root.resolve(&below("sub"), true), below("sub/"));
        let directory = root.0.as_ref().unwrap();
        let file = open_below(directory, dir.join("sub").as_os_str().as_bytes(), true).unwrap();
        child.stdin.take();
        child.wait().unwrap();
        assert_eq!(path_of(&file, directory), None);
        fs::remove_dir(dir).unwrap();
    }
}
