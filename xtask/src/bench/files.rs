//! The figures of work with files: which are shown, and how. Knows nothing of how they are measured.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{markdown, spread};

const HEAD: [&str; 5] =
    ["attached", "time", "× with nothing", "× with an empty program", "repeats that ended in the kernel"];
/// What must be answered in the kernel, of what was asked before.
const GOAL_IN_KERNEL: f64 = 0.99;

/// A stretch of work: as it is measured, of which work, its title, and nanoseconds for the unit of its times.
struct Stretch {
    key: &'static str,
    work: &'static str,
    title: &'static str,
    unit_ns: f64,
}

const STRETCHES: [Stretch; 6] = [
    Stretch {
        key: "one file, again",
        work: "One",
        title: "One file, opened and closed again and again (ns)",
        unit_ns: 1.0,
    },
    Stretch {
        key: "100,000 files, first",
        work: "Many",
        title: "100,000 files, each for the first time (ns for a file)",
        unit_ns: 1.0,
    },
    Stretch {
        key: "100,000 files, again",
        work: "Many",
        title: "100,000 files, all of them again (ns for a file)",
        unit_ns: 1.0,
    },
    Stretch {
        key: "find /usr, first",
        work: "Find",
        title: "`find /usr`, for the first time (ms)",
        unit_ns: 1e6,
    },
    Stretch { key: "find /usr, again", work: "Find", title: "`find /usr`, again (ms)", unit_ns: 1e6 },
    Stretch {
        key: "compile 20 files",
        work: "Compile",
        title: "gcc, a program of 20 files (ms)",
        unit_ns: 1e6,
    },
];

/// One stretch of work, by what was attached.
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) lines: Vec<[String; 5]>,
    /// Whether more than the goal was not answered in the kernel.
    pub(super) has_failed: bool,
}

/// All stretches.
pub(super) fn tables(report: &Value) -> Result<Vec<Table>> {
    let means: Vec<_> = report["means"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut rows = vec![("nothing".to_owned(), "nothing".to_owned(), None)];
    rows.push(("calls".to_owned(), "khard, system calls only".to_owned(), None));
    for by in &means {
        let empty = format!("empty {by}");
        rows.push((empty.clone(), format!("that, and an empty program ({by})"), None));
        rows.push((format!("khard {by}"), format!("khard ({by})"), Some(empty)));
    }
    STRETCHES.iter().map(|stretch| table(report, stretch, &rows)).collect()
}

/// `rows`: the key of each in the measurements, what was attached, and the key of the empty program that it is compared with.
fn table(report: &Value, stretch: &Stretch, rows: &[(String, String, Option<String>)]) -> Result<Table> {
    let rounds = report["rounds"].as_array().context("the measurements of files hold no rounds")?;
    let figures = |row: &str| -> Result<Vec<f64>> {
        let figure = |round: &Value| round[stretch.key][row].as_f64();
        rounds.iter().map(figure).collect::<Option<_>>().with_context(|| format!("no {} {row}", stretch.key))
    };
    // Round by round: what moves a whole round moves both.
    let ratio = |a: &[f64], b: &[f64]| spread(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>(), 2);
    let nothing = figures("nothing")?;
    let (mut lines, mut has_failed) = (Vec::new(), false);
    for (key, attached, empty) in rows {
        let ns = figures(key)?;
        let shown: Vec<f64> = ns.iter().map(|ns| ns / stretch.unit_ns).collect();
        let share = report["in_kernel"][stretch.work][key].as_f64();
        let share = share.map_or_else(String::new, |share| {
            let is_enough = share >= GOAL_IN_KERNEL;
            has_failed |= !is_enough;
            let verdict = if is_enough { "pass" } else { "fail" };
            format!("{:.2} % ({verdict}: ≥ {} %)", share * 100.0, GOAL_IN_KERNEL * 100.0)
        });
        lines.push([
            attached.clone(),
            spread(&shown, 0),
            if key == "nothing" { String::new() } else { ratio(&ns, &nothing) },
            empty
                .as_ref()
                .map_or(Ok(String::new()), |empty| Ok::<_, anyhow::Error>(ratio(&ns, &figures(empty)?)))?,
            share,
        ]);
    }
    Ok(Table { title: stretch.title, lines, has_failed })
}

/// Means that this machine's kernel does not allow.
pub(super) fn refused(report: &Value) -> Vec<&'static str> {
    let means = report["means"].as_array().cloned().unwrap_or_default();
    ["lsm", "fexit"].into_iter().filter(|name| !means.iter().any(|known| known == name)).collect()
}

/// For the document: by means that only a guest's kernel allows.
pub(super) fn section_of_guest(tables: &[Table], n_rounds: usize, kernel: &str) -> String {
    let mut text = format!(
        "\n# The same by hooks, in a guest\n\
         {n_rounds} rounds on Linux {kernel}, for this machine's kernel refuses such programs. QEMU emulates the guest's CPU, so \
         that no time below is one of a real machine: only the ratios say something.\n"
    );
    for table in tables {
        text.push_str(&markdown(table.title, &HEAD, &table.lines));
    }
    text
}

/// For the document.
pub(super) fn section(tables: &[Table], n_rounds: usize) -> String {
    let mut text = String::from("\n# What khard adds to work with files\n");
    for table in tables {
        text.push_str(&markdown(table.title, &HEAD, &table.lines));
    }
    let _ = write!(
        text,
        "\n## How that was measured\n\
         - {n_rounds} rounds, each with every row once, in random order, after loading and attaching anew; ratios are taken within \
         a round. The work is a process of its own in a cgroup of its own, and nobody else is recorded.\n\
         - *An empty program* does nothing where files are opened: at `file_open` (lsm), at the end of `security_file_open` (fexit), or \
         at each call's end (syscall). *khard* is all that it attaches for system calls and accesses by these means.\n\
         - *Repeats* are accesses beyond the first of each; what did not end in the kernel was sent again, or found no room.\n\
         - Means that this kernel refuses are not in the tables above.\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn khard_is_compared_with_the_empty_program_of_the_same_means() {
        let figures = |scale: f64| {
            serde_json::json!({"nothing": 100.0 * scale, "calls": 150.0 * scale,
            "empty lsm": 200.0 * scale, "khard lsm": 300.0 * scale})
        };
        let round = |scale: f64| {
            let stretches = STRETCHES.iter().map(|stretch| (stretch.key.to_owned(), figures(scale)));
            Value::Object(stretches.collect())
        };
        let report = serde_json::json!({"means": ["lsm"], "rounds": [round(1.0), round(2.0)],
            "in_kernel": {"One": {"khard lsm": 0.999}, "Many": {"khard lsm": 0.5}}});
        let tables: [Table; 6] = tables(&report).unwrap().try_into().ok().unwrap();
        let line = tables[0].lines[3].each_ref().map(String::as_str);
        assert_eq!(line[0], "khard (lsm)");
        assert_eq!(line[2..], ["3.00 (3.00 to 3.00)", "1.50 (1.50 to 1.50)", "99.90 % (pass: ≥ 99 %)"]);
        assert!(tables[1].lines[3][4].contains("fail"));
        assert!(section(&tables, 2).contains("| khard (lsm) | 450 (375 to 525) |"));
        assert_eq!(tables.map(|table| table.has_failed), [false, true, true, false, false, false]);
    }
}
