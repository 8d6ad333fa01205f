//! Owns what a rule says of a path: literal bytes, and the few generalised pieces that khard ever writes. Knows nothing of
//! why a piece was generalised.

use crate::Bytes;
use crate::escape;

/// A path, or many that differ in what was generalised.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Vec<Piece>);

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// Exactly these bytes. Never empty, never two in a row.
    Literal(Bytes),
    /// Where procfs is mounted, without the slash that follows: `@{PROC}`.
    Proc,
    /// A process id: `@{pid}`.
    Pid,
    /// A thread id: `@{tid}`.
    Tid,
    /// From `min` to `max` characters of an alphabet.
    Random {
        /// Which characters.
        alphabet: Alphabet,
        /// At least as many.
        min: u8,
        /// At most as many.
        max: u8,
    },
    /// A digit, then anything but a slash: `[0-9]*`.
    Number,
    /// Anything but a slash, not nothing, at the end: `*`.
    Files,
    /// Anything, not nothing, at the end: `**`.
    Below,
}

/// Which characters a made-up name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alphabet {
    /// `0` to `9`.
    Digits,
    /// `0` to `9`, `a` to `f`.
    Hex,
    /// Letters and digits.
    Alphanumeric,
    /// Small letters, digits and `_`.
    Python,
}

impl Alphabet {
    /// True if the byte is one of its characters.
    pub const fn contains(self, byte: u8) -> bool {
        match self {
            Self::Digits => byte.is_ascii_digit(),
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Python => matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'_'),
        }
    }

    const fn glob(self) -> &'static str {
        match self {
            Self::Digits => "[0-9]",
            Self::Hex => "[0-9a-f]",
            Self::Alphanumeric => "[0-9A-Za-z]",
            Self::Python => "[0-9a-z_]",
        }
    }
}

impl Piece {
    /// A number of characters of an alphabet.
    pub(super) fn random(alphabet: Alphabet, n: usize) -> Self {
        let n = u8::try_from(n).unwrap_or(u8::MAX);
        Self::Random { alphabet, min: n, max: n }
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Literal(bytes) => text.push_str(&escape::apparmor(bytes.as_slice())),
            Self::Proc => text.push_str("@{PROC}"),
            Self::Pid => text.push_str("@{pid}"),
            Self::Tid => text.push_str("@{tid}"),
            Self::Random { alphabet, min, max } if min == max => {
                text.push_str(&alphabet.glob().repeat(usize::from(*min)));
            }
            Self::Random { alphabet, min, max } => {
                let lengths = (*min..=*max).map(|n| alphabet.glob().repeat(usize::from(n)));
                text.push('{');
                text.push_str(&lengths.collect::<Vec<_>>().join(","));
                text.push('}');
            }
            Self::Number => text.push_str("[0-9]*"),
            Self::Files => text.push('*'),
            Self::Below => text.push_str("**"),
        }
    }

    /// The lengths that this piece can have at the start of `text`.
    fn lengths(&self, text: &[u8]) -> Vec<usize> {
        let run = |holds: fn(u8) -> bool| text.iter().take_while(|byte| holds(**byte)).count();
        let no_slash = |byte| byte != b'/';
        match self {
            Self::Literal(bytes) if text.starts_with(bytes.as_slice()) => vec![bytes.as_slice().len()],
            Self::Proc if text.starts_with(b"/proc") => vec![5],
            Self::Pid | Self::Tid => {
                (1..=run(|byte| byte.is_ascii_digit())).filter(|n| is_pid(&text[..*n])).collect()
            }
            Self::Random { alphabet, min, max } => {
                let longest = text.iter().take_while(|byte| alphabet.contains(**byte)).count();
                (usize::from(*min)..=usize::from(*max).min(longest)).collect()
            }
            Self::Number if text.first().is_some_and(u8::is_ascii_digit) => (1..=run(no_slash)).collect(),
            Self::Files => (1..=run(no_slash)).collect(),
            Self::Below => (1..=text.len()).collect(),
            Self::Literal(_) | Self::Proc | Self::Number => Vec::new(),
        }
    }
}

/// What AppArmor's `@{pid}` and `@{tid}` match: 1 to 4,999,999, without leading zeros (tunables/kernelvars).
pub(super) fn is_pid(name: &[u8]) -> bool {
    matches!(name, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit))
        && (name.len() < 7 || name.len() == 7 && name[0] <= b'4')
}

impl Pattern {
    /// One path and no other.
    pub fn literal(path: &[u8]) -> Self {
        Self::from_iter([Piece::Literal(path.into())])
    }

    /// Its pieces.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The path, if it is only one.
    pub fn as_literal(&self) -> Option<&[u8]> {
        match self.0.as_slice() {
            [Piece::Literal(path)] => Some(path.as_slice()),
            _ => None,
        }
    }

    /// True if the whole path is one of those.
    pub fn matches(&self, path: &[u8]) -> bool {
        fn all(pieces: &[Piece], text: &[u8]) -> bool {
            let Some((piece, rest)) = pieces.split_first() else { return text.is_empty() };
            piece.lengths(text).into_iter().any(|n| all(rest, &text[n..]))
        }
        all(&self.0, path)
    }

    /// As it stands in a rule: in quotes, always.
    pub fn to_text(&self) -> String {
        let mut text = String::from("\"");
        self.0.iter().for_each(|piece| piece.write(&mut text));
        text.push('"');
        text
    }
}

impl FromIterator<Piece> for Pattern {
    fn from_iter<I: IntoIterator<Item = Piece>>(pieces: I) -> Self {
        let mut all: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (all.last_mut(), piece) {
                (_, Piece::Literal(bytes)) if bytes.is_empty() => {}
                (Some(Piece::Literal(last)), Piece::Literal(bytes)) => {
                    *last = [last.as_slice(), bytes.as_slice()].concat().into();
                }
                (_, piece) => all.push(piece),
            }
        }
        Self(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_are_what_the_tunable_says() {
        for yes in ["1", "9", "10", "4999999"] {
            assert!(is_pid(yes.as_bytes()), "{yes}");
        }
        for no in ["", "0", "01", "5000000", "10000000", "1a", "self"] {
            assert!(!is_pid(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn a_pattern_matches_its_paths_and_no_other() {
        let pattern = Pattern::from_iter([
            Piece::Literal("/tmp/a".into()),
            Piece::random(Alphabet::Alphanumeric, 2),
            Piece::Literal(".".into()),
            Piece::Random { alphabet: Alphabet::Digits, min: 1, max: 3 },
            Piece::Literal("/x".into()),
        ]);
        assert_eq!(
            pattern.to_text(),
            r#""/tmp/a[0-9A-Za-z][0-9A-Za-z].{[0-9],[0-9][0-9],[0-9][0-9][0-9]}/x""#
        );
        assert!(pattern.matches(b"/tmp/aZ9.12/x") && pattern.matches(b"/tmp/aZ9.123/x"));
        for no in ["/tmp/aZ.12/x", "/tmp/aZ9.1234/x", "/tmp/aZ9.12/xx", "/tmp/aZ9./x", "/tmp/a/9.12/x"] {
            assert!(!pattern.matches(no.as_bytes()), "{no}");
        }
        let files = Pattern::from_iter([Piece::Literal("/d/".into()), Piece::Files]);
        assert!(files.matches(b"/d/f") && !files.matches(b"/d/") && !files.matches(b"/d/f/"));
    }
}
