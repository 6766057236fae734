//! A reading of an app: its state as the server returned it.
//!
//! `status` is not the run state; `currentResourceMetrics.online` is (see `camposcloud::wire`, where the wire becomes
//! one `Observed`). Telemetry lags behind a stop or a start, so a reading that is older than the last call proves
//! nothing.

use jiff::Timestamp;

use super::redacted::Redacted;
use super::state::Observed;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub observed: Observed,
    /// The server's `status` word, for the log only.
    pub status: Option<Redacted>,
    /// The server's `online` flag, for the log only.
    pub online: Option<bool>,
    /// Time of the metrics, by the server's clock; absent with null metrics.
    pub taken_at: Option<Timestamp>,
    /// Start of the app, by the server's clock: `startedAt`, otherwise the time of the metrics less `uptime`.
    pub running_since: Option<Timestamp>,
    /// The server's `restartRequired`.
    pub restart_required: Option<bool>,
}

impl Reading {
    /// A reading with only a state.
    pub const fn new(observed: Observed) -> Self {
        Self { observed, status: None, online: None, taken_at: None, running_since: None, restart_required: None }
    }
}
