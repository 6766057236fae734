//! `/metrics`, in the text format of Prometheus, or in OpenMetrics if the client prefers it. Values that follow from
//! the board are computed at each scrape, on the thread of the port.
//!
//! Label sets are closed: names of enums, never free text. Only `app` and `app_id` name things, and their series
//! disappear with the app.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::reconcile::desired::Validity;
use crate::reconcile::reason::Reason;
use crate::status::app::App;
use crate::status::history::Health;
use crate::status::{Board, Daemon};
use crate::telemetry;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4 of Prometheus, which every scraper reads.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The preferred format of `accept`, the values of the Accept headers: `OpenMetrics` only if it is named with a
    /// version that we write, otherwise the text format.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut format, mut best) = (Self::Text, 0.0);
        for range in accept.into_iter().flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (Some(1.0), None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = quality(value),
                    "version" => version = Some(value),
                    _ => {}
                }
            }
            let fits = match (media.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Self::OpenMetrics,
                ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            // Of two with the same weight, the first one.
            if let Some(weight) = weight.filter(|weight| *weight > best) {
                (format, best) = (fits, weight);
            }
        }
        format
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Reads a quality value, from 0 to 1.
fn quality(text: &str) -> Option<f64> {
    text.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))
}

/// All metrics as text.
pub fn scrape(board: &Board, format: Format) -> Result<String, fmt::Error> {
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
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Text => plain(&text),
    })
}

/// Converts `OpenMetrics` to the text format 0.0.4, in which a family has the name of its samples, an info is a gauge,
/// and there are neither units nor an end mark.
fn plain(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    // HELP precedes TYPE, and the name of the samples depends on the type.
    let mut help = None;
    for line in open.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), text) => help = Some((name, text.unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some((_, help)) = help.take_if(|(known, _)| *known == name) {
                    let _ = writeln!(text, "# HELP {name}{suffix} {help}"); // writing to a String cannot fail
                }
                let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            }
            (Some("#"), ..) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
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
        let mut family = encoder.encode_descriptor("app", "Each app, desired and observed", None, MetricType::Info)?;
        for app in &self.apps {
            let labels = [
                ("app", app.name().as_str()),
                ("app_id", app.app_id()),
                ("desired", app.desired().unwrap_or("")),
                ("observed", app.observed.as_str()),
            ];
            family.encode_info(&labels)?;
        }
        let help = "Conditions of each app: the present status has the value 1, the others have no series";
        let mut family = encoder.encode_descriptor("app_condition", help, None, MetricType::Gauge)?;
        for app in &self.apps {
            for (kind, status) in app.truths() {
                let labels = [("app", app.name().as_str()), ("type", kind), ("status", status.as_str())];
                family.encode_family(&labels)?.encode_gauge(&1_i64)?;
            }
        }
        let help = "Apps that their manifest suspends now";
        let mut family = encoder.encode_descriptor("app_suspended", help, None, MetricType::Gauge)?;
        for app in self.apps.iter().filter(|app| app.suspended()) {
            family.encode_family(&[("app", app.name().as_str())])?.encode_gauge(&1_i64)?;
        }
        let mut reasons: BTreeMap<Reason, i64> = Reason::ALL.into_iter().map(|reason| (reason, 0)).collect();
        let mut results = BTreeMap::from([("Valid", 0_i64), ("Invalid", 0), ("Conflicting", 0)]);
        for app in &self.apps {
            *reasons.entry(app.reason()).or_default() += 1;
            *results.entry(validity(app)).or_default() += 1;
        }
        let mut family = encoder.encode_descriptor("apps", "Apps by reason", None, MetricType::Gauge)?;
        for (reason, count) in reasons {
            family.encode_family(&[("reason", reason.as_str())])?.encode_gauge(&count)?;
        }
        let help = "Objects of the manifests by the validity of their newest text";
        let mut family = encoder.encode_descriptor("manifests", help, None, MetricType::Gauge)?;
        for (result, count) in results {
            family.encode_family(&[("result", result)])?.encode_gauge(&count)?;
        }
        Ok(())
    }

    fn held_calls(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let changes = self.daemon.max_changes.as_ref();
        let (stops, starts) = changes.map_or((0, 0), |changes| (changes.held_stops, changes.held_starts));
        let help = "Calls that --max-stops or --max-starts holds";
        let mut family = encoder.encode_descriptor("held_calls", help, None, MetricType::Gauge)?;
        for (action, count) in [("start", starts), ("stop", stops)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.encode_family(&[("action", action)])?.encode_gauge(&count)?;
        }
        Ok(())
    }

    fn daemon(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Daemon { source, observation, governor, .. } = &self.daemon;
        let budget = governor.requests_per_minute.unwrap_or(f64::INFINITY);
        let help = "Requests per minute allowed now; +Inf if unlimited";
        gauge(encoder, "api_budget_requests_per_minute", help, None, budget)?;
        if let Some(remaining) = governor.remaining {
            let help = "Requests left in the present window, as reported by the server";
            gauge(encoder, "api_ratelimit_remaining", help, None, f64::from(remaining))?;
        }
        let help = "1 while the platform does not answer and only probes are sent";
        flag(encoder, "breaker_open", help, governor.breaker_open)?;
        flag(encoder, "account_blocked", "1 while the token is not accepted", governor.account_blocked)?;
        flag(encoder, "source_up", "Whether the manifests can be read", source.available)?;
        if let Some(leader) = &self.daemon.leader {
            let help = "1 while this process leads, 0 on a standby; absent without --leader-elect";
            flag(encoder, "leader", help, leader.leading)?;
        }
        if let Some(ahead) = self.daemon.clock_ahead_seconds {
            let help = "How far this machine's clock is ahead of the server's; absent before the first comparison";
            #[expect(clippy::cast_precision_loss, reason = "clocks differ by less than 2^53 seconds")]
            gauge(encoder, "clock_ahead", help, Some(&Unit::Seconds), ahead as f64)?;
        }
        let help = "1 while this machine's clock differs from the server's";
        flag(encoder, "clock_doubtful", help, self.daemon.clock == "differs")?;
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 problems")]
        let problems = source.errors as f64;
        gauge(encoder, "manifest_errors", "Problems with the manifests", None, problems)?;
        self.held_calls(encoder)?;
        if let Some(undeclared) = &self.daemon.undeclared {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 apps")]
            let count = undeclared.count as f64;
            gauge(encoder, "undeclared_apps", "Apps of the account that no manifest declares", None, count)?;
        }
        let seconds = Unit::Seconds;
        if let Some(at) = self.scanned_at {
            let help = "Time of the last scan of the manifests, changed or not";
            gauge(encoder, "last_scan_timestamp", help, Some(&seconds), at)?;
        }
        if let Some(at) = observation.completed_at {
            let help = "Time of the last complete list of apps";
            gauge(encoder, "last_observation_timestamp", help, Some(&seconds), at.as_duration().as_secs_f64())?;
        }
        if self.history.persistent {
            let help = "1 while the history can be written below --state-dir; absent without one";
            flag(encoder, "history_writable", help, self.history.writable)?;
        }
        let help = "Entries of the history that its file lost";
        counter(encoder, "history_entries_lost", help, self.history.lost)?;
        let help = "Lines of the log that were lost because the reader of stderr was too slow";
        counter(encoder, "log_lines_lost", help, self.log_lines_lost)?;
        let mut build = encoder.encode_descriptor("build", "The running program", None, MetricType::Info)?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }
}

/// Validity of the newest text of an object.
fn validity(app: &App) -> &'static str {
    match app.declared.validity {
        Validity::Conflicting { .. } => "Conflicting",
        Validity::Invalid { .. } => "Invalid",
        Validity::Valid => "Valid",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_only_on_request() {
        use Format::{OpenMetrics, Text};
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (vec![], Text),
            (vec![""], Text),
            (vec!["*/*"], Text),
            (vec!["text/html, */*;q=0.8"], Text),
            (vec!["application/*"], Text),
            (vec!["application/json"], Text),
            (vec!["text/plain"], Text),
            (vec![prometheus], OpenMetrics),
            (vec!["application/openmetrics-text"], OpenMetrics),
            (vec!["APPLICATION/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=0.5"], OpenMetrics),
            (vec!["application/openmetrics-text;version=0.0.1,text/plain;q=0.5"], OpenMetrics),
            (vec!["application/openmetrics-text;version=2.0.0"], Text),
            (vec!["application/openmetrics-text;q=0"], Text),
            (vec!["application/openmetrics-text;q=0.000,*/*;q=0.1"], Text),
            (vec!["application/openmetrics-text;q=0.3,text/plain;q=0.5"], Text),
            (vec!["text/plain;version=0.0.4;q=0.5", "application/openmetrics-text;q=0.9"], OpenMetrics),
            (vec!["application/openmetrics-text;q=0.001"], OpenMetrics),
            (vec!["application/openmetrics-text;q=0.2,*/*;q=0.9"], Text),
            (vec!["text/plain, application/openmetrics-text"], Text),
            (vec!["application/openmetrics-text, text/plain"], OpenMetrics),
            (vec!["application/openmetrics-text;q=high"], Text),
            (vec!["application/openmetrics-text;q=2"], Text),
        ] {
            assert_eq!(Format::negotiate(accept.clone()), format, "{accept:?}");
        }
    }

    #[test]
    fn the_text_format_has_nothing_of_open_metrics() {
        let board = Board::default();
        board.meters().acted("stop", "Accepted");
        board.meters().passed(std::time::Duration::from_millis(1));
        let text = scrape(&board, Format::Text).unwrap();
        for line in [
            "# TYPE campos_operator_actions_total counter",
            "campos_operator_actions_total{action=\"stop\",result=\"Accepted\"} 1",
            "# TYPE campos_operator_build_info gauge",
            "# TYPE campos_operator_reconcile_duration_seconds histogram",
            "# TYPE campos_operator_breaker_open gauge",
        ] {
            assert_eq!(text.lines().filter(|known| *known == line).count(), 1, "{line}:\n{text}");
        }
        for never in ["# UNIT", "# EOF", " info\n", "# TYPE campos_operator_actions counter"] {
            assert!(!text.contains(never), "{never}");
        }
        for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
            let name = line.split(' ').nth(2).unwrap();
            assert_eq!(text.matches(&format!("# HELP {name} ")).count(), 1, "{name}");
        }
        assert!(scrape(&board, Format::OpenMetrics).unwrap().ends_with("# EOF\n"));
    }
}
