//! Owns one observed access: what was asked of the kernel beside the system call itself, in AppArmor's terms, with the
//! permission that AppArmor would ask for. Knows nothing about rules.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// What was asked, how it ended, and how it is known. The key of an observation: the same access granted and refused is two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// What was asked.
    pub what: Access,
    /// How it ended.
    pub outcome: Outcome,
    /// How it is known.
    pub certainty: Certainty,
}

/// How an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The kernel did it, or at least every check that khard sees let it pass.
    Granted,
    /// The kernel was asked and refused: a file's mode, a missing capability, a profile in force. AppArmor asks before file
    /// permissions do for some operations, so that a profile without a rule logs a denial and may change the error.
    Refused,
}

/// How an access is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// From the kernel's own objects.
    Exact,
    /// From a system call's arguments: a path as it was written, with symbolic links not resolved.
    Inferred,
}

/// What was asked of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "class", rename_all = "snake_case", deny_unknown_fields)]
pub enum Access {
    /// Something of a file by its path.
    File(FileAccess),
    /// A hard link.
    Link {
        /// The new name.
        link: Bytes,
        /// The file that gets it.
        target: Bytes,
    },
    /// A capability that was needed, held and used.
    Capability {
        /// Its number (include/uapi/linux/capability.h).
        capability: u8,
        /// Asked with `CAP_OPT_NOAUDIT`: a refusal would be silent, and most programs go on without it.
        optional: bool,
    },
    /// A socket of a family and type.
    Network {
        /// `AF_…`.
        family: u16,
        /// `SOCK_…`, without flags.
        kind: u16,
    },
    /// A signal was sent.
    Signal {
        /// Its number, 0 for a mere test.
        signal: u8,
        /// To whom.
        peer: Peer,
    },
    /// Another process was looked into or traced.
    Ptrace {
        /// Only read (`PTRACE_MODE_READ`), or attached to.
        mode: PtraceMode,
        /// Whose process.
        peer: Peer,
    },
    /// mount(2), or `move_mount(2)` as a move.
    Mount {
        /// The file system's type; empty where none was given.
        fstype: Bytes,
        /// The device, or the directory that is bound or moved.
        source: Bytes,
        /// Where, with its slash.
        target: Bytes,
        /// `MS_…` (include/uapi/linux/mount.h).
        flags: u64,
    },
    /// umount(2).
    Umount {
        /// Where, with its slash.
        target: Bytes,
        /// `MNT_…`.
        flags: u64,
    },
    /// `pivot_root(2)`.
    PivotRoot {
        /// The new root, with its slash.
        new_root: Bytes,
        /// Where the old one went, with its slash.
        put_old: Bytes,
    },
    /// A user namespace was created.
    UserNamespace,
    /// `io_uring` with a kernel thread that polls, or with another's credentials.
    IoUring {
        /// Which of the two.
        op: IoUringOp,
    },
}

/// One operation on a file by its path, as AppArmor mediates it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAccess {
    /// AppArmor's view of the path: from the mount namespace's root, directories with their slash.
    pub path: Bytes,
    /// What was done.
    pub op: FileOp,
    /// What AppArmor would ask for.
    pub perms: FilePerms,
    /// What is known besides.
    #[serde(default, skip_serializing_if = "FileFacts::is_empty")]
    pub facts: FileFacts,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// An operation on a file, by AppArmor's own name where it has one (security/apparmor/include/audit.h).
    FileOp {
        /// open(2) and what opens inside the kernel.
        Open = "open",
        /// mknod(2), bind(2) to a path, open(2) that creates.
        Create = "mknod",
        /// mkdir(2).
        Mkdir = "mkdir",
        /// rmdir(2).
        Rmdir = "rmdir",
        /// unlink(2).
        Unlink = "unlink",
        /// symlink(2): the new name.
        Symlink = "symlink",
        /// rename(2): the old name.
        RenameFrom = "rename_src",
        /// rename(2): the new name.
        RenameTo = "rename_dest",
        /// truncate(2), ftruncate(2), `O_TRUNC`.
        Truncate = "truncate",
        /// chmod(2).
        Chmod = "chmod",
        /// chown(2).
        Chown = "chown",
        /// flock(2), `F_SETLK`, leases.
        Lock = "file_lock",
        /// mmap(2) with `PROT_EXEC`.
        Mmap = "file_mmap",
        /// mprotect(2) with `PROT_EXEC`.
        Mprotect = "file_mprotect",
        /// execve(2): the file that was named.
        Exec = "exec",
        /// A descriptor that came over a socket.
        Receive = "file_receive",
        /// connect(2) to a socket's path.
        Connect = "connect",
        /// A datagram to a socket's path.
        Send = "sendmsg",
    }
}

named! {
    /// How deep another process was looked into.
    PtraceMode {
        /// `PTRACE_MODE_READ`.
        Read = "read",
        /// `PTRACE_MODE_ATTACH`.
        Trace = "trace",
    }
}

named! {
    /// What of `io_uring` AppArmor mediates.
    IoUringOp {
        /// `IORING_SETUP_SQPOLL`.
        SqPoll = "sqpoll",
        /// A registered personality was used.
        OverrideCreds = "override_creds",
    }
}

/// Who is on the other side of a signal or a trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "who", rename_all = "snake_case", deny_unknown_fields)]
pub enum Peer {
    /// A process of the same subject: under the same profile.
    Inside,
    /// Any other.
    Outside {
        /// Its AppArmor label, without the mode; `None` if it could not be read in time.
        label: Option<Bytes>,
    },
}

/// AppArmor's file permissions, a bit each. The text form is AppArmor's letters.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePerms(u16);

impl FilePerms {
    /// No permission.
    pub const EMPTY: Self = Self(0);
    /// `x`.
    pub const EXEC: Self = Self(1 << 0);
    /// `w`: also truncation, modes and owners, which old policy grants by the same letter.
    pub const WRITE: Self = Self(1 << 1);
    /// `r`.
    pub const READ: Self = Self(1 << 2);
    /// `a`.
    pub const APPEND: Self = Self(1 << 3);
    /// `c`: granted by `w`.
    pub const CREATE: Self = Self(1 << 4);
    /// `d`: granted by `w`.
    pub const DELETE: Self = Self(1 << 5);
    /// `k`.
    pub const LOCK: Self = Self(1 << 6);
    /// `m`.
    pub const MMAP_EXEC: Self = Self(1 << 7);

    /// The letters by bit.
    const LETTERS: [char; 8] = ['x', 'w', 'r', 'a', 'c', 'd', 'k', 'm'];

    /// The set in a number; `None` if a bit is set that means nothing.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits >> Self::LETTERS.len() == 0 { Some(Self(bits)) } else { None }
    }

    /// As a number.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// True if no permission is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if every permission of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for FilePerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = Self::LETTERS.iter().enumerate().filter(|(bit, _)| self.0 & 1 << bit != 0);
        letters.map(|(_, letter)| letter).collect::<String>().fmt(f)
    }
}

impl fmt::Debug for FilePerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A text that is no set of permissions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad file permissions {0:?}: expected letters out of xwracdkm, each once")]
pub struct BadFilePerms(pub String);

impl std::str::FromStr for FilePerms {
    type Err = BadFilePerms;

    fn from_str(text: &str) -> Result<Self, BadFilePerms> {
        text.chars().try_fold(Self::EMPTY, |perms, letter| {
            let bit = Self::LETTERS.iter().position(|known| *known == letter).map(|bit| Self(1 << bit));
            match bit {
                Some(bit) if !perms.contains(bit) => Ok(perms.or(bit)),
                _ => Err(BadFilePerms(text.to_owned())),
            }
        })
    }
}

impl Serialize for FilePerms {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FilePerms {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is known of a file access besides its path.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any of them can hold with any other"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileFacts {
    /// The task's fsuid is the file's owner.
    #[serde(skip_serializing_if = "is_false")]
    pub owner: bool,
    /// Opened with `O_CREAT` and `O_EXCL`: a name that its maker chose to be new.
    #[serde(skip_serializing_if = "is_false")]
    pub exclusive: bool,
    /// The file had no name any more: AppArmor asks for the old one, with the flag `mediate_deleted`.
    #[serde(skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// Not below the mount namespace's root: needs the flag `attach_disconnected`.
    #[serde(skip_serializing_if = "is_false")]
    pub disconnected: bool,
}

impl FileFacts {
    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(fact: &bool) -> bool {
    !fact
}

impl Access {
    /// Which class its coverage stands under.
    pub const fn class(&self) -> Class {
        match self {
            Self::File(file) => match file.op {
                FileOp::Exec => Class::Exec,
                FileOp::Mmap | FileOp::Mprotect => Class::MappedCode,
                FileOp::Receive => Class::Received,
                FileOp::Connect | FileOp::Send => Class::UnixSockets,
                _ => Class::Files,
            },
            Self::Link { .. } => Class::Files,
            Self::Capability { .. } => Class::Capabilities,
            Self::Network { .. } => Class::Network,
            Self::Signal { .. } => Class::Signals,
            Self::Ptrace { .. } => Class::Ptrace,
            Self::Mount { .. } | Self::Umount { .. } | Self::PivotRoot { .. } => Class::Mounts,
            Self::UserNamespace => Class::UserNamespaces,
            Self::IoUring { .. } => Class::IoUring,
        }
    }
}

named! {
    /// The classes of accesses that coverage is kept for.
    Class {
        /// Opening, creating, removing, renaming, changing and locking files.
        Files = "files",
        /// Programs that were started.
        Exec = "exec",
        /// Files that were mapped executable.
        MappedCode = "mapped_code",
        /// Descriptors that came over sockets.
        Received = "received",
        /// Capabilities.
        Capabilities = "capabilities",
        /// Socket families and types.
        Network = "network",
        /// Unix sockets with a path.
        UnixSockets = "unix_sockets",
        /// Signals.
        Signals = "signals",
        /// ptrace and what reads other processes.
        Ptrace = "ptrace",
        /// Mounts.
        Mounts = "mounts",
        /// User namespaces.
        UserNamespaces = "user_namespaces",
        /// `io_uring`.
        IoUring = "io_uring",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_letters() {
        let perms = FilePerms::READ.or(FilePerms::WRITE).or(FilePerms::MMAP_EXEC);
        assert_eq!(perms.to_string(), "wrm");
        assert_eq!("rwm".parse(), Ok(perms));
        assert!("rr".parse::<FilePerms>().is_err() && "z".parse::<FilePerms>().is_err());
        assert_eq!(FilePerms::from_bits(1 << 8), None);
    }

    #[test]
    fn the_json_form_names_the_class_and_leaves_out_what_is_not_so() {
        let what = Access::File(FileAccess {
            path: Bytes::from("/etc/passwd"),
            op: FileOp::Open,
            perms: FilePerms::READ,
            facts: FileFacts { owner: true, ..FileFacts::default() },
        });
        let key = AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact };
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(
            text,
            r#"{"what":{"class":"file","path":"/etc/passwd","op":"open","perms":"r","facts":{"owner":true}},"outcome":"granted","certainty":"exact"}"#
        );
        assert_eq!(serde_json::from_str::<AccessKey>(&text).unwrap(), key);
        assert!(serde_json::from_str::<AccessKey>(&text.replace("\"op\"", "\"x\"")).is_err());
    }
}
