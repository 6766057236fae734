//! The simulator's bodies have the shapes that the vendor publishes, and its command serves them.

use campos_operator::simulator::port::lock;
use campos_operator::simulator::world::{Config, ListShape, Request, StoppedShape, World};
use serde_json::{Value, json};

use crate::harness::{A, B, Simulator, TOKEN, binary, http};

/// Checks a body against one of the shapes.
#[track_caller]
fn fits(shape: &str, body: &[u8]) {
    let shapes: Value = serde_json::from_str(include_str!("data/api.schema.json")).unwrap();
    let schema = json!({ "$ref": format!("#/$defs/{shape}"), "$defs": shapes["$defs"] });
    let body: Value = serde_json::from_slice(body).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{shape}: {errors:#?}\n{body:#}");
}

fn ask(world: &mut World, method: &str, path: &str, query: &str) -> (u16, Vec<u8>) {
    let request = Request { method: method.into(), path: path.into(), query: query.into(), bearer: Some(TOKEN.into()) };
    let answer = world.handle(&request, "2026-11-24T12:00:00Z".parse().unwrap());
    (answer.status, answer.body)
}

#[test]
fn every_body_has_its_published_shape() {
    for stopped in [StoppedShape::Null, StoppedShape::OnlineFalse, StoppedShape::Absent, StoppedShape::Frozen] {
        for list in [ListShape::Wrapped, ListShape::Nested] {
            let config = Config { token: TOKEN.into(), stopped, list, ..Config::default() };
            let now = "2026-11-24T11:00:00Z".parse().unwrap();
            let mut world = World::new(config, now);
            world.add(A.parse().unwrap(), "First", now);
            world.add(B.parse().unwrap(), "Second", now);
            let mut check = |method: &str, path: String, shape: &str, status: u16| {
                let (code, body) = ask(&mut world, method, &path, "");
                assert_eq!(code, status, "{method} {path}");
                fits(shape, &body);
            };
            check("GET", "/v1/apps".into(), "list", 200);
            for _ in 0..2 {
                check("POST", format!("/v1/apps/{A}/stop"), "changed", 200);
                check("GET", format!("/v1/apps/{A}"), "single", 200);
                check("GET", "/v1//apps".into(), "list", 200);
            }
            check("POST", format!("/v1/apps/{A}/start"), "changed", 200);
            check("POST", format!("/v1/apps/{B}/restart"), "changed", 200);
            check("GET", "/v1/users/@me".into(), "user", 200);
            check("GET", "/v1/users/@me".into(), "sdk_user", 200);
            check("GET", "/v1/apps/nobody".into(), "error", 404);
            check("POST", "/v1/apps/nobody/stop".into(), "error", 404);
            check("DELETE", "/v1/apps".into(), "error", 405);
        }
    }
}

#[test]
fn the_account_has_180_requests_a_minute() {
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    let mut world = World::new(Config { token: TOKEN.into(), ..Config::default() }, now);
    let codes: Vec<u16> = (0..182).map(|_| ask(&mut world, "GET", "/v1/apps", "").0).collect();
    assert!(codes[..180].iter().all(|code| *code == 200));
    assert_eq!(codes[180..], [429, 429]);
    let request =
        Request { method: "GET".into(), path: "/v1/apps".into(), query: String::new(), bearer: Some(TOKEN.into()) };
    let later = world.handle(&request, "2026-11-24T12:00:59Z".parse().unwrap());
    let header = |name: &str| later.headers.iter().find(|(key, _)| key == name).unwrap().1.clone();
    assert_eq!(
        (later.status, header("x-ratelimit-reset"), header("x-ratelimit-remaining")),
        (429, "1".into(), "0".into())
    );
    let next = world.handle(&request, "2026-11-24T12:01:00Z".parse().unwrap());
    assert_eq!(next.status, 200);
}

#[test]
fn pages_hold_the_whole_list_once() {
    let simulator = Simulator::start(Config::default(), &["a1", "a2", "a3", "a4", "a5"]);
    let mut world = lock(&simulator.world);
    let mut ids = Vec::new();
    for page in 1..=3 {
        let (_, body) = ask(&mut world, "GET", "/v1/apps", &format!("limit=2&page={page}"));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["pagination"]["hasNextPage"], page < 3);
        ids.extend(body["applications"].as_array().unwrap().iter().map(|app| app["_id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(ids, ["a1", "a2", "a3", "a4", "a5"]);
}

#[test]
fn the_command_announces_its_port_and_serves() {
    let mut command = binary();
    command.args(["simulate", "--listen", "127.0.0.1:0", "--apps", "3"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let address = line.trim().rsplit('/').next().unwrap().parse().unwrap();
    // A request without a token is refused: the server answers.
    assert_eq!(http(address, "GET", "/v1/apps").0, 401);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_mistake_in_a_file_of_faults_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("wrong.yaml"), "rules:\n  - {on: lst, do: {}}\n").unwrap();
    let wrong = binary().args(["simulate", "--faults"]).arg(directory.path().join("wrong.yaml")).output().unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(1) && said.contains("lst") && said.contains("wrong.yaml"), "{said}");
}

#[test]
fn both_default_tokens_work_and_no_message_holds_them() {
    use campos_operator::simulator::faults::{Endpoint, Fault, Faults, Rule};
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    let rule = Rule::new(Endpoint::List, Fault { status: Some(500), ..Fault::default() });
    let faults = Faults { rules: vec![rule], ..Faults::default() };
    let mut world = World::new(Config { faults, ..Config::default() }, now);
    for token in ["simulated-token-0000", "simulated"] {
        let mut ask = |path: &str, bearer: &str| {
            let (method, query) = ("GET".to_owned(), String::new());
            world.handle(&Request { method, path: path.into(), query, bearer: Some(bearer.into()) }, now)
        };
        assert_eq!(ask("/v1/users/@me", token).status, 200);
        let said = String::from_utf8(ask("/v1/apps", token).body).unwrap();
        assert!(said.contains("fault") && !said.contains("simulated"), "{said}");
        assert_eq!(ask("/v1/users/@me", "simulated-token").status, 401);
    }
    let mut other = World::new(Config { token: TOKEN.into(), ..Config::default() }, now);
    let request = Request {
        method: "GET".into(),
        path: "/v1/users/@me".into(),
        query: String::new(),
        bearer: Some("simulated".into()),
    };
    assert_eq!(other.handle(&request, now).status, 401, "with a token of its own it takes no other");
}
