//! What do the files of the manifests say now, and which of what they say is new?
//!
//! Looks at the disk when told to, and keeps the catalog: which text has settled, which file has moved, which is gone. It
//! neither waits nor owns a thread; `now` comes from whoever does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::catalog::{Catalog, Changes, FileState};
use super::clock;
use super::diagnostic::Diagnostic;
use super::load::{self, Content, ParsedFile};
use super::scan::{self, Bytes, Found, Layout, Listing, Outside, Print, Root};
use super::tracked::{Again, Compare, Files, Tracked};
use crate::reconcile::desired::SourceReport;

/// How long a text that only a scan saw must stay the same: a writer in place pauses for less.
pub(super) const QUIET: Duration = Duration::from_millis(200);
/// The same, while events tell of a writer that has not closed the file.
const QUIET_WHILE_OPEN: Duration = Duration::from_secs(2);
/// A file modified longer ago than this is not being written: taken at once.
const RECENT: Duration = Duration::from_secs(2);
/// How long a file must be gone. A little more than `QUIET`, so that a file that was copied and removed is seen to have
/// moved; releasing is never urgent.
pub(super) const GONE_AFTER: Duration = Duration::from_millis(300);
/// How long unsettled files keep others from being found gone, and the first message from being sent.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// So few files are not worth waking another core for.
const FEW: usize = 32;
/// So many files are read before any of them is taken in: more would only need more room.
const AT_ONCE: usize = 1024;
/// So many files one core takes at a time.
const HANDFUL: usize = 16;
/// More cores than this wait for the one that takes in what they have read.
const MOST_CORES: usize = 16;

/// How to look at the tree.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// Which files to read, whatever the metadata say.
    pub(super) again: Again,
    /// Take every text as settled.
    pub(super) trusting: bool,
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
pub(super) struct Engine {
    pub(super) roots: Vec<Root>,
    follow_links: bool,
    pub(super) outside: Outside,
    pub(super) catalog: Catalog,
    tracked: Files,
    pending: BTreeMap<Arc<str>, Pending>,
    pub(super) missing: BTreeMap<Arc<str>, Instant>,
    /// Files with a writer, and when it last wrote.
    pub(super) written: HashMap<Arc<str>, Instant>,
    layout: Layout,
    /// Whether the kernel sees every change of the tree.
    pub(super) told: bool,
    /// Every directory that was listed.
    directories: Vec<(PathBuf, u32)>,
    skipped: usize,
    pub(super) linked: bool,
    pub(super) loaded: bool,
    pub(super) trouble: Option<Arc<str>>,
    batch: BTreeMap<Arc<str>, FileState>,
    pub(super) changes: Changes,
    problems: Vec<Diagnostic>,
    /// The same, for the report.
    lines: Arc<[Arc<str>]>,
    /// What the catalog counted when it told them.
    troubles: u64,
    /// Whether problems are not logged: whoever loads once prints them.
    pub(super) silent: bool,
}

impl Engine {
    pub(super) fn new(roots: Vec<PathBuf>, follow_links: bool) -> Self {
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
    pub(super) fn scan(&mut self, now: Instant, look: Look) {
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

    /// Files that were not settled when last seen, and are due.
    pub(super) fn look_at_pending(&mut self, now: Instant) {
        let pending = self.pending.iter().filter(|(_, pending)| now >= pending.since + pending.quiet);
        let due: Vec<Due> = pending
            .map(|(file, pending)| Due {
                file: file.clone(),
                path: pending.path.clone(),
                print: pending.print,
                settled: false,
            })
            .collect();
        self.look_at_all(&due, now);
        for due in due {
            if !due.path.exists() {
                self.pending.remove(&due.file);
            }
        }
        self.commit();
    }

    /// Whether a text waits until it has settled.
    pub(super) fn is_settling(&self) -> bool {
        !self.pending.is_empty()
    }

    /// When the next text will have settled, if it stays as it is.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.since + pending.quiet).min()
    }

    /// Looks at one file. `settled`: whether its text is known to be complete.
    pub(super) fn look(&mut self, file: &Arc<str>, path: &Path, now: Instant, settled: bool) {
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
    pub(super) fn commit(&mut self) {
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
            let (file, reason) = (&*problem.file, problem.reason.as_str());
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

    pub(super) fn report(&self) -> SourceReport {
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
    pub(super) fn name_of(&self, path: &Path) -> Option<Arc<str>> {
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
    pub(super) fn concerns(&self, path: &Path) -> bool {
        let given = |root: &Root| std::path::absolute(&root.given).is_ok_and(|given| given.starts_with(path));
        self.layout.reals().any(|real| path.starts_with(real) || real.starts_with(path))
            || self.layout.links().any(|link| link.starts_with(path))
            || self.outside.concerns(path)
            || self.roots.iter().any(given)
    }

    /// Whether something that came or went at a path inside the tree is neither a manifest nor anything that could hold
    /// one: the file that an editor writes before it is renamed, for which nobody needs to look at the whole tree.
    pub(super) fn is_beside(&self, path: &Path) -> bool {
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
    pub(super) fn is_noise(&self, path: &Path) -> bool {
        let inside = self.layout.reals().find_map(|real| path.strip_prefix(real).ok());
        let ignored = |part: &std::ffi::OsStr| part.to_str().is_some_and(|part| scan::hidden(part) && part != "..data");
        !self.linked && inside.is_some_and(|below| below.iter().any(ignored))
    }

    /// Fills in the line a diagnostic is about, where the catalog could not know it.
    pub(super) fn add_excerpt(&self, diagnostic: &mut Diagnostic) {
        if diagnostic.excerpt.is_none()
            && let Some(path) = self.tracked.path(&diagnostic.file)
            && let Bytes::Whole(bytes, _) = scan::read(&diagnostic.file, &path)
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

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::manifest::source::load;

    pub(in crate::manifest) fn manifest(name: &str, state: &str) -> String {
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
