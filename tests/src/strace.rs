//! The second witness: `strace -f -qq -y -o FILE`. Owns reading its output; knows nothing of khard.

use std::collections::BTreeSet;

/// The calls that strace saw begin in these lines.
///
/// A line is `PID NAME(ARGUMENTS…`, whole or `<unfinished ...>`. Left out are the second halves (`<... NAME resumed>`),
/// signals (`--- SIGCHLD …`), ends (`+++ exited …`), and a call of which the tracee was killed before strace had read
/// its number (`????(`).
pub fn calls<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    lines.filter_map(|line| call(line).map(str::to_owned)).collect()
}

fn call(line: &str) -> Option<&str> {
    let (pid, rest) = line.trim_start().split_once(' ')?;
    pid.parse::<u32>().ok()?;
    let (name, _) = rest.trim_start().split_once('(')?;
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    is_name(name).then_some(name)
}

/// The lines after the one in which the process moved itself into a cgroup: what comes then is made inside. `-y` shows
/// the file that the call wrote to.
pub fn after_entering(log: &str) -> impl Iterator<Item = &str> {
    let is_entry = |line: &str| call(line) == Some("write") && line.contains("/cgroup.procs>");
    log.lines().skip_while(move |line| !is_entry(line)).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
10    openat(AT_FDCWD</root>, \"/x\", O_WRONLY) = 3</sys/fs/cgroup/x/cgroup.procs>
10    write(3</sys/fs/cgroup/x/cgroup.procs>, \"0\", 1) = 1
10    execve(\"/bin/sh\", [\"sh\"], 0x7ffd /* 9 vars */) = 0
10    wait4(-1,  <unfinished ...>
11    write(1<pipe:[5]>, \"openat(a) = 1\\n\", 14) = 14
11    +++ exited with 0 +++
10    <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 11
10    --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---
10    restart_syscall(<... resuming interrupted read ...>) = 0
10    ????( <unfinished ...>
10    +++ killed by SIGTERM +++
";

    #[test]
    fn each_call_is_taken_once_and_nothing_else() {
        let names: Vec<_> = calls(after_entering(LOG)).into_iter().collect();
        assert_eq!(names, ["execve", "restart_syscall", "wait4", "write"]);
        assert!(calls(LOG.lines()).contains("openat"));
    }

    #[test]
    fn without_an_entry_nothing_is_inside() {
        assert_eq!(after_entering("10 read(0, \"\", 1) = 0\n").count(), 0);
    }
}
