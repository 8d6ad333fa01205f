//! What the kernel says about how a process is confined, and what it is doing. Owns /proc/PID; no judgement.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use khard_profile::{Bytes, recording::AppArmorInForce};

/// From /proc/PID/status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessConfinement {
    /// `NoNewPrivs`.
    pub no_new_privs: Option<bool>,
    /// `Seccomp`: 0 none, 1 strict, 2 filter.
    pub seccomp_mode: Option<u32>,
    /// `Seccomp_filters`, since Linux 5.9.
    pub seccomp_filters: Option<u32>,
}

/// Reads a process; everything `None` if it is gone.
pub fn of_process(pid: u32) -> ProcessConfinement {
    fs::read(format!("/proc/{pid}/status"))
        .map_or_else(|_| ProcessConfinement::default(), |text| parse(&text))
}

pub(crate) fn parse(status: &[u8]) -> ProcessConfinement {
    // The first line holds the comm, which the process chooses; no newline can be in it: the kernel escapes it
    // (proc_task_name(), fs/proc/array.c).
    let field = |name: &[u8]| {
        status.split(|byte| *byte == b'\n').find_map(|line| {
            std::str::from_utf8(line.strip_prefix(name)?.strip_prefix(b":")?).ok()?.trim().parse::<u32>().ok()
        })
    };
    ProcessConfinement {
        no_new_privs: field(b"NoNewPrivs").map(|n| n != 0),
        seccomp_mode: field(b"Seccomp"),
        seccomp_filters: field(b"Seccomp_filters"),
    }
}

/// The AppArmor profile of a process; of none, whether there is AppArmor at all.
pub fn apparmor_of(pid: Option<u32>) -> AppArmorInForce {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.trim() == "Y") {
        return AppArmorInForce::Off;
    }
    let Some(pid) = pid else { return AppArmorInForce::Unknown };
    fs::read(format!("/proc/{pid}/attr/apparmor/current"))
        .or_else(|_| fs::read(format!("/proc/{pid}/attr/current")))
        .map_or(AppArmorInForce::Unknown, |label| parse_label(&label))
}

/// `unconfined`, or `NAME (MODE)`: security/apparmor/label.c.
pub(crate) fn parse_label(label: &[u8]) -> AppArmorInForce {
    let label = label.trim_ascii_end();
    let label = label.strip_suffix(b"\0").unwrap_or(label);
    if label == b"unconfined" {
        return AppArmorInForce::Unconfined;
    }
    let split = label.strip_suffix(b")").and_then(|rest| {
        let at = rest.windows(2).rposition(|pair| pair == b" (")?;
        Some((&rest[..at], std::str::from_utf8(&rest[at + 2..]).ok()?))
    });
    match split {
        Some((name, mode)) => AppArmorInForce::Named { name: Bytes::from(name), mode: mode.to_owned() },
        None => AppArmorInForce::Unknown,
    }
}

/// The number of a process's mount namespace; `None` if it is gone.
pub fn mount_ns_of(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/mnt")).ok().map(|meta| meta.ino())
}

/// The system calls that the threads of a process are in right now, for 64-bit programs: whoever waits in one
/// since before khard came will never enter it again in its sight (`proc_pid_syscall(5)`).
pub fn calls_in_progress(pid: u32) -> Vec<u32> {
    if !is_64_bit(&Path::new("/proc").join(pid.to_string()).join("exe")) {
        return Vec::new();
    }
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("syscall")).ok()?;
            text.split_ascii_whitespace().next()?.parse::<u32>().ok()
        })
        .collect()
}

fn is_64_bit(program: &Path) -> bool {
    use std::io::Read;
    let mut head = [0; 5];
    // EI_CLASS: elf(5).
    fs::File::open(program)
        .and_then(|mut file| file.read_exact(&mut head))
        .is_ok_and(|()| head == *b"\x7fELF\x02")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_gives_mode_and_number_of_filters() {
        let status = b"Name:\tSeccomp:\t1\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        let expected =
            ProcessConfinement { no_new_privs: Some(true), seccomp_mode: Some(2), seccomp_filters: Some(3) };
        assert_eq!(parse(status), expected);
        assert_eq!(parse(b"Name:\tx\n"), ProcessConfinement::default());
    }

    #[test]
    fn labels_with_spaces_and_parentheses_keep_their_name() {
        let named =
            |name: &str, mode: &str| AppArmorInForce::Named { name: name.into(), mode: mode.to_owned() };
        assert_eq!(parse_label(b"unconfined\n"), AppArmorInForce::Unconfined);
        assert_eq!(
            parse_label(b"cri-containerd.apparmor.d (enforce)\n"),
            named("cri-containerd.apparmor.d", "enforce")
        );
        assert_eq!(parse_label(b"a (b) (complain)"), named("a (b)", "complain"));
        assert_eq!(parse_label(b""), AppArmorInForce::Unknown);
    }

    #[test]
    fn a_sleeping_process_is_in_a_call() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            calls_in_progress(child.id()).contains(&230) // clock_nanosleep
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
