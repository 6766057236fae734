//! Who may call now? The account's budget, lanes, pauses, the breaker, the refused account.
//!
//! A pure state machine: every request of the process asks it first and reports its answer. 180 requests a minute
//! belong to the whole account, and spamming gets it suspended; so never hammering outranks converging soon, and this
//! is where the two pull apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::reconcile::app::AppId;
use crate::reconcile::backoff::{ACCOUNT_PROBES, LONGEST_PAUSE, PER_APP, PROBES, Schedule};
use crate::reconcile::moment::Moment;
use crate::reconcile::outcome::{Failure, Limits, Verdict};

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
/// So many different apps in a row that may not be read or called mean the account. One app alone never does.
const FORBIDDEN_APPS: usize = 5;
/// Calls for at most so many apps take the next token, whatever reads wait.
const FEW_CALLS: usize = 10;
/// While more calls wait than that, one token in so many is for reads.
const READ_SHARE: u32 = 4;
/// A pause is never shorter: a server that says "0 s" beside a 429 has contradicted itself.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Refused again so soon after it was accepted, a token is probed on from where its probes stood: a server that knows
/// the user and refuses the rest is not probed at the first pace each time.
const RELAPSE: Duration = Duration::from_mins(10);
/// Refusals of so many different apps within [`ALONE_WINDOW`] are their own; of one more, the account's.
const ALONE: usize = 2;
/// The time in which the refusals of different apps add up.
const ALONE_WINDOW: Duration = Duration::from_mins(1);

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
    /// Verify a call, or find an app that an edit asks for.
    Confirm,
    /// The list, and routine reads of apps that it does not show.
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

    /// A read that has waited this long goes before reads of the lane above that have not. Never before a call.
    const fn patience(self) -> Duration {
        match self {
            Self::Act => Duration::ZERO,
            Self::Confirm => Duration::from_secs(5),
            Self::Observe => Duration::from_secs(15),
        }
    }
}

/// Oldest wait of each lane, where a request of it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Stop or start.
    pub act: Option<Moment>,
    /// Number of apps for which a call waits.
    pub calls: usize,
    /// Verify or find.
    pub confirm: Option<Moment>,
    /// The list, and routine reads.
    pub observe: Option<Moment>,
}

impl Waiting {
    /// Oldest wait of `lane`.
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

/// The call that was answered: five different ones in a row mean the server, one app five times means the app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A check of the token.
    Token,
    /// A page of the list.
    List,
    /// A read of one app.
    Read(AppId),
    /// A stop or start of one app.
    Act(AppId),
}

impl Call {
    const fn app(&self) -> Option<&AppId> {
        match self {
            Self::Token | Self::List => None,
            Self::Read(id) | Self::Act(id) => Some(id),
        }
    }
}

/// The kind of request that the account is not allowed to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forbidden {
    /// The list, and with it everything.
    List,
    /// Reads of single apps, and calls.
    Reads,
    /// Stops and starts.
    Calls,
}

impl Forbidden {
    /// Whether a success of `call` proves that it is allowed after all.
    const fn disproved_by(self, call: &Call) -> bool {
        match (self, call) {
            (Self::List, Call::List | Call::Read(_) | Call::Act(_)) => true,
            (Self::Reads, Call::Read(_) | Call::Act(_)) => true,
            (Self::Calls, Call::Act(_)) => true,
            (_, Call::Token) | (Self::Reads | Self::Calls, Call::List) | (Self::Calls, Call::Read(_)) => false,
        }
    }

    const fn holds(self, lane: Lane) -> bool {
        match (self, lane) {
            (Self::List, _) | (Self::Reads | Self::Calls, Lane::Act) | (Self::Reads, Lane::Confirm) => true,
            (Self::Reads | Self::Calls, Lane::Observe) | (Self::Calls, Lane::Confirm) => false,
        }
    }
}

/// A closed gate with one probe at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gate {
    /// When the trouble began.
    since: Moment,
    probes: u32,
    next: Moment,
    /// Whether a probe is on the wire.
    probing: bool,
}

/// The cause of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseCause {
    /// 429, or another refusal with `Retry-After`.
    Refused,
    /// `X-RateLimit-Remaining: 0` on an answer.
    Exhausted,
}

impl PauseCause {
    /// The cause for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "the server refused a request because of the rate limit",
            Self::Exhausted => "the server says that no request is left (X-RateLimit-Remaining: 0)",
        }
    }
}

/// A pause of all requests. It ends with the success of the one request that is sent after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    until: Moment,
    cause: PauseCause,
    probing: bool,
}

/// One app's refusal that may be the account's: the next request to another app or the list shows which.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suspicion {
    app: AppId,
    until: Moment,
    probing: bool,
}

/// A change that concerns all apps, for the log: one line for the cause, not one for each app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// All requests pause.
    Paused {
        /// For how long.
        pause: Duration,
        /// Why.
        cause: PauseCause,
        /// Whether the server asked for more than is plausible.
        bounded: bool,
        /// Whether it is the first pause of this trouble.
        first: bool,
    },
    /// The breaker opened.
    BreakerOpened,
    /// The server answers again.
    BreakerClosed,
    /// The token is not accepted.
    AccountBlocked,
    /// The token is accepted again.
    AccountUnblocked,
    /// The account may not do this.
    AccountForbidden(Forbidden),
    /// It may again.
    AccountAllowed,
}

/// The one owner of the account's budget.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    budget: Budget,
    /// Requests a minute that are allowed now; below the budget after refusals.
    rate: f64,
    tokens: f64,
    /// Observation takes at most half: its own bucket, filled half as fast.
    observe_tokens: f64,
    filled_at: Moment,
    /// Calls of a long bulk since the last read.
    calls_in_a_row: u32,
    /// What the server's headers leave us until its window ends, in requests a minute.
    window: Option<(f64, Moment)>,
    remaining: Option<u32>,
    pause: Option<Pause>,
    /// Refusals in a row, one for each pause; each success takes one away.
    refusals: u32,
    refused_since: Option<Moment>,
    suspicion: Option<Suspicion>,
    /// When each app was refused alone.
    alone: BTreeMap<AppId, Moment>,
    failing: BTreeSet<AppId>,
    account_failures: usize,
    failing_since: Option<Moment>,
    breaker: Option<Gate>,
    blocked: Option<Gate>,
    forbidden: Option<(Forbidden, Gate)>,
    /// Apps in a row that may not be read or called.
    forbidden_apps: BTreeSet<AppId>,
    declared: usize,
    /// When a blocked account was let in last, and how it was blocked before.
    let_in: Option<(Moment, Gate)>,
    salt: u64,
}

impl RateLimiter {
    /// A limiter with a full burst. The salt spreads the probes of several daemons.
    pub fn new(budget: Budget, salt: u64) -> Self {
        let rate = match budget {
            Budget::PerMinute(rate) => f64::from(rate.max(1)),
            Budget::Unlimited => f64::INFINITY,
        };
        let mut limiter = Self {
            budget,
            rate,
            tokens: 0.0,
            observe_tokens: 0.0,
            filled_at: Moment::START,
            calls_in_a_row: 0,
            window: None,
            remaining: None,
            pause: None,
            refusals: 0,
            refused_since: None,
            suspicion: None,
            alone: BTreeMap::new(),
            failing: BTreeSet::new(),
            account_failures: 0,
            failing_since: None,
            breaker: None,
            blocked: None,
            forbidden: None,
            forbidden_apps: BTreeSet::new(),
            declared: usize::MAX,
            let_in: None,
            salt,
        };
        limiter.tokens = limiter.burst();
        limiter.observe_tokens = limiter.burst() / 2.0;
        limiter
    }

    /// Notes how many apps are declared: where they are few, refusals of all of them mean the account.
    pub fn declared(&mut self, apps: usize) {
        self.declared = apps;
    }

    /// Whether the token is refused: nothing is called.
    pub fn account_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// The kind of request that the account is not allowed to make, if there is one: nothing is called.
    pub fn account_forbidden(&self) -> Option<Forbidden> {
        self.forbidden.map(|(kind, _)| kind)
    }

    /// Whether the server does not answer: only probes go out.
    pub fn breaker_open(&self) -> bool {
        self.breaker.is_some()
    }

    /// Whether the list is read only as a probe.
    pub fn list_is_a_probe(&self) -> bool {
        self.breaker_open() || self.account_forbidden() == Some(Forbidden::List)
    }

    /// The end of the pause of all requests, if there is one.
    pub fn paused_until(&self, now: Moment) -> Option<Moment> {
        self.pause.map(|pause| pause.until).filter(|until| now < *until)
    }

    /// The cause of the pause, if there is one.
    pub fn pause_cause(&self, now: Moment) -> Option<PauseCause> {
        self.pause.filter(|pause| now < pause.until).map(|pause| pause.cause)
    }

    /// When the next request may go out while something that concerns all apps holds them: the end of a pause, or the
    /// next probe.
    pub fn held_until(&self, now: Moment) -> Option<Moment> {
        let probes = [self.blocked, self.forbidden.map(|(_, gate)| gate), self.breaker];
        let next = probes.into_iter().flatten().map(|gate| gate.next);
        next.chain(self.paused_until(now)).max().filter(|at| now < *at)
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

    /// Requests a minute that observation takes: the pages of the list each `interval`, and a read of each app that
    /// the list does not show, as far as half of the budget allows them.
    pub fn observation_rate(&self, pages: u32, unlisted: u32, interval: Duration) -> f64 {
        let each = 60.0 / interval.as_secs_f64();
        let (list, reads) = (f64::from(pages) * each, f64::from(unlisted) * each);
        match self.budget {
            Budget::Unlimited => list + reads,
            Budget::PerMinute(budget) => list + reads.min((f64::from(budget.max(1)) / 2.0 - list).max(0.0)),
        }
    }

    /// The waiting lanes in the order in which to try them.
    ///
    /// Calls for a few apps go before every read. Of a longer bulk, one token in four is for reads. Reads are ordered
    /// by precedence, but one that has waited beyond its patience goes before one that has not.
    pub fn order(&self, waiting: &Waiting, now: Moment) -> impl Iterator<Item = Lane> + use<> {
        let mut reads: Vec<(bool, Lane)> = [Lane::Confirm, Lane::Observe]
            .into_iter()
            .filter_map(|lane| waiting.since(lane).map(|since| (now.since(since) < lane.patience(), lane)))
            .collect();
        let bulk = waiting.calls > FEW_CALLS;
        if !bulk {
            reads.sort_unstable();
        }
        let act = waiting.act.map(|_| Lane::Act);
        let a_read_is_next = bulk && self.calls_in_a_row + 1 >= READ_SHARE;
        let (first, last) = if a_read_is_next { (None, act) } else { (act, None) };
        first.into_iter().chain(reads.into_iter().map(|(_, lane)| lane)).chain(last)
    }

    /// When the account may be probed again, while its token is refused.
    pub fn token_probe_at(&self) -> Option<Moment> {
        self.blocked.filter(|gate| !gate.probing).map(|gate| gate.next)
    }

    /// Asks to check the token of a blocked account.
    pub fn admit_token_probe(&mut self, now: Moment) -> Admission {
        let Some(gate) = self.blocked else { return Admission::Later };
        if let refused @ (Admission::At(_) | Admission::Later) = self.admits(Lane::Confirm, [Some(gate)], now) {
            return refused;
        }
        if let Some(gate) = &mut self.blocked {
            gate.probing = true;
        }
        self.take(Lane::Confirm, now)
    }

    /// When the probe of an account may be sent that may not read or call its apps.
    pub fn forbidden_probe_at(&self) -> Option<Moment> {
        self.forbidden.filter(|(_, gate)| !gate.probing).map(|(_, gate)| gate.next)
    }

    /// Asks to send the probe of an account that may not read or call its apps.
    pub fn admit_forbidden_probe(&mut self, now: Moment) -> Admission {
        let Some((_, gate)) = self.forbidden else { return Admission::Later };
        if let refused @ (Admission::At(_) | Admission::Later) =
            self.admits(Lane::Confirm, [Some(gate), self.breaker], now)
        {
            return refused;
        }
        if let Some((_, gate)) = &mut self.forbidden {
            gate.probing = true;
        }
        if let Some(gate) = &mut self.breaker {
            gate.probing = true;
        }
        self.take(Lane::Confirm, now)
    }

    /// Whether an app's refusal is one of those that make the account count as refused.
    pub fn is_known_forbidden(&self, id: &AppId) -> bool {
        self.forbidden_apps.contains(id)
    }

    /// Nothing is left that the account would not be allowed to do.
    pub fn nothing_forbidden_is_pending(&mut self) {
        self.forbidden = None;
        self.forbidden_apps.clear();
    }

    /// A new token was found: it may be tried at once.
    pub fn token_changed(&mut self, now: Moment) {
        if let Some(gate) = &mut self.blocked {
            gate.next = gate.next.min(now);
        }
    }

    /// Asks for one request of `lane` at `now`; `Go` takes it out of the budget.
    pub fn admit(&mut self, lane: Lane, now: Moment) -> Admission {
        if self.blocked.is_some() {
            return Admission::Later;
        }
        let forbidden = self.forbidden.filter(|(kind, _)| kind.holds(lane));
        if let Some((kind, gate)) = forbidden
            && !(kind == Forbidden::List && lane == Lane::Observe)
        {
            // Its probe is asked for apart.
            return if gate.probing || now >= gate.next { Admission::Later } else { Admission::At(gate.next) };
        }
        if let refused @ (Admission::At(_) | Admission::Later) =
            self.admits(lane, [self.breaker, forbidden.map(|(_, gate)| gate)], now)
        {
            return refused;
        }
        if let Some(gate) = &mut self.breaker {
            gate.probing = true;
        }
        if forbidden.is_some()
            && let Some((_, gate)) = &mut self.forbidden
        {
            gate.probing = true;
        }
        self.take(lane, now)
    }

    /// Whether pauses, the budget and the gates admit a request of `lane`. Changes nothing that a refusal of another
    /// part would have to take back.
    fn admits<const N: usize>(&mut self, lane: Lane, gates: [Option<Gate>; N], now: Moment) -> Admission {
        if let Some(until) = self.paused_until(now) {
            return Admission::At(until);
        }
        if let Some(Suspicion { until, .. }) = &self.suspicion
            && now >= *until
        {
            self.suspicion = None;
        }
        self.fill(now);
        if let Some(wait) = self.shortage(lane, now) {
            return Admission::At(now + wait);
        }
        let probing = self.pause.is_some_and(|pause| pause.probing)
            || self.suspicion.as_ref().is_some_and(|suspicion| suspicion.probing);
        if probing {
            return Admission::Later;
        }
        gates
            .into_iter()
            .flatten()
            .map(|gate| gate.admits(now))
            .find(|at| *at != Admission::Go)
            .unwrap_or(Admission::Go)
    }

    /// Takes one request out of the budget.
    fn take(&mut self, lane: Lane, now: Moment) -> Admission {
        if let Some(pause) = self.pause.as_mut().filter(|pause| now >= pause.until) {
            pause.probing = true;
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.probing = true;
        }
        self.tokens -= 1.0;
        match lane {
            Lane::Act => self.calls_in_a_row = self.calls_in_a_row.saturating_add(1),
            Lane::Confirm => self.calls_in_a_row = 0,
            Lane::Observe => {
                self.calls_in_a_row = 0;
                self.observe_tokens -= 1.0;
            }
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
    pub fn succeeded(&mut self, call: &Call, limits: Limits, now: Moment) -> Vec<Shift> {
        self.refusals = self.refusals.saturating_sub(1);
        if self.refusals == 0 {
            self.refused_since = None;
        }
        self.not_refused(call);
        let mut shifts: Vec<Shift> = self.note_limits(limits, now).into_iter().collect();
        let most = match self.budget {
            Budget::PerMinute(budget) => f64::from(budget.max(1)),
            Budget::Unlimited => f64::INFINITY,
        };
        self.rate = (self.rate + RECOVERY).min(most);
        if self.forbidden.is_some_and(|(kind, _)| kind.disproved_by(call)) {
            self.forbidden = None;
            shifts.push(Shift::AccountAllowed);
        }
        if self.forbidden.is_none() {
            self.forbidden_apps.clear();
        }
        self.answered();
        shifts.extend(self.let_in(now));
        shifts.extend(self.breaker.take().map(|_| Shift::BreakerClosed));
        shifts
    }

    /// A request was given up before it was sent or answered (shutdown): a probe that it was is free again.
    pub fn abandoned(&mut self) {
        let forbidden = self.forbidden.as_mut().map(|(_, gate)| gate);
        for gate in [self.breaker.as_mut(), self.blocked.as_mut(), forbidden].into_iter().flatten() {
            gate.probing = false;
        }
        self.no_answer_to_the_probe();
    }

    /// Whether a refusal by the rate limit concerns only the app that was called. An app's refusal is its own if the
    /// server says that requests are left, or as long as nothing else was refused: then one request to another app or
    /// the list shows which it is.
    pub fn is_alone(&self, call: &Call, failure: &Failure, now: Moment) -> bool {
        let (Some(id), Verdict::RateLimited { .. }) = (call.app(), failure.verdict) else { return false };
        let left = failure.limits.remaining;
        if left == Some(0) || self.pause.is_some() || self.refusals > 0 || self.blocked.is_some() {
            return false;
        }
        if left.is_none() && self.suspicion.as_ref().is_some_and(|suspicion| suspicion.app != *id) {
            return false;
        }
        let recent = self.alone.iter().filter(|(app, at)| *app != id && now.since(**at) < ALONE_WINDOW);
        recent.count() < ALONE
    }

    /// A request failed.
    pub fn failed(&mut self, call: &Call, failure: &Failure, now: Moment) -> Vec<Shift> {
        let alone = self.is_alone(call, failure, now);
        let mut shifts: Vec<Shift> = Vec::new();
        if !matches!(failure.verdict, Verdict::RateLimited { .. }) {
            shifts.extend(self.note_limits(failure.limits, now));
        }
        match failure.verdict {
            Verdict::RateLimited { after } if alone => {
                self.refused_alone(call, failure, after, now);
            }
            Verdict::RateLimited { after } => {
                self.note_rate(failure.limits, now);
                shifts.extend(self.refused(after, failure.limits.bounded, now));
            }
            Verdict::AccountBlocked => {
                self.not_refused(call);
                let first = self.blocked.is_none();
                self.block(now);
                // The server did answer.
                self.answered();
                self.breaker = None;
                shifts.extend(first.then_some(Shift::AccountBlocked));
            }
            Verdict::Retry | Verdict::LostAnswer => {
                self.no_answer_to_the_probe();
                if let Some(gate) = self.blocked.as_mut().filter(|gate| gate.probing) {
                    *gate = Gate::closed(ACCOUNT_PROBES, gate.since, gate.probes, self.salt, now);
                }
                self.probe_of_the_forbidden_proved_nothing(call, now);
                shifts.extend(self.unanswered(call, now));
            }
            Verdict::Forbidden => {
                self.not_refused(call);
                self.answered();
                shifts.extend(self.let_in(now));
                shifts.extend(self.breaker.take().map(|_| Shift::BreakerClosed));
                shifts.extend(self.forbid(call, now));
            }
            Verdict::LookAgain | Verdict::Locked | Verdict::NotFound | Verdict::Unexpected => {
                self.not_refused(call);
                self.answered();
                if self.forbidden.is_none() {
                    self.forbidden_apps.clear();
                }
                self.probe_of_the_forbidden_proved_nothing(call, now);
                shifts.extend(self.let_in(now));
                shifts.extend(self.breaker.take().map(|_| Shift::BreakerClosed));
            }
        }
        shifts
    }

    fn probe_of_the_forbidden_proved_nothing(&mut self, call: &Call, now: Moment) {
        let salt = self.salt;
        let probe = self.forbidden.as_mut().filter(|(kind, gate)| gate.probing && kind.disproved_by(call));
        if let Some((_, gate)) = probe {
            *gate = Gate::closed(ACCOUNT_PROBES, gate.since, gate.probes, salt, now);
        }
    }

    fn block(&mut self, now: Moment) {
        let relapse = self.let_in.filter(|(at, _)| now.since(*at) < RELAPSE).map(|(_, gate)| gate);
        let (since, probes) = match (self.blocked, relapse) {
            (None, None) => (now, 1),
            (None, Some(before)) => (before.since, before.probes + 1),
            (Some(gate), _) if gate.probing => (gate.since, gate.probes + 1),
            // What was sent before the gate closed does not count as a probe.
            (Some(gate), _) => (gate.since, gate.probes),
        };
        self.blocked = Some(Gate::closed(ACCOUNT_PROBES, since, probes, self.salt, now));
    }

    /// The token was good for an answer.
    fn let_in(&mut self, now: Moment) -> Option<Shift> {
        let gate = self.blocked.take()?;
        self.let_in = Some((now, gate));
        Some(Shift::AccountUnblocked)
    }

    /// The account may not make this request, or the app may not be read or called.
    fn forbid(&mut self, call: &Call, now: Moment) -> Option<Shift> {
        let kind = match call {
            Call::Token | Call::List => Forbidden::List,
            Call::Read(_) => Forbidden::Reads,
            Call::Act(_) => Forbidden::Calls,
        };
        if let Some(id) = call.app() {
            self.forbidden_apps.insert(id.clone());
        }
        if let Some((known, gate)) = self.forbidden {
            let probes = gate.probes + u32::from(gate.probing);
            // The wider refusal counts: whatever may not even be listed is not read or called.
            let kind = kind.min(known);
            self.forbidden = Some((kind, Gate::closed(ACCOUNT_PROBES, gate.since, probes, self.salt, now)));
            return None;
        }
        // One app alone is that app's failure, also where no other is declared.
        let enough = FORBIDDEN_APPS.min(self.declared.max(2));
        if kind != Forbidden::List && self.forbidden_apps.len() < enough {
            return None;
        }
        self.forbidden = Some((kind, Gate::closed(ACCOUNT_PROBES, now, 1, self.salt, now)));
        Some(Shift::AccountForbidden(kind))
    }

    /// A request was not refused by the rate limit: a pause that was over has ended, and the refusal of another app was
    /// that app's own.
    fn not_refused(&mut self, call: &Call) {
        self.pause = self.pause.filter(|pause| !pause.probing);
        self.suspicion = self.suspicion.take().filter(|suspicion| call.app() == Some(&suspicion.app));
    }

    fn no_answer_to_the_probe(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.probing = false;
        }
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.probing = false;
        }
    }

    fn refused_alone(&mut self, call: &Call, failure: &Failure, after: Option<Duration>, now: Moment) {
        self.answered();
        let Some(id) = call.app() else { return };
        self.alone.retain(|_, at| now.since(*at) < ALONE_WINDOW);
        self.alone.insert(id.clone(), now);
        if failure.limits.remaining.is_none() {
            let until = now + after.unwrap_or(SHORTEST_PAUSE).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            self.suspicion = Some(Suspicion { app: id.clone(), until, probing: false });
        }
    }

    fn refused(&mut self, after: Option<Duration>, bounded: bool, now: Moment) -> Option<Shift> {
        // A request that is refused while all wait was sent before: the same trouble, not more of it.
        let known = self.paused_until(now).is_some();
        let first = self.refusals == 0;
        if !known {
            self.refusals = self.refusals.saturating_add(1);
        }
        let since = *self.refused_since.get_or_insert(now);
        if after.is_none() && self.pause.is_none() {
            // No header says what would be right: halve, and feel the way back up (multiplicative decrease). A refused
            // probe was one request: it says nothing of the rate.
            self.rate = (self.rate / 2.0).max(LEAST_RATE.min(self.rate)).min(RATE_AFTER_ALL);
        }
        self.tokens = self.tokens.min(0.0);
        self.observe_tokens = self.observe_tokens.min(0.0);
        let own = PER_APP.steady_wait(self.refusals, self.salt, now.since(since));
        let pause = own.max(after.unwrap_or_default()).max(SHORTEST_PAUSE).min(LONGEST_PAUSE);
        let earlier = self.suspicion.take().map(|suspicion| suspicion.until);
        let until = [Some(now + pause), earlier, self.paused_until(now)].into_iter().flatten().max();
        let until = until.unwrap_or(now + pause);
        self.pause = Some(Pause { until, cause: PauseCause::Refused, probing: false });
        // It did answer; a probe that was refused is to be made again after the pause.
        self.answered();
        self.abandoned();
        // One line for a cause: thirty calls that were on the wire together are refused together.
        (!known).then_some(Shift::Paused { pause: until.since(now), cause: PauseCause::Refused, bounded, first })
    }

    fn answered(&mut self) {
        self.failing.clear();
        self.account_failures = 0;
        self.failing_since = None;
    }

    fn unanswered(&mut self, call: &Call, now: Moment) -> Option<Shift> {
        let since = *self.failing_since.get_or_insert(now);
        match call.app() {
            None => self.account_failures += 1,
            Some(id) => drop(self.failing.insert(id.clone())),
        }
        if let Some(gate) = &mut self.breaker {
            // Answers to requests that were sent before it opened do not count as probes.
            if gate.probing {
                *gate = Gate::closed(PROBES, gate.since, gate.probes.saturating_add(1), self.salt, now);
            }
            return None;
        }
        if self.failing.len() + self.account_failures < BREAKER_FAILURES {
            return None;
        }
        self.failing.clear();
        self.breaker = Some(Gate::closed(PROBES, since, 1, self.salt, now));
        Some(Shift::BreakerOpened)
    }

    /// Takes the rate-limit headers in. Where they say that nothing is left, all requests pause.
    fn note_limits(&mut self, limits: Limits, now: Moment) -> Option<Shift> {
        let reset = self.note_rate(limits, now)?;
        if limits.remaining != Some(0) {
            return None;
        }
        let pause = reset.max(SHORTEST_PAUSE);
        let (until, known) = (now + pause, self.paused_until(now));
        if known.is_none_or(|known| known < until) {
            self.pause = Some(Pause { until, cause: PauseCause::Exhausted, probing: false });
        }
        let (cause, bounded) = (PauseCause::Exhausted, limits.bounded);
        known.is_none().then_some(Shift::Paused { pause, cause, bounded, first: true })
    }

    /// Lowers the rate as the headers say. Returns when their window ends; `None` without a budget.
    fn note_rate(&mut self, limits: Limits, now: Moment) -> Option<Duration> {
        let Budget::PerMinute(budget) = self.budget else { return None };
        self.remaining = limits.remaining.or(self.remaining);
        let mut allowed = f64::from(budget.max(1));
        if let Some(limit) = limits.limit {
            // Two thirds, as of the documented limit: the rest is other people's.
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

impl Gate {
    fn closed(schedule: Schedule, since: Moment, probes: u32, salt: u64, now: Moment) -> Self {
        let wait = schedule.steady_wait(probes, salt, now.since(since));
        Self { since, probes, next: now + wait, probing: false }
    }

    fn admits(self, now: Moment) -> Admission {
        match () {
            () if self.probing => Admission::Later,
            () if now < self.next => Admission::At(self.next),
            () => Admission::Go,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(verdict: Verdict) -> Failure {
        Failure { verdict, http_status: None, message: "x".into(), limits: Limits::default(), repeats: 0 }
    }

    fn paused(seconds: u64) -> Shift {
        let pause = Duration::from_secs(seconds);
        Shift::Paused { pause, cause: PauseCause::Refused, bounded: false, first: true }
    }

    fn app(n: usize) -> Call {
        Call::Act(format!("app-{n}").parse().unwrap())
    }

    /// How many requests of `lane` go out in `seconds`, asked for as fast as they are allowed.
    fn drain(limiter: &mut RateLimiter, lane: Lane, from: u64, seconds: u64) -> u32 {
        let (mut now, mut count) = (Moment::from_secs(from), 0);
        while now < Moment::from_secs(from + seconds) {
            match limiter.admit(lane, now) {
                Admission::Go => count += 1,
                Admission::At(at) => now = at,
                Admission::Later => break,
            }
        }
        count
    }

    #[test]
    fn the_budget_holds_and_observation_takes_half_of_it() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        assert_eq!(drain(&mut limiter, Lane::Act, 0, 60), 130 - 1); // a burst of ten, then two a second
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        assert_eq!(drain(&mut limiter, Lane::Observe, 0, 60), 65 - 1);
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        drain(&mut limiter, Lane::Observe, 0, 60);
        assert!(drain(&mut limiter, Lane::Act, 60, 60) >= 120, "what observation leaves is for calls");
    }

    #[test]
    fn a_repeat_is_charged_and_leaves_at_most_one_token_below_zero() {
        let now = Moment::START;
        let mut limiter = RateLimiter::new(Budget::PerMinute(60), 0);
        while limiter.admit(Lane::Act, now) == Admission::Go {}
        limiter.charge(0, now);
        let unpaid = limiter.clone().admit(Lane::Act, now);
        assert_eq!(unpaid, Admission::At(now + Duration::from_secs(1) + Duration::from_micros(1)));
        limiter.charge(1, now);
        let owing = Admission::At(now + Duration::from_secs(2) + Duration::from_micros(1));
        assert_eq!(limiter.clone().admit(Lane::Act, now), owing);
        // Nine connections died at once.
        (0..8).for_each(|_| limiter.charge(1, now));
        assert_eq!(limiter.admit(Lane::Act, now), owing);
        let mut unlimited = RateLimiter::new(Budget::Unlimited, 0);
        unlimited.charge(1, now);
        assert_eq!(unlimited.admit(Lane::Act, now), Admission::Go);
    }

    #[test]
    fn an_unlimited_budget_is_not_paced() {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        assert!((0..10_000).all(|_| limiter.admit(Lane::Act, Moment::START) == Admission::Go));
    }

    /// Fault V4: ten requests a second are served, forty are wanted, and no header says so.
    #[test]
    fn a_limit_that_nobody_told_of_is_felt_out() {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        let (mut wanted, mut refused, mut millis) = (40, 0, 0_u64);
        let (mut second, mut served) = (0, 0);
        while wanted > 0 {
            let now = Moment::from_secs(100) + Duration::from_millis(millis);
            if millis / 1000 != second {
                (second, served) = (millis / 1000, 0);
            }
            // Thirty-two calls at most are on the wire at once.
            let sent = (0..32.min(wanted)).take_while(|_| limiter.admit(Lane::Act, now) == Admission::Go).count();
            for _ in 0..sent {
                if served < 10 {
                    (served, wanted) = (served + 1, wanted - 1);
                    limiter.succeeded(&Call::List, Limits::default(), now);
                } else {
                    refused += 1;
                    limiter.failed(&app(refused), &failure(Verdict::RateLimited { after: None }), now);
                }
            }
            millis += 10;
        }
        assert!(millis < 10_000 && refused < 40, "{millis} ms, {refused} refused");
    }

    #[test]
    fn a_pause_is_obeyed_by_everybody() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let refusal = failure(Verdict::RateLimited { after: Some(Duration::from_secs(5)) });
        let now = Moment::from_secs(100);
        assert_eq!(limiter.failed(&Call::List, &refusal, now), [paused(5)]);
        for lane in Lane::ALL {
            assert_eq!(limiter.admit(lane, now), Admission::At(Moment::from_secs(105)));
        }
        // A shorter pause that arrives later does not shorten it.
        let shorter = failure(Verdict::RateLimited { after: Some(Duration::ZERO) });
        assert_eq!(limiter.failed(&app(2), &shorter, now), [], "it is told once");
        assert_eq!(limiter.admit(Lane::Act, now), Admission::At(Moment::from_secs(105)));
        assert!(matches!(limiter.admit(Lane::Act, Moment::from_secs(110)), Admission::Go));
    }

    #[test]
    fn refusals_without_a_header_slow_down_and_successes_speed_up_again() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let mut now = Moment::from_secs(1);
        let refused = failure(Verdict::RateLimited { after: None });
        limiter.failed(&Call::List, &refused, now);
        limiter.failed(&app(2), &refused, now);
        assert_eq!(limiter.requests_per_minute(now), Some(60.0), "answers to one burst are one refusal");
        for _ in 0..10 {
            now = probe(&mut limiter, now);
            limiter.failed(&app(1), &refused, now);
        }
        assert_eq!(limiter.requests_per_minute(now), Some(60.0), "a refused probe says nothing of the rate");
        for _ in 0..200 {
            now = probe(&mut limiter, now);
            limiter.succeeded(&app(1), Limits::default(), now);
            limiter.failed(&Call::List, &refused, now);
        }
        assert_eq!(limiter.requests_per_minute(now), Some(LEAST_RATE));
        for _ in 0..200 {
            limiter.succeeded(&Call::List, Limits::default(), now);
        }
        assert_eq!(limiter.requests_per_minute(now), Some(120.0));
    }

    /// The moment at which the probe after a pause goes out.
    fn probe(limiter: &mut RateLimiter, mut now: Moment) -> Moment {
        loop {
            match limiter.admit(Lane::Act, now) {
                Admission::Go => return now,
                Admission::At(at) => now = at,
                Admission::Later => panic!("no probe is on the wire"),
            }
        }
    }

    /// Requests in 50 s to a server that refuses each of them.
    fn refused_requests(budget: Budget, after: Option<u64>, salt: u64) -> (u32, u32) {
        let mut limiter = RateLimiter::new(budget, salt);
        let refused = failure(Verdict::RateLimited { after: after.map(Duration::from_secs) });
        let (start, mut now, mut halves) = (Moment::from_secs(100), Moment::from_secs(100), [0, 0]);
        while now < start + Duration::from_secs(50) {
            match limiter.admit(Lane::Observe, now) {
                Admission::Go => {
                    halves[usize::from(now >= start + Duration::from_secs(25))] += 1;
                    limiter.failed(&Call::List, &refused, now);
                }
                Admission::At(at) => now = at,
                Admission::Later => panic!("no probe is on the wire"),
            }
        }
        (halves[0], halves[1])
    }

    #[test]
    fn refusals_slow_down_whatever_the_header_says() {
        for salt in 0..50 {
            for (budget, after) in [
                (Budget::PerMinute(120), Some(1)),
                (Budget::PerMinute(120), None),
                (Budget::Unlimited, Some(0)),
                (Budget::Unlimited, Some(1)),
            ] {
                let (first, second) = refused_requests(budget, after, salt);
                assert!(first + second <= 12 && second < first && second > 0, "{budget:?} {after:?}: {first} {second}");
            }
        }
    }

    #[test]
    fn after_a_pause_one_probe_goes_first() {
        for budget in [Budget::PerMinute(600), Budget::Unlimited] {
            let mut limiter = RateLimiter::new(budget, 0);
            let now = Moment::from_secs(100);
            limiter.failed(&Call::List, &failure(Verdict::RateLimited { after: Some(Duration::from_secs(5)) }), now);
            let after = now + Duration::from_secs(5);
            assert_eq!(limiter.admit(Lane::Act, after), Admission::Go);
            assert_eq!(limiter.admit(Lane::Act, after), Admission::Later);
            limiter.failed(&app(1), &failure(Verdict::LostAnswer), after);
            assert_eq!(limiter.admit(Lane::Act, after), Admission::Go, "a probe without an answer is repeated");
            limiter.failed(&app(1), &failure(Verdict::NotFound), after);
            assert_eq!(limiter.admit(Lane::Act, after), Admission::Go);
            assert_eq!(limiter.admit(Lane::Act, after), Admission::Go, "any answer but a refusal ends the pause");
        }
    }

    #[test]
    fn a_wait_is_not_longer_than_the_trouble() {
        let gone = failure(Verdict::Retry);
        for salt in 0..50 {
            let mut limiter = RateLimiter::new(Budget::PerMinute(120), salt);
            let (start, mut now) = (Moment::from_secs(100), Moment::from_secs(100));
            for n in 0..4 {
                limiter.failed(&app(n), &gone, now);
            }
            while now < start + Duration::from_secs(200) {
                limiter.failed(&Call::List, &gone, now);
                let next = probe(&mut limiter, now);
                let most = now.since(start).max(Duration::from_secs(5));
                assert!(next.since(now) <= most, "{:?} after {:?}", next.since(now), now.since(start));
                now = next;
            }
        }
    }

    #[test]
    fn one_apps_refusal_is_its_own_until_another_request_is_refused() {
        let after = Some(Duration::from_secs(30));
        let (now, refused) = (Moment::from_secs(100), failure(Verdict::RateLimited { after }));
        let left = |remaining| Failure { limits: Limits { remaining, ..Limits::default() }, ..refused.clone() };
        let fresh = || RateLimiter::new(Budget::PerMinute(120), 0);

        let mut limiter = fresh();
        assert!(limiter.is_alone(&app(1), &refused, now));
        assert_eq!(limiter.failed(&app(1), &refused, now), []);
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Go, "one request to others shows whose it is");
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Later);
        limiter.succeeded(&app(2), Limits::default(), now);
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);

        let mut limiter = fresh();
        limiter.failed(&app(1), &refused, now);
        assert!(!limiter.is_alone(&app(2), &refused, now));
        limiter.failed(&app(2), &refused, now);
        assert_eq!(
            limiter.admit(Lane::Act, now),
            Admission::At(now + Duration::from_secs(30)),
            "two are the account's"
        );

        let mut limiter = fresh();
        limiter.failed(&app(1), &left(Some(20)), now);
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Go, "the server says that requests are left");
        limiter.failed(&app(2), &left(Some(19)), now);
        assert!(!limiter.is_alone(&app(3), &left(Some(18)), now), "many apps' refusals are the account's");

        assert!(!fresh().is_alone(&app(1), &left(Some(0)), now));
        assert!(!fresh().is_alone(&Call::List, &refused, now) && !fresh().is_alone(&Call::Token, &refused, now));
        let mut limiter = fresh();
        limiter.failed(&Call::List, &refused, now);
        assert!(
            !limiter.is_alone(&app(1), &refused, now + Duration::from_secs(31)),
            "the account was refused just now"
        );
    }

    #[test]
    fn one_apps_refusal_that_nothing_disproves_ends_with_its_pause() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let now = Moment::from_secs(100);
        let after = Some(Duration::from_secs(30));
        limiter.failed(&app(1), &failure(Verdict::RateLimited { after }), now);
        let later = now + Duration::from_secs(31);
        assert_eq!(limiter.admit(Lane::Act, later), Admission::Go);
        assert_eq!(limiter.admit(Lane::Act, later), Admission::Go);
    }

    #[test]
    fn a_forbidden_list_is_a_forbidden_account() {
        let (mut now, forbidden) = (Moment::from_secs(100), failure(Verdict::Forbidden));
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        let shifts = limiter.failed(&Call::List, &forbidden, now);
        assert_eq!(shifts, [Shift::AccountForbidden(Forbidden::List)]);
        let (start, mut probes) = (now, 0);
        while now < start + Duration::from_secs(600) {
            assert!(!matches!(limiter.admit(Lane::Act, now), Admission::Go));
            assert!(!matches!(limiter.admit(Lane::Confirm, now), Admission::Go));
            match limiter.admit(Lane::Observe, now) {
                Admission::Go => {
                    probes += 1;
                    assert_eq!(limiter.admit(Lane::Observe, now), Admission::Later, "one probe at a time");
                    assert_eq!(limiter.failed(&Call::List, &forbidden, now), [], "it is told once");
                }
                Admission::At(at) => now = at,
                Admission::Later => panic!("no probe is on the wire"),
            }
        }
        assert!((20..=45).contains(&probes), "{probes} probes in ten minutes");
        assert_eq!(limiter.succeeded(&Call::List, Limits::default(), now), [Shift::AccountAllowed]);
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Go);
    }

    #[track_caller]
    fn forbidden_row(declared: usize, calls: &[Call], expected: Option<usize>) {
        let (now, forbidden) = (Moment::from_secs(100), failure(Verdict::Forbidden));
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        limiter.declared(declared);
        let first = calls.iter().position(|call| match call {
            Call::List => limiter.succeeded(call, Limits::default(), now).contains(&Shift::AccountAllowed),
            Call::Token | Call::Read(_) | Call::Act(_) => !limiter.failed(call, &forbidden, now).is_empty(),
        });
        assert_eq!(first.map(|at| at + 1), expected);
    }

    #[test]
    fn forbidden_apps_in_a_row_are_a_forbidden_account() {
        let (now, forbidden) = (Moment::from_secs(100), failure(Verdict::Forbidden));
        let apps = |n| (0..n).map(app).collect::<Vec<Call>>();
        forbidden_row(40, &apps(9), Some(5));
        forbidden_row(40, &apps(4), None);
        forbidden_row(3, &apps(3), Some(3));
        forbidden_row(1, &[app(0), app(0), app(0)], None);
        forbidden_row(40, &vec![app(0); 20], None);
        let mut interrupted = apps(4);
        interrupted.push(Call::List);
        interrupted.extend((4..8).map(app));
        forbidden_row(40, &interrupted, None);

        // Reads of the list go on, since they are not what is forbidden; a call that is accepted ends it.
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        for n in 0..5 {
            limiter.failed(&app(n), &forbidden, now);
        }
        assert_eq!(limiter.account_forbidden(), Some(Forbidden::Calls));
        assert_eq!(limiter.admit(Lane::Observe, now), Admission::Go);
        assert_eq!(limiter.succeeded(&Call::List, Limits::default(), now), []);
        assert_eq!(limiter.account_forbidden(), Some(Forbidden::Calls));
        let at = limiter.forbidden_probe_at().unwrap();
        assert_eq!(limiter.admit(Lane::Act, now), Admission::At(at));
        assert_eq!(limiter.admit_forbidden_probe(now), Admission::At(at));
        assert_eq!(limiter.admit_forbidden_probe(at), Admission::Go);
        assert_eq!(limiter.admit_forbidden_probe(at), Admission::Later);
        assert_eq!(limiter.failed(&app(7), &forbidden, at), []);
        assert!(limiter.forbidden_probe_at().unwrap() > at);
        assert_eq!(limiter.succeeded(&app(8), Limits::default(), at), [Shift::AccountAllowed]);
        assert_eq!(limiter.admit(Lane::Act, at), Admission::Go);
    }

    #[test]
    fn an_answer_that_locks_an_app_is_an_answer() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let now = Moment::from_secs(100);
        for n in 0..20 {
            assert_eq!(limiter.failed(&app(n), &failure(Verdict::Locked), now), [], "the breaker stays closed");
        }
    }

    #[test]
    fn a_used_up_budget_pauses_and_says_so() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let now = Moment::from_secs(100);
        let seconds = |n| Some(Duration::from_secs(n));
        let none_left = |reset| Limits { remaining: Some(0), reset: seconds(reset), ..Limits::default() };
        let said =
            Shift::Paused { pause: Duration::from_secs(30), cause: PauseCause::Exhausted, bounded: false, first: true };
        assert_eq!(limiter.succeeded(&Call::List, none_left(30), now), [said]);
        assert_eq!(limiter.succeeded(&app(1), none_left(30), now), [], "it is told once");
        assert_eq!(limiter.pause_cause(now), Some(PauseCause::Exhausted));
        assert_eq!(limiter.held_until(now), Some(now + Duration::from_secs(30)));
        let bounded = Limits { bounded: true, ..none_left(3600) };
        let shifts = limiter.succeeded(&app(1), bounded, now + Duration::from_secs(31));
        assert!(matches!(shifts[..], [Shift::Paused { bounded: true, .. }]), "{shifts:?}");
    }

    #[test]
    fn the_servers_headers_lower_the_rate_until_their_window_ends() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let now = Moment::from_secs(10);
        let seconds = |n| Some(Duration::from_secs(n));
        limiter.succeeded(
            &Call::List,
            Limits { limit: Some(180), remaining: Some(150), reset: seconds(50), ..Limits::default() },
            now,
        );
        assert_eq!(limiter.requests_per_minute(now), Some(120.0));
        // Others use the account: what remains is spread over the rest of the window.
        limiter.succeeded(
            &Call::List,
            Limits { limit: Some(180), remaining: Some(20), reset: seconds(30), ..Limits::default() },
            now,
        );
        assert_eq!(limiter.requests_per_minute(now), Some(40.0));
        assert_eq!(limiter.requests_per_minute(Moment::from_secs(41)), Some(120.0));
        // The limit itself went down.
        limiter.succeeded(
            &Call::List,
            Limits { limit: Some(60), remaining: Some(59), reset: seconds(30), ..Limits::default() },
            now,
        );
        assert_eq!(limiter.requests_per_minute(now), Some(40.0));
        // Nothing remains: wait for the reset.
        limiter.succeeded(
            &Call::List,
            Limits { limit: Some(180), remaining: Some(0), reset: seconds(7), ..Limits::default() },
            now,
        );
        assert_eq!(limiter.admit(Lane::Act, now), Admission::At(Moment::from_secs(17)));
    }

    #[test]
    fn five_different_failures_open_the_breaker_and_one_answer_closes_it() {
        let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let (now, lost) = (Moment::from_secs(100), failure(Verdict::LostAnswer));
        for _ in 0..20 {
            assert_eq!(limiter.failed(&app(0), &lost, now), [], "one app is that app's failure");
        }
        for n in 1..4 {
            assert_eq!(limiter.failed(&app(n), &lost, now), []);
        }
        assert_eq!(limiter.failed(&app(4), &lost, now), [Shift::BreakerOpened]);
        let Admission::At(probe) = limiter.admit(Lane::Act, now) else { panic!("no probe is due yet") };
        assert_eq!(limiter.admit(Lane::Observe, probe), Admission::Go);
        assert_eq!(limiter.admit(Lane::Act, probe), Admission::Later, "one probe at a time");
        assert_eq!(limiter.failed(&Call::List, &lost, probe), []);
        assert!(matches!(limiter.admit(Lane::Observe, probe), Admission::At(at) if at > probe));
        assert_eq!(limiter.succeeded(&Call::List, Limits::default(), probe), [Shift::BreakerClosed]);
        assert_eq!(limiter.admit(Lane::Act, probe), Admission::Go);
    }

    #[test]
    fn a_refused_token_blocks_everything_but_its_own_probe() {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        let (now, refused) = (Moment::from_secs(100), failure(Verdict::AccountBlocked));
        assert_eq!(limiter.failed(&app(1), &refused, now), [Shift::AccountBlocked]);
        assert_eq!(limiter.failed(&app(2), &refused, now), [], "one line for the cause");
        assert_eq!(limiter.admit(Lane::Act, now), Admission::Later);
        let at = limiter.token_probe_at().unwrap();
        assert!(at > now);
        assert_eq!(limiter.admit_token_probe(at), Admission::Go);
        assert_eq!(limiter.admit_token_probe(at), Admission::Later);
        limiter.failed(&Call::List, &refused, at);
        assert!(limiter.token_probe_at().unwrap() > at);
        limiter.token_changed(at);
        assert_eq!(limiter.admit_token_probe(at), Admission::Go, "a new token is tried at once");
        assert_eq!(limiter.succeeded(&Call::List, Limits::default(), at), [Shift::AccountUnblocked]);
        assert_eq!(limiter.admit(Lane::Act, at), Admission::Go);
    }

    #[test]
    fn a_token_probe_waits_for_the_pause_that_was_asked_for() {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        let now = Moment::from_secs(100);
        limiter.failed(&Call::List, &failure(Verdict::AccountBlocked), now);
        let at = limiter.token_probe_at().unwrap();
        assert_eq!(limiter.admit_token_probe(at), Admission::Go);
        let after = Some(Duration::from_secs(7));
        limiter.failed(&Call::List, &failure(Verdict::RateLimited { after }), at);
        assert_eq!(limiter.admit_token_probe(at), Admission::At(at + Duration::from_secs(7)));
    }

    #[test]
    fn a_token_that_is_good_for_nothing_but_its_probe_is_probed_ever_more_slowly() {
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        let mut now = Moment::from_secs(100);
        let mut waits = Vec::new();
        for _ in 0..8 {
            limiter.failed(&Call::List, &failure(Verdict::AccountBlocked), now);
            let at = limiter.token_probe_at().unwrap();
            waits.push(at.since(now));
            assert_eq!(limiter.admit_token_probe(at), Admission::Go);
            limiter.succeeded(&Call::List, Limits::default(), at);
            now = at;
        }
        assert!(waits[7] >= ACCOUNT_PROBES.cap / 2, "{waits:?}");
    }

    #[test]
    fn calls_for_a_few_apps_go_before_every_read() {
        let s = Moment::from_secs;
        let limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let order = |waiting, now| limiter.order(&waiting, now).collect::<Vec<_>>();
        let few = Waiting { act: Some(s(0)), calls: 10, confirm: Some(s(98)), observe: Some(s(90)) };
        for now in [100, 103, 105, 1_000] {
            assert_eq!(order(few, s(now))[0], Lane::Act, "however long reads have waited");
        }
        // Aging orders the reads among themselves.
        assert_eq!(order(few, s(100))[1..], [Lane::Confirm, Lane::Observe]);
        let overdue = Waiting { confirm: Some(s(104)), ..few };
        assert_eq!(order(overdue, s(105))[1..], [Lane::Observe, Lane::Confirm]);
        assert_eq!(order(Waiting { act: None, calls: 0, ..overdue }, s(105)), [Lane::Observe, Lane::Confirm]);
        assert_eq!(order(Waiting::default(), s(105)), []);
    }

    #[test]
    fn of_a_longer_bulk_one_token_in_four_is_for_reads() {
        let s = Moment::from_secs;
        let mut limiter = RateLimiter::new(Budget::Unlimited, 0);
        let waiting = Waiting { act: Some(s(0)), calls: 11, confirm: Some(s(99)), observe: Some(s(0)) };
        let mut sent = Vec::new();
        for _ in 0..8 {
            let lane = limiter.order(&waiting, s(100)).next().unwrap();
            assert_eq!(limiter.admit(lane, s(100)), Admission::Go);
            sent.push(lane);
        }
        let quarter = [Lane::Act, Lane::Act, Lane::Act, Lane::Confirm];
        assert_eq!(sent, [quarter, quarter].concat(), "confirmations before routine reads");
        let waiting = Waiting { confirm: None, observe: None, ..waiting };
        assert_eq!(limiter.order(&waiting, s(100)).collect::<Vec<_>>(), [Lane::Act], "calls take what reads do not");
    }

    #[test]
    fn observation_counts_the_reads_of_unlisted_apps() {
        let limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        let rate = |pages, unlisted, seconds| limiter.observation_rate(pages, unlisted, Duration::from_secs(seconds));
        for ((pages, unlisted, seconds), expected) in
            [((1, 0, 60), 1.0), ((1, 35, 60), 36.0), ((1, 35, 10), 60.0), ((30, 200, 60), 60.0), ((100, 9, 100), 60.0)]
        {
            let rate = rate(pages, unlisted, seconds);
            assert!((rate - expected).abs() < 0.01, "{pages} {unlisted} {seconds}: {rate}");
        }
    }

    #[test]
    fn many_pages_stretch_the_interval() {
        let limiter = RateLimiter::new(Budget::PerMinute(120), 0);
        assert_eq!(limiter.list_interval(3, Duration::from_secs(60)), Duration::from_secs(60));
        assert_eq!(limiter.list_interval(100, Duration::from_secs(60)), Duration::from_secs(100));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(budget in 1..1_000_u32, gaps in proptest::collection::vec(0..3_000_u64, 1..300)) {
            let mut limiter = RateLimiter::new(Budget::PerMinute(budget), 0);
            let mut sent = Vec::new();
            let mut now = Moment::START;
            for (index, gap) in gaps.into_iter().enumerate() {
                now = now + Duration::from_millis(gap);
                if limiter.admit(Lane::ALL[index % 3], now) == Admission::Go {
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
