//! Facts about what is different between two recordings or profiles.

use std::collections::BTreeSet;

use khard_profile::apparmor;
use khard_profile::apparmor_text::ParsedProfile;
use khard_profile::check::{self, Profile, Question, Verdict, check_apparmor};
use khard_profile::diff::{self, Change, Diff, Kind, Observation};
use khard_profile::recording::*;
use khard_profile::seccomp::{self, Floor, Policy};
use khard_profile::syscalls;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::apparmor_text::{open, profile_of};
use crate::support::{any_recording, nginx_pod, observe, run, run_id, subject};

fn observations(recording: &Recording) -> BTreeSet<Observation> {
    let calls = recording.syscalls().iter().flat_map(|(key, seen)| {
        seen.phases().iter().map(|phase| Observation::Call(*key, phase)).collect::<Vec<_>>()
    });
    let accesses = recording.accesses().iter().flat_map(|(key, seen)| {
        seen.phases().iter().map(|phase| Observation::Access(key.clone(), phase)).collect::<Vec<_>>()
    });
    calls.chain(accesses).collect()
}

fn reported(diff: &Diff, wanted: impl Fn(Kind) -> bool) -> Vec<Observation> {
    let changes = diff.changes.iter().filter(|change| wanted(change.kind));
    changes.flat_map(|change| change.observations.clone()).collect()
}

/// All that does not depend on which of the two is asked about first.
fn turned_round(diff: &Diff, turn: bool) -> BTreeSet<String> {
    let told = |change: &Change| {
        let Change { class, kind, what, abis, before, after, observations, calls, .. } = change;
        let (kind, before, after) =
            if turn { (kind.reversed(), after, before) } else { (*kind, before, after) };
        format!("{class} {kind:?} {what:?} {abis:?} {before:?} {after:?} {observations:?} {calls:?}")
    };
    diff.changes.iter().map(told).collect()
}

proptest! {
    #[test]
    fn what_is_reported_of_recordings_is_exactly_what_differs(a in any_recording(), b in any_recording()) {
        let diff = diff::recordings(&a, &b);
        let (old, new) = (observations(&a), observations(&b));
        prop_assert_eq!(diff.is_empty(), old == new);
        let gained = reported(&diff, Kind::is_more);
        let lost = reported(&diff, |kind| !kind.is_more());
        prop_assert_eq!(gained.len() + lost.len(), old.symmetric_difference(&new).count());
        prop_assert_eq!(gained.into_iter().collect::<BTreeSet<_>>(), &new - &old);
        prop_assert_eq!(lost.into_iter().collect::<BTreeSet<_>>(), &old - &new);
    }

    #[test]
    fn runs_times_and_witnesses_do_not_count(a in any_recording()) {
        let mut again = Recording::new(a.subject().clone());
        again.add_run(run(7));
        for observation in observations(&a) {
            add(&mut again, observation);
        }
        prop_assert!(diff::recordings(&a, &again).is_empty());
    }

    #[test]
    fn asked_the_other_way_round_every_change_of_recordings_turns_round(a in any_recording(), b in any_recording()) {
        let (there, back) = (diff::recordings(&a, &b), diff::recordings(&b, &a));
        prop_assert_eq!(turned_round(&there, true), turned_round(&back, false));
    }

    /// What even the new recording's own profile refuses cannot be granted: a number without a name, a relative path.
    #[test]
    fn the_old_recording_with_the_additions_gives_profiles_for_the_new_one(a in any_recording(), b in any_recording()) {
        let mut with = a.clone();
        with.add_run(run(7));
        for observation in reported(&diff::recordings(&a, &b), Kind::is_more) {
            add(&mut with, observation);
        }
        if let Some(own) = seccomp_refuses(&b, &b) {
            prop_assert!(seccomp_refuses(&with, &b).unwrap().is_subset(&own));
        }
        if let Some(own) = apparmor_refuses(&b, &b) {
            prop_assert!(apparmor_refuses(&with, &b).unwrap().is_subset(&own));
        }
    }
}

fn add(recording: &mut Recording, observation: Observation) {
    match observation {
        Observation::Call(key, phase) => recording.observe_syscall(run_id(7), key, phase, None).unwrap(),
        Observation::Access(key, phase) => recording.observe_access(run_id(7), key, phase, None).unwrap(),
    }
}

/// What a profile that is made of one recording refuses of another.
fn seccomp_refuses(of: &Recording, against: &Recording) -> Option<BTreeSet<SyscallKey>> {
    let policy = Policy { phases: Policy::DEFAULT_PHASES, floor: Floor::none() };
    let generated = seccomp::generate(of, policy).ok()?;
    let profile = Profile::from_json(&generated.profile.to_json().unwrap()).unwrap();
    let report = check::check(&profile, against, &Question::default());
    let refused = report.program.iter().filter(|call| matches!(call.verdict, Verdict::Refused { .. }));
    Some(refused.map(|call| call.key).collect())
}

fn apparmor_refuses(of: &Recording, against: &Recording) -> Option<BTreeSet<AccessKey>> {
    let generated = apparmor::generate(of, &apparmor::Policy::default()).ok()?;
    let text = generated.to_text(apparmor::Style::default());
    let report =
        check_apparmor(&ParsedProfile::parse(text.as_bytes()).unwrap(), against, &Question::default());
    let refused = |access: &&check::apparmor::CheckedAccess| {
        matches!(access.verdict, check::apparmor::Verdict::Refused(_))
    };
    Some(report.accesses.iter().filter(refused).map(|access| access.key.clone()).collect())
}

/// Calls that rules of generated profiles name: of every ABI, multiplexed, and one that no table has.
const NAMES: [&str; 6] = ["read", "ptrace", "socket", "socketcall", "waitpid", "not_yet_invented"];

fn any_rule() -> impl Strategy<Value = String> {
    let action = select(vec![
        r#""SCMP_ACT_ALLOW""#,
        r#""SCMP_ACT_LOG""#,
        r#""SCMP_ACT_ERRNO""#,
        r#""SCMP_ACT_ERRNO","errnoRet":38"#,
        r#""SCMP_ACT_KILL""#,
        r#""SCMP_ACT_NOTIFY""#,
    ]);
    let more = select(vec![
        "",
        "",
        r#","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]"#,
        r#","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":7,"op":"SCMP_CMP_NE"}]"#,
        r#","includes":{"caps":["CAP_SYS_PTRACE"]}"#,
        r#","excludes":{"caps":["CAP_SYS_PTRACE"]}"#,
        r#","includes":{"minKernel":"4.8"}"#,
        r#","includes":{"arches":["arm64"]}"#,
    ]);
    (subsequence(NAMES.to_vec(), 1..4), action, more)
        .prop_map(|(names, action, more)| format!(r#"{{"names":{names:?},"action":{action}{more}}}"#))
}

fn any_profile() -> impl Strategy<Value = (String, Vec<String>)> {
    let default = select(vec!["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"]);
    let arches = subsequence(vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"], 0..4);
    (default, arches, vec(any_rule(), 0..4)).prop_map(|(default, arches, rules)| {
        (format!(r#""defaultAction":"{default}","architectures":{arches:?}"#), rules)
    })
}

fn profile((head, rules): &(String, Vec<String>)) -> Profile {
    Profile::from_json(format!("{{{head},\"syscalls\":[{}]}}", rules.join(",")).as_bytes()).unwrap()
}

/// What becomes of calls on hosts of both architectures, old and new.
fn verdicts(profile: &Profile) -> Vec<String> {
    let mut told = Vec::new();
    for (machine, kernel) in [("x86_64", "3.10"), ("x86_64", "6.1"), ("aarch64", "6.1")] {
        let mut recording = Recording::new(nginx_pod().subject().clone());
        let host = Host { kernel: kernel.to_owned(), machine: machine.to_owned(), abis: Abi::ALL.into() };
        recording.add_run(Run { host, ..run(0) });
        let abis: &[Abi] =
            if machine == "aarch64" { &[Abi::Aarch64] } else { &[Abi::X86_64, Abi::Ia32, Abi::X32] };
        for name in NAMES.into_iter().chain(["write"]) {
            for abi in abis {
                if let Some(nr) = syscalls::by_name(name).and_then(|call| call.number(*abi)) {
                    let key = SyscallKey { abi: *abi, nr };
                    recording.observe_syscall(run_id(0), key, Phase::Workload, None).unwrap();
                }
            }
        }
        for call in check::check(profile, &recording, &Question::default()).program {
            let verdict = match call.verdict {
                Verdict::Allowed => "allowed".to_owned(),
                Verdict::Refused { outcome, .. } => outcome.to_string(),
                // Without the places of rules.
                Verdict::Depends(parts) => {
                    let parts: BTreeSet<&str> =
                        parts.iter().map(|part| part.split(" (by ").next().unwrap()).collect();
                    format!("{parts:?}")
                }
            };
            told.push(format!("{machine} {kernel} {:?}: {verdict}", call.key));
        }
    }
    told
}

proptest! {
    // Each case compares every call of every ABI.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_difference_in_what_a_seccomp_profile_does_is_reported(a in any_profile(), b in any_profile()) {
        // With no architecture listed, or another one, not every host is one of the profiles'.
        let all = r#""defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_AARCH64"]"#;
        let (a, b) = (profile(&(all.to_owned(), a.1)), profile(&(all.to_owned(), b.1)));
        if verdicts(&a) != verdicts(&b) {
            prop_assert!(!diff::seccomp(&a, &b, None).is_empty());
        }
    }

    #[test]
    fn how_rules_are_cut_up_makes_no_difference(a in any_profile()) {
        let (head, rules) = &a;
        let split = rules.iter().flat_map(|rule| {
            let (names, rest) = rule.strip_prefix("{\"names\":[").unwrap().split_once(']').unwrap();
            names.rsplit(", ").map(|name| format!("{{\"names\":[{name}]{rest}")).collect::<Vec<_>>()
        });
        prop_assert!(diff::seccomp(&profile(&a), &profile(&(head.clone(), split.collect())), None).is_empty());
        prop_assert!(diff::seccomp(&profile(&a), &profile(&a), None).is_empty());
    }

    #[test]
    fn asked_the_other_way_round_every_change_of_seccomp_turns_round(a in any_profile(), b in any_profile()) {
        let (a, b) = (profile(&a), profile(&b));
        let (there, back) = (diff::seccomp(&a, &b, None), diff::seccomp(&b, &a, None));
        prop_assert_eq!(turned_round(&there, true), turned_round(&back, false));
    }
}

const RULES: [&str; 33] = [
    "/etc/a r,",
    "/etc/a rw,",
    "\"/etc/\\141\" k,",
    "owner /etc/a r,",
    "deny /etc/a w,",
    "/etc/* r,",
    "@{PROC}/sys/** r,",
    "/usr/bin/x ix,",
    "/usr/bin/x px,",
    "/usr/bin/x ux,",
    "/a l -> /b,",
    "link subset /a -> /b,",
    "capability chown,",
    "capability chown sys_admin,",
    "capability,",
    "network inet stream,",
    "network inet tcp,",
    "signal (send) set=(term, kill) peer=@{profile_name},",
    "signal peer=unconfined,",
    "ptrace (read, trace) peer=/x,",
    "mount fstype=tmpfs -> /tmp/,",
    "umount /tmp/,",
    "userns,",
    "dbus send bus=session,",
    "/etc/** rwk,",
    "owner /etc/** r,",
    "deny /etc/** w,",
    "/usr/** px,",
    "network,",
    "signal,",
    "ptrace (read),",
    "umount,",
    "file,",
];

fn any_rules() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(RULES.to_vec(), 0..8)
}

fn parsed(rules: &[&str]) -> ParsedProfile {
    let text = format!("include <tunables/global>\n{}", profile_of(&rules.join("\n")));
    ParsedProfile::parse(text.as_bytes()).unwrap()
}

proptest! {
    #[test]
    fn order_and_repetition_of_apparmor_rules_make_no_difference(
        (rules, shuffled) in any_rules().prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
    ) {
        let twice = [&shuffled[..], &rules[..]].concat();
        prop_assert!(diff::apparmor(&parsed(&rules), &parsed(&twice), None).is_empty());
    }

    #[test]
    fn asked_the_other_way_round_every_change_of_apparmor_turns_round(a in any_rules(), b in any_rules()) {
        let (a, b) = (parsed(&a), parsed(&b));
        let (there, back) = (diff::apparmor(&a, &b, None), diff::apparmor(&b, &a, None));
        prop_assert_eq!(turned_round(&there, true), turned_round(&back, false));
    }

    #[test]
    fn what_one_more_rule_grants_is_reported_as_more_and_what_it_denies_as_less(rules in any_rules(), more in select(RULES.to_vec())) {
        let with = [&rules[..], &[more]].concat();
        let diff = diff::apparmor(&parsed(&rules), &parsed(&with), None);
        let deny = more.starts_with("deny");
        let is_covered = |change: &Change| {
            change.kind == Kind::Changed && change.before.as_ref().unwrap().to_string_lossy().contains("within ")
        };
        let fits = |change: &Change| is_covered(change) || change.kind.is_more() != deny;
        prop_assert!(diff.changes.iter().all(fits), "{:?}", diff);
        prop_assert!(!diff.is_empty() || granted_before(&rules, more));
    }

    #[test]
    fn where_nothing_is_reported_as_more_the_new_apparmor_profile_allows_nothing_more(a in any_rules(), b in any_rules()) {
        let (a, b) = (parsed(&a), parsed(&b));
        if !diff::apparmor(&a, &b, None).has_more() {
            for access in some_accesses() {
                prop_assert!(!allows(&b, &access) || allows(&a, &access), "{:?}", access);
            }
        }
    }
}

fn allows(profile: &ParsedProfile, access: &AccessKey) -> bool {
    use check::apparmor::{Verdict, verdict};
    matches!(verdict(profile, access), Verdict::Allowed(_) | Verdict::NotMediated(_))
}

/// Of every class, within and beside what [`RULES`] name.
fn some_accesses() -> Vec<AccessKey> {
    let peers = [Peer::Inside, Peer::Outside { label: Some("unconfined".into()) }];
    let files = ["/etc/a", "/etc/b/c", "/usr/bin/x", "/proc/sys/x", "/srv"].into_iter().flat_map(|path| {
        let asked = ["r", "w", "k", "x", "rw"].into_iter().flat_map(|perms| [(perms, true), (perms, false)]);
        asked.map(move |(perms, owner)| open(path, perms, owner))
    });
    let peers = peers.into_iter().flat_map(|peer| {
        [
            Access::Signal { signal: 9, peer: peer.clone() },
            Access::Signal { signal: 1, peer: peer.clone() },
            Access::Ptrace { mode: PtraceMode::Read, peer: peer.clone() },
            Access::Ptrace { mode: PtraceMode::Trace, peer },
        ]
    });
    let others = [
        Access::Capability { capability: 0, optional: false },
        Access::Capability { capability: 21, optional: false },
        Access::Network { family: 2, kind: 1 },
        Access::Network { family: 17, kind: 3 },
        Access::Umount { target: "/tmp/".into(), flags: 0 },
        Access::Umount { target: "/".into(), flags: 0 },
        Access::UserNamespace,
    ];
    files.chain(peers).chain(others).map(granted).collect()
}

/// Rules that others of the list hold word by word.
fn granted_before(rules: &[&str], more: &str) -> bool {
    let within: &[(&str, &str)] = &[
        ("/etc/a r,", "/etc/a rw,"),
        ("capability chown,", "capability chown sys_admin,"),
        ("network inet stream,", "network inet tcp,"),
        ("network inet tcp,", "network inet stream,"),
        ("/a l -> /b,", "link subset /a -> /b,"),
        ("link subset /a -> /b,", "/a l -> /b,"),
    ];
    rules.contains(&more) || within.iter().any(|(less, whole)| *less == more && rules.contains(whole))
}

fn kinds(diff: &Diff) -> Vec<(String, Kind)> {
    diff.changes.iter().map(|change| (change.what.to_string_lossy().into_owned(), change.kind)).collect()
}

fn seccomp_of(rules: &str) -> Profile {
    let head = r#""defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"]"#;
    profile(&(head.to_owned(), vec![rules.to_owned()]))
}

#[test]
fn an_errno_that_became_allow_is_an_addition_and_a_dropped_condition_widens() {
    let rule = |action: &str, args: &str| {
        seccomp_of(&format!(r#"{{"names":["ptrace"],"action":"SCMP_ACT_{action}"{args}}}"#))
    };
    let when = r#","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]"#;
    let both =
        r#","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":7,"op":"SCMP_CMP_NE"}]"#;
    let other = r#","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]"#;
    for (old, new, expected) in [
        (rule("KILL", ""), rule("ALLOW", ""), &[Kind::Added][..]),
        (rule("KILL", ""), rule("ALLOW", when), &[Kind::Added]),
        (rule("ALLOW", when), rule("ALLOW", ""), &[Kind::Widened]),
        (rule("ALLOW", both), rule("ALLOW", when), &[Kind::Widened]),
        (rule("ALLOW", when), rule("ALLOW", other), &[Kind::Widened, Kind::Narrowed]),
        (rule("KILL", ""), rule("TRAP", ""), &[Kind::Changed]),
        (rule("LOG", ""), rule("ALLOW", ""), &[Kind::Changed]),
    ] {
        let diff = diff::seccomp(&old, &new, None);
        let found: Vec<Kind> = diff.changes.iter().map(|change| change.kind).collect();
        assert_eq!(found, expected, "{}", diff.to_text());
        assert_eq!(diff.has_more(), diff.changes.iter().any(|change| change.opens.is_some()));
    }
}

#[test]
fn a_refusal_under_a_condition_that_went_widens() {
    let head = r#""defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"]"#.to_owned();
    let rule =
        r#"{"names":["ptrace"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}"#;
    let (old, new) = (profile(&(head.clone(), vec![rule.to_owned()])), profile(&(head, Vec::new())));
    assert_eq!(kinds(&diff::seccomp(&old, &new, None)), [("ptrace".to_owned(), Kind::Widened)]);
}

#[test]
fn an_architecture_and_the_default_action_are_one_change_each() {
    let head = |default: &str, arches: &str| {
        let head = format!(r#""defaultAction":"{default}","architectures":["SCMP_ARCH_X86_64"{arches}]"#);
        profile(&(head, vec![r#"{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}"#.to_owned()]))
    };
    let old = head("SCMP_ACT_ERRNO", "");
    let diff = diff::seccomp(&old, &head("SCMP_ACT_ERRNO", r#","SCMP_ARCH_X86""#), None);
    assert_eq!(kinds(&diff), [("SCMP_ARCH_X86".to_owned(), Kind::Added)]);
    assert_eq!(diff.changes[0].calls, ["read", "write"]);
    let diff = diff::seccomp(&old, &head("SCMP_ACT_ALLOW", ""), None);
    assert_eq!(kinds(&diff), [("calls that no rule names".to_owned(), Kind::Added)]);
}

#[test]
fn a_deny_that_went_widens_and_more_permissions_on_a_path_do_too() {
    let diff = diff::apparmor(&parsed(&["deny /etc/a w,", "/etc/b r,"]), &parsed(&["/etc/b rw,"]), None);
    assert_eq!(
        kinds(&diff),
        [("/etc/b".to_owned(), Kind::Widened), ("deny /etc/a".to_owned(), Kind::Widened)]
    );
    let ux = diff::apparmor(&parsed(&["/x px,"]), &parsed(&["/x ux,"]), None);
    assert_eq!(kinds(&ux), [("/x ux".to_owned(), Kind::Added), ("/x px".to_owned(), Kind::Removed)]);
}

#[test]
fn a_rule_within_one_of_the_old_profile_is_nothing_more() {
    for (old, new) in [
        (&["network,"][..], &["network inet,"][..]),
        (&["/etc/** r,"], &["/etc/passwd r,"]),
        (&["/etc/** rw,"], &["owner /etc/*.conf r,", "/etc/nginx/** w,"]),
        (&["/etc/** r,", "/etc/p* w,"], &["/etc/passwd rw,"]),
        (&["file,"], &["/etc/passwd r,", "/usr/bin/x ix,"]),
        (&["signal,"], &["signal peer=unconfined,"]),
        (&["signal peer=khard-*,"], &["signal (send) set=(term) peer=khard-web,"]),
        (&["ptrace,"], &["ptrace (read) peer=@{profile_name},"]),
        (&["capability,"], &["capability chown,"]),
        (&["/a r,", "deny /etc/p* w,"], &["/a r,", "deny /etc/** w,"]),
        (&["network,"], &["network,", "network inet,"]),
    ] {
        let there = diff::apparmor(&parsed(old), &parsed(new), None);
        assert!(!there.is_empty() && !there.has_more(), "{old:?} {new:?}: {}", there.to_text());
        let gained = there.count(Kind::Removed) + there.count(Kind::Narrowed);
        let back = diff::apparmor(&parsed(new), &parsed(old), None);
        assert_eq!(back.has_more(), gained > 0, "{new:?} {old:?}: {}", back.to_text());
        assert_eq!(back.count(Kind::Removed) + back.count(Kind::Narrowed), 0, "{}", back.to_text());
    }
}

#[test]
fn a_rule_that_is_not_wholly_within_an_old_one_is_more() {
    for (old, new) in [
        (&["network inet,"][..], &["network inet stream,", "network packet,"][..]),
        (&["/etc/* r,"], &["/etc/a/b r,"]),
        (&["/etc/** r,"], &["/etc/passwd rw,"]),
        (&["owner /etc/** r,"], &["/etc/passwd r,"]),
        (&["deny /etc/** r,"], &["/etc/passwd r,"]),
        (&["/** r,", "deny /etc/** r,"], &["/** r,", "deny /etc/p* r,"]),
        (&["/usr/** px,"], &["/usr/bin/x ix,"]),
        (&["signal (send),"], &["signal peer=unconfined,"]),
        (&["signal peer=unconfined,"], &["signal (send) peer=@{profile_name},"]),
    ] {
        let diff = diff::apparmor(&parsed(old), &parsed(new), None);
        assert!(diff.has_more(), "{old:?} {new:?}: {}", diff.to_text());
    }
}

#[test]
fn the_text_of_an_apparmor_profile_that_became_narrower() {
    let old = parsed(&["/etc/** r,", "/etc/hosts w,", "network,", "signal,", "deny /proc/sys/** w,"]);
    let new = parsed(&[
        "/etc/passwd r,",
        "/etc/hosts rw,",
        "network inet,",
        "signal (send) set=(term) peer=unconfined,",
        "deny /proc/** w,",
    ]);
    let [there, back] =
        [(&old, &new), (&new, &old)].map(|(old, new)| diff::apparmor(old, new, None).to_text());
    insta::assert_snapshot!(format!("{there}\nand back: {back}"));
}

#[test]
fn two_versions_of_a_profile_under_different_names_differ_in_their_rules_only() {
    let of = |name: &str| {
        let text = format!(
            "abi <abi/3.0>,\nprofile {name} {{\nsignal (send, receive) peer=@{{profile_name}},\n}}\n"
        );
        ParsedProfile::parse(text.as_bytes()).unwrap()
    };
    for (old, new, is_told) in [
        ("khard-web-00000001", "khard-web-0000000f", false),
        ("khard-web-00000001", "khard-api-00000001", true),
        ("khard-web-00000001", "khard-web", true),
        ("web-00000001", "web-00000002", true),
    ] {
        let diff = diff::apparmor(&of(old), &of(new), None);
        assert!(diff.is_empty(), "{diff:?}");
        assert_eq!(diff.notes.iter().any(|note| note.text.contains(new)), is_told, "{diff:?}");
    }
}

#[test]
fn what_is_not_read_is_a_change_where_only_one_has_it_and_else_a_note() {
    let diff = diff::apparmor(
        &parsed(&["include <abstractions/base>"]),
        &parsed(&["include <abstractions/base>", "include <abstractions/nameservice>"]),
        None,
    );
    assert_eq!(diff.count(Kind::Added), 1);
    assert!(diff.notes.iter().any(|note| note.text.contains("abstractions/base")), "{:?}", diff.notes);
}

#[test]
fn what_is_hidden_of_a_diff_is_in_none_of_its_forms_and_khards_own_words_stay() {
    let of = |name: &str, body: &str| {
        let text = format!("abi <abi/3.0>,\ninclude <tunables/global>\nprofile {name} {{\n{body}\n}}\n");
        ParsedProfile::parse(text.as_bytes()).unwrap()
    };
    let old = of("ship-1", "include <abstractions/ship>");
    let new = of("ship-2", "include <abstractions/ship>\n/srv/ship/log rw,\nsignal (send) peer=ship,");
    let hide = |name: &[u8]| {
        let name = String::from_utf8_lossy(name);
        name.contains("ship").then(|| name.replace("ship", "[redacted]"))
    };
    let diff = diff::apparmor(&old, &new, None).redacted(hide);
    for told in [diff.to_text(), diff.to_markdown(), diff.to_value().to_string()] {
        assert!(told.contains("/srv/[redacted]/log") && told.contains("abstractions/[redacted]"), "{told}");
        assert!(told.contains("[redacted]-1 and [redacted]-2"), "{told}");
        let own = "as AppArmor ships them";
        assert!(told.contains(own) && !told.replace(own, "").contains("ship"), "{told}");
    }
    let changes = |diff: diff::Diff| diff.changes.len();
    assert_eq!(changes(diff), changes(diff::apparmor(&old, &new, None)));
    // Where names end is known to khard, not to a pattern.
    let old = of("x", "/home/** r,");
    let new = of("x", "/home/** r,\nowner /home/ann/token r,\nowner /home/ann/key rw,");
    let anchored = |name: &[u8]| name.starts_with(b"/home/ann/").then(|| "[redacted]".to_owned());
    let told = diff::apparmor(&old, &new, None).redacted(anchored).to_text();
    assert!(told.contains("owner [redacted]") && !told.contains("ann"), "{told}");

    // Of a recording the observations name it again, and the witness did it.
    let mut recording = Recording::new(subject());
    recording.add_run(run(0));
    let key = AccessKey {
        what: Access::File(FileAccess {
            path: "/srv/ship".into(),
            op: FileOp::Open,
            perms: FilePerms::READ,
            facts: FileFacts::default(),
        }),
        outcome: Outcome::Granted,
        certainty: Certainty::Exact,
    };
    let witness =
        Witness { time_ns: 1, run: run_id(0), tgid: 1, tid: 1, comm: "ship".into(), exe: "shipper".into() };
    recording.observe_access(run_id(0), key, Phase::Workload, Some(witness)).unwrap();
    let diff = diff::recordings(&Recording::new(subject()), &recording).redacted(hide);
    for told in [diff.to_text(), diff.to_markdown(), diff.to_value().to_string()] {
        assert!(told.contains("/srv/[redacted]") && !told.contains("ship"), "{told}");
    }
}

#[test]
fn an_addition_to_a_profile_names_who_needed_it_first_where_that_was_recorded() {
    let mut recording = nginx_pod();
    let see = |recording: &mut Recording, what: Access, comm: &str, time_ns: u64| {
        let (comm, exe) = (comm.into(), "python3.11".into());
        let witness = Witness { time_ns, run: run_id(0), tgid: 7, tid: 7, comm, exe };
        recording.observe_access(run_id(0), granted(what), Phase::Workload, Some(witness)).unwrap();
    };
    see(&mut recording, open("/etc/a", "r", false), "reader", 1);
    see(&mut recording, open("/etc/a", "w", false), "writer", 2);
    see(&mut recording, Access::Capability { capability: 0, optional: false }, "chowner", 3);
    see(&mut recording, Access::Network { family: 17, kind: 3 }, "sniffer", 4);
    let (old, new) =
        (["/etc/a r,"], ["/etc/a rw,", "capability chown sys_admin,", "network packet,", "/srv/x r,"]);
    let diff = diff::apparmor(&parsed(&old), &parsed(&new), Some(&recording));
    let by = |diff: &Diff| {
        let told = |change: &Change| {
            let comm = change.witness.as_ref().map(|witness| witness.comm.to_string_lossy().into_owned());
            (change.what.to_string_lossy().into_owned(), comm)
        };
        diff.changes.iter().map(told).collect::<BTreeSet<_>>()
    };
    let expected = [
        ("/etc/a", Some("writer")),
        ("/srv/x", None),
        ("chown", Some("chowner")),
        ("packet", Some("sniffer")),
        ("sys_admin", None),
    ];
    let expected = expected.map(|(what, by)| (what.to_owned(), by.map(str::to_owned)));
    assert_eq!(by(&diff), expected.into());
    let turned = diff::apparmor(&parsed(&new), &parsed(&old), Some(&recording));
    assert!(by(&turned).iter().all(|(_, by)| by.is_none()));

    let allow = |names: &str| seccomp_of(&format!(r#"{{"names":[{names}],"action":"SCMP_ACT_ALLOW"}}"#));
    let diff = diff::seccomp(&allow(r#""write""#), &allow(r#""write","read","bpf""#), Some(&recording));
    let read = |what: &str| by(&diff).into_iter().find(|(name, _)| name == what).unwrap().1;
    assert_eq!((read("read").as_deref(), read("bpf")), (Some("sh"), None));
}

const HOSTILE: &str = "/tmp/`|<img src=x>\u{1b}[31m\n# h";

fn granted(what: Access) -> AccessKey {
    AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact }
}

/// A pair in which everything happens.
fn eventful() -> (Recording, Recording) {
    let (mut old, mut new) = (nginx_pod(), nginx_pod());
    let exact = |from| {
        Coverage::Exact(Observed {
            from,
            by: Attachment::Fexit,
            lost: [].into(),
            proof: Proof::from_misses([("fexit".to_owned(), 0)].into()),
        })
    };
    for (recording, from) in [(&mut old, From::FirstInstruction), (&mut new, From::Late)] {
        for nth in [0, 1] {
            let mut run = run(nth);
            run.coverage.accesses = AccessCoverage::new(|_| exact(from));
            recording.add_run(run);
        }
    }
    observe(&mut old, 1, Phase::Workload, &["getcwd", "personality"]);
    observe(&mut new, 1, Phase::Workload, &["unshare", "ptrace", "dup3", "pipe2"]);
    let witness = Witness {
        time_ns: 7_000_000,
        run: run_id(0),
        tgid: 77,
        tid: 77,
        comm: HOSTILE.into(),
        exe: "python3.11".into(),
    };
    let see = |recording: &mut Recording, what: Access| {
        recording.observe_access(run_id(0), granted(what), Phase::Workload, Some(witness.clone())).unwrap();
    };
    for recording in [&mut old, &mut new] {
        see(recording, open("/etc/nginx/nginx.conf", "r", false));
        see(recording, open("/var/cache/nginx/x", "wr", false));
    }
    see(&mut old, open("/srv/gone", "r", true));
    see(&mut old, Access::Capability { capability: 0, optional: false });
    see(&mut new, open("/etc/nginx/nginx.conf", "w", false));
    see(&mut new, open(HOSTILE, "wrc", true));
    see(&mut new, open("/run/secrets/kubernetes.io/serviceaccount/token", "r", false));
    see(&mut new, Access::Capability { capability: 21, optional: false });
    see(&mut new, Access::Network { family: 17, kind: 3 });
    see(&mut new, Access::UserNamespace);
    (old, new)
}

#[test]
fn the_text_of_an_eventful_pair() {
    let (old, new) = eventful();
    insta::assert_snapshot!(diff::recordings(&old, &new).to_text());
}

#[test]
fn the_markdown_of_an_eventful_pair() {
    let (old, new) = eventful();
    insta::assert_snapshot!(diff::recordings(&old, &new).to_markdown());
}

#[test]
fn the_json_of_an_eventful_pair() {
    let (old, new) = eventful();
    let value = diff::recordings(&old, &new).to_value();
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn the_text_of_two_seccomp_profiles() {
    let old = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],"syscalls":[
        {"names":["read","write","openat","getcwd"],"action":"SCMP_ACT_ALLOW"},
        {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
        {"names":["ptrace","keyctl"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
    let new = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[
        {"names":["read","write","openat","pipe2","dup3","clone"],"action":"SCMP_ACT_ALLOW"},
        {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
        {"names":["not_yet_invented"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let [old, new] = [old, new].map(|text| Profile::from_json(text.as_bytes()).unwrap());
    let diff = diff::seccomp(&old, &new, None);
    insta::assert_snapshot!(format!("{}\n{}", diff.to_text(), diff.to_markdown()));
}

#[test]
fn the_text_of_two_apparmor_profiles() {
    let old =
        parsed(&["/etc/a r,", "/srv/x rw,", "deny /proc/** w,", "signal (send) set=(term) peer=unconfined,"]);
    let new = parsed(&[
        "/etc/a rw,",
        "/usr/bin/x Ux,",
        "\"/tmp/\\140\\174<b>\" rw,",
        "capability sys_admin,",
        "network,",
        "signal (send) set=(term, kill) peer=unconfined,",
        "mount,",
        "include <abstractions/base>",
    ]);
    let diff = diff::apparmor(&old, &new, None);
    insta::assert_snapshot!(format!("{}\n{}", diff.to_text(), diff.to_markdown()));
}

proptest! {
    #[test]
    fn no_name_becomes_markup_or_an_escape_sequence(tail in "[ -~\u{1b}\u{9b}\u{202e}\n|`<>]{0,12}") {
        let hostile = format!("/<h1>{tail}");
        let (old, mut new) = eventful();
        let witness = Witness {
            time_ns: 0, run: run_id(0), tgid: 1, tid: 1, comm: hostile.as_str().into(), exe: hostile.as_str().into(),
        };
        for what in [
            open(hostile.as_str(), "w", false),
            Access::Signal { signal: 9, peer: Peer::Outside { label: Some(hostile.as_str().into()) } },
            Access::Umount { target: hostile.as_str().into(), flags: 0 },
        ] {
            new.observe_access(run_id(0), granted(what), Phase::Workload, Some(witness.clone())).unwrap();
        }
        for diff in [diff::recordings(&old, &new), diff::recordings(&new, &old)] {
            for line in diff.to_markdown().lines() {
                let outside: String = line.split('`').step_by(2).collect();
                prop_assert!(!outside.contains('<') && !outside.contains("h1"), "{}", line);
            }
            for shown in [diff.to_text(), diff.to_markdown()] {
                let raw = shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']);
                prop_assert!(!raw, "{}", shown);
            }
        }
    }
}
