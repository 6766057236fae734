//! `describe`: everything about one app in plain words, and what to do about it.

use std::fmt::Write as _;
use std::io;

use jiff::Timestamp;
use serde_json::Value;

use super::client::{App, Daemon};
use super::get::moment;
use super::text::{escape, print, span};
use super::{Exit, history, runtime};
use crate::cli::{Color, DescribeArgs};
use crate::clock::Clock;
use crate::reconcile::reason::Reason;
use crate::telemetry;

/// So many entries of the history are worth a look; `history` has more.
const PAST: u32 = 10;

pub(super) fn describe(args: &DescribeArgs, when: Color) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let app = daemon.app(&args.name).await?;
        let past = daemon.history(Some(&args.name), PAST).await?;
        let colour = telemetry::colour(when, &io::stdout());
        print(&page(&app, past.as_deref(), Clock::wall_now(), colour))?;
        Ok(Exit::Done)
    })
}

/// Lines of `title: text`, the texts in one column.
struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn line(&mut self, title: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:<13}{}", format!("{title}:"), escape(text).trim_end());
    }

    fn heading(&mut self, title: &str) {
        let _ =
            if self.colour { writeln!(self.text, "\n\x1b[1m{title}\x1b[0m") } else { writeln!(self.text, "\n{title}") };
    }
}

fn page(app: &App, past: Option<&[Value]>, now: Timestamp, colour: bool) -> String {
    let text = |pointer| app.text(pointer);
    let mut page = Page { text: String::new(), colour };
    page.line("Name", app.name());
    page.line("App id", text("/spec/appId").unwrap_or("unknown: no good manifest was seen yet"));
    let generation = app.0.pointer("/metadata/generation").and_then(Value::as_u64);
    page.line("Declared in", &declared(app, generation));
    for (title, pointer) in [("Labels", "/metadata/labels"), ("Annotations", "/metadata/annotations")] {
        if let Some(Value::Object(texts)) = app.0.pointer(pointer) {
            let texts = texts.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            page.line(title, &texts.collect::<Vec<_>>().join(", "));
        }
    }
    if let Some(policy) = text("/spec/policy") {
        page.line("Policy", policy);
    }
    page.line("Desired", &desired(app));
    page.line("Observed", &observed(app, now));
    if let Some(action) = app.0.pointer("/status/lastAction").filter(|action| action.is_object()) {
        page.line("Last action", &last_action(action, now));
    }
    page.line("Next look", &text("/status/nextLookAt").map_or("none is due".into(), |at| in_a_while(at, now)));
    if let Some(state) = text("/status/nextTransition/state") {
        let at = text("/status/nextTransition/at").unwrap_or_default();
        page.line("Next change", &format!("{state} is asked for {}", in_a_while(at, now)));
    }
    page.heading("Conditions");
    conditions(&mut page, app, now);
    page.heading("What to do");
    let reason = app.ready("reason").unwrap_or_default();
    let _ = writeln!(page.text, "  {}", advice(reason, text("/status/source/file")));
    page.heading("History");
    match past {
        None => page.text.push_str("  this daemon keeps none\n"),
        Some([]) => page.text.push_str("  no entry is kept of it\n"),
        Some(entries) => history::table(entries, false).lines().for_each(|line| {
            let _ = writeln!(page.text, "  {line}");
        }),
    }
    page.text
}

fn declared(app: &App, generation: Option<u64>) -> String {
    let file = app.text("/status/source/file").unwrap_or("?");
    let line = app.0.pointer("/status/source/line").and_then(Value::as_u64).unwrap_or(1);
    let revision = app.text("/status/revision").filter(|revision| !revision.is_empty());
    let revision = revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
    let generation = generation.map(|generation| format!(", generation {generation}")).unwrap_or_default();
    format!("{file}:{line}{revision}{generation}")
}

fn desired(app: &App) -> String {
    let Some(desired) = app.text("/status/desired") else { return "nothing can be told: see the conditions".into() };
    match app.text("/status/desiredBecause") {
        Some("state") | None => format!("{desired}, as spec.state says"),
        Some("suspend") => {
            let why = app.text("/spec/suspend/reason").map(|why| format!(" ({why})")).unwrap_or_default();
            let until = app.text("/spec/suspend/until").map(|until| format!(" until {until}")).unwrap_or_default();
            format!("{desired}, but suspended{until}{why}: nothing is called")
        }
        Some(because) => format!("{desired}, as {because} says"),
    }
}

fn observed(app: &App, now: Timestamp) -> String {
    let observed = app.text("/status/observed").unwrap_or("Unknown");
    match app.text("/status/observedAt") {
        Some(at) => format!("{observed}, seen {}", ago(at, now)),
        None => format!("{observed}, never seen yet"),
    }
}

fn last_action(action: &Value, now: Timestamp) -> String {
    let text = |field: &str| action[field].as_str();
    let mut line = text("action").unwrap_or("?").to_owned();
    if let Some(attempt) = action["attempt"].as_u64() {
        let _ = write!(line, ", try {attempt}");
    }
    if let Some(at) = text("at") {
        let _ = write!(line, ", {}", ago(at, now));
    }
    let _ = write!(line, ": {}", text("result").unwrap_or("?"));
    if let Some(code) = action["httpStatus"].as_u64() {
        let _ = write!(line, ", HTTP {code}");
    }
    if let Some(status) = text("returnedStatus") {
        let _ = write!(line, ", the server returned status {status}");
    }
    match action["returnedOnline"].as_bool() {
        Some(true) => line.push_str(", online at that moment"),
        Some(false) => line.push_str(", offline at that moment"),
        None => {}
    }
    if let Some(error) = text("error") {
        let _ = write!(line, "; {error}");
    }
    line
}

fn conditions(page: &mut Page, app: &App, now: Timestamp) {
    let known = app.0.pointer("/status/conditions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut messages: Vec<&str> = Vec::new();
    for condition in known {
        let text = |field: &str| condition[field].as_str().unwrap_or("-");
        let since = condition["lastTransitionTime"].as_str().map(|at| format!("since {}", ago(at, now)));
        let since = since.unwrap_or_default().replace(" ago", "");
        let line = format!("  {:<12} {:<8} {:<20} {since}", text("type"), text("status"), text("reason"));
        let _ = writeln!(page.text, "{}", escape(&line).trim_end());
        // One message for all three, as a rule: once is enough.
        if !messages.contains(&text("message")) {
            messages.push(text("message"));
        }
    }
    for message in messages {
        let _ = writeln!(page.text, "  {}", escape(message));
    }
}

/// `12s ago (2026-11-24T12:00:00Z)`.
fn ago(at: &str, now: Timestamp) -> String {
    moment(at).map_or_else(|| at.to_owned(), |moment| format!("{} ago ({moment:.0})", span(moment, now)))
}

/// `in 12s (2026-11-24T12:00:00Z)`.
fn in_a_while(at: &str, now: Timestamp) -> String {
    moment(at).map_or_else(|| at.to_owned(), |moment| format!("in {} ({moment:.0})", span(now, moment)))
}

/// What a person can do about it, where anything helps.
fn advice(reason: &str, file: Option<&str>) -> String {
    let Some(reason) = Reason::ALL.into_iter().find(|known| known.as_str() == reason) else {
        return "see the message above".into();
    };
    let nothing = |why: &str| format!("Nothing: {why}.");
    let file = escape(file.unwrap_or("the manifest"));
    match reason {
        Reason::Settled => nothing("the app is as declared"),
        Reason::Drifted => nothing("the call goes out as soon as the budget allows"),
        Reason::Stopping | Reason::Starting => nothing("the call was accepted and is being verified"),
        Reason::BackingOff => "Look at the error of the last action; if it does not go away by itself, it names what to \
            mend. The next try comes by itself."
            .into(),
        Reason::Suspended => format!("Remove `suspend` from {file} when the operator shall act on it again."),
        Reason::PolicyForbids => format!(
            "Make the change by hand on CamposCloud, or allow it: `policy` in {file}, and the daemon's --policy."
        ),
        Reason::DryRun => "Start the daemon without --dry-run to let it act.".into(),
        Reason::NotObserved | Reason::ObservationIncomplete => {
            "Wait for the next look. If it stays so, /api/v1/status of the daemon says why the list of apps does not come \
             whole."
                .into()
        }
        Reason::BeingCreated => nothing("it goes on when the platform has created the app"),
        Reason::SuspendedByPlatform => "See why on CamposCloud's dashboard; the operator cannot lift it.".into(),
        Reason::AppNotFound => {
            format!("Check spec.appId in {file}, and that the token's account owns the app; if it is gone, remove the manifest.")
        }
        Reason::Forbidden => "Have the app's team grant canChangeStatusApplication to the owner of the token.".into(),
        Reason::UnexpectedAnswer => {
            "Look at the last action and at CamposCloud's own status; if it stays so, please report it as a bug.".into()
        }
        Reason::StopNotEffective | Reason::StartNotEffective => {
            "See the app on CamposCloud's dashboard: the platform accepts the call, and nothing comes of it.".into()
        }
        Reason::Contested => "Find who else changes the app (a person, another tool, a second operator), and agree on one."
            .into(),
        Reason::InvalidManifest => format!("Mend {file}; `campos-operator validate` tells all that is wrong with it."),
        Reason::DuplicateAppId => {
            format!("Keep one of the manifests with the appId of {file}; `campos-operator validate` names them.")
        }
        Reason::DuplicateName => {
            format!("Rename all but one of the apps with the name in {file}; `campos-operator validate` names them.")
        }
        Reason::SourceUnavailable => "Mount the directory of manifests again, or make it readable for the daemon.".into(),
        Reason::BeingWritten => format!("Close {file} in the program that writes it (`fuser {file}` names it)."),
        Reason::AccountForbidden => {
            "Check the account's plan, the scopes of the token and the permissions of its teams.".into()
        }
        Reason::AccountBlocked => "Put a valid token in place (CAMPOSCLOUD_TOKEN, or the --token-file).".into(),
        Reason::ApiUnavailable => "Wait: the operator goes on by itself. CamposCloud's own status page may say more.".into(),
        Reason::ClockDoubtful => "Set this machine's clock (is NTP running?). If it is the server's that is wrong, start the \
            daemon with --trust-clock."
            .into(),
        Reason::RateLimited => {
            "Wait: the operator goes on by itself. If it is often so, lower --api-budget or find who else uses the account."
                .into()
        }
    }
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
        let app = App(json!({
            "metadata": {"name": "ticket-bot", "labels": {"team": "support", "tier": "1"}, "generation": 3},
            "spec": {"appId": "60c72b2f9b1e8d001c8e4f3a", "state": "Stopped"},
            "status": {
                "observedGeneration": 3, "revision": "9f2c41d", "source": {"file": "bots/ticket-bot.yaml", "line": 7},
                "desired": "Stopped", "desiredBecause": "window 2 (Fri 21:00-Mon 06:00)",
                "observed": "Running", "observedAt": "2026-11-24T11:59:58Z",
                "conditions": [condition("Ready", "False"), condition("Reconciling", "True"), condition("Stalled", "False")],
                "lastAction": {"action": "stop", "at": "2026-11-24T11:59:00Z", "attempt": 2, "result": "Retry",
                    "httpStatus": 503, "returnedStatus": null, "returnedOnline": null, "error": "stopping app: \u{7}down"},
                "nextLookAt": "2026-11-24T12:00:05Z", "nextTransition": {"at": "2026-11-27T06:00:00Z", "state": "Running"}
            }
        }));
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        insta::assert_snapshot!(page(&app, Some(&[]), now, false), @r"
        Name:        ticket-bot
        App id:      60c72b2f9b1e8d001c8e4f3a
        Declared in: bots/ticket-bot.yaml:7, revision 9f2c41d, generation 3
        Labels:      team=support, tier=1
        Desired:     Stopped, as window 2 (Fri 21:00-Mon 06:00) says
        Observed:    Running, seen 2s ago (2026-11-24T11:59:58Z)
        Last action: stop, try 2, 60s ago (2026-11-24T11:59:00Z): Retry, HTTP 503; stopping app: \u{7}down
        Next look:   in 5s (2026-11-24T12:00:05Z)
        Next change: Running is asked for in 2d (2026-11-27T06:00:00Z)

        Conditions
          Ready        False    BackingOff           since 60s (2026-11-24T11:59:00Z)
          Reconciling  True     BackingOff           since 60s (2026-11-24T11:59:00Z)
          Stalled      False    BackingOff           since 60s (2026-11-24T11:59:00Z)
          the last call failed

        What to do
          Look at the error of the last action; if it does not go away by itself, it names what to mend. The next try comes by itself.

        History
          no entry is kept of it
        ");
        let bare = page(&App(json!({"metadata": {"name": "x"}})), None, now, false);
        assert!(bare.contains("nothing can be told") && bare.contains("keeps none"), "{bare}");
    }

    proptest::proptest! {
        #[test]
        fn a_page_is_harmless(text in hostile()) {
            let page = |text: &str| {
                let entry = history::tests::of_others(text);
                page(&of_others(text), Some(&[entry]), Timestamp::UNIX_EPOCH, false)
            };
            assert_page(&page(&text), &page("x"));
        }
    }

    #[test]
    fn every_reason_has_its_advice() {
        for reason in Reason::ALL {
            let advice = advice(reason.as_str(), Some("a.yaml"));
            assert!(advice.ends_with('.') && advice.len() > 20, "{reason}: {advice}");
        }
    }
}
