//! The order of calls: edits, then transitions of schedules, then first attempts, then repeats; the newest edit; stops
//! before starts; the longest waiting. Nothing here decides whether an app is called.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::reconcile::app::AppName;
use crate::reconcile::moment::Moment;
use crate::reconcile::state::Action;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: Class,
    batch: Reverse<Moment>,
    pub action: Action,
    pub since: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Edit,
    Transition,
    First,
    Repeat,
}

/// The facts about one object that order its call.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// A small edit changed the spec, and no call has followed.
    urgent: bool,
    /// The time of the last edit of the spec; the start, if there was none.
    batch: Moment,
    /// The schedule changed the desired state, and no call has followed.
    turned: bool,
    /// The time of an edit until its first call, for the meters.
    edited_at: Option<Moment>,
    ready: Option<Rank>,
}

impl Order {
    /// The spec changed: by an edit, or by the first load. An edit of few objects goes before a bulk.
    pub fn spec_changed(&mut self, edit: bool, small: bool, now: Moment) {
        self.urgent = small;
        self.batch = if edit { now } else { Moment::START };
        self.edited_at = if edit { Some(now) } else { self.edited_at };
    }

    /// An update left the spec as it is.
    pub fn spec_unchanged(&mut self) {
        self.urgent = false;
    }

    pub fn schedule_turned(&mut self) {
        self.turned = true;
    }

    pub fn settled(&mut self) {
        *self = Self { ready: self.ready, ..Self::default() };
    }

    /// The call goes out. Returns the time of the edit of which it is the first call.
    pub fn begin(&mut self) -> Option<Moment> {
        (self.urgent, self.turned) = (false, false);
        self.edited_at.take()
    }

    pub fn rank(&self, action: Action, repeated: bool, now: Moment) -> Rank {
        let class = match () {
            () if self.urgent => Class::Edit,
            () if repeated => Class::Repeat,
            () if self.turned => Class::Transition,
            () => Class::First,
        };
        let since = self.ready.filter(|rank| rank.action == action).map_or(now, |rank| rank.since);
        Rank { class, batch: Reverse(self.batch), action, since }
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
