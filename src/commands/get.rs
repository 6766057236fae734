//! `get`: desired and observed state of many apps, and the reason for each.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use terminal_size::{Height, Width, terminal_size};

use super::client::{App, Daemon, Follow, NOT_LOADED, unknown};
use super::text::{
    Cell, Closed, Layout, clip, escape, json, json_pretty, lines, print, print_data, print_error, print_live,
    print_note, render, span, widths, yaml,
};
use super::{Exit, runtime};
use crate::cli::{Color, GetArgs, GetOutput};
use crate::clock::Clock;
use crate::printable;
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
    };
    runtime()?.block_on(async {
        if args.undeclared {
            return undeclared(&daemon, args.output).await;
        }
        if args.watch {
            return watch(args, view, Follow::start(daemon).await?).await;
        }
        let all = match args.names.as_slice() {
            // One app does not need a list of ten thousand.
            [name] => BTreeMap::from([(name.clone(), daemon.app(name).await?)]),
            _ => daemon.apps().await?,
        };
        let (chosen, missing) = choose(&all, args);
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
                (false, _) => "no app has these labels",
            });
            if let Some(count) = daemon.status().await?["undeclared"]["count"].as_u64().filter(|count| *count > 0) {
                print_note(&format!("{count} apps of the account are not declared: campos-operator import"));
            }
        }
        missing_names(missing, &all)
    })
}

/// Prints the apps that no manifest declares.
async fn undeclared(daemon: &Daemon, output: Option<GetOutput>) -> anyhow::Result<Exit> {
    let status = daemon.status().await?;
    let undeclared = &status["undeclared"];
    let Some(count) = undeclared["count"].as_u64() else {
        print_note("the list of apps is not complete yet");
        return Ok(Exit::Done);
    };
    match output {
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
    let rows = std::iter::once(vec!["APP-ID".into(), "NAME".into()]);
    let rows: Vec<_> = rows.chain(apps.iter().map(|app| vec![text(&app["appId"]), text(&app["name"])])).collect();
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
        };
        return (all.values().filter(matches).collect(), vec![]);
    }
    let mut names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    // A name given twice is one app; the order is the caller's.
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let (found, missing): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| all.contains_key(*name));
    (found.into_iter().filter_map(|name| all.get(name)).collect(), missing)
}

/// Reports every missing name, after what was found has been printed.
pub(super) fn missing_names(missing: Vec<&str>, all: &BTreeMap<String, App>) -> anyhow::Result<Exit> {
    let mut errors = missing.into_iter().map(|name| unknown(name, all));
    let Some(last) = errors.next_back() else { return Ok(Exit::Done) };
    errors.for_each(|error| print_error(&error));
    Err(last)
}

/// The form in which apps are printed.
#[derive(Debug, Clone, Copy)]
struct View {
    output: Option<GetOutput>,
    /// One app was named: print its object, not a list of one.
    single: bool,
    colour: bool,
    terminal: bool,
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

    /// All of `apps`, ready to be printed.
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
        let wide = self.is_wide();
        std::iter::once(header(wide)).chain(apps.iter().map(|app| row(app, wide, now))).collect()
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

fn header(wide: bool) -> Vec<Cell> {
    let narrow = ["NAME", "DESIRED", "OBSERVED", "READY", "REASON", "NEXT", "AGE"];
    let more: &[&str] = if wide { &["APP-ID", "SOURCE", "MESSAGE"] } else { &[] };
    narrow.iter().chain(more).map(|&title| title.into()).collect()
}

fn row(app: &App, wide: bool, now: Timestamp) -> Vec<Cell> {
    let or_dash = |text: &str| Cell::from(if text.is_empty() { "-" } else { text });
    let (status, ready) = (&app.status, app.condition("Ready"));
    let truth = app.truth("Ready");
    let colour = Some(match truth {
        "True" => "32",
        _ if app.truth("Stalled") == "True" => "31",
        _ => "33",
    });
    let since = ready.and_then(|ready| ready.last_transition_time);
    let mut row = vec![
        or_dash(app.name()),
        or_dash(status.desired.as_deref().unwrap_or_default()),
        or_dash(&status.observed),
        Cell::new(truth, colour),
        or_dash(app.reason()),
        next(app, now).into(),
        since.map_or_else(|| "-".into(), |since| span(since, now).into()),
    ];
    if wide {
        let line = if status.source.line == 0 { String::new() } else { format!(":{}", status.source.line) };
        row.push(or_dash(app.spec.as_ref().map_or("", |spec| &spec.app_id)));
        row.push(or_dash(&format!("{}{line}", status.source.file)));
        row.push(or_dash(ready.map_or("", |ready| &ready.message)));
    }
    row
}

/// The next change of the desired state, otherwise the next read.
fn next(app: &App, now: Timestamp) -> String {
    // The end of a pause of all requests is more pressing than a schedule.
    let held = [Reason::RateLimited, Reason::ApiUnavailable, Reason::AccountBlocked, Reason::AccountForbidden];
    let held = held.iter().any(|reason| reason.as_str() == app.reason());
    match (app.status.next_transition.as_ref().filter(|_| !held), app.status.next_look_at) {
        (Some(transition), _) => {
            let action = match &*transition.state {
                "Stopped" => "stop",
                "Running" => "start",
                other => other,
            };
            format!("{action} {}", span(now, transition.at))
        }
        (None, Some(at)) => format!("{} {}", if held { "retry" } else { "look" }, span(now, at)),
        (None, None) => "-".into(),
    }
}

/// Prints changes until the reader goes away.
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
            let gone = printed.keys().filter(|name| !chosen.contains_key(*name)).map(|name| (name, None));
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

/// Whether a change is worth a line. A table has no line for a read that found nothing new.
fn differs(before: &App, after: &App, view: View) -> bool {
    match view.output {
        Some(GetOutput::Json | GetOutput::Yaml) => before != after,
        Some(GetOutput::Name | GetOutput::Wide) | None => {
            steady(before, view.is_wide()) != steady(after, view.is_wide())
        }
    }
}

/// The columns that do not change with the clock alone.
fn steady(app: &App, wide: bool) -> Vec<Cell> {
    let row = row(app, wide, Timestamp::UNIX_EPOCH);
    row.into_iter().enumerate().filter(|(column, _)| ![5, 6].contains(column)).map(|(_, cell)| cell).collect()
}

/// Draws the table again in its place at each change, and each second because of its times.
async fn redraw(args: &GetArgs, view: View, mut follow: Follow) -> anyhow::Result<Exit> {
    let mut drawn = 0;
    loop {
        let (chosen, lost) = (chosen(&follow, args), follow.lost.clone());
        let apps: Vec<&App> = chosen.values().collect();
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

/// The apps that fit the window, and a line that says whether they are up to date.
fn frame(view: View, apps: &[&App], lost: Option<&str>) -> Vec<String> {
    let (width, height) = size();
    let mut frame = render(&view.rows(apps, Clock::wall_now()), view.layout());
    let room = height.saturating_sub(3).max(1);
    let hidden = frame.len().saturating_sub(room);
    frame.truncate(room);
    if hidden > 0 {
        frame.push(clip(&format!("... and {hidden} more; a taller window or -l shows them"), width));
    }
    let state = lost.map_or("live; ctrl-c ends".into(), |why| format!("DISCONNECTED: {}; retrying", escape(why)));
    frame.push(clip(&state, width));
    frame
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
        let view = View { output: None, single: false, colour: false, terminal: false };
        insta::assert_snapshot!(view.page(&[&read(example())], at_noon()).unwrap(), @r"
        NAME        DESIRED  OBSERVED  READY  REASON               NEXT      AGE
        ticket-bot  Stopped  Running   False  SuspendedByPlatform  look 42s  60s
        ");
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        let view = View { output: Some(GetOutput::Wide), single: false, colour: false, terminal: false };
        let page = view.page(&[&read(example())], at_noon()).unwrap();
        assert!(!page.contains('\x1b') && page.contains("bots/ticket-bot.yaml:1"), "{page}");
    }

    proptest::proptest! {
        #[test]
        fn every_output_is_harmless(text in hostile()) {
            let app = of_others(&text);
            for output in [None, Some(GetOutput::Wide), Some(GetOutput::Name)] {
                let view = View { output, single: false, colour: false, terminal: false };
                assert_page(&view.page(&[&app], at_noon()).unwrap(), &view.page(&[&of_others("x")], at_noon()).unwrap());
                assert_page(&lines(frame(view, &[&app], Some(&text))), &lines(frame(view, &[&app], Some("x"))));
            }
            for output in [GetOutput::Json, GetOutput::Yaml] {
                let view = View { output: Some(output), single: true, colour: false, terminal: false };
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
    fn next_change_or_read() {
        let mut raw = example();
        raw["status"]["nextTransition"] = json!({"at": "2026-11-24T15:00:00Z", "state": "Running"});
        assert_eq!(next(&read(raw.clone()), at_noon()), "start 3h");
        raw["status"]["conditions"][0]["reason"] = "RateLimited".into();
        assert_eq!(next(&read(raw.clone()), at_noon()), "retry 42s", "the end of a pause is more pressing");
        let app = read(json!({"metadata": {"name": "x"}}));
        assert_eq!(next(&app, at_noon()), "-");
        assert_eq!(row(&app, false, at_noon()).len(), 7, "an older or a newer daemon breaks nothing");
    }

    #[test]
    fn a_read_is_no_change() {
        let view = View { output: None, single: false, colour: false, terminal: false };
        let (before, mut after) = (read(example()), example());
        after["status"]["nextLookAt"] = "2026-11-24T12:01:42Z".into();
        assert!(!differs(&before, &read(after.clone()), view));
        after["status"]["observed"] = "Stopped".into();
        assert!(differs(&before, &read(after), view));
    }
}
