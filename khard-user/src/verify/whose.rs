//! Which subject a process is of that the kernel's audit records name. Owns the answer where several fit. It must not know what a record
//! says.

use std::{collections::BTreeMap, ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use super::audit::Caller;
use crate::stream::{SubjectId, SubjectState};

/// Where a subject is.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    id: SubjectId,
    is_alive: bool,
    cgroup: &'a Path,
    first_process: Option<u32>,
}

impl<'a> From<&'a SubjectState> for Place<'a> {
    fn from(state: &'a SubjectState) -> Self {
        let cgroup = Path::new(OsStr::from_bytes(state.run.cgroup_path.as_slice()));
        Self { id: state.id, is_alive: state.is_alive(), cgroup, first_process: state.run.init_pid }
    }
}

/// The subjects of a moment. Of two lives in one cgroup, and of a number that was used twice, the last one counts.
pub(super) struct Whose<'a> {
    /// Whether it lives, and who it is.
    by_cgroup: BTreeMap<&'a Path, (bool, SubjectId)>,
    by_first_process: BTreeMap<u32, SubjectId>,
}

impl<'a> Whose<'a> {
    pub(super) fn new(places: impl Iterator<Item = Place<'a>>) -> Self {
        let (mut by_cgroup, mut by_first_process) = (BTreeMap::new(), BTreeMap::new());
        for Place { id, is_alive, cgroup, first_process } in places {
            let known = by_cgroup.entry(cgroup).or_insert((is_alive, id));
            *known = (is_alive, id).max(*known);
            if let Some(pid) = first_process {
                let known = by_first_process.entry(pid).or_insert(id);
                *known = id.max(*known);
            }
        }
        Self { by_cgroup, by_first_process }
    }

    /// Who lives counts before who does not, then the innermost cgroup. Of a process that is gone only the number is known.
    pub(super) fn is(&self, caller: &Caller) -> Option<SubjectId> {
        let Some(cgroup) = &caller.cgroup else {
            return self.by_first_process.get(&caller.pid).copied();
        };
        let around = |path: &Path| {
            let (is_alive, id) = *self.by_cgroup.get(path)?;
            Some((is_alive, path.as_os_str().len(), id))
        };
        cgroup.ancestors().filter_map(around).max().map(|(.., id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(id: u32, is_alive: bool, cgroup: &str) -> Place<'_> {
        Place { id: SubjectId(id), is_alive, cgroup: Path::new(cgroup), first_process: Some(100 + id % 2) }
    }

    #[test]
    fn a_process_is_of_the_innermost_subject_that_lives_and_of_the_last_one_of_a_cgroup() {
        let whose = Whose::new(
            [
                place(0, true, "/pod"),
                place(1, false, "/pod/a"),
                place(2, true, "/pod/a/b"),
                place(3, true, "/pod/a/b"),
                // Gone before its path could be read.
                place(4, true, ""),
            ]
            .into_iter(),
        );
        let of = |cgroup: &str| whose.is(&Caller { pid: 100, cgroup: Some(cgroup.into()) });
        assert_eq!(of("/pod/a/b/c"), Some(SubjectId(3)));
        assert_eq!(of("/pod/a/other"), Some(SubjectId(0)), "the nearer one has ended");
        assert_eq!(of("/pod2"), None);
        assert_eq!(whose.is(&Caller { pid: 101, cgroup: None }), Some(SubjectId(3)));
        assert_eq!(whose.is(&Caller { pid: 103, cgroup: None }), None);
    }
}
