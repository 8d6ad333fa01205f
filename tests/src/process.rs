//! Processes of a test: they end with it, however it ends.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, ExitStatus},
};

use crate::wait;

/// A child that is killed when this value goes, or its thread dies.
pub struct Owned(Child);

impl Owned {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        // SAFETY: prctl is async-signal-safe, and no memory is passed.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Self(command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its input, once, if that is a pipe.
    pub fn stdin(&mut self) -> ChildStdin {
        self.0.stdin.take().expect("a piped input")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        signal_to(self.pid(), signal);
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait::value("the end of a child", || self.0.try_wait().expect("a child can be waited for"))
    }

    /// Kills it, if it is there. One that may not be killed (an AppArmor profile without a rule that lets it receive
    /// signals) is left, and said: waiting for it would never end.
    pub fn kill(&mut self) {
        match self.0.kill() {
            Ok(()) => drop(self.0.wait()),
            Err(error) => eprintln!("process {} cannot be killed: {error}", self.pid()),
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process that the test knows to be its own.
pub fn signal_to(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a process id");
    // SAFETY: no memory is passed.
    unsafe { libc::kill(pid, signal) };
}

/// The descendants of a process, the nearest first.
pub fn below(pid: u32) -> Vec<u32> {
    let (mut found, mut around) = (Vec::new(), vec![pid]);
    while let Some(pid) = around.pop() {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        let children: Vec<u32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        found.extend(&children);
        around.extend(children);
    }
    found
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    // The state follows the name, which ends with the last parenthesis: proc_pid_stat(5).
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}
