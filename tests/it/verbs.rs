//! The commands that query a running daemon: their output, their exit codes, and their agreement with the port.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::thread;

use campos_operator::reconcile::app::AppName;
use campos_operator::reconcile::condition::{Conditions, Truth};
use campos_operator::reconcile::desired::{Declared, Place, Validity};
use campos_operator::reconcile::reason::Reason;
use campos_operator::reconcile::state::Observed;
use campos_operator::simulator::world::Config;
use campos_operator::status::app::App;
use campos_operator::status::{Board, SourceStatus};
use jiff::Timestamp;
use serde_json::Value;

use crate::harness::{
    A, B, Daemon, Manifests, Simulator, Watch, assert_no_secrets, binary, http, manifest, output, wait_until,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A settled fleet: `down` stopped, `up` running, `held` suspended, `gone` not on the platform.
struct Fleet {
    simulator: Simulator,
    manifests: Manifests,
    daemon: Daemon,
    url: String,
}

const HELD: &str = "60c72b2f9b1e8d001c8e4f3c";
const GONE: &str = "640000000000000000000001";

impl Fleet {
    fn start() -> Self {
        let simulator = Simulator::start(Config::default(), &[A, B, HELD]);
        let manifests = Manifests::new(&[("down", A, "Stopped"), ("up", B, "Running"), ("gone", GONE, "Stopped")]);
        let labels = "metadata:\n  labels: {team: support, tier: \"1\"}";
        manifests.put("up", &manifest("up", B, "Running").replace("metadata:", labels));
        let held = manifest("held", HELD, "Stopped") + "  suspend: {reason: \"release: | *night*\"}\n";
        manifests.put("held", &held);
        let daemon = Daemon::start(&simulator, &manifests, &[]);
        daemon.wait_for("some apps need a person");
        let url = format!("http://{}", daemon.address());
        Self { simulator, manifests, daemon, url }
    }

    fn output(&self, arguments: &[&str]) -> (i32, String, String) {
        finished(&binary().args(arguments).args(["--server", &self.url]).output().unwrap())
    }

    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.output(arguments);
        assert_eq!((code, &*stderr), (0, ""), "{arguments:?}: {stdout}");
        stdout
    }

    #[track_caller]
    fn bad(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.output(arguments);
        assert_eq!(code, 1, "{arguments:?}: {stdout}{stderr}");
        stderr
    }
}

fn finished(output: &Output) -> (i32, String, String) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_no_secrets(&stdout);
    assert_no_secrets(&stderr);
    (output.status.code().unwrap(), stdout, stderr)
}

/// Replaces the values that change with the clock, such as `42s` in NEXT and AGE.
fn still(table: &str) -> String {
    let word = |word: &str| {
        let digits = word.trim_end_matches(['s', 'm']);
        if digits.len() < word.len() && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            "N".to_owned()
        } else {
            word.to_owned()
        }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n";
    table.lines().map(line).collect()
}

#[test]
fn get_shows_the_fleet_at_a_glance() {
    let fleet = Fleet::start();
    let table = fleet.good(&["get"]);
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
    insta::assert_snapshot!(still(&table), @r"
    NAME DESIRED OBSERVED READY REASON NEXT AGE
    down Stopped Stopped True Settled read N N
    gone Stopped Missing False AppNotFound read N N
    held Stopped Running False Suspended read N N
    up Running Running True Settled read N N
    ");
    assert_eq!(fleet.good(&["get", "-o", "name"]), "down\ngone\nheld\nup\n");
    assert_eq!(fleet.good(&["get", "up", "down", "-o", "name"]), "up\ndown\n", "in the order that was declared for");
    let wide = fleet.good(&["get", "gone", "-o", "wide"]);
    for part in ["APP-ID", "SOURCE", "MESSAGE", GONE, "gone.yaml:1", "check spec.appId"] {
        assert!(wide.contains(part), "{part} is not in {wide}");
    }
    assert!(!table.contains('\x1b') && fleet.good(&["get", "--color", "always"]).contains("\x1b[32mTrue\x1b[0m"));

    for (selector, names) in [
        ("team=support", "up\n"),
        ("team", "up\n"),
        ("team=support,tier=1", "up\n"),
        ("team!=support", "down\ngone\nheld\n"),
        ("!team", "down\ngone\nheld\n"),
        ("team=other", ""),
    ] {
        assert_eq!(fleet.good(&["get", "-o", "name", "-l", selector]), names, "{selector}");
    }
    assert_eq!(fleet.good(&["get", "-o", "name", "-l", "team=support", "-l", "tier=2"]), "");
    assert!(fleet.bad(&["get", "-l", "=x"]).contains("key=value"));

    // The command prints the values of the port.
    let port: Value = serde_json::from_str(&http(fleet.daemon.address(), "GET", "/api/v1/apps").1).unwrap();
    let printed: Value = serde_json::from_str(&fleet.good(&["get", "-o", "json"])).unwrap();
    assert_eq!((&printed["kind"], &printed["items"]), (&"AppList".into(), &port["items"]));
}

#[test]
fn get_filters_and_sorts() {
    let fleet = Fleet::start();
    let names = |more: &[&str]| fleet.good(&[&["get", "-o", "name"], more].concat());
    assert_eq!(names(&["--not-ready"]), "gone\nheld\n");
    assert_eq!(names(&["--reason", "Suspended"]), "held\n");
    assert_eq!(names(&["--reason", "suspended,AppNotFound"]), "gone\nheld\n");
    assert_eq!(names(&["--sort-by", "group"]), "gone\nheld\ndown\nup\n");
    assert_eq!(names(&["--sort-by", "observed"]), "gone\nheld\nup\ndown\n");
    assert_eq!(names(&["up", "down", "--sort-by", "name"]), "down\nup\n");
    assert!(fleet.bad(&["get", "--reason", "AppNotFund"]).contains("did you mean AppNotFound?"));
    assert_eq!(fleet.good(&["get", "--no-headers"]).lines().count(), 4);
    assert!(!fleet.good(&["get", "--no-headers", "-o", "wide"]).contains("SOURCE"));
}

#[test]
fn status_shows_one_screen_and_exits_with_1_if_anything_needs_a_person() {
    let fleet = Fleet::start();
    let status = |more: &[&str]| {
        let server = format!("http://{}", fleet.daemon.address());
        finished(&binary().args(["status", "--server", &server]).args(more).output().unwrap())
    };
    let (code, page, _) = status(&[]);
    assert_eq!(code, 1, "{page}");
    for part in
        ["4 declared: 2 settled, 1 held, 1 needs a person", "gone: AppNotFound", "Manifests", "Budget", "Last list"]
    {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let (code, json, _) = status(&["-o", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["needsPerson"][0]["metadata"]["name"]), (1, &"gone".into()), "{json}");
    assert_eq!(json["status"]["apps"]["declared"], 4);
    let (code, page, note) = status(&["--transitions", "3"]);
    assert_eq!((code, &*page, note.trim()), (0, "", "no stop or start is scheduled"));
}

#[test]
fn the_output_of_get_can_be_applied_again() {
    let fleet = Fleet::start();
    let cases: [(&[&str], &str, &str); 4] = [
        (&["get", "-o", "yaml"], "all.yaml", "4 apps in 1 file: 0 errors"),
        (&["get", "-o", "json"], "all.json", "4 apps in 1 file: 0 errors"),
        (&["get", "held", "-o", "yaml"], "held.yaml", "1 app in 1 file: 0 errors"),
        (&["get", "gone", "-o", "json"], "gone.json", "1 app in 1 file: 0 errors"),
    ];
    for (arguments, file, says) in cases {
        let exported = fleet.good(arguments);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(file), &exported).unwrap();
        let validated = binary().arg("validate").arg(directory.path()).output().unwrap();
        assert!(text(&validated.stdout).starts_with(says), "{}\n{exported}", text(&validated.stdout));
    }
    let list: Value = serde_json::from_str(&fleet.good(&["get", "up", "down", "-o", "json"])).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"AppList".into(), 2));
    let one: Value = serde_json::from_str(&fleet.good(&["get", "up", "-o", "json"])).unwrap();
    assert_eq!(one["kind"], "App");

    // Instead of the original files it is no change: same objects, same generations.
    let exported = fleet.good(&["get", "-o", "yaml"]);
    for name in ["down", "up", "gone"] {
        std::fs::remove_file(fleet.manifests.file(name)).unwrap();
    }
    fleet.manifests.put("held", &exported);
    let settled = ["wait", "--all", "--for=condition=Reconciling=False", "--timeout", "20s"];
    assert_eq!(fleet.good(&settled).lines().count(), 4);
    let again: Value = serde_json::from_str(&fleet.good(&["get", "-o", "json"])).unwrap();
    for app in again["items"].as_array().unwrap() {
        assert_eq!(app["metadata"]["generation"], 1, "{app:#}");
    }
}

#[test]
fn unknown_names_are_reported_with_the_nearest() {
    let fleet = Fleet::start();
    for verb in ["get", "describe", "wait"] {
        let said = fleet.bad(&[verb, "dwon"]);
        assert!(said.contains("\"dwon\"") && said.contains("did you mean down?"), "{verb}: {said}");
    }
    let (code, stdout, stderr) = fleet.output(&["get", "up", "nothing-like-it", "-o", "name"]);
    assert_eq!((code, &*stdout), (1, "up\n"), "what is there is shown all the same");
    assert!(stderr.contains("nothing-like-it") && !stderr.contains("did you mean"), "{stderr}");
    assert!(fleet.bad(&["get", "../status"]).contains("no manifest declares"));
}

#[test]
fn describe_shows_the_cause_and_the_remedy() {
    let fleet = Fleet::start();
    let down = fleet.good(&["describe", "down"]);
    for part in [
        "Name:        down",
        A,
        "down.yaml:1",
        "Stopped, from spec.state",
        "Observed:    Stopped, read",
        "Last action: stop, attempt 1",
        "Verified, HTTP 200, the server returned status active",
        "Next read:   in",
        "Ready        True     Settled",
        "None. The app is as declared.",
    ] {
        assert!(down.contains(part), "{part} is not in:\n{down}");
    }
    let held = fleet.good(&["describe", "held"]);
    assert!(held.contains("but suspended (release: | *night*)") && held.contains("remove `suspend`"), "{held}");
    let gone = fleet.good(&["describe", "gone"]);
    assert!(gone.contains("Check spec.appId in gone.yaml"), "{gone}");
}

#[test]
fn wait_ends_when_all_conditions_hold_and_names_the_others() {
    let fleet = Fleet::start();
    assert_eq!(fleet.good(&["wait", "down", "up"]), "down condition met\nup condition met\n");
    assert_eq!(fleet.good(&["wait", "gone", "--for=condition=Stalled"]), "gone condition met\n");
    assert_eq!(fleet.good(&["wait", "gone", "held", "--for=condition=Ready=False"]).lines().count(), 2);
    let late = fleet.bad(&["wait", "--all", "--timeout", "300ms"]);
    for part in ["gone: Ready=False AppNotFound", "after 300ms", "Ready=True"] {
        assert!(late.contains(part), "{part} is not in:\n{late}");
    }
    assert!(!late.contains("down:") && !late.contains("up:") && !late.contains("held:"), "{late}");
    let held = fleet.bad(&["wait", "held", "--timeout", "30s"]);
    assert!(held.contains("held is suspended") && held.contains("Suspended"), "{held}");
    assert!(fleet.bad(&["wait"]).contains("--all"));
    assert!(fleet.good(&["describe", A]).contains("down"), "an app is found by its id");
    assert!(fleet.bad(&["wait", "--all", "--for=condition=Redy"]).contains("condition=Ready"));

    // It sees changes while it waits.
    let waiting = binary()
        .args(["wait", "--for=create", "later", "--timeout", "30s", "--server", &fleet.url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    fleet.manifests.set("later", "640000000000000000000002", "Running");
    let (code, stdout, stderr) = finished(&waiting.wait_with_output().unwrap());
    assert_eq!((code, &*stdout), (0, "later created\n"), "{stderr}");
    std::fs::remove_file(fleet.manifests.file("gone")).unwrap();
    std::fs::remove_file(fleet.manifests.file("later")).unwrap();
    assert_eq!(fleet.good(&["wait", "gone", "later", "--for=delete"]), "gone deleted\nlater deleted\n");
    let all = fleet.good(&["wait", "--all"]);
    assert!(all.ends_with("\nskipped 1 suspended app\n"), "{all}");
}

#[test]
fn another_server_is_not_a_daemon() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("http://{free}");
    for arguments in
        [&["get"][..], &["describe", "x"], &["history"], &["wait", "--all", "--timeout", "200ms"], &["get", "-w"]]
    {
        let (code, stdout, stderr) = finished(&binary().args(arguments).args(["--server", &server]).output().unwrap());
        assert_eq!((code, &*stdout), (1, ""), "{arguments:?}");
        assert!(stderr.contains(&server) && stderr.contains("run` running") && stderr.contains("refused"), "{stderr}");
    }
    let (code, _, stderr) = finished(&binary().args(["get", "--server", "ftp://localhost:8080"]).output().unwrap());
    assert!(code == 1 && stderr.contains("http://HOST:PORT"), "{stderr}");

    // Something else listens there, for example CamposCloud itself; the address comes from the environment.
    let simulator = Simulator::start(Config::default(), &[A]);
    for arguments in [&["get"][..], &["get", "x"], &["describe", "x"], &["history"], &["wait", "--all"]] {
        let mut command = binary();
        command.args(arguments).env("CAMPOS_OPERATOR_SERVER", simulator.url());
        let (code, _, stderr) = finished(&command.output().unwrap());
        assert!(
            code == 1 && stderr.contains("if it is not a campos-operator, check --server"),
            "{arguments:?}: {stderr}"
        );
    }
    assert!(simulator.calls().is_empty());
}

#[test]
fn a_watch_prints_each_change_on_a_line() {
    let fleet = Fleet::start();
    let watch = Watch::start(&fleet.url, &[]);
    assert!(watch.wait_for("NAME").starts_with("NAME  DESIRED"));
    watch.wait_for("up    Running");
    fleet.manifests.set("held", HELD, "Stopped");
    let line = watch.wait_for("held  Stopped  Stopped   True ");
    assert!(line.contains("Settled"), "{line}");
    let json = Watch::start(&fleet.url, &["down", "-o", "json"]);
    let first: Value = serde_json::from_str(&json.wait_for("down")).unwrap();
    assert_eq!(first["status"]["observed"], "Stopped");
    std::fs::remove_file(fleet.manifests.file("down")).unwrap();
    watch.wait_for("down  -        -         -      Removed");
    let gone: Value = serde_json::from_str(&json.wait_for("\"removed\":true")).unwrap();
    assert_eq!(gone["metadata"]["name"], "down");
}

#[test]
fn a_daemon_without_a_first_list_is_not_an_empty_fleet() {
    let board = Board::default();
    let listener = campos_operator::http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    campos_operator::http::start(listener, board.clone(), campos_operator::clock::Clock::system(), &[]).unwrap();
    let run = |arguments: &[&str]| finished(&binary().args(arguments).args(["--server", &server]).output().unwrap());
    let (code, stdout, stderr) = run(&["get"]);
    assert!((code, &*stdout) == (0, "") && stderr.contains("has not read its manifests yet"), "{stderr}");
    let (code, _, stderr) = run(&["describe", "bot"]);
    assert!(code == 1 && stderr.contains("has not read its manifests yet"), "{stderr}");
    for names in ["--all", "bot"] {
        let (code, _, stderr) = run(&["wait", names, "--timeout", "200ms"]);
        assert!(code == 1 && stderr.contains("after 200ms"), "{stderr}");
    }

    // Nor is the first app the whole fleet.
    let ready = |name: &str| {
        let place = Place { file: "f".into(), line: 1 };
        let name: AppName = name.parse().unwrap();
        let (ready, reconciling, stalled) = (Truth::True, Truth::False, Truth::False);
        let app = App {
            declared: Arc::new(Declared { name: name.clone(), object: None, place, validity: Validity::Valid }),
            generation: 1,
            revision: "r".into(),
            target: None,
            observed: Observed::Stopped,
            observed_at: None,
            conditions: Conditions { ready, reconciling, stalled, reason: Reason::Settled },
            last_transitions: [Timestamp::UNIX_EPOCH; 3],
            message: "m".into(),
            last_action: None,
            next_look_at: None,
            next_attempt_at: None,
            next_transition: None,
        };
        board.set_app(&name, app);
    };
    ready("first");
    let (code, stdout, stderr) = run(&["wait", "--all", "--timeout", "200ms"]);
    assert!(code == 1 && stdout.is_empty() && stderr.contains("has not read its manifests yet"), "{stdout}{stderr}");
    let waiting = binary()
        .args(["wait", "--all", "--timeout", "30s", "--server", &server])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ready("second");
    board.set_daemon(campos_operator::status::Daemon {
        source: SourceStatus { loaded: true, available: true, ..SourceStatus::default() },
        ..campos_operator::status::Daemon::default()
    });
    let (code, stdout, stderr) = finished(&waiting.wait_with_output().unwrap());
    assert_eq!((code, &*stdout), (0, "first condition met\nsecond condition met\n"), "{stderr}");
}

/// A daemon of a later version, with events and a history. Serves the responses of `answer`, one connection at a time.
fn later_daemon() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = |observed: &str| {
        format!(
            r#"{{"apiVersion":"campos-operator.dev/v1","kind":"App","metadata":{{"name":"bot"}},"status":{{"observed":"{observed}","unheardOf":[1]}}}}"#
        )
    };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let list =
                format!(r#"{{"apiVersion":"campos-operator.dev/v1","kind":"AppList","items":[{}]}}"#, app("Running"));
            let (kind, body) = match path.as_str() {
                "/api/v1/apps" => ("application/json", list),
                "/api/v1/apps/bot" => ("application/json", app("Running")),
                "/api/v1/events" => (
                    "text/event-stream",
                    format!(
                        ": hello\n\nid: 1\nevent: app\ndata: {}\n\nevent: unheard-of\ndata: x\n\nid: 2\nevent: removed\ndata: {{\"name\":\"bot\"}}\n\n",
                        app("Stopped")
                    ),
                ),
                _ => (
                    "application/json",
                    format!(
                        r#"{{"items":[{{"time":"2026-11-24T12:00:00Z","app":"bot","trigger":"edit","after":{{"desired":"Stopped","observed":"Running","reason":"Stopping"}},"action":"stop","answer":{{"result":"Accepted","httpStatus":200,"status":"active","online":true}},"words":"stop accepted (HTTP 200): Stopping","query":"{path}"}}]}}"#
                    ),
                ),
            };
            // A stream has no length and stays open. A client that has gone away is not an error.
            let events = kind == "text/event-stream";
            let length = if events { String::new() } else { format!("content-length: {}\r\n", body.len()) };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{length}connection: close\r\n\r\n");
            let _ = stream.write_all((head + &body).as_bytes());
            if events {
                thread::spawn(move || {
                    thread::park();
                    drop(stream);
                });
            }
        }
    });
    url
}

#[test]
fn events_and_history_are_used_if_the_daemon_has_them() {
    let server = later_daemon();
    let watch = Watch::start(&server, &["-o", "json"]);
    watch.wait_for("\"observed\":\"Running\"");
    watch.wait_for("\"removed\":true");
    let run = |arguments: &[&str]| {
        let (code, stdout, stderr) = finished(&binary().args(arguments).args(["--server", &server]).output().unwrap());
        assert_eq!((code, &*stderr), (0, ""), "{stdout}");
        stdout
    };
    insta::assert_snapshot!(run(&["history", "bot"]), @r"
    TIME (UTC)      CAUSE  CHANGE
    11-24 12:00:00  edit   stop accepted (HTTP 200): Stopping
    ");
    let json: Value = serde_json::from_str(run(&["history", "-o", "json", "--limit", "7"]).trim_end()).unwrap();
    assert_eq!(json["query"], "/api/v1/history?limit=7");
    let json: Value = serde_json::from_str(run(&["history", "bot", "-o", "json"]).trim_end()).unwrap();
    assert_eq!(json["query"], "/api/v1/history?app=bot&limit=20");
    let described = run(&["describe", "bot"]);
    assert!(described.contains("stop accepted (HTTP 200)"), "{described}");
}

#[test]
fn plan_writes_a_comment_for_a_pull_request() {
    let simulator = Simulator::start(Config::default(), &[A, HELD]);
    let manifests = Manifests::new(&[("down", A, "Stopped")]);
    let held = manifest("held", HELD, "Stopped") + "  suspend: {reason: \"release: | @team <b>*night*\"}\n";
    manifests.put("held", &held);
    let (url, directory) = (simulator.url(), manifests.path().to_str().unwrap().to_owned());
    let plan = |more: &[&str]| {
        let base = ["plan", "--api-url", &url, "--manifests", &directory];
        finished(&binary().args(base).args(more).output().unwrap())
    };
    let (code, comment, _) = plan(&["-o", "markdown", "--detailed-exitcode"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(comment, @r"
    ### campos-operator plan: 1 to stop, 0 to start, 0 stuck

    | | app | observed | desired | reason |
    | --- | --- | --- | --- | --- |
    | **stop** | `down` | Running | Stopped | state (edit or drift) |
    | held | `held` | Running | Stopped | Suspended: `release: \| @team <b>*night*` |

    1 to stop, 0 to start, 0 stuck, 0 settled, 1 other (plan 5b0b05660831).
    Requests: about 2 for these calls (about 1 s at 120/min), then 1.0 a minute for the list.
    ");
    let (code, coloured, _) = plan(&["--color", "always"]);
    assert!(code == 0 && coloured.contains("\x1b[33m- stop \x1b[0m"), "{coloured}");
    assert!(!plan(&[]).1.contains('\x1b'), "no colour in a pipe");
    manifests.put("broken", "nonsense: [\n");
    let (code, comment, _) = plan(&["-o", "markdown", "--detailed-exitcode"]);
    assert!(code == 1 && comment.contains("this plan is incomplete"), "{comment}");
    assert!(simulator.calls().is_empty());
}

#[test]
fn apps_that_no_manifest_declares_are_named() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--interval", "1s"]);
    daemon.wait_for("apps are as declared");
    let server = format!("http://{}", daemon.address());
    let get = || {
        let output = output(&["get", "--undeclared", "--server", &server]);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    wait_until("the other app is named", || get().contains(B), get);
    assert!(!get().contains(A) && get().contains("campos-operator import"), "{}", get());
    let plan = output(&["plan", "--api-url", &simulator.url(), "--manifests", manifests.path().to_str().unwrap()]);
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("1 app of the account is not declared by a valid manifest ("), "{plan}");
    // After a manifest declares it, it is not among them.
    manifests.set("other", B, "Running");
    wait_until("all are declared", || get().contains("every app of the account is declared"), get);
    std::fs::remove_file(manifests.file("bot")).unwrap();
    wait_until("a released app is undeclared", || get().contains(A), get);
}

/// `docs/questions.md`: each command exists, and prints an answer.
#[test]
fn every_question_has_a_command_that_answers_it() {
    let fleet = Fleet::start();
    let (url, directory) = (fleet.simulator.url(), fleet.manifests.path().to_str().unwrap().to_owned());
    let questions = include_str!("../../docs/questions.md").lines().filter(|line| line.contains("| `campos-operator "));
    let mut count = 0;
    for line in questions {
        let command = line.split('`').nth(1).unwrap().replace("ticket-bot", "up");
        let mut words: Vec<&str> = command.split(' ').skip(1).collect();
        match words[0] {
            "plan" => words.extend(["--api-url", &url, "--manifests", &directory]),
            "forecast" => words.extend(["--manifests", &directory, "--api-url", &url]),
            "validate" => words[1] = &directory,
            _ => words.extend(["--server", &fleet.url]),
        }
        let (code, stdout, stderr) = finished(&binary().args(&words).output().unwrap());
        assert!(code <= 1 && !stderr.contains("Usage:"), "{command}: {stderr}");
        assert!(stdout.lines().count() + stderr.lines().count() > 0, "{command} prints nothing");
        count += 1;
    }
    assert!(count >= 20, "{count}");
}
