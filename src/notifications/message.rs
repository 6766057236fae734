//! Format of the messages: text for Discord and Slack, JSON for a webhook.
//!
//! Names and details come from manifests and from the server, so they are escaped: they cannot mention a person, and do
//! not change the format of a message.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::causes::{Event, Level, Report};
use crate::printable::escape;
use crate::reconcile::app::AppName;
use crate::reconcile::reason::Reason;
use crate::status::API_VERSION;

/// Maximum number of names in a text.
const NAMES: usize = 10;
/// Maximum number of names for a webhook.
const MOST_NAMES: usize = 1_000;
/// Discord refuses a longer text, in characters.
const DISCORD: usize = 2_000;
/// Slack cuts a longer text, in characters.
const SLACK: usize = 4_000;
/// Longest detail of a cause, in characters.
const DETAIL: usize = 300;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Cause(Report),
    /// The causes at the start of the daemon.
    Summary(Vec<Report>),
    /// Calls that a later reading confirmed.
    Done {
        action: Cow<'static, str>,
        apps: Vec<AppName>,
    },
    /// Stops that a schedule causes soon.
    ScheduledStop {
        at: Timestamp,
        apps: Vec<AppName>,
        reason: Option<Arc<str>>,
    },
}

impl Message {
    pub fn level(&self) -> Level {
        match self {
            Self::Cause(report) => report.state.level,
            Self::Summary(reports) => reports.iter().map(|report| report.state.level).max().unwrap_or(Level::Info),
            Self::Done { .. } => Level::Info,
            Self::ScheduledStop { .. } => Level::Warning,
        }
    }

    /// Its kind, in the JSON and the log.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Cause(Report { event: Event::Began, .. }) => "began",
            Self::Cause(Report { event: Event::Continues, .. }) => "continues",
            Self::Cause(Report { event: Event::Ended, .. }) => "ended",
            Self::Summary(_) => "summary",
            Self::Done { .. } => "done",
            Self::ScheduledStop { .. } => "scheduledStop",
        }
    }

    /// Plain text; `quote` escapes foreign text.
    fn text(&self, quote: &dyn Fn(&str) -> String) -> String {
        match self {
            Self::Cause(report) => cause(report, quote),
            Self::Summary(reports) => {
                let lines = reports.iter().map(|report| cause(report, quote));
                format!("campos-operator started. Open causes:\n{}", lines.collect::<Vec<_>>().join("\n"))
            }
            Self::Done { action, apps } => format!("Done: {action} {}: {}.", count(apps), names(apps, quote)),
            Self::ScheduledStop { at, apps, reason } => {
                let reason = reason.as_ref().map(|reason| format!(" ({})", quote(reason))).unwrap_or_default();
                format!("At {}, {} will be stopped{reason}: {}.", minute(*at), count(apps), names(apps, quote))
            }
        }
    }

    /// The body for Discord's webhook.
    pub fn discord(&self) -> Value {
        json!({"content": clip(&self.text(&markdown), DISCORD), "allowed_mentions": {"parse": []}})
    }

    /// The body for Slack's webhook.
    pub fn slack(&self) -> Value {
        let entity = |text: &str| escape(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        json!({"text": clip(&self.text(&entity), SLACK)})
    }

    /// The body for any other webhook.
    pub fn webhook(&self, sent: Timestamp) -> Value {
        let apps = |apps: &[AppName]| {
            let names: Vec<&str> = apps.iter().take(MOST_NAMES).map(AppName::as_str).collect();
            json!({"count": apps.len(), "names": names})
        };
        let cause = |report: &Report| {
            json!({
                "reason": report.reason.as_str(),
                "scope": scope(report.reason),
                "level": report.state.level.as_str(),
                "since": report.since,
                "apps": apps(&report.state.apps),
                "detail": report.state.detail,
            })
        };
        let mut body = json!({
            "apiVersion": API_VERSION,
            "kind": "Notification",
            "event": self.event(),
            "level": self.level().as_str(),
            "sentAt": sent,
            "message": self.text(&|text| escape(text).into_owned()),
        });
        match self {
            Self::Cause(report) => body["causes"] = json!([cause(report)]),
            Self::Summary(reports) => body["causes"] = reports.iter().map(cause).collect(),
            Self::Done { action, apps: done } => {
                (body["action"], body["apps"]) = (json!(action), apps(done));
            }
            Self::ScheduledStop { at, apps: due, reason } => {
                (body["at"], body["apps"], body["reason"]) = (json!(at), apps(due), json!(reason));
            }
        }
        body
    }
}

/// The part of the fleet that a reason concerns.
const fn scope(reason: Reason) -> &'static str {
    if reason.is_account_wide() {
        "account"
    } else if matches!(reason, Reason::SourceUnavailable | Reason::InvalidManifest) {
        "source"
    } else {
        "apps"
    }
}

fn cause(report: &Report, quote: &dyn Fn(&str) -> String) -> String {
    let Report { event, reason, since, state } = report;
    let since = minute(*since);
    let apps = if state.apps.is_empty() { String::new() } else { format!("{}: ", count(&state.apps)) };
    let meaning = reason.meaning().trim_end_matches('.');
    let first = match event {
        Event::Began => format!("{apps}{meaning} ({reason}), since {since}."),
        Event::Continues => format!("Still: {apps}{meaning} ({reason}), since {since}."),
        Event::Ended => return format!("Ended: {meaning} ({reason}), since {since}."),
    };
    let detail = state.detail.as_ref().map(|detail| format!("\n{}", quote(&clip(detail, DETAIL)))).unwrap_or_default();
    let listed = if state.apps.is_empty() { String::new() } else { format!("\nApps: {}.", names(&state.apps, quote)) };
    let next = reason.advice(if state.apps.len() == 1 { "its manifest" } else { "their manifests" });
    format!("{first}{detail}{listed}\nNext step: {next}")
}

fn count(apps: &[AppName]) -> String {
    let s = if apps.len() == 1 { "" } else { "s" };
    format!("{} app{s}", apps.len())
}

fn names(apps: &[AppName], quote: &dyn Fn(&str) -> String) -> String {
    let listed: Vec<String> = apps.iter().take(NAMES).map(|name| quote(name.as_str())).collect();
    let more = apps.len().saturating_sub(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    listed.join(", ") + &more
}

/// A time without seconds.
fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Text without the characters that Discord formats; `@` and `<` begin its mentions.
fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in escape(text).chars() {
        if "\\*_~`|>#-[]()<:@".contains(c) {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

/// At most `most` characters.
fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::causes::CauseState;
    use super::*;

    fn at() -> Timestamp {
        "2026-11-26T10:02:00Z".parse().unwrap()
    }

    fn outage(event: Event, apps: usize) -> Report {
        let apps = (0..apps).map(|number| format!("bot-{number}").parse().unwrap()).collect();
        let detail = Some("see <http://x/> & @everyone *now*".into());
        let state = CauseState { level: Level::Warning, apps, detail };
        Report { event, reason: Reason::ApiUnavailable, since: at(), state }
    }

    #[test]
    fn messages_say_what_when_and_what_next() {
        let plain = |message: Message| message.text(&|text| text.to_owned());
        let all = [
            Message::Cause(outage(Event::Began, 12)),
            Message::Cause(outage(Event::Continues, 0)),
            Message::Cause(outage(Event::Ended, 1)),
            Message::Summary(vec![outage(Event::Began, 1)]),
            Message::Done { action: "stop".into(), apps: vec!["a".parse().unwrap()] },
            Message::ScheduledStop { at: at(), apps: vec!["a".parse().unwrap()], reason: Some("night".into()) },
        ];
        insta::assert_snapshot!(all.map(plain).join("\n\n"), @r"
        12 apps: The platform does not answer (ApiUnavailable), since 2026-11-26 10:02 UTC.
        see <http://x/> & @everyone *now*
        Apps: bot-0, bot-1, bot-2, bot-3, bot-4, bot-5, bot-6, bot-7, bot-8, bot-9 and 2 more.
        Next step: Wait: the operator retries. The status page of CamposCloud may show the cause.

        Still: The platform does not answer (ApiUnavailable), since 2026-11-26 10:02 UTC.
        see <http://x/> & @everyone *now*
        Next step: Wait: the operator retries. The status page of CamposCloud may show the cause.

        Ended: The platform does not answer (ApiUnavailable), since 2026-11-26 10:02 UTC.

        campos-operator started. Open causes:
        1 app: The platform does not answer (ApiUnavailable), since 2026-11-26 10:02 UTC.
        see <http://x/> & @everyone *now*
        Apps: bot-0.
        Next step: Wait: the operator retries. The status page of CamposCloud may show the cause.

        Done: stop 1 app: a.

        At 2026-11-26 10:02 UTC, 1 app will be stopped (night): a.
        ");
    }

    #[test]
    fn foreign_text_is_harmless_everywhere() {
        let message = Message::Cause(outage(Event::Began, 1));
        let slack = message.slack()["text"].as_str().unwrap().to_owned();
        assert!(slack.contains("see &lt;http://x/&gt; &amp; @everyone"), "{slack}");
        let discord = message.discord();
        let text = discord["content"].as_str().unwrap();
        assert!(text.contains(r"see \<http\://x/\> & \@everyone \*now\*"), "{text}");
        assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
    }

    #[test]
    fn texts_have_the_length_that_the_services_take() {
        let mut report = outage(Event::Began, 5_000);
        report.state.detail = Some("é".repeat(9_000).into());
        let message = Message::Summary(vec![report; 30]);
        assert_eq!(message.discord()["content"].as_str().unwrap().chars().count(), DISCORD);
        assert_eq!(message.slack()["text"].as_str().unwrap().chars().count(), SLACK);
        assert_eq!(message.webhook(at())["causes"][0]["apps"]["names"].as_array().unwrap().len(), MOST_NAMES);
        assert_eq!(message.webhook(at())["causes"][0]["apps"]["count"], 5_000);
    }
}
