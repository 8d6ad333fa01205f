//! Owns the words of a profile: where they begin and end. Knows nothing about what they mean.
//!
//! As `parser_lex.l` of `apparmor_parser` 3.0.8, in the one state that matters: between rules, and in them.

use super::ProfileTextError;
use super::glob::{PatternError, decode};
use crate::escape;

/// A word with its escapes decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: Vec<u8>,
    pub(super) quoted: bool,
}

impl Word {
    /// As a keyword; quoted words are none.
    pub(super) fn plain(&self) -> &str {
        if self.quoted { "" } else { std::str::from_utf8(&self.text).unwrap_or_default() }
    }

    /// True if it can be a path: those begin with a slash or a variable.
    pub(super) fn is_path(&self) -> bool {
        self.text.starts_with(b"/") || self.text.starts_with(b"@")
    }

    pub(super) fn shown(&self) -> String {
        format!("\"{}\"", escape::terminal(&self.text))
    }
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// `key=value`, `key=(values)`, `key in (values)`.
    Condition {
        key: String,
        is_in: bool,
        values: Vec<Word>,
    },
    /// `(words)`.
    List(Vec<Word>),
    /// `->`.
    Arrow,
}

/// How a rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Comma,
    Block,
}

/// What stands at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) line: usize,
    /// Its first byte in the whole text.
    pub(super) start: usize,
    /// As written.
    pub(super) text: Vec<u8>,
    pub(super) tokens: Vec<Token>,
    pub(super) end: End,
}

/// A place in a text.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    pub(super) line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    pub(super) fn bad(&self, problem: impl Into<String>) -> ProfileTextError {
        ProfileTextError::Bad { line: self.line, problem: problem.into() }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn advance(&mut self, n_bytes: usize) -> &'a [u8] {
        let taken = &self.text[self.at..self.at + n_bytes];
        self.line += taken.split(|byte| *byte == b'\n').count() - 1;
        self.at += n_bytes;
        taken
    }

    /// Takes what stands here, if it does.
    pub(super) fn take(&mut self, literal: &str) -> bool {
        let found = self.rest().starts_with(literal.as_bytes());
        if found {
            self.advance(literal.len());
        }
        found
    }

    /// Takes a keyword, which nothing but white space or the start of a name may follow.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        let follows = self.rest().strip_prefix(keyword.as_bytes()).and_then(<[u8]>::first);
        let found = follows.is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b'<' | b'"'));
        if found {
            self.advance(keyword.len());
        }
        found
    }

    /// Blanks on this line.
    pub(super) fn skip_blanks(&mut self) {
        let length = self.rest().iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r')).count();
        self.advance(length);
    }

    /// The rest of the line, without its end.
    pub(super) fn line_rest(&mut self) -> &'a [u8] {
        let length = self.rest().iter().take_while(|byte| **byte != b'\n').count();
        self.advance(length)
    }

    /// White space and comments. An `#include` is no comment.
    pub(super) fn skip_space(&mut self) {
        loop {
            let length = self.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.advance(length);
            if self.peek() != Some(b'#') || self.at_include() {
                return;
            }
            self.line_rest();
        }
    }

    /// True before `#include`.
    pub(super) fn at_include(&self) -> bool {
        let after = self.rest().strip_prefix(b"#include").and_then(<[u8]>::first);
        after.is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b'<' | b'"'))
    }

    /// A quoted string, from its first quote: to the first quote without a backslash before it, or, where the text has none any
    /// more, to the last one with a backslash (flex takes the longest match).
    pub(super) fn quoted(&mut self) -> Result<Word, ProfileTextError> {
        let rest = &self.rest()[1..];
        let rest = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        let quotes = || rest.iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at);
        let plain = quotes().find(|at| *at == 0 || rest[at - 1] != b'\\');
        let Some(end) = plain.or_else(|| quotes().next_back()) else {
            return Err(self.bad("a quote is not closed"));
        };
        let word = self.word(&rest[..end], true)?;
        self.advance(end + 2);
        Ok(word)
    }

    fn word(&self, raw: &[u8], quoted: bool) -> Result<Word, ProfileTextError> {
        let text = decode(raw).map_err(|error| match error {
            PatternError::Bad(problem)
            | PatternError::Unjudged(problem)
            | PatternError::Variable(problem) => {
                self.bad(format!("\"{}\": {problem}", escape::terminal(raw)))
            }
        })?;
        Ok(Word { text, quoted })
    }

    /// A word without quotes. A comma ends it where nothing of a word follows, or at once if it is a mere `keyword`.
    pub(super) fn unquoted(&mut self, keyword: bool, ends: &[u8]) -> Result<Word, ProfileTextError> {
        let rest = self.rest();
        let is_end = |byte: Option<&u8>| {
            byte.is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'!' | b',' | 0))
        };
        let mut length = 0;
        while let Some(byte) = rest.get(length) {
            match byte {
                b'\\' if matches!(rest.get(length + 1), Some(b' ' | b'\t' | b'"' | b'!' | b',')) => {
                    length += 2;
                }
                // What follows the comma is taken as it is, a backslash too.
                b',' if !keyword && !is_end(rest.get(length + 1)) => length += 2,
                _ if is_end(Some(byte)) || ends.contains(byte) => break,
                _ => length += 1,
            }
        }
        if let Some(byte @ (b'"' | b'!' | 0)) = rest.get(length) {
            let shown = escape::terminal(&[*byte]);
            return Err(self.bad(format!("unexpected {shown}: names with it are written in quotes")));
        }
        let word = self.word(&rest[..length], false)?;
        self.advance(length);
        Ok(word)
    }

    /// The words of a list, after its `(`.
    fn list(&mut self) -> Result<Vec<Word>, ProfileTextError> {
        let mut words = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None => return Err(self.bad("a ( is not closed")),
                Some(b')') => {
                    self.advance(1);
                    return Ok(words);
                }
                Some(b',') => drop(self.advance(1)),
                Some(b'"') => words.push(self.quoted()?),
                Some(b'(') => return Err(self.bad("unexpected (")),
                Some(_) => words.push(self.unquoted(true, b"()")?),
            }
        }
    }

    /// The key of a condition here, and whether it is `in`; takes what stands before the value.
    fn condition(&mut self) -> Option<(String, bool)> {
        let rest = self.rest();
        let length = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'_').count();
        let key = String::from_utf8_lossy(&rest[..length]).into_owned();
        let blanks = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let after = length + blanks(&rest[length..]);
        if length == 0 {
            return None;
        }
        let (is_in, before_value) = if rest[after..].starts_with(b"=") {
            (false, after + 1)
        } else {
            let after_in = rest[after..].strip_prefix(b"in")?;
            let open = after + 2 + blanks(after_in);
            (true, Some(open).filter(|open| after > length && rest.get(*open) == Some(&b'('))?)
        };
        self.advance(before_value);
        self.skip_blanks();
        Some((key, is_in))
    }

    /// A rule or the head of a block, up to its comma or `{`.
    pub(super) fn statement(&mut self) -> Result<Statement, ProfileTextError> {
        let (line, start) = (self.line, self.at);
        let mut tokens = Vec::new();
        loop {
            self.skip_space();
            let text = || self.text[start..self.at].to_vec();
            let rest = self.rest();
            match rest {
                [] => {
                    return Err(ProfileTextError::Bad {
                        line,
                        problem: "a rule has no comma at its end".to_owned(),
                    });
                }
                [b',', ..] => {
                    let text = text();
                    self.advance(1);
                    return Ok(Statement { line, start, text, tokens, end: End::Comma });
                }
                [b'{', after, ..] if after.is_ascii_whitespace() || *after == b'}' || *after == b'#' => {
                    let text = text();
                    self.advance(1);
                    return Ok(Statement { line, start, text, tokens, end: End::Block });
                }
                [b'}', ..] => return Err(self.bad("a rule before this } has no comma at its end")),
                [b'-', b'>', ..] => {
                    self.advance(2);
                    tokens.push(Token::Arrow);
                }
                [b'(', ..] => {
                    self.advance(1);
                    let words = self.list()?;
                    tokens.push(Token::List(words));
                }
                [b'"', ..] => tokens.push(Token::Word(self.quoted()?)),
                _ => {
                    if let Some((key, is_in)) = self.condition() {
                        let values = match self.peek() {
                            Some(b'(') => {
                                self.advance(1);
                                self.list()?
                            }
                            Some(b'"') => vec![self.quoted()?],
                            _ => vec![self.unquoted(false, b"")?],
                        };
                        tokens.push(Token::Condition { key, is_in, values });
                        continue;
                    }
                    let keyword = rest[0].is_ascii_alphabetic() && tokens.last() != Some(&Token::Arrow);
                    let word = self.unquoted(keyword, b"")?;
                    if word.text.is_empty() {
                        return Err(self.bad(format!("unexpected {}", escape::terminal(&rest[..1]))));
                    }
                    tokens.push(Token::Word(word));
                }
            }
        }
    }
}
