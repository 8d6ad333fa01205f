//! What khard records of accesses, and what AppArmor itself is asked: the same run, seen by two.

use khard_tests::{
    apparmor::{auditing, complaining},
    watched::{assert_all_is_recorded, compare, exact_attachments, missed},
};

#[test]
fn khard_records_all_that_apparmor_is_asked_of_everything_that_it_mediates() {
    assert_all_is_recorded("exercise", &complaining("khard-oracle"));
}

#[test]
fn khard_records_all_that_apparmor_is_asked_where_programs_stay_under_one_profile() {
    let missed = missed(&compare("exercise", &auditing("khard-oracle"), exact_attachments()[0]));
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn khard_records_all_that_apparmor_is_asked_of_a_script() {
    assert_all_is_recorded("coreutils", &auditing("khard-oracle"));
}
