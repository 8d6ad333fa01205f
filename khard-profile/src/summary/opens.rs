//! Owns the list of grants of AppArmor's that a reader should know of, each with its reason in one line. An opinion, kept in one
//! place. It knows no rules: whoever has one says what it is about.

use crate::apparmor::words;
use crate::recording::{Access, FilePerms, PtraceMode};

/// What is granted, as far as a reader's interest goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Grant<'a> {
    /// By number.
    Capability(u8),
    /// `None` is any.
    Network {
        family: Option<u16>,
        kind: Option<u16>,
    },
    /// Other processes, and whether more than reading.
    Ptrace {
        traces: bool,
    },
    /// Mounts, and whether with whatever flags.
    Mount {
        any_flags: bool,
    },
    Umount,
    PivotRoot,
    UserNamespace,
    IoUring,
    /// Paths that begin with `prefix`; `path` is the whole, as far as its end is known.
    File {
        prefix: &'a [u8],
        path: &'a [u8],
        perms: FilePerms,
    },
}

impl<'a> Grant<'a> {
    /// What an access is granted by.
    pub(crate) fn of(access: &'a Access) -> Option<Self> {
        Some(match access {
            Access::File(file) => {
                let path = file.path.as_slice();
                let made = file.perms.contains(FilePerms::CREATE) || file.perms.contains(FilePerms::DELETE);
                // Rules grant these by `w`.
                let perms = if made { file.perms.or(FilePerms::WRITE) } else { file.perms };
                Self::File { prefix: path, path, perms }
            }
            Access::Capability { capability, .. } => Self::Capability(*capability),
            Access::Network { family, kind } => Self::Network { family: Some(*family), kind: Some(*kind) },
            Access::Ptrace { mode, .. } => Self::Ptrace { traces: *mode == PtraceMode::Trace },
            Access::Mount { .. } => Self::Mount { any_flags: false },
            Access::Umount { .. } => Self::Umount,
            Access::PivotRoot { .. } => Self::PivotRoot,
            Access::UserNamespace => Self::UserNamespace,
            Access::IoUring { .. } => Self::IoUring,
            Access::Signal { .. } | Access::Link { .. } => return None,
        })
    }
}

/// Capabilities that reach beyond the container's own files and processes.
const CAPABILITIES: [(&str, &str); 20] = [
    ("sys_admin", "mounts, namespaces and much of the kernel's administration"),
    ("sys_module", "loads kernel modules"),
    ("sys_rawio", "reaches hardware ports and memory"),
    ("sys_ptrace", "controls other processes"),
    ("sys_boot", "stops the machine, or starts another kernel"),
    ("sys_time", "sets the machine's clock"),
    ("sys_chroot", "changes the root; an old way out of one"),
    ("bpf", "loads programs into the kernel"),
    ("perfmon", "watches the whole machine"),
    ("net_admin", "changes interfaces, routes and packet filters"),
    ("net_raw", "forges packets"),
    ("dac_override", "passes by file modes"),
    ("dac_read_search", "reads files without regard to modes, and opens them past the container's mounts"),
    ("mknod", "makes device nodes"),
    ("setfcap", "gives files capabilities"),
    ("mac_admin", "changes AppArmor's own profiles"),
    ("mac_override", "passes by mandatory access control"),
    ("syslog", "reads the kernel's log, and with it addresses"),
    ("linux_immutable", "changes files that are marked as immutable"),
    ("checkpoint_restore", "sets process ids, and reads memory of other processes"),
];

/// Where writing reaches beyond a program's own data. The first that fits.
const WRITTEN: [(&str, &str); 9] = [
    ("/proc/sys/", "changes settings of the kernel"),
    ("/proc/", "changes the kernel's state"),
    ("/sys/fs/cgroup/", "changes control groups, its own limits among them"),
    ("/sys/", "changes devices and settings of the kernel"),
    ("/etc/", "changes the configuration of what runs in the container"),
    ("/boot/", "changes what the machine starts"),
    ("/lib/modules/", "changes what the kernel loads"),
    ("/run/containerd/", "may reach the runtime's socket, which is as good as root on the node"),
    ("/root/.ssh/", "changes who may log in"),
];

/// Paths of which even reading or connecting matters, by their end.
const SECRET: [(&str, &str); 5] = [
    ("/docker.sock", "reaches the runtime's socket, which is as good as root on the node"),
    ("/containerd.sock", "reaches the runtime's socket, which is as good as root on the node"),
    ("/crio.sock", "reaches the runtime's socket, which is as good as root on the node"),
    ("/shadow", "reads hashes of passwords"),
    ("/token", "may read a service account's token, with which the API server can be asked"),
];

/// Why a reader should know of a grant.
pub(crate) fn risk(grant: Grant<'_>) -> Option<&'static str> {
    let named = |list: &'static [(&str, &str)], name: &str| {
        list.iter().find(|(known, _)| *known == name).map(|(_, risk)| *risk)
    };
    match grant {
        Grant::Capability(number) => named(&CAPABILITIES, words::capability(number)?),
        Grant::Network { family: None, .. } => {
            Some("sockets of every family, those that read and forge packets among them")
        }
        Grant::Network { family: Some(family), kind } => {
            let raw = kind.is_none_or(|kind| words::kind(kind) == Some("raw"));
            match words::family(family)? {
                "packet" => Some("reads and forges packets of the whole network namespace"),
                "alg" => Some("the kernel's cryptography; past holes"),
                "vsock" => Some("reaches the hypervisor and other guests"),
                "inet" | "inet6" if raw => Some("forges packets"),
                _ => None,
            }
        }
        Grant::Ptrace { traces } => traces.then_some("controls other processes"),
        Grant::Mount { any_flags: true } => Some("mounts with any flags"),
        Grant::Mount { any_flags: false } => Some("mounts file systems"),
        Grant::Umount => Some("uncovers what a mount hides"),
        Grant::PivotRoot => Some("changes the root of the mount tree"),
        Grant::UserNamespace => Some("makes user namespaces, which open much of the kernel"),
        Grant::IoUring => Some("a second way to do calls, which no seccomp filter sees"),
        Grant::File { prefix, path, perms } => {
            let secret = SECRET.iter().find(|(end, _)| path.ends_with(end.as_bytes())).map(|(_, risk)| *risk);
            let written = WRITTEN.iter().find(|(start, _)| prefix.starts_with(start.as_bytes()));
            let written = written.filter(|_| perms.contains(FilePerms::WRITE)).map(|(_, risk)| *risk);
            let both = perms.contains(FilePerms::WRITE.or(FilePerms::EXEC));
            secret.or(written).or_else(|| both.then_some("can be changed, and then be executed"))
        }
    }
}
