//! Windows of a schedule: the window that decides at a time, and the next boundary.
//!
//! Both are pure functions of the windows and the time. So the state is right at once after a restart, a suspension of
//! the machine or a change of its clock.
//!
//! **Rule for clock changes:** a wall time is reached the first time that the clock shows it or a later time. A time
//! that a change skips is reached at the change; a time that occurs twice is reached the first time. In other words:
//! windows use a clock that stops instead of going back. So a window never ends before it begins, and each beginning
//! and end happens exactly once. A cron window has its length in real time.

use std::fmt;
use std::sync::Arc;

use croner::Cron;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::state::Desired;

/// Longest window: a weekly one can cover a week.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Windows in one time zone, and exceptions from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// IANA name.
    pub zone_name: Arc<str>,
    pub zone: TimeZone,
    /// The first that contains a moment decides, before any window.
    pub except: Vec<Exception>,
    /// The first that contains a moment decides.
    pub windows: Vec<Window>,
    /// Set for the object Schedule, to which apps refer.
    pub shared: Option<Shared>,
}

/// Name and file of an object Schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    pub name: Arc<str>,
    pub file: Arc<str>,
}

/// The events of a calendar, such as holidays, and the state during them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    pub state: Desired,
    /// File of the calendar, as the manifest names it.
    pub calendar: Arc<str>,
    pub reason: Option<Arc<str>>,
    events: Arc<[Event]>,
}

/// One time of a calendar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    pub from: Timestamp,
    pub to: Timestamp,
    pub summary: Arc<str>,
}

impl Exception {
    /// If events overlap, the earlier one continues.
    pub fn new(state: Desired, calendar: Arc<str>, reason: Option<Arc<str>>, mut events: Vec<Event>) -> Self {
        events.sort();
        let mut end = Timestamp::MIN;
        events.retain_mut(|event| {
            event.from = event.from.max(end);
            let lasts = event.from < event.to;
            end = end.max(event.to);
            lasts
        });
        Self { state, calendar, reason, events: events.into() }
    }

    /// Its events in order; no two overlap.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The event that contains a moment.
    fn event(&self, at: Timestamp) -> Option<usize> {
        let last = self.events.partition_point(|event| event.from <= at).checked_sub(1)?;
        (at < self.events[last].to).then_some(last)
    }

    fn boundary(&self, after: Timestamp) -> Option<Timestamp> {
        let next = self.events.partition_point(|event| event.from <= after);
        let begins = self.events.get(next).map(|event| event.from);
        self.event(after).map(|event| self.events[event].to).into_iter().chain(begins).min()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub state: Desired,
    pub span: Span,
    pub reason: Option<Arc<str>>,
    /// Time between a notification and the stop that it announces.
    pub warn: Option<SignedDuration>,
}

/// Time of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// Once; without an end, it lasts forever.
    Once { from: DateTime, to: Option<DateTime> },
    /// On some days of the week.
    Recurring {
        /// The days on which it begins.
        days: Days,
        from: Time,
        /// Days from its beginning to its end, 0 to 7.
        ends_after: i8,
        to: Time,
    },
    /// From each time of a cron pattern.
    Cron {
        /// Five fields: minute, hour, day of month, month, day of week.
        cron: Box<Cron>,
        /// Its length, in real time.
        duration: SignedDuration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Days(u8);

impl Days {
    pub const ALL: Self = Self(0b111_1111);

    #[must_use]
    pub fn with(self, day: Weekday) -> Self {
        Self(self.0 | 1 << day.to_monday_zero_offset())
    }

    pub fn contain(self, day: Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn each(self) -> impl Iterator<Item = Weekday> {
        Weekday::Monday.cycle_forward().take(7).filter(move |day| self.contain(*day))
    }
}

pub const fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<Weekday> = self.each().collect();
        let mut runs: Vec<(Weekday, Weekday)> = Vec::new();
        for day in days {
            match runs.last_mut() {
                Some((_, last)) if last.next() == day && day != Weekday::Monday => *last = day,
                _ => runs.push((day, day)),
            }
        }
        for (index, (first, last)) in runs.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first.until(*last) {
                0 => write!(f, "{comma}{}", day_name(*first))?,
                1 => write!(f, "{comma}{},{}", day_name(*first), day_name(*last))?,
                _ => write!(f, "{comma}{}-{}", day_name(*first), day_name(*last))?,
            }
        }
        Ok(())
    }
}

/// Hours, minutes and seconds without blanks: `1h30m`.
pub fn length(duration: SignedDuration) -> String {
    format!("{duration:#}").replace(' ', "")
}

/// Hours and minutes; seconds where there are any.
fn clock(time: Time) -> String {
    let seconds = if time.second() == 0 { String::new() } else { format!(":{:02}", time.second()) };
    format!("{:02}:{:02}{seconds}", time.hour(), time.minute())
}

impl Span {
    /// The fields of a manifest that declare this span.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Once { from, to } => {
                let to = to.map(|to| ("to", to.to_string()));
                [("from", from.to_string())].into_iter().chain(to).collect()
            }
            Self::Recurring { days, from, ends_after, to } => {
                let mut each = days.each();
                match (each.next(), each.next()) {
                    (Some(first), None) => {
                        let last = first.wrapping_add(*ends_after);
                        let written = |day, time| format!("{} {}", day_name(day), clock(time));
                        vec![("from", written(first, *from)), ("to", written(last, *to))]
                    }
                    _ if *days == Days::ALL => vec![("from", clock(*from)), ("to", clock(*to))],
                    _ => vec![("from", clock(*from)), ("to", clock(*to)), ("days", days.to_string())],
                }
            }
            Self::Cron { cron, duration } => {
                vec![("cron", cron.as_str().to_owned()), ("duration", length(*duration))]
            }
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = |at: &DateTime| format!("{} {}", at.date(), clock(at.time()));
        match self {
            Self::Once { from, to: Some(to) } => write!(f, "{}-{}", moment(from), moment(to)),
            Self::Once { from, to: None } => write!(f, "from {}", moment(from)),
            Self::Cron { cron, duration } => write!(f, "cron {} for {duration:#}", cron.as_str()),
            Self::Recurring { .. } => {
                let fields = self.fields();
                let field = |name| fields.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_str());
                let days = field("days").map(|days| format!("{days} ")).unwrap_or_default();
                write!(f, "{days}{}-{}", field("from").unwrap_or_default(), field("to").unwrap_or_default())
            }
        }
    }
}

impl Schedule {
    /// `None` if there is no zone `zone_name`.
    pub fn new(zone_name: &str, windows: Vec<Window>) -> Option<Self> {
        let zone = TimeZone::get(zone_name).ok()?;
        Some(Self { zone_name: zone_name.into(), zone, except: Vec::new(), windows, shared: None })
    }

    /// The exception that decides at `at`, and its event: the first that contains it. It takes precedence over every
    /// window.
    pub fn exception(&self, at: Timestamp) -> Option<(usize, usize)> {
        self.except.iter().enumerate().find_map(|(index, exception)| Some((index, exception.event(at)?)))
    }

    /// The window that decides at `at`, unless there is an exception: the first that contains it.
    pub fn deciding(&self, at: Timestamp) -> Option<usize> {
        let wall = self.wall(at);
        self.windows.iter().position(|window| self.contains(&window.span, at, wall))
    }

    /// Time between a notification and a stop at `at`, from the window that begins or ends then.
    pub fn warning(&self, at: Timestamp) -> Option<SignedDuration> {
        let before = at.checked_sub(SignedDuration::from_nanos(1)).ok()?;
        let window = self.deciding(at).or_else(|| self.deciding(before))?;
        self.windows[window].warn
    }

    /// The next moment after `after` at which a window or exception begins or ends. Until then, the same window
    /// decides.
    pub fn next_boundary(&self, after: Timestamp) -> Option<Timestamp> {
        let wall = self.wall(after);
        let windows = self.windows.iter().filter_map(|window| self.boundary(&window.span, after, wall));
        windows.chain(self.except.iter().filter_map(|exception| exception.boundary(after))).min()
    }

    /// The time at `at` on a wall clock that stops instead of going back.
    pub fn wall(&self, at: Timestamp) -> DateTime {
        wall(&self.zone, at)
    }

    /// The first moment at which the wall clock shows `wall` or a later time; `None` beyond the calendar.
    pub fn reached(&self, wall: DateTime) -> Option<Timestamp> {
        reached(&self.zone, wall)
    }

    fn contains(&self, span: &Span, at: Timestamp, wall: DateTime) -> bool {
        match span {
            Span::Once { from, to } => *from <= wall && to.is_none_or(|to| wall < to),
            Span::Recurring { days, .. } => {
                instances(span, wall, 0).any(|(day, from, to)| days.contain(day) && from <= wall && wall < to)
            }
            Span::Cron { cron, duration } => {
                let earliest = at.checked_sub(*duration).ok();
                earliest.and_then(|earliest| next_time(cron, &self.zone, earliest)).is_some_and(|start| start <= at)
            }
        }
    }

    fn boundary(&self, span: &Span, after: Timestamp, wall: DateTime) -> Option<Timestamp> {
        match span {
            Span::Once { from, to } => {
                let next = [Some(*from), *to].into_iter().flatten().filter(|at| *at > wall).min()?;
                self.reached(next)
            }
            Span::Recurring { days, .. } => {
                let ends = instances(span, wall, 7).filter(|(day, ..)| days.contain(*day));
                let next = ends.flat_map(|(_, from, to)| [from, to]).filter(|at| *at > wall).min()?;
                self.reached(next)
            }
            Span::Cron { cron, duration } => {
                let next = next_time(cron, &self.zone, after);
                let earliest = after.checked_sub(*duration).ok()?;
                let running = next_time(cron, &self.zone, earliest).filter(|start| *start <= after);
                let end = running.and_then(|start| start.checked_add(*duration).ok());
                [next, end].into_iter().flatten().min()
            }
        }
    }

    /// Returns whether earlier windows contain every moment of a window after `at`, so that it never decides.
    pub fn is_shadowed(&self, index: usize, at: Timestamp) -> bool {
        let own = &self.windows[index].span;
        // A window that ends forever does not cover a window that continues.
        let covers = |span: &Span| span.over().is_none() || own.over().is_some();
        let earlier: Vec<Window> =
            self.windows[..index].iter().filter(|window| covers(&window.span)).cloned().collect();
        if earlier.is_empty() {
            return false;
        }
        let earlier = Self { windows: earlier, ..self.without() };
        let mut met = false;
        let covered = self.each_part(own, &earlier, at, |own, earlier| {
            met |= own;
            !own || earlier
        });
        covered && met
    }

    /// Returns whether a cron window covers all time after its beginning: each span begins before the last one ends.
    pub fn is_endless(&self, span: &Span, at: Timestamp) -> bool {
        let Span::Cron { cron, .. } = span else { return false };
        let first = next_time(cron, &self.zone, at).unwrap_or(at);
        self.each_part(span, &self.without(), first, |own, _| own)
    }

    /// A schedule with the same zone and no windows.
    fn without(&self) -> Self {
        let (zone_name, zone) = (self.zone_name.clone(), self.zone.clone());
        Self { zone_name, zone, except: Vec::new(), windows: Vec::new(), shared: None }
    }

    /// Returns whether a one-off lies within the time that a change of the clock skips.
    pub fn is_skipped(&self, span: &Span) -> bool {
        match span {
            Span::Once { from, to: Some(to) } => self.reached(*from) == self.reached(*to),
            Span::Once { to: None, .. } | Span::Recurring { .. } | Span::Cron { .. } => false,
        }
    }

    /// Returns whether `holds` for each part of the year after `at` in which neither a span nor another schedule
    /// changes. Windows repeat within a year. `holds` receives two flags: the span contains the part, and the schedule
    /// does.
    fn each_part(&self, span: &Span, other: &Self, at: Timestamp, mut holds: impl FnMut(bool, bool) -> bool) -> bool {
        const MOST: usize = 50_000;
        let year = SignedDuration::from_hours(366 * 24);
        let end = match span {
            // Its beginning may be far away.
            Span::Once { from, .. } => self.reached(*from).unwrap_or(at).max(at).checked_add(year),
            Span::Recurring { .. } | Span::Cron { .. } => at.checked_add(year),
        };
        let mut at = match span {
            Span::Once { from, .. } => self.reached(*from).unwrap_or(at).max(at),
            Span::Recurring { .. } | Span::Cron { .. } => at,
        };
        for _ in 0..MOST {
            if !holds(self.contains(span, at, self.wall(at)), other.deciding(at).is_some()) {
                return false;
            }
            let next = [self.boundary(span, at, self.wall(at)), other.next_boundary(at)].into_iter().flatten().min();
            match next {
                Some(next) if end.as_ref().is_ok_and(|end| next < *end) => at = next,
                Some(_) | None => return true,
            }
        }
        false
    }
}

/// The time at `at` on a wall clock that stops instead of going back.
fn wall(zone: &TimeZone, at: Timestamp) -> DateTime {
    let shown = zone.to_datetime(at);
    let ambiguous = zone.to_ambiguous_timestamp(shown).offset();
    if let AmbiguousOffset::Fold { before, after } = ambiguous
        && zone.to_offset(at) == after
        && let Some(change) = change_at_or_before(zone, at)
    {
        // Just before the time at which the clock was put back, which the clock did not show yet.
        let end = before.to_datetime(change);
        return end.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(end);
    }
    shown
}

/// The first time of a pattern after `after`.
pub fn next_time(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut wall = wall(zone, after);
    // While the clock stops, several wall times are reached at one moment: up to two hours of minutes.
    for _ in 0..1_000 {
        wall = cron.find_next_occurrence(&wall, false).ok()?;
        let start = reached(zone, wall)?;
        if start > after {
            return Some(start);
        }
    }
    None
}

/// The last time of a pattern until `at`.
pub fn last_time(cron: &Cron, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    reached(zone, cron.find_previous_occurrence(&wall(zone, at), true).ok()?)
}

/// The first moment at which a wall clock in a zone shows `wall` or a later time; `None` beyond the calendar.
pub fn reached(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
        AmbiguousOffset::Gap { before, .. } => change_at_or_before(zone, before.to_timestamp(wall).ok()?),
    }
}

fn change_at_or_before(zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let just_after = at.checked_add(SignedDuration::from_nanos(1)).ok()?;
    zone.preceding(just_after).next().map(|change| change.timestamp())
}

/// Returns whether a pattern has no time.
pub fn fits_no_date(cron: &Cron) -> bool {
    // A leap year is never more than eight years away.
    cron.find_next_occurrence(&jiff::civil::datetime(2024, 1, 1, 0, 0, 0, 0), true).is_err()
}

impl Span {
    /// Returns whether no date fits the pattern.
    pub fn never(&self) -> bool {
        match self {
            Self::Once { .. } | Self::Recurring { .. } => false,
            Self::Cron { cron, .. } => fits_no_date(cron),
        }
    }

    /// Its end, if it decides never again after that.
    pub fn over(&self) -> Option<DateTime> {
        match self {
            Self::Once { to, .. } => *to,
            Self::Recurring { .. } | Self::Cron { .. } => None,
        }
    }
}

/// The days near `wall` on which a recurring span may begin, each with its beginning and end.
fn instances(span: &Span, wall: DateTime, ahead: i32) -> impl Iterator<Item = (Weekday, DateTime, DateTime)> + use<> {
    let (from, ends_after, to) = match span {
        Span::Recurring { from, ends_after, to, .. } => (*from, *ends_after, *to),
        Span::Once { .. } | Span::Cron { .. } => (Time::midnight(), 0, Time::midnight()),
    };
    let today = wall.date();
    (-i32::from(ends_after)..=ahead).filter_map(move |days| {
        let begins = day(today, days)?;
        let ends = day(begins, i32::from(ends_after))?;
        Some((begins.weekday(), begins.to_datetime(from), ends.to_datetime(to)))
    })
}

fn day(date: Date, later: i32) -> Option<Date> {
    date.checked_add(jiff::Span::new().days(later)).ok()
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_of_an_exception_do_not_overlap() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let event = |from, to, summary: &str| Event { from: at(from), to: at(to), summary: summary.into() };
        let events = vec![
            event(50, 60, "d"),
            event(10, 30, "a"),
            event(20, 40, "b"),
            event(25, 28, "c"),
            event(60, 60, "e"),
            event(60, 70, "f"),
        ];
        let exception = Exception::new(Desired::Stopped, "a.ics".into(), None, events);
        let mut schedule = schedule("UTC", Vec::new());
        schedule.except =
            vec![Exception::new(Desired::Running, "b.ics".into(), None, vec![event(29, 31, "x")]), exception];
        let name = |second| {
            let (exception, event) = schedule.exception(at(second))?;
            Some(&*schedule.except[exception].events()[event].summary)
        };
        let decides = [9, 10, 28, 29, 30, 31, 39, 40, 49, 50, 60, 69, 70].map(name);
        let text: String = decides.map(|summary| summary.unwrap_or("-")).concat();
        assert_eq!(text, "-aaxxbb--dff-");
        let mut boundaries = Vec::new();
        let mut now = at(0);
        while let Some(next) = schedule.next_boundary(now) {
            boundaries.push(next.as_second());
            now = next;
        }
        assert_eq!(boundaries, [10, 29, 30, 31, 40, 50, 60, 70]);
    }

    fn schedule(zone: &str, spans: Vec<Span>) -> Schedule {
        let window = |span| Window { state: Desired::Stopped, span, reason: None, warn: None };
        Schedule::new(zone, spans.into_iter().map(window).collect()).unwrap()
    }

    fn clock(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn daily(from: &str, to: &str) -> Span {
        let (from, to) = (clock(from), clock(to));
        Span::Recurring { days: Days::ALL, from, ends_after: i8::from(to < from), to }
    }

    fn weekly(first: Weekday, from: &str, last: Weekday, to: &str) -> Span {
        let days = Days::default().with(first);
        Span::Recurring { days, from: clock(from), ends_after: first.until(last), to: clock(to) }
    }

    fn cron(pattern: &str, duration: SignedDuration) -> Span {
        Span::Cron { cron: Box::new(pattern.parse().unwrap()), duration }
    }

    /// The next boundaries after a moment, as the wall clock and UTC show them.
    fn boundaries(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
        let mut at: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            at = schedule.next_boundary(at).unwrap();
            let inside = if schedule.deciding(at).is_some() { "begins" } else { "ends" };
            found.push(format!("{inside} {} = {at}", schedule.zone.to_datetime(at)));
        }
        found
    }

    #[test]
    fn a_gap_is_reached_at_the_change() {
        // New York, 2026-03-08: 02:00 EST is 03:00 EDT.
        let night = schedule("America/New_York", vec![daily("02:30:00", "03:15:00")]);
        let expected = [
            "begins 2026-03-08T03:00:00 = 2026-03-08T07:00:00Z",
            "ends 2026-03-08T03:15:00 = 2026-03-08T07:15:00Z",
            "begins 2026-03-09T02:30:00 = 2026-03-09T06:30:00Z",
        ];
        assert_eq!(boundaries(&night, "2026-03-08T05:00:00Z", 3), expected);
        // Midnight itself was skipped in São Paulo on 2018-11-04.
        let day = schedule("America/Sao_Paulo", vec![weekly(Weekday::Sunday, "00:00:00", Weekday::Sunday, "06:00:00")]);
        let expected =
            ["begins 2018-11-04T01:00:00 = 2018-11-04T03:00:00Z", "ends 2018-11-04T06:00:00 = 2018-11-04T08:00:00Z"];
        assert_eq!(boundaries(&day, "2018-11-03T12:00:00Z", 2), expected);
        // Lord Howe moves by half an hour: 02:00 is 02:30 on 2026-10-04.
        let half = schedule("Australia/Lord_Howe", vec![daily("02:10:00", "02:40:00")]);
        let expected =
            ["begins 2026-10-04T02:30:00 = 2026-10-03T15:30:00Z", "ends 2026-10-04T02:40:00 = 2026-10-03T15:40:00Z"];
        assert_eq!(boundaries(&half, "2026-10-03T12:00:00Z", 2), expected);
        // A window that lies in the gap altogether has no moment.
        let lost = schedule("Europe/Berlin", vec![daily("02:10:00", "02:50:00")]);
        assert_eq!(lost.deciding("2026-03-29T01:00:00Z".parse().unwrap()), None);
        assert_eq!(lost.deciding("2026-03-30T00:15:00Z".parse().unwrap()), Some(0));
    }

    #[test]
    fn an_overlap_is_reached_the_first_time() {
        // Berlin, 2026-10-25: 03:00 CEST is 02:00 CET.
        let night = schedule("Europe/Berlin", vec![daily("02:30:00", "03:30:00")]);
        let expected = [
            "begins 2026-10-25T02:30:00 = 2026-10-25T00:30:00Z",
            "ends 2026-10-25T03:30:00 = 2026-10-25T02:30:00Z",
            "begins 2026-10-26T02:30:00 = 2026-10-26T01:30:00Z",
        ];
        assert_eq!(boundaries(&night, "2026-10-24T22:00:00Z", 3), expected);
        // Once, not twice; the second 02:00 to 03:00 is not a second window.
        let short = schedule("Europe/Berlin", vec![daily("02:10:00", "02:20:00")]);
        assert_eq!(short.deciding("2026-10-25T00:15:00Z".parse().unwrap()), Some(0));
        assert_eq!(short.deciding("2026-10-25T01:15:00Z".parse().unwrap()), None);
        // New York, 2026-11-01: 02:00 EDT is 01:00 EST. A window that begins or ends at 02:00 does so after the second
        // pass.
        let after = schedule("America/New_York", vec![daily("02:00:00", "03:00:00"), daily("01:30:00", "02:00:00")]);
        let expected = [
            "begins 2026-11-01T01:30:00 = 2026-11-01T05:30:00Z",
            "begins 2026-11-01T02:00:00 = 2026-11-01T07:00:00Z",
            "ends 2026-11-01T03:00:00 = 2026-11-01T08:00:00Z",
        ];
        assert_eq!(boundaries(&after, "2026-11-01T04:00:00Z", 3), expected);
        assert_eq!(after.deciding("2026-11-01T06:30:00Z".parse().unwrap()), Some(1), "in the second pass");
        // São Paulo, 2018-02-18: midnight occurred twice, the second time after 23:00 had occurred twice.
        let late = schedule("America/Sao_Paulo", vec![daily("23:30:00", "00:00:00")]);
        let expected =
            ["begins 2018-02-17T23:30:00 = 2018-02-18T01:30:00Z", "ends 2018-02-18T00:00:00 = 2018-02-18T03:00:00Z"];
        assert_eq!(boundaries(&late, "2018-02-17T12:00:00Z", 2), expected);
    }

    #[test]
    fn odd_zones_leap_days_and_new_year() {
        let kathmandu = schedule("Asia/Kathmandu", vec![daily("00:00:00", "06:00:00")]);
        assert_eq!(
            boundaries(&kathmandu, "2026-11-24T12:00:00Z", 2),
            ["begins 2026-11-25T00:00:00 = 2026-11-24T18:15:00Z", "ends 2026-11-25T06:00:00 = 2026-11-25T00:15:00Z"]
        );
        let leap = schedule("UTC", vec![cron("0 12 29 2 *", SignedDuration::from_hours(1))]);
        assert_eq!(
            boundaries(&leap, "2026-11-24T12:00:00Z", 2),
            ["begins 2028-02-29T12:00:00 = 2028-02-29T12:00:00Z", "ends 2028-02-29T13:00:00 = 2028-02-29T13:00:00Z"]
        );
        let turn = schedule("UTC", vec![daily("23:00:00", "01:00:00")]);
        assert_eq!(turn.deciding("2027-01-01T00:30:00Z".parse().unwrap()), Some(0));
        assert_eq!(turn.deciding("2027-01-01T01:00:00Z".parse().unwrap()), None);
        let weekend = schedule("UTC", vec![weekly(Weekday::Friday, "21:00:00", Weekday::Monday, "06:00:00")]);
        assert_eq!(
            boundaries(&weekend, "2026-12-30T00:00:00Z", 2),
            ["begins 2027-01-01T21:00:00 = 2027-01-01T21:00:00Z", "ends 2027-01-04T06:00:00 = 2027-01-04T06:00:00Z"]
        );
    }

    #[test]
    fn a_cron_window_has_its_length_in_real_time() {
        let hours = schedule("America/New_York", vec![cron("30 1 * * *", SignedDuration::from_hours(2))]);
        let expected =
            ["begins 2026-03-08T01:30:00 = 2026-03-08T06:30:00Z", "ends 2026-03-08T04:30:00 = 2026-03-08T08:30:00Z"];
        assert_eq!(boundaries(&hours, "2026-03-08T05:00:00Z", 2), expected);
        let always = schedule("UTC", vec![cron("0 * * * *", SignedDuration::from_mins(90))]);
        assert_eq!(always.deciding("2026-11-24T12:45:00Z".parse().unwrap()), Some(0), "overlapping runs are one");
    }

    #[test]
    fn the_first_window_decides_and_later_ones_may_be_shadowed() {
        let mut both = schedule("UTC", vec![daily("22:00:00", "06:00:00"), daily("20:00:00", "08:00:00")]);
        both.windows[0].state = Desired::Running;
        assert_eq!(both.deciding("2026-11-24T23:00:00Z".parse().unwrap()), Some(0));
        assert_eq!(both.deciding("2026-11-24T21:00:00Z".parse().unwrap()), Some(1));
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        assert!(!both.is_shadowed(1, now));
        both.windows.reverse();
        assert!(both.is_shadowed(1, now));
    }

    #[test]
    fn spans_are_displayed_as_they_are_written() {
        let days = Weekday::Monday.cycle_forward().take(4).fold(Days::default(), Days::with);
        let nights = Span::Recurring { days, from: time(22, 0, 0, 0), ends_after: 1, to: time(6, 0, 0, 0) };
        let once = Span::Once { from: date(2026, 12, 23).at(22, 0, 0, 0), to: Some(date(2026, 12, 24).at(2, 0, 0, 0)) };
        let shown = |span: Span| span.to_string();
        assert_eq!(shown(nights), "Mon-Thu 22:00-06:00");
        assert_eq!(shown(once), "2026-12-23 22:00-2026-12-24 02:00");
        assert_eq!(shown(weekly(Weekday::Friday, "21:00:00", Weekday::Monday, "06:00:00")), "Fri 21:00-Mon 06:00");
        assert_eq!(shown(daily("22:00:00", "06:00:00")), "22:00-06:00");
        assert_eq!(shown(cron("0 12 * * 1-5", SignedDuration::from_mins(90))), "cron 0 12 * * 1-5 for 1h 30m");
    }

    const ZONES: [&str; 6] =
        ["America/Sao_Paulo", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"];

    fn any_span() -> impl Strategy<Value = Span> {
        // Mostly the hours in which clocks change.
        let hour = prop_oneof![3 => 0..4_i8, 1 => 0..24_i8, 1 => Just(23)];
        let clock = (hour, 0..4_i8).prop_map(|(hour, quarter)| time(hour, quarter * 15, 0, 0));
        let recurring = (1..128_u8, clock.clone(), 0..7_i8, clock).prop_map(|(days, from, ends_after, to)| {
            let ends_after = if ends_after == 0 && to <= from { 1 } else { ends_after };
            Span::Recurring { days: Days(days), from, ends_after, to }
        });
        let once = (0..20_i32, 0..24_i8, 1..200_i64).prop_map(|(day, hour, hours)| {
            let from = date(2018, 2, 8).at(hour, 30, 0, 0) + jiff::Span::new().days(day);
            Span::Once { from, to: Some(from + jiff::Span::new().hours(hours)) }
        });
        prop_oneof![4 => recurring, 1 => once]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Compares with a clock that is walked minute by minute: the latest time that it has shown decides.
        #[test]
        fn a_minute_by_minute_walk_agrees(zone in 0..ZONES.len(), spans in proptest::collection::vec(any_span(), 1..4), year in 0..9_i16, month in 0..12_i8) {
            let schedule = schedule(ZONES[zone], spans);
            let begin = date(2018 + year, 1 + month, 20).at(0, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
            let mut shown = DateTime::MIN;
            let mut before: Option<Option<usize>> = None;
            let mut next = schedule.next_boundary(begin);
            for minute in 0..(20 * 24 * 60_i64) {
                let at = begin + SignedDuration::from_mins(minute);
                shown = shown.max(schedule.zone.to_datetime(at));
                let slow = schedule.windows.iter().position(|window| covers(&window.span, shown));
                // The walk does not have the earlier times of the clock: skip the first day.
                if minute >= 24 * 60 {
                    prop_assert_eq!(schedule.deciding(at), slow, "{} {}", at, shown);
                    if before.is_some_and(|before| before != slow) {
                        prop_assert_eq!(next, Some(at), "a change that no boundary announced");
                    }
                }
                before = Some(slow);
                while next.is_some_and(|next| next <= at) {
                    next = schedule.next_boundary(at);
                }
            }
        }
    }

    /// Returns whether a span covers a time on the wall clock, by trying every day near it.
    fn covers(span: &Span, shown: DateTime) -> bool {
        match span {
            Span::Once { from, to } => *from <= shown && to.is_none_or(|to| shown < to),
            Span::Recurring { days, from, ends_after, to } => (-9..=1).any(|days_before| {
                let first = shown.date() + jiff::Span::new().days(days_before);
                let last = first + jiff::Span::new().days(i32::from(*ends_after));
                days.contain(first.weekday()) && first.to_datetime(*from) <= shown && shown < last.to_datetime(*to)
            }),
            Span::Cron { .. } => false,
        }
    }
}
