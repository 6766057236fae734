//! What is the operator doing, as far as anybody outside can see? One writer (the operator's loop), many readers.
//!
//! The shapes are those of design section 7 and are serialised as they stand. Nothing in here holds a token, a body or
//! an environment variable.
//!
//! Every change has a version, and the board remembers which app it was about: whoever follows along keeps one number
//! and asks for what came after it, so that a slow reader costs nothing here.

pub mod history;
pub mod meters;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use self::history::{Entry, Health, Pen};
use self::meters::Meters;
use crate::operator::clock::Clock;
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

impl App {
    /// The reason of its conditions.
    pub fn reason(&self) -> Option<Reason> {
        self.status.conditions.first().map(|ready| ready.reason)
    }

    /// Whether its manifest suspends it at present.
    pub fn suspended(&self) -> bool {
        self.status.desired_because.as_deref() == Some("suspend")
    }

    /// Whether a condition holds.
    pub fn truth(&self, kind: &str) -> Option<Truth> {
        self.status.conditions.iter().find(|condition| condition.kind == kind).map(|condition| condition.status)
    }
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

/// So many removals are remembered for those who follow along.
const REMOVALS: usize = 10_000;

/// An app with the version of its last change.
#[derive(Debug)]
struct Placed {
    app: Arc<App>,
    version: u64,
}

/// Everything that can be seen, at one moment.
#[derive(Debug)]
struct Seen {
    /// The version of the last change.
    version: u64,
    apps: BTreeMap<AppName, Placed>,
    /// Which app each version is about, where nothing came after it.
    order: BTreeMap<u64, AppName>,
    removed: VecDeque<(u64, AppName)>,
    /// Removals up to this version may be forgotten.
    covered_from: u64,
    apps_version: u64,
    daemon: Daemon,
    daemon_version: u64,
    history: VecDeque<(u64, Arc<Entry>)>,
    history_version: u64,
    health: Health,
    pen: Option<Pen>,
    progress: Moment,
    interval: Duration,
}

/// The versions of the board's parts: what an `ETag` is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of the last change of any kind.
    pub board: u64,
    /// Of the list of apps.
    pub apps: u64,
    /// Of the daemon.
    pub daemon: u64,
    /// Of the history.
    pub history: u64,
}

/// One change, as of now: what was overtaken since is not told.
#[derive(Debug, Clone)]
pub enum Change {
    /// An app is new or different.
    App(Arc<App>),
    /// An app is off the board.
    Removed(AppName),
    /// The daemon is different.
    Daemon,
    /// The history has a new entry.
    History(Arc<Entry>),
}

/// The board that the loop writes on and everybody reads.
#[derive(Debug, Clone)]
pub struct Board {
    seen: Arc<RwLock<Seen>>,
    version: watch::Sender<u64>,
    meters: Arc<Meters>,
}

impl Default for Board {
    fn default() -> Self {
        // Versions of one process are not to be taken for those of the one before it, whatever it counted up to: a
        // client that comes back with one is to be told apart from one that merely was away.
        let version = u64::try_from(Clock::wall_now().as_microsecond()).unwrap_or(1);
        let seen = Seen {
            version,
            apps: BTreeMap::new(),
            order: BTreeMap::new(),
            removed: VecDeque::new(),
            covered_from: version,
            apps_version: version,
            daemon: Daemon::default(),
            daemon_version: version,
            history: VecDeque::new(),
            history_version: version,
            health: Health { writable: true, ..Health::default() },
            pen: None,
            progress: Moment::START,
            interval: Duration::ZERO,
        };
        Self { seen: Arc::new(RwLock::new(seen)), version: watch::channel(version).0, meters: Arc::default() }
    }
}

impl Board {
    /// Puts up what is known of one app. Returns what was there before.
    pub fn set_app(&self, name: &AppName, app: App) -> Option<Arc<App>> {
        self.write(|seen, version| {
            let before = seen.apps.get(name);
            if before.is_some_and(|before| *before.app == app) {
                return (before.map(|before| before.app.clone()), false);
            }
            let before = seen.apps.insert(name.clone(), Placed { app: Arc::new(app), version });
            if let Some(before) = &before {
                seen.order.remove(&before.version);
            }
            seen.order.insert(version, name.clone());
            seen.apps_version = version;
            (before.map(|before| before.app), true)
        })
    }

    /// Takes an app off the board.
    pub fn remove_app(&self, name: &AppName) {
        self.write(|seen, version| {
            let Some(before) = seen.apps.remove(name) else { return ((), false) };
            seen.order.remove(&before.version);
            seen.removed.push_back((version, name.clone()));
            if seen.removed.len() > REMOVALS
                && let Some((forgotten, _)) = seen.removed.pop_front()
            {
                seen.covered_from = forgotten;
            }
            seen.apps_version = version;
            ((), true)
        });
    }

    /// Puts up what is known of the daemon.
    pub fn set_daemon(&self, daemon: Daemon) {
        self.write(|seen, version| {
            if seen.daemon == daemon {
                return ((), false);
            }
            (seen.daemon, seen.daemon_version) = (daemon, version);
            ((), true)
        });
    }

    /// Notes that the loop went round at `now`, and that it means to do so every `interval` at least.
    pub fn progress(&self, now: Moment, interval: Duration) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        (seen.progress, seen.interval) = (now, interval);
    }

    /// Adds to the history.
    pub fn record(&self, entry: Entry) {
        self.write(|seen, version| {
            let entry = Arc::new(entry);
            if seen.pen.as_ref().is_some_and(|pen| !pen.write(&entry)) {
                seen.health.lost += 1;
            }
            seen.remember(version, entry);
            ((), true)
        });
    }

    /// Keeps the history below `directory` from now on, and takes up what is there already.
    ///
    /// # Errors
    /// If no thread can be started. A directory that cannot be written is told in the log and the status, no more.
    pub fn keep_history(&self, directory: PathBuf) -> io::Result<()> {
        // The board outlives the thread, so that what it tells reaches somebody.
        let board = self.clone();
        let tell = move |writable, lost| {
            board.write(|seen, version| {
                seen.health.writable = writable;
                seen.health.lost += lost;
                seen.daemon_version = version;
                ((), true)
            });
        };
        let (entries, pen) = history::open(directory, history::LARGEST, tell)?;
        self.write(|seen, version| {
            for entry in entries {
                seen.remember(version, Arc::new(entry));
            }
            seen.health.persistent = true;
            (seen.pen, seen.daemon_version) = (Some(pen), version);
            ((), true)
        });
        Ok(())
    }

    /// Waits until the history is written, but not for ever.
    pub fn close_history(&self) {
        let pen = self.read().pen.clone();
        if let Some(pen) = pen {
            pen.close();
        }
    }

    /// Every app, by name.
    pub fn apps(&self) -> Vec<Arc<App>> {
        self.read().apps.values().map(|placed| placed.app.clone()).collect()
    }

    /// Every app whose name comes after `name`, by name.
    pub fn apps_after(&self, name: &AppName) -> Vec<Arc<App>> {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        self.read().apps.range::<AppName, _>(after).map(|(_, placed)| placed.app.clone()).collect()
    }

    /// One app.
    pub fn app(&self, name: &str) -> Option<Arc<App>> {
        self.app_version(name).map(|(app, _)| app)
    }

    /// One app, and the version of its last change.
    pub fn app_version(&self, name: &str) -> Option<(Arc<App>, u64)> {
        let name: AppName = name.parse().ok()?;
        self.read().apps.get(&name).map(|placed| (placed.app.clone(), placed.version))
    }

    /// The daemon.
    pub fn daemon(&self) -> Daemon {
        self.read().daemon.clone()
    }

    /// The newest entries of the history, newest first: at most `limit`, of one app only if `app` names it.
    pub fn history(&self, app: Option<&str>, limit: usize) -> Vec<Arc<Entry>> {
        let seen = self.read();
        let entries = seen.history.iter().rev().map(|(_, entry)| entry);
        entries.filter(|entry| app.is_none_or(|app| *entry.app == *app)).take(limit).cloned().collect()
    }

    /// Where older entries are, and the time of the oldest that memory holds; `None` where it holds all there is.
    pub fn forgotten_history(&self) -> Option<(Arc<Path>, Timestamp)> {
        let seen = self.read();
        let oldest = seen.history.front().filter(|_| seen.history.len() >= history::KEPT)?;
        Some((seen.pen.as_ref()?.directory(), oldest.1.time))
    }

    /// How the keeping of the history is doing.
    pub fn history_health(&self) -> Health {
        self.read().health
    }

    /// Where counts and times are recorded.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// The versions of the board's parts.
    pub fn versions(&self) -> Versions {
        let seen = self.read();
        Versions {
            board: seen.version,
            apps: seen.apps_version,
            daemon: seen.daemon_version,
            history: seen.history_version,
        }
    }

    /// At most `limit` of the changes after `version`, in their order; `None` where they cannot be told any more, or
    /// `version` is not one of this board's. Entries that the history has forgotten are not among them.
    pub fn since(&self, version: u64, limit: usize) -> Option<Vec<(u64, Change)>> {
        let seen = self.read();
        if version < seen.covered_from || version > seen.version {
            return None;
        }
        let after = (Bound::Excluded(version), Bound::Unbounded);
        let app = |name| seen.apps.get(name).map(|placed| Change::App(placed.app.clone()));
        let apps = seen.order.range(after).filter_map(|(at, name)| Some((*at, app(name)?)));
        let first = seen.removed.partition_point(|(at, _)| *at <= version);
        let removed = seen.removed.range(first..).map(|(at, name)| (*at, Change::Removed(name.clone())));
        let first = seen.history.partition_point(|(at, _)| *at <= version);
        let history = seen.history.range(first..).map(|(at, entry)| (*at, Change::History(entry.clone())));
        let daemon = (seen.daemon_version > version).then_some((seen.daemon_version, Change::Daemon));
        let mut changes: Vec<(u64, Change)> =
            apps.take(limit).chain(removed.take(limit)).chain(history.take(limit)).chain(daemon).collect();
        changes.sort_by_key(|(at, _)| *at);
        changes.truncate(limit);
        Some(changes)
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

    /// Makes a change as the next version; `change` tells whether it was one.
    fn write<T>(&self, change: impl FnOnce(&mut Seen, u64) -> (T, bool)) -> T {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let version = seen.version + 1;
        let (value, changed) = change(&mut seen, version);
        if changed {
            seen.version = version;
            // Within the lock, so that the number never falls behind what can be read.
            self.version.send_replace(version);
        }
        value
    }
}

impl Seen {
    fn remember(&mut self, version: u64, entry: Arc<Entry>) {
        self.history.push_back((version, entry));
        if self.history.len() > history::KEPT {
            self.history.pop_front();
        }
        self.history_version = version;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app(name: &str, generation: u64) -> App {
        App {
            api_version: API_VERSION,
            kind: "App",
            metadata: Metadata {
                name: name.to_owned(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                generation,
            },
            spec: None,
            status: Status {
                observed_generation: generation,
                revision: "r".into(),
                source: Source { file: "f".into(), line: 1 },
                desired: None,
                desired_because: None,
                observed: "Unknown",
                observed_at: None,
                conditions: Vec::new(),
                last_action: None,
                next_look_at: None,
                next_transition: None,
            },
        }
    }

    fn name(n: u8) -> AppName {
        format!("app-{n}").parse().unwrap()
    }

    /// Makes of `known` what a client makes of the changes that it is told.
    fn follow(board: &Board, mut version: u64, known: &mut BTreeMap<String, u64>, batch: usize) -> u64 {
        loop {
            let changes = board.since(version, batch).unwrap();
            assert!(changes.is_sorted_by(|(a, _), (b, _)| a < b));
            let Some((last, _)) = changes.last() else { return version };
            version = *last;
            for (_, change) in changes {
                match change {
                    Change::App(app) => drop(known.insert(app.metadata.name.clone(), app.metadata.generation)),
                    Change::Removed(name) => drop(known.remove(name.as_str())),
                    Change::Daemon | Change::History(_) => {}
                }
            }
        }
    }

    #[test]
    fn an_unchanged_app_is_no_change_and_one_that_changed_twice_is_told_once() {
        let board = Board::default();
        let start = board.versions().board;
        assert!(board.set_app(&name(1), app("app-1", 1)).is_none());
        let version = board.versions().board;
        assert!(board.set_app(&name(1), app("app-1", 1)).is_some());
        assert_eq!(board.versions().board, version);
        board.set_app(&name(1), app("app-1", 2));
        assert_eq!(board.since(start, 10).unwrap().len(), 1);
        assert!(board.since(board.versions().board, 10).unwrap().is_empty());
    }

    #[test]
    fn whoever_was_away_too_long_or_followed_another_board_is_told_so() {
        let board = Board::default();
        let start = board.versions().board;
        for _ in 0..=REMOVALS {
            board.set_app(&name(1), app("app-1", 1));
            board.remove_app(&name(1));
        }
        assert!(board.since(start, 10).is_none());
        assert!(board.since(board.versions().board + 1, 10).is_none());
        assert!(board.since(0, 10).is_none());
        assert!(board.read().removed.len() <= REMOVALS && board.read().order.is_empty());
    }

    proptest! {
        /// However it is cut into batches, and wherever it is picked up again: who follows ends up with what is there.
        #[test]
        fn following_along_leads_to_what_is_there(
            steps in prop::collection::vec((0_u8..5, 0_u8..4, any::<bool>()), 0..60),
            batch in 1_usize..5,
        ) {
            let board = Board::default();
            let mut version = board.versions().board;
            let mut known = BTreeMap::new();
            for (n, (app_number, kind, look)) in steps.into_iter().enumerate() {
                let generation = n as u64;
                match kind {
                    0 => board.remove_app(&name(app_number)),
                    1 => board.set_daemon(Daemon { policy: if n % 2 == 0 { "a" } else { "b" }, ..Daemon::default() }),
                    _ => drop(board.set_app(&name(app_number), app(&format!("app-{app_number}"), generation))),
                }
                if look {
                    version = follow(&board, version, &mut known, batch);
                }
            }
            follow(&board, version, &mut known, batch);
            let there: BTreeMap<String, u64> =
                board.apps().iter().map(|app| (app.metadata.name.clone(), app.metadata.generation)).collect();
            prop_assert_eq!(known, there);
        }
    }
}
