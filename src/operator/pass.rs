//! One pass: applies readings, plans for the apps that are scheduled now, and applies the plan. The status is published
//! after the calls that follow from it were sent.

use jiff::Timestamp;

use crate::operator::{Operator, describe, journal, report};
use crate::platform::Platform;
use crate::reconcile::app::AppName;
use crate::reconcile::attempts::Effect;
use crate::reconcile::moment::Moment;
use crate::reconcile::plan::plan;
use crate::status::Daemon;

impl<P: Platform> Operator<P> {
    pub(super) fn when(&self, now: Moment, wall: Timestamp) -> describe::When {
        let interval = self.limiter.list_interval(self.resync.pages(), self.settings.interval);
        let next_list = self.resync.expected_start(interval);
        describe::When { now, wall, next_list, held_until: self.limiter.held_until(now) }
    }

    /// Decides for every app that is scheduled now. The cost is proportional to their number, not to the fleet.
    pub(super) fn pass(&mut self, now: Moment) {
        self.check_clock(now);
        loop {
            let due = self.fleet.take_due(now);
            if !due.is_empty() {
                self.decide(&due, now);
            }
            // The limit of changes may hold or release the new decisions.
            let is_checked = !due.is_empty() || self.changes.wants_check(now);
            if !is_checked || !self.limit_changes(&due, now, self.clock.wall()) {
                break;
            }
        }
    }

    fn decide(&mut self, due: &[AppName], now: Moment) {
        // Each decision is published before the next one of the same app is made.
        self.publish(now);
        let (began, wall) = (self.clock.now(), self.clock.wall());
        for (name, id, effect) in self.fleet.note(due, now, wall) {
            report::effect(&name, &id, effect, self.fleet.retry_in(&id, now));
            if matches!(effect, Effect::Verified(_)) {
                self.progress.verified(&name);
            }
        }
        let plan = plan(self.fleet.subjects(due, self.gates, wall), self.gates, now);
        for entry in plan.entries {
            let before = self.fleet.decided(&entry, now, wall);
            self.unpublished.push((entry, before));
        }
        self.board.meters().passed(self.clock.now().since(began));
    }

    /// Logs and publishes the decisions of the last passes. No call waits for this.
    pub(super) fn publish(&mut self, now: Moment) {
        if self.unpublished.is_empty() {
            return;
        }
        let wall = self.clock.wall();
        let source_available = self.source.as_ref().is_none_or(|source| source.available);
        let (revision, when) = (self.revision(), self.when(now, wall));
        for (entry, before) in std::mem::take(&mut self.unpublished) {
            let unreadable = self.fleet.is_unreadable(&entry.name);
            if let Some(notes) = self.fleet.notes(&entry.name) {
                if notes.is_newly_unreadable(unreadable) {
                    report::unreadable(&entry.name, entry.app_id.as_ref());
                }
                if notes.should_log(entry.decision) {
                    report::decision(&entry, before);
                }
            }
            self.board.meters().decided(journal::kind(entry.decision));
            let known = self.board.app_by_name(&entry.name);
            let Some(app) =
                describe::app(&self.fleet, &entry.name, known.as_deref(), source_available, &revision, when)
            else {
                continue;
            };
            let after = journal::RecordedState::of(&app);
            let before = self.board.set_app(&entry.name, app);
            self.journal(&entry, before.as_deref().map(journal::RecordedState::of), after, wall);
        }
    }

    /// Publishes the state of the daemon if it changed, and logs the summary at its time.
    pub(super) fn report(&mut self, now: Moment) {
        if now >= self.summary_at {
            self.summary_at = now + report::SUMMARY;
            report::summary(&self.fleet, self.requests);
        }
        let progress = self.progress.update(&self.fleet, &self.resync, &self.limiter, (now, self.clock.wall()));
        if self.reported && progress == self.reported_progress {
            return;
        }
        self.reported = true;
        self.reported_progress.clone_from(&progress);
        let is_idle = self.resync.complete_once() && self.fleet.is_idle();
        match self.source.as_ref().filter(|source| source.loaded && is_idle) {
            None => self.was_idle = false,
            Some(source) if self.tasks.is_empty() && !self.was_idle => {
                self.was_idle = true;
                report::idle(&self.fleet, source, &mut self.reported_stalled);
            }
            Some(_) => {}
        }
        let interval = self.limiter.list_interval(self.resync.pages(), self.settings.interval);
        let daemon = describe::daemon(
            self.source.as_ref(),
            &self.resync,
            &self.limiter,
            interval,
            self.requests,
            (self.gates, &self.clock_check),
            self.when(now, self.clock.wall()),
        );
        // Not for each page of the first list: it sorts all names.
        let undeclared = if self.resync.complete_once() { self.undeclared.published(&self.fleet) } else { None };
        self.board.set_daemon(Daemon {
            max_changes: self.changes.published(),
            leader: self.leader(),
            undeclared,
            progress,
            ..daemon
        });
    }
}
