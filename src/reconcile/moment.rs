//! Time since the process started: the time of decisions.
//!
//! A `Moment` can be written down in a test and printed in a snapshot; `Instant` allows neither. It never goes
//! backwards, so no decision depends on the wall clock. Wall time (`jiff::Timestamp`) is for times of the
//! server and of people: reading timestamps, condition times, `suspend.until`.

use std::fmt;
use std::num::NonZero;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Time since start: monotonic, printable, writable in a test.
///
/// In nanoseconds, plus one, so that an `Option<Moment>` takes 8 bytes instead of 16: there are about 15 of them for each
/// app. The last moment is 584 years after the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(NonZero<u64>);

impl Moment {
    pub const START: Self = Self(NonZero::<u64>::MIN);

    pub const fn from_secs(seconds: u64) -> Self {
        Self(NonZero::<u64>::MIN.saturating_add(seconds.saturating_mul(1_000_000_000)))
    }

    pub fn after_start(since_start: Duration) -> Self {
        Self::START + since_start
    }

    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }

    /// Time from `earlier` to this; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self::START
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(later)))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, earlier: Duration) -> Self {
        Self::after_start(self.since_start().saturating_sub(earlier))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Moment({:?})", self.since_start())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t+{:.3}s", self.since_start().as_secs_f64())
    }
}

/// A duration of at most two units, for display: `2 min 30 s`.
pub fn human_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let mut words = Vec::new();
    for (size, unit) in units.iter().skip(first).take(2) {
        if rest >= *size || words.is_empty() {
            words.push(format!("{} {unit}", rest / size));
        }
        rest %= size;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_neither_overflow_nor_go_before_the_start() {
        let (second, forever) = (Duration::from_secs(1), Duration::MAX);
        assert_eq!(Moment::from_secs(3).since(Moment::from_secs(1)), 2 * second);
        assert_eq!(Moment::from_secs(1).since(Moment::from_secs(3)), Duration::ZERO);
        assert_eq!((Moment::START - second, Moment::from_secs(3) - second), (Moment::START, Moment::from_secs(2)));
        assert_eq!(Moment::START + forever, Moment::from_secs(u64::MAX) + second);
        assert_eq!((Moment::START + second).since_start(), second);
        assert_eq!(format!("{:?} {}", Moment::from_secs(2), Moment::from_secs(2)), "Moment(2s) t+2.000s");
    }

    #[test]
    fn durations_in_words() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (150, "2 min 30 s"),
            (3600, "1 h"),
            (5000, "1 h 23 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), words);
        }
    }
}
