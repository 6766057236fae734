//! Counters and histograms, recorded where the work is done.
//!
//! Values that follow from the board are computed from it at each scrape instead (`http::metrics`), so that the series
//! of a removed app disappear. Label values are names of enums, never free text. Recording costs one or two atomics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::reconcile::moment::Moment;

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];
type Timed = Family<One, Histogram, fn() -> Histogram>;

/// Kind of a request to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    List,
    Get,
    Stop,
    Start,
    Restart,
    /// `/v1/users/@me`, which checks the token.
    Me,
}

impl Endpoint {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Get => "get",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Me => "me",
        }
    }
}

#[derive(Debug)]
pub struct Meters {
    actions: Family<Two, Counter>,
    reconcile: Family<One, Counter>,
    reconcile_duration: Histogram,
    drift: Counter,
    api_requests: Family<Two, Counter>,
    api_request_duration: Timed,
    api_wait: Timed,
    edit_to_action: Histogram,
    workqueue_depth: Gauge,
    notifications: Family<Two, Counter>,
    /// Requests of the last minute: the second of each slot, and their number.
    last_minute: Mutex<[(u64, u32); 60]>,
    /// Milliseconds since the epoch; 0 before the first scan. Written by the source of manifests.
    scanned: OnceLock<Arc<AtomicU64>>,
}

impl Default for Meters {
    fn default() -> Self {
        let requests: fn() -> Histogram = || Histogram::new(exponential_buckets(0.01, 2.0, 13));
        let waits: fn() -> Histogram = || Histogram::new(exponential_buckets(0.01, 4.0, 10));
        Self {
            actions: Family::default(),
            reconcile: Family::default(),
            // A pass costs microseconds for one app and tens of milliseconds for ten thousand.
            reconcile_duration: Histogram::new(exponential_buckets(0.000_05, 4.0, 9)),
            drift: Counter::default(),
            api_requests: Family::default(),
            api_request_duration: Family::new_with_constructor(requests),
            api_wait: Family::new_with_constructor(waits),
            // From 10 ms to the minutes that a bulk of edits waits for its budget.
            edit_to_action: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            workqueue_depth: Gauge::default(),
            notifications: Family::default(),
            last_minute: Mutex::new([(0, 0); 60]),
            scanned: OnceLock::new(),
        }
    }
}

impl Meters {
    /// Counts an answered stop, start or restart.
    pub fn acted(&self, action: &'static str, result: &'static str) {
        self.actions.get_or_create(&[("action", action), ("result", result)]).inc();
    }

    /// Counts a decision.
    pub fn decided(&self, result: &'static str) {
        self.reconcile.get_or_create(&[("result", result)]).inc();
    }

    /// Records the duration of one pass.
    pub fn passed(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a drift.
    pub fn drifted(&self) {
        self.drift.inc();
    }

    /// Records a request to the platform, answered or not.
    pub fn requested(&self, endpoint: Endpoint, code: &'static str, took: Duration) {
        self.api_requests.get_or_create(&[("endpoint", endpoint.as_str()), ("code", code)]).inc();
        self.api_request_duration.get_or_create(&[("endpoint", endpoint.as_str())]).observe(took.as_secs_f64());
    }

    /// Counts requests that were sent.
    pub fn sent(&self, requests: u32, now: Moment) {
        let second = now.since_start().as_secs();
        let mut slots = self.last_minute.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[usize::try_from(second % 60).unwrap_or_default()];
        *slot = if slot.0 == second { (second, slot.1 + requests) } else { (second, requests) };
    }

    /// Number of requests in the last minute.
    pub fn sent_last_minute(&self, now: Moment) -> u32 {
        let second = now.since_start().as_secs();
        let slots = self.last_minute.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().filter(|(at, _)| *at + 60 > second).map(|(_, requests)| requests).sum()
    }

    /// Records the wait of a request for the rate limiter.
    pub fn waited(&self, lane: &'static str, wait: Duration) {
        self.api_wait.get_or_create(&[("lane", lane)]).observe(wait.as_secs_f64());
    }

    /// Records the time from an edit to its first call.
    pub fn edit_acted_on(&self, after: Duration) {
        self.edit_to_action.observe(after.as_secs_f64());
    }

    /// Counts a notification that was delivered, or not.
    pub fn notified(&self, service: &'static str, result: &'static str) {
        self.notifications.get_or_create(&[("service", service), ("result", result)]).inc();
    }

    /// Sets the number of calls that wait to be sent.
    pub fn queued(&self, waiting: usize) {
        self.workqueue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Registers the time of the last scan, which the source of manifests updates, in milliseconds since the epoch.
    pub fn follow_scans(&self, scanned: Arc<AtomicU64>) {
        // A process has one source; only tests have more.
        let _ = self.scanned.set(scanned);
    }

    /// Time of the last scan in seconds since the epoch.
    pub fn scanned_at(&self) -> Option<f64> {
        let millis = self.scanned.get()?.load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis).as_secs_f64())
    }

    /// Registers every meter for one scrape.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("actions", "Calls that were answered, by action and result", self.actions.clone());
        registry.register("reconcile", "Decisions made, by kind", self.reconcile.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time to decide for the apps of one pass",
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register(
            "drift",
            "Times that an app was observed in another state than desired, without an edit",
            self.drift.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to CamposCloud; the code is the HTTP status, or none without an answer",
            self.api_requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "Duration of requests to CamposCloud",
            Unit::Seconds,
            self.api_request_duration.clone(),
        );
        registry.register_with_unit(
            "api_wait",
            "Time that requests waited for the budget",
            Unit::Seconds,
            self.api_wait.clone(),
        );
        registry.register_with_unit(
            "edit_to_action",
            "Time from reading a changed spec to sending its call",
            Unit::Seconds,
            self.edit_to_action.clone(),
        );
        registry.register("notifications", "Notifications, by service and result", self.notifications.clone());
        registry.register("workqueue_depth", "Calls that wait to be sent", self.workqueue_depth.clone());
    }
}

/// Label of an HTTP status; an undocumented one has the label of its class.
pub const fn code(http_status: Option<u16>) -> &'static str {
    match http_status {
        None => "none",
        Some(200) => "200",
        Some(201) => "201",
        Some(202) => "202",
        Some(204) => "204",
        Some(400) => "400",
        Some(401) => "401",
        Some(403) => "403",
        Some(404) => "404",
        Some(408) => "408",
        Some(409) => "409",
        Some(422) => "422",
        Some(429) => "429",
        Some(500) => "500",
        Some(502) => "502",
        Some(503) => "503",
        Some(504) => "504",
        Some(0..300) => "2xx",
        Some(300..400) => "3xx",
        Some(400..500) => "4xx",
        Some(_) => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_for_one_minute() {
        let (meters, at) = (Meters::default(), Moment::from_secs);
        assert_eq!(meters.sent_last_minute(at(0)), 0);
        meters.sent(2, at(0));
        meters.sent(1, at(0));
        meters.sent(4, at(30));
        assert_eq!(meters.sent_last_minute(at(30)), 7);
        assert_eq!(meters.sent_last_minute(at(59)), 7);
        assert_eq!(meters.sent_last_minute(at(60)), 4);
        meters.sent(1, at(60));
        assert_eq!(meters.sent_last_minute(at(61)), 5);
        assert_eq!(meters.sent_last_minute(at(500)), 0);
    }
}
