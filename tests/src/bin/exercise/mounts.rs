//! Mounts, each in a mount namespace of its own that ends with the step.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use libc::{
    AT_FDCWD, MNT_DETACH, MS_BIND, MS_MOVE, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT,
    O_CREAT, O_RDONLY, O_RDWR, O_WRONLY,
};

use crate::call::{Arg, c, child, fd, open, refused, sys};

fn mount(source: &str, target: &Path, kind: &str, flags: u64, data: &str) -> Result<()> {
    let (source, target, kind, data) = (c(source), c(target), c(kind), c(data));
    sys!(libc::SYS_mount, source, target, kind, flags, data)?;
    Ok(())
}

/// A child in a mount namespace whose mounts reach nobody else.
fn apart(run: impl FnOnce() -> Result<()>) -> Result<()> {
    child(|| {
        sys!(libc::SYS_unshare, libc::CLONE_NEWNS)?;
        mount("none", Path::new("/"), "", MS_REC | MS_PRIVATE, "")?;
        run()
    })
}

fn folders(dir: &Path, names: &[&str]) -> Result<()> {
    Ok(names.iter().try_for_each(|name| fs::create_dir(dir.join(name)))?)
}

pub(crate) fn mounting(dir: &Path) -> Result<()> {
    folders(dir, &["tmpfs", "bind", "moved", "lazy"])?;
    fs::write(dir.join("file"), "")?;
    fs::write(dir.join("onto"), "")?;
    apart(|| {
        let at = |name: &str| dir.join(name);
        let folder = at("tmpfs").display().to_string();
        mount("khard", &at("tmpfs"), "tmpfs", MS_NOSUID | MS_NODEV, "size=1m")?;
        open(at("tmpfs/new"), O_WRONLY | O_CREAT, 0o644)?;
        mount(&folder, &at("bind"), "", MS_BIND, "")?;
        open(at("bind/new"), O_RDONLY, 0)?;
        mount("", &at("bind"), "", MS_REMOUNT | MS_BIND | MS_RDONLY, "")?;
        mount("khard", &at("tmpfs"), "tmpfs", MS_REMOUNT | MS_NOSUID, "size=2m")?;
        mount(&at("bind").display().to_string(), &at("moved"), "", MS_MOVE, "")?;
        mount(&at("file").display().to_string(), &at("onto"), "", MS_BIND, "")?;
        open(at("onto"), O_RDONLY, 0)?;
        sys!(libc::SYS_umount2, c(at("onto")), 0)?;
        sys!(libc::SYS_umount2, c(at("moved")), 0)?;
        mount("khard", &at("lazy"), "tmpfs", 0, "")?;
        let kept = open(at("lazy/kept"), O_RDWR | O_CREAT, 0o644)?;
        sys!(libc::SYS_umount2, c(at("lazy")), MNT_DETACH)?;
        // Its mount is nobody's any more.
        open(format!("/proc/self/fd/{}", kept.arg()), O_RDONLY, 0)?;
        Ok(())
    })?;
    child(|| {
        crate::files::become_nobody()?;
        let failed = mount("khard", &dir.join("tmpfs"), "tmpfs", 0, "");
        ensure!(failed.is_err());
        Ok(())
    })
}

/// The calls by which a mount is made before it has a place.
pub(crate) fn new_calls(dir: &Path) -> Result<()> {
    const OPEN_TREE_CLONE: u32 = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    folders(dir, &["from", "clone", "made", "again"])?;
    apart(|| {
        let at = |name: &str| c(dir.join(name));
        let tree = fd(sys!(libc::SYS_open_tree, AT_FDCWD, at("from"), OPEN_TREE_CLONE))?;
        sys!(libc::SYS_move_mount, tree, c(""), AT_FDCWD, at("clone"), MOVE_MOUNT_F_EMPTY_PATH)?;
        let context = fd(sys!(libc::SYS_fsopen, c("tmpfs"), 0))?;
        sys!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0)?;
        let made = fd(sys!(libc::SYS_fsmount, context, 0, 0))?;
        fd(sys!(libc::SYS_openat, made, c("early"), O_WRONLY | O_CREAT, 0o644))?;
        sys!(libc::SYS_move_mount, made, c(""), AT_FDCWD, at("made"), MOVE_MOUNT_F_EMPTY_PATH)?;
        open(dir.join("made/early"), O_RDONLY, 0)?;
        sys!(libc::SYS_move_mount, AT_FDCWD, at("made"), AT_FDCWD, at("again"), 0)?;
        Ok(())
    })
}

/// Another root for the namespace: paths begin there from now on.
pub(crate) fn pivoting(dir: &Path) -> Result<()> {
    folders(dir, &["root"])?;
    apart(|| {
        let root = dir.join("root");
        mount("khard", &root, "tmpfs", 0, "")?;
        folders(&root, &["old"])?;
        fs::write(root.join("inside"), "")?;
        let outside = open(dir, O_RDONLY, 0)?;
        sys!(libc::SYS_chdir, c(&root))?;
        sys!(libc::SYS_pivot_root, c("."), c("old"))?;
        sys!(libc::SYS_chdir, c("/"))?;
        open("/inside", O_RDWR, 0)?;
        open(Path::new("/old").join(dir.strip_prefix("/")?), O_RDONLY, 0)?;
        sys!(libc::SYS_umount2, c("/old"), MNT_DETACH)?;
        // Not below the root any more.
        fd(sys!(libc::SYS_openat, outside, c("root"), O_RDONLY))?;
        Ok(())
    })
}

pub(crate) fn changing_root(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir.join("root/etc"))?;
    fs::write(dir.join("root/etc/conf"), "text")?;
    child(|| {
        sys!(libc::SYS_chroot, c(dir.join("root")))?;
        sys!(libc::SYS_chdir, c("/"))?;
        open("/etc/conf", O_RDWR, 0)?;
        open("/etc/new", O_WRONLY | O_CREAT, 0o644)?;
        refused(open("/usr/bin/true", O_RDONLY, 0), libc::ENOENT)
    })
}

/// A file system over others, whose own opens of files below are the kernel's.
pub(crate) fn overlay(dir: &Path) -> Result<()> {
    apart(|| {
        // Not every file system can be an upper layer: one of our own.
        mount("khard", dir, "tmpfs", 0, "")?;
        folders(dir, &["lower", "upper", "work", "merged", "lower/folder"])?;
        for name in ["read", "written", "removed", "renamed", "changed", "folder/below"] {
            fs::write(dir.join("lower").join(name), "text")?;
        }
        let at = |name: &str| dir.join(name).display().to_string();
        let data = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        mount("khard", &dir.join("merged"), "overlay", 0, &data)?;
        let merged = dir.join("merged");
        open(merged.join("read"), O_RDONLY, 0)?;
        open(merged.join("written"), O_RDWR, 0)?;
        open(merged.join("folder/new"), O_WRONLY | O_CREAT, 0o644)?;
        fs::remove_file(merged.join("removed"))?;
        fs::rename(merged.join("renamed"), merged.join("name"))?;
        sys!(libc::SYS_fchmodat, AT_FDCWD, c(merged.join("changed")), 0o600)?;
        fs::read_dir(&merged)?.try_for_each(|entry| entry.map(drop))?;
        let gone = open(merged.join("written"), O_RDONLY, 0)?;
        fs::remove_file(merged.join("written"))?;
        open(format!("/proc/self/fd/{}", gone.arg()), O_RDONLY, 0)?;
        Ok(())
    })
}
