//! `plan`: the actions that `run` would take now. Reads and prints, changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::json;

use super::text::{clip, escape, json_pretty, print, print_data, print_note};
use super::{Exit, environment, runtime};
use crate::budget::RateLimiter;
use crate::camposcloud::client::Client;
use crate::cli::{Color, PlanArgs, PlanOutput};
use crate::clock::Clock;
use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::source;
use crate::operator::observe::{self, Observation};
use crate::platform::listing::{Listing, PAGE_SIZE};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::attempts::Attempts;
use crate::reconcile::decide::{Decision, Gates, Goal};
use crate::reconcile::desired::{Declared, Text};
use crate::reconcile::doubt::Trust;
use crate::reconcile::moment::Moment;
use crate::reconcile::plan::{Entry, Plan, Subject, plan as make};
use crate::reconcile::reason::Reason;
use crate::reconcile::state::{Action, Desired, Observed};
use crate::settings;
use crate::telemetry;

pub(super) fn plan(args: &PlanArgs, color: Color) -> anyhow::Result<Exit> {
    let api = settings::api(&args.api, environment)?;
    settings::existing_directories(&args.manifests.manifests)?;
    let (declared, diagnostics, report) =
        source::load_with(args.manifests.manifests.clone(), args.manifests.follow_links);
    if let Some(trouble) = &report.trouble {
        bail!("could not read the manifests: {trouble}");
    }
    for diagnostic in &diagnostics {
        // The plan is data, so the errors of the manifests go to stderr.
        print_note(&diagnostic.render(telemetry::colour(color, &std::io::stderr())));
    }
    let clock = Clock::system();
    let client = Client::new(api.url, api.token).context("could not set up the HTTP client")?;
    let mut limiter = RateLimiter::new(args.api.api_budget, 0);
    let listing = Listing::new(Some(PAGE_SIZE), &settings::teams(&args.team));
    let wanted = declared.iter().filter_map(|declared| Some(declared.spec()?.app_id.clone()));
    let observation = runtime()?.block_on(observe::everything(&client, &mut limiter, clock, listing, wanted))?;
    for complaint in observation.complaints() {
        print_note(&format!("warning: {}", escape(&complaint)));
    }
    let clock_doubtful = observation.doubt.trust() == Trust::Doubtful;
    if let (true, Some(ahead)) = (clock_doubtful, observation.doubt.ahead()) {
        let seconds = ahead.as_secs();
        print_note(&format!(
            "warning: this machine's clock is ahead of the server's by {seconds} s; set the clock, or see --trust-clock"
        ));
    }
    let gates = Gates {
        policy: args.policy.into(),
        clock_doubtful: clock_doubtful && !args.api.trust_clock,
        list_incomplete: observation.flaw.is_some(),
        ..Gates::OPEN
    };
    let plan = planned(&declared, &observation, gates, clock);
    let interval = limiter.list_interval(observation.pages, args.interval);
    let rate = limiter.observation_rate(observation.pages, observation.unlisted, interval);
    let summary = Summary::of(&plan, &observation, rate, diagnostics.len());
    match args.output {
        PlanOutput::Text => print(&text(&plan, &summary, telemetry::colour(color, &std::io::stdout())))?,
        PlanOutput::Json => print_data(&json(&plan, &summary)?)?,
        PlanOutput::Markdown => {
            let errors: Vec<String> = diagnostics.iter().map(Diagnostic::one_line).collect();
            print(&markdown(&plan, &summary, &notes(&declared), &errors))?;
        }
    }
    Ok(summary.exit(args.detailed_exitcode))
}

/// The reasons that the manifests give for a suspension.
fn notes(declared: &[Arc<Declared>]) -> BTreeMap<&AppName, &str> {
    let suspended = declared.iter().filter_map(|declared| Some((&declared.name, declared.spec()?.suspend.as_ref()?)));
    suspended.filter_map(|(name, suspension)| Some((name, suspension.reason.as_deref()?))).collect()
}

fn planned(declared: &[Arc<Declared>], observation: &Observation, gates: Gates, clock: Clock) -> Plan {
    let wall = clock.wall();
    let readings = observation.readings();
    let past = Attempts::default();
    let subjects = declared.iter().map(|declared| {
        let app_id = declared.spec().map(|spec| &spec.app_id);
        Subject {
            name: &declared.name,
            app_id,
            goal: Goal::of(declared, wall),
            observed: app_id.and_then(|id| readings.get(id)).map_or(Observed::Unknown, |reading| reading.observed),
            past: &past,
            text: Text::Stable,
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
    /// Requests of the plan: the calls and the lists that verify them.
    requests: usize,
    /// Requests per minute afterwards: the list, and a read of each app that it does not show.
    requests_per_minute: f64,
}

impl Summary {
    fn of(plan: &Plan, observation: &Observation, requests_per_minute: f64, manifest_errors: usize) -> Self {
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
            requests_per_minute,
        }
    }

    fn changes(&self) -> bool {
        self.stop + self.start > 0
    }

    fn exit(&self, detailed: bool) -> Exit {
        match (self.manifest_errors, detailed && self.changes()) {
            (0, true) => Exit::Changes,
            (0, false) => Exit::Done,
            // Without the invalid manifests the plan is incomplete, and a pipeline must not apply it.
            (1.., _) => Exit::Failed,
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
    if !summary.changes() {
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

/// Lines of each table in a comment; a forge takes 64 KiB.
const MOST: usize = 150;
/// Characters of each error in a comment.
const LONGEST: usize = 200;

/// The plan as a comment on a pull request: the effects of merging it, and the apps that stay as they are.
fn markdown(plan: &Plan, summary: &Summary, notes: &BTreeMap<&AppName, &str>, errors: &[String]) -> String {
    let Summary { stop, start, settled, other, requests, requests_per_minute, .. } = summary;
    let title = if summary.changes() { format!("{stop} to stop, {start} to start") } else { "no changes".into() };
    // Writing to a String cannot fail.
    let mut page = format!("### campos-operator plan: {title}\n");
    if !errors.is_empty() {
        let (count, s) = (errors.len(), if errors.len() == 1 { "" } else { "s" });
        let _ = writeln!(page, "\n**{count} error{s} in the manifests: this plan is incomplete.**\n");
        for error in errors.iter().take(MOST) {
            let _ = writeln!(page, "- {}", code(&clip(error, LONGEST)));
        }
    }
    let rows: Vec<String> = plan.entries.iter().filter_map(|entry| markdown_row(entry, notes)).collect();
    if !rows.is_empty() {
        page += "\n| | app | observed | desired | reason |\n| --- | --- | --- | --- | --- |\n";
        page.extend(rows.iter().take(MOST).map(String::as_str));
        if rows.len() > MOST {
            let _ = writeln!(page, "\n... and {} more.", rows.len() - MOST);
        }
    }
    let _ = writeln!(page, "\n{settled} settled, {other} other.");
    let calls = if summary.changes() {
        format!("About {requests} requests to carry it out, then")
    } else {
        "Watching takes".into()
    };
    let _ = writeln!(page, "{calls} {requests_per_minute:.1} a minute.");
    page
}

fn markdown_row(entry: &Entry, notes: &BTreeMap<&AppName, &str>) -> Option<String> {
    let note = notes.get(&entry.name).map(|note| format!(": {}", code(note))).unwrap_or_default();
    let (what, why) = match entry.decision {
        Decision::Settled(_) => return None,
        Decision::Act(action) => (format!("**{action}**"), String::new()),
        Decision::Held { reason: reason @ Reason::Suspended, .. } => ("held".into(), format!("{reason}{note}")),
        Decision::Held { reason, instead_of } => ("held".into(), format!("{reason} (would {instead_of})")),
        Decision::Wait { reason, .. } => ("waits".into(), reason.to_string()),
        Decision::Stalled(reason) => ("**stuck**".into(), reason.to_string()),
    };
    let desired = entry.desired.map_or("?", Desired::as_str);
    Some(format!("| {what} | {} | {} | {desired} | {why} |\n", code(entry.name.as_str()), entry.observed))
}

/// Foreign text as a code span on one line, in which nothing is markup, a link or a mention.
fn code(text: &str) -> String {
    let text = escape(text);
    // The fence has one backtick more than the longest run in the text, so that no run ends the span.
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A bar ends a table cell even within a span, unless it is escaped.
    let text = text.trim().replace('|', "\\|");
    let pad = if text.starts_with('`') || text.ends_with('`') || text.is_empty() { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
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
            "appId": entry.app_id.as_ref().map(AppId::as_str),
            "desired": entry.desired.map(Desired::as_str),
            "observed": entry.observed.as_str(),
            "decision": decision,
            "action": action.map(Action::as_str),
            "reason": entry.decision.reason().as_str(),
        })
    };
    let actions: Vec<_> = plan.actions().map(|(_, entry_)| entry(entry_)).collect();
    let apps: Vec<_> = plan.entries.iter().map(entry).collect();
    let page = json!({
        "apiVersion": crate::status::API_VERSION, "kind": "Plan", "actions": actions, "apps": apps, "summary": summary,
    });
    json_pretty(&page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::tests::hostile;

    fn entry(name: &str, decision: Decision) -> Entry {
        let (desired, observed) = (Some(Desired::Stopped), Observed::Running);
        Entry { name: name.parse().unwrap(), app_id: None, desired, observed, decision }
    }

    fn summary(stop: usize, manifest_errors: usize) -> Summary {
        Summary { stop, start: 0, settled: 3, other: 2, manifest_errors, requests: 2 * stop, requests_per_minute: 1.0 }
    }

    #[test]
    fn a_comment_worth_posting() {
        let plan = Plan {
            entries: vec![
                entry("down", Decision::Act(Action::Stop)),
                entry("held", Decision::Held { reason: Reason::Suspended, instead_of: Action::Stop }),
                entry("gone", Decision::Stalled(Reason::AppNotFound)),
            ],
        };
        let held = "held".parse().unwrap();
        let notes = BTreeMap::from([(&held, "ask @ana | `rm`\n<b>")]);
        insta::assert_snapshot!(markdown(&plan, &summary(1, 1), &notes, &["a.yaml:1:1: what is `sate`?".into()]), @r"
        ### campos-operator plan: 1 to stop, 0 to start

        **1 error in the manifests: this plan is incomplete.**

        - ``a.yaml:1:1: what is `sate`?``

        | | app | observed | desired | reason |
        | --- | --- | --- | --- | --- |
        | **stop** | `down` | Running | Stopped |  |
        | held | `held` | Running | Stopped | Suspended: ``ask @ana \| `rm`\n<b>`` |
        | **stuck** | `gone` | Running | Stopped | AppNotFound |

        3 settled, 2 other.
        About 2 requests to carry it out, then 1.0 a minute.
        ");
        insta::assert_snapshot!(markdown(&Plan::default(), &summary(0, 0), &notes, &[]), @"
        ### campos-operator plan: no changes

        3 settled, 2 other.
        Watching takes 1.0 a minute.
        ");
    }

    proptest::proptest! {
        #[test]
        fn a_comment_is_harmless(text in hostile()) {
            let held = "held".parse().unwrap();
            let page = |text: &str| {
                let plan = Plan {
                    entries: vec![entry("held", Decision::Held { reason: Reason::Suspended, instead_of: Action::Stop })],
                };
                markdown(&plan, &summary(0, 1), &BTreeMap::from([(&held, text)]), &[text.to_owned()])
            };
            assert_page(&page(&text), &page("x"));
            // Nothing of it is markup: with its code spans taken away, the pages are one and the same.
            let bare = |text: &str| page(text).replace(&code(&clip(text, LONGEST)), "").replace(&code(text), "");
            assert_eq!(bare(&text), bare("x"));
            let fence = code(&text).chars().take_while(|c| *c == '`').count();
            let inner = &code(&text)[fence..code(&text).len() - fence];
            assert!(inner.split(|c| c != '`').all(|run| run.len() != fence), "{inner}");
        }
    }

    #[test]
    fn a_plan_of_ten_thousand_fits_a_comment() {
        let long = "a".repeat(63);
        let plan = Plan { entries: (0..10_000).map(|_| entry(&long, Decision::Act(Action::Stop))).collect() };
        let mistakes = vec!["x".repeat(2000); 1000];
        assert!(markdown(&plan, &summary(10_000, 1000), &BTreeMap::new(), &mistakes).len() < 65_536);
    }

    #[test]
    fn code_spans_hold_anything() {
        for (text, span) in [
            ("plain", "`plain`"),
            ("a`b", "``a`b``"),
            ("``", "``` `` ```"),
            ("a|b", "`a\\|b`"),
            ("two\nlines", "`two\\nlines`"),
            ("", "`  `"),
        ] {
            assert_eq!(code(text), span, "{text:?}");
        }
    }

    #[test]
    fn text_and_exit_code_agree() {
        for (stop, errors, detailed, exit) in [
            (0, 0, true, Exit::Done),
            (1, 0, false, Exit::Done),
            (1, 0, true, Exit::Changes),
            (1, 1, true, Exit::Failed),
            (0, 1, false, Exit::Failed),
        ] {
            let summary = summary(stop, errors);
            assert_eq!(summary.exit(detailed), exit);
            assert_eq!(text(&Plan::default(), &summary, false).contains("No changes"), stop == 0);
        }
    }
}
