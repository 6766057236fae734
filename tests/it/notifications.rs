//! Notifications: what services get, and what they never get.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use campos_operator::notifications::causes::{CauseState, Event, Level, Report};
use campos_operator::notifications::hook::{Delivery, Hook, Service};
use campos_operator::notifications::message::Message;
use campos_operator::reconcile::reason::Reason;
use campos_operator::simulator::world::Config;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{A, Daemon, Manifests, Simulator, binary, http, wait_until, wait_within};

/// A service that gives one answer after another, the last one again and again. An empty answer hangs.
struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), requests: Arc::default() };
        let requests = receiver.requests.clone();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (requests, answers) = (requests.clone(), answers.clone());
                thread::spawn(move || answer(client.unwrap(), &requests, &answers));
            }
        });
        receiver
    }

    fn requests(&self) -> Vec<(String, String)> {
        self.requests.lock().unwrap().clone()
    }

    fn file(&self, dir: &TempDir) -> PathBuf {
        let file = dir.path().join(self.address.port().to_string());
        fs::write(&file, format!("http://{}/hooks/secret-path\n", self.address)).unwrap();
        file
    }

    fn hook(&self, service: Service) -> Hook {
        Hook::from_files(service, &self.file(&TempDir::new().unwrap()), None).unwrap()
    }
}

/// Reads one request and answers it; the connection is closed.
fn answer(mut client: TcpStream, requests: &Mutex<Vec<(String, String)>>, answers: &[String]) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let number = {
        let mut requests = requests.lock().unwrap();
        requests.push((head, String::from_utf8(body).unwrap()));
        requests.len()
    };
    let answer = answers.get(number - 1).or(answers.last()).unwrap();
    if answer.is_empty() {
        // Until the other side gives up.
        let _ = reader.read(&mut [0]);
        return;
    }
    let _ = client.write_all(answer.as_bytes());
}

const TAKEN: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

fn outage() -> Message {
    let state = CauseState { level: Level::Warning, apps: vec!["a".parse().unwrap()], detail: None };
    let since = "2026-11-26T10:02:00Z".parse().unwrap();
    Message::Cause(Report { event: Event::Began, reason: Reason::ApiUnavailable, since, state })
}

fn deliver(hook: &Hook) -> Delivery {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(hook.deliver(&outage()))
}

#[test]
fn a_rate_limit_of_discord_is_waited_for() {
    let limit = response("429 Too Many Requests", "Retry-After: 99\r\n", r#"{"message": "slow", "retry_after": 0.05}"#);
    let receiver = Receiver::start(&[&limit, &limit, TAKEN]);
    assert_eq!(deliver(&receiver.hook(Service::Discord)), Delivery::Delivered);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 3);
    let body: Value = serde_json::from_str(&requests[2].1).unwrap();
    assert_eq!(body["allowed_mentions"], json!({"parse": []}));
}

#[test]
fn refused_notifications_are_not_retried() {
    let other = Receiver::start(&[TAKEN]);
    let elsewhere = response("307 Temporary Redirect", &format!("Location: http://{}/\r\n", other.address), "");
    for refusal in [elsewhere, response("404 Not Found", "", "no"), response("401 Unauthorized", "", "")] {
        let receiver = Receiver::start(&[&refusal]);
        assert_eq!(deliver(&receiver.hook(Service::Slack)), Delivery::Refused, "{refusal}");
        assert_eq!(receiver.requests().len(), 1);
    }
    assert_eq!(other.requests().len(), 0);
}

#[test]
fn a_service_that_fails_gets_five_attempts() {
    let failing = Receiver::start(&[&response("503 Service Unavailable", "Retry-After: 0\r\n", "")]);
    assert_eq!(deliver(&failing.hook(Service::Webhook)), Delivery::Failed);
    assert_eq!(failing.requests().len(), 5);
}

#[test]
fn a_webhook_is_signed() {
    let (receiver, dir) = (Receiver::start(&[TAKEN]), TempDir::new().unwrap());
    let secret = dir.path().join("secret");
    fs::write(&secret, "k1\n").unwrap();
    let hook = Hook::from_files(Service::Webhook, &receiver.file(&dir), Some(&secret)).unwrap();
    assert_eq!(deliver(&hook), Delivery::Delivered);
    let (head, body) = receiver.requests().remove(0);
    // An independent implementation.
    let signed = std::process::Command::new("python3")
        .args(["-c", "import hmac,sys; print(hmac.new(b'k1', sys.argv[1].encode(), 'sha256').hexdigest())", &body])
        .output();
    let Ok(expected) = signed else { return };
    let expected = String::from_utf8(expected.stdout).unwrap();
    assert!(head.contains(&format!("x-campos-signature: sha256={}\r\n", expected.trim())), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["kind"], &body["event"]), (&json!("Notification"), &json!("began")));
    assert_eq!(body["causes"][0]["apps"], json!({"count": 1, "names": ["a"]}));
}

#[test]
fn a_hook_that_hangs_delays_nobody_and_no_url_is_shown() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped"), ("gone", "60c72b2f9b1e8d001c8e4fff", "Stopped")]);
    let (hanging, taking, dir) = (Receiver::start(&[""]), Receiver::start(&[TAKEN]), TempDir::new().unwrap());
    let mut command = binary();
    command.args(["run", "--api-url", &simulator.url(), "--listen", "127.0.0.1:0", "--manifests"]);
    command.arg(manifests.path());
    command.arg("--notify-webhook-file").arg(hanging.file(&dir));
    command.arg("--notify-discord-file").arg(taking.file(&dir));
    let daemon = Daemon::spawn(command);
    // A cause is announced after 30 s.
    let both = || !taking.requests().is_empty() && !hanging.requests().is_empty();
    wait_within(Duration::from_secs(90), "both services get the message", both, || daemon.log());
    let text = taking.requests()[0].1.clone();
    assert!(text.contains("AppNotFound") && text.contains("gone"), "{text}");
    wait_until("the app is stopped", || !simulator.online(A), || daemon.log());
    let metrics = || http(daemon.address(), "GET", "/metrics").1;
    let delivered = r#"notifications_total{service="discord",result="delivered"} 1"#;
    wait_until("it is counted", || metrics().contains(delivered), metrics);
    for text in [daemon.log(), http(daemon.address(), "GET", "/api/v1/status").1] {
        assert!(!text.contains("secret-path"), "{text}");
    }
}

#[test]
fn a_file_without_a_usable_url_ends_the_start() {
    let dir = TempDir::new().unwrap();
    for (text, expected) in [
        ("", "the file is empty"),
        ("hooks.slack.com/secret-path", "expected one URL"),
        ("http://hooks.slack.com/secret-path", "must begin with https://"),
        ("https://a/secret-path\nhttps://b/\n", "expected one line"),
    ] {
        let file = dir.path().join("hook");
        fs::write(&file, text).unwrap();
        let error = Hook::from_files(Service::Slack, &file, None).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("--notify-slack-file "), "{error}");
        assert!(!error.contains("secret-path"), "{error}");
    }
}
