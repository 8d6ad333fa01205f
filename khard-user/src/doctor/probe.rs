//! Loads and attaches programs of two instructions, to see which kinds the kernel really takes.
//!
//! Owns the system calls for that. The programs return 0 and do nothing else; each is gone when its descriptor is
//! closed, at the end of its trial.
use super::Outcome;
use crate::bpf::Btf;
use crate::kernel::fs::TRACEFS;
use serde::Serialize;
use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// A kind of program, and what the kernel says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProgramType {
    pub(crate) name: &'static str,
    /// Whether the kernel takes such a program.
    pub(crate) loads: Outcome,
    /// Whether it lets it see events. Kernels without BPF trampolines take some programs and refuse to attach them.
    pub(crate) attaches: Outcome,
}

/// `mov64 r0, 0; exit` (Documentation/bpf/standardization/instruction-set.rst), little-endian.
const RETURN_0: [u64; 2] = [0xb7, 0x95];

/// A tracepoint that fires seldom, for trials: at each execve.
const TRACEPOINT: &CStr = c"sched_process_exec";
/// Where LSM, fexit and kprobe programs are tried: a hook that khard's later classes need.
const FUNCTION: &CStr = c"security_file_open";
const LSM_HOOK: &str = "bpf_lsm_file_open";

/// Program and attach types of include/uapi/linux/bpf.h.
mod kind {
    pub(super) const KPROBE: u32 = 2;
    pub(super) const TRACEPOINT: u32 = 5;
    pub(super) const RAW_TRACEPOINT: u32 = 17;
    pub(super) const TRACING: u32 = 26;
    pub(super) const LSM: u32 = 29;
    pub(super) const ATTACH_TRACE_RAW_TP: u32 = 23;
    pub(super) const ATTACH_TRACE_FEXIT: u32 = 25;
    pub(super) const ATTACH_LSM_MAC: u32 = 27;
}

/// Tries each kind.
pub(super) fn program_types() -> Vec<ProgramType> {
    let btf = Btf::of_kernel().ok();
    let type_id = |find: &dyn Fn(&Btf) -> Option<u32>, name: &str| {
        let btf = btf.as_ref().ok_or("the kernel shows no BTF")?;
        find(btf).ok_or_else(|| format!("the kernel's BTF has no {name}"))
    };
    let typed = |kind, attach_type, id: Result<u32, String>| {
        id.and_then(|id| load(kind, attach_type, id).map_err(|error| error.to_string()))
    };
    let tracepoint = format!("btf_trace_{}", TRACEPOINT.to_string_lossy());
    let function = FUNCTION.to_string_lossy();
    let plain = |kind| load(kind, 0, 0).map_err(|error| error.to_string());
    vec![
        tried("raw tracepoint", plain(kind::RAW_TRACEPOINT), |program| {
            open_raw_tracepoint(program, Some(TRACEPOINT))
        }),
        tried("perf tracepoint", plain(kind::TRACEPOINT), attach_perf_tracepoint),
        tried(
            "BTF tracepoint",
            typed(
                kind::TRACING,
                kind::ATTACH_TRACE_RAW_TP,
                type_id(&|btf| btf.typedef_id(&tracepoint), &tracepoint),
            ),
            |program| open_raw_tracepoint(program, None),
        ),
        tried("kprobe", plain(kind::KPROBE), attach_kprobe),
        tried(
            "fexit",
            typed(
                kind::TRACING,
                kind::ATTACH_TRACE_FEXIT,
                type_id(&|btf| btf.function_id(&function), &function),
            ),
            |program| open_raw_tracepoint(program, None),
        ),
        tried(
            "LSM",
            typed(kind::LSM, kind::ATTACH_LSM_MAC, type_id(&|btf| btf.function_id(LSM_HOOK), LSM_HOOK)),
            |program| open_raw_tracepoint(program, None),
        ),
    ]
}

fn tried(
    name: &'static str,
    loaded: Result<OwnedFd, String>,
    attach: impl FnOnce(&OwnedFd) -> Result<(), String>,
) -> ProgramType {
    match loaded {
        Err(why) => {
            let attaches = Outcome::Untried("it does not load".to_owned());
            ProgramType { name, loads: Outcome::No(why), attaches }
        }
        Ok(program) => {
            let attaches = attach(&program).map_or_else(Outcome::No, |()| Outcome::Yes);
            ProgramType { name, loads: Outcome::Yes, attaches }
        }
    }
}

/// `union bpf_attr` of `BPF_PROG_LOAD`, up to the last field needed (Linux 5.5).
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

fn load(prog_type: u32, expected_attach_type: u32, attach_btf_id: u32) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    let mut prog_name = [0; 16];
    prog_name[..12].copy_from_slice(b"khard_doctor");
    let attr = ProgLoad {
        prog_type,
        insn_cnt: 2,
        insns: RETURN_0.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        prog_name,
        expected_attach_type,
        attach_btf_id,
        ..ProgLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attr)
}

/// `union bpf_attr` of `BPF_RAW_TRACEPOINT_OPEN`. Without a name it attaches to what the program was loaded for.
#[repr(C)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

fn open_raw_tracepoint(program: &OwnedFd, name: Option<&CStr>) -> Result<(), String> {
    const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
    let attr = RawTracepointOpen {
        name: name.map_or(0, |name| name.as_ptr().addr() as u64),
        prog_fd: program.as_raw_fd().cast_unsigned(),
        padding: 0,
    };
    bpf(BPF_RAW_TRACEPOINT_OPEN, &attr).map(drop).map_err(|error| error.to_string())
}

fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a `repr(C)` head of `union bpf_attr` for this command, given with its size; the pointers in it
    // are to data that outlives the call, and the kernel only reads through them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    owned(fd)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `struct perf_event_attr` in its second published size (`PERF_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
}

fn attach_perf_tracepoint(program: &OwnedFd) -> Result<(), String> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    let file = format!("events/sched/{}/id", TRACEPOINT.to_string_lossy());
    let id = TRACEFS.read(&file)?;
    let config = id.trim().parse().map_err(|_| format!("tracefs: {file} is no number"))?;
    attach_to_event(program, &PerfEventAttr { kind: PERF_TYPE_TRACEPOINT, config, ..every_event() })
}

fn attach_kprobe(program: &OwnedFd) -> Result<(), String> {
    let pmu = fs::read_to_string("/sys/bus/event_source/devices/kprobe/type")
        .map_err(|_| "this kernel has no kprobes")?;
    let kind = pmu.trim().parse().map_err(|_| "the kprobe event source has no number")?;
    // config1 names the function (include/uapi/linux/perf_event.h: kprobe_func).
    let config1 = FUNCTION.as_ptr().addr() as u64;
    attach_to_event(program, &PerfEventAttr { kind, config1, ..every_event() })
}

fn every_event() -> PerfEventAttr {
    let size = u32::try_from(size_of::<PerfEventAttr>()).unwrap_or_default();
    PerfEventAttr { size, sample_period: 1, ..PerfEventAttr::default() }
}

fn attach_to_event(program: &OwnedFd, attr: &PerfEventAttr) -> Result<(), String> {
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;
    // SAFETY: `attr` is a `struct perf_event_attr` of the size that it says; a function name in it is a C string that
    // outlives the call. All processes (-1) on CPU 0, no group (-1).
    let event = unsafe {
        libc::syscall(libc::SYS_perf_event_open, std::ptr::from_ref(attr), -1, 0, -1, PERF_FLAG_FD_CLOEXEC)
    };
    let event = owned(event).map_err(|error| error.to_string())?;
    // SAFETY: both descriptors are open; the argument of this request is a program's descriptor.
    let set = unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) };
    if set < 0 { Err(io::Error::last_os_error().to_string()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_does_not_load_is_not_attached() {
        for kind in program_types() {
            let is_untried = matches!(kind.attaches, Outcome::Untried(_));
            assert_eq!(is_untried, !kind.loads.is_yes(), "{kind:?}");
        }
    }
}
