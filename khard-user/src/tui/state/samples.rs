//! Streams to look at, for tests.

use std::{collections::BTreeSet, time::Duration};

use khard_profile::recording::{
    Abi, Access, AccessCoverage, AccessKey, AppArmorInForce, Attachment, Certainty, Class, Confinement,
    Coverage, Ended, FileAccess, FileFacts, FileOp, FilePerms, From, Host, NotObserved,
    Observed as ObservedClass, Outcome, Peer, Proof, Run, RunCoverage, RunId, SeccompInForce, Subject,
};
use khard_profile::syscalls;

use super::{ProfileTexts, Setup, State};
use crate::{
    stream::{By, Message, Outcome as Over, Placement, Rate, Stage, SubjectId, SubjectState},
    subjects::Subjects,
};

const S: u64 = 1_000_000_000;
pub(crate) const BEGAN: u64 = 1000 * S;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    Empty,
    Normal,
    Lossy,
    Hostile,
}

pub(crate) struct Fed {
    pub(crate) subjects: Subjects,
    pub(crate) state: State,
}

impl Fed {
    pub(crate) fn new() -> Self {
        let setup =
            Setup { source: "this node".to_owned(), out_dir: "profiles-out".to_owned(), is_replay: false };
        Self { subjects: Subjects::default(), state: State::new(setup) }
    }

    pub(crate) fn of(sample: Sample) -> Self {
        let mut fed = Self::new();
        let messages = match sample {
            Sample::Empty => Vec::new(),
            Sample::Normal => normal(),
            Sample::Lossy => lossy(),
            Sample::Hostile => hostile(),
        };
        fed.tell(messages);
        fed.refresh();
        if sample != Sample::Empty {
            fed.state.set_profile(SubjectId(0), texts(sample, 0));
            // Seen once, then made again with more in it.
            fed.state.profiles.was_shown(SubjectId(0));
            fed.state.set_profile(SubjectId(0), texts(sample, 1));
        }
        fed
    }

    pub(crate) fn tell(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            if let Some(news) = self.subjects.take(message).unwrap() {
                self.state.take(&news, &self.subjects);
            }
        }
    }

    pub(crate) fn refresh(&mut self) {
        self.state.refresh(&self.subjects, Duration::ZERO);
    }
}

fn texts(sample: Sample, n: usize) -> ProfileTexts {
    if sample == Sample::Lossy {
        let why = "the recording is lossy (files): record again, or accept it with --accept-lossy";
        return ProfileTexts { seccomp: Err(why.to_owned()), apparmor: Err(why.to_owned()) };
    }
    let name = if sample == Sample::Hostile {
        "  /tmp/a\\033\u{1b}[31m\u{202e}名前 r,"
    } else {
        "  /etc/nginx/** r,"
    };
    let new = if n == 0 { "  # old\n" } else { "  capability net_bind_service,\n  network inet stream,\n" };
    let calls = ["accept4", "bind", "brk", "clone", "close", "epoll_wait", "openat", "read", "write"];
    let calls: Vec<_> = calls.iter().take(7 + n).map(|name| format!("        \"{name}\"")).collect();
    ProfileTexts {
        seccomp: Ok(format!(
            "{{\n  \"defaultAction\": \"SCMP_ACT_ERRNO\",\n  \"architectures\": [\"SCMP_ARCH_X86_64\"],\n  \"syscalls\": [\n    {{\n      \
             \"names\": [\n{}\n      ],\n      \"action\": \"SCMP_ACT_ALLOW\"\n    }}\n  ]\n}}\n",
            calls.join(",\n")
        )),
        apparmor: Ok(format!(
            "abi <abi/4.0>,\n\nprofile khard-web-nginx {{\n{new}{name}\n\t/usr/sbin/nginx mr,\n}}\n"
        )),
    }
}

pub(crate) fn ready() -> Message {
    Message::Ready { khard: "0.1.0".to_owned(), host: host(), now_ns: BEGAN }
}

fn host() -> Host {
    let abis = BTreeSet::from([Abi::X86_64, Abi::Ia32]);
    Host { kernel: "6.12.48+deb13-amd64".to_owned(), machine: "x86_64".to_owned(), abis }
}

pub(crate) fn pulse(at_s: u64, lost: u64) -> Message {
    let rate = Some(Rate { subject: SubjectId(0), calls_per_s: 18_204 });
    Message::Pulse { now_ns: BEGAN + at_s * S, lost, rate }
}

pub(crate) fn mark(at_s: u64, label: &str) -> Message {
    Message::Mark { at_ns: BEGAN + at_s * S, label: label.into() }
}

fn observed(by: Attachment, from: From) -> ObservedClass {
    ObservedClass {
        from,
        by,
        lost: [].into(),
        proof: Proof::Complete { misses: [("sys_enter".to_owned(), 0)].into() },
    }
}

fn coverage(from: From) -> RunCoverage {
    let accesses = |class| match class {
        Class::Signals => Coverage::Inferred(observed(Attachment::Syscall, from)),
        Class::IoUring => Coverage::None(NotObserved { reason: "the kernel has no such hook".to_owned() }),
        _ => Coverage::Exact(observed(Attachment::Lsm, from)),
    };
    RunCoverage {
        syscalls: Coverage::Exact(observed(Attachment::Tracepoint, from)),
        accesses: AccessCoverage::new(accesses),
        refused_syscalls: Coverage::none("no seccomp filter was in force"),
    }
}

pub(crate) fn subject_state(id: u32, label: &str) -> SubjectState {
    let run = Run {
        id: RunId { boot_id: [7; 16], cgroup_id: id.into(), start_ns: BEGAN + u64::from(id) * S },
        started_unix_ms: 0,
        duration_ms: 0,
        ended: Ended::Checkpoint,
        cgroup_path: "/x".into(),
        init_pid: None,
        joiners: 0,
        container: None,
        runtime: None,
        host: host(),
        confinement: Confinement {
            no_new_privs: None,
            privileged: None,
            seccomp: SeccompInForce::None,
            apparmor: AppArmorInForce::Off,
        },
        coverage: coverage(if id == 2 { From::Late } else { From::FirstInstruction }),
        notes: Vec::new(),
        marks: Vec::new(),
    };
    let subject = Subject::Cgroup { path: "/x".into() };
    SubjectState { id: SubjectId(id), label: label.to_owned(), subject, run, placement: Placement::default() }
}

pub(crate) fn subject(id: u32, label: &str) -> Message {
    Message::Subject(Box::new(subject_state(id, label)))
}

pub(crate) fn ended(id: u32, label: &str, after_s: u64) -> Message {
    let mut state = subject_state(id, label);
    (state.run.ended, state.run.duration_ms) = (Ended::SubjectEnded, after_s * 1000);
    Message::Subject(Box::new(state))
}

fn by(at_ms: u64, comm: &str, exe: &str) -> By {
    By { time_ns: BEGAN + at_ms * 1_000_000, tgid: 48_211, tid: 48_211, comm: comm.into(), exe: exe.into() }
}

pub(crate) fn call(id: u32, name: &str, stage: Stage, at_ms: u64) -> Message {
    let nr = syscalls::by_name(name).unwrap().number(Abi::X86_64).unwrap();
    Message::Call {
        subject: SubjectId(id),
        abi: Abi::X86_64,
        nr,
        stage,
        by: Some(by(at_ms, "nginx", "nginx")),
    }
}

pub(crate) fn access(id: u32, what: Access, outcome: Outcome, at_ms: u64) -> Message {
    let key = AccessKey { what, outcome, certainty: Certainty::Exact };
    let by = by(at_ms, "nginx", "nginx");
    Message::Access { subject: SubjectId(id), key, stage: Stage::Workload, asked: false, by }
}

fn file_access(path: &[u8], op: FileOp, perms: &str, facts: FileFacts) -> Access {
    Access::File(FileAccess { path: path.into(), op, perms: perms.parse::<FilePerms>().unwrap(), facts })
}

pub(crate) fn file(id: u32, path: &str, perms: &str, at_ms: u64) -> Message {
    let what = file_access(path.as_bytes(), FileOp::Open, perms, FileFacts::default());
    access(id, what, Outcome::Granted, at_ms)
}

/// A web server that has settled, a database that goes on, and one that was there before.
#[expect(clippy::too_many_lines, reason = "it is a list")]
fn normal() -> Vec<Message> {
    let owner = FileFacts { owner: true, ..FileFacts::default() };
    let deleted = FileFacts { deleted: true, ..owner };
    let granted = Outcome::Granted;
    let mut messages = vec![ready(), subject(0, "shop/web/nginx"), subject(1, "shop/db/postgres")];
    let calls = [
        "execve",
        "brk",
        "mmap",
        "openat",
        "read",
        "write",
        "close",
        "fstat",
        "mprotect",
        "socket",
        "bind",
        "listen",
        "accept4",
        "epoll_create1",
        "epoll_ctl",
        "epoll_wait",
        "clone",
        "prctl",
        "setuid",
        "setgid",
        "futex",
        "sendfile",
        "unshare",
        "rt_sigaction",
        "rt_sigprocmask",
        "getdents64",
    ];
    for (n, name) in (1..).zip(calls) {
        messages.push(call(0, name, Stage::Workload, n * 137));
    }
    messages.push(call(0, "mount", Stage::Runtime, 10));
    messages.push(call(0, "read", Stage::Runtime, 11));
    messages.push(call(0, "getppid", Stage::Joiner, 31_000));
    let (web, stage) = (SubjectId(0), Stage::Workload);
    messages.push(Message::Call {
        subject: web,
        abi: Abi::Ia32,
        nr: 4,
        stage,
        by: Some(by(4000, "sh", "busybox")),
    });
    messages.push(Message::Call { subject: web, abi: Abi::X86_64, nr: 999, stage, by: None });
    let files = [
        ("/etc/nginx/nginx.conf", "r"),
        ("/etc/nginx/mime.types", "r"),
        ("/etc/passwd", "r"),
        ("/etc/group", "r"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "rm"),
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", "rm"),
        ("/usr/sbin/nginx", "rmx"),
        ("/var/log/nginx/access.log", "wa"),
        ("/var/log/nginx/", "r"),
    ];
    for (n, (path, perms)) in (1..).zip(files) {
        messages.push(file(0, path, perms, n * 211));
    }
    for n in 0..60 {
        messages.push(file(0, &format!("/usr/share/nginx/html/page-{n:02}.html"), "r", 2500 + n * 101));
    }
    messages.extend([
        access(0, file_access(b"/run/nginx.pid", FileOp::Create, "wc", owner), granted, 900),
        access(0, file_access(b"/tmp/upload-8a", FileOp::Open, "rw", deleted), granted, 900),
        access(
            0,
            file_access(b"/etc/shadow", FileOp::Open, "r", FileFacts::default()),
            Outcome::Refused,
            5000,
        ),
        access(0, file_access(b"/run/php/php8.sock", FileOp::Connect, "rw", owner), granted, 6000),
        access(
            0,
            Access::Link { link: "/var/log/nginx/a".into(), target: "/var/log/nginx/b".into() },
            granted,
            6100,
        ),
        access(0, Access::Capability { capability: 10, optional: false }, granted, 700),
        access(0, Access::Capability { capability: 21, optional: true }, Outcome::Refused, 701),
        access(0, Access::Network { family: 2, kind: 1 }, granted, 650),
        access(0, Access::Network { family: 10, kind: 1 }, granted, 651),
        access(0, Access::Signal { signal: 15, peer: Peer::Inside }, granted, 90_000),
        access(
            0,
            Access::Signal { signal: 0, peer: Peer::Outside { label: Some("unconfined".into()) } },
            granted,
            7000,
        ),
        access(0, Access::UserNamespace, Outcome::Refused, 2500),
        mark(20, "load test"),
        mark(100, "reload"),
        Message::Subject(Box::new(subject_state(2, "ops/agent"))),
    ]);
    for (n, name) in (1..).zip(["read", "write", "pread64", "fsync", "lseek"]) {
        messages.push(call(1, name, Stage::Workload, n * 49_000));
    }
    messages.extend([
        subject(3, "shop/migrate"),
        call(3, "read", Stage::Workload, 5000),
        ended(3, "shop/migrate", 12),
    ]);
    messages.push(pulse(340, 0));
    messages
}

pub(crate) fn lossy_state(id: u32, label: &str) -> SubjectState {
    let mut state = subject_state(id, label);
    let files = ObservedClass {
        lost: [("ring_full".to_owned(), 312)].into(),
        ..observed(Attachment::Lsm, From::FirstInstruction)
    };
    let proof = Proof::AtMost { lost: 7, misses: [("sys_enter".to_owned(), 7)].into() };
    let calls = ObservedClass { proof, ..observed(Attachment::Tracepoint, From::FirstInstruction) };
    let others = state.run.coverage.accesses.clone();
    state.run.coverage.syscalls = Coverage::Exact(calls);
    state.run.coverage.accesses = AccessCoverage::new(|class| match class {
        Class::Files => Coverage::Exact(files.clone()),
        class => others.of(class).clone(),
    });
    state
}

fn lossy() -> Vec<Message> {
    let mut messages = normal();
    messages.push(Message::Subject(Box::new(lossy_state(0, "shop/web/nginx"))));
    messages.push(pulse(341, 7));
    messages
}

/// Names that try to leave their place.
fn hostile() -> Vec<Message> {
    let names: [&[u8]; 6] = [
        b"line\nbreak\r\ttab",
        b"\x1b[31mred\x1b]0;title\x07",
        b"bad\xff\xfeutf8\x80",
        "名前の長いファイルがここにあります名前の長いファイルがここにあります".as_bytes(),
        "e\u{301}\u{323}\u{301}a\u{20e3} combined \u{1f468}\u{200d}\u{1f469}".as_bytes(),
        "\u{202e}desrever\u{202c} \u{2066}isolate\u{2069} \u{9b}31m".as_bytes(),
    ];
    let label = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut messages = vec![ready()];
    for (id, name) in (0..).zip(names) {
        messages.push(subject(id, &label(name)));
    }
    let long = format!("/{}", "deep/".repeat(819));
    let wide = format!("/{}", "名".repeat(1365));
    let mut paths: Vec<Vec<u8>> = names.iter().map(|name| [b"/srv/", *name].concat()).collect();
    paths.extend([
        long.into_bytes(),
        wide.into_bytes(),
        b"".to_vec(),
        b"/".to_vec(),
        b"no/root".to_vec(),
        b"//a".to_vec(),
    ]);
    for (n, path) in (1_u32..).zip(&paths) {
        let what = file_access(path, FileOp::Open, "rw", FileFacts::default());
        let key = AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Inferred };
        let mut by = by(u64::from(n) * 100, "", "");
        (by.comm, by.exe) = (names[n as usize % 6].into(), names[n as usize % 5].into());
        messages.push(Message::Access {
            subject: SubjectId(0),
            key,
            stage: Stage::Workload,
            asked: false,
            by: by.clone(),
        });
        messages.push(Message::Call {
            subject: SubjectId(0),
            abi: Abi::X86_64,
            nr: n,
            stage: Stage::Workload,
            by: Some(by),
        });
    }
    for name in names {
        let peer = Peer::Outside { label: Some(name.into()) };
        messages.push(access(0, Access::Signal { signal: 200, peer }, Outcome::Refused, 50));
        let (fstype, source, target) = (name.into(), name.into(), name.into());
        messages.push(access(
            0,
            Access::Mount { fstype, source, target, flags: u64::MAX },
            Outcome::Granted,
            60,
        ));
        messages.push(Message::Mark { at_ns: BEGAN + 9 * S, label: name.into() });
    }
    messages.push(access(0, Access::Capability { capability: 255, optional: true }, Outcome::Granted, 70));
    messages.push(access(0, Access::Network { family: u16::MAX, kind: u16::MAX }, Outcome::Granted, 80));
    messages.push(pulse(65, 0));
    messages.push(Message::Over { outcome: Over::Failed("it \u{1b}[2J broke\n".to_owned()) });
    messages
}
