//! Files that khard writes: whole or not at all, private, and never through a planted link.
//!
//! Below the folder that the user named, every component is opened without following links; a file appears by
//! rename, so that an existing link is replaced, not followed. Folders of the system ([`OutDir::open_system`]) are root's: what is
//! written there is for everybody to read, and belongs to nobody else.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, linkat, mkdirat, open, openat, renameat,
        unlinkat,
    },
    io::Errno,
};

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {hint}", path.display())]
pub struct WriteError {
    what: &'static str,
    path: PathBuf,
    hint: &'static str,
    #[source]
    source: io::Error,
}

impl WriteError {
    fn new(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::with_hint(what, path, errno, Owner::Caller)
    }

    fn with_hint(what: &'static str, path: &Path, errno: Errno, owner: Owner) -> Self {
        let hint = match errno {
            Errno::NOSPC | Errno::DQUOT if owner == Owner::Root => "the disk is full: make room",
            Errno::ACCESS | Errno::PERM | Errno::ROFS if owner == Owner::Root => "it cannot be written here",
            Errno::LOOP | Errno::NOTDIR if owner == Owner::Root => {
                "a link or file stands where a folder must be: remove it"
            }
            _ if owner == Owner::Root => "look at the folder",
            Errno::NOSPC | Errno::DQUOT => "the disk is full: make room, or choose another folder with -o",
            Errno::ACCESS | Errno::PERM | Errno::ROFS => "choose a folder that can be written with -o",
            Errno::LOOP | Errno::NOTDIR => {
                "a link or file stands where a folder must be: remove it, or choose another folder with -o"
            }
            _ => "choose another folder with -o",
        };
        Self { what, path: path.to_owned(), hint, source: errno.into() }
    }
}

/// What writes a file's contents.
type Contents<'a> = &'a mut dyn FnMut(&mut std::fs::File) -> io::Result<()>;

/// Whose the files of a folder are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The user behind sudo, and nobody else reads them.
    Caller,
    /// Root, and everybody reads them.
    Root,
}

impl Owner {
    fn file_mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Caller => 0o600,
            Self::Root => 0o644,
        })
    }
}

/// A folder that output goes to.
#[derive(Debug)]
pub struct OutDir {
    fd: OwnedFd,
    path: PathBuf,
    owner: Owner,
}

const OPEN_DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);

impl OutDir {
    /// The folder that the user named, made if it is not there. Links in its own path are the user's business.
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        let mut made = None;
        if let Err(error) = open(path, OPEN_DIR, Mode::empty()) {
            if error != Errno::NOENT {
                return Err(WriteError::new("open", path, error));
            }
            std::fs::create_dir_all(path)
                .map_err(|e| WriteError::new("make", path, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
            made = Some(());
        }
        let fd = open(path, OPEN_DIR, Mode::empty()).map_err(|e| WriteError::new("open", path, e))?;
        if made.is_some() {
            give_to_user(&fd);
        }
        Ok(Self { fd, path: path.to_owned(), owner: Owner::Caller })
    }

    /// A folder of the system, made if it is not there.
    pub fn open_system(path: &Path) -> Result<Self, WriteError> {
        let failed = |what, errno| WriteError::with_hint(what, path, errno, Owner::Root);
        std::fs::create_dir_all(path)
            .map_err(|error| failed("make", Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let fd = open(path, OPEN_DIR, Mode::empty()).map_err(|errno| failed("open", errno))?;
        Ok(Self { fd, path: path.to_owned(), owner: Owner::Root })
    }

    /// A folder in it, made if it is not there. `name` may hold anything: see [`file_name`].
    pub fn subdir(&self, name: &str) -> Result<Self, WriteError> {
        let name = file_name(name);
        let path = self.path.join(&name);
        let is_made = match mkdirat(&self.fd, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(WriteError::new("make", &path, error)),
        };
        let fd = openat(&self.fd, &name, OPEN_DIR | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|error| WriteError::new("open", &path, error))?;
        // What was there before stays whose it is.
        if is_made && self.owner == Owner::Caller {
            give_to_user(&fd);
        }
        Ok(Self { fd, path, owner: self.owner })
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file to which lines are added as they come, made if it is not there. Mode 0600.
    pub fn append(&self, name: &str) -> Result<std::fs::File, WriteError> {
        let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.path.join(name);
        let file = openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| WriteError::new("write", &path, error))?;
        give_to_user(&file);
        Ok(file.into())
    }

    /// Writes a file whole: a temporary file beside it, synced, then renamed over it. Mode 0600, owned by the user
    /// behind sudo; in a folder of the system 0644, owned by root.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<PathBuf, WriteError> {
        self.write_whole(name, &mut |file| file.write_all(contents), true)
    }

    /// As [`write`](Self::write), with the contents as they are made: they need not be in memory as a whole.
    pub fn write_by(
        &self,
        name: &str,
        make: impl FnOnce(&mut io::BufWriter<&mut std::fs::File>) -> io::Result<()>,
    ) -> Result<PathBuf, WriteError> {
        let mut make = Some(make);
        let mut contents = |file: &mut std::fs::File| {
            let mut out = io::BufWriter::new(file);
            make.take().map_or(Ok(()), |make| make(&mut out))?;
            out.flush()
        };
        self.write_whole(name, &mut contents, true)
    }

    /// As [`write`](Self::write), but not synced: whole whenever khard may die, lost if the machine does. For what is written
    /// again and again while the kernel's records wait: syncing many files can take longer than their ring has room for.
    pub fn write_unsynced(&self, name: &str, contents: &[u8]) -> Result<PathBuf, WriteError> {
        self.write_whole(name, &mut |file| file.write_all(contents), false)
    }

    fn write_whole(&self, name: &str, contents: Contents<'_>, synced: bool) -> Result<PathBuf, WriteError> {
        let path = self.path.join(name);
        let temporary = OsString::from(format!(".{name}.{}.tmp", process::id()));
        let result = self.write_through(&temporary, OsStr::new(name), contents, synced);
        if result.is_err() {
            let _ = unlinkat(&self.fd, &temporary, AtFlags::empty());
        }
        result
            .map(|()| path.clone())
            .map_err(|error| WriteError::with_hint("write", &path, error, self.owner))
    }

    fn write_through(
        &self,
        temporary: &OsStr,
        name: &OsStr,
        contents: Contents<'_>,
        synced: bool,
    ) -> Result<(), Errno> {
        // One of the same process id that was killed here before.
        let _ = unlinkat(&self.fd, temporary, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, temporary, flags, self.owner.file_mode())?;
        let mut file = std::fs::File::from(fd);
        contents(&mut file).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        match self.owner {
            Owner::Caller => give_to_user(&file),
            // Whatever the umask is.
            Owner::Root => fchmod(&file, self.owner.file_mode())?,
        }
        if synced {
            fsync(&file)?;
        }
        renameat(&self.fd, temporary, &self.fd, name)?;
        if synced { fsync(&self.fd) } else { Ok(()) }
    }

    /// Removes a file that may not be there.
    pub fn remove(&self, name: &str) {
        let _ = unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Keeps a file, which may not be there, under a second name, so that [`put_back`](Self::put_back) needs no room on the disk.
    pub fn keep(&self, name: &str) -> Result<(), WriteError> {
        let kept = kept_name(name);
        let _ = unlinkat(&self.fd, &kept, AtFlags::empty());
        match linkat(&self.fd, name, &self.fd, &kept, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(WriteError::with_hint("keep", &self.path.join(name), errno, self.owner)),
        }
    }

    /// Puts back what was kept; nothing was kept where there was nothing.
    pub fn put_back(&self, name: &str) -> Result<(), WriteError> {
        let result = match renameat(&self.fd, kept_name(name), &self.fd, name) {
            Err(Errno::NOENT) => match unlinkat(&self.fd, name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            },
            // Two names of one file: rename(2) leaves both.
            Ok(()) => {
                self.forget(name);
                Ok(())
            }
            other => other,
        };
        result.map_err(|errno| WriteError::with_hint("put back", &self.path.join(name), errno, self.owner))
    }

    /// Forgets what was kept.
    pub fn forget(&self, name: &str) {
        let _ = unlinkat(&self.fd, kept_name(name), AtFlags::empty());
    }

    /// Removes a file, which must be there.
    pub fn delete(&self, name: &str) -> Result<(), WriteError> {
        unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(|errno| WriteError::with_hint("remove", &self.path.join(name), errno, self.owner))
    }

    /// Whether files can be written here, found out by writing one.
    pub fn check(&self) -> Result<(), WriteError> {
        let probe = ".khard-probe";
        self.write(probe, b"khard\n")?;
        self.remove(probe);
        Ok(())
    }
}

/// With a dot before it, it is no profile to those that read a whole folder.
fn kept_name(name: &str) -> String {
    format!(".{name}.khard-kept")
}

/// Gives what khard made to the user who called it by sudo. What cannot be given stays root's.
fn give_to_user(file: impl std::os::fd::AsFd) {
    let id = |name| env::var(name).ok()?.parse::<u32>().ok();
    if let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) {
        let _ = fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
}

/// Any text as one path component: letters, digits, `.`, `_`, `-` and `@` stay, everything else becomes `%XX`; a
/// leading dot as well, and nothing becomes `%`. Two different texts never meet.
pub fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'@') || (byte == b'.' && at > 0);
        if plain {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.is_empty() { "%".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn any_name_becomes_one_harmless_component() {
        assert_eq!(file_name("web-7d4b9c"), "web-7d4b9c");
        assert_eq!(file_name("../../etc"), "%2E.%2F..%2Fetc");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name(""), "%");
        assert_eq!(file_name("a/b"), "a%2Fb");
        assert_eq!(file_name("a%2Fb"), "a%252Fb");
    }

    #[test]
    fn a_file_replaces_a_planted_link_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        symlink(&victim, dir.path().join("recording.json")).unwrap();
        let out = OutDir::open(dir.path()).unwrap();
        let written = out.write("recording.json", b"{}").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
        let meta = std::fs::symlink_metadata(written).unwrap();
        assert!(meta.is_file());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_in_place_of_a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/tmp", dir.path().join("web")).unwrap();
        let refused = OutDir::open(dir.path()).unwrap().subdir("web").unwrap_err();
        assert!(refused.to_string().contains("a link or file stands"), "{refused}");
    }

    #[test]
    fn what_was_kept_comes_back_and_where_nothing_was_nothing_is() {
        let dir = tempfile::tempdir().unwrap();
        let out = OutDir::open_system(dir.path()).unwrap();
        let names = || -> Vec<_> {
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        for write in [true, false] {
            let path = out.write("a", b"old").unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
            out.keep("a").unwrap();
            if write {
                out.write("a", b"new").unwrap();
            }
            out.put_back("a").unwrap();
            assert_eq!((std::fs::read(&path).unwrap(), names().len()), (b"old".to_vec(), 1), "{write}");
        }
        out.keep("a").unwrap();
        out.delete("a").unwrap();
        out.put_back("a").unwrap();
        out.keep("b").unwrap();
        out.write("b", b"new").unwrap();
        out.put_back("b").unwrap();
        assert_eq!(names(), ["a"]);
        out.keep("a").unwrap();
        out.forget("a");
        assert_eq!(names(), ["a"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let out = OutDir::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("summary.md")).unwrap();
        assert!(out.write("summary.md", b"new").is_err());
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["summary.md"]);
    }
}
