//! What tests said: owns reading a test program's output (Rust's libtest), counting, and the table at the end.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// The word that a test prints when it must skip.
const SKIP: &str = "KHARD-SKIP ";

/// Passed, failed and skipped tests of a row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How many passed.
    pub n_passed: usize,
    /// What failed.
    pub failed: Vec<String>,
    /// What was skipped, and why.
    pub skipped: BTreeMap<String, String>,
}

impl Counts {
    /// One failure.
    pub(crate) fn failure(what: &str, why: &str) -> Self {
        Self { failed: vec![format!("{what}: {why}")], ..Self::default() }
    }

    /// One pass.
    pub(crate) fn pass() -> Self {
        Self { n_passed: 1, ..Self::default() }
    }

    /// Nothing ran, for a reason.
    pub(crate) fn skip(what: &str, why: &str) -> Self {
        Self { skipped: BTreeMap::from([(what.to_owned(), why.to_owned())]), ..Self::default() }
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: Self) {
        self.n_passed += other.n_passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }

    /// Counts what the programs under one name printed. `ending` says how they ended, if not well: a program that ends
    /// so without naming a failed test is a failure itself.
    pub(crate) fn read(program: &str, output: &str, ending: Option<&str>) -> Self {
        let mut counts = Self::default();
        let mut n_reported = 0;
        let mut in_list = false;
        for line in output.lines() {
            if let Some(rest) = line.strip_prefix("test result: ") {
                n_reported += 1;
                counts.n_passed += number_before(rest, " passed");
            } else if let Some((_, skip)) = line.split_once(SKIP) {
                let (name, reason) = skip.split_once(": ").unwrap_or((skip, "no reason given"));
                counts.skipped.insert(format!("{program}::{name}"), reason.to_owned());
            } else if let Some((name, reason)) =
                line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"))
            {
                let reason = reason.strip_prefix(", ").unwrap_or("ignored");
                counts.skipped.insert(format!("{program}::{name}"), reason.to_owned());
            }
            // The names stand last, indented under this word; before that, under the same word, what they printed.
            if line == "failures:" {
                in_list = true;
            } else if let (true, Some(name)) = (in_list, line.strip_prefix("    ")) {
                let name = format!("{program}::{name}");
                if !name.contains(' ') && !counts.failed.contains(&name) {
                    counts.failed.push(name);
                }
            } else if !line.is_empty() {
                in_list = false;
            }
        }
        // libtest counts a test that returned early as passed; an ignored one it does not.
        let n_printed =
            counts.skipped.len() - output.lines().filter(|line| line.contains(" ... ignored")).count();
        counts.n_passed = counts.n_passed.saturating_sub(n_printed);
        match ending {
            Some(ending) if counts.failed.is_empty() => counts.failed.push(format!("{program}: {ending}")),
            None if n_reported == 0 => counts.failed.push(format!("{program}: it reported no result")),
            _ => {}
        }
        counts
    }
}

fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A row that has run.
pub(crate) struct Finished {
    /// Its name.
    pub row: &'static str,
    /// Skipping in it is a failure.
    pub gate: bool,
    /// What its tests said.
    pub counts: Counts,
    /// How long it took.
    pub took: Duration,
}

impl Finished {
    /// Nothing failed; and a gate ran, whole.
    pub(crate) fn is_good(&self) -> bool {
        self.counts.failed.is_empty()
            && !(self.gate && (self.counts.n_passed == 0 || !self.counts.skipped.is_empty()))
    }
}

/// One row, in a line.
pub(crate) fn line(finished: &Finished) -> String {
    let Finished { row, counts, took, .. } = finished;
    format!(
        "{row:<20} {:>6} passed {:>4} failed {:>4} skipped {:>5} s",
        counts.n_passed,
        counts.failed.len(),
        counts.skipped.len(),
        took.as_secs()
    )
}

/// All rows, why tests were skipped, what failed, and the sum as the last line.
pub(crate) fn table(rows: &[Finished]) -> String {
    let mut text = String::from("\n");
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    let skipped: Vec<_> = rows
        .iter()
        .flat_map(|row| {
            row.counts.skipped.iter().map(move |(name, why)| format!("  {}: {name}: {why}", row.row))
        })
        .collect();
    if !skipped.is_empty() {
        let _ = writeln!(text, "\nskipped:\n{}", skipped.join("\n"));
    }
    let failed: Vec<_> = rows
        .iter()
        .flat_map(|row| row.counts.failed.iter().map(move |name| format!("  {}: {name}", row.row)))
        .chain(rows.iter().filter(|row| row.gate && !row.counts.skipped.is_empty()).map(|row| {
            format!("  {}: it is a gate, and {} of its tests were skipped", row.row, row.counts.skipped.len())
        }))
        .chain(
            rows.iter()
                .filter(|row| row.gate && row.counts.n_passed == 0)
                .map(|row| format!("  {}: it is a gate, and no test of it passed", row.row)),
        )
        .collect();
    if !failed.is_empty() {
        let _ = writeln!(text, "\nfailed:\n{}", failed.join("\n"));
    }
    let sum = |count: fn(&Counts) -> usize| rows.iter().map(|row| count(&row.counts)).sum::<usize>();
    let _ = writeln!(
        text,
        "\nkhard: {} passed, {} failed, {} skipped",
        sum(|counts| counts.n_passed),
        sum(|counts| counts.failed.len()),
        sum(|counts| counts.skipped.len())
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
test one ... ok
test two ... KHARD-SKIP two: no AppArmor here
ok
test three ... thread 'three' panicked at tests/a.rs:1:1:
    assertion failed
FAILED
test four ... ignored, too slow

failures:

failures:
    three

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn finished(counts: Counts, gate: bool) -> Finished {
        Finished { row: "root", gate, counts, took: Duration::from_secs(3) }
    }

    #[test]
    fn a_skip_is_no_pass_and_a_failure_has_a_name() {
        let counts = Counts::read("local_a", OUTPUT, Some("exit status 101"));
        assert_eq!(counts.n_passed, 1);
        assert_eq!(counts.failed, ["local_a::three"]);
        assert_eq!(counts.skipped["local_a::two"], "no AppArmor here");
        assert_eq!(counts.skipped["local_a::four"], "too slow");
    }

    #[test]
    fn what_failed_tests_printed_is_no_list_of_names() {
        let output = "failures:\n\n---- one stdout ----\n    indented words\n    word\n\n\nfailures:\n    one\n\n\
                      test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n";
        assert_eq!(Counts::read("a", output, Some("exit status 101")).failed, ["a::one"]);
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let counts = Counts::read("local_a", "running 2 tests\ntest one ... ", Some("killed by signal 11"));
        assert_eq!(counts.failed, ["local_a: killed by signal 11"]);
        let silent = Counts::read("local_a", "", None);
        assert_eq!(silent.failed, ["local_a: it reported no result"]);
    }

    #[test]
    fn results_of_several_programs_add_up() {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored\ntest result: ok. 4 passed; 0 failed\n";
        assert_eq!(Counts::read("unit", output, None), Counts { n_passed: 7, ..Counts::default() });
    }

    #[test]
    fn a_gate_must_run_whole() {
        let passed = || Counts { n_passed: 1, ..Counts::default() };
        let mut skipping = passed();
        skipping.add(Counts::skip("two", "no reason"));
        assert!(finished(passed(), true).is_good());
        assert!(!finished(Counts::default(), true).is_good(), "nothing ran");
        assert!(finished(Counts::default(), false).is_good());
        assert!(!finished(skipping, true).is_good());
        assert!(!finished(Counts::failure("one", "it fell"), false).is_good());
    }

    #[test]
    fn the_last_line_is_the_sum() {
        let rows = [
            finished(Counts::read("local_a", OUTPUT, None), false),
            finished(Counts::failure("x", "y"), true),
        ];
        let table = table(&rows);
        assert_eq!(table.lines().last(), Some("khard: 1 passed, 2 failed, 2 skipped"));
        assert!(table.contains("root: local_a::two: no AppArmor here"));
    }
}
