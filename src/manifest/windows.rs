//! `spec.schedule` as written, and its conversion to the types of the core.
//!
//! A window has one of four forms, which its `from` or its `cron` selects.

use std::sync::Arc;

use jiff::SignedDuration;
use jiff::civil::{DateTime, Time, Weekday};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::json;

use super::calendar::ENDING;
use super::cron::pattern;
use super::diagnostic::{Mark, nearest};
use super::hints::{DURATION, fitting};
use super::reader::{Reader, quoted};
use super::scan::hidden;
use super::yaml::{Finding, Node, Value};
use super::zones::{self, zone};
use crate::reconcile::schedule::{self, Days, LONGEST, Span, day_name};
use crate::reconcile::state::Desired;

/// Windows of time in one time zone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`schedule`", rename_all = "camelCase")]
pub struct Schedule<'a> {
    /// The time zone of the windows: an IANA name, such as Europe/Berlin.
    #[schemars(schema_with = "time_zone_schema")]
    pub time_zone: &'a str,
    /// The first window that contains the present time decides; outside of all windows, `state` applies.
    #[serde(borrow)]
    pub windows: Vec<Window<'a>>,
}

/// Windows of time in one time zone for many apps, and exceptions from them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`spec` of a Schedule", rename_all = "camelCase")]
pub struct SharedSchedule<'a> {
    /// The time zone of the windows: an IANA name, such as Europe/Berlin.
    #[schemars(schema_with = "time_zone_schema")]
    pub time_zone: &'a str,
    /// The first window that contains the present time decides; outside of all windows, `state` of the app applies.
    #[serde(borrow)]
    pub windows: Vec<Window<'a>>,
    /// Calendars whose events take precedence over the windows, such as holidays.
    #[serde(borrow, default)]
    #[schemars(with = "Vec<Except>")]
    pub except: Option<Vec<Except<'a>>>,
}

/// The events of a calendar, and the state during them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "an exception")]
pub struct Except<'a> {
    /// A file in iCalendar format, relative to this file, in the directory of manifests.
    #[schemars(regex(pattern = CALENDAR))]
    pub calendar: &'a str,
    /// The desired state during the events.
    pub state: Desired,
    /// Reason.
    #[serde(default)]
    #[schemars(with = "String")]
    pub reason: Option<&'a str>,
}

/// A Schedule without the events of its calendars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub(super) schedule: schedule::Schedule,
    /// Place of each window.
    pub(super) windows_at: Box<[Mark]>,
    pub(super) except: Vec<DraftExcept>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DraftExcept {
    /// As written.
    pub(super) calendar: Arc<str>,
    pub(super) at: Mark,
    pub(super) state: Desired,
    pub(super) reason: Option<Arc<str>>,
}

/// A window: once, each week, each day, or by a cron pattern.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "a window")]
#[schemars(transform = forms)]
pub struct Window<'a> {
    /// The desired state within the window.
    pub state: Desired,
    /// Beginning: 2026-12-23T22:00:00 (once), Fri 21:00 (each week) or 22:00 (each day). Quote times.
    #[serde(default)]
    #[schemars(with = "String")]
    pub from: Option<&'a str>,
    /// End, in the same form; optional for a window with a date.
    #[serde(default)]
    #[schemars(with = "String")]
    pub to: Option<&'a str>,
    /// The days on which a daily window begins, such as Mon-Thu or Sat,Sun, or a list of them.
    #[serde(borrow, default)]
    #[schemars(schema_with = "days_schema")]
    pub days: Option<Vec<&'a str>>,
    /// Beginning as a cron pattern: minute, hour, day of month, month, day of week.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = CRON))]
    pub cron: Option<&'a str>,
    /// Duration of a cron window, such as 1h30m; at most a week.
    #[serde(default)]
    #[schemars(with = "String")]
    pub duration: Option<&'a str>,
    /// Reason.
    #[serde(default)]
    #[schemars(with = "String")]
    pub reason: Option<&'a str>,
    /// Time between a notification and the stop of this window, such as 15m.
    #[serde(default)]
    #[schemars(with = "String")]
    pub warn: Option<&'a str>,
}

/// The three forms of `from` and `to`, for editors.
const DATE: &str = r"^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))[Tt ]([01][0-9]|2[0-3])(:?[0-5][0-9](:?([0-5][0-9]|60)([.,][0-9]{1,9})?)?)?$";
const DAY: &str = r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$";
const CLOCK: &str = r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$";
/// Form of `days`, for editors.
const DAYS_OF_WEEK: &str = r"^\s*(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(\s*-\s*(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?(\s*,\s*(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(\s*-\s*(Mon|Tue|Wed|Thu|Fri|Sat|Sun))?)*\s*$";
/// Form of `cron`, for editors: five fields, or a nickname.
pub(super) const CRON: &str = r"^\s*(@[A-Za-z]+|\S+(\s+\S+){4})\s*$";

/// Form of `calendar`, for editors: a relative path without `..`.
const CALENDAR: &str = r"^((\.|[^./\\:#]([^/\\:]*[^/\\:~])?)/)*[^./\\:#][^/\\:]*\.ics$";

/// A text, or a list of texts; `Reader` reads a text as a list of one.
fn days_schema(_: &mut SchemaGenerator) -> Schema {
    let text = json_schema!({"type": "string", "pattern": DAYS_OF_WEEK});
    json_schema!({"oneOf": [text, {"type": "array", "items": text, "minItems": 1}]})
}

fn time_zone_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": zones::names()})
}

/// Adds the rules between fields: `from` and `to` have one form, and only a cron window has a duration.
fn forms(schema: &mut Schema) {
    let form = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let begins = |pattern: &str| json!({"required": ["from"], "properties": {"from": form(pattern)}});
    let any_form = json!([form(DATE), form(DAY), form(CLOCK)]);
    for field in ["from", "to"] {
        schema.ensure_object()["properties"][field]["anyOf"] = any_form.clone();
    }
    let cron = json!({"required": ["cron", "duration"], "properties": {"from": false, "to": false, "days": false}});
    let once = json!({"properties": {"to": form(DATE), "days": false, "duration": false}});
    let weekly = json!({"required": ["to"], "properties": {"to": form(DAY), "days": false, "duration": false}});
    let daily = json!({"required": ["to"], "properties": {"to": form(CLOCK), "duration": false}});
    schema.insert(
        "allOf".to_owned(),
        json!([
            {"if": {"required": ["cron"]}, "then": cron, "else": {"required": ["from"]}},
            {"if": begins(DATE), "then": once},
            {"if": begins(DAY), "then": weekly},
            {"if": begins(CLOCK), "then": daily},
        ]),
    );
}

const FORMS: &str = "expected \"2026-12-23T22:00:00\" (once), \"Fri 21:00\" (each week) or \"22:00\" (each day)";

/// A field of a window and its error; no field for the whole window.
type FieldError = (&'static str, Finding);

fn field_error(field: &'static str, message: impl Into<Box<str>>, hint: impl Into<Box<str>>) -> FieldError {
    (field, Finding::new(Mark::START, message).hint(hint))
}

/// A time in `from` or `to`, as written.
#[derive(Clone, Copy)]
enum Written {
    Moment(DateTime),
    Day(Weekday, Time),
    Clock(Time),
}

impl Schedule<'_> {
    /// Converts the schedule to the type of the core, and reports errors. `node`: its tree.
    pub(super) fn read(&self, node: &Node, reader: &Reader) -> Option<schedule::Schedule> {
        read(self.time_zone, &self.windows, node, reader)
    }
}

fn read(time_zone: &str, windows: &[Window<'_>], node: &Node, reader: &Reader) -> Option<schedule::Schedule> {
    let zone = reader.check(node.get("timeZone"), zone(time_zone));
    let nodes = items(node, "windows");
    let windows = windows.iter().zip(nodes).filter_map(|(window, node)| window.read(node, reader)).collect();
    Some(schedule::Schedule { zone_name: time_zone.into(), zone: zone?, except: Vec::new(), windows, shared: None })
}

fn items<'a>(node: &'a Node, field: &str) -> &'a [Node] {
    match node.get(field).map(|items| &items.value) {
        Some(Value::List(nodes)) => nodes,
        Some(Value::Scalar { .. } | Value::Map(_)) | None => &[],
    }
}

impl SharedSchedule<'_> {
    /// Converts the schedule to a draft, and reports errors.
    pub(super) fn read(&self, node: &Node, reader: &Reader) -> Option<Draft> {
        let schedule = read(self.time_zone, &self.windows, node, reader);
        let all = self.except.iter().flatten().zip(items(node, "except"));
        let except = all.filter_map(|(except, node)| {
            let node = node.get("calendar");
            let calendar = reader.check(node, calendar(except.calendar))?;
            let at = node?.at;
            Some(DraftExcept { calendar, at, state: except.state, reason: except.reason.map(Into::into) })
        });
        let windows_at = items(node, "windows").iter().map(|window| window.at).collect();
        Some(Draft { except: except.collect(), windows_at, schedule: schedule? })
    }
}

/// The path of a calendar, without `.` in it.
fn calendar(path: &str) -> Result<Arc<str>, Finding> {
    let refused = |message: &str, hint: &str| Err(Finding::new(Mark::START, message).found(quoted(path)).hint(hint));
    if path.contains(':') || path.contains('\\') {
        let hint = "copy the calendar into the directory of manifests, and name the file: `holidays.ics`";
        return refused("`calendar` is not a file", hint);
    }
    let parts: Vec<&str> = path.split('/').filter(|part| *part != ".").collect();
    if path.starts_with('/') || parts.contains(&"..") {
        let hint = "copy the calendar next to this file or below it: `holidays.ics`";
        return refused("`calendar` leads out of the directory of this file", hint);
    }
    if !path.ends_with(ENDING) || parts.iter().any(|part| part.is_empty() || hidden(part)) {
        return refused("`calendar` is not the name of a calendar", "its name ends in `.ics`, such as `holidays.ics`");
    }
    Ok(parts.join("/").into())
}

impl Window<'_> {
    fn read(&self, node: &Node, reader: &Reader) -> Option<schedule::Window> {
        let span = match self.span() {
            Ok(span) => span,
            // A misspelt field is reported once, and not also as missing.
            Err(("", _)) if reader.meant(&["from", "to", "cron", "duration"]) => return None,
            Err((field, finding)) => return reader.check(node.get(field).or(Some(node)), Err(finding)),
        };
        let warn = match self.warn.map(|text| length("warn", text)).transpose() {
            Ok(Some(warn)) if warn > LONGEST => Err(field_error(
                "warn",
                "`warn` is longer than a week",
                "a message a week ahead is forgotten; shorten it",
            )),
            warn => warn,
        };
        let warn = match warn {
            Ok(warn) => warn,
            Err((field, finding)) => return reader.check(node.get(field), Err(finding)),
        };
        Some(schedule::Window { state: self.state, span, reason: self.reason.map(Into::into), warn })
    }

    fn span(&self) -> Result<Span, FieldError> {
        if let Some(cron) = self.cron {
            return self.cron_span(cron);
        }
        let from =
            self.from.ok_or_else(|| field_error("", "a window has neither `from` nor `cron`", "say when it begins"))?;
        if self.duration.is_some() {
            return Err(field_error("duration", "`duration` belongs to `cron`", "write `to` instead"));
        }
        let from = written("from", from)?;
        let to = self.to.map(|to| written("to", to)).transpose()?;
        let days = match (&self.days, from) {
            (None, _) => Days::ALL,
            (Some(texts), Written::Clock(_)) => days(texts)?,
            (Some(_), Written::Moment(_) | Written::Day(..)) => {
                let hint = "a weekly window names its days in `from` and `to`, a one-off its dates";
                return Err(field_error("days", "`days` belongs to a daily window", hint));
            }
        };
        let empty = |hint| Err(field_error("to", "the window ends when it begins", hint));
        match (from, to) {
            (Written::Moment(from), None) => Ok(Span::Once { from, to: None }),
            (Written::Moment(from), Some(Written::Moment(to))) if to > from => Ok(Span::Once { from, to: Some(to) }),
            (Written::Moment(_), Some(Written::Moment(_))) => {
                let hint = "`to` has to be later than `from`";
                Err(field_error("to", "the window does not end after it begins", hint))
            }
            (Written::Day(first, from), Some(Written::Day(last, to))) => {
                let ends_after = match first.until(last) {
                    0 if from == to => return empty("a whole week is what `state` is for; or give it another end"),
                    0 if to < from => 7,
                    apart => apart,
                };
                Ok(Span::Recurring { days: Days::default().with(first), from, ends_after, to })
            }
            (Written::Clock(from), Some(Written::Clock(to))) if from == to => {
                empty("whole days are written `from: \"Sat 00:00\"`, `to: \"Mon 00:00\"`")
            }
            (Written::Clock(from), Some(Written::Clock(to))) => {
                Ok(Span::Recurring { days, from, ends_after: i8::from(to < from), to })
            }
            (Written::Day(..) | Written::Clock(_), None) => {
                let hint = "say when it ends; only a window that begins at a date may go on for ever";
                Err(field_error("", "a window has no `to`", hint))
            }
            (_, Some(_)) => {
                let message = "`from` and `to` are written in different forms";
                let (field, finding) = field_error("to", message, "write both in the same form");
                Err((field, finding.fits("expected two dates, two days of the week or two times of day")))
            }
        }
    }

    fn cron_span(&self, cron: &str) -> Result<Span, FieldError> {
        for (field, there) in [("from", self.from.is_some()), ("to", self.to.is_some()), ("days", self.days.is_some())]
        {
            if there {
                let hint = "the pattern says when the window begins, `duration` how long it is";
                return Err(field_error(field, format!("`{field}` and `cron` exclude each other"), hint));
            }
        }
        let pattern = pattern(cron).map_err(|finding| ("cron", finding))?;
        let text = self
            .duration
            .ok_or_else(|| field_error("", "a `cron` window has no `duration`", "add one, such as `duration: 1h`"))?;
        let duration = length("duration", text)?;
        if duration > LONGEST {
            let hint = "shorten it, or swap the two states";
            return Err(field_error("duration", "the window is longer than a week", hint));
        }
        let span = Span::Cron { cron: Box::new(pattern), duration };
        if span.never() {
            return Err(field_error("cron", "the window never begins: no such date exists", "check day and month"));
        }
        Ok(span)
    }
}

/// A length of time.
fn length(field: &'static str, text: &str) -> Result<SignedDuration, FieldError> {
    let length = text.parse::<SignedDuration>().map_err(|_| {
        let message = format!("`{field}` is not a length of time: {}", quoted(text));
        let hint = match fitting(field, text).filter(|value| value != text) {
            Some(value) => format!("write `{field}: \"{value}\"`"),
            None => DURATION.to_owned(),
        };
        field_error(field, message, hint)
    })?;
    if length < SignedDuration::from_secs(1) {
        return Err(field_error(field, format!("`{field}` is no length of time"), "write one such as `1h30m`"));
    }
    Ok(length)
}

fn written(field: &'static str, text: &str) -> Result<Written, FieldError> {
    let unreadable = |hint: String| {
        let hint = fitting(field, text)
            .filter(|value| value != text)
            .map_or(hint, |value| format!("write `{field}: \"{value}\"`"));
        let (field, finding) = field_error(field, format!("`{field}` is not a time: {}", quoted(text)), hint);
        Err((field, finding.fits(FORMS)))
    };
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.get(4..5) == Some("-") {
        // `DateTime` would read and forget an offset or a zone.
        if text.get(10..).is_some_and(|rest| rest.contains(['Z', 'z', '+', '-', '['])) {
            return unreadable("leave the offset or the zone away: the time is that of `timeZone`".into());
        }
        return match text.parse::<DateTime>() {
            Ok(at) if text.len() > 10 => Ok(Written::Moment(at)),
            Ok(_) => unreadable("add a time of day: `T00:00:00`".into()),
            Err(_) => unreadable("there is no such date or time; it is year-month-dayThour:minute:second".into()),
        };
    }
    if let Some((day, clock)) = text.split_once(' ') {
        return match (weekday(day), time(clock)) {
            (Some(day), Some(clock)) => Ok(Written::Day(day, clock)),
            (None, _) => {
                let meant = meant_day(day).map(|day| format!("; did you mean `{day}`?")).unwrap_or_default();
                unreadable(known_days() + &meant)
            }
            (Some(_), None) => unreadable("hours go from 00:00 to 23:59".into()),
        };
    }
    match time(text) {
        Some(clock) => Ok(Written::Clock(clock)),
        None if text.starts_with("24:") => unreadable("midnight is 00:00".into()),
        None if weekday(text).is_some() => unreadable(format!("add a time of day: \"{text} 00:00\"")),
        None => unreadable("times have two digits for the hour and two for the minute".into()),
    }
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn weekday(text: &str) -> Option<Weekday> {
    Weekday::Monday.cycle_forward().take(7).find(|day| day_name(*day) == text)
}

fn known_days() -> String {
    format!("the days are {}", DAYS.join(", "))
}

/// The nearest day of the week.
fn meant_day(typed: &str) -> Option<&'static str> {
    let short: String = typed.trim().chars().take(3).collect::<String>().to_lowercase();
    DAYS.iter().find(|day| day.to_lowercase() == short).copied().or_else(|| nearest(typed, DAYS))
}

/// The whole field with each day replaced by the nearest one; `None` if there is none for a day.
fn meant_days(texts: &[&str]) -> Option<String> {
    let range = |range: &str| {
        let days: Option<Vec<&str>> = range.split('-').map(meant_day).collect();
        Some(days?.join("-"))
    };
    let ranges: Option<Vec<String>> = texts.iter().flat_map(|text| text.split(',')).map(range).collect();
    Some(ranges?.join(","))
}

/// `HH:MM`, or with seconds. Two digits each: `7:00` is read as a number of minutes by some YAML readers.
fn time(text: &str) -> Option<Time> {
    // `parse` would also read signs: `-0` and `+5`.
    let is_digits = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let digits = |part: &str| Some(part).filter(is_digits)?.parse::<i8>().ok();
    let mut parts = text.split(':');
    let (hour, minute) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let second = parts.next().map_or(Some(0), digits)?;
    (parts.next().is_none()).then(|| Time::new(hour, minute, second, 0).ok()).flatten()
}

fn days(texts: &[&str]) -> Result<Days, FieldError> {
    let read = |text: &str| {
        weekday(text.trim()).ok_or_else(|| {
            let hint = match meant_days(texts) {
                Some(meant) => format!("write `days: {meant}`; {}", known_days()),
                None => known_days(),
            };
            let (field, finding) = field_error("days", format!("unknown day {}", quoted(text)), hint);
            (field, finding.fits("expected days, such as `Mon-Thu` or `Sat,Sun`"))
        })
    };
    let mut days = Days::default();
    if texts.is_empty() {
        return Err(field_error(
            "days",
            "`days` is an empty list",
            "write the days, or remove the field: then it is every day",
        ));
    }
    for part in texts.iter().flat_map(|text| text.split(',')).map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (read(first)?, read(last)?);
        let count = usize::try_from(first.until(last)).unwrap_or(0) + 1;
        days = first.cycle_forward().take(count).fold(days, Days::with);
    }
    Ok(days)
}
