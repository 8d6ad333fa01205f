//! What khard records of accesses, and what AppArmor itself is asked: the same run, seen by two.

use khard_tests::{apparmor::auditing, watched::assert_all_is_recorded};

#[test]
fn khard_records_all_that_apparmor_is_asked_of_a_script() {
    assert_all_is_recorded("coreutils", &auditing("khard-oracle"));
}

#[test]
fn khard_records_all_that_apparmor_is_asked_of_hostile_names_and_paths_that_become_others() {
    assert_all_is_recorded("paths", &auditing("khard-oracle"));
}
