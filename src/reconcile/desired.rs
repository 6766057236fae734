//! Declared objects, and the target of each at a time.
//!
//! Values only: `manifest` reads the files and keeps the last good version.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::app::{AppId, AppName};
use super::labels::Labels;
use super::reason::Reason;
use super::restart::Restart;
use super::schedule::{Schedule, Shared};
use super::state::Desired;

/// Policy: the calls that are allowed. The stricter policy is the smaller one, so `min` of two policies applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
pub enum Policy {
    /// Stop, start and restart.
    Full = 2,
    /// Stop, but never start or restart.
    StopOnly = 1,
    /// Read and report; never call.
    ObserveOnly = 0,
}

impl Policy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ObserveOnly => "ObserveOnly",
            Self::StopOnly => "StopOnly",
            Self::Full => "Full",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// `spec.suspend`: the operator observes and reports the app, and sends no call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Suspension {
    pub reason: Option<Arc<str>>,
    /// End of the suspension; without it, the suspension lasts until an edit.
    pub until: Option<Timestamp>,
}

impl Suspension {
    /// Returns whether the suspension is in force at `wall`.
    pub fn holds(&self, wall: Timestamp) -> bool {
        self.until.is_none_or(|until| wall < until)
    }
}

/// `spec.override`: another desired state until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    pub state: Desired,
    pub until: Timestamp,
    pub reason: Option<Arc<str>>,
    /// Author.
    pub by: Option<Arc<str>>,
}

impl Override {
    /// Returns whether the override is in force at `wall`.
    pub fn holds(&self, wall: Timestamp) -> bool {
        wall < self.until
    }

    /// End, reason and author, for display: `until 2026-11-26T05:00:00Z (hotfix, by ana)`.
    pub fn note(&self) -> String {
        let by = self.by.as_ref().map(|by| format!("by {by}"));
        let notes: Vec<&str> = [self.reason.as_deref(), by.as_deref()].into_iter().flatten().collect();
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        format!("until {}{notes}", self.until)
    }
}

/// `spec` of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub app_id: AppId,
    pub state: Desired,
    /// Takes precedence over `schedule` and `state` until its end.
    pub override_: Option<Override>,
    /// The stricter of this policy and that of the daemon applies.
    pub policy: Option<Policy>,
    pub suspend: Option<Suspension>,
    pub schedule: Option<Arc<Schedule>>,
    pub restart: Option<Arc<Restart>>,
}

/// Part of a manifest that sets the desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// `state`: no override is in force, and no window contains the time.
    State,
    /// `override`, until its end.
    Override,
    /// This exception of the schedule, and its event, both counted from 0.
    Except(usize, usize),
    /// This window, counted from 0.
    Window(usize),
}

/// Target of an app at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub desired: Desired,
    pub because: Because,
    /// Whether the manifest suspends it at this moment.
    pub suspended: bool,
    /// Whether the target depends on the time.
    pub timed: bool,
    /// The policy of the manifest.
    pub policy: Policy,
}

impl Spec {
    /// A spec with only a state.
    pub const fn new(app_id: AppId, state: Desired) -> Self {
        Self { app_id, state, override_: None, policy: None, suspend: None, schedule: None, restart: None }
    }

    /// The target at `wall`. It depends only on the spec and the time.
    pub fn target(&self, wall: Timestamp) -> Target {
        let scheduled = || {
            let schedule = self.schedule.as_ref()?;
            if let Some((index, event)) = schedule.exception(wall) {
                return Some((schedule.except[index].state, Because::Except(index, event)));
            }
            let index = schedule.deciding(wall)?;
            Some((schedule.windows[index].state, Because::Window(index)))
        };
        let (desired, because) = match self.override_.as_ref().filter(|over| over.holds(wall)) {
            Some(over) => (over.state, Because::Override),
            None => scheduled().unwrap_or((self.state, Because::State)),
        };
        Target {
            desired,
            because,
            suspended: self.suspend.as_ref().is_some_and(|suspension| suspension.holds(wall)),
            timed: self.is_timed(),
            policy: self.policy.unwrap_or(Policy::Full),
        }
    }

    /// Returns whether the target depends on the time: there are windows, an override, or a suspension that ends.
    pub fn is_timed(&self) -> bool {
        let until = self.suspend.as_ref().and_then(|suspension| suspension.until);
        let windows =
            self.schedule.as_ref().is_some_and(|schedule| !schedule.windows.is_empty() || !schedule.except.is_empty());
        until.is_some() || self.override_.is_some() || windows
    }

    /// The next time after `wall` at which a window begins or ends, or a suspension or an override ends.
    pub fn next_change(&self, wall: Timestamp) -> Option<Timestamp> {
        let suspension = self.suspend.as_ref().and_then(|suspension| suspension.until);
        let over = self.override_.as_ref().map(|over| over.until);
        let window = self.schedule.as_ref().and_then(|schedule| schedule.next_boundary(wall));
        [suspension, over, window].into_iter().flatten().filter(|at| *at > wall).min()
    }

    /// The zone of the schedule, otherwise UTC.
    pub fn zone(&self) -> TimeZone {
        self.schedule.as_ref().map_or(TimeZone::UTC, |schedule| schedule.zone.clone())
    }

    /// The next time after `wall` at which a restart is scheduled.
    pub fn next_restart(&self, wall: Timestamp) -> Option<Timestamp> {
        self.restart.as_ref()?.next_scheduled(&self.zone(), wall)
    }

    /// The next change of the target after `wall`. Windows can begin and end without a change.
    pub fn next_transition(&self, wall: Timestamp) -> Option<(Timestamp, Target)> {
        let now = self.target(wall);
        let mut at = wall;
        // A daily window changes something within a week. 800 boundaries are a year of daily windows.
        for _ in 0..800 {
            at = self.next_change(at)?;
            let then = self.target(at);
            if (then.desired, then.suspended) != (now.desired, now.suspended) {
                return Some((at, then));
            }
        }
        None
    }

    /// The next change of the target that causes a call for an app that is `observed` now: no change during a
    /// suspension, against the policy, or to the present state of the app.
    pub fn next_call(&self, observed: Option<Desired>, wall: Timestamp) -> Option<(Timestamp, Target)> {
        let now = self.target(wall);
        let (mut state, first) = if now.suspended {
            let until = self.suspend.as_ref()?.until?;
            (observed, Some((until, self.target(until))))
        } else {
            (Some(now.desired), self.next_transition(wall))
        };
        if now.policy == Policy::ObserveOnly {
            return None;
        }
        // A policy forbids at most every second change.
        std::iter::successors(first, |(at, _)| self.next_transition(*at)).take(3).find(|(_, then)| {
            let changes = state.replace(then.desired) != Some(then.desired);
            changes && !then.suspended && (then.desired == Desired::Stopped || then.policy == Policy::Full)
        })
    }

    /// The deciding part of the manifest: `state`, `suspend`, `override`, `window 2 (Fri 21:00-Mon 06:00)`, or
    /// `schedule office, except 1 (holidays.ics: Christmas)`.
    pub fn explain(&self, target: Target) -> String {
        let part = match (target.suspended, target.because, &self.schedule) {
            (true, ..) => return "suspend".into(),
            (false, Because::Override, _) => return "override".into(),
            (false, Because::Except(index, event), Some(schedule)) => {
                let exception = &schedule.except[index];
                format!("except {} ({}: {})", index + 1, exception.calendar, exception.events()[event].summary)
            }
            (false, Because::Window(index), Some(schedule)) => {
                format!("window {} ({})", index + 1, schedule.windows[index].span)
            }
            (false, Because::State | Because::Except(..) | Because::Window(_), _) => return "state".into(),
        };
        match self.shared() {
            Some(shared) => format!("schedule {}, {part}", shared.name),
            None => part,
        }
    }

    /// The Schedule of `scheduleRef`, if there is one.
    pub fn shared(&self) -> Option<&Shared> {
        self.schedule.as_ref()?.shared.as_ref()
    }

    /// The note of the deciding part.
    pub fn note(&self, target: Target) -> Option<String> {
        let reason = match (target.suspended, target.because, &self.schedule) {
            (true, ..) => self.suspend.as_ref()?.reason.clone(),
            (false, Because::Override, _) => return self.override_.as_ref().map(Override::note),
            (false, Because::Except(index, _), Some(schedule)) => schedule.except.get(index)?.reason.clone(),
            (false, Because::Window(index), Some(schedule)) => schedule.windows.get(index)?.reason.clone(),
            (false, Because::State | Because::Except(..) | Because::Window(_), _) => None,
        };
        reason.map(|reason| (*reason).to_owned())
    }
}

/// Place of a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Path below the manifest directory, or the resource and name of an object of an API.
    pub file: Arc<str>,
    /// Line of the document's first key, counted from 1; 0 where there are no lines.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

/// Validity of the newest text of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Validity {
    /// Its newest text is valid, and no other text declares the object.
    #[default]
    Valid,
    /// Its newest text is not valid; the last good spec stays in force (as with a rejected `kubectl apply`).
    Invalid {
        message: Arc<str>,
        /// Time at which it became invalid; other errors since then do not change it.
        since: Timestamp,
    },
    /// Several manifests claim this name or this app: no call is sent for any of them.
    Conflicting {
        /// `DuplicateName` or `DuplicateAppId`.
        reason: Reason,
        /// The other manifests, with all places.
        message: Arc<str>,
    },
}

/// Content of one valid document. Shared and immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// `metadata.name`.
    pub name: AppName,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `spec`.
    pub spec: Spec,
}

/// One object of the manifests: its last good version, and the validity of its newest text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// `metadata.name`.
    pub name: AppName,
    /// The last good version.
    pub object: Option<Arc<Object>>,
    pub place: Place,
    pub validity: Validity,
}

impl Declared {
    pub fn spec(&self) -> Option<&Spec> {
        self.object.as_ref().map(|object| &object.spec)
    }
}

/// Progress of the newest text of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Text {
    /// It is in force, or is invalid.
    #[default]
    Stable,
    /// A newer text is not accepted yet: no call is sent for the older one.
    Pending,
    /// Pending, and a process has had its file open for writing for a while.
    BeingWritten,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::schedule::{Days, Event, Exception, Span, Window};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Stopped, with a window in which it runs from 100 s to 200 s, and a suspension until 300 s.
    fn spec(window: bool, until: Option<i64>) -> Spec {
        let wall = |second| at(second).to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let span = Span::Once { from: wall(100), to: Some(wall(200)) };
        let windows =
            Vec::from_iter(window.then_some(Window { state: Desired::Running, span, reason: None, warn: None }));
        Spec {
            suspend: until.map(|until| Suspension { reason: None, until: Some(at(until)) }),
            schedule: Some(Arc::new(Schedule::new("UTC", windows).unwrap())),
            ..Spec::new("a".parse().unwrap(), Desired::Stopped)
        }
    }

    #[test]
    fn a_target_depends_on_the_moment_alone() {
        use Desired::{Running, Stopped};
        let spec = spec(true, Some(300));
        for (second, desired, suspended, because) in [
            (0, Stopped, true, "suspend"),
            (100, Running, true, "suspend"),
            (199, Running, true, "suspend"),
            (200, Stopped, true, "suspend"),
            (299, Stopped, true, "suspend"),
            (300, Stopped, false, "state"),
        ] {
            let target = spec.target(at(second));
            assert_eq!((target.desired, target.suspended), (desired, suspended), "{second}");
            assert_eq!(spec.explain(target), because, "{second}");
        }
        let running = Spec { suspend: None, ..spec }.target(at(150));
        assert_eq!((running.desired, running.suspended), (Running, false));
    }

    #[test]
    fn a_window_is_explained_with_its_number_and_span() {
        let spec = spec(true, None);
        let expected = "window 1 (1970-01-01 00:01:40-1970-01-01 00:03:20)";
        assert_eq!(spec.explain(spec.target(at(150))), expected);
    }

    #[test]
    fn an_exception_decides_before_windows_and_after_an_override() {
        use Desired::{Running, Stopped};
        let event = Event { from: at(120), to: at(180), summary: "Christmas".into() };
        let mut schedule = (**spec(true, None).schedule.as_ref().unwrap()).clone();
        schedule.except = vec![Exception::new(Stopped, "holidays.ics".into(), Some("closed".into()), vec![event])];
        schedule.shared = Some(Shared { name: "office".into(), file: "office.yaml".into() });
        let spec = Spec { schedule: Some(schedule.into()), ..spec(true, None) };
        let window = "schedule office, window 1 (1970-01-01 00:01:40-1970-01-01 00:03:20)";
        let except = "schedule office, except 1 (holidays.ics: Christmas)";
        for (second, desired, because, change) in [
            (99, Stopped, "state", Some(100)),
            (100, Running, window, Some(120)),
            (120, Stopped, except, Some(180)),
            (179, Stopped, except, Some(180)),
            (180, Running, window, Some(200)),
        ] {
            let target = spec.target(at(second));
            assert_eq!((target.desired, &*spec.explain(target)), (desired, because), "{second}");
            assert_eq!(spec.next_change(at(second)), change.map(at), "{second}");
        }
        assert_eq!(spec.note(spec.target(at(120))).as_deref(), Some("closed"));
        let over = Override { state: Running, until: at(150), reason: None, by: None };
        let spec = Spec { override_: Some(over), ..spec };
        assert_eq!([149, 150].map(|second| spec.target(at(second)).desired), [Running, Stopped]);
    }

    #[test]
    fn an_override_decides_before_windows_until_exactly_its_end() {
        use Desired::{Running, Stopped};
        let over = |state, until| Some(Override { state, until: at(until), reason: None, by: None });
        let stopped = Spec { override_: over(Stopped, 150), ..spec(true, None) };
        let running = Spec { override_: over(Running, 250), ..spec(true, Some(50)) };
        for (spec, second, desired, because, change) in [
            (&stopped, 0, Stopped, "override", Some(100)),
            (&stopped, 100, Stopped, "override", Some(150)),
            (&stopped, 149, Stopped, "override", Some(150)),
            (&stopped, 150, Running, "window 1 (1970-01-01 00:01:40-1970-01-01 00:03:20)", Some(200)),
            (&running, 49, Running, "suspend", Some(50)),
            (&running, 50, Running, "override", Some(100)),
            (&running, 249, Running, "override", Some(250)),
            (&running, 250, Stopped, "state", None),
        ] {
            let target = spec.target(at(second));
            assert_eq!((target.desired, &*spec.explain(target)), (desired, because), "{second}");
            assert_eq!(spec.next_change(at(second)), change.map(at), "{second}");
            assert!(target.timed);
        }
        let transition =
            |spec: &Spec, now| spec.next_transition(at(now)).map(|(at, then)| (at.as_second(), then.desired));
        assert_eq!((transition(&stopped, 0), transition(&running, 50)), (Some((150, Running)), Some((250, Stopped))));
    }

    #[test]
    fn the_next_call_is_one_that_the_operator_makes() {
        use Desired::{Running, Stopped};
        let call =
            |spec: &Spec, observed| spec.next_call(observed, at(0)).map(|(at, then)| (at.as_second(), then.desired));
        let windows = spec(true, None);
        assert_eq!(call(&windows, Some(Stopped)), Some((100, Running)));
        // The window begins during the suspension and ends after it.
        let suspended = spec(true, Some(150));
        assert_eq!(call(&suspended, Some(Stopped)), Some((150, Running)));
        assert_eq!(call(&suspended, Some(Running)), Some((200, Stopped)), "it runs already");
        let forever = Spec { suspend: Some(Suspension::default()), ..windows.clone() };
        assert_eq!(call(&forever, Some(Stopped)), None);
        let policy = |policy| call(&Spec { policy: Some(policy), ..windows.clone() }, Some(Stopped));
        assert_eq!((policy(Policy::ObserveOnly), policy(Policy::StopOnly)), (None, Some((200, Stopped))));
    }

    #[test]
    fn an_override_is_noted_with_its_end_reason_and_author() {
        let over = |reason: Option<&str>, by: Option<&str>| Override {
            state: Desired::Running,
            until: at(3_600),
            reason: reason.map(Into::into),
            by: by.map(Into::into),
        };
        for (reason, by, note) in [
            (None, None, "until 1970-01-01T01:00:00Z"),
            (Some("hotfix"), None, "until 1970-01-01T01:00:00Z (hotfix)"),
            (None, Some("ana"), "until 1970-01-01T01:00:00Z (by ana)"),
            (Some("hotfix"), Some("ana"), "until 1970-01-01T01:00:00Z (hotfix, by ana)"),
        ] {
            let spec = Spec { override_: Some(over(reason, by)), ..spec(false, None) };
            assert_eq!(spec.note(spec.target(at(0))).as_deref(), Some(note));
            assert_eq!(spec.note(spec.target(at(3_600))), None);
        }
    }

    #[test]
    fn windows_and_ends_of_suspensions_depend_on_the_time() {
        for (window, until, timed) in [(false, None, false), (true, None, true), (false, Some(1), true)] {
            let spec = spec(window, until);
            assert_eq!((spec.is_timed(), spec.target(at(0)).timed), (timed, timed));
        }
        let forever = Spec { suspend: Some(Suspension::default()), schedule: None, ..spec(false, None) };
        assert!(!forever.is_timed() && forever.target(at(i64::from(u32::MAX))).suspended);
    }

    #[test]
    fn the_next_change_is_the_earliest_of_windows_and_suspension() {
        let change = |spec: &Spec, now| spec.next_change(at(now)).map(Timestamp::as_second);
        let both = spec(true, Some(150));
        let changes = [0, 99, 100, 149, 150, 199, 200].map(|now| change(&both, now));
        assert_eq!(changes, [Some(100), Some(100), Some(150), Some(150), Some(200), Some(200), None]);
        assert_eq!(change(&spec(false, None), 0), None);
        let transition = |spec: &Spec| spec.next_transition(at(0)).map(|(at, then)| (at.as_second(), then.desired));
        assert_eq!(transition(&both), Some((100, Desired::Running)));
        // A window with the state of `state` changes nothing.
        assert_eq!(transition(&Spec { state: Desired::Running, ..spec(true, None) }), None);
        let days = Days::ALL;
        let (from, to) = (jiff::civil::time(1, 0, 0, 0), jiff::civil::time(2, 0, 0, 0));
        let daily = Span::Recurring { days, from, ends_after: 0, to };
        let windows = vec![Window { state: Desired::Stopped, span: daily, reason: None, warn: None }];
        let same = Spec { schedule: Some(Arc::new(Schedule::new("UTC", windows).unwrap())), ..spec(false, None) };
        assert_eq!((change(&same, 0), transition(&same)), (Some(3_600), None));
    }

    #[test]
    fn of_two_policies_the_stricter_is_the_smaller() {
        assert!(Policy::ObserveOnly < Policy::StopOnly && Policy::StopOnly < Policy::Full);
        assert_eq!(
            [Policy::ObserveOnly, Policy::StopOnly, Policy::Full].map(Policy::as_str),
            ["ObserveOnly", "StopOnly", "Full"]
        );
    }
}
