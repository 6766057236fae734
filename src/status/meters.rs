//! What is counted and timed while the operator works? Counters and histograms, recorded by whoever does the work.
//!
//! Everything that can be told from the board instead is computed from it when somebody scrapes (`http::metrics`), so
//! that the series of a removed app vanish by themselves. Label values are names of enums, never free text; recording
//! is an atomic or two, so that the loop does not notice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// One closed label.
type One = [(&'static str, &'static str); 1];
/// Two of them.
type Two = [(&'static str, &'static str); 2];
type Timed = Family<One, Histogram, fn() -> Histogram>;

/// The kind of a request to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// A page of the list.
    List,
    /// One app.
    Get,
    /// Stop.
    Stop,
    /// Start.
    Start,
    /// A check of the token.
    Me,
}

impl Endpoint {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Get => "get",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Me => "me",
        }
    }
}

/// The meters. Cheap to record, read by a scrape.
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
            // From a hundredth of a second to the minutes that a bulk of edits waits for its budget.
            edit_to_action: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            workqueue_depth: Gauge::default(),
            scanned: OnceLock::new(),
        }
    }
}

impl Meters {
    /// A stop or start was answered.
    pub fn acted(&self, action: &'static str, result: &'static str) {
        self.actions.get_or_create(&[("action", action), ("result", result)]).inc();
    }

    /// A decision was made.
    pub fn decided(&self, result: &'static str) {
        self.reconcile.get_or_create(&[("result", result)]).inc();
    }

    /// A pass over the apps that were due took so long.
    pub fn passed(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// An app was found to differ from what is asked.
    pub fn drifted(&self) {
        self.drift.inc();
    }

    /// A request to the platform was answered, or not.
    pub fn requested(&self, endpoint: Endpoint, code: &'static str, took: Duration) {
        self.api_requests.get_or_create(&[("endpoint", endpoint.as_str()), ("code", code)]).inc();
        self.api_request_duration.get_or_create(&[("endpoint", endpoint.as_str())]).observe(took.as_secs_f64());
    }

    /// A request waited so long for its turn.
    pub fn waited(&self, lane: &'static str, wait: Duration) {
        self.api_wait.get_or_create(&[("lane", lane)]).observe(wait.as_secs_f64());
    }

    /// The first call after an edit went out so long after the edit was seen.
    pub fn edit_acted_on(&self, after: Duration) {
        self.edit_to_action.observe(after.as_secs_f64());
    }

    /// So many calls wait to be sent.
    pub fn queued(&self, waiting: usize) {
        self.workqueue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Where the source of manifests tells when it scanned them last, in milliseconds since the epoch.
    pub fn follow_scans(&self, scanned: Arc<AtomicU64>) {
        // There is one source in a process; a second one would be a test's.
        let _ = self.scanned.set(scanned);
    }

    /// When the manifests were scanned last, in seconds since the epoch.
    pub fn scanned_at(&self) -> Option<f64> {
        let millis = self.scanned.get()?.load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis).as_secs_f64())
    }

    /// Puts every meter into `registry`, for one scrape.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("actions", "Stops and starts that were answered, by result", self.actions.clone());
        registry.register("reconcile", "Decisions made, by kind", self.reconcile.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "How long it took to decide for the apps that were due at once",
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register("drift", "Times that an app was found to differ from what is asked", self.drift.clone());
        registry.register(
            "api_requests",
            "Requests to CamposCloud; the code is the HTTP status, or none where no answer came",
            self.api_requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "How long requests to CamposCloud took",
            Unit::Seconds,
            self.api_request_duration.clone(),
        );
        registry.register_with_unit(
            "api_wait",
            "How long requests waited for their turn within the budget",
            Unit::Seconds,
            self.api_wait.clone(),
        );
        registry.register_with_unit(
            "edit_to_action",
            "From seeing that a manifest's spec changed to sending the call that it asks for",
            Unit::Seconds,
            self.edit_to_action.clone(),
        );
        registry.register("workqueue_depth", "Stops and starts that wait to be sent", self.workqueue_depth.clone());
    }
}

/// The label of an HTTP status. A server may send any three digits; what nobody documents is told by its class.
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
