//! The kernel struct fields that the programs read, once for both sides.
//!
//! Rust has no CO-RE relocations: user space looks each field up in the running kernel's BTF and sets the
//! program's constant of that name before loading. A field that is not there refuses what needs it.

/// One field: the constant's name in the programs, and where it may stand in the kernel's types. The first of
/// `places` that exists is taken: fields move between versions.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The constant's name.
    pub name: &'static str,
    /// (struct, member path) by order of preference.
    pub places: &'static [(&'static str, &'static str)],
}

/// Calls `$then!` with all fields: `NAME: "struct" "member.path" [| "struct" "member.path"]… ;`
#[macro_export]
macro_rules! kernel_fields {
    ($then:ident) => {
        $then! {
            TASK_STATUS: "task_struct" "thread_info.status";
            TASK_TGID: "task_struct" "tgid";
            TASK_PID: "task_struct" "pid";
            TASK_LEADER: "task_struct" "group_leader";
            TASK_REAL_PARENT: "task_struct" "real_parent";
            // Kept by the leader over an exec by another thread: de_thread(), fs/exec.c.
            TASK_START_NS: "task_struct" "start_time";
            TASK_SELF_EXEC_ID: "task_struct" "self_exec_id";
            TASK_SECCOMP_MODE: "task_struct" "seccomp.mode";
            TASK_SECCOMP_COUNT: "task_struct" "seccomp.filter_count.counter";
            TASK_SIGNAL: "task_struct" "signal";
            TASK_MM: "task_struct" "mm";
            TASK_FS: "task_struct" "fs";
            TASK_NSPROXY: "task_struct" "nsproxy";
            TASK_CGROUPS: "task_struct" "cgroups";
            SIGNAL_LIVE: "signal_struct" "live.counter";
            MM_EXE_FILE: "mm_struct" "exe_file";
            FILE_DENTRY: "file" "f_path.dentry";
            FILE_MNT: "file" "f_path.mnt";
            FILE_MODE: "file" "f_mode";
            FILE_FLAGS: "file" "f_flags";
            FILE_CRED: "file" "f_cred";
            PATH_MNT: "path" "mnt";
            PATH_DENTRY: "path" "dentry";
            DENTRY_SEQ: "dentry" "d_seq.seqcount.sequence";
            DENTRY_PARENT: "dentry" "d_parent";
            DENTRY_HASH_LEN: "dentry" "d_name.hash_len";
            DENTRY_INODE: "dentry" "d_inode";
            DENTRY_SB: "dentry" "d_sb";
            // Null: taken out of the name's hash table (d_unhashed(), include/linux/dcache.h).
            DENTRY_PPREV: "dentry" "d_hash.pprev";
            INODE_MODE: "inode" "i_mode";
            INODE_UID: "inode" "i_uid.val";
            INODE_NR: "inode" "i_ino";
            INODE_GENERATION: "inode" "i_generation";
            SB_FLAGS: "super_block" "s_flags";
            VFSMOUNT_ROOT: "vfsmount" "mnt_root";
            MOUNT_VFSMOUNT: "mount" "mnt";
            MOUNT_PARENT: "mount" "mnt_parent";
            MOUNT_POINT: "mount" "mnt_mountpoint";
            MOUNT_NS: "mount" "mnt_ns";
            TASK_REAL_CRED: "task_struct" "real_cred";
            TASK_CRED: "task_struct" "cred";
            TASK_PERSONALITY: "task_struct" "personality";
            TASK_FLAGS: "task_struct" "flags";
            TASK_FILES: "task_struct" "files";
            CRED_FSUID: "cred" "fsuid.val";
            CRED_EFFECTIVE: "cred" "cap_effective";
            BPRM_FILE: "linux_binprm" "file";
            BPRM_FILENAME: "linux_binprm" "filename";
            BPRM_INTERP: "linux_binprm" "interp";
            VMA_FILE: "vm_area_struct" "vm_file";
            SOCKET_SK: "socket" "sk";
            UNIX_SOCK_PATH: "unix_sock" "path";
            SOCK_CGROUP: "sock" "sk_cgrp_data.cgroup";
            SIGINFO_CODE: "kernel_siginfo" "si_code";
            FILES_FDT: "files_struct" "fdt";
            FDT_FD: "fdtable" "fd";
            FDT_MAX: "fdtable" "max_fds";
            FS_ROOT_MNT: "fs_struct" "root.mnt";
            FS_PWD_MNT: "fs_struct" "pwd.mnt";
            FS_PWD_DENTRY: "fs_struct" "pwd.dentry";
            REGS_NR: "pt_regs" "orig_ax";
            REGS_DI: "pt_regs" "di";
            REGS_SI: "pt_regs" "si";
            REGS_DX: "pt_regs" "dx";
            REGS_R10: "pt_regs" "r10";
            REGS_R8: "pt_regs" "r8";
            REGS_R9: "pt_regs" "r9";
            REGS_BX: "pt_regs" "bx";
            REGS_CX: "pt_regs" "cx";
            REGS_BP: "pt_regs" "bp";
            DENTRY_NAME: "dentry" "d_name.name";
            DENTRY_NAME_LEN: "dentry" "d_name.len";
            FS_ROOT_DENTRY: "fs_struct" "root.dentry";
            NSPROXY_MNT: "nsproxy" "mnt_ns";
            MNT_NS_INUM: "mnt_namespace" "ns.inum";
            CSS_SET_DFL: "css_set" "dfl_cgrp";
            CGROUP_KN: "cgroup" "kn";
            CGROUP_ROOT: "cgroup" "root";
            CGROUP_ROOT_ID: "cgroup_root" "hierarchy_id";
            KN_ID: "kernfs_node" "id";
            // Renamed in 6.15, when it came under RCU (include/linux/kernfs.h).
            KN_PARENT: "kernfs_node" "parent" | "kernfs_node" "__parent";
        }
    };
}

macro_rules! table {
    ($($name:ident: $($struct:literal $member:literal)|+;)*) => {
        /// All fields.
        pub const FIELDS: &[Field] = &[$(Field {
            name: stringify!($name),
            places: &[$(($struct, $member)),+],
        }),*];
    };
}
kernel_fields!(table);
