//! The published state of an app and of the daemon. Pure: values in, `status` shapes out.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::app_record::AppRecord;
use super::fleet::{Fleet, Object};
use super::resync::Resync;
use crate::budget::{PauseCause, RateLimiter};
use crate::reconcile::app::AppName;
use crate::reconcile::attempts::Attempts;
use crate::reconcile::clock_check::{ClockCheck, Trust};
use crate::reconcile::condition::{Truth, fold};
use crate::reconcile::decide::{Decision, Gates, Goal};
use crate::reconcile::desired::{Declared, Validity};
use crate::reconcile::group::Group;
use crate::reconcile::moment::Moment;
use crate::reconcile::reason::Reason;
use crate::reconcile::state::Desired;
use crate::reconcile::state::Observed;
use crate::source::SourceReport;
use crate::status::app::{App, last_transitions};
use crate::status::{Condition, Daemon, LimiterStatus, Observation, SourceStatus};

#[derive(Debug, Clone, Copy)]
pub struct When {
    pub now: Moment,
    pub wall: Timestamp,
    pub next_list: Moment,
    /// No request is sent before: the end of a pause, or the next probe.
    pub held_until: Option<Moment>,
}

impl When {
    fn wall_at(&self, moment: Moment) -> Timestamp {
        self.wall + moment.since(self.now)
    }
}

/// Returns the published state of one app; `before` is the last published one.
pub fn app(
    fleet: &Fleet,
    name: &AppName,
    before: Option<&App>,
    source_available: bool,
    revision: &Arc<str>,
    when: When,
) -> Option<App> {
    let object = fleet.object(name)?;
    let decision = object.decision?;
    let known = object.app_id().and_then(|id| fleet.app(id));
    let past = fleet.past(object);
    let declared = &object.declared;
    let target = match fleet.goal(object, when.wall) {
        Goal::Known(target) => Some(target),
        Goal::Unknown(_) => None,
    };
    let unreadable = known.is_some_and(AppRecord::is_unreadable);
    let conditions = fold(decision, &declared.validity, source_available, fleet.text(name));
    let pending = [past.read_at(), past.wake_at().filter(|at| *at > when.now)].into_iter().flatten().min();
    let read_at = pending.map_or(when.next_list, |at| at.min(when.next_list));
    let read_at = match decision {
        // No request is sent before; the next attempt is then.
        Decision::Wait { reason, until: Some(until) } if reason.is_account_wide() => until,
        Decision::Settled(_)
        | Decision::Act(_)
        | Decision::Wait { .. }
        | Decision::Held { .. }
        | Decision::Stalled(_) => when.held_until.map_or(read_at, |until| read_at.max(until)),
    };
    let read_at = object.app_id().map(|_| read_at);
    Some(App {
        declared: declared.clone(),
        generation: object.generation,
        revision: revision.clone(),
        target,
        observed: object.observed,
        observed_at: known
            .and_then(|known| known.timed_reading.as_ref())
            .map(|timed_reading| timed_reading.received_at),
        conditions,
        last_transitions: last_transitions(conditions, before, when.wall),
        message: message(
            object,
            past,
            decision,
            conditions.reason,
            target.map(|target| target.desired),
            unreadable,
            when,
        ),
        last_action: object.last_action.clone(),
        next_look_at: read_at.map(|at| when.wall_at(at)),
        next_attempt_at: next_attempt(decision).map(|at| when.wall_at(at)),
        next_transition: declared
            .spec()
            .and_then(|spec| spec.next_call(running_or_stopped(object.observed), when.wall))
            .map(|(at, target)| (at, target.desired)),
    })
}

fn running_or_stopped(observed: Observed) -> Option<Desired> {
    match observed {
        Observed::Running => Some(Desired::Running),
        Observed::Stopped => Some(Desired::Stopped),
        Observed::Creating | Observed::Suspended | Observed::Missing | Observed::Unknown => None,
    }
}

/// Returns the time of the next attempt after a failure or a pause.
fn next_attempt(decision: Decision) -> Option<Moment> {
    let Decision::Wait { reason, until } = decision else { return None };
    until.filter(|_| reason.group() == Group::InTrouble || reason.is_account_wide())
}

/// Updates the times of a settled app whose reading did not change.
pub fn reading_unchanged(app: &mut App, when: When) {
    app.observed_at = Some(when.wall);
    app.next_look_at = Some(when.wall_at(when.next_list));
}

pub fn daemon(
    source: Option<&SourceReport>,
    resync: &Resync,
    limiter: &RateLimiter,
    interval: Duration,
    requests: u64,
    (gates, clock_check): (Gates, &ClockCheck),
    when: When,
) -> Daemon {
    let now = when.now;
    Daemon {
        clock: match (clock_check.ahead(), clock_check.differs()) {
            (None, _) => "not compared",
            (Some(_), true) => "differs",
            (Some(_), false) => "compared",
        },
        clock_ahead_seconds: clock_check.ahead().map(|ahead| ahead.as_secs()),
        conditions: vec![clock_condition(clock_check)],
        source: source.map_or_else(SourceStatus::default, |source| SourceStatus {
            loaded: source.loaded,
            available: source.available,
            trouble: source.cause.clone(),
            revision: source.revision.clone(),
            files: source.files,
            skipped: source.skipped,
            errors: source.errors,
            warnings: source.warnings,
            problems: source.problems.to_vec(),
        }),
        observation: Observation {
            complete_once: resync.complete_once(),
            completed_at: resync.completed_at(),
            apps: resync.apps(),
            pages: resync.pages(),
            incomplete: resync.incomplete_cause().cloned(),
            interval_seconds: interval.as_secs(),
        },
        governor: LimiterStatus {
            requests_per_minute: limiter.requests_per_minute(now),
            remaining: limiter.remaining(),
            paused: limiter.paused_until(now).is_some(),
            paused_until: limiter.paused_until(now).map(|until| when.wall_at(until)),
            pause_cause: limiter.pause_cause(now).map(PauseCause::as_str),
            breaker_open: limiter.breaker_open(),
            account_blocked: limiter.account_blocked(),
            account_forbidden: limiter.account_forbidden().is_some(),
            next_probe_at: gates.probe_at.filter(|_| gates.paused_until.is_none()).map(|at| when.wall_at(at)),
            requests,
        },
        progress: Vec::new(),
        undeclared: None,
        max_changes: None,
        leader: None,
        dry_run: gates.dry_run,
        policy: gates.policy.as_str(),
    }
}

fn clock_condition(clock_check: &ClockCheck) -> Condition {
    let (status, message) = match clock_check.ahead() {
        None => (Truth::Unknown, "not compared: no answer with a Date has arrived".to_owned()),
        Some(ahead) if clock_check.differs() => {
            let (seconds, side) = (ahead.abs().as_secs(), if ahead.is_positive() { "ahead of" } else { "behind" });
            let held = if clock_check.trust() == Trust::Doubtful {
                "apps whose state depends on the time are held; "
            } else {
                ""
            };
            (Truth::True, format!("this machine's clock is {seconds} s {side} the server's; {held}set the clock"))
        }
        Some(_) => (Truth::False, "this machine's clock agrees with the server's".to_owned()),
    };
    Condition { kind: "ClockDoubtful", status: status.as_str(), message: message.into() }
}

/// State, cause and next step, for a person.
fn message(
    object: &Object,
    past: &Attempts,
    decision: Decision,
    reason: Reason,
    desired: Option<Desired>,
    unreadable: bool,
    when: When,
) -> Cow<'static, str> {
    let (desired, observed) = (desired.map_or("nothing", Desired::as_str), object.observed);
    let error = object.last_action.as_ref().and_then(|last| last.error.as_deref());
    let last = error.map(|error| format!("; last: {error}")).unwrap_or_default();
    let until = match decision {
        // A time, not a duration: the message is not updated each second.
        Decision::Wait { until: Some(until), .. } => format!(" at {:.0}", when.wall_at(until)),
        Decision::Settled(_)
        | Decision::Act(_)
        | Decision::Wait { until: None, .. }
        | Decision::Held { .. }
        | Decision::Stalled(_) => String::new(),
    };
    let instead = match decision {
        Decision::Held { instead_of, .. } => instead_of.as_str(),
        Decision::Settled(_) | Decision::Act(_) | Decision::Wait { .. } | Decision::Stalled(_) => "call",
    };
    match reason {
        // Most apps: static text, without an allocation.
        Reason::Settled => match observed {
            Observed::Running => "the app is Running, as declared".into(),
            Observed::Stopped => "the app is Stopped, as declared".into(),
            Observed::Suspended | Observed::Creating | Observed::Missing | Observed::Unknown => {
                format!("the app is {observed}, as declared").into()
            }
        },
        Reason::Stopping => "a stop was sent; waiting for its effect".into(),
        Reason::Starting => "a start was sent; waiting for its effect".into(),
        Reason::Restarting => restarting(past, decision).into(),
        Reason::RestartNotEffective => {
            format!("a restart was sent, but the app has not restarted within --confirm-timeout; it is not sent again for this cause{last}").into()
        }
        Reason::Drifted => {
            format!("the app is {observed}, declared {desired}: the call waits for the rate limiter").into()
        }
        Reason::BackingOff => format!("the last call failed; retrying{until} (attempt {}){last}", past.next_attempt()).into(),
        Reason::Suspended => match object.declared.spec().and_then(|spec| spec.suspend.as_ref()) {
            Some(suspension) => {
                let why = suspension.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
                let end = suspension.until.map(|until| format!(" until {until}")).unwrap_or_default();
                format!("suspended by the manifest{why}{end}: the app is {observed}, and the operator sends no call").into()
            }
            None => "suspended by the manifest: the operator sends no call".into(),
        },
        Reason::PolicyForbids => {
            format!("the app is {observed}, declared {desired}, but the policy forbids the {instead}").into()
        }
        Reason::DryRun => format!("dry run: would {instead} the app, which is {observed}").into(),
        Reason::NotObserved => not_observed(observed, past, unreadable).into(),
        Reason::BeingCreated => "the platform is still creating the app".into(),
        Reason::SuspendedByPlatform => format!("the platform suspended the app (declared: {desired})").into(),
        Reason::AppNotFound => {
            "the platform has no app with this appId: check spec.appId, and that the account of the token owns it".into()
        }
        Reason::Forbidden => {
            format!("the token may not change this app: its team must grant canChangeStatusApplication{last}").into()
        }
        Reason::UnexpectedAnswer => format!("unexpected answer of the server; retrying after one interval{last}").into(),
        Reason::StopNotEffective => format!(
            "a stop was accepted, but no reading showed the app stopped within --confirm-timeout; retrying{until} (attempt {})",
            past.next_attempt()
        ).into(),
        Reason::StartNotEffective => format!(
            "a start was accepted, but no reading showed the app running within --confirm-timeout; retrying{until} (attempt {})",
            past.next_attempt()
        ).into(),
        Reason::Contested => {
            format!("another client changes the app: it left its desired state several times within an hour; next attempt{until}").into()
        }
        Reason::InvalidManifest | Reason::DuplicateAppId | Reason::DuplicateName => {
            refused(&object.declared, reason).into()
        }
        Reason::Standby => "another replica leads, or the Lease cannot be renewed: no request is sent".into(),
        Reason::SourceUnavailable => "could not read the manifests; the last good versions stay in force".into(),
        Reason::BeingWritten => {
            "a process has the manifest's file open for writing; the last complete text stays in force until it is closed".into()
        }
        Reason::ObservationIncomplete => {
            "the list of apps was incomplete, and did not show this app".into()
        }
        Reason::AccountBlocked => {
            format!("the server refuses the token (401): no calls; provide a valid token; next probe{until}").into()
        }
        Reason::AccountForbidden => format!(
            "the server refuses the account: no calls; check the plan, the scopes of the token and the teams' \
             permissions; next probe{until}{last}"
        ).into(),
        Reason::ApiUnavailable => format!("the platform does not answer; next probe{until}").into(),
        Reason::RateLimited if last.is_empty() => format!("the rate limit pauses all requests; next{until}").into(),
        Reason::RateLimited => format!("the rate limit refuses the app's requests; next attempt{until}{last}").into(),
        Reason::ClockDoubtful => "the desired state depends on the time, and this machine's clock differs from the server's: \
            no calls until they agree"
            .into(),
        Reason::TooManyChanges => format!(
            "the {instead} is held, because edits cause more calls than the limit: revert them, or commit an Approval"
        ).into(),
    }
}

fn restarting(past: &Attempts, decision: Decision) -> &'static str {
    match decision {
        Decision::Act(_) => "a restart is required: the call waits for the rate limiter",
        _ if past.in_flight().is_some() || past.verifying().is_some() => {
            "a restart was sent; waiting for a reading of a later start"
        }
        Decision::Settled(_) | Decision::Wait { .. } | Decision::Held { .. } | Decision::Stalled(_) => {
            "a restart is required: waiting for a newer reading of the app"
        }
    }
}

fn not_observed(observed: Observed, past: &Attempts, unreadable: bool) -> &'static str {
    match (unreadable, observed) {
        (true, _) => "the platform does not report whether the app is running: the operator sends no call",
        (false, Observed::Running) if past.verifying().is_none() && past.because().is_none() => {
            "a restart may be required, but the platform reports neither startedAt nor uptime: the operator sends no call"
        }
        (false, _) => "no fresh reading of the app yet: the operator sends no call before it has one",
    }
}

/// The message of a manifest that is invalid or in conflict.
fn refused(declared: &Declared, reason: Reason) -> String {
    match &declared.validity {
        Validity::Invalid { message, since } if declared.spec().is_some() => {
            format!("the manifest has been invalid since {since:.0}; its last good version stays in force: {message}")
        }
        Validity::Invalid { message, since } => format!("the manifest has been invalid since {since:.0}: {message}"),
        Validity::Conflicting { message, .. } => message.to_string(),
        Validity::Valid => reason.as_str().to_owned(),
    }
}
