//! Owns what a statement of a profile's body means as a rule. Knows nothing about how statements are found.

use std::collections::BTreeSet;

use super::glob::{Pattern, PatternError, Variables};
use super::lex::{Statement, Token, Word};
use super::mount::{MountRule, Options};
use super::names;
use super::{
    Exec, FileRule, LinkTo, ProfileTextError, PtracePerms, PtraceRule, Rule, RuleKind, Scope, SignalRule,
    Transition, Ways,
};
use crate::recording::FilePerms;

/// What stands before a rule, or before a block for all rules in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Qualifiers {
    pub(super) deny: bool,
    pub(super) owner: bool,
    /// `priority=` or `quiet`: rules that are compared with others in a way that is not judged.
    pub(super) unjudged: bool,
}

/// What a rule's words may refer to.
#[derive(Clone, Copy)]
pub(super) struct Scopes<'a> {
    pub(super) variables: &'a Variables,
    /// Some file is included before the profile that may define more of them.
    pub(super) more_variables: bool,
}

enum Problem {
    Bad(String),
    Unjudged(String),
}

impl From<PatternError> for Problem {
    fn from(error: PatternError) -> Self {
        match error {
            PatternError::Bad(problem) => Self::Bad(problem),
            PatternError::Unjudged(problem) => Self::Unjudged(problem),
            PatternError::Variable(name) => Self::Bad(format!("the variable {name} is not defined")),
        }
    }
}

fn bad<T>(problem: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Bad(problem.into()))
}

fn unjudged<T>(why: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Unjudged(why.into()))
}

/// Takes the qualifiers before a rule, in the one order that the parser takes.
pub(super) fn qualifiers(tokens: &mut Vec<Token>, of_block: Qualifiers) -> Result<Qualifiers, String> {
    let mut found = of_block;
    let mut last = 0;
    let mut count = 0;
    for token in tokens.iter() {
        let place = match token {
            Token::Condition { key, .. } if key == "priority" => 1,
            Token::Word(word) => match word.plain() {
                "quiet" => 1,
                "audit" => 2,
                "deny" | "allow" => 3,
                "owner" => 4,
                _ => break,
            },
            _ => break,
        };
        if place <= last {
            return Err("audit, deny or allow, and owner stand in this order, each once".to_owned());
        }
        match token {
            Token::Word(word) if word.plain() == "deny" => found.deny = true,
            Token::Word(word) if word.plain() == "owner" => found.owner = true,
            _ if place == 1 => found.unjudged = true,
            _ => {}
        }
        last = place;
        count += 1;
    }
    tokens.drain(..count);
    Ok(found)
}

/// The rule that a statement is.
pub(super) fn rule(
    statement: Statement,
    of_block: Qualifiers,
    scopes: Scopes<'_>,
) -> Result<Rule, ProfileTextError> {
    let Statement { line, text, mut tokens, .. } = statement;
    let error = |problem: String| ProfileTextError::Bad { line, problem };
    let qualifiers = qualifiers(&mut tokens, of_block).map_err(error)?;
    let (scope, is_file) = scope(&tokens).map_err(error)?;
    if qualifiers.owner && !is_file {
        return Err(error("owner is for file rules only".to_owned()));
    }
    let result = if qualifiers.unjudged {
        unjudged("priorities and quiet rules are not judged")
    } else {
        kind(&tokens, qualifiers.deny, scopes)
    };
    let kind = match result {
        Ok(kind) => kind,
        Err(Problem::Bad(problem)) => return Err(error(problem)),
        Err(Problem::Unjudged(why)) => RuleKind::Unjudged { scope, why },
    };
    let written = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let text = written.collect::<Vec<_>>().join(&b' ').into();
    Ok(Rule { line, text, deny: qualifiers.deny, owner: qualifiers.owner, kind })
}

/// What a rule is about by its first word, and whether it is a file rule.
fn scope(tokens: &[Token]) -> Result<(Scope, bool), String> {
    let Some(Token::Word(word)) = tokens.first() else {
        return Err("expected a rule".to_owned());
    };
    Ok(match word.plain() {
        "file" | "link" | "safe" | "unsafe" => (Scope::File, true),
        "capability" | "dbus" | "mqueue" | "change_profile" | "set" => (Scope::Other, false),
        // With a path after it these are permissions.
        "all" if tokens.len() == 1 => (Scope::Other, false),
        "network" | "unix" => (Scope::Network, false),
        "signal" => (Scope::Signal, false),
        "ptrace" => (Scope::Ptrace, false),
        "mount" | "remount" | "umount" | "unmount" | "pivot_root" => (Scope::Mount, false),
        "userns" => (Scope::UserNamespaces, false),
        "io_uring" => (Scope::IoUring, false),
        "if" => return Err("conditions (if) are not understood: remove them".to_owned()),
        _ if word.is_path() || is_perms(word) => (Scope::File, true),
        _ => return Err(format!("unknown rule {}: expected a path, permissions or a keyword", word.shown())),
    })
}

fn kind(tokens: &[Token], deny: bool, scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    let keyword = match tokens.first() {
        Some(Token::Word(word)) => word.plain(),
        _ => "",
    };
    let rest = tokens.get(1..).unwrap_or_default();
    match keyword {
        "file" if rest.is_empty() => Ok(RuleKind::File(every_file())),
        "file" => file(rest, deny, scopes),
        "link" => link(rest, scopes),
        "capability" => capability(rest),
        "network" => network(rest),
        "unix" if rest.is_empty() => Ok(RuleKind::Network(vec![(Some(1), None)])),
        "unix" => unjudged("unix rules with details are not judged"),
        "signal" => signal(rest, scopes),
        "ptrace" => ptrace(rest, scopes),
        "mount" => mount(rest, 0, scopes),
        "remount" => mount(rest, names::ms::REMOUNT, scopes),
        "umount" | "unmount" => umount(rest, scopes),
        "pivot_root" => pivot_root(rest, scopes),
        "userns" => match words(rest)?.as_slice() {
            [] | ["create"] => Ok(RuleKind::UserNamespaces),
            _ => bad("expected userns or userns create"),
        },
        "io_uring" => io_uring(rest),
        "all" if rest.is_empty() => Ok(RuleKind::All),
        "dbus" | "mqueue" | "change_profile" | "set" => Ok(RuleKind::Other),
        _ => file(tokens, deny, scopes),
    }
}

fn every_file() -> FileRule {
    let perms = FilePerms::READ.or(FilePerms::WRITE).or(FilePerms::APPEND).or(FilePerms::LOCK);
    FileRule {
        path: None,
        perms: perms.or(FilePerms::EXEC).or(FilePerms::MMAP_EXEC),
        link: Some(LinkTo { target: None, subset: true }),
        exec: Some(Exec::Inherit),
        transition: None,
    }
}

fn pattern(word: &Word, is_path: bool, scopes: Scopes<'_>) -> Result<Pattern, Problem> {
    let made = if is_path { Pattern::path } else { Pattern::plain };
    made(&word.text, scopes.variables).map_err(|error| match error {
        PatternError::Variable(name) if scopes.more_variables => {
            Problem::Unjudged(format!("the value of {name} is in a file that is included and not read"))
        }
        PatternError::Bad(problem) => Problem::Bad(format!("{}: {problem}", word.shown())),
        other => other.into(),
    })
}

fn path(word: &Word, scopes: Scopes<'_>) -> Result<Pattern, Problem> {
    if !word.is_path() {
        return bad(format!("{} is no path: paths begin with / or a variable", word.shown()));
    }
    pattern(word, true, scopes)
}

/// Words only, unquoted.
fn words(tokens: &[Token]) -> Result<Vec<&str>, Problem> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            Token::Word(word) => found.push(word.plain()),
            _ => return bad("expected words only"),
        }
    }
    Ok(found)
}

fn is_perms(word: &Word) -> bool {
    let letters = word.plain();
    !letters.is_empty() && letters.bytes().all(|letter| b"rwalkmxipcu".contains(&letter.to_ascii_lowercase()))
}

struct Letters {
    perms: FilePerms,
    link: bool,
    exec: Option<Exec>,
    /// As it is written.
    mode: String,
}

/// The letters of a file rule (`parse_sub_perms`, `parser_misc.c`).
fn perms(word: &Word, deny: bool) -> Result<Letters, Problem> {
    let mut found = Letters { perms: FilePerms::EMPTY, link: false, exec: None, mode: String::new() };
    let mut exec: Option<String> = None;
    let text = word.plain().to_ascii_lowercase();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            'r' => found.perms = found.perms.or(FilePerms::READ),
            'w' => found.perms = found.perms.or(FilePerms::WRITE),
            'a' => found.perms = found.perms.or(FilePerms::APPEND),
            'k' => found.perms = found.perms.or(FilePerms::LOCK),
            'm' => found.perms = found.perms.or(FilePerms::MMAP_EXEC),
            'l' => found.link = true,
            _ => {
                let mut mode = letter.to_string();
                while !mode.ends_with('x') {
                    match letters.next_if(|next| "ipcux".contains(*next)) {
                        Some(next) => mode.push(next),
                        None => return bad(format!("{}: an exec mode has no x", word.shown())),
                    }
                }
                if exec.as_ref().is_some_and(|other| *other != mode) {
                    return bad(format!("{}: two different exec modes", word.shown()));
                }
                exec = Some(mode);
            }
        }
    }
    if let Some(mode) = exec {
        found.exec = Some(match (mode.as_str(), deny) {
            ("x", true) => Exec::Inherit,
            ("x", false) => return bad(format!("{}: x needs a mode, such as ix", word.shown())),
            (_, true) => return bad(format!("{}: deny takes x only", word.shown())),
            ("ix", _) => Exec::Inherit,
            ("px" | "cx" | "ux" | "pix" | "cix" | "pux" | "cux", _) => Exec::Other,
            _ => return bad(format!("{}: unknown exec mode {mode}", word.shown())),
        });
        found.perms = found.perms.or(FilePerms::EXEC);
        // The parser adds m to every mode with an i (`process_dfa_entry`, parser_regex.c).
        if mode.contains('i') {
            found.perms = found.perms.or(FilePerms::MMAP_EXEC);
        }
        found.mode = mode;
    }
    if found.perms.contains(FilePerms::WRITE.or(FilePerms::APPEND)) {
        return bad(format!("{}: w and a exclude each other: w is both", word.shown()));
    }
    if found.perms.contains(FilePerms::WRITE) {
        found.perms = found.perms.or(FilePerms::APPEND);
    }
    Ok(found)
}

/// `PATH PERMS [-> NAME]` or `PERMS PATH [-> NAME]`.
fn file(tokens: &[Token], deny: bool, scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    let (tokens, safe) = match tokens {
        [Token::Word(word), rest @ ..] if matches!(word.plain(), "safe" | "unsafe") => (rest, true),
        _ => (tokens, false),
    };
    let (first, second, to) = match tokens {
        [Token::Word(first), Token::Word(second)] => (first, second, None),
        [Token::Word(first), Token::Word(second), Token::Arrow, Token::Word(to)] => (first, second, Some(to)),
        _ => return bad("a file rule is a path and permissions, in either order, and nothing else"),
    };
    let (name, letters) = if is_perms(first) && !first.is_path() { (second, first) } else { (first, second) };
    if !is_perms(letters) {
        return bad(format!("{} are no permissions: they are letters out of rwalkmx", letters.shown()));
    }
    let Letters { perms, link, exec, mode } = perms(letters, deny)?;
    if safe && exec.is_none() {
        return bad("safe and unsafe are for exec modes");
    }
    let transition =
        (exec == Some(Exec::Other)).then(|| Transition { mode, to: to.map(|to| to.text.clone().into()) });
    let link = match (link, to) {
        (false, _) => None,
        (true, None) => Some(LinkTo { target: None, subset: true }),
        (true, Some(target)) => Some(LinkTo { target: Some(path(target, scopes)?), subset: true }),
    };
    Ok(RuleKind::File(FileRule { path: Some(path(name, scopes)?), perms, link, exec, transition }))
}

/// `link [subset] NEW -> FILE`.
fn link(tokens: &[Token], scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    let (tokens, subset) = match tokens {
        [Token::Word(word), rest @ ..] if word.plain() == "subset" => (rest, true),
        _ => (tokens, false),
    };
    let [Token::Word(new), Token::Arrow, Token::Word(target)] = tokens else {
        return bad("a link rule is: link [subset] /new -> /file");
    };
    let link = Some(LinkTo { target: Some(path(target, scopes)?), subset });
    Ok(RuleKind::File(FileRule {
        path: Some(path(new, scopes)?),
        perms: FilePerms::EMPTY,
        link,
        exec: None,
        transition: None,
    }))
}

fn capability(tokens: &[Token]) -> Result<RuleKind, Problem> {
    let mut set = 0;
    for word in words(tokens)? {
        match names::capability(word) {
            Some(number) => set |= 1 << number,
            None => return bad(format!("unknown capability {word:?}: they are written as net_bind_service")),
        }
    }
    Ok(RuleKind::Capability(if set == 0 { u64::MAX } else { set }))
}

/// `network [FAMILY] [TYPE | PROTOCOL]`.
fn network(tokens: &[Token]) -> Result<RuleKind, Problem> {
    if !tokens.iter().all(|token| matches!(token, Token::Word(_))) {
        return unjudged("network rules with permissions or addresses are not judged");
    }
    let words = words(tokens)?;
    let (family, last) = match words.as_slice() {
        [] => return Ok(RuleKind::Network(vec![(None, None)])),
        [first, rest @ ..] => match names::family(first) {
            Some(family) => (Some(family), rest),
            None => (None, words.as_slice()),
        },
    };
    match last {
        [] => Ok(RuleKind::Network(vec![(family, None)])),
        [word] => {
            if let Some(kind) = names::kind(word) {
                return Ok(RuleKind::Network(vec![(family, Some(kind))]));
            }
            let known = names::protocol(word).into_iter();
            let pairs = known.filter(|(inet, _)| family.is_none_or(|family| family == *inet));
            let pairs: Vec<_> = pairs.map(|(family, kind)| (Some(family), Some(kind))).collect();
            if pairs.is_empty() {
                return bad(format!("unknown family, type or protocol {word:?} of a network rule"));
            }
            Ok(RuleKind::Network(pairs))
        }
        _ => bad("a network rule has a family, and a type or a protocol"),
    }
}

/// The permissions before the conditions: one word or a list.
fn leading(tokens: &[Token]) -> (Vec<&Word>, &[Token]) {
    match tokens {
        [Token::List(list), rest @ ..] => (list.iter().collect(), rest),
        [Token::Word(word), rest @ ..] => (vec![word], rest),
        _ => (Vec::new(), tokens),
    }
}

/// The conditions after it, each at most once.
fn conditions(tokens: &[Token]) -> Result<Vec<(&str, &[Word])>, Problem> {
    let mut keys = BTreeSet::new();
    let mut found = Vec::new();
    for token in tokens {
        match token {
            Token::Condition { key, values, is_in: _ } if keys.insert(key) => {
                found.push((key.as_str(), values.as_slice()));
            }
            _ => return bad("expected conditions of the form key=value, each once"),
        }
    }
    Ok(found)
}

fn peer(values: &[Word], scopes: Scopes<'_>) -> Result<Option<Pattern>, Problem> {
    match values {
        [word] => pattern(word, false, scopes).map(Some),
        _ => unjudged("a peer with several conditions is not judged"),
    }
}

fn signal(tokens: &[Token], scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    let (words, rest) = leading(tokens);
    let all = words.is_empty();
    let mut rule = SignalRule { ways: Ways { does: all, suffers: all }, signals: None, peer: None };
    for word in words {
        match word.plain() {
            "send" | "write" | "w" => rule.ways.does = true,
            "receive" | "read" | "r" => rule.ways.suffers = true,
            "rw" | "wr" => rule.ways = Ways { does: true, suffers: true },
            _ => return bad(format!("unknown permission {} of a signal rule", word.shown())),
        }
    }
    for (key, values) in conditions(rest)? {
        match key {
            "set" => {
                let mut set = 0;
                for word in values {
                    let name = String::from_utf8_lossy(&word.text);
                    let number = names::signal(&name);
                    set |= 1
                        << number.ok_or_else(|| Problem::Bad(format!("unknown signal {}", word.shown())))?;
                }
                rule.signals = Some(set);
            }
            "peer" => rule.peer = peer(values, scopes)?,
            _ => return bad(format!("unknown condition {key} of a signal rule")),
        }
    }
    Ok(RuleKind::Signal(rule))
}

fn ptrace(tokens: &[Token], scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    let (words, rest) = leading(tokens);
    let all = words.is_empty();
    let both = Ways { does: all, suffers: all };
    let mut perms = PtracePerms { read: both, trace: both };
    for word in words {
        match word.plain() {
            "read" | "r" => perms.read.does = true,
            "trace" | "write" | "w" => perms.trace.does = true,
            "rw" | "wr" => (perms.read.does, perms.trace.does) = (true, true),
            "readby" => perms.read.suffers = true,
            "tracedby" => perms.trace.suffers = true,
            _ => return bad(format!("unknown permission {} of a ptrace rule", word.shown())),
        }
    }
    let mut rule = PtraceRule { perms, peer: None };
    for (key, values) in conditions(rest)? {
        match key {
            "peer" => rule.peer = peer(values, scopes)?,
            _ => return bad(format!("unknown condition {key} of a ptrace rule")),
        }
    }
    Ok(RuleKind::Ptrace(rule))
}

/// `[fstype=…] [options=…] [SOURCE] [-> TARGET]`, `remount [options=…] [TARGET]`.
fn mount(tokens: &[Token], extra: u64, scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    let split = tokens.iter().take_while(|token| matches!(token, Token::Condition { .. })).count();
    let (before, names) = tokens.split_at(split);
    let mut rule =
        MountRule { is_remount: extra != 0, options: None, fstypes: Vec::new(), source: None, target: None };
    for token in before {
        let Token::Condition { key, is_in, values } = token else { continue };
        match key.as_str() {
            "fstype" | "vfstype" => {
                let more =
                    values.iter().map(|word| pattern(word, false, scopes)).collect::<Result<Vec<_>, _>>()?;
                if !rule.fstypes.is_empty() {
                    return unjudged("several fstype conditions are not judged");
                }
                rule.fstypes = more;
            }
            "options" | "option" => {
                let mut options = Options { at_most: *is_in, flags: extra };
                for word in values {
                    let Some((set, _)) = names::mount_option(word.plain()) else {
                        return unjudged(format!("the mount option {} is not judged", word.shown()));
                    };
                    options.flags |= set;
                }
                if rule.options.replace(options).is_some() {
                    return unjudged("several options conditions are not judged");
                }
            }
            _ => return bad(format!("unknown condition {key} of a mount rule")),
        }
    }
    let (source, target) = match names {
        [] => (None, None),
        [Token::Word(target)] if rule.is_remount => (None, Some(target)),
        _ if rule.is_remount => return bad("a remount rule is: remount [options=…] [/target/]"),
        [Token::Word(source)] => (Some(source), None),
        [Token::Arrow, Token::Word(target)] => (None, Some(target)),
        [Token::Word(source), Token::Arrow, Token::Word(target)] => (Some(source), Some(target)),
        _ => return bad("a mount rule is: mount [fstype=…] [options=…] [source] [-> /target/]"),
    };
    if rule.is_remount && rule.options.is_some_and(|options| options.at_most) {
        return unjudged("remount rules with options in are not judged");
    }
    if rule.is_remount && rule.options.is_none() {
        // No other flag: the parser compiles it so.
        rule.options = Some(Options { at_most: false, flags: extra });
    }
    rule.source = source.map(|source| pattern(source, true, scopes)).transpose()?;
    rule.target = target.map(|target| path(target, scopes)).transpose()?;
    Ok(RuleKind::Mount(rule))
}

fn umount(tokens: &[Token], scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    match tokens {
        [] => Ok(RuleKind::Umount(None)),
        [Token::Word(target)] => Ok(RuleKind::Umount(Some(path(target, scopes)?))),
        [Token::Condition { .. }, ..] => unjudged("umount rules with conditions are not judged"),
        _ => bad("an umount rule is: umount [/target/]"),
    }
}

/// `pivot_root [oldroot=OLD] [NEW] [-> NAME]`.
fn pivot_root(tokens: &[Token], scopes: Scopes<'_>) -> Result<RuleKind, Problem> {
    let (put_old, rest) = match tokens {
        [Token::Condition { key, is_in: false, values }, rest @ ..] if key == "oldroot" => {
            match values.as_slice() {
                [word] => (Some(path(word, scopes)?), rest),
                _ => return bad("oldroot= takes one path"),
            }
        }
        _ => (None, tokens),
    };
    let (new_root, rest) = match rest {
        [Token::Word(new_root), rest @ ..] => (Some(path(new_root, scopes)?), rest),
        _ => (None, rest),
    };
    match rest {
        [] => Ok(RuleKind::PivotRoot { new_root, put_old }),
        [Token::Arrow, Token::Word(_)] => unjudged("a change of profile on pivot_root is not judged"),
        _ => bad("a pivot_root rule is: pivot_root [oldroot=/old/] [/new/]"),
    }
}

fn io_uring(tokens: &[Token]) -> Result<RuleKind, Problem> {
    let (words, rest) = leading(tokens);
    if !rest.is_empty() {
        return unjudged("io_uring rules with conditions are not judged");
    }
    let mut found = (words.is_empty(), words.is_empty());
    for word in words {
        match word.plain() {
            "sqpoll" => found.0 = true,
            "override_creds" => found.1 = true,
            _ => return bad(format!("unknown permission {} of an io_uring rule", word.shown())),
        }
    }
    Ok(RuleKind::IoUring { sqpoll: found.0, override_creds: found.1 })
}
