//! Owns the union of recordings of one logical subject. The laws: commutative, associative, idempotent.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use super::{Recording, Run, Subject};

/// What may be mixed in one merged recording. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergePolicy {
    /// Allow runs of different images: the profile then covers versions that are not the same program.
    pub mixed_images: bool,
    /// Allow runs of different machine architectures.
    pub mixed_machines: bool,
}

/// Why two recordings do not merge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// They are of different subjects.
    #[error(
        "these are recordings of different subjects: {} and {}",
        ours.in_words(),
        theirs.in_words()
    )]
    Subjects {
        /// The one's subject.
        ours: Box<Subject>,
        /// The other's.
        theirs: Box<Subject>,
    },
    /// Their containers ran different images.
    #[error(
        "cannot merge runs of different images, {ours:?} and {theirs:?}, unless mixed images are allowed"
    )]
    Images {
        /// The one's image ids.
        ours: BTreeSet<String>,
        /// The other's.
        theirs: BTreeSet<String>,
    },
    /// They ran on different architectures.
    #[error(
        "cannot merge runs of different machines, {ours:?} and {theirs:?}, unless mixed machines are allowed"
    )]
    Machines {
        /// The one's machines (`uname -m`).
        ours: BTreeSet<String>,
        /// The other's.
        theirs: BTreeSet<String>,
    },
}

impl Recording {
    /// The union of two recordings of the same subject: every run is kept, and of two records of one run the later.
    ///
    /// # Errors
    /// When the subjects differ, or their runs differ in what `policy` does not allow to be mixed.
    pub fn merge(mut self, other: Self, policy: MergePolicy) -> Result<Self, MergeError> {
        if self.subject.key() != other.subject.key() {
            return Err(MergeError::Subjects {
                ours: Box::new(self.subject),
                theirs: Box::new(other.subject),
            });
        }
        let images = |run: &Run| run.container.as_ref().map(|container| container.image_id.clone());
        if let Some((ours, theirs)) = differing(&self, &other, images).filter(|_| !policy.mixed_images) {
            return Err(MergeError::Images { ours, theirs });
        }
        let machines = |run: &Run| Some(run.host.machine.clone());
        if let Some((ours, theirs)) = differing(&self, &other, machines).filter(|_| !policy.mixed_machines) {
            return Err(MergeError::Machines { ours, theirs });
        }

        self.written_by = self.written_by.max(other.written_by);
        self.subject = self.subject.min(other.subject);
        for (id, run) in other.runs {
            match self.runs.entry(id) {
                Entry::Vacant(entry) => drop(entry.insert(run)),
                Entry::Occupied(mut entry) if run.rank() > entry.get().rank() => drop(entry.insert(run)),
                Entry::Occupied(_) => {}
            }
        }
        let places: Vec<u32> = other.table.ids().iter().map(|id| self.table.add(*id)).collect();
        for (key, mut seen) in other.syscalls {
            self.names.share_all(&mut seen);
            self.syscalls.entry(key).or_default().unite(seen, &places);
        }
        for (key, mut seen) in other.accesses {
            self.names.share_all(&mut seen);
            self.accesses.entry(key).or_default().unite(seen, &places);
        }
        for (key, mut seen) in other.refused_calls {
            self.names.share_all(&mut seen);
            self.refused_calls.entry(key).or_default().unite(seen, &places);
        }
        Ok(self)
    }
}

/// The two sets of a property of the runs, if both have some and they are not the same.
fn differing(
    ours: &Recording,
    theirs: &Recording,
    property: impl Fn(&Run) -> Option<String>,
) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
    let of = |recording: &Recording| recording.runs.values().filter_map(&property).collect::<BTreeSet<_>>();
    let (ours, theirs) = (of(ours), of(theirs));
    (!ours.is_empty() && !theirs.is_empty() && ours != theirs).then_some((ours, theirs))
}
