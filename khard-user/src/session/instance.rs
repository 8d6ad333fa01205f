//! One recorded instance: a container's attempt, a command, a stretch of a cgroup's life. Owns how it becomes a
//! run of a Recording, its coverage included.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    Tenant,
    refusals::{Filter, Refusals},
    seen::{Facts, Seen},
};
use crate::{
    bpf::{Bpf, Misses, PROGRAMS, Role, SlotNumber, Stats, Watched, Watching, of_class},
    cgroup::Events,
    host,
    stream::{SubjectId, SubjectState},
};
use khard_common::stats;
use khard_profile::{
    Bytes,
    recording::{
        AccessCoverage, Attachment, BadRunId, Class, Confinement, ContainerRun, Coverage, Ended, From, Host,
        Observed, Proof, Run, RunCoverage, RunId, Runtime, SeccompInForce, Subject,
    },
};

/// Who an instance is, as far as whoever named it knows.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The logical subject.
    pub subject: Subject,
    /// For people: `web/nginx`, `ls`. May hold anything.
    pub label: String,
    /// The container, if it is one.
    pub container: Option<ContainerRun>,
    /// What made it.
    pub runtime: Option<Runtime>,
    /// What confines it.
    pub confinement: Confinement,
    /// Its first process on the host.
    pub init_pid: Option<u32>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

/// When recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the cgroup's birth.
    FirstInstruction {
        /// `CLOCK_BOOTTIME`.
        born_ns: u64,
    },
    /// The workload ran before.
    Late {
        /// `CLOCK_BOOTTIME`.
        attached_ns: u64,
    },
}

impl Start {
    pub(super) fn from(self) -> From {
        match self {
            Self::FirstInstruction { .. } => From::FirstInstruction,
            Self::Late { .. } => From::Late,
        }
    }

    fn ns(self) -> u64 {
        match self {
            Self::FirstInstruction { born_ns: ns } | Self::Late { attached_ns: ns } => ns,
        }
    }
}

/// What can keep anything of a subject from being seen.
fn ways_to_lose_a_subject(stats: &Stats) -> [(&'static str, u64); 2] {
    [
        ("births_without_slot", stats[stats::BIRTHS_WITHOUT_SLOT]),
        ("cgroups_too_deep", stats[stats::CGROUPS_TOO_DEEP]),
    ]
}

fn counted(ways: &[(&str, u64)]) -> BTreeMap<String, u64> {
    ways.iter().filter(|(_, n)| *n > 0).map(|(way, n)| ((*way).to_owned(), *n)).collect()
}

/// How it ended, and the kernel's counters at that moment.
pub(super) struct End {
    why: Ended,
    at_ns: u64,
    misses: Misses,
    stats: Stats,
}

/// One recorded instance.
pub struct Instance {
    /// Its id.
    pub id: SubjectId,
    /// Its cgroup.
    pub cgroup_id: u64,
    /// Below the tree's root.
    pub cgroup_path: PathBuf,
    /// Who it is.
    pub identity: Identity,
    /// Since when.
    pub start: Start,
    pub(super) started_unix_ms: u64,
    /// Since when accesses are seen: a plain cgroup that was taken for a container's until it was claimed is late.
    pub(super) accesses_from: From,
    /// Open while there are few; of the others it is opened for each question.
    pub(super) events: Option<Events>,
    pub(super) slots: Vec<SlotNumber>,
    pub(super) seen: Seen,
    pub(super) filter: Filter,
    /// What a client was told as a whole; `None` if it has to be told again.
    pub(super) told: Option<Facts>,
    pub(super) was_populated: bool,
    pub(super) ended: Option<End>,
}

/// Overlayfs opens layers with the credentials of who mounted it, and no system call tells of it.
const LAYERS_UNSEEN: &str = "it mounted an overlay itself, or may have: what the kernel then opens of the overlay's layers, of which \
                             AppArmor is asked too, is not seen";
/// The hook that tells whose credentials those are.
const OF_LAYERS: &str = "cred_prepare";

/// Rises of the misses of the programs with a role.
fn of_role(misses: &Misses, role: Role) -> impl Iterator<Item = (&'static str, u64)> {
    let has_role = move |name: &str| PROGRAMS.iter().any(|p| p.name == name && p.role == role);
    misses.iter().map(|(name, n)| (*name, *n)).filter(move |(name, _)| has_role(name))
}

/// Events that each program with a role may have missed.
fn missed_by_all(misses: &Misses, role: Role) -> u64 {
    of_role(misses, role).map(|(_, n)| n).min().unwrap_or(0)
}

impl Instance {
    /// Whether it is over, and why.
    pub fn ended(&self) -> Option<Ended> {
        self.ended.as_ref().map(|end| end.why)
    }

    /// Whether a border between whoever prepares a process and its work is to be expected: not in a plain cgroup.
    fn is_container(&self) -> bool {
        !matches!(self.identity.subject, Subject::Cgroup { .. })
    }

    pub(super) fn has_sightings(&self, tenants: &BTreeMap<SlotNumber, Tenant>) -> bool {
        self.slots.iter().filter_map(|slot| tenants.get(slot)).any(|tenant| !tenant.calls.is_empty())
    }

    pub(super) fn read(&mut self, bpf: &Bpf, tenants: &BTreeMap<SlotNumber, Tenant>) {
        self.seen.update(self.slots.iter().map(|slot| bpf.slots().view(*slot)));
        let tenants = self.slots.iter().filter_map(|slot| tenants.get(slot));
        tenants.flat_map(|tenant| &tenant.unknown).for_each(|call| self.seen.note_unknown(*call));
    }

    pub(super) fn facts(&self) -> Facts {
        self.seen.facts(self.is_container())
    }

    /// All that a client is told of it as a whole.
    pub(super) fn state(&self, run: Run) -> SubjectState {
        SubjectState {
            id: self.id,
            label: self.identity.label.clone(),
            subject: self.identity.subject.clone(),
            run,
            placement: self.seen.placement(self.is_container()),
        }
    }

    pub(super) fn freeze(&mut self, why: Ended, at_ns: u64, misses: Misses, stats: Stats) {
        self.events = None;
        self.ended = Some(End { why, at_ns, misses, stats });
    }

    /// The run as it stands. `misses` and `stats` are the counters' present values, for one that lives.
    pub(super) fn run(
        &self,
        boot_id: &str,
        machine: &Host,
        watching: &Watching,
        misses: &Misses,
        stats: &Stats,
    ) -> Result<Run, BadRunId> {
        let (why, until_ns, misses, stats) = match &self.ended {
            Some(end) => (end.why, end.at_ns, &end.misses, &end.stats),
            None => (Ended::Checkpoint, host::boot_time_ns(), misses, stats),
        };
        let start_ns = self.start.ns();
        Ok(Run {
            id: RunId::new(boot_id, self.cgroup_id, start_ns)?,
            started_unix_ms: self.started_unix_ms,
            duration_ms: until_ns.saturating_sub(start_ns) / 1_000_000,
            ended: why,
            cgroup_path: Bytes::from(std::os::unix::ffi::OsStrExt::as_bytes(self.cgroup_path.as_os_str())),
            init_pid: self.identity.init_pid.or(self.seen.first_tgid()),
            joiners: self.seen.counts.joins,
            container: self.identity.container.clone(),
            runtime: self.identity.runtime.clone(),
            host: machine.clone(),
            confinement: self.confinement(),
            coverage: RunCoverage {
                syscalls: self.coverage(misses, stats),
                accesses: AccessCoverage::new(|class| self.access_coverage(class, watching, misses, stats)),
                refused_syscalls: self.filter.coverage(
                    self.start.from(),
                    self.seen.workload_began_ns(self.is_container()),
                    misses,
                ),
            },
            notes: self.notes(watching, misses, stats),
            marks: Vec::new(),
        })
    }

    /// A cgroup that is empty when it is named shows no confinement: what its processes put on is seen by its calls.
    fn confinement(&self) -> Confinement {
        let mut confinement = self.identity.confinement.clone();
        if confinement.seccomp == SeccompInForce::None && self.came_under_filter() {
            confinement.seccomp = SeccompInForce::Unknown { n_filters: None };
        }
        confinement
    }

    /// Whether its processes have put on a filter of their own. What a container's runtime puts on is known.
    fn came_under_filter(&self) -> bool {
        self.filter.is_seen || !self.is_container() && self.seen.came_under_filter()
    }

    /// Whether a filter is in force for it, or for some of its processes.
    pub(super) fn has_filter(&self) -> bool {
        self.identity.confinement.seccomp.is_filtered() || self.came_under_filter()
    }

    /// Says how its refused calls are looked for from now on. Who was watched once was watched from then on.
    pub(super) fn note_refusals(&mut self, refusals: &Refusals) {
        let refusals = match (self.has_filter(), &self.filter.refusals) {
            (true, Refusals::NotNeeded) => refusals.clone(),
            // It was taken for filtered before its process could be looked at.
            (false, Refusals::Watched { .. } | Refusals::Failed(_)) => Refusals::NotNeeded,
            _ => return,
        };
        self.filter.refusals = refusals;
        self.told = None;
    }

    fn coverage(&self, misses: &Misses, stats: &Stats) -> Coverage {
        let lost = counted(&ways_to_lose_a_subject(stats));
        let of_calls = of_role(misses, Role::Syscalls);
        let proof = Proof::from_misses(of_calls.map(|(name, n)| (name.to_owned(), n)).collect());
        Coverage::Exact(Observed { from: self.start.from(), by: Attachment::Tracepoint, lost, proof })
    }

    /// A class is seen as its least well seen hook is.
    fn access_coverage(&self, class: Class, watching: &Watching, misses: &Misses, stats: &Stats) -> Coverage {
        let (mut means, mut unseen) = (BTreeSet::new(), Vec::new());
        let mut proofs: Vec<BTreeMap<String, u64>> = Vec::new();
        for (hook, watched) in of_class(watching, class).filter(|(hook, _)| hook.name != OF_LAYERS) {
            match watched {
                Watched::By { attachment, programs } => {
                    means.insert(*attachment);
                    let of_hook = programs.iter().map(|name| (*name, misses.get(name).copied().unwrap_or(0)));
                    proofs.push(of_hook.map(|(name, n)| (name.to_owned(), n)).collect());
                }
                Watched::Absent => {}
                Watched::Not { reason } => unseen.push(format!("{}: {reason}", hook.lsm.without_it)),
            }
        }
        if matches!(class, Class::Files | Class::Capabilities) && self.misses_layers(watching, misses) {
            unseen.push(LAYERS_UNSEEN.to_owned());
        }
        let Some(by) = means.last().copied() else {
            return Coverage::none(unseen.first().map_or("", String::as_str));
        };
        let counts = self.seen.counts.accesses;
        let mut lost = counted(&ways_to_lose_a_subject(stats));
        lost.extend(counted(&[
            ("accesses_ring_full", counts.failed - counts.over_limit.min(counts.failed)),
            ("accesses_over_limit", counts.over_limit),
            ("accesses_unread", counts.unread),
            ("accesses_without_scratch", stats[stats::ACCESSES_WITHOUT_SCRATCH]),
        ]));
        if matches!(class, Class::Files | Class::Mounts | Class::Network) {
            lost.extend(counted(&[("outcomes_unknown", missed_by_all(misses, Role::Outcomes))]));
        }
        let observed = Observed { from: self.accesses_from, by, lost, proof: Proof::from_hooks(&proofs) };
        // Tracepoints come after the decision: refusals, and programs that the kernel cannot start, are not seen there.
        let is_near = matches!(by, Attachment::Syscall | Attachment::Tracepoint);
        if is_near || !unseen.is_empty() { Coverage::Inferred(observed) } else { Coverage::Exact(observed) }
    }

    /// Whether it may have mounted an overlay whose layers are not seen: one skipped copy of credentials hides all that follows.
    fn misses_layers(&self, watching: &Watching, misses: &Misses) -> bool {
        let is_seen = |watched: &Watched| match watched {
            Watched::By { programs, .. } => programs.iter().any(|name| misses.get(name) == Some(&0)),
            Watched::Absent | Watched::Not { .. } => false,
        };
        let sees_layers = watching.iter().any(|(hook, watched)| hook.name == OF_LAYERS && is_seen(watched));
        !sees_layers && self.seen.may_have_overlay_of_its_own
    }

    fn notes(&self, watching: &Watching, misses: &Misses, stats: &Stats) -> Vec<String> {
        let mut notes = self.identity.notes.clone();
        let mut add = |note: String| notes.push(note);
        if self.confinement().seccomp != SeccompInForce::None {
            add("recorded under a seccomp filter: what the program would do with the calls that it refused is not in the recording".to_owned());
        }
        if !self.is_container() && self.seen.has_no_border() {
            add("no change of root was seen before a program began, as in a container: the calls of whoever started \
                 it in this cgroup count as its own"
                .to_owned());
        } else if matches!(self.start, Start::FirstInstruction { .. })
            && !self.seen.has_workload(self.is_container())
            && self.ended.is_some()
        {
            add("the workload was not seen to begin: every call was the runtime's".to_owned());
        }
        if self.misses_layers(watching, misses) {
            add(LAYERS_UNSEEN.to_owned());
        }
        if self.seen.counts.records_failed > 0 {
            add(format!(
                "{} records found no room at first: some witnesses may be later than the first call",
                self.seen.counts.records_failed
            ));
        }
        let unknown: Vec<_> = self.seen.unknown().map(|(abi, nr)| format!("{nr} ({abi})")).collect();
        if self.seen.counts.unknown_calls > 0 {
            add(format!(
                "{} calls had numbers that no kernel up to 7.3 implements ({}): they failed with ENOSYS",
                self.seen.counts.unknown_calls,
                if unknown.is_empty() { "which ones is not known".to_owned() } else { unknown.join(", ") }
            ));
        }
        if stats[stats::PROCESSES_FULL] > 0 {
            add(format!(
                "{} processes of runtimes or joiners, on the whole node, were counted as the workload",
                stats[stats::PROCESSES_FULL]
            ));
        }
        for program in PROGRAMS.iter().filter(|program| matches!(program.role, Role::Births | Role::Phases)) {
            let n_skipped = misses.get(program.name).copied().unwrap_or(0);
            if n_skipped > 0 {
                add(format!(
                    "the kernel skipped {} {n_skipped} times, on the whole node: {}",
                    program.name, program.without_it
                ));
            }
        }
        notes
    }
}
