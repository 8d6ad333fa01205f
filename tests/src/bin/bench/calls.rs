//! What khard's programs add to a system call.
//!
//! Owns how it is measured. Judging and wording the figures is `cargo xtask bench`'s, how a stretch of calls is timed
//! is `khard_tests::stopwatch`'s.
//!
//! Every cell of every round loads and attaches anew and detaches after: code and data lie elsewhere each time, so that
//! the spread over the rounds holds the luck of placement too, which one load would freeze into the figures.
use anyhow::{Context, Result, bail, ensure};
use aya::programs::loaded_programs;
use khard_tests::{
    draw::Draw,
    stopwatch::{self, Cell, Tally},
};
use khard_user::{
    bpf::{AttachPlan, AttachPoint, Bpf, KernelVersion, Role},
    cgroup::{self, CgroupTree, OwnCgroup},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{self, Command},
    thread,
    time::Duration,
};

/// Calls by one task, the only one that wants the CPU.
const ALONE: &str = "alone";
/// Eight tasks that hand the CPU to each other after every call.
const SWITCHING: &str = "switching";

/// Program types that can see system calls: `BPF_PROG_TYPE_TRACEPOINT`, `_RAW_TRACEPOINT`, `_RAW_TRACEPOINT_WRITABLE` and
/// `_TRACING` (include/uapi/linux/bpf.h).
const TRACING_TYPES: [u32; 4] = [5, 17, 24, 26];

/// Calls by one task that has a seccomp filter, as containers have.
const FILTERED: &str = "filtered";

/// How often a disturbed measurement is repeated before the whole run is given up.
const MOST_TRIES: usize = 20;

/// What is attached while a cell is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Nothing,
    Empty,
    Task,
    NotRecorded,
    Recorded,
    /// The same, with what sees calls that filters refuse.
    Refusals,
    Strace,
}

impl Row {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Empty,
        Self::Task,
        Self::NotRecorded,
        Self::Recorded,
        Self::Refusals,
        Self::Strace,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Empty => "empty",
            Self::Task => "task",
            Self::NotRecorded => "not_recorded",
            Self::Recorded => "recorded",
            Self::Refusals => "refusals",
            Self::Strace => "strace",
        }
    }
}

/// One round's figures: setting, then row, in ns for a call at the run's usual clock.
type Round = BTreeMap<&'static str, BTreeMap<&'static str, f64>>;

/// What was measured, and on what.
#[derive(Serialize)]
pub(crate) struct Report {
    cpu_model: String,
    kernel: String,
    hypervisor: bool,
    /// The programs of the rows with khard, in order of attachment.
    programs: Vec<&'static str>,
    /// Those that stand for them in the floor.
    floor: Vec<&'static str>,
    rounds: Vec<Round>,
    /// Measurements thrown away whole, because half of their windows were disturbed or another tracer came.
    cells_repeated: usize,
    windows: Tally,
}

/// Measures, and tells every round. `cpu`: the last one if not given.
pub(crate) fn measure(cpu: Option<usize>, rounds: usize) -> Result<Report> {
    Bench::new(cpu)?.run(rounds)
}

struct Bench {
    cpu: usize,
    khard: AttachPlan,
    floor: AttachPlan,
    /// The floor, with the helper call that tells the current task.
    task: AttachPlan,
    home: Home,
    draw: Draw,
    tally: Tally,
    cells_repeated: usize,
    /// Ids of this process's programs: the kernel may keep them for a while after they were detached.
    ours: BTreeSet<u32>,
}

impl Bench {
    fn new(cpu: Option<usize>) -> Result<Self> {
        let kernel = KernelVersion::running().context("the kernel's release is no version")?;
        let khard = AttachPlan::for_kernel(kernel);
        let in_place_of = |raw: &'static str| -> Result<AttachPlan> {
            let calls = khard.programs.iter().filter(|program| program.role == Role::Syscalls);
            let names: Vec<_> = calls
                .map(|program| match program.at {
                    AttachPoint::Raw(_) => raw,
                    AttachPoint::Perf(..)
                    | AttachPoint::Lsm(_)
                    | AttachPoint::Fexit(_)
                    | AttachPoint::Btf(_) => "sys_enter_none",
                })
                .collect();
            let plan = AttachPlan::only(&names);
            ensure!(plan.programs.len() == names.len(), "the floor's programs are not in the table");
            Ok(plan)
        };
        let (floor, task) = (in_place_of("sys_enter_empty")?, in_place_of("sys_enter_task")?);
        let cpu = match cpu {
            Some(cpu) => cpu,
            None => stopwatch::last_allowed_cpu()?,
        };
        let home = Home::enter()?;
        Ok(Self {
            cpu,
            khard,
            floor,
            task,
            home,
            draw: Draw::new(1),
            tally: Tally::default(),
            cells_repeated: 0,
            ours: BTreeSet::new(),
        })
    }

    fn run(mut self, wanted: usize) -> Result<Report> {
        let mut rounds = Vec::new();
        while rounds.len() < wanted {
            rounds.push(self.round()?);
            eprint!("\rbench: {} of {wanted} rounds", rounds.len());
        }
        eprintln!();
        // Figures so far are in units of the calibration chain; the run's usual clock makes them nanoseconds.
        let chain_ns = self.tally.usual_chain_ns();
        for figure in rounds.iter_mut().flat_map(BTreeMap::values_mut).flat_map(BTreeMap::values_mut) {
            *figure *= chain_ns;
        }
        let names = |plan: &AttachPlan| plan.programs.iter().map(|program| program.name).collect();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        Ok(Report {
            cpu_model: value(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            kernel: version(&fs::read_to_string("/proc/sys/kernel/osrelease")?).to_owned(),
            hypervisor: value(&cpuinfo, "flags").is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
            programs: names(&self.khard),
            floor: names(&self.floor),
            cells_repeated: self.cells_repeated,
            windows: self.tally,
            rounds,
        })
    }

    /// Every row once, in random order.
    fn round(&mut self) -> Result<Round> {
        let mut round = Round::new();
        for row in self.shuffled() {
            for (setting, figure) in self.row(row)? {
                round.entry(setting).or_default().insert(row.name(), figure);
            }
        }
        Ok(round)
    }

    /// One row in each setting, in units of the chain; again if something disturbed it.
    fn row(&mut self, row: Row) -> Result<Vec<(&'static str, f64)>> {
        for _ in 0..MOST_TRIES {
            let Some(cells) = self.cells(row)? else {
                self.cells_repeated += 1;
                continue;
            };
            for (_, cell) in &cells {
                self.tally.add(cell);
            }
            let figures = cells.iter().map(|(setting, cell)| Some((*setting, cell.figure()?)));
            if let Some(figures) = figures.collect() {
                return Ok(figures);
            }
            self.cells_repeated += 1;
        }
        bail!(
            "this machine is too busy: {MOST_TRIES} measurements in a row were disturbed; try when it is quiet"
        )
    }

    /// `None` if another tracer came while it was measured.
    fn cells(&mut self, row: Row) -> Result<Option<Vec<(&'static str, Cell)>>> {
        self.wait_for_other_tracers()?;
        if row == Row::Strace {
            return Ok(Some(vec![(ALONE, self.under_strace()?)]));
        }
        let bpf = self.attach(row)?;
        let attached = self.other_tracers();
        // More would be somebody else's.
        if attached.len() != bpf.as_ref().map_or(0, |bpf| bpf.attached().len()) {
            return Ok(None);
        }
        self.ours.extend(attached);
        let cells = vec![
            (ALONE, stopwatch::alone(self.cpu)?),
            (SWITCHING, stopwatch::switching(self.cpu)?),
            (FILTERED, self.elsewhere(Command::new(std::env::current_exe()?), &["--filtered"])?),
        ];
        Ok(self.other_tracers().is_empty().then_some(cells))
    }

    fn shuffled(&mut self) -> [Row; 7] {
        let mut rows = Row::ALL;
        for at in (1..rows.len()).rev() {
            rows.swap(at, self.draw.below(at + 1));
        }
        rows
    }

    fn attach(&self, row: Row) -> Result<Option<Bpf>> {
        let plan = match row {
            Row::Nothing | Row::Strace => return Ok(None),
            Row::Empty => &self.floor,
            Row::Task => &self.task,
            Row::NotRecorded | Row::Recorded | Row::Refusals => &self.khard,
        };
        let mut bpf = Bpf::load(plan)?;
        let mount_ns = fs::metadata("/proc/self/ns/mnt")?.ino();
        match row {
            Row::NotRecorded => drop(bpf.register_running(self.home.other.id, mount_ns)?),
            Row::Recorded | Row::Refusals => drop(bpf.register_running(self.home.own.id, mount_ns)?),
            _ => {}
        }
        bpf.attach(plan)?;
        if row == Row::Refusals {
            bpf.attach_refusals(plan)?;
        }
        Ok(Some(bpf))
    }

    fn under_strace(&self) -> Result<Cell> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "--"]).arg(std::env::current_exe()?);
        self.elsewhere(strace, &[])
    }

    /// The loop in a process of its own.
    fn elsewhere(&self, mut command: Command, options: &[&str]) -> Result<Cell> {
        command.args(["loop", "--cpu", &self.cpu.to_string()]).args(options);
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        if !output.status.success() {
            bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Tracing programs that are not known as ours.
    fn other_tracers(&self) -> BTreeSet<u32> {
        loaded_programs()
            .flatten()
            .filter(|program| TRACING_TYPES.contains(&(program.program_type() as u32)))
            .map(|program| program.id())
            .filter(|id| !self.ours.contains(id))
            .collect()
    }

    /// Another tracer would be measured as if it were the kernel.
    fn wait_for_other_tracers(&self) -> Result<()> {
        for tenth in 0..6000 {
            if self.other_tracers().is_empty() {
                return Ok(());
            }
            if tenth == 10 {
                eprintln!("\nbench: waiting for another tracer on this machine to end");
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!(
            "another eBPF tracer runs on this machine (`bpftool prog`): its cost would count as the kernel's"
        )
    }
}

/// A cgroup of this process's own, so that nobody else is recorded with it, and one for the subject that it is not.
struct Home {
    before: PathBuf,
    own: OwnCgroup,
    other: OwnCgroup,
}

impl Home {
    fn enter() -> Result<Self> {
        let tree = CgroupTree::find()?;
        let pid = process::id();
        let before = tree.dir(&cgroup::of_process(pid)?).join("cgroup.procs");
        let home = Self {
            before,
            own: tree.create(&format!("khard-bench-{pid}"))?,
            other: tree.create(&format!("khard-bench-{pid}-other"))?,
        };
        fs::write(home.own.dir.join("cgroup.procs"), "0").context("cannot enter a cgroup")?;
        Ok(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Out of it, so that it can be removed.
        let _ = fs::write(&self.before, "0");
    }
}

/// A field of the first processor in /proc/cpuinfo.
fn value<'a>(cpuinfo: &'a str, field: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == field).then(|| value.trim())
    })
}

/// The numbers at the head of a kernel release, without what a distribution adds.
fn version(release: &str) -> &str {
    release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default()
}
