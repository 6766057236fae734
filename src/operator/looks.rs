//! Which apps are owed a single read, and when? Those on the list apart from the others, since a list serves the former
//! all at once.

use std::collections::BTreeSet;

use crate::operator::queue::Queue;
use crate::reconcile::app::AppId;
use crate::reconcile::moment::Moment;

/// The single reads that are owed.
#[derive(Debug, Default)]
pub struct Looks {
    listed: Queue<AppId>,
    unlisted: Queue<AppId>,
    /// Those for which a call waits.
    pressing: BTreeSet<AppId>,
}

impl Looks {
    /// One read of an app is owed at `at`, or none; `pressing`: a call waits for it.
    pub fn set(&mut self, id: &AppId, listed: bool, at: Option<Moment>, pressing: bool) {
        if pressing {
            self.pressing.insert(id.clone());
        } else {
            self.pressing.remove(id);
        }
        self.listed.set(id, at.filter(|_| listed));
        self.unlisted.set(id, at.filter(|_| !listed));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Moment> {
        [self.listed.next(), self.unlisted.next()].into_iter().flatten().min()
    }

    /// When the next one is due that is not due at `now`.
    pub fn next_after(&self, now: Moment) -> Option<Moment> {
        [self.listed.next_after(now), self.unlisted.next_after(now)].into_iter().flatten().min()
    }

    /// The one that goes next, and since when it is due; of apps that no list shows only, if `unlisted_only`.
    pub fn first(&self, now: Moment, unlisted_only: bool) -> Option<(Moment, &AppId)> {
        let listed = self.listed.due(now).next().filter(|_| !unlisted_only);
        [listed, self.unlisted.due(now).next()].into_iter().flatten().min()
    }

    /// Whether a call waits for any of them.
    pub fn press(&self) -> bool {
        !self.pressing.is_empty()
    }

    /// How many that a list would serve are due since `until` or before; counts no further than `enough`.
    pub fn due_listed(&self, until: Moment, enough: usize) -> usize {
        self.listed.due(until).take(enough).count()
    }

    /// The apps that a list would serve now.
    pub fn all_due_listed(&self, now: Moment) -> Vec<AppId> {
        self.listed.due(now).map(|(_, id)| id.clone()).collect()
    }
}
