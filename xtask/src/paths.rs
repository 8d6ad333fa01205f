//! Where things are: owns the folders that xtask reads and writes, and nothing in them.

use std::{
    env,
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::interrupt;

/// The folders of this checkout.
pub(crate) struct Paths {
    /// The workspace's root.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// What xtask keeps between runs (downloads, kernels, root file systems, images, logs): `target/xtask`, or
    /// `KHARD_STATE`. Deleting it costs only time.
    pub state: PathBuf,
}

impl Paths {
    /// From the environment and from where xtask was compiled.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask's folder has no parent")?
            .canonicalize()
            .context("the workspace has moved since xtask was built; run it through cargo")?;
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let state = match env::var_os("KHARD_STATE") {
            Some(dir) => std::path::absolute(dir)?,
            None => target.join("xtask"),
        };
        fs::create_dir_all(&state).with_context(|| format!("cannot create {}", state.display()))?;
        Ok(Self { root, target, state })
    }

    /// A folder in the state folder, created if needed.
    pub(crate) fn state_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.state.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    }

    /// Waits until no other xtask holds the lock `name`, then holds it until the guard is dropped.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.state.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut told = false;
        loop {
            // SAFETY: flock has no memory effects; the descriptor is open.
            if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return Ok(Lock { _file: file });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
            if !told {
                eprintln!("xtask: waiting for another xtask ({name})");
                told = true;
            }
            interrupt::check()?;
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Held while something that other runs of xtask share is being made.
pub(crate) struct Lock {
    _file: File,
}
