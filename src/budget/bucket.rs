//! Token bucket of the account, lowered by refusals and by the rate-limit headers of the server.
//!
//! Reads of the `Observe` lane also take from a second bucket that fills half as fast, so that half of the budget stays
//! for calls.

use std::time::Duration;

use super::lanes::Lane;
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::RateLimitHeaders;

/// Default of `--api-budget`. The account has 180 requests a minute; a third stays for people and other tools.
pub const DEFAULT_BUDGET: u32 = 120;
/// Size of a burst, in seconds of the rate: an edit does not wait for the calls just before it.
const BURST_SECONDS: f64 = 5.0;
/// Minimum rate after refusals.
pub(super) const LEAST_RATE: f64 = 6.0;
/// Increase of the rate with each success after refusals, in requests a minute (additive increase).
const RECOVERY: f64 = 1.0;
/// Rate after the first refusal by a server that was configured as unlimited.
const RATE_AFTER_ALL: f64 = 600.0;

/// Requests a minute that the operator may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    PerMinute(u32),
    /// A private server.
    Unlimited,
}

impl Budget {
    pub(super) fn per_minute(self) -> f64 {
        match self {
            Self::PerMinute(rate) => f64::from(rate.max(1)),
            Self::Unlimited => f64::INFINITY,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Bucket {
    budget: Budget,
    /// Requests a minute; below the budget after refusals.
    rate: f64,
    tokens: f64,
    observe_tokens: f64,
    filled_at: Moment,
    /// Requests a minute that the server's headers allow, and the end of their window.
    window: Option<(f64, Moment)>,
    /// The last `X-RateLimit-Remaining`.
    pub(super) remaining: Option<u32>,
}

impl Bucket {
    /// Starts with a full burst.
    pub(super) fn new(budget: Budget) -> Self {
        let rate = budget.per_minute();
        let tokens = burst(rate);
        let observe_tokens = tokens / 2.0;
        Self { budget, rate, tokens, observe_tokens, filled_at: Moment::START, window: None, remaining: None }
    }

    pub(super) fn rate(&self, now: Moment) -> f64 {
        match self.window {
            Some((allowed, until)) if now < until => self.rate.min(allowed),
            Some(_) | None => self.rate,
        }
    }

    /// The time of the next token for `lane`; `None` if there is one now.
    pub(super) fn short_until(&mut self, lane: Lane, now: Moment) -> Option<Moment> {
        self.fill(now);
        let per_second = self.rate(now) / 60.0;
        let wait = |tokens: f64, per_second: f64| (1.0 - tokens).max(0.0) / per_second;
        let mut seconds = wait(self.tokens, per_second);
        if lane == Lane::Observe {
            seconds = seconds.max(wait(self.observe_tokens, per_second / 2.0));
        }
        // A microsecond more, so that rounding causes no second wake-up.
        (seconds > 0.0).then(|| now + Duration::from_secs_f64(seconds) + Duration::from_micros(1))
    }

    pub(super) fn take(&mut self, lane: Lane) {
        self.tokens -= 1.0;
        if lane == Lane::Observe {
            self.observe_tokens -= 1.0;
        }
    }

    /// Takes tokens for requests that did not wait for them. The debt is at most one token.
    pub(super) fn charge(&mut self, requests: u32, now: Moment) {
        self.fill(now);
        self.tokens = (self.tokens - f64::from(requests)).max(self.tokens.min(-1.0));
    }

    pub(super) fn recover(&mut self) {
        self.rate = (self.rate + RECOVERY).min(self.budget.per_minute());
    }

    /// Halves the rate (multiplicative decrease).
    pub(super) fn slow_down(&mut self) {
        self.rate = (self.rate / 2.0).max(LEAST_RATE.min(self.rate)).min(RATE_AFTER_ALL);
    }

    pub(super) fn empty(&mut self) {
        self.tokens = self.tokens.min(0.0);
        self.observe_tokens = self.observe_tokens.min(0.0);
    }

    /// Lowers the rate to that of the headers. Returns the time until their window ends; `None` if the budget is
    /// unlimited.
    pub(super) fn note_limits(&mut self, limits: RateLimitHeaders, now: Moment) -> Option<Duration> {
        if self.budget == Budget::Unlimited {
            return None;
        }
        self.remaining = limits.remaining.or(self.remaining);
        let mut allowed = self.budget.per_minute();
        if let Some(limit) = limits.limit {
            // Two thirds, as of the documented limit: the rest is for other clients.
            allowed = allowed.min((f64::from(limit) * 2.0 / 3.0).max(1.0));
        }
        let reset = limits.reset.unwrap_or(Duration::from_mins(1));
        if let Some(remaining) = limits.remaining.filter(|remaining| *remaining > 0 && !reset.is_zero()) {
            allowed = allowed.min(f64::from(remaining) * 60.0 / reset.as_secs_f64());
        }
        if limits.limit.is_some() || limits.remaining.is_some() {
            self.window = Some((allowed.max(1.0), now + reset));
        }
        Some(reset)
    }

    fn fill(&mut self, now: Moment) {
        let minutes = now.since(self.filled_at).as_secs_f64() / 60.0;
        self.filled_at = self.filled_at.max(now);
        if self.rate.is_infinite() {
            (self.tokens, self.observe_tokens) = (f64::INFINITY, f64::INFINITY);
            return;
        }
        let (rate, burst) = (self.rate(now), burst(self.rate));
        self.tokens = (self.tokens + rate * minutes).min(burst);
        self.observe_tokens = (self.observe_tokens + rate / 2.0 * minutes).min((burst / 2.0).max(1.0));
    }
}

fn burst(rate: f64) -> f64 {
    (rate / 60.0 * BURST_SECONDS).max(1.0)
}
