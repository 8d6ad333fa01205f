//! What khard gives up once its programs are attached: it goes on reading names that workloads and runtimes
//! choose, and needs little for that.

use std::{collections::BTreeMap, io};

use rustix::thread::{
    CapabilitySet, CapabilitySets, Pid, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Privileges could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up {what}: khard does not go on with more than it needs")]
pub struct PrivilegeError {
    what: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Nothing can be recorded by who runs khard.
#[derive(Debug, thiserror::Error)]
#[error("recording needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN: run khard as root")]
pub struct NotPermitted;

/// Refuses at once who can certainly record nothing, before anything else is found amiss that root would not meet. What the kernel makes
/// of who passes is seen when programs are loaded.
///
/// # Errors
/// Without any privilege that the kernel asks for first (`CAP_BPF`, for which `CAP_SYS_ADMIN` stands too: capabilities(7)).
pub fn check_privileges() -> Result<(), NotPermitted> {
    let held = rustix::thread::capabilities(None::<Pid>).map_or(CapabilitySet::all(), |sets| sets.effective);
    if held.intersects(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN) { Ok(()) } else { Err(NotPermitted) }
}

/// What stays, and why.
const KEPT: CapabilitySet = CapabilitySet::BPF // map updates as subjects come and go
    .union(CapabilitySet::PERFMON) // the perf tracepoint's event, where it is attached
    .union(CapabilitySet::DAC_OVERRIDE) // the output folder may be another user's
    .union(CapabilitySet::DAC_READ_SEARCH) // cgroups by id: open_by_handle_at(2)
    .union(CapabilitySet::CHOWN) // files for the user behind sudo
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SYS_NICE) // not to be preempted while a map changes
    .union(CapabilitySet::KILL) // a command that runs as another user
    .union(CapabilitySet::SYS_PTRACE); // /proc/PID of the recorded: namespaces, filters, calls in progress

/// Calls that khard has no more use for, and that someone who took it over would begin with.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Gives up everything else, for this thread and all that it starts. Calls of another architecture end khard.
///
/// # Errors
/// When the kernel refuses; then khard must not go on.
pub fn drop_privileges() -> Result<(), PrivilegeError> {
    let failed = |what| {
        move |errno: rustix::io::Errno| PrivilegeError { what, source: Box::new(io::Error::from(errno)) }
    };
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        match remove_capability_from_bounding_set(capability) {
            // INVAL: a kernel older than the list does not know it, so nobody can have it. PERM: without CAP_SETPCAP
            // the bounding set stays, and no_new_privs takes its worth.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(errno) => return Err(failed("capabilities for good")(errno)),
        }
    }
    let held = rustix::thread::capabilities(None::<Pid>).map_err(failed("capabilities"))?;
    let kept = held.permitted.intersection(KEPT);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None::<Pid>, sets).map_err(failed("capabilities"))?;
    set_no_new_privs(true).map_err(failed("new privileges"))?;
    refuse_calls().map_err(|source| PrivilegeError { what: "system calls", source })
}

fn refuse_calls() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let errno = u32::try_from(libc::EPERM)?;
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules: BTreeMap<i64, Vec<_>> = REFUSED.iter().map(|nr| (*nr, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}
