//! What is the operator doing, as far as anybody outside can see? One writer (the operator's loop), many readers.
//!
//! The shapes are those of design section 7 and are serialised as they stand. Nothing in here holds a token, a body or
//! an environment variable.
//!
//! Every change has a version, and the board remembers which app it was about: whoever follows along keeps one number
//! and asks for what came after it, so that a slow reader costs nothing here.

pub mod app;
pub mod history;
pub mod meters;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use self::app::App;
use self::history::{Entry, Health, Pen};
use self::meters::Meters;
use crate::clock::Clock;
use crate::reconcile::app::AppName;
use crate::reconcile::moment::Moment;

/// The API's version, in every object.
pub const API_VERSION: &str = "campos-operator.dev/v1";

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
    /// How the wall clock compares with the server's: `not compared`, `compared` or `differs`.
    pub clock: &'static str,
    /// By how many seconds it is ahead; null where nothing was compared.
    pub clock_ahead_seconds: Option<i64>,
    /// What holds for the whole daemon.
    pub conditions: Vec<Condition>,
    /// Whether calls are withheld because of `--dry-run`.
    pub dry_run: bool,
    /// The daemon's policy.
    pub policy: &'static str,
}

/// One condition of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why.
    pub message: Arc<str>,
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
#[expect(clippy::struct_excessive_bools, reason = "independent conditions, spelled as in the API")]
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct GovernorStatus {
    /// Requests a minute allowed now; null if any number is.
    pub requests_per_minute: Option<f64>,
    /// What the server said remains.
    pub remaining: Option<u32>,
    /// Whether all requests pause.
    pub paused: bool,
    /// The end of the pause.
    pub paused_until: Option<Timestamp>,
    /// The cause of the pause.
    pub pause_cause: Option<&'static str>,
    /// Whether the breaker is open.
    pub breaker_open: bool,
    /// Whether the token is refused.
    pub account_blocked: bool,
    /// Whether the account may not do what is needed.
    pub account_forbidden: bool,
    /// When the next probe goes out while the platform does not answer or the account is refused.
    pub next_probe_at: Option<Timestamp>,
    /// Requests sent since the start.
    pub requests: u64,
}

/// So many changes of apps are remembered at least, for those who follow along; of a larger fleet one for each app.
const RECENT: usize = 1_024;

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
    /// Which app each of the latest versions was about.
    recent: VecDeque<(u64, AppName)>,
    /// Every change of an app after this version is among them.
    recent_after: u64,
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
    under_way: watch::Sender<bool>,
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
            recent: VecDeque::new(),
            recent_after: version,
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
        let (version, under_way) = (watch::channel(version).0, watch::channel(false).0);
        Self { seen: Arc::new(RwLock::new(seen)), version, under_way, meters: Arc::default() }
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
            let app = Arc::new(app);
            let before = match seen.apps.get_mut(name) {
                Some(placed) => Some(std::mem::replace(placed, Placed { app, version }).app),
                None => seen.apps.insert(name.clone(), Placed { app, version }).map(|placed| placed.app),
            };
            seen.note_recent(version, name);
            seen.apps_version = version;
            (before, true)
        })
    }

    /// Changes what is known of each of `names` that is on the board.
    pub fn touch_apps(&self, names: &[AppName], change: impl Fn(&mut App)) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        let mut version = seen.version;
        for name in names {
            let Some(placed) = seen.apps.get_mut(name) else { continue };
            version += 1;
            change(Arc::make_mut(&mut placed.app));
            placed.version = version;
            seen.note_recent(version, name);
            (seen.version, seen.apps_version) = (version, version);
        }
        self.version.send_if_modified(|told| std::mem::replace(told, version) != version);
    }

    /// Takes an app off the board.
    pub fn remove_app(&self, name: &AppName) {
        self.write(|seen, version| {
            if seen.apps.remove(name).is_none() {
                return ((), false);
            }
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
        drop(seen);
        self.under_way.send_if_modified(|known| !std::mem::replace(known, true));
    }

    /// Waits until the loop has gone round once.
    pub async fn under_way(&self) {
        // The board holds the other end itself, so that it cannot be gone.
        let _ = self.under_way.subscribe().wait_for(|known| *known).await;
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

    /// One app, by its name.
    pub fn app_named(&self, name: &AppName) -> Option<Arc<App>> {
        self.read().apps.get(name).map(|placed| placed.app.clone())
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
        entries.filter(|entry| app.is_none_or(|app| entry.app.as_deref() == Some(app))).take(limit).cloned().collect()
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
        let apps = seen.apps_since(version, limit);
        let first = seen.removed.partition_point(|(at, _)| *at <= version);
        let removed = seen.removed.range(first..).map(|(at, name)| (*at, Change::Removed(name.clone())));
        let first = seen.history.partition_point(|(at, _)| *at <= version);
        let history = seen.history.range(first..).map(|(at, entry)| (*at, Change::History(entry.clone())));
        let daemon = (seen.daemon_version > version).then_some((seen.daemon_version, Change::Daemon));
        let mut changes: Vec<(u64, Change)> =
            apps.into_iter().chain(removed.take(limit)).chain(history.take(limit)).chain(daemon).collect();
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
    /// The first `limit` of the apps that changed after `version`, in the order of their last change.
    fn apps_since(&self, version: u64, limit: usize) -> Vec<(u64, Change)> {
        let told = |placed: &Placed| (placed.version, Change::App(placed.app.clone()));
        if version >= self.recent_after {
            let first = self.recent.partition_point(|(at, _)| *at <= version);
            let latest = self.recent.range(first..);
            // What was overtaken since is told where it came to stand.
            let current = latest.filter_map(|(at, name)| self.apps.get(name).filter(|placed| placed.version == *at));
            return current.take(limit).map(told).collect();
        }
        let mut changed: Vec<&Placed> = self.apps.values().filter(|placed| placed.version > version).collect();
        changed.sort_unstable_by_key(|placed| placed.version);
        changed.into_iter().take(limit).map(told).collect()
    }

    fn note_recent(&mut self, version: u64, name: &AppName) {
        self.recent.push_back((version, name.clone()));
        if self.recent.len() > self.apps.len().max(RECENT)
            && let Some((forgotten, _)) = self.recent.pop_front()
        {
            self.recent_after = forgotten;
        }
    }

    fn remember(&mut self, version: u64, entry: Arc<Entry>) {
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
    use crate::reconcile::desired::{Declared, Place, Standing};
    use crate::reconcile::reason::Reason;
    use crate::reconcile::state::Observed;

    fn app(name: &str, generation: u64) -> App {
        let place = Place { file: "f".into(), line: 1 };
        let (name, standing) = (name.parse().unwrap(), Standing::Sound);
        let (ready, reconciling, stalled) = (Truth::Unknown, Truth::True, Truth::False);
        App {
            declared: Arc::new(Declared { name, object: None, place, standing }),
            generation,
            revision: "r".into(),
            target: None,
            observed: Observed::Unknown,
            observed_at: None,
            conditions: Conditions { ready, reconciling, stalled, reason: Reason::NotObserved },
            since: [Timestamp::UNIX_EPOCH; 3],
            message: "m".into(),
            last_action: None,
            next_look_at: None,
            next_transition: None,
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
                    Change::App(app) => drop(known.insert(app.name().as_str().to_owned(), app.generation)),
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
        assert!(board.read().removed.len() <= REMOVALS && board.read().recent.len() <= RECENT);
    }

    proptest! {
        /// However it is cut into batches, and wherever it is picked up again: who follows ends up with what is there.
        #[test]
        fn following_along_leads_to_what_is_there(
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
                    2 => board.touch_apps(&[name(app_number)], |app| app.generation = generation),
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
        }
    }
}
