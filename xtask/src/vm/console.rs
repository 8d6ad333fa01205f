//! What a guest's kernel writes to its serial console: owns reading it as it grows and telling that the kernel is lost.

use std::{fs, path::PathBuf};

/// Words after which a guest's results mean nothing.
const LOST: [&str; 4] = ["Kernel panic", "Oops", "soft lockup", "BUG:"];

/// The console's file.
pub(crate) struct Console {
    path: PathBuf,
    seen: usize,
}

impl Console {
    /// The console that QEMU writes to `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: 0 }
    }

    /// All of it so far, without what a terminal would act on.
    pub(crate) fn text(&self) -> String {
        printable(&fs::read(&self.path).unwrap_or_default())
    }

    /// Its last lines, for a person.
    pub(crate) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Has the kernel said, since the last question, that it is lost?
    pub(crate) fn lost(&mut self) -> bool {
        let size = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let Ok(size) = usize::try_from(size) else { return false };
        if size == self.seen {
            return false;
        }
        self.seen = size;
        lost(&self.text())
    }
}

fn lost(text: &str) -> bool {
    LOST.iter().any(|words| text.contains(words))
}

/// Line feeds, tabs and printable characters; QEMU and the firmware write others.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // A control sequence: ESC [ parameters, to a final byte.
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_kernel_is_told_from_its_words() {
        assert!(lost("[    9.1] Kernel panic - not syncing: Attempted to kill init!"));
        assert!(lost("[    9.1] Oops: int3: 0000 [#1] PREEMPT SMP"));
        assert!(lost("watchdog: BUG: soft lockup - CPU#0 stuck for 61s!"));
        assert!(!lost("[    0.3] Debugging is on"));
    }

    #[test]
    fn terminal_sequences_and_nul_bytes_are_dropped() {
        assert_eq!(printable(b"\x1b[2J\x1b[01;01H\0ok\r\n"), "ok\n");
    }
}
