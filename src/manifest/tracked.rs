//! Record of the last read of each manifest file, to detect unchanged files in a listing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use super::scan::{KnownFiles, Print};

/// The last read of one file.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    /// Hash of the bytes, or of the message why they cannot be read.
    pub(super) hash: u64,
    /// Absent if the file could not be read.
    pub(super) print: Option<Print>,
    /// Whether an equal print proves equal bytes: false if the file was modified just before it was read.
    pub(super) trusted: bool,
    /// Absent if the file was never readable.
    pub(super) path: Option<Box<Path>>,
    /// Number of the last listing with the file.
    seen: u32,
}

/// Every file in the store.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: HashMap<Arc<str>, Tracked>,
    /// Number of the last listing.
    listing: u32,
    /// Sum of the hashes of all names and contents, which changes with each of them.
    revision: u64,
}

impl Files {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tracked> {
        self.known.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Tracked)> {
        self.known.iter()
    }

    /// The path of the last read of a file.
    pub(super) fn path(&self, name: &str) -> Option<&Path> {
        self.known.get(name)?.path.as_deref()
    }

    /// Returns whether the last listing showed a file.
    pub(super) fn is_seen(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| self.sees(known))
    }

    /// [`Files::is_seen`] for an item of [`Files::iter`].
    pub(super) fn sees(&self, known: &Tracked) -> bool {
        known.seen == self.listing
    }

    /// Records a file. Without a path, it could not be read, and keeps its path.
    pub(super) fn track(
        &mut self,
        name: &Arc<str>,
        path: Option<&Path>,
        hash: u64,
        print: Option<Print>,
        trusted: bool,
    ) {
        let before = self.forget(name);
        // The file was listed before it was tracked.
        let seen = before.as_ref().map_or(self.listing, |before| before.seen);
        let path = path.map(Into::into).or_else(|| before?.path);
        self.revision = self.revision.wrapping_add(mark(name, hash));
        self.known.insert(name.clone(), Tracked { hash, print, trusted, path, seen });
    }

    pub(super) fn forget(&mut self, name: &str) -> Option<Tracked> {
        let before = self.known.remove(name)?;
        self.revision = self.revision.wrapping_sub(mark(name, before.hash));
        Some(before)
    }
}

/// The files with unchanged metadata that a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Again {
    #[default]
    None,
    /// The share with this index, and the number of shares.
    Share(u64, u64),
    All,
}

impl Again {
    pub(super) fn concerns(self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Share(n, of) => mark(name, 0) % of.max(1) == n,
            Self::All => true,
        }
    }
}

/// Compares a listing with the tracked files.
pub(super) struct Compare<'a, F> {
    pub(super) files: &'a mut Files,
    pub(super) again: Again,
    /// Returns whether a file has a text that is not accepted yet.
    pub(super) pending: F,
}

impl<F: Fn(&str) -> bool> KnownFiles for Compare<'_, F> {
    fn begin(&mut self) {
        self.files.listing = self.files.listing.wrapping_add(1);
    }

    fn is_same(&mut self, name: &str, path: &Path, print: &Print) -> bool {
        let Some(known) = self.files.known.get_mut(name) else { return false };
        known.seen = self.files.listing;
        known.trusted
            && known.print == Some(*print)
            // Compares bytes: parsing the parts of every path is slower.
            && known.path.as_ref().is_some_and(|known| known.as_os_str() == path.as_os_str())
            && !self.again.concerns(name)
            && !(self.pending)(name)
    }
}

fn mark(file: &str, content: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (file, content).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_stays_where_it_was() {
        let mut files = Files::default();
        let name = Arc::from("a.yaml");
        files.track(&name, None, 1, None, false);
        assert_eq!(files.path("a.yaml"), None);
        files.track(&name, Some(Path::new("/m/a.yaml")), 2, None, false);
        files.track(&name, None, 3, None, false);
        assert_eq!(files.path("a.yaml"), Some(Path::new("/m/a.yaml")));
    }

    #[test]
    fn the_revision_depends_on_the_files_alone() {
        let mut files = Files::default();
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        files.track(&a, None, 1, None, false);
        let one = files.revision();
        files.track(&b, None, 1, None, false);
        files.track(&a, None, 2, None, false);
        assert_ne!(files.revision(), one);
        files.track(&a, None, 1, None, false);
        files.forget("b");
        assert_eq!(files.revision(), one);
        files.forget("a");
        assert_eq!(files.revision(), 0);
    }

    #[test]
    fn each_file_is_in_one_share() {
        for name in ["a.yaml", "b.yaml", "team/c.yaml"] {
            assert_eq!((0..60).filter(|n| Again::Share(*n, 60).concerns(name)).count(), 1);
        }
    }
}
