//! Times system calls on a noisy machine: owns windows, their calibration, and when one counts as disturbed. Knows
//! nothing of what is attached to the calls.
//!
//! A *window* is a stretch of calls between two runs of a chain of dependent multiplications, whose duration is the
//! core's clock and nothing else. A window's figure is its time for a call divided by the chain's for a multiplication,
//! so that a clock that moves between windows moves no figure. A window is dropped when the two chains differ, or
//! when the process did not have the CPU all the time. A *cell* is the median of its windows.
//!
//! The tasks of a cell are new ones. Since 6.12 the kernel calls the programs of the system call tracepoints inside
//! `rcu_read_lock_trace()`, which is dearer, for the rest of a task's life, once a grace period of that kind has looked
//! at the task (`trc_reader_special`, `include/linux/rcupdate_trace.h`), and detaching a program starts one. Measured here,
//! by a task that was there before and one that was not: 24 ns in about 90, whatever the program does.
use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

/// Calls by one task, the only one of this process that runs.
pub fn alone(cpu: usize) -> Result<Cell> {
    in_new_task(cpu, || Sprint.measure(&ALONE))
}

/// Calls by eight tasks that hand the CPU to each other: each calls `getppid`, then `sched_yield`. Both count.
pub fn switching(cpu: usize) -> Result<Cell> {
    in_new_task(cpu, || Ring::start().measure(&SWITCHING))
}

/// As [`alone`], by a task that waits for its tracer at each call.
pub fn traced(cpu: usize) -> Result<Cell> {
    in_new_task(cpu, || Sprint.measure(&TRACED))
}

fn in_new_task(cpu: usize, measure: impl FnOnce() -> Result<Cell> + Send + 'static) -> Result<Cell> {
    join(thread::spawn(move || {
        pin(cpu)?;
        take_precedence();
        measure()
    }))?
}

fn join<T>(task: JoinHandle<T>) -> Result<T> {
    task.join().map_err(|_| anyhow!("a measuring task panicked"))
}

/// How much a cell takes.
struct Effort {
    /// Passes of the loop before the first window.
    warm_up: u32,
    /// Passes in a window.
    passes: u32,
    windows: usize,
    /// Whether a window counts only if the process had the CPU all the time.
    owns_cpu: bool,
}

const ALONE: Effort = Effort { warm_up: 10_000, passes: 2_000, windows: 40, owns_cpu: true };
const SWITCHING: Effort = Effort { warm_up: 300, passes: 40, windows: 80, owns_cpu: true };
const TRACED: Effort = Effort { warm_up: 500, passes: 200, windows: 10, owns_cpu: false };

/// A cell's windows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// For each window kept, in units of the chain: a call.
    calls: Vec<f64>,
    /// For each window kept: ns of a multiplication.
    chains_ns: Vec<f64>,
    dropped: usize,
}

/// Of all cells.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    measured: usize,
    dropped: usize,
    #[serde(skip)]
    chains_ns: Vec<f64>,
}

impl Cell {
    /// A call, in units of the chain; `None` if less than half of the windows were left.
    pub fn figure(&self) -> Option<f64> {
        (self.calls.len() > self.dropped).then(|| median(&self.calls))
    }
}

impl Tally {
    /// Adds a cell.
    pub fn add(&mut self, cell: &Cell) {
        self.measured += cell.calls.len() + cell.dropped;
        self.dropped += cell.dropped;
        self.chains_ns.extend(&cell.chains_ns);
    }

    /// Nanoseconds of one multiplication at the clock that most windows had.
    pub fn usual_chain_ns(&self) -> f64 {
        median(&self.chains_ns)
    }
}

/// A loop of calls that can be measured.
trait Loop: Sized {
    /// Calls in one pass.
    const CALLS: u64;
    /// Makes passes.
    fn passes(&self, n: u32);
    /// Passes that other tasks have made so far.
    fn by_others(&self) -> u64;
    /// Ends the other tasks.
    fn end(self) -> Result<()>;

    fn measure(self, effort: &Effort) -> Result<Cell> {
        let cell = self.windows(effort);
        self.end()?;
        cell
    }

    fn windows(&self, effort: &Effort) -> Result<Cell> {
        let mut cell = Cell::default();
        self.passes(effort.warm_up);
        let mut chain_before = chain_ns();
        for _ in 0..effort.windows {
            let (others, cpu_ns) = (self.by_others(), process_cpu_ns()?);
            let start = Instant::now();
            self.passes(effort.passes);
            let wall_ns = start.elapsed().as_nanos() as f64;
            let (others, cpu_ns) = (self.by_others() - others, (process_cpu_ns()? - cpu_ns) as f64);
            let chain_after = chain_ns();
            let calls = (u64::from(effort.passes) + others) * Self::CALLS;
            let steady = (chain_before / chain_after - 1.0).abs() < 0.02;
            if steady && (!effort.owns_cpu || (cpu_ns / wall_ns - 1.0).abs() < 0.02) {
                let chain = f64::midpoint(chain_before, chain_after);
                cell.calls.push(wall_ns / calls as f64 / chain);
                cell.chains_ns.push(chain);
            } else {
                cell.dropped += 1;
            }
            chain_before = chain_after;
        }
        Ok(cell)
    }
}

/// One task that calls `getppid`, as fast as it can.
struct Sprint;

impl Loop for Sprint {
    const CALLS: u64 = 1;

    fn passes(&self, n: u32) {
        for _ in 0..n {
            getppid();
        }
    }

    fn by_others(&self) -> u64 {
        0
    }

    fn end(self) -> Result<()> {
        Ok(())
    }
}

/// Eight tasks on one CPU; each calls `getppid`, then `sched_yield`, which hands the CPU to another one.
struct Ring {
    shared: Arc<Shared>,
    others: Vec<JoinHandle<()>>,
}

const OTHERS: usize = 7;

struct Shared {
    /// Nobody begins before all are there.
    gate: Barrier,
    over: AtomicBool,
    /// Passes by each of the others, each in cache lines of its own.
    passes: [Line; OTHERS],
}

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Ring {
    /// Starts the other seven; they inherit the CPU and the cgroup of this one.
    fn start() -> Self {
        let shared = Arc::new(Shared {
            gate: Barrier::new(OTHERS + 1),
            over: AtomicBool::new(false),
            passes: Default::default(),
        });
        let start = |number: usize| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.gate.wait();
                while !shared.over.load(Ordering::Relaxed) {
                    getppid();
                    thread::yield_now();
                    shared.passes[number].0.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let others = (0..OTHERS).map(start).collect();
        shared.gate.wait();
        Self { shared, others }
    }
}

impl Loop for Ring {
    const CALLS: u64 = 2;

    fn passes(&self, n: u32) {
        for _ in 0..n {
            getppid();
            thread::yield_now();
        }
    }

    fn by_others(&self) -> u64 {
        self.shared.passes.iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }

    fn end(self) -> Result<()> {
        self.shared.over.store(true, Ordering::Relaxed);
        self.others.into_iter().try_for_each(join)
    }
}

fn getppid() {
    // SAFETY: no arguments, no effects.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// Nanoseconds of one multiplication in a dependent chain: a fixed number of cycles. The best of three, since it cannot
/// be faster than the clock allows.
fn chain_ns() -> f64 {
    const LENGTH: u32 = 20_000;
    let once = || {
        let start = Instant::now();
        let mut x = black_box(3_u64);
        for _ in 0..LENGTH {
            x = x.wrapping_mul(x);
        }
        black_box(x);
        start.elapsed().as_nanos() as f64 / f64::from(LENGTH)
    };
    once().min(once()).min(once())
}

/// CPU time of all tasks of this process.
fn process_cpu_ns() -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0;
    ensure!(!failed, "cannot read the process's CPU time");
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}

/// Keeps this task, and those that it starts, on one CPU.
fn pin(cpu: usize) -> Result<()> {
    // SAFETY: zeroed is an empty set; CPU_SET checks the bound.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) != 0
    };
    ensure!(!failed, "cannot run on CPU {cpu}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Puts this task, and those that it starts, before all that are not real-time tasks. Where that is not allowed, others
/// only disturb more windows.
fn take_precedence() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads one sched_param.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
}

/// The last CPU that this thread may use: the first ones get most of the interrupts.
pub fn last_allowed_cpu() -> Result<usize> {
    // SAFETY: zeroed is an empty set, and the kernel fills it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let failed = libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) != 0;
        ensure!(!failed, "cannot read which CPUs may be used");
        set
    };
    // SAFETY: below the set's size.
    let allowed = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    (0..libc::CPU_SETSIZE as usize).rev().find(allowed).context("no CPU may be used")
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
