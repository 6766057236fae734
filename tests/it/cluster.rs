//! A fake Kubernetes API server: objects with `resourceVersion` and `generation`, conflicts, lists in pages, watches
//! with bookmarks, expired versions, cut connections, and apply on `/status`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

const NAMESPACE: &str = "campos";

#[derive(Default)]
struct Objects {
    version: u64,
    /// By plural and name.
    stored: BTreeMap<(String, String), Value>,
    /// Version, plural and event of each change.
    events: Vec<(u64, String, Value)>,
    /// Versions up to this one have expired.
    compacted: u64,
    /// Each request, as `GET apps`.
    log: Vec<String>,
    /// Counts the times that all watches were cut.
    cuts: u64,
    /// Whether the next page after a first one has expired.
    page_expires: bool,
    /// Plurals whose watches are refused.
    unwatchable: Vec<String>,
}

impl Objects {
    fn store(&mut self, plural: &str, mut object: Value, event: &str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.stored.insert((plural.to_owned(), name), object.clone());
        self.events.push((self.version, plural.to_owned(), json!({"type": event, "object": object})));
        object
    }
}

#[derive(Clone)]
struct Shared {
    objects: Arc<Mutex<Objects>>,
    /// Changes with each event, and when watches are cut.
    changed: Arc<watch::Sender<u64>>,
    frozen: Arc<watch::Sender<bool>>,
}

pub(crate) struct Cluster {
    shared: Shared,
    directory: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let shared = Shared {
            objects: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            frozen: Arc::new(watch::Sender::new(false)),
        };
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let router = Router::new().fallback(handle).with_state(shared.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        let directory = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE}}],
        });
        std::fs::write(directory.path().join("config"), config.to_string()).unwrap();
        Self { shared, directory }
    }

    /// The kubeconfig that leads to it.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// All objects of a resource, by name.
    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        let objects = self.shared.objects.lock().unwrap();
        objects.stored.iter().filter(|((of, _), _)| of == plural).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.shared.objects.lock().unwrap().stored.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    /// Every status that an object ever had, oldest first.
    pub(crate) fn statuses(&self, plural: &str) -> Vec<Value> {
        let objects = self.shared.objects.lock().unwrap();
        let events = objects.events.iter().filter(|(_, of, _)| of == plural);
        events.map(|(_, _, event)| event["object"]["status"].clone()).collect()
    }

    /// Writes a status, as another tool does.
    pub(crate) fn put_status(&self, plural: &str, name: &str, status: Value) {
        self.change(|objects| {
            let mut object = objects.stored.get(&(plural.to_owned(), name.to_owned())).unwrap().clone();
            object["status"] = status;
            objects.store(plural, object, "MODIFIED");
        });
    }

    /// Stores an object, as `kubectl apply` does. The generation counts changes of the spec.
    pub(crate) fn put(&self, plural: &str, object: Value) {
        let mut object = object;
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.change(|objects| {
            let old = objects.stored.get(&(plural.to_owned(), name)).cloned();
            let generation = old.as_ref().map_or(0, |old| old["metadata"]["generation"].as_u64().unwrap());
            let same = old.as_ref().is_some_and(|old| old["spec"] == object["spec"]);
            object["metadata"]["uid"] = format!("uid-{}", object["metadata"]["name"].as_str().unwrap()).into();
            object["metadata"]["generation"] = (generation + u64::from(!same)).into();
            if let Some(old) = &old {
                object["status"] = old["status"].clone();
            }
            objects.store(plural, object, if old.is_some() { "MODIFIED" } else { "ADDED" });
        });
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        self.change(|objects| {
            let object = objects.stored.get(&(plural.to_owned(), name.to_owned())).unwrap().clone();
            let object = objects.store(plural, object, "DELETED");
            objects.stored.remove(&(plural.to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned()));
        });
    }

    /// Deletes all objects of a resource and forgets the events: the next watch has to list again.
    pub(crate) fn lose_all(&self, plural: &str) {
        self.change(|objects| {
            objects.stored.retain(|(of, _), _| of != plural);
            objects.version += 1;
            objects.compacted = objects.version;
            objects.events.clear();
        });
    }

    /// The version of the next list expires after its first page.
    pub(crate) fn expire_a_page(&self) {
        self.change(|objects| objects.page_expires = true);
    }

    /// Refuses watches of a resource, and ends those that run.
    pub(crate) fn refuse_watches(&self, plural: &str, refused: bool) {
        self.change(|objects| {
            objects.unwatchable.clear();
            objects.unwatchable.extend(refused.then(|| plural.to_owned()));
            objects.cuts += 1;
        });
    }

    /// Cuts all watches.
    pub(crate) fn cut(&self) {
        self.change(|objects| objects.cuts += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Objects)) {
        change(&mut self.shared.objects.lock().unwrap());
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    /// Number of requests of one kind, such as `PUT leases`.
    pub(crate) fn count(&self, request: &str) -> usize {
        self.shared.objects.lock().unwrap().log.iter().filter(|logged| *logged == request).count()
    }

    /// While it is frozen, the server answers nothing.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }
}

fn problem(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason, "reason": reason,
        "code": code.as_u16(),
    });
    (code, [("content-type", "application/json")], status.to_string()).into_response()
}

fn answer(code: StatusCode, object: &Value) -> Response {
    (code, [("content-type", "application/json")], object.to_string()).into_response()
}

async fn handle(State(shared): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    shared.frozen.subscribe().wait_for(|frozen| !frozen).await.unwrap();
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let (group, version, namespace, plural, rest) = match &parts[..] {
        ["apis", group, version, "namespaces", namespace, plural, rest @ ..] => {
            (group, version, namespace, plural, rest)
        }
        ["api", version, "namespaces", namespace, plural, rest @ ..] => (&"core", version, namespace, plural, rest),
        _ => return problem(StatusCode::NOT_FOUND, "NotFound"),
    };
    assert_eq!(*namespace, NAMESPACE);
    let query: BTreeMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.into(), v.into()))
        .collect();
    let watching = query.get("watch").is_some_and(|word| word == "true" || word == "1");
    let verb = if watching { "WATCH" } else { method.as_str() };
    let part = rest.get(1).map(|part| format!("/{part}")).unwrap_or_default();
    let mut objects = shared.objects.lock().unwrap();
    objects.log.push(format!("{verb} {plural}{part}"));
    let key = (String::from(*plural), rest.first().map(|name| (*name).to_owned()).unwrap_or_default());
    let old = objects.stored.get(&key).cloned();
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let response = match (method.as_str(), rest, old) {
        ("GET", [], _) if watching => {
            let since: u64 = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default();
            if objects.unwatchable.iter().any(|one| one == plural) {
                return problem(StatusCode::FORBIDDEN, "Forbidden");
            }
            drop(objects);
            return watch_events(shared, key.0, since);
        }
        ("GET", [], _) if query.contains_key("continue") && std::mem::take(&mut objects.page_expires) => {
            problem(StatusCode::GONE, "Expired")
        }
        ("GET", [], _) => list(&objects, (*group, *version), plural, &query),
        ("GET", _, Some(object)) => answer(StatusCode::OK, &object),
        ("POST", [], _) => {
            let name = sent["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if objects.stored.contains_key(&(key.0.clone(), name)) {
                return problem(StatusCode::CONFLICT, "AlreadyExists");
            }
            answer(StatusCode::CREATED, &objects.store(plural, sent, "ADDED"))
        }
        ("PUT", [_], Some(old)) => {
            if sent["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
                return problem(StatusCode::CONFLICT, "Conflict");
            }
            answer(StatusCode::OK, &objects.store(plural, sent, "MODIFIED"))
        }
        ("PATCH", [_], Some(mut old)) if *plural == "events" => {
            old["series"] = sent["series"].clone();
            answer(StatusCode::OK, &objects.store(plural, old, "MODIFIED"))
        }
        ("PATCH", [_], Some(mut old)) => {
            for (label, value) in sent["metadata"]["labels"].as_object().unwrap() {
                old["metadata"]["labels"][label] = value.clone();
            }
            answer(StatusCode::OK, &objects.store(plural, old, "MODIFIED"))
        }
        ("PATCH", [_, "status"], Some(mut old)) => {
            old["status"] = sent["status"].clone();
            answer(StatusCode::OK, &objects.store(plural, old, "MODIFIED"))
        }
        _ => problem(StatusCode::NOT_FOUND, "NotFound"),
    };
    drop(objects);
    shared.changed.send_modify(|changes| *changes += 1);
    response
}

/// A page of a list. `continue` is the name of the last object of the page before.
fn list(objects: &Objects, (group, version): (&str, &str), plural: &str, query: &BTreeMap<String, String>) -> Response {
    let limit = query.get("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let after = query.get("continue").cloned().unwrap_or_default();
    let mut all = objects.stored.iter().filter(|((of, name), _)| of == plural && *name > after);
    let page: Vec<_> = all.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": objects.version.to_string()});
    if let (Some(((_, last), _)), true) = (page.last(), all.next().is_some()) {
        metadata["continue"] = last.as_str().into();
    }
    let items: Vec<&Value> = page.iter().map(|(_, object)| *object).collect();
    answer(
        StatusCode::OK,
        &json!({"apiVersion": format!("{group}/{version}"), "kind": "List", "metadata": metadata, "items": items}),
    )
}

fn watch_events(shared: Shared, plural: String, mut since: u64) -> Response {
    let (lines, stream) = mpsc::channel::<Result<String, Infallible>>(16);
    tokio::spawn(async move {
        let mut changed = shared.changed.subscribe();
        let cuts = shared.objects.lock().unwrap().cuts;
        loop {
            let (expired, new, version) = {
                let objects = shared.objects.lock().unwrap();
                let new: Vec<Value> = objects
                    .events
                    .iter()
                    .filter(|(version, of, _)| *version > since && *of == plural)
                    .map(|(_, _, event)| event.clone())
                    .collect();
                if objects.cuts != cuts {
                    return;
                }
                (since < objects.compacted, new, objects.version)
            };
            if expired {
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
                let _ = lines.send(Ok(format!("{}\n", json!({"type": "ERROR", "object": status})))).await;
                return;
            }
            for event in new {
                if lines.send(Ok(format!("{event}\n"))).await.is_err() {
                    return;
                }
            }
            if version > since {
                let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
                let object = json!({"apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": metadata});
                let bookmark = json!({"type": "BOOKMARK", "object": object});
                let _ = lines.send(Ok(format!("{bookmark}\n"))).await;
            }
            since = version;
            tokio::select! {
                changed = changed.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(Duration::from_secs(5)) => if lines.is_closed() { return },
            }
        }
    });
    ([("content-type", "application/json")], Body::from_stream(ReceiverStream::new(stream))).into_response()
}
