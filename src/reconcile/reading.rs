//! The last reading of an app.
//!
//! `status` is not the run state; `currentResourceMetrics.online` is (see `camposcloud::wire`, where the wire becomes
//! one `Observed`). Telemetry lags behind a stop or a start, so a reading that is older than our own call proves nothing.

use jiff::Timestamp;

use super::redacted::Redacted;
use super::state::Observed;

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
