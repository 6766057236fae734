//! `/api/v1/forecast`: the stops and starts of the next 24 hours, by the same function as the command `forecast`.

use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::Value;

use crate::reconcile::desired::Policy;
use crate::reconcile::forecast::{Subject, forecast};
use crate::status::Board;
use crate::status::forecast::json;

const LENGTH: SignedDuration = SignedDuration::from_hours(24);

/// The forecast from the minute of `wall`.
pub(super) fn next_day(board: &Board, wall: Timestamp) -> Value {
    let (apps, daemon) = (board.apps(), board.daemon());
    let subjects = apps.iter().filter_map(|app| app.declared.spec()).map(|spec| Subject { spec, memory_mb: None });
    let policies = [Policy::ObserveOnly, Policy::StopOnly, Policy::Full];
    let policy = policies.into_iter().find(|policy| policy.as_str() == daemon.policy).unwrap_or(Policy::Full);
    let from = wall.round(Unit::Minute).unwrap_or(wall);
    let to = from.saturating_add(LENGTH).unwrap_or(Timestamp::MAX);
    json(&forecast(subjects, policy, (from, to), daemon.governor.requests_per_minute))
}
