//! The growth of each cost with the number of apps, and the effect of the account's limit.
//!
//! Nothing is measured here: the figures of the other parts are fitted, and the limit is arithmetic.

use std::time::Duration;

use campos_operator::budget::{Budget, DEFAULT_BUDGET, RateLimiter};

use crate::results::{Results, Row, Unit};
use crate::stats::{Summary, exponent};
use crate::{Part, Plan, cold, idle, memory, requests};

const PART: &str = "growth";

/// The default interval between lists.
const INTERVAL: Duration = Duration::from_secs(60);
const ACCOUNTS: [u32; 3] = [1, 10, 100];
/// The operator reads at most this number of pages.
const MOST_OF_ONE_ACCOUNT: u32 = 100_000;
const FLEETS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let costs = [
        (cold::WHOLE_PLAN, Part::Cold),
        (memory::RESIDENT, Part::Memory),
        (idle::CPU, Part::Idle),
        (requests::RESYNC, Part::Requests),
    ];
    for (measure, part) in costs {
        if results.by_size(measure, "operator").is_empty() {
            part.run(plan, results)?;
        }
        let costs = results.by_size(measure, "operator");
        let points: Vec<(f64, f64)> = costs.iter().map(|(apps, cost)| (f64::from(*apps), cost.value)).collect();
        // Fixed costs flatten the curve; its end shows the growth.
        for (name, points) in [("all sizes", &points[..]), ("two largest", &points[points.len().saturating_sub(2)..])] {
            if let Some(exponent) = exponent(points) {
                results.push(Row::new(
                    PART,
                    format!("{measure}, exponent"),
                    name,
                    Unit::Exponent,
                    Summary { runs: points.len(), ..Summary::of(&[exponent]) },
                ));
            }
        }
    }
    for accounts in ACCOUNTS {
        for apps in FLEETS.into_iter().filter(|apps| apps / accounts <= MOST_OF_ONE_ACCOUNT) {
            account_limit(apps, accounts, results);
        }
    }
    Ok(())
}

/// The effect of the default budget: the interval between lists, and the time to stop all apps.
fn account_limit(apps: u32, accounts: u32, results: &mut Results) {
    let limiter = RateLimiter::new(Budget::PerMinute(DEFAULT_BUDGET), 0);
    let each = apps.div_ceil(accounts);
    let pages = each.div_ceil(100);
    let interval = limiter.list_interval(pages, INTERVAL).as_secs_f64();
    let stops = f64::from(each + pages) / f64::from(DEFAULT_BUDGET) * 60.0;
    let subject = if accounts == 1 { "1 account".to_owned() } else { format!("{accounts} accounts") };
    for (measure, seconds) in [("time between lists", interval), ("stop all and verify", stops)] {
        results.push(Row::new(PART, measure, &*subject, Unit::Seconds, Summary::of(&[seconds])).with_apps(apps));
    }
}
