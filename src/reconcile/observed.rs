//! What did the platform last say of an app, and how far is that to be trusted?
//!
//! `status` is not the run state; `currentResourceMetrics.online` is (see `camposcloud::wire`, where the wire becomes
//! one `Observed`). Telemetry lags behind a stop or a start, so a reading that is older than our own call proves nothing.

use std::fmt;

use jiff::Timestamp;

use super::redacted::Redacted;

/// The state of an app as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Observed {
    /// Online.
    Running,
    /// Not online.
    Stopped,
    /// Still being created.
    Creating,
    /// Suspended by the platform.
    Suspended,
    /// The platform answered 404 on a direct read. Never just absent from a list.
    Missing,
    /// Not known: not read yet, unreadable, an unknown word without `online`, or stale.
    Unknown,
}

impl Observed {
    /// Every state, in the order of the design's table.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Stopped, Self::Creating, Self::Suspended, Self::Missing, Self::Unknown];

    /// The word used in status, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Stopped => "Stopped",
            Self::Creating => "Creating",
            Self::Suspended => "Suspended",
            Self::Missing => "Missing",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One reading of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it says.
    pub observed: Observed,
    /// The server's `status` word, for the log only.
    pub status: Option<Redacted>,
    /// The server's `online` flag, for the log only.
    pub online: Option<bool>,
    /// When the metrics were taken, by the server's clock; absent with null metrics.
    pub taken_at: Option<Timestamp>,
}
