//! `status`: the daemon and all its apps on one screen. Text and exit code come from the same answers.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::client::{App, Daemon};
use super::text::{
    Cell, Layout, clip, escape, json_pretty, lines, print, print_data, print_note, render, span, thousands,
};
use super::{Exit, runtime};
use crate::cli::{Color, StatusArgs, StatusOutput};
use crate::clock::Clock;
use crate::reconcile::group::Group;
use crate::reconcile::moment::human_duration;
use crate::telemetry;

/// Maximum number of listed apps of each group.
const NAMED: u32 = 10;
/// Maximum number of listed transitions.
const NEXT: u32 = 3;
/// Maximum number of listed errors.
const PROBLEMS: usize = 5;
/// Longest text about one app.
const LONGEST: usize = 200;

pub(super) fn status(args: &StatusArgs, color: Color) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(async {
        let now = Clock::wall_now();
        if let Some(most) = args.transitions {
            let transitions = daemon.transitions(most).await?;
            match args.output {
                StatusOutput::Text if transitions.is_empty() => print_note("no stop or start is scheduled"),
                StatusOutput::Text => print(&table(&transitions, now))?,
                StatusOutput::Json => print_data(&json_pretty(&transitions)?)?,
            }
            return Ok(Exit::Done);
        }
        let status = daemon.status().await?;
        if !status["apps"].is_object() {
            return Err(daemon.too_old().await);
        }
        let page = Page {
            address: daemon.address().to_owned(),
            status,
            needs_person: daemon.apps_of(Group::NeedsPerson, NAMED).await?,
            in_trouble: daemon.apps_of(Group::InTrouble, NAMED).await?,
            transitions: daemon.transitions(NEXT).await?,
            trend: daemon.trend().await?,
        };
        match args.output {
            StatusOutput::Text => print(&page.text(now, telemetry::colour(color, &io::stdout())))?,
            StatusOutput::Json => print_data(&json_pretty(&page.json())?)?,
        }
        if let Some(note) = daemon.standby().await? {
            print_note(&note);
        }
        Ok(if page.needs().is_empty() { Exit::Done } else { Exit::Failed })
    })
}

/// Returns a table of the next change of each app.
fn table(transitions: &[Value], now: Timestamp) -> String {
    let mut rows = vec![["IN", "AT (UTC)", "APP", "CHANGE", "CAUSE"].map(Cell::from).to_vec()];
    rows.extend(transitions.iter().map(|one| {
        let text = |key: &str| one[key].as_str().unwrap_or("-");
        let at: Option<Timestamp> = text("at").parse().ok();
        let change = match text("state") {
            "Stopped" => "stop",
            "Running" => "start",
            other => other,
        };
        vec![
            at.map_or_else(|| "-".to_owned(), |at| span(now, at)).into(),
            at.map_or_else(|| "-".to_owned(), |at| day(now, at)).into(),
            text("app").into(),
            change.into(),
            text("because").into(),
        ]
    }));
    lines(render(&rows, Layout { colour: false, width: None }))
}

/// The answers of one daemon.
struct Page {
    address: String,
    status: Value,
    needs_person: Vec<App>,
    in_trouble: Vec<App>,
    transitions: Vec<Value>,
    /// `/api/v1/trend`.
    trend: Value,
}

impl Page {
    fn count(&self, pointer: &str) -> usize {
        self.status.pointer(pointer).and_then(Value::as_u64).and_then(|count| count.try_into().ok()).unwrap_or(0)
    }

    fn is(&self, pointer: &str) -> bool {
        self.status.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    fn str(&self, pointer: &str) -> Option<&str> {
        self.status.pointer(pointer).and_then(Value::as_str)
    }

    fn time(&self, pointer: &str) -> Option<Timestamp> {
        self.str(pointer)?.parse().ok()
    }

    /// Returns the lines of "Needs a person": the number of apps, then errors of the manifests, account and clock.
    fn needs(&self) -> Vec<String> {
        let apps = self.count("/apps/needsPerson");
        let mut needs = Vec::new();
        if apps > 0 {
            needs.push(format!("{} {}", counted(apps, "app"), Group::NeedsPerson.label(apps)));
        }
        let errors = self.count("/source/errors");
        if errors > 0 {
            needs.push(format!("{} in the manifests", counted(errors, "error")));
        }
        if self.is("/source/loaded") && !self.is("/source/available") {
            needs.push(format!("the manifests cannot be read: {}", self.str("/source/trouble").unwrap_or("unknown")));
        }
        for (pointer, need) in [
            ("/governor/accountBlocked", "the server refuses the token: replace it"),
            (
                "/governor/accountForbidden",
                "the server refuses the account: check its plan, and the scopes of the token",
            ),
        ] {
            if self.is(pointer) {
                needs.push(need.to_owned());
            }
        }
        if let Some(held) = self.str("/maxChanges/message") {
            needs.push(held.to_owned());
        }
        if self.str("/clock") == Some("differs") {
            let message = self.status.pointer("/conditions/0/message").and_then(Value::as_str);
            needs.push(message.unwrap_or("the clock of the daemon differs from the server's").to_owned());
        }
        needs
    }

    fn json(&self) -> Value {
        let raw = |apps: &[App]| apps.iter().map(|app| app.raw.clone()).collect::<Vec<_>>();
        json!({
            "status": self.status, "needs": self.needs(), "needsPerson": raw(&self.needs_person),
            "inTrouble": raw(&self.in_trouble), "transitions": self.transitions, "trend": self.trend,
        })
    }

    fn text(&self, now: Timestamp, colour: bool) -> String {
        let mut page =
            format!("campos-operator {} at {}", escape(self.str("/version").unwrap_or("?")), escape(&self.address));
        if let Some(started) = self.time("/startedAt") {
            let _ = write!(page, ", up {}", span(started, now));
        }
        page.push('\n');
        // Writing to a String cannot fail.
        let mut line = |title: &str, text: &str| {
            let _ = writeln!(page, "{title:<12}{}", escape(text));
        };
        line("Apps", &self.apps());
        let count = self.count("/undeclared/count");
        if count > 0 {
            line("Undeclared", &format!("{}: campos-operator get --undeclared", counted(count, "app")));
        }
        for progress in self.status["progress"].as_array().into_iter().flatten() {
            line("Progress", &in_progress(progress, now));
        }
        if let Some(peaks) = self.peaks() {
            line("Last 24 h", &peaks);
        }
        line("Manifests", &self.manifests());
        line("Last list", &self.last_list(now));
        line("Budget", &self.budget());
        for pause in self.pauses(now) {
            line("Pause", &pause);
        }
        if let Some(holder) = self.str("/leader/holder") {
            let this = if self.is("/leader/leading") { " (this process)" } else { "" };
            line("Leader", &format!("{holder}{this}"));
        }
        let needs = self.needs();
        heading(
            &mut page,
            "Needs a person",
            if needs.is_empty() { "nothing" } else { "" },
            colour && !needs.is_empty(),
        );
        for need in &needs {
            let _ = writeln!(page, "  {}", escape(need));
        }
        apps(&mut page, &self.needs_person, self.count("/apps/needsPerson"), "NeedsPerson");
        for problem in self.problems() {
            let _ = writeln!(page, "  {}", escape(&clip(problem, LONGEST)));
        }
        if !self.in_trouble.is_empty() {
            heading(&mut page, "In trouble", "the operator retries", false);
            apps(&mut page, &self.in_trouble, self.count("/apps/inTrouble"), "InTrouble");
        }
        if !self.transitions.is_empty() {
            heading(&mut page, "Next stops and starts", "", false);
            page.extend(table(&self.transitions, now).lines().map(|line| format!("  {line}\n")));
        }
        page
    }

    /// Returns the largest number of each group that is not settled, with its time: `peaks: 3 in trouble (10:15)`.
    fn peaks(&self) -> Option<String> {
        let peak = |group: Group| {
            let peak = &self.trend["peaks"][group.field()];
            let count = usize::try_from(peak["count"].as_u64()?).ok()?;
            let at: Timestamp = peak["at"].as_str()?.parse().ok()?;
            Some(format!("{} {} ({})", thousands(count), group.label(count), at.strftime("%H:%M")))
        };
        let groups = Group::ALL.into_iter().filter(|group| *group != Group::Settled);
        let peaks: Vec<String> = groups.filter_map(peak).collect();
        (!peaks.is_empty()).then(|| format!("peaks: {} UTC", peaks.join(", ")))
    }

    /// Returns the number of apps of each group: `15 declared: 13 settled, 2 held`.
    fn apps(&self) -> String {
        let of = |group: Group| (group, self.count(&format!("/apps/{}", group.field())));
        let groups = Group::ALL.into_iter().rev().map(of).filter(|(_, count)| *count > 0);
        let groups: Vec<String> =
            groups.map(|(group, count)| format!("{} {}", thousands(count), group.label(count))).collect();
        let declared = format!("{} declared", thousands(self.count("/apps/declared")));
        if groups.is_empty() { declared } else { format!("{declared}: {}", groups.join(", ")) }
    }

    /// Returns the errors in manifests that are not in the message of a listed app.
    fn problems(&self) -> impl Iterator<Item = &str> {
        let problems = self.status.pointer("/source/problems").and_then(Value::as_array).into_iter().flatten();
        let is_repeated = |problem: &&str| {
            // The message of an app has neither the place nor the hint in parentheses.
            let text = problem.split_once(": ").map_or(*problem, |(_, text)| text);
            let text = text.split(" (").next().unwrap_or(text);
            let message = |app: &App| app.condition("Ready").is_some_and(|ready| ready.message.contains(text));
            self.needs_person.iter().any(message)
        };
        problems.filter_map(Value::as_str).filter(move |problem| !is_repeated(problem)).take(PROBLEMS)
    }

    fn manifests(&self) -> String {
        if !self.is("/source/loaded") {
            return "not read yet".into();
        }
        let mut text = counted(self.count("/source/files"), "file");
        if let Some(revision) = self.str("/source/revision").filter(|revision| !revision.is_empty()) {
            let _ = write!(text, ", revision {revision}");
        }
        for (pointer, word) in [("/source/errors", "error"), ("/source/warnings", "warning")] {
            let count = self.count(pointer);
            if count > 0 {
                let _ = write!(text, ", {}", counted(count, word));
            }
        }
        text
    }

    fn last_list(&self, now: Timestamp) -> String {
        let Some(at) = self.time("/observation/completedAt") else { return "no complete list yet".into() };
        let (apps, pages) = (self.count("/observation/apps"), self.count("/observation/pages"));
        let every = self.count("/observation/intervalSeconds");
        let mut text = format!("{} ago: {} on {}", span(at, now), counted(apps, "app"), counted(pages, "page"));
        let _ = write!(text, ", every {every}s");
        if let Some(incomplete) = self.str("/observation/incomplete") {
            let _ = write!(text, "; incomplete: {incomplete}");
        }
        text
    }

    /// Returns the use of the budget: `63 of 120 requests in the last minute, 57 left; the server counts 117 left`.
    fn budget(&self) -> String {
        let used = self.count("/requestsLastMinute");
        let budget = self.status.pointer("/governor/requestsPerMinute").and_then(Value::as_f64);
        let mut text = match budget {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
            Some(budget) => {
                let budget = budget.round() as usize;
                format!("{used} of {budget} requests in the last minute, {} left", budget.saturating_sub(used))
            }
            None => format!("{used} requests in the last minute, without a limit"),
        };
        if let Some(left) = self.status.pointer("/governor/remaining").and_then(Value::as_u64) {
            let _ = write!(text, "; the server counts {left} left");
        }
        text
    }

    fn pauses(&self, now: Timestamp) -> Vec<String> {
        let mut pauses = Vec::new();
        if self.is("/governor/paused") {
            let cause = self.str("/governor/pauseCause").unwrap_or("rate limit");
            let end =
                self.time("/governor/pausedUntil").map(|until| format!(" until {until:.0} ({})", span(now, until)));
            pauses.push(format!("all requests{}: {cause}", end.unwrap_or_default()));
        }
        if self.is("/governor/breakerOpen") {
            let probe = self.time("/governor/nextProbeAt").map(|at| format!("; next probe in {}", span(now, at)));
            pauses.push(format!("CamposCloud does not answer{}", probe.unwrap_or_default()));
        }
        pauses
    }
}

fn heading(page: &mut String, title: &str, note: &str, colour: bool) {
    let note = if note.is_empty() { String::new() } else { format!(": {note}") };
    let _ = if colour { writeln!(page, "\n\x1b[31m{title}\x1b[0m{note}") } else { writeln!(page, "\n{title}{note}") };
}

/// Name, reason and message of each app.
fn apps(page: &mut String, apps: &[App], count: usize, group: &str) {
    for app in apps {
        let message = app.condition("Ready").map_or("", |ready| &ready.message);
        let line = format!("{}: {}: {}", app.name(), app.reason(), clip(message, LONGEST));
        let _ = writeln!(page, "  {}", escape(&line));
    }
    let more = count.saturating_sub(apps.len());
    if more > 0 {
        let flag = if group == "NeedsPerson" { "--sort-by group" } else { "--not-ready" };
        let _ = writeln!(page, "  and {} more: campos-operator get {flag}", thousands(more));
    }
}

/// Returns the progress as text: `stop 120 of 300 (143 accepted), about 1 min 30 s left`.
fn in_progress(progress: &Value, now: Timestamp) -> String {
    let number = |key: &str| progress[key].as_u64().unwrap_or(0);
    let left = progress["endsAt"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    let left = left.and_then(|at| Duration::try_from(at.duration_since(now)).ok()).filter(|left| left.as_secs() > 0);
    let left = left.map(|left| format!(", about {} left", human_duration(left))).unwrap_or_default();
    let task = match progress["task"].as_str().unwrap_or_default() {
        "list" => "first list: apps",
        "calls" => "calls",
        task => task,
    };
    let accepted = progress["accepted"].as_u64().filter(|accepted| *accepted > number("done"));
    let accepted = accepted.map(|accepted| format!(" ({accepted} accepted)")).unwrap_or_default();
    format!("{task} {} of {}{accepted}{left}", number("done"), number("total"))
}

/// Returns the count with its noun: `1 app`, `2 apps`.
fn counted(count: usize, word: &str) -> String {
    format!("{} {word}{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// A day and minute, with the year if it is not the current one.
fn day(now: Timestamp, at: Timestamp) -> String {
    let year = |at: Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC).year();
    let format = if year(now) == year(at) { "%a %m-%d %H:%M" } else { "%a %Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::{assert_page, of_others};
    use crate::printable::tests::hostile;

    fn example() -> Page {
        let status = json!({
            "version": "0.1.0", "startedAt": "2026-11-24T09:00:00Z", "clock": "compared", "requestsLastMinute": 63,
            "apps": {"declared": 301, "settled": 170, "inProgress": 129, "needsPerson": 2, "inTrouble": 0, "held": 0, "unknown": 0},
            "source": {"loaded": true, "available": true, "revision": "9f2c41d", "files": 14, "errors": 1, "warnings": 0,
                "problems": ["bots/x.yaml:3:1: unknown field `stat`"]},
            "observation": {"completedAt": "2026-11-24T11:59:48Z", "apps": 304, "pages": 4, "intervalSeconds": 60, "incomplete": null},
            "governor": {"requestsPerMinute": 120.0, "remaining": 117, "paused": true, "pausedUntil": "2026-11-24T12:00:09Z",
                "pauseCause": "Retry-After of the server", "breakerOpen": false, "accountBlocked": false, "accountForbidden": false},
            "undeclared": {"count": 3, "apps": []}, "maxChanges": null, "leader": null,
            "progress": [{"task": "stop", "done": 120, "accepted": 143, "total": 300, "endsAt": "2026-11-24T12:01:30Z"}]
        });
        let transitions =
            vec![json!({"at": "2026-11-24T15:00:00Z", "app": "dev-bot", "state": "Stopped", "because": "window 1"})];
        let mut gone = of_others("x").raw;
        gone["metadata"]["name"] = "music-bot".into();
        gone["status"]["conditions"][0] =
            json!({"type": "Ready", "status": "False", "reason": "AppNotFound", "message": "no such app"});
        let needs_person = vec![App::try_from(gone).unwrap()];
        let peak = |count: u64, at: &str| json!({"count": count, "at": at});
        let trend = json!({"peaks": {
            "inTrouble": peak(3, "2026-11-24T10:15:00Z"), "held": peak(2, "2026-11-24T10:30:00Z"),
            "settled": peak(300, "2026-11-24T10:00:00Z"),
        }});
        Page {
            address: "http://127.0.0.1:8080".into(),
            status,
            needs_person,
            in_trouble: Vec::new(),
            transitions,
            trend,
        }
    }

    #[test]
    fn one_screen() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        let page = example().text(now, false);
        assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
        insta::assert_snapshot!(page, @r"
        campos-operator 0.1.0 at http://127.0.0.1:8080, up 3h
        Apps        301 declared: 170 settled, 129 in progress, 2 need a person
        Undeclared  3 apps: campos-operator get --undeclared
        Progress    stop 120 of 300 (143 accepted), about 1 min 30 s left
        Last 24 h   peaks: 3 in trouble (10:15), 2 held (10:30) UTC
        Manifests   14 files, revision 9f2c41d, 1 error
        Last list   12s ago: 304 apps on 4 pages, every 60s
        Budget      63 of 120 requests in the last minute, 57 left; the server counts 117 left
        Pause       all requests until 2026-11-24T12:00:09Z (9s): Retry-After of the server

        Needs a person
          2 apps need a person
          1 error in the manifests
          music-bot: AppNotFound: no such app
          and 1 more: campos-operator get --sort-by group
          bots/x.yaml:3:1: unknown field `stat`

        Next stops and starts
          IN  AT (UTC)         APP      CHANGE  CAUSE
          3h  Tue 11-24 15:00  dev-bot  stop    window 1
        ");
        assert_eq!(example().needs().len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn a_status_is_harmless(text in hostile()) {
            let page = |text: &str| {
                let mut page = example();
                for pointer in ["/version", "/source/revision", "/governor/pauseCause"] {
                    *page.status.pointer_mut(pointer).unwrap() = text.into();
                }
                page.status["source"]["problems"][0] = format!("problem: {text}").into();
                page.needs_person = vec![of_others(text)];
                page.transitions = vec![json!({"at": text, "app": text, "state": text, "because": text})];
                page.text("2026-11-24T12:00:00Z".parse().unwrap(), false)
            };
            assert_page(&page(&text), &page("x"));
        }
    }
}
