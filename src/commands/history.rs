//! `history`: past changes and calls, newest first.
//!
//! Entries stay JSON, because a newer daemon may send unknown words.

use super::client::{Daemon, unknown};
use super::text::{Cell, Layout, clip, escape, json, lines, print, print_data, print_note, render};
use super::{Exit, runtime};
use crate::cli::{HistoryArgs, HistoryOutput};
use crate::status::activity::ActivityItem;

pub(super) fn history(args: &HistoryArgs) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let name = args.name.as_deref();
        let (page, is_empty) = match args.output {
            HistoryOutput::Text => {
                let items = daemon.activity(name, args.limit).await?;
                (items.as_ref().map(|items| table(items, name.is_none())), items.is_some_and(|all| all.is_empty()))
            }
            HistoryOutput::Json => {
                let entries = daemon.history(name, args.limit).await?;
                let page =
                    entries.as_ref().map(|all| all.iter().map(json).collect::<Result<String, _>>()).transpose()?;
                (page, entries.is_some_and(|all| all.is_empty()))
            }
        };
        let Some(page) = page else { return Err(daemon.too_old().await) };
        if let Some(name) = name.filter(|_| is_empty) {
            // A released app may have a history; an unknown name is a typing error.
            let known = daemon.apps().await?;
            if !known.contains_key(name) {
                return Err(unknown(name, &known));
            }
        }
        match args.output {
            HistoryOutput::Text if is_empty => print_note("no entries"),
            HistoryOutput::Text => print(&page)?,
            HistoryOutput::Json => print_data(&page)?,
        }
        Ok(Exit::Done)
    })
}

/// Longest text of the last column; `-o json` has the whole text.
const LONGEST: usize = 160;

/// A table, with a column for the app if there are several. Usual rows fit 80 columns.
pub(super) fn table(items: &[ActivityItem], with_app: bool) -> String {
    let row = |cells: [Cell; 4]| {
        let shown = cells.into_iter().enumerate().filter(|(column, _)| *column != 1 || with_app);
        shown.map(|(_, cell)| cell).collect::<Vec<_>>()
    };
    let mut rows = vec![row(["TIME (UTC)", "APP", "CAUSE", "CHANGE"].map(Cell::from))];
    rows.extend(items.iter().map(|item| {
        let revision = Some(&*item.revision).filter(|text| !text.is_empty() && item.trigger == "Edit");
        let cause = if item.trigger == "Start" { "operator start".to_owned() } else { item.trigger.to_lowercase() };
        let cause = revision.map_or(cause.clone(), |revision| format!("{cause} {}", clip(revision, 8)));
        row([
            item.time.strftime("%m-%d %H:%M:%S").to_string().into(),
            clip(&escape(item.app.as_deref().unwrap_or("-")), 20).into(),
            cause.into(),
            clip(&item.words, LONGEST).into(),
        ])
    }));
    lines(render(&rows, Layout { colour: false, width: None }))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::tests::hostile;

    /// An item with `text` in each text field.
    pub(in super::super) fn of_others(text: &str) -> ActivityItem {
        let state = json!({"desired": text, "observed": text, "reason": text});
        let item = json!({
            "time": "2026-11-24T12:00:00Z", "endedAt": "2026-11-24T12:00:02Z", "app": text, "appId": text,
            "trigger": "Edit", "revision": text, "before": state, "after": state, "action": text,
            "answer": {"result": text, "status": text, "error": text}, "calls": 1, "failedCalls": 0, "times": 1, "words": text
        });
        serde_json::from_value(item).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn a_table_is_harmless(text in hostile()) {
            assert_page(&table(&[of_others(&text)], true), &table(&[of_others("x")], true));
        }
    }

    #[test]
    fn stories_as_lines() {
        let item = |app: Value, trigger: &str, words: &str| {
            let mut item = serde_json::to_value(of_others("9f2c41d0")).unwrap();
            (item["app"], item["trigger"], item["words"]) = (app, trigger.into(), words.into());
            serde_json::from_value::<ActivityItem>(item).unwrap()
        };
        let items = [
            item("ticket-bot".into(), "Edit", "stopped after 2 s"),
            item("ticket-bot".into(), "Drift", "stopped (x5 over 2 min)"),
            item(Value::Null, "Answer", "RateLimited: the server answered 429"),
        ];
        let page = table(&items, true);
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        insta::assert_snapshot!(page, @"
        TIME (UTC)      APP         CAUSE          CHANGE
        11-24 12:00:00  ticket-bot  edit 9f2c41d0  stopped after 2 s
        11-24 12:00:00  ticket-bot  drift          stopped (x5 over 2 min)
        11-24 12:00:00  -           answer         RateLimited: the server answered 429
        ");
        assert!(!table(&items, false).contains("ticket-bot"));
    }
}
