//! The time of a burst: many edits in one tight loop, from before the first edit to the arrival of the last call.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::time::Instant;

use anyhow::Context as _;

use crate::Plan;
use crate::fleet::Way;
use crate::latency::{Lane, Samples};
use crate::results::Results;

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    for &apps in &plan.sizes {
        let mut lanes = [Lane::floor(apps)?, Lane::operator(apps)?, Lane::tutorial(apps)?];
        let mut samples = Samples::default();
        let count = plan.bulk.min(apps);
        for _ in 0..plan.runs {
            for lane in &mut lanes {
                let took = lane.block(count, |lane| {
                    let edits = lane.prepare_many(Way::Rename, count)?;
                    let started = Instant::now();
                    for (_, edit) in edits {
                        edit.make()?;
                    }
                    let calls = lane.calls(count as usize)?;
                    let last = calls.iter().map(|call| call.at).max().context("calls came")?;
                    Ok(last.duration_since(started).as_secs_f64())
                })?;
                samples.add(&lane.name, vec![took]);
            }
        }
        samples.report_medians("burst", &format!("{count} renames to the last call"), apps, results);
    }
    Ok(())
}
