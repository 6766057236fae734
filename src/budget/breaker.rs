//! Circuit breaker: opens after five failures in a row, and closes with the first answer. Failures of one app count
//! once.

use std::collections::BTreeSet;

use super::gate::Gate;
use super::{Call, LimiterEvent};
use crate::reconcile::app::AppId;
use crate::reconcile::backoff::PROBES;
use crate::reconcile::moment::Moment;

/// Failures in a row that open the breaker.
const FAILURES: usize = 5;

#[derive(Debug, Clone, Default)]
pub(super) struct Breaker {
    /// Present while the breaker is open.
    pub(super) gate: Option<Gate>,
    /// Failed apps: one app that fails five times counts once.
    apps: BTreeSet<AppId>,
    /// Failed requests without an app, such as pages of the list.
    others: usize,
    since: Option<Moment>,
}

impl Breaker {
    /// Takes any answer of the server: failures are no longer in a row.
    pub(super) fn answered(&mut self) {
        *self = Self { gate: self.gate, ..Self::default() };
    }

    pub(super) fn close(&mut self) -> Option<LimiterEvent> {
        self.gate.take().map(|_| LimiterEvent::BreakerClosed)
    }

    pub(super) fn unanswered(&mut self, call: &Call, salt: u64, now: Moment) -> Option<LimiterEvent> {
        let since = *self.since.get_or_insert(now);
        match call.app() {
            None => self.others += 1,
            Some(id) => drop(self.apps.insert(id.clone())),
        }
        if let Some(gate) = &mut self.gate {
            // Requests that were sent before the breaker opened are no probes.
            if gate.probing {
                gate.refused(now);
            }
            return None;
        }
        if self.apps.len() + self.others < FAILURES {
            return None;
        }
        self.apps.clear();
        self.gate = Some(Gate::new(PROBES, salt, since, now));
        Some(LimiterEvent::BreakerOpened)
    }
}
