//! The time from a cold start to the first call, and to the call that needs the complete list: one app of the first page
//! and one of the last are not as declared.
//!
//! For comparison, in the same run: reading the files, reading and parsing them on all cores, and fetching the list.
//! The page cache is warm for all of them.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Plan;
use crate::daemon::Daemon;
use crate::fleet::{Fleet, State};
use crate::floor;
use crate::results::{Results, Row, Unit};
use crate::server::Server;
use crate::stats::Summary;
use crate::wire::Wire;

const PART: &str = "cold";
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) const PARSE: &str = "read and parse, all cores";
pub(crate) const LIST: &str = "fetch the list, one connection";
pub(crate) const FIRST_CALL: &str = "start to first call";
pub(crate) const WHOLE_PLAN: &str = "start to complete plan";

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    for &apps in &plan.growth {
        let mut fleet = Fleet::new(apps)?;
        let drifted = if apps > 1 { vec![0, apps - 1] } else { vec![0] };
        for &app in &drifted {
            fleet.ask(app, State::Stopped)?;
        }
        let server = Server::start(apps)?;
        let mut runs: [Vec<f64>; 5] = Default::default();
        for _ in 0..plan.runs {
            runs[0].push(timed(|| floor::read_all(&fleet.manifests()))?);
            runs[1].push(timed(|| floor::parse_all(&fleet.manifests()))?);
            runs[2].push(timed(|| fetch_list(&server, apps))?);
            for &app in &drifted {
                server.set_online(app, true);
            }
            server.forget_calls();
            let daemon = Daemon::start(&fleet, &server, &["--listen", "off", "--interval", "10m"])?;
            let calls = server.wait_for_calls(drifted.len(), PATIENCE).context("the stops did not come")?;
            let after = |at: Option<Instant>| at.map(|at| at.duration_since(daemon.started).as_secs_f64());
            runs[3].push(after(calls.iter().map(|call| call.at).min()).context("calls came")?);
            runs[4].push(after(calls.iter().map(|call| call.at).max()).context("calls came")?);
        }
        let [read, parse, list, first, whole] = runs.map(|runs| Summary::of(&runs));
        let row = |measure: &str, subject: &str, summary| {
            Row::new(PART, measure, subject, Unit::Seconds, summary).with_apps(apps)
        };
        results.push(row("read every file, one thread", "bench", read));
        results.push(row(PARSE, "bench", parse));
        results.push(row(LIST, "bench", list));
        results.push(row(FIRST_CALL, "operator", first).against(parse, "read and parse"));
        results.push(row(WHOLE_PLAN, "operator", whole).against(parse, "read and parse"));
    }
    Ok(())
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
