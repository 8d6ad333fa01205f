//! A recording session: the kernel programs at work, who is recorded, and what was seen of them.
//!
//! Owns attribution: which slot is whose. It is told who a cgroup is (by `trace`) and never asks a runtime
//! itself: it records first, names come later. What happens is told as [`Message`]s, the one seam that every
//! client sits on.

mod accesses;
mod instance;
mod message;
mod resolve;
mod seen;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::PathBuf,
    time::Instant,
};

use aya::maps::{MapData, RingBuf};
use khard_common::{
    record::{BirthRecord, Record, SyscallRecord, decode, until_nul},
    slot::{BORDER_IS_FIRST_EXEC, NO_BORDER, STARTED},
    stats,
};
use khard_profile::recording::{Ended, Host, Recording, Run, Subject};
use tokio::io::{Interest, unix::AsyncFd};

use self::{
    accesses::Sample,
    resolve::Root,
    seen::{Seen, Sightings},
};
pub use self::{
    instance::{Identity, Instance, InstanceId, Start},
    message::Message,
};
use crate::{
    bpf::{AttachChoice, AttachPlan, Bpf, LoadError, Misses, PROGRAMS, Role, SlotNumber, rise},
    cgroup::{CgroupError, CgroupTree},
    confinement, host,
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
struct Tenant {
    owner: Option<InstanceId>,
    birth: Option<Birth>,
    sightings: Sightings,
    /// Where paths that are mere strings begin.
    root: Root,
}

impl Tenant {
    fn new(birth: Option<Birth>) -> Self {
        Self { owner: None, birth, sightings: Sightings::default(), root: Root::default() }
    }
}

/// A running session.
pub struct Session {
    bpf: Bpf,
    ring: AsyncFd<RingBuf<MapData>>,
    access_ring: AsyncFd<RingBuf<MapData>>,
    logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    tree: CgroupTree,
    host: Host,
    boot_id: String,
    misses_before: Misses,
    watches_births: bool,
    tenants: BTreeMap<SlotNumber, Tenant>,
    instances: BTreeMap<InstanceId, Instance>,
    next_instance: u32,
    messages: VecDeque<Message>,
    unsent_births: u64,
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
            ring,
            access_ring,
            logger,
            tree,
            host: host::describe(),
            boot_id: host::boot_id().map_err(SessionError::BootId)?,
            watches_births: false,
            tenants: BTreeMap::new(),
            instances: BTreeMap::new(),
            next_instance: 0,
            messages: VecDeque::new(),
            unsent_births: 0,
        })
    }

    /// The cgroup tree.
    pub fn tree(&self) -> &CgroupTree {
        &self.tree
    }

    /// Gives every cgroup that is born from now on, anywhere in the tree, a slot, to be claimed or disowned.
    pub fn watch_births(&mut self) -> Result<(), SessionError> {
        if !self.watches_births {
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
    ) -> Result<InstanceId, SessionError> {
        let slot = self.bpf.register(cgroup_id, BORDER_IS_FIRST_EXEC, 0)?;
        Ok(self.add_instance(
            slot,
            cgroup_id,
            path,
            identity,
            Start::FirstInstruction { born_ns: host::boot_time_ns() },
        ))
    }

    /// Records a cgroup that is there already, usually with its workload.
    pub fn record_running(
        &mut self,
        cgroup_id: u64,
        path: PathBuf,
        identity: Identity,
    ) -> Result<InstanceId, SessionError> {
        let (processes, place) = (self.tree.processes(&path), path.clone());
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
        );
        if let Some(instance) = self.instances.get_mut(&id) {
            // Listed again: who came before the programs knew the cgroup was not seen to come.
            let processes = if processes.is_empty() { processes } else { self.tree.processes(&place) };
            let calls = processes.into_iter().flat_map(confinement::calls_in_progress);
            instance.seen.add_calls_in_progress(calls);
        }
        Ok(id)
    }

    /// Names the owner of a newborn cgroup.
    pub fn claim(&mut self, birth: &Birth, identity: Identity) -> InstanceId {
        let start = Start::FirstInstruction { born_ns: birth.born_ns };
        // What was done there until now was a runtime's, or of whoever made the cgroup.
        self.bpf.slots().learn(birth.slot, border_flag(&identity), 0);
        self.add_instance(birth.slot, birth.cgroup_id, birth.path.clone(), identity, start)
    }

    /// Gives a newborn cgroup to an instance that has one already: a cgroup inside its own.
    pub fn claim_for(&mut self, birth: &Birth, id: InstanceId) {
        if let (Some(tenant), Some(instance)) =
            (self.tenants.get_mut(&birth.slot), self.instances.get_mut(&id))
        {
            tenant.owner = Some(id);
            instance.slots.push(birth.slot);
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

    /// Births without an owner.
    pub fn unclaimed(&self) -> Vec<Birth> {
        self.tenants.values().filter(|t| t.owner.is_none()).filter_map(|t| t.birth.clone()).collect()
    }

    /// The instance that records this cgroup or one around it.
    pub fn instance_around(&self, path: &std::path::Path) -> Option<InstanceId> {
        let around =
            |instance: &&Instance| instance.ended.is_none() && path.starts_with(&instance.cgroup_path);
        self.instances.values().filter(around).max_by_key(|i| i.cgroup_path.as_os_str().len()).map(|i| i.id)
    }

    /// All instances, in the order of their arrival.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// One instance.
    pub fn instance(&self, id: InstanceId) -> Option<&Instance> {
        self.instances.get(&id)
    }

    /// Changes what is known of an instance: a runtime may tell its image later than its first call.
    pub fn identity_mut(&mut self, id: InstanceId) -> Option<&mut Identity> {
        self.instances.get_mut(&id).map(|instance| &mut instance.identity)
    }

    /// Waits until the kernel programs have sent something. Cancel safe.
    pub async fn readable(&mut self) -> io::Result<()> {
        tokio::select! {
            ready = self.ring.readable_mut() => ready?.clear_ready(),
            ready = self.access_ring.readable_mut() => ready?.clear_ready(),
        }
        Ok(())
    }

    /// Takes in all records that are there.
    pub fn drain(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        while let Some(sample) = self.ring.get_mut().next() {
            match decode(&sample) {
                Some(Record::Birth(birth)) => {
                    ingest_birth(&mut self.tenants, &self.tree, birth);
                }
                Some(Record::Syscall(call)) => {
                    let (owner, is_new) = ingest_call(&mut self.tenants, call);
                    if let Some(owner) = owner
                        && is_new
                    {
                        if let Some(instance) = self.instances.get_mut(&owner) {
                            instance.last_new = Some((Instant::now(), call.nr, call.abi));
                        }
                        self.messages.push_back(Message::first_sighting(owner, call));
                    }
                }
                Some(Record::UnknownSyscall(call)) => ingest_unknown(&mut self.tenants, call),
                None => tracing::error!(
                    "the kernel programs sent a record of {} bytes that khard does not know",
                    sample.len()
                ),
            }
        }
        self.find_unsent_births();
        self.drain_accesses();
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
            let tenant = self.tenants.entry(slot).or_insert_with(|| Tenant::new(None));
            if let Some(told) = sample.into_told(&mut tenant.root) {
                tenant.sightings.take_in(told);
            }
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
            self.tenants.entry(slot).or_insert_with(|| Tenant::new(None)).birth = Some(birth);
        }
    }

    /// The next thing to tell.
    pub fn next_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// Brings every living instance's set of calls up to date with the kernel's tables.
    pub fn refresh(&mut self) {
        for instance in self.instances.values_mut().filter(|instance| instance.ended.is_none()) {
            instance.read(&self.bpf, &mut self.tenants);
        }
    }

    /// Instances that had processes and have none any more, or whose cgroup is gone.
    pub fn emptied(&mut self) -> Vec<InstanceId> {
        let tree = &self.tree;
        let mut emptied = Vec::new();
        for instance in self.instances.values_mut().filter(|instance| instance.ended.is_none()) {
            if tree.is_populated(&instance.cgroup_path) {
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

    /// Ends an instance: reads its tables for the last time and frees its slots.
    pub fn end(&mut self, id: InstanceId, why: Ended) -> Result<(), SessionError> {
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
        instance.read(&self.bpf, &mut self.tenants);
        instance.freeze(why, host::boot_time_ns(), misses, stats);
        for slot in std::mem::take(&mut instance.slots) {
            self.tenants.remove(&slot);
        }
        self.messages.push_back(Message::SubjectEnded { subject: id, why });
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

    /// The recording of some instances of one subject. Living ones are marked with `if_alive`.
    pub fn recording(&self, ids: &[InstanceId], if_alive: Ended) -> Result<Option<Recording>, SessionError> {
        let chosen: Vec<_> = ids.iter().filter_map(|id| self.instances.get(id)).collect();
        let Some(first) = chosen.first() else { return Ok(None) };
        let assemble = |error: khard_profile::recording::UnknownRun| SessionError::Assemble(Box::new(error));
        let (misses, stats) = (self.misses()?, self.bpf.stats());
        let mut recording = Recording::new(first.identity.subject.clone());
        for instance in chosen {
            let run: Run = instance
                .run(&self.boot_id, &self.host, if_alive, self.bpf.watching(), &misses, &stats)
                .map_err(|error| SessionError::Assemble(Box::new(error)))?;
            let id = run.id;
            recording.add_run(run);
            instance.write_to(&mut recording, id).map_err(assemble)?;
        }
        Ok(Some(recording))
    }

    fn add_instance(
        &mut self,
        slot: SlotNumber,
        cgroup_id: u64,
        cgroup_path: PathBuf,
        identity: Identity,
        start: Start,
    ) -> InstanceId {
        let id = InstanceId(self.next_instance);
        self.next_instance += 1;
        self.messages.push_back(Message::SubjectAdded {
            subject: id,
            name: identity.label.clone(),
            from_first_instruction: matches!(start, Start::FirstInstruction { .. }),
        });
        let tenant = self.tenants.entry(slot).or_insert_with(|| Tenant::new(None));
        tenant.owner = Some(id);
        let instance = Instance {
            id,
            cgroup_id,
            cgroup_path,
            identity,
            start,
            started_unix_ms: host::unix_time_ms(),
            slots: vec![slot],
            seen: Seen::default(),
            last_new: None,
            was_populated: false,
            ended: None,
        };
        self.instances.insert(id, instance);
        id
    }
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
    let tenant = tenants.entry(slot).or_insert_with(|| Tenant::new(None));
    tenant.birth = Some(birth);
}

/// The instance, if it has a name already, and whether this is news.
fn ingest_call(
    tenants: &mut BTreeMap<SlotNumber, Tenant>,
    call: &SyscallRecord,
) -> (Option<InstanceId>, bool) {
    let Some(tenant) = SlotNumber::new(call.header.slot).and_then(|slot| tenants.get_mut(&slot)) else {
        return (None, false);
    };
    (tenant.owner, tenant.sightings.add(call))
}

fn ingest_unknown(tenants: &mut BTreeMap<SlotNumber, Tenant>, call: &SyscallRecord) {
    if let Some(tenant) = SlotNumber::new(call.header.slot).and_then(|slot| tenants.get_mut(&slot)) {
        tenant.sightings.add_unknown(call);
    }
}
