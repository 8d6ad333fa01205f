//! Owns what a profile is called on a node. Two versions of one container's profile have different names, so that both can
//! be there during a roll-out.

use crate::recording::Subject;

/// `khard-NAMESPACE-WORKLOAD-CONTAINER-HASH`, or `khard-PROGRAM-HASH`, or `khard-CONTAINER-HASH` without a pod: only lower-case letters, digits, dots and dashes, so
/// that it can stand in a path, a command or YAML without quotes. The hash is eight digits of the profile's content.
pub fn profile_name(subject: &Subject, profile_json: &[u8]) -> String {
    let last_of = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
    let parts = match subject {
        Subject::Command { program } => vec![last_of(program.as_slice())],
        Subject::Cgroup { path } => vec![last_of(path.as_slice())],
        Subject::Docker { name, .. } => vec![name.as_bytes().to_vec()],
        Subject::Container { namespace, workload, container, .. } => {
            [namespace, workload, container].map(|name| name.as_bytes().to_vec()).into()
        }
    };
    let parts: Vec<String> = parts.iter().map(|part| plain(part)).collect();
    format!("khard-{}-{:08x}", parts.join("-"), fnv1a(profile_json))
}

/// What all versions of a profile have in their names; `None`: khard calls no profile so.
pub fn profile_stem(name: &str) -> Option<&str> {
    let (stem, hash) = name.strip_prefix("khard-")?.rsplit_once('-')?;
    let is_hash_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_khards = plain(stem.as_bytes()) == stem && hash.len() == 8 && hash.bytes().all(is_hash_digit);
    is_khards.then_some(stem)
}

fn plain(name: &[u8]) -> String {
    let plain = |byte: &u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' => char::from(*byte),
        b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
        _ => '-',
    };
    let name: String = name.iter().take(63).map(plain).collect();
    name.trim_matches(['-', '.']).to_owned()
}

/// FNV-1a with 32 bits: tells versions apart, no more. Who can choose a profile's content can choose its name too.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn names_hold_nothing_that_needs_quotes() {
        let hostile = Subject::of_container("a/../b", "$(reboot)", &BTreeMap::new(), "x y\n");
        assert_eq!(profile_name(&hostile, b""), "khard-a-..-b-reboot-x-y-811c9dc5");
        let command = Subject::Command { program: "/usr/sbin/Nginx".into() };
        assert_eq!(profile_name(&command, b"foobar"), "khard-nginx-bf9cf968");
    }

    #[test]
    fn a_name_of_khards_is_told_from_others() {
        for (name, is_khards) in [
            ("khard-nginx-bf9cf968", true),
            ("khard-a-..-b-reboot-x-y-811c9dc5", true),
            ("khard-nginx-bf9cf96", false),
            ("khard-nginx-bf9cf96g", false),
            ("khard-bf9cf968", false),
            ("Khard-nginx-bf9cf968", false),
            ("khard-a/b-bf9cf968", false),
            ("nginx", false),
        ] {
            assert_eq!(profile_stem(name).is_some(), is_khards, "{name}");
        }
    }
}
