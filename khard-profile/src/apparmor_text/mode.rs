//! Owns the mode of a profile: what becomes of what it does not allow, and how a text is given another one. Changes nothing
//! else in the text.

use std::ops::Range;

use serde::Serialize;

use super::{ProfileTextError, parse};

/// What the kernel does with what a profile does not allow (security/apparmor/include/policy.h, Linux 6.12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is logged, and allowed.
    Complain,
    /// It is refused, and its task killed.
    Kill,
    /// It is allowed.
    Unconfined,
    /// A program in user space is asked.
    Prompt,
    /// It is allowed, by a profile that has rules.
    DefaultAllow,
}

/// Each mode with its flag in a text.
const FLAGS: [(Mode, &str); 6] = [
    (Mode::Enforce, "enforce"),
    (Mode::Complain, "complain"),
    (Mode::Kill, "kill"),
    (Mode::Unconfined, "unconfined"),
    (Mode::Prompt, "prompt"),
    (Mode::DefaultAllow, "default_allow"),
];

impl Mode {
    /// The flag that asks for it.
    pub fn as_str(self) -> &'static str {
        FLAGS.iter().find(|(mode, _)| *mode == self).map_or("", |(_, flag)| flag)
    }

    /// As the kernel names it (`aa_profile_mode_names`, security/apparmor/policy.c, Linux 6.12): allowing by default is no mode
    /// there but rules.
    pub fn in_kernel(self) -> &'static str {
        match self {
            Self::Prompt => "user",
            Self::DefaultAllow => "enforce",
            mode => mode.as_str(),
        }
    }

    pub(super) fn of_flag(flag: &str) -> Option<Self> {
        FLAGS.iter().find(|(_, known)| *known == flag).map(|(mode, _)| *mode)
    }
}

/// The same text in another mode, its hats and child profiles too, as `apparmor_parser --Complain` has it. A profile that is in
/// this mode keeps its bytes; enforcing needs no flag.
///
/// # Errors
/// As [`parse`], and when the flags are written in a way that is not understood.
pub fn with_mode(text: &[u8], mode: Mode) -> Result<Vec<u8>, ProfileTextError> {
    let mut heads: Vec<_> = parse(text)?.into_iter().flat_map(|profile| profile.heads).collect();
    heads.sort_by_key(|head| std::cmp::Reverse(head.start));
    let mut text = text.to_vec();
    for head in heads {
        let changed = head_with_mode(&text[head.clone()], mode);
        text.splice(head, changed);
    }
    match parse(&text)?.iter().find(|profile| profile.flags.mode != mode) {
        None => Ok(text),
        Some(profile) => Err(ProfileTextError::Bad {
            line: profile.line,
            problem: "its mode cannot be changed: write its flags as flags=(…) before the {".to_owned(),
        }),
    }
}

/// A head is what stands before `{`: `profile NAME [/attachment] [xattrs=(…)] [flags=(…)]`.
fn head_with_mode(head: &[u8], mode: Mode) -> Vec<u8> {
    let flag = Some(mode.as_str()).filter(|_| mode != Mode::Enforce);
    let Some(list) = flag_list(head) else {
        let blank = if head.last().is_some_and(u8::is_ascii_whitespace) { "" } else { " " };
        let flags = flag.map(|flag| format!("{blank}flags=({flag}) ")).unwrap_or_default();
        return [head, flags.as_bytes()].concat();
    };
    let inside = String::from_utf8_lossy(&head[list.words.clone()]).into_owned();
    let words =
        || inside.split(|c: char| c.is_ascii_whitespace() || c == ',').filter(|word| !word.is_empty());
    let of_word = |word: &str| Mode::of_flag(word.trim_matches('"'));
    // The last one counts.
    if words().filter_map(of_word).next_back().unwrap_or_default() == mode {
        return head.to_vec();
    }
    let kept: Vec<_> = words().filter(|word| of_word(word).is_none()).chain(flag).collect();
    if kept.is_empty() {
        // A list cannot be empty.
        let after = head[list.whole.end..].trim_ascii_start();
        return [&head[..list.whole.start], after].concat();
    }
    let (before, after) = (&head[..list.words.start], &head[list.words.end..]);
    [before, kept.join(",").as_bytes(), after].concat()
}

struct FlagList {
    /// With its key, if it has one.
    whole: Range<usize>,
    /// Between the parentheses.
    words: Range<usize>,
}

/// The list of flags in a head, which the parser has taken already: `flags=(…)`, or the older `(…)`.
fn flag_list(head: &[u8]) -> Option<FlagList> {
    let mut at = 0;
    while let Some(byte) = head.get(at) {
        let until =
            |end: u8| head[at + 1..].iter().position(|byte| *byte == end).map(|length| at + 1 + length);
        match byte {
            b'\\' => at += 1,
            b'"' => at = until(b'"')?,
            b'#' => at = until(b'\n')?,
            // Else it is part of a name.
            b'(' if at == 0 || head[at - 1].is_ascii_whitespace() || head[at - 1] == b'=' => {
                let words = at + 1..until(b')')?;
                let key = head[..at].trim_ascii_end().strip_suffix(b"=").map(<[u8]>::trim_ascii_end);
                let start = match key.map(|key| key.strip_suffix(b"flags")) {
                    None => Some(at),
                    Some(before) => before.map(<[u8]>::len),
                };
                if let Some(start) = start {
                    return Some(FlagList { whole: start..words.end + 1, words });
                }
                at = words.end;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::ParsedProfile;
    use super::*;

    fn changed(text: &str, mode: Mode) -> String {
        let text = String::from_utf8(with_mode(text.as_bytes(), mode).unwrap()).unwrap();
        for profile in parse(text.as_bytes()).unwrap() {
            assert_eq!(profile.flags.mode, mode, "{text}");
        }
        text
    }

    #[test]
    fn a_mode_is_a_flag_beside_the_others_and_enforcing_is_none() {
        for (enforce, complain) in [
            ("profile x {\n}\n", "profile x flags=(complain) {\n}\n"),
            ("profile x flags=(audit) {\n}\n", "profile x flags=(audit,complain) {\n}\n"),
            ("/usr/bin/x(y) { }", "/usr/bin/x(y) flags=(complain) { }"),
            ("profile x # flags=(audit)\n{ }", "profile x # flags=(audit)\nflags=(complain) { }"),
        ] {
            assert_eq!(changed(enforce, Mode::Complain), complain);
        }
        for (complain, enforce) in [
            ("profile x flags=(complain) {\n}\n", "profile x {\n}\n"),
            ("profile x flags = ( audit, complain ) {\n}\n", "profile x flags = (audit) {\n}\n"),
            ("/usr/bin/x (kill) { }", "/usr/bin/x { }"),
            (
                "profile \"x flags=(a\" /y xattrs=(a=b) flags=(complain) { }",
                "profile \"x flags=(a\" /y xattrs=(a=b) { }",
            ),
        ] {
            assert_eq!(changed(complain, Mode::Enforce), enforce);
            assert_eq!(changed(enforce, Mode::Enforce), enforce, "nothing to change");
            assert_eq!(
                with_mode(complain.as_bytes(), parse(complain.as_bytes()).unwrap()[0].flags.mode).unwrap(),
                complain.as_bytes()
            );
        }
    }

    #[test]
    fn every_profile_of_a_text_is_changed_and_no_rule() {
        let text = "@{A}=/a\nprofile x {\n  signal set=(term),\n  profile y flags=(complain) { }\n  ^z { }\n}\nprofile v { }\n";
        let all = changed(text, Mode::Complain);
        assert_eq!(all.matches("flags=(complain) {").count(), 4, "{all}");
        assert!(all.contains("signal set=(term),"), "{all}");
        assert_eq!(changed(&all, Mode::Enforce), text.replace("flags=(complain) ", ""));
    }

    #[test]
    fn the_kernel_has_names_of_its_own() {
        let in_kernel = |text: &str| ParsedProfile::parse(text.as_bytes()).unwrap().flags.mode.in_kernel();
        assert_eq!(in_kernel("profile x { }"), "enforce");
        assert_eq!(in_kernel("profile x flags=(complain) { }"), "complain");
        assert_eq!(in_kernel("profile x flags=(kill) { }"), "kill");
        assert_eq!(in_kernel("profile x flags=(prompt) { }"), "user");
        assert_eq!(in_kernel("profile x flags=(default_allow) { }"), "enforce");
    }
}
