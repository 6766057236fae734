//! `status` of the custom resources: the leader writes it, by server-side apply, only when it changed.
//!
//! Transition times are read from the object, so that a new leader keeps them. Fields that change with each list of
//! apps are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::chain;
use super::crd::{GROUP, VERSION};
use crate::clock;
use crate::operator::lead::Leadership;
use crate::reconcile::app::AppName;
use crate::reconcile::condition::Truth;
use crate::reconcile::desired::Declared;
use crate::reconcile::reason::Reason;
use crate::status::app::App;
use crate::status::{Board, Change};

/// Owner of the fields that are applied.
const MANAGER: &str = "campos-operator";
/// Requests in flight at once: enough for 10,000 objects within a minute.
const AT_ONCE: usize = 8;
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(15);
/// Changes within this time are written together.
const GATHER: Duration = Duration::from_millis(100);
/// First and longest wait after a failure.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Maximum number of changes of one read of the board.
const MOST: usize = 10_000;
/// The written fields.
const FIELDS: [&str; 7] =
    ["observedGeneration", "desired", "desiredBecause", "observed", "conditions", "lastAction", "nextTransition"];
/// Maximum number of sends of the same status, so that a server that changes each status is not flooded.
const MOST_REPEATS: u32 = 3;
/// The written conditions.
const CONDITIONS: [&str; 3] = ["Ready", "Reconciling", "Stalled"];

/// Stored version of each App.
#[derive(Debug, Default)]
pub struct Registry {
    stored: Mutex<StoredApps>,
    changed: Notify,
    /// Time of the last answer of the API server to a list or a watch, in milliseconds since the epoch.
    pub answered: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct StoredApps {
    apps: HashMap<Arc<str>, Stored>,
    /// Apps whose object changed since the last write.
    changed: BTreeSet<Arc<str>>,
}

/// One App as it is stored.
#[derive(Debug, Clone, Default)]
struct Stored {
    uid: Arc<str>,
    generation: i64,
    /// The spec of this generation.
    declared: Option<Arc<Declared>>,
    status: StoredStatus,
    sent: Option<Sent>,
}

/// The last status that was sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    hash: u64,
    times: u32,
    /// Whether another process (an earlier leader, for example) replaced this status.
    overwritten: bool,
}

impl Sent {
    /// Returns whether a status with this hash may be sent.
    fn allows(self, hash: u64) -> bool {
        self.hash != hash || (self.overwritten && self.times < MOST_REPEATS)
    }
}

/// A version of an App that the source delivered.
#[derive(Debug)]
pub struct Taken {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub generation: i64,
    pub status: StoredStatus,
}

/// The part of a stored status that decides what is written. The whole status of 10,000 Apps takes 30 MB.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoredStatus {
    /// Status and last transition of each of [`CONDITIONS`].
    transitions: [Option<(Truth, Timestamp)>; CONDITIONS.len()],
    /// Hash of the fields that the operator owns.
    hash: u64,
}

impl From<&Value> for StoredStatus {
    fn from(status: &Value) -> Self {
        Self { transitions: CONDITIONS.map(|kind| transition(status, kind)), hash: hash(&ours(status)) }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, StoredApps> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the versions that the source delivered.
    pub fn take(&self, taken: Vec<Taken>, changed: &[Arc<Declared>], removed: &[AppName]) {
        let mut known = self.lock();
        for Taken { name, uid, generation, status } in taken {
            let stored = known.apps.entry(name.clone()).or_default();
            // A new object with the same name has no status yet.
            let same = stored.uid == uid;
            stored.sent =
                stored.sent.filter(|_| same).map(|sent| Sent { overwritten: sent.hash != status.hash, ..sent });
            stored.uid = uid;
            stored.generation = generation;
            stored.status = status;
            known.changed.insert(name);
        }
        for declared in changed {
            if let Some(stored) = known.apps.get_mut(declared.name.as_str()) {
                stored.declared = Some(declared.clone());
            }
        }
        for name in removed {
            known.apps.remove(name.as_str());
        }
        drop(known);
        self.changed.notify_one();
    }

    /// The uid of an App.
    pub fn uid(&self, name: &str) -> Option<Arc<str>> {
        self.lock().apps.get(name).map(|stored| stored.uid.clone())
    }

    fn take_changed(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.lock().changed)
    }

    /// The status to write for an app, and its hash. `None` if the stored status is equal, or if the newest generation
    /// is not applied yet.
    fn due(&self, app: &App) -> Option<(Value, u64)> {
        let known = self.lock();
        let stored = known.apps.get(app.name().as_str())?;
        if stored.declared.as_ref() != Some(&app.declared) {
            return None;
        }
        let status = content(app, stored);
        let hash = hash(&status);
        (hash != stored.status.hash && stored.sent.is_none_or(|sent| sent.allows(hash))).then_some((status, hash))
    }

    fn sent(&self, name: &str, hash: u64) {
        if let Some(stored) = self.lock().apps.get_mut(name) {
            let times = stored.sent.filter(|sent| sent.hash == hash).map_or(0, |sent| sent.times);
            stored.sent = Some(Sent { hash, times: times + 1, overwritten: false });
        }
    }

    /// The status did not arrive.
    fn not_sent(&self, name: &str) {
        if let Some(stored) = self.lock().apps.get_mut(name) {
            stored.sent = None;
        }
    }
}

/// Status and last transition of a condition of an object.
fn transition(status: &Value, kind: &str) -> Option<(Truth, Timestamp)> {
    let condition = status["conditions"].as_array()?.iter().find(|one| one["type"] == kind)?;
    let truths = [Truth::True, Truth::False, Truth::Unknown];
    let truth = truths.into_iter().find(|truth| condition["status"] == truth.as_str())?;
    Some((truth, condition["lastTransitionTime"].as_str()?.parse().ok()?))
}

/// The fields of a status that this process writes.
fn ours(status: &Value) -> Value {
    let mut fields = Map::new();
    for field in FIELDS {
        if let Some(value) = status.get(field) {
            fields.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(Value::Array(conditions)) = fields.get_mut("conditions") {
        conditions.retain(|one| CONDITIONS.iter().any(|kind| one["type"] == *kind));
    }
    fields.into()
}

/// The written status of an app.
fn content(app: &App, stored: &Stored) -> Value {
    let shown = app.published().status;
    let conditions = shown.conditions.iter().map(|one| {
        let stored_at =
            CONDITIONS.iter().position(|kind| *kind == one.kind).and_then(|at| stored.status.transitions[at]);
        let since = stored_at.filter(|(truth, _)| truth.as_str() == one.status).map(|(_, since)| since);
        let since = since.or(one.last_transition_time).map(|time| format!("{time:.0}"));
        json!({
            "type": one.kind, "status": one.status, "reason": one.reason, "message": one.message,
            "lastTransitionTime": since, "observedGeneration": stored.generation,
        })
    });
    let mut status = json!({
        "observedGeneration": stored.generation,
        "desired": shown.desired,
        "desiredBecause": shown.desired_because,
        "observed": shown.observed,
        "conditions": conditions.collect::<Vec<_>>(),
        "lastAction": shown.last_action,
        "nextTransition": shown.next_transition,
    });
    remove_nulls(&mut status);
    status
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A hash that does not depend on the order of fields.
fn hash(value: &Value) -> u64 {
    fn feed(value: &Value, hasher: &mut DefaultHasher) {
        match value {
            Value::Object(fields) => {
                let sorted: BTreeMap<_, _> = fields.iter().collect();
                sorted.len().hash(hasher);
                for (name, value) in sorted {
                    name.hash(hasher);
                    feed(value, hasher);
                }
            }
            Value::Array(items) => {
                items.len().hash(hasher);
                for item in items {
                    feed(item, hasher);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string().hash(hasher),
        }
    }
    let mut hasher = DefaultHasher::new();
    feed(value, &mut hasher);
    hasher.finish()
}

/// Writes the status of each App that changes, while this process leads.
pub fn start(
    api: Api<DynamicObject>,
    registry: Arc<Registry>,
    board: Board,
    lead: Option<watch::Receiver<Leadership>>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(write(api, registry, board, lead))
}

async fn write(
    api: Api<DynamicObject>,
    registry: Arc<Registry>,
    board: Board,
    mut lead: Option<watch::Receiver<Leadership>>,
) {
    let mut changes = board.changes();
    let mut version = 0;
    let mut pending: BTreeSet<Arc<str>> = BTreeSet::new();
    // Statuses whose write failed. They are retried separately, so that they do not delay others.
    let mut failed: BTreeSet<Arc<str>> = BTreeSet::new();
    let (mut wait, mut retry_at) = (BACKOFF[0], None);
    let mut led_since = None;
    loop {
        if let Some(lead) = lead.as_mut().filter(|lead| !lead.borrow().may_send) {
            if lead.wait_for(|lead| lead.may_send).await.is_err() {
                return;
            }
            led_since = Some(clock::timestamp());
            // The last leader may have written any of them.
            pending.extend(names(&board));
        }
        let newest = *changes.borrow_and_update();
        if let Some(some) = board.since(version, MOST) {
            if some.len() < MOST {
                version = newest;
            }
            for (at, change) in some {
                version = version.max(at);
                if let Change::App(app) = change {
                    pending.insert(app.name().as_str().into());
                }
            }
        } else {
            version = board.versions().board;
            pending.extend(names(&board));
        }
        pending.extend(registry.take_changed());
        let completed_at = board.daemon().observation.completed_at;
        let observed = completed_at.is_some_and(|at| led_since.is_none_or(|since| at >= since));
        let (early, due): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut pending).into_iter().partition(|name| is_early(&board, name, observed));
        pending = early;
        failed.extend(write_all(&api, &registry, &board, lead.as_ref(), due).await);
        if failed.is_empty() {
            (wait, retry_at) = (BACKOFF[0], None);
        } else if retry_at.is_none() {
            retry_at = Some(Instant::now() + wait);
            wait = (wait * 2).min(BACKOFF[1]);
        }
        tokio::select! {
            newer = changes.wait_for(|now| *now > version) => if newer.is_err() { return },
            () = registry.changed.notified() => {}
            () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                retry_at = None;
                pending.append(&mut failed);
            }
        }
        sleep(GATHER).await;
    }
}

fn names(board: &Board) -> Vec<Arc<str>> {
    board.apps().iter().map(|app| Arc::from(app.name().as_str())).collect()
}

/// Returns whether the stored status says more than the board: before the first reading of this leader.
fn is_early(board: &Board, name: &str, observed: bool) -> bool {
    let reason = board.app(name).map(|app| app.reason());
    reason == Some(Reason::Standby) || (!observed && reason == Some(Reason::NotObserved))
}

/// Writes the pending statuses while this process leads. Returns the apps whose status could not be written.
async fn write_all(
    api: &Api<DynamicObject>,
    registry: &Registry,
    board: &Board,
    lead: Option<&watch::Receiver<Leadership>>,
    names: BTreeSet<Arc<str>>,
) -> BTreeSet<Arc<str>> {
    let due = names.into_iter().filter_map(|name| {
        let app = board.app(&name)?;
        let (status, hash) = registry.due(&app)?;
        Some((name, status, hash))
    });
    let requests = due.map(|(name, status, hash)| async move {
        if lead.is_some_and(|lead| !lead.borrow().may_send) {
            return None;
        }
        registry.sent(&name, hash);
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "App", "metadata": {"name": &*name}, "status": status,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(object);
        let failure = match timeout(DEADLINE, api.patch_status(&name, &parameters, &patch)).await {
            Ok(Ok(_)) => return None,
            // The object was deleted.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return None,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
        };
        registry.not_sent(&name);
        Some((name, failure))
    });
    let failures: Vec<(Arc<str>, String)> =
        stream::iter(requests).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
    if let Some((app, cause)) = failures.first() {
        warn!(app = &**app, count = failures.len(), cause, "could not write the status of Apps; retrying");
    }
    failures.into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_does_not_depend_on_the_order() {
        let one: Value = serde_json::from_str(r#"{"a": 1, "b": [{"x": "1", "y": 2}]}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b": [{"y": 2, "x": "1"}], "a": 1}"#).unwrap();
        assert_eq!(hash(&one), hash(&two));
        assert_ne!(hash(&one), hash(&json!({"a": 1, "b": [{"x": 1, "y": 2}]})));
    }

    #[test]
    fn a_transition_is_continued_only_from_a_whole_condition() {
        let status = json!({"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"},
            {"type": "Stalled", "status": "False", "lastTransitionTime": "yesterday"},
        ]});
        assert_eq!(transition(&status, "Ready"), Some((Truth::True, "2026-01-02T03:04:05Z".parse().unwrap())));
        assert_eq!((transition(&status, "Stalled"), transition(&status, "Reconciling")), (None, None));
        assert_eq!(transition(&Value::Null, "Ready"), None);
    }

    #[test]
    fn a_status_that_another_process_overwrote_is_written_again_a_few_times() {
        let registry = Registry::default();
        let version = |uid: &str, hash| {
            let status = StoredStatus { hash, ..StoredStatus::default() };
            registry.take(vec![Taken { name: "a".into(), uid: uid.into(), generation: 1, status }], &[], &[]);
        };
        let sent = || registry.lock().apps["a"].sent;
        version("1", 7);
        for times in 1..=MOST_REPEATS {
            assert!(sent().is_none_or(|sent| sent.allows(8)));
            registry.sent("a", 8);
            assert_eq!(sent().map(|sent| (sent.times, sent.overwritten)), Some((times, false)));
            version("1", 8);
            assert!(!sent().unwrap().allows(8), "the object has it");
            version("1", 7);
            assert!(sent().unwrap().overwritten);
        }
        assert!(!sent().unwrap().allows(8), "the server changes each status");
        assert!(sent().unwrap().allows(9));
        registry.sent("a", 9);
        assert_eq!(sent().unwrap().times, 1, "another status");
        version("2", 0);
        assert!(sent().is_none(), "a new object with the same name");
    }

    #[test]
    fn fields_of_others_are_not_compared() {
        let status = json!({
            "observed": "Running", "note": "of another tool", "observedAt": "x",
            "conditions": [{"type": "Ready"}, {"type": "Synced"}],
        });
        assert_eq!(ours(&status), json!({"observed": "Running", "conditions": [{"type": "Ready"}]}));
        let mut nulls = json!({"a": null, "b": [{"c": null, "d": 1}]});
        remove_nulls(&mut nulls);
        assert_eq!(nulls, json!({"b": [{"d": 1}]}));
    }
}
