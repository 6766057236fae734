//! What do the manifests declare now, and when does that change?
//!
//! One thread scans, keeps the catalog and the watch, and hands each change to a callback. The thread that hears of an
//! event takes it in itself where that is one file to read, since a second thread is longer in waking than that takes;
//! whoever works holds the one lock over all of it. The disk's content is the truth: an event only says which file to
//! look at first. A text is acted on once it has settled, and an object is released once a second look still does not
//! show it; neither keeps any other file waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::catalog::{Catalog, Changes, FileState};
use super::clock;
use super::diagnostic::{Diagnostic, printable};
use super::load::{self, Content, ParsedFile};
use super::scan::{self, Bytes, Found, Layout, Listing, Outside, Print, Root};
use super::tracked::{Again, Compare, Files, Tracked};
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
/// Every so many periodic scans the bytes of files are read again that look the same: no metadata are trusted for ever.
/// All of them, where scanning has to find everything; one share each time, where events tell of each write to a tree
/// that only this kernel writes to. Each scan looks at the metadata of all files either way.
const FULL_EVERY: u32 = 6;
/// In what time all shares are read once. The kernel sets the change time (ctime) at each write and takes it from nobody,
/// so what is guarded against here are faults of the disk and of its driver.
const ALL_WITHIN: Duration = Duration::from_secs(3600);

/// The watch's own thread reads a file at most this often. More of them come at once, and are for another one to read.
const BETWEEN_FILES: Duration = Duration::from_millis(1);
/// So few files are not worth waking another core for.
const FEW: usize = 32;
/// So many files are read before any of them is taken in: more would only need more room.
const AT_ONCE: usize = 1024;
/// So many files one core takes at a time.
const HANDFUL: usize = 16;
/// More cores than this wait for the one that takes in what they have read.
const MOST_CORES: usize = 16;

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
        let scanned = Arc::new(AtomicU64::new(0));
        let work = Work::new(Engine::new(roots, options.follow_links), options, inbox, deliver, scanned.clone());
        let shared = Arc::new(Mutex::new(Some(work)));
        let own = signals.clone();
        let thread = thread::Builder::new().name("source".into()).spawn(move || run(&shared, &own))?;
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
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
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
    let mut engine = Engine { silent: true, ..Engine::new(roots, follow_links) };
    let started = clock::now();
    loop {
        let patient = clock::now().duration_since(started) < PATIENCE;
        engine.scan(clock::now(), Look { again: Again::None, trusting: !patient });
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
    /// Which files to read, whatever the metadata say.
    again: Again,
    /// Take every text as settled.
    trusting: bool,
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
    tracked: Files,
    pending: BTreeMap<Arc<str>, Pending>,
    missing: BTreeMap<Arc<str>, Instant>,
    /// Files with a writer, and when it last wrote.
    written: HashMap<Arc<str>, Instant>,
    layout: Layout,
    /// Whether the kernel sees every change of the tree.
    told: bool,
    /// Every directory that was listed.
    directories: Vec<(PathBuf, u32)>,
    skipped: usize,
    linked: bool,
    loaded: bool,
    trouble: Option<Arc<str>>,
    batch: BTreeMap<Arc<str>, FileState>,
    changes: Changes,
    problems: Vec<Diagnostic>,
    /// The same, for the report.
    lines: Arc<[Arc<str>]>,
    /// What the catalog counted when it told them.
    troubles: u64,
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
            tracked: Files::default(),
            pending: BTreeMap::new(),
            missing: BTreeMap::new(),
            written: HashMap::new(),
            layout: Layout::default(),
            told: false,
            directories: Vec::new(),
            skipped: 0,
            linked: false,
            loaded: false,
            trouble: None,
            batch: BTreeMap::new(),
            changes: Changes::default(),
            problems: Vec::new(),
            lines: Arc::default(),
            troubles: 0,
            silent: false,
        }
    }

    /// Looks at the whole tree. Nothing is concluded from a tree that cannot be listed.
    fn scan(&mut self, now: Instant, look: Look) {
        let pending = &self.pending;
        let open = |file: &str| !pending.is_empty() && pending.contains_key(file);
        let mut known = Compare { files: &mut self.tracked, again: look.again, open };
        let mut listing = match scan::list(&self.roots, self.follow_links, &mut known) {
            Ok(listing) => listing,
            Err(trouble) => {
                self.trouble = Some(trouble.into());
                return;
            }
        };
        self.trouble = None;
        let swapped = listing.layout.swapped_since(&self.layout);
        let settled = look.trusting || swapped;
        // In order of their names, and the first time all of them: moved, not copied.
        let files = std::mem::take(&mut listing.files);
        let mut due: Vec<Due> =
            files.into_iter().map(|(file, Found { path, print })| Due { file, path, print, settled }).collect();
        if self.tracked.len() == 0 {
            self.tracked.reserve(due.len());
        } else if !settled {
            let mut inodes = None;
            let mut moved = |due: &Due, all: &[Due]| {
                !self.tracked.is_at(&due.file, &due.path)
                    && absent_inodes(&mut inodes, &self.tracked, all).contains(&due.print.file())
            };
            let moved: Vec<bool> = due.iter().map(|one| moved(one, &due)).collect();
            for (due, moved) in due.iter_mut().zip(moved) {
                due.settled = moved;
            }
        }
        self.look_at_all(&due, now);
        for (file, diagnostic) in &listing.oddities {
            self.unreadable(file, diagnostic.clone());
        }
        self.absent(now, &listing, &due);
        drop(due);
        self.told = listing.is_told();
        self.directories = listing.directories;
        self.layout = listing.layout;
        self.skipped = listing.skipped;
        self.linked = listing.linked;
        self.outside = listing.outside;
        self.loaded = true;
        self.commit();
    }

    /// What is known and was not listed: held, if its directory could not be; gone, if a second look agrees.
    fn absent(&mut self, now: Instant, listing: &Listing, due: &[Due]) {
        let tracked = &self.tracked;
        let listed = |file: &str| tracked.is_seen(file) || is_among(due, file) || listing.oddities.contains_key(file);
        self.missing.retain(|file, _| !listed(file));
        self.pending.retain(|file, _| listed(file));
        self.written.retain(|file, _| listed(file));
        let unlisted: Vec<Arc<str>> = tracked
            .iter()
            .filter(|(file, known)| {
                !tracked.sees(known) && !is_among(due, file) && !listing.oddities.contains_key(*file)
            })
            .map(|(file, _)| file.clone())
            .collect();
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

    /// Looks at many files, in this order. Reading and parsing them is work for every core; what comes of it is taken in
    /// by one, so that nothing depends on who was faster.
    fn look_at_all(&mut self, due: &[Due], now: Instant) {
        for some in due.chunks(AT_ONCE) {
            let expected = |due: &Due| self.pending.get(&due.file).map(|pending| pending.hash);
            let known = |due: &Due| self.tracked.get(&due.file).map(|known| known.hash);
            let take = |due: &Due| {
                let text = Text::read(&due.file, &due.path);
                let worth = |hash, print: &Print| {
                    let settled = due.settled || !print.modified_within(RECENT, clock::wall());
                    known(due) != Some(hash) && (settled || expected(due) == Some(hash))
                };
                text.parsed_if(&due.file, worth)
            };
            let texts = if some.len() < FEW {
                some.iter().map(take).collect()
            } else {
                let cores = thread::available_parallelism().map_or(1, NonZero::get);
                in_parallel(cores.min(MOST_CORES), some, take)
            };
            for (due, text) in some.iter().zip(texts) {
                self.take_in(&due.file, &due.path, text, now, due.settled);
            }
        }
    }

    /// Looks at one file. `settled`: whether its text is known to be complete.
    fn look(&mut self, file: &Arc<str>, path: &Path, now: Instant, settled: bool) {
        self.take_in(file, path, Text::read(file, path), now, settled);
    }

    /// Takes in what was read of a file.
    fn take_in(&mut self, file: &Arc<str>, path: &Path, text: Text, now: Instant, settled: bool) {
        let (hash, print, content) = match text {
            Text::Whole(hash, print, content) => (hash, print, content),
            Text::Torn => {
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
            Text::Absent => return,
            Text::Unreadable(diagnostic) => {
                self.unreadable(file, *diagnostic);
                return;
            }
        };
        let wall = clock::wall();
        let trusted = (!print.modified_within(RECENT, wall)).then_some(print);
        if self.tracked.get(file).is_some_and(|known| known.hash == hash) {
            self.tracked.track(file, Some(path), hash, Some(print), trusted.is_some());
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
        let parsed = match content {
            Read::Parsed(parsed) => parsed,
            Read::Bytes(bytes) => load::parse(file, &bytes),
        };
        if !parsed.conclusive && self.tracked.get(file).is_none() {
            self.settle_broken_move(file, hash, &print);
        }
        self.settle_moves(file, &parsed);
        self.missing.remove(file);
        self.tracked.track(file, Some(path), hash, Some(print), trusted.is_some());
        self.batch.insert(file.clone(), FileState::Read(Arc::new(parsed)));
    }

    /// If an object of this file was in another that is gone from the disk, the two are one change: a move.
    fn settle_moves(&mut self, file: &Arc<str>, parsed: &ParsedFile) {
        let mut left = BTreeSet::new();
        for document in &parsed.documents {
            let (Content::Good(_), Some(name)) = (&document.content, &document.name) else { continue };
            left.extend(self.catalog.files_of(name).into_iter().filter(|other| other != file));
        }
        for other in left {
            if self.tracked.path(&other).is_some_and(|path| is_absent(&path))
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
        let same = |(from, known): &(&Arc<str>, &Tracked)| {
            known.hash == hash && known.print.is_some_and(|known| known.file() == print.file()) && {
                let path = self.tracked.path_of(from, known);
                is_absent(&path) && in_place(&path)
            }
        };
        let Some(from) = self.tracked.iter().find(same).map(|(from, _)| from.clone()) else { return };
        // What is known of it may not have reached the catalog yet.
        self.commit();
        self.catalog.rename(&from, file);
        self.missing.remove(&from);
        self.tracked.forget(&from);
    }

    fn unreadable(&mut self, file: &Arc<str>, diagnostic: Diagnostic) {
        let hash = hash(diagnostic.message.as_bytes());
        self.pending.remove(file);
        if self.tracked.get(file).is_some_and(|known| known.hash == hash && known.print.is_none()) {
            return;
        }
        self.missing.remove(file);
        self.tracked.track(file, None, hash, None, false);
        self.batch.insert(file.clone(), FileState::Unreadable(diagnostic.into()));
    }

    fn gone(&mut self, file: &Arc<str>) {
        self.missing.remove(file);
        if self.tracked.forget(file).is_some() {
            self.batch.insert(file.clone(), FileState::Gone);
        }
    }

    /// Brings what was read into force, as one change.
    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let changes = self.catalog.take(std::mem::take(&mut self.batch), clock::timestamp());
        if self.changes == Changes::default() {
            self.changes = changes;
        } else {
            // Of what was not told yet, the newest counts.
            let newer: BTreeSet<_> =
                changes.changed.iter().map(|declared| &declared.name).chain(&changes.removed).cloned().collect();
            self.changes.changed.retain(|declared| !newer.contains(&declared.name));
            self.changes.removed.retain(|name| !newer.contains(name));
            self.changes.changed.extend(changes.changed);
            self.changes.removed.extend(changes.removed);
        }
        // A thousand files that are wrong are no reason for an edit of another one to wait.
        if self.troubles != self.catalog.troubles() {
            self.troubles = self.catalog.troubles();
            let problems = self.catalog.diagnostics();
            self.tell(&problems);
            self.lines = problems.iter().map(|problem| problem.one_line().into()).collect();
            self.problems = problems;
        }
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
        let revision =
            self.layout.revision().map_or_else(|| format!("{:016x}", self.tracked.revision()), ToOwned::to_owned);
        SourceReport {
            available: self.trouble.is_none(),
            trouble: self.trouble.clone(),
            loaded: self.loaded,
            revision: revision.into(),
            files: self.tracked.len(),
            skipped: self.skipped,
            problems: self.lines.clone(),
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

    /// Whether something that came or went at a path inside the tree is neither a manifest nor anything that could hold
    /// one: the file that an editor writes before it is renamed, for which nobody needs to look at the whole tree.
    fn is_beside(&self, path: &Path) -> bool {
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !scan::is_manifest(name));
        let inside = self.layout.reals().any(|real| path != real && path.starts_with(real));
        let known = || self.directories.iter().any(|(directory, _)| directory.starts_with(path));
        let other = || match fs::symlink_metadata(path) {
            Ok(metadata) => metadata.is_file(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        named && inside && !self.linked && !known() && other()
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
            && let Some(path) = self.tracked.path(&diagnostic.file)
            && let Bytes::Whole(bytes, _) = scan::read(&diagnostic.file, &path)
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

/// What came of reading a file.
#[derive(Debug)]
enum Text {
    /// The hash of its bytes, and what they are.
    Whole(u64, Print, Read),
    /// It changed while it was read.
    Torn,
    /// There is no such file.
    Absent,
    /// It is there and cannot be read.
    Unreadable(Box<Diagnostic>),
}

#[derive(Debug)]
enum Read {
    Bytes(Vec<u8>),
    Parsed(ParsedFile),
}

impl Text {
    fn read(file: &Arc<str>, path: &Path) -> Self {
        match scan::read(file, path) {
            Bytes::Whole(bytes, print) => Self::Whole(hash(&bytes), print, Read::Bytes(bytes)),
            Bytes::Torn => Self::Torn,
            Bytes::Absent => Self::Absent,
            Bytes::Unreadable(diagnostic) => Self::Unreadable(Box::new(diagnostic)),
        }
    }

    /// The same, parsed, if it is whole and `worth` it.
    fn parsed_if(self, file: &Arc<str>, worth: impl FnOnce(u64, &Print) -> bool) -> Self {
        if let Self::Whole(hash, print, Read::Bytes(bytes)) = &self
            && worth(*hash, print)
        {
            return Self::Whole(*hash, *print, Read::Parsed(load::parse(file, bytes)));
        }
        self
    }
}

/// What `work` makes of each item, in their order, by so many threads of which this is one.
fn in_parallel<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let part = || {
        let mut done = Vec::with_capacity(items.len() / threads + HANDFUL);
        loop {
            let from = next.fetch_add(HANDFUL, Ordering::Relaxed);
            let Some(some) = items.get(from..).filter(|some| !some.is_empty()) else { return done };
            done.extend((from..).zip(some.iter().take(HANDFUL).map(&work)));
        }
    };
    let mut all = thread::scope(|scope| {
        let start = |_| thread::Builder::new().name("load".into()).spawn_scoped(scope, part);
        // Where no thread is to be had, this one does all of it.
        let others: Vec<_> = (1..threads).filter_map(|at| start(at).ok()).collect();
        let mut all = part();
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

/// A file to look at.
#[derive(Debug)]
struct Due {
    file: Arc<str>,
    path: PathBuf,
    /// Its print when it was listed.
    print: Print,
    /// Whether its text is known to be complete.
    settled: bool,
}

/// Whether a file is one of these, which are in order.
fn is_among(due: &[Due], file: &str) -> bool {
    due.binary_search_by(|due| (*due.file).cmp(file)).is_ok()
}

/// Device and inode of the known files that are not listed: one of them under another name is complete, since it was.
fn absent_inodes<'a>(
    inodes: &'a mut Option<HashSet<(u32, u64)>>,
    tracked: &Files,
    due: &[Due],
) -> &'a HashSet<(u32, u64)> {
    inodes.get_or_insert_with(|| {
        let absent = tracked.iter().filter(|(file, known)| !tracked.sees(known) && !is_among(due, file));
        absent.filter_map(|(_, known)| known.print.map(|print| print.file())).collect()
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
        thread::park_timeout(until.saturating_duration_since(clock::now()));
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
    /// When the last scan that could read the tree ended.
    scans: Arc<AtomicU64>,
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
    fn new(engine: Engine, options: Options, inbox: Receiver<Signal>, deliver: F, scans: Arc<AtomicU64>) -> Self {
        let started = clock::now();
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
        let now = clock::now();
        let due = now >= self.periodic;
        if due || self.wanted.is_some_and(|at| now >= at) {
            self.scan(due, now, hear);
        }
        self.look_at_pending(now);
        let ready = self.told.is_some()
            || self.engine.trouble.is_some()
            || (self.engine.loaded && (self.engine.pending.is_empty() || now.duration_since(self.started) > PATIENCE));
        if ready {
            self.tell();
        }
        if !self.engine.missing.is_empty() && self.wanted.is_none() {
            self.wanted = Some(self.not_before.max(clock::now() + GONE_AFTER / 2));
        }
        if self.engine.trouble.is_some() && self.wanted.is_none() {
            self.wanted = Some(clock::now() + Duration::from_secs(1).min(self.options.scan_interval));
        }
        Some(self.until())
    }

    /// When the next thing is due.
    fn until(&self) -> Instant {
        let pending = self.engine.pending.values().map(|pending| pending.since + pending.quiet).min();
        let at_once = self.more.then_some(self.started);
        [self.wanted, pending, at_once].into_iter().flatten().fold(self.periodic, Instant::min)
    }

    /// Looks at the tree; `due`: because it is time to.
    fn scan(&mut self, due: bool, now: Instant, hear: &Arc<dyn Fn(Signal) + Send + Sync>) {
        let watched = self.watch.is_some() && !self.is_watch_stale();
        let first = self.rounds == 0;
        if !first {
            self.arm(due, hear);
        }
        let full = due && self.rounds % FULL_EVERY == FULL_EVERY - 1;
        let again = if full { self.again(watched && self.engine.told, self.rounds) } else { Again::None };
        self.engine.scan(now, Look { again, trusting: false });
        if self.engine.trouble.is_none() {
            let since_epoch = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            self.scans.store(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        let after = clock::now();
        self.not_before = after + BETWEEN_SCANS.max(2 * after.duration_since(now));
        self.wanted = None;
        if due {
            self.rounds += 1;
            self.periodic = after + self.options.scan_interval;
        }
        if first && self.options.watch {
            // Not sooner: our own reading would have woken the watch ten thousand times. What happened meanwhile is found
            // by another scan, at once.
            self.arm(due, hear);
            self.wanted = Some(after);
        } else if self.is_watch_stale() {
            // Swapped while we looked: watch the new tree, and look again, since its events went unseen.
            self.wanted = Some(self.not_before);
        }
    }

    /// Takes in what was signalled, as one change: what is there already belongs together, as the two halves of a rename
    /// do and a checkout of many files. Whether a file was looked at for it.
    fn take_all(&mut self) -> bool {
        let (mut taken, mut looked) = (0, false);
        while taken < MOST_AT_ONCE {
            let Ok(signal) = self.inbox.try_recv() else { break };
            taken += 1;
            match self.take(signal) {
                Next::Stop => self.stopped = true,
                Next::Scan => {
                    self.wanted = Some(self.wanted.map_or(self.not_before, |at| at.min(self.not_before)));
                }
                Next::Looked(scan) => {
                    looked = true;
                    if scan {
                        self.wanted = Some(self.wanted.map_or(self.not_before, |at| at.min(self.not_before)));
                    }
                }
                Next::No => {}
            }
        }
        self.more = taken == MOST_AT_ONCE;
        if taken > 0 && !self.stopped {
            self.engine.commit();
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
        if self.told.is_none() || self.stopped || clock::now() < self.busy_until {
            return false;
        }
        let before = self.until();
        if self.take_all() {
            self.busy_until = clock::now() + BETWEEN_FILES;
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

    /// Files that were not settled when last seen, and are due.
    fn look_at_pending(&mut self, now: Instant) {
        let pending = self.engine.pending.iter().filter(|(_, pending)| now >= pending.since + pending.quiet);
        let due: Vec<Due> = pending
            .map(|(file, pending)| Due {
                file: file.clone(),
                path: pending.path.clone(),
                print: pending.print,
                settled: false,
            })
            .collect();
        self.engine.look_at_all(&due, now);
        for due in due {
            if !due.path.exists() {
                self.engine.pending.remove(&due.file);
            }
        }
        self.engine.commit();
    }

    /// Takes in one signal. A finished file is read at once; everything else asks for a scan.
    fn take(&mut self, signal: Signal) -> Next {
        let now = clock::now();
        let engine = &mut self.engine;
        match signal {
            Signal::Stop => Next::Stop,
            Signal::Lost(trouble) => {
                warn!(trouble, "file-system events were lost; scanning everything");
                self.watch = None;
                Next::Scan
            }
            Signal::Finished(path) | Signal::Written(path) | Signal::Created(path) | Signal::Moved(path)
                if !engine.concerns(&path) || engine.is_noise(&path) =>
            {
                Next::No
            }
            Signal::Finished(path) => {
                let plain = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
                match engine.name_of(&path).filter(|_| plain) {
                    Some(file) => {
                        engine.written.remove(&file);
                        engine.look(&file, &path, now, true);
                        Next::Looked(engine.linked)
                    }
                    // A renamed directory or link, a file that moved on; or just a file that is no manifest.
                    None if plain && !engine.linked => Next::No,
                    None => Next::Scan,
                }
            }
            Signal::Written(path) => {
                if let Some(file) = engine.name_of(&path) {
                    engine.written.insert(file, now);
                }
                Next::No
            }
            // A plain file is about to be written or was linked here; the scan finds a second link.
            Signal::Created(path) => {
                use std::os::unix::fs::MetadataExt as _;
                let fresh =
                    fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1);
                if fresh { Next::No } else { Next::Scan }
            }
            Signal::Moved(path) if engine.is_beside(&path) => Next::No,
            Signal::Moved(_) => Next::Scan,
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
        let before = self.told.as_ref();
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
        self.told = Some(report.clone());
        (self.deliver)(Update { changed: changes.changed, removed: changes.removed, source: report });
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
    /// To end.
    Stop,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;
    use crate::reconcile::desired::Desired;

    fn manifest(name: &str, state: &str) -> String {
        format!(
            "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata: {{name: {name}}}\nspec: {{appId: id-{name}, state: {state}}}\n"
        )
    }

    #[test]
    fn what_can_change_elsewhere_is_looked_at_each_time() {
        let told = |change: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let root = dir.path().join("manifests");
            fs::create_dir(&root).expect("mkdir");
            fs::write(root.join("a.yaml"), manifest("a", "Running")).expect("write");
            change(&root);
            let mut engine = Engine::new(vec![root], false);
            engine.scan(clock::now(), Look::default());
            engine.told
        };
        if !told(&|_| {}) {
            return;
        }
        assert!(!told(&|root| fs::hard_link(root.join("a.yaml"), root.join("../a")).expect("link")));
        assert!(!told(&|root| symlink("a.yaml", root.join("b.yaml")).expect("symlink")));
        assert!(!told(&|root| symlink("nowhere", root.join("b.yaml")).expect("symlink")));
    }

    #[test]
    fn what_lies_beside_the_manifests_asks_for_no_scan() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = fs::canonicalize(dir.path()).expect("it is there").join("manifests");
        fs::create_dir_all(root.join("team/deep")).expect("mkdir");
        fs::write(root.join("a.yaml"), manifest("a", "Running")).expect("write");
        fs::write(root.join("notes"), "x").expect("write");
        let mut engine = Engine::new(vec![root.clone()], false);
        engine.scan(clock::now(), Look::default());
        fs::create_dir(root.join("new")).expect("mkdir");
        symlink("a.yaml", root.join("link")).expect("symlink");
        for (path, beside) in [
            ("sedAbC123", true),
            ("notes", true),
            ("team/deep/4913", true),
            ("a.yaml", false),
            ("gone.yaml", false),
            ("team", false),
            ("team/deep", false),
            ("new", false),
            ("link", false),
            ("", false),
            ("..", false),
        ] {
            assert_eq!(engine.is_beside(&root.join(path)), beside, "{path}");
        }
        fs::rename(root.join("team"), root.join("away")).expect("rename");
        assert!(!engine.is_beside(&root.join("team")), "what was below it is gone");
    }

    /// Whichever thread it was that took the change in.
    #[test]
    fn who_waits_for_a_source_that_breaks_down_learns_of_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.yaml"), manifest("a", "Running")).expect("write");
        let options = Options { scan_interval: Duration::from_millis(100), watch: true, follow_links: false };
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
            let options = Options { scan_interval, watch: true, follow_links: false };
            Work::new(Engine::new(Vec::new(), false), options, channel().1, |_| {}, Arc::default())
        };
        let every_ten = thread(Duration::from_secs(10));
        assert_eq!(every_ten.again(false, 5), Again::All);
        assert_eq!(every_ten.again(true, 5), Again::Share(0, 60));
        assert_eq!(every_ten.again(true, 11), Again::Share(1, 60));
        assert_eq!(every_ten.again(true, 365), Again::Share(0, 60));
        assert_eq!(thread(Duration::from_secs(3600)).again(true, 11), Again::Share(0, 1));
        assert_eq!(thread(Duration::ZERO).again(true, 5), Again::Share(0, 600_000));
    }

    #[test]
    fn many_files_give_the_same_on_any_number_of_cores() {
        let items: Vec<usize> = (0..5000).collect();
        for threads in [1, 2, 7] {
            assert_eq!(
                in_parallel(threads, &items, |item| item * 2),
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        for at in 0..300 {
            let text = if at % 50 == 7 { "][".into() } else { manifest(&format!("app-{}", at % 290), "Running") };
            fs::write(dir.path().join(format!("{at:03}.yaml")), text).expect("write");
        }
        let (declared, diagnostics, report) = load(vec![dir.path().to_owned()]);
        let mut alone = Catalog::new();
        for at in 0..300 {
            let file: Arc<str> = format!("{at:03}.yaml").into();
            let bytes = fs::read(dir.path().join(&*file)).expect("read");
            alone.apply([(file.clone(), FileState::Read(Arc::new(load::parse(&file, &bytes))))]);
        }
        assert_eq!(declared.len(), alone.declared().len());
        assert_eq!(diagnostics.len(), alone.diagnostics().len());
        assert_eq!(report.files, 300);
    }
}
