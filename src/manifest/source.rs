//! What do the manifests declare now, and when does that change?
//!
//! One thread owns the scan, the catalog and the watch, and hands each change to a callback. The disk's content is the
//! truth: an event only says which file to look at first. A text is acted on once it has settled, and an object is
//! released once a second look still does not show it; neither keeps any other file waiting.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::catalog::{Catalog, Changes, FileState};
use super::clock;
use super::diagnostic::{Diagnostic, printable};
use super::load::{self, Content};
use super::scan::{self, Bytes, Layout, Listing, Outside, Print, Root};
use super::watch::{Signal, Unwatched, Watch};
use crate::reconcile::desired::{Declared, SourceReport, Update};

/// How long a text that only a scan saw must stay the same: a writer in place pauses for less.
const QUIET: Duration = Duration::from_millis(200);
/// The same, while events tell of a writer that has not closed the file.
const QUIET_WHILE_OPEN: Duration = Duration::from_secs(2);
/// A file modified longer ago than this is not being written: taken at once.
const RECENT: Duration = Duration::from_secs(2);
/// How long a file must be gone. A little more than `QUIET`, so that a file that was copied and removed is seen to have
/// moved; releasing is never urgent.
const GONE_AFTER: Duration = Duration::from_millis(300);
/// How long unsettled files keep others from being found gone, and the first message from being sent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rescans that events ask for lie at least this far apart.
const BETWEEN_SCANS: Duration = Duration::from_millis(20);
/// Every so many periodic scans every byte is read again: no modification time is trusted for ever.
const FULL_EVERY: u32 = 6;

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
}

/// A running source. Dropping it ends its thread.
#[derive(Debug)]
pub struct SourceHandle {
    signals: Sender<Signal>,
    thread: Option<thread::JoinHandle<()>>,
    scanned: Arc<AtomicU64>,
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
        let own = signals.clone();
        let scanned = Arc::new(AtomicU64::new(0));
        let scans = scanned.clone();
        let thread = thread::Builder::new().name("source".into()).spawn(move || {
            Thread {
                engine: Engine::new(roots, options.follow_links),
                options,
                signals: own,
                inbox,
                deliver,
                watch: None,
                watch_trouble: None,
                scans,
            }
            .run();
        })?;
        Ok(SourceHandle { signals, thread: Some(thread), scanned })
    }
}

impl SourceHandle {
    /// When the whole tree was scanned last, in milliseconds since the epoch; 0 before the first time.
    pub fn scanned(&self) -> Arc<AtomicU64> {
        self.scanned.clone()
    }

    /// Ends the thread and waits for it: nothing is delivered afterwards.
    pub fn stop(self) {}
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to tell.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the source of manifests broke down");
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
    let mut engine = Engine { silent: true, ..Engine::new(roots, follow_links) };
    let started = clock::now();
    loop {
        let patient = clock::now().duration_since(started) < PATIENCE;
        engine.scan(clock::now(), Look { full: false, trusting: !patient });
        if engine.pending.is_empty() || !patient {
            break;
        }
        thread::sleep(QUIET);
    }
    let mut diagnostics = engine.catalog.diagnostics();
    for diagnostic in &mut diagnostics {
        engine.add_excerpt(diagnostic);
    }
    (engine.catalog.declared(), diagnostics, engine.report())
}

/// Reads one text that is in no file, called `file` in diagnostics.
pub fn load_text(file: &Arc<str>, bytes: &[u8]) -> (Vec<Arc<Declared>>, Vec<Diagnostic>) {
    let mut catalog = Catalog::new();
    catalog.take([(file.clone(), FileState::Read(Arc::new(load::parse(file, bytes))))], clock::timestamp());
    let mut diagnostics = catalog.diagnostics();
    for diagnostic in &mut diagnostics {
        excerpt(diagnostic, bytes);
    }
    (catalog.declared(), diagnostics)
}

/// How to look at the tree.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    /// Read every byte, whatever the metadata say.
    full: bool,
    /// Take every text as settled.
    trusting: bool,
}

/// What is in the catalog of one file.
#[derive(Debug)]
struct Tracked {
    path: PathBuf,
    /// Hash of the bytes, or of what keeps them from being read.
    hash: u64,
    /// With this print the bytes need not be read again; `None` where the file was modified too shortly before.
    print: Option<Print>,
    inode: Option<Print>,
}

/// A text that is not taken yet.
#[derive(Debug)]
struct Pending {
    path: PathBuf,
    hash: u64,
    print: Print,
    since: Instant,
    quiet: Duration,
}

/// Everything but the waiting: looks at the disk and keeps the catalog.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each true or not")]
#[derive(Debug)]
struct Engine {
    roots: Vec<Root>,
    follow_links: bool,
    outside: Outside,
    catalog: Catalog,
    tracked: HashMap<Arc<str>, Tracked>,
    pending: BTreeMap<Arc<str>, Pending>,
    missing: BTreeMap<Arc<str>, Instant>,
    /// Files with a writer, and when it last wrote.
    written: HashMap<Arc<str>, Instant>,
    layout: Layout,
    skipped: usize,
    linked: bool,
    loaded: bool,
    trouble: Option<Arc<str>>,
    /// Sum of the hashes of all names and contents: changes when any of them does.
    revision: u64,
    batch: BTreeMap<Arc<str>, FileState>,
    changes: Changes,
    problems: Vec<Diagnostic>,
    /// Whether problems are not logged: whoever loads once prints them.
    silent: bool,
}

impl Engine {
    fn new(roots: Vec<PathBuf>, follow_links: bool) -> Self {
        Self {
            roots: scan::roots(roots),
            follow_links,
            outside: Outside::default(),
            catalog: Catalog::new(),
            tracked: HashMap::new(),
            pending: BTreeMap::new(),
            missing: BTreeMap::new(),
            written: HashMap::new(),
            layout: Layout::default(),
            skipped: 0,
            linked: false,
            loaded: false,
            trouble: None,
            revision: 0,
            batch: BTreeMap::new(),
            changes: Changes::default(),
            problems: Vec::new(),
            silent: false,
        }
    }

    /// Looks at the whole tree. Nothing is concluded from a tree that cannot be listed.
    fn scan(&mut self, now: Instant, look: Look) {
        let listing = match scan::list(&self.roots, self.follow_links) {
            Ok(listing) => listing,
            Err(trouble) => {
                self.trouble = Some(trouble.into());
                return;
            }
        };
        self.trouble = None;
        let swapped = listing.layout.swapped_since(&self.layout);
        let trusting = look.trusting || swapped;
        let mut inodes = None;
        for (file, found) in &listing.files {
            self.missing.remove(file);
            let known = self.tracked.get(file).filter(|known| known.path == found.path);
            if !look.full
                && !self.pending.contains_key(file)
                && known.is_some_and(|known| known.print == Some(found.print))
            {
                continue;
            }
            let moved =
                known.is_none() && absent_inodes(&mut inodes, &self.tracked, &listing).contains(&found.print.file());
            self.look(file, &found.path, now, trusting || moved);
        }
        for (file, diagnostic) in &listing.oddities {
            self.missing.remove(file);
            self.unreadable(file, diagnostic.clone());
        }
        self.absent(now, &listing);
        self.layout = listing.layout;
        self.skipped = listing.skipped;
        self.linked = listing.linked;
        self.outside = listing.outside;
        self.loaded = true;
        self.commit();
    }

    /// What is known and was not listed: held, if its directory could not be; gone, if a second look agrees.
    fn absent(&mut self, now: Instant, listing: &Listing) {
        let listed = |file: &Arc<str>| listing.files.contains_key(file) || listing.oddities.contains_key(file);
        self.pending.retain(|file, _| listed(file));
        self.written.retain(|file, _| listed(file));
        let unlisted: Vec<Arc<str>> = self.tracked.keys().filter(|file| !listed(file)).cloned().collect();
        for file in unlisted {
            if let Some((_, diagnostic)) = listing.unlisted.iter().find(|(below, _)| file.starts_with(below.as_str())) {
                let mut diagnostic = diagnostic.clone();
                diagnostic.file = file.clone();
                self.unreadable(&file, diagnostic);
                continue;
            }
            let since = *self.missing.entry(file.clone()).or_insert(now);
            let gone_for = now.duration_since(since);
            if gone_for >= PATIENCE || (gone_for >= GONE_AFTER && self.pending.is_empty()) {
                self.gone(&file);
            }
        }
    }

    /// Looks at one file. `settled`: whether its text is known to be complete.
    fn look(&mut self, file: &Arc<str>, path: &Path, now: Instant, settled: bool) {
        let (bytes, print) = match scan::read(file, path) {
            Bytes::Whole(bytes, print) => (bytes, print),
            Bytes::Torn => {
                // Whoever writes it has not finished; the next look comes with the pending ones.
                if let Ok(metadata) = fs::metadata(path) {
                    let pending = Pending {
                        path: path.to_owned(),
                        hash: 0,
                        print: Print::of(&metadata),
                        since: now,
                        quiet: QUIET,
                    };
                    self.pending.insert(file.clone(), pending);
                }
                return;
            }
            // For a whole listing to confirm.
            Bytes::Absent => return,
            Bytes::Unreadable(diagnostic) => {
                self.unreadable(file, diagnostic);
                return;
            }
        };
        let hash = hash(&bytes);
        let wall = clock::wall();
        let trusted = (!print.modified_within(RECENT, wall)).then_some(print);
        if let Some(known) = self.tracked.get_mut(file)
            && known.hash == hash
        {
            (known.print, known.inode) = (trusted, Some(print));
            path.clone_into(&mut known.path);
            self.pending.remove(file);
            return;
        }
        let open = self.written.get(file).is_some_and(|written| now.duration_since(*written) < QUIET_WHILE_OPEN);
        if !settled && (open || trusted.is_none()) {
            let quiet = if open { QUIET_WHILE_OPEN } else { QUIET };
            match self.pending.get_mut(file) {
                Some(pending) if pending.hash == hash && pending.print == print => {
                    if now.duration_since(pending.since) < pending.quiet {
                        return;
                    }
                }
                _ => {
                    self.pending
                        .insert(file.clone(), Pending { path: path.to_owned(), hash, print, since: now, quiet });
                    return;
                }
            }
        }
        self.pending.remove(file);
        self.written.remove(file);
        let parsed = load::parse(file, &bytes);
        if !parsed.conclusive && !self.tracked.contains_key(file) {
            self.settle_broken_move(file, hash, &print);
        }
        self.settle_moves(file, &parsed);
        self.track(file, Tracked { path: path.to_owned(), hash, print: trusted, inode: Some(print) });
        self.batch.insert(file.clone(), FileState::Read(Arc::new(parsed)));
    }

    /// If an object of this file was in another that is gone from the disk, the two are one change: a move.
    fn settle_moves(&mut self, file: &Arc<str>, parsed: &load::ParsedFile) {
        let mut left = BTreeSet::new();
        for document in &parsed.documents {
            let (Content::Good(_), Some(name)) = (&document.content, &document.name) else { continue };
            left.extend(self.catalog.files_of(name).into_iter().filter(|other| other != file));
        }
        for other in left {
            if self.tracked.get(&other).is_some_and(|known| is_absent(&known.path))
                && self.roots.iter().all(|root| root.given.exists())
            {
                self.gone(&other);
            }
        }
    }

    /// If this is another file under a new name, it still holds what it held: its names need not be readable for that.
    fn settle_broken_move(&mut self, file: &Arc<str>, hash: u64, print: &Print) {
        // In a tree that was replaced as a whole every old path is absent, which says nothing of the file.
        let in_place = |path: &Path| {
            let mut reals = self.roots.iter().filter_map(|root| fs::canonicalize(&root.given).ok());
            reals.any(|real| path.starts_with(real))
        };
        // The inode first: of a thousand empty files not each is to be compared with all the others on the disk.
        let same = |(_, known): &(&Arc<str>, &Tracked)| {
            known.hash == hash
                && known.inode.is_some_and(|known| known.file() == print.file())
                && is_absent(&known.path)
                && in_place(&known.path)
        };
        let Some(from) = self.tracked.iter().find(same).map(|(from, _)| from.clone()) else { return };
        // What is known of it may not have reached the catalog yet.
        self.commit();
        self.catalog.rename(&from, file);
        self.missing.remove(&from);
        if let Some(before) = self.tracked.remove(&from) {
            self.revision = self.revision.wrapping_sub(mark(&from, before.hash));
        }
    }

    fn unreadable(&mut self, file: &Arc<str>, diagnostic: Diagnostic) {
        let hash = hash(diagnostic.message.as_bytes());
        self.pending.remove(file);
        if self.tracked.get(file).is_some_and(|known| known.hash == hash && known.inode.is_none()) {
            return;
        }
        let path = self.tracked.get(file).map_or_else(PathBuf::new, |known| known.path.clone());
        self.track(file, Tracked { path, hash, print: None, inode: None });
        self.batch.insert(file.clone(), FileState::Unreadable(diagnostic));
    }

    fn track(&mut self, file: &Arc<str>, tracked: Tracked) {
        self.missing.remove(file);
        self.revision = self.revision.wrapping_add(mark(file, tracked.hash));
        if let Some(before) = self.tracked.insert(file.clone(), tracked) {
            self.revision = self.revision.wrapping_sub(mark(file, before.hash));
        }
    }

    fn gone(&mut self, file: &Arc<str>) {
        self.missing.remove(file);
        if let Some(before) = self.tracked.remove(file) {
            self.revision = self.revision.wrapping_sub(mark(file, before.hash));
            self.batch.insert(file.clone(), FileState::Gone);
        }
    }

    /// Brings what was read into force, as one change.
    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let changes = self.catalog.take(std::mem::take(&mut self.batch), clock::timestamp());
        // Of what was not told yet, the newest counts.
        let newer: BTreeSet<_> =
            changes.changed.iter().map(|declared| &declared.name).chain(&changes.removed).cloned().collect();
        self.changes.changed.retain(|declared| !newer.contains(&declared.name));
        self.changes.removed.retain(|name| !newer.contains(name));
        self.changes.changed.extend(changes.changed);
        self.changes.removed.extend(changes.removed);
        let problems = self.catalog.diagnostics();
        self.tell(&problems);
        self.problems = problems;
    }

    /// One line for each problem that is new, and one for each file that has none any more.
    fn tell(&self, problems: &[Diagnostic]) {
        if self.silent || (self.problems.is_empty() && problems.is_empty()) {
            return;
        }
        let key = |problem: &Diagnostic| (problem.file.clone(), problem.line, problem.column, problem.message.clone());
        let before: BTreeSet<_> = self.problems.iter().map(key).collect();
        for problem in problems.iter().filter(|problem| !before.contains(&key(problem))) {
            let hint = problem.hint.as_deref().unwrap_or_default();
            // The name of a file is anybody's text.
            let (file, reason) = (printable(&problem.file), problem.reason.as_str());
            let (line, column) = (problem.line, problem.column);
            warn!(file, line, column, reason, hint, severity = problem.severity.as_str(), "{}", problem.message);
        }
        let still: BTreeSet<_> = problems.iter().map(|problem| &problem.file).collect();
        let mended: BTreeSet<_> =
            self.problems.iter().map(|problem| &problem.file).filter(|file| !still.contains(file)).collect();
        for file in mended {
            info!(file = %file, "manifest mended or removed");
        }
    }

    fn report(&self) -> SourceReport {
        let revision = self.layout.revision().map_or_else(|| format!("{:016x}", self.revision), ToOwned::to_owned);
        SourceReport {
            available: self.trouble.is_none(),
            trouble: self.trouble.clone(),
            loaded: self.loaded,
            revision: revision.into(),
            files: self.tracked.len(),
            skipped: self.skipped,
            problems: self.problems.iter().map(|problem| problem.one_line().into()).collect(),
        }
    }

    /// The name of a file below a root, if its path is that of a manifest that a listing would show.
    fn name_of(&self, path: &Path) -> Option<Arc<str>> {
        let (root, below) = self
            .roots
            .iter()
            .zip(self.layout.reals())
            .find_map(|(root, real)| Some((root, path.strip_prefix(real).ok()?)))?;
        let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
        let parts = parts?;
        let (last, above) = parts.split_last()?;
        let shown = scan::is_manifest(last) && !above.iter().any(|part| scan::hidden(part) || scan::is_manifest(part));
        shown.then(|| format!("{}{}", root.prefix, parts.join("/")).into())
    }

    /// Whether an event at `path` can concern the tree at all. The directories above it may be busy with other things.
    fn concerns(&self, path: &Path) -> bool {
        let given = |root: &Root| std::path::absolute(&root.given).is_ok_and(|given| given.starts_with(path));
        self.layout.reals().any(|real| path.starts_with(real) || real.starts_with(path))
            || self.layout.links().any(|link| link.starts_with(path))
            || self.outside.concerns(path)
            || self.roots.iter().any(given)
    }

    /// Whether an event at a path inside the tree is only the noise of hidden files.
    fn is_noise(&self, path: &Path) -> bool {
        let inside = self.layout.reals().find_map(|real| path.strip_prefix(real).ok());
        let ignored = |part: &std::ffi::OsStr| part.to_str().is_some_and(|part| scan::hidden(part) && part != "..data");
        !self.linked && inside.is_some_and(|below| below.iter().any(ignored))
    }

    /// Fills in the line a diagnostic is about, where the catalog could not know it.
    fn add_excerpt(&self, diagnostic: &mut Diagnostic) {
        if diagnostic.excerpt.is_none()
            && let Some(known) = self.tracked.get(&diagnostic.file)
            && let Bytes::Whole(bytes, _) = scan::read(&diagnostic.file, &known.path)
        {
            excerpt(diagnostic, &bytes);
        }
    }
}

fn excerpt(diagnostic: &mut Diagnostic, bytes: &[u8]) {
    if diagnostic.excerpt.is_none() && diagnostic.line > 0 {
        let text = String::from_utf8_lossy(bytes);
        diagnostic.excerpt = text.lines().nth(diagnostic.line as usize - 1).map(Into::into);
    }
}

/// Device and inode of the known files that are not listed: one of them under another name is complete, since it was.
fn absent_inodes<'a>(
    inodes: &'a mut Option<HashSet<(u64, u64)>>,
    tracked: &HashMap<Arc<str>, Tracked>,
    listing: &Listing,
) -> &'a HashSet<(u64, u64)> {
    inodes.get_or_insert_with(|| {
        let absent = tracked.iter().filter(|(file, _)| !listing.files.contains_key(*file));
        absent.filter_map(|(_, known)| known.inode.map(|print| print.file())).collect()
    })
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn mark(file: &str, content: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (file, content).hash(&mut hasher);
    hasher.finish()
}

/// The waiting: when to look at what, and whom to tell.
struct Thread<F> {
    engine: Engine,
    options: Options,
    signals: Sender<Signal>,
    inbox: Receiver<Signal>,
    deliver: F,
    watch: Option<Watch>,
    watch_trouble: Option<String>,
    /// When the last scan that could read the tree ended.
    scans: Arc<AtomicU64>,
}

impl<F: FnMut(Update)> Thread<F> {
    fn run(mut self) {
        let started = clock::now();
        let mut told: Option<SourceReport> = None;
        let mut periodic = started;
        let mut wanted: Option<Instant> = Some(started);
        let mut not_before = started;
        let mut rounds = 0;
        loop {
            let now = clock::now();
            let due = now >= periodic;
            if due || wanted.is_some_and(|at| now >= at) {
                self.arm(due);
                let look = Look { full: due && rounds % FULL_EVERY == FULL_EVERY - 1, trusting: false };
                self.engine.scan(now, look);
                if self.engine.trouble.is_none() {
                    let since_epoch = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                    self.scans.store(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
                let after = clock::now();
                not_before = after + BETWEEN_SCANS.max(2 * after.duration_since(now));
                wanted = None;
                if due {
                    rounds += 1;
                    periodic = after + self.options.scan_interval;
                }
                if self.is_watch_stale() {
                    // Swapped while we looked: watch the new tree, and look again, since its events went unseen.
                    wanted = Some(not_before);
                }
            }
            self.look_at_pending(now);
            let first = told.is_none();
            let ready = !first
                || self.engine.trouble.is_some()
                || (self.engine.loaded && (self.engine.pending.is_empty() || now.duration_since(started) > PATIENCE));
            if ready {
                self.tell(&mut told);
            }
            if !self.engine.missing.is_empty() && wanted.is_none() {
                wanted = Some(not_before.max(clock::now() + GONE_AFTER / 2));
            }
            if self.engine.trouble.is_some() && wanted.is_none() {
                wanted = Some(clock::now() + Duration::from_secs(1).min(self.options.scan_interval));
            }
            let mut until = periodic;
            until = until.min(wanted.unwrap_or(until));
            until = until
                .min(self.engine.pending.values().map(|pending| pending.since + pending.quiet).min().unwrap_or(until));
            match self.inbox.recv_timeout(until.saturating_duration_since(clock::now())) {
                Ok(signal) => {
                    // What is there already belongs together: the two halves of a rename, a checkout of many files.
                    let more: Vec<Signal> = self.inbox.try_iter().take(MOST_AT_ONCE).collect();
                    for signal in std::iter::once(signal).chain(more) {
                        match self.take(signal) {
                            Again::Stop => return,
                            Again::Scan => wanted = Some(wanted.map_or(not_before, |at| at.min(not_before))),
                            Again::No => {}
                        }
                    }
                    self.engine.commit();
                    // Before any scan that was asked for as well: the edit is not to wait for the rest of the fleet.
                    if told.is_some() {
                        self.tell(&mut told);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether what is watched is not what there is to watch, and can be had.
    fn is_watch_stale(&self) -> bool {
        match &self.watch {
            Some(watch) => !watch.is_current(&self.engine.roots, &self.engine.outside),
            None => self.options.watch && self.watch_trouble.is_none(),
        }
    }

    /// Files that were not settled when last seen, and are due.
    fn look_at_pending(&mut self, now: Instant) {
        let due: Vec<(Arc<str>, PathBuf)> = self
            .engine
            .pending
            .iter()
            .filter(|(_, pending)| now >= pending.since + pending.quiet)
            .map(|(file, pending)| (file.clone(), pending.path.clone()))
            .collect();
        for (file, path) in due {
            self.engine.look(&file, &path, now, false);
            if !path.exists() {
                self.engine.pending.remove(&file);
            }
        }
        self.engine.commit();
    }

    /// Takes in one signal. A finished file is read at once; everything else asks for a scan.
    fn take(&mut self, signal: Signal) -> Again {
        let now = clock::now();
        let engine = &mut self.engine;
        match signal {
            Signal::Stop => Again::Stop,
            Signal::Lost(trouble) => {
                warn!(trouble, "file-system events were lost; scanning everything");
                self.watch = None;
                Again::Scan
            }
            Signal::Finished(path) | Signal::Written(path) | Signal::Created(path) | Signal::Moved(path)
                if !engine.concerns(&path) || engine.is_noise(&path) =>
            {
                Again::No
            }
            Signal::Finished(path) => {
                let plain = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
                match engine.name_of(&path).filter(|_| plain) {
                    Some(file) => {
                        engine.written.remove(&file);
                        engine.look(&file, &path, now, true);
                        if engine.linked { Again::Scan } else { Again::No }
                    }
                    // A renamed directory or link, a file that moved on; or just a file that is no manifest.
                    None if plain && !engine.linked => Again::No,
                    None => Again::Scan,
                }
            }
            Signal::Written(path) => {
                if let Some(file) = engine.name_of(&path) {
                    engine.written.insert(file, now);
                }
                Again::No
            }
            // A plain file is about to be written or was linked here; the scan finds a second link.
            Signal::Created(path) => {
                use std::os::unix::fs::MetadataExt as _;
                let fresh =
                    fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1);
                if fresh { Again::No } else { Again::Scan }
            }
            Signal::Moved(_) => Again::Scan,
        }
    }

    /// Watches what there is to watch now. Failing that, scanning has to do: said once, tried again with each scan.
    fn arm(&mut self, retry: bool) {
        if !self.options.watch
            || self.watch.as_ref().is_some_and(|watch| watch.is_current(&self.engine.roots, &self.engine.outside))
        {
            return;
        }
        if self.watch_trouble.is_some() && !retry {
            return;
        }
        self.watch = None;
        match Watch::arm(&self.engine.roots, &self.engine.outside, self.signals.clone()) {
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
    fn tell(&mut self, told: &mut Option<SourceReport>) {
        let report = self.engine.report();
        let before = told.as_ref();
        let changes = std::mem::take(&mut self.engine.changes);
        if before == Some(&report) && changes == Changes::default() {
            return;
        }
        if before.and_then(|before| before.trouble.as_ref()) != report.trouble.as_ref() {
            if let Some(trouble) = &report.trouble {
                warn!(trouble = printable(trouble), "the manifests cannot be read; the last good ones stay in force");
            } else {
                info!(files = report.files, "the manifests can be read");
            }
        }
        *told = Some(report.clone());
        (self.deliver)(Update { changed: changes.changed, removed: changes.removed, source: report });
    }
}

/// What a signal asks of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Nothing.
    No,
    /// A look at the whole tree, soon.
    Scan,
    /// To end.
    Stop,
}
