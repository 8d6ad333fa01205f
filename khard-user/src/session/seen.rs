//! What is known of one instance on this side of the stream: the union of its slots' tables and counters, and what of it was
//! told. Knows no slot and no map, and keeps no access: those are the client's.

use std::collections::BTreeSet;

use khard_common::{
    limits::TABLE_BYTES,
    phase,
    record::SyscallRecord,
    slot::{Abi as TableAbi, BORDER_BY_A_CHILD, STARTED, X32_BIT, table_index, table_key},
};
use khard_profile::recording::{Abi, Access, Phase};

use crate::{
    bpf::{AccessCounts, SlotView},
    stream::{Placement, Stage},
};

/// Where in the table a record's call has its byte.
pub(super) fn place_of(call: &SyscallRecord) -> Option<usize> {
    let abi = match call.abi {
        0 => TableAbi::Native,
        1 => TableAbi::Ia32,
        2 => TableAbi::X32,
        _ => return None,
    };
    let nr = if abi == TableAbi::X32 { call.nr & !X32_BIT } else { call.nr };
    table_index(abi, nr)
}

/// Everything about one instance.
pub(super) struct Seen {
    table: Box<[u8; TABLE_BYTES]>,
    /// The bits of the table that were told.
    told: Box<[u8; TABLE_BYTES]>,
    /// All bits that any byte of the table has.
    stages: u8,
    /// What the slots count.
    pub(super) counts: Counts,
    unknown: BTreeSet<(u32, u32)>,
    /// When the first of all calls came, and from which process: the runtime's, or the command itself.
    first: Option<(u64, u32)>,
    /// When the workload's first call came.
    workload_began_ns: Option<u64>,
    /// Whether it mounted an overlay itself, or may have.
    pub(super) may_have_overlay_of_its_own: bool,
    /// Whether a workload was seen to begin, or had begun before.
    has_started: bool,
    /// Whether whoever is on the near side of the border may be the work itself.
    border_by_a_child: bool,
}

/// Counters of an instance's slots, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Calls with numbers that the table has no place for.
    pub(super) unknown_calls: u64,
    /// Records without room, whose witness is missing.
    pub(super) records_failed: u64,
    /// Processes that joined.
    pub(super) joins: u64,
    /// What became of accesses.
    pub(super) accesses: AccessCounts,
    /// Processes that may have been on their way in, and did not arrive.
    untold: u64,
}

/// What of an instance a client is told as a whole: it is told again when this is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    lost: [u64; 5],
    joins: u64,
    n_unknown: usize,
    first_tgid: Option<u32>,
    flags: [bool; 4],
    placement: Placement,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            table: Box::new([0; TABLE_BYTES]),
            told: Box::new([0; TABLE_BYTES]),
            stages: 0,
            counts: Counts::default(),
            unknown: BTreeSet::new(),
            first: None,
            workload_began_ns: None,
            may_have_overlay_of_its_own: false,
            has_started: false,
            border_by_a_child: false,
        }
    }
}

impl Seen {
    /// Unites what slots hold now.
    pub(super) fn update(&mut self, views: impl Iterator<Item = SlotView>) {
        self.counts = Counts::default();
        for view in views {
            self.counts.accesses += view.accesses;
            for (mine, theirs) in self.table.iter_mut().zip(view.table.iter()) {
                *mine |= theirs;
            }
            self.counts.unknown_calls += view.unknown_calls;
            self.counts.records_failed += view.records.1;
            self.counts.joins += view.joins;
            self.counts.untold += view.untold;
            self.has_started |= view.flags & STARTED != 0;
            self.border_by_a_child |= view.flags & BORDER_BY_A_CHILD != 0;
        }
        self.stages = self.table.iter().fold(0, |all, byte| all | byte);
    }

    /// Takes note of a call that is told.
    pub(super) fn note(&mut self, call: &SyscallRecord) {
        if let Some(at) = place_of(call) {
            self.told[at] |= call.header.phase;
        }
        if call.header.phase == phase::WORKLOAD {
            let began_ns = self.workload_began_ns.unwrap_or(u64::MAX);
            self.workload_began_ns = Some(began_ns.min(call.header.time_ns));
        }
        let first = (call.header.time_ns, call.tgid);
        self.first = Some(self.first.map_or(first, |known| known.min(first)));
    }

    /// Takes note of a number that the table has no place for.
    pub(super) fn note_unknown(&mut self, call: (u32, u32)) {
        self.unknown.insert(call);
    }

    /// Takes note of an access that is told.
    pub(super) fn note_access(&mut self, what: &Access) {
        self.may_have_overlay_of_its_own |= match what {
            Access::Mount { fstype, source, flags, .. } => {
                fstype.as_slice() == b"overlay" || flags & libc::MS_MOVE != 0 && source.as_slice().is_empty()
            }
            _ => false,
        };
    }

    /// What is in the table and was not told: it is, from now on.
    pub(super) fn untold(&mut self) -> Vec<(Abi, u32, Stage)> {
        let mut untold = Vec::new();
        if self.table == self.told {
            return untold;
        }
        for (at, (byte, told)) in (0u32..).zip(self.table.iter().zip(self.told.iter_mut())) {
            let mut left = byte & !*told;
            *told |= byte;
            while left != 0 {
                let mask = left & left.wrapping_neg();
                left &= !mask;
                let (abi, nr) = table_key(at);
                untold.extend(Stage::from_mask(mask).map(|stage| (abi_of_table(abi as u32), nr, stage)));
            }
        }
        untold
    }

    /// 64-bit calls that threads were in when recording began.
    pub(super) fn add_calls_in_progress(&mut self, numbers: impl Iterator<Item = u32>) {
        for at in numbers.filter_map(|nr| table_index(TableAbi::Native, nr)) {
            self.table[at] |= phase::WORKLOAD;
        }
    }

    /// Whether no border was in sight between whoever prepared processes and their work, as it is where processes are
    /// started in a cgroup that is no container: that changes neither their mounts nor their root.
    ///
    /// The flag tells whether a workload began, not the table: what is called before the programs know of a process can have any
    /// bit there.
    pub(super) fn has_no_border(&self) -> bool {
        let no_joiner = self.has_no_joiner() && self.has(phase::JOINING | phase::JOINING_FILTERED);
        self.has_no_workload() || no_joiner
    }

    fn has(&self, phases: u8) -> bool {
        self.stages & phases != 0
    }

    fn has_no_workload(&self) -> bool {
        (!self.has_started || self.border_by_a_child) && self.has(phase::RUNTIME | phase::RUNTIME_FILTERED)
    }

    fn has_no_joiner(&self) -> bool {
        !self.has(phase::JOINER) || self.border_by_a_child
    }

    /// Which phase each stage belongs to. `is_container`: a border is to be expected; where none is, and none
    /// was seen, all that was called before it is taken for the work itself: wider than needed, never narrower.
    pub(super) fn placement(&self, is_container: bool) -> Placement {
        let no_workload = !is_container && self.has_no_workload();
        let no_joiner = !is_container && self.has_no_joiner();
        let untold = match self.counts.untold {
            0 if no_joiner => Phase::Joiner,
            0 => Phase::Joining,
            _ => Phase::Workload,
        };
        Placement::new(|stage| match stage {
            Stage::Runtime | Stage::RuntimeFiltered if no_workload => Phase::Workload,
            Stage::Joining | Stage::JoiningFiltered if no_joiner => Phase::Joiner,
            Stage::Untold => untold,
            Stage::Runtime => Phase::Runtime,
            Stage::RuntimeFiltered => Phase::RuntimeFiltered,
            Stage::Workload => Phase::Workload,
            Stage::Joining => Phase::Joining,
            Stage::JoiningFiltered => Phase::JoiningFiltered,
            Stage::Joiner => Phase::Joiner,
        })
    }

    /// Whether any call counts as the workload's.
    pub(super) fn has_workload(&self, is_container: bool) -> bool {
        let placement = self.placement(is_container);
        let is_here = |stage: &Stage| self.has(stage.mask());
        Stage::ALL.iter().filter(|stage| is_here(stage)).any(|stage| placement.of(*stage) == Phase::Workload)
    }

    /// Whether a process came under a seccomp filter after it had entered and before its work began.
    pub(super) fn came_under_filter(&self) -> bool {
        self.has(phase::RUNTIME_FILTERED | phase::JOINING_FILTERED)
    }

    /// Whose the first call was.
    pub(super) fn first_tgid(&self) -> Option<u32> {
        self.first.map(|(_, tgid)| tgid)
    }

    /// When the workload made its first call; 0 where that call's record may be missing, `None` where it has made none.
    pub(super) fn workload_began_ns(&self, is_container: bool) -> Option<u64> {
        let is_all_work = !is_container && self.has_no_border();
        let began_ns = if is_all_work { self.first.map(|(at_ns, _)| at_ns) } else { self.workload_began_ns };
        began_ns.or((self.counts.records_failed > 0 && self.has_workload(is_container)).then_some(0))
    }

    /// Numbers beyond the table, with their ABI.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (Abi, u32)> {
        self.unknown.iter().map(|(abi, nr)| (abi_of_table(*abi), *nr))
    }

    /// What a client is told as a whole.
    pub(super) fn facts(&self, is_container: bool) -> Facts {
        let accesses = self.counts.accesses;
        Facts {
            lost: [
                accesses.failed,
                accesses.over_limit,
                accesses.unread,
                self.counts.records_failed,
                self.counts.unknown_calls,
            ],
            joins: self.counts.joins,
            n_unknown: self.unknown.len(),
            first_tgid: self.first_tgid(),
            flags: [
                self.may_have_overlay_of_its_own,
                self.came_under_filter(),
                self.has_no_border(),
                self.has_workload(is_container),
            ],
            placement: self.placement(is_container),
        }
    }
}

pub(super) fn abi_of_table(abi: u32) -> Abi {
    match abi {
        0 => Abi::X86_64,
        1 => Abi::Ia32,
        _ => Abi::X32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(flags: u64, bytes: &[(usize, u8)]) -> SlotView {
        let mut table = Box::new([0; TABLE_BYTES]);
        for (at, phases) in bytes {
            table[*at] = *phases;
        }
        SlotView {
            table,
            flags,
            others: 0,
            records: (0, 0),
            unknown_calls: 0,
            joins: 0,
            untold: 0,
            subject_id: 1,
            accesses: AccessCounts::default(),
        }
    }

    fn seen(view: SlotView) -> Seen {
        let mut seen = Seen::default();
        seen.update([view].into_iter());
        seen
    }

    /// How many calls count as the workload's or a joiner's.
    fn n_calls(mut seen: Seen, is_container: bool) -> usize {
        let placement = seen.placement(is_container);
        let is_ours = |stage| matches!(placement.of(stage), Phase::Workload | Phase::Joiner);
        let calls: BTreeSet<_> =
            seen.untold().into_iter().filter(|(_, _, stage)| is_ours(*stage)).map(|(_, nr, _)| nr).collect();
        calls.len()
    }

    #[test]
    fn a_call_made_while_a_process_was_being_moved_in_is_no_border() {
        // The first was called before the programs knew that the process had been moved in.
        let bytes = [(110, phase::WORKLOAD | phase::RUNTIME), (111, phase::RUNTIME), (112, phase::RUNTIME)];
        let without = seen(view(0, &bytes));
        assert!(without.has_no_border());
        assert_eq!(n_calls(without, false), 3);
        let with = seen(view(STARTED, &bytes));
        assert!(!with.has_no_border());
        assert_eq!(n_calls(with, false), 1);
    }

    #[test]
    fn in_a_plain_cgroup_a_sandboxed_childs_border_is_not_its_parents() {
        let bytes =
            [(110, phase::WORKLOAD), (111, phase::RUNTIME), (112, phase::JOINING), (113, phase::JOINER)];
        let by_a_child = || seen(view(STARTED | BORDER_BY_A_CHILD, &bytes));
        assert_eq!((n_calls(by_a_child(), false), n_calls(by_a_child(), true)), (4, 2));
        assert_eq!(n_calls(seen(view(STARTED, &bytes)), false), 2);
    }

    #[test]
    fn the_workload_of_a_plain_cgroup_begins_with_its_first_call() {
        let mut seen = seen(view(0, &[(110, phase::RUNTIME)]));
        assert_eq!(seen.workload_began_ns(false), None, "no record, and none failed");
        seen.counts.records_failed = 1;
        assert_eq!((seen.workload_began_ns(false), seen.workload_began_ns(true)), (Some(0), None));
        let mut call = <SyscallRecord as bytemuck::Zeroable>::zeroed();
        (call.nr, call.header.phase, call.header.time_ns) = (110, phase::RUNTIME, 7);
        seen.note(&call);
        assert_eq!((seen.workload_began_ns(false), seen.workload_began_ns(true)), (Some(7), None));
    }

    #[test]
    fn untold_calls_are_the_runtimes_if_all_their_processes_arrived_and_else_the_workloads() {
        let bytes = [(110, phase::WORKLOAD), (111, phase::UNTOLD), (112, phase::JOINER)];
        assert_eq!(n_calls(seen(view(STARTED, &bytes)), true), 2);
        let some_stayed_untold = SlotView { untold: 1, ..view(STARTED, &bytes) };
        assert_eq!(n_calls(seen(some_stayed_untold), true), 3);
    }

    #[test]
    fn what_no_record_told_of_is_told_once() {
        let mut seen = seen(view(STARTED, &[(110, phase::WORKLOAD | phase::UNTOLD), (513, phase::JOINER)]));
        let told = [
            (Abi::X86_64, 110, Stage::Workload),
            (Abi::X86_64, 110, Stage::Untold),
            (Abi::Ia32, 1, Stage::Joiner),
        ];
        assert_eq!(seen.untold(), told);
        assert_eq!(seen.untold(), []);
        seen.update([view(STARTED, &[(110, phase::JOINER)])].into_iter());
        assert_eq!(seen.untold(), [(Abi::X86_64, 110, Stage::Joiner)]);
    }
}
