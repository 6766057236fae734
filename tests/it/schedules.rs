//! The bundled schedules, each walked through its month minute by minute and compared with what a person would say.

use std::path::Path;
use std::sync::Arc;

use campos_operator::manifest::load::{Content, parse};
use campos_operator::reconcile::desired::{Desired, Spec};
use jiff::civil::{DateTime, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};

fn spec(name: &str) -> Spec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/schedules").join(name);
    let parsed = parse(&Arc::from(name), &std::fs::read(path).unwrap());
    assert_eq!(parsed.diagnostics, []);
    let Content::Good(object) = &parsed.documents[0].content else { panic!("{name}") };
    object.spec.clone()
}

/// Walks from `first` for 31 days. `up` says whether the app shall be running at a time of its zone.
#[track_caller]
fn walk(name: &str, first: DateTime, up: impl Fn(&Zoned) -> bool) {
    let spec = spec(name);
    let zone = TimeZone::get(&spec.schedule.as_ref().unwrap().zone_name).unwrap();
    let start = zone.to_timestamp(first).unwrap();
    let mut changes = 0;
    let mut announced = spec.next_transition(start);
    let mut before = spec.wish(start).desired;
    for minute in 0..31 * 24 * 60 {
        let at = start + SignedDuration::from_mins(minute);
        let local = at.to_zoned(zone.clone());
        let wanted = if up(&local) { Desired::Running } else { Desired::Stopped };
        assert_eq!(spec.wish(at).desired, wanted, "{name} at {local}");
        if wanted != before {
            let (next, wish) = announced.unwrap();
            assert_eq!((next, wish.desired), (at, wanted), "{name}: what was announced");
            announced = spec.next_transition(at);
            (before, changes) = (wanted, changes + 1);
        }
    }
    assert!(changes >= 2, "{name} changes within its month");
}

fn between(local: &Zoned, from: DateTime, to: DateTime) -> bool {
    from <= local.datetime() && local.datetime() < to
}

#[test]
fn office_hours() {
    walk("office-hours.yaml", date(2026, 11, 15).at(0, 0, 0, 0), |local| {
        !matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday) && (7..20).contains(&local.hour())
    });
}

#[test]
fn weekend() {
    // March 2027 has the change to summer time in it, in the night from Saturday to Sunday.
    walk("weekend.yaml", date(2027, 3, 1).at(0, 0, 0, 0), |local| match local.weekday() {
        Weekday::Friday => local.hour() < 21,
        Weekday::Saturday | Weekday::Sunday => false,
        Weekday::Monday => local.hour() >= 6,
        Weekday::Tuesday | Weekday::Wednesday | Weekday::Thursday => true,
    });
}

#[test]
fn holidays() {
    let day = |month, day, hour| date(if month == 1 { 2027 } else { 2026 }, month, day).at(hour, 0, 0, 0);
    walk("holidays.yaml", day(12, 14, 0), |local| {
        between(local, day(12, 27, 18), day(12, 28, 0)) || !between(local, day(12, 19, 0), day(1, 11, 6))
    });
}

#[test]
fn maintenance() {
    walk("maintenance.yaml", date(2026, 12, 1).at(0, 0, 0, 0), |local| {
        !between(local, date(2026, 12, 6).at(2, 0, 0, 0), date(2026, 12, 6).at(4, 30, 0, 0))
    });
}

#[test]
fn release_night() {
    walk("release-night.yaml", date(2026, 12, 1).at(0, 0, 0, 0), |local| {
        let release = between(local, date(2026, 12, 10).at(22, 0, 0, 0), date(2026, 12, 11).at(2, 0, 0, 0));
        let working_day = !matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday);
        release || ((6..22).contains(&local.hour()) && !(working_day && local.hour() == 12))
    });
}
