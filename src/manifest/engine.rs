//! What do the files of the manifests say now, and which of what they say is new?
//!
//! Looks at the disk when told to, and keeps the store: which text has settled, which file has moved, which is gone. It
//! neither waits nor owns a thread; `now` comes from whoever does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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

use super::store::{Store, Changes, FileState};
use super::diagnostic::Diagnostic;
use super::load::{self, Content, ParsedFile};
use super::scan::{self, Bytes, FileId, Found, Layout, Listing, Outside, Print, Root};
use super::tracked::{Again, Compare, Files, Tracked};
use super::writers::Writers;
use crate::clock;
use crate::reconcile::app::AppName;
use crate::reconcile::desired::Text;
use crate::reconcile::reason::Reason;
use crate::source::SourceReport;

/// Quiet time: a text written in place is accepted when it has not changed for this long after its file was closed.
/// Scripts write in several steps (`> a.yaml`, `>> a.yaml`), and each step closes the file.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// The same for a text that only a scan saw: no event showed its writer, so a pause in the writing counts as its end.
pub(super) const QUIET_UNTOLD: Duration = Duration::from_millis(200);
/// A file that changed longer ago than this needs no quiet time, unless a process has it open for writing.
const RECENT: Duration = Duration::from_secs(2);
/// A second change of an app within this time waits for the quiet time, whichever way it comes.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);
/// A file with an open writer is read again this often: its writer may be gone without an event.
const RELOOK: Duration = Duration::from_secs(1);
/// A file that is written for longer than this is reported as `BeingWritten`.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// A file that is written for longer than this is worth a warning.
const WARNED_AFTER: Duration = Duration::from_secs(60);
/// How long a file must be gone. A little more than `QUIET_UNTOLD`, so that a file that was copied and removed is seen to
/// have moved; releasing is never urgent.
pub(super) const GONE_AFTER: Duration = Duration::from_millis(300);
/// A file that has been gone for this long is released, whatever else happens in its root.
const GONE_AT_LAST: Duration = Duration::from_secs(1);
/// How long unsettled files keep others from being found gone, and the first message from being sent.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// So few files are not worth waking another core for.
const FEW: usize = 32;
/// So many files are read before any of them is taken in: more would only need more room.
const AT_ONCE: usize = 1024;
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

/// How a text got to its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Not known: a scan or a second look found it.
    Found,
    /// Its writer closed the file.
    Closed,
    /// By a rename, or as part of a swapped tree: complete, unless somebody still has it open for writing.
    Whole,
    /// The same, in a tree that changes an app which changed a moment ago.
    Deferred,
    /// The caller takes it as it is.
    Trusted,
}

/// A root that lost everything at once.
#[derive(Debug)]
struct Loss {
    /// How many objects it held.
    objects: usize,
    /// Files that are still there and declare nothing any more.
    emptied: BTreeSet<Arc<str>>,
}

/// A file that declared something and declares nothing any more, until that is in force.
#[derive(Debug)]
struct Emptied {
    since: Instant,
    state: FileState,
}

/// A text that is not accepted yet.
#[derive(Debug)]
struct Pending {
    path: PathBuf,
    hash: u64,
    print: Print,
    /// When the text was first read as it is.
    since: Instant,
    /// When the file was first found to differ from what is in force.
    first: Instant,
    /// How long the text must stay the same.
    quiet: Duration,
    /// Whether a process may have the file open for writing.
    may_be_open: bool,
    /// Whether it is reported that one does.
    shown: bool,
    /// Whether that was logged.
    warned: bool,
    /// When to read the file again.
    look_at: Instant,
}

/// Everything but the waiting: looks at the disk and keeps the store.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each true or not")]
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) roots: Vec<Root>,
    follow_links: bool,
    pub(super) outside: Outside,
    pub(super) store: Store,
    tracked: Files,
    pending: BTreeMap<Arc<str>, Pending>,
    pub(super) missing: BTreeMap<Arc<str>, Instant>,
    /// Files that events show to be written to and not closed: where they were, and which they are. A rename over one of
    /// them puts another file in its place, which has no part in this.
    writing: HashMap<PathBuf, FileId>,
    /// Files that appeared, and to which no event has shown a write since: where one has content, it was given its name
    /// when that was complete.
    created: HashMap<Arc<str>, FileId>,
    /// Files that are open for writing, as read for the present look.
    writers: Option<Writers>,
    /// When the spec of an app changed last, where that is less than `AGAIN_WITHIN` ago.
    recent: HashMap<AppName, Instant>,
    /// Apps of files that began or ceased to be pending.
    restless: BTreeSet<AppName>,
    /// What was reported of the apps with a pending text.
    unsettled: HashMap<AppName, Text>,
    /// What they declared is released as late as that of a file that is gone: others may follow.
    emptying: BTreeMap<Arc<str>, Emptied>,
    /// Roots that lost everything at once, by their index: what they held stays in force.
    lost: BTreeMap<usize, Loss>,
    /// The device that each root was on when it last had manifests.
    devices: Vec<Option<u64>>,
    /// Objects that were released lately: when, from which root, how many.
    released: Vec<(Instant, usize, usize)>,
    /// Objects that disappear within this time of each other disappear together.
    pub(super) together: Duration,
    /// Whether an empty root releases whatever it held.
    pub(super) allow_empty: bool,
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
    /// What the store counted when it told them.
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
            store: Store::new(),
            tracked: Files::default(),
            pending: BTreeMap::new(),
            missing: BTreeMap::new(),
            writing: HashMap::new(),
            created: HashMap::new(),
            writers: None,
            recent: HashMap::new(),
            restless: BTreeSet::new(),
            unsettled: HashMap::new(),
            emptying: BTreeMap::new(),
            lost: BTreeMap::new(),
            devices: Vec::new(),
            released: Vec::new(),
            together: Duration::ZERO,
            allow_empty: false,
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
        let pending = |file: &str| self.pending.contains_key(file);
        let mut known = Compare { files: &mut self.tracked, again: look.again, pending };
        let mut listing = match scan::list(&self.roots, self.follow_links, &mut known) {
            Ok(listing) => listing,
            Err(trouble) => {
                self.trouble = Some(trouble.into());
                return;
            }
        };
        self.trouble = None;
        // Before any file is read: a file that has no writer now and has not changed for long is complete.
        let swapped = listing.layout.swapped_since(&self.layout);
        self.writers = ((self.tracked.len() == 0 || swapped) && !look.trusting).then(Writers::read);
        let arrival = match (look.trusting, swapped) {
            (true, _) => Arrival::Trusted,
            (false, true) => Arrival::Whole,
            (false, false) => Arrival::Found,
        };
        // In order of their names, and the first time all of them: moved, not copied.
        let files = std::mem::take(&mut listing.files);
        let mut due: Vec<Due> =
            files.into_iter().map(|(file, Found { path, print })| Due { file, path, print, arrival }).collect();
        if self.tracked.len() > 0 && arrival == Arrival::Whole {
            // One tree, one change: none of it goes before the rest.
            if due.iter().any(|due| self.store.members(&due.file).any(|name| self.changed_recently(name, now))) {
                for due in &mut due {
                    due.arrival = Arrival::Deferred;
                }
            }
        } else if self.tracked.len() > 0 && arrival == Arrival::Found {
            // A file that is not listed any more, but is there under another name, is complete, since it was.
            let absent = self.tracked.iter().filter(|(file, known)| !self.tracked.sees(known) && !is_among(&due, file));
            let absent: HashSet<FileId> = absent.filter_map(|(_, known)| Some(known.print?.file())).collect();
            let is_moved =
                |due: &Due| self.tracked.path(&due.file) != Some(&due.path) && absent.contains(&due.print.file());
            for due in due.iter_mut().filter(|due| is_moved(due)) {
                due.arrival = Arrival::Whole;
                self.writers.get_or_insert_with(Writers::read);
            }
        }
        self.look_at_all(&due, now);
        for (file, diagnostic) in &listing.oddities {
            self.unreadable(file, diagnostic.clone());
        }
        self.defer_emptied(now);
        self.absent(now, &listing, &due);
        drop(due);
        self.told = listing.is_told();
        self.directories = listing.directories;
        self.layout = listing.layout;
        self.skipped = listing.skipped;
        self.linked = listing.linked;
        self.outside = listing.outside;
        self.writers = None;
        self.bring(now);
        self.loaded |= self.trouble.is_none();
    }

    /// What is known and was not listed: held, if its directory could not be; gone, if a second look agrees.
    fn absent(&mut self, now: Instant, listing: &Listing, due: &[Due]) {
        let tracked = &self.tracked;
        let listed = |file: &str| tracked.is_seen(file) || is_among(due, file) || listing.oddities.contains_key(file);
        self.missing.retain(|file, _| !listed(file));
        // Also what is written beside the manifests, until it moved on or went.
        self.writing.retain(|path, file| {
            let is = |print: Print| print.file() == *file;
            Print::at(path).is_some_and(is)
                || due.iter().any(|due| is(due.print))
                || tracked.iter().any(|(_, known)| tracked.sees(known) && known.print.is_some_and(is))
        });
        let ceased: Vec<Arc<str>> = self.pending.keys().filter(|file| !listed(file)).cloned().collect();
        let unlisted: Vec<Arc<str>> = tracked
            .iter()
            .filter(|(file, known)| {
                !tracked.sees(known) && !is_among(due, file) && !listing.oddities.contains_key(*file)
            })
            .map(|(file, _)| file.clone())
            .collect();
        for file in ceased {
            self.accepted(&file);
        }
        self.created.retain(|file, _| is_among(due, file) || self.tracked.is_seen(file));
        for file in unlisted {
            if let Some((_, diagnostic)) = listing.unlisted.iter().find(|(below, _)| file.starts_with(below.as_str())) {
                let mut diagnostic = diagnostic.clone();
                diagnostic.file = file.clone();
                self.unreadable(&file, diagnostic);
                continue;
            }
            self.missing.entry(file).or_insert(now);
        }
        let devices: Vec<u64> = listing.layout.devices().collect();
        self.devices.resize(devices.len(), None);
        for (root, device) in devices.into_iter().enumerate() {
            if !self.keeps_lost(root, device, now) {
                self.release(root, now);
            }
        }
    }

    /// Whether a root lost everything that it held, or has not got any of it back since.
    ///
    /// An unmounted directory looks like one from which everybody deleted everything. Two objects are not removed within
    /// a scan interval by accident of editing; one may well be, unless the device has changed below it.
    fn keeps_lost(&mut self, root: usize, device: u64, now: Instant) -> bool {
        let Some(objects) = self.losing(root) else {
            if self.store.files().any(|(file, _)| self.root_of(file) == root) {
                self.devices[root] = Some(device);
            }
            self.regain(root, now);
            return false;
        };
        let unmounted = self.devices[root].is_some_and(|before| before != device);
        if self.lost.contains_key(&root) || self.is_loss(root, objects, unmounted, now) {
            self.lost.entry(root).or_insert_with(|| Loss { objects, emptied: BTreeSet::new() });
            return true;
        }
        false
    }

    fn is_loss(&self, root: usize, objects: usize, unmounted: bool, now: Instant) -> bool {
        let lately =
            self.released.iter().filter(|(at, from, _)| *from == root && now.duration_since(*at) <= self.together);
        let before: usize = lately.map(|(_, _, objects)| objects).sum();
        !self.allow_empty && objects > 0 && (unmounted || objects + before > 1)
    }

    /// How many objects a root would lose if everything that is not there any more were released, where it would be left
    /// with none.
    fn losing(&self, root: usize) -> Option<usize> {
        if self.missing.is_empty()
            && self.emptying.is_empty()
            && !self.batch.values().any(declares_nothing)
            && !self.lost.contains_key(&root)
        {
            return None;
        }
        let declared = |state: &FileState| match state {
            FileState::Read(parsed) => parsed.documents.iter().filter_map(|document| document.name.clone()).collect(),
            FileState::Unreadable(_) | FileState::Gone => Vec::new(),
        };
        let mut elsewhere = HashSet::new();
        for (file, state) in &self.batch {
            let names = declared(state);
            if !names.is_empty() && self.root_of(file) == root {
                return None;
            }
            elsewhere.extend(names);
        }
        let emptied = self.lost.get(&root).map(|loss| &loss.emptied);
        let mut objects = 0;
        for (file, _) in self.store.files().filter(|(file, _)| self.root_of(file) == root) {
            let gone = self.missing.contains_key(file)
                || self.emptying.contains_key(file)
                || self.batch.get(file).is_some_and(declares_nothing)
                || emptied.is_some_and(|emptied| emptied.contains(file));
            if !gone {
                return None;
            }
            objects += self.store.members(file).filter(|name| !elsewhere.contains(*name)).count();
        }
        (objects > 0).then_some(objects)
    }

    /// Some of what a root had is there again: what is still missing now is an edit like any other, and begins now.
    fn regain(&mut self, root: usize, now: Instant) {
        let Some(loss) = self.lost.remove(&root) else { return };
        for file in loss.emptied {
            // To be read again.
            self.tracked.track(&file, None, 0, None, false);
        }
        let missing: Vec<Arc<str>> = self.missing.keys().filter(|file| self.root_of(file) == root).cloned().collect();
        self.missing.extend(missing.into_iter().map(|file| (file, now)));
    }

    /// Releases the files of a root that have been missing for long enough, unless more of them are just disappearing.
    fn release(&mut self, root: usize, now: Instant) {
        let missing = self.missing.iter().filter(|(file, _)| self.root_of(file) == root);
        let missing: Vec<(Arc<str>, Instant)> = missing.map(|(file, since)| (file.clone(), *since)).collect();
        let emptied = self.emptying.iter().filter(|(file, _)| self.root_of(file) == root);
        let emptied: Vec<(Arc<str>, Instant)> = emptied.map(|(file, one)| (file.clone(), one.since)).collect();
        let newest = missing.iter().chain(&emptied).map(|(_, since)| *since).max().unwrap_or(now);
        let at_rest = self.pending.is_empty() && now.duration_since(newest) >= GONE_AFTER;
        self.released.retain(|(at, ..)| now.duration_since(*at) <= self.together);
        for (file, since) in missing {
            if at_rest || now.duration_since(since) >= GONE_AT_LAST {
                let objects = self.store.members(&file).count();
                self.released.push((now, root, objects));
                self.gone(&file);
            }
        }
        for (file, since) in emptied {
            if (at_rest || now.duration_since(since) >= GONE_AT_LAST)
                && let Some(Emptied { state, .. }) = self.emptying.remove(&file)
            {
                let objects = self.store.members(&file).count();
                self.released.push((now, root, objects));
                self.batch.entry(file).or_insert(state);
            }
        }
    }

    /// The root that a file belongs to: the innermost, where one lies in another.
    fn root_of(&self, file: &str) -> usize {
        if self.roots.len() < 2 {
            return 0;
        }
        let roots = self.roots.iter().enumerate().filter(|(_, root)| file.starts_with(root.prefix.as_str()));
        roots.max_by_key(|(_, root)| root.prefix.len()).map_or(0, |(at, _)| at)
    }

    /// Keeps in force for a moment what files declared whose new texts declare nothing: they may be the first of all.
    fn defer_emptied(&mut self, now: Instant) {
        self.emptying.retain(|file, _| !self.batch.contains_key(file));
        let named = |state: &FileState| match state {
            FileState::Read(parsed) => parsed.documents.iter().filter_map(|document| document.name.clone()).collect(),
            FileState::Unreadable(_) | FileState::Gone => Vec::new(),
        };
        let elsewhere: HashSet<AppName> = self.batch.values().flat_map(named).collect();
        let store = &self.store;
        let keeps = |file: &str| store.members(file).any(|name| !elsewhere.contains(name));
        if !self.allow_empty {
            let deferred = self.batch.extract_if(.., |file, state| is_emptied(state) && keeps(file));
            self.emptying.extend(deferred.map(|(file, state)| (file, Emptied { since: now, state })));
        }
        // What moved to another file is not lost, and is not to be declared twice.
        let moved = self.emptying.extract_if(.., |file, _| !keeps(file));
        self.batch.extend(moved.map(|(file, Emptied { state, .. })| (file, state)));
    }

    /// Keeps in force what the last files of a root declared, where their new texts declare nothing.
    fn hold_emptied(&mut self, now: Instant) {
        let affected: BTreeSet<usize> =
            self.emptying.keys().map(|file| self.root_of(file)).chain(self.lost.keys().copied()).collect();
        for root in affected {
            let Some(objects) = self.losing(root) else {
                self.regain(root, now);
                continue;
            };
            if self.lost.contains_key(&root) || self.is_loss(root, objects, false, now) {
                let mut loss = self.lost.remove(&root).unwrap_or_else(|| Loss { objects, emptied: BTreeSet::new() });
                let emptied = self.emptying.keys().filter(|file| self.root_of(file) == root).cloned();
                loss.emptied.extend(emptied);
                self.emptying.retain(|file, _| !loss.emptied.contains(file));
                self.lost.insert(root, loss);
            }
        }
    }

    /// Whether a file is about to be released.
    pub(super) fn is_releasing(&self) -> bool {
        let mut files = self.missing.keys().chain(self.emptying.keys());
        files.any(|file| !self.lost.contains_key(&self.root_of(file)))
    }

    /// Whether the manifests cannot be read, or all of a root's disappeared.
    pub(super) fn is_unavailable(&self) -> bool {
        self.trouble.is_some() || !self.lost.is_empty()
    }

    /// Roots that declare nothing.
    pub(super) fn empty_roots(&self) -> impl Iterator<Item = &Root> {
        let used: HashSet<usize> = self.store.files().map(|(file, _)| self.root_of(file)).collect();
        self.roots.iter().enumerate().filter(move |(at, _)| !used.contains(at)).map(|(_, root)| root)
    }

    /// Each root has to be a directory.
    pub(super) fn expect_directories(&mut self) {
        self.roots.iter_mut().for_each(|root| root.directory = true);
    }

    /// Looks at many files, in this order. Reading and parsing them is work for every core; what comes of it is taken in
    /// by one, so that nothing depends on who was faster.
    fn look_at_all(&mut self, due: &[Due], now: Instant) {
        for some in due.chunks(AT_ONCE) {
            let expected = |due: &Due| self.pending.get(&due.file).map(|pending| pending.hash);
            let known = |due: &Due| self.tracked.get(&due.file).map(|known| known.hash);
            let take = |due: &Due| {
                let text = Reading::read(&due.file, &due.path);
                let worth = |hash, print: &Print| {
                    let settled = match due.arrival {
                        Arrival::Whole | Arrival::Trusted => true,
                        Arrival::Closed | Arrival::Deferred => false,
                        Arrival::Found => !print.changed_within(RECENT, clock::system_time()),
                    };
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
                self.take_in(&due.file, &due.path, text, now, due.arrival);
            }
        }
    }

    /// Files that were not settled when last seen, and are due.
    pub(super) fn look_at_pending(&mut self, now: Instant) {
        let pending = self.pending.iter().filter(|(_, pending)| now >= pending.look_at);
        let due: Vec<Due> = pending
            .map(|(file, pending)| Due {
                file: file.clone(),
                path: pending.path.clone(),
                print: pending.print,
                arrival: Arrival::Found,
            })
            .collect();
        self.writers = None;
        self.look_at_all(&due, now);
        self.writers = None;
        for due in due {
            if !due.path.exists() {
                self.accepted(&due.file);
            }
        }
        self.commit(now);
    }

    /// Whether a text waits until it has settled.
    pub(super) fn is_settling(&self) -> bool {
        !self.pending.is_empty()
    }

    /// When to look at the pending texts again.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.look_at).min()
    }

    /// An event shows that a file appeared.
    pub(super) fn begin(&mut self, file: Arc<str>, metadata: &fs::Metadata) {
        self.created.insert(file, Print::of(metadata).file());
    }

    /// An event shows that a file is being written to.
    pub(super) fn begin_write(&mut self, path: &Path, now: Instant) {
        let Ok(metadata) = fs::symlink_metadata(path) else { return };
        if !metadata.is_file() {
            return;
        }
        let print = Print::of(&metadata);
        self.writing.insert(path.to_owned(), print.file());
        let Some(file) = self.name_of(path) else { return };
        self.created.remove(&file);
        if self.pending.contains_key(&file) {
            return;
        }
        let pending = Pending {
            path: path.to_owned(),
            hash: 0,
            print,
            since: now,
            first: now,
            quiet: QUIET,
            may_be_open: true,
            shown: false,
            warned: false,
            look_at: now + RELOOK,
        };
        self.wait_for(&file, pending);
    }

    /// An event shows that a file was closed by a writer.
    pub(super) fn end_write(&mut self, path: &Path) {
        self.writing.remove(path);
        let file = Print::at(path).map(|print| print.file());
        self.writing.retain(|_, written| Some(*written) != file);
    }

    /// Events were lost, and with them perhaps that a file was closed.
    pub(super) fn forget_writers(&mut self) {
        self.writing.clear();
        self.created.clear();
    }

    /// Reads which files are open for writing, for files of whose writers no event told.
    pub(super) fn read_writers(&mut self) {
        self.writers = Some(Writers::read());
    }

    /// Forgets it again: it is true for a moment.
    pub(super) fn forget_open(&mut self) {
        self.writers = None;
    }

    /// Looks at one file.
    pub(super) fn look(&mut self, file: &Arc<str>, path: &Path, now: Instant, arrival: Arrival) {
        self.take_in(file, path, Reading::read(file, path), now, arrival);
    }

    /// Takes in what was read of a file.
    fn take_in(&mut self, file: &Arc<str>, path: &Path, text: Reading, now: Instant, arrival: Arrival) {
        let (hash, print, mut content) = match text {
            Reading::Whole(hash, print, content) => (hash, print, content),
            Reading::Torn => {
                // Whoever writes it has not finished; the next look comes with the pending ones.
                if let Some(print) = Print::at(path) {
                    self.has_settled(file, path, (0, print), now, Wait { arrival, quiet: QUIET, may_be_open: true });
                }
                return;
            }
            // For a whole listing to confirm.
            Reading::Absent => return,
            Reading::Exhausted(trouble) => {
                self.trouble = Some(trouble.into());
                return;
            }
            Reading::Unreadable(diagnostic) => {
                self.unreadable(file, *diagnostic);
                return;
            }
        };
        let wall = clock::system_time();
        let trusted = (!print.modified_within(RECENT, wall)).then_some(print);
        if self.tracked.get(file).is_some_and(|known| known.hash == hash) {
            self.tracked.track(file, Some(path), hash, Some(print), trusted.is_some());
            self.accepted(file);
            return;
        }
        if !self.recent.is_empty()
            && let Read::Bytes(bytes) = &content
        {
            content = Read::Parsed(load::parse(file, bytes));
        }
        if let Some(wait) = self.wait((file, path), &content, (hash, &print), now, arrival)
            && !self.has_settled(file, path, (hash, print), now, wait)
        {
            return;
        }
        self.accepted(file);
        self.created.remove(file);
        let parsed = match content {
            Read::Parsed(parsed) => parsed,
            Read::Bytes(bytes) => load::parse(file, &bytes),
        };
        if !parsed.conclusive && self.tracked.get(file).is_none() {
            self.settle_broken_move(file, hash, &print, now);
        }
        self.settle_moves(file, &parsed);
        self.missing.remove(file);
        self.tracked.track(file, Some(path), hash, Some(print), trusted.is_some());
        self.batch.insert(file.clone(), FileState::Read(Arc::new(parsed)));
    }

    /// What a new text has to wait for; nothing, if it is complete and the first one for a while.
    fn wait(
        &self,
        (file, path): (&Arc<str>, &Path),
        content: &Read,
        (hash, print): (u64, &Print),
        now: Instant,
        arrival: Arrival,
    ) -> Option<Wait> {
        let again = || {
            let read = match content {
                Read::Parsed(parsed) => Some(&parsed.documents),
                Read::Bytes(_) => None,
            };
            let names = read.into_iter().flatten().filter_map(|document| document.name.as_ref());
            names.chain(self.store.members(file)).any(|name| self.changed_recently(name, now))
        };
        let wait = |quiet, may_be_open| Some(Wait { arrival, quiet, may_be_open });
        match arrival {
            Arrival::Trusted => None,
            Arrival::Whole if self.is_written(print) || self.has_writer(path, print) => wait(QUIET, true),
            Arrival::Whole if again() => wait(QUIET, false),
            Arrival::Whole => None,
            Arrival::Deferred => wait(QUIET, false),
            Arrival::Closed => wait(QUIET, true),
            Arrival::Found => match self.pending.get(file).filter(|pending| pending.is_of(hash, print)) {
                Some(pending) => wait(pending.quiet, pending.may_be_open),
                None if print.changed_within(RECENT, clock::system_time()) => {
                    let named_when_complete = self.created.get(file) == Some(&print.file()) && !print.is_empty();
                    wait(QUIET_UNTOLD, !named_when_complete)
                }
                None if again() => wait(QUIET, true),
                None => wait(Duration::ZERO, true),
            },
        }
    }

    /// Whether a text has waited long enough. Otherwise it is pending from here on.
    fn has_settled(
        &mut self,
        file: &Arc<str>,
        path: &Path,
        (hash, print): (u64, Print),
        now: Instant,
        Wait { arrival, quiet, may_be_open }: Wait,
    ) -> bool {
        let before = self.pending.get(file);
        let same = before.filter(|before| arrival == Arrival::Found && before.is_of(hash, &print));
        let since = same.map_or(now, |same| same.since);
        let first = before.map_or(now, |before| before.first);
        let warned = before.is_some_and(|before| before.warned);
        let quiet_for = now.duration_since(since);
        let open = may_be_open && self.is_open(path, &print, quiet_for, quiet);
        // Between the look at its text and the one at its writers it may have been written and closed.
        let unchanged = !may_be_open || !self.loaded || Print::at(path) == Some(print);
        if quiet_for >= quiet && !open && unchanged {
            return true;
        }
        let written_for = now.duration_since(first);
        let warn = open && written_for >= WARNED_AFTER;
        if warn && !warned && !self.silent {
            warn!(
                file = &**file,
                reason = Reason::BeingWritten.as_str(),
                "a process has had this file open for writing for a minute; its text counts once the file is closed"
            );
        }
        let pending = Pending {
            path: path.to_owned(),
            hash: if unchanged { hash } else { 0 },
            print,
            since,
            first,
            quiet,
            may_be_open,
            shown: open && written_for >= SHOWN_AFTER,
            warned: warned || warn,
            look_at: if open || !unchanged { now + if open { RELOOK } else { QUIET } } else { since + quiet },
        };
        self.wait_for(file, pending);
        false
    }

    /// Whether a writer has a file open: one that events show, or one that the system shows. The latter costs a look at
    /// every process and is asked only where the answer decides.
    fn is_open(&mut self, path: &Path, print: &Print, quiet_for: Duration, quiet: Duration) -> bool {
        let told = self.is_written(print);
        let decides = if told { quiet_for >= RECENT } else { quiet_for >= quiet };
        if !decides {
            return told;
        }
        let writers = self.writers.get_or_insert_with(Writers::read);
        let open = writers.has(print.file(), path);
        // Who truncates a file by its path alone never opens it, so no event shows that it was closed.
        if told && !open && writers.complete {
            self.writing.retain(|_, file| *file != print.file());
            return false;
        }
        told || open
    }

    /// Whether the system shows a writer, where it was asked for the present look.
    fn has_writer(&self, path: &Path, print: &Print) -> bool {
        self.writers.as_ref().is_some_and(|writers| writers.has(print.file(), path))
    }

    /// Whether events show that this file is being written.
    fn is_written(&self, print: &Print) -> bool {
        !self.writing.is_empty() && self.writing.values().any(|file| *file == print.file())
    }

    fn changed_recently(&self, name: &AppName, now: Instant) -> bool {
        self.recent.get(name).is_some_and(|at| now.duration_since(*at) < AGAIN_WITHIN)
    }

    fn wait_for(&mut self, file: &Arc<str>, pending: Pending) {
        let before = self.pending.insert(file.clone(), pending);
        if before.is_none_or(|before| Some(before.shown) != self.pending.get(file).map(|now| now.shown)) {
            self.restless.extend(self.store.members(file).cloned());
        }
    }

    /// Nothing of a file is pending any more.
    fn accepted(&mut self, file: &Arc<str>) {
        if self.pending.remove(file).is_some() {
            self.restless.extend(self.store.members(file).cloned());
        }
    }

    /// What is new of the apps with a text that is not accepted yet.
    pub(super) fn take_texts(&mut self) -> Vec<(AppName, Text)> {
        let restless = std::mem::take(&mut self.restless);
        let mut news = Vec::new();
        for name in restless {
            let files = self.store.files_of(&name);
            let pending = files.iter().filter_map(|file| self.pending.get(file)).map(|pending| pending.shown).max();
            let text = match pending {
                None => Text::Stable,
                Some(false) => Text::Pending,
                Some(true) => Text::BeingWritten,
            };
            let before = match text {
                Text::Stable => self.unsettled.remove(&name),
                Text::Pending | Text::BeingWritten => self.unsettled.insert(name.clone(), text),
            };
            if before.unwrap_or_default() != text {
                news.push((name, text));
            }
        }
        news
    }

    /// If an object of this file was in another that is gone from the disk, the two are one change: a move.
    fn settle_moves(&mut self, file: &Arc<str>, parsed: &ParsedFile) {
        let mut left = BTreeSet::new();
        for document in &parsed.documents {
            let (Content::Good(_), Some(name)) = (&document.content, &document.name) else { continue };
            left.extend(self.store.files_of(name).into_iter().filter(|other| other != file));
        }
        for other in left {
            if self.tracked.path(&other).is_some_and(is_absent) && self.roots.iter().all(|root| root.given.exists()) {
                self.gone(&other);
            }
        }
    }

    /// If this is another file under a new name, it still holds what it held: its names need not be readable for that.
    fn settle_broken_move(&mut self, file: &Arc<str>, hash: u64, print: &Print, now: Instant) {
        // In a tree that was replaced as a whole every old path is absent, which says nothing of the file.
        let in_place = |path: &Path| {
            let mut reals = self.roots.iter().filter_map(|root| fs::canonicalize(&root.given).ok());
            reals.any(|real| path.starts_with(real))
        };
        // The inode first: of a thousand empty files not each is to be compared with all the others on the disk.
        let same = |(_, known): &(&Arc<str>, &Tracked)| {
            known.hash == hash
                && known.print.is_some_and(|known| known.file() == print.file())
                && known.path.as_ref().is_some_and(|path| is_absent(path) && in_place(path))
        };
        let Some(from) = self.tracked.iter().find(same).map(|(from, _)| from.clone()) else { return };
        // What is known of it may not have reached the store yet.
        self.commit(now);
        self.store.rename(&from, file);
        self.missing.remove(&from);
        self.tracked.forget(&from);
    }

    fn unreadable(&mut self, file: &Arc<str>, diagnostic: Diagnostic) {
        let hash = hash(diagnostic.message.as_bytes());
        self.accepted(file);
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
    pub(super) fn commit(&mut self, now: Instant) {
        self.defer_emptied(now);
        self.bring(now);
    }

    /// The same for what waits for nothing any more.
    fn bring(&mut self, now: Instant) {
        self.hold_emptied(now);
        if self.batch.is_empty() {
            return;
        }
        let changes = self.store.take(std::mem::take(&mut self.batch), clock::timestamp());
        self.recent.retain(|_, at| now.duration_since(*at) < AGAIN_WITHIN);
        // The first load changes nothing: it is what there is.
        if self.loaded {
            self.recent.extend(changes.respecified.iter().map(|name| (name.clone(), now)));
        }
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
            self.changes.respecified.extend(changes.respecified);
        }
        // A thousand files that are wrong are no reason for an edit of another one to wait.
        if self.troubles != self.store.troubles() {
            self.troubles = self.store.troubles();
            let problems = self.store.diagnostics();
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
        let lost = self.lost.iter().map(|(root, loss)| {
            let root = self.roots.get(*root).map_or(Path::new(""), |root| &root.given).display();
            let objects = loss.objects;
            let all = if objects == 1 { "the only manifest".into() } else { format!("all {objects} manifests") };
            format!("{all} under {root} disappeared; if that is intended, restart, or run with --allow-empty")
        });
        let trouble = self.trouble.clone().or_else(|| {
            let lost: Vec<String> = lost.collect();
            (!lost.is_empty()).then(|| lost.join("; ").into())
        });
        SourceReport {
            available: trouble.is_none(),
            trouble,
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

    /// Fills in the line a diagnostic is about, where the store could not know it.
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

/// What came of reading a file.
#[derive(Debug)]
enum Reading {
    /// The hash of its bytes, and what they are.
    Whole(u64, Print, Read),
    /// It changed while it was read.
    Torn,
    /// There is no such file.
    Absent,
    /// This process has no file descriptor left: says nothing of the file.
    Exhausted(String),
    /// It is there and cannot be read.
    Unreadable(Box<Diagnostic>),
}

#[derive(Debug)]
enum Read {
    Bytes(Vec<u8>),
    Parsed(ParsedFile),
}

impl Reading {
    fn read(file: &Arc<str>, path: &Path) -> Self {
        match scan::read(file, path) {
            Bytes::Whole(bytes, print) => Self::Whole(hash(&bytes), print, Read::Bytes(bytes)),
            Bytes::Torn => Self::Torn,
            Bytes::Absent => Self::Absent,
            Bytes::Exhausted(trouble) => Self::Exhausted(trouble),
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

/// The results of `work` for each item, in their order, by several threads.
fn in_parallel<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work = &work;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for part in items.chunks(items.len().div_ceil(threads).max(1)) {
            let job = move || part.iter().map(work).collect::<Vec<R>>();
            // Where no thread can be started, this one does that part.
            running.push(thread::Builder::new().name("load".into()).spawn_scoped(scope, job).map_err(|_| job()));
        }
        let join = |part: Result<thread::ScopedJoinHandle<'_, Vec<R>>, Vec<R>>| match part {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(done) => done,
        };
        running.into_iter().flat_map(join).collect()
    })
}

/// A file to look at.
#[derive(Debug)]
struct Due {
    file: Arc<str>,
    path: PathBuf,
    /// Its print when it was listed.
    print: Print,
    /// How it got there.
    arrival: Arrival,
}

/// What a text waits for.
#[derive(Debug, Clone, Copy)]
struct Wait {
    arrival: Arrival,
    /// How long it must stay the same.
    quiet: Duration,
    /// Whether it also waits for its writers to close it.
    may_be_open: bool,
}

impl Pending {
    fn is_of(&self, hash: u64, print: &Print) -> bool {
        self.hash == hash && self.print == *print
    }
}

/// Whether a file was read whole and declares nothing.
fn is_emptied(state: &FileState) -> bool {
    match state {
        FileState::Read(parsed) => parsed.conclusive && parsed.documents.iter().all(|document| document.name.is_none()),
        FileState::Unreadable(_) | FileState::Gone => false,
    }
}

/// The same, or it is gone.
fn declares_nothing(state: &FileState) -> bool {
    matches!(state, FileState::Gone) || is_emptied(state)
}

/// Whether a file is one of these, which are in order.
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
            engine.scan(clock::instant(), Look::default());
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
        engine.scan(clock::instant(), Look::default());
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
        let mut alone = Store::new();
        for at in 0..300 {
            let file: Arc<str> = format!("{at:03}.yaml").into();
            let bytes = fs::read(dir.path().join(&*file)).expect("read");
            alone.apply([(file.clone(), FileState::Read(Arc::new(load::parse(&file, &bytes))))]);
        }
        assert_eq!(declared.len(), alone.declared().len());
        assert_eq!(diagnostics.len(), alone.diagnostics().len());
        assert_eq!(report.files, 300);
    }

    /// A root with these apps, each in a file of its own and running, read by an engine in virtual time.
    struct Bench {
        dir: tempfile::TempDir,
        engine: Engine,
        now: Instant,
    }

    impl Bench {
        fn new(names: &[&str]) -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let root = fs::canonicalize(dir.path()).expect("it is there").join("m");
            fs::create_dir(&root).expect("mkdir");
            let mut engine = Engine::new(vec![root], false);
            engine.expect_directories();
            engine.together = Duration::from_secs(10);
            let mut bench = Self { dir, engine, now: clock::instant() };
            for name in names {
                bench.write(&format!("{name}.yaml"), &manifest(name, "Running"));
            }
            bench.wait(1000);
            bench.wait(1000);
            bench.engine.changes = Changes::default();
            bench
        }

        fn path(&self, file: &str) -> PathBuf {
            self.engine.roots[0].given.join(file)
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.path(file), text).expect("write");
        }

        /// Some milliseconds pass; pending files are read again and the tree is scanned.
        fn wait(&mut self, milliseconds: u64) {
            self.pause(milliseconds);
            self.engine.scan(self.now, Look::default());
        }

        /// The same without a scan.
        fn pause(&mut self, milliseconds: u64) {
            self.now += Duration::from_millis(milliseconds);
            self.engine.look_at_pending(self.now);
        }

        /// A file was written in place and closed.
        fn close(&mut self, file: &str) {
            self.engine.end_write(&self.path(file));
            self.look(file, Arrival::Closed);
        }

        fn look(&mut self, file: &str, arrival: Arrival) {
            self.engine.look(&file.into(), &self.path(file), self.now, arrival);
            self.engine.commit(self.now);
        }

        /// Replaces a file as `sed -i` does.
        fn replace(&mut self, file: &str, text: &str) {
            self.write(".new", text);
            fs::rename(self.path(".new"), self.path(file)).expect("rename");
            self.look(file, Arrival::Whole);
        }

        fn state(&self, name: &str) -> &'static str {
            let declared = self.engine.store.declared().into_iter().find(|declared| declared.name.as_str() == name);
            declared.and_then(|declared| Some(declared.spec()?.state.as_str())).unwrap_or("-")
        }

        fn trouble(&self) -> String {
            self.engine.report().trouble.map(|trouble| trouble.to_string()).unwrap_or_default()
        }
    }

    /// A half-written manifest is a manifest: `suspend: true` is still to come.
    #[test]
    fn a_text_is_not_accepted_while_its_file_is_open_however_long_that_takes() {
        for told in [true, false] {
            let mut bench = Bench::new(&["a"]);
            let path = bench.path("a.yaml");
            let mut writer = fs::File::create(&path).expect("create");
            std::io::Write::write_all(&mut writer, manifest("a", "Stopped").as_bytes()).expect("write");
            if told {
                bench.engine.begin_write(&path, bench.now);
            }
            for _ in 0..30 {
                bench.wait(5000);
                assert_eq!(bench.state("a"), "Running", "told: {told}");
            }
            assert_eq!(bench.engine.take_texts(), [("a".parse().expect("a name"), Text::BeingWritten)], "told: {told}");
            drop(writer);
            if told {
                bench.close("a.yaml");
            }
            bench.wait(1100);
            bench.wait(1100);
            assert_eq!(bench.state("a"), "Stopped", "told: {told}");
            assert_eq!(bench.engine.take_texts(), [("a".parse().expect("a name"), Text::Stable)], "told: {told}");
        }
    }

    #[test]
    fn the_first_load_does_not_accept_a_text_whose_file_is_open() {
        let mut bench = Bench::new(&[]);
        let mut writer = fs::File::create(bench.path("a.yaml")).expect("create");
        std::io::Write::write_all(&mut writer, manifest("a", "Stopped").as_bytes()).expect("write");
        bench.engine = Engine::new(vec![bench.path("")], false);
        for _ in 0..10 {
            bench.wait(5000);
            assert_eq!(bench.state("a"), "-");
        }
        drop(writer);
        bench.wait(2000);
        assert_eq!(bench.state("a"), "Stopped");
    }

    #[test]
    fn one_of_two_writers_closes_the_file() {
        let mut bench = Bench::new(&["a"]);
        let path = bench.path("a.yaml");
        let other = fs::File::options().append(true).open(&path).expect("open");
        bench.write("a.yaml", &manifest("a", "Stopped"));
        bench.engine.begin_write(&path, bench.now);
        bench.close("a.yaml");
        bench.pause(100);
        bench.wait(5000);
        assert_eq!(bench.state("a"), "Running");
        drop(other);
        bench.wait(1000);
        assert_eq!(bench.state("a"), "Stopped");
    }

    #[test]
    fn being_written_belongs_to_the_inode() {
        let mut bench = Bench::new(&["a"]);
        let path = bench.path("a.yaml");
        let _writer = fs::File::create(&path).expect("create");
        bench.engine.begin_write(&path, bench.now);
        bench.wait(2000);
        // Another file takes its place: that one has no writer.
        bench.replace("a.yaml", &manifest("a", "Stopped"));
        assert_eq!(bench.state("a"), "Stopped");

        // And one that is renamed while it is written takes its writer with it.
        let mut bench = Bench::new(&["a"]);
        let (from, to) = (bench.path(".new"), bench.path("a.yaml"));
        let mut writer = fs::File::create(&from).expect("create");
        std::io::Write::write_all(&mut writer, manifest("a", "Stopped").as_bytes()).expect("write");
        bench.engine.begin_write(&from, bench.now);
        fs::rename(from, to).expect("rename");
        bench.look("a.yaml", Arrival::Whole);
        bench.wait(5000);
        assert_eq!(bench.state("a"), "Running");
        drop(writer);
        bench.close("a.yaml");
        bench.pause(100);
        assert_eq!(bench.state("a"), "Stopped");
    }

    #[test]
    fn files_that_are_emptied_one_after_the_other_are_lost_together() {
        for empty in ["# nothing\n", "---\n", "apiVersion: campos-operator.dev/v1\nkind: AppList\nitems: []\n"] {
            let mut bench = Bench::new(&["a", "b", "c"]);
            bench.engine.together = Duration::from_secs(3);
            for name in ["a", "b", "c"] {
                bench.replace(&format!("{name}.yaml"), empty);
                bench.wait(200);
            }
            bench.wait(5000);
            for name in ["a", "b", "c"] {
                assert_eq!(bench.state(name), "Running", "{name} after {empty:?}");
            }
            assert!(bench.engine.report().trouble.is_some_and(|trouble| trouble.starts_with("all 3 manifests")));
        }
        // All but some is an edit.
        let mut bench = Bench::new(&["a", "b", "c"]);
        bench.engine.together = Duration::from_secs(3);
        bench.replace("a.yaml", "# nothing\n");
        assert_eq!(bench.state("a"), "Running");
        bench.wait(400);
        bench.wait(400);
        assert_eq!((bench.state("a"), bench.state("b")), ("-", "Running"));
        assert!(bench.engine.report().available);
        // What moves is not declared twice meanwhile.
        bench.replace("b.yaml", "# moved\n");
        bench.write("d.yaml", &manifest("b", "Stopped"));
        bench.look("d.yaml", Arrival::Whole);
        assert_eq!(bench.state("b"), "Stopped");
        assert!(bench.engine.report().available);
    }

    #[test]
    fn a_swapped_tree_waits_for_the_writers_of_its_files() {
        let mut bench = Bench::new(&[]);
        let dir = bench.dir.path().to_owned();
        for (tree, state) in [("v0", "Running"), ("v1", "Stopped")] {
            fs::create_dir(dir.join(tree)).expect("mkdir");
            fs::write(dir.join(tree).join("a.yaml"), manifest("a", state)).expect("write");
        }
        symlink("v0", dir.join("current")).expect("symlink");
        bench.engine = Engine::new(vec![dir.join("current")], false);
        bench.wait(5000);
        bench.wait(5000);
        assert_eq!(bench.state("a"), "Running");
        let writer = fs::File::options().append(true).open(dir.join("v1").join("a.yaml")).expect("open");
        symlink("v1", dir.join("next")).expect("symlink");
        fs::rename(dir.join("next"), dir.join("current")).expect("rename");
        bench.wait(100);
        bench.wait(5000);
        assert_eq!(bench.state("a"), "Running");
        drop(writer);
        bench.wait(5000);
        assert_eq!(bench.state("a"), "Stopped");
    }

    #[test]
    fn a_text_that_does_not_last_for_the_quiet_time_is_not_accepted() {
        for gap in [0, 1, 50, 99] {
            let mut bench = Bench::new(&["a"]);
            bench.write("a.yaml", &manifest("a", "Stopped"));
            bench.close("a.yaml");
            bench.pause(gap);
            bench.write("a.yaml", &(manifest("a", "Running") + "# again\n"));
            bench.close("a.yaml");
            bench.pause(99);
            assert!(bench.engine.changes == Changes::default() && bench.state("a") == "Running", "gap {gap} ms");
            bench.write("a.yaml", &manifest("a", "Stopped"));
            bench.close("a.yaml");
            bench.pause(99);
            assert_eq!(bench.state("a"), "Running", "gap {gap} ms");
            bench.pause(1);
            assert_eq!(bench.state("a"), "Stopped", "gap {gap} ms");
        }
    }

    #[test]
    fn a_rename_is_accepted_at_once_and_a_second_one_waits() {
        let mut bench = Bench::new(&["a", "b"]);
        bench.replace("a.yaml", &manifest("a", "Stopped"));
        assert_eq!(bench.state("a"), "Stopped");
        bench.pause(500);
        bench.replace("a.yaml", &manifest("a", "Running"));
        bench.replace("b.yaml", &manifest("b", "Stopped"));
        assert_eq!((bench.state("a"), bench.state("b")), ("Stopped", "Stopped"));
        bench.pause(50);
        bench.replace("a.yaml", &(manifest("a", "Running") + "# again\n"));
        bench.pause(99);
        assert_eq!(bench.state("a"), "Stopped");
        bench.pause(1);
        assert_eq!(bench.state("a"), "Running");
        bench.pause(1000);
        bench.replace("a.yaml", &manifest("a", "Stopped"));
        assert_eq!(bench.state("a"), "Stopped");
    }

    #[test]
    fn a_swap_is_one_change_and_a_second_one_waits() {
        let mut bench = Bench::new(&[]);
        let flip = |bench: &mut Bench, tree: &str, states: [&str; 2]| {
            let dir = bench.dir.path().join(tree);
            fs::create_dir(&dir).expect("mkdir");
            for (name, state) in ["a", "b"].iter().zip(states) {
                fs::write(dir.join(format!("{name}.yaml")), manifest(name, state)).expect("write");
            }
            symlink(tree, bench.dir.path().join("new")).expect("symlink");
            fs::rename(bench.dir.path().join("new"), bench.dir.path().join("current")).expect("rename");
            bench.engine.scan(bench.now, Look::default());
        };
        bench.engine = Engine::new(vec![bench.dir.path().join("current")], false);
        flip(&mut bench, "t0", ["Running", "Running"]);
        bench.wait(1000);
        bench.wait(1000);
        flip(&mut bench, "t1", ["Stopped", "Running"]);
        assert_eq!((bench.state("a"), bench.state("b")), ("Stopped", "Running"));
        for (at, states) in [["Running", "Stopped"], ["Stopped", "Running"], ["Running", "Stopped"]].iter().enumerate()
        {
            flip(&mut bench, &format!("u{at}"), *states);
            bench.wait(25);
            assert_eq!((bench.state("a"), bench.state("b")), ("Stopped", "Running"));
        }
        bench.pause(100);
        assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Stopped"));
    }

    #[test]
    fn losing_everything_is_not_deleting_everything() {
        let mut bench = Bench::new(&["a", "b", "c"]);
        for name in ["a", "b", "c"] {
            fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
            bench.wait(20);
        }
        for _ in 0..20 {
            bench.wait(1000);
        }
        assert_eq!([bench.state("a"), bench.state("b"), bench.state("c")], ["Running"; 3]);
        assert!(bench.trouble().starts_with("all 3 manifests under "), "{}", bench.trouble());
        assert!(bench.trouble().ends_with("if that is intended, restart, or run with --allow-empty"));
        assert!(!bench.engine.is_releasing());

        // One of them is back: what is still missing is an edit like any other.
        bench.write("a.yaml", &manifest("a", "Running"));
        bench.wait(1000);
        assert_eq!((bench.trouble().as_str(), bench.state("b")), ("", "Running"));
        for _ in 0..3 {
            bench.wait(1000);
        }
        assert_eq!([bench.state("a"), bench.state("b"), bench.state("c")], ["Running", "-", "-"]);
    }

    #[test]
    fn removing_fewer_than_all_is_an_edit() {
        let mut bench = Bench::new(&["a", "b", "c"]);
        for name in ["a", "b"] {
            fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
        }
        bench.wait(20);
        bench.wait(1000);
        assert_eq!([bench.state("a"), bench.state("b"), bench.state("c")], ["-", "-", "Running"]);
        // The last one, but within a scan interval of the others.
        fs::remove_file(bench.path("c.yaml")).expect("remove");
        bench.wait(20);
        bench.wait(5000);
        assert_eq!((bench.state("c"), bench.trouble().is_empty()), ("Running", false));
    }

    #[test]
    fn the_last_one_alone_is_an_edit() {
        let mut bench = Bench::new(&["a", "b"]);
        fs::remove_file(bench.path("a.yaml")).expect("remove");
        bench.wait(20);
        bench.wait(1000);
        bench.wait(11_000);
        fs::remove_file(bench.path("b.yaml")).expect("remove");
        bench.wait(20);
        bench.wait(1000);
        assert_eq!((bench.state("a"), bench.state("b"), bench.trouble().as_str()), ("-", "-", ""));
    }

    #[test]
    fn with_allow_empty_everything_is_released() {
        let mut bench = Bench::new(&["a", "b"]);
        bench.engine.allow_empty = true;
        for name in ["a", "b"] {
            fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
        }
        bench.wait(20);
        bench.wait(1000);
        assert_eq!((bench.state("a"), bench.state("b"), bench.trouble().as_str()), ("-", "-", ""));
    }

    #[test]
    fn files_that_declare_nothing_any_more_are_a_loss_too() {
        let mut bench = Bench::new(&[]);
        bench.write("all.yaml", &format!("{}---\n{}", manifest("a", "Running"), manifest("b", "Running")));
        bench.wait(1000);
        bench.wait(1000);
        assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Running"));
        bench.replace("all.yaml", "# moved elsewhere\n");
        bench.wait(1000);
        assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Running"));
        assert!(!bench.trouble().is_empty());
        bench.replace("all.yaml", &manifest("b", "Stopped"));
        bench.wait(1000);
        assert_eq!((bench.state("a"), bench.state("b"), bench.trouble().as_str()), ("-", "Stopped", ""));
    }

    #[test]
    fn each_root_is_lost_for_itself() {
        let mut bench = Bench::new(&["a", "b"]);
        let other = bench.dir.path().join("other");
        fs::create_dir(&other).expect("mkdir");
        for name in ["c", "d"] {
            fs::write(other.join(format!("{name}.yaml")), manifest(name, "Running")).expect("write");
        }
        bench.engine = Engine::new(vec![bench.path(""), other.clone()], false);
        bench.wait(1000);
        bench.wait(1000);
        fs::remove_file(other.join("c.yaml")).expect("remove");
        for name in ["a", "b"] {
            fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
        }
        bench.wait(20);
        bench.wait(1000);
        assert_eq!(["a", "b", "c", "d"].map(|name| bench.state(name)), ["Running", "Running", "-", "Running"]);
        assert!(bench.trouble().starts_with("all 2 manifests under "), "{}", bench.trouble());
        // All that a root had moved to another one: nothing is lost.
        fs::rename(other.join("d.yaml"), bench.path("d.yaml")).expect("rename");
        bench.wait(1000);
        bench.wait(1000);
        assert_eq!((bench.state("d"), bench.trouble().as_str()), ("Running", ""));
    }

    #[test]
    fn a_file_in_the_place_of_a_root_is_no_manifest() {
        let mut bench = Bench::new(&["a", "b"]);
        fs::remove_dir_all(bench.path("")).expect("remove");
        fs::write(&bench.engine.roots[0].given, "").expect("write");
        bench.wait(5000);
        bench.wait(5000);
        assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Running"));
        assert!(bench.trouble().ends_with("is a file, not a directory"), "{}", bench.trouble());
    }
}
