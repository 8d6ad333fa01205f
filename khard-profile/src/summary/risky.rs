//! Owns the list of calls that a reader wants to see closed, each with its reason in one line. An opinion, kept in one place.

/// Name and reason, in the order of interest. Calls with the same reason stand together and are shown together.
#[rustfmt::skip]
pub(crate) const RISKY: [(&str, &str); 75] = [
    ("unshare", "makes namespaces; a user namespace opens much of the kernel to whoever makes it"),
    ("setns", "enters the namespaces of other processes"),
    ("clone3", "makes namespaces too, with flags in memory that no filter can read"),
    ("clone", "makes namespaces too; this profile does not look at its flags"),
    ("mount", "mounts file systems"),
    ("ptrace", "controls other processes"),
    ("bpf", "loads programs into the kernel"),
    ("io_uring_setup", "a second way to do calls, which no seccomp filter sees; many past holes"),
    ("io_uring_enter", "a second way to do calls, which no seccomp filter sees; many past holes"),
    ("io_uring_register", "a second way to do calls, which no seccomp filter sees; many past holes"),
    ("userfaultfd", "stops the kernel at a chosen moment, which makes races easy to win"),
    ("perf_event_open", "watches the whole machine; many past holes"),
    ("keyctl", "reaches keyrings, which are not separate for each container"),
    ("add_key", "reaches keyrings, which are not separate for each container"),
    ("init_module", "loads kernel modules"),
    ("finit_module", "loads kernel modules"),
    ("kexec_load", "starts another kernel"),
    ("kexec_file_load", "starts another kernel"),
    ("open_by_handle_at", "opens files without a path, past the container's mounts"),
    ("process_vm_readv", "reads the memory of other processes"),
    ("process_vm_writev", "writes the memory of other processes"),
    ("umount2", "uncovers what a mount hides"),
    ("umount", "uncovers what a mount hides"),
    ("pivot_root", "changes the root of the mount tree"),
    ("chroot", "changes the root; an old way out of one"),
    ("move_mount", "mounts file systems (new interface)"),
    ("fsopen", "mounts file systems (new interface)"),
    ("fsmount", "mounts file systems (new interface)"),
    ("fspick", "mounts file systems (new interface)"),
    ("open_tree", "copies mounts (new interface)"),
    ("open_tree_attr", "copies mounts (new interface)"),
    ("fsconfig", "hands options to a file system; had holes that gave root (CVE-2022-0185)"),
    ("mount_setattr", "makes read-only mounts writable"),
    ("name_to_handle_at", "gives the handles for it"),
    ("mknod", "makes device nodes"),
    ("mknodat", "makes device nodes"),
    ("process_madvise", "works on the memory of other processes"),
    ("pidfd_getfd", "takes open files from other processes"),
    ("kcmp", "compares kernel pointers of processes"),
    ("request_key", "reaches keyrings, and starts a program on the host"),
    ("delete_module", "removes kernel modules"),
    ("reboot", "stops the machine"),
    ("swapon", "changes the machine's swap"),
    ("swapoff", "changes the machine's swap"),
    ("iopl", "gives access to hardware ports"),
    ("ioperm", "gives access to hardware ports"),
    ("modify_ldt", "changes segment tables; past holes"),
    ("vm86", "runs 16-bit code; can map page zero"),
    ("vm86old", "runs 16-bit code; can map page zero"),
    ("personality", "can switch address randomisation off"),
    ("fanotify_init", "watches and blocks file access of a whole mount"),
    ("quotactl", "changes disk quotas"),
    ("quotactl_fd", "changes disk quotas"),
    ("acct", "writes process accounting of the machine"),
    ("syslog", "reads the kernel's log, and with it addresses"),
    ("settimeofday", "sets the machine's clock"),
    ("clock_settime", "sets the machine's clock"),
    ("clock_adjtime", "sets the machine's clock"),
    ("adjtimex", "sets the machine's clock"),
    ("stime", "sets the machine's clock"),
    ("sethostname", "changes the host's name"),
    ("setdomainname", "changes the domain's name"),
    ("vmsplice", "puts memory into pipes; past holes"),
    ("mbind", "places memory on nodes; leaks layout"),
    ("set_mempolicy", "places memory on nodes"),
    ("move_pages", "moves memory of processes between nodes"),
    ("migrate_pages", "moves memory of processes between nodes"),
    ("memfd_create", "holds files that no path names; used to run code that is on no disk"),
    ("execveat", "runs files that no path names"),
    ("nfsservctl", "long removed; nothing needs it"),
    ("lookup_dcookie", "profiling of the whole machine; removed in newer kernels"),
    ("uselib", "long obsolete; nothing needs it"),
    ("sysfs", "long obsolete; nothing needs it"),
    ("_sysctl", "long obsolete; nothing needs it"),
    ("ustat", "long obsolete; nothing needs it"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::syscalls;

    #[test]
    fn calls_with_the_same_reason_stand_together() {
        let groups = RISKY.chunk_by(|one, next| one.1 == next.1).map(|group| group[0].1);
        let reasons: BTreeSet<&str> = RISKY.iter().map(|(_, risk)| *risk).collect();
        assert_eq!(groups.count(), reasons.len());
    }

    #[test]
    fn every_risky_call_exists_once() {
        let names: BTreeSet<&str> = RISKY.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), RISKY.len());
        for name in names {
            assert!(syscalls::by_name(name).is_some(), "{name}");
        }
    }
}
