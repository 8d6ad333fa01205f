//! Owns what is looked for in a list of allowed calls for the sake of the container runtime and of every program's end.

use std::collections::{BTreeMap, BTreeSet};

use super::super::table;
use super::super::{At, Finding, names};
use super::view::{Open, View};
use crate::recording::Recording;
use crate::seccomp::{FloorData, FloorEntry, Start};

/// A call that came in one container of so many, or more often, is missed now and then.
const RARE: u64 = 100;

/// One way of starting containers, over all measured versions of its runtime.
#[derive(Default)]
struct Way {
    /// In every container of every version.
    sure: BTreeSet<String>,
    /// With every version, and in how many containers of how many, where that is most.
    sometimes: BTreeMap<String, (u64, u64)>,
    /// With some versions only.
    of_versions: BTreeMap<String, BTreeSet<String>>,
}

impl Way {
    fn of(entries: &[&FloorEntry]) -> Self {
        let mut way = Self::default();
        let all: BTreeSet<&String> = entries.iter().flat_map(|entry| entry.calls.keys()).collect();
        for name in all {
            let seen = |entry: &&FloorEntry| Some((*entry.calls.get(name)?, entry.n_containers));
            let counts: Vec<(u64, u64)> = entries.iter().filter_map(seen).collect();
            let often = counts.iter().any(|(n, of)| n * RARE >= *of);
            if counts.len() < entries.len() && often {
                let with_it = entries.iter().filter(|entry| entry.calls.contains_key(name));
                let versions = with_it.map(|entry| entry.key.version.clone()).collect();
                way.of_versions.insert(name.clone(), versions);
            } else if counts.iter().all(|(n, of)| n == of) && counts.len() == entries.len() {
                way.sure.insert(name.clone());
            } else if often {
                let most = counts.into_iter().max_by(|one, other| (one.0 * other.1).cmp(&(other.0 * one.1)));
                way.sometimes.extend(most.map(|most| (name.clone(), most)));
            }
        }
        way
    }

    fn missing<'a>(&'a self, view: &View<'_>) -> Vec<&'a str> {
        self.sure.iter().map(String::as_str).filter(|name| is_never(view, name)).collect()
    }
}

fn is_never(view: &View<'_>, name: &str) -> bool {
    view.native_open(name).is_some_and(Open::is_never)
}

pub(super) fn look(view: &View<'_>, against: Option<&Recording>, findings: &mut Vec<Finding>) {
    ends(view, findings);
    let Ok(data) = FloorData::embedded() else { return };
    let ways = |kind: Start| {
        let mut entries: BTreeMap<(&str, bool), Vec<&FloorEntry>> = BTreeMap::new();
        for entry in data.entries().filter(|entry| entry.key.kind == kind) {
            entries.entry((entry.key.runtime.as_str(), entry.key.no_new_privs)).or_default().push(entry);
        }
        let ways = entries.into_iter().map(|(key, entries)| (key, Way::of(&entries)));
        ways.collect::<BTreeMap<_, _>>()
    };
    let starts = ways(Start::Start);
    let missing: BTreeMap<(&str, bool), Vec<&str>> =
        starts.iter().map(|(key, way)| (*key, way.missing(view))).collect();
    let asked = asked(against, missing.keys().copied());
    let lines = |wanted: &dyn Fn(&(&str, bool)) -> bool| {
        let missing = missing.iter().filter(|(key, calls)| wanted(key) && !calls.is_empty());
        missing.map(|(key, calls)| format!("{}: lacks {}", title(*key), names(calls, 12))).collect::<Vec<_>>()
    };
    let works = |key: &(&str, bool)| missing.get(key).is_some_and(Vec::is_empty);
    if !asked.iter().any(works) {
        let what = match against {
            Some(_) => "the runtime of the recording can start no container under it",
            None => "no measured runtime can start a container under it",
        };
        let details = lines(&|key| asked.contains(key));
        findings.push(Finding::new(&table::MISSING_FLOOR, At::Profile, what).with(details));
        return;
    }
    let runtimes: BTreeSet<&str> = asked.iter().map(|(runtime, _)| *runtime).collect();
    for runtime in &runtimes {
        let of_runtime: Vec<(&str, bool)> =
            asked.iter().copied().filter(|(name, _)| name == runtime).collect();
        if !of_runtime.iter().any(works) {
            let what = format!("{runtime} can start no container under it");
            let details = lines(&|key| of_runtime.contains(key));
            findings.push(Finding::new(&table::FLOOR_OF_RUNTIME, At::Profile, what).with(details));
        } else if !of_runtime.iter().all(works) {
            let what = format!("{runtime} starts containers under it only with no_new_privs");
            let details = lines(&|key| of_runtime.contains(key));
            findings.push(Finding::new(&table::NEEDS_NO_NEW_PRIVS, At::Profile, what).with(details));
        }
    }
    let working: Vec<(&str, bool)> = asked.into_iter().filter(works).collect();
    rare(view, &starts, &working, findings);
    joining(view, &ways(Start::Exec), &working, findings);
}

/// The ways that matter: those of the recording's runs, else all.
fn asked<'a>(
    against: Option<&Recording>,
    measured: impl Iterator<Item = (&'a str, bool)>,
) -> Vec<(&'a str, bool)> {
    let runs = || against.into_iter().flat_map(|recording| recording.runs().values());
    let measured: Vec<(&str, bool)> = measured.collect();
    let fits = |key: &(&str, bool)| {
        runs().any(|run| {
            run.runtime.as_ref().is_some_and(|runtime| runtime.name == key.0)
                && run.confinement.no_new_privs.is_none_or(|set| set == key.1)
        })
    };
    let fitting: Vec<(&str, bool)> = measured.iter().copied().filter(fits).collect();
    if fitting.is_empty() { measured } else { fitting }
}

fn title((runtime, no_new_privs): (&str, bool)) -> String {
    format!("{runtime} {} no_new_privs", if no_new_privs { "with" } else { "without" })
}

fn rare(
    view: &View<'_>,
    starts: &BTreeMap<(&str, bool), Way>,
    working: &[(&str, bool)],
    findings: &mut Vec<Finding>,
) {
    let (mut sometimes, mut of_versions) = (Vec::new(), Vec::new());
    for (key, way) in working.iter().filter_map(|key| Some((*key, starts.get(key)?))) {
        let often = way.sometimes.iter().filter(|(name, _)| is_never(view, name));
        let calls: Vec<String> = often.map(|(name, (n, of))| format!("{name} (in {n} of {of})")).collect();
        if !calls.is_empty() {
            sometimes.push(format!("{}: lacks {}", title(key), calls.join(", ")));
        }
        let newer = way.of_versions.iter().filter(|(name, _)| is_never(view, name));
        let calls: Vec<String> = newer
            .map(|(name, versions)| {
                format!("{name} ({})", versions.iter().cloned().collect::<Vec<_>>().join(", "))
            })
            .collect();
        if !calls.is_empty() {
            of_versions.push(format!("{}: lacks {}", title(key), calls.join(", ")));
        }
    }
    if !sometimes.is_empty() {
        let what = "it lacks calls that a runtime makes in some containers once the filter is in force";
        findings.push(Finding::new(&table::RARE_FLOOR, At::Profile, what).with(sometimes));
    }
    if !of_versions.is_empty() {
        let what = "it lacks calls that some versions of a runtime make once the filter is in force";
        findings.push(Finding::new(&table::FLOOR_OF_VERSIONS, At::Profile, what).with(of_versions));
    }
}

fn joining(
    view: &View<'_>,
    execs: &BTreeMap<(&str, bool), Way>,
    working: &[(&str, bool)],
    findings: &mut Vec<Finding>,
) {
    let missing = working.iter().filter_map(|key| {
        let calls = execs.get(key)?.missing(view);
        (!calls.is_empty()).then(|| format!("{}: lacks {}", title(*key), names(&calls, 12)))
    });
    let details: Vec<String> = missing.collect();
    if !details.is_empty() {
        let what = "nothing can join a container that runs under it";
        findings.push(Finding::new(&table::EXEC_FLOOR, At::Profile, what).with(details));
    }
}

/// What every program needs to end, or to go on after a signal.
fn ends(view: &View<'_>, findings: &mut Vec<Finding>) {
    let missing: Vec<&str> =
        ["exit_group", "rt_sigreturn"].into_iter().filter(|name| is_never(view, name)).collect();
    if !missing.is_empty() {
        let what = format!("it lacks {}", missing.join(" and "));
        findings.push(Finding::new(&table::NO_WAY_OUT, At::Profile, what));
    }
}
