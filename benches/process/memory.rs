//! The resident memory per app of a settled operator, with the port open as by default.

use std::thread;
use std::time::Duration;

use crate::Plan;
use crate::daemon::{Daemon, Memory};
use crate::fleet::Fleet;
use crate::results::{Results, Row, Unit};
use crate::server::Server;
use crate::stats::{Summary, slope};

const PART: &str = "memory";
pub(crate) const RESIDENT: &str = "resident (VmRSS)";
pub(crate) const ANONYMOUS: &str = "of it anonymous (RssAnon)";

/// Time for the release of memory after the start.
const AFTER_SETTLING: Duration = Duration::from_secs(1);

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let fleets: Vec<(Fleet, Server)> = plan
        .growth
        .iter()
        .map(|&apps| anyhow::Ok((Fleet::new(apps)?, Server::start(apps)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut taken: Vec<Vec<Memory>> = vec![Vec::new(); fleets.len()];
    for _ in 0..plan.runs {
        let start = |(fleet, server): &(Fleet, Server)| Daemon::start(fleet, server, &["--listen", "127.0.0.1:0"]);
        // All sizes at once: memory does not depend on who else runs, and waiting is most of it.
        let mut daemons: Vec<Daemon> = fleets.iter().map(start).collect::<anyhow::Result<_>>()?;
        daemons.iter_mut().try_for_each(Daemon::settle)?;
        thread::sleep(AFTER_SETTLING);
        for (daemon, taken) in daemons.iter().zip(&mut taken) {
            taken.push(daemon.memory()?);
        }
    }
    let mut points = Vec::new();
    for (&apps, taken) in plan.growth.iter().zip(&taken) {
        let mut report = |measure, field: fn(&Memory) -> f64| {
            let summary = Summary::of(&taken.iter().map(field).collect::<Vec<_>>());
            results.push(Row::new(PART, measure, "operator", Unit::Bytes, summary).with_apps(apps));
        };
        report(RESIDENT, |memory| memory.resident);
        report(ANONYMOUS, |memory| memory.anonymous);
        report("of it files (RssFile)", |memory| memory.file);
        report("peak (VmHWM)", |memory| memory.peak);
        points.extend(taken.iter().map(|memory| (f64::from(apps), memory.resident)));
    }
    if let Some(slope) = slope(&points) {
        results.push(Row::new(
            PART,
            "resident, for each further app",
            "operator",
            Unit::Bytes,
            Summary { runs: points.len(), ..Summary::of(&[slope]) },
        ));
    }
    Ok(())
}
