//! The number of apps of each group.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::reconcile::group::Group;

/// Number of apps of each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Groups([usize; Group::ALL.len()]);

impl Groups {
    /// Counts an app that moved; `None` is an app that is not declared.
    pub fn moved(&mut self, from: Option<Group>, to: Option<Group>) {
        if let Some(from) = from {
            self.0[from as usize] -= 1;
        }
        if let Some(to) = to {
            self.0[to as usize] += 1;
        }
    }

    pub fn get(&self, group: Group) -> usize {
        self.0[group as usize]
    }
}

impl Serialize for Groups {
    /// Serializes as `{"declared": 3, "needsPerson": 0, ..}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.0.len()))?;
        map.serialize_entry("declared", &self.0.iter().sum::<usize>())?;
        for group in Group::ALL {
            map.serialize_entry(group.field(), &self.get(group))?;
        }
        map.end()
    }
}
