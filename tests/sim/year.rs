//! A year of schedules on the virtual clock: every app right soon after each transition, and no call without one.

use std::time::Duration;

use campos_operator::budget::Budget;
use campos_operator::operator::Settings;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::bulk::{Account, count, id, on_a_paused_clock};
use crate::model::manifest;

const ZONES: [&str; 6] =
    ["America/Sao_Paulo", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"];

/// Spec of the n-th app.
fn text(n: usize) -> String {
    let windows = match n % 5 {
        0 | 1 => "{state: Stopped, from: \"Fri 21:00\", to: \"Mon 06:00\"}".to_owned(),
        2 => "{state: Stopped, from: \"22:00\", to: \"06:00\", days: Mon-Thu}".to_owned(),
        3 => "{state: Running, cron: \"0 12 * * 1-5\", duration: 2h}, {state: Stopped, from: \"00:00\", to: \"14:00\"}"
            .to_owned(),
        _ => format!(
            "{{state: Stopped, from: \"2027-{:02}-10T10:00\", to: \"2027-{:02}-12T10:00\"}}",
            n % 12 + 1,
            n % 12 + 1
        ),
    };
    let zone = ZONES[n / 5 % ZONES.len()];
    let schedule = format!("  schedule:\n    timeZone: {zone}\n    windows: [{windows}]\n");
    manifest(&format!("app-{n}"), &id(n), "Running", &schedule)
}

/// The state that [`text`] declares for the n-th app, computed from the civil time in its zone, not by the tested code.
fn runs(n: usize, at: Timestamp, zones: &[TimeZone]) -> bool {
    let local = at.to_zoned(zones[n / 5 % zones.len()].clone());
    // 0 is Monday.
    let (day, hour) = (local.weekday().to_monday_zero_offset(), local.hour());
    let month = i8::try_from(n % 12 + 1).unwrap();
    match n % 5 {
        0 | 1 => !((day == 4 && hour >= 21) || day > 4 || (day == 0 && hour < 6)),
        2 => !((day <= 3 && hour >= 22) || ((1..=4).contains(&day) && hour < 6)),
        3 => hour >= 14 || (hour >= 12 && day <= 4),
        _ => {
            let hours = i32::from(local.day()) * 24 + i32::from(hour);
            !(local.year() == 2027 && local.month() == month && (10 * 24 + 10..12 * 24 + 10).contains(&hours))
        }
    }
}

/// Number of changes of the state of the n-th app from `from` to `to`: every window begins and ends at a whole hour,
/// and every zone is whole quarters of an hour from UTC.
fn transitions(n: usize, from: Timestamp, to: Timestamp, zones: &[TimeZone]) -> usize {
    let quarters = std::iter::successors(Some(from), |at| Some(*at + SignedDuration::from_mins(15)));
    let states: Vec<bool> = quarters.take_while(|at| *at <= to).map(|at| runs(n, at, zones)).collect();
    states.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn a_year_of_schedules_costs_a_call_for_each_transition() {
    // The whole year of the whole fleet takes its time in a build without optimisations.
    let (apps, days) = if cfg!(debug_assertions) { (60, 21) } else { (500, 366) };
    on_a_paused_clock(async {
        let texts: Vec<String> = (0..apps).map(text).collect();
        let zones = ZONES.map(|zone| TimeZone::get(zone).unwrap());
        // Lists are not what is tried here: one an hour.
        let settings =
            Settings { budget: Budget::PerMinute(120), interval: Duration::from_secs(3600), ..Settings::default() };
        let account = Account::with(texts, settings, Config::default());
        let begun = account.clock.wall();
        let mut calls = 0;
        // Seven minutes past: a minute, and what five hundred calls take of a budget of 120 a minute.
        account.pass(7 * 60).await;
        for hour in 0..days * 24 {
            let now = account.clock.wall();
            for n in 0..apps {
                let online = lock(&account.world).online(&id(n).parse().unwrap(), now).unwrap();
                assert_eq!(online, runs(n, now, &zones), "app {n} at {now}, {hour} h after the start");
            }
            let [_, _, stops, starts] = count(&account.pass(3600).await);
            calls += stops + starts;
        }
        let until = account.clock.wall() - SignedDuration::from_mins(7);
        let turned: usize = (0..apps).map(|n| transitions(n, begun, until, &zones)).sum();
        println!("{apps} apps, {days} days: {turned} transitions, {calls} calls");
        assert_eq!(calls, turned);
    });
}
