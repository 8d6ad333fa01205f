//! What a project does not want shown in the log and the summary of a job that others can read. Owns how a match is found and what
//! stands in its place. It must not know who chose the patterns, nor where names are shown.

use std::ops::Range;

use khard_profile::escape;
use regex::Regex;

/// What stands in the place of a match.
const REDACTED: &str = "[redacted]";

/// Patterns of what is not to be shown.
#[derive(Clone, Debug, Default)]
pub struct Redact(Vec<Regex>);

impl Redact {
    /// Of these patterns.
    pub fn new(patterns: Vec<Regex>) -> Self {
        Self(patterns)
    }

    /// What to show of a text instead; `None`: nothing in it matches.
    pub fn text(&self, text: &str) -> Option<String> {
        // Of all patterns in what stands there, so that none hides from another what it would have matched.
        let matches = self.0.iter().flat_map(|pattern| pattern.find_iter(text));
        let mut ranges: Vec<Range<usize>> =
            matches.map(|found| found.range()).filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| range.start);
        let (mut shown, mut end) = (String::new(), 0);
        for range in &ranges {
            if range.start >= end {
                shown.push_str(text.get(end..range.start)?);
                shown.push_str(REDACTED);
            }
            end = end.max(range.end);
        }
        shown.push_str(text.get(end..)?);
        (!ranges.is_empty()).then_some(shown)
    }

    /// The same of a name that no sink has seen yet. One that sinks show in other characters than it has is not shown at all if it
    /// matches in either form.
    pub fn name(&self, name: &[u8]) -> Option<String> {
        let plain = String::from_utf8_lossy(name);
        let escaped = escape::terminal(name);
        if plain == escaped {
            return self.text(&plain);
        }
        self.text(&plain).or_else(|| self.text(&escaped)).map(|_| REDACTED.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(patterns: &[&str]) -> Redact {
        Redact::new(patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect())
    }

    #[test]
    fn what_any_pattern_matches_is_gone_whatever_the_others_match() {
        let redact = of(&["bc", "abcd", "x*", "[0-9]+"]);
        assert_eq!(redact.text("-abcd-bc-12-").as_deref(), Some("-[redacted]-[redacted]-[redacted]-"));
        assert_eq!(redact.text("-a-"), None);
        assert_eq!(redact.text(""), None);
        assert_eq!(of(&["^/home/[a-z]+$"]).name(b"/home/ann").as_deref(), Some("[redacted]"));
    }

    #[test]
    fn a_name_is_hidden_by_what_it_is_and_by_how_it_is_shown() {
        for (pattern, name) in [
            (r"tok.*en", b"tok\x1ben".as_slice()),
            (r"\\x1b", b"a\x1bb"),
            (r"a\x1bb", b"a\x1bb"),
            (r"secret", b"\xffsecret"),
            (r"\\xff", b"\xffx"),
        ] {
            assert_eq!(of(&[pattern]).name(name).as_deref(), Some("[redacted]"), "{pattern}");
        }
        assert_eq!(of(&["other"]).name(b"\xff\x1b"), None);
    }
}
