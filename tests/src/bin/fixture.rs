//! A program that does the steps it is told, for tests of who is recorded: threads, children, moves between cgroups.
//!
//! Steps: `call NAME`, `thread NAME`, `fork NAME`, `into DIR NAME` (a child made in a cgroup by `CLONE_INTO_CGROUP`),
//! `enter DIR`, `mkdir DIR`, `comm BYTES` (`\xHH` for any), `touch FILE`, `await FILE`, `confine PROFILE` (AppArmor's, from
//! the next exec on), `renames DIR N` (makes N files, and
//! opens another many times while directories above it are renamed), `refuse NAME ARGUMENT ERRNO` (from now on a seccomp filter
//! answers the call, if its first argument is this number, or `any`), `answer NAME log|kill` (a filter does that), `call-with NAME
//! ARGUMENT`, `exec PROGRAM ARGUMENTS…`. Calls are native and made with arguments of 0. What Rust's own start and these steps call besides is not fixed: tests look
//! for calls that neither makes.

use std::{
    env, fs,
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use khard_profile::{recording::Abi, syscalls};
use khard_tests::filter;
use rustix::fs::{Mode, OFlags, openat};

fn main() -> Result<()> {
    let mut words = env::args().skip(1);
    while let Some(step) = words.next() {
        if step == "exec" {
            let program = words.next().context("exec what?")?;
            return Err(Command::new(program).args(words).exec()).context("exec");
        }
        let word = words.next().with_context(|| format!("{step} what?"))?;
        match step.as_str() {
            "call" => call(number(&word)?),
            "thread" => {
                let nr = number(&word)?;
                thread::spawn(move || call(nr)).join().ok().context("the thread")?;
            }
            "fork" => child(number(&word)?, None)?,
            "into" => {
                let cgroup = File::open(&word).with_context(|| word.clone())?;
                child(number(&words.next().context("into DIR what?")?)?, Some(&cgroup))?;
            }
            "enter" => fs::write(Path::new(&word).join("cgroup.procs"), "0").with_context(|| word.clone())?,
            "mkdir" => fs::create_dir(&word).with_context(|| word.clone())?,
            "comm" => fs::write("/proc/self/comm", unescaped(&word)).context("comm")?,
            "call-with" => {
                let first: u32 = words.next().context("call NAME with what?")?.parse()?;
                // SAFETY: as in `call`.
                unsafe { libc::syscall(number(&word)?, libc::c_long::from(first), 0, 0, 0, 0, 0) };
            }
            "refuse" => {
                let argument = words.next().context("refuse NAME with what ARGUMENT?")?;
                let argument = if argument == "any" { None } else { Some(argument.parse()?) };
                let errno = words.next().context("refuse NAME with what ERRNO?")?.parse()?;
                filter::refuse(u32::try_from(number(&word)?)?, argument, errno)?;
            }
            "answer" => {
                let outcome = match words.next().context("answer NAME how?")?.as_str() {
                    "log" => libc::SECCOMP_RET_LOG,
                    "kill" => libc::SECCOMP_RET_KILL_PROCESS,
                    other => bail!("no answer {other}"),
                };
                filter::answer(u32::try_from(number(&word)?)?, None, outcome)?;
            }
            "confine" => confine(&word)?,
            "renames" => renames(Path::new(&word), words.next().context("how many?")?.parse()?)?,
            "touch" => drop(File::create(&word).with_context(|| word.clone())?),
            "await" => {
                while !Path::new(&word).exists() {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            _ => bail!("no step {step}"),
        }
    }
    Ok(())
}

/// For this thread: the exec is its next call that AppArmor could ask about.
fn confine(profile: &str) -> Result<()> {
    let file = "/proc/thread-self/attr/apparmor/exec";
    fs::write(file, format!("exec {profile}")).with_context(|| format!("{file}: {profile}"))
}

/// The file is `p/…/x/file`, `p/…/z/file` or `q/…/z/file`, and never `q/…/x/file`: that is seen by who reads `x`, and then `q`.
/// There are many directories between, so that there is time enough.
fn renames(dir: &Path, n_opens: usize) -> Result<()> {
    let between = "d/".repeat(100);
    let [x, z] = ["x", "z"].map(|name| dir.join("p").join(&between).join(name));
    let [p, q] = ["p", "q"].map(|name| dir.join(name));
    fs::create_dir_all(&x)?;
    fs::create_dir(dir.join("still"))?;
    fs::write(x.join("file"), "")?;
    let parent = File::open(&x)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let renaming = scope.spawn(|| -> io::Result<()> {
            while !is_over.load(Ordering::Relaxed) {
                for (from, to) in [(&x, &z), (&p, &q), (&q, &p), (&z, &x)] {
                    fs::rename(from, to)?;
                }
            }
            Ok(())
        });
        let opened = (0..n_opens).try_for_each(|nth| {
            for _ in 0..20 {
                drop(openat(&parent, "file", OFlags::RDONLY, Mode::empty())?);
            }
            File::create(dir.join("still").join(nth.to_string())).map(drop)
        });
        is_over.store(true, Ordering::Relaxed);
        opened.context("opening")?;
        renaming.join().ok().context("the renaming thread")?.context("renaming")
    })
}

fn number(name: &str) -> Result<libc::c_long> {
    let number = syscalls::by_name(name).and_then(|call| call.number(Abi::X86_64));
    Ok(number.with_context(|| format!("no call {name}"))?.into())
}

fn call(nr: libc::c_long) {
    // SAFETY: the tests choose calls that with arguments of 0 do nothing to this process.
    unsafe { libc::syscall(nr, 0, 0, 0, 0, 0, 0) };
}

/// Makes a child, in the given cgroup if there is one, that makes the call and ends; waits for it.
fn child(nr: libc::c_long, cgroup: Option<&File>) -> Result<()> {
    /// `struct clone_args`: include/uapi/linux/sched.h, Linux 5.7.
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut args = CloneArgs { exit_signal: u64::try_from(libc::SIGCHLD)?, ..CloneArgs::default() };
    if let Some(cgroup) = cgroup {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd())?;
    }
    // SAFETY: like fork; this process has one thread here, and the child makes two calls.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if pid == 0 {
        call(nr);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    ensure!(pid > 0, "clone3: {}", io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: a status to write to.
    let ended = unsafe { libc::waitpid(libc::pid_t::try_from(pid)?, &raw mut status, 0) };
    ensure!(ended == libc::pid_t::try_from(pid)? && status == 0, "the child: {status}");
    Ok(())
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.strip_prefix(b"x").filter(|_| byte == b'\\').and_then(|tail| tail.first_chunk::<2>());
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    bytes
}
