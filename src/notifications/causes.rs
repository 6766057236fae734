//! The causes of notifications, and the times of the messages.
//!
//! A cause is one reason for all apps that have it: an outage is one message, not one for each app. It is announced
//! when it has lasted for a while, again at long intervals, and ended once it has been gone for a while. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::reconcile::app::AppName;
use crate::reconcile::reason::Reason;

/// Minimum duration of a cause before it is announced.
const ANNOUNCED_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// Minimum interval between two messages about a lasting cause.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(6);
/// Minimum absence of a cause before its end is announced.
const ENDED_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// A cause that returns within this time continues. A message reports this if it lasts as long again.
const JOINED_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Level of a message. `--notify-level` is the minimum level of the sent messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Actions of the operator.
    Info,
    /// Causes that may end by themselves, and scheduled stops.
    Warning,
    /// Causes that only a person can end.
    Person,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Person => "person",
        }
    }
}

/// Current state of a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CauseState {
    pub level: Level,
    /// The apps that have the cause.
    pub apps: Vec<AppName>,
    /// The first app's message, or that of the daemon.
    pub detail: Option<Arc<str>>,
}

/// All current causes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    pub causes: BTreeMap<Reason, CauseState>,
    /// Whether causes that are absent here have ended. False before the first complete list of apps.
    pub is_complete: bool,
    /// Whether the causes of apps are unknown because of a cause of the account or of the source.
    pub is_masked: bool,
}

/// Change of a cause that a message reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Began,
    Continues,
    Ended,
}

/// A message about one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub event: Event,
    pub reason: Reason,
    pub since: Timestamp,
    /// Its last state.
    pub state: CauseState,
}

/// One cause over time.
#[derive(Debug, Clone)]
struct Cause {
    since: Timestamp,
    /// Time of the last message about it.
    announced_at: Option<Timestamp>,
    /// Time at which it disappeared.
    gone: Option<Timestamp>,
    /// Whether its end was announced.
    ended: bool,
    /// Time of its return after that.
    returned: Option<Timestamp>,
    state: CauseState,
}

/// An announced cause, as the file keeps it over a restart.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub reason: String,
    pub since: Timestamp,
    pub announced_at: Timestamp,
    pub level: String,
}

#[derive(Debug, Clone, Default)]
pub struct Causes(BTreeMap<Reason, Cause>);

impl Causes {
    /// Continues with the causes of an earlier process. A reason that is unknown now is left out.
    pub fn restore(kept: &[Kept]) -> Self {
        let levels = [Level::Info, Level::Warning, Level::Person];
        let restore = |kept: &Kept| {
            let level = levels.into_iter().find(|level| level.as_str() == kept.level)?;
            let state = CauseState { level, apps: Vec::new(), detail: None };
            let (since, announced_at) = (kept.since, Some(kept.announced_at));
            let cause = Cause { since, announced_at, gone: None, ended: false, returned: None, state };
            Some((kept.reason.parse().ok()?, cause))
        };
        Self(kept.iter().filter_map(restore).collect())
    }

    /// The announced causes that have not ended.
    pub fn kept(&self) -> Vec<Kept> {
        let open = self.0.iter().filter(|(_, cause)| !cause.ended);
        open.filter_map(|(reason, cause)| {
            let level = cause.state.level.as_str().to_owned();
            Some(Kept {
                reason: reason.as_str().to_owned(),
                since: cause.since,
                announced_at: cause.announced_at?,
                level,
            })
        })
        .collect()
    }

    /// Takes the current causes, and returns the messages that are scheduled now.
    pub fn observe(&mut self, present: Present, now: Timestamp) -> Vec<Report> {
        let Present { causes, is_complete, is_masked } = present;
        // The masking causes themselves are never hidden.
        let is_hidden = |reason: Reason| is_masked && !reason.is_account_wide() && reason != Reason::SourceUnavailable;
        // A hidden cause without an announcement is dropped. If it appears again, it is a new cause.
        self.0.retain(|reason, cause| {
            causes.contains_key(reason) || !is_hidden(*reason) || cause.announced_at.is_some() || cause.ended
        });
        for (reason, cause) in &mut self.0 {
            if !causes.contains_key(reason) {
                // A cause can disappear only after a complete list.
                let is_known = is_complete && !is_hidden(*reason);
                cause.gone = if is_known { cause.gone.or(Some(now)) } else { cause.gone.filter(|_| cause.ended) };
            }
        }
        for (reason, state) in causes {
            let new = || Cause {
                since: now,
                announced_at: None,
                gone: None,
                ended: false,
                returned: None,
                state: state.clone(),
            };
            let cause = self.0.entry(reason).or_insert_with(new);
            if std::mem::take(&mut cause.ended) {
                cause.returned = Some(now);
            }
            (cause.state, cause.gone) = (state, None);
        }
        let mut reports = Vec::new();
        for (reason, cause) in &mut self.0 {
            let Some(event) = cause.due(now) else { continue };
            match event {
                Event::Began | Event::Continues => (cause.announced_at, cause.returned) = (Some(now), None),
                Event::Ended => cause.ended = true,
            }
            let is_silent = event == Event::Ended && (cause.announced_at.is_none() || cause.returned.is_some());
            if !is_silent {
                reports.push(Report { event, reason: *reason, since: cause.since, state: cause.state.clone() });
            }
        }
        self.0.retain(|_, cause| !cause.is_forgotten(now));
        reports
    }

    /// The current causes that are not announced yet. They count as announced from now on.
    pub fn announce_all(&mut self, now: Timestamp) -> Vec<Report> {
        let new = self.0.iter_mut().filter(|(_, cause)| cause.announced_at.is_none() && cause.gone.is_none());
        new.map(|(reason, cause)| {
            cause.announced_at = Some(now);
            Report { event: Event::Began, reason: *reason, since: cause.since, state: cause.state.clone() }
        })
        .collect()
    }

    /// The time of the next message if nothing changes.
    pub fn next(&self) -> Option<Timestamp> {
        self.0.values().filter_map(Cause::next).min()
    }
}

impl Cause {
    /// Returns the message that is scheduled now. A cause that was never announced ends without a message.
    fn due(&self, now: Timestamp) -> Option<Event> {
        let (event, at) = self.following()?;
        (at <= now).then_some(event)
    }

    fn following(&self) -> Option<(Event, Timestamp)> {
        match (self.gone, self.announced_at) {
            _ if self.ended => None,
            (Some(gone), _) => Some((Event::Ended, later(gone, ENDED_AFTER))),
            (None, None) => Some((Event::Began, later(self.since, ANNOUNCED_AFTER))),
            (None, Some(announced_at)) => {
                let again = later(announced_at, AGAIN_AFTER);
                let returned = self.returned.map_or(again, |returned| later(returned, JOINED_WITHIN));
                Some((Event::Continues, again.min(returned)))
            }
        }
    }

    fn next(&self) -> Option<Timestamp> {
        self.following().map(|(_, at)| at).or_else(|| Some(later(self.gone?, ENDED_AFTER + JOINED_WITHIN)))
    }

    fn is_forgotten(&self, now: Timestamp) -> bool {
        let ended = self.gone.filter(|_| self.ended);
        ended.is_some_and(|gone| self.announced_at.is_none() || later(gone, ENDED_AFTER + JOINED_WITHIN) <= now)
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn present(reasons: &[Reason]) -> Present {
        let state = |reason: &Reason| (*reason, CauseState { level: Level::Warning, apps: Vec::new(), detail: None });
        Present { causes: reasons.iter().map(state).collect(), is_complete: true, is_masked: false }
    }

    /// Observes an outage during some spans of time, each second; returns the second and the event of each message.
    fn events(outages: &[(i64, i64)], until: i64) -> Vec<(i64, Event)> {
        let mut causes = Causes::default();
        (0..until)
            .flat_map(|second| {
                let is_out = outages.iter().any(|(from, to)| (from..to).contains(&&second));
                let reasons: &[Reason] = if is_out { &[Reason::ApiUnavailable] } else { &[] };
                let reports = causes.observe(present(reasons), at(second));
                reports.into_iter().map(move |report| (second, report.event)).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn a_cause_is_announced_after_a_while_and_ended_once() {
        use Event::{Began, Continues, Ended};
        for (outages, expected) in [
            // Too short for a message.
            (vec![(0, 20)], vec![]),
            (vec![(0, 20), (100, 120)], vec![]),
            // A short gap neither ends the cause nor begins it again.
            (vec![(0, 29), (31, 40)], vec![(31, Began), (100, Ended)]),
            (vec![(0, 20), (25, 100)], vec![(30, Began), (160, Ended)]),
            (vec![(0, 100), (150, 200)], vec![(30, Began), (260, Ended)]),
            // A cause that returns soon continues, and ends without another message.
            (vec![(0, 100), (300, 400)], vec![(30, Began), (160, Ended)]),
            (vec![(0, 100), (300, 1_000)], vec![(30, Began), (160, Ended), (900, Continues), (1_060, Ended)]),
            // Later it is a new cause.
            (vec![(0, 100), (900, 1_000)], vec![(30, Began), (160, Ended), (930, Began), (1_060, Ended)]),
            (vec![(0, 50_000)], vec![(30, Began), (21_630, Continues), (43_230, Continues), (50_060, Ended)]),
        ] {
            assert_eq!(events(&outages, 51_000), expected, "{outages:?}");
        }
    }

    #[test]
    fn the_next_moment_is_that_of_the_next_message() {
        let mut causes = Causes::default();
        let outage = present(&[Reason::ApiUnavailable]);
        let mut observe = |present: &Present, second| {
            let messages = causes.observe(present.clone(), at(second)).len();
            (messages, causes.next().map(|next| next.as_second() - at(0).as_second()))
        };
        assert_eq!(observe(&present(&[]), 0), (0, None));
        assert_eq!(observe(&outage, 0), (0, Some(30)));
        assert_eq!(observe(&outage, 30), (1, Some(30 + 21_600)));
        assert_eq!(observe(&present(&[]), 100), (0, Some(160)));
        assert_eq!(observe(&present(&[]), 160), (1, Some(100 + 660)));
        assert_eq!(observe(&present(&[]), 760), (0, None), "it is forgotten");
    }

    #[test]
    fn a_restart_continues_the_announced_causes() {
        let mut before = Causes::default();
        let outage = present(&[Reason::ApiUnavailable, Reason::AppNotFound]);
        before.observe(present(&[Reason::ApiUnavailable]), at(0));
        before.observe(outage.clone(), at(30));
        let kept = before.kept();
        assert_eq!(kept.len(), 1, "the other one was not announced yet");
        let mut after = Causes::restore(&kept);
        assert_eq!(after.kept(), kept);
        // The first list takes a long time.
        let unknown = Present::default();
        assert_eq!(after.observe(unknown.clone(), at(100)), []);
        assert_eq!(after.observe(unknown, at(400)), []);
        assert_eq!(after.observe(outage, at(401)), []);
        assert_eq!(after.observe(present(&[]), at(410)), []);
        let ended = after.observe(present(&[]), at(470));
        assert_eq!((ended.len(), ended[0].event, ended[0].since), (1, Event::Ended, at(0)));
    }

    #[test]
    fn a_cause_that_another_one_hides_neither_ends_nor_begins() {
        let mut causes = Causes::default();
        let masked = Present { is_masked: true, ..present(&[Reason::ApiUnavailable]) };
        let mut events = |present: &Present, second| {
            let reports = causes.observe(present.clone(), at(second));
            reports.iter().map(|report| (report.event, report.reason)).collect::<Vec<_>>()
        };
        let forbidden = present(&[Reason::Forbidden]);
        assert_eq!(events(&forbidden, 0), []);
        assert_eq!(events(&forbidden, 30), [(Event::Began, Reason::Forbidden)]);
        let both = present(&[Reason::Forbidden, Reason::ObservationIncomplete]);
        assert_eq!(events(&both, 35), []);
        assert_eq!(events(&masked, 40), []);
        assert_eq!(events(&masked, 70), [(Event::Began, Reason::ApiUnavailable)], "one cause, one message");
        assert_eq!(events(&masked, 200), []);
        assert_eq!(events(&forbidden, 300), []);
        assert_eq!(events(&forbidden, 360), [(Event::Ended, Reason::ApiUnavailable)]);
        assert_eq!(events(&present(&[]), 400), []);
        assert_eq!(events(&present(&[]), 460), [(Event::Ended, Reason::Forbidden)]);
    }
}
