//! Profiles refuse what the workload did not do.

use std::{collections::BTreeSet, fs, os::unix::ffi::OsStrExt as _, path::PathBuf, process::Command};

use khard_profile::{
    apparmor_text::ParsedProfile,
    check::apparmor::{Verdict, verdict},
    recording::{Access, AccessKey, Certainty, FileAccess, FileFacts, FileOp, FilePerms, Outcome, Recording},
};
use khard_tests::{
    apparmor::Loaded,
    draw::Draw,
    of_workloads,
    watched::{denials, profile_of, rules, told},
    workload::Workload,
};

/// What no workload does, by a program that needs no file but itself: each must be refused under the profile and work without.
const NEVER: [(&str, &[&str]); 6] = [
    ("write elsewhere", &["dd", "of=/root/planted", "count=0"]),
    ("read /etc/shadow", &["cat", "/etc/shadow"]),
    ("start another shell", &["env", "/bin/bash", "-c", "true"]),
    ("use another capability", &["chroot", "/", "/bin/busybox", "true"]),
    ("make a raw socket", &["ping", "-c", "1", "-W", "5", "127.0.0.1"]),
    ("mount", &["mount", "-t", "tmpfs", "planted", "/mnt"]),
];

fn what_it_never_did_is_refused(name: &str) {
    let workload = Workload::new(name);
    let profile = Loaded::new(&profile_of(&workload).0);
    for (what, words) in NEVER {
        let run = |command: &mut Command| command.output().expect("a program").status.success();
        assert!(run(Command::new("/bin/busybox").args(words)), "{what} works without a profile");
        let ((), events) = told(|| {
            let mut confined = Command::new("aa-exec");
            confined.args(["-p", profile.name(), "--", "/bin/busybox"]).args(words);
            assert!(!run(&mut confined), "{what} works under the profile of {name}");
        });
        let denied = denials(&events, |event| profile.is(&event.profile));
        assert!(!denied.is_empty(), "{what}: something else than the profile of {name} refused it");
    }
    let _ = fs::remove_file("/root/planted");
    let _ = Command::new("umount").arg("/mnt").status();
}

of_workloads! { what_it_never_did_is_refused:
    a_web_server_cannot_do_under_its_profile_what_it_never_did: "nginx",
    a_server_cannot_do_under_its_profile_what_it_never_did: "redis",
    a_database_cannot_do_under_its_profile_what_it_never_did: "postgres",
    an_application_cannot_do_under_its_profile_what_it_never_did: "python",
    a_script_cannot_do_under_its_profile_what_it_never_did: "coreutils",
    git_cannot_do_under_its_profile_what_it_never_did: "git",
    a_compiler_cannot_do_under_its_profile_what_it_never_did: "gcc",
}

/// Pairs of a path and a permission that are drawn for each workload, and the seed that draws them.
const N_PAIRS: usize = 10_000;
const SEED: u64 = 2026;

/// Permissions with an operation that asks for each, and the kernel's bit for it (`AA_MAY_…`).
const PERMISSIONS: [(FilePerms, FileOp, u32); 5] = [
    (FilePerms::READ, FileOp::Open, 1 << 2),
    (FilePerms::WRITE, FileOp::Open, 1 << 1),
    (FilePerms::EXEC, FileOp::Exec, 1 << 0),
    (FilePerms::LOCK, FileOp::Lock, 1 << 15),
    (FilePerms::MMAP_EXEC, FileOp::Mmap, 1 << 16),
];

/// Every path of this system, directories with their slash; of kernel file systems those that are mounted in their places.
fn all_paths() -> Vec<Vec<u8>> {
    let (mut paths, mut waiting) = (Vec::new(), vec![PathBuf::from("/")]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let mut bytes = path.as_os_str().as_bytes().to_vec();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                bytes.push(b'/');
                if ![b"/sys/".as_slice(), b"/proc/", b"/host/"].contains(&bytes.as_slice()) {
                    waiting.push(path);
                }
            }
            paths.push(bytes);
        }
    }
    paths.sort();
    paths
}

/// What was recorded, as pairs; creating and removing are granted by `w`, and `x` grants mapping too (seen with the
/// parser 3.0).
fn recorded(recording: &Recording) -> BTreeSet<(Vec<u8>, u32)> {
    let mut pairs = BTreeSet::new();
    for key in recording.accesses().keys() {
        if let Access::File(FileAccess { path, perms, .. }) = &key.what {
            let writes = [FilePerms::WRITE, FilePerms::CREATE, FilePerms::DELETE];
            for (perm, _, bit) in PERMISSIONS {
                let is_write = perm == FilePerms::WRITE && writes.iter().any(|one| perms.contains(*one));
                let is_code = perm == FilePerms::MMAP_EXEC && perms.contains(FilePerms::EXEC);
                if is_write || is_code || perms.contains(perm) {
                    pairs.insert((path.as_slice().to_vec(), bit));
                }
            }
        }
    }
    pairs
}

fn seldom_allows_what_was_not_recorded(name: &str) {
    let workload = Workload::new(name);
    let (text, recording) = profile_of(&workload);
    let (profile, parsed) = (Loaded::new(&text), ParsedProfile::parse(text.as_bytes()).unwrap());
    let recorded = recorded(&recording);
    for (path, bit) in &recorded {
        assert!(profile.allowed(path) & bit != 0, "{bit:#x} on {} was recorded", path.escape_ascii());
    }
    let (paths, mut draw) = (all_paths(), Draw::new(SEED));
    let (mut n_pairs, mut allowed) = (0, BTreeSet::new());
    while n_pairs < N_PAIRS {
        let path = &paths[draw.below(paths.len())];
        let (perms, op, bit) = PERMISSIONS[draw.below(PERMISSIONS.len())];
        if recorded.contains(&(path.clone(), bit)) {
            continue;
        }
        n_pairs += 1;
        let by_kernel = profile.allowed(path) & bit != 0;
        let facts = FileFacts { owner: true, ..FileFacts::default() };
        let what = Access::File(FileAccess { path: path.clone().into(), op, perms, facts });
        let key = AccessKey { what, outcome: Outcome::Granted, certainty: Certainty::Exact };
        let by_khard = matches!(verdict(&parsed, &key), Verdict::Allowed(_));
        assert_eq!(by_khard, by_kernel, "{perms} on {}", path.escape_ascii());
        if by_kernel {
            allowed.insert(format!("{perms} {}", path.escape_ascii()));
        }
    }
    let rules = rules(&text);
    let globs = rules.iter().filter(|rule| rule.contains(['*', '[', '{'])).count();
    println!(
        "{name}: {} rules, {globs} with a glob or variable; of {N_PAIRS} pairs that were not recorded {} are allowed: {allowed:?}",
        rules.len(),
        allowed.len(),
    );
    assert!(allowed.len() <= N_PAIRS / 1000, "{name}: {allowed:?}");
}

of_workloads! { seldom_allows_what_was_not_recorded:
    a_web_servers_profile_seldom_allows_what_was_not_recorded: "nginx",
    a_servers_profile_seldom_allows_what_was_not_recorded: "redis",
    a_databases_profile_seldom_allows_what_was_not_recorded: "postgres",
    an_applications_profile_seldom_allows_what_was_not_recorded: "python",
    a_scripts_profile_seldom_allows_what_was_not_recorded: "coreutils",
    a_profile_of_git_seldom_allows_what_was_not_recorded: "git",
    a_compilers_profile_seldom_allows_what_was_not_recorded: "gcc",
    a_profile_of_hostile_names_seldom_allows_what_was_not_recorded: "paths",
}
