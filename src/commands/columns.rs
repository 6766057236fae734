//! The columns of `get`, in one table: title, text and order.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::client::App;
use super::text::{Cell, SHORTEST_NAME, span, widths};
use crate::cli::SortBy;

/// One column.
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Only in a wide table.
    is_wide: bool,
    /// True if the text changes as time passes, without an event.
    pub(super) ticks: bool,
    pub(super) cell: fn(&App, Timestamp) -> Cell,
}

const fn column(title: &'static str, cell: fn(&App, Timestamp) -> Cell) -> Column {
    Column { title, is_wide: false, ticks: false, cell }
}

const COLUMNS: [Column; 10] = [
    column("NAME", |app, _| or_dash(app.name())),
    column("DESIRED", |app, _| or_dash(app.status.desired.as_deref().unwrap_or_default())),
    column("OBSERVED", |app, _| or_dash(&app.status.observed)),
    column("READY", |app, _| ready(app)),
    column("REASON", |app, _| or_dash(app.reason())),
    Column { ticks: true, ..column("NEXT", |app, now| Next::of(app).words(now).into()) },
    Column {
        ticks: true,
        ..column("AGE", |app, now| since(app).map_or_else(|| "-".into(), |at| span(at, now).into()))
    },
    Column { is_wide: true, ..column("APP-ID", |app, _| or_dash(app.spec.as_ref().map_or("", |spec| &spec.app_id))) },
    Column { is_wide: true, ..column("SOURCE", |app, _| source(app)) },
    Column {
        is_wide: true,
        ..column("MESSAGE", |app, _| or_dash(app.condition("Ready").map_or("", |ready| &ready.message)))
    },
];

/// The columns of a table.
pub(super) fn columns(wide: bool) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| wide || !column.is_wide)
}

/// Columns to drop on a narrow terminal, in this order.
const DISPENSABLE: [&str; 5] = ["AGE", "READY", "SOURCE", "DESIRED", "APP-ID"];
/// Minimum width of the message, the last column.
const SHORTEST_MESSAGE: usize = 20;

/// Removes whole columns until a narrow table fits, because a truncated number misleads. The first row has the titles.
pub(super) fn fitting(mut rows: Vec<Vec<Cell>>, width: usize) -> Vec<Vec<Cell>> {
    for title in DISPENSABLE {
        let mut widths = widths(&rows);
        if rows[0].last() == Some(&Cell::from("MESSAGE"))
            && let Some(message) = widths.last_mut()
        {
            *message = SHORTEST_MESSAGE.min(*message);
        }
        let name = widths.first().copied().unwrap_or_default().min(SHORTEST_NAME);
        if name + widths.iter().skip(1).map(|column| column + 2).sum::<usize>() <= width {
            break;
        }
        let Some(at) = rows[0].iter().position(|cell| *cell == Cell::from(title)) else { continue };
        for row in &mut rows {
            row.remove(at);
        }
    }
    rows
}

fn or_dash(text: &str) -> Cell {
    Cell::from(if text.is_empty() { "-" } else { text })
}

fn ready(app: &App) -> Cell {
    let truth = app.truth("Ready");
    let colour = match truth {
        "True" => "32",
        _ if app.truth("Stalled") == "True" => "31",
        _ => "33",
    };
    Cell::new(truth, Some(colour))
}

/// The time at which READY last changed.
fn since(app: &App) -> Option<Timestamp> {
    app.condition("Ready")?.last_transition_time
}

fn source(app: &App) -> Cell {
    let source = &app.status.source;
    let line = if source.line == 0 { String::new() } else { format!(":{}", source.line) };
    or_dash(&format!("{}{line}", source.file))
}

/// The next event of an app.
struct Next {
    word: String,
    at: Option<Timestamp>,
}

impl Next {
    /// The next attempt after a failure, otherwise the next change of the desired state, otherwise the next read.
    fn of(app: &App) -> Self {
        let action = |state: &str| match state {
            "Stopped" => "stop".to_owned(),
            "Running" => "start".to_owned(),
            other => other.to_owned(),
        };
        let status = &app.status;
        if let Some(at) = status.next_attempt_at {
            let differs = status.desired.as_deref() != Some(&*status.observed);
            let action = status.desired.as_deref().filter(|_| differs).map(action);
            return Self {
                word: ["retry".to_owned()].into_iter().chain(action).collect::<Vec<_>>().join(" "),
                at: Some(at),
            };
        }
        match (&status.next_transition, status.next_look_at) {
            (Some(transition), _) => Self { word: action(&transition.state), at: Some(transition.at) },
            (None, at) => Self { word: "read".into(), at },
        }
    }

    fn words(&self, now: Timestamp) -> String {
        self.at.map_or_else(|| "-".into(), |at| format!("{} {}", self.word, span(now, at)))
    }
}

/// The order of two apps; equal apps are sorted by name.
pub(super) fn order(by: SortBy, one: &App, other: &App) -> Ordering {
    let latest_first = |one: &App, other: &App| since(other).cmp(&since(one));
    // Apps without a time come last.
    let next = |app: &App| Next::of(app).at.map_or((true, Timestamp::MAX), |at| (false, at));
    let order = match by {
        SortBy::Group => one.group().cmp(&other.group()),
        SortBy::Name => Ordering::Equal,
        SortBy::Desired => one.status.desired.cmp(&other.status.desired),
        SortBy::Observed => one.status.observed.cmp(&other.status.observed),
        SortBy::Reason => one.reason().cmp(other.reason()),
        SortBy::Next => next(one).cmp(&next(other)),
        SortBy::Age => latest_first(one, other),
    };
    order.then_with(|| one.name().cmp(other.name()))
}

/// The order of a watch on a terminal: apps that need attention first, then the newest changes.
pub(super) fn order_of_watch(one: &App, other: &App) -> Ordering {
    let group = one.group().cmp(&other.group());
    group.then_with(|| order(SortBy::Age, one, other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(name: &str, group: &str, ready_since: &str, status: &serde_json::Value) -> App {
        let mut app = json!({"metadata": {"name": name}, "status": {"desired": "Stopped", "observed": "Running", "group": group,
            "conditions": [{"type": "Ready", "status": "False", "reason": group, "lastTransitionTime": ready_since}]}});
        for (key, value) in status.as_object().unwrap() {
            app["status"][key] = value.clone();
        }
        app.try_into().unwrap()
    }

    fn next(status: &serde_json::Value) -> String {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        Next::of(&app("a", "", "2026-11-24T11:00:00Z", status)).words(now)
    }

    #[test]
    fn next_shows_an_attempt_before_a_transition_before_a_read() {
        let (read, attempt) = ("2026-11-24T12:00:42Z", "2026-11-24T12:00:07Z");
        let transition = json!({"at": "2026-11-24T15:00:00Z", "state": "Running"});
        assert_eq!(next(&json!({})), "-");
        assert_eq!(next(&json!({"nextLookAt": read})), "read 42s");
        assert_eq!(next(&json!({"nextLookAt": read, "nextTransition": transition})), "start 3h");
        let all = json!({"nextLookAt": read, "nextTransition": transition, "nextAttemptAt": attempt});
        assert_eq!(next(&all), "retry stop 7s");
        assert_eq!(next(&json!({"nextAttemptAt": attempt, "observed": "Stopped"})), "retry 7s");
    }

    #[test]
    fn a_narrow_table_loses_whole_columns() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let status = json!({"nextLookAt": "2026-11-24T12:00:42Z"});
        let header: Vec<Cell> = columns(false).map(|column| column.title.into()).collect();
        let app = app("a-bot-with-a-long-name", "SuspendedByPlatform", "2026-11-24T11:00:00Z", &status);
        let rows = vec![header, columns(false).map(|column| (column.cell)(&app, now)).collect()];
        let titles = |width| fitting(rows.clone(), width)[0].len();
        assert_eq!([80, 70, 65, 60].map(titles), [7, 5, 4, 4]);
        assert!(fitting(rows.clone(), 60)[1].contains(&"read 42s".into()));
    }

    #[test]
    fn apps_that_need_attention_come_first() {
        let plain = json!({});
        let mut apps = [
            app("a", "Settled", "2026-11-24T11:00:00Z", &plain),
            app("b", "Settled", "2026-11-24T11:30:00Z", &plain),
            app("c", "InTrouble", "2026-11-24T11:00:00Z", &plain),
            app("d", "NeedsPerson", "2026-11-24T11:00:00Z", &json!({"nextLookAt": "2026-11-24T12:00:42Z"})),
        ];
        let mut sorted = |order: &dyn Fn(&App, &App) -> Ordering| {
            apps.sort_by(|one, other| order(one, other));
            apps.iter().map(|app| app.name().to_owned()).collect::<String>()
        };
        assert_eq!(sorted(&|one, other| order(SortBy::Group, one, other)), "dcab");
        assert_eq!(sorted(&order_of_watch), "dcba");
        assert_eq!(sorted(&|one, other| order(SortBy::Name, one, other)), "abcd");
        assert_eq!(sorted(&|one, other| order(SortBy::Age, one, other)), "bacd");
        assert_eq!(sorted(&|one, other| order(SortBy::Next, one, other)), "dabc");
    }
}
