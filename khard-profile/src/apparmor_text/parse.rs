//! Owns the structure of a profile's text: what stands before profiles, their heads, blocks, hats and includes. Knows nothing
//! about what single rules mean.

use super::glob::Variables;
use super::lex::{End, Lexer, Statement, Token, Word};
use super::rule::{self, Qualifiers, Scopes};
use super::{
    CHANGES_ON_EXEC, Exec, Flags, Mode, ParsedProfile, ProfileTextError, RuleKind, Unjudged, tunables,
};
use crate::escape;

/// Blocks within blocks.
const MAX_DEPTH: usize = 32;

#[derive(Default)]
struct Preamble {
    variables: Variables,
    abi: Option<String>,
    unjudged: Vec<Unjudged>,
    /// Values of AppArmor's own variables are taken from its release.
    includes_tunables: bool,
    /// An include that is not read: it may define variables.
    includes_unknown: bool,
}

/// Every profile of a text.
pub(super) fn text(text: &[u8]) -> Result<Vec<ParsedProfile>, ProfileTextError> {
    let mut lexer = Lexer::new(text);
    let mut preamble = Preamble::default();
    let mut profiles = Vec::new();
    loop {
        lexer.skip_space();
        match lexer.rest() {
            [] => return Ok(profiles),
            [b'@', b'{', ..] => variable(&mut lexer, &mut preamble)?,
            [b'$', ..] => {
                return Err(lexer.bad("conditions and their variables ($) are not understood: remove them"));
            }
            _ if at_include(&mut lexer) => {
                let (line, include) = include(&mut lexer)?;
                if tunables::include(&include.name, &mut preamble.variables) {
                    preamble.includes_tunables = true;
                } else {
                    preamble.includes_unknown = true;
                    preamble.unjudged.push(Unjudged { line, what: include.what.into(), may_grant: false });
                }
            }
            _ if lexer.take_keyword("abi") => preamble.abi = Some(abi(&mut lexer)?),
            _ => {
                let statement = lexer.statement()?;
                if statement.end == End::Comma {
                    alias(&statement, &mut preamble)?;
                } else {
                    profiles.push(profile(&mut lexer, &statement, &preamble, 0)?);
                }
            }
        }
    }
}

fn at_include(lexer: &mut Lexer<'_>) -> bool {
    (lexer.at_include() && lexer.take("#include")) || lexer.take_keyword("include")
}

struct Include {
    /// What stands between the brackets or quotes.
    name: String,
    /// In words.
    what: String,
}

/// After its keyword.
fn include(lexer: &mut Lexer<'_>) -> Result<(usize, Include), ProfileTextError> {
    let line = lexer.line;
    let bad =
        || ProfileTextError::Bad { line, problem: "expected include <file> or include \"file\"".to_owned() };
    lexer.skip_blanks();
    if lexer.take_keyword("if") {
        lexer.skip_blanks();
        if !lexer.take_keyword("exists") {
            return Err(bad());
        }
        lexer.skip_blanks();
    }
    let rest = lexer.line_rest();
    let (rest, close) = match rest {
        [b'<', rest @ ..] => (rest, b'>'),
        [b'"', rest @ ..] => (rest, b'"'),
        _ => return Err(bad()),
    };
    let end = rest.iter().position(|byte| *byte == close).ok_or_else(bad)?;
    let name = &rest[..end];
    let what = format!("it includes {}, which is not read here", escape::terminal(name));
    Ok((line, Include { name: String::from_utf8_lossy(name).into_owned(), what }))
}

/// `abi <abi/3.0>,` → `3.0`.
fn abi(lexer: &mut Lexer<'_>) -> Result<String, ProfileTextError> {
    let bad = lexer.bad("expected abi <abi/3.0>, with a comma");
    lexer.skip_space();
    let rest = lexer.line_rest();
    let (rest, close) = match rest {
        [b'<', rest @ ..] => (rest, b'>'),
        [b'"', rest @ ..] => (rest, b'"'),
        _ => return Err(bad),
    };
    let Some(end) = rest.iter().position(|byte| *byte == close) else { return Err(bad) };
    if rest[end + 1..].trim_ascii_start().first() != Some(&b',') {
        return Err(bad);
    }
    let name = String::from_utf8_lossy(&rest[..end]).into_owned();
    Ok(name.rsplit('/').next().unwrap_or_default().to_owned())
}

/// `@{NAME} = values` or `+=`, to the end of the line.
fn variable(lexer: &mut Lexer<'_>, preamble: &mut Preamble) -> Result<(), ProfileTextError> {
    let bad = lexer.bad("expected @{name}=values, on one line");
    lexer.take("@{");
    let rest = lexer.rest();
    let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let name = rest[..length].to_vec();
    lexer.take(&String::from_utf8_lossy(&name));
    if length == 0 || !lexer.take("}") {
        return Err(bad);
    }
    lexer.skip_blanks();
    let adds = lexer.take("+=");
    if !adds && !lexer.take("=") {
        return Err(bad);
    }
    let mut values = Vec::new();
    loop {
        lexer.skip_blanks();
        match lexer.rest() {
            [] | [b'\n' | b'#', ..] => break,
            [b'\\', b'\n', ..] => drop(lexer.take("\\\n")),
            [b'"', ..] => values.push(lexer.quoted()?.text),
            _ => match lexer.unquoted(false, b"")? {
                Word { text, .. } if text.is_empty() => return Err(bad),
                Word { text, .. } => values.push(text),
            },
        }
    }
    let shown = escape::terminal(&name);
    match (preamble.variables.get_mut(&name), adds) {
        _ if values.is_empty() => return Err(bad),
        (Some(_), false) => {
            return Err(lexer.bad(format!("the variable @{{{shown}}} has a value already: add with +=")));
        }
        (None, true) if !preamble.includes_unknown => {
            return Err(lexer.bad(format!("the variable @{{{shown}}} has no value to add to")));
        }
        // Its other values are not known: it stays unknown.
        (None, true) => {}
        (Some(known), true) => known.extend(values),
        (None, false) => drop(preamble.variables.insert(name, values)),
    }
    Ok(())
}

/// `alias /a/ -> /b/,`.
fn alias(statement: &Statement, preamble: &mut Preamble) -> Result<(), ProfileTextError> {
    match statement.tokens.as_slice() {
        [Token::Word(word), Token::Word(_), Token::Arrow, Token::Word(_)] if word.plain() == "alias" => {
            let what = "an alias gives its rules more paths".into();
            preamble.unjudged.push(Unjudged { line: statement.line, what, may_grant: true });
            Ok(())
        }
        _ => Err(ProfileTextError::Bad {
            line: statement.line,
            problem: "a rule stands outside of a profile".to_owned(),
        }),
    }
}

/// The head of a profile or of a hat.
struct Head {
    name: Vec<u8>,
    flags: Flags,
    attaches: bool,
}

fn head(statement: &Statement, is_inner: bool) -> Result<Head, ProfileTextError> {
    let bad = |problem: String| ProfileTextError::Bad { line: statement.line, problem };
    let expected = || bad("expected profile NAME [/attachment] [flags=(…)] {".to_owned());
    let (named, tokens) = match statement.tokens.as_slice() {
        [Token::Word(word), rest @ ..] if matches!(word.plain(), "profile" | "hat") => (true, rest),
        tokens => (false, tokens),
    };
    let [Token::Word(name), rest @ ..] = tokens else { return Err(expected()) };
    let by_itself =
        name.text.starts_with(b"^") || (!is_inner && (name.is_path() || name.text.starts_with(b":")));
    if !named && !by_itself {
        return Err(bad(format!(
            "{} begins no block: {}",
            name.shown(),
            "blocks are profiles, hats, audit, allow and owner"
        )));
    }
    let mut flags = Flags::default();
    let mut attaches = !is_inner && name.text.starts_with(b"/");
    for (place, token) in rest.iter().enumerate() {
        match token {
            Token::Word(word) if place == 0 && word.is_path() => attaches = true,
            Token::Condition { key, values, .. } if key == "flags" => {
                set_flags(&mut flags, values).map_err(bad)?;
            }
            Token::List(values) => set_flags(&mut flags, values).map_err(bad)?,
            Token::Condition { key, .. } if key == "xattrs" => {}
            _ => return Err(expected()),
        }
    }
    Ok(Head { name: name.text.clone(), flags, attaches })
}

fn set_flags(flags: &mut Flags, words: &[Word]) -> Result<(), String> {
    for word in words {
        let name = String::from_utf8_lossy(&word.text);
        match name.split('=').next().unwrap_or_default() {
            "attach_disconnected" => flags.attach_disconnected = true,
            "mediate_deleted" => flags.mediate_deleted = true,
            "complain" | "unconfined" | "default_allow" => {
                flags.mode = Mode::of_flag(&name).unwrap_or_default();
                flags.lenient = Some(name.into_owned());
            }
            "enforce" | "kill" | "prompt" => flags.mode = Mode::of_flag(&name).unwrap_or_default(),
            "chroot_relative" | "chroot_attach" | "attach_disconnected.path" => {
                flags.unjudged.push(name.into_owned());
            }
            "audit"
            | "debug"
            | "hat"
            | "no_attach_disconnected"
            | "chroot_no_attach"
            | "namespace_relative"
            | "delegate_deleted"
            | "interruptible"
            | "error"
            | "kill.signal" => {}
            _ => return Err(format!("unknown flag {}", word.shown())),
        }
    }
    Ok(())
}

fn profile(
    lexer: &mut Lexer<'_>,
    statement: &Statement,
    preamble: &Preamble,
    depth: usize,
) -> Result<ParsedProfile, ProfileTextError> {
    let Head { name, flags, attaches } = head(statement, depth > 0)?;
    let mut variables = preamble.variables.clone();
    variables.insert(b"profile_name".to_vec(), vec![name.clone()]);
    let mut profile = ParsedProfile {
        name: name.into(),
        line: statement.line,
        heads: std::iter::once(statement.start..statement.start + statement.text.len()).collect(),
        abi: preamble.abi.clone(),
        attaches,
        flags,
        rules: Vec::new(),
        unjudged: preamble.unjudged.clone(),
        includes: Vec::new(),
        inner: Vec::new(),
    };
    if preamble.includes_tunables {
        let what = "the variables of <tunables/…> are taken as AppArmor ships them".into();
        profile.unjudged.push(Unjudged { line: 0, what, may_grant: false });
    }
    let context = Context {
        preamble,
        scopes: Scopes { variables: &variables, more_variables: preamble.includes_unknown },
    };
    body(lexer, &mut profile, Qualifiers::default(), &context, depth)?;
    let changes = profile.rules.iter().find(
        |rule| matches!(&rule.kind, RuleKind::File(file) if file.exec == Some(Exec::Other) && !rule.deny),
    );
    if let Some(rule) = changes {
        let what = CHANGES_ON_EXEC.into();
        profile.unjudged.push(Unjudged { line: rule.line, what, may_grant: false });
    }
    Ok(profile)
}

struct Context<'a> {
    preamble: &'a Preamble,
    scopes: Scopes<'a>,
}

/// Up to the `}` of the block.
fn body(
    lexer: &mut Lexer<'_>,
    profile: &mut ParsedProfile,
    qualifiers: Qualifiers,
    context: &Context<'_>,
    depth: usize,
) -> Result<(), ProfileTextError> {
    if depth > MAX_DEPTH {
        return Err(lexer.bad("blocks are nested too deep"));
    }
    loop {
        lexer.skip_space();
        if lexer.take("}") {
            return Ok(());
        }
        if lexer.rest().is_empty() {
            return Err(lexer.bad("the profile has no } at its end"));
        }
        if at_include(lexer) {
            let (line, include) = include(lexer)?;
            profile.unjudged.push(Unjudged { line, what: include.what.into(), may_grant: true });
            profile.includes.push(include.name);
            continue;
        }
        let mut statement = lexer.statement()?;
        if statement.end == End::Comma {
            profile.rules.push(rule::rule(statement, qualifiers, context.scopes)?);
            continue;
        }
        let line = statement.line;
        let of_block = rule::qualifiers(&mut statement.tokens, qualifiers)
            .map_err(|problem| ProfileTextError::Bad { line, problem })?;
        if statement.tokens.is_empty() {
            if of_block.deny {
                return Err(ProfileTextError::Bad { line, problem: "deny is for single rules".to_owned() });
            }
            body(lexer, profile, of_block, context, depth + 1)?;
        } else {
            let child = self::profile(lexer, &statement, context.preamble, depth + 1)?;
            profile.heads.extend(child.heads);
            let what =
                format!("the hat or child profile {} is not judged", escape::terminal(child.name.as_slice()));
            profile.unjudged.push(Unjudged { line, what: what.into(), may_grant: false });
            profile.inner.push(child.name);
        }
    }
}
