//! Containers without a registry and without touching the machine's own containerd: images made here, and a containerd of
//! xtask's own.

pub(crate) mod config;
pub(crate) mod containerd;
pub(crate) mod images;
pub(crate) mod processes;
