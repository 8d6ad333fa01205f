//! Where things are on a node: the one list of paths of this module, so that the file system of an image, or of a test, can take
//! the place of the machine's own.

use std::path::{Path, PathBuf};

use super::{NodeError, parser::Parser};
use crate::{
    doctor::kubelet::{KNOWN_ROOTS, KubeletFacts},
    output::compile,
};

/// Paths.
#[derive(Clone, Debug)]
pub struct Places {
    /// The root of the file system, which all others are below but kubelets' in namespaces of their own.
    pub root: PathBuf,
    /// Profiles that AppArmor loads at boot.
    pub profiles: PathBuf,
    /// What khard keeps for itself: the ledger, and profiles where those of AppArmor cannot be written.
    pub state: PathBuf,
    /// Where kubelets look for seccomp profiles.
    pub seccomp: Vec<PathBuf>,
    /// The running kernel; `None`: an image, in which nothing runs.
    pub kernel: Option<KernelPlaces>,
    /// AppArmor's parser.
    pub parser: Option<Parser>,
}

/// The running kernel's file systems.
#[derive(Clone, Debug)]
pub struct KernelPlaces {
    /// AppArmor's folder in securityfs.
    pub apparmor: PathBuf,
    /// Whether AppArmor is on.
    pub enabled: PathBuf,
    /// Processes.
    pub proc: PathBuf,
}

impl Places {
    /// This machine's.
    pub fn here() -> Self {
        let kubelets = KubeletFacts::gather();
        let running = kubelets.iter().any(|kubelet| kubelet.pid.is_some());
        let mut seccomp: Vec<_> = kubelets
            .into_iter()
            .filter(|kubelet| !running || kubelet.pid.is_some())
            .map(|kubelet| kubelet.seccomp_root)
            .collect();
        seccomp.sort();
        seccomp.dedup();
        Self { seccomp, ..Self::at(Path::new("/"), compile::find()) }
    }

    /// Those of an image's file system, from which a node will boot.
    ///
    /// # Errors
    /// When it is not there: a mistyped root would become a new folder.
    pub fn of_image(root: &Path) -> Result<Self, NodeError> {
        if !root.is_dir() {
            return Err(NodeError::NoRoot(root.to_owned()));
        }
        let kubelets = KNOWN_ROOTS.iter().map(|known| below(root, Path::new(known)));
        let seccomp = kubelets.filter(|dir| dir.is_dir()).map(|dir| dir.join("seccomp")).collect();
        Ok(Self { seccomp, kernel: None, ..Self::at(root, compile::find()) })
    }

    /// Those below a root, with its kernel, and no kubelet.
    pub(super) fn at(root: &Path, parser: Option<&Path>) -> Self {
        let root_of = |path: &str| below(root, Path::new(path));
        let profiles = root_of("/etc/apparmor.d");
        // Included files are the image's own.
        let base = (root != Path::new("/")).then(|| profiles.clone()).filter(|dir| dir.join("abi").is_dir());
        Self {
            parser: parser.map(|program| Parser { program: program.to_owned(), base }),
            profiles,
            state: root_of("/var/lib/khard"),
            seccomp: Vec::new(),
            kernel: Some(KernelPlaces {
                apparmor: root_of("/sys/kernel/security/apparmor"),
                enabled: root_of("/sys/module/apparmor/parameters/enabled"),
                proc: root_of("/proc"),
            }),
            root: root.to_owned(),
        }
    }

    /// A path as a user names it: in an image, a relative one is taken from its root.
    pub(super) fn named(&self, path: &Path) -> PathBuf {
        let here = self.kernel.is_some().then(|| std::path::absolute(path).ok()).flatten();
        self.below_root(here.as_deref().unwrap_or(path))
    }

    /// An absolute path below the root.
    pub fn below_root(&self, path: &Path) -> PathBuf {
        below(&self.root, path)
    }

    /// A path as whoever boots from the root will see it.
    pub(super) fn as_booted(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).map_or_else(|_| path.to_owned(), |path| Path::new("/").join(path))
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
