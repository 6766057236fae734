//! Custom resources of one namespace as a source: list and watch, without a store.
//!
//! One task for each resource lists, watches, and lists again when its version has expired. Another task passes their
//! messages to `manifest::objects`. A watch ends after [`WATCH`], so that a server without answers is detected. A
//! deletion releases the app at once; an empty list releases nothing if there were apps before.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::chain;
use super::crd::{GROUP, VERSION};
use super::status::{Registry, StoredStatus, Taken};
use crate::clock;
use crate::manifest::objects::{Objects, RESOURCES};
use crate::manifest::source::Loaded;
use crate::source::{SourceReport, Update};

/// Number of objects of one page of a list.
const PAGE: u32 = 500;
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(15);
/// Time after which the server ends a watch.
const WATCH: Duration = Duration::from_secs(60);
/// A watch that stays open this long works, even without an event.
const WORKS_AFTER: Duration = Duration::from_secs(1);
/// Maximum number of failed watches in a row. Then the resource is listed again.
const MOST_FRUITLESS: u32 = 3;
/// First and longest wait after a failure.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Message of a resource task.
#[derive(Debug)]
enum Event {
    /// A part of a list.
    Page(Vec<DynamicObject>),
    /// The end of a list: the names of all objects, and its version.
    Listed(BTreeSet<Arc<str>>, String),
    Applied(Box<DynamicObject>),
    Deleted(Box<DynamicObject>),
    /// The server answers, and allows the watch.
    Watching,
    /// The server does not answer, or forbids the watch.
    ListFailed(String),
    WatchFailed(String),
}

type Sender = UnboundedSender<(&'static str, Event)>;

/// Watches the resources of a namespace, records the Apps in `registry`, and passes each change to `deliver`, in order.
pub fn start(
    client: &Client,
    namespace: &str,
    allow_empty: bool,
    registry: Arc<Registry>,
    deliver: impl FnMut(Update) + Send + 'static,
) {
    let (sender, events) = unbounded_channel();
    for (resource, kind) in RESOURCES {
        tokio::spawn(follow(api(client, namespace, resource, kind), resource, sender.clone()));
    }
    tokio::spawn(collect(events, allow_empty, registry, deliver));
}

/// Lists the resources of a namespace once.
///
/// # Errors
/// If one of them cannot be listed.
pub async fn load(client: &Client, namespace: &str) -> Result<Loaded, String> {
    let (sender, mut events) = unbounded_channel();
    for (resource, kind) in RESOURCES {
        let listed = list(&api(client, namespace, resource, kind), resource, &sender).await;
        listed.map_err(|cause| format!("could not list {resource}: {cause}"))?;
    }
    let mut state = Collected::default();
    while let Ok((resource, event)) = events.try_recv() {
        state.take(resource, event);
    }
    let update = state.update().unwrap_or_else(|| state.objects.update(clock::timestamp()));
    Ok((update.changed, state.objects.diagnostics(), update.source))
}

pub fn api(client: &Client, namespace: &str, resource: &str, kind: &str) -> Api<DynamicObject> {
    let mut described = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind));
    resource.clone_into(&mut described.plural);
    Api::namespaced_with(client.clone(), namespace, &described)
}

/// Lists and watches one resource until the receiver is closed.
async fn follow(api: Api<DynamicObject>, resource: &'static str, sender: Sender) {
    let mut wait = BACKOFF[0];
    while !sender.is_closed() {
        match list(&api, resource, &sender).await {
            Ok(version) => watch(&api, resource, version, &sender, &mut wait).await,
            Err(cause) => {
                let failure = format!("could not list {resource}: {cause}");
                let _ = sender.send((resource, Event::ListFailed(failure)));
            }
        }
        // Also before a list after an expired version: each version may expire at once.
        pause(&mut wait).await;
    }
}

async fn pause(wait: &mut Duration) {
    sleep(*wait).await;
    *wait = (*wait * 2).min(BACKOFF[1]);
}

/// Sends the objects page by page, so that memory never has a whole list. Returns the version.
async fn list(api: &Api<DynamicObject>, resource: &'static str, sender: &Sender) -> Result<String, String> {
    let (mut names, mut has_restarted) = (BTreeSet::new(), false);
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = match timeout(DEADLINE, api.list(&parameters)).await.map_err(|_| silent(DEADLINE))? {
            // The version of the first pages expired. The list starts again once.
            Err(kube::Error::Api(status)) if status.code == 410 && !has_restarted => {
                has_restarted = true;
                names.clear();
                parameters = ListParams::default().limit(PAGE);
                continue;
            }
            page => page.map_err(|error| chain(&error))?,
        };
        names.extend(page.items.iter().map(|object| Arc::from(object.name_any())));
        // Fails if the receiver is closed, which the caller checks.
        let _ = sender.send((resource, Event::Page(page.items)));
        if let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) {
            parameters = parameters.continue_token(&token);
        } else {
            let version = page.metadata.resource_version.unwrap_or_default();
            let _ = sender.send((resource, Event::Listed(names, version.clone())));
            return Ok(version);
        }
    }
}

fn silent(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

/// Watches from `version` until the version has expired.
async fn watch(
    api: &Api<DynamicObject>,
    resource: &'static str,
    mut version: String,
    sender: &Sender,
    wait: &mut Duration,
) {
    let parameters = WatchParams::default().timeout(u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX));
    let mut fruitless = 0;
    while !sender.is_closed() && fruitless < MOST_FRUITLESS {
        let failure = match timeout(DEADLINE, api.watch(&parameters, &version)).await {
            Err(_) => silent(DEADLINE),
            Ok(Err(kube::Error::Api(status))) if status.code == 410 => return,
            Ok(Err(error)) => chain(&error),
            Ok(Ok(stream)) => {
                let mut works = false;
                let end = read(pin!(stream), resource, &mut version, sender, &mut works).await;
                if works && !matches!(end, WatchEnd::Failed(_)) {
                    (fruitless, *wait) = (0, BACKOFF[0]);
                }
                match end {
                    WatchEnd::Expired => return,
                    WatchEnd::Closed if works => {
                        sleep(BACKOFF[0]).await;
                        continue;
                    }
                    WatchEnd::Closed => {
                        fruitless += 1;
                        if fruitless < MOST_FRUITLESS {
                            pause(wait).await;
                            continue;
                        }
                        format!("{fruitless} watches in a row ended at once")
                    }
                    WatchEnd::Failed(cause) => cause,
                }
            }
        };
        let _ = sender.send((resource, Event::WatchFailed(format!("could not watch {resource}: {failure}"))));
        pause(wait).await;
    }
}

/// End of a watch.
enum WatchEnd {
    /// The version is too old: the resource must be listed again.
    Expired,
    /// The server or the network ended the watch.
    Closed,
    Failed(String),
}

async fn read(
    mut stream: std::pin::Pin<&mut impl futures_util::Stream<Item = kube::Result<WatchEvent<DynamicObject>>>>,
    resource: &'static str,
    version: &mut String,
    sender: &Sender,
    works: &mut bool,
) -> WatchEnd {
    let silence = WATCH + DEADLINE;
    loop {
        let limit = if *works { silence } else { WORKS_AFTER };
        let event = match timeout(limit, stream.next()).await {
            Err(_) if !*works => {
                *works = true;
                let _ = sender.send((resource, Event::Watching));
                continue;
            }
            Err(_) => return WatchEnd::Failed(silent(silence)),
            Ok(None) => return WatchEnd::Closed,
            Ok(Some(Err(error))) => {
                debug!(resource, error = chain(&error), "a watch ended with an error");
                return WatchEnd::Closed;
            }
            Ok(Some(Ok(event))) => event,
        };
        let event = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                *version = object.resource_version().unwrap_or_default();
                Event::Applied(Box::new(object))
            }
            WatchEvent::Deleted(object) => {
                *version = object.resource_version().unwrap_or_default();
                Event::Deleted(Box::new(object))
            }
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                continue;
            }
            WatchEvent::Error(status) if status.code == 410 => return WatchEnd::Expired,
            WatchEvent::Error(status) => return WatchEnd::Failed(status.message.clone()),
        };
        if !std::mem::replace(works, true) {
            let _ = sender.send((resource, Event::Watching));
        }
        if sender.send((resource, event)).is_err() {
            return WatchEnd::Closed;
        }
    }
}

/// Passes the messages of the tasks on.
async fn collect(
    mut events: UnboundedReceiver<(&'static str, Event)>,
    allow_empty: bool,
    registry: Arc<Registry>,
    mut deliver: impl FnMut(Update) + Send,
) {
    let mut state = Collected { allow_empty, registry, ..Collected::default() };
    while let Some((resource, event)) = events.recv().await {
        state.take(resource, event);
        // Combine all queued messages into one change.
        while let Ok((resource, event)) = events.try_recv() {
            state.take(resource, event);
        }
        if let Some(update) = state.update() {
            deliver(update);
        }
    }
}

/// Collected state of all resources. Pure.
#[derive(Debug, Default)]
struct Collected {
    allow_empty: bool,
    objects: Objects,
    registry: Arc<Registry>,
    /// Apps that changed since the last update.
    taken: Vec<Taken>,
    /// The resources that were listed at least once, with the newest version of each.
    versions: BTreeMap<&'static str, String>,
    failures: BTreeMap<&'static str, String>,
    /// A list that succeeds does not end them.
    watch_failures: BTreeMap<&'static str, String>,
    /// Number of apps that an empty list did not show, and that stay in force.
    lost: usize,
    reported: Option<SourceReport>,
}

impl Collected {
    fn take(&mut self, resource: &'static str, event: Event) {
        if !matches!(event, Event::ListFailed(_) | Event::WatchFailed(_)) {
            let now = u64::try_from(clock::timestamp().as_millisecond()).unwrap_or_default();
            self.registry.answered.store(now, Ordering::Relaxed);
        }
        match event {
            Event::Page(objects) => objects.into_iter().for_each(|object| self.put(resource, object)),
            Event::Listed(names, version) => {
                self.failures.remove(resource);
                self.versions.insert(resource, version);
                let before = self.objects.count(resource);
                if resource == "apps" && names.is_empty() && before > 0 && !self.allow_empty {
                    self.lost = before;
                    return;
                }
                self.keep(resource, &names);
            }
            Event::Applied(object) => {
                if let Some(version) = object.resource_version() {
                    self.versions.insert(resource, version);
                }
                let name = object.name_any();
                self.put(resource, *object);
                if resource == "apps" && self.lost > 0 {
                    // A new App arrived, so the empty list was correct: release the other Apps.
                    self.keep(resource, &BTreeSet::from([name.into()]));
                }
            }
            Event::Deleted(object) => self.objects.remove(resource, &object.name_any()),
            Event::Watching => drop(self.watch_failures.remove(resource)),
            Event::ListFailed(cause) => drop(self.failures.insert(resource, cause)),
            Event::WatchFailed(cause) => drop(self.watch_failures.insert(resource, cause)),
        }
    }

    fn put(&mut self, resource: &'static str, object: DynamicObject) {
        let name = object.name_any();
        let (labels, annotations) = (object.metadata.labels, object.metadata.annotations);
        let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
        let mut data = object.data;
        if resource == "apps" {
            let generation = object.metadata.generation.unwrap_or_default();
            let status = StoredStatus::from(data.get("status").unwrap_or(&Value::Null));
            let uid = object.metadata.uid.as_deref().unwrap_or_default().into();
            self.taken.push(Taken { name: name.as_str().into(), uid, generation, status });
        }
        let spec = data.get_mut("spec").map(Value::take).unwrap_or_default();
        self.objects.put(resource, &name, &json!({"metadata": metadata, "spec": spec}));
    }

    fn keep(&mut self, resource: &'static str, names: &BTreeSet<Arc<str>>) {
        self.objects.retain(resource, names);
        if resource == "apps" {
            self.lost = 0;
        }
    }

    /// The change since the last update, if there is one. Before each resource was listed once, only an error is a
    /// change.
    fn update(&mut self) -> Option<Update> {
        let loaded = self.versions.len() == RESOURCES.len();
        let lost = (self.lost > 0).then(|| {
            format!(
                "the Kubernetes API lists no App, and listed {} before, which stay in force; if this is intended, restart, \
                 or set --allow-empty",
                self.lost
            )
        });
        let causes: Vec<String> =
            self.failures.values().chain(self.watch_failures.values()).cloned().chain(lost).collect();
        if !loaded && causes.is_empty() {
            return None;
        }
        let mut update = if loaded {
            let update = self.objects.update(clock::timestamp());
            self.registry.take(std::mem::take(&mut self.taken), &update.changed, &update.removed);
            update
        } else {
            Update { changed: Vec::new(), removed: Vec::new(), texts: Vec::new(), source: SourceReport::default() }
        };
        update.source = SourceReport {
            available: causes.is_empty(),
            cause: (!causes.is_empty()).then(|| causes.join("; ").into()),
            loaded,
            revision: self.versions.get("apps").map(|version| Arc::from(version.as_str())).unwrap_or_default(),
            ..update.source
        };
        // A new version alone changes nothing.
        let same = self.reported.as_ref().is_some_and(|reported| {
            SourceReport { revision: update.source.revision.clone(), ..reported.clone() } == update.source
        });
        if same && update.changed.is_empty() && update.removed.is_empty() {
            return None;
        }
        self.reported = Some(update.source.clone());
        Some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::app::AppName;

    fn app(name: &str) -> DynamicObject {
        let object = json!({
            "apiVersion": "campos-operator.dev/v1", "kind": "App", "metadata": {"name": name, "resourceVersion": "7"},
            "spec": {"appId": name, "state": "Stopped"}, "status": {"observed": "Running"},
        });
        serde_json::from_value(object).unwrap()
    }

    fn list(state: &mut Collected, resource: &'static str, names: &[&str], version: &str) {
        state.take(resource, Event::Page(names.iter().map(|name| app(name)).collect()));
        state.take(resource, Event::Listed(names.iter().map(|name| Arc::from(*name)).collect(), version.into()));
    }

    fn loaded(apps: &[&str]) -> (Collected, Update) {
        let mut state = Collected::default();
        list(&mut state, "apps", apps, "5");
        assert_eq!(state.update(), None, "not everything is listed");
        list(&mut state, "schedules", &[], "5");
        list(&mut state, "approvals", &[], "5");
        let update = state.update().unwrap();
        (state, update)
    }

    fn removed(update: &Update) -> Vec<&str> {
        update.removed.iter().map(AppName::as_str).collect()
    }

    #[test]
    fn the_first_update_has_everything() {
        let (mut state, update) = loaded(&["a", "b"]);
        assert!(update.source.loaded && update.source.available);
        assert_eq!((update.changed.len(), &*update.source.revision), (2, "5"));
        state.take("apps", Event::Applied(Box::new(app("a"))));
        assert_eq!(state.update(), None, "the status alone changed");
    }

    #[test]
    fn a_deletion_releases_at_once_and_an_empty_list_does_not() {
        let (mut state, _) = loaded(&["a", "b"]);
        state.take("apps", Event::Deleted(Box::new(app("a"))));
        assert_eq!(removed(&state.update().unwrap()), ["a"]);
        list(&mut state, "apps", &[], "9");
        let held = state.update().unwrap();
        assert!(held.removed.is_empty() && !held.source.available, "{:?}", held.source);
        assert!(held.source.cause.unwrap().starts_with("the Kubernetes API lists no App, and listed 1 before"));
        state.take("apps", Event::Applied(Box::new(app("c"))));
        let update = state.update().unwrap();
        assert_eq!((removed(&update), update.source.available), (vec!["b"], true));
        state.take("apps", Event::Deleted(Box::new(app("c"))));
        assert_eq!(removed(&state.update().unwrap()), ["c"], "the last one, too");
    }

    #[test]
    fn a_list_releases_what_it_does_not_show() {
        let (mut state, _) = loaded(&["a", "b"]);
        list(&mut state, "apps", &["b"], "9");
        assert_eq!(removed(&state.update().unwrap()), ["a"]);
    }

    #[test]
    fn failures_keep_all_apps_until_the_watch_works_again() {
        let (mut state, _) = loaded(&["a"]);
        state.take("schedules", Event::WatchFailed("could not watch schedules: forbidden".into()));
        let update = state.update().unwrap();
        assert!(!update.source.available && update.source.loaded && update.removed.is_empty());
        state.take("schedules", Event::Watching);
        assert!(state.update().unwrap().source.available);
        let mut early = Collected::default();
        early.take("apps", Event::ListFailed("x".into()));
        assert!(!early.update().unwrap().source.loaded);
    }
}
