//! The figures of uniting recordings: how they are judged and shown. Knows nothing of how they are measured.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The most that a merge may have in memory.
const GOAL_BYTES: u64 = 1 << 30;

const MB: u64 = 1_000_000;

/// Whether some merge took more memory than the goal allows.
pub(super) fn is_too_large(report: &Value) -> Result<bool> {
    Ok(rows(report)?.iter().any(|row| row.peak_bytes > GOAL_BYTES))
}

struct Row {
    n_recordings: u64,
    n_own: u64,
    peak_bytes: u64,
    took_ms: u64,
    file_bytes: u64,
}

fn rows(report: &Value) -> Result<Vec<Row>> {
    let row = |row: &Value| {
        let number = |key: &'static str| row[key].as_u64().context(key);
        Ok(Row {
            n_recordings: number("n_recordings")?,
            n_own: number("n_own")?,
            peak_bytes: number("peak_bytes")?,
            took_ms: number("took_ms")?,
            file_bytes: number("file_bytes")?,
        })
    };
    report["rows"].as_array().context("rows")?.iter().map(row).collect()
}

/// For the document.
pub(super) fn section(report: &Value) -> Result<String> {
    let n_observations = report["n_observations"].as_u64().context("n_observations")?;
    let mut text = format!(
        "\n# What uniting recordings takes\n\
         Of {n_observations} observations each, by `khard merge`.\n\n\
         | recordings | observations of each that no other has | memory at most | goal | verdict | time | result |\n|---|---|---|---|---|---|---|\n"
    );
    for Row { n_recordings, n_own, peak_bytes, took_ms, file_bytes } in rows(report)? {
        let verdict = if peak_bytes > GOAL_BYTES { "fail" } else { "pass" };
        let _ = writeln!(
            text,
            "| {n_recordings} | {n_own} | {} MB | ≤ 1 GiB | {verdict} | {} s | {} MB |",
            peak_bytes / MB,
            took_ms / 1000,
            file_bytes / MB
        );
    }
    Ok(text)
}
