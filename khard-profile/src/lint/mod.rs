//! Owns the mistakes that people make in seccomp and AppArmor profiles: what is found in one, by whomever it was written, and whether
//! a recording needs a profile of its own at all. Knows no file names.
//!
//! [`lint`] takes the text of either kind. What it cannot read is a finding too.

mod apparmor;
mod comments;
mod default;
mod libseccomp;
mod render;
mod seccomp;
mod table;

pub use default::AgainstDefault;
pub use libseccomp::Libseccomp;
pub use table::{KINDS, Kind, Severity};

use crate::check::Profile;
use crate::recording::Recording;

/// Which kind of profile a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Seccomp,
    /// Text for `apparmor_parser`.
    AppArmor,
}

/// One mistake in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of mistake.
    pub kind: &'static Kind,
    /// Where.
    pub at: At,
    /// What is wrong. Names of the profile in it are as they stand there: escape them at the sink.
    pub what: String,
    /// The parts of it, a line each.
    pub details: Vec<String>,
}

/// A place in a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// The whole of it.
    Profile,
    /// A line, from 1.
    Line(usize),
    /// An entry of `syscalls`, from 0.
    Entry(usize),
    /// Something else of a seccomp profile, such as `defaultAction`.
    Key(String),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which kind of profile it is.
    pub format: Format,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// Whether the recording fits the runtime's default profile; `None`: not asked.
    pub against_default: Option<AgainstDefault>,
}

impl Report {
    /// How bad the worst finding is; `None`: there is none.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.kind.severity).max()
    }
}

impl Finding {
    fn new(kind: &'static Kind, at: At, what: impl Into<String>) -> Self {
        Self { kind, at, what: what.into(), details: Vec::new() }
    }

    fn with(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }
}

/// Looks at a profile. With a recording of what is to run under it, the runtime is known, and the runtime's default profile is asked
/// whether it would do.
pub fn lint(text: &[u8], against: Option<&Recording>) -> Report {
    lint_for(text, against, &Libseccomp::assumed())
}

/// The same for runtimes with this libseccomp.
pub fn lint_for(text: &[u8], against: Option<&Recording>, libseccomp: &Libseccomp) -> Report {
    let format = format(text);
    let mut findings = match format {
        Format::Seccomp => seccomp::lint(text, against, libseccomp),
        Format::AppArmor => apparmor::lint(text),
    };
    findings.sort_by(|one, other| {
        (other.kind.severity, &one.at, one.kind.id).cmp(&(one.kind.severity, &other.at, other.kind.id))
    });
    let against_default = against.and_then(|recording| default::against_default(format, recording));
    Report { format, findings, against_default }
}

fn format(text: &[u8]) -> Format {
    let (blanked, _) = comments::json(text);
    if Profile::is_json(&blanked) { Format::Seccomp } else { Format::AppArmor }
}

/// Names in a row, so many at most.
fn names(names: &[&str], at_most: usize) -> String {
    let shown = names.iter().take(at_most).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(at_most) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
