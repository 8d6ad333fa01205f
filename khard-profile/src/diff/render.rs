//! Owns how a diff's answer is shown: text for people, JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Change, Compared, Diff, Kind, Observation};
use crate::Bytes;
use crate::check::witness;
use crate::escape::terminal;

impl Diff {
    /// Text for a terminal: a line for each change, below its class.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        for of_class in self.changes.chunk_by(|one, next| one.class == next.class) {
            let _ = writeln!(text, "\n{}", of_class[0].class);
            for alike in of_class.chunk_by(Change::is_told_with) {
                let names: Vec<String> =
                    alike.iter().map(|change| terminal(change.what.as_slice())).collect();
                let _ = writeln!(
                    text,
                    "  {:<8}  {}{}",
                    alike[0].kind.as_str(),
                    names.join(", "),
                    alike[0].fate(terminal)
                );
                if let Some(opens) = alike[0].opens {
                    let _ = writeln!(text, "            opens: {opens}");
                }
                if let Some(by) = &alike[0].witness {
                    let _ = writeln!(text, "            {}", witness::in_words(Some(by)));
                }
            }
        }
        if !self.worse.is_empty() {
            text.push_str("\ncoverage that got worse: what seems to be gone there may only be unseen\n");
        }
        for worse in &self.worse {
            let (before, after) = (terminal(worse.before.as_bytes()), terminal(worse.after.as_bytes()));
            let _ =
                writeln!(text, "  {}\n    before: {before}\n    now:    {after}", worse.classes.join(", "));
        }
        for note in &self.notes {
            let _ = writeln!(text, "\nnote: {}", note.text);
        }
        text
    }

    /// What there is in all, in a line.
    pub(super) fn headline(&self) -> String {
        let what = match self.compared {
            Compared::Recordings => "observations",
            Compared::Seccomp | Compared::Apparmor => "effect",
        };
        if self.is_empty() {
            return format!("no difference in {what}");
        }
        let counts = Kind::ALL.into_iter().map(|kind| (kind, self.count(kind))).filter(|(_, n)| *n > 0);
        let counts = counts.map(|(kind, n)| format!("{n} {}", kind.as_str()));
        format!("differences in {what}: {}", counts.collect::<Vec<_>>().join(", "))
    }

    /// The same for programs.
    pub fn to_value(&self) -> Value {
        json!({
            "compared": self.compared,
            "equal": self.is_empty(),
            "has_more": self.has_more(),
            "changes": self.changes.iter().map(Change::to_value).collect::<Vec<_>>(),
            "worse_coverage": self.worse,
            "notes": self.notes.iter().map(|note| &note.text).collect::<Vec<_>>(),
        })
    }
}

impl Change {
    /// True if its name and what became of it are all there is to say of a system call.
    pub(super) fn is_plain(&self) -> bool {
        !self.abis.is_empty() && self.opens.is_none() && self.witness.is_none() && self.calls.is_empty()
    }

    /// True if one line can tell both.
    pub(super) fn is_told_with(&self, other: &Self) -> bool {
        let fate =
            |change: &Self| (change.kind, change.before.clone(), change.after.clone(), change.abis.clone());
        self.is_plain() && other.is_plain() && fate(self) == fate(other)
    }

    /// What became of it, with the escape of the sink: ` (x86_64): EPERM -> allowed`.
    pub(super) fn fate(&self, escape: fn(&[u8]) -> String) -> String {
        let abis: Vec<&str> = self.abis.iter().map(|abi| abi.as_str()).collect();
        let abis = if abis.is_empty() { String::new() } else { format!(" ({})", abis.join(", ")) };
        let shown = |words: &Option<Bytes>| words.as_ref().map(|words| escape(words.as_slice()));
        match (shown(&self.before), shown(&self.after)) {
            (None, None) => abis,
            (None, Some(only)) | (Some(only), None) => format!("{abis}: {only}"),
            (Some(before), Some(after)) => format!("{abis}: {before} -> {after}"),
        }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({
            "class": self.class,
            "change": self.kind,
            "what": self.what,
            "before": self.before,
            "after": self.after,
            "opens": self.opens,
            "witness": self.witness,
        });
        if !self.abis.is_empty() {
            value["abis"] = json!(self.abis);
        }
        if !self.calls.is_empty() {
            value["calls"] = json!(self.calls);
        }
        if !self.observations.is_empty() {
            let observations = self.observations.iter().map(Observation::to_value);
            value["observations"] = observations.collect();
        }
        value
    }
}

impl Observation {
    fn to_value(&self) -> Value {
        match self {
            Self::Call(key, phase) => json!({ "abi": key.abi, "nr": key.nr, "phase": phase }),
            Self::Access(key, phase) => json!({ "access": key, "phase": phase }),
        }
    }
}
