//! Accesses by what system calls tell, where the kernel refuses programs at its own hooks. Looked at when a call returns:
//! its arguments are in the registers still, a descriptor that it gave leads to the file, and its strings are in memory that
//! the kernel has just read. Paths that are strings are sent as such, with the directory that they begin in.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_get_stack, bpf_probe_read_user},
    macros::{btf_tracepoint, map, raw_tracepoint},
    maps::Array,
    programs::{BtfTracePointContext, RawTracePointContext},
};
use khard_common::{
    access::{Op, flag, perms},
    calls::{CallPlan, IN_MEMORY, NONE, kind},
    limits::TABLE_BYTES,
    slot::{abi_of, table_index},
};

use super::{hook, refused};
use crate::{
    access::{Access, Asker},
    kernel::{
        direct, offset,
        path::{File, Place},
        probe,
        task::{Current, Task},
    },
    subject,
    word::opaque,
};

/// By the call's place in the syscall table; written by user space before the program is attached.
#[map]
static CALL_PLANS: Array<CallPlan> = Array::with_max_entries(TABLE_BYTES as u32, 0);

/// `tp_btf/sys_exit(regs, ret)`: include/trace/events/syscalls.h. By types, so that the number is one load.
#[btf_tracepoint(function = "sys_exit")]
pub(crate) fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    let number = subject::cached_slot_of(Current::get());
    if number == 0 {
        return 0;
    }
    let regs: *const u8 = ctx.arg(0);
    // SAFETY: typed by the verifier, and the offset is that field's in this kernel.
    let nr = unsafe { direct::<u64>(regs, offset::REGS_NR.load()) } as u32;
    let compat = Current::get().in_compat_call();
    let (abi, plain_nr) = abi_of(nr, compat);
    let Some(plan) = table_index(abi, plain_nr).and_then(|at| CALL_PLANS.get(at as u32)) else { return 0 };
    if plan.kind != kind::NOTHING && !refused::was_answered(Current::get()) {
        let call = Call { regs: regs as u64, returned: ctx.arg(1), compat, plan: *plan };
        // Most calls of these names ask for nothing: who asks is found out for the others only.
        if let Some(detail) = detail(&call)
            && let Some(asker) = Asker::get()
        {
            by_kind(&asker, &call, detail);
        }
    }
    0
}

/// A call that has returned.
struct Call {
    regs: u64,
    returned: i64,
    compat: bool,
    plan: CallPlan,
}

impl Call {
    /// An argument by its number: `syscall_get_arguments()`, arch/x86/include/asm/syscall.h.
    ///
    /// VERIFIER: apart, so that whichever register it is in, there is one way to go on.
    #[inline(never)]
    fn arg(&self, nth: u8) -> u64 {
        let at = match (self.compat, nth) {
            (false, 0) => offset::REGS_DI.load(),
            (false, 1) | (true, 3) => offset::REGS_SI.load(),
            (_, 2) => offset::REGS_DX.load(),
            (false, 3) => offset::REGS_R10.load(),
            (false, 4) => offset::REGS_R8.load(),
            (false, _) => offset::REGS_R9.load(),
            (true, 0) => offset::REGS_BX.load(),
            (true, 1) => offset::REGS_CX.load(),
            (true, 4) => offset::REGS_DI.load(),
            (true, _) => offset::REGS_BP.load(),
        };
        let value: u64 = probe(self.regs, at);
        if self.compat { value & 0xffff_ffff } else { value }
    }

    fn failed(&self) -> bool {
        self.returned < 0
    }

    /// Of an operation that AppArmor is asked about before the kernel looks at modes and emptiness: how it ended. `None`: it
    /// ended before AppArmor was asked.
    fn outcome(&self) -> Option<u32> {
        match self.returned {
            0.. => Some(0),
            EPERM | EACCES | EBUSY | ENOSPC | ENOTEMPTY => Some(flag::REFUSED),
            _ => None,
        }
    }

    /// Where a path begins: the root for an absolute one, else the directory of a descriptor, or the working directory.
    ///
    /// VERIFIER: apart, as [`Self::arg`].
    #[inline(never)]
    fn base(&self, directory: u8, string: u64) -> Option<Place> {
        let mut first = 0u8;
        // SAFETY: one byte to our own; the helper checks the source.
        unsafe { bpf_probe_read_user((&raw mut first).cast(), 1, string as *const _) };
        if first == b'/' {
            return Some(Current::task().root_place());
        }
        let descriptor = if directory == NONE { AT_FDCWD } else { self.arg(directory) as i32 };
        if descriptor == AT_FDCWD {
            return Some(Current::task().working_place());
        }
        file_of(descriptor as u32).map(File::place)
    }
}

const EPERM: i64 = -1;
const EACCES: i64 = -13;
const EBUSY: i64 = -16;
const ENOSPC: i64 = -28;
const ENOTEMPTY: i64 = -39;

/// include/uapi/linux/fcntl.h.
const AT_FDCWD: i32 = -100;

/// The file behind a descriptor of the current task. Another thread may have closed it by now.
#[inline(always)]
fn file_of(descriptor: u32) -> Option<File> {
    let files: u64 = probe(Current::task().0, offset::TASK_FILES.load());
    let table: u64 = probe(files, offset::FILES_FDT.load());
    if descriptor >= probe::<u32>(table, offset::FDT_MAX.load()) {
        return None;
    }
    let array: u64 = probe(table, offset::FDT_FD.load());
    let file: u64 = probe(array, u64::from(descriptor) * 8);
    (file != 0).then_some(File(file))
}

/// What decides whether a call asks for anything: the flags of an open, the kind of a lock, the address of a socket's path, the
/// flags of namespaces; 0 where nothing more has to be known. `None`: it asks for nothing.
///
/// VERIFIER: apart, as [`Call::arg`].
#[inline(never)]
fn detail(call: &Call) -> Option<u64> {
    let plan = &call.plan;
    match plan.kind {
        kind::OPEN => flags_of_open(call).map(u64::from),
        // A result in the last page is an error.
        kind::MAP => (!(-4095..0).contains(&call.returned)
            && call.arg(plan.c) & hook::PROT_EXEC != 0
            && call.arg(plan.a) as i32 >= 0)
            .then_some(0),
        _ => {
            call.outcome()?;
            match plan.kind {
                kind::OF_DESCRIPTOR if plan.op == Op::Lock as u8 => kind_of_lock(call).map(u64::from),
                kind::OF_ADDRESS => path_of_socket(call),
                kind::SIGNAL => (call.arg(plan.b) == 0).then_some(0),
                kind::TRACE => {
                    let attaches = [PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE];
                    attaches.contains(&call.arg(plan.a)).then_some(0)
                }
                kind::NAMESPACES => {
                    let flags = if plan.e == 1 { user_word(call.arg(plan.a)) } else { call.arg(plan.a) };
                    (flags & CLONE_NEWUSER != 0).then_some(0)
                }
                // struct io_uring_params: two words, then the flags.
                kind::IO_URING => (user_word(call.arg(plan.b) + 8) & IORING_SETUP_SQPOLL != 0).then_some(0),
                _ => Some(0),
            }
        }
    }
}

/// VERIFIER: each kind apart, so that each is looked at by itself.
#[inline(always)]
fn by_kind(asker: &Asker, call: &Call, detail: u64) -> u64 {
    match call.plan.kind {
        kind::OPEN => open(asker, call, detail as u32),
        kind::OF_DESCRIPTOR => of_descriptor(asker, call, detail as u32),
        kind::MAP => map_file(asker, call),
        kind::OF_PATH => of_path(asker, call),
        kind::OF_TWO_PATHS => of_two_paths(asker, call),
        kind::MOUNT => mount(asker, call),
        kind::UMOUNT => umount(asker, call),
        kind::PIVOT_ROOT => pivot_root(asker, call),
        kind::MOVE_MOUNT => move_mount(asker, call),
        kind::OF_ADDRESS => of_address(asker, call, detail),
        _ => plain(asker, call),
    }
}

/// include/uapi/asm-generic/fcntl.h.
const O_WRONLY: u32 = 0o1;
const O_PATH: u32 = 0o1000_0000;

/// The flags that a file was opened with; `None` if only a path was wanted.
#[inline(always)]
fn flags_of_open(call: &Call) -> Option<u32> {
    let flags = match call.plan.c {
        NONE => hook::O_CREAT | O_WRONLY | hook::O_TRUNC,
        IN_MEMORY => user_word(call.arg(2)) as u32,
        nth => call.arg(nth) as u32,
    };
    (flags & O_PATH == 0).then_some(flags)
}

#[inline(never)]
fn open(asker: &Asker, call: &Call, flags: u32) -> u64 {
    if call.failed() {
        // The name would have been made, and AppArmor was asked for that first.
        if flags & hook::O_CREAT != 0 && matches!(call.returned, EPERM | EACCES) {
            let string = call.arg(call.plan.b);
            of_string(asker, call, Op::Create, perms::CREATE, flag::REFUSED, call.plan.a, string);
        }
        return 0;
    }
    let Some(file) = file_of(call.returned as u32) else { return 0 };
    let perms = hook::open_perms(file.mode(), file.flags() | flags);
    hook::of_file_by(asker, Op::Open, perms, hook::exclusive(flags), file);
    0
}

/// The first eight bytes of memory of the task's own; 0 where it cannot be read.
#[inline(always)]
fn user_word(at: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: eight bytes to our own; the helper checks the source.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, at as *const _) };
    word
}

/// An access to a path that is a string.
#[inline(always)]
fn of_string(asker: &Asker, call: &Call, op: Op, perms: u16, flags: u32, directory: u8, string: u64) {
    let Some(base) = call.base(opaque(directory.into()) as u8, string) else { return };
    let flags = flags | flag::INFERRED | flag::RELATIVE;
    let Some(mut access) = Access::begin(asker, op, perms, flags, [0; 2]) else { return };
    access.add_relative(0, base, string);
    access.send();
}

#[inline(never)]
fn of_descriptor(asker: &Asker, call: &Call, kind: u32) -> u64 {
    let (Some(outcome), Some(op)) = (call.outcome(), Op::from_number(call.plan.op)) else { return 0 };
    let perms = if op == Op::Lock { hook::lock_perms(kind) } else { perms::WRITE };
    if let Some(file) = file_of(call.arg(call.plan.a) as u32) {
        hook::of_file_by(asker, op, perms, outcome, file);
    }
    0
}

/// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`; `None` if the call locks nothing.
#[inline(always)]
fn kind_of_lock(call: &Call) -> Option<u32> {
    let what = call.arg(call.plan.c);
    if call.plan.f == 1 {
        // LOCK_SH 1, LOCK_EX 2, LOCK_UN 8 (include/uapi/asm-generic/fcntl.h).
        return Some(if what & 2 != 0 { 1 } else { 0 });
    }
    match what {
        // F_SETLK, F_SETLKW, their 64-bit forms on 32 bits, and F_OFD_SETLK, F_OFD_SETLKW: the type is the first word of
        // struct flock.
        6 | 7 | 13 | 14 | 37 | 38 => Some(user_word(call.arg(2)) as u32 & 0xffff),
        // F_SETLEASE: the argument.
        1024 => Some(call.arg(2) as u32),
        _ => None,
    }
}

#[inline(never)]
fn map_file(asker: &Asker, call: &Call) -> u64 {
    if let Some(file) = file_of(call.arg(call.plan.a) as u32) {
        hook::of_file_by(asker, Op::Mmap, perms::MMAP_EXEC | perms::READ, 0, file);
    }
    0
}

/// include/uapi/linux/fcntl.h.
const AT_REMOVEDIR: u64 = 0x200;

#[inline(never)]
fn of_path(asker: &Asker, call: &Call) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    let Some(mut op) = Op::from_number(call.plan.op) else { return 0 };
    if op == Op::Unlink && call.plan.c != NONE && call.arg(call.plan.c) & AT_REMOVEDIR != 0 {
        op = Op::Rmdir;
    }
    let (perms, directory) = match op {
        Op::Mkdir => (perms::CREATE, flag::DIRECTORY),
        Op::Rmdir => (perms::DELETE, flag::DIRECTORY),
        Op::Unlink => (perms::DELETE, 0),
        Op::Create | Op::Symlink => (perms::CREATE, 0),
        _ => (perms::WRITE, 0),
    };
    of_string(asker, call, op, perms, outcome | directory, call.plan.a, call.arg(call.plan.b));
    0
}

#[inline(never)]
fn of_two_paths(asker: &Asker, call: &Call) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    let (old, new) = (call.arg(call.plan.b), call.arg(call.plan.d));
    if Op::from_number(call.plan.op) == Some(Op::Link) {
        let (Some(new_base), Some(old_base)) = (call.base(call.plan.c, new), call.base(call.plan.a, old))
        else {
            return 0;
        };
        let flags = outcome | flag::INFERRED | flag::RELATIVE | flag::RELATIVE_TOO;
        let Some(mut access) = Access::begin(asker, Op::Link, 0, flags, [0; 2]) else { return 0 };
        access.add_relative(0, new_base, new);
        access.add_relative(2, old_base, old);
        access.send();
        return 0;
    }
    let exchange = call.plan.e != NONE && call.arg(call.plan.e) as u32 & hook::RENAME_EXCHANGE != 0;
    let both = hook::RENAME_FROM | hook::RENAME_TO;
    let (source, target) = if exchange { (both, both) } else { (hook::RENAME_FROM, hook::RENAME_TO) };
    of_string(asker, call, Op::RenameFrom, source, outcome, call.plan.a, old);
    of_string(asker, call, Op::RenameTo, target, outcome, call.plan.c, new);
    0
}

#[inline(never)]
fn mount(asker: &Asker, call: &Call) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    let target = call.arg(1);
    let Some(base) = call.base(NONE, target) else { return 0 };
    let flags = outcome | flag::INFERRED | flag::RELATIVE;
    let Some(mut access) = Access::begin(asker, Op::Mount, 0, flags, [call.arg(3), 0]) else { return 0 };
    access.add_relative(0, base, target);
    access.add_user_string(2, call.arg(0));
    access.add_user_string(3, call.arg(2));
    access.send();
    0
}

#[inline(never)]
fn umount(asker: &Asker, call: &Call) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    let target = call.arg(0);
    let Some(base) = call.base(NONE, target) else { return 0 };
    let args = [if call.plan.b == NONE { 0 } else { call.arg(1) & 0xffff_ffff }, 0];
    let flags = outcome | flag::INFERRED | flag::RELATIVE;
    let Some(mut access) = Access::begin(asker, Op::Umount, 0, flags, args) else { return 0 };
    access.add_relative(0, base, target);
    access.send();
    0
}

#[inline(never)]
fn pivot_root(asker: &Asker, call: &Call) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    // The root is another one by now: what the strings meant is only known where they were absolute.
    let (new_root, put_old) = (call.arg(0), call.arg(1));
    let (Some(new_base), Some(old_base)) = (call.base(NONE, new_root), call.base(NONE, put_old)) else {
        return 0;
    };
    let flags = outcome | flag::INFERRED | flag::RELATIVE | flag::RELATIVE_TOO;
    let Some(mut access) = Access::begin(asker, Op::PivotRoot, 0, flags, [0; 2]) else { return 0 };
    access.add_relative(0, new_base, new_root);
    access.add_relative(2, old_base, put_old);
    access.send();
    0
}

#[inline(never)]
fn move_mount(asker: &Asker, call: &Call) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    let target = call.arg(call.plan.b);
    let Some(base) = call.base(call.plan.a, target) else { return 0 };
    let flags = outcome | flag::INFERRED | flag::RELATIVE;
    let Some(mut access) = Access::begin(asker, Op::Mount, 0, flags, [hook::MS_MOVE, 0]) else { return 0 };
    access.add_relative(0, base, target);
    access.send();
    0
}

/// include/linux/socket.h.
const AF_UNIX: u16 = 1;

/// The address of the path in a unix socket's address; `None` if there is none.
#[inline(always)]
fn path_of_socket(call: &Call) -> Option<u64> {
    let (mut address, mut len) = (call.arg(call.plan.b), call.plan.c);
    if call.plan.e == 1 {
        // struct user_msghdr: the name's address, then its length (include/linux/socket.h).
        let header = address;
        if call.compat {
            return None;
        }
        address = user_word(header);
        len = NONE;
        if user_word(header + 8) as u32 <= 2 {
            return None;
        }
    }
    if address == 0 || (len != NONE && call.arg(len) <= 2) {
        return None;
    }
    let head = user_word(address);
    // An abstract name begins with a NUL (unix(7)).
    (head as u16 == AF_UNIX && (head >> 16) as u8 != 0).then_some(address + 2)
}

#[inline(never)]
fn of_address(asker: &Asker, call: &Call, path: u64) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    let (op, perms) = match Op::from_number(call.plan.op) {
        Some(Op::Connect) => (Op::Connect, perms::READ | perms::WRITE),
        Some(Op::Create) => (Op::Create, perms::CREATE),
        _ => (Op::Send, perms::WRITE),
    };
    of_string(asker, call, op, perms, outcome, NONE, path);
    0
}

/// include/uapi/linux/ptrace.h.
const PTRACE_TRACEME: u64 = 0;
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;
/// include/uapi/linux/sched.h.
const CLONE_NEWUSER: u64 = 0x1000_0000;
/// `include/uapi/linux/io_uring.h`.
const IORING_SETUP_SQPOLL: u64 = 1 << 1;

/// What has no path.
#[inline(never)]
fn plain(asker: &Asker, call: &Call) -> u64 {
    let Some(outcome) = call.outcome() else { return 0 };
    let plan = &call.plan;
    let (op, args, peer) = match plan.kind {
        kind::SOCKET => {
            (Op::Network, [call.arg(plan.a) & 0xffff, call.arg(plan.b) & hook::SOCK_TYPE_MASK], 0)
        }
        // Whom a number means is the task's own namespace's to say; most programs test their own children.
        kind::SIGNAL => (Op::Signal, [0, 0], flag::PEER_INSIDE),
        kind::TRACE | kind::OTHER_MEMORY => (Op::Ptrace, [1, 0], flag::PEER_INSIDE),
        kind::NAMESPACES => (Op::UserNamespace, [0, 0], 0),
        kind::IO_URING => (Op::IoUringSqPoll, [0, 0], 0),
        _ => return 0,
    };
    let inferred = if peer == 0 { 0 } else { flag::INFERRED };
    hook::of_args(asker, op, outcome | peer | inferred, args);
    0
}

/// `raw_tp/sched_process_exec(task, old_pid, bprm)`: include/trace/events/sched.h.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn exec(ctx: RawTracePointContext) -> i32 {
    let bprm: u64 = ctx.arg(2);
    let (named, interpreter): (u64, u64) =
        (probe(bprm, offset::BPRM_FILENAME.load()), probe(bprm, offset::BPRM_INTERP.load()));
    let Some(asker) = Asker::get() else { return 0 };
    if named == interpreter {
        hook::of_executed(&asker, File(probe(bprm, offset::BPRM_FILE.load())), 0);
        return 0;
    }
    // A script, whose file is closed by now: the kernel keeps its name as it was given.
    let absolute = probe::<u16>(named, 0) as u8 == b'/';
    let task = Current::task();
    let base = if absolute { task.root_place() } else { task.working_place() };
    let flags = flag::INFERRED | flag::RELATIVE;
    let Some(mut access) = Access::begin(&asker, Op::Exec, perms::EXEC, flags, [0; 2]) else { return 0 };
    access.add_place(0, base);
    access.add_kernel_string(1, named);
    access.send();
    0
}

/// `security_vm_enough_memory_mm()`, from its first byte to its end; 0 where the kernel does not list it.
#[unsafe(no_mangle)]
static VM_CAPABILITY_BEGIN: aya_ebpf::Global<u64> = aya_ebpf::Global::new(0);
/// See [`VM_CAPABILITY_BEGIN`].
#[unsafe(no_mangle)]
static VM_CAPABILITY_END: aya_ebpf::Global<u64> = aya_ebpf::Global::new(0);

/// `CAP_SYS_ADMIN` (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u64 = 21;

/// `raw_tp/cap_capable(cred, target_ns, capable_ns, cap, ret)`: include/trace/events/capability.h, since 6.14. What was asked
/// with which options it does not tell.
#[raw_tracepoint(tracepoint = "cap_capable")]
pub(crate) fn cap_capable(ctx: RawTracePointContext) -> i32 {
    let (capability, verdict) = (ctx.arg::<u64>(3) & 63, ctx.arg::<u64>(4) as i32);
    if verdict != 0
        || (capability == CAP_SYS_ADMIN && subject::is_current_recorded() && is_about_memory(&ctx))
    {
        return 0;
    }
    hook::of_capability(ctx.arg(0), capability, 0, 0);
    0
}

/// Whether the kernel asks how much memory there may be: for each growth of any process, and past every other security module
/// (`cap_vm_enough_memory()`, security/commoncap.c). Only the callers tell, and that one itself may have left none of its own: it
/// ends in the call.
#[inline(always)]
fn is_about_memory(ctx: &RawTracePointContext) -> bool {
    let (begin, end) = (VM_CAPABILITY_BEGIN.load(), VM_CAPABILITY_END.load());
    let mut callers = [0u64; 8];
    // SAFETY: the buffer has that many bytes.
    unsafe { bpf_get_stack(ctx.as_ptr(), callers.as_mut_ptr().cast(), size_of_val(&callers) as u32, 0) };
    callers.iter().any(|caller| (begin..end).contains(caller))
}

/// include/uapi/asm-generic/siginfo.h.
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;

/// `raw_tp/signal_generate(sig, info, task, group, result)`: include/trace/events/signal.h.
#[raw_tracepoint(tracepoint = "signal_generate")]
pub(crate) fn signal_generate(ctx: RawTracePointContext) -> i32 {
    let info: u64 = ctx.arg(1);
    // What a task sends by kill(2), sigqueue(3) and tgkill(2): only for these is AppArmor asked. Timers have codes below 0 too,
    // and SEND_SIG_NOINFO (0) and SEND_SIG_PRIV (1) are the kernel's own (include/linux/sched/signal.h).
    if info <= 1 || !matches!(probe::<i32>(info, offset::SIGINFO_CODE.load()), SI_USER | SI_QUEUE | SI_TKILL)
    {
        return 0;
    }
    let Some(asker) = Asker::get() else { return 0 };
    hook::of_peer(&asker, Op::Signal, 0, ctx.arg::<u64>(0) & 0x7f, Task(ctx.arg(2)));
    0
}
