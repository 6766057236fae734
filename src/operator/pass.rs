//! One pass: note what was seen, plan for the apps that are due, take the plan in, put up their status.

use jiff::Timestamp;

use crate::operator::{Operator, describe, journal, report};
use crate::platform::Platform;
use crate::reconcile::moment::Moment;
use crate::reconcile::plan::plan;

impl<P: Platform> Operator<P> {
    /// The moment at which something is told.
    pub(super) fn when(&self, now: Moment, wall: Timestamp) -> describe::When {
        let interval = self.limiter.list_interval(self.rounds.pages(), self.settings.interval);
        let next_list = self.rounds.expected_start(interval);
        describe::When { now, wall, next_list, held_until: self.limiter.held_until(now) }
    }

    /// Decides for every app that is due. Costs in proportion to those, not to the fleet.
    pub(super) fn pass(&mut self, now: Moment) {
        self.check_clock(now);
        let due = self.fleet.take_due(now);
        if due.is_empty() {
            return;
        }
        let (began, wall) = (self.clock.now(), self.clock.wall());
        for (name, id, turn) in self.fleet.note(&due, now, wall) {
            report::turn(&name, &id, turn, self.fleet.retry_in(&id, now));
        }
        let plan = plan(self.fleet.subjects(&due, wall), self.gates, now);
        let source_available = self.source.as_ref().is_none_or(|source| source.available);
        let revision = self.source.as_ref().map_or_else(|| "".into(), |source| source.revision.clone());
        let when = self.when(now, wall);
        for entry in &plan.entries {
            let before = self.fleet.decided(entry, now, wall);
            if self.fleet.is_newly_unreadable(entry) {
                report::unreadable(&entry.name, entry.app_id.as_ref());
            }
            if self.fleet.is_news(entry) {
                report::decision(entry, before);
            }
            self.board.meters().decided(journal::kind(entry.decision));
            let known = self.board.app_named(&entry.name);
            let Some(app) =
                describe::app(&self.fleet, &entry.name, known.as_deref(), source_available, &revision, when)
            else {
                continue;
            };
            let after = journal::Glance::of(&app);
            let before = self.board.set_app(&entry.name, app);
            self.journal(entry, before.as_deref().map(journal::Glance::of), after, wall);
        }
        self.board.meters().passed(self.clock.now().since(began));
    }

    /// Puts up what is known of the daemon, where that changed, and writes the summary when it is time for it.
    pub(super) fn report(&mut self, now: Moment) {
        if now >= self.summary_at {
            self.summary_at = now + report::SUMMARY;
            report::summary(&self.fleet, self.requests);
        }
        if self.reported {
            return;
        }
        self.reported = true;
        let rest = self.rounds.complete_once() && self.fleet.at_rest();
        match self.source.as_ref().filter(|source| source.loaded && rest) {
            None => self.settled = false,
            Some(source) if self.tasks.is_empty() && !self.settled => {
                self.settled = true;
                report::settled(&self.fleet, source, &mut self.told_stalled);
            }
            Some(_) => {}
        }
        let interval = self.limiter.list_interval(self.rounds.pages(), self.settings.interval);
        self.board.set_daemon(describe::daemon(
            self.source.as_ref(),
            &self.rounds,
            &self.limiter,
            interval,
            self.requests,
            (self.gates, &self.doubt),
            self.when(now, self.clock.wall()),
        ));
    }
}
