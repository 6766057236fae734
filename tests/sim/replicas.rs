//! Replicas with leader election: crashes, signals, stopped processes, partitions, frozen API servers, wrong clocks.
//!
//! Each replica is the real operator behind the real fence, with its own election over one Lease. Promises: calls of
//! two processes never overlap; no request is sent without the Lease, or with less than 10 s of it left; every app is
//! as declared within a bounded time after the faults; a failover is bounded, and costs at most one more call for each
//! app that had a call in flight.

mod failover;
mod gate;
mod site;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use campos_operator::budget::Budget;
use campos_operator::clock::Clock;
use campos_operator::kubernetes::election::Election;
use campos_operator::kubernetes::elector::Elector;
use campos_operator::operator::{Operator, Settings, shutdown};
use campos_operator::reconcile::app::AppId;
use campos_operator::reconcile::moment::Moment;
use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Rule};
use campos_operator::simulator::port::{InProcess, SharedWorld, lock};
use campos_operator::simulator::world::{Config, World};
use campos_operator::source::Update;
use campos_operator::status::Board;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep;

use crate::bulk::{id, on_a_paused_clock};
use crate::dice::Dice;
use crate::model::{Files, manifest};
use gate::{Gate, Gated};
use site::{Frozen, Reached, Server, Site, Way};

const APPS: usize = 4;
/// The seeds of chaos that a plain `cargo test` runs.
const SEEDS: u64 = 40;
/// After faults: a lease, a list, and the longest backoff of an account, a list and a call.
const CALM: Duration = Duration::from_secs(300);

/// A process of a replica.
struct Process {
    way: Way,
    operator: JoinHandle<()>,
    election: AbortHandle,
    updates: UnboundedSender<Update>,
    stopper: shutdown::Stopper,
    /// By how much its wall clock is ahead.
    ahead: &'static AtomicI64,
    /// When the operator returned: its calls have ended.
    drained: Arc<Mutex<Option<Moment>>>,
}

struct Replicas {
    seed: u64,
    dice: Dice,
    site: Arc<Site>,
    world: SharedWorld,
    files: Files,
    declared: [&'static str; APPS],
    /// The edits of each app.
    edits: [usize; APPS],
    processes: Vec<Option<Process>>,
    begun: usize,
}

fn app(index: usize) -> AppId {
    id(index).parse().unwrap()
}

impl Replicas {
    fn new(seed: u64, lease: Duration) -> Self {
        let mut dice = Dice::new(seed);
        let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
        let config = Config { account_limit: None, seed: dice.next(), ..Config::default() };
        let mut world = World::new(config, clock.wall());
        (0..APPS).for_each(|index| world.add(app(index), &id(index), clock.wall()));
        let site = Arc::new(Site::new(clock, lease, Dice::new(dice.next())));
        let count = 2 + seed % 2;
        let mut replicas = Self {
            seed,
            dice,
            site,
            world: SharedWorld::new(world.into()),
            files: Files::default(),
            declared: ["Running"; APPS],
            edits: [0; APPS],
            processes: (0..count).map(|_| None).collect(),
            begun: 0,
        };
        (0..APPS).for_each(|index| replicas.edit(index));
        replicas.begin_all();
        replicas
    }

    fn now(&self) -> Moment {
        self.site.clock.now()
    }

    /// Declares the other state of an app.
    fn edit(&mut self, index: usize) {
        let state = if self.declared[index] == "Running" { "Stopped" } else { "Running" };
        self.declared[index] = state;
        self.edits[index] += 1;
        self.site.note(&format!("edit {index}: {state}"));
        let text = manifest(&format!("app-{index}"), &id(index), state, "");
        let update = self.files.change(vec![(format!("{index}.yaml"), Some(text))]);
        for process in self.processes.iter().flatten() {
            // Fails once the process has ended.
            let _ = process.updates.send(update.clone());
        }
    }

    fn edit_any(&mut self) {
        let index = usize::try_from(self.dice.below(APPS as u64)).unwrap();
        self.edit(index);
    }

    fn begin_all(&mut self) {
        for slot in 0..self.processes.len() {
            if self.processes[slot].as_ref().is_none_or(|process| process.operator.is_finished()) {
                self.begin(slot);
            }
        }
    }

    fn begin(&mut self, slot: usize) {
        self.begun += 1;
        let replica: Arc<str> = format!("replica-{slot}").into();
        let identity: Arc<str> = format!("{replica}_{}", self.begun).into();
        self.site.note(&format!("begin {identity}"));
        let way = Way { site: self.site.clone(), replica, identity, gate: Gate::default() };
        let ahead: &'static AtomicI64 = Box::leak(Box::default());
        // The fraction of the second spreads renewals.
        let wall = self.site.clock.wall() + Duration::from_micros(self.dice.below(1_000_000));
        let clock = Clock::simulated(wall).set_forward_by(ahead);
        let elector = Elector::new(way.identity.clone(), self.site.lease);
        let mut task = None;
        let election = Election::start_on(way.clone(), elector, clock, |run| {
            let spawned = tokio::spawn(way.gate.clone().run(run));
            task = Some(spawned.abort_handle());
            spawned
        });
        let token = lock(&self.world).config().token.clone();
        let inner = InProcess::new(self.world.clone(), self.site.clock, token);
        let platform = election.fence(Reached { way: way.clone(), inner });
        let platform = Gated { gate: way.gate.clone(), inner: platform };
        let settings = Settings { budget: Budget::PerMinute(600), salt: self.dice.next(), ..Settings::default() };
        let operator = Operator::new(Arc::new(platform), settings, clock, Board::default());
        let operator = operator.follow_leader(election.lead.clone());
        let (updates, inbox) = unbounded_channel();
        let (stopper, signals) = shutdown::pair();
        updates.send(self.files.begin_again()).unwrap();
        let drained: Arc<Mutex<Option<Moment>>> = Arc::default();
        let (site, end) = (self.site.clone(), drained.clone());
        let operator = tokio::spawn(way.gate.clone().run(async move {
            operator.run(inbox, signals).await;
            *end.lock().unwrap() = Some(site.clock.now());
            election.release().await;
        }));
        let election = task.unwrap();
        self.processes[slot] = Some(Process { way, operator, election, updates, stopper, ahead, drained });
    }

    /// kill -9.
    fn kill(&mut self, slot: usize) {
        let Some(process) = self.processes[slot].take() else { return };
        self.site.note(&format!("kill {}", process.way.identity));
        // First the election: it releases the lease when the operator goes.
        process.election.abort();
        process.operator.abort();
    }

    fn terminate(&self, slot: usize) {
        let Some(process) = &self.processes[slot] else { return };
        self.site.note(&format!("SIGTERM {}", process.way.identity));
        process.stopper.request_stop();
    }

    fn stop(&self, slot: usize) {
        let Some(process) = &self.processes[slot] else { return };
        self.site.note(&format!("stop {}", process.way.identity));
        process.way.gate.stop();
    }

    fn resume(&mut self, slot: usize) {
        let Some(process) = &self.processes[slot] else { return };
        if process.way.gate.is_stopped() {
            self.site.note(&format!("continue {}", process.way.identity));
            process.way.gate.resume(&mut self.dice);
        }
    }

    fn cut(&self, slot: usize, servers: &[Server], cut: bool) {
        let replica: Arc<str> = format!("replica-{slot}").into();
        self.site.note(&format!("{replica}: cut from {servers:?}: {cut}"));
        for server in servers {
            self.site.set_cut(&replica, *server, cut);
        }
    }

    fn slot_of(&self, identity: &str) -> Option<usize> {
        let is_it = |process: &Option<Process>| {
            process
                .as_ref()
                .is_some_and(|process| *process.way.identity == *identity && !process.operator.is_finished())
        };
        self.processes.iter().position(is_it)
    }

    fn is_as_declared(&self) -> bool {
        let wall = self.site.clock.wall();
        (0..APPS).all(|index| {
            let online = lock(&self.world).online(&app(index), wall).unwrap();
            online == (self.declared[index] == "Running")
        })
    }

    /// Waits until every app is as declared, and no call is in flight. Returns the time that it took.
    async fn settle(&self, within: Duration) -> Duration {
        let start = self.now();
        while !self.is_as_declared() || !self.site.flying().is_empty() {
            assert!(self.now().since(start) <= within, "seed {}: not as declared after {within:?}", self.seed);
            sleep(Duration::from_millis(250)).await;
            self.site.check(self.seed);
        }
        self.now().since(start)
    }

    /// Calls take up to four seconds.
    fn slow_calls(&self) {
        let rule = |on, milliseconds, probability| {
            let delay = Some(Duration::from_millis(milliseconds));
            let effect_delay = Some(Duration::from_millis(milliseconds / 2));
            Rule { probability: Some(probability), ..Rule::new(on, Fault { delay, effect_delay, ..Fault::default() }) }
        };
        let rules = [Endpoint::Stop, Endpoint::Start]
            .into_iter()
            .flat_map(|on| [rule(on, 4_000, 0.3), rule(on, 1_500, 0.5), rule(on, 100, 1.0)]);
        lock(&self.world).set_faults(Faults { rules: rules.collect(), revive: Vec::new() });
    }

    async fn chaos(&mut self) {
        self.site.set_latency(*self.dice.clone().pick(&[20, 200, 1_500]));
        for _ in 0..40 {
            sleep(self.dice.within(8)).await;
            self.step();
            if self.dice.chance(10) {
                self.pause_leader().await;
            }
            self.site.check(self.seed);
        }
    }

    /// A leader that goes on with some of its lease left, and finds an edit.
    async fn pause_leader(&mut self) {
        let Some(slot) = self.site.holder().and_then(|leader| self.slot_of(&leader)) else { return };
        self.stop(slot);
        sleep(self.dice.within(self.site.lease.as_secs())).await;
        self.edit_any();
        self.resume(slot);
        sleep(self.dice.within(1)).await;
    }

    fn step(&mut self) {
        let slot = usize::try_from(self.dice.below(self.processes.len() as u64)).unwrap();
        match self.dice.below(20) {
            0..=6 => self.edit_any(),
            7 => self.kill(slot),
            8 => self.terminate(slot),
            9 => self.stop(slot),
            10 => self.resume(slot),
            11 => self.cut(slot, &[Server::Kubernetes], true),
            12 => self.cut(slot, &[Server::CamposCloud], true),
            13 => self.cut(slot, &[Server::Kubernetes, Server::CamposCloud], true),
            14 => self.cut(slot, &[Server::Kubernetes, Server::CamposCloud], false),
            15 => {
                let frozen = *self.dice.pick(&[None, None, Some(Frozen::Holds), Some(Frozen::Loses)]);
                self.site.note(&format!("API server frozen: {frozen:?}"));
                self.site.freeze(frozen);
            }
            16 => {
                let seconds = *self.dice.pick(&[0, 3_600, -3_600, 365 * 86_400, -365 * 86_400]);
                self.site.note(&format!("the clock of {slot} is ahead by {seconds} s"));
                if let Some(process) = &self.processes[slot] {
                    process.ahead.store(seconds, Ordering::Relaxed);
                }
            }
            17 => {
                // The longest are cut off by the end of the lease.
                let delay = Some(Duration::from_secs(*self.dice.pick(&[1, 5, 20, 50])));
                let late = Fault { delay, ..Fault::default() };
                let rules = [Endpoint::Stop, Endpoint::Start].map(|on| Rule::new(on, late.clone()));
                self.site.note(&format!("calls take {delay:?}"));
                lock(&self.world).set_faults(Faults { rules: rules.into(), revive: Vec::new() });
            }
            18 => lock(&self.world).set_faults(Faults::default()),
            _ => self.begin_all(),
        }
    }

    /// Faults end: within a bound every app is as declared, and then it is left alone.
    async fn calm(&mut self) -> Duration {
        self.site.note("calm");
        self.site.freeze(None);
        lock(&self.world).set_faults(Faults::default());
        for slot in 0..self.processes.len() {
            self.cut(slot, &[Server::Kubernetes, Server::CamposCloud], false);
            self.resume(slot);
            if let Some(process) = &self.processes[slot] {
                process.ahead.store(0, Ordering::Relaxed);
            }
        }
        // Those that were to end have ended by then.
        sleep(Duration::from_secs(25)).await;
        self.begin_all();
        let took = self.settle(CALM).await;
        // An effect may be read late by one list.
        sleep(Duration::from_secs(120)).await;
        let calls = self.site.count();
        sleep(Duration::from_secs(180)).await;
        self.site.check(self.seed);
        assert_eq!(calls, self.site.count(), "seed {}: a settled fleet is left alone", self.seed);
        assert!(self.is_as_declared(), "seed {}", self.seed);
        took
    }
}

/// Returns the transcript, the time until every app was as declared, and the overlaps that no fence prevents.
fn trial(seed: u64) -> (String, Duration, usize) {
    on_a_paused_clock(async {
        let lease = Duration::from_secs(*Dice::new(seed).pick(&[15, 30]));
        let mut replicas = Replicas::new(seed, lease);
        replicas.chaos().await;
        let took = replicas.calm().await;
        let (overlaps, beyond) = replicas.site.overlaps();
        assert_eq!(overlaps, 0, "seed {seed}");
        (replicas.site.transcript(), took, beyond)
    })
}

#[test]
fn replicas_keep_their_promises_in_every_seed() {
    if let Some(seed) = crate::number("SIM_SEED") {
        trial(seed);
        return;
    }
    let seeds = crate::number("SIM_SEEDS").unwrap_or(SEEDS).min(2_000);
    let first = crate::number("SIM_FIRST").unwrap_or(0);
    let (mut longest, mut beyond) = (Duration::ZERO, 0);
    for seed in first..first + seeds {
        let (_, took, uncut) = trial(seed);
        (longest, beyond) = (longest.max(took), beyond + uncut);
    }
    println!(
        "{seeds} seeds: as declared {longest:?} after the faults; {beyond} overlaps with a call of a stopped process"
    );
}

#[test]
fn a_seed_of_replicas_repeats_itself() {
    for seed in [3, 8] {
        assert_eq!(trial(seed).0, trial(seed).0, "seed {seed}");
    }
}

/// An API server that is frozen for 60 s, while every app is edited all the time. Returns the longest time from the
/// send of a renewal to the send of a call, and the time until calls go on.
fn frozen(seed: u64) -> (Duration, Duration) {
    on_a_paused_clock(async {
        let lease = Duration::from_secs(30);
        let mut replicas = Replicas::new(seed, lease);
        replicas.site.set_latency(*replicas.dice.pick(&[60, 1_500]));
        replicas.settle(CALM).await;
        sleep(Duration::from_secs(10) + replicas.dice.within(20)).await;
        let (leader, takeovers) = (replicas.site.holder(), replicas.site.takeovers().len());
        let first = replicas.site.count();
        replicas.site.freeze(Some(if seed.is_multiple_of(3) { Frozen::Holds } else { Frozen::Loses }));
        for _ in 0..300 {
            replicas.edit_any();
            sleep(Duration::from_millis(200)).await;
            replicas.site.check(seed);
        }
        let latest = replicas.site.sent(first).iter().map(|sent| sent.renewed_ago).max().unwrap();
        assert!(latest <= Duration::from_secs(20), "seed {seed}: a call {latest:?} after the last renewal");
        let (thawed, before) = (replicas.now(), replicas.site.count());
        replicas.site.freeze(None);
        replicas.settle(CALM).await;
        sleep(lease * 2).await;
        replicas.site.check(seed);
        assert_eq!(replicas.site.takeovers().len(), takeovers, "seed {seed}: another leader");
        assert_eq!(replicas.site.holder(), leader, "seed {seed}");
        let next = replicas.site.sent(before).first().map(|sent| sent.at.since(thawed));
        (latest, next.unwrap_or_default())
    })
}

#[test]
fn an_api_server_frozen_for_a_minute_ends_calls_after_20_s_and_changes_no_leader() {
    if let Some(seed) = crate::number("SIM_SEED") {
        frozen(seed);
        return;
    }
    let trials: Vec<(Duration, Duration)> = (0..20).map(frozen).collect();
    let latest = trials.iter().map(|(latest, _)| *latest).max();
    let next = trials.iter().map(|(_, next)| *next).max();
    assert!(latest > Some(Duration::from_secs(19)), "the edits reach the last second: {latest:?}");
    println!("frozen: the latest call is sent {latest:?} after the renewal; calls go on {next:?} after the thaw");
}
