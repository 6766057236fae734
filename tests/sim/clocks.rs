//! A wrong wall clock: it is set by seconds, hours or years at any time, also before a start, and corrected again. A
//! state that depends on the time follows the true time, or the last state by a right clock. An app with only a `state`
//! is not affected.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use campos_operator::clock::Clock;
use campos_operator::manifest::load::{Content, parse};
use campos_operator::operator::{Ended, Operator, Settings, shutdown};
use campos_operator::reconcile::desired::Spec;
use campos_operator::reconcile::reason::Reason;
use campos_operator::reconcile::state::Desired;
use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::port::{InProcess, SharedWorld, lock};
use campos_operator::simulator::world::{Config, World};
use campos_operator::source::Update;
use campos_operator::status::Board;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::bulk::{id, on_a_paused_clock};
use crate::dice::Dice;
use crate::model::{Files, manifest};

/// A third of a second each, in a build without optimisations.
const SEEDS: u64 = 20;
/// A clock that differs by no more is right.
const RIGHT: i64 = 120;
const YEAR: i64 = 365 * 24 * 3600;

/// Spec of each app: two with a state only, the others with times.
fn texts() -> Vec<String> {
    let schedule = |windows: &str| format!("  schedule:\n    timeZone: UTC\n    windows: [{windows}]\n");
    [
        ("Running", String::new()),
        ("Stopped", String::new()),
        // Twenty minutes of each hour.
        ("Running", schedule("{state: Stopped, cron: \"10 * * * *\", duration: 20m}")),
        ("Stopped", schedule("{state: Running, cron: \"*/30 * * * *\", duration: 10m}")),
        ("Running", schedule("{state: Stopped, from: \"2027-03-01T00:00\", to: \"2028-03-01T00:00\"}")),
        ("Stopped", "  suspend: {reason: wait, until: \"2027-01-01T00:00:00Z\"}\n".to_owned()),
        ("Stopped", schedule("{state: Running, from: \"1970-01-01T00:00\", to: \"1980-01-01T00:00\"}")),
    ]
    .into_iter()
    .enumerate()
    .map(|(n, (state, more))| manifest(&format!("app-{n}"), &id(n), state, &more))
    .collect()
}

fn spec(text: &str) -> Spec {
    let parsed = parse(&Arc::from("x.yaml"), text.as_bytes());
    assert_eq!(parsed.diagnostics, []);
    let Content::Good(object) = &parsed.documents[0].content else { panic!("{text}") };
    object.spec.clone()
}

struct Process {
    task: JoinHandle<Ended>,
    board: Board,
    _updates: UnboundedSender<Update>,
    _stopper: shutdown::Stopper,
}

struct Trial {
    seed: u64,
    dice: Dice,
    clock: Clock,
    /// By how much the operator's clock is ahead.
    ahead: &'static AtomicI64,
    world: SharedWorld,
    files: Files,
    specs: Vec<Spec>,
    process: Process,
    /// The true time at which the clock of this process was right last.
    right_at: Option<Timestamp>,
    checked: usize,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
        let world = World::new(Config::default(), clock.wall());
        let world = SharedWorld::new(world.into());
        let mut files = Files::default();
        let texts = texts();
        for n in 0..texts.len() {
            lock(&world).add(id(n).parse().unwrap(), &id(n), clock.wall());
            lock(&world).set_online(&id(n).parse().unwrap(), dice.chance(50), clock.wall());
        }
        let specs = texts.iter().map(|text| spec(text)).collect();
        files.change(texts.into_iter().enumerate().map(|(n, text)| (format!("{n}.yaml"), Some(text))).collect());
        let ahead: &'static AtomicI64 = Box::leak(Box::default());
        let first = Self::offset(&mut dice);
        ahead.store(first, Ordering::Relaxed);
        let process = begin(&world, &mut files, clock, ahead);
        let right_at = (first.abs() <= RIGHT).then(|| clock.wall());
        Self { seed, dice, clock, ahead, world, files, specs, process, right_at, checked: 0 }
    }

    fn offset(dice: &mut Dice) -> i64 {
        // Nothing just beside the tolerance: an answer's date is a whole second.
        let offset = *dice.pick(&[0, 0, 30, 100, 200, 3_600, 40 * 60, 86_400, YEAR, 56 * YEAR]);
        if dice.chance(50) { offset } else { -offset }
    }

    fn is_right(&self) -> bool {
        self.ahead.load(Ordering::Relaxed).abs() <= RIGHT
    }

    /// Every call since the last check, judged by the true time.
    fn check(&mut self) {
        let log: Vec<_> = lock(&self.world).log().cloned().collect();
        for call in &log[self.checked..] {
            let asked = match call.endpoint {
                Some(Endpoint::Stop) => Desired::Stopped,
                Some(Endpoint::Start) => Desired::Running,
                Some(Endpoint::List | Endpoint::Get | Endpoint::Restart | Endpoint::Me | Endpoint::Any) | None => {
                    continue;
                }
            };
            let app = call.app.as_ref().unwrap();
            let spec = self.specs.iter().find(|spec| spec.app_id == *app).unwrap();
            let fits = |at: Timestamp| {
                [-RIGHT, 0, RIGHT].into_iter().any(|seconds| {
                    let target = spec.target(at + SignedDuration::from_secs(seconds));
                    target.desired == asked && !target.suspended
                })
            };
            let justified = !spec.is_timed() && spec.state == asked
                || self.is_right() && fits(call.at)
                || self.right_at.is_some_and(fits);
            assert!(justified, "seed {}: {asked} {app} at {}, clock ahead by {:?}", self.seed, call.at, self.ahead);
        }
        self.checked = log.len();
        if self.is_right() {
            self.right_at = Some(self.clock.wall());
        }
    }

    async fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds / 5 {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.check();
        }
    }

    fn assert_as_declared(&self, timed: bool) {
        let wall = self.clock.wall();
        for spec in self.specs.iter().filter(|spec| timed || !spec.is_timed()) {
            let target = spec.target(wall);
            let online = lock(&self.world).online(&spec.app_id, wall).unwrap();
            let fits = target.suspended || online == (target.desired == Desired::Running);
            assert!(fits, "seed {}: {} at {wall}", self.seed, spec.app_id);
        }
    }

    async fn run(mut self) {
        for _ in 0..12 {
            let seconds = 60 + self.dice.below(1_800);
            self.pass(seconds).await;
            let online = self.dice.chance(50);
            let n = usize::try_from(self.dice.below(self.specs.len() as u64)).unwrap();
            lock(&self.world).set_online(&id(n).parse().unwrap(), online, self.clock.wall());
            // A minute and a half, and an app with a state alone is as declared, whatever the clock says.
            self.pass(240).await;
            self.assert_as_declared(false);
            if self.dice.chance(20) {
                self.process.task.abort();
                self.process = begin(&self.world, &mut self.files, self.clock, self.ahead);
                self.right_at = None;
            }
            let offset = Self::offset(&mut self.dice);
            self.ahead.store(offset, Ordering::Relaxed);
            if !self.is_right() && self.dice.chance(50) {
                self.pass(600).await;
                self.assert_reported();
            }
        }
        self.ahead.store(0, Ordering::Relaxed);
        // Past the next boundary of any window, and what a doubt and its end cost.
        let minute = self.clock.wall().as_second() / 60 % 10;
        self.pass(60 * (15 - minute.unsigned_abs() % 10)).await;
        self.assert_as_declared(true);
        let daemon = self.process.board.daemon();
        assert_eq!((daemon.clock, daemon.conditions[0].status), ("compared", "False"), "seed {}", self.seed);
        let doubtful =
            self.process.board.apps().into_iter().filter(|app| app.reason() == Reason::ClockDoubtful).count();
        assert_eq!(doubtful, 0, "seed {}", self.seed);
    }

    /// Ten minutes of a wrong clock do not go unnoticed.
    fn assert_reported(&self) {
        let daemon = self.process.board.daemon();
        assert_eq!((daemon.clock, daemon.conditions[0].status), ("differs", "True"), "seed {}", self.seed);
        let ahead = daemon.clock_ahead_seconds.unwrap() - self.ahead.load(Ordering::Relaxed);
        assert!(ahead.abs() <= 2, "seed {}: {ahead}", self.seed);
    }
}

fn begin(world: &SharedWorld, files: &mut Files, clock: Clock, ahead: &'static AtomicI64) -> Process {
    let platform = InProcess::new(world.clone(), clock, lock(world).config().token.clone());
    let board = Board::default();
    let its_clock = clock.set_forward_by(ahead);
    let operator = Operator::new(platform.into(), Settings::default(), its_clock, board.clone());
    let (updates, inbox) = unbounded_channel();
    let (stopper, signals) = shutdown::pair();
    updates.send(files.begin_again()).unwrap();
    Process { task: tokio::spawn(operator.run(inbox, signals)), board, _updates: updates, _stopper: stopper }
}

#[test]
fn a_wrong_clock_calls_nothing_that_the_true_time_does_not_ask_for() {
    // 3,000 seeds take two minutes, and those beyond would hold the whole run up.
    let seeds = crate::number("SIM_SEEDS").unwrap_or(SEEDS).min(3000);
    let first = crate::number("SIM_FIRST").unwrap_or(0);
    for seed in first..first + seeds {
        on_a_paused_clock(async { Trial::new(seed).run().await });
    }
}

/// One app that runs and whose window stops it now, by a clock that is ahead by a year.
fn ahead_by_a_year(settings: Settings, headers: &[(&str, &str)]) -> (usize, &'static str, Reason) {
    use campos_operator::simulator::faults::{Fault, Faults, Rule};
    on_a_paused_clock(async {
        let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let rule = Rule::new(Endpoint::Any, Fault { headers, ..Fault::default() });
        let faults = Faults { rules: vec![rule], ..Faults::default() };
        let mut world = World::new(Config { faults, ..Config::default() }, clock.wall());
        world.add(id(4).parse().unwrap(), "app", clock.wall());
        let world = SharedWorld::new(world.into());
        let mut files = Files::default();
        files.change(vec![("4.yaml".into(), Some(texts().remove(4)))]);
        let ahead: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(YEAR)));
        let platform = InProcess::new(world.clone(), clock, lock(&world).config().token.clone());
        let board = Board::default();
        let operator = Operator::new(platform.into(), settings, clock.set_forward_by(ahead), board.clone());
        let (updates, inbox) = unbounded_channel();
        let (_stopper, signals) = shutdown::pair();
        updates.send(files.begin_again()).unwrap();
        tokio::spawn(operator.run(inbox, signals));
        tokio::time::sleep(Duration::from_secs(300)).await;
        let calls = lock(&world).count(Endpoint::Stop);
        (calls, board.daemon().clock, board.apps()[0].reason())
    })
}

#[test]
fn a_year_ahead_holds_the_call_unless_the_clock_is_to_be_trusted_or_nothing_tells() {
    assert_eq!(ahead_by_a_year(Settings::default(), &[]), (0, "differs", Reason::ClockDoubtful));
    let trusting = Settings { trust_clock: true, ..Settings::default() };
    assert_eq!(ahead_by_a_year(trusting, &[]), (1, "differs", Reason::Settled));
    // Every answer is a copy out of a cache: nothing is compared.
    assert_eq!(ahead_by_a_year(Settings::default(), &[("age", "7")]), (1, "not compared", Reason::Settled));
}
