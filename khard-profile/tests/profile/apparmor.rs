//! Facts about generated AppArmor profiles. The real parser is asked about every text.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use khard_profile::Bytes;
use khard_profile::apparmor::*;
use khard_profile::apparmor_text::{Mode, ParsedProfile, with_mode};
use khard_profile::check::apparmor::Verdict;
use khard_profile::check::{Question, check_apparmor};
use khard_profile::recording::*;
use khard_profile::summary::Summary;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{run, run_id, subject, without_version};

/// Compiles a profile as for a kernel with all that `abi/3.0` has. `Ok` is the binary policy.
pub(crate) fn compile(text: &str) -> Result<Vec<u8>, String> {
    let parser = Command::new("apparmor_parser")
        .args(["-Q", "-K", "-S", "--kernel-features", "/etc/apparmor.d/abi/3.0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut parser = parser.expect("these tests need apparmor_parser: apt-get install apparmor");
    // The parser may give up before it has read all.
    let _ = parser.stdin.take().unwrap().write_all(text.as_bytes());
    let output = parser.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{}\n{text}", String::from_utf8_lossy(&output.stderr)))
}

/// The text without comments, after the parser has taken it, with comments and without.
fn text(generated: &Generated) -> String {
    for complain in [true, false] {
        for comments in [true, false] {
            compile(&generated.to_text(Style { comments, complain })).unwrap();
        }
    }
    generated.to_text(Style::default())
}

fn lines(generated: &Generated) -> Vec<String> {
    let rule = |line: &str| line.strip_prefix("  ").filter(|line| !line.starts_with('#')).map(str::to_owned);
    text(generated).lines().filter_map(rule).collect()
}

/// The rules without the floor.
fn rules(generated: &Generated) -> Vec<String> {
    let floor = ["signal (receive) peer=", "\"/dev/null\" r,"];
    lines(generated).into_iter().filter(|line| !floor.iter().any(|start| line.starts_with(start))).collect()
}

fn file(path: impl Into<Bytes>, op: FileOp, perms: &str, facts: FileFacts) -> Access {
    Access::File(FileAccess { path: path.into(), op, perms: perms.parse().unwrap(), facts })
}

fn open(path: &str, perms: &str) -> Access {
    file(path, FileOp::Open, perms, FileFacts::default())
}

fn granted(what: Access) -> AccessKey {
    AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact }
}

fn refused(what: Access) -> AccessKey {
    AccessKey { outcome: Outcome::Refused, ..granted(what) }
}

fn witness(nth: u64) -> Witness {
    let name = Bytes::from("nginx");
    Witness { time_ns: nth, run: run_id(0), tgid: 7, tid: 7, comm: name.clone(), exe: name }
}

fn recording(keys: impl IntoIterator<Item = AccessKey>) -> Recording {
    let mut recording = Recording::new(subject());
    recording.add_run(observed_run());
    for (nth, key) in (0..).zip(keys) {
        recording.observe_access(run_id(0), key, Phase::Workload, Some(witness(nth))).unwrap();
    }
    recording
}

#[test]
fn the_summary_of_a_container_that_does_everything() {
    let mut recording = recording(everything());
    let nr = khard_profile::syscalls::by_name("read").unwrap().number(Abi::X86_64).unwrap();
    let key = SyscallKey { abi: Abi::X86_64, nr };
    recording.observe_syscall(run_id(0), key, Phase::Workload, None).unwrap();
    let generated = generate(&recording, &Policy { paths: Paths::balanced(), ..Policy::default() }).unwrap();
    let summary =
        Summary::new(&recording, Err("not asked for")).with_apparmor("web.apparmor", Ok(&generated));
    let (page, text) = (summary.to_markdown(None), summary.to_text(Path::new("out")));
    let (_, page) = page.split_once("## AppArmor").unwrap();
    let (page, _) = page.split_once("## Files").unwrap();
    insta::assert_snapshot!(format!("## AppArmor{page}\n{text}"));
    let whole = summary.to_markdown(Some(b"{}"));
    let name = &summary.apparmor.as_ref().unwrap().name;
    for told in [
        format!("- `web.apparmor`: the AppArmor profile `{name}`"),
        "khard check web.apparmor --against recording.json".to_owned(),
        format!("install -D -m 0644 web.apparmor /etc/apparmor.d/{name}\n"),
        format!("  appArmorProfile:\n    type: Localhost\n    localhostProfile: {name}\n"),
    ] {
        assert!(whole.contains(&told), "{told}: {whole}");
    }
    let why = Summary::new(&recording, Err("")).with_apparmor("web.apparmor", Err("nothing `seen`"));
    assert!(why.to_markdown(None).contains("**There is no AppArmor profile:** `nothing \\x60seen\\x60`"));
    assert!(why.to_text(Path::new("out")).contains("none: nothing `seen`"));
}

/// A run in which every class was observed.
fn observed_run() -> Run {
    let mut run = run(0);
    let syscalls = run.coverage.syscalls.clone();
    run.coverage.accesses = AccessCoverage::new(|_| syscalls.clone());
    run
}

fn of(keys: impl IntoIterator<Item = AccessKey>) -> Generated {
    generate(&recording(keys), &Policy::default()).unwrap()
}

fn of_granted(accesses: impl IntoIterator<Item = Access>) -> Generated {
    of(accesses.into_iter().map(granted))
}

const MADE: FileFacts = FileFacts { owner: false, exclusive: true, deleted: false, disconnected: false };

/// One of everything that a container might do.
fn everything() -> Vec<AccessKey> {
    let id = "0a1b".repeat(16);
    let inside = Peer::Inside;
    let outside = Peer::Outside { label: Some("cri-containerd.apparmor.d".into()) };
    let mut keys: Vec<AccessKey> = [
        open("/etc/nginx/nginx.conf", "r"),
        open("/usr/lib/x86_64-linux-gnu/libssl.so.3", "r"),
        file("/usr/lib/x86_64-linux-gnu/libssl.so.3", FileOp::Mmap, "m", FileFacts::default()),
        file("/usr/sbin/nginx", FileOp::Exec, "x", FileFacts::default()),
        open("/docker-entrypoint.sh", "r"),
        file("/docker-entrypoint.sh", FileOp::Exec, "x", FileFacts::default()),
        file("/var/log/nginx/access.log", FileOp::Open, "a", FileFacts::default()),
        file("/run/nginx.pid", FileOp::Create, "c", FileFacts::default()),
        file("/run/nginx.pid", FileOp::Unlink, "d", FileFacts::default()),
        file("/var/cache/nginx/client_temp/", FileOp::Mkdir, "c", FileFacts::default()),
        file("/var/cache/nginx/client_temp/", FileOp::Chown, "w", FileFacts::default()),
        file("/tmp/upload.Xy12zQ", FileOp::Create, "c", MADE),
        file("/tmp/upload.Xy12zQ", FileOp::RenameFrom, "rw", FileFacts::default()),
        file("/srv/upload", FileOp::RenameTo, "w", FileFacts::default()),
        file("/run/lock", FileOp::Lock, "wk", FileFacts::default()),
        file("/run/php.sock", FileOp::Connect, "rw", FileFacts::default()),
        file("/dev/log", FileOp::Send, "w", FileFacts::default()),
        open("/proc/4242/status", "r"),
        open("/proc/4242/task/4243/comm", "w"),
        open("/dev/pts/0", "rw"),
        open(&format!("/sys/fs/cgroup/kubepods/{id}/cpu.max"), "r"),
        open("/var/run/secrets/kubernetes.io/serviceaccount/..2026_11_24_15_07_13.123456789/token", "r"),
        open("/tmp/#123456", "rw"),
        file("/tmp/gone", FileOp::Open, "r", FileFacts { deleted: true, ..FileFacts::default() }),
        Access::Link { link: "/srv/b".into(), target: "/srv/a".into() },
        Access::Capability { capability: 10, optional: false },
        Access::Capability { capability: 21, optional: true },
        Access::Network { family: 2, kind: 1 },
        Access::Network { family: 16, kind: 3 },
        Access::Signal { signal: 1, peer: inside.clone() },
        Access::Signal { signal: 15, peer: inside.clone() },
        Access::Signal { signal: 0, peer: outside.clone() },
        Access::Ptrace { mode: PtraceMode::Read, peer: inside },
        Access::Ptrace { mode: PtraceMode::Trace, peer: outside },
        Access::Mount { fstype: "tmpfs".into(), source: "tmpfs".into(), target: "/m/".into(), flags: 6 },
        Access::Mount { fstype: "".into(), source: "/a/".into(), target: "/b/".into(), flags: 1 << 12 },
        Access::Umount { target: "/m/".into(), flags: 0 },
        Access::PivotRoot { new_root: "/n/".into(), put_old: "/n/old/".into() },
        Access::UserNamespace,
        Access::IoUring { op: IoUringOp::SqPoll },
    ]
    .map(granted)
    .into();
    keys.push(refused(file("/var/www/", FileOp::Mkdir, "c", FileFacts::default())));
    keys.push(refused(file("/root/secret", FileOp::Open, "r", FileFacts::default())));
    keys
}

#[test]
fn who_sends_a_datagram_writes_and_who_receives_it_reads() {
    for perms in ["w", "r"] {
        let keys = vec![granted(file("/dev/log", FileOp::Send, perms, FileFacts::default()))];
        let text = text(&of(keys));
        assert!(text.contains(&format!("\"/dev/log\" {perms},")), "{text}");
    }
}

#[test]
fn the_profile_of_a_container_that_does_everything() {
    let generated = of(everything());
    text(&generated);
    let text = generated.to_text(Style { comments: true, complain: false });
    insta::assert_snapshot!(without_version(&text));
}

#[test]
fn creating_truncating_deleting_appending_and_changing_are_one_letter() {
    use FileOp::*;
    for (op, perms) in [
        (Create, "c"),
        (Truncate, "w"),
        (Unlink, "d"),
        (Open, "a"),
        (Chmod, "w"),
        (Chown, "w"),
        (Symlink, "c"),
        (Send, "w"),
    ] {
        assert_eq!(rules(&of_granted([file("/f", op, perms, FileFacts::default())])), ["\"/f\" w,"], "{op}");
    }
    assert_eq!(rules(&of_granted([file("/f", RenameFrom, "wrd", FileFacts::default())])), ["\"/f\" rw,"]);
    assert_eq!(rules(&of_granted([file("/f", Lock, "wk", FileFacts::default())])), ["\"/f\" wk,"]);
    assert_eq!(rules(&of_granted([file("/f", Lock, "k", FileFacts::default())])), ["\"/f\" k,"]);
}

#[test]
fn a_rule_names_the_first_of_all_who_needed_it() {
    let keys = [open("/f", "w"), open("/f", "r"), open("/f", "rw")].map(granted);
    for first in 0..3 {
        let mut recording = Recording::new(subject());
        recording.add_run(observed_run());
        for (nth, key) in (0..).zip(keys.clone()) {
            let witness = witness((nth + 3 - first) % 3);
            recording.observe_access(run_id(0), key, Phase::Workload, Some(witness)).unwrap();
        }
        let generated = generate(&recording, &Policy::default()).unwrap();
        let rule = generated.rules.iter().find(|rule| rule.floor.is_none()).unwrap();
        assert_eq!((rule.witness.as_ref().unwrap().time_ns, rule.originals.len()), (0, 3));
    }
}

#[test]
fn what_is_executed_stays_under_the_profile_also_without_a_name() {
    let exec = |path: &str| file(path, FileOp::Exec, "x", FileFacts::default());
    let generated = of_granted([exec("/bin/sh"), open("/bin/sh", "r"), exec("/")]);
    assert_eq!(rules(&generated), ["\"/\" ix,", "\"/bin/sh\" rix,"]);
}

#[test]
fn names_that_will_be_others_are_generalised_and_say_from_what() {
    let uid = "8d5f2e0a-11bb-4cde-9f00-0123456789ab";
    let mut run = observed_run();
    run.cgroup_path =
        format!("/kubepods.slice/kubepods-pod{}.slice/x", uid.replace('-', "_")).as_str().into();
    let own = "0a1b".repeat(16);
    let other = "ffff".repeat(16);
    let accesses = [
        file("/tmp/tmpab_9xyz0/", FileOp::Mkdir, "c", FileFacts::default()),
        open("/tmp/tmpab_9xyz0/in/side", "w"),
        open("/tmp/tmpab_9xyz1", "w"),
        open(&format!("/x/{own}/y"), "r"),
        open(&format!("/x/{other}/y"), "r"),
        open(&format!("/x/{}-log", &own[..12]), "r"),
        open(&format!("/x/pod{uid}/y"), "r"),
        open("/proc/1/task/12/fd/3", "r"),
        open("/proc/sys/kernel/pid_max", "r"),
        open("/proc/5000000/stat", "r"),
        open("/dev/pts/12", "rw"),
        open("/dev/pts/ptmx", "rw"),
        open("/dir/#12", "rw"),
        open("/dir/#12/x", "rw"),
    ];
    let mut recording = recording(accesses.clone().map(granted));
    recording.add_run(run);
    let generated = generate(&recording, &Policy::default()).unwrap();
    let short = |rule: &String| {
        rule.replace("[0-9a-f]", "h").replace("[0-9a-z_]", "p").replace(&"h".repeat(64), "<id>")
    };
    let rules: Vec<String> = rules(&generated).iter().map(short).collect();
    assert_eq!(
        rules,
        [
            "\"/dev/pts/[0-9]*\" rw,",
            "\"/dev/pts/ptmx\" rw,",
            "\"/dir/\\04312/x\" rw,",
            "\"/dir/\\043[0-9]*\" rw,",
            "\"/proc/5000000/stat\" r,",
            "\"/proc/sys/kernel/pid_max\" r,",
            "\"/tmp/tmppppppppp/\" w,",
            "\"/tmp/tmppppppppp/in/side\" w,",
            "\"/tmp/tmpab_9xyz1\" w,",
            "\"/x/hhhhhhhhhhhh-log\" r,",
            "\"/x/<id>/y\" r,",
            &format!("\"/x/{other}/y\" r,"),
            "\"/x/podhhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh/y\" r,",
            "\"@{PROC}/@{pid}/task/@{tid}/fd/3\" r,",
        ]
    );
    for access in accesses {
        let made_from =
            generated.rules.iter().filter(|rule| rule.originals.contains(&granted(access.clone())));
        assert_eq!(made_from.count(), 1, "{access:?}");
    }
}

#[test]
fn code_keeps_its_one_name_and_a_made_up_one_is_warned_about() {
    let name = "/tmp/lib.Xy12zQ";
    let generated = of_granted([
        file(name, FileOp::Create, "c", MADE),
        file(name, FileOp::Mmap, "m", FileFacts::default()),
        file(name, FileOp::Exec, "x", FileFacts::default()),
    ]);
    let x = "[0-9A-Za-z]".repeat(6);
    assert_eq!(rules(&generated), ["\"/tmp/lib.Xy12zQ\" mix,".to_owned(), format!("\"/tmp/lib.{x}\" w,")]);
    assert_eq!(generated.warnings.len(), 1, "{:?}", generated.warnings);
}

#[test]
fn only_balanced_paths_fold_libraries_and_directories() {
    let accesses = || {
        let files = (0..30).map(|n| open(&format!("/srv/d/file{n}"), "r"));
        files
            .chain((0..30).map(|n| open(&format!("/etc/d/file{n}"), "r")))
            .chain([open("/lib/libssl.so.3", "r")])
    };
    assert_eq!(rules(&of_granted(accesses())).len(), 61);
    let policy = Policy { paths: Paths::balanced(), ..Policy::default() };
    let generated = generate(&recording(accesses().map(granted)), &policy).unwrap();
    let rules = rules(&generated);
    assert_eq!(rules.len(), 32);
    assert!(
        rules.contains(&"\"/srv/d/*\" r,".to_owned())
            && rules.contains(&"\"/lib/libssl.so.[0-9]*\" r,".to_owned())
    );
    let folded: Vec<_> =
        generated.rules.iter().filter_map(|rule| Some((rule.folded?, rule.originals.len()))).collect();
    assert_eq!(folded, [(FoldReason::Versions, 1), (FoldReason::Threshold, 30)]);
}

#[test]
fn signals_and_traces_inside_are_for_both_sides_and_outside_for_one() {
    let outside = |label: Option<&str>| Peer::Outside { label: label.map(Bytes::from) };
    let generated = of_granted([
        Access::Signal { signal: 9, peer: Peer::Inside },
        Access::Signal { signal: 37, peer: Peer::Inside },
        Access::Signal { signal: 0, peer: outside(Some("a b//&c")) },
        Access::Signal { signal: 15, peer: outside(Some("unconfined")) },
        Access::Signal { signal: 10, peer: outside(None) },
        Access::Ptrace { mode: PtraceMode::Read, peer: Peer::Inside },
        Access::Ptrace { mode: PtraceMode::Trace, peer: Peer::Inside },
        Access::Ptrace { mode: PtraceMode::Read, peer: outside(Some("unconfined")) },
    ]);
    assert_eq!(
        rules(&generated),
        [
            "signal (send) set=(exists) peer=\"a\\040b//\\046c\",",
            "signal (send) set=(term) peer=unconfined,",
            "signal (send, receive) set=(kill, rtmin+5) peer=@{profile_name},",
            "ptrace (read) peer=unconfined,",
            "ptrace (read, readby, trace, tracedby) peer=@{profile_name},",
        ]
    );
    assert_eq!(generated.not_expressible.len(), 1);
}

#[test]
fn the_floor_lets_in_who_stops_the_container_and_nothing_else() {
    let generated = of_granted([Access::Network { family: 2, kind: 1 }]);
    assert_eq!(
        lines(&generated),
        [
            "network inet stream,",
            "signal (receive) peer=\"crun\",",
            "signal (receive) peer=\"runc\",",
            "signal (receive) peer=unconfined,",
            "\"/dev/null\" r,",
        ]
    );
    assert!(generated.rules.iter().all(|rule| rule.floor.is_some() != rule.witness.is_some()));
    let with_a_file = of_granted([open("/f", "r")]);
    assert!(!lines(&with_a_file).iter().any(|line| line.contains("/dev/null")));
    let mut command = Recording::new(Subject::Command { program: "x".into() });
    command.add_run(Run { container: None, ..observed_run() });
    command.observe_access(run_id(0), granted(open("/f", "r")), Phase::Workload, None).unwrap();
    let command = generate(&command, &Policy::default()).unwrap();
    assert_eq!(lines(&command), ["signal (receive) peer=unconfined,", "\"/f\" r,"]);
}

#[test]
fn optional_capabilities_are_listed_and_not_granted() {
    let asked = |optional| Access::Capability { capability: 21, optional };
    let generated = of_granted([asked(true), open("/f", "r")]);
    assert_eq!(rules(&generated), ["\"/f\" r,"]);
    assert_eq!(generated.optional_capabilities, BTreeSet::from([21]));
    let generated = of_granted([asked(true), asked(false)]);
    assert_eq!(
        (rules(&generated), generated.optional_capabilities.len()),
        (vec!["capability sys_admin,".to_owned()], 0)
    );
    let policy = Policy { optional_capabilities: true, ..Policy::default() };
    let generated = generate(&recording([granted(asked(true))]), &policy).unwrap();
    assert_eq!(rules(&generated), ["capability sys_admin,"]);
}

#[test]
fn attempts_count_only_where_apparmor_is_asked_first() {
    let mkdir = || file("/www/", FileOp::Mkdir, "c", FileFacts::default());
    let generated = of([
        refused(mkdir()),
        refused(open("/root/x", "r")),
        refused(Access::Capability { capability: 21, optional: false }),
        refused(Access::Network { family: 17, kind: 3 }),
    ]);
    assert_eq!(rules(&generated), ["network packet raw,", "\"/www/\" w,"]);
    assert!(generated.rules.iter().all(|rule| rule.floor.is_some() || rule.is_attempt_only()));
    let both = of([refused(mkdir()), granted(mkdir())]);
    assert!(!both.rules.iter().any(Rule::is_attempt_only));
}

#[test]
fn what_a_profile_may_have_refused_is_not_granted() {
    let mount =
        Access::Mount { fstype: "proc".into(), source: "proc".into(), target: "/p/".into(), flags: 0 };
    let mut recording = recording([refused(mount.clone()), granted(open("/f", "r"))]);
    assert_eq!(rules(&generate(&recording, &Policy::default()).unwrap()).len(), 2);
    let mut run = observed_run();
    run.confinement.apparmor =
        AppArmorInForce::Named { name: "docker-default".into(), mode: "enforce".into() };
    recording.add_run(run);
    let generated = generate(&recording, &Policy::default()).unwrap();
    assert_eq!(rules(&generated), ["\"/f\" r,"]);
    assert!(generated.not_granted.contains_key(&refused(mount)));
}

#[test]
fn attempts_can_be_denied_where_nothing_that_is_granted_overlaps() {
    let policy = Policy { attempts: Attempts::Deny, ..Policy::default() };
    let keys = [
        refused(file("/www/", FileOp::Mkdir, "c", FileFacts::default())),
        refused(file("/tmp/a.Xy12zQ", FileOp::Unlink, "d", FileFacts::default())),
        granted(file("/tmp/a.Zz99aB", FileOp::Create, "c", MADE)),
        granted(file("/tmp/a.Xy12zQ", FileOp::Create, "c", MADE)),
        refused(file("/run/x", FileOp::RenameFrom, "rw", FileFacts::default())),
        granted(open("/run/x", "r")),
        refused(Access::Network { family: 17, kind: 3 }),
        refused(Access::Link { link: "/a".into(), target: "/b".into() }),
    ];
    let generated = generate(&recording(keys), &policy).unwrap();
    let rules: Vec<String> = rules(&generated).iter().map(|rule| rule.replace("[0-9A-Za-z]", "X")).collect();
    assert_eq!(
        rules,
        [
            "deny network packet raw,",
            "\"/run/x\" r,",
            "\"/tmp/a.XXXXXX\" w,",
            "deny \"/run/x\" w,",
            "deny \"/www/\" w,",
        ]
    );
    assert_eq!(generated.not_granted.len(), 2);
}

#[test]
fn owner_stands_only_where_asked_for_and_where_only_owners_were_seen() {
    let owners = FileFacts { owner: true, ..FileFacts::default() };
    let keys = || {
        [
            granted(file("/home/a", FileOp::Open, "r", owners)),
            granted(file("/home/a", FileOp::Open, "w", owners)),
            granted(file("/home/a", FileOp::Open, "r", FileFacts::default())),
            granted(file("/home/b", FileOp::Open, "r", owners)),
        ]
    };
    assert_eq!(rules(&of(keys())), ["\"/home/a\" rw,", "\"/home/b\" r,"]);
    let generated = generate(&recording(keys()), &Policy { owner: true, ..Policy::default() }).unwrap();
    assert_eq!(rules(&generated), ["\"/home/a\" r,", "owner \"/home/a\" w,", "owner \"/home/b\" r,"]);
}

#[test]
fn flags_are_those_that_are_needed() {
    let flags = |access| {
        text(&of_granted([access])).lines().find(|line| line.starts_with("profile ")).unwrap().to_owned()
    };
    assert!(flags(open("/f", "r")).ends_with(" flags=(attach_disconnected) {"));
    let deleted = file("/f", FileOp::Open, "r", FileFacts { deleted: true, ..FileFacts::default() });
    let tmpfile = Access::Link { link: "/d/f".into(), target: "/d/#12".into() };
    for access in [deleted, tmpfile] {
        assert!(flags(access).ends_with(" flags=(attach_disconnected,mediate_deleted) {"));
    }
    let complain = of_granted([open("/f", "r")]).to_text(Style { complain: true, comments: false });
    assert!(complain.contains(" flags=(attach_disconnected,complain) {"));
}

#[test]
fn a_switched_mode_gives_the_bytes_of_a_profile_that_was_made_in_it() {
    let generated = of_granted([open("/f", "r"), open("/flags=(complain) {", "rw")]);
    let in_mode = |complain| generated.to_text(Style { complain, comments: true });
    for (from, to, mode) in [(false, true, Mode::Complain), (true, false, Mode::Enforce)] {
        assert_eq!(with_mode(in_mode(from).as_bytes(), mode), Ok(in_mode(to).into_bytes()));
        assert_eq!(with_mode(in_mode(to).as_bytes(), mode), Ok(in_mode(to).into_bytes()));
    }
}

#[test]
fn what_the_abi_does_not_have_is_named_and_not_written() {
    let keys =
        || [Access::UserNamespace, Access::IoUring { op: IoUringOp::SqPoll }, open("/f", "r")].map(granted);
    let with = |abi| generate(&recording(keys()), &Policy { abi, ..Policy::default() }).unwrap();
    let old = with(TargetAbi::Abi30);
    assert_eq!((rules(&old), old.not_expressible.len()), (vec!["\"/f\" r,".to_owned()], 2));
    // Parser 3 knows no such words, so these texts are only looked at.
    let middle = with(TargetAbi::Abi40);
    let text = middle.to_text(Style::default());
    assert!(text.contains("abi <abi/4.0>,") && text.contains("\n  userns,\n") && !text.contains("uring"));
    let new = with(TargetAbi::Abi50).to_text(Style::default());
    assert!(new.contains("\n  io_uring (sqpoll),\n"), "{new}");
    let names: BTreeSet<String> = [old, middle].into_iter().map(|generated| generated.name).collect();
    assert_eq!(names.len(), 2);
}

#[test]
fn paths_that_are_not_known_make_no_rule_and_are_named() {
    let inferred = |path: &str, op| AccessKey {
        certainty: Certainty::Inferred,
        ..granted(file(path, op, "w", FileFacts::default()))
    };
    let generated = of([
        inferred("etc/x", FileOp::Open),
        inferred("/a/../b", FileOp::Open),
        inferred("/a//b/./c", FileOp::Open),
        inferred("/d", FileOp::Mkdir),
        granted(open("", "r")),
        granted(open("/zero\0byte", "r")),
        granted(open("//twice", "r")),
    ]);
    assert_eq!(rules(&generated), ["\"/a/b/c\" w,", "\"/d/\" w,", "\"/twice\" r,"]);
    assert_eq!(generated.not_expressible.len(), 4);
}

#[test]
fn without_an_access_in_the_chosen_phases_there_is_no_profile() {
    let mut recording = Recording::new(subject());
    recording.add_run(observed_run());
    let key = granted(open("/f", "r"));
    recording.observe_access(run_id(0), key.clone(), Phase::Runtime, None).unwrap();
    let error = generate(&recording, &Policy::default()).unwrap_err();
    assert!(error.to_string().contains("workload,joiner"), "{error}");
    recording.observe_access(run_id(0), key, Phase::Joiner, None).unwrap();
    assert_eq!(rules(&generate(&recording, &Policy::default()).unwrap()), ["\"/f\" r,"]);
}

#[test]
fn classes_that_were_not_observed_are_warned_about_in_the_text_too() {
    let mut recording = recording([granted(open("/f", "r"))]);
    let mut run = observed_run();
    let observed = run.coverage.syscalls.clone();
    run.coverage.accesses = AccessCoverage::new(|class| match class {
        Class::Signals => Coverage::None(NotObserved { reason: "no\nhook".to_owned() }),
        _ => observed.clone(),
    });
    recording.add_run(run);
    let generated = generate(&recording, &Policy::default()).unwrap();
    assert_eq!(generated.warnings.len(), 1);
    assert!(text(&generated).contains("# warning: signals: not observed in 1 of 1 runs (no\\x0ahook)"));
}

#[test]
fn every_word_is_one_that_the_parser_knows() {
    let capabilities = (0..64).map(|capability| Access::Capability { capability, optional: false });
    let network = (0..64).flat_map(|family| (0..12).map(move |kind| Access::Network { family, kind }));
    let signals = (0..70).map(|signal| Access::Signal { signal, peer: Peer::Inside });
    let generated = of_granted(capabilities.chain(network).chain(signals));
    let n = |group| generated.rules.iter().filter(|rule| rule.what.group() == group).count();
    assert_eq!((n("capabilities"), n("network")), (41, 45 * 6));
    text(&generated);
}

#[test]
fn every_mount_is_said_or_named() {
    let mounts = |flags: u64| {
        [("tmpfs", "tmpfs"), ("", "/a/"), ("", ""), ("x\" {", "//s/x")].map(|(fstype, source)| {
            Access::Mount { fstype: fstype.into(), source: source.into(), target: "/m*/".into(), flags }
        })
    };
    let bits = (0..32)
        .map(|bit| 1 << bit)
        .flat_map(|bit| [bit, bit | 1, bit | 1 << 12, bit | 1 << 14, bit | 1 << 5]);
    for flags in bits.chain([0, 0xc0ed_0000, 0xc0ed_0006, u64::MAX]) {
        let generated = of_granted(mounts(flags).into_iter().chain([open("/f", "r")]));
        let mounts = rules(&generated).iter().filter(|rule| rule.starts_with("mount ")).count();
        assert!(mounts > 0 || generated.not_expressible.len() == 4, "{flags:#x}");
        assert!(!rules(&generated).iter().any(|rule| rule.starts_with("mount ->")), "{flags:#x}");
    }
}

/// Names that a generator makes up from 32 characters, always the same.
fn names() -> impl FnMut(usize) -> String {
    let mut seed = 1_u64;
    move |n| {
        let mut digit = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from_digit(u32::try_from(seed >> 59).unwrap(), 36).unwrap()
        };
        (0..n).map(|_| digit()).collect()
    }
}

#[test]
fn the_number_of_states_is_the_parsers_own() {
    let mut name = names();
    let generated = of_granted((0..300).map(|nth| {
        let path = format!("/srv/{}/{}-lib.so", name(1), name(nth % 40));
        match nth % 5 {
            0 => file(path.as_str(), FileOp::Exec, "x", FileFacts::default()),
            1 => open(&path, "rw"),
            2 => file(path.as_str(), FileOp::Mmap, "m", FileFacts::default()),
            _ => open(&path, "r"),
        }
    }));
    let path = std::env::temp_dir().join(format!("khard-states-{}", std::process::id()));
    std::fs::write(&path, text(&generated)).unwrap();
    let parser =
        Command::new("apparmor_parser").args(["-Q", "-K", "-S", "-D", "dfa-stats"]).arg(&path).output();
    std::fs::remove_file(&path).unwrap();
    let said = String::from_utf8_lossy(&parser.unwrap().stderr).into_owned();
    let (_, said) = said.split_once("Created dfa: states ").unwrap();
    let n_states = said.split(' ').next().unwrap();
    assert_eq!(n_states.parse(), Ok(generated.n_states));
}

#[test]
fn more_paths_than_the_parser_can_compile_are_folded_and_counted() {
    let mut name = names();
    let paths: Vec<String> = (0..2000)
        .flat_map(|nth| [format!("/srv/{}/{}", nth % 3, name(40)), format!("/etc/{}", name(4))])
        .collect();
    let literal = paths.join("\" r,\n\"");
    let error = compile(&format!("profile x {{\n\"{literal}\" r,\n}}\n")).unwrap_err();
    assert!(error.contains("Too many states"), "{}", error.lines().next().unwrap());
    let generated = of_granted(paths.iter().map(|path| open(path, "r")));
    compile(&generated.to_text(Style::default())).unwrap();
    let folded = generated.rules.iter().filter(|rule| rule.folded == Some(FoldReason::Limit));
    let folded: Vec<usize> = folded.map(|rule| rule.originals.len()).collect();
    assert_eq!(folded, [667], "of the fullest directory, and no other");

    let etc = (0..2000).map(|_| open(&format!("/etc/{}", name(40)), "r")).collect::<Vec<_>>();
    let error = generate(&recording(etc.into_iter().map(granted)), &Policy::default()).unwrap_err();
    assert!(
        matches!(error, GenerateError::TooMuchForParser { n_states, max_states, .. } if n_states > max_states),
        "{error}"
    );
}

/// Names that would mean something if they were not escaped.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let texts = [
        "x\n",
        "\r",
        "\"",
        "\\",
        "\\\"",
        "{a,b}",
        "*",
        "**",
        "?",
        "[0-9]",
        "^",
        ",",
        "#",
        "@{PROC}",
        "//",
        "/",
        "\u{1b}[31m",
        "\u{202e}",
        " r,\n  capability,\n",
        "\" rwlkmix,\n  /** rw,\n  \"",
        "}\nprofile x {",
        "#include <x>",
        " -> ",
        "\\052",
        "owner ",
        "deny ",
        "é",
        "!",
        "(",
        "=",
        "a",
    ];
    let text = proptest::sample::select(texts.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    vec(prop_oneof![3 => text, 1 => vec(1_u8..=255, 1..4)], 1..5).prop_map(|parts| parts.concat())
}

/// As the kernel gives them: with single slashes.
fn hostile_path() -> impl Strategy<Value = Bytes> {
    hostile().prop_map(|name| collapsed(&[b"/", name.as_slice()].concat().into()).into())
}

fn any_key() -> impl Strategy<Value = AccessKey> {
    let label = || proptest::option::of(hostile().prop_map(Bytes::from));
    let peer = || prop_oneof![Just(Peer::Inside), label().prop_map(|label| Peer::Outside { label })];
    let facts = vec(any::<bool>(), 4).prop_map(|facts| FileFacts {
        owner: facts[0],
        exclusive: facts[1],
        deleted: facts[2],
        disconnected: facts[3],
    });
    let path = prop_oneof![
        hostile_path(),
        proptest::sample::select(vec![
            "/tmp/a",
            "/tmp/b.Xy12zQ",
            "/tmp/b.Zz99aB",
            "/proc/7/stat",
            "/d/",
            "/lib/z.so.1"
        ])
        .prop_map(Bytes::from)
    ];
    let file = (path, proptest::sample::select(FileOp::ALL), 0_u16..256, facts).prop_map(
        |(path, op, perms, facts)| {
            Access::File(FileAccess { path, op, perms: FilePerms::from_bits(perms).unwrap(), facts })
        },
    );
    let name = || hostile().prop_map(Bytes::from);
    let what = prop_oneof![
        6 => file,
        1 => (hostile_path(), hostile_path()).prop_map(|(link, target)| Access::Link { link, target }),
        1 => (0_u8..45, any::<bool>()).prop_map(|(capability, optional)| Access::Capability { capability, optional }),
        1 => (0_u16..48, 0_u16..12).prop_map(|(family, kind)| Access::Network { family, kind }),
        1 => (0_u8..70, peer()).prop_map(|(signal, peer)| Access::Signal { signal, peer }),
        1 => (proptest::sample::select(PtraceMode::ALL), peer()).prop_map(|(mode, peer)| Access::Ptrace { mode, peer }),
        1 => (name(), name(), hostile_path(), any::<u32>()).prop_map(|(fstype, source, target, flags)| {
            Access::Mount { fstype, source, target, flags: flags.into() }
        }),
        1 => hostile_path().prop_map(|target| Access::Umount { target, flags: 0 }),
        1 => (hostile_path(), hostile_path())
            .prop_map(|(new_root, put_old)| Access::PivotRoot { new_root, put_old }),
    ];
    let outcome = prop_oneof![3 => Just(Outcome::Granted), 1 => Just(Outcome::Refused)];
    let certainty = prop_oneof![3 => Just(Certainty::Exact), 1 => Just(Certainty::Inferred)];
    (what, outcome, certainty).prop_map(|(what, outcome, certainty)| AccessKey { what, outcome, certainty })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(balanced, deny, owner, optional)| Policy {
            paths: if balanced { Paths::balanced() } else { Paths::Exact },
            attempts: if deny { Attempts::Deny } else { Attempts::Grant },
            owner,
            optional_capabilities: optional,
            ..Policy::default()
        },
    )
}

/// The letters that AppArmor's documentation asks for, said a second time.
fn letters(file: &FileAccess) -> BTreeSet<char> {
    let perms = file.perms.to_string().replace(['a', 'c', 'd'], "w");
    let op = match file.op {
        FileOp::Exec => "x",
        FileOp::RenameFrom | FileOp::Connect => "rw",
        FileOp::Lock => "k",
        FileOp::Open | FileOp::Receive | FileOp::Mmap | FileOp::Mprotect | FileOp::Send => "",
        _ => "w",
    };
    perms.chars().chain(op.chars()).collect()
}

fn collapsed(path: &Bytes) -> Vec<u8> {
    let mut path = path.as_slice().to_vec();
    path.dedup_by(|next, one| *next == b'/' && *one == b'/');
    path
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// One recording, no denial; no rule without a witness; no denial of what is granted; the parser takes it.
    #[test]
    fn rules_cover_what_was_granted_and_nothing_that_was_not_seen(keys in vec(any_key(), 1..12), policy in any_policy()) {
        let recording = recording(keys.clone());
        let Ok(generated) = generate(&recording, &policy) else { return Ok(()) };
        let lines = lines(&generated);
        prop_assert_eq!(lines.len(), generated.rules.len());

        let files = || generated.rules.iter().filter_map(|rule| match &rule.what {
            What::File { path, owner, perms } => Some((rule, path, owner, perms.to_string())),
            _ => None,
        });
        for key in keys.iter().filter(|key| key.outcome == Outcome::Granted && key.certainty == Certainty::Exact) {
            let Access::File(file) = &key.what else { continue };
            let path = collapsed(&file.path);
            for letter in letters(file) {
                let grants = |(rule, pattern, owner, perms): (&Rule, &Pattern, &bool, String)| {
                    !rule.deny && pattern.matches(&path) && perms.contains(letter) && (file.facts.owner || !owner)
                };
                prop_assert!(files().any(grants), "{key:?} {letter} {lines:#?}");
                let denies = |(rule, pattern, _, perms): (&Rule, &Pattern, _, String)| {
                    rule.deny && pattern.matches(&path) && perms.contains(letter)
                };
                prop_assert!(!files().any(denies), "{key:?} {letter} {lines:#?}");
            }
        }
        for (rule, pattern, _, perms) in files().filter(|(rule, ..)| rule.floor.is_none()) {
            prop_assert!(rule.witness.is_some());
            let originals = rule.originals.iter().filter_map(|key| match &key.what {
                Access::File(file) => Some(file),
                _ => None,
            });
            let of_originals: BTreeSet<char> = originals.clone().flat_map(letters).collect();
            prop_assert!(perms.chars().all(|letter| of_originals.contains(&letter)), "{rule:?}");
            if pattern.as_literal().is_none() {
                prop_assert!(!perms.contains('x') && (!perms.contains('m') || rule.folded.is_some()), "{rule:?}");
            }
        }
        for rule in &generated.rules {
            prop_assert!(rule.floor.is_some() || !rule.originals.is_empty());
        }
    }

    /// The text is read by another reader than the writer's author, and every access is asked of it again.
    #[test]
    fn an_independent_reading_of_the_text_denies_nothing_that_was_granted(
        keys in vec(any_key(), 1..12),
        policy in any_policy(),
    ) {
        let recording = recording(keys);
        let Ok(generated) = generate(&recording, &policy) else { return Ok(()) };
        let text = generated.to_text(Style { comments: true, complain: false });
        let profile = ParsedProfile::parse(text.as_bytes()).unwrap();
        let question = Question { phases: policy.phases, caps: None };
        prop_assert!(profile.unjudged.iter().all(|part| !part.may_grant), "{:?}\n{text}", profile.unjudged);
        for access in check_apparmor(&profile, &recording, &question).accesses {
            // A path from a call's arguments is cleaned for the rule, and read as it is by the other.
            let named = generated.not_expressible.contains_key(&access.key)
                || access.key.certainty == Certainty::Inferred;
            let granted = matches!(access.verdict, Verdict::Allowed(_) | Verdict::NotMediated(_));
            prop_assert!(granted || named, "{access:?}\n{text}");
        }
    }

    #[test]
    fn the_order_of_seeing_changes_no_byte(keys in vec(any_key(), 1..12), policy in any_policy()) {
        let all = |keys: Vec<AccessKey>| {
            let mut recording = Recording::new(subject());
            recording.add_run(observed_run());
            for key in keys {
                recording.observe_access(run_id(0), key, Phase::Workload, Some(witness(0))).unwrap();
            }
            generate(&recording, &policy).map(|generated| generated.to_text(Style { comments: true, complain: false }))
        };
        prop_assert_eq!(all(keys.clone()), all(keys.into_iter().rev().collect()));
    }

    /// The parser has two ways to write any byte. Both must give the same policy, byte for byte.
    #[test]
    fn a_hostile_name_is_a_name(name in hostile()) {
        let path: Bytes = [b"/", name.as_slice()].concat().into();
        let label: Bytes = name.clone().into();
        let generated = of_granted([
            file(path.clone(), FileOp::Open, "r", FileFacts::default()),
            Access::Signal { signal: 1, peer: Peer::Outside { label: Some(label.clone()) } },
            Access::Umount { target: path.clone(), flags: 0 },
        ]);
        let rules = rules(&generated);
        prop_assert_eq!(rules.len(), 3, "{:#?}", &rules);
        // A backslash itself is as in ours: at the end of a name, two would escape the quote for the parser.
        let backslashes = |name: &[u8]| {
            let mut text = Vec::new();
            for byte in name {
                match byte {
                    b'\\' => text.extend_from_slice(b"\\134"),
                    b'"' | b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'^' | b',' | b'@' => {
                        text.extend([b'\\', *byte]);
                    }
                    byte => text.push(*byte),
                }
            }
            text
        };
        let path = backslashes(&collapsed(&path));
        let label = backslashes(label.as_slice());
        let profile = [
            b"abi <abi/3.0>,\nprofile x {\n\"".as_slice(), &path, b"\" r,\nsignal (send) set=(hup) peer=\"", &label,
            b"\",\numount \"", &path, b"\",\n}\n",
        ].concat();
        let ours = format!("abi <abi/3.0>,\nprofile x {{\n{}\n}}\n", rules.join("\n"));
        let mut raw = Command::new("apparmor_parser")
            .args(["-Q", "-K", "-S", "--kernel-features", "/etc/apparmor.d/abi/3.0"])
            .stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        raw.stdin.take().unwrap().write_all(&profile).unwrap();
        let raw = raw.wait_with_output().unwrap();
        // Not every raw name can be read: a `#` or a line's end inside quotes, say. What can must mean the same.
        if raw.status.success() {
            prop_assert_eq!(compile(&ours).unwrap(), raw.stdout);
        } else {
            compile(&ours).unwrap();
        }
    }

    /// Whoever is recorded, under whatever name, and whoever was first.
    #[test]
    fn no_name_gets_out_of_a_comment(name in ".{0,8}", part in hostile()) {
        let hostile = format!("{name}\n  capability,\n#include <x>\r\u{1b}");
        let part: Bytes = part.into();
        let subjects = [
            Subject::Command { program: part.clone() },
            Subject::Cgroup { path: part.clone() },
            Subject::of_container(&hostile, &hostile, &std::collections::BTreeMap::new(), &hostile),
        ];
        for subject in subjects {
            let mut recording = Recording::new(subject);
            recording.add_run(observed_run());
            let witness = Witness { comm: part.clone(), exe: hostile.as_str().into(), ..witness(0) };
            recording.observe_access(run_id(0), granted(open("/f", "r")), Phase::Workload, Some(witness)).unwrap();
            let generated = generate(&recording, &Policy::default()).unwrap();
            compile(&generated.to_text(Style { comments: true, complain: false })).unwrap();
            let text = generated.to_text(Style { comments: true, complain: false });
            let rules = text.lines().filter_map(|line| line.split(" # ").next()).filter(|line| line.starts_with("  ") && line.ends_with(','));
            prop_assert_eq!(rules.count(), generated.rules.len());
            let summary = Summary::new(&recording, Err("")).with_apparmor("web.apparmor", Ok(&generated));
            // The profile's name has letters, digits, dots and dashes only, and stands in commands.
            let name = &summary.apparmor.as_ref().unwrap().name;
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{}", name);
            for line in summary.to_markdown(None).replace(name, "NAME").lines() {
                let outside: String = line.split('`').step_by(2).collect();
                prop_assert!(!outside.contains("capability") && !outside.contains('\u{1b}'), "{line}");
            }
            prop_assert!(!text.contains(['\u{1b}', '\r']) && text.lines().all(|line| !line.starts_with("#i")), "{}", text);
        }
    }
}
