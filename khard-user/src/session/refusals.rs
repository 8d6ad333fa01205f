//! Looking for system calls that seccomp filters refuse. Owns when the programs for it are attached, since they cost: while somebody
//! who is recorded has a filter, or is about to have one; and what the coverage says of it.

use khard_profile::recording::{Attachment, Coverage, From, Observed, Proof};

use crate::{
    bpf::{AttachPlan, Bpf, LoadError, Misses, PROGRAMS, Role},
    causes::with_causes,
    confinement, host,
};

/// Whether the programs are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Refusals {
    /// Nobody has a filter.
    #[default]
    NotNeeded,
    /// Since a time (`CLOCK_BOOTTIME`).
    Watched { since_ns: u64 },
    /// The kernel does not take them; why, in words.
    Failed(String),
}

impl Refusals {
    /// Attaches the programs or takes them off. A kernel that does not take them fails nothing else.
    pub(super) fn adapt(
        &mut self,
        bpf: &mut Bpf,
        plan: &AttachPlan,
        is_needed: bool,
    ) -> Result<(), LoadError> {
        match (&self, is_needed) {
            (Self::NotNeeded, true) => {
                *self = match bpf.attach_refusals(plan) {
                    Ok(()) => {
                        tracing::info!("a seccomp filter is in force: looking for the calls that it refuses");
                        Self::Watched { since_ns: host::boot_time_ns() }
                    }
                    Err(error) => {
                        let why = with_causes(&error);
                        tracing::warn!("calls that seccomp filters refuse are not seen: {why}");
                        bpf.detach_refusals()?;
                        Self::Failed(why)
                    }
                };
            }
            (Self::Watched { .. }, false) => {
                bpf.detach_refusals()?;
                *self = Self::NotNeeded;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What is known of one instance's filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Whether one of its processes was seen to have one.
    pub(super) is_seen: bool,
    /// Processes that may be putting one on: looked at twice, since their call is told when it begins.
    suspects: Vec<(u32, u8)>,
    /// How its refused calls are looked for.
    pub(super) refusals: Refusals,
}

impl Filter {
    /// Takes note of a process that made a call by which filters are put on.
    pub(super) fn suspect(&mut self, tgid: u32) {
        if !self.is_seen {
            self.suspects.push((tgid, 2));
        }
    }

    /// Looks at the suspects.
    pub(super) fn look(&mut self) {
        self.suspects.retain_mut(|(tgid, n_looks)| {
            self.is_seen |= confinement::of_process(*tgid).seccomp_mode == Some(2);
            *n_looks -= 1;
            *n_looks > 0
        });
    }

    /// How far refused calls were seen. `began_ns`: when the workload made its first call; 0 where that is not known.
    pub(super) fn coverage(&self, from: From, began_ns: Option<u64>, misses: &Misses) -> Coverage {
        let since_ns = match &self.refusals {
            Refusals::NotNeeded => return Coverage::none("no seccomp filter was seen to be in force"),
            Refusals::Failed(why) => return Coverage::none(why),
            Refusals::Watched { since_ns } => *since_ns,
        };
        let is_late = began_ns.is_some_and(|began_ns| began_ns < since_ns);
        let programs = PROGRAMS.iter().filter(|program| program.role == Role::Refusals);
        let attached = programs.filter_map(|program| Some((program.name, *misses.get(program.name)?)));
        let hooks: Vec<_> = attached.map(|(name, n)| [(name.to_owned(), n)].into()).collect();
        let observed = Observed {
            from: if is_late { From::Late } else { from },
            by: Attachment::Tracepoint,
            lost: std::collections::BTreeMap::new(),
            proof: Proof::from_hooks(&hooks),
        };
        // Where the entry of a call was skipped, a call that failed by itself is taken for a refused one.
        match observed.proof {
            Proof::Complete { .. } => Coverage::Exact(observed),
            _ => Coverage::Inferred(observed),
        }
    }
}
