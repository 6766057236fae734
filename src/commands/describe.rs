//! `describe`: one app in detail, with the next step.

use std::fmt::Write as _;
use std::io;

use jiff::Timestamp;

use super::client::{App, Daemon};
use super::text::{escape, print, span};
use super::{Exit, history, runtime};
use crate::cli::{Color, DescribeArgs};
use crate::clock::Clock;
use crate::reconcile::reason::Reason;
use crate::status::activity::ActivityItem;
use crate::status::app::{LastAction, Suspend};
use crate::telemetry;

/// Rows of the history on the page; `history` shows more.
const PAST: u32 = 10;

pub(super) fn describe(args: &DescribeArgs, when: Color) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let app = daemon.app(&args.name).await?;
        let past = daemon.activity(Some(app.name()), PAST).await?;
        let colour = telemetry::colour(when, &io::stdout());
        let link = daemon.status().await?["sourceLink"].as_str().and_then(|template| link(template, &app));
        print(&page(&app, link.as_deref(), past.as_deref(), Clock::wall_now(), colour))?;
        Ok(Exit::Done)
    })
}

/// Lines of `title: text`, the texts in one column. Writing to a String cannot fail.
struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn line(&mut self, title: &str, text: &str) {
        let _ = writeln!(self.text, "{:<13}{}", format!("{title}:"), escape(text).trim_end());
    }

    fn heading(&mut self, title: &str) {
        let _ =
            if self.colour { writeln!(self.text, "\n\x1b[1m{title}\x1b[0m") } else { writeln!(self.text, "\n{title}") };
    }
}

/// The address of the manifest, by the template of `--source-link`.
fn link(template: &str, app: &App) -> Option<String> {
    let (source, revision) = (&app.status.source, &app.status.revision);
    if source.file.is_empty() {
        return None;
    }
    // Escape every byte with a meaning in a URL, so that a file name cannot change the address.
    let part = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let escaped = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        text.bytes().map(escaped).collect::<Vec<_>>().concat()
    };
    let line = source.line.max(1).to_string();
    Some(
        template.replace("{revision}", &part(revision)).replace("{file}", &part(&source.file)).replace("{line}", &line),
    )
}

fn page(app: &App, link: Option<&str>, past: Option<&[ActivityItem]>, now: Timestamp, colour: bool) -> String {
    let (metadata, spec, status) = (&app.metadata, app.spec.as_ref(), &app.status);
    let mut page = Page { text: String::new(), colour };
    page.line("Name", app.name());
    page.line("App id", spec.map_or("unknown (no valid manifest)", |spec| &spec.app_id));
    page.line("Declared in", &declared(app));
    if let Some(link) = link {
        page.line("Link", link);
    }
    for (title, texts) in [("Labels", &metadata.labels), ("Annotations", &metadata.annotations)] {
        if !texts.is_empty() {
            let texts: Vec<_> = texts.iter().map(|(key, value)| format!("{key}={value}")).collect();
            page.line(title, &texts.join(", "));
        }
    }
    if let Some(policy) = spec.and_then(|spec| spec.policy.as_ref()) {
        page.line("Policy", policy);
    }
    page.line("Desired", &desired(app));
    let shared = &app.raw["status"]["schedule"];
    if let (Some(name), Some(file)) = (shared["name"].as_str(), shared["file"].as_str()) {
        page.line("Schedule", &format!("{name} ({file})"));
    }
    let seen = status.observed_at.map_or_else(|| "not read yet".into(), |at| format!("read {}", ago(at, now)));
    let observed = if status.observed.is_empty() { "Unknown" } else { &status.observed };
    page.line("Observed", &format!("{observed}, {seen}"));
    if let Some(action) = &status.last_action {
        page.line("Last action", &last_action(action, now));
    }
    page.line("Next read", &status.next_look_at.map_or_else(|| "none".into(), |at| ahead(at, now)));
    if let Some(transition) = &status.next_transition {
        page.line("Next change", &format!("desired state becomes {} {}", transition.state, ahead(transition.at, now)));
    }
    page.heading("Conditions");
    conditions(&mut page, app, now);
    page.heading("Next step");
    let file = if status.source.file.is_empty() { "the manifest" } else { &status.source.file };
    let _ = writeln!(page.text, "  {}", advice(app.reason(), file));
    page.heading("History");
    match past {
        None => page.text.push_str("  the daemon is older than this command and has no activity; upgrade the daemon\n"),
        Some([]) => page.text.push_str("  no entries\n"),
        Some(entries) => history::table(entries, false).lines().for_each(|line| {
            let _ = writeln!(page.text, "  {line}");
        }),
    }
    page.text
}

fn declared(app: &App) -> String {
    let (source, revision) = (&app.status.source, &app.status.revision);
    let file = if source.file.is_empty() { "?" } else { &source.file };
    let mut text = format!("{file}:{}", source.line.max(1));
    if !revision.is_empty() {
        let _ = write!(text, ", revision {revision}");
    }
    if app.metadata.generation > 0 {
        let _ = write!(text, ", generation {}", app.metadata.generation);
    }
    text
}

fn desired(app: &App) -> String {
    let Some(desired) = &app.status.desired else { return "unknown (see the conditions)".into() };
    match app.status.desired_because.as_deref() {
        Some("state") | None => format!("{desired}, from spec.state"),
        Some("suspend") => {
            let (mut why, mut end) = (String::new(), String::new());
            if let Some(Suspend::Detailed { reason, until }) = app.spec.as_ref().and_then(|spec| spec.suspend.as_ref())
            {
                why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                end = until.map(|until| format!(" until {until}")).unwrap_or_default();
            }
            format!("{desired}, but suspended{end}{why}: the operator sends no call")
        }
        Some("override") => {
            let over = app.spec.as_ref().and_then(|spec| spec.override_.as_ref());
            let notes: Vec<String> = over
                .into_iter()
                .flat_map(|over| {
                    [over.reason.as_deref().map(Into::into), over.by.as_ref().map(|by| format!("by {by}"))]
                })
                .flatten()
                .collect();
            let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
            let end = over.map(|over| format!(" until {}", over.until)).unwrap_or_default();
            format!("{desired}, from spec.override{end}{notes}")
        }
        Some(because) => format!("{desired}, from {because}"),
    }
}

fn last_action(last: &LastAction, now: Timestamp) -> String {
    let mut line = format!("{}, attempt {}, {}: {}", last.action, last.attempt, ago(last.at, now), last.result);
    if let Some(code) = last.http_status {
        let _ = write!(line, ", HTTP {code}");
    }
    if let Some(status) = &last.returned_status {
        let _ = write!(line, ", the server returned status {status}");
    }
    if let Some(online) = last.returned_online {
        let _ = write!(line, ", {}", if online { "online" } else { "offline" });
    }
    if let Some(error) = &last.error {
        let _ = write!(line, "; {error}");
    }
    line
}

fn conditions(page: &mut Page, app: &App, now: Timestamp) {
    let mut messages: Vec<&str> = Vec::new();
    for condition in &app.status.conditions {
        let since = condition.last_transition_time.map(|at| format!("since {}", ago(at, now).replace(" ago", "")));
        let since = since.unwrap_or_default();
        let line = format!("  {:<12} {:<8} {:<20} {since}", condition.kind, condition.status, condition.reason);
        let _ = writeln!(page.text, "{}", escape(&line).trim_end());
        // Usually one message for all three: print it once.
        if !messages.contains(&&*condition.message) {
            messages.push(&condition.message);
        }
    }
    for message in messages {
        let _ = writeln!(page.text, "  {}", escape(message));
    }
}

/// `12s ago (2026-11-24T12:00:00Z)`.
fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("{} ago ({at:.0})", span(at, now))
}

/// `in 12s (2026-11-24T12:00:00Z)`.
fn ahead(at: Timestamp, now: Timestamp) -> String {
    format!("in {} ({at:.0})", span(now, at))
}

/// The next step for a person, if there is one.
fn advice(reason: &str, file: &str) -> String {
    reason.parse().map_or_else(|_| "See the message above.".into(), |reason: Reason| reason.advice(&escape(file)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::text::tests::{assert_page, of_others};
    use crate::printable::tests::hostile;

    #[test]
    fn one_app_in_plain_words() {
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "reason": "BackingOff", "message": "the last call failed",
                "lastTransitionTime": "2026-11-24T11:59:00Z", "observedGeneration": 3})
        };
        let app = App::try_from(json!({
            "metadata": {"name": "ticket-bot", "labels": {"team": "support", "tier": "1"}, "generation": 3},
            "spec": {"appId": "60c72b2f9b1e8d001c8e4f3a", "state": "Stopped"},
            "status": {
                "observedGeneration": 3, "revision": "9f2c41d", "source": {"file": "bots/ticket-bot.yaml", "line": 7},
                "desired": "Stopped", "desiredBecause": "window 2 (Fri 21:00-Mon 06:00)",
                "observed": "Running", "observedAt": "2026-11-24T11:59:58Z",
                "conditions": [condition("Ready", "False"), condition("Reconciling", "True"), condition("Stalled", "False")],
                "lastAction": {"action": "stop", "at": "2026-11-24T11:59:00Z", "attempt": 2, "result": "Retry",
                    "httpStatus": 503, "returnedStatus": null, "returnedOnline": null, "error": "could not stop app: \u{7}down"},
                "nextLookAt": "2026-11-24T12:00:05Z", "nextTransition": {"at": "2026-11-27T06:00:00Z", "state": "Running"}
            }
        }))
        .unwrap();
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        insta::assert_snapshot!(page(&app, None, Some(&[]), now, false), @r"
        Name:        ticket-bot
        App id:      60c72b2f9b1e8d001c8e4f3a
        Declared in: bots/ticket-bot.yaml:7, revision 9f2c41d, generation 3
        Labels:      team=support, tier=1
        Desired:     Stopped, from window 2 (Fri 21:00-Mon 06:00)
        Observed:    Running, read 2s ago (2026-11-24T11:59:58Z)
        Last action: stop, attempt 2, 60s ago (2026-11-24T11:59:00Z): Retry, HTTP 503; could not stop app: \u{7}down
        Next read:   in 5s (2026-11-24T12:00:05Z)
        Next change: desired state becomes Running in 2d (2026-11-27T06:00:00Z)

        Conditions
          Ready        False    BackingOff           since 60s (2026-11-24T11:59:00Z)
          Reconciling  True     BackingOff           since 60s (2026-11-24T11:59:00Z)
          Stalled      False    BackingOff           since 60s (2026-11-24T11:59:00Z)
          the last call failed

        Next step
          None yet. The operator retries. If the error of the last action lasts, fix the cause that it names.

        History
          no entries
        ");
        let bare = page(&App::try_from(json!({"metadata": {"name": "x"}})).unwrap(), None, None, now, false);
        assert!(bare.contains("unknown (see the conditions)") && bare.contains("older than this command"), "{bare}");
    }

    proptest::proptest! {
        #[test]
        fn a_page_is_harmless(text in hostile()) {
            let page = |text: &str| {
                let entry = history::tests::of_others(text);
                page(&of_others(text), Some(text), Some(&[entry]), Timestamp::UNIX_EPOCH, false)
            };
            assert_page(&page(&text), &page("x"));
        }
    }

    #[test]
    fn every_reason_has_its_advice() {
        for reason in Reason::ALL {
            let advice = advice(reason.as_str(), "a.yaml");
            assert!(advice.ends_with('.') && advice.len() > 20, "{reason}: {advice}");
        }
    }

    #[test]
    fn a_link_escapes_the_name_of_the_file() {
        let app = json!({"metadata": {"name": "x"}, "status": {"revision": "9f2c41d", "source": {"file": "a b/ü?#.yaml", "line": 3}}});
        let template = "https://forge/blob/{revision}/{file}#L{line}";
        let link = link(template, &App::try_from(app).unwrap()).unwrap();
        assert_eq!(link, "https://forge/blob/9f2c41d/a%20b/%C3%BC%3F%23.yaml#L3");
    }
}
