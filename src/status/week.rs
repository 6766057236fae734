//! The schedule of one app as JSON: its windows, seven days of it, and the next changes, in the zone of the app.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};
use serde_json::{Value, json};

use super::API_VERSION;
use crate::reconcile::desired::{Because, Spec, Target};

/// Number of days, from today.
const DAYS: i8 = 7;
/// Maximum number of next changes.
const CHANGES: usize = 8;
/// Maximum number of exact parts of one day. A day with more is sampled every 10 minutes.
const PARTS: usize = 100;
/// Number of samples of such a day.
const STEPS: i32 = 144;

/// The schedule as it is in force at `now`.
pub fn week(spec: &Spec, now: Timestamp) -> Value {
    let (zone, target) = (spec.zone(), spec.target(now));
    let here = now.to_zoned(zone.clone());
    let days = (0..DAYS).filter_map(|day| here.date().checked_add(day.days()).ok());
    json!({
        "apiVersion": API_VERSION, "kind": "AppSchedule",
        "timeZone": zone.iana_name().unwrap_or("UTC"),
        "desired": state(target), "because": spec.explain(target), "note": spec.note(target),
        "windows": windows(spec, target),
        "days": days.filter_map(|day| one_day(spec, day, &zone, &here)).collect::<Vec<_>>(),
        "transitions": transitions(spec, now, &zone),
        "nextRestart": spec.next_restart(now).map(|at| local_time(at, &zone)),
    })
}

fn state(target: Target) -> &'static str {
    if target.suspended { "Suspended" } else { target.desired.as_str() }
}

fn local_time(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %F %H:%M %Z").to_string()
}

fn windows(spec: &Spec, target: Target) -> Vec<Value> {
    let windows = spec.schedule.iter().flat_map(|schedule| schedule.windows.iter().enumerate());
    let window = windows.map(|(index, window)| {
        json!({
            "number": index + 1, "state": window.state.as_str(), "when": window.span.to_string(),
            "reason": window.reason.as_deref(), "decides": target.because == Because::Window(index) && !target.suspended,
        })
    });
    window.collect()
}

/// Returns one day, with parts as fractions of the day (23 or 25 hours when clocks change).
fn one_day(spec: &Spec, day: Date, zone: &TimeZone, here: &Zoned) -> Option<Value> {
    let start = day.to_zoned(zone.clone()).ok()?.timestamp();
    let end = day.tomorrow().ok()?.to_zoned(zone.clone()).ok()?.timestamp();
    let share = |at: Timestamp| {
        let part = at.duration_since(start).as_secs_f64() / end.duration_since(start).as_secs_f64();
        (part * 1e4).round() / 1e4
    };
    let part = |from: Timestamp, to: Timestamp| {
        let target = spec.target(from);
        json!({"state": state(target), "from": share(from), "to": share(to), "because": spec.explain(target)})
    };
    let next = |from: Timestamp| spec.next_transition(from).map_or(end, |(at, _)| at.min(end));
    let (mut from, mut parts) = (start, Vec::new());
    while from < end && parts.len() < PARTS {
        let to = next(from);
        parts.push(part(from, to));
        from = to;
    }
    let is_coarse = from < end;
    if is_coarse {
        let step = end.duration_since(start) / STEPS;
        let steps = (0..STEPS).map(|number| start + step * number);
        parts = steps.map(|from| part(from, from.saturating_add(step).map_or(end, |to| to.min(end)))).collect();
    }
    Some(json!({
        "date": day.to_string(), "title": day.strftime("%a %-d %b").to_string(), "parts": parts,
        // The state at the beginning of each 10 minutes.
        "coarse": is_coarse,
        "now": (here.date() == day).then(|| share(here.timestamp())),
    }))
}

fn transitions(spec: &Spec, now: Timestamp, zone: &TimeZone) -> Vec<Value> {
    let next = std::iter::successors(spec.next_transition(now), |(at, _)| spec.next_transition(*at));
    let change = |(at, target): (Timestamp, Target)| {
        json!({
            "at": at, "local": local_time(at, zone), "state": state(target), "because": spec.explain(target),
        })
    };
    next.take(CHANGES).map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use jiff::civil::{Time, time};

    use crate::reconcile::schedule::{Days, Schedule, Span, Window};
    use crate::reconcile::state::Desired;

    /// An app that is stopped each day between two times.
    fn stopped(zone: &str, from: Time, to: Time) -> Spec {
        let span = Span::Recurring { days: Days::ALL, from, ends_after: i8::from(to < from), to };
        let window = Window { state: Desired::Stopped, span, reason: None, warn: None };
        let schedule = Schedule {
            zone_name: zone.into(),
            zone: TimeZone::get(zone).unwrap(),
            except: Vec::new(),
            windows: vec![window],
            shared: None,
        };
        Spec { schedule: Some(Arc::new(schedule)), ..plain() }
    }

    fn plain() -> Spec {
        Spec::new("a1".parse().unwrap(), Desired::Running)
    }

    #[test]
    fn a_week_has_each_part_of_each_day() {
        let night = stopped("America/Sao_Paulo", time(22, 0, 0, 0), time(6, 0, 0, 0));
        let week = week(&night, "2026-11-24T15:00:00Z".parse().unwrap());
        assert_eq!((&week["desired"], &week["because"]), (&"Running".into(), &"state".into()));
        assert_eq!(week["days"].as_array().unwrap().len(), 7);
        let today = &week["days"][0];
        assert_eq!((&today["title"], &today["now"]), (&"Tue 24 Nov".into(), &0.5.into()));
        let parts: Vec<String> = today["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| format!("{} {}-{}", part["state"].as_str().unwrap(), part["from"], part["to"]))
            .collect();
        assert_eq!(parts, ["Stopped 0.0-0.25", "Running 0.25-0.9167", "Stopped 0.9167-1.0"]);
        assert_eq!(week["days"][1]["now"], Value::Null);
        assert_eq!(week["windows"][0]["decides"], false);
        assert_eq!(week["transitions"][0]["local"], "Tue 2026-11-24 22:00 -03");
        assert_eq!(week["transitions"].as_array().unwrap().len(), CHANGES);
    }

    #[test]
    fn a_day_with_a_change_of_the_clock_is_whole() {
        let berlin = stopped("Europe/Berlin", time(12, 0, 0, 0), time(13, 0, 0, 0));
        let week = week(&berlin, "2026-10-25T00:00:00Z".parse().unwrap());
        // A day of 25 hours: noon is after 13 of them.
        let noon = &week["days"][0]["parts"][1];
        assert_eq!((&noon["state"], &noon["from"]), (&"Stopped".into(), &0.52.into()));
    }

    #[test]
    fn a_day_with_many_changes_is_coarse_and_whole() {
        let spec = stopped("UTC", time(0, 0, 0, 0), time(1, 0, 0, 0));
        let mut schedule = spec.schedule.as_deref().unwrap().clone();
        let cron = Box::new("*/2 * * * *".parse().unwrap());
        schedule.windows[0].span = Span::Cron { cron, duration: jiff::SignedDuration::from_mins(1) };
        let spec = Spec { schedule: Some(Arc::new(schedule)), ..spec };
        let week = week(&spec, "2026-11-24T15:00:30Z".parse().unwrap());
        for day in week["days"].as_array().unwrap() {
            let parts = day["parts"].as_array().unwrap();
            assert_eq!((&day["coarse"], parts.len(), &parts[143]["to"]), (&true.into(), 144, &1.0.into()));
        }
    }

    #[test]
    fn without_a_schedule_nothing_changes() {
        let week = week(&plain(), "2026-11-24T15:00:00Z".parse().unwrap());
        assert_eq!((&week["timeZone"], &week["transitions"]), (&"UTC".into(), &json!([])));
        assert_eq!(week["days"][6]["parts"].as_array().unwrap().len(), 1);
    }
}
