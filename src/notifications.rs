//! Notifications: one message for each cause, to Discord, Slack or another webhook.
//!
//! Reads the status board in a separate thread. Each webhook has a bounded queue: a webhook that is blocked loses
//! messages, which are counted, and delays neither the others nor the operator.

pub mod causes;
pub mod hook;
pub mod message;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{info, warn};

use self::causes::{CauseState, Causes, Kept, Level, Present};
use self::hook::Hook;
use self::message::Message;
use crate::clock::Clock;
use crate::reconcile::app::AppName;
use crate::reconcile::condition::Truth;
use crate::reconcile::desired::Policy;
use crate::reconcile::group::Group;
use crate::reconcile::reason::Reason;
use crate::reconcile::state::{Desired, Observed};
use crate::status::Board;
use crate::status::app::App;

/// Messages that wait for one webhook; further ones are dropped.
const WAITING: usize = 1_000;
/// Minimum interval between two reads of the board.
const PAUSE: Duration = Duration::from_secs(1);
/// Calls that are verified within this time are one message.
const TOGETHER: SignedDuration = SignedDuration::from_secs(30);
/// Time after the start in which all causes are one summary.
const START: SignedDuration = SignedDuration::from_secs(60);
/// File of the announcements, below `--state-dir`.
const FILE: &str = "notifications.json";

/// Receivers of messages.
#[derive(Debug)]
pub struct Settings {
    pub hooks: Vec<Hook>,
    pub level: Level,
    pub state_dir: Option<PathBuf>,
}

/// Sends messages until the process ends. Does nothing without a webhook.
pub fn start(board: Board, clock: Clock, settings: Settings) -> io::Result<()> {
    let Settings { hooks, level, state_dir } = settings;
    if hooks.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("notifications".into());
    thread.spawn(move || {
        runtime.block_on(async move {
            let queues = hooks.into_iter().map(|hook| {
                let (sender, receiver) = channel(WAITING);
                let service = hook.service.as_str();
                tokio::spawn(serve(hook, receiver, board.clone()));
                (service, sender)
            });
            let queues: Vec<(&'static str, Sender<Message>)> = queues.collect();
            let file = state_dir.map(|directory| directory.join(FILE));
            let meters = board.clone();
            watch(board, clock, level, file, |message| {
                info!(event = message.event(), level = message.level().as_str(), "notification");
                for (service, queue) in &queues {
                    if queue.try_send(message.clone()).is_err() {
                        warn!(service, "notification dropped: the queue of the service is full");
                        meters.meters().notified(service, "lost");
                    }
                }
            })
            .await;
        });
    })?;
    Ok(())
}

/// Delivers the messages of one webhook, one after the other.
async fn serve(hook: Hook, mut messages: Receiver<Message>, board: Board) {
    while let Some(message) = messages.recv().await {
        let delivery = hook.deliver(&message).await;
        board.meters().notified(hook.service.as_str(), delivery.as_str());
    }
}

/// Reads the board whenever it changes, and sends the messages that are scheduled now.
pub async fn watch(board: Board, clock: Clock, level: Level, file: Option<PathBuf>, mut send: impl FnMut(Message)) {
    let mut changes = board.changes();
    board.started().await;
    let restored = file.as_deref().and_then(restore);
    let mut watcher = Watcher::new(restored, clock.wall());
    let mut kept = watcher.memory();
    loop {
        changes.mark_unchanged();
        let now = clock.wall();
        for message in watcher.poll(&board, now) {
            if message.level() >= level {
                send(message);
            }
        }
        if let Some(file) = &file
            && kept != watcher.memory()
        {
            kept = watcher.memory();
            if let Err(error) = keep(file, &kept) {
                warn!(%error, file = %file.display(), "could not write the announced causes; a restart may announce them again");
            }
        }
        let wait = watcher
            .next()
            .map_or(Duration::MAX, |next| Duration::try_from(next.duration_since(clock.wall())).unwrap_or_default());
        tokio::select! {
            more = changes.changed() => if more.is_err() {
                return;
            },
            () = tokio::time::sleep(wait.min(Duration::from_hours(1))) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The announcements that a restart must not repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// The open causes.
    causes: Vec<Kept>,
    /// Scheduled stops that were announced.
    announced: BTreeSet<(Timestamp, Arc<str>)>,
}

/// A stop by a schedule, with the reason of its window.
struct Stop {
    app: AppName,
    reason: Option<Arc<str>>,
}

/// State of the notifications: announced causes and pending messages.
#[derive(Debug)]
struct Watcher {
    causes: Causes,
    /// End of the summary after the start; `None` if an earlier process sent it.
    summary_until: Option<Timestamp>,
    /// The last verified call of each app.
    verified: Option<BTreeMap<AppName, Timestamp>>,
    /// Verified calls that wait for their message, and its time.
    done: BTreeMap<Cow<'static, str>, (Timestamp, BTreeSet<AppName>)>,
    /// Scheduled stops that were announced.
    announced: BTreeSet<(Timestamp, Arc<str>)>,
    /// Time of the next announcement of a scheduled stop.
    announce_at: Option<Timestamp>,
    /// Another process leads and sends the messages.
    is_standby: bool,
}

impl Watcher {
    fn new(restored: Option<Memory>, now: Timestamp) -> Self {
        let summary_until = restored.is_none().then(|| later(now, START));
        let Memory { causes, announced } = restored.unwrap_or_default();
        Self {
            causes: Causes::restore(&causes),
            summary_until,
            verified: None,
            done: BTreeMap::new(),
            announced,
            announce_at: None,
            is_standby: false,
        }
    }

    fn memory(&self) -> Memory {
        Memory { causes: self.causes.kept(), announced: self.announced.clone() }
    }

    fn poll(&mut self, board: &Board, now: Timestamp) -> Vec<Message> {
        self.is_standby = board.daemon().leader.is_some_and(|leader| !leader.leading);
        if self.is_standby {
            return Vec::new();
        }
        let apps = board.apps();
        let mut reports = self.causes.observe(present(board, apps.iter().map(AsRef::as_ref)), now);
        let mut messages = Vec::new();
        if let Some(until) = self.summary_until {
            if !reports.is_empty() {
                reports.extend(self.causes.announce_all(now));
                messages.push(Message::Summary(std::mem::take(&mut reports)));
            }
            self.summary_until = Some(until).filter(|until| now < *until && messages.is_empty());
        }
        messages.extend(reports.into_iter().map(Message::Cause));
        messages.extend(self.done(apps.iter().map(AsRef::as_ref), now));
        let daemon = board.daemon();
        if !daemon.dry_run && daemon.policy != Policy::ObserveOnly.as_str() {
            messages.extend(self.scheduled(apps.iter().map(AsRef::as_ref), now));
        }
        messages
    }

    /// Scheduled stops to announce now.
    fn scheduled<'a>(&mut self, apps: impl Iterator<Item = &'a App>, now: Timestamp) -> Vec<Message> {
        self.announced.retain(|(at, _)| *at > now);
        self.announce_at = None;
        // One message for all stops of one time, with any reasons.
        let mut near: BTreeMap<Timestamp, Vec<Stop>> = BTreeMap::new();
        for app in apps {
            let Some((at, Desired::Stopped)) = app.next_transition else { continue };
            let schedule = app.declared.spec().and_then(|spec| spec.schedule.as_ref());
            let Some(schedule) =
                schedule.filter(|schedule| schedule.windows.iter().any(|window| window.warn.is_some()))
            else {
                continue;
            };
            if app.suspended() || app.observed != Observed::Running {
                continue;
            }
            let Some(warn_at) = schedule.warning(at).and_then(|warn| at.checked_sub(warn).ok()) else { continue };
            if warn_at > now {
                self.announce_at = Some(self.announce_at.map_or(warn_at, |next| next.min(warn_at)));
            } else if self.announced.insert((at, app.name().as_str().into())) {
                let reason = schedule.deciding(at).and_then(|window| schedule.windows[window].reason.clone());
                near.entry(at).or_default().push(Stop { app: app.name().clone(), reason });
            }
        }
        let message = |(at, stops): (Timestamp, Vec<Stop>)| {
            let is_same = stops.windows(2).all(|pair| pair[0].reason == pair[1].reason);
            let reason = stops.first().and_then(|stop| stop.reason.clone()).filter(|_| is_same);
            Message::ScheduledStop { at, apps: stops.into_iter().map(|stop| stop.app).collect(), reason }
        };
        near.into_iter().map(message).collect()
    }

    /// Messages about verified calls that are scheduled now.
    fn done<'a>(&mut self, apps: impl Iterator<Item = &'a App>, now: Timestamp) -> Vec<Message> {
        let mut verified = BTreeMap::new();
        for app in apps {
            let Some(action) = app.last_action.as_ref().filter(|action| action.result == "Verified") else { continue };
            verified.insert(app.name().clone(), action.at);
            let is_new = |before: &BTreeMap<AppName, Timestamp>| before.get(app.name()) != Some(&action.at);
            if self.verified.as_ref().is_some_and(is_new) {
                let (_, apps) =
                    self.done.entry(action.action.clone()).or_insert_with(|| (later(now, TOGETHER), BTreeSet::new()));
                apps.insert(app.name().clone());
            }
        }
        self.verified = Some(verified);
        let due = self.done.extract_if(.., |_, (at, _)| *at <= now);
        due.map(|(action, (_, apps))| Message::Done { action, apps: apps.into_iter().collect() }).collect()
    }

    fn next(&self) -> Option<Timestamp> {
        let next = self.done.values().map(|(at, _)| *at).chain(self.causes.next()).chain(self.announce_at).min();
        next.filter(|_| !self.is_standby)
    }
}

/// Returns true if an app needs no notification: settled, in progress, held, or managed by another replica.
fn is_quiet(app: &App) -> bool {
    match app.conditions.group() {
        Group::Settled | Group::Held => true,
        // A pause of all requests is reported if it lasts.
        Group::InProgress => app.reason() != Reason::RateLimited,
        Group::Unknown => app.reason() == Reason::Standby,
        Group::NeedsPerson | Group::InTrouble => false,
    }
}

/// Returns the current causes on the board.
fn present<'a>(board: &Board, apps: impl Iterator<Item = &'a App>) -> Present {
    let daemon = board.daemon();
    let mut causes: BTreeMap<Reason, CauseState> = BTreeMap::new();
    let new = |reason: Reason| {
        let level = if reason.group() == Group::NeedsPerson { Level::Person } else { Level::Warning };
        CauseState { level, apps: Vec::new(), detail: None }
    };
    let limiter = &daemon.governor;
    for (reason, holds) in [
        (Reason::ApiUnavailable, limiter.breaker_open),
        (Reason::AccountBlocked, limiter.account_blocked),
        (Reason::AccountForbidden, limiter.account_forbidden),
    ] {
        if holds {
            causes.insert(reason, new(reason));
        }
    }
    if daemon.source.loaded && !daemon.source.available {
        let detail = daemon.source.trouble.clone();
        causes.insert(Reason::SourceUnavailable, CauseState { detail, ..new(Reason::SourceUnavailable) });
    }
    if daemon.source.errors > 0 {
        let detail = daemon.source.problems.first().cloned();
        let state = CauseState { level: Level::Person, detail, ..new(Reason::InvalidManifest) };
        causes.insert(Reason::InvalidManifest, state);
    }
    if let Some(cause) = &daemon.observation.incomplete {
        let detail = Some(cause.clone());
        causes.insert(Reason::ObservationIncomplete, CauseState { detail, ..new(Reason::ObservationIncomplete) });
    }
    if let Some(message) = daemon.max_changes.as_ref().and_then(|changes| changes.message.clone()) {
        let detail = Some(message);
        causes.insert(Reason::TooManyChanges, CauseState { detail, ..new(Reason::TooManyChanges) });
    }
    // While the first list arrives, an app that was not read yet is no cause, and neither is a call that waits for the
    // readings of other apps until the limit of changes is known.
    let is_early = !daemon.observation.complete_once && daemon.observation.incomplete.is_none();
    for app in apps {
        let reason = app.reason();
        let is_unseen = matches!(reason, Reason::NotObserved | Reason::ObservationIncomplete)
            || (reason == Reason::TooManyChanges && !causes.contains_key(&reason));
        let is_stalled = app.conditions.stalled == Truth::True;
        if is_quiet(app) || (is_unseen && is_early) {
            continue;
        }
        let state = causes.entry(reason).or_insert_with(|| new(reason));
        if is_stalled {
            state.level = Level::Person;
        }
        if state.detail.is_none() && !reason.is_account_wide() {
            state.detail = Some(app.message.as_ref().into());
        }
        state.apps.push(app.name().clone());
    }
    let is_masked = causes.keys().any(|reason| reason.is_account_wide() || *reason == Reason::SourceUnavailable);
    if is_masked {
        // A consequence of it: no list arrives.
        causes.retain(|reason, _| !matches!(reason, Reason::NotObserved | Reason::ObservationIncomplete));
    }
    Present { causes, is_complete: daemon.source.loaded && daemon.observation.complete_once, is_masked }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Reads the announcements of an earlier process; returns `None` if there is no readable file.
fn restore(file: &Path) -> Option<Memory> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(%error, file = %file.display(), "could not read the announced causes; they may be announced again");
            }
            return None;
        }
    };
    match serde_json::from_slice(&text) {
        Ok(memory) => Some(memory),
        Err(error) => {
            warn!(%error, file = %file.display(), "could not read the announced causes; they may be announced again");
            None
        }
    }
}

fn keep(file: &Path, kept: &Memory) -> io::Result<()> {
    let new = file.with_extension("json.new");
    fs::write(&new, serde_json::to_vec(kept)?)?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::condition::Conditions;
    use crate::reconcile::desired::{Declared, Object, Place, Spec, Validity};
    use crate::reconcile::labels::Labels;
    use crate::reconcile::schedule::{Schedule, Span, Window};
    use crate::status::app::LastAction;
    use crate::status::{Daemon, Leader, MaxChanges, Observation, SourceStatus};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn app(name: &str, reason: Reason, stalled: bool) -> App {
        let name: AppName = name.parse().unwrap();
        let ready = if reason == Reason::Settled { Truth::True } else { Truth::False };
        let stalled = if stalled { Truth::True } else { Truth::False };
        let place = Place { file: "f".into(), line: 1 };
        App {
            declared: Arc::new(Declared { name, object: None, place, validity: Validity::Valid }),
            generation: 1,
            revision: "r".into(),
            target: None,
            observed: Observed::Running,
            observed_at: None,
            conditions: Conditions { ready, reconciling: Truth::False, stalled, reason },
            last_transitions: [Timestamp::UNIX_EPOCH; 3],
            message: "a message".into(),
            last_action: None,
            next_look_at: None,
            next_attempt_at: None,
            next_transition: None,
        }
    }

    fn board(apps: Vec<App>) -> Board {
        let board = Board::default();
        board.set_daemon(Daemon {
            source: SourceStatus { loaded: true, available: true, ..SourceStatus::default() },
            observation: Observation { complete_once: true, ..Observation::default() },
            ..Daemon::default()
        });
        for app in apps {
            board.set_app(&app.name().clone(), app);
        }
        board
    }

    /// The messages of each poll, abbreviated.
    fn polls(watcher: &mut Watcher, board: &Board, seconds: &[i64]) -> Vec<String> {
        let short = |second: i64, message: &Message| match message {
            Message::Cause(report) => {
                let apps = report.state.apps.len();
                format!("{second}: {} {} {apps} {}", message.event(), report.reason, message.level().as_str())
            }
            Message::Summary(reports) => format!("{second}: summary of {}", reports.len()),
            Message::Done { action, apps } => format!("{second}: {action} {}", apps.len()),
            Message::ScheduledStop { at, apps, .. } => format!("{second}: stop at {at} {}", apps.len()),
        };
        let poll = |second: &i64| {
            let messages = watcher.poll(board, at(*second));
            messages.iter().map(|message| short(*second, message)).collect::<Vec<_>>()
        };
        seconds.iter().flat_map(poll).collect()
    }

    #[test]
    fn a_cause_of_many_apps_is_one_message() {
        let board = board(vec![
            app("a", Reason::BackingOff, false),
            app("b", Reason::BackingOff, false),
            app("c", Reason::AppNotFound, true),
            app("d", Reason::Settled, false),
            app("e", Reason::Suspended, false),
            app("f", Reason::Stopping, false),
        ]);
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        let messages = polls(&mut watcher, &board, &[0, 29, 30, 31]);
        assert_eq!(messages, ["30: began BackingOff 2 warning", "30: began AppNotFound 1 person"]);
        for name in ["a", "b", "c"] {
            board.set_app(&name.parse().unwrap(), app(name, Reason::Settled, false));
        }
        let messages = polls(&mut watcher, &board, &[40, 99, 100, 101]);
        assert_eq!(messages, ["100: ended BackingOff 2 warning", "100: ended AppNotFound 1 person"]);
    }

    #[test]
    fn the_first_messages_of_a_process_are_one() {
        let new = || board(vec![app("a", Reason::BackingOff, false), app("b", Reason::AppNotFound, true)]);
        let board = new();
        let mut watcher = Watcher::new(None, at(0));
        let mut messages = polls(&mut watcher, &board, &[0, 30, 31]);
        board.set_app(&"c".parse().unwrap(), app("c", Reason::Contested, false));
        messages.extend(polls(&mut watcher, &board, &[40, 70]));
        assert_eq!(messages, ["30: summary of 2", "70: began Contested 1 warning"]);
    }

    #[test]
    fn causes_of_account_and_source_have_no_apps() {
        let board = board(vec![]);
        let mut daemon = board.daemon();
        daemon.governor.account_blocked = true;
        daemon.source.available = false;
        board.set_daemon(daemon);
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        let messages = polls(&mut watcher, &board, &[0, 30]);
        assert_eq!(messages, ["30: began SourceUnavailable 0 person", "30: began AccountBlocked 0 person"]);
    }

    #[test]
    fn a_restart_in_progress_is_no_trouble() {
        let board = board(vec![app("a", Reason::Restarting, false)]);
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        assert_eq!(polls(&mut watcher, &board, &[0, 30, 600]), [""; 0]);
    }

    #[test]
    fn only_the_leader_sends() {
        let board = board(vec![app("a", Reason::Forbidden, true)]);
        let lead = |leading| {
            let leader = Leader { identity: "a".into(), holder: None, leading, readable: true };
            board.set_daemon(Daemon { leader: Some(leader), ..board.daemon() });
        };
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        lead(false);
        assert_eq!(polls(&mut watcher, &board, &[0, 40]), [""; 0]);
        assert_eq!(watcher.next(), None);
        lead(true);
        assert_eq!(polls(&mut watcher, &board, &[50, 81]), ["81: began Forbidden 1 person"]);
    }

    #[test]
    fn apps_that_the_first_list_has_not_shown_yet_are_no_cause() {
        let board = board(vec![app("a", Reason::NotObserved, false), app("b", Reason::TooManyChanges, true)]);
        let mut daemon = board.daemon();
        daemon.observation.complete_once = false;
        board.set_daemon(daemon.clone());
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        assert_eq!(polls(&mut watcher, &board, &[0, 30, 300]), [""; 0]);
        // Calls that certainly exceed the limit are a cause at once.
        daemon.max_changes = Some(MaxChanges { message: Some("held".into()), ..MaxChanges::default() });
        board.set_daemon(daemon.clone());
        assert_eq!(polls(&mut watcher, &board, &[300, 330]), ["330: began TooManyChanges 1 person"]);
        daemon.observation.complete_once = true;
        board.set_daemon(daemon);
        assert_eq!(polls(&mut watcher, &board, &[330, 360]), ["360: began NotObserved 1 warning"]);
    }

    #[test]
    fn verified_calls_are_gathered() {
        let verified = |name: &str, second| {
            let action = LastAction {
                action: "stop".into(),
                at: at(second),
                result: "Verified".into(),
                ..LastAction::default()
            };
            App { last_action: Some(Arc::new(action)), ..app(name, Reason::Settled, false) }
        };
        let board = board(vec![verified("a", -100)]);
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        assert_eq!(polls(&mut watcher, &board, &[0, 60]), [""; 0], "it was before this process");
        board.set_app(&"b".parse().unwrap(), verified("b", 61));
        assert_eq!(polls(&mut watcher, &board, &[61]), [""; 0]);
        board.set_app(&"c".parse().unwrap(), verified("c", 62));
        assert_eq!(polls(&mut watcher, &board, &[62, 90, 91, 200]), ["91: stop 2"]);
    }

    #[test]
    fn a_scheduled_stop_is_announced_once_and_in_time() {
        let stop = at(1_000);
        let wall = |moment: Timestamp| moment.to_zoned(jiff::tz::TimeZone::UTC).datetime();
        let span = Span::Once { from: wall(stop), to: None };
        let warn = Some(SignedDuration::from_mins(10));
        let window = Window { state: Desired::Stopped, span, reason: Some("night".into()), warn };
        let schedule = Some(Arc::new(Schedule::new("UTC", vec![window]).unwrap()));
        let spec = Spec { schedule, ..Spec::new("a".parse().unwrap(), Desired::Running) };
        let due = |name: &str| {
            let mut app = app(name, Reason::Settled, false);
            let (labels, annotations) = (Labels::default(), Labels::default());
            let object = Object { name: name.parse().unwrap(), labels, annotations, spec: spec.clone() };
            Arc::make_mut(&mut app.declared).object = Some(Arc::new(object));
            app.next_transition = Some((stop, Desired::Stopped));
            app
        };
        let board = board(vec![due("a"), due("b")]);
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        assert_eq!(polls(&mut watcher, &board, &[0]), [""; 0]);
        assert_eq!(watcher.next(), Some(at(400)));
        assert_eq!(polls(&mut watcher, &board, &[399, 400, 401, 999]), [format!("400: stop at {stop} 2")]);
        let mut next = Watcher::new(Some(watcher.memory()), at(500));
        assert_eq!(polls(&mut next, &board, &[500]), [""; 0], "also after a restart");
        board.set_daemon(Daemon { dry_run: true, ..board.daemon() });
        let mut dry = Watcher::new(Some(Memory::default()), at(500));
        assert_eq!(polls(&mut dry, &board, &[500]), [""; 0], "nothing is stopped");
        board.set_daemon(Daemon { dry_run: false, policy: Policy::ObserveOnly.as_str(), ..board.daemon() });
        assert_eq!(polls(&mut dry, &board, &[500]), [""; 0], "the policy of the daemon forbids stops");
    }

    #[test]
    fn open_causes_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        assert!(restore(&file).is_none());
        let board = board(vec![app("a", Reason::BackingOff, false)]);
        let mut watcher = Watcher::new(Some(Memory::default()), at(0));
        polls(&mut watcher, &board, &[0, 30]);
        keep(&file, &watcher.memory()).unwrap();
        let mut next = Watcher::new(restore(&file), at(100));
        assert_eq!(polls(&mut next, &board, &[100, 200]), [""; 0], "people know it already");
        fs::write(&file, "[{").unwrap();
        assert!(restore(&file).is_none());
    }
}
