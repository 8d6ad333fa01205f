//! Processes and cgroups, by /proc and /sys/fs/cgroup: owns how they are found. Ends nothing itself but empty cgroups.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// The processes whose arguments `select` accepts, and all that descend from them.
pub(crate) fn with_descendants(select: impl Fn(&[Vec<u8>]) -> bool) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    let mut others = Vec::new();
    for pid in all() {
        let Some(parent) = parent(pid) else { continue };
        if select(&arguments(pid)) {
            found.insert(pid);
        } else {
            others.push((pid, parent));
        }
    }
    loop {
        let n_found = found.len();
        found.extend(
            others
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == n_found {
            return found;
        }
    }
}

/// The cgroup of a process in each hierarchy, as a path below its root.
pub(crate) fn cgroups(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(str::to_owned).collect()
}

/// Removes these cgroups and their parents, where they are empty.
pub(crate) fn remove_cgroups(cgroups: &BTreeSet<String>) {
    let mut dirs = BTreeSet::new();
    for root in hierarchies() {
        for cgroup in cgroups {
            let mut dir = root.join(cgroup.trim_start_matches('/'));
            while dir.starts_with(&root) && dir != root {
                dirs.insert(dir.clone());
                dir.pop();
            }
        }
    }
    // Children sort after their parents. A cgroup is busy for a moment after its last process was killed.
    for _ in 0..50 {
        for dir in dirs.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
        dirs.retain(|dir| dir.exists());
        if dirs.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The roots of the mounted cgroup hierarchies.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (dir, kind) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup").then(|| PathBuf::from(dir))
        })
        .collect()
}

fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The parent of a process that is not a zombie.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name in parentheses may hold anything; state and parent follow the last one (proc_pid_stat(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_by_its_parents_arguments() {
        let me = arguments(std::process::id().cast_signed());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = with_descendants(|arguments| arguments == me);
        let pid = child.id().cast_signed();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&pid), "{found:?} has no {pid}");
        assert!(found.contains(&std::process::id().cast_signed()));
        assert!(!found.contains(&1), "nothing else");
    }
}
