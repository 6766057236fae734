//! `get`: desired and observed state of many apps, and the reason for each.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use terminal_size::{Height, Width, terminal_size};

use super::client::{App, Daemon, Follow, NOT_LOADED, unknown};
use super::columns::{columns, fitting, order, order_of_watch};
use super::text::{
    Cell, Closed, Layout, clip, escape, json, json_pretty, lines, print, print_data, print_error, print_live,
    print_note, render, widths, yaml,
};
use super::{Exit, runtime};
use crate::cli::{Color, GetArgs, GetOutput, SortBy};
use crate::clock::Clock;
use crate::printable;
use crate::reconcile::group::Group;
use crate::reconcile::reason::Reason;
use crate::status::API_VERSION;
use crate::telemetry;

/// Assumed size of a terminal that does not report its own.
const SIZE: (usize, usize) = (80, 24);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn get(args: &GetArgs, color: Color) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    let view = View {
        output: args.output,
        single: args.names.len() == 1,
        colour: telemetry::colour(color, &io::stdout()),
        terminal: io::stdout().is_terminal() && !telemetry::is_dumb(),
        no_headers: args.no_headers,
    };
    runtime()?.block_on(async {
        if args.undeclared {
            return undeclared(&daemon, args).await;
        }
        if args.watch {
            return watch(args, view, Follow::start(daemon).await?).await;
        }
        let all = match args.names.as_slice() {
            // One app does not need a list of ten thousand.
            [name] => BTreeMap::from([(name.clone(), daemon.app(name).await?)]),
            _ => daemon.apps().await?,
        };
        let (mut chosen, missing) = choose(&all, args);
        let default = if view.terminal { SortBy::Group } else { SortBy::Name };
        if let Some(by) = args.sort_by.or(Some(default).filter(|_| args.names.is_empty())) {
            chosen.sort_by(|one, other| order(by, one, other));
        }
        if !chosen.is_empty() || missing.is_empty() {
            view.print(&view.page(&chosen, Clock::wall_now())?)?;
        }
        if chosen.iter().any(|app| app.reason() == Reason::Standby.as_str())
            && let Some(note) = daemon.standby().await?
        {
            print_note(&note);
        }
        if chosen.is_empty() && missing.is_empty() && view.is_table() {
            print_note(match (all.is_empty(), daemon.loaded().await?) {
                (true, false) => NOT_LOADED,
                (true, true) => "no manifest declares an app",
                (false, _) => "no matching apps",
            });
            if let Some(count) = daemon.status().await?["undeclared"]["count"].as_u64().filter(|count| *count > 0) {
                print_note(&format!("{count} apps of the account are not declared: campos-operator import"));
            }
        }
        missing_names(missing, &all)
    })
}

/// Prints the apps that no manifest declares.
async fn undeclared(daemon: &Daemon, args: &GetArgs) -> anyhow::Result<Exit> {
    let status = daemon.status().await?;
    let undeclared = &status["undeclared"];
    if status.get("undeclared").is_none() {
        return Err(daemon.too_old().await);
    }
    let Some(count) = undeclared["count"].as_u64() else {
        print_note("no complete list of apps yet; try again in a moment");
        return Ok(Exit::Done);
    };
    match args.output {
        Some(GetOutput::Json) => return print_data(&json_pretty(undeclared)?).map(|()| Exit::Done),
        Some(GetOutput::Yaml) => return print_data(&yaml(undeclared)?).map(|()| Exit::Done),
        None | Some(GetOutput::Wide | GetOutput::Name) => {}
    }
    let apps = undeclared["apps"].as_array().map_or(&[][..], Vec::as_slice);
    if count == 0 {
        print_note("every app of the account is declared");
        return Ok(Exit::Done);
    }
    let text = |value: &serde_json::Value| Cell::from(value.as_str().unwrap_or("-"));
    let header = Some(vec!["APP-ID".into(), "NAME".into()]).filter(|_| !args.no_headers);
    let rows: Vec<_> =
        header.into_iter().chain(apps.iter().map(|app| vec![text(&app["appId"]), text(&app["name"])])).collect();
    print(&lines(render(&rows, Layout { colour: false, width: None })))?;
    let more = count.saturating_sub(apps.len() as u64);
    if more > 0 {
        print_note(&format!("and {more} more"));
    }
    print_note("to write their manifests: campos-operator import");
    Ok(Exit::Done)
}

/// The apps that match the arguments, and the names that no app has.
fn choose<'a>(all: &'a BTreeMap<String, App>, args: &'a GetArgs) -> (Vec<&'a App>, Vec<&'a str>) {
    if args.names.is_empty() {
        let matches = |app: &&App| {
            let label = |key: &str| app.metadata.labels.get(key).map(|value| &**value);
            args.selector.iter().all(|selector| selector.matches(label))
                && (args.reason.is_empty() || args.reason.iter().any(|reason| reason.as_str() == app.reason()))
                && !(args.not_ready && app.truth("Ready") == "True")
        };
        return (all.values().filter(matches).collect(), vec![]);
    }
    let mut names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    // A repeated name is one app; the order is that of the arguments.
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let (found, missing): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| all.contains_key(*name));
    (found.into_iter().filter_map(|name| all.get(name)).collect(), missing)
}

/// Reports every missing name, after the found apps are printed.
pub(super) fn missing_names(missing: Vec<&str>, all: &BTreeMap<String, App>) -> anyhow::Result<Exit> {
    let mut errors = missing.into_iter().map(|name| unknown(name, all));
    let Some(last) = errors.next_back() else { return Ok(Exit::Done) };
    errors.for_each(|error| print_error(&error));
    Err(last)
}

/// Output format of apps.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the output")]
#[derive(Debug, Clone, Copy)]
struct View {
    output: Option<GetOutput>,
    /// One app was named: print its object, not a list of one.
    single: bool,
    colour: bool,
    terminal: bool,
    no_headers: bool,
}

impl View {
    fn layout(self) -> Layout {
        Layout { colour: self.colour, width: self.terminal.then(|| size().0) }
    }

    fn is_wide(self) -> bool {
        self.output == Some(GetOutput::Wide)
    }

    fn is_table(self) -> bool {
        self.output.is_none() || self.is_wide()
    }

    fn print(self, page: &str) -> anyhow::Result<()> {
        self.print_live(page).map(|_| ())
    }

    fn print_live(self, page: &str) -> anyhow::Result<Result<(), Closed>> {
        match self.output {
            None | Some(GetOutput::Wide | GetOutput::Name) => print_live(&printable::page(page)),
            Some(GetOutput::Json | GetOutput::Yaml) => print_live(page),
        }
    }

    /// The output for all of `apps`.
    fn page(self, apps: &[&App], now: Timestamp) -> anyhow::Result<String> {
        let object = || match apps {
            [app] if self.single => app.raw.clone(),
            _ => {
                let items: Vec<_> = apps.iter().map(|app| &app.raw).collect();
                json!({"apiVersion": API_VERSION, "kind": "AppList", "items": items})
            }
        };
        Ok(match self.output {
            None | Some(GetOutput::Wide) if apps.is_empty() => String::new(),
            None | Some(GetOutput::Wide) => lines(render(&self.rows(apps, now), self.layout())),
            Some(GetOutput::Name) => lines(apps.iter().map(|app| escape(app.name()))),
            Some(GetOutput::Json) => json_pretty(&object())?,
            Some(GetOutput::Yaml) => yaml(&object())?,
        })
    }

    fn rows(self, apps: &[&App], now: Timestamp) -> Vec<Vec<Cell>> {
        let header: Vec<Cell> = columns(self.is_wide()).map(|column| column.title.into()).collect();
        let rows: Vec<_> = apps.iter().map(|app| row(app, self.is_wide(), now)).collect();
        let rows = [vec![header], rows].concat();
        let mut rows = match self.layout().width {
            Some(width) => fitting(rows, width),
            None => rows,
        };
        if self.no_headers {
            rows.remove(0);
        }
        rows
    }

    /// One change of a watch, for a reader that takes line after line.
    fn change(self, name: &str, app: Option<&App>, widths: &[usize], now: Timestamp) -> anyhow::Result<String> {
        let removed = || json!({"apiVersion": API_VERSION, "kind": "App", "metadata": {"name": name}, "removed": true});
        let object = || app.map_or_else(removed, |app| app.raw.clone());
        Ok(match self.output {
            Some(GetOutput::Name) => format!("{}\n", escape(name)),
            Some(GetOutput::Json) => json(&object())?,
            Some(GetOutput::Yaml) => format!("---\n{}", yaml(&object())?),
            None | Some(GetOutput::Wide) => {
                let gone = || ["-", "-", "-", "Removed", "-", "-"].map(Cell::from);
                let row = match app {
                    Some(app) => row(app, self.is_wide(), now),
                    None => std::iter::once(name.into()).chain(gone()).collect(),
                };
                // Padded like the first table, so that the columns stay in place.
                let pad = widths.iter().map(|width| Cell::from(" ".repeat(*width))).collect();
                lines(&render(&[pad, row], self.layout())[1..])
            }
        })
    }
}

fn size() -> (usize, usize) {
    terminal_size().map_or(SIZE, |(Width(width), Height(height))| (width.into(), height.into()))
}

fn row(app: &App, wide: bool, now: Timestamp) -> Vec<Cell> {
    columns(wide).map(|column| (column.cell)(app, now)).collect()
}

/// Prints changes until the reader closes the pipe.
async fn watch(args: &GetArgs, view: View, mut follow: Follow) -> anyhow::Result<Exit> {
    let (_, missing) = choose(&follow.apps, args);
    missing_names(missing, &follow.apps)?;
    if view.terminal && view.is_table() {
        return redraw(args, view, follow).await;
    }
    let mut printed: BTreeMap<String, App> = BTreeMap::new();
    let mut lost: Option<String> = None;
    let mut columns: Option<Vec<usize>> = None;
    loop {
        let now = Clock::wall_now();
        let chosen = chosen(&follow, args);
        if let Some(columns) = &columns {
            // An app that no longer matches the filters is shown as it is now.
            let gone = printed.keys().filter(|name| !chosen.contains_key(*name));
            let gone = gone.map(|name| (name, follow.apps.get(name)));
            let changed =
                chosen.iter().filter(|(name, app)| printed.get(*name).is_none_or(|before| differs(before, app, view)));
            for (name, app) in gone.chain(changed.map(|(name, app)| (name, Some(app)))) {
                if view.print_live(&view.change(name, app, columns, now)?)? == Err(Closed) {
                    return Ok(Exit::Done);
                }
            }
        } else {
            let apps: Vec<&App> = chosen.values().collect();
            let (text, first) = first(view, &apps, now)?;
            if view.print_live(&text)? == Err(Closed) {
                return Ok(Exit::Done);
            }
            columns = Some(first);
        }
        printed = chosen;
        if follow.lost != lost {
            match &follow.lost {
                Some(why) if lost.is_none() => {
                    print_note(&format!("lost the connection to the daemon: {}; retrying", escape(why)));
                }
                None => print_note("the daemon answers again"),
                Some(_) => {}
            }
            lost.clone_from(&follow.lost);
        }
        follow.next().await;
    }
}

/// The first output of a watch, and the widths of its columns, which later lines keep.
fn first(view: View, apps: &[&App], now: Timestamp) -> anyhow::Result<(String, Vec<usize>)> {
    if !view.is_table() {
        let all: anyhow::Result<String> = apps.iter().map(|app| view.change(app.name(), Some(app), &[], now)).collect();
        return Ok((all?, Vec::new()));
    }
    let rows = view.rows(apps, now);
    Ok((lines(render(&rows, view.layout())), widths(&rows)))
}

fn chosen(follow: &Follow, args: &GetArgs) -> BTreeMap<String, App> {
    choose(&follow.apps, args).0.into_iter().map(|app| (app.name().to_owned(), app.clone())).collect()
}

/// Whether to print a change. A table has no line for a read without a change.
fn differs(before: &App, after: &App, view: View) -> bool {
    match view.output {
        Some(GetOutput::Json | GetOutput::Yaml) => before != after,
        Some(GetOutput::Name | GetOutput::Wide) | None => {
            steady(before, view.is_wide()) != steady(after, view.is_wide())
        }
    }
}

/// The columns that change only with an event.
fn steady(app: &App, wide: bool) -> Vec<Cell> {
    let row = row(app, wide, Timestamp::UNIX_EPOCH);
    columns(wide).zip(row).filter(|(column, _)| !column.ticks).map(|(_, cell)| cell).collect()
}

/// Draws the table again at each change, and each second because of its times.
async fn redraw(args: &GetArgs, view: View, mut follow: Follow) -> anyhow::Result<Exit> {
    let mut drawn = 0;
    loop {
        let (chosen, lost) = (chosen(&follow, args), follow.lost.clone());
        let mut apps: Vec<&App> = chosen.values().collect();
        apps.sort_by(|one, other| args.sort_by.map_or_else(|| order_of_watch(one, other), |by| order(by, one, other)));
        let mut change = std::pin::pin!(follow.next());
        loop {
            let frame = frame(view, &apps, lost.as_deref());
            let up = if drawn > 0 { format!("\x1b[{drawn}A\r\x1b[J") } else { String::new() };
            if print_live(&(up + &printable::page(&lines(&frame))))? == Err(Closed) {
                return Ok(Exit::Done);
            }
            drawn = frame.len();
            tokio::select! {
                () = &mut change => break,
                () = tokio::time::sleep(SECOND) => {}
            }
        }
    }
}

/// Totals, the apps that fit the window, and a line about the connection.
fn frame(view: View, apps: &[&App], lost: Option<&str>) -> Vec<String> {
    let (width, height) = size();
    let mut frame = vec![clip(&totals(apps), width)];
    frame.extend(render(&view.rows(apps, Clock::wall_now()), view.layout()));
    let room = height.saturating_sub(3).max(1);
    let hidden = frame.len().saturating_sub(room);
    frame.truncate(room);
    if hidden > 0 {
        frame
            .push(clip(&format!("... and {hidden} more; enlarge the window, or filter with -l or --not-ready"), width));
    }
    let state =
        lost.map_or("live; press Ctrl-C to stop".into(), |why| format!("DISCONNECTED: {}; retrying", escape(why)));
    frame.push(clip(&state, width));
    frame
}

/// Returns the number of apps of each group: `300 apps: 297 settled, 2 in progress, 1 needs a person`.
fn totals(apps: &[&App]) -> String {
    let count = |group: Group| apps.iter().filter(|app| app.group() == group).count();
    let groups = Group::ALL.into_iter().rev().map(|group| (group, count(group))).filter(|(_, count)| *count > 0);
    let groups: Vec<String> = groups.map(|(group, count)| format!("{count} {}", group.label(count))).collect();
    let s = if apps.len() == 1 { "" } else { "s" };
    format!("{} app{s}: {}", apps.len(), groups.join(", ")).trim_end_matches([':', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::commands::text::tests::{assert_page, of_others};
    use crate::printable::{acts, tests::hostile};

    fn example() -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": "App",
            "metadata": {"name": "ticket-bot", "labels": {"team": "support"}, "generation": 3},
            "spec": {"appId": "60c72b2f9b1e8d001c8e4f3a", "state": "Stopped"},
            "status": {
                "desired": "Stopped", "observed": "Running", "source": {"file": "bots/ticket-bot.yaml", "line": 1},
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "SuspendedByPlatform",
                     "message": "a\u{1b}[31m message", "lastTransitionTime": "2026-11-24T11:59:00Z"},
                    {"type": "Stalled", "status": "False"}
                ],
                "nextLookAt": "2026-11-24T12:00:42Z", "nextTransition": null
            }
        })
    }

    fn read(raw: Value) -> App {
        raw.try_into().unwrap()
    }

    fn at_noon() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_widest_words_fit_80_columns() {
        let view = View { output: None, single: false, colour: false, terminal: false, no_headers: false };
        insta::assert_snapshot!(view.page(&[&read(example())], at_noon()).unwrap(), @r"
        NAME        DESIRED  OBSERVED  READY  REASON               NEXT      AGE
        ticket-bot  Stopped  Running   False  SuspendedByPlatform  read 42s  60s
        ");
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        let view =
            View { output: Some(GetOutput::Wide), single: false, colour: false, terminal: false, no_headers: false };
        let page = view.page(&[&read(example())], at_noon()).unwrap();
        assert!(!page.contains('\x1b') && page.contains("bots/ticket-bot.yaml:1"), "{page}");
    }

    proptest::proptest! {
        #[test]
        fn every_output_is_harmless(text in hostile()) {
            let app = of_others(&text);
            for output in [None, Some(GetOutput::Wide), Some(GetOutput::Name)] {
                let view = View { output, single: false, colour: false, terminal: false, no_headers: false };
                assert_page(&view.page(&[&app], at_noon()).unwrap(), &view.page(&[&of_others("x")], at_noon()).unwrap());
                assert_page(&lines(frame(view, &[&app], Some(&text))), &lines(frame(view, &[&app], Some("x"))));
            }
            for output in [GetOutput::Json, GetOutput::Yaml] {
                let view = View { output: Some(output), single: true, colour: false, terminal: false, no_headers: false };
                let page = view.page(&[&app], at_noon()).unwrap();
                assert!(!page.contains(|c| c != '\n' && acts(c)), "{page:?}");
                let read: Value = if output == GetOutput::Json {
                    serde_json::from_str(&page).unwrap()
                } else {
                    serde_yaml::from_str(&page).unwrap()
                };
                assert_eq!(read, app.raw);
            }
        }
    }

    #[test]
    fn a_read_is_no_change() {
        let view = View { output: None, single: false, colour: false, terminal: false, no_headers: false };
        let (before, mut after) = (read(example()), example());
        after["status"]["nextLookAt"] = "2026-11-24T12:01:42Z".into();
        assert!(!differs(&before, &read(after.clone()), view));
        after["status"]["observed"] = "Stopped".into();
        assert!(differs(&before, &read(after), view));
    }
}
