//! The figures of the dashboard: how they are judged and shown. Knows nothing of how they are measured.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Of one core, in percent.
const GOAL: f64 = 1.0;

struct Figures {
    subjects: u64,
    calls_per_s: f64,
    /// Percent of one core, in order.
    shares: Vec<f64>,
}

impl Figures {
    fn of(report: &Value) -> Result<Self> {
        let shares = report["shares"].as_array().context("shares")?;
        let mut shares: Vec<f64> =
            shares.iter().filter_map(Value::as_f64).map(|share| share * 100.0).collect();
        shares.sort_by(f64::total_cmp);
        Ok(Self {
            subjects: report["subjects"].as_u64().context("subjects")?,
            calls_per_s: report["calls_per_s"].as_f64().context("calls_per_s")?,
            shares,
        })
    }

    fn median(&self) -> f64 {
        self.shares.get(self.shares.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Whether more is taken than the goal allows.
pub(super) fn is_too_busy(report: &Value) -> Result<bool> {
    Ok(Figures::of(report)?.median() > GOAL)
}

/// For the document.
pub(super) fn section(report: &Value) -> Result<String> {
    let figures = Figures::of(report)?;
    let (median, verdict) = (figures.median(), if is_too_busy(report)? { "fail" } else { "pass" });
    let (least, most) = (figures.shares.first().unwrap_or(&0.0), figures.shares.last().unwrap_or(&0.0));
    Ok(format!(
        "\n# What the dashboard takes while nothing new comes\n\
         | subjects | calls a second underneath | of one core | goal | verdict |\n|---|---|---|---|---|\n\
         | {} | {:.0} | {median:.2} % ({least:.2} to {most:.2}) | ≤ {GOAL} % | {verdict} |\n\n\
         - All threads of `khard tui`, the recording and its checkpoints included, on a terminal of 120 by 40 that shows the \
         subjects. The median of {} stretches of 20 s, with the least and the most.\n\
         - The calls are `getppid`, made by 8 of the subjects, and known. What they cost themselves is in the tables above.\n",
        figures.subjects,
        figures.calls_per_s,
        figures.shares.len(),
    ))
}
