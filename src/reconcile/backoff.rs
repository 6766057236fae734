//! Backoff: the wait after the n-th failure in a row. It grows to a cap, with full jitter from a seed.
//!
//! The growth and the cap are the `backoff` crate's policy, without its randomness (`randomization_factor` 0) and its
//! clock (`max_elapsed_time` none: retries never end). So the wait is a pure function of the number and the seed.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;

/// Shortest wait: full jitter alone would allow none at all.
const LEAST: Duration = Duration::from_millis(100);

/// An exponential schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The ceiling of the first delay.
    pub first: Duration,
    /// Maximum of all ceilings.
    pub cap: Duration,
}

/// Wait that is always allowed. A longer wait is at most the duration of the failures so far, so that a short outage
/// causes a short wait.
const SHORT_TROUBLE: Duration = Duration::from_secs(5);
/// Maximum pause for `Retry-After` or `X-RateLimit-Reset`. A header with a week is an error of the server, and would
/// stop the operator for that time.
pub const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Retries of one app, and pauses of the account: 1 s x 2, at most 1 min.
pub const PER_APP: Schedule = Schedule { first: Duration::from_secs(1), cap: Duration::from_mins(1) };
/// Retries of an app on which accepted calls have no effect, or which leaves its desired state repeatedly: 1 s x 2, at
/// most 5 min.
pub const WITHOUT_EFFECT: Schedule = Schedule { first: Duration::from_secs(1), cap: Duration::from_mins(5) };
/// Single reads that verify a call: 2, 4, 8, ... s, then each half minute.
pub const SINGLE_READS: Schedule = Schedule { first: Duration::from_secs(2), cap: Duration::from_secs(30) };
/// Probes of a server that does not answer: 1 s x 2, at most each half minute, so that recovery is noticed soon.
pub const PROBES: Schedule = Schedule { first: Duration::from_secs(1), cap: Duration::from_secs(30) };
/// Probes of a refused account: slow, because an account that retries often gets suspended.
pub const ACCOUNT_PROBES: Schedule = Schedule { first: Duration::from_secs(10), cap: Duration::from_secs(30) };

impl Schedule {
    /// The longest wait after the `failures`-th failure in a row (1 is the first).
    pub fn ceiling(self, failures: u32) -> Duration {
        let mut policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_multiplier(2.0)
            .with_max_interval(self.cap)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        // 2^32 times the first delay is beyond every cap.
        for _ in 1..failures.min(32) {
            policy.next_backoff();
        }
        policy.current_interval
    }

    /// The wait after the `failures`-th failure in a row: anything up to the ceiling, the same for the same salt.
    pub fn jittered(self, failures: u32, salt: u64) -> Duration {
        let ceiling = self.ceiling(failures);
        ceiling.mul_f64(fraction(salt ^ u64::from(failures).wrapping_mul(0x9e37_79b9_7f4a_7c15))).max(LEAST)
    }

    /// The jittered wait after the `failures`-th failure in a row, when the failures have lasted for `failing`.
    pub fn wait(self, failures: u32, salt: u64, failing: Duration) -> Duration {
        proportionate(self.jittered(failures, salt), failing)
    }

    /// The wait of probes and pauses: half fixed, half jittered, so that two daemons do not send theirs together.
    pub fn steady_wait(self, failures: u32, salt: u64, failing: Duration) -> Duration {
        proportionate(self.ceiling(failures) / 2 + self.jittered(failures, salt) / 2, failing)
    }
}

/// Limits a wait to the duration of the failures.
pub fn proportionate(wait: Duration, failing: Duration) -> Duration {
    wait.min(failing.max(SHORT_TROUBLE))
}

/// A number from 0 to 1 out of a seed (splitmix64).
fn fraction(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    f64::from(u32::try_from(z >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_doubles_up_to_the_cap() {
        let seconds: Vec<u64> = (1..=11).map(|n| PER_APP.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
        assert_eq!(PER_APP.ceiling(u32::MAX), PER_APP.cap);
        let seconds: Vec<u64> = (1..=11).map(|n| WITHOUT_EFFECT.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_wait_is_not_longer_than_the_failures_but_5_seconds_are_always_allowed() {
        let s = Duration::from_secs;
        for (wait, failing, bounded) in [(3, 0, 3), (60, 0, 5), (60, 5, 5), (60, 44, 44), (60, 100, 60)] {
            assert_eq!(proportionate(s(wait), s(failing)), s(bounded), "{wait} {failing}");
        }
        for salt in 0..100 {
            assert!(PER_APP.wait(20, salt, s(7)) <= s(7));
            assert!(PER_APP.steady_wait(20, salt, s(40)) >= s(30), "half of it is fixed");
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_below_the_ceiling_and_repeats(failures in 1..u32::MAX, salt: u64) {
            let wait = PER_APP.jittered(failures, salt);
            prop_assert!(wait >= LEAST && wait <= PER_APP.ceiling(failures));
            prop_assert_eq!(wait, PER_APP.jittered(failures, salt));
        }
    }

    #[test]
    fn jitter_spreads() {
        let waits: Vec<Duration> = (0..1000).map(|salt| PER_APP.jittered(10, salt)).collect();
        let early = waits.iter().filter(|wait| **wait < PER_APP.cap / 2).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }
}
