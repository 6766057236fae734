//! Entries of the history: a decision with a new reason, an answer to a call, and the release of an app.
//!
//! A call and the decision that follows from its answer are one entry, which shows the result of the call.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use crate::budget::LimiterEvent;
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

/// The part of a status that the history records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedState {
    desired: Option<&'static str>,
    observed: &'static str,
    reason: Option<Reason>,
    suspended: bool,
}

impl RecordedState {
    pub fn of(app: &App) -> Self {
        Self {
            desired: app.desired(),
            observed: app.observed.as_str(),
            reason: Some(app.reason()),
            suspended: app.suspended(),
        }
    }

    /// Returns whether desired and observed are known to differ.
    fn differs(&self) -> bool {
        ["Running", "Stopped"].contains(&self.observed) && self.desired.is_some_and(|desired| desired != self.observed)
    }

    /// Returns whether the app was in its desired state, and is not in `after`. False if its state was unknown between.
    fn has_drifted(self, after: Self) -> bool {
        self.desired == after.desired && self.desired == Some(self.observed) && after.differs()
    }

    fn state(self) -> State {
        State {
            desired: self.desired.map(Cow::Borrowed),
            observed: Some(Cow::Borrowed(self.observed)),
            reason: self.reason.map(|reason| Cow::Borrowed(reason.as_str())),
        }
    }
}

/// State that the log and the history keep of one object. No decision depends on them.
#[derive(Debug, Clone)]
pub struct Notes {
    /// Most specific cause since the last decision.
    trigger: Trigger,
    /// The trigger of the last change of reason.
    pub cause: Trigger,
    /// Whether a call began whose wait is not in the history yet.
    called: bool,
    /// The last state in the history, while a condition of the whole account hides the object's own.
    before_condition: Option<RecordedState>,
    /// The last reason logged as stalled since the app was settled.
    stalled: Option<Reason>,
    unreadable: bool,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            trigger: Trigger::Timer,
            cause: Trigger::Timer,
            called: false,
            before_condition: None,
            stalled: None,
            unreadable: false,
        }
    }
}

impl Notes {
    pub fn triggered(&mut self, trigger: Trigger) {
        self.trigger = self.trigger.max(trigger);
    }

    pub fn call_begins(&mut self) {
        self.called = true;
    }

    /// Takes the strongest cause of a decision. The cause of a call is also the cause of the wait for its effect.
    fn take_trigger(&mut self, decision: Decision) -> Trigger {
        let trigger = std::mem::replace(&mut self.trigger, Trigger::Timer);
        // The decision for the call is published after the call began.
        if matches!(decision, Decision::Act(_)) || !std::mem::take(&mut self.called) {
            return trigger;
        }
        trigger.max(self.cause)
    }

    /// True once when an app becomes unreadable.
    pub fn is_newly_unreadable(&mut self, unreadable: bool) -> bool {
        !std::mem::replace(&mut self.unreadable, unreadable) && unreadable
    }

    /// Returns whether to log a decision. A stalled app that is retried each interval is logged once.
    pub fn should_log(&mut self, decision: Decision) -> bool {
        match decision {
            Decision::Stalled(reason) => self.stalled.replace(reason) != Some(reason),
            Decision::Settled(_) | Decision::Held { .. } => {
                self.stalled = None;
                true
            }
            Decision::Act(_) | Decision::Wait { .. } => true,
        }
    }
}

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
    /// Keeps the answer to a call for the entry of the decision that follows in the same iteration.
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
        // The manifest was removed, so no decision follows, but the call was sent.
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

    /// Records a decision, if its reason changed or it follows an answer.
    pub(super) fn journal(
        &mut self,
        planned: &Planned,
        before: Option<RecordedState>,
        after: RecordedState,
        wall: Timestamp,
    ) {
        if before.is_some_and(|before| before.has_drifted(after)) {
            self.board.meters().drifted();
        }
        let answer = self.answers.remove(&planned.name);
        let unseen = matches!(after.reason, Some(Reason::NotObserved | Reason::ObservationIncomplete));
        let Some(notes) = self.fleet.notes(&planned.name) else { return };
        // No entry before the first reading; the first real decision records the trigger.
        if before.is_none() && unseen && answer.is_none() {
            return;
        }
        // A condition of the whole account has one entry, not one for each app. The next entry of this app starts from
        // the state before the condition.
        if answer.is_none() && after.reason.is_some_and(Reason::is_account_wide) {
            notes.before_condition = notes.before_condition.or(before);
            return;
        }
        let before = notes.before_condition.take().or(before);
        let cause = notes.take_trigger(planned.decision);
        if answer.is_none() && before.is_some_and(|before| before.reason == after.reason) {
            return;
        }
        let trigger = match (cause, before) {
            _ if answer.is_some() => Trigger::Answer,
            (Trigger::Timer, Some(before))
                if (before.desired, before.suspended) != (after.desired, after.suspended) =>
            {
                Trigger::Transition
            }
            (Trigger::Observation, Some(before)) if before.has_drifted(after) => Trigger::Drift,
            (cause, _) => cause,
        };
        notes.cause = trigger;
        let (action, answer) = answer.unzip();
        self.board.record(Entry {
            time: wall,
            app: Some(planned.name.as_str().into()),
            app_id: planned.app_id.as_ref().map(|id| id.as_str().into()),
            trigger,
            revision: self.revision(),
            before: before.map(RecordedState::state).unwrap_or_default(),
            after: after.state(),
            action: action.map(|action: Action| action.as_str().into()),
            answer,
        });
    }

    /// Records the release of an app, for audits.
    pub(super) fn released(&self, name: &AppName, id: Option<&AppId>, revision: Arc<str>, wall: Timestamp) {
        let Some(app) = self.board.app_by_name(name) else { return };
        self.board.record(Entry {
            time: wall,
            app: Some(name.as_str().into()),
            app_id: id.map(|id| id.as_str().into()),
            trigger: Trigger::Edit,
            revision,
            before: RecordedState::of(&app).state(),
            after: State::default(),
            action: None,
            answer: None,
        });
    }

    /// Records a condition of the whole account, once.
    pub(super) fn record_limiter_event(&self, event: LimiterEvent, failure: Option<&Failure>) {
        let reason = match event {
            LimiterEvent::Paused { first: true, .. } => Reason::RateLimited,
            LimiterEvent::BreakerOpened => Reason::ApiUnavailable,
            LimiterEvent::AccountBlocked => Reason::AccountBlocked,
            LimiterEvent::AccountForbidden(_) => Reason::AccountForbidden,
            LimiterEvent::Paused { first: false, .. }
            | LimiterEvent::BreakerClosed
            | LimiterEvent::AccountUnblocked
            | LimiterEvent::AccountAllowed => return,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_call_is_the_cause_of_the_wait_for_its_effect() {
        let mut notes = Notes::default();
        notes.triggered(Trigger::Edit);
        notes.call_begins();
        // The decision for the call is published after the call began.
        notes.cause = notes.take_trigger(Decision::Act(Action::Stop));
        assert_eq!(notes.cause, Trigger::Edit);
        let wait = Decision::Wait { reason: Reason::Stopping, until: None };
        assert_eq!(notes.take_trigger(wait), Trigger::Edit);
        assert_eq!(notes.take_trigger(wait), Trigger::Timer, "only the first wait");
    }

    #[test]
    fn an_app_has_drifted_only_from_the_desired_state() {
        let state = |desired, observed| RecordedState {
            desired: Some(desired),
            observed,
            reason: Some(Reason::Settled),
            suspended: false,
        };
        let running = state("Stopped", "Running");
        assert!(state("Stopped", "Stopped").has_drifted(running));
        assert!(!state("Stopped", "Unknown").has_drifted(running), "a refused call makes the state unknown");
        assert!(!running.has_drifted(running), "it was not as desired before");
        assert!(!state("Running", "Running").has_drifted(running), "an edit is no drift");
        assert!(!state("Stopped", "Stopped").has_drifted(state("Stopped", "Unknown")));
    }
}
