//! Accesses as they come from the ring: decoding, and joining of paths. Knows no map and no rule.

use khard_common::{
    access::{AccessRecord, Op, PARTS, decode, flag},
    limits::EXE_BYTES,
    record::until_nul,
};
use khard_profile::{
    Bytes,
    recording::{
        Access, AccessKey, AppArmorInForce, Certainty, FileAccess, FileFacts, FileOp, FilePerms, IoUringOp,
        Outcome, Peer, PtraceMode,
    },
};

use super::resolve::Root;
use crate::{
    confinement,
    stream::{By, Stage},
};

/// One access as it was sent.
pub(super) struct Arrived {
    /// What it is.
    pub(super) key: AccessKey,
    /// When in the subject's life.
    pub(super) stage: Stage,
    /// Who.
    pub(super) by: By,
}

/// What a sample says.
pub(super) enum Told {
    /// Something was asked. `pending`: it may fail yet, and this is how its success will name it.
    Asked { access: Arrived, pending: Option<u64> },
    /// What was asked by that name was done.
    Done { hash: u64, stage: Stage, by: By },
}

/// What a sample says of whom it is about, before anything else is looked at.
pub(super) struct Sample<'a> {
    /// The record.
    pub(super) record: AccessRecord,
    parts: [&'a [u8]; PARTS],
}

impl<'a> Sample<'a> {
    /// `None`: khard does not know its form.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes).map(|(record, parts)| Self { record, parts })
    }

    /// What it says; `None` where the kernel could not read the path: such records are counted there.
    /// `root`: where paths begin that are mere strings.
    pub(super) fn into_told(self, root: &mut Root) -> Option<Told> {
        let record = &self.record;
        let stage = Stage::from_mask(record.phase)?;
        if record.op == Op::Done as u8 {
            return Some(Told::Done { hash: record.args[0], stage, by: self.by() });
        }
        if self.has(flag::FAULT | flag::TOO_LONG) {
            return None;
        }
        let is_mount = record.op == Op::Mount as u8;
        if self.has(flag::RELATIVE) || is_mount {
            root.learn(record.tgid);
        }
        let what = self.what(root)?;
        let outcome =
            if self.has(flag::REFUSED | flag::PENDING) { Outcome::Refused } else { Outcome::Granted };
        let inferred = self.has(flag::INFERRED) || is_mount && self.mounts_by_string();
        let certainty = if inferred { Certainty::Inferred } else { Certainty::Exact };
        let access = Arrived { key: AccessKey { what, outcome, certainty }, stage, by: self.by() };
        Some(Told::Asked { access, pending: self.has(flag::PENDING).then_some(record.hash) })
    }

    fn by(&self) -> By {
        let record = &self.record;
        let exe = &record.exe[..(record.exe_len as usize).min(EXE_BYTES)];
        By {
            time_ns: record.time_ns,
            tgid: record.tgid,
            tid: record.tid,
            comm: until_nul(&record.comm).into(),
            exe: until_nul(exe).into(),
        }
    }

    fn has(&self, flags: u32) -> bool {
        self.record.flags & flags != 0
    }

    fn what(&self, root: &Root) -> Option<Access> {
        let args = self.record.args;
        let file = |op| self.file(op, root);
        Some(match Op::from_number(self.record.op)? {
            Op::Open => file(FileOp::Open)?,
            Op::Create => file(FileOp::Create)?,
            Op::Mkdir => file(FileOp::Mkdir)?,
            Op::Rmdir => file(FileOp::Rmdir)?,
            Op::Unlink => file(FileOp::Unlink)?,
            Op::Symlink => file(FileOp::Symlink)?,
            Op::RenameFrom => file(FileOp::RenameFrom)?,
            Op::RenameTo => file(FileOp::RenameTo)?,
            Op::Truncate => file(FileOp::Truncate)?,
            Op::Chmod => file(FileOp::Chmod)?,
            Op::Chown => file(FileOp::Chown)?,
            Op::Lock => file(FileOp::Lock)?,
            Op::Mmap => file(FileOp::Mmap)?,
            Op::Mprotect => file(FileOp::Mprotect)?,
            Op::Exec => file(FileOp::Exec)?,
            Op::Receive => file(FileOp::Receive)?,
            Op::Connect => file(FileOp::Connect)?,
            Op::Send => file(FileOp::Send)?,
            Op::Link => Access::Link {
                link: self.resolved(self.path(), root, false),
                target: self.resolved(self.second_path(), root, false),
            },
            Op::Capability => Access::Capability {
                capability: u8::try_from(args[0]).ok()?,
                optional: args[1] & CAP_OPT_NOAUDIT != 0,
            },
            Op::Network => {
                Access::Network { family: u16::try_from(args[0]).ok()?, kind: u16::try_from(args[1]).ok()? }
            }
            Op::Signal => Access::Signal { signal: u8::try_from(args[0]).ok()?, peer: self.peer() },
            Op::Ptrace => {
                let mode = if args[0] == 0 { PtraceMode::Read } else { PtraceMode::Trace };
                Access::Ptrace { mode, peer: self.peer() }
            }
            Op::Mount => {
                let target = self.mounted_on(self.path(), root);
                Access::Mount {
                    source: self.source(root, target.as_slice().ends_with(b"/")),
                    target,
                    fstype: self.parts[if self.has(flag::RELATIVE) { 3 } else { 2 }].into(),
                    flags: args[0],
                }
            }
            Op::Umount => Access::Umount { target: self.mounted_on(self.path(), root), flags: args[0] },
            Op::PivotRoot => Access::PivotRoot {
                new_root: as_directory(self.path()),
                put_old: as_directory(self.second_path()),
            },
            Op::UserNamespace => Access::UserNamespace,
            Op::IoUringSqPoll => Access::IoUring { op: IoUringOp::SqPoll },
            Op::IoUringOverrideCreds => Access::IoUring { op: IoUringOp::OverrideCreds },
            Op::Done => return None,
        })
    }

    fn file(&self, op: FileOp, root: &Root) -> Option<Access> {
        let string = self.path();
        // Refused without having been asked for: a file that is there is not made, whatever the flags say.
        if op == FileOp::Create
            && self.has(flag::REFUSED)
            && self.has(flag::RELATIVE)
            && root.is_file(&string)
        {
            return None;
        }
        let path = self.resolved(string, root, follows(op));
        let path = if self.has(flag::DIRECTORY) { as_directory(path) } else { path };
        let facts = FileFacts {
            owner: self.has(flag::OWNER),
            exclusive: self.has(flag::EXCLUSIVE),
            deleted: self.has(flag::DELETED),
            disconnected: self.has(flag::DISCONNECTED),
        };
        let perms = FilePerms::from_bits(self.record.perms)?;
        Some(Access::File(FileAccess { path, op, perms, facts }))
    }

    /// The first path: a whole one, or a string and the directory that it is relative to.
    fn path(&self) -> Bytes {
        if self.has(flag::RELATIVE) { join(self.parts[0], self.parts[1]) } else { self.parts[0].into() }
    }

    /// The second path: beside the first, or where each needs two parts, in the third and fourth.
    fn second_path(&self) -> Bytes {
        if self.has(flag::RELATIVE_TOO) { join(self.parts[2], self.parts[3]) } else { self.parts[1].into() }
    }

    /// A path in the mount namespace of who asked.
    fn resolved(&self, path: Bytes, root: &Root, follows: bool) -> Bytes {
        if self.has(flag::RELATIVE) { root.resolve(&path, follows) } else { path }
    }

    /// Where something is mounted. A mere string is a directory's, unless a file is there.
    fn mounted_on(&self, path: Bytes, root: &Root) -> Bytes {
        if !self.has(flag::RELATIVE) {
            return path;
        }
        let resolved = root.resolve(&path, true);
        if root.is_file(&path) { resolved } else { as_directory(resolved) }
    }

    /// What is mounted: a device, or what the kernel was given as a string for a path. A directory comes over a directory, and a
    /// file over a file (`graft_tree()`, fs/namespace.c): so that is known though the source may have gone.
    fn source(&self, root: &Root, over_directory: bool) -> Bytes {
        let source = self.parts[if self.has(flag::RELATIVE) { 2 } else { 1 }];
        // A mount that is nowhere yet: fsmount(2), open_tree(2).
        if self.has(flag::DISCONNECTED) {
            return Bytes::default();
        }
        if self.mounts_by_string() && source.starts_with(b"/") {
            let path = root.resolve(&join(b"/", source), true);
            if over_directory { as_directory(path) } else { path }
        } else {
            source.into()
        }
    }

    fn mounts_by_string(&self) -> bool {
        let [flags, is_path] = self.record.args;
        flags & (MS_BIND | MS_MOVE) != 0 && flags & MS_REMOUNT == 0 && is_path == 0
    }

    fn peer(&self) -> Peer {
        if self.has(flag::PEER_INSIDE) {
            return Peer::Inside;
        }
        let label = match u32::try_from(self.record.args[1]).ok().filter(|tgid| *tgid != 0) {
            Some(tgid) => confinement::apparmor_of(Some(tgid)),
            None => AppArmorInForce::Unknown,
        };
        let label = match label {
            AppArmorInForce::Named { name, .. } => Some(name),
            AppArmorInForce::Unconfined | AppArmorInForce::Off => Some(Bytes::from("unconfined")),
            AppArmorInForce::Unknown => None,
        };
        Peer::Outside { label }
    }
}

/// Whether an operation is done to what a symbolic link leads to; of changes of owner and mode the usual form is meant.
fn follows(op: FileOp) -> bool {
    matches!(
        op,
        FileOp::Truncate | FileOp::Chmod | FileOp::Chown | FileOp::Exec | FileOp::Connect | FileOp::Send
    )
}

/// include/uapi/linux/mount.h.
const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;

/// include/linux/security.h.
const CAP_OPT_NOAUDIT: u64 = 2;

/// A string as a program wrote it, below the directory that it is relative to. What `..` and `.` say is done; symbolic links
/// are not followed.
fn join(directory: &[u8], string: &[u8]) -> Bytes {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in directory.split(|byte| *byte == b'/').chain(string.split(|byte| *byte == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    let mut path = Vec::with_capacity(directory.len() + string.len() + 1);
    for component in components {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path.into()
}

fn as_directory(path: Bytes) -> Bytes {
    if path.as_slice().ends_with(b"/") {
        return path;
    }
    [path.as_slice(), b"/"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_joined_as_the_kernel_reads_them() {
        let joined = |directory: &str, string: &str| join(directory.as_bytes(), string.as_bytes());
        assert_eq!(joined("/w/", "a/./b//../c"), "/w/a/c".into());
        assert_eq!(joined("/jail/", "/etc/x"), "/jail/etc/x".into());
        assert_eq!(joined("/", "../.."), "/".into());
        assert_eq!(joined("/w", ""), "/w".into());
    }
}
