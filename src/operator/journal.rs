//! What is worth an entry of the history? A decision whose reason changed, a call that was answered, and the release of
//! an app.
//!
//! A call and the decision that follows from its answer are one entry, so that it tells what came of the call.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use crate::budget::Shift;
use crate::operator::Operator;
use crate::platform::{Answered, Platform};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::decide::Decision;
use crate::reconcile::outcome::{Failure, Receipt};
use crate::reconcile::plan::Entry as Planned;
use crate::reconcile::reason::Reason;
use crate::reconcile::redacted::Redacted;
use crate::reconcile::state::Action;
use crate::status::app::App;
use crate::status::history::{Answer, Entry, State, Trigger};

/// As much of a status as the history tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    desired: Option<&'static str>,
    observed: &'static str,
    reason: Option<Reason>,
    suspended: bool,
}

impl Glance {
    /// Of one app.
    pub fn of(app: &App) -> Self {
        Self {
            desired: app.desired(),
            observed: app.observed.as_str(),
            reason: Some(app.reason()),
            suspended: app.suspended(),
        }
    }

    /// Whether the app is known to be other than it shall be.
    fn differs(&self) -> bool {
        ["Running", "Stopped"].contains(&self.observed) && self.desired.is_some_and(|desired| desired != self.observed)
    }

    fn state(self) -> State {
        State {
            desired: self.desired.map(Cow::Borrowed),
            observed: Some(Cow::Borrowed(self.observed)),
            reason: self.reason.map(|reason| Cow::Borrowed(reason.as_str())),
        }
    }
}

/// The kind of a decision, for metrics.
pub fn kind(decision: Decision) -> &'static str {
    match decision {
        Decision::Settled(_) => "Settled",
        Decision::Act(_) => "Act",
        Decision::Wait { .. } => "Wait",
        Decision::Held { .. } => "Held",
        Decision::Stalled(_) => "Stalled",
    }
}

fn refusal(failure: &Failure) -> Answer {
    Answer {
        result: failure.verdict.as_str().into(),
        http_status: failure.http_status,
        status: None,
        online: None,
        error: Some(failure.message.shared()),
    }
}

impl<P: Platform> Operator<P> {
    /// Notes the answer to a call; the entry is made with the decision that follows from it, in the same turn.
    pub(super) fn answered(
        &mut self,
        name: AppName,
        id: &AppId,
        action: Action,
        result: &Result<Answered<Receipt>, Failure>,
    ) {
        let answer = match result {
            Ok(Answered { value: receipt, .. }) => Answer {
                result: "Accepted".into(),
                http_status: Some(receipt.http_status),
                status: receipt.status.as_ref().map(Redacted::shared),
                online: receipt.online,
                error: None,
            },
            Err(failure) => refusal(failure),
        };
        let label = match result {
            Ok(_) => "Accepted",
            Err(failure) => failure.verdict.as_str(),
        };
        self.board.meters().acted(action.as_str(), label);
        if self.fleet.object(&name).is_some() {
            self.answers.insert(name, (action, answer));
            return;
        }
        // Nobody declares the app any more: there is nothing to decide, but the call was made.
        self.board.record(Entry {
            time: self.clock.wall(),
            app: Some(name.as_str().into()),
            app_id: Some(id.as_str().into()),
            trigger: Trigger::Answer,
            revision: self.revision(),
            before: State::default(),
            after: State::default(),
            action: Some(action.as_str().into()),
            answer: Some(answer),
        });
    }

    /// Makes the entry of a decision, if it is worth one.
    pub(super) fn journal(&mut self, planned: &Planned, before: Option<Glance>, after: Glance, wall: Timestamp) {
        if after.differs() && !before.is_some_and(|before| before.differs()) {
            self.board.meters().drifted();
        }
        let answer = self.answers.remove(&planned.name);
        let unseen = matches!(after.reason, Some(Reason::NotObserved | Reason::ObservationIncomplete));
        let Some(object) = self.fleet.object_mut(&planned.name) else { return };
        // Before anything was seen there is nothing to tell yet; what began it is told with the first real decision.
        if before.is_none() && unseen && answer.is_none() {
            return;
        }
        // What concerns the whole account has an entry of its own, not one for each app; the next entry of this one
        // tells how it was before that.
        if answer.is_none() && after.reason.is_some_and(Reason::is_account_wide) {
            object.glance = object.glance.or(before);
            return;
        }
        let before = object.glance.take().or(before);
        let began = std::mem::replace(&mut object.trigger, Trigger::Timer);
        if answer.is_none() && before.is_some_and(|before| before.reason == after.reason) {
            return;
        }
        let trigger = match (began, before) {
            _ if answer.is_some() => Trigger::Answer,
            (Trigger::Timer, Some(before))
                if (before.desired, before.suspended) != (after.desired, after.suspended) =>
            {
                Trigger::Transition
            }
            (Trigger::Observation, Some(before)) if !before.differs() && after.differs() => Trigger::Drift,
            (began, _) => began,
        };
        object.cause = trigger;
        let (action, answer) = answer.unzip();
        self.board.record(Entry {
            time: wall,
            app: Some(planned.name.as_str().into()),
            app_id: planned.app_id.as_ref().map(|id| id.as_str().into()),
            trigger,
            revision: self.revision(),
            before: before.map(Glance::state).unwrap_or_default(),
            after: after.state(),
            action: action.map(|action: Action| action.as_str().into()),
            answer,
        });
    }

    /// Makes the entry of an app that no manifest declares any more: since when it is nobody's is a question of audits.
    pub(super) fn released(&self, name: &AppName, id: Option<&AppId>, revision: Arc<str>, wall: Timestamp) {
        let Some(app) = self.board.app_named(name) else { return };
        self.board.record(Entry {
            time: wall,
            app: Some(name.as_str().into()),
            app_id: id.map(|id| id.as_str().into()),
            trigger: Trigger::Edit,
            revision,
            before: Glance::of(&app).state(),
            after: State::default(),
            action: None,
            answer: None,
        });
    }

    /// Makes the one entry of a condition that concerns the whole account.
    pub(super) fn journal_shift(&self, shift: Shift, failure: Option<&Failure>) {
        let reason = match shift {
            Shift::Paused { first: true, .. } => Reason::RateLimited,
            Shift::BreakerOpened => Reason::ApiUnavailable,
            Shift::AccountBlocked => Reason::AccountBlocked,
            Shift::AccountForbidden(_) => Reason::AccountForbidden,
            Shift::Paused { first: false, .. }
            | Shift::BreakerClosed
            | Shift::AccountUnblocked
            | Shift::AccountAllowed => return,
        };
        let after = State { reason: Some(Cow::Borrowed(reason.as_str())), ..State::default() };
        self.board.record(Entry {
            time: self.clock.wall(),
            app: None,
            app_id: None,
            trigger: Trigger::Answer,
            revision: self.revision(),
            before: State::default(),
            after,
            action: None,
            answer: failure.map(refusal),
        });
    }

    pub(super) fn revision(&self) -> Arc<str> {
        self.source.as_ref().map_or_else(|| "".into(), |source| source.revision.clone())
    }
}
