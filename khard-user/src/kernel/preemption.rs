//! How the kernel preempts itself: owns finding out the mode.

use std::{fs, io::Read, os::unix::fs::OpenOptionsExt};

use super::fs::{DEBUGFS, between};

/// The mode in force: as debugfs tells it (lockdown may forbid that), as the kernel's log told it at boot and at each
/// change since, or as it must be by build and boot option.
///
/// # Errors
/// In words: none of these tells.
pub fn preemption() -> Result<String, String> {
    let version = rustix::system::uname().version().to_string_lossy().into_owned();
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let from_debugfs = DEBUGFS.read("sched/preempt");
    let chosen = from_debugfs.as_ref().ok().and_then(|text| between(text, '(', ')'));
    let mode = chosen.map(str::to_owned);
    let mode = mode.or_else(|| kernel_log(dynamic_mode)).or_else(|| preemption_by_build(&version, &cmdline));
    mode.ok_or_else(|| from_debugfs.err().unwrap_or_else(|| "debugfs marks no mode".to_owned()))
}

/// kernel/sched/core.c, `__sched_dynamic_update`, 5.12 to 6.18.
fn dynamic_mode(message: &str) -> Option<String> {
    Some(message.strip_prefix("Dynamic Preempt: ")?.trim_end().to_owned())
}

/// The last message of the kernel's log that means something, as far back as the log goes.
fn kernel_log<T>(meaning: impl Fn(&str) -> Option<T>) -> Option<T> {
    let mut log = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut last = None;
    let mut record = [0; 8192];
    loop {
        // Each read gives one record (Documentation/ABI/testing/dev-kmsg): "level,number,time,flags;message".
        match log.read(&mut record) {
            Ok(0) => return last,
            Ok(n) => {
                let text = String::from_utf8_lossy(&record[..n]);
                let message = text.split_once(';').map_or("", |(_, message)| message);
                last = message.lines().next().and_then(&meaning).or(last);
            }
            // Older records were overwritten meanwhile: reading goes on with those that are left.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => return last,
        }
    }
}

/// From the build's words in `uname -v` (`scripts/mkcompile_h`, `init/Makefile`) and the boot option.
fn preemption_by_build(version: &str, cmdline: &str) -> Option<String> {
    let told = cmdline.split_whitespace().filter_map(|word| word.strip_prefix("preempt=")).next_back();
    let has = |flag: &str| version.split_whitespace().any(|word| word == flag);
    let built = match () {
        () if has("PREEMPT_RT") => Some("rt"),
        // The build's own default is nowhere to be read.
        () if has("PREEMPT_DYNAMIC") => return told.map(str::to_owned),
        () if has("PREEMPT_LAZY") => Some("lazy"),
        () if has("PREEMPT") => Some("full"),
        // "none" and "voluntary" are the same here: neither preempts a program.
        () => Some("none or voluntary"),
    };
    built.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preemption_mode_follows_from_build_and_boot_option() {
        let of = |version, cmdline| preemption_by_build(version, cmdline);
        assert_eq!(of("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "quiet preempt=full").as_deref(), Some("full"));
        assert_eq!(
            of("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "preempt=none preempt=lazy").as_deref(),
            Some("lazy")
        );
        assert_eq!(of("#1 SMP PREEMPT_DYNAMIC Debian 6.12", "quiet"), None);
        assert_eq!(of("#1 SMP PREEMPT_RT", "preempt=full").as_deref(), Some("rt"));
        assert_eq!(of("#1 SMP PREEMPT", "").as_deref(), Some("full"));
        assert_eq!(of("#1 SMP Debian", "preempt=full").as_deref(), Some("none or voluntary"));
    }

    #[test]
    fn a_mode_is_read_as_the_kernel_tells_it() {
        assert_eq!(between("none voluntary (full) lazy\n", '(', ')'), Some("full"));
        assert_eq!(dynamic_mode("Dynamic Preempt: lazy\n").as_deref(), Some("lazy"));
        assert_eq!(dynamic_mode("rcu: Preemptible hierarchical RCU implementation."), None);
    }
}
