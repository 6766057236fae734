//! The limit of mass edits in the loop: counts the calls that edits cause, holds them, and applies approvals.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{info, warn};

use super::Operator;
use crate::platform::Platform;
use crate::reconcile::app::AppName;
use crate::reconcile::desired::Because;
use crate::reconcile::max_changes::{Counted, Limits, PlanId};
use crate::reconcile::moment::Moment;
use crate::reconcile::state::Action;
use crate::status::MaxChanges;

/// The state of the limit.
#[derive(Debug, Default)]
pub struct Changes {
    pub limits: Limits,
    counted: Counted,
    /// Cached id of the plan; cleared by each edit.
    plan: Option<PlanId>,
    /// The plan whose approval was logged.
    approved: Option<PlanId>,
    /// Whether the manifests changed since the last check.
    is_edited: bool,
    /// Message about held calls; `None` without any.
    pub held: Option<Arc<str>>,
}

impl Changes {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Marks the manifests as changed, approvals included.
    pub fn edited(&mut self) {
        (self.plan, self.is_edited) = (None, true);
    }

    /// True if an approval changed, or a sent call stopped counting.
    pub fn wants_check(&mut self, now: Moment) -> bool {
        std::mem::take(&mut self.is_edited) || self.next().is_some_and(|at| at <= now)
    }

    pub fn released(&mut self, name: &AppName) {
        self.counted.set(name, None);
    }

    /// Counts a sent call.
    pub fn sent(&mut self, name: &AppName, action: Action, now: Moment) {
        self.counted.sent(name, action, now);
    }

    /// The time at which the oldest sent call stops counting, while calls are held.
    pub fn next(&self) -> Option<Moment> {
        self.counted.next().filter(|_| self.held.is_some())
    }

    /// The published form; `None` without a limit.
    pub fn published(&self) -> Option<MaxChanges> {
        (!self.limits.is_none()).then(|| MaxChanges {
            max_stops: self.limits.stops.map(|limit| limit.to_string()),
            max_starts: self.limits.starts.map(|limit| limit.to_string()),
            held_stops: self.held_calls(Action::Stop),
            held_starts: self.held_calls(Action::Start),
            plan: self.plan.as_ref().filter(|_| self.held.is_some()).map(|plan| plan.to_string().into()),
            message: self.held.clone(),
        })
    }

    fn held_calls(&self, action: Action) -> usize {
        if self.held.is_some() { self.counted.waiting(action).len() } else { 0 }
    }

    /// The number of calls that are held.
    pub fn held_count(&self) -> usize {
        self.held_calls(Action::Stop) + self.held_calls(Action::Start)
    }
}

impl<P: Platform> Operator<P> {
    /// Counts the calls that `names` need, and opens or closes the gate. Returns true if apps must be decided again.
    pub(super) fn limit_changes(&mut self, names: &[AppName], now: Moment, wall: Timestamp) -> bool {
        if self.changes.limits.is_none() {
            return false;
        }
        for name in names {
            let needed = self.fleet.counted_call(name, self.gates, wall);
            self.changes.counted.set(name, needed);
        }
        self.changes.counted.forget(now);
        let exceeded = |operator: &Self, action| {
            let (counted, limit) = (&operator.changes.counted, operator.changes.limits.of(action)?);
            // With 0 apps the limit is lowest. Usually this check alone decides, without counting the apps.
            let is_possible = counted.exceeds(action, limit, 0);
            let apps = is_possible.then(|| operator.fleet.callable(operator.gates, wall))?;
            let is_certain = counted.is_certain(action, limit, apps);
            counted.exceeds(action, limit, apps).then_some(is_certain)
        };
        let exceeded = [Action::Stop, Action::Start].map(|action| exceeded(self, action));
        let mut held = exceeded.map(|exceeded| exceeded.is_some());
        let is_approved = held.contains(&true) && self.is_approved(wall);
        if is_approved {
            for action in [Action::Stop, Action::Start] {
                for name in self.changes.counted.waiting(action).clone() {
                    self.fleet.approve(&name, now);
                    self.changes.counted.set(&name, None);
                }
            }
            held = [false, false];
        }
        let before = [self.gates.stops_held, self.gates.starts_held];
        [self.gates.stops_held, self.gates.starts_held] = held;
        let certain = exceeded.map(|exceeded| exceeded == Some(true));
        self.describe_held(if is_approved { [false, false] } else { certain }, wall);
        if before == held {
            return is_approved;
        }
        for action in [Action::Stop, Action::Start] {
            for name in self.changes.counted.waiting(action) {
                self.fleet.due_now(name, now);
            }
        }
        true
    }

    fn plan_id(&mut self) -> PlanId {
        if self.changes.plan.is_none() {
            self.changes.plan = Some(self.fleet.plan_id());
        }
        self.changes.plan.unwrap_or_else(|| self.fleet.plan_id())
    }

    /// Returns whether a person approved the present plan. While the clock is doubtful, no approval counts: it may have
    /// expired.
    fn is_approved(&mut self, wall: Timestamp) -> bool {
        let approvals = self.source.as_ref().map(|source| source.approvals.clone()).unwrap_or_default();
        if approvals.is_empty() || self.gates.clock_doubtful {
            return false;
        }
        let plan = self.plan_id();
        let Some(approval) = approvals.iter().find(|approval| approval.releases(&plan, wall)) else { return false };
        if self.changes.approved.replace(plan) != Some(plan) {
            let by = approval.by.as_deref();
            info!(%plan, approval = approval.name.as_str(), by, "the held calls are approved");
        }
        true
    }

    /// Logs once when calls are certain to be held, and once when no call is held.
    fn describe_held(&mut self, held: [bool; 2], wall: Timestamp) {
        if !held.contains(&true) {
            if self.changes.held.take().is_some() {
                self.reported = false;
                info!("--max-stops and --max-starts hold no calls now");
            }
            return;
        }
        let plan = self.plan_id();
        let of = |action: Action, held: bool| held.then(|| self.held_message(action, plan, wall));
        let messages = [of(Action::Stop, held[0]), of(Action::Start, held[1])];
        let message: Arc<str> = messages.into_iter().flatten().collect::<Vec<_>>().join("; ").into();
        if self.changes.held.as_ref() == Some(&message) {
            return;
        }
        // The number may still grow while a bulk of edits arrives: one line is enough.
        if self.changes.held.is_none() {
            warn!(reason = "TooManyChanges", %plan, "{message}");
        }
        self.reported = false;
        self.changes.held = Some(message);
    }

    /// `held: 612 stops (plan 7f3a9c01b2d4): more than --max-stops allows; revert the edits, or commit an Approval`.
    fn held_message(&self, action: Action, plan: PlanId, wall: Timestamp) -> String {
        let waiting = self.changes.counted.waiting(action);
        let (count, sent) = (waiting.len(), self.changes.counted.sent_lately(action));
        let s = if count == 1 { "" } else { "s" };
        let scheduled =
            waiting.iter().map(|name| self.scheduled_for(name, wall)).reduce(|a, b| if a == b { a } else { None });
        let scheduled =
            scheduled.flatten().map(|window| format!(" that were scheduled for {window}")).unwrap_or_default();
        let sent = if sent > 0 { format!(", and {sent} were sent in the last 10 min") } else { String::new() };
        format!(
            "held: {count} {action}{s}{scheduled} (plan {plan}): more than --max-{action}s allows{sent}; \
             revert the edits, or commit an Approval"
        )
    }

    /// The window that causes the call of an object.
    fn scheduled_for(&self, name: &AppName, wall: Timestamp) -> Option<String> {
        let spec = self.fleet.object(name)?.declared.spec()?;
        let schedule = spec.schedule.as_ref()?;
        match spec.target(wall).because {
            Because::Window(index) => Some(schedule.windows.get(index)?.span.to_string()),
            Because::Except(index, event) => Some(schedule.except.get(index)?.events().get(event)?.summary.to_string()),
            Because::State | Because::Override => None,
        }
    }
}
