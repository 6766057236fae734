//! What may be written as `spec.schedule`, and what is wrong with one that says something else?
//!
//! The types are the YAML as written, like those of `schema`; [`Schedule::read`] turns them into the core's. A window is
//! one of four forms, told apart by how its `from` is written, or by its `cron`.

use std::sync::Arc;

use croner::parser::{CronParser, Seconds, Year};
use jiff::SignedDuration;
use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::diagnostic::{Mark, nearest};
use super::schema::{Reader, State, all, kind_of, quoted};
use super::yaml::{Finding, Node, Value};
use crate::reconcile::desired::Desired;
use crate::reconcile::schedule::{self, Days, LONGEST, Span, day_name};

/// Windows of time in one time zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Schedule {
    /// An IANA name, such as Europe/Berlin: whose clock the windows mean.
    pub time_zone: String,
    /// The first window that contains the present moment decides; outside all of them state holds.
    pub windows: Vec<Window>,
}

/// A window: once, each week, each day, or by a cron pattern.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// What the app shall be within it.
    pub state: State,
    /// When it begins: 2026-12-23T22:00:00 (once), Fri 21:00 (each week) or 22:00 (each day). Quote times.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = TIME))]
    pub from: Option<String>,
    /// When it ends, in the same form; only a one-off may go without.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = TIME))]
    pub to: Option<String>,
    /// The days on which a daily window begins, such as Mon-Thu or Sat,Sun.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = DAYS_OF_WEEK))]
    pub days: Option<String>,
    /// Minute, hour, day of month, month, day of week: when it begins.
    #[serde(default)]
    #[schemars(with = "String")]
    pub cron: Option<String>,
    /// How long a cron window lasts, such as 1h30m; a week at most.
    #[serde(default)]
    #[schemars(with = "String")]
    pub duration: Option<String>,
    /// Why, for people.
    #[serde(default)]
    #[schemars(with = "String")]
    pub reason: Option<String>,
}

/// The fields of `schedule`.
pub(super) const SCHEDULE: [&str; 2] = ["timeZone", "windows"];
const WINDOW: [&str; 7] = ["state", "from", "to", "days", "cron", "duration", "reason"];
/// What `from` and `to` look like, for editors.
const TIME: &str = r"^(\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?|((Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?)$";
/// What `days` looks like.
const DAYS_OF_WEEK: &str = r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?( *, *(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(-(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?)*$";
const FORMS: &str = "\"2026-12-23T22:00:00\" (once), \"Fri 21:00\" (each week) or \"22:00\" (each day) fits";

/// What is wrong with a window, and with which of its fields.
struct Trouble {
    field: &'static str,
    message: String,
    fits: Option<&'static str>,
    hint: String,
}

impl Trouble {
    fn new(field: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { field, message: message.into(), fits: None, hint: hint.into() }
    }
}

/// A time as it is written in `from` and `to`.
#[derive(Clone, Copy)]
enum Written {
    Moment(DateTime),
    Day(Weekday, Time),
    Clock(Time),
}

impl Schedule {
    /// The schedule in the core's words; `None` if anything in it cannot be read, which `Reader` has reported then.
    pub(super) fn read(&self) -> Option<schedule::Schedule> {
        let windows = self.windows.iter().map(Window::read).collect::<Option<_>>()?;
        schedule::Schedule::new(&self.time_zone, windows)
    }
}

impl Window {
    fn read(&self) -> Option<schedule::Window> {
        let state = match self.state {
            State::Running => Desired::Running,
            State::Stopped => Desired::Stopped,
        };
        let reason = self.reason.as_deref().map(Arc::from);
        Some(schedule::Window { state, span: self.span().ok()?, reason })
    }

    fn span(&self) -> Result<Span, Trouble> {
        if let Some(cron) = &self.cron {
            return self.cron_span(cron);
        }
        let Some(from) = &self.from else {
            return Err(Trouble::new("", "a window has neither `from` nor `cron`", "say when it begins"));
        };
        if self.duration.is_some() {
            return Err(Trouble::new("duration", "`duration` belongs to `cron`", "write `to` instead"));
        }
        let from = written("from", from)?;
        let to = self.to.as_deref().map(|to| written("to", to)).transpose()?;
        let daily = matches!(from, Written::Clock(_));
        let days = match &self.days {
            Some(_) if !daily => {
                let hint = "a weekly window names its days in `from` and `to`, a one-off its dates";
                return Err(Trouble::new("days", "`days` belongs to a daily window", hint));
            }
            Some(text) => days(text)?,
            None => Days::ALL,
        };
        match (from, to) {
            (Written::Moment(from), None) => Ok(Span::Once { from, to: None }),
            (Written::Moment(from), Some(Written::Moment(to))) if to > from => Ok(Span::Once { from, to: Some(to) }),
            (Written::Moment(_), Some(Written::Moment(_))) => Err(backwards()),
            (Written::Day(first, from), Some(Written::Day(last, to))) => {
                let apart = first.until(last);
                match apart {
                    0 if from == to => Err(Trouble::new(
                        "to",
                        "the window ends when it begins",
                        "a whole week is what `state` is for; or give it another end",
                    )),
                    0 if to < from => {
                        Ok(Span::Recurring { days: Days::default().with(first), from, ends_after: 7, to })
                    }
                    apart => Ok(Span::Recurring { days: Days::default().with(first), from, ends_after: apart, to }),
                }
            }
            (Written::Clock(from), Some(Written::Clock(to))) if from == to => Err(Trouble::new(
                "to",
                "the window ends when it begins",
                "whole days are written `from: \"Sat 00:00\"`, `to: \"Mon 00:00\"`",
            )),
            (Written::Clock(from), Some(Written::Clock(to))) => {
                Ok(Span::Recurring { days, from, ends_after: i8::from(to < from), to })
            }
            (Written::Day(..) | Written::Clock(_), None) => Err(Trouble::new(
                "",
                "a window has no `to`",
                "say when it ends; only a window that begins at a date may go on for ever",
            )),
            (_, Some(_)) => Err(Trouble {
                fits: Some("two dates, two days of the week or two times of day fit"),
                ..Trouble::new("to", "`from` and `to` are written in different forms", "write both in the same form")
            }),
        }
    }

    fn cron_span(&self, cron: &str) -> Result<Span, Trouble> {
        for (field, there) in [("from", &self.from), ("to", &self.to), ("days", &self.days)] {
            if there.is_some() {
                let message = format!("`{field}` and `cron` exclude each other");
                return Err(Trouble::new(
                    field,
                    message,
                    "the pattern says when the window begins, `duration` how long it is",
                ));
            }
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser.parse(cron).map_err(|error| Trouble {
            fits: Some("five fields fit: minute, hour, day of month, month, day of week"),
            ..Trouble::new(
                "cron",
                format!("`cron` cannot be read: {error}"),
                "noon on working days is \"0 12 * * 1-5\"",
            )
        })?;
        let Some(text) = &self.duration else {
            return Err(Trouble::new("", "a `cron` window has no `duration`", "add one, such as `duration: 1h`"));
        };
        let span = match text.parse::<SignedDuration>() {
            Ok(duration) if duration > LONGEST => {
                let message = "the window is longer than a week";
                return Err(Trouble::new("duration", message, "shorten it, or swap the two states"));
            }
            Ok(duration) if duration >= SignedDuration::from_secs(1) => {
                Span::Cron { cron: Box::new(pattern), duration }
            }
            Ok(_) => return Err(Trouble::new("duration", "the window has no length", "write one such as `1h30m`")),
            Err(_) => {
                let message = format!("`duration` is not a length of time: {}", quoted(text));
                return Err(Trouble::new("duration", message, "write it in hours and minutes: `90m`, `1h30m`, `48h`"));
            }
        };
        if span.never() {
            return Err(Trouble::new("cron", "the window never begins: no such date exists", "check day and month"));
        }
        Ok(span)
    }
}

fn backwards() -> Trouble {
    Trouble::new("to", "the window ends before it begins, or at once", "`to` has to be later than `from`")
}

fn written(field: &'static str, text: &str) -> Result<Written, Trouble> {
    let unreadable = |hint: String| Trouble {
        fits: Some(FORMS),
        ..Trouble::new(field, format!("`{field}` is not a time: {}", quoted(text)), hint)
    };
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.get(4..5) == Some("-") {
        if text.ends_with(['Z', 'z']) || text.get(19..).is_some_and(|rest| rest.contains(['+', '-'])) {
            return Err(unreadable("leave the offset away: the time is that of `timeZone`".into()));
        }
        let dated = text.len() > 10;
        return match text.parse::<DateTime>() {
            Ok(at) if dated => Ok(Written::Moment(at)),
            Ok(_) => Err(unreadable("add a time of day: `T00:00:00`".into())),
            Err(_) => Err(unreadable("there is no such date or time; it is year-month-dayThour:minute:second".into())),
        };
    }
    if let Some((day, clock)) = text.split_once(' ') {
        let day =
            weekday(day).ok_or_else(|| unreadable(format!("the days are {}{}", DAYS.join(", "), meant_day(day))))?;
        let clock = time(clock).ok_or_else(|| unreadable("hours go from 00:00 to 23:59".into()))?;
        return Ok(Written::Day(day, clock));
    }
    match time(text) {
        Some(clock) => Ok(Written::Clock(clock)),
        None if text.starts_with("24:") => Err(unreadable("midnight is 00:00".into())),
        None if weekday(text).is_some() => Err(unreadable(format!("add a time of day: \"{text} 00:00\""))),
        None => Err(unreadable("times have two digits for the hour and two for the minute".into())),
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn weekday(text: &str) -> Option<Weekday> {
    Weekday::Monday.cycle_forward().take(7).find(|day| day_name(*day) == text)
}

fn meant_day(text: &str) -> String {
    let short: String = text.chars().take(3).collect::<String>().to_lowercase();
    let known = DAYS.iter().find(|day| day.to_lowercase() == short).copied();
    known.or_else(|| nearest(text, DAYS)).map(|day| format!("; did you mean `{day}`?")).unwrap_or_default()
}

/// `HH:MM`, or with seconds. Two digits each: `7:00` is read as a number of minutes by some YAML readers.
fn time(text: &str) -> Option<Time> {
    let digits = |part: &str| (part.len() == 2).then(|| part.parse::<i8>().ok()).flatten();
    let mut parts = text.split(':');
    let (hour, minute) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let second = parts.next().map_or(Some(0), digits)?;
    (parts.next().is_none()).then(|| Time::new(hour, minute, second, 0).ok()).flatten()
}

fn days(text: &str) -> Result<Days, Trouble> {
    let mut days = Days::default();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let read = |text: &str| {
            weekday(text.trim()).ok_or_else(|| Trouble {
                fits: Some("`Mon-Thu`, `Sat,Sun` or the like fits"),
                ..Trouble::new(
                    "days",
                    format!("unknown day {}", quoted(text)),
                    format!("the days are {}{}", DAYS.join(", "), meant_day(text)),
                )
            })
        };
        let (first, last) = (read(first)?, read(last)?);
        let count = usize::try_from(first.until(last)).unwrap_or(0) + 1;
        days = first.cycle_forward().take(count).fold(days, Days::with);
    }
    Ok(days)
}

impl Reader {
    pub(super) fn schedule(&mut self, node: &Node, at: Mark) -> Option<Schedule> {
        let fields = self.fields(node, at, "`schedule`", &SCHEDULE)?;
        let time_zone = self.required(&fields, "timeZone").and_then(|node| self.zone(node));
        let windows = self.required(&fields, "windows").and_then(|node| self.windows(node));
        Some(Schedule { time_zone: time_zone?, windows: windows? })
    }

    fn zone(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "timeZone")?;
        // Exactly as the database spells it: what an editor completes and what `explain` prints is one name.
        if TimeZone::get(&text).is_ok_and(|zone| zone.iana_name() == Some(text.as_str())) {
            return Some(text);
        }
        let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let mut finding = Finding::new(node.at, format!("unknown time zone {}", quoted(&text)));
        finding = finding.fits("an IANA name fits, such as America/Sao_Paulo, Europe/Berlin or UTC");
        let place = text.rsplit('/').next().unwrap_or(&text).replace(' ', "_").to_lowercase();
        let same_place = |name: &&String| name.rsplit('/').next().is_some_and(|last| last.to_lowercase() == place);
        let meant = known.iter().find(same_place).map(String::as_str);
        if let Some(meant) = meant.or_else(|| nearest(&text, known.iter().map(String::as_str))) {
            finding = finding.hint(format!("did you mean `{meant}`?"));
        }
        self.report(finding);
        None
    }

    fn windows(&mut self, node: &Node) -> Option<Vec<Window>> {
        let Value::List(items) = &node.value else {
            let finding = Finding::new(node.at, "`windows` is not a list").found(kind_of(node));
            self.report(finding.hint("write one `- {state: .., from: .., to: ..}` for each window"));
            return None;
        };
        // All of them, so that every mistake is told.
        let windows: Vec<Option<Window>> = items.iter().map(|item| self.window(item)).collect();
        windows.into_iter().collect()
    }

    fn window(&mut self, node: &Node) -> Option<Window> {
        let fields = self.fields(node, node.at, "a window", &WINDOW)?;
        let state = self.required(&fields, "state").and_then(|node| self.state(node));
        let mut text = |field: &'static str| all(fields.get(field).map(|node| self.text(node, field)));
        let (from, to, days) = (text("from"), text("to"), text("days"));
        let (cron, duration, reason) = (text("cron"), text("duration"), text("reason"));
        let window = Window {
            state: state?,
            from: from?,
            to: to?,
            days: days?,
            cron: cron?,
            duration: duration?,
            reason: reason?,
        };
        match window.span() {
            Ok(_) => Some(window),
            // A misspelt field has been reported; that it is missing need not be said as well.
            Err(Trouble { field: "", .. }) if self.meant(&WINDOW) => None,
            Err(Trouble { field, message, fits, hint }) => {
                let at = fields.get(field).map_or(fields.at, |node| node.at);
                let mut finding = Finding::new(at, message).hint(hint);
                if let Some(fits) = fits {
                    finding = finding.fits(fits);
                }
                self.report(finding);
                None
            }
        }
    }
}
