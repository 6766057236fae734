//! Forecast of the transitions that the manifests cause: number, time and duration of the calls, and the saved memory
//! hours.
//!
//! A pure function of the manifests and the time. It assumes that each app is as declared now.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::desired::{Policy, Spec, Target};
use super::state::Desired;

/// One app whose future is forecast.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub spec: &'a Spec,
    /// Memory of the app; `None` if unknown.
    pub memory_mb: Option<u32>,
}

/// Calls that are scheduled at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Bulk {
    pub at: Timestamp,
    pub stops: usize,
    pub starts: usize,
    /// The deciding part of one of the manifests.
    pub because: String,
    /// Time of the last call at the budget.
    pub ends: Timestamp,
}

impl Bulk {
    pub fn calls(&self) -> usize {
        self.stops + self.starts
    }
}

/// Time that apps with a schedule or an override are Stopped.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Saved {
    pub hours: f64,
    /// MB hours of the apps with known memory.
    pub mb_hours: f64,
    /// Number of these apps with unknown memory.
    pub unknown_memory: usize,
}

/// The next event of a calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holiday {
    pub from: Timestamp,
    pub to: Timestamp,
    pub summary: Arc<str>,
    pub calendar: Arc<str>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    pub from: Timestamp,
    pub to: Timestamp,
    /// In order of time.
    pub bulks: Vec<Bulk>,
    pub saved: Saved,
    pub holiday: Option<Holiday>,
}

impl Forecast {
    /// Stops and starts of each hour that has any.
    pub fn hours(&self) -> BTreeMap<Timestamp, (usize, usize)> {
        let mut hours: BTreeMap<Timestamp, (usize, usize)> = BTreeMap::new();
        for bulk in &self.bulks {
            let begins = bulk.at.as_second() - bulk.at.as_second().rem_euclid(3_600);
            let (stops, starts) = hours.entry(Timestamp::from_second(begins).unwrap_or(bulk.at)).or_default();
            (*stops, *starts) = (*stops + bulk.stops, *starts + bulk.starts);
        }
        hours
    }

    /// Bulks that overlap.
    pub fn conflicts(&self) -> impl Iterator<Item = (&Bulk, &Bulk)> {
        self.bulks.iter().zip(self.bulks.iter().skip(1)).filter(|(bulk, next)| bulk.ends > next.at)
    }
}

/// Forecasts from `from` to `to`. `per_minute`: requests a minute for calls; `None` is unlimited.
pub fn forecast<'a>(
    subjects: impl Iterator<Item = Subject<'a>>,
    policy: Policy,
    (from, to): (Timestamp, Timestamp),
    per_minute: Option<f64>,
) -> Forecast {
    let mut bulks: BTreeMap<Timestamp, Bulk> = BTreeMap::new();
    let (mut saved, mut holiday) = (Saved::default(), None);
    for Subject { spec, memory_mb } in subjects {
        let mut stopped = SignedDuration::ZERO;
        follow(spec, policy, from, to, |span| match span {
            Span::Stopped(length) => stopped += length,
            Span::Call(at, target) => {
                let new = || Bulk { at, stops: 0, starts: 0, because: spec.explain(target), ends: at };
                let bulk = bulks.entry(at).or_insert_with(new);
                match target.desired {
                    Desired::Stopped => bulk.stops += 1,
                    Desired::Running => bulk.starts += 1,
                }
            }
        });
        if stopped > SignedDuration::ZERO {
            let hours = stopped.as_secs_f64() / 3_600.0;
            saved.hours += hours;
            match memory_mb {
                Some(memory) => saved.mb_hours += hours * f64::from(memory),
                None => saved.unknown_memory += 1,
            }
        }
        holiday = earlier(holiday, next_holiday(spec, from));
    }
    let mut bulks: Vec<Bulk> = bulks.into_values().collect();
    let mut busy = from;
    for bulk in &mut bulks {
        let calls = u32::try_from(bulk.calls()).unwrap_or(u32::MAX);
        let seconds = per_minute.map_or(0.0, |per_minute| f64::from(calls) * 60.0 / per_minute);
        let takes = SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
        busy = busy.max(bulk.at).checked_add(takes).unwrap_or(Timestamp::MAX);
        bulk.ends = busy;
    }
    Forecast { from, to, bulks, saved, holiday }
}

enum Span {
    /// Time for which a schedule or an override stops the app.
    Stopped(SignedDuration),
    Call(Timestamp, Target),
}

/// Reports the transitions and the stopped time of one app.
fn follow(spec: &Spec, policy: Policy, from: Timestamp, to: Timestamp, mut report: impl FnMut(Span)) {
    // An app whose state does not depend on the time saves nothing by its schedule.
    if !spec.is_timed() {
        return;
    }
    let mut target = spec.target(from);
    let (mut at, mut is) = (from, target.desired);
    let is_planned = spec.schedule.is_some() || spec.override_.is_some();
    loop {
        let next = spec.next_transition(at).filter(|(then, _)| *then <= to);
        let end = next.map_or(to, |(then, _)| then);
        if is == Desired::Stopped && is_planned {
            report(Span::Stopped(end.duration_since(at)));
        }
        let Some((then, new)) = next else { return };
        (at, target) = (then, new);
        if target.desired != is && !target.suspended && is_allowed(target, policy) {
            is = target.desired;
            report(Span::Call(at, target));
        }
    }
}

fn is_allowed(target: Target, policy: Policy) -> bool {
    match target.policy.min(policy) {
        Policy::Full => true,
        Policy::StopOnly => target.desired == Desired::Stopped,
        Policy::ObserveOnly => false,
    }
}

fn next_holiday(spec: &Spec, from: Timestamp) -> Option<Holiday> {
    let schedule = spec.schedule.as_ref()?;
    let next = schedule.except.iter().filter_map(|exception| {
        let events = exception.events();
        let event = events.get(events.partition_point(|event| event.to <= from))?;
        let (summary, calendar) = (event.summary.clone(), exception.calendar.clone());
        Some(Holiday { from: event.from, to: event.to, summary, calendar })
    });
    next.min_by_key(|holiday| holiday.from)
}

fn earlier(one: Option<Holiday>, other: Option<Holiday>) -> Option<Holiday> {
    one.into_iter().chain(other).min_by_key(|holiday| holiday.from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::desired::{Override, Suspension};
    use crate::reconcile::schedule::{self, Days, Schedule, Window};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn spec(state: Desired) -> Spec {
        Spec::new("a".parse().unwrap(), state)
    }

    /// Running, and Stopped each night from 22:00 to 06:00 in a zone.
    fn nights(zone: &str) -> Spec {
        let (from, to) = ("22:00".parse().unwrap(), "06:00".parse().unwrap());
        let span = schedule::Span::Recurring { days: Days::ALL, from, ends_after: 1, to };
        let window = Window { state: Desired::Stopped, span, reason: None, warn: None };
        let schedule = Schedule::new(zone, vec![window]).unwrap();
        Spec { schedule: Some(Arc::new(schedule)), ..spec(Desired::Running) }
    }

    fn of(specs: &[Spec], days: i64, per_minute: Option<f64>) -> Forecast {
        let from = at("2026-11-27T12:00:00Z");
        let subjects = specs.iter().map(|spec| Subject { spec, memory_mb: Some(512) });
        forecast(subjects, Policy::Full, (from, from + SignedDuration::from_hours(24 * days)), per_minute)
    }

    fn bulks(forecast: &Forecast) -> Vec<String> {
        let short = |bulk: &Bulk| format!("{} -{} +{}", bulk.at.strftime("%d %H:%M"), bulk.stops, bulk.starts);
        forecast.bulks.iter().map(short).collect()
    }

    #[test]
    fn transitions_of_all_apps_are_gathered() {
        let fleet = [nights("UTC"), nights("UTC"), nights("America/Sao_Paulo"), spec(Desired::Stopped)];
        let forecast = of(&fleet, 1, Some(60.0));
        assert_eq!(bulks(&forecast), ["27 22:00 -2 +0", "28 01:00 -1 +0", "28 06:00 -0 +2", "28 09:00 -0 +1"]);
        assert_eq!(forecast.bulks[0].ends, at("2026-11-27T22:00:02Z"));
        assert_eq!(forecast.bulks[0].because, "window 1 (22:00-06:00)");
        // Three nights of eight hours; an app that is always Stopped saves nothing by a schedule.
        let saved = Saved { hours: 24.0, mb_hours: 24.0 * 512.0, unknown_memory: 0 };
        assert_eq!(forecast.saved, saved);
        assert_eq!(forecast.conflicts().count(), 0);
        assert_eq!(forecast.hours().len(), 4);
    }

    #[test]
    fn held_apps_are_not_forecast() {
        let stop_only = Spec { policy: Some(Policy::StopOnly), ..nights("UTC") };
        assert_eq!(bulks(&of(&[stop_only], 2, None)), ["27 22:00 -1 +0"], "it is never started again");
        let observed = Spec { policy: Some(Policy::ObserveOnly), ..nights("UTC") };
        assert_eq!(bulks(&of(&[observed], 2, None)), [""; 0]);
        let suspended = Spec { suspend: Some(Suspension::default()), ..nights("UTC") };
        assert_eq!(bulks(&of(&[suspended], 2, None)), [""; 0]);
        let until = Some(at("2026-11-28T00:00:00Z"));
        let suspended = Spec { suspend: Some(Suspension { reason: None, until }), ..nights("UTC") };
        assert_eq!(bulks(&of(&[suspended], 1, None)), ["28 00:00 -1 +0", "28 06:00 -0 +1"], "its end is a transition");
        let over = Override { state: Desired::Running, until: at("2026-11-28T02:00:00Z"), reason: None, by: None };
        let over = Spec { override_: Some(over), ..nights("UTC") };
        assert_eq!(bulks(&of(&[over], 1, None)), ["28 02:00 -1 +0", "28 06:00 -0 +1"]);
    }

    #[test]
    fn a_bulk_that_lasts_into_the_next_one_is_a_conflict() {
        let fleet = vec![nights("UTC"); 500];
        let forecast = of(&fleet, 1, Some(1.0));
        let conflicts: Vec<_> = forecast.conflicts().map(|(bulk, next)| (bulk.calls(), next.at)).collect();
        assert_eq!(conflicts, [(500, at("2026-11-28T06:00:00Z"))]);
        // The rest of one bulk delays the next.
        assert_eq!(forecast.bulks[1].ends, at("2026-11-28T14:40:00Z"));
        assert_eq!(of(&fleet, 1, None).conflicts().count(), 0);
    }

    #[test]
    fn a_night_with_a_change_of_the_clock_has_its_own_length() {
        let from = at("2026-03-28T12:00:00Z");
        let berlin = [nights("Europe/Berlin")];
        let subjects = berlin.iter().map(|spec| Subject { spec, memory_mb: None });
        let forecast = forecast(subjects, Policy::Full, (from, from + SignedDuration::from_hours(24)), None);
        assert_eq!(forecast.saved, Saved { hours: 7.0, mb_hours: 0.0, unknown_memory: 1 });
    }
}
