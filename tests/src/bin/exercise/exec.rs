//! Starting programs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Result;
use libc::{AT_EMPTY_PATH, AT_FDCWD, O_CLOEXEC, O_DIRECTORY, O_PATH, O_RDONLY};

use crate::call::{c, child, exec, exec_here, fd, open, refused, sys};

/// A program that does nothing.
const TRUE: &str = "/usr/bin/true";

fn executable(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

pub(crate) fn programs(dir: &Path) -> Result<()> {
    exec(TRUE)?;
    executable(&dir.join("copy"), fs::read(TRUE)?)?;
    exec(dir.join("copy"))?;
    std::os::unix::fs::symlink("copy", dir.join("soft"))?;
    exec(dir.join("soft"))?;
    child(|| {
        let folder = open(dir, O_PATH | O_DIRECTORY, 0)?;
        exec_here(&folder, &c("copy"), 0)
    })?;
    // From another thread than the first: it takes the first one's id.
    child(|| {
        let copy = c(dir.join("copy"));
        let ended = std::thread::scope(|scope| scope.spawn(|| exec_here(&AT_FDCWD, &copy, 0)).join());
        ended.map_err(|_| anyhow::anyhow!("the thread"))?
    })
}

pub(crate) fn scripts(dir: &Path) -> Result<()> {
    executable(&dir.join("script"), "#!/bin/sh\n:\n")?;
    exec(dir.join("script"))?;
    executable(&dir.join("nested"), format!("#!{}\n", dir.join("script").display()))?;
    exec(dir.join("nested"))?;
    executable(&dir.join("with-argument"), "#!/usr/bin/env sh\n:\n")?;
    exec(dir.join("with-argument"))
}

/// Programs without a path.
pub(crate) fn nameless(dir: &Path) -> Result<()> {
    let content = fs::read(TRUE)?;
    child(|| {
        let memory = fd(sys!(libc::SYS_memfd_create, c("khard"), libc::MFD_CLOEXEC))?;
        sys!(libc::SYS_write, memory, content.as_ptr(), content.len())?;
        exec_here(&memory, &c(""), AT_EMPTY_PATH)
    })?;
    child(|| {
        executable(&dir.join("gone"), &content)?;
        let file = open(dir.join("gone"), O_RDONLY | O_CLOEXEC, 0)?;
        fs::remove_file(dir.join("gone"))?;
        exec_here(&file, &c(""), AT_EMPTY_PATH)
    })
}

/// The dynamic linker as a command.
pub(crate) fn linker(_: &Path) -> Result<()> {
    child(|| {
        let linker = c("/lib64/ld-linux-x86-64.so.2");
        let program = c(TRUE);
        let arguments = [linker.as_ptr(), program.as_ptr(), std::ptr::null()];
        let environment = [std::ptr::null::<libc::c_char>()];
        sys!(libc::SYS_execve, linker, arguments.as_ptr(), environment.as_ptr())?;
        Ok(())
    })
}

pub(crate) fn refusals(dir: &Path) -> Result<()> {
    let start = |path: &Path| {
        let none = [std::ptr::null::<libc::c_char>()];
        sys!(libc::SYS_execve, c(path), none.as_ptr(), none.as_ptr())
    };
    fs::write(dir.join("plain"), "text")?;
    executable(&dir.join("garbage"), "no program")?;
    executable(&dir.join("lost"), "#!/no/such/interpreter\n")?;
    refused(start(&dir.join("plain")), libc::EACCES)?;
    refused(start(&dir.join("none")), libc::ENOENT)?;
    refused(start(&dir.join("garbage")), libc::ENOEXEC)?;
    refused(start(&dir.join("lost")), libc::ENOENT)?;
    refused(start(dir), libc::EACCES)
}
