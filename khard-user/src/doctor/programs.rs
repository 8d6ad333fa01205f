//! Whether khard's own kernel programs load and attach here, as the loader would do it, and which it would take.
//!
//! Owns the trial. What the programs do is the loader's.
use super::{Outcome, kernel::KernelFacts, probe};
use crate::bpf::{AttachPlan, Bpf, KernelVersion, LoadError, Role};
use serde::Serialize;

/// Kinds of programs, and khard's own.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProgramFacts {
    /// Each kind, tried by itself.
    pub(crate) types: Vec<probe::ProgramType>,
    /// The programs that khard would attach on this kernel.
    pub(crate) planned: Vec<&'static str>,
    /// How many of them see each system call.
    pub(crate) n_syscall_programs: usize,
    /// Whether this khard holds its programs at all.
    pub(crate) built_in: bool,
    /// Whether all planned ones load.
    pub(crate) load: Outcome,
    /// Whether all planned ones attach; they are detached at once.
    pub(crate) attach: Outcome,
}

impl ProgramFacts {
    pub(super) fn gather(kernel: &KernelFacts) -> Self {
        let version = KernelVersion::parse(&kernel.release);
        let plan = version.map(AttachPlan::for_kernel);
        let programs = plan.as_ref().map(|plan| plan.programs.as_slice()).unwrap_or_default();
        let (built_in, load, attach) = match &plan {
            None => {
                let why = Outcome::Untried(format!("{} is no kernel version", kernel.release));
                (true, why.clone(), why)
            }
            Some(plan) => try_plan(plan),
        };
        Self {
            types: probe::program_types(),
            planned: programs.iter().map(|program| program.name).collect(),
            n_syscall_programs: programs.iter().filter(|program| program.role == Role::Syscalls).count(),
            built_in,
            load,
            attach,
        }
    }
}

fn try_plan(plan: &AttachPlan) -> (bool, Outcome, Outcome) {
    match Bpf::load(plan) {
        Ok(mut bpf) => (true, Outcome::Yes, bpf.attach(plan).into()),
        Err(error) => {
            let built_in = !matches!(error, LoadError::Stub);
            (built_in, Err(error).into(), Outcome::Untried("they do not load".to_owned()))
        }
    }
}
