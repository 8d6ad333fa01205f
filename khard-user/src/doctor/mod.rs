//! What this machine allows, and what of khard therefore works.
//!
//! Owns the facts, each tried rather than inferred where that does no harm, and the verdict on them. It must not know
//! the command line. What cannot be found out is unknown, with the reason, and never a guess.
mod kernel;
pub(crate) mod kubelet;
mod probe;
mod programs;
mod render;
mod runtimes;
mod verdict;

pub use render::render;

use kernel::KernelFacts;
use kubelet::KubeletFacts;
use programs::ProgramFacts;
use runtimes::RuntimeFacts;
use serde::Serialize;
use verdict::Ability;

/// A fact, or why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Finding<T> {
    /// It was found.
    Known(T),
    /// It was not, for this reason.
    Unknown(String),
}

impl<T> From<Result<T, String>> for Finding<T> {
    fn from(found: Result<T, String>) -> Self {
        found.map_or_else(Self::Unknown, Self::Known)
    }
}

impl<T> Finding<T> {
    fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// What came of trying something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It works.
    Yes,
    /// It fails, and how.
    No(String),
    /// It was not tried, and why.
    Untried(String),
}

impl Outcome {
    pub(crate) fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

impl<E: std::error::Error> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|error| Self::No(crate::causes::with_causes(&error)), |()| Self::Yes)
    }
}

/// Everything that was found, and what follows.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub(crate) kernel: KernelFacts,
    pub(crate) programs: ProgramFacts,
    pub(crate) runtimes: RuntimeFacts,
    /// One for each kubelet that runs or has left its folder.
    pub(crate) kubelets: Vec<KubeletFacts>,
    pub(crate) abilities: Vec<Ability>,
}

impl Report {
    /// Looks at this machine. Takes some seconds where a runtime's socket does not answer.
    pub async fn gather(runtime_endpoint: Option<&str>) -> Self {
        let kernel = KernelFacts::gather();
        let programs = ProgramFacts::gather(&kernel);
        let runtimes = RuntimeFacts::gather(runtime_endpoint).await;
        let kubelets = KubeletFacts::gather();
        let abilities = verdict::judge(&kernel, &programs, &runtimes, &kubelets);
        Self { kernel, programs, runtimes, kubelets, abilities }
    }

    /// Whether khard can record anything here.
    #[must_use]
    pub fn can_record(&self) -> bool {
        verdict::can_record(&self.abilities)
    }
}

/// The first line of a reason. After it may come pages of the verifier's reasoning, which only the JSON keeps.
fn brief(reason: &str) -> &str {
    let line = reason.lines().next().unwrap_or_default();
    line.split(". Verifier output:").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_shown_without_the_verifier_s_pages() {
        assert_eq!(brief("not loaded. Verifier output: 0: R1=ctx()\n1: exit"), "not loaded");
        assert_eq!(brief("one\ntwo"), "one");
        assert_eq!(brief(""), "");
    }
}
