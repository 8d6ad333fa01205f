//! Owns one run of a subject: where, when, by what and under which confinement it ran. Knows nothing about what it did.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Abi, RunCoverage};
use crate::Bytes;

/// Which run: one recording of one instance. Its text form is `BOOT-UUID.CGROUP.START`, both numbers decimal.
///
/// `start_ns` is when khard began to record the instance, so that a cgroup which lives long and is recorded twice has
/// two runs, each with its own coverage. A checkpoint and the final recording of the same session share the id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// The kernel's boot id (`/proc/sys/kernel/random/boot_id`), as bytes.
    pub boot_id: [u8; 16],
    /// The cgroup's id: the inode number of its directory, never reused within a boot.
    pub cgroup_id: u64,
    /// `CLOCK_BOOTTIME` in nanoseconds: the cgroup's birth when recorded from the first instruction, else the attach.
    pub start_ns: u64,
}

impl RunId {
    /// From a boot id as the kernel prints it.
    pub fn new(boot_id: &str, cgroup_id: u64, start_ns: u64) -> Result<Self, BadRunId> {
        let boot_id = parse_uuid(boot_id.trim_end()).ok_or_else(|| BadRunId(boot_id.to_owned()))?;
        Ok(Self { boot_id, cgroup_id, start_ns })
    }
}

/// A text that is no run id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad run id {0:?}: expected BOOT-UUID.CGROUP.START, with a lower-case UUID and decimal numbers")]
pub struct BadRunId(pub String);

/// Where the dashes of a UUID stand.
const DASHES: [usize; 4] = [8, 13, 18, 23];

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut uuid = [0; 16];
    let mut n_digits = 0;
    if text.len() != 36 {
        return None;
    }
    for (at, byte) in text.bytes().enumerate() {
        let digit = match byte {
            b'-' if DASHES.contains(&at) => continue,
            _ if DASHES.contains(&at) => return None,
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        uuid[n_digits / 2] = uuid[n_digits / 2] << 4 | digit;
        n_digits += 1;
    }
    Some(uuid)
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, byte) in self.boot_id.iter().enumerate() {
            if [4, 6, 8, 10].contains(&idx) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        write!(f, ".{}.{}", self.cgroup_id, self.start_ns)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = BadRunId;

    fn from_str(text: &str) -> Result<Self, BadRunId> {
        let bad = || BadRunId(text.to_owned());
        let mut parts = text.splitn(3, '.');
        let (Some(boot_id), Some(cgroup_id), Some(start_ns)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let number = |text: &str| text.parse().map_err(|_| bad());
        let id = Self::new(boot_id, number(cgroup_id)?, number(start_ns)?).map_err(|_| bad())?;
        // One id, one text: a sign or leading zeros would give the same run a second name.
        if id.to_string() == text { Ok(id) } else { Err(bad()) }
    }
}

impl Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One run of a subject: a container's attempt, a command, a stretch of a cgroup's life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Which run.
    pub id: RunId,
    /// When recording began, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// For how long it was recorded, in milliseconds.
    pub duration_ms: u64,
    /// Why recording ended.
    pub ended: Ended,
    /// The cgroup's path below the cgroup2 mount, with a leading slash.
    pub cgroup_path: Bytes,
    /// The subject's first process in the host's pid namespace, when known.
    pub init_pid: Option<u32>,
    /// How many processes entered the cgroup from outside after its first program had started.
    pub joiners: u64,
    /// The container's instance; `None` for a command or a cgroup.
    pub container: Option<ContainerRun>,
    /// The OCI runtime that made the container; `None` for a command or a cgroup, and when it could not be found out.
    pub runtime: Option<Runtime>,
    /// The kernel that it ran on.
    pub host: Host,
    /// What already confined it.
    pub confinement: Confinement,
    /// How far each class of observation can be trusted.
    pub coverage: RunCoverage,
    /// What else a reader should know, in words, in the order of writing.
    pub notes: Vec<String>,
    /// Moments that the user has named, in their order. None before version 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// A moment that the user has named, such as "load test starts".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// When, in nanoseconds since the run's start.
    pub time_ns: u64,
    /// Its name.
    pub label: Bytes,
}

impl Run {
    /// True if some class of this run is lossy: see [`super::Coverage::is_lossy`].
    pub fn is_lossy(&self) -> bool {
        self.coverage.classes().any(|(_, coverage)| coverage.is_lossy())
    }

    /// The order of records of the same run: a finished one above a checkpoint or one whose agent was lost, then the one that lasted longer. Later
    /// records of a session hold all that earlier ones do, so the greatest is the one to keep.
    pub(super) fn rank(&self) -> (bool, u64, &Self) {
        let is_whole = !matches!(self.ended, Ended::Running | Ended::Checkpoint | Ended::AgentLost);
        (is_whole, self.duration_ms, self)
    }
}

/// Why recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The subject ended by itself.
    SubjectEnded,
    /// The user stopped it (Ctrl-C, SIGTERM).
    Interrupted,
    /// The time that the user gave was over.
    Duration,
    /// Nothing new had come for as long as the user asked.
    Quiet,
    /// It went on: the user had it written in between.
    Running,
    /// It did not end: the record is a checkpoint, and khard died before it wrote a final one.
    Checkpoint,
    /// It did not end: the agent that recorded it was lost, and this is what it had told.
    AgentLost,
}

impl Ended {
    /// True if the end came before the subject, or whoever watched it, had done all that was to be done.
    pub(super) const fn is_early(self) -> bool {
        match self {
            Self::Interrupted | Self::Duration | Self::Checkpoint | Self::AgentLost => true,
            Self::SubjectEnded | Self::Quiet | Self::Running => false,
        }
    }
}

/// What the container runtime said about the container's instance. What only a pod has is empty for one that is in none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRun {
    /// The container's id.
    pub container_id: String,
    /// Its own name, of one that is in no pod; Docker may have made it up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The pod sandbox's id.
    pub sandbox_id: String,
    /// The pod's full name, with a generated suffix if it has one.
    pub pod: String,
    /// Which start of this container in its pod, or by Docker itself, from 0.
    pub attempt: u32,
    /// The image as it was asked for.
    pub image: String,
    /// What the image resolved to. An imported image has no repository digest: this is then its configuration digest.
    pub image_id: String,
}

/// The OCI runtime that made the container. Its name and version choose the floor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The OCI runtime: `runc`, `crun`, …
    pub name: String,
    /// Its version, as it says it (`1.1.5+ds1`).
    pub version: Option<String>,
    /// The CRI runtime handler that the pod asked for; empty is the default, and with Docker.
    pub handler: String,
    /// The container runtime, such as `containerd 1.6.20`.
    pub manager: Option<String>,
}

/// The kernel that a run ran on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// The system call ABIs that this kernel implements. Calls in another ABI returned ENOSYS.
    pub abis: BTreeSet<Abi>,
}

impl Host {
    /// True if the kernel implements calls in this ABI. It always does in its own.
    pub fn implements(&self, abi: Abi) -> bool {
        self.abis.contains(&abi) || Abi::native_of(&self.machine) == Some(abi)
    }
}

/// What already confined a run while it was recorded. What it refused never reached `sys_enter`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confinement {
    /// Whether `no_new_privs` was asked for; `None` when unknown.
    pub no_new_privs: Option<bool>,
    /// Whether the container is privileged: then no seccomp profile will be applied to it either.
    pub privileged: Option<bool>,
    /// The seccomp filter in force.
    pub seccomp: SeccompInForce,
    /// The AppArmor profile in force.
    pub apparmor: AppArmorInForce,
}

/// The seccomp filter under which a run was recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "filter", rename_all = "snake_case", deny_unknown_fields)]
pub enum SeccompInForce {
    /// No filter.
    None,
    /// The runtime's default profile.
    RuntimeDefault {
        /// How many filters the task has (`Seccomp_filters` in `/proc/PID/status`, since Linux 5.9).
        n_filters: Option<u32>,
    },
    /// A profile from a file on the node.
    Localhost {
        /// Its path, as the runtime was told.
        path: Bytes,
        /// How many filters the task has.
        n_filters: Option<u32>,
    },
    /// A filter whose origin is not known.
    Unknown {
        /// How many filters the task has.
        n_filters: Option<u32>,
    },
}

impl SeccompInForce {
    /// True if a filter was in force, so that refused calls are missing in the recording.
    pub fn is_filtered(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// The AppArmor profile under which a run was recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "profile", rename_all = "snake_case", deny_unknown_fields)]
pub enum AppArmorInForce {
    /// The kernel has no AppArmor, or it is off.
    Off,
    /// Unconfined.
    Unconfined,
    /// Confined by a profile.
    Named {
        /// The profile's name.
        name: Bytes,
        /// Its mode: `enforce`, `complain`, `kill`, `user`, `prompt`, …
        mode: String,
    },
    /// It could not be read.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "8c5f2e0a-11bb-4cde-9f00-0123456789ab";

    #[test]
    fn a_run_id_has_one_text_form() {
        let id = RunId::new(&format!("{BOOT}\n"), 4711, 123_456_789).unwrap();
        assert_eq!(id.to_string(), format!("{BOOT}.4711.123456789"));
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            format!("{BOOT}.4711"),
            format!("{BOOT}.4711.1.2"),
            format!("{BOOT}.+4711.1"),
            format!("{BOOT}.04711.1"),
            format!("{}.4711.1", BOOT.to_uppercase()),
            format!("{}.4711.1", BOOT.replace('-', "0")),
            format!("{}.4711.1", BOOT.replace("11bb", "11b\u{e9}")),
            format!("{BOOT}\n.4711.1"),
            String::new(),
        ] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
