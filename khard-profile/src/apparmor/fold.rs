//! Owns what makes rules fewer than the paths that were seen: versions of libraries, directories with many files, and what
//! the parser's limit forces. Knows no recording.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::pattern::{Pattern, Piece};
use super::policy::Threshold;
use super::rule::{FoldReason, Rule, Rules, What};
use crate::recording::FilePerms;

/// As many states the parser can make: `state_t` has 16 bits (`libapparmor_re/hfa.h`; 3.0.8 and 5.0.2 say "Too many states
/// (N) for type `state_t`" above 65,535). [`n_states`] is what parser 3.0.8 makes of literal paths, to the state; the rest is
/// room for generalised pieces, which overlap with what stands beside them.
pub(super) const MAX_STATES: usize = 58_000;

/// As many rules the parser can take: its expression tree is as deep as there are rules, and it walks that with calls of itself. With
/// the usual 8 MiB of stack, parser 3.0.8 compiles 56,000 short rules and dies of SIGSEGV at 60,000.
pub(super) const MAX_RULES: usize = 40_000;

/// Where files are never folded: each one is a choice of its own there, or an interface of the kernel.
const NEVER: [&[u8]; 4] = [b"/etc", b"/proc", b"/sys", b"/dev"];

/// How many states the rules for files and links make: the size of the smallest automaton that tells their paths apart,
/// where equal beginnings are one state and equal ends with equal permissions are too.
pub(super) fn n_states(rules: &Rules) -> usize {
    let mut paths: Vec<(Vec<u16>, u16)> = rules.iter().filter_map(|rule| tokens(&rule.what)).collect();
    paths.sort_unstable();
    let mut known: HashMap<State, usize> = HashMap::new();
    // The states of the last path, and the token between each and the next.
    let mut open = vec![State::default()];
    let mut last: Vec<u16> = Vec::new();
    let mut close = |open: &mut Vec<State>, last: &[u16], n_left: usize| {
        while open.len() > n_left
            && let Some(state) = open.pop()
        {
            let new = known.len();
            let number = *known.entry(state).or_insert(new);
            let depth = open.len();
            if let Some(parent) = open.last_mut() {
                parent.next.push((last[depth - 1], number));
            }
        }
        known.len()
    };
    for (path, label) in paths {
        let n_common = path.iter().zip(&last).take_while(|(one, other)| one == other).count();
        close(&mut open, &last, n_common + 1);
        open.resize_with(path.len() + 1, State::default);
        if let Some(end) = open.last_mut() {
            end.label |= label;
        }
        last = path;
    }
    // The parser has one more, in which nothing matches any longer.
    close(&mut open, &last, 0) + 1
}

/// A state of the automaton: equal ones are one.
#[derive(Default, PartialEq, Eq, Hash)]
struct State {
    label: u16,
    next: Vec<(u16, usize)>,
}

/// What a path is to the automaton: a token for each state, and what it grants. Tokens above 255 are no bytes.
fn tokens(what: &What) -> Option<(Vec<u16>, u16)> {
    let mut all = Vec::new();
    let label = match what {
        What::File { path, owner, perms } => {
            push(path, &mut all);
            perms.bits() << if *owner { 8 } else { 0 }
        }
        // The parser puts a pair into one expression, with a zero byte between.
        What::Link { link, target } => {
            push(link, &mut all);
            all.push(0);
            push(target, &mut all);
            u16::MAX
        }
        _ => return None,
    };
    Some((all, label))
}

fn push(path: &Pattern, all: &mut Vec<u16>) {
    for piece in path.pieces() {
        match piece {
            Piece::Literal(bytes) => all.extend(bytes.as_slice().iter().map(|byte| u16::from(*byte))),
            Piece::Proc => all.extend(b"/proc".map(u16::from)),
            // Seven places, each with or without the restriction that a leading 4 makes.
            Piece::Pid | Piece::Tid => all.extend(256..270),
            Piece::Random { alphabet, max, .. } => {
                all.extend(std::iter::repeat_n(300 + *alphabet as u16, usize::from(*max)));
            }
            Piece::Number => all.extend([310, 311]),
            Piece::Files => all.push(320),
            Piece::Below => all.push(321),
        }
    }
}

/// Versions of a library that was read or mapped: `libssl.so.3` and `libssl.so.1.1`, `libc-2.31.so` and `libc-2.36.so`.
pub(super) fn versions(rules: &mut Rules) {
    let readable = FilePerms::READ.or(FilePerms::MMAP_EXEC);
    rules.fold(|rule| {
        let What::File { path, perms, .. } = &rule.what else { return None };
        let path = path.as_literal().filter(|_| readable.contains(*perms))?;
        let name_at = path.iter().rposition(|byte| *byte == b'/')? + 1;
        let name = &path[name_at..];
        let find = |what: &[u8]| name.windows(what.len()).position(|window| window == what);
        let is_version = |text: &[u8]| {
            text.first().is_some_and(u8::is_ascii_digit)
                && text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        };
        let (from, to) = match find(b".so.") {
            Some(at) => (at + 4, name.len()),
            None => (name.iter().rposition(|byte| *byte == b'-')? + 1, name.strip_suffix(b".so")?.len()),
        };
        is_version(name.get(from..to)?).then(|| {
            let (before, after) = (&path[..name_at + from], &name[to..]);
            let pieces = [Piece::Literal(before.into()), Piece::Number, Piece::Literal(after.into())];
            (Pattern::from_iter(pieces), FoldReason::Versions)
        })
    });
}

/// Directories of which as many files were used in the same way as their threshold says.
pub(super) fn thresholds(rules: &mut Rules, thresholds: &[Threshold]) {
    let dirs = files(rules).into_iter().filter(|((dir, perms), group)| {
        let of_dir = thresholds.iter().filter(|threshold| is_in(dir, threshold.prefix.as_slice()));
        let longest = of_dir.max_by_key(|threshold| threshold.prefix.as_slice().len());
        !perms.contains(FilePerms::MMAP_EXEC)
            && longest.is_some_and(|threshold| group.n >= threshold.n_files.max(2))
    });
    let dirs = dirs.map(|(key, _)| key).collect();
    fold_files(rules, &dirs, FoldReason::Threshold);
}

/// Folds until the parser can compile the rules, first what costs least: one directory before all below it; what was only
/// read before what was mapped before what was written; and what makes the most states first, so that the fewest are
/// folded. True if it was enough.
pub(super) fn to_limit(rules: &mut Rules, limit: usize) -> bool {
    const TIERS: [FilePerms; 3] = [
        FilePerms::READ,
        FilePerms::READ.or(FilePerms::MMAP_EXEC),
        FilePerms::READ.or(FilePerms::WRITE).or(FilePerms::LOCK),
    ];
    // One directory's files, then all below directories of a depth. `/usr/**` would be of depth 1.
    for depth in [None, Some(4), Some(3), Some(2)] {
        for tier in TIERS {
            loop {
                let n_over = n_over(rules, limit);
                if n_over == 0 {
                    return true;
                }
                let groups = match depth {
                    None => files(rules),
                    Some(depth) => below(rules, depth),
                };
                let dirs = largest(groups, tier, n_over);
                if dirs.is_empty() {
                    break;
                }
                match depth {
                    None => fold_files(rules, &dirs, FoldReason::Limit),
                    Some(depth) => fold_below(rules, &dirs, depth),
                }
            }
        }
    }
    n_over(rules, limit) == 0
}

/// By how many states or rules there are too many.
fn n_over(rules: &Rules, limit: usize) -> usize {
    n_states(rules).saturating_sub(limit).max(rules.len().saturating_sub(MAX_RULES))
}

/// A directory, with its slash, and what is granted there.
type Dir = (Vec<u8>, FilePerms);

/// Rules that could become one.
#[derive(Default)]
struct Group {
    n: usize,
    /// What they add to the directory's path; at least as many as the states that would be saved.
    n_bytes: usize,
}

/// The largest groups of a tier that might make as many states fewer.
fn largest(groups: BTreeMap<Dir, Group>, tier: FilePerms, n_over: usize) -> BTreeSet<Dir> {
    let of_tier = groups.into_iter().filter(|((_, perms), group)| tier.contains(*perms) && group.n > 1);
    let mut of_tier: Vec<_> = of_tier.collect();
    of_tier
        .sort_by(|(dir, one), (other_dir, other)| other.n_bytes.cmp(&one.n_bytes).then(dir.cmp(other_dir)));
    let mut n_saved = 0;
    let mut enough = BTreeSet::new();
    for (dir, group) in of_tier {
        if n_saved >= n_over {
            break;
        }
        n_saved += group.n_bytes;
        enough.insert(dir);
    }
    enough
}

/// The files of each directory, by what is granted.
fn files(rules: &Rules) -> BTreeMap<Dir, Group> {
    grouped(rules.iter().filter_map(foldable))
}

/// All below directories of a depth, by what is granted.
fn below(rules: &Rules, depth: usize) -> BTreeMap<Dir, Group> {
    grouped(rules.iter().filter_map(|rule| foldable_below(rule, depth)))
}

fn grouped<'a>(rules: impl Iterator<Item = (&'a [u8], &'a [u8], FilePerms)>) -> BTreeMap<Dir, Group> {
    let mut groups: BTreeMap<_, Group> = BTreeMap::new();
    for (dir, rest, perms) in rules {
        let group = groups.entry((dir.to_vec(), perms)).or_default();
        group.n += 1;
        group.n_bytes += rest.len();
    }
    groups
}

/// A file's directory with its slash, its name, and what is granted; `None` if it must keep its rule: it is a directory, or
/// generalised already, or is executed, or is where nothing is folded.
fn foldable(rule: &Rule) -> Option<(&[u8], &[u8], FilePerms)> {
    let What::File { path, perms, owner: false } = &rule.what else { return None };
    let path = path.as_literal().filter(|_| !perms.contains(FilePerms::EXEC))?;
    let (dir, name) = path.split_at(path.iter().rposition(|byte| *byte == b'/')? + 1);
    let never = name.is_empty() || dir == b"/" || NEVER.iter().any(|never| is_in(dir, never));
    (!never).then_some((dir, name, *perms))
}

/// True if the directory, with its slash, is the other one or below it.
fn is_in(dir: &[u8], other: &[u8]) -> bool {
    let other = other.strip_suffix(b"/").unwrap_or(other);
    dir.strip_prefix(other).is_some_and(|rest| rest.starts_with(b"/"))
}

fn fold_files(rules: &mut Rules, dirs: &BTreeSet<Dir>, reason: FoldReason) {
    rules.fold(|rule| {
        let (dir, _, perms) = foldable(rule)?;
        dirs.contains(&(dir.to_vec(), perms)).then(|| (all_in(dir, Piece::Files), reason))
    });
}

fn fold_below(rules: &mut Rules, dirs: &BTreeSet<Dir>, depth: usize) {
    rules.fold(|rule| {
        let (dir, _, perms) = foldable_below(rule, depth)?;
        dirs.contains(&(dir.to_vec(), perms)).then(|| (all_in(dir, Piece::Below), FoldReason::Limit))
    });
}

fn all_in(dir: &[u8], piece: Piece) -> Pattern {
    Pattern::from_iter([Piece::Literal(dir.into()), piece])
}

/// The directory of a depth that a path is below, the rest of it, and what is granted. Also for directories, and for rules
/// whose files were folded before.
fn foldable_below(rule: &Rule, depth: usize) -> Option<(&[u8], &[u8], FilePerms)> {
    let What::File { path, perms, owner: false } = &rule.what else { return None };
    let (literal, n_more) = match path.pieces() {
        [Piece::Literal(literal)] => (literal.as_slice(), 0),
        [Piece::Literal(literal), Piece::Files] => (literal.as_slice(), 1),
        _ => return None,
    };
    let mut slashes = literal.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let (dir, rest) = literal.split_at(slashes.nth(depth)? + 1);
    let never = perms.contains(FilePerms::EXEC) || NEVER.iter().any(|never| is_in(dir, never));
    // `/d/**` does not match `/d/`.
    (!never && rest.len() + n_more > 0).then_some((dir, rest, *perms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Access, AccessKey, Certainty, FileAccess, FileFacts, FileOp, Outcome};

    fn rules<'a>(paths: impl IntoIterator<Item = (&'a str, &'a str)>) -> Rules {
        let mut rules = Rules::default();
        for (path, perms) in paths {
            let perms: FilePerms = perms.parse().unwrap();
            let file = FileAccess { path: path.into(), op: FileOp::Open, perms, facts: FileFacts::default() };
            let what = What::File { path: Pattern::literal(path.as_bytes()), owner: false, perms };
            let key = AccessKey {
                what: Access::File(file),
                outcome: Outcome::Granted,
                certainty: Certainty::Exact,
            };
            rules.add(Rule::seen(what, key, None));
        }
        rules
    }

    fn paths(rules: &Rules) -> Vec<String> {
        let path = |rule: &Rule| match &rule.what {
            What::File { path, .. } => path.to_text().replace('"', ""),
            _ => unreachable!(),
        };
        let mut paths: Vec<String> = rules.iter().map(path).collect();
        paths.sort();
        paths
    }

    #[test]
    fn states_are_counted_once_for_a_common_beginning_or_end() {
        assert_eq!(n_states(&rules([("/ab", "r")])), 5);
        assert_eq!(n_states(&rules([("/ab", "r"), ("/ac", "r")])), 5);
        assert_eq!(n_states(&rules([("/ab", "r"), ("/ac", "w"), ("/a", "w")])), 6);
        assert_eq!(n_states(&rules([("/a/x", "r"), ("/b/x", "r")])), 6);
        assert_eq!(n_states(&rules([("/a/x", "r"), ("/b/x", "w")])), 9);
    }

    #[test]
    fn versions_fold_where_a_library_is_read_or_mapped_and_nowhere_else() {
        let mut some = rules([
            ("/lib/libssl.so.3", "rm"),
            ("/lib/libssl.so.1.1", "rm"),
            ("/lib/libc-2.31.so", "rm"),
            ("/lib/libz.so.1", "rw"),
            ("/lib/ld.so.2", "rx"),
            ("/lib/my-plugin.so", "rm"),
            ("/lib/libfoo.so.old", "rm"),
            ("/lib/-1/x.so", "rm"),
        ]);
        versions(&mut some);
        assert_eq!(
            paths(&some),
            [
                "/lib/-1/x.so",
                "/lib/ld.so.2",
                "/lib/libc-[0-9]*.so",
                "/lib/libfoo.so.old",
                "/lib/libssl.so.[0-9]*",
                "/lib/libz.so.1",
                "/lib/my-plugin.so"
            ]
        );
    }

    #[test]
    fn a_threshold_counts_files_of_one_directory_that_are_used_alike() {
        let some = || {
            rules([
                ("/srv/a/1", "r"),
                ("/srv/a/2", "r"),
                ("/srv/a/3", "rw"),
                ("/srv/a/4", "rx"),
                ("/srv/a/5", "rx"),
                ("/srv/b/1", "r"),
                ("/srvx/1", "r"),
                ("/srvx/2", "r"),
                ("/etc/1", "r"),
                ("/etc/2", "r"),
            ])
        };
        let of = |prefix: &str, n_files| Threshold { prefix: prefix.into(), n_files };
        let mut folded = some();
        thresholds(&mut folded, &[of("/srv", 2), of("/etc", 1)]);
        assert_eq!(
            paths(&folded),
            [
                "/etc/1", "/etc/2", "/srv/a/*", "/srv/a/3", "/srv/a/4", "/srv/a/5", "/srv/b/1", "/srvx/1",
                "/srvx/2"
            ]
        );
        let mut more_below = some();
        thresholds(&mut more_below, &[of("/", 2), of("/srv/a/", 3)]);
        assert_eq!(
            paths(&more_below).iter().filter(|path| path.contains('*')).collect::<Vec<_>>(),
            ["/srvx/*"]
        );
    }

    #[test]
    fn more_rules_than_the_parser_can_take_are_folded_though_they_make_few_states() {
        let names: Vec<String> =
            (0..=MAX_RULES).map(|n| format!("/srv/files/{}/{}", n / 100, n % 100)).collect();
        let mut rules = rules(names.iter().map(|path| (path.as_str(), "r")));
        assert!(n_states(&rules) < 2000);
        assert!(to_limit(&mut rules, MAX_STATES));
        assert!(rules.len() <= MAX_RULES && rules.len() > MAX_RULES - 200, "{}", rules.len());
    }

    #[test]
    fn the_limit_folds_reading_first_and_never_etc_nor_the_root() {
        // Names with ends of their own: what has a common end makes no more states.
        let names: Vec<(String, &str)> = (0..100)
            .flat_map(|n| {
                let name = |of: &str| format!("{of}{n}{:02}-{of}{of}{of}{n}{:02}", 99 - n, 99 - n);
                [
                    (format!("/var/lib/a/{}", name("a")), "r"),
                    (format!("/var/lib/b/{}", name("b")), "rw"),
                    (format!("/etc/{}", name("c")), "r"),
                    (format!("/{}", name("d")), "r"),
                    (format!("/opt/d{n}/deep/{}", name("e")), "r"),
                ]
            })
            .collect();
        let all = || rules(names.iter().map(|(path, perms)| (path.as_str(), *perms)));
        let before = n_states(&all());
        let folded = |limit| {
            let mut rules = all();
            let enough = to_limit(&mut rules, limit);
            let (paths, n_left) = (paths(&rules), n_states(&rules));
            assert_eq!(enough, n_left <= limit);
            (n_left, paths.len(), paths.into_iter().filter(|path| path.contains('*')).collect::<Vec<_>>())
        };
        assert_eq!(folded(before), (before, 500, vec![]));
        let (n_left, n, dirs) = folded(before - 1);
        assert_eq!((n, dirs), (401, vec!["/var/lib/a/*".to_owned()]));
        let (_, n, dirs) = folded(n_left - 1);
        assert_eq!((n, dirs), (302, vec!["/var/lib/a/*".to_owned(), "/var/lib/b/*".to_owned()]));
        let (n_left, _, dirs) = folded(10);
        assert!(
            n_left > 10 && dirs.iter().all(|dir| !dir.starts_with("/etc") && dir != "/*" && dir != "/**"),
            "{dirs:?}"
        );
    }
}
