//! Owns the variables that AppArmor ships in `/etc/apparmor.d/tunables`, as 3.0.8 has them. Knows nothing about rules.
//!
//! A host can change them; whoever relies on them here says so.

use super::glob::Variables;

const NUMBERS_OF_PROCESSES: &str = "{[1-9],[1-9][0-9],[1-9][0-9][0-9],[1-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9][0-9],[1-4][0-9][0-9][0-9][0-9][0-9][0-9]}";
const NUMBERS_OF_USERS: &str = "{[0-9],[1-9][0-9],[1-9][0-9][0-9],[1-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9],[1-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9],[1-4][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]}";

/// The files whose variables are known here; `global` includes most of them.
const FILES: [&str; 9] = ["global", "home", "multiarch", "proc", "kernelvars", "sys", "share", "etc", "run"];

const VALUES: [(&str, &[&str]); 17] = [
    ("HOME", &["@{HOMEDIRS}/*/", "/root/"]),
    ("HOMEDIRS", &["/home/"]),
    ("PROC", &["/proc/"]),
    ("etc_ro", &["/etc/", "/usr/etc/"]),
    ("etc_rw", &["/etc/"]),
    ("flatpak_exports_root", &["{flatpak/exports,flatpak/{app,runtime}/*/*/*/*/export}"]),
    ("multiarch", &["*-linux-gnu*"]),
    ("pid", &[NUMBERS_OF_PROCESSES]),
    ("pids", &["@{pid}"]),
    ("run", &["/run/", "/var/run/"]),
    ("securityfs", &["@{sys}/kernel/security/"]),
    ("sys", &["/sys/"]),
    ("system_share_dirs", &["/{usr,usr/local,var/lib/@{flatpak_exports_root}}/share"]),
    ("tid", &["@{pid}"]),
    ("uid", &[NUMBERS_OF_USERS]),
    ("uids", &["@{uid}"]),
    ("user_share_dirs", &["@{HOME}/.local{,/share/@{flatpak_exports_root}}/share"]),
];

/// Adds the variables of `tunables/NAME`; false if they are not known.
pub(super) fn include(path: &str, variables: &mut Variables) -> bool {
    let known = path.strip_prefix("tunables/").is_some_and(|name| FILES.contains(&name));
    if known {
        let values = |values: &[&str]| values.iter().map(|value| value.as_bytes().to_vec()).collect();
        variables.extend(VALUES.iter().map(|(name, of)| (name.as_bytes().to_vec(), values(of))));
    }
    known
}
