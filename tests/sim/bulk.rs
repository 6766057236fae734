//! Many apps, and what they cost: requests counted on the virtual clock, so that every figure is exact.

use std::time::Duration;

use campos_operator::budget::Budget;
use campos_operator::clock::Clock;
use campos_operator::http::metrics::{Format, scrape};
use campos_operator::operator::{Operator, Settings, shutdown};
use campos_operator::platform::{Answered, Page, PageRequest, Platform, Seen};
use campos_operator::reconcile::app::AppId;
use campos_operator::reconcile::outcome::{Failure, Receipt};
use campos_operator::reconcile::state::Action;
use campos_operator::reconcile::state::Observed;
use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Rule};
use campos_operator::simulator::port::{InProcess, SharedWorld, lock};
use campos_operator::simulator::world::{Config, Logged, World};
use campos_operator::source::Update;
use campos_operator::status::Board;
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::model::{Files, manifest};

/// An operator with `count` apps, all running at first, of which the first `offline` are declared Stopped.
pub(crate) struct Account {
    pub(crate) world: SharedWorld,
    pub(crate) clock: Clock,
    files: Files,
    updates: UnboundedSender<Update>,
    pub(crate) board: Board,
    _stopper: shutdown::Stopper,
}

impl Account {
    pub(crate) fn begin(count: usize, offline: usize, settings: Settings, config: Config) -> Self {
        let state = |index| if index < offline { "Stopped" } else { "Running" };
        let texts = (0..count).map(|index| manifest(&format!("app-{index}"), &id(index), state(index), ""));
        Self::with(texts.collect(), settings, config)
    }

    /// With one app for each manifest, `id(0)`, `id(1)` and so on.
    pub(crate) fn with(texts: Vec<String>, settings: Settings, config: Config) -> Self {
        Self::through(texts, settings, config, |platform| platform)
    }

    /// The same, whose operator sees what `through` makes of the platform.
    pub(crate) fn through<P: Platform>(
        texts: Vec<String>,
        settings: Settings,
        config: Config,
        through: impl FnOnce(InProcess) -> P,
    ) -> Self {
        let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
        let mut world = World::new(config, clock.wall());
        for index in 0..texts.len() {
            world.add(id(index).parse().unwrap(), &id(index), clock.wall());
        }
        let world = SharedWorld::new(world.into());
        let mut files = Files::default();
        let named = texts.into_iter().enumerate().map(|(index, text)| (format!("{index}.yaml"), Some(text)));
        let update = files.change(named.collect());
        let token = lock(&world).config().token.clone();
        let platform = through(InProcess::new(world.clone(), clock, token));
        let board = Board::default();
        let operator = Operator::new(platform.into(), settings, clock, board.clone());
        let (updates, inbox) = unbounded_channel();
        let (stopper, signals) = shutdown::pair();
        updates.send(update).unwrap();
        tokio::spawn(operator.run(inbox, signals));
        Self { world, clock, files, updates, board, _stopper: stopper }
    }

    pub(crate) fn edit(&mut self, index: usize, state: &str) {
        self.updates.send(self.files.change(vec![file(index, state)])).unwrap();
    }

    pub(crate) fn faults(&self, faults: Faults) {
        lock(&self.world).set_faults(faults);
    }

    /// Lets `seconds` pass and returns the requests of this time.
    pub(crate) async fn pass(&self, seconds: u64) -> Vec<Logged> {
        lock(&self.world).clear_log();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        lock(&self.world).log().cloned().collect()
    }

    pub(crate) fn all_stopped(&self) -> bool {
        let ids: Vec<_> = self.files.justified().into_keys().collect();
        ids.iter().all(|id| lock(&self.world).online(id, self.clock.wall()) == Some(false))
    }
}

pub(crate) fn id(index: usize) -> String {
    format!("id-{index:05}")
}

fn file(index: usize, state: &str) -> (String, Option<String>) {
    (format!("{index}.yaml"), Some(manifest(&format!("app-{index}"), &id(index), state, "")))
}

/// Lists, single reads, stops and starts among `log`.
pub(crate) fn count(log: &[Logged]) -> [usize; 4] {
    [Endpoint::List, Endpoint::Get, Endpoint::Stop, Endpoint::Start]
        .map(|endpoint| log.iter().filter(|logged| logged.endpoint == Some(endpoint)).count())
}

/// The clock stands still but for what is slept, and the runtime belongs to one test.
pub(crate) fn on_a_paused_clock<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

fn settings(budget: Budget) -> Settings {
    Settings { budget, ..Settings::default() }
}

/// A settled fleet, ten intervals of it, and then one edit: the requests of each.
fn steady(apps: usize) -> ([usize; 4], [usize; 4]) {
    on_a_paused_clock(async {
        let mut account = Account::begin(apps, 0, settings(Budget::PerMinute(120)), Config::default());
        // Ten thousand apps are a hundred pages: with half of 120 requests a minute for them, a list takes 100 s.
        account.pass(210).await;
        let interval = if apps == 10_000 { 100 } else { 60 };
        let settled = account.pass(interval * 10).await;
        account.edit(apps / 2, "Stopped");
        // The look that verifies comes 2 s after the answer.
        let edited = account.pass(3).await;
        (count(&settled), count(&edited))
    })
}

#[test]
fn a_settled_fleet_costs_its_list_and_an_edit_one_call_and_its_confirmation() {
    assert_eq!(steady(1), ([10, 0, 0, 0], [0, 1, 1, 0]));
    assert_eq!(steady(100), ([10, 0, 0, 0], [0, 1, 1, 0]));
    let (settled, [_, looks, stops, starts]) = steady(10_000);
    assert_eq!(settled, [1_000, 0, 0, 0], "a hundred pages each time");
    assert_eq!([looks, stops, starts], [1, 1, 0]);
}

/// Decisions since the start, by result, from the metrics.
fn decisions(board: &Board) -> Vec<String> {
    let text = scrape(board, Format::OpenMetrics).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("campos_operator_reconcile_total"));
    lines.map(str::to_owned).collect()
}

/// A list that only says again what is settled is not decided on, app by app; it is shown all the same, and news is
/// news.
#[test]
fn a_settled_app_that_is_seen_again_is_fresh_and_one_that_was_meddled_with_is_found() {
    on_a_paused_clock(async {
        let account = Account::begin(150, 0, settings(Budget::PerMinute(120)), Config::default());
        account.pass(300).await;
        let decided = decisions(&account.board);
        account.pass(300).await;
        assert_eq!(decisions(&account.board), decided, "nothing was there to decide");
        for app in account.board.apps() {
            let age = account.clock.wall().duration_since(app.observed_at.unwrap());
            assert!(age <= jiff::SignedDuration::from_secs(61), "{}: seen {age:?} ago", app.name());
            let ahead = app.next_look_at.unwrap().duration_since(account.clock.wall());
            assert!(ahead >= jiff::SignedDuration::ZERO, "{}: the next look was {ahead:?} ago", app.name());
        }
        let meddled: AppId = id(42).parse().unwrap();
        lock(&account.world).set_online(&meddled, false, account.clock.wall());
        let log = account.pass(63).await;
        assert_eq!(count(&log)[2..], [0, 1], "somebody stopped it, and it was started again");
    });
}

#[test]
fn a_bulk_of_stops_costs_its_calls_and_lists_and_no_single_reads() {
    on_a_paused_clock(async {
        let account = Account::begin(300, 300, settings(Budget::PerMinute(120)), Config::default());
        let log = account.pass(600).await;
        let [lists, looks, stops, starts] = count(&log);
        assert!(account.all_stopped());
        assert_eq!((stops, starts), (300, 0));
        assert!(looks <= 3, "{looks} single reads");
        // Three pages a list; every verification of a batch is one list at most.
        assert!(lists <= 60, "{lists} pages");
        assert_eq!(log.iter().filter(|logged| logged.status == 429).count(), 0);
        println!("300 stops: {lists} pages, {looks} single reads, {stops} stops");
    });
}

/// Fifty edits a millisecond apart, in a fleet of ten pages: their calls, and one list that verifies them all.
#[test]
fn edits_saved_at_once_are_verified_by_one_list() {
    on_a_paused_clock(async {
        let config = Config { account_limit: None, ..Config::default() };
        let mut account = Account::begin(1_000, 0, settings(Budget::Unlimited), config);
        account.pass(130).await;
        for index in 0..50 {
            account.edit(index, "Stopped");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let log = account.pass(10).await;
        // The calls were made while the edits came.
        assert_eq!(count(&log), [10, 0, 0, 0]);
        let verified = account.board.apps().iter().filter(|app| app.observed == Observed::Stopped).count();
        assert_eq!(verified, 50);
        // Single reads of a few edits cost less, and wait for no other app.
        for index in 50..55 {
            account.edit(index, "Stopped");
        }
        assert_eq!(count(&account.pass(3).await), [0, 5, 5, 0]);
    });
}

/// Metrics lag, and an edit is taken back and made again before they show what its call did.
#[test]
fn edits_that_are_taken_back_end_in_the_last_declared_state() {
    for last in ["Running", "Stopped"] {
        on_a_paused_clock(async {
            let config = Config { telemetry_lag: Duration::from_secs(4), ..Config::default() };
            let mut account = Account::begin(10, 0, settings(Budget::PerMinute(120)), config);
            account.pass(130).await;
            for round in 0..6 {
                account.edit(0, if round % 2 == 0 { "Stopped" } else { "Running" });
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            account.edit(0, last);
            let log = account.pass(20).await;
            assert_eq!(count(&log)[0], 0, "no list came to help");
            let online = lock(&account.world).online(&id(0).parse::<AppId>().unwrap(), account.clock.wall());
            assert_eq!(online, Some(last == "Running"), "{last}: {:?}", count(&log));
        });
    }
}

/// A read that a call waits for does not wait for other reads: one list begins at once.
#[test]
fn edits_that_are_taken_back_together_are_acted_on_at_once() {
    on_a_paused_clock(async {
        let config = Config { account_limit: None, ..Config::default() };
        let mut account = Account::begin(10, 0, settings(Budget::Unlimited), config);
        account.pass(130).await;
        (0..5).for_each(|index| account.edit(index, "Stopped"));
        tokio::time::sleep(Duration::from_millis(500)).await;
        lock(&account.world).clear_log();
        (0..5).for_each(|index| account.edit(index, "Running"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let log: Vec<Logged> = lock(&account.world).log().cloned().collect();
        assert_eq!(count(&log)[3], 5, "{:?}", count(&log));
    });
}

/// A platform whose list shows each app twice: as it is, and as it is not.
struct Contradicting(InProcess);

impl Platform for Contradicting {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        let mut answered = self.0.list(page).await?;
        let mut others = answered.value.apps.clone();
        for other in &mut others {
            other.reading.observed = Observed::Stopped;
        }
        answered.value.apps.extend(others);
        Ok(answered)
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        self.0.get(id).await
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        self.0.act(action, id).await
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        self.0.whoami().await
    }
}

#[test]
fn an_app_that_a_list_shows_twice_and_differently_is_not_called() {
    on_a_paused_clock(async {
        let texts = (0..10).map(|index| manifest(&format!("app-{index}"), &id(index), "Running", "")).collect();
        let config = Config::default();
        let account = Account::through(texts, settings(Budget::PerMinute(120)), config, Contradicting);
        let [lists, _, stops, starts] = count(&account.pass(130).await);
        assert!(lists >= 2, "{lists}");
        assert_eq!((stops, starts), (0, 0));
    });
}

/// A platform behind a pool of which each call finds a dead connection.
struct Failover(InProcess);

impl Platform for Failover {
    async fn list(&self, page: PageRequest) -> Result<Answered<Page>, Failure> {
        self.0.list(page).await
    }

    async fn get(&self, id: &AppId) -> Result<Answered<Seen>, Failure> {
        self.0.get(id).await
    }

    async fn act(&self, action: Action, id: &AppId) -> Result<Answered<Receipt>, Failure> {
        Ok(Answered { repeats: 1, ..self.0.act(action, id).await? })
    }

    async fn whoami(&self) -> Result<Answered<()>, Failure> {
        self.0.whoami().await
    }
}

#[test]
fn repeats_after_dead_connections_are_taken_out_of_the_budget() {
    on_a_paused_clock(async {
        let texts = (0..100).map(|index| manifest(&format!("app-{index}"), &id(index), "Stopped", "")).collect();
        let budget = settings(Budget::PerMinute(60));
        let account = Account::through(texts, budget, Config::default(), Failover);
        let log = account.pass(60).await;
        let [_, _, stops, _] = count(&log);
        let sent = log.len() + stops;
        // A minute's worth, the burst, and the repeats of the burst: at most one token is owed at a time.
        assert!((60..=60 + 2 * 5 + 1).contains(&sent), "{sent} requests, {stops} of them repeats");
        account.pass(200).await;
        assert!(account.all_stopped());
    });
}

#[test]
fn an_edit_in_the_middle_of_a_bulk_goes_first() {
    on_a_paused_clock(async {
        let mut account = Account::begin(400, 300, settings(Budget::PerMinute(120)), Config::default());
        account.pass(60).await;
        let edited = account.clock.wall();
        account.edit(399, "Stopped");
        let log = account.pass(10).await;
        let sent = sent_at(&log, 399).unwrap();
        assert!(sent.duration_since(edited) <= jiff::SignedDuration::from_secs(2), "{edited} -> {sent}");
    });
}

pub(crate) fn sent_at(log: &[Logged], index: usize) -> Option<Timestamp> {
    let about = |logged: &&Logged| logged.app.as_ref().is_some_and(|app| app.as_str() == id(index));
    log.iter().filter(|logged| logged.endpoint == Some(Endpoint::Stop)).find(about).map(|logged| logged.at)
}

/// Ten minutes without a server, in which all apps of a fleet are edited to be stopped. Returns the requests of the
/// outage.
fn outage(apps: usize) -> usize {
    on_a_paused_clock(async {
        let mut account = Account::begin(apps, 0, settings(Budget::PerMinute(120)), Config::default());
        account.pass(300).await;
        let refuse = Rule::new(Endpoint::Any, Fault { refuse: true, ..Fault::default() });
        account.faults(Faults { rules: vec![refuse], revive: Vec::new() });
        for index in 0..apps {
            account.edit(index, "Stopped");
        }
        let log = account.pass(600).await;
        let requests = log.len();
        account.faults(Faults::default());
        // No stampede: the budget holds from the first second on, and nothing is refused.
        let after = account.pass(60).await;
        assert!(after.len() <= 120 + 10 + 1, "{} requests in the first minute", after.len());
        let minutes_of_stops = apps as u64 / 60 + 5;
        let later = account.pass(minutes_of_stops * 60).await;
        assert!(account.all_stopped(), "{apps} apps: {:?} {:?}", count(&after), count(&later));
        assert!(later.iter().all(|logged| logged.status == 200));
        requests
    })
}

#[test]
fn an_outage_costs_probes_whatever_the_number_of_apps() {
    // Ten thousand take their time in a build without optimisations.
    let fleet = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    let (few, many) = (outage(10), outage(fleet));
    println!("requests in ten minutes without a server: {few} with 10 apps, {many} with {fleet}");
    // Half a minute at most between probes, half of it jitter: twenty to forty, and what opened the breaker.
    assert!(few <= 60 && many <= 60, "{few} {many}");
}

/// 300 stops at 120 a minute: the progress grows to the end, and is gone afterwards.
#[tokio::test(start_paused = true)]
async fn the_progress_of_a_bulk_grows_and_ends() {
    let account = Account::begin(300, 300, Settings::default(), Config::default());
    let progress = || account.board.daemon().progress.into_iter().next();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut before = progress().unwrap();
    assert_eq!((before.task, before.total), ("stop", 300));
    assert!(before.accepted.unwrap() > 60 && before.ends_at.unwrap() > account.clock.wall(), "{before:?}");
    let mut steps = 0;
    while let Some(now) = progress() {
        assert!(now.done >= before.done && now.accepted >= before.accepted && now.total == 300, "{before:?} {now:?}");
        (before, steps) = (now, steps + 1);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(steps > 10 && before.done > 200, "{steps} {before:?}");
    assert_eq!(lock(&account.world).count(Endpoint::Stop), 300);
}

/// Nothing else happens for an hour.
#[tokio::test(start_paused = true)]
async fn the_progress_of_a_bulk_ends_with_its_last_app() {
    let settings = Settings { interval: Duration::from_hours(1), ..Settings::default() };
    let account = Account::begin(30, 30, settings, Config::default());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = account.clock.wall();
    let is_running = |app: &usize| lock(&account.world).online(&id(*app).parse().unwrap(), now) == Some(true);
    let running = (0..30).filter(is_running).count();
    assert_eq!((running, account.board.daemon().progress), (0, Vec::new()));
}

/// The first list of 10,000 apps takes minutes at a small budget.
#[tokio::test(start_paused = true)]
async fn the_progress_of_a_first_list_has_a_total() {
    let settings = Settings { budget: Budget::PerMinute(60), ..Settings::default() };
    let account = Account::begin(3_000, 0, settings, Config::default());
    tokio::time::sleep(Duration::from_secs(15)).await;
    let progress = account.board.daemon().progress.into_iter().next().unwrap();
    assert_eq!((progress.task, progress.accepted, progress.total), ("list", None, 3_000));
    assert!(progress.done >= 100 && progress.done < 3_000, "{progress:?}");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(account.board.daemon().progress, []);
}

/// One app fails forever, and another client starts another one again and again: the total is never more than the apps,
/// and the bulk ends all the same.
#[tokio::test(start_paused = true)]
async fn a_bulk_ends_beside_an_app_that_fails_and_one_that_comes_back() {
    let account = Account::begin(40, 40, Settings::default(), Config::default());
    let fault = Fault { status: Some(500), ..Fault::default() };
    let fails = Rule { app: id(0).parse().ok(), ..Rule::new(Endpoint::Stop, fault) };
    account.faults(Faults { rules: vec![fails], ..Faults::default() });
    let (mut totals, mut over) = (Vec::new(), 0);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        lock(&account.world).set_online(&id(1).parse().unwrap(), true, account.clock.wall());
        let progress = account.board.daemon().progress.into_iter().next();
        over = if progress.is_none() { over + 1 } else { 0 };
        totals.extend(progress.map(|progress| progress.total));
    }
    assert!(!totals.is_empty() && totals.iter().all(|total| *total <= 40), "{totals:?}");
    assert!(over > 20, "the bulk goes on: {totals:?}");
}
