//! As `guest_oracle`, of servers, compilers and other programs that take long in a guest; and of khard without hooks, which
//! must say how much it misses.

use khard_profile::recording::{Class, Coverage};
use khard_tests::{
    apparmor::{auditing, complaining},
    of_workloads,
    watched::{assert_all_is_recorded, compare, exact_attachments},
    workload::Workload,
};

fn all_is_recorded(name: &str) {
    assert_all_is_recorded(name, &auditing("khard-oracle"));
}

of_workloads! { all_is_recorded:
    khard_records_all_that_apparmor_is_asked_of_nginx: "nginx",
    khard_records_all_that_apparmor_is_asked_of_redis: "redis",
    khard_records_all_that_apparmor_is_asked_of_a_database: "postgres",
    khard_records_all_that_apparmor_is_asked_of_an_application_in_python: "python",
    khard_records_all_that_apparmor_is_asked_of_git: "git",
    khard_records_all_that_apparmor_is_asked_of_a_compiler: "gcc",
}

#[test]
fn by_system_calls_alone_khard_sees_most_files_of_a_script() {
    let compared = compare("coreutils", &auditing("khard-oracle"), "syscall");
    let files = &compared.classes[&Class::Files];
    assert!(files.recall() > 0.5, "{files:?}");
}

#[test]
fn khard_records_all_that_apparmor_is_asked_of_everything_that_it_mediates() {
    assert_all_is_recorded("exercise", &complaining("khard-oracle"));
}

#[test]
fn khard_records_all_that_apparmor_is_asked_where_programs_stay_under_one_profile() {
    let missed = compare("exercise", &auditing("khard-oracle"), exact_attachments()[0]).missed();
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn khard_says_where_it_does_not_see_the_layers_of_an_overlay_that_a_workload_mounts_itself() {
    for (attach, sees_layers) in [("auto", true), ("syscall", false)] {
        let done = Workload::new("overlay").traced(attach, &[]).expect(0);
        for run in done.recording("overlay").runs().values() {
            let files = run.coverage.accesses.of(Class::Files);
            assert_eq!(matches!(files, Coverage::Exact(_)), sees_layers, "{files:?}");
            let says_so = run.notes.iter().any(|note| note.contains("overlay's layers"));
            assert_eq!(says_so, !sees_layers, "{:?}", run.notes);
        }
    }
}
