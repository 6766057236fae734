//! The time from a cold start to the first call, and to the call that needs the complete list: one app of the first
//! page and one of the last are not as declared.
//!
//! The manifests were written a second before the start, as by a clone or a mounted volume, or long ago.
//!
//! For comparison, in the same run: the tutorial program; reading the files, reading and parsing them on all cores, and
//! fetching the list. The page cache is warm for all of them.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Plan;
use crate::daemon::Daemon;
use crate::fleet::{Fleet, State};
use crate::peers::Peer;
use crate::results::{Results, Row, Unit};
use crate::server::Server;
use crate::stats::Summary;
use crate::wire::Wire;
use crate::{floor, tutorial};

const PART: &str = "cold";
const PATIENCE: Duration = Duration::from_secs(300);
/// The age of manifests that were written just before the start.
const FRESH: Duration = Duration::from_secs(1);
/// The age of the others: their modification times are old, but no process can set the time of a change.
const OLD: Duration = Duration::from_millis(3_500);

pub(crate) const PARSE: &str = "read and parse, all cores";
pub(crate) const LIST: &str = "fetch the list, one connection";
pub(crate) const FIRST_CALL: &str = "start to first call";
pub(crate) const WHOLE_PLAN: &str = "start to complete plan";
/// What a measure is called besides if the manifests were written just before the start.
const FRESH_FILES: &str = ", fresh files";

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    for &apps in &plan.growth {
        let mut fleet = Fleet::new(apps)?;
        let drifted = if apps > 1 { vec![0, apps - 1] } else { vec![0] };
        for &app in &drifted {
            fleet.ask(app, State::Stopped)?;
        }
        let server = Server::start(apps)?;
        let row = |measure: &str, subject: &str, summary| {
            Row::new(PART, measure, subject, Unit::Seconds, summary).with_apps(apps)
        };
        let mut bare: [Vec<f64>; 3] = Default::default();
        let mut starts: [[Vec<f64>; 3]; 2] = Default::default();
        for _ in 0..plan.runs {
            bare[0].push(timed(|| floor::read_all(&fleet.manifests()))?);
            bare[1].push(timed(|| floor::parse_all(&fleet.manifests()))?);
            bare[2].push(timed(|| fetch_list(&server, apps))?);
            for ([first, whole, tutorial], fresh) in starts.iter_mut().zip([false, true]) {
                if fresh {
                    fleet.refresh()?;
                    thread::sleep(FRESH);
                } else {
                    fleet.age()?;
                    thread::sleep(OLD);
                }
                let (at_first, at_last) = start_times(&server, &drifted, || {
                    let daemon = Daemon::start(&fleet, &server, &["--listen", "off", "--interval", "10m"])?;
                    Ok((daemon.started, daemon))
                })?;
                first.push(at_first);
                whole.push(at_last);
                let (_, at_last) = start_times(&server, &drifted, || {
                    let peer = Peer::own(tutorial::VERB, &fleet.manifests(), server.address())?;
                    Ok((peer.started, peer))
                })?;
                tutorial.push(at_last);
            }
        }
        let [read, parse, list] = bare.map(|runs| Summary::of(&runs));
        results.push(row("read every file, one thread", "bench", read));
        results.push(row(PARSE, "bench", parse));
        results.push(row(LIST, "bench", list));
        for ([first, whole, tutorial], fresh) in starts.iter().zip(["", FRESH_FILES]) {
            let [first, whole, tutorial] = [first, whole, tutorial].map(|runs| Summary::of(runs));
            results.push(row(&format!("{FIRST_CALL}{fresh}"), "operator", first).against(parse, "read and parse"));
            results.push(row(&format!("{WHOLE_PLAN}{fresh}"), "operator", whole).against(tutorial, "tutorial"));
            results
                .push(row(&format!("{WHOLE_PLAN}{fresh}"), tutorial::VERB, tutorial).against(parse, "read and parse"));
        }
    }
    Ok(())
}

/// The times from a start to the first and to the last of the calls that stop `drifted`.
fn start_times<T>(
    server: &Server,
    drifted: &[u32],
    start: impl FnOnce() -> anyhow::Result<(Instant, T)>,
) -> anyhow::Result<(f64, f64)> {
    for &app in drifted {
        server.set_online(app, true);
    }
    server.forget_calls();
    let (started, _process) = start()?;
    let calls = server.wait_for_calls(drifted.len(), PATIENCE).context("the stops did not come")?;
    let after = calls.iter().map(|call| call.at.duration_since(started).as_secs_f64());
    Ok((after.clone().fold(f64::INFINITY, f64::min), after.fold(0.0, f64::max)))
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let started = Instant::now();
    black_box(work()?);
    Ok(started.elapsed().as_secs_f64())
}

/// Fetches every page without parsing it.
fn fetch_list(server: &Server, apps: u32) -> anyhow::Result<usize> {
    let mut wire = Wire::open(server.address())?;
    let mut bytes = 0;
    for page in 1..=apps.div_ceil(100) {
        bytes += wire.ask("GET", &format!("/v1/apps?page={page}&limit=100"))?.len();
    }
    Ok(bytes)
}
