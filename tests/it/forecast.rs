//! `forecast`: offline, and with the memory of the apps.

use campos_operator::simulator::world::Config;
use serde_json::Value;

use crate::harness::{A, B, Manifests, Simulator, binary};

const NIGHT: &str =
    "  schedule:\n    timeZone: UTC\n    windows:\n      - {state: Stopped, from: \"22:00\", to: \"06:00\"}\n";

fn manifests() -> Manifests {
    let manifests = Manifests::new(&[("always", B, "Running")]);
    manifests.put("bot", &(campos_operator::manifest::example("bot", A, "Running") + NIGHT));
    manifests
}

fn forecast(manifests: &Manifests, more: &[&str], token: bool) -> String {
    let mut command = binary();
    command.args(["forecast", "--manifests"]).arg(manifests.path()).args(more);
    if !token {
        command.env_remove("CAMPOSCLOUD_TOKEN");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_forecast_needs_no_network() {
    let manifests = manifests();
    let text = forecast(&manifests, &["--days", "2"], false);
    assert_eq!((text.matches(" 22:00      1").count(), text.matches(" 06:00      0").count()), (2, 2), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let value: Value = serde_json::from_str(&forecast(&manifests, &["--days", "2", "-o", "json"], false)).unwrap();
    assert_eq!((&value["kind"], value["hours"].as_array().unwrap().len()), (&"Forecast".into(), 4));
    assert_eq!(value["saved"]["appsOfUnknownMemory"], 1);
    let ics = forecast(&manifests, &["--days", "2", "-o", "ics"], false);
    assert_eq!(
        (ics.matches("BEGIN:VEVENT").count(), ics.matches("SUMMARY:stop 1 app (window 1").count()),
        (4, 2),
        "{ics}"
    );
}

#[test]
fn with_a_token_the_memory_counts() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let url = simulator.url();
    let arguments = ["--days", "7", "-o", "json", "--api-url", &url];
    let value: Value = serde_json::from_str(&forecast(&manifests(), &arguments, true)).unwrap();
    let saved = &value["saved"];
    let (hours, mb_hours) = (saved["hours"].as_f64().unwrap(), saved["mbHours"].as_f64().unwrap());
    assert!(hours > 50.0 && (mb_hours - hours * 256.0).abs() < 1e-6, "{saved}");
    assert_eq!((simulator.calls(), saved["appsOfUnknownMemory"].as_u64()), (vec![], Some(0)));
}
