//! Owns the way back from the words of AppArmor's language to the kernel's numbers. Knows nothing about rules.

use crate::apparmor::words;

/// A capability's number, by its word.
pub(super) fn capability(word: &str) -> Option<u8> {
    (0..64).find(|number| words::capability(*number) == Some(word))
}

/// A socket family's number, by its word.
pub(super) fn family(word: &str) -> Option<u16> {
    (0..64).find(|number| words::family(*number) == Some(word))
}

/// A socket type's number, by its word.
pub(super) fn kind(word: &str) -> Option<u16> {
    (0..16).find(|number| words::kind(*number) == Some(word))
}

/// The family and type of a protocol that has one of its own (`network_mappings`, network.c).
pub(super) fn protocol(word: &str) -> Vec<(u16, u16)> {
    let (families, name): (&[&str], _) = match word {
        "tcp" => (&["inet", "inet6"], "stream"),
        "udp" => (&["inet", "inet6"], "dgram"),
        "icmp" => (&["inet"], "raw"),
        _ => (&[], ""),
    };
    families.iter().filter_map(|name| family(name)).zip(kind(name).into_iter().cycle()).collect()
}

/// A signal's number, by its word.
pub(super) fn signal(word: &str) -> Option<u8> {
    (0..=64).find(|number| words::signal(*number).as_deref() == Some(word))
}

/// `MS_…` (include/uapi/linux/mount.h).
pub(super) mod ms {
    pub(crate) const REMOUNT: u64 = 1 << 5;
    pub(crate) const BIND: u64 = 1 << 12;
    pub(crate) const MOVE: u64 = 1 << 13;
    pub(crate) const REC: u64 = 1 << 14;
    pub(crate) const SILENT: u64 = 1 << 15;
    pub(crate) const UNBINDABLE: u64 = 1 << 17;
    pub(crate) const PRIVATE: u64 = 1 << 18;
    pub(crate) const SLAVE: u64 = 1 << 19;
    pub(crate) const SHARED: u64 = 1 << 20;
    /// Those that change how a mount propagates.
    pub(crate) const PROPAGATION: u64 = UNBINDABLE | PRIVATE | SLAVE | SHARED;
}

/// A word of a mount rule's options: the flags that it sets, and those that it says are not set (`mnt_opts_table`, mount.cc).
pub(super) fn mount_option(word: &str) -> Option<(u64, u64)> {
    let set = |flags| Some((flags, 0));
    let clear = |flags| Some((0, flags));
    match word {
        "ro" | "r" | "read-only" => set(1),
        "rw" | "w" => clear(1),
        "nosuid" => set(1 << 1),
        "suid" => clear(1 << 1),
        "nodev" => set(1 << 2),
        "dev" => clear(1 << 2),
        "noexec" => set(1 << 3),
        "exec" => clear(1 << 3),
        "sync" => set(1 << 4),
        "async" => clear(1 << 4),
        "remount" => set(ms::REMOUNT),
        "mand" => set(1 << 6),
        "nomand" => clear(1 << 6),
        "dirsync" => set(1 << 7),
        "noatime" => set(1 << 10),
        "atime" => clear(1 << 10),
        "nodiratime" => set(1 << 11),
        "diratime" => clear(1 << 11),
        "bind" | "B" => set(ms::BIND),
        "move" | "M" => set(ms::MOVE),
        "rbind" | "R" => set(ms::BIND | ms::REC),
        // MS_VERBOSE is the same bit (include/uapi/linux/mount.h).
        "silent" | "verbose" => set(ms::SILENT),
        "loud" => clear(ms::SILENT),
        "acl" => set(1 << 16),
        "noacl" => clear(1 << 16),
        "unbindable" | "make-unbindable" => set(ms::UNBINDABLE),
        "runbindable" | "make-runbindable" => set(ms::UNBINDABLE | ms::REC),
        "private" | "make-private" => set(ms::PRIVATE),
        "rprivate" | "make-rprivate" => set(ms::PRIVATE | ms::REC),
        "slave" | "make-slave" => set(ms::SLAVE),
        "rslave" | "make-rslave" => set(ms::SLAVE | ms::REC),
        "shared" | "make-shared" => set(ms::SHARED),
        "rshared" | "make-rshared" => set(ms::SHARED | ms::REC),
        "relatime" => set(1 << 21),
        "nosymfollow" => set(1 << 8),
        "norelatime" => clear(1 << 21),
        "iversion" => set(1 << 23),
        "noiversion" => clear(1 << 23),
        "strictatime" => set(1 << 24),
        _ => None,
    }
}
