//! The built binary as a daemon against the simulated CamposCloud behind real HTTP.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use campos_operator::simulator::faults::{Body, Endpoint, Fault, Faults, Pages, Reset, Rule};
use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::{Config, ListShape, StoppedShape};

use crate::harness::{A, B, Daemon, Manifests, Simulator, TOKEN, http, manifest, wait_until};

const SETTLED: &str = "apps are as declared";

fn stop(id: &str) -> String {
    format!("stop {id}")
}

fn start(id: &str) -> String {
    format!("start {id}")
}

#[test]
fn only_apps_declared_stopped_are_stopped() {
    let simulator = Simulator::start(Config::default(), &[A, B, "undeclared"]);
    let manifests = Manifests::new(&[("down", A, "Stopped"), ("up", B, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    assert_eq!(simulator.calls(), [stop(A)]);
    assert!(!simulator.online(A) && simulator.online(B) && simulator.online("undeclared"));
    let log = daemon.log();
    let accepted = log.lines().find(|line| line.contains("stop accepted")).unwrap();
    for part in [
        "INFO",
        "app=\"down\"",
        "app_id=",
        "action=\"stop\"",
        "attempt=1",
        "http_status=200",
        "status=\"active\"",
        "online=true",
        "duration_ms=",
    ] {
        assert!(accepted.contains(part), "{part} is not in {accepted}");
    }
    let order = |text: &str| log.find(text).unwrap();
    assert!(order("stop accepted") < order("app stopped"), "attempted is not stopped:\n{log}");
}

#[test]
fn every_way_to_edit_a_file_is_seen_and_makes_one_call() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("bot", A, "Running"), ("other", B, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    let file = manifests.file("bot");
    let shell = |script: &str| {
        let status = Command::new("sh").args(["-ec", script]).current_dir(manifests.path()).status().unwrap();
        assert!(status.success());
    };
    let edits: [(&str, &dyn Fn()); 6] = [
        ("rename", &|| manifests.set("bot", A, "Stopped")),
        ("sed -i", &|| shell("sed -i 's/Stopped/Running/' bot.yaml")),
        ("write in place", &|| fs::write(&file, manifest("bot", A, "Stopped")).unwrap()),
        ("cp", &|| {
            shell(
                "sed 's/Stopped/Running/' bot.yaml > /dev/shm/$$.new && cp /dev/shm/$$.new bot.yaml; rm /dev/shm/$$.new",
            );
        }),
        ("an editor's backup dance", &|| {
            fs::rename(&file, manifests.path().join("bot.yaml~")).unwrap();
            fs::write(&file, manifest("bot", A, "Stopped")).unwrap();
            fs::remove_file(manifests.path().join("bot.yaml~")).unwrap();
        }),
        ("mv from elsewhere", &|| {
            let elsewhere = tempfile::NamedTempFile::new().unwrap();
            fs::write(elsewhere.path(), manifest("bot", A, "Running")).unwrap();
            shell(&format!("mv -f {} bot.yaml", elsewhere.path().display()));
        }),
    ];
    let mut expected = Vec::new();
    for (index, (way, edit)) in edits.into_iter().enumerate() {
        edit();
        expected.push(if index % 2 == 0 { stop(A) } else { start(A) });
        wait_until(&format!("{way} is acted on"), || simulator.calls().len() >= expected.len(), || daemon.log());
        daemon.wait_for_times("app st", expected.len());
        assert_eq!(simulator.calls(), expected, "{way}");
    }
}

#[test]
fn only_a_declared_state_stops_an_app() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("bot", A, "Running"), ("other", B, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "200ms", "--interval", "300ms"]);
    daemon.wait_for(SETTLED);

    // Broken: reported with its place, nothing called, the last good version in force.
    let mut text = manifest("bot", A, "Stopped");
    text.push_str("  polcy: Full\n");
    manifests.put("bot", &text);
    daemon.wait_for("polcy");
    assert!(
        daemon.log().lines().any(|line| line.contains("WARN") && line.contains("bot.yaml") && line.contains("line=8"))
    );
    let (_, body) = http(daemon.address(), "GET", "/api/v1/apps/bot");
    let app: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(app["spec"]["state"], "Running", "{app:#}");

    // Removed: released, nothing called.
    fs::remove_file(manifests.file("other")).unwrap();
    daemon.wait_for("app released");

    // The whole directory removed: held, and reported.
    let away = manifests.path().with_extension("away");
    fs::rename(manifests.path(), &away).unwrap();
    daemon.wait_for("SourceUnavailable");
    let address = daemon.address();
    wait_until("not ready", || http(address, "GET", "/readyz").0 == 503, || daemon.log());
    fs::rename(&away, manifests.path()).unwrap();
    daemon.wait_for("are readable again");
    wait_until("ready", || http(address, "GET", "/readyz").0 == 200, || daemon.log());

    // Lists arrived all the time, and no app was stopped.
    let lists = simulator.count(Endpoint::List);
    wait_until("two more lists", || simulator.count(Endpoint::List) > lists + 1, || daemon.log());
    assert_eq!(simulator.calls(), [""; 0]);

    // Repaired: back to normal.
    manifests.set("bot", A, "Stopped");
    daemon.wait_for("app stopped");
    assert_eq!(simulator.calls(), [stop(A)]);
}

#[test]
fn an_accepted_stop_is_not_yet_a_stop() {
    let config = Config { effect_delay: Duration::from_secs(3), ..Config::default() };
    let simulator = Simulator::start(config, &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("stop accepted");
    let (_, body) = http(daemon.address(), "GET", "/api/v1/apps/bot");
    let app: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(app["status"]["lastAction"]["returnedOnline"], true, "as in the vendor's example: {app:#}");
    assert_eq!(app["status"]["conditions"][0]["reason"], "Stopping", "{app:#}");
    daemon.wait_for("app stopped");
    assert!(!simulator.online(A), "reported stopped while it runs");
    assert_eq!(simulator.calls(), [stop(A)]);
}

#[track_caller]
fn stopped_once(config: Config, status: &'static str) {
    let case = format!("{:?}, status {status}", config.stopped);
    let simulator = Simulator::start(config, &[A]);
    lock(&simulator.world).set_status(&A.parse().unwrap(), status);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--interval", "100ms", "--api-budget", "unlimited"]);
    daemon.wait_for("app stopped");
    let lists = simulator.count(Endpoint::List);
    wait_until("five more lists", || simulator.count(Endpoint::List) > lists + 4, || daemon.log());
    assert_eq!(simulator.calls(), [stop(A)], "{case}");
}

#[test]
fn an_app_is_stopped_once_with_every_shape_of_stopped_metrics() {
    std::thread::scope(|scope| {
        for stopped in [StoppedShape::Null, StoppedShape::OnlineFalse, StoppedShape::Absent, StoppedShape::Frozen] {
            scope.spawn(move || stopped_once(Config { stopped, account_limit: None, ..Config::default() }, "active"));
        }
        for status in ["stopped", "running", "offline", "anything at all"] {
            scope.spawn(move || stopped_once(Config { account_limit: None, ..Config::default() }, status));
        }
    });
}

#[test]
fn every_documented_list_is_read_page_by_page() {
    for list in [ListShape::Wrapped, ListShape::Nested, ListShape::Bare] {
        let ids: Vec<String> = (0..25).map(|n| format!("app-{n:02}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let largest_page = if list == ListShape::Bare { 100 } else { 7 };
        let simulator = Simulator::start(Config { list, largest_page, ..Config::default() }, &ids);
        let manifests = Manifests::new(&[("first", "app-00", "Stopped"), ("last", "app-24", "Stopped")]);
        let daemon = Daemon::start(&simulator, &manifests, &[]);
        daemon.wait_for(SETTLED);
        daemon.wait_for("apps=25");
        assert!(simulator.count(Endpoint::Get) <= 2, "{list:?}: no single reads except the two confirmations");
    }
}

#[test]
fn a_failed_stop_is_retried_and_one_on_a_dead_connection_repeated_at_once() {
    let times = |count, fault| Rule { times: Some(count), ..Rule::new(Endpoint::Stop, fault) };
    let faults = Faults {
        rules: vec![
            times(2, Fault { status: Some(500), ..Fault::default() }),
            times(1, Fault { reset: Some(campos_operator::simulator::faults::Reset::After), ..Fault::default() }),
        ],
        revive: Vec::new(),
    };
    let simulator = Simulator::start(Config { faults, ..Config::default() }, &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--log-format", "json"]);
    daemon.wait_for(SETTLED);
    // Two refused, then one whose connection, a reused one, died before the response: its repeat is no attempt of its
    // own.
    assert_eq!(simulator.calls().len(), 4, "{}", daemon.log());
    let lines: Vec<serde_json::Value> = daemon.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed: Vec<_> = lines.iter().filter(|line| line["message"] == "stop failed").collect();
    assert_eq!(failed.len(), 2);
    assert_eq!((&failed[0]["http_status"], &failed[0]["attempt"]), (&500.into(), &1.into()));
    assert_eq!((&failed[1]["reason"], &failed[1]["attempt"]), (&"BackingOff".into(), &2.into()));
    let accepted = lines.iter().find(|line| line["message"] == "stop accepted").unwrap();
    assert_eq!(accepted["attempt"], 3);
    assert!(failed.iter().all(|line| line["retry_in"].is_string() && line["app"] == "bot"));
}

#[test]
fn a_page_of_another_server_is_not_a_response() {
    let html = Fault { body: Some(Body::Html), ..Fault::default() };
    let other = Fault { body: Some(Body::OtherApp), ..Fault::default() };
    let rule = |fault| Rule { times: Some(1), ..Rule::new(Endpoint::Stop, Fault { ignore: true, ..fault }) };
    let faults = Faults { rules: vec![rule(html), rule(other)], revive: Vec::new() };
    let simulator = Simulator::start(Config { faults, ..Config::default() }, &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    assert_eq!(daemon.log().matches("stop failed").count(), 2);
    assert_eq!(daemon.log().matches("stop accepted").count(), 1);
}

#[test]
fn the_first_signal_waits_for_calls_and_the_second_does_not() {
    let slow = Fault { delay: Some(Duration::from_secs(1)), ..Fault::default() };
    let simulator =
        Simulator::start(Config { faults: Faults::always(Endpoint::Stop, slow), ..Config::default() }, &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let mut daemon = Daemon::start(&simulator, &manifests, &[]);
    wait_until("the stop is on the wire", || simulator.calls().len() == 1, || daemon.log());
    daemon.signal("-TERM");
    assert_eq!(daemon.ends().code(), Some(0));
    assert!(daemon.log().contains("stop accepted"), "the call was let end:\n{}", daemon.log());

    let hang = Fault { hang: true, ..Fault::default() };
    let simulator =
        Simulator::start(Config { faults: Faults::always(Endpoint::Stop, hang), ..Config::default() }, &[A]);
    let mut daemon = Daemon::start(&simulator, &manifests, &[]);
    wait_until("the stop is on the wire", || simulator.calls().len() == 1, || daemon.log());
    daemon.signal("-INT");
    daemon.wait_for("shutting down");
    daemon.signal("-INT");
    assert_eq!(daemon.ends().code(), Some(0));
    assert!(daemon.log().contains("abandoned"), "{}", daemon.log());
}

/// A hundred crashes under faults: the manifests, edited while no daemon runs, justify every call, and a crash costs at
/// most one more call.
#[test]
fn after_a_kill_at_any_moment_the_manifests_decide() {
    const CRASHES: u64 = 100;
    let fault = |on, act, probability| Rule { probability: Some(probability), ..Rule::new(on, act) };
    let rules = vec![
        fault(Endpoint::Any, Fault { reset: Some(Reset::After), ..Fault::default() }, 0.2),
        fault(Endpoint::Any, Fault { delay: Some(Duration::from_millis(20)), ..Fault::default() }, 0.3),
        fault(Endpoint::List, Fault { pages: Some(Pages::Lose), ..Fault::default() }, 0.1),
    ];
    let faults = Faults { rules, revive: Vec::new() };
    let simulator = Simulator::start(Config { account_limit: None, faults, ..Config::default() }, &[A, B]);
    let manifests = Manifests::new(&[("a", A, "Running"), ("b", B, "Running")]);
    let mut wanted = [(A, "Running"), (B, "Running")];
    let mut flips = 0;
    for round in 0..CRASHES {
        // A pattern, not chance: it includes every combination of an edit and a moment.
        let edited = usize::try_from(round % 2).unwrap();
        if round % 3 != 0 {
            let (id, state) = &mut wanted[edited];
            *state = if *state == "Running" { "Stopped" } else { "Running" };
            flips += 1;
            manifests.set(["a", "b"][edited], id, state);
        }
        let before = (simulator.count(Endpoint::Any), simulator.calls().len());
        let mut daemon = Daemon::start(&simulator, &manifests, &["--api-budget", "unlimited"]);
        let requests = usize::try_from(round % 4).unwrap();
        // Settled, or in a backoff: no call follows for a while.
        let quiet = || [SETTLED, "WARN"].iter().any(|word| daemon.log().contains(word));
        let there = || simulator.count(Endpoint::Any) >= before.0 + requests || quiet();
        wait_until(&format!("{requests} requests came in round {round}"), there, || daemon.log());
        assert!(!daemon.command_line().contains(TOKEN));
        daemon.signal("-KILL");
        daemon.ends();
        for call in &simulator.calls()[before.1..] {
            let justified = wanted.map(|(id, state)| if state == "Running" { start(id) } else { stop(id) });
            assert!(justified.contains(call), "{call} in round {round}, but wanted: {wanted:?}");
        }
    }
    let daemon = Daemon::start(&simulator, &manifests, &["--api-budget", "unlimited"]);
    daemon.wait_for(SETTLED);
    for (id, state) in wanted {
        assert_eq!(simulator.online(id), state == "Running");
    }
    let most = flips + usize::try_from(CRASHES).unwrap();
    assert!(simulator.calls().len() <= most, "{} calls for {flips} edits", simulator.calls().len());
}

#[test]
fn dry_runs_and_strict_policies_call_nothing() {
    for (flags, line) in
        [(["--dry-run", "--policy=full"], "would stop"), (["--policy=observe-only", "--color=never"], "stop held")]
    {
        let simulator = Simulator::start(Config::default(), &[A]);
        let manifests = Manifests::new(&[("bot", A, "Stopped")]);
        let daemon = Daemon::start(&simulator, &manifests, &flags);
        daemon.wait_for("nothing is left to do, but some apps are held");
        daemon.wait_for(line);
        assert_eq!(simulator.calls(), [""; 0], "{flags:?}");
    }
    let simulator = Simulator::start(Config::default(), &[A]);
    lock(&simulator.world).set_online(&A.parse().unwrap(), false, simulator.clock.wall());
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--policy", "stop-only"]);
    daemon.wait_for("start held");
    assert_eq!(simulator.calls(), [""; 0]);
}

#[test]
fn two_manifests_for_one_app_call_nothing_until_one_is_removed() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("one", A, "Stopped"), ("two", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("apps listed");
    let address = daemon.address();
    let reason = || {
        let (_, body) = http(address, "GET", "/api/v1/apps/one");
        let app: serde_json::Value = serde_json::from_str(&body).unwrap();
        app["status"]["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned()
    };
    wait_until("the conflict shows", || reason() == "DuplicateAppId", || daemon.log());
    assert_eq!(simulator.calls(), [""; 0]);
    fs::remove_file(manifests.file("two")).unwrap();
    daemon.wait_for("app stopped");
    assert_eq!(simulator.calls(), [stop(A)]);
}

#[test]
fn a_wrong_token_calls_nothing_and_a_new_one_is_noticed() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let token = manifests.path().join(".token");
    fs::write(&token, "wrong\n").unwrap();
    let mut command = crate::harness::binary();
    command.env_remove("CAMPOSCLOUD_TOKEN").args([
        "run",
        "--listen",
        "off",
        "--api-url",
        &simulator.url(),
        "--manifests",
    ]);
    command.arg(manifests.path()).arg("--token-file").arg(&token);
    let daemon = Daemon::spawn(command);
    daemon.wait_for("AccountBlocked");
    assert!(simulator.count(Endpoint::Any) <= 2, "one refusal is enough");
    let mut file = fs::File::create(&token).unwrap();
    writeln!(file, "{}", crate::harness::TOKEN).unwrap();
    daemon.wait_for("accepts the token again");
    daemon.wait_for(SETTLED);
    assert_eq!(simulator.calls(), [stop(A)]);
}

#[test]
fn an_app_that_is_not_listed_is_read_singly_before_it_is_missing() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    lock(&simulator.world).give_to_team(&A.parse().unwrap(), "5f00000000000000000000aa");
    let manifests = Manifests::new(&[("team", A, "Stopped"), ("gone", "nobody", "Stopped"), ("up", B, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for("app stopped");
    daemon.wait_for("AppNotFound");
    assert_eq!(simulator.calls(), [stop(A)]);
}

#[test]
fn the_port_is_read_only_and_shows_everything() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    let address = daemon.address();
    let get = |path: &str| http(address, "GET", path);
    assert_eq!(get("/livez"), (200, "ok\n".into()));
    assert_eq!(get("/healthz").0, 200);
    assert_eq!(get("/readyz?verbose"), (200, "[+]source ok\n[+]observation ok\ncheck passed\n".into()));
    let list: serde_json::Value = serde_json::from_str(&get("/api/v1/apps").1).unwrap();
    assert_eq!((&list["apiVersion"], &list["kind"]), (&"campos-operator.dev/v1".into(), &"AppList".into()));
    let app = &list["items"][0];
    assert_eq!(app["metadata"]["name"], "bot");
    let status = &app["status"];
    assert_eq!((&status["desired"], &status["observed"]), (&"Stopped".into(), &"Stopped".into()));
    assert_eq!(status["conditions"][0]["type"], "Ready");
    assert_eq!(
        (&status["conditions"][0]["status"], &status["conditions"][0]["reason"]),
        (&"True".into(), &"Settled".into())
    );
    assert_eq!(status["lastAction"]["result"], "Verified");
    assert_eq!(status["source"]["file"], "bot.yaml");
    assert_eq!((get("/api/v1/apps/nobody").0, get("/nowhere").0), (404, 404));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/api/v1/apps", "/api/v1/apps/bot", "/livez", "/"] {
            assert_eq!(http(address, method, path).0, 405, "{method} {path}");
        }
    }
    let status: serde_json::Value = serde_json::from_str(&get("/api/v1/status").1).unwrap();
    assert_eq!(status["observation"]["completeOnce"], true);
}

#[test]
fn the_demo_shows_the_main_job() {
    let mut command = crate::harness::binary();
    command.env_remove("CAMPOSCLOUD_TOKEN").args(["demo", "--listen", "off"]);
    let mut daemon = Daemon::spawn(command);
    daemon.wait_for("nothing is left to do, but some apps are held");
    let log = daemon.log();
    assert!(log.contains("app stopped") && !log.contains("start accepted") && log.contains("try: edit"), "{log}");
    daemon.signal("-INT");
    assert_eq!(daemon.ends().code(), Some(0));
}

/// The reader of the log is blocked, or has ended.
#[test]
fn a_log_without_a_reader_delays_nothing() {
    for gone in [false, true] {
        let simulator = Simulator::start(Config::default(), &[A]);
        let manifests = Manifests::new(&[("bot", A, "Stopped")]);
        let (reader, mut writer) = std::io::pipe().unwrap();
        // The size of a pipe on Linux: a writer of one more byte waits for a reader.
        writer.write_all(&vec![b'.'; 65_536]).unwrap();
        let reader = (!gone).then_some(reader);
        let mut command = crate::harness::binary();
        command.args(["run", "--listen", "off", "--log-level", "trace", "--api-url", &simulator.url(), "--manifests"]);
        let mut child =
            command.arg(manifests.path()).stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        drop(command);
        let state = || format!("reader gone: {gone}, calls: {:?}", simulator.calls());
        wait_until("the app is stopped", || !simulator.online(A), state);
        manifests.set("bot", A, "Running");
        wait_until("the app is started", || simulator.online(A), state);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(reader);
    }
}

#[test]
fn a_refused_text_has_the_time_of_the_refusal() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    let address = daemon.address();
    let shown = || http(address, "GET", "/api/v1/apps/bot").1;
    manifests.set("bot", A, "stopped");
    wait_until("the message has the time of the error", || shown().contains("has been invalid since 20"), shown);
    assert!(shown().contains("bot.yaml:7:10"), "{}", shown());
    manifests.set("bot", A, "Running");
    wait_until("it is repaired", || !shown().contains("refused"), shown);
    assert_eq!(simulator.calls(), [""; 0]);
}
