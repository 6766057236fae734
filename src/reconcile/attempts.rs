//! Attempts on one app: the call in flight, the call being verified, failures in a row with their backoff, and
//! departures from the desired state.
//!
//! They decide which readings are trusted. Each method takes the time; a wake-up during backoff changes nothing, so it
//! neither calls nor counts.

use std::time::Duration;

use jiff::Timestamp;

use super::backoff::{self, PER_APP, SINGLE_READS, WITHOUT_EFFECT};
use super::moment::Moment;
use super::outcome::Verdict;
use super::reading::Reading;
use super::reason::Reason;
use super::restart::{Causes, RestartNeed};
use super::state::Action;
use super::state::Desired;
use super::state::Observed;

/// Departures from the desired state within [`CONTEST_WINDOW`] that make an app contested.
const CONTEST_DEPARTURES: usize = 3;
/// Minimum wait before a call whose answer was lost is repeated: readings lag behind its effect.
const LOST_ANSWER_DELAY: Duration = Duration::from_secs(5);
const CONTEST_WINDOW: Duration = Duration::from_hours(1);

/// A reading with the time of its request: it proves nothing about later times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedReading {
    pub reading: Reading,
    pub requested_at: Moment,
    /// Wall time, for display.
    pub received_at: Timestamp,
}

/// The last call that may have had an effect. It outlives edits: they do not undo its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastCall {
    action: Action,
    /// Time of its answer, or of the loss of the answer.
    ended_at: Moment,
    /// The server's `Date` of its answer.
    date: Option<Timestamp>,
    /// Time from which metrics that are older than the call count as frozen, not late.
    metrics_deadline: Moment,
    /// Time of the metrics that caused the call.
    basis: Option<Timestamp>,
}

/// A call in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    action: Action,
    /// Time of the metrics that caused it.
    basis: Option<Timestamp>,
    /// The causes of a restart.
    causes: Causes,
}

/// A call that was accepted, or whose answer was lost, and whose effect is not visible yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verifying {
    action: Action,
    /// Whether the server accepted it; otherwise the result is unknown.
    accepted: bool,
    /// Latest time of its effect; `None` from then on, until a reading decides.
    deadline: Option<Moment>,
}

/// Attempts on one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    salt: u64,
    failures: u32,
    failing_since: Option<Moment>,
    not_before: Option<Moment>,
    /// End of a pause that the server requested for this app. An edit does not change it.
    held_until: Option<Moment>,
    /// Reason of the gate, if it is not a plain retry.
    because: Option<Reason>,
    in_flight: Option<InFlight>,
    /// The causes for which a restart was sent that may have had an effect. They outlive edits.
    restarted: Causes,
    last_call: Option<LastCall>,
    verifying: Option<Verifying>,
    read_at: Option<Moment>,
    reads: u32,
    /// Whether a call waits for the pending read.
    urgent: bool,
    reached_by_our_call: bool,
    departures: Vec<Moment>,
}

/// Effect of a call, from a reading or the time, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A reading shows the state that the call causes.
    Verified(Action),
    /// The call was accepted, and a reading after its deadline shows no effect.
    NotEffective(Action),
    /// The app left the desired state that a call had reached; the number of departures within the hour.
    Contested(usize),
}

impl Attempts {
    /// The salt spreads the backoff of different apps; the same salt gives the same waits.
    pub fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    /// Returns whether there are no attempts: then a reading that equals the last one changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::new(self.salt)
    }

    pub fn in_flight(&self) -> Option<Action> {
        self.in_flight.map(|call| call.action)
    }

    /// The accepted call whose effect is not visible yet.
    pub fn verifying(&self) -> Option<Action> {
        self.verifying.filter(|verifying| verifying.accepted).map(|verifying| verifying.action)
    }

    /// Number of the next attempt, from 1 since the last success or spec change.
    pub fn next_attempt(&self) -> u32 {
        self.failures + 1
    }

    /// Time of the pending single read.
    pub fn read_at(&self) -> Option<Moment> {
        self.read_at
    }

    /// Returns whether the pending read goes before others: the target changed while a call was not verified.
    pub fn read_is_urgent(&self) -> bool {
        self.urgent
    }

    /// The end of the backoff or of a verification.
    pub fn wake_at(&self) -> Option<Moment> {
        let deadline = self.verifying.filter(|verifying| verifying.accepted).and_then(|verifying| verifying.deadline);
        // No call before the later time.
        let gate = self.not_before.max(self.held_until);
        [deadline, gate].into_iter().flatten().min()
    }

    /// The gate of this app at `now`: its reason and its end.
    pub fn gate(&self, now: Moment) -> Option<(Reason, Moment)> {
        let until = self.not_before.max(self.held_until).filter(|until| now < *until)?;
        Some((self.because.unwrap_or(Reason::BackingOff), until))
    }

    /// Reason of the last failed call or verification, if it was not a plain failure.
    pub fn because(&self) -> Option<Reason> {
        self.because
    }

    /// The state that a reading shows, or `Unknown` if it is older than the last call of the operator.
    ///
    /// Older means: requested before the answer to the call, or with metrics from before the server's `Date` of that
    /// answer. There is one exception: a reading that agrees with the call, and whose metrics are not older than those
    /// that caused the call. These showed the opposite state, so the change proves the effect. Without the exception,
    /// if the server froze the last metrics of a stopped app (this is not documented), the operator would stop the app
    /// repeatedly. The rule ends at the deadline of the verification: metrics that are older even then are frozen, not
    /// late, and otherwise a start without effect would never be repeated.
    pub fn trusted(&self, timed_reading: Option<&TimedReading>) -> Observed {
        let Some(timed_reading) = timed_reading else { return Observed::Unknown };
        let observed = timed_reading.reading.observed;
        let Some(call) = &self.last_call else { return observed };
        if timed_reading.requested_at < call.ended_at {
            return Observed::Unknown;
        }
        match (timed_reading.reading.taken_at, call.date) {
            (Some(taken), Some(date)) if taken < date && timed_reading.requested_at < call.metrics_deadline => {
                // An app is running before a restart and after it, so its state proves nothing.
                let agrees = call.action != Action::Restart && satisfies(observed, call.action.aims_at());
                let flipped = call.basis.is_some_and(|basis| taken >= basis);
                if agrees && flipped { observed } else { Observed::Unknown }
            }
            _ => observed,
        }
    }

    /// The causes for which a restart was sent.
    pub const fn restarted(&self) -> &Causes {
        &self.restarted
    }

    /// Takes a report of the platform that no restart is required.
    pub fn no_restart_required(&mut self) {
        self.restarted.forget_required();
    }

    /// Begins a call, because of `basis`.
    pub fn begin(&mut self, action: Action, basis: Option<&TimedReading>) {
        self.begin_call(action, Causes::default(), basis);
    }

    /// Begins a restart, for `causes`.
    pub fn begin_restart(&mut self, causes: Causes, basis: Option<&TimedReading>) {
        self.begin_call(Action::Restart, causes, basis);
    }

    fn begin_call(&mut self, action: Action, causes: Causes, basis: Option<&TimedReading>) {
        let basis = basis.and_then(|timed_reading| timed_reading.reading.taken_at);
        self.in_flight = Some(InFlight { action, basis, causes });
        self.reached_by_our_call = false;
        self.verifying = None;
        self.cancel_read();
    }

    /// Takes the acceptance of the call. Its effect is expected within `confirm_timeout`.
    pub fn accepted(&mut self, date: Option<Timestamp>, confirm_timeout: Duration, now: Moment) {
        let deadline = now + confirm_timeout;
        let Some(action) = self.end_call(date, deadline, now) else { return };
        self.verifying = Some(Verifying { action, accepted: true, deadline: Some(deadline) });
        self.reads = 1;
        self.read_at = Some(now + SINGLE_READS.ceiling(1));
    }

    /// Takes the failure of the call. Failures of the account or of all requests do not delay this app alone.
    pub fn failed(&mut self, verdict: Verdict, interval: Duration, now: Moment) {
        match verdict {
            // Not this app's failure: the rate limiter holds all apps, and the next attempt has the same number.
            Verdict::RateLimited { .. } | Verdict::AccountBlocked => self.in_flight = None,
            Verdict::Retry | Verdict::Locked => {
                let action = self.in_flight.take().map(|call| call.action).filter(|action| action.is_idempotent());
                self.back_off(None, Duration::ZERO, now);
                self.verifying = action.map(|action| Verifying { action, accepted: false, deadline: None });
            }
            // Refused, so without effect. For a restart, there is no state to read first.
            Verdict::LookAgain if self.in_flight() == Some(Action::Restart) => {
                self.in_flight = None;
                self.back_off(None, Duration::ZERO, now);
            }
            // It may have had an effect, or the app may already be in this state: read the app before repeating the
            // call. Telemetry lags, so a lost call waits longer.
            Verdict::LostAnswer | Verdict::LookAgain => {
                let action = self.end_call(None, now, now);
                let delay = if verdict == Verdict::LostAnswer { LOST_ANSWER_DELAY } else { Duration::ZERO };
                self.back_off(None, delay, now);
                self.verifying = action.map(|action| Verifying { action, accepted: false, deadline: None });
                self.request_read(now);
            }
            Verdict::Forbidden => self.retry_slowly(Reason::Forbidden, interval, now),
            Verdict::NotFound => self.retry_slowly(Reason::AppNotFound, interval, now),
            Verdict::Unexpected => self.retry_slowly(Reason::UnexpectedAnswer, interval, now),
        }
    }

    /// Takes a single read that was refused, or had an unexpected answer: the next read follows after an interval.
    pub fn read_refused(&mut self, reason: Reason, interval: Duration, now: Moment) {
        self.reads = 0;
        self.read_at = Some(now + interval);
        self.not_before = self.not_before.max(self.read_at);
        self.because = Some(reason);
    }

    /// Delays the pending read by at least `interval`.
    pub fn read_later(&mut self, interval: Duration, now: Moment) {
        self.read_at = self.read_at.map(|at| at.max(now + interval));
    }

    /// Takes a single read that failed: the next read has the backoff of a call.
    pub fn read_failed(&mut self, now: Moment) {
        self.read_later(PER_APP.ceiling(self.reads), now);
    }

    /// Forgets a refusal that concerned the account, not this app.
    pub fn forget_refusal(&mut self) {
        if self.because == Some(Reason::Forbidden) {
            self.forget_failures();
        }
    }

    /// Returns whether the pending read is routine: it neither verifies a call nor delays one.
    pub fn read_is_routine(&self) -> bool {
        !self.urgent && self.verifying.is_none()
    }

    /// Requests a read that goes before others, because an edit waits for it.
    pub fn request_urgent_read(&mut self, now: Moment) {
        self.request_read(now);
        self.urgent = true;
    }

    /// Takes a rate limit of this app only: it waits for `pause` and its own backoff.
    pub fn app_refused(&mut self, pause: Duration, now: Moment) {
        self.back_off(Some(Reason::RateLimited), Duration::ZERO, now);
        self.hold(pause, now);
    }

    /// Takes a pause that the server requested for this app: no call and no single read before its end.
    pub fn hold(&mut self, pause: Duration, now: Moment) {
        let until = now + pause;
        self.held_until = self.held_until.max(Some(until));
        self.read_at = self.read_at.map(|at| at.max(until));
    }

    /// Returns whether a pause that the server requested for this app lasts.
    pub fn is_held(&self, now: Moment) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Returns whether a restart with this verdict may have had an effect. It counts as accepted: the operator verifies
    /// it, and never repeats it.
    pub fn is_lost_restart(&self, verdict: Verdict) -> bool {
        self.in_flight() == Some(Action::Restart) && matches!(verdict, Verdict::LostAnswer | Verdict::Unexpected)
    }

    /// Takes a call that ended without an answer (shutdown, a caught panic): its result is unknown.
    pub fn lost(&mut self, now: Moment) {
        self.failed(Verdict::LostAnswer, Duration::ZERO, now);
    }

    /// Applies a reading or the passing of time. `observed` is the result of [`Attempts::trusted`]; `running_since` and
    /// `need` are from the same reading.
    pub fn note(
        &mut self,
        desired: Desired,
        observed: Observed,
        (running_since, need): (Option<Timestamp>, RestartNeed),
        now: Moment,
    ) -> Option<Effect> {
        self.held_until = self.held_until.filter(|until| now < *until);
        if observed != Observed::Unknown {
            self.verifying = self.verifying.filter(|call| call.action.aims_at() == desired);
            // Cancel the single read, unless a verification still runs: of an accepted call, or of a lost call until it
            // may be repeated.
            let lost = self.in_flight.is_none() && self.not_before.is_some_and(|until| now < until);
            if self.verifying.is_none_or(|call| !call.accepted && !lost) {
                self.cancel_read();
            }
            let is_restarting = self.verifying() == Some(Action::Restart);
            if satisfies(observed, desired) {
                match need {
                    _ if is_restarting && self.restarted.are_met_by(running_since) => return self.agreed(desired),
                    // This reading shows no restart.
                    _ if is_restarting => {}
                    // The restart is still pending, after the backoff of its failures.
                    RestartNeed::Restart(_) | RestartNeed::NewerReading if self.verifying.is_none() => return None,
                    RestartNeed::Restart(_)
                    | RestartNeed::NewerReading
                    | RestartNeed::Nothing
                    | RestartNeed::RunningSince
                    | RestartNeed::NotEffective => {
                        return self.agreed(desired);
                    }
                }
            }
            if self.reached_by_our_call && matches!(observed, Observed::Running | Observed::Stopped) {
                return self.left_desired_state(now);
            }
        }
        let late = |deadline: Option<Moment>| deadline.is_none_or(|deadline| now >= deadline);
        let verifying = self.verifying.filter(|verifying| verifying.accepted && late(verifying.deadline))?;
        if observed == Observed::Unknown {
            // "No effect" needs a reading, too: if readings are late or missing, wait for one.
            if verifying.deadline.is_some() {
                self.verifying = Some(Verifying { deadline: None, ..verifying });
                self.request_read(now);
            }
            return None;
        }
        self.verifying = None;
        self.cancel_read();
        match verifying.action {
            Action::Stop => self.back_off(Some(Reason::StopNotEffective), Duration::ZERO, now),
            Action::Start => self.back_off(Some(Reason::StartNotEffective), Duration::ZERO, now),
            // It is not sent again for the same cause, so there is no backoff.
            Action::Restart => self.forget_failures(),
        }
        Some(Effect::NotEffective(verifying.action))
    }

    /// Takes the reading that verified the last call: metrics that are newer than it are newer than the call, even if
    /// their clock is behind that of the answers.
    pub fn verified_by(&mut self, timed_reading: &TimedReading) {
        if let (Some(call), Some(taken)) = (&mut self.last_call, timed_reading.reading.taken_at) {
            call.date = call.date.map(|date| date.min(taken));
        }
    }

    /// Requests a single read as soon as possible.
    pub fn request_read(&mut self, now: Moment) {
        self.reads = 0;
        let soonest = self.held_until.map_or(now, |until| until.max(now));
        self.read_at = Some(self.read_at.map_or(soonest, |at| at.min(soonest)));
    }

    fn cancel_read(&mut self) {
        self.read_at = None;
        self.urgent = false;
    }

    /// Takes the send of a single read: the next one follows later if this one proves nothing.
    pub fn read_sent(&mut self, now: Moment) {
        self.reads = self.reads.saturating_add(1);
        self.read_at = Some(now + SINGLE_READS.ceiling(self.reads));
        self.urgent = false;
    }

    /// Takes a new target: failures of the old one do not count. The last call is kept, because it may still take
    /// effect.
    pub fn target_changed(&mut self, desired: Desired, now: Moment) {
        let verifying = self.verifying.take();
        self.verifying = verifying.filter(|call| call.action.aims_at() == desired);
        let unproven = self.verifying != verifying;
        self.forget_failures();
        self.reached_by_our_call = false;
        self.departures.clear();
        // Keep a pending read: until the last call is verified, only a read shows the next step.
        if unproven {
            self.request_read(now);
            self.urgent = true;
        }
    }

    /// Returns whether the app left its desired state often enough to be contested.
    pub fn contested(&self, now: Moment) -> bool {
        self.recent_departures(now) >= CONTEST_DEPARTURES
    }

    fn recent_departures(&self, now: Moment) -> usize {
        self.departures.iter().filter(|at| now.since(**at) < CONTEST_WINDOW).count()
    }

    fn end_call(&mut self, date: Option<Timestamp>, metrics_deadline: Moment, now: Moment) -> Option<Action> {
        let InFlight { action, basis, causes } = self.in_flight.take()?;
        if action == Action::Restart {
            self.restarted = causes;
        }
        self.last_call = Some(LastCall { action, ended_at: now, date, metrics_deadline, basis });
        Some(action)
    }

    fn agreed(&mut self, desired: Desired) -> Option<Effect> {
        self.forget_failures();
        self.cancel_read();
        let verified = self.verifying.take().filter(|verifying| verifying.action.aims_at() == desired)?;
        self.reached_by_our_call = true;
        Some(Effect::Verified(verified.action))
    }

    fn left_desired_state(&mut self, now: Moment) -> Option<Effect> {
        self.reached_by_our_call = false;
        self.departures.retain(|at| now.since(*at) < CONTEST_WINDOW);
        self.departures.push(now);
        let departures = self.departures.len();
        // Still enforced, but with backoff: two controllers of one app must not cause a hot loop.
        let beyond = u32::try_from((departures + 1).checked_sub(CONTEST_DEPARTURES)?).ok().filter(|&n| n > 0)?;
        self.failures = beyond;
        self.because = Some(Reason::Contested);
        let since = self.departures.first().copied().unwrap_or(now);
        self.failing_since = Some(since);
        self.not_before = Some(now + backoff::proportionate(WITHOUT_EFFECT.ceiling(beyond + 3), now.since(since)));
        Some(Effect::Contested(departures))
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.not_before = None;
        self.because = None;
    }

    fn retry_slowly(&mut self, reason: Reason, interval: Duration, now: Moment) {
        self.in_flight = None;
        self.back_off(Some(reason), interval, now);
    }

    fn back_off(&mut self, because: Option<Reason>, at_least: Duration, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.because = because.or_else(|| self.contested(now).then_some(Reason::Contested));
        let schedule = match self.because {
            Some(Reason::Contested | Reason::StopNotEffective | Reason::StartNotEffective) => WITHOUT_EFFECT,
            Some(_) | None => PER_APP,
        };
        let failing = now.since(*self.failing_since.get_or_insert(now));
        self.not_before = Some(now + schedule.wait(self.failures, self.salt, failing).max(at_least));
    }
}

/// Returns whether `observed` satisfies `desired`. A suspended app is not running, so it satisfies `Stopped`.
pub const fn satisfies(observed: Observed, desired: Desired) -> bool {
    match (desired, observed) {
        (Desired::Running, Observed::Running) | (Desired::Stopped, Observed::Stopped | Observed::Suspended) => true,
        (Desired::Running, Observed::Stopped | Observed::Suspended)
        | (Desired::Stopped, Observed::Running)
        | (_, Observed::Creating | Observed::Missing | Observed::Unknown) => false,
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::reconcile::restart::{Restart, ServerTime, need};

    const NO_RESTART: (Option<Timestamp>, RestartNeed) = (None, RestartNeed::Nothing);
    const INTERVAL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn timed_reading(observed: Observed, requested_at: u64, taken_at: Option<i64>) -> TimedReading {
        let taken_at = taken_at.map(|seconds| Timestamp::from_second(seconds).unwrap());
        let reading = Reading { taken_at, ..Reading::new(observed) };
        TimedReading { reading, requested_at: at(requested_at), received_at: Timestamp::UNIX_EPOCH }
    }

    /// A stop that failed at 10 s: the next attempt, the time of the pending read, and the reason of the gate.
    #[test]
    fn each_failure_has_its_own_gate_and_pending_read() {
        use Verdict as V;
        for (verdict, attempt, reads, because, gated) in [
            (V::LostAnswer, 2, Some(at(10)), None, true),
            (V::LookAgain, 2, Some(at(10)), None, true),
            (V::Retry, 2, None, None, true),
            (V::Locked, 2, None, None, true),
            (V::Forbidden, 2, None, Some(Reason::Forbidden), true),
            (V::NotFound, 2, None, Some(Reason::AppNotFound), true),
            (V::Unexpected, 2, None, Some(Reason::UnexpectedAnswer), true),
            (V::RateLimited { after: None }, 1, None, None, false),
            (V::AccountBlocked, 1, None, None, false),
        ] {
            let mut past = Attempts::new(7);
            past.begin(Action::Stop, None);
            past.failed(verdict, INTERVAL, at(10));
            assert_eq!((past.in_flight(), past.next_attempt(), past.read_at()), (None, attempt, reads), "{verdict:?}");
            assert_eq!((past.because(), past.gate(at(10)).is_some()), (because, gated), "{verdict:?}");
            let slow = because.is_some();
            assert_eq!(past.gate(at(69)).is_some(), slow, "{verdict:?}: a whole interval");
            assert!(past.gate(at(70)).is_none(), "{verdict:?}");
        }
    }

    /// The causes of a restart of an app that has been running since 0, and the start of the app in a reading.
    fn causes() -> Causes {
        let restart = Restart { when_required: true, ..Restart::default() };
        let server = ServerTime { now: second(90), trusted_from: second(0) };
        let (zone, none) = (TimeZone::UTC, Causes::default());
        let need = need((&restart, &zone), &running_since(0), &none, Some(server), second(90));
        let RestartNeed::Restart(causes) = need else { panic!("{need:?}") };
        causes
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn running_since(since: i64) -> Reading {
        let (taken_at, running_since) = (Some(second(90)), Some(second(since)));
        Reading { taken_at, running_since, restart_required: Some(true), ..Reading::new(Observed::Running) }
    }

    /// A restart is in flight since 10 s.
    fn restarting() -> Attempts {
        let mut past = Attempts::new(7);
        past.begin_restart(causes(), Some(&timed_reading(Observed::Running, 9, Some(90))));
        past
    }

    #[test]
    fn a_restart_is_verified_only_by_a_later_start_of_the_app() {
        let confirm = Duration::from_secs(120);
        let old = (Some(second(0)), RestartNeed::NotEffective);
        let mut past = restarting();
        past.accepted(Some(second(100)), confirm, at(10));
        // The app was running before the call, so a reading from before it proves nothing.
        assert_eq!(past.trusted(Some(&timed_reading(Observed::Running, 11, Some(95)))), Observed::Unknown);
        assert_eq!(past.note(Desired::Running, Observed::Running, old, at(20)), None);
        assert_eq!(past.verifying(), Some(Action::Restart), "a reading without effect does not end the verification");
        assert_eq!(past.note(Desired::Running, Observed::Stopped, (None, RestartNeed::Nothing), at(21)), None);
        assert_eq!(past.verifying(), Some(Action::Restart), "it is down for a moment");
        let new = (Some(second(101)), RestartNeed::Nothing);
        let turn = past.note(Desired::Running, Observed::Running, new, at(30));
        assert_eq!((turn, past.verifying()), (Some(Effect::Verified(Action::Restart)), None));

        let mut past = restarting();
        past.accepted(Some(second(100)), confirm, at(10));
        let turn = past.note(Desired::Running, Observed::Running, old, at(130));
        assert_eq!((turn, past.gate(at(130))), (Some(Effect::NotEffective(Action::Restart)), None));
        assert_eq!(*past.restarted(), causes(), "it is not sent again for the same causes");
    }

    #[test]
    fn a_restart_that_may_have_had_an_effect_is_never_sent_again() {
        use Verdict as V;
        let verdicts = [
            (V::LostAnswer, true),
            (V::Unexpected, true),
            (V::LookAgain, false),
            (V::Retry, false),
            (V::Locked, false),
            (V::Forbidden, false),
            (V::NotFound, false),
            (V::RateLimited { after: None }, false),
            (V::AccountBlocked, false),
        ];
        for (verdict, may_have_had_effect) in verdicts {
            let mut past = restarting();
            assert_eq!(past.is_lost_restart(verdict), may_have_had_effect, "{verdict:?}");
            if may_have_had_effect {
                continue;
            }
            past.failed(verdict, INTERVAL, at(10));
            assert_eq!((past.restarted(), past.verifying), (&Causes::default(), None), "{verdict:?}");
            // Its failures stay: the app is running as declared all the time.
            let gate = past.gate(at(10));
            let pending = (Some(second(0)), RestartNeed::Restart(causes()));
            past.note(Desired::Running, Observed::Running, pending, at(10));
            assert_eq!(past.gate(at(10)), gate, "{verdict:?}");
        }
        let mut stop = Attempts::new(7);
        stop.begin(Action::Stop, None);
        assert!(!stop.is_lost_restart(V::LostAnswer));
    }

    #[test]
    fn a_lost_stop_is_read_and_not_repeated_before_its_effect_had_time() {
        let mut past = Attempts::new(7);
        past.begin(Action::Stop, None);
        past.failed(Verdict::LostAnswer, INTERVAL, at(10));
        // The answer to an earlier question proves nothing, and the read stays pending.
        let before = past.trusted(Some(&timed_reading(Observed::Running, 9, None)));
        assert_eq!((before, past.note(Desired::Stopped, before, NO_RESTART, at(10))), (Observed::Unknown, None));
        assert_eq!(past.read_at(), Some(at(10)));
        past.read_sent(at(10));
        // It still runs: reads go on until the stop may be repeated.
        let after = past.trusted(Some(&timed_reading(Observed::Running, 11, None)));
        assert_eq!((after, past.note(Desired::Stopped, after, NO_RESTART, at(11))), (Observed::Running, None));
        assert_eq!((past.read_at(), past.gate(at(14)).is_some(), past.gate(at(15))), (Some(at(12)), true, None));
        assert_eq!(past.note(Desired::Stopped, Observed::Running, NO_RESTART, at(15)), None);
        assert_eq!(past.read_at(), None, "now the call itself is due");
        // It had an effect after all.
        assert_eq!(
            past.note(Desired::Stopped, Observed::Stopped, NO_RESTART, at(16)),
            Some(Effect::Verified(Action::Stop))
        );
        assert_eq!((past.next_attempt(), past.read_at(), past.gate(at(16))), (1, None, None));
    }

    /// Readings after a stop that was accepted at 10 s, with the server's date 100; the metrics that caused it are of
    /// 90.
    #[test]
    fn a_reading_older_than_the_call_proves_nothing_but_the_flip_itself() {
        use Observed::{Running, Stopped, Unknown};
        let mut past = Attempts::new(7);
        past.begin(Action::Stop, Some(&timed_reading(Running, 1, Some(90))));
        past.accepted(Some(Timestamp::from_second(100).unwrap()), Duration::from_secs(120), at(10));
        for (observed, requested_at, taken_at, trusted) in [
            (Running, 9, Some(101), Unknown),
            (Running, 10, Some(99), Unknown),
            (Running, 10, Some(100), Running),
            (Running, 10, None, Running),
            (Stopped, 10, Some(89), Unknown),
            (Stopped, 10, Some(90), Stopped),
            (Running, 129, Some(99), Unknown),
            (Running, 130, Some(99), Running),
        ] {
            let timed_reading = timed_reading(observed, requested_at, taken_at);
            assert_eq!(past.trusted(Some(&timed_reading)), trusted, "{timed_reading:?}");
        }
        assert_eq!(past.trusted(None), Unknown);
    }

    #[test]
    fn an_accepted_call_without_effect_backs_off_at_its_deadline() {
        let mut past = Attempts::new(7);
        past.begin(Action::Start, None);
        past.accepted(None, Duration::from_secs(120), at(0));
        assert_eq!(
            (past.verifying(), past.wake_at(), past.read_at()),
            (Some(Action::Start), Some(at(120)), Some(at(2)))
        );
        assert_eq!(past.note(Desired::Running, Observed::Stopped, NO_RESTART, at(119)), None);
        let turn = past.note(Desired::Running, Observed::Stopped, NO_RESTART, at(120));
        assert_eq!(
            (turn, past.because()),
            (Some(Effect::NotEffective(Action::Start)), Some(Reason::StartNotEffective))
        );
        assert_eq!((past.verifying(), past.read_at(), past.next_attempt()), (None, None, 2));
    }

    #[test]
    fn three_returns_within_an_hour_are_contested_and_an_edit_ends_that() {
        let mut past = Attempts::new(7);
        let round = |past: &mut Attempts, now: u64| {
            past.begin(Action::Stop, None);
            past.accepted(None, Duration::from_secs(120), at(now));
            past.note(Desired::Stopped, Observed::Stopped, NO_RESTART, at(now + 1));
            past.note(Desired::Stopped, Observed::Running, NO_RESTART, at(now + 2))
        };
        // The first of them is an hour old when the third follows.
        assert_eq!(round(&mut past, 0), None);
        assert_eq!(round(&mut past, 3_000), None);
        assert_eq!((round(&mut past, 3_602), past.contested(at(3_604))), (None, false));
        assert_eq!((round(&mut past, 3_700), past.contested(at(3_702))), (Some(Effect::Contested(3)), true));
        assert_eq!((past.because(), past.gate(at(3_702)).is_some()), (Some(Reason::Contested), true));
        past.target_changed(Desired::Running, at(3_710));
        assert_eq!((past.contested(at(3_710)), past.gate(at(3_710)), past.because()), (false, None, None));
    }

    #[test]
    fn a_pause_of_one_app_outlives_an_edit_and_delays_its_reads() {
        let mut past = Attempts::new(7);
        past.request_read(at(1));
        past.app_refused(Duration::from_secs(50), at(1));
        assert_eq!((past.read_at(), past.gate(at(50)).map(|(_, until)| until)), (Some(at(51)), Some(at(51))));
        past.target_changed(Desired::Running, at(2));
        past.request_read(at(3));
        assert_eq!((past.gate(at(50)).is_some(), past.read_at(), past.gate(at(51))), (true, Some(at(51)), None));
    }
}
