//! What was decided and called, and why? An append-only journal: the newest 1,000 entries in memory, and with
//! `--state-dir` every entry as a line of `history.jsonl`.
//!
//! What memory has forgotten of one app is looked up in the file when somebody asks for it.
//!
//! The file is written by a thread of its own: a slow or full disk costs entries of the file, never the reconciling of
//! an app. A crash may tear the last line; it is skipped and told when the file is read again.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::reconcile::app::AppName;

/// So many entries are kept in memory.
pub const KEPT: usize = 1_000;
/// The file is put aside at this size; one old file is kept.
pub const LARGEST: u64 = 64 * 1024 * 1024;
/// So many entries wait for a slow disk; further ones are lost to the file. Enough for one cause that concerns tens of
/// thousands of apps at once, and some 15 MB where the disk is stuck.
const WAITING: usize = 32_768;
/// How much of the end of a file is read for the newest entries; one takes some 500 bytes.
const TAIL: u64 = 4 * 1024 * 1024;
/// So much of a file is searched at a time.
const BLOCK: u64 = 1024 * 1024;
/// The start and the end of the process wait this long for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The file's name below `--state-dir`.
pub const FILE: &str = "history.jsonl";
/// The name under which the file before it is kept.
pub const OLD_FILE: &str = "history.jsonl.1";

/// What made the operator look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trigger {
    /// Time passed: a backoff ended, a call did not show in time, a gate opened or closed.
    Timer,
    /// A reading arrived.
    Observation,
    /// A call was answered.
    Answer,
    /// The manifest changed.
    Edit,
    /// The process started.
    Start,
    /// What is asked changed by itself: a schedule's window, the end of a suspension.
    Transition,
    /// A reading says that somebody else changed the app.
    Drift,
}

impl Trigger {
    /// The word of the history and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timer => "Timer",
            Self::Observation => "Observation",
            Self::Answer => "Answer",
            Self::Edit => "Edit",
            Self::Start => "Start",
            Self::Transition => "Transition",
            Self::Drift => "Drift",
        }
    }
}

/// One side of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// `Running` or `Stopped`; null where nothing could be told.
    pub desired: Option<Cow<'static, str>>,
    /// What was seen; null where nothing was known yet.
    pub observed: Option<Cow<'static, str>>,
    /// Why it was so, from the closed list; null before the first decision.
    pub reason: Option<Cow<'static, str>>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// `Accepted`, or the verdict on the failure.
    pub result: Cow<'static, str>,
    /// The HTTP status, where an answer came.
    pub http_status: Option<u16>,
    /// The word that the server returned in `status`.
    pub status: Option<Arc<str>>,
    /// The flag that it returned in `currentResourceMetrics.online`.
    pub online: Option<bool>,
    /// What failed.
    pub error: Option<Arc<str>>,
}

/// One decision whose reason changed, or one call that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// The object's name; null where it is about the daemon: a condition of the whole account.
    pub app: Option<Arc<str>>,
    /// The app on the platform, where that is known.
    pub app_id: Option<Arc<str>>,
    /// What made the operator look again.
    pub trigger: Trigger,
    /// The snapshot of the manifests.
    pub revision: Arc<str>,
    /// How it was.
    pub before: State,
    /// How it is.
    pub after: State,
    /// The call that was answered: `stop` or `start`; null for a decision alone.
    pub action: Option<Cow<'static, str>>,
    /// What came of it.
    pub answer: Option<Answer>,
}

/// How the keeping of the history is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether `--state-dir` asks for a file.
    pub persistent: bool,
    /// Whether the last write to it went well; true where there is none.
    pub writable: bool,
    /// Entries that did not reach it since the start.
    pub lost: u64,
}

/// What the writing thread is handed.
enum Message {
    Entry(Arc<Entry>),
    Stop(SyncSender<()>),
}

/// The way to the writing thread. Never blocks.
#[derive(Debug, Clone)]
pub struct Pen {
    inbox: SyncSender<Message>,
    directory: Arc<Path>,
}

impl Pen {
    /// Where it writes.
    pub fn directory(&self) -> Arc<Path> {
        self.directory.clone()
    }

    /// Hands an entry over; false where it is lost because too many wait.
    pub fn write(&self, entry: &Arc<Entry>) -> bool {
        match self.inbox.try_send(Message::Entry(entry.clone())) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Waits until what was handed over is written, but not for ever.
    pub fn close(&self) {
        let (done, wait) = sync_channel(1);
        // Where the queue is full the disk is stuck, and there is nothing to wait for.
        if self.inbox.try_send(Message::Stop(done)).is_ok()
            && wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout)
        {
            warn!("the history was not written to its end: the disk does not keep up");
        }
    }
}

/// Reads what the files below `directory` hold of the newest entries, oldest first, and starts the writing thread.
/// `tell` hears of every change of whether writing works, with the number of entries that were lost by it.
///
/// # Errors
/// If no thread can be started.
pub fn open(
    directory: PathBuf,
    largest: u64,
    tell: impl FnMut(bool, u64) + Send + 'static,
) -> io::Result<(Vec<Entry>, Pen)> {
    let (sender, inbox) = sync_channel(WAITING);
    let (loaded, entries) = sync_channel(1);
    let pen = Pen { inbox: sender, directory: directory.as_path().into() };
    let writer = Writer { directory, largest, file: None, size: 0, writable: true, tell };
    let from = pen.directory();
    thread::Builder::new().name("history".into()).spawn(move || {
        // By then the other end may have gone on without them.
        let _ = loaded.send(load(&from));
        writer.run(&inbox);
    })?;
    // The start waits for a disk that does not answer as little as the end does.
    let entries = entries.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        warn!(directory = %pen.directory.display(), "the disk does not answer; the operator starts without the history of earlier runs");
        Vec::new()
    });
    Ok((entries, pen))
}

/// The newest entries of the file, and of the one before it where those do not suffice.
fn load(directory: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for name in [FILE, OLD_FILE] {
        let path = directory.join(name);
        let mut older = match tail(&path) {
            Ok(older) => older,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                warn!(file = %path.display(), %error, "the history of earlier runs cannot be read");
                continue;
            }
        };
        older.append(&mut entries);
        entries = older;
        if entries.len() >= KEPT {
            break;
        }
    }
    entries.drain(..entries.len().saturating_sub(KEPT));
    entries
}

/// Opening a pipe waits for its other end, which may never come: the daemon would not start.
fn plain(path: &Path) -> io::Result<()> {
    let plain = fs::metadata(path)?.is_file();
    if plain { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file")) }
}

fn tail(path: &Path) -> io::Result<Vec<Entry>> {
    plain(path)?;
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let from = size.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    // What follows the last line break is empty, or a line that a crash tore.
    let torn = lines.pop().is_some_and(|rest| !rest.is_empty());
    if from > 0 && !lines.is_empty() {
        // Most likely the middle of a line.
        lines.remove(0);
    }
    let whole = lines.len();
    let entries: Vec<Entry> = lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let unreadable = whole - entries.len();
    if torn || unreadable > 0 {
        warn!(file = %path.display(), torn, unreadable, "lines of the history are not whole and were skipped");
    }
    Ok(entries)
}

/// The newest entries of one app in the files below `directory`, newest first: at most `most`, none newer than `until`.
/// Reads from the end and stops when it has enough; a block of the file is in memory at a time.
///
/// # Errors
/// If a file is there and cannot be read.
pub fn search(directory: &Path, app: &AppName, until: Timestamp, most: usize) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for name in [FILE, OLD_FILE] {
        match search_file(&directory.join(name), app, until, most, &mut found) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(found)
}

fn search_file(path: &Path, app: &AppName, until: Timestamp, most: usize, found: &mut Vec<Entry>) -> io::Result<()> {
    plain(path)?;
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    // A name has nothing in it that JSON escapes.
    let sign = format!("\"app\":\"{app}\"");
    let (mut block, mut rest) = (Vec::new(), Vec::new());
    while end > 0 && found.len() < most {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&mut file).take(end - start).read_to_end(&mut block)?;
        // The beginning of a line that the block after this one ends.
        block.append(&mut rest);
        let whole_from =
            if start == 0 { 0 } else { block.iter().position(|byte| *byte == b'\n').map_or(block.len(), |at| at + 1) };
        let lines = String::from_utf8_lossy(&block[whole_from..]);
        let entries = lines.lines().rev().filter(|line| line.contains(&sign));
        let entries = entries.filter_map(|line| serde_json::from_str::<Entry>(line).ok());
        let entries = entries.filter(|entry| entry.app.as_deref() == Some(app.as_str()) && entry.time <= until);
        found.extend(entries.take(most - found.len()));
        rest = block[..whole_from].to_vec();
        end = start;
    }
    Ok(())
}

/// Owns the file.
struct Writer<F> {
    directory: PathBuf,
    largest: u64,
    file: Option<File>,
    size: u64,
    writable: bool,
    tell: F,
}

impl<F: FnMut(bool, u64)> Writer<F> {
    fn run(mut self, inbox: &Receiver<Message>) {
        // At once, so that a directory that cannot be written is known before it matters.
        let opened = self.open();
        self.note(opened, 0);
        while let Ok(first) = inbox.recv() {
            let (mut lines, mut count, mut stop) = (Vec::new(), 0, None);
            // What waits already is written in one go.
            for message in std::iter::once(first).chain(inbox.try_iter().take(WAITING)) {
                match message {
                    Message::Entry(entry) => {
                        if serde_json::to_writer(&mut lines, &*entry).is_ok() {
                            lines.push(b'\n');
                            count += 1;
                        }
                    }
                    Message::Stop(done) => {
                        stop = Some(done);
                        break;
                    }
                }
            }
            // The end alone writes nothing, and so tells nothing of the disk.
            if count > 0 {
                let written = self.append(&lines);
                self.note(written, count);
            }
            if let Some(done) = stop {
                // Whoever asked may have given up.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Tells of a change from working to not working and back; one warning for a cause, not one for each entry.
    fn note(&mut self, result: io::Result<()>, count: u64) {
        match result {
            Ok(()) if self.writable => {}
            Ok(()) => {
                self.writable = true;
                info!(directory = %self.directory.display(), "the history is written again");
                (self.tell)(true, 0);
            }
            Err(error) => {
                // Opened anew for the next entry: the directory may be mounted by then.
                self.file = None;
                if self.writable {
                    warn!(directory = %self.directory.display(), %error, "the history cannot be written; it is kept in memory alone");
                }
                self.writable = false;
                (self.tell)(false, count);
            }
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // A file that somebody moved away (logrotate) is not to be written on unseen.
        if self.file.is_some() && !self.directory.join(FILE).exists() {
            self.file = None;
        }
        self.open()?;
        if self.size >= self.largest {
            self.file = None;
            fs::rename(self.directory.join(FILE), self.directory.join(OLD_FILE))?;
            self.open()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(lines)?;
        self.size += lines.len() as u64;
        file.sync_data()
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(FILE);
        if path.exists() {
            plain(&path)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        self.size = file.metadata()?.len();
        if self.size > 0 {
            // A torn last line ends here, so that it takes nothing else with it.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                self.size += 1;
            }
        }
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn entry(n: usize) -> Arc<Entry> {
        Arc::new(Entry {
            time: Timestamp::UNIX_EPOCH + Duration::from_secs(n as u64),
            app: Some(format!("app-{n}").into()),
            app_id: None,
            trigger: Trigger::Edit,
            revision: "r".into(),
            before: State::default(),
            after: State { reason: Some("Settled".into()), ..State::default() },
            action: Some("stop".into()),
            answer: Some(Answer {
                result: "Accepted".into(),
                http_status: Some(200),
                status: Some("active".into()),
                online: Some(true),
                error: None,
            }),
        })
    }

    fn write(directory: &Path, largest: u64, numbers: std::ops::Range<usize>) {
        let (_, pen) = open(directory.to_owned(), largest, |_, _| {}).unwrap();
        for n in numbers {
            assert!(pen.write(&entry(n)));
        }
        pen.close();
    }

    #[test]
    fn what_was_written_is_read_again_and_the_newest_thousand_kept() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), LARGEST, 0..10);
        assert_eq!(
            load(directory.path()).iter().collect::<Vec<_>>(),
            (0..10).map(entry).collect::<Vec<_>>().iter().map(|e| &**e).collect::<Vec<_>>()
        );
        write(directory.path(), LARGEST, 10..1_200);
        let entries = load(directory.path());
        assert_eq!(
            (entries.len(), entries[0].app.as_deref(), entries[999].app.as_deref()),
            (KEPT, Some("app-200"), Some("app-1199"))
        );
    }

    #[test]
    fn a_torn_last_line_costs_itself_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), LARGEST, 0..3);
        let file = directory.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        for cut in 1..whole.len() {
            fs::write(&file, &whole[..cut]).unwrap();
            let kept = whole[..cut].split(|byte| *byte == b'\n').count() - 1;
            assert_eq!(load(directory.path()).len(), kept, "cut at {cut}");
        }
        fs::write(&file, &whole[..whole.len() - 20]).unwrap();
        write(directory.path(), LARGEST, 3..5);
        let names: Vec<String> =
            load(directory.path()).iter().map(|entry| entry.app.as_deref().unwrap().to_owned()).collect();
        assert_eq!(names, ["app-0", "app-1", "app-3", "app-4"]);
    }

    #[test]
    fn a_full_file_is_put_aside_and_one_old_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..5 {
            write(directory.path(), 1_000, round * 5..round * 5 + 5);
        }
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 2);
        let entries = load(directory.path());
        assert_eq!(entries.last().unwrap().app.as_deref(), Some("app-24"));
        let size = |name| fs::metadata(directory.path().join(name)).unwrap().len();
        assert!(size(FILE) < 4_000 && size(OLD_FILE) < 4_000);
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_told_once_and_noticed_when_it_mends() {
        let directory = tempfile::tempdir().unwrap();
        // A file where the directory should be: this stops even root.
        let state = directory.path().join("state");
        fs::write(&state, "").unwrap();
        let (told, hear) = channel();
        let (entries, pen) =
            open(state.clone(), LARGEST, move |writable, lost| told.send((writable, lost)).unwrap()).unwrap();
        assert_eq!(entries, []);
        let deadline = Duration::from_secs(20);
        assert_eq!(hear.recv_timeout(deadline), Ok((false, 0)));
        pen.write(&entry(0));
        assert_eq!(hear.recv_timeout(deadline), Ok((false, 1)));
        fs::remove_file(&state).unwrap();
        pen.write(&entry(1));
        assert_eq!(hear.recv_timeout(deadline), Ok((true, 0)));
        pen.close();
        assert_eq!(load(&state).len(), 1);
    }

    /// Opening a pipe for reading waits for a writer: the daemon did not start, and said nothing.
    #[test]
    fn a_pipe_in_the_files_place_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(directory.path().join(FILE)).status().unwrap();
        assert!(made.success());
        let (told, hear) = channel();
        let path = directory.path().to_owned();
        thread::spawn(move || open(path, LARGEST, move |writable, _| told.send(writable).unwrap()).map(|_| ()));
        assert_eq!(hear.recv_timeout(Duration::from_secs(20)), Ok(false));
    }
}
