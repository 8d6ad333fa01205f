//! The table of hooks at which AppArmor decides: the class that each is of, how it is attached, and what is not seen without it.
//! The loader, `doctor` and Coverage are made from it. The programs' bodies are `khard-ebpf/src/programs/hook.rs`.

use khard_profile::recording::Class;

use super::programs::{AttachPoint, Program, Role};

/// Copies of a program at the end of a function: where the kernel skips one, another runs.
pub(super) const COPIES: usize = 3;

/// One hook.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// The LSM hook's name.
    pub name: &'static str,
    /// The class of accesses.
    pub class: Class,
    /// As BPF LSM.
    pub lsm: Program,
    /// At the end of the kernel's function.
    pub fexit: [Program; COPIES],
    /// Since which kernel it exists, if not in all that khard knows; before, another hook sees the same.
    pub since: Option<&'static str>,
    /// Fields of kernel structs, by their constants' names, that only this hook needs and that a kernel may lack.
    pub needs: &'static [&'static str],
}

impl Hook {
    /// The kernel's function that calls the hook.
    pub fn function(&self) -> &'static str {
        match self.fexit[0].at {
            AttachPoint::Fexit(function) => function,
            _ => "",
        }
    }
}

const fn program(name: &'static str, at: AttachPoint, without_it: &'static str) -> Program {
    Program { name, role: Role::Accesses, at, without_it }
}

macro_rules! hooks {
    ($($class:ident $hook:literal $function:literal $lsm:literal [$($copy:literal)*]
        $without:literal $(since $since:literal)? $(needs $($needs:literal)+)?;)*) => {
        /// All hooks.
        pub static HOOKS: &[Hook] = &[$(Hook {
            name: $hook,
            class: Class::$class,
            lsm: program($lsm, AttachPoint::Lsm($hook), $without),
            fexit: [$(program($copy, AttachPoint::Fexit($function), $without)),*],
            since: hooks!(@option $($since)?),
            needs: &[$($($needs),+)?],
        }),*];
    };
    (@option) => { None };
    (@option $value:literal) => { Some($value) };
}

hooks! {
    Files "file_open" "security_file_open" "l_file_open" ["f1_file_open" "f2_file_open" "f3_file_open"]
        "opened files are not seen";
    Files "cred_prepare" "security_prepare_creds" "l_cred_prepare" ["f1_cred_prepare" "f2_cred_prepare" "f3_cred_prepare"]
        "what the kernel opens of the layers of an overlay that a workload mounts itself is not seen";
    Files "file_lock" "security_file_lock" "l_file_lock" ["f1_file_lock" "f2_file_lock" "f3_file_lock"]
        "locks are not seen";
    Files "file_truncate" "security_file_truncate" "l_ftruncate" ["f1_ftruncate" "f2_ftruncate" "f3_ftruncate"]
        "ftruncate(2) is not seen" since "6.2";
    Files "path_truncate" "security_path_truncate" "l_truncate" ["f1_truncate" "f2_truncate" "f3_truncate"]
        "truncate(2) is not seen";
    Files "path_mknod" "security_path_mknod" "l_mknod" ["f1_mknod" "f2_mknod" "f3_mknod"]
        "created files are not seen";
    Files "path_mkdir" "security_path_mkdir" "l_mkdir" ["f1_mkdir" "f2_mkdir" "f3_mkdir"]
        "created directories are not seen";
    Files "path_rmdir" "security_path_rmdir" "l_rmdir" ["f1_rmdir" "f2_rmdir" "f3_rmdir"]
        "removed directories are not seen";
    Files "path_unlink" "security_path_unlink" "l_unlink" ["f1_unlink" "f2_unlink" "f3_unlink"]
        "removed files are not seen";
    Files "path_symlink" "security_path_symlink" "l_symlink" ["f1_symlink" "f2_symlink" "f3_symlink"]
        "symbolic links are not seen";
    Files "path_link" "security_path_link" "l_link" ["f1_link" "f2_link" "f3_link"]
        "hard links are not seen";
    Files "path_rename" "security_path_rename" "l_rename" ["f1_rename" "f2_rename" "f3_rename"]
        "renamed files are not seen";
    Files "path_chmod" "security_path_chmod" "l_chmod" ["f1_chmod" "f2_chmod" "f3_chmod"]
        "changes of mode are not seen";
    Files "path_chown" "security_path_chown" "l_chown" ["f1_chown" "f2_chown" "f3_chown"]
        "changes of owner are not seen";
    Received "file_receive" "security_file_receive" "l_receive" ["f1_receive" "f2_receive" "f3_receive"]
        "received descriptors are not seen";
    Exec "bprm_creds_for_exec" "security_bprm_creds_for_exec" "l_exec" ["f1_exec" "f2_exec" "f3_exec"]
        "started programs are not seen";
    MappedCode "mmap_file" "security_mmap_file" "l_mmap" ["f1_mmap" "f2_mmap" "f3_mmap"]
        "files mapped executable are not seen";
    MappedCode "file_mprotect" "security_file_mprotect" "l_mprotect" ["f1_mprotect" "f2_mprotect" "f3_mprotect"]
        "mappings made executable later are not seen";
    Capabilities "capable" "security_capable" "l_capable" ["f1_capable" "f2_capable" "f3_capable"]
        "capabilities are not seen";
    Network "socket_create" "security_socket_create" "l_socket" ["f1_socket" "f2_socket" "f3_socket"]
        "sockets are not seen";
    UnixSockets "unix_stream_connect" "security_unix_stream_connect" "l_unix_connect"
        ["f1_unix_connect" "f2_unix_connect" "f3_unix_connect"]
        "connections to unix sockets are not seen" needs "UNIX_SOCK_PATH";
    UnixSockets "unix_may_send" "security_unix_may_send" "l_unix_send" ["f1_unix_send" "f2_unix_send" "f3_unix_send"]
        "datagrams to unix sockets are not seen" needs "UNIX_SOCK_PATH" "SOCK_CGROUP";
    Signals "task_kill" "security_task_kill" "l_kill" ["f1_kill" "f2_kill" "f3_kill"]
        "signals are not seen";
    Ptrace "ptrace_access_check" "security_ptrace_access_check" "l_ptrace" ["f1_ptrace" "f2_ptrace" "f3_ptrace"]
        "who looks into other processes is not seen";
    Ptrace "ptrace_traceme" "security_ptrace_traceme" "l_traceme" ["f1_traceme" "f2_traceme" "f3_traceme"]
        "PTRACE_TRACEME is not seen";
    Mounts "sb_mount" "security_sb_mount" "l_mount" ["f1_mount" "f2_mount" "f3_mount"]
        "mounts are not seen";
    Mounts "sb_umount" "security_sb_umount" "l_umount" ["f1_umount" "f2_umount" "f3_umount"]
        "unmounts are not seen";
    Mounts "sb_pivotroot" "security_sb_pivotroot" "l_pivot_root" ["f1_pivot_root" "f2_pivot_root" "f3_pivot_root"]
        "pivot_root(2) is not seen";
    Mounts "move_mount" "security_move_mount" "l_move_mount" ["f1_move_mount" "f2_move_mount" "f3_move_mount"]
        "move_mount(2) is not seen";
    UserNamespaces "userns_create" "security_create_user_ns" "l_userns" ["f1_userns" "f2_userns" "f3_userns"]
        "user namespaces are not seen";
    IoUring "uring_sqpoll" "security_uring_sqpoll" "l_sqpoll" ["f1_sqpoll" "f2_sqpoll" "f3_sqpoll"]
        "polling threads of io_uring are not seen";
    IoUring "uring_override_creds" "security_uring_override_creds" "l_uring_creds"
        ["f1_uring_creds" "f2_uring_creds" "f3_uring_creds"]
        "other credentials of io_uring are not seen";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernels_limit_and_are_unique() {
        let programs = || HOOKS.iter().flat_map(|hook| std::iter::once(&hook.lsm).chain(&hook.fexit));
        for program in programs() {
            assert!(program.name.len() <= 15, "{}", program.name);
            assert_eq!(programs().filter(|other| other.name == program.name).count(), 1);
        }
    }

    #[test]
    fn every_class_has_a_hook() {
        for class in Class::ALL {
            assert!(HOOKS.iter().any(|hook| hook.class == *class), "{class}");
        }
    }
}
