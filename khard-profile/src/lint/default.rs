//! Owns the question whether a recording needs a profile of its own at all: would the runtime's default profile have refused any of
//! it? Knows nothing about the profile that is linted.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Format;
use crate::apparmor::words;
use crate::apparmor_text::ParsedProfile;
use crate::check::apparmor::{Refusal, Verdict as Answer, access_in_words};
use crate::check::{CheckedCall, Profile, Question, Verdict, check, check_apparmor};
use crate::recording::{Access, Class, Coverage, Outcome, Recording};
use crate::seccomp::{DEFAULT_CAPS, RUNTIME_DEFAULT_PROFILE, RUNTIME_DEFAULT_VERSION};

/// containerd's default profile. Where it is from stands in it.
const APPARMOR_DEFAULT: &str = include_str!("../../data/runtime-default.apparmor");

/// The answer. Its words are escaped for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgainstDefault {
    /// How many different calls or accesses were asked about. 0: the recording has none, and nothing is answered.
    pub n_asked: usize,
    /// What the default profile would have refused, in words. Empty: the recording fits.
    pub refused: Vec<String>,
    /// What must be so for the answer to hold, and was not recorded.
    pub provided: Vec<String>,
}

impl AgainstDefault {
    /// True if something was asked about, and nothing is refused for certain.
    pub fn fits(&self) -> bool {
        self.n_asked > 0 && self.refused.is_empty()
    }

    pub(super) fn in_words(&self) -> String {
        match (self.fits(), self.provided.is_empty()) {
            (false, _) if self.n_asked == 0 => {
                "verdict: none: the recording has nothing that a profile of this kind decides on".to_owned()
            }
            (true, true) => format!(
                "verdict: this recording fits RuntimeDefault ({RUNTIME_DEFAULT_VERSION}): ship that instead, unless the profile is to allow less"
            ),
            (true, false) => format!(
                "verdict: this recording fits RuntimeDefault ({RUNTIME_DEFAULT_VERSION}): ship that instead, unless the profile is to allow less; provided that"
            ),
            (false, _) => format!(
                "verdict: this recording does not fit RuntimeDefault ({RUNTIME_DEFAULT_VERSION}), which would refuse"
            ),
        }
    }

    pub(super) fn details(&self) -> &[String] {
        if self.fits() { &self.provided } else { &self.refused }
    }

    pub(super) fn to_value(&self) -> Value {
        json!({
            "version": RUNTIME_DEFAULT_VERSION,
            "asked": self.n_asked,
            "fits": self.fits(),
            "refused": self.refused,
            "provided": self.provided,
        })
    }
}

/// Asks the default profile of one kind. `None`: khard's own data cannot be read, which a test excludes.
pub(super) fn against_default(format: Format, recording: &Recording) -> Option<AgainstDefault> {
    match format {
        Format::Seccomp => calls(recording),
        Format::AppArmor => accesses(recording),
    }
}

impl AgainstDefault {
    fn new(n_asked: usize) -> Self {
        Self { n_asked, refused: Vec::new(), provided: Vec::new() }
    }
}

fn calls(recording: &Recording) -> Option<AgainstDefault> {
    let profile = Profile::from_json(RUNTIME_DEFAULT_PROFILE.as_bytes()).ok()?;
    let question = Question { caps: Some(held(recording)), ..Question::default() };
    let report = check(&profile, recording, &question);
    let mut answer = AgainstDefault::new(report.program.len());
    let runs = || recording.runs().values();
    if !runs().all(|run| run.coverage.syscalls.is_complete()) {
        answer.provided.push("calls that may be missing in the recording are allowed too".to_owned());
    }
    if runs().any(|run| run.confinement.seccomp.is_filtered()) {
        let missing =
            "nothing matters that the filter in force while recording refused: it is not in the recording";
        answer.provided.push(missing.to_owned());
    }
    for call in &report.program {
        match (&call.verdict, call.name) {
            (Verdict::Allowed, _) => {}
            (Verdict::Refused { outcome, .. }, Some("clone3")) if outcome.errno == ENOSYS => {
                answer.provided.push("its libc uses clone where clone3 returns ENOSYS, as all do".to_owned());
            }
            (Verdict::Refused { outcome, .. }, _) => {
                answer.refused.push(format!("{}: {outcome}", title(call)));
            }
            (Verdict::Depends(_), Some("socket")) => sockets(recording, &mut answer),
            (Verdict::Depends(_), Some("clone")) if makes_user_namespaces(recording) => {
                answer.refused.push("clone (or unshare) that makes a user namespace".to_owned());
            }
            (Verdict::Depends(_), Some("clone")) => {
                answer.provided.push("clone makes no namespace (its flags are not recorded)".to_owned());
            }
            (Verdict::Depends(_), Some("personality")) => {
                let values = "0, 0x8, 0x20000, 0x20008 or 0xffffffff";
                answer.provided.push(format!("personality is called with {values} (not recorded)"));
            }
            (Verdict::Depends(parts), _) => {
                answer.provided.push(format!("{}: {}", title(call), parts.join("; ")));
            }
        }
    }
    Some(answer)
}

/// ENOSYS of every architecture here (include/uapi/asm-generic/errno.h).
const ENOSYS: u32 = 38;
/// Socket families that the default profile refuses (include/linux/socket.h): `AF_ALG`, `AF_VSOCK`.
const REFUSED_FAMILIES: [u16; 2] = [38, 40];

fn title(call: &CheckedCall) -> String {
    let name = call.name.unwrap_or("a call without a name");
    format!("{name} ({} {}) of {}", call.key.abi, call.key.nr, call.phases)
}

/// What a container has without being given more, and what was granted while recording.
fn held(recording: &Recording) -> BTreeSet<String> {
    let used = recording.accesses().keys().filter_map(|key| match key.what {
        Access::Capability { capability, .. } if key.outcome == Outcome::Granted => {
            Some(format!("CAP_{}", words::capability(capability)?.to_ascii_uppercase()))
        }
        _ => None,
    });
    DEFAULT_CAPS.iter().map(|cap| (*cap).to_owned()).chain(used).collect()
}

fn makes_user_namespaces(recording: &Recording) -> bool {
    let granted = |key: &crate::recording::AccessKey| key.outcome == Outcome::Granted;
    recording.accesses().keys().any(|key| key.what == Access::UserNamespace && granted(key))
}

/// Families are not in a system call's record, but in the accesses, where these were watched.
fn sockets(recording: &Recording, answer: &mut AgainstDefault) {
    let families: BTreeSet<u16> = recording
        .accesses()
        .keys()
        .filter_map(|key| match key.what {
            Access::Network { family, .. } if REFUSED_FAMILIES.contains(&family) => Some(family),
            _ => None,
        })
        .collect();
    for family in &families {
        let name = words::family(*family).unwrap_or("unknown");
        answer.refused.push(format!("socket of the family {name} ({family})"));
    }
    let watched = |class: Class| {
        recording.runs().values().all(|run| Coverage::is_complete(run.coverage.accesses.of(class)))
    };
    if families.is_empty() && !watched(Class::Network) {
        answer.provided.push("socket is called with neither AF_ALG nor AF_VSOCK (not recorded)".to_owned());
    }
}

fn accesses(recording: &Recording) -> Option<AgainstDefault> {
    let profile = ParsedProfile::parse(APPARMOR_DEFAULT.as_bytes()).ok()?;
    let report = check_apparmor(&profile, recording, &Question::default());
    let mut answer = AgainstDefault::new(report.accesses.len());
    let of = |class: Class| recording.runs().values().map(move |run| run.coverage.accesses.of(class));
    let classes = Class::ALL.iter().filter(|class| !of(**class).all(Coverage::is_complete));
    let classes: Vec<&str> = classes.map(|class| class.as_str()).collect();
    if !classes.is_empty() {
        let classes = classes.join(", ");
        answer.provided.push(format!("what may be missing in the recording is granted too: {classes}"));
    }
    let mut unclear = 0;
    for access in &report.accesses {
        match &access.verdict {
            Answer::Allowed(_) | Answer::NotMediated(_) => {}
            Answer::Refused(refusal) => {
                let rule = match refusal {
                    Refusal::DenyRule(place) => report.rules.get(*place),
                    _ => None,
                };
                let by = rule.map(|(_, text)| format!(" (by {})", String::from_utf8_lossy(text.as_slice())));
                answer.refused.push(format!("{}{}", access_in_words(&access.key), by.unwrap_or_default()));
            }
            Answer::CannotJudge(_) => unclear += 1,
        }
    }
    if unclear > 0 {
        answer.provided.push(format!("{unclear} accesses that cannot be judged are granted (khard check)"));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profiles_can_be_read() {
        assert!(Profile::from_json(RUNTIME_DEFAULT_PROFILE.as_bytes()).is_ok());
        assert!(ParsedProfile::parse(APPARMOR_DEFAULT.as_bytes()).is_ok());
    }
}
