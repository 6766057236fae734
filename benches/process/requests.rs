//! The number of requests for the job, compared with the minimum.
//!
//! A list of all apps takes one request a page. A convergence takes one call for each app, and a confirmation of each:
//! one read, or the pages of one list if these are fewer.

use std::thread;
use std::time::Duration;

use anyhow::Context as _;

use crate::Plan;
use crate::daemon::Daemon;
use crate::fleet::{Fleet, Way};
use crate::results::{Results, Row, Unit};
use crate::server::{Requests, Server};
use crate::stats::Summary;

const PART: &str = "requests";
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const RESYNC: &str = "one resync";

/// Time between lists where lists are counted.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    for &apps in &plan.growth {
        let (mut fleet, server) = (Fleet::new(apps)?, Server::start(apps)?);
        let pages = u64::from(apps.div_ceil(100));
        let report = |measure: String, counted: &[f64], least: u64| {
            #[expect(clippy::cast_precision_loss, reason = "few requests")]
            let least = Summary::of(&[least as f64]);
            Row::new(PART, measure, "operator", Unit::Count, Summary::of(counted))
                .against(least, format!("least possible ({:.0})", least.value))
                .with_apps(apps)
        };
        results.push(report(RESYNC.into(), &resyncs(plan, &fleet, &server)?, pages));
        // One size shows whether confirming by list or by single reads is cheaper.
        let edited = if plan.sizes.first() == Some(&apps) { &[5, 50][..] } else { &[] };
        for &drifted in edited {
            let drifted = drifted.min(apps);
            let least = u64::from(drifted) + pages.min(u64::from(drifted));
            let counted = edits(plan, &mut fleet, &server, drifted)?;
            results.push(report(format!("{drifted} edits to verified"), &counted, least));
        }
    }
    Ok(())
}

/// Requests of each list: the pages that come between two pauses. A pause is a time without requests.
fn resyncs(plan: &Plan, fleet: &Fleet, server: &Server) -> anyhow::Result<Vec<f64>> {
    // A longer list needs a longer pause.
    let interval = INTERVAL.max(Duration::from_millis(u64::from(fleet.apps()) / 10));
    let seconds = format!("{}s", interval.as_secs());
    let mut daemon = Daemon::start(fleet, server, &["--listen", "off", "--interval", &seconds])?;
    daemon.settle()?;
    let quiet = || -> anyhow::Result<Requests> {
        let mut last = server.requests();
        for _ in 0..10_000 {
            thread::sleep(interval / 5);
            let now = server.requests();
            if now == last {
                return Ok(now);
            }
            last = now;
        }
        anyhow::bail!("the lists come without a pause")
    };
    let mut counted = Vec::new();
    let mut before = quiet()?;
    while counted.len() < plan.runs {
        thread::sleep(interval / 20);
        if server.requests() == before {
            continue;
        }
        let after = quiet()?;
        counted.push(between(before, after));
        before = after;
    }
    Ok(counted)
}

/// Requests from some edits to the last confirmation.
fn edits(plan: &Plan, fleet: &mut Fleet, server: &Server, count: u32) -> anyhow::Result<Vec<f64>> {
    let mut daemon = Daemon::start(fleet, server, &["--listen", "off", "--interval", "10m"])?;
    daemon.settle()?;
    let mut counted = Vec::new();
    for _ in 0..plan.runs {
        let before = server.requests();
        server.forget_calls();
        for app in 0..count {
            fleet.prepare(app, Way::Rename)?.make()?;
        }
        server.wait_for_calls(count as usize, PATIENCE).context("the calls did not come")?;
        let logged = daemon.logged();
        daemon.settle_after(logged)?;
        counted.push(between(before, server.requests()));
    }
    Ok(counted)
}

#[expect(clippy::cast_precision_loss, reason = "few requests")]
fn between(before: Requests, after: Requests) -> f64 {
    let sum = |requests: Requests| requests.pages + requests.reads + requests.calls;
    (sum(after) - sum(before)) as f64
}
