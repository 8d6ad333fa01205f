//! What is done to files by path and by descriptor.

use std::{fs, io, os::unix::fs::symlink, path::Path};

use anyhow::{Result, ensure};
use libc::{
    AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, F_SETLEASE, F_SETLK, F_SETLKW, F_UNLCK,
    LOCK_EX, LOCK_SH, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC,
    O_WRONLY,
};

use crate::call::{Arg, c, child, fd, open, refused, sys};

pub(crate) fn opening(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "text")?;
    let file = dir.join("file");
    for flags in [O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDWR | O_APPEND] {
        open(&file, flags, 0)?;
    }
    open(dir.join("new"), O_WRONLY | O_CREAT, 0o644)?;
    open(dir.join("new"), O_RDONLY | O_CREAT, 0o644)?;
    open(dir.join("new-a"), O_WRONLY | O_CREAT | O_APPEND, 0o644)?;
    open(dir.join("new-t"), O_RDWR | O_CREAT | O_TRUNC, 0o644)?;
    open(dir.join("read-only"), O_RDONLY | O_CREAT, 0o644)?;
    open(&file, O_RDONLY | O_TRUNC, 0)?;
    open(&file, O_PATH, 0)?;
    fs::read_dir(dir)?.try_for_each(|entry| entry.map(drop))?;
    refused(open(dir.join("none"), O_RDONLY, 0), libc::ENOENT)?;
    refused(open(dir.join("none/file"), O_WRONLY | O_CREAT, 0o644), libc::ENOENT)
}

pub(crate) fn nameless(dir: &Path) -> Result<()> {
    let file = open(dir, O_TMPFILE | O_RDWR, 0o600)?;
    sys!(libc::SYS_write, file, c"text".as_ptr(), 4_u32)?;
    sys!(libc::SYS_linkat, file, c(""), AT_FDCWD, c(dir.join("named")), AT_EMPTY_PATH)?;
    let by_proc = format!("/proc/self/fd/{}", file.arg());
    sys!(libc::SYS_linkat, AT_FDCWD, c(by_proc), AT_FDCWD, c(dir.join("again")), AT_SYMLINK_FOLLOW)?;
    Ok(())
}

/// Names that their maker takes to be new, as mkstemp(3) makes them.
pub(crate) fn exclusive(dir: &Path) -> Result<()> {
    for name in ["tmp.Ab3dEf", "tmp.Zz9yXw", "tmp.0q8rSt"] {
        open(dir.join(name), O_RDWR | O_CREAT | O_EXCL, 0o600)?;
    }
    refused(open(dir.join("tmp.Ab3dEf"), O_RDWR | O_CREAT | O_EXCL, 0o600), libc::EEXIST)
}

pub(crate) fn removing(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "")?;
    sys!(libc::SYS_mkdirat, AT_FDCWD, c(dir.join("folder")), 0o755)?;
    sys!(libc::SYS_unlinkat, AT_FDCWD, c(dir.join("file")), 0)?;
    sys!(libc::SYS_unlinkat, AT_FDCWD, c(dir.join("folder")), AT_REMOVEDIR)?;
    refused(sys!(libc::SYS_unlinkat, AT_FDCWD, c(dir.join("none")), 0), libc::ENOENT)?;
    fs::create_dir_all(dir.join("full/inner"))?;
    refused(sys!(libc::SYS_unlinkat, AT_FDCWD, c(dir.join("full")), AT_REMOVEDIR), libc::ENOTEMPTY)?;
    refused(sys!(libc::SYS_mkdirat, AT_FDCWD, c(dir.join("full")), 0o755), libc::EEXIST)
}

pub(crate) fn renaming(dir: &Path) -> Result<()> {
    let rename = |from: &str, to: &str, flags: u32| {
        sys!(libc::SYS_renameat2, AT_FDCWD, c(dir.join(from)), AT_FDCWD, c(dir.join(to)), flags)
    };
    fs::write(dir.join("a"), "a")?;
    fs::write(dir.join("b"), "b")?;
    fs::create_dir_all(dir.join("folder/below"))?;
    fs::create_dir(dir.join("empty"))?;
    rename("a", "c", 0)?;
    rename("c", "b", 0)?;
    rename("folder", "moved", 0)?;
    rename("moved", "empty", 0)?;
    fs::write(dir.join("x"), "x")?;
    rename("x", "b", libc::RENAME_EXCHANGE)?;
    rename("x", "empty", libc::RENAME_EXCHANGE)?;
    refused(rename("x", "b", libc::RENAME_NOREPLACE), libc::EEXIST)?;
    rename("b", "n", libc::RENAME_NOREPLACE)?;
    refused(rename("none", "other", 0), libc::ENOENT)
}

pub(crate) fn linking(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "")?;
    fs::hard_link(dir.join("file"), dir.join("hard"))?;
    symlink("file", dir.join("soft"))?;
    symlink("nowhere", dir.join("dangling"))?;
    // The link itself, and what it points to.
    sys!(libc::SYS_linkat, AT_FDCWD, c(dir.join("soft")), AT_FDCWD, c(dir.join("hard-soft")), 0)?;
    let followed = c(dir.join("hard-file"));
    sys!(libc::SYS_linkat, AT_FDCWD, c(dir.join("soft")), AT_FDCWD, followed, AT_SYMLINK_FOLLOW)?;
    ensure!(fs::read_to_string(dir.join("soft"))?.is_empty());
    ensure!(fs::read_link(dir.join("soft"))? == Path::new("file"));
    refused(fs::hard_link(dir.join("file"), dir.join("hard")), libc::EEXIST)
}

pub(crate) fn nodes(dir: &Path) -> Result<()> {
    let make = |name: &str, mode: u32, device: u64| {
        sys!(libc::SYS_mknodat, AT_FDCWD, c(dir.join(name)), mode, device)
    };
    make("fifo", libc::S_IFIFO | 0o600, 0)?;
    make("file", libc::S_IFREG | 0o600, 0)?;
    make("socket", libc::S_IFSOCK | 0o600, 0)?;
    make("null", libc::S_IFCHR | 0o600, libc::makedev(1, 3))?;
    open(dir.join("fifo"), O_RDWR, 0)?;
    refused(make("fifo", libc::S_IFIFO | 0o600, 0), libc::EEXIST)
}

pub(crate) fn truncating(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "text")?;
    sys!(libc::SYS_truncate, c(dir.join("file")), 3_u32)?;
    let file = open(dir.join("file"), O_WRONLY, 0)?;
    sys!(libc::SYS_ftruncate, file, 2_u32)?;
    sys!(libc::SYS_fallocate, file, 0, 0, 10)?;
    Ok(())
}

pub(crate) fn modes(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "")?;
    fs::create_dir(dir.join("folder"))?;
    sys!(libc::SYS_fchmodat, AT_FDCWD, c(dir.join("file")), 0o600)?;
    sys!(libc::SYS_fchmod, open(dir.join("file"), O_RDONLY, 0)?, 0o640)?;
    sys!(libc::SYS_fchmodat, AT_FDCWD, c(dir.join("folder")), 0o700)?;
    sys!(libc::SYS_fchmod, open(dir.join("folder"), O_RDONLY | O_DIRECTORY, 0)?, 0o755)?;
    Ok(())
}

pub(crate) fn owners(dir: &Path) -> Result<()> {
    for name in ["file", "other"] {
        fs::write(dir.join(name), "")?;
    }
    fs::create_dir(dir.join("folder"))?;
    symlink("file", dir.join("link"))?;
    let chown = |name: &str, owner: u32, flags: i32| {
        sys!(libc::SYS_fchownat, AT_FDCWD, c(dir.join(name)), owner, owner, flags)
    };
    chown("file", 1000, 0)?;
    chown("folder", 1000, 0)?;
    chown("link", 1000, libc::AT_SYMLINK_NOFOLLOW)?;
    sys!(libc::SYS_fchown, open(dir.join("other"), O_RDONLY, 0)?, 1000, 1000)?;
    // Another's file: its owner is not who asks.
    open(dir.join("file"), O_RDWR, 0)?;
    Ok(())
}

pub(crate) fn locks(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "text")?;
    let lock = |file: &std::os::fd::OwnedFd, command: i32, kind: i32| -> io::Result<()> {
        let kind = libc::c_short::try_from(kind).map_err(io::Error::other)?;
        let lock = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
        sys!(libc::SYS_fcntl, *file, command, &raw const lock).map(drop)
    };
    let read = open(dir.join("file"), O_RDONLY, 0)?;
    sys!(libc::SYS_flock, read, LOCK_SH)?;
    lock(&read, F_SETLK, libc::F_RDLCK)?;
    for name in ["exclusive", "written", "own", "leased"] {
        fs::write(dir.join(name), "text")?;
    }
    sys!(libc::SYS_flock, open(dir.join("exclusive"), O_RDONLY, 0)?, LOCK_EX)?;
    let write = open(dir.join("written"), O_RDWR, 0)?;
    lock(&write, F_SETLKW, libc::F_WRLCK)?;
    lock(&write, F_SETLK, F_UNLCK)?;
    lock(&open(dir.join("own"), O_RDWR, 0)?, libc::F_OFD_SETLK, libc::F_WRLCK)?;
    let leased = open(dir.join("leased"), O_RDONLY, 0)?;
    sys!(libc::SYS_fcntl, leased, F_SETLEASE, libc::F_RDLCK)?;
    sys!(libc::SYS_fcntl, leased, F_SETLEASE, F_UNLCK)?;
    // Asking whether a lock would be granted is not asking for one.
    lock(&open(dir.join("file"), O_RDONLY, 0)?, libc::F_GETLK, libc::F_RDLCK)?;
    Ok(())
}

/// Mapping a file: what of it AppArmor asks for.
pub(crate) fn mapping(dir: &Path) -> Result<()> {
    const PAGE: usize = 4096;
    let map = |name: &str, flags: i32, protection: i32, kind: i32| -> Result<libc::c_long> {
        let file = open(dir.join(name), flags, 0)?;
        Ok(sys!(libc::SYS_mmap, 0, PAGE, protection, kind, file, 0)?)
    };
    for name in ["code", "later", "data", "shared-code"] {
        fs::write(dir.join(name), [0; PAGE])?;
    }
    map("code", O_RDONLY, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE)?;
    map("shared-code", O_RDONLY, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED)?;
    map("data", O_RDWR, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)?;
    let at = map("later", O_RDONLY, libc::PROT_READ, libc::MAP_PRIVATE)?;
    sys!(libc::SYS_mprotect, at, PAGE, libc::PROT_READ | libc::PROT_EXEC)?;
    // Memory of no file.
    let none = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    sys!(libc::SYS_mmap, 0, PAGE, libc::PROT_READ | libc::PROT_EXEC, none, -1, 0)?;
    Ok(())
}

/// Memory that processes share, which has a file behind it: with a name where it is asked for by one.
pub(crate) fn sharing(_: &Path) -> Result<()> {
    const PAGE: usize = 4096;
    let (both, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    sys!(libc::SYS_mmap, 0, PAGE, both, shared | libc::MAP_ANONYMOUS, -1, 0)?;
    let memory = fd(sys!(libc::SYS_memfd_create, c("khard"), libc::MFD_CLOEXEC))?;
    sys!(libc::SYS_ftruncate, memory, PAGE)?;
    sys!(libc::SYS_mmap, 0, PAGE, both, shared, memory, 0)?;
    let zero = open("/dev/zero", O_RDWR, 0)?;
    sys!(libc::SYS_mmap, 0, PAGE, both, shared, zero, 0)?;
    let segment = sys!(libc::SYS_shmget, libc::IPC_PRIVATE, PAGE, libc::IPC_CREAT | 0o600)?;
    let attached = sys!(libc::SYS_shmat, segment, 0, 0);
    sys!(libc::SYS_shmctl, segment, libc::IPC_RMID, 0)?;
    attached?;
    Ok(())
}

/// Files that are named in other ways than by a whole path.
pub(crate) fn paths(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("deep/er"))?;
    for name in ["here", "deep/there", "deep/er/file", "handled"] {
        fs::write(dir.join(name), "")?;
    }
    symlink("deep/er", dir.join("short"))?;
    let folder = open(dir.join("deep"), O_PATH | O_DIRECTORY, 0)?;
    fd(sys!(libc::SYS_openat, folder, c("there"), O_RDONLY))?;
    fd(sys!(libc::SYS_openat, folder, c("er/../../here"), O_RDONLY))?;
    open(dir.join("short/file"), O_RDONLY, 0)?;
    let how = [u64::try_from(O_RDONLY)?, 0, 0];
    fd(sys!(libc::SYS_openat2, folder, c("er/file"), how.as_ptr(), size_of_val(&how)))?;
    child(|| {
        sys!(libc::SYS_chdir, c(dir.join("deep")))?;
        open("there", O_RDWR, 0)?;
        open("../here", O_RDWR, 0)?;
        sys!(libc::SYS_fchdir, open("er", O_RDONLY | O_DIRECTORY, 0)?)?;
        open("file", O_RDWR, 0)?;
        open("../../deep//er/./file", O_WRONLY, 0)?;
        Ok(())
    })?;
    std::thread::scope(|scope| scope.spawn(|| open(dir.join("here"), O_WRONLY | O_APPEND, 0)).join())
        .map_err(|_| anyhow::anyhow!("the thread"))??;
    by_handle(dir)
}

/// A file by its handle, which has no path in the call.
fn by_handle(dir: &Path) -> Result<()> {
    // struct file_handle: handle_bytes, handle_type, the handle.
    let mut handle = [0_u32; 34];
    handle[0] = 128;
    let (name, mut mount) = (c(dir.join("handled")), 0_i32);
    sys!(libc::SYS_name_to_handle_at, AT_FDCWD, name, handle.as_mut_ptr(), &raw mut mount, 0)?;
    let folder = open(dir, O_RDONLY | O_DIRECTORY, 0)?;
    fd(sys!(libc::SYS_open_by_handle_at, folder, handle.as_mut_ptr(), O_RDONLY))?;
    Ok(())
}

/// A file without a name, opened anew by its descriptor; and a folder that is gone.
pub(crate) fn deleted(dir: &Path) -> Result<()> {
    fs::write(dir.join("gone"), "text")?;
    let file = open(dir.join("gone"), O_RDONLY, 0)?;
    fs::remove_file(dir.join("gone"))?;
    let again = format!("/proc/self/fd/{}", file.arg());
    open(&again, O_RDWR, 0)?;
    sys!(libc::SYS_fchmod, file, 0o600)?;
    sys!(libc::SYS_truncate, c(&again), 1_u32)?;
    fs::create_dir(dir.join("gone.d"))?;
    let folder = open(dir.join("gone.d"), O_RDONLY | O_DIRECTORY, 0)?;
    fs::remove_dir(dir.join("gone.d"))?;
    open(format!("/proc/self/fd/{}", folder.arg()), O_RDONLY | O_DIRECTORY, 0)?;
    let nowhere = sys!(libc::SYS_openat, folder, c("new"), O_WRONLY | O_CREAT, 0o644);
    refused(nowhere, libc::ENOENT)
}

/// The same files under many names, and many files under the same: what a cache of paths may get wrong.
pub(crate) fn renamed_much(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("d0/sub"))?;
    fs::write(dir.join("d0/sub/file"), "")?;
    for round in 0..20 {
        let (old, new) = (dir.join(format!("d{round}")), dir.join(format!("d{}", round + 1)));
        open(old.join("sub/file"), O_RDONLY, 0)?;
        fs::rename(&old, &new)?;
        open(new.join("sub/file"), O_WRONLY, 0)?;
    }
    // Inodes that are used again by other names.
    for round in 0..20 {
        let path = dir.join(format!("again-{round}"));
        open(&path, O_WRONLY | O_CREAT, 0o644)?;
        fs::remove_file(&path)?;
    }
    fs::write(dir.join("one"), "")?;
    for number in 0..5 {
        let name = dir.join(format!("hard-{number}"));
        fs::hard_link(dir.join("one"), &name)?;
        open(&name, O_RDONLY, 0)?;
    }
    fs::remove_file(dir.join("one"))?;
    open(dir.join("hard-3"), O_RDWR, 0)?;
    Ok(())
}

/// Names that a careless writer of rules or of JSON takes for something else.
pub(crate) fn hostile(dir: &Path) -> Result<()> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    const NAMES: [&[u8]; 22] = [
        b"two\nlines",
        b"tab\tcr\r",
        b"quote\"quote'",
        b"back\\slash\\n\\052",
        b"star*",
        b"ques?tion",
        b"[a-z]",
        b"{one,two}",
        b"{one}",
        b"@{PROC}",
        b"^caret",
        b"comma,",
        b"hash#not a comment",
        b"semi;colon&pipe|",
        b"$(touch x)`y`",
        b"latin-\xe9\xff\xfe",
        "umlaut-\u{fc}-\u{1f980}".as_bytes(),
        b"\x1b[31mred\x1b[0m",
        b" leading and trailing ",
        b"etc shadow rw,",
        b"} profile evil { ",
        b"\x01\x7f%s%n",
    ];
    for name in NAMES {
        let path = dir.join(OsStr::from_bytes(name));
        fs::create_dir(&path)?;
        fs::write(path.join(OsStr::from_bytes(name)), "text")?;
        open(&path, O_RDONLY | O_DIRECTORY, 0)?;
    }
    // A path as a rule has it.
    fs::create_dir_all(dir.join("x\n  /etc"))?;
    fs::write(dir.join("x\n  /etc/shadow rw,"), "text")?;
    fs::write(dir.join("n".repeat(255)), "text")?;
    // Deep, and not long: the parser of AppArmor's rules takes time by the square of a path's length.
    let deep = dir.join(["d"; 64].join("/"));
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("file"), "text")?;
    Ok(())
}

/// What a user asks for who may not: AppArmor is asked first for some of it.
pub(crate) fn refusals(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "text")?;
    fs::create_dir(dir.join("folder"))?;
    fs::write(dir.join("secret"), "text")?;
    sys!(libc::SYS_fchmodat, AT_FDCWD, c(dir.join("secret")), 0o600)?;
    child(|| {
        become_nobody()?;
        let at = |name: &str| c(dir.join(name));
        refused(sys!(libc::SYS_unlinkat, AT_FDCWD, at("file"), 0), libc::EACCES)?;
        refused(sys!(libc::SYS_unlinkat, AT_FDCWD, at("folder"), AT_REMOVEDIR), libc::EACCES)?;
        refused(sys!(libc::SYS_mkdirat, AT_FDCWD, at("made"), 0o755), libc::EACCES)?;
        refused(sys!(libc::SYS_mknodat, AT_FDCWD, at("fifo"), libc::S_IFIFO | 0o600, 0), libc::EACCES)?;
        refused(sys!(libc::SYS_symlinkat, at("file"), AT_FDCWD, at("soft")), libc::EACCES)?;
        // EPERM before any module is asked, where fs.protected_hardlinks is set.
        ensure!(sys!(libc::SYS_linkat, AT_FDCWD, at("file"), AT_FDCWD, at("hard"), 0).is_err());
        refused(sys!(libc::SYS_renameat2, AT_FDCWD, at("file"), AT_FDCWD, at("moved"), 0), libc::EACCES)?;
        refused(sys!(libc::SYS_fchmodat, AT_FDCWD, at("file"), 0o777), libc::EPERM)?;
        refused(sys!(libc::SYS_fchownat, AT_FDCWD, at("file"), 1000, 1000, 0), libc::EPERM)?;
        refused(open(dir.join("new"), O_WRONLY | O_CREAT, 0o644), libc::EACCES)?;
        refused(open(dir.join("file"), O_WRONLY, 0), libc::EACCES)?;
        refused(open(dir.join("secret"), O_RDONLY, 0), libc::EACCES)?;
        refused(sys!(libc::SYS_truncate, at("file"), 1_u32), libc::EACCES)?;
        open(dir.join("file"), O_RDONLY, 0)?;
        Ok(())
    })
}

/// access(2) asks with the real user, who is another than the one who acts.
pub(crate) fn asking(dir: &Path) -> Result<()> {
    fs::write(dir.join("file"), "text")?;
    sys!(libc::SYS_fchmodat, AT_FDCWD, c(dir.join("file")), 0o600)?;
    let access = |mode: i32| sys!(libc::SYS_faccessat, AT_FDCWD, c(dir.join("file")), mode);
    access(libc::R_OK | libc::W_OK)?;
    child(|| {
        sys!(libc::SYS_setresuid, 65534, 0, 0)?;
        refused(access(libc::R_OK), libc::EACCES)?;
        sys!(libc::SYS_faccessat2, AT_FDCWD, c(dir.join("file")), libc::R_OK, libc::AT_EACCESS)?;
        Ok(())
    })
}

/// `nobody`, without capabilities.
pub(crate) fn become_nobody() -> Result<()> {
    sys!(libc::SYS_setgroups, 0, 0)?;
    sys!(libc::SYS_setresgid, 65534, 65534, 65534)?;
    sys!(libc::SYS_setresuid, 65534, 65534, 65534)?;
    Ok(())
}

/// The kernel's own files about processes.
pub(crate) fn proc(_: &Path) -> Result<()> {
    for path in ["/proc/self/status", "/proc/thread-self/comm", "/proc/self/task", "/proc/1/cmdline"] {
        open(path, O_RDONLY, 0)?;
    }
    for path in ["/proc/self/ns/net", "/proc/self/exe", "/proc/self/root", "/proc/self/cwd"] {
        open(path, O_RDONLY, 0)?;
    }
    open("/dev/null", O_RDWR, 0)?;
    open("/proc/self/comm", O_WRONLY, 0)?;
    // A pipe opened anew: no file system that has paths.
    let (read, _write) = crate::call::pipe()?;
    open(format!("/proc/self/fd/{}", read.arg()), O_RDONLY, 0)?;
    Ok(())
}
