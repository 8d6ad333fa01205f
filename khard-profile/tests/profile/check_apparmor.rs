//! Facts about checking AppArmor profiles of any maker against a recording, and about explaining rules.

use khard_profile::Bytes;
use khard_profile::apparmor::{self, Policy, Style};
use khard_profile::apparmor_text::{self, ParsedProfile};
use khard_profile::check::apparmor::{Refusal, Report, Verdict};
use khard_profile::check::{Profile, Question, check_apparmor};
use khard_profile::explain::{ExplainError, explain_apparmor, explain_seccomp};
use khard_profile::recording::*;
use proptest::prelude::*;

use crate::apparmor_text::{open, profile_of, recording_of, verdicts};
use crate::support::{nginx_pod, run, run_id, subject};

fn parsed(rules: &str) -> ParsedProfile {
    ParsedProfile::parse(profile_of(rules).as_bytes()).unwrap()
}

/// `allowed`, `refused: why`, `unclear: why` or `not mediated`.
fn in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allowed(by) => format!("allowed by {by:?}"),
        Verdict::NotMediated(_) => "not mediated".to_owned(),
        Verdict::Refused(Refusal::NoRule { missing }) => format!("refused: {missing}"),
        Verdict::Refused(refusal) => format!("refused: {refusal:?}"),
        Verdict::CannotJudge(why) => format!("unclear: {why}"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "calls are shorter")]
fn check_one(profile: &ParsedProfile, what: Access, expected: &str) {
    let verdict = in_words(&verdicts(profile, std::slice::from_ref(&what))[0]);
    assert!(verdict.starts_with(expected), "{what:?}: {verdict}, not {expected}");
}

fn file(path: &str, op: FileOp, perms: &str, facts: FileFacts) -> Access {
    Access::File(FileAccess { path: path.into(), op, perms: perms.parse().unwrap(), facts })
}

const NONE: FileFacts = FileFacts { owner: false, exclusive: false, deleted: false, disconnected: false };

#[test]
fn what_is_made_or_removed_needs_w_and_the_rules_that_grant_are_named() {
    let profile = parsed("/a r,\n/a w,\n/d/ w,\ndeny /b w,\n/b rw,");
    check_one(&profile, open("/a", "wrc", false), "allowed by [0, 1]");
    check_one(&profile, file("/a", FileOp::Unlink, "d", NONE), "allowed by [1]");
    check_one(&profile, file("/d/", FileOp::Mkdir, "c", NONE), "allowed by [2]");
    check_one(&profile, file("/d", FileOp::Create, "c", NONE), "refused: w");
    check_one(&profile, open("/a", "rk", false), "refused: k");
    check_one(&profile, open("/b", "wr", false), "refused: DenyRule(3)");
    check_one(&profile, open("/b", "r", false), "allowed by [4]");
}

#[test]
fn flags_decide_on_paths_that_are_deleted_or_disconnected() {
    let plain = ParsedProfile::parse(b"abi <abi/3.0>,\nprofile x {\n/** rwmk,\n}\n").unwrap();
    let flagged = parsed("/** rwmk,");
    let deleted = FileFacts { deleted: true, ..NONE };
    let disconnected = FileFacts { disconnected: true, ..NONE };
    check_one(&plain, file("/a", FileOp::Open, "r", deleted), "refused: Flag(\"mediate_deleted\")");
    check_one(&plain, file("/a", FileOp::Open, "r", disconnected), "refused: Flag(\"attach_disconnected\")");
    check_one(&plain, file("/a", FileOp::Mmap, "rm", deleted), "allowed");
    check_one(&flagged, file("/a", FileOp::Open, "r", deleted), "allowed");
    check_one(&flagged, file("/a", FileOp::Open, "r", disconnected), "allowed");
}

#[test]
fn a_plain_link_rule_gives_no_name_more_than_the_file_has_and_a_pair_rule_does() {
    let link = |link: &str, target: &str| Access::Link { link: link.into(), target: target.into() };
    check_one(&parsed("/a l,"), link("/a", "/b"), "allowed");
    check_one(&parsed("/a rwl,\n/b r,"), link("/a", "/b"), "refused: Subset");
    check_one(&parsed("/a rl,\n/b rw,"), link("/a", "/b"), "allowed");
    check_one(&parsed("/a rw,\nlink /a -> /b,"), link("/a", "/b"), "allowed");
    check_one(&parsed("/a rw,\nlink subset /a -> /b,"), link("/a", "/b"), "refused: Subset");
    check_one(&parsed("link /a -> /b,"), link("/a", "/c"), "refused: l");
    check_one(&parsed("/a l -> /b,"), link("/a", "/b"), "allowed");
    check_one(&parsed("owner /a l,"), link("/a", "/b"), "unclear: line 4");
}

#[test]
fn both_sides_of_a_signal_within_the_profile_need_a_rule() {
    let term = |peer| Access::Signal { signal: 15, peer };
    let outside = |label: Option<&str>| Peer::Outside { label: label.map(Bytes::from) };
    check_one(&parsed("signal send peer=x,"), term(Peer::Inside), "refused: receive");
    check_one(&parsed("signal (send,receive) peer=@{profile_name},"), term(Peer::Inside), "allowed");
    check_one(&parsed("signal send peer=x,"), term(outside(Some("unconfined"))), "refused: send");
    check_one(&parsed("signal send,"), term(outside(None)), "allowed");
    check_one(&parsed("signal send peer=x,"), term(outside(None)), "unclear: line 4");
    check_one(&parsed("signal receive peer=x,"), term(outside(None)), "refused: send");
    let read = Access::Ptrace { mode: PtraceMode::Read, peer: Peer::Inside };
    check_one(&parsed("ptrace read,"), read.clone(), "refused: readby");
    check_one(&parsed("ptrace (read,readby),"), read, "allowed");
}

#[test]
fn mount_rules_mean_what_they_say() {
    let mount = |fstype: &str, source: &str, flags| Access::Mount {
        fstype: fstype.into(),
        source: source.into(),
        target: "/m/".into(),
        flags,
    };
    let bind = parsed("mount options=(rw,bind) /a/ -> /m/,");
    check_one(&bind, mount("", "/a/", 1 << 12), "allowed");
    // The kernel compares no other flag of a bind mount.
    check_one(&bind, mount("", "/a/", 1 << 12 | 1), "allowed");
    check_one(&bind, mount("", "/b/", 1 << 12), "refused: mount");
    check_one(&bind, mount("tmpfs", "/a/", 0), "refused: mount");
    let tmpfs = parsed("mount fstype=tmpfs options=(rw,nosuid) tmpfs -> /m/,");
    check_one(&tmpfs, mount("tmpfs", "tmpfs", 2), "allowed");
    check_one(&tmpfs, mount("tmpfs", "tmpfs", 0xc0ed_0002), "allowed");
    // MS_NOSEC is the kernel's own.
    check_one(&tmpfs, mount("tmpfs", "tmpfs", 1 << 28 | 2), "allowed");
    check_one(&tmpfs, mount("tmpfs", "tmpfs", 3), "refused: mount");
    check_one(&parsed("mount options in (ro,nosuid) -> /m/,"), mount("ext4", "/dev/a", 1), "allowed");
    check_one(&parsed("mount options=(rw,foo=1) -> /m/,"), mount("ext4", "/dev/a", 1), "unclear: line 4");
    check_one(&parsed("remount options=ro /m/,"), mount("", "", 1 << 5 | 1), "allowed");
}

#[test]
fn what_an_abi_does_not_mediate_needs_no_rule() {
    let with_abi = |abi: &str, rules: &str| {
        ParsedProfile::parse(format!("{abi}\nprofile x {{ {rules} }}").as_bytes()).unwrap()
    };
    let uring = Access::IoUring { op: IoUringOp::SqPoll };
    check_one(&with_abi("abi <abi/3.0>,", ""), Access::UserNamespace, "not mediated");
    check_one(&with_abi("abi <abi/4.0>,", ""), Access::UserNamespace, "refused: userns");
    check_one(&with_abi("abi <abi/4.0>,", "userns,"), Access::UserNamespace, "allowed");
    check_one(&with_abi("", ""), Access::UserNamespace, "unclear");
    check_one(&with_abi("abi <abi/4.0>,", ""), uring.clone(), "not mediated");
    check_one(&with_abi("abi <abi/5.0>,", "io_uring override_creds,"), uring, "refused: io_uring");
    let connect = file("/s", FileOp::Connect, "wr", NONE);
    check_one(&with_abi("abi <abi/3.0>,", ""), connect.clone(), "unclear");
    check_one(&with_abi("abi <abi/5.0>,", ""), connect.clone(), "refused: wr");
    check_one(&with_abi("abi <abi/3.0>,", "/s rw,"), connect, "allowed");
}

#[test]
fn what_cannot_be_judged_says_why_and_only_where_it_could_change_the_answer() {
    let profile = parsed("include <abstractions/base>\n/a r,\nunix (create) type=stream,");
    check_one(&profile, open("/a", "r", false), "allowed");
    check_one(&profile, open("/b", "r", false), "unclear: line 4: it includes abstractions/base");
    check_one(
        &parsed("unix (create) type=stream,"),
        Access::Network { family: 1, kind: 1 },
        "unclear: line 4",
    );
    check_one(&parsed("unix (create) type=stream,"), open("/a", "r", false), "refused");
    check_one(
        &parsed("deny mount options=(foo),\nmount,"),
        Access::Mount { fstype: Bytes::default(), source: "/a".into(), target: "/b".into(), flags: 1 << 12 },
        "unclear",
    );
    let unknown = b"include <tunables/own>\nprofile x { @{mine}/a r, /b r, }";
    let profile = ParsedProfile::parse(unknown).unwrap();
    check_one(&profile, open("/a", "r", false), "unclear: line 2: the value of @{mine}");
    check_one(&profile, open("/b", "r", false), "allowed");
    let with_hat = parsed("hat h { /a r, }\n/b Px,");
    check_one(&with_hat, open("/a", "r", false), "refused: r");
    let report = check_apparmor(&with_hat, &recording_of(&[]), &Question::default());
    let caveats = report.caveats.join("\n");
    assert!(
        caveats.contains("line 4: the hat or child profile h") && caveats.contains("line 5: it changes"),
        "{caveats}"
    );
}

#[test]
fn variables_have_their_values_and_what_is_added() {
    let text = b"@{a}=/x /y\n@{a} += \"/z z\"\nprofile p { @{a}/f r, @{PROC}/1 r, }";
    assert!(ParsedProfile::parse(text).unwrap_err().to_string().contains("@{PROC} is not defined"));
    let text = [b"include <tunables/global>\n", text.as_slice()].concat();
    let profile = ParsedProfile::parse(&text).unwrap();
    for path in ["/x/f", "/y/f", "/z z/f", "/proc/1"] {
        check_one(&profile, open(path, "r", false), "allowed");
    }
    check_one(&profile, open("/w/f", "r", false), "refused");
}

#[test]
fn several_profiles_are_refused_by_name() {
    let error = ParsedProfile::parse(b"profile a { }\nprofile b { }").unwrap_err().to_string();
    assert!(error.contains("2 profiles") && error.contains("a, b"), "{error}");
    assert_eq!(apparmor_text::parse(b"profile a { }\n/b { }").unwrap().len(), 2);
    assert!(ParsedProfile::parse(b"").is_err());
}

fn eventful() -> Recording {
    let mut recording = Recording::new(subject());
    let observed = run(0).coverage.syscalls;
    let coverage = |class| match class {
        Class::Mounts => Coverage::None(NotObserved { reason: "test".to_owned() }),
        _ => observed.clone(),
    };
    for nth in [0, 1] {
        let mut run = run(nth);
        run.coverage.accesses = AccessCoverage::new(coverage);
        recording.add_run(run);
    }
    let mut observe = |nth: u64, what: Access, outcome, phase| {
        let comm = Bytes::from(&b"ng\x1b[2Jinx"[..]);
        let witness =
            Witness { time_ns: 5_000_000, run: run_id(nth), tgid: 7, tid: 7, comm, exe: "nginx".into() };
        let key = AccessKey { what, outcome, certainty: Certainty::Exact };
        recording.observe_access(run_id(nth), key, phase, Some(witness)).unwrap();
    };
    for nth in [0, 1] {
        observe(nth, open("/etc/nginx/nginx.conf", "r", false), Outcome::Granted, Phase::Workload);
    }
    observe(0, open("/etc/nginx/mime.types", "r", false), Outcome::Granted, Phase::Workload);
    observe(1, open("/tmp/\u{202e}x", "wc", true), Outcome::Granted, Phase::Joiner);
    observe(1, Access::Capability { capability: 10, optional: false }, Outcome::Granted, Phase::Workload);
    observe(1, Access::Capability { capability: 12, optional: true }, Outcome::Granted, Phase::Workload);
    observe(0, open("/root/x", "wc", false), Outcome::Refused, Phase::Workload);
    observe(0, Access::Network { family: 2, kind: 1 }, Outcome::Granted, Phase::Runtime);
    recording
}

fn report(rules: &str) -> Report {
    check_apparmor(&parsed(rules), &eventful(), &Question::default())
}

#[test]
fn attempts_and_mere_tests_of_capabilities_are_no_failure_but_said() {
    let report = report("/etc/nginx/* r,\ncapability net_bind_service,\nowner /tmp/** w,");
    assert!(report.passes(), "{}", report.to_text());
    let aside: Vec<_> = report.aside.iter().map(|access| in_words(&access.verdict)).collect();
    assert_eq!(aside, ["refused: w", "refused: capability"]);
    assert_eq!(report.accesses.len(), 4, "the runtime's own are not asked for");
}

#[test]
fn the_report_shows_what_is_refused_with_its_witness_and_nothing_hostile() {
    let report = report(
        "/etc/nginx/nginx.conf r,\ndeny capability net_bind_service,\ninclude if exists <local/\u{1b}x>\nnetwork,",
    );
    assert!(!report.passes());
    let text = report.to_text();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    insta::assert_snapshot!(text);
    let value = report.to_value();
    assert_eq!((&value["passes"], &value["accesses"][0]["verdict"]), (&false.into(), &"cannot_judge".into()));
    assert_eq!(value["accesses"][1]["lines"], serde_json::json!([4]));
}

#[test]
fn a_rule_is_explained_by_its_text_its_line_and_its_paths() {
    let profile =
        parsed("/etc/nginx/* r, # first: nginx\nsignal (receive) peer=unconfined,\nowner /tmp/** w,");
    let recording = eventful();
    let of_rule = explain_apparmor(&profile, &recording, "/etc/nginx/*  r,").unwrap();
    assert_eq!(explain_apparmor(&profile, &recording, "4").unwrap(), of_rule);
    let seen: Vec<_> = of_rule
        .observations
        .iter()
        .map(|one| (one.seen[0].frequency.in_whole, one.seen[0].frequency.of_whole))
        .collect();
    assert_eq!(seen, [(1, 2), (2, 2)]);
    insta::assert_snapshot!(of_rule.to_text());
    let unneeded = explain_apparmor(&profile, &recording, "5").unwrap();
    assert!(
        unneeded.observations.is_empty() && unneeded.notes[0].contains("nothing in this recording needs it")
    );
    let path = explain_apparmor(&profile, &recording, "/etc/nginx/mime.types").unwrap();
    assert_eq!(
        (path.rules[0].place.as_str(), path.observations[0].verdict.as_str()),
        ("line 4", "allowed by line 4")
    );
    assert!(
        explain_apparmor(&profile, &recording, "/nope").unwrap().notes[0].contains("nothing was recorded")
    );
    assert!(matches!(explain_apparmor(&profile, &recording, "\u{1b}"), Err(ExplainError::NoRule(_))));
    assert_eq!(of_rule.to_value()["observations"][1]["seen"][0]["in_whole_runs"], 2);
}

#[test]
fn a_system_call_is_explained_by_phases_witness_and_what_needs_no_recording() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["read","exit","fstatfs"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let profile = Profile::from_json(json.as_bytes()).unwrap();
    let recording = nginx_pod();
    let read = explain_seccomp(&profile, &recording, "read").unwrap();
    insta::assert_snapshot!(read.to_text());
    let entry = explain_seccomp(&profile, &recording, "syscalls[0]").unwrap();
    assert!(entry.notes[0].contains("always allows exit"), "{:?}", entry.notes);
    assert!(entry.notes[1].contains("of the floor") && entry.notes[1].contains("force: fstatfs (runc 1.1.5"));
    assert_eq!(entry.notes.len(), 2, "{:?}", entry.notes);
    let refused = explain_seccomp(&profile, &recording, "write").unwrap();
    assert!(refused.rules.is_empty() && refused.observations[0].verdict.starts_with("refused: EPERM"));
    assert!(matches!(explain_seccomp(&profile, &recording, "/etc"), Err(ExplainError::OtherProfile(_))));
    assert!(explain_seccomp(&profile, &recording, "syscalls[1]").is_err());
    let elsewhere = explain_apparmor(&parsed("/a r,"), &recording, "read").unwrap();
    assert!(elsewhere.notes[0].contains("seccomp"));
}

#[test]
fn a_call_that_was_not_recorded_is_told_by_what_would_happen_to_it_and_why_it_is_there() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],
        "syscalls":[{"names":["fstatfs","personality"],"action":"SCMP_ACT_ALLOW"},
        {"names":["rmdir"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
    let profile = Profile::from_json(json.as_bytes()).unwrap();
    let recording = nginx_pod();
    for (name, verdict, note) in [
        ("rmdir", "refused: EPERM (by syscalls[1])", "made by no program in this recording: rmdir"),
        ("bpf", "refused: ENOSYS (by the default action)", "made by no program in this recording: bpf"),
        ("fstatfs", "allowed", "of the floor, what the container runtime itself calls"),
        ("personality", "allowed", "made by no program in this recording: personality: allowed by hand"),
    ] {
        let told = explain_seccomp(&profile, &recording, name).unwrap();
        assert_eq!(told.observations.len(), 1, "{name}");
        assert_eq!(told.observations[0].verdict, verdict);
        assert!(
            told.to_text().contains(&format!("  {verdict}\n  not in this recording\n")),
            "{}",
            told.to_text()
        );
        assert!(told.notes.len() == 1 && told.notes[0].starts_with(note), "{name}: {:?}", told.notes);
        let refused = verdict.starts_with("refused");
        assert_eq!(told.notes[0].contains("floor") || told.notes[0].contains("by hand"), !refused);
    }
}

#[test]
fn hostile_patterns_take_no_time_that_grows_with_their_power() {
    // A matcher that tries one way after the other would take 2^60 steps.
    let pattern = format!("/{}b", "{a*,a**}*".repeat(60));
    let profile = parsed(&format!("{pattern} r,"));
    check_one(&profile, open(format!("/{}", "a".repeat(4000)).as_str(), "r", false), "refused: r");
    let variables = "@{v}=a b c d\nprofile x { /".to_owned() + &"@{v}".repeat(40) + " r, }";
    check_one(&ParsedProfile::parse(variables.as_bytes()).unwrap(), open("/a", "r", false), "unclear");
    let recursive = b"@{v}=@{v} a\nprofile x { /@{v} r, }";
    check_one(&ParsedProfile::parse(recursive).unwrap(), open("/a", "r", false), "unclear");
    let deep = "profile x {".to_owned() + &" owner { ".repeat(100_000);
    assert!(ParsedProfile::parse(deep.as_bytes()).unwrap_err().to_string().contains("too deep"));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = apparmor_text::parse(&text);
        let _ = apparmor_text::parse(&[b"profile x {\n", text.as_slice(), b",\n}\n"].concat());
    }

    #[test]
    fn any_mix_of_its_own_words_is_parsed_or_refused(words in proptest::collection::vec(proptest::sample::select(vec![
        "profile ", "x ", "{ ", "} ", ", ", "/a ", "\"/b\" ", "rw", "-> ", "deny ", "owner ", "audit ", "file ", "link ", "signal ", "peer=",
        "set=(", ") ", "( ", "mount ", "options=", "options in (", "fstype=", "@{v}", "=", "+=", "\n", "# c\n", "include ", "<x>", "if exists ",
        "abi ", "flags=(", "complain", "^h ", "hat ", "unix ", "\\", "\"", "\0", "\u{1b}", "[", "]", "*", "{a,b}", "priority=1 ",
    ]), 0..40)) {
        let _ = apparmor_text::parse(words.concat().as_bytes());
        let _ = apparmor_text::parse(format!("profile x {{\n{}\n}}", words.concat()).as_bytes());
    }

    #[test]
    fn a_generated_profile_refuses_nothing_of_its_own_recording(accesses in proptest::collection::vec(any_access(), 1..12)) {
        let recording = recording_of(&accesses);
        let Ok(generated) = apparmor::generate(&recording, &Policy::default()) else { return Ok(()) };
        let text = generated.to_text(Style { comments: true, complain: false });
        let profile = ParsedProfile::parse(text.as_bytes());
        let profile = profile.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(profile.rules.len(), generated.rules.len(), "{}", &text);
        let report = check_apparmor(&profile, &recording, &Question::default());
        let not_granted = report.accesses.iter().find(|access| !matches!(access.verdict, Verdict::Allowed(_)));
        prop_assert!(not_granted.is_none(), "{not_granted:?} by {text}");
    }
}

/// What a kernel can tell: absolute paths with one slash at a time, and names that would mean something unescaped.
fn any_access() -> impl Strategy<Value = Access> {
    let part = proptest::sample::select(vec![
        "a",
        "b",
        "tmp",
        "proc",
        "7",
        "*",
        "?",
        "[x]",
        "{a,b}",
        "\\",
        "\"",
        "@{PROC}",
        " ",
        "\n",
        "#",
        ",",
        "!",
        "^",
        "$",
        "(",
        "=",
        "->",
        "\\052",
        "é",
        "\u{1b}",
        "..2024_01_02_03_04_05.123",
        "deadbeefdeadbeef",
        ".so.6",
    ]);
    let name = move || proptest::collection::vec(part.clone(), 1..4).prop_map(|parts| parts.concat());
    let path = move |name: &dyn Fn() -> BoxedStrategy<String>| {
        proptest::collection::vec(name(), 1..4)
            .prop_map(|names| Bytes::from(format!("/{}", names.join("/")).as_str()))
    };
    let boxed = move || name().boxed();
    let facts = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(owner, deleted, disconnected)| {
        FileFacts { owner, exclusive: false, deleted, disconnected }
    });
    let ops = vec![
        (FileOp::Open, "r"),
        (FileOp::Open, "wr"),
        (FileOp::Open, "wrc"),
        (FileOp::Open, "a"),
        (FileOp::Unlink, "d"),
        (FileOp::Lock, "k"),
        (FileOp::Lock, "wk"),
        (FileOp::Exec, "x"),
        (FileOp::Mmap, "rm"),
        (FileOp::RenameFrom, "wrd"),
        (FileOp::RenameTo, "wc"),
        (FileOp::Chmod, "w"),
    ];
    let label = boxed().prop_map(|label| Peer::Outside { label: Some(label.as_str().into()) });
    let peer = prop_oneof![Just(Peer::Inside), label];
    prop_oneof![
        6 => (path(&boxed), proptest::sample::select(ops), facts).prop_map(|(path, (op, perms), facts)| {
            Access::File(FileAccess { path, op, perms: perms.parse().unwrap(), facts })
        }),
        1 => (path(&boxed), path(&boxed)).prop_map(|(link, target)| Access::Link { link, target }),
        1 => (0_u8..41).prop_map(|capability| Access::Capability { capability, optional: false }),
        1 => (proptest::sample::select(vec![1_u16, 2, 10, 16, 17]), 1_u16..4).prop_map(|(family, kind)| Access::Network { family, kind }),
        1 => (0_u8..65, peer.clone()).prop_map(|(signal, peer)| Access::Signal { signal, peer }),
        1 => (proptest::sample::select(PtraceMode::ALL), peer).prop_map(|(mode, peer)| Access::Ptrace { mode, peer }),
        1 => (boxed(), proptest::sample::select(vec![0_u64, 1, 6, 1 << 12, 5 << 12, 1 << 18, 1 << 13, 1 << 5 | 1]), path(&boxed)).prop_map(
            |(source, flags, target)| {
                let target = [target.as_slice(), b"/"].concat().into();
                Access::Mount { fstype: "tmpfs".into(), source: source.as_str().into(), target, flags }
            }
        ),
    ]
}
