//! Running commands in a guest: owns the conversation with its agent (`guest/agent` has the other half) and telling a
//! command's failure from a machine's.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::machine::{Config, Machine};
use crate::{interrupt, paths::Paths};

/// How long a boot may take; an idle machine needs four seconds.
const BOOT_LIMIT: Duration = Duration::from_mins(3);
/// How often the console, a signal and the time are looked at.
const TICK_MS: i32 = 100;

/// Where a command's output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// With this exit status.
    Exited(u8),
    /// Not within its time.
    OutOfTime,
    /// The kernel panicked or hangs, or QEMU ended: the console's last lines.
    MachineGone(String),
}

/// A booted guest.
pub(crate) struct Session {
    machine: Machine,
    n_commands: u32,
    /// What came from the control port and is no whole line yet.
    control: Vec<u8>,
}

impl Session {
    /// Boots a guest and waits for its agent; an error when it does not come up.
    pub(crate) fn boot(paths: &Paths, config: &Config) -> Result<Self> {
        let machine = Machine::start(paths, config)?;
        let mut session = Self { machine, n_commands: 0, control: Vec::new() };
        match session.converse(None, Some(BOOT_LIMIT), &mut |_, _| {})? {
            Outcome::Exited(_) => Ok(session),
            Outcome::OutOfTime => {
                anyhow::bail!(
                    "the guest did not boot in {} s:\n{}",
                    BOOT_LIMIT.as_secs(),
                    session.machine.console.tail()
                )
            }
            Outcome::MachineGone(console) => anyhow::bail!("the guest did not boot:\n{console}"),
        }
    }

    /// Runs a shell script in the guest's shared folder; `sink` gets what it writes, as it comes.
    pub(crate) fn run(
        &mut self,
        script: &str,
        limit: Option<Duration>,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome> {
        self.request("run", &base64(script.as_bytes()), limit, sink)
    }

    /// A shell on this terminal, until it ends.
    pub(crate) fn shell(&mut self) -> Result<Outcome> {
        self.request("shell", "", None, &mut |_, _| {})
    }

    /// Ends the guest; what it wrote to its shared folder is there afterwards.
    pub(crate) fn end(mut self) -> Result<()> {
        if self.machine.shares_by_disk() {
            self.request("off", "", Some(Duration::from_mins(1)), &mut |_, _| {})?;
            self.machine.fetch_share()?;
        }
        Ok(())
    }

    fn request(
        &mut self,
        verb: &str,
        argument: &str,
        limit: Option<Duration>,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome> {
        self.n_commands += 1;
        // Hard to print by chance, and another one for each command.
        let token =
            format!("khard-end-{}-{:08x}", self.n_commands, std::process::id().wrapping_mul(0x9e37_79b1));
        if writeln!(self.machine.ports.control, "{verb} {token} {argument}").is_err() {
            return Ok(self.gone());
        }
        let marked = (verb == "run").then_some(token);
        self.converse(marked.as_deref(), limit, sink)
    }

    /// Passes on output until the agent's answer has come and, with a token, both outputs have ended.
    fn converse(
        &mut self,
        token: Option<&str>,
        limit: Option<Duration>,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mark = token.map(|token| format!("{token}\n").into_bytes());
        let mut outputs = [Output::new(mark.clone()), Output::new(mark)];
        let mut answer = None;
        loop {
            let ports = &self.machine.ports;
            let mut fds = [&ports.control, &ports.out, &ports.err].map(|port| libc::pollfd {
                fd: port.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            });
            // SAFETY: three descriptors, all open, in an array that lives through the call.
            let n_ready = unsafe { libc::poll(fds.as_mut_ptr(), 3, TICK_MS) };
            interrupt::check()?;
            if n_ready <= 0 {
                if !self.machine.alive()? || self.machine.console.lost() {
                    return Ok(self.gone());
                }
                if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                    return Ok(Outcome::OutOfTime);
                }
                continue;
            }
            for (index, stream) in [(1, Stream::Out), (2, Stream::Err)] {
                if fds[index].revents != 0 {
                    let Some(bytes) = self.receive(index)? else { return Ok(self.gone()) };
                    let text = outputs[index - 1].take(&bytes);
                    if !text.is_empty() {
                        sink(stream, &text);
                    }
                }
            }
            if fds[0].revents != 0 {
                let Some(bytes) = self.receive(0)? else { return Ok(self.gone()) };
                self.control.extend(bytes);
                if let Some(end) = self.control.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.control.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    let status = line.trim().rsplit(' ').next().unwrap_or_default();
                    answer =
                        Some(status.parse::<u8>().with_context(|| format!("the guest's agent says {line}"))?);
                }
            }
            if let Some(status) = answer
                && outputs.iter().all(|output| output.ended)
            {
                return Ok(Outcome::Exited(status));
            }
            // Output without end must not hide that the time is up.
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Ok(Outcome::OutOfTime);
            }
        }
    }

    /// What a port has; `None` when QEMU has closed it.
    fn receive(&mut self, index: usize) -> Result<Option<Vec<u8>>> {
        let ports = &mut self.machine.ports;
        let port =
            [&mut ports.control, &mut ports.out, &mut ports.err].into_iter().nth(index).context("no port")?;
        let mut buffer = vec![0; 64 * 1024];
        match port.read(&mut buffer) {
            Ok(0) => Ok(None),
            Ok(n_bytes) => {
                buffer.truncate(n_bytes);
                Ok(Some(buffer))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Some(Vec::new())),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error).context("reading from the guest"),
        }
    }

    fn gone(&self) -> Outcome {
        // The rest of a panic's text is still on its way.
        thread::sleep(Duration::from_secs(1));
        Outcome::MachineGone(format!("{}{}", self.machine.console.tail(), self.machine.qemu_log()))
    }
}

/// One of a command's two outputs: everything up to a mark.
struct Output {
    mark: Option<Vec<u8>>,
    held: Vec<u8>,
    ended: bool,
}

impl Output {
    /// Without a mark it has ended already.
    fn new(mark: Option<Vec<u8>>) -> Self {
        Self { ended: mark.is_none(), mark, held: Vec::new() }
    }

    /// What of `bytes`, and of what was held before, is surely output.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(mark) = self.mark.as_ref().filter(|_| !self.ended) else {
            return Vec::new(); // from a process that the command left behind
        };
        self.held.extend(bytes);
        if let Some(at) = self.held.windows(mark.len()).position(|window| window == mark) {
            self.ended = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        // The end may be the mark's beginning.
        let n_kept = (1..mark.len().min(self.held.len() + 1))
            .rev()
            .find(|n_bytes| self.held.ends_with(&mark[..*n_bytes]))
            .unwrap_or(0);
        self.held.drain(..self.held.len() - n_kept).collect()
    }
}

/// RFC 4648's base64, so that any script is one line.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let value = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = ALPHABET[(value >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_in_the_rfc() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn output_ends_at_its_mark_however_it_is_cut() {
        let whole = b"one\nkhard-en two\nkhard-end-7\nlate";
        for cut in 0..whole.len() {
            let mut output = Output::new(Some(b"khard-end-7\n".to_vec()));
            let mut text = output.take(&whole[..cut]);
            text.extend(output.take(&whole[cut..]));
            assert_eq!(text, b"one\nkhard-en two\n", "cut at {cut}");
            assert!(output.ended);
        }
    }

    #[test]
    fn output_before_the_mark_is_passed_on_at_once() {
        let mut output = Output::new(Some(b"khard-end-7\n".to_vec()));
        assert_eq!(output.take(b"hello kh"), b"hello ");
        assert_eq!(output.take(b"i"), b"khi");
        assert!(!output.ended);
    }
}
