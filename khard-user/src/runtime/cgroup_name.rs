//! What the name of a cgroup's directory says about the container in it.
//!
//! Owns the naming habits of the runtimes. It must not know where the cgroup tree is, nor which containers exist: a
//! name is a hint, and whoever reads it asks the runtime whether it has such a container.

use std::path::Path;

/// Who lives in a cgroup of such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The container's processes, or a pod's pause process: pods and containers have the same kind of id.
    Container,
    /// The monitor that the runtime keeps beside the container.
    Monitor,
}

/// A directory name that was understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupName<'a> {
    /// The id: 64 lower-case hexadecimal digits.
    pub id: &'a str,
    /// Whose processes are in it.
    pub role: Role,
}

/// What runtimes write before the id, longest first where one starts another. Sources: containerd
/// `internal/cri/server/helpers_linux.go` (getCgroupsPath), CRI-O `internal/config/cgmgr`, moby
/// `daemon/oci_linux.go`, Podman `libpod/oci_conmon_linux.go`, nerdctl `pkg/cmd/container/run_cgroup_linux.go`.
const PREFIXES: [(&str, Role); 8] = [
    ("crio-conmon-", Role::Monitor),
    ("libpod-conmon-", Role::Monitor),
    ("cri-containerd-", Role::Container),
    ("crio-", Role::Container),
    ("docker-", Role::Container),
    ("libpod-", Role::Container),
    ("nerdctl-", Role::Container),
    ("", Role::Container),
];

/// Of an id.
pub const ID_CHARS: usize = 64;

/// Reads one path component. Ids are accepted in their full form only: a workload may create cgroups of any name
/// below its own, and a short or odd one must not be mistaken for another container.
#[must_use]
pub fn parse(component: &[u8]) -> Option<CgroupName<'_>> {
    let name = std::str::from_utf8(component).ok()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    PREFIXES.iter().find_map(|&(prefix, role)| {
        let id = name.strip_prefix(prefix)?;
        is_id(id).then_some(CgroupName { id, role })
    })
}

/// Whether this is a container's id in its full form.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a directory is, by its own name, the container's with this id: not one inside of it, nor its monitor's.
#[must_use]
pub fn is_own(path: &Path, id: &str) -> bool {
    let name = path.file_name().and_then(|name| parse(name.as_encoded_bytes()));
    name.is_some_and(|name| name.id == id && name.role == Role::Container)
}

/// The names in a whole path, outermost first. The first one that the runtime knows is the container: whatever is
/// further in was made by the container itself (`/init.scope`, Docker in Docker, or a forged name).
pub fn parse_path(path: &[u8]) -> impl Iterator<Item = CgroupName<'_>> {
    path.split(|&b| b == b'/').filter_map(parse)
}

/// The path below the cgroup root that a runtime's `linux.cgroupsPath` stands for: `slice:prefix:name` with systemd's
/// driver, else the path itself. `None` when it is malformed.
///
/// Source: runc `libcontainer/cgroups/systemd/common.go` (`ExpandSlice`, `getUnitName`), 1.1.
#[must_use]
pub fn resolve_cgroups_path(cgroups_path: &str) -> Option<String> {
    let parts: Vec<_> = cgroups_path.split(':').collect();
    let path = match parts[..] {
        [slice, prefix, name] => {
            let slice = if slice.is_empty() { "system.slice" } else { slice };
            let unit = match (name.strip_suffix(".slice"), prefix) {
                (Some(_), _) => name.to_owned(),
                (None, "") => format!("{name}.scope"),
                (None, prefix) => format!("{prefix}-{name}.scope"),
            };
            if unit.contains('/') {
                return None;
            }
            format!("{}/{unit}", expand_slice(slice)?)
        }
        [path] => format!("/{}", path.trim_matches('/')),
        _ => return None,
    };
    let is_plain = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    is_plain.then_some(path)
}

/// `a-b.slice` is `/a.slice/a-b.slice`, `-.slice` the root: systemd.slice(5).
fn expand_slice(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    if name.is_empty() || name.contains('/') || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Some(ends.fold(String::new(), |path, end| format!("{path}/{}.slice", &name[..end])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "b8a0f98cb1c884c6d9eb5c9c6b33b046472ded5033bca0f003d2daf277f77ca5";
    const OTHER: &str = "d0398c0284497e83de366361396878d18ebfbfc2b9aa263d7e38e6bd6786be47";

    #[test]
    fn every_runtime_s_name_gives_the_id() {
        use Role::{Container, Monitor};
        let cases = [
            (ID.to_owned(), Container),
            (format!("cri-containerd-{ID}.scope"), Container),
            (format!("crio-{ID}.scope"), Container),
            (format!("crio-{ID}"), Container),
            (format!("docker-{ID}.scope"), Container),
            (format!("libpod-{ID}.scope"), Container),
            (format!("libpod-{ID}"), Container),
            (format!("nerdctl-{ID}.scope"), Container),
            (format!("crio-conmon-{ID}.scope"), Monitor),
            (format!("libpod-conmon-{ID}.scope"), Monitor),
        ];
        for (name, role) in &cases {
            assert_eq!(parse(name.as_bytes()), Some(CgroupName { id: ID, role: *role }), "{name}");
        }
    }

    #[test]
    fn other_and_hostile_names_give_nothing() {
        let (long, upper, digits) = ("a".repeat(4096), ID.to_uppercase(), "\u{0660}".repeat(32));
        let cases: [&[u8]; 16] = [
            b"",
            b"kubepods",
            b"podb8fed9c7-6cdc-45b1-96ad-025f9581340f",
            b"kubepods-besteffort-podb8fed9c7_6cdc.slice",
            b"init.scope",
            b"cri-containerd-.scope",
            &ID.as_bytes()[..63],
            &[ID.as_bytes(), b"0"].concat(),
            upper.as_bytes(),
            &[b"evil-", ID.as_bytes()].concat(),
            &[ID.as_bytes(), b".scope.scope"].concat(),
            &[ID.as_bytes(), b"\n"].concat(),
            &[b"\x1b[2J", ID.as_bytes()].concat(),
            &[0xff; 64],
            digits.as_bytes(),
            long.as_bytes(),
        ];
        for name in cases {
            assert_eq!(parse(name), None, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn names_in_a_path_come_outermost_first() {
        let ids = |path: &str| parse_path(path.as_bytes()).map(|n| n.id.to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&format!("/kubepods/besteffort/podx/{ID}")), [ID]);
        assert_eq!(ids(&format!("/machine.slice/libpod-{ID}.scope/container")), [ID]);
        assert_eq!(ids(&format!("/kubepods.slice/cri-containerd-{ID}.scope/init.scope")), [ID]);
        // A workload that names its own child cgroup after another container.
        assert_eq!(ids(&format!("/kubepods/podx/{ID}/{OTHER}")), [ID, OTHER]);
        assert!(ids("/").is_empty());
    }

    #[test]
    fn cgroups_paths_of_both_drivers_are_resolved() {
        let cases = [
            ("/kubepods/besteffort/podx/abc", Some("/kubepods/besteffort/podx/abc")),
            ("kubepods/podx/abc/", Some("/kubepods/podx/abc")),
            (
                "kubepods-besteffort-podx_y.slice:cri-containerd:abc",
                Some(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podx_y.slice/cri-containerd-abc.scope",
                ),
            ),
            ("system.slice:docker:abc", Some("/system.slice/docker-abc.scope")),
            (":cri-containerd:abc", Some("/system.slice/cri-containerd-abc.scope")),
            ("-.slice:crio:abc", Some("/crio-abc.scope")),
            ("a.slice::abc", Some("/a.slice/abc.scope")),
            ("a.slice:crio:b.slice", Some("/a.slice/b.slice")),
            ("a--b.slice:crio:abc", None),
            ("a/b.slice:crio:abc", None),
            ("a:crio:abc", None),
            ("a.slice:crio:../abc", None),
            ("/kubepods/../../etc", None),
            ("a:b", None),
            ("/", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve_cgroups_path(text).as_deref(), expected, "{text}");
        }
    }
}
