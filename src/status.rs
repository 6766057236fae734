//! The published state of the operator: one writer (the operator's loop), many readers.
//!
//! The types are serialized as the JSON of `/openapi.json`. None of them holds a token, a body or an environment
//! variable.
//!
//! Each change has a version. A client stores the last version that it read, and then reads the newer changes. A slow
//! client needs no memory in the daemon.

pub mod activity;
pub mod app;
pub mod forecast;
pub mod groups;
pub mod history;
pub mod meters;
pub mod trend;
pub mod week;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use self::app::App;
use self::groups::Groups;
use self::history::{Entry, Handle, Health};
use self::meters::Meters;
use crate::clock::Clock;
use crate::reconcile::app::AppName;
use crate::reconcile::moment::Moment;

pub const API_VERSION: &str = "campos-operator.dev/v1";

/// `/api/v1/status`: the daemon itself.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Daemon {
    pub source: SourceStatus,
    pub observation: Observation,
    pub governor: LimiterStatus,
    /// Comparison of the wall clock with the server's: `not compared`, `compared` or `differs`.
    pub clock: &'static str,
    /// Null before the first comparison.
    pub clock_ahead_seconds: Option<i64>,
    pub conditions: Vec<Condition>,
    /// Work that takes minutes.
    pub progress: Vec<Progress>,
    /// Apps that no manifest declares; null before the first complete list.
    pub undeclared: Option<Arc<Undeclared>>,
    /// Null without `--max-stops` and `--max-starts`.
    pub max_changes: Option<MaxChanges>,
    /// Null without `--leader-elect`.
    pub leader: Option<Leader>,
    pub dry_run: bool,
    pub policy: &'static str,
}

/// Progress of a bulk of calls, or of the first list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// `stop`, `start`, `restart`, `calls` for a mix of them, or `list`.
    pub task: &'static str,
    /// Calls whose effect was read back; for a list, apps that were listed.
    pub done: usize,
    /// Calls that were accepted; null for a list.
    pub accepted: Option<usize>,
    pub total: usize,
    /// Estimated end at the current budget; null if unknown.
    pub ends_at: Option<Timestamp>,
}

/// `leader` of `/api/v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// This process.
    pub identity: Arc<str>,
    /// The process that leads; null while unknown.
    pub holder: Option<Arc<str>>,
    pub leading: bool,
    /// Whether the Lease can be read.
    pub readable: bool,
}

/// One condition of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub status: &'static str,
    pub message: Arc<str>,
}

/// The source of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Whether a complete set of manifests was loaded since the start.
    pub loaded: bool,
    /// Whether the last scan could read the directories.
    pub available: bool,
    pub trouble: Option<Arc<str>>,
    pub revision: Arc<str>,
    pub files: usize,
    pub skipped: usize,
    /// Number of errors in manifests.
    pub errors: usize,
    /// Number of warnings about manifests.
    pub warnings: usize,
    /// The first errors, one text each.
    pub problems: Vec<Arc<str>>,
}

/// The list of apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Whether a complete list was observed since the start.
    pub complete_once: bool,
    /// Arrival of the last complete list.
    pub completed_at: Option<Timestamp>,
    pub apps: usize,
    pub pages: u32,
    /// Cause, if the last list was incomplete.
    pub incomplete: Option<Arc<str>>,
    /// Seconds between lists; more than `--interval` if there are many pages.
    pub interval_seconds: u64,
}

/// The rate limiter of the account.
#[expect(clippy::struct_excessive_bools, reason = "independent conditions, spelled as in the API")]
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct LimiterStatus {
    /// Present budget; null if unlimited.
    pub requests_per_minute: Option<f64>,
    /// `X-RateLimit-Remaining` of the last answer.
    pub remaining: Option<u32>,
    pub paused: bool,
    pub paused_until: Option<Timestamp>,
    pub pause_cause: Option<&'static str>,
    pub breaker_open: bool,
    pub account_blocked: bool,
    pub account_forbidden: bool,
    /// Next probe while the breaker is open or the account is refused.
    pub next_probe_at: Option<Timestamp>,
    /// Requests sent since the start.
    pub requests: u64,
}

/// The apps of the account that no manifest declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Undeclared {
    pub count: usize,
    /// The first of them.
    pub apps: Vec<UndeclaredApp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UndeclaredApp {
    pub app_id: Arc<str>,
    pub name: Option<Arc<str>>,
}

/// The limit of calls that edits cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct MaxChanges {
    pub max_stops: Option<String>,
    pub max_starts: Option<String>,
    /// Calls that are held at the moment.
    pub held_stops: usize,
    pub held_starts: usize,
    /// The id for an Approval; null while nothing is held.
    pub plan: Option<Arc<str>>,
    pub message: Option<Arc<str>>,
}

/// Number of changes of apps that clients can read later: at least this many, and one per app in a larger fleet.
const RECENT: usize = 1_024;

/// Number of removals that clients can read later.
const REMOVALS: usize = 10_000;

/// An app with the version of its last change.
#[derive(Debug)]
struct Placed {
    app: Arc<App>,
    version: u64,
}

/// Everything on the board.
#[derive(Debug)]
struct Published {
    /// Version of the last change.
    version: u64,
    apps: BTreeMap<AppName, Placed>,
    /// Number of apps of each group.
    groups: Groups,
    /// The app of each of the latest versions.
    recent: VecDeque<(u64, AppName)>,
    /// `recent` has every change of an app after this version.
    recent_after: u64,
    removed: VecDeque<(u64, AppName)>,
    /// Oldest version from which all removals are known.
    removals_since: u64,
    apps_version: u64,
    daemon: Daemon,
    daemon_version: u64,
    history: VecDeque<(u64, Arc<Entry>)>,
    history_version: u64,
    health: Health,
    writer: Option<Handle>,
    last_heartbeat: Moment,
    interval: Duration,
}

/// Versions of the board's parts, for `ETag`s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of any change.
    pub board: u64,
    pub apps: u64,
    pub daemon: u64,
    pub history: u64,
}

/// One change: the current state of the part. Superseded changes are left out.
#[derive(Debug, Clone)]
pub enum Change {
    App(Arc<App>),
    Removed(AppName),
    Daemon,
    History(Arc<Entry>),
}

/// The status board.
#[derive(Debug, Clone)]
pub struct Board {
    published: Arc<RwLock<Published>>,
    version: watch::Sender<u64>,
    started: watch::Sender<bool>,
    meters: Arc<Meters>,
    source_link: Arc<OnceLock<String>>,
}

impl Default for Board {
    fn default() -> Self {
        // Start from the wall time, so that versions of an earlier process are not valid here: a client with such a
        // version must read everything again.
        let version = u64::try_from(Clock::wall_now().as_microsecond()).unwrap_or(1);
        let published = Published {
            version,
            apps: BTreeMap::new(),
            groups: Groups::default(),
            recent: VecDeque::new(),
            recent_after: version,
            removed: VecDeque::new(),
            removals_since: version,
            apps_version: version,
            daemon: Daemon::default(),
            daemon_version: version,
            history: VecDeque::new(),
            history_version: version,
            health: Health { writable: true, ..Health::default() },
            writer: None,
            last_heartbeat: Moment::START,
            interval: Duration::ZERO,
        };
        let (version, started) = (watch::channel(version).0, watch::channel(false).0);
        Self {
            published: Arc::new(RwLock::new(published)),
            version,
            started,
            meters: Arc::default(),
            source_link: Arc::default(),
        }
    }
}

impl Board {
    /// Publishes one app and returns its state before.
    pub fn set_app(&self, name: &AppName, app: App) -> Option<Arc<App>> {
        self.write(|state, version| {
            let before = state.apps.get(name);
            if before.is_some_and(|before| *before.app == app) {
                return (before.map(|before| before.app.clone()), false);
            }
            let group = |app: &App| app.conditions.group();
            state.groups.moved(before.map(|before| group(&before.app)), Some(group(&app)));
            let app = Arc::new(app);
            let before = match state.apps.get_mut(name) {
                Some(placed) => Some(std::mem::replace(placed, Placed { app, version }).app),
                None => state.apps.insert(name.clone(), Placed { app, version }).map(|placed| placed.app),
            };
            state.record_change(version, name);
            state.apps_version = version;
            (before, true)
        })
    }

    /// Changes each of `names` that is on the board.
    pub fn update_apps(&self, names: &[AppName], change: impl Fn(&mut App)) {
        let mut state = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let mut version = state.version;
        for name in names {
            let Some(placed) = state.apps.get_mut(name) else { continue };
            version += 1;
            let before = placed.app.conditions.group();
            change(Arc::make_mut(&mut placed.app));
            state.groups.moved(Some(before), Some(placed.app.conditions.group()));
            placed.version = version;
            state.record_change(version, name);
            (state.version, state.apps_version) = (version, version);
        }
        self.version.send_if_modified(|sent| std::mem::replace(sent, version) != version);
    }

    pub fn remove_app(&self, name: &AppName) {
        self.write(|state, version| {
            let Some(gone) = state.apps.remove(name) else { return ((), false) };
            state.groups.moved(Some(gone.app.conditions.group()), None);
            state.removed.push_back((version, name.clone()));
            if state.removed.len() > REMOVALS
                && let Some((forgotten, _)) = state.removed.pop_front()
            {
                state.removals_since = forgotten;
            }
            state.apps_version = version;
            ((), true)
        });
    }

    pub fn set_daemon(&self, daemon: Daemon) {
        self.write(|state, version| {
            if state.daemon == daemon {
                return ((), false);
            }
            (state.daemon, state.daemon_version) = (daemon, version);
            ((), true)
        });
    }

    /// Records that the loop makes progress, which is expected at least every `interval`.
    pub fn heartbeat(&self, now: Moment, interval: Duration) {
        let mut state = self.published.write().unwrap_or_else(PoisonError::into_inner);
        (state.last_heartbeat, state.interval) = (now, interval);
        drop(state);
        self.started.send_if_modified(|started| !std::mem::replace(started, true));
    }

    /// Waits for the first heartbeat of the loop.
    pub async fn started(&self) {
        // The board holds the sender, so this cannot fail.
        let _ = self.started.subscribe().wait_for(|started| *started).await;
    }

    pub fn record(&self, entry: Entry) {
        self.write(|state, version| {
            let entry = Arc::new(entry);
            if state.writer.as_ref().is_some_and(|writer| !writer.write(&entry)) {
                state.health.lost += 1;
            }
            state.append_history(version, entry);
            ((), true)
        });
    }

    /// Loads the history below `directory`, and writes new entries there. A directory that cannot be written is
    /// reported in the log and the status, and is no error.
    pub fn keep_history(&self, directory: PathBuf) -> io::Result<()> {
        let board = self.clone();
        let report = move |writable, lost| {
            board.write(|state, version| {
                state.health.writable = writable;
                state.health.lost += lost;
                state.daemon_version = version;
                ((), true)
            });
        };
        let (entries, writer) = history::open(directory, history::LARGEST, report)?;
        self.write(|state, version| {
            for entry in entries {
                state.append_history(version, Arc::new(entry));
            }
            state.health.persistent = true;
            (state.writer, state.daemon_version) = (Some(writer), version);
            ((), true)
        });
        Ok(())
    }

    /// Waits for a limited time until the history is written.
    pub fn close_history(&self) {
        let writer = self.read().writer.clone();
        if let Some(writer) = writer {
            writer.close();
        }
    }

    /// Every app, in the order of names.
    pub fn apps(&self) -> Vec<Arc<App>> {
        self.read().apps.values().map(|placed| placed.app.clone()).collect()
    }

    /// Every app after `name`, in the order of names.
    pub fn apps_after(&self, name: &AppName) -> Vec<Arc<App>> {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        self.read().apps.range::<AppName, _>(after).map(|(_, placed)| placed.app.clone()).collect()
    }

    pub fn app_by_name(&self, name: &AppName) -> Option<Arc<App>> {
        self.read().apps.get(name).map(|placed| placed.app.clone())
    }

    pub fn app(&self, name: &str) -> Option<Arc<App>> {
        self.app_version(name).map(|(app, _)| app)
    }

    /// One app with the version of its last change.
    pub fn app_version(&self, name: &str) -> Option<(Arc<App>, u64)> {
        let name: AppName = name.parse().ok()?;
        self.read().apps.get(&name).map(|placed| (placed.app.clone(), placed.version))
    }

    pub fn daemon(&self) -> Daemon {
        self.read().daemon.clone()
    }

    /// Number of apps of each group.
    pub fn groups(&self) -> Groups {
        self.read().groups
    }

    /// Returns the next change of the desired state of each app, earliest first, at most `limit`.
    pub fn transitions(&self, limit: usize) -> Vec<(Timestamp, Arc<App>)> {
        let apps = self.apps();
        let mut next: Vec<_> = apps.into_iter().filter_map(|app| Some((app.next_transition?.0, app))).collect();
        next.sort_by(|(at, one), (then, other)| (at, one.name()).cmp(&(then, other.name())));
        next.truncate(limit);
        next
    }

    /// The newest `limit` entries, newest first; only those of `app` if it is given.
    pub fn history(&self, app: Option<&str>, limit: usize) -> Vec<Arc<Entry>> {
        let state = self.read();
        let entries = state.history.iter().rev().map(|(_, entry)| entry);
        entries.filter(|entry| app.is_none_or(|app| entry.app.as_deref() == Some(app))).take(limit).cloned().collect()
    }

    /// The directory of older entries, and the time of the oldest entry in memory; `None` if memory has all of them.
    pub fn older_history(&self) -> Option<(Arc<Path>, Timestamp)> {
        let state = self.read();
        let oldest = state.history.front().filter(|_| state.history.len() >= history::KEPT)?;
        Some((state.writer.as_ref()?.directory(), oldest.1.time))
    }

    /// The time since which the history in memory is complete; `started` is the start of the process.
    pub fn history_complete_since(&self, started: Timestamp) -> Timestamp {
        let state = self.read();
        let oldest = state.history.front().map_or(started, |(_, entry)| entry.time);
        if state.history.len() >= history::KEPT { oldest } else { oldest.min(started) }
    }

    pub fn history_health(&self) -> Health {
        self.read().health
    }

    /// Sets the address of a manifest, with `{revision}`, `{file}` and `{line}` to fill in.
    pub fn link_sources(&self, template: String) {
        // A process has one template; only the first counts.
        let _ = self.source_link.set(template);
    }

    pub fn source_link(&self) -> Option<&str> {
        self.source_link.get().map(String::as_str)
    }

    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    pub fn versions(&self) -> Versions {
        let state = self.read();
        Versions {
            board: state.version,
            apps: state.apps_version,
            daemon: state.daemon_version,
            history: state.history_version,
        }
    }

    /// The first `limit` changes after `version`, in order, without entries that the history has forgotten. `None` if
    /// some are no longer known, or `version` is not of this board.
    pub fn since(&self, version: u64, limit: usize) -> Option<Vec<(u64, Change)>> {
        let state = self.read();
        if version < state.removals_since || version > state.version {
            return None;
        }
        let apps = state.apps_since(version, limit);
        let first = state.removed.partition_point(|(at, _)| *at <= version);
        let removed = state.removed.range(first..).map(|(at, name)| (*at, Change::Removed(name.clone())));
        let first = state.history.partition_point(|(at, _)| *at <= version);
        let history = state.history.range(first..).map(|(at, entry)| (*at, Change::History(entry.clone())));
        let daemon = (state.daemon_version > version).then_some((state.daemon_version, Change::Daemon));
        let mut changes: Vec<(u64, Change)> =
            apps.into_iter().chain(removed.take(limit)).chain(history.take(limit)).chain(daemon).collect();
        changes.sort_by_key(|(at, _)| *at);
        changes.truncate(limit);
        Some(changes)
    }

    /// Returns whether the loop has made progress within three intervals.
    pub fn alive(&self, now: Moment) -> bool {
        let state = self.read();
        now.since(state.last_heartbeat) <= state.interval.max(Duration::from_secs(1)) * 3
    }

    /// The version of the last change, to wait for the next one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change as the next version; `change` returns whether anything changed.
    fn write<T>(&self, change: impl FnOnce(&mut Published, u64) -> (T, bool)) -> T {
        let mut state = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let version = state.version + 1;
        let (value, changed) = change(&mut state, version);
        if changed {
            state.version = version;
            // Within the lock, so that the number is never behind the state.
            self.version.send_replace(version);
        }
        value
    }
}

impl Published {
    /// The first `limit` of the apps that changed after `version`, in the order of their last change.
    fn apps_since(&self, version: u64, limit: usize) -> Vec<(u64, Change)> {
        let change = |placed: &Placed| (placed.version, Change::App(placed.app.clone()));
        if version >= self.recent_after {
            let first = self.recent.partition_point(|(at, _)| *at <= version);
            let latest = self.recent.range(first..);
            // An app that changed again is in the list at its later version.
            let current = latest.filter_map(|(at, name)| self.apps.get(name).filter(|placed| placed.version == *at));
            return current.take(limit).map(change).collect();
        }
        let mut changed: Vec<&Placed> = self.apps.values().filter(|placed| placed.version > version).collect();
        changed.sort_unstable_by_key(|placed| placed.version);
        changed.into_iter().take(limit).map(change).collect()
    }

    fn record_change(&mut self, version: u64, name: &AppName) {
        self.recent.push_back((version, name.clone()));
        if self.recent.len() > self.apps.len().max(RECENT)
            && let Some((forgotten, _)) = self.recent.pop_front()
        {
            self.recent_after = forgotten;
        }
    }

    fn append_history(&mut self, version: u64, entry: Arc<Entry>) {
        self.history.push_back((version, entry));
        if self.history.len() > history::KEPT {
            self.history.pop_front();
        }
        self.history_version = version;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reconcile::condition::{Conditions, Truth};
    use crate::reconcile::desired::{Declared, Place, Validity};
    use crate::reconcile::reason::Reason;
    use crate::reconcile::state::Observed;

    fn app(name: &str, generation: u64) -> App {
        let place = Place { file: "f".into(), line: 1 };
        let (name, validity) = (name.parse().unwrap(), Validity::Valid);
        let (ready, reconciling, stalled) = (Truth::Unknown, Truth::True, Truth::False);
        App {
            declared: Arc::new(Declared { name, object: None, place, validity }),
            generation,
            revision: "r".into(),
            target: None,
            observed: Observed::Unknown,
            observed_at: None,
            conditions: Conditions { ready, reconciling, stalled, reason: Reason::NotObserved },
            last_transitions: [Timestamp::UNIX_EPOCH; 3],
            message: "m".into(),
            last_action: None,
            next_look_at: None,
            next_attempt_at: None,
            next_transition: None,
        }
    }

    fn name(n: u8) -> AppName {
        format!("app-{n}").parse().unwrap()
    }

    /// Applies the changes to `known` as a client does.
    fn follow(board: &Board, mut version: u64, known: &mut BTreeMap<String, u64>, batch: usize) -> u64 {
        loop {
            let changes = board.since(version, batch).unwrap();
            assert!(changes.is_sorted_by(|(a, _), (b, _)| a < b));
            let Some((last, _)) = changes.last() else { return version };
            version = *last;
            for (_, change) in changes {
                match change {
                    Change::App(app) => drop(known.insert(app.name().as_str().to_owned(), app.generation)),
                    Change::Removed(name) => drop(known.remove(name.as_str())),
                    Change::Daemon | Change::History(_) => {}
                }
            }
        }
    }

    #[test]
    fn an_unchanged_app_is_no_change_and_one_that_changed_twice_is_one_change() {
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
    fn a_version_that_is_too_old_or_of_another_board_is_refused() {
        let board = Board::default();
        let start = board.versions().board;
        for _ in 0..=REMOVALS {
            board.set_app(&name(1), app("app-1", 1));
            board.remove_app(&name(1));
        }
        assert!(board.since(start, 10).is_none());
        assert!(board.since(board.versions().board + 1, 10).is_none());
        assert!(board.since(0, 10).is_none());
        assert!(board.read().removed.len() <= REMOVALS && board.read().recent.len() <= RECENT);
    }

    proptest! {
        /// A client ends with the state of the board, for all batches and all places of resumption.
        #[test]
        fn following_leads_to_the_state_of_the_board(
            steps in prop::collection::vec((0_u8..5, 0_u8..5, any::<bool>()), 0..60),
            batch in 1_usize..5,
        ) {
            let board = Board::default();
            let mut version = board.versions().board;
            let mut known = BTreeMap::new();
            for (n, (app_number, kind, look)) in steps.into_iter().enumerate() {
                let generation = n as u64;
                match kind {
                    0 => board.remove_app(&name(app_number)),
                    2 => board.update_apps(&[name(app_number)], |app| app.generation = generation),
                    1 => board.set_daemon(Daemon { policy: if n % 2 == 0 { "a" } else { "b" }, ..Daemon::default() }),
                    _ => drop(board.set_app(&name(app_number), app(&format!("app-{app_number}"), generation))),
                }
                if look {
                    version = follow(&board, version, &mut known, batch);
                }
            }
            follow(&board, version, &mut known, batch);
            let there: BTreeMap<String, u64> =
                board.apps().iter().map(|app| (app.name().as_str().to_owned(), app.generation)).collect();
            prop_assert_eq!(known, there);
            let mut groups = Groups::default();
            for app in board.apps() {
                groups.moved(None, Some(app.conditions.group()));
            }
            prop_assert_eq!(board.groups(), groups);
        }
    }
}
