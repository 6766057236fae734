//! `get`: what is asked, what is seen and why, for many apps at a glance.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use terminal_size::{Height, Width, terminal_size};

use super::client::{App, Daemon, Follow, NOT_LOADED, unknown};
use super::text::{
    Cell, Layout, clip, escape, json, json_pretty, lines, print, print_data, render, span, tell, tell_error, yaml,
};
use super::{Exit, runtime};
use crate::cli::{Color, GetArgs, GetOutput, Selector};
use crate::clock::Clock;
use crate::status::API_VERSION;
use crate::telemetry;

/// A terminal of unknown size is taken for one of these.
const SIZE: (usize, usize) = (80, 24);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn get(args: &GetArgs, color: Color) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    let view = View {
        output: args.output,
        single: args.names.len() == 1,
        colour: telemetry::colour(color, &io::stdout()),
        terminal: io::stdout().is_terminal(),
    };
    runtime()?.block_on(async {
        if args.watch {
            return watch(args, view, Follow::start(daemon).await?).await;
        }
        let all = match args.names.as_slice() {
            // One app need not fetch ten thousand.
            [name] => BTreeMap::from([(name.clone(), daemon.app(name).await?)]),
            _ => daemon.apps().await?,
        };
        let (chosen, missing) = choose(&all, args);
        if !chosen.is_empty() || missing.is_empty() {
            view.print(&view.page(&chosen, Clock::wall_now())?)?;
        }
        if chosen.is_empty() && missing.is_empty() && matches!(args.output, None | Some(GetOutput::Wide)) {
            tell(match (all.is_empty(), daemon.loaded().await?) {
                (true, false) => NOT_LOADED,
                (true, true) => "no manifest declares an app",
                (false, _) => "no app has these labels",
            });
        }
        missing_names(missing, &all)
    })
}

/// The apps that were asked for, and the names that are not there.
fn choose<'a>(all: &'a BTreeMap<String, App>, args: &'a GetArgs) -> (Vec<&'a App>, Vec<&'a str>) {
    if args.names.is_empty() {
        return (all.values().filter(|app| args.selector.iter().all(|selector| fits(app, selector))).collect(), vec![]);
    }
    let mut names: Vec<&str> = args.names.iter().map(String::as_str).collect();
    // A name given twice is one app; the order is the caller's.
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let (there, missing): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| all.contains_key(*name));
    (there.into_iter().filter_map(|name| all.get(name)).collect(), missing)
}

fn fits(app: &App, selector: &Selector) -> bool {
    match selector {
        Selector::Equal(key, value) => app.label(key) == Some(value),
        Selector::NotEqual(key, value) => app.label(key) != Some(value),
        Selector::Present(key) => app.label(key).is_some(),
        Selector::Absent(key) => app.label(key).is_none(),
    }
}

/// Tells of every name that is not there; what was found has been printed by then.
pub(super) fn missing_names(missing: Vec<&str>, all: &BTreeMap<String, App>) -> anyhow::Result<Exit> {
    let mut errors = missing.into_iter().map(|name| unknown(name, all.keys().map(String::as_str)));
    let Some(last) = errors.next_back() else { return Ok(Exit::Done) };
    for error in errors {
        tell_error(&error);
    }
    Err(last)
}

/// How apps are shown.
#[derive(Debug, Clone, Copy)]
struct View {
    output: Option<GetOutput>,
    /// One app was named: its object, not a list of one.
    single: bool,
    colour: bool,
    terminal: bool,
}

impl View {
    fn layout(self) -> Layout {
        Layout { colour: self.colour, width: self.terminal.then(|| size().0) }
    }

    fn print(self, page: &str) -> io::Result<()> {
        match self.output {
            None | Some(GetOutput::Wide | GetOutput::Name) => print(page),
            Some(GetOutput::Json | GetOutput::Yaml) => print_data(page),
        }
    }

    /// Everything about `apps`, ready to be printed.
    fn page(self, apps: &[&App], now: Timestamp) -> anyhow::Result<String> {
        Ok(match (self.output, apps) {
            (None | Some(GetOutput::Wide), []) => String::new(),
            (None | Some(GetOutput::Wide), _) => lines(self.table(apps, now)),
            (Some(GetOutput::Name), _) => lines(apps.iter().map(|app| escape(app.name()))),
            (Some(GetOutput::Json), [app]) if self.single => json_pretty(&app.0)?,
            (Some(GetOutput::Json), _) => json_pretty(&list(apps))?,
            (Some(GetOutput::Yaml), [app]) if self.single => yaml(&app.0)?,
            (Some(GetOutput::Yaml), _) => yaml(&list(apps))?,
        })
    }

    fn table(self, apps: &[&App], now: Timestamp) -> Vec<String> {
        let wide = self.output == Some(GetOutput::Wide);
        let rows: Vec<Vec<Cell>> =
            std::iter::once(header(wide)).chain(apps.iter().map(|app| row(app, wide, now))).collect();
        render(&rows, self.layout())
    }

    /// One change of a watch, for a reader that takes line after line.
    fn change(self, name: &str, app: Option<&App>, widths: &[usize], now: Timestamp) -> anyhow::Result<String> {
        let removed = || json!({"apiVersion": API_VERSION, "kind": "App", "metadata": {"name": name}, "removed": true});
        let object = || app.map_or_else(removed, |app| app.0.clone());
        Ok(match self.output {
            Some(GetOutput::Name) => format!("{}\n", escape(name)),
            Some(GetOutput::Json) => json(&object())?,
            Some(GetOutput::Yaml) => format!("---\n{}", yaml(&object())?),
            None | Some(GetOutput::Wide) => {
                let wide = self.output == Some(GetOutput::Wide);
                let gone = || ["-", "-", "-", "Removed", "-", "-"].map(Cell::from);
                let row = match app {
                    Some(app) => row(app, wide, now),
                    None => std::iter::once(name.into()).chain(gone()).collect(),
                };
                // Padded like the table before, so that the columns stay where they are.
                let pad = widths.iter().map(|width| Cell::from(" ".repeat(*width))).collect();
                lines(&render(&[pad, row], self.layout())[1..])
            }
        })
    }
}

fn size() -> (usize, usize) {
    terminal_size().map_or(SIZE, |(Width(width), Height(height))| (width.into(), height.into()))
}

fn list(apps: &[&App]) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "AppList", "items": apps.iter().map(|app| &app.0).collect::<Vec<_>>()})
}

fn header(wide: bool) -> Vec<Cell> {
    let narrow = ["NAME", "DESIRED", "OBSERVED", "READY", "REASON", "NEXT", "AGE"];
    let more: &[&str] = if wide { &["APP-ID", "SOURCE", "MESSAGE"] } else { &[] };
    narrow.iter().chain(more).map(|&title| title.into()).collect()
}

fn row(app: &App, wide: bool, now: Timestamp) -> Vec<Cell> {
    let text = |pointer| app.text(pointer).unwrap_or("-");
    let ready = app.truth("Ready");
    let colour = Some(match ready {
        "True" => "32",
        _ if app.truth("Stalled") == "True" => "31",
        _ => "33",
    });
    let mut row = vec![
        text("/metadata/name").into(),
        text("/status/desired").into(),
        text("/status/observed").into(),
        Cell::new(ready, colour),
        app.ready("reason").unwrap_or("-").into(),
        next(app, now).into(),
        app.ready("lastTransitionTime").and_then(moment).map_or_else(|| "-".into(), |since| span(since, now).into()),
    ];
    if wide {
        let line = app.0.pointer("/status/source/line").and_then(Value::as_u64);
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        row.push(text("/spec/appId").into());
        row.push((text("/status/source/file").to_owned() + &line).into());
        row.push(app.ready("message").unwrap_or("-").into());
    }
    row
}

/// What comes next: a change of what is asked, otherwise the next look.
fn next(app: &App, now: Timestamp) -> String {
    let at = |pointer| app.text(pointer).and_then(moment);
    // Until when all requests wait is more pressing than a schedule.
    let held = ["RateLimited", "ApiUnavailable", "AccountBlocked", "AccountForbidden"];
    let transition =
        at("/status/nextTransition/at").filter(|_| app.ready("reason").is_none_or(|it| !held.contains(&it)));
    match (transition, at("/status/nextLookAt")) {
        (Some(at), _) => match app.text("/status/nextTransition/state") {
            Some("Stopped") => format!("stop {}", span(now, at)),
            Some("Running") => format!("start {}", span(now, at)),
            _ => format!("{} {}", app.text("/status/nextTransition/state").unwrap_or("?"), span(now, at)),
        },
        (None, Some(at)) if app.ready("reason").is_some_and(|it| held.contains(&it)) => {
            format!("retry {}", span(now, at))
        }
        (None, Some(at)) => format!("look {}", span(now, at)),
        (None, None) => "-".into(),
    }
}

pub(super) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Shows what changes, until the reader goes away.
async fn watch(args: &GetArgs, view: View, mut follow: Follow) -> anyhow::Result<Exit> {
    let (_, missing) = choose(&follow.apps, args);
    missing_names(missing, &follow.apps)?;
    if view.terminal && matches!(view.output, None | Some(GetOutput::Wide)) {
        return redraw(args, view, follow).await;
    }
    let mut shown: BTreeMap<String, App> = BTreeMap::new();
    let mut lost: Option<String> = None;
    let mut widths: Option<Vec<usize>> = None;
    loop {
        let now = Clock::wall_now();
        let chosen = chosen(&follow, args);
        if let Some(widths) = &widths {
            let gone = shown.keys().filter(|name| !chosen.contains_key(*name)).map(|name| (name, None));
            let news =
                chosen.iter().filter(|(name, app)| shown.get(*name).is_none_or(|before| differs(before, app, view)));
            for (name, app) in gone.chain(news.map(|(name, app)| (name, Some(app)))) {
                view.print(&view.change(name, app, widths, now)?)?;
            }
        } else {
            let apps: Vec<&App> = chosen.values().collect();
            let (text, columns) = first(view, &apps, now)?;
            view.print(&text)?;
            widths = Some(columns);
        }
        shown = chosen;
        if follow.lost != lost {
            match &follow.lost {
                Some(why) if lost.is_none() => tell(&format!("lost the daemon, trying again: {}", escape(why))),
                None => tell("the daemon answers again"),
                Some(_) => {}
            }
            lost.clone_from(&follow.lost);
        }
        follow.next().await;
    }
}

/// The apps to begin with, and how wide the columns are from then on.
fn first(view: View, apps: &[&App], now: Timestamp) -> anyhow::Result<(String, Vec<usize>)> {
    if !matches!(view.output, None | Some(GetOutput::Wide)) {
        let all: anyhow::Result<String> = apps.iter().map(|app| view.change(app.name(), Some(app), &[], now)).collect();
        return Ok((all?, Vec::new()));
    }
    let wide = view.output == Some(GetOutput::Wide);
    let rows: Vec<Vec<Cell>> =
        std::iter::once(header(wide)).chain(apps.iter().map(|app| row(app, wide, now))).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(Cell::length).max();
    let widths = (0..rows[0].len()).map(|column| width(column).unwrap_or(0)).collect();
    Ok((lines(render(&rows, view.layout())), widths))
}

fn chosen(follow: &Follow, args: &GetArgs) -> BTreeMap<String, App> {
    choose(&follow.apps, args).0.into_iter().map(|app| (app.name().to_owned(), app.clone())).collect()
}

/// Whether a line is worth it: a table does not tell when an app was looked at, only what came of it.
fn differs(before: &App, after: &App, view: View) -> bool {
    match view.output {
        Some(GetOutput::Json | GetOutput::Yaml) => before != after,
        Some(GetOutput::Name) | None => told(before, false) != told(after, false),
        Some(GetOutput::Wide) => told(before, true) != told(after, true),
    }
}

/// The columns that do not run with the clock.
fn told(app: &App, wide: bool) -> Vec<Cell> {
    let row = row(app, wide, Timestamp::UNIX_EPOCH);
    row.into_iter().enumerate().filter(|(column, _)| ![5, 6].contains(column)).map(|(_, cell)| cell).collect()
}

/// The table, drawn anew in its place with each change, and each second for the clock's sake.
async fn redraw(args: &GetArgs, view: View, mut follow: Follow) -> anyhow::Result<Exit> {
    let mut drawn = 0;
    loop {
        let (chosen, lost) = (chosen(&follow, args), follow.lost.clone());
        let apps: Vec<&App> = chosen.values().collect();
        let mut news = std::pin::pin!(follow.next());
        loop {
            let frame = frame(view, &apps, lost.as_deref());
            let up = if drawn > 0 { format!("\x1b[{drawn}A\r\x1b[J") } else { String::new() };
            print_data(&up)?;
            print(&lines(&frame))?;
            drawn = frame.len();
            tokio::select! {
                () = &mut news => break,
                () = tokio::time::sleep(SECOND) => {}
            }
        }
    }
}

/// As many apps as the window has room for, and whether that is still the truth.
fn frame(view: View, apps: &[&App], lost: Option<&str>) -> Vec<String> {
    let (width, height) = size();
    let mut frame = view.table(apps, Clock::wall_now());
    let room = height.saturating_sub(3).max(1);
    let hidden = frame.len().saturating_sub(room);
    frame.truncate(room);
    if hidden > 0 {
        frame.push(clip(&format!("... and {hidden} more; a taller window or -l shows them"), width));
    }
    let state = lost.map_or("live; ctrl-c ends".into(), |why| format!("DISCONNECTED, trying again: {}", escape(why)));
    frame.push(clip(&state, width));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::{assert_page, of_others};
    use crate::printable::{acts, tests::hostile};

    pub(super) fn example() -> App {
        App(json!({
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
        }))
    }

    fn at_noon() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_widest_words_fit_80_columns() {
        let view = View { output: None, single: false, colour: false, terminal: false };
        insta::assert_snapshot!(view.page(&[&example()], at_noon()).unwrap(), @r"
        NAME        DESIRED  OBSERVED  READY  REASON               NEXT      AGE
        ticket-bot  Stopped  Running   False  SuspendedByPlatform  look 42s  60s
        ");
    }

    #[test]
    fn nothing_from_outside_reaches_the_terminal_raw() {
        let view = View { output: Some(GetOutput::Wide), single: false, colour: false, terminal: false };
        let page = view.page(&[&example()], at_noon()).unwrap();
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
                assert_eq!(read, app.0);
            }
        }
    }

    #[test]
    fn what_comes_next() {
        let mut app = example();
        app.0["status"]["nextTransition"] = json!({"at": "2026-11-24T15:00:00Z", "state": "Running"});
        assert_eq!(next(&app, at_noon()), "start 3h");
        app.0["status"]["conditions"][0]["reason"] = "RateLimited".into();
        assert_eq!(next(&app, at_noon()), "retry 42s", "until when all requests pause is more pressing");
        app.0["status"] = Value::Null;
        assert_eq!(next(&app, at_noon()), "-");
        assert_eq!(row(&app, false, at_noon()).len(), 7, "an older or a newer daemon breaks nothing");
    }

    #[test]
    fn labels_choose() {
        let fits = |text: &str| {
            let (key, value) = ("team".to_owned(), text.to_owned());
            [Selector::Equal(key.clone(), value.clone()), Selector::NotEqual(key, value)]
                .map(|selector| super::fits(&example(), &selector))
        };
        assert_eq!((fits("support"), fits("shop")), ([true, false], [false, true]));
        assert!(super::fits(&example(), &Selector::NotEqual("none".into(), "x".into())));
        assert!(super::fits(&example(), &Selector::Present("team".into())));
        assert!(super::fits(&example(), &Selector::Absent("none".into())));
    }

    #[test]
    fn a_look_is_no_change() {
        let view = View { output: None, single: false, colour: false, terminal: false };
        let (before, mut after) = (example(), example());
        after.0["status"]["nextLookAt"] = "2026-11-24T12:01:42Z".into();
        assert!(!differs(&before, &after, view));
        after.0["status"]["observed"] = "Stopped".into();
        assert!(differs(&before, &after, view));
    }
}
