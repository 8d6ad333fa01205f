//! A recording session: the kernel programs at work, who is recorded, and what was seen of them.
//!
//! Owns attribution: which slot is whose. It is told who a cgroup is (by `trace`) and never asks a runtime
//! itself: it records first, names come later. What happens is told as [`Message`]s, and not kept: that is the client's.

mod accesses;
mod instance;
mod refusals;
mod resolve;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use khard_common::{
    limits::EXE_BYTES,
    record::{BirthRecord, Record, SyscallRecord, decode, until_nul},
    slot::{Abi as TableAbi, BORDER_IS_FIRST_EXEC, NO_BORDER, STARTED, X32_BIT, table_index},
    stats,
};
use khard_profile::{
    Bytes,
    recording::{AccessKey, Ended, From, Host, Outcome, Subject},
};
use tokio::io::{Interest, unix::AsyncFd};

pub use self::instance::{Identity, Instance, Start};
use self::{
    accesses::{Arrived, Sample, Told},
    refusals::{Filter, Refusals},
    resolve::Root,
    seen::{Seen, abi_of_table, place_of},
};
use crate::{
    bpf::{AttachChoice, AttachPlan, Bpf, LoadError, Misses, PROGRAMS, Role, SlotNumber, Stats, rise},
    cgroup::{CgroupError, CgroupTree},
    confinement, host,
    stream::{By, Message, Rate, Stage, SubjectId},
};

/// A session cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kernel side.
    #[error(transparent)]
    Bpf(#[from] LoadError),
    /// The cgroup tree.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The machine.
    #[error("cannot read the boot id from /proc/sys/kernel/random/boot_id")]
    BootId(#[source] io::Error),
    /// The ring's descriptor.
    #[error("cannot wait for the kernel programs' records")]
    Ring(#[source] io::Error),
    /// Contradiction in what was recorded: a defect of khard.
    #[error("cannot put the recording together")]
    Assemble(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A cgroup that was born while khard watched, and waits to be claimed.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Its slot.
    pub slot: SlotNumber,
    /// Its id.
    pub cgroup_id: u64,
    /// Its path below the tree's root; empty if it was gone before it could be found out.
    pub path: PathBuf,
    /// `CLOCK_BOOTTIME`.
    pub born_ns: u64,
    /// When khard learnt of it.
    pub since: Instant,
}

/// Who has a slot.
#[derive(Default)]
struct Tenant {
    owner: Option<SubjectId>,
    birth: Option<Birth>,
    /// Whether it is likely to have one.
    is_expected: bool,
    /// Places in the table and phase bits of the records that came. A program that runs twice for a call sends twice.
    calls: BTreeSet<(usize, u8)>,
    /// ABI and number of calls that the table has no place for.
    unknown: BTreeSet<(u32, u32)>,
    /// By the kernel's hash: what was asked, and may have failed.
    pending: HashMap<u64, AccessKey>,
    /// What came while it had no owner, in order.
    early: Vec<Sighting>,
    /// Where paths that are mere strings begin.
    root: Root,
}

/// A first sighting, as it came.
enum Sighting {
    Call(SyscallRecord),
    Access { key: AccessKey, stage: Stage, asked: bool, by: By },
    Refused(SyscallRecord),
}

impl Tenant {
    /// What an arriving access says; `None` for the outcome of one that is not there: a profile has no rule for that.
    fn sighting(&mut self, told: Told) -> Option<Sighting> {
        let (Arrived { key, stage, by }, asked) = match told {
            Told::Asked { access, pending } => {
                if let Some(hash) = pending {
                    self.pending.insert(hash, access.key.clone());
                }
                (access, pending.is_some())
            }
            Told::Done { hash, stage, by } => {
                let key = AccessKey { outcome: Outcome::Granted, ..self.pending.get(&hash)?.clone() };
                (Arrived { key, stage, by }, false)
            }
        };
        Some(Sighting::Access { key, stage, asked, by })
    }

    /// Whether whoever prepares a newborn cgroup's workload puts a seccomp filter on it.
    fn is_to_be_filtered(&self) -> bool {
        let seccomp = u32::try_from(libc::SYS_seccomp).ok().and_then(|nr| table_index(TableAbi::Native, nr));
        self.owner.is_none() && self.is_expected && self.calls.iter().any(|(at, _)| Some(*at) == seccomp)
    }
}

/// The kernel's counters for the whole node, of whose changes every subject is told; not more often than this.
const COUNTERS_TOLD: Duration = Duration::from_secs(5);
/// Subjects whose `cgroup.events` stays open. Descriptors are few (1,024 by default), and a larger limit would be the command's too.
const MOST_OPEN: usize = 512;

/// A running session.
pub struct Session {
    bpf: Bpf,
    plan: AttachPlan,
    refusals: Refusals,
    ring: AsyncFd<RingBuf<MapData>>,
    access_ring: AsyncFd<RingBuf<MapData>>,
    logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    tree: CgroupTree,
    host: Host,
    boot_id: String,
    misses_before: Misses,
    watches_births: bool,
    born_flags: u64,
    tenants: BTreeMap<SlotNumber, Tenant>,
    instances: BTreeMap<SubjectId, Instance>,
    next_instance: u32,
    messages: VecDeque<Message>,
    unsent_births: u64,
    /// The counters that every living subject was told, and when.
    counters_told: Option<(Instant, Misses, Stats)>,
    looked_at: Option<LookedAt>,
}

/// Whose calls are counted, and what the count was when it was last read (`CLOCK_BOOTTIME`; 0: it was not).
struct LookedAt {
    subject: SubjectId,
    since_ns: u64,
    calls: u64,
}

impl Session {
    /// Loads and attaches the plan's programs, and those that see accesses. Must be called within a tokio runtime.
    pub fn start(plan: &AttachPlan, attach: AttachChoice, tree: CgroupTree) -> Result<Self, SessionError> {
        let mut bpf = Bpf::load(plan)?;
        let (ring, access_ring) = (readable(bpf.take_ring()?)?, readable(bpf.take_access_ring()?)?);
        let logger = if tracing::enabled!(tracing::Level::DEBUG) {
            aya_log::EbpfLogger::init(bpf.ebpf_mut())
                .inspect_err(|error| tracing::warn!("no log from the kernel programs: {error}"))
                .ok()
        } else {
            None
        };
        bpf.attach(plan)?;
        bpf.attach_accesses(attach, plan.kernel)?;
        Ok(Self {
            // Every copy is attached by now: the bound that a rise of the counters gives begins here.
            misses_before: bpf.misses()?,
            bpf,
            plan: plan.clone(),
            refusals: Refusals::default(),
            ring,
            access_ring,
            logger,
            tree,
            host: host::describe(),
            boot_id: host::boot_id().map_err(SessionError::BootId)?,
            watches_births: false,
            born_flags: 0,
            tenants: BTreeMap::new(),
            instances: BTreeMap::new(),
            next_instance: 0,
            messages: VecDeque::new(),
            unsent_births: 0,
            counters_told: None,
            looked_at: None,
        })
    }

    /// The cgroup tree.
    pub fn tree(&self) -> &CgroupTree {
        &self.tree
    }

    /// Gives every cgroup that is born from now on, anywhere in the tree, a slot, to be claimed or disowned.
    ///
    /// `are_containers`: some of them may be, and then all count as such until they are claimed. What is asked for in a plain
    /// cgroup before that is not seen.
    pub fn watch_births(&mut self, are_containers: bool) -> Result<(), SessionError> {
        if !self.watches_births {
            self.born_flags = if are_containers { 0 } else { NO_BORDER };
            self.bpf.set_born_flags(self.born_flags)?;
            self.bpf.set_born_after(self.tree.newest_id()?)?;
            self.bpf.watch(self.tree.root_id()?)?;
            self.watches_births = true;
        }
        Ok(())
    }

    /// Records a cgroup of khard's own in which a command is about to be started.
    pub fn record_command(
        &mut self,
        cgroup_id: u64,
        path: PathBuf,
        identity: Identity,
    ) -> Result<SubjectId, SessionError> {
        let slot = self.bpf.register(cgroup_id, BORDER_IS_FIRST_EXEC, 0)?;
        let start = Start::FirstInstruction { born_ns: host::boot_time_ns() };
        self.add_instance(slot, cgroup_id, path, identity, start)
    }

    /// Records a cgroup that is there already, usually with its workload.
    pub fn record_running(
        &mut self,
        cgroup_id: u64,
        path: PathBuf,
        identity: Identity,
    ) -> Result<SubjectId, SessionError> {
        let (processes, place) = (self.tree.processes(&path), path.clone());
        let was_populated = !processes.is_empty();
        let mount_ns = processes.first().and_then(|pid| confinement::mount_ns_of(*pid)).unwrap_or(0);
        let border = border_flag(&identity);
        let slot = if processes.is_empty() {
            // Nobody runs yet: who comes now is no joiner.
            self.bpf.register(cgroup_id, border, 0)?
        } else {
            self.bpf.register(cgroup_id, STARTED | border, mount_ns)?
        };
        let id = self.add_instance(
            slot,
            cgroup_id,
            path,
            identity,
            Start::Late { attached_ns: host::boot_time_ns() },
        )?;
        if let Some(instance) = self.instances.get_mut(&id) {
            // It may end before it is looked at again.
            instance.was_populated = was_populated;
            // Listed again: who came before the programs knew the cgroup was not seen to come.
            let processes = if processes.is_empty() { processes } else { self.tree.processes(&place) };
            let calls = processes.into_iter().flat_map(confinement::calls_in_progress);
            instance.seen.add_calls_in_progress(calls);
        }
        Ok(id)
    }

    /// Names the owner of a newborn cgroup.
    pub fn claim(&mut self, birth: &Birth, identity: Identity) -> Result<SubjectId, SessionError> {
        let start = Start::FirstInstruction { born_ns: birth.born_ns };
        // What was done there until now was a runtime's, or of whoever made the cgroup.
        let border = border_flag(&identity);
        self.bpf.slots().learn(birth.slot, border, 0);
        let is_late = border & !self.born_flags != 0;
        let id = self.add_instance(birth.slot, birth.cgroup_id, birth.path.clone(), identity, start)?;
        if let Some(instance) = self.instances.get_mut(&id).filter(|_| is_late) {
            instance.accesses_from = From::Late;
            instance.told = None;
        }
        Ok(id)
    }

    /// Gives a newborn cgroup to an instance that has one already: a cgroup inside its own.
    pub fn claim_for(&mut self, birth: &Birth, id: SubjectId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            self.bpf.slots().learn(birth.slot, border_flag(&instance.identity), 0);
            instance.slots.push(birth.slot);
            self.give(birth.slot, id);
        }
    }

    /// Stops recording a newborn cgroup that nobody asked for.
    pub fn disown(&mut self, slot: SlotNumber) -> Result<(), SessionError> {
        if self.tenants.get(&slot).is_some_and(|tenant| tenant.owner.is_none()) {
            self.tenants.remove(&slot);
            self.bpf.release(slot)?;
        }
        Ok(())
    }

    /// Says whether somebody is likely to claim a newborn cgroup.
    pub fn expect_claim(&mut self, slot: SlotNumber, is_expected: bool) {
        if let Some(tenant) = self.tenants.get_mut(&slot) {
            tenant.is_expected = is_expected;
        }
    }

    /// Births without an owner.
    pub fn unclaimed(&self) -> Vec<Birth> {
        self.tenants.values().filter(|t| t.owner.is_none()).filter_map(|t| t.birth.clone()).collect()
    }

    /// The instance that records a newborn cgroup or one around it. One of the same path and another id is gone: its end is only
    /// not seen yet.
    pub fn instance_around(&self, birth: &Birth) -> Option<SubjectId> {
        let around = |instance: &&Instance| {
            let is_inside = birth.path.starts_with(&instance.cgroup_path);
            let is_successor = birth.path == instance.cgroup_path && birth.cgroup_id != instance.cgroup_id;
            instance.ended.is_none() && is_inside && !is_successor
        };
        self.instances.values().filter(around).max_by_key(|i| i.cgroup_path.as_os_str().len()).map(|i| i.id)
    }

    /// All instances, in the order of their arrival.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// One instance.
    pub fn instance(&self, id: SubjectId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// Changes what is known of an instance: a runtime may tell its image later than its first call.
    pub fn identity_mut(&mut self, id: SubjectId) -> Option<&mut Identity> {
        let instance = self.instances.get_mut(&id)?;
        instance.told = None;
        Some(&mut instance.identity)
    }

    /// Waits until the kernel programs have sent something: calls and births, and where somebody takes them, accesses. Cancel safe.
    pub async fn readable(&mut self, takes_accesses: bool) -> io::Result<()> {
        tokio::select! {
            ready = self.ring.readable_mut() => ready?.clear_ready(),
            ready = self.access_ring.readable_mut(), if takes_accesses => ready?.clear_ready(),
        }
        Ok(())
    }

    /// Takes in all records of calls and births that are there, and where somebody takes them, of accesses.
    pub fn drain(&mut self, takes_accesses: bool) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        while let Some(sample) = self.ring.get_mut().next() {
            match decode(&sample) {
                Some(Record::Birth(birth)) => ingest_birth(&mut self.tenants, &self.tree, birth),
                Some(Record::Syscall(call)) => {
                    let tenant =
                        SlotNumber::new(call.header.slot).and_then(|slot| self.tenants.get_mut(&slot));
                    let Some((tenant, at)) = tenant.zip(place_of(call)) else { continue };
                    if tenant.calls.insert((at, call.header.phase)) {
                        tell(&mut self.messages, &mut self.instances, tenant, Sighting::Call(*call));
                    }
                }
                Some(Record::UnknownSyscall(call)) => {
                    if let Some(tenant) =
                        SlotNumber::new(call.header.slot).and_then(|slot| self.tenants.get_mut(&slot))
                    {
                        tenant.unknown.insert((call.abi, call.nr));
                    }
                }
                Some(Record::RefusedSyscall(call)) => {
                    if let Some(tenant) =
                        SlotNumber::new(call.header.slot).and_then(|slot| self.tenants.get_mut(&slot))
                    {
                        tell(&mut self.messages, &mut self.instances, tenant, Sighting::Refused(*call));
                    }
                }
                None => tracing::error!(
                    "the kernel programs sent a record of {} bytes that khard does not know",
                    sample.len()
                ),
            }
        }
        self.find_unsent_births();
        if takes_accesses {
            self.drain_accesses();
        }
    }

    fn drain_accesses(&mut self) {
        while let Some(bytes) = self.access_ring.get_mut().next() {
            let Some(sample) = Sample::decode(&bytes) else {
                tracing::error!(
                    "the kernel programs sent an access of {} bytes that khard does not know",
                    bytes.len()
                );
                continue;
            };
            let Some(slot) = SlotNumber::new(sample.record.slot) else { continue };
            // A record of who had the slot before is nobody's.
            if self.bpf.slots().subject_id(slot) != sample.record.subject_id {
                continue;
            }
            self.bpf.slots().land(slot, bytes.len() as u64);
            // Without a tenant: nobody's any more, or the record of its birth is still in the other ring.
            if !self.tenants.contains_key(&slot) && self.bpf.slot_of(sample.record.subject_id) != Some(slot) {
                continue;
            }
            let tenant = self.tenants.entry(slot).or_default();
            let told = sample.into_told(&mut tenant.root);
            if let Some(sighting) = told.and_then(|told| tenant.sighting(told)) {
                tell(&mut self.messages, &mut self.instances, tenant, sighting);
            }
        }
    }

    /// Names the owner of a slot, and tells what came before it had one.
    fn give(&mut self, slot: SlotNumber, id: SubjectId) {
        let tenant = self.tenants.entry(slot).or_default();
        tenant.owner = Some(id);
        for sighting in std::mem::take(&mut tenant.early) {
            tell(&mut self.messages, &mut self.instances, tenant, sighting);
        }
    }

    /// A birth whose record found no room has its slot all the same.
    fn find_unsent_births(&mut self) {
        if !self.watches_births {
            return;
        }
        let unsent = self.bpf.stats()[stats::BIRTHS_UNSENT];
        if unsent == self.unsent_births {
            return;
        }
        self.unsent_births = unsent;
        for slot in SlotNumber::all() {
            let cgroup_id = self.bpf.slots().subject_id(slot);
            let is_known = self
                .tenants
                .get(&slot)
                .is_some_and(|tenant| tenant.owner.is_some() || tenant.birth.is_some());
            if cgroup_id == 0 || is_known || self.bpf.slot_of(cgroup_id) != Some(slot) {
                continue;
            }
            let path = self.tree.path_of_id(cgroup_id).unwrap_or_default();
            let born_ns = host::boot_time_ns();
            let birth = Birth { slot, cgroup_id, path, born_ns, since: Instant::now() };
            self.tenants.entry(slot).or_default().birth = Some(birth);
        }
    }

    /// The next thing to tell.
    pub fn next_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// How much there is to tell.
    pub fn n_messages(&self) -> usize {
        self.messages.len()
    }

    /// Looks at the kernel's tables and counters, and tells of every living instance what is new there; and of all, who they are
    /// known to be now.
    pub fn refresh(&mut self) -> Result<(), SessionError> {
        self.look_for_refusals()?;
        let (misses, stats) = (self.misses()?, self.bpf.stats());
        let all = match &self.counters_told {
            Some((at, _, _)) if at.elapsed() < COUNTERS_TOLD => false,
            Some((_, told_misses, told_stats)) => *told_misses != misses || *told_stats != stats,
            None => true,
        };
        for instance in self.instances.values_mut().filter(|instance| instance.ended.is_none()) {
            instance.read(&self.bpf, &self.tenants);
            tell_table(&mut self.messages, instance);
            let facts = instance.facts();
            if all || instance.told.as_ref() != Some(&facts) {
                instance.told = Some(facts);
                let run = instance
                    .run(&self.boot_id, &self.host, self.bpf.watching(), &misses, &stats)
                    .map_err(wrong)?;
                self.messages.push_back(Message::Subject(Box::new(instance.state(run))));
            }
        }
        // What is known better of somebody only after the end.
        let known_better: Vec<_> =
            self.instances.values().filter(|instance| instance.told.is_none()).map(|one| one.id).collect();
        for id in known_better {
            self.tell_state(id)?;
        }
        if all {
            self.counters_told = Some((Instant::now(), misses, stats));
        }
        Ok(())
    }

    /// Sees calls that filters refuse while somebody who is recorded has one.
    fn look_for_refusals(&mut self) -> Result<(), SessionError> {
        let is_living = |instance: &&mut Instance| instance.ended.is_none();
        let mut is_needed = self.tenants.values().any(Tenant::is_to_be_filtered);
        for instance in self.instances.values_mut().filter(is_living) {
            instance.filter.look();
            is_needed |= instance.has_filter();
        }
        self.refusals.adapt(&mut self.bpf, &self.plan, is_needed)?;
        for instance in self.instances.values_mut().filter(is_living) {
            instance.note_refusals(&self.refusals);
        }
        Ok(())
    }

    /// Looks for refused calls as soon as a newborn cgroup is to have a filter: by the time that a runtime has told whose cgroup it
    /// is, its workload may long run.
    pub fn foresee_filters(&mut self) -> Result<(), SessionError> {
        if self.refusals == Refusals::NotNeeded && self.tenants.values().any(Tenant::is_to_be_filtered) {
            self.refusals.adapt(&mut self.bpf, &self.plan, true)?;
        }
        Ok(())
    }

    /// Instances that had processes and have none any more, or whose cgroup is gone.
    pub fn emptied(&mut self) -> Vec<SubjectId> {
        let tree = &self.tree;
        let mut emptied = Vec::new();
        for instance in self.instances.values_mut().filter(|instance| instance.ended.is_none()) {
            let is_populated = match &instance.events {
                Some(events) => events.is_populated(),
                None => tree.is_populated(&instance.cgroup_path),
            };
            if is_populated {
                instance.was_populated = true;
            } else if instance.was_populated
                || instance.has_sightings(&self.tenants)
                || !tree.is_alive(&instance.cgroup_path, instance.cgroup_id)
            {
                emptied.push(instance.id);
            }
        }
        emptied
    }

    /// Ends an instance: reads its tables for the last time, tells how it stands, and frees its slots.
    pub fn end(&mut self, id: SubjectId, why: Ended) -> Result<(), SessionError> {
        let (misses, stats) = (self.misses()?, self.bpf.stats());
        let is_alive = |instance: &&Instance| instance.ended.is_none();
        let Some(slots) = self.instances.get(&id).filter(is_alive).map(|instance| instance.slots.clone())
        else {
            return Ok(());
        };
        // Taken out of the programs' sight first, so that the last reading is the last word.
        for slot in slots {
            self.bpf.release(slot)?;
        }
        self.drain_accesses();
        let Some(instance) = self.instances.get_mut(&id) else { return Ok(()) };
        instance.read(&self.bpf, &self.tenants);
        tell_table(&mut self.messages, instance);
        instance.freeze(why, host::boot_time_ns(), misses, stats);
        for slot in std::mem::take(&mut instance.slots) {
            self.tenants.remove(&slot);
        }
        self.tell_state(id)
    }

    /// Tells how an instance stands.
    fn tell_state(&mut self, id: SubjectId) -> Result<(), SessionError> {
        let (misses, stats) = (self.misses()?, self.bpf.stats());
        let Some(instance) = self.instances.get_mut(&id) else { return Ok(()) };
        let run =
            instance.run(&self.boot_id, &self.host, self.bpf.watching(), &misses, &stats).map_err(wrong)?;
        instance.told = Some(instance.facts());
        self.messages.push_back(Message::Subject(Box::new(instance.state(run))));
        Ok(())
    }

    /// Frees slots that rest since the last call; to be called now and then.
    pub fn recycle(&mut self) -> Result<(), SessionError> {
        Ok(self.bpf.recycle()?)
    }

    fn misses(&self) -> Result<Misses, SessionError> {
        Ok(rise(&self.misses_before, &self.bpf.misses()?))
    }

    /// Calls that may be lost by now, on the whole node; births without a slot included.
    pub fn n_lost(&self) -> u64 {
        let births = self.bpf.stats()[stats::BIRTHS_WITHOUT_SLOT];
        let of_calls = |name: &str| PROGRAMS.iter().any(|p| p.name == name && p.role == Role::Syscalls);
        let misses = self.misses().unwrap_or_default();
        births + misses.iter().filter(|(name, _)| of_calls(name)).map(|(_, n)| *n).min().unwrap_or(0)
    }

    /// Whether this one is recorded still.
    pub fn is_living(&self, id: SubjectId) -> bool {
        self.instances.get(&id).is_some_and(|instance| instance.ended.is_none())
    }

    /// Everyone who is recorded still.
    pub fn living(&self) -> impl Iterator<Item = SubjectId> {
        self.instances.values().filter(|instance| instance.ended.is_none()).map(|instance| instance.id)
    }

    /// Names this moment.
    pub fn mark(&mut self, label: Bytes) {
        self.messages.push_back(Message::Mark { at_ns: host::boot_time_ns(), label });
    }

    /// Counts the calls of this subject from now on, and of no other: counting costs.
    pub fn look(&mut self, subject: Option<SubjectId>) {
        self.count_looked_at(false);
        self.looked_at = subject.map(|subject| LookedAt { subject, since_ns: 0, calls: 0 });
        self.count_looked_at(true);
    }

    fn count_looked_at(&self, is_counted: bool) {
        let looked_at = self.looked_at.as_ref().and_then(|at| self.instances.get(&at.subject));
        for slot in looked_at.iter().flat_map(|instance| &instance.slots) {
            self.bpf.slots().count(*slot, is_counted);
        }
    }

    /// How busy the subject is that somebody looks at, since this was asked before.
    fn rate(&mut self, now_ns: u64) -> Option<Rate> {
        // Slots that came later too.
        self.count_looked_at(true);
        let looked_at = self.looked_at.as_mut()?;
        let instance = self.instances.get(&looked_at.subject)?;
        let calls = instance.slots.iter().map(|slot| self.bpf.slots().calls(*slot)).sum();
        let before = std::mem::replace(looked_at, LookedAt { since_ns: now_ns, calls, ..*looked_at });
        if before.since_ns == 0 || instance.ended.is_some() {
            return None;
        }
        let elapsed_ms = (now_ns - before.since_ns).max(1_000_000) / 1_000_000;
        Some(Rate {
            subject: before.subject,
            calls_per_s: calls.saturating_sub(before.calls).saturating_mul(1000) / elapsed_ms,
        })
    }

    /// Tells that the session is alive, and what it counts.
    pub fn pulse(&mut self) {
        let (now_ns, lost) = (host::boot_time_ns(), self.n_lost());
        let rate = self.rate(now_ns);
        self.messages.push_back(Message::Pulse { now_ns, lost, rate });
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    fn add_instance(
        &mut self,
        slot: SlotNumber,
        cgroup_id: u64,
        cgroup_path: PathBuf,
        identity: Identity,
        start: Start,
    ) -> Result<SubjectId, SessionError> {
        let id = SubjectId(self.next_instance);
        self.next_instance += 1;
        let n_open = self.instances.values().filter(|instance| instance.events.is_some()).count();
        let events = if n_open < MOST_OPEN { self.tree.events(&cgroup_path).ok() } else { None };
        let instance = Instance {
            id,
            cgroup_id,
            cgroup_path,
            identity,
            start,
            started_unix_ms: host::unix_time_ms(),
            accesses_from: start.from(),
            events,
            slots: vec![slot],
            seen: Seen::default(),
            filter: Filter::default(),
            told: None,
            was_populated: false,
            ended: None,
        };
        self.instances.insert(id, instance);
        self.look_for_refusals()?;
        // Before anything that it did.
        self.tell_state(id)?;
        self.give(slot, id);
        Ok(id)
    }
}

/// A contradiction in what khard itself knows.
fn wrong(error: impl std::error::Error + Send + Sync + 'static) -> SessionError {
    SessionError::Assemble(Box::new(error))
}

/// Tells of a sighting, or keeps it until its tenant has an owner.
fn tell(
    messages: &mut VecDeque<Message>,
    instances: &mut BTreeMap<SubjectId, Instance>,
    tenant: &mut Tenant,
    sighting: Sighting,
) {
    let Some(subject) = tenant.owner else { return tenant.early.push(sighting) };
    let Some(instance) = instances.get_mut(&subject) else { return };
    messages.extend(match sighting {
        Sighting::Call(call) => {
            instance.seen.note(&call);
            let nr = libc::c_long::from(call.nr);
            if call.abi == 0 && [libc::SYS_seccomp, libc::SYS_prctl].contains(&nr) {
                instance.filter.suspect(call.tgid);
            }
            let stage = Stage::from_mask(call.header.phase);
            stage.map(|stage| Message::Call {
                subject,
                abi: abi_of_table(call.abi),
                nr: call.nr & !X32_BIT,
                stage,
                by: Some(by_of(&call)),
            })
        }
        Sighting::Refused(call) => Stage::from_mask(call.header.phase).map(|stage| Message::Refused {
            subject,
            abi: abi_of_table(call.abi),
            nr: call.nr & !X32_BIT,
            errno: u16::try_from(call.errno).unwrap_or(u16::MAX),
            stage,
            by: by_of(&call),
        }),
        Sighting::Access { key, stage, asked, by } => {
            instance.seen.note_access(&key.what);
            Some(Message::Access { subject, key, stage, asked, by })
        }
    });
}

fn by_of(call: &SyscallRecord) -> By {
    By {
        time_ns: call.header.time_ns,
        tgid: call.tgid,
        tid: call.tid,
        comm: until_nul(&call.comm).into(),
        exe: until_nul(&call.exe[..(call.exe_len as usize).min(EXE_BYTES)]).into(),
    }
}

/// Tells what is in an instance's table and came with no record.
fn tell_table(messages: &mut VecDeque<Message>, instance: &mut Instance) {
    let subject = instance.id;
    let untold = instance.seen.untold().into_iter();
    messages.extend(untold.map(|(abi, nr, stage)| Message::Call { subject, abi, nr, stage, by: None }));
}

/// Whether a border between whoever prepares a process and its work is to be expected.
fn border_flag(identity: &Identity) -> u64 {
    if matches!(identity.subject, Subject::Cgroup { .. }) { NO_BORDER } else { 0 }
}

fn readable(ring: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>, SessionError> {
    // SAFETY: the ring owns its descriptor and keeps it open as long as it lives.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .map_err(|error| SessionError::Ring(error.into_parts().1))
}

fn ingest_birth(tenants: &mut BTreeMap<SlotNumber, Tenant>, tree: &CgroupTree, record: &BirthRecord) {
    let Some(slot) = SlotNumber::new(record.header.slot) else { return };
    let len = record.path_len as usize;
    // A path of the buffer's whole length may have been cut: then, as where the birth was not seen, the kernel
    // is asked by id.
    let path = if (2..record.path.len()).contains(&len) {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(std::ffi::OsStr::from_bytes(until_nul(&record.path)))
    } else {
        tree.path_of_id(record.cgroup_id).unwrap_or_default()
    };
    let birth = Birth {
        slot,
        cgroup_id: record.cgroup_id,
        path,
        born_ns: record.header.time_ns,
        since: Instant::now(),
    };
    tenants.entry(slot).or_default().birth = Some(birth);
}
