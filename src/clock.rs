//! What time is it? The only place that reads a clock.
//!
//! `Moment`s come from tokio's clock, so that a paused runtime makes them virtual; the wall time is the system's, or in
//! a simulation the virtual clock's offset from a fixed date.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::reconcile::moment::Moment;

/// The operator's two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// In a simulation: the wall time at `start`.
    simulated: Option<Timestamp>,
    /// In a simulation: by how many seconds somebody has set the wall clock forward.
    set_forward: Option<&'static AtomicI64>,
}

impl Clock {
    /// The machine's clocks; `START` is now. Needs no runtime.
    pub fn system() -> Self {
        Self { start: Instant::now(), simulated: None, set_forward: None }
    }

    /// A wall clock that begins at `wall` and runs as tokio's clock does.
    pub fn simulated(wall: Timestamp) -> Self {
        Self { start: Instant::now(), simulated: Some(wall), set_forward: None }
    }

    /// The same clock, whose wall time is ahead by so many seconds, which may change: somebody sets it.
    #[must_use]
    pub fn set_forward_by(self, seconds: &'static AtomicI64) -> Self {
        Self { set_forward: Some(seconds), ..self }
    }

    /// Time since start.
    pub fn now(&self) -> Moment {
        Moment::after_start(self.start.elapsed())
    }

    /// The wall time.
    pub fn wall(&self) -> Timestamp {
        let wall = match self.simulated {
            Some(wall) => wall + self.start.elapsed(),
            None => Self::wall_now(),
        };
        let ahead = self.set_forward.map_or(0, |seconds| seconds.load(Ordering::Relaxed));
        wall + SignedDuration::from_secs(ahead)
    }

    /// The machine's wall time, for whatever only stamps what it writes.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn wall_now() -> Timestamp {
        Timestamp::now()
    }

    /// The tokio instant of a moment, to sleep until.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since_start()
    }
}

/// For deadlines.
#[expect(clippy::disallowed_methods, reason = "the source has a thread and a pace of its own; no decision takes this")]
pub(crate) fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

/// For telling since when something is so.
pub(crate) fn timestamp() -> Timestamp {
    // A clock beyond the year 9999 tells nothing better.
    Timestamp::try_from(system_time()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For comparing with a file's modification time, which only the wall clock can be.
#[expect(
    clippy::disallowed_methods,
    reason = "modification times are wall time; an odd clock costs a second look, no more"
)]
pub(crate) fn system_time() -> std::time::SystemTime {
    std::time::SystemTime::now()
}
