//! Owns the seccomp profile as the OCI runtime specification has it. Knows nothing about how one comes about.
//!
//! Only what is written: plain `LinuxSeccomp`, which runc, crun, containerd, Docker and Podman all take. Docker's
//! `includes`, `excludes` and `archMap` are dropped by containerd without a word, so none is ever written.

use std::fmt;

use serde::Serialize;

use crate::recording::Abi;

/// `LinuxSeccomp` of the OCI runtime specification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccomp {
    /// For calls that no rule names.
    pub default_action: Action,
    /// The errno of the default action.
    pub default_errno_ret: u32,
    /// The ABIs from which calls are let in. Every rule applies to each of them.
    pub architectures: Vec<Arch>,
    /// The rules.
    pub syscalls: Vec<Rule>,
}

impl LinuxSeccomp {
    /// The profile as a file: indented, one name a line, the same bytes for the same profile.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }
}

/// One entry of `syscalls`: any number of names, one action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The calls, sorted.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// Only for [`Action::Errno`]: crun refuses a profile that has it elsewhere (1.8.1, src/libcrun/seccomp.c).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
}

/// What a filter does to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Action {
    /// The call is made.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// The call is made and logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// The call is not made and returns an errno.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// A tracer decides; without one the call returns ENOSYS.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// A supervisor decides.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
    /// The thread gets SIGSYS.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// The thread is killed.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// The process is killed.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
}

/// The ABIs that khard can record, as libseccomp calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Arch {
    /// [`Abi::X86_64`].
    #[serde(rename = "SCMP_ARCH_X86_64")]
    X86_64,
    /// [`Abi::Ia32`].
    #[serde(rename = "SCMP_ARCH_X86")]
    X86,
    /// [`Abi::X32`].
    #[serde(rename = "SCMP_ARCH_X32")]
    X32,
    /// [`Abi::Aarch64`].
    #[serde(rename = "SCMP_ARCH_AARCH64")]
    Aarch64,
}

impl From<Abi> for Arch {
    fn from(abi: Abi) -> Self {
        match abi {
            Abi::X86_64 => Self::X86_64,
            Abi::Ia32 => Self::X86,
            Abi::X32 => Self::X32,
            Abi::Aarch64 => Self::Aarch64,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
        })
    }
}
