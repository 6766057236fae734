//! File-system events as signals for `source`.
//!
//! Only an accelerator: `source` scans anyway, so a lost event only costs time. It watches each tree, the directory of
//! every link in its path, and the directory above it, so that it detects a swapped or re-created tree.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::scan::{self, Outside, Root};

/// A message to the source.
#[derive(Debug)]
pub(super) enum Signal {
    /// A file was closed after writing.
    Closed(PathBuf),
    /// An entry was renamed to this path, from another path if that is watched.
    Renamed(PathBuf, Option<PathBuf>),
    /// A process writes to this file.
    Written(PathBuf),
    /// A new name: a file that will be written, or a link, which is never written.
    Created(PathBuf),
    /// An entry appeared, disappeared or changed its permissions here.
    Moved(PathBuf),
    /// Events or the watch were lost: only a scan and a new watch help.
    Lost(String),
    Rescan,
    Stop,
}

/// The cause why there is no watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unwatched {
    /// A directory was removed before it was watched: the tree is being replaced, and will exist again soon.
    Replaced,
    /// The kernel refused the watch, usually because of its limits.
    Refused(String),
}

impl Unwatched {
    fn of(error: &notify::Error) -> Self {
        let gone = match &error.kind {
            ErrorKind::PathNotFound | ErrorKind::WatchNotFound => true,
            ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
            ErrorKind::Generic(_) | ErrorKind::InvalidConfig(_) | ErrorKind::MaxFilesWatch => false,
        };
        if gone { Self::Replaced } else { Self::Refused(error.to_string()) }
    }
}

/// A running watch over a set of directories.
pub(super) struct Watch {
    _watcher: RecommendedWatcher,
    armed: Armed,
}

/// The watched directories: path, recursive flag, device and inode.
type Armed = BTreeSet<(PathBuf, bool, u64, u64)>;

impl Watch {
    /// Watches the present roots, and the targets of links `outside` of them.
    ///
    /// # Errors
    /// The cause why there is no watch. At the limits of the kernel, scans find the changes.
    pub(super) fn arm(
        roots: &[Root],
        outside: &Outside,
        listener: Arc<dyn Fn(Signal) + Send + Sync>,
    ) -> Result<Self, Unwatched> {
        let armed = wanted(roots, outside);
        // The kernel sends the two halves of a rename one after the other.
        let mut half = None;
        let forward = move |event: notify::Result<Event>| {
            for signal in signals_of(event, &mut half) {
                listener(signal);
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(forward, config).map_err(|error| Unwatched::of(&error))?;
        for (path, recursive, ..) in &armed {
            let mode = if *recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            watcher.watch(path, mode).map_err(|error| Unwatched::of(&error))?;
        }
        Ok(Self { _watcher: watcher, armed })
    }

    /// Returns whether `path` itself is watched, not only as a part of a tree.
    pub(super) fn watches(&self, path: &Path) -> bool {
        self.armed.iter().any(|(armed, ..)| armed == path)
    }

    /// Returns whether the watch is of the present tree.
    pub(super) fn is_current(&self, roots: &[Root], outside: &Outside) -> bool {
        self.armed == wanted(roots, outside)
    }
}

fn wanted(roots: &[Root], outside: &Outside) -> Armed {
    let Outside { mut trees, mut beside } = outside.clone();
    for root in roots {
        let mut links = BTreeMap::new();
        scan::links_on(&root.given, &mut links);
        beside.extend(links.keys().filter_map(|link| link.parent()).map(Path::to_owned));
        let given = std::path::absolute(&root.given).unwrap_or_else(|_| root.given.clone());
        if let Ok(real) = fs::canonicalize(&given) {
            beside.extend(real.parent().map(Path::to_owned));
            if real.is_dir() {
                trees.insert(real);
            }
        } else {
            // It may appear in the nearest existing directory.
            let existing = given.ancestors().skip(1).find_map(|above| fs::canonicalize(above).ok());
            beside.extend(existing);
        }
    }
    let inside = |path: &PathBuf| trees.iter().any(|tree| path.starts_with(tree));
    let beside: Vec<PathBuf> = beside.iter().filter(|path| !inside(path)).cloned().collect();
    let all = trees.iter().map(|path| (path, true)).chain(beside.iter().map(|path| (path, false)));
    all.filter_map(|(path, recursive)| {
        let metadata = fs::metadata(path).ok()?;
        Some((path.clone(), recursive, metadata.dev(), metadata.ino()))
    })
    .collect()
}

/// `half`: the first half of the newest rename, with its number.
fn signals_of(event: notify::Result<Event>, half: &mut Option<(usize, PathBuf)>) -> Vec<Signal> {
    let event = match event {
        Ok(event) => event,
        Err(error) => return vec![Signal::Lost(error.to_string())],
    };
    if event.need_rescan() {
        return vec![Signal::Lost("the kernel's queue of events overflowed".into())];
    }
    let make = match event.kind {
        // The reads of the operator cause these events.
        EventKind::Access(AccessKind::Open(_) | AccessKind::Read | AccessKind::Close(AccessMode::Read)) => {
            return Vec::new();
        }
        EventKind::Access(AccessKind::Close(_)) => Signal::Closed,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            let from = half.take().filter(|(number, _)| event.tracker() == Some(*number)).map(|(_, from)| from);
            return event.paths.into_iter().map(|path| Signal::Renamed(path, from.clone())).collect();
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            *half = event.tracker().zip(event.paths.first().cloned());
            Signal::Moved
        }
        // Its two halves are handled.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_)) => Signal::Written,
        EventKind::Create(_) => Signal::Created,
        EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {
            Signal::Moved
        }
    };
    event.paths.into_iter().map(make).collect()
}
