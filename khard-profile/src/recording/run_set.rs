//! Owns how observations name runs in memory: by place in a table of the recording's, which holds each id once. Thousands of runs make
//! many millions of such names, and an id is eight times as large as a place.
//!
//! Places are those of one recording, in whatever order its runs came; they never leave it.

use std::collections::BTreeMap;

use super::RunId;

/// Some of a recording's runs: see [`super::Recording::runs_of`].
#[derive(Clone, Debug)]
pub struct RunSet(Places);

/// Sorted, each once. Most observations of a large recording are of one run alone.
#[derive(Clone, Debug)]
enum Places {
    One(u32),
    Many(Vec<u32>),
}

impl RunSet {
    pub(super) fn one(place: u32) -> Self {
        Self(Places::One(place))
    }

    /// How many. Never 0 in a [`super::Recording`].
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn as_slice(&self) -> &[u32] {
        match &self.0 {
            Places::One(place) => std::slice::from_ref(place),
            Places::Many(places) => places,
        }
    }

    pub(super) fn contains(&self, place: u32) -> bool {
        self.as_slice().binary_search(&place).is_ok()
    }

    pub(super) fn insert(&mut self, place: u32) {
        let Err(at) = self.as_slice().binary_search(&place) else { return };
        match &mut self.0 {
            Places::One(only) => {
                let mut places = vec![*only];
                places.insert(at, place);
                self.0 = Places::Many(places);
            }
            Places::Many(places) => places.insert(at, place),
        }
    }

    /// The same runs by their places in another table. Never empty before, so not after.
    pub(super) fn at(&self, places: &[u32]) -> impl Iterator<Item = u32> {
        self.as_slice().iter().filter_map(|place| places.get(*place as usize).copied())
    }
}

/// The ids of a recording's runs, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct RunTable {
    ids: Vec<RunId>,
    places: BTreeMap<RunId, u32>,
}

impl RunTable {
    /// The place of a run, which it gets if it has none.
    pub(super) fn add(&mut self, id: RunId) -> u32 {
        *self.places.entry(id).or_insert_with(|| {
            self.ids.push(id);
            // A reader takes far fewer runs, and none can be recorded that often.
            u32::try_from(self.ids.len() - 1).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn place(&self, id: RunId) -> Option<u32> {
        self.places.get(&id).copied()
    }

    pub(super) fn id(&self, place: u32) -> Option<&RunId> {
        self.ids.get(place as usize)
    }

    pub(super) fn ids(&self) -> &[RunId] {
        &self.ids
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(first in 0_u32..8, more in proptest::collection::vec(0_u32..8, 0..12)) {
            let mut set = RunSet::one(first);
            for place in &more {
                set.insert(*place);
            }
            let expected: BTreeSet<u32> = more.into_iter().chain([first]).collect();
            prop_assert_eq!(set.as_slice(), expected.iter().copied().collect::<Vec<_>>());
            prop_assert!((0..8).all(|place| set.contains(place) == expected.contains(&place)));
        }
    }
}
