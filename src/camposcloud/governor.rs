//! Who may call now? The account's budget, lanes, pauses, the breaker, the blocked account.
//!
//! A pure state machine: every request of the process asks it first and tells it what came back. 180 requests a minute
//! belong to the whole account, and spamming gets it suspended; so never hammering outranks converging soon, and this
//! is where the two pull apart.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::reconcile::action::{Failure, Limits, Verdict};
use crate::reconcile::app::AppId;
use crate::reconcile::backoff::{PROBES, Schedule, TOKEN_PROBES};
use crate::reconcile::moment::Moment;

/// The account's documented limit, in requests a minute ("subject to change").
pub const ACCOUNT_LIMIT: u32 = 180;
/// What we take of it unless told otherwise: people and other tools keep a third.
pub const DEFAULT_BUDGET: u32 = 120;
/// So many seconds' worth of requests may go out at once: an edit is not kept waiting by the calls just before it.
const BURST_SECONDS: f64 = 5.0;
/// However often the server refuses, we still ask this often a minute: less would be giving up.
const LEAST_RATE: f64 = 6.0;
/// Each success gives back so many requests a minute of what refusals took (additive increase).
const RECOVERY: f64 = 1.0;
/// What is left of no budget at all when a server that was said to have no limit refuses after all.
const RATE_AFTER_ALL: f64 = 600.0;
/// So many failures in a row, of different calls, open the breaker.
const BREAKER_FAILURES: usize = 5;
/// A pause is never shorter: a server that says "0 s" beside a 429 has contradicted itself.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Refused again so soon after it was accepted, a token is probed on from where its probes stood: a server that knows
/// the user and refuses the rest must not be asked ever anew.
const RELAPSE: Duration = Duration::from_mins(10);

/// How many requests a minute we may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// So many.
    PerMinute(u32),
    /// As many as we like: a private server.
    Unlimited,
}

/// What a request is for. Ordered by precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Stop or start.
    Act,
    /// Verify a call, or find an app.
    Confirm,
    /// The list.
    Observe,
}

impl Lane {
    /// Every lane, in order of precedence.
    pub const ALL: [Self; 3] = [Self::Act, Self::Confirm, Self::Observe];

    /// The label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Confirm => "confirm",
            Self::Observe => "observe",
        }
    }

    /// A request that has waited this long goes before the lanes above it, so that none starves: a bulk of stops
    /// lasting minutes must not keep its own verification out.
    const fn patience(self) -> Duration {
        match self {
            Self::Act => Duration::ZERO,
            Self::Confirm => Duration::from_secs(5),
            Self::Observe => Duration::from_secs(15),
        }
    }
}

/// Since when a request of each lane has been waiting, where one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Stop or start.
    pub act: Option<Moment>,
    /// Verify or find.
    pub confirm: Option<Moment>,
    /// The list.
    pub observe: Option<Moment>,
}

impl Waiting {
    /// Since when a request of `lane` has been waiting.
    pub const fn since(&self, lane: Lane) -> Option<Moment> {
        match lane {
            Lane::Act => self.act,
            Lane::Confirm => self.confirm,
            Lane::Observe => self.observe,
        }
    }
}

/// Whether a request may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may, now: its share of the budget is taken.
    Go,
    /// Ask again then.
    At(Moment),
    /// Ask again when an answer has come: a probe is on the wire.
    Later,
}

/// Which call failed: five different ones in a row mean the server, one app five times means the app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A page of the list, or a check of the token.
    Account,
    /// A call or look at one app.
    App(AppId),
}

/// A closed door with one knock at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Door {
    knocks: u32,
    next: Moment,
    knocking: bool,
}

/// What changed for everybody, for the log: one line for the cause, not one for each app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// The server asked for a pause.
    Paused(Duration),
    /// The breaker opened.
    BreakerOpened,
    /// The server answers again.
    BreakerClosed,
    /// The token is not accepted.
    AccountBlocked,
    /// The token is accepted again.
    AccountUnblocked,
}

/// The one owner of the account's budget.
#[derive(Debug, Clone)]
pub struct Governor {
    budget: Budget,
    /// Requests a minute that are allowed now; below the budget after refusals.
    rate: f64,
    tokens: f64,
    /// Observation takes at most half: its own bucket, filled half as fast.
    observe_tokens: f64,
    filled_at: Moment,
    /// What the server's headers leave us until its window ends, in requests a minute.
    window: Option<(f64, Moment)>,
    remaining: Option<u32>,
    paused_until: Option<Moment>,
    refusals: u32,
    failing: BTreeSet<AppId>,
    account_failures: usize,
    breaker: Option<Door>,
    blocked: Option<Door>,
    /// When a blocked account was let in last, and after how many knocks.
    let_in: Option<(Moment, u32)>,
    salt: u64,
}

impl Governor {
    /// A governor with a full burst. The salt spreads the probes of several daemons.
    pub fn new(budget: Budget, salt: u64) -> Self {
        let rate = match budget {
            Budget::PerMinute(rate) => f64::from(rate.max(1)),
            Budget::Unlimited => f64::INFINITY,
        };
        let mut governor = Self {
            budget,
            rate,
            tokens: 0.0,
            observe_tokens: 0.0,
            filled_at: Moment::START,
            window: None,
            remaining: None,
            paused_until: None,
            refusals: 0,
            failing: BTreeSet::new(),
            account_failures: 0,
            breaker: None,
            blocked: None,
            let_in: None,
            salt,
        };
        governor.tokens = governor.burst();
        governor.observe_tokens = governor.burst() / 2.0;
        governor
    }

    /// Whether the token is refused: nothing is called.
    pub fn account_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Whether the server does not answer: only probes go out.
    pub fn breaker_open(&self) -> bool {
        self.breaker.is_some()
    }

    /// Until when everybody waits because the server asked for it.
    pub fn paused_until(&self, now: Moment) -> Option<Moment> {
        self.paused_until.filter(|until| now < *until)
    }

    /// Requests a minute that are allowed now; `None` if any number is.
    pub fn requests_per_minute(&self, now: Moment) -> Option<f64> {
        Some(self.effective_rate(now)).filter(|rate| rate.is_finite())
    }

    /// What `X-RateLimit-Remaining` said last.
    pub fn remaining(&self) -> Option<u32> {
        self.remaining
    }

    /// The shortest interval between lists of so many pages that keeps observation within its half.
    pub fn list_interval(&self, pages: u32, wanted: Duration) -> Duration {
        match self.budget {
            Budget::Unlimited => wanted,
            Budget::PerMinute(budget) => {
                wanted.max(Duration::from_secs_f64(f64::from(pages) * 120.0 / f64::from(budget.max(1))))
            }
        }
    }

    /// The waiting lanes in the order in which to try them: whoever has waited beyond its patience, then precedence.
    pub fn order(waiting: &Waiting, now: Moment) -> impl Iterator<Item = Lane> {
        let mut lanes: Vec<(bool, Lane)> = Lane::ALL
            .into_iter()
            .filter_map(|lane| waiting.since(lane).map(|since| (now.since(since) < lane.patience(), lane)))
            .map(|(patient, lane)| (patient || lane == Lane::Act, lane))
            .collect();
        lanes.sort_unstable();
        lanes.into_iter().map(|(_, lane)| lane)
    }

    /// When the token may be checked again, while the account is blocked.
    pub fn token_probe_at(&self) -> Option<Moment> {
        self.blocked.filter(|door| !door.knocking).map(|door| door.next)
    }

    /// Asks to check the token of a blocked account.
    pub fn admit_token_probe(&mut self, now: Moment) -> Admission {
        if let Some(wait) = self.wait(Lane::Confirm, now) {
            return Admission::At(wait);
        }
        let admission = self.blocked.as_mut().map_or(Admission::Later, |door| door.knock(now));
        if admission == Admission::Go {
            self.tokens -= 1.0;
        }
        admission
    }

    /// A new token was found: it may be tried at once.
    pub fn token_changed(&mut self, now: Moment) {
        if let Some(door) = &mut self.blocked {
            door.next = door.next.min(now);
        }
    }

    /// Asks for one request of `lane` at `now`; `Go` takes it out of the budget.
    pub fn admit(&mut self, lane: Lane, now: Moment) -> Admission {
        if self.blocked.is_some() {
            return Admission::Later;
        }
        if let Some(until) = self.wait(lane, now) {
            return Admission::At(until);
        }
        // Last, since a knock that the budget then refused would leave the door with nobody to answer it.
        if let Some(door) = &mut self.breaker {
            match door.knock(now) {
                Admission::Go => {}
                refused @ (Admission::At(_) | Admission::Later) => return refused,
            }
        }
        self.tokens -= 1.0;
        if lane == Lane::Observe {
            self.observe_tokens -= 1.0;
        }
        Admission::Go
    }

    /// Takes requests out of the budget that were sent without waiting for it: repeats after dead connections. They
    /// leave at most one token below zero, so that a failover does not keep an edit waiting.
    pub fn charge(&mut self, requests: u32, now: Moment) {
        self.fill(now);
        self.tokens = (self.tokens - f64::from(requests)).max(self.tokens.min(-1.0));
    }

    /// A request was answered well.
    pub fn succeeded(&mut self, limits: Limits, now: Moment) -> Option<Shift> {
        self.note_limits(limits, now);
        self.refusals = 0;
        let most = match self.budget {
            Budget::PerMinute(budget) => f64::from(budget.max(1)),
            Budget::Unlimited => f64::INFINITY,
        };
        self.rate = (self.rate + RECOVERY).min(most);
        self.answered();
        self.let_in(now).or_else(|| self.breaker.take().map(|_| Shift::BreakerClosed))
    }

    /// A request was given up before it was sent or answered (shutdown): a probe that it was is free again.
    pub fn abandoned(&mut self) {
        for door in [&mut self.breaker, &mut self.blocked].into_iter().flatten() {
            door.knocking = false;
        }
    }

    /// A request failed.
    pub fn failed(&mut self, call: &Call, failure: &Failure, now: Moment) -> Option<Shift> {
        self.note_limits(failure.limits, now);
        match failure.verdict {
            Verdict::RateLimited { after } => self.refused(after, now),
            Verdict::AccountBlocked => {
                let first = self.blocked.is_none();
                let relapse = self.let_in.filter(|(at, _)| now.since(*at) < RELAPSE).map_or(0, |(_, knocks)| knocks);
                let knocks = match self.blocked {
                    None => relapse + 1,
                    Some(door) if door.knocking => door.knocks + 1,
                    // What was sent before the door closed does not count as a knock.
                    Some(door) => door.knocks,
                };
                self.blocked = Some(Door::closed(TOKEN_PROBES, knocks, self.salt, now));
                // The server did answer.
                self.answered();
                self.breaker = None;
                first.then_some(Shift::AccountBlocked)
            }
            Verdict::Retry | Verdict::LostAnswer => {
                if let Some(door) = &mut self.blocked {
                    *door = Door::closed(TOKEN_PROBES, door.knocks, self.salt, now);
                }
                self.unanswered(call, now)
            }
            Verdict::LookAgain | Verdict::Forbidden | Verdict::NotFound | Verdict::Unexpected => {
                self.answered();
                self.let_in(now).or_else(|| self.breaker.take().map(|_| Shift::BreakerClosed))
            }
        }
    }

    /// The token was good for an answer.
    fn let_in(&mut self, now: Moment) -> Option<Shift> {
        let door = self.blocked.take()?;
        self.let_in = Some((now, door.knocks));
        Some(Shift::AccountUnblocked)
    }

    /// Until when the pause or the budget keeps a request of `lane` waiting.
    fn wait(&mut self, lane: Lane, now: Moment) -> Option<Moment> {
        if let Some(until) = self.paused_until(now) {
            return Some(until);
        }
        self.fill(now);
        self.shortage(lane, now).map(|wait| now + wait)
    }

    fn refused(&mut self, after: Option<Duration>, now: Moment) -> Option<Shift> {
        // Whatever is refused while everybody waits was sent before: the same trouble, not more of it.
        let known = self.paused_until(now).is_some();
        if !known {
            self.refusals = self.refusals.saturating_add(1);
        }
        if after.is_none() && !known {
            // No header says what would be right: halve, and feel the way back up (multiplicative decrease).
            self.rate = (self.rate / 2.0).max(LEAST_RATE.min(self.rate)).min(RATE_AFTER_ALL);
        }
        self.tokens = self.tokens.min(0.0);
        self.observe_tokens = self.observe_tokens.min(0.0);
        let pause = after.unwrap_or_else(|| PROBES.ceiling(self.refusals + 1)).max(SHORTEST_PAUSE);
        let until = now + pause;
        let longer = self.paused_until.is_none_or(|known| known < until);
        if longer {
            self.paused_until = Some(until);
        }
        // It did answer; a probe that was refused is to be made again after the pause.
        self.answered();
        self.abandoned();
        // One line for a cause: thirty calls that were on the wire together are refused together.
        (!known).then_some(Shift::Paused(pause))
    }

    fn answered(&mut self) {
        self.failing.clear();
        self.account_failures = 0;
    }

    fn unanswered(&mut self, call: &Call, now: Moment) -> Option<Shift> {
        match call {
            Call::Account => self.account_failures += 1,
            Call::App(id) => drop(self.failing.insert(id.clone())),
        }
        if let Some(door) = &mut self.breaker {
            // Answers to what was sent before it opened do not count as knocks.
            if door.knocking {
                *door = Door::closed(PROBES, door.knocks.saturating_add(1), self.salt, now);
            }
            return None;
        }
        if self.failing.len() + self.account_failures < BREAKER_FAILURES {
            return None;
        }
        self.failing.clear();
        self.breaker = Some(Door::closed(PROBES, 1, self.salt, now));
        Some(Shift::BreakerOpened)
    }

    fn note_limits(&mut self, limits: Limits, now: Moment) {
        let Budget::PerMinute(budget) = self.budget else { return };
        self.remaining = limits.remaining.or(self.remaining);
        let mut allowed = f64::from(budget.max(1));
        if let Some(limit) = limits.limit {
            // Two thirds, as of the documented limit: the rest is other people's.
            allowed = allowed.min((f64::from(limit) * 2.0 / 3.0).max(1.0));
        }
        let reset = limits.reset.unwrap_or(Duration::from_mins(1));
        match limits.remaining {
            Some(0) => self.paused_until = self.paused_until.max(Some(now + reset.max(SHORTEST_PAUSE))),
            Some(remaining) if !reset.is_zero() => {
                allowed = allowed.min(f64::from(remaining) * 60.0 / reset.as_secs_f64());
            }
            Some(_) | None => {}
        }
        if limits.limit.is_some() || limits.remaining.is_some() {
            self.window = Some((allowed.max(1.0), now + reset));
        }
    }

    fn effective_rate(&self, now: Moment) -> f64 {
        match self.window {
            Some((allowed, until)) if now < until => self.rate.min(allowed),
            Some(_) | None => self.rate,
        }
    }

    fn burst(&self) -> f64 {
        (self.rate / 60.0 * BURST_SECONDS).max(1.0)
    }

    fn fill(&mut self, now: Moment) {
        let minutes = now.since(self.filled_at).as_secs_f64() / 60.0;
        self.filled_at = self.filled_at.max(now);
        if self.rate.is_infinite() {
            (self.tokens, self.observe_tokens) = (f64::INFINITY, f64::INFINITY);
            return;
        }
        let rate = self.effective_rate(now);
        let burst = self.burst();
        self.tokens = (self.tokens + rate * minutes).min(burst);
        self.observe_tokens = (self.observe_tokens + rate / 2.0 * minutes).min((burst / 2.0).max(1.0));
    }

    /// How long until there is enough for one request of `lane`; `None` if there is now.
    fn shortage(&self, lane: Lane, now: Moment) -> Option<Duration> {
        let per_second = self.effective_rate(now) / 60.0;
        let wait = |tokens: f64, per_second: f64| (1.0 - tokens).max(0.0) / per_second;
        let mut seconds = wait(self.tokens, per_second);
        if lane == Lane::Observe {
            seconds = seconds.max(wait(self.observe_tokens, per_second / 2.0));
        }
        // A nanosecond beyond, so that rounding never makes us ask again for nothing.
        (seconds > 0.0).then(|| Duration::from_secs_f64(seconds) + Duration::from_nanos(1_000))
    }
}

impl Door {
    fn closed(schedule: Schedule, knocks: u32, salt: u64, now: Moment) -> Self {
        // Half fixed, half jittered: probes neither hurry nor march in step with another daemon's.
        let wait = schedule.ceiling(knocks) / 2 + schedule.jittered(knocks, salt) / 2;
        Self { knocks, next: now + wait, knocking: false }
    }

    fn knock(&mut self, now: Moment) -> Admission {
        if self.knocking {
            return Admission::Later;
        }
        if now < self.next {
            return Admission::At(self.next);
        }
        self.knocking = true;
        Admission::Go
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(verdict: Verdict) -> Failure {
        Failure { verdict, http_status: None, message: "x".into(), limits: Limits::default(), repeats: 0 }
    }

    fn app(n: usize) -> Call {
        Call::App(format!("app-{n}").parse().unwrap())
    }

    /// How many requests of `lane` go out in `seconds`, asked for as fast as they are allowed.
    fn drain(governor: &mut Governor, lane: Lane, from: u64, seconds: u64) -> u32 {
        let (mut now, mut count) = (Moment::from_secs(from), 0);
        while now < Moment::from_secs(from + seconds) {
            match governor.admit(lane, now) {
                Admission::Go => count += 1,
                Admission::At(at) => now = at,
                Admission::Later => break,
            }
        }
        count
    }

    #[test]
    fn the_budget_holds_and_observation_takes_half_of_it() {
        let mut governor = Governor::new(Budget::PerMinute(120), 0);
        assert_eq!(drain(&mut governor, Lane::Act, 0, 60), 130 - 1); // a burst of ten, then two a second
        let mut governor = Governor::new(Budget::PerMinute(120), 0);
        assert_eq!(drain(&mut governor, Lane::Observe, 0, 60), 65 - 1);
        let mut governor = Governor::new(Budget::PerMinute(120), 0);
        drain(&mut governor, Lane::Observe, 0, 60);
        assert!(drain(&mut governor, Lane::Act, 60, 60) >= 120, "what observation leaves is for calls");
    }

    #[test]
    fn a_repeat_is_charged_and_leaves_at_most_one_token_below_zero() {
        let now = Moment::START;
        let mut governor = Governor::new(Budget::PerMinute(60), 0);
        while governor.admit(Lane::Act, now) == Admission::Go {}
        governor.charge(0, now);
        let unpaid = governor.clone().admit(Lane::Act, now);
        assert_eq!(unpaid, Admission::At(now + Duration::from_secs(1) + Duration::from_micros(1)));
        governor.charge(1, now);
        let owing = Admission::At(now + Duration::from_secs(2) + Duration::from_micros(1));
        assert_eq!(governor.clone().admit(Lane::Act, now), owing);
        // Nine connections died at once.
        (0..8).for_each(|_| governor.charge(1, now));
        assert_eq!(governor.admit(Lane::Act, now), owing);
        let mut unlimited = Governor::new(Budget::Unlimited, 0);
        unlimited.charge(1, now);
        assert_eq!(unlimited.admit(Lane::Act, now), Admission::Go);
    }

    #[test]
    fn an_unlimited_budget_is_not_paced() {
        let mut governor = Governor::new(Budget::Unlimited, 0);
        assert!((0..10_000).all(|_| governor.admit(Lane::Act, Moment::START) == Admission::Go));
    }

    /// Fault V4: ten requests a second are served, forty are wanted, and no header says so.
    #[test]
    fn a_limit_that_nobody_told_of_is_felt_out() {
        let mut governor = Governor::new(Budget::Unlimited, 0);
        let (mut wanted, mut refused, mut millis) = (40, 0, 0_u64);
        let (mut second, mut served) = (0, 0);
        while wanted > 0 {
            let now = Moment::from_secs(100) + Duration::from_millis(millis);
            if millis / 1000 != second {
                (second, served) = (millis / 1000, 0);
            }
            // Thirty-two calls at most are on the wire at once.
            let sent = (0..32.min(wanted)).take_while(|_| governor.admit(Lane::Act, now) == Admission::Go).count();
            for _ in 0..sent {
                if served < 10 {
                    (served, wanted) = (served + 1, wanted - 1);
                    governor.succeeded(Limits::default(), now);
                } else {
                    refused += 1;
                    governor.failed(&app(refused), &failure(Verdict::RateLimited { after: None }), now);
                }
            }
            millis += 10;
        }
        assert!(millis < 10_000 && refused < 40, "{millis} ms, {refused} refused");
    }

    #[test]
    fn a_pause_is_obeyed_by_everybody() {
        let mut governor = Governor::new(Budget::PerMinute(120), 0);
        let limited = failure(Verdict::RateLimited { after: Some(Duration::from_secs(5)) });
        let now = Moment::from_secs(100);
        assert_eq!(governor.failed(&app(1), &limited, now), Some(Shift::Paused(Duration::from_secs(5))));
        for lane in Lane::ALL {
            assert_eq!(governor.admit(lane, now), Admission::At(Moment::from_secs(105)));
        }
        // A shorter pause that arrives later does not shorten it.
        let shorter = failure(Verdict::RateLimited { after: Some(Duration::ZERO) });
        assert_eq!(governor.failed(&app(2), &shorter, now), None, "it is told once");
        assert_eq!(governor.admit(Lane::Act, now), Admission::At(Moment::from_secs(105)));
        assert!(matches!(governor.admit(Lane::Act, Moment::from_secs(110)), Admission::Go));
    }

    #[test]
    fn refusals_without_a_header_slow_down_and_successes_speed_up_again() {
        let mut governor = Governor::new(Budget::PerMinute(120), 0);
        let mut now = Moment::from_secs(1);
        let refused = failure(Verdict::RateLimited { after: None });
        governor.failed(&app(1), &refused, now);
        governor.failed(&app(2), &refused, now);
        assert_eq!(governor.requests_per_minute(now), Some(60.0), "answers to one burst are one refusal");
        for _ in 0..200 {
            now = governor.paused_until(now).unwrap();
            governor.failed(&app(1), &refused, now);
        }
        assert_eq!(governor.requests_per_minute(now), Some(LEAST_RATE));
        for _ in 0..200 {
            governor.succeeded(Limits::default(), now);
        }
        assert_eq!(governor.requests_per_minute(now), Some(120.0));
    }

    #[test]
    fn the_servers_headers_lower_the_rate_until_their_window_ends() {
        let mut governor = Governor::new(Budget::PerMinute(120), 0);
        let now = Moment::from_secs(10);
        let seconds = |n| Some(Duration::from_secs(n));
        governor.succeeded(Limits { limit: Some(180), remaining: Some(150), reset: seconds(50) }, now);
        assert_eq!(governor.requests_per_minute(now), Some(120.0));
        // Others use the account: what remains is spread over the rest of the window.
        governor.succeeded(Limits { limit: Some(180), remaining: Some(20), reset: seconds(30) }, now);
        assert_eq!(governor.requests_per_minute(now), Some(40.0));
        assert_eq!(governor.requests_per_minute(Moment::from_secs(41)), Some(120.0));
        // The limit itself went down.
        governor.succeeded(Limits { limit: Some(60), remaining: Some(59), reset: seconds(30) }, now);
        assert_eq!(governor.requests_per_minute(now), Some(40.0));
        // Nothing remains: wait for the reset.
        governor.succeeded(Limits { limit: Some(180), remaining: Some(0), reset: seconds(7) }, now);
        assert_eq!(governor.admit(Lane::Act, now), Admission::At(Moment::from_secs(17)));
    }

    #[test]
    fn five_different_failures_open_the_breaker_and_one_answer_closes_it() {
        let mut governor = Governor::new(Budget::PerMinute(120), 0);
        let (now, lost) = (Moment::from_secs(100), failure(Verdict::LostAnswer));
        for _ in 0..20 {
            assert_eq!(governor.failed(&app(0), &lost, now), None, "one app is that app's failure");
        }
        for n in 1..4 {
            assert_eq!(governor.failed(&app(n), &lost, now), None);
        }
        assert_eq!(governor.failed(&app(4), &lost, now), Some(Shift::BreakerOpened));
        let Admission::At(probe) = governor.admit(Lane::Act, now) else { panic!("no probe is due yet") };
        assert_eq!(governor.admit(Lane::Observe, probe), Admission::Go);
        assert_eq!(governor.admit(Lane::Act, probe), Admission::Later, "one probe at a time");
        assert_eq!(governor.failed(&Call::Account, &lost, probe), None);
        assert!(matches!(governor.admit(Lane::Observe, probe), Admission::At(at) if at > probe));
        assert_eq!(governor.succeeded(Limits::default(), probe), Some(Shift::BreakerClosed));
        assert_eq!(governor.admit(Lane::Act, probe), Admission::Go);
    }

    #[test]
    fn a_refused_token_blocks_everything_but_its_own_probe() {
        let mut governor = Governor::new(Budget::Unlimited, 0);
        let (now, refused) = (Moment::from_secs(100), failure(Verdict::AccountBlocked));
        assert_eq!(governor.failed(&app(1), &refused, now), Some(Shift::AccountBlocked));
        assert_eq!(governor.failed(&app(2), &refused, now), None, "one line for the cause");
        assert_eq!(governor.admit(Lane::Act, now), Admission::Later);
        let at = governor.token_probe_at().unwrap();
        assert!(at > now);
        assert_eq!(governor.admit_token_probe(at), Admission::Go);
        assert_eq!(governor.admit_token_probe(at), Admission::Later);
        governor.failed(&Call::Account, &refused, at);
        assert!(governor.token_probe_at().unwrap() > at);
        governor.token_changed(at);
        assert_eq!(governor.admit_token_probe(at), Admission::Go, "a new token is tried at once");
        assert_eq!(governor.succeeded(Limits::default(), at), Some(Shift::AccountUnblocked));
        assert_eq!(governor.admit(Lane::Act, at), Admission::Go);
    }

    #[test]
    fn a_token_probe_waits_for_the_pause_that_was_asked_for() {
        let mut governor = Governor::new(Budget::Unlimited, 0);
        let now = Moment::from_secs(100);
        governor.failed(&Call::Account, &failure(Verdict::AccountBlocked), now);
        let at = governor.token_probe_at().unwrap();
        assert_eq!(governor.admit_token_probe(at), Admission::Go);
        let after = Some(Duration::from_secs(7));
        governor.failed(&Call::Account, &failure(Verdict::RateLimited { after }), at);
        assert_eq!(governor.admit_token_probe(at), Admission::At(at + Duration::from_secs(7)));
    }

    #[test]
    fn a_token_that_is_good_for_nothing_but_its_probe_is_probed_ever_more_slowly() {
        let mut governor = Governor::new(Budget::Unlimited, 0);
        let mut now = Moment::from_secs(100);
        let mut waits = Vec::new();
        for _ in 0..8 {
            governor.failed(&Call::Account, &failure(Verdict::AccountBlocked), now);
            let at = governor.token_probe_at().unwrap();
            waits.push(at.since(now));
            assert_eq!(governor.admit_token_probe(at), Admission::Go);
            governor.succeeded(Limits::default(), at);
            now = at;
        }
        assert!(waits[7] >= TOKEN_PROBES.cap / 2, "{waits:?}");
    }

    #[test]
    fn no_lane_starves() {
        let s = Moment::from_secs;
        let order = |waiting, now| Governor::order(waiting, now).collect::<Vec<_>>();
        let waiting = Waiting { act: Some(s(0)), confirm: Some(s(98)), observe: Some(s(90)) };
        assert_eq!(order(&waiting, s(100)), [Lane::Act, Lane::Confirm, Lane::Observe]);
        assert_eq!(order(&waiting, s(103)), [Lane::Confirm, Lane::Act, Lane::Observe]);
        assert_eq!(order(&waiting, s(105)), [Lane::Confirm, Lane::Observe, Lane::Act]);
        let waiting = Waiting { confirm: None, ..waiting };
        assert_eq!(order(&waiting, s(105)), [Lane::Observe, Lane::Act]);
        assert_eq!(order(&Waiting::default(), s(105)), []);
    }

    #[test]
    fn many_pages_stretch_the_interval() {
        let governor = Governor::new(Budget::PerMinute(120), 0);
        assert_eq!(governor.list_interval(3, Duration::from_secs(60)), Duration::from_secs(60));
        assert_eq!(governor.list_interval(100, Duration::from_secs(60)), Duration::from_secs(100));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(budget in 1..1_000_u32, gaps in proptest::collection::vec(0..3_000_u64, 1..300)) {
            let mut governor = Governor::new(Budget::PerMinute(budget), 0);
            let mut sent = Vec::new();
            let mut now = Moment::START;
            for (index, gap) in gaps.into_iter().enumerate() {
                now = now + Duration::from_millis(gap);
                if governor.admit(Lane::ALL[index % 3], now) == Admission::Go {
                    sent.push(now);
                }
            }
            let burst = (f64::from(budget) / 12.0).max(1.0);
            for (index, first) in sent.iter().enumerate() {
                for (later, last) in sent.iter().enumerate().skip(index) {
                    let most = burst + f64::from(budget) * last.since(*first).as_secs_f64() / 60.0 + 1e-6;
                    let count = f64::from(u32::try_from(later - index + 1).unwrap());
                    prop_assert!(count <= most + 1.0, "{count} in {:?}", last.since(*first));
                }
            }
        }
    }
}
