//! When are the manifests looked at, by which thread, and who is told?
//!
//! One thread scans, keeps the watch, and hands each change to a callback. The thread that hears of an event takes it in
//! itself where that is one file to read, since a second thread is longer in waking than that takes; whoever works holds
//! the one lock over all of it. The disk's content is the truth: an event only says which file to look at first. A text
//! is acted on once it has settled, and an object is released once a second look still does not show it; neither keeps
//! any other file waiting.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::diagnostic::Diagnostic;
use super::engine::{Arrival, Engine, GONE_AFTER, Look, PATIENCE, QUIET_UNTOLD, excerpt};
use super::load;
use super::store::{Changes, FileState, Store};
use super::tracked::Again;
use super::watch::{Signal, Unwatched, Watch};
use crate::clock;
use crate::reconcile::desired::Declared;
use crate::source::{SourceReport, Update};

/// Rescans that events ask for lie at least this far apart.
const BETWEEN_SCANS: Duration = Duration::from_millis(20);
/// How long after a file came into being that nobody closes the tree is looked at.
const LATER: Duration = Duration::from_secs(1);
/// Every so many periodic scans the bytes of files are read again that look the same: no metadata are trusted for ever.
/// All of them, where scanning has to find everything; one share each time, where events tell of each write to a tree
/// that only this kernel writes to. Each scan looks at the metadata of all files either way.
const FULL_EVERY: u32 = 6;
/// In what time all shares are read once. The kernel sets the change time (ctime) at each write and takes it from nobody,
/// so what is guarded against here are faults of the disk and of its driver.
const ALL_WITHIN: Duration = Duration::from_secs(3600);

/// The watch's own thread reads a file at most this often. More of them come at once, and are for another one to read.
const BETWEEN_FILES: Duration = Duration::from_millis(1);
/// So many signals are taken in before the loop looks at its deadlines again: a flood of them is no excuse.
const MOST_AT_ONCE: usize = 10_000;

/// How a source works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often the whole tree is scanned, events or not.
    pub scan_interval: Duration,
    /// Whether to use the kernel's events at all; without, every change is found by scanning.
    pub watch: bool,
    /// Whether links may lead out of the tree.
    pub follow_links: bool,
    /// Whether everything that a directory declared is released if all of it disappears at once.
    pub allow_empty: bool,
}

/// How long the end of a source waits for its thread. A file system that hangs may hold that back for ever.
const END_WITHIN: Duration = Duration::from_secs(1);

/// A running source. Dropping it ends its thread.
#[derive(Debug)]
pub struct SourceHandle {
    signals: Sender<Signal>,
    thread: Option<thread::JoinHandle<()>>,
    /// Disconnected once the thread has ended.
    ended: Receiver<()>,
    scans: Scans,
}

/// The scans so far.
#[derive(Debug, Clone, Default)]
struct Scans {
    /// When the last one that could read the tree ended, in milliseconds since the epoch.
    scanned: Arc<AtomicU64>,
    /// How many have finished, also those that could not read it.
    finished: Arc<AtomicU64>,
}

/// The source of manifests.
#[derive(Debug)]
pub struct Source;

impl Source {
    /// Watches `roots` from a thread of its own and hands every change to `deliver`, in order; first the whole set, as
    /// soon as it was read once, or the trouble if it cannot be.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        roots: Vec<PathBuf>,
        options: Options,
        deliver: impl FnMut(Update) + Send + 'static,
    ) -> io::Result<SourceHandle> {
        let (signals, inbox) = channel();
        let scans = Scans::default();
        let mut engine = Engine::new(roots, options.follow_links);
        engine.expect_directories();
        engine.together = options.scan_interval;
        engine.allow_empty = options.allow_empty;
        let work = Work::new(engine, options, inbox, deliver, scans.clone());
        let shared = Arc::new(Mutex::new(Some(work)));
        let own = signals.clone();
        let (running, ended) = channel();
        let body = move || {
            let _running = running;
            run(&shared, &own);
        };
        let thread = thread::Builder::new().name("source".into()).spawn(body)?;
        Ok(SourceHandle { signals, thread: Some(thread), ended, scans })
    }
}

impl SourceHandle {
    /// When the whole tree was scanned last, in milliseconds since the epoch; 0 before the first time.
    pub fn scanned(&self) -> Arc<AtomicU64> {
        self.scans.scanned.clone()
    }

    /// Returns what makes the source scan everything at once and watch again.
    pub fn rescanner(&self) -> impl Fn() + Send + Sync + 'static {
        let (signals, thread) = (self.signals.clone(), self.thread.as_ref().map(|thread| thread.thread().clone()));
        move || {
            // It may have ended by itself.
            if signals.send(Signal::Rescan).is_ok()
                && let Some(thread) = &thread
            {
                thread.unpark();
            }
        }
    }

    /// Counts the scans that have finished, whether or not they could read the tree.
    pub fn scans(&self) -> Arc<AtomicU64> {
        self.scans.finished.clone()
    }

    /// Ends the thread and waits for it, but no longer than a second: nothing is delivered after it has ended.
    pub fn stop(self) {}
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to tell.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if self.ended.recv_timeout(END_WITHIN) == Err(RecvTimeoutError::Timeout) {
                warn!("the file system of the manifests does not respond; not waiting for it");
            } else if thread.join().is_err() {
                warn!("the source of manifests broke down");
            }
        }
    }
}

/// Reads everything once: for verbs that look at the manifests and end. Blocks for as long as a file is being written
/// (at most about two seconds).
pub fn load(roots: Vec<PathBuf>) -> (Vec<Arc<Declared>>, Vec<Diagnostic>, SourceReport) {
    load_with(roots, false)
}

/// The same; `follow_links`: whether links may lead out of the tree.
pub fn load_with(roots: Vec<PathBuf>, follow_links: bool) -> (Vec<Arc<Declared>>, Vec<Diagnostic>, SourceReport) {
    let mut engine = Engine::new(roots, follow_links);
    engine.silent = true;
    let started = clock::instant();
    loop {
        let patient = clock::instant().duration_since(started) < PATIENCE;
        engine.scan(clock::instant(), Look { again: Again::None, trusting: !patient });
        if !engine.is_settling() || !patient {
            break;
        }
        thread::sleep(QUIET_UNTOLD);
    }
    let mut diagnostics = engine.store.diagnostics();
    for diagnostic in &mut diagnostics {
        engine.add_excerpt(diagnostic);
    }
    (engine.store.declared(), diagnostics, engine.report())
}

/// Reads one text that is in no file, called `file` in diagnostics.
pub fn load_text(file: &Arc<str>, bytes: &[u8]) -> (Vec<Arc<Declared>>, Vec<Diagnostic>) {
    let mut store = Store::new();
    store.take([(file.clone(), FileState::Read(Arc::new(load::parse(file, bytes))))], clock::timestamp());
    let mut diagnostics = store.diagnostics();
    for diagnostic in &mut diagnostics {
        excerpt(diagnostic, bytes);
    }
    (store.declared(), diagnostics)
}

/// What the source's thread and the watch's share. Gone once the source has ended.
type Shared<F> = Mutex<Option<Work<F>>>;

/// The source's thread: works whenever something is due, and whenever it is woken.
fn run<F: FnMut(Update) + Send + 'static>(shared: &Arc<Shared<F>>, signals: &Sender<Signal>) {
    let thread = thread::current();
    let hear: Arc<dyn Fn(Signal) + Send + Sync> = {
        let (shared, signals) = (shared.clone(), signals.clone());
        Arc::new(move |signal| hear(&shared, &signals, &thread, signal))
    };
    let _end = End(shared);
    loop {
        // Whoever broke down while holding it left it in a state that nothing may be concluded from.
        let until = shared.lock().ok().and_then(|mut work| work.as_mut()?.step(&hear));
        let Some(until) = until else { break };
        thread::park_timeout(until.saturating_duration_since(clock::instant()));
    }
    assert!(!shared.is_poisoned(), "a manifest could not be taken in");
}

/// Ends a source, however its thread does: nothing is delivered afterwards, and whoever waits for that learns of it.
struct End<'a, F>(&'a Shared<F>);

impl<F> Drop for End<'_, F> {
    fn drop(&mut self) {
        // With the watch, which holds on to all this.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What the watch's thread does with a signal: takes it in if nobody else works, and wakes the source's thread if that
/// has something to do sooner than it knows. Never waits: the source may be waiting for the watch.
fn hear<F: FnMut(Update)>(shared: &Shared<F>, signals: &Sender<Signal>, thread: &thread::Thread, signal: Signal) {
    if signals.send(signal).is_err() {
        return;
    }
    // A panic is to end the source, and in good order: `notify` cannot end a watch whose thread has gone.
    let take = || shared.try_lock().is_ok_and(|mut work| work.as_mut().is_some_and(Work::take_in_passing));
    if !catch_unwind(AssertUnwindSafe(take)).unwrap_or(false) {
        thread.unpark();
    }
}

/// The waiting: when to look at what, and whom to tell.
struct Work<F> {
    engine: Engine,
    options: Options,
    inbox: Receiver<Signal>,
    deliver: F,
    watch: Option<Watch>,
    watch_trouble: Option<String>,
    scans: Scans,
    started: Instant,
    told: Option<SourceReport>,
    /// When the next periodic scan is due.
    periodic: Instant,
    /// When a scan is due that something asked for.
    wanted: Option<Instant>,
    /// Before this such a scan is not due.
    not_before: Instant,
    /// Periodic scans so far.
    rounds: u32,
    /// Until then the watch's thread leaves signals to the source's.
    busy_until: Instant,
    /// Whether more is signalled than was taken in at once.
    more: bool,
    stopped: bool,
}

impl<F: FnMut(Update)> Work<F> {
    fn new(engine: Engine, options: Options, inbox: Receiver<Signal>, deliver: F, scans: Scans) -> Self {
        let started = clock::instant();
        Self {
            engine,
            options,
            inbox,
            deliver,
            watch: None,
            watch_trouble: None,
            scans,
            started,
            told: None,
            periodic: started,
            wanted: Some(started),
            not_before: started,
            rounds: 0,
            busy_until: started,
            more: false,
            stopped: false,
        }
    }

    /// Does whatever is due. Returns when the next thing will be, or nothing once it is to end.
    fn step(&mut self, hear: &Arc<dyn Fn(Signal) + Send + Sync>) -> Option<Instant> {
        self.take_all();
        if self.stopped {
            return None;
        }
        let now = clock::instant();
        let due = now >= self.periodic;
        if due || self.wanted.is_some_and(|at| now >= at) {
            self.scan(due, now, hear);
        }
        self.engine.look_at_pending(now);
        let ready = self.told.is_some()
            || self.engine.trouble.is_some()
            || (self.engine.loaded && (!self.engine.is_settling() || now.duration_since(self.started) > PATIENCE));
        if ready {
            self.tell();
        }
        if self.engine.is_releasing() {
            self.want(self.not_before.max(clock::instant() + GONE_AFTER / 2));
        }
        if self.engine.is_unavailable() {
            self.want(clock::instant() + Duration::from_secs(1).min(self.options.scan_interval));
        }
        Some(self.until())
    }

    /// Asks for a scan at `at`, if none is asked for sooner.
    fn want(&mut self, at: Instant) {
        self.wanted = Some(self.wanted.map_or(at, |wanted| wanted.min(at)));
    }

    /// When the next thing is due.
    fn until(&self) -> Instant {
        let at_once = self.more.then_some(self.started);
        [self.wanted, self.engine.settles_at(), at_once].into_iter().flatten().fold(self.periodic, Instant::min)
    }

    /// Looks at the tree; `due`: because it is time to.
    fn scan(&mut self, due: bool, now: Instant, hear: &Arc<dyn Fn(Signal) + Send + Sync>) {
        let watched = self.watch.is_some() && !self.is_watch_stale();
        // Not sooner: our own reading would wake the watch ten thousand times, and adding it to a large tree takes as long
        // as a scan, for which nobody is to wait. What happens meanwhile is found by another scan, at once.
        let first = self.rounds == 0;
        if !first {
            self.arm(due, hear);
        }
        let full = due && self.rounds % FULL_EVERY == FULL_EVERY - 1;
        let again = if full { self.again(watched && self.engine.told, self.rounds) } else { Again::None };
        self.engine.scan(now, Look { again, trusting: false });
        if self.engine.trouble.is_none() {
            let since_epoch = clock::system_time().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            self.scans.scanned.store(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.scans.finished.fetch_add(1, Ordering::Relaxed);
        let after = clock::instant();
        self.not_before = after + BETWEEN_SCANS.max(2 * after.duration_since(now));
        self.wanted = None;
        if due {
            self.rounds += 1;
            self.periodic = after + self.options.scan_interval;
        }
        if first && self.options.watch {
            self.wanted = Some(after);
        } else if self.is_watch_stale() {
            // Swapped while we looked: watch the new tree, and look again, since its events went unseen.
            self.wanted = Some(self.not_before);
        }
    }

    /// Takes in what is signalled by now, as one change: what is there already belongs together, as the two halves of a
    /// rename do and a checkout of many files. What comes meanwhile is another change, which this one is not to wait for.
    /// Whether a file was looked at for it.
    fn take_all(&mut self) -> bool {
        let signals: Vec<Signal> = self.inbox.try_iter().take(MOST_AT_ONCE).collect();
        let (taken, mut looked) = (signals.len(), false);
        for signal in signals {
            match self.take(signal) {
                Next::Stop => self.stopped = true,
                Next::Scan => self.want(self.not_before),
                Next::ScanLater => self.want(clock::instant() + LATER),
                Next::Looked(scan) => {
                    looked = true;
                    if scan {
                        self.want(self.not_before);
                    }
                }
                Next::No => {}
            }
        }
        self.more = taken == MOST_AT_ONCE;
        if taken > 0 && !self.stopped {
            self.engine.commit(clock::instant());
            // Before any scan that was asked for as well: the edit is not to wait for the rest of the fleet.
            if self.told.is_some() {
                self.tell();
            }
        }
        looked
    }

    /// The same for the thread that heard of it. Whether nothing is left for the source's thread to do sooner than it
    /// knows. One file at a time: many are read by that thread, while this one goes on emptying the kernel's queue.
    fn take_in_passing(&mut self) -> bool {
        if self.told.is_none() || self.stopped || clock::instant() < self.busy_until {
            return false;
        }
        let before = self.until();
        if self.take_all() {
            self.busy_until = clock::instant() + BETWEEN_FILES;
        }
        !self.stopped && self.until() >= before
    }

    /// Which files the scan of this round reads again; `told`: whether events and metadata tell of every change.
    fn again(&self, told: bool, round: u32) -> Again {
        if !told {
            return Again::All;
        }
        let between = self.options.scan_interval.max(Duration::from_millis(1)) * FULL_EVERY;
        let shares = u64::try_from(ALL_WITHIN.as_millis() / between.as_millis()).unwrap_or(1).max(1);
        Again::Share(u64::from(round / FULL_EVERY) % shares, shares)
    }

    /// Whether what is watched is not what there is to watch, and can be had.
    fn is_watch_stale(&self) -> bool {
        match &self.watch {
            Some(watch) => !watch.is_current(&self.engine.roots, &self.engine.outside),
            None => self.options.watch && self.watch_trouble.is_none(),
        }
    }

    /// Takes in one signal. A finished file is read at once; everything else asks for a scan.
    fn take(&mut self, signal: Signal) -> Next {
        let now = clock::instant();
        let engine = &mut self.engine;
        match signal {
            Signal::Stop => Next::Stop,
            Signal::Rescan => Next::Scan,
            Signal::Lost(trouble) => {
                warn!(trouble, "file-system events were lost; scanning everything");
                self.watch = None;
                engine.forget_writers();
                Next::Scan
            }
            Signal::Closed(path)
            | Signal::Renamed(path, _)
            | Signal::Written(path)
            | Signal::Created(path)
            | Signal::Moved(path)
                if !engine.concerns(&path) =>
            {
                Next::No
            }
            // Also of a file beside the manifests: it may be renamed over one before it is closed.
            Signal::Written(path) => {
                engine.begin_write(&path, now);
                Next::No
            }
            Signal::Closed(path) => {
                engine.end_write(&path);
                if engine.is_noise(&path) { Next::No } else { self.look(&path, now, Arrival::Closed) }
            }
            Signal::Renamed(path, _) | Signal::Created(path) | Signal::Moved(path) if engine.is_noise(&path) => {
                Next::No
            }
            Signal::Renamed(path, from) => {
                // No event shows who still writes to a file that comes from elsewhere.
                if !from.is_some_and(|from| engine.concerns(&from)) {
                    engine.read_writers();
                }
                let next = self.look(&path, now, Arrival::Whole);
                self.engine.forget_open();
                next
            }
            // A plain file is about to be written or was linked here; the scan finds a second link.
            Signal::Created(path) => {
                use std::os::unix::fs::MetadataExt as _;
                let metadata = fs::symlink_metadata(&path).ok();
                let fresh = metadata.filter(|metadata| metadata.is_file() && metadata.nlink() == 1);
                match (engine.name_of(&path), fresh) {
                    (_, None) => Next::Scan,
                    // Of one that was written before it had this name (O_TMPFILE), no close is told.
                    (Some(file), Some(metadata)) => {
                        engine.begin(file, &metadata);
                        Next::ScanLater
                    }
                    (None, Some(_)) => Next::No,
                }
            }
            // What is watched itself is gone from where it was. A new one in its place may have its very inode, on which
            // no watch lies.
            Signal::Moved(path) if self.watch.as_ref().is_some_and(|watch| watch.watches(&path)) => {
                self.watch = None;
                Next::Scan
            }
            Signal::Moved(path) if engine.is_beside(&path) => Next::No,
            Signal::Moved(_) => Next::Scan,
        }
    }

    /// A file was closed, or something was renamed to this path.
    fn look(&mut self, path: &Path, now: Instant, arrival: Arrival) -> Next {
        let engine = &mut self.engine;
        let plain = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        match engine.name_of(path).filter(|_| plain) {
            Some(file) => {
                engine.look(&file, path, now, arrival);
                // What could not be read for want of descriptors is read by the scan.
                Next::Looked(engine.linked || engine.trouble.is_some())
            }
            // A renamed directory or link, a file that moved on; or just a file that is no manifest.
            None if plain && !engine.linked => Next::No,
            None => Next::Scan,
        }
    }

    /// Watches what there is to watch now. Failing that, scanning has to do: said once, tried again with each scan.
    fn arm(&mut self, retry: bool, hear: &Arc<dyn Fn(Signal) + Send + Sync>) {
        if !self.options.watch
            || self.watch.as_ref().is_some_and(|watch| watch.is_current(&self.engine.roots, &self.engine.outside))
        {
            return;
        }
        if self.watch_trouble.is_some() && !retry {
            return;
        }
        self.watch = None;
        self.engine.forget_writers();
        match Watch::arm(&self.engine.roots, &self.engine.outside, hear.clone()) {
            Ok(watch) => {
                self.watch = Some(watch);
                if self.watch_trouble.take().is_some() {
                    info!("file-system events work again");
                }
            }
            // Not a trouble, and not for the next periodic scan: `is_watch_stale` has it tried again at once.
            Err(Unwatched::Replaced) => self.watch_trouble = None,
            Err(Unwatched::Refused(trouble)) => {
                if self.watch_trouble.as_ref() != Some(&trouble) {
                    let seconds = self.options.scan_interval.as_secs_f64();
                    warn!(trouble, scan_interval_s = seconds, "no file-system events; changes are found by scanning");
                }
                self.watch_trouble = Some(trouble);
            }
        }
    }

    /// Hands over what changed since the last time, if anything did.
    fn tell(&mut self) {
        let report = self.engine.report();
        let changes = std::mem::take(&mut self.engine.changes);
        let texts = self.engine.take_texts();
        if self.told.as_ref() == Some(&report) && changes == Changes::default() && texts.is_empty() {
            return;
        }
        if report.loaded && self.told.as_ref().is_none_or(|told| !told.loaded) {
            for root in self.engine.empty_roots() {
                warn!(
                    directory = %root.given.display(),
                    "no manifest is there: nothing is declared"
                );
            }
        }
        self.told = Some(report.clone());
        (self.deliver)(Update { changed: changes.changed, removed: changes.removed, texts, source: report });
    }
}

/// What a signal asks of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing.
    No,
    /// Nothing more, for a file that was looked at; or a look at the whole tree as well.
    Looked(bool),
    /// A look at the whole tree, soon.
    Scan,
    /// The same, in a second: what comes by then may make it needless, and none of it waits for this.
    ScanLater,
    /// To end.
    Stop,
}

#[cfg(test)]
mod tests {
    use super::super::engine::tests::manifest;
    use super::*;
    use crate::reconcile::state::Desired;

    /// Whichever thread it was that took the change in.
    #[test]
    fn who_waits_for_a_source_that_breaks_down_learns_of_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.yaml"), manifest("a", "Running")).expect("write");
        let options =
            Options { scan_interval: Duration::from_millis(100), watch: true, follow_links: false, allow_empty: false };
        let (sender, updates) = channel();
        let deliver = move |update: Update| {
            let stopped = |declared: &Arc<Declared>| declared.spec().is_some_and(|spec| spec.state == Desired::Stopped);
            assert!(!update.changed.iter().any(stopped), "this breaks down over a stopped app");
            sender.send(()).expect("somebody listens");
        };
        let source = Source::start(vec![dir.path().to_owned()], options, deliver).expect("it starts");
        let deadline = Duration::from_secs(20);
        updates.recv_timeout(deadline).expect("the first set");
        fs::write(dir.path().join("new"), manifest("a", "Stopped")).expect("write");
        fs::rename(dir.path().join("new"), dir.path().join("a.yaml")).expect("rename");
        while updates.recv_timeout(deadline) != Err(RecvTimeoutError::Disconnected) {}
        drop(source);
    }

    #[test]
    fn which_files_are_read_again() {
        let thread = |scan_interval| {
            let options = Options { scan_interval, watch: true, follow_links: false, allow_empty: false };
            Work::new(Engine::new(Vec::new(), false), options, channel().1, |_| {}, Scans::default())
        };
        let every_ten = thread(Duration::from_secs(10));
        assert_eq!(every_ten.again(false, 5), Again::All);
        assert_eq!(every_ten.again(true, 5), Again::Share(0, 60));
        assert_eq!(every_ten.again(true, 11), Again::Share(1, 60));
        assert_eq!(every_ten.again(true, 365), Again::Share(0, 60));
        assert_eq!(thread(Duration::from_secs(3600)).again(true, 11), Again::Share(0, 1));
        assert_eq!(thread(Duration::ZERO).again(true, 5), Again::Share(0, 600_000));
    }
}
