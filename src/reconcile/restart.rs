//! `spec.restart`: whether a running app needs a restart, by one reading and the server's time.
//!
//! No record of restarts is stored: an app that started before a scheduled restart was not restarted for it. A process
//! remembers the restarts that it sent, so that a restart without effect is not sent again for the same cause.

use std::fmt;

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::reading::Reading;
use super::schedule;

/// Largest difference of two times at which an app counts as started at the same time: a server computes them from an
/// uptime in whole seconds.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// `spec.restart`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restart {
    /// Once, at this time.
    pub requested_at: Option<Timestamp>,
    /// At each time of a pattern, in the zone of the schedule.
    pub cron: Option<Box<Cron>>,
    /// When the platform reports `restartRequired`.
    pub when_required: bool,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requested = self.requested_at.map(|at| format!("requested at {at}"));
        let cron = self.cron.as_ref().map(|cron| format!("cron {}", cron.as_str()));
        let required = self.when_required.then(|| "when the platform requires one".to_owned());
        let parts: Vec<String> = [requested, cron, required].into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "never" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

impl Restart {
    /// The last scheduled restart until `at`.
    pub fn last_scheduled(&self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let cron = self.cron.as_ref().and_then(|cron| schedule::last_time(cron, zone, at));
        self.requested_at.filter(|requested| *requested <= at).max(cron)
    }

    /// The first scheduled restart after `after`.
    pub fn next_scheduled(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let cron = self.cron.as_ref().and_then(|cron| schedule::next_time(cron, zone, after));
        let requested = self.requested_at.filter(|requested| *requested > after);
        [requested, cron].into_iter().flatten().min()
    }
}

/// The server's time, from its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTime {
    /// The `Date` of the last answer.
    pub now: Timestamp,
    /// Metrics from before this time prove nothing: an earlier process may have sent a restart that they do not show.
    pub trusted_from: Timestamp,
}

/// The causes of a restart that was sent, and the start of the app before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Causes {
    due: Option<Timestamp>,
    required: bool,
    running_since: Option<Timestamp>,
}

impl Causes {
    /// A scheduled time, or a report of the platform.
    #[cfg(test)]
    pub fn of(is_moment: bool) -> Self {
        Self { due: is_moment.then_some(Timestamp::UNIX_EPOCH), required: !is_moment, running_since: None }
    }

    /// Returns whether an app that has been running since `running_since` was restarted.
    pub fn are_met_by(&self, running_since: Option<Timestamp>) -> bool {
        running_since.zip(self.running_since).is_some_and(|(now, before)| now > later(before, TOLERANCE))
    }

    /// The platform reports that no restart is required: the next report of one is a new cause.
    pub fn forget_required(&mut self) {
        self.required = false;
    }

    /// Returns whether a scheduled time is a cause.
    pub const fn are_timed(&self) -> bool {
        self.due.is_some()
    }
}

/// The restart that `spec.restart` requires of a running app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartNeed {
    Nothing,
    /// A restart, for these causes.
    Restart(Causes),
    /// A restart may be required: a newer reading decides.
    NewerReading,
    /// A restart may be required: the platform reports neither `startedAt` nor `uptime`.
    RunningSince,
    /// A restart was sent for each cause, and the app did not restart.
    NotEffective,
}

/// Returns the restart that `restart` requires, from a reading of the running app. `sent`: restarts of this process.
pub fn need(
    (restart, zone): (&Restart, &TimeZone),
    reading: &Reading,
    sent: &Causes,
    server: Option<ServerTime>,
    wall: Timestamp,
) -> RestartNeed {
    let due = restart.last_scheduled(zone, wall);
    let required = restart.when_required && reading.restart_required == Some(true);
    let Some(running_since) = reading.running_since else {
        return if due.is_some() || required { RestartNeed::RunningSince } else { RestartNeed::Nothing };
    };
    let due = due.filter(|due| later(running_since, TOLERANCE) < *due);
    let new_due = due.filter(|due| Some(*due) > sent.due);
    if new_due.is_none() && (!required || sent.required) {
        let is_pending = due.is_some() || required;
        let is_effective = sent.are_met_by(Some(running_since));
        return if is_pending && !is_effective { RestartNeed::NotEffective } else { RestartNeed::Nothing };
    }
    let is_proof = |server: ServerTime| {
        let is_over = new_due.is_none_or(|due| due <= server.now);
        let taken_at = reading.taken_at.filter(|taken| new_due.is_none_or(|due| due < *taken));
        is_over && taken_at.is_some_and(|taken| server.trusted_from < taken)
    };
    if !server.is_some_and(is_proof) {
        return RestartNeed::NewerReading;
    }
    let due = new_due.or(sent.due);
    RestartNeed::Restart(Causes { due, required: required || sent.required, running_since: Some(running_since) })
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::state::Observed;

    const HOUR: i64 = 3_600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn requested(second: i64) -> Restart {
        Restart { requested_at: Some(at(second)), ..Restart::default() }
    }

    fn daily() -> Restart {
        Restart { cron: Some(Box::new("0 5 * * *".parse().unwrap())), ..Restart::default() }
    }

    fn required() -> Restart {
        Restart { when_required: true, ..Restart::default() }
    }

    /// Metrics of `taken_at` from an app that has been running since `since`.
    fn reading(since: i64, taken_at: i64, restart_required: bool) -> Reading {
        Reading {
            taken_at: Some(at(taken_at)),
            running_since: Some(at(since)),
            restart_required: Some(restart_required),
            ..Reading::new(Observed::Running)
        }
    }

    /// The need at `now` by both clocks; the process has been running for long.
    fn now(restart: &Restart, reading: &Reading, sent: &Causes, now: i64) -> RestartNeed {
        let server = ServerTime { now: at(now), trusted_from: at(0) };
        need((restart, &TimeZone::UTC), reading, sent, Some(server), at(now))
    }

    #[track_caller]
    fn causes(need: RestartNeed) -> Causes {
        let RestartNeed::Restart(causes) = need else { panic!("{need:?}") };
        causes
    }

    #[test]
    fn an_app_is_restarted_once_for_a_moment_if_it_has_been_running_since_before() {
        let restart = requested(1_000);
        let none = Causes::default();
        assert_eq!(now(&restart, &reading(0, 999, false), &none, 999), RestartNeed::Nothing, "not due");
        assert_eq!(now(&restart, &reading(0, 1_000, false), &none, 1_000), RestartNeed::NewerReading);
        let sent = causes(now(&restart, &reading(0, 1_001, false), &none, 1_001));
        assert_eq!(now(&restart, &reading(0, 1_060, false), &sent, 1_060), RestartNeed::NotEffective);
        assert_eq!(now(&restart, &reading(1_002, 1_060, false), &sent, 1_060), RestartNeed::Nothing, "restarted");
        assert_eq!(
            now(&restart, &reading(996, 1_060, false), &none, 1_060),
            RestartNeed::Nothing,
            "about the same time"
        );
        assert!(matches!(now(&restart, &reading(994, 1_060, false), &none, 1_060), RestartNeed::Restart(_)));
    }

    #[test]
    fn the_server_decides_whether_a_moment_has_passed() {
        let (restart, reading, none) = (requested(1_000), reading(0, 1_050, false), Causes::default());
        let of = |server, wall| {
            let server = ServerTime { now: at(server), trusted_from: at(0) };
            need((&restart, &TimeZone::UTC), &reading, &none, Some(server), at(wall))
        };
        assert_eq!(of(999, 1_060), RestartNeed::NewerReading, "our clock is ahead");
        assert_eq!(of(1_060, 999), RestartNeed::Nothing, "our clock is behind");
        assert!(matches!(of(1_000, 1_000), RestartNeed::Restart(_)));
        assert_eq!(need((&restart, &TimeZone::UTC), &reading, &none, None, at(1_060)), RestartNeed::NewerReading);
    }

    #[test]
    fn metrics_from_soon_after_the_start_prove_nothing() {
        let (restart, none) = (requested(1_000), Causes::default());
        let of = |taken| {
            let server = ServerTime { now: at(2_000), trusted_from: at(1_120) };
            need((&restart, &TimeZone::UTC), &reading(0, taken, false), &none, Some(server), at(2_000))
        };
        assert_eq!(of(1_120), RestartNeed::NewerReading);
        assert!(matches!(of(1_121), RestartNeed::Restart(_)));
        let without = Reading { taken_at: None, ..reading(0, 0, false) };
        assert_eq!(now(&restart, &without, &none, 2_000), RestartNeed::NewerReading);
    }

    #[test]
    fn without_a_known_start_of_the_app_nothing_is_restarted() {
        let unknown = |required| Reading { running_since: None, ..reading(0, 2_000, required) };
        let none = Causes::default();
        assert_eq!(now(&requested(1_000), &unknown(false), &none, 2_000), RestartNeed::RunningSince);
        assert_eq!(now(&required(), &unknown(true), &none, 2_000), RestartNeed::RunningSince);
        assert_eq!(now(&required(), &unknown(false), &none, 2_000), RestartNeed::Nothing);
    }

    #[test]
    fn a_required_restart_is_repeated_only_after_a_report_that_none_is_required() {
        let none = Causes::default();
        assert_eq!(now(&required(), &reading(0, 10, false), &none, 10), RestartNeed::Nothing);
        let mut sent = causes(now(&required(), &reading(0, 10, true), &none, 10));
        assert_eq!(now(&required(), &reading(0, 20, true), &sent, 20), RestartNeed::NotEffective);
        assert_eq!(
            now(&required(), &reading(15, 20, true), &sent, 20),
            RestartNeed::Nothing,
            "restarted; still reported"
        );
        sent.forget_required();
        assert!(matches!(now(&required(), &reading(15, 30, true), &sent, 30), RestartNeed::Restart(_)));
    }

    #[test]
    fn each_time_of_a_pattern_is_a_new_cause() {
        let day = 24 * HOUR;
        let (first, second) = (5 * HOUR, day + 5 * HOUR);
        let none = Causes::default();
        let sent = causes(now(&daily(), &reading(0, first + 1, false), &none, first + 1));
        assert_eq!(now(&daily(), &reading(0, second - 1, false), &sent, second - 1), RestartNeed::NotEffective);
        let again = causes(now(&daily(), &reading(0, second + 1, false), &sent, second + 1));
        assert_eq!(now(&daily(), &reading(0, second + 2, false), &again, second + 2), RestartNeed::NotEffective);
        assert_eq!(daily().next_scheduled(&TimeZone::UTC, at(first)), Some(at(second)));
        assert_eq!(daily().last_scheduled(&TimeZone::UTC, at(first)), Some(at(first)));
        let both = Restart { requested_at: Some(at(first + 60)), ..daily() };
        assert_eq!(both.next_scheduled(&TimeZone::UTC, at(first)), Some(at(first + 60)));
        assert_eq!(both.last_scheduled(&TimeZone::UTC, at(first + 61)), Some(at(first + 60)));
    }

    #[test]
    fn a_pattern_follows_the_clock_on_the_wall_of_its_zone() {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let noon: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
        assert_eq!(daily().last_scheduled(&zone, noon), Some("2026-11-26T08:00:00Z".parse().unwrap()));
        // 01:30 does not exist when summer begins in Berlin: it is reached at the change.
        let skipped = Restart { cron: Some(Box::new("30 2 * * *".parse().unwrap())), ..Restart::default() };
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let change: Timestamp = "2026-03-29T01:00:00Z".parse().unwrap();
        assert_eq!(skipped.last_scheduled(&berlin, change), Some(change));
        assert_eq!(skipped.next_scheduled(&berlin, change - SignedDuration::from_secs(1)), Some(change));
        // A time that occurs twice is reached the first time.
        let twice: Timestamp = "2026-10-25T00:30:00Z".parse().unwrap();
        let later = twice + SignedDuration::from_hours(1);
        assert_eq!(skipped.last_scheduled(&berlin, later), Some(twice));
    }
}
