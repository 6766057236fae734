//! What is known of each manifest file since it was last read, and is a file that a listing shows still the same?
//!
//! Ten thousand files are asked for at each scan and kept for as long as they exist: an entry is small, and a listing
//! that shows what is known allocates nothing. Where a file lies is kept as the tree it was found in.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scan::{Known, Print};

/// Trees that are remembered before it is looked which of them are still in use.
const MOST_TREES: usize = 64;

/// What is in the catalog of one file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tracked {
    /// Hash of the bytes, or of what keeps them from being read.
    pub(super) hash: u64,
    /// The print of the file as it was read; absent where it could not be.
    pub(super) print: Option<Print>,
    /// Whether the bytes need not be read again for as long as the print is this: not so where the file was modified
    /// too shortly before.
    pub(super) trusted: bool,
    /// Index of the tree it lies in.
    tree: u16,
    /// Number of the listing that showed it last.
    seen: u32,
}

/// Where files lie whose names are like their paths, from some slash on: all below one root, as a rule.
#[derive(Debug, PartialEq, Eq)]
struct Tree {
    /// What the paths begin with.
    above: PathBuf,
    /// How much of the names the paths do not have.
    prefix: usize,
}

impl Tree {
    /// The tree of a file with this name and path, by what the two have in common at their ends.
    fn of(name: &str, path: &Path) -> Self {
        // Whole parts only: what is above them is a path again.
        let common = Path::new(name).iter().rev().zip(path.iter().rev()).take_while(|(a, b)| a == b).count();
        let below = |parts| {
            let above = path.ancestors().nth(parts)?;
            let length = path.strip_prefix(above).ok()?.as_os_str().len();
            let tree = Self { above: above.to_owned(), prefix: name.len().checked_sub(length)? };
            tree.is_at(name, path).then_some(tree)
        };
        // Fewer, where the name has slashes that the path has not.
        let tree = (1..=common).rev().find_map(below);
        tree.unwrap_or_else(|| Self { above: path.to_owned(), prefix: name.len() })
    }

    fn path(&self, name: &str) -> PathBuf {
        match name.get(self.prefix..) {
            // `join` would end it in a slash.
            None | Some("") => self.above.clone(),
            Some(below) => self.above.join(below),
        }
    }

    /// Whether `path` is that of the file called `name` here. Compares bytes, as this is asked for each file.
    fn is_at(&self, name: &str, path: &Path) -> bool {
        let (above, path) = (self.above.as_os_str().as_encoded_bytes(), path.as_os_str().as_encoded_bytes());
        let Some(rest) = path.strip_prefix(above) else { return false };
        match name.as_bytes().get(self.prefix..) {
            None | Some(b"") => rest.is_empty(),
            Some(below) if above.is_empty() || above.ends_with(b"/") => rest == below,
            Some(below) => rest.strip_prefix(b"/") == Some(below),
        }
    }
}

/// Every file that is known.
#[derive(Debug, Default)]
pub(super) struct Files {
    known: HashMap<Arc<str>, Tracked>,
    trees: Vec<Tree>,
    /// Number of the last listing.
    listing: u32,
    /// Sum of the hashes of all names and contents: changes when any of them does.
    revision: u64,
}

impl Files {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Makes room for as many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.known.reserve(more);
    }

    pub(super) fn get(&self, name: &str) -> Option<&Tracked> {
        self.known.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Tracked)> {
        self.known.iter()
    }

    /// Where a file was when it was read.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path_of(name, self.known.get(name)?))
    }

    /// The same, for what [`Files::iter`] shows.
    pub(super) fn path_of(&self, name: &str, known: &Tracked) -> PathBuf {
        self.trees.get(usize::from(known.tree)).map_or_else(PathBuf::new, |tree| tree.path(name))
    }

    /// Whether a file was read at this path.
    pub(super) fn is_at(&self, name: &str, path: &Path) -> bool {
        let tree = self.known.get(name).and_then(|known| self.trees.get(usize::from(known.tree)));
        tree.is_some_and(|tree| tree.is_at(name, path))
    }

    /// Whether the last listing showed a file.
    pub(super) fn is_seen(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| self.sees(known))
    }

    /// The same, for what [`Files::iter`] shows.
    pub(super) fn sees(&self, known: &Tracked) -> bool {
        known.seen == self.listing
    }

    /// Notes what is known of a file now. Without a print it could not be read, and is where it was.
    pub(super) fn track(
        &mut self,
        name: &Arc<str>,
        path: Option<&Path>,
        hash: u64,
        print: Option<Print>,
        trusted: bool,
    ) {
        let before = self.known.get(&**name).copied();
        let tree = match (path, &before) {
            (Some(path), _) => self.tree_of(name, path),
            (None, Some(before)) => before.tree,
            (None, None) => u16::MAX,
        };
        // Where it was listed before it was known, it is there all the same.
        let seen = before.map_or(self.listing, |before| before.seen);
        self.revision = self.revision.wrapping_add(mark(name, hash));
        if let Some(before) = before {
            self.revision = self.revision.wrapping_sub(mark(name, before.hash));
        }
        self.known.insert(name.clone(), Tracked { hash, print, trusted, tree, seen });
    }

    /// Forgets a file.
    pub(super) fn forget(&mut self, name: &str) -> Option<Tracked> {
        let before = self.known.remove(name)?;
        self.revision = self.revision.wrapping_sub(mark(name, before.hash));
        Some(before)
    }

    fn tree_of(&mut self, name: &str, path: &Path) -> u16 {
        let here = |trees: &[Tree]| trees.iter().rposition(|tree| tree.is_at(name, path));
        let at = here(&self.trees).unwrap_or_else(|| {
            // If they are all in use, not again before there are twice as many.
            if self.trees.len() >= MOST_TREES && self.trees.len().is_power_of_two() {
                self.forget_trees();
            }
            self.trees.push(Tree::of(name, path));
            self.trees.len() - 1
        });
        // That many single files can only be given by name; what lies beyond is read again at each look.
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// Each commit that git-sync publishes is a tree of its own: those in which nothing is known any more go.
    fn forget_trees(&mut self) {
        let used: HashSet<u16> = self.known.values().map(|known| known.tree).collect();
        let mut moved = HashMap::new();
        let mut kept = Vec::new();
        for (at, tree) in std::mem::take(&mut self.trees).into_iter().enumerate() {
            if let (Ok(at), Ok(now)) = (u16::try_from(at), u16::try_from(kept.len()))
                && used.contains(&at)
            {
                moved.insert(at, now);
                kept.push(tree);
            }
        }
        self.trees = kept;
        for known in self.known.values_mut() {
            known.tree = moved.get(&known.tree).copied().unwrap_or(u16::MAX);
        }
    }
}

/// Which files a scan reads though nothing about them has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Again {
    /// None.
    #[default]
    None,
    /// The `n`th of so many shares.
    Share(u64, u64),
    /// All.
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

/// The files, as a listing compares them with what it sees.
pub(super) struct Compare<'a, F> {
    pub(super) files: &'a mut Files,
    /// Which are to be read again.
    pub(super) again: Again,
    /// Which are not settled.
    pub(super) open: F,
}

impl<F: Fn(&str) -> bool> Known for Compare<'_, F> {
    fn begin(&mut self) {
        self.files.listing = self.files.listing.wrapping_add(1);
    }

    fn is_same(&mut self, name: &str, path: &Path, print: &Print) -> bool {
        let Some(known) = self.files.known.get_mut(name) else { return false };
        known.seen = self.files.listing;
        known.trusted
            && known.print == Some(*print)
            && self.files.trees.get(usize::from(known.tree)).is_some_and(|tree| tree.is_at(name, path))
            && !self.again.concerns(name)
            && !(self.open)(name)
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

    #[track_caller]
    fn tree(name: &str, path: &str, above: &str, prefix: usize) {
        let path = Path::new(path);
        let tree = Tree::of(name, path);
        assert_eq!(tree, Tree { above: above.into(), prefix });
        assert!(tree.is_at(name, path));
        assert_eq!(tree.path(name), path);
    }

    #[test]
    fn a_path_is_made_again_from_tree_and_name() {
        tree("a.yaml", "/m/a.yaml", "/m", 0);
        tree("a.yaml", "/a.yaml", "/", 0);
        tree("team/a.yaml", "/m/team/a.yaml", "/m", 0);
        tree("one/team/a.yaml", "/m/one/team/a.yaml", "/m", 0);
        tree("./one/a.yaml", "/real/a.yaml", "/real", 6);
        tree("/one/a.yaml", "/real/a.yaml", "/real", 5);
        tree("/m/a.yaml", "/m/a.yaml", "/", 1);
        tree("./a.yaml", "./a.yaml", "", 0);
        tree("m//a.yaml", "/r/m/a.yaml", "/r/m", 3);
        tree("a.yaml", "a.yaml", "", 0);
        tree("given.yaml", "/m/other.yaml", "/m/other.yaml", 10);
    }

    #[test]
    fn a_name_elsewhere_is_not_there() {
        let m = Tree::of("a.yaml", Path::new("/m/a.yaml"));
        for path in ["/m/b.yaml", "/ma.yaml", "/mm/a.yaml", "/m/x/a.yaml", "/m/a.yaml.x", "/n/a.yaml", "/m"] {
            assert!(!m.is_at("a.yaml", Path::new(path)), "{path}");
        }
        assert!(m.is_at("x/b.yaml", Path::new("/m/x/b.yaml")));
    }

    #[test]
    fn trees_that_are_no_more_are_forgotten() {
        let mut files = Files::default();
        let name = |at: usize| Arc::<str>::from(format!("{}.yaml", at % 3));
        for at in 0..MOST_TREES * 3 {
            let path = PathBuf::from(format!("/trees/{at}/{}", name(at)));
            files.track(&name(at), Some(&path), 1, None, true);
            assert_eq!(files.path(&name(at)), Some(path));
        }
        assert!(files.trees.len() <= MOST_TREES);
        let last = MOST_TREES * 3 - 2;
        assert_eq!(files.path(&name(last)), Some(PathBuf::from(format!("/trees/{last}/{}", name(last)))));
    }

    #[test]
    fn the_revision_is_that_of_what_is_known() {
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
