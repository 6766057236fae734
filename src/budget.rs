//! Rate limiter of the account: the one owner of every request of the process.
//!
//! A pure state machine: it admits each request, and then receives its answer. 180 requests a minute belong to the
//! whole account, and spamming gets it suspended; so protecting the account is more important than speed. The parts:
//! `bucket` (tokens and rates), `lanes` (order), `pauses` (429), `breaker` (a server that does not answer), `refused`
//! (401 and 403).

mod breaker;
mod bucket;
mod gate;
mod lanes;
mod pauses;
mod refused;

use std::time::Duration;

pub use self::bucket::{Budget, DEFAULT_BUDGET};
pub use self::lanes::{Lane, Waiting};
pub use self::pauses::PauseCause;
pub use self::refused::Forbidden;

use self::breaker::Breaker;
use self::bucket::Bucket;
use self::gate::Gate;
use self::pauses::Pauses;
use self::refused::Account;
use crate::reconcile::app::AppId;
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, RateLimitHeaders, Verdict};

/// Answer to a request for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send now: the token is taken.
    Go,
    /// Try again at this time.
    At(Moment),
    /// Try again after the next answer: a probe is in flight.
    Later,
}

/// A request, as the failures are counted. Five failures in a row open the circuit breaker; failures of one app count
/// once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A check of the token.
    Token,
    /// A page of the list.
    List,
    /// A page of the list of a team: its refusal proves nothing about other requests.
    TeamList,
    /// A read of one app.
    Read(AppId),
    /// A stop, start or restart of one app.
    Act(AppId),
}

impl Call {
    const fn app(&self) -> Option<&AppId> {
        match self {
            Self::Token | Self::List | Self::TeamList => None,
            Self::Read(id) | Self::Act(id) => Some(id),
        }
    }
}

/// A change that concerns all apps. The log has one line for the cause, not one for each app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimiterEvent {
    /// All requests pause.
    Paused {
        pause: Duration,
        cause: PauseCause,
        /// Whether the server requested more than [`LONGEST_PAUSE`](crate::reconcile::backoff::LONGEST_PAUSE).
        bounded: bool,
        /// Whether this is the first pause in a row.
        first: bool,
    },
    BreakerOpened,
    BreakerClosed,
    /// The server refuses the token.
    AccountBlocked,
    /// The server accepts the token again.
    AccountUnblocked,
    AccountForbidden(Forbidden),
    AccountAllowed,
}

/// The one owner of the account's budget.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    budget: Budget,
    pace: Pace,
    breaker: Breaker,
    account: Account,
    salt: u64,
}

/// Limits of every request, probes included.
#[derive(Debug, Clone)]
struct Pace {
    bucket: Bucket,
    pauses: Pauses,
    /// Calls since the last read.
    calls_in_a_row: u32,
}

impl Pace {
    /// Admits one request of `lane` if pauses, the budget and `gates` do. A refusal changes none of them.
    fn admit(&mut self, lane: Lane, mut gates: [Option<&mut Gate>; 2], now: Moment) -> Admission {
        if let Some(until) = self.pauses.until(now) {
            return Admission::At(until);
        }
        let probing = self.pauses.probing(now);
        if let Some(at) = self.bucket.short_until(lane, now) {
            return Admission::At(at);
        }
        if probing {
            return Admission::Later;
        }
        let closed = gates.iter().flatten().map(|gate| gate.admits(now)).find(|gate| *gate != Admission::Go);
        if let Some(closed) = closed {
            return closed;
        }
        gates.iter_mut().flatten().for_each(|gate| gate.probing = true);
        self.pauses.sent(now);
        self.bucket.take(lane);
        self.calls_in_a_row = if lane == Lane::Act { self.calls_in_a_row.saturating_add(1) } else { 0 };
        Admission::Go
    }
}

impl RateLimiter {
    /// A limiter with a full burst. The salt spreads the probes of several daemons.
    pub fn new(budget: Budget, salt: u64) -> Self {
        let pace = Pace { bucket: Bucket::new(budget), pauses: Pauses::default(), calls_in_a_row: 0 };
        Self { budget, pace, breaker: Breaker::default(), account: Account::new(salt), salt }
    }

    /// Sets the number of declared apps.
    pub fn declared(&mut self, apps: usize) {
        self.account.declared = apps;
    }

    /// Returns whether the server refuses the token.
    pub fn account_blocked(&self) -> bool {
        self.account.blocked.is_some()
    }

    /// The kind of request that the account may not make.
    pub fn account_forbidden(&self) -> Option<Forbidden> {
        self.account.forbidden.map(|(kind, _)| kind)
    }

    pub fn breaker_open(&self) -> bool {
        self.breaker.gate.is_some()
    }

    /// Returns whether the list is read only as a probe.
    pub fn list_is_a_probe(&self) -> bool {
        self.breaker_open() || self.account_forbidden() == Some(Forbidden::List)
    }

    /// The end of the pause of all requests.
    pub fn paused_until(&self, now: Moment) -> Option<Moment> {
        self.pace.pauses.until(now)
    }

    pub fn pause_cause(&self, now: Moment) -> Option<PauseCause> {
        self.pace.pauses.cause(now)
    }

    /// The time of the next request while all apps are held: the end of a pause, or the next probe.
    pub fn held_until(&self, now: Moment) -> Option<Moment> {
        let probes = [self.account.blocked, self.account.forbidden.map(|(_, gate)| gate), self.breaker.gate];
        let next = probes.into_iter().flatten().map(|gate| gate.next);
        next.chain(self.paused_until(now)).max().filter(|at| now < *at)
    }

    /// Requests a minute that are allowed now; `None` if unlimited.
    pub fn requests_per_minute(&self, now: Moment) -> Option<f64> {
        Some(self.pace.bucket.rate(now)).filter(|rate| rate.is_finite())
    }

    /// The last `X-RateLimit-Remaining`.
    pub fn remaining(&self) -> Option<u32> {
        self.pace.bucket.remaining
    }

    /// The shortest resync interval of a list with `pages` that keeps observation within half of the budget.
    pub fn list_interval(&self, pages: u32, wanted: Duration) -> Duration {
        wanted.max(Duration::from_secs_f64(f64::from(pages) * 120.0 / self.budget.per_minute()))
    }

    /// Requests a minute that observation takes: the pages of the list each `interval`, and a read of each app that the
    /// list does not show, up to half of the budget.
    pub fn observation_rate(&self, pages: u32, unlisted: u32, interval: Duration) -> f64 {
        let each = 60.0 / interval.as_secs_f64();
        let (list, reads) = (f64::from(pages) * each, f64::from(unlisted) * each);
        list + reads.min((self.budget.per_minute() / 2.0 - list).max(0.0))
    }

    /// The waiting lanes in the order in which to try them.
    pub fn order(&self, waiting: &Waiting, now: Moment) -> impl Iterator<Item = Lane> + use<> {
        waiting.order(self.pace.calls_in_a_row, now)
    }

    /// The time of the next probe of a refused token, unless one is in flight.
    pub fn token_probe_at(&self) -> Option<Moment> {
        self.account.blocked.filter(|gate| !gate.probing).map(|gate| gate.next)
    }

    /// Requests a token for the probe of a refused token.
    pub fn admit_token_probe(&mut self, now: Moment) -> Admission {
        let Some(gate) = &mut self.account.blocked else { return Admission::Later };
        self.pace.admit(Lane::Confirm, [Some(gate), None], now)
    }

    /// The time of the next probe of a forbidden account, unless one is in flight.
    pub fn forbidden_probe_at(&self) -> Option<Moment> {
        self.account.forbidden.filter(|(_, gate)| !gate.probing).map(|(_, gate)| gate.next)
    }

    /// Requests a token for the probe of a forbidden account.
    pub fn admit_forbidden_probe(&mut self, now: Moment) -> Admission {
        let Some((_, gate)) = &mut self.account.forbidden else { return Admission::Later };
        self.pace.admit(Lane::Confirm, [Some(gate), self.breaker.gate.as_mut()], now)
    }

    /// Returns whether the app is one of those that made the account count as forbidden.
    pub fn is_known_forbidden(&self, id: &AppId) -> bool {
        self.account.forbidden_apps.contains(id)
    }

    /// Ends the refusal of the account, because no pending request is affected.
    pub fn nothing_forbidden_is_pending(&mut self) {
        self.account.forbidden = None;
        self.account.forbidden_apps.clear();
    }

    /// Lets the probe of a new token be sent at once.
    pub fn token_changed(&mut self, now: Moment) {
        if let Some(gate) = &mut self.account.blocked {
            gate.next = gate.next.min(now);
        }
    }

    /// Requests a token for one request of `lane`; `Go` takes it.
    pub fn admit(&mut self, lane: Lane, now: Moment) -> Admission {
        if self.account_blocked() {
            return Admission::Later;
        }
        let forbidden = self.account.forbidden.as_mut().filter(|(kind, _)| kind.holds(lane));
        if let Some((kind, gate)) = &forbidden
            && !(*kind == Forbidden::List && lane == Lane::Observe)
        {
            // Only `admit_forbidden_probe` admits the probe.
            return if gate.probing || now >= gate.next { Admission::Later } else { Admission::At(gate.next) };
        }
        self.pace.admit(lane, [self.breaker.gate.as_mut(), forbidden.map(|(_, gate)| gate)], now)
    }

    /// Takes tokens for requests that did not wait for them: repeats after dead connections. At most one token is owed
    /// afterwards, so that a failover does not keep an edit waiting.
    pub fn charge(&mut self, requests: u32, now: Moment) {
        self.pace.bucket.charge(requests, now);
    }

    /// Takes the answer to a request that succeeded.
    pub fn succeeded(&mut self, call: &Call, limits: RateLimitHeaders, now: Moment) -> Vec<LimiterEvent> {
        self.pace.pauses.succeeded();
        self.pace.bucket.recover();
        let mut events: Vec<LimiterEvent> = self.note_limits(limits, now).into_iter().collect();
        events.extend(self.account.allow(call));
        events.extend(self.answered(call, now));
        events
    }

    /// Corrects the verdict on a failure: a 401 for a token that checks accepted means that the token may not do this.
    /// Otherwise one app or one kind of request would block the others.
    pub fn judge(&mut self, failure: &mut Failure, now: Moment) {
        let answered = failure.http_status.is_some();
        if failure.verdict == Verdict::AccountBlocked && answered && self.account.is_proven(now) {
            failure.verdict = Verdict::Forbidden;
        }
    }

    /// Takes the failure of a request.
    pub fn failed(&mut self, call: &Call, failure: &Failure, now: Moment) -> Vec<LimiterEvent> {
        if let Verdict::RateLimited { after } = failure.verdict {
            return self.rate_limited(call, failure, after, now).into_iter().collect();
        }
        let mut events: Vec<LimiterEvent> = self.note_limits(failure.limits, now).into_iter().collect();
        match failure.verdict {
            Verdict::RateLimited { .. } => {}
            Verdict::AccountBlocked => {
                self.pace.pauses.not_refused(call);
                self.breaker = Breaker::default();
                events.extend(self.account.block(now));
            }
            Verdict::Retry | Verdict::LostAnswer => {
                self.pace.pauses.probe_lost();
                if let Some(gate) = self.account.blocked.as_mut().filter(|gate| gate.probing) {
                    gate.probe_later(now);
                }
                self.account.forbidden_probe_failed(call, now);
                events.extend(self.breaker.unanswered(call, self.salt, now));
            }
            Verdict::Forbidden => {
                events.extend(self.answered(call, now));
                events.extend(self.account.forbid(call, now));
            }
            Verdict::LookAgain | Verdict::Locked | Verdict::NotFound | Verdict::Unexpected => {
                self.account.end_row();
                self.account.forbidden_probe_failed(call, now);
                events.extend(self.answered(call, now));
            }
        }
        events
    }

    /// Ends every probe in flight without a result, after a request was aborted or refused: another probe may be sent.
    pub fn abandoned(&mut self) {
        let forbidden = self.account.forbidden.as_mut().map(|(_, gate)| gate);
        let gates = [self.breaker.gate.as_mut(), self.account.blocked.as_mut(), forbidden];
        gates.into_iter().flatten().for_each(|gate| gate.probing = false);
        self.pace.pauses.probe_lost();
    }

    /// Returns whether a refusal by the rate limit concerns only the app that was called.
    pub fn is_per_app_limit(&self, call: &Call, failure: &Failure, now: Moment) -> bool {
        !self.account_blocked() && self.pace.pauses.is_per_app_limit(call, failure, now)
    }

    fn rate_limited(
        &mut self,
        call: &Call,
        failure: &Failure,
        after: Option<Duration>,
        now: Moment,
    ) -> Option<LimiterEvent> {
        // The server answered, but a refused probe proves nothing: it is repeated.
        self.breaker.answered();
        let is_per_app = self.is_per_app_limit(call, failure, now);
        self.abandoned();
        if is_per_app {
            self.pace.pauses.app_refused(call, failure, after, now);
            return None;
        }
        self.pace.bucket.note_limits(failure.limits, now);
        if after.is_none() && !self.pace.pauses.is_paused() {
            // No header names a rate. The refused probe after a pause proves nothing about the rate.
            self.pace.bucket.slow_down();
        }
        self.pace.bucket.empty();
        self.pace.pauses.refused(after, failure.limits.bounded, self.salt, now)
    }

    /// The server answered a request, and refused neither the token nor the rate.
    fn answered(&mut self, call: &Call, now: Moment) -> impl Iterator<Item = LimiterEvent> + use<> {
        self.pace.pauses.not_refused(call);
        self.breaker.answered();
        self.account.unblock(call, now).into_iter().chain(self.breaker.close())
    }

    /// Applies the rate-limit headers. Without a request left, all requests pause.
    fn note_limits(&mut self, limits: RateLimitHeaders, now: Moment) -> Option<LimiterEvent> {
        let reset = self.pace.bucket.note_limits(limits, now)?;
        (limits.remaining == Some(0)).then(|| self.pace.pauses.exhausted(reset, limits.bounded, now)).flatten()
    }
}

#[cfg(test)]
mod tests;
