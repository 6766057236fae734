//! `spec.restart`: no app is restarted twice for one cause, whatever crashes, is edited or fails, and each due restart
//! is made.

use std::collections::BTreeMap;
use std::time::Duration;

use campos_operator::operator::Settings;
use campos_operator::reconcile::app::AppId;
use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Rule};
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;
use jiff::{SignedDuration, Timestamp};

use crate::bulk::{id, on_a_paused_clock};
use crate::chaos;
use crate::dice::Dice;
use crate::mass::{APPS, Account};
use crate::model::manifest;

/// Longer than an effect and the telemetry together are late in `chaos`.
const CONFIRM: Duration = Duration::from_secs(240);

fn file(index: usize, restart: &str) -> (String, Option<String>) {
    let restart = format!("  restart: {restart}\n");
    (format!("{index}.yaml"), Some(manifest(&format!("app-{index}"), &id(index), "Running", &restart)))
}

fn files(restart: &str) -> Vec<(String, Option<String>)> {
    (0..APPS).map(|index| file(index, restart)).collect()
}

fn requested(at: Timestamp) -> String {
    format!("{{requestedAt: \"{at:.0}\"}}")
}

/// The restarts that had an effect, by app.
fn restarts(account: &Account) -> BTreeMap<AppId, usize> {
    let mut found = BTreeMap::new();
    for logged in lock(&account.world).log() {
        if logged.endpoint == Some(Endpoint::Restart) && logged.took_effect {
            *found.entry(logged.app.clone().unwrap()).or_default() += 1;
        }
    }
    found
}

fn sent(account: &Account) -> usize {
    lock(&account.world).count(Endpoint::Restart)
}

fn begin(lag: u64) -> Account {
    let config = Config { telemetry_lag: Duration::from_secs(lag), ..Config::default() };
    Account::begin_with(config, Settings { confirm_timeout: CONFIRM, ..Settings::default() })
}

async fn minutes(count: u64) {
    tokio::time::sleep(Duration::from_mins(count)).await;
}

async fn trial(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut account = begin(dice.below(60));
    minutes(10).await;
    let due = account.clock.wall() + SignedDuration::from_mins(20);
    account.edit(files(&requested(due)));
    for _ in 0..12 {
        tokio::time::sleep(dice.within(300)).await;
        match dice.below(4) {
            0 => account.restart(),
            1 => lock(&account.world).set_faults(faults(&mut dice)),
            2 => lock(&account.world).set_faults(Faults::default()),
            // Another edit that leaves the cause as it is.
            _ => account.edit(vec![file(usize::try_from(dice.below(20)).unwrap(), &requested(due))]),
        }
        let early = account.clock.wall() < due && sent(&account) > 0;
        assert!(!early, "seed {seed}: a restart before it was due");
    }
    lock(&account.world).set_faults(Faults::default());
    // One that was sent without effect is sent again only by another process.
    for _ in 0..2 {
        account.restart();
        minutes(30).await;
    }
    let restarts = restarts(&account);
    let twice: Vec<_> = restarts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: restarted twice for one cause: {twice:?}");
    assert_eq!(restarts.len(), APPS, "seed {seed}: not all apps were restarted");
    let before = sent(&account);
    minutes(60).await;
    assert_eq!(sent(&account), before, "seed {seed}: a restart after all were made");
}

/// The faults of chaos, more of them on restarts.
fn faults(dice: &mut Dice) -> Faults {
    let mut faults = chaos::faults(dice);
    for rule in &mut faults.rules {
        if matches!(rule.on, Endpoint::Stop | Endpoint::Start) {
            rule.on = Endpoint::Restart;
        }
    }
    // An app that comes back by itself was not restarted by us.
    faults.revive.clear();
    faults
}

#[test]
fn no_app_is_restarted_twice_for_one_cause_and_each_is_restarted() {
    for seed in 0..24 {
        on_a_paused_clock(trial(seed));
    }
}

#[test]
fn a_crash_right_after_each_restart_causes_no_second_one() {
    for lag in [0, 30, 90] {
        on_a_paused_clock(async move {
            let mut account = begin(lag);
            minutes(10).await;
            account.edit(files(&requested(account.clock.wall())));
            for _ in 0..100 {
                let before = sent(&account);
                tokio::time::sleep(Duration::from_secs(5)).await;
                if sent(&account) > before {
                    account.restart();
                }
            }
            minutes(30).await;
            assert_eq!((restarts(&account).len(), sent(&account)), (APPS, APPS), "{lag} s");
        });
    }
}

#[test]
fn each_process_sends_one_restart_to_a_platform_that_never_restarts() {
    on_a_paused_clock(async {
        let mut account = begin(0);
        let ignore = Rule::new(Endpoint::Restart, Fault { ignore: true, ..Fault::default() });
        lock(&account.world).set_faults(Faults { rules: vec![ignore], ..Faults::default() });
        minutes(10).await;
        account.edit(files(&requested(account.clock.wall())));
        for processes in 1..3 {
            minutes(120).await;
            assert_eq!(sent(&account), processes * APPS);
            account.restart();
        }
    });
}

#[test]
fn a_required_restart_is_made_once_for_each_report() {
    on_a_paused_clock(async {
        let mut account = begin(20);
        account.edit(files("{whenRequired: true}"));
        minutes(10).await;
        assert_eq!(sent(&account), 0, "nothing is required");
        for round in 1..4 {
            lock(&account.world).require_restart(&id(3).parse().unwrap());
            minutes(15).await;
            assert_eq!((restarts(&account).len(), sent(&account)), (1, round));
        }
    });
}

#[test]
fn a_pattern_restarts_each_app_once_a_day() {
    on_a_paused_clock(async {
        let mut account = begin(10);
        // The account begins at noon.
        account.edit(files("{cron: \"0 5 * * *\"}"));
        minutes(16 * 60).await;
        assert_eq!(sent(&account), 0);
        for day in 1..4 {
            minutes(24 * 60).await;
            let each: Vec<usize> = restarts(&account).into_values().collect();
            assert_eq!((each, sent(&account)), (vec![day; APPS], day * APPS));
        }
    });
}
