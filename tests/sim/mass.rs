//! Mass edits with `--max-stops`: a held plan causes no call, whatever is restarted, edited or forgotten, and an
//! approval releases exactly its plan.

use std::sync::Arc;
use std::time::Duration;

use campos_operator::clock::Clock;
use campos_operator::operator::{Operator, Settings, shutdown};
use campos_operator::reconcile::desired::{Declared, Place};
use campos_operator::reconcile::max_changes::{Approval, Limit, Limits, PlanId};
use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Rule};
use campos_operator::simulator::port::{InProcess, SharedWorld, lock};
use campos_operator::simulator::world::{Config, World};
use campos_operator::source::Update;
use campos_operator::status::Board;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::bulk::{id, on_a_paused_clock};
use crate::chaos;
use crate::dice::Dice;
use crate::model::{Files, manifest};

pub(crate) const APPS: usize = 20;
/// A quarter of the apps.
const LIMIT: usize = 5;

/// One process.
struct Process {
    updates: UnboundedSender<Update>,
    task: JoinHandle<()>,
    _stopper: shutdown::Stopper,
}

pub(crate) struct Account {
    pub(crate) world: SharedWorld,
    pub(crate) clock: Clock,
    files: Files,
    approvals: Arc<[Approval]>,
    settings: Settings,
    process: Option<Process>,
}

impl Account {
    fn begin(config: Config) -> Self {
        Self::limited(config, Limit::Percent(25))
    }

    fn limited(config: Config, limit: Limit) -> Self {
        let limits = Limits { stops: Some(limit), starts: None };
        Self::begin_with(config, Settings { limits, ..Settings::default() })
    }

    pub(crate) fn begin_with(config: Config, settings: Settings) -> Self {
        let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
        let mut world = World::new(config, clock.wall());
        for index in 0..APPS {
            world.add(id(index).parse().unwrap(), &id(index), clock.wall());
        }
        let world = SharedWorld::new(world.into());
        let mut account =
            Self { world, clock, files: Files::default(), approvals: Arc::default(), settings, process: None };
        account.files.change((0..APPS).map(|index| file(index, "Running")).collect());
        account.restart();
        account
    }

    /// The process ends without a word, and another one begins.
    pub(crate) fn restart(&mut self) {
        if let Some(process) = self.process.take() {
            process.task.abort();
        }
        let token = lock(&self.world).config().token.clone();
        let platform = InProcess::new(self.world.clone(), self.clock, token);
        let operator = Operator::new(Arc::new(platform), self.settings.clone(), self.clock, Board::default());
        let (updates, inbox) = unbounded_channel();
        let (stopper, signals) = shutdown::pair();
        let task = tokio::spawn(async move {
            operator.run(inbox, signals).await;
        });
        self.process = Some(Process { updates, task, _stopper: stopper });
        let update = self.files.begin_again();
        self.send(update);
    }

    fn send(&self, mut update: Update) {
        update.source.approvals = self.approvals.clone();
        self.process.as_ref().unwrap().updates.send(update).unwrap();
    }

    pub(crate) fn edit(&mut self, changes: Vec<(String, Option<String>)>) {
        let update = self.files.change(changes);
        self.send(update);
    }

    /// Approves a plan for a day, or withdraws the approval.
    fn approve(&mut self, plan: Option<PlanId>) {
        let until = self.clock.wall() + SignedDuration::from_hours(24);
        let place = Place { file: "approval.yaml".into(), line: 1 };
        let approval = |plan| Approval { name: "go".parse().unwrap(), plan, until, reason: None, by: None, place };
        self.approvals = plan.map(approval).into_iter().collect();
        let update = self.files.available(true);
        self.send(update);
    }

    fn plan(&self) -> PlanId {
        let declared: Vec<Arc<Declared>> = self.files.declared();
        PlanId::of(declared.iter().filter_map(|declared| declared.spec()))
    }

    fn stops(&self) -> usize {
        lock(&self.world).count(Endpoint::Stop)
    }

    fn online(&self) -> usize {
        let wall: Timestamp = self.clock.wall();
        let is_online = |index: &usize| lock(&self.world).online(&id(*index).parse().unwrap(), wall) == Some(true);
        (0..APPS).filter(is_online).count()
    }
}

fn file(index: usize, state: &str) -> (String, Option<String>) {
    (format!("{index}.yaml"), Some(manifest(&format!("app-{index}"), &id(index), state, "")))
}

async fn trial(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut account = Account::begin(Config::default());
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!((account.stops(), account.online()), (0, APPS), "seed {seed}");
    account.edit((0..APPS).map(|index| file(index, "Stopped")).collect());
    // No call is sent before an approval, in any case.
    for _ in 0..8 {
        tokio::time::sleep(dice.within(1_200)).await;
        match dice.below(6) {
            0 => account.restart(),
            1 => lock(&account.world).set_faults(chaos::faults(&mut dice)),
            2 => lock(&account.world).set_faults(Faults::default()),
            // More than the limit stay.
            3 => {
                let index = usize::try_from(dice.below(10)).unwrap();
                account.edit(vec![file(index, if dice.chance(50) { "Running" } else { "Stopped" })]);
            }
            4 => account.approve(Some("0123456789ab".parse().unwrap())),
            _ => account.approve(None),
        }
    }
    assert_eq!(account.stops(), 0, "seed {seed}: a held plan caused a call");
    lock(&account.world).set_faults(Faults::default());
    account.edit((0..APPS).map(|index| file(index, "Stopped")).collect());
    // The approval of a part releases nothing; that of the whole releases all, and a crash half-way does not end it.
    let whole = account.plan();
    account.edit(vec![file(0, "Running")]);
    account.approve(Some(whole));
    tokio::time::sleep(Duration::from_mins(20)).await;
    assert_eq!(account.stops(), 0, "seed {seed}: another plan was approved");
    account.edit(vec![file(0, "Stopped")]);
    tokio::time::sleep(dice.within(8)).await;
    account.restart();
    tokio::time::sleep(Duration::from_mins(20)).await;
    assert_eq!(account.online(), 0, "seed {seed}: not all that was approved is stopped");
}

#[test]
fn a_held_plan_causes_no_call_and_an_approval_releases_it() {
    for seed in 0..12 {
        on_a_paused_clock(trial(seed));
    }
}

#[test]
fn a_loop_of_single_edits_does_not_pass_under_the_limit() {
    on_a_paused_clock(async {
        let mut account = Account::begin(Config::default());
        tokio::time::sleep(Duration::from_secs(90)).await;
        for index in 0..APPS {
            account.edit(vec![file(index, "Stopped")]);
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        assert_eq!(account.stops(), LIMIT);
        account.approve(Some(account.plan()));
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(account.online(), 0);
    });
}

#[test]
fn drift_and_transitions_that_the_process_saw_are_not_held() {
    on_a_paused_clock(async {
        let mut account = Account::begin(Config::default());
        // A window of the night that begins in an hour.
        let from = account.clock.wall() + SignedDuration::from_hours(1);
        let to = from + SignedDuration::from_hours(8);
        let scheduled = |index: usize| {
            let name = format!("app-{index}");
            (format!("{index}.yaml"), Some(crate::model::timed(&name, &id(index), "Running", "Stopped", from, to)))
        };
        account.edit((0..APPS).map(scheduled).collect());
        tokio::time::sleep(Duration::from_mins(58)).await;
        assert_eq!(account.stops(), 0);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(account.online(), 0, "a transition is not held");
        // Somebody starts all of them.
        for index in 0..APPS {
            lock(&account.world).set_online(&id(index).parse().unwrap(), true, account.clock.wall());
        }
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(account.online(), 0, "drift is not held");
        // Down for hours over the same window: now it is a mass stop.
        for index in 0..APPS {
            lock(&account.world).set_online(&id(index).parse().unwrap(), true, account.clock.wall());
        }
        account.process.take().unwrap().task.abort();
        tokio::time::sleep(Duration::from_hours(3)).await;
        let before = account.stops();
        account.restart();
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!((account.stops() - before, account.online()), (0, APPS), "it is held");
    });
}

/// An app that no read can show is never called, so it holds no other app's call.
#[test]
fn an_app_that_cannot_be_read_holds_no_other_call() {
    on_a_paused_clock(async {
        let mut account = Account::limited(Config::default(), Limit::Count(1));
        let unreadable = id(0).parse().unwrap();
        lock(&account.world).remove(&unreadable);
        let refusal = Fault { status: Some(403), ..Fault::default() };
        let rule = Rule { app: Some(unreadable), ..Faults::always(Endpoint::Get, refusal).rules.remove(0) };
        lock(&account.world).set_faults(Faults { rules: vec![rule], ..Faults::default() });
        account.edit(vec![file(0, "Stopped")]);
        account.restart();
        tokio::time::sleep(Duration::from_mins(5)).await;
        account.edit(vec![file(1, "Stopped")]);
        tokio::time::sleep(Duration::from_mins(20)).await;
        assert_eq!(account.stops(), 1);
    });
}
