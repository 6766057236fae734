//! A year of schedules on the virtual clock: every app right soon after each transition, and no call without one.

use std::sync::Arc;
use std::time::Duration;

use campos_operator::budget::Budget;
use campos_operator::manifest::load::{Content, parse};
use campos_operator::operator::Settings;
use campos_operator::reconcile::desired::Spec;
use campos_operator::reconcile::state::Desired;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;
use jiff::{SignedDuration, Timestamp};

use crate::bulk::{Account, count, id, on_a_paused_clock};
use crate::model::manifest;

const ZONES: [&str; 6] =
    ["America/Sao_Paulo", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"];

/// What the n-th app is asked for.
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

fn spec(text: &str) -> Spec {
    let parsed = parse(&Arc::from("x.yaml"), text.as_bytes());
    assert_eq!(parsed.diagnostics, []);
    let Content::Good(object) = &parsed.documents[0].content else { panic!("{text}") };
    object.spec.clone()
}

/// How often what is asked changes from `from` to `to`.
fn transitions(spec: &Spec, from: Timestamp, to: Timestamp) -> usize {
    let next = |at: &Timestamp| spec.next_transition(*at).map(|(then, _)| then).filter(|then| *then <= to);
    std::iter::successors(next(&from), next).count()
}

#[test]
fn a_year_of_schedules_costs_a_call_for_each_transition() {
    // The whole year of the whole fleet takes its time in a build without optimisations.
    let (apps, days) = if cfg!(debug_assertions) { (60, 21) } else { (500, 366) };
    on_a_paused_clock(async {
        let texts: Vec<String> = (0..apps).map(text).collect();
        let specs: Vec<Spec> = texts.iter().map(|text| spec(text)).collect();
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
            for (n, spec) in specs.iter().enumerate() {
                let online = lock(&account.world).online(&id(n).parse().unwrap(), now).unwrap();
                let wanted = spec.target(now).desired;
                assert_eq!(online, wanted == Desired::Running, "app {n} at {now}, {hour} h after the start");
            }
            let [_, _, stops, starts] = count(&account.pass(3600).await);
            calls += stops + starts;
        }
        let until = account.clock.wall() - SignedDuration::from_mins(7);
        let turned: usize = specs.iter().map(|spec| transitions(spec, begun, until)).sum();
        println!("{apps} apps, {days} days: {turned} transitions, {calls} calls");
        assert_eq!(calls, turned);
    });
}
