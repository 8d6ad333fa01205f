//! A command that khard starts: in a cgroup of its own, as another user if asked, with the terminal to itself.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::process::ExitStatusExt,
    },
    path::Path,
    process::{ExitStatus, Stdio},
};

use khard_profile::recording::Ended;
use tokio::process::{Child, Command};

use crate::cgroup::OwnCgroup;

/// A command cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Not there (127, as env(1) has it).
    #[error("there is no command {}: check its name and PATH", .0.display())]
    NotFound(OsString),
    /// There, but what it names to run it is not (127, as env(1) has it).
    #[error("there is no interpreter for {}: look at its first line, or at the loader that it was linked for", .0.display())]
    NoInterpreter(OsString),
    /// There, and not to be executed (126).
    #[error("cannot execute {}", program.display())]
    NotExecutable {
        /// The program.
        program: OsString,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `--user` names nobody.
    #[error("there is no user {0:?} in /etc/passwd: give a name from there, UID or UID:GID")]
    NoSuchUser(String),
    /// The file for what it prints.
    #[error("cannot write what the command prints to {}", path.display())]
    Output {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cgroup.
    #[error("cannot open {}", path.display())]
    Cgroup {
        /// Its list of processes.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CommandError {
    /// The exit status that env(1) and shells give.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound(_) | Self::NoInterpreter(_) => 127,
            Self::NotExecutable { .. } => 126,
            Self::NoSuchUser(_) | Self::Cgroup { .. } | Self::Output { .. } => 125,
        }
    }
}

/// Who the command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// Name and home, for one that /etc/passwd knows.
    account: Option<(String, String)>,
}

impl User {
    /// `UID`, `UID:GID` or a name. The files are read as they are: no directory service is asked.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        Self::find(text, &passwd, &group).ok_or_else(|| CommandError::NoSuchUser(text.to_owned()))
    }

    /// Its user id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its group's id.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    fn find(text: &str, passwd: &str, group: &str) -> Option<Self> {
        if let Some((uid, gid)) = text.split_once(':') {
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            return Some(Self { uid, gid, groups: vec![gid], account: None });
        }
        let number: Option<u32> = text.parse().ok();
        let entry = passwd.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let &[name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
            let uid: u32 = uid.parse().ok()?;
            (name == text || number == Some(uid)).then_some((name, uid, gid.parse::<u32>().ok()?, home))
        });
        let Some((name, uid, gid, home)) = entry else {
            // As chroot(1) and setpriv(1): a number needs no account.
            return number.map(|uid| Self { uid, gid: uid, groups: vec![uid], account: None });
        };
        let mut groups = vec![gid];
        groups.extend(group.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let &[_, _, gid, members] = fields.as_slice() else { return None };
            members.split(',').any(|member| member == name).then(|| gid.parse::<u32>().ok())?
        }));
        Some(Self { uid, gid, groups, account: Some((name.to_owned(), home.to_owned())) })
    }
}

/// Where what a command prints goes.
#[derive(Clone, Debug)]
pub enum Output {
    /// Where khard's own goes; and the command has the terminal.
    Inherited,
    /// To where khard's own errors go: its stdout is for programs. The command has the terminal.
    Stderr,
    /// To a file, and it reads nothing: somebody else has the terminal.
    File(std::path::PathBuf),
}

/// A started command.
pub struct Started {
    child: Child,
    pid: u32,
    /// The terminal to give back.
    terminal: Option<File>,
}

impl Started {
    /// Starts `argv` in the cgroup. It gets a process group of its own, and the terminal if khard has it, so that
    /// a Ctrl-C reaches it, once, and not khard.
    pub fn spawn(
        argv: &[OsString],
        cgroup: &OwnCgroup,
        user: Option<&User>,
        output: &Output,
    ) -> Result<Self, CommandError> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(CommandError::NotFound(OsString::new()));
        };
        let procs = cgroup.dir.join("cgroup.procs");
        let procs_file = File::options()
            .write(true)
            .open(&procs)
            .map_err(|source| CommandError::Cgroup { path: procs, source })?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(false);
        let terminal = match output {
            Output::Inherited => controlling_terminal(),
            Output::Stderr => {
                command.stdout(io::stderr());
                controlling_terminal()
            }
            Output::File(path) => {
                let failed = |source| CommandError::Output { path: path.clone(), source };
                let file = File::create(path).map_err(failed)?;
                command.stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
                None
            }
        };
        if let Some((name, home)) = user.and_then(|user| user.account.as_ref()) {
            command.env("HOME", home).env("USER", name).env("LOGNAME", name);
        }
        let procs_fd = procs_file.as_raw_fd();
        let terminal_fd = terminal.as_ref().map(AsRawFd::as_raw_fd);
        let user = user.cloned();
        // SAFETY: the closure makes system calls only, all of them async-signal-safe, and allocates nothing.
        unsafe { command.pre_exec(move || prepare(procs_fd, terminal_fd, user.as_ref())) };
        let child = command.spawn().map_err(|source| match source.kind() {
            // Of a file that is there, the interpreter is not (execve(2), ENOENT).
            io::ErrorKind::NotFound if Path::new(program).is_file() && has_slash(program) => {
                CommandError::NoInterpreter(program.clone())
            }
            io::ErrorKind::NotFound => CommandError::NotFound(program.clone()),
            _ => CommandError::NotExecutable { program: program.clone(), source },
        })?;
        let pid = child.id().unwrap_or(0);
        Ok(Self { child, pid, terminal })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has the terminal.
    pub fn owns_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Waits for it to end. Cancel safe.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        if let Some(terminal) = self.terminal.take() {
            let _ = take_terminal(terminal.as_raw_fd(), rustix::process::getpgrp().as_raw_nonzero().get());
        }
        Ok(status)
    }

    /// If the command was stopped (Ctrl-Z), khard stops with it, as a shell expects of a job, and later goes on with
    /// it. To be called when a child has changed its state. Recording does not depend on khard running.
    pub fn follow_stop(&self) {
        let Some(terminal) = &self.terminal else { return };
        let Ok(pid @ 1..) = i32::try_from(self.pid) else { return };
        // SAFETY: the kernel fills the structure that is passed; our own child, which `wait` reaps only at its end.
        let was_stopped = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, self.pid, &raw mut info, libc::WSTOPPED | libc::WNOHANG) == 0
                && info.si_pid() == pid
        };
        if !was_stopped {
            return;
        }
        let own_group = rustix::process::getpgrp().as_raw_nonzero().get();
        let _ = take_terminal(terminal.as_raw_fd(), own_group);
        // SAFETY: stops this process until somebody continues it.
        unsafe { libc::raise(libc::SIGSTOP) };
        // Continued in the foreground, the command gets the terminal back; in the background, it goes on without.
        if rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group.as_raw_nonzero().get() == own_group) {
            let _ = take_terminal(terminal.as_raw_fd(), pid);
        }
        self.signal_group(libc::SIGCONT);
    }

    /// Sends a signal to its first process alone, which must not have been waited for.
    pub fn signal_first(&self, signal: i32) {
        if let Ok(pid @ 1..) = i32::try_from(self.pid) {
            // SAFETY: plain system call; the number is the command's until somebody has waited for it.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Sends a signal to all that are in its process group. Where the first process has been waited for, at once after that: the number
    /// is the group's only as long as somebody is in it.
    pub fn signal_group(&self, signal: i32) {
        if let Ok(group @ 1..) = i32::try_from(self.pid) {
            // SAFETY: plain system call; a group that khard made.
            unsafe { libc::kill(-group, signal) };
        }
    }
}

/// How a command that khard started ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandEnd {
    /// Its own status; `None`: there was no command, or it is not known to have ended.
    pub status: Option<ExitStatus>,
    /// Why khard asked it to end, if it did. Of a user who stops khard, the command may well call that a success.
    pub asked: Option<Ended>,
}

impl CommandEnd {
    /// The status as a shell has it; 0 without a command.
    pub fn exit_code(self) -> u8 {
        self.status.map_or(0, exit_code)
    }

    /// Why it is not known to have done all that it was to do, in words for whoever gave it.
    pub fn failure(self) -> Option<String> {
        let status = self.status?;
        match (self.asked, status.success()) {
            (Some(Ended::Interrupted), _) => Some(format!("COMMAND was interrupted ({status})")),
            (_, true) => None,
            (Some(_), false) => {
                Some(format!("COMMAND was asked to end, for its time was over, and failed ({status})"))
            }
            (None, false) => Some(format!("COMMAND failed ({status})")),
        }
    }
}

/// The status as a shell has it: 128 and the signal's number for one that was killed.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}

/// Whether a program is named by a path, and not looked for in PATH (`execvp(3)`).
fn has_slash(program: &OsStr) -> bool {
    program.as_encoded_bytes().contains(&b'/')
}

/// The terminal, if khard is in its foreground.
fn controlling_terminal() -> Option<File> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    let foreground = rustix::termios::tcgetpgrp(&terminal).ok()?;
    (foreground == rustix::process::getpgrp()).then_some(terminal)
}

/// Makes a process group the terminal's foreground.
fn take_terminal(terminal: RawFd, group: i32) -> io::Result<()> {
    // SAFETY: plain system calls on local values. SIGTTOU, which a process of the background gets for this, is
    // blocked meanwhile (tcsetpgrp(3)).
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTTOU);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
        let result = libc::tcsetpgrp(terminal, group);
        let error = io::Error::last_os_error();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        if result == 0 { Ok(()) } else { Err(error) }
    }
}

/// In the child, before its exec.
fn prepare(procs: RawFd, terminal: Option<RawFd>, user: Option<&User>) -> io::Result<()> {
    let check = |result: i32| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: system calls on descriptors and buffers that are alive.
    unsafe {
        if let Some(terminal) = terminal {
            take_terminal(terminal, libc::getpid())?;
        }
        if libc::write(procs, b"0".as_ptr().cast(), 1) != 1 {
            return Err(io::Error::last_os_error());
        }
        if let Some(user) = user {
            check(libc::setgroups(user.groups.len(), user.groups.as_ptr()))?;
            check(libc::setgid(user.gid))?;
            check(libc::setuid(user.uid))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:34:www:/var/www:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nwww-data:x:34:\nadm:x:4:www-data,syslog\n";

    #[test]
    fn users_are_found_by_name_number_and_pair() {
        let find = |text| User::find(text, PASSWD, GROUP);
        let www = User {
            uid: 33,
            gid: 34,
            groups: vec![34, 4],
            account: Some(("www-data".to_owned(), "/var/www".to_owned())),
        };
        assert_eq!(find("www-data"), Some(www.clone()));
        assert_eq!(find("33"), Some(www));
        assert_eq!(find("1000:5"), Some(User { uid: 1000, gid: 5, groups: vec![5], account: None }));
        assert_eq!(find("1000"), Some(User { uid: 1000, gid: 1000, groups: vec![1000], account: None }));
        assert_eq!(find("nobody-here"), None);
        assert_eq!(find("33:"), None);
    }

    #[test]
    fn a_killed_command_has_the_status_that_shells_give() {
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
    }

    #[test]
    fn a_command_has_failed_by_its_status_by_a_signal_or_since_khard_was_stopped() {
        let failure = |status: Option<i32>, asked| {
            CommandEnd { status: status.map(ExitStatus::from_raw), asked }.failure()
        };
        assert_eq!(failure(Some(7 << 8), None).as_deref(), Some("COMMAND failed (exit status: 7)"));
        assert_eq!(failure(Some(9), None).as_deref(), Some("COMMAND failed (signal: 9 (SIGKILL))"));
        let interrupted = failure(Some(0), Some(Ended::Interrupted));
        assert_eq!(interrupted.as_deref(), Some("COMMAND was interrupted (exit status: 0)"));
        let late = failure(Some(15), Some(Ended::Duration)).unwrap();
        assert!(late.contains("its time was over") && late.contains("SIGTERM"), "{late}");
        assert_eq!((failure(Some(0), None), failure(None, None)), (None, None));
        assert_eq!(failure(Some(0), Some(Ended::Duration)), None);
    }
}
