//! The API of an operator without an operator: any number of apps, and a stream that the test controls.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use axum::{Json, Router};
use campos_operator::http::page;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnboundedReceiverStream;

#[derive(Default)]
struct Inside {
    apps: BTreeMap<String, Value>,
    listeners: Vec<UnboundedSender<Result<Event, Infallible>>>,
    last: u64,
    stalled: bool,
}

type Shared = Arc<Mutex<Inside>>;

pub(crate) struct Pretend {
    inside: Shared,
    address: SocketAddr,
}

/// An app with the given states; the rest follows from the number.
pub(crate) fn app(number: usize, desired: &str, observed: &str, reason: &str, message: &str) -> Value {
    let ready = if reason == "Settled" { "True" } else { "False" };
    let reconciling = if reason == "Settled" { "False" } else { "True" };
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-11-24T12:00:00Z", "observedGeneration": 1})
    };
    json!({
        "apiVersion": "campos-operator.dev/v1", "kind": "App",
        "metadata": {"name": format!("app-{number:05}"), "labels": {"team": (number % 7).to_string()}, "generation": 1},
        "spec": {"appId": format!("id{number}"), "state": desired},
        "status": {
            "observedGeneration": 1, "revision": "abc", "source": {"file": format!("apps/{number}.yaml"), "line": 1},
            "desired": desired, "desiredBecause": "state", "observed": observed, "observedAt": "2026-11-24T12:00:00Z",
            "conditions": [condition("Ready", ready), condition("Reconciling", reconciling), condition("Stalled", "False")],
            "group": match reason {
                "Settled" => "Settled",
                "BackingOff" => "InTrouble",
                "AppNotFound" => "NeedsPerson",
                _ => "InProgress",
            },
            "lastAction": null, "nextAttemptAt": null, "nextLookAt": "2026-11-24T12:01:00Z", "nextTransition": null,
        },
    })
}

/// An entry of the history: seen to stop, or stopped by a call.
pub(crate) fn entry(name: &str, time: &str, action: Option<&str>) -> Value {
    let answer = json!({"result": "Accepted", "httpStatus": 200, "status": "active", "online": true, "error": null});
    json!({
        "time": time, "app": name, "appId": "id3", "trigger": "edit", "revision": "abc",
        "before": {"desired": "Stopped", "observed": "Running", "reason": "Drifted"},
        "after": {"desired": "Stopped", "observed": if action.is_some() { "Running" } else { "Stopped" }, "reason": "Stopping"},
        "action": action, "answer": action.map(|_| answer),
    })
}

pub(crate) fn status() -> Value {
    json!({
        "apiVersion": "campos-operator.dev/v1", "kind": "DaemonStatus", "version": "0.1.0",
        "startedAt": "2026-11-24T11:00:00Z", "requestsLastMinute": 12, "sourceLink": null, "progress": [], "undeclared": null, "leader": null,
        "apps": {"declared": 1, "needsPerson": 0, "inTrouble": 0, "unknown": 0, "inProgress": 0, "held": 0, "settled": 1},
        "source": {"loaded": true, "available": true, "trouble": null, "revision": "abc", "files": 1, "skipped": 0, "problems": []},
        "observation": {"completeOnce": true, "completedAt": "2026-11-24T12:00:00Z", "apps": 1, "pages": 1, "incomplete": null, "intervalSeconds": 60},
        "governor": {"requestsPerMinute": 120.0, "remaining": 170, "paused": false, "breakerOpen": false, "accountBlocked": false, "requests": 10},
        "dryRun": false, "policy": "Full",
    })
}

impl Pretend {
    pub(crate) async fn start(count: usize) -> Self {
        let items = (0..count).map(|at| app(at, "Running", "Running", "Settled", "the app is Running, as declared"));
        let apps = items.map(|item| (name_of(&item), item)).collect();
        let inside = Arc::new(Mutex::new(Inside { apps, ..Inside::default() }));
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/api/v1/apps", get(apps_route))
            .route("/api/v1/status", get(async || Json(status())))
            .route("/api/v1/history", get(history))
            .route("/api/v1/forecast", get(async || Json(forecast())))
            .route("/api/v1/activity", get(async || Json(json!({"items": []}))))
            .route(
                "/api/v1/trend",
                get(async || Json(json!({"items": [{"at": "2026-11-24T12:00:00Z", "apps": null}]}))),
            )
            .route(
                "/api/v1/apps/{name}/schedule",
                get(async || Json(json!({"windows": [], "transitions": [], "days": []}))),
            )
            .route("/api/v1/events", get(events))
            .route("/livez", get(live))
            .merge(page::routes())
            .with_state(inside.clone());
        tokio::spawn(async { axum::serve(listener, routes).await.unwrap() });
        Self { inside, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes an app and sends the event.
    pub(crate) fn app(&self, item: &Value) {
        self.app_unheard(item);
        self.send("app", item);
    }

    /// Changes an app without an event.
    pub(crate) fn app_unheard(&self, item: &Value) {
        self.inside.lock().unwrap().apps.insert(name_of(item), item.clone());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.inside.lock().unwrap().apps.remove(name);
        self.send("removed", &json!({ "name": name }));
    }

    pub(crate) fn empty(&self) {
        self.inside.lock().unwrap().apps.clear();
        self.send("reset", &json!({}));
    }

    pub(crate) fn send(&self, kind: &str, data: &Value) {
        let mut inside = self.inside.lock().unwrap();
        inside.last += 1;
        let event = Event::default().event(kind).id(inside.last.to_string()).json_data(data).unwrap();
        inside.listeners.retain(|listener| listener.send(Ok(event.clone())).is_ok());
    }

    /// Answers, but its loop is stalled.
    pub(crate) fn stall(&self) {
        self.inside.lock().unwrap().stalled = true;
    }

    /// Ends every stream.
    pub(crate) fn hang_up(&self) {
        self.inside.lock().unwrap().listeners.clear();
    }
}

fn name_of(item: &Value) -> String {
    item["metadata"]["name"].as_str().unwrap().to_owned()
}

async fn apps_route(State(inside): State<Shared>) -> Json<Value> {
    let items: Vec<Value> = inside.lock().unwrap().apps.values().cloned().collect();
    Json(json!({"apiVersion": "campos-operator.dev/v1", "kind": "AppList", "items": items}))
}

async fn live(State(inside): State<Shared>) -> StatusCode {
    if inside.lock().unwrap().stalled { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

/// The same for every app: a call an hour ago, confirmed a minute later.
fn forecast() -> Value {
    let at = "2026-11-24T12:00:00Z";
    json!({"from": at, "to": "2026-11-25T12:00:00Z", "hours": [], "bulks": []})
}

async fn history() -> Json<Value> {
    let now = campos_operator::clock::Clock::system().wall();
    let ago = |minutes: i64| (now - jiff::SignedDuration::from_mins(minutes)).to_string();
    Json(json!({"items": [entry("app-00003", &ago(59), None), entry("app-00003", &ago(60), Some("stop"))]}))
}

async fn events(State(inside): State<Shared>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (listener, stream) = unbounded_channel();
    listener.send(Ok(Event::default().event("reset").id("0").data("{}"))).unwrap();
    inside.lock().unwrap().listeners.push(listener);
    Sse::new(UnboundedReceiverStream::new(stream))
}
