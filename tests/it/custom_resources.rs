//! `run --source kubernetes` against a fake Kubernetes API server.

use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::world::Config;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::harness::{A, B, Daemon, Simulator, binary, http, wait_until};

fn run(cluster: &Cluster, simulator: &Simulator, flags: &[&str]) -> Daemon {
    let mut command = binary();
    command.args(["run", "--source", "kubernetes", "--listen", "127.0.0.1:0", "--api-url", &simulator.url()]);
    command.args(flags).env("KUBECONFIG", cluster.config());
    Daemon::spawn(command)
}

fn app(name: &str, id: &str, spec: &Value) -> Value {
    let mut app = json!({
        "apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {"appId": id},
    });
    for (field, value) in spec.as_object().unwrap() {
        app["spec"][field] = value.clone();
    }
    app
}

fn stopped() -> Value {
    json!({"state": "Stopped"})
}

fn running() -> Value {
    json!({"state": "Running"})
}

fn shown(daemon: &Daemon, path: &str) -> Value {
    serde_json::from_str(&http(daemon.address(), "GET", path).1).unwrap()
}

fn reason(daemon: &Daemon, name: &str) -> Value {
    shown(daemon, &format!("/api/v1/apps/{name}"))["status"]["conditions"][0]["reason"].clone()
}

#[test]
fn apps_schedules_and_edits_are_followed() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let cluster = Cluster::start();
    cluster.put("apps", app("a", A, &stopped()));
    let daemon = run(&cluster, &simulator, &[]);
    wait_until("the first app is stopped", || !simulator.online(A), || daemon.log());
    let always = json!([{"state": "Stopped", "from": "2020-01-01T00:00:00"}]);
    cluster.put("apps", app("b", B, &json!({"state": "Running", "scheduleRef": "always"})));
    wait_until("the reference means nothing", || reason(&daemon, "b") == "InvalidManifest", || daemon.log());
    assert!(simulator.online(B));
    cluster.put(
        "schedules",
        json!({
            "apiVersion": "campos-operator.dev/v1", "kind": "Schedule", "metadata": {"name": "always"},
            "spec": {"timeZone": "UTC", "windows": always},
        }),
    );
    wait_until("the window stops the app", || !simulator.online(B), || daemon.log());
    // An invalid edit, which names its field, and the last good version in force.
    cluster.put("apps", app("a", A, &json!({"state": "Stopped", "suspend": "yes"})));
    wait_until("the edit is refused", || reason(&daemon, "a") == "InvalidManifest", || daemon.log());
    let text = shown(&daemon, "/api/v1/apps/a").to_string();
    assert!(text.contains("apps/a: spec.suspend: "), "{text}");
    // Connections break, and no change is lost.
    cluster.cut();
    cluster.put("apps", app("a", A, &running()));
    wait_until("the app is started", || simulator.online(A), || daemon.log());
    cluster.delete("apps", "a");
    let released = || http(daemon.address(), "GET", "/api/v1/apps/a").0 == 404;
    wait_until("the app is released", released, || daemon.log());
    assert!(simulator.online(A));
}

#[test]
fn lists_have_pages_and_an_empty_one_releases_nothing() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let cluster = Cluster::start();
    for number in 0..1_100 {
        cluster.put("apps", app(&format!("app-{number}"), &format!("id-{number}"), &running()));
    }
    cluster.put("apps", app("a", A, &stopped()));
    cluster.expire_a_page();
    let daemon = run(&cluster, &simulator, &[]);
    wait_until("the app is stopped", || !simulator.online(A), || daemon.log());
    assert_eq!(cluster.count("GET apps"), 5, "one page and one that expired, then three");
    let declared = |daemon: &Daemon| shown(daemon, "/api/v1/apps?limit=1")["metadata"]["remainingItemCount"].clone();
    wait_until("all are shown", || declared(&daemon) == 1_100, || daemon.log());
    cluster.lose_all("apps");
    daemon.wait_for("lists no App, and listed 1101 before");
    let available = || shown(&daemon, "/api/v1/status")["source"]["available"] == true;
    wait_until("the source counts as unavailable", || !available(), || daemon.log());
    assert_eq!(declared(&daemon), 1_100);
    // One that comes shows that the list was right.
    cluster.put("apps", app("b", B, &stopped()));
    wait_until("the new app is stopped", || !simulator.online(B), || daemon.log());
    let released = || http(daemon.address(), "GET", "/api/v1/apps/a").0 == 404;
    wait_until("the others are released", released, || daemon.log());
}

#[test]
fn a_refused_watch_keeps_the_last_specs_in_force() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let cluster = Cluster::start();
    cluster.put("apps", app("a", A, &running()));
    let daemon = run(&cluster, &simulator, &[]);
    let available = || shown(&daemon, "/api/v1/status")["source"]["available"] == true;
    wait_until("the objects are loaded", || available() && reason(&daemon, "a") == "Settled", || daemon.log());
    cluster.refuse_watches("apps", true);
    daemon.wait_for("could not watch apps: Forbidden (403)");
    wait_until("the source counts as unavailable", || !available(), || daemon.log());
    assert_eq!(http(daemon.address(), "GET", "/api/v1/apps/a").0, 200);
    cluster.put("apps", app("a", A, &stopped()));
    cluster.refuse_watches("apps", false);
    wait_until("the watch goes on where it was", || !simulator.online(A) && available(), || daemon.log());
}

fn ready(object: &Value) -> &Value {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|one| one["type"] == "Ready").unwrap()
}

#[test]
fn the_status_is_written_where_it_differs() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let cluster = Cluster::start();
    cluster.put("apps", app("a", A, &stopped()));
    let daemon = run(&cluster, &simulator, &["--interval", "1s"]);
    let stored = || cluster.get("apps", "a").unwrap();
    let is_ready = |generation: u64| {
        let object = stored();
        object["status"]["observedGeneration"] == generation
            && ready(&object)["status"] == "True"
            && object["status"]["lastAction"]["result"] == "Verified"
    };
    wait_until("the status says so", || is_ready(1), || daemon.log() + &stored().to_string());
    let object = stored();
    assert_eq!((&object["status"]["desired"], &object["status"]["observed"]), (&"Stopped".into(), &"Stopped".into()));
    assert!(!object["status"].to_string().contains("null"), "{object:#}");
    assert_eq!(object["status"].get("observedAt"), None);
    // Lists that show the same write nothing.
    let (writes, lists) = (cluster.count("PATCH apps/status"), simulator.count(Endpoint::List));
    wait_until("more lists are read", || simulator.count(Endpoint::List) >= lists + 3, || daemon.log());
    assert_eq!(cluster.count("PATCH apps/status"), writes);
    // An invalid edit is observed, too: tools that wait for a generation do not wait forever.
    cluster.put("apps", app("a", A, &json!({"state": "Stopped", "policy": "None"})));
    let refused = || stored()["status"]["observedGeneration"] == 2 && ready(&stored())["reason"] == "InvalidManifest";
    wait_until("the edit is refused", refused, || daemon.log() + &stored().to_string());
    // A generation with the same effect.
    cluster.put("apps", app("a", A, &stopped()));
    wait_until("the status says so again", || is_ready(3), || daemon.log() + &stored().to_string());
    let since = ready(&stored())["lastTransitionTime"].clone();
    // Another process goes on where this one ended.
    drop(daemon);
    let daemon = run(&cluster, &simulator, &[]);
    wait_until("it is settled", || reason(&daemon, "a") == "Settled", || daemon.log());
    cluster.put("apps", app("a", A, &json!({"state": "Stopped", "policy": "StopOnly"})));
    let seen = || stored()["status"]["observedGeneration"] == 4;
    wait_until("the next generation is observed", seen, || daemon.log() + &stored().to_string());
    assert_eq!(ready(&stored())["lastTransitionTime"], since);
}

#[test]
fn only_the_leader_writes_the_status() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let cluster = Cluster::start();
    cluster.put("apps", app("a", A, &running()));
    let mut first = run(&cluster, &simulator, &["--leader-elect"]);
    let stored = || cluster.get("apps", "a").unwrap();
    let written = || stored()["status"]["observedGeneration"] == 1;
    wait_until("the leader writes", written, || first.log());
    let second = run(&cluster, &simulator, &["--leader-elect"]);
    wait_until("the standby knows the app", || reason(&second, "a") == "Standby", || second.log());
    cluster.put("apps", app("a", A, &stopped()));
    let settled = || stored()["status"]["observed"] == "Stopped";
    wait_until("the leader writes again", settled, || first.log());
    // The next leader goes on where the last one ended.
    let before = cluster.statuses("apps").len();
    first.signal("-TERM");
    assert!(first.ends().success(), "{}", first.log());
    wait_until("the standby leads", || reason(&second, "a") == "Settled", || second.log());
    cluster.put("apps", app("a", A, &running()));
    let settled = || stored()["status"]["observed"] == "Running";
    wait_until("the next leader writes", settled, || second.log());
    let statuses = cluster.statuses("apps");
    for status in &statuses[before..] {
        let status = status.to_string();
        assert!(!status.contains("Standby") && !status.contains("NotObserved"), "{status}");
    }
}

#[test]
fn a_status_that_another_process_wrote_is_written_again() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let cluster = Cluster::start();
    cluster.put("apps", app("a", A, &running()));
    let daemon = run(&cluster, &simulator, &[]);
    let observed = || cluster.get("apps", "a").unwrap()["status"]["observed"].clone();
    wait_until("the status is written", || observed() == "Running", || daemon.log());
    // As a leader writes it whose request arrives late, or a tool that clears it.
    for status in [json!({"observed": "Unknown", "conditions": []}), json!({})] {
        cluster.put_status("apps", "a", status);
        wait_until("the status is written again", || observed() == "Running", || daemon.log());
    }
}

#[test]
fn two_sources_are_refused() {
    let output = binary().args(["run", "--source", "kubernetes", "--manifests", "elsewhere"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("two sources"), "{error}");
    let mut command = binary();
    command.args(["run", "--source", "kubernetes", "--listen", "off"]).env("CAMPOS_OPERATOR_MANIFESTS", "/manifests");
    let output = command.env("KUBECONFIG", "/nonexistent").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("could not set up the client of the Kubernetes API"), "{error}");
}

#[test]
fn names_that_are_no_names_are_refused() {
    for flag in ["--namespace", "--lease-name"] {
        for name in ["", "../x", "A"] {
            let output = binary().args(["run", "--leader-elect", flag, name]).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && error.contains(flag), "{flag} {name:?}: {error}");
        }
    }
}

#[test]
fn a_plan_reads_the_custom_resources_and_writes_nothing() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let cluster = Cluster::start();
    cluster.put("apps", app("a", A, &stopped()));
    cluster.put("apps", app("b", B, &json!({"state": "Sleeping"})));
    let mut plan = binary();
    plan.args(["plan", "--source", "kubernetes", "-o", "json", "--api-url", &simulator.url()]);
    let output = plan.env("KUBECONFIG", cluster.config()).output().unwrap();
    let (page, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let page: Value = serde_json::from_str(&page).unwrap_or_else(|_| panic!("{page}{error}"));
    assert_eq!((&page["actions"][0]["name"], &page["summary"]["stop"]), (&json!("a"), &json!(1)), "{page}");
    assert!(error.contains("apps/b") && error.contains("spec.state: "), "{error}");
    assert_eq!((cluster.count("PATCH apps"), simulator.online(A)), (0, true));
    let output = plan.env("KUBECONFIG", "/nonexistent").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("client of the Kubernetes API"), "{error}");
}

#[test]
fn calls_and_stalls_are_events_and_repetitions_a_series() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let cluster = Cluster::start();
    cluster.put("apps", app("a", A, &stopped()));
    cluster.put("apps", app("gone", "640000000000000000000001", &running()));
    let daemon = run(&cluster, &simulator, &["--interval", "1s"]);
    let events = |name: &str| {
        let all = cluster.all("events").into_iter().filter(|event| event["regarding"]["name"] == name);
        let mut reasons: Vec<String> = all
            .map(|event| {
                assert_eq!(event["regarding"]["uid"], format!("uid-{name}"), "{event}");
                format!(
                    "{} {} {}",
                    event["type"].as_str().unwrap(),
                    event["reason"].as_str().unwrap(),
                    event["series"]["count"]
                )
            })
            .collect();
        reasons.sort();
        reasons
    };
    wait_until(
        "the stop is an Event",
        || events("a") == ["Normal StopAccepted null", "Normal Stopped null"],
        || daemon.log(),
    );
    wait_until("so is the stall", || events("gone") == ["Warning AppNotFound null"], || daemon.log());
    // The same again within six minutes is a series.
    cluster.put("apps", app("a", A, &running()));
    wait_until("the app is started", || events("a").contains(&"Normal Started null".into()), || daemon.log());
    cluster.put("apps", app("a", A, &stopped()));
    wait_until("the second stop", || events("a").contains(&"Normal Stopped 2".into()), || daemon.log());
    assert_eq!(events("a").iter().filter(|event| event.contains("StopAccepted")).count(), 1);
}
