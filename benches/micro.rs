//! The cost of each step by itself, without disk, network and clock: `cargo bench --bench micro`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use campos_operator::budget::{Admission, Budget, Call, Lane, RateLimiter, Waiting};
use campos_operator::camposcloud::wire;
use campos_operator::manifest::load;
use campos_operator::manifest::source;
use campos_operator::reconcile::app::{AppId, AppName};
use campos_operator::reconcile::attempts::Attempts;
use campos_operator::reconcile::decide::{Gates, Goal, decide};
use campos_operator::reconcile::desired::{Because, Policy, Target, Text};
use campos_operator::reconcile::moment::Moment;
use campos_operator::reconcile::outcome::RateLimitHeaders;
use campos_operator::reconcile::plan::{Subject, plan};
use campos_operator::reconcile::redacted::Secrets;
use campos_operator::reconcile::restart::RestartNeed;
use campos_operator::reconcile::state::Desired;
use campos_operator::reconcile::state::Observed;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

/// A typical manifest.
const PLAIN: &str = "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata:\n  name: ticket-bot\n  labels: {team: \
                     support}\nspec:\n  appId: 60c72b2f9b1e8d001c8e4f3a\n  state: Stopped\n";

/// A manifest with every kind of window.
const SCHEDULED: &str = r#"apiVersion: campos-operator.dev/v1
kind: App
metadata:
  name: ticket-bot
  labels: {team: support}
spec:
  appId: 60c72b2f9b1e8d001c8e4f3a
  state: Running
  schedule:
    timeZone: America/Sao_Paulo
    windows:
      - {state: Running, from: "2026-12-23T22:00:00", to: "2026-12-24T02:00:00", reason: release night}
      - {state: Stopped, from: "Fri 21:00", to: "Mon 06:00"}
      - {state: Stopped, from: "22:00", to: "06:00", days: Mon-Thu}
      - {state: Stopped, cron: "0 12 * * 1-5", duration: 1h}
"#;

/// An app on the wire. Braces mark the values that differ.
const APP: &str = include_str!("app.json");

fn main() {
    divan::main();
}

/// Parses a plain manifest.
#[divan::bench]
fn parse_plain(bencher: Bencher<'_, '_>) {
    parse(bencher, PLAIN);
}

/// Parses a manifest with a schedule of four windows.
#[divan::bench]
fn parse_scheduled(bencher: Bencher<'_, '_>) {
    parse(bencher, SCHEDULED);
}

fn parse(bencher: Bencher<'_, '_>, text: &str) {
    let file: Arc<str> = "ticket-bot.yaml".into();
    bencher.counter(BytesCount::of_str(text)).bench(|| load::parse(black_box(&file), black_box(text.as_bytes())));
}

/// Decides for a running app with the desired state Stopped.
#[divan::bench]
fn decision(bencher: Bencher<'_, '_>) {
    let past = Attempts::new(0);
    let goal = Goal::Known(target(Desired::Stopped));
    bencher.bench(|| {
        decide(black_box(goal), Observed::Running, RestartNeed::Nothing, black_box(&past), Gates::OPEN, Moment::START)
    });
}

/// A plan of all apps, one in a hundred of which is not as declared.
#[divan::bench(args = [1_000, 10_000])]
fn plan_all(bencher: Bencher<'_, '_>, apps: u32) {
    let past = Attempts::new(0);
    let names: Vec<(AppName, AppId)> = (0..apps)
        .map(|app| {
            let name = format!("app-{app:06}").parse().expect("a DNS label");
            (name, format!("60c72b2f9b1e8d00{app:08x}").parse().expect("an id"))
        })
        .collect();
    bencher.counter(ItemsCount::new(apps)).bench(|| {
        let subjects = names.iter().zip(0..).map(|((name, app_id), app)| Subject {
            name,
            app_id: Some(app_id),
            goal: Goal::Known(target(if app % 100 == 0 { Desired::Stopped } else { Desired::Running })),
            observed: Observed::Running,
            need: RestartNeed::Nothing,
            past: &past,
            text: Text::Stable,
            counts: false,
        });
        plan(subjects, Gates::OPEN, Moment::START)
    });
}

/// Admits a call that succeeds.
#[divan::bench]
fn governor_admits(bencher: Bencher<'_, '_>) {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    let mut now = Moment::START;
    bencher.bench_local(|| {
        // Slow enough for the budget.
        now = now + Duration::from_secs(1);
        let waiting = Waiting { act: Some(now), calls: 1, confirm: None, observe: Some(now) };
        let admitted = limiter.order(&waiting, now).any(|lane| limiter.admit(lane, now) == Admission::Go);
        limiter.succeeded(&Call::List, RateLimitHeaders::default(), now);
        admitted
    });
}

/// Refuses a call because the budget is exhausted.
#[divan::bench]
fn governor_refuses(bencher: Bencher<'_, '_>) {
    let mut limiter = RateLimiter::new(Budget::PerMinute(120), 0);
    while limiter.admit(Lane::Act, Moment::START) == Admission::Go {}
    bencher.bench_local(|| limiter.admit(Lane::Act, black_box(Moment::START)));
}

/// A page of the list.
#[divan::bench]
fn page_of_100_apps(bencher: Bencher<'_, '_>) {
    let apps: Vec<String> = (0..100)
        .map(|app| {
            let id = format!("60c72b2f9b1e8d00{app:08x}");
            let name = format!("app-{app:06}");
            let values =
                [("{id}", &*id), ("{now}", "2026-11-24T12:00:00.123Z"), ("{online}", "true"), ("{name}", &*name)];
            values.iter().fold(APP.trim_end().to_owned(), |text, (name, value)| text.replace(name, value))
        })
        .collect();
    let mut page = format!(r#"{{"applications":[{}],"#, apps.join(","));
    write!(page, r#""pagination":{{"totalItems":100,"totalPages":1,"currentPage":1,"hasNextPage":false}}}}"#)
        .expect("a String takes everything");
    let (page, secrets) = (page.into_bytes(), Secrets::default());
    assert_eq!(
        wire::page(&page, &secrets).expect("a page").apps.len(),
        100,
        "what is measured is the reading of 100 apps"
    );
    bencher.counter(BytesCount::of_slice(&page)).bench(|| wire::page(black_box(&page), &secrets));
}

/// The state that a schedule of four windows asks for at a moment.
#[divan::bench]
fn schedule_decides(bencher: Bencher<'_, '_>) {
    let (spec, at) = scheduled();
    bencher.bench(|| spec.target(black_box(at)));
}

/// The next transition of a schedule.
#[divan::bench]
fn schedule_next_change(bencher: Bencher<'_, '_>) {
    let (spec, at) = scheduled();
    bencher.bench(|| spec.next_change(black_box(at)));
}

fn target(desired: Desired) -> Target {
    Target { desired, because: Because::State, suspended: false, timed: false, policy: Policy::Full }
}

fn scheduled() -> (campos_operator::reconcile::desired::Spec, jiff::Timestamp) {
    let (declared, _) = source::load_text(&"ticket-bot.yaml".into(), SCHEDULED.as_bytes());
    let spec = declared.first().and_then(|declared| declared.spec()).expect("the manifest is sound");
    (spec.clone(), "2026-11-24T12:30:00Z".parse().expect("a time"))
}
