//! The directory source: the thread that scans, watches and delivers updates.
//!
//! One thread scans and owns the watch. The thread of the watch reads a single changed file itself, because a wake-up
//! of another thread takes longer; one lock protects all state. The content of the disk decides: an event only selects
//! the file to read first. A text counts when it is stable, and an object is released when a second scan does not show
//! it, either. Neither delays any other file.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tracing::{info, warn};

use super::calendar::Calendar;
use super::diagnostic::Diagnostic;
use super::engine::{Arrival, Engine, GONE_AFTER, LONGEST_WAIT, QUIET_UNSEEN, excerpt};
use super::load;
pub use super::scan::{Rules, check_glob};
use super::schedules::beside;
use super::store::{Changes, FileState, Store};
use super::tracked::Again;
use super::warnings::warnings;
use super::watch::{Signal, Unwatched, Watch};
use crate::clock;
use crate::printable;
use crate::reconcile::desired::Declared;
use crate::reconcile::schedule::Event;
use crate::source::{SourceReport, Update};

/// Minimum interval between scans that events request.
const BETWEEN_SCANS: Duration = Duration::from_millis(20);
/// Delay of the scan for a new file without a close event.
const LATER: Duration = Duration::from_secs(1);
/// Each periodic scan reads the metadata of all files. Each sixth scan also reads bytes of files with unchanged
/// metadata, which are not trusted forever: of all files if only scans find changes; of one share of the files on a
/// file system that only this kernel writes to.
const FULL_EVERY: u32 = 6;
/// Time in which all shares are read once. The kernel sets the change time (ctime) at each write, and no process can
/// set it, so this protects only against errors of the disk and of its driver.
const ALL_WITHIN: Duration = Duration::from_secs(3600);

/// Minimum interval between files that the thread of the watch reads. The thread of the source reads more files.
const BETWEEN_FILES: Duration = Duration::from_millis(1);
/// Maximum number of signals between two checks of the deadlines, so that many signals do not delay them.
const MOST_AT_ONCE: usize = 10_000;

#[derive(Debug, Clone)]
pub struct Options {
    /// Time between scans of the whole tree, with or without events.
    pub scan_interval: Duration,
    /// Whether to use the events of the kernel; without them, scans find the changes.
    pub watch: bool,
    pub rules: Rules,
    /// Whether a directory that loses all its objects at once releases them.
    pub allow_empty: bool,
}

/// Longest wait for the thread at the end of a source. The thread may be blocked by its file system.
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
    /// End of the last scan that could read the tree, in milliseconds since the epoch.
    scanned: Arc<AtomicU64>,
    /// Number of finished scans, with those that could not read the tree.
    finished: Arc<AtomicU64>,
}

#[derive(Debug)]
pub struct Source;

impl Source {
    /// Watches `roots` in a separate thread and passes each change to `deliver`, in order. The first update has all
    /// objects, or the cause why the tree cannot be read.
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
        let mut engine = Engine::new(roots, options.rules.clone());
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
    /// End of the last scan of the whole tree, in milliseconds since the epoch; 0 before the first one.
    pub fn scanned(&self) -> Arc<AtomicU64> {
        self.scans.scanned.clone()
    }

    /// Returns a function that requests a scan, and a new watch if that is needed.
    pub fn rescanner(&self) -> impl Fn() + Send + Sync + 'static {
        let (signals, thread) = (self.signals.clone(), self.thread.as_ref().map(|thread| thread.thread().clone()));
        move || {
            // The thread may have ended.
            if signals.send(Signal::Rescan).is_ok()
                && let Some(thread) = &thread
            {
                thread.unpark();
            }
        }
    }

    /// Number of finished scans, with those that could not read the tree.
    pub fn scans(&self) -> Arc<AtomicU64> {
        self.scans.finished.clone()
    }

    /// Ends the thread and waits for it for at most a second. Nothing is delivered after its end.
    pub fn stop(self) {}
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        // Fails if the thread has ended.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if self.ended.recv_timeout(END_WITHIN) == Err(RecvTimeoutError::Timeout) {
                warn!("the file system of the manifests does not answer; exiting without waiting for it");
            } else if thread.join().is_err() {
                warn!("bug: the source of manifests panicked");
            }
        }
    }
}

/// Objects, diagnostics, and the report of the source.
pub type Loaded = (Vec<Arc<Declared>>, Vec<Diagnostic>, SourceReport);

/// Reads all manifests once. Blocks for about two seconds at most while a process writes a file.
pub fn load(roots: Vec<PathBuf>) -> Loaded {
    load_with(roots, &Rules::default())
}

/// Stdin, as a path.
pub const STDIN: &str = "-";

/// A stream that is read once: stdin or a pipe.
#[derive(Debug)]
struct Stream {
    /// Its name in diagnostics.
    name: Arc<str>,
    bytes: Vec<u8>,
}

impl Stream {
    /// Reads `path` if it is stdin, a fifo or a device; `None` if it is a file or a directory, or does not exist.
    fn read(path: &Path) -> Option<io::Result<Self>> {
        let stdin = path.as_os_str() == STDIN;
        let kind = fs::metadata(path).ok().filter(|_| !stdin);
        if !stdin && kind.is_none_or(|metadata| metadata.is_file() || metadata.is_dir()) {
            return None;
        }
        let name = if stdin { "<stdin>".into() } else { path.to_string_lossy().into() };
        let mut bytes = Vec::new();
        // One byte more than allowed shows that it is too large.
        let most = load::MAX_FILE as u64 + 1;
        let read = if stdin {
            io::stdin().lock().take(most).read_to_end(&mut bytes)
        } else {
            fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
        };
        Some(read.map(|_| Self { name, bytes }))
    }

    fn state(&self) -> (Arc<str>, FileState) {
        // A blank file may be half-written; a stream is read to its end.
        let blank = self.bytes.trim_ascii().is_empty();
        let parsed = if blank { load::ParsedFile::default() } else { load::parse(&self.name, &self.bytes) };
        (self.name.clone(), FileState::Read(Arc::new(parsed)))
    }
}

/// [`load`] by `rules`. `-`, fifos and devices are read once, to their end.
pub fn load_with(roots: Vec<PathBuf>, rules: &Rules) -> Loaded {
    let (mut trees, mut streams, mut unreadable) = (Vec::new(), Vec::new(), None);
    for root in roots {
        match Stream::read(&root) {
            None => trees.push(root),
            Some(Ok(stream)) => streams.push(stream),
            Some(Err(error)) => unreadable = Some(format!("{}: {error}", root.display())),
        }
    }
    let mut engine = Engine::new(trees, rules.clone());
    engine.silent = true;
    let started = clock::instant();
    loop {
        engine.trusting = clock::instant().duration_since(started) >= LONGEST_WAIT;
        engine.scan(clock::instant(), Again::None);
        if !engine.is_pending() || engine.trusting {
            break;
        }
        thread::sleep(QUIET_UNSEEN);
    }
    engine.store.apply(streams.iter().map(Stream::state));
    let mut diagnostics = engine.store.diagnostics();
    diagnostics.extend(warnings(&engine.store, clock::timestamp()));
    for diagnostic in &mut diagnostics {
        match streams.iter().find(|stream| stream.name == diagnostic.file) {
            Some(stream) => excerpt(diagnostic, &stream.bytes),
            None => engine.add_excerpt(diagnostic),
        }
    }
    let mut report = engine.report();
    report.files += streams.len();
    report.cause = report.cause.or(unreadable.map(Into::into));
    (engine.store.declared(), diagnostics, report)
}

/// Reads one text without a file, with the name `file` in diagnostics.
pub fn load_text(file: &Arc<str>, bytes: &[u8]) -> (Vec<Arc<Declared>>, Vec<Diagnostic>) {
    let mut store = Store::new();
    store.take([(file.clone(), FileState::Read(Arc::new(load::parse(file, bytes))))], clock::timestamp());
    let mut diagnostics = store.diagnostics();
    diagnostics.extend(warnings(&store, clock::timestamp()));
    for diagnostic in &mut diagnostics {
        excerpt(diagnostic, bytes);
    }
    (store.declared(), diagnostics)
}

/// Reads an app from the status API: its manifest, and its Schedule.
pub fn load_published(app: &serde_json::Value) -> (Vec<Arc<Declared>>, Vec<Diagnostic>) {
    let read = |file: &str, document: &serde_json::Value| {
        let parsed = load::parse(&"app.json".into(), printable::json(&document.to_string()).as_bytes());
        (file.into(), FileState::Read(parsed.into()))
    };
    let mut files = vec![read("app.json", app)];
    let shared = &app["status"]["schedule"];
    if let Some(file) = shared["file"].as_str() {
        let mut spec = shared.clone();
        let own = |field: &str| matches!(field, "timeZone" | "windows" | "except");
        spec.as_object_mut().into_iter().for_each(|spec| spec.retain(|field, _| own(field)));
        for except in spec["except"].as_array_mut().into_iter().flatten().filter_map(|except| except.as_object_mut()) {
            let events = except.remove("events").unwrap_or_default();
            let event = |event: &serde_json::Value| {
                let at = |field: &str| event[field].as_str()?.parse().ok();
                let summary = event["summary"].as_str().unwrap_or_default().into();
                Some(Event { from: at("from")?, to: at("to")?, summary })
            };
            let events: Vec<Event> = events.as_array().into_iter().flatten().filter_map(event).collect();
            let calendar = Calendar::of(&events);
            let parsed = load::ParsedFile { calendar: Some(calendar.into()), ..load::ParsedFile::default() };
            let path = beside(file, except["calendar"].as_str().unwrap_or_default());
            files.push((path, FileState::Read(parsed.into())));
        }
        let metadata = serde_json::json!({"name": shared["name"]});
        let document = serde_json::json!({"apiVersion": app["apiVersion"], "kind": "Schedule", "metadata": metadata, "spec": spec});
        files.push(read(file, &document));
    }
    let mut store = Store::new();
    store.take(files, clock::timestamp());
    (store.declared(), store.diagnostics())
}

/// State that the threads of the source and of the watch share. `None` after the end of the source.
type Shared<F> = Mutex<Option<Work<F>>>;

type Listener = Arc<dyn Fn(Signal) + Send + Sync>;

/// Body of the thread of the source: works at each deadline, and whenever it is unparked.
fn run<F: FnMut(Update) + Send + 'static>(shared: &Arc<Shared<F>>, signals: &Sender<Signal>) {
    let thread = thread::current();
    let listener: Listener = {
        let (shared, signals) = (shared.clone(), signals.clone());
        Arc::new(move |signal| on_signal(&shared, &signals, &thread, signal))
    };
    let _end = End(shared);
    loop {
        // After a panic, the state is unreliable.
        let until = shared.lock().ok().and_then(|mut work| work.as_mut()?.step(&listener));
        let Some(until) = until else { break };
        thread::park_timeout(until.saturating_duration_since(clock::instant()));
    }
    assert!(!shared.is_poisoned(), "a manifest could not be taken in");
}

/// Ends a source, also after a panic: nothing is delivered afterwards, and the sender of updates is dropped.
struct End<'a, F>(&'a Shared<F>);

impl<F> Drop for End<'_, F> {
    fn drop(&mut self) {
        // This also drops the watch, whose thread shares the state.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Handles a signal in the thread of the watch if the state is not locked, and wakes the thread of the source if its
/// deadline is now earlier. It never waits, because the source may wait for the watch.
fn on_signal<F: FnMut(Update)>(shared: &Shared<F>, signals: &Sender<Signal>, thread: &thread::Thread, signal: Signal) {
    if signals.send(signal).is_err() {
        return;
    }
    // A panic must end the source cleanly: `notify` cannot end a watch without its thread.
    let take = || shared.try_lock().is_ok_and(|mut work| work.as_mut().is_some_and(Work::take_in_passing));
    if !catch_unwind(AssertUnwindSafe(take)).unwrap_or(false) {
        thread.unpark();
    }
}

/// The source's timers, its watch and its engine.
struct Work<F> {
    engine: Engine,
    options: Options,
    inbox: Receiver<Signal>,
    deliver: F,
    watch: Option<Watch>,
    watch_trouble: Option<String>,
    scans: Scans,
    started: Instant,
    reported: Option<SourceReport>,
    /// Time of the next periodic scan.
    periodic: Instant,
    /// Time of the next requested scan.
    requested: Option<Instant>,
    /// Earliest time for a requested scan.
    not_before: Instant,
    /// Number of periodic scans so far.
    periods: u32,
    /// End of the time in which the thread of the watch leaves signals to the thread of the source.
    busy_until: Instant,
    /// Whether more signals are pending.
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
            reported: None,
            periodic: started,
            requested: Some(started),
            not_before: started,
            periods: 0,
            busy_until: started,
            more: false,
            stopped: false,
        }
    }

    /// Does the scheduled work. Returns the next deadline; `None` at the end.
    fn step(&mut self, listener: &Listener) -> Option<Instant> {
        self.take_signals();
        if self.stopped {
            return None;
        }
        let now = clock::instant();
        let periodic = now >= self.periodic;
        if periodic || self.requested.is_some_and(|at| now >= at) {
            self.scan(periodic, now, listener);
        }
        self.engine.reread_pending(now);
        let has_waited = now.duration_since(self.started) > LONGEST_WAIT;
        let ready = self.reported.is_some()
            || self.engine.cause.is_some()
            || (self.engine.loaded && (!self.engine.is_pending() || has_waited));
        if ready {
            self.report();
        }
        if self.engine.is_releasing() {
            self.request_scan(self.not_before.max(clock::instant() + GONE_AFTER / 2));
        }
        if self.engine.is_unavailable() {
            self.request_scan(clock::instant() + Duration::from_secs(1).min(self.options.scan_interval));
        }
        Some(self.deadline())
    }

    /// Requests a scan at `at`, unless one is requested for an earlier time.
    fn request_scan(&mut self, at: Instant) {
        self.requested = Some(self.requested.map_or(at, |requested| requested.min(at)));
    }

    fn deadline(&self) -> Instant {
        let at_once = self.more.then_some(self.started);
        [self.requested, self.engine.next_reread(), at_once].into_iter().flatten().fold(self.periodic, Instant::min)
    }

    fn scan(&mut self, periodic: bool, now: Instant, listener: &Listener) {
        let watched = self.watch.is_some() && !self.is_watch_stale();
        // Scan before the first watch: the reads of the scan would cause ten thousand events, and a watch of a large
        // tree takes as long as a scan. Another scan follows at once, and finds changes of the time between.
        let first = self.periods == 0;
        if !first {
            self.arm(periodic, listener);
        }
        let full = periodic && self.periods % FULL_EVERY == FULL_EVERY - 1;
        let again =
            if full { self.again(watched && self.engine.listing.is_local(), self.periods) } else { Again::None };
        self.engine.scan(now, again);
        if self.engine.cause.is_none() {
            let since_epoch = clock::system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.scans.scanned.store(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.scans.finished.fetch_add(1, Ordering::Relaxed);
        let after = clock::instant();
        self.not_before = after + BETWEEN_SCANS.max(2 * after.duration_since(now));
        self.requested = None;
        if periodic {
            self.periods += 1;
            self.periodic = after + self.options.scan_interval;
        }
        if first && self.options.watch {
            self.requested = Some(after);
        } else if self.is_watch_stale() {
            // The tree was swapped during the scan: watch the new one and scan it, because its events were missed.
            self.requested = Some(self.not_before);
        }
    }

    /// Handles the present signals as one change, for example the two halves of a rename, or a checkout of many files.
    /// Later signals are another change. Returns whether a file was read.
    fn take_signals(&mut self) -> bool {
        let signals: Vec<Signal> = self.inbox.try_iter().take(MOST_AT_ONCE).collect();
        let (taken, mut read) = (signals.len(), false);
        for signal in signals {
            match self.take(signal) {
                Next::Stop => self.stopped = true,
                Next::Scan => self.request_scan(self.not_before),
                Next::ScanLater => self.request_scan(clock::instant() + LATER),
                Next::Read { scan } => {
                    read = true;
                    if scan {
                        self.request_scan(self.not_before);
                    }
                }
                Next::Nothing => {}
            }
        }
        self.engine.drop_writers();
        self.more = taken == MOST_AT_ONCE;
        if taken > 0 && !self.stopped {
            self.engine.commit(clock::instant());
            // Before a requested scan, so that an edit does not wait for the other files.
            if self.reported.is_some() {
                self.report();
            }
        }
        read
    }

    /// [`Work::take_signals`] for the thread of the watch. Returns whether the deadline of the thread of the source is
    /// still right. Reads one file at a time: the thread of the source reads many, while this thread empties the queue
    /// of the kernel.
    fn take_in_passing(&mut self) -> bool {
        if self.reported.is_none() || self.stopped || clock::instant() < self.busy_until {
            return false;
        }
        let before = self.deadline();
        if self.take_signals() {
            self.busy_until = clock::instant() + BETWEEN_FILES;
        }
        !self.stopped && self.deadline() >= before
    }

    /// The unchanged files that a full scan reads again; `seen`: whether events and metadata show every change.
    fn again(&self, seen: bool, period: u32) -> Again {
        if !seen {
            return Again::All;
        }
        let between = self.options.scan_interval.max(Duration::from_millis(1)) * FULL_EVERY;
        let shares = u64::try_from(ALL_WITHIN.as_millis() / between.as_millis()).unwrap_or(1).max(1);
        Again::Share(u64::from(period / FULL_EVERY) % shares, shares)
    }

    /// Returns whether another watch is needed, and is possible.
    fn is_watch_stale(&self) -> bool {
        match &self.watch {
            Some(watch) => !self.is_current(watch),
            None => self.options.watch && self.watch_trouble.is_none(),
        }
    }

    fn is_current(&self, watch: &Watch) -> bool {
        watch.is_current(&self.engine.roots, &self.engine.listing.outside)
    }

    /// Handles one signal. A finished file is read at once; everything else requests a scan.
    fn take(&mut self, signal: Signal) -> Next {
        let now = clock::instant();
        let engine = &mut self.engine;
        match signal {
            Signal::Stop => Next::Stop,
            Signal::Rescan => Next::Scan,
            Signal::Lost(cause) => {
                warn!(cause, "file-system events were lost; scanning all manifests");
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
                Next::Nothing
            }
            // Also for a file beside the manifests: it may be renamed over a manifest before it is closed.
            Signal::Written(path) => {
                engine.begin_write(&path, now);
                Next::Nothing
            }
            Signal::Closed(path) => {
                engine.end_write(&path);
                if engine.is_ignore_file(&path) {
                    return Next::Scan;
                }
                if engine.is_noise(&path) { Next::Nothing } else { self.read(&path, now, Arrival::Closed) }
            }
            Signal::Renamed(path, _) | Signal::Created(path) | Signal::Moved(path) if engine.is_noise(&path) => {
                Next::Nothing
            }
            Signal::Renamed(path, _) if engine.is_ignore_file(&path) => Next::Scan,
            Signal::Renamed(path, from) => {
                // No event shows the writers of a file from outside the tree.
                if !from.is_some_and(|from| engine.concerns(&from)) {
                    engine.read_writers(&path, now);
                }
                self.read(&path, now, Arrival::Whole)
            }
            // A new plain file will be written, or is a hard link; the scan finds a hard link.
            Signal::Created(path) => {
                let metadata = fs::symlink_metadata(&path).ok();
                let fresh = metadata.filter(|metadata| metadata.is_file() && metadata.nlink() == 1);
                match (engine.name_of(&path), fresh) {
                    (_, None) => Next::Scan,
                    // No event shows the close of a file that was written before it had this name (O_TMPFILE).
                    (Some(file), Some(metadata)) => {
                        engine.begin(file, &metadata);
                        Next::ScanLater
                    }
                    (None, Some(_)) => Next::Nothing,
                }
            }
            // A watched directory was removed or renamed. A new directory in its place may have the same inode, and has
            // no watch.
            Signal::Moved(path) if self.watch.as_ref().is_some_and(|watch| watch.watches(&path)) => {
                self.watch = None;
                Next::Scan
            }
            Signal::Moved(path) if engine.is_beside(&path) => Next::Nothing,
            Signal::Moved(_) => Next::Scan,
        }
    }

    /// Reads a file that was closed, or renamed to this path.
    fn read(&mut self, path: &Path, now: Instant, arrival: Arrival) -> Next {
        let engine = &mut self.engine;
        let plain = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        match engine.name_of(path).filter(|_| plain) {
            Some(file) => {
                engine.read(&file, path, now, arrival);
                // The scan retries files that could not be read without a free descriptor.
                Next::Read { scan: engine.listing.linked || engine.cause.is_some() }
            }
            // A renamed directory or link, a file that moved again, or a file that is no manifest.
            None if plain && !engine.listing.linked => Next::Nothing,
            None => Next::Scan,
        }
    }

    /// Watches the present tree. If that fails, scans find the changes; logged once, retried with each periodic scan.
    fn arm(&mut self, retry: bool, listener: &Listener) {
        let current = self.watch.as_ref().is_some_and(|watch| self.is_current(watch));
        if !self.options.watch || current || (self.watch_trouble.is_some() && !retry) {
            return;
        }
        self.watch = None;
        self.engine.forget_writers();
        match Watch::arm(&self.engine.roots, &self.engine.listing.outside, listener.clone()) {
            Ok(watch) => {
                self.watch = Some(watch);
                if self.watch_trouble.take().is_some() {
                    info!("file-system events work again");
                }
            }
            // No warning: `is_watch_stale` causes a retry at once.
            Err(Unwatched::Replaced) => self.watch_trouble = None,
            Err(Unwatched::Refused(cause)) => {
                if self.watch_trouble.as_ref() != Some(&cause) {
                    let seconds = self.options.scan_interval.as_secs_f64();
                    warn!(cause, scan_interval_s = seconds, "file-system events do not work; scans find the changes");
                }
                self.watch_trouble = Some(cause);
            }
        }
    }

    /// Delivers the changes since the last report, if there are any.
    fn report(&mut self) {
        let report = self.engine.report();
        let changes = std::mem::take(&mut self.engine.changes);
        let texts = self.engine.take_texts();
        if self.reported.as_ref() == Some(&report) && changes == Changes::default() && texts.is_empty() {
            return;
        }
        if report.loaded && self.reported.as_ref().is_none_or(|reported| !reported.loaded) {
            for root in self.engine.empty_roots() {
                warn!(
                    directory = %root.given.display(),
                    "the directory has no manifests: nothing is declared"
                );
            }
        }
        self.reported = Some(report.clone());
        let Changes { changed, removed, .. } = changes;
        (self.deliver)(Update { changed, removed, texts, source: report });
    }
}

/// The consequence of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    /// A file was read; `scan`: the whole tree must be scanned, too.
    Read {
        scan: bool,
    },
    Scan,
    /// A scan in a second, unless later signals make it unnecessary.
    ScanLater,
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::example;
    use crate::reconcile::state::Desired;

    /// This is true for both threads that may handle the change.
    #[test]
    fn a_source_that_breaks_down_drops_its_receiver_of_updates() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.yaml"), example("a", "a1", "Running")).expect("write");
        let options = Options {
            scan_interval: Duration::from_millis(100),
            watch: true,
            rules: Rules::default(),
            allow_empty: false,
        };
        let (sender, updates) = channel();
        let deliver = move |update: Update| {
            let stopped = |declared: &Arc<Declared>| declared.spec().is_some_and(|spec| spec.state == Desired::Stopped);
            assert!(!update.changed.iter().any(stopped), "this breaks down over a stopped app");
            sender.send(()).expect("somebody listens");
        };
        let source = Source::start(vec![dir.path().to_owned()], options, deliver).expect("it starts");
        let deadline = Duration::from_secs(20);
        updates.recv_timeout(deadline).expect("the first set");
        fs::write(dir.path().join("new"), example("a", "a1", "Stopped")).expect("write");
        fs::rename(dir.path().join("new"), dir.path().join("a.yaml")).expect("rename");
        while updates.recv_timeout(deadline) != Err(RecvTimeoutError::Disconnected) {}
        drop(source);
    }

    #[test]
    fn a_full_scan_reads_one_share_where_events_show_all_changes() {
        let thread = |scan_interval| {
            let options = Options { scan_interval, watch: true, rules: Rules::default(), allow_empty: false };
            Work::new(Engine::new(Vec::new(), Rules::default()), options, channel().1, |_| {}, Scans::default())
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
