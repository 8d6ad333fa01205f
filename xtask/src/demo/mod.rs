//! The verb `demo`: one pod, from nothing to profiles that hold. Owns the story and checks each step of it; all it does
//! is type commands that a person would type, beside a containerd that ends with it.

mod apparmor;

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build,
    command::{self, CommandExt as _, terminate},
    containers::containerd::Containerd,
    interrupt,
    paths::Paths,
};

/// Where the demo lets khard write.
const OUT: &str = "profiles-out/demo";
const POD: &str = "pod run web --image docker.io/khard/nginx:1";
/// Requests of several kinds, so that the recording has what nginx does for each.
const REQUESTS: &str = r#"for path in / /index.html /missing; do curl -s -m 20 -o /dev/null -w "%{http_code} $path\n" http://$(pod ip web)$path; done"#;
const ANSWERS: [&str; 3] = ["200 /", "200 /index.html", "404 /missing"];
/// A shell in the pod, as `kubectl exec` would run it.
const EXEC: &str = "pod exec web -- sh -c 'id && ls /var/www/html'";
/// Things that a pod may do and nginx does not; the first that works here without a profile is tried with it.
const OUTSIDE: [&str; 2] = ["pod exec web -- unshare -U id -u", "pod exec web -- chroot / true"];
/// For any one step; the longest takes a few seconds.
const STEP_LIMIT: Duration = Duration::from_mins(2);

/// The verb `demo`.
pub(crate) fn verb(paths: &Paths) -> Result<u8> {
    let built = build::all(paths)?;
    say("start a containerd apart from this machine's own; it ends with this demo");
    let containerd = Containerd::start(paths)?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(built.bin_dir.clone()).chain(env::split_paths(&path)))?;
    let shell = Shell { containerd: &containerd, dir: &paths.root, path };
    let out = paths.root.join(OUT);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }

    say("without a profile, a pod can do much that nginx never does");
    shell.must(POD)?;
    let outside = shell.first_that_works(&OUTSIDE)?;
    shell.must("pod rm web")?;

    say("record the pod from its first instruction: khard waits for it");
    let recorder = shell.record(&format!("khard trace --pod web --wait -v -o {OUT}"))?;
    shell.must(POD)?;
    ensure!(shell.must(REQUESTS)?.lines().eq(ANSWERS), "nginx does not answer as expected");
    let listing = shell.must(EXEC)?;
    say("the pod ends, and with it the recording");
    shell.must("pod rm web")?;
    let summary = recorder.end()?;

    say("the profiles that khard wrote");
    let folder = format!("{OUT}/web/web");
    shell.must(&format!("head -c 700 {folder}/seccomp.json; echo ' …'"))?;
    shell.must(&format!("khard check {folder}/seccomp.json --against {folder}/recording.json"))?;
    shell.must(&format!("grep -v '^#' {folder}/web.apparmor | head -n 24; echo ' …'"))?;
    shell
        .must(&format!("khard check {folder}/web.apparmor --against {folder}/recording.json | tail -n 4"))?;

    say("the same pod again, under its profile");
    shell.must(&format!("{POD} --seccomp $PWD/{folder}/seccomp.json"))?;
    ensure!(shell.must(REQUESTS)?.lines().eq(ANSWERS), "under the profile nginx does not answer as before");
    ensure!(shell.must(EXEC)? == listing, "under the profile a shell in the pod does something else");
    let refusal = shell.must_fail(outside)?;
    shell.must("pod rm web")?;

    drop(containerd);
    say("the AppArmor half, in a guest whose kernel has AppArmor: nginx, and nginx under its own profile");
    apparmor::show(paths, &built.bin_dir)?;

    println!("\n{:32} {:20} under its profile", "", "without a profile");
    let row = |what: &str, without: &str, with: &str| println!("{what:32} {without:20} {with}");
    row("requests answered as expected", "3 of 3", "3 of 3");
    row("a shell by exec", "works", "works, and says the same");
    row(
        outside.trim_start_matches("pod exec web -- "),
        "works",
        &format!("refused: {}", refusal.rsplit(": ").next().unwrap_or_default()),
    );
    row("AppArmor: nginx in the guest", "answers", "the same, nothing denied");
    row("AppArmor: writing its pages", "works", "refused");
    println!("\n{summary}");
    println!("\nnothing is left running; read {folder}/summary.md, then record something of yours:");
    println!(
        "  {} trace -- COMMAND",
        built.khard.strip_prefix(&paths.root).unwrap_or(&built.khard).display()
    );
    Ok(0)
}

fn say(text: &str) {
    println!("\n# {text}");
}

/// Where the demo's commands run.
struct Shell<'a> {
    containerd: &'a Containerd,
    dir: &'a Path,
    path: OsString,
}

/// What a command printed, and whether it succeeded.
struct Ended {
    text: String,
    success: bool,
}

impl Shell<'_> {
    fn command(&self, line: &str) -> Command {
        let mut command = self.containerd.command(self.dir, "sh");
        command.args(["-c", line]).env("PATH", &self.path).stdin(Stdio::null());
        command
    }

    /// Shows a command, runs it, shows what it prints.
    fn type_in(&self, line: &str) -> Result<Ended> {
        interrupt::check()?;
        println!("$ {line}");
        let mut child = self.command(&format!("exec 2>&1; {line}")).stdout(Stdio::piped()).spawn_owned()?;
        let reader = show(child.stdout.take().context("no pipe")?, None);
        let waited = command::wait(&mut child, Some(Instant::now() + STEP_LIMIT));
        command::end_group(&mut child);
        let text = reader.join().ok().context("no output")?;
        let status = waited?.with_context(|| format!("no end after {} s: {line}", STEP_LIMIT.as_secs()))?;
        Ok(Ended { text, success: status.success() })
    }

    fn must(&self, line: &str) -> Result<String> {
        let ended = self.type_in(line)?;
        ensure!(ended.success, "this was to succeed: {line}");
        Ok(ended.text)
    }

    fn must_fail(&self, line: &str) -> Result<String> {
        let ended = self.type_in(line)?;
        ensure!(!ended.success, "this was to be refused: {line}");
        Ok(ended.text.trim_end().to_owned())
    }

    fn first_that_works<'line>(&self, lines: &[&'line str]) -> Result<&'line str> {
        for line in lines {
            if self.type_in(line)?.success {
                return Ok(line);
            }
        }
        bail!("nothing that the profile would refuse works on this machine")
    }

    /// Starts a recording in the background; returns when it is ready.
    fn record(&self, line: &str) -> Result<Recorder> {
        println!("$ {line} &");
        let mut child = self
            .command(&format!("exec {line}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn_owned()?;
        let (send, messages) = channel();
        let readers = [
            show(child.stdout.take().context("no pipe")?, None),
            show(child.stderr.take().context("no pipe")?, Some(send)),
        ];
        let recorder = Recorder { child, messages, readers: readers.into() };
        recorder.wait_until_ready()?;
        Ok(recorder)
    }
}

/// Shows lines as they come, and passes them on; all of them in the end.
fn show(pipe: impl Read + Send + 'static, to: Option<Sender<String>>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            println!("{line}");
            text = text + &line + "\n";
            if let Some(to) = &to {
                // Nobody listens any more once the recording is ready.
                let _ = to.send(line);
            }
        }
        text
    })
}

/// A recording in the background. Dropping it ends it.
struct Recorder {
    child: Child,
    messages: Receiver<String>,
    readers: Vec<JoinHandle<String>>,
}

impl Recorder {
    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            match self.messages.recv_timeout(Duration::from_millis(100)) {
                Ok(message) if message.contains("ready") => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("khard ended before it was ready"),
                _ => {}
            }
            interrupt::check()?;
            ensure!(Instant::now() < deadline, "khard is not ready after {} s", STEP_LIMIT.as_secs());
        }
    }

    /// Waits for its end, which the end of its pod brings; what it said but for what happened on the way.
    fn end(mut self) -> Result<String> {
        let status = command::wait(&mut self.child, Some(Instant::now() + STEP_LIMIT))?
            .context("khard does not end with its pod")?;
        let mut text = String::new();
        for reader in self.readers.drain(..) {
            text += &reader.join().ok().context("no output")?;
        }
        ensure!(status.success(), "khard trace: {}", command::words(status));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(" INFO")).collect();
        Ok(lines.join("\n").trim().to_owned())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}
