//! Facts in words that a terminal can show: whatever leaves this is escaped. Knows nothing about rows.

use khard_profile::{
    Bytes,
    apparmor::words,
    check::errno_in_words,
    escape,
    recording::{
        Abi, Access, AccessKey, Class, Ended, FilePerms, Peer, Phase, PhaseSet, RefusedCall, SyscallKey,
    },
    syscalls,
};

use crate::stream::By;

const NS_PER_S: u64 = 1_000_000_000;

pub(super) fn clean(bytes: &Bytes) -> String {
    escape::terminal(bytes.as_slice())
}

/// A text that is shown as it is written, such as a profile: control characters are escaped, backslashes are not doubled.
pub(super) fn clean_line(line: &str) -> String {
    escape::terminal(line.replace('\t', "    ").as_bytes()).replace("\\\\", "\\")
}

/// `nginx 4711`, `worker (nginx) 4711`.
pub(super) fn witness(by: &By) -> String {
    let (comm, exe) = (clean(&by.comm), clean(&by.exe));
    // The kernel cuts a thread's name after 15 bytes.
    let is_same = exe.is_empty() || exe == comm || (comm.len() == 15 && exe.starts_with(&comm));
    if is_same { format!("{comm} {}", by.tgid) } else { format!("{comm} ({exe}) {}", by.tgid) }
}

/// `openat`, `1234` if the tables do not have it.
pub(super) fn call(key: SyscallKey) -> String {
    syscalls::by_number(key.abi, key.nr).map_or_else(|| key.nr.to_string(), |call| call.name.to_owned())
}

/// The call with its ABI, unless that is the machine's own.
pub(super) fn call_with_abi(key: SyscallKey, native: Option<Abi>) -> String {
    let name = call(key);
    if native == Some(key.abi) { name } else { format!("{name} ({})", key.abi) }
}

/// The call, and what a filter answered.
pub(super) fn refused_call(refused: RefusedCall, native: Option<Abi>) -> String {
    let answer = errno_in_words(u32::from(refused.errno));
    format!("{}: {answer} by the seccomp filter", call_with_abi(refused.key, native))
}

/// Short enough for a column.
pub(super) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Runtime => "runtime",
        Phase::RuntimeFiltered => "runtime+filter",
        Phase::Workload => "workload",
        Phase::Joining => "joining",
        Phase::JoiningFiltered => "joining+filter",
        Phase::Joiner => "joiner",
    }
}

pub(super) fn phases(set: PhaseSet) -> String {
    // What profiles are made for comes first, for a narrow column loses the end.
    let (ours, others): (Vec<Phase>, Vec<Phase>) = set.iter().partition(|phase| is_ours(*phase));
    ours.into_iter().chain(others).map(phase).collect::<Vec<_>>().join(", ")
}

/// Whether profiles are made for it.
pub(super) const fn is_ours(phase: Phase) -> bool {
    matches!(phase, Phase::Workload | Phase::Joiner)
}

/// Why recording ended, in one word for a column.
pub(super) const fn ended(ended: Ended) -> &'static str {
    match ended {
        Ended::Running | Ended::Checkpoint => "running",
        Ended::SubjectEnded => "ended",
        Ended::Interrupted => "stopped",
        Ended::Duration => "time up",
        Ended::Quiet => "quiet",
        Ended::AgentLost => "cut off",
    }
}

/// In the letters of rules, and in the order that people write them in.
pub(super) fn perms(perms: FilePerms) -> String {
    let has = |perm| perms.contains(perm);
    let writes = [FilePerms::WRITE, FilePerms::CREATE, FilePerms::DELETE].into_iter().any(has);
    let letters = [
        ('r', has(FilePerms::READ)),
        ('w', writes),
        ('a', has(FilePerms::APPEND) && !writes),
        ('k', has(FilePerms::LOCK)),
        ('m', has(FilePerms::MMAP_EXEC)),
        ('x', has(FilePerms::EXEC)),
    ];
    letters.into_iter().filter(|(_, holds)| *holds).map(|(letter, _)| letter).collect()
}

pub(super) const fn class(class: Class) -> &'static str {
    match class {
        Class::Files => "files",
        Class::Exec => "programs",
        Class::MappedCode => "mapped code",
        Class::Received => "received files",
        Class::Capabilities => "capabilities",
        Class::Network => "network",
        Class::UnixSockets => "unix sockets",
        Class::Signals => "signals",
        Class::Ptrace => "ptrace",
        Class::Mounts => "mounts",
        Class::UserNamespaces => "user namespaces",
        Class::IoUring => "io_uring",
    }
}

/// What was asked, without its outcome.
pub(super) fn access(key: &AccessKey) -> String {
    match &key.what {
        Access::File(file) => format!("{} {} {}", file.op, clean(&file.path), perms(file.perms)),
        Access::Link { link, target } => format!("link {} to {}", clean(link), clean(target)),
        Access::Capability { capability, optional } => {
            let name = words::capability(*capability).map_or_else(|| capability.to_string(), str::to_owned);
            format!("{name}{}", if *optional { " (optional)" } else { "" })
        }
        Access::Network { family, kind } => {
            let or_number = |name: Option<&str>, number: u16| name.map_or(number.to_string(), str::to_owned);
            let family_name = or_number(words::family(*family), *family);
            format!("{family_name} {}", or_number(words::kind(*kind), *kind))
        }
        Access::Signal { signal, peer } => {
            let name = words::signal(*signal).unwrap_or_else(|| signal.to_string());
            format!("{name} to {}", self::peer(peer))
        }
        Access::Ptrace { mode, peer } => format!("{mode} {}", self::peer(peer)),
        Access::Mount { fstype, source, target, flags } => {
            format!("mount {} {} on {} flags {flags:#x}", clean(fstype), clean(source), clean(target))
        }
        Access::Umount { target, flags } => format!("umount {} flags {flags:#x}", clean(target)),
        Access::PivotRoot { new_root, put_old } => {
            format!("pivot_root to {}, old root on {}", clean(new_root), clean(put_old))
        }
        Access::UserNamespace => "create a user namespace".to_owned(),
        Access::IoUring { op } => op.to_string(),
    }
}

/// What was asked, with its class where that does not say it.
pub(super) fn access_with_class(key: &AccessKey) -> String {
    let said = access(key);
    match &key.what {
        Access::Capability { .. } => format!("capability {said}"),
        Access::Network { .. } => format!("network {said}"),
        Access::Signal { .. } => format!("signal {said}"),
        Access::Ptrace { .. } => format!("ptrace {said}"),
        Access::IoUring { .. } => format!("io_uring {said}"),
        _ => said,
    }
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Inside => "its own process".to_owned(),
        Peer::Outside { label: Some(label) } => format!("a process of {}", clean(label)),
        Peer::Outside { label: None } => "another process".to_owned(),
    }
}

/// Since `start_ns`: `00:12.345`, in minutes.
pub(super) fn time_since(start_ns: u64, at_ns: u64) -> String {
    let ms = at_ns.saturating_sub(start_ns) / 1_000_000;
    format!("{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000)
}

/// In one unit: `12 s`, `4 m`, `3 h`.
pub(super) fn ago(ns: u64) -> String {
    match ns / NS_PER_S {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} m", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// In two units: `12 s`, `4 m 10 s`, `3 h 2 m`.
pub(super) fn span(ns: u64) -> String {
    let s = ns / NS_PER_S;
    let two = |great: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{great} {unit}") } else { format!("{great} {unit} {small} {small_unit}") }
    };
    match s {
        0..60 => format!("{s} s"),
        60..3600 => two(s / 60, "m", s % 60, "s"),
        _ => two(s / 3600, "h", s / 60 % 60, "m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_as_many_units_as_there_is_room_for() {
        let s = |s: u64| s * NS_PER_S;
        assert_eq!([ago(s(59)), ago(s(250)), ago(s(7300))], ["59 s", "4 m", "2 h"]);
        assert_eq!(
            [span(s(59)), span(s(250)), span(s(240)), span(s(7380))],
            ["59 s", "4 m 10 s", "4 m", "2 h 3 m"]
        );
        assert_eq!(time_since(5, s(72) + 345_000_005), "01:12.345");
    }

    #[test]
    fn permissions_are_those_that_a_rule_would_have() {
        let letters = ["xmkr", "rwacd", "d", "a"].map(|letters| perms(letters.parse().unwrap()));
        assert_eq!(letters, ["rkmx", "rw", "w", "a"]);
    }

    #[test]
    fn a_witness_names_its_program_when_the_thread_is_called_otherwise() {
        let by = |comm: &str, exe: &str| {
            witness(&By { time_ns: 0, tgid: 7, tid: 7, comm: comm.into(), exe: exe.into() })
        };
        assert_eq!([by("nginx", "nginx"), by("sh", "busybox")], ["nginx 7", "sh (busybox) 7"]);
        assert_eq!(by("a-very-long-nam", "a-very-long-name"), "a-very-long-nam 7");
        assert_eq!(by("a\n", ""), "a\\x0a 7");
    }

    #[test]
    fn a_profile_keeps_its_backslashes_and_loses_control_characters() {
        assert_eq!(clean_line("\t/a\\052 \u{1b}[m"), "    /a\\052 \\x1b[m");
    }
}
