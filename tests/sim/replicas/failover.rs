//! One failover after the other, of each kind: calls of two processes that overlap, and the time that it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use campos_operator::reconcile::app::AppId;
use tokio::time::sleep;

use super::site::Server;
use super::{APPS, CALM, Replicas, app};
use crate::bulk::on_a_paused_clock;

/// The failovers of each kind, in a plain `cargo test` and with `SIM_SEEDS`.
const FAILOVERS: usize = 200;
const MANY_FAILOVERS: u64 = 500;
/// A failover takes at most a lease and this.
const DETECTION: Duration = Duration::from_secs(2);
/// After SIGTERM a failover takes at most the drain and this.
const HANDOVER: Duration = Duration::from_secs(1);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Terminate,
    Stop,
    Cut,
}

/// Times of failovers.
#[derive(Debug, Default)]
struct Figures {
    /// From the event (after SIGTERM: from the end of the drain) to the takeover.
    takeovers: Vec<Duration>,
    /// From the event to the next call.
    calls: Vec<Duration>,
    drains: Vec<Duration>,
    /// Apps that had a call in flight when the leader was lost.
    in_flight: usize,
    /// Calls beyond one for each edit.
    extra: usize,
    overlaps: usize,
}

impl Replicas {
    /// One failover, and the way back to a settled fleet with all replicas.
    async fn failover(&mut self, kind: Kind, figures: &mut Figures) {
        self.begin_all();
        self.settle(CALM).await;
        sleep(self.dice.within(self.site.lease.as_secs())).await;
        let (first_call, edits) = (self.site.count(), self.edits);
        for _ in 0..self.dice.below(4) {
            self.edit_any();
            sleep(self.dice.within(2)).await;
        }
        let leader = self.site.holder().unwrap();
        let slot = self.slot_of(&leader).unwrap();
        let (start, mut in_flight, event) = (self.now(), self.site.flying(), self.site.count());
        let seen = self.site.takeovers().len();
        let both = [Server::Kubernetes, Server::CamposCloud];
        match kind {
            Kind::Kill => self.kill(slot),
            Kind::Terminate => self.terminate(slot),
            Kind::Stop => self.stop(slot),
            Kind::Cut => self.cut(slot, &both, true),
        }
        let new = loop {
            sleep(Duration::from_millis(50 + self.dice.below(500))).await;
            if self.dice.chance(10) {
                self.edit_any();
            }
            self.site.check(self.seed);
            if let Some(takeover) = self.site.takeovers().get(seen) {
                break takeover.clone();
            }
            assert!(self.now().since(start) < self.site.lease * 4, "seed {}: nobody takes over", self.seed);
        };
        let drained = self.processes[slot].as_ref().and_then(|process| *process.drained.lock().unwrap());
        let took = new.at.since(drained.unwrap_or(start));
        let bound = if kind == Kind::Terminate { HANDOVER } else { self.site.lease + DETECTION };
        // A slow network delays a release by its renewal, and each of the four requests.
        let network = if self.site.latency() > 100 { self.site.latency() * 8 } else { 0 };
        assert!(
            took <= bound + Duration::from_millis(network),
            "seed {}: {kind:?}: {} takes over after {took:?}",
            self.seed,
            new.by
        );
        figures.takeovers.push(took);
        figures.drains.extend(drained.map(|drained| drained.since(start)));
        assert_ne!(new.by, leader, "seed {}", self.seed);
        let before = self.site.count();
        // A leader without a network sends on until its lease ends.
        let sent = self.site.sent(event).into_iter().filter(|sent| sent.by == leader);
        in_flight.extend(sent.map(|sent| sent.app));
        figures.in_flight += in_flight.len();
        self.edit_any();
        self.settle(CALM).await;
        // Two edits in a row may leave nothing to call.
        let next = self.site.sent(before).into_iter().find(|sent| sent.by == new.by);
        figures.calls.extend(next.map(|next| next.at.since(start)));
        match kind {
            Kind::Kill | Kind::Terminate => {}
            Kind::Stop => self.resume(slot),
            Kind::Cut => self.cut(slot, &both, false),
        }
        // Until its request for the Lease has timed out, and was repeated: only then it is a standby again.
        sleep(Duration::from_secs(6) + self.dice.within(5)).await;
        self.settle(CALM).await;
        // At most one more call for an app that had a call in flight.
        let mut calls = BTreeMap::<AppId, usize>::new();
        self.site.sent(first_call).into_iter().for_each(|sent| *calls.entry(sent.app).or_default() += 1);
        for index in 0..APPS {
            let (calls, edits) = (calls.get(&app(index)).copied().unwrap_or(0), self.edits[index] - edits[index]);
            let allowed = edits + usize::from(in_flight.contains(&app(index)));
            assert!(calls <= allowed, "seed {}: {calls} calls on {index} by {edits} edits", self.seed);
            figures.extra += calls.saturating_sub(edits);
        }
    }
}

fn failovers(kind: Kind) {
    let many = crate::number("SIM_SEEDS").map(|seeds| seeds.clamp(MANY_FAILOVERS, 2_000));
    let only = crate::number("SIM_SEED");
    let count = many.filter(|_| only.is_none()).map_or(FAILOVERS, |many| usize::try_from(many).unwrap());
    let mut figures = Figures::default();
    let mut seed = only.unwrap_or(0);
    while figures.takeovers.len() < count && only.is_none_or(|only| only == seed) {
        on_a_paused_clock(async {
            let lease = Duration::from_secs(if seed % 3 == 2 { 30 } else { 15 });
            let mut replicas = Replicas::new(seed, lease);
            replicas.slow_calls();
            replicas.site.set_latency(if seed.is_multiple_of(2) { 60 } else { 300 });
            for _ in 0..50 {
                replicas.failover(kind, &mut figures).await;
            }
            figures.overlaps += replicas.site.overlaps().0 + replicas.site.overlaps().1;
        });
        seed += 1;
    }
    let Figures { mut takeovers, mut calls, mut drains, in_flight, extra, overlaps } = figures;
    assert_eq!(overlaps, 0, "{kind:?}");
    let shown = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        let (first, median, last) = (times.first(), times.get(times.len() / 2), times.last());
        [first, median, last].map(|time| time.map_or("-".into(), |time| format!("{:.2}", time.as_secs_f64()))).join(" ")
    };
    println!(
        "{kind:?}: {} failovers, {overlaps} overlaps, {in_flight} calls in flight, {extra} more calls; takeover {}; \
         drain {}; next call {} (s; shortest, median, longest)",
        takeovers.len(),
        shown(&mut takeovers),
        shown(&mut drains),
        shown(&mut calls),
    );
}

#[test]
fn no_call_overlaps_after_kill() {
    failovers(Kind::Kill);
}

#[test]
fn no_call_overlaps_after_sigterm() {
    failovers(Kind::Terminate);
}

#[test]
fn no_call_overlaps_after_sigstop() {
    failovers(Kind::Stop);
}

#[test]
fn no_call_overlaps_after_a_cut_network() {
    failovers(Kind::Cut);
}
