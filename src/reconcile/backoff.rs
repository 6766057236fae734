//! How long to wait after the n-th failure in a row? Exponential growth to a cap, full jitter from a seed.
//!
//! The growth and the cap are the `backoff` crate's policy. Its own dice are loaded to always show the middle
//! (`randomization_factor` 0) and its clock is never asked (`max_elapsed_time` none: nothing ever gives up), so what
//! comes out is a pure function of the failure's number; the jitter is added here, from a seed that is handed in.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;

/// However small the dice fall, no two tries are nearer than this: "full jitter" alone would allow none at all.
const LEAST: Duration = Duration::from_millis(100);

/// An exponential schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The ceiling of the first delay.
    pub first: Duration,
    /// The ceiling that all later ones stay below.
    pub cap: Duration,
}

/// Retries of one app: 1 s x 2, at most 5 min.
pub const PER_APP: Schedule = Schedule { first: Duration::from_secs(1), cap: Duration::from_mins(5) };
/// Looks that verify a call: 2, 4, 8, ... s, then each half minute.
pub const LOOKS: Schedule = Schedule { first: Duration::from_secs(2), cap: Duration::from_secs(30) };
/// Probes of a server that does not answer: 1 s x 2, at most each half minute, so that recovery is noticed soon.
pub const PROBES: Schedule = Schedule { first: Duration::from_secs(1), cap: Duration::from_secs(30) };
/// Probes of a token that was not accepted: slow, since an account that keeps knocking gets suspended.
pub const TOKEN_PROBES: Schedule = Schedule { first: Duration::from_secs(10), cap: Duration::from_mins(5) };

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
        // 2^32 times anything is beyond every cap: no need to go further.
        for _ in 1..failures.min(32) {
            policy.next_backoff();
        }
        policy.current_interval
    }

    /// The wait after the `failures`-th failure in a row: anything up to the ceiling, the same for the same salt.
    pub fn jittered(self, failures: u32, salt: u64) -> Duration {
        let ceiling = self.ceiling(failures);
        ceiling.mul_f64(dice(salt ^ u64::from(failures).wrapping_mul(0x9e37_79b9_7f4a_7c15))).max(LEAST)
    }
}

/// A number from 0 to 1 out of a seed (splitmix64).
fn dice(seed: u64) -> f64 {
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
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(PER_APP.ceiling(u32::MAX), PER_APP.cap);
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
        let early = waits.iter().filter(|wait| **wait < Duration::from_secs(150)).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }
}
