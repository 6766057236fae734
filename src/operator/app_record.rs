//! One app of the platform: its newest reading, and the calls made on it. No object is needed for it.

use crate::reconcile::app::AppName;
use crate::reconcile::attempts::{Attempts, TimedReading};
use crate::reconcile::state::Observed;

#[derive(Debug, Clone)]
pub struct AppRecord {
    pub timed_reading: Option<TimedReading>,
    /// The object that declares it. An app in conflict has none.
    pub owner: Option<AppName>,
    /// Whether the list shows it; otherwise only a single read does.
    pub listed: bool,
    pub past: Attempts,
}

impl AppRecord {
    /// The salt spreads its backoff.
    pub fn new(salt: u64) -> Self {
        Self { timed_reading: None, owner: None, listed: false, past: Attempts::new(salt) }
    }

    /// State of the newest reading, or Unknown if it cannot be trusted.
    pub fn observed(&self) -> Observed {
        self.past.trusted(self.timed_reading.as_ref())
    }

    /// True if the newest reading has no running state.
    pub fn is_unreadable(&self) -> bool {
        self.timed_reading.as_ref().is_some_and(|timed_reading| timed_reading.reading.observed == Observed::Unknown)
    }
}
