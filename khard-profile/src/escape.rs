//! Owns how a workload's bytes are shown: one function per sink. Knows nothing about what they mean.

use std::fmt::Write;

/// For a terminal or a log: nothing in it moves the cursor, changes colours or reorders what is around it.
///
/// Printable characters stay; a backslash is doubled, every other byte is `\xNN`, every other character `\u{NNNN}`.
pub fn terminal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if is_plain(c) => text.push(c),
                // Writing to a String cannot fail.
                c if c.is_ascii() => drop(write!(text, "\\x{:02x}", u32::from(c))),
                c => drop(write!(text, "\\u{{{:x}}}", u32::from(c))),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// For Markdown: a code span, in which nothing is markup, link or HTML. It holds in a cell of a table too.
///
/// The two characters that could end it, a backtick and a table's bar, are `\x60` and `\x7c`; the rest is as for
/// [`terminal`].
pub fn markdown(bytes: &[u8]) -> String {
    let text = terminal(bytes).replace('`', "\\x60").replace('|', "\\x7c");
    // A code span cannot be empty, and loses one space at each end.
    if text.trim().is_empty() { format!("`\"{text}\"`") } else { format!("`{text}`") }
}

/// For a command that a person may copy to a shell: one word, whatever is in it.
///
/// What [`terminal`] would change cannot be copied from a terminal; such a word is quoted as it would be shown.
pub fn shell(bytes: &[u8]) -> String {
    let text = terminal(bytes);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// For YAML: a quoted scalar that every reader takes for exactly this string, whatever is in it.
///
/// What reads as itself stays, so that nothing hides in a file that people review; the rest is an escape of YAML 1.2's double-quoted
/// style (5.7), which YAML 1.1 has too.
pub fn yaml(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // YAML's readers refuse the two at the end as they are.
            c if is_plain(c) && !matches!(c, '\u{fffe}' | '\u{ffff}') => quoted.push(c),
            // Writing to a String cannot fail.
            c if u32::from(c) <= 0xff => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c if u32::from(c) <= 0xffff => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => drop(write!(quoted, "\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// For the inside of a quoted string in an AppArmor profile: every byte stands for itself, none is a glob, a variable or
/// an end of the string.
///
/// Letters, digits and `_./-` stay; every other byte is `\ooo` with three octal digits, which the parser decodes as a
/// literal in paths, labels and types alike (seen with `-D rule-exprs`, 3.0.8).
pub fn apparmor(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"_./-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text
}

/// Printable and in reading order. Control characters include C1; the rest are the format characters that reorder, join
/// or hide (Unicode `Bidi_Control`, zero width, tags), and separators that break a line.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_are_shown_and_names_stay_readable() {
        assert_eq!(terminal(b"nginx: worker \xc3\xa9"), "nginx: worker é");
        assert_eq!(terminal(b"\x1b[31mred\xff\\"), "\\x1b[31mred\\xff\\\\");
        assert_eq!(terminal("a\u{202e}b\u{9b}".as_bytes()), "a\\u{202e}b\\u{9b}");
    }

    #[test]
    fn markup_is_shown_as_text() {
        assert_eq!(markdown(b"a|b`*<img>\n"), "`a\\x7cb\\x60*<img>\\x0a`");
        assert_eq!(markdown(b""), "`\"\"`");
    }

    #[test]
    fn a_shell_gets_one_word() {
        assert_eq!(shell(b"profiles-out/web/nginx"), "profiles-out/web/nginx");
        assert_eq!(shell(b"a b; rm 'x'"), r"'a b; rm '\''x'\'''");
        assert_eq!([shell(b""), shell(b"--x=y")], ["''", "--x=y"]);
    }

    #[test]
    fn a_yaml_scalar_is_quoted_and_hides_nothing() {
        assert_eq!(yaml("web: #é"), "\"web: #é\"");
        assert_eq!(yaml("a\"b\\\n\u{85}\u{202e}\u{e0001}"), r#""a\"b\\\x0a\x85\u202e\U000e0001""#);
    }

    #[test]
    fn an_apparmor_string_holds_its_bytes() {
        assert_eq!(apparmor(b"/a-b_c.d/9"), "/a-b_c.d/9");
        assert_eq!(apparmor(b"\"*@{x}\n,#\\\xff"), r"\042\052\100\173x\175\012\054\043\134\377");
    }

    proptest! {
        #[test]
        fn a_terminal_gets_no_control_character(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(terminal(&bytes).chars().all(is_plain));
        }

        #[test]
        fn different_bytes_look_different(a in ".{0,12}", b in proptest::collection::vec(any::<u8>(), 0..12)) {
            prop_assert_eq!(terminal(a.as_bytes()) == terminal(&b), a.as_bytes() == b.as_slice());
        }

        #[test]
        fn a_code_span_ends_at_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let shown = markdown(&bytes);
            let inside = shown.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).unwrap();
            prop_assert!(!inside.is_empty() && !inside.contains(['`', '|', '\n']));
        }
    }
}
