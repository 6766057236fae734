//! `forecast`: the stops and starts that the manifests cause in the next days, offline.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use icalendar::{Calendar, Component as _, Event};
use jiff::{SignedDuration, Timestamp, Unit};

use super::bar::Bar;
use super::text::{escape, json_pretty, print, print_data, print_note, thousands};
use super::{Exit, runtime, variable};
use crate::budget::{Budget, RateLimiter};
use crate::camposcloud::client::Client;
use crate::cli::{ForecastArgs, ForecastOutput};
use crate::clock::{self, Clock};
use crate::manifest::source;
use crate::operator::observe;
use crate::platform::listing::{Listing, PAGE_SIZE};
use crate::reconcile::app::AppId;
use crate::reconcile::forecast::{Bulk, Forecast, Subject, forecast as make};
use crate::reconcile::moment::human_duration;
use crate::settings::{self, SettingsError};
use crate::status::forecast;

pub(super) fn forecast(args: &ForecastArgs) -> anyhow::Result<Exit> {
    settings::existing_paths(&args.manifests.manifests)?;
    let roots = args.manifests.manifests.clone();
    let (declared, diagnostics, report) = source::load_with(roots, &settings::rules(&args.manifests.rules));
    if let Some(cause) = &report.cause {
        bail!("could not read the manifests: {cause}");
    }
    let errors = diagnostics.iter().filter(|found| found.is_error()).count();
    if errors > 0 {
        print_note(&format!("warning: {errors} errors in the manifests; `campos-operator validate` lists them"));
    }
    let memory = memory(args)?;
    let from = clock::timestamp().round(Unit::Minute).unwrap_or_else(|_| clock::timestamp());
    let to = from.checked_add(SignedDuration::from_hours(24 * i64::from(args.days))).context("--days")?;
    let specs = declared.iter().filter_map(|declared| declared.spec());
    let subjects = specs.map(|spec| Subject { spec, memory_mb: memory.get(&spec.app_id).copied().flatten() });
    let per_minute = match args.api.api_budget {
        Budget::PerMinute(rate) => Some(f64::from(rate)),
        Budget::Unlimited => None,
    };
    let forecast = make(subjects, args.policy.into(), (from, to), per_minute);
    match args.output {
        ForecastOutput::Text => print(&text(&forecast, !memory.is_empty()))?,
        ForecastOutput::Json => print_data(&json_pretty(&forecast::json(&forecast))?)?,
        ForecastOutput::Ics => print_data(&calendar(&forecast))?,
    }
    Ok(Exit::Done)
}

/// The memory of each app, if there is a token and the API answers. The forecast does not depend on it.
fn memory(args: &ForecastArgs) -> anyhow::Result<HashMap<AppId, Option<u32>>> {
    let api = match settings::api(&args.api, variable) {
        Err(SettingsError::NoToken) => return Ok(HashMap::new()),
        api => api?,
    };
    let client = Client::new(api.url, api.token).context("could not set up the HTTP client")?;
    let mut limiter = RateLimiter::new(args.api.api_budget, 0);
    let listing = Listing::new(Some(PAGE_SIZE), &[]);
    let bar = Bar::new();
    let observed = observe::everything(&client, &mut limiter, Clock::system(), listing, [], |step| bar.step(step));
    match runtime()?.block_on(observed) {
        Ok(observation) => Ok(observation.seen.into_iter().map(|seen| (seen.id, seen.memory_mb)).collect()),
        Err(failure) => {
            print_note(&format!("warning: could not read the memory of the apps: {}", escape(&failure.to_string())));
            Ok(HashMap::new())
        }
    }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%a %Y-%m-%d %H:%M").to_string()
}

/// Duration of the calls of a bulk; empty for less than a second.
fn takes(bulk: &Bulk) -> String {
    let seconds = bulk.ends.duration_since(bulk.at).unsigned_abs();
    if seconds.as_secs() == 0 { "-".to_owned() } else { human_duration(seconds) }
}

fn text(forecast: &Forecast, knows_memory: bool) -> String {
    let Forecast { from, to, bulks, saved, holiday } = forecast;
    let mut page = format!("From {} to {} (UTC)\n", minute(*from), minute(*to));
    if bulks.is_empty() {
        page += "No scheduled stops or starts in this time.\n";
    } else {
        page += "\nWHEN (UTC)            STOPS  STARTS  TAKES        CAUSE\n";
    }
    for bulk in bulks {
        // Writing to a String cannot fail.
        let because = escape(&bulk.because);
        let Bulk { at, stops, starts, .. } = bulk;
        let _ = writeln!(page, "{}  {stops:>5}  {starts:>6}  {:<11}  {because}", minute(*at), takes(bulk));
    }
    for (bulk, next) in forecast.conflicts() {
        let (calls, end) = (thousands(bulk.calls()), minute(bulk.ends));
        let _ = writeln!(
            page,
            "overlap: the {calls} calls of {} end at {end}; the next bulk begins at {}",
            minute(bulk.at),
            minute(next.at)
        );
    }
    let _ = write!(page, "\nStopped by schedules and overrides: {:.0} app hours", saved.hours);
    let _ = match (knows_memory, saved.unknown_memory) {
        (false, _) => writeln!(page, "; set a token for MB hours"),
        (true, 0) => writeln!(page, ", {:.0} MB hours", saved.mb_hours),
        (true, unknown) => writeln!(page, ", {:.0} MB hours ({unknown} apps of unknown memory)", saved.mb_hours),
    };
    if let Some(holiday) = holiday {
        let (summary, calendar) = (escape(&holiday.summary), escape(&holiday.calendar));
        let _ = writeln!(page, "Next holiday: {} {summary} ({calendar})", minute(holiday.from));
    }
    page
}

/// One event for each bulk.
fn calendar(forecast: &Forecast) -> String {
    let utc = |at: Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut calendar = Calendar::new();
    for bulk in &forecast.bulks {
        let Bulk { at, stops, starts, because, ends } = bulk;
        let s = if bulk.calls() == 1 { "" } else { "s" };
        let calls = match (stops, starts) {
            (stops, 0) => format!("stop {stops} app{s}"),
            (0, starts) => format!("start {starts} app{s}"),
            (stops, starts) => format!("stop {stops}, start {starts} apps"),
        };
        let mut event = Event::new();
        // The same id in each forecast, so that an import replaces the old event.
        event.uid(&format!("{}@campos-operator", utc(*at)));
        event.add_property("DTSTAMP", utc(forecast.from)).add_property("DTSTART", utc(*at));
        event.add_property("DTEND", utc((*ends).max(*at + SignedDuration::from_mins(1))));
        event.summary(&format!("{calls} ({because})"));
        calendar.push(event.done());
    }
    calendar.done().to_string()
}
