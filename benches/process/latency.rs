//! The time from an edit to its call: from just before the rename, or the close of a file written in place, to the
//! arrival of the stop or start at the server.
//!
//! Edits come at two paces: as people make them, with the processor idle in between, and one right after the other.
//!
//! Operator, floor and peers each have a directory and a server of their own and take turns, block by block, so that
//! other load of the machine affects all of them. An app is edited once a block; a block begins when nothing is left
//! to verify.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Plan;
use crate::daemon::Daemon;
use crate::fleet::{Edit, Fleet, Way};
use crate::peers::{self, Peer};
use crate::results::{Results, Row, Unit};
use crate::server::{Call, Server};
use crate::stats::Summary;
use crate::{floor, tutorial};

const PART: &str = "latency";

/// Deadline for the arrival of a call.
const PATIENCE: Duration = Duration::from_secs(60);
/// The mean pause between edits that come one right after the other, with warm caches and a processor that is awake.
const HOT: Duration = Duration::from_micros(2_500);
/// Number of edits that are measured during a bulk, and the time between two of them.
const AMONG_BULK: (u32, Duration) = (40, Duration::from_micros(500));

/// The program that turns an edit into a call.
#[derive(Debug)]
enum Worker {
    Operator(Daemon),
    Peer { _process: Peer },
}

/// One competitor with its directory and its server.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) name: String,
    fleet: Fleet,
    server: Server,
    worker: Worker,
    /// The app that is edited next.
    next: u32,
}

impl Lane {
    pub(crate) fn operator(apps: u32) -> anyhow::Result<Self> {
        let (fleet, server) = (Fleet::new(apps)?, Server::start(apps)?);
        // No list within the time of the bench but the first; scans as by default.
        let mut daemon = Daemon::start(&fleet, &server, &["--listen", "off", "--interval", "10m"])?;
        daemon.settle()?;
        Ok(Self { name: "operator".into(), fleet, server, worker: Worker::Operator(daemon), next: 0 })
    }

    pub(crate) fn floor(apps: u32) -> anyhow::Result<Self> {
        Self::own(floor::VERB, apps)
    }

    pub(crate) fn tutorial(apps: u32) -> anyhow::Result<Self> {
        Self::own(tutorial::VERB, apps)
    }

    fn own(verb: &str, apps: u32) -> anyhow::Result<Self> {
        let (fleet, server) = (Fleet::new(apps)?, Server::start(apps)?);
        let mut process = Peer::own(verb, &fleet.manifests(), server.address())?;
        process.wait_until_ready()?;
        Ok(Self { name: verb.into(), fleet, server, worker: Worker::Peer { _process: process }, next: 0 })
    }

    fn peer(kind: &peers::Kind, apps: u32) -> anyhow::Result<Self> {
        let (fleet, server) = (Fleet::new(apps)?, Server::start(apps)?);
        let process = kind.start(&fleet.manifests(), &server.url())?;
        let mut lane =
            Self { name: kind.name.into(), fleet, server, worker: Worker::Peer { _process: process }, next: 0 };
        // It does not report when it watches: the bench repeats edits until one causes a call.
        let watching = (0..50).any(|_| {
            let edit = lane.prepare(Way::Rename);
            edit.and_then(|(_, edit)| edit.make()).is_ok()
                && lane.server.wait_for_calls(1, Duration::from_millis(400)).is_some()
        });
        anyhow::ensure!(watching, "{} made no call", lane.name);
        thread::sleep(Duration::from_secs(1));
        Ok(lane)
    }

    pub(crate) fn prepare(&mut self, way: Way) -> anyhow::Result<(u32, Edit)> {
        let app = self.next;
        self.next = (self.next + 1) % self.fleet.apps();
        Ok((app, self.fleet.prepare(app, way)?))
    }

    pub(crate) fn calls(&self, count: usize) -> anyhow::Result<Vec<Call>> {
        let calls = self.server.wait_for_calls(count, PATIENCE);
        calls.with_context(|| format!("{}: {count} calls did not come within {PATIENCE:?}", self.name))
    }

    /// Runs `work`, which causes `count` calls, and waits until nothing is left to do.
    pub(crate) fn block<T>(
        &mut self,
        count: u32,
        work: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.server.forget_calls();
        let value = work(self)?;
        self.calls(count as usize)?;
        if let Worker::Operator(daemon) = &mut self.worker {
            // The last call is still unconfirmed, so the log does not report the end yet.
            let logged = daemon.logged();
            daemon.settle_after(logged)?;
        }
        Ok(value)
    }

    /// Edits one app after the other, each after the arrival of the previous call.
    fn edits(&mut self, way: Way, count: u32, pause: &mut Pause) -> anyhow::Result<Vec<f64>> {
        let already = self.server.wait_for_calls(0, Duration::ZERO).map_or(0, |calls| calls.len());
        (1..=count as usize)
            .map(|made| {
                let (app, edit) = self.prepare(way)?;
                pause.take();
                let at = edit.make()?;
                let call = *self.calls(already + made)?.last().context("a call came")?;
                anyhow::ensure!(call.app == app, "{}: a call for another app than the edited one", self.name);
                Ok(call.at.duration_since(at).as_secs_f64())
            })
            .collect()
    }

    /// Flips `bulk` apps as a checkout does, and then edits others at an even pace during the bulk.
    fn edits_among_bulk(&mut self, way: Way, bulk: u32) -> anyhow::Result<Vec<f64>> {
        let checkout = self.prepare_many(Way::Rename, bulk)?;
        let single = self.prepare_many(way, AMONG_BULK.0)?;
        for (_, edit) in checkout {
            edit.make()?;
        }
        let mut edited: HashMap<u32, Instant> = HashMap::new();
        for (app, edit) in single {
            thread::sleep(AMONG_BULK.1);
            edited.insert(app, edit.make()?);
        }
        let calls = self.calls((bulk + AMONG_BULK.0) as usize)?;
        let measured = calls.iter().filter_map(|call| Some(call.at.duration_since(*edited.get(&call.app)?)));
        Ok(measured.map(|took| took.as_secs_f64()).collect())
    }

    pub(crate) fn prepare_many(&mut self, way: Way, count: u32) -> anyhow::Result<Vec<(u32, Edit)>> {
        (0..count).map(|_| self.prepare(way)).collect()
    }
}

/// Irregular pauses, from two fifths to eight fifths of their mean, the same in each run.
#[derive(Debug)]
struct Pause {
    mean: Duration,
    random: u64,
}

impl Pause {
    fn take(&mut self) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fifth_of_thousandth = u32::try_from((self.random >> 33) % 6_000).unwrap_or_default();
        thread::sleep(self.mean * (2_000 + fifth_of_thousandth) / 5_000);
    }
}

/// How edits follow each other.
#[derive(Debug)]
struct Pace {
    /// What it adds to the name of the measure.
    name: &'static str,
    /// The mean pause before an edit.
    pause: Duration,
    /// Edits of one run.
    edits: u32,
}

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    for (index, &apps) in plan.sizes.iter().enumerate() {
        let mut lanes = vec![Lane::floor(apps)?, Lane::operator(apps)?, Lane::tutorial(apps)?];
        let paces = [
            Pace { name: "", pause: plan.pause, edits: plan.paused_edits },
            Pace { name: ", hot", pause: HOT, edits: plan.edits },
        ];
        let mut slow = Vec::new();
        // Peers do not get slower with the number of files; once is enough.
        if index == 0 {
            for kind in peers::kinds() {
                match kind.missing() {
                    Some(missing) => results.leave_out(format!("{}: {missing}", kind.name)),
                    None => slow.push(Lane::peer(&kind, apps)?),
                }
            }
        }
        for way in Way::ALL {
            let paces = if way == Way::Rename { &paces[..] } else { &paces[..1] };
            for Pace { name, pause: mean, edits } in paces {
                let mut all = Samples::default();
                let mut pause = Pause { mean: *mean, random: u64::from(apps) };
                for _ in 0..plan.runs {
                    let lanes = lanes.iter_mut().map(|lane| (lane, *edits));
                    for (lane, edits) in lanes.chain(slow.iter_mut().map(|lane| (lane, plan.slow_edits))) {
                        let count = edits.min(apps / 2);
                        let took = lane.block(count, |lane| lane.edits(way, count, &mut pause))?;
                        all.add(&lane.name, took);
                    }
                }
                all.report(&format!("edit to call, {}{name}", way.as_str()), apps, results);
            }
            if way != Way::Rename {
                continue;
            }
            let mut bulk_all = Samples::default();
            let bulk = plan.bulk.min(apps.saturating_sub(AMONG_BULK.0));
            for _ in 0..plan.bulks {
                for lane in &mut lanes {
                    let count = bulk + AMONG_BULK.0;
                    let took = lane.block(count, |lane| lane.edits_among_bulk(way, bulk))?;
                    bulk_all.add(&lane.name, took);
                }
            }
            bulk_all.report(&format!("edit to call, {}, bulk", way.as_str()), apps, results);
        }
    }
    Ok(())
}

/// Samples by competitor, run by run, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<(String, Vec<Vec<f64>>)>);

impl Samples {
    pub(crate) fn add(&mut self, name: &str, run: Vec<f64>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, runs)) => runs.push(run),
            None => self.0.push((name.to_owned(), vec![run])),
        }
    }

    fn report(&self, measure: &str, apps: u32, results: &mut Results) {
        for (label, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let mut floor = None;
            for (name, runs) in &self.0 {
                let summary = Summary::pooled(runs, part);
                let floor = *floor.get_or_insert(summary);
                let row = Row::new(PART, format!("{measure}, {label}"), name.as_str(), Unit::Seconds, summary);
                let row = if name == "floor" { row } else { row.against(floor, "floor") };
                results.push(row.with_apps(apps));
            }
        }
    }

    /// The median of runs of one sample each.
    pub(crate) fn report_medians(&self, part: &'static str, measure: &str, apps: u32, results: &mut Results) {
        let mut floor = None;
        for (name, runs) in &self.0 {
            let summary = Summary::of(&runs.concat());
            let floor = *floor.get_or_insert(summary);
            let row = Row::new(part, measure, name.as_str(), Unit::Seconds, summary);
            let row = if name == "floor" { row } else { row.against(floor, "floor") };
            results.push(row.with_apps(apps));
        }
    }
}
