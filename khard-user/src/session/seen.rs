//! What was seen of one instance: the union of its slots' tables, and the witnesses. Knows no slot and no map.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use khard_common::{
    limits::{EXE_BYTES, TABLE_BYTES},
    phase,
    record::{SyscallRecord, until_nul},
    slot::{Abi as TableAbi, BORDER_BY_A_CHILD, STARTED, X32_BIT, table_index, table_key},
};
use khard_profile::{
    Bytes,
    recording::{
        Abi, AccessKey, Outcome, Phase, PhaseSet, Recording, RunId, SyscallKey, UnknownRun, Witness,
    },
};

use super::accesses::{Accesses, Arrived, Told};
use crate::bpf::{AccessCounts, SlotView};

/// First sightings as they came from the ring.
#[derive(Default)]
pub(super) struct Sightings {
    /// By place in the table and phase bit.
    witnesses: BTreeMap<(usize, u8), SyscallRecord>,
    /// ABI and number of calls that the table has no place for.
    unknown: BTreeSet<(u32, u32)>,
    /// Accesses that are not the instance's yet.
    pub(super) accesses: Accesses,
    /// By the kernel's hash: what was asked, and may have failed.
    pending: HashMap<u64, AccessKey>,
}

impl Sightings {
    /// Takes in what the kernel says of an access.
    pub(super) fn take_in(&mut self, told: Told) {
        match told {
            Told::Asked { access, pending: None } => {
                self.accesses.add(access);
            }
            Told::Asked { access, pending: Some(hash) } => {
                self.pending.insert(hash, access.key.clone());
                self.accesses.add_asked(access);
            }
            Told::Done { hash, phase, by } => {
                // One that is not there was none that a profile has a rule for.
                if let Some(key) = self.pending.get(&hash) {
                    let key = AccessKey { outcome: Outcome::Granted, ..key.clone() };
                    self.accesses.add(Arrived { key, phase, by });
                }
            }
        }
    }

    /// Takes one in; true if nothing like it was there.
    pub(super) fn add(&mut self, call: &SyscallRecord) -> bool {
        let Some(at) = place_of(call) else { return false };
        // A program that runs twice for a call sends twice: the first record stays.
        match self.witnesses.entry((at, call.header.phase)) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(*call);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    pub(super) fn add_unknown(&mut self, call: &SyscallRecord) {
        self.unknown.insert((call.abi, call.nr));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.witnesses.is_empty()
    }
}

fn place_of(call: &SyscallRecord) -> Option<usize> {
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
    witnesses: BTreeMap<(usize, u8), SyscallRecord>,
    unknown: BTreeSet<(u32, u32)>,
    /// Calls with numbers that the table has no place for, counted.
    pub(super) unknown_calls: u64,
    /// Records without room, whose witness is missing.
    pub(super) records_failed: u64,
    /// Processes that joined.
    pub(super) joins: u64,
    /// All accesses.
    pub(super) accesses: Accesses,
    /// What became of them.
    pub(super) access_counts: AccessCounts,
    /// Processes that may have been on their way in, and did not arrive.
    untold: u64,
    /// Who came first of all: the runtime's process, or the command itself.
    pub(super) first_tgid: Option<u32>,
    /// Whether a workload was seen to begin, or had begun before.
    has_started: bool,
    /// Whether whoever is on the near side of the border may be the work itself.
    border_by_a_child: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            table: Box::new([0; TABLE_BYTES]),
            witnesses: BTreeMap::new(),
            unknown: BTreeSet::new(),
            unknown_calls: 0,
            records_failed: 0,
            joins: 0,
            accesses: Accesses::default(),
            access_counts: AccessCounts::default(),
            untold: 0,
            first_tgid: None,
            has_started: false,
            border_by_a_child: false,
        }
    }
}

impl Seen {
    /// Unites what slots hold now. `views`: all slots of the instance with their sightings.
    pub(super) fn update<'a>(&mut self, views: impl Iterator<Item = (SlotView, &'a Sightings)>) {
        (self.unknown_calls, self.records_failed, self.joins, self.untold) = (0, 0, 0, 0);
        self.access_counts = AccessCounts::default();
        for (view, sightings) in views {
            self.access_counts += view.accesses;
            for (mine, theirs) in self.table.iter_mut().zip(view.table.iter()) {
                *mine |= theirs;
            }
            self.unknown_calls += view.unknown_calls;
            self.records_failed += view.records.1;
            self.joins += view.joins;
            self.untold += view.untold;
            self.has_started |= view.flags & STARTED != 0;
            self.border_by_a_child |= view.flags & BORDER_BY_A_CHILD != 0;
            self.unknown.extend(&sightings.unknown);
            for (key, record) in &sightings.witnesses {
                let kept = self.witnesses.entry(*key).or_insert(*record);
                if record.header.time_ns < kept.header.time_ns {
                    *kept = *record;
                }
            }
        }
        let first = self.witnesses.values().min_by_key(|record| record.header.time_ns);
        self.first_tgid = first.map(|record| record.tgid);
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
        self.table.iter().any(|byte| byte & phases != 0)
    }

    fn has_no_workload(&self) -> bool {
        (!self.has_started || self.border_by_a_child) && self.has(phase::RUNTIME | phase::RUNTIME_FILTERED)
    }

    fn has_no_joiner(&self) -> bool {
        !self.has(phase::JOINER) || self.border_by_a_child
    }

    /// Which phase the calls of each bit belong to. `is_container`: a border is to be expected; where none is, and none
    /// was seen, all that was called before it is taken for the work itself: wider than needed, never narrower.
    fn places(&self, is_container: bool) -> impl Fn(u8) -> u8 {
        let no_workload = !is_container && self.has_no_workload();
        let no_joiner = !is_container && self.has_no_joiner();
        let untold = match self.untold {
            0 if no_joiner => phase::JOINER,
            0 => phase::JOINING,
            _ => phase::WORKLOAD,
        };
        move |bit| match bit {
            phase::RUNTIME | phase::RUNTIME_FILTERED if no_workload => phase::WORKLOAD,
            phase::JOINING | phase::JOINING_FILTERED if no_joiner => phase::JOINER,
            phase::UNTOLD => untold,
            _ => bit,
        }
    }

    /// The same for all bits of each byte.
    fn placed_table(&self, is_container: bool) -> impl Iterator<Item = u8> {
        let place = self.places(is_container);
        self.table.iter().map(move |byte| {
            (0..8).map(|bit| *byte & 1 << bit).filter(|bit| *bit != 0).fold(0, |all, bit| all | place(bit))
        })
    }

    /// Whether any call counts as the workload's.
    pub(super) fn has_workload(&self, is_container: bool) -> bool {
        self.placed_table(is_container).any(|byte| byte & phase::WORKLOAD != 0)
    }

    /// How many calls were seen in the phases that a profile is made for.
    pub(super) fn n_calls(&self, is_container: bool) -> usize {
        self.placed_table(is_container).filter(|byte| byte & (phase::WORKLOAD | phase::JOINER) != 0).count()
    }

    /// Whether a process came under a seccomp filter after it had entered and before its work began.
    pub(super) fn came_under_filter(&self) -> bool {
        self.has(phase::RUNTIME_FILTERED | phase::JOINING_FILTERED)
    }

    /// How many accesses were seen.
    pub(super) fn n_accesses(&self) -> usize {
        self.accesses.len()
    }

    /// Numbers beyond the table, with their ABI.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (Abi, u32)> {
        self.unknown.iter().map(|(abi, nr)| (abi_of_table(*abi), *nr))
    }

    /// Adds all observations to a recording that has the run.
    pub(super) fn write_to(
        &self,
        recording: &mut Recording,
        run: RunId,
        is_container: bool,
    ) -> Result<(), UnknownRun> {
        let place = self.places(is_container);
        let mut witnesses: BTreeMap<(usize, u8), &SyscallRecord> = BTreeMap::new();
        for ((at, bit), record) in &self.witnesses {
            let kept = witnesses.entry((*at, place(*bit))).or_insert(record);
            if record.header.time_ns < kept.header.time_ns {
                *kept = record;
            }
        }
        for (at, byte) in (0u32..).zip(self.placed_table(is_container)) {
            let phases = PhaseSet::from_byte(byte).unwrap_or_default();
            if phases.is_empty() {
                continue;
            }
            let (abi, nr) = table_key(at);
            let key = SyscallKey { abi: abi_of_table(abi as u32), nr };
            for seen_in in phases.iter() {
                let witness = witnesses.get(&(at as usize, 1 << Phase::bit(seen_in)));
                recording.observe_syscall(
                    run,
                    key,
                    seen_in,
                    witness.map(|record| witness_of(record, run)),
                )?;
            }
        }
        for (key, bit, witness) in self.accesses.iter(run) {
            for phase in PhaseSet::from_byte(place(bit)).unwrap_or_default().iter() {
                recording.observe_access(run, key.clone(), phase, Some(witness.clone()))?;
            }
        }
        Ok(())
    }
}

pub(super) fn abi_of_table(abi: u32) -> Abi {
    match abi {
        0 => Abi::X86_64,
        1 => Abi::Ia32,
        _ => Abi::X32,
    }
}

fn witness_of(record: &SyscallRecord, run: RunId) -> Witness {
    let exe = &record.exe[..(record.exe_len as usize).min(EXE_BYTES)];
    Witness {
        time_ns: record.header.time_ns.saturating_sub(run.start_ns),
        run,
        tgid: record.tgid,
        tid: record.tid,
        comm: Bytes::from(until_nul(&record.comm)),
        exe: Bytes::from(until_nul(exe)),
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
        seen.update([(view, &Sightings::default())].into_iter());
        seen
    }

    #[test]
    fn a_call_made_while_a_process_was_being_moved_in_is_no_border() {
        // The first was called before the programs knew that the process had been moved in.
        let bytes = [(110, phase::WORKLOAD | phase::RUNTIME), (111, phase::RUNTIME), (112, phase::RUNTIME)];
        let without = seen(view(0, &bytes));
        assert!(without.has_no_border());
        assert_eq!(without.n_calls(false), 3);
        let with = seen(view(STARTED, &bytes));
        assert!(!with.has_no_border());
        assert_eq!(with.n_calls(false), 1);
    }

    #[test]
    fn in_a_plain_cgroup_a_sandboxed_childs_border_is_not_its_parents() {
        let bytes =
            [(110, phase::WORKLOAD), (111, phase::RUNTIME), (112, phase::JOINING), (113, phase::JOINER)];
        let by_a_child = seen(view(STARTED | BORDER_BY_A_CHILD, &bytes));
        assert_eq!((by_a_child.n_calls(false), by_a_child.n_calls(true)), (4, 2));
        assert_eq!(seen(view(STARTED, &bytes)).n_calls(false), 2);
    }

    #[test]
    fn untold_calls_are_the_runtimes_if_all_their_processes_arrived_and_else_the_workloads() {
        let bytes = [(110, phase::WORKLOAD), (111, phase::UNTOLD), (112, phase::JOINER)];
        assert_eq!(seen(view(STARTED, &bytes)).n_calls(true), 2);
        let some_stayed_untold = SlotView { untold: 1, ..view(STARTED, &bytes) };
        assert_eq!(seen(some_stayed_untold).n_calls(true), 3);
    }
}
