//! What khard itself takes of a CPU while somebody looks at its dashboard and nothing new comes: many subjects, and many calls that
//! are known.

use std::{
    fs, iter,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use khard_tests::{cgroup::TestCgroup, tmux::Terminal};
use serde::Serialize;

const N_SUBJECTS: usize = 200;
/// Those of them that make calls, together so many.
const N_BUSY: usize = 8;
const CALLS_PER_S: u64 = 100_000;
/// The busy ones make their calls in so many portions a second.
const PORTIONS_PER_S: u64 = 20;
/// Until the first sightings are over.
const SETTLING: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(20);
const N_WINDOWS: usize = 5;

#[derive(Serialize)]
pub(crate) struct Report {
    subjects: usize,
    /// Made in the middle of the windows, by the processes' own count.
    calls_per_s: f64,
    /// Of one core, in each window.
    shares: Vec<f64>,
}

/// Measures.
pub(crate) fn measure() -> Result<Report> {
    let cgroups: Vec<_> = (0..N_SUBJECTS).map(|nth| TestCgroup::new(&nth.to_string())).collect();
    let (mut busy, mut quiet) = (Vec::new(), Vec::new());
    let seconds = (SETTLING + WINDOW * u32::try_from(N_WINDOWS)?).as_secs();
    for (nth, cgroup) in cgroups.iter().enumerate() {
        let child = if nth < N_BUSY {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["busy", "--seconds", &seconds.to_string()]).stdout(Stdio::piped()).spawn()?
        } else {
            Command::new("sleep").arg("1000").spawn()?
        };
        cgroup.add(child.id());
        if nth < N_BUSY { &mut busy } else { &mut quiet }.push(child);
    }
    let report = watch(&cgroups, busy);
    for mut child in quiet {
        child.kill()?;
        child.wait()?;
    }
    report
}

fn watch(cgroups: &[TestCgroup], busy: Vec<Child>) -> Result<Report> {
    let out = tempfile::tempdir()?;
    let terminal = Terminal::new(120, 40, &[]);
    let own = std::env::current_exe()?;
    let mut command = Command::new(own.with_file_name("khard"));
    command.args(["tui", "-o"]).arg(out.path());
    command.args(cgroups.iter().flat_map(|cgroup| ["--cgroup", cgroup.path()]));
    // Too long a line to be typed.
    let script = out.path().join("khard.sh");
    let words = iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    fs::write(&script, format!("exec {}\n", words.join(" ")))?;
    terminal.run(Command::new("sh").arg(&script));
    terminal.shows(&format!("{N_SUBJECTS} recorded"));
    let pid = terminal.child();
    thread::sleep(SETTLING);
    let mut shares = Vec::new();
    for nth in 0..N_WINDOWS {
        let (began, before) = (Instant::now(), cpu_time(pid)?);
        thread::sleep(WINDOW);
        let took = cpu_time(pid)?.saturating_sub(before).as_secs_f64();
        shares.push(took / began.elapsed().as_secs_f64());
        eprint!("\rbench: {} of {N_WINDOWS} stretches of the dashboard", nth + 1);
    }
    eprintln!();
    let mut calls_per_s = 0.0;
    for child in busy {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "a busy process: {}", output.status);
        calls_per_s += String::from_utf8(output.stdout)?.trim().parse::<f64>()?;
    }
    terminal.key("q");
    terminal.key("n");
    Ok(Report { subjects: cgroups.len(), calls_per_s, shares })
}

/// What all threads of a process have had of CPUs.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in /proc/PID/stat")?;
    // utime and stime, the 14th and 15th field: proc_pid_stat(5).
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().context("times in /proc/PID/stat")?;
    let ticks_per_s = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks * (1_000_000_000 / ticks_per_s)))
}

/// Makes this process's share of the calls for so long; how many a second it were.
pub(crate) fn busy(seconds: u64) -> f64 {
    let began = Instant::now();
    let mut n_calls = 0_u64;
    while began.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..CALLS_PER_S / N_BUSY as u64 / PORTIONS_PER_S {
            // SAFETY: asks only.
            unsafe { libc::syscall(libc::SYS_getppid) };
            n_calls += 1;
        }
        let due = Duration::from_millis(n_calls * N_BUSY as u64 * 1000 / CALLS_PER_S);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    n_calls as f64 / began.elapsed().as_secs_f64()
}
