//! Owns how facts are said in words. Nothing in here is escaped for a sink.

use crate::recording::{Coverage, Ended, From, NameFrom, Proof, Runtime, Subject, WorkloadFrom};

/// The coverage of a class, without the class.
pub(super) fn coverage(coverage: &Coverage) -> String {
    let (certainty, observed) = match coverage {
        Coverage::None(why) => return format!("not observed: {}", why.reason),
        Coverage::Exact(observed) => ("exact", observed),
        Coverage::Inferred(observed) => ("inferred", observed),
    };
    let from = match observed.from {
        From::FirstInstruction => "from the first instruction",
        From::Late => "late (it already ran)",
    };
    let proof = match &observed.proof {
        Proof::Complete { .. } => "proved complete".to_owned(),
        Proof::AtMost { lost, misses } => {
            let misses: Vec<String> =
                misses.iter().map(|(program, n)| format!("{program} missed {n}")).collect();
            format!("at most {lost} lost, counted for the whole node ({})", misses.join(", "))
        }
        Proof::Unproved { reason } => format!("not proved: {reason}"),
    };
    let lost: Vec<String> =
        observed.lost.iter().filter(|(_, n)| **n > 0).map(|(cause, n)| format!("{cause} {n}")).collect();
    let lost = if lost.is_empty() { String::new() } else { format!(", lost: {}", lost.join(", ")) };
    format!("{certainty}, {from}, {proof}{lost}")
}

/// The coverage of a class of accesses, with the means by which it was seen.
pub(crate) fn access_coverage(class: &Coverage) -> String {
    match class.observed() {
        None => coverage(class),
        Some(observed) => format!("{}, by {}", coverage(class), observed.by.as_str()),
    }
}

pub(super) fn runtime(runtime: &Runtime) -> String {
    let version = runtime.version.as_deref().unwrap_or("(version unknown)");
    let handler =
        if runtime.handler.is_empty() { String::new() } else { format!(", handler {}", runtime.handler) };
    let manager = runtime.manager.as_ref().map(|manager| format!(" under {manager}")).unwrap_or_default();
    format!("{} {version}{manager}{handler}", runtime.name)
}

pub(super) fn ended(ended: Ended) -> &'static str {
    match ended {
        Ended::SubjectEnded => "ended by itself",
        Ended::Interrupted => "stopped by the user",
        Ended::Duration => "time was over",
        Ended::Quiet => "nothing new came any more",
        Ended::Running => "written while it went on",
        Ended::Checkpoint => "checkpoint",
        Ended::AgentLost => "the agent was lost",
    }
}

/// The parts of a subject: what it is called, and the names that belong to it.
pub(super) fn subject(subject: &Subject) -> Vec<(&'static str, &[u8])> {
    match subject {
        Subject::Command { program } => vec![("command", program.as_slice())],
        Subject::Cgroup { path } => vec![("cgroup", path.as_slice())],
        Subject::Docker { name, .. } => vec![("container", name.as_bytes())],
        Subject::Container { namespace, workload, container, .. } => vec![
            ("container", container.as_bytes()),
            ("of", workload.as_bytes()),
            ("in namespace", namespace.as_bytes()),
        ],
    }
}

/// The pod's label by which the workload's name came about, unless it is just the pod's.
pub(super) fn derivation(subject: &Subject) -> Option<&'static str> {
    let Subject::Container { workload_from, .. } = subject else { return None };
    match workload_from {
        WorkloadFrom::PodName => None,
        WorkloadFrom::PodTemplateHash => Some("pod-template-hash"),
        WorkloadFrom::ControllerRevisionHash => Some("controller-revision-hash"),
        WorkloadFrom::JobName => Some("job-name"),
    }
}

/// What a container of Docker's is called by, unless it is its own name.
pub(super) fn name_from(subject: &Subject) -> Option<&'static str> {
    let Subject::Docker { name_from, .. } = subject else { return None };
    match name_from {
        NameFrom::Container => None,
        NameFrom::ComposeService => Some("its service of Docker Compose"),
        NameFrom::Image => Some("its image"),
    }
}

/// `41.5 s`, `12 min 5 s`, `3 h 2 min`.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..=59_999 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..=3_599_999 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// UTC, to the second: `2026-11-24 08:03:00`. Proleptic Gregorian calendar, with years that begin in March so that the
/// leap day is a year's last.
pub(super) fn utc(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    // From 0000-03-01; 146,097 days are 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) =
        if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
    let year = era * 400 + year_of_era + next_year;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_date_u() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_399_000), "2000-02-28 23:59:59");
        assert_eq!(utc(951_868_800_000), "2000-03-01 00:00:00");
        assert_eq!(utc(1_709_164_800_999), "2024-02-29 00:00:00");
        assert_eq!(utc(1_795_507_380_000), "2026-11-24 08:03:00");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(
            [duration(950), duration(59_999), duration(725_000), duration(10_920_000)],
            ["0.9 s", "59.9 s", "12 min 5 s", "3 h 2 min"]
        );
    }
}
