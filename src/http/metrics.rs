//! `/metrics`, in the OpenMetrics text format. What the board can tell is computed at each scrape, on this port's thread.
//!
//! Closed label sets: an enum's name, never free text; only `app` and `app_id` name things, and theirs vanish with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::reconcile::condition::Reason;
use crate::reconcile::desired::Standing;
use crate::status::app::App;
use crate::status::history::Health;
use crate::status::{Board, Daemon};
use crate::telemetry;

/// The content type of what [`scrape`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that can be measured, as text.
pub fn scrape(board: &Board) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("campos_operator");
    board.meters().register(&mut registry);
    registry.register_collector(Box::new(Snapshot {
        apps: board.apps(),
        daemon: board.daemon(),
        history: board.history_health(),
        scanned_at: board.meters().scanned_at(),
        log_lines_lost: telemetry::lines_lost(),
    }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The board at one moment.
#[derive(Debug)]
struct Snapshot {
    apps: Vec<Arc<App>>,
    daemon: Daemon,
    history: Health,
    scanned_at: Option<f64>,
    log_lines_lost: u64,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let encoder = &mut encoder;
        self.apps(encoder)?;
        self.daemon(encoder)
    }
}

impl Snapshot {
    fn apps(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut family = encoder.encode_descriptor("app", "Each app, as asked and as seen", None, MetricType::Info)?;
        for app in &self.apps {
            let labels = [
                ("app", app.name().as_str()),
                ("app_id", app.app_id()),
                ("desired", app.desired().unwrap_or("")),
                ("observed", app.observed.as_str()),
            ];
            family.encode_info(&labels)?;
        }
        let help = "The conditions of each app: the status that holds has the value 1, the others have no series";
        let mut family = encoder.encode_descriptor("app_condition", help, None, MetricType::Gauge)?;
        for app in &self.apps {
            for (kind, status) in app.truths() {
                let labels = [("app", app.name().as_str()), ("type", kind), ("status", status.as_str())];
                family.encode_family(&labels)?.encode_gauge(&1_i64)?;
            }
        }
        let help = "Apps that their manifest suspends at present";
        let mut family = encoder.encode_descriptor("app_suspended", help, None, MetricType::Gauge)?;
        for app in self.apps.iter().filter(|app| app.suspended()) {
            family.encode_family(&[("app", app.name().as_str())])?.encode_gauge(&1_i64)?;
        }
        let mut reasons: BTreeMap<Reason, i64> = Reason::ALL.into_iter().map(|reason| (reason, 0)).collect();
        let mut results = BTreeMap::from([("Valid", 0_i64), ("Invalid", 0), ("Conflicting", 0)]);
        for app in &self.apps {
            *reasons.entry(app.reason()).or_default() += 1;
            *results.entry(standing(app)).or_default() += 1;
        }
        let mut family = encoder.encode_descriptor("apps", "Apps by reason", None, MetricType::Gauge)?;
        for (reason, count) in reasons {
            family.encode_family(&[("reason", reason.as_str())])?.encode_gauge(&count)?;
        }
        let help = "Objects of the manifests by the soundness of their newest text";
        let mut family = encoder.encode_descriptor("manifests", help, None, MetricType::Gauge)?;
        for (result, count) in results {
            family.encode_family(&[("result", result)])?.encode_gauge(&count)?;
        }
        Ok(())
    }

    fn daemon(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Daemon { source, observation, governor, .. } = &self.daemon;
        let budget = governor.requests_per_minute.unwrap_or(f64::INFINITY);
        let help = "Requests a minute that may be made now; +Inf where any number may";
        gauge(encoder, "api_budget_requests_per_minute", help, None, budget)?;
        if let Some(remaining) = governor.remaining {
            let help = "Requests that the server says are left in its present window";
            gauge(encoder, "api_ratelimit_remaining", help, None, f64::from(remaining))?;
        }
        let help = "1 while the platform does not answer and only probes are sent";
        flag(encoder, "breaker_open", help, governor.breaker_open)?;
        flag(encoder, "account_blocked", "1 while the token is not accepted", governor.account_blocked)?;
        flag(encoder, "source_up", "Whether the manifests can be read", source.available)?;
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 problems")]
        let problems = source.problems.len() as f64;
        gauge(encoder, "manifest_errors", "Problems with the manifests", None, problems)?;
        let seconds = Unit::Seconds;
        if let Some(at) = self.scanned_at {
            let help = "When the manifests were scanned last, whether or not anything had changed";
            gauge(encoder, "last_scan_timestamp", help, Some(&seconds), at)?;
        }
        if let Some(at) = observation.completed_at {
            let help = "When the last complete list of apps arrived";
            gauge(encoder, "last_observation_timestamp", help, Some(&seconds), at.as_duration().as_secs_f64())?;
        }
        if self.history.persistent {
            let help = "1 while the history can be written below --state-dir; absent without one";
            flag(encoder, "history_writable", help, self.history.writable)?;
        }
        let help = "Entries of the history that did not reach its file";
        counter(encoder, "history_entries_lost", help, self.history.lost)?;
        let help = "Lines of the log that were dropped because nobody read them in time";
        counter(encoder, "log_lines_lost", help, self.log_lines_lost)?;
        let mut build = encoder.encode_descriptor("build", "The running program", None, MetricType::Info)?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

/// How sound the newest text of an object is.
fn standing(app: &App) -> &'static str {
    match app.declared.standing {
        Standing::Conflicting { .. } => "Conflicting",
        Standing::Invalid { .. } => "Invalid",
        Standing::Sound => "Valid",
    }
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

fn flag(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: bool) -> fmt::Result {
    gauge(encoder, name, help, None, f64::from(u8::from(value)))
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    use prometheus_client::encoding::NoLabelSet;
    encoder
        .encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, u64, f64>(&value, None)
}
