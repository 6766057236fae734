//! Detects that scans of the manifests have stopped: while a file system is blocked, the source cannot report it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::reconcile::moment::Moment;

/// Missed scans after which the source is unavailable.
const MISSED: u32 = 3;
/// Minimum time without a scan.
const AT_LEAST: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Scans {
    finished: Arc<AtomicU64>,
    limit: Duration,
    /// Last count.
    count: u64,
    /// Time since the count changed.
    silent: Duration,
    checked: Moment,
}

impl Scans {
    /// `finished` counts the scans, one for each `interval`.
    pub(super) fn new(finished: Arc<AtomicU64>, interval: Duration) -> Self {
        let limit = interval.saturating_mul(MISSED).max(AT_LEAST);
        Self { finished, limit, count: 0, silent: Duration::ZERO, checked: Moment::START }
    }

    /// Reads the count. Returns the time without a finished scan, if that is too long.
    ///
    /// A suspended process misses scans, too. So at most `step` of the time since the last check counts.
    pub(super) fn stalled(&mut self, now: Moment, step: Duration) -> Option<Duration> {
        let count = self.finished.load(Ordering::Relaxed);
        let passed = now.since(std::mem::replace(&mut self.checked, now)).min(step);
        self.silent = if count == self.count { self.silent + passed } else { Duration::ZERO };
        self.count = count;
        (self.silent >= self.limit).then_some(self.silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_source_that_finishes_no_scan_is_stalled_until_it_does() {
        let finished = Arc::new(AtomicU64::new(0));
        let mut scans = Scans::new(finished.clone(), Duration::from_secs(2));
        finished.store(1, Ordering::Relaxed);
        for seconds in [1, 10, 20, 30] {
            assert_eq!(scans.stalled(at(seconds), STEP), None, "{seconds}");
        }
        assert_eq!(scans.stalled(at(31), STEP), Some(Duration::from_secs(30)));
        finished.store(2, Ordering::Relaxed);
        assert_eq!(scans.stalled(at(32), STEP), None);
    }

    #[test]
    fn a_long_scan_interval_is_waited_for_three_times() {
        let mut scans = Scans::new(Arc::default(), Duration::from_secs(60));
        let stalled: Vec<u64> = (1..=200).filter(|at_| scans.stalled(at(*at_), STEP).is_some()).collect();
        assert_eq!(stalled.first(), Some(&180));
    }

    #[test]
    fn time_in_which_the_process_was_frozen_does_not_count() {
        let mut scans = Scans::new(Arc::default(), STEP);
        assert_eq!(scans.stalled(at(5), STEP), None);
        assert_eq!(scans.stalled(at(3600), STEP), None);
    }
}
