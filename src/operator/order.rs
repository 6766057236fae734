//! The order of calls: edits, then transitions of schedules, then first attempts, then retries. Within a class: the
//! newest edit, then stops before starts, then the longest wait. Nothing here decides whether an app is called.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::reconcile::app::AppName;
use crate::reconcile::moment::Moment;
use crate::reconcile::state::Action;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: Class,
    edited_at: Reverse<Moment>,
    pub action: Action,
    pub since: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Edit,
    Transition,
    First,
    Retry,
}

/// The facts about one object that order its call.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// A small edit changed the spec, and no call has followed.
    urgent: bool,
    /// The time of the last edit of the spec; the start, if there was none.
    spec_changed_at: Moment,
    /// The schedule changed the desired state, and no call has followed.
    has_transitioned: bool,
    /// The time of an edit until its first call, for the meters.
    edited_at: Option<Moment>,
    ready: Option<Rank>,
}

impl Order {
    /// The spec changed: by an edit, or by the first load. An edit of few objects goes before a bulk.
    pub fn spec_changed(&mut self, edit: bool, small: bool, now: Moment) {
        self.urgent = small;
        self.spec_changed_at = if edit { now } else { Moment::START };
        self.edited_at = if edit { Some(now) } else { self.edited_at };
    }

    /// An update left the spec as it is.
    pub fn spec_unchanged(&mut self) {
        self.urgent = false;
    }

    pub fn transitioned(&mut self) {
        self.has_transitioned = true;
    }

    pub fn settled(&mut self) {
        *self = Self { ready: self.ready, ..Self::default() };
    }

    /// Marks the call as sent. Returns the time of the edit if this is its first call.
    pub fn begin(&mut self) -> Option<Moment> {
        (self.urgent, self.has_transitioned) = (false, false);
        self.edited_at.take()
    }

    pub fn rank(&self, action: Action, repeated: bool, now: Moment) -> Rank {
        let class = match () {
            () if self.urgent => Class::Edit,
            () if repeated => Class::Retry,
            () if self.has_transitioned => Class::Transition,
            () => Class::First,
        };
        let since = self.ready.filter(|rank| rank.action == action).map_or(now, |rank| rank.since);
        Rank { class, edited_at: Reverse(self.spec_changed_at), action, since }
    }
}

/// The calls that are ready to be sent, in order.
#[derive(Debug, Default)]
pub struct Calls(BTreeSet<(Rank, AppName)>);

impl Calls {
    pub fn set(&mut self, name: &AppName, order: &mut Order, rank: Option<Rank>) {
        if rank == order.ready {
            return;
        }
        if let Some(old) = std::mem::replace(&mut order.ready, rank) {
            self.0.remove(&(old, name.clone()));
        }
        if let Some(new) = rank {
            self.0.insert((new, name.clone()));
        }
    }

    pub fn first(&self) -> Option<&(Rank, AppName)> {
        self.0.first()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
