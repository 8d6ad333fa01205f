//! The verb `test`: owns which rows there are, what runs in each, and the sum at the end. Reading a test program's output
//! is `report`'s, running programs is `place`'s.
//!
//! Conventions for tests of the package khard-tests (files `tests/tests/*.rs`):
//! - `tight_*` only in the guests of Debian 12's kernels, with `--full`: they run each workload dozens of times.
//! - `today_*` only in a guest of today's programs, with `--full`.
//! - `local_*` run as root on this machine's kernel and in every guest but that; `container_*` beside a containerd with images,
//!   on this machine, and with `--full` in guests; `docker_*` there too, on this machine only, each with a dockerd of its own; `guest_*` only in guests, `guest_full_*` only with `--full`; `full_*` on
//!   this machine and in guests, only with `--full`. Others are unit tests.
//! - A test that must skip prints the line `KHARD-SKIP NAME: REASON` and returns.
//! - The environment says where they are: `KHARD_BIN` (the program khard, also in PATH), `KHARD_KERNEL` (`host`, `6.1`,
//!   `6.12`, `newest`; how it was booted is for the test to find out), `KHARD_RUNTIMES` (`runc` or `runc,crun`), `KHARD_FULL` (`1` with `--full`),
//!   `CONTAINER_RUNTIME_ENDPOINT` where there is a containerd.

mod harness;
mod place;
mod report;

use std::{collections::BTreeSet, sync::Mutex, thread, time::Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    build::{self, Built, TestProgram},
    interrupt,
    paths::Paths,
    setup::{self, Purpose},
};
use report::{Counts, Finished};

/// Options of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Add the slow rows: the newest kernel, and tests that take long.
    #[arg(long)]
    full: bool,
    /// Only these rows (see --list).
    #[arg(long, num_args = 1.., value_name = "ROW")]
    only: Vec<String>,
    /// Only these test programs, such as `local_trace`.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    program: Vec<String>,
    /// Name the rows and run nothing.
    #[arg(long)]
    list: bool,
    /// Passed on to the test programs: filters on tests' names.
    #[arg(last = true)]
    filter: Vec<String>,
}

/// Where a row's tests run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No root, no kernel programs.
    Unit,
    /// This machine's kernel.
    Host,
    /// This machine's kernel, beside a containerd.
    Containers,
    /// A guest.
    Guest(Guest),
    /// A guest with this kernel, to test the guests themselves.
    Harness(&'static str),
    /// A guest with this kernel, for what users are given.
    Dist(&'static str),
    /// A Kubernetes of this machine and a guest with this kernel.
    Kubelet(&'static str),
}

impl Place {
    /// Whether all of it happens in guests.
    fn is_elsewhere(self) -> bool {
        matches!(self, Self::Guest(..) | Self::Harness(_) | Self::Dist(_))
    }
}

/// A guest, by its kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Guest {
    kernel: &'static str,
    /// Arguments of the kernel besides the usual ones.
    append: &'static str,
    /// Debian's suite that its programs are from, if not this machine's.
    suite: Option<&'static str>,
}

struct Row {
    name: &'static str,
    place: Place,
    /// Test programs whose names begin so.
    prefixes: &'static [&'static str],
    /// A row that has to run whole: skipping in it is a failure.
    gate: bool,
    /// Only with `--full`.
    full: bool,
}

const IN_GUEST: &[&str] = &["local_", "container_", "guest_", "full_"];
/// Where profiles are also tried for what they allow, which is the same on every kernel but for AppArmor's version.
const IN_GUEST_AND_TIGHT: &[&str] = &["local_", "container_", "guest_", "full_", "tight_"];
/// What needs a Docker, which only this machine has.
const DOCKER: &str = "docker_";
const TODAY: &[&str] = &["guest_denials", "guest_oracle", "guest_full_pods", "today_"];
/// What these test is user space, or has its kernel side tested by another program in every guest: they run in guests with
/// `--full` only, where they would be half of all the time.
const SAME_ON_EVERY_KERNEL: &[&str] = &[
    "local_ci",
    "local_commands",
    "local_dashboard",
    "local_failures",
    "local_lint",
    "local_output",
    "local_stream",
    "local_verify",
];
/// How Ubuntu's kernels, GKE's nodes and CI runners are booted: BPF programs for LSM hooks load, attach and never run.
const NO_BPF_LSM: &str = "lsm=lockdown,capability,landlock,yama,apparmor";
/// Kernels that preempt fexit programs, and then skip others' (`recursion_misses`).
const FULL_PREEMPT: &str = "preempt=full";
static ROWS: [Row; 14] = [
    row("unit", Place::Unit, &[], true, false),
    row("root", Place::Host, &["local_"], false, false),
    row("containers", Place::Containers, &["container_", DOCKER], false, false),
    row("full", Place::Containers, &["full_"], false, true),
    row("vm-harness", Place::Harness("6.12"), &[], true, false),
    row("vm-dist", Place::Dist("6.12"), &[], true, true),
    row("vm-kubelet", Place::Kubelet("6.12"), &[], true, true),
    row("vm-6.1", Place::Guest(guest("6.1", "")), IN_GUEST_AND_TIGHT, true, false),
    row("vm-6.12", Place::Guest(guest("6.12", "")), IN_GUEST_AND_TIGHT, true, false),
    row("vm-newest", Place::Guest(guest("newest", "")), IN_GUEST, false, true),
    row("vm-today", Place::Guest(Guest { suite: Some("sid"), ..guest("newest", "") }), TODAY, false, true),
    row("vm-6.12-nobpf", Place::Guest(guest("6.12", NO_BPF_LSM)), &["guest_"], true, false),
    row("vm-6.1-nobpf", Place::Guest(guest("6.1", NO_BPF_LSM)), IN_GUEST, true, true),
    row("vm-6.12-full-preempt", Place::Guest(guest("6.12", FULL_PREEMPT)), IN_GUEST, true, true),
];

const fn guest(kernel: &'static str, append: &'static str) -> Guest {
    Guest { kernel, append, suite: None }
}

const fn row(
    name: &'static str,
    place: Place,
    prefixes: &'static [&'static str],
    gate: bool,
    full: bool,
) -> Row {
    Row { name, place, prefixes, gate, full }
}

/// What all rows share.
struct Run<'a> {
    paths: &'a Paths,
    args: &'a TestArgs,
    built: Built,
    programs: Vec<TestProgram>,
}

impl Run<'_> {
    /// The test programs of a row.
    fn programs(&self, row: &Row) -> impl Iterator<Item = &TestProgram> {
        self.programs.iter().filter(move |program| {
            let name = program.name.as_str();
            let kind = match row.place {
                Place::Unit => {
                    let mut elsewhere = IN_GUEST_AND_TIGHT.iter().chain(TODAY).chain([&DOCKER]);
                    !elsewhere.any(|prefix| name.starts_with(prefix))
                }
                _ => row.prefixes.iter().any(|prefix| name.starts_with(prefix)),
            };
            // In guests, emulated as they are, tests with containers take long.
            let is_slow = name.starts_with("full_")
                || name.starts_with("guest_full_")
                || name.starts_with("tight_")
                || (matches!(row.place, Place::Guest(..))
                    && (name.starts_with("container_")
                        || name == "local_storm"
                        || SAME_ON_EVERY_KERNEL.contains(&name)));
            kind && (self.args.full || !is_slow)
                && (self.args.program.is_empty() || self.args.program.iter().any(|wanted| wanted == name))
        })
    }
}

/// The verb `test`.
pub(crate) fn verb(paths: &Paths, args: &TestArgs) -> Result<u8> {
    let rows = chosen(args)?;
    if args.list {
        for row in rows {
            println!("{}{}", row.name, if row.full { " (--full)" } else { "" });
        }
        return Ok(0);
    }
    let mut finished = Vec::new();
    let started = Instant::now();
    match prepare(paths, &rows) {
        Ok((built, programs)) => {
            let run = Run { paths, args, built, programs };
            // Rows on this machine one after the other, since they look at its kernel. Beside them guests, as many at once as CPUs are
            // left, since each is emulated by one thread and has its limits in real time.
            let (guests, others): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| row.place.is_elsewhere());
            let jobs = std::iter::once(others).chain(guests.into_iter().map(|row| vec![row]));
            let waiting = Mutex::new(jobs.collect::<Vec<_>>().into_iter());
            let next = || waiting.lock().ok()?.next();
            let n_threads = thread::available_parallelism().map_or(1, usize::from).max(2);
            thread::scope(|scope| {
                let work = || {
                    let rows = std::iter::from_fn(next).flatten();
                    let until_signal = rows.take_while(|_| interrupt::received().is_none());
                    until_signal.map(|row| finish(&run, row)).collect::<Vec<_>>()
                };
                let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
                for thread in threads {
                    finished.extend(thread.join().into_iter().flatten());
                }
            });
            finished.sort_by_key(|done| ROWS.iter().position(|row| row.name == done.row));
            interrupt::check()?;
        }
        Err(error) => {
            interrupt::check()?;
            let counts = Counts::failure("build", &format!("{error:#}"));
            finished.push(Finished { row: "build", gate: true, counts, took: started.elapsed() });
        }
    }
    print!("{}", report::table(&finished));
    Ok(u8::from(!finished.iter().all(Finished::is_good)))
}

fn chosen(args: &TestArgs) -> Result<Vec<&'static Row>> {
    let known: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    if let Some(name) = args.only.iter().find(|name| !known.contains(name.as_str())) {
        bail!("no row {name}; there are {}", known.into_iter().collect::<Vec<_>>().join(", "));
    }
    let wanted = |row: &&Row| match args.only.as_slice() {
        [] => args.full || args.list || !row.full,
        names => names.iter().any(|name| name == row.name),
    };
    Ok(ROWS.iter().filter(wanted).collect())
}

fn prepare(paths: &Paths, rows: &[&Row]) -> Result<(Built, Vec<TestProgram>)> {
    let mut purposes = vec![Purpose::Build];
    for row in rows {
        purposes.extend_from_slice(match row.place {
            Place::Unit | Place::Host => &[Purpose::Test],
            Place::Containers => &[Purpose::Containers],
            Place::Guest(..) | Place::Harness(_) | Place::Dist(_) => &[Purpose::Vm],
            Place::Kubelet(_) => &[Purpose::Vm, Purpose::Containers, Purpose::Test],
        });
    }
    setup::ensure(paths, &purposes)?;
    let built = build::all(paths)?;
    Ok((built, build::test_programs(paths)?))
}

/// Runs a row; whatever goes wrong is a failure in it.
fn finish(run: &Run, row: &'static Row) -> Finished {
    let started = Instant::now();
    let mut counts = Counts::default();
    if let Err(error) = place::run(run, row, &mut counts) {
        counts.add(Counts::failure(row.name, &format!("{error:#}")));
    }
    let finished = Finished { row: row.name, gate: row.gate, counts, took: started.elapsed() };
    eprintln!("xtask: {}", report::line(&finished));
    finished
}
