//! Wall and monotonic time. No other module reads a clock.
//!
//! `Moment`s come from tokio's clock, so that a paused runtime makes them virtual; the wall time is that of the system,
//! or in a simulation a fixed date plus the virtual time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::reconcile::moment::Moment;

/// The operator's two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// The time since boot at `start`.
    booted: Option<Duration>,
    /// In a simulation: the wall time at `start`.
    simulated: Option<Timestamp>,
    /// In a simulation: seconds by which the wall clock was set forward.
    set_forward: Option<&'static AtomicI64>,
}

impl Clock {
    /// The machine's clocks; `START` is now. Needs no runtime.
    pub fn system() -> Self {
        Self { start: Instant::now(), booted: boottime(), simulated: None, set_forward: None }
    }

    /// A wall clock that begins at `wall` and runs as tokio's clock does.
    pub fn simulated(wall: Timestamp) -> Self {
        Self { start: Instant::now(), booted: None, simulated: Some(wall), set_forward: None }
    }

    /// Sets the wall time ahead by a number of seconds that may change.
    #[must_use]
    pub fn set_forward_by(self, seconds: &'static AtomicI64) -> Self {
        Self { set_forward: Some(seconds), ..self }
    }

    pub fn now(&self) -> Moment {
        Moment::after_start(self.start.elapsed())
    }

    /// Like [`now`](Self::now), but on the clocks of the machine this time counts suspend time, because leases end
    /// then.
    pub fn with_sleep(&self) -> Moment {
        let (Some(origin), None) = (self.booted, self.simulated) else { return self.now() };
        boottime().map_or_else(|| self.now(), |now| Moment::after_start(now.saturating_sub(origin)))
    }

    pub fn wall(&self) -> Timestamp {
        let wall = match self.simulated {
            Some(wall) => wall + self.start.elapsed(),
            None => Self::wall_now(),
        };
        let ahead = self.set_forward.map_or(0, |seconds| seconds.load(Ordering::Relaxed));
        wall + SignedDuration::from_secs(ahead)
    }

    /// The machine's wall time, for timestamps that no decision reads.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn wall_now() -> Timestamp {
        Timestamp::now()
    }

    /// The tokio instant of a moment, to sleep until.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since_start()
    }
}

/// Time since boot, with the time that the machine slept.
fn boottime() -> Option<Duration> {
    Duration::try_from(clock_gettime(ClockId::Boottime)).ok()
}

#[expect(clippy::disallowed_methods, reason = "deadlines of the source's own thread; no decision reads this")]
pub(crate) fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

pub(crate) fn timestamp() -> Timestamp {
    // The clock may be beyond the year 9999.
    Timestamp::try_from(system_time()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For comparison with modification times of files.
#[expect(clippy::disallowed_methods, reason = "modification times are wall time; a wrong clock costs one more read")]
pub(crate) fn system_time() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
