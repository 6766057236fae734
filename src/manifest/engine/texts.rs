//! Texts that are not accepted yet: half-written files, open writers and the quiet time.
//!
//! A prefix of a manifest can be a valid manifest with another meaning. So a text counts only when it is stable: it
//! has not changed for its quiet time, and no process has its file open for writing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Arrival, Due, Engine, QUIET_UNSEEN, RECENT};
use crate::clock;
use crate::manifest::load::ParsedFile;
use crate::manifest::scan::{FileId, Print};
use crate::manifest::writers::Writers;
use crate::reconcile::app::AppName;
use crate::reconcile::desired::Text;
use crate::reconcile::reason::Reason;

/// Quiet time: a text written in place is accepted when it has not changed for this long after its file was closed.
/// Scripts write in several steps (`> a.yaml`, `>> a.yaml`), and each step closes the file.
const QUIET: Duration = Duration::from_millis(100);
/// A second change of an app within this time waits for the quiet time, whatever its origin.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);
/// Interval of reads of a file with an open writer: the writer may end without an event.
const RETRY: Duration = Duration::from_secs(1);
/// Time for which a snapshot of the open writers is valid for files that were renamed before it.
const SNAPSHOT_SERVES: Duration = Duration::from_millis(10);
/// Duration of a write after which the file is reported as `BeingWritten`.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
/// Duration of a write after which the log has a warning.
const WARNED_AFTER: Duration = Duration::from_secs(60);

/// State of the writers and the pending texts.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) pending: BTreeMap<Arc<str>, Pending>,
    /// Files with a write event and no close event, by path. A rename over one of them replaces it by a file without an
    /// open writer.
    pub(super) writing: HashMap<PathBuf, FileId>,
    /// New files without a write event: a file with content got its name when it was complete.
    pub(super) created: HashMap<Arc<str>, FileId>,
    /// Snapshot of the open writers, for the duration of one scan or of some signals.
    pub(super) writers: Option<Writers>,
    /// Time of that snapshot, if it is only for renamed files.
    renamed_writers_at: Option<Instant>,
    /// Time of the last change of an app's spec, if that is less than `AGAIN_WITHIN` ago.
    recent: HashMap<AppName, Instant>,
    /// Apps of files that became pending, or are no longer pending, since the last report.
    touched: BTreeSet<AppName>,
    /// The last report about each app that has a pending text.
    reported: HashMap<AppName, Text>,
}

/// A text that is not accepted yet.
#[derive(Debug)]
pub(super) struct Pending {
    path: PathBuf,
    pub(super) hash: u64,
    print: Print,
    /// Time of the first read of this text.
    since: Instant,
    /// Time of the first difference from the text in force.
    first: Instant,
    wait: Wait,
    /// Whether it is reported as `BeingWritten`.
    shown: bool,
    warned: bool,
    /// Time of the next read of the file.
    retry_at: Instant,
}

/// Conditions for the acceptance of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// Time for which the text must not change.
    quiet: Duration,
    /// Whether the text also waits until no process has the file open for writing.
    may_be_open: bool,
}

impl Wait {
    /// Conditions for a file that changed while it was read.
    pub(super) const TORN: Self = Self { quiet: QUIET, may_be_open: true };
}

impl Pending {
    fn is_of(&self, hash: u64, print: &Print) -> bool {
        self.hash == hash && self.print == *print
    }
}

impl Engine {
    /// Reads the pending files whose time has come.
    pub(in crate::manifest) fn reread_pending(&mut self, now: Instant) {
        let due = |(file, pending): (&Arc<str>, &Pending)| {
            let (file, path, print) = (file.clone(), pending.path.clone(), pending.print);
            (now >= pending.retry_at).then_some(Due { file, path, print, arrival: Arrival::Found })
        };
        let due: Vec<Due> = self.texts.pending.iter().filter_map(due).collect();
        self.drop_writers();
        self.read_all(&due, now);
        self.drop_writers();
        for due in due {
            if !due.path.exists() {
                self.end_pending(&due.file);
            }
        }
        self.commit(now);
    }

    /// Returns whether a text waits until it is stable.
    pub(in crate::manifest) fn is_pending(&self) -> bool {
        !self.texts.pending.is_empty()
    }

    /// Time of the next call of [`Engine::reread_pending`].
    pub(in crate::manifest) fn next_reread(&self) -> Option<Instant> {
        self.texts.pending.values().map(|pending| pending.retry_at).min()
    }

    /// Handles the event of a new file.
    pub(in crate::manifest) fn begin(&mut self, file: Arc<str>, metadata: &fs::Metadata) {
        self.texts.created.insert(file, Print::of(metadata).file());
    }

    /// Handles the event of a write.
    pub(in crate::manifest) fn begin_write(&mut self, path: &Path, now: Instant) {
        let Ok(metadata) = fs::symlink_metadata(path) else { return };
        if !metadata.is_file() {
            return;
        }
        let print = Print::of(&metadata);
        self.texts.writing.insert(path.to_owned(), print.file());
        let Some(file) = self.name_of(path) else { return };
        self.texts.created.remove(&file);
        if self.texts.pending.contains_key(&file) {
            return;
        }
        let pending = Pending {
            path: path.to_owned(),
            hash: 0,
            print,
            since: now,
            first: now,
            wait: Wait { quiet: QUIET, may_be_open: true },
            shown: false,
            warned: false,
            retry_at: now + RETRY,
        };
        self.begin_pending(&file, pending);
    }

    /// Handles the event of a close after writing.
    pub(in crate::manifest) fn end_write(&mut self, path: &Path) {
        self.texts.writing.remove(path);
        let file = Print::at(path).map(|print| print.file());
        self.texts.writing.retain(|_, written| Some(*written) != file);
    }

    /// Handles a loss of events, possibly of the end of a write.
    pub(in crate::manifest) fn forget_writers(&mut self) {
        self.texts.writing.clear();
        self.texts.created.clear();
    }

    /// Takes a snapshot of the open writers, for a renamed file at `path` whose writers no event shows. It is valid for
    /// more files, because a checkout may rename hundreds.
    pub(in crate::manifest) fn read_writers(&mut self, path: &Path, now: Instant) {
        let has_other_names = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.nlink() > 1);
        let is_recent = self.texts.renamed_writers_at.is_some_and(|at| now.duration_since(at) < SNAPSHOT_SERVES);
        if has_other_names {
            self.texts.writers = Some(Writers::read());
            self.texts.renamed_writers_at = None;
        } else if !is_recent || self.texts.writers.is_none() {
            self.texts.writers = Some(Writers::read_names());
            self.texts.renamed_writers_at = Some(now);
        }
    }

    /// Drops the snapshot, which is valid only for a moment.
    pub(in crate::manifest) fn drop_writers(&mut self) {
        self.texts.writers = None;
        self.texts.renamed_writers_at = None;
    }

    /// Returns whether the names in a new text matter for its acceptance.
    pub(super) fn has_recent_changes(&self) -> bool {
        !self.texts.recent.is_empty()
    }

    /// The conditions of a new text; none for a complete text whose app did not change recently. `parsed` is needed
    /// only if [`Engine::has_recent_changes`].
    pub(super) fn conditions(
        &self,
        (file, path): (&Arc<str>, &Path),
        parsed: Option<&ParsedFile>,
        (hash, print): (u64, &Print),
        now: Instant,
        arrival: Arrival,
    ) -> Option<Wait> {
        let again = || {
            let documents = parsed.into_iter().flat_map(|parsed| &parsed.documents);
            let names = documents.filter_map(|document| document.name.as_ref());
            names.chain(self.store.members(file)).any(|name| self.changed_recently(name, now))
        };
        let wait = |quiet, may_be_open| Some(Wait { quiet, may_be_open });
        match arrival {
            Arrival::Trusted => None,
            Arrival::Whole if self.is_written(print) || self.has_writer(path, print) => wait(QUIET, true),
            Arrival::Whole if again() => wait(QUIET, false),
            Arrival::Whole => None,
            Arrival::Deferred => wait(QUIET, false),
            Arrival::Closed => wait(QUIET, true),
            Arrival::Found => match self.texts.pending.get(file).filter(|pending| pending.is_of(hash, print)) {
                Some(pending) => Some(pending.wait),
                // No event shows its writer, but its age is that of its metadata, and the open files are known.
                None if !self.loaded => wait(print.quiet_in(QUIET_UNSEEN, clock::system_time()), true),
                None if print.changed_within(RECENT, clock::system_time()) => {
                    let named_when_complete = self.texts.created.get(file) == Some(&print.file()) && !print.is_empty();
                    wait(QUIET_UNSEEN, !named_when_complete)
                }
                None if again() => wait(QUIET, true),
                None => wait(Duration::ZERO, true),
            },
        }
    }

    /// Returns whether a text is stable. Otherwise, marks it as pending.
    pub(super) fn is_stable(
        &mut self,
        file: &Arc<str>,
        path: &Path,
        (hash, print): (u64, Print),
        now: Instant,
        arrival: Arrival,
        wait: Wait,
    ) -> bool {
        let Wait { quiet, may_be_open } = wait;
        let before = self.texts.pending.get(file);
        let same = before.filter(|before| arrival == Arrival::Found && before.is_of(hash, &print));
        let since = same.map_or(now, |same| same.since);
        let first = before.map_or(now, |before| before.first);
        let warned = before.is_some_and(|before| before.warned);
        let quiet_for = now.duration_since(since);
        let open = may_be_open && self.is_open(path, &print, quiet_for, quiet);
        // Between the read of its text and of its writers, a process may have written and closed it.
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
        let retry_at = match (open, unchanged) {
            (true, _) => now + RETRY,
            (false, false) => now + QUIET,
            (false, true) => since + quiet,
        };
        let pending = Pending {
            path: path.to_owned(),
            hash: if unchanged { hash } else { 0 },
            print,
            since,
            first,
            wait,
            shown: open && written_for >= SHOWN_AFTER,
            warned: warned || warn,
            retry_at,
        };
        self.begin_pending(file, pending);
        false
    }

    /// Returns whether a writer has a file open, by the events or by the system. The latter reads every process, so it
    /// is used only if the answer decides.
    fn is_open(&mut self, path: &Path, print: &Print, quiet_for: Duration, quiet: Duration) -> bool {
        let seen = self.is_written(print);
        let decides = if seen { quiet_for >= RECENT } else { quiet_for >= quiet };
        if !decides {
            return seen;
        }
        let writers = self.texts.writers.get_or_insert_with(Writers::read);
        let open = writers.has(print.file(), path);
        // A process that truncates a file by its path does not open it, so no close event follows.
        if seen && !open && writers.complete {
            self.texts.writing.retain(|_, file| *file != print.file());
            return false;
        }
        seen || open
    }

    /// Returns whether the snapshot of open writers, if there is one, shows a writer.
    fn has_writer(&self, path: &Path, print: &Print) -> bool {
        self.texts.writers.as_ref().is_some_and(|writers| writers.has(print.file(), path))
    }

    /// Returns whether events show that this file is being written.
    fn is_written(&self, print: &Print) -> bool {
        self.texts.writing.values().any(|file| *file == print.file())
    }

    pub(super) fn changed_recently(&self, name: &AppName, now: Instant) -> bool {
        self.texts.recent.get(name).is_some_and(|at| now.duration_since(*at) < AGAIN_WITHIN)
    }

    pub(super) fn note_changes(&mut self, names: &[AppName], now: Instant) {
        self.texts.recent.retain(|_, at| now.duration_since(*at) < AGAIN_WITHIN);
        self.texts.recent.extend(names.iter().map(|name| (name.clone(), now)));
    }

    fn begin_pending(&mut self, file: &Arc<str>, pending: Pending) {
        let shown = pending.shown;
        let before = self.texts.pending.insert(file.clone(), pending);
        if before.is_none_or(|before| before.shown != shown) {
            self.texts.touched.extend(self.store.members(file).cloned());
        }
    }

    pub(super) fn end_pending(&mut self, file: &Arc<str>) {
        if self.texts.pending.remove(file).is_some() {
            self.texts.touched.extend(self.store.members(file).cloned());
        }
    }

    /// Changes since the last call of the apps with a pending text.
    pub(in crate::manifest) fn take_texts(&mut self) -> Vec<(AppName, Text)> {
        let mut changed = Vec::new();
        for name in std::mem::take(&mut self.texts.touched) {
            let files = self.store.files_of(&name);
            let shown = files.iter().filter_map(|file| Some(self.texts.pending.get(file)?.shown)).max();
            let (text, before) = match shown {
                None => (Text::Stable, self.texts.reported.remove(&name)),
                Some(shown) => {
                    let text = if shown { Text::BeingWritten } else { Text::Pending };
                    (text, self.texts.reported.insert(name.clone(), text))
                }
            };
            if before.unwrap_or_default() != text {
                changed.push((name, text));
            }
        }
        changed
    }
}
