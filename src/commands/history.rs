//! `history`: past decisions and calls, newest first.
//!
//! Entries stay JSON: a newer daemon may have words that this program does not know.

use anyhow::bail;
use serde_json::Value;

use super::client::{Daemon, unknown};
use super::text::{Cell, Layout, clip, escape, json, lines, print, print_data, print_note, render};
use super::{Exit, runtime};
use crate::cli::{HistoryArgs, HistoryOutput};

pub(super) fn history(args: &HistoryArgs) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let name = args.name.as_deref();
        let Some(entries) = daemon.history(name, args.limit).await? else {
            let version = daemon.status().await?["version"].as_str().unwrap_or_default().to_owned();
            bail!("the daemon (version {version}) keeps no history");
        };
        if let Some(name) = name.filter(|_| entries.is_empty()) {
            // A released app may have a past; an unknown name is a typing error.
            let known = daemon.apps().await?;
            if !known.contains_key(name) {
                return Err(unknown(name, &known));
            }
        }
        match args.output {
            HistoryOutput::Text if entries.is_empty() => print_note("no entries"),
            HistoryOutput::Text => print(&table(&entries, name.is_none()))?,
            HistoryOutput::Json => print_data(&entries.iter().map(json).collect::<Result<String, _>>()?)?,
        }
        Ok(Exit::Done)
    })
}

/// A table for a person, with a column for the app if there are several.
pub(super) fn table(entries: &[Value], with_app: bool) -> String {
    let mut rows =
        vec![row(["TIME", "APP", "TRIGGER", "DESIRED", "OBSERVED", "REASON", "ANSWER"].map(Cell::from), with_app)];
    rows.extend(entries.iter().map(|entry| {
        let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        let change = |field: &str| {
            let [before, after] = ["before", "after"].map(|side| text(&format!("/{side}/{field}")));
            if before == after || before == "-" { after } else { format!("{before} -> {after}") }
        };
        // To the second; `-o json` is finer.
        let time = text("/time");
        let time = time.parse::<jiff::Timestamp>().map_or(time, |time| format!("{time:.0}"));
        let columns = [
            time,
            text("/app"),
            text("/trigger"),
            change("desired"),
            change("observed"),
            change("reason"),
            answer(entry),
        ];
        row(columns.map(Cell::from), with_app)
    }));
    lines(render(&rows, Layout { colour: false, width: None }))
}

fn row(cells: [Cell; 7], with_app: bool) -> Vec<Cell> {
    cells.into_iter().enumerate().filter(|(column, _)| *column != 1 || with_app).map(|(_, cell)| cell).collect()
}

/// The call and its answer: `stop: Accepted, HTTP 200, status active, online`.
fn answer(entry: &Value) -> String {
    let text = |pointer| entry.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let Some(action) = text("/action") else {
        // The entry is about the account, not an app.
        return text("/answer/error").map_or_else(|| "-".into(), |error| clip(&error, 120));
    };
    let http = entry.pointer("/answer/httpStatus").and_then(Value::as_u64).map(|code| format!("HTTP {code}"));
    let status = text("/answer/status").map(|status| format!("status {status}"));
    let online = entry.pointer("/answer/online").and_then(Value::as_bool);
    let online = online.map(|online| if online { "online" } else { "offline" }.to_owned());
    let error = text("/answer/error").map(|error| clip(&escape(&error), 120));
    let parts: Vec<String> = [text("/answer/result"), http, status, online, error].into_iter().flatten().collect();
    if parts.is_empty() { action } else { format!("{action}: {}", parts.join(", ")) }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::tests::hostile;

    /// An entry with `text` in each text field.
    pub(in super::super) fn of_others(text: &str) -> Value {
        let state = |desired: &str| json!({"desired": desired, "observed": text, "reason": text});
        json!({
            "time": text, "app": text, "trigger": text, "before": state("a"), "after": state(text), "action": text,
            "answer": {"result": text, "status": text, "error": text}
        })
    }

    proptest::proptest! {
        #[test]
        fn a_table_is_harmless(text in hostile()) {
            assert_page(&table(&[of_others(&text)], true), &table(&[of_others("x")], true));
        }
    }

    #[test]
    fn entries_as_lines() {
        let entries = [
            json!({
                "time": "2026-11-24T12:00:02.150Z", "app": "ticket-bot", "trigger": "reading", "revision": "9f2c41d",
                "before": {"desired": "Stopped", "observed": "Running", "reason": "Stopping"},
                "after": {"desired": "Stopped", "observed": "Stopped", "reason": "Settled"}, "action": null, "answer": null
            }),
            json!({
                "time": "2026-11-24T12:00:00Z", "app": "ticket-bot", "trigger": "edit",
                "before": null, "after": {"desired": "Stopped", "observed": "Running", "reason": "Stopping"},
                "action": "stop",
                "answer": {"result": "Accepted", "httpStatus": 200, "status": "active", "online": true, "error": null}
            }),
            json!({
                "time": "2026-11-24T11:00:00Z", "app": null, "trigger": "answer",
                "before": null, "after": {"desired": null, "observed": null, "reason": "RateLimited"}, "action": null,
                "answer": {"result": "RateLimited", "httpStatus": 429, "error": "listing apps: the server answered 429"}
            }),
            json!({"time": "later"}),
        ];
        insta::assert_snapshot!(table(&entries, true), @"
        TIME                  APP         TRIGGER  DESIRED  OBSERVED            REASON               ANSWER
        2026-11-24T12:00:02Z  ticket-bot  reading  Stopped  Running -> Stopped  Stopping -> Settled  -
        2026-11-24T12:00:00Z  ticket-bot  edit     Stopped  Running             Stopping             stop: Accepted, HTTP 200, status active, online
        2026-11-24T11:00:00Z  -           answer   -        -                   RateLimited          listing apps: the server answered 429
        later                 -           -        -        -                   -                    -
        ");
        assert!(!table(&entries, false).contains("ticket-bot"));
    }
}
