//! As `guest_denials`, of programs that take long in a guest, and by each means of seeing accesses.

use khard_tests::{
    of_workloads,
    watched::{assert_no_denials, exact_attachments},
};

fn is_denied_nothing(name: &str) {
    assert_no_denials(name, "auto", &[]);
}

of_workloads! { is_denied_nothing:
    redis_is_denied_nothing_under_its_profile: "redis",
    a_database_is_denied_nothing_under_its_profile: "postgres",
    an_application_in_python_is_denied_nothing_under_its_profile: "python",
    git_is_denied_nothing_under_its_profile: "git",
    a_compiler_is_denied_nothing_under_its_profile: "gcc",
}

#[test]
fn each_means_of_seeing_accesses_makes_a_profile_that_denies_nothing() {
    for attach in exact_attachments() {
        assert_no_denials("coreutils", attach, &[]);
    }
}

#[test]
fn all_that_apparmor_mediates_is_denied_nothing_under_its_profile() {
    assert_no_denials("exercise", "auto", &[]);
}
