//! `--max-stops`: mass edits are held until a person approves or reverts them.

use std::fs;
use std::process::Output;

use campos_operator::manifest::example;
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::Config;
use serde_json::Value;

use crate::harness::{Daemon, Manifests, Simulator, binary, http, wait_until};

const APPS: usize = 12;

fn ids() -> Vec<String> {
    (0..APPS).map(|number| format!("60c72b2f9b1e8d001c8e{number:04}")).collect()
}

/// All apps run; the first `stopped` are declared Stopped.
fn fleet(stopped: usize) -> (Simulator, Manifests) {
    let ids = ids();
    let simulator = Simulator::start(Config::default(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let manifests = Manifests::new(&[]);
    declare(&manifests, stopped);
    (simulator, manifests)
}

/// Declares the first apps Stopped and the others Running, all in one file, so that it is one edit.
fn declare(manifests: &Manifests, stopped: usize) {
    let state = |number| if number < stopped { "Stopped" } else { "Running" };
    let one = |(number, id): (usize, &String)| example(&format!("bot-{number}"), id, state(number));
    manifests.put("fleet", &ids().iter().enumerate().map(one).collect::<Vec<_>>().join("---\n"));
}

fn approve(manifests: &Manifests, plan: &str, until: &str) {
    let head = "apiVersion: campos-operator.dev/v1\nkind: Approval\nmetadata: {name: go}\n";
    manifests.put("approval", &format!("{head}spec: {{plan: \"{plan}\", until: \"{until}\", by: ana}}\n"));
}

fn status(daemon: &Daemon) -> Value {
    serde_json::from_str(&http(daemon.address(), "GET", "/api/v1/status").1).unwrap()
}

/// The id of the plan, once calls are held.
fn held(daemon: &Daemon, stops: usize) -> String {
    let changes = || status(daemon)["maxChanges"].clone();
    wait_until("the stops are held", || changes()["heldStops"] == stops, || daemon.log());
    changes()["plan"].as_str().unwrap().to_owned()
}

fn plan(simulator: &Simulator, manifests: &Manifests, more: &[&str]) -> Output {
    let mut command = binary();
    command.args(["plan", "--api-url", &simulator.url(), "--manifests"]).arg(manifests.path()).args(more);
    command.output().unwrap()
}

#[test]
fn a_mass_edit_is_held_until_its_plan_is_approved() {
    let (simulator, manifests) = fleet(0);
    let daemon = Daemon::start(&simulator, &manifests, &["--max-stops", "25%"]);
    daemon.wait_for("apps are as declared");
    declare(&manifests, APPS);
    let id = held(&daemon, APPS);
    assert_eq!(simulator.calls(), [""; 0]);
    let words = format!(
        "held: {APPS} stops (plan {id}): more than --max-stops allows; revert the edits, or commit an Approval"
    );
    daemon.wait_for(&words);
    let app: Value = serde_json::from_str(&http(daemon.address(), "GET", "/api/v1/apps/bot-1").1).unwrap();
    let ready = &app["status"]["conditions"][0];
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"TooManyChanges".into()), "{app:#}");

    // `plan` prints the same id, and the approval that releases the calls.
    let output = plan(&simulator, &manifests, &["--max-stops", "25%", "--detailed-exitcode"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&words) && text.contains(&format!("plan: \"{id}\"")), "{text}");
    assert!(text.contains("0 to stop"), "{text}");

    // Approvals of another plan, or of the past, release nothing; neither does one that is not valid.
    approve(&manifests, "000000000000", "2099-01-01T00:00:00Z");
    approve(&manifests, &id, "2020-01-01T00:00:00Z");
    manifests
        .put("other", "apiVersion: campos-operator.dev/v1\nkind: Approval\nmetadata: {name: x}\nspec: {plan: 1}\n");
    wait_until("the manifests are read", || status(&daemon)["source"]["errors"] != 0, || daemon.log());
    assert_eq!(simulator.calls(), [""; 0]);
    fs::remove_file(manifests.file("other")).unwrap();
    approve(&manifests, &id, "2099-01-01T00:00:00Z");
    wait_until("all are stopped", || simulator.calls().len() == APPS, || daemon.log());
    daemon.wait_for("apps are as declared");
    assert_eq!(status(&daemon)["maxChanges"]["heldStops"], 0);
}

#[test]
fn a_revert_releases_the_rest_and_single_edits_go_through() {
    let (simulator, manifests) = fleet(0);
    let daemon = Daemon::start(&simulator, &manifests, &["--max-stops", "4"]);
    daemon.wait_for("apps are as declared");
    declare(&manifests, 3);
    wait_until("a few edits are called", || simulator.calls().len() == 3, || daemon.log());
    // Those that were sent count, so that a loop of small edits does not pass under the limit.
    declare(&manifests, 6);
    held(&daemon, 3);
    daemon.wait_for("held: 3 stops");
    daemon.wait_for("3 were sent in the last 10 min");
    assert_eq!(simulator.calls().len(), 3);
    declare(&manifests, 4);
    wait_until("the last one is called", || simulator.calls().len() == 4, || daemon.log());
}

#[test]
fn a_start_into_a_mass_edit_holds_it_and_once_says_so() {
    let (simulator, manifests) = fleet(APPS);
    let once = |more: &[&str]| {
        let mut command = binary();
        command.args(["run", "--once", "--listen", "off", "--api-url", &simulator.url(), "--manifests"]);
        command.arg(manifests.path()).args(["--max-stops", "25%", "--timeout", "25s"]).args(more).output().unwrap()
    };
    let output = once(&[]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let (_, rest) = log.split_once("held: 12 stops (plan ").unwrap();
    let id = rest.split(')').next().unwrap().to_owned();
    assert_eq!(simulator.calls(), [""; 0]);

    // An app crashed: the id is the same, and the approval releases the others.
    lock(&simulator.world).set_online(&ids()[0].parse().unwrap(), false, simulator.clock.wall());
    let output = plan(&simulator, &manifests, &["-o", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["planId"], id.as_str());
    approve(&manifests, &id, "2099-01-01T00:00:00Z");
    let output = once(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(simulator.calls().len(), APPS - 1);
}

#[test]
fn a_limit_is_a_number_or_a_percentage() {
    let (simulator, manifests) = fleet(0);
    for (text, good) in [("20", true), ("25%", true), ("101%", false), ("x", false), ("-1", false)] {
        let output = plan(&simulator, &manifests, &[&format!("--max-stops={text}")]);
        assert_eq!(output.status.success(), good, "{text}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.contains("expected a number of apps, such as 20"), !good, "{error}");
    }
}
