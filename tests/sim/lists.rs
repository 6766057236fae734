//! Lists of every shape, with short pages, teams and broken items: a list that counts as complete shows every app, and
//! an item that is broken affects only itself. Pages of the first list that arrive in another order, are lost or are
//! abandoned.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use campos_operator::budget::Budget;
use campos_operator::clock::Clock;
use campos_operator::operator::{Operator, Settings, shutdown};
use campos_operator::reconcile::app::AppId;
use campos_operator::reconcile::reason::Reason;
use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Pages, Reset, Rule};
use campos_operator::simulator::port::{InProcess, lock};
use campos_operator::simulator::world::{Config, ListShape, World};
use campos_operator::status::Board;
use tokio::sync::mpsc::unbounded_channel;

use crate::chaos::ITEMS;
use crate::dice::Dice;
use crate::model::{Files, manifest};

const SEEDS: u64 = 60;

#[test]
fn every_list_shows_every_app_but_the_broken_one() {
    let seeds = crate::number("SIM_SEEDS").unwrap_or(SEEDS).min(2000);
    let first = crate::number("SIM_FIRST").unwrap_or(0);
    for seed in first..first + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(trial(seed));
    }
}

async fn trial(seed: u64) {
    let mut dice = Dice::new(seed ^ 0x1157);
    let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
    let shape = *dice.pick(&[ListShape::Bare, ListShape::Bare, ListShape::Wrapped, ListShape::Nested]);
    let largest_page = *dice.pick(&[3, 7, 10, 100]);
    let item = dice.chance(60).then(|| *dice.pick(&ITEMS));
    let config = Config { list: shape, largest_page, seed, ..Config::default() };
    let mut world = World::new(config, clock.wall());
    let ids: Vec<AppId> = (0..2 + dice.below(40)).map(|n| format!("id-{n:02}").parse().unwrap()).collect();
    for id in &ids {
        world.add(id.clone(), id.as_str(), clock.wall());
    }
    let teams = dice.below(3);
    for number in 0..teams {
        for _ in 0..dice.below(12) {
            world.give_to_team(dice.pick(&ids), &format!("team-{number}"));
        }
    }
    world.set_faults(Faults::always(Endpoint::List, Fault { item, ..Fault::default() }));
    let said = format!("seed {seed}: {shape:?}, pages of {largest_page}, {} apps, {teams} teams, {item:?}", ids.len());
    let world = Arc::new(Mutex::new(world));

    let mut files = Files::default();
    let texts = |state: &'static str| {
        let text =
            move |id: &AppId| (format!("{id}.yaml"), Some(manifest(&format!("app-{id}"), id.as_str(), state, "")));
        ids.iter().map(text).collect::<Vec<_>>()
    };
    let platform = InProcess::new(world.clone(), clock, "simulated");
    let board = Board::default();
    let teams = (0..teams).map(|number| format!("team-{number}").into()).collect();
    let settings = Settings { teams, salt: seed, ..Settings::default() };
    let (updates, inbox) = unbounded_channel();
    let (_stopper, stop) = shutdown::pair();
    updates.send(files.change(texts("Running"))).unwrap();
    let operator = tokio::spawn(Operator::new(Arc::new(platform), settings, clock, board.clone()).run(inbox, stop));
    tokio::time::sleep(Duration::from_secs(150)).await;

    // The broken one is read singly, and no other.
    let hidden = item.filter(|item| item.is_unreadable()).map(|_| &ids[0]);
    for logged in lock(&world).log().filter(|logged| logged.endpoint == Some(Endpoint::Get)) {
        assert_eq!(logged.app.as_ref(), hidden, "{said}: a single read");
    }
    for app in board.apps() {
        assert_eq!(app.reason(), Reason::Settled, "{said}: {}", app.app_id());
    }
    let observation = board.daemon().observation.clone();
    assert_eq!(observation.incomplete, None, "{said}");
    assert_eq!(observation.apps, ids.len() - usize::from(hidden.is_some()), "{said}");

    // The operator also sends calls for the apps that it reads.
    updates.send(files.change(texts("Stopped"))).unwrap();
    tokio::time::sleep(Duration::from_secs(240)).await;
    for id in &ids {
        assert_eq!(lock(&world).online(id, clock.wall()), Some(false), "{said}: {id}");
    }
    operator.abort();
}

/// Starts an operator with `apps` apps, all declared Stopped, ten on each page; `faults` apply from the start.
fn start_with_pages_of_ten(apps: u64, faults: Faults) -> (Arc<Mutex<World>>, Board, Clock) {
    let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
    let mut world = World::new(Config { largest_page: 10, faults, ..Config::default() }, clock.wall());
    let mut files = Files::default();
    let mut texts = Vec::new();
    for number in 0..apps {
        let id = format!("id-{number:03}");
        world.add(id.parse().unwrap(), &id, clock.wall());
        texts.push((format!("{id}.yaml"), Some(manifest(&format!("app-{id}"), &id, "Stopped", ""))));
    }
    let world = Arc::new(Mutex::new(world));
    let platform = InProcess::new(world.clone(), clock, "simulated");
    let board = Board::default();
    let settings = Settings { budget: Budget::Unlimited, ..Settings::default() };
    let (updates, inbox) = unbounded_channel();
    updates.send(files.change(texts)).unwrap();
    let operator = Operator::new(Arc::new(platform), settings, clock, board.clone());
    tokio::spawn(async move {
        let (_stopper, stop) = shutdown::pair();
        operator.run(inbox, stop).await;
        drop(updates);
    });
    (world, board, clock)
}

fn on_list(times: Option<u32>, fault: Fault) -> Rule {
    Rule { times, ..Rule::new(Endpoint::List, fault) }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_arrives_before_an_earlier_page_is_used_at_once() {
    let slow = Fault { delay: Some(Duration::from_secs(12)), ..Fault::default() };
    // The first page takes no time, the second one twelve seconds, and the third one no time.
    let rules = vec![on_list(Some(1), Fault::default()), on_list(Some(1), slow)];
    let (world, _, clock) = start_with_pages_of_ten(30, Faults { rules, ..Faults::default() });
    tokio::time::sleep(Duration::from_secs(6)).await;
    let is_online = |id: &str| lock(&world).online(&id.parse().unwrap(), clock.wall());
    assert_eq!(["id-000", "id-010", "id-020"].map(is_online), [Some(false), Some(true), Some(false)]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(is_online("id-010"), Some(false));
}

#[tokio::test(start_paused = true)]
async fn pages_in_flight_when_a_list_ends_do_not_open_the_circuit_breaker() {
    let lost = Fault { reset: Some(Reset::Before), delay: Some(Duration::from_secs(1)), ..Fault::default() };
    let first =
        |fault| vec![on_list(Some(1), Fault::default()), on_list(Some(1), fault), on_list(Some(7), lost.clone())];
    let empty = Fault { pages: Some(Pages::Empty), delay: Some(Duration::from_millis(500)), ..Fault::default() };
    // Page 2 is lost like the others, or is empty and ends the list before they are lost.
    for fault in [lost.clone(), empty] {
        let faults = Faults { rules: first(fault), ..Faults::default() };
        let (world, board, _) = start_with_pages_of_ten(90, faults);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!board.daemon().governor.breaker_open);
        }
        assert!(lock(&world).count(Endpoint::List) >= 9, "all pages were requested");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(board.daemon().observation.apps, 90, "the next list is complete");
    }
}
