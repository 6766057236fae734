//! Pauses: refusals by the rate limit, and exhausted budgets.
//!
//! All requests wait until a pause is over. Then one probe is sent first, and any answer except a refusal ends the
//! pause. The refusal of one app pauses only this app, until another request is refused, too.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Call, LimiterEvent};
use crate::reconcile::app::AppId;
use crate::reconcile::backoff::{LONGEST_PAUSE, PER_APP};
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, Verdict};

/// Minimum pause: a 429 with a pause of 0 s contradicts itself.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Number of different apps within [`PER_APP_WINDOW`] whose refusals concern only them; one more is a limit of the
/// account.
const PER_APP_LIMITS: usize = 2;
const PER_APP_WINDOW: Duration = Duration::from_mins(1);

/// Cause of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseCause {
    /// 429, or another refusal with `Retry-After`.
    Refused,
    /// `X-RateLimit-Remaining: 0`.
    Exhausted,
}

impl PauseCause {
    /// The cause in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "the server refused a request because of the rate limit",
            Self::Exhausted => "the server says that no request is left (X-RateLimit-Remaining: 0)",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    until: Moment,
    cause: PauseCause,
    probing: bool,
}

/// Rate limit of one app that may be that of the account: the next request for another app or the list decides.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PossibleAccountLimit {
    app: AppId,
    until: Moment,
    probing: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Pauses {
    pause: Option<Pause>,
    /// Refusals in a row, one per pause; each success removes one.
    refusals: u32,
    refused_since: Option<Moment>,
    possible: Option<PossibleAccountLimit>,
    /// The last refusal of each app that was limited separately.
    per_app: BTreeMap<AppId, Moment>,
}

impl Pauses {
    pub(super) fn until(&self, now: Moment) -> Option<Moment> {
        self.pause.map(|pause| pause.until).filter(|until| now < *until)
    }

    pub(super) fn cause(&self, now: Moment) -> Option<PauseCause> {
        self.pause.filter(|pause| now < pause.until).map(|pause| pause.cause)
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Returns whether a probe is in flight: after a pause, or for a possible limit of the account.
    pub(super) fn probing(&mut self, now: Moment) -> bool {
        self.possible.take_if(|possible| now >= possible.until);
        self.pause.is_some_and(|pause| pause.probing) || self.possible.as_ref().is_some_and(|app| app.probing)
    }

    pub(super) fn sent(&mut self, now: Moment) {
        if let Some(pause) = self.pause.as_mut().filter(|pause| now >= pause.until) {
            pause.probing = true;
        }
        if let Some(possible) = &mut self.possible {
            possible.probing = true;
        }
    }

    /// Takes a probe without an answer: the next request is the probe.
    pub(super) fn probe_lost(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = false;
        }
        if let Some(possible) = &mut self.possible {
            possible.probing = false;
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.refusals = self.refusals.saturating_sub(1);
        if self.refusals == 0 {
            self.refused_since = None;
        }
    }

    /// Takes a request that the rate limit did not refuse: it ends a pause whose time is over, and a refusal of another
    /// app concerned only that app.
    pub(super) fn not_refused(&mut self, call: &Call) {
        self.pause.take_if(|pause| pause.probing);
        self.possible.take_if(|possible| call.app() != Some(&possible.app));
    }

    /// Returns whether a refusal concerns only the app that was called: the server says that requests are left, or
    /// nothing else has been refused yet.
    pub(super) fn is_per_app_limit(&self, call: &Call, failure: &Failure, now: Moment) -> bool {
        let (Some(id), Verdict::RateLimited { .. }) = (call.app(), failure.verdict) else { return false };
        let left = failure.limits.remaining;
        if left == Some(0) || self.pause.is_some() || self.refusals > 0 {
            return false;
        }
        if left.is_none() && self.possible.as_ref().is_some_and(|possible| possible.app != *id) {
            return false;
        }
        let recent = self.per_app.iter().filter(|(app, at)| *app != id && now.since(**at) < PER_APP_WINDOW);
        recent.count() < PER_APP_LIMITS
    }

    pub(super) fn app_refused(&mut self, call: &Call, failure: &Failure, after: Option<Duration>, now: Moment) {
        let Some(id) = call.app() else { return };
        self.per_app.retain(|_, at| now.since(*at) < PER_APP_WINDOW);
        self.per_app.insert(id.clone(), now);
        if failure.limits.remaining.is_none() {
            let until = now + after.unwrap_or(SHORTEST_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            self.possible = Some(PossibleAccountLimit { app: id.clone(), until, probing: false });
        }
    }

    pub(super) fn refused(
        &mut self,
        after: Option<Duration>,
        bounded: bool,
        salt: u64,
        now: Moment,
    ) -> Option<LimiterEvent> {
        // A request that is refused during a pause was sent before it: the same refusal.
        let known = self.until(now).is_some();
        let first = self.refusals == 0;
        if !known {
            self.refusals = self.refusals.saturating_add(1);
        }
        let since = *self.refused_since.get_or_insert(now);
        let own = PER_APP.steady_wait(self.refusals, salt, now.since(since));
        let pause = now + own.max(after.unwrap_or_default()).max(SHORTEST_PAUSE).min(LONGEST_PAUSE);
        let earlier = self.possible.take().map(|possible| possible.until);
        let until = pause.max(earlier.unwrap_or(pause)).max(self.until(now).unwrap_or(pause));
        self.pause = Some(Pause { until, cause: PauseCause::Refused, probing: false });
        // One line per cause: calls that were in flight together are refused together.
        (!known).then_some(LimiterEvent::Paused { pause: until.since(now), cause: PauseCause::Refused, bounded, first })
    }

    /// Takes headers without a request left for `reset`.
    pub(super) fn exhausted(&mut self, reset: Duration, bounded: bool, now: Moment) -> Option<LimiterEvent> {
        let pause = reset.max(SHORTEST_PAUSE);
        let (until, known, cause) = (now + pause, self.until(now), PauseCause::Exhausted);
        if known.is_none_or(|known| known < until) {
            self.pause = Some(Pause { until, cause, probing: false });
        }
        known.is_none().then_some(LimiterEvent::Paused { pause, cause, bounded, first: true })
    }
}
