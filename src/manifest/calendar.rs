//! A calendar file (iCalendar, RFC 5545) as the times of its events.
//!
//! Pure. `icalendar` parses the text, `rrule` repeats events, and jiff has the zones, so that all times use one
//! database. Each event becomes a bounded list of wall times in its zone, or in the zone of the Schedule that uses it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use icalendar::parser::{Component, Property, read_components, unfold};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use rrule::{Frequency, RRuleSet};

use super::diagnostic::Mark;
use super::reader::quoted;
use super::yaml::Finding;
use crate::reconcile::schedule::{Event, reached};

/// The ending of a calendar's name.
pub(super) const ENDING: &str = ".ics";
/// End of rules without an end.
const HORIZON: DateTime = DateTime::constant(2100, 1, 1, 0, 0, 0, 0);
/// Maximum number of times of one file: enough for a daily event until the horizon.
const MOST_TIMES: usize = 50_000;
/// Maximum number of rules in one file: each may cost much time without a result.
const MOST_RULES: usize = 200;
/// Maximum depth of components: a calendar has three levels, and the parser is recursive.
const MOST_LEVELS: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar(Vec<Times>);

/// The times of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Times {
    /// `None`: the zone of the Schedule.
    zone: Option<TimeZone>,
    /// Wall times of the beginning and the end.
    spans: Vec<(DateTime, DateTime)>,
    summary: Arc<str>,
}

impl Calendar {
    /// A calendar with these events, as the status API publishes them.
    pub(super) fn of(events: &[Event]) -> Self {
        let times = |event: &Event| Times {
            zone: Some(TimeZone::UTC),
            spans: vec![(TimeZone::UTC.to_datetime(event.from), TimeZone::UTC.to_datetime(event.to))],
            summary: event.summary.clone(),
        };
        Self(events.iter().map(times).collect())
    }

    /// All times; days and times without a zone are in `zone`.
    pub(super) fn events(&self, zone: &TimeZone) -> Vec<Event> {
        let of_one = |times: &Times| {
            let (zone, summary) = (times.zone.clone().unwrap_or_else(|| zone.clone()), times.summary.clone());
            let event = move |(from, to): &(DateTime, DateTime)| {
                Some(Event { from: reached(&zone, *from)?, to: reached(&zone, *to)?, summary: summary.clone() })
            };
            times.spans.iter().filter_map(event).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_one).collect()
    }
}

/// Reads a calendar.
///
/// # Errors
/// All errors of the calendar.
pub(super) fn read(text: &str) -> Result<Calendar, Vec<Finding>> {
    let whole = |message: &str, hint: &str| Err(vec![Finding::new(Mark::START, message).hint(hint)]);
    let lines = || text.lines().map(str::trim_end);
    let is = |line: Option<&str>, word: &str| line.is_some_and(|line| line.eq_ignore_ascii_case(word));
    let mut content = lines().filter(|line| !line.is_empty());
    if !is(content.next(), "BEGIN:VCALENDAR") {
        return whole("the file is not a calendar", "export it as iCalendar: it begins with `BEGIN:VCALENDAR`");
    }
    if !is(content.next_back(), "END:VCALENDAR") {
        return whole("the calendar is cut off", "its last line is `END:VCALENDAR`; export it again");
    }
    let mut level = 0;
    for line in lines() {
        let begins = |word: &str| line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        level = if begins("BEGIN:") { level + 1 } else { level - usize::from(begins("END:") && level > 0) };
        if level > MOST_LEVELS {
            return whole("the components of the calendar are nested too deeply", "export it again");
        }
    }
    let unfolded = unfold(text);
    let Ok(components) = read_components(&unfolded) else {
        return whole("the calendar cannot be read", "export it again, as iCalendar (RFC 5545)");
    };
    // The parser has no line numbers; the events are in the order of the text.
    let begins = (1u32..).zip(lines()).filter(|(_, line)| line.eq_ignore_ascii_case("BEGIN:VEVENT"));
    let marks = begins.map(|(line, text)| Mark { line, column: 1, length: u32::try_from(text.len()).unwrap_or(1) });
    let mut events = Vec::new();
    collect(&components, &mut events);
    Reader::default().read(events.into_iter().zip(marks).collect())
}

fn collect<'a>(components: &'a [Component<'a>], events: &mut Vec<&'a Component<'a>>) {
    for component in components {
        if component.name.as_str().eq_ignore_ascii_case("VEVENT") {
            events.push(component);
        }
        collect(&component.components, events);
    }
}

/// A time as written.
#[derive(Debug, Clone, PartialEq)]
enum Written {
    /// A whole day.
    Day(Date),
    /// A wall time in the zone of the Schedule.
    Wall(DateTime),
    In(TimeZone, DateTime),
}

impl Written {
    fn read(text: &str, property: &Property<'_>) -> Result<Self, Finding> {
        let unreadable = || fault("a time that cannot be read", text, "write 20261225 or 20261225T090000Z");
        let (plain, utc) = text.strip_suffix('Z').map_or((text, false), |plain| (plain, true));
        let shaped =
            plain.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'T' } else { byte.is_ascii_digit() });
        match (shaped, plain.len()) {
            (true, 8) if !utc => plain.parse().map(Self::Day).map_err(|_| unreadable()),
            (true, 15) => {
                let wall: DateTime = plain.parse().map_err(|_| unreadable())?;
                Ok(match (utc, parameter(property, "TZID")) {
                    (true, _) => Self::In(TimeZone::UTC, wall),
                    (false, None) => Self::Wall(wall),
                    (false, Some(name)) => Self::In(zone(name)?, wall),
                })
            }
            _ => Err(unreadable()),
        }
    }

    fn zone(&self) -> Option<&TimeZone> {
        match self {
            Self::Day(_) | Self::Wall(_) => None,
            Self::In(zone, _) => Some(zone),
        }
    }

    /// The wall time in another zone. A time without a zone is the same in every zone.
    fn wall(&self, zone: Option<&TimeZone>) -> DateTime {
        match (self, zone) {
            (Self::Day(day), _) => day.to_datetime(Time::midnight()),
            (Self::Wall(wall) | Self::In(_, wall), None) => *wall,
            (Self::Wall(wall), Some(_)) => *wall,
            (Self::In(own, wall), Some(zone)) => {
                reached(own, *wall).map_or(*wall, |at| if own == zone { *wall } else { zone.to_datetime(at) })
            }
        }
    }
}

/// The zone of a TZID. Some programs add a path before the name.
fn zone(name: &str) -> Result<TimeZone, Finding> {
    let parts = name.match_indices('/').map(|(at, _)| &name[at + 1..]);
    let known = [name].into_iter().chain(parts).find_map(|name| TimeZone::get(name).ok());
    known
        .ok_or_else(|| fault("unknown time zone", name, "use an IANA name, such as America/Sao_Paulo, or times in UTC"))
}

fn fault(message: &str, found: &str, hint: &str) -> Finding {
    Finding::new(Mark::START, message).found(quoted(found)).hint(hint)
}

fn parameter<'a>(property: &'a Property<'_>, name: &str) -> Option<&'a str> {
    let mut all = property.params.iter().filter(|one| one.key.as_str().eq_ignore_ascii_case(name));
    Some(all.next()?.val.as_ref()?.as_str().trim_matches('"'))
}

/// The first property of a name.
fn text<'a>(event: &'a Component<'_>, name: &'a str) -> Option<&'a str> {
    properties(event, name).next().map(|property| property.val.as_str())
}

fn properties<'a>(event: &'a Component<'_>, name: &'a str) -> impl Iterator<Item = &'a Property<'a>> {
    event.properties.iter().filter(move |property| property.name.as_str().eq_ignore_ascii_case(name))
}

/// Counts the cost of the events of one file.
#[derive(Default)]
struct Reader {
    times: usize,
    rules: usize,
}

impl Reader {
    fn read(mut self, events: Vec<(&Component<'_>, Mark)>) -> Result<Calendar, Vec<Finding>> {
        // An event with a RECURRENCE-ID replaces one time of the event with the same UID.
        let mut replaced: HashMap<&str, Vec<&Property<'_>>> = HashMap::new();
        for (event, _) in &events {
            if let (Some(uid), Some(which)) = (text(event, "UID"), properties(event, "RECURRENCE-ID").next()) {
                replaced.entry(uid).or_default().push(which);
            }
        }
        let (mut all, mut findings) = (Vec::new(), Vec::new());
        for (event, at) in events {
            if text(event, "STATUS").is_some_and(|status| status.eq_ignore_ascii_case("CANCELLED")) {
                continue;
            }
            let others = text(event, "UID").and_then(|uid| replaced.get(uid));
            let others = others.filter(|_| text(event, "RECURRENCE-ID").is_none());
            match self.event(event, others.map_or(&[], Vec::as_slice)) {
                Ok(times) => all.push(times),
                Err(finding) => findings.push(Finding { at, ..finding }),
            }
        }
        if findings.is_empty() { Ok(Calendar(all)) } else { Err(findings) }
    }

    fn event(&mut self, event: &Component<'_>, replaced: &[&Property<'_>]) -> Result<Times, Finding> {
        let start = properties(event, "DTSTART").next();
        let start =
            start.ok_or_else(|| Finding::new(Mark::START, "an event without a beginning").hint("add `DTSTART`"))?;
        let begins = Written::read(start.val.as_str(), start)?;
        let zone = begins.zone().cloned();
        let from = begins.wall(zone.as_ref());
        let to = end(event, &begins, from)?;
        let length = from.until(to).map_err(|_| too_far())?;

        let mut starts = BTreeSet::new();
        let rules: Vec<&str> = properties(event, "RRULE").map(|rule| rule.val.as_str()).collect();
        if rules.is_empty() {
            starts.insert(from);
        }
        for rule in rules {
            starts.extend(self.repeat(from, rule, zone.as_ref())?);
        }
        for dates in properties(event, "RDATE") {
            for date in dates.val.as_str().split(',') {
                starts.insert(Written::read(date.trim(), dates)?.wall(zone.as_ref()));
            }
        }
        for dates in properties(event, "EXDATE").chain(replaced.iter().copied()) {
            for date in dates.val.as_str().split(',') {
                match Written::read(date.trim(), dates)? {
                    Written::Day(day) => starts.retain(|start| start.date() != day),
                    other @ (Written::Wall(_) | Written::In(..)) => drop(starts.remove(&other.wall(zone.as_ref()))),
                }
            }
        }
        self.times += starts.len();
        if self.times > MOST_TIMES {
            let message =
                format!("the events of the calendar have more than {MOST_TIMES} times until {}", HORIZON.year());
            return Err(Finding::new(Mark::START, message).hint("end the rule with `UNTIL` or `COUNT`"));
        }
        let span = |start: DateTime| Ok((start, start.checked_add(length).map_err(|_| too_far())?));
        let summary = text(event, "SUMMARY").unwrap_or("an event");
        let summary = summary.replace("\\,", ",").replace("\\;", ";").replace("\\n", " ").replace("\\\\", "\\");
        let spans = starts.into_iter().map(span).collect::<Result<_, _>>()?;
        Ok(Times { zone, spans, summary: summary.trim().into() })
    }

    /// The wall times of a rule.
    fn repeat(&mut self, from: DateTime, rule: &str, zone: Option<&TimeZone>) -> Result<Vec<DateTime>, Finding> {
        self.rules += 1;
        if self.rules > MOST_RULES {
            let message = format!("the calendar has more than {MOST_RULES} rules (RRULE)");
            return Err(Finding::new(Mark::START, message).hint("split it into several calendars"));
        }
        let unreadable = || fault("a rule that cannot be read", rule, "an RRULE is written `FREQ=YEARLY;BYMONTH=12`");
        // The crate receives wall times as UTC; jiff applies the zones.
        let mut parts = Vec::new();
        for part in rule.split(';') {
            match part.split_once('=') {
                Some((name, until)) if name.eq_ignore_ascii_case("UNTIL") => {
                    let until = match (Written::read(until, &Property::new_ref("UNTIL", until))?, zone) {
                        (Written::Day(day), _) => day.to_datetime(Time::constant(23, 59, 59, 0)),
                        (until, zone) => until.wall(zone),
                    };
                    parts.push(format!("UNTIL={}", compact(until)));
                }
                _ => parts.push(part.to_owned()),
            }
        }
        let set = format!("DTSTART:{}\nRRULE:{}", compact(from), parts.join(";"));
        let set: RRuleSet = set.parse().map_err(|_| unreadable())?;
        // The crate stops after 100,000 steps without a match: ten years of hours, but only weeks of minutes.
        if set.get_rrule().iter().any(|rule| matches!(rule.get_freq(), Frequency::Minutely | Frequency::Secondly)) {
            return Err(fault("a rule for minutes or seconds", rule, "repeat the event each hour, or less often"));
        }
        let wall = |second| Timestamp::from_second(second).ok().map(|at| TimeZone::UTC.to_datetime(at));
        let times = set.limit().into_iter().map_while(|at| wall(at.timestamp())).take_while(|at| *at < HORIZON);
        Ok(times.take(MOST_TIMES + 1).collect())
    }
}

/// The wall time of the end of an event, in the zone of its beginning.
fn end(event: &Component<'_>, begins: &Written, from: DateTime) -> Result<DateTime, Finding> {
    let day = || from.checked_add(1.day()).map_err(|_| too_far());
    let is_day = matches!(begins, Written::Day(_));
    let to = if let Some(end) = properties(event, "DTEND").next() {
        Written::read(end.val.as_str(), end)?.wall(begins.zone())
    } else if let Some(length) = text(event, "DURATION") {
        let unreadable = || fault("a duration that cannot be read", length, "write `PT1H30M` or `P1D`");
        from.checked_add(length.parse::<jiff::Span>().map_err(|_| unreadable())?).map_err(|_| too_far())?
    } else if is_day {
        day()?
    } else {
        from
    };
    // Some programs write a single day in this form.
    if is_day && to == from {
        return day();
    }
    if to < from {
        return Err(Finding::new(Mark::START, "an event ends before it begins").hint("`DTEND` is later than `DTSTART`"));
    }
    Ok(to)
}

fn too_far() -> Finding {
    Finding::new(Mark::START, "an event ends out of the range of the calendar").hint("shorten it")
}

fn compact(wall: DateTime) -> String {
    wall.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calendar(events: &str) -> String {
        format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n{}END:VCALENDAR\r\n", events.replace('\n', "\r\n"))
    }

    fn event(lines: &str) -> String {
        format!("BEGIN:VEVENT\nUID:1\nSUMMARY:x\n{lines}\nEND:VEVENT\n")
    }

    /// Each time of the events in São Paulo, as beginning and length.
    #[track_caller]
    fn times(events: &str) -> Vec<String> {
        let zone = TimeZone::get("America/Sao_Paulo").unwrap();
        let calendar = read(&calendar(events)).unwrap_or_else(|findings| panic!("{findings:?}"));
        let shown = |event: &Event| format!("{} {:#}", event.from, event.to.duration_since(event.from));
        calendar.events(&zone).iter().map(shown).collect()
    }

    #[track_caller]
    fn case(lines: &str, expected: &[&str]) {
        assert_eq!(times(&event(lines)), expected, "{lines}");
    }

    #[test]
    fn forms_of_times() {
        case("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261226", &["2026-12-25T03:00:00Z 24h"]);
        case("DTSTART;VALUE=DATE:20261225", &["2026-12-25T03:00:00Z 24h"]);
        case("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261225", &["2026-12-25T03:00:00Z 24h"]);
        case("DTSTART;VALUE=DATE:20261224\nDURATION:P2D", &["2026-12-24T03:00:00Z 48h"]);
        case("DTSTART:20261224T180000\nDTEND:20261224T200000", &["2026-12-24T21:00:00Z 2h"]);
        case("DTSTART:20261224T180000Z\nDURATION:PT1H30M", &["2026-12-24T18:00:00Z 1h 30m"]);
        case("DTSTART;TZID=Europe/Berlin:20261224T180000\nDURATION:PT1H", &["2026-12-24T17:00:00Z 1h"]);
        case("DTSTART;TZID=\"/x.org/y/Europe/Berlin\":20261224T180000\nDURATION:PT1H", &["2026-12-24T17:00:00Z 1h"]);
        case("DTSTART;TZID=Europe/Berlin:20261224T180000\nDTEND:20261224T180000Z", &["2026-12-24T17:00:00Z 1h"]);
        case("DTSTART;VALUE=DATE:20261225\nSTATUS:CONFIRMED\nTRANSP:TRANSPARENT", &["2026-12-25T03:00:00Z 24h"]);
        assert_eq!(times(&event("DTSTART;VALUE=DATE:20261225\nSTATUS:CANCELLED")), [""; 0]);
        assert_eq!(times(""), [""; 0], "no events");
    }

    #[test]
    fn repetitions() {
        let yearly = "DTSTART;VALUE=DATE:20251225\nRRULE:FREQ=YEARLY";
        assert_eq!(times(&event(yearly)).len(), 75, "until the horizon");
        case(
            "DTSTART;VALUE=DATE:20251225\nRRULE:FREQ=YEARLY;COUNT=2",
            &["2025-12-25T03:00:00Z 24h", "2026-12-25T03:00:00Z 24h"],
        );
        case(
            "DTSTART;VALUE=DATE:20251225\nRRULE:FREQ=YEARLY;UNTIL=20261225",
            &["2025-12-25T03:00:00Z 24h", "2026-12-25T03:00:00Z 24h"],
        );
        case(
            "DTSTART;VALUE=DATE:20251127\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH;UNTIL=20270101T000000Z",
            &["2025-11-27T03:00:00Z 24h", "2026-11-26T03:00:00Z 24h"],
        );
        // The clock in Berlin changes on the 29th.
        case(
            "DTSTART;TZID=Europe/Berlin:20260328T090000\nDURATION:PT1H\nRRULE:FREQ=DAILY;UNTIL=20260329T070000Z",
            &["2026-03-28T08:00:00Z 1h", "2026-03-29T07:00:00Z 1h"],
        );
        case(
            "DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=DAILY;COUNT=3\nEXDATE;VALUE=DATE:20260102\nRDATE;VALUE=DATE:20260201",
            &["2026-01-01T03:00:00Z 24h", "2026-01-03T03:00:00Z 24h", "2026-02-01T03:00:00Z 24h"],
        );
        let moved = event("DTSTART:20260105T090000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=2")
            + &event("RECURRENCE-ID:20260106T090000\nDTSTART:20260107T100000\nDURATION:PT1H");
        assert_eq!(times(&moved), ["2026-01-05T12:00:00Z 1h", "2026-01-07T13:00:00Z 1h"]);
    }

    /// The message about a text, and its line.
    #[track_caller]
    fn fault_of(text: &str) -> (u32, String) {
        let findings = read(text).expect_err(text);
        (findings[0].at.line, findings[0].message.to_string())
    }

    #[test]
    fn faults() {
        let in_event = |lines: &str| fault_of(&calendar(&(event("DTSTART:20260101") + &event(lines))));
        for (lines, message) in [
            ("DESCRIPTION:x", "an event without a beginning"),
            ("DTSTART:tomorrow", "a time that cannot be read"),
            ("DTSTART:20261340", "a time that cannot be read"),
            ("DTSTART;TZID=Mars/Olympus:20260101T000000", "unknown time zone"),
            ("DTSTART:20260102\nDTEND:20260101", "an event ends before it begins"),
            ("DTSTART:20260102\nDURATION:long", "a duration that cannot be read"),
            ("DTSTART:20260102\nRRULE:FREQ=SOMETIMES", "a rule that cannot be read"),
            ("DTSTART:20260102\nRRULE:FREQ=DAILY;UNTIL=later", "a time that cannot be read"),
            ("DTSTART:20260102\nEXDATE:x", "a time that cannot be read"),
            ("DTSTART:20260102T000000\nDURATION:PT1S\nRRULE:FREQ=MINUTELY", "a rule for minutes or seconds"),
            (
                "DTSTART:20260102T000000\nDURATION:PT1M\nRRULE:FREQ=HOURLY",
                "the events of the calendar have more than 50000 times until 2100",
            ),
        ] {
            assert_eq!(in_event(lines), (9, message.to_owned()), "{lines}");
        }
        assert_eq!(fault_of("").1, "the file is not a calendar");
        assert_eq!(fault_of("<html></html>").1, "the file is not a calendar");
        assert_eq!(fault_of("BEGIN:VCALENDAR\nVERSION:2.0\n").1, "the calendar is cut off");
        let deep = calendar(&"BEGIN:A\n".repeat(30_000));
        assert_eq!(fault_of(&deep).1, "the components of the calendar are nested too deeply");
    }

    #[test]
    fn rules_that_never_match_end() {
        case("DTSTART;VALUE=DATE:20260101\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", &[]);
    }

    proptest! {
        #[test]
        fn reading_never_panics(lines in "(DTSTART|DTEND|RRULE|EXDATE|DURATION|TZID|FREQ|UNTIL|[:;=,TZ0-9\\n -]){0,40}", cut in 0usize..400) {
            let text = calendar(&event(&lines));
            let _ = read(&text);
            let _ = read(text.get(..cut).unwrap_or(&text));
        }
    }
}
