//! The same run, seen by two: strace is outside of the cgroup that khard records, the program alone is inside.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use khard_profile::recording::{From, Recording};
use khard_tests::{
    cgroup::TestCgroup,
    khard,
    observed::{Calls, all_calls},
    process::{self, Owned},
    strace, wait,
};
use tempfile::TempDir;

/// What the two may see differently, and why.
const DIFFERENCES: [(&str, &str); 1] = [(
    "restart_syscall",
    "the kernel makes it when a stopped call goes on (restart_syscall(2)); which call it was, strace may show instead",
)];

/// A run of a program, watched by both.
struct Watched {
    dir: TempDir,
    cgroup: TestCgroup,
    khard: khard::Running,
    strace: Owned,
}

impl Watched {
    fn start(name: &str, program: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = TestCgroup::planned(name);
        let mut khard = khard::trace(["--cgroup", cgroup.path(), "--wait"]);
        khard.is_ready();
        cgroup.make();
        let fixture = khard::fixture();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-y", "-o"]).arg(dir.path().join("strace"));
        strace.arg(fixture.get_program()).arg("enter").arg(cgroup.dir()).arg("exec").args(program);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { strace: Owned::spawn(&mut strace), dir, cgroup, khard }
    }

    /// Ends the program by SIGTERM to its oldest process, if it does not end by itself.
    fn terminate(&self) {
        let oldest = self.cgroup.processes().into_iter().min().expect("a process in the cgroup");
        process::signal_to(oldest, libc::SIGTERM);
    }

    /// Waits until everything has ended, and compares.
    fn compare(mut self) {
        self.strace.wait();
        let recording = self.khard.end().expect(0).recording(self.cgroup.name());
        assert_whole(&recording);
        let by_khard = all_calls(&recording);
        let log = fs::read_to_string(self.dir.path().join("strace")).expect("strace's output");
        let by_strace = strace::calls(strace::after_entering(&log));
        let known: BTreeMap<_, _> = DIFFERENCES.into();
        let differing: Vec<_> = by_khard.symmetric_difference(&by_strace).collect();
        let unexplained: Vec<_> =
            differing.iter().filter(|name| !known.contains_key(name.as_str())).collect();
        assert!(unexplained.is_empty(), "{unexplained:?}: khard {by_khard:?}, strace {by_strace:?}");
        assert!(differing.len() <= 2);
        assert!(by_khard.len() >= 25, "too few to say anything: {by_khard:?}");
        println!(
            "{}: {} calls seen by both, different: {differing:?}",
            self.cgroup.name(),
            shared(&by_khard, &by_strace)
        );
    }
}

fn shared(a: &Calls, b: &Calls) -> usize {
    a.intersection(b).count()
}

fn assert_whole(recording: &Recording) {
    let run = recording.runs().values().next().expect("a run");
    let observed = run.coverage.syscalls.observed().expect("system calls were observed");
    assert_eq!(observed.from, From::FirstInstruction);
    assert!(run.coverage.syscalls.is_complete(), "{observed:?}");
}

/// A port of the loopback address that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A request to a web server that may not listen yet.
fn get(port: u16, path: &str) -> String {
    wait::value("an answer", || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    })
}

fn page(dir: &Path) {
    fs::write(dir.join("page.html"), "khard was here").unwrap();
}

#[test]
fn strace_and_khard_see_the_same_calls_of_nginx() {
    let dir = tempfile::tempdir().unwrap();
    page(dir.path());
    let port = free_port();
    let base = dir.path().display();
    let config = format!(
        "daemon off; user root; worker_processes 2; pid {base}/pid; error_log {base}/error.log;
         events {{ worker_connections 64; }}
         http {{
           access_log {base}/access.log;
           client_body_temp_path {base}/body; proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/fastcgi;
           uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi;
           server {{ listen 127.0.0.1:{port}; root {base}; }}
         }}"
    );
    let file = dir.path().join("nginx.conf");
    fs::write(&file, config).unwrap();
    let watched = Watched::start("nginx", &["nginx", "-c", file.to_str().unwrap()]);
    assert!(get(port, "/page.html").ends_with("khard was here"));
    assert!(get(port, "/none").starts_with("HTTP/1.1 404"));
    watched.terminate();
    watched.compare();
}

#[test]
fn strace_and_khard_see_the_same_calls_of_redis_under_its_benchmark() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let folder = dir.path().to_str().unwrap();
    let server = ["redis-server", "--port", &port, "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
    let watched = Watched::start("redis", &server);
    wait::until("redis answers", || {
        let ping = Command::new("redis-cli").args(["-p", &port, "ping"]).output().expect("redis-cli");
        ping.stdout.starts_with(b"PONG")
    });
    let n_requests = if wait::in_guest() { "50" } else { "500" };
    let benchmark = ["-p", &port, "-n", n_requests, "-c", "5", "-t", "ping,set,get,lpush,lrange", "-q"];
    let benchmark =
        Owned::spawn(Command::new("redis-benchmark").args(benchmark).stdout(Stdio::null())).wait();
    assert!(benchmark.success());
    assert!(
        Command::new("redis-cli").args(["-p", &port, "bgsave"]).output().expect("redis-cli").status.success()
    );
    wait::until("redis has saved", || dir.path().join("dump.rdb").exists());
    watched.terminate();
    watched.compare();
}

#[test]
fn strace_and_khard_see_the_same_calls_of_a_shell_script_with_pipes() {
    let script = "
        for word in one two three; do echo $word; done | sort -r | tr a-z A-Z | while read -r word; do echo $word; done
        ls -l / | awk 'NR > 1 { n += 1 } END { print n }' | wc -c
        (sleep 0.1; echo late) & wait
        find /etc -maxdepth 1 -name 'host*' | xargs cat | head -c 10
        kill -9 $$";
    Watched::start("shell", &["sh", "-c", script]).compare();
}

#[test]
fn strace_and_khard_see_the_same_calls_of_a_web_server_in_python() {
    let dir = tempfile::tempdir().unwrap();
    page(dir.path());
    let port = free_port();
    let (number, folder) = (port.to_string(), dir.path().to_str().unwrap());
    // Debian's, whatever comes first in PATH.
    let server = ["/usr/bin/python3", "-m", "http.server", &number, "--bind", "127.0.0.1", "-d", folder];
    let watched = Watched::start("python", &server);
    assert!(get(port, "/page.html").ends_with("khard was here"));
    assert!(get(port, "/").contains("page.html"));
    watched.terminate();
    watched.compare();
}
