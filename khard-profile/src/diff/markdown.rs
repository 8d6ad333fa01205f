//! Owns how a diff's answer is shown in a comment on a pull request. Every name that a workload, a cluster or a profile chose is in a
//! code span.

use std::fmt::Write;

use super::{Change, Diff};
use crate::Bytes;
use crate::escape::markdown as code;
use crate::recording::Witness;

/// Rows of one class that are shown; the rest is counted. A comment on GitHub holds 65,536 characters.
const MAX_ROWS: usize = 60;

impl Diff {
    /// A section of Markdown.
    pub fn to_markdown(&self) -> String {
        let mut page = format!("### khard: {}\n", self.headline());
        for of_class in self.changes.chunk_by(|one, next| one.class == next.class) {
            let _ = writeln!(page, "\n**{}**\n", of_class[0].class);
            page.push_str("| change | what | before | after | opens |\n|---|---|---|---|---|\n");
            let rows: Vec<&[Change]> = of_class.chunk_by(Change::is_told_with).collect();
            rows.iter().take(MAX_ROWS).for_each(|alike| row(&mut page, alike));
            if rows.len() > MAX_ROWS {
                let _ = writeln!(page, "\nAnd {} more.", rows.len() - MAX_ROWS);
            }
        }
        if !self.worse.is_empty() {
            page.push_str(
                "\n**Coverage that got worse:** what seems to be gone there may only be unseen\n\n",
            );
        }
        for worse in &self.worse {
            let (before, after) = (code(worse.before.as_bytes()), code(worse.after.as_bytes()));
            let _ = writeln!(page, "- {}: {before}, now {after}", worse.classes.join(", "));
        }
        if !self.notes.is_empty() {
            page.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(page, "- {}", code(note.text.as_bytes()));
        }
        page
    }
}

/// Everything in it that came from outside is in code spans, which hold in a cell.
fn row(page: &mut String, alike: &[Change]) {
    let Some(first) = alike.first() else { return };
    let names: Vec<String> = alike.iter().map(|change| code(change.what.as_slice())).collect();
    let abis: Vec<&str> = first.abis.iter().map(|abi| abi.as_str()).collect();
    let abis = if abis.is_empty() { String::new() } else { format!(" ({})", abis.join(", ")) };
    let cell =
        |words: &Option<Bytes>| words.as_ref().map_or_else(String::new, |words| code(words.as_slice()));
    let kind = first.kind.as_str();
    let kind = if first.kind.is_more() { format!("**{kind}**") } else { kind.to_owned() };
    let _ = writeln!(
        page,
        "| {kind} | {}{abis}{} | {} | {} | {} |",
        names.join(", "),
        by(first.witness.as_ref()),
        cell(&first.before),
        cell(&first.after),
        first.opens.unwrap_or_default()
    );
}

fn by(witness: Option<&Witness>) -> String {
    let Some(witness) = witness else { return String::new() };
    format!(", first by {} ({})", code(witness.comm.as_slice()), code(witness.exe.as_slice()))
}
