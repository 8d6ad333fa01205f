//! Facts about AppArmor profile text: what is parsed, and that it means what `apparmor_parser` makes of it.

use std::fmt::Write;

use khard_profile::Bytes;
use khard_profile::apparmor_text::{self, ParsedProfile};
use khard_profile::check::apparmor::{Refusal, Verdict};
use khard_profile::check::{Question, check_apparmor};
use khard_profile::recording::*;
use proptest::prelude::*;

use crate::apparmor_oracle::{self, Dfa, START};
use crate::support::{run, run_id, subject};

/// One profile named `x`, with the flags of a container's.
pub(crate) fn profile_of(rules: &str) -> String {
    format!(
        "abi <abi/3.0>,\ninclude <tunables/global>\nprofile x flags=(attach_disconnected,mediate_deleted) {{\n{rules}\n}}\n"
    )
}

/// A recording of a workload that was granted these.
pub(crate) fn recording_of(accesses: &[Access]) -> Recording {
    let mut recording = Recording::new(subject());
    recording.add_run(run(0));
    for what in accesses {
        let key = AccessKey { what: what.clone(), outcome: Outcome::Granted, certainty: Certainty::Exact };
        recording.observe_access(run_id(0), key, Phase::Workload, None).unwrap();
    }
    recording
}

/// What a profile does to each of these, in the same order.
pub(crate) fn verdicts(profile: &ParsedProfile, accesses: &[Access]) -> Vec<Verdict> {
    let report = check_apparmor(profile, &recording_of(accesses), &Question::default());
    let all = || report.accesses.iter().chain(&report.aside);
    let of = |what: &Access| all().find(|checked| checked.key.what == *what).unwrap().verdict.clone();
    if accesses.len() > 8 {
        // Sorted by the recording: found by search, not one by one.
        let sorted: std::collections::BTreeMap<_, _> =
            all().map(|checked| (checked.key.what.clone(), checked.verdict.clone())).collect();
        return accesses.iter().map(|what| sorted[what].clone()).collect();
    }
    accesses.iter().map(of).collect()
}

pub(crate) fn open(path: impl Into<Bytes>, perms: &str, owner: bool) -> Access {
    let facts = FileFacts { owner, ..FileFacts::default() };
    Access::File(FileAccess { path: path.into(), op: FileOp::Open, perms: perms.parse().unwrap(), facts })
}

fn is_granted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allowed(_))
}

/// Every text over an alphabet, up to a length, after a slash.
fn paths(alphabet: &[u8], most: usize) -> Vec<Vec<u8>> {
    let mut all = vec![b"/".to_vec()];
    let mut last = all.clone();
    for _ in 0..most {
        last = last
            .iter()
            .flat_map(|path| alphabet.iter().map(|byte| [path.as_slice(), &[*byte]].concat()))
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

fn any_glob() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => proptest::sample::select(vec!["/", "a", "b", "1"]),
        3 => proptest::sample::select(vec!["*", "**", "?", "[ab]", "[^a]", "[/1]", "[a-b]", "[b-a]", "[^/]", "***"]),
        1 => proptest::sample::select(vec![
            "\\052", "\\*", "\\a", "\\141", "\\x61", "\\d98", "\\057", "\\q", "[-a]", "[a-]", "[\\141]", "[", "]", "}", "{",
            "@{pid}", "@{PROC}", "@{run}", "@{HOME}", "@{nope}", "[a-b-1]", "\\", "[\\]a]", "[?]", "{a}", ".", "[^^a]",
        ]),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            1 => proptest::collection::vec(proptest::collection::vec(inner, 0..3).prop_map(|parts| parts.concat()), 2..4)
                .prop_map(|parts| format!("{{{}}}", parts.join(","))),
        ]
    })
}

/// The permissions in the kernel's old order of bits (security/apparmor/include/file.h), which compiled policy has.
const LETTERS: [(&str, u32); 6] = [("x", 1), ("w", 2), ("r", 4), ("a", 8), ("k", 32), ("m", 64)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn globs_match_what_the_compiled_automaton_matches(parts in proptest::collection::vec(any_glob(), 1..4)) {
        if !apparmor_oracle::is_here() {
            return Ok(());
        }
        let text = profile_of(&format!("/{} r,", parts.concat()));
        let parsed = ParsedProfile::parse(text.as_bytes());
        let Ok(blob) = apparmor_oracle::compile(text.as_bytes()) else {
            let judged = parsed.map(|profile| verdicts(&profile, &[open("/", "r", false)]));
            let unclear = |verdicts: &Vec<Verdict>| matches!(verdicts[..], [Verdict::CannotJudge(_)]);
            prop_assert!(judged.as_ref().map_or(true, unclear), "{text} {judged:?}");
            return Ok(());
        };
        let dfa = Dfa::all(&blob).pop().unwrap();
        let profile = parsed.unwrap();
        let paths = paths(b"/ab1", 5);
        let accesses: Vec<_> = paths.iter().map(|path| open(path.clone(), "r", false)).collect();
        for (path, verdict) in paths.iter().zip(verdicts(&profile, &accesses)) {
            let expected = dfa.accepts(dfa.run(START, path)) & 4 != 0;
            if !matches!(verdict, Verdict::CannotJudge(_)) {
                prop_assert_eq!(is_granted(&verdict), expected, "{} {}", &text, path.escape_ascii());
            }
        }
    }

    #[test]
    fn rules_together_grant_what_the_compiled_automaton_grants(
        rules in proptest::collection::vec(
            (0..4_usize, 0..3_usize, proptest::sample::select(vec!["/a", "/b", "/*", "/{a,c}", "/**"]), "[rwkmlax]{1,3}"), 1..6)
    ) {
        if !apparmor_oracle::is_here() {
            return Ok(());
        }
        let mut text = String::new();
        for (qualifier, order, path, letters) in rules {
            let qualifier = ["", "deny ", "owner ", "audit deny owner "][qualifier];
            let letters = if qualifier.contains("deny") { letters } else { letters.replace('x', "ix") };
            let rule = match order {
                0 => format!("{path} {letters}"),
                1 => format!("{letters} {path}"),
                _ => format!("file {path} {letters}"),
            };
            writeln!(text, "{qualifier}{rule},").unwrap();
        }
        let text = profile_of(&text);
        let parsed = ParsedProfile::parse(text.as_bytes());
        let Ok(blob) = apparmor_oracle::compile(text.as_bytes()) else {
            prop_assert!(parsed.is_err(), "{text}");
            return Ok(());
        };
        let profile = parsed.unwrap();
        let dfa = Dfa::all(&blob).pop().unwrap();
        for path in ["/a", "/b", "/c", "/c/d", "/a/"] {
            let accept = dfa.accepts(dfa.run(START, path.as_bytes()));
            for (owner, shift) in [(true, 0), (false, 14)] {
                for (letter, bit) in LETTERS {
                    let verdict = &verdicts(&profile, &[open(path, letter, owner)])[0];
                    let expected = accept >> shift & bit != 0;
                    prop_assert_eq!(is_granted(verdict), expected, "{} {} {} {}", &text, path, letter, owner);
                }
            }
            for target in ["/a", "/b", "/c", "/"] {
                // The kernel's own steps (`profile_path_link`): both bits, then the subset test if one rule asks for it. The
                // parser writes that bit for the owner only; khard takes it for everybody.
                let granted = |shift: u32| {
                    let new = dfa.run(START, path.as_bytes());
                    let pair = dfa.accepts(dfa.run(dfa.next(new, 0), target.as_bytes()));
                    let new = dfa.accepts(new) >> shift;
                    let old = dfa.accepts(dfa.run(START, target.as_bytes())) >> shift;
                    let fits = pair & 32 == 0 || (new & 0b110_1111) & !old == 0;
                    new & 16 != 0 && (pair >> shift) & 16 != 0 && fits
                };
                let verdict = &verdicts(&profile, &[Access::Link { link: path.into(), target: target.into() }])[0];
                if !matches!(verdict, Verdict::CannotJudge(_)) {
                    let expected = (granted(0), granted(14));
                    let given = is_granted(verdict);
                    prop_assert!(expected == (given, given), "{text} link {path} -> {target}: {verdict:?} {expected:?}");
                }
            }
        }
    }
}

/// `apparmor_parser` takes all of these, and so must khard.
const TAKEN: &str = r#"
capability,|capability chown setuid,|deny capability sys_admin,|audit capability perfmon bpf checkpoint_restore,
network,|network inet,|network inet stream,|network stream,|network tcp,|network inet6 udp,|network netlink raw,|deny network alg,
unix,|unix (create) type=stream,|unix type=stream addr=none,
signal,|signal send,|signal (send, receive) set=("term" hup) peer="a b",|signal set=rtmin+3,|signal (r w),|signal (receive) peer=unconfined,
signal peer={runc,crun},|signal peer=/usr/bin/x,|signal (send,receive) peer=@{profile_name},|signal set=(term,kill,exists) peer=x,
ptrace,|ptrace (read,readby) peer=@{profile_name},|ptrace tracedby,|ptrace rw,
mount,|mount fstype=tmpfs,|mount fstype=(tmpfs, ext4) options=(rw,nosuid) tmpfs -> /m/,|mount options in (ro,bind) /a/ -> /b/,
mount /a -> /b,|mount /a,|mount -> /b,|mount options=ro fstype=fuse.* /a -> /b,|mount options=(rw,rprivate) -> /,|mount options=(rw,move) -> /m/,
remount,|remount /a/,|remount options=ro /a,|umount,|umount /a/,|unmount /a,|umount fstype=tmpfs /a,
pivot_root,|pivot_root oldroot=/n/old/ /n/,|pivot_root /n/ -> foo,
dbus,|dbus send bus=session path=/a peer=(name=org.a),|change_profile,|change_profile -> foo,|change_profile unsafe /a -> foo,
set rlimit nofile <= 10,|set rlimit cpu <= 10 minutes,
file,|owner file,|file r /a,|file /a r,|owner file /a rw,|audit owner /a r,|allow owner /a r,|audit deny /a r,|deny /a x,|deny /a rx,
owner { /a r, }|audit { /a r, /b w, }|owner { audit /a r, }
/a ix,|/a rix,|/a Px -> foo,|/a cx -> foo,|/a pix,|/a RW,|/a rr,|/a w, /a a,|/a rwmlkix,|/a Ux,|/a PUx,|/a Pux,|/a px -> b//c,
safe px /a,|unsafe /a px,|/a r,/b r,|/a r , /b r ,|/a pxpx,|/a r -> b,|ix /a -> b,
link /a -> /b,|link subset /a -> /b,|/a l -> /b,|l /a -> /b,|/a l,|owner link /a -> /b,|deny link /a -> /b,
hat foo { /a r, }|^foo { /a r, }|profile c { /a r, }|profile c /a flags=(complain) { /a r, }
"/a b" r,|"/a\"b" r,|/a\ b r,|/a\040b r,|/a,b r,|/a{b,c} r,|/a{,} r,|/a[a-z] r,|/a(b) r,|/a=b r,|/a$b r,|/a#b r,|/a^b r,|/a@b r,|@{PROC}/a r,
include if exists <nope>|#include if exists <nope>|include <abstractions/base>|# a comment|/a r, # a comment
"#;

/// It refuses all of these.
const REFUSED: &str = r#"
capability foo,|capability CAP_CHOWN,|capability chown, setuid,|owner capability chown,|network foo,|network inet stream tcp,|owner network,
signal (bar),|signal set=tstp,|signal set=rtmin+33,|signal trace,|owner signal,|mount /a /b,|mount (ro),|umount -> /a,|remount -> /a,
owner audit /a r,|deny audit /a r,|owner deny /a r,|deny { /a r, }|/a x,|/a wa,|/a z,|/a ,|/a r|x /a,|/a ixpx,|/a xi,|deny /a ix,
file rw,|file r,|file owner /a r,|/a safe px,|/a unsafe px,|link /a,|link subset -> /b,|/a -> /b r,|a r,|^foo,|/a { /b r, }|{/a,/b} r,
/a"b r,|/a{b} r,|/a{} r,|/a{b,c r,|/a} r,|/a[ r,|/a] r,|/a[] r,|/a[^] r,|/a[a-] r,|/a[a--] r,|/a! r,|@{nope}/a r,|"" r,|"a" r,|/a "b r,
include foo|if $foo { /a r, }|}|/a r, } /b r,|profile c { /a r,
"#;

fn each(list: &str) -> impl Iterator<Item = &str> {
    list.lines().flat_map(|line| line.split('|')).filter(|rule| !rule.is_empty())
}

#[test]
fn what_the_parser_takes_is_parsed() {
    for rule in each(TAKEN) {
        let text = profile_of(rule);
        let parsed = ParsedProfile::parse(text.as_bytes());
        assert!(parsed.is_ok(), "{rule}: {parsed:?}");
        if apparmor_oracle::is_here() {
            assert_eq!(apparmor_oracle::compile(text.as_bytes()).err(), None, "{rule}");
        }
    }
}

#[test]
fn what_the_parser_refuses_is_refused_with_its_line() {
    for rule in each(REFUSED) {
        let text = profile_of(rule);
        let error = ParsedProfile::parse(text.as_bytes()).expect_err(rule).to_string();
        assert!(error.contains("line "), "{rule}: {error}");
        if apparmor_oracle::is_here() {
            assert!(apparmor_oracle::compile(text.as_bytes()).is_err(), "{rule}");
        }
    }
}
