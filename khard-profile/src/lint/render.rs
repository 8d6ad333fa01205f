//! Owns how findings are shown: text for people, JSON for programs.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use super::{At, Finding, Format, Report, Severity};
use crate::escape;

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile => f.write_str("the profile"),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry(place) => write!(f, "syscalls[{place}]"),
            Self::Key(key) => f.write_str(key),
        }
    }
}

impl Report {
    /// Text for a terminal, headed by the profile's name; the worst stands first.
    pub fn to_text(&self, name: &str) -> String {
        let count = |wanted: Severity| {
            let n = self.findings.iter().filter(|finding| finding.kind.severity == wanted).count();
            format!("{n} {wanted}{}", if n == 1 { "" } else { "s" })
        };
        let counts = [Severity::Error, Severity::Warning, Severity::Note].map(count).join(", ");
        let mut text = format!("{}: {counts}\n", escape::terminal(name.as_bytes()));
        for finding in &self.findings {
            let Finding { kind, at, what, details } = finding;
            let place = escape::terminal(at.to_string().as_bytes());
            let what = escape::terminal(what.as_bytes());
            let _ = writeln!(text, "{:<8} {place}: {what} [{}]", kind.severity, kind.id);
            for detail in details {
                let _ = writeln!(text, "         - {}", escape::terminal(detail.as_bytes()));
            }
            let _ = writeln!(text, "         why: {}\n         do:  {}", kind.why, kind.fix);
        }
        if let Some(answer) = &self.against_default {
            let _ = writeln!(text, "{}", answer.in_words());
            for line in answer.details() {
                let _ = writeln!(text, "         - {line}");
            }
        }
        text
    }

    /// The same for programs.
    pub fn to_value(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            let (line, entry) = match finding.at {
                At::Line(line) => (Some(line), None),
                At::Entry(place) => (None, Some(place)),
                At::Profile | At::Key(_) => (None, None),
            };
            json!({
                "id": finding.kind.id,
                "severity": finding.kind.severity,
                "at": finding.at.to_string(),
                "line": line,
                "entry": entry,
                "what": finding.what,
                "details": finding.details,
                "why": finding.kind.why,
                "do": finding.kind.fix,
            })
        });
        let kind = match self.format {
            Format::Seccomp => "seccomp",
            Format::AppArmor => "apparmor",
        };
        json!({
            "kind": kind,
            "findings": findings.collect::<Vec<_>>(),
            "runtime_default": self.against_default.as_ref().map(super::AgainstDefault::to_value),
        })
    }
}
