//! The hooks at which AppArmor decides: one body for each, attached as BPF LSM or at the end of the kernel's `security_*`
//! function. What each asks for is AppArmor's own choice (security/apparmor/lsm.c, 6.1 to 7.3).

use aya_ebpf::{
    macros::{fexit, lsm},
    programs::{FExitContext, LsmContext},
};
use khard_common::access::{Op, flag, perms};

use crate::{
    access::{Access, Asker, Request, layers, outcome},
    kernel::{
        cgroup::Node,
        offset,
        path::{Dentry, File, Inode, Place},
        probe,
        task::{Current, Task},
    },
    word::opaque,
};

/// How a program sees its hook, however it is attached.
trait Hook {
    fn at(&self, nth: usize) -> u64;
    /// What the security modules answered; `n_args`: how many arguments come before.
    fn verdict(&self, n_args: usize) -> i32;
    /// Whether the arguments are those of `security_*`, not those of the LSM hook, where the two differ.
    const IS_FUNCTION: bool;
}

impl Hook for LsmContext {
    fn at(&self, nth: usize) -> u64 {
        self.arg(nth)
    }

    /// BPF runs last: who comes here was let through.
    fn verdict(&self, _: usize) -> i32 {
        0
    }

    const IS_FUNCTION: bool = false;
}

impl Hook for FExitContext {
    fn at(&self, nth: usize) -> u64 {
        self.arg(nth)
    }

    fn verdict(&self, n_args: usize) -> i32 {
        self.arg(n_args)
    }

    const IS_FUNCTION: bool = true;
}

#[inline(always)]
fn refused(verdict: i32) -> u32 {
    if verdict < 0 { flag::REFUSED } else { 0 }
}

/// As [`refused`], at a hook that comes before the kernel's own checks: whether those pass is known when the call ends.
#[inline(always)]
fn refused_first(verdict: i32) -> u32 {
    if verdict < 0 { flag::REFUSED } else { outcome::flag_of_first() }
}

/// `FMODE_READ`, `FMODE_WRITE` (include/linux/fs.h).
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
/// include/uapi/asm-generic/fcntl.h.
pub(super) const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
pub(super) const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;

/// `aa_map_file_to_perms()`, security/apparmor/include/file.h.
#[inline(always)]
pub(super) fn open_perms(mode: u32, flags: u32) -> u16 {
    let mut asked = 0;
    if mode & FMODE_READ != 0 {
        asked |= perms::READ;
    }
    if mode & FMODE_WRITE != 0 {
        asked |= if flags & O_APPEND != 0 { perms::APPEND } else { perms::WRITE };
    }
    if flags & O_TRUNC != 0 {
        asked |= perms::WRITE;
    }
    if flags & O_CREAT != 0 {
        asked |= perms::CREATE;
    }
    asked
}

/// Whether whoever opens a file made its name, and chose it to be new.
#[inline(always)]
pub(super) fn exclusive(flags: u32) -> u32 {
    if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL { flag::EXCLUSIVE } else { 0 }
}

/// An access to one path.
#[inline(always)]
fn of_place(op: Op, perms: u16, flags: u32, place: Place, is_directory: bool, owned: Inode) {
    let Some(asker) = Asker::get() else { return };
    of_place_by(&asker, op, perms, flags, place, is_directory, owned);
}

#[inline(always)]
pub(super) fn of_place_by(
    asker: &Asker,
    op: Op,
    perms: u16,
    flags: u32,
    place: Place,
    is_directory: bool,
    owned: Inode,
) {
    if !place.dentry.is_internal() {
        Request::new(op, perms, flags, place, is_directory, owned).ask(asker);
    }
}

#[inline(always)]
pub(super) fn of_file_by(asker: &Asker, op: Op, perms: u16, flags: u32, file: File) {
    let place = file.place();
    of_place_by(asker, op, perms, flags, place, place.dentry.is_directory(), place.dentry.inode());
}

#[inline(always)]
fn of_file(op: Op, perms: u16, flags: u32, file: File) {
    let Some(asker) = Asker::get() else { return };
    of_file_by(&asker, op, perms, flags, file);
}

/// Nothing but arguments.
#[inline(always)]
pub(super) fn of_args(asker: &Asker, op: Op, flags: u32, args: [u64; 2]) {
    if let Some(access) = Access::begin(asker, op, 0, flags, args) {
        access.send();
    }
}

#[inline(always)]
fn file_open(hook: &impl Hook) {
    let file = File(hook.at(0));
    // What is opened to be executed was asked for already.
    if file.is_for_execution() {
        return;
    }
    let Some(asker) = Asker::get() else { return };
    // Opened by overlayfs, from a layer, with the credentials of who mounted it: AppArmor asks for their label. The layers'
    // mounts are overlayfs's own. In a mount of the task's, other credentials are made of its own: for a core dump
    // (`do_coredump()`), or registered with an io_uring.
    let (task, cred) = (Current::task(), file.cred());
    let is_others = cred != task.real_cred() && file.place().mnt.namespace() != task.mount_ns_address();
    if is_others && !layers::is_mounters(&asker, cred) {
        return;
    }
    let flags = file.flags();
    let told = exclusive(flags) | refused(hook.verdict(1));
    of_file_by(&asker, Op::Open, open_perms(file.mode(), flags), told, file);
}

#[inline(always)]
fn cred_prepare(hook: &impl Hook) {
    layers::copied(hook.at(1), hook.at(0));
}

#[inline(always)]
fn file_receive(hook: &impl Hook) {
    let file = File(hook.at(0));
    of_file(Op::Receive, open_perms(file.mode(), file.flags()), refused(hook.verdict(1)), file);
}

/// `F_WRLCK` (include/uapi/asm-generic/fcntl.h).
const F_WRLCK: u32 = 1;

#[inline(always)]
pub(super) fn lock_perms(kind: u32) -> u16 {
    if kind == F_WRLCK { perms::LOCK | perms::WRITE } else { perms::LOCK }
}

#[inline(always)]
fn file_lock(hook: &impl Hook) {
    of_file(Op::Lock, lock_perms(hook.at(1) as u32), refused(hook.verdict(2)), File(hook.at(0)));
}

/// include/uapi/asm-generic/mman-common.h.
const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
pub(super) const PROT_EXEC: u64 = 4;
/// include/uapi/linux/mman.h.
const MAP_SHARED: u64 = 1;

#[inline(always)]
fn read_of_mapping(prot: u64) -> u16 {
    if prot & PROT_READ != 0 { perms::READ } else { 0 }
}

/// A mapping that is or becomes executable; what else AppArmor asks of a mapping was asked when the file was opened.
#[inline(always)]
fn mapped(op: Op, file: File, prot: u64, flags: u32) {
    if file.0 != 0 && prot & PROT_EXEC != 0 && !file.is_for_execution() {
        of_file(op, perms::MMAP_EXEC | read_of_mapping(prot), flags, file);
    }
}

#[inline(always)]
fn mmap_file<H: Hook>(hook: &H) {
    // security_mmap_file(file, prot, flags) gives the hook what it asks for as third argument: mmap_prot(), security/security.c.
    let (n_args, mut prot) = if H::IS_FUNCTION { (3, hook.at(1)) } else { (4, hook.at(2)) };
    if H::IS_FUNCTION && prot & PROT_READ != 0 && Current::task().reading_implies_executing() {
        prot |= PROT_EXEC;
    }
    let (file, flags) = (File(hook.at(0)), refused(hook.verdict(n_args)));
    if prot & PROT_EXEC != 0 {
        mapped(Op::Mmap, file, prot, flags);
        return;
    }
    if file.0 == 0 {
        return;
    }
    let Some(asker) = Asker::get() else { return };
    // Nobody opened memory of huge pages (`hugetlb_file_setup()`), whose file lies in a mount of the kernel's own.
    if file.place().mnt.namespace() == Current::task().mount_ns_address() {
        return;
    }
    let is_shared = hook.at(n_args - 1) & MAP_SHARED != 0;
    let write = if prot & PROT_WRITE != 0 && is_shared { perms::WRITE } else { 0 };
    let asked = read_of_mapping(prot) | write;
    if asked != 0 {
        of_file_by(&asker, Op::Mmap, asked, flags, file);
    }
}

#[inline(always)]
fn mprotect(hook: &impl Hook) {
    let file = File(probe(hook.at(0), offset::VMA_FILE.load()));
    mapped(Op::Mprotect, file, hook.at(2), refused(hook.verdict(3)));
}

/// An operation on a whole `struct path`.
#[inline(always)]
fn of_path(op: Op, perms: u16, flags: u32, path: u64) {
    let place = Place::of_path(path);
    of_place(op, perms, flags, place, place.dentry.is_directory(), place.dentry.inode());
}

/// An operation on a name in a directory. `becomes_directory`: AppArmor takes it for a directory's, though nothing may be there yet.
#[inline(always)]
fn of_name(op: Op, perms: u16, flags: u32, hook: &impl Hook, becomes_directory: bool) {
    let dentry = Dentry(hook.at(1));
    let is_directory = becomes_directory || dentry.is_directory();
    of_place(op, perms, flags, Place::in_directory(hook.at(0), dentry.0), is_directory, dentry.inode());
}

#[inline(always)]
fn link(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    let (file, directory, name) = (Dentry(hook.at(0)), hook.at(1), hook.at(2));
    let Some(mut access) = Access::begin(&asker, Op::Link, 0, refused_first(hook.verdict(3)), [0; 2]) else {
        return;
    };
    access.note_owner(file.inode());
    access.add_path(0, Place::in_directory(directory, name), false);
    // AppArmor finds the file's path by the new name's mount (apparmor_path_link()).
    access.add_path(1, Place::in_directory(directory, file.0), false);
    access.send();
}

/// `RENAME_EXCHANGE` (include/uapi/linux/fs.h).
pub(super) const RENAME_EXCHANGE: u32 = 2;
/// What a rename asks of the old name, and of the new one (`apparmor_path_rename()`).
pub(super) const RENAME_FROM: u16 = perms::READ | perms::WRITE | perms::DELETE;
/// See [`RENAME_FROM`].
pub(super) const RENAME_TO: u16 = perms::WRITE | perms::CREATE;

#[inline(always)]
fn rename(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    let (from, to) = (Dentry(hook.at(1)), Dentry(hook.at(3)));
    let flags = opaque(refused_first(hook.verdict(5)));
    let exchange = opaque((hook.at(4) as u32 & RENAME_EXCHANGE != 0).into()) != 0;
    let (old, new) = (Place::in_directory(hook.at(0), from.0), Place::in_directory(hook.at(2), to.0));
    moved(&asker, old, new, from, flags);
    // An exchange is a rename both ways (apparmor_path_rename()).
    if exchange {
        moved(&asker, new, old, to, flags);
    }
}

/// A file or directory gets another name: both names end as what is moved does.
#[inline(always)]
fn moved(asker: &Asker, from: Place, to: Place, what: Dentry, flags: u32) {
    let (is_directory, inode) = (what.is_directory(), what.inode());
    of_place_by(asker, Op::RenameFrom, RENAME_FROM, flags, from, is_directory, inode);
    of_place_by(asker, Op::RenameTo, RENAME_TO, flags, to, is_directory, inode);
}

#[inline(always)]
fn exec(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    of_executed(&asker, File(probe(hook.at(0), offset::BPRM_FILE.load())), refused(hook.verdict(1)));
}

#[inline(always)]
pub(super) fn of_executed(asker: &Asker, file: File, flags: u32) {
    let place = file.place();
    let Some(mut access) = Access::begin(asker, Op::Exec, perms::EXEC, flags, [0; 2]) else { return };
    access.note_owner(place.dentry.inode());
    // An executed memory file has no path, and AppArmor asks for one all the same.
    if place.dentry.is_internal() {
        access.add_root(0);
    } else {
        access.add_path(0, place, false);
    }
    access.send();
}

#[inline(always)]
fn capable(hook: &impl Hook) {
    let (cred, capability, options) = (hook.at(0), hook.at(2) & 63, hook.at(3));
    of_capability(cred, capability, options, hook.verdict(4));
}

#[inline(always)]
pub(super) fn of_capability(cred: u64, capability: u64, options: u64, verdict: i32) {
    let Some(asker) = Asker::get() else { return };
    // With the credentials of who mounted an overlay, AppArmor asks for that label; access(2) asks with a copy of the own.
    let is_others = cred != Current::task().real_cred() && !is_access_call();
    if is_others && !layers::is_mounters(&asker, cred) {
        return;
    }
    let effective: u64 = probe(cred, offset::CRED_EFFECTIVE.load());
    // Not held: commoncap refused before AppArmor was asked.
    if verdict < 0 && effective >> capability & 1 == 0 {
        return;
    }
    of_args(&asker, Op::Capability, refused(verdict), [capability, options]);
}

/// Whether the task is in access(2), faccessat(2) or faccessat2(2), by either ABI's numbers.
#[inline(always)]
fn is_access_call() -> bool {
    match Current::call() {
        (true, nr) => matches!(nr, 33 | 307 | 439),
        (false, nr) => matches!(nr, 21 | 269 | 439),
    }
}

/// `SOCK_TYPE_MASK` (include/linux/net.h).
pub(super) const SOCK_TYPE_MASK: u64 = 0xf;

#[inline(always)]
fn socket(hook: &impl Hook) {
    let kern = hook.at(3) as u32;
    if kern != 0 {
        return;
    }
    let Some(asker) = Asker::get() else { return };
    let args = [u64::from(hook.at(0) as u32), hook.at(1) & SOCK_TYPE_MASK];
    of_args(&asker, Op::Network, refused_first(hook.verdict(4)), args);
}

/// The path that a unix socket is bound to; one without a path is not found by files' rules.
#[inline(always)]
fn socket_path(sk: u64) -> Place {
    Place::of_path(sk + offset::UNIX_SOCK_PATH.load())
}

/// The first, unless it is none.
#[inline(always)]
fn either(first: Place, second: Place) -> Place {
    let first_counts = opaque((first.dentry.0 != 0).into()) != 0;
    if first_counts { first } else { second }
}

#[inline(always)]
fn of_socket_path(asker: &Asker, op: Op, perms: u16, flags: u32, place: Place) {
    if place.dentry.0 != 0 {
        of_place_by(asker, op, perms, flags, place, false, place.dentry.inode());
    }
}

/// The subject in whose cgroup a socket was made: AppArmor asks for the label that its maker had.
#[inline(always)]
fn maker(sk: u64) -> Option<Asker> {
    Node::of_default_hierarchy(probe(sk, offset::SOCK_CGROUP.load())).and_then(Asker::of_cgroup)
}

/// Whoever connects is asked for the listener's path, or else for its own (`profile_peer_perm()`). Each side's read(2) and write(2) ask
/// for the path of its own end, which a listener gives to what it accepts, or else for the other's (`aa_unix_file_perm()`,
/// `security/apparmor/af_unix.c`, Linux 6.17). That they will be made is taken from the connection.
#[inline(always)]
fn unix_connect(hook: &impl Hook) {
    const BOTH: u16 = perms::READ | perms::WRITE;
    let flags = refused(hook.verdict(3));
    let (own, listener) = (socket_path(hook.at(0)), socket_path(hook.at(1)));
    if let Some(asker) = Asker::get() {
        of_socket_path(&asker, Op::Connect, BOTH, flags, listener);
        of_socket_path(&asker, Op::Connect, BOTH, flags, own);
    }
    if let Some(maker) = maker(hook.at(1)) {
        of_socket_path(&maker, Op::Connect, BOTH, flags, either(listener, own));
    }
}

/// Of a datagram both sides are asked, each for the other's path, or else for its own: the sender to write, and whoever made the
/// receiving socket to read (`apparmor_unix_may_send()`, security/apparmor/lsm.c, Linux 6.17). Where the sender is bound and connected,
/// its read(2) and write(2) ask for its own.
#[inline(always)]
fn unix_send(hook: &impl Hook) {
    let flags = refused(hook.verdict(2));
    let [from, to]: [u64; 2] = [0, 1].map(|nth| probe(hook.at(nth), offset::SOCKET_SK.load()));
    let (own, peer) = (socket_path(from), socket_path(to));
    if let Some(sender) = Asker::get() {
        of_socket_path(&sender, Op::Send, perms::WRITE, flags, peer);
        of_socket_path(&sender, Op::Send, perms::READ | perms::WRITE, flags, own);
    }
    if let Some(receiver) = maker(to) {
        of_socket_path(&receiver, Op::Send, perms::READ, flags, either(own, peer));
    }
}

/// Something that is asked of another process.
#[inline(always)]
pub(super) fn of_peer(asker: &Asker, op: Op, flags: u32, what: u64, peer: Task) {
    if asker.is_beside(peer) {
        // Which of the subject's processes makes no difference.
        of_args(asker, op, flags | flag::PEER_INSIDE, [what, 0]);
    } else {
        of_args(asker, op, flags, [what, u64::from(peer.tgid())]);
    }
}

#[inline(always)]
fn kill(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    of_peer(&asker, Op::Signal, refused(hook.verdict(4)), hook.at(2) & 0x7f, Task(hook.at(0)));
}

/// `PTRACE_MODE_READ` (include/linux/ptrace.h).
const PTRACE_MODE_READ: u64 = 1;

#[inline(always)]
fn ptrace_access(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    let traces = u64::from(hook.at(1) & PTRACE_MODE_READ == 0);
    of_peer(&asker, Op::Ptrace, refused(hook.verdict(2)), traces, Task(hook.at(0)));
}

#[inline(always)]
fn traceme(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    of_peer(&asker, Op::Ptrace, refused(hook.verdict(1)), 1, Task(hook.at(0)));
}

#[inline(always)]
fn mount(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    let (device, path, kind, flags) = (hook.at(0), hook.at(1), hook.at(2), hook.at(3));
    let Some(mut access) = Access::begin(&asker, Op::Mount, 0, refused_first(hook.verdict(5)), [flags, 0])
    else {
        return;
    };
    access.add_place(0, Place::of_path(path));
    access.add_kernel_string(1, device);
    access.add_kernel_string(2, kind);
    access.send();
}

#[inline(always)]
fn umount(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    let (mnt, flags) = (hook.at(0), hook.at(1) & 0xffff_ffff);
    let Some(mut access) = Access::begin(&asker, Op::Umount, 0, refused(hook.verdict(2)), [flags, 0]) else {
        return;
    };
    access.add_place(0, Place::of_mount(mnt));
    access.send();
}

#[inline(always)]
fn pivot_root(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    let (put_old, new_root) = (hook.at(0), hook.at(1));
    let Some(mut access) = Access::begin(&asker, Op::PivotRoot, 0, refused(hook.verdict(2)), [0; 2]) else {
        return;
    };
    access.add_place(0, Place::of_path(new_root));
    access.add_place(1, Place::of_path(put_old));
    access.send();
}

/// `MS_MOVE` (include/uapi/linux/mount.h).
pub(super) const MS_MOVE: u64 = 8192;

#[inline(always)]
fn move_mount(hook: &impl Hook) {
    let Some(asker) = Asker::get() else { return };
    let (from, to) = (hook.at(0), hook.at(1));
    let Some(mut access) = Access::begin(&asker, Op::Mount, 0, refused(hook.verdict(2)), [MS_MOVE, 1]) else {
        return;
    };
    access.add_place(0, Place::of_path(to));
    // What is moved may be mounted nowhere yet: then it is disconnected, and AppArmor asks for no source.
    access.add_place(1, Place::of_path(from));
    access.send();
}

#[inline(always)]
fn plain(op: Op, verdict: i32) {
    let Some(asker) = Asker::get() else { return };
    of_args(&asker, op, refused(verdict), [0; 2]);
}

macro_rules! hooks {
    ($($lsm:ident $one:ident $two:ident $three:ident $hook:literal $function:literal |$context:ident| $body:expr;)*) => {
        $(
            #[doc = concat!("`lsm/", $hook, "`")]
            #[lsm(hook = $hook)]
            pub(crate) fn $lsm($context: LsmContext) -> i32 {
                { let $context = &$context; $body; }
                0
            }
            hooks!(@ $one $function $context $body);
            hooks!(@ $two $function $context $body);
            hooks!(@ $three $function $context $body);
        )*
    };
    // Copies, where the kernel may skip one.
    (@ $name:ident $function:literal $context:ident $body:expr) => {
        #[doc = concat!("`fexit/", $function, "`")]
        #[fexit(function = $function)]
        pub(crate) fn $name($context: FExitContext) -> i32 {
            { let $context = &$context; $body; }
            0
        }
    };
}

hooks! {
    l_file_open f1_file_open f2_file_open f3_file_open "file_open" "security_file_open" |h| file_open(h);
    l_cred_prepare f1_cred_prepare f2_cred_prepare f3_cred_prepare "cred_prepare" "security_prepare_creds"
        |h| cred_prepare(h);
    l_receive f1_receive f2_receive f3_receive "file_receive" "security_file_receive" |h| file_receive(h);
    l_file_lock f1_file_lock f2_file_lock f3_file_lock "file_lock" "security_file_lock" |h| file_lock(h);
    l_mmap f1_mmap f2_mmap f3_mmap "mmap_file" "security_mmap_file" |h| mmap_file(h);
    l_mprotect f1_mprotect f2_mprotect f3_mprotect "file_mprotect" "security_file_mprotect" |h| mprotect(h);
    l_ftruncate f1_ftruncate f2_ftruncate f3_ftruncate "file_truncate" "security_file_truncate"
        |h| of_file(Op::Truncate, perms::WRITE, refused(h.verdict(1)), File(h.at(0)));
    l_truncate f1_truncate f2_truncate f3_truncate "path_truncate" "security_path_truncate"
        |h| of_path(Op::Truncate, perms::WRITE, refused(h.verdict(1)), h.at(0));
    l_mknod f1_mknod f2_mknod f3_mknod "path_mknod" "security_path_mknod"
        |h| of_name(Op::Create, perms::CREATE, refused_first(h.verdict(4)), h, false);
    l_mkdir f1_mkdir f2_mkdir f3_mkdir "path_mkdir" "security_path_mkdir"
        |h| of_name(Op::Mkdir, perms::CREATE, refused_first(h.verdict(3)), h, true);
    l_rmdir f1_rmdir f2_rmdir f3_rmdir "path_rmdir" "security_path_rmdir"
        |h| of_name(Op::Rmdir, perms::DELETE, refused_first(h.verdict(2)), h, true);
    l_unlink f1_unlink f2_unlink f3_unlink "path_unlink" "security_path_unlink"
        |h| of_name(Op::Unlink, perms::DELETE, refused_first(h.verdict(2)), h, false);
    l_symlink f1_symlink f2_symlink f3_symlink "path_symlink" "security_path_symlink"
        |h| of_name(Op::Symlink, perms::CREATE, refused_first(h.verdict(3)), h, false);
    l_link f1_link f2_link f3_link "path_link" "security_path_link" |h| link(h);
    l_rename f1_rename f2_rename f3_rename "path_rename" "security_path_rename" |h| rename(h);
    l_chmod f1_chmod f2_chmod f3_chmod "path_chmod" "security_path_chmod"
        |h| of_path(Op::Chmod, perms::WRITE, refused_first(h.verdict(2)), h.at(0));
    l_chown f1_chown f2_chown f3_chown "path_chown" "security_path_chown"
        |h| of_path(Op::Chown, perms::WRITE, refused_first(h.verdict(3)), h.at(0));
    l_exec f1_exec f2_exec f3_exec "bprm_creds_for_exec" "security_bprm_creds_for_exec" |h| exec(h);
    l_capable f1_capable f2_capable f3_capable "capable" "security_capable" |h| capable(h);
    l_socket f1_socket f2_socket f3_socket "socket_create" "security_socket_create" |h| socket(h);
    l_unix_connect f1_unix_connect f2_unix_connect f3_unix_connect "unix_stream_connect" "security_unix_stream_connect"
        |h| unix_connect(h);
    l_unix_send f1_unix_send f2_unix_send f3_unix_send "unix_may_send" "security_unix_may_send" |h| unix_send(h);
    l_kill f1_kill f2_kill f3_kill "task_kill" "security_task_kill" |h| kill(h);
    l_ptrace f1_ptrace f2_ptrace f3_ptrace "ptrace_access_check" "security_ptrace_access_check" |h| ptrace_access(h);
    l_traceme f1_traceme f2_traceme f3_traceme "ptrace_traceme" "security_ptrace_traceme" |h| traceme(h);
    l_mount f1_mount f2_mount f3_mount "sb_mount" "security_sb_mount" |h| mount(h);
    l_umount f1_umount f2_umount f3_umount "sb_umount" "security_sb_umount" |h| umount(h);
    l_pivot_root f1_pivot_root f2_pivot_root f3_pivot_root "sb_pivotroot" "security_sb_pivotroot" |h| pivot_root(h);
    l_move_mount f1_move_mount f2_move_mount f3_move_mount "move_mount" "security_move_mount" |h| move_mount(h);
    l_userns f1_userns f2_userns f3_userns "userns_create" "security_create_user_ns"
        |h| plain(Op::UserNamespace, h.verdict(1));
    l_sqpoll f1_sqpoll f2_sqpoll f3_sqpoll "uring_sqpoll" "security_uring_sqpoll"
        |h| plain(Op::IoUringSqPoll, h.verdict(0));
    l_uring_creds f1_uring_creds f2_uring_creds f3_uring_creds "uring_override_creds" "security_uring_override_creds"
        |h| plain(Op::IoUringOverrideCreds, h.verdict(1));
}
