//! The log lines of the operator. Info means that something changed; an idle operator logs only a summary.
//!
//! A cause has one line, not one for each app. No body, token or environment variable is logged.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::fleet::Fleet;
use super::resync::Finished;
use crate::budget::{Forbidden, LimiterEvent};
use crate::platform::Answered;
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::attempts::Effect;
use crate::reconcile::backoff::LONGEST_PAUSE;
use crate::reconcile::clock_check;
use crate::reconcile::decide::Decision;
use crate::reconcile::outcome::{Failure, Receipt};
use crate::reconcile::plan::Entry;
use crate::reconcile::reason::Reason;
use crate::reconcile::state::Action;
use crate::reconcile::state::Desired;
use crate::source::SourceReport;

/// Interval of the summary.
pub const SUMMARY: Duration = Duration::from_secs(600);

/// Logs the answer to a call.
/// `cause`: the trigger of the decision, and the revision of the manifests.
pub fn call(
    (name, id): (&AppName, &AppId),
    (action, attempt): (Action, u32),
    cause: (Option<&'static str>, &str),
    result: &Result<Answered<Receipt>, Failure>,
    took: Duration,
    retry_in: Option<Duration>,
) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (app, app_id) = (name.as_str(), id.as_str());
    let (trigger, revision) = cause;
    match result {
        Ok(Answered { value: receipt, .. }) => {
            let (status, online) = (receipt.status.as_deref(), receipt.online);
            let (http_status, oddity) = (receipt.http_status, receipt.oddity.as_deref());
            let reason = match action {
                Action::Stop => "Stopping",
                Action::Start => "Starting",
                Action::Restart => "Restarting",
            };
            info!(
                app,
                app_id,
                action = action.as_str(),
                attempt,
                http_status,
                status,
                online,
                reason,
                trigger,
                revision,
                duration_ms,
                oddity,
                "{action} accepted"
            );
        }
        Err(failure) => {
            let retry_in = retry_in.map(|wait| format!("{:.1}s", wait.as_secs_f64()));
            let (http_status, reason) = (failure.http_status, failure.verdict.reason().as_str());
            let (verdict, error) = (failure.verdict.as_str(), &*failure.message);
            warn!(
                app,
                app_id,
                action = action.as_str(),
                attempt,
                http_status,
                reason,
                trigger,
                revision,
                verdict,
                retry_in,
                duration_ms,
                error,
                "{action} failed"
            );
        }
    }
}

pub fn effect(name: &AppName, id: &AppId, effect: Effect, retry_in: Option<Duration>) {
    let (app, app_id) = (name.as_str(), id.as_str());
    let retry_in = retry_in.map(|wait| format!("{:.1}s", wait.as_secs_f64()));
    match effect {
        Effect::Verified(action) => {
            let now = match action {
                Action::Stop => "stopped",
                Action::Start => "started",
                Action::Restart => "restarted",
            };
            info!(app, app_id, "app {now}");
        }
        Effect::NotEffective(Action::Stop) => {
            warn!(app, app_id, reason = "StopNotEffective", retry_in, "stop had no effect within --confirm-timeout");
        }
        Effect::NotEffective(Action::Start) => {
            warn!(app, app_id, reason = "StartNotEffective", retry_in, "start had no effect within --confirm-timeout");
        }
        Effect::NotEffective(Action::Restart) => {
            warn!(
                app,
                app_id,
                reason = "RestartNotEffective",
                "restart had no effect within --confirm-timeout; it is not sent again for this cause"
            );
        }
        Effect::Contested(times) => {
            warn!(app, app_id, reason = "Contested", times, retry_in, "another client changes the app");
        }
    }
}

pub fn decision(entry: &Entry, before: Option<Decision>) {
    let same = before.is_some_and(|before| {
        before.reason() == entry.decision.reason()
            && std::mem::discriminant(&before) == std::mem::discriminant(&entry.decision)
    });
    if same {
        return;
    }
    let app = entry.name.as_str();
    let app_id = entry.app_id.as_ref().map(AppId::as_str);
    let desired = entry.desired.map(Desired::as_str);
    let (observed, reason) = (entry.observed.as_str(), entry.decision.reason().as_str());
    match entry.decision {
        // The source logs the errors of a manifest, with their place.
        Decision::Stalled(_) if desired.is_none() => debug!(app, app_id, reason, "in error"),
        Decision::Stalled(_) => warn!(app, app_id, desired, observed, reason, "app needs a person"),
        // The limit of changes logs one line for all of them.
        Decision::Held { reason: Reason::TooManyChanges, .. } => debug!(app, app_id, desired, observed, reason, "held"),
        Decision::Held { reason: Reason::DryRun, instead_of } => {
            info!(app, app_id, desired, observed, reason, "would {instead_of}");
        }
        Decision::Held { instead_of, .. } => info!(app, app_id, desired, observed, reason, "{instead_of} held"),
        Decision::Settled(_) | Decision::Act(_) | Decision::Wait { .. } => {
            debug!(app, app_id, desired, observed, reason, "decided");
        }
    }
}

pub fn unreadable(name: &AppName, id: Option<&AppId>) {
    let (app, app_id) = (name.as_str(), id.map(AppId::as_str));
    warn!(
        app,
        app_id,
        reason = "NotObserved",
        "the platform does not report whether the app is running; the operator sends no call"
    );
}

pub fn limiter_event(event: LimiterEvent, failure: Option<&Failure>) {
    let error = failure.map(ToString::to_string);
    match event {
        LimiterEvent::Paused { pause, cause, bounded, .. } => {
            let (pause_s, cause) = (pause.as_secs_f64(), cause.as_str());
            warn!(reason = "RateLimited", pause_s, cause, error, "all requests pause");
            if bounded {
                warn!(
                    reason = "RateLimited",
                    pause_s, "the server requested a pause of more than 1 h; pausing for 1 h"
                );
            }
        }
        LimiterEvent::BreakerOpened => {
            warn!(
                reason = "ApiUnavailable",
                error, "circuit breaker open: the platform does not answer; sending one probe at a time"
            );
        }
        LimiterEvent::BreakerClosed => info!("circuit breaker closed: the platform answers again"),
        LimiterEvent::AccountBlocked => {
            warn!(
                reason = "AccountBlocked",
                error, "the server refuses the token (401); no calls until it accepts one"
            );
        }
        LimiterEvent::AccountUnblocked => info!("the server accepts the token again"),
        LimiterEvent::AccountForbidden(kind) => {
            let refused = match kind {
                Forbidden::List => "the list of apps",
                Forbidden::Reads => "reads of apps",
                Forbidden::Calls => "calls",
            };
            warn!(
                reason = "AccountForbidden",
                refused, error, "the server refuses the account; no calls, and one probe at a time"
            );
        }
        LimiterEvent::AccountAllowed => info!("the server accepts the account again"),
    }
}

/// Logs that the pause of one app was shortened to the maximum.
pub fn bounded(failure: &Failure) {
    let (error, pause_s) = (failure.to_string(), LONGEST_PAUSE.as_secs());
    warn!(error, pause_s, "the server requested a pause of more than 1 h; pausing for 1 h");
}

/// Logs that the wall clock became doubtful, or agrees again.
pub fn clock(change: clock_check::ClockChange) {
    match change {
        clock_check::ClockChange::Doubted(ahead) => warn!(
            reason = "ClockDoubtful",
            ahead_s = ahead.as_secs(),
            "this machine's clock differs from the server's; apps whose state depends on the time are held; set the clock, or \
             start with --trust-clock if the server's is wrong"
        ),
        clock_check::ClockChange::Agrees => info!("this machine's clock agrees with the server's again"),
    }
}

/// Logs that the source of manifests became unavailable, is available again, or was read for the first time.
pub fn source(before: Option<&SourceReport>, now: &SourceReport) {
    let was_available = before.is_none_or(|before| before.available);
    let cause = before.and_then(|before| before.cause.as_ref());
    if !now.available && (was_available || cause != now.cause.as_ref()) {
        warn!(
            reason = "SourceUnavailable",
            error = now.cause.as_deref(),
            "could not read the manifests; the last good versions stay in force"
        );
    } else if now.loaded && before.is_none_or(|before| !before.loaded) {
        info!(
            files = now.files,
            errors = now.errors,
            warnings = now.warnings,
            revision = &*now.revision,
            "manifests loaded"
        );
        if now.objects == 0 {
            warn!("no manifests found: no app is declared");
        }
    } else if now.available && !was_available {
        info!(files = now.files, revision = &*now.revision, "the manifests are readable again");
    }
}

pub fn released(name: &AppName, id: Option<&AppId>) {
    info!(
        app = name.as_str(),
        app_id = id.map(AppId::as_str),
        "app released: no manifest declares it; the operator sends no call"
    );
}

pub fn resync(finished: &Finished, interval: Duration, wanted: Duration) {
    match &finished.problems {
        Some((unreadable @ 1.., problems)) => {
            let error = problems.first().map(|problem| &**problem);
            warn!(unreadable, error, "items of the list are unreadable; the other apps are not affected");
        }
        Some((0, problems)) if !problems.is_empty() => {
            let error = problems.first().map(|problem| &**problem);
            warn!(error, "the list contains text that is not JSON; no app is affected");
        }
        Some((0, _)) => info!("all items of the list are readable again"),
        None => {}
    }
    match &finished.incomplete {
        Some((cause, apps)) if finished.should_log_incomplete => {
            warn!(reason = "ObservationIncomplete", error = &**cause, apps, "the list of apps is incomplete");
        }
        Some((cause, apps)) => debug!(error = &**cause, apps, "the list of apps is still incomplete"),
        None if finished.first_complete => {
            let apps = finished.complete.as_ref().map_or(0, std::collections::BTreeSet::len);
            info!(apps, pages = finished.pages, "apps listed");
            if interval > wanted {
                let interval_s = interval.as_secs();
                warn!(pages = finished.pages, interval_s, "resync interval raised: the list has many pages");
            }
        }
        None if finished.recovered => info!("the list of apps is complete again"),
        None => debug!(pages = finished.pages, "apps listed"),
    }
}

/// Logs that nothing is left to do. `reported` is the number of stalled apps in the last report: each interval retries
/// them, and a retry is not logged.
pub fn idle(fleet: &Fleet, source: &SourceReport, reported: &mut usize) {
    let Count { settled, held, stalled, .. } = Count::of(fleet);
    // An invalid manifest, or one that cannot be read, needs a person in any state of its app.
    let errors = source.errors + usize::from(!source.available);
    let before = std::mem::replace(reported, stalled + errors);
    match (stalled + errors, held, settled) {
        (0, 0, 0) => info!("nothing is left to do: no manifest declares an app"),
        (0, 0, _) => info!(settled, held, "apps are as declared"),
        (0, ..) => info!(settled, held, "nothing is left to do, but some apps are held"),
        (count, ..) if count != before => {
            warn!(settled, held, stalled, errors, "nothing is left to do, but some apps need a person");
        }
        _ => {}
    }
}

/// Logs each app that is not settled when `--timeout` ends, and its reason.
pub fn unsettled(fleet: &Fleet, incomplete: Option<&str>) {
    if let Some(error) = incomplete {
        warn!(reason = "ObservationIncomplete", error, "the list of apps was incomplete");
    }
    for (name, object) in fleet.objects() {
        if let Some(decision @ (Decision::Act(_) | Decision::Wait { .. } | Decision::Stalled(_))) = object.decision {
            let reason = decision.reason().as_str();
            warn!(app = name.as_str(), observed = object.observed.as_str(), reason, "app not settled");
        }
    }
}

pub fn summary(fleet: &Fleet, requests: u64) {
    let Count { settled, waiting, held, stalled } = Count::of(fleet);
    info!(settled, waiting, held, stalled, requests, "summary");
}

#[derive(Debug, Default)]
struct Count {
    settled: usize,
    waiting: usize,
    held: usize,
    stalled: usize,
}

impl Count {
    fn of(fleet: &Fleet) -> Self {
        let mut count = Self::default();
        for (_, object) in fleet.objects() {
            match object.decision {
                Some(Decision::Settled(_)) => count.settled += 1,
                Some(Decision::Stalled(_) | Decision::Held { reason: Reason::TooManyChanges, .. }) => {
                    count.stalled += 1;
                }
                Some(Decision::Held { .. }) => count.held += 1,
                Some(Decision::Act(_) | Decision::Wait { .. }) | None => count.waiting += 1,
            }
        }
        count
    }
}

pub fn draining(in_flight: usize) {
    if in_flight > 0 {
        info!(in_flight, "shutting down: waiting for calls in flight");
    } else {
        info!("shutting down");
    }
}

pub fn stopped(abandoned: usize) {
    if abandoned > 0 {
        warn!(abandoned, "stopped; some calls had no answer, and the next start reads their apps again");
    } else {
        info!("stopped");
    }
}
