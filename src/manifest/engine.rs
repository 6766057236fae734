//! Engine of a directory source: reads the disk on request and keeps the store up to date.
//!
//! It neither waits nor owns a thread; its caller passes `now`. `texts` decides about the acceptance of texts, `losing`
//! about the release of objects, `events` about the relevance of file-system events.
//! Invariant: an unreadable or unlisted file releases nothing until a later scan confirms that it does not exist.

mod events;
mod losing;
mod texts;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use self::losing::Losses;
use self::texts::{Texts, Wait};
use super::diagnostic::Diagnostic;
use super::load::{self, Content, ParsedFile};
use super::scan::{self, Bytes, FileId, Found, IGNORE_FILE, Listing, Print, Root, Rules};
use super::store::{Changes, FileState, Store};
use super::tracked::{Again, Compare, Files, Tracked};
use super::writers::Writers;
use crate::clock;
use crate::source::SourceReport;

/// Quiet time of a text that only a scan found: no event showed its writer, so a pause of the writer counts as the end.
pub(super) const QUIET_UNSEEN: Duration = Duration::from_millis(200);
/// Age of a file that needs no quiet time, unless a process has it open for writing.
const RECENT: Duration = Duration::from_secs(2);
/// Minimum absence of a file before its objects are released. A little more than `QUIET_UNSEEN`, so that a file that
/// was copied and removed counts as moved. A release is never urgent.
pub(super) const GONE_AFTER: Duration = Duration::from_millis(300);
/// Absence after which a file is released in any case.
const GONE_AT_LAST: Duration = Duration::from_secs(1);
/// Maximum time for which pending texts delay the first update.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Minimum number of files for several threads.
const FEW: usize = 32;
/// Number of files that are read before they are applied: more would only need more memory.
const AT_ONCE: usize = 1024;
/// Maximum number of threads: more would wait for the thread that applies the files.
const MOST_THREADS: usize = 16;

/// Origin of a text in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Unknown: a scan or a second read found it.
    Found,
    /// Its writer closed the file.
    Closed,
    /// Rename or swapped tree: complete, unless a process has the file open for writing.
    Whole,
    /// Swapped tree that changes an app which changed less than a second ago.
    Deferred,
    /// The caller accepts every text.
    Trusted,
}

/// A file to read.
#[derive(Debug)]
struct Due {
    file: Arc<str>,
    path: PathBuf,
    /// Its print when it was listed.
    print: Print,
    arrival: Arrival,
}

/// The state of a directory source, without its threads and timers.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each true or not")]
#[derive(Debug, Default)]
pub(super) struct Engine {
    pub(super) roots: Vec<Root>,
    rules: Rules,
    /// Whether an empty root releases everything that it held.
    pub(super) allow_empty: bool,
    /// Objects that disappear within this time of each other disappear together.
    pub(super) together: Duration,
    /// Whether scans accept every text.
    pub(super) trusting: bool,
    /// Whether the caller prints the diagnostics, so that the engine does not log them.
    pub(super) silent: bool,

    pub(super) store: Store,
    tracked: Files,
    texts: Texts,
    losses: Losses,
    /// Unlisted files, and the time since which they are unlisted.
    missing: BTreeMap<Arc<str>, Instant>,
    /// The last listing, without its files.
    pub(super) listing: Listing,
    /// Whether the whole tree was read at least once.
    pub(super) loaded: bool,
    /// Cause why the tree cannot be read.
    pub(super) cause: Option<Arc<str>>,

    /// States of files that are not in the store yet.
    batch: BTreeMap<Arc<str>, FileState>,
    /// Changes of the store that are not reported yet.
    pub(super) changes: Changes,
    problems: Vec<Diagnostic>,
    /// Number of errors among them.
    errors: usize,
    /// The first errors as lines for the report.
    lines: Arc<[Arc<str>]>,
    /// [`Store::diagnostics_version`] when `problems` was made.
    diagnostics_version: u64,
}

impl Engine {
    pub(super) fn new(roots: Vec<PathBuf>, rules: Rules) -> Self {
        Self { roots: scan::roots(roots), rules, ..Self::default() }
    }

    /// Reads the tree: files with changed metadata, and those of `again`. A tree that cannot be listed
    /// proves nothing.
    pub(super) fn scan(&mut self, now: Instant, again: Again) {
        let pending = |file: &str| self.texts.pending.contains_key(file);
        let mut known = Compare { files: &mut self.tracked, again, pending };
        let mut listing = match scan::list(&self.roots, &self.rules, &mut known) {
            Ok(listing) => listing,
            Err(cause) => {
                self.cause = Some(cause.into());
                return;
            }
        };
        self.cause = None;
        let first = self.tracked.len() == 0;
        // Before any file is read: an old file without a writer is complete.
        let swapped = listing.layout.swapped_since(&self.listing.layout);
        self.texts.writers = ((first || swapped) && !self.trusting).then(Writers::read);
        let arrival = match (self.trusting, swapped) {
            (true, _) => Arrival::Trusted,
            (false, true) => Arrival::Whole,
            (false, false) => Arrival::Found,
        };
        let files = std::mem::take(&mut listing.files);
        let mut due: Vec<Due> =
            files.into_iter().map(|(file, Found { path, print })| Due { file, path, print, arrival }).collect();
        if arrival == Arrival::Whole && !first {
            // A swapped tree is one change, which is applied as a whole.
            if due.iter().any(|due| self.store.members(&due.file).any(|name| self.changed_recently(name, now))) {
                for due in &mut due {
                    due.arrival = Arrival::Deferred;
                }
            }
        } else if arrival == Arrival::Found && !first && !due.is_empty() {
            // A known file with a new name is complete, as it was before.
            let unlisted =
                self.tracked.iter().filter(|(file, known)| !self.tracked.sees(known) && !is_among(&due, file));
            let unlisted: HashSet<FileId> = unlisted.filter_map(|(_, known)| Some(known.print?.file())).collect();
            let is_moved =
                |due: &Due| self.tracked.path(&due.file) != Some(&due.path) && unlisted.contains(&due.print.file());
            for due in due.iter_mut().filter(|due| is_moved(due)) {
                due.arrival = Arrival::Whole;
                self.texts.writers.get_or_insert_with(Writers::read);
            }
        }
        self.read_all(&due, now);
        for (file, diagnostic) in &listing.oddities {
            self.unreadable(file, diagnostic.clone());
        }
        self.defer_emptied(now);
        self.note_unlisted(now, &listing, &due);
        self.release_missing(listing.layout.devices().collect(), now);
        self.listing = listing;
        self.drop_writers();
        self.apply_batch(now);
        self.loaded |= self.cause.is_none();
    }

    /// Marks the known files that a listing does not show: as held if their directory cannot be listed, otherwise as
    /// missing.
    fn note_unlisted(&mut self, now: Instant, listing: &Listing, due: &[Due]) {
        let tracked = &self.tracked;
        let is_listed =
            |file: &str| tracked.is_seen(file) || is_among(due, file) || listing.oddities.contains_key(file);
        self.missing.retain(|file, _| !is_listed(file));
        // Includes temporary files beside the manifests, until they are renamed or removed.
        self.texts.writing.retain(|path, file| {
            let is = |print: Print| print.file() == *file;
            Print::at(path).is_some_and(is)
                || due.iter().any(|due| is(due.print))
                || tracked.iter().any(|(_, known)| tracked.sees(known) && known.print.is_some_and(is))
        });
        self.texts.created.retain(|file, _| is_among(due, file) || tracked.is_seen(file));
        self.warn_of_hidden(listing, &|file| is_listed(file));
        let ended: Vec<Arc<str>> = self.texts.pending.keys().filter(|file| !is_listed(file)).cloned().collect();
        let unlisted: Vec<Arc<str>> =
            tracked.iter().map(|(file, _)| file).filter(|file| !is_listed(file)).cloned().collect();
        for file in ended {
            self.end_pending(&file);
        }
        for file in unlisted {
            match listing.unlisted.iter().find(|(below, _)| file.starts_with(below.as_str())) {
                Some((_, diagnostic)) => {
                    self.unreadable(&file, Diagnostic { file: file.clone(), ..diagnostic.clone() });
                }
                None => {
                    self.missing.entry(file).or_insert(now);
                }
            }
        }
    }

    /// Logs the number of objects in force that an ignore file hides. Their files count as removed: the objects are
    /// released, or held if they are all objects of a root.
    fn warn_of_hidden(&self, listing: &Listing, is_listed: &dyn Fn(&str) -> bool) {
        let hides = |path: &Path| {
            listing.layout.reals().any(|real| path.starts_with(real) && listing.ignored.hides(real, path))
        };
        let hidden = self.tracked.iter().filter(|(file, known)| {
            !is_listed(file) && !self.missing.contains_key(*file) && known.path.as_deref().is_some_and(hides)
        });
        let objects: usize = hidden.map(|(file, _)| self.store.members(file).count()).sum();
        if objects > 0 {
            warn!(
                objects,
                "{IGNORE_FILE} hides manifests in force; the operator releases their apps, unless it hides all manifests of a directory"
            );
        }
    }

    pub(super) fn expect_directories(&mut self) {
        for root in &mut self.roots {
            root.directory = true;
        }
    }

    /// Reads many files. All cores read and parse; one thread applies the results in order, so that the result
    /// does not depend on the speed of a thread.
    fn read_all(&mut self, due: &[Due], now: Instant) {
        for some in due.chunks(AT_ONCE) {
            let read = |due: &Due| {
                let expected = self.texts.pending.get(&due.file).map(|pending| pending.hash);
                let known = self.tracked.get(&due.file).map(|known| known.hash);
                Reading::new(&due.file, &due.path, |hash, print| {
                    let stable = match due.arrival {
                        Arrival::Whole | Arrival::Trusted => true,
                        Arrival::Closed | Arrival::Deferred => false,
                        Arrival::Found if !self.loaded => print.quiet_in(QUIET_UNSEEN, clock::system_time()).is_zero(),
                        Arrival::Found => !print.changed_within(RECENT, clock::system_time()),
                    };
                    known != Some(hash) && (stable || expected == Some(hash))
                })
            };
            let readings = if some.len() < FEW {
                some.iter().map(read).collect()
            } else {
                let cores = thread::available_parallelism().map_or(1, NonZero::get);
                in_parallel(cores.min(MOST_THREADS), some, read)
            };
            for (due, reading) in some.iter().zip(readings) {
                self.take_in(&due.file, &due.path, reading, now, due.arrival);
            }
        }
    }

    /// Reads one file.
    pub(super) fn read(&mut self, file: &Arc<str>, path: &Path, now: Instant, arrival: Arrival) {
        self.take_in(file, path, Reading::new(file, path, |_, _| false), now, arrival);
    }

    fn take_in(&mut self, file: &Arc<str>, path: &Path, reading: Reading, now: Instant, arrival: Arrival) {
        let Reading { bytes, hash, mut parsed } = reading;
        let (bytes, print) = match bytes {
            Bytes::Whole(bytes, print) => (bytes, print),
            Bytes::Torn => {
                // The writer has not finished; read the file again with the pending files.
                if let Some(print) = Print::at(path) {
                    self.is_stable(file, path, (0, print), now, arrival, Wait::TORN);
                }
                return;
            }
            // Only a complete listing can confirm that.
            Bytes::Absent => return,
            Bytes::Exhausted(cause) => {
                self.cause = Some(cause.into());
                return;
            }
            Bytes::Unreadable(diagnostic) => {
                self.unreadable(file, diagnostic);
                return;
            }
        };
        let trusted = !print.modified_within(RECENT, clock::system_time());
        if self.tracked.get(file).is_some_and(|known| known.hash == hash) {
            self.tracked.track(file, Some(path), hash, Some(print), trusted);
            self.end_pending(file);
            return;
        }
        let parse = || load::parse(file, &bytes);
        if parsed.is_none() && self.has_recent_changes() {
            parsed = Some(parse());
        }
        if let Some(wait) = self.conditions((file, path), parsed.as_ref(), (hash, &print), now, arrival)
            && !self.is_stable(file, path, (hash, print), now, arrival, wait)
        {
            return;
        }
        self.end_pending(file);
        self.texts.created.remove(file);
        let parsed = parsed.unwrap_or_else(parse);
        if !parsed.conclusive && self.tracked.get(file).is_none() {
            self.follow_broken_move(file, hash, &print, now);
        }
        self.follow_moves(file, &parsed);
        self.missing.remove(file);
        self.tracked.track(file, Some(path), hash, Some(print), trusted);
        self.batch.insert(file.clone(), FileState::Read(Arc::new(parsed)));
    }

    /// Applies a move as one change: releases the old file of an object or a Schedule that is in this file now.
    fn follow_moves(&mut self, file: &Arc<str>, parsed: &ParsedFile) {
        let mut left = BTreeSet::new();
        for document in &parsed.documents {
            let (Content::Good(_) | Content::Refers(..), Some(name)) = (&document.content, &document.name) else {
                continue;
            };
            left.extend(self.store.files_of(name));
        }
        for schedule in parsed.schedules.iter().filter(|schedule| schedule.content.is_ok()) {
            left.extend(self.store.schedules().places_of(&schedule.name).map(|place| place.file));
        }
        left.remove(file);
        for other in left {
            if self.tracked.path(&other).is_some_and(is_absent) && self.roots.iter().all(|root| root.given.exists()) {
                self.gone(&other);
            }
        }
    }

    /// Applies the rename of a file that cannot be parsed: it still holds the objects of its old name.
    fn follow_broken_move(&mut self, file: &Arc<str>, hash: u64, print: &Print, now: Instant) {
        // In a replaced tree, every old path is absent, which proves nothing.
        let in_place = |path: &Path| {
            let mut reals = self.roots.iter().filter_map(|root| fs::canonicalize(&root.given).ok());
            reals.any(|real| path.starts_with(real))
        };
        // Compare the inode first: a thousand empty files must not each be compared with all the others.
        let is_same = |(_, known): &(&Arc<str>, &Tracked)| {
            known.hash == hash
                && known.print.is_some_and(|known| known.file() == print.file())
                && known.path.as_ref().is_some_and(|path| is_absent(path) && in_place(path))
        };
        let Some(from) = self.tracked.iter().find(is_same).map(|(from, _)| from.clone()) else { return };
        // Its last state may not be in the store yet.
        self.commit(now);
        self.store.rename(&from, file);
        self.missing.remove(&from);
        self.tracked.forget(&from);
    }

    fn unreadable(&mut self, file: &Arc<str>, diagnostic: Diagnostic) {
        let hash = hash(diagnostic.message.as_bytes());
        self.end_pending(file);
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

    /// Applies the files that were read, as one change.
    pub(super) fn commit(&mut self, now: Instant) {
        self.defer_emptied(now);
        self.apply_batch(now);
    }

    fn apply_batch(&mut self, now: Instant) {
        self.hold_emptied(now);
        if self.batch.is_empty() {
            return;
        }
        let changes = self.store.take(std::mem::take(&mut self.batch), clock::timestamp());
        // The first load changes nothing: it is the initial state.
        self.note_changes(if self.loaded { &changes.respecified } else { &[] }, now);
        if self.changes != Changes::default() {
            // Of unreported changes, the newest one of each object counts.
            let newer: HashSet<_> =
                changes.changed.iter().map(|declared| &declared.name).chain(&changes.removed).collect();
            self.changes.changed.retain(|declared| !newer.contains(&declared.name));
            self.changes.removed.retain(|name| !newer.contains(name));
        }
        self.changes.changed.extend(changes.changed);
        self.changes.removed.extend(changes.removed);
        // Only if there is something new: a thousand invalid files must not delay an edit of another one.
        if self.diagnostics_version != self.store.diagnostics_version() {
            self.diagnostics_version = self.store.diagnostics_version();
            let problems = self.store.diagnostics();
            if !self.silent {
                log_problems(&self.problems, &problems);
            }
            let errors = || problems.iter().filter(|problem| problem.is_error());
            self.errors = errors().count();
            self.lines = errors().take(LINES).map(|problem| problem.one_line().into()).collect();
            if self.errors > LINES {
                let more = format!("and {} more", self.errors - LINES);
                self.lines = self.lines.iter().cloned().chain([more.into()]).collect();
            }
            self.problems = problems;
        }
    }

    pub(super) fn report(&self) -> SourceReport {
        let revision = self.listing.layout.revision();
        let losses = self.losses();
        let cause = self.cause.clone().or_else(|| (!losses.is_empty()).then(|| losses.join("; ").into()));
        SourceReport {
            available: cause.is_none(),
            cause,
            loaded: self.loaded,
            revision: revision.map_or_else(|| format!("{:016x}", self.tracked.revision()), ToOwned::to_owned).into(),
            files: self.tracked.len() - self.store.schedules().unused(),
            skipped: self.listing.skipped + self.store.schedules().unused(),
            objects: self.store.count(),
            others: self.store.schedules().count() + self.store.approvals().count(),
            errors: self.errors,
            warnings: self.problems.len() - self.errors,
            approvals: self.store.approvals().map(|document| document.approval.clone()).collect(),
            problems: self.lines.clone(),
        }
    }

    /// Adds the excerpt of a diagnostic, if the store did not have it.
    pub(super) fn add_excerpt(&self, diagnostic: &mut Diagnostic) {
        if diagnostic.excerpt.is_none()
            && let Some(path) = self.tracked.path(&diagnostic.file)
            && let Bytes::Whole(bytes, _) = scan::read(&diagnostic.file, path)
        {
            excerpt(diagnostic, &bytes);
        }
    }
}

pub(super) fn excerpt(diagnostic: &mut Diagnostic, bytes: &[u8]) {
    if diagnostic.excerpt.is_none() && diagnostic.line > 0 {
        let text = String::from_utf8_lossy(bytes);
        diagnostic.excerpt = text.lines().nth(diagnostic.line as usize - 1).map(Into::into);
    }
}

/// Maximum number of problems that are logged at once, and that the status API lists.
const LINES: usize = 100;

/// Logs one line for each new problem, and one for each file without problems now.
fn log_problems(before: &[Diagnostic], now: &[Diagnostic]) {
    let key = |problem: &Diagnostic| (problem.file.clone(), problem.line, problem.column, problem.message.clone());
    let known: BTreeSet<_> = before.iter().map(key).collect();
    let new: Vec<&Diagnostic> = now.iter().filter(|problem| !known.contains(&key(problem))).collect();
    // Errors first, so that thousands of files of other tools hide none.
    let errors = new.iter().filter(|problem| problem.is_error());
    for problem in errors.chain(new.iter().filter(|problem| !problem.is_error())).take(LINES) {
        let hint = problem.hint.as_deref().unwrap_or_default();
        let (file, reason) = (&*problem.file, problem.reason.as_str());
        let (line, column) = (problem.line, problem.column);
        warn!(file, line, column, reason, hint, severity = problem.severity.as_str(), "{}", problem.message);
    }
    if new.len() > LINES {
        warn!(more = new.len() - LINES, "more problems; `campos-operator validate` lists them");
    }
    let still: BTreeSet<_> = now.iter().map(|problem| &problem.file).collect();
    let fixed: BTreeSet<_> = before.iter().map(|problem| &problem.file).filter(|file| !still.contains(file)).collect();
    for file in fixed {
        info!(file = %file, "manifest fixed or removed");
    }
}

/// The result of reading a file.
#[derive(Debug)]
struct Reading {
    /// Empty if they are parsed.
    bytes: Bytes,
    hash: u64,
    parsed: Option<ParsedFile>,
}

impl Reading {
    /// Reads a file; parses it if `worth` returns true for its hash and print.
    fn new(file: &Arc<str>, path: &Path, worth: impl FnOnce(u64, &Print) -> bool) -> Self {
        let mut reading = Self { bytes: scan::read(file, path), hash: 0, parsed: None };
        if let Bytes::Whole(bytes, print) = &mut reading.bytes {
            reading.hash = hash(bytes);
            if worth(reading.hash, print) {
                reading.parsed = Some(load::parse(file, &std::mem::take(bytes)));
            }
        }
        reading
    }
}

/// The results of `work` for each item, in their order, by several threads.
fn in_parallel<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let mut parts = Vec::new();
        for part in items.chunks(items.len().div_ceil(threads).max(1)) {
            let job = move || part.iter().map(work).collect::<Vec<R>>();
            // If no thread can be started, this thread does the work.
            parts.push(thread::Builder::new().name("load".into()).spawn_scoped(scope, job).map_err(|_| job()));
        }
        let join = |part: Result<thread::ScopedJoinHandle<'_, Vec<R>>, Vec<R>>| match part {
            Ok(running) => running.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(done) => done,
        };
        parts.into_iter().flat_map(join).collect()
    })
}

/// Returns whether a file is in a sorted list.
fn is_among(due: &[Due], file: &str) -> bool {
    due.binary_search_by(|due| (*due.file).cmp(file)).is_ok()
}

fn is_absent(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
