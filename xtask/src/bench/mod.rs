//! The verb `bench`: owns which figures are shown, how they are judged, and docs/performance.md. Measuring is the program
//! `bench` of khard-tests, whose output is the only source of figures. Work with files is `files`'s.

mod dashboard;
mod files;
mod merge;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    build,
    command::CommandExt as _,
    debian,
    paths::Paths,
    setup::{self, Purpose},
    vm::{Options, Outcome, Parts, Stream},
};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Rounds to measure.
    #[arg(long, default_value_t = 61, value_parser = clap::value_parser!(u16).range(15..))]
    rounds: u16,
    /// The CPU to measure on; the last one if not given.
    #[arg(long)]
    cpu: Option<usize>,
    /// Rounds to measure of work with files.
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u16).range(6..))]
    file_rounds: u16,
    /// Rounds to measure in a guest of work with files by hooks that this machine's kernel refuses; a round takes minutes there.
    #[arg(long, default_value_t = 3)]
    guest_rounds: u16,
    /// Only show the figures; leave docs/performance.md as it is.
    #[arg(long)]
    no_write: bool,
}

/// One line of the tables: the row's name in the measurements, what was attached, and the goal for its cost over the
/// floor's.
struct Row {
    key: &'static str,
    attached: &'static str,
    goal: Option<f64>,
}

const NOTHING: &str = "nothing";
const FLOOR: &str = "empty";
const ROWS: [Row; 7] = [
    Row { key: NOTHING, attached: "nothing", goal: None },
    Row { key: FLOOR, attached: "an empty program (the floor)", goal: None },
    Row { key: "task", attached: "the floor with one helper call", goal: None },
    Row { key: "not_recorded", attached: "khard, this process not recorded", goal: Some(1.2) },
    Row { key: "recorded", attached: "khard, recorded, the call known", goal: Some(1.3) },
    Row { key: "refusals", attached: "the same, and refused calls looked for", goal: None },
    Row { key: "strace", attached: "`strace -f`", goal: None },
];

const SETTINGS: [(&str, &str); 3] = [
    ("alone", "One task"),
    ("switching", "Eight tasks that switch on one CPU after each call"),
    ("filtered", "One task under a seccomp filter"),
];

/// The verb `bench`.
pub(crate) fn verb(paths: &Paths, args: &BenchArgs) -> Result<u8> {
    setup::ensure(paths, &[Purpose::Build, Purpose::Bench])?;
    let built = build::all(paths)?;
    let measured = |words: &[&str]| -> Result<Value> {
        let mut command = Command::new(built.bin_dir.join("bench"));
        command.args(words).env("KHARD_BIN", &built.khard).stderr(Stdio::inherit());
        serde_json::from_str(&command.read_text()?).context("the measurements")
    };
    let (rounds, cpu) = (args.rounds.to_string(), args.cpu.map(|cpu| cpu.to_string()));
    let mut words = vec!["calls", "--rounds", &rounds];
    words.extend(cpu.iter().flat_map(|cpu| ["--cpu", cpu]));
    let report = measured(&words)?;
    let tables = tables(&report)?;
    print!("{}", terminal(&tables));
    let of_host = measured(&["accesses", "--rounds", &args.file_rounds.to_string()])?;
    let mut of_files = files::tables(&of_host)?;
    let mut section = files::section(&of_files, args.file_rounds.into());
    let refused = files::refused(&of_host);
    if args.guest_rounds > 0 && !refused.is_empty() {
        let in_guest = files::tables(&in_guest(paths, &built.bin_dir, args.guest_rounds, &refused)?)?;
        section += &files::section_of_guest(&in_guest, args.guest_rounds.into(), GUEST_KERNEL);
        of_files.extend(in_guest);
    }
    let of_dashboard = measured(&["dashboard"])?;
    let is_too_busy = dashboard::is_too_busy(&of_dashboard)?;
    section += &dashboard::section(&of_dashboard)?;
    let of_merge = measured(&["merge"])?;
    section += &merge::section(&of_merge)?;
    print!("{section}");
    if !args.no_write {
        let path = paths.root.join("docs/performance.md");
        fs::write(&path, document(&report, &tables)? + &section)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let has_failed = is_too_busy
        || merge::is_too_large(&of_merge)?
        || tables.iter().any(|table| table.has_failed)
        || of_files.iter().any(|table| table.has_failed);
    Ok(u8::from(has_failed))
}

/// Debian 12's newer one, which does not skip programs at functions' ends.
const GUEST_KERNEL: &str = "6.12";

/// Measures work with files in a guest.
fn in_guest(paths: &Paths, bin_dir: &Path, n_rounds: u16, by: &[&str]) -> Result<Value> {
    let share = paths.state_dir("bench")?;
    let parts = Parts::make(paths, GUEST_KERNEL, &debian::suite(), bin_dir)?;
    let mut guest = parts.boot(paths, &share, &Options::default(), false)?;
    let script = format!("exec /khard/bench accesses --rounds {n_rounds} --by {}", by.join(" "));
    let mut output = Vec::new();
    let outcome = guest.run(&script, None, &mut |stream, bytes| match stream {
        Stream::Out => output.extend(bytes),
        // Whoever reads our output has gone when this fails; the measuring goes on.
        Stream::Err => drop(std::io::stderr().write_all(bytes)),
    })?;
    guest.end()?;
    ensure!(matches!(outcome, Outcome::Exited(0)), "measuring in a guest: {outcome:?}");
    serde_json::from_slice(&output).context("the measurements of a guest")
}

struct Table {
    title: &'static str,
    lines: Vec<[String; 6]>,
    has_failed: bool,
}

const HEAD: [&str; 6] = ["attached", "ns for a call", "added ns", "added × floor's", "goal", "verdict"];

fn tables(report: &Value) -> Result<Vec<Table>> {
    SETTINGS.iter().map(|(setting, title)| table(report, setting, title)).collect()
}

fn table(report: &Value, setting: &str, title: &'static str) -> Result<Table> {
    let rounds = report["rounds"].as_array().context("the measurements hold no rounds")?;
    let figures =
        |key: &str| -> Option<Vec<f64>> { rounds.iter().map(|round| round[setting][key].as_f64()).collect() };
    let nothing = figures(NOTHING).context("no figures without a program")?;
    let added =
        |ns: &[f64]| -> Vec<f64> { ns.iter().zip(&nothing).map(|(with, without)| with - without).collect() };
    let floor = added(&figures(FLOOR).context("no figures for the floor")?);
    let mut table = Table { title, lines: Vec::new(), has_failed: false };
    for row in &ROWS {
        let Some(ns) = figures(row.key) else { continue };
        let added = added(&ns);
        // Round by round: what moves a whole round moves both.
        let ratios: Vec<f64> = added.iter().zip(&floor).map(|(row, floor)| row / floor).collect();
        let verdict = row.goal.map(|goal| Verdict::of(&ratios, goal));
        table.has_failed |= verdict == Some(Verdict::Fail);
        let beyond = |text: String| if row.key == NOTHING { String::new() } else { text };
        table.lines.push([
            row.attached.to_owned(),
            spread(&ns, 1),
            beyond(spread(&added, 1)),
            if row.key == FLOOR { "1".to_owned() } else { beyond(spread(&ratios, 2)) },
            row.goal.map_or_else(String::new, |goal| format!("≤ {goal}")),
            verdict.map_or_else(String::new, |verdict| verdict.words(&ratios)),
        ]);
    }
    Ok(table)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    Inconclusive,
}

impl Verdict {
    /// Whether the median lies at most at the goal, by the interval that holds it.
    fn of(ratios: &[f64], goal: f64) -> Self {
        let (low, high) = median_interval(ratios);
        if high <= goal {
            Self::Pass
        } else if low > goal {
            Self::Fail
        } else {
            Self::Inconclusive
        }
    }

    fn words(self, ratios: &[f64]) -> String {
        let word = match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        };
        let (low, high) = median_interval(ratios);
        format!("{word} ({low:.3} to {high:.3})")
    }
}

/// Where the median of what was sampled lies, with a confidence of at least 95 %: between two of the values, counted
/// from either end, whatever the distribution (the interval of the sign test). All values for fewer than six.
fn median_interval(values: &[f64]) -> (f64, f64) {
    let sorted = sorted(values);
    let n = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
    // `tail`: the chance that at most `cut` of n values lie on one side of the median.
    let (mut chance, mut tail, mut cut) = (0.5_f64.powf(f64::from(n)), 0.0, 0);
    loop {
        tail += chance;
        if 2.0 * tail > 0.05 {
            break;
        }
        cut += 1;
        chance *= f64::from(n - cut + 1) / f64::from(cut);
    }
    let from_end = cut.saturating_sub(1) as usize;
    (sorted[from_end], sorted[sorted.len() - 1 - from_end])
}

/// Median and quartiles.
fn spread(values: &[f64], decimals: usize) -> String {
    let sorted = sorted(values);
    let [low, median, high] = [1, 2, 3].map(|quarter| quartile(&sorted, quarter));
    format!("{median:.decimals$} ({low:.decimals$} to {high:.decimals$})")
}

/// The value below which this many quarters of the values lie, between two of them if need be.
fn quartile(sorted: &[f64], quarter: usize) -> f64 {
    let quarters = quarter * (sorted.len() - 1);
    let (below, above) = (sorted[quarters / 4], sorted[quarters.div_ceil(4)]);
    below + (above - below) * [0.0, 0.25, 0.5, 0.75][quarters % 4]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The tables in columns.
fn terminal(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        let _ = writeln!(text, "{}", table.title);
        let lines: Vec<[&str; 6]> = std::iter::once(HEAD)
            .chain(table.lines.iter().map(|line| line.each_ref().map(String::as_str)))
            .collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        for line in &lines {
            let cells: Vec<String> =
                line.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column))).collect();
            let _ = writeln!(text, "  {}", cells.join("  ").trim_end());
        }
        text.push('\n');
    }
    text
}

/// One table of the document.
fn markdown<const N: usize>(title: &str, head: &[&str; N], lines: &[[String; N]]) -> String {
    let mut text = format!("\n## {title}\n| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for line in lines {
        let _ = writeln!(text, "| {} |", line.join(" | "));
    }
    text
}

/// docs/performance.md.
fn document(report: &Value, tables: &[Table]) -> Result<String> {
    let number = |value: &Value| value.as_u64().context("a count is missing in the measurements");
    let names = |value: &Value| -> String {
        let names: Vec<_> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::from(
        "# What khard adds to a system call\n\
         Written by `cargo xtask bench`: run it to measure your machine. A cell is the median over the rounds, with the \
         quartiles in brackets.\n",
    );
    for table in tables {
        text.push_str(&markdown(table.title, &HEAD, &table.lines));
    }
    let model = report["cpu_model"].as_str().unwrap_or("unknown");
    let kernel = report["kernel"].as_str().unwrap_or("unknown");
    let rounds = report["rounds"].as_array().map_or(0, Vec::len);
    let place = if report["hypervisor"] == true { ", under a hypervisor" } else { "" };
    let _ = write!(
        text,
        "\n## How it was measured\n\
         - Linux {kernel} on {model}{place}, one CPU, {rounds} rounds. Each round measures every row once, in random order, \
         after loading and attaching anew.\n\
         - *One helper call* is `bpf_get_current_task_btf`, by which every program begins that tells tasks apart without help \
         from elsewhere.\n\
         - The call is `getppid` through `syscall(2)`. Where tasks switch, each of eight makes it and then `sched_yield`, \
         which hands the CPU to the next; a call there is the mean of the two. The tasks have real-time priority, so that \
         others do not come between.\n\
         - *The floor* is a program that does nothing, at the same attach points as khard's: {floor}. *khard* is all that it \
         attaches on this kernel: {programs}. *Not recorded* means that it records another cgroup.\n\
         - *Refused calls* are looked for while somebody who is recorded has a seccomp filter: two more programs, at both ends of \
         a call, which know from the task whether they are concerned. Under the filter, another call is refused; its own cost is in \
         every row.\n\
         - *Added* is the difference to the row without a program, *added × floor's* its ratio to the floor's, each taken \
         within a round.\n\
         - *Pass* means that the interval that holds the median ratio with 95 % confidence (sign test; in brackets) ends at \
         or below the goal, *fail* that it begins above, *inconclusive* that the goal lies inside.\n\
         - Times are in units of a chain of dependent multiplications that runs before and after every stretch of calls, so \
         that a changing clock changes no figure, and shown at the clock that most stretches had. Of {measured} stretches \
         {dropped} were dropped, because the clock changed within or another task had the CPU; {repeated} measurements of a \
         row were thrown away and repeated, because half of their stretches were dropped or another tracer was loaded.\n\
         - `strace` runs the same loop, and writes to /dev/null.\n",
        floor = names(&report["floor"]),
        programs = names(&report["programs"]),
        measured = number(&report["windows"]["measured"])?,
        dropped = number(&report["windows"]["dropped"])?,
        repeated = number(&report["cells_repeated"])?,
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: u16) -> Vec<f64> {
        (1..=n).rev().map(f64::from).collect()
    }

    #[test]
    fn the_medians_interval_is_that_of_the_sign_test() {
        // From tables of the binomial distribution: n = 15 leaves out 3 values at each end, n = 20 leaves out 5.
        assert_eq!(median_interval(&numbers(15)), (4.0, 12.0));
        assert_eq!(median_interval(&numbers(20)), (6.0, 15.0));
        assert_eq!(median_interval(&numbers(6)), (1.0, 6.0));
        assert_eq!(median_interval(&numbers(5)), (1.0, 5.0));
        assert_eq!(median_interval(&[7.0]), (7.0, 7.0));
    }

    #[test]
    fn a_goal_inside_the_interval_decides_nothing() {
        let ratios = numbers(15);
        assert_eq!(Verdict::of(&ratios, 12.0), Verdict::Pass);
        assert_eq!(Verdict::of(&ratios, 11.0), Verdict::Inconclusive);
        assert_eq!(Verdict::of(&ratios, 4.0), Verdict::Inconclusive);
        assert_eq!(Verdict::of(&ratios, 3.5), Verdict::Fail);
    }

    #[test]
    fn quartiles_lie_between_values() {
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0], 2), "2.50 (1.75 to 3.25)");
        assert_eq!(spread(&[5.0], 1), "5.0 (5.0 to 5.0)");
    }

    /// Two rounds of which the second was slower as a whole.
    fn report() -> Value {
        let round = |slow: f64| {
            serde_json::json!({
                "alone": {"nothing": 100.0 * slow, "empty": 200.0 * slow, "task": 205.0 * slow, "not_recorded": 210.0 * slow,
                          "recorded": 240.0 * slow, "strace": 10_000.0 * slow},
                "switching": {"nothing": 500.0, "empty": 600.0, "task": 605.0, "not_recorded": 610.0, "recorded": 640.0},
                "filtered": {"nothing": 200.0, "empty": 300.0, "recorded": 340.0, "refusals": 500.0},
            })
        };
        serde_json::json!({
            "cpu_model": "A", "kernel": "6.1.0", "hypervisor": false, "programs": ["sys_enter"], "floor": ["nop"],
            "rounds": [round(1.0), round(2.0)], "cells_repeated": 3, "windows": {"measured": 40, "dropped": 2},
        })
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let tables = tables(&report()).unwrap();
        let line = |row: usize| tables[0].lines[row].each_ref().map(String::as_str);
        assert_eq!(line(0)[1..], ["150.0 (125.0 to 175.0)", "", "", "", ""]);
        assert_eq!(line(3)[3..], ["1.10 (1.10 to 1.10)", "≤ 1.2", "pass (1.100 to 1.100)"]);
        assert_eq!(line(4)[3..], ["1.40 (1.40 to 1.40)", "≤ 1.3", "fail (1.400 to 1.400)"]);
        assert!(tables[0].has_failed && tables[1].has_failed);
        assert_eq!(tables[1].lines.len(), 5, "strace is not measured where tasks switch");
    }

    #[test]
    fn the_document_says_what_was_dropped() {
        let report = report();
        let text = document(&report, &tables(&report).unwrap()).unwrap();
        assert!(text.contains("Of 40 stretches 2 were dropped"), "{text}");
        assert!(text.contains("3 measurements of a row were thrown away"), "{text}");
        assert!(text.contains("| khard, recorded, the call known | "), "{text}");
    }
}
