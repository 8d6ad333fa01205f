//! Owns AppArmor's globs: how a token of a profile becomes a pattern, and what that matches. Knows nothing about rules.
//!
//! The meaning is that of `apparmor_parser` (3.0.8: `parser_misc.c` for escapes, `parser_regex.c` for globs), as measured by
//! running the automata that it compiles; `tests/profile/apparmor_oracle.rs` repeats that.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// A pattern grows by its variables' values: more of them than this are refused.
const MAX_EXPANSIONS: usize = 1024;
/// States of one pattern's automaton; the longest path of AppArmor has 8,192 bytes.
const MAX_STATES: usize = 1 << 16;
/// Steps of the search whether one pattern covers another; patterns that people write take some hundred.
const MAX_STEPS: usize = 1 << 12;
/// As `apparmor_parser` (`MAX_ALT_DEPTH`, `parser_regex.c`).
const MAX_DEPTH: usize = 49;

/// Values of variables by name, undecoded variables in them included.
pub(super) type Variables = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PatternError {
    /// `apparmor_parser` refuses it too.
    Bad(String),
    /// It can be right, but cannot be judged here.
    Unjudged(String),
    /// A variable is not known.
    Variable(String),
}

/// What a rule's path, label or type matches. Two that are written differently and mean the same, program by program, are equal.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    programs: Vec<Program>,
    source: Vec<u8>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.programs == other.programs
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.programs.cmp(&other.programs)
    }
}

impl Pattern {
    /// A path: multiple slashes in the text are one.
    pub(super) fn path(token: &[u8], variables: &Variables) -> Result<Self, PatternError> {
        Self::new(token, variables, without_double_slashes)
    }

    /// A label, a type, or whatever else is no path.
    pub(super) fn plain(token: &[u8], variables: &Variables) -> Result<Self, PatternError> {
        Self::new(token, variables, <[u8]>::to_vec)
    }

    fn new(token: &[u8], variables: &Variables, clean: fn(&[u8]) -> Vec<u8>) -> Result<Self, PatternError> {
        let expanded = expand(token, variables)?;
        // In one order, whatever that of the variables' values is.
        let programs: BTreeSet<Program> =
            expanded.iter().map(|text| Program::new(&clean(text))).collect::<Result<_, _>>()?;
        let programs = programs.into_iter().collect();
        Ok(Self { programs, source: token.to_vec() })
    }

    /// As it is written, escapes decoded; what a glob would take as special has a backslash.
    pub(crate) fn source(&self) -> &[u8] {
        &self.source
    }

    /// True if these bytes match and nothing else does.
    pub(crate) fn is_just(&self, bytes: &[u8]) -> bool {
        matches!(self.programs.as_slice(), [only] if only.states.is_empty() && only.prefix == bytes)
    }

    /// What every match begins with; `None` if it has several beginnings.
    pub(crate) fn prefix(&self) -> Option<&[u8]> {
        match self.programs.as_slice() {
            [program] => Some(&program.prefix),
            _ => None,
        }
    }

    /// True if it matches one text alone.
    pub(crate) fn is_literal(&self) -> bool {
        matches!(self.programs.as_slice(), [program] if program.states.is_empty())
    }

    /// True if whatever the other one matches, this one matches too. False as well where that would take too long to find out.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if let [Program { prefix, states }] = other.programs.as_slice()
            && states.is_empty()
        {
            return self.matches(prefix);
        }
        let apart = |one: &[u8], next: &[u8]| !one.starts_with(next) && !next.starts_with(one);
        if matches!((self.prefix(), other.prefix()), (Some(one), Some(next)) if apart(one, next)) {
            return false;
        }
        is_within(&other.automaton(), &self.automaton())
    }

    /// Its programs as one, their prefixes in it.
    fn automaton(&self) -> Vec<State> {
        let length = |program: &Program| program.prefix.len() + program.states.len() + 2;
        let end = self.programs.iter().map(length).sum();
        let mut all = Vec::with_capacity(end);
        for program in &self.programs {
            let next = all.len() + length(program);
            // There is no next one after the last.
            let fork = if next == end { all.len() + 1 } else { next };
            all.push(State::Fork(all.len() + 1, fork));
            all.extend(program.prefix.iter().map(|byte| State::Take(ByteSet::of([*byte]))));
            let start = all.len();
            all.extend(program.states.iter().map(|state| match state {
                State::Take(set) => State::Take(*set),
                State::Fork(one, other) => State::Fork(start + one, start + other),
                State::Jump(to) => State::Jump(start + to),
            }));
            all.push(State::Jump(end));
        }
        all
    }

    /// True if every match is certain to begin with a slash.
    pub(crate) fn is_absolute(&self) -> bool {
        self.programs.iter().all(|program| program.prefix.starts_with(b"/"))
    }

    /// True if the whole of `bytes` matches.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        self.programs.iter().any(|program| program.matches(bytes))
    }
}

/// A token with its escapes decoded (`processunquoted`, `parser_misc.c`). What is special in a glob keeps a backslash.
pub(super) fn decode(token: &[u8]) -> Result<Vec<u8>, PatternError> {
    let mut decoded = Vec::with_capacity(token.len());
    let mut rest = token;
    while let Some((&first, after)) = rest.split_first() {
        let Some((byte, length)) = escape(rest) else {
            decoded.push(first);
            rest = after;
            continue;
        };
        if byte == 0 {
            return Err(PatternError::Unjudged("it has an escaped zero byte".to_owned()));
        }
        if b"*?[]{}^,\\".contains(&byte) {
            decoded.push(b'\\');
        }
        decoded.push(byte);
        rest = &rest[length..];
    }
    Ok(decoded)
}

/// The escape at the start of `text`, and how long it is; `None`: a backslash is only a backslash here.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let [b'\\', letter, digits @ ..] = text else { return None };
    let number = |digits: &[u8], radix: u32, most: usize| {
        let mut value = 0_u32;
        let mut length = 0;
        for digit in digits.iter().take(most).map_while(|digit| char::from(*digit).to_digit(radix)) {
            if value * radix + digit > 255 {
                break;
            }
            value = value * radix + digit;
            length += 1;
        }
        u8::try_from(value).ok().filter(|_| length > 0).map(|value| (value, length))
    };
    let simple = |byte: u8| Some((byte, 2));
    match letter {
        b'0'..=b'7' => number(&text[1..], 8, 3).map(|(value, length)| (value, 1 + length)),
        b'd' => number(digits, 10, 3).map(|(value, length)| (value, 2 + length)),
        b'x' => number(digits, 16, 2).map(|(value, length)| (value, 2 + length)),
        b'a' => simple(0x07),
        b'e' => simple(0x1b),
        b'f' => simple(0x0c),
        b'n' => simple(b'\n'),
        b'r' => simple(b'\r'),
        b't' => simple(b'\t'),
        b'"' | b'\\' => simple(*letter),
        _ => None,
    }
}

/// Every text that the values of its variables give.
fn expand(text: &[u8], variables: &Variables) -> Result<Vec<Vec<u8>>, PatternError> {
    let mut done = Vec::new();
    let mut open = vec![text.to_vec()];
    let mut steps = 0;
    while let Some(text) = open.pop() {
        steps += 1;
        let Some((start, end)) = variable_in(&text) else {
            done.push(text);
            continue;
        };
        if steps + open.len() > MAX_EXPANSIONS || text.len() > MAX_STATES {
            return Err(PatternError::Unjudged("its variables have too many values together".to_owned()));
        }
        let name = &text[start + 2..end];
        let Some(values) = variables.get(name) else {
            return Err(PatternError::Variable(crate::escape::terminal(&text[start..=end])));
        };
        open.extend(values.iter().map(|value| [&text[..start], value, &text[end + 1..]].concat()));
    }
    Ok(done)
}

/// Where the first `@{NAME}` begins and ends.
fn variable_in(text: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    while at < text.len() {
        match text[at..] {
            [b'\\', ..] => at += 2,
            [b'@', b'{', ref name @ ..] => {
                let is_letter = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                let length = name.iter().take_while(is_letter).count();
                // Anything else is an @ before alternatives.
                if length > 0 && name.get(length) == Some(&b'}') {
                    return Some((at, at + 2 + length));
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    None
}

/// Runs of slashes are one, but two at the very start stay (`filter_slashes`, `parser_regex.c`).
fn without_double_slashes(text: &[u8]) -> Vec<u8> {
    let posix_root = text.starts_with(b"//") && !text.starts_with(b"///");
    let mut cleaned: Vec<u8> = Vec::with_capacity(text.len());
    for (at, byte) in text.iter().enumerate() {
        if *byte != b'/' || cleaned.last() != Some(&b'/') || (posix_root && at == 1) {
            cleaned.push(*byte);
        }
    }
    cleaned
}

/// Some of the 256 bytes. Never the zero byte, which no name has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ByteSet([u64; 4]);

impl ByteSet {
    const EMPTY: Self = Self([0; 4]);

    fn of(bytes: impl IntoIterator<Item = u8>) -> Self {
        bytes.into_iter().fold(Self::EMPTY, |mut set, byte| {
            set.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
            set
        })
    }

    fn not(self) -> Self {
        let [first, rest @ ..] = self.0.map(|word| !word);
        Self([first & !1, rest[0], rest[1], rest[2]])
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }
}

impl std::fmt::Debug for ByteSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..=255).filter(|byte| self.has(*byte)).map(char::from)).finish()
    }
}

/// One state of an automaton that can be in several at once, so that no pattern takes more than length × states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Takes one byte of the set to the next state.
    Take(ByteSet),
    /// Goes to both.
    Fork(usize, usize),
    /// Goes there.
    Jump(usize),
}

/// A pattern without variables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Program {
    /// What every match begins with.
    prefix: Vec<u8>,
    /// What follows; the end of the list accepts.
    states: Vec<State>,
}

/// An open `{`.
struct Group {
    fork: usize,
    jumps: Vec<usize>,
}

impl Program {
    fn new(text: &[u8]) -> Result<Self, PatternError> {
        let bad = |problem: &str| PatternError::Bad(problem.to_owned());
        let not_slash = ByteSet::of([b'/']).not();
        let any = ByteSet::EMPTY.not();
        let mut program = Self { prefix: Vec::new(), states: Vec::new() };
        let mut groups: Vec<Group> = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if program.states.len() > MAX_STATES {
                return Err(PatternError::Unjudged("it is too long".to_owned()));
            }
            let mut length = 1;
            match text[at] {
                b'\\' => {
                    let byte = text.get(at + 1).ok_or_else(|| bad("it ends with a backslash"))?;
                    program.literal(*byte);
                    length = 2;
                }
                b'*' => {
                    let stars = text[at..].iter().take_while(|byte| **byte == b'*').count();
                    let next = text.get(at + stars);
                    // A star that is a whole name matches no empty one.
                    if at > 0 && text[at - 1] == b'/' && matches!(next, None | Some(b'/')) {
                        program.states.push(State::Take(not_slash));
                    }
                    program.repeat(if stars > 1 { any } else { not_slash });
                    length = stars;
                }
                b'?' => program.states.push(State::Take(not_slash)),
                b'[' => {
                    let (set, end) = class(&text[at + 1..])?;
                    program.states.push(State::Take(set));
                    length = 1 + end;
                }
                b']' => return Err(bad("a ] has no [ before it")),
                b'{' => {
                    if groups.len() == MAX_DEPTH {
                        return Err(bad("its alternatives are too deep"));
                    }
                    groups.push(Group { fork: program.states.len(), jumps: Vec::new() });
                    program.states.push(State::Jump(program.states.len() + 1));
                }
                b',' if let Some(group) = groups.last_mut() => {
                    group.jumps.push(program.states.len());
                    program.states.push(State::Jump(0));
                    let next = program.states.len();
                    program.states[group.fork] = State::Fork(group.fork + 1, next);
                    group.fork = next;
                    program.states.push(State::Jump(next + 1));
                }
                b'}' => {
                    let group = groups.pop().ok_or_else(|| bad("a } has no { before it"))?;
                    if group.jumps.is_empty() {
                        return Err(bad("there is only one alternative between { and }"));
                    }
                    let end = program.states.len();
                    for jump in group.jumps {
                        program.states[jump] = State::Jump(end);
                    }
                }
                byte => program.literal(byte),
            }
            at += length;
        }
        if groups.is_empty() { Ok(program) } else { Err(bad("a { is not closed")) }
    }

    fn literal(&mut self, byte: u8) {
        if self.states.is_empty() {
            self.prefix.push(byte);
        } else {
            self.states.push(State::Take(ByteSet::of([byte])));
        }
    }

    fn repeat(&mut self, set: ByteSet) {
        let start = self.states.len();
        self.states.extend([State::Fork(start + 1, start + 3), State::Take(set), State::Jump(start)]);
    }

    fn matches(&self, bytes: &[u8]) -> bool {
        let Some(rest) = bytes.strip_prefix(self.prefix.as_slice()) else { return false };
        if self.states.is_empty() {
            return rest.is_empty();
        }
        let mut current = Active::new(self.states.len());
        let mut next = Active::new(self.states.len());
        current.enter(&self.states, 0);
        for byte in rest {
            for at in &current.list {
                if let Some(State::Take(set)) = self.states.get(*at)
                    && set.has(*byte)
                {
                    next.enter(&self.states, at + 1);
                }
            }
            if next.list.is_empty() {
                return false;
            }
            std::mem::swap(&mut current, &mut next);
            next.clear();
        }
        current.is_in[self.states.len()]
    }
}

/// The states that an automaton is in.
struct Active {
    list: Vec<usize>,
    is_in: Vec<bool>,
    open: Vec<usize>,
}

impl Active {
    fn new(n_states: usize) -> Self {
        Self { list: Vec::new(), is_in: vec![false; n_states + 1], open: Vec::new() }
    }

    fn clear(&mut self) {
        self.list.drain(..).for_each(|at| self.is_in[at] = false);
    }

    /// Those that it is in, in their order; it is in none then.
    fn taken(&mut self) -> Vec<usize> {
        let mut list = self.list.clone();
        list.sort_unstable();
        self.clear();
        list
    }

    /// Adds a state and all that it goes to by itself.
    fn enter(&mut self, states: &[State], at: usize) {
        self.open.push(at);
        while let Some(at) = self.open.pop() {
            if std::mem::replace(&mut self.is_in[at], true) {
                continue;
            }
            self.list.push(at);
            match states.get(at) {
                Some(State::Fork(one, other)) => self.open.extend([*one, *other]),
                Some(State::Jump(to)) => self.open.push(*to),
                Some(State::Take(_)) | None => {}
            }
        }
    }
}

/// True if whatever one automaton takes, the other takes too: each state of the one is followed together with all states that the
/// other can then be in. False where that are too many.
fn is_within(one: &[State], other: &[State]) -> bool {
    let bytes = distinct_bytes(one.iter().chain(other));
    let mut active = Active::new(other.len());
    active.enter(other, 0);
    let mut open = vec![(0, active.taken())];
    let mut seen = BTreeSet::new();
    while let Some((at, in_other)) = open.pop() {
        // Every state of the one leads to its end.
        if in_other.is_empty() || seen.len() > MAX_STEPS {
            return false;
        }
        if !seen.insert((at, in_other.clone())) {
            continue;
        }
        match one.get(at) {
            None if !in_other.contains(&other.len()) => return false,
            None => {}
            Some(State::Fork(first, second)) => {
                open.extend([(*first, in_other.clone()), (*second, in_other)]);
            }
            Some(State::Jump(to)) => open.push((*to, in_other)),
            Some(State::Take(set)) => {
                for byte in bytes.iter().filter(|byte| set.has(**byte)) {
                    for state in &in_other {
                        if let Some(State::Take(set)) = other.get(*state)
                            && set.has(*byte)
                        {
                            active.enter(other, state + 1);
                        }
                    }
                    open.push((at + 1, active.taken()));
                }
            }
        }
    }
    true
}

/// One byte of each sort that these states tell apart.
fn distinct_bytes<'a>(states: impl Iterator<Item = &'a State>) -> Vec<u8> {
    let sets: BTreeSet<ByteSet> = states
        .filter_map(|state| match state {
            State::Take(set) => Some(*set),
            State::Fork(..) | State::Jump(_) => None,
        })
        .collect();
    let sort = |byte: u8| sets.iter().map(|set| set.has(byte)).collect::<Vec<_>>();
    let sorts: BTreeMap<Vec<bool>, u8> = (1..=255).map(|byte| (sort(byte), byte)).collect();
    sorts.into_values().collect()
}

/// The class after a `[`, and how long it is with its `]`.
fn class(text: &[u8]) -> Result<(ByteSet, usize), PatternError> {
    let bad = |problem: &str| PatternError::Bad(problem.to_owned());
    // An escape only keeps ] and its like from what they would do: an escaped minus still makes a range.
    let mut members: Vec<u8> = Vec::new();
    let mut at = 0;
    let negated = text.first() == Some(&b'^');
    if negated {
        at += 1;
    }
    loop {
        match text.get(at) {
            None => return Err(bad("a [ is not closed")),
            Some(b']') => break,
            Some(b'\\') => {
                members.push(*text.get(at + 1).ok_or_else(|| bad("it ends with a backslash"))?);
                at += 2;
            }
            Some(b'*' | b'?') => {
                // apparmor_parser replaces it as if it stood outside, which nobody can mean.
                return Err(PatternError::Unjudged("it has * or ? between [ and ]".to_owned()));
            }
            Some(byte) => {
                members.push(*byte);
                at += 1;
            }
        }
    }
    let mut set = ByteSet::EMPTY;
    let mut idx = 0;
    // A minus is itself at the very start only: the grammar has no other place for it (`parse.y`).
    let end = |idx: usize| match members.get(idx) {
        Some(byte) if *byte != b'-' || idx == 0 => Ok(*byte),
        _ => Err(bad("a - between [ and ] has no end: write it first")),
    };
    while idx < members.len() {
        let (first, mut last) = (end(idx)?, end(idx)?);
        if members.get(idx + 1) == Some(&b'-') {
            idx += 2;
            last = end(idx)?;
        }
        idx += 1;
        let more = ByteSet::of(first.min(last)..=first.max(last));
        set = ByteSet(std::array::from_fn(|word| set.0[word] | more.0[word]));
    }
    if members.is_empty() {
        return Err(bad("there is nothing between [ and ]"));
    }
    Ok((if negated { set.not() } else { set }, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        let pid = b"{[1-9],[1-9][0-9],[1-9][0-9][0-9],[1-4][0-9][0-9][0-9][0-9][0-9][0-9]}".to_vec();
        let variables = Variables::from([
            (b"pid".to_vec(), vec![pid]),
            (b"HOME".to_vec(), vec![b"/home/*/".to_vec(), b"/root/".to_vec()]),
        ]);
        Pattern::path(&decode(text.as_bytes()).unwrap(), &variables).unwrap()
    }

    #[test]
    fn a_pattern_covers_what_matches_nothing_beyond_it() {
        for (wide, narrow) in [
            ("/etc/**", "/etc/passwd"),
            ("/etc/**", "/etc/*"),
            ("/etc/**", "/etc/nginx/**"),
            ("/**", "/{etc,usr}/[a-c]?*/x"),
            ("/etc/{a,b*}", "/etc/{a,ba,b[cd]}"),
            ("/proc/*/stat", "/proc/@{pid}/stat"),
            ("/home/**", "/home/*/.ssh/**"),
            ("@{HOME}**", "/root/.ssh/*"),
            ("{/home,/root}/**", "@{HOME}.*"),
        ] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} {narrow}");
            assert!(!pattern(narrow).covers(&pattern(wide)), "{narrow} {wide}");
        }
        for (one, other) in [
            ("/etc/*", "/etc/*/x"),
            ("/etc/**", "/etc/"),
            ("/etc/**", "/usr/**"),
            ("/etc/[a-c]", "/etc/?"),
            ("/home/**", "@{HOME}**"),
            ("/etc/*a", "/etc/*b"),
        ] {
            assert!(!pattern(one).covers(&pattern(other)), "{one} {other}");
        }
    }

    #[test]
    fn what_takes_too_long_to_compare_is_not_called_covered() {
        let many = "[ab]".repeat(16);
        let wide = format!("/{}**", "*a?".repeat(12));
        assert!(!pattern(&wide).covers(&pattern(&format!("/*{many}*a{many}"))));
    }
}
