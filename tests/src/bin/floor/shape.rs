//! How the measured containers differ from one another: owns the draws and the configuration that they give. What is drawn
//! is what makes a runtime take another way while the filter is in force: users, capabilities, terminals, folders, limits,
//! namespaces, and how the container is started.

use std::path::Path;

use khard_profile::{recording::Abi, syscalls};
use serde_json::{Value, json};

use crate::runtime::How;

/// The container's program.
pub(crate) const PROGRAM: &str = "busybox";
/// Folders that the root file system has.
pub(crate) const FOLDERS: [&str; 8] = ["bin", "dev", "etc", "home", "mnt", "proc", "sys", "tmp"];
/// Whose home `/home` is: nobody else may enter it.
pub(crate) const USER: u32 = 1000;
/// Where the first user of a user namespace is outside.
const SUB_USERS: u32 = 100_000;

/// What containerd gives a container that asks for nothing.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What this machine can do.
#[derive(Clone, Copy)]
pub(crate) struct Features {
    /// An AppArmor profile can be named.
    pub apparmor: bool,
}

impl Features {
    pub(crate) fn of_this_machine() -> Self {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        Self { apparmor: enabled.is_ok_and(|text| text.trim() == "Y") }
    }
}

/// By which commands a container starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartBy {
    /// `create`, then `start`, as containerd does.
    CreateAndStart,
    /// `run` and go.
    Run,
    /// `run` and stay.
    RunAttached,
}

/// How one container differs.
pub(crate) struct Shape {
    draws: Draws,
    /// Its start.
    pub start_by: StartBy,
    /// How the start's commands are run.
    pub start: How,
    /// How the exec is run.
    pub exec: How,
    /// The exec goes before the process has ended.
    pub exec_detached: bool,
    user: usize,
    capabilities: usize,
    own_users: bool,
}

/// Where a container is.
pub(crate) struct Place<'a> {
    /// The root file system.
    pub rootfs: &'a Path,
    /// Its cgroup, below the roots of the hierarchies.
    pub cgroup: &'a str,
}

impl Shape {
    /// The shape of container `number`: the same one every time.
    pub(crate) fn draw(number: u64) -> Self {
        let mut draws = Draws(number);
        let threads = [None, None, Some(1), Some(2), Some(16)];
        let start_by = [StartBy::CreateAndStart, StartBy::CreateAndStart, StartBy::Run, StartBy::RunAttached];
        let start_by = *draws.of(&start_by);
        // A terminal for a container that nobody stays with needs a socket to send it to.
        let start = How {
            terminal: start_by == StartBy::RunAttached && draws.one_in(2),
            n_go_threads: *draws.of(&threads),
        };
        let exec = How { terminal: draws.one_in(4), n_go_threads: *draws.of(&threads) };
        Self {
            start_by,
            start,
            exec,
            exec_detached: !exec.terminal && draws.one_in(2),
            user: draws.below(4),
            capabilities: draws.below(4),
            own_users: draws.one_in(6),
            draws,
        }
    }

    /// The same, but started in two steps, with time to wait between them.
    pub(crate) fn in_two_steps(self) -> Self {
        let start = How { terminal: false, ..self.start };
        Self { start_by: StartBy::CreateAndStart, start, ..self }
    }

    /// `config.json` of the runtime specification.
    pub(crate) fn config(&self, place: &Place, no_new_privs: bool, features: Features) -> Value {
        let mut draws = self.draws.clone();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": self.process(&["sleep", "100000"], self.start.terminal, no_new_privs, features),
            "root": {"path": place.rootfs, "readonly": draws.one_in(3)},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                    "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "cgroupsPath": place.cgroup,
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
                "seccomp": filter(draws.one_in(2)),
            },
        });
        // Mounting sysfs needs power over the network namespace.
        let own_network = self.own_users || draws.one_in(2);
        let (own_cgroups, more_mounts) = (draws.one_in(2), draws.one_in(2));
        for (kind, wanted) in [("user", self.own_users), ("network", own_network), ("cgroup", own_cgroups)] {
            if wanted {
                push(&mut config["linux"]["namespaces"], json!({"type": kind}));
            }
        }
        if self.own_users {
            let mapping = json!([{"containerID": 0, "hostID": SUB_USERS, "size": 65536}]);
            config["linux"]["uidMappings"] = mapping.clone();
            config["linux"]["gidMappings"] = mapping;
        }
        if more_mounts {
            push(
                &mut config["mounts"],
                json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]}),
            );
            push(
                &mut config["mounts"],
                json!({"destination": "/tmp", "type": "bind", "source": "/tmp", "options": ["rbind", "rprivate", "ro"]}),
            );
        }
        if draws.one_in(2) {
            config["linux"]["maskedPaths"] =
                json!(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]);
            config["linux"]["readonlyPaths"] = json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]);
        }
        if draws.one_in(2) {
            config["hostname"] = json!("measured");
        }
        if !self.own_users && draws.one_in(3) {
            config["linux"]["sysctl"] = json!({"kernel.shm_rmid_forced": "1"});
        }
        config
    }

    /// `process` of the runtime specification: that of the container's first process, and of one that joins it.
    pub(crate) fn process(
        &self,
        words: &[&str],
        terminal: bool,
        no_new_privs: bool,
        features: Features,
    ) -> Value {
        let mut draws = self.draws.clone();
        let capabilities: &[&str] = match self.capabilities {
            0 => &[],
            1 => &CAPABILITIES[7..8],
            _ => &CAPABILITIES,
        };
        let mut sets =
            json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
        if draws.one_in(3) {
            sets["inheritable"] = json!(capabilities);
            sets["ambient"] = json!(capabilities);
        }
        let user = match self.user {
            0 => json!({"uid": USER, "gid": USER, "additionalGids": [5, 6]}),
            1 => json!({"uid": USER, "gid": USER, "umask": 0o027}),
            2 => json!({"uid": 0, "gid": 0, "additionalGids": [0, 1, 2, 3, 4, 6, 10]}),
            _ => json!({"uid": 0, "gid": 0}),
        };
        let cwd = match (self.user, draws.below(3)) {
            // Not with users of its own: the folder's owner is none of them.
            (0 | 1, 0) if !self.own_users => "/home",
            (_, 1) => "/tmp",
            _ => "/",
        };
        let absolute = format!("/bin/{}", words[0]);
        let by_path = draws.one_in(2);
        let args: Vec<&str> = [if by_path { words[0] } else { &absolute }]
            .into_iter()
            .chain(words.iter().skip(1).copied())
            .collect();
        let mut env = vec![
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            "TERM=xterm".to_owned(),
        ];
        // From as good as nothing to what makes Go's heap grow: a cluster's many services are that long.
        let (n_more, n_bytes) = *draws.of(&[(0, 0), (0, 0), (100, 100), (400, 2000)]);
        env.extend((0..n_more).map(|number| format!("MORE_{number}={}", "x".repeat(n_bytes))));
        let mut process = json!({
            "terminal": terminal,
            "user": user,
            "args": args,
            "env": env,
            "cwd": cwd,
            "capabilities": sets,
            "noNewPrivileges": no_new_privs,
        });
        if draws.one_in(2) {
            process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 512, "soft": 256}]);
        }
        if features.apparmor && draws.one_in(2) {
            process["apparmorProfile"] = json!("unconfined");
        }
        process
    }
}

/// A filter that logs every call and lets it through. The large one is as profiles are: calls are listed and all others are
/// refused, so that a runtime makes the same effort to build it, and to free what that took. Only calls that no table
/// knows would be missed under it.
fn filter(is_large: bool) -> Value {
    let (abi, architectures) = if cfg!(target_arch = "aarch64") {
        (Abi::Aarch64, ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"].as_slice())
    } else {
        (Abi::X86_64, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"].as_slice())
    };
    if is_large {
        let names: Vec<_> = syscalls::of_abi(abi).map(|call| call.name).collect();
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": architectures,
            "syscalls": [{"names": names, "action": "SCMP_ACT_LOG"}],
        })
    } else {
        json!({"defaultAction": "SCMP_ACT_LOG", "architectures": [architectures[0]]})
    }
}

fn push(list: &mut Value, value: Value) {
    if let Value::Array(list) = list {
        list.push(value);
    }
}

/// Numbers that look like chance and are the same every time: splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone)]
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(number: u64) -> Value {
        let place = Place { rootfs: Path::new("/r"), cgroup: "/c" };
        Shape::draw(number).config(&place, true, Features { apparmor: false })
    }

    #[test]
    fn a_number_gives_the_same_container_every_time() {
        assert_eq!(config(7), config(7));
        assert_ne!(config(7), config(8));
    }

    #[test]
    fn fifty_containers_have_every_user_start_and_terminal() {
        let shapes: Vec<Shape> = (0..50).map(Shape::draw).collect();
        for user in 0..4 {
            assert!(shapes.iter().any(|shape| shape.user == user && shape.capabilities == 0), "{user}");
        }
        for start_by in [StartBy::CreateAndStart, StartBy::Run, StartBy::RunAttached] {
            assert!(shapes.iter().any(|shape| shape.start_by == start_by));
        }
        assert!(
            shapes.iter().any(|shape| shape.start.terminal) && shapes.iter().any(|shape| shape.exec.terminal)
        );
        assert!((0..50).any(|number| config(number)["linux"]["uidMappings"].is_array()));
    }

    #[test]
    fn no_container_is_refused_a_call() {
        for number in 0..50 {
            let seccomp = &config(number)["linux"]["seccomp"];
            if seccomp["defaultAction"] != "SCMP_ACT_LOG" {
                assert_eq!(seccomp["syscalls"][0]["action"], "SCMP_ACT_LOG");
                assert!(
                    seccomp["syscalls"][0]["names"].as_array().unwrap().iter().any(|name| name == "close")
                );
            }
        }
        let is_bare = |number: &u64| config(*number)["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_LOG";
        assert!((10..40).contains(&(0..50).filter(is_bare).count()));
    }
}
