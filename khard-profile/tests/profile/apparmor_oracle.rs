//! What `apparmor_parser` says: whether it takes a text, and what the automata that it compiles answer. Knows nothing about
//! khard's own answers.
//!
//! The automata are run here as the kernel does (security/apparmor/match.c, `aa_dfa_match`): tables of a flex-like form,
//! big-endian, the first of the two for all classes but files.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// Features of a kernel that mediates every class the parser knows; without them it leaves classes out.
const FEATURES: &str = "/usr/share/apparmor-features/features";

/// Fails where the parser is not installed: a test that does not ask it proves nothing.
pub(crate) fn must_be_here() {
    static HERE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let here = HERE.get_or_init(|| {
        let version = Command::new("apparmor_parser").arg("-V").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success()) && std::path::Path::new(FEATURES).exists()
    });
    assert!(here, "apparmor_parser and {FEATURES} are not here: `cargo xtask setup` installs them");
}

/// The compiled policy, or what the parser says against it.
pub(crate) fn compile(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut parser = Command::new("apparmor_parser")
        .args([
            "-QKS",
            "--base=/etc/apparmor.d",
            "--kernel-features",
            FEATURES,
            "--policy-features",
            FEATURES,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    parser.stdin.take().unwrap().write_all(text).unwrap();
    let output = parser.wait_with_output().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

const MAGIC: [u8; 4] = [0x1b, 0x5e, 0x78, 0x3d];
/// Table ids (security/apparmor/include/match.h).
const ACCEPT: u16 = 1;
const BASE: u16 = 2;
const CHECK: u16 = 3;
const DEFAULT: u16 = 4;
const CLASSES: u16 = 5;
const NEXT: u16 = 8;
const DIFFERENTIAL: u32 = 1 << 31;

pub(crate) struct Dfa(BTreeMap<u16, Vec<u32>>);

/// The state that every match begins in; 0 refuses for ever.
pub(crate) const START: u32 = 1;

impl Dfa {
    /// Every automaton of a compiled profile.
    pub(crate) fn all(blob: &[u8]) -> Vec<Self> {
        let starts = (0..blob.len()).filter(|at| blob[*at..].starts_with(&MAGIC));
        starts.map(|at| Self::new(&blob[at..])).collect()
    }

    fn new(blob: &[u8]) -> Self {
        let u16_at = |at: usize| u16::from_be_bytes(blob[at..at + 2].try_into().unwrap());
        let u32_at = |at: usize| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap());
        let (mut at, end) = (u32_at(4) as usize, u32_at(8) as usize);
        let mut tables = BTreeMap::new();
        while at < end {
            let (id, width, n) = (u16_at(at), usize::from(u16_at(at + 2)), u32_at(at + 8) as usize);
            at += 12;
            let entry = |nth: usize| match width {
                1 => u32::from(blob[at + nth]),
                2 => u32::from(u16_at(at + 2 * nth)),
                _ => u32_at(at + 4 * nth),
            };
            tables.insert(id, (0..n).map(entry).collect());
            at = (at + width * n).next_multiple_of(8);
        }
        Self(tables)
    }

    pub(crate) fn next(&self, mut state: u32, byte: u8) -> u32 {
        let at = |table: u16, place: usize| self.0[&table].get(place).copied();
        let class =
            if self.0.contains_key(&CLASSES) { at(CLASSES, usize::from(byte)).unwrap() } else { byte.into() };
        loop {
            let base = at(BASE, state as usize).unwrap();
            let place = ((base & 0xff_ffff) + class) as usize;
            if at(CHECK, place) == Some(state) {
                return at(NEXT, place).unwrap();
            }
            state = at(DEFAULT, state as usize).unwrap();
            if base & DIFFERENTIAL == 0 {
                return state;
            }
        }
    }

    pub(crate) fn run(&self, state: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(state, |state, byte| self.next(state, *byte))
    }

    pub(crate) fn accepts(&self, state: u32) -> u32 {
        self.0[&ACCEPT][state as usize]
    }
}

/// Classes of mediation (security/apparmor/include/apparmor.h), the first byte in the automaton that is not for files.
pub(crate) const MOUNT: u8 = 7;
pub(crate) const PTRACE: u8 = 9;
pub(crate) const SIGNAL: u8 = 10;
pub(crate) const NET: u8 = 14;

impl Dfa {
    /// Texts that are accepted with a permission, the shortest first: at most so many.
    pub(crate) fn accepted(&self, permission: u32, most: usize) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut open = std::collections::VecDeque::from([(START, Vec::new())]);
        while let Some((state, text)) = open.pop_front() {
            if self.accepts(state) & permission != 0 {
                found.push(text.clone());
            }
            if found.len() >= most || text.len() > 24 || open.len() > 4096 {
                break;
            }
            for byte in 1..=255 {
                let next = self.next(state, byte);
                if next != 0 {
                    open.push_back((next, [text.as_slice(), &[byte]].concat()));
                }
            }
        }
        found
    }
}
