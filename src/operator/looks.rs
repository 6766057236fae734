//! Which apps are owed a single read, and when? Those on the list apart from the others, since a list serves the former
//! all at once; and apart from both the routine reads of apps that no list shows, which belong to observation.

use std::collections::BTreeSet;

use crate::operator::queue::Queue;
use crate::reconcile::app::AppId;
use crate::reconcile::moment::Moment;

/// The kind of a single read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kind {
    /// The list shows the app.
    pub listed: bool,
    /// A call waits for it.
    pub pressing: bool,
    /// It neither verifies a call nor is waited for.
    pub routine: bool,
}

/// The single reads that are owed.
#[derive(Debug, Default)]
pub struct Looks {
    listed: Queue<AppId>,
    unlisted: Queue<AppId>,
    routine: Queue<AppId>,
    /// Those for which a call waits.
    pressing: BTreeSet<AppId>,
}

impl Looks {
    /// One read of an app is owed at `at`, or none.
    pub fn set(&mut self, id: &AppId, at: Option<Moment>, Kind { listed, pressing, routine }: Kind) {
        if pressing {
            self.pressing.insert(id.clone());
        } else {
            self.pressing.remove(id);
        }
        self.listed.set(id, at.filter(|_| listed));
        self.unlisted.set(id, at.filter(|_| !listed && !routine));
        self.routine.set(id, at.filter(|_| !listed && routine));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Moment> {
        [self.listed.next(), self.unlisted.next(), self.routine.next()].into_iter().flatten().min()
    }

    /// When the next one is due that is not due at `now`.
    pub fn next_after(&self, now: Moment) -> Option<Moment> {
        let queues = [&self.listed, &self.unlisted, &self.routine];
        queues.into_iter().filter_map(|queue| queue.next_after(now)).min()
    }

    /// The routine read that goes next, and its time.
    pub fn first_routine(&self, now: Moment) -> Option<(Moment, &AppId)> {
        self.routine.due(now).next()
    }

    /// The confirmation that goes next, and its time; of apps that no list shows only, if `unlisted_only`.
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
