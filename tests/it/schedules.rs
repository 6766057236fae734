//! Schedules: the bundled ones compared over months with rules in plain code, and one that the built binary follows and
//! explains.

use std::path::Path;
use std::sync::Arc;

use campos_operator::manifest::load::{Content, parse};
use campos_operator::reconcile::desired::Spec;
use campos_operator::reconcile::state::Desired;
use campos_operator::simulator::world::Config;
use jiff::civil::{DateTime, Weekday, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};

use crate::harness::{A, B, Daemon, Manifests, Simulator, http, manifest, output, wait_until};

fn spec(name: &str) -> Spec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/schedules").join(name);
    let parsed = parse(&Arc::from(name), &std::fs::read(path).unwrap());
    assert_eq!(parsed.diagnostics, []);
    let Content::Good(object) = &parsed.documents[0].content else { panic!("{name}") };
    object.spec.clone()
}

/// Walks from `first` for 31 days. `up`: whether the app is expected to run at a time of its zone.
#[track_caller]
fn walk(name: &str, first: DateTime, up: impl Fn(&Zoned) -> bool) {
    let spec = spec(name);
    let zone = TimeZone::get(&spec.schedule.as_ref().unwrap().zone_name).unwrap();
    let start = zone.to_timestamp(first).unwrap();
    let mut changes = 0;
    let mut announced = spec.next_transition(start);
    let mut before = spec.target(start).desired;
    for minute in 0..31 * 24 * 60 {
        let at = start + SignedDuration::from_mins(minute);
        let local = at.to_zoned(zone.clone());
        let wanted = if up(&local) { Desired::Running } else { Desired::Stopped };
        assert_eq!(spec.target(at).desired, wanted, "{name} at {local}");
        if wanted != before {
            let (next, target) = announced.unwrap();
            assert_eq!((next, target.desired), (at, wanted), "{name}: what was announced");
            announced = spec.next_transition(at);
            (before, changes) = (wanted, changes + 1);
        }
    }
    assert!(changes >= 2, "{name} changes within its month");
}

fn between(local: &Zoned, from: DateTime, to: DateTime) -> bool {
    from <= local.datetime() && local.datetime() < to
}

#[test]
fn office_hours() {
    walk("office-hours.yaml", date(2026, 11, 15).at(0, 0, 0, 0), |local| {
        !matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday) && (7..20).contains(&local.hour())
    });
}

#[test]
fn weekend() {
    // March 2027 has the change to summer time in it, in the night from Saturday to Sunday.
    walk("weekend.yaml", date(2027, 3, 1).at(0, 0, 0, 0), |local| match local.weekday() {
        Weekday::Friday => local.hour() < 21,
        Weekday::Saturday | Weekday::Sunday => false,
        Weekday::Monday => local.hour() >= 6,
        Weekday::Tuesday | Weekday::Wednesday | Weekday::Thursday => true,
    });
}

#[test]
fn holidays() {
    let day = |month, day, hour| date(if month == 1 { 2027 } else { 2026 }, month, day).at(hour, 0, 0, 0);
    walk("holidays.yaml", day(12, 14, 0), |local| {
        between(local, day(12, 27, 18), day(12, 28, 0)) || !between(local, day(12, 19, 0), day(1, 11, 6))
    });
}

#[test]
fn maintenance() {
    walk("maintenance.yaml", date(2026, 12, 1).at(0, 0, 0, 0), |local| {
        !between(local, date(2026, 12, 6).at(2, 0, 0, 0), date(2026, 12, 6).at(4, 30, 0, 0))
    });
}

#[test]
fn release_night() {
    walk("release-night.yaml", date(2026, 12, 1).at(0, 0, 0, 0), |local| {
        let release = between(local, date(2026, 12, 10).at(22, 0, 0, 0), date(2026, 12, 11).at(2, 0, 0, 0));
        let working_day = !matches!(local.weekday(), Weekday::Saturday | Weekday::Sunday);
        release || ((6..22).contains(&local.hour()) && !(working_day && local.hour() == 12))
    });
}

/// A manifest with a schedule that always contradicts its `state`.
fn turned(name: &str, id: &str) -> String {
    let state = "Running\n  schedule:\n    timeZone: America/Sao_Paulo\n    windows: [{state: Stopped, from: \"2026-01-01T00:00:00\", reason: moved out}]";
    manifest(name, id, state)
}

#[test]
fn a_transition_before_the_start_is_applied_at_the_start() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[]);
    manifests.put("bot", &turned("bot", A));
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("app stopped");
    assert_eq!(simulator.calls(), [format!("stop {A}")]);
    let app = http(daemon.address(), "GET", "/api/v1/apps/bot").1;
    assert!(app.contains(r#""desiredBecause":"window 1 (from 2026-01-01 00:00)""#), "{app}");
}

#[test]
fn explain_agrees_between_the_daemon_and_the_file() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("plain", B, "Running")]);
    manifests.put("bot", &turned("bot", A));
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("manifests loaded");
    let server = format!("http://{}", daemon.address());
    let file = manifests.file("bot").to_string_lossy().into_owned();
    let explain = |more: &[&str]| output(&[&["explain", "--at", "2026-11-24T12:00:00Z"], more].concat());
    let asked = |name: &str| explain(&[name, "--server", &server]);
    wait_until("the app is shown", || asked("bot").status.success(), || daemon.log());
    let (online, offline) = (asked("bot"), explain(&["-f", &file]));
    let text = String::from_utf8(online.stdout).unwrap();
    assert_eq!(text, String::from_utf8(offline.stdout).unwrap());
    assert!(text.starts_with("bot at Tue 2026-11-24 09:00 -03 (America/Sao_Paulo), 2026-11-24T12:00:00Z\ndesired: Stopped\ndecided by: window 1 (from 2026-01-01 00:00): moved out\n"), "{text}");
    assert!(text.contains("\nNo transitions.\n"), "{text}");
    // A time of the app's zone, before the window.
    let early = output(&["explain", "-f", &file, "--at", "2025-12-31T23:00", "-o", "json"]);
    let early: serde_json::Value = serde_json::from_slice(&early.stdout).unwrap();
    assert_eq!((&early["state"], &early["because"]), (&"Running".into(), &"state".into()), "{early}");
    assert_eq!(early["next"][0]["at"], "2026-01-01T03:00:00Z");
    let unknown = asked("bott");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean bot?"));
}

const OFFICE: &str = "apiVersion: campos-operator.dev/v1\nkind: Schedule\nmetadata: {name: office}\nspec:\n  timeZone: UTC\n  windows: []\n  except: [{calendar: closed.ics, state: Stopped, reason: holiday}]\n";

fn closed(day: &str) -> String {
    format!(
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Closed\nDTSTART;VALUE=DATE:{day}\nDURATION:P30000D\nEND:VEVENT\nEND:VCALENDAR\n"
    )
}

/// Two apps share a Schedule. Breaking it, its calendar, or its name calls nothing; an event stops both; `explain`,
/// from the daemon, names all of it. After a restart with a broken Schedule the apps wait.
#[test]
fn apps_follow_a_shared_schedule_and_its_calendar() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests =
        Manifests::new(&[("a", A, "Running\n  scheduleRef: office"), ("b", B, "Running\n  scheduleRef: office")]);
    let calendar = |text: &str| std::fs::write(manifests.path().join("closed.ics"), text).unwrap();
    manifests.put("office", OFFICE);
    calendar(&closed("20900101"));
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    let reason = |daemon: &Daemon, app: &str| {
        let shown: serde_json::Value =
            serde_json::from_str(&http(daemon.address(), "GET", &format!("/api/v1/apps/{app}")).1).unwrap_or_default();
        shown["status"]["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned()
    };
    let both = |daemon: &Daemon, expected: &str| {
        let are = || ["a", "b"].iter().all(|app| reason(daemon, app) == expected);
        wait_until(expected, are, || daemon.log());
    };
    both(&daemon, "Settled");
    calendar("nonsense");
    both(&daemon, "InvalidManifest");
    assert_eq!(simulator.calls(), [""; 0]);
    calendar(&closed("20200101"));
    wait_until("both are stopped", || simulator.calls().len() == 2, || daemon.log());
    both(&daemon, "Settled");

    let server = format!("http://{}", daemon.address());
    let explain = || {
        let explained = output(&["explain", "a", "--server", &server]);
        String::from_utf8(explained.stdout).unwrap() + &String::from_utf8_lossy(&explained.stderr)
    };
    for part in [
        "decided by: schedule office, except 1 (closed.ics: Closed): holiday\n",
        "schedule: office (office.yaml)\n",
        ">  1  Stopped  closed.ics (holiday), next: Wed 2020-01-01 00:00 Closed\n",
    ] {
        assert!(explain().contains(part), "{part}: {}", explain());
    }
    let described = output(&["describe", "a", "--server", &server]);
    assert!(String::from_utf8_lossy(&described.stdout).contains("office (office.yaml)"), "{described:?}");
    let exported = output(&["get", "a", "-o", "yaml", "--server", &server]);
    assert!(String::from_utf8_lossy(&exported.stdout).contains("scheduleRef: office"), "{exported:?}");

    // A Schedule that is gone keeps its meaning; after a restart it has none, and `state` does not replace it.
    std::fs::remove_file(manifests.file("office")).unwrap();
    both(&daemon, "InvalidManifest");
    drop(daemon);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    both(&daemon, "InvalidManifest");
    assert_eq!(simulator.calls().len(), 2, "nothing is started");
    let valid = output(&["validate", &manifests.path().to_string_lossy()]);
    let text = String::from_utf8_lossy(&valid.stdout).into_owned();
    assert!(!valid.status.success() && text.matches("there is no Schedule named office").count() == 2, "{text}");
    manifests.put("office", &OFFICE.replace("Stopped", "Running"));
    wait_until("both are started", || simulator.calls().len() == 4, || daemon.log());
}

/// A calendar may be reached through links within the tree only; a directory with Schedules alone is valid.
#[test]
fn a_calendar_never_leads_out_of_the_tree() {
    let manifests = Manifests::new(&[]);
    manifests.put("office", OFFICE);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x.ics"), closed("20200101")).unwrap();
    let link = manifests.path().join("closed.ics");
    std::os::unix::fs::symlink(outside.path().join("x.ics"), &link).unwrap();
    let validate = || {
        let valid = output(&["validate", &manifests.path().to_string_lossy()]);
        (valid.status.success(), String::from_utf8_lossy(&valid.stdout).into_owned())
    };
    let (valid, text) = validate();
    assert!(!valid && text.contains("leads out of the directory of manifests"), "{text}");
    assert!(text.contains("the calendar closed.ics cannot be read"), "{text}");
    std::fs::remove_file(&link).unwrap();
    std::fs::write(manifests.path().join("real.ics"), closed("20200101")).unwrap();
    std::os::unix::fs::symlink("real.ics", &link).unwrap();
    assert_eq!(validate(), (true, "0 apps in 2 files: 0 errors, 0 warnings\n".to_owned()));
    std::fs::write(manifests.path().join("real.ics"), vec![b'x'; 300 * 1024]).unwrap();
    assert!(validate().1.contains("larger than 256 KiB"));
}
