//! Loads and attaches the programs, and registers subjects with them.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, Queue, RingBuf},
    programs::{BtfTracePoint, FExit, Lsm, Program as AyaProgram, ProgramError, RawTracePoint, TracePoint},
};
use khard_common::{
    fields::FIELDS,
    limits::SCRATCHES_PER_CPU,
    refusal::{EPOCH_STEP, PASSES_ARE_NOTED},
    slot::STARTED,
};
use khard_profile::recording::Attachment;

use super::{
    attachment::{self, AttachChoice, Watched, Watching},
    btf::{Btf, BtfError},
    calls,
    counters::{Misses, Stats, StatsMap, recursion_misses},
    hooks::{HOOKS, Hook},
    object,
    plan::{AttachPlan, KernelVersion},
    programs::{AttachPoint, Program, Role},
    slots::{SlotNumber, Slots},
    symbols::Symbols,
    unpreempted::Unpreempted,
};
use crate::{causes::with_causes, host};

/// Why the programs do not run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `cargo build` without the object.
    #[error("this khard was built without its eBPF programs: build it with `cargo xtask build`")]
    Stub,
    /// Not root.
    #[error("recording needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN: run khard as root")]
    NotPermitted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Kernel types.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The object as a whole.
    #[error("the kernel does not take khard's eBPF object: `khard doctor` shows what is missing")]
    Object(#[source] Box<aya::EbpfError>),
    /// A program.
    #[error("cannot load the eBPF program {program}: `khard doctor` shows what this kernel allows")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// An attach point.
    #[error("cannot attach the eBPF program {program} to {at:?}: {hint}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// Where.
        at: AttachPoint,
        /// What to do.
        hint: &'static str,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// Object and user space are of different versions.
    #[error("the eBPF object has no {what} {name}: build khard again with `cargo xtask build`")]
    Missing {
        /// Map or program.
        what: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A map operation.
    #[error("cannot use the eBPF map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// The mapping of the tables.
    #[error("cannot map the syscall tables")]
    MapTables(#[source] io::Error),
    /// The skip counters.
    #[error("cannot read how many events the kernel skipped for {program}")]
    Misses {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The number of CPUs.
    #[error("cannot read how many CPUs there may be from /sys/devices/system/cpu/possible")]
    Cpus(#[source] io::Error),
    /// Randomness.
    #[error("cannot get a random number from the kernel")]
    Random(#[source] io::Error),
    /// All slots have a subject.
    #[error("{0} subjects are recorded already: no slot is free")]
    NoSlot(u32),
}

/// The loaded and attached programs.
pub struct Bpf {
    ebpf: Ebpf,
    attached: Vec<&'static Program>,
    watching: Watching,
    /// Names of fields that this kernel lacks.
    missing_fields: Vec<&'static str>,
    /// Names of hooks that this kernel lacks, where another one sees the same.
    absent_hooks: Vec<&'static str>,
    slots: Slots,
    stats: StatsMap,
    subjects: HashMap<MapData, u64, u32>,
    watched: HashMap<MapData, u64, u8>,
    free_slots: Queue<MapData, u32>,
    generation: Array<MapData, u64>,
    born_after: Array<MapData, u64>,
    born_flags: Array<MapData, u64>,
    filter_epoch: Array<MapData, u64>,
    n_filter_epochs: u64,
    n_generations: u64,
    /// Released slots in the order of release.
    resting: VecDeque<SlotNumber>,
    /// How many of them, from the front, rested already at the last call of [`Self::recycle`].
    n_rested: usize,
}

impl Bpf {
    /// Loads the object and the plan's programs, without attaching any.
    pub fn load(plan: &AttachPlan) -> Result<Self, LoadError> {
        let bytes = object::bytes();
        if bytes.is_empty() {
            return Err(LoadError::Stub);
        }
        let btf = Btf::of_kernel()?;
        let (mut offsets, mut missing_fields) = (Vec::new(), Vec::new());
        for field in FIELDS {
            match btf.offset(field) {
                Ok(offset) => offsets.push((field.name, offset)),
                // The hooks that need it are refused.
                Err(_) if HOOKS.iter().any(|hook| hook.needs.contains(&field.name)) => {
                    missing_fields.push(field.name);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let is_absent = |hook: &&Hook| hook.since.is_some() && btf.function_id(hook.function()).is_none();
        let absent_hooks = HOOKS.iter().filter(is_absent).map(|hook| hook.name).collect();
        let n_cpus = u32::try_from(aya::util::nr_cpus().map_err(|(_, source)| LoadError::Cpus(source))?);
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("SCRATCHES", n_cpus.unwrap_or(1).saturating_mul(SCRATCHES_PER_CPU));
        let seed = host::random_u64().map_err(LoadError::Random)?;
        loader.override_global("HASH_SEED", &seed, true);
        for (name, offset) in &offsets {
            loader.override_global(name, offset, true);
        }
        let outcomes = u64::from(plan.has_outcomes());
        loader.override_global("OUTCOMES", &outcomes, true);
        // Without them nothing is lost: see `symbols`.
        let symbols = Symbols::of_kernel().unwrap_or_default();
        loader.override_global("RENAME_LOCK", &symbols.rename_lock, true);
        loader.override_global("MOUNT_LOCK", &symbols.mount_lock, true);
        loader.override_global("VM_CAPABILITY_BEGIN", &symbols.vm_capability.0, true);
        loader.override_global("VM_CAPABILITY_END", &symbols.vm_capability.1, true);
        let log_level = u8::try_from(tracing_level()).unwrap_or(0);
        loader.override_global(aya_log::LEVEL, &log_level, false);
        let mut ebpf = loader.load(bytes).map_err(object_error)?;
        for program in &plan.programs {
            load_program(&mut ebpf, program, None)?;
        }
        let slots = Slots::map(array(&ebpf, "SLOTS")?).map_err(LoadError::MapTables)?;
        let stats = StatsMap::map(array(&ebpf, "STATS")?).map_err(LoadError::MapTables)?;
        let mut bpf = Self {
            subjects: HashMap::try_from(take(&mut ebpf, "SUBJECTS")?).map_err(map_error("SUBJECTS"))?,
            watched: HashMap::try_from(take(&mut ebpf, "WATCHED")?).map_err(map_error("WATCHED"))?,
            free_slots: Queue::try_from(take(&mut ebpf, "FREE_SLOTS")?).map_err(map_error("FREE_SLOTS"))?,
            generation: Array::try_from(take(&mut ebpf, ".bss.generation")?)
                .map_err(map_error(".bss.generation"))?,
            born_after: Array::try_from(take(&mut ebpf, ".bss.born_after")?)
                .map_err(map_error(".bss.born_after"))?,
            born_flags: Array::try_from(take(&mut ebpf, ".bss.born_flags")?)
                .map_err(map_error(".bss.born_flags"))?,
            filter_epoch: Array::try_from(take(&mut ebpf, ".bss.filter_epoch")?)
                .map_err(map_error(".bss.filter_epoch"))?,
            n_filter_epochs: 0,
            ebpf,
            attached: Vec::new(),
            watching: attachment::nothing("khard was asked for system calls only"),
            missing_fields,
            absent_hooks,
            slots,
            stats,
            n_generations: 0,
            resting: VecDeque::new(),
            n_rested: 0,
        };
        for slot in SlotNumber::all() {
            bpf.free_slots.push(slot.get(), 0).map_err(map_error("FREE_SLOTS"))?;
        }
        Ok(bpf)
    }

    /// Attaches the plan's programs, in its order.
    pub fn attach(&mut self, plan: &AttachPlan) -> Result<(), LoadError> {
        for program in &plan.programs {
            attach_program(&mut self.ebpf, program)?;
            self.attached.push(program);
        }
        Ok(())
    }

    /// Attaches programs that see accesses: for each hook the first of what the choice allows that this kernel does. A hook
    /// that cannot be watched is said in [`Self::watching`], and is no failure.
    pub fn attach_accesses(&mut self, choice: AttachChoice, kernel: KernelVersion) -> Result<(), LoadError> {
        if choice == AttachChoice::None {
            return Ok(());
        }
        let btf = kernel_types()?;
        let lsm = match attachment::bpf_lsm_runs() {
            Ok(true) => Ok(()),
            Ok(false) => Err("the kernel's list of security modules (lsm=) has no bpf".to_owned()),
            Err(error) => Err(format!("the list of security modules cannot be read: {error}")),
        };
        let n_copies = attachment::n_copies(kernel, attachment::preempts_fully());
        let mut ways = Ways { btf: &btf, lsm, fexit: Ok(()), n_copies };
        self.watching = Vec::with_capacity(HOOKS.len());
        for hook in HOOKS {
            let watched = self.watch_hook(hook, choice, &mut ways)?;
            self.watching.push((hook, watched));
        }
        Ok(())
    }

    /// Attaches a program that does nothing where files are opened, by one of the means: what the benchmark compares with.
    pub fn attach_empty(&mut self, choice: AttachChoice) -> Result<(), LoadError> {
        let btf = kernel_types()?;
        attachment::empty(choice).map_or(Ok(()), |program| self.attach_once(program, &btf))
    }

    /// Attaches what sees calls that a seccomp filter refuses, in the best way that the kernel takes now.
    pub fn attach_refusals(&mut self, plan: &AttachPlan) -> Result<(), LoadError> {
        let mut attached = Ok(());
        for pair in plan.refusals() {
            attached = self.attach_pair(pair, !plan.skips_programs());
            match &attached {
                Ok(()) => break,
                Err(error) => {
                    tracing::debug!("not by {}: {}", pair[0].name, with_causes(error));
                    self.detach_refusals()?;
                }
            }
        }
        attached
    }

    fn attach_pair(&mut self, pair: [&'static Program; 2], are_noted: bool) -> Result<(), LoadError> {
        self.begin_filter_epoch(are_noted)?;
        for program in pair {
            load_program(&mut self.ebpf, program, None)?;
            // Before it is attached, so that one that is not is unloaded.
            self.attached.push(program);
            attach_program(&mut self.ebpf, program)?;
        }
        Ok(())
    }

    /// Takes off what [`Self::attach_refusals`] attached, as far as it came, in the opposite order: without what notes that calls have
    /// passed, every call that fails would be taken for refused.
    pub fn detach_refusals(&mut self) -> Result<(), LoadError> {
        // First, so that no call that is not noted any more is taken for answered.
        self.begin_filter_epoch(false)?;
        let attached: Vec<_> =
            self.attached.extract_if(.., |program| program.role == Role::Refusals).collect();
        for program in attached.into_iter().rev() {
            let loaded = self.ebpf.program_mut(program.name).ok_or(missing_program(program.name))?;
            let result = match loaded {
                AyaProgram::RawTracePoint(raw) => raw.unload(),
                AyaProgram::TracePoint(perf) => perf.unload(),
                _ => Err(ProgramError::UnexpectedProgramType),
            };
            result.map_err(|e| program_error(program.name, e))?;
        }
        Ok(())
    }

    /// What was noted of calls until now says nothing any more. `are_noted`: whether calls without a note are answered ones for certain.
    fn begin_filter_epoch(&mut self, are_noted: bool) -> Result<(), LoadError> {
        let _unpreempted = self.unpreempted();
        self.n_filter_epochs += 1;
        let epoch = (self.n_filter_epochs * EPOCH_STEP) | if are_noted { PASSES_ARE_NOTED } else { 0 };
        self.filter_epoch.set(0, epoch, 0).map_err(map_error(".bss.filter_epoch"))
    }

    fn watch_hook(
        &mut self,
        hook: &'static Hook,
        choice: AttachChoice,
        ways: &mut Ways<'_>,
    ) -> Result<Watched, LoadError> {
        if self.absent_hooks.contains(&hook.name) {
            return Ok(Watched::Absent);
        }
        let mut reasons = Vec::new();
        if let Some(field) = hook.needs.iter().find(|field| self.missing_fields.contains(field)) {
            reasons.push(format!("this kernel's BTF has no {field}"));
        } else {
            if matches!(choice, AttachChoice::Auto | AttachChoice::Lsm) {
                let programs = std::slice::from_ref(&hook.lsm);
                match self.try_trampolines(programs, ways.btf, &mut ways.lsm) {
                    Ok(programs) => return Ok(Watched::By { attachment: Attachment::Lsm, programs }),
                    Err(reason) => reasons.push(format!("lsm: {reason}")),
                }
            }
            if matches!(choice, AttachChoice::Auto | AttachChoice::Fexit) {
                let programs = &hook.fexit[..ways.n_copies];
                match self.try_trampolines(programs, ways.btf, &mut ways.fexit) {
                    Ok(programs) => return Ok(Watched::By { attachment: Attachment::Fexit, programs }),
                    Err(reason) => reasons.push(format!("fexit: {reason}")),
                }
            }
        }
        if matches!(choice, AttachChoice::Auto | AttachChoice::Syscall) {
            match attachment::beside(hook) {
                Ok((attachment, program)) => match self.attach_once(program, ways.btf) {
                    Ok(()) => return Ok(Watched::By { attachment, programs: vec![program.name] }),
                    // Its name is enough: what the kernel lacks is a tracepoint.
                    Err(LoadError::Attach { hint, .. }) => {
                        reasons.push(format!("{} {}: {hint}", attachment.as_str(), program.name));
                    }
                    Err(error) => return Err(error),
                },
                Err(reason) => reasons.push(reason.to_owned()),
            }
        }
        // The last way is the one that might have worked where none is better.
        Ok(Watched::Not {
            reason: reasons.pop().unwrap_or_else(|| "khard was asked for other means".to_owned()),
        })
    }

    /// Attaches programs of one kind of trampoline. `possible`: whether the kernel allows the kind; the first refusal tells.
    fn try_trampolines(
        &mut self,
        programs: &'static [Program],
        btf: &aya::Btf,
        possible: &mut Result<(), String>,
    ) -> Result<Vec<&'static str>, String> {
        possible.clone()?;
        for program in programs {
            if let Err(error) = self.attach_once(program, btf) {
                if is_not_permitted(&error) {
                    *possible = Err("the kernel refuses such programs (EPERM)".to_owned());
                    possible.clone()?;
                }
                return Err(with_causes(&error));
            }
        }
        Ok(programs.iter().map(|program| program.name).collect())
    }

    /// Loads and attaches a program unless it is attached.
    fn attach_once(&mut self, program: &'static Program, btf: &aya::Btf) -> Result<(), LoadError> {
        if self.attached.iter().any(|attached| attached.name == program.name) {
            return Ok(());
        }
        load_program(&mut self.ebpf, program, Some(btf))?;
        if program.name == "sys_exit" {
            self.write_call_plans()?;
        }
        attach_program(&mut self.ebpf, program)?;
        self.attached.push(program);
        Ok(())
    }

    fn write_call_plans(&mut self) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("CALL_PLANS").ok_or(missing_map("CALL_PLANS"))?;
        let mut plans: Array<_, u64> = Array::try_from(map).map_err(map_error("CALL_PLANS"))?;
        for (at, plan) in calls::plans() {
            plans.set(at, bytemuck::cast::<_, u64>(plan), 0).map_err(map_error("CALL_PLANS"))?;
        }
        Ok(())
    }

    /// How each hook is watched.
    pub fn watching(&self) -> &Watching {
        &self.watching
    }

    /// The attached programs.
    pub fn attached(&self) -> &[&'static Program] {
        &self.attached
    }

    /// Detaches and forgets everything but the tables, which stay readable.
    pub fn detach(self) -> Slots {
        self.slots
    }

    /// The tables.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The ring of records; only once.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        RingBuf::try_from(take(&mut self.ebpf, "RING")?).map_err(map_error("RING"))
    }

    /// The ring of accesses; only once.
    pub fn take_access_ring(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        RingBuf::try_from(take(&mut self.ebpf, "ACCESSES_RING")?).map_err(map_error("ACCESSES_RING"))
    }

    /// The object, for aya-log's reader.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Events that the kernel skipped, for each attached program.
    pub fn misses(&self) -> Result<Misses, LoadError> {
        self.attached
            .iter()
            .map(|program| {
                let loaded = self.ebpf.program(program.name).ok_or(missing_program(program.name))?;
                let fd = loaded.fd().map_err(|e| program_error(program.name, e))?;
                let misses = recursion_misses(fd.as_fd())
                    .map_err(|source| LoadError::Misses { program: program.name, source })?;
                Ok((program.name, misses))
            })
            .collect()
    }

    /// The programs' own counters.
    pub fn stats(&self) -> Stats {
        self.stats.read()
    }

    /// Registers a cgroup that exists. `flags`: see [`khard_common::slot::Slot::flags`]. `mount_ns`: its
    /// workload's mount namespace, 0 if not known.
    pub fn register(&mut self, cgroup_id: u64, flags: u64, mount_ns: u64) -> Result<SlotNumber, LoadError> {
        let _unpreempted = self.unpreempted();
        if let Ok(number) = self.subjects.get(&cgroup_id, 0)
            && let Some(slot) = SlotNumber::new(number)
        {
            // Adopted meanwhile by who entered it: what is known now was not known then.
            self.slots.learn(slot, flags, mount_ns);
            self.forget_verdicts()?;
            return Ok(slot);
        }
        let number = match self.free_slots.pop(0) {
            Ok(number) => SlotNumber::new(number),
            Err(_) => None,
        };
        let slot = number.ok_or(LoadError::NoSlot(khard_common::limits::SUBJECTS))?;
        self.slots.reset(slot, cgroup_id, flags, mount_ns);
        self.subjects.insert(cgroup_id, slot.get(), 0).map_err(map_error("SUBJECTS"))?;
        self.forget_verdicts()?;
        Ok(slot)
    }

    /// Registers a cgroup whose workload runs already.
    pub fn register_running(&mut self, cgroup_id: u64, mount_ns: u64) -> Result<SlotNumber, LoadError> {
        self.register(cgroup_id, STARTED, mount_ns)
    }

    /// The slot of a registered cgroup.
    pub fn slot_of(&self, cgroup_id: u64) -> Option<SlotNumber> {
        self.subjects.get(&cgroup_id, 0).ok().and_then(SlotNumber::new)
    }

    /// Ends recording into a slot. It rests until the call of [`Self::recycle`] after the next. A slot that has no
    /// tenant, or rests already, stays as it is: it must not become free twice.
    pub fn release(&mut self, slot: SlotNumber) -> Result<(), LoadError> {
        let cgroup_id = self.slots.subject_id(slot);
        if cgroup_id == 0 || self.resting.contains(&slot) {
            return Ok(());
        }
        let _unpreempted = self.unpreempted();
        match self.subjects.remove(&cgroup_id) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => {}
            Err(source) => return Err(map_error("SUBJECTS")(source)),
        }
        self.forget_verdicts()?;
        self.resting.push_back(slot);
        Ok(())
    }

    /// Makes slots free that were released before the last call.
    ///
    /// A program that was preempted with a slot in its hand may still write to it. All run inside RCU read
    /// sections, and membarrier(2)'s global form waits until each of these that began before has ended
    /// (kernel/sched/membarrier.c). On one CPU, or with `nohz_full`, it does not: so the slots also rest from one
    /// call to the next, in which time the ring is emptied of their records too.
    pub fn recycle(&mut self) -> Result<(), LoadError> {
        if self.resting.is_empty() {
            return Ok(());
        }
        // SAFETY: no memory is passed. MEMBARRIER_CMD_GLOBAL is 1 (include/uapi/linux/membarrier.h).
        unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
        let _unpreempted = self.unpreempted();
        for slot in self.resting.drain(..self.n_rested) {
            self.slots.reset(slot, 0, 0, 0);
            self.free_slots.push(slot.get(), 0).map_err(map_error("FREE_SLOTS"))?;
        }
        self.n_rested = self.resting.len();
        Ok(())
    }

    /// Adopts cgroups born under this one, however deep, from now on.
    pub fn watch(&mut self, cgroup_id: u64) -> Result<(), LoadError> {
        self.watched.insert(cgroup_id, 1, 0).map_err(map_error("WATCHED"))
    }

    /// Cgroups with a greater id count as born from now on, even if their birth itself was missed.
    pub fn set_born_after(&mut self, cgroup_id: u64) -> Result<(), LoadError> {
        self.born_after.set(0, cgroup_id, 0).map_err(map_error(".bss.born_after"))
    }

    /// The flags with which a newborn cgroup's slot begins (`khard_common::slot`), until it is known better.
    pub fn set_born_flags(&mut self, flags: u64) -> Result<(), LoadError> {
        self.born_flags.set(0, flags, 0).map_err(map_error(".bss.born_flags"))
    }

    /// For changes of maps, where a program is attached that they would blind.
    fn unpreempted(&self) -> Unpreempted {
        Unpreempted::begin(self.attached.iter().any(|program| matches!(program.at, AttachPoint::Perf(..))))
    }

    fn forget_verdicts(&mut self) -> Result<(), LoadError> {
        self.n_generations += 1;
        self.generation.set(0, self.n_generations, 0).map_err(map_error(".bss.generation"))
    }
}

/// What is possible on this kernel, as far as it is known by now.
struct Ways<'a> {
    btf: &'a aya::Btf,
    lsm: Result<(), String>,
    fexit: Result<(), String>,
    n_copies: usize,
}

/// The running kernel's types, as aya wants them.
fn kernel_types() -> Result<aya::Btf, LoadError> {
    aya::Btf::from_sys_fs().map_err(|error| LoadError::Object(Box::new(error.into())))
}

/// Whether the kernel said EPERM.
fn is_not_permitted(error: &LoadError) -> bool {
    std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source())
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied))
}

/// aya-log's level for the most talkative `tracing` level that is on: khard's own level decides.
fn tracing_level() -> usize {
    tracing::level_filters::LevelFilter::current().into_level().map_or(0, |level| match level {
        tracing::Level::ERROR => 1,
        tracing::Level::WARN => 2,
        tracing::Level::INFO => 3,
        tracing::Level::DEBUG => 4,
        tracing::Level::TRACE => 5,
    })
}

/// `btf`: for programs whose attach point has a type.
fn load_program(ebpf: &mut Ebpf, program: &'static Program, btf: Option<&aya::Btf>) -> Result<(), LoadError> {
    let loaded = ebpf.program_mut(program.name).ok_or(missing_program(program.name))?;
    let result = match (loaded, program.at, btf) {
        (AyaProgram::RawTracePoint(raw), _, _) => raw.load(),
        (AyaProgram::TracePoint(perf), _, _) => perf.load(),
        (AyaProgram::Lsm(lsm), AttachPoint::Lsm(hook), Some(btf)) => lsm.load(hook, btf),
        (AyaProgram::FExit(fexit), AttachPoint::Fexit(function), Some(btf)) => fexit.load(function, btf),
        (AyaProgram::BtfTracePoint(typed), AttachPoint::Btf(name), Some(btf)) => typed.load(name, btf),
        _ => return Err(missing_program(program.name)),
    };
    result.map_err(|e| program_error(program.name, e))
}

fn attach_program(ebpf: &mut Ebpf, program: &'static Program) -> Result<(), LoadError> {
    let loaded = ebpf.program_mut(program.name).ok_or(missing_program(program.name))?;
    let attach_error = |hint| {
        move |e: ProgramError| LoadError::Attach {
            program: program.name,
            at: program.at,
            hint,
            source: Box::new(e),
        }
    };
    let wrong_kind = |e| program_error(program.name, e);
    match program.at {
        AttachPoint::Raw(name) => {
            let raw: &mut RawTracePoint = loaded.try_into().map_err(wrong_kind)?;
            raw.attach(name).map(drop).map_err(attach_error("this kernel has no such tracepoint"))
        }
        AttachPoint::Lsm(_) => {
            let lsm: &mut Lsm = loaded.try_into().map_err(wrong_kind)?;
            lsm.attach().map(drop).map_err(attach_error("the kernel does not let programs attach there"))
        }
        AttachPoint::Fexit(_) => {
            let fexit: &mut FExit = loaded.try_into().map_err(wrong_kind)?;
            fexit.attach().map(drop).map_err(attach_error("the kernel does not let programs attach there"))
        }
        AttachPoint::Btf(_) => {
            let typed: &mut BtfTracePoint = loaded.try_into().map_err(wrong_kind)?;
            typed.attach().map(drop).map_err(attach_error("this kernel has no such tracepoint"))
        }
        AttachPoint::Perf(category, name) => {
            let perf: &mut TracePoint = loaded.try_into().map_err(wrong_kind)?;
            perf.attach(category, name)
                .map(drop)
                .map_err(attach_error("is tracefs mounted? `mount -t tracefs tracefs /sys/kernel/tracing`"))
        }
    }
}

fn array<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<BorrowedFd<'a>, LoadError> {
    match ebpf.map(name) {
        Some(aya::maps::Map::Array(data)) => Ok(data.fd().as_fd()),
        _ => Err(missing_map(name)),
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or(missing_map(name))
}

fn missing_map(name: &'static str) -> LoadError {
    LoadError::Missing { what: "map", name }
}

fn missing_program(name: &'static str) -> LoadError {
    LoadError::Missing { what: "program", name }
}

fn map_error(map: &'static str) -> impl FnOnce(aya::maps::MapError) -> LoadError {
    move |source| LoadError::Map { map, source: Box::new(source) }
}

fn program_error(program: &'static str, source: ProgramError) -> LoadError {
    LoadError::Program { program, source: Box::new(source) }
}

/// Tells "not root" from everything else: the first thing that fails then is the first map.
fn object_error(error: aya::EbpfError) -> LoadError {
    let denied = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied));
    if denied { LoadError::NotPermitted(Box::new(error)) } else { LoadError::Object(Box::new(error)) }
}
