//! Half-open gate: closed to all requests but one probe at a time, on a backoff.
//!
//! The circuit breaker, the refused token and the forbidden account each use one.

use super::Admission;
use crate::reconcile::backoff::Schedule;
use crate::reconcile::moment::Moment;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gate {
    schedule: Schedule,
    salt: u64,
    /// Time at which the failures began.
    since: Moment,
    /// Number of the next probe, from 1.
    probe: u32,
    pub(super) next: Moment,
    /// Whether a probe is in flight.
    pub(super) probing: bool,
}

impl Gate {
    pub(super) fn new(schedule: Schedule, salt: u64, since: Moment, now: Moment) -> Self {
        let mut gate = Self { schedule, salt, since, probe: 1, next: now, probing: false };
        gate.probe_later(now);
        gate
    }

    pub(super) fn admits(self, now: Moment) -> Admission {
        match () {
            () if self.probing => Admission::Later,
            () if now < self.next => Admission::At(self.next),
            () => Admission::Go,
        }
    }

    /// Closes the gate again for the same cause. A request that was sent before it closed does not count as a probe.
    pub(super) fn refused(&mut self, now: Moment) {
        self.probe = self.probe.saturating_add(u32::from(self.probing));
        self.probe_later(now);
    }

    /// Repeats the probe later: its result proves nothing.
    pub(super) fn probe_later(&mut self, now: Moment) {
        self.next = now + self.schedule.steady_wait(self.probe, self.salt, now.since(self.since));
        self.probing = false;
    }
}
