//! Processes, as they are confined. Owns one look at /proc: labels of AppArmor, filters of seccomp, cgroups. Every name in it
//! is the workload's own.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use khard_profile::{Bytes, recording::AppArmorInForce};

use super::apparmor;
use crate::{
    confinement::{self, ProcessConfinement},
    runtime::cgroup_name,
};

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`: the first namespace of processes, in which all are seen.
const FIRST_PID_NAMESPACE: &[u8] = b"pid:[4026531836]";

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its name.
    pub(super) comm: Bytes,
    /// The program that it runs, as it sees it; `None` for the kernel's own.
    pub(super) exe: Option<PathBuf>,
    /// Labels of its threads, `unconfined` left out.
    pub(super) labels: BTreeSet<(Bytes, String)>,
    /// Whether one of its threads has no profile.
    pub(super) is_unconfined: bool,
    /// Its container's id, and what stands before it in the name of the cgroup.
    pub(super) container: Option<(String, String)>,
    /// Whether it is the first one of its namespace of processes, and that not the machine's.
    pub(super) is_init: bool,
    /// When it started, in clock ticks.
    pub(super) started: u64,
    pub(super) confinement: ProcessConfinement,
}

impl Process {
    /// Whether a profile confines it, or one of its threads.
    pub(super) fn is_under(&self, profile: &[u8]) -> bool {
        self.labels.iter().any(|(label, _)| apparmor::holds(label, profile))
    }
}

/// All of them, by their ids. Those that end meanwhile are left out.
pub(super) fn all(proc: &Path) -> Vec<Process> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut all: Vec<_> = pids.filter_map(|pid| one(proc, pid)).collect();
    all.sort_by_key(|process| process.pid);
    all
}

/// Those that a profile confines.
pub(super) fn under(proc: &Path, profile: &str) -> Vec<Process> {
    all(proc).into_iter().filter(|process| process.is_under(profile.as_bytes())).collect()
}

/// Whether all processes of the machine are to be seen.
pub(super) fn sees_all(proc: &Path) -> bool {
    fs::read_link(proc.join("self/ns/pid"))
        .is_ok_and(|name| name.as_os_str().as_bytes() == FIRST_PID_NAMESPACE)
}

fn one(proc: &Path, pid: u32) -> Option<Process> {
    let dir = proc.join(pid.to_string());
    let status = fs::read(dir.join("status")).ok()?;
    let field = |name: &[u8]| {
        status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name)?.strip_prefix(b":\t"))
    };
    // One that has ended, and waits to be asked for its status, does nothing any more.
    if field(b"State").is_some_and(|state| state.starts_with(b"Z")) {
        return None;
    }
    let mut labels = BTreeSet::new();
    let mut is_unconfined = false;
    for thread in fs::read_dir(dir.join("task")).into_iter().flatten().flatten() {
        let read = |file: &str| fs::read(thread.path().join(file));
        let Ok(label) = read("attr/apparmor/current").or_else(|_| read("attr/current")) else { continue };
        match confinement::parse_label(&label) {
            AppArmorInForce::Named { name, mode } => drop(labels.insert((name, mode))),
            AppArmorInForce::Unconfined => is_unconfined = true,
            _ => {}
        }
    }
    let in_own_namespace = field(b"NSpid").is_some_and(|ids| {
        let ids: Vec<_> = ids.split(|byte| *byte == b'\t').collect();
        ids.len() > 1 && ids.last() == Some(&&b"1"[..])
    });
    Some(Process {
        pid,
        comm: field(b"Name").unwrap_or_default().into(),
        exe: fs::read_link(dir.join("exe")).ok(),
        labels,
        is_unconfined,
        container: fs::read(dir.join("cgroup")).ok().and_then(|text| container_of(&text)),
        is_init: in_own_namespace,
        started: started(&fs::read(dir.join("stat")).ok()?).unwrap_or(0),
        confinement: confinement::parse(&status),
    })
}

/// The outermost container in the paths of all hierarchies.
fn container_of(cgroup_file: &[u8]) -> Option<(String, String)> {
    let mut paths = cgroup_file
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.splitn(3, |byte| *byte == b':').nth(2));
    paths.find_map(|path| path.split(|byte| *byte == b'/').find_map(container_in))
}

fn container_in(component: &[u8]) -> Option<(String, String)> {
    let name = cgroup_name::parse(component)?;
    let before = String::from_utf8_lossy(component);
    let before = before.split(name.id).next().unwrap_or_default().trim_end_matches('-').to_owned();
    (name.role == cgroup_name::Role::Container).then(|| (name.id.to_owned(), before))
}

/// The 22nd field; the second one, in parentheses, may hold anything: `proc_pid_stat(5)`.
fn started(stat: &[u8]) -> Option<u64> {
    let after = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    std::str::from_utf8(after).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_in_either_kind_of_hierarchy() {
        let id = "b8a0f98cb1c884c6d9eb5c9c6b33b046472ded5033bca0f003d2daf277f77ca5";
        let of = |text: String| container_of(text.as_bytes());
        let found = |before: &str| Some((id.to_owned(), before.to_owned()));
        assert_eq!(of(format!("0::/system.slice/docker-{id}.scope\n")), found("docker"));
        assert_eq!(of(format!("5:memory:/kubepods/podx/{id}\n0::/\n")), found(""));
        assert_eq!(of(format!("0::/machine.slice/libpod-{id}.scope/container\n")), found("libpod"));
        assert_eq!(of(format!("0::/machine.slice/libpod-conmon-{id}.scope\n")), None);
        assert_eq!(of("0::/init.scope\n".to_owned()), None);
    }

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = b"7 (a) b 1) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0";
        assert_eq!(started(stat), Some(4242));
        let own =
            all(Path::new("/proc")).into_iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(own.started > 0 && own.exe.is_some() && !own.is_init);
        assert!(own.confinement.seccomp_mode.is_some());
    }
}
