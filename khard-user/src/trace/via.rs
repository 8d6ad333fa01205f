//! A command that leads to an agent: `ssh node sudo khard agent --stdio`, `kubectl exec`, `docker exec`. Owns its process and the
//! pumps between its pipes and a client's link.
//!
//! What it says on stderr is shown escaped, a line at a time: whoever answers at the other end does not get this terminal.

use std::{
    ffi::OsStr,
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use khard_profile::escape;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStderr, Command as Process},
    task::JoinHandle,
};

use crate::{
    agent::{Link, Port, stream},
    causes::with_causes,
    stream::{Command, FrameReader, FrameWriter, Message, Request},
};

/// The longest line of its stderr that is shown as one.
const MAX_LINE_BYTES: u64 = 4096;
/// How long a command whose stream has ended may take to end itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// A started command, and a link to the agent behind it.
pub(super) struct Via {
    link: Link,
    peer: Peer,
}

/// The command.
pub(super) struct Peer {
    child: Child,
    pumps: Vec<JoinHandle<()>>,
}

impl Via {
    /// Starts a command in a shell, and asks the agent behind it for a recording.
    pub(super) fn start(command: &OsStr, request: Request) -> io::Result<Self> {
        // In a group of its own: a Ctrl-C is for khard, which ends in order.
        let mut child = Process::new("sh")
            .arg("-c")
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pipe = |what| io::Error::other(format!("the command has no {what}"));
        let stdin = child.stdin.take().ok_or_else(|| pipe("stdin"))?;
        let stdout = child.stdout.take().ok_or_else(|| pipe("stdout"))?;
        let stderr = child.stderr.take().ok_or_else(|| pipe("stderr"))?;
        let (Port { mut commands, messages }, link) = stream();
        let outgoing = tokio::spawn(async move {
            let mut writer = FrameWriter::new(stdin);
            let first = Command::Record(Box::new(request));
            let mut next = Some(first);
            while let Some(command) = next {
                let sent = async {
                    writer.write(&command).await?;
                    writer.flush().await
                };
                // Why it is gone is for its stdout to say.
                if sent.await.is_err() {
                    break;
                }
                next = commands.recv().await;
            }
        });
        let incoming = tokio::spawn(async move {
            let mut reader = FrameReader::new(stdout);
            loop {
                let message = match reader.next::<Message>().await {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => break,
                    Err(error) => Err(error),
                };
                let is_last = matches!(message, Err(_) | Ok(Message::Over { .. }));
                if messages.send(message).await.is_err() || is_last {
                    break;
                }
            }
        });
        let heard = tokio::spawn(show(stderr));
        Ok(Self { link, peer: Peer { child, pumps: vec![outgoing, incoming, heard] } })
    }

    pub(super) fn into_parts(self) -> (Link, Peer) {
        (self.link, self.peer)
    }
}

impl Peer {
    /// How the command ended, if it did.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.ok()?.ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.pumps.iter().for_each(JoinHandle::abort);
        // With what the shell has started. None: it has ended, and its number may be another's.
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }
}

async fn show(stderr: ChildStderr) {
    let mut lines = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) => break,
            Ok(_) => tracing::warn!("{}", escape::terminal(line.trim_ascii_end())),
            Err(error) => {
                tracing::debug!("the command's stderr: {}", with_causes(&error));
                break;
            }
        }
    }
}
