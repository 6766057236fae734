//! `plan`: what would `run` do now? Looks, prints, calls nothing.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::json;

use super::{Exit, environment, print, runtime};
use crate::camposcloud::client::Client;
use crate::camposcloud::governor::Governor;
use crate::cli::{Color, PlanArgs, PlanOutput};
use crate::manifest::source;
use crate::operator::clock::Clock;
use crate::operator::observe::{self, Observation};
use crate::reconcile::attempts::NOTHING_TRIED;
use crate::reconcile::decide::{Asked, Decision, Gates};
use crate::reconcile::desired::{Declared, Desired};
use crate::reconcile::moment::Moment;
use crate::reconcile::observed::Observed;
use crate::reconcile::plan::{Entry, Plan, Subject, plan as make};
use crate::settings;
use crate::telemetry;

pub(super) fn plan(args: &PlanArgs, color: Color) -> anyhow::Result<Exit> {
    let api = settings::api(&args.api, environment)?;
    settings::existing_directories(&args.manifests.manifests)?;
    let (declared, diagnostics, report) =
        source::load_with(args.manifests.manifests.clone(), args.manifests.follow_links);
    if let Some(trouble) = &report.trouble {
        bail!("reading the manifests: {trouble}");
    }
    for diagnostic in &diagnostics {
        // The plan is data; what is wrong with the manifests belongs beside it, not into it.
        anstderr(&diagnostic.render(telemetry::colour(color, &std::io::stderr())));
    }
    let clock = Clock::system();
    let client = Client::new(api.url, api.token).context("setting up the HTTP client")?;
    let mut governor = Governor::new(args.api.api_budget, 0);
    let wanted = declared.iter().filter_map(|declared| Some(declared.spec.as_ref()?.app_id.clone()));
    let observation = runtime()?.block_on(observe::everything(&client, &mut governor, clock, wanted))?;
    let gates = Gates { policy: args.policy.into(), list_incomplete: observation.flaw.is_some(), ..Gates::OPEN };
    let plan = planned(&declared, &observation, gates, clock);
    let interval = governor.list_interval(observation.pages, args.interval);
    let summary = Summary::of(&plan, &observation, interval, diagnostics.len());
    match args.output {
        PlanOutput::Text => print(&text(&plan, &summary, telemetry::colour(color, &std::io::stdout())))?,
        PlanOutput::Json => print(&json(&plan, &summary)?)?,
    }
    let changes = summary.stop + summary.start > 0;
    Ok(match (diagnostics.is_empty(), args.detailed_exitcode && changes) {
        // A plan beside broken manifests is not the whole plan: a pipeline must not take it for one.
        (false, _) => Exit::Failed,
        (true, true) => Exit::Changes,
        (true, false) => Exit::Done,
    })
}

fn planned(declared: &[Declared], observation: &Observation, gates: Gates, clock: Clock) -> Plan {
    let wall = clock.wall();
    let readings = observation.readings();
    let subjects = declared.iter().map(|declared| {
        let app_id = declared.spec.as_ref().map(|spec| &spec.app_id);
        Subject {
            name: &declared.name,
            app_id,
            asked: Asked::of(declared, wall),
            observed: app_id.and_then(|id| readings.get(id)).map_or(Observed::Unknown, |reading| reading.observed),
            past: &NOTHING_TRIED,
        }
    });
    make(subjects, gates, Moment::START)
}

/// The figures below a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    stop: usize,
    start: usize,
    settled: usize,
    other: usize,
    manifest_errors: usize,
    /// Requests to carry the plan out: the calls and the lists that verify them.
    requests: usize,
    /// Requests a minute in a steady state: nothing but the list.
    requests_per_minute: f64,
}

impl Summary {
    fn of(plan: &Plan, observation: &Observation, interval: Duration, manifest_errors: usize) -> Self {
        let count = |wanted: fn(&Decision) -> bool| plan.entries.iter().filter(|entry| wanted(&entry.decision)).count();
        let stop = plan.actions().filter(|(action, _)| action.aims_at() == Desired::Stopped).count();
        let start = plan.actions().count() - stop;
        let settled = count(|decision| matches!(decision, Decision::Settled(_)));
        let pages = observation.pages as usize;
        let verify = if stop + start == 0 { 0 } else { pages.min(stop + start) };
        Self {
            stop,
            start,
            settled,
            other: plan.entries.len() - stop - start - settled,
            manifest_errors,
            requests: stop + start + verify,
            requests_per_minute: f64::from(observation.pages) * 60.0 / interval.as_secs_f64(),
        }
    }
}

fn text(plan: &Plan, summary: &Summary, colour: bool) -> String {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let widest = plan.entries.iter().map(|entry| entry.name.as_str().len()).max().unwrap_or(0);
    let mut page = String::new();
    for entry in &plan.entries {
        let (mark, code) = match entry.decision {
            Decision::Act(action) if action.aims_at() == Desired::Stopped => ("- stop ", "33"),
            Decision::Act(_) => ("+ start", "32"),
            Decision::Settled(_) => continue,
            Decision::Held { .. } => ("  held ", "36"),
            Decision::Wait { .. } => ("  wait ", "36"),
            Decision::Stalled(_) => ("! stuck", "31"),
        };
        let desired = entry.desired.map_or("?", Desired::as_str);
        let why = match entry.decision {
            Decision::Act(_) | Decision::Settled(_) => String::new(),
            Decision::Held { reason, instead_of } => format!("  {reason} (would {instead_of})"),
            Decision::Wait { reason, .. } | Decision::Stalled(reason) => format!("  {reason}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "{} {:widest$}  {} -> {desired}{why}",
            paint(code, mark),
            entry.name.as_str(),
            entry.observed,
        );
    }
    let Summary { stop, start, settled, other, .. } = summary;
    if stop + start == 0 {
        page += "No changes. ";
    }
    let _ = writeln!(page, "Plan: {stop} to stop, {start} to start, {settled} settled, {other} other.");
    let _ = writeln!(
        page,
        "Requests: about {} to carry it out, then {:.1} a minute to watch.",
        summary.requests, summary.requests_per_minute
    );
    page
}

fn json(plan: &Plan, summary: &Summary) -> serde_json::Result<String> {
    let entry = |entry: &Entry| {
        let (decision, action) = match entry.decision {
            Decision::Act(action) => ("Act", Some(action)),
            Decision::Settled(_) => ("Settled", None),
            Decision::Wait { .. } => ("Wait", None),
            Decision::Held { instead_of, .. } => ("Held", Some(instead_of)),
            Decision::Stalled(_) => ("Stalled", None),
        };
        json!({
            "name": entry.name.as_str(),
            "appId": entry.app_id.as_ref().map(crate::reconcile::app::AppId::as_str),
            "desired": entry.desired.map(Desired::as_str),
            "observed": entry.observed.as_str(),
            "decision": decision,
            "action": action.map(crate::reconcile::action::Action::as_str),
            "reason": entry.decision.reason().as_str(),
        })
    };
    let actions: Vec<_> = plan.actions().map(|(_, entry_)| entry(entry_)).collect();
    let apps: Vec<_> = plan.entries.iter().map(entry).collect();
    let page = json!({
        "apiVersion": crate::status::API_VERSION, "kind": "Plan", "actions": actions, "apps": apps, "summary": summary,
    });
    Ok(serde_json::to_string_pretty(&page)? + "\n")
}

/// Writes for a person beside the data.
fn anstderr(text: &str) {
    use std::io::Write as _;
    // With stderr gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
