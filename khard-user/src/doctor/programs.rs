//! Whether khard's own kernel programs load and attach here, as the loader would do it, and which it would take.
//!
//! Owns the trial. What the programs do is the loader's.
use super::{Outcome, kernel::KernelFacts, probe};
use crate::bpf::{AttachChoice, AttachPlan, Bpf, Hook, KernelVersion, LoadError, Role, Watched};
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
    /// By what means each hook would be watched; empty where the programs do not attach.
    pub(crate) hooks: Vec<HookFacts>,
}

/// One hook at which AppArmor decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HookFacts {
    /// The hook.
    pub(crate) name: &'static str,
    /// Its class of accesses.
    pub(crate) class: &'static str,
    /// The means.
    pub(crate) by: Option<&'static str>,
    /// Why there is none.
    pub(crate) why_not: Option<String>,
}

impl ProgramFacts {
    pub(super) fn gather(kernel: &KernelFacts) -> Self {
        let version = KernelVersion::parse(&kernel.release);
        let plan = version.map(AttachPlan::for_kernel);
        let programs = plan.as_ref().map(|plan| plan.programs.as_slice()).unwrap_or_default();
        let (built_in, load, attach, hooks) = match &plan {
            None => {
                let why = Outcome::Untried(format!("{} is no kernel version", kernel.release));
                (true, why.clone(), why, Vec::new())
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
            hooks,
        }
    }
}

fn try_plan(plan: &AttachPlan) -> (bool, Outcome, Outcome, Vec<HookFacts>) {
    match Bpf::load(plan) {
        Ok(mut bpf) => {
            let attached =
                bpf.attach(plan).and_then(|()| bpf.attach_accesses(AttachChoice::Auto, plan.kernel));
            let hooks = if attached.is_ok() { hooks(&bpf) } else { Vec::new() };
            (true, Outcome::Yes, attached.into(), hooks)
        }
        Err(error) => {
            let built_in = !matches!(error, LoadError::Stub);
            (built_in, Err(error).into(), Outcome::Untried("they do not load".to_owned()), Vec::new())
        }
    }
}

fn hooks(bpf: &Bpf) -> Vec<HookFacts> {
    let facts = |(hook, watched): &(&'static Hook, Watched)| {
        let (by, why_not) = match watched {
            Watched::By { attachment, .. } => (Some(attachment.as_str()), None),
            Watched::Not { reason } => (None, Some(reason.clone())),
            // Another hook sees the same.
            Watched::Absent => return None,
        };
        Some(HookFacts { name: hook.name, class: hook.class.as_str(), by, why_not })
    };
    bpf.watching().iter().filter_map(facts).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::HookFacts;

    #[test]
    fn a_hook_is_told_by_its_means_or_by_why_there_is_none() {
        let hook = |by, why_not: Option<&str>| {
            let facts =
                HookFacts { name: "file_open", class: "files", by, why_not: why_not.map(str::to_owned) };
            serde_json::to_value(facts).unwrap()
        };
        let seen = json!({"name": "file_open", "class": "files", "by": "lsm", "why_not": null});
        assert_eq!(hook(Some("lsm"), None), seen);
        let unseen = json!({"name": "file_open", "class": "files", "by": null, "why_not": "no BTF"});
        assert_eq!(hook(None, Some("no BTF")), unseen);
    }
}
