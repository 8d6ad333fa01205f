//! Owns the loss-free generalisation of a path: which parts of it will be others next time. Knows the recording, not the
//! rules.

use std::collections::BTreeSet;

use super::pattern::{Alphabet, Pattern, Piece, is_pid};
use super::temporary;
use crate::recording::{Access, FileOp, Recording, Run};

/// What the recording tells about names.
pub(super) struct Names {
    /// Ids of the recorded containers and pods, longest first.
    ids: Vec<Vec<u8>>,
    /// Paths that were made new, without a slash at the end.
    made: BTreeSet<Vec<u8>>,
}

/// How many digits of a container's id its short form has: the default host name, among others.
const N_SHORT_ID: usize = 12;

impl Names {
    pub(super) fn of(recording: &Recording) -> Self {
        let mut ids: Vec<Vec<u8>> = recording.runs().values().flat_map(ids).collect();
        ids.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        ids.dedup();
        let made = recording.accesses().keys().filter_map(|key| match &key.what {
            // mkdir(2) and symlink(2) never take a name that exists.
            Access::File(file)
                if file.facts.exclusive || matches!(file.op, FileOp::Mkdir | FileOp::Symlink) =>
            {
                let path = file.path.as_slice();
                Some(path.strip_suffix(b"/").unwrap_or(path).to_vec())
            }
            _ => None,
        });
        Self { ids, made: made.collect() }
    }

    /// The path with everything generalised that will be other next time.
    pub(super) fn pattern(&self, path: &[u8]) -> Pattern {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let slash = || Piece::Literal("/".into());
        let mut pieces = Vec::new();
        let mut rest_from = 1;
        if let [b"", b"proc", pid, ..] = parts.as_slice()
            && is_pid(pid)
        {
            pieces = vec![Piece::Proc, slash(), Piece::Pid];
            rest_from = 3;
            if let [_, _, _, b"task", tid, ..] = parts.as_slice()
                && is_pid(tid)
            {
                pieces.extend([Piece::Literal("/task/".into()), Piece::Tid]);
                rest_from = 5;
            }
        }
        let mut n_before = parts[..rest_from].iter().map(|part| part.len() + 1).sum::<usize>();
        for (nth, part) in parts.iter().enumerate().skip(rest_from) {
            pieces.push(slash());
            let is_last = nth + 1 == parts.len();
            let made = self.made.contains(&path[..n_before + part.len()]);
            pieces.extend(match (&parts[..nth], part) {
                ([b"", b"dev", b"pts"], [b'0'..=b'9', more @ ..])
                    if is_last && more.iter().all(u8::is_ascii_digit) =>
                {
                    vec![Piece::Number]
                }
                // O_TMPFILE: `#` and the inode's number (d_mark_tmpfile() in fs/dcache.c).
                (_, [b'#', number @ ..])
                    if is_last && !number.is_empty() && number.iter().all(u8::is_ascii_digit) =>
                {
                    vec![Piece::Literal("#".into()), Piece::Number]
                }
                _ => self.name(part, made),
            });
            n_before += part.len() + 1;
        }
        Pattern::from_iter(pieces)
    }

    fn name(&self, name: &[u8], made: bool) -> Vec<Piece> {
        let place = self.ids.iter().find_map(|id| Some((find(name, id)?, id)));
        if let Some((at, id)) = place {
            let mut pieces = self.name(&name[..at], false);
            pieces.extend(id_pieces(id));
            pieces.extend(self.name(&name[at + id.len()..], false));
            return pieces;
        }
        temporary::pieces(name, made).unwrap_or_else(|| vec![Piece::Literal(name.into())])
    }
}

/// The ids of a run's container and pod: CRI's, and the pod's in its cgroup path, as the kubelet and systemd write it.
fn ids(run: &Run) -> Vec<Vec<u8>> {
    let is_id = |id: &str| id.len() >= N_SHORT_ID && id.bytes().all(|byte| Alphabet::Hex.contains(byte));
    let container =
        run.container.iter().flat_map(|container| [&container.container_id, &container.sandbox_id]);
    let mut ids = Vec::new();
    for id in container.filter(|id| is_id(id)) {
        ids.extend([id.as_bytes().to_vec(), id.as_bytes()[..N_SHORT_ID].to_vec()]);
    }
    for part in run.cgroup_path.as_slice().split(|byte| *byte == b'/') {
        let Some(uid) = find_after(part, b"pod").filter(|_| run.container.is_some()) else { continue };
        let uid = uid.strip_suffix(b".slice").unwrap_or(uid);
        let plain: Vec<u8> = uid.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
        let (hex, other): (Vec<u8>, Vec<u8>) = plain.iter().partition(|byte| Alphabet::Hex.contains(**byte));
        // A UUID, or the 32 digits of a static pod.
        if hex.len() == 32 && (other.is_empty() || other == b"----") {
            ids.push(plain.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect());
            ids.push(plain);
        }
    }
    ids
}

fn find_after<'a>(name: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let at = name.windows(what.len()).rposition(|window| window == what)?;
    Some(&name[at + what.len()..])
}

/// Where the id stands in the name. That it does so by chance, within a longer number, is one in 2^48.
fn find(name: &[u8], id: &[u8]) -> Option<usize> {
    name.windows(id.len()).position(|window| window == id)
}

/// As many digits, with what stands between them.
fn id_pieces(id: &[u8]) -> Vec<Piece> {
    let kinds = id.chunk_by(|one, next| Alphabet::Hex.contains(*one) == Alphabet::Hex.contains(*next));
    let piece = |run: &[u8]| {
        if Alphabet::Hex.contains(run[0]) {
            Piece::random(Alphabet::Hex, run.len())
        } else {
            Piece::Literal(run.into())
        }
    };
    kinds.map(piece).collect()
}
