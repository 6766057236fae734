//! The operator as seen from outside: the API, the events, the history, the metrics, its liveness.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use campos_operator::clock::Clock;
use campos_operator::http::routes;
use campos_operator::operator::{Operator, Settings, shutdown};
use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Rule};
use campos_operator::simulator::port::{InProcess, SharedWorld, lock};
use campos_operator::simulator::world::{Config, World};
use campos_operator::source::{SourceReport, Update};
use campos_operator::status::Board;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{A, B, DEADLINE, Daemon, Manifests, Simulator, assert_no_secrets, http, manifest, wait_until};

const SETTLED: &str = "apps are as declared";
const OPENAPI: &str = include_str!("../../src/http/openapi.json");

/// A response with its headers.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One request, with further header lines; `Host` among them replaces the proper one.
fn ask(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut stream = connect(address, method, path, headers, "close");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let body = bytes[end + 4..].to_vec();
    assert_no_secrets(&head);
    assert_no_secrets(&String::from_utf8_lossy(&body));
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
}

fn connect(address: SocketAddr, method: &str, path: &str, headers: &[&str], connection: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let host = format!("Host: {address}");
    let given = headers.iter().any(|line| line.to_lowercase().starts_with("host:"));
    let lines: String = headers
        .iter()
        .copied()
        .chain((!given).then_some(host.as_str()))
        .fold(format!("{method} {path} HTTP/1.1\r\nConnection: {connection}\r\n"), |text, line| {
            format!("{text}{line}\r\n")
        });
    write!(stream, "{lines}\r\n").unwrap();
    stream
}

fn labelled(name: &str, id: &str, state: &str, labels: &str) -> String {
    manifest(name, id, state).replace("spec:", &format!("  labels: {labels}\nspec:"))
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn the_list_is_filtered_paged_tagged_and_compressed() {
    let ids: Vec<String> = (0..6).map(|n| format!("id-{n}")).collect();
    let simulator = Simulator::start(Config::default(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let manifests = Manifests::new(&[]);
    for (n, id) in ids.iter().enumerate() {
        let labels = if n < 2 { "{team: support, tier: free}" } else { "{team: games}" };
        manifests.put(&format!("bot-{n}"), &labelled(&format!("bot-{n}"), id, "Running", labels));
    }
    manifests.put("lost", &manifest("lost", "nobody", "Running"));
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("AppNotFound");
    daemon.wait_for("nothing is left to do");
    let address = daemon.address();
    let get = |query: &str| ask(address, "GET", &format!("/api/v1/apps{query}"), &[]);
    for (query, expected) in [
        ("?label=team=support", vec!["bot-0", "bot-1"]),
        ("?label=team=support&label=tier=paid", vec![]),
        ("?labelSelector=team=games&limit=2", vec!["bot-2", "bot-3"]),
        ("?labelSelector=team!=games,tier", vec!["bot-0", "bot-1"]),
        ("?labelSelector=!team", vec!["lost"]),
        ("?reason=AppNotFound", vec!["lost"]),
        ("?reason=AppNotFound&reason=Settled&limit=1", vec!["bot-0"]),
    ] {
        assert_eq!(names(&get(query).json()), expected, "{query}");
    }
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("?limit=3&continue={next}")).json();
        seen.extend(names(&page).into_iter().map(ToOwned::to_owned));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        next = token.to_owned();
    }
    assert_eq!(seen, names(&get("").json()));
    assert_eq!(seen.len(), 7);
    let nonsense = ask(address, "GET", "/api/v1/apps/%ff", &[]);
    assert_eq!((nonsense.status, nonsense.json()["error"].is_string()), (404, true));
    for wrong in ["?lable=a=b", "?limit=x", "?reason=nope", "?continue=No", "?label=a", "?label=%zz%ff"] {
        let answer = get(wrong);
        assert_eq!((answer.status, answer.json()["error"].is_string()), (400, true), "{wrong}");
    }
    for path in ["/api/v1/apps", "/api/v1/apps?limit=1", "/api/v1/apps/bot-0", "/api/v1/history"] {
        let tag = ask(address, "GET", path, &[]).header("etag").unwrap().to_owned();
        let again = ask(address, "GET", path, &[&format!("If-None-Match: \"other\", {tag}")]);
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())), "{path}");
        assert_eq!(ask(address, "GET", path, &["If-None-Match: \"other\""]).status, 200);
    }
    // Long enough to be compressed.
    for (n, id) in ids.iter().enumerate() {
        let note = format!("  annotations: {{note: {}}}\nspec:", "x".repeat(8_000));
        let name = format!("bot-{n}");
        manifests.put(&name, &manifest(&name, id, "Running").replace("spec:", &note));
    }
    wait_until("the edits are seen", || get("").body.len() > 48_000, || daemon.log());
    let zipped = ask(address, "GET", "/api/v1/apps", &["Accept-Encoding: gzip"]);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.header("etag").is_some() && zipped.body.len() < get("").body.len());
}

#[test]
fn the_port_answers_only_reads_under_its_own_name() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    let address = daemon.address();
    let paths = ["/api/v1/apps", "/api/v1/events", "/metrics", "/openapi.json", "/livez", "/", "/nowhere"];
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        for path in paths {
            let answer = ask(address, method, path, &[]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
    }
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("localhost@evil.example", 403),
        ("10.0.0.1", 403),
        ("", 403),
    ] {
        assert_eq!(ask(address, "GET", "/livez", &[&format!("Host: {host}")]).status, status, "{host:?}");
    }
    // An absolute address in the request line replaces the `Host` header.
    assert_eq!(ask(address, "GET", "http://evil.example/livez", &[]).status, 403);
    assert_eq!(ask(address, "HEAD", "/api/v1/apps", &[]).body.len(), 0);
}

#[test]
fn every_response_matches_the_openapi_file() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("bot", A, "Stopped"), ("gone", "nobody", "Running")]);
    manifests.put("bad", "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {name: bad}\nspec: {state: Off}\n");
    let suspended = manifest("quiet", B, "Stopped") + "  suspend: {reason: x, until: \"2099-01-01T00:00:00Z\"}\n";
    manifests.put("quiet", &suspended);
    let windows = "[{state: Stopped, from: \"Fri 21:00\", to: \"Mon 06:00\", reason: weekend}, \
        {state: Stopped, cron: \"0 12 * * 1-5\", duration: 1h}]";
    let scheduled = format!("  schedule: {{timeZone: America/Sao_Paulo, windows: {windows}}}\n");
    manifests.put("timed", &(manifest("timed", "timed-app", "Running") + &scheduled));
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("nothing is left to do");
    let address = daemon.address();
    let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
    assert_eq!(ask(address, "GET", "/openapi.json", &[]).json(), openapi);
    for (path, schema) in [
        ("/api/v1/apps", "AppList"),
        ("/api/v1/apps?limit=1", "AppList"),
        ("/api/v1/apps/bot", "App"),
        ("/api/v1/apps/bad", "App"),
        ("/api/v1/apps/quiet", "App"),
        ("/api/v1/apps/timed", "App"),
        ("/api/v1/apps/nobody", "Error"),
        ("/api/v1/apps?limit=x", "Error"),
        ("/api/v1/status", "DaemonStatus"),
        ("/api/v1/history", "HistoryList"),
        ("/api/v1/forecast", "Forecast"),
        ("/api/v1/apps?group=NeedsPerson", "AppList"),
        ("/api/v1/apps?group=x", "Error"),
        ("/api/v1/apps/timed/schedule", "AppSchedule"),
        ("/api/v1/apps/quiet/schedule", "AppSchedule"),
        ("/api/v1/apps/nobody/schedule", "Error"),
        ("/api/v1/activity", "ActivityList"),
        ("/api/v1/activity?limit=1&app=bot", "ActivityList"),
        ("/api/v1/transitions", "TransitionList"),
        ("/api/v1/transitions?since=1", "Error"),
        ("/api/v1/trend", "Trend"),
    ] {
        let schema = json!({
            "$ref": format!("#/components/schemas/{schema}"),
            "components": openapi["components"],
        });
        let answer = ask(address, "GET", path, &[]).json();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{path}: {errors:#?}\n{answer:#}");
    }
    for path in openapi["paths"].as_object().unwrap().keys() {
        let path = path.replace("{name}", "bot");
        if path != "/api/v1/events" {
            assert_eq!(ask(address, "GET", &path, &[]).status, 200, "{path}");
        }
    }
}

/// A reader of `/api/v1/events`.
struct Events(BufReader<TcpStream>);

#[derive(Debug)]
struct Event {
    kind: String,
    id: u64,
    data: Value,
}

impl Events {
    fn open(address: SocketAddr, last: Option<u64>) -> Self {
        let last = last.map(|id| format!("Last-Event-ID: {id}"));
        let headers: Vec<&str> = last.iter().map(String::as_str).collect();
        Self(BufReader::new(connect(address, "GET", "/api/v1/events", &headers, "keep-alive")))
    }

    /// The next event; fails at the socket's deadline.
    fn next(&mut self) -> Event {
        let (mut kind, mut id, mut data) = (None, None, None::<Value>);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            assert_no_secrets(&line);
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("event: ") {
                kind = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("id: ") {
                id = Some(value.parse().unwrap());
            } else if let Some(value) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str(value).unwrap());
            }
            if let (Some(kind), Some(id), Some(data)) = (&kind, id, &data) {
                return Event { kind: kind.clone(), id, data: data.clone() };
            }
        }
    }

    fn until(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if wanted(&event) {
                return event;
            }
        }
    }
}

#[test]
fn changes_are_sent_at_once_and_missed_ones_after_a_reconnect() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("bot", A, "Running"), ("other", B, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    let address = daemon.address();
    let mut events = Events::open(address, None);
    let first = events.next();
    assert_eq!((first.kind.as_str(), &first.data), ("reset", &json!({})));
    manifests.set("bot", A, "Stopped");
    let mut last = first.id;
    let (mut history, mut daemon_seen) = (false, false);
    let stopped = events.until(|event| {
        assert!(event.id > last, "ids grow");
        last = event.id;
        history |= event.kind == "history" && event.data["answer"]["result"] == "Accepted";
        daemon_seen |= event.kind == "daemon" && event.data["kind"] == "DaemonStatus";
        event.kind == "app"
            && event.data["status"]["lastAction"]["result"] == "Verified"
            && event.data["status"]["conditions"][0]["status"] == "True"
    });
    assert!(history && daemon_seen);
    assert_eq!(stopped.data["metadata"]["name"], "bot");
    drop(events);
    fs::remove_file(manifests.file("other")).unwrap();
    daemon.wait_for("app released");
    let newest = || -> Value {
        let past: Value = serde_json::from_str(&http(address, "GET", "/api/v1/history?app=other").1).unwrap();
        past["items"][0].clone()
    };
    let released = || newest()["trigger"] == "Edit" && newest()["after"]["reason"].is_null();
    wait_until("the history has the release", released, || newest().to_string());
    let mut resumed = Events::open(address, Some(stopped.id));
    let removed = resumed.until(|event| {
        assert_ne!(event.kind, "reset");
        event.kind == "removed"
    });
    assert_eq!(removed.data, json!({"name": "other"}));
    // An id of another process, or a future one.
    for foreign in [1, u64::MAX] {
        assert_eq!(Events::open(address, Some(foreign)).next().kind, "reset");
    }
}

#[test]
fn the_history_survives_a_crash_and_has_the_causes() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let state = tempfile::tempdir().unwrap();
    let flags = ["--state-dir", state.path().to_str().unwrap()];
    let mut daemon = Daemon::start(&simulator, &manifests, &flags);
    daemon.wait_for(SETTLED);
    manifests.set("bot", A, "Stopped");
    daemon.wait_for("app stopped");
    let history = |daemon: &Daemon, query: &str| {
        let (_, body) = http(daemon.address(), "GET", &format!("/api/v1/history{query}"));
        let list: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(list["kind"], "HistoryList");
        list["items"].as_array().unwrap().clone()
    };
    let mut entries = Vec::new();
    let done = |entries: &mut Vec<Value>| {
        *entries = history(&daemon, "?app=bot");
        entries.first().is_some_and(|newest| newest["after"]["observed"] == "Stopped")
    };
    wait_until("the stop is in the history", || done(&mut entries), || daemon.log());
    let story = story(&entries);
    // The list may arrive before or after the manifests.
    assert!(story[0].starts_with("Start ") && story[0].ends_with(">Settled - -"), "{story:?}");
    assert_eq!(
        story[1..],
        [
            "Edit Settled>Drifted - -",
            "Edit Drifted>Stopping - -",
            "Answer Stopping>Stopping stop Accepted",
            "Observation Stopping>Settled - -",
        ]
    );
    assert_eq!(history(&daemon, "?app=nobody"), Vec::<Value>::new());
    assert_eq!(history(&daemon, "?limit=2").len(), 2);
    let file = state.path().join("history.jsonl");
    let lines = || fs::read_to_string(&file).unwrap().lines().count();
    wait_until("the file has it all", || lines() == entries.len(), || fs::read_to_string(&file).unwrap());
    daemon.signal("-KILL");
    daemon.ends();
    // As if the crash had torn the last line.
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 7]).unwrap();
    let daemon = Daemon::start(&simulator, &manifests, &flags);
    daemon.wait_for("skipped incomplete lines");
    daemon.wait_for(SETTLED);
    let again = history(&daemon, "?app=bot");
    // Only the torn line is lost, and the first decision of the new process follows.
    assert_eq!(again[again.len() + 1 - entries.len()..], entries[1..]);
    assert_eq!(again[0]["trigger"], "Start");
    assert_no_secrets(&fs::read_to_string(&file).unwrap());
}

/// Each entry as one line, oldest first: trigger, reasons, action, result.
fn story(entries: &[Value]) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |entry: &Value| {
        let (before, after) = (word(&entry["before"]["reason"]), word(&entry["after"]["reason"]));
        let answer = word(&entry["answer"]["result"]);
        format!("{} {before}>{after} {} {answer}", word(&entry["trigger"]), word(&entry["action"]))
    };
    entries.iter().rev().map(line).collect()
}

#[test]
fn the_history_has_changes_by_schedules_and_other_clients() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let until = simulator.clock.wall() + Duration::from_secs(3);
    let suspended = format!("{}  suspend: {{until: \"{until:.3}\"}}\n", manifest("bot", A, "Stopped"));
    let manifests = Manifests::new(&[]);
    manifests.put("bot", &suspended);
    let daemon = Daemon::start(&simulator, &manifests, &["--interval", "1s"]);
    daemon.wait_for("app stopped");
    lock(&simulator.world).set_online(&A.parse().unwrap(), true, simulator.clock.wall());
    daemon.wait_for_times("app stopped", 2);
    let entries = || {
        let list: Value = serde_json::from_str(&http(daemon.address(), "GET", "/api/v1/history").1).unwrap();
        story(list["items"].as_array().unwrap())
    };
    for line in ["Transition Suspended>Drifted - -", "Drift Settled>Drifted - -"] {
        wait_until(line, || entries().iter().any(|entry| entry == line), || format!("{:#?}", entries()));
    }
}

#[test]
fn a_call_that_ends_after_the_signal_is_in_the_history() {
    let slow = Fault { delay: Some(Duration::from_secs(1)), ..Fault::default() };
    let faults = Faults::always(Endpoint::Stop, slow);
    let simulator = Simulator::start(Config { faults, ..Config::default() }, &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let state = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(&simulator, &manifests, &["--state-dir", state.path().to_str().unwrap()]);
    wait_until("the stop is on the wire", || simulator.calls().len() == 1, || daemon.log());
    daemon.signal("-TERM");
    assert_eq!(daemon.ends().code(), Some(0));
    let text = fs::read_to_string(state.path().join("history.jsonl")).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["action"], &last["answer"]["result"]), (&json!("stop"), &json!("Accepted")), "{text}");
}

#[test]
fn an_unwritable_history_stops_nothing() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let state = tempfile::tempdir().unwrap();
    // A file in place of the directory: even root cannot write there.
    let blocked = state.path().join("state");
    fs::write(&blocked, "").unwrap();
    let mut daemon = Daemon::start(&simulator, &manifests, &["--state-dir", blocked.to_str().unwrap()]);
    daemon.wait_for("app stopped");
    let address = daemon.address();
    let scrape = || http(address, "GET", "/metrics").1;
    wait_until("the metric is 0", || scrape().contains("\ncampos_operator_history_writable 0"), scrape);
    let lost = || serde_json::from_str::<Value>(&http(address, "GET", "/api/v1/status").1).unwrap()["history"].clone();
    wait_until("the loss is counted", || lost()["lost"].as_u64() > Some(0), || lost().to_string());
    assert_eq!(lost()["writable"], false);
    assert_eq!(daemon.log().matches("could not write the history").count(), 1, "{}", daemon.log());
    assert!(!http(address, "GET", "/api/v1/history").1.contains("\"items\":[]"), "it is kept in memory");
    daemon.signal("-TERM");
    daemon.ends();
    assert!(!daemon.log().contains("written again"), "it was not: {}", daemon.log());
}

/// In a fleet of thousands, memory drops the entries of an app within one bulk; the file keeps them.
#[tokio::test]
async fn old_history_of_an_app_is_read_from_the_file() {
    let state = tempfile::tempdir().unwrap();
    let line = |n: usize| {
        let side = json!({"desired": null, "observed": null, "reason": null});
        let time = Timestamp::UNIX_EPOCH + Duration::from_secs(n as u64 / 7);
        json!({"time": time, "app": format!("bot-{}", n % 600), "appId": null, "trigger": "Start", "revision": "r",
            "before": side, "after": side, "action": null, "answer": null})
        .to_string()
            + "\n"
    };
    let lines = |range: std::ops::Range<usize>| range.map(line).collect::<String>();
    fs::write(state.path().join("history.jsonl.1"), lines(0..2_000)).unwrap();
    fs::write(state.path().join("history.jsonl"), lines(2_000..9_000)).unwrap();
    let board = Board::default();
    board.keep_history(state.path().to_owned()).unwrap();
    let router = routes(board, Clock::system(), true);
    let entries = async |query: &str| {
        let request =
            Request::get(format!("/api/v1/history{query}")).header("host", "localhost").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let list: Value = serde_json::from_slice(&bytes).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["time"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = |app: usize, most: usize| {
        let times = (0..9_000).filter(|n| n % 600 == app).rev().take(most);
        times.map(|n| (Timestamp::UNIX_EPOCH + Duration::from_secs(n as u64 / 7)).to_string()).collect::<Vec<_>>()
    };
    assert_eq!(entries("").await.len(), 1_000);
    for app in [0, 199, 200, 201, 599] {
        assert_eq!(entries(&format!("?app=bot-{app}")).await, expected(app, 1_000));
        assert_eq!(entries(&format!("?app=bot-{app}&limit=4")).await, expected(app, 4));
    }
    assert_eq!(entries("?app=bot-600").await, Vec::<String>::new());
    assert_eq!(entries("?app=No%22Name").await, Vec::<String>::new());
}

/// 1,100 idle connections once left the operator no file descriptor to read its manifests with.
#[test]
fn open_connections_leave_the_operator_its_files() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    let address = daemon.address();
    let held: Vec<TcpStream> = (0..340).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait_until("they are let in", || daemon.descriptors() > 250, || daemon.descriptors().to_string());
    manifests.set("bot", A, "Stopped");
    daemon.wait_for("app stopped");
    assert!(daemon.descriptors() < 300, "{}", daemon.descriptors());
    drop(held);
    assert_eq!(http(address, "GET", "/livez").0, 200);
}

/// Thirty calls in flight are refused together: one cause, one line.
#[test]
fn a_pause_is_logged_once_and_not_per_app() {
    let limited = Fault {
        status: Some(429),
        headers: BTreeMap::from([("retry-after".into(), "600".into())]),
        ..Fault::default()
    };
    let rule = Rule::new(Endpoint::Stop, Fault { delay: Some(Duration::from_millis(300)), ..limited });
    let faults = Faults { rules: vec![rule], revive: Vec::new() };
    let ids: Vec<String> = (0..20).map(|n| format!("id-{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let simulator = Simulator::start(Config { faults, ..Config::default() }, &ids);
    let manifests = Manifests::new(&[]);
    for id in &ids {
        manifests.set(&format!("bot-{id}"), id, "Stopped");
    }
    let daemon = Daemon::start(&simulator, &manifests, &["--api-budget", "unlimited"]);
    daemon.wait_for_times("stop failed", 5);
    assert_eq!(daemon.log().matches("all requests pause").count(), 1, "{}", daemon.log());
}

/// Status shows a list of several pages while it is being read, and each message holds until the next one.
#[test]
fn messages_name_the_time_of_the_next_step() {
    let rule = Rule {
        app: Some(A.parse().unwrap()),
        ..Rule::new(Endpoint::Stop, Fault { status: Some(503), ..Fault::default() })
    };
    let faults = Faults { rules: vec![rule], revive: Vec::new() };
    let config = Config { faults, page_size: 1, largest_page: 1, ..Config::default() };
    let simulator = Simulator::start(config, &[A, B, "c", "d"]);
    let manifests = Manifests::new(&[("bot", A, "Stopped"), ("quiet", "c", "Running"), ("still", "d", "Running")]);
    // Outside of all windows it would be running.
    manifests.put(
        "night.yaml",
        &(manifest("night", B, "Stopped")
            + "  policy: StopOnly\n  schedule:\n    timeZone: UTC\n    windows:\n      \
               - {state: Running, from: \"2020-01-01T00:00:00\"}\n"),
    );
    lock(&simulator.world).set_online(&B.parse().unwrap(), false, simulator.clock.wall());
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    let app = |name: &str| -> Value {
        serde_json::from_str(&http(daemon.address(), "GET", &format!("/api/v1/apps/{name}")).1).unwrap()
    };
    let reason = |name: &str| app(name)["status"]["conditions"][0]["reason"].clone();
    wait_until("the call fails", || reason("bot") == "BackingOff", || daemon.log());
    wait_until("the policy holds", || reason("night") == "PolicyForbids", || daemon.log());
    wait_until("the others settle", || reason("quiet") == "Settled" && reason("still") == "Settled", || daemon.log());
    for name in ["bot", "night", "quiet", "still"] {
        assert!(app(name)["status"]["nextLookAt"].is_string(), "{}", app(name));
    }
    let message = |name: &str| app(name)["status"]["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert!(message("bot").contains("retrying at 20"), "{}", message("bot"));
    assert_eq!(message("night"), "the app is Stopped, declared Running, but the policy forbids the start");
}

/// The names of design section 8.
const METRICS: [&str; 23] = [
    "app_info",
    "app_condition",
    "actions_total",
    "reconcile_total",
    "reconcile_duration_seconds_count",
    "drift_total",
    "api_requests_total",
    "api_request_duration_seconds_count",
    "api_budget_requests_per_minute",
    "api_ratelimit_remaining",
    "api_wait_seconds_count",
    "breaker_open",
    "manifests",
    "manifest_errors",
    "source_up",
    "last_scan_timestamp_seconds",
    "last_observation_timestamp_seconds",
    "edit_to_action_seconds_count",
    "held_calls",
    "undeclared_apps",
    "workqueue_depth",
    "build_info",
    "apps",
];

/// Every name of a series in a scrape.
fn series(scrape: &str) -> BTreeSet<&str> {
    let lines = scrape.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split(['{', ' ']).next().unwrap()).collect()
}

/// The scrape of a daemon with a value for every metric.
fn scraped() -> String {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("bot", A, "Running"), ("gone", B, "Running")]);
    manifests.put("quiet", &(manifest("quiet", "c", "Stopped") + "  suspend: true\n"));
    let state = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&simulator, &manifests, &["--state-dir", state.path().to_str().unwrap()]);
    daemon.wait_for("apps listed");
    let address = daemon.address();
    let answer = ask(address, "GET", "/metrics", &[]);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let open = ask(address, "GET", "/metrics", &["Accept: text/plain;q=0.5", "Accept: application/openmetrics-text"]);
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.body.ends_with(b"# EOF\n"));
    let scrape = || http(address, "GET", "/metrics").1;
    wait_until("all apps are seen", || scrape().contains("app=\"gone\",app_id"), scrape);
    manifests.set("bot", A, "Stopped");
    fs::remove_file(manifests.file("gone")).unwrap();
    daemon.wait_for("app stopped");
    daemon.wait_for("app released");
    wait_until("the series of a removed app are gone", || !scrape().contains("app=\"gone\""), scrape);
    let acted = || scrape().contains("campos_operator_edit_to_action_seconds_count 1");
    wait_until("the edit was timed", acted, scrape);
    scrape()
}

#[test]
fn every_metric_exists_and_alerts_and_panels_name_no_other() {
    let scrape = scraped();
    let series = series(&scrape);
    for name in METRICS {
        assert!(series.contains(format!("campos_operator_{name}").as_str()), "{name} is not in\n{scrape}");
    }
    assert!(scrape.contains("campos_operator_actions_total{action=\"stop\",result=\"Accepted\"} 1\n"), "{scrape}");
    assert!(series.iter().all(|name| name.starts_with("campos_operator_")));
    for name in &series {
        // A family has its help; the suffix of a histogram's sample is not part of its name.
        let family =
            ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        assert!(scrape.contains(&format!("# HELP {family} ")), "{name} has no help");
    }
    let page = include_str!("../../docs/operations.md");
    for file in ["deploy/monitoring/alerts.yaml", "deploy/monitoring/dashboard.json"] {
        let text = fs::read_to_string(file).unwrap();
        let mut named = 0;
        for (at, _) in text.match_indices("campos_operator_") {
            let name: String = text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            // Only with leader election, which the tests of replicas have.
            assert!(
                series.contains(name.as_str()) || name == "campos_operator_leader",
                "{file} names {name}, which is in no scrape"
            );
            named += 1;
        }
        assert!(named > 5, "{file}");
    }
    for name in METRICS {
        let name = name.trim_end_matches("_count");
        assert!(page.contains(&format!("`{name}`")), "docs/operations.md does not explain {name}");
    }
}

/// The test blocks the loop in a wake-up while virtual time passes.
#[tokio::test(start_paused = true)]
async fn a_stalled_loop_is_not_alive() {
    let clock = Clock::simulated("2026-11-24T12:00:00Z".parse().unwrap());
    let world = SharedWorld::new(World::new(Config::default(), clock.wall()).into());
    let token = lock(&world).config().token.clone();
    let board = Board::default();
    let settings = Settings { interval: Duration::from_secs(60), ..Settings::default() };
    let platform = InProcess::new(world, clock, token);
    let operator = Operator::new(platform.into(), settings, clock, board.clone());
    let (updates, inbox) = tokio::sync::mpsc::unbounded_channel();
    let (_stopper, signals) = shutdown::pair();
    let source = SourceReport { available: true, loaded: true, revision: "r".into(), ..SourceReport::default() };
    updates.send(Update { changed: Vec::new(), removed: Vec::new(), texts: Vec::new(), source }).unwrap();
    let router = routes(board, clock, true);
    let get = async |path: &str| {
        let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
    };
    let running = operator.run(inbox, signals);
    tokio::pin!(running);
    assert!(tokio::time::timeout(Duration::from_secs(3600), &mut running).await.is_err(), "it runs");
    assert_eq!(get("/livez").await, (200, "ok\n".into()));
    assert_eq!(get("/readyz").await.0, 200);
    tokio::time::advance(Duration::from_secs(170)).await;
    assert_eq!(get("/livez").await.0, 200, "three intervals are not over");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(get("/livez").await, (503, "[-]loop failed\ncheck failed\n".into()));
    assert_eq!(get("/healthz").await.0, 503);
    assert_eq!(get("/readyz").await.0, 200, "readiness is another question");
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut running).await.is_err());
    assert_eq!(get("/livez?verbose").await, (200, "[+]loop ok\ncheck passed\n".into()));
}
