//! Owns comments where none may stand: finds them, and blanks them so that the rest can be read.

/// A comment, and the line where it begins, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comment {
    pub(super) line: usize,
    pub(super) text: String,
}

/// Blanks `//`, `#` and `/* */` outside of JSON's strings; lines stay where they are.
pub(super) fn json(text: &[u8]) -> (Vec<u8>, Vec<Comment>) {
    let mut blanked = text.to_vec();
    let mut comments = Vec::new();
    let (mut at, mut in_string) = (0, false);
    while at < text.len() {
        let rest = &text[at..];
        let length = match rest {
            [b'\\', _, ..] if in_string => 2,
            [b'"', ..] => {
                in_string = !in_string;
                1
            }
            _ if in_string => 1,
            [b'/', b'/', ..] | [b'#', ..] => {
                comment(text, &mut blanked, at, end_of_line(rest), &mut comments)
            }
            [b'/', b'*', ..] => {
                let end = rest.windows(2).skip(2).position(|pair| pair == b"*/");
                let length = end.map_or(rest.len(), |end| end + 4);
                comment(text, &mut blanked, at, length, &mut comments)
            }
            _ => 1,
        };
        at += length;
    }
    (blanked, comments)
}

/// Blanks what stands on lines of an AppArmor profile after a `//`, at the line's start or after a rule's end, where no path can be
/// meant, or after a `;` at the line's start.
pub(super) fn apparmor(text: &[u8]) -> (Vec<u8>, Vec<Comment>) {
    let mut blanked = text.to_vec();
    let mut comments = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let code = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let starts = |place: usize| {
            let before = line[..place].trim_ascii_end();
            let first = before.is_empty();
            let after_rule = before.ends_with(b",") || before.ends_with(b"{") || before.ends_with(b"}");
            match &line[place..] {
                [b'/', b'/', next, ..] => {
                    (first || after_rule)
                        && (next.is_ascii_whitespace() || !code.trim_ascii_end().ends_with(b","))
                }
                [b';', ..] => first,
                _ => false,
            }
        };
        if let Some(place) = (0..code.len()).find(|place| starts(*place)) {
            comment(text, &mut blanked, at + place, end_of_line(&line[place..]), &mut comments);
        }
        at += line.len();
    }
    (blanked, comments)
}

fn end_of_line(text: &[u8]) -> usize {
    text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len())
}

/// Blanks one, and says how long it is.
fn comment(text: &[u8], blanked: &mut [u8], at: usize, length: usize, comments: &mut Vec<Comment>) -> usize {
    let line = text[..at].split(|byte| *byte == b'\n').count();
    let shown = text[at..at + length].split(|byte| *byte == b'\n').next().unwrap_or_default();
    comments.push(Comment { line, text: String::from_utf8_lossy(shown.trim_ascii_end()).into_owned() });
    for byte in blanked[at..at + length].iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(comments: &[Comment]) -> Vec<(usize, &str)> {
        comments.iter().map(|comment| (comment.line, comment.text.as_str())).collect()
    }

    #[test]
    fn comments_in_json_go_and_strings_stay() {
        let text = b"// a\n{\"b//c\": \"\\\"#\", # d\n /* e\n f */ \"g\": 1}";
        let (blanked, comments) = json(text);
        assert_eq!(lines(&comments), [(1, "// a"), (2, "# d"), (3, "/* e")]);
        let value: serde_json::Value = serde_json::from_slice(&blanked).unwrap();
        assert_eq!(value, serde_json::json!({"b//c": "\"#", "g": 1}));
    }

    #[test]
    fn comments_in_a_profile_go_and_paths_stay() {
        let text = b"// a\n file, // b\n //srv/x r,\n//c\n deny /a//b r,# // c\n;d\n";
        let (blanked, comments) = apparmor(text);
        assert_eq!(lines(&comments), [(1, "// a"), (2, "// b"), (4, "//c"), (6, ";d")]);
        assert!(blanked.windows(9).any(|part| part == b"deny /a//"));
    }

    proptest! {
        #[test]
        fn lengths_and_lines_stay(text in proptest::collection::vec(proptest::sample::select(b"/#*\"\\;, \na{".to_vec()), 0..64)) {
            for blank in [json, apparmor] {
                let (blanked, _) = blank(&text);
                prop_assert_eq!(blanked.len(), text.len());
                let ends = |text: &[u8]| text.iter().map(|byte| *byte == b'\n').collect::<Vec<_>>();
                prop_assert_eq!(ends(&blanked), ends(&text));
            }
        }
    }
}
