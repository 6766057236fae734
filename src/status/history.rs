//! Append-only history of decisions and calls: the newest 1,000 entries in memory, and with `--state-dir` every entry
//! as a line of `history.jsonl`. Older entries of one app are searched in the file on request.
//!
//! A separate thread writes the file: a slow or full disk loses entries of the file, and never delays an app. A crash
//! may leave half a last line, which is skipped and reported when the file is read again.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
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

/// Entries in memory.
pub const KEPT: usize = 1_000;
/// Size at which the file is rotated; one old file is kept.
pub const LARGEST: u64 = 64 * 1024 * 1024;
/// Entries that wait for a slow disk; the file loses further ones. Enough for one cause that affects tens of thousands
/// of apps at once; about 15 MB if the disk is blocked.
const WAITING: usize = 32_768;
/// Bytes at the end of a file that are read for the newest entries; an entry has about 500 bytes.
const TAIL: u64 = 4 * 1024 * 1024;
/// Bytes of a file that are searched at a time.
const BLOCK: u64 = 1024 * 1024;
/// Longest wait for the disk at the start and at the end of the process.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

pub const FILE: &str = "history.jsonl";
pub const OLD_FILE: &str = "history.jsonl.1";

/// Cause of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trigger {
    /// Time passed: a backoff ended, a call had no effect in time, a gate opened or closed.
    Timer,
    Observation,
    Answer,
    Edit,
    Start,
    /// The desired state changed with the time: a window of a schedule, the end of a suspension.
    Transition,
    /// A reading shows a change from outside.
    Drift,
}

impl Trigger {
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

/// State of an app before or after an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// `Running` or `Stopped`; null if unknown.
    pub desired: Option<Cow<'static, str>>,
    /// Null before the first reading.
    pub observed: Option<Cow<'static, str>>,
    /// Null before the first decision.
    pub reason: Option<Cow<'static, str>>,
}

/// Result of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// `Accepted`, or the verdict on the failure.
    pub result: Cow<'static, str>,
    pub http_status: Option<u16>,
    /// `status` of the server's answer.
    pub status: Option<Arc<str>>,
    /// `currentResourceMetrics.online` of the server's answer.
    pub online: Option<bool>,
    pub error: Option<Arc<str>>,
}

/// One decision whose reason changed, or one call that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub time: Timestamp,
    /// Null for an entry about the whole account.
    pub app: Option<Arc<str>>,
    pub app_id: Option<Arc<str>>,
    pub trigger: Trigger,
    pub revision: Arc<str>,
    pub before: State,
    pub after: State,
    /// The answered call; null for a decision without one.
    pub action: Option<Cow<'static, str>>,
    pub answer: Option<Answer>,
}

/// State of the history's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether there is a `--state-dir`.
    pub persistent: bool,
    /// Whether the last write succeeded; true without a file.
    pub writable: bool,
    /// Entries that the file lost since the start.
    pub lost: u64,
}

enum Message {
    Entry(Arc<Entry>),
    Stop(SyncSender<()>),
}

/// Handle of the writing thread. Sending never blocks.
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: SyncSender<Message>,
    directory: Arc<Path>,
}

impl Handle {
    pub fn directory(&self) -> Arc<Path> {
        self.directory.clone()
    }

    /// Sends an entry to the thread; false if the entry is lost because the queue is full.
    pub fn write(&self, entry: &Arc<Entry>) -> bool {
        match self.inbox.try_send(Message::Entry(entry.clone())) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Waits for a limited time until all entries are written.
    pub fn close(&self) {
        let (done, wait) = sync_channel(1);
        // If the queue is full, the disk is blocked, and a wait does not help.
        if self.inbox.try_send(Message::Stop(done)).is_ok()
            && wait.recv_timeout(DISK_TIMEOUT) == Err(RecvTimeoutError::Timeout)
        {
            warn!("the last entries of the history were not written: the disk is too slow");
        }
    }
}

/// Reads the newest entries below `directory`, oldest first, and starts the writing thread. The thread calls `report`
/// with the success of a write and the number of entries that it lost.
pub fn open(
    directory: PathBuf,
    largest: u64,
    report: impl FnMut(bool, u64) + Send + 'static,
) -> io::Result<(Vec<Entry>, Handle)> {
    let (sender, inbox) = sync_channel(WAITING);
    let (loaded, entries) = sync_channel(1);
    let handle = Handle { inbox: sender, directory: directory.as_path().into() };
    let writer = Writer { directory, largest, file: None, size: 0, writable: true, report };
    let from = handle.directory();
    thread::Builder::new().name("history".into()).spawn(move || {
        // The start may have stopped waiting.
        let _ = loaded.send(load(&from));
        writer.run(&inbox);
    })?;
    let entries = entries.recv_timeout(DISK_TIMEOUT).unwrap_or_else(|_| {
        warn!(directory = %handle.directory.display(), "the disk does not answer; the operator starts without the history of earlier runs");
        Vec::new()
    });
    Ok((entries, handle))
}

/// The newest entries of the file, and of the older file if there are too few.
fn load(directory: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for name in [FILE, OLD_FILE] {
        let path = directory.join(name);
        let mut older = match tail(&path) {
            Ok(older) => older,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                warn!(file = %path.display(), %error, "could not read the history of earlier runs");
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

/// Refuses a pipe, because opening it can block.
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
    // The rest after the last line break is empty, or half a line after a crash.
    let torn = lines.pop().is_some_and(|rest| !rest.is_empty());
    if from > 0 && !lines.is_empty() {
        // Usually half a line.
        lines.remove(0);
    }
    let complete = lines.len();
    let entries: Vec<Entry> = lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let unreadable = complete - entries.len();
    if torn || unreadable > 0 {
        warn!(file = %path.display(), torn, unreadable, "skipped incomplete lines of the history");
    }
    Ok(entries)
}

/// The newest entries of one app in the files below `directory`, newest first: at most `most`, none newer than `until`.
/// Reads from the end, one block at a time, and stops when it has enough.
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
    // Names need no JSON escapes.
    let sign = format!("\"app\":\"{app}\"");
    let (mut block, mut rest) = (Vec::new(), Vec::new());
    while end > 0 && found.len() < most {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        (&mut file).take(end - start).read_to_end(&mut block)?;
        // The first bytes of the later block, which complete the last line of this one.
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

/// Passes each entry of the files below `directory` that is not older than `since` to `take`, oldest first. Returns the
/// time of the oldest entry that the files have.
pub fn read_since(directory: &Path, since: Timestamp, mut take: impl FnMut(Entry)) -> io::Result<Option<Timestamp>> {
    // An entry begins with its time, which sorts as text, apart from the parts of a second.
    let until_seconds = "{\"time\":\"2026-11-24T12:00:00".len();
    let first = format!("{{\"time\":\"{since:.0}");
    let mut oldest = None;
    for name in [OLD_FILE, FILE] {
        let path = directory.join(name);
        let file = match plain(&path).and_then(|()| File::open(&path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            let is_recent = line.get(..until_seconds).zip(first.as_bytes().get(..until_seconds));
            let is_recent = is_recent.is_some_and(|(time, first)| time >= first);
            if oldest.is_some() && !is_recent {
                continue;
            }
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
            oldest.get_or_insert(entry.time);
            if entry.time >= since {
                take(entry);
            }
        }
    }
    Ok(oldest)
}

/// Owner of the file.
struct Writer<F> {
    directory: PathBuf,
    largest: u64,
    file: Option<File>,
    size: u64,
    writable: bool,
    report: F,
}

impl<F: FnMut(bool, u64)> Writer<F> {
    fn run(mut self, inbox: &Receiver<Message>) {
        // At once, so that an unwritable directory is reported before the first entry.
        let opened = self.open();
        self.note(opened, 0);
        while let Ok(first) = inbox.recv() {
            let (mut lines, mut count, mut stop) = (Vec::new(), 0, None);
            // All waiting entries in one write.
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
            // Without an entry there was no write to report.
            if count > 0 {
                let written = self.append(&lines);
                self.note(written, count);
            }
            if let Some(done) = stop {
                // `close` may have stopped waiting.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Reports the result of a write. The log has one line when writing begins to fail, and one when it works again.
    fn note(&mut self, result: io::Result<()>, count: u64) {
        match result {
            Ok(()) if self.writable => {}
            Ok(()) => {
                self.writable = true;
                info!(directory = %self.directory.display(), "the history is written again");
                (self.report)(true, 0);
            }
            Err(error) => {
                // The next entry opens it again: the directory may be mounted by then.
                self.file = None;
                if self.writable {
                    warn!(directory = %self.directory.display(), %error, "could not write the history; the next entry is the next try, and the newest entries stay in memory");
                }
                self.writable = false;
                (self.report)(false, count);
            }
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // After a rotation from outside (logrotate), write a new file.
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
            // End an incomplete last line, so that it does not spoil the next one.
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
        let (_, handle) = open(directory.to_owned(), largest, |_, _| {}).unwrap();
        for n in numbers {
            assert!(handle.write(&entry(n)));
        }
        handle.close();
    }

    #[test]
    fn written_entries_are_read_again_and_the_newest_thousand_kept() {
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
    fn the_entries_since_a_moment_are_read_from_both_files() {
        let directory = tempfile::tempdir().unwrap();
        for batch in 0..2 {
            write(directory.path(), 1_000, batch * 5..batch * 5 + 5);
        }
        let since = |since: Timestamp| {
            let mut apps = Vec::new();
            let oldest = read_since(directory.path(), since, |entry| apps.push(entry.app.unwrap())).unwrap();
            (oldest.unwrap(), apps)
        };
        let all = since(Timestamp::UNIX_EPOCH).1;
        assert!(all.len() > 5, "both files have some: {all:?}");
        let (oldest, some) = since(entry(7).time);
        assert_eq!((some.first().map(|app| &**app), some.len()), (Some("app-7"), 3));
        assert!(oldest <= entry(5).time, "the files have more");
        assert_eq!(read_since(&directory.path().join("none"), oldest, |_| {}).unwrap(), None);
    }

    #[test]
    fn an_incomplete_last_line_costs_only_itself() {
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
    fn a_full_file_is_rotated_and_one_old_file_kept() {
        let directory = tempfile::tempdir().unwrap();
        for batch in 0..5 {
            write(directory.path(), 1_000, batch * 5..batch * 5 + 5);
        }
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 2);
        let entries = load(directory.path());
        assert_eq!(entries.last().unwrap().app.as_deref(), Some("app-24"));
        let size = |name| fs::metadata(directory.path().join(name)).unwrap().len();
        assert!(size(FILE) < 4_000 && size(OLD_FILE) < 4_000);
    }

    #[test]
    fn an_unwritable_disk_is_reported_and_so_is_its_recovery() {
        let directory = tempfile::tempdir().unwrap();
        // A file where the directory should be: this stops even root.
        let state = directory.path().join("state");
        fs::write(&state, "").unwrap();
        let (reports, reported) = channel();
        let (entries, handle) =
            open(state.clone(), LARGEST, move |writable, lost| reports.send((writable, lost)).unwrap()).unwrap();
        assert_eq!(entries, []);
        let deadline = Duration::from_secs(20);
        assert_eq!(reported.recv_timeout(deadline), Ok((false, 0)));
        handle.write(&entry(0));
        assert_eq!(reported.recv_timeout(deadline), Ok((false, 1)));
        fs::remove_file(&state).unwrap();
        handle.write(&entry(1));
        assert_eq!(reported.recv_timeout(deadline), Ok((true, 0)));
        handle.close();
        assert_eq!(load(&state).len(), 1);
    }

    /// Opening a pipe for reading waits for a writer: the daemon did not start, and reported nothing.
    #[test]
    fn a_pipe_in_place_of_the_file_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(directory.path().join(FILE)).status().unwrap();
        assert!(made.success());
        let (reports, reported) = channel();
        let path = directory.path().to_owned();
        thread::spawn(move || open(path, LARGEST, move |writable, _| reports.send(writable).unwrap()).map(|_| ()));
        assert_eq!(reported.recv_timeout(Duration::from_secs(20)), Ok(false));
    }
}
