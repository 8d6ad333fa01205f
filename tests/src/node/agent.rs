//! The other end of `SCMP_ACT_NOTIFY`: a runtime hands over the calls that a filter does not allow, and whoever refuses
//! them can count them. So "refused" is seen by the one who refuses, not concluded from what followed.
//!
//! Source: `seccomp_unotify(2)`; the runtime spec's "Seccomp listener" (config-linux.md) says what runtimes send.

#![expect(clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs, io, mem,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    ptr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use khard_profile::{recording::Abi, syscalls};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `_IOWR('!', 0, struct seccomp_notif)`, which has 80 bytes (include/uapi/linux/seccomp.h).
const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
/// `_IOWR('!', 1, struct seccomp_notif_resp)`, which has 24 bytes.
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;

/// What crun calls once the filter is in force to be rid of the helper that sends the agent its descriptor; it has that
/// helper only if a profile names an agent (`libcrun_apply_seccomp()`, src/libcrun/seccomp.c, crun 1.8.1).
const OF_CRUNS_HELPER: [&str; 2] = ["kill", "munmap"];

/// A call that was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The call's name.
    pub call: String,
    /// Whose: the task's name.
    pub comm: String,
}

/// Refuses calls as a profile would, and writes down each.
pub struct Agent {
    dir: TempDir,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What each call is refused with, by number.
    errnos: Mutex<BTreeMap<i32, i32>>,
    refused: Mutex<Vec<Refused>>,
}

impl Agent {
    /// Waits for runtimes on a socket of its own.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(dir.path().join("agent.sock")).expect("a socket in a new folder");
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        // It ends with the test's process: nobody connects once the pods are gone.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || match receive_descriptor(&stream) {
                    Ok(listener) => state.answer(&listener),
                    Err(error) => eprintln!("a runtime sent no seccomp descriptor: {error}"),
                });
            }
        });
        Self { dir, state }
    }

    /// The profile with some of the calls that it does not allow handed to this agent, which refuses them with the
    /// profile's own errors.
    pub fn watch(&self, profile: &Value, wants: impl Fn(&str) -> bool) -> Value {
        let mut watched = profile.clone();
        let rules = watched["syscalls"].as_array_mut().expect("a list of rules");
        let default = profile["defaultErrnoRet"].as_i64().expect("a default error");
        let mut names = Vec::new();
        for call in syscalls::of_abi(Abi::X86_64).filter(|call| wants(call.name)) {
            let rule = rules.iter().find(|rule| names_of(rule).any(|name| name == call.name));
            if rule.is_some_and(|rule| rule["action"] == "SCMP_ACT_ALLOW") {
                continue;
            }
            let errno = rule.map_or(default, |rule| rule["errnoRet"].as_i64().expect("a rule's error"));
            let nr = call.number(Abi::X86_64).expect("a call of this ABI");
            let errno = i32::try_from(errno).expect("an errno");
            locked(&self.state.errnos).insert(nr.cast_signed(), errno);
            names.push(call.name);
        }
        for rule in rules.iter_mut() {
            let kept: Vec<_> =
                names_of(rule).filter(|name| !names.contains(name)).map(str::to_owned).collect();
            rule["names"] = json!(kept);
        }
        rules.retain(|rule| names_of(rule).next().is_some());
        rules.push(json!({"names": names, "action": "SCMP_ACT_NOTIFY"}));
        watched["listenerPath"] = json!(self.dir.path().join("agent.sock"));
        watched
    }

    /// The calls that were refused so far, in their order, but for those that there would be none of without an agent.
    pub fn refused(&self) -> Vec<Refused> {
        let refused = locked(&self.state.refused);
        let is_for_us = |one: &&Refused| one.comm == "crun" && OF_CRUNS_HELPER.contains(&one.call.as_str());
        refused.iter().filter(|one| !is_for_us(one)).cloned().collect()
    }
}

impl State {
    /// Answers one filter's notifications until all its tasks are gone.
    fn answer(&self, listener: &OwnedFd) {
        while wait_for_notification(listener) {
            // SAFETY: the kernel wants all bytes zero, which is a value of this struct.
            let mut request: libc::seccomp_notif = unsafe { mem::zeroed() };
            // SAFETY: the struct is the one that this request writes to, and outlives the call.
            if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut request) } != 0 {
                // The task was killed meanwhile.
                continue;
            }
            let nr = request.data.nr;
            let errno = locked(&self.errnos).get(&nr).copied().unwrap_or(libc::ENOSYS);
            let named = syscalls::by_number(Abi::X86_64, nr.cast_unsigned());
            let comm = fs::read_to_string(format!("/proc/{}/comm", request.pid)).unwrap_or_default();
            locked(&self.refused).push(Refused {
                call: named.map_or_else(|| nr.to_string(), |call| call.name.to_owned()),
                comm: comm.trim_end().to_owned(),
            });
            let response = libc::seccomp_notif_resp { id: request.id, val: 0, error: -errno, flags: 0 };
            // SAFETY: the struct is the one that this request reads. It fails where the task was killed meanwhile.
            unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const response) };
        }
    }
}

/// Whether there is one; no more will come if not.
fn wait_for_notification(listener: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one entry, which outlives the call.
        let n_ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
        if n_ready == 1 {
            return poll.revents & libc::POLLIN != 0;
        }
        if n_ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return false;
        }
    }
}

/// Takes the first descriptor of a message (unix(7)); the text beside it says which container's it is.
fn receive_descriptor(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut text = vec![0_u8; 64 * 1024];
    // Aligned as a control message has to be.
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // SAFETY: all bytes zero are a value of this struct.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: both buffers outlive the call, with their true lengths.
    if unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled the control buffer and set its length.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: not null, so within the control buffer.
    if header.is_null() || unsafe { (*header).cmsg_type } != libc::SCM_RIGHTS {
        return Err(io::Error::other("a message without a descriptor"));
    }
    // SAFETY: a message with descriptors has at least one; it may be at an address that suits no integer.
    let fd = unsafe { ptr::read_unaligned(libc::CMSG_DATA(header).cast::<i32>()) };
    // SAFETY: the kernel made it for this process, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn names_of(rule: &Value) -> impl Iterator<Item = &str> {
    rule["names"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
