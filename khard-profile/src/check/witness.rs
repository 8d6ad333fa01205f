//! Owns how a witness is told in words.

use crate::escape;
use crate::recording::Witness;

/// Who did it first, for a terminal.
pub(crate) fn in_words(witness: Option<&Witness>) -> String {
    let Some(witness) = witness else {
        return "first made by: not recorded".to_owned();
    };
    let (comm, exe) = (escape::terminal(witness.comm.as_slice()), escape::terminal(witness.exe.as_slice()));
    format!(
        "first made by {comm} ({exe}), process {}, {} ms into run {}",
        witness.tgid,
        witness.time_ns / 1_000_000,
        witness.run
    )
}
