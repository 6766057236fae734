//! Decision for one app: (goal, observed, need of a restart, attempts, gates, now) -> Decision.
//!
//! First the table of desired and observed, then the gates in the order of docs/how-it-decides.md. An unknown state
//! never leads to a call.

use super::attempts::Attempts;
use super::desired::{Declared, Policy, Target, Validity};
use super::moment::Moment;
use super::reason::Reason;
use super::restart::RestartNeed;
use super::state::Action;
use super::state::Desired;
use super::state::Observed;

/// Goal of one app, as its manifests declare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Known(Target),
    /// The manifest is in conflict, or was never valid.
    Unknown(Reason),
}

impl Goal {
    /// The goal that `declared` sets at `wall`.
    ///
    /// After an invalid edit the last good spec stays in force, as after a rejected `kubectl apply`. In a conflict,
    /// no manifest has precedence, so no call is sent.
    pub fn of(declared: &Declared, wall: jiff::Timestamp) -> Self {
        match (&declared.validity, declared.spec()) {
            (Validity::Conflicting { reason, .. }, _) => Self::Unknown(*reason),
            (Validity::Valid | Validity::Invalid { .. }, Some(spec)) => Self::Known(spec.target(wall)),
            (Validity::Valid | Validity::Invalid { .. }, None) => Self::Unknown(Reason::InvalidManifest),
        }
    }
}

/// Gates that hold all apps alike.
#[expect(clippy::struct_excessive_bools, reason = "independent gates, each on or off; no two exclude each other")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gates {
    /// The daemon's policy; the stricter of this and the manifest's applies.
    pub policy: Policy,
    /// Another process leads, or this one cannot renew its lease: no request is sent.
    pub standby: bool,
    /// The wall clock is doubtful: goals that depend on the time are held.
    pub clock_doubtful: bool,
    /// Edits cause more stops than `--max-stops` allows: no counted stop is sent.
    pub stops_held: bool,
    /// Edits cause more starts than `--max-starts` allows: no counted start is sent.
    pub starts_held: bool,
    /// The server refuses the token.
    pub account_blocked: bool,
    /// The account may not make the necessary requests.
    pub account_forbidden: bool,
    /// The platform does not answer.
    pub breaker_open: bool,
    /// The list itself cannot be read: an app may exist even if its single read returns 404.
    pub list_unreadable: bool,
    /// The last list was incomplete: an app that it did not show may exist or not.
    pub list_incomplete: bool,
    /// End of a pause of all requests.
    pub paused_until: Option<Moment>,
    /// Time of the next probe while the account is refused or the platform does not answer, for people.
    pub probe_at: Option<Moment>,
    /// `--dry-run`.
    pub dry_run: bool,
}

impl Gates {
    pub const OPEN: Self = Self {
        policy: Policy::Full,
        standby: false,
        clock_doubtful: false,
        stops_held: false,
        starts_held: false,
        account_blocked: false,
        account_forbidden: false,
        breaker_open: false,
        list_unreadable: false,
        list_incomplete: false,
        paused_until: None,
        probe_at: None,
        dry_run: false,
    };

    /// Returns whether the limit of changes holds an action.
    pub const fn holds(&self, action: Action) -> bool {
        match action {
            Action::Stop => self.stops_held,
            Action::Start => self.starts_held,
            // A restart changes no state for long.
            Action::Restart => false,
        }
    }

    /// The first gate of the account that is closed, and the end of its wait.
    fn account(&self) -> Option<Decision> {
        let (reason, until) = match () {
            () if self.standby => (Reason::Standby, None),
            () if self.account_blocked => (Reason::AccountBlocked, self.probe_at),
            () if self.account_forbidden => (Reason::AccountForbidden, self.probe_at),
            () if self.paused_until.is_some() => (Reason::RateLimited, self.paused_until),
            () if self.breaker_open => (Reason::ApiUnavailable, self.probe_at),
            () => return None,
        };
        Some(Decision::Wait { reason, until })
    }
}

/// Decision for one app. Doing nothing is a decision too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Settled(Reason),
    /// The call is sent now.
    Act(Action),
    /// In progress, or waiting for a time; no person needs to act.
    Wait {
        reason: Reason,
        until: Option<Moment>,
    },
    /// It differs on purpose: suspension, policy, dry run.
    Held {
        reason: Reason,
        /// The call that is not sent.
        instead_of: Action,
    },
    /// Only an edit or a person helps. The operator continues to read the app.
    Stalled(Reason),
}

impl Decision {
    pub const fn reason(self) -> Reason {
        match self {
            Self::Settled(reason) | Self::Stalled(reason) => reason,
            Self::Wait { reason, .. } | Self::Held { reason, .. } => reason,
            Self::Act(Action::Restart) => Reason::Restarting,
            Self::Act(Action::Stop | Action::Start) => Reason::Drifted,
        }
    }
}

/// Decides for one app. `need`: what `spec.restart` requires, if the app is running as declared.
pub fn decide(
    goal: Goal,
    observed: Observed,
    need: RestartNeed,
    past: &Attempts,
    gates: Gates,
    now: Moment,
) -> Decision {
    let target = match goal {
        Goal::Known(target) => target,
        Goal::Unknown(reason) => return Decision::Stalled(reason),
    };
    if let Some(action) = past.in_flight() {
        return under_way(action, None);
    }
    let action = match (target.desired, observed) {
        (Desired::Stopped, Observed::Stopped) | (Desired::Running, Observed::Running) if target.suspended => {
            return Decision::Settled(Reason::Suspended);
        }
        // The goal itself is doubtful.
        (Desired::Stopped, Observed::Stopped) | (Desired::Running, Observed::Running)
            if gates.clock_doubtful && target.timed =>
        {
            return Decision::Wait { reason: Reason::ClockDoubtful, until: None };
        }
        (Desired::Stopped, Observed::Stopped) => return Decision::Settled(Reason::Settled),
        (Desired::Running, Observed::Running) => return restart(need, target, past, gates, now),
        (Desired::Stopped, Observed::Suspended) => return Decision::Settled(Reason::SuspendedByPlatform),
        // The manifest holds the app on purpose, so no person needs to act.
        (Desired::Running, Observed::Suspended) if target.suspended => Action::Start,
        (Desired::Running, Observed::Suspended) => return Decision::Stalled(Reason::SuspendedByPlatform),
        (_, Observed::Creating) => return Decision::Wait { reason: Reason::BeingCreated, until: None },
        (_, Observed::Missing) if !gates.list_unreadable => return Decision::Stalled(Reason::AppNotFound),
        (_, Observed::Missing | Observed::Unknown) => return unknown(past, gates, now),
        (Desired::Stopped, Observed::Running) => Action::Stop,
        (Desired::Running, Observed::Stopped) => Action::Start,
    };
    gate(action, target, past, gates, now)
}

/// Decision for an app that is running as declared: `spec.restart` may require a restart.
fn restart(need: RestartNeed, target: Target, past: &Attempts, gates: Gates, now: Moment) -> Decision {
    match need {
        // A restart that was sent for another cause is still in progress.
        _ if past.verifying() == Some(Action::Restart) => under_way(Action::Restart, past.read_at()),
        RestartNeed::Nothing => Decision::Settled(Reason::Settled),
        RestartNeed::NewerReading => Decision::Wait { reason: Reason::Restarting, until: None },
        RestartNeed::RunningSince => Decision::Wait { reason: Reason::NotObserved, until: None },
        RestartNeed::NotEffective => Decision::Stalled(Reason::RestartNotEffective),
        RestartNeed::Restart(causes) => {
            // The times of `spec.restart` depend on the clock, as windows do.
            let target = Target { timed: target.timed || causes.are_timed(), ..target };
            gate(Action::Restart, target, past, gates, now)
        }
    }
}

/// Decision for an app whose state is unknown: the reason to wait.
fn unknown(past: &Attempts, gates: Gates, now: Moment) -> Decision {
    if let Some(action) = past.verifying() {
        return under_way(action, past.read_at());
    }
    if let Some(held) = gates.account() {
        return held;
    }
    match past.gate(now) {
        Some((reason, until)) => gated(reason, until, gates),
        None if gates.list_incomplete => {
            Decision::Wait { reason: Reason::ObservationIncomplete, until: past.read_at() }
        }
        // A stop that was accepted and had no visible effect keeps its reason, also after its backoff.
        None => Decision::Wait { reason: past.because().unwrap_or(Reason::NotObserved), until: past.read_at() },
    }
}

/// Gates before a call, in their order.
fn gate(action: Action, target: Target, past: &Attempts, gates: Gates, now: Moment) -> Decision {
    if target.suspended {
        return Decision::Held { reason: Reason::Suspended, instead_of: action };
    }
    let allowed = match target.policy.min(gates.policy) {
        Policy::Full => true,
        Policy::StopOnly => action == Action::Stop,
        Policy::ObserveOnly => false,
    };
    if !allowed {
        return Decision::Held { reason: Reason::PolicyForbids, instead_of: action };
    }
    if gates.clock_doubtful && target.timed {
        return Decision::Wait { reason: Reason::ClockDoubtful, until: None };
    }
    if gates.holds(action) {
        return Decision::Held { reason: Reason::TooManyChanges, instead_of: action };
    }
    if past.verifying().is_some_and(|verifying| verifying.aims_at() == action.aims_at()) {
        // Accepted and not visible yet: telemetry lags.
        return under_way(past.verifying().unwrap_or(action), past.read_at());
    }
    if let Some(held) = gates.account() {
        return held;
    }
    if let Some((reason, until)) = past.gate(now) {
        return gated(reason, until, gates);
    }
    if gates.dry_run {
        return Decision::Held { reason: Reason::DryRun, instead_of: action };
    }
    Decision::Act(action)
}

fn under_way(action: Action, until: Option<Moment>) -> Decision {
    let reason = match action {
        Action::Stop => Reason::Stopping,
        Action::Start => Reason::Starting,
        Action::Restart => Reason::Restarting,
    };
    Decision::Wait { reason, until }
}

fn gated(reason: Reason, until: Moment, gates: Gates) -> Decision {
    if reason == Reason::AppNotFound && gates.list_unreadable {
        return Decision::Wait { reason: Reason::BackingOff, until: Some(until) };
    }
    if matches!(reason, Reason::Forbidden | Reason::AppNotFound | Reason::UnexpectedAnswer) {
        Decision::Stalled(reason)
    } else {
        Decision::Wait { reason, until: Some(until) }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::reconcile::attempts::{Effect, TimedReading};
    use crate::reconcile::desired::Because;
    use crate::reconcile::outcome::Verdict;
    use crate::reconcile::reading::Reading;
    use crate::reconcile::restart::Causes;

    const NO_RESTART: (Option<jiff::Timestamp>, RestartNeed) = (None, RestartNeed::Nothing);
    const NOW: Moment = Moment::from_secs(1_000);
    const CONFIRM: Duration = Duration::from_mins(2);
    const INTERVAL: Duration = Duration::from_mins(1);

    fn target(desired: Desired) -> Target {
        Target { desired, because: Because::State, suspended: false, timed: false, policy: Policy::Full }
    }

    fn word(decision: Decision) -> String {
        match decision {
            Decision::Settled(Reason::Settled) => "settled".into(),
            Decision::Settled(reason) => format!("settled ({reason})"),
            Decision::Act(action) => action.as_str().to_uppercase(),
            Decision::Wait { reason, .. } => format!("wait {reason}"),
            Decision::Held { reason, instead_of } => format!("held {reason} (would {instead_of})"),
            Decision::Stalled(reason) => format!("stalled {reason}"),
        }
    }

    /// The decision for a running app that is declared Stopped.
    fn stop_at(past: &Attempts, at: Moment) -> Decision {
        decide(Goal::Known(target(Desired::Stopped)), Observed::Running, RestartNeed::Nothing, past, Gates::OPEN, at)
    }

    /// A restart passes the gates of a call, needs the policy `Full`, and does not count for the limit of changes.
    #[test]
    fn a_restart_has_its_own_row() {
        let (fresh, plain, open) = (Attempts::new(0), target(Desired::Running), Gates::OPEN);
        let restart = |due| RestartNeed::Restart(Causes::of(due));
        let policy = |policy| Target { policy, ..plain };
        let doubtful = Gates { clock_doubtful: true, ..open };
        let held = Gates { stops_held: true, starts_held: true, ..open };
        for (need, target, gates, expected) in [
            (RestartNeed::Nothing, plain, open, "settled"),
            (RestartNeed::NewerReading, plain, open, "wait Restarting"),
            (RestartNeed::RunningSince, plain, open, "wait NotObserved"),
            (RestartNeed::NotEffective, plain, open, "stalled RestartNotEffective"),
            (restart(true), plain, open, "RESTART"),
            (restart(true), plain, held, "RESTART"),
            (restart(true), Target { suspended: true, ..plain }, open, "settled (Suspended)"),
            (restart(true), policy(Policy::StopOnly), open, "held PolicyForbids (would restart)"),
            (restart(true), plain, Gates { policy: Policy::ObserveOnly, ..open }, "held PolicyForbids (would restart)"),
            (restart(true), plain, doubtful, "wait ClockDoubtful"),
            (restart(false), plain, doubtful, "RESTART"),
            (restart(true), plain, Gates { account_blocked: true, ..open }, "wait AccountBlocked"),
            (restart(true), plain, Gates { standby: true, ..open }, "wait Standby"),
            (restart(true), plain, Gates { dry_run: true, ..open }, "held DryRun (would restart)"),
        ] {
            let decision = decide(Goal::Known(target), Observed::Running, need, &fresh, gates, NOW);
            assert_eq!(word(decision), expected, "{need:?} {target:?} {gates:?}");
        }
        let mut sent = Attempts::new(0);
        sent.begin_restart(Causes::of(true), None);
        let of = |past: &Attempts, observed| {
            word(decide(Goal::Known(plain), observed, RestartNeed::NotEffective, past, open, NOW))
        };
        assert_eq!(of(&sent, Observed::Running), "wait Restarting");
        sent.accepted(None, CONFIRM, NOW);
        // It is down for a moment: no start is needed.
        for observed in [Observed::Running, Observed::Stopped, Observed::Unknown] {
            assert_eq!(of(&sent, observed), "wait Restarting", "{observed}");
        }
    }

    /// The policy of the whole operator on one page: desired x observed x every gate.
    #[test]
    fn all_decisions() {
        let fresh = Attempts::new(0);
        let mut failed = Attempts::new(0);
        failed.begin(Action::Stop, None);
        failed.failed(Verdict::Retry, INTERVAL, NOW);
        let mut forbidden = Attempts::new(0);
        forbidden.begin(Action::Stop, None);
        forbidden.failed(Verdict::Forbidden, INTERVAL, NOW);
        let mut missing = Attempts::new(0);
        missing.begin(Action::Stop, None);
        missing.failed(Verdict::NotFound, INTERVAL, NOW);
        let mut flying = Attempts::new(0);
        flying.begin(Action::Stop, None);
        let mut accepted = Attempts::new(0);
        accepted.begin(Action::Stop, None);
        accepted.accepted(None, CONFIRM, NOW);
        let mut overdue = accepted.clone();
        overdue.note(Desired::Stopped, Observed::Running, NO_RESTART, NOW + CONFIRM);

        let open = Gates::OPEN;
        let rows: Vec<(&str, Target, &Attempts, Gates)> = [Desired::Stopped, Desired::Running]
            .into_iter()
            .flat_map(|desired| {
                let plain = target(desired);
                [
                    ("", plain, &fresh, open),
                    ("suspended", Target { suspended: true, ..plain }, &fresh, open),
                    ("policy StopOnly", Target { policy: Policy::StopOnly, ..plain }, &fresh, open),
                    ("daemon observe-only", plain, &fresh, Gates { policy: Policy::ObserveOnly, ..open }),
                    ("backing off", plain, &failed, open),
                    ("after a 403", plain, &forbidden, open),
                    ("a stop in flight", plain, &flying, open),
                    ("a stop accepted", plain, &accepted, open),
                    ("a stop not effective", plain, &overdue, open),
                    ("doubtful clock", plain, &fresh, Gates { clock_doubtful: true, ..open }),
                    (
                        "doubtful clock, by a window",
                        Target { timed: true, ..plain },
                        &fresh,
                        Gates { clock_doubtful: true, ..open },
                    ),
                    (
                        "doubtful clock, by a window, policy StopOnly, a stop accepted, account blocked",
                        Target { timed: true, policy: Policy::StopOnly, ..plain },
                        &accepted,
                        Gates { clock_doubtful: true, account_blocked: true, ..open },
                    ),
                    ("too many stops", plain, &fresh, Gates { stops_held: true, account_blocked: true, ..open }),
                    ("account blocked", plain, &fresh, Gates { account_blocked: true, ..open }),
                    ("account forbidden", plain, &fresh, Gates { account_forbidden: true, ..open }),
                    ("breaker open", plain, &fresh, Gates { breaker_open: true, ..open }),
                    ("rate limited", plain, &fresh, Gates { paused_until: Some(NOW), ..open }),
                    (
                        "rate limited, breaker open",
                        plain,
                        &fresh,
                        Gates { breaker_open: true, paused_until: Some(NOW), ..open },
                    ),
                    ("rate limited, backing off", plain, &failed, Gates { paused_until: Some(NOW), ..open }),
                    ("list unreadable", plain, &fresh, Gates { list_unreadable: true, ..open }),
                    ("list unreadable, after a 404", plain, &missing, Gates { list_unreadable: true, ..open }),
                    ("list incomplete", plain, &fresh, Gates { list_incomplete: true, ..open }),
                    ("dry run", plain, &fresh, Gates { dry_run: true, ..open }),
                    ("standby", plain, &fresh, Gates { standby: true, account_blocked: true, ..open }),
                    (
                        "all of them",
                        Target { suspended: true, policy: Policy::ObserveOnly, ..plain },
                        &failed,
                        Gates {
                            policy: Policy::ObserveOnly,
                            standby: false,
                            clock_doubtful: true,
                            stops_held: true,
                            starts_held: true,
                            account_blocked: true,
                            account_forbidden: true,
                            breaker_open: true,
                            list_unreadable: true,
                            list_incomplete: true,
                            paused_until: Some(NOW),
                            probe_at: Some(NOW),
                            dry_run: true,
                        },
                    ),
                ]
            })
            .collect();
        let mut page = String::new();
        for (name, target, past, gates) in rows {
            let comma = if name.is_empty() { "" } else { ", " };
            writeln!(page, "{}{comma}{name}", target.desired).unwrap();
            for observed in Observed::ALL {
                let now = if past == &overdue { NOW + CONFIRM } else { NOW };
                let decision = decide(Goal::Known(target), observed, RestartNeed::Nothing, past, gates, now);
                writeln!(page, "    {observed:9} -> {}", word(decision)).unwrap();
            }
        }
        for reason in [Reason::DuplicateAppId, Reason::DuplicateName, Reason::InvalidManifest] {
            let decision = decide(Goal::Unknown(reason), Observed::Running, RestartNeed::Nothing, &fresh, open, NOW);
            writeln!(page, "manifest in error: {reason}\n    Running   -> {}", word(decision)).unwrap();
        }
        insta::assert_snapshot!("matrix", page);
    }

    fn timed_reading(observed: Observed, taken: Option<&str>, requested_at: Moment) -> TimedReading {
        let taken_at = taken.map(|time| format!("2026-11-24T{time}Z").parse().unwrap());
        let reading = Reading { taken_at, ..Reading::new(observed) };
        TimedReading { reading, requested_at, received_at: "2026-11-24T12:00:00Z".parse().unwrap() }
    }

    #[track_caller]
    fn trust(basis: &str, reading: Option<&str>, asked_after: bool, said: Observed, trusted: Observed) {
        let mut past = Attempts::new(0);
        past.begin(Action::Stop, Some(&timed_reading(Observed::Running, Some(basis), NOW)));
        past.accepted(Some("2026-11-24T12:00:10Z".parse().unwrap()), CONFIRM, NOW + INTERVAL);
        let asked = if asked_after { NOW + INTERVAL } else { NOW };
        assert_eq!(past.trusted(Some(&timed_reading(said, reading, asked))), trusted);
    }

    #[test]
    fn a_reading_older_than_our_call_proves_nothing() {
        let (running, stopped, unknown) = (Observed::Running, Observed::Stopped, Observed::Unknown);
        trust("12:00:00", Some("12:00:11"), true, running, running);
        trust("12:00:00", Some("12:00:11"), true, stopped, stopped);
        trust("12:00:00", Some("12:00:09"), true, running, unknown);
        trust("12:00:00", Some("12:00:11"), false, running, unknown); // asked before the answer was known
        trust("12:00:00", None, true, stopped, stopped); // null metrics carry no time
        trust("12:00:00", None, false, stopped, unknown);
        // Frozen metrics of a stopped app: the flip since the reading that made us call is the proof...
        trust("12:00:00", Some("12:00:09"), true, stopped, stopped);
        trust("12:00:00", Some("12:00:00"), true, stopped, stopped);
        // ...an answer from an older replica is not.
        trust("12:00:00", Some("11:59:59"), true, stopped, unknown);
    }

    #[test]
    fn metrics_that_are_older_than_the_call_even_after_its_time_are_frozen_not_late() {
        let frozen = |requested_at| timed_reading(Observed::Stopped, Some("12:00:00"), requested_at);
        let mut past = Attempts::new(0);
        past.begin(Action::Start, Some(&frozen(NOW)));
        past.accepted(Some("2026-11-24T12:00:10Z".parse().unwrap()), CONFIRM, NOW);
        assert_eq!(past.trusted(Some(&frozen(NOW + INTERVAL))), Observed::Unknown);
        let late = NOW + CONFIRM;
        let turn = past.note(Desired::Running, past.trusted(Some(&frozen(late))), NO_RESTART, late);
        assert_eq!(turn, Some(Effect::NotEffective(Action::Start)));
        assert_eq!(past.trusted(Some(&frozen(late))), Observed::Stopped, "so it is started again on backoff");
    }

    #[test]
    fn metrics_from_a_clock_that_is_behind_are_believed_once_one_has_verified_the_call() {
        let mut past = Attempts::new(0);
        past.begin(Action::Stop, Some(&timed_reading(Observed::Running, Some("09:00:00"), NOW)));
        past.accepted(Some("2026-11-24T12:00:00Z".parse().unwrap()), CONFIRM, NOW);
        let proof = timed_reading(Observed::Stopped, Some("09:00:05"), NOW);
        assert_eq!(past.trusted(Some(&proof)), Observed::Stopped);
        past.verified_by(&proof);
        let back = timed_reading(Observed::Running, Some("09:00:30"), NOW + INTERVAL);
        assert_eq!(past.trusted(Some(&back)), Observed::Running, "it was started again");
    }

    #[test]
    fn a_stop_without_effect_is_noticed_and_repeated_on_backoff() {
        let mut past = Attempts::new(7);
        past.begin(Action::Stop, None);
        past.accepted(None, CONFIRM, NOW);
        assert_eq!(past.note(Desired::Stopped, Observed::Running, NO_RESTART, NOW + INTERVAL), None);
        let late = NOW + CONFIRM;
        assert_eq!(
            past.note(Desired::Stopped, Observed::Running, NO_RESTART, late),
            Some(Effect::NotEffective(Action::Stop))
        );
        let (reason, until) = past.gate(late).unwrap();
        assert_eq!(reason, Reason::StopNotEffective);
        assert_eq!(stop_at(&past, until), Decision::Act(Action::Stop));
        assert_eq!(past.next_attempt(), 2);
    }

    #[test]
    fn after_a_lost_answer_the_app_is_read_before_the_call_is_repeated() {
        let before = timed_reading(Observed::Running, None, NOW);
        let mut past = Attempts::new(0);
        past.begin(Action::Stop, Some(&before));
        let lost = NOW + INTERVAL;
        past.failed(Verdict::LostAnswer, INTERVAL, lost);
        assert_eq!(past.read_at(), Some(lost));
        let long_after = lost + CONFIRM;
        let ask = |past: &Attempts, timed_reading: &TimedReading| {
            decide(
                Goal::Known(target(Desired::Stopped)),
                past.trusted(Some(timed_reading)),
                RestartNeed::Nothing,
                past,
                Gates::OPEN,
                long_after,
            )
        };
        assert!(matches!(ask(&past, &before), Decision::Wait { .. }), "the old reading does not justify a repeat");
        past.read_sent(lost);
        let after = timed_reading(Observed::Running, None, lost);
        past.note(Desired::Stopped, past.trusted(Some(&after)), NO_RESTART, long_after);
        assert_eq!(ask(&past, &after), Decision::Act(Action::Stop));
        assert_eq!(past.read_at(), None, "one read was enough");
    }

    #[test]
    fn backoff_starts_again_after_success_and_only_then() {
        let mut past = Attempts::new(7);
        let mut now = NOW;
        for _ in 0..6 {
            past.begin(Action::Stop, None);
            past.failed(Verdict::Retry, INTERVAL, now);
            now = past.gate(now).unwrap().1;
            assert_eq!(
                past.note(Desired::Stopped, Observed::Running, NO_RESTART, now),
                None,
                "a reading is no success"
            );
        }
        assert_eq!(past.next_attempt(), 7);
        past.begin(Action::Stop, None);
        past.accepted(None, CONFIRM, now);
        assert_eq!(past.next_attempt(), 7, "accepted is no success either");
        past.note(Desired::Stopped, Observed::Stopped, NO_RESTART, now);
        assert_eq!((past.next_attempt(), past.gate(now)), (1, None));
    }

    #[test]
    fn an_edit_does_not_wait_for_the_old_target() {
        let mut past = Attempts::new(0);
        past.begin(Action::Stop, None);
        past.accepted(None, CONFIRM, NOW);
        past.target_changed(Desired::Running, NOW);
        assert_eq!(past.read_at(), Some(NOW), "the effect of the stop is read first");
        past.note(Desired::Running, Observed::Stopped, NO_RESTART, NOW);
        let decision = decide(
            Goal::Known(target(Desired::Running)),
            Observed::Stopped,
            RestartNeed::Nothing,
            &past,
            Gates::OPEN,
            NOW,
        );
        assert_eq!(decision, Decision::Act(Action::Start));

        // The same when the edit comes while the stop is still on the wire.
        let mut past = Attempts::new(0);
        past.begin(Action::Stop, None);
        past.target_changed(Desired::Running, NOW);
        past.accepted(None, CONFIRM, NOW);
        past.note(Desired::Running, Observed::Stopped, NO_RESTART, NOW);
        let decision = decide(
            Goal::Known(target(Desired::Running)),
            Observed::Stopped,
            RestartNeed::Nothing,
            &past,
            Gates::OPEN,
            NOW,
        );
        assert_eq!(decision, Decision::Act(Action::Start));
    }

    #[test]
    fn an_edit_that_is_reverted_and_repeated_still_waits_for_a_read() {
        let mut past = Attempts::new(0);
        past.begin(Action::Stop, None);
        past.accepted(None, CONFIRM, NOW);
        assert!(!past.read_is_urgent(), "a read that verifies a call may wait for others");
        past.target_changed(Desired::Running, NOW);
        assert!(past.read_is_urgent());
        // This reading was older than the stop.
        past.read_sent(NOW);
        past.note(Desired::Running, Observed::Unknown, NO_RESTART, NOW);
        assert!(!past.read_is_urgent());
        for desired in [Desired::Stopped, Desired::Running, Desired::Stopped] {
            past.target_changed(desired, NOW);
            assert!(past.read_at().is_some(), "only a read shows the effect of the stop");
        }
        past.note(Desired::Stopped, Observed::Stopped, NO_RESTART, NOW);
        assert_eq!((past.read_at(), past.read_is_urgent()), (None, false));
    }

    #[test]
    fn an_app_that_keeps_coming_back_is_contested_and_still_enforced() {
        let mut past = Attempts::new(0);
        let mut now = NOW;
        let mut turns = Vec::new();
        for _ in 0..4 {
            past.begin(Action::Stop, None);
            past.accepted(None, CONFIRM, now);
            assert_eq!(
                past.note(Desired::Stopped, Observed::Stopped, NO_RESTART, now),
                Some(Effect::Verified(Action::Stop))
            );
            now = now + INTERVAL;
            turns.push(past.note(Desired::Stopped, Observed::Running, NO_RESTART, now));
        }
        assert_eq!(turns, [None, None, Some(Effect::Contested(3)), Some(Effect::Contested(4))]);
        let (reason, until) = past.gate(now).unwrap();
        assert_eq!(reason, Reason::Contested);
        assert_eq!(stop_at(&past, until), Decision::Act(Action::Stop));
    }

    fn any_attempts() -> impl Strategy<Value = Attempts> {
        (any::<u64>(), proptest::collection::vec(0..8_u8, 0..6)).prop_map(|(salt, steps)| {
            let mut past = Attempts::new(salt);
            let mut now = Moment::START;
            for step in steps {
                now = now + Duration::from_secs(7);
                match step {
                    0 => past.begin(Action::Stop, None),
                    1 => past.begin(Action::Start, None),
                    2 => past.accepted(None, CONFIRM, now),
                    3 => past.failed(Verdict::LostAnswer, INTERVAL, now),
                    4 => past.failed(Verdict::Retry, INTERVAL, now),
                    5 => past.target_changed(Desired::Running, now),
                    6 => past.request_read(now),
                    _ => drop(past.note(Desired::Stopped, Observed::Running, NO_RESTART, now)),
                }
            }
            past
        })
    }

    proptest! {
        #[test]
        fn an_unknown_state_never_causes_a_call(past in any_attempts(), running: bool, at in 0..1_000_u64, incomplete: bool) {
            let desired = if running { Desired::Running } else { Desired::Stopped };
            let gates = Gates { list_incomplete: incomplete, ..Gates::OPEN };
            let decision = decide(Goal::Known(target(desired)), Observed::Unknown, RestartNeed::Nothing, &past, gates, Moment::from_secs(at));
            prop_assert!(!matches!(decision, Decision::Act(_)));
        }

        #[test]
        fn only_a_running_app_is_stopped_and_only_if_declared(past in any_attempts(), index in 0..6_usize, at in 0..1_000_u64) {
            for desired in [Desired::Running, Desired::Stopped] {
                let observed = Observed::ALL[index];
                let decision = decide(Goal::Known(target(desired)), observed, RestartNeed::Nothing, &past, Gates::OPEN, Moment::from_secs(at));
                if decision == Decision::Act(Action::Stop) {
                    prop_assert_eq!((desired, observed), (Desired::Stopped, Observed::Running));
                    prop_assert_eq!(past.in_flight(), None);
                }
            }
        }
    }
}
