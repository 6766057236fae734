//! `plan`: the calls that `run` would send now. It only reads and prints.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::{SignedDuration, Timestamp, Unit};
use serde::Serialize;
use serde_json::json;

use super::bar::Bar;
use super::text::{self, clip, escape, json_pretty, print, print_data, print_note, thousands};
use super::{Exit, runtime, variable};
use crate::budget::RateLimiter;
use crate::camposcloud::client::Client;
use crate::cli::{Color, PlanArgs, PlanOutput, SourceArg};
use crate::clock::Clock;
use crate::manifest::diagnostic::Diagnostic;
use crate::manifest::source;
use crate::operator::observe::{self, Observation};
use crate::platform::listing::{Listing, PAGE_SIZE};
use crate::reconcile::app::{AppId, AppName};
use crate::reconcile::attempts::Attempts;
use crate::reconcile::clock_check::Trust;
use crate::reconcile::decide::{Decision, Gates, Goal};
use crate::reconcile::desired::{Because, Declared, Policy, Spec, Text};
use crate::reconcile::max_changes::{self, Approval, Limits, PlanId};
use crate::reconcile::moment::{Moment, human_duration};
use crate::reconcile::plan::{Entry, Plan, Subject, plan as make, restart_need};
use crate::reconcile::reading::Reading;
use crate::reconcile::reason::Reason;
use crate::reconcile::restart::{Causes, ServerTime};
use crate::reconcile::state::{Action, Desired, Observed};
use crate::settings;
use crate::telemetry;

pub(super) fn plan(args: &PlanArgs, color: Color) -> anyhow::Result<Exit> {
    let api = settings::api(&args.api, variable)?;
    if let Some(warning) = settings::budget_warning(args.api.api_budget) {
        print_note(&format!("warning: {warning}"));
    }
    let (declared, diagnostics, report) = load(args)?;
    if let Some(cause) = &report.cause {
        bail!("could not read the manifests: {cause}");
    }
    // The plan is data, so errors of the manifests go to stderr.
    if !diagnostics.is_empty() {
        print_note(text::diagnostics(&diagnostics, telemetry::colour(color, &std::io::stderr())).trim_end());
    }
    if declared.is_empty() {
        print_note(&format!("warning: no manifests in {}", escape(&place(args))));
    }
    let clock = Clock::system();
    let client = Client::new(api.url, api.token).context("could not set up the HTTP client")?;
    let mut limiter = RateLimiter::new(args.api.api_budget, 0);
    let listing = Listing::new(Some(PAGE_SIZE), &settings::teams(&args.team));
    let wanted = declared.iter().filter_map(|declared| Some(declared.spec()?.app_id.clone()));
    let bar = Bar::new();
    let observation =
        runtime()?
            .block_on(observe::everything(&client, &mut limiter, clock, listing, wanted, |step| bar.step(step)))?;
    drop(bar);
    for complaint in observation.warnings() {
        print_note(&format!("warning: {}", escape(&complaint)));
    }
    let clock_doubtful = observation.clock_check.trust() == Trust::Doubtful;
    if let (true, Some(ahead)) = (clock_doubtful, observation.clock_check.ahead()) {
        let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
        let seconds = ahead.as_secs().unsigned_abs();
        print_note(&format!(
            "warning: this machine's clock is {direction} the server's by {seconds} s; set the clock, or see --trust-clock"
        ));
    }
    let mut gates = Gates {
        policy: args.policy.into(),
        clock_doubtful: clock_doubtful && !args.api.trust_clock,
        list_incomplete: observation.flaw.is_some(),
        ..Gates::OPEN
    };
    let limits = settings::limits(&args.limits);
    let held = Held::of(&declared, &observation, limits, &report.approvals, gates, clock.wall());
    (gates.stops_held, gates.starts_held) = (held.messages.stops.is_some(), held.messages.starts.is_some());
    let plan = planned(&declared, &observation, gates, clock);
    let interval = limiter.list_interval(observation.pages, args.interval);
    let rate = limiter.observation_rate(observation.pages, observation.unlisted, interval);
    let errors: Vec<String> = diagnostics.iter().filter(|one| one.is_error()).map(Diagnostic::one_line).collect();
    let per_minute = limiter.requests_per_minute(clock.now());
    let page = Page {
        summary: Summary::of(&plan, &observation, rate, errors.len(), per_minute),
        causes: causes(&declared, clock.wall()),
        plan,
        errors,
        held,
        undeclared: undeclared(&declared, &observation),
    };
    match args.output {
        PlanOutput::Text => print(&page.text(telemetry::colour(color, &std::io::stdout())))?,
        PlanOutput::Json => print_data(&page.json()?)?,
        PlanOutput::Markdown => print(&page.markdown())?,
    }
    Ok(page.summary.exit(args.detailed_exitcode))
}

fn load(args: &PlanArgs) -> anyhow::Result<source::Loaded> {
    let directories = &args.manifests.manifests;
    if settings::reads_custom_resources(&args.source, directories, variable)? {
        #[cfg(feature = "kubernetes")]
        return runtime()?.block_on(async {
            let cluster = crate::kubernetes::Cluster::connect(args.source.namespace.as_deref()).await;
            let cluster = cluster.context("could not set up the client of the Kubernetes API")?;
            cluster.load().await.map_err(anyhow::Error::msg)
        });
    }
    settings::existing_paths(directories)?;
    Ok(source::load_with(directories.clone(), &settings::rules(&args.manifests.rules)))
}

/// The place of the manifests, for a message.
fn place(args: &PlanArgs) -> String {
    if args.source.source == SourceArg::Kubernetes {
        let namespace = args.source.namespace.as_deref();
        return namespace.map_or_else(|| "the current namespace".to_owned(), |name| format!("the namespace {name}"));
    }
    let directories: Vec<_> = args.manifests.manifests.iter().map(|root| root.display().to_string()).collect();
    directories.join(", ")
}

/// The part of the manifest that decides, with the reason that the manifest gives for it. One reading cannot
/// distinguish an edit from drift.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cause {
    /// As `desiredBecause` of the status API.
    because: String,
    note: Option<Arc<str>>,
}

fn causes(declared: &[Arc<Declared>], wall: Timestamp) -> BTreeMap<AppName, Cause> {
    let cause = |spec: &Spec| {
        let target = spec.target(wall);
        let note = matches!(target.because, Because::Override) || target.suspended;
        Cause { because: spec.explain(target), note: spec.note(target).filter(|_| note).map(Into::into) }
    };
    declared.iter().filter_map(|declared| Some((declared.name.clone(), cause(declared.spec()?)))).collect()
}

impl Cause {
    /// For a line of the plan: `window 2, Fri 21:00-Mon 06:00`.
    fn of_a_call(&self) -> String {
        match self.because.as_str() {
            "state" => "state (edit or drift)".into(),
            because => because.replace(" (", ", ").trim_end_matches(')').to_owned(),
        }
    }
}

fn planned(declared: &[Arc<Declared>], observation: &Observation, gates: Gates, clock: Clock) -> Plan {
    let wall = clock.wall();
    let readings = observation.readings();
    let past = Attempts::default();
    // `run` waits for readings that show the calls of an earlier process; a plan sends no call.
    let server = observation.clock_check.dates().map(|(_, now)| ServerTime { now, trusted_from: Timestamp::MIN });
    let subjects = declared.iter().map(|declared| {
        let app_id = declared.spec().map(|spec| &spec.app_id);
        let reading = app_id.and_then(|id| readings.get(id));
        let observed = reading.map_or(Observed::Unknown, |reading| reading.observed);
        let goal = Goal::of(declared, wall);
        Subject {
            name: &declared.name,
            app_id,
            goal,
            observed,
            need: restart_need(declared.spec(), goal, (observed, reading), &Causes::default(), server, wall),
            past: &past,
            text: Text::Stable,
            counts: counted(declared, &readings, gates, wall).is_some(),
        }
    });
    make(subjects, gates, Moment::START)
}

/// The apps of the account that no manifest declares: their names, otherwise their ids.
fn undeclared(declared: &[Arc<Declared>], observation: &Observation) -> Vec<String> {
    let ids: HashSet<&AppId> = declared.iter().filter_map(|declared| Some(&declared.spec()?.app_id)).collect();
    let others = observation.seen.iter().filter(|seen| !ids.contains(&seen.id));
    others.map(|seen| seen.name.as_deref().unwrap_or(seen.id.as_str()).to_owned()).collect()
}

type Readings = HashMap<AppId, Reading>;

/// The call of an app that counts for the limit of changes. Without a history, only transitions of the last hour are
/// known.
fn counted(declared: &Declared, readings: &Readings, gates: Gates, wall: Timestamp) -> Option<Action> {
    let spec = declared.spec()?;
    let observed = readings.get(&spec.app_id)?.observed;
    let action = max_changes::needed(Goal::of(declared, wall), observed, gates)?;
    (!max_changes::is_transition(spec, wall)).then_some(action)
}

/// Calls that `--max-stops` and `--max-starts` hold.
#[derive(Debug)]
struct Held {
    plan: PlanId,
    messages: HeldMessages,
    /// The end of the Approval that a plan proposes.
    until: Timestamp,
}

#[derive(Debug, Default)]
struct HeldMessages {
    stops: Option<String>,
    starts: Option<String>,
}

impl Held {
    fn of(
        declared: &[Arc<Declared>],
        observation: &Observation,
        limits: Limits,
        approvals: &[Approval],
        gates: Gates,
        wall: Timestamp,
    ) -> Self {
        let plan = PlanId::of(declared.iter().filter_map(|declared| declared.spec()));
        // As in `run`: while the clock is doubtful, no approval counts, because it may have expired.
        let is_approved = !gates.clock_doubtful && approvals.iter().any(|approval| approval.releases(&plan, wall));
        let is_callable = |declared: &&Arc<Declared>| match Goal::of(declared, wall) {
            Goal::Known(target) => !target.suspended && target.policy.min(gates.policy) != Policy::ObserveOnly,
            Goal::Unknown(_) => false,
        };
        let callable = declared.iter().filter(is_callable).count();
        let readings = observation.readings();
        let counted: Vec<Action> =
            declared.iter().filter_map(|declared| counted(declared, &readings, gates, wall)).collect();
        let held = |action: Action| {
            let limit = limits.of(action).filter(|_| !is_approved)?;
            let count = counted.iter().filter(|counted| **counted == action).count();
            let s = if count == 1 { "" } else { "s" };
            let message = || {
                format!(
                    "held: {count} {action}{s} (plan {plan}): more than --max-{action}s allows; \
                     revert the edits, or commit an Approval"
                )
            };
            (count > limit.of(callable)).then(message)
        };
        let messages = HeldMessages { stops: held(Action::Stop), starts: held(Action::Start) };
        let until = wall.checked_add(SignedDuration::from_hours(24)).unwrap_or(wall);
        Self { plan, messages, until: until.round(Unit::Minute).unwrap_or(until) }
    }

    fn messages(&self) -> impl Iterator<Item = &String> {
        self.messages.stops.iter().chain(&self.messages.starts)
    }

    /// The Approval to commit; empty if nothing is held.
    fn approval(&self) -> String {
        if self.messages().next().is_none() {
            return String::new();
        }
        let Self { plan, until, .. } = self;
        format!(
            "apiVersion: campos-operator.dev/v1\nkind: Approval\nmetadata: {{name: plan-{plan}}}\nspec: {{plan: \"{plan}\", \
             until: \"{until}\", reason: \"\", by: \"\"}}\n"
        )
    }
}

/// The figures below a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    stop: usize,
    start: usize,
    restart: usize,
    stuck: usize,
    /// Held by `--max-stops` or `--max-starts`.
    held_changes: usize,
    settled: usize,
    /// Held or waiting.
    other: usize,
    manifest_errors: usize,
    /// Requests of the plan: the calls and the lists that verify them.
    requests: usize,
    /// Duration of the calls at the budget.
    seconds: f64,
    /// Requests per minute that the calls may use; absent if unlimited.
    budget_per_minute: Option<f64>,
    /// Requests per minute afterwards: the list, and a read of each app that it does not show.
    requests_per_minute: f64,
}

impl Summary {
    fn of(
        plan: &Plan,
        observation: &Observation,
        requests_per_minute: f64,
        manifest_errors: usize,
        budget_per_minute: Option<f64>,
    ) -> Self {
        let count = |wanted: fn(&Decision) -> bool| plan.entries.iter().filter(|entry| wanted(&entry.decision)).count();
        let of = |wanted: Action| plan.actions().filter(|(action, _)| *action == wanted).count();
        let (stop, start, restart) = (of(Action::Stop), of(Action::Start), of(Action::Restart));
        let calls = stop + start + restart;
        let settled = count(|decision| matches!(decision, Decision::Settled(_)));
        let stuck = count(|decision| matches!(decision, Decision::Stalled(_)));
        let is_held = |decision: &Decision| decision.reason() == Reason::TooManyChanges;
        let held_changes = plan.entries.iter().filter(|entry| is_held(&entry.decision)).count();
        let pages = observation.pages as usize;
        let verify = if calls == 0 { 0 } else { pages.min(calls) };
        Self {
            stop,
            start,
            restart,
            stuck,
            held_changes,
            settled,
            other: plan.entries.len() - calls - settled - stuck,
            manifest_errors,
            requests: calls + verify,
            seconds: budget_per_minute
                .map_or(0.0, |budget| u32::try_from(calls).map_or(0.0, f64::from) * 60.0 / budget),
            budget_per_minute,
            requests_per_minute,
        }
    }

    fn changes(&self) -> bool {
        self.stop + self.start + self.restart > 0
    }

    fn needs_person(&self) -> bool {
        self.stuck + self.manifest_errors + self.held_changes > 0
    }

    fn exit(&self, detailed: bool) -> Exit {
        match detailed {
            // Without the invalid manifests the plan is incomplete, and a pipeline must not apply it.
            _ if self.manifest_errors > 0 => Exit::Failed,
            true if self.stuck + self.held_changes > 0 => Exit::Failed,
            true if self.changes() => Exit::Changes,
            true | false => Exit::Done,
        }
    }

    /// `2 to stop, 0 to start, 1 stuck, 7 settled, 0 other`; restarts only if there are any.
    fn counts(&self) -> String {
        let Self { stop, start, restart, stuck, settled, other, .. } = self;
        let restarts = if *restart > 0 { format!(", {restart} to restart") } else { String::new() };
        format!("{stop} to stop, {start} to start{restarts}, {stuck} stuck, {settled} settled, {other} other")
    }

    /// `about 2 min 30 s at 120/min`; nothing without a call or a limit.
    fn duration(&self) -> Option<String> {
        let budget = self.budget_per_minute.filter(|_| self.changes())?;
        let time = Duration::try_from_secs_f64(self.seconds.ceil().max(1.0)).ok()?;
        Some(format!("about {} at {budget:.0}/min", human_duration(time)))
    }
}

/// Errors in the text for a terminal.
const ERRORS: usize = 20;
/// Maximum number of lines of each table in a comment; a comment has at most 64 KiB.
const MOST: usize = 150;
/// Characters of each error in a comment.
const LONGEST: usize = 200;

/// A plan with its figures and notes.
#[derive(Debug)]
struct Page {
    plan: Plan,
    summary: Summary,
    causes: BTreeMap<AppName, Cause>,
    /// The invalid manifests, a line each.
    errors: Vec<String>,
    held: Held,
    /// Apps of the account that no manifest declares, by name or id.
    undeclared: Vec<String>,
}

/// Maximum number of listed undeclared apps.
const NAMED: usize = 5;

impl Page {
    /// `3 apps are not declared (a, b, c): campos-operator import`; empty if there are none.
    fn undeclared(&self) -> String {
        let count = self.undeclared.len();
        if count == 0 {
            return String::new();
        }
        let verb = if count == 1 { "app of the account is" } else { "apps of the account are" };
        let named: Vec<_> = self.undeclared.iter().take(NAMED).map(|name| escape(name)).collect();
        let more = if count > NAMED { format!(", and {} more", thousands(count - NAMED)) } else { String::new() };
        format!(
            "{} {verb} not declared by a valid manifest ({}{more}): campos-operator import",
            thousands(count),
            named.join(", ")
        )
    }

    fn cause(&self, entry: &Entry) -> Option<&Cause> {
        self.causes.get(&entry.name)
    }

    /// Cause of a line: for a call the deciding part of the manifest, otherwise the reason.
    fn why(&self, entry: &Entry) -> String {
        match entry.decision {
            Decision::Act(Action::Restart) => "spec.restart".into(),
            Decision::Act(Action::Stop | Action::Start) => self.cause(entry).map(Cause::of_a_call).unwrap_or_default(),
            Decision::Held { reason: Reason::Suspended, .. } => Reason::Suspended.to_string(),
            Decision::Held { reason, instead_of } => format!("{reason} (would {instead_of})"),
            Decision::Wait { reason, .. } | Decision::Stalled(reason) | Decision::Settled(reason) => reason.to_string(),
        }
    }

    fn text(&self, colour: bool) -> String {
        let paint =
            |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
        let Self { plan, summary, .. } = self;
        let unsettled = |entry: &&Entry| !matches!(entry.decision, Decision::Settled(_));
        let widest = plan.entries.iter().filter(unsettled).map(|entry| entry.name.as_str().len()).max().unwrap_or(0);
        let mut page = String::new();
        for entry in &plan.entries {
            let (mark, code) = match entry.decision {
                Decision::Act(Action::Stop) => ("- stop ", "33"),
                Decision::Act(Action::Start) => ("+ start", "32"),
                Decision::Act(Action::Restart) => ("~ restart", "32"),
                Decision::Settled(_) => continue,
                Decision::Held { .. } => ("  held ", "36"),
                Decision::Wait { .. } => ("  wait ", "36"),
                Decision::Stalled(_) => ("! stuck", "31"),
            };
            let desired = entry.desired.map_or("?", Desired::as_str);
            let name = entry.name.as_str();
            // Writing to a String cannot fail.
            let _ = write!(page, "{} {name:widest$}  {} -> {desired}", paint(code, mark), entry.observed);
            let _ = writeln!(page, "  {}", self.why(entry));
        }
        for error in self.errors.iter().take(ERRORS) {
            let _ = writeln!(page, "{} {}", paint("31", "! error"), escape(error));
        }
        if self.errors.len() > ERRORS {
            let _ = writeln!(page, "  and {} more invalid", thousands(self.errors.len() - ERRORS));
        }
        if !summary.changes() && !summary.needs_person() {
            page += "No changes. ";
        }
        let _ = write!(page, "Plan: {}", summary.counts());
        let _ = match summary.manifest_errors {
            0 => Ok(()),
            1 => write!(page, ", 1 error in the manifests"),
            errors => write!(page, ", {} errors in the manifests", thousands(errors)),
        };
        let _ = match summary.duration() {
            Some(duration) => writeln!(page, "; {duration}."),
            None => writeln!(page, "."),
        };
        for message in self.held.messages() {
            let _ = writeln!(page, "{}", paint("31", message));
        }
        if self.held.messages().next().is_some() {
            let _ = write!(page, "To release them, commit this to the manifests:\n{}", self.held.approval());
        }
        if !self.undeclared.is_empty() {
            let _ = writeln!(page, "{}", self.undeclared());
        }
        let _ = writeln!(page, "Plan id: {}.", self.held.plan);
        let _ = writeln!(
            page,
            "Requests: about {} for these calls, then {:.1} a minute for the list.",
            summary.requests, summary.requests_per_minute
        );
        page
    }

    /// The plan as a comment on a pull request: the effects of merging it, and the apps that stay as they are.
    fn markdown(&self) -> String {
        let Self { plan, summary, errors, .. } = self;
        let Summary { stop, start, stuck, requests, requests_per_minute, .. } = summary;
        let title = if summary.changes() || summary.needs_person() {
            format!("{stop} to stop, {start} to start, {stuck} stuck")
        } else {
            "no changes".into()
        };
        // Writing to a String cannot fail.
        let mut page = format!("### campos-operator plan: {title}\n");
        if !errors.is_empty() {
            let (count, s) = (errors.len(), if errors.len() == 1 { "" } else { "s" });
            let _ = writeln!(page, "\n**{count} error{s} in the manifests: this plan is incomplete.**\n");
            for error in errors.iter().take(MOST) {
                let _ = writeln!(page, "- {}", code(&clip(error, LONGEST)));
            }
            if errors.len() > MOST {
                let _ = writeln!(page, "- ... and {} more", thousands(errors.len() - MOST));
            }
        }
        let rows: Vec<String> = plan.entries.iter().filter_map(|entry| self.markdown_row(entry)).collect();
        if !rows.is_empty() {
            page += "\n| | app | observed | desired | reason |\n| --- | --- | --- | --- | --- |\n";
            page.extend(rows.iter().take(MOST).map(String::as_str));
            if rows.len() > MOST {
                let _ = writeln!(page, "\n... and {} more.", thousands(rows.len() - MOST));
            }
        }
        let _ = writeln!(page, "\n{} (plan {}).", summary.counts(), self.held.plan);
        for message in self.held.messages() {
            let _ = writeln!(page, "\n**{message}**");
        }
        if self.held.messages().next().is_some() {
            let _ = writeln!(page, "\n```yaml\n{}```", self.held.approval());
        }
        let calls = match (summary.changes(), summary.duration()) {
            (true, Some(duration)) => format!("Requests: about {requests} for these calls ({duration}), then"),
            (true, None) => format!("Requests: about {requests} for these calls, then"),
            (false, _) => "Requests:".into(),
        };
        let _ = writeln!(page, "{calls} {requests_per_minute:.1} a minute for the list.");
        if !self.undeclared.is_empty() {
            let _ = writeln!(page, "\n{}.", code(&self.undeclared()));
        }
        page
    }

    fn markdown_row(&self, entry: &Entry) -> Option<String> {
        let (what, note) = match entry.decision {
            Decision::Act(action) => (format!("**{action}**"), None),
            Decision::Held { .. } => ("held".into(), self.cause(entry).and_then(|cause| cause.note.as_deref())),
            Decision::Wait { .. } => ("waits".into(), None),
            Decision::Stalled(_) => ("**stuck**".into(), None),
            Decision::Settled(_) => return None,
        };
        let note = note.map(|note| format!(": {}", code(note))).unwrap_or_default();
        let desired = entry.desired.map_or("?", Desired::as_str);
        let (name, why) = (code(entry.name.as_str()), self.why(entry));
        Some(format!("| {what} | {name} | {} | {desired} | {why}{note} |\n", entry.observed))
    }

    fn json(&self) -> anyhow::Result<String> {
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
                "desiredBecause": self.cause(entry).map(|cause| &cause.because),
                "observed": entry.observed.as_str(),
                "decision": decision,
                "action": action.map(Action::as_str),
                "reason": entry.decision.reason().as_str(),
            })
        };
        let actions: Vec<_> = self.plan.actions().map(|(_, acting)| entry(acting)).collect();
        let apps: Vec<_> = self.plan.entries.iter().map(entry).collect();
        Ok(json_pretty(&json!({
            "apiVersion": crate::status::API_VERSION, "kind": "Plan", "actions": actions, "apps": apps,
            "errors": self.errors, "summary": self.summary, "planId": self.held.plan.to_string(),
            "undeclared": self.undeclared,
            "held": self.held.messages().collect::<Vec<_>>(), "approval": self.held.approval(),
        }))?)
    }
}

/// Foreign text as a code span on one line, without markup, links or mentions.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::tests::hostile;

    fn entry(name: &str, decision: Decision) -> Entry {
        let (desired, observed) = (Some(Desired::Stopped), Observed::Running);
        Entry { name: name.parse().unwrap(), app_id: None, desired, observed, decision }
    }

    fn page(entries: Vec<Entry>, errors: &[&str]) -> Page {
        let plan = Plan { entries };
        let observation = Observation {
            seen: vec![],
            missing: vec![],
            flaw: None,
            pages: 1,
            unreadable: 0,
            problems: vec![],
            unlisted: 0,
            clock_check: crate::reconcile::clock_check::ClockCheck::new(false),
        };
        let summary = Summary::of(&plan, &observation, 1.0, errors.len(), Some(120.0));
        let cause = |because: &str| Cause { because: because.into(), note: Some("ask @ana | `rm`\n<b>".into()) };
        let causes = BTreeMap::from([
            ("down".parse().unwrap(), cause("state")),
            ("night".parse().unwrap(), cause("window 2 (Fri 21:00-Mon 06:00)")),
            ("held".parse().unwrap(), cause("suspend")),
        ]);
        let held = Held {
            plan: "7f3a9c01b2d4".parse().unwrap(),
            messages: HeldMessages::default(),
            until: "2026-11-28T00:00:00Z".parse().unwrap(),
        };
        let undeclared = vec!["Old bot".to_owned(), "x".to_owned()];
        Page { plan, summary, causes, errors: errors.iter().map(|&error| error.to_owned()).collect(), held, undeclared }
    }

    fn example() -> Page {
        let entries = vec![
            entry("down", Decision::Act(Action::Stop)),
            entry("night", Decision::Act(Action::Stop)),
            entry("held", Decision::Held { reason: Reason::Suspended, instead_of: Action::Stop }),
            entry("gone", Decision::Stalled(Reason::AppNotFound)),
            entry("fine", Decision::Settled(Reason::Settled)),
        ];
        page(entries, &["a.yaml:1:1: what is `sate`?"])
    }

    #[test]
    fn a_plan_on_a_terminal() {
        insta::assert_snapshot!(example().text(false), @r"
        - stop  down   Running -> Stopped  state (edit or drift)
        - stop  night  Running -> Stopped  window 2, Fri 21:00-Mon 06:00
          held  held   Running -> Stopped  Suspended
        ! stuck gone   Running -> Stopped  AppNotFound
        ! error a.yaml:1:1: what is `sate`?
        Plan: 2 to stop, 0 to start, 1 stuck, 1 settled, 1 other, 1 error in the manifests; about 1 s at 120/min.
        2 apps of the account are not declared by a valid manifest (Old bot, x): campos-operator import
        Plan id: 7f3a9c01b2d4.
        Requests: about 3 for these calls, then 1.0 a minute for the list.
        ");
        insta::assert_snapshot!(page(vec![], &[]).text(false), @r"
        No changes. Plan: 0 to stop, 0 to start, 0 stuck, 0 settled, 0 other.
        2 apps of the account are not declared by a valid manifest (Old bot, x): campos-operator import
        Plan id: 7f3a9c01b2d4.
        Requests: about 0 for these calls, then 1.0 a minute for the list.
        ");
    }

    #[test]
    fn a_comment_worth_posting() {
        insta::assert_snapshot!(example().markdown(), @r"
        ### campos-operator plan: 2 to stop, 0 to start, 1 stuck

        **1 error in the manifests: this plan is incomplete.**

        - ``a.yaml:1:1: what is `sate`?``

        | | app | observed | desired | reason |
        | --- | --- | --- | --- | --- |
        | **stop** | `down` | Running | Stopped | state (edit or drift) |
        | **stop** | `night` | Running | Stopped | window 2, Fri 21:00-Mon 06:00 |
        | held | `held` | Running | Stopped | Suspended: ``ask @ana \| `rm`\n<b>`` |
        | **stuck** | `gone` | Running | Stopped | AppNotFound |

        2 to stop, 0 to start, 1 stuck, 1 settled, 1 other (plan 7f3a9c01b2d4).
        Requests: about 3 for these calls (about 1 s at 120/min), then 1.0 a minute for the list.

        `2 apps of the account are not declared by a valid manifest (Old bot, x): campos-operator import`.
        ");
        insta::assert_snapshot!(page(vec![], &[]).markdown(), @r"
        ### campos-operator plan: no changes

        0 to stop, 0 to start, 0 stuck, 0 settled, 0 other (plan 7f3a9c01b2d4).
        Requests: 1.0 a minute for the list.

        `2 apps of the account are not declared by a valid manifest (Old bot, x): campos-operator import`.
        ");
    }

    proptest::proptest! {
        #[test]
        fn a_comment_is_harmless(text in hostile()) {
            let shown = |text: &str| {
                let held = entry("held", Decision::Held { reason: Reason::Suspended, instead_of: Action::Stop });
                let mut page = page(vec![held], &[text]);
                for cause in page.causes.values_mut() {
                    cause.note = Some(text.into());
                }
                page.markdown()
            };
            assert_page(&shown(&text), &shown("x"));
            // The text contains no markup: without the code spans, the pages are equal.
            let bare = |text: &str| shown(text).replace(&code(&clip(text, LONGEST)), "").replace(&code(text), "");
            assert_eq!(bare(&text), bare("x"));
            let fence = code(&text).chars().take_while(|c| *c == '`').count();
            let inner = &code(&text)[fence..code(&text).len() - fence];
            assert!(inner.split(|c| c != '`').all(|run| run.len() != fence), "{inner}");
        }
    }

    #[test]
    fn a_plan_of_ten_thousand_fits_a_comment() {
        let long = "a".repeat(63);
        let entries = (0..10_000).map(|_| entry(&long, Decision::Act(Action::Stop))).collect();
        let mistakes = vec!["x".repeat(2000); 1000];
        let mistakes: Vec<&str> = mistakes.iter().map(String::as_str).collect();
        assert!(page(entries, &mistakes).markdown().len() < 65_536);
    }

    #[test]
    fn three_hundred_stops_take_two_and_a_half_minutes() {
        let entries = (0..300).map(|number| entry(&format!("a{number}"), Decision::Act(Action::Stop))).collect();
        assert!(page(entries, &[]).text(false).contains("; about 2 min 30 s at 120/min."));
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
        let stop = || entry("down", Decision::Act(Action::Stop));
        let stuck = || entry("gone", Decision::Stalled(Reason::AppNotFound));
        for (entries, errors, exit, detailed) in [
            (vec![], &[][..], Exit::Done, Exit::Done),
            (vec![stop()], &[], Exit::Done, Exit::Changes),
            (vec![stuck()], &[], Exit::Done, Exit::Failed),
            (vec![stop(), stuck()], &[], Exit::Done, Exit::Failed),
            (vec![stop()], &["e"], Exit::Failed, Exit::Failed),
            (vec![], &["e"], Exit::Failed, Exit::Failed),
        ] {
            let page = page(entries, errors);
            assert_eq!((page.summary.exit(false), page.summary.exit(true)), (exit, detailed));
            let nothing = detailed == Exit::Done;
            assert_eq!(page.text(false).contains("No changes"), nothing, "{}", page.text(false));
            assert_eq!(page.markdown().contains("no changes"), nothing);
        }
    }
}
