//! A workload under the profile that khard made of it: nothing is denied, and it does what it did.

use khard_tests::watched::assert_no_denials;

#[test]
fn nginx_is_denied_nothing_under_its_profile() {
    assert_no_denials("nginx", "auto");
}

#[test]
fn a_script_is_denied_nothing_under_its_profile() {
    assert_no_denials("coreutils", "auto");
}
