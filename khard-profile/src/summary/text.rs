//! Owns the table at the end of a recording: a few lines for a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::{AppArmorSummary, ClassRuns, LeftOut, RiskyCall, SeccompSummary, Summary, words};
use crate::escape::{shell, terminal};

/// Closed calls that are named; the rest is counted.
const MAX_NAMED: usize = 12;

impl Summary {
    /// The table, a few lines, each with a label. `dir` is the folder that was written to.
    pub fn to_text(&self, dir: &Path) -> String {
        let mut text = String::new();
        let subject: Vec<String> = words::subject(&self.subject)
            .into_iter()
            .map(|(what, name)| format!("{what} {}", terminal(name)))
            .collect();
        let _ = writeln!(text, "{}", subject.join(" "));
        let mut line = |label: &str, what: &str| {
            let _ = writeln!(text, "  {label:<9} {what}");
        };
        if let Some(seccomp) = &self.seccomp {
            seccomp_lines(seccomp, &mut line);
        }
        if let Some(why) = &self.no_seccomp {
            line("profile", &format!("none: {}", terminal(why.as_bytes())));
        }
        if let Some(profile) = &self.apparmor {
            apparmor_lines(profile, &mut line);
        }
        if let Some(why) = &self.no_apparmor {
            line("apparmor", &format!("none: {}", terminal(why.as_bytes())));
        }
        let mut coverages: BTreeMap<&str, usize> = BTreeMap::new();
        self.runs.iter().for_each(|run| *coverages.entry(&run.coverage).or_default() += 1);
        for (coverage, n) in coverages {
            let runs = if n == 1 { "1 run".to_owned() } else { format!("{n} runs") };
            line("coverage", &format!("{runs}: {}", terminal(coverage.as_bytes())));
        }
        let accesses: BTreeSet<_> = self.runs.iter().flat_map(|run| &run.accesses).collect();
        for (coverage, classes) in accesses {
            line("", &format!("{}: {}", classes.join(", "), terminal(coverage.as_bytes())));
        }
        let of_class = |class: &ClassRuns| match class.n_whole {
            0 => format!("{} in no whole run", class.class),
            n_runs => {
                let (in_all, n) = (class.in_all, class.in_all + class.in_fewer.len());
                format!("{} {in_all} of {n} in all {n_runs}", class.class)
            }
        };
        let class_runs: Vec<String> = self.class_runs.iter().map(of_class).collect();
        if !class_runs.is_empty() {
            line("runs", &format!("seen in whole runs: {}", class_runs.join("; ")));
        }
        if !self.refused_calls.is_empty() {
            let what: Vec<&str> = self.refused_calls.iter().map(|refused| refused.what.as_str()).collect();
            line("refused", &format!("by the seccomp filter in force: {}", what.join(", ")));
        }
        if let Some(LeftOut { min_seen, what }) = &self.left_out {
            line("left out", &format!("{} that fewer than {min_seen} runs have", what.len()));
        }
        self.warnings.iter().for_each(|warning| line("warning", &terminal(warning.as_bytes())));
        line("files", &terminal(dir.as_os_str().as_encoded_bytes()));
        let path = |file: &str| shell(dir.join(file).as_os_str().as_encoded_bytes());
        let next = match self.seccomp {
            Some(_) => format!("check {} --against {}", path("seccomp.json"), path("recording.json")),
            None => format!("generate {}", path("recording.json")),
        };
        line("next", &format!("khard {next}"));
        text
    }
}

fn apparmor_lines(profile: &AppArmorSummary, line: &mut impl FnMut(&str, &str)) {
    let n_rules: usize = profile.n_rules.values().sum();
    let of: Vec<String> = profile.n_rules.iter().map(|(group, n)| format!("{group} {n}")).collect();
    line("apparmor", &format!("{n_rules} rules ({})", of.join(", ")));
    let counts = [
        ("generalised", profile.generalised.len()),
        ("folded", profile.folded.len()),
        ("only attempted", profile.attempt_only.len()),
        ("denied", profile.denied.len()),
        ("not written", profile.not_expressible.len()),
    ];
    let counts = counts.into_iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what} {n}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    if !counts.is_empty() {
        line("", &counts);
    }
    let mut risks: BTreeMap<&str, usize> = BTreeMap::new();
    profile.open.iter().for_each(|risky| *risks.entry(risky.risk).or_default() += 1);
    let open: Vec<String> = risks.iter().map(|(risk, n)| format!("{risk} ({n})")).collect();
    profile.warnings.iter().for_each(|warning| line("warning", &terminal(warning.as_bytes())));
    line("open", if open.is_empty() { "no risky rule".to_owned() } else { open.join("; ") }.as_str());
}

fn seccomp_lines(seccomp: &SeccompSummary, line: &mut impl FnMut(&str, &str)) {
    let reasons = seccomp.reasons.iter().map(|reason| format!("{} {}", reason.reason, reason.n_calls));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    line("allowed", &format!("{} of {} system calls ({reasons})", seccomp.n_allowed, seccomp.n_existing));
    // One of each kind says more than all of the first kind.
    let kinds = seccomp.closed.chunk_by(|one, next| one.risk == next.risk);
    let mut closed: Vec<&str> = kinds.map(|kind| kind[0].name).take(MAX_NAMED).collect();
    let more = format!("and {} more risky calls", seccomp.closed.len() - closed.len());
    if seccomp.closed.len() > closed.len() {
        closed.push(&more);
    }
    line("closed", &closed.join(", "));
    let open = |RiskyCall { name, why, witness, .. }: &RiskyCall| match witness {
        Some(witness) => format!("{name} ({why}: {})", terminal(witness.comm.as_slice())),
        None => format!("{name} ({why})"),
    };
    let open: Vec<String> = seccomp.open.iter().map(open).collect();
    line("open", if open.is_empty() { "no risky call".to_owned() } else { open.join(", ") }.as_str());
    for compat in &seccomp.compat {
        line("compat", &format!("different calls in the ABI {}: {}", compat.abi, compat.n_calls));
    }
    line("floor", &terminal(seccomp.floor.as_bytes()));
    if !seccomp.unwritable.is_empty() {
        line("unwritten", &seccomp.unwritable.join(", "));
    }
}
