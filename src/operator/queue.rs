//! A queue of keys by time. Each key has one slot.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::reconcile::moment::Moment;

/// A queue of keys by time. Its size is at most the number of keys.
#[derive(Debug, Clone)]
pub struct Queue<K> {
    order: BTreeSet<(Moment, K)>,
    slots: HashMap<K, Moment>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), slots: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// Schedules `key` at `at`, or keeps an earlier time.
    pub fn push(&mut self, key: &K, at: Moment) {
        if self.slots.get(key).is_none_or(|known| at < *known) {
            self.set(key, Some(at));
        }
    }

    /// Schedules `key` exactly at `at`, or removes it.
    pub fn set(&mut self, key: &K, at: Option<Moment>) {
        if self.slots.get(key).copied() == at {
            return;
        }
        if let Some(known) = self.slots.remove(key) {
            self.order.remove(&(known, key.clone()));
        }
        if let Some(at) = at {
            self.slots.insert(key.clone(), at);
            self.order.insert((at, key.clone()));
        }
    }

    /// The earliest scheduled time.
    pub fn next(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The earliest scheduled time after `now`.
    pub fn next_after(&self, now: Moment) -> Option<Moment> {
        self.order.iter().map(|(at, _)| *at).find(|at| *at > now)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The keys scheduled until `now`, earliest first; they stay in the queue.
    pub fn due(&self, now: Moment) -> impl Iterator<Item = (Moment, &K)> {
        self.order.iter().take_while(move |(at, _)| *at <= now).map(|(at, key)| (*at, key))
    }

    /// Takes the keys scheduled until `now`, earliest first.
    pub fn take_due(&mut self, now: Moment) -> Vec<K> {
        let due: Vec<K> = self.due(now).map(|(_, key)| key.clone()).collect();
        for key in &due {
            self.set(key, None);
        }
        if self.slots.is_empty() {
            // Release the memory of a large batch, as after the first load.
            self.slots = HashMap::new();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_time_wins_and_a_key_has_one_slot() {
        let (mut queue, s) = (Queue::default(), Moment::from_secs);
        queue.push(&"b", s(5));
        queue.push(&"a", s(9));
        queue.push(&"a", s(3));
        queue.push(&"a", s(7));
        assert_eq!((queue.len(), queue.next()), (2, Some(s(3))));
        assert_eq!(queue.take_due(s(4)), ["a"]);
        assert_eq!(queue.take_due(s(4)), [""; 0]);
        queue.set(&"b", Some(s(8)));
        assert_eq!(queue.next(), Some(s(8)));
        queue.set(&"b", None);
        assert!(queue.is_empty());
    }
}
