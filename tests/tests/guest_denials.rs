//! A workload under the profile that khard made of it: nothing is denied, and it does what it did.

use khard_tests::watched::{assert_no_denials, exact_attachments};

#[test]
fn nginx_is_denied_nothing_under_its_profile() {
    assert_no_denials("nginx", "auto", &[]);
}

#[test]
fn a_script_is_denied_nothing_under_its_profile() {
    assert_no_denials("coreutils", "auto", &[]);
}

#[test]
fn hostile_names_and_paths_that_become_others_are_denied_nothing_under_their_profile() {
    assert_no_denials("paths", "auto", &[]);
}

/// What AppArmor is asked for before file permissions refuse it. The file is the workload's own to write: reading, which a
/// rename asks too, is what it only attempted.
const ATTEMPTS: [&str; 5] =
    ["closed/dir/\" w,", "closed/file\" r,", "closed/soft\" w,", "closed/new\" w,", "open/stolen\" w,"];

#[test]
fn what_file_permissions_refused_is_told_from_what_was_done_and_denied_without_a_word() {
    for attach in exact_attachments() {
        let text = assert_no_denials("attempts", attach, &["--attempts", "deny"]);
        let denied: Vec<_> = text.lines().filter(|line| line.trim_start().starts_with("deny ")).collect();
        for attempt in ATTEMPTS {
            assert!(denied.iter().any(|line| line.ends_with(attempt)), "{attach}: {attempt}\n{text}");
        }
        assert_eq!(denied.len(), ATTEMPTS.len(), "{attach}:\n{text}");
    }
}

#[test]
fn what_file_permissions_refused_is_granted_by_default_so_that_it_fails_as_before() {
    let text = assert_no_denials("attempts", "auto", &[]);
    assert!(!text.contains("deny "), "{text}");
    for attempt in ATTEMPTS {
        let granted = attempt.replace("file\" r,", "file\" rw,");
        assert!(text.lines().any(|line| line.ends_with(&granted)), "{granted}\n{text}");
    }
}
