//! Facts about AppArmor profile text: what is parsed, and that it means what `apparmor_parser` makes of it.

use std::fmt::Write;

use khard_profile::Bytes;
use khard_profile::apparmor_text::ParsedProfile;
use khard_profile::check::apparmor::Verdict;
use khard_profile::check::{Question, check_apparmor};
use khard_profile::recording::*;
use proptest::prelude::*;

use crate::apparmor_oracle::{self, Dfa, MOUNT, NET, PTRACE, SIGNAL, START};
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
        apparmor_oracle::must_be_here();
        let text = profile_of(&format!("/{} r,", parts.concat()));
        // The parser's two layers disagree about where these end: khard refuses them always.
        prop_assume!(!text.contains("[]") && !text.contains("[^]"));
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
        apparmor_oracle::must_be_here();
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

/// Parts of a name as it may be written, with quotes or without.
fn any_written() -> impl Strategy<Value = String> {
    let parts = [
        "a",
        "7",
        "/",
        "//",
        ".",
        "\\",
        "\\\\",
        "\\\"",
        "\\ ",
        "\\,",
        "\\!",
        "\\n",
        "\\t",
        "\\e",
        "\\q",
        "\\/",
        "\\053",
        "\\7",
        "\\12",
        "\\1234",
        "\\777",
        "\\400",
        "\\x4",
        "\\xff",
        "\\xg",
        "\\d65",
        "\\d999",
        "\\dq",
        "\\*",
        "\\?",
        "\\[",
        "\\{",
        "\\}",
        "\\^",
        "\\@",
        "\\052",
        "\\100\\173pid\\175",
        "^",
        "$",
        "(",
        ")",
        "+",
        "|",
        "=",
        "#",
        "-",
        ">",
        ",",
        "@",
        "{b,c}",
        "é",
        "[a]",
        "'",
        "&",
        ";",
        "~",
        "%",
        "\\134",
        "\\042",
        "\\040",
        "\\054",
    ];
    let quoted = ["\"", "\" ", "!", " ", "\t"];
    (any::<bool>(), proptest::collection::vec((0..parts.len(), 0..40_usize), 1..7)).prop_map(
        move |(quotes, chosen)| {
            let name: String = chosen
                .into_iter()
                .map(|(part, special)| if quotes && special < 2 { quoted[2 + special] } else { parts[part] })
                .collect();
            if quotes { format!("\"/{name}\"") } else { format!("/{name}") }
        },
    )
}

/// What the kernel is asked of mount(2) (`apparmor_sb_mount`, security/apparmor/lsm.c and mount.c).
fn mount_bytes(fstype: &str, source: &str, target: &str, flags: u64) -> Vec<u8> {
    const PROPAGATION: u64 = 0b1111 << 17;
    let (source, fstype, flags) = match flags {
        _ if flags & 1 << 5 != 0 => ("", "", flags),
        _ if flags & 1 << 12 != 0 => (source, "", flags & (1 << 12 | 1 << 14)),
        _ if flags & PROPAGATION != 0 => ("", "", flags & (PROPAGATION | 1 << 14 | 1 << 15)),
        _ if flags & 1 << 13 != 0 => (source, "", 1 << 13),
        _ => (source, fstype, flags),
    };
    let mut bytes = [target.as_bytes(), b"\0", source.as_bytes(), b"\0", fstype.as_bytes(), b"\0"].concat();
    bytes.extend((0..32_u8).filter(|bit| flags & 1 << bit != 0).map(|bit| bit + 1));
    bytes
}

fn any_mount_rule() -> impl Strategy<Value = String> {
    let options = proptest::sample::select(vec![
        "",
        "options=(rw,bind)",
        "options=(rw,rbind)",
        "options=(ro,nosuid)",
        "options=(rw)",
        "options in (ro,nosuid,nodev)",
        "options=(rw,rprivate)",
        "options=(private)",
        "options=(rw,move)",
        "options=(remount,ro)",
        "options in (bind,ro)",
        "options=(remount,ro,bind)",
        "options in (remount,ro,nosuid)",
        "options in (ro,rshared)",
        "options=(rw,slave,silent)",
    ]);
    let fstype =
        proptest::sample::select(vec!["", "", "fstype=tmpfs", "fstype=(ext4,tmpfs)", "fstype=fuse.*"]);
    let names = proptest::sample::select(vec![
        "",
        "/a/",
        "tmpfs",
        "/a/ -> /m/",
        "-> /m/",
        "-> /**",
        "tmpfs -> /m/",
        "/* -> /m/",
    ]);
    (options, fstype, names).prop_map(|(options, fstype, names)| format!("mount {fstype} {options} {names}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn names_are_read_as_the_parser_reads_them(written in any_written()) {
        apparmor_oracle::must_be_here();
        let text = profile_of(&format!("{written} r,"));
        let parsed = ParsedProfile::parse(text.as_bytes());
        let Ok(blob) = apparmor_oracle::compile(text.as_bytes()) else {
            prop_assert!(parsed.is_err(), "{text} {parsed:?}");
            return Ok(());
        };
        let profile = parsed.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        let dfa = Dfa::all(&blob).pop().unwrap();
        for path in dfa.accepted(4, 16) {
            let near = [path.as_slice(), b"/"].concat();
            for path in [path, near] {
                let expected = dfa.accepts(dfa.run(START, &path)) & 4 != 0;
                let verdict = &verdicts(&profile, &[open(path.clone(), "r", false)])[0];
                prop_assert_eq!(is_granted(verdict), expected, "{} {}", &text, path.escape_ascii());
            }
        }
    }

    #[test]
    fn signals_traces_and_sockets_are_granted_as_compiled(
        rules in proptest::collection::vec(proptest::sample::select(vec![
            "signal,", "signal send,", "signal (receive) peer=x,", "signal (send,receive) set=(term,hup) peer=x,", "deny signal set=kill,",
            "signal (send) set=(rtmin+3,exists) peer={unconfined,run?},", "signal peer=/usr/*,", "signal send peer=/usr/**,",
            "ptrace,", "ptrace (read,readby) peer=x,", "ptrace trace peer=@{profile_name},", "deny ptrace tracedby,", "ptrace readby peer=un*,",
            "network,", "network inet,", "network inet stream,", "network dgram,", "network tcp,", "network inet6 udp,", "network icmp,",
            "deny network netlink,", "network unix seqpacket,", "unix,", "deny network raw,",
        ]), 1..6)
    ) {
        apparmor_oracle::must_be_here();
        let text = profile_of(&rules.join("\n"));
        let profile = ParsedProfile::parse(text.as_bytes()).unwrap();
        let blob = apparmor_oracle::compile(text.as_bytes()).map_err(TestCaseError::fail)?;
        let dfa = Dfa::all(&blob).swap_remove(0);
        let class = |class: u8| dfa.next(START, class);
        for label in ["x", "unconfined", "runc", "/usr/bin/a", "/usr/a"] {
            let inside = label == "x";
            let peer = if inside { Peer::Inside } else { Peer::Outside { label: Some(label.into()) } };
            for (signal, mapped) in [(0, 35), (1, 1), (9, 9), (15, 15), (34, 130), (35, 131)] {
                let accept = dfa.accepts(dfa.run(dfa.next(class(SIGNAL), mapped), label.as_bytes()));
                let expected = accept & 2 != 0 && (!inside || accept & 4 != 0);
                let verdict = &verdicts(&profile, &[Access::Signal { signal, peer: peer.clone() }])[0];
                prop_assert_eq!(is_granted(verdict), expected, "{} signal {} to {}", &text, signal, label);
            }
            // Bits: security/apparmor/include/ipc.h and perms.h.
            for (mode, does, suffers) in [(PtraceMode::Read, 4, 16), (PtraceMode::Trace, 2, 8)] {
                let accept = dfa.accepts(dfa.run(class(PTRACE), label.as_bytes()));
                let expected = accept & does != 0 && (!inside || accept & suffers != 0);
                let verdict = &verdicts(&profile, &[Access::Ptrace { mode, peer: peer.clone() }])[0];
                prop_assert_eq!(is_granted(verdict), expected, "{} {} of {} {:#x}", &text, mode, label, accept);
            }
        }
        for (family, kind) in [(1, 1), (1, 5), (2, 1), (2, 2), (2, 3), (10, 2), (10, 3), (16, 3), (17, 10)] {
            let bytes = [u16::to_be_bytes(family), u16::to_be_bytes(kind)].concat();
            let expected = dfa.accepts(dfa.run(class(NET), &bytes)) & 16 != 0;
            let verdict = &verdicts(&profile, &[Access::Network { family, kind }])[0];
            prop_assert_eq!(is_granted(verdict), expected, "{} network {} {}", &text, family, kind);
        }
    }

    #[test]
    fn mounts_that_are_granted_are_granted_as_compiled(
        rules in proptest::collection::vec(prop_oneof![
            4 => any_mount_rule(),
            1 => proptest::sample::select(vec![
                "remount", "remount /m/", "remount options=ro /m/",
                "remount options in (ro,nosuid)", "umount", "umount /m/", "umount /*/", "pivot_root", "pivot_root /n/",
                "pivot_root oldroot=/n/old/ /n/", "pivot_root oldroot=/n/**",
            ]).prop_map(str::to_owned),
        ], 1..4)
    ) {
        apparmor_oracle::must_be_here();
        let text = profile_of(&(rules.join(",\n") + ","));
        let parsed = ParsedProfile::parse(text.as_bytes());
        let Ok(blob) = apparmor_oracle::compile(text.as_bytes()) else { return Ok(()) };
        let profile = parsed.unwrap();
        let dfa = Dfa::all(&blob).swap_remove(0);
        let start = dfa.next(START, MOUNT);
        let mut cases = Vec::new();
        for (fstype, source) in [("tmpfs", "tmpfs"), ("ext4", "/a/"), ("fuse.x", "/dev/b"), ("", "/a/")] {
            for target in ["/m/", "/n/o/"] {
                for flags in [0, 1, 2, 3, 4, 1 << 12, 1 << 12 | 1, 5 << 12, 1 << 13, 1 << 18, 1 << 18 | 1 << 14, 1 << 20, 1 << 19 | 1 << 15,
                    1 << 5, 1 << 5 | 1, 1 << 5 | 3, 1 << 5 | 1 << 12 | 1] {
                    let what = Access::Mount { fstype: fstype.into(), source: source.into(), target: target.into(), flags };
                    cases.push((what, mount_bytes(fstype, source, target, flags), 2));
                }
            }
        }
        for target in ["/m/", "/n/", "/"] {
            cases.push((Access::Umount { target: target.into(), flags: 0 }, target.into(), 4));
            let old = format!("{target}old/");
            let bytes = [target.as_bytes(), b"\0", old.as_bytes()].concat();
            cases.push((Access::PivotRoot { new_root: target.into(), put_old: old.as_str().into() }, bytes, 1));
        }
        let accesses: Vec<_> = cases.iter().map(|(what, ..)| what.clone()).collect();
        for ((what, bytes, permission), verdict) in cases.iter().zip(verdicts(&profile, &accesses)) {
            let expected = dfa.accepts(dfa.run(start, bytes)) & permission != 0;
            // Not the other way: 3.0.8 widens mount rules (CVE-2016-1585), and khard says what they say.
            prop_assert!(expected || !is_granted(&verdict), "{text} {what:?} {verdict:?}");
        }
    }
}

/// `apparmor_parser` takes all of these, and so must khard.
const TAKEN: &str = r#"
/@{b,c} r,|/@{b,c} r,|capability,|capability chown setuid,|deny capability sys_admin,|audit capability perfmon bpf checkpoint_restore,
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
        apparmor_oracle::must_be_here();
        assert_eq!(apparmor_oracle::compile(text.as_bytes()).err(), None, "{rule}");
    }
}

#[test]
fn what_the_parser_refuses_is_refused_with_its_line() {
    for rule in each(REFUSED) {
        let text = profile_of(rule);
        let error = ParsedProfile::parse(text.as_bytes()).expect_err(rule).to_string();
        assert!(error.contains("line "), "{rule}: {error}");
        apparmor_oracle::must_be_here();
        assert!(apparmor_oracle::compile(text.as_bytes()).is_err(), "{rule}");
    }
}
