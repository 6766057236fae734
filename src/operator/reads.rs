//! The pending single reads, in three queues: reads of listed apps, which one list replaces; reads of apps that no list
//! shows; and routine reads of the latter, which belong to the lane `observe`.

use std::collections::BTreeSet;

use crate::operator::queue::Queue;
use crate::reconcile::app::AppId;
use crate::reconcile::moment::Moment;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kind {
    pub listed: bool,
    /// Whether a call waits for this read.
    pub urgent: bool,
    /// Whether the read neither verifies a call nor delays one.
    pub routine: bool,
}

#[derive(Debug, Default)]
pub struct Reads {
    listed: Queue<AppId>,
    unlisted: Queue<AppId>,
    routine: Queue<AppId>,
    /// Apps with a call that waits for the read.
    urgent: BTreeSet<AppId>,
}

impl Reads {
    /// Schedules the read of an app at `at`, or none.
    pub fn set(&mut self, id: &AppId, at: Option<Moment>, Kind { listed, urgent, routine }: Kind) {
        if urgent {
            self.urgent.insert(id.clone());
        } else {
            self.urgent.remove(id);
        }
        self.listed.set(id, at.filter(|_| listed));
        self.unlisted.set(id, at.filter(|_| !listed && !routine));
        self.routine.set(id, at.filter(|_| !listed && routine));
    }

    pub fn next(&self) -> Option<Moment> {
        [self.listed.next(), self.unlisted.next(), self.routine.next()].into_iter().flatten().min()
    }

    /// The first time after `now` at which a read is scheduled.
    pub fn next_after(&self, now: Moment) -> Option<Moment> {
        let queues = [&self.listed, &self.unlisted, &self.routine];
        queues.into_iter().filter_map(|queue| queue.next_after(now)).min()
    }

    /// The first routine read, and its time.
    pub fn first_routine(&self, now: Moment) -> Option<(Moment, &AppId)> {
        self.routine.due(now).next()
    }

    /// The first confirmation, and its time; with `unlisted_only`, of an app that no list shows.
    pub fn first(&self, now: Moment, unlisted_only: bool) -> Option<(Moment, &AppId)> {
        let listed = self.listed.due(now).next().filter(|_| !unlisted_only);
        [listed, self.unlisted.due(now).next()].into_iter().flatten().min()
    }

    /// Returns whether a call waits for a read.
    pub fn any_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// The number of reads scheduled until `until` that a list would replace; at most `enough`.
    pub fn due_listed(&self, until: Moment, enough: usize) -> usize {
        self.listed.due(until).take(enough).count()
    }

    /// The apps whose scheduled read a list replaces.
    pub fn all_due_listed(&self, now: Moment) -> Vec<AppId> {
        self.listed.due(now).map(|(_, id)| id.clone()).collect()
    }
}
