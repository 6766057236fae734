//! `explain`: the deciding window of a schedule, its reason and the next transitions, from the daemon or from a file.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit, Zoned};
use serde_json::json;

use super::client::Daemon;
use super::text::{escape, json_pretty, print, print_data, print_note};
use super::{Exit, runtime};
use crate::cli::{ExplainArgs, ExplainOutput};
use crate::clock::Clock;
use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::source::{self, Rules};
use crate::reconcile::desired::{Because, Object, Spec, Target};
use crate::reconcile::schedule::Schedule;
use crate::reconcile::state::Desired;

pub(super) fn explain(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let objects = match (&args.file, &args.name) {
        (Some(file), name) => {
            let mut objects = read_file(file)?;
            if let Some(name) = name {
                objects.retain(|object| object.name.as_str() == name);
                if objects.is_empty() {
                    bail!("{} declares no app named {name}", file.display());
                }
            }
            objects
        }
        // A published object is a valid manifest, so the reader of manifests reads it.
        (None, Some(name)) => {
            let app = runtime()?.block_on(async { Daemon::new(&args.server)?.app(name).await })?;
            if app.spec.is_none() {
                let message = app.condition("Ready").map_or("", |ready| &ready.message);
                bail!("{name} has no valid manifest: {message}");
            }
            let (declared, diagnostics) = source::load_published(&app.raw);
            refuse(name, &diagnostics)?;
            declared.iter().filter_map(|declared| declared.object.clone()).collect()
        }
        (None, None) => bail!("expected the name of an app, or a file with -f"),
    };
    let explained = objects.iter().map(|object| Explained::of(object, args)).collect::<anyhow::Result<Vec<_>>>()?;
    match args.output {
        ExplainOutput::Text => {
            let texts: Vec<String> = explained.iter().map(Explained::text).collect();
            print(&texts.join("\n"))?;
        }
        ExplainOutput::Json => {
            let mut values: Vec<serde_json::Value> = explained.iter().map(Explained::json).collect();
            let value = if values.len() == 1 { values.remove(0) } else { values.into() };
            print_data(&json_pretty(&value)?)?;
        }
    }
    Ok(Exit::Done)
}

/// The objects of a file, a pipe or stdin.
fn read_file(file: &Path) -> anyhow::Result<Vec<Arc<Object>>> {
    let (declared, diagnostics, report) =
        source::load_with(vec![file.to_owned()], &Rules { follow_links: true, ..Rules::default() });
    if let Some(cause) = report.cause {
        bail!("{cause}");
    }
    refuse(&file.to_string_lossy(), &diagnostics)?;
    let objects: Vec<_> = declared.iter().filter_map(|declared| declared.object.clone()).collect();
    if objects.is_empty() {
        bail!("{} declares no app", file.display());
    }
    Ok(objects)
}

/// Prints all diagnostics, and refuses a text with errors.
fn refuse(file: &str, diagnostics: &[Diagnostic]) -> anyhow::Result<()> {
    for diagnostic in diagnostics {
        print_note(&diagnostic.render(false));
    }
    if diagnostics.iter().any(Diagnostic::is_error) {
        bail!("{file} is not valid");
    }
    Ok(())
}

/// The explanation of one app at one time.
struct Explained<'a> {
    object: &'a Object,
    at: Timestamp,
    zone: TimeZone,
    target: Target,
    /// The next transitions.
    next: Vec<(Timestamp, Target)>,
}

impl<'a> Explained<'a> {
    fn of(object: &'a Object, args: &ExplainArgs) -> anyhow::Result<Self> {
        let spec = &object.spec;
        let zone = spec.schedule.as_ref().map_or(TimeZone::UTC, |schedule| schedule.zone.clone());
        let at = match &args.at {
            None => Clock::wall_now(),
            Some(text) => moment(text, spec).with_context(|| {
                format!("--at {text}: expected RFC 3339 (2026-12-24T02:00:00Z) or a time in the app's zone (2026-12-24T02:00)")
            })?,
        };
        let mut next = Vec::new();
        let mut from = at;
        while next.len() < args.next
            && let Some((then, target)) = spec.next_transition(from)
        {
            next.push((then, target));
            from = then;
        }
        Ok(Self { object, at, zone, target: spec.target(at), next })
    }

    fn local(&self, at: Timestamp) -> Zoned {
        at.to_zoned(self.zone.clone())
    }

    fn why(&self, target: Target) -> String {
        let spec = &self.object.spec;
        let note = spec.note(target).map(|note| escape(&note).into_owned());
        match (note, target.because) {
            (Some(note), Because::Override) if !target.suspended => format!("override {note}"),
            (Some(note), _) => format!("{}: {note}", escape(&spec.explain(target))),
            (None, _) => escape(&spec.explain(target)).into_owned(),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let (spec, zone) = (&self.object.spec, self.zone.iana_name().unwrap_or("UTC"));
        let shown = |at: Timestamp| self.local(at).strftime("%a %F %H:%M %Z").to_string();
        let utc = |at: Timestamp| at.round(Unit::Second).unwrap_or(at);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} at {} ({zone}), {}", self.object.name, shown(self.at), utc(self.at));
        let held = if self.target.suspended { ", but suspended: the operator sends no call" } else { "" };
        let _ = writeln!(text, "desired: {}{held}", self.target.desired);
        let _ = writeln!(text, "decided by: {}", self.why(self.target));
        if let Some(restart) = &spec.restart {
            let next = spec.next_restart(self.at).map(|at| format!("; next: {}", shown(at))).unwrap_or_default();
            let _ = writeln!(text, "restart: {restart}{next}");
        }
        if let Some(schedule) = &spec.schedule {
            if let Some(shared) = &schedule.shared {
                let _ = writeln!(text, "schedule: {} ({})", shared.name, escape(&shared.file));
            }
            self.exceptions(&mut text, schedule);
            text.push_str("\nWindows (the first match decides):\n");
            for (index, window) in schedule.windows.iter().enumerate() {
                let here = if self.target.because == Because::Window(index) { '>' } else { ' ' };
                let reason = escape(window.reason.as_deref().unwrap_or_default());
                let line =
                    format!("{here} {:>2}  {:<8} {:<34} {reason}", index + 1, window.state, window.span.to_string());
                let _ = writeln!(text, "{}", line.trim_end());
            }
            let here = if self.target.because == Because::State { '>' } else { ' ' };
            let _ = writeln!(text, "{here}  -  {:<8} outside all windows", spec.state);
        }
        if self.next.is_empty() {
            text.push_str("\nNo transitions.\n");
        } else {
            text.push_str("\nNext:\n");
            for (at, target) in &self.next {
                let state = if target.suspended { "suspended".to_owned() } else { target.desired.to_string() };
                let _ = writeln!(text, "  {}  {}  {state:<9}  {}", shown(*at), utc(*at), self.why(*target));
            }
        }
        text.push_str("\nSeven days, one character per hour (# Running, . Stopped, - suspended):\n");
        text.push_str("      0     6     12    18\n");
        for day in self.week() {
            let _ = writeln!(text, "  {day}");
        }
        text
    }

    /// Lists the calendars of a schedule, with the present or next event of each.
    fn exceptions(&self, text: &mut String, schedule: &Schedule) {
        if schedule.except.is_empty() {
            return;
        }
        text.push_str("\nExceptions (they decide before the windows):\n");
        for (index, exception) in schedule.except.iter().enumerate() {
            let here = if matches!(self.target.because, Because::Except(at, _) if at == index) { '>' } else { ' ' };
            let next = exception.events().iter().find(|event| event.to > self.at).map(|event| {
                let day = self.local(event.from).strftime("%a %F %H:%M").to_string();
                format!("next: {day} {}", event.summary)
            });
            let next = next.unwrap_or_else(|| "no more events".into());
            let reason = exception.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let line = escape(&format!("{}{reason}, {next}", exception.calendar)).into_owned();
            let _ = writeln!(text, "{here} {:>2}  {:<8} {line}", index + 1, exception.state);
        }
    }

    /// Seven days from the day of `at`, one line each, with the state at the beginning of each hour.
    fn week(&self) -> Vec<String> {
        let spec = &self.object.spec;
        let begin = |days: i64| {
            let date = self.local(self.at).date().checked_add(SignedDuration::from_hours(24 * days)).ok()?;
            self.reached(spec, date.at(0, 0, 0, 0))
        };
        let line = |days: i64| {
            let first = begin(days)?;
            let name = self.local(first).strftime("%a").to_string();
            let hours = (0..24).filter_map(|hour| {
                let date = self.local(first).date().at(hour, 0, 0, 0);
                let target = spec.target(self.reached(spec, date)?);
                Some(match (target.suspended, target.desired) {
                    (true, _) => '-',
                    (false, Desired::Running) => '#',
                    (false, Desired::Stopped) => '.',
                })
            });
            Some(format!("{name} {}", hours.collect::<String>()))
        };
        (0..7).filter_map(line).collect()
    }

    fn reached(&self, spec: &Spec, wall: DateTime) -> Option<Timestamp> {
        match &spec.schedule {
            Some(schedule) => schedule.reached(wall),
            None => self.zone.to_timestamp(wall).ok(),
        }
    }

    fn json(&self) -> serde_json::Value {
        let transition = |at: Timestamp, target: Target| {
            json!({
                "at": at,
                "localTime": self.local(at).strftime("%FT%T%:z").to_string(),
                "state": target.desired.as_str(),
                "suspended": target.suspended,
                "because": self.object.spec.explain(target),
            })
        };
        let mut value = transition(self.at, self.target);
        value["name"] = self.object.name.as_str().into();
        value["timeZone"] = self.zone.iana_name().unwrap_or("UTC").into();
        value["next"] = self.next.iter().map(|(at, target)| transition(*at, *target)).collect::<Vec<_>>().into();
        value["week"] = self.week().into();
        value
    }
}

/// Reads a time with its offset, or a local time of the app's zone.
fn moment(text: &str, spec: &Spec) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wall: DateTime = text.parse()?;
    match &spec.schedule {
        Some(schedule) => schedule.reached(wall).context("out of the range of the calendar"),
        None => Ok(TimeZone::UTC.to_timestamp(wall)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::{tests::hostile, with_escapes};

    proptest::proptest! {
        #[test]
        fn an_explanation_is_harmless(reason in hostile()) {
            let args = ExplainArgs {
                name: None,
                file: None,
                at: Some("2026-12-24T02:00:00Z".into()),
                next: 3,
                server: String::new(),
                output: ExplainOutput::Text,
            };
            let page = |reason: &str| {
                let manifest = json!({
                    "apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": {"name": "a"},
                    "spec": {
                        "appId": "x", "state": "Running", "suspend": {"reason": reason},
                        "schedule": {"timeZone": "UTC", "windows": [{"state": "Stopped", "from": "22:00", "to": "06:00", "reason": reason}]}
                    }
                });
                let manifest = manifest.to_string();
                let manifest = with_escapes(&manifest, |safe, c| write!(safe, "\\U{:08x}", u32::from(c)).unwrap());
                let (declared, diagnostics) = source::load_text(&"a.yaml".into(), manifest.as_bytes());
                assert_eq!(diagnostics, []);
                Explained::of(declared[0].object.as_ref().unwrap(), &args).unwrap().text()
            };
            assert_page(&page(&reason), &page("x"));
        }
    }
}
