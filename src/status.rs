//! What is the operator doing, as far as anybody outside can see? One writer (the operator's loop), many readers.
//!
//! The shapes are those of design section 7 and are serialised as they stand. Nothing in here holds a token, a body or
//! an environment variable.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use crate::reconcile::app::AppName;
use crate::reconcile::condition::{Conditions, Reason, Truth};
use crate::reconcile::desired::Suspension;
use crate::reconcile::moment::Moment;
use crate::reconcile::schedule;

/// The API's version, in every object.
pub const API_VERSION: &str = "campos-operator.dev/v1";

/// One app, as `/api/v1/apps/{name}` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// `campos-operator.dev/v1`.
    pub api_version: &'static str,
    /// `App`.
    pub kind: &'static str,
    /// As in the manifest.
    pub metadata: Metadata,
    /// As in the manifest; absent where no good one was ever seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Spec>,
    /// What is known and done.
    pub status: Status,
}

/// `metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The object's name.
    pub name: String,
    /// Labels, for selectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
}

/// `spec`, spelled as in a manifest, so that an exported object can be applied again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The app on the platform.
    pub app_id: String,
    /// `Running` or `Stopped`.
    pub state: &'static str,
    /// `Full`, `StopOnly` or `ObserveOnly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<&'static str>,
    /// `true`, or why and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<Suspend>,
    /// The windows, as they would be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// `spec.schedule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// IANA name.
    pub time_zone: Arc<str>,
    /// The first that contains the present moment decides.
    pub windows: Vec<Window>,
}

/// One of `spec.schedule.windows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// `Running` or `Stopped`.
    pub state: &'static str,
    /// When it is: `from` and `to` (and `days`), or `cron` and `duration`.
    #[serde(flatten)]
    pub when: BTreeMap<&'static str, String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

impl From<&schedule::Schedule> for Schedule {
    fn from(schedule: &schedule::Schedule) -> Self {
        let window = |window: &schedule::Window| Window {
            state: window.state.as_str(),
            when: window.span.fields().into_iter().collect(),
            reason: window.reason.clone(),
        };
        Self { time_zone: schedule.zone_name.clone(), windows: schedule.windows.iter().map(window).collect() }
    }
}

/// `spec.suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Suspend {
    /// Until further notice.
    Plain(bool),
    /// With a reason or an end.
    Told {
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
        /// When it ends.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
}

impl From<&Suspension> for Suspend {
    fn from(suspension: &Suspension) -> Self {
        match suspension {
            Suspension { reason: None, until: None } => Self::Plain(true),
            Suspension { reason, until } => Self::Told { reason: reason.clone(), until: *until },
        }
    }
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation that the rest is about.
    pub observed_generation: u64,
    /// The snapshot of the manifests that it was last decided from.
    pub revision: Arc<str>,
    /// Where the object is declared.
    pub source: Source,
    /// `Running` or `Stopped`; absent where nothing can be told.
    pub desired: Option<&'static str>,
    /// Which part of the manifest says so: `state`, `suspend` or `window 2 (Fri 21:00-Mon 06:00)`.
    pub desired_because: Option<Arc<str>>,
    /// What was seen last, as far as it is to be trusted.
    pub observed: &'static str,
    /// When that arrived.
    pub observed_at: Option<Timestamp>,
    /// Ready, Reconciling, Stalled.
    pub conditions: Vec<Condition>,
    /// The last stop or start that was tried.
    pub last_action: Option<LastAction>,
    /// When it is looked at again.
    pub next_look_at: Option<Timestamp>,
    /// When what is asked changes by itself, and to what.
    pub next_transition: Option<Transition>,
}

/// `status.source`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Path below the manifest directory.
    pub file: Arc<str>,
    /// Line of the document.
    pub line: u32,
}

/// `status.nextTransition`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// To what.
    pub state: &'static str,
}

/// One of `status.conditions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`, `Reconciling` or `Stalled`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    #[serde(serialize_with = "truth")]
    pub status: Truth,
    /// One of the closed list.
    #[serde(serialize_with = "reason")]
    pub reason: Reason,
    /// The same for a person.
    pub message: Arc<str>,
    /// When `status` changed last.
    pub last_transition_time: Timestamp,
    /// The generation that it is about.
    pub observed_generation: u64,
}

/// `status.lastAction`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAction {
    /// `stop` or `start`.
    pub action: &'static str,
    /// When it was sent.
    pub at: Timestamp,
    /// The how-manieth try.
    pub attempt: u32,
    /// `InFlight`, `Accepted`, `Verified`, `NotEffective`, or the verdict on a failure.
    pub result: &'static str,
    /// The answer's HTTP status.
    pub http_status: Option<u16>,
    /// The word that the server returned in `status`.
    pub returned_status: Option<Arc<str>>,
    /// The flag that it returned in `currentResourceMetrics.online`.
    pub returned_online: Option<bool>,
    /// What failed.
    pub error: Option<Arc<str>>,
}

/// `/api/v1/status`: the daemon itself.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Daemon {
    /// The source of manifests.
    pub source: SourceStatus,
    /// The list of apps.
    pub observation: Observation,
    /// The account's budget.
    pub governor: GovernorStatus,
    /// Whether calls are withheld because of `--dry-run`.
    pub dry_run: bool,
    /// The daemon's policy.
    pub policy: &'static str,
}

/// The source of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Whether a whole set of manifests was loaded since the start.
    pub loaded: bool,
    /// Whether the directories could be read the last time.
    pub available: bool,
    /// Why not.
    pub trouble: Option<Arc<str>>,
    /// The snapshot's revision.
    pub revision: Arc<str>,
    /// Number of manifest files.
    pub files: usize,
    /// Number of entries passed over.
    pub skipped: usize,
    /// What is wrong with the files.
    pub problems: Vec<Arc<str>>,
}

/// The list of apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Whether a complete list was observed since the start.
    pub complete_once: bool,
    /// When the last complete list arrived.
    pub completed_at: Option<Timestamp>,
    /// Apps on it.
    pub apps: usize,
    /// Pages of it.
    pub pages: u32,
    /// Why the last list was not complete.
    pub incomplete: Option<Arc<str>>,
    /// Seconds between lists, stretched where there are many pages.
    pub interval_seconds: u64,
}

/// The account's budget.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct GovernorStatus {
    /// Requests a minute allowed now; null if any number is.
    pub requests_per_minute: Option<f64>,
    /// What the server said remains.
    pub remaining: Option<u32>,
    /// Whether the server asked for a pause.
    pub paused: bool,
    /// Whether the breaker is open.
    pub breaker_open: bool,
    /// Whether the token is refused.
    pub account_blocked: bool,
    /// Requests sent since the start.
    pub requests: u64,
}

/// Everything that can be seen, at one moment.
#[derive(Debug, Default)]
struct Seen {
    apps: BTreeMap<AppName, Arc<App>>,
    daemon: Daemon,
    progress: Moment,
    interval: Duration,
}

/// The board that the loop writes on and everybody reads.
#[derive(Debug, Clone)]
pub struct Board {
    seen: Arc<RwLock<Seen>>,
    version: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self { seen: Arc::default(), version: watch::channel(0).0 }
    }
}

impl Board {
    /// Puts up what is known of one app.
    pub fn set_app(&self, name: &AppName, app: App) {
        self.write(|seen| drop(seen.apps.insert(name.clone(), Arc::new(app))));
    }

    /// Takes an app off the board.
    pub fn remove_app(&self, name: &AppName) {
        self.write(|seen| drop(seen.apps.remove(name)));
    }

    /// Puts up what is known of the daemon.
    pub fn set_daemon(&self, daemon: Daemon) {
        self.write(|seen| seen.daemon = daemon);
    }

    /// Notes that the loop went round at `now`, and that it means to do so every `interval` at least.
    pub fn progress(&self, now: Moment, interval: Duration) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        (seen.progress, seen.interval) = (now, interval);
    }

    /// Every app, by name.
    pub fn apps(&self) -> Vec<Arc<App>> {
        self.read().apps.values().cloned().collect()
    }

    /// One app.
    pub fn app(&self, name: &str) -> Option<Arc<App>> {
        let name: AppName = name.parse().ok()?;
        self.read().apps.get(&name).cloned()
    }

    /// The daemon.
    pub fn daemon(&self) -> Daemon {
        self.read().daemon.clone()
    }

    /// Whether the loop has gone round within three intervals.
    pub fn alive(&self, now: Moment) -> bool {
        let seen = self.read();
        now.since(seen.progress) <= seen.interval.max(Duration::from_secs(1)) * 3
    }

    /// Tells of every change: the number grows.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, Seen> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.write().unwrap_or_else(PoisonError::into_inner));
        self.version.send_modify(|version| *version += 1);
    }
}

/// The three conditions as they are shown. `lastTransitionTime` moves only where a condition's status does.
pub fn conditions(
    folded: Conditions,
    message: &Arc<str>,
    generation: u64,
    before: &[Condition],
    wall: Timestamp,
) -> Vec<Condition> {
    [("Ready", folded.ready), ("Reconciling", folded.reconciling), ("Stalled", folded.stalled)]
        .into_iter()
        .map(|(kind, status)| {
            let known = before.iter().find(|known| known.kind == kind && known.status == status);
            Condition {
                kind,
                status,
                reason: folded.reason,
                message: message.clone(),
                last_transition_time: known.map_or(wall, |known| known.last_transition_time),
                observed_generation: generation,
            }
        })
        .collect()
}

// serde's `serialize_with` hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn truth<S: Serializer>(truth: &Truth, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(truth.as_str())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn reason<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.as_str())
}
