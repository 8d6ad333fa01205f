//! Names hidden in what a difference says. Owns where names end and the words around them begin: a pattern is asked of the whole and of
//! each part, so that it need not know how a name is told.

/// What khard puts before a name.
const BEFORE: [&[u8]; 4] = [b"deny ", b"owner ", b"within ", b"processes under "];
/// What it puts between names, and what stands between the words of a rule as it is written; in this order.
const BETWEEN: [&[u8]; 4] = [b", within ", b" -> ", b", ", b" "];
/// What stands around names in rules and sentences.
const AROUND: &[u8] = b"\"'(){}=,;:";

/// The words with what is to be hidden replaced; `None`: nothing is. `hide`: what to show of a name instead.
pub(super) fn redact(words: &[u8], hide: &impl Fn(&[u8]) -> Option<String>) -> Option<Vec<u8>> {
    if let Some(hidden) = hide(words) {
        return Some(hidden.into_bytes());
    }
    for before in BEFORE {
        if let Some(name) = words.strip_prefix(before) {
            return redact(name, hide).map(|name| [before, &name].concat());
        }
    }
    for between in BETWEEN {
        if let Some(at) = words.windows(between.len()).position(|part| part == between) {
            let (one, other) = (&words[..at], &words[at + between.len()..]);
            let hidden = (redact(one, hide), redact(other, hide));
            return match hidden {
                (None, None) => None,
                (one_hidden, other_hidden) => {
                    let one = one_hidden.unwrap_or_else(|| one.to_vec());
                    Some([&one, between, &other_hidden.unwrap_or_else(|| other.to_vec())].concat())
                }
            };
        }
    }
    let is_around = |byte: &u8| AROUND.contains(byte);
    let start = words.iter().take_while(|byte| is_around(byte)).count();
    let end = words.len() - words[start..].iter().rev().take_while(|byte| is_around(byte)).count();
    if start == 0 && end == words.len() {
        return None;
    }
    let name = redact(&words[start..end], hide)?;
    Some([&words[..start], &name, &words[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_hidden_whatever_is_told_around_it() {
        let hide = |name: &[u8]| (name == b"/home/a, b/token").then(|| "[redacted]".to_owned());
        for (words, shown) in [
            ("/home/a, b/token", Some("[redacted]")),
            ("owner /home/a, b/token", Some("owner [redacted]")),
            ("deny owner /home/a, b/token", Some("deny owner [redacted]")),
            ("r, within owner /home/a, b/token", Some("r, within owner [redacted]")),
            ("/x -> /home/a, b/token", Some("/x -> [redacted]")),
            ("owner /home/other", None),
        ] {
            let redacted = redact(words.as_bytes(), &hide);
            assert_eq!(redacted.as_deref().map(String::from_utf8_lossy).as_deref(), shown, "{words}");
        }
        let hide = |name: &[u8]| (name == b"/data").then(|| "X".to_owned());
        for (words, shown) in [
            ("mount fstype=\"tmpfs\" \"/data\" -> /mnt/,", "mount fstype=\"tmpfs\" \"X\" -> /mnt/,"),
            ("these are different: /data and /else", "these are different: X and /else"),
            ("processes under /data", "processes under X"),
        ] {
            assert_eq!(redact(words.as_bytes(), &hide).unwrap(), shown.as_bytes());
        }
    }
}
