//! What time is it, for waiting and for judging how fresh a file is? The one place of this room that asks.
//!
//! Both only decide when to look again. No wish about an app depends on them.

use std::time::{Instant, SystemTime};

use jiff::Timestamp;

/// For deadlines.
#[expect(clippy::disallowed_methods, reason = "the source has a thread and a pace of its own; no decision takes this")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// For telling since when something is so.
pub(super) fn timestamp() -> Timestamp {
    // A clock beyond the year 9999 tells nothing better.
    Timestamp::try_from(wall()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For comparing with a file's modification time, which only the wall clock can be.
#[expect(
    clippy::disallowed_methods,
    reason = "modification times are wall time; an odd clock costs a second look, no more"
)]
pub(super) fn wall() -> SystemTime {
    SystemTime::now()
}
