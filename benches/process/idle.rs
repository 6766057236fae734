//! The cost of watching: processor time and wake-ups of a settled operator, scans included; with a list each 60 s (the
//! default), and with no list at all.
//!
//! The value is that of the whole span, which includes every recurring cost (six scans, one of which reads all contents
//! again, and one list); the extremes are those of its parts.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::thread;
use std::time::Instant;

use anyhow::Context as _;

use crate::Plan;
use crate::daemon::{Daemon, Usage};
use crate::fleet::Fleet;
use crate::results::{Results, Row, Unit};
use crate::server::Server;
use crate::stats::Summary;

const PART: &str = "idle";
pub(crate) const CPU: &str = "processor, of one core";
pub(crate) const WAKES: &str = "wake-ups";

/// One idle operator, with its use at the end of each part of the span.
#[derive(Debug)]
struct Subject {
    daemon: Daemon,
    name: &'static str,
    apps: u32,
    used: Vec<(Instant, Usage)>,
}

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let fleets: Vec<(Fleet, Server)> = plan
        .growth
        .iter()
        .map(|&apps| anyhow::Ok((Fleet::new(apps)?, Server::start(apps)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut subjects = Vec::new();
    for (fleet, server) in &fleets {
        for (name, interval) in [("operator", "60s"), ("no list", "10m")] {
            let arguments = ["--listen", "127.0.0.1:0", "--interval", interval];
            let mut daemon = Daemon::start(fleet, server, &arguments)?;
            daemon.settle()?;
            subjects.push(Subject { daemon, name, apps: fleet.apps(), used: Vec::new() });
        }
    }
    // All at once: each alone uses next to nothing, and the span is long.
    for _ in 0..=plan.idle_parts {
        thread::sleep(plan.idle_part);
        for Subject { daemon, used, .. } in &mut subjects {
            used.push((Instant::now(), daemon.usage()?));
        }
    }
    for Subject { name, apps, used, .. } in &subjects {
        for (measure, unit, field) in [
            (CPU, Unit::Percent, (|usage| usage.cpu * 100.0) as fn(&Usage) -> f64),
            (WAKES, Unit::PerSecond, |usage| usage.sleeps),
        ] {
            let rate = |from: &(Instant, Usage), to: &(Instant, Usage)| {
                (field(&to.1) - field(&from.1)) / to.0.duration_since(from.0).as_secs_f64()
            };
            let parts: Vec<f64> = used.windows(2).map(|pair| rate(&pair[0], &pair[1])).collect();
            let (first, last) = used.first().zip(used.last()).context("usage was read")?;
            let summary = Summary::with(rate(first, last), &parts);
            results.push(Row::new(PART, measure, *name, unit, summary).with_apps(*apps));
        }
    }
    Ok(())
}
